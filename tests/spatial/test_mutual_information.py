import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from sklearn.metrics import mutual_info_score

from placeformer.evaluation import simulation
from placeformer.spatial import binning as places
from placeformer.spatial import mutual_information as information
from placeformer.spatial import place_shuffles
from placeformer.spatial.mutual_information import mutual_information

RNG = np.random.default_rng


def lettered(rng, n_walks=4, n_steps=1500):
    """Units: noise; place; letter of the map; place and letter, on two maps of 5 x 5."""
    x, y = rng.integers(0, 5, (2, n_walks, n_steps))
    room = np.arange(n_walks) % 2
    letters = rng.integers(0, 4, (2, 5, 5))
    seen = letters[room[:, None], y, x]
    field = rng.standard_normal((2, 5, 5))[room[:, None], y, x]
    by_letter = np.array([-2.0, 0.0, 2.0, 4.0])[seen]
    noise = rng.standard_normal((4, n_walks, n_steps))
    units = noise + np.stack([0 * field, 2 * field, by_letter, 2 * field + by_letter])
    return simulation.recording(np.moveaxis(units, 0, -1), x, y, map=room, observation=seen)


def label(*parts):
    """One number for every combination of values, flat."""
    stacked = np.stack([np.broadcast_to(p, parts[-1].shape).ravel() for p in parts])
    return np.unique(stacked, axis=1, return_inverse=True)[1].ravel()


def levels_of(values, n):
    """Level of every value between NumPy's quantiles."""
    edges = np.quantile(values, np.arange(1, n) / n, method="inverted_cdf")
    return np.searchsorted(edges, values)


