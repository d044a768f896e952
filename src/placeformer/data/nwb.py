"""Read units and position of an NWB file as a Recording, and write rate maps into one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from placeformer._optional import extra
from placeformer._warnings import warn
from placeformer.data import schema, sessions
from placeformer.data.arrays import SPEED
from placeformer.data.circular import PERIODS
from placeformer.data.clock import Floats, inside
from placeformer.data.schema import AXES
from placeformer.data.sessions import Cut, Track, ends_of, rows_of
from placeformer.data.unit_identity import is_per_second, nwb_files

UNOBSERVED = 0.01
"""Fraction of the time that units may be unobserved without a warning or an error."""

ENDS_OF_EPOCHS = (("start_time", "stop_time"), ("start", "end"), ("start", "stop"))
"""Columns of tables of intervals: those of NWB, those of pynapple, and others."""

SAME_TIME = 1e-6
"""Largest difference in seconds between the times of series that are put side by side."""


def from_nwb(
    source: str | os.PathLike[str] | Any,
    *,
    position: str | Sequence[str] | None = None,
    columns: Mapping[str, int | Sequence[int]] | None = None,
    epochs: Any = None,
    join: bool = False,
    bin_size: float | None = None,
    min_speed: float | None = None,
    max_gap: float | None = None,
    layer: str | Sequence[str] | None = None,
    where: str | ArrayLike | None = None,
    unit_columns: Sequence[str] = (),
    obs_intervals: bool = True,
    session: str | None = None,
    circular: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Label the sorted units and the position of an NWB file as a Recording.

    Parameters
    ----------
    source
        Path of an NWB file (HDF5), which is closed afterwards, or an open ``pynwb.NWBFile``.
    position
        The ``SpatialSeries`` (or another time series), by name or by path, such as
        ``"behavior/Position/tracker"``; needed only if the file holds several. Series of
        compass directions and eye positions are used only if named. A list of names, or the name of
        a container, takes several series. With the same times, their columns are put side by side
        (x and y in separate series, or two LEDs), and a compass direction among them keeps its
        name; series that follow one another in time make one track (for example one series per
        epoch). Compass directions in radians or degrees are circular axes.
    columns
        Columns that make the axes, if they are not x, y and z: ``{"x": 0, "y": 1}`` takes those of
        the first of two LEDs, ``{"x": [0, 2], "y": [1, 3]}`` their midpoints.
    epochs
        Name of a table of intervals (``"trials"``, ``"epochs"``, ...), a DataFrame with its columns
        (for example some of its rows), an ``IntervalSet`` of pynapple, or rows of start and stop in
        seconds; by default from the first to the last sample of the position. Every row becomes a
        walk.
    join, bin_size, min_speed, max_gap
        As in :func:`from_pynapple`: whether to concatenate the epochs to one walk, sorted by time
        and with the time that they share counted once (otherwise walks that are shorter than the
        longest end in NaN), the width of time bins in seconds, the minimum speed in units of the
        series per second, and the longest interval between samples that is not a gap.
    layer
        Brain area or population of all units, or one for each.
    where
        Which units: a query on their columns, such as ``"quality == 'good' and depth > 500"``; a
        boolean for every row; or ids.
    unit_columns
        Columns of the table of units to keep as coordinates of ``unit``. Columns of objects, such
        as electrode groups, become the names of the objects.
    obs_intervals
        Leave out the time in which the units were not observed, according to the column of this
        name, if the file has one; units whose observed time differs by more than 1 % raise an
        error. ``False`` counts a unit as silent while it was not observed, as pynapple does.
    session
        Name of the recording session; by default the identifier, session id and start time of the
        file. Units are paired only with those of the same session (:func:`remapping`).
    circular
        Period of every circular axis of the position, such as ``{"heading": 2 * np.pi}``, as in
        :func:`from_arrays`: means in time bins go the short way round, and an angle does not enter
        the speed.

    Returns
    -------
    xarray.Dataset
        A Recording, as :func:`from_pynapple` makes it from the same spikes and position: the rate
        in Hz is the number of spikes divided by ``dwell``, the seconds that a sample represents.
        The position is in the units of the series, with its conversion and offset applied and its
        columns as x, y, z. ``timestamp`` (walk, time) is in seconds on the clock of the session,
        and ``unit_id`` holds the ids of the units.

    Raises
    ------
    ImportError
        pynwb is not installed; ``pip install 'placeformer[nwb]'``.
    FileNotFoundError
        There is no such file.
    TypeError
        `source` is neither a path nor an ``NWBFile``.
    ValueError
        There are no units with spike times, no position or several (they are listed), the table of
        intervals or a column does not exist, units were not observed at the same time, or spike
        times are not finite or all lie outside the tracking.

    Warns
    -----
    UserWarning
        Spike times do not ascend (they are sorted), epochs do not end after they start (they are
        left out), epochs to be joined overlap, few spikes lie within the tracking (two clocks?),
        the units were not observed during more than 1 % of the epochs (this time is left out), or
        the epochs hold times that the file states as invalid (these are kept).

    See Also
    --------
    to_nwb : Write rate maps into an NWB file.
    from_pynapple, from_arrays, from_ratinabox

    References
    ----------
    Rübel, O. et al. (2022). The Neurodata Without Borders ecosystem for neurophysiological data
    science. eLife 11, e78362. https://doi.org/10.7554/eLife.78362

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> import numpy as np
    >>> import pynwb
    >>> from pynwb.behavior import SpatialSeries
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> file = pynwb.NWBFile("a session", "id", datetime(2026, 1, 1, tzinfo=timezone.utc))
    >>> file.add_unit(spike_times=np.sort(rng.uniform(0, 60, 300)))
    >>> tracker = SpatialSeries(name="tracker", data=rng.random((600, 2)), rate=10.0, unit="m")
    >>> _ = file.add_acquisition(tracker)
    >>> recording = pf.from_nwb(file, layer="CA1")
    >>> dict(recording.sizes), recording.activation.attrs["units"]
    ({'walk': 1, 'time': 600, 'unit': 1}, 'Hz')
    """
    with _open(source) as file:
        units = _units(file)
        rows = _chosen(units, where)
        paths, series = _position(file, position)
        track, units_of_axes = _track(paths, series, columns, max_gap, circular)
        spans = rows_of(track.support if epochs is None else _epochs(file, epochs))
        ids = np.asarray(units.id[:])[rows]
        names = schema.unit_labels(ids).values  # ids may occur twice, as those of two probes
        trains = {
            name: np.asarray(units["spike_times"][row], float)
            for name, row in zip(names, rows, strict=True)
        }
        _check_unit_columns(unit_columns, track)
        _warn_of_invalid_times(file, track, spans)
        if obs_intervals and "obs_intervals" in units.colnames:
            track, trains = _observed(units, rows, track, spans, trains)
        return sessions.of_spikes(
            trains,
            track,
            Cut(spans, join, bin_size, min_speed),
            step="from_nwb",
            layer=layer,
            position_units=units_of_axes,
            unit_labels={
                "unit_id": ids,
                **{name: _column(units, name, rows) for name in unit_columns},
            },
            settings={
                "session": session or _session(file),
                "nwb_file": _session(file),
                "position": ", ".join(paths),
            },
        )


