"""Read units and position of an NWB file as a Recording, and write rate maps into one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from placeformer._optional import extra
from placeformer.data import schema, sessions
from placeformer.data.sessions import Track


def from_nwb(
    source: str | os.PathLike[str] | Any,
    *,
    position: str | None = None,
    epochs: str | ArrayLike | None = None,
    join: bool = False,
    layer: str | Sequence[str] | None = None,
    unit_columns: Sequence[str] = (),
) -> xr.Dataset:
    """Label the sorted units and the position of an NWB file as a Recording.

    Parameters
    ----------
    source
        Path of an NWB file (HDF5), which is closed afterwards, or an open ``pynwb.NWBFile``.
    position
        The ``SpatialSeries``, by its name or by its path such as
        ``"behavior/Position/tracker"``; needed only where the file holds several. Series of
        compass directions and eye positions are used only if named.
    epochs
        Name of a table of intervals (``"trials"``, ``"epochs"``, ...) or rows of start and stop
        in seconds; by default from the first to the last sample of the position. Every row
        becomes a walk.
    join
        Concatenate the epochs to one walk, as in :func:`from_pynapple`; otherwise walks that are
        shorter than the longest end in NaN.
    layer
        Brain area or population of all units, or one for each.
    unit_columns
        Columns of the table of units to keep as coordinates of ``unit``.

    Returns
    -------
    xarray.Dataset
        A Recording on the time base of the position: every spike counts at the nearest sample of
        its epoch, and a count times the sample rate is the rate in Hz. The position is in the units
        of the series, with its conversion and offset applied and its columns as x, y, z.
        ``timestamp`` (walk, time) is in seconds on the clock of the session, ``unit_id`` the ids of
        the units.

    Raises
    ------
    ImportError
        pynwb is not installed; ``pip install 'placeformer[nwb]'``.
    FileNotFoundError
        There is no such file.
    ValueError
        There are no units with spike times, no position or several, or the table of intervals or a
        column does not exist.

    See Also
    --------
    to_nwb : Write rate maps into an NWB file.
    from_pynapple, from_arrays, from_ratinabox

    Notes
    -----
    Spikes further than one sample interval from any sample of the position (a gap in the
    tracking) are left out. Observation intervals of single units are not applied.

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
        units = _units(file, unit_columns)
        path, series = _position(file, position)
        track = _track(path, series)
        spans = _epochs(file, epochs) if epochs is not None else track.times[[0, -1]]
        labels = {name: list(units[name].data[:]) for name in unit_columns}
        return sessions.of_spikes(
            [np.asarray(units["spike_times"][row], float) for row in range(len(units))],
            track,
            spans,
            step="from_nwb",
            join=join,
            layer=layer,
            position_units=series.unit,
            unit_labels={"unit_id": units.id[:], **labels},
            settings={"identifier": file.identifier, "position": path},
        )


