"""Perturbations: closed forms of linear networks, neutral doses, and networks that come back."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from placeformer.data.schema import read_provenance
from placeformer.interventions.ablation_curve import ablation_curve
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.changes import check_steps
from placeformer.interventions.doses import RANDOM, Parameter
from placeformer.interventions.lesions import ablate, replacements
from placeformer.interventions.magnesium import magnesium
from placeformer.interventions.perturbation import perturb
from placeformer.models.activation import NMDA, nmda
from placeformer.models.memory import forward_chunks
from placeformer.recording.record import record
from placeformer.zoo.registry import load

SOME = {"ffn.0": [1, 4], "ffn.1": [0, 7, 11]}
UNITS = [SOME, "ffn.*", "attention.*", "attention.1.head.0", "position", "ffn.1"]


@pytest.fixture
def linear():
    """Two linear layers, h = A x and y = B h, with a Recording of h."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    inputs = torch.randn(5, 20, 3)
    behaviour = {"x": np.tile(np.arange(20.0), (5, 1))}
    return (
        network,
        inputs,
        record(network, behaviour, layers="0", inputs={"input": inputs.numpy()}, progress=False),
    )


def logits(model, walk, **options):
    with torch.inference_mode():
        parts = forward_chunks(model, walk, seed=3, **options)
        return torch.cat([out for _, _, out in parts], 1)


def run(network, inputs):
    with torch.no_grad():
        return network(inputs)