def to_nwb(maps: xr.Dataset, file: Any, *, name: str = "rate_maps", module: str = "ecephys") -> Any:
    """Add rate maps to an NWB file that holds their units.

    NWB itself has no type for rate maps; the table is the ``RateMapTable`` of the community's
    extension `ndx-rate-maps <https://pypi.org/project/ndx-rate-maps/>`_, whose specification is
    stored in the file.

    Parameters
    ----------
    maps
        RateMaps of one or two axes in Hz, of a timed recording.
    file
        Open ``pynwb.NWBFile`` with the units; write it with ``pynwb.NWBHDF5IO`` afterwards.
    name
        Name of the table.
    module
        Processing module, created if the file has none of this name.

    Returns
    -------
    ndx_rate_maps.RateMapTable
        The table with one row per unit, axes in the order of the maps (y first) and occupancy in
        seconds. Rows refer to the units whose id is ``unit_id``.

    Raises
    ------
    ImportError
        pynwb or ndx-rate-maps is not installed; ``pip install 'placeformer[nwb]'``.
    ValueError
        Rates are not in Hz, occupancy is not in s, there are more than two axes or several maps,
        the file lacks the units or is of another session, or the module already has a table of this
        name.

    See Also
    --------
    from_nwb : Read units and position of an NWB file.
    rate_maps : Rate maps of a recording.

    Examples
    --------
    >>> from datetime import datetime, timezone
    >>> import numpy as np
    >>> import pynwb
    >>> from pynwb.behavior import SpatialSeries
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> file = pynwb.NWBFile("a session", "id", datetime(2026, 1, 1, tzinfo=timezone.utc))
    >>> file.add_unit(spike_times=np.sort(rng.uniform(0, 60, 300)))
    >>> tracker = SpatialSeries(name="tracker", data=rng.random((600, 2)), rate=10.0, unit="m")
    >>> _ = file.add_acquisition(tracker)
    >>> maps = pf.rate_maps(pf.from_nwb(file), bins=5)
    >>> table = pf.to_nwb(maps, file)
    >>> table.rate_map.data.shape
    (1, 5, 5)
    >>> file.processing["ecephys"]["rate_maps"] is table
    True
    """
    with extra("nwb"):
        from ndx_rate_maps import RateMapTable
        from pynwb.core import DynamicTableRegion, VectorData
    space = _check_maps(maps)
    rows = _rows(maps, file)
    home = file.processing.get(module)
    if home is not None and name in home.data_interfaces:
        raise ValueError(
            f"name must be new in module {module!r}, which already holds {name!r}; choose another"
        )
    rate = maps[schema.RATE].transpose(schema.UNIT, *space).values.astype(float)
    seconds = maps[schema.OCCUPANCY].transpose(*space).values
    axes: dict[str, Any] = {}
    for number, dim in enumerate(space):
        axes[f"dim{number}_label"] = dim
        axes[f"dim{number}_unit"] = str(maps[dim].attrs.get("units", "1"))
        axes[f"bin_edges_dim{number}"] = schema.edges_of(maps, dim)
    table = RateMapTable(
        name=name,
        description=f"mean rate by {', '.join(space)}; smoothing: {maps.attrs.get('smooth')}",
        units=DynamicTableRegion(
            name="units", data=rows, description="the unit of every row", table=file.units
        ),
        rate_map=VectorData(name="rate_map", description="rate in Hz", data=rate),
        occupancy_map=VectorData(
            name="occupancy_map",
            description="time in seconds",
            data=np.broadcast_to(seconds, rate.shape).copy(),
        ),
        **axes,
    )
    if home is None:
        home = file.create_processing_module(module, "rate maps made by placeformer")
    home.add(table)
    return table


