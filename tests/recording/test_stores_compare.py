"""A store is handed out only to the network, behaviour and settings that it was recorded from."""

import argparse
import enum
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import placeformer as pf

pytest.importorskip("zarr")
WALKS, STEPS = 3, 7
RNG = np.random.default_rng(0)
PLACE = {"x": RNG.random((WALKS, STEPS)), "y": RNG.random((WALKS, STEPS))}
VELOCITY = RNG.normal(size=(WALKS, STEPS, 2)).astype("f4")


def network(activation):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), activation)


def record(model, store, **options):
    options = {"layers": "1", "inputs": {"velocity": VELOCITY}} | options
    return pf.record(model, PLACE, store=store, progress=False, **options)


def gain(factor):
    return lambda module, batch: module(factor * torch.from_numpy(batch["velocity"].values))


OTHERS = {
    "activation": (nn.Tanh(), {}),
    "slope": (nn.LeakyReLU(0.2), {}),
    "alpha": (pf.NMDA(1.0), {}),
    "units of position": (nn.ReLU(), {"position_units": "cm"}),
    "forward": (nn.ReLU(), {"forward": gain(2.0)}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_decides_the_numbers_is_compared(tmp_path, other):
    activation, options = OTHERS[other]
    first = {
        "slope": nn.LeakyReLU(0.1),
        "alpha": pf.NMDA(10.0),
    }.get(other, nn.ReLU())
    before = {"forward": {"forward": gain(1.0)}, "units of position": {"position_units": "m"}}
    record(network(first), tmp_path / "a.zarr", **before.get(other, {}))
    record(network(first), tmp_path / "a.zarr", **before.get(other, {}))  # the same: opened
    with pytest.raises(ValueError, match="is a recording with other settings"):
        record(network(activation), tmp_path / "a.zarr", **options)


class Gain(enum.Enum):
    """Gains by name."""

    one = 1
    two = 2


@dataclass
class Settings:
    """Settings of a network in an object of their own."""

    gain: float


class Slotted:
    """The same without a ``__dict__``, and not compared by value."""

    __slots__ = ("gain",)

    def __init__(self, gain):
        self.gain = gain


class Amplified(nn.Module):
    """Multiplies by a gain that it finds in `settings`."""

    def __init__(self, settings):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.settings = nn.Linear(2, 6), settings

    def forward(self, x):
        gain = self.settings
        gain = gain["gain"] if isinstance(gain, dict) else getattr(gain, "gain", gain)
        return self.layer(x) * float(getattr(gain, "value", gain))


SETTINGS = {
    "dict": lambda gain: {"gain": gain},
    "dataclass": Settings,
    "slots": Slotted,
    "namespace": lambda gain: SimpleNamespace(gain=gain),
    "arguments": lambda gain: argparse.Namespace(gain=gain),
    "enumeration": Gain,
    "number of NumPy": np.float32,
}


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS)
def test_settings_in_objects_are_compared(tmp_path, make):
    store, options = tmp_path / "a.zarr", {"layers": "Amplified"}
    want = record(Amplified(make(1)), store, **options).load()
    assert record(Amplified(make(1)), store, **options).identical(want)
    with pytest.raises(ValueError, match="modules_sha256 is"):
        record(Amplified(make(2)), store, **options)


def test_a_network_of_other_code_must_give_what_is_stored(tmp_path, monkeypatch):
    model, store, options = Amplified(1.0), tmp_path / "a.zarr", {"layers": "Amplified"}
    want = record(model, store, **options).load()
    monkeypatch.setattr(Amplified, "forward", lambda self, x: self.layer(x) * self.settings)
    assert record(model, store, **options).identical(want)
    monkeypatch.setattr(Amplified, "forward", lambda self, x: self.layer(x).relu())
    with pytest.raises(ValueError, match="the network's classes, has changed"):
        record(model, store, **options)


TABLE = {"gain": 1.0}


def by_table(module, batch):
    return module(TABLE["gain"] * torch.from_numpy(batch["velocity"].values))


def by_closure(settings):
    def inner(x):
        return settings.gain * x

    return lambda module, batch: module(inner(torch.from_numpy(batch["velocity"].values)))


def by_module(gain):
    first = nn.Linear(2, 2)
    nn.init.constant_(first.weight, gain)
    nn.init.zeros_(first.bias)
    return lambda module, batch: module(first(torch.from_numpy(batch["velocity"].values)))


def test_what_forward_holds_must_give_what_is_stored(tmp_path, monkeypatch):
    model = network(nn.Identity())
    stores = {make: tmp_path / f"{make.__name__}.zarr" for make in (by_closure, by_module)}
    for gain in (1, 1, 2):
        for make, store in stores.items():
            held = Slotted(gain) if make is by_closure else gain
            try:
                record(model, store, forward=make(held))
            except ValueError as error:
                assert gain == 2 and "other code" in str(error)
            else:
                assert gain == 1
    record(model, tmp_path / "table.zarr", forward=by_table)
    monkeypatch.setitem(TABLE, "gain", 2.0)
    with pytest.raises(ValueError, match="other code"):
        record(model, tmp_path / "table.zarr", forward=by_table)


def twice(module, batch):
    return module(doubled(torch.from_numpy(batch["velocity"].values)))


def doubled(x):
    return 2 * x


class Doubler:
    def __call__(self, module, batch):
        return module(2 * torch.from_numpy(batch["velocity"].values))


def test_a_forward_of_other_code_must_give_what_is_stored(tmp_path, monkeypatch):
    model, store = network(nn.ReLU()), tmp_path / "a.zarr"
    want = record(model, store, forward=twice).load()
    runs = []

    def mended(module, batch):
        runs.append(batch)
        x = torch.from_numpy(batch["velocity"].values)
        return module(x + x)

    for same in (twice, Doubler(), mended):
        np.testing.assert_array_equal(
            record(model, store, forward=same).activation, want.activation
        )
    assert len(runs) == 1
    for other in (
        lambda module, batch: mended(module, -batch),
        lambda m, b: Doubler()(m, b + 1e-2),
    ):
        with pytest.raises(ValueError, match="a recording of other code"):
            record(model, store, forward=other)
    monkeypatch.setitem(globals(), "doubled", lambda x: 3 * x)  # a function that it names
    with pytest.raises(ValueError, match="other code"):
        record(model, store, forward=twice)


def test_stored_nan_is_no_difference(tmp_path):
    model, options = network(nn.ReLU()), {"check_finite": False}
    lost = VELOCITY.copy()
    lost[1, 2] = np.nan
    inputs = {"inputs": {"velocity": lost}}
    record(model, tmp_path / "a.zarr", forward=twice, **options, **inputs)
    got = record(model, tmp_path / "a.zarr", forward=Doubler(), **options, **inputs)
    assert np.isnan(got.activation[1, 2]).all()


def test_a_lesion_is_another_recording(tmp_path):
    model = network(nn.ReLU())
    with pf.ablate(model, {"1": [0]}, "zero"):
        record(model, tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="lesions"):
        record(model, tmp_path / "a.zarr")


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    record(network(nn.ReLU()), "~/a.zarr")
    assert (tmp_path / "a.zarr").is_dir()


def test_a_packed_sequence_is_put_in_order():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 3, batch_first=True)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, [STEPS] * len(x), batch_first=True)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    model = Packed()
    with torch.no_grad():
        want = model(torch.from_numpy(VELOCITY))
    np.testing.assert_allclose(record(model, None, layers="rnn[0]").activation, want, rtol=1e-6)


