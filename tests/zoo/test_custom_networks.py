"""Networks of registered classes: the same folder, hub and strictness as our own."""

import copy
import dataclasses
import hashlib
import json
import subprocess
import sys
import warnings
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import patch

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import placeformer as pf
from placeformer.zoo import classes, files
from placeformer.zoo.folder import FolderError
from placeformer.zoo.hub import EVALUATION, pull

REPO = "alice/rnn"
RESULTS = {"decoding": {"value": 0.125, "definition": "median error in metres"}}


@pf.register("test-rnn")
class RNN(nn.Module):
    """A recurrent network with tied weights, buffers of several kinds and Mg²⁺."""

    def __init__(self, n_units, sizes=(3, 2), options=None, p=0.1):
        super().__init__()
        options = options or {"alpha": 2.0}
        self.config = {"n_units": n_units, "sizes": sizes, "options": options, "p": p}
        self.n_steps, self.activation = 7, torch.relu
        self.gains, self.basis, self.last = {"out": 1.0}, torch.ones(2), None
        self.limits = SimpleNamespace(low=0.0, high=1.0)
        self.rnn = nn.GRU(sizes[0], n_units, batch_first=True)
        self.out = nn.Linear(n_units, sizes[1])
        self.back = nn.Linear(n_units, sizes[1], bias=False)
        self.back.weight = self.out.weight
        self.norm = nn.BatchNorm1d(sizes[1])
        self.units, self.drop = pf.NMDA(options["alpha"]), nn.Dropout(p)
        self.register_buffer("places", torch.arange(4))
        self.register_buffer("allowed", torch.tensor([True, False]))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)

    def forward(self, velocity):
        self.last = velocity
        self.shape = list(velocity.shape)  # what a run leaves is no setting
        hidden = self.drop(self.units(self.rnn(velocity)[0]))
        return self.norm(self.out(hidden).transpose(1, 2)) * self.scale


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = RNN(5)
    network(torch.randn(4, 6, 3))  # for the statistics of the norm
    return network.eval()


@pytest.fixture
def folder(model, tmp_path):
    pf.save(model, tmp_path / "net", results=RESULTS)
    return tmp_path / "net"


@pytest.fixture(autouse=True)
def registered():
    """Classes that a test registers are forgotten after it."""
    with patch.dict(classes.CLASSES):
        yield


def same(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[k].dtype == theirs[k].dtype and torch.equal(ours[k], theirs[k]) for k in ours
    )


def not_saved(model, *parts, error=FolderError, **options):
    with pytest.raises(error) as caught:
        pf.save(model, "/nowhere/at/all", **options)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def not_loaded(folder, *parts):
    with pytest.raises(FolderError) as caught:
        pf.load(folder)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def edit_config(folder, change):
    entries = json.loads((folder / "config.json").read_text())
    change(entries)
    (folder / "config.json").write_text(json.dumps(entries))
    rehash(folder)


def rehash(folder):
    """Make the checksums those of the files, as somebody who tampers with them would."""
    entries = json.loads((folder / "config.json").read_text())
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    entries["weights"]["sha256"] = sha256
    (folder / "config.json").write_text(json.dumps(entries))
    found = {f.name: f.read_bytes() for f in folder.iterdir() if f.name in files.HASHED}
    (folder / "SHA256SUMS").write_bytes(files.sums_of(found))


def edit_weights(folder, change):
    file = folder / "model.safetensors"
    with safe_open(file, "pt") as stream:
        metadata = stream.metadata()
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata)
    rehash(folder)


# Round trips


