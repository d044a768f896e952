"""Selections of units to lesion, and the places in a network where they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from placeformer.data import schema
from placeformer.interventions.control_units import DECISION
from placeformer.interventions.replacement import Reference, find_recording, recordings
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.hooks import PATH, as_mapping, key_of, selected_units
from placeformer.recording.navigation import by_lag, hook_points
from placeformer.recording.output_axes import ROLES, SAMPLE, TIME, UNIT, WALK, Dims, show

Units = Mapping[str, Any] | Sequence[str] | xr.DataArray | xr.Dataset
Chosen = dict[str, NDArray[np.int64]]
CONTENT = "content."
CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.GroupNorm,
    nn.Upsample,
)
"""Modules that have their units on the second axis."""
OF_SAMPLES = nn.modules.batchnorm._BatchNorm, nn.GroupNorm
"""Modules among them whose outputs of two axes are (sample, unit)."""
UNITS_LAST = (
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)
"""Modules that have their units on the last axis."""


def chosen_units(units: Units, widths: Mapping[str, int | None]) -> Chosen:
    """Indices of the chosen units by layer, ascending and unique.

    Parameters
    ----------
    units
        A mapping from layer to unit indices (an integer, a sequence, a slice, or a boolean array
        over the layer); a sequence or DataArray of labels ("ffn.1/37"); a boolean DataArray over
        ``unit``; or a Dataset, which selects all of its units. The last two have the coordinates
        ``layer`` and ``index``, or labels.
    widths
        Number of units of every existing layer; None if it is unknown.

    Raises
    ------
    TypeError, ValueError
        Units of another type, or units that do not exist; the message lists all problems.
    """
    problems: list[str] = []
    chosen: dict[str, list[NDArray[np.int64]]] = {}
    for name, numbers in by_layer(units):
        layer = str(name).removeprefix(CONTENT)
        if layer not in widths:
            near = get_close_matches(layer, widths, cutoff=0.5) or list(widths)[:8]
            problems.append(f"there is no layer {name!r} (there are {', '.join(near)})")
            continue
        try:
            chosen.setdefault(layer, []).append(_numbers(numbers, widths[layer]))
        except ValueError as error:
            problems.append(f"{layer}: {error}")
    if problems:
        raise ValueError(f"units must be units of the network, but {'; '.join(problems)}")
    joined = {layer: np.unique(np.concatenate(parts)) for layer, parts in chosen.items()}
    return {layer: numbers for layer, numbers in joined.items() if numbers.size}


def joined(first: Any, other: Any, width: int | None) -> Any:
    """Units of a layer that are chosen twice, by indices, slices or boolean arrays."""
    if any(isinstance(part, slice) and part == slice(None) for part in (first, other)):
        return slice(None)
    return np.union1d(_numbers(first, width), _numbers(other, width))


def once(model: nn.Module, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Units by layer (None: all), with those of layers that have several names under the first."""
    if isinstance(model, NavigationTransformer):
        return dict(chosen)
    modules, names = modules_of(model), dict[Any, str]()
    found = dict[str, Any]()
    for layer, numbers in chosen.items():
        output = id(modules[PATH.sub("", layer)]), *PATH.findall(layer)
        name = names.setdefault(output, layer)
        there = found.setdefault(name, numbers)
        whole = there is None or numbers is None
        found[name] = None if whole else np.union1d(there, numbers)
    return found


def by_layer(units: Units) -> list[tuple[Any, Any]]:
    """Names of the layers of the chosen units, each with its units."""
    if isinstance(units, Mapping) and not isinstance(units, xr.Dataset):
        return list(units.items())
    return list(_labelled(units))


def _labelled(units: object) -> list[tuple[str, NDArray[np.int64]]]:
    """Layer and indices of units chosen by labels or in a labelled table."""
    if not isinstance(units, xr.DataArray | xr.Dataset | Sequence | np.ndarray | pd.Index):
        raise TypeError(
            'units must be a mapping such as {"ffn.1": [3, 5]}, labels such as ["ffn.1/3"], a '
            f"boolean DataArray over unit or a Dataset with units, got {type(units).__name__}"
        )
    if isinstance(units, xr.DataArray) and units.dtype.kind not in "UOTb":
        raise ValueError(
            f"units must be boolean or labels when it is a DataArray, got {units.dtype}; compare "
            "it with a threshold, as in score > 0.5"
        )
    if isinstance(units, xr.Dataset) and DECISION in units:
        check_decided(units[DECISION])
    layer, index = selected_units(units)
    return [(str(name), index[layer == name]) for name in np.unique(layer)]


