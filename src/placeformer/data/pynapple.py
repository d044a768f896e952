"""Conversion of pynapple's objects to a Recording and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from placeformer._optional import extra
from placeformer._warnings import warn
from placeformer.data import schema, sessions
from placeformer.data.arrays import check_positive
from placeformer.data.dwell import sample_times
from placeformer.data.schema import AXES
from placeformer.data.sessions import Cut, Track, ends_of
from placeformer.data.unit_identity import is_per_second
from placeformer.data.walk_lengths import inside_walks, walk_lengths


def from_pynapple(
    data: Any,
    position: Any,
    *,
    epochs: Any = None,
    join: bool = False,
    bin_size: float | None = None,
    min_speed: float | None = None,
    max_gap: float | None = None,
    names: Sequence[str] | None = None,
    layer: str | Sequence[str] | None = None,
    units: str | None = None,
    position_units: str = schema.RECORDING["x"].units,
    session: str | None = None,
    circular: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Label spikes or continuous signals of pynapple and a position as a Recording.

    Parameters
    ----------
    data
        ``TsGroup`` or ``Ts`` of spikes: every spike counts at the nearest sample of the position,
        and the rate in Hz is the count divided by the seconds that the sample represents
        (``dwell``). Or ``TsdFrame`` or ``Tsd`` of a continuous signal: it keeps its own time base,
        and every sample takes the nearest position.
    position
        ``TsdFrame``, one column per axis; ``Tsd`` of one axis; or a mapping of ``Tsd`` with the
        same times, such as ``{"x": ..., "y": ...}``.
    epochs
        ``IntervalSet`` to keep, each interval as a walk; by default the time support of the
        position. As in pynapple, the time support of spikes is not used: a unit is silent where it
        has no spike. For a continuous signal, only times within its own support are kept.
    join
        By default every epoch becomes a walk, and shorter walks are padded with NaN: maps and
        measures leave the padding out, while analyses that shift activations in time
        (:func:`shuffle_test`) raise an error. ``join=True`` concatenates all epochs to one walk
        instead, sorted by time; epochs that adjoin are merged.
    bin_size
        Width in seconds of time bins, which are then the samples: spikes in a bin are counted, a
        signal and the position are averaged. By default the samples are those of the position, or
        of the signal.
    min_speed
        Minimum speed, in units of the position per second: slower samples get position NaN, which
        keeps their spikes and their time out of maps. The velocity is smoothed with a triangle
        0.5 s wide; the recording holds the speed as ``speed``.
    max_gap
        Interval in seconds between two samples of the position above which the tracking counts as
        lost between them; by default 5 median intervals, and at least 0.25 s. A sample next to a
        gap represents as much time on that side as on its other side; spikes within the gap are
        left out.
    names
        Names of the axes; by default the names of the columns, or x, y, z where these are
        numbers.
    layer
        Brain area or population of all units, or one for each.
    units
        Units of a continuous signal; spikes are in Hz.
    position_units
        Units of the position, for example "m" or "cm".
    session
        Name of the recording session. Units are paired only with those of the same session
        (:func:`remapping`). Without a name the session is known by ``data``: recordings of the same
        data and other ``epochs`` are of one session, those of parts cut out beforehand are not.
    circular
        Period of every circular axis of the position, such as ``{"heading": 2 * np.pi}``, as in
        :func:`from_arrays`: means in time bins go the short way round, and an angle does not enter
        the speed.

    Returns
    -------
    xarray.Dataset
        A Recording. ``dwell`` (walk, time) holds the seconds that every sample represents; the sum
        of activation times ``dwell`` is the number of spikes. ``timestamp`` (walk, time) holds the
        times on pynapple's clock, ``unit_id`` the keys of the units. ``time`` counts seconds from
        the start of each walk at the nominal rate ``attrs["sample_rate"]``, 1 over the mean
        interval.

    Raises
    ------
    ImportError
        pynapple is not installed; ``pip install 'placeformer[pynapple]'``.
    TypeError
        An object is of another type.
    ValueError
        Data and position do not overlap in time, values or spike times are not finite, or an option
        is out of range.

    Warns
    -----
    UserWarning
        Few spikes lie within the tracking (two clocks?), or the time support that spikes were given
        covers only a part of the position.

    See Also
    --------
    to_pynapple : Convert a recording to pynapple's objects.
    from_nwb, from_arrays, from_ratinabox

    Notes
    -----
    Maps equal those of ``pynapple.compute_tuning_curves`` on the same edges where samples of the
    position are regular. Three differences are intended. pynapple counts every sample as one mean
    interval; here a sample counts as the time that it represents, so that with dropped frames a
    place that was sampled rarely keeps its rate. Where ``epochs`` end within the tracking, the
    samples at their ends represent only the time within the epoch, about half an interval, where
    pynapple counts a whole one. Spikes in a gap, which pynapple assigns to the nearest sample at
    any distance, are left out, and a sample of a signal has position NaN there.

    References
    ----------
    Viejo, G. et al. (2023). Pynapple, a toolbox for data analysis in neuroscience. eLife 12,
    RP85786. https://doi.org/10.7554/eLife.85786

    Examples
    --------
    >>> import numpy as np
    >>> import pynapple as nap
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> position = nap.TsdFrame(t=np.arange(600) / 10, d=rng.random((600, 2)), columns=["x", "y"])
    >>> times = np.sort(rng.uniform(0, 59.9, 300))
    >>> spikes = nap.Ts(times, time_support=position.time_support)
    >>> recording = pf.from_pynapple(spikes, position, position_units="m")
    >>> dict(recording.sizes), recording.activation.attrs["units"]
    ({'walk': 1, 'time': 600, 'unit': 1}, 'Hz')
    """
    with extra("pynapple"):
        import pynapple as nap
    _check_kind("data", data, (nap.TsGroup, nap.Ts, nap.TsdFrame, nap.Tsd))
    if isinstance(position, Mapping):
        position = _side_by_side(position)
    _check_kind("position", position, (nap.TsdFrame, nap.Tsd))
    spikes = isinstance(data, nap.Ts | nap.TsGroup)
    support = position.time_support
    if epochs is not None:
        _check_kind("epochs", epochs, (nap.IntervalSet,))
        support = support.intersect(epochs)
    if spikes and len(support):
        _warn_of_support(data, support)
    else:
        support = support.intersect(data.time_support)
    if not len(support):
        spans = (
            f"{name} from {_span(timed)}"
            for name, timed in (("data", data), ("position", position), ("epochs", epochs))
            if timed is not None
        )
        raise ValueError(
            f"data and position must overlap in time, got {', '.join(spans)} s; check that all are "
            "on one clock"
        )
    track = _track(position, names, max_gap, circular)
    cut = Cut(support.values, join, bin_size, min_speed)
    labels: dict[str, Any] = {
        "step": "from_pynapple",
        "layer": layer,
        "position_units": position_units,
        "settings": {"session": session} if session else {"spikes": _fingerprint(data)},
    }
    if spikes:
        if units is not None and not is_per_second(units):
            raise ValueError(f"units must be None for spikes, whose rate is in Hz, got {units!r}")
        group = {0: data} if isinstance(data, nap.Ts) else data
        trains = {key: group[key].index.values for key in group.keys()}  # noqa: SIM118
        return sessions.of_spikes(trains, track, cut, **labels)
    values = np.asarray(data.values).reshape(len(data), -1)
    labels |= {
        "units": units or schema.RECORDING[schema.ACTIVATION].units,
        "unit_labels": {"unit_id": list(getattr(data, "columns", [0]))},
    }
    return sessions.of_samples(values, data.index.values, track, cut, **labels)