@pytest.mark.parametrize("dtype", [None, "exact", "float32", "float64"])
def test_it_comes_back_to_the_bit(model, tmp_path, dtype):
    pf.save(model, tmp_path / "net", dtype=dtype)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    loaded = pf.load(tmp_path / "net")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert type(loaded) is RNN and not loaded.training
    assert same(loaded, model)
    assert loaded.config == model.config | {"sizes": [3, 2]}
    assert loaded.back.weight is loaded.out.weight
    velocity = torch.randn(2, 6, 3)
    assert torch.equal(loaded(velocity), model(velocity))
    assert {f.name for f in (tmp_path / "net").iterdir()} == {
        "config.json", "model.safetensors", "README.md", "SHA256SUMS",
    }  # fmt: skip


@pf.register("test-normed")
class Normed(nn.Module):
    """A network whose weights are computed from parameters at every call."""

    config: ClassVar = {}

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings(action="ignore"):  # weight_norm is deprecated, and widely used
            first = nn.utils.weight_norm(nn.Linear(3, 4))
        new = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.layers = nn.Sequential(first, new, nn.utils.spectral_norm(nn.Linear(4, 2)))

    def forward(self, x):
        return self.layers(x)


def test_weights_that_are_computed_at_every_call_are_no_setting(tmp_path):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    model = Normed()
    model(x)
    model.eval()
    pf.save(model, tmp_path / "net")
    assert torch.equal(pf.load(tmp_path / "net")(x), model(x))


def test_floats_of_eight_bits_are_refused_by_name(model, tmp_path):
    model.scale = model.scale.to(torch.float8_e4m3fn)
    model._non_persistent_buffers_set.clear()
    with pytest.raises(FolderError, match="scale: expected floats of 16 bits or more, got torch.f"):
        pf.save(model, tmp_path / "net")


def test_float16_halves_the_file_and_rounds(model, tmp_path):
    sizes = {}
    for dtype in ("float16", "float32"):
        pf.save(model, tmp_path / dtype, dtype=dtype)
        sizes[dtype] = (tmp_path / dtype / "model.safetensors").stat().st_size
    loaded = pf.load(tmp_path / "float16")
    assert loaded.rnn.weight_hh_l0.dtype == torch.float32
    assert torch.equal(loaded.rnn.weight_hh_l0, model.rnn.weight_hh_l0.half().float())
    assert torch.equal(loaded.places, model.places)  # integers are not rounded
    assert sizes["float16"] < sizes["float32"]
    again = tmp_path / "again"
    pf.save(loaded, again)  # exact, and that is float16 now
    assert pf.load(again).info["dtype"] == "float16"


def test_info_config_and_card_say_what_it_is(folder, model):
    loaded = pf.load(folder)
    assert loaded.info["class"] == "test-rnn"
    assert loaded.info["parameters"] == sum(w.numel() for w in model.parameters())
    assert loaded.info["results"] == {"decoding": 0.125}
    entries = json.loads((folder / "config.json").read_text())
    assert list(entries) == [
        "format_version", "library", "class", "config", "weights", "results",
    ]  # fmt: skip
    assert entries["class"] == {"name": "test-rnn", "module": __name__, "qualname": "RNN"}
    card = ModelCard((folder / "README.md").read_text())
    assert card.data.tags == ["placeformer", "test-rnn"] and card.data.license is None
    assert f"import {__name__}" in card.text and '"n_units": 5' in card.text
    assert "| decoding | 0.125 | median error in metres |" in card.text


def test_results_and_card_are_kept_until_a_weight_changes(folder, tmp_path):
    loaded = pf.load(folder)
    pf.save(loaded, tmp_path / "copy")
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "copy" / file.name).read_bytes()
    with torch.no_grad():
        loaded.out.bias += 1
    pf.save(loaded, tmp_path / "other")
    assert pf.load(tmp_path / "other").info["results"] == {}


@dataclasses.dataclass(frozen=True)
class Sizes:
    n_units: int
    rates: tuple = (0.1, 1)


