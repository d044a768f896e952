"""The seconds that every sample of a Recording stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema

ALIKE = 1e-6
"""Relative difference of durations that counts as rounding."""

STALE = 0.01
"""Relative difference of the interval of ``time`` and of ``sample_rate`` that is no rounding."""


def dwell_of(recording: xr.Dataset) -> float | NDArray[np.float64] | None:
    """Seconds of every sample (walk, time), 0 where there is none; one number if all are equal.

    ``None`` where the recording counts steps.

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
            "recording without dwell, the seconds of every sample: keep that variable in what you "
            "select and sum, or assign it, for samples side by side "
            f"recording.assign(dwell=xr.full_like(recording.x, {spacing:.6g}, float))"
        )
    return 1 / float(rate)


def interval(recording: xr.Dataset) -> float | None:
    """Median distance of the samples in seconds; ``None`` where ``time`` counts steps."""
    time: Any = recording.variables.get(schema.TIME)
    if time is None or time.attrs.get("units") != "s" or time.size < 2:
        return None
    return float(np.median(np.diff(time.values)))
