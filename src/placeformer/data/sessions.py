"""A session of an animal: spikes or samples and position on one clock, cut into walks.

Times are seconds on the session's clock, in ascending order; epochs are rows of start and stop,
both ends included. Every epoch makes a walk, unless epochs are joined.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from placeformer._warnings import warn
from placeformer.data import schema
from placeformer.data.arrays import SPEED, check_positive, from_arrays, of_moving, padded
from placeformer.data.circular import axes_of_speed, check_periods, unwrapped
from placeformer.data.clock import (
    ROUNDING,
    Clock,
    Floats,
    check_times,
    gap_of,
    inside,
    speed,
    warn_of_units,
)

FEW, SOME = 200, 20
"""Spikes and position seem to be on different clocks if fewer than one spike in 200 lies within the
tracking, or if all of at least 20 spikes lie within less than 1/200 of its duration."""


@dataclass(frozen=True)
class Track:
    """Position over time: times (sample,), the values of every axis by name (sample,), and gaps."""

    times: Floats
    axes: Mapping[str, Floats]
    max_gap: float | None = None
    support: ArrayLike | None = None
    """Rows of start and stop of the tracking; by default from the first to the last sample."""
    periodic: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Ends of the circular axes, on which means and speeds go the short way round.

    The recording declares these axes as circular. Those other than x, y and z do not enter the
    speed, unless there are no other axes.
    """
    clock: Clock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise if times do not ascend."""
        check_times(self.times, "position")
        gap = gap_of(self.times, self.max_gap, "position")
        warn_of_units(self.times, self.max_gap, "times of the position")
        part = None
        if self.support is not None:
            part = np.searchsorted(np.atleast_2d(self.support)[:, 0], self.times, side="right")
        object.__setattr__(self, "max_gap", gap)
        object.__setattr__(self, "clock", Clock.of(self.times, gap, part))

    def frames(self, start: float, stop: float) -> Frames:
        """The samples of one epoch."""
        clock, part = self.clock.between(start, stop), inside(self.times, start, stop)
        axes = {name: axis[part] for name, axis in self.axes.items()}
        return Frames(clock.times, axes, clock.dwell, clock.number)

    def bins(self, start: float, stop: float, width: float) -> Frames:
        """Time bins of one epoch, each at the mean position of its samples.

        The last bin ends with the epoch: it is half to one and a half times as wide as the others.
        A bin without a sample takes the position of the sample nearest to its centre.
        """
        samples = self.frames(start, stop)
        if not len(samples.times):
            return samples
        n = max(1, int((stop - start) / width + 0.5 + ROUNDING))
        edges = np.append(start + width * np.arange(n), stop)
        centres = (edges[:-1] + edges[1:]) / 2

        def number(times: Floats) -> NDArray[np.intp]:
            bins = np.searchsorted(edges, times, side="right") - 1
            return np.where(times == stop, n - 1, np.where(bins < n, bins, -1))

        bins, near = number(samples.times), samples.number(centres)
        axes = {}
        for name, axis in samples.axes.items():
            known = np.isfinite(axis)
            whole = axis[known]
            if name in self.periodic:
                whole = unwrapped(whole, self.periods[name])
            total = np.bincount(bins[known], whole, n)
            count = np.bincount(bins[known], minlength=n)
            lent = np.append(axis, np.nan)[near]  # the last value is for bins without a sample
            lent[np.bincount(bins, minlength=n) > 0] = np.nan
            axes[name] = np.divide(total, count, out=lent, where=count > 0)
            if name in self.periodic:
                low, high = self.periodic[name]
                axes[name] = low + (axes[name] - low) % (high - low)
        return Frames(centres, axes, np.diff(edges), number)

    def with_speed(self) -> Track:
        """The track with the speed as a further axis."""
        if SPEED in self.axes:
            raise ValueError(
                f"min_speed must be None if the position has an axis {SPEED!r}, the name of the "
                "speed that it computes; use recording.where(recording.speed >= least) instead"
            )
        assert self.max_gap is not None
        fast = speed(self.times, axes_of_speed(self.axes, self.periods), self.max_gap)
        return replace(self, axes={**self.axes, SPEED: fast})

    @property
    def periods(self) -> dict[str, float]:
        """Periods of the circular axes."""
        return {name: high - low for name, (low, high) in self.periodic.items()}


def ends_of(
    circular: Mapping[str, float] | None, axes: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Ends of the circular axes of a position, from their periods."""
    periods = check_periods(circular)
    unknown = sorted(set(periods) - set(axes))
    if unknown:
        raise ValueError(f"circular must name axes of the position, {list(axes)}, got {unknown}")
    return {name: (0.0, period) for name, period in periods.items()}