@contextmanager
def _open(source: Any) -> Iterator[Any]:
    """Open the NWBFile at a path while it is read, or pass on an open one."""
    with extra("nwb"):
        import pynwb
    if isinstance(source, pynwb.NWBFile):
        yield source
        return
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a path or a pynwb.NWBFile, got {type(source).__name__}")
    path = os.path.expanduser(os.fspath(source))
    if not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "nothing"
        raise FileNotFoundError(
            f"source must be an NWB file (HDF5); there is {what} at {path}. Open a Zarr store with "
            "hdmf_zarr.NWBZarrIO, or a remote file with remfile, and pass the NWBFile that is read"
        )
    with pynwb.NWBHDF5IO(path, "r") as io:
        yield io.read()


def _units(file: Any) -> Any:
    """Table of units with spike times."""
    units = file.units
    if units is None or not len(units) or "spike_times" not in units.colnames:
        raise ValueError(
            f"file {file.identifier!r} holds no units with spike times; for continuous signals use "
            "placeformer.from_pynapple or placeformer.from_arrays"
        )
    return units


def _session(file: Any) -> str:
    """Text that identifies a session, even if files of others have the same identifier."""
    names = (file.identifier, file.session_id, file.session_start_time.isoformat())
    return ", ".join(name for name in names if name)


def _warn_of_invalid_times(file: Any, track: Track, spans: Floats) -> None:
    """Warn of epochs that hold times which the file states as invalid."""
    table = file.invalid_times
    if table is None or not len(table):
        return
    intervals = _intervals(np.stack([table["start_time"][:], table["stop_time"][:]], axis=1))
    seconds = track.clock.dwell @ (_of_epochs(track, spans) & _within(track.times, intervals))
    if seconds > 0:
        warn(
            f"file {file.identifier!r} states {seconds:.6g} s of the epochs as invalid "
            "(invalid_times), and they are kept; to leave them out pass epochs without them",
        )


