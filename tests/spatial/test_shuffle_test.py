import json
from functools import partial

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.spatial import null_distributions as nulls
from placeformer.spatial import place_shuffles
from placeformer.spatial.binned_sums import ALL
from placeformer.spatial.measures import coherence, spatial_information
from placeformer.spatial.mutual_information import mutual_information
from placeformer.spatial.place_cell_score import place_cell_score
from placeformer.spatial.place_shuffles import CircularShifts, ShiftedBins, WalkExchange
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.shuffle_test import OF_MAPS, VARIANCE, shuffle_test
from placeformer.spatial.variance_explained import position_variance_explained

RNG = np.random.default_rng
plain_information = partial(mutual_information, correction="none")


def shifted(index, amounts):
    """Values (shuffle, walk, time) of walks rolled in time."""
    return ShiftedBins(index, amounts, 0)[..., ALL, ALL]


def amounts(shape, n, low, rng):
    """Shifts (shuffle, walk) of walks of a shape (walk, time)."""
    n_walks, n_steps = shape
    return CircularShifts(np.full(n_walks, n_steps), n_steps, low).draw(n, rng)


def lattice(rng, n_walks=3, n_steps=600, n_units=4, noise=0.5, side=7):
    """Walks by steps of one place; unit 0 has a field, the others are noise."""
    steps = rng.integers(-1, 2, (2, n_walks, n_steps))
    y, x = np.clip(np.cumsum(steps, axis=2) % (2 * side), 0, 2 * side - 1)
    y, x = (np.where(v < side, v, 2 * side - 1 - v) for v in (y, x))
    activation = noise * rng.standard_normal((n_walks, n_steps, n_units))
    activation[..., 0] += 3 * simulation.bump((3, 3), side=side)[y, x]
    seen = rng.integers(0, 3, (2, side, side))[np.arange(n_walks)[:, None] % 2, y, x]
    room = np.arange(n_walks) % 2
    return simulation.recording(activation.astype(np.float32), x, y, map=room, observation=seen)


@pytest.mark.parametrize(
    ("statistic", "options"),
    [
        ("spatial_information", {"negatives": "shift"}),
        ("place_cell_score", {"threshold": 0.3}),
        ("coherence", {}),
        ("grid_score", {}),
        ("border_score", {"negatives": "shift"}),
        ("position_variance_explained", {}),
        ("position_variance_explained", {"given": "observation", "adjusted": False}),
        ("mutual_information", {"levels": 3}),
    ],
)
@pytest.mark.parametrize("per_map", [False, True])
def test_observed_is_the_statistic_and_a_field_beats_chance(statistic, options, per_map):
    rec = lattice(RNG(0))
    result = shuffle_test(rec, statistic, n_shuffles=19, per_map=per_map, **options)
    of_samples = {VARIANCE: position_variance_explained, "mutual_information": plain_information}
    if statistic in of_samples:
        want = of_samples[statistic](rec, per_map=per_map, **options)
    else:
        want = OF_MAPS[statistic](rate_maps(rec, per_map=per_map), **options)
    np.testing.assert_allclose(result.observed, want, rtol=1e-6)
    assert result.p.dims == (("map", "unit") if per_map else ("unit",))
    assert result.observed.attrs == {k: want.attrs[k] for k in ("units", "long_name")}
    if not per_map and statistic in ("spatial_information", "coherence", *of_samples):
        assert result.p.values[0] == 1 / 20
        assert result.z.values[0] > 3


def by_hand(rec, statistic, shuffles):
    """The statistic of recordings whose places were moved one shuffle at a time."""
    values = [
        statistic(rec.assign_coords(x=(("walk", "time"), x), y=(("walk", "time"), y)))
        for x, y in shuffles
    ]
    return np.array(values)


