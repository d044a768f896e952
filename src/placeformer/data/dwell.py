"""When the samples of a Recording were taken, and the seconds that each represents."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.clock import check_times, gap_of

ALIKE = 1e-6
"""Relative difference of durations that counts as rounding."""

STALE = 0.01
"""Relative difference between the intervals of ``time`` and of ``sample_rate`` that is too large
for rounding."""


def dwell_of(recording: xr.Dataset) -> float | NDArray[np.float64] | None:
    """Seconds of every sample (walk, time), 0 for no sample; one number if all are equal.

    ``None`` if the recording counts steps.

    Raises
    ------
    ValueError
        The recording has lost its ``dwell``, and its ``time`` contradicts its sample rate.
    """
    if schema.DWELL in recording.variables:
        schema.check_recording(recording, need=(schema.DWELL,))
        seconds = recording[schema.DWELL].transpose(*schema.STEP_DIMS).values
        known = seconds > 0  # not where NaN
        longest = float(np.max(seconds, where=known, initial=0.0))
        if not known.any() or not np.isfinite(longest):
            raise ValueError(
                "dwell must be finite seconds above 0, or NaN where a sample does not count, got "
                f"{longest:g} s at most"
            )
        shortest = float(np.min(seconds, where=known, initial=longest))
        if known.all() and longest - shortest <= ALIKE * longest:
            return longest
        return np.where(known, seconds, 0.0).astype(np.float64)
    rate = recording.attrs.get("sample_rate")
    if rate is None:
        return None
    spacing = interval(recording)
    if spacing is not None and abs(spacing * rate - 1) > STALE:
        raise ValueError(
            f"sample_rate must fit time, got {rate:g} Hz for samples {spacing:.6g} s apart in a "
            "recording without dwell, the seconds of every sample: keep that variable when you "
            "select and sum, or assign it; for contiguous samples, use "
            f"recording.assign(dwell=xr.full_like(recording.x, {spacing:.6g}, float))"
        )
    return 1 / float(rate)


def interval(recording: xr.Dataset) -> float | None:
    """Median interval between samples in seconds; ``None`` if ``time`` counts steps."""
    time: Any = recording.variables.get(schema.TIME)
    if time is None or time.attrs.get("units") != "s" or time.size < 2:
        return None
    return float(np.median(np.diff(time.values)))


def sample_times(recording: xr.Dataset) -> tuple[NDArray[np.float64], bool]:
    """Seconds of every sample (walk, time), or its step in a recording without a clock.

    They are taken from ``timestamp``, or else from ``time``, which selections and means keep. The
    second value says whether they are seconds.

    Raises
    ------
    ValueError
        The times of a walk do not ascend, or walks that were sampled at two rates share ``time``.
    """
    n_steps = recording.sizes[schema.TIME]
    if schema.TIMESTAMP in recording.variables:
        found, timed = recording[schema.TIMESTAMP].values, True
        if recording[schema.TIMESTAMP].dims == (schema.TIME, schema.WALK):
            found = found.T
    else:
        time: Any = recording.variables.get(schema.TIME)
        units = None if time is None or time.dtype.kind not in "iuf" else time.attrs.get("units")
        found = time.values if units in ("s", "1") else np.arange(n_steps)
        rate = recording.attrs.get("sample_rate")
        timed = bool(units == "s" or rate)
        if timed:
            _check_one_clock(recording, found)
        if rate and units != "s":
            found = found / float(rate)
    times = np.broadcast_to(found, (recording.sizes[schema.WALK], n_steps)).astype(np.float64)
    for walk, row in enumerate(times):
        check_times(row[np.isfinite(row)], f"walk {walk}")
    return times, timed


def _check_one_clock(recording: xr.Dataset, times: NDArray[Any]) -> None:
    """Refuse walks whose samples fill different fractions of the intervals, as at two rates."""
    if schema.DWELL not in recording.variables:
        return
    shares = []
    for row in recording[schema.DWELL].transpose(*schema.STEP_DIMS).values:
        known = row > 0
        if known.sum() > 1:
            shares.append(float(np.median(row[known]) / np.median(np.diff(times[known]))))
    if shares and max(shares) > (1 + STALE) * min(shares):
        raise ValueError(
            "walks without timestamp must have one sampling rate, as they share the coordinate "
            f"time, got samples that fill {min(shares):.3g} to {max(shares):.3g} of the time to "
            "the next (dwell): keep timestamp when walks are joined, or analyse each rate "
            "separately"
        )


def gap_in(recording: xr.Dataset, times: NDArray[np.float64]) -> float:
    """Largest interval between ``times`` of a recording that is not a gap.

    It is ``attrs["max_gap"]`` of the recording, times k if every k-th sample was selected; or the
    default, if the recording has none or its samples, such as time bins, are further apart.
    """
    interval = float(np.median(np.diff(times)))
    taken, rate = (recording.attrs.get(name) for name in ("max_gap", "sample_rate"))
    if taken is not None:
        gap = float(taken) * max(1, round(interval * float(rate or 0)))
        if gap > interval * (1 + STALE):
            return gap
    return gap_of(times, None, "a walk")