def to_nwb(maps: xr.Dataset, file: Any, *, name: str = "rate_maps", module: str = "ecephys") -> Any:
    """Add rate maps to an NWB file that holds their units.

    NWB itself has no type for rate maps; the table is the ``RateMapTable`` of the community's
    extension `ndx-rate-maps <https://pypi.org/project/ndx-rate-maps/>`_, whose specification is
    stored in the file.

    Parameters
    ----------
    maps
        RateMaps of one or two axes in Hz, of a recording with a sample rate.
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
        Rates are not in Hz, there are more than two axes, several maps or no sample rate, the file
        lacks the units, or the module already has a table of this name.

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
        raise ValueError(f"name must be new in module {module!r}, which already holds {name!r}")
    rate = maps[schema.RATE].transpose(schema.UNIT, *space).values.astype(float)
    seconds = maps[schema.OCCUPANCY].transpose(*space).values / maps.attrs["sample_rate"]
    axes: dict[str, Any] = {}
    for number, dim in enumerate(space):
        axes[f"dim{number}_label"] = dim
        axes[f"dim{number}_unit"] = str(maps[dim].attrs.get("units", "1"))
        axes[f"bin_edges_dim{number}"] = maps[dim + schema.EDGES_SUFFIX].values
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
    if not os.path.isfile(source):
        raise FileNotFoundError(
            f"source must be an NWB file; there is nothing at {os.fspath(source)}"
        )
    with pynwb.NWBHDF5IO(os.fspath(source), "r") as io:
        yield io.read()


def _units(file: Any, columns: Sequence[str]) -> Any:
    """Table of units with spike times and the requested columns."""
    units = file.units
    if units is None or not len(units) or "spike_times" not in units.colnames:
        raise ValueError(
            f"file {file.identifier!r} holds no units with spike times; continuous signals go "
            "through placeformer.from_pynapple or placeformer.from_arrays"
        )
    unknown = [name for name in columns if name not in units.colnames]
    if unknown:
        raise ValueError(
            f"unit_columns must be columns of the units, {list(units.colnames)}, got {unknown}"
        )
    return units


def _position(file: Any, wanted: str | None) -> tuple[str, Any]:
    """Path and series of the position."""
    from pynwb.behavior import CompassDirection, EyeTracking, SpatialSeries

    series = {_path(s): s for s in file.objects.values() if isinstance(s, SpatialSeries)}
    if wanted is None:
        elsewhere = CompassDirection | EyeTracking
        chosen = {p: s for p, s in series.items() if not isinstance(s.parent, elsewhere)}
    else:
        chosen = {p: s for p, s in series.items() if wanted in (p, s.name)}
    if len(chosen) != 1:
        listed = ", ".join(repr(path) for path in sorted(chosen or series)) or "none"
        raise ValueError(
            f"position must name one SpatialSeries of file {file.identifier!r}, got {wanted!r} "
            f"for {len(chosen)} of them; the file holds: {listed}"
        )
    return next(iter(chosen.items()))


def _path(series: Any) -> str:
    """Path of a series: names from the file down to it."""
    names, parent = [series.name], series.parent
    while parent is not None and parent.parent is not None:
        names.append(parent.name)
        parent = parent.parent
    return "/".join(reversed(names))


def _track(path: str, series: Any) -> Track:
    """Position in the units of the series."""
    values = np.asarray(series.get_data_in_units(), float)
    values = values.reshape(len(values), -1)
    times = np.asarray(series.get_timestamps(), float)
    if len(times) != len(values) or len(times) < 2 or values.shape[1] > 3:
        raise ValueError(
            f"position {path!r} must be (time,) or (time, 1 to 3) of at least two samples, got "
            f"{values.shape} and {len(times)} timestamps"
        )
    return Track(times, dict(zip(("x", "y", "z"), values.T, strict=False)))


def _epochs(file: Any, epochs: str | ArrayLike) -> ArrayLike:
    """Rows of start and stop."""
    if not isinstance(epochs, str):
        return epochs
    tables: Mapping[str, Any] = {"trials": file.trials, "epochs": file.epochs, **file.intervals}
    table = tables.get(epochs)
    if table is None:
        known = sorted(name for name, rows in tables.items() if rows is not None)
        raise ValueError(
            f"epochs must name a table of intervals, got {epochs!r}; the file holds: "
            f"{', '.join(known) or 'none'}"
        )
    return np.stack([table["start_time"][:], table["stop_time"][:]], axis=1)


def _check_maps(maps: xr.Dataset) -> tuple[str, ...]:
    """Axes of rate maps that fit the extension's table."""
    schema.check_rate_maps(maps)
    space = schema.place_dims(maps)
    problems = []
    if maps[schema.RATE].attrs.get("units") != "Hz":
        problems.append(f"rates must be in Hz, got {maps[schema.RATE].attrs.get('units')!r}")
    if len(space) > 2 or maps[schema.RATE].ndim != 1 + len(space):
        problems.append(f"rate must be (unit, 1 or 2 axes), got {maps[schema.RATE].dims}")
    if "sample_rate" not in maps.attrs:
        problems.append("attrs must hold sample_rate in Hz, for the occupancy in seconds")
    if problems:
        raise ValueError(
            f"maps do not fit NWB's RateMapTable: {'; '.join(problems)}. Any maps can be "
            "saved with maps.to_netcdf(path)"
        )
    return space


def _rows(maps: xr.Dataset, file: Any) -> list[int]:
    """Row of every unit of the maps in the file's table of units."""
    ids = [] if file.units is None else list(file.units.id[:])
    wanted = maps["unit_id"].values.tolist() if "unit_id" in maps.coords else None
    if wanted is None or not set(wanted) <= set(ids):
        raise ValueError(
            f"maps must carry the ids of the file's units as coordinate 'unit_id', got "
            f"{wanted if wanted is None else wanted[:5]}; the file holds {ids[:5]} ({len(ids)})"
        )
    return [ids.index(unit_id) for unit_id in wanted]
