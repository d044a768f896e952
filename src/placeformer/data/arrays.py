"""Arrays from other sources, labelled as the Dataset of the contract."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_number, has_units
from placeformer.data import schema
from placeformer.data.array_labels import (
    UNIT_ID,
    check_labels,
    labelled,
    of_columns,
    of_tensor,
    stated_units,
    unit_ids,
)
from placeformer.data.circular import (
    PERIODS,
    angle_units,
    axes_of_speed,
    check_periods,
    declare,
    names_of_speed,
)
from placeformer.data.clock import SPEED_WINDOW, Clock, check_times, gap_of, speed, warn_of_units
from placeformer.data.unit_identity import common_units
from placeformer.data.walk_lengths import inside_walks, lengths_of

STEPS = (schema.WALK, schema.TIME)

OF_UNITS = (schema.ACTIVATION, schema.UNIT, UNIT_ID, "layer", "component", "index")

SECONDS = ("s", "sec", "secs", "second", "seconds", "1", "")
"""Units that timestamps may state."""

SPEED = "speed"
SPEED_NAME = f"speed, smoothed over {SPEED_WINDOW} s"


def from_arrays(
    activation: Any,
    position: Any,
    *,
    layer: str | Sequence[str] | None = None,
    sample_rate: float | None = None,
    timestamps: Any = None,
    max_gap: float | None = None,
    min_speed: float | None = None,
    behaviour: Mapping[str, Any] | None = None,
    units: str | None = None,
    position_units: str | Mapping[str, str] | None = None,
    check_finite: bool = True,
    session: str | None = None,
    circular: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Label arrays of activations or firing rates as a Recording.

    Parameters
    ----------
    activation
        Array (walk, time, unit), or (time, unit) of one walk: NumPy, which is not copied; dask,
        which stays lazy; h5py, zarr and netCDF4, which are read (to keep them on disk pass
        ``dask.array.from_array(dataset)``); torch; a DataArray, whose axes are found by their names
        and whose labels of `unit` are kept; or a DataFrame or TsdFrame of one walk, whose columns
        are units, labelled by their names.
        Walks of unequal length are a list of arrays (time, unit), or one array in which shorter
        walks end in NaN.
    position
        A mapping such as ``{"x": ..., "y": ...}`` of arrays (walk, time) or (time,); one
        array (time, axis) or (walk, time, axis) of x, y and z; a table whose columns are axes; a
        Dataset whose variables, and coordinates x, y and z, are axes; or a list of arrays, mappings
        or tables, one for every walk. Samples whose position is NaN or masked are left out of
        maps.
    layer
        The layer, population or brain area of all units, or one for each.
    sample_rate
        Samples per second, in Hz, of a regular clock: `time` is then in seconds; otherwise it
        counts steps.
    timestamps
        Times of the samples in seconds, (time,) or (walk, time), in ascending order, instead of
        ``sample_rate``: for cameras that drop frames and clocks that jitter.
    max_gap
        Interval in seconds between two ``timestamps`` above which the tracking counts as lost
        between them; by default 5 median intervals of the walk, and at least 0.25 s.
        ``attrs["max_gap"]`` holds what was taken, unless it differs between walks.
    min_speed
        Minimum speed of a timed recording, in units of the position per second: slower samples get
        position NaN, which keeps them out of maps. The velocity is that along x, y and z or, if the
        position has none of these, along all axes that are not circular. It is smoothed with a
        triangle 0.5 s wide and goes the short way round on circular axes; the recording holds the
        speed as ``speed``.
    behaviour
        Further variables of every step, as arrays (walk, time) or (time,), or of every walk, such
        as ``"map"``, as arrays (walk,). Their names must differ from those of the position and of
        what is made here: ``time``, ``dwell`` and ``timestamp`` of timed recordings, and ``speed``
        with ``min_speed``.
    units, position_units
        Units of the activation, for example "Hz", and of the position, for example "m", or of every
        axis by its name; by default those that a DataArray states in ``attrs["units"]``, or an
        array of the package quantities has, else "1".
        A circular axis that is not x, y or z is in "rad" or "deg" where that is its period.
    check_finite
        Raise an error for activations that are NaN, infinite or masked before the end of a walk.
        Dask arrays are not read and not checked.
    session
        Name of the recording session: units are paired only with those of the same session
        (:func:`remapping`), where it is known.
    circular
        Period of every circular variable of the position or behaviour, in its units, such as
        ``{"heading": 2 * np.pi}``. The recording carries it in ``attrs["circular"]``, as JSON, for
        every analysis (:func:`rate_maps`).

    Returns
    -------
    xarray.Dataset
        A Recording (dims ``walk``, ``time``, ``unit``); `index` numbers the units of each layer,
        and `unit` labels them "layer/index", or "index" without layers. Where the activation is a
        DataArray or a table with other labels of `unit` (or `unit_id`), these are `unit`, as text,
        and `unit_id`.
        With ``sample_rate`` or ``timestamps`` it is timed: ``dwell`` (walk, time) holds the seconds
        that every sample represents, and the ``timestamps`` are a coordinate. Position,
        ``dwell`` and ``timestamp`` are NaN after the end of a shorter walk.

    Raises
    ------
    ValueError
        Shapes or lengths of walks do not fit, a name is taken, DataArrays or tables have different
        labels of `time` or `walk`, values are not finite, the sample rate is not positive, or times
        do not ascend or are missing.

    See Also
    --------
    record : Record the activations of a network.
    maps_from_arrays : Label rate maps from other sources.
    from_nwb, from_pynapple, from_ratinabox

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> place = rng.random((500, 2))
    >>> recording = pf.from_arrays(rng.random((500, 3)), place, sample_rate=50, units="Hz")
    >>> dict(recording.sizes)
    {'walk': 1, 'time': 500, 'unit': 3}
    """
    periods = check_periods(circular)
    activation, timestamps = labelled(activation), labelled(timestamps)
    position = labelled(of_columns(_of_dataset(position, schema.AXES)))
    columns = _columns(position)
    behaviour = {} if behaviour is None else _of_dataset(behaviour, _of_steps(behaviour, columns))
    behaviour = labelled(of_columns(behaviour))
    given = {f"behaviour[{name!r}]": b for name, b in behaviour.items()}
    given = {"activation": activation, **_named(position), **given, "timestamps": timestamps}
    check_labels(given, STEPS)
    ids = unit_ids(activation)
    values = _numbers("activation", _in_order(activation))
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        raise ValueError(
            f"activation must be (walk, time, unit) or (time, unit), got {tuple(values.shape)}"
            f"{'; of one unit pass values[:, None]' if values.ndim == 1 else ''}"
        )
    n_walks, n_steps, n_units = values.shape
    lengths = _walk_lengths(values)
    timed = sample_rate is not None or timestamps is not None
    _check_names(columns, behaviour, timed, min_speed is not None)
    _check_not_transposed(values.shape, columns)
    own = [len(walk) for walk in activation] if _is_ragged(activation) else lengths.tolist()
    _check_lengths(own, {f"position[{name!r}]": axis for name, axis in columns.items()})
    _check_lengths(own, {f"behaviour[{name!r}]": b for name, b in behaviour.items()})
    _check_lengths(own, {"timestamps": timestamps})
    inside = inside_walks(lengths, n_steps)
    source = f"activation has {n_walks} walks of {n_steps} steps"
    places = label(columns, n_walks, n_steps, "position", source)
    for name, place in places.items():
        place.data = _numbers(f"position[{name!r}]", place.data)
    places = {name: _until_end(place, inside) for name, place in places.items()}
    others = label(behaviour, n_walks, n_steps, "behaviour", source)
    times, attrs = _timing(inside, sample_rate, timestamps, max_gap)
    by_axis = _by_axis(position_units, places)
    for name, place in places.items():
        stated = stated_units("position_units", by_axis.get(name), columns[name])
        place.attrs["units"] = _units_of_axis(name, stated, periods)
    running = names_of_speed(places, periods)
    if min_speed is not None:
        common_units(places, running, "min_speed")
        others[SPEED] = _speed(places, times, attrs, max_gap, min_speed, periods)
        axes = {name: axis.values for name, axis in places.items()}
        moving = of_moving(axes, others[SPEED].values, min_speed)
        places = {k: xr.Variable(STEPS, moving[k], places[k].attrs) for k in places}
    if SPEED in others:
        about = {"units": f"{places[running[0]].attrs['units']}/s", "long_name": SPEED_NAME}
        others[SPEED].attrs = about | others[SPEED].attrs
    entry = schema.RECORDING[schema.ACTIVATION]
    about = {**entry.attrs, "units": stated_units("units", units, activation) or entry.units}
    recording = xr.Dataset(
        {schema.ACTIVATION: xr.Variable(entry.dims, values, about), **others},
        coords={
            **places,
            **unit_labels(layer, n_units, ids),
            schema.TIME: clock(n_steps, attrs.get("sample_rate")),
        },
        attrs=attrs,
    )
    recording = as_coords(recording.assign(times))
    recording.attrs[schema.PROVENANCE] = schema.provenance(
        None, "from_arrays", **({"session": session} if session else {})
    )
    recording = declare(recording, periods)
    schema.check_recording(recording, need=tuple(columns))
    if check_finite and isinstance(values, np.ndarray):
        _check_finite(recording[schema.ACTIVATION], values, inside)
    return recording


