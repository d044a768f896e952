"""What determines a network's activations besides its weights: modules, settings, hooks."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import is_dataclass
from enum import Enum
from types import CodeType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from placeformer.models.activation import NMDA

DEPTH = 6
"""Greatest depth of nested containers, closures and partial functions that is searched."""

TABLES = ("_forward_hooks", "_forward_pre_hooks")


@runtime_checkable
class Lesion(Protocol):
    """A forward hook that lesions units, and can say which and how."""

    def describe(self) -> dict[str, Any]:
        """Layer, units, and what replaces them."""


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names and bytes of all parameters and persistent buffers, by name.

    Other values of the state, such as the packed weights of a quantized layer, count by their
    description.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode())
        if not isinstance(weight, Tensor):
            digest.update("".join(texts(weight)).encode())
            continue
        for part in dense_parts(weight.detach().cpu()):
            digest.update(part.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def dense_parts(tensor: Tensor) -> list[Tensor]:
    """Return the dense tensors that hold the values of a tensor: itself, unless it is sparse."""
    if tensor.is_quantized:
        return [tensor.dequantize()]
    if tensor.layout == torch.strided:
        return [tensor.resolve_conj().resolve_neg()]
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]


def same_values(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors have the same values, NaN included."""
    x, y = x.detach().cpu(), y.detach().cpu()
    return all(
        a.shape == b.shape
        and (torch.equal(a, b) or bool(torch.all((a == b) | ((a != a) & (b != b)))))
        for a, b in zip(dense_parts(x), dense_parts(y), strict=True)
    )