@pytest.mark.parametrize("name", ["spatial_information", VARIANCE, "mutual_information"])
def test_shuffles_are_those_of_moving_the_places_one_at_a_time(name, monkeypatch):
    rec = lattice(RNG(1), n_steps=300)
    # Three shuffles at a time, so that a group of several and a rest are both tried.
    values = 49 * 4 if name == "spatial_information" else 2 * 49 * 4
    values = 3 * values if name == "mutual_information" else values
    monkeypatch.setattr(place_shuffles, "GROUP_VALUES", 3 * values)
    functions = {
        "spatial_information": lambda ds: spatial_information(rate_maps(ds)).values,
        VARIANCE: lambda ds: position_variance_explained(ds).values,
        "mutual_information": lambda ds: plain_information(ds).values,
    }
    number = np.arange(rec.x.size).reshape(rec.x.shape)
    rng = RNG(5)
    moved = []
    for group in (3, 3, 1):
        moved += list(shifted(number, amounts(number.shape, group, 30, rng)))
    x, y = rec.x.values.ravel(), rec.y.values.ravel()
    null = by_hand(rec, functions[name], [(x[m], y[m]) for m in moved])
    observed = functions[name](rec)
    result = shuffle_test(rec, name, n_shuffles=7, min_shift=30, seed=5)
    np.testing.assert_allclose(result.null_mean, null.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.null_sd, null.std(0, ddof=1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(result.p, ((null >= observed).sum(0) + 1) / 8)
    np.testing.assert_allclose(result.z, (result.observed - result.null_mean) / result.null_sd)


def test_letters_are_taken_out_before_place_beyond_them_is_tested():
    """Shuffles of activities without their letters' means, one at a time, and p that is uniform."""
    rec = lattice(RNG(16), n_steps=300)
    letter = rec.observation.values + 3 * rec["map"].values[:, None]
    rec.activation[..., 1:] += 4 * RNG(17).standard_normal((6, 3))[letter]
    result = shuffle_test(rec, VARIANCE, n_shuffles=5, min_shift=30, seed=5, given="observation")
    left = rec.activation.values.astype(float)
    for value in np.unique(letter):
        left[letter == value] -= left[letter == value].mean(axis=0)
    number = np.arange(rec.x.size).reshape(rec.x.shape)
    moved = shifted(number, amounts(number.shape, 5, 30, RNG(5)))
    null = []
    for m in moved:
        behaviour = {k: (("walk", "time"), rec[k].values.ravel()[m]) for k in ("x", "y")}
        shown = rec.observation.copy(data=rec.observation.values.ravel()[m])
        one = rec.assign(activation=rec.activation.copy(data=left), observation=shown)
        one = one.assign_coords(behaviour)
        null.append(position_variance_explained(one, given="observation").values)
    np.testing.assert_allclose(result.null_mean, np.mean(null, axis=0), rtol=1e-4, atol=1e-6)
    many = simulation.population(("letter",), 60, n_walks=4, n_steps=600, seed=4)
    p = shuffle_test(many, VARIANCE, n_shuffles=39, given="observation").p.values
    assert stats.kstest(p, "uniform").statistic < 0.2
    holed = rec.assign_coords(x=rec.x.astype(float).where(rec.time != 3))
    with pytest.raises(ValueError, match="given='observation' need a place and a value"):
        shuffle_test(holed, VARIANCE, n_shuffles=2, given="observation")


def test_holes_in_the_path_move_with_it():
    rec = lattice(RNG(2), n_steps=200)
    x = rec.x.values.astype(float)
    x[:, 150:] = np.nan
    holed = rec.assign_coords(x=(("walk", "time"), x))
    index = np.arange(600).reshape(3, 200)
    (moved,) = shifted(index, amounts(index.shape, 1, 20, RNG(3)))
    new = [(x.ravel()[moved], rec.y.values.ravel()[moved])]
    want = by_hand(holed, lambda ds: position_variance_explained(ds).values, new)[0]
    result = shuffle_test(holed, "position_variance_explained", n_shuffles=1, min_shift=20, seed=3)
    np.testing.assert_allclose(result.null_mean, want, atol=1e-6)
    holed.activation[0, 199, 2] = np.nan
    with pytest.raises(ValueError, match="also where the place is NaN"):
        shuffle_test(holed, "spatial_information", n_shuffles=3)


def test_one_seed_is_one_result_and_another_is_not():
    rec = lattice(RNG(3), n_steps=200)
    first, again, other = (shuffle_test(rec, seed=seed) for seed in (1, 1, 2))
    xr.testing.assert_identical(first, again)
    assert not first.null_mean.equals(other.null_mean)
    assert first.observed.equals(other.observed)


def test_p_of_untuned_units_is_uniform():
    rng = RNG(4)
    rec = lattice(rng, n_walks=2, n_steps=200, n_units=200).isel(unit=slice(1, None))
    for statistic in ("spatial_information", "position_variance_explained"):
        p = shuffle_test(rec, statistic, n_shuffles=39, seed=1).p.values
        assert stats.kstest(p, "uniform").statistic < 0.15
        assert p.min() >= 1 / 40


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_steps=st.integers(10, 60), data=st.data())
def test_shifts_are_at_least_the_least_from_both_ends(seed, n_steps, data):
    low = data.draw(st.integers(1, max(n_steps // 10, (n_steps - 19) // 2)))
    index = np.arange(4 * n_steps).reshape(4, n_steps)
    for moved in shifted(index, amounts(index.shape, 3, low, RNG(seed))):
        np.testing.assert_array_equal(np.sort(moved, axis=1), index)
        shift = (index[:, 0] - moved[:, 0]) % n_steps
        assert ((shift >= low) & (shift <= n_steps - low)).all()
        rolled = [np.roll(row, s) for row, s in zip(index, shift, strict=True)]
        np.testing.assert_array_equal(moved, rolled)


def test_walks_are_shifted_each_by_its_own():
    index = np.tile(np.arange(1000), (8, 1))
    (moved,) = shifted(index, amounts(index.shape, 1, 100, RNG(0)))
    assert np.unique(moved[:, 0]).size > 4


# Within the same letter


def test_trading_places_keeps_map_and_letter_and_moves_the_rest():
    letters = RNG(5).integers(-1, 5, 200)
    order = nulls.permute_within_observation(letters, RNG(6))
    np.testing.assert_array_equal(np.sort(order), np.arange(200))
    np.testing.assert_array_equal(letters[order], letters)
    np.testing.assert_array_equal(order[letters < 0], np.flatnonzero(letters < 0))
    assert (order != np.arange(200)).mean() > 0.5


@pytest.mark.parametrize("per_map", [False, True])
def test_a_field_is_more_than_its_letters(per_map):
    rec = lattice(RNG(7), n_steps=3000)
    letter = rec.observation.values == 1
    rec.activation[..., 1] += 3 * letter
    result = shuffle_test(
        rec, "coherence", null="within_observation", n_shuffles=39, per_map=per_map, seed=2
    )
    want = coherence(rate_maps(rec, per_map=per_map))
    np.testing.assert_allclose(result.observed, want, rtol=1e-5, atol=1e-7)
    assert (result.p[..., 0] == 1 / 40).all()
    assert (result.p[..., 1] > 1 / 40).all()


def test_within_observation_refuses_what_it_cannot_test():
    rec = lattice(RNG(8), n_steps=300)
    for blind in ("spatial_information", "position_variance_explained"):
        with pytest.raises(ValueError, match="does not change"):
            shuffle_test(rec, blind, null="within_observation")
    with pytest.raises(ValueError, match="one observation per place"):
        shuffle_test(rec.drop_vars("map"), "coherence", null="within_observation", n_shuffles=2)
    with pytest.raises(ValueError, match="'observation' is missing"):
        shuffle_test(rec.drop_vars("observation"), "coherence", null="within_observation")


# Tables


def test_units_without_a_statistic_are_nan_throughout():
    rec = lattice(RNG(10), n_steps=200)
    rec.activation[..., 2] = -1.0
    result = shuffle_test(rec, n_shuffles=5)
    np.testing.assert_array_equal(result.n_shuffles, [5, 5, 0, 5])
    for name in result.drop_vars("n_shuffles").data_vars:
        np.testing.assert_array_equal(np.isnan(result[name]), [False, False, True, False], name)


def test_functions_and_options_reach_the_statistic():
    rec = lattice(RNG(11), n_steps=200)

    def corner(maps, *, factor):
        return (factor * maps.rate[:, 0, 0]).drop_vars(["x", "y"])

    result = shuffle_test(rec, corner, n_shuffles=4, factor=2.0)
    np.testing.assert_allclose(result.observed, 2 * rate_maps(rec).rate[:, 0, 0])
    assert result.attrs["statistic"] == "corner"
    scores = shuffle_test(
        rec, "place_cell_score", n_shuffles=2, negatives="shift", min_contrast=2.0
    )
    want = place_cell_score(rate_maps(rec), negatives="shift", min_contrast=2.0)
    np.testing.assert_allclose(scores.observed, want)
    assert scores.attrs["negatives"] == "shift"


def test_result_is_documented_and_goes_to_netcdf(tmp_path):
    rec = lattice(RNG(12), n_steps=100)
    result = shuffle_test(rec, n_shuffles=3, progress=True)
    assert list(result.data_vars) == [
        "observed", "null_mean", "null_sd", "z", "p", "q", "n_shuffles",
    ]  # fmt: skip
    for name in result.data_vars:
        assert {"units", "long_name"} <= set(result[name].attrs), name
    assert list(result["layer"].values[:2]) == ["ffn.0", "ffn.1"]
    assert json.loads(result.attrs["provenance"])["steps"][-1]["min_shift"] == 10
    result.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_identical(result, back.load())


def test_dask_gives_the_same():
    rec = lattice(RNG(13), n_steps=200)
    want = shuffle_test(rec, n_shuffles=3)
    found = shuffle_test(rec.chunk(time=70, unit=3), n_shuffles=3)
    np.testing.assert_allclose(found.null_mean, want.null_mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"statistic": "grid"}, "statistic must be one of"),
        ({"n_shuffles": 0}, "n_shuffles must be 'auto' or a whole number of at least 1, got 0"),
        ({"n_shuffles": 9.5}, "got 9.5"),
        ({"n_shuffles": "many"}, "got 'many'"),
        ({"null": "swap"}, "null must be"),
        ({"max_q": 5}, "max_q must lie between 0 and 1, got 5"),
        ({"seed": 1.5}, "seed must be a whole number ≥ 0, got 1.5"),
        ({"min_shift": 9.5}, "min_shift must be a whole number ≥ 0, got 9.5"),
        ({"n": 5}, r"must be 'given', 'maps' or 'adjusted', got \['n'\]"),
        ({"null": "walks"}, "needs at least 4 walks of every map, got 1 of map 1"),
        ({"null": "walks", "min_shift": 5}, "min_shift is an option of null='circular'"),
        ({"min_shift": 0}, "between 1 and 40 in a walk of 100 steps"),
        ({"min_shift": 41}, r"at least 20 shifts are possible, got 41"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        shuffle_test(lattice(RNG(14), n_steps=100), **options)


def test_walks_that_are_too_short_to_be_shifted_say_so():
    with pytest.raises(ValueError, match="walks must have at least 21 steps .* got 20"):
        shuffle_test(lattice(RNG(14), n_steps=20).isel(walk=[0]), null="circular")


@pytest.mark.parametrize("statistic", [VARIANCE, "coherence", spatial_information])
@pytest.mark.parametrize("per_map", [False, True])
def test_kept_shuffles_are_those_that_were_counted(statistic, per_map):
    if callable(statistic) and per_map:
        pytest.skip("a function sees maps of one map")
    rec = lattice(RNG(0))
    test = shuffle_test(rec, statistic, n_shuffles=19, per_map=per_map, keep_null=True)
    assert test["null"].dims == ("shuffle", *test["p"].dims)
    np.testing.assert_allclose(test["null"].mean("shuffle"), test["null_mean"], rtol=1e-5)
    reached = (test["null"] >= test["observed"] - 1e-6).sum("shuffle")
    np.testing.assert_allclose((reached + 1) / 20, test["p"])
    assert "null" not in shuffle_test(rec, statistic, n_shuffles=2, per_map=per_map)


# Exchanges of walks, and the choice of a null


def exchanged(index, maps, n, lengths=None):
    """Values (shuffle, walk, time) of walks that were exchanged."""
    lengths = np.full(len(index), index.shape[1]) if lengths is None else lengths
    exchange = WalkExchange.of(lengths, index.shape[1], maps)
    return exchange.moved(index, exchange.draw(n, RNG(0)), 0)[..., ALL, ALL]


def test_walks_are_exchanged_whole_and_within_their_map():
    index, maps = np.arange(120).reshape(12, 10), np.arange(12) % 2
    for moved in exchanged(index, maps, 5):
        np.testing.assert_array_equal(np.sort(moved.ravel()), np.arange(120))
        np.testing.assert_array_equal(moved - moved[:, :1], np.tile(np.arange(10), (12, 1)))
        np.testing.assert_array_equal(moved[:, 0] // 10 % 2, maps)
    first = exchanged(index, maps, 200)[:, 0, 0]
    assert set(first // 10) == {0, 2, 4, 6, 8, 10}  # every walk of the map, itself among them


def test_unequal_walks_are_laid_end_to_end_in_another_order():
    lengths, maps = np.array([5, 2, 7, 3, 4, 6, 1, 2]), np.arange(8) % 2
    index = np.arange(56).reshape(8, 7)
    index[np.arange(7) >= lengths[:, None]] = -1
    own = [index[maps == m][index[maps == m] >= 0] for m in (0, 1)]
    orders = exchanged(index, maps, 20, lengths)
    assert len(np.unique(orders.reshape(20, -1), axis=0)) > 10
    for moved in orders:
        np.testing.assert_array_equal(moved < 0, index < 0)
        for m in (0, 1):
            values = moved[maps == m][moved[maps == m] >= 0]
            np.testing.assert_array_equal(np.sort(values), own[m])
            starts = np.flatnonzero(np.diff(values) != 1).size
            assert starts <= 3  # four walks, each in one piece


SLOW = {
    "white": lambda rng, w, t, n: rng.standard_normal((w, t, n)),
    "ramp": lambda rng, w, t, n: (
        np.linspace(0, 3, t)[:, None] * rng.choice([-1, 1], n) + rng.standard_normal((w, t, n))
    ),
    "transient": lambda rng, w, t, n: (
        6 * np.exp(-np.arange(t) / 8)[:, None] + rng.standard_normal((w, t, n))
    ),
}


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.parametrize(
    ("statistic", "options"), [(VARIANCE, {}), ("spatial_information", {"negatives": "shift"})]
)
def test_exchanged_walks_are_calibrated_where_walks_are_short(kind, statistic, options):
    """Walks begin in the middle of the map, so that place and time in the walk are related."""
    rng = RNG(3)
    steps = rng.integers(-1, 2, (2, 24, 48))
    y, x = np.clip(np.cumsum(steps, axis=2) + 3, 0, 6)
    recording = simulation.recording(SLOW[kind](rng, 24, 48, 300), x, y)
    test = shuffle_test(recording, statistic, null="walks", n_shuffles=39, **options)
    expected = stats.binom(300, 0.05)
    assert expected.cdf((test.p <= 0.05).sum()) < 0.9995
    assert stats.kstest(test.p, "uniform").statistic < 0.15


def test_the_null_follows_the_walks():
    many = lattice(RNG(0), n_walks=16, n_steps=120)
    assert shuffle_test(many).attrs["null"] == "walks"
    assert shuffle_test(many, min_shift=12).attrs["null"] == "circular"
    assert shuffle_test(many.isel(walk=slice(14))).attrs["null"] == "circular"  # 7 of each map
    assert shuffle_test(many.drop_vars("map").isel(walk=slice(8))).attrs["null"] == "walks"


def laps(n_laps=12, jitter=2):
    """Laps on a track of 20 bins, in which every unit has a field."""
    rng = RNG(0)
    place = np.clip(np.linspace(0, 19, 100) + jitter * rng.standard_normal((n_laps, 1)), 0, 19)
    rates = np.exp(-((place[..., None] - np.linspace(2, 17, 6)) ** 2) / 4)
    noisy = rates + 0.2 * rng.standard_normal(rates.shape)
    return simulation.recording(noisy, place.round().astype(int), np.zeros((n_laps, 100), int))


def test_laps_share_their_course_and_are_shifted():
    recording = laps()
    with pytest.warns(UserWarning, match="shorter than 10 correlation .* Load the laps as one"):
        test = shuffle_test(recording, by=("x",))
    assert test.attrs["null"] == "circular"
    assert (test.q <= 0.05).all()
    with (
        pytest.warns(UserWarning, match="walks of a map follow the same path"),
        pytest.warns(UserWarning, match="do not change position_variance_explained of 6 of 6"),
    ):
        same = shuffle_test(laps(jitter=0), by=("x",), null="walks", n_shuffles=19)
    np.testing.assert_allclose(same.p, 1)


def test_short_walks_of_slow_units_are_said():
    rng = RNG(0)
    slow = np.cumsum(rng.standard_normal((4, 64, 3)), axis=1)
    x = rng.integers(0, 3, (4, 64))
    recording = simulation.recording(slow, x, x[:, ::-1])
    with pytest.warns(UserWarning, match=r"3 of 3 units stay correlated .* walk has 64 steps"):
        shuffle_test(recording, n_shuffles=2)


def test_a_shift_of_half_a_walk_is_no_null():
    noise = lattice(RNG(1), n_walks=2, n_steps=512)
    with pytest.raises(ValueError, match="at least 20 shifts are possible, got 256"):
        shuffle_test(noise, min_shift=256)
    with pytest.raises(ValueError, match="at least 20 shifts"):
        mutual_information(noise, min_shift=256)


def test_the_shifts_of_one_walk_are_counted_once_each():
    one = lattice(RNG(2), n_walks=1, n_steps=100)
    test = shuffle_test(one, min_shift=30, keep_null=True, n_shuffles=1000)
    assert test.attrs["n_shuffles"] == 41 == test["null"].sizes["shuffle"]
    rows = np.unique(test["null"].values.round(5), axis=0)
    assert len(rows) == 41


def test_negative_baselines():
    """Place cells whose rates are all negative: tested by default, and said where undefined."""
    below = lattice(RNG(0), n_walks=16, n_steps=400)
    below["activation"] = below.activation - 6
    test = shuffle_test(below)
    assert test.attrs["statistic"] == VARIANCE and test.q[0] <= 0.05
    with pytest.warns(UserWarning, match="undefined for 4 of 4 units under negatives='rectify'"):
        assert np.isnan(shuffle_test(below, "spatial_information", n_shuffles=9).p).all()


# As many shuffles as the decisions need


def test_few_tuned_units_among_many_are_found():
    rec = lattice(RNG(0), n_walks=16, n_steps=128, n_units=512)
    fields = simulation.bump((3, 3), side=7)[rec.y.values, rec.x.values]
    rec.activation[..., 1:4] += 3 * fields[..., None].astype(np.float32)
    test = shuffle_test(rec)
    assert set(np.flatnonzero(test.q <= 0.05)) >= {0, 1, 2, 3}
    assert (test.q <= 0.05).sum() <= 6
    assert test.n_shuffles.max() > 1000 and test.n_shuffles.mean() < 150
    fixed = shuffle_test(rec, n_shuffles=39)
    assert not (fixed.q <= 0.05).any()
    lazy = shuffle_test(rec.chunk(walk=5, time=50, unit=100))
    np.testing.assert_array_equal(lazy.n_shuffles, test.n_shuffles)
    np.testing.assert_allclose(lazy.p, test.p)


def test_few_shuffles_settle_units_that_are_all_tuned():
    rec = lattice(RNG(0), n_walks=16, n_steps=400, n_units=8)
    rec.activation[...] = rec.activation[..., :1] + 0.1 * RNG(1).standard_normal(
        rec.activation.shape
    )
    test = shuffle_test(rec, per_map=True)
    assert (test.q <= 0.05).all() and test.n_shuffles.max() <= 150
    kept = shuffle_test(rec, per_map=True, keep_null=True)
    assert kept["null"].sizes == {"shuffle": 50, "map": 2, "unit": 8}
    xr.testing.assert_identical(kept.drop_vars("null"), test)


@pytest.mark.parametrize("options", [{}, {"given": "observation"}, {"statistic": "coherence"}])
def test_sums_of_pairs_of_walks_give_the_same_shuffles(options, monkeypatch):
    rec = lattice(RNG(0), n_walks=17, n_steps=100)  # nine walks of one map, eight of the other
    pairs = shuffle_test(rec, n_shuffles=12, null="walks", keep_null=True, **options)
    monkeypatch.setattr(nulls, "PAIR_VALUES", 0)
    direct = shuffle_test(rec, n_shuffles=12, null="walks", keep_null=True, **options)
    np.testing.assert_allclose(pairs["null"], direct["null"], rtol=1e-4, atol=1e-6)
    assert np.unique(pairs["null"].values.round(6), axis=0).shape[0] == 12


def test_the_shifts_of_many_walks_are_countless():
    shifts = CircularShifts(np.full(500, 1000), 1000, None)
    assert shifts.distinct > 1e300


def test_observations_that_are_text_may_be_missing():
    """Walks of unequal length that xarray joins end in NaN among the texts."""
    rng = RNG(0)
    x = rng.integers(0, 6, (2, 200))
    values = rng.random((2, 200, 2)) + x[..., None]
    values[1, 150:] = np.nan
    text = np.array(list("abcabc"), object)[x]
    text[1, 150:] = np.nan
    found = []
    for observation in (text, x % 3):
        behaviour = {"observation": observation}
        recording = pf.from_arrays(values, {"x": x}, behaviour=behaviour)
        beyond = position_variance_explained(recording, by="x", given="observation")
        options = {"null": "within_observation", "n_shuffles": 9, "progress": False, "by": "x"}
        found.append([beyond.values, shuffle_test(recording, "coherence", **options).p.values])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("rate", rate_maps),
        ("label", lambda r: pf.place_fields(rate_maps(r))),
        ("field", lambda r: pf.place_fields(rate_maps(r))),
        ("z", lambda r: shuffle_test(r, n_shuffles=9, progress=False)),
        ("n_fields", lambda r: pf.place_cells(r, n_shuffles=9, progress=False)),
        ("is_place_cell", lambda r: pf.place_cells(r, n_shuffles=9, progress=False)),
        ("slope", lambda r: pf.speed_score(r, n_shuffles=9, progress=False)),
        ("spacing", lambda r: pf.grid_properties(rate_maps(r))),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_coordinates_of_units_with_the_name_of_a_result_are_refused(name, call):
    recording = lattice(RNG(0), n_walks=1, n_steps=300)
    named = recording.assign_coords({name: ("unit", np.arange(recording.sizes["unit"]))})
    with pytest.raises(ValueError, match=rf"coordinate '{name}' of the units must have another"):
        call(named)
    call(named.rename({name: f"unit_{name}"}))


@pytest.mark.parametrize("n_shuffles", [19, "auto"])
def test_the_order_of_the_dimensions_of_a_function_does_not_matter(n_shuffles):
    recording = xr.concat([lattice(RNG(k), n_walks=1, n_steps=300) for k in (0, 1)], "walk")
    recording = recording.assign_coords(map=("walk", [0, 1]))
    options = {"per_map": True, "n_shuffles": n_shuffles, "progress": False}
    found = [
        shuffle_test(
            recording, lambda maps, dims=dims: maps.rate.max(("y", "x")).transpose(*dims), **options
        )
        for dims in (("map", "unit"), ("unit", "map"))
    ]
    xr.testing.assert_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda maps: maps.rate.values.max((1, 2)), "got ndarray;"),
        (lambda maps: maps.rate.max("x"), "got DataArray of {'unit': 4, 'y': 7};"),
        (pf.place_fields, "got Dataset of {"),
    ],
)
def test_functions_that_return_something_else_are_refused(function, found):
    with pytest.raises(ValueError, match="function that returns a DataArray of .*" + found):
        shuffle_test(lattice(RNG(0), n_walks=1), function, n_shuffles=9, progress=False)
