"""Any network: every value is the one its layer put out, whatever the way it is run."""

import ast
import pathlib
import re
import textwrap
import warnings
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import nn

from placeformer.data.arrays import from_arrays
from placeformer.data.schema import check_recording, read_provenance
from placeformer.interventions.lesions import ablate
from placeformer.models.fingerprints import weights_sha256
from placeformer.recording.record import record

RNG = np.random.default_rng(0)
PLACE = RNG.random((2, 5, 40)).astype(np.float32)
WALKS = {"x": PLACE[0], "y": PLACE[1]}
VELOCITY = np.gradient(PLACE, axis=2).transpose(1, 2, 0).astype(np.float32)
INPUTS = {"velocity": VELOCITY}


class Path(nn.Module):
    """A cell called once per step, layers that write into what the ones before them put out."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(2, 6)
        self.head = nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Linear(9, 3))

    def forward(self, velocity, state=None):
        hidden = []
        for t in range(velocity.shape[1]):
            state = self.cell(velocity[:, t], state)
            hidden.append(state[0])
        return self.head(torch.stack(hidden, 1)), state


@pytest.fixture
def path():
    torch.manual_seed(0)
    return Path()


def run(network, walks=WALKS, **settings):
    return record(network, walks, **({"inputs": INPUTS, "progress": False} | settings))


def expected(path):
    """Cell, first linear layer before and after the in-place ReLU, computed by hand."""
    with torch.no_grad():
        state, hidden = None, []
        for t in range(40):
            state = path.cell(torch.from_numpy(VELOCITY[:, t]), state)
            hidden.append(state[0])
        cell = torch.stack(hidden, 1)
        linear = path.head[0](cell)
        return {"cell[0]": cell, "head.0": linear, "head.1": linear.relu()}


def carry(module, batch, state):
    return module(torch.from_numpy(batch["velocity"].values), state)[1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch": 2},
        {"forward": carry},
        {"forward": carry, "chunk": 7, "batch": 3},
        {"forward": carry, "chunk": 1},
    ],
)
def test_values_are_those_the_layers_put_out(path, settings):
    want = expected(path)
    got = run(path, layers=list(want), burn_in=9, **settings)
    check_recording(got, need=("x", "y"))
    for name, value in want.items():
        unit = got.activation.where(got.layer == name, drop=True)
        np.testing.assert_allclose(unit, value[:, 9:], atol=1e-6, err_msg=name)
    assert (got.activation.where(got.layer == "head.0", drop=True) < 0).any()
    np.testing.assert_array_equal(got.x, PLACE[0][:, 9:])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_of_either_order(kind, batch_first):
    net = kind(2, 6, batch_first=batch_first)

    def forward(module, batch):
        velocity = torch.from_numpy(batch["velocity"].values)
        module(velocity if batch_first else velocity.transpose(0, 1))

    got = run(net, layers=net, forward=forward)
    with torch.no_grad():
        velocity = torch.from_numpy(VELOCITY)
        want = net(velocity if batch_first else velocity.transpose(0, 1))[0]
    want = want if batch_first else want.transpose(0, 1)
    np.testing.assert_allclose(got.activation, want, atol=1e-6)  # record takes one thread
    assert set(got.layer.values) == {kind.__name__}


def test_a_transformer_encoder_equals_its_own_forward():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.Linear(2, 8), nn.TransformerEncoder(layer, 2)).eval()
    got = run(net, layers="1.layers.*")  # out_proj and others are never called
    with torch.no_grad():
        want = net(torch.from_numpy(VELOCITY))
    last = got.activation.where(got.layer == "1.layers.1", drop=True)
    np.testing.assert_allclose(last, want, atol=1e-5)
    assert {"1.layers.0.linear1", "1.layers.1.norm2"} <= set(got.layer.values)
    assert not any("out_proj" in name for name in got.layer.values)


def test_images_in_one_axis_of_samples_are_flattened_into_units():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 4))
    views = RNG.random((5, 40, 1, 6, 6)).astype(np.float32)

    def forward(module, batch):
        module(torch.from_numpy(batch["views"].values).flatten(0, 1))

    got = run(net, layers=["0", "3"], forward=forward, inputs={"views": views})
    with torch.no_grad():
        want = net[0](torch.from_numpy(views).flatten(0, 1)).reshape(5, 40, 48)
    np.testing.assert_array_equal(got.activation[..., :48], want)
    assert got.sizes["unit"] == 52
    assert "views" not in got


class Rich(nn.Module):
    def forward(self, x):
        pair = (x, x * 2, x.sum(1))
        return {"hidden": pair, "note": "no tensor", "last": x[:, -1]}


def test_outputs_are_named_by_paths():
    net = nn.Sequential(Rich())
    for path, factor in (("[hidden][0]", 1), ("[hidden][1]", 2)):
        got = run(net, layers=f"0{path}")
        np.testing.assert_array_equal(got.activation, VELOCITY * factor)
        assert set(got.layer.values) == {f"0{path}"}
    several = r"'0' has several outputs with time: '0\[hidden\]\[0\]' .*, '0\[hidden\]\[1\]'"
    with pytest.raises(ValueError, match=several):
        run(net, layers="0")
    with pytest.raises(
        ValueError, match=r"'0\[hiden\]' must be one of the outputs of '0', which are '0\[hid"
    ):
        run(net, layers="0[hiden]")


class Keyed(nn.Module):
    """Gives mappings with odd keys, one of which cannot be written to."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, velocity):
        outputs = {"layer4.1": velocity, 0: velocity * 2, "a b": {"h-1": velocity * 3}}
        return self.inner(MappingProxyType(outputs))