def check_decided(decision: xr.DataArray) -> None:
    """Refuse a whole table of :func:`place_cells`, of which only some units are place cells."""
    if decision.dtype == bool and decision.any() and not decision.all():
        raise ValueError(
            f"units must say whether all {decision.sizes[schema.UNIT]} units of the table are "
            f"chosen or only its place cells: pass table.{DECISION} for these, table.unit for all"
        )


def _numbers(numbers: Any, width: int | None) -> NDArray[np.int64]:
    """Unit indices of one layer as an array."""
    if isinstance(numbers, slice):
        if width is None:
            raise ValueError("a slice needs the layer's width; pass a reference, which has it")
        return np.arange(width)[numbers]
    indices = np.atleast_1d(np.asarray(numbers))
    if indices.dtype == bool:
        if width is None:
            raise ValueError(
                "a boolean array needs the layer's width; pass np.flatnonzero of it, or a "
                "reference, which has the width"
            )
        if indices.shape != (width,):
            raise ValueError(f"a boolean array must have {width} entries, got {indices.shape}")
        return np.flatnonzero(indices)
    if indices.size and (indices.ndim != 1 or indices.dtype.kind not in "iu"):
        raise ValueError(f"unit numbers must be whole and in one row, got {numbers!r}")
    bad = indices[(indices < 0) | (indices >= (np.inf if width is None else width))]
    if bad.size:
        range_ = "0 or more" if width is None else f"in 0–{width - 1}"
        raise ValueError(f"unit numbers must be {range_}, got {bad[:5].tolist()}")
    return indices.astype(np.int64)


