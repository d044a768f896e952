"""Hooks on the layers of any network: selection of layers, of their outputs and of units."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from placeformer.data.schema import UNIT
from placeformer.models.network_checks import unwrapped
from placeformer.recording.output_axes import Dims, Shape, Span, arrange, choose, readings

Lay = Callable[[Tensor, int], Tensor]
"""Function of one output of a layer and the number of walks → (walk, time, unit)."""

Layers = str | nn.Module | Sequence[str | nn.Module]
Units = Mapping[str, Sequence[int]] | Sequence[str] | xr.Dataset | xr.DataArray

PATH = re.compile(r"\[([^\[\]]*)\]")
LABEL = re.compile(r"(.+)/(\d+)")


@dataclass(eq=False)
class LayerHook:
    """Forward hook that writes a layer's output into the recording at every call.

    An output is written or copied immediately, since a later layer may modify it in place.

    Attributes
    ----------
    name, path
        Name of the layer, and path of the output: "" or, for example, "[0]".
    module
        The layer.
    dims
        Names of the output's axes, if they are known.
    lay
        Function that arranges an output as (walk, time, unit); None until the axes are known, see
        :meth:`infer_axes` and :meth:`set_axes`.
    width
        Number of units of the layer.
    units
        Indices of the recorded units; None for all.
    optional
        Whether the layer is dropped if it is never called or has no time axis.
    inferred
        Whether its axes were inferred from their lengths.
    """

    name: str
    module: nn.Module
    path: str = ""
    dims: Dims | None = None
    lay: Lay | None = None
    width: int = 0
    units: NDArray[np.int64] | None = None
    optional: bool = False
    label: str = field(init=False)
    calls: list[dict[str, Tensor]] = field(default_factory=list, init=False)
    out: Tensor | None = field(default=None, init=False)
    cut: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)
    inferred: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.label = self.name + self.path
        self.check_units()

    @property
    def index(self) -> NDArray[np.int64]:
        """Indices of the recorded units within the layer."""
        return np.arange(self.width) if self.units is None else self.units

    def hook(self, module: nn.Module, args: Any, output: Any) -> None:
        """Write or keep one output; this is the forward hook."""
        value = pick(output, self.path, self.name)
        with torch.no_grad():  # a network may compute gradients in its forward pass
            if self.lay is None:
                found = dict(leaves(value, self.path))
                for path, x in found.items():
                    if x.is_nested:  # and has no shape
                        strided(x, self.name + path)
                plain = {k: x.dequantize() if x.is_quantized else x for k, x in found.items()}
                self.calls.append({path: x.clone() for path, x in plain.items()})
            elif self.out is not None:
                self.write(self.out, self.lay(strided(value, self.label), len(self.out)))

    def has_steps(self, span: Span) -> bool:
        """Whether an output of one forward pass over `span` has steps, or its axes are named."""
        return bool(self.dims) or any(readings(c, span) for c in self.shapes().values())

    def shapes(self) -> dict[str, list[Shape]]:
        """Shapes of the outputs that every call gave, by their paths."""
        first, *others = self.calls
        paths = [path for path in first if all(path in call for call in others)]
        return {path: [tuple(call[path].shape) for call in self.calls] for path in paths}

    def infer_axes(self, span: Span) -> None:
        """Infer the output and its axes from one forward pass over `span`."""
        if self.lay is None:
            self.check_called()
            self.inferred = self.dims is None
            path, dims = choose(self.name, self.shapes(), span, self.dims, self.path)
            strided(self.calls[0][path], self.name + path)
            self.set_axes(path, dims, arrange(self.calls[0][path], dims, span.walks).shape[2])

    def set_axes(self, path: str, dims: Dims, width: int) -> None:
        """Set the recorded output of the layer and its axes."""
        self.path, self.dims, self.width = path, dims, width
        self.lay = lambda output, n_walks: arrange(output, dims, n_walks)
        self.check_units()

    def mute(self) -> None:
        """Ignore all further outputs."""
        self.lay, self.out = lambda output, n_walks: output, None

    def write_to(self, out: Tensor, cut: int) -> None:
        """Write the next steps, except the first `cut`, into `out` (walk, time, unit).

        Outputs that were kept while the axes were unknown are written first.
        """
        self.out, self.cut, self.seen = out, cut, 0
        calls, self.calls = self.calls, []
        for call in calls:
            if self.lay is not None:
                self.write(out, self.lay(call[self.path], len(out)))

    def write(self, out: Tensor, value: Tensor) -> None:
        """Write the next steps (walk, time, unit)."""
        steps = self.cut + out.shape[1]
        begin, self.seen = self.seen, self.seen + value.shape[1]
        if (value.shape[0], value.shape[2]) != (len(out), self.width) or self.seen > steps:
            raise ValueError(
                f"layers: {self.label!r} gave {tuple(value.shape)} as (walk, time, unit) after "
                f"{begin} steps; expected {self.width} units and {Span(len(out), steps)} in total"
            )
        first = max(self.cut - begin, 0)
        if first < value.shape[1]:
            value = value[:, first:]
            value = value if self.units is None else value[..., self.units]
            out[:, begin + first - self.cut : self.seen - self.cut].copy_(value)

    def check_called(self, steps: int | None = None) -> None:
        """Raise if the layer was not called, or gave fewer steps than `steps`."""
        if not self.calls and not self.seen:
            raise ValueError(
                f"layers: {self.label!r} was never called in the forward pass. A layer whose "
                "forward() is called directly, or whose weights another module uses (out_proj of "
                "nn.MultiheadAttention), cannot be recorded: record the module that contains it"
            )
        if steps is not None and self.seen != steps:
            raise ValueError(
                f"layers: {self.label!r} gave {self.seen} steps, and the behaviour has {steps}"
            )

    def check_units(self) -> None:
        """Raise for units that the layer does not have."""
        if self.width and self.units is not None and self.units.max() >= self.width:
            raise ValueError(
                f"units: {self.label!r} has units 0–{self.width - 1}, got {int(self.units.max())}"
            )


def unpacked(output: Any, label: str) -> Any:
    """Return a packed sequence as a tensor, a dataclass as a mapping, anything else as it is."""
    return padded(output, label) if isinstance(output, PackedSequence) else as_mapping(output)


def as_mapping(output: Any) -> Any:
    """Return a dataclass, such as the output of some networks, as the mapping of its fields."""
    if not is_dataclass(output) or isinstance(output, Mapping | Sequence | type):
        return output
    names = (part.name for part in fields(output))
    return {name: getattr(output, name) for name in names if hasattr(output, name)}


def leaves(output: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested tuples, lists, mappings and dataclasses, with their paths."""
    output = unpacked(output, path)
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping | Sequence) and not isinstance(output, str):
        items = output.items() if isinstance(output, Mapping) else enumerate(output)
        for key, value in items:
            yield from leaves(value, f"{path}[{key}]")