@pytest.mark.parametrize(
    ("path", "factor"), [("[layer4.1]", 1), ("[0]", 2), ("[a b][h-1]", 3)], ids=lambda x: str(x)
)
def test_keys_of_an_output_may_be_any_text_or_number(path, factor):
    net = Keyed()
    got = run(net, layers=f"inner{path}", batch=2)
    np.testing.assert_allclose(got.activation, VELOCITY * factor, rtol=1e-6)
    with ablate(net, got.isel(unit=[1]), "zero"):
        lesioned = run(net, layers=f"inner{path}")
    np.testing.assert_array_equal(lesioned.activation[..., 1], 0)
    np.testing.assert_array_equal(lesioned.activation[..., 0], got.activation[..., 0])


class Apart(nn.Module):
    """Has parameters of its forward pass that must not be exchanged."""

    def __init__(self):
        super().__init__()
        self.out = nn.Identity()

    def forward(self, first, second, scale=None, *, bias=None):
        return self.out(first - second + (0 if bias is None else bias))


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (("second", "first"), -1),  # by name
        (("a", "b"), 1),  # others: in their order
        (("bias", "first", "second"), 2),  # by keyword alone
    ],
)
def test_inputs_named_as_parameters_are_passed_by_name(names, want):
    values = {name: VELOCITY * factor for name, factor in zip(names, (2, 1, 1), strict=False)}
    got = run(Apart(), layers="out", inputs=values)
    np.testing.assert_allclose(got.activation, VELOCITY * want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("names", [("second", "a"), ("second",), ("a", "first"), ("bias", "a")])
def test_inputs_that_would_be_taken_for_others_are_refused(names):
    with pytest.raises(ValueError, match=r"would be passed as another one.*first, second, scale"):
        run(Apart(), layers="out", inputs=dict.fromkeys(names, VELOCITY))


def test_inputs_named_in_part_are_passed_in_their_order():
    got = run(Apart(), layers="out", inputs={"first": 2 * VELOCITY, "b": VELOCITY})
    np.testing.assert_allclose(got.activation, VELOCITY, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["observation", "action", "unit", "layer", "activation"])
def test_inputs_may_have_the_names_of_a_recording(name):
    """They are not recorded: what a network observes may be a vector or a picture."""
    network = nn.Linear(2, 3)
    got = run(network, layers="Linear", inputs={name: VELOCITY})
    with torch.no_grad():
        np.testing.assert_allclose(got.activation, network(torch.from_numpy(VELOCITY)), rtol=1e-5)


def test_names_that_a_recording_needs_are_refused():
    with pytest.raises(ValueError, match="walks must not use the name 'unit'"):
        run(nn.Linear(2, 3), WALKS | {"unit": PLACE[0]}, layers="Linear")
    with pytest.raises(TypeError, match="inputs must have names that are text, got 1"):
        run(nn.Linear(2, 3), layers="Linear", inputs={1: VELOCITY})


TENSORS = {
    "of a graph": lambda x: x.clone().requires_grad_(),
    "parameter": nn.Parameter,
    "bfloat16": lambda x: x.bfloat16(),
    "sparse": lambda x: x.to_sparse(),
    "list": lambda x: list(x.clone().requires_grad_()),
    "negated": lambda x: torch.complex(x, -x).conj().imag,
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_any_kind_are_inputs_behaviour_and_activations(kind):
    make = TENSORS[kind]
    x, place = torch.from_numpy(VELOCITY), torch.from_numpy(PLACE[0])
    got = run(nn.Identity(), {"x": make(place)}, layers="Identity", inputs={"v": make(x)})
    other = from_arrays(make(x), {"x": make(place)})
    tolerance = 1e-2 if kind == "bfloat16" else 0
    for found in (got, other):
        np.testing.assert_allclose(found.activation, VELOCITY, rtol=tolerance)
        np.testing.assert_allclose(found.x, PLACE[0], rtol=tolerance)


class Phases(nn.Module):
    """Takes complex numbers, with complex weights or with real ones."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3, dtype=dtype))

    def forward(self, z):
        assert z.dtype == torch.complex64
        return (z @ self.weight.to(torch.complex64)).abs()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float32])
def test_complex_inputs_have_the_precision_of_the_network(dtype):
    z = np.exp(1j * VELOCITY.astype(float))  # complex128, as NumPy makes it
    got = run(Phases(dtype), layers="Phases", inputs={"z": z})
    np.testing.assert_allclose(got.activation[..., 0], np.abs(z.sum(-1)), rtol=1e-5)


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network as a dataclass."""

    hidden: object
    last: object = None


class Typed(nn.Module):
    """Gives a dataclass, which holds another one."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, velocity):
        out = self.inner(Outputs(Outputs(velocity * 2, "no tensor"), velocity[:, -1]))
        return out.hidden.hidden.sum(-1, keepdim=True)


@pytest.mark.parametrize("layer", ["inner", "inner[hidden][hidden]"])
def test_outputs_may_be_dataclasses(layer):
    net = Typed()
    got = run(net, layers=layer)
    np.testing.assert_array_equal(got.activation, VELOCITY * 2)
    with ablate(net, got.isel(unit=[1]), "zero"):
        np.testing.assert_allclose(net(torch.from_numpy(VELOCITY))[..., 0], VELOCITY[..., 0] * 2)
    with pytest.raises(
        ValueError, match=r"'inner\[hiden\]' must be one of the outputs of 'inner', which are 'in"
    ):
        run(net, layers="inner[hiden]")


@dataclass
class Late:
    """Outputs of which one is set later, or never."""

    hidden: object
    later: object = field(init=False)


def test_fields_that_are_not_set_are_no_outputs():
    net = nn.Sequential(nn.Identity())
    net[0].forward = Late
    np.testing.assert_array_equal(run(net, layers="0").activation, VELOCITY)


class Padded(nn.Module):
    """A Transformer encoder that does not attend to the last steps."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2, 4)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2
        )

    def forward(self, velocity):
        mask = torch.arange(velocity.shape[1]).expand(velocity.shape[:2]) > 36
        return self.encoder(self.embed(velocity), src_key_padding_mask=mask)


@pytest.mark.parametrize("layer", ["encoder.layers.0", "encoder.layers.1.linear2"])
def test_layers_of_a_padded_encoder_are_those_without_the_fast_path(layer):
    net, seen = Padded().eval(), []
    handle = net.get_submodule(layer).register_forward_hook(lambda *a: seen.append(a[2].detach()))
    net(torch.from_numpy(VELOCITY))  # with gradients there is no fast path, which nests the walks
    handle.remove()
    got = run(net, layers=layer)
    np.testing.assert_allclose(got.activation, seen[0], atol=1e-5)
    with ablate(net, got.isel(unit=[1]), "zero"):
        lesioned = run(net, layers=layer)
    np.testing.assert_array_equal(lesioned.activation[..., 1], 0)
    assert torch.backends.mha.get_fastpath_enabled()


class Nested(nn.Module):
    def forward(self, x):
        return torch.nested.nested_tensor(list(x))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_output_is_refused_by_name():
    with pytest.raises(ValueError, match=r"layers: '0' must give an ordinary .* got a nested one"):
        run(nn.Sequential(Nested()), layers="0")


def test_brackets_are_a_path_and_never_a_pattern():
    net = nn.ModuleDict({"rnn": nn.GRU(2, 3, batch_first=True), "rnn1": nn.GRU(2, 3)})
    with pytest.raises(ValueError, match=r"'rnn\[1\]' matches no layer"):  # less its path, [0]
        record(net, {"x": PLACE[0]}, layers="rnn[[0]1]", inputs={"v": VELOCITY}, progress=False)
    net.forward = lambda velocity: net["rnn"](velocity)[0]
    with pytest.raises(ValueError, match=r"'rnn' has no time axis .* 'rnn\[-1\]"):
        record(net, {"x": PLACE[0]}, layers="rnn[-1]", inputs={"v": VELOCITY}, progress=False)


def test_axes_can_be_named_for_all_layers_or_for_each():
    net = nn.Sequential(nn.Linear(2, 40), nn.ReLU())
    named = ("walk", "time", "unit")
    with pytest.raises(ValueError, match=r"can be \(walk, time, unit\) or \(walk, unit, time\)"):
        run(net, layers="0")
    one = run(net, layers=["0", "1"], dims=named)
    each = run(net, layers=["0", "1"], dims={"0": named, "1": list(named)})
    xr.testing.assert_equal(one, each)
    with pytest.raises(ValueError, match=r"dims must name recorded layers, 0, 1, got 2"):
        run(net, layers=["0", "1"], dims={"2": named})


def test_the_way_out_of_two_readings_works_as_it_is_printed():
    net = nn.LSTM(2, 3, batch_first=True)
    walks, velocity = {"x": PLACE[0, :, :5]}, VELOCITY[:, :5]
    with pytest.raises(ValueError, match=r"for 5 walks of 5 steps") as error:
        run(net, walks, layers="LSTM", inputs={"velocity": velocity})
    whole, each = re.findall(r"dims=(\(.*?\)) for all layers, or dims=(\{.*\})", str(error.value))[
        0
    ]
    for dims in (ast.literal_eval(whole), ast.literal_eval(each)):
        run(net, walks, layers="LSTM", inputs={"velocity": velocity}, dims=dims)


def test_positions_are_in_the_units_that_are_named():
    net = nn.Linear(2, 3)
    assert run(net, layers="Linear", position_units="m").y.units == "m"
    assert run(net, layers="Linear").y.units == run(net, layers="Linear").x.units != "m"
    named = xr.Dataset({"x": (("walk", "time"), PLACE[0], {"units": "cm"})})
    assert run(net, named, layers="Linear").x.units == "cm"


def test_inputs_of_any_number_type_and_of_whole_walks():
    class Start(nn.Module):
        def __init__(self):
            super().__init__()
            self.letter = nn.Embedding(4, 3)

        def forward(self, letters, start):
            return self.letter(letters) + start[:, None]

    net, letters, start = Start(), RNG.integers(0, 4, (5, 40)), RNG.random((5, 3))
    with torch.no_grad():
        want = net(torch.from_numpy(letters), torch.from_numpy(start).float())
    named = xr.DataArray(start, dims=("walk", "axis"))
    for kind in ("uint8", "int16", "int32"):
        read_only = letters.astype(kind)
        read_only.flags.writeable = False
        got = run(net, layers="Start", inputs={"letters": read_only, "start": named}, batch=2)
        np.testing.assert_array_equal(got.activation, want)
    assert "start" not in got
    with pytest.raises(
        ValueError, match=r"inputs\['start'\].* got \(5, 3\).*name its axes: xr.Data"
    ):
        run(net, layers="Start", inputs={"letters": letters, "start": start})


def test_an_error_of_the_network_says_how_it_was_called():
    with pytest.raises(
        RuntimeError, match=r"called Conv2d with velocity \(5, 40, 2\) torch\.float32"
    ):
        run(nn.Conv2d(1, 1, 3), layers="Conv2d")


def test_a_module_that_several_share_is_refused():
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(2, 3), relu, nn.Linear(3, 3), relu)
    with pytest.raises(
        ValueError, match=r"'1' \(5, 40, 3\) in each of 2 calls.*share it cannot be"
    ):
        run(net, layers="1")