def test_a_class_may_say_how_it_is_built(tmp_path):
    @pf.register("by-dataclass")
    class ByDataclass(nn.Module):
        def __init__(self, sizes):
            super().__init__()
            self.sizes = sizes
            self.cell = nn.GRUCell(2, sizes.n_units)

        @property
        def config(self):
            return self.sizes

        @classmethod
        def from_config(cls, config):
            return cls(Sizes(config["n_units"], tuple(config["rates"])))

    model = ByDataclass(Sizes(3))
    pf.save(model, tmp_path / "net")
    loaded = pf.load(tmp_path / "net")
    assert loaded.sizes == Sizes(3) and same(loaded, model)


def test_a_class_that_needs_values_at_its_making_is_built_with_memory(tmp_path):
    @pf.register("values")
    class Values(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.config = {"seed": seed}
            self.weight = nn.Parameter(torch.randn(3) * torch.ones(1).item())

    model = Values(1)
    pf.save(model, tmp_path / "net")
    assert same(pf.load(tmp_path / "net"), model)


def test_one_of_our_networks_may_be_inside(tmp_path):
    ours = pf.load("mini-nmda-a10")

    @pf.register("outer")
    class Outer(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.config = {"inner": inner}
            self.inner = pf.NavigationTransformer(pf.ModelConfig(**inner))

    model = Outer(dataclasses.asdict(ours.config))
    model.inner = ours
    pf.save(model, tmp_path / "net")
    assert same(pf.load(tmp_path / "net").inner, ours)
    with pf.magnesium(model, alpha=1):
        not_saved(model, "inner.layers.0.ffn.activation: expected NMDA(alpha=10, beta=1)")


def test_double_precision_is_kept(tmp_path):
    @pf.register("double")
    class Double(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {}
            self.weight = nn.Parameter(torch.full((2,), 0.1, dtype=torch.float64))

    pf.save(Double(), tmp_path / "net")
    loaded = pf.load(tmp_path / "net")
    assert loaded.info["dtype"] == "float64" and same(loaded, Double())


# The hub


def test_it_is_pushed_and_loaded_from_the_hub(local_hub, model, folder, tmp_path):
    url = pf.push(pf.load(folder), REPO, license="cc-by-4.0")
    assert url.startswith(f"{local_hub.url}/{REPO}/commit/")
    loaded = pf.load(REPO)
    assert same(loaded, model) and loaded.info["results"] == {"decoding": 0.125}
    card = ModelCard.load(REPO)
    assert card.data.license == "cc-by-4.0" and f'pf.load("{REPO}")' in card.text
    (result,) = card.data.eval_results
    assert result.metric_value == 0.125 and "GridWorld" not in str(card)
    assert EVALUATION not in local_hub.repositories[REPO].commits[loaded.info["revision"]]["files"]
    assert same(pull(REPO, tmp_path / "copy"), model)
    del classes.CLASSES["test-rnn"]
    local_hub.requests.clear()
    with pytest.raises(FolderError, match="expected a registered class, got 'test-rnn'"):
        pf.load(REPO, force_download=True)
    assert not local_hub.gets("model.safetensors")
    with pytest.raises(FolderError) as caught:
        pf.load(REPO)
    assert "damaged in transit" not in str(caught.value)


SAVES = """
import torch, placeformer as pf
import {module} as mine
torch.manual_seed(0)
model = mine.Net(4)
pf.save(model, {folder!r})
print(model(torch.ones(1, 3, 2)).sum().item())
"""
LOADS = """
import sys, torch, placeformer as pf
try:
    pf.load({folder!r})
except ValueError as error:
    print(error, "my_networks" in sys.modules, file=sys.stderr)
from my_networks import Net
model = pf.load({folder!r})
print(model(torch.ones(1, 3, 2)).sum().item())
"""
MODULE = """
import placeformer as pf
from torch import nn
print("imported")
@pf.register("net-of-mine")
class Net(nn.Module):
    def __init__(self, n_units):
        super().__init__()
        self.config = {"n_units": n_units}
        self.rnn = nn.GRU(2, n_units, batch_first=True)
    def forward(self, x):
        return self.rnn(x)[0]
"""


def run(script, cwd):
    return subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_a_fresh_process_says_what_to_import_and_imports_nothing(tmp_path):
    (tmp_path / "my_networks.py").write_text(MODULE)
    folder = str(tmp_path / "net")
    saved = run(SAVES.format(module="my_networks", folder=folder), tmp_path)
    assert saved.returncode == 0, saved.stderr
    loaded = run(LOADS.format(folder=folder), tmp_path)
    assert loaded.stdout == saved.stdout
    assert "write `from my_networks import Net` before" in loaded.stderr
    assert loaded.stderr.endswith("False\n")


# Registration


@pytest.mark.parametrize(
    ("name", "error", "part"),
    [
        ("", ValueError, "1 to 96 letters"),
        ("a/b", ValueError, "1 to 96 letters"),
        ("../x", ValueError, "1 to 96 letters"),
        ("x" * 97, ValueError, "1 to 96 letters"),
        ("Navigation-Transformer", ValueError, "name must not be one of"),
        ("placeformer", ValueError, "name must not be one of"),
        (3, TypeError, "name must be text"),
        (RNN, TypeError, 'as in @pf.register("my-rnn")'),  # the decorator without parentheses
    ],
)
def test_names_that_cannot_be_are_refused(name, error, part):
    with pytest.raises(error) as caught:
        pf.register(name)
    assert part in str(caught.value)


def test_what_cannot_be_registered_is_refused():
    with pytest.raises(TypeError, match="must decorate a subclass of torch.nn.Module"):
        pf.register("x")(lambda: None)
    with pytest.raises(TypeError, match="must decorate a subclass of torch.nn.Module"):
        pf.register("x")(dict)
    with pytest.raises(TypeError, match="saved and loaded without being registered"):
        pf.register("x")(type("Mine", (pf.NavigationTransformer,), {}))
    with pytest.raises(ValueError, match="must not have an attribute info"):
        pf.register("x")(type("Mine", (nn.Module,), {"info": 1}))
    with pytest.raises(ValueError, match=r"got 'test-rnn', which is already the name of \S+\.RNN"):
        pf.register("test-rnn")(type("Mine", (nn.Module,), {}))
    with pytest.raises(
        ValueError, match="must have one name, got 'x', but it is registered as 'test-rnn'"
    ):
        pf.register("x")(RNN)


def test_a_cell_of_a_notebook_may_be_run_again(tmp_path):
    def cell(name):
        @pf.register(name)
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.config = {}
                self.layer = nn.Linear(1, 1)

        return Net

    old = cell("cell")()
    new = cell("cell")()
    pf.save(new, tmp_path / "net")
    not_saved(old, "its class has been redefined", error=TypeError)
    cell("renamed")
    assert "cell" not in classes.CLASSES
    not_loaded(tmp_path / "net", "'cell'", "defined in the script or notebook that saved")


def test_what_is_not_registered_says_how_to_register_it():
    class Mine(RNN):
        """Its base class is registered, it is not."""

    not_saved(Mine(2), 'decorate the class Mine with @pf.register("my-network")', error=TypeError)
    not_saved(nn.Sequential(nn.GRU(1, 1)), "that contains the Sequential", error=TypeError)
    not_saved(nn.DataParallel(RNN(2)), "pass the network inside, model.module", error=TypeError)
    compiled = type("OptimizedModule", (nn.Module,), {})()  # what torch.compile returns
    not_saved(compiled, "the network inside, model._orig_mod", error=TypeError)
    not_saved(RNN, "got type; pass a torch.nn.Module", error=TypeError)
    not_saved(RNN(2), "dtype must be one of float16, float32, float64, exact", dtype="int8",
              error=ValueError)  # fmt: skip


# What cannot be saved as it is


class Kind(Enum):
    GRU = "gru"


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (None, "config: expected a mapping of what the class RNN is built with, got None"),
        ([1], 'write self.config = {"n_units": n_units, ...} in __init__'),
        ({"a": torch.float32}, "config.a: expected what JSON has"),
        ({"a": {"b": [1, torch.zeros(1)]}}, "config.a.b[1]: expected what JSON has"),
        ({"a": np.int64(3)}, "got int64"),
        ({"a": Kind.GRU}, "got Kind"),
        ({"a": float("nan")}, "config.a: expected a finite number, got nan"),
        ({"a": 2**63}, "config.a: expected at most 63 bits"),
        ({"a": {1: 2}}, "config.a: expected keys that are text, got 1"),
        ({"n_unit": 5}, "RNN(**config) must build the network, got TypeError"),
        ({"n_units": 6}, "model.safetensors: rnn.weight_ih_l0: expected shape (18, 3), got"),
        ({"n_units": 5, "p": 0.5}, "drop: expected Dropout(p=0.5"),
        ({"n_units": 5, "options": {"alpha": 3.0}}, "units: expected NMDA(alpha=3"),
    ],
)
def test_a_config_that_is_not_the_networks_is_refused(model, config, part):
    model.config = config
    not_saved(model, part)


def test_a_config_that_contains_itself_is_refused(model):
    model.config["options"] = model.config
    not_saved(model, "expected at most 32 nested objects")


def set_value(name, value):
    def change(model):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0] = value

    return change


