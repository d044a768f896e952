"""Record a network's activations along walks into the Dataset of the contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer import schema
from placeformer.memory import (
    attended_window,
    forward_chunks,
    places,
    untouched,
    visited,
    world_of,
)
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
    found = {"position": Tap(model.position, config.d_model // 2)}
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


def record(
    network: NavigationTransformer,
    walks: xr.Dataset | None = None,
    *,
    layers: str | Sequence[str] = "ffn.*",
    n_walks: int = 64,
    n_steps: int = 1536,
    seed: int = 0,
    familiar: bool = True,
    maps: Sequence[int] = (0,),
    burn_in: int | None = None,
    dtype: str = "float32",
    progress: bool = True,
) -> xr.Dataset:
    """Record activations along walks.

    Parameters
    ----------
    network
        A navigation Transformer; it comes back as it was (mode, hooks, weights, random state).
    walks
        What :meth:`GridWorld.walk` returned; by default `n_walks` new ones of `burn_in` +
        `n_steps` steps on `maps`.
    layers
        Names or patterns: "ffn.*" (feed-forward units), "attention.*" (weights, head × lag),
        "position" (place embedding), each of the query stream, whose step is the place just moved
        to; "content.ffn.*", "content.attention.*" for the letter stream. One stream at a time.
    n_walks, n_steps, seed, familiar, maps
        Of the new walks: number, recorded steps in each, seed (of e₀ too), trained or novel
        maps, and map indices. One map by default, since a rate map is a map of one place.
    burn_in
        First steps that are walked and not recorded; by default ``memory + chunk``, after which
        every chunk has its full memory.
    dtype
        "float32" or "float16".
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        A Recording (dims ``walk``, ``time``, ``unit``): `activation`, signed, in arbitrary units;
        `x`, `y`, `map`, `familiar`, `window`; `action` and `observation`, the letter at `x`, `y`.
        For the query stream `action` led to the place, and `prediction`, `correct` and `visited`
        are of it; for the letter stream `action` is the one taken there. ``time`` counts from the
        walk's first step.

    Raises
    ------
    ValueError
        Unknown layers (the nearest names are shown), mixed streams, walks shorter than `burn_in`.
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f'dtype must be "float32" or "float16", got {dtype!r}')
    chosen = select(taps(network), layers)
    skip = network.config.memory + network.config.chunk if burn_in is None else burn_in
    if walks is None:
        walks = world_of(network).walk(
            n_walks, skip + n_steps, seed=seed, familiar=familiar, maps=maps
        )
    total = walks.sizes["time"]
    if not 0 <= skip < total:
        raise ValueError(f"burn_in must be in 0–{total - 1} for walks of {total} steps, got {skip}")
    with untouched(network):
        activation, prediction = run(network, walks, chosen, skip, dtype, seed, progress)
    recording = behaviour(network, walks, None if is_content(chosen) else prediction)
    recording = recording.isel(time=slice(skip, None)).assign_coords(unit_coords(chosen))
    about = schema.RECORDING[schema.ACTIVATION]
    recording[schema.ACTIVATION] = xr.Variable(about.dims, activation, about.attrs)
    recording.attrs = {
        "side": walks.attrs["side"],
        schema.PROVENANCE: schema.provenance(
            None,
            "record",
            network=facts(network),
            walks=dict(walks.attrs),
            layers=list(chosen),
            burn_in=skip,
            path_seed=seed,
        ),
    }
    schema.check_recording(recording)
    return recording


def select(available: Mapping[str, Tap], layers: str | Sequence[str]) -> dict[str, Tap]:
    """Pick taps by name or pattern; refuse what matches nothing, and both streams at once."""
    patterns = [layers] if isinstance(layers, str) else list(layers)
    names: list[str] = []
    for pattern in patterns:
        found = [name for name in available if fnmatchcase(name, pattern)]
        if not found:
            near = get_close_matches(pattern, available, cutoff=0.5) or list(available)
            raise ValueError(
                f"layers: {pattern!r} matches no layer; did you mean {', '.join(near)}? "
                f"There are {', '.join(available)}"
            )
        names += found
    if len({name.startswith("content.") for name in names}) != 1:
        raise ValueError(
            f"layers must be of one stream, got {', '.join(names) or 'none'}: a query's step is "
            "the place moved to, a letter's the place stood on; record them one after the other"
        )
    return {name: available[name] for name in available if name in names}


