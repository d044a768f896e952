"""Recording of the navigation Transformer: its layers, their names and units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from placeformer.data import schema
from placeformer.models.memory import along, attended_window, places, visited
from placeformer.models.transformer import Layer, NavigationTransformer, State
from placeformer.recording.hooks import Layers, Listener, match
from placeformer.recording.network_state import weights_sha256
from placeformer.recording.runner import Job, Options


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


BATCH = 128
"""Walks that run at once by default."""


def navigation_job(
    model: NavigationTransformer, walks: xr.Dataset, layers: Layers | None, options: Options
) -> Job:
    """Prepare a recording of taps along walks."""
    if layers is None:
        layers = list(options.units) or "ffn.*"
    chosen = select_taps(taps(model), layers)
    content, config = is_content(chosen), model.config
    plan = options.plan(walks, options.skip(config.memory + config.chunk), BATCH, config.chunk)
    settings = {
        "network": facts(model),
        "walks": dict(walks.attrs),
        "layers": list(chosen),
        "path_seed": options.seed,
        **options.settings(walks, plan),
    }
    answers = {} if content else {"prediction": "uint8", "correct": "bool"}
    return Job(
        model,
        Navigation(model, content),
        with_path(model, walks, options.seed),
        plan,
        options.chosen(listeners_of(chosen)),
        navigated(model, walks, content).isel(time=slice(plan.burn_in, None)),
        settings,
        {schema.ACTIVATION: options.dtype, **answers},
        options.seed,
        options.check_finite,
    )


def facts(model: NavigationTransformer) -> dict[str, Any]:
    """Which network this is: name, α, activation, sha256 of its weights as they are now."""
    return {
        "name": model.info.get("name", ""),
        "activation": model.config.activation,
        "alpha": model.config.alpha,
        "weights_sha256": weights_sha256(model),
        "placeformer": version("placeformer"),
        **({"lesions": model.info["lesions"]} if "lesions" in model.info else {}),
    }


@dataclass(frozen=True)
class Navigation:
    """Runs a navigation Transformer along walks, chunk by chunk.

    Attributes
    ----------
    model
        The network.
    content
        Run the letter stream to its end too; predictions are left out then.
    """

    model: NavigationTransformer
    content: bool

    @torch.inference_mode()
    def __call__(self, batch: xr.Dataset, state: Any) -> tuple[Any, dict[str, Tensor]]:
        """Run one chunk: the next state, and what was predicted and whether rightly."""
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
    """Inputs of the network, and where it stands.

    e₀ is drawn for all walks at once, however many run together.
    """
    path = model.initial_state(walks.sizes[schema.WALK], seed=seed).path
    drawn = xr.Variable((schema.WALK, "rnn"), path.detach().float().cpu().numpy())
    inputs = ["action", "observation", "target", "x", "y", "next_x", "next_y"]
    return walks[inputs].assign(path=drawn)


def navigated(model: NavigationTransformer, walks: xr.Dataset, content: bool) -> xr.Dataset:
    """Where, when and what: a recording without activations and predictions."""
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
        attrs={"side": walks.attrs["side"]},
    )
