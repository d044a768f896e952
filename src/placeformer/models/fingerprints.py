"""What determines a network's activations besides its weights: modules, settings, hooks."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, Protocol, runtime_checkable

import numpy as np
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

    Settings are attributes that are numbers, texts, functions, tensors, or sequences of them;
    hooks that are not ours count as well. Private attributes and the mode do not count.
    """
    digest = hashlib.sha256()
    for name, module in network.named_modules(remove_duplicate=False):
        digest.update(f"{name} {kind(module)} {module.extra_repr()}\n".encode())
        own = {k: v for k, v in vars(module).items() if is_setting(k, v)}
        own |= {k: v for k, v in module._buffers.items() if k in module._non_persistent_buffers_set}
        shapes = {k: (v.shape, v.dtype) for k, v in module._parameters.items() if v is not None}
        hooks = [h for t in TABLES for h in getattr(module, t).values()]
        theirs = [h for h in hooks if not str(h.__module__).startswith("placeformer.")]
        for part in (own, shapes, theirs):
            digest.update("".join(texts(part)).encode())
    return digest.hexdigest()


def is_setting(name: str, value: object) -> bool:
    """Whether an attribute of a module may decide what it computes."""
    plain = bool | int | float | complex | str | Tensor | np.ndarray | list | tuple
    public = not name.startswith("_") and name not in ("training", "name_or_path")
    return public and (value is None or isinstance(value, plain) or callable(value))


PLAIN = bool | int | float | complex | str | Tensor | np.ndarray


def function_settings(function: Any) -> dict[str, Any]:
    """Settings that a function holds, by name: arguments bound to it, defaults, closure, globals.

    Numbers and texts are given as they are, arrays as their SHA-256.
    """
    if isinstance(function, functools.partial):
        bound = {f"argument {i}": value for i, value in enumerate(function.args)}
        found = function_settings(function.func) | bound | function.keywords
    elif isinstance(function, MethodType):
        own = {k: v for k, v in vars(function.__self__).items() if not k.startswith("_")}
        found = function_settings(function.__func__) | (
            {} if isinstance(function.__self__, nn.Module) else own
        )
    elif isinstance(function, FunctionType):
        found = held(function)
    else:
        found = {k: v for k, v in getattr(function, "__dict__", {}).items() if k[0] != "_"}
    return {
        name: "".join(texts(value)) if isinstance(value, Tensor | np.ndarray) else value
        for name, value in sorted(found.items())
        if isinstance(value, PLAIN)
    }


def function_sha256(function: Any) -> str:
    """SHA-256 over the code of a function, and of the functions of its module that it uses."""
    digest, todo, seen = hashlib.sha256(), [function], set()
    while todo:
        this = todo.pop(0)
        if isinstance(this, functools.partial):
            todo += [this.func, *this.args, *this.keywords.values()]
        elif isinstance(this, MethodType):
            todo.append(this.__func__)
        elif not isinstance(this, FunctionType):
            call = vars(type(this)).get("__call__")  # of an object that is used as a function
            todo += [call] if isinstance(call, FunctionType) else []
        elif this not in seen:
            seen.add(this)
            digest.update("".join(texts(this.__code__)).encode())
            cells = [cell.cell_contents for cell in this.__closure__ or () if _filled(cell)]
            named = [this.__globals__.get(name) for name in this.__code__.co_names]
            own = [f for f in named if getattr(f, "__module__", None) == this.__module__]
            todo += [f for f in (*cells, *own) if isinstance(f, FunctionType | functools.partial)]
    return digest.hexdigest()


def held(function: FunctionType) -> dict[str, Any]:
    """Values that a function holds besides its code, by name: globals, defaults and closure."""
    code, defaults = function.__code__, inspect.signature(function).parameters.values()
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    outside = {n: function.__globals__[n] for n in code.co_names if n in function.__globals__}
    return (
        {name: value for name, value in outside.items() if isinstance(value, PLAIN)}
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
        yield from texts(value.detach().cpu().float().numpy() if value.numel() else None, depth)
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
        own = getattr(value, "__dict__", {})
        yield from texts({k: v for k, v in dict(own).items() if not k.startswith("_")}, depth - 1)
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
