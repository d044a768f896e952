"""Axes of a layer's output (walk, time, unit): named, or inferred from their lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from placeformer.data.schema import TIME, UNIT, WALK

SAMPLE = "sample"
"""Name of an axis that combines walk and time, all steps of the first walk first."""

ROLES = (WALK, TIME, SAMPLE)

Dims = tuple[str, ...]
Shape = tuple[int, ...]


class Span(NamedTuple):
    """Number of walks, and of steps in each, of one forward pass."""

    walks: int
    steps: int

    def __str__(self) -> str:
        return f"{self.walks} walks of {self.steps} steps"


def as_dims(dims: object) -> Dims:
    """Return names of axes as a tuple; refuse a single text, whose letters are no names.

    Raises
    ------
    TypeError
        They are not a sequence of names.
    """
    names: list[Any] = [None]
    if isinstance(dims, Iterable) and not isinstance(dims, str):
        names = list(dims)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(
            'dims must be the names of the axes, such as ("walk", "time", "unit"), or a mapping '
            f"from layers to such names, got {dims!r:.80}"
        )
    return tuple(names)


def choose(
    layer: str,
    outputs: Mapping[str, Sequence[Shape]],
    span: Span,
    dims: Dims | None,
    asked: str = "",
) -> tuple[str, Dims]:
    """Choose the output of a layer to record, and identify its axes.

    Parameters
    ----------
    layer
        Name of the layer, for errors.
    outputs
        For the path of every output, "" or, for example, "[0]": its shape in each call of the
        forward pass.
    span
        Walks and steps of the forward pass.
    dims
        Names of the axes; None to infer them from their lengths.
    asked
        Path in the name by which the layer was selected.

    Returns
    -------
    path, dims
        The output, and a name for each axis: "walk", "time", "sample", or another name for units.
        Without "time" and "sample" the layer was called once per step.

    Raises
    ------
    ValueError
        No output fits, several do, or one fits in several ways; all are listed.
    """
    ways = {path: readings(calls, span, dims) for path, calls in outputs.items()}
    ways = {path: found for path, found in ways.items() if found}
    if len(ways) == 1:
        path, found = ways.popitem()
        if len(found) == 1:
            return path, found[0]
        names = " or ".join(map(show, found))
        raise ValueError(
            f"dims: {layer + path!r} gave {outputs[path][0]} for {span}, which can be {names}; "
            f"pass dims={found[0]} for all layers, or dims={{{layer + asked!r}: {found[0]}}}"
        )
    if ways:
        several = ", ".join(f"{layer + path!r} {outputs[path][0]}" for path in ways)
        raise ValueError(f"layers: {layer!r} has several outputs with time: {several}; name one")
    raise ValueError(unreadable(layer, outputs, span, dims))


def readings(calls: Sequence[Shape], span: Span, dims: Dims | None = None) -> list[Dims]:
    """Every possible naming of the axes; those that differ only in axes of length 1 count once."""
    ways: dict[frozenset[tuple[int, str]], Dims] = {}
    for way in [dims] if dims else every(len(calls[0])):
        if misfit(way, calls, span) is None:
            ways.setdefault(meaning(way, calls, span), way)
    return list(ways.values())


def every(n_axes: int) -> Iterator[Dims]:
    """All supported layouts: walk or sample first, or walk right after time; time anywhere."""
    for walk in ((WALK,), ()):
        rest = (UNIT,) * (n_axes - len(walk))
        for time in range(len(rest)):
            yield (*walk, *rest[:time], TIME, *rest[time + 1 :])
        yield (*walk, *rest)
    yield (SAMPLE, *(UNIT,) * (n_axes - 1))
    yield (TIME, WALK, *(UNIT,) * (n_axes - 2))


def misfit(dims: Dims, calls: Sequence[Shape], span: Span) -> str | None:
    """Reason why the axes cannot have these names; None if they can."""
    if any(len(shape) != len(dims) for shape in calls):
        return f"it has {len(calls[0])} axes"
    together = SAMPLE in dims and {WALK, TIME} & set(dims)
    if together or any(dims.count(role) > 1 for role in ROLES):
        return "walk and time must be named once, separately or together as sample"
    length = {name: [shape[axis] for shape in calls] for axis, name in enumerate(dims)}
    if SAMPLE in dims:
        right = length[SAMPLE] == [span.walks * span.steps]
        return None if right else f"sample has {length[SAMPLE][0]}"
    if set(length.get(WALK, [1])) != {span.walks}:
        return f"walk has {length.get(WALK, [1])[0]}"
    steps = sum(length[TIME]) if TIME in dims else len(calls)
    if steps != span.steps:
        return f"time has {steps}" if TIME in dims else f"it was called {steps} times"
    return None


def meaning(dims: Dims, calls: Sequence[Shape], span: Span) -> frozenset[tuple[int, str]]:
    """Axes longer than 1 that are walk and time, by which two namings are compared."""
    alone = TIME if span.walks == 1 else WALK if span.steps == 1 else SAMPLE
    return frozenset(
        (axis, alone if name == SAMPLE else name)
        for axis, name in enumerate(dims)
        if name in ROLES and calls[0][axis] > 1
    )


def confirm(
    label: str, dims: Dims, width: int, span: Span, runs: Sequence[Sequence[Tensor]]
) -> None:
    """Check axes against another run over `span`, and one over the same walks in reverse.

    `runs` holds the outputs of each run, call by call; the second run is there only if walk and
    time are in one axis. `runs` is empty if the network cannot be run over `span`: then the axes
    rest on their lengths alone, which is enough unless no axis is left for units, or walk and time
    are in one axis.

    Raises
    ------
    ValueError
        The axes differ, or cannot be determined.
    """
    why = ""
    if not runs and (SAMPLE in dims or not set(dims) - set(ROLES)):
        why = "and the network cannot be run over fewer steps to check this"
    elif runs:
        shapes = [tuple(output.shape) for output in runs[0]]
        units = arrange(runs[0][0], dims, span.walks).shape[2] if fits(dims, shapes, span) else -1
        if units != width:
            why = f"but it gave {shapes[0] if shapes else 'nothing'} for {span}"
        elif SAMPLE in dims and not walks_first(dims, runs, span):
            why = "but the steps of a walk do not follow each other there"
    if why:
        raise ValueError(
            f"layers: the axes of {label!r} were read as {show(dims)} from their lengths, {why}; "
            "name them with dims=(...), or record a layer that gives walk, time and unit an axis "
            "each"
        )


def fits(dims: Dims, calls: Sequence[Shape], span: Span) -> bool:
    """Whether these names can be those of the axes."""
    return bool(calls) and misfit(dims, calls, span) is None


def walks_first(dims: Dims, runs: Sequence[Sequence[Tensor]], span: Span) -> bool:
    """Whether walks run in reverse come back in reverse, as they do if their steps are adjacent."""
    there, back = (arrange(run[0], dims, span.walks) for run in runs)
    return torch.allclose(there.flip(0).float(), back.float(), rtol=1e-3, atol=1e-5, equal_nan=True)


def arrange(output: Tensor, dims: Dims, n_walks: int) -> Tensor:
    """Arrange an output as (walk, time, unit), without a copy if possible."""
    names = list(dims)
    if SAMPLE in names:
        axis = names.index(SAMPLE)
        output, names[axis : axis + 1] = output.unflatten(axis, (n_walks, -1)), [WALK, TIME]
    for name in (TIME, WALK):
        if name not in names:
            output, names = output[None], [name, *names]
    units = [axis for axis, name in enumerate(names) if name not in ROLES]
    output = output.permute(names.index(WALK), names.index(TIME), *units)
    return output.flatten(2) if units else output[..., None]


def show(dims: Dims) -> str:
    """Format dims as "(walk, time, unit)"."""
    return f"({', '.join(dims)})"


def unreadable(
    layer: str, outputs: Mapping[str, Sequence[Shape]], span: Span, dims: Dims | None
) -> str:
    """Explain why no output of a layer fits."""
    gave = ", ".join(
        f"{layer + path!r} {calls[0]}" + (f" in each of {len(calls)} calls" if calls[1:] else "")
        for path, calls in outputs.items()
    )
    if dims:
        why = "; ".join(f"{misfit(dims, calls, span)}" for calls in outputs.values())
        return f"dims: {show(dims)} does not fit {gave} for {span}: {why}"
    if any(calls[1:] and readings(calls[:1], span) for calls in outputs.values()):
        return (
            f"layers: {layer!r} gave {gave}, and {span} in each: modules that share it cannot be "
            "distinguished; record these modules instead"
        )
    singly = any(len(calls) == span.walks * span.steps for calls in outputs.values())
    way = "; pass batch=1 if it is run along one walk after another" if singly else ""
    return (
        f"layers: {layer!r} has no time axis of {span.steps} steps: it gave "
        f"{gave or 'no tensor'} for behaviour of {span}. The output of a layer must have axes of "
        "these lengths for walk and time, or one for both, or the layer be called once per step"
        + way
    )