@dataclass(frozen=True)
class Frames:
    """The steps of one walk: samples of the position, time bins, or samples of a signal."""

    times: Floats
    axes: Mapping[str, Floats]
    dwell: Floats
    number: Callable[[Floats], NDArray[np.intp]]
    """Function of times within the epoch that gives the frame of each; -1 for no frame."""

    def counts(self, trains: Sequence[Floats], start: float, stop: float) -> NDArray[np.float64]:
        """Number of spikes of one epoch, (frame, unit)."""
        counts = np.zeros((len(self.times), len(trains)))
        for unit, train in enumerate(trains):
            number = self.number(train[inside(train, start, stop)])
            counts[:, unit] = np.bincount(number[number >= 0], minlength=len(counts))
        return counts

    def select(self, frames: NDArray[np.bool_]) -> Frames:
        """Some of the frames; `number` still counts all of them."""
        axes = {name: axis[frames] for name, axis in self.axes.items()}
        return Frames(self.times[frames], axes, self.dwell[frames], self.number)


@dataclass(frozen=True)
class Cut:
    """How a session is cut into steps and walks."""

    epochs: ArrayLike
    join: bool = False
    bin_size: float | None = None
    min_speed: float | None = None

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        for name in ("bin_size", "min_speed"):
            check_positive(name, getattr(self, name))

    def spans(self) -> Floats:
        """Epochs as an array (epoch, 2); those that do not end after they start are left out.

        Epochs to be joined are sorted by time, and those that overlap or adjoin are merged.
        """
        spans = rows_of(self.epochs)
        good = spans[:, 0] < spans[:, 1]
        bad = np.flatnonzero(~good)
        rows = ", ".join(f"row {k}: {spans[k].tolist()}" for k in bad[:3])
        rows += ", ..." if len(bad) > 3 else ""
        if not good.any():
            raise ValueError(
                "epochs must be rows of start and stop in seconds, start before stop, got "
                f"{rows or 'no row'}"
            )
        if bad.size:
            warn(
                f"{len(bad)} of {len(spans)} epochs do not end after they start and are left out "
                f"({rows})",
            )
        return _united(spans[good]) if self.join else np.asarray(spans[good])


def rows_of(epochs: Any) -> Floats:
    """Rows of start and stop of epochs.

    Raises
    ------
    ValueError
        They are not rows of two numbers.
    """
    try:
        spans = np.atleast_2d(np.asarray(epochs, float))
        found = f"an array of shape {spans.shape}"
    except (TypeError, ValueError):  # text, a mapping
        spans, found = np.empty((0, 0)), reprlib.repr(epochs)
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise ValueError(f"epochs must be rows of start and stop in seconds, got {found}")
    return spans


def _united(spans: Floats) -> Floats:
    """Epochs sorted by time; those that overlap or adjoin are merged."""
    start, stop = spans[np.argsort(spans[:, 0])].T
    stop = np.maximum.accumulate(stop)
    twice = np.flatnonzero(start[1:] < stop[:-1] - ROUNDING)
    if twice.size:
        at = twice[0]
        warn(
            f"{twice.size} of {len(spans)} epochs start before an earlier one ends (the first at "
            f"{start[at + 1]:g} s, before {stop[at]:g} s); join=True counts the time that they "
            "share once. To count it twice, pass join=False, which makes every epoch a walk",
        )
    apart = start[1:] > stop[:-1]
    return np.stack([start[np.append(True, apart)], stop[np.append(apart, True)]], axis=1)