def _of_epochs(track: Track, spans: Floats) -> NDArray[np.bool_]:
    """Whether samples lie within epochs."""
    within = np.zeros(len(track.times), bool)
    for start, stop in spans:
        within[inside(track.times, start, stop)] = True
    return within


def _observed(
    units: Any, rows: NDArray[np.intp], track: Track, spans: Floats, trains: dict[Any, Floats]
) -> tuple[Track, dict[Any, Floats]]:
    """Track and spikes within the intervals in which all units were observed."""
    rows_of: dict[bytes, list[int]] = {}
    for row in rows:
        intervals = _intervals(units["obs_intervals"][int(row)])
        if len(intervals):
            rows_of.setdefault(intervals.tobytes(), []).append(int(row))
    if not rows_of:
        return track, trains
    groups = [(np.frombuffer(key).reshape(-1, 2), which) for key, which in rows_of.items()]
    within = _of_epochs(track, spans)
    dwell = np.where(within, track.clock.dwell, 0.0)
    seconds = [dwell @ _within(track.times, intervals) for intervals, _ in groups]
    kept = np.logical_and.reduce([_within(track.times, intervals) for intervals, _ in groups])
    common, most = dwell @ kept, max(seconds)
    if common < (1 - UNOBSERVED) * most or not common:
        ids = np.asarray(units.id[:])
        listed = "; ".join(
            f"{got:.6g} s: {', '.join(map(str, ids[which[:5]]))}{', ...' if len(which) > 5 else ''}"
            for got, (_, which) in list(zip(seconds, groups, strict=True))[:5]
        )
        raise ValueError(
            f"units must be observed at the same time, but their obs_intervals have {common:.6g} s "
            f"in common within the epochs (units by what they cover, {listed}). Select units that "
            "were observed together with where=, or epochs in which all were; or count units as "
            "silent while they were not observed, as pynapple does, with obs_intervals=False"
        )
    if common < (1 - UNOBSERVED) * dwell.sum():
        warn(
            f"the units were observed (obs_intervals) during {common:.6g} s of "
            f"{dwell.sum():.6g} s; the rest is left out. obs_intervals=False keeps it",
        )
    if kept[within].all():
        return track, trains
    starts = np.concatenate([np.asarray(track.support)[:, 0], *(i[:, 0] for i, _ in groups)])
    axes = {name: axis[kept] for name, axis in track.axes.items()}
    support = np.sort(starts)[:, None]
    own = Track(track.times[kept], axes, track.max_gap, support, track.periodic)
    return own, {
        key: train[np.logical_and.reduce([_within(train, intervals) for intervals, _ in groups])]
        for key, train in trains.items()
    }


def _intervals(rows: ArrayLike) -> Floats:
    """Rows of start and stop, in ascending order and merged."""
    spans = np.asarray(rows, float).reshape(-1, 2)
    spans = spans[np.argsort(spans[:, 0])]
    last = np.maximum.accumulate(spans[:, 1])
    first = np.append(True, spans[1:, 0] > last[:-1])[: len(spans)]
    return np.stack([spans[first, 0], last[np.roll(first, -1)]], axis=1)


def _within(times: Floats, intervals: Floats) -> NDArray[np.bool_]:
    """Whether times lie within one of some ascending intervals, both ends included."""
    k = np.searchsorted(intervals[:, 0], times, side="right") - 1
    return (k >= 0) & (times <= intervals[k, 1])


def _chosen(units: Any, where: str | ArrayLike | None) -> NDArray[np.intp]:
    """Rows of units."""
    rows, ids = np.arange(len(units)), np.asarray(units.id[:])
    if where is None:
        return rows
    if isinstance(where, str):
        chosen = _query(units, where)
    else:
        given = np.asarray(where)
        unknown = [] if given.dtype == bool else np.setdiff1d(given, ids).tolist()
        if unknown or (given.dtype == bool and given.shape != ids.shape):
            raise ValueError(
                f"where must be a query, {len(ids)} booleans, or ids of units, got "
                f"{unknown[:5] or given.shape}; the file holds {ids[:5].tolist()} ({len(ids)})"
            )
        chosen = given if given.dtype == bool else np.isin(ids, given)
    if not chosen.any():
        raise ValueError(f"where must leave at least one of {len(ids)} units, got {where!r}")
    return rows[chosen]


