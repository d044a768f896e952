import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.data.arrays import from_arrays
from placeformer.evaluation import simulation
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial import binning
from placeformer.spatial import binning as places
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.variance_explained import position_variance_explained

RNG = np.random.default_rng


def naive(recording, units=slice(None)):
    """Mean activation per place of an 11 x 11 grid by a loop over places."""
    a, x, y = (recording[n].values for n in ("activation", "x", "y"))
    rate = np.full((a.shape[2], 11, 11), np.nan)
    for i in range(11):
        for j in range(11):
            here = (y == i) & (x == j)
            if here.any():
                rate[:, i, j] = a[here].mean(0, dtype=float)
    return rate[units]


def test_every_unit_fires_where_it_fires():
    y, x = np.mgrid[:3, :4].reshape(2, 1, -1)
    activation = np.eye(12, dtype=np.float32)[None]
    maps = rate_maps(simulation.recording(activation, x, y))
    np.testing.assert_array_equal(maps.rate, np.eye(12).reshape(12, 3, 4))
    np.testing.assert_array_equal(maps.occupancy, np.ones((3, 4)))


def test_contract_of_the_result():
    maps = rate_maps(simulation.walks(RNG(0)))
    schema.check_rate_maps(maps)
    assert maps.rate.dims == ("unit", "y", "x")
    assert maps.rate.dtype == np.float64
    assert maps.occupancy.attrs["units"] == "1"
    assert maps.x.dims == ("x",)
    np.testing.assert_array_equal(maps.x_edges, np.arange(12) - 0.5)
    np.testing.assert_array_equal(maps.y, np.arange(11))
    assert list(maps.layer.values[:2]) == ["ffn.0", "ffn.1"]
    assert json.loads(maps.attrs["provenance"])["steps"][0]["step"] == "rate_maps"
    assert maps.attrs["maps_pooled"] == 2
    for name in maps.variables:
        if name not in ("layer", "index"):
            assert {"units", "long_name"} <= set(maps[name].attrs), name


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool"])
def test_agrees_with_a_loop_over_places(dtype):
    rec = simulation.walks(RNG(1))
    rec["activation"] = (10 * rec.activation).astype(dtype)
    np.testing.assert_allclose(rate_maps(rec).rate, naive(rec), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("by", [("x",), ("y", "x"), ("z", "y", "x")])
def test_agrees_with_scipy_in_any_number_of_dimensions(by):
    rng = RNG(2)
    rec = simulation.walks(rng, n_units=3, dtype=np.float64)
    where = {name: (("walk", "time"), rng.uniform(0, 1, (3, 700))) for name in by}
    rec = rec.assign_coords(where)
    edges = [np.linspace(0.1, 1, 4 + i) for i in range(len(by))]
    bins = dict(zip(by, edges, strict=True))
    maps = rate_maps(rec, by=by, bins=bins)
    where = np.stack([rec[n].values.ravel() for n in by], 1)
    inside = np.all([(c >= 0.1) & (c <= 1) for c in where.T], axis=0)
    values = rec.activation.values.reshape(-1, 3).T[:, inside]
    want = stats.binned_statistic_dd(where[inside], values, "mean", bins=edges)
    count = stats.binned_statistic_dd(where[inside], None, "count", bins=edges)
    np.testing.assert_allclose(maps.rate, want.statistic, rtol=1e-9)
    np.testing.assert_array_equal(maps.occupancy, count.statistic)
    assert maps.rate.dims == ("unit", *by)


def test_the_last_bin_is_closed_and_outside_is_left_out():
    x = np.array([[0.0, 1.0, 2.0, 2.0001, -0.1]])
    rec = simulation.recording(np.ones((1, 5, 1)), x, x)
    maps = rate_maps(rec, by="x", bins=[0, 1, 2])
    np.testing.assert_array_equal(maps.occupancy, [1, 2])
    equal = rate_maps(rec, by=["x"], bins=4)
    assert equal.occupancy.sum() == 5
    np.testing.assert_allclose(equal.x_edges, np.linspace(-0.1, 2.0001, 5))


def test_unvisited_is_nan_with_occupancy_0_and_no_warning():
    rec = simulation.recording(np.ones((1, 2, 1)), np.array([[0, 2]]), np.array([[0, 2]]))
    maps = rate_maps(rec)
    np.testing.assert_array_equal(np.isnan(maps.rate[0]), 1 - np.eye(3)[:, [0, 1, 2]] * [1, 0, 1])
    assert maps.occupancy.values[1, 1] == 0


@pytest.mark.parametrize("where", ["attrs", "provenance", "nested"])
def test_side_of_the_world_sets_the_grid(where):
    rec = simulation.recording(np.ones((1, 2, 1)), np.array([[1, 2]]), np.array([[2, 2]]))
    if where == "attrs":
        rec.attrs["side"] = 5
    else:
        info = {"side": 5} if where == "provenance" else {"world": {"side": 5}}
        rec.attrs["provenance"] = json.dumps(info)
    assert rate_maps(rec).rate.shape == (1, 5, 5)
    rec["x"] = rec.x + 4
    with pytest.raises(ValueError, match=r"0\.\.4 for a world of 5 places"):
        rate_maps(rec)


def test_a_position_of_nan_drops_that_sample_alone():
    rec = simulation.walks(RNG(3))
    x = rec.x.values.astype(float)
    x[0, 5] = np.nan
    holed = rec.assign_coords(x=(("walk", "time"), x))
    maps = rate_maps(holed)
    assert maps.occupancy.sum() == x.size - 1
    np.testing.assert_allclose(maps.rate, naive(holed), rtol=1e-5, atol=1e-6)


def test_values_that_are_not_finite_are_refused_by_unit_and_number():
    rec = simulation.walks(RNG(4))
    rec.activation[0, 3, 1] = np.nan
    rec.activation[1, 3, 1] = np.inf
    rec.activation[2, 3, 4] = -np.inf
    with pytest.raises(ValueError, match=r"3 values of 2 units .*ffn\.1/1, ffn\.0/4.*skipna=True"):
        rate_maps(rec)


def test_skipna_leaves_out_the_values_of_that_unit_alone():
    rec = simulation.walks(RNG(4), dtype=np.float64)
    rec.activation[0, :400, 1] = np.nan
    rec.activation[0, 500, 1] = -np.inf
    maps = rate_maps(rec, skipna=True)
    others = [0, 2, 3, 4]
    np.testing.assert_allclose(maps.rate[others], naive(rec)[others], rtol=1e-9)
    good = np.isfinite(rec.activation.values[..., 1])
    only = stats.binned_statistic_2d(
        rec.y.values[good], rec.x.values[good], rec.activation.values[..., 1][good],
        bins=[np.arange(12) - 0.5] * 2,
    )  # fmt: skip
    np.testing.assert_allclose(maps.rate[1], only.statistic, rtol=1e-9)
    thin = rate_maps(rec, skipna=True, min_occupancy=14)
    assert thin.rate[1].isnull().sum() > thin.rate[0].isnull().sum()


def test_maps_apart_are_the_maps_of_each_walk():
    rec = simulation.walks(RNG(5)).assign_coords(familiar=("walk", [True, False, True]))
    apart = rate_maps(rec, per_map=True)
    schema.check_rate_maps(apart)
    assert apart.rate.dims == ("map", "unit", "y", "x")
    assert apart.occupancy.dims == ("map", "y", "x")
    assert list(apart.familiar.values) == [True, False]
    for number in (0, 1):
        alone = rate_maps(rec.isel(walk=np.flatnonzero(rec["map"] == number)), bins=None)
        np.testing.assert_array_equal(apart.rate.sel(map=number), alone.rate)
    pooled = (apart.rate * apart.occupancy).sum("map") / apart.occupancy.sum("map")
    np.testing.assert_allclose(rate_maps(rec).rate, pooled.transpose("unit", "y", "x"), atol=1e-6)


def test_min_occupancy_hides_thin_places_but_not_their_count():
    rec = simulation.walks(RNG(6))
    maps = rate_maps(rec, min_occupancy=18)
    thin = (maps.occupancy < 18).values
    assert 0 < thin.sum() < thin.size
    np.testing.assert_array_equal(np.isnan(maps.rate[0]), thin)
    np.testing.assert_array_equal(maps.occupancy, rate_maps(rec).occupancy)


@pytest.mark.parametrize("smooth", [0.7, (2.0, 0.5), {"x": 3.0}])
def test_smoothing_leaves_a_constant_map_constant_up_to_the_borders(smooth):
    rec = simulation.walks(RNG(7), n_steps=120)
    rec["activation"] = xr.full_like(rec.activation, -2.5)
    rate = rate_maps(rec, smooth=smooth).rate
    np.testing.assert_allclose(rate.values[~np.isnan(rate)], -2.5, rtol=1e-12)
    np.testing.assert_array_equal(rate.isnull(), rate_maps(rec).rate.isnull())


def test_smoothing_spreads_in_bins_along_the_axis_asked_for():
    y, x = np.mgrid[:1, :21].reshape(2, 1, -1)
    rec = simulation.recording((x == 10).astype(float)[..., None], x, y)
    rate = rate_maps(rec, smooth={"x": 1.5}).rate.values[0, 0]
    want = np.exp(-((np.arange(21) - 10.0) ** 2) / (2 * 1.5**2))
    np.testing.assert_allclose(rate[5:16], (want / want.sum())[5:16], rtol=1e-3)


def test_order_of_dims_views_and_dask_change_nothing():
    rec = simulation.walks(RNG(8), n_steps=500)
    want = rate_maps(rec).rate
    others = {
        "transposed": rec.transpose("unit", "time", "walk"),
        "view": xr.concat([rec, rec], "time").isel(time=slice(500, None)),
        "dask": rec.chunk(walk=2, time=170, unit=2),
    }
    for name, other in others.items():
        np.testing.assert_allclose(rate_maps(other).rate, want, atol=1e-6, err_msg=name)
    holed = rec.chunk(time=100)
    holed["activation"] = holed.activation.where(holed.activation < 2)
    assert rate_maps(holed, skipna=True).rate.isnull().sum() == 0


def test_float32_sums_stay_exact_at_length():
    n = 400_000
    x = np.zeros((1, n), int)
    activation = np.full((1, n, 1), 0.1, np.float32)
    rate = rate_maps(simulation.recording(activation, x, x)).rate
    assert abs(float(rate.item()) / float(np.float32(0.1)) - 1) < 1e-7


def test_threads_and_blocks_do_not_change_the_sums(monkeypatch):
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", 4096)
    rng = RNG(9)
    values = rng.standard_normal((2, 3000, 16)).astype(np.float32)
    index = rng.integers(-1, 50, (2, 3000))
    one, many = (_kernels.bin_sums(values, [index], [50], threads=n)[0] for n in (1, 3))
    np.testing.assert_array_equal(one, many)
    want = np.stack([values[index == k].sum(0, dtype=float) for k in range(50)])
    np.testing.assert_allclose(one, want, atol=1e-4)


def test_a_sample_can_count_in_several_bins():
    rng = RNG(10)
    values = rng.standard_normal((2, 60, 3))
    index = rng.integers(-1, 4, (5, 2, 60))
    offset = np.where(index < 0, -1, index + 4 * np.arange(5)[:, None, None])
    (sums,) = _kernels.bin_sums(values, [offset], [20])
    apart = [_kernels.bin_sums(values, [one], [4])[0] for one in index]
    np.testing.assert_allclose(sums, np.concatenate(apart))


def test_round_trips_through_netcdf(tmp_path):
    maps = rate_maps(simulation.walks(RNG(11)), per_map=True, smooth=1.0)
    maps.to_netcdf(tmp_path / "maps.nc")
    with xr.open_dataset(tmp_path / "maps.nc") as back:
        xr.testing.assert_identical(maps, back.load())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": ("y", "z")}, "'z' is missing"),
        ({"by": ("y", "y")}, "each once"),
        ({"by": ("time",)}, "must not name"),
        ({"bins": 0}, ">= 1"),
        ({"bins": True}, "number of bins"),
        ({"bins": {"z": 3}}, "bins must map names in by"),
        ({"bins": [3, 3, 3]}, "one entry for each"),
        ({"bins": {"x": [2, 1]}}, "ascending"),
        ({"bins": {"x": [1]}}, "at least two"),
        ({"bins": 100_000}, "10,000,000"),
        ({"smooth": -1}, "0 or more"),
        ({"smooth": [1, 2, 3]}, "one number or 2"),
        ({"smooth": {"z": 1}}, "smooth must map names in by"),
        ({"min_occupancy": 0}, "at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        rate_maps(simulation.walks(RNG(12), n_steps=50), **options)


def test_places_that_are_no_whole_numbers_need_bins():
    rec = simulation.walks(RNG(13), n_steps=50)
    rec["x"] = rec.x + 0.25
    with pytest.raises(ValueError, match="bins=None needs whole numbers"):
        rate_maps(rec)
    rec["x"] = rec.x * np.nan
    with pytest.raises(ValueError, match="no finite value"):
        rate_maps(rec)
    assert binning.grid(rec, "y", [0, 5, 10]).shape == (2,)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.integers(-40, 40), min_size=1, max_size=60),
    edges=st.lists(st.integers(-80, 80), min_size=2, max_size=9, unique=True),
)
def test_whole_numbers_are_looked_up_where_others_are_searched(values, edges):
    axis = binning.Axis("x", np.sort(edges) / 2, {})
    for kind in (np.int8, np.int64):
        found = axis.index(np.array(values, kind))
        np.testing.assert_array_equal(found, axis.index(np.array(values, float)))
        hist = np.histogram(values, axis.edges)[0]
        np.testing.assert_array_equal(np.bincount(found[found >= 0], minlength=axis.n), hist)