def state(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return hooks, {name: weight.clone() for name, weight in model.state_dict().items()}


def assert_same_state(model, before):
    hooks, weights = state(model)
    assert hooks == before[0]
    assert all(torch.equal(weights[name], weight) for name, weight in before[1].items())


@pytest.mark.parametrize(
    ("how", "dose", "formula"),
    [
        ("gain", 0.3, lambda h, s, m: 0.3 * h),
        ("add", -1.5, lambda h, s, m: h - 1.5),
        ("clamp", 0.7, lambda h, s, m: torch.full_like(h, 0.7)),
        ("threshold", 0.2, lambda h, s, m: torch.where(h > 0.2, h, 0)),
        ("mean", 0.25, lambda h, s, m: 0.75 * h + 0.25 * m),
        ("zero", 0.25, lambda h, s, m: 0.75 * h),
        (lambda h, dose: h**2 + dose, 1.0, lambda h, s, m: h**2 + 1),
        (torch.neg, None, lambda h, s, m: -h),
    ],
)
def test_a_linear_network_has_its_closed_form(linear, how, dose, formula):
    network, inputs, reference = linear
    hidden = run(network[0], inputs)
    mean = torch.from_numpy(reference.activation.mean(("walk", "time")).values)
    want = hidden.clone()
    want[..., [0, 2]] = formula(hidden, None, mean)[..., [0, 2]]
    with perturb(network, {"0": [0, 2]}, how, dose, reference=reference):
        got = run(network, inputs)
    torch.testing.assert_close(got, run(network[1], want))
    torch.testing.assert_close(run(network, inputs), run(network[1], hidden))


@pytest.mark.parametrize("units", [{"0": [1]}, {"0.weight": 1}])
def test_a_function_may_work_in_place(linear, units):
    network, inputs, _ = linear
    before, hidden = state(network), run(network[0], inputs)
    want = hidden * torch.tensor([1, 0.5, 1, 1])
    for how in (lambda x, dose: x * dose, lambda x, dose: x.mul_(dose)):
        for _ in range(2):
            with perturb(network, units, how, 0.5):
                torch.testing.assert_close(run(network, inputs), run(network[1], want))
            assert_same_state(network, before)
    with perturb(network, units, lambda x: 0):
        torch.testing.assert_close(run(network[0], inputs)[..., 1], 0 * hidden[..., 1])
    refused = pytest.raises(ValueError, match="how must be a function that returns .* got None")
    with refused, perturb(network, units, lambda x: None):
        run(network, inputs)


def test_noise_has_the_standard_deviation_that_was_asked_for(linear):
    network, _, reference = linear
    inputs = torch.randn(400, 50, 3)
    with perturb(network, "0", "noise", 0.5, reference=reference):
        noise = run(network, inputs) - run(network[1], torch.zeros(1, 4))
    with perturb(network, "0", "noise", 0.5, reference=reference, seed=1):
        other = run(network, inputs)
    noise = (noise - run(network, inputs)).flatten(0, 1)
    spread = torch.from_numpy(reference.activation.std(("walk", "time")).values)
    want = (network[1].weight * spread * 0.5) @ (network[1].weight * spread * 0.5).T
    torch.testing.assert_close(torch.cov(noise.T), want, rtol=0.05, atol=0.05)
    assert abs(noise.mean(0)).max() < 0.05
    assert not torch.equal(other.flatten(0, 1) - run(network, inputs).flatten(0, 1), noise)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize(
    ("how", "dose"),
    [("gain", 1), ("add", 0), ("noise", 0), ("threshold", -np.inf), ("mean", 0), ("zero", 0)],
)
def test_a_neutral_dose_changes_no_bit(model, walk, reference, units, how, dose):
    before = logits(model, walk)
    with perturb(model, units, how, dose, reference=reference):
        assert torch.equal(logits(model, walk), before)


@pytest.mark.parametrize("units", [*UNITS, "nmda"])
def test_no_steps_change_no_bit_and_all_steps_are_the_default(model, walk, reference, units):
    before = logits(model, walk)
    with perturb(model, units, "gain", 0.2, reference=reference):
        everywhere = logits(model, walk)
    assert not torch.equal(everywhere, before)
    with perturb(model, units, "gain", 0.2, steps=np.zeros(12, bool)):
        assert torch.equal(logits(model, walk), before)
    with perturb(model, units, "gain", 0.2, steps=lambda part: part.observation >= 0):
        assert torch.equal(logits(model, walk), everywhere)


@pytest.mark.parametrize("how", ["mean", "zero", "position", "resample"])
@pytest.mark.parametrize("units", [SOME, {"attention.0": [3, 9], "position": [1]}])
def test_ablate_is_a_special_case(model, walk, reference, how, units):
    with ablate(model, units, how, reference=reference, seed=4):
        want = logits(model, walk)
    for dose in (None, 1):
        with perturb(model, units, how, dose, reference=reference, seed=4):
            assert torch.equal(logits(model, walk), want)


def test_magnesium_is_a_special_case(model, walk):
    with magnesium(model, alpha=0.3):
        want = logits(model, walk)
    for how, dose in ((None, 0.3), ("clamp", 0.3), ("gain", 0.15), (lambda alpha: 0.3, None)):
        with perturb(model, "nmda", how, dose):
            assert model.config.alpha == pytest.approx(0.3)
            torch.testing.assert_close(logits(model, walk), want)
    with perturb(model, "nmda", dose=0.3):
        assert torch.equal(logits(model, walk), want)
    assert model.config.alpha == 2.0
    with perturb(model, {"nmda": "layers.1.*"}, dose=0.3):
        assert model.config.alpha == 2.0, "one of two layers: there is no single alpha"
        assert model.layers[1].ffn.activation.alpha == 0.3


def test_a_head_is_silenced_as_by_its_output_weights(model, walk):
    weight = model.layers[1].attention.out.weight
    with perturb(model, "attention.1.head.0", "zero"):
        want = logits(model, walk)
    name = "layers.1.attention.out.weight"
    with perturb(model, {name: (slice(None), slice(0, 8))}, "zero"):
        assert not weight[:, :8].any() and weight[:, 8:].all()
        torch.testing.assert_close(logits(model, walk), want)
    with perturb(model, "attention.1.head.*", "zero"), perturb(model, "attention.0", "zero"):
        silent = logits(model, walk)
    with perturb(model, "attention.*", "zero"):
        assert torch.equal(logits(model, walk), silent)


def test_steps_are_those_of_the_mask_of_its_labels_and_of_the_condition(linear):
    network, inputs, _ = linear
    mask = np.random.default_rng(0).random((5, 20)) < 0.3
    hidden = run(network[0], inputs)
    want = run(network[1], torch.where(torch.from_numpy(mask)[..., None], 2 * hidden, hidden))
    with perturb(network, "0", "gain", 2, steps=mask):
        torch.testing.assert_close(run(network, inputs), want)
    behaviour = {"x": mask.astype(float)}
    labels = {"walk": range(5), "time": range(20)}
    labelled = xr.DataArray(mask, labels, ("walk", "time"))
    labelled = labelled.isel(time=slice(None, None, -1), walk=[4, 0, 1, 3, 2])
    for steps in (mask, labelled, lambda walk: walk["x"] == 1):
        with perturb(network, "0", "gain", 2, steps=steps):
            got = record(
                network, behaviour, layers="1", inputs={"input": inputs.numpy()}, progress=False,
                batch=2,
            )  # fmt: skip
        np.testing.assert_allclose(got.activation.values, want.numpy(), rtol=1e-5, atol=1e-6)


STEPS = ("walk", "time")


@pytest.mark.parametrize(
    "part",
    [
        {"walk": [3, 2, 1, 0]},
        {"walk": [2, 3]},
        {"time": slice(5, None, 2)},
        {"time": slice(None, None, -1), "walk": [1]},
    ],
)
def test_steps_are_those_of_the_coordinates_of_the_behaviour(part):
    network, rng = nn.Linear(2, 4), np.random.default_rng(0)
    labels = {"walk": [4, 7, 2, 9], "time": np.arange(20) / 50}
    place = {axis: (STEPS, rng.random((4, 20))) for axis in ("x", "y")}
    walks = xr.Dataset(place, labels).isel(part)
    fed = {"v": rng.normal(size=(*walks.x.shape, 2)).astype("f4")}

    def changed(steps, **options):
        inside = {"layers": "Linear", "inputs": fed, "progress": False}
        with perturb(network, {"Linear": [1]}, "clamp", 5, steps=steps):
            return record(network, walks, **inside, **options).activation.values[..., 1] == 5

    mask = walks.x > 0.5
    everywhere = xr.Dataset(place, labels).x > 0.5
    late = np.broadcast_to(walks.time > 0.2, mask.shape)
    for steps, want in (
        (mask, mask),
        (mask.T, mask),
        (everywhere, mask),
        (mask.values, mask),
        (mask.drop_vars(STEPS), mask),
        (mask.drop_vars("time").T, mask),
        (lambda walk: walk.x > 0.5, mask),
        (lambda walk: (walk.x > 0.5).T, mask),
        (lambda walk: walk.time > 0.2, late),
        (walks.time > 0.2, late),
        (lambda walk: walk.walk > 4, np.broadcast_to((walks.walk > 4).values[:, None], mask.shape)),
    ):
        for batch in (1, 3):
            np.testing.assert_array_equal(changed(steps, batch=batch), want)
    with pytest.raises(ValueError, match=r"but time 0\.\d+ is missing"):
        changed(mask.isel(time=slice(0, -1)))


def test_the_names_of_the_axes_of_a_mask_are_read_where_walks_are_not_known():
    network, inputs = nn.Linear(2, 4), torch.randn(3, 5, 2)
    mask = xr.DataArray(np.random.default_rng(0).random((3, 5)) < 0.5, dims=STEPS)
    of_walks, of_steps = mask[:, 0], mask[0]
    for steps, want in (
        (mask, mask),
        (mask.T, mask),
        (of_walks, of_walks.expand_dims(time=5).T),
        (of_steps, of_steps.expand_dims(walk=3)),
    ):
        with perturb(network, {"Linear": [1]}, "clamp", 5, steps=steps):
            np.testing.assert_array_equal(run(network, inputs)[..., 1] == 5, want)


def test_recordings_tell_masks_of_other_labels_apart():
    mask = xr.DataArray([True, False], {"time": [0, 1]}, "time")
    masks = [mask, mask.assign_coords(time=[1, 0]), mask.values]
    hashes = [check_steps(steps).describe()["steps_sha256"] for steps in masks]
    assert len(set(hashes)) == 3
    with pytest.raises(ValueError, match="steps must have every time once"):
        check_steps(mask.assign_coords(time=[1, 1]))


def test_perturbations_are_undone_in_any_order(model, walk):
    before, intact = state(model), logits(model, walk)
    doses = [("layers.1.ffn.fc2.weight", "gain", 0.5), ("layers.1.ffn.fc2.weight", "add", 0.1),
             ("nmda", "gain", 0.5), ("nmda", "add", 3), ("ffn.1", "gain", 2)]  # fmt: skip
    weight = model.layers[1].ffn.fc2.weight.clone()
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [1, 0, 3, 4, 2]):
        entered = [ExitStack() for _ in doses]
        for stack, arguments in zip(entered, doses, strict=True):
            stack.enter_context(perturb(model, *arguments))
        torch.testing.assert_close(model.layers[1].ffn.fc2.weight, 0.5 * weight + 0.1)
        assert model.config.alpha == 0.5 * 2 + 3
        for i in order:
            entered[i].close()
            if i == 0 and order[0] == 0:
                torch.testing.assert_close(model.layers[1].ffn.fc2.weight, weight + 0.1)
        assert_same_state(model, before)
        assert model.config.alpha == 2
        assert torch.equal(logits(model, walk), intact)