@dataclass(frozen=True)
class Site:
    """Where the units of a layer are in one stream: the output of a module.

    Attributes
    ----------
    stream
        "content." for the letter stream, "" for the query stream and for other networks.
    keys
        For attention weights, the number of keys of its own that a query has (0 or 1); None for
        other units.
    dims
        Names of the output's axes, as the reference was recorded; None if it does not say.
    mixed
        Whether the network also has modules with units on the second axis, such as convolutions.
    """

    layer: str
    stream: str
    module: nn.Module
    width: int | None
    keys: int | None = None
    dims: Dims | None = None
    path: str | None = None
    mixed: bool = False

    @property
    def name(self) -> str:
        """Name of the layer in a Recording of this stream."""
        return self.stream + self.layer

    def shape(self, output: Tensor) -> tuple[int, int]:
        """Number of walks and steps of an output of a navigation Transformer."""
        return output.shape[0], output.shape[-2 if self.keys is not None else 1]

    def present(self, output: Tensor) -> Tensor:
        """Values (walk, time, unit) of an output of a navigation Transformer."""
        if self.keys is None or self.width is None:
            return output
        return by_lag(output, self.width // output.shape[1], own=self.keys)

    def replaced(self, output: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        """Return the output with `values` where `mask` is true, both (..., unit)."""
        if self.keys is None:
            return torch.where(mask, values, output)
        return torch.where(
            over_keys(mask, output, self.keys), over_keys(values, output, self.keys), output
        )

    def axes(self, output: Tensor, walk: xr.Dataset | None) -> Dims:
        """Names of an output's axes: those recorded, else units last, after walk, time or both.

        Raises
        ------
        ValueError
            Units need not be on the last axis, and no Recording says where they are.
        """
        if self.dims is not None:
            return self.dims
        sizes = None if walk is None else (walk.sizes[schema.WALK], walk.sizes[schema.TIME])
        # After a convolution, units come before time: then the last axis is as long as the walks.
        turned = output.ndim == 3 and sizes is not None and output.shape[:2] == sizes[::-1] != sizes
        behind = (
            output.ndim == 3
            and sizes is not None
            and (output.shape[2] == sizes[1] != output.shape[1])
            and not turned
        )
        plain = output.ndim < 2 or (output.ndim == 2 and isinstance(self.module, OF_SAMPLES))
        first = not plain and isinstance(self.module, CHANNELS_FIRST)
        # An activation after a convolution has channels first too. Along walks, lengths tell.
        unsure = self.mixed and sizes is None and output.ndim == 3
        first |= unsure and not isinstance(self.module, UNITS_LAST)
        if output.ndim > 3 or first or behind:
            raise ValueError(
                f"reference must be a Recording of {self.layer!r}, which says how its units are "
                f"numbered, got none: {type(self.module).__name__} gave {tuple(output.shape)}; or "
                'name its axes with dims, such as dims=("walk", "unit", "time")'
            )
        if output.ndim == 3:
            return (TIME, WALK, UNIT) if turned else (WALK, TIME, UNIT)
        if output.ndim == 2:
            step = sizes is not None and output.shape[0] == sizes[0]
            return (WALK, UNIT) if step else (SAMPLE, UNIT)
        return (UNIT,) * output.ndim


def layer_widths(
    model: nn.Module, reference: Reference, also: Iterable[str] = ()
) -> dict[str, int | None]:
    """Number of units of every layer that can be lesioned; None if it is not known before a run.

    `also` holds further names, which, like those of the reference, may have a path to one of
    several outputs.
    """
    if isinstance(model, NavigationTransformer):
        return {
            n: point.width for n, point in hook_points(model).items() if not n.startswith(CONTENT)
        }
    modules = modules_of(model)
    recorded = [str(name) for part in recordings(reference) for name in part["layer"].values]
    names = [*modules, *(n for n in (*recorded, *also) if PATH.sub("", n) in modules)]
    of_layer = {name: find_recording(reference, name) for name in dict.fromkeys(names)}
    return {n: None if r is None else recorded_width(r, n) for n, r in of_layer.items()}


def recorded_output(source: object, layer: str) -> dict[str, Any]:
    """What :func:`record` inferred about a layer: path, dims and width; empty if unknown."""
    if not isinstance(source, xr.Dataset | xr.DataArray):
        return {}
    outputs: dict[str, Any] = {}
    for step in schema.read_provenance(source).get("steps", []):
        if isinstance(step, Mapping) and isinstance(step.get("outputs"), Mapping):
            outputs |= step["outputs"]
    return dict(outputs.get(layer, {}))


def recorded_width(recording: xr.Dataset, layer: str) -> int:
    """Number of units of a layer if known, otherwise up to the last one that was recorded."""
    least = int(recording["index"].max()) + 1
    return max(least, int(recorded_output(recording, layer).get("width", least)))


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name; the network itself has the name of its class."""
    modules = model.named_modules(remove_duplicate=False)  # a module may have several names
    return {name or type(model).__name__: module for name, module in modules}


def sites(
    model: nn.Module, layer: str, sources: Iterable[object] = (), named: Dims | None = None
) -> list[Site]:
    """Return the sites of the units of a layer in all streams that use them.

    `sources` are Recordings, or selections of one, that may state the axes of the layer's output;
    `named` are the names that the user gave.
    """
    if not isinstance(model, NavigationTransformer):
        module = modules_of(model)[PATH.sub("", layer)]
        outputs = (recorded_output(source, layer) for source in sources)
        output = next(filter(None, outputs), {})
        dims = tuple(output["dims"]) if output else named
        if named not in (None, dims):
            raise ValueError(
                f"dims must be those of the Recording of {layer!r}, {show(dims or ())}, which says "
                f"how its units are numbered, got {show(named or ())}; leave dims out"
            )
        mixed = any(isinstance(m, CHANNELS_FIRST) for m in model.modules())
        width, path = output.get("width"), output.get("path")
        return [Site(layer, "", module, width, dims=dims, path=path, mixed=mixed)]
    known, keys = hook_points(model), {"": 1, CONTENT: 0}
    attention = layer.startswith("attention")
    return [
        Site(
            layer, stream, point.module, point.width, keys[stream] if attention else None,
            path=point.path or None,
        )
        for stream, point in ((stream, known[stream + layer]) for stream in keys)
    ]  # fmt: skip


def unused(model: nn.Module, site: Site) -> bool:
    """Return whether no prediction needs the site: the letter stream of the last layer."""
    if not isinstance(model, NavigationTransformer):
        return False
    return bool(site.stream) and site.layer.endswith(f".{model.config.n_layers - 1}")


def with_units_last(
    output: Tensor,
    dims: Dims,
    change: Callable[[Tensor, tuple[int, int]], tuple[Tensor, Tensor]],
    n_walks: int,
) -> Tensor:
    """Change an output whose axes have these names, its units laid out as :func:`record` does.

    `change` takes (..., unit) and the numbers of walks and steps, and gives the mask and the values
    that take its place there, each (unit,) or (walk, time, unit).
    """
    roles = [dims.index(role) for role in ROLES if role in dims]
    order = roles + [axis for axis in range(len(dims)) if axis not in roles]
    moved = output.permute(order)
    flat = moved.flatten(len(roles)) if len(order) > len(roles) else moved[..., None]
    walks = output.shape[dims.index(WALK)] if WALK in dims else n_walks if SAMPLE in dims else 1
    steps = output.shape[dims.index(TIME)] if TIME in dims else 1
    steps = output.shape[dims.index(SAMPLE)] // walks if SAMPLE in dims else steps
    mask, values = change(flat, (walks, steps))
    mask, values = (
        x.expand(walks, steps, -1).reshape(*flat.shape[:-1], x.shape[-1]) if x.ndim > 1 else x
        for x in (mask, values)
    )
    return torch.where(mask, values, flat).reshape(moved.shape).permute(*np.argsort(order).tolist())


def over_keys(values: Tensor, weights: Tensor, own: int) -> Tensor:
    """Rearrange values (..., head × lag) over the keys (walk, head, time, key) of attention."""
    n_walks, n_heads, steps, n_keys = weights.shape
    key = torch.arange(n_keys, device=weights.device)
    here = torch.arange(steps, device=weights.device)[:, None] + n_keys - steps
    lag = here - key
    seen = lag >= own
    if own:  # the last key is the query's own
        lag[:, -1], seen[:, -1] = 0, True
    lags = values.unflatten(-1, (n_heads, -1))
    lags = lags.expand(n_walks, steps, *lags.shape[-2:])
    at = lag.clamp(min=0).expand(n_walks, n_heads, -1, -1)
    by_key = lags.permute(0, 2, 1, 3).gather(3, at)
    return by_key if by_key.dtype == torch.bool else by_key * seen


def changed(output: Any, path: Sequence[str], change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of nested tuples, lists, mappings and dataclasses with one tensor changed."""
    if isinstance(output, PackedSequence):
        values, lengths = pad_packed_sequence(output, batch_first=True)
        values, order = change(values), output.sorted_indices
        if order is not None:
            values, lengths = values[order], lengths[order.cpu()]
        return output._replace(data=pack_padded_sequence(values, lengths, True).data)
    if not path:
        return change(output)
    if isinstance(output, Mapping):
        key = key_of(output, path[0])
        value = changed(output[key], path[1:], change)
        if not isinstance(output, MutableMapping):
            return {**output, key: value}
        other = copy(output)
        other[key] = value
        return other
    if (entries := as_mapping(output)) is not output:
        other = copy(output)  # without __init__, and even if it is frozen
        object.__setattr__(other, path[0], changed(entries[path[0]], path[1:], change))
        return other
    items = list(output)
    items[int(path[0])] = changed(items[int(path[0])], path[1:], change)
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


def padded(output: Any) -> Any:
    """Return nested outputs with packed sequences as tensors (walk, time, unit).

    Shorter walks end in 0. Tuples and lists become lists, and mappings and dataclasses dicts, with
    the same paths.
    """
    if isinstance(output, PackedSequence):
        return pad_packed_sequence(output, batch_first=True)[0]
    output = as_mapping(output)
    if isinstance(output, Mapping):
        return {key: padded(value) for key, value in output.items()}
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [padded(value) for value in output]
    return output
