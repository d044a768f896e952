"""Specificity: costs at matched doses in closed form, and comparisons that must be 0."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from helpers.networks import network
from torch import nn

from placeformer.evaluation.specificity import (
    Measured,
    at_levels,
    specificity,
    specificity_verdict,
)
from placeformer.interventions.perturbation import perturb
from placeformer.models.memory import memory_errors
from placeformer.models.transformer import ModelConfig
from placeformer.plot.lesions import specificity as draw

CONFIG = ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 4.0)
FEW = {"n_resamples": 20, "progress": False}


@pytest.fixture
def networks():
    """Two units, read out apart: what a gain costs each of them is known."""
    torch.manual_seed(0)
    nets = []
    for _ in range(3):
        net = nn.Sequential(nn.Linear(2, 2), nn.Identity())
        with torch.no_grad():
            net[0].weight.zero_()
            net[0].bias.fill_(1)
        nets.append(net)
    return nets


def lost(unit, power=1):
    return lambda net: (1 - net(torch.zeros(4, 2))[:, unit].detach().numpy()) ** power


BOTH = {"parameter": "gain", "units": "0", "doses": [0.75, 0.5, 0.25, 0]}
FIRST = {"parameter": "gain", "units": {"0": [0]}, "doses": [0.75, 0.5, 0.25, 0]}
MEASURES = {"first": lost(0), "second": lost(1), "square": lost(0, 2)}


def test_costs_at_a_matched_dose_have_their_closed_form(networks):
    got = specificity(
        networks, {"first unit": FIRST, "both": BOTH, "same": FIRST}, match="first",
        levels=[0.25, 0.6], scores=MEASURES, **FEW,
    )  # fmt: skip
    np.testing.assert_allclose(got.cost.sel(measure="first"), np.tile([0.25, 0.6], (3, 3, 1)))
    np.testing.assert_allclose(got.cost.sel(measure="second", perturbation="both"),
                               np.tile([0.25, 0.6], (3, 1)), rtol=1e-6)  # fmt: skip
    assert (got.cost.sel(measure="second", perturbation="first unit") == 0).all()
    between = 0.25 * 0.6 + 0.5625 * 0.4  # on the line from 0.5² to 0.75²
    np.testing.assert_allclose(got.cost.sel(measure="square"),
                               np.tile([0.0625, between], (3, 3, 1)), rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(got.matched_dose, np.tile([0.75, 0.4], (3, 3, 1)), rtol=1e-6)
    np.testing.assert_allclose(got.difference.sel(control="both", measure="second"), [-0.25, -0.6],
                               rtol=1e-6)  # fmt: skip
    assert (got.difference.sel(control="same") == 0).all()
    assert (got.verdict == "not tested").all(), "equal in all networks: no spread is known"
    assert got.dose.sel(perturbation="both").values.tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_a_verdict_is_over_seeds(networks):
    with torch.no_grad():
        for net, bias in zip(networks, (0.9, 1.0, 1.1), strict=True):
            net[0].bias[1] = bias
    got = specificity(
        networks, {"first unit": FIRST, "both": BOTH}, match="first", levels=[0.5],
        scores=MEASURES | {"second": lambda n: float(-n(torch.zeros(1, 2))[0, 1].detach())}, **FEW,
    )  # fmt: skip
    value = got.difference.sel(control="both", measure="second").item()
    assert value == pytest.approx(-0.5)
    low, high = got.difference_interval.sel(control="both", measure="second").values.ravel()
    half = 4.302653 * 0.05 / np.sqrt(3)
    assert (low, high) == pytest.approx((-0.5 - half, -0.5 + half), rel=1e-5)
    assert got.verdict.sel(control="both", measure="second").item() == "shown"
    swapped = specificity(
        networks, {"both": BOTH, "first unit": FIRST}, match="first", levels=[0.5],
        scores=MEASURES | {"second": lambda n: float(-n(torch.zeros(1, 2))[0, 1].detach())}, **FEW,
    )  # fmt: skip
    assert swapped.verdict.sel(measure="second").item() == "opposite"


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (["shown", "shown"], "shown"),
        (["shown", "not shown"], "not shown"),
        (["opposite", "not shown"], "opposite"),
        (["opposite", "shown"], "not shown"),
        (["shown", "not tested"], "not tested"),
    ],
)
def test_all_controls_must_agree(verdicts, word):
    labels = {"control": ["a", "b"], "measure": ["m"], "level": [0.5]}
    table = xr.DataArray(np.array(verdicts)[:, None, None], labels, tuple(labels))
    result = xr.Dataset({"verdict": table})
    assert specificity_verdict(result, measure="m", level=0.5) == word


def test_levels_that_are_not_reached_are_nan():
    curves = np.array([[0.0, 0.0], [0.1, 0.3], [0.2, 0.5]])
    cost, position = at_levels(curves, 0, np.array([0.15, 0.2, 0.3]))
    np.testing.assert_allclose(cost, [[0.15, 0.4], [0.2, 0.5], [np.nan, np.nan]])
    np.testing.assert_allclose(position, [1.5, 2, np.nan])


def test_costs_run_from_intact_to_the_ceiling():
    sums, n = np.array([[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]]), np.array([10.0, 10.0])
    np.testing.assert_allclose(Measured(sums, n, 0.9, "trained").cost(), [0, 0.5, 1])
    np.testing.assert_allclose(Measured(sums, n, np.nan, "score").cost(), [0, 0.4, 0.8])
    nothing_to_lose = Measured(sums + 7.2, n, 0.9, "trained").cost()
    assert np.isnan(nothing_to_lose).all()
    weights = np.array([[2.0, 0.0], [1.0, 1.0]])
    assert Measured(sums, n, 0.9, "trained").cost(weights).shape == (2, 3)


@pytest.fixture(scope="module")
def measured():
    models = [network(CONFIG, seed=seed) for seed in (0, 1)]
    perturbations = {
        "washout": {"parameter": "nmda", "doses": [1, 0]},
        "gain": {"parameter": "gain", "doses": [0.5, 0]},
    }
    walks = {"n_walks": 12, "n_steps": 32, "decoded_walks": 2, "decoded_steps": 24}
    with pytest.MonkeyPatch.context() as patch:  # untrained networks have little to lose
        patch.setattr("placeformer.evaluation.specificity.ROOM", -1)
        return models, specificity(models, perturbations, levels=[0.02], **walks, **FEW)


def test_errors_are_those_of_the_perturbed_network(measured):
    models, got = measured
    assert list(got.measure.values) == ["reference", "working", "working_novel", "decoding"]
    intact = memory_errors(models[1], n_walks=12, n_steps=32, progress=False).error
    with perturb(models[1], "ffn.*", "gain", 0.5):
        error = memory_errors(models[1], n_walks=12, n_steps=32, progress=False).error
    want = (error - intact) / (0.9 - intact)
    curve = got.curve.isel(model=1, step=1).sel(perturbation="gain")
    for memory in ("reference", "working"):
        assert curve.sel(measure=memory) == pytest.approx(float(want.sel(memory=memory)))
    assert (got.curve.isel(step=0) == 0).all()
    assert got.dose.sel(perturbation="washout").values.tolist() == [4, 1, 0]
    assert got.ceiling.values[:3].tolist() == [0.9] * 3
    assert got.interval.sizes["bound"] == 2


def test_it_is_stored_and_drawn(measured, tmp_path):
    _, got = measured
    got.to_netcdf(tmp_path / "s.nc")
    with xr.open_dataset(tmp_path / "s.nc") as back:
        xr.testing.assert_identical(back.load(), got)
    ax = draw(got, measure="decoding")
    assert ax.get_ylabel() == "cost: error of the decoded position"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["washout", "gain"]
    with pytest.raises(ValueError, match="measure must be one of working, working_novel"):
        draw(got, measure="reference")
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least one network"),
        ((None, {"a": BOTH}), "perturbations must map at least two"),
        ((None, {"a": BOTH, "b": {"how": "gain"}}), "perturbations\\['b'\\] must be a mapping"),
        ((None, {"a": BOTH, "b": {"parameter": "gian"}}), "parameter must be one of"),
        ((None, {"a": BOTH, "b": {"parameter": "gain", "units": "0"}}), "doses must be given"),
    ],
)
def test_wrong_arguments_are_named(networks, arguments, message):
    models = networks if arguments[0] is None else arguments[0]
    with pytest.raises(ValueError, match=message):
        specificity(models, *arguments[1:], scores=MEASURES, match="first", **FEW)


def test_what_is_missing_is_named(networks):
    pair = {"a": BOTH, "b": FIRST}
    with pytest.raises(ValueError, match="score must be a function"):
        specificity(networks, pair, **FEW)
    with pytest.raises(ValueError, match="match must be one of first, second, square"):
        specificity(networks, pair, scores=MEASURES, **FEW)
    with pytest.raises(ValueError, match="levels must be positive"):
        specificity(networks, pair, scores=MEASURES, match="first", levels=[0], **FEW)
    models = [network(CONFIG), network(ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 3.0))]
    with pytest.raises(ValueError, match="models must differ only in their seed"):
        specificity(models, {"w": {"parameter": "nmda", "doses": [0]}, "g": {"parameter": "gain",
                    "doses": [0.5]}}, n_walks=4, n_steps=16, decoding=None, **FEW)  # fmt: skip
