"""Record from a navigation Transformer along walks on its maps."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from placeformer import schema
from placeformer.fingerprints import weights_sha256
from placeformer.hooks import Layers
from placeformer.memory import attended_window, places, running, visited
from placeformer.model import NavigationTransformer, State
from placeformer.plans import Options
from placeformer.runs import Job
from placeformer.taps import is_content, listeners_of, select_taps, taps

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
        with running(batch):
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
    grid = {"units": "grid steps"}
    return xr.Dataset(
        {name: xr.Variable(steps, value, entries[name].attrs) for name, value in values.items()},
        coords={
            axis: xr.Variable(
                steps,
                walks[axis if content else f"next_{axis}"].values,
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
        attrs={"side": walks.attrs["side"]},
    )
