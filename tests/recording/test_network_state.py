"""A network, and the random state, come back as they were on every exit."""

import random
from collections import OrderedDict, deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from placeformer.recording.network_state import as_found, contents, original
from placeformer.recording.record import record


class Meddler(nn.Module):
    """Changes all it can reach in its forward pass."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.embedding = nn.Embedding(4, 3, max_norm=0.1)
        self.register_buffer("count", torch.zeros(()))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
        self.last = None

    def forward(self, x):
        self.train()
        x = self.spectral(self.norm(x + self.embedding(torch.tensor([0, 1]))))
        self.count += 1
        self.last = x + torch.rand(3) + random.random() + np.random.rand()  # noqa: NPY002
        self.added = x
        self.count = self.count + 1
        if not hasattr(self, "hooked"):
            self.hooked = self.norm.register_forward_hook(lambda *_: None)
        self.frozen.requires_grad_(True)
        self.norm.weight.grad.zero_()
        self.norm.bias.grad = None
        return x


def state(net):
    tensors = {k: v.clone() for k, v in net.state_dict().items()}
    grads = {k: None if p.grad is None else p.grad.clone() for k, p in net.named_parameters()}
    rest = {
        "modes": [m.training for m in net.modules()],
        "flags": [p.requires_grad for p in net.parameters()],
        "tensors": [id(t) for t in [*net.parameters(), *net.buffers()]],
        "attributes": [{k: id(v) for k, v in vars(m).items()} for m in net.modules()],
        "hooks": [dict(m._forward_hooks) for m in net.modules()],
        "enabled": torch.is_grad_enabled(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
    }
    return tensors, grads, rest


def same(one, other):
    equal = all(torch.equal(one[0][k], other[0][k]) for k in one[0])
    grads = all(
        (g is None and other[1][k] is None) or torch.equal(g, other[1][k])
        for k, g in one[1].items()
    )
    return equal and grads and one[2] == other[2] and one[0].keys() == other[0].keys()


@pytest.fixture
def net():
    network = Meddler()
    network.norm.eval()
    network.norm(torch.randn(2, 3)).sum().backward()
    return network


def test_the_meddler_meddles(net):
    before = state(net)
    net(torch.randn(2, 3))
    assert not same(before, state(net))


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_all_of_it_comes_back_on_every_exit(net, error):
    before = state(net)
    try:
        with as_found(net):
            assert not net.training
            assert not torch.is_grad_enabled()
            net(torch.randn(2, 3))
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert same(before, state(net))


def test_weights_that_did_not_change_are_not_written():
    net = nn.Linear(2, 2)
    version = net.weight._version
    with as_found(net):
        net(torch.ones(1, 2))
    assert net.weight._version == version


def test_wrappers_give_the_original():
    net = nn.Linear(2, 2)
    assert original(net) is net
    assert original(nn.DataParallel(net)) is net


@pytest.mark.slow  # torch.compile takes seconds to import
def test_compiled_networks_give_the_original():
    net = nn.Linear(2, 2)
    assert original(torch.compile(net, backend="eager")) is net
    assert original(torch.compile(nn.DataParallel(net), backend="eager")) is net


def test_what_hooks_cannot_look_into_is_refused_by_name():
    class FSDPModule:
        pass

    class Sharded(FSDPModule, nn.Linear):
        pass

    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.ReLU())
    with pytest.raises(ValueError, match=r"network: 1 \(RecursiveScriptModule\) is scripted"):
        original(nn.Sequential(nn.ReLU(), scripted))
    with pytest.raises(ValueError, match=r"network: 0 \(Sharded\) is sharded"):
        original(nn.Sequential(Sharded(1, 1)))
    with pytest.raises(ValueError, match=r"network: the network \(LazyLinear\) has no weights yet"):
        original(nn.LazyLinear(3))


class Cache(nn.Module):
    """Keeps what is no parameter or buffer in tensors, arrays, lists, dicts and sets."""

    def __init__(self):
        super().__init__()
        self.cache, self.array = torch.zeros(3), np.zeros(2)
        self.seen, self.nested, self.kinds = [1], {"a": [torch.ones(2)]}, {1}

    def forward(self, x):
        self.cache += 1
        self.array += 1
        self.seen.append(len(x))
        self.nested["a"][0].mul_(2)
        self.nested["a"].append(x)
        self.kinds.add(2)
        return x + self.cache


def test_containers_and_plain_tensors_come_back():
    net = Cache()
    cache, array, nested = net.cache, net.array, net.nested["a"]
    with as_found(net):
        net(torch.ones(3))
    assert net.cache is cache
    assert not cache.any()
    assert net.array is array
    assert not array.any()
    assert net.nested["a"] is nested
    assert len(nested) == 1
    torch.testing.assert_close(nested[0], torch.ones(2))
    assert (net.seen, net.kinds) == ([1], {1})


def test_networks_without_weights_or_layers_are_named():
    with pytest.raises(ValueError, match=r"network: the network \(Linear\) .* device \"meta\""):
        original(nn.Linear(2, 3, device="meta"))
    exported = torch.export.export(nn.Sequential(nn.Linear(2, 3)), (torch.ones(4, 2),)).module()
    with pytest.raises(ValueError, match="is exported"):
        original(exported)


class Keeping(nn.Module):
    """Adds up its inputs in an attribute and in a list, and does not know when walks begin."""

    def __init__(self):
        super().__init__()
        self.linear, self.total, self.seen = nn.Linear(1, 2), None, []

    def forward(self, x):
        for value in self.linear(x).unbind(1):
            self.total = value if self.total is None else self.total + value
            self.seen.append(self.total)
        return torch.stack(self.seen[-x.shape[1] :], 1) + len(self.seen)


@pytest.mark.parametrize("batch", [2, 3])
def test_every_batch_begins_in_the_state_that_was_found(batch):
    network = Keeping()
    x = torch.randn(6, 5, 1)
    with torch.no_grad():
        want = network.linear(x).cumsum(1) + 5
    zero = np.zeros((6, 5))
    walks = xr.Dataset({"x": (("walk", "time"), zero), "y": (("walk", "time"), zero)})
    found = record(
        network, walks, inputs={"speed": x.numpy()}, layers="Keeping", batch=batch, progress=False
    )
    got = found.activation.transpose("walk", "time", "unit").values
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)
    assert network.total is None and not network.seen


@dataclass
class Total:
    """A state in an object of its own."""

    value: object = None


class InObjects(nn.Module):
    """Adds up its inputs in an object, and does not know when walks begin."""

    def __init__(self, box):
        super().__init__()
        self.linear, self.box = nn.Linear(1, 2), box

    def forward(self, x):
        steps = []
        for value in self.linear(x).unbind(1):
            if isinstance(self.box, deque):
                self.box.append(value + (self.box[-1] if self.box else 0))
                steps.append(self.box[-1])
            else:
                self.box.value = value + (0 if self.box.value is None else self.box.value)
                steps.append(self.box.value)
        return torch.stack(steps, 1)


class Box:
    """A class of the same module as the network's."""

    value = None