def strided(value: Any, label: str) -> Tensor:
    """Refuse a tensor that holds more, or something else, than one real number for each unit.

    The values of a quantized tensor are the numbers that it stands for.
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"layers: {label!r} must give a tensor, got {type(value).__name__}")
    if value.is_complex() or value.is_nested or value.layout != torch.strided:
        what = "complex" if value.is_complex() else "nested" if value.is_nested else value.layout
        raise ValueError(
            f"layers: {label!r} must give an ordinary tensor of real numbers, got a {what} one; "
            "record a module that gives its real part or magnitude, or the dense tensor"
        )
    return value.dequantize() if value.is_quantized else value


def padded(output: PackedSequence, label: str) -> Tensor:
    """Arrange a packed sequence, which stores step after step, as (walk, time, unit)."""
    values, lengths = pad_packed_sequence(output, batch_first=True)
    if len(lengths.unique()) > 1:
        raise ValueError(
            f"layers: {label!r} must give walks of equal length, got a packed sequence of "
            f"{int(lengths.min())} to {int(lengths.max())} steps; record walks of each length "
            "separately"
        )
    return values


def key_of(output: Mapping[Any, Any], text: str) -> Any:
    """The key of a mapping whose text is in a path, such as "[layer4.1]" or "[0]"."""
    for key in output:
        if str(key) == text:
            return key
    raise KeyError(text)


def pick(output: Any, path: str, name: str) -> Any:
    """Follow a path such as "[hidden][0]" into an output."""
    found = unpacked(output, name)
    try:
        for key in PATH.findall(path):
            if isinstance(found, Tensor):
                raise LookupError
            found = found[key_of(found, key) if isinstance(found, Mapping) else int(key)]
            found = unpacked(found, name + path)
    except (LookupError, TypeError, ValueError):
        there = ", ".join(repr(name + other) for other, _ in leaves(output))
        raise ValueError(
            f"{name + path!r} must be one of the outputs of {name!r}, which are {there}"
        ) from None
    return found


def match(pattern: str, names: Iterable[str], argument: str = "layers") -> list[str]:
    """Names that match a pattern; raise if there are none, suggesting similar names."""
    names = list(names)
    found = [name for name in names if fnmatchcase(name, literal_brackets(pattern))]
    if not found:
        near = nearest(pattern, names)
        meant = f"; did you mean {near}?" if near else "."
        there = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if names[20:] else "")
        raise ValueError(f"{argument}: {pattern!r} matches no layer{meant} There are {there}")
    return found


def literal_brackets(pattern: str) -> str:
    """A pattern in which only "*" and "?" have a meaning, for fnmatch."""
    return pattern.replace("[", "[[]")


def nearest(pattern: str, names: Sequence[str]) -> str:
    """Suggestions for a pattern: names that end with it, else names with a similar spelling."""
    ends = [name for name in names if fnmatchcase(name, f"*.{literal_brackets(pattern)}")]
    if ends:
        return f"'*.{pattern}' ({', '.join(ends[:3])}{', ...' if ends[3:] else ''})"
    return ", ".join(get_close_matches(pattern, names, cutoff=0.5))


def select(network: nn.Module, layers: Layers) -> list[LayerHook]:
    """Return one hook for every layer selected by name, pattern or module, in the given order.

    A module has its own name ("encoder.2"), and the whole network that of its class. "*" and "?"
    match any characters, and a path in brackets selects one of several outputs: "lstm[0]",
    "head[key]". Layers that match a pattern and are never called, or without time, are left out.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    modules = {name or type(network).__name__: module for name, module in modules.items()}
    chosen: dict[tuple[int, str], LayerHook] = {}
    for layer in checked_layers(layers):
        if isinstance(layer, nn.Module):
            known = [module for module in (layer, unwrapped(layer)) if module in modules.values()]
            names, path = [n for n, module in modules.items() if module in known[:1]][:1], ""
            if not names:
                raise ValueError(f"layers: {type(layer).__name__} is not a module of the network")
            pattern = names[0]
        else:
            path = "".join(f"[{key}]" for key in PATH.findall(layer))
            pattern = PATH.sub("", layer)
            names = match(pattern, modules)
        for name in names:
            new = LayerHook(name, modules[name], path, optional=name != pattern)
            chosen.setdefault((id(new.module), path), new)
    if not chosen:
        raise ValueError(f"layers must name at least one layer; there are {', '.join(modules)}")
    return list(chosen.values())