def is_content(chosen: Mapping[str, Tap]) -> bool:
    """Tell whether it is the letter stream that is recorded."""
    return next(iter(chosen)).startswith("content.")


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


def run(
    model: NavigationTransformer,
    walks: xr.Dataset,
    chosen: Mapping[str, Tap],
    skip: int,
    dtype: str,
    seed: int,
    progress: bool,
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Activations (walk, time from `skip` on, unit) and predictions (walk, time)."""
    n_walks, n_steps = walks["action"].shape
    activation = np.empty((n_walks, n_steps - skip, sum(t.width for t in chosen.values())), dtype)
    prediction = np.empty((n_walks, n_steps), dtype=np.uint8)
    outputs: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, tap in chosen.items():
            hook = tap.module.register_forward_hook(keep(outputs, name))
            stack.callback(hook.remove)
        bar = tqdm(total=n_walks * n_steps, unit="step", desc="record", disable=not progress)
        stack.enter_context(bar)
        for w, t, logits in forward_chunks(model, walks, seed=seed, content=is_content(chosen)):
            prediction[w, t] = logits.argmax(-1).cpu().numpy()
            first = max(t.start, skip)
            if first < t.stop:
                part = torch.from_numpy(activation[w, first - skip : t.stop - skip])
                write(part, outputs, chosen, first - t.start)
            bar.update(prediction[w, t].size)
    return activation, prediction


def keep(outputs: dict[str, Tensor], name: str) -> Callable[..., None]:
    """Return a hook that keeps a module's last output; nothing in the network writes into it."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs[name] = output

    return hook


def write(
    part: Tensor, outputs: Mapping[str, Tensor], chosen: Mapping[str, Tap], first: int
) -> None:
    """Copy the chunk's outputs, from its step `first` on, side by side into `part`."""
    column = 0
    for name, tap in chosen.items():
        part[..., column : column + tap.width].copy_(tap.units(outputs[name])[:, first:])
        column += tap.width


def behaviour(
    model: NavigationTransformer, walks: xr.Dataset, prediction: NDArray[np.uint8] | None
) -> xr.Dataset:
    """Where, when and what: the recording without its activations."""
    config, steps = model.config, (schema.WALK, schema.TIME)
    window = attended_window(walks.sizes["time"], config.chunk, config.memory)
    values: dict[str, Any] = {"action": walks["action"].values}
    moved = prediction is not None
    values["observation"] = walks["target" if moved else "observation"].values
    if prediction is not None:
        values |= {
            "prediction": prediction,
            "correct": prediction == walks["target"].values,
            "visited": visited(places(walks), window),
        }
    entries = schema.RECORDING
    grid = {"units": "grid steps"}
    return xr.Dataset(
        {name: xr.Variable(steps, value, entries[name].attrs) for name, value in values.items()},
        coords={
            axis: xr.Variable(
                steps,
                walks[f"next_{axis}" if moved else axis].values,
                entries[axis].attrs | grid,
            )
            for axis in ("x", "y")
        }
        | {
            "map": ("walk", walks["map"].values, entries["map"].attrs),
            "familiar": ("walk", walks["familiar"].values, entries["familiar"].attrs),
            "window": ("time", window, entries["window"].attrs),
            "walk": walks["walk"].values,
            "time": ("time", walks["time"].values, {"units": "step"}),
        },
    )


def unit_coords(chosen: Mapping[str, Tap]) -> dict[str, xr.Variable]:
    """`layer`, `component` and `index` of every unit."""
    widths = [tap.width for tap in chosen.values()]
    layer = np.repeat(list(chosen), widths)
    component = np.repeat([name.removeprefix("content.").split(".")[0] for name in chosen], widths)
    index = np.concatenate([np.arange(width) for width in widths])
    return {
        name: xr.Variable("unit", values, schema.RECORDING[name].attrs)
        for name, values in (("layer", layer), ("component", component), ("index", index))
    }


def facts(model: NavigationTransformer) -> dict[str, Any]:
    """Which network this is: name, α, activation, sha256 of its weights as they are now."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return {
        "name": model.info.get("name", ""),
        "activation": model.config.activation,
        "alpha": model.config.alpha,
        "weights_sha256": digest.hexdigest(),
        "placeformer": version("placeformer"),
    }
