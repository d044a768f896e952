"""Rate maps made elsewhere: every measure runs on them, and parts of maps have their edges."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import placeformer as pf
from placeformer.data.maps import maps_from_arrays
from placeformer.evaluation.simulation import walks

RNG = np.random.default_rng(0)
EDGES = {"y": np.linspace(0, 80, 9), "x": np.linspace(0, 100, 11)}
RATE = RNG.random((3, 8, 10)) * 10
SECONDS = RNG.integers(0, 9, (8, 10)) / 2

MEASURES = {
    "spatial_information": pf.spatial_information,
    "sparsity": pf.sparsity,
    "selectivity": pf.selectivity,
    "coherence": pf.coherence,
    "border_score": pf.border_score,
    "place_cell_score": pf.place_cell_score,
    "place_fields": lambda maps: pf.place_fields(maps).n_fields,
}


@pytest.mark.parametrize("name", MEASURES)
def test_measures_are_those_of_the_maps_of_a_recording(name):
    want = pf.rate_maps(walks(RNG, n_walks=1), by=("y", "x"))
    got = maps_from_arrays(
        want.rate.values, want.occupancy.values, [want.y_edges.values, want.x_edges.values]
    )
    np.testing.assert_allclose(MEASURES[name](got).values, MEASURES[name](want).values)


def test_maps_are_labelled():
    maps = maps_from_arrays(RATE, SECONDS, EDGES, units="Hz", position_units="cm", layer="mec")
    assert maps.rate.dims == ("unit", "y", "x")
    np.testing.assert_array_equal(maps.x, np.arange(5, 100, 10))
    assert (maps.rate.units, maps.occupancy.units, maps.x.units) == ("Hz", "s", "cm")
    assert set(maps.layer.values) == {"mec"}
    np.testing.assert_array_equal(np.isnan(maps.rate).all("unit"), SECONDS == 0)
    assert pf.spatial_information(maps, per="second").units == "bit/s"


def test_without_occupancy_all_places_with_a_rate_count_alike():
    holes = np.where(SECONDS == 0, np.nan, RATE)
    plain = maps_from_arrays(holes)
    np.testing.assert_array_equal(plain.occupancy, SECONDS > 0)
    masked = maps_from_arrays(np.ma.masked_invalid(holes), (SECONDS > 0) * 7.0)
    for function in (pf.spatial_information, pf.sparsity):
        np.testing.assert_allclose(function(plain), function(masked))
    np.testing.assert_array_equal(plain.x_edges, np.arange(11) - 0.5)


def test_axes_and_leading_dimensions():
    assert maps_from_arrays(RATE[0]).sizes["unit"] == 1
    track = maps_from_arrays(RATE[:, 0], by="x", edges=EDGES["x"])
    assert track.rate.dims == ("unit", "x")
    several = maps_from_arrays(np.stack([RATE, RATE + 1]), SECONDS, EDGES)
    assert several.rate.dims == ("map", "unit", "y", "x")
    assert pf.spatial_information(several).dims == ("map", "unit")
    turned = xr.DataArray(RATE, dims=("unit", "y", "x")).transpose("x", "unit", "y")
    xr.testing.assert_equal(maps_from_arrays(turned, SECONDS), maps_from_arrays(RATE, SECONDS))
    square = maps_from_arrays(RNG.random((2, 8, 8)), edges=EDGES["y"])
    np.testing.assert_array_equal(square.x_edges, EDGES["y"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((RATE[0, 0],), r"rate must be \(unit, y, x\).* got shape \(10,\)"),
        ((np.where(RATE > 9, np.inf, RATE),), "rate must be finite, or NaN where unvisited"),
        ((RATE, SECONDS.T), r"occupancy must be \(y, x\) = \(8, 10\).* got \(10, 8\)"),
        ((RATE, SECONDS - 1), "occupancy must be finite and at least 0, got -1 to 3"),
        ((RATE, None, 10), "edges must be ascending numbers, one more than bins.* got 10"),
        ((RATE, None, {"x": EDGES["x"]}), r"edges must hold one array for each of .* got \['x'\]"),
        ((RATE, None, EDGES["x"]), "edges of 'y' must be 9 finite ascending numbers for 8 bins"),
        ((xr.DataArray(RATE, dims=("unit", "row", "x")),), "a DataArray, must have dims among"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        maps_from_arrays(*arguments)


def test_labels_of_named_maps_are_kept_or_refused():
    """Maps as pynapple returns them have the fields of the same maps with edges."""
    edges = np.linspace(0, 100, 21)
    centres = (edges[:-1] + edges[1:]) / 2
    rate = np.exp(-((centres - 62) ** 2) / 50)[None]
    named = xr.DataArray(rate, {"unit": [7], "x": centres.astype("f4")}, dims=("unit", "x"))
    got = maps_from_arrays(named, by="x")
    assert (got.unit.item(), got.unit_id.item()) == ("7", 7)
    np.testing.assert_allclose(got.x_edges, edges, atol=1e-4)
    xr.testing.assert_equal(
        maps_from_arrays(named, edges=edges, by="x").drop_vars(["unit", "unit_id"]),
        maps_from_arrays(rate, edges=edges, by="x").drop_vars("unit"),
    )
    several = named.expand_dims(map=[3, 5])
    assert maps_from_arrays(several, by="x")["map"].values.tolist() == [3, 5]
    numbered = named.assign_coords(x=np.arange(20))
    np.testing.assert_array_equal(maps_from_arrays(numbered, edges=edges, by="x").x, centres)
    for wrong, options, message in (
        (named[:, ::-1], {}, "must have equidistant ascending labels of 'x'"),
        (named[:, [0, 1, 3]], {}, "must have equidistant ascending labels of 'x'"),
        (named[:, ::-1], {"edges": edges}, "edges of 'x' must fit the labels of rate"),
        (named, {"occupancy": named[0, ::-1]}, "occupancy and rate must have the same labels"),
    ):
        with pytest.raises(ValueError, match=message):
            maps_from_arrays(wrong, by="x", **options)


def test_named_maps_state_their_units():
    named = xr.DataArray(RATE, {"x": np.arange(10.0)}, ("unit", "y", "x"), attrs={"units": "Hz"})
    named["x"].attrs["units"] = "cm"
    samples = xr.DataArray(SECONDS, dims=("y", "x"), attrs={"units": "samples"})
    variables = ("rate", "occupancy", "x", "x_edges", "y")
    for options, units in (
        ({}, ["Hz", "samples", "cm", "cm", "1"]),
        ({"units": "V", "occupancy_units": "s", "position_units": "m"}, ["V", "s", *"mmm"]),
    ):
        got = maps_from_arrays(named, samples, **options)
        assert [got[name].units for name in variables] == units


def test_a_part_of_maps_has_its_own_edges():
    maps = maps_from_arrays(RATE, SECONDS + 1, EDGES)
    alone = maps_from_arrays(
        RATE[:, :, 3:8], SECONDS[:, 3:8] + 1, {"y": EDGES["y"], "x": EDGES["x"][3:9]}
    )
    for part in (maps.isel(x=slice(3, 8)), maps.sel(x=slice(30, 80))):
        np.testing.assert_allclose(pf.border_score(part), pf.border_score(alone))
        xr.testing.assert_identical(
            pf.population_vector_correlation(part, alone),
            pf.population_vector_correlation(alone, alone),
        )
    for scattered in (maps.isel(x=[0, 2, 5]), maps.isel(x=slice(None, None, -1))):
        with pytest.raises(ValueError, match="'x' must be neighbouring bins of 'x_edges'"):
            pf.border_score(scattered)
    recording = walks(RNG).assign_coords(x=lambda r: r.x * 8.0, y=lambda r: r.y * 7.0)
    again = pf.rate_maps(recording, bins=maps.isel(x=slice(3, 8)))
    np.testing.assert_array_equal(again.x_edges, EDGES["x"][3:9])


def test_the_grid_cells_of_a_published_set():
    path = Path(__file__).parents[3] / "shared" / "real" / "grid_cells_29.npz"
    if not path.is_file():
        pytest.skip("the recordings are not there")
    cells = np.load(path)
    score = pf.grid_score(maps_from_arrays(cells["rate"], units="Hz")).values
    assert np.corrcoef(score, cells["opexebo"])[0, 1] > 0.97
    np.testing.assert_allclose(score, cells["placeformer"], atol=1e-6)


def test_names_of_maps_are_kept():
    rate = xr.DataArray(RATE[None].repeat(2, 0), dims=("map", "unit", "y", "x"))
    named = maps_from_arrays(rate.assign_coords(map=["linear", "box"]))
    assert named["map"].values.tolist() == ["linear", "box"]
    assert maps_from_arrays(rate)["map"].values.tolist() == [0, 1]


def test_edges_may_be_a_series_with_any_index():
    edges = pd.Series(np.arange(5.0), index=np.arange(3, 8))
    maps = maps_from_arrays(RATE[:, 0, :4], edges=edges, by="x")
    assert maps.x.values.tolist() == [0.5, 1.5, 2.5, 3.5]
