"""Laps on a track, and the rates in fields on every lap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_number
from placeformer.data import schema
from placeformer.data.circular import circular_of, declare, unwrapped
from placeformer.data.clock import CONTINUOUS
from placeformer.data.dwell import sample_times
from placeformer.data.schema import variable
from placeformer.data.unit_identity import check_same_units
from placeformer.spatial.binning import (
    BinnedRecording,
    Circular,
    axis_name,
    of_part,
    samples,
    unit_sums,
)
from placeformer.spatial.movement import DIRECTION, DIRECTIONS
from placeformer.spatial.place_fields import FIELD, labels_of, place_fields
from placeformer.spatial.rate_maps import OCCUPANCY_ATTRS, occupancy

LAP = "lap"

ENDS = 0.1
"""Fraction of the track at each end that an animal must reach."""

Run = tuple[int, int, int]
"""First sample, sample after the last, and number of the direction of a lap."""


def laps(
    recording: xr.Dataset, *, by: str = "x", ends: float = ENDS, circular: Circular = None
) -> xr.Dataset:
    """Divide a recording on a track into laps.

    A lap on a track with two ends is a run from one end to the other: from the outermost position
    of the last stay in one end zone to the outermost position of the first stay in the other. Runs
    that turn back are not laps. Neither are jumps from end to end without a sample in between, as
    when an animal in virtual reality is put back to the start. On a circular track a lap is one
    full turn.

    Parameters
    ----------
    recording
        Recording with a position along a track (for a maze, :func:`linearize` computes it).
    by
        Name of the position.
    ends
        Fraction of the track, from the lowest to the highest position, that is the end zone at each
        end; between 0 and 0.5. Not used on a circular track.
    circular
        Period of a circular track, as in :func:`rate_maps`. A lap then runs from one whole number
        of periods to the next, or "backward" to the previous one; the way of an animal that turns
        back before the next one is not part of a lap.

    Returns
    -------
    xarray.Dataset
        ``number`` (walk, time): the lap of every sample, counted from 0, and -1 between laps. Over
        ``lap``: ``direction`` ("forward": towards higher positions, or "backward"), ``start`` and
        ``stop`` (times of the first and last sample, in seconds for a timed recording, else in
        steps), ``duration``, their difference, and the coordinate ``walk_of_lap``.

    Raises
    ------
    ValueError
        The recording has no such position or no finite value of it, its times do not ascend within
        a walk, or ``ends`` is out of range.

    See Also
    --------
    field_rates : Rates in place fields on every lap.
    running_direction : Direction of running at every sample.
    linearize : Position along a track given as nodes and edges.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> x = np.tile(np.r_[0:50, 50:0:-1], 3)
    >>> recording = pf.from_arrays(np.ones((300, 1)), {"x": x}, sample_rate=10)
    >>> table = pf.laps(recording)
    >>> table.direction.values.tolist()
    ['forward', 'backward', 'forward', 'backward', 'forward', 'backward']
    >>> float(table.duration[1])
    4.9
    """
    by = axis_name(by)
    schema.check_recording(recording, need=(by,))
    check_number("ends", ends)
    if not 0 < ends < 0.5:
        raise ValueError(f"ends must lie between 0 and 0.5 (fraction of track), got {ends!r}")
    period = circular_of(declare(recording, circular)).get(by)
    position = np.array(samples(recording, by), float)
    if not np.isfinite(position).any():
        raise ValueError(f"by must name a position with finite values, got {by!r}, all NaN")
    if period is not None:
        position = unwrapped(position, period)
    low, high = np.nanmin(position), np.nanmax(position)
    zones = low + ends * (high - low), high - ends * (high - low)
    times, timed = sample_times(recording)
    number = np.full(position.shape, -1, np.intp)
    rows: list[tuple[int, str, float, float]] = []
    for walk, row in enumerate(position):
        known = np.flatnonzero(np.isfinite(row))
        runs = _runs(row[known], *zones) if period is None else _turns(row[known], period)
        for first, stop, direction in runs:
            at = known[first:stop]
            number[walk, at] = len(rows)
            rows.append((walk, DIRECTIONS[direction], *times[walk, at[[0, -1]]]))
    walk_of, direction_of, start, stop_at = zip(*rows, strict=True) if rows else ((),) * 4
    begin, end, unit = np.array(start, float), np.array(stop_at, float), "s" if timed else "1"
    table = {
        "number": variable(schema.STEP_DIMS, number, "number of the lap, -1 between laps"),
        DIRECTION: variable(LAP, np.array(direction_of, dtype="<U8"), "direction of running"),
        "start": variable(LAP, begin, "time of the first sample", units=unit),
        "stop": variable(LAP, end, "time of the last sample", units=unit),
        "duration": variable(
            LAP, end - begin, "time from the first to the last sample", units=unit
        ),
    }
    walks = variable(LAP, np.array(walk_of, np.intp), "walk of the lap")
    coords = {LAP: variable(LAP, np.arange(len(rows)), "number of the lap"), "walk_of_lap": walks}
    result = xr.Dataset(table, coords)
    settings = {"by": by, "ends": ends}
    result.attrs = {"by": by}
    result.attrs[schema.PROVENANCE] = schema.provenance(recording, "laps", **settings)
    return result


def _runs(position: NDArray[np.float64], low: float, high: float) -> list[Run]:
    """Runs from one end zone of a track to the other."""
    zone = np.where(position <= low, 0, np.where(position >= high, 1, -1))
    inside = np.flatnonzero(zone >= 0)
    if not inside.size:
        return []
    # Stays: stretches of neighbouring samples in one end zone.
    breaks = np.flatnonzero((np.diff(inside) > 1) | (np.diff(zone[inside]) != 0))
    first, last = inside[np.append(0, breaks + 1)], inside[np.append(breaks, inside.size - 1)]
    end = zone[first]
    runs = []
    jumps = first[1:] - last[:-1] == 1
    moves = np.abs(np.diff(position))[(zone[:-1] < 0) | (zone[1:] < 0)]
    moves = moves[moves > 0]
    if not moves.size or np.median(moves) > CONTINUOUS * (high - low):
        jumps[:] = False  # samples are so sparse that a run may be a single move
    for k in np.flatnonzero((np.diff(end) != 0) & ~jumps):
        sign = 1 if end[k] == 0 else -1  # forward runs leave the low end
        leaving = sign * position[first[k] : last[k] + 1]
        start = last[k] - int(np.argmin(leaving[::-1]))  # the last outermost sample
        arriving = sign * position[first[k + 1] : last[k + 1] + 1]
        stop = first[k + 1] + int(np.argmax(arriving))
        runs.append((int(start), int(stop) + 1, 0 if sign > 0 else 1))
    # Where two runs meet at one outermost sample, it belongs to the later run.
    starts = [*(start for start, _, _ in runs[1:]), len(position)]
    return [
        (start, min(stop, after), direction)
        for (start, stop, direction), after in zip(runs, starts, strict=False)
    ]


def _turns(position: NDArray[np.float64], period: float) -> list[Run]:
    """Full turns of an unwrapped position on a circle."""
    turn = position / period
    runs: list[Run] = []
    if not turn.size:
        return runs
    # Start at the first crossing of a whole number of turns.
    level = np.floor(turn[0])
    crossed = np.flatnonzero((turn >= level + 1) | (turn < level))
    if not crossed.size:
        return runs
    start = int(crossed[0])
    mark = level + 1 if turn[start] >= level + 1 else level
    while True:
        beyond = np.flatnonzero(np.abs(turn[start:] - mark) >= 1)
        if not beyond.size:
            return runs
        stop = start + int(beyond[0])
        sign = -1 if turn[stop] < mark else 1
        # Excursions to the other side of the mark are not part of the turn.
        aside = np.flatnonzero(sign * (turn[start:stop] - mark) < 0)
        start += int(aside[-1]) + 1 if aside.size else 0
        runs.append((start, stop, int(sign < 0)))
        start, mark = stop, mark + sign


def field_rates(
    recording: xr.Dataset,
    maps: xr.Dataset,
    laps: xr.Dataset,
    *,
    fields: xr.Dataset | None = None,
) -> xr.Dataset:
    """Mean activation of every unit in each of its place fields, on every lap.

    Parameters
    ----------
    recording
        Recording that was divided into laps.
    maps
        RateMaps of the recording, with the bins of the fields. With a leading ``direction``
        (``split="direction"``) the fields of a direction are followed on laps in that direction.
    laps
        Result of :func:`laps`, or a selection of its laps, or any Dataset with ``number`` (walk,
        time), -1 outside laps, and, for maps with directions, ``direction`` (lap).
    fields
        Place fields of the maps; by default ``place_fields(maps)``.

    Returns
    -------
    xarray.Dataset
        ``rate`` (unit, field, lap), with a leading ``direction`` where the maps have one: the mean
        activation over the samples of the lap in the field, weighted by their ``dwell``. It is NaN
        where a lap has no sample in the field, for padding, and on laps in the other direction.
        ``occupancy``: the seconds or samples of the lap in the field.

    Raises
    ------
    ValueError
        Maps, fields and laps do not fit together, their units differ or are in another order,
        activations are not finite, or the RateMaps have another leading dimension, such as ``map``.

    See Also
    --------
    laps : Divide a recording into laps.
    place_fields : Place fields of rate maps.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> x = np.tile(np.r_[0:50, 50:0:-1], 3)
    >>> growing = np.linspace(1, 2, 300) * np.exp(-((x - 20) ** 2) / 50)
    >>> recording = pf.from_arrays(growing[:, None], {"x": x}, sample_rate=10)
    >>> maps = pf.rate_maps(recording, by="x", bins=25)
    >>> rates = pf.field_rates(recording, maps, pf.laps(recording))
    >>> rates.rate.dims, bool((rates.rate[0, 0].diff("lap") > 0).all())
    (('unit', 'field', 'lap'), True)
    """
    schema.check_rate_maps(maps)
    fields = place_fields(maps) if fields is None else fields
    space = schema.place_dims(maps)
    lead = [str(d) for d in maps[schema.RATE].dims if d not in (schema.UNIT, *space)]
    if lead not in ([], [DIRECTION]):
        raise ValueError(
            f"maps must be of one map, with or without directions, got leading {lead}; select one "
            f"with isel({lead[0]}=0)"
        )
    if lead and DIRECTION not in laps.variables:
        raise ValueError(
            "laps must have the variable 'direction', since maps have directions; pass the table "
            "of placeformer.laps, or maps without directions"
        )
    label = labels_of(fields, maps).values.reshape(
        len(maps[DIRECTION]) if lead else 1, maps.sizes[schema.UNIT], -1
    )
    row, known = _rows_of_laps(recording, laps)
    n_laps = len(known)
    binned = BinnedRecording.of(recording, by=space, bins=maps)
    way = "compute the maps of this recording with rate_maps(recording)"
    check_same_units(recording, maps, ("recording", "maps"), otherwise=way)
    index = np.where(row >= 0, np.asarray(binned.index), -1)
    index = of_part(index, np.maximum(row, 0), binned.size, max(n_laps, 1))
    size = max(n_laps, 1) * binned.size
    sums, _ = unit_sums(recording, index, size, skipna=False, weights=binned.weights)
    counts = binned.totals(index, size).reshape(-1, binned.size).astype(float)
    sums = sums.reshape(-1, binned.size, sums.shape[1])
    n_fields = fields.sizes[FIELD]
    shape = (len(label), label.shape[1], n_fields, n_laps)
    total, time = np.zeros(shape), np.zeros(shape)
    for k in range(n_fields):
        inside = (label == k + 1).astype(float)  # (direction, unit, bin)
        total[:, :, k] = np.einsum("dub,lbu->dul", inside, sums[:n_laps])
        time[:, :, k] = np.einsum("dub,lb->dul", inside, counts[:n_laps])
    if lead:
        same = laps[DIRECTION].values[None] == maps[DIRECTION].values[:, None]
        time = np.where(same[:, None, None], time, 0.0)
    rate: NDArray[np.float64] = np.full(shape, np.nan)
    np.divide(total, time, out=rate, where=time > 0)
    return _labelled(binned, maps, laps, lead, rate, time, known)


def _rows_of_laps(recording: xr.Dataset, laps: xr.Dataset) -> tuple[NDArray[np.intp], pd.Index]:
    """Row of every sample (walk, time) in the table of laps, -1 for none, and the laps' labels.

    A selection of some laps leaves ``number`` whole.
    """
    expected = {d: recording.sizes[d] for d in schema.STEP_DIMS}
    found = dict(laps["number"].sizes) if "number" in laps else None
    if found != expected:
        raise ValueError(
            f"laps must hold 'number' for the samples of the recording, {expected}, got {found}; "
            "compute them with laps(recording)"
        )
    number = np.asarray(laps["number"].transpose(*schema.STEP_DIMS).values)
    known = pd.RangeIndex(int(np.nanmax(number, initial=-1)) + 1)
    known = laps.get_index(LAP) if LAP in laps.dims else known
    return known.get_indexer(number.ravel()).reshape(number.shape), known


def _labelled(
    binned: BinnedRecording,
    maps: xr.Dataset,
    laps: xr.Dataset,
    lead: list[str],
    rate: NDArray[np.float64],
    time: NDArray[np.float64],
    known: pd.Index,
) -> xr.Dataset:
    dims = (*lead, schema.UNIT, FIELD, LAP)
    values = (rate, time) if lead else (rate[0], time[0])
    units = str(binned.recording[schema.ACTIVATION].attrs.get("units", "1"))
    about = OCCUPANCY_ATTRS[binned.unit_of_time is not None]["units"]
    of_lap = {k: v for k, v in laps.variables.items() if v.dims == (LAP,)}
    coords: dict[Any, Any] = {
        **schema.unit_coords(binned.recording),
        **{d: maps[d] for d in lead},
        **{k: v for k, v in of_lap.items() if k not in lead},
        FIELD: variable(FIELD, np.arange(1, rate.shape[2] + 1), "field by height of peak"),
        LAP: variable(LAP, known.to_numpy(), "number of the lap"),
    }
    if lead:
        coords["direction_of_lap"] = of_lap[DIRECTION]
    columns = {
        "rate": variable(dims, values[0], "mean activation in the field on the lap", units=units),
        "occupancy": variable(
            dims, occupancy(binned, values[1]), "time in the field on the lap", units=about
        ),
    }
    schema.refuse_names(binned.recording, (*columns, FIELD, LAP))
    result = xr.Dataset(columns, coords)
    result.attrs[schema.PROVENANCE] = schema.provenance(binned.recording, "field_rates")
    return result