def _of_dataset(values: Any, coords: Iterable[Any]) -> Any:
    """Variables of a Dataset and some of its coordinates; anything else is returned unchanged."""
    if not isinstance(values, xr.Dataset):
        return values
    names = dict.fromkeys([*values.data_vars, *coords])
    return {name: values[name] for name in names if name in values.variables}


def _of_steps(behaviour: Any, position: Mapping[str, Any]) -> list[Any]:
    """Coordinates of a Dataset that vary over walks or steps, without those of the position."""
    coords = behaviour.coords.items() if isinstance(behaviour, xr.Dataset) else ()
    return [
        name
        for name, values in coords
        if values.dims and set(values.dims) <= set(STEPS) and name not in (*STEPS, *position)
    ]


def _by_axis(position_units: Any, axes: Iterable[str]) -> Mapping[str, Any]:
    """Units given for each axis by name, or for all of them."""
    if not isinstance(position_units, Mapping):
        return dict.fromkeys(axes, position_units)
    if unknown := [name for name in position_units if name not in axes]:
        raise ValueError(
            f"position_units must name axes of the position, {', '.join(axes)}, got {unknown[0]!r}"
        )
    return position_units


def _units_of_axis(name: str, stated: str | None, periods: Mapping[str, float]) -> str:
    """Units of an axis of position: those stated, if any, or those of an angle."""
    units = stated or schema.RECORDING["x"].units
    angle = name in periods and name not in schema.AXES and stated not in PERIODS
    return angle_units(periods[name], units) if angle else units