def to_pynapple(
    recording: xr.Dataset, *, by: Sequence[str] = AXES[:2], sample_rate: float | None = None
) -> tuple[Any, Any]:
    """Convert a recording to two ``TsdFrame`` of pynapple: activations and position.

    Parameters
    ----------
    recording
        Recording.
    by
        Coordinates that make the columns of the position.
    sample_rate
        Samples per second, in Hz, for a recording without ``sample_rate``: pynapple's times are in
        seconds.

    Returns
    -------
    activation, position
        ``TsdFrame`` each, on the recording's ``timestamp`` where it has one; else the walks
        follow one another with one sample left out between them. Every walk is an epoch of the
        time support; a walk without samples is left out. Columns are ``unit_id`` where there is
        one, else the number of the unit; layers are metadata of the columns.

    Raises
    ------
    ImportError
        pynapple is not installed; ``pip install 'placeformer[pynapple]'``.
    ValueError
        The recording breaks the contract, the duration of a step in seconds is not known, or the
        walks cannot be epochs: they overlap in time, or one has a single sample.

    See Also
    --------
    from_pynapple : Convert pynapple's objects to a recording.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> place = {"x": rng.random((2, 500)), "y": rng.random((2, 500))}
    >>> recording = pf.from_arrays(rng.random((2, 500, 3)), place, sample_rate=50)
    >>> activation, position = pf.to_pynapple(recording)
    >>> activation.shape, position.shape, len(activation.time_support)
    ((1000, 3), (1000, 2), 2)
    """
    with extra("pynapple"):
        import pynapple as nap
    schema.check_recording(recording, need=tuple(by))
    times = _times(recording, sample_rate)
    times = np.where(inside_walks(walk_lengths(recording), times.shape[1]), times, np.nan)
    known = np.isfinite(times)
    support = nap.IntervalSet(*_support(times[known.any(axis=1)]))
    order = np.argsort(times[known], kind="stable")  # walks may be in any order
    stamps = times[known][order]
    values = recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).values[known][order]
    place = [recording[k].transpose(schema.WALK, schema.TIME).values[known][order] for k in by]
    ids = recording.get("unit_id")
    activation = nap.TsdFrame(
        t=stamps,
        d=values,
        time_support=support,
        columns=np.arange(values.shape[1]) if ids is None else ids.values,
        metadata={"layer": recording["layer"].values} if "layer" in recording.coords else None,
    )
    axes = np.stack(place, axis=-1)
    return activation, nap.TsdFrame(t=stamps, d=axes, time_support=support, columns=list(by))