def test_a_unit_that_is_nan_throughout_is_nan_and_alone():
    rec = simulation.walks(RNG(16), dtype=np.float64)
    want = rate_maps(rec, skipna=True).rate.values
    rec.activation[..., 2] = np.nan
    found = rate_maps(rec, skipna=True).rate.values
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(np.delete(found, 2, 0), np.delete(want, 2, 0))


def test_bins_can_be_those_of_other_maps():
    rec = simulation.walks(RNG(14))
    whole = rate_maps(rec, bins={"y": [0, 3, 7, 10], "x": 4})
    part = rate_maps(rec.isel(time=slice(30)), bins=whole)
    for edges in ("y_edges", "x_edges"):
        np.testing.assert_array_equal(part[edges], whole[edges])
    apart = rate_maps(rec, per_map=True, bins=whole)
    np.testing.assert_array_equal(apart.occupancy.sum("map"), whole.occupancy)
    moved = rec.assign_coords(x=rec.x + 100, y=rec.y)
    elsewhere = rate_maps(moved, bins=whole)
    assert elsewhere.rate.isnull().all()
    assert (elsewhere.occupancy == 0).all()
    with pytest.raises(ValueError, match=r"edges of \['y'\], got the edges \['x_edges'\]"):
        rate_maps(rec, bins=rate_maps(rec, by="x"))