def _numbers(argument: str, values: Any) -> Any:
    """Values as real numbers; objects are converted, and None becomes NaN.

    Raises
    ------
    ValueError
        They are not real numbers, but text, dates or complex numbers, for example.
    """
    kind = values.dtype.kind
    try:
        values = values.astype(float) if kind == "O" else values
    except (TypeError, ValueError):
        kind = "none"
    if kind not in "biufO":
        raise ValueError(
            f"{argument} must hold real numbers, got dtype {values.dtype}; turn it into numbers, "
            "times into seconds with (times - times[0]) / np.timedelta64(1, 's')"
        )
    return values


def _walk_lengths(values: Any) -> NDArray[np.intp]:
    """Steps of every walk (walk,); dask arrays are not read, and their walks have equal length."""
    if not isinstance(values, np.ndarray):
        return np.full(values.shape[0], values.shape[1])
    lengths = lengths_of(values)
    if values.size and not lengths.all():
        raise ValueError(
            "activation must hold values in every walk, but all are NaN in walk "
            f"{int(np.argmin(lengths))} of {len(lengths)}; leave out such walks"
        )
    return lengths


def _check_lengths(lengths: list[int], arguments: Mapping[str, Any]) -> None:
    """Refuse lists of walks of unequal length whose lengths are not those of the activation."""
    for argument, values in arguments.items():
        if _is_ragged(values) and [len(walk) for walk in values] != lengths:
            raise ValueError(
                f"{argument} must be as long as activation in every walk, got lengths "
                f"{[len(walk) for walk in values][:5]} and {lengths[:5]}"
            )


