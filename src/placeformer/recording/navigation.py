"""Recording of a navigation Transformer: names, units and outputs of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from placeformer.data import schema
from placeformer.models.fingerprints import code_sha256, network_facts, weights_sha256
from placeformer.models.memory import INPUTS, along, attended_window, places, visited
from placeformer.models.transformer import Layer, NavigationTransformer, State
from placeformer.recording.hooks import LayerHook, Layers, match, record_only
from placeformer.recording.network_state import dataset_sha256
from placeformer.recording.runner import Job, Plan


@dataclass(frozen=True)
class HookPoint:
    """A module whose output can be recorded, and the function that arranges its units.

    `path` leads to one of several outputs, such as "[1]".
    """

    module: nn.Module
    width: int
    units: Callable[[Tensor], Tensor] = lambda output: output
    path: str = ""

    def hook(self, name: str) -> LayerHook:
        """Return a hook that records it; its axes are known."""

        def lay(output: Tensor, n_walks: int) -> Tensor:
            return self.units(output)

        hook = LayerHook(name, self.module, lay=lay, width=self.width)
        hook.path = self.path  # not part of the name
        return hook


def hook_points(model: NavigationTransformer) -> dict[str, HookPoint]:
    """All hook points of a navigation Transformer, by name."""
    config = model.config
    reach = config.memory + config.chunk + 1
    half = config.d_model // 2
    points = {
        "position": HookPoint(model.position, half),
        "content.position": HookPoint(model.content_position, half),
    }
    for stream in ("", "content."):
        for i, layer in enumerate(cast(Iterable[Layer], model.layers)):
            weights, units = layer.attention.weights, layer.ffn.units
            by_lag = query_lags(reach)
            if stream:
                weights, units = layer.attention.content_weights, layer.ffn.content_units
                by_lag = content_lags(reach)
            points[f"{stream}attention.{i}"] = HookPoint(weights, config.n_heads * reach, by_lag)
            points[f"{stream}ffn.{i}"] = HookPoint(units, config.d_inner)
            path = "[0]" if stream else "[1]"
            points[f"{stream}residual.{i}"] = HookPoint(layer, config.d_model, path=path)
    return points


def select_hook_points(model: NavigationTransformer, layers: Layers) -> dict[str, HookPoint]:
    """Hook points by name or pattern; raise for patterns without a match and for both streams."""
    available = hook_points(model)
    patterns = [layers] if isinstance(layers, str | nn.Module) else list(layers)
    names = [name for pattern in patterns for name in match(str(pattern), available)]
    if len({name.startswith("content.") for name in names}) != 1:
        raise ValueError(
            f"layers must be of one stream, got {', '.join(names) or 'none'}: a step of the query "
            "stream is the next place, one of the letter stream the current place; record them "
            "separately"
        )
    return {name: available[name] for name in available if name in names}


def query_lags(reach: int) -> Callable[[Tensor], Tensor]:
    """Return a function that sorts a query's attention by lag; its own, last key has lag 0."""
    return lambda weights: by_lag(weights, reach, own=1)


def content_lags(reach: int) -> Callable[[Tensor], Tensor]:
    """Return a function that sorts a letter's attention by lag; the letter itself has lag 0."""
    return lambda weights: by_lag(weights, reach, own=0)


def by_lag(weights: Tensor, reach: int, own: int) -> Tensor:
    """(walk, head, time, key) → (walk, time, head × lag); 0 where there is no key."""
    n_walks, n_heads, steps, n_keys = weights.shape
    lag = torch.arange(reach, device=weights.device)
    here = torch.arange(steps, device=weights.device)[:, None] + n_keys - steps
    key = here - lag  # a query's own key comes last and is one step later
    if own:
        key = torch.where(lag == 0, n_keys - 1, key)
    value = weights.gather(3, key.clamp(min=0).expand(n_walks, n_heads, -1, -1))
    return (value * (key >= 0)).transpose(1, 2).flatten(2)


BATCH = 128
"""Default number of walks that run at once."""


