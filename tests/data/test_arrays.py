"""Arrays made elsewhere: labelled without a copy, refused with both lengths."""

import dask.array
import numpy as np
import pytest
import xarray as xr

from placeformer.data.arrays import as_walks, from_arrays
from placeformer.data.schema import check_recording, read_provenance
from placeformer.spatial.rate_maps import rate_maps

RNG = np.random.default_rng(0)
ACTIVATION = RNG.standard_normal((3, 50, 4)).astype(np.float32)
PLACE = {"x": RNG.random((3, 50)), "y": RNG.random((3, 50))}


def test_arrays_are_labelled_without_a_copy():
    got = from_arrays(ACTIVATION, PLACE, units="Hz", position_units="m")
    check_recording(got, need=("x", "y"))
    assert np.shares_memory(got.activation.values, ACTIVATION)
    assert got.activation.units == "Hz"
    assert got.x.units == "m"
    assert got.time.units == "1"
    np.testing.assert_array_equal(got.y, PLACE["y"])
    assert got["index"].values.tolist() == [0, 1, 2, 3]
    assert "layer" not in got.coords
    assert read_provenance(got)["steps"][0]["step"] == "from_arrays"


def test_one_walk_needs_no_walk_axis():
    flat = from_arrays(ACTIVATION[0], {k: v[0] for k, v in PLACE.items()}, sample_rate=50)
    xr.testing.assert_equal(
        flat, from_arrays(ACTIVATION[:1], {k: v[:1] for k, v in PLACE.items()}, sample_rate=50)
    )
    assert flat.attrs["sample_rate"] == 50
    np.testing.assert_allclose(flat.time, np.arange(50) / 50)
    assert flat.time.units == "s"
    assert rate_maps(flat, bins=3).sizes == {"unit": 4, "y": 3, "x": 3, "y_edges": 4, "x_edges": 4}


def test_layers_number_their_own_units():
    got = from_arrays(ACTIVATION, PLACE, layer=["ca1.a", "ca3", "ca1.a", "ca3"])
    assert got["index"].values.tolist() == [0, 0, 1, 1]
    assert got.component.values.tolist() == ["ca1", "ca3", "ca1", "ca3"]
    assert set(from_arrays(ACTIVATION, PLACE, layer="ca1").layer.values) == {"ca1"}


def test_behaviour_finds_its_dimensions():
    got = from_arrays(
        ACTIVATION,
        {"angle": PLACE["x"]},
        behaviour={
            "map": np.arange(3),
            "speed": PLACE["y"],
            "animal": list("abc"),
            "window": [2] * 50,
        },
    )
    assert got["map"].dims == got.animal.dims == ("walk",)
    assert got.speed.dims == ("walk", "time")
    assert got.window.dims == ("time",)
    assert {"angle", "map", "window"} <= set(got.coords)
    assert {"speed", "animal"} <= set(got.data_vars)


def test_labelled_arrays_keep_their_order_and_attributes():
    turned = xr.DataArray(PLACE["x"].T, dims=("time", "walk"), attrs={"long_name": "east"})
    got = from_arrays(ACTIVATION, {"x": turned, "y": PLACE["y"]})
    np.testing.assert_array_equal(got.x, PLACE["x"])
    assert got.x.long_name == "east"


def test_dask_arrays_stay_lazy():
    lazy = dask.array.from_array(ACTIVATION, chunks=(1, 50, 4))
    got = from_arrays(lazy, PLACE)
    assert got.activation.chunks is not None
    np.testing.assert_array_equal(got.activation, ACTIVATION)


@pytest.mark.parametrize(
    ("activation", "position", "options", "message"),
    [
        (
            ACTIVATION[:, :49],
            PLACE,
            {},
            r"position\['x'\].* got \(3, 50\); activation has 3 wa",
        ),
        (
            ACTIVATION,
            {"x": PLACE["x"][0]},
            {},
            r"position\['x'\].* got \(50,\); activation has",
        ),
        (ACTIVATION[0, 0], PLACE, {}, r"activation must be \(walk, time, unit\).* got \(4,\)"),
        (ACTIVATION, PLACE, {"behaviour": {"map": [1, 2]}}, r"behaviour\['map'\].* got \(2,\)"),
        (
            ACTIVATION,
            PLACE,
            {"sample_rate": 0},
            "sample_rate must be a positive number of Hz, got 0",
        ),
        (ACTIVATION, PLACE, {"layer": ["a"]}, r"layer must name each of 4 units"),
        (ACTIVATION.astype(str), PLACE, {"check_finite": False}, "must hold real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(activation, position, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(activation, position, **options)


def test_values_that_are_not_finite_name_their_unit():
    broken = ACTIVATION.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 values of 1 units are NaN.*units ca1/3"):
        from_arrays(broken, PLACE, layer="ca1")
    assert np.isnan(from_arrays(broken, PLACE, check_finite=False).activation).sum() == 1


def test_behaviour_as_walks():
    got = as_walks({"x": PLACE["x"][0], "speed": PLACE["y"][0]}, "walks")
    assert got.sizes == {"walk": 1, "time": 50}
    assert set(got.coords) == {"x", "time"}
    one = got.isel(walk=0).assign_coords(map=3)
    again = as_walks(one, "walks")
    assert again["map"].values.tolist() == [3]
    xr.testing.assert_equal(again.drop_vars("map"), got)
    with pytest.raises(ValueError, match="walks must have dimension 'time'"):
        as_walks(xr.Dataset({"x": ("step", [1, 2])}), "walks")
    with pytest.raises(ValueError, match=r"walks\['y'\].* got \(49,\); walks\['x'\] has 1 walks"):
        as_walks({"x": PLACE["x"][0], "y": PLACE["y"][0, :49]}, "walks")
    with pytest.raises(ValueError, match=r"walks must hold arrays"):
        as_walks({}, "walks")