def _query(units: Any, query: str) -> NDArray[np.bool_]:
    """Whether every unit meets a query on the columns with one value per unit."""
    import pandas as pd

    values = {"id": np.asarray(units.id[:])}
    for name in units.colnames:
        with suppress(ValueError):
            values[name] = _column(units, name, np.arange(len(units)))
    table = pd.DataFrame(values)
    try:
        met = np.asarray(table.eval(query))
    except Exception as error:  # of pandas and of Python's parser
        raise ValueError(
            f"where must be a query on the columns {list(values)}, got {query!r}: {error}"
        ) from error
    if met.shape != (len(table),) or met.dtype != bool:
        raise ValueError(f"where must be true or false for every unit, got {query!r}")
    return met


def _check_unit_columns(names: Sequence[str], track: Track) -> None:
    """Refuse columns of units with the names of other variables of a recording."""
    others = {name for name, entry in schema.RECORDING.items() if entry.dims != (schema.UNIT,)}
    others |= {*track.axes, schema.WALK, schema.TIME, schema.TIMESTAMP, SPEED, "unit_id"}
    taken = [name for name in names if name in {*others, schema.UNIT}]
    if taken:
        raise ValueError(
            f"unit_columns must not name {taken}, as a recording has other variables of these "
            "names; add the column under another name, with recording.assign_coords(unit_"
            f"{taken[0]}=('unit', values))"
        )


def _column(units: Any, name: str, rows: NDArray[np.intp]) -> NDArray[Any]:
    """One value for every unit; for objects with a name, the name."""
    if name not in units.colnames:
        raise ValueError(
            f"unit_columns must be columns of the units, {list(units.colnames)}, got {name!r}"
        )
    column = units[name]
    single = type(column).__name__ != "VectorIndex"
    values = [column[int(row)] for row in rows] if single else []
    if not single or any(np.ndim(value) for value in values):
        raise ValueError(
            f"unit_columns must hold one value for every unit, but {name!r} holds several; add "
            "what you need of them with recording.assign_coords"
        )
    named = np.asarray([getattr(value, "name", value) for value in values])
    return named if named.dtype.kind in "biufUS" else named.astype(str)


def _position(file: Any, wanted: str | Sequence[str] | None) -> tuple[list[str], list[Any]]:
    """Paths and series of the position."""
    from pynwb import TimeSeries
    from pynwb.behavior import CompassDirection, EyeTracking, SpatialSeries

    others = {_path(s): s for s in file.objects.values() if isinstance(s, TimeSeries)}
    series = {_path(s): s for s in file.objects.values() if isinstance(s, SpatialSeries)}

    def named(name: str) -> list[str]:
        matches = [path for path, s in series.items() if name in (path, s.name)]
        inside = (path for path in series if name in _containers(path))
        return matches or sorted(inside) or [p for p, s in others.items() if name in (p, s.name)]

    if wanted is None:
        elsewhere = CompassDirection | EyeTracking
        paths = [p for p, s in series.items() if not isinstance(s.parent, elsewhere)]
        good = len(paths) == 1
    elif isinstance(wanted, str):
        paths = named(wanted)
        good = len(paths) == 1 or (len(paths) > 1 and wanted in _containers(paths[0]))
    else:
        matches = [named(name) for name in wanted]
        paths = [path for match in matches for path in match]
        good = bool(matches) and all(len(match) == 1 for match in matches)
    if not good:
        listed = ", ".join(repr(path) for path in sorted(paths or series)) or "none"
        raise ValueError(
            f"position must name one SpatialSeries of file {file.identifier!r}, got {wanted!r}, "
            f"which fits {len(paths)} of them; the file holds: {listed}. Name several that belong "
            "together as a list or by their container; for anything else use "
            "placeformer.from_pynapple or placeformer.from_arrays"
        )
    return paths, [others[path] for path in paths]


def _containers(path: str) -> list[str]:
    """Names and paths of the containers of a series, such as Position and behavior/Position."""
    parts = path.split("/")[:-1]
    return [*parts, *("/".join(parts[:k]) for k in range(2, len(parts) + 1))]