def navigation_job(
    model: NavigationTransformer,
    walks: xr.Dataset,
    *,
    layers: Layers | None,
    units: Mapping[str, NDArray[np.int64]],
    seed: int,
    burn_in: int,
    batch: int | None,
    dtype: str,
    check_finite: bool,
) -> Job:
    """Prepare a recording of a navigation Transformer along walks."""
    points = select_hook_points(model, list(units) or "ffn.*" if layers is None else layers)
    content = next(iter(points)).startswith("content.")
    plan = Plan.of(
        walks, batch=BATCH if batch is None else batch, chunk=model.config.chunk, burn_in=burn_in
    )
    hooks = [point.hook(name) for name, point in points.items()]
    record_only(hooks, units)
    return Job(
        network=model,
        step=Navigation(model, content),
        inputs=with_path(model, walks, seed),
        plan=plan,
        hooks=hooks,
        base=navigated(model, walks, content).isel(time=slice(burn_in, None)),
        about={
            "network": facts(model),
            "walks": dict(walks.attrs),
            "layers": list(points),
            "code_sha256": code_sha256(model),
            "path_seed": seed,
            "walks_sha256": dataset_sha256(walks),
        },
        units=units,
        dtype=dtype,
        values={} if content else {"prediction": "uint8", "correct": "bool"},
        seed=seed,
        check_finite=check_finite,
    )


def facts(model: NavigationTransformer) -> dict[str, Any]:
    """Identity of the network for provenance: name, activation, α, sha256 of its weights."""
    return {
        "name": model.info.get("name", ""),
        "activation": model.config.activation,
        "alpha": model.config.alpha,
        "weights_sha256": weights_sha256(model),
        **network_facts(model),
        "placeformer": version("placeformer"),
    }


@dataclass(frozen=True)
class Navigation:
    """Runs a navigation Transformer along walks, chunk by chunk.

    Attributes
    ----------
    model
        The network.
    content
        Also run the last layer of the letter stream; predictions are then left out.
    """

    model: NavigationTransformer
    content: bool

    @torch.inference_mode()
    def __call__(self, batch: xr.Dataset, state: Any) -> tuple[Any, dict[str, Tensor]]:
        """Run one chunk; return the next state, the predictions and whether they are correct."""
        device = self.model.read_out.weight.device
        action, observation, target, path = (
            torch.from_numpy(batch[name].values).to(device)
            for name in ("action", "observation", "target", "path")
        )
        state = State(*state) if state else self.model.initial_state(len(path), path=path)
        with along(batch):
            logits, state = self.model.forward_chunk(action, observation, state, self.content)
        prediction = logits.argmax(-1)
        answers = {"prediction": prediction, "correct": prediction == target}
        return tuple(state), {} if self.content else answers


def with_path(model: NavigationTransformer, walks: xr.Dataset, seed: int) -> xr.Dataset:
    """Inputs of the network, its places, and e₀.

    e₀ is drawn for all walks at once, independent of the number of walks that run together.
    """
    path = model.initial_state(walks.sizes[schema.WALK], seed=seed).path
    drawn = xr.Variable((schema.WALK, "rnn"), path.detach().float().cpu().numpy())
    return walks[INPUTS].assign(path=drawn)


def navigated(model: NavigationTransformer, walks: xr.Dataset, content: bool) -> xr.Dataset:
    """Places, times and behaviour: a recording without activations and predictions."""
    config, steps = model.config, (schema.WALK, schema.TIME)
    window = attended_window(walks.sizes["time"], config.chunk, config.memory)
    values: dict[str, NDArray[Any]] = {"action": walks["action"].values}
    values["observation"] = walks["observation" if content else "target"].values
    if not content:
        values["visited"] = visited(places(walks), window)
    entries = schema.RECORDING
    return xr.Dataset(
        {name: xr.Variable(steps, value, entries[name].attrs) for name, value in values.items()},
        coords={
            axis: xr.Variable(
                steps,
                walks[axis if content else f"next_{axis}"].values,
                entries[axis].attrs | {"long_name": f"{axis} position in grid steps"},
            )
            for axis in ("x", "y")
        }
        | {
            "map": ("walk", walks["map"].values, entries["map"].attrs),
            "familiar": ("walk", walks["familiar"].values, entries["familiar"].attrs),
            "window": ("time", window, entries["window"].attrs),
            "walk": walks["walk"].values,
            "time": walks["time"].variable,
        },
        attrs={k: v for k, v in walks.attrs.items() if k in (*schema.WORLD_SIZE, schema.WALLS)},
    )