def of_spikes(trains: Mapping[Any, ArrayLike], track: Track, cut: Cut, **labels: Any) -> xr.Dataset:
    """Recording of spike trains, in Hz, on the samples of the position or in time bins.

    Every spike counts at the nearest sample of its epoch; the rate is the count divided by the
    seconds that the sample represents. Spikes in gaps of the tracking are left out.

    Parameters
    ----------
    trains
        Spike times of every unit by its id.
    track, cut
        Position, and how it is cut into walks.
    labels
        Options of :func:`from_arrays`, and ``step`` and ``settings`` of the provenance.
    """
    spans = cut.spans()
    track = track.with_speed() if cut.min_speed is not None else track
    rate = _sample_rate(track, spans) if cut.bin_size is None else 1 / cut.bin_size
    times = _checked_trains(trains, track)
    walks = []
    for start, stop in spans:
        if cut.bin_size is None:
            frames = track.frames(start, stop)
        else:
            frames = track.bins(start, stop, cut.bin_size)
        rates = frames.counts(times, start, stop) / frames.dwell[:, None]
        walks.append((frames, rates.astype(np.float32)))
    labels = {"units": "Hz", "unit_labels": {"unit_id": list(trains)}, **labels}
    return _label(walks, spans, rate, track, cut, **labels)


def of_samples(
    values: NDArray[Any],
    times: Floats,
    track: Track,
    cut: Cut,
    *,
    dwell: Floats | None = None,
    **labels: Any,
) -> xr.Dataset:
    """Recording of samples (sample, unit) at their own times, or of their means in time bins.

    Every sample takes the position of the nearest sample of the track, NaN in a gap. `dwell` holds
    the seconds that every sample represents, if they are known otherwise; they weight the means.
    """
    check_times(times, "data")
    spans = cut.spans()
    track = track.with_speed() if cut.min_speed is not None else track
    gap = gap_of(times, None, "data")
    own = Track(times, {}, gap)
    rate = _sample_rate(own, spans, "data") if cut.bin_size is None else 1 / cut.bin_size
    walks = []
    for start, stop in spans:
        part = inside(times, start, stop)
        if cut.bin_size is not None:
            bins = track.bins(start, stop, cut.bin_size)
            weight = np.ones(len(times)) if dwell is None else dwell
            number = bins.number(times[part])
            known = number >= 0
            total = np.bincount(number[known], weight[part][known], len(bins.times))
            sums = np.zeros((len(total), values.shape[1]))
            np.add.at(sums, number[known], (values * weight[:, None])[part][known])
            seen = total > 0
            if dwell is not None:
                bins = replace(bins, dwell=total.astype(float))
            walks.append((bins.select(seen), sums[seen] / total[seen, None]))
            continue
        position = track.frames(start, stop)
        near = position.number(times[part])
        axes = {name: np.append(axis, np.nan)[near] for name, axis in position.axes.items()}
        if dwell is None:
            seconds = Clock.of(times[part], gap).dwell
            seconds = np.where(np.isnan(seconds), own.clock.dwell[part], seconds)  # one sample
        else:
            seconds = dwell[part]
        walks.append((Frames(times[part], axes, seconds, position.number), values[part]))
    return _label(walks, spans, rate, track, cut, **labels)


def _sample_rate(track: Track, spans: Floats, argument: str = "position") -> float:
    """Samples per second: 1 over the mean interval between samples of an epoch, without gaps."""
    steps = np.concatenate([np.diff(track.times[inside(track.times, *span)]) for span in spans])
    steps = steps[steps <= track.max_gap]
    if not steps.size:
        raise ValueError(
            f"{argument} must have two samples in an epoch, which give its sample rate, got "
            f"{track.times[0]:g} to {track.times[-1]:g} s and the epochs "
            f"{spans.tolist()[:3]} s; check that both use one clock"
        )
    return float(1 / np.mean(steps))


