"""Attributes and weights that are changed temporarily; the changes may end in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from placeformer._warnings import warn

Function = Callable[[Any], Any]


@dataclass
class Changed:
    """A value as it was before, and the changes of it that are open, oldest first."""

    owner: object
    before: Any
    open: list[tuple[object, Function]] = field(default_factory=list)
    written: Any = None
    """What was written last."""

    def value(self) -> Any:
        """Return the value after all open changes."""
        value = self.before
        for _, function in self.open:
            value = function(value)
        return value


CHANGED: dict[tuple[int, str], Changed] = {}
"""What is changed at present, by the identity of its owner (kept alive meanwhile) and its name."""


def standing_in(module: nn.Module, name: str, function: Function) -> AbstractContextManager[None]:
    """Change an attribute of a module by a function of its value, for a ``with`` block.

    Changes that are open at the same time apply one after the other in the order in which they
    were entered, whichever of them ends first.
    """
    write = partial(setattr, module, name)
    return changing(module, name, function, lambda: getattr(module, name), write)


def weight_changed(weight: Tensor, function: Function) -> AbstractContextManager[None]:
    """Change the values of a parameter, which remains the same object; see :func:`standing_in`."""

    def write(values: Tensor) -> None:
        with torch.inference_mode() if weight.is_inference() else torch.no_grad():
            weight.copy_(values)

    return changing(weight, "", function, lambda: weight.detach().clone(), write)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    return bool(a == b)


@contextmanager
def changing(
    owner: object,
    name: str,
    function: Function,
    read: Callable[[], Any],
    write: Callable[[Any], None],
) -> Iterator[None]:
    """Change what `read` gives and `write` sets, and restore it when the last change ends."""
    key, entry = (id(owner), name), (object(), function)
    this = CHANGED.get(key) or Changed(owner, read())
    this.open.append(entry)
    try:
        write(this.value())  # before anything is noted, as the function may raise
        this.written = read()
        CHANGED[key] = this
        yield
    finally:
        this.open.remove(entry)
        if key in CHANGED and not same(read(), this.written):
            weight = f"a weight of shape {tuple(getattr(owner, 'shape', ()))}"
            what = f"{type(owner).__name__}.{name}" if name else weight
            warn(
                f"{what} was set inside a block that changes it, for example by training or by "
                "loading weights; on leaving the block it gets back what it was before, and what "
                "was set is lost. Train or load outside the block"
            )
        write(this.value())
        this.written = read()
        if not this.open:
            CHANGED.pop(key, None)