def _until_end(place: xr.Variable, inside: NDArray[np.bool_]) -> xr.Variable:
    """Position with NaN after the end of every walk."""
    if inside.all() or set(place.dims) != set(STEPS):
        return place
    return place.transpose(*STEPS).where(xr.Variable(STEPS, inside))


def _check_finite(units: xr.DataArray, values: NDArray[Any], inside: NDArray[np.bool_]) -> None:
    """Refuse activations (walk, time, unit) that are not finite within their walk."""
    wrong = ~np.isfinite(values)
    wrong &= inside[..., None]
    bad = wrong.sum((0, 1))
    if bad.min() > 0 and wrong.all(axis=2).any():
        walk, step = np.argwhere(wrong.all(axis=2))[0]
        raise ValueError(
            "activation must be finite up to the end of a walk, but all units are NaN at step "
            f"{step} of walk {walk}, which continues after it. Cut such a walk into two and pass a "
            "list of arrays, one for every walk; or drop these steps and pass the timestamps of "
            "the rest; or pass check_finite=False, and skipna=True to rate_maps"
        )
    schema.check_finite(units, bad)


def _timing(
    inside: NDArray[np.bool_], sample_rate: float | None, timestamps: Any, max_gap: float | None
) -> tuple[dict[str, xr.Variable], dict[str, float]]:
    """Variables and attributes that say when the samples (walk, time) were taken."""
    shape = inside.shape
    entry = schema.RECORDING[schema.DWELL]
    if timestamps is None:
        if max_gap is not None:
            raise ValueError("max_gap needs timestamps, got none; a regular clock has no gaps")
        if sample_rate is None:
            return {}, {}
        check_positive("sample_rate", sample_rate)
        dwell = np.where(inside, 1 / sample_rate, np.nan)
        return {schema.DWELL: xr.Variable(STEPS, dwell, entry.attrs)}, {"sample_rate": sample_rate}
    if sample_rate is not None:
        raise ValueError(
            f"sample_rate must be None if timestamps are given, got {sample_rate!r}: it is "
            "computed from them"
        )
    units = stated_units("timestamps", None, timestamps)
    if units is not None and units.split(" since ")[0] not in SECONDS:
        raise ValueError(
            f"timestamps must be in seconds, but state the units {units!r}; convert them, or "
            "correct the attribute 'units'"
        )
    if isinstance(timestamps, xr.DataArray):
        timestamps = timestamps.transpose(*STEPS, missing_dims="ignore")
    times = _numbers("timestamps", as_array(timestamps)).astype(float)
    times = times[None] if times.ndim == 1 else times
    if times.shape != shape:
        raise ValueError(
            f"timestamps must be (time,) or (walk, time) as the activation, {shape}, got "
            f"{times.shape}"
        )
    times = np.where(inside, times, np.nan)
    missing = np.argwhere(inside & ~np.isfinite(times))
    if len(missing):
        raise ValueError(
            f"timestamps must be finite up to the end of every walk, got {len(missing)} that are "
            "NaN or infinite, the first at step {1} of walk {0}; drop these samples".format(
                *missing[0]
            )
        )
    dwell, steps, gaps = np.full(shape, np.nan), [], []
    for walk, row in enumerate(times):
        known = np.isfinite(row)
        check_times(row[: known.sum()], f"timestamps of walk {walk}")  # NaN only at the end
        gap = gap_of(row[known], max_gap, f"timestamps of walk {walk}")
        dwell[walk, known] = Clock.of(row[known], gap).dwell
        steps.append(np.diff(row[known])[np.diff(row[known]) <= gap])
        gaps.append(gap)
    warn_of_units(times[0, inside[0]], max_gap, "timestamps")
    about = {"units": "s", "long_name": "time on the session's clock"}
    variables = {
        schema.DWELL: xr.Variable(STEPS, dwell, entry.attrs),
        schema.TIMESTAMP: xr.Variable(STEPS, times, about),
    }
    attrs = {"sample_rate": float(1 / np.mean(np.concatenate(steps)))}
    return variables, attrs | ({"max_gap": gaps[0]} if len(set(gaps)) == 1 else {})


