"""Equivalent Mg²⁺ of a whole curve: that of each of its lesions alone, and nothing else."""

import json

import numpy as np
import pytest
import xarray as xr
from helpers.networks import network

from placeformer.data.schema import PROVENANCE, read_provenance
from placeformer.interventions.ablation_curve import ablation_curve
from placeformer.interventions.equivalent_alpha import equivalent_alpha, equivalent_curve
from placeformer.interventions.magnesium import dose_response
from placeformer.models.transformer import ModelConfig
from placeformer.recording.record import record

N_UNITS = 24
ALPHAS = [1.0, 4.0, 0.0, 0.25, 16.0]
FRACTIONS = [0, 0.25, 1]
WALKS = {"n_walks": 6, "n_steps": 24, "seed": 2, "progress": False}
ORDER = np.arange(N_UNITS)[::-1]


@pytest.fixture(scope="module")
def model():
    return network(ModelConfig(10, 16, 2, 2, 8, N_UNITS, 8, 4, 4, 0.0, "nmda", 4.0))


@pytest.fixture(scope="module")
def reference(model):
    size = {"n_walks": 6, "n_steps": 40, "maps": range(3), "seed": 5, "progress": False}
    return [record(model, layers=layers, **size) for layers in ("ffn.*", "content.ffn.*")]


@pytest.fixture(scope="module")
def curve(model, reference):
    return ablation_curve(
        model, ORDER, layers="ffn.1", fractions=FRACTIONS, repeats=2, caliper=np.inf,
        controls=["random", "matched"], reference=reference, n_resamples=50, **WALKS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def washout(model):
    return dose_response(model, alphas=ALPHAS, **WALKS)


def of_another(curve):
    """The curve, which says that it is of another network."""
    steps = read_provenance(curve)
    steps["steps"][-1]["network"] |= {"name": "b", "alpha": 2.0}
    return curve.assign_attrs({PROVENANCE: json.dumps(steps)})


@pytest.mark.parametrize("memory", ["working", "reference"])
def test_it_is_the_equivalent_of_every_lesion_alone(model, reference, curve, washout, memory):
    found = equivalent_curve(washout, curve, memory=memory, n_resamples=50, seed=2)
    assert found["alpha"].dims == ("selection", "fraction")
    for i, n in enumerate(curve["n_units"].values):
        one = equivalent_alpha(
            model, {"ffn.1": np.arange(n)}, alphas=[0, 0.25, 1], reference=reference,
            memory=memory, n_resamples=50, **WALKS,
        )  # fmt: skip
        here = found.isel(fraction=i).sel(selection="ordered")
        for name in ("alpha", "mg_mM", "interval", "found", "reason", "lesion_error"):
            np.testing.assert_array_equal(here[name], one[name], err_msg=f"{name}, {n} units")


def test_there_is_none_where_there_is_no_set_and_none_is_written_into(curve, washout):
    before = curve.copy(deep=True), washout.copy(deep=True)
    found = equivalent_curve(washout, curve, n_resamples=10)
    gone = found.sel(selection="matched", fraction=1)
    assert np.isnan(gone["alpha"]) and gone["interval"].isnull().all() and gone["found"] == 0
    assert gone["reason"].item() == "there is no such lesion"
    for given, was in zip((curve, washout), before, strict=True):
        xr.testing.assert_identical(given, was)
    for name, values in found.data_vars.items():
        assert {"units", "long_name"} <= set(values.attrs), name


def test_doses_above_are_taken_where_none_is_below(model, curve):
    block = dose_response(model, alphas=[16, 4, 64], **WALKS)
    found = equivalent_curve(block, curve, n_resamples=10)["alpha"].values
    assert (found[np.isfinite(found)] >= 4).all()
    assert (found[:, 0] == 4).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, c: (w.drop_vars("wrong"), c), "washout must be a result of dose_response with"),
        (lambda w, c: (w, c.drop_vars("n")), "curve must be a result of ablation_curve with its"),
        (lambda w, c: (w.assign_attrs(seed=0), c), "on the same walks, got seed 0 and 2"),
        (
            lambda w, c: (w, c.assign_attrs(where="every_step")),
            "on the same walks, got where 'chunk_end' and 'every_step'",
        ),
        (lambda w, c: (w, c.assign_attrs(maps_walked="0")), "got maps_walked 'all' and '0'"),
        (lambda w, c: (w, c.assign(n=c["n"] + 1)), "the same predictions, got 60 and 84"),
        (
            lambda w, c: (w, of_another(c)),
            "of one network, got 'network', trained at α = 4, and 'b', trained at α = 2.0",
        ),
        (
            lambda w, c: (w.isel(model=[0, 2]), c),
            r"and include its α of training, got α \[0.0, 1.0\] of networks .* \[4.0\]",
        ),
    ],
)
def test_what_cannot_be_paired_is_refused(washout, curve, change, message):
    with pytest.raises(ValueError, match=message):
        equivalent_curve(*change(washout, curve))
