"""The state of a network: checksums of its weights, and restoring it after a recording."""

from __future__ import annotations

import hashlib
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import is_dataclass
from functools import partial
from operator import is_
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from placeformer.models.fingerprints import OURS, package, same_values, slots_of
from placeformer.models.network_checks import check_module, unwrapped
from placeformer.models.ownership import in_use
from placeformer.models.threads import suitable_threads

PLAIN = {type(None), bool, int, float, complex, str, bytes}
"""Types whose values contain no other objects."""

SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def original(network: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, DataParallel and DistributedDataParallel.

    Raises
    ------
    TypeError
        `network` is not a ``torch.nn.Module``.
    ValueError
        A network whose layers hooks cannot see (scripted, exported or sharded), or that has no
        weights: not yet initialised, or on the device "meta".
    """
    network = unwrapped(check_module("network", network))
    for name, module in network.named_modules():
        where = f"network: {name or 'the network'} ({type(module).__name__})"
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{where} is scripted: hooks do not see its layers; pass the original")
        if SHARDED & {kind.__name__ for kind in type(module).__mro__}:
            raise ValueError(f"{where} is sharded: gather its weights in the original and pass it")
        if any(is_lazy(parameter) for parameter in module._parameters.values()):
            raise ValueError(f"{where} has no weights yet: run the network once")
        if any(t.is_meta for t in [*module.parameters(False), *module.buffers(False)]):
            raise ValueError(f'{where} has no weights, as it is on the device "meta": load them')
        if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
            raise ValueError(f"{where} is exported: it has lost its layers; pass the original")
    return network


@contextmanager
def as_found(network: nn.Module) -> Iterator[None]:
    """Run a network in eval mode, eagerly and without gradients, and restore it on exit.

    Modes, attributes, hooks, parameters and buffers of all modules (whose values are copied to the
    CPU), gradients, and the random states of torch, NumPy, Python and the network's own generators
    are restored, also after an exception. No other thread can use the network in the meantime.
    """
    with in_use(network), suitable_threads(network):
        yield from restoring(network)


def restoring(network: nn.Module) -> Iterator[None]:
    """Generate the part of :func:`as_found` during which the network is in use."""
    before = Snapshot(network)
    numbers, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), seen_by_hooks(network):
            network.eval()
            yield
    finally:
        random.setstate(numbers)
        np.random.set_state(legacy)  # noqa: NPY002
        before.put_back()


class Snapshot:
    """A copy of the state of a network, with which it can be compared, and to which it returns.

    Parameters, buffers, submodules and hooks are stored in dicts among the attributes of a module.
    Lists, sets, tensors and arrays among them are restored too, such as a cache that is not a
    buffer, and, with `rewind`, random number generators. What has not changed is left alone.
    """

    def __init__(self, network: nn.Module, *, rewind: bool = True) -> None:
        attributes = [vars(module) for module in network.modules()]
        own = {package(module) for module in network.modules()}
        self.tables, self.slots, arrays, generators = contents(attributes, own)
        self.generators = generators if rewind else []
        tensors = {id(t): t for t in [*network.parameters(), *network.buffers()]}
        grads = {id(t.grad): t.grad for t in tensors.values() if t.grad is not None}
        plain = {id(t): t for t in arrays if isinstance(t, Tensor)} | tensors | grads
        self.kept = [(t, t.detach().to("cpu", copy=True)) for t in plain.values()]
        self.numbers = [(a, a.copy()) for a in arrays if isinstance(a, np.ndarray)]
        self.flags = [(t, t.requires_grad, t.grad) for t in tensors.values()]

    def changed(self) -> bool:
        """Whether the network holds another state; its generators do not count."""
        return not (
            all(same(table, before) for table, before in self.tables)
            and all(slot_value(slot, holder) is before for slot, holder, before in self.slots)
            and all(np.array_equal(array, known) for array, known in self.numbers)
            and all(same_values(tensor, values) for tensor, values in self.kept)
        )

    def put_back(self) -> None:
        """Restore everything that has changed."""
        for restore in self.generators:
            restore()
        for table, before in self.tables:
            refill(table, before)
        for slot, holder, before in self.slots:
            if slot_value(slot, holder) is not before:
                slot.__delete__(holder) if before is UNSET else slot.__set__(holder, before)
        for array, known in self.numbers:
            array[...] = known
        for tensor, flag, grad in self.flags:
            if tensor.requires_grad != flag:
                tensor.requires_grad_(flag)
            tensor.grad = grad
        with torch.no_grad():
            for tensor, values in self.kept:
                if not same_values(tensor, values):
                    tensor.copy_(values)


Table = dict[Any, Any] | list[Any] | set[Any] | deque[Any]
Entries = dict[Any, Any] | list[Any]

UNSET = object()
"""Value of a slot that holds none."""


class Contents(NamedTuple):
    """All that may change among the attributes of a network.

    Attributes
    ----------
    tables
        Nested containers, each with its entries.
    slots
        Attributes of objects whose class has ``__slots__``: the descriptor, the object, the value.
    arrays
        Tensors and arrays in them.
    generators
        For every random number generator, a function that restores its present state.
    """

    tables: list[tuple[Table, Entries]]
    slots: list[tuple[MemberDescriptorType, object, Any]]
    arrays: list[Tensor | NDArray[Any]]
    generators: list[Callable[[], object]]


def contents(attributes: Sequence[dict[str, Any]], own: set[str]) -> Contents:
    """Collect what attributes hold, and what these objects hold.

    This includes the attributes of dataclasses, of namespaces, and of objects of classes from the
    packages `own`, in their ``__dict__`` and their ``__slots__``. Modules and datasets are not
    searched; arrays that are read-only or memory-mapped are left out.
    """
    found = Contents([], [], [], [])
    tables, slots, arrays, generators = found
    seen: set[int] = set()
    todo: list[Any] = list(attributes)
    while todo:
        value = todo.pop()
        if type(value) in PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.layout == torch.strided and not (value.is_meta or value.is_inference()):
                arrays.append(value)
        elif isinstance(value, np.ndarray):
            if value.flags.writeable and not isinstance(value, np.memmap):
                arrays.append(value)
        elif isinstance(value, dict | list | set | deque | tuple):
            if not isinstance(value, tuple):
                tables.append((value, dict(value) if isinstance(value, dict) else list(value)))
            todo += value.values() if isinstance(value, dict) else value
        elif (restore := restoring_generator(value)) is not None:
            generators.append(restore)
        elif holds_state(value, own):
            todo.append(getattr(value, "__dict__", None))
            held = [(s, value, slot_value(s, value)) for s in slots_of(value).values()]
            slots += held
            todo += [content for *_, content in held]
    return found


def slot_value(slot: MemberDescriptorType, holder: object) -> Any:
    """Return what a slot holds; ``UNSET`` if it holds nothing."""
    try:
        return slot.__get__(holder)
    except AttributeError:
        return UNSET


def holds_state(value: object, own: set[str]) -> bool:
    """Whether an object may hold a state; modules, hooks, datasets and our own do not count."""
    if callable(value) or package(value) in OURS:
        return False
    if isinstance(value, torch.utils.data.Dataset):
        return False
    return isinstance(value, SimpleNamespace) or is_dataclass(value) or package(value) in own


def restoring_generator(value: object) -> Callable[[], object] | None:
    """Return a function that restores the present state of a generator; None for other objects."""
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    if isinstance(value, random.Random):
        with suppress(NotImplementedError):  # SystemRandom has no state
            return partial(value.setstate, value.getstate())
    return None


def refill(table: Table, before: Entries) -> None:
    """Restore the entries of a container, in their order and in place."""
    if same(table, before):
        return
    if isinstance(table, dict):
        for name in list(table):
            del table[name]
        table.update(before)
    elif isinstance(table, list):
        table[:] = before
    else:
        table.clear()
        (table.update if isinstance(table, set) else table.extend)(before)


def same(one: Table, other: Entries) -> bool:
    """Whether containers hold the same objects in the same order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    return len(one) == len(other) and all(map(is_, one, other))


class Setting:
    """A setting of the whole process that is in force while one or more of its contexts are open.

    PyTorch restores what was set when a context was entered; here, uses are counted, so that
    contexts may be left in any order.

    Parameters
    ----------
    make
        Function that returns a context in which the setting is in force.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self.make, self.uses = make, 0
        self.stack, self.lock = ExitStack(), threading.Lock()

    @contextmanager
    def __call__(self, needed: bool) -> Iterator[None]:
        """Keep the setting in force, if it is needed."""
        if not needed:
            yield
            return
        with self.lock:
            if not self.uses:
                self.stack.enter_context(self.make())
            self.uses += 1
        try:
            yield
        finally:
            with self.lock:
                self.uses -= 1
                if not self.uses:
                    self.stack.close()


@contextmanager
def no_fast_path() -> Iterator[None]:
    """Switch off the fast path of Transformer encoders, which nests the walks of a padded batch."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


EAGER = Setting(lambda: torch.compiler.set_stance("force_eager"))
DENSE = Setting(no_fast_path)


@contextmanager
def seen_by_hooks(network: nn.Module) -> Iterator[None]:
    """Run a network so that hooks are called with the output of every layer, as a dense tensor.

    What is compiled, the network, a part of it or its ``forward``, runs as it was before; nothing
    is if the compiler has not been imported. Transformer encoders do not nest the walks of a padded
    batch.
    """
    compiled = "torch._dynamo" in sys.modules
    nesting = any(getattr(module, "use_nested_tensor", False) for module in network.modules())
    with EAGER(compiled), DENSE(nesting):
        yield


BLOCK = 2**26
"""Number of bytes of a Dataset that are read at once."""


def dataset_sha256(dataset: xr.Dataset) -> str:
    """SHA-256 over the names, dimensions, types and values of all variables, by name."""
    digest = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        variable = dataset.variables[name]
        digest.update(f"{name} {variable.dims} {variable.dtype} {variable.shape}".encode())
        length = variable.shape[0] if variable.ndim else 1
        rows = max(1, BLOCK * length // max(variable.nbytes, 1))
        for first in range(0, length, rows):
            digest.update(_bytes(variable[first : first + rows] if variable.ndim else variable))
    return digest.hexdigest()


def _bytes(variable: xr.Variable) -> bytes:
    values = np.asarray(variable.values)
    return repr(values.tolist()).encode() if values.dtype.kind in "OT" else values.tobytes()