def test_only_the_wanted_units_are_recorded():
    net = nn.Sequential(nn.Linear(2, 6), nn.Tanh())
    whole = run(net, layers=["0", "1"])
    few = run(net, units={"1": [4, 0], "0": np.array([5])})
    assert few["index"].values.tolist() == [4, 0, 5]
    np.testing.assert_array_equal(few.activation, whole.activation[..., [10, 6, 5]])
    again = run(net, units=whole.isel(unit=[10, 6, 5]))
    xr.testing.assert_equal(run(net, units=["1/4", "0/5", "1/0"]), again)
    np.testing.assert_array_equal(again.activation, few.activation)
    rest = run(net, layers=["0", "1"], units={"0": [2]})
    assert rest.sizes["unit"] == 7


def test_units_are_selected_by_a_boolean_table():
    net = nn.Sequential(nn.Linear(2, 6), nn.Tanh())
    whole = run(net, layers=["0", "1"])
    chosen = xr.zeros_like(whole["index"], dtype=bool)
    chosen[[5, 6, 10]] = True
    few = run(net, units=chosen)
    assert few["unit"].values.tolist() == ["0/5", "1/0", "1/4"]
    np.testing.assert_array_equal(few.activation, whole.activation[..., [5, 6, 10]])
    labels_only = chosen.drop_vars(["layer", "component", "index"])
    xr.testing.assert_equal(run(net, units=labels_only), few)
    with pytest.raises(ValueError, match="units must hold at least one unit of one layer"):
        run(net, units=xr.zeros_like(chosen))
    with pytest.raises(ValueError, match="units must have only the dimension unit .*got map, unit"):
        run(net, units=chosen.expand_dims(map=2))


