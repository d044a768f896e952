"""Lesions: what a lesioned network computes, worked out another way; and it comes back whole."""

import copy
from collections import namedtuple

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from placeformer.data.schema import read_provenance
from placeformer.interventions import lesions as ablation
from placeformer.interventions.lesions import ablate
from placeformer.interventions.perturbation import perturb
from placeformer.interventions.units import changed, over_keys
from placeformer.models.memory import forward_chunks, memory_errors, predictions
from placeformer.recording.navigation import by_lag
from placeformer.recording.record import record
from placeformer.spatial.rate_maps import rate_maps

SOME = {"ffn.0": [1, 4], "ffn.1": [0, 7, 11]}


def logits(model, walk):
    with torch.inference_mode():
        return torch.cat([out for _, _, out in forward_chunks(model, walk, seed=3)], 1)


def of_layer(recordings, name):
    for recording in recordings:
        if (units := recording.layer.values == name).any():
            return recording.isel(unit=units)
    raise KeyError(name)


def mean(recordings, name):
    found = of_layer(recordings, name).activation.mean(("walk", "time"), dtype=float)
    return torch.from_numpy(found.values.astype(np.float32))


def close(got, want):
    np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-5)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_units_are_named_by_label_as_by_layer_and_number(model, walk, reference):
    labels = ["ffn.1/11", "ffn.0/1", "ffn.1/0", "ffn.0/4", "ffn.1/7"]
    units = reference[0].sel(unit=labels)
    with ablate(model, SOME, "zero"):
        want = logits(model, walk)
    named = [labels, np.array(labels), units.unit, units.drop_vars(["layer", "index"])]
    for choice in [*named, units.unit.to_index(), reference[0].unit.isin(labels)]:
        with ablate(model, choice, "zero"):
            assert torch.equal(logits(model, walk), want)
    with ablate(model, "ffn.1/11", "zero"):
        assert not torch.equal(logits(model, walk), want)


@pytest.mark.parametrize("how", ["mean", "zero", "position", "resample"])
def test_ablating_nothing_changes_nothing_bit_for_bit(model, walk, reference, how):
    intact = logits(model, walk)
    for units in ({}, {"ffn.1": []}, {"ffn.0": np.zeros(12, bool)}):
        with ablate(model, units, how, reference=reference):
            assert torch.equal(logits(model, walk), intact)


def test_ablating_everything_by_mean_replaces_the_layer_by_its_mean(model, walk, reference):
    constant = copy.deepcopy(model)
    for i, layer in enumerate(constant.layers):
        by_stream = {
            id(layer.ffn.units): mean(reference, f"ffn.{i}"),
            id(layer.ffn.content_units): mean(reference, f"content.ffn.{i}"),
        }
        layer.ffn.forward = lambda x, units, layer=layer, by=by_stream: layer.ffn.fc2(
            by[id(units)]
        ).expand(x.shape)
    with ablate(model, {"ffn.0": slice(None), "ffn.1": slice(None)}, reference=reference):
        lesioned = logits(model, walk)
    close(lesioned, logits(constant, walk))
    assert not torch.allclose(lesioned, logits(model, walk), atol=0.1)


def test_ablating_to_zero_is_cutting_the_units_output_weights(model, walk):
    cut = copy.deepcopy(model)
    for name, units in SOME.items():
        cut.layers[int(name[-1])].ffn.fc2.weight.data[:, units] = 0
    with ablate(model, SOME, "zero"):
        close(logits(model, walk), logits(cut, walk))


@pytest.mark.parametrize("layer", ["ffn.1", "attention.0", "position"])
def test_a_recording_shows_the_lesion_and_nothing_else_of_its_layer(model, reference, layer):
    size = {"n_walks": 3, "n_steps": 12, "progress": False}
    for stream in ("", "content."):
        intact = record(model, layers=stream + layer, **size)
        with ablate(model, {layer: [0, 2]}, reference=reference):
            lesioned = record(model, layers=stream + layer, **size)
        named = read_provenance(lesioned)["steps"][0]["network"]["lesions"]
        assert {lesion["layer"].removeprefix("content.") for lesion in named} == {layer}
        assert all(lesion["units"] == [0, 2] and lesion["how"] == "mean" for lesion in named)
        assert "lesions" not in intact.attrs["provenance"]
        want = intact.activation.copy()
        want[..., [0, 2]] = mean(reference, stream + layer)[[0, 2]]
        np.testing.assert_array_equal(lesioned.activation, want)


