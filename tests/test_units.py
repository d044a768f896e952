"""Units of all results: what UDUNITS reads, and pint with it."""

import re

import numpy as np
import pytest
import xarray as xr
from helpers import measured
from helpers.networks import small_network

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.interventions import ablation_curve as curves

KNOWN = {"1", "m", "cm", "s", "Hz", "bit", "rad", "mM"}
"""Units of UDUNITS that results may have, also as quotients and squares."""

QUICK = {"progress": False}
SHUFFLED = QUICK | {"n_shuffles": 2}
WALKS = QUICK | {"n_walks": 4, "n_steps": 40}
RESAMPLED = {"n_resamples": 20}


def readable(units):
    """Whether every factor is a known unit: "Hz", "bit/s", "(Hz)^2"."""
    factors = re.split(r"/", re.sub(r"^\((.+)\)\^2$", r"\1", units))
    return all(factor in KNOWN for factor in factors)


def recorded(**labels):
    """Two maps, several walks, signed activations, an observation at every place."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 8, 300))
    letters = np.add.outer(np.arange(5), 2 * np.arange(5)) % 4
    values = rng.normal(size=(8, 300, 4)) + np.stack([x, y, x + y, x * y], -1)
    behaviour = {"map": np.repeat([0, 1], 4), "observation": letters[y, x]}
    return pf.from_arrays(values, {"x": x, "y": y}, behaviour=behaviour, **labels)


def analyses(**labels):
    recording = recorded(**labels)
    one = recording.isel(walk=slice(0, 4))
    maps = [pf.rate_maps(recording.isel(walk=part)) for part in (slice(0, 4), slice(4, 8))]
    fields = pf.place_fields(maps[0])
    yield from (recording, pf.rate_maps(recording, per_map=True), *maps, fields)
    yield from (measure(maps[0], negatives="shift") for measure in (
        pf.sparsity, pf.selectivity, pf.place_cell_score, pf.border_score,
    ))  # fmt: skip
    yield from (pf.spatial_information(maps[0], per=per) for per in ("spike", "second"))
    yield from (measure(maps[0]) for measure in (pf.coherence, pf.grid_score))
    yield from (pf.half_maps(one), pf.stability(one), pf.mutual_information(one))
    yield pf.position_variance_explained(one, given="observation")
    yield pf.shuffle_test(one, keep_null=True, **SHUFFLED)
    yield pf.place_cells(one, keep_null=True, max_q=1, **SHUFFLED)
    yield pf.decode_position(one, **RESAMPLED, **QUICK)
    yield pf.decode_map(recording, **RESAMPLED, **QUICK)
    yield from (pf.dimensionality(one, standardize=scaled) for scaled in (False, True))
    yield pf.similarity(*maps, **SHUFFLED)
    yield from (pf.remapping(*maps), pf.population_vector_correlation(*maps, cross=True))


def networks():
    model = small_network(activation="nmda", alpha=2.0)
    recording = pf.record(model, n_walks=2, n_steps=40, progress=False)
    yield from (recording, pf.rate_maps(recording), model.world.walk(2, 8, seed=0))
    yield pf.memory_errors(model, **WALKS)
    yield pf.dose_response(model, alphas=[0, 2], **WALKS)
    yield pf.dose_response(model, metric=lambda model: 1.0, **WALKS)
    yield pf.ablation_curve(model, "activity", repeats=2, **WALKS, **RESAMPLED)
    yield pf.equivalent_alpha(model, {"ffn.1": [0, 1]}, **WALKS, **RESAMPLED)
    dose = np.repeat([0.0, 1, 2, 4, 8, 16], 2)
    response = xr.DataArray(dose / (2 + dose), dims="model", coords={"alpha": ("model", dose)})
    yield pf.fit_hill(response)
    measures = measured.networks(), measured.doses(), measured.lesions()
    names = ["correlation", "correlation_interval", "correlation_p"]
    yield pf.memory_comparison(*measures, **RESAMPLED)[names]


def check(result):
    table = result if isinstance(result, xr.Dataset) else result.to_dataset(name="values")
    wrong = {
        name: values.attrs["units"]
        for name, values in table.variables.items()
        if not readable(values.attrs.get("units", "1"))
    }
    assert not wrong
    unnamed = [str(n) for n, v in table.data_vars.items() if "long_name" not in v.attrs]
    assert not unnamed


@pytest.mark.parametrize(
    "labels",
    [{}, {"units": "Hz", "position_units": "m", "sample_rate": 50}],
    ids=["of a network", "of an animal"],
)
@pytest.mark.filterwarnings("ignore:the median bin", "ignore:no circular", "ignore:no within")
def test_units_of_analyses_are_those_that_udunits_reads(labels):
    for result in analyses(**labels):
        check(result)


def test_units_of_what_is_measured_on_networks_are_those_that_udunits_reads(monkeypatch):
    monkeypatch.setattr(curves, "RECORDED_WALKS", 4)
    monkeypatch.setattr(curves, "RECORDED_STEPS", 40)
    for result in networks():
        check(result)


@pytest.mark.parametrize("units", ["a.u.", "grid steps", "bits/spike", "place", "samples"])
def test_what_udunits_does_not_read_is_refused(units):
    assert not readable(units)
    assert readable("bit/s") and readable("(Hz)^2")


def test_figures_still_say_what_dimensionless_values_are():
    maps = simulation.maps(np.ones((1, 3, 3)))
    ax = pf.plot.rate_maps(maps)
    assert ax.get_xlabel() == "x (grid steps)"
    assert ax.figure.axes[-1].get_ylabel() == "mean activation (a.u.)"
