"""A session of an animal: spikes or samples and position on one clock, cut into walks.

Times are seconds on the session's clock, in ascending order; epochs are rows of start and stop,
both ends included. One epoch makes one walk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from placeformer.data import schema
from placeformer.data.arrays import from_arrays

Floats = NDArray[np.floating[Any]]

TIMESTAMP = "timestamp"
"""Coordinate (walk, time): time of a sample on the session's clock; NaN: no sample."""


@dataclass(frozen=True)
class Track:
    """Position over time: times (sample,) and the values of every axis by name (sample,)."""

    times: Floats
    axes: Mapping[str, Floats]

    def __post_init__(self) -> None:
        """Raise if times do not ascend."""
        _check_times(self.times, "position")

    def between(self, start: float, stop: float) -> Track:
        """The samples of one epoch."""
        part = inside(self.times, start, stop)
        return Track(self.times[part], {name: axis[part] for name, axis in self.axes.items()})

    def at(self, times: Floats, reach: float) -> Track:
        """Position at other times: that of the nearest sample, NaN where none is within reach."""
        near = nearest(times, self.times, reach)
        known = near >= 0
        axes = {name: np.full(len(times), np.nan) for name in self.axes}
        for name, axis in axes.items():
            axis[known] = self.axes[name][near[known]]
        return Track(times, axes)


def of_spikes(
    trains: Sequence[Floats], track: Track, epochs: ArrayLike, **labels: Any
) -> xr.Dataset:
    """Recording of spike trains, in Hz, on the samples of the position.

    Every spike counts at the nearest sample of its epoch, and a count times the sample rate is
    the rate. A spike further than one sample interval from any sample is left out.
    """
    spans = _spans(epochs)
    rate = sample_rate(track.times, spans, "position")
    walks = []
    for start, stop in spans:
        part = track.between(start, stop)
        counts = np.empty((len(part.times), len(trains)), np.float32)
        for unit, train in enumerate(trains):
            near = nearest(train[inside(train, start, stop)], part.times, 1 / rate)
            counts[:, unit] = np.bincount(near[near >= 0], minlength=len(counts))
        walks.append((part, counts * np.float32(rate)))
    return _label(walks, rate, **{"units": "Hz", **labels})


def of_samples(
    values: NDArray[Any], times: Floats, track: Track, epochs: ArrayLike, **labels: Any
) -> xr.Dataset:
    """Recording of samples (sample, unit) on their own times, each at the nearest position.

    A sample further than one interval of the position from any of its samples has position NaN.
    """
    _check_times(times, "data")
    spans = _spans(epochs)
    rate = sample_rate(times, spans, "data")
    reach = 1 / sample_rate(track.times, spans, "position")
    walks = []
    for start, stop in spans:
        part = inside(times, start, stop)
        walks.append((track.between(start, stop).at(times[part], reach), values[part]))
    return _label(walks, rate, **labels)


def inside(times: Floats, start: float, stop: float) -> slice:
    """Samples of ascending times from start to stop, both included."""
    return slice(int(np.searchsorted(times, start)), int(np.searchsorted(times, stop, "right")))


def nearest(times: Floats, targets: Floats, reach: float) -> NDArray[np.intp]:
    """Index of the nearest target of every time, the later of two equally near; -1 out of reach."""
    if not len(targets):
        return np.full(len(times), -1)
    after = np.searchsorted(targets, times)
    left, right = (np.clip(after - back, 0, len(targets) - 1) for back in (1, 0))
    near = np.where(targets[right] - times <= times - targets[left], right, left)
    return np.where(np.abs(targets[near] - times) <= reach, near, -1)


def sample_rate(times: Floats, epochs: Floats, argument: str) -> float:
    """Samples per second: 1 over the median interval between samples of an epoch."""
    steps = np.concatenate([np.diff(times[inside(times, *epoch)]) for epoch in epochs])
    if not steps.size:
        span = f"{times[0]:g} to {times[-1]:g} s" if len(times) else "no sample"
        raise ValueError(
            f"{argument} must have two samples in an epoch, which give its sample rate, got {span} "
            f"and the epochs {epochs.tolist()[:3]} s; check that both use one clock"
        )
    return float(1 / np.median(steps))


def _check_times(times: Floats, argument: str) -> None:
    faults = np.flatnonzero(~(np.diff(times) > 0))
    if faults.size:
        raise ValueError(
            f"times of {argument} must ascend and not be NaN, got {times[faults[0]]:g} s and "
            f"then {times[faults[0] + 1]:g} s; sort the samples and drop those without a time"
        )


def _spans(epochs: ArrayLike) -> Floats:
    """Epochs as an array (epoch, 2)."""
    spans = np.atleast_2d(np.asarray(epochs, float))
    if spans.ndim != 2 or spans.shape[1] != 2 or not np.all(spans[:, 0] < spans[:, 1]):
        raise ValueError(
            "epochs must be rows of start and stop in seconds, start before stop, got "
            f"{spans.tolist()[:3]}"
        )
    return spans


def _label(
    walks: list[tuple[Track, NDArray[Any]]],
    rate: float,
    *,
    step: str,
    join: bool = False,
    unit_labels: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Walks as a Recording; shorter ones end in NaN. Epochs without samples are left out."""
    walks = [(track, values) for track, values in walks if len(values)]
    stack = _join if join else _pad
    values = stack([values for _, values in walks])
    axes = {name: stack([track.axes[name] for track, _ in walks]) for name in walks[0][0].axes}
    times = stack([track.times for track, _ in walks])
    recording = from_arrays(values, axes, sample_rate=rate, check_finite=False, **options)
    bad = (~np.isfinite(values) & ~np.isnan(times)[..., None]).sum((0, 1))
    schema.check_finite(recording[schema.ACTIVATION], bad)
    about = {"units": "s", "long_name": "time on the session's clock"}
    recording = recording.assign_coords(
        {TIMESTAMP: ((schema.WALK, schema.TIME), times, about)}
        | {name: (schema.UNIT, np.asarray(v)) for name, v in (unit_labels or {}).items()}
    )
    if unit_labels and "unit_id" in unit_labels:
        recording[schema.UNIT] = schema.unit_labels(unit_labels["unit_id"])
    recording.attrs[schema.PROVENANCE] = schema.provenance(
        None, step, epochs=len(walks), join=join, **(settings or {})
    )
    return recording


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts)[None]


def _pad(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Stack arrays (time, ...) as one (walk, time, ...), padding shorter ones with NaN."""
    if len(parts) == 1:
        return parts[0][None]
    shape = (len(parts), max(map(len, parts)), *parts[0].shape[1:])
    out = np.full(shape, np.nan, np.result_type(parts[0], np.float32))
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out
