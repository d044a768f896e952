"""The places of a recording, maps kept apart or pooled, and the sums of activations over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import _blocks, _kernels, schema
from placeformer._blocks import integers, mapped
from placeformer.binning import Bins, Grid, axis_names, grid, samples


@dataclass(frozen=True)
class Places:
    """The places of one or several maps: the grid, the maps kept apart, every sample's place."""

    grid: Grid
    maps: xr.DataArray | None
    index: Any
    """Place of every sample (walk, time); -1: none. Dask where the activations are dask."""

    @property
    def size(self) -> int:
        """Places of all maps."""
        return self.grid.size * (1 if self.maps is None else self.maps.size)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the occupancy."""
        return (() if self.maps is None else (schema.MAP,)) + self.grid.names

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the occupancy."""
        return (() if self.maps is None else (self.maps.size,)) + self.grid.shape

    @classmethod
    def of(cls, recording: xr.Dataset, *, by: Sequence[str], bins: Bins, per_map: bool) -> Places:
        """Places of a recording; with ``per_map`` those of every map apart."""
        names = axis_names(by)
        schema.check_recording(recording, need=(*names, *((schema.MAP,) if per_map else ())))
        found = grid(recording, by, bins)
        index = found.index(recording)
        if not per_map:
            return cls(found, None, index)
        maps, number = schema.map_numbers(recording)
        index = of_part(index, number[:, None], found.size, maps.size)
        attrs = {"units": "1", "long_name": "map the walk was made on"}
        return cls(found, xr.DataArray(maps, dims=schema.MAP, attrs=attrs), index)


def of_part(index: Any, part: Any, size: int, n: int) -> Any:
    """Bins of every sample (walk, time) counted on, by ``size`` a part, over n parts; -1 stays."""

    def count(i: NDArray[Any], p: NDArray[Any]) -> NDArray[Any]:
        return np.where(i < 0, -1, i + p.astype(np.intp) * size)

    return mapped(count, index, part, dtype=integers(n * size))


def letters_of(recording: xr.Dataset, places: Places) -> NDArray[np.intp]:
    """Number of the observation at every place of the places; -1 where unvisited.

    Raises
    ------
    ValueError
        A place of a map shows more than one observation.
    """
    schema.check_recording(recording, need=("observation",))
    seen = samples(recording, "observation")
    known, _ = _blocks.distinct(seen)
    n = len(known) + 1  # NaN is a letter of its own

    def pair(place: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
        whole = place.astype(np.intp) * n + np.searchsorted(known, value)
        return np.where(place < 0, -1, whole)

    pairs, _ = _blocks.distinct(mapped(pair, places.index, seen, dtype=integers(places.size * n)))
    found, letter = np.divmod(pairs[pairs >= 0].astype(np.intp), n)
    if np.unique(found).size < found.size:
        raise ValueError(
            "null='within_observation' needs one observation a place of a map, found "
            f"{found.size} pairs for {np.unique(found).size} places; keep maps apart with the "
            "coordinate 'map', use null='circular', or leave the observation out with "
            "recording.drop_vars('observation')"
        )
    number: NDArray[np.intp] = np.full(places.size, -1, np.intp)
    number[found] = letter
    return number


def activations(recording: xr.Dataset) -> Any:
    """Activations as an array (walk, time, unit), NumPy or dask, without a copy."""
    return recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).data


def picked(values: Any, where: tuple[NDArray[np.intp], ...]) -> NDArray[Any]:
    """Activations (sample, unit) at walks and times, of an array (walk, time, unit)."""
    return np.asarray((values.vindex if hasattr(values, "dask") else values)[where])


def unit_sums(
    recording: xr.Dataset, index: Any, size: int, *, skipna: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Sums of every unit's activation over the samples of every bin.

    Returns
    -------
    sums, finite
        Arrays (bin, unit); ``finite`` counts the samples in the sums and is ``None`` without
        ``skipna``, when every sample of a bin is in them.

    Raises
    ------
    ValueError
        A sum is not finite: the units, the number of values and the way out are named; or the
        sums are too large for the memory of the machine.
    """
    values = activations(recording)
    refuse_too_large(size, values.shape[2])
    if skipna:
        terms = _kernels.finite
        sums, finite = _kernels.bin_sums(values, [index, index], [size, size], terms=terms)
        return sums, finite
    (sums,) = _kernels.bin_sums(values, [index], [size])
    refuse_not_finite(recording, sums, index)
    return sums, None


def refuse_too_large(n_places: int, n_units: int, n_arrays: int = 4) -> None:
    """Refuse arrays (place, unit) of float64 that do not fit into the memory of the machine.

    Parameters
    ----------
    n_places, n_units
        Shape of an array.
    n_arrays
        How many such arrays an analysis holds at once: sums, counts, rates and a copy.

    Raises
    ------
    ValueError
        Together they are larger than the physical memory.
    """
    need, there = 8 * n_places * n_units * n_arrays, memory()
    if need > there:
        raise ValueError(
            f"bins make {n_places:,} places, which for {n_units:,} units take "
            f"{need / 1e9:,.1f} GB, but the machine has {there / 1e9:,.1f} GB; pass fewer or wider "
            "bins, or take the units in parts, such as recording.isel(unit=slice(0, 100))"
        )


def memory() -> float:
    """Physical memory in bytes; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return float("inf")


def refuse_not_finite(recording: xr.Dataset, sums: NDArray[np.float64], index: Any) -> None:
    """Raise the error that names units and values where sums (bin, unit) are not finite."""
    units = np.flatnonzero(~np.isfinite(sums).all(axis=0))
    if not units.size:
        return
    bad = np.zeros(sums.shape[1], int)
    inside = np.asarray(index >= 0)[..., None]
    for unit in units:  # few, and only on the way to an error
        values = np.asarray(activations(recording)[:, :, unit : unit + 1])
        bad[unit] = max(1, np.sum(~np.isfinite(values) & inside))  # 1: the sum overflows
    schema.check_finite(recording[schema.ACTIVATION], bad)
