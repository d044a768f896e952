import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import placeformer as pf
from placeformer.data import schema
from placeformer.evaluation import simulation
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.stability import half_maps, stability

RNG = np.random.default_rng
ALL = slice(None)


def tuned(rng, n_steps=1200):
    """Units: a place field, noise, a ramp that grows in time alone; three walks on two maps."""
    rec = simulation.walks(rng, n_steps=n_steps, n_units=3, side=5, dtype=np.float64)
    field = simulation.bump((2, 3), side=5)[rec.y.values, rec.x.values]
    noise = rec.activation.values
    noise[..., 0] = 5 * field + 0.3 * noise[..., 0]
    return rec


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        ({"halves": "first_second"}, (np.s_[:, :350], np.s_[:, 350:])),
        ({"halves": "walks"}, (np.s_[[0, 1], :], np.s_[[2], :])),  # maps 0, 1, 0
        ({"halves": "odd_even", "block": 1}, (np.s_[:, ::2], np.s_[:, 1::2])),
        ({"block": 350}, (np.s_[:, :350], np.s_[:, 350:])),
    ],
)
def test_halves_are_rate_maps_of_their_samples(options, samples):
    rec = simulation.walks(RNG(0), dtype=np.float64)
    found = half_maps(rec, **options)
    schema.check_rate_maps(found)
    whole = rate_maps(rec)
    for k, (walks, times) in enumerate(samples):
        alone = rate_maps(rec.isel(walk=walks, time=times), bins=whole)
        np.testing.assert_allclose(found.rate.isel(half=k), alone.rate)
        np.testing.assert_array_equal(found.occupancy.isel(half=k), alone.occupancy)
    np.testing.assert_array_equal(found.occupancy.sum("half"), whole.occupancy)


def test_blocks_are_minutes_where_a_walk_lasts_two_else_a_tenth_of_it():
    rec = simulation.walks(RNG(1), n_steps=700)
    rec["activation"] = rec.activation * 0 + np.arange(700)[:, None]  # the time
    default, minutes = half_maps(rec), half_maps(rec.assign_attrs(sample_rate=2.0))
    too_long = half_maps(rec.assign_attrs(sample_rate=6.0))
    tenth, of_120 = half_maps(rec, block=70), half_maps(rec, block=120)
    xr.testing.assert_equal(default, tenth)
    xr.testing.assert_equal(minutes.rate, of_120.rate)
    xr.testing.assert_allclose(minutes.occupancy, of_120.occupancy / 2)
    xr.testing.assert_equal(too_long.rate, tenth.rate)


def test_halves_share_the_bins_of_the_whole_recording():
    x = np.array([[0, 1, 2, 3, 4, 5]])
    rec = simulation.recording(np.ones((1, 6, 1)), x, x)
    found = half_maps(rec, by="x", halves="first_second")
    np.testing.assert_array_equal(found.occupancy, [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    assert list(found.half.values) == ["first", "second"]
    equal = half_maps(rec, by="x", bins=3, halves="first_second")
    np.testing.assert_array_equal(equal.x_edges, rate_maps(rec, by="x", bins=3).x_edges)


def test_measures_keep_halves_and_maps(tmp_path):
    found = half_maps(tuned(RNG(2)), per_map=True)
    assert found.rate.dims == ("half", "map", "unit", "y", "x")
    assert spatial_information(found).dims == ("half", "map", "unit")
    assert json.loads(found.attrs["provenance"])["steps"][-1]["step"] == "half_maps"
    found.to_netcdf(tmp_path / "halves.nc")
    with xr.open_dataset(tmp_path / "halves.nc") as back:
        xr.testing.assert_identical(found, back.load())


@pytest.mark.parametrize("halves", ["odd_even", "first_second", "walks"])
def test_a_place_unit_is_stable_and_noise_is_not(halves):
    found = stability(tuned(RNG(3)), halves=halves)
    assert found.dims == ("unit",)
    assert found[0] > 0.95
    assert abs(found[1]) < 0.6
    assert found.attrs["halves"] == halves
    assert {"units", "long_name"} <= set(found.attrs)


def test_stability_is_the_correlation_over_shared_places():
    rec = tuned(RNG(4), n_steps=60)
    maps = half_maps(rec, per_map=True, min_occupancy=2)
    found = stability(rec, per_map=True, min_occupancy=2)
    assert found.dims == ("map", "unit")
    for number in range(2):
        for unit in range(3):
            a, b = maps.rate.values[:, number, unit]
            both = np.isfinite(a) & np.isfinite(b)
            assert 3 <= both.sum() < 25
            want = np.corrcoef(a[both], b[both])[0, 1]
            np.testing.assert_allclose(found[number, unit], want)


def test_stability_is_nan_without_variance_or_shared_places():
    rec = tuned(RNG(5))
    rec.activation[..., 1] = 0.1
    rec.activation[:, :600, 2] = 0.1  # flat in the first half alone
    found = stability(rec, halves="first_second").values
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
    assert np.isnan(stability(rec, bins=[[-1, 2, 5]] * 2, by=("y", "x"), min_occupancy=2000)).all()
    assert np.isnan(stability(rec, by="x", bins=[0, 2, 4])).all()  # two places


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_stability_is_free_of_scale_shift_and_sign(seed, scale, shift):
    rec = simulation.walks(RNG(seed), n_steps=100, n_units=2, side=3, dtype=np.float64)
    want = stability(rec)
    assert (np.abs(want) <= 1).all()
    for changed in (scale * rec.activation + shift, -rec.activation):
        np.testing.assert_allclose(stability(rec.assign(activation=changed)), want, atol=1e-8)


def test_dask_gives_the_same():
    rec = tuned(RNG(6))
    np.testing.assert_allclose(stability(rec.chunk(time=500, unit=2)), stability(rec), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"halves": "minutes"}, "halves must be"),
        ({"block": 0}, "block must be a whole number ≥ 1"),
        ({"block": 31}, "halves='walks'"),
        ({"halves": "walks", "block": 3}, "block must be None unless"),
        ({"bins": {"x": [1]}}, "at least two"),
        ({"by": "z"}, "'z' is missing"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        half_maps(tuned(RNG(7), n_steps=60), **options)


def test_what_cannot_be_halved_is_refused():
    rec = tuned(RNG(8), n_steps=60)
    with pytest.raises(ValueError, match="at least 2 samples, got 1 in 3 walks"):
        half_maps(rec.isel(time=[0]))
    with pytest.raises(ValueError, match="needs two walks of a map"):
        half_maps(rec.isel(walk=[0]), halves="walks")


def test_the_correlation_of_the_halves_does_not_change_with_the_scale():
    rng = np.random.default_rng(0)
    values, place = rng.normal(size=(4, 100, 5)), {"x": rng.integers(0, 5, (4, 100))}
    one, large = (pf.stability(pf.from_arrays(values * s, place), by=("x",)) for s in (1, 1e150))
    np.testing.assert_allclose(large, one)
