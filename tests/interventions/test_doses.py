"""Dose responses and equivalent doses of any parameter, for networks of any kind."""

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.networks import network
from torch import nn

from placeformer.interventions.ablation_curve import ablation_curve
from placeformer.interventions.doses import RANDOM, Parameter, run_score, run_scores
from placeformer.interventions.equivalent_alpha import equivalent_alpha, equivalent_dose
from placeformer.interventions.magnesium import dose_response
from placeformer.interventions.perturbation import perturb
from placeformer.models.activation import NMDA
from placeformer.models.memory import memory_errors
from placeformer.models.transformer import ModelConfig
from placeformer.recording.record import record
from placeformer.stats.hill import fit_hill

CONFIG = ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 4.0)
SMALL = {"n_walks": 6, "n_steps": 24, "progress": False}


@pytest.fixture(scope="module")
def model():
    return network(CONFIG)


@pytest.fixture
def own():
    """Network with two NMDA_α of one's own, and its cost on 30 trials."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 8), NMDA(5), nn.Linear(8, 8), NMDA(5), nn.Linear(8, 1))
    inputs = 3 * torch.randn(30, 3)
    with torch.no_grad():
        for layer in (net[0], net[2], net[4]):
            layer.weight.mul_(3)
        target = net(inputs)

    def cost(network):
        with torch.no_grad():
            return ((network(inputs) - target) ** 2)[:, 0].numpy()

    return net, inputs, cost


@pytest.mark.parametrize(
    ("parameter", "units", "doses"),
    [
        ("gain", None, [1, 0.5, 0]),
        ("gain", "attention.*", [1, 0.5]),
        ("noise", {"ffn.1": [1, 2, 3]}, [0, 2]),
        ("mean", "ffn.0", [0, 0.5, 1]),
        ("threshold", "ffn.1", [-np.inf, 0]),
        ("gain", "layers.1.ffn.fc2.weight", [1, 0.2]),
        (lambda values, dose: values + dose, "ffn.*", [0, 1]),
    ],
)
def test_every_dose_is_that_perturbation(model, parameter, units, doses):
    got = dose_response(model, parameter, doses, units=units, **SMALL)
    np.testing.assert_array_equal(got.dose, doses)
    for i, dose in enumerate(doses):
        with perturb(model, units or "ffn.*", parameter, dose):
            want = memory_errors(model, n_walks=6, n_steps=24, progress=False)
        np.testing.assert_allclose(got.error.isel(model=i).sel(maps="trained"), want.error)
        np.testing.assert_allclose(got.interval.isel(model=i).sel(maps="trained"), want.interval)
    assert got.trained_alpha.values.tolist() == [4] * len(doses)
    assert got.alpha.values.tolist() == [4] * len(doses)
    assert got.dose.attrs["long_name"]


def test_alpha_is_one_parameter_of_several(model):
    want = dose_response(model, alphas=[0, 4], **SMALL)
    xr.testing.assert_identical(dose_response(model, "nmda", [0, 4], **SMALL), want)


def test_random_units_are_nested_and_all_of_them_are_a_lesion(model):
    parameter = Parameter(RANDOM, "ffn.*", seed=3)
    masks = parameter.masks(model, [0, 0.25, 0.5, 1])
    joint = np.concatenate(list(masks.values()), 1)
    assert joint.sum(1).tolist() == [0, 6, 12, 24]
    assert (joint[1:] >= joint[:-1]).all()
    other = Parameter(RANDOM, "ffn.*", seed=4).masks(model, [0.5])
    assert (np.concatenate(list(other.values()), 1)[0] != joint[2]).any()
    got = dose_response(model, RANDOM, [0, 0.5, 1], seed=3, **SMALL)
    chosen = {layer: mask[2] for layer, mask in masks.items()}
    for i, units in ((1, chosen), (2, "ffn.*")):
        with perturb(model, units, "mean", seed=3):
            want = memory_errors(model, n_walks=6, n_steps=24, seed=3, progress=False)
        np.testing.assert_allclose(got.error.isel(model=i).sel(maps="trained"), want.error)
    intact = memory_errors(model, n_walks=6, n_steps=24, seed=3, progress=False)
    np.testing.assert_allclose(got.error.isel(model=0).sel(maps="trained"), intact.error)


def test_a_network_of_ones_own_has_doses_and_scores(own):
    net, inputs, cost = own
    got = dose_response(net, alphas=[5, 2, 0], score=cost, progress=False)
    assert got.value.values[0, 0] == 0 and (np.diff(got.value[:, 0]) > 0).all()
    assert (got.interval[1:, 0, 0] < got.value[1:, 0]).all()
    assert (got.interval[1:, 0, 1] > got.value[1:, 0]).all()
    assert got.name.values.tolist() == ["Sequential"] * 3
    assert got.trained_alpha.values.tolist() == [5] * 3
    gains = np.linspace(0, 1, 7)
    score = {"size": lambda n: float(n[0](inputs).detach().abs().sum()), "cost": cost}
    got = dose_response([net, net], "gain", gains, units="0", score=score, progress=False)
    size = got.value.sel(metric="size").values.reshape(2, 7)
    np.testing.assert_allclose(size, size[:, -1:] * gains, rtol=1e-5)
    assert got.interval.sel(metric="size").isnull().all(), "one number has no interval"
    fit = fit_hill(got.value.sel(metric="cost"), dose="dose")
    assert fit.n_points == 14
    assert (net[1].alpha, net[3].alpha) == (5, 5)


def test_a_score_that_trains_the_network_leaves_it_as_it_was(own):
    net, inputs, _ = own
    doses, before = [1, 0.5, 0.5, 1], {k: v.clone() for k, v in net.state_dict().items()}

    def train(network):
        with torch.inference_mode(mode=False), torch.enable_grad():
            first = network(inputs).square().mean()
            first.backward()
            torch.optim.SGD(network.parameters(), 0.01).step()
        network.extra = 1
        return float(first)

    for units in ("0", "0.weight"):
        got = dose_response(net, "gain", doses, units=units, score=train, progress=False)
        values = got.value.values[:, 0]
        np.testing.assert_array_equal(values[[0, 1]], values[[3, 2]])
        assert values[0] != values[1]
        assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())
        assert not hasattr(net, "extra") and all(p.grad is None for p in net.parameters())


def test_the_values_of_a_score_are_not_those_of_restored_weights(own):
    def score(network):
        network[0].weight.data.fill_(7)
        return network[0].weight.detach().numpy()[0]

    assert run_score("weight", score, own[0]).tolist() == [7, 7, 7]
    assert (own[0][0].weight != 7).all()


def test_equivalents_of_a_network_of_ones_own(own):
    net, _, cost = own
    lesion = {"1": [0, 3]}
    alphas = [0, *np.geomspace(1e-6, 5, 300)]
    got = equivalent_alpha(net, lesion, how="zero", alphas=alphas, score=cost, progress=False)
    assert got.lesion_error == pytest.approx(score_under(net, lesion, cost))
    assert got.reason == "", got
    with perturb(net, "nmda", dose=float(got.alpha)):
        assert cost(net).mean() == pytest.approx(float(got.lesion_error), rel=0.01)
    dose = equivalent_dose(
        net, {"3": [2]}, "zero", [0.2, 0.4, 0.6, 0.8, 1], units={"3": [2]}, how="zero",
        score=cost, progress=False,
    )  # fmt: skip
    assert dose.equivalent == pytest.approx(1), "the lesion is a share of 1 of itself"
    assert dose.interval.values.tolist() == pytest.approx([1, 1])


def score_under(net, lesion, cost):
    with perturb(net, lesion, "zero"):
        return float(cost(net).mean())


def test_the_equivalent_dose_of_a_gain_is_that_gain(model):
    options = {"n_walks": 6, "n_steps": 48, "where": "every_step", "progress": False}
    doses = [0.75, 0.5, 0.25, 0]
    got = equivalent_dose(model, {"ffn.1": slice(None)}, "gain", doses, units="ffn.1", how="zero",
                          **options)  # fmt: skip
    assert got.dose.values.tolist() == [1, *doses]
    assert got.lesion_error == got.error[-1], "a gain of 0 is the lesion by zeros"
    want = equivalent_alpha(model, {"ffn.1": [0, 1]}, alphas=[2, 1, 0], **options)
    same = equivalent_dose(model, {"ffn.1": [0, 1]}, "nmda", [2, 1, 0], **options)
    assert same.equivalent.equals(want.alpha)
    np.testing.assert_array_equal(same.interval, want.interval)


def test_an_ablation_curve_of_a_network_of_ones_own(own):
    net, inputs, _ = own
    behaviour = {"x": np.tile(np.arange(10.0), (3, 1))}
    recording = record(net, behaviour, layers="1", inputs={"in": inputs.view(3, 10, 3).numpy()},
                       progress=False)  # fmt: skip
    walks = inputs.view(3, 10, 3)
    target = net(walks).detach()
    curve = ablation_curve(
        net, "activity", layers="1", reference=recording, fractions=[0, 1], repeats=2,
        score=lambda n: ((n(walks) - target) ** 2).mean((1, 2)).detach(), controls=["random"],
        n_resamples=20, progress=False,
    )  # fmt: skip
    assert curve.score.sel(fraction=0).max() == 0 and curve.score.sel(fraction=1).min() > 0


def test_errors_say_what_is_missing(model, own):
    net, _, cost = own
    with pytest.raises(ValueError, match="score must be a function of the network .* Sequential"):
        dose_response(net, alphas=[1], progress=False)
    with pytest.raises(ValueError, match="units must name what 'gain' acts on in a Sequential"):
        dose_response(net, "gain", [1], score=cost, progress=False)
    with pytest.raises(ValueError, match="parameter must be one of nmda, random_units, gain"):
        dose_response(model, "gian", [1], **SMALL)
    with pytest.raises(ValueError, match="doses must be given for parameter='gain'"):
        dose_response(model, "gain", **SMALL)
    with pytest.raises(ValueError, match="alphas and mg_mM must be None unless"):
        dose_response(model, "gain", alphas=[1], **SMALL)
    with pytest.raises(ValueError, match="at most one of doses, alphas and mg_mM"):
        dose_response(model, doses=[1], alphas=[1], **SMALL)
    with pytest.raises(ValueError, match="dose must be a fraction"):
        dose_response(model, "random_units", [2], **SMALL)
    with pytest.raises(ValueError, match="at most one of scores and score"):
        ablation_curve(net, scores=cost, score=cost, progress=False)
    with pytest.raises(ValueError, match="reference must be a Recording"):
        dose_response(net, "mean", [1], units={"1": [0]}, score=cost, progress=False)
    with pytest.raises(TypeError, match="score must be a function of the network, or a mapping"):
        dose_response(net, alphas=[1], score={"a": 3}, progress=False)
    with pytest.raises(ValueError, match="got 'clamp', which has none"):
        equivalent_dose(model, {"ffn.1": [0]}, "clamp", [1], **SMALL)
    with pytest.raises(ValueError, match="doses must lie on one side of the intact dose, 1"):
        equivalent_dose(model, {"ffn.1": [0]}, "gain", [0.5, 2], **SMALL)
    with pytest.raises(ValueError, match="score must be a function"):
        equivalent_alpha(net, {"1": [0]}, progress=False)
    net[3].alpha = 1
    with pytest.raises(ValueError, match="one α to change it as a dose, got \\[1.0, 5.0\\]"):
        equivalent_alpha(net, {"1": [0]}, score=cost, progress=False)
    with pytest.raises(ValueError, match="must have NMDA activations"):
        equivalent_alpha(nn.Linear(2, 2), {"Linear": [0]}, score=lambda n: 0.0, progress=False)


def test_a_score_is_called_in_eval_mode_and_may_be_a_loss_with_a_gradient():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1)).train()
    inputs = torch.randn(20, 3)

    def loss(model):
        return model(inputs).square().mean()

    gains = {"units": "2", "parameter": "gain", "doses": [0.5, 1], "progress": False}
    result = dose_response(net, score=loss, **gains)
    again = dose_response(net, score=loss, **gains)
    assert net.training
    with torch.no_grad():
        want = loss(net.eval()).item()
    assert result["value"].sel(dose=1).item() == pytest.approx(want, rel=1e-5)
    np.testing.assert_array_equal(result["value"], again["value"])


@pytest.mark.parametrize("value", [None, "0.5", 1j, {"loss": 0.5}])
def test_a_score_that_is_no_number_is_refused(own, value):
    net, *_ = own
    with pytest.raises(TypeError, match=r"score\['score'\] must return a number, or one for each"):
        run_score("score", lambda model: value, net)


def test_a_single_number_is_asked_of_scores_of_networks(own):
    net, *_ = own
    assert run_scores({"a": lambda net: torch.ones(1, 1), "b": lambda net: True}, net) == [1, 1]
    with pytest.raises(TypeError, match=r"score\['a'\] must return a number, got 2; return their"):
        run_scores({"a": lambda net: (1, 2)}, net)


def test_the_number_of_resamples_is_checked_without_a_score(model):
    with pytest.raises(ValueError, match="n_resamples must be"):
        dose_response(model, alphas=[1], n_resamples=0, **SMALL)


def test_a_wrapped_network_has_the_numbers_of_the_network_inside(model):
    wrapped = nn.DataParallel(model)
    reference = record(model, layers="ffn.1", n_walks=4, n_steps=20, progress=False)
    sets = {"layers": "ffn.1", "reference": reference, "controls": ["random"], "n_resamples": 20}
    lesion = {"how": "zero", "n_resamples": 20, **SMALL}
    for measured in (
        lambda net: equivalent_alpha(net, {"ffn.0": [1]}, alphas=[0, 1], **lesion),
        lambda net: equivalent_dose(net, {"ffn.0": [1]}, "gain", [0, 0.5], **lesion),
        lambda net: ablation_curve(net, "random", fractions=[0, 0.5], repeats=2, **sets, **SMALL),
    ):
        xr.testing.assert_identical(measured(wrapped), measured(model))


def test_a_score_may_compute_gradients():
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.act, self.out = nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)

        def forward(self, q):
            with torch.enable_grad():
                q = q.detach().requires_grad_()
                (force,) = torch.autograd.grad(self.out(self.act(self.hidden(q))).sum(), q)
            return force

    network, q = Energy(), torch.randn(4, 20, 2)
    doses = dose_response(
        network, "zero", [0, 1], units={"act": [0]}, progress=False,
        score=lambda net: net(q).pow(2).mean(),
    )  # fmt: skip
    assert np.isfinite(doses.value).all()