def untied(model):
    model.back.weight = nn.Parameter(model.out.weight.detach().clone())


def grown(model):
    model.extra = nn.Linear(1, 1)


def settled(model):
    model.n_steps = 8


def scaled(model):
    model.scale *= 2


def activated(model):
    model.activation = torch.tanh


def optioned(model):
    model.gains["out"] = 5.0


def limited(model):
    model.limits.high = 2.0


def rebased(model):
    model.basis = model.basis * 2


def hooked(model):
    model.rnn.register_forward_hook(lambda *_: None)


def replaced(model):
    model.forward = lambda velocity: velocity


def counted(model):
    model.places = model.places.float()


@pytest.mark.parametrize(
    ("change", "options", "part"),
    [
        (set_value("out.bias", torch.nan), {}, "out.bias: expected finite weights, got NaN"),
        (set_value("out.bias", torch.inf), {}, "out.bias: expected finite weights, got NaN or inf"),
        (set_value("out.bias", 1e5), {"dtype": "float16"}, "out.bias: expected at most 65504"),
        (lambda m: m.mask.fill_(torch.nan), {}, "mask: expected numbers, got NaN"),
        (untied, {}, "back.weight and out.weight: expected them to share one tensor"),
        (grown, {}, "extra.weight: expected no such tensor"),
        (settled, {}, "n_steps: expected 7 in a RNN built from its config, got 8; make it part"),
        (activated, {}, "activation: expected relu in a RNN built from its config, got tanh"),
        (optioned, {}, "gains: expected {'out': 1.0} in a RNN built from its config, got"),
        (limited, {}, "limits: expected namespace(low=0.0, high=1.0) in a RNN built from its con"),
        (rebased, {}, "basis: expected tensor([1., 1.]) in a RNN"),
        (hooked, {}, "rnn: expected the hooks that it has in a RNN"),
        (replaced, {}, "forward: expected None in a RNN"),
        (scaled, {}, "scale: expected the values in a RNN built from its config, got others"),
        (counted, {}, "places: expected torch.int64, as its class builds it, got torch.float32"),
        (lambda m: m.double().out.bias.data.fill_(0.1), {}, "float64 that it would round"),
    ],
)
def test_a_network_that_its_config_does_not_give_back_is_refused(model, change, options, part):
    change(model)
    not_saved(model, part, **options)