def _checked_trains(trains: Mapping[Any, ArrayLike], track: Track) -> list[Floats]:
    """Ascending spike times of every unit.

    Raises
    ------
    ValueError
        Times that are not finite, or no spike within the tracking.
    """
    checked, shuffled = [], []
    for key, train in trains.items():
        times = np.asarray(train, float).ravel()
        bad = np.count_nonzero(~np.isfinite(times))
        if bad:
            raise ValueError(
                f"spike times of unit {key} must be finite, got {bad} of {len(times)} that are NaN "
                "or infinite; drop these spikes, or leave out the unit"
            )
        if np.any(np.diff(times) < 0):
            shuffled.append(key)
            times = np.sort(times)
        checked.append(times)
    if shuffled:
        warn(
            f"spike times of {len(shuffled)} units do not ascend and were sorted (units "
            f"{', '.join(map(str, shuffled[:5]))}{', ...' if len(shuffled) > 5 else ''}); times "
            "that start again within a unit may come from several clocks",
        )
    _check_one_clock(checked, track.times[0], track.times[-1])
    return checked


def _check_one_clock(trains: list[Floats], start: float, stop: float) -> None:
    """Raise if no spike lies within the tracking; warn if only a few do."""
    n = sum(map(len, trains))
    if not n:
        return
    n_inside = sum(len(train[inside(train, start, stop)]) for train in trains)
    first = min(train[0] for train in trains if len(train))
    last = max(train[-1] for train in trains if len(train))
    where = (
        f"the spikes are from {first:g} to {last:g} s, the position from {start:g} to {stop:g} s"
    )
    advice = "both must be in seconds on one clock"
    if not n_inside:
        raise ValueError(f"spikes and position must overlap in time, but {where}; {advice}")
    if n_inside * FEW < n or (n >= SOME and (last - first) * FEW < stop - start):
        warn(
            f"{n_inside} of {n:,} spikes lie within the position's time: {where}; {advice}",
        )


def _label(
    walks: list[tuple[Frames, NDArray[Any]]],
    spans: Floats,
    rate: float,
    track: Track,
    cut: Cut,
    *,
    step: str,
    unit_labels: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Walks as a Recording; shorter walks end in NaN. Epochs without samples are left out."""
    empty = [span for span, (_, values) in zip(spans, walks, strict=True) if not len(values)]
    walks = [(frames, values) for frames, values in walks if len(values)]
    if not walks:
        raise ValueError(
            f"epochs must hold samples, but the position is from {track.times[0]:g} to "
            f"{track.times[-1]:g} s; check that both use one clock"
        )
    if empty:
        rows = ", ".join(str(span.tolist()) for span in empty[:3])
        warn(
            f"{len(empty)} of {len(spans)} epochs hold no sample and make no walk ({rows}"
            f"{', ...' if len(empty) > 3 else ''})",
        )
    stack = _join if cut.join else padded
    values = stack([values for _, values in walks])
    axes = {name: stack([frames.axes[name] for frames, _ in walks]) for name in track.axes}
    times, dwell = (stack([getattr(f, name) for f, _ in walks]) for name in ("times", "dwell"))
    behaviour: dict[str, NDArray[Any]] = {}
    if cut.min_speed is not None:
        behaviour[SPEED] = axes.pop(SPEED)
        axes = of_moving(axes, behaviour[SPEED], cut.min_speed)
    recording = from_arrays(
        values,
        axes,
        sample_rate=rate,
        behaviour=behaviour,
        check_finite=False,
        circular=track.periods,
        **options,
    )
    bad = (~np.isfinite(values) & ~np.isnan(times)[..., None]).sum((0, 1))
    schema.check_finite(recording[schema.ACTIVATION], bad)
    recording[schema.DWELL].values[:] = dwell
    about = {"units": "s", "long_name": "time on the session's clock"}
    recording = recording.assign_coords(
        {schema.TIMESTAMP: (schema.STEP_DIMS, times, about)}
        | {name: (schema.UNIT, np.asarray(v)) for name, v in (unit_labels or {}).items()}
    )
    if unit_labels and "unit_id" in unit_labels:
        recording[schema.UNIT] = schema.unit_labels(unit_labels["unit_id"])
    chosen = {name: getattr(cut, name) for name in ("bin_size", "min_speed")}
    chosen = {"max_gap": track.max_gap} | {k: v for k, v in chosen.items() if v is not None}
    recording.attrs |= chosen
    recording.attrs[schema.PROVENANCE] = schema.provenance(
        None, step, epochs=len(walks), join=cut.join, **chosen, **(settings or {})
    )
    return recording


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts)[None]