def test_complex_outputs_are_refused():
    class Wave(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Identity()

        def forward(self, x):
            return self.out(torch.complex(x, x))

    with pytest.raises(ValueError, match="complex"):
        record(Wave(), None, layers="out")


def test_a_network_may_compute_gradients():
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.out = nn.Linear(2, 8), nn.Identity()

        def forward(self, x):
            with torch.enable_grad():
                x = x.clone().requires_grad_()
                energy = self.layer(x).pow(2).sum()
                return self.out(torch.autograd.grad(energy, x, create_graph=True)[0])

    model = Energy()
    parts = [record(model, None, layers="out", batch=batch).activation for batch in (3, 1)]
    np.testing.assert_allclose(*parts, rtol=1e-5)


@pytest.mark.parametrize("inputs", [VELOCITY, torch.from_numpy(VELOCITY), [VELOCITY]])
def test_inputs_have_names(inputs):
    with pytest.raises(TypeError, match="inputs must be a mapping"):
        record(network(nn.ReLU()), None, inputs=inputs)
    with pytest.raises(TypeError, match="layers must be"):
        record(network(nn.ReLU()), None, layers=[0])


def test_draws_do_not_depend_on_the_default_dtype(monkeypatch):
    model = pf.load("mini-nmda-a10")
    want = model.initial_state(2, seed=0).path
    torch.set_default_dtype(torch.float64)
    try:
        got = model.initial_state(2, seed=0).path
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(got, want, rtol=0, atol=0)


class Packed(nn.Module):
    """Keeps its weight, as quantized layers do, in an entry of the state that is no tensor."""

    def __init__(self, gain):
        super().__init__()
        self._gain = gain

    def forward(self, x):
        return self._gain * x

    def get_extra_state(self):
        return {"gain": self._gain}

    def set_extra_state(self, state):
        self._gain = state["gain"]


class Rotation(nn.Module):
    """Holds a number as a tensor that is neither a parameter nor a buffer."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, x):
        return x * self.number.abs().float()


@pytest.mark.parametrize(
    "make",
    [
        lambda other: Packed(2.0 if other else 1.0),
        lambda other: Rotation(torch.tensor(1 + 2j if other else 1 + 1j)),
        lambda other: Rotation(torch.tensor(1 + 1j if other else 2j, dtype=torch.cdouble).conj()),
        lambda other: Rotation(torch.tensor(2**40 + other)),
        lambda other: Rotation(torch.tensor(1 + other * 1e-12, dtype=torch.float64)),
    ],
    ids=["packed", "complex", "conjugate", "integer", "double"],
)
def test_numbers_of_any_kind_are_compared(tmp_path, make):
    record(network(make(False)), tmp_path / "a.zarr")
    record(network(make(False)), tmp_path / "a.zarr")  # the same: opened
    with pytest.raises(ValueError, match="is a recording with other settings"):
        record(network(make(True)), tmp_path / "a.zarr")


def test_a_recording_under_autocast_is_another_one(tmp_path):
    record(network(nn.ReLU()), tmp_path / "a.zarr")
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ValueError, match=r"autocast is None there, 'torch.bfloat16' here"):
            record(network(nn.ReLU()), tmp_path / "a.zarr")
        record(network(nn.ReLU()), tmp_path / "b.zarr")
        record(network(nn.ReLU()), tmp_path / "b.zarr")