def _path(series: Any) -> str:
    """Path of a series: names from the file down to it."""
    names, parent = [series.name], series.parent
    while parent is not None and parent.parent is not None:
        names.append(parent.name)
        parent = parent.parent
    return "/".join(reversed(names))


def _track(
    paths: list[str],
    series: list[Any],
    columns: Mapping[str, int | Sequence[int]] | None,
    max_gap: float | None,
    circular: Mapping[str, float] | None,
) -> tuple[Track, dict[str, str]]:
    """Position and the units of its axes, of series side by side, or one after another."""
    parts = [_samples(path, each) for path, each in zip(paths, series, strict=True)]
    shapes = ", ".join(f"{p!r} {v.shape}" for p, (_, v) in zip(paths, parts, strict=True))
    order = sorted(range(len(parts)), key=lambda k: parts[k][0][0])
    series, parts = [series[k] for k in order], [parts[k] for k in order]
    times, values = parts[0]
    support = np.array([[t[0], t[-1]] for t, _ in parts])
    made_of = [series[0]] * values.shape[1]
    turns = [_turn(series[0], values)] * len(made_of)
    beside = len(parts) > 1 and all(_same(t, times) for t, _ in parts[1:])
    if beside:
        made_of = [each for each, (_, v) in zip(series, parts, strict=True) for _ in v.T]
        turns = [_turn(each, v) for each, (_, v) in zip(series, parts, strict=True) for _ in v.T]
        values = np.concatenate([v for _, v in parts], axis=1)
        support = support[:1]
    elif len(parts) > 1:
        if (support[:-1, 1] >= support[1:, 0]).any() or len({v.shape[1] for _, v in parts}) > 1:
            raise ValueError(
                "position, where it names several series, must have the same times in all of them "
                "(columns side by side) or be one after another with the same columns, got "
                f"{shapes} from {support.tolist()[:3]} s; put them together yourself and pass them "
                "to placeformer.from_pynapple or placeformer.from_arrays"
            )
        times, values = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    n = values.shape[1]
    if columns is None:
        angles = [bool(turn) and beside for turn in turns]
        own = [each.name for each, angle in zip(made_of, angles, strict=True) if not angle]
        if len(own) > len(AXES):
            raise ValueError(
                f"position must have 1 to {len(AXES)} columns, got {shapes}; name the columns that "
                'make its axes, columns={"x": 0, "y": 1} or, for the midpoint of two LEDs, '
                'columns={"x": [0, 2], "y": [1, 3]}, or pass arrays to placeformer.from_arrays'
            )
        named = len(parts) > 1 and set(own) <= set(AXES) and len(set(own)) == len(own)
        names = iter(own if named else AXES)
        labels = [
            e.name if angle else next(names) for e, angle in zip(made_of, angles, strict=True)
        ]
        if len(set(labels)) < len(labels):
            raise ValueError(
                f"position must have axes of different names, got {labels} from {shapes}; name "
                'them with columns, such as columns={"x": 0, "y": 1, "heading": 2}'
            )
        columns = {label: k for k, label in enumerate(labels)}
    wrong = [k for which in columns.values() for k in np.ravel(which) if not 0 <= k < n]
    if wrong or not columns:
        raise ValueError(f"columns must name columns 0 to {n - 1} of {shapes}, got {columns}")
    axes = {name: values[:, np.ravel(which)].mean(axis=1) for name, which in columns.items()}
    first = {name: int(np.ravel(which)[0]) for name, which in columns.items()}
    periods = {name: turn for name, k in first.items() if (turn := turns[k])} | dict(circular or {})
    units = {name: made_of[k].unit for name, k in first.items()}
    differ = set() if beside else {each.unit for each in series}
    for name, which in columns.items():
        differ |= set() if name in periods else {made_of[k].unit for k in np.ravel(which)}
    if len(differ) > 1:
        raise ValueError(
            f"position must be in one unit of measure, got {sorted(differ)} for {paths}; name "
            "angles among its axes with circular, such as circular={'heading': 360}"
        )
    return Track(times, axes, max_gap, support, ends_of(periods, axes)), units