def test_more_places_than_the_memory_holds_are_refused_with_their_gigabytes(monkeypatch):
    rec = simulation.walks(RNG(15), n_steps=50)
    with pytest.raises(
        ValueError, match=r"2,000,000 places, which for 900,000 units .* 57,600\.0 GB"
    ):
        places.refuse_too_large(2_000_000, 900_000)
    monkeypatch.setattr(places, "memory", lambda: 8 * 4 * 121 * 5 - 1.0)
    with pytest.raises(ValueError, match="121 places, which for 5 units"):
        rate_maps(rec)
    monkeypatch.setattr(places, "memory", lambda: 8 * 4 * 121 * 5.0)
    rate_maps(rec)


def test_memory_is_that_of_the_machine():
    assert 2**28 < places.memory() < 2**50


def test_per_map_needs_maps():
    with pytest.raises(ValueError, match="'map' is missing"):
        rate_maps(simulation.walks(RNG(0)).drop_vars("map"), per_map=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(-4, 4), shift=st.floats(-4, 4))
def test_order_of_samples_is_irrelevant_and_maps_are_linear(seed, scale, shift):
    rng = RNG(seed)
    rec = simulation.walks(rng, n_steps=90, n_units=2, dtype=np.float64)
    rate = rate_maps(rec).rate
    order = rng.permutation(90)
    np.testing.assert_allclose(rate_maps(rec.isel(time=order)).rate, rate, atol=1e-12)
    changed = rec.assign(activation=scale * rec.activation + shift)
    np.testing.assert_allclose(rate_maps(changed).rate, scale * rate + shift, atol=1e-12)


