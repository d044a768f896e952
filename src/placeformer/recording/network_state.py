"""The state of a network: checksums of its weights, and restoring it after a recording."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from placeformer.models.network_checks import check_module, unwrapped
from placeformer.models.ownership import in_use
from placeformer.models.threads import suitable_threads

SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def original(network: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, DataParallel and DistributedDataParallel.

    Raises
    ------
    TypeError
        What is no network.
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
            raise ValueError(f"{where} is sharded: gather its weights into the original, pass that")
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
    CPU), gradients, and the random states of torch, NumPy and Python are restored, also after an
    exception. No other thread can use the network in the meantime.
    """
    with in_use(network), suitable_threads(network):
        yield from restoring(network)


def restoring(network: nn.Module) -> Iterator[None]:
    """Generate the part of :func:`as_found` during which the network is in use."""
    put_back = snapshot(network)
    numbers, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), eager(is_compiled(network)):
            network.eval()
            yield
    finally:
        random.setstate(numbers)
        np.random.set_state(legacy)  # noqa: NPY002
        put_back()


def snapshot(network: nn.Module) -> Callable[[], None]:
    """Copy the state of a network; the returned function restores everything that has changed.

    Parameters, buffers, submodules and hooks are stored in dicts among the attributes of a module.
    Lists, sets, tensors and arrays among them are restored too, such as a cache that is no buffer.
    """
    attributes = [vars(module) for module in network.modules()]
    tables, arrays = contents(attributes)
    tensors = {id(t): t for t in [*network.parameters(), *network.buffers()]}
    grads = {id(t.grad): t.grad for t in tensors.values() if t.grad is not None}
    plain = {id(t): t for t in arrays if isinstance(t, Tensor)} | tensors | grads
    kept = [(t, t.detach().to("cpu", copy=True)) for t in plain.values()]
    numbers = [(a, a.copy()) for a in arrays if isinstance(a, np.ndarray)]
    flags = [(t, t.requires_grad, t.grad) for t in tensors.values()]

    def put_back() -> None:
        for table, before in tables:
            refill(table, before)
        for array, known in numbers:
            array[...] = known
        for tensor, flag, grad in flags:
            if tensor.requires_grad != flag:
                tensor.requires_grad_(flag)
            tensor.grad = grad
        with torch.no_grad():
            for tensor, values in kept:
                if not torch.equal(tensor.cpu(), values):
                    tensor.copy_(values)

    return put_back


Table = dict[Any, Any] | list[Any] | set[Any]


def contents(
    attributes: Sequence[dict[str, Any]],
) -> tuple[list[tuple[Table, Table]], list[Tensor | NDArray[Any]]]:
    """Dicts, lists and sets within each other, each with a shallow copy, and what arrays they hold.

    Other objects, and the modules themselves, are not looked into; arrays that cannot be written to
    are left out.
    """
    tables: list[tuple[Table, Table]] = []
    arrays: list[Tensor | NDArray[Any]] = []
    seen: set[int] = set()
    todo: list[Any] = list(attributes)
    while todo:
        value = todo.pop()
        if isinstance(value, Tensor):
            if value.layout == torch.strided and not (value.is_meta or value.is_inference()):
                arrays.append(value)
        elif isinstance(value, np.ndarray):
            if value.flags.writeable:
                arrays.append(value)
        elif isinstance(value, dict | list | set | tuple) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                tables.append((value, dict(value)))
            elif isinstance(value, list | set):
                tables.append((value, list(value) if isinstance(value, list) else set(value)))
            todo += value.values() if isinstance(value, dict) else value
    return tables, arrays


def refill(table: Table, before: Table) -> None:
    """Give a dict, list or set the entries that it had, in place."""
    if isinstance(table, dict) and isinstance(before, dict):
        for name in table.keys() - before.keys():
            del table[name]
        table.update(before)
    elif isinstance(table, list):
        table[:] = before
    elif table != before and isinstance(table, set):
        table.clear()
        table.update(before)


def is_compiled(network: nn.Module) -> bool:
    """Whether a network, or a module of it, is compiled."""
    return any(
        hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        for module in network.modules()
    )


EAGER, EAGER_LOCK = ExitStack(), threading.Lock()
eager_uses = 0


@contextmanager
def eager(needed: bool) -> Iterator[None]:
    """Run compiled networks as they were before, so that hooks are called.

    PyTorch has one such setting for the whole process, and gives back what was set when a context
    was entered; uses are counted, so that contexts may be left in any order.
    """
    global eager_uses
    if not needed:
        yield
        return
    with EAGER_LOCK:
        if not eager_uses:
            EAGER.enter_context(torch.compiler.set_stance("force_eager"))
        eager_uses += 1
    try:
        yield
    finally:
        with EAGER_LOCK:
            eager_uses -= 1
            if not eager_uses:
                EAGER.close()


BLOCK = 2**26
"""Number of bytes of a Dataset that are read at once."""


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names and bytes of all parameters and persistent buffers, by name."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode())
        if isinstance(weight, Tensor):
            flat = weight.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