def test_values_by_lag_and_by_key_are_inverse():
    for own, shape in ((1, (2, 3, 4, 9)), (0, (2, 3, 4, 8))):
        weights = torch.rand(shape)
        blocked = torch.ones(shape[2:]).triu(shape[3] - shape[2] - own + 1).bool()
        blocked[:, -1] &= not own
        weights = weights.masked_fill(blocked, 0)
        back = over_keys(by_lag(weights, 10, own), weights, own)
        np.testing.assert_array_equal(back, weights)


def test_the_mean_at_a_place_is_that_of_the_place_moved_to(model, reference):
    for layer in ("ffn.1", "content.ffn.1"):
        table = rate_maps(of_layer(reference, layer)).rate
        with ablate(model, {"ffn.1": [5]}, "position", reference=reference):
            got = record(model, layers=layer, n_walks=3, n_steps=12, progress=False)
        want = table.isel(unit=5).values[got.y.values, got.x.values]
        np.testing.assert_allclose(got.activation[..., 5], want, rtol=1e-6)


def test_resampled_units_keep_their_joint_distribution_whatever_the_batch(model, reference):
    samples = of_layer(reference, "ffn.0").activation.values[..., [1, 4]].reshape(-1, 2)
    known = {tuple(sample) for sample in samples}
    walk = model.world.walk(5, 12, seed=1)
    with ablate(model, {"ffn.0": [1, 4]}, "resample", reference=reference, seed=1):
        got = record(model, walk, burn_in=0, progress=False)
        together = predictions(model, walk, seed=3)
        parts = [w for w, *_ in forward_chunks(model, walk, seed=3, batch=2)]
        apart = [out.argmax(-1) for *_, out in forward_chunks(model, walk, seed=3, batch=2)]
    rows = {
        w.start: torch.cat([a for p, a in zip(parts, apart, strict=True) if p == w], 1)
        for w in parts
    }
    np.testing.assert_array_equal(torch.cat(list(rows.values())), together)
    drawn = got.activation.values[..., [1, 4]].reshape(-1, 2)
    assert {tuple(sample) for sample in drawn} <= known
    assert len(np.unique(drawn, axis=0)) > 30
    with ablate(model, {"ffn.0": [1, 4]}, "resample", reference=reference, seed=2):
        other = record(model, walk, burn_in=0, progress=False)
    assert not np.array_equal(other.activation, got.activation)


def test_lesions_nest_and_are_undone(model, walk, reference):
    intact = logits(model, walk)
    with ablate(model, {"ffn.1": [0, 7]}, reference=reference):
        outer = logits(model, walk)
        with ablate(model, {"ffn.1": [11], "ffn.0": [1, 4]}, reference=reference):
            both = logits(model, walk)
        assert torch.equal(logits(model, walk), outer)
    assert torch.equal(logits(model, walk), intact)
    with ablate(model, SOME, reference=reference):
        assert torch.equal(logits(model, walk), both)
    assert not torch.equal(both, outer)


def test_an_exception_undoes_the_lesion(model, walk):
    intact = logits(model, walk)
    with pytest.raises(KeyboardInterrupt), ablate(model, SOME, "zero"):
        raise KeyboardInterrupt
    assert hooks(model) == 0
    assert torch.equal(logits(model, walk), intact)


def test_units_are_chosen_in_a_table_as_by_numbers(model, walk, reference):
    units = reference[0].isel(unit=reference[0].component.values == "ffn")
    chosen = (units.layer.values == "ffn.1") & np.isin(units["index"], [0, 7])
    mask = xr.DataArray(chosen, {"layer": units.layer, "index": units["index"]}, dims="unit")
    want = None
    for given in (
        {"ffn.1": [7, 0]},
        {"content.ffn.1": 7, "ffn.1": 0},
        mask,
        units.isel(unit=chosen),
    ):
        with ablate(model, given, reference=reference):
            got = logits(model, walk)
        assert want is None or torch.equal(got, want)
        want = got


def test_without_a_reference_both_streams_are_recorded_on_trained_maps(model, walk, monkeypatch):
    size = {"n_walks": 9, "n_steps": 16, "maps": range(3), "seed": 4, "progress": False}
    monkeypatch.setattr(ablation, "REFERENCE_WALKS", 9)
    monkeypatch.setattr(ablation, "REFERENCE_STEPS", 16)
    both = [record(model, layers=s, **size) for s in ("ffn.*", "content.ffn.*")]
    with ablate(model, SOME, reference=both):
        want = logits(model, walk)
    with ablate(model, SOME, seed=4):
        assert torch.equal(logits(model, walk), want)