def network_sha256(network: nn.Module) -> str:
    """SHA-256 over weights, modules and lesions: all that decides what a network computes."""
    facts = {"weights_sha256": weights_sha256(network), **network_facts(network)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


LOADED = "_loaded_sha256"
"""Private attribute with the :func:`network_sha256` of a network when it was loaded."""


def remember(network: nn.Module) -> None:
    """Remember what a network is that has just been loaded."""
    setattr(network, LOADED, network_sha256(network))


def current_info(network: nn.Module) -> dict[str, Any]:
    """What is stored of a loaded network and is still true of it.

    A network that has been changed since, trained further or lesioned, has neither the results nor
    the checksum of the file that it was loaded from.
    """
    info = dict(getattr(network, "info", {}))
    if getattr(network, LOADED, None) not in (None, network_sha256(network)):
        for key in ("results", "definitions", "sha256"):
            info.pop(key, None)
    return info


def network_facts(network: nn.Module) -> dict[str, Any]:
    """Facts for the provenance of a recording, where they differ from those of a plain network."""
    modules = dict(network.named_modules())
    alphas = {name: m.alpha for name, m in modules.items() if isinstance(m, NMDA)}
    lesions = [
        {"module": name, **hook.describe()}
        for name, module in modules.items()
        for hook in module._forward_hooks.values()
        if isinstance(hook, Lesion)
    ]
    return {
        "modules_sha256": modules_sha256(network),
        **({"alphas": alphas} if alphas else {}),
        **({"lesions": lesions} if lesions else {}),
    }


def modules_sha256(network: nn.Module) -> str:
    """SHA-256 over the class and settings of every module, but not over its weights.

    Settings are the attributes of which :func:`is_setting` is true; hooks that are not ours count
    as well.
    """
    digest = hashlib.sha256()
    for name, module in network.named_modules(remove_duplicate=False):
        digest.update(f"{name} {kind(module)} {module.extra_repr()}\n".encode())
        own = {k: v for k, v in vars(module).items() if is_setting(module, k, v)}
        own |= {k: v for k, v in module._buffers.items() if k in module._non_persistent_buffers_set}
        shapes = {k: (v.shape, v.dtype) for k, v in module._parameters.items() if v is not None}
        hooks = [h for t in TABLES for h in getattr(module, t).values()]
        theirs = [h for h in hooks if not str(h.__module__).startswith("placeformer.")]
        for part in (own, shapes, theirs):
            digest.update("".join(texts(part)).encode())
    return digest.hexdigest()


PLAIN = bool | int | float | complex | str | Tensor | np.ndarray

WIDE = (torch.int64, torch.float64, torch.complex128)
"""Dtypes in which tensors are described, so that only their values count."""

OURS = {"torch", "placeformer"}
"""Packages whose modules hold their settings in numbers, texts, functions and tensors, and whose
other objects hold no state of a network."""

UNRELATED = {"torch", "transformers", "tqdm"}
"""Packages whose objects do not count: their modules hold the settings again."""


def is_setting(module: nn.Module, name: str, value: object) -> bool:
    """Whether an attribute of a module may decide what it computes: data, or a function.

    Private attributes and the mode may not.
    """
    if name.startswith("_") or name in ("training", "info", "name_or_path"):
        return False
    if value is None or callable(value) or isinstance(value, PLAIN | list | tuple):
        return True
    return package(module) not in OURS and is_data(value, package(module))


def is_data(value: object, own: str) -> bool:
    """Whether a value is data: a number, text, an array, a container, or an object that holds some.

    These are objects that are compared by value, such as dataclasses, and those of classes from the
    package `own`; no functions, modules and classes.
    """
    if isinstance(value, PLAIN | list | tuple | Mapping | Set | torch.dtype | Enum):
        return True
    by_value = is_dataclass(value) or type(value).__eq__ is not object.__eq__
    theirs = package(value) not in UNRELATED and (by_value or package(value) == own)
    return theirs and value is not None and not callable(value)


def package(value: object) -> str:
    """Name of the package that defines the class of a value."""
    return type(value).__module__.partition(".")[0]


def slots_of(value: object) -> dict[str, MemberDescriptorType]:
    """Return the slots of an object's class and of its bases, by name."""
    members = {k: m for cls in reversed(type(value).__mro__) for k, m in vars(cls).items()}
    return {k: m for k, m in members.items() if isinstance(m, MemberDescriptorType)}


def public_attributes(value: object) -> dict[str, Any]:
    """Attributes of an object that are not private, in its ``__dict__`` or in ``__slots__``."""
    own = {k: getattr(value, k) for k in slots_of(value) if hasattr(value, k)}
    own |= getattr(value, "__dict__", {})
    return {k: v for k, v in own.items() if not k.startswith("_")}


def function_settings(function: Any) -> dict[str, Any]:
    """Settings that a function holds, by name: arguments bound to it, defaults, closure, globals.

    Numbers and texts are given as they are, arrays as their SHA-256.
    """
    if isinstance(function, functools.partial):
        bound = {f"argument {i}": value for i, value in enumerate(function.args)}
        found = function_settings(function.func) | bound | function.keywords
    elif isinstance(function, MethodType):
        owner = function.__self__
        own = {} if isinstance(owner, nn.Module) else public_attributes(owner)
        found = function_settings(function.__func__) | own
    elif isinstance(function, FunctionType):
        found = held(function)
    else:
        found = public_attributes(function)
    return {
        name: "".join(texts(value)) if isinstance(value, Tensor | np.ndarray) else value
        for name, value in sorted(found.items())
        if isinstance(value, PLAIN)
    }


def code_sha256(network: nn.Module, *functions: Any) -> str:
    """SHA-256 over the code of functions and of the network's own classes of modules."""
    bases = [base for module in network.modules() for base in type(module).__mro__]
    own = [base for base in dict.fromkeys(bases) if base.__module__.partition(".")[0] not in OURS]
    methods = [
        getattr(value, "fget", getattr(value, "__func__", value))  # of properties, static methods
        for base in own
        for value in vars(base).values()
    ]
    return function_sha256(*functions, *(m for m in methods if isinstance(m, FunctionType)))


def function_sha256(*functions: Any) -> str:
    """SHA-256 over the code of functions, of functions that they use or hold, and over their data.

    Functions that they use count if they are from the same Python module.
    """
    digest = hashlib.sha256()
    todo: list[tuple[Any, str]] = [(function, "") for function in functions]
    seen: dict[int, Any] = {}
    while todo:
        this, own = todo.pop(0)
        if is_data(this, own):
            digest.update("".join(texts(this)).encode())
            continue
        if this is None or isinstance(this, type) or id(this) in seen:
            continue
        seen[id(this)] = this
        if isinstance(this, functools.partial):
            more = [this.func, *this.args, *this.keywords.values()]
        elif isinstance(this, MethodType):
            more = [this.__func__, this.__self__]
        elif isinstance(this, FunctionType):
            own = str(this.__module__).partition(".")[0]
            digest.update("".join(texts(this.__code__)).encode())
            named = [this.__globals__.get(name) for name in this.__code__.co_names]
            more = [
                *(f for f in named if getattr(f, "__module__", None) == this.__module__),
                *held(this).values(),
            ]
            more = [value for value in more if callable(value) or is_data(value, own)]
        elif isinstance(this, nn.Module):
            digest.update("".join(texts(this.state_dict())).encode())
            more = []
        else:  # an object that is used as a function, or whose method is
            more = [vars(type(this)).get("__call__"), public_attributes(this)]
        todo += [(value, own) for value in more]
    return digest.hexdigest()


def held(function: FunctionType) -> dict[str, Any]:
    """Values that a function holds besides its code, by name: globals, defaults and closure."""
    code, defaults = function.__code__, inspect.signature(function).parameters.values()
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    outside = {n: function.__globals__[n] for n in code.co_names if n in function.__globals__}
    own = str(function.__module__).partition(".")[0]
    return (
        {name: value for name, value in outside.items() if is_data(value, own)}
        | {p.name: p.default for p in defaults if p.default is not p.empty}
        | {name: cell.cell_contents for name, cell in cells if _filled(cell)}
    )


def kind(value: object) -> str:
    """Full name of a value's class."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def texts(value: Any, depth: int = DEPTH) -> Iterator[str]:
    """Describe a setting the same way in every process, for hashing."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield f"{value!r};"
    elif isinstance(value, Tensor):
        for part in dense_parts(value.detach().cpu()):
            wide = next(d for d in WIDE if torch.can_cast(part.dtype, d))
            yield from texts(part.to(wide).numpy() if part.numel() else None, depth)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        yield f"{value.dtype}{value.shape}{content};"
    elif isinstance(value, nn.Module) or not depth:
        yield f"{kind(value)};"
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield f"{key}:"
            yield from texts(value[key], depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item, depth - 1)
        yield f"{len(value)};"
    elif isinstance(value, set | frozenset):
        yield "".join(sorted("".join(texts(item, depth - 1)) for item in value))
    elif hasattr(value, "__array__") and not isinstance(value, type):
        yield f"{kind(value)} {getattr(value, 'shape', '')} "
        if getattr(value, "chunks", None) is None:  # not of dask or in a file
            array = np.asarray(value)
            yield from texts(array.tolist() if array.dtype == object else array, depth - 1)
    elif isinstance(value, functools.partial):
        yield from texts((value.func, value.args, value.keywords), depth - 1)
    elif isinstance(value, MethodType):
        yield from texts((value.__func__, value.__self__), depth - 1)
    elif isinstance(value, FunctionType):
        yield from function_texts(value, depth)
    elif isinstance(value, CodeType):
        yield f"{value.co_code.hex()} {value.co_names};"
        yield from texts(value.co_consts, depth - 1)
    else:
        yield f"{kind(value)} {getattr(value, '__qualname__', '')};"
        own = public_attributes(value)
        yield from texts(own, depth - 1)
        if not own and " at 0x" not in (text := repr(value)):
            yield text
        call = vars(type(value)).get("__call__")  # of an object that is used as a function
        if isinstance(call, FunctionType):
            yield from texts(call, depth - 1)


def function_texts(function: FunctionType, depth: int) -> Iterator[str]:
    """Describe a function: where it is defined, its code, and what it holds."""
    yield f"{function.__module__ if function.__name__ != '<lambda>' else ''}"
    yield from texts(function.__code__, depth - 1)
    yield from texts(held(function), depth - 1)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # of a variable that is not assigned yet
        return False
    return True