def test_a_trained_and_a_novel_map_of_one_number_are_never_merged():
    one, other = (
        xr.Dataset(
            {"activation": (("walk", "time", "unit"), np.ones((1, 4, 2)))},
            coords={
                "x": (("walk", "time"), [[0, 1, 0, 1]]),
                "y": (("walk", "time"), [[0, 0, 1, 1]]),
                "map": ("walk", [3]),
                "familiar": ("walk", [familiar]),
            },
        )
        for familiar in (True, False)
    )
    both = xr.concat([one, other], "walk")
    with pytest.raises(
        ValueError, match=r"3 occurs as a trained and as a novel map .*analyse them separately"
    ):
        rate_maps(both, per_map=True)
    with pytest.raises(ValueError, match="occurs as a trained and as a novel"):
        position_variance_explained(both)
    renumbered = xr.concat([one, other.assign_coords(map=("walk", [4]))], "walk")
    assert rate_maps(renumbered, per_map=True).sizes["map"] == 2


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint8, np.float32])
def test_places_in_small_numbers_fall_where_they_are(kind):
    low = 0 if kind == np.uint8 else -100
    values = np.arange(low, 101, 20).repeat(60).astype(kind)
    axis = binning.Axis("x", np.arange(low - 10, 120, 20.0), {})
    np.testing.assert_array_equal(axis.index(values), (values.astype(int) - low) // 20)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "activation"}, r"by must not name \['activation'\]"),
        ({"by": 0}, "by must name at least one coordinate, each once, got 0"),
        ({"by": ("x", 0)}, "by must name at least one"),
        ({"bins": {"x": ["a", "b"]}}, "bins of 'x' must be at least two finite ascending edges"),
        ({"bins": {"x": []}}, "bins of 'x' must be at least two finite ascending edges"),
        ({"smooth": "a"}, "smooth must be a number of bins, .* got 'a'"),
        ({"smooth": {"x": "a"}}, "smooth must be a number of bins"),
        ({"min_occupancy": "a"}, "min_occupancy must be a number, got 'a'"),
    ],
)
def test_options_of_another_type_are_refused_by_name(options, words):
    recording = from_arrays(np.ones((5, 1)), {"x": np.arange(5), "y": np.arange(5)})
    with pytest.raises(ValueError, match=words):
        rate_maps(recording, **options)


def test_bins_in_other_units_than_the_position_are_noticed():
    x = np.linspace(0, 100, 1001)  # cm
    recording = from_arrays(np.ones((1001, 1)), {"x": x, "y": 50 + 0 * x})
    metres = np.linspace(0, 1, 11)
    with pytest.raises(
        ValueError, match=r"'x' lies in 0 to 100 and its bins in 0 to 1; pass other"
    ):
        rate_maps(recording, bins={"x": metres, "y": metres})
    with pytest.warns(UserWarning, match="bins hold 11 of the 1,001 samples .* the same units"):
        maps = rate_maps(recording, by="x", bins={"x": metres})
    assert maps.occupancy.sum() == 11
    here = recording.assign_coords(x=recording.x.where(recording.x < 1.05))
    assert rate_maps(here, by="x", bins={"x": metres}).occupancy.sum() == 11  # all that is known


def test_bins_that_are_an_array_without_axes_are_refused_by_name():
    recording = from_arrays(np.ones((9, 1)), {"x": np.arange(9)})
    with pytest.raises(ValueError, match=r"bins of 'x' must be None, a number .*, got array\(4\)"):
        rate_maps(recording, by="x", bins=np.array(4))