def _speed(
    places: Mapping[str, xr.Variable],
    times: Mapping[str, xr.Variable],
    attrs: Mapping[str, float],
    max_gap: float | None,
    min_speed: float,
    periods: Mapping[str, float],
) -> xr.Variable:
    """Speed (walk, time) of positions."""
    check_positive("min_speed", min_speed)
    if "sample_rate" not in attrs:
        raise ValueError("min_speed needs a timed recording: pass sample_rate or timestamps")
    named = {k: np.asarray(axis.transpose(*STEPS).values, float) for k, axis in places.items()}
    axes = axes_of_speed(named, {k: v for k, v in periods.items() if k in named})
    regular = np.arange(axes[0].shape[1]) / attrs["sample_rate"]
    moving = np.full(axes[0].shape, np.nan)
    for walk, row in enumerate(moving):
        stamps = times[schema.TIMESTAMP].values[walk] if schema.TIMESTAMP in times else regular
        known = np.isfinite(stamps)
        gap = gap_of(stamps[known], max_gap, f"walk {walk}")
        row[known] = speed(stamps[known], [axis[walk, known] for axis in axes], gap)
    return xr.Variable(STEPS, moving)


def of_moving(
    axes: Mapping[str, NDArray[Any]], moving: NDArray[Any], min_speed: float
) -> dict[str, NDArray[Any]]:
    """Positions with NaN where the speed is below `min_speed` or unknown."""
    return {name: np.where(moving >= min_speed, axis, np.nan) for name, axis in axes.items()}


def check_positive(name: str, value: float | None) -> None:
    """Refuse an option that is neither ``None`` nor a positive number."""
    if value is None:
        return
    check_number(name, value)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(
            f"{name} must be a positive number, got {value!r}; pass None to leave it out"
        )


def as_array(values: Any) -> Any:
    """Values as NumPy or dask: files are read, masked values become NaN, walks are padded."""
    if hasattr(values, "dask"):
        return values
    if hasattr(values, "detach"):  # a tensor of torch
        return of_tensor(values)
    masked = isinstance(values, list | tuple) and any(map(np.ma.isMaskedArray, values))
    if masked or _is_ragged(values):
        return padded([as_array(walk) for walk in values])
    if hasattr(values, "chunks") or hasattr(values, "chunking"):  # h5py, zarr; netCDF4
        values = values[...]
    if np.ma.isMaskedArray(values):
        number = values.dtype.kind in "biuf"
        kind = np.result_type(values.dtype, np.float32) if number else object
        return np.ma.filled(values.astype(kind), np.nan)
    return np.asarray(values)