def test_behaviour_is_carried_along():
    walks = xr.Dataset(
        {
            "speed": (("walk", "time"), PLACE[0]),
            "images": (("walk", "time", "pixel"), VELOCITY),
            "x": (("time", "walk"), PLACE[0].T, {"units": "m"}),
        },
        coords={"time": np.arange(40) / 10, "map": ("walk", [0, 0, 1, 1, 1])},
        attrs={"sample_rate": 10, "edges": np.arange(3)},
    )

    def forward(module, batch):
        assert batch.images.dims == ("walk", "time", "pixel")
        module(torch.from_numpy(batch.images.values))

    got = run(nn.Linear(2, 3), walks, layers="Linear", forward=forward, inputs=None, burn_in=4)
    assert set(got.data_vars) == {"activation", "speed"}
    np.testing.assert_array_equal(got.x, PLACE[0][:, 4:])
    assert got.x.units == "m"
    assert got.time.values[0] == 0.4
    assert got["map"].values.tolist() == [0, 0, 1, 1, 1]
    assert set(got.attrs) == {"sample_rate", "provenance"}
    step = read_provenance(got)["steps"][-1]
    assert step["outputs"]["Linear"] == {"path": "", "dims": ["walk", "time", "unit"], "width": 3}
    assert len(step["network"]["weights_sha256"]) == len(step["walks_sha256"]) == 64


