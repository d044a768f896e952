"""Null distributions: a statistic of the data, then of the data with its places shuffled.

Every generator yields the statistic of the data first and then one value a shuffle. Places are
moved, never activations: the large array is read once for several shuffles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import _kernels, schema
from placeformer.binning import Bins, samples
from placeformer.places import Places, activations, unit_sums
from placeformer.ratemaps import assemble
from placeformer.variance import Cells, centre, position_variance_explained

Measure = Callable[[xr.Dataset], xr.DataArray]

GROUP_VALUES = 2**25
"""Most values in the sums of the shuffles that share one read of the activations."""


@dataclass(frozen=True)
class Layout:
    """How samples are put into places: axes, bins, and whether maps are kept apart."""

    by: Sequence[str]
    bins: Bins
    per_map: bool

    def places(self, recording: xr.Dataset, *, per_map: bool | None = None) -> Places:
        """Places of a recording."""
        apart = self.per_map if per_map is None else per_map
        return Places.of(recording, by=self.by, bins=self.bins, per_map=apart)


def circular_maps(
    recording: xr.Dataset,
    layout: Layout,
    n: int,
    low: int,
    rng: np.random.Generator,
    measure: Measure,
) -> Iterator[xr.DataArray]:
    """A measure of rate maps under circular shifts of the places of every walk."""
    places = layout.places(recording)
    sums, _ = unit_sums(recording, places.index, places.size, skipna=False)
    counts = _kernels.bin_counts(places.index, places.size)
    yield measure(assemble(recording, places, sums, counts))
    values = activations(recording)
    for group in _groups(n, places.size * values.shape[2]):
        stacked = _stack(_shifts(places.index, group, low, rng), places.size)
        (sums,) = _kernels.bin_sums(values, [stacked], [group * places.size])
        _refuse_hidden(sums)
        for each in np.split(sums, group):  # a walk keeps its map and places, so counts stay
            yield measure(assemble(recording, places, each, counts))


def circular_variance(
    recording: xr.Dataset,
    layout: Layout,
    n: int,
    low: int,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Iterator[xr.DataArray]:
    """Variance explained by place under circular shifts of the places of every walk."""
    kw = dict(options)
    data = position_variance_explained(
        recording, by=layout.by, bins=layout.bins, per_map=layout.per_map, **kw
    )
    yield data
    given, maps, adjusted = kw.get("given"), kw.get("maps", "apart"), kw.get("adjusted", True)
    cells = Cells.of(recording, by=layout.by, bins=layout.bins, given=given, maps=maps)
    values = activations(recording)
    sizes = [len(cells.counts), len(cells.maps)]
    terms = _kernels.moments(centre(values))
    for group in _groups(n, sizes[0] * values.shape[2]):
        shifts = _shifts(np.stack([cells.index, cells.walk_map], -1), group, low, rng)
        index = [_stack([s[..., i] for s in shifts], sizes[i]) for i in (0, 1)]
        sums, squares = _kernels.bin_sums(values, index, [group * s for s in sizes], terms=terms)
        _refuse_hidden(squares)
        for pair in zip(np.split(sums, group), np.split(squares, group), strict=True):
            explained = cells.explained(*pair, adjusted=adjusted, per_map=layout.per_map)
            yield data.copy(data=explained)


def relabelled_maps(
    recording: xr.Dataset, layout: Layout, n: int, rng: np.random.Generator, measure: Measure
) -> Iterator[xr.DataArray]:
    """A measure of rate maps whose places trade their rates within map and letter."""
    has_maps = schema.MAP in recording.variables
    places = layout.places(recording, per_map=has_maps or layout.per_map)
    sums, _ = unit_sums(recording, places.index, places.size, skipna=False)
    counts = _kernels.bin_counts(places.index, places.size)
    letters = _letters(recording, places)
    out = places if layout.per_map else replace(places, maps=None)

    def statistic(order: NDArray[np.intp]) -> xr.DataArray:
        laid_out = sums[order].reshape(-1, out.size, sums.shape[1]).sum(axis=0)
        visits = counts[order].reshape(-1, out.size).sum(axis=0)
        return measure(assemble(recording, out, laid_out, visits))

    yield statistic(np.arange(places.size))
    for _ in range(n):
        yield statistic(_trade(letters, rng))


def _groups(n: int, values_each: int) -> Iterator[int]:
    """Numbers of shuffles that share one read of the activations."""
    size = int(np.clip(GROUP_VALUES // max(values_each, 1), 1, 16))
    yield from (min(size, n - start) for start in range(0, n, size))


def _shifts(
    index: NDArray[np.intp], n: int, low: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Shuffles of an index (walk, time, ...): every walk rolled in time by a shift of its own."""
    n_walks, n_steps = index.shape[:2]
    rows = np.arange(n_walks)[:, None]
    shift = rng.integers(low, n_steps - low + 1, (n, n_walks))
    return [index[rows, (np.arange(n_steps) - s[:, None]) % n_steps] for s in shift]


def _stack(shuffles: list[NDArray[np.intp]], size: int) -> NDArray[np.intp]:
    """Bins of several shuffles (shuffle, walk, time), counted on from one to the next."""
    return np.stack([np.where(s < 0, -1, s + k * size) for k, s in enumerate(shuffles)])


def _refuse_hidden(sums: NDArray[np.float64]) -> None:
    """Refuse values that the data leave out, for want of a place, and a shift brings in."""
    units = np.flatnonzero(~np.isfinite(sums).all(axis=0))
    if units.size:
        raise ValueError(
            f"activation must be finite at every step of a walk for null='circular', also where "
            f"the place is NaN: {units.size} units are not (first: number {units[0]}); cut those "
            "steps off the walks"
        )


def _letters(recording: xr.Dataset, places: Places) -> NDArray[np.intp]:
    """Number of the map and letter of every place of the places; -1 where unvisited.

    Raises
    ------
    ValueError
        A place of a map shows more than one letter.
    """
    schema.check_recording(recording, need=("observation",))
    here = places.index >= 0
    place = places.index[here]
    seen = np.broadcast_to(samples(recording, "observation"), here.shape)[here]
    letter = np.unique(seen, return_inverse=True)[1]
    n_letters = int(letter.max(initial=0)) + 1
    pairs = np.unique(place * n_letters + letter)
    found = pairs // n_letters
    if np.unique(found).size < found.size:
        raise ValueError(
            "null='within_observation' needs one observation a place of a map, found "
            f"{found.size} pairs for {np.unique(found).size} places; keep maps apart with the "
            "coordinate 'map', or use null='circular'"
        )
    number: NDArray[np.intp] = np.full(places.size, -1, np.intp)
    number[found] = found // places.grid.size * n_letters + pairs % n_letters
    return number


def _trade(letters: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Permutation of places that keeps every place's number of map and letter."""
    order = np.arange(len(letters))
    old = np.argsort(letters, kind="stable")
    new = np.lexsort((rng.random(len(letters)), letters))
    order[old] = new
    return np.where(letters < 0, np.arange(len(letters)), order)
