"""What no figure can be drawn of is refused by name, before a figure is opened."""

import matplotlib.pyplot as plt
import pytest
import xarray as xr

import placeformer as pf

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