def test_memory_errors_are_those_of_the_lesioned_network(model, reference):
    cut = copy.deepcopy(model)
    cut.layers[1].ffn.fc2.weight.data[:] = 0
    with ablate(model, {"ffn.1": slice(None)}, "zero"):
        got = memory_errors(model, n_walks=8, n_steps=24)
    xr.testing.assert_identical(got, memory_errors(cut, n_walks=8, n_steps=24))


class Tagger(nn.Module):
    """A recurrent network that is nothing of ours."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNN(2, 4, batch_first=True)
        self.head = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x):
        return self.head(self.cell(x)[0])


@pytest.fixture
def tagger():
    torch.manual_seed(0)
    return Tagger().eval()


def recording_of(values, layer, x):
    units = values.shape[-1]
    return xr.Dataset(
        {"activation": (("walk", "time", "unit"), values)},
        {
            "x": (("walk", "time"), x),
            "layer": ("unit", [layer] * units),
            "index": ("unit", range(units)),
        },
    )


def test_units_of_any_module_can_be_lesioned(tagger):
    x = torch.randn(3, 5, 2)
    place = np.arange(15).reshape(3, 5) % 4
    with torch.no_grad():
        state = tagger.cell(x)[0]
        reference = recording_of(state.numpy(), "cell", place)
        mean = state.mean((0, 1))
        at_place = torch.stack([state[torch.from_numpy(place == p)].mean(0) for p in range(4)])[
            place
        ]
        wanted = {"mean": mean.expand_as(state), "zero": 0 * state, "position": at_place}
        for how, values in wanted.items():
            changed = state.clone()
            changed[..., [0, 3]] = values[..., [0, 3]]
            position = {"x": place} if how == "position" else None
            with ablate(tagger, {"cell": [0, 3]}, how, reference=reference, position=position):
                close(tagger(x), tagger.head(changed))
        with ablate(tagger, {"head.1": 2}, "zero"), ablate(tagger, {"cell[0]": [1]}, "zero"):
            lesioned = tagger(x)
        state[..., 1] = 0
        hidden = tagger.head[:2](state)
        hidden[..., 2] = 0
        close(lesioned, tagger.head[2](hidden))


def test_outputs_in_tuples_and_mappings_keep_their_kind():
    Pair = namedtuple("Pair", "first second")
    output = {"a": Pair(torch.ones(2), [torch.zeros(2), torch.zeros(3)])}
    got = changed(output, ["a", "1", "0"], lambda tensor: tensor + 5)
    assert type(got["a"]) is Pair
    assert got["a"].second[0].tolist() == [5, 5]
    assert output["a"].second[0].tolist() == [0, 0]


def test_a_recorded_network_of_another_kind_serves_as_reference(tagger):
    x = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)
    behaviour = {"x": np.arange(15).reshape(3, 5) % 4}
    run = {"inputs": {"input": x}, "progress": False, "layers": ["cell[0]", "head.1"]}
    reference = record(tagger, behaviour, **run)
    with ablate(tagger, {"cell[0]": [1, 2], "head.1": [0]}, reference=reference):
        lesioned = record(tagger, behaviour, **run)
    for layer, units in (("cell[0]", [1, 2]), ("head.1", [0])):
        got = of_layer([lesioned], layer).activation.values[..., units]
        want = np.broadcast_to(mean([reference], layer)[units], got.shape)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"ffn.2": [0]}, r"there is no layer 'ffn.2' \(there are ffn.1, ffn.0"),
        (
            {"ffn.1": [0, 12], "x": [1]},
            r"ffn.1: unit numbers must be in 0–11, got \[12\]; there is",
        ),
        ({"ffn.1": [-1]}, r"must be in 0–11, got \[-1\]"),
        ({"ffn.1": [0.5]}, r"must be whole and in one row, got \[0.5\]"),
        ({"ffn.1": np.ones(3, bool)}, r"a boolean array must have 12 entries, got \(3,\)"),
        (xr.DataArray([True], dims="unit"), "must have the coordinates layer and index"),
        (["ffn.1/3", "ffn.1"], r"must be labels \"layer/index\" .* got \['ffn.1'\]"),
        (["ffn.1/12"], r"ffn.1: unit numbers must be in 0–11, got \[12\]"),
        (
            xr.DataArray(
                [0.3], {"layer": ("unit", ["ffn.0"]), "index": ("unit", [0])}, dims="unit"
            ),
            "must be boolean or labels when it is a DataArray, got float64",
        ),
    ],
)
def test_units_that_do_not_exist_are_refused(model, units, message):
    with pytest.raises(ValueError, match=message), ablate(model, units, "zero"):
        pass
    assert hooks(model) == 0


def test_other_bad_arguments_are_refused(model, walk, reference, tagger):
    with (
        pytest.raises(TypeError, match=r"units must be labels .* got \[3, 5\]"),
        ablate(model, [3, 5]),
    ):
        pass
    with pytest.raises(ValueError, match="how must be one of mean, zero, .*, got 'median'"):
        ablate(model, SOME, "median").__enter__()
    with pytest.raises(
        ValueError, match=r"reference must hold the layer 'content.ffn.0'.*both rec"
    ):
        ablate(model, SOME, reference=reference[0]).__enter__()
    with ablate(model, {"ffn.1": [0]}, reference=reference[0]):  # nothing reads its letter stream
        pass
    with (
        pytest.raises(ValueError, match="needs the current place of every walk"),
        ablate(model, SOME, "position", reference=reference),
    ):
        model(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="reference must be a Recording of the lesioned layers"):
        ablate(tagger, {"cell": [0]}).__enter__()
    with (
        pytest.raises(ValueError, match="head.1 has 6 of them, got 6"),
        ablate(tagger, {"head.1": [6]}, "zero"),
    ):
        tagger(torch.randn(1, 2, 2))
    x = recording_of(np.ones((1, 4, 4), np.float32), "cell", np.zeros((1, 4)))
    with (
        pytest.raises(ValueError, match=r"position\['x'\] must be \(walk, time\) = \(1, 2\)"),
        ablate(tagger, {"cell": [0]}, "position", reference=x, position={"x": [[0]]}),
    ):
        tagger(torch.randn(1, 2, 2))


class Sparse(nn.Module):
    """An output that is not held as a dense tensor."""

    def forward(self, x):
        return x.to_sparse()


@pytest.mark.parametrize("how", ["zero", "gain"])
def test_a_sparse_output_is_refused_by_name(how):
    network = nn.Sequential(Sparse())
    options = {"dose": 2.0} if how == "gain" else {}
    with (
        perturb(network, {"0": [1]}, how, **options),
        pytest.raises(ValueError, match="units: '0' must give an ordinary dense tensor"),
    ):
        network(torch.ones(2, 3))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.GroupNorm(2, 4)])
def test_units_behind_a_norm_of_samples_are_on_the_last_axis(norm):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 2)).eval(), torch.randn(6, 3)
    with torch.no_grad():
        hidden = net[:2](x)
        hidden[:, 1] = 0
        want = net[2](hidden)
        with ablate(net, {"1": [1]}, "zero"):
            close(net(x), want)
        numbered = pytest.raises(ValueError, match="says how its units are numbered")
        with ablate(net, {"1": [1]}, "zero"), numbered:
            net[1](torch.randn(6, 4, 5))


class Spikes(nn.Module):
    """Gives spikes as booleans or whole numbers."""

    def __init__(self, dtype):
        super().__init__()
        self.fires, self.dtype = nn.Identity(), dtype

    def forward(self, x):
        return self.fires((x > 0).to(self.dtype)).float()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_spikes_are_lesioned_by_values_that_they_can_have(dtype):
    net, x = Spikes(dtype), torch.randn(4, 30, 2)
    walks = {"x": np.zeros((4, 30)), "y": np.zeros((4, 30))}
    reference = record(net, walks, layers="fires", inputs={"v": x}, progress=False)
    spikes = (x > 0).float()
    np.testing.assert_array_equal(reference.activation, spikes)
    with ablate(net, {"fires": [1]}, "zero"):
        close(net(x), spikes * torch.tensor([1, 0]))
    with ablate(net, {"fires": [1]}, "resample", reference=reference):
        assert set(net(x).unique().tolist()) == {0, 1}
    fractions = pytest.raises(ValueError, match="how must give values that 'fires' can hold")
    with ablate(net, {"fires": [1]}, "mean", reference=reference), fractions:
        net(x)
    with perturb(net, {"fires": [1]}, "gain", 0.5), fractions:
        net(x)


def test_whole_numbers_that_stay_are_exact():
    net = nn.Sequential(nn.Identity())
    large = torch.full((2, 3, 4), 2**53 + 1)
    want = large.clone()
    want[..., 1] = 0
    with ablate(net, {"0": [1]}, "zero"):
        assert torch.equal(net(large), want)
    with perturb(net, {"0": [1]}, "gain", 2.0), pytest.raises(ValueError, match=r"uint8, got 400;"):
        net(torch.full((2, 3, 4), 200, dtype=torch.uint8))