def _support(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop of the walks (walk, time) in order, which must be epochs of pynapple.

    pynapple drops epochs of no duration, and joins those that overlap.
    """
    starts, stops = np.nanmin(times, axis=1), np.nanmax(times, axis=1)
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], stops[order]
    if not (starts < stops).all():
        raise ValueError(
            f"walks must have at least two samples to be epochs of pynapple, got one at "
            f"{starts[starts == stops][0]:g} s; leave such walks out with recording.isel(walk=...)"
        )
    first, last = starts[1:], np.maximum.accumulate(stops)[:-1]
    if (first < last).any():
        at = int(np.argmax(first < last))
        raise ValueError(
            "walks must not overlap in time to be epochs of pynapple, got one that starts at "
            f"{first[at]:g} s, before another ends at {last[at]:g} s; convert them separately, or "
            "lay them one after another with recording.drop_vars('timestamp')"
        )
    return starts, stops


def _check_kind(argument: str, value: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"{argument} must be pynapple's {wanted}, got {type(value).__name__}; for plain "
            "arrays use placeformer.from_arrays"
        )


def _fingerprint(data: Any) -> str:
    """Hash of the times and values of spikes or signals."""
    trains = list(data.values()) if hasattr(data, "keys") else [data]
    parts = [np.asarray(train.t) for train in trains]
    if hasattr(data, "d"):
        parts.append(np.ascontiguousarray(data.d[:: max(1, len(data) // 1000)]))
    digest = hashlib.blake2b(repr([part.shape for part in parts]).encode(), digest_size=8)
    for part in parts:
        digest.update(part.tobytes())
    return digest.hexdigest()


def _span(timed: Any) -> str:
    support = getattr(timed, "time_support", timed)
    return f"{support.start[0]:g} to {support.end[-1]:g}" if len(support) else "no time"


def _side_by_side(position: Mapping[str, Any]) -> Any:
    """``Tsd`` of one axis each as one ``TsdFrame``."""
    import pynapple as nap

    series = list(position.values())
    for each in series:
        _check_kind("position", each, (nap.Tsd,))
    if not series or any(not np.array_equal(each.t, series[0].t) for each in series[1:]):
        sizes = {name: len(each) for name, each in position.items()}
        raise ValueError(
            f"position, a mapping, must hold Tsd with the same times, got {sizes} samples; align "
            "one to the times of another with its value_from"
        )
    values = np.stack([each.values for each in series], axis=1)
    support = series[0].time_support
    return nap.TsdFrame(t=series[0].t, d=values, columns=list(position), time_support=support)


def _warn_of_support(data: Any, support: Any) -> None:
    """Warn if the support of spikes covers only part of the position; the rest is silence."""
    own = data.time_support
    times = [data] if not hasattr(data, "keys") else [data[key] for key in data.keys()]  # noqa: SIM118
    times = [train.t for train in times if len(train)]
    if not times or (
        own.start[0] >= min(train[0] for train in times)
        and own.end[-1] <= max(train[-1] for train in times)
    ):
        return  # pynapple made it from the spikes
    total, common = support.tot_length(), support.intersect(own).tot_length()
    if 0 < common < 0.99 * total:
        warn(
            f"the time support of data covers {common:.6g} s of {total:.6g} s of the position; in "
            "the rest its units count as silent, as in pynapple: to leave it out pass "
            "epochs=data.time_support",
        )


def _track(
    position: Any,
    names: Sequence[str] | None,
    max_gap: float | None,
    circular: Mapping[str, float] | None,
) -> Track:
    """Position with the names of its axes."""
    values = np.asarray(position.values, float).reshape(len(position), -1)
    columns = getattr(position, "columns", AXES[:1])
    if names is None:
        textual = all(isinstance(column, str) for column in columns)
        names = [str(c) for c in columns] if textual else AXES[: values.shape[1]]
    if len(names) != values.shape[1] or len(set(names)) < len(names):
        raise ValueError(
            f"names must name each of the {values.shape[1]} axes of the position, with different "
            f"names, got {list(names)}"
        )
    axes = dict(zip(names, values.T, strict=True))
    periodic = ends_of(circular, axes)
    return Track(position.index.values, axes, max_gap, position.time_support.values, periodic)


def _times(recording: xr.Dataset, sample_rate: float | None) -> np.ndarray:
    """Time of every sample (walk, time) in seconds; NaN after the end of a walk."""
    times, timed = sample_times(recording)
    if schema.TIMESTAMP in recording.variables:
        return times
    if not timed:
        if sample_rate is None:
            raise ValueError(
                "sample_rate must be a positive number of Hz, got None: the recording counts "
                "steps, but pynapple seconds; pass sample_rate=1 to count a step as a second"
            )
        check_positive("sample_rate", sample_rate)
        times = times / sample_rate
    rest = np.median(np.diff(times[0])) if times.shape[1] > 1 else 1.0
    length = times[0, -1] - times[0, 0] + 2 * rest
    return np.arange(len(times))[:, None] * length + times
