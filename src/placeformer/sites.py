"""Where the units of a layer are in a network: the outputs of which modules, in every stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from placeformer.hooks import PATH
from placeformer.model import NavigationTransformer
from placeformer.replacement import Reference, find_recording, recordings
from placeformer.selection import CONTENT
from placeformer.taps import taps


@dataclass(frozen=True)
class Site:
    """Where the units of a layer are in one stream: the output of a module.

    Attributes
    ----------
    stream
        "content." for the letter stream, else "".
    keys
        Number of keys of its own that an attention weight's query has; None for other units.
    """

    layer: str
    stream: str
    module: nn.Module
    width: int | None
    keys: int | None = None

    @property
    def name(self) -> str:
        """Layer as a Recording of this stream calls it."""
        return self.stream + self.layer

    def shape(self, output: Tensor) -> tuple[int, int]:
        """Walks and steps of an output."""
        return output.shape[0], output.shape[-2 if self.keys is not None else 1]

    def replaced(self, output: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        """Output with `values` wherever `mask`, both (..., unit), says."""
        if self.keys is None:
            return torch.where(mask, values, output)
        return torch.where(
            over_keys(mask, output, self.keys), over_keys(values, output, self.keys), output
        )


def layer_widths(
    model: nn.Module, reference: Reference, also: Iterable[str] = ()
) -> dict[str, int | None]:
    """Units of every layer that can be lesioned; None where only a run would tell.

    `also` are names that may have a path to one of several outputs, as those of the reference may.
    """
    if isinstance(model, NavigationTransformer):
        return {n: tap.width for n, tap in taps(model).items() if not n.startswith(CONTENT)}
    modules = modules_of(model)
    recorded = [str(name) for part in recordings(reference) for name in part["layer"].values]
    names = [*modules, *(n for n in (*recorded, *also) if PATH.sub("", n) in modules)]
    found = {name: find_recording(reference, name) for name in dict.fromkeys(names)}
    return {n: None if r is None else int(r["index"].max()) + 1 for n, r in found.items()}


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name, the whole network by that of its class."""
    return {name or type(model).__name__: module for name, module in model.named_modules()}


def sites(model: nn.Module, layer: str) -> list[Site]:
    """Find where the units of a layer are, in all streams that use them."""
    if not isinstance(model, NavigationTransformer):
        return [Site(layer, "", modules_of(model)[PATH.sub("", layer)], None)]
    known, keys = taps(model), {"": 1, CONTENT: 0}
    attention = layer.startswith("attention")
    return [
        Site(layer, stream, tap.module, tap.width, keys[stream] if attention else None)
        for stream, tap in ((stream, known[stream + layer]) for stream in keys)
    ]


def unused(model: nn.Module, site: Site) -> bool:
    """Tell whether no prediction needs this: the letter stream of the last layer."""
    if not isinstance(model, NavigationTransformer):
        return False
    return bool(site.stream) and site.layer.endswith(f".{model.config.n_layers - 1}")


def over_keys(values: Tensor, weights: Tensor, own: int) -> Tensor:
    """Bring values (..., head × lag) to the keys (walk, head, time, key) of attention weights."""
    n_walks, n_heads, steps, n_keys = weights.shape
    key = torch.arange(n_keys, device=weights.device)
    here = torch.arange(steps, device=weights.device)[:, None] + n_keys - steps
    lag = here - key
    seen = lag >= own
    if own:  # the last key is the query's own
        lag[:, -1], seen[:, -1] = 0, True
    by_lag = values.unflatten(-1, (n_heads, -1))
    by_lag = by_lag.expand(n_walks, steps, *by_lag.shape[-2:])
    at = lag.clamp(min=0).expand(n_walks, n_heads, -1, -1)
    found = by_lag.permute(0, 2, 1, 3).gather(3, at)
    return found if found.dtype == torch.bool else found * seen


def changed(output: Any, path: Sequence[str], change: Callable[[Tensor], Tensor]) -> Any:
    """Output with one of its tensors changed; nested tuples, lists and mappings are made anew."""
    if not path:
        return change(output)
    if isinstance(output, Mapping):
        other = copy(output)
        other[path[0]] = changed(output[path[0]], path[1:], change)  # type: ignore[index]
        return other
    items = list(output)
    items[int(path[0])] = changed(items[int(path[0])], path[1:], change)
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
