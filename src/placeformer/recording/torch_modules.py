"""Recording along behaviour of any torch network other than a navigation Transformer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from placeformer._warnings import warn
from placeformer.data import arrays, schema
from placeformer.data.array_labels import check_labels, labelled, of_columns
from placeformer.models.fingerprints import (
    code_sha256,
    function_settings,
    network_facts,
    weights_sha256,
)
from placeformer.recording.hooks import LayerHook, Layers, record_only, select
from placeformer.recording.network_state import dataset_sha256
from placeformer.recording.output_axes import Dims, as_dims
from placeformer.recording.runner import Job, Plan, device_of

Forward = Callable[..., Any]

AT_ONCE = 2**14
"""Default number of samples that run at once."""

CHUNK = 1024
"""Default number of steps that run at once if the state of the network is carried."""

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
"""Complex dtype with the precision of each real one."""


@dataclass(frozen=True)
class Feed:
    """Runs a network over a part of its inputs, with the user's `forward` if there is one."""

    network: nn.Module
    forward: Forward | None
    inputs: tuple[str, ...]

    @property
    def carries_state(self) -> bool:
        """Whether `forward` takes and returns a state."""
        return self.forward is not None and "state" in inspect.signature(self.forward).parameters

    def __call__(self, batch: xr.Dataset, state: Any) -> tuple[Any, dict[str, Tensor]]:
        """Run one part; the output of the network is ignored, since hooks record the layers."""
        if self.forward is None:
            self.call({name: self.tensor(name, batch[name].values) for name in self.inputs})
        elif self.carries_state:
            return self.forward(self.network, batch, state=state), {}
        else:
            self.forward(self.network, batch)
        return None, {}

    def call(self, inputs: Mapping[str, Tensor]) -> None:
        """Call the network with its inputs; errors get a note with the shapes of the inputs."""
        args, kwargs = arguments(self.network, inputs)
        try:
            self.network(*args, **kwargs)
        except Exception as error:
            given = ", ".join(f"{name} {tuple(x.shape)} {x.dtype}" for name, x in inputs.items())
            error.add_note(
                f"pf.record called {type(self.network).__name__} with {given}. If it must be "
                "called differently, pass forward=function, where function(module, batch) calls it"
            )
            raise

    def tensor(self, name: str, values: np.ndarray) -> Tensor:
        """Convert values to the network's device.

        Floats and complex numbers are given in its precision, and integers as int64.
        """
        if values.dtype.kind not in "fiubc" or values.dtype.itemsize > 16:
            raise ValueError(
                f"inputs[{name!r}] must be numbers, got dtype {values.dtype}; turn them into "
                "numbers, or run the network with forward=function(module, batch)"
            )
        native = values.dtype.newbyteorder("=") if values.dtype != np.longdouble else np.float64
        values = np.require(values, native, ["C", "W"])
        tensor = torch.from_numpy(values).to(device_of(self.network))
        if tensor.dtype == torch.bool:
            return tensor
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor.long()
        weights = list(self.network.parameters())
        real = [p.dtype for p in weights if p.is_floating_point()]
        if tensor.is_complex():
            pairs = [p.dtype for p in weights if p.is_complex()]
            pairs += [COMPLEX[kind] for kind in real if kind in COMPLEX]
            return tensor.to(next(iter(pairs), tensor.dtype))
        return tensor.to(next(iter(real), tensor.dtype))