def _turn(series: Any, values: Floats) -> float | None:
    """Period of a compass direction (sample, 1), by its units; ``None`` for other series."""
    from pynwb.behavior import CompassDirection

    compass = isinstance(series.parent, CompassDirection) and values.shape[1] == 1
    return PERIODS.get(series.unit) if compass else None


def _samples(path: str, series: Any) -> tuple[Floats, Floats]:
    """Times (sample,) and values (sample, column) of a series."""
    values = np.asarray(series.get_data_in_units(), float)
    values = values.reshape(len(values), -1)
    times = np.asarray(series.get_timestamps(), float)
    if len(times) != len(values) or len(times) < 2:
        raise ValueError(
            f"position {path!r} must be (time,) or (time, column) of at least two samples, got "
            f"{values.shape} and {len(times)} timestamps"
        )
    return times, values


def _same(times: Floats, others: Floats) -> bool:
    return len(times) == len(others) and bool(np.abs(times - others).max() <= SAME_TIME)


def _epochs(file: Any, epochs: Any) -> Any:
    """Rows of start and stop."""
    if not isinstance(epochs, str):
        return _columns_of(epochs) if hasattr(epochs, "columns") else epochs
    tables: Mapping[str, Any] = {"trials": file.trials, "epochs": file.epochs, **file.intervals}
    table = tables.get(epochs)
    if table is None:
        known = sorted(name for name, rows in tables.items() if rows is not None)
        raise ValueError(
            f"epochs must name a table of intervals, got {epochs!r}; the file holds: "
            f"{', '.join(known) or 'none'}"
        )
    return np.stack([table["start_time"][:], table["stop_time"][:]], axis=1)


def _columns_of(epochs: Any) -> Any:
    """Start and stop of a table of intervals, a DataFrame or pynapple's IntervalSet."""
    for names in ENDS_OF_EPOCHS:
        if set(names) <= set(epochs.columns):
            return np.stack([np.asarray(epochs[name], float) for name in names], axis=1)
    raise ValueError(
        "epochs, a table, must have the columns 'start_time' and 'stop_time' in seconds, or "
        f"'start' and 'end', got {list(epochs.columns)}; rename them"
    )


def _check_maps(maps: xr.Dataset) -> tuple[str, ...]:
    """Axes of rate maps that fit the extension's table."""
    schema.check_rate_maps(maps)
    space = schema.place_dims(maps)
    problems = []
    if not is_per_second(maps[schema.RATE].attrs.get("units")):
        problems.append(f"rates must be in Hz, got {maps[schema.RATE].attrs.get('units')!r}")
    if len(space) > 2 or maps[schema.RATE].ndim != 1 + len(space):
        problems.append(f"rate must be (unit, 1 or 2 axes), got {maps[schema.RATE].dims}")
    if maps[schema.OCCUPANCY].attrs.get("units") != "s":
        units = maps[schema.OCCUPANCY].attrs.get("units")
        problems.append(f"occupancy must be in s, as that of a timed recording is, got {units!r}")
    if problems:
        raise ValueError(
            f"maps do not fit NWB's RateMapTable: {'; '.join(problems)}. Any maps can be "
            "saved with maps.to_netcdf(path)"
        )
    return space


def _rows(maps: xr.Dataset, file: Any) -> list[int]:
    """Row of every unit of the maps in the file's table of units."""
    known = nwb_files(maps)
    if known and _session(file) not in known:
        raise ValueError(
            f"maps must be of the units of this file, {_session(file)!r}, got those of "
            f"{known[0]!r}; the same ids are other cells there"
        )
    ids = [] if file.units is None else list(file.units.id[:])
    wanted = maps["unit_id"].values.tolist() if "unit_id" in maps.coords else None
    if wanted is None or not set(wanted) <= set(ids):
        raise ValueError(
            f"maps must carry the ids of the file's units as coordinate 'unit_id', got "
            f"{wanted if wanted is None else wanted[:5]}; the file holds {ids[:5]} ({len(ids)})"
        )
    twice = [unit_id for unit_id in wanted if ids.count(unit_id) > 1]
    if twice:
        raise ValueError(
            f"file must have one unit of every id of maps, but {twice[:5]} occur several times in "
            "its table of units; leave these units out with maps.isel(unit=...)"
        )
    return [ids.index(unit_id) for unit_id in wanted]
