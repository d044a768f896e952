"""What no figure can be drawn of is refused by name, before a figure is opened."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import placeformer as pf
from placeformer.zoo.registry import results_folder

RESULTS = {
    "ablation": ("curve", "ablation_curve"),
    "activations": ("networks", "profile_networks"),
    "amnesia_curve": ("curve", "amnesia_curve"),
    "comparison": ("data", "memory_comparison"),
    "consolidation": ("course", "consolidation"),
    "dose_response": ("response", "dose_response"),
    "lesion_points": ("curve", "ablation_curve"),
    "memory": ("errors", "memory_errors"),
    "score_card": ("card", "score_card"),
    "specificity": ("result", "specificity"),
    "training": ("networks", "profile_networks"),
    "walk": ("recording", "record"),
}
"""Figure → name of its argument, and the function that computes it."""


@pytest.mark.parametrize("figure", RESULTS)
def test_what_is_no_result_of_the_function_is_refused(figure):
    argument, function = RESULTS[figure]
    draw, before = getattr(pf.plot, figure), plt.get_fignums()
    for wrong in ("nmda-a10", None, 3):
        with pytest.raises(TypeError, match=f"{argument} must be an xarray.Dataset, got") as error:
            draw(wrong)
        assert f"compute it with placeformer.{function}" in str(error.value)
        assert hasattr(pf, function)
    with pytest.raises(ValueError, match=f"{argument} must .*got a Dataset without"):
        draw(xr.Dataset({"a": 1}))
    assert plt.get_fignums() == before


@pytest.mark.parametrize("figure", ["dose_response", "lesion_points", "memory"])
def test_several_results_are_named_in_the_error(figure):
    argument, _ = RESULTS[figure]
    with pytest.raises(
        TypeError, match=rf"{argument}\['first'\] must be an xarray.Dataset, got in"
    ):
        getattr(pf.plot, figure)({"first": 3})
    with pytest.raises(ValueError, match=f"{argument} must hold at least one result of placef"):
        getattr(pf.plot, figure)({})


def test_arrays_are_asked_for_where_they_are_drawn():
    with pytest.raises(TypeError, match="values must be a mapping of labels .* got list"):
        pf.plot.distribution([1, 2])
    with pytest.raises(TypeError, match="r must be an xarray.DataArray, got str"):
        pf.plot.autocorrelogram("maps")


@pytest.fixture(scope="module")
def stored():
    folder = results_folder()
    return {
        "ablation": xr.load_dataset(folder / "nmda-a10-lesions.nc"),
        "lesion_points": xr.load_dataset(folder / "nmda-a10-lesions.nc"),
        "dose_response": xr.load_dataset(folder / "nmda-a10-washout.nc"),
    }


@pytest.mark.parametrize("figure", ["ablation", "lesion_points", "dose_response"])
@pytest.mark.parametrize("argument", ["memory", "maps"])
def test_a_choice_that_the_result_has_not_is_refused_by_name(stored, figure, argument):
    before = plt.get_fignums()
    with pytest.raises(ValueError, match=f"{argument} must be one of .*, got 'episodic'"):
        getattr(pf.plot, figure)(stored[figure], **{argument: "episodic"})
    assert plt.get_fignums() == before


@pytest.mark.parametrize("limits", [5, (1,), (3, 1), (np.nan, 1), ("a", "b")])
def test_limits_are_a_minimum_and_a_maximum(limits):
    maps = pf.maps_from_arrays(np.arange(16.0).reshape(1, 4, 4))
    before = plt.get_fignums()
    for draw in (pf.plot.rate_maps, pf.plot.gallery):
        with pytest.raises(ValueError, match="limits must be two finite numbers, the minimum"):
            draw(maps, limits=limits)
    assert plt.get_fignums() == before


def test_what_is_no_axes_is_refused():
    maps = pf.maps_from_arrays(np.arange(16.0).reshape(1, 4, 4))
    with pytest.raises(TypeError, match="ax must be matplotlib Axes, .* got Figure"):
        pf.plot.rate_maps(maps, ax=Figure())
    with pytest.raises(ValueError, match="values must hold the values of at least one group"):
        pf.plot.distribution({})


def test_a_walk_whose_tracking_was_lost_is_drawn_where_it_is_known():
    x = np.array([[np.nan, 0, 1, np.nan, 2, 3]])
    walk = pf.from_arrays(np.zeros((1, 6, 1)), {"x": x, "y": x[:, ::-1]})
    ax = Figure().add_subplot()
    pf.plot.walk(walk, ax=ax)
    path, start = (line.get_xydata() for line in ax.lines[:2])
    np.testing.assert_array_equal(path[:, 0], x[0])
    np.testing.assert_array_equal(start, [[0, 2]])  # the first place that is known
    with pytest.raises(ValueError, match="walk must have positions"):
        pf.plot.walk(walk.assign_coords(x=walk.x * np.nan), ax=ax)