def checked_layers(layers: Any) -> list[str | nn.Module]:
    """Return layers as a list; refuse what is neither a name nor a module."""
    one = isinstance(layers, str | nn.Module) or not isinstance(layers, Iterable)
    found: list[Any] = [layers] if one else list(layers)
    if not all(isinstance(x, str | nn.Module) for x in found):
        raise TypeError(
            f"layers must be names of layers, patterns of them, or modules, got {layers!r:.80}"
        )
    return found


def by_layer(units: Units | None) -> dict[str, NDArray[np.int64]]:
    """Indices of units by layer, from a mapping, labels, a mask or the coordinates of units."""
    if units is None:
        return {}
    if not isinstance(units, Mapping) or isinstance(units, xr.Dataset):
        layer, index = selected_units(units)
        units = {str(name): index[layer == name] for name in dict.fromkeys(layer)}
    indices = {name: np.asarray(index) for name, index in units.items()}
    for name, index in indices.items():
        whole = index.ndim == 1 and index.size and np.issubdtype(index.dtype, np.integer)
        if not whole or index.min() < 0 or len(np.unique(index)) < index.size:
            raise ValueError(
                f"units[{name!r}] must be at least one index of a unit, without repeats, got "
                f"{index.tolist()}; indices of a layer are 0 to its width - 1"
            )
    if not indices:
        raise ValueError(f"units must hold at least one {UNIT} of one layer, got none")
    return indices