@dataclass(slots=True)
class SlottedTotal:
    """The same without a ``__dict__``."""

    value: object = None


class SlottedBox:
    """Its slot is empty at first, and is that of a base class."""

    __slots__ = "_value"

    @property
    def value(self):
        return getattr(self, "_value", None)

    @value.setter
    def value(self, value):
        self._value = value


class DerivedBox(SlottedBox):
    """Has a ``__dict__`` as well."""


BOXES = [lambda: deque(maxlen=2), Total, SimpleNamespace, Box, SlottedTotal, SlottedBox, DerivedBox]


@pytest.mark.parametrize("make", BOXES)
def test_a_state_in_an_object_is_that_of_the_walks(make):
    box = make()
    if isinstance(box, SimpleNamespace):
        box.value = None
    network, x = InObjects(box), torch.randn(6, 5, 1)
    with torch.no_grad():
        want = network.linear(x).cumsum(1)
    walks = {"x": np.zeros((6, 5)), "y": np.zeros((6, 5))}
    found = record(
        network, walks, inputs={"speed": x.numpy()}, layers="InObjects", batch=2, progress=False
    )
    np.testing.assert_allclose(found.activation.values, want.numpy(), atol=1e-5)
    assert network.box is box
    assert not box if isinstance(box, deque) else box.value is None
    assert not hasattr(box, "_value")


