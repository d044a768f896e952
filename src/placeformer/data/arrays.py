"""Arrays from other sources, labelled as the Dataset of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from placeformer.data import schema

STEPS = (schema.WALK, schema.TIME)


def from_arrays(
    activation: Any,
    position: Mapping[str, Any],
    *,
    layer: str | Sequence[str] | None = None,
    sample_rate: float | None = None,
    behaviour: Mapping[str, Any] | None = None,
    units: str = schema.RECORDING[schema.ACTIVATION].units,
    position_units: str = schema.RECORDING["x"].units,
    check_finite: bool = True,
) -> xr.Dataset:
    """Label arrays of activations or firing rates as a Recording.

    Parameters
    ----------
    activation
        Array (walk, time, unit), or (time, unit) of one walk: NumPy, or dask, which stays lazy. It
        is not copied.
    position
        Position: a mapping such as ``{"x": ..., "y": ...}`` of arrays (walk, time) or (time,).
        Samples whose position is NaN are left out of maps.
    layer
        The layer, population or brain area of all units, or one for each.
    sample_rate
        Samples per second, in Hz: `time` is then in seconds; otherwise it counts steps.
    behaviour
        Further variables of every step, as arrays (walk, time) or (time,), or of every walk, such
        as ``"map"``, as arrays (walk,).
    units, position_units
        Units of the activation, for example "Hz", and of the position, for example "m".
    check_finite
        Raise an error for activations that are NaN or infinite. Dask arrays are not read and not
        checked.

    Returns
    -------
    xarray.Dataset
        A Recording (dims ``walk``, ``time``, ``unit``); `index` numbers the units of each layer,
        and `unit` labels them "layer/index", or "index" without layers.

    Raises
    ------
    ValueError
        Shapes do not fit, values are not finite, or the sample rate is not positive.

    See Also
    --------
    record : Record the activations of a network.
    from_nwb, from_pynapple, from_ratinabox

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> place = {"x": rng.random(500), "y": rng.random(500)}
    >>> recording = pf.from_arrays(rng.random((500, 3)), place, sample_rate=50, units="Hz")
    >>> dict(recording.sizes)
    {'walk': 1, 'time': 500, 'unit': 3}
    """
    values = activation if hasattr(activation, "chunks") else np.asarray(activation)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        raise ValueError(
            f"activation must be (walk, time, unit) or (time, unit), got {tuple(values.shape)}"
        )
    n_walks, n_steps, n_units = values.shape
    source = f"activation has {n_walks} walks of {n_steps} steps"
    places = label(position, n_walks, n_steps, "position", source)
    others = label(behaviour or {}, n_walks, n_steps, "behaviour", source)
    for place in places.values():
        place.attrs["units"] = position_units
    entry = schema.RECORDING[schema.ACTIVATION]
    about = {**entry.attrs, "units": units}
    recording = xr.Dataset(
        {schema.ACTIVATION: xr.Variable(entry.dims, values, about), **others},
        coords={**places, **unit_labels(layer, n_units), schema.TIME: clock(n_steps, sample_rate)},
        attrs={} if sample_rate is None else {"sample_rate": sample_rate},
    )
    recording = as_coords(recording)
    recording.attrs[schema.PROVENANCE] = schema.provenance(None, "from_arrays")
    schema.check_recording(recording, need=tuple(position))
    if check_finite and isinstance(values, np.ndarray):
        schema.check_finite(recording[schema.ACTIVATION], (~np.isfinite(values)).sum((0, 1)))
    return recording


def as_walks(behaviour: xr.Dataset | Mapping[str, Any], argument: str) -> xr.Dataset:
    """Behaviour as a Dataset with walk and time as its first dimensions.

    Parameters
    ----------
    behaviour
        A Dataset (walk, time) or (time,), or a mapping of arrays of these shapes.
    argument
        Name of the caller's argument, for errors.
    """
    if not isinstance(behaviour, xr.Dataset):
        if not behaviour:
            raise ValueError(f'{argument} must hold arrays such as "x" and "y", got none')
        name, first = next(iter(behaviour.items()))
        n_walks, n_steps = (1, *np.shape(first))[-2:]
        source = f"{argument}[{name!r}] has {n_walks} walks of {n_steps} steps"
        behaviour = xr.Dataset(label(behaviour, n_walks, n_steps, argument, source))
    if schema.TIME not in behaviour.dims:
        raise ValueError(f"{argument} must have dimension 'time', got {dict(behaviour.sizes)}")
    if schema.WALK not in behaviour.dims:
        coords = set(behaviour.coords) - {schema.TIME}
        behaviour = behaviour.reset_coords(coords).expand_dims(schema.WALK).set_coords(coords)
    if schema.TIME not in behaviour.variables:
        behaviour = behaviour.assign_coords(time=clock(behaviour.sizes[schema.TIME], None))
    return as_coords(behaviour).transpose(*STEPS, ...)


def label(
    arrays: Mapping[str, Any], n_walks: int, n_steps: int, argument: str, source: str
) -> dict[str, xr.Variable]:
    """Arrays as variables over walk and time and, where they have more axes, further dimensions.

    `argument` is the name of the caller's argument, `source` describes the origin of the lengths.
    """
    sizes = {schema.WALK: n_walks, schema.TIME: n_steps}
    return {name: _variable(name, arrays[name], sizes, argument, source) for name in arrays}


def clock(n_steps: int, sample_rate: float | None) -> xr.Variable:
    """Time of every sample: in seconds where the sample rate is known, else in steps."""
    if sample_rate is None:
        return schema.variable(schema.TIME, np.arange(n_steps), "time in steps")
    if not (np.isfinite(sample_rate) and sample_rate > 0):
        raise ValueError(f"sample_rate must be a positive number of Hz, got {sample_rate!r}")
    return schema.variable(schema.TIME, np.arange(n_steps) / sample_rate, "time", units="s")


def as_coords(dataset: xr.Dataset) -> xr.Dataset:
    """Turn the variables for position, map and window into coordinates."""
    names = {"x", "y", schema.MAP, "familiar", "window"} & set(dataset.data_vars)
    return dataset.set_coords(names)


def unit_labels(layer: str | Sequence[str] | None, n_units: int) -> dict[str, xr.Variable]:
    """`unit`, `layer`, `component` (its first part), `index`; `unit` and `index` without layers."""
    if layer is None:
        index = np.arange(n_units)
        return {schema.UNIT: schema.unit_labels(index), "index": _unit("index", index)}
    names = np.asarray([layer] * n_units if isinstance(layer, str) else list(layer), dtype=str)
    if names.shape != (n_units,):
        raise ValueError(f"layer must name each of {n_units} units, got {names.shape} names")
    index = np.empty(n_units, dtype=np.int64)
    for name in np.unique(names):
        index[names == name] = np.arange(np.sum(names == name))
    component = np.array([name.split(".")[0] for name in names], dtype=str)
    values = {"layer": names, "component": component, "index": index}
    coords = {name: _unit(name, value) for name, value in values.items()}
    return {schema.UNIT: schema.layer_labels(names, index), **coords}


def _unit(name: str, values: np.ndarray) -> xr.Variable:
    return xr.Variable(schema.UNIT, values, schema.RECORDING[name].attrs)


def _variable(
    name: str, values: Any, sizes: Mapping[str, int], argument: str, source: str
) -> xr.Variable:
    """One array with its dimensions, inferred from its shape."""
    attrs = schema.RECORDING[name].attrs if name in schema.RECORDING else {"long_name": name}
    if _of_walks(values, sizes):
        return xr.Variable(values.dims, values.data, {**attrs, **values.attrs})
    if isinstance(values, xr.DataArray):
        values = values.transpose(*STEPS, ..., missing_dims="ignore")
        attrs, values = {**attrs, **values.attrs}, values.data
    values = values if hasattr(values, "chunks") else np.asarray(values)
    shape, dims = values.shape, _dims(name, values.shape, sizes)
    if dims is None and sizes[schema.WALK] == 1 and values.ndim:
        values = values[None]
        dims = _dims(name, values.shape, sizes)
    if dims is None:
        raise ValueError(
            f"{argument}[{name!r}] must be (walk, time), (time,) of one walk, or (walk,), as long "
            f"as the rest, got {shape}; {source}. To pass an array of walks and other axes, name "
            'its axes: xr.DataArray(values, dims=("walk", "axis"))'
        )
    return xr.Variable(dims, values, attrs)


def _of_walks(values: Any, sizes: Mapping[str, int]) -> bool:
    """Whether an array has named axes: walk first, then others, but not time."""
    dims = values.dims if isinstance(values, xr.DataArray) else ()
    named = len(dims) > 1 and dims[0] == schema.WALK and schema.TIME not in dims
    return named and values.sizes[schema.WALK] == sizes[schema.WALK]


def _dims(name: str, shape: tuple[int, ...], sizes: Mapping[str, int]) -> tuple[str, ...] | None:
    """Dimensions of an array of this shape; None where it does not fit."""
    if name in schema.RECORDING:
        dims = schema.RECORDING[name].dims
        return dims if shape == tuple(sizes.get(d, -1) for d in dims) else None
    if shape[:2] == tuple(sizes.values()):
        return (*STEPS, *(f"{name}_{axis}" for axis in range(len(shape) - 2)))
    return (schema.WALK,) if shape == (sizes[schema.WALK],) else None