@pytest.mark.parametrize("units", ["ffn.*", "layers.0.ffn.fc1.weight", "nmda"])
def test_an_exception_restores_the_network(model, walk, units):
    before, intact = state(model), logits(model, walk)
    with pytest.raises(KeyError), perturb(model, units, "gain", 3):
        raise KeyError
    bad = lambda value: "no number"  # noqa: E731
    with pytest.raises((ValueError, TypeError, RuntimeError)), perturb(model, units, bad):
        logits(model, walk)
    assert_same_state(model, before)
    assert model.config.alpha == 2
    assert torch.equal(logits(model, walk), intact)


def test_noise_depends_neither_on_the_batch_nor_on_the_units(model, walk, reference):
    with perturb(model, "ffn.1", "noise", 1, reference=reference):
        together = logits(model, walk)
        alone = logits(model, walk, batch=1).reshape(together.shape)
        torch.testing.assert_close(alone, together)
        assert torch.equal(logits(model, walk), together), "the same at every run"
    with (
        perturb(model, {"ffn.1": range(6)}, "noise", 1, reference=reference),
        perturb(model, {"ffn.1": range(6, 12)}, "noise", 1, reference=reference),
    ):
        torch.testing.assert_close(logits(model, walk), together)


class Tied(nn.Module):
    """One weight with two names, and one module with two names."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.last.weight = self.first.weight
        self.act = self.alias = nn.Identity()

    def forward(self, x):
        return self.alias(self.first(x))


@pytest.mark.parametrize(
    "units",
    [
        "first.weight",
        "last.weight",
        "*.weight",
        ["last.weight", "first.weight"],
        {"*.weight": slice(None), "last.weight": np.ones((3, 3), bool)},
        ["act", "alias"],
        "a*",
        {"act": [0, 1], "alias": [1, 2]},
        ["act/0", "act/1", "alias/1", "alias/2"],
    ],
)
def test_what_has_several_names_is_perturbed_once(units):
    network, x = Tied(), torch.randn(4, 3)
    intact = run(network, x)
    with perturb(network, units, "gain", 0.5):
        torch.testing.assert_close(run(network, x), 0.5 * intact)
    torch.testing.assert_close(run(network, x), intact)


def test_random_units_of_a_module_with_two_names_are_counted_once():
    masks = Parameter(RANDOM, {"act": [0, 1], "alias": [1, 2]}).masks(Tied(), [1 / 3, 1])
    assert masks["act"].sum(1).tolist() == [1, 3] and list(masks) == ["act"]


def test_parts_of_a_layer_that_are_chosen_under_several_names_are_joined(model, walk):
    with perturb(model, {"ffn.1": [0, 3, 5]}, "gain", 0.5):
        want = logits(model, walk)
    for units in ({"ffn.1": [0, 5], "content.ffn.1": [3, 5]}, {"ffn.1": [3], "*fn.1": [0, 3, 5]}):
        with perturb(model, units, "gain", 0.5):
            assert torch.equal(logits(model, walk), want)
    refused = pytest.raises(ValueError, match="units must choose a weight once, but 'first.weight'")
    with refused, perturb(Tied(), {"first.weight": 0, "last.weight": 1}, "gain", 0.5):
        pass


def test_weights_are_changed_where_chosen(model):
    name, weight = "layers.0.ffn.fc1.weight", model.layers[0].ffn.fc1.weight
    before = weight.detach().clone()
    mask = np.zeros(tuple(weight.shape), bool)
    mask[2:5, 1::2] = True
    chosen = before[torch.from_numpy(mask)]
    for how, dose, new in (
        ("gain", 2, chosen * 2),
        ("mean", None, chosen.mean().expand_as(chosen)),
        ("mean", 0.5, (chosen + chosen.mean()) / 2),
        ("threshold", 0, chosen.clamp(min=0)),
        (lambda w: -w, None, -chosen),
    ):
        with perturb(model, {name: mask}, how, dose):
            torch.testing.assert_close(weight[torch.from_numpy(mask)], new)
            assert torch.equal(weight[torch.from_numpy(~mask)], before[torch.from_numpy(~mask)])
    with perturb(model, {name: mask}, "resample"):
        resampled = weight[torch.from_numpy(mask)]
        assert torch.equal(resampled.sort().values, chosen.sort().values)
        assert not torch.equal(resampled, chosen)
    assert torch.equal(weight, before)


def test_one_dose_for_every_unit_is_aligned_by_its_label(linear):
    network, inputs, _ = linear
    dose = xr.DataArray([3.0, 2.0], {"unit": ["0/3", "0/1"]}, "unit")
    hidden = run(network[0], inputs)
    want = run(network[1], hidden * torch.tensor([1, 2, 1, 3.0]))
    with perturb(network, {"0": [1, 3]}, "gain", dose):
        torch.testing.assert_close(run(network, inputs), want)
    refused = pytest.raises(ValueError, match="dose must have a value for every chosen unit")
    with refused, perturb(network, {"0": [1, 2]}, "gain", dose):
        pass


@pytest.mark.parametrize(("how", "dose"), [("gain", 0.3), ("noise", 1.0), ("mean", 0.5)])
def test_batched_changes_equal_changes_one_by_one(model, reference, how, dose):
    walk, where = model.world.walk(5, 16, seed=2), "every_step"
    rng = np.random.default_rng(0)
    masks = {layer: rng.random((3, 12)) < 0.4 for layer in ("ffn.0", "ffn.1")}
    fill = replacements(model, masks, how, dose, reference=reference)
    wrong, _ = count_errors(model, walk, seed=0, where=where, masks=masks, replacements=fill)
    for i in range(3):
        units = {layer: mask[i] for layer, mask in masks.items()}
        with perturb(model, units, how, dose, reference=reference):
            one, _ = count_errors(model, walk, seed=0, where=where)
        np.testing.assert_array_equal(one[0], wrong[i])


def test_a_curve_of_another_perturbation_than_a_lesion(model, reference):
    options = {
        "fractions": [0, 1],
        "repeats": 1,
        "controls": ["random"],
        "n_walks": 4,
        "n_steps": 16,
        "reference": reference,
        "n_resamples": 10,
        "progress": False,
    }
    curve = ablation_curve(model, "random", how="gain", dose=0.2, where="every_step", **options)
    with perturb(model, "ffn.*", "gain", 0.2):
        walk = model.world.walk(4, 16, seed=0)
        wrong, _ = count_errors(model, walk, seed=0, where="every_step")
    got = curve.wrong.sel(maps="trained", selection="ordered", fraction=1).squeeze("repeat")
    np.testing.assert_array_equal(got.transpose("walk", "memory").values, wrong[0])
    assert curve.attrs["how"] == "gain" and curve.attrs["dose"] == 0.2


def test_a_network_with_nmda_of_ones_own():
    network = nn.Sequential(nn.Linear(3, 4), NMDA(10), nn.Linear(4, 2), NMDA(1))
    inputs = torch.randn(2, 6, 3)
    mask = np.zeros((2, 6), bool)
    mask[:, 3:] = True
    intact = run(network, inputs)
    with perturb(network, "nmda", "gain", 0.5):
        assert (network[1].alpha, network[3].alpha) == (5, 0.5)
    with perturb(network, {"nmda": "1"}, dose=0, steps=mask):
        hidden = run(network[0], inputs)
        want = torch.where(torch.from_numpy(mask)[..., None], hidden, nmda(hidden, 10))
        torch.testing.assert_close(run(network, inputs), run(network[2:], want))
    assert torch.equal(run(network, inputs), intact)


class InParts(nn.Module):
    """An NMDA_α that is called for some of the steps at once, with time first, or twice."""

    def __init__(self, steps=20):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.act, self.steps = nn.Linear(2, 4), NMDA(2), steps

    def forward(self, x):
        hidden = self.linear(x)
        if self.steps == "time first":
            return self.act(x=hidden.transpose(0, 1)).transpose(0, 1)
        if self.steps == "shared":
            return self.act(hidden) + 0 * self.act(hidden + 1)
        return torch.cat([self.act(x=part) for part in hidden.split(self.steps, 1)], 1)


@pytest.mark.parametrize("steps", [20, 10, 7, 1, "time first", "shared"])
@pytest.mark.parametrize("n_walks", [1, 4, 20])
def test_alpha_has_the_steps_of_the_walks_however_it_is_called(steps, n_walks):
    network, rng = InParts(steps), np.random.default_rng(0)
    place = {axis: rng.random((n_walks, 20)) for axis in ("x", "y")}
    inputs = torch.randn(n_walks, 20, 2)
    mask, hidden = rng.random((n_walks, 20)) < 0.5, run(network.linear, inputs)
    want = torch.where(torch.from_numpy(mask)[..., None], nmda(hidden, 0.1), nmda(hidden, 2))
    walks_first = ("walk", "time", "unit")
    dims = ("time", "walk", "unit") if steps == "time first" else walks_first
    for named in (None, dims):
        with perturb(network, "nmda", dose=0.1, steps=mask, dims=named):
            if named or steps != "time first":
                for _ in range(2):
                    torch.testing.assert_close(run(network, inputs), want)
            if named or n_walks != 20:
                fed = {"inputs": {"v": inputs.numpy()}, "dims": walks_first, "progress": False}
                got = record(network, place, layers="InParts", **fed)
                np.testing.assert_allclose(got.activation, want, rtol=1e-5, atol=1e-6)


def test_axes_that_cannot_be_told_are_refused_where_steps_are_chosen():
    network, place = InParts(), {axis: np.zeros((20, 20)) for axis in ("x", "y")}
    options = {"inputs": {"v": np.zeros((20, 20, 2), "f4")}, "dims": ("walk", "time", "unit")}
    for units in ("nmda", "linear"):
        given = perturb(network, units, "gain", 0.5, steps=np.ones(20, bool))
        with given, pytest.raises(ValueError, match="dims must name the axes of"):
            record(network, place, layers="linear", progress=False, **options)


def test_units_stay_lesioned_at_the_steps_of_another_alpha():
    network, inputs, mask = InParts(), torch.randn(3, 20, 2), np.arange(20) >= 10
    with perturb(network, "nmda", dose=0.1, steps=mask):
        want = run(network, inputs) * torch.tensor([1, 0, 1, 1])
    units, alpha = ({"act": [1]}, "zero"), ("nmda", None, 0.1, mask)
    for order in ([units, alpha], [alpha, units]):
        with ExitStack() as stack:
            for target, how, *dose in order:
                options = dict(zip(("dose", "steps"), dose, strict=False))
                stack.enter_context(perturb(network, target, how, **options))
            torch.testing.assert_close(run(network, inputs), want)
    with perturb(network, "nmda", dose=5, steps=mask), ExitStack() as stack:
        for given in (units, alpha):
            options = dict(zip(("dose", "steps"), given[2:], strict=False))
            stack.enter_context(perturb(network, *given[:2], **options))
        torch.testing.assert_close(run(network, inputs), want)  # the last α that was set


def test_changes_of_alpha_at_the_same_steps_apply_one_after_the_other():
    network, inputs, steps = InParts(), torch.randn(3, 20, 2), np.arange(20)
    alpha, parts = network.act.alpha, {}
    for now in (alpha, alpha / 2, alpha / 2 + 1, alpha + 1):
        with perturb(network, "nmda", dose=now):
            parts[now] = run(network, inputs)
    want = parts[alpha].clone()
    want[:, 5:10], want[:, 10:15] = parts[alpha / 2][:, 5:10], parts[alpha / 2 + 1][:, 10:15]
    want[:, 15:] = parts[alpha + 1][:, 15:]
    halved, added = (steps >= 5) & (steps < 15), steps >= 10
    with (
        perturb(network, "nmda", "gain", 0.5, steps=halved),
        perturb(network, "nmda", "add", 1.0, steps=added),
    ):
        torch.testing.assert_close(run(network, inputs), want)


def test_recordings_name_the_perturbation(model, reference):
    def facts(**options):
        with ExitStack() as stack:
            for arguments in options["of"]:
                stack.enter_context(perturb(model, *arguments, **options.get("with_", {})))
            recording = record(model, n_walks=2, n_steps=8, progress=False)
        return read_provenance(recording)["steps"][-1]["network"]["lesions"]

    (lesion,) = facts(of=[({"ffn.1": [3]}, "gain", 0.5)], with_={"steps": np.ones(99, bool)})[:1]
    assert lesion["how"] == "gain" and lesion["dose"] == 0.5 and lesion["units"] == [3]
    assert lesion["steps"] == "mask"
    (weight,) = facts(of=[("layers.0.ffn.fc1.weight", "gain", 0.5)])
    assert weight["weight"] == "layers.0.ffn.fc1.weight" and weight["dose"] == 0.5
    alphas = facts(of=[("nmda", None, 0.5)], with_={"steps": lambda part: part.x == 0})
    assert [a["alpha"] for a in alphas] == ["layers.0.ffn.activation", "layers.1.ffn.activation"]


WRONG = [
    (("ffnn.1", "gain", 0.5), {}, "'ffnn.1' is not a layer"),
    (("ffn.1",), {}, "how must be given"),
    (("ffn.1", "gian", 1), {}, "how must be one of"),
    (("ffn.1", "gain"), {}, "dose must be given"),
    (("ffn.1", "gain", np.nan), {}, "dose must be a finite factor"),
    (("ffn.1", "gain", [1, 2]), {}, "dose must be one number"),
    (("ffn.1", "noise", -1), {}, "dose must be a finite number ≥ 0"),
    (("ffn.1", "mean", 2), {}, "dose must be a fraction"),
    (("attention.4.head.0", "zero"), {}, "attention.0 to attention.1"),
    (("nmda", "noise", 1), {}, "how must be one of clamp, gain, add"),
    (("nmda",), {}, "dose must be the new α"),
    (("nmda", None, -1), {}, "alpha must be"),
    (({"nmda": "layers.7"}, None, 1), {}, "must name NMDA modules"),
    ((["nmda", "ffn.1"], "gain", 1), {}, "must not name 'nmda' together"),
    (("layers.1.ffn.fc2.weight", "position"), {}, "how must be one of"),
    (("layers.1.ffn.fc2.weight", "gain", 2), {"steps": np.ones(3, bool)}, "steps must be None"),
    (({"layers.1.ffn.fc2.weight": 99}, "gain", 2), {}, "by an index or a boolean mask"),
    (("ffn.1", "gain", 2), {"steps": np.ones(3)}, "steps must be a boolean mask"),
    (([], "gain", 2), {}, "at least one"),
]


@pytest.mark.parametrize(("arguments", "options", "message"), WRONG)
def test_wrong_arguments_are_named(model, arguments, options, message):
    before = state(model)
    with pytest.raises(ValueError, match=message), perturb(model, *arguments, **options):
        pass
    assert_same_state(model, before)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (np.ones((3, 5), bool), "steps must hold every step"),
        (lambda part: part.x, "steps must give booleans"),
        (lambda part: np.ones(2, bool), "steps must give booleans"),
        (xr.DataArray(np.ones(5, bool), {"time": range(5)}, "time"), "but time 5 is missing"),
    ],
)
def test_steps_that_do_not_fit_the_walks_are_refused(model, walk, steps, message):
    given = perturb(model, "ffn.1", "gain", 0.5, steps=steps)
    with given, pytest.raises(ValueError, match=message):
        logits(model, walk)
    condition = perturb(model, "ffn.1", "gain", 0.5, steps=lambda part: part.x == 0)
    with condition, pytest.raises(ValueError, match="condition on behaviour that is not known"):
        model(torch.zeros(1, 3).long(), torch.zeros(1, 3).long())


def test_draws_and_zeros_are_where_the_network_is(model, walk):
    """Whatever the default device and the default dtype, on which draws of torch depend."""

    def measured():
        with (
            perturb(model, "layers.0.ffn.fc1.weight", "noise", 0.3, seed=1),
            ablate(model, {"ffn.1": [3]}, "zero"),
            torch.no_grad(),
        ):
            return model(
                torch.from_numpy(walk.action.values), torch.from_numpy(walk.observation.values)
            )[0]

    want = measured()
    with torch.device("meta"):
        assert torch.equal(measured(), want)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(measured(), want)
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_that_were_made_in_inference_mode_are_perturbed_and_loaded_ones_are_none():
    with torch.inference_mode():
        network, loaded = nn.Linear(2, 2, bias=False), load("mini-nmda-a10")
    assert network.weight.is_inference()
    before = network.weight.clone()
    with perturb(network, "weight", "gain", 2.0):
        assert torch.equal(network.weight, 2 * before)
    assert torch.equal(network.weight, before)
    assert not any(weight.is_inference() for weight in loaded.parameters())
    loaded(torch.zeros(1, 2, dtype=int), torch.zeros(1, 2, dtype=int))[0].sum().backward()


def test_weights_that_are_loaded_inside_a_block_are_warned_of():
    first, second = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    before = first[0].weight.detach().clone()
    lost = pytest.warns(UserWarning, match=r"a weight of shape \(2, 2\) was set inside a block")
    with lost, perturb(first, "0.weight", "gain", 2):
        first.load_state_dict(second.state_dict())
    assert torch.equal(first[0].weight, before)
    with perturb(first, "0.weight", "gain", 2), perturb(first, "0.weight", "gain", 0):
        assert not first[0].weight.any()
    assert torch.equal(first[0].weight, before)