def padded(walks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack arrays (time, ...) as one (walk, time, ...), padding shorter ones with NaN."""
    if len(walks) == 1:
        return walks[0][None]
    if len({walk.shape[1:] for walk in walks}) > 1:
        raise ValueError(
            "arrays of walks must have the same shape except for their length, got "
            f"{', '.join(str(walk.shape) for walk in walks[:5])}"
        )
    shape = (len(walks), max(map(len, walks)), *walks[0].shape[1:])
    kind = np.result_type(*walks)
    dates = kind.kind in "mM"
    out = np.full(shape, *(("NaT", kind) if dates else (np.nan, np.result_type(np.float32, kind))))
    for row, walk in zip(out, walks, strict=True):
        row[: len(walk)] = walk
    return out


def _is_ragged(values: Any) -> bool:
    """Whether this is a list of walks (or of other arrays) of unequal length."""
    if not isinstance(values, list | tuple):
        return False
    sized = all(hasattr(v, "__len__") and not isinstance(v, str | Mapping) for v in values)
    return sized and len({len(v) for v in values}) > 1


def _in_order(activation: Any) -> Any:
    """Activations (walk, time, unit) or (time, unit) as an array."""
    if isinstance(activation, list | tuple) and any(
        isinstance(walk, xr.DataArray) for walk in activation
    ):
        activation = [_in_order(walk) for walk in activation]
    if _is_ragged(activation) and any(np.ndim(walk) != 2 for walk in activation):
        raise ValueError(
            "activation, a list of walks, must hold arrays (time, unit), got shapes "
            f"{[np.shape(walk) for walk in activation][:3]}; of one unit pass values[:, None]"
        )
    if isinstance(activation, xr.DataArray):
        dims = activation.dims
        if not {schema.TIME, schema.UNIT} <= set(dims) <= set(schema.RECORDING_DIMS):
            raise ValueError(
                "activation, a DataArray, must have dims ('time', 'unit') or ('walk', 'time', "
                f"'unit'), got {dims}; rename them with activation.rename(old='time')"
            )
        activation = activation.transpose(*schema.RECORDING_DIMS, missing_dims="ignore").data
    return as_array(activation)


def _columns(position: Any) -> Mapping[str, Any]:
    """Position as a mapping of its axes."""
    if isinstance(position, Mapping):
        if not position:
            raise ValueError(
                'position must hold at least one axis, such as {"x": ...}, got none; of units '
                "without a position pass one that is constant"
            )
        return position
    if isinstance(position, list | tuple) and (
        _is_ragged(position) or any(isinstance(walk, Mapping | xr.DataArray) for walk in position)
    ):
        walks = [_columns(walk) for walk in position]
        if len({tuple(walk) for walk in walks}) > 1:
            raise ValueError(
                "position, a list of walks, must have the same axes in each, got "
                f"{[list(walk) for walk in walks][:3]}"
            )
        return {name: [_unless_labelled(walk[name]) for walk in walks] for name in walks[0]}
    if isinstance(position, xr.DataArray):
        return _named_columns(position)
    values = as_array(position)
    n = values.shape[-1] if values.ndim in (2, 3) else 0
    if not 1 <= n <= len(schema.AXES):
        transposed = values.ndim == 2 and values.shape[0] <= len(schema.AXES)
        advice = "transpose it with position.T" if transposed else 'or pass {"x": ..., "y": ...}'
        raise ValueError(
            f"position must be a mapping of arrays, or an array (time, axis) or (walk, time, axis) "
            f"of at most {len(schema.AXES)} axes, got shape {tuple(values.shape)}; {advice}"
        )
    source = position if has_units(position) else values
    return {name: source[..., k] for k, name in enumerate(schema.AXES[:n])}


def _unless_labelled(values: Any) -> Any:
    """Values as an array, unless they are a DataArray, which may state its units."""
    return values if isinstance(values, xr.DataArray) else as_array(values)


def _named_columns(position: xr.DataArray) -> Mapping[str, Any]:
    """Axes of a DataArray: those of its one dimension that is not walk or time, by its labels."""
    others = [d for d in position.dims if d not in STEPS]
    if schema.TIME not in position.dims or len(others) != 1:
        raise ValueError(
            "position, a DataArray, must have the dimension 'time' and one of axes, got "
            f"{position.dims}; if there are several keypoints or animals, select one with "
            "position.sel"
        )
    (axis,) = others
    labels = position[axis].values if axis in position.coords else np.empty(0)
    names = [str(v) for v in labels] if labels.dtype.kind in "UOT" else list(schema.AXES)
    n = position.sizes[axis]
    if n > len(names):
        raise ValueError(
            f"position must have at most {len(schema.AXES)} axes without names, got {n}"
        )
    return {
        name: position.isel({axis: k}, drop=True).reset_coords(drop=True)
        for k, name in enumerate(names[:n])
    }


def _check_names(
    position: Mapping[str, Any], behaviour: Mapping[str, Any], timed: bool, with_speed: bool
) -> None:
    """Refuse names of variables that :func:`from_arrays` makes, and names that occur twice."""
    made = dict.fromkeys(OF_UNITS, "the activation and its labels have this name")
    made[schema.TIME] = "the coordinate of the steps has this name: pass times as timestamps"
    if timed:
        both = "sample_rate or timestamps make it: pass the times of the samples as timestamps"
        made |= dict.fromkeys((schema.DWELL, schema.TIMESTAMP), both)
    if with_speed:
        made[SPEED] = (
            "min_speed computes it from the position: leave min_speed out and use "
            "recording.where(recording.speed >= least)"
        )
    for argument, names in (("behaviour", behaviour), ("position", position)):
        for name in names:
            if name in made:
                raise ValueError(
                    f"{argument} must not use the name {name!r}, as {made[name]}; or rename it"
                )
            made[name] = f"{argument} has a variable of this name"


def _named(position: Any) -> dict[str, Any]:
    """The arrays of a position, or lists with one for every walk, by their names in errors."""
    walks = position if isinstance(position, list | tuple) else [position]
    if not all(isinstance(walk, Mapping) for walk in walks):
        return {"position": position}
    names = dict.fromkeys(name for walk in walks for name in walk)
    if walks is not position:
        return {f"position[{name!r}]": position[name] for name in names}
    return {f"position[{name!r}]": [walk.get(name) for walk in walks] for name in names}


def _check_not_transposed(shape: tuple[int, ...], position: Mapping[str, Any]) -> None:
    """Refuse activations (walk, unit, time), which the lengths of the position reveal."""
    _, n_steps, n_units = shape
    plain = (as_array(a) for a in position.values() if not isinstance(a, xr.DataArray))
    lengths = {axis.shape[-1] for axis in plain if axis.ndim}
    if n_steps not in lengths and lengths == {n_units}:
        raise ValueError(
            f"activation must be (time, unit) or (walk, time, unit), but its last axis has "
            f"{n_units} entries, as many as the position has samples: it looks like (unit, time); "
            "transpose it with np.swapaxes(activation, -1, -2)"
        )


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
        for name, values in behaviour.items():
            if _is_ragged(values):
                raise ValueError(
                    f"{argument}[{name!r}] must hold walks of one length, got lengths "
                    f"{[len(walk) for walk in values][:5]}; pass the walks of each length "
                    "separately"
                )
        check_labels({f"{argument}[{k!r}]": b for k, b in behaviour.items()}, STEPS)
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
    arrays: Mapping[str, Any],
    n_walks: int,
    n_steps: int,
    argument: str,
    source: str,
    known: Mapping[str, schema.Entry] = schema.RECORDING,
) -> dict[str, xr.Variable]:
    """Arrays as variables over walk and time and, where they have more axes, further dimensions.

    `argument` is the name of the caller's argument, `source` describes the origin of the lengths,
    and `known` holds the names that have a defined meaning, with their dimensions.
    """
    sizes = {schema.WALK: n_walks, schema.TIME: n_steps}
    for name in arrays:
        if name in OF_UNITS and name in known:
            raise ValueError(
                f"{argument} must not use the name {name!r}, which the activation and its labels "
                "have; rename it"
            )
    return {name: _variable(name, arrays[name], sizes, argument, source, known) for name in arrays}


def clock(n_steps: int, sample_rate: float | None) -> xr.Variable:
    """Time of every sample: in seconds where the sample rate is known, else in steps."""
    if sample_rate is None:
        return schema.variable(schema.TIME, np.arange(n_steps), "time in steps")
    return schema.variable(schema.TIME, np.arange(n_steps) / sample_rate, "time", units="s")


def as_coords(dataset: xr.Dataset) -> xr.Dataset:
    """Turn the variables for position, map, window and timestamp into coordinates."""
    names = {"x", "y", schema.MAP, "familiar", "window", schema.TIMESTAMP} & set(dataset.data_vars)
    return dataset.set_coords(names)


def unit_labels(
    layer: str | Sequence[str] | None, n_units: int, ids: NDArray[Any] | None = None
) -> dict[str, xr.Variable]:
    """`unit`, `layer`, `component` (its first part), `index`; `unit` and `index` without layers.

    Ids that differ from these labels take the place of `unit`, and are also `unit_id`.
    """
    labels = _layer_labels(layer, n_units)
    if ids is None or np.array_equal(ids.astype(str), labels[schema.UNIT].values):
        return labels
    return {**labels, schema.UNIT: schema.unit_labels(ids), UNIT_ID: xr.Variable(schema.UNIT, ids)}


def _layer_labels(layer: str | Sequence[str] | None, n_units: int) -> dict[str, xr.Variable]:
    if layer is None:
        index = np.arange(n_units)
        return {schema.UNIT: schema.unit_labels(index), "index": _unit("index", index)}
    several = list(layer) if hasattr(layer, "__iter__") else []
    names = np.asarray([layer] * n_units if isinstance(layer, str) else several, dtype=str)
    if names.shape != (n_units,):
        raise ValueError(
            f"layer must be one name, or name each of {n_units} units, got {reprlib.repr(layer)}"
        )
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
    name: str,
    values: Any,
    sizes: Mapping[str, int],
    argument: str,
    source: str,
    known: Mapping[str, schema.Entry],
) -> xr.Variable:
    """One array with its dimensions, inferred from its shape."""
    attrs = known[name].attrs if name in known else {"long_name": name}
    if _of_walks(values, sizes):
        return xr.Variable(values.dims, values.data, {**attrs, **values.attrs})
    if isinstance(values, xr.DataArray):
        values = values.transpose(*STEPS, ..., missing_dims="ignore")
        attrs, values = {**attrs, **values.attrs}, values.data
    values = as_array(values)
    shape, dims = values.shape, _dims(name, values.shape, sizes, known)
    if dims is None and sizes[schema.WALK] == 1 and values.ndim:
        values = values[None]
        dims = _dims(name, values.shape, sizes, known)
    if dims is None:
        if name in schema.RECORDING and schema.RECORDING[name].dims == (schema.WALK,):
            shapes = "(walk,), one value for every walk"
            advice = "Where it changes within a walk, cut the walk there and pass a list of arrays"
        else:
            shapes = "(walk, time), (time,) of one walk, or (walk,), as long as the rest"
            advice = (
                "To pass an array of walks and other axes, name its axes: "
                'xr.DataArray(values, dims=("walk", "axis"))'
            )
        raise ValueError(f"{argument}[{name!r}] must be {shapes}, got {shape}; {source}. {advice}")
    return xr.Variable(dims, values, attrs)


def _of_walks(values: Any, sizes: Mapping[str, int]) -> bool:
    """Whether an array has named axes: walk first, then others, but not time."""
    dims = values.dims if isinstance(values, xr.DataArray) else ()
    named = len(dims) > 1 and dims[0] == schema.WALK and schema.TIME not in dims
    return named and values.sizes[schema.WALK] == sizes[schema.WALK]


def _dims(
    name: str,
    shape: tuple[int, ...],
    sizes: Mapping[str, int],
    known: Mapping[str, schema.Entry],
) -> tuple[str, ...] | None:
    """Dimensions of an array of this shape; None where it does not fit."""
    if name in known:
        dims = known[name].dims
        return dims if shape == tuple(sizes.get(d, -1) for d in dims) else None
    if shape[:2] == tuple(sizes.values()):
        return (*STEPS, *(f"{name}_{axis}" for axis in range(len(shape) - 2)))
    return (schema.WALK,) if shape == (sizes[schema.WALK],) else None