def bits(a, b):
    return mutual_info_score(a, b) / np.log(2)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_a_unit_that_is_a_function_of_the_place_has_log2_n_bits(n):
    x = np.arange(800).reshape(1, -1) % 8
    rec = simulation.recording((-3.0 * (x // (8 // n)))[..., None], x, 0 * x)
    found = mutual_information(rec, levels=n, correction="none")
    np.testing.assert_allclose(found, [np.log2(n)])
    assert found.attrs["units"] == "bit"


@pytest.mark.parametrize("n_levels", [2, 4, 7])
def test_agrees_with_scikit_learn(n_levels, monkeypatch):
    monkeypatch.setattr(information, "QUANTILE_SAMPLES", 10**9)
    rec = lettered(RNG(0)).isel(walk=[0])
    place = label(rec.y.values, rec.x.values)
    found = mutual_information(rec, levels=n_levels, correction="none")
    want = [bits(levels_of(unit, n_levels), place) for unit in rec.activation.values[0].T]
    np.testing.assert_allclose(found, want, rtol=1e-9)


def test_beyond_map_and_letter_is_the_chain_rule_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(information, "QUANTILE_SAMPLES", 10**9)
    rec = lettered(RNG(1))
    room = rec["map"].values[:, None]
    cell = label(rec.y.values, rec.x.values, room + 0 * rec.x.values)
    for given_name, known in ((None, room + 0 * rec.x.values), ("observation", rec.observation)):
        group = label(room, np.asarray(known))
        want = []
        for unit in rec.activation.values.reshape(-1, 4).T:
            level = levels_of(unit, 4)
            want.append(bits(level, cell) - bits(level, group))
        found = mutual_information(rec, given=given_name, correction="none")
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)
    per_map = mutual_information(rec, per_map=True, correction="none")
    assert per_map.dims == ("map", "unit")
    np.testing.assert_allclose(per_map.mean("map"), mutual_information(rec, correction="none"))


@pytest.mark.parametrize(("correction", "left"), [("shuffle", 0.03), ("miller_madow", 0.15)])
def test_corrections_take_the_bias_off_independent_samples(correction, left):
    rec = simulation.walks(RNG(2), n_walks=1, n_steps=2000, n_units=40)
    plain = mutual_information(rec, correction="none")
    corrected = mutual_information(rec, correction=correction)
    assert plain.mean() > 0.1
    assert abs(corrected.mean()) < left * plain.mean()
    tuned = lettered(RNG(3))
    letter = mutual_information(tuned, given="observation", correction=correction)
    assert (abs(letter[[0, 2]]) < 0.01).all()  # noise, and a unit that follows the letter
    assert (letter[[1, 3]] > 0.3).all()


def test_only_shuffles_take_off_what_slow_units_and_slow_walks_share():
    rng = RNG(4)
    slow = ndimage.gaussian_filter1d(rng.standard_normal((3, 3000, 30)), 80, axis=1)
    x, y = (np.abs(np.cumsum(rng.integers(-1, 2, (3, 3000)), axis=1)) % 12 // 2 for _ in "xy")
    rec = simulation.recording(slow, x, y)
    analytic = float(mutual_information(rec, correction="miller_madow").mean())
    shuffled = float(mutual_information(rec, correction="shuffle").mean())
    assert analytic > 0.03
    assert abs(shuffled) < 0.3 * analytic


def test_signed_rectified_and_sparse_units_need_no_policy():
    rec = lettered(RNG(5))
    rectified = rec.assign(activation=np.maximum(rec.activation, 0))
    signed, unsigned = (mutual_information(r, correction="none") for r in (rec, rectified))
    np.testing.assert_allclose(unsigned[1:], signed[1:], rtol=0.3)
    rare = rec.assign(activation=rec.activation * (rec.x == 2) * (rec.y == 2))
    assert (mutual_information(rare, correction="none") > 0.05).all()


def test_constant_units_have_no_information():
    rec = lettered(RNG(6))
    rec.activation[..., 0] = 0.1
    for correction in ("none", "shuffle", "miller_madow"):
        assert mutual_information(rec, correction=correction)[0] == 0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_unchanged_by_increasing_functions_and_bounded(seed, scale, shift):
    rec = lettered(RNG(seed), n_walks=2, n_steps=150)
    want = mutual_information(rec)
    rank = stats.rankdata(rec.activation, axis=None).reshape(rec.activation.shape)
    for changed in (scale * rec.activation + shift, np.arctan(rec.activation), rank):
        other = rec.assign(activation=(("walk", "time", "unit"), np.asarray(changed)))
        np.testing.assert_allclose(mutual_information(other), want, atol=1e-12)
    plain = mutual_information(rec, correction="none")
    assert ((plain >= 0) & (plain <= 2)).all()
    np.testing.assert_allclose(
        mutual_information(rec.assign(activation=-rec.activation), correction="none"),
        plain,
        atol=0.1,
    )


def test_one_seed_one_result_whatever_the_chunks():
    rec = lettered(RNG(7))
    want = mutual_information(rec, seed=3)
    assert not np.array_equal(mutual_information(rec, seed=4), want)
    chunked = rec.chunk(walk=3, time=400, unit=3)
    np.testing.assert_array_equal(mutual_information(chunked, seed=3), want)


def test_shuffles_in_several_reads_are_the_same(monkeypatch):
    rec = lettered(RNG(8), n_steps=200)
    want = mutual_information(rec)
    monkeypatch.setattr(place_shuffles, "GROUP_VALUES", 1)
    np.testing.assert_array_equal(mutual_information(rec), want)


def test_a_place_of_nan_drops_the_sample_and_an_activation_of_nan_is_refused():
    rec = lettered(RNG(9))
    x = rec.x.values.astype(float)
    x[:, 700:] = np.nan
    holed = rec.assign_coords(x=(("walk", "time"), x))
    found = mutual_information(holed, correction="none")
    short = mutual_information(rec.isel(time=slice(700)), correction="none")
    np.testing.assert_allclose(found, short, atol=1e-12)
    rec.activation[1, 5, 2] = np.nan
    with pytest.raises(ValueError, match=r"1 values of 1 units .*ffn\.0/2"):
        mutual_information(rec)


def test_a_recording_without_a_place_is_nan():
    rec = lettered(RNG(10))
    assert np.isnan(mutual_information(rec, bins=[[10, 11, 12]] * 2)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": 1}, "levels must be a whole number ≥ 2"),
        ({"correction": "jackknife"}, "correction must be one of"),
        ({"n_shuffles": 0}, "correction='none'"),
        ({"n_shuffles": 2.5}, "n_shuffles must be a whole number ≥ 1, got 2.5"),
        ({"min_shift": 0}, "min_shift must lie"),
        ({"min_shift": 51}, "miller_madow"),
        ({"maps": "both"}, "maps must be"),
        ({"given": "letter"}, "'letter' is missing"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        mutual_information(lettered(RNG(11), n_steps=100), **options)


def test_more_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(places, "memory", lambda: 1e4)
    with pytest.raises(ValueError, match=r"places, which for 4 units take .* GB"):
        mutual_information(lettered(RNG(12), n_steps=100))
