"""Record from any other network along behaviour."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from placeformer.data import arrays, schema
from placeformer.recording.hooks import Layers, Listener, select
from placeformer.recording.network_state import weights_sha256
from placeformer.recording.output_axes import Dims
from placeformer.recording.runner import Job, Options, device_of

Forward = Callable[..., Any]

AT_ONCE = 2**14
"""Samples that run at once by default."""

CHUNK = 1024
"""Steps that run at once by default where the network's state is carried."""


@dataclass(frozen=True)
class Feed:
    """Runs a network over a part of its inputs as the user says."""

    network: nn.Module
    forward: Forward | None
    inputs: tuple[str, ...]

    @property
    def carries_state(self) -> bool:
        """Whether `forward` takes and returns a state."""
        return self.forward is not None and "state" in inspect.signature(self.forward).parameters

    def __call__(self, batch: xr.Dataset, state: Any) -> tuple[Any, dict[str, Tensor]]:
        """Run one part; the network's own output is of no interest."""
        if self.forward is None:
            self.call({name: self.tensor(batch[name].values) for name in self.inputs})
        elif self.carries_state:
            return self.forward(self.network, batch, state=state), {}
        else:
            self.forward(self.network, batch)
        return None, {}

    def call(self, inputs: Mapping[str, Tensor]) -> None:
        """Call the network with its inputs; an error says what they were."""
        try:
            self.network(*inputs.values())
        except Exception as error:
            given = ", ".join(f"{name} {tuple(x.shape)} {x.dtype}" for name, x in inputs.items())
            error.add_note(
                f"pf.record called {type(self.network).__name__} with {given}. Where it is called "
                "in another way, forward=function says how: function(module, batch)"
            )
            raise

    def tensor(self, values: np.ndarray) -> Tensor:
        """Values on the network's device, floats in its precision, other numbers as indices."""
        values = np.require(values, requirements=["C", "W"])
        tensor = torch.from_numpy(values).to(device_of(self.network))
        if not tensor.is_floating_point():
            return tensor if tensor.dtype == torch.bool else tensor.long()
        kinds = (p.dtype for p in self.network.parameters() if p.is_floating_point())
        return tensor.to(next(kinds, tensor.dtype))


def module_job(
    network: nn.Module,
    walks: xr.Dataset | Mapping[str, Any] | None,
    layers: Layers | None,
    options: Options,
    forward: Forward | None,
    inputs: Mapping[str, Any],
    dims: Dims | Mapping[str, Dims] | None,
    position_units: str | None,
) -> Job:
    """Prepare a recording of a network's modules."""
    if walks is None:
        raise ValueError("walks must hold the behaviour the network is run along, got None")
    if forward is None and not inputs:
        raise ValueError("forward or inputs must say how the network is run, got neither")
    walks = in_units(arrays.as_walks(walks, "walks"), position_units)
    feed = Feed(network, forward, tuple(inputs))
    fed = with_inputs(walks, inputs)
    listeners = options.chosen(select(network, list(options.units) if layers is None else layers))
    name_axes(listeners, dims)
    n_steps = walks.sizes[schema.TIME]
    if not feed.carries_state and options.chunk is not None and options.chunk != n_steps:
        raise ValueError(
            f"chunk must be left out unless forward takes a state, got {options.chunk}: write "
            "forward(module, batch, state), which returns the next state, or None for none"
        )
    chunk = min(CHUNK, n_steps) if feed.carries_state else n_steps
    at_once = max(1, AT_ONCE // (options.chunk or chunk))
    plan = options.plan(walks, options.skip(0), at_once, chunk)
    settings = {
        "network": facts(network),
        "layers": [listener.label for listener in listeners],
        "dims": dims,
        "seed": options.seed,
        **options.settings(fed, plan),
    }
    return Job(
        network,
        feed,
        fed,
        plan,
        listeners,
        behaviour(walks).isel(time=slice(plan.burn_in, None)),
        settings,
        {schema.ACTIVATION: options.dtype},
        options.seed,
        options.check_finite,
    )


def facts(network: nn.Module) -> dict[str, Any]:
    """Which network this is: its class, and the sha256 of its weights as they are now."""
    return {
        "name": type(network).__name__,
        "weights_sha256": weights_sha256(network),
        "placeformer": version("placeformer"),
    }


def in_units(walks: xr.Dataset, units: str | None) -> xr.Dataset:
    """Behaviour whose x and y are in these units; in its own where they are None."""
    if units is None:
        return walks
    axes = [axis for axis in ("x", "y") if axis in walks.variables]
    return walks.assign_coords({axis: walks[axis].assign_attrs(units=units) for axis in axes})


def with_inputs(walks: xr.Dataset, inputs: Mapping[str, Any]) -> xr.Dataset:
    """Behaviour and inputs in one Dataset, as `forward` gets its parts."""
    twice = sorted(set(inputs) & set(walks.variables))
    if twice:
        raise ValueError(f"inputs: {', '.join(twice)} is in walks as well; name it once")
    n_walks, n_steps = walks.sizes[schema.WALK], walks.sizes[schema.TIME]
    source = f"walks has {n_walks} walks of {n_steps} steps"
    return walks.assign(arrays.label(inputs, n_walks, n_steps, "inputs", source))


def name_axes(listeners: Sequence[Listener], dims: Dims | Mapping[str, Dims] | None) -> None:
    """Tell the listeners what the user says their axes are."""
    named = dict(dims) if isinstance(dims, Mapping) else {x.label: dims for x in listeners}
    for listener in listeners:
        axes = named.pop(listener.label, None)
        listener.dims = None if axes is None else tuple(axes)
    if named:
        there = ", ".join(listener.label for listener in listeners)
        raise ValueError(f"dims: {', '.join(named)} is no layer recorded; these are {there}")


def behaviour(walks: xr.Dataset) -> xr.Dataset:
    """What a recording carries on: variables of walk and time, and attributes of one value."""
    names = [n for n, v in walks.variables.items() if set(v.dims) <= {schema.WALK, schema.TIME}]
    attrs = {k: v for k, v in walks.attrs.items() if isinstance(v, str | int | float)}
    kept = walks[names]
    kept.attrs = attrs
    return kept
