"""What can be recorded from a navigation Transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from placeformer.hooks import Layers, Listener, match
from placeformer.model import Layer, NavigationTransformer


@dataclass(frozen=True)
class Tap:
    """A module whose output is recorded, and how its output becomes (walk, time, unit)."""

    module: nn.Module
    width: int
    units: Callable[[Tensor], Tensor] = lambda output: output


def taps(model: NavigationTransformer) -> dict[str, Tap]:
    """Everything that can be recorded, by name."""
    config = model.config
    reach = config.memory + config.chunk + 1
    half = config.d_model // 2
    found = {
        "position": Tap(model.position, half),
        "content.position": Tap(model.content_position, half),
    }
    for stream in ("", "content."):
        for i, layer in enumerate(cast(Iterable[Layer], model.layers)):
            weights, units = layer.attention.weights, layer.ffn.units
            by_lag = query_lags(reach)
            if stream:
                weights, units = layer.attention.content_weights, layer.ffn.content_units
                by_lag = content_lags(reach)
            found[f"{stream}attention.{i}"] = Tap(weights, config.n_heads * reach, by_lag)
            found[f"{stream}ffn.{i}"] = Tap(units, config.d_inner)
    return found


def select_taps(available: Mapping[str, Tap], layers: Layers) -> dict[str, Tap]:
    """Pick taps by name or pattern; refuse what matches nothing, and both streams at once."""
    patterns = [layers] if isinstance(layers, str | nn.Module) else list(layers)
    names = [name for pattern in patterns for name in match(str(pattern), available)]
    if len({name.startswith("content.") for name in names}) != 1:
        raise ValueError(
            f"layers must be of one stream, got {', '.join(names) or 'none'}: a query's step is "
            "the place moved to, a letter's the place stood on; record them one after the other"
        )
    return {name: available[name] for name in available if name in names}


def is_content(chosen: Mapping[str, Tap]) -> bool:
    """Tell whether it is the letter stream that is recorded."""
    return next(iter(chosen)).startswith("content.")


def listeners_of(chosen: Mapping[str, Tap]) -> list[Listener]:
    """Listeners to taps; what they put out is known beforehand."""
    return [
        Listener(name, tap.module, lay=lay_out(tap.units), width=tap.width)
        for name, tap in chosen.items()
    ]


def lay_out(units: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """A tap's units, whatever the number of walks."""
    return lambda output, n_walks: units(output)


def query_lags(reach: int) -> Callable[[Tensor], Tensor]:
    """Attention of a query by lag: its own key, the last one, is lag 0."""
    return lambda weights: by_lag(weights, reach, own=1)


def content_lags(reach: int) -> Callable[[Tensor], Tensor]:
    """Attention of a letter by lag: 0 is the letter itself."""
    return lambda weights: by_lag(weights, reach, own=0)


def by_lag(weights: Tensor, reach: int, own: int) -> Tensor:
    """(walk, head, time, key) → (walk, time, head × lag); lags out of reach are 0."""
    n_walks, n_heads, steps, n_keys = weights.shape
    lag = torch.arange(reach, device=weights.device)
    here = torch.arange(steps, device=weights.device)[:, None] + n_keys - steps
    key = here - lag  # a query's own key stands last, and its step is one further on
    if own:
        key = torch.where(lag == 0, n_keys - 1, key)
    value = weights.gather(3, key.clamp(min=0).expand(n_walks, n_heads, -1, -1))
    return (value * (key >= 0)).transpose(1, 2).flatten(2)