def selected_units(
    units: xr.Dataset | xr.DataArray | Iterable[str],
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Layer and index of every unit, or of the true ones of a boolean DataArray over ``unit``."""
    layer, index = layer_and_index(units)
    if not isinstance(units, xr.DataArray) or units.dtype != bool:
        return layer, index
    if units.dims != (UNIT,):
        raise ValueError(
            f"units must have only the dimension {UNIT} when it is boolean, got "
            f'{", ".join(map(str, units.dims)) or "none"}; choose one map, or reduce it: any("map")'
        )
    return layer[units.values], index[units.values]


def layer_and_index(
    units: xr.Dataset | xr.DataArray | Iterable[str], argument: str = "units"
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Layer and index of every unit of a Dataset, a DataArray or a sequence of labels.

    The coordinates ``layer`` and ``index`` are used if both exist; otherwise the labels
    ("ffn.1/37") are split. `argument` is the name that errors give to `units`.

    Raises
    ------
    TypeError, ValueError
        Labels that are not text, or not a layer and an index.
    """
    if isinstance(units, xr.Dataset | xr.DataArray):
        if {"layer", "index"} <= set(units.coords):
            layer, index = (np.atleast_1d(units[name].values) for name in ("layer", "index"))
            return layer.astype(str), index.astype(np.int64)
        if UNIT not in units.coords:
            raise ValueError(
                f"{argument} must have the coordinates layer and index, or the labels unit, got "
                f"{', '.join(map(str, units.coords)) or 'none'}; "
                'a mapping such as {"ffn.1": [3, 5]} needs none'
            )
        units = np.atleast_1d(units[UNIT].values).tolist()
    if not isinstance(units, Iterable):
        raise TypeError(
            f'{argument} must be labels such as ["ffn.1/37"], a mapping such as {{"ffn.1": [3]}}, '
            f"or a Dataset or DataArray of units, got {units!r:.80}"
        )
    labels = [units] if isinstance(units, str) else list(units)
    if not all(isinstance(label, str) for label in labels):
        raise TypeError(
            f'{argument} must be labels such as "ffn.1/37" when they are a sequence, got '
            f"{labels[:3]}; a mapping of layers takes numbers, such as {{'ffn.1': [3, 5]}}"
        )
    parts = [LABEL.fullmatch(label) for label in labels]
    wrong = [label for label, part in zip(labels, parts, strict=True) if part is None]
    if wrong:
        raise ValueError(
            f'{argument} must be labels "layer/index" such as "ffn.1/37", got {wrong[:3]}'
        )
    pairs = [part.groups() for part in parts if part is not None]
    layers, numbers = [layer for layer, _ in pairs], [int(number) for _, number in pairs]
    return np.array(layers, dtype=str), np.array(numbers, dtype=np.int64)


def record_only(hooks: Sequence[LayerHook], units: Mapping[str, NDArray[np.int64]]) -> None:
    """Restrict the hooks to these units; raise for layers that are not recorded."""
    left = dict(units)
    for hook in hooks:
        hook.units = left.pop(hook.label, None)
        hook.check_units()
    if left:
        recorded = ", ".join(hook.label for hook in hooks)
        raise ValueError(
            f"units must be of recorded layers, {recorded}, got {', '.join(left)}; record these "
            "with layers as well"
        )


@contextmanager
def attached(hooks: Iterable[LayerHook]) -> Iterator[None]:
    """Register the hooks, and remove them on exit."""
    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(hook.module.register_forward_hook(hook.hook).remove)
        yield
