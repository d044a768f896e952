"""Walks of unequal length, which end in NaN: each is analysed within its own length."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import placeformer as pf
from placeformer.data.walk_lengths import walk_lengths
from placeformer.evaluation import simulation
from placeformer.spatial.place_shuffles import CircularShifts
from placeformer.spatial.shuffle_test import VARIANCE

LENGTHS = np.array([300, 180, 241, 97])
QUIET = {"progress": False}


def filled(seed=0, n_units=4, dtype=np.float64, **maps):
    """Walks of which all samples are there: unit 0 has a field, the others are noise."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.integers(-1, 2, (2, 4, 300)), axis=2) % 10
    y, x = np.minimum(steps, 9 - steps)
    seen = rng.integers(0, 3, (5, 5))[y, x].astype(float)
    activation = rng.standard_normal((4, 300, n_units))
    activation[..., 0] += 4 * simulation.bump((2, 2), side=5)[y, x]
    return simulation.recording(
        activation.astype(dtype), x.astype(float), y.astype(float), observation=seen, **maps
    )


def padded(recording, lengths=LENGTHS):
    """The recording with NaN after the end of every walk."""
    there = xr.DataArray(np.arange(300) < lengths[:, None], dims=("walk", "time"))
    named = {k: recording[k].where(there).variable for k in ("x", "y", "observation")}
    return recording.assign(activation=recording.activation.where(there)).assign_coords(named)


def joined(recording, lengths=LENGTHS):
    """All walks up to their ends, behind one another as one walk."""
    there = np.arange(300) < lengths[:, None]
    named = {k: recording[k].values[there][None] for k in ("x", "y", "observation")}
    return simulation.recording(recording.activation.values[there][None], **named)


@pytest.fixture(scope="module")
def whole():
    return filled()


@pytest.fixture(scope="module")
def ragged(whole):
    return padded(whole)


def test_length_of_a_walk_is_that_of_its_activations(whole, ragged):
    assert (walk_lengths(whole) == 300).all()
    assert (walk_lengths(ragged) == LENGTHS).all()
    gap = ragged.copy(deep=True)
    gap.activation[1, 50:60] = np.nan
    gap.activation[2, 240, 1:] = np.nan  # one unit fires
    assert (walk_lengths(gap.chunk(walk=1, time=70)) == LENGTHS).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spatial_information", {"negatives": "shift"}),
        ("coherence", {"smooth": 1}),
        (VARIANCE, {}),
        (VARIANCE, {"given": "observation"}),
        ("mutual_information", {}),
    ],
)
def test_places_are_shifted_within_each_walk(name, options, whole, ragged):
    got = pf.shuffle_test(ragged, name, n_shuffles=6, seed=5, keep_null=True, **options, **QUIET)
    shifts = CircularShifts(LENGTHS, 300, None)
    assert (shifts.least == LENGTHS // 10).all()
    rng = np.random.default_rng(5)
    draws = shifts.draw(6, rng)
    statistic = getattr(pf, name)
    of_maps = {k: options[k] for k in ("smooth",) if k in options}
    rest = {k: v for k, v in options.items() if k not in of_maps}
    if name == "mutual_information":
        rest["correction"] = "none"
    null = []
    for amounts in draws:
        moved = ragged.copy(deep=True)
        for walk, (length, amount) in enumerate(zip(LENGTHS, amounts, strict=True)):
            for axis in ("x", "y", "observation"):
                moved[axis].values[walk, :length] = np.roll(
                    ragged[axis].values[walk, :length], amount
                )
        if "given" in options:  # the means over the given values are taken out before the shift
            moved = without_means(moved, ragged)
        data = moved if name in (VARIANCE, "mutual_information") else pf.rate_maps(moved, **of_maps)
        null.append(statistic(data, **rest).values)
    np.testing.assert_allclose(got.null, null, rtol=1e-4, atol=1e-6)
    assert np.unique(np.float32(null), axis=0).shape == (6, 4)


def test_p_of_untuned_units_is_uniform():
    many = padded(filled(2, 200)).isel(unit=slice(1, None))
    p = pf.shuffle_test(many, VARIANCE, n_shuffles=39, **QUIET).p.values
    assert stats.kstest(p, "uniform").statistic < 0.15


def without_means(moved, recording):
    letter, left = recording.observation.values, moved.activation.values.copy()
    for value in range(3):
        left[letter == value] -= left[letter == value].mean(axis=0)
    return moved.assign(activation=moved.activation.copy(data=left))


def test_places_of_a_letter_are_permuted_as_in_the_joined_recording(whole, ragged):
    options = {"null": "within_observation", "n_shuffles": 20, **QUIET}
    got, want = (pf.shuffle_test(r, "coherence", **options) for r in (ragged, joined(whole)))
    for name in ("observed", "null_mean", "p"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"block": 50}, {"smooth": 1.0}])