def test_noise_is_the_same_again_and_depends_on_the_seed():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    net = nn.Sequential(Noisy())
    one, two, other = (run(net, layers="0", batch=2, seed=s).activation for s in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    assert len(np.unique((one.values - VELOCITY).round(4))) > 100  # each part draws anew


SLOW = [pytest.param(where, marks=pytest.mark.slow) for where in ("whole", "inside", "in place")]


@pytest.mark.parametrize("where", ["parallel", *SLOW])  # torch.compile takes seconds to import
def test_compiled_and_parallel_networks_are_recorded_as_the_original(where):
    net = nn.Sequential(nn.Linear(2, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 3)))
    layers, want = ["0", "1.1"], run(net, layers=["0", "1.1"])
    if where == "whole":
        net = torch.compile(net, backend="eager")
    elif where == "inside":
        net[1], layers = torch.compile(net[1], backend="eager"), ["0", "1._orig_mod.1"]
    elif where == "in place":
        net[1].compile(backend="eager")
    else:
        net = nn.DataParallel(net)
    with torch.no_grad():
        net(torch.from_numpy(VELOCITY))
    np.testing.assert_array_equal(run(net, layers=layers).activation, want.activation)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_hook_is_left_when_the_forward_pass_fails(path, error):
    def forward(module, batch):
        module(torch.from_numpy(batch["velocity"].values))
        raise error("stop")

    with pytest.raises(error, match="stop"):
        run(path, layers="head.0", forward=forward)
    assert not any(module._forward_hooks for module in path.modules())
    assert path.training