class Noisy(nn.Module):
    """Has a generator of random numbers of its own."""

    def __init__(self, generator, draw):
        super().__init__()
        self.linear, self.generator, self.draw = nn.Linear(1, 2), generator, draw

    def forward(self, x):
        return self.linear(x) + torch.as_tensor(self.draw(self.generator, x.shape), dtype=x.dtype)


GENERATORS = {
    "torch": (torch.Generator(), lambda g, shape: torch.rand(shape, generator=g)),
    "NumPy": (np.random.default_rng(0), lambda g, shape: g.random(shape)),
    "NumPy's old": (np.random.RandomState(0), lambda g, shape: g.random_sample(shape)),
    "Python": (random.Random(0), lambda g, shape: g.random()),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_of_a_network_come_back(kind):
    network = Noisy(*GENERATORS[kind])
    options = {"inputs": {"speed": np.ones((6, 5, 1))}, "layers": "Noisy", "progress": False}
    walks = {"x": np.zeros((6, 5)), "y": np.zeros((6, 5))}
    first, second = (record(network, walks, **options).activation.values for _ in range(2))
    with torch.no_grad():
        plain = network(torch.ones(6, 5, 1)).numpy()
    np.testing.assert_array_equal(second, first)
    np.testing.assert_allclose(plain, first, atol=1e-6)
    parts = record(network, walks, batch=3, **options).activation.values
    assert not np.allclose(parts[:3], parts[3:])  # each batch has draws of its own


class Collector:
    """A hook of the user, in the same module as the network's class."""

    def __init__(self):
        self.shapes = []

    def __call__(self, module, args, output):
        self.shapes.append(tuple(output.shape))


def test_what_a_hook_has_collected_stays():
    network, hook = InObjects(Total()), Collector()
    network.linear.register_forward_hook(hook)
    with as_found(network):
        network(torch.randn(2, 3, 1))
    assert hook.shapes == [(2, 3, 2)]


class Fixed(dict):
    """A container that refuses changes."""

    def update(self, *args):
        raise TypeError("fixed")


class Recent(nn.Module):
    """Keeps what it used last at the end."""

    def __init__(self):
        super().__init__()
        self.order, self.fixed = OrderedDict(a=1, b=2, c=3), Fixed(a=1)
        self.chance = random.SystemRandom()

    def forward(self, x):
        self.order.move_to_end("a")
        return x


def test_the_order_of_entries_comes_back_and_what_is_unchanged_is_left_alone():
    network = Recent()
    with as_found(network):
        network(torch.zeros(1))
        assert list(network.order) == ["b", "c", "a"]
    assert list(network.order) == ["a", "b", "c"]


class Images(torch.utils.data.Dataset):
    """A dataset in the same module as the network's class."""

    def __init__(self):
        self.values = np.zeros(3)


def test_datasets_and_files_are_not_copied(tmp_path):
    file = np.memmap(tmp_path / "values", mode="w+", shape=(3,))
    array = np.zeros(3)
    found = contents([{"a": [array, array], "b": Images(), "c": file}], {__name__})
    assert [each is array for each in found.arrays] == [True]  # and once


def test_a_buffer_of_nan_is_left_alone():
    net = nn.Linear(2, 2)
    net.register_buffer("unknown", torch.full((1,), torch.nan).expand(4))  # cannot be written
    with as_found(net):
        net(torch.ones(1, 2))
    assert net.unknown._version == 0