def test_what_is_no_tensor_or_has_no_shape_is_refused():
    @pf.register("state")
    class State(nn.Module):
        def __init__(self, lazy=False):
            super().__init__()
            self.config = {"lazy": lazy}
            self.layer = nn.LazyLinear(2) if lazy else nn.Linear(1, 1)

        def get_extra_state(self):
            return {"steps": 3}

        def set_extra_state(self, state):
            pass

    not_saved(State(), "_extra_state: expected a tensor, got dict")
    not_saved(State(lazy=True), "layer.weight: expected a shape, got none yet; run the network")


def test_nothing_is_written_when_it_is_refused(model, tmp_path):
    model.config = {}
    with pytest.raises(FolderError):
        pf.save(model, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


# What is not read


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda t: t.pop("places"), "places: expected shape (4,), got no tensor"),
        (lambda t: t.update(more=torch.zeros(1)), "more: expected no such tensor"),
        (lambda t: t.update(mask=torch.zeros(3)), "mask: expected shape (2,), got (3,)"),
        (lambda t: t.update(places=t["places"].int()), "places: expected dtype I64, got I32"),
        (lambda t: t.update({"out.bias": t["out.bias"].half()}), "out.bias: expected dtype F32"),
        (lambda t: t["out.bias"].fill_(torch.nan), "out.bias: expected finite weights, got NaN"),
        (lambda t: t["back.weight"].add_(1), "out.weight: expected the values of back.weight"),
    ],
)
def test_damaged_tensors_are_refused_by_name(folder, change, part):
    edit_weights(folder, change)
    not_loaded(folder, part)