def test_a_pattern_takes_the_layers_that_are_called_first():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Identity(), nn.Identity(), nn.Identity()

        def forward(self, x, count=0):
            return (self.b if count else self.c)(self.a(x)), count + 1

    def forward(module, batch, state):
        return module(torch.from_numpy(batch["velocity"].values), state or 0)[1]

    net = Sometimes()
    assert set(run(net, layers="?", forward=forward).layer.values) == {"a", "c"}
    with pytest.raises(ValueError, match="'c' gave 0 steps|'c' was never called"):
        run(net, layers="?", forward=forward, chunk=20)
    for named in (["a", "b"], [net.a, net.b]):
        with pytest.raises(ValueError, match="'b' was never called"):
            run(net, layers=named, forward=forward)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"layers": "haed.0"},
            r"'haed\.0' matches no layer; did you mean head\.0.*There are Path, c",
        ),
        ({"layers": nn.ReLU()}, "layers: ReLU is not a module of the network"),
        ({"layers": []}, "layers must name at least one layer; there are Path, cell, head"),
        ({}, "layers must name at least one layer"),
        (
            {"layers": "cell"},
            r"'cell' has several outputs with time: 'cell\[0\]' \(5, 6\), 'cell\[1\]'",
        ),
        ({"layers": "head.0", "inputs": None}, "forward or inputs must say how the network is run"),
        ({"layers": "head.0", "walks": None}, "walks must hold the behaviour"),
        (
            {"layers": "head.0", "walks": xr.Dataset({"map": (("walk", "time"), PLACE[0])})},
            r"'map' must have dims \(walk\), got \(walk, time\)",
        ),
        (
            {"layers": "head.0", "inputs": {"x": VELOCITY}},
            "inputs must have other names than walks, got x in both",
        ),
        (
            {"layers": "head.0", "inputs": {"v": VELOCITY[:, :39]}},
            r"inputs\['v'\].* got \(5, 39, 2\); walks has 5 walks of 40 steps",
        ),
        (
            {"layers": "head.0", "chunk": 8},
            "chunk must be None unless forward takes a state, got 8",
        ),
        ({"layers": "head.0", "batch": 0}, "batch must be a whole number ≥ 1, got 0"),
        (
            {"layers": "head.0", "forward": carry, "chunk": 0},
            "chunk must be a whole number ≥ 1",
        ),
        (
            {"layers": "head.0", "burn_in": 40},
            r"burn_in must be in 0–39 for walks of 40 steps, got 40",
        ),
        ({"units": {"head.0": [9]}}, r"units: 'head\.0' has units 0–8, got 9"),
        ({"units": {"head.0": [1, 1]}}, r"units\['head\.0'\] must be at least one index"),
        ({"units": {"head.0": [True]}}, "must be at least one index of a unit"),
        ({"units": {}}, "units must hold at least one unit"),
        (
            {"units": {"cell[0]": [0]}, "layers": "head.0"},
            r"units must be of recorded layers, .*, got cell\[0\]",
        ),
        ({"layers": "head.0", "store": "s3://bucket/a"}, "store must be a folder on this machine"),
    ],
)
def test_bad_arguments_are_refused(path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(path, **settings)
    assert not any(module._forward_hooks for module in path.modules())


class Started(nn.Module):
    """A recurrent layer whose first state is computed from the first step."""

    def __init__(self):
        super().__init__()
        self.start, self.rnn = nn.Linear(2, 6), nn.GRU(2, 6, batch_first=True)

    def forward(self, x):
        return self.rnn(x, self.start(x[:, 0])[None])[0]


def test_a_pattern_leaves_out_layers_without_time():
    rng = np.random.default_rng(0)
    place, inputs = {"x": rng.random((4, 11))}, {"v": rng.random((4, 11, 2))}
    settings = {"inputs": inputs, "progress": False}
    got = record(Started(), place, layers="*", **settings)
    assert set(got.layer.values) == {"Started", "rnn"}
    for layer in ("start", "st*"):
        with pytest.raises(ValueError, match="'start' has no time axis of 11 steps"):
            record(Started(), place, layers=layer, **settings)


def test_a_layer_that_is_never_called_says_so():
    net = nn.MultiheadAttention(2, 1, batch_first=True)

    def forward(module, batch):
        velocity = torch.from_numpy(batch["velocity"].values)
        module(velocity, velocity, velocity)

    with pytest.raises(
        ValueError, match=r"'out_proj' was never called.*record the module that contains it"
    ):
        run(net, layers="out_proj", forward=forward)


def test_a_forward_pass_of_another_length_is_refused():
    def shorter(module, batch):
        module(torch.from_numpy(batch["velocity"].values)[:, 1:])

    net = nn.Linear(2, 3)
    with pytest.raises(
        ValueError, match=r"it gave 'Linear' \(5, 39, 3\) for behaviour of 5 walks of 40 steps"
    ):
        run(net, layers="Linear", forward=shorter)
    with pytest.raises(ValueError, match=r"does not fit.*time has 39"):
        run(net, layers="Linear", forward=shorter, dims=("walk", "time", "unit"))

    def later_shorter(module, batch, state):
        module(torch.from_numpy(batch["velocity"].values)[:, 1 if state else 0 :])
        return True

    with pytest.raises(ValueError, match="'Linear' gave 9 steps, and the behaviour has 10"):
        run(net, layers="Linear", forward=later_shorter, chunk=10)


@pytest.mark.parametrize(
    ("value", "dtype"), [(np.nan, "float32"), (-np.inf, "float32"), (1e5, "float16")]
)
def test_values_that_are_not_finite_are_refused_by_name(value, dtype):
    class Broken(nn.Module):
        def forward(self, x):
            x = x.clone()
            x[3, 20, 1] = value
            return x

    net = nn.Sequential(Broken())
    message = (
        rf"1 values of 1 units \(0/1\) that are NaN or infinite as {dtype} in walks 0 to 4, steps 0"
    )
    with pytest.raises(ValueError, match=message):
        run(net, layers="0", dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = run(net, layers="0", dtype=dtype, check_finite=False)
    assert np.sum(~np.isfinite(got.activation.values)) == 1


def test_large_values_that_are_finite_pass():
    net = nn.Linear(2, 4)
    nn.init.constant_(net.weight, 3e38)
    nn.init.constant_(net.bias, 1e38)
    walks = {"x": np.zeros((2, 5), np.float32)}
    got = record(
        net, walks, layers="Linear", inputs={"v": np.zeros((2, 5, 2), "f4")}, progress=False
    )
    assert (got.activation == np.float32(1e38)).all()


def test_the_code_of_the_page_on_recording_runs(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    page = pathlib.Path(__file__).parents[2] / "docs" / "recording.rst"
    blocks = re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", page.read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("".join(map(textwrap.dedent, blocks)), names)
    want = names["recording"].activation
    np.testing.assert_allclose(names["again"].activation, want, atol=1e-6)
    np.testing.assert_allclose(names["stored"].activation, want, atol=1e-6)
    assert names["seen"].sizes["unit"] == 4 * 4 * 4
    assert names["start"].sizes == {"walk": 8, "axis": 2}
    assert names["maps"].rate.shape == (32, 10, 10)
    assert names["neurons"].activation.units == "Hz"


def test_inputs_with_other_labels_than_the_walks_are_refused():
    dims, labels = ("walk", "time"), {"walk": range(5), "time": np.arange(40) / 10}
    walks = xr.Dataset({"x": (dims, PLACE[0])}, labels)
    velocity = xr.DataArray(VELOCITY, dims=(*dims, "axis"), coords=labels)
    options = {"layers": "Linear", "progress": False}
    net = nn.Linear(2, 3)
    record(net, walks, inputs={"velocity": velocity}, **options)
    with pytest.raises(ValueError, match=r"inputs\['velocity'\] and walks\['x'\] .* 'walk'"):
        record(net, walks.isel(walk=[1, 0, 2, 3, 4]), inputs={"velocity": velocity}, **options)
    late = velocity.assign_coords(time=velocity.time + 5)
    with pytest.raises(ValueError, match="must have the same labels of 'time'"):
        record(net, walks, inputs={"velocity": late}, **options)
    with pytest.raises(ValueError, match="must have the same labels of 'time'"):
        record(net, {"x": walks.x}, inputs={"velocity": late}, **options)


def test_behaviour_may_be_a_table_and_its_labels_count():
    table = pd.DataFrame({"x": PLACE[0, 0], "y": PLACE[1, 0]}, np.arange(40) / 10)
    inputs = {"velocity": pd.DataFrame(VELOCITY[0], table.index)}
    options = {"layers": "Linear", "progress": False}
    net = nn.Linear(2, 3)
    got = record(net, table, inputs=inputs, **options)
    arrays = {"x": PLACE[0, 0], "y": PLACE[1, 0]}
    want = record(net, arrays, inputs={"velocity": VELOCITY[:1]}, **options)
    np.testing.assert_array_equal(got.activation, want.activation)
    np.testing.assert_array_equal(got.y, want.y)
    with pytest.raises(ValueError, match=r"inputs\['velocity'\] .* same labels of 'time'"):
        record(net, table[::-1], inputs=inputs, **options)


class InPlace(nn.Module):
    """Works in place on what it is given."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, x):
        x -= 1.0
        return self.linear(x)


def in_place(module, batch):
    """Change the positions that it is given."""
    x = torch.from_numpy(batch["x"].values)
    x *= 100
    module.linear(torch.stack([x, x], -1).float())


def test_a_network_that_works_in_place_changes_nothing_of_the_caller():
    velocity = np.random.default_rng(0).normal(size=(4, 20, 2)).astype(np.float32)
    position = {"x": np.random.default_rng(1).random((4, 20))}
    known, place, net = velocity.copy(), position["x"].copy(), InPlace()
    options = {"layers": "linear", "progress": False}
    once, again = (record(net, position, inputs={"v": velocity}, **options) for _ in range(2))
    np.testing.assert_array_equal(velocity, known)
    np.testing.assert_array_equal(once.activation, again.activation)
    want = net.linear(torch.from_numpy(known - 1)).detach()
    np.testing.assert_allclose(once.activation, want, atol=1e-6)
    other = record(net, position, forward=in_place, **options)
    np.testing.assert_array_equal(other.x, place)
    np.testing.assert_array_equal(position["x"], place)


def test_statistics_of_the_batch_are_warned_of():
    net = nn.Sequential(nn.BatchNorm1d(40, track_running_stats=False))
    with pytest.warns(UserWarning, match=r"'0' normalises by the mean of the batch.* batch=5"):
        run(net, layers="0", batch=2)
    whole = run(net, layers="0")  # and no warning
    np.testing.assert_allclose(whole.activation.mean(("walk", "unit")), 0, atol=1e-5)


def test_networks_that_run_one_walk_after_another_are_told_of_batch():
    cell = nn.GRUCell(2, 3)

    def forward(module, batch):
        for walk in torch.from_numpy(batch["velocity"].values):
            hidden = torch.zeros(3)
            for step in walk:
                hidden = module(step, hidden)

    with pytest.raises(ValueError, match="pass batch=1 if it is run along one walk after another"):
        run(cell, layers="GRUCell", forward=forward)
    got = run(cell, layers="GRUCell", forward=forward, batch=1)
    with torch.no_grad():
        hidden = torch.zeros(5, 3)
        for t in range(40):
            hidden = cell(torch.from_numpy(VELOCITY[:, t]), hidden)
            np.testing.assert_allclose(got.activation[:, t], hidden, atol=1e-5)
    with pytest.raises(TypeError, match="forward must be a function"):
        run(cell, layers="GRUCell", forward=3)


class Graph(nn.Module):
    """Mixes its units by a sparse matrix that is a buffer."""

    def __init__(self, layout):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        edges = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
        self.register_buffer("edges", edges.to_sparse(layout=layout))

    def forward(self, velocity):
        units = self.linear(velocity)
        return (self.edges @ units.flatten(0, 1).T).T.reshape(units.shape)


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support:UserWarning")
def test_networks_with_sparse_buffers_are_recorded_and_told_apart(layout):
    net = Graph(layout)
    got = run(net, layers="Graph")
    with torch.no_grad():
        want = net.linear(torch.from_numpy(VELOCITY)) @ net.edges.to_dense().T
    np.testing.assert_allclose(got.activation, want, atol=1e-6)
    before = weights_sha256(net)
    net.edges.values().mul_(2) if layout != torch.sparse_coo else net.edges.mul_(2)
    assert weights_sha256(net) != before


class Quantized(nn.Module):
    """A layer that gives quantized numbers, in steps of 1/8."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, velocity):
        return self.inner(torch.quantize_per_tensor(velocity, 0.125, 0, torch.qint8)).dequantize()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_quantized_numbers_are_recorded_as_the_numbers_they_stand_for():
    velocity = RNG.integers(-9, 9, VELOCITY.shape).astype(np.float32) / 8
    got = run(Quantized(), layers="inner", inputs={"velocity": velocity})
    np.testing.assert_array_equal(got.activation, velocity)
    net, refused = Quantized(), pytest.raises(ValueError, match="'inner' must .* a quantized one")
    with refused, ablate(net, {"inner": [0]}, "zero"):
        net(torch.from_numpy(velocity))


def test_outputs_that_only_some_calls_give_are_left_out():
    class Cell(nn.Module):
        def forward(self, x, first):
            return {"hidden": 2 * x, **({"first": x} if first else {})}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = Cell()

        def forward(self, velocity):
            for t in range(velocity.shape[1]):
                self.cell(velocity[:, t], not t)

    np.testing.assert_allclose(run(Net(), layers="cell").activation, 2 * VELOCITY)


def test_layers_may_come_from_a_generator_or_be_a_wrapped_network():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    want = run(net, layers=["0", "1"])
    xr.testing.assert_identical(run(net, layers=(name for name in "01")), want)
    wrapped = nn.DataParallel(net)
    got = run(wrapped, layers=wrapped)
    np.testing.assert_array_equal(got.activation, want.activation[..., 3:])


@pytest.mark.parametrize("dims", ["walk", 3, ("walk", 1)])
def test_names_of_axes_are_not_letters_of_a_text(dims):
    net = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(TypeError, match="dims must be the names of the axes"):
        run(net, layers="0", dims=dims)
    refused = pytest.raises(TypeError, match="dims must be the names of the axes")
    with refused, ablate(net, {"0": [1]}, "zero", dims={"0": dims}):
        pass


@pytest.mark.parametrize("forward", [lambda module, batch, hidden: None, lambda module: None])
def test_a_function_of_other_parameters_is_refused(forward):
    with pytest.raises(TypeError, match="third parameter is named state"):
        run(nn.GRU(2, 3), layers="GRU", forward=forward)


@pytest.mark.slow  # torch.compile takes seconds to import
def test_a_compiled_forward_that_has_run_is_recorded():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval()
    velocity = torch.from_numpy(VELOCITY).contiguous()  # other strides would compile again
    net.forward = torch.compile(net.forward, backend="eager")
    with torch.no_grad():
        net(velocity)
        net(velocity[:2])  # the second shape compiles for walks of any number, without hooks
        want = net[0](velocity)
    np.testing.assert_array_equal(run(net, layers="0").activation, want)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"store": b"a.zarr"}, "store must be the path of a folder"),
        ({"store": 3}, "store must be the path of a folder"),
        ({"units": 3}, "units must be labels"),
        ({"position_units": 3}, "position_units must be text"),
    ],
)
def test_arguments_of_other_types_are_named(path, settings, message):
    with pytest.raises(TypeError, match=message):
        run(path, layers="head.0", **settings)


def test_walks_of_another_type_are_named():
    network = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(TypeError, match="walks must be a Dataset, a table or a mapping.*generator"):
        record(network, ({"x": 1} for _ in range(3)), layers="0", inputs={"input": np.ones(2)})