def arguments(
    network: nn.Module, inputs: Mapping[str, Tensor]
) -> tuple[Sequence[Tensor], Mapping[str, Tensor]]:
    """Return the arguments of a call: by name if all are parameters of it, else in their order.

    Raises
    ------
    ValueError
        An input that is named like a parameter would be passed as another one.
    """
    try:
        call = inspect.signature(network.forward)
    except (TypeError, ValueError):  # it has none
        return list(inputs.values()), {}
    if all(name in call.parameters and call.parameters[name].kind in BY_NAME for name in inputs):
        with suppress(TypeError):  # a parameter is missing
            bound = call.bind(**inputs)
            return bound.args, bound.kwargs
    order = [p.name for p in call.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    for name, parameter in zip_longest(inputs, order[: len(inputs)]):
        if name in call.parameters and name != parameter:
            raise ValueError(
                f"inputs: {name!r} is a parameter of {type(network).__name__}.forward, but would "
                f"be passed as another one: inputs are passed by name if all of them, "
                f"{', '.join(inputs)}, are parameters and none is missing, else in order. The "
                f"parameters are {', '.join(call.parameters):.200}; rename the inputs, or pass "
                "forward=function(module, batch)"
            )
    return list(inputs.values()), {}


BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def module_job(
    network: nn.Module,
    walks: xr.Dataset | Mapping[str, Any] | None,
    *,
    layers: Layers | None,
    units: Mapping[str, NDArray[np.int64]],
    forward: Forward | None,
    inputs: Mapping[str, Any],
    dims: Dims | Mapping[str, Dims] | None,
    position_units: str | None,
    seed: int,
    burn_in: int,
    batch: int | None,
    chunk: int | None,
    dtype: str,
    check_finite: bool,
) -> Job:
    """Prepare a recording of a network's modules along behaviour."""
    if walks is None:
        raise ValueError("walks must hold the behaviour the network is run along, got None")
    if forward is not None and not callable(forward):
        raise TypeError(
            f"forward must be a function (module, batch) that runs the network, got {forward!r:.80}"
        )
    check_parameters(forward)
    if forward is None and isinstance(inputs, Mapping) and not inputs:
        raise ValueError("forward or inputs must say how the network is run, got neither")
    check_inputs(inputs)
    walks, inputs = labelled(of_columns(walks)), labelled(inputs)
    if not isinstance(walks, Mapping):
        raise TypeError(
            "walks must be a Dataset, a table or a mapping of arrays by name, got "
            f"{type(walks).__name__}"
        )
    names = map(str, walks.variables if isinstance(walks, xr.Dataset) else walks)
    given = {f"walks[{name!r}]": walks[name] for name in names}
    given |= {f"inputs[{name!r}]": values for name, values in inputs.items()}
    check_labels(given, arrays.STEPS)
    walks = in_units(arrays.as_walks(walks, "walks"), position_units)
    feed = Feed(network, forward, tuple(inputs))
    fed = with_inputs(walks, inputs)
    hooks = select(network, list(units) if layers is None else layers)
    record_only(hooks, units)
    name_axes(hooks, dims)
    n_steps = walks.sizes[schema.TIME]
    if not feed.carries_state and chunk is not None and chunk != n_steps:
        raise ValueError(
            f"chunk must be None unless forward takes a state, got {chunk}; write "
            "forward(module, batch, state), which returns the next state or None"
        )
    if chunk is None:
        chunk = min(CHUNK, n_steps) if feed.carries_state else n_steps
    if batch is None:
        batch = max(1, AT_ONCE // max(1, chunk))
    plan = Plan.of(fed, batch=batch, chunk=chunk, burn_in=burn_in)
    warn_of_statistics(network, plan)
    return Job(
        network=network,
        step=feed,
        inputs=fed,
        plan=plan,
        hooks=hooks,
        base=behaviour(walks).isel(time=slice(burn_in, None)),
        about={
            "network": facts(network),
            "layers": [hook.label for hook in hooks],
            "dims": dims,
            "forward": {} if forward is None else function_settings(forward),
            "code_sha256": code_sha256(network, *([] if forward is None else [forward])),
            "inputs": list(inputs),
            "seed": seed,
            "walks": behaviour(walks).attrs,
            "position_units": {
                axis: walks[axis].attrs["units"]
                for axis in ("x", "y")
                if axis in walks.variables and "units" in walks[axis].attrs
            },
            "walks_sha256": dataset_sha256(fed),
        },
        units=units,
        dtype=dtype,
        seed=seed,
        check_finite=check_finite,
    )


def check_parameters(forward: Forward | None) -> None:
    """Refuse a function that cannot be called as (module, batch) or (module, batch, state)."""
    if forward is None:
        return
    call = inspect.signature(forward)
    state = {"state": None} if "state" in call.parameters else {}
    try:
        call.bind(None, None, **state)
    except TypeError as error:
        raise TypeError(
            "forward must be a function (module, batch) or (module, batch, state), where the third "
            f"parameter is named state, got one of ({', '.join(call.parameters)}): {error}"
        ) from None


def warn_of_statistics(network: nn.Module, plan: Plan) -> None:
    """Warn of layers that normalise by the batch, even in eval mode, if there are several."""
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
    ]
    if names and plan.batch < plan.n_walks:
        warn(
            f"{names[0]!r} normalises by the mean of the batch, as it has no running statistics: "
            f"activations depend on which {plan.batch} walks run together; pass "
            f"batch={plan.n_walks} to run all of them at once",
        )


def facts(network: nn.Module) -> dict[str, Any]:
    """Identity of the network for provenance: its class and the sha256 of its weights."""
    return {
        "name": type(network).__name__,
        "weights_sha256": weights_sha256(network),
        **network_facts(network),
        "placeformer": version("placeformer"),
    }


def check_inputs(inputs: object) -> None:
    """Refuse inputs without names."""
    if not isinstance(inputs, Mapping):
        raise TypeError(
            f"inputs must be a mapping of arrays by name, got {type(inputs).__name__}; a network "
            'with one input takes {"x": values}'
        )
    if wrong := [name for name in inputs if not isinstance(name, str)]:
        raise TypeError(f"inputs must have names that are text, got {wrong[0]!r}")


def in_units(walks: xr.Dataset, units: str | None) -> xr.Dataset:
    """Set the units of x and y; None keeps those of the behaviour."""
    if units is None:
        return walks
    if not isinstance(units, str):
        raise TypeError(f'position_units must be text such as "m", got {units!r:.80}')
    axes = [axis for axis in ("x", "y") if axis in walks.variables]
    return walks.assign_coords({axis: walks[axis].assign_attrs(units=units) for axis in axes})


def with_inputs(walks: xr.Dataset, inputs: Mapping[str, Any]) -> xr.Dataset:
    """Join behaviour and inputs in one Dataset, whose parts are passed to `forward`."""
    twice = sorted(set(inputs) & set(walks.variables))
    if twice:
        raise ValueError(
            f"inputs must have other names than walks, got {', '.join(twice)} in both; rename one"
        )
    n_walks, n_steps = walks.sizes[schema.WALK], walks.sizes[schema.TIME]
    source = f"walks has {n_walks} walks of {n_steps} steps"
    return walks.assign(arrays.label(inputs, n_walks, n_steps, "inputs", source, known={}))


def name_axes(hooks: Sequence[LayerHook], dims: Dims | Mapping[str, Dims] | None) -> None:
    """Set the names of the axes that the user gave."""
    named = dict(dims) if isinstance(dims, Mapping) else {hook.label: dims for hook in hooks}
    for hook in hooks:
        axes = named.pop(hook.label, None)
        hook.dims = None if axes is None else as_dims(axes)
    if named:
        recorded = ", ".join(hook.label for hook in hooks)
        raise ValueError(
            f"dims must name recorded layers, {recorded}, got {', '.join(map(str, named))}; record "
            "these with layers as well"
        )


def behaviour(walks: xr.Dataset) -> xr.Dataset:
    """Part of the behaviour that is stored: variables of walk and time, and scalar attributes."""
    names = [n for n, v in walks.variables.items() if set(v.dims) <= {schema.WALK, schema.TIME}]
    attrs = {k: v for k, v in walks.attrs.items() if isinstance(v, str | int | float)}
    kept = walks[names]
    kept.attrs = attrs
    return kept