def in_class(**entries):
    return lambda config: config["class"].update(entries)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda c: c.update(world=None), 'config.json: unknown key "world"'),
        (lambda c: c.pop("config"), 'config.json: missing key "config"'),
        (lambda c: c.update(config=[1]), "config.json: config: expected an object, got [1]"),
        (lambda c: c["config"].update(p=0.5), "config.p: expected 0.1 (the weights were saved"),
        (lambda c: c["config"].update(n_units=6), "expected shape (18, 3), got (15, 3)"),
        (lambda c: c["config"].update(n_units=10**7), "expected about"),
        (lambda c: c["config"].update(n_units=10**12), "got RuntimeError: Storage size"),
        (lambda c: c["config"].update(q=1), "RNN(**config) must build the network, got TypeError"),
        (in_class(name="other"), "expected a registered class, got 'other'"),
        (in_class(qualname="\x1b[2J"), "class.qualname: expected a name, got '\\x1b[2J'"),
        (in_class(path="x.py"), 'config.json: class: unknown key "path"'),
        (lambda c: c["weights"].update(dtype="int8"), "float16 or float32 or float64"),
    ],
)
def test_a_damaged_config_is_refused_by_name(folder, change, part):
    edit_config(folder, change)
    not_loaded(folder, part)


def test_any_altered_file_is_refused(folder, tmp_path):
    for name in ("README.md", "config.json", "model.safetensors"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before[:-9] + b"x" + before[-8:])
        not_loaded(folder, f"{name}: expected sha256")
        (folder / name).write_bytes(before)
    pf.load(folder)


def test_nothing_is_imported_by_the_name_in_a_folder(folder, monkeypatch):
    edit_config(folder, in_class(name="evil", module="this", qualname="Evil"))
    sys.modules.pop("this", None)
    not_loaded(folder, "write `from this import Evil` before (on the command line: --import this)")
    assert "this" not in sys.modules


def test_a_class_that_returns_another_network_is_refused(tmp_path):
    @pf.register("liar")
    class Liar(nn.Module):
        config: ClassVar[dict] = {}

        @classmethod
        def from_config(cls, config):
            return nn.Linear(1, 1)

    not_saved(Liar(), "Liar.from_config(config) must return a Liar, got Linear")


def test_functions_for_the_paper_network_name_the_class(folder):
    with pytest.raises(TypeError, match="RNN"):
        pf.NavigationTransformer.from_pretrained(folder)
    assert copy.deepcopy(pf.load(folder)).info["class"] == "test-rnn"
    assert Path(pf.load(folder).info["folder"]) == folder
