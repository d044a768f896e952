"""Movement of an animal: its velocity, speed and direction of running."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.arrays import SPEED, check_positive
from placeformer.data.circular import circular_of, declare, unwrapped
from placeformer.data.clock import SPEED_WINDOW, velocity
from placeformer.data.dwell import gap_in, sample_times
from placeformer.data.unit_identity import common_units
from placeformer.spatial.binning import Circular, axis_name, samples

STEP_WINDOW = 2.0
"""Width in steps of the triangle that smooths the velocity of a recording without a clock."""

DIRECTION = "direction"

DIRECTIONS = ("forward", "backward")
"""Names of the directions of running: towards higher and lower values of an axis."""


def running_velocity(
    recording: xr.Dataset, by: Sequence[str], *, circular: Circular = None
) -> tuple[NDArray[np.float64], str]:
    """Velocity (axis, walk, time) along some axes, and its units.

    The units are those of the position, per second of a timed recording, else per step. Values are
    NaN where the position is unknown. On circular axes the animal moves the shorter way round. As
    in the loaders, the velocity is smoothed with a triangle of 0.5 s, or of two steps.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    schema.check_recording(recording, need=names)
    periods = circular_of(declare(recording, circular))
    axes = [np.array(samples(recording, name), float) for name in names]
    axes = [
        unwrapped(axis, periods[name]) if name in periods else axis
        for name, axis in zip(names, axes, strict=True)
    ]
    units = common_units(recording, names, "a speed")
    found = np.full((len(names), *axes[0].shape), np.nan)
    times, timed = sample_times(recording)
    for walk, stamps in enumerate(times):
        known = np.isfinite(stamps)
        if known.sum() < 2:
            continue
        gap = gap_in(recording, stamps[known])
        window = SPEED_WINDOW if timed else STEP_WINDOW
        here = [axis[walk, known] for axis in axes]
        found[:, walk, known] = velocity(stamps[known], here, gap, window)
    return found, f"{units}/s" if timed else units


def running_speed(
    recording: xr.Dataset, by: Sequence[str] | None = None, *, circular: Circular = None
) -> xr.DataArray:
    """Speed (walk, time) of an animal: the recorded speed, or the speed of its position.

    Parameters
    ----------
    recording
        Recording.
    by
        Axes of the position. By default the variable ``speed`` is used where the recording has it,
        else those of the axes x, y and z that it has.
    circular
        Period of every circular axis, as in :func:`rate_maps`.
    """
    if by is None and SPEED in recording.variables:
        schema.check_recording(recording, need=(SPEED,))
        values = np.asarray(samples(recording, SPEED), float)
        return xr.DataArray(values, dims=schema.STEP_DIMS, attrs=recording[SPEED].attrs)
    names = by or [name for name in schema.AXES if name in recording.variables]
    if not names:
        raise ValueError(
            f"recording must have {SPEED!r} or a position x, y, z, got "
            f"{sorted(map(str, recording.variables))}; name the axes of the position with by"
        )
    components, units = running_velocity(recording, names, circular=circular)
    about = {"units": units, "long_name": "speed"}
    return xr.DataArray(np.sqrt((components**2).sum(axis=0)), dims=schema.STEP_DIMS, attrs=about)


def direction_numbers(
    recording: xr.Dataset, name: str, min_speed: float | None, circular: Circular = None
) -> NDArray[np.int8]:
    """Direction of running (walk, time): 0 towards higher values of an axis, 1 the other way.

    -1 where the animal is slower than the minimum speed, at rest, or its position is unknown.
    """
    check_positive("min_speed", min_speed)
    (moving,), _ = running_velocity(recording, (name,), circular=circular)
    least = 0.0 if min_speed is None else min_speed
    with np.errstate(invalid="ignore"):
        fast = (np.abs(moving) >= least) & (moving != 0)
        return np.where(fast, (moving < 0).astype(np.int8), np.int8(-1))


def running_direction(
    recording: xr.Dataset,
    *,
    by: str = "x",
    min_speed: float | None = None,
    circular: Circular = None,
) -> xr.DataArray:
    """Direction of running along one axis, at every sample.

    Parameters
    ----------
    recording
        Recording with a position along a track.
    by
        The axis.
    min_speed
        Minimum speed along the axis, in its units per second (per step without a clock). Recordings
        of animals need it, because tracking noise makes a resting animal appear to move.
    circular
        Period of a circular axis, as in :func:`rate_maps`.

    Returns
    -------
    xarray.DataArray
        (walk, time): "forward" (towards higher values of the axis), "backward", and "" where the
        animal is slower or at rest, or its position is unknown. The velocity is smoothed with a
        triangle 0.5 s wide (two steps without a clock).

    Raises
    ------
    ValueError
        The recording has no such axis, its times do not ascend within a walk, or ``min_speed`` is
        not positive.

    See Also
    --------
    rate_maps : With ``split="direction"``, the maps of both directions.
    laps : Number of the lap of every sample.

    Notes
    -----
    To restrict any analysis to one direction, remove the position of all other samples:
    ``recording.assign_coords(x=recording.x.where(direction == "forward"))``.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> there_and_back = np.r_[0:10, 9:-1:-1]
    >>> recording = pf.from_arrays(np.ones((20, 1)), {"x": there_and_back})
    >>> pf.running_direction(recording).values[0, [2, 15]].tolist()
    ['forward', 'backward']
    """
    by = axis_name(by)
    number = direction_numbers(recording, by, min_speed, circular)
    about = {"units": "1", "long_name": f"direction of running along {by}"}
    names = np.array([*DIRECTIONS, ""])
    return xr.DataArray(names[number], dims=schema.STEP_DIMS, name=DIRECTION, attrs=about)