def test_halves_are_those_of_the_joined_recording(options, whole, ragged):
    got, want = (pf.half_maps(r, **options) for r in (ragged, joined(whole)))
    np.testing.assert_array_equal(got.occupancy, want.occupancy)
    np.testing.assert_allclose(got.rate, want.rate)


def test_first_and_second_half_are_those_of_every_walk(whole, ragged):
    got = pf.half_maps(ragged, halves="first_second")
    middle = (LENGTHS[:, None] + 1) // 2
    first = np.arange(300) < middle
    second = ~first & (np.arange(300) < LENGTHS[:, None])
    assert list(got.occupancy.sum(("y", "x"))) == [first.sum(), second.sum()]


def test_mutual_information_place_cells_and_decoding(whole, ragged):
    bits, plain = (pf.mutual_information(ragged, correction=c) for c in ("shuffle", "none"))
    assert bits[0] > 0.3
    assert (np.abs(bits[1:]) < 0.05).all()
    np.testing.assert_allclose(
        plain, pf.mutual_information(joined(whole), correction="none"), rtol=1e-6
    )
    with pytest.warns(UserWarning, match="shuffle"):  # few shuffles
        table = pf.place_cells(ragged, n_shuffles=39, **QUIET)
    assert table.p_place[0] == 1 / 40
    assert table.stability[0] > 0.9
    decoded = pf.decode_position(ragged, method="bayes", n_resamples=5, **QUIET)
    assert decoded.n == LENGTHS.sum()
    blocks = pf.decode_position(ragged, method="bayes", blocks=3, gap=0, n_resamples=5, **QUIET)
    assert (blocks.fold_n > 0).all()


@pytest.mark.parametrize("n_units", [4, 1300])
def test_rows_of_the_population_are_the_steps_of_the_walks(n_units):
    whole = filled(1, n_units)
    ragged, one = padded(whole), joined(whole)
    got, want = (pf.dimensionality(r) for r in (ragged, one))
    assert got.n_rows == LENGTHS.sum()
    np.testing.assert_allclose(got.participation_ratio, want.participation_ratio)
    others = [r.isel(unit=slice(3)) + 0.1 for r in (ragged, one)]
    got, want = (
        pf.similarity(
            r,
            o.assign_coords({k: r[k] for k in ("x", "y", "observation")}),
            debiased=False,
            n_shuffles=0,
        )
        for r, o in zip((ragged, one), others, strict=True)
    )
    np.testing.assert_allclose(got.similarity, want.similarity)
    assert got.n_rows == LENGTHS.sum()
    null = pf.similarity(ragged, padded(filled(1, 3)), debiased=False, n_shuffles=30, **QUIET)
    assert (null.null_mean < null.similarity) == (n_units == 4)  # 1,300 units: CKA near its bias
    np.testing.assert_allclose(null.null_mean, null.similarity, rtol=0.2 if n_units > 4 else 2)


def test_dask_gives_the_same(ragged):
    lazy = ragged.chunk(walk=2, time=80)
    for function in (
        lambda r: pf.shuffle_test(r, VARIANCE, n_shuffles=5, **QUIET),
        lambda r: pf.shuffle_test(r, "coherence", n_shuffles=5, smooth=1, **QUIET),
        pf.mutual_information,
        pf.half_maps,
        pf.dimensionality,
        lambda r: pf.similarity(r, r, n_shuffles=5, **QUIET),
    ):
        xr.testing.assert_allclose(function(lazy), function(ragged), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_shifted_is_refused_and_join_named(ragged):
    gap = ragged.copy(deep=True)
    gap.activation[0, 20:30] = np.nan
    gap.x[0, 20:30] = np.nan
    for function in (pf.shuffle_test, pf.mutual_information):
        with pytest.raises(ValueError, match="join=True"):
            function(gap)
    with pytest.raises(ValueError, match=r"walk of 97 steps.* got 60 for walk 3.*join=True"):
        pf.shuffle_test(ragged, min_shift=60, n_shuffles=3)
    for function in (pf.dimensionality, lambda r: pf.similarity(r, r)):
        with pytest.raises(ValueError, match="must be finite: 40 values of 4 units"):
            function(gap)


@pytest.mark.parametrize("halves", ["odd_even", "first_second", "walks"])
def test_walks_of_one_length_are_halved_alike_with_and_without_padding(whole, halves):
    short = whole.isel(time=slice(0, 180))
    same = padded(whole, np.full(4, 180))
    a, b = (pf.stability(r, halves=halves) for r in (short, same))
    xr.testing.assert_allclose(a, b)
