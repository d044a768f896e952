"""Number of steps of every walk: shorter walks of a recording end in NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.blocks import BLOCK_SAMPLES


def walk_lengths(recording: xr.Dataset, among: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Steps of every walk up to its last activation, shape (walk,).

    A walk ends before the steps at its end at which every unit is NaN. Activations are read only of
    the walks ``among`` (walk,), by default all, starting at their end.
    """
    values = recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).data
    return lengths_of(values, among)


def lengths_of(values: Any, among: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Steps of every walk of an array (walk, time, unit), as :func:`walk_lengths` counts them."""
    n_walks, n_steps = values.shape[:2]
    lengths = np.full(n_walks, n_steps, np.intp)
    among = np.ones(n_walks, bool) if among is None else among
    if values.dtype.kind == "f" and among.any() and n_steps:
        candidates = np.flatnonzero(among)
        for walk in candidates[_missing(values[candidates, -1])]:
            lengths[walk] = _length(values[walk])
    return lengths


def inside_walks(lengths: NDArray[np.intp], n_steps: int) -> NDArray[np.bool_]:
    """Whether every step (walk, time) lies within its walk."""
    return np.asarray(np.arange(n_steps) < lengths[:, None])


def _length(values: Any) -> int:
    """Steps of a walk (time, unit) up to the last that is not missing, read from its end."""
    for stop in range(len(values), 0, -BLOCK_SAMPLES):
        start = max(0, stop - BLOCK_SAMPLES)
        known = np.flatnonzero(~_missing(values[start:stop]))
        if known.size:
            return int(start + known[-1] + 1)
    return 0


def _missing(values: Any) -> NDArray[np.bool_]:
    """Whether every unit is NaN, of values (..., unit)."""
    return np.isnan(np.asarray(values)).all(axis=-1)
