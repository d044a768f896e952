"""Null distributions: circular shifts of walks, and permutations of rates within an observation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import Bins, Places, activations, letters_of, unit_sums
from placeformer.spatial.circular_shifts import circular_shifts
from placeformer.spatial.mutual_information import mutual_information, shifted_bits
from placeformer.spatial.rate_maps import assemble
from placeformer.spatial.variance_explained import (
    Cells,
    add_rows,
    centre,
    position_variance_explained,
    sums_of_squares,
)

Null = tuple[xr.DataArray, Iterator[NDArray[np.float64]]]

SHUFFLE = "shuffle"

GROUP_VALUES = 2**25
"""Most values in the sums of the shuffles that share one read of the activations."""


@dataclass(frozen=True)
class Measure:
    """A function of rate maps, and whether it keeps a leading dimension of the maps."""

    function: Callable[[xr.Dataset], xr.DataArray]
    keeps_dimensions: bool

    def of_shuffles(self, maps: xr.Dataset) -> NDArray[np.float64]:
        """Values (shuffle, ...) of maps with a leading dimension ``shuffle``."""
        if self.keeps_dimensions:
            return np.asarray(self.function(maps).values)
        each = (maps.isel({SHUFFLE: k}) for k in range(maps.sizes[SHUFFLE]))
        return np.stack([self.function(one).values for one in each])


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
) -> Null:
    """A measure of rate maps under circular shifts of the places of every walk."""
    places = layout.places(recording)
    sums, _ = unit_sums(recording, places.index, places.size, skipna=False)
    counts = _blocks.counts(places.index, places.size)
    maps = assemble(recording, places, sums, counts)
    visits = counts[None]  # a walk keeps its places, so counts stay

    def draws() -> Iterator[NDArray[np.float64]]:
        values, index = activations(recording), np.asarray(places.index)
        for group in groups(n, places.size * values.shape[2]):
            amounts = circular_shifts(index.shape, group, low, rng)
            shifted = _kernels.Shifted(index, amounts, places.size)
            (moved,) = _kernels.bin_sums(values, [shifted], [group * places.size])
            _refuse_hidden(moved)
            each = moved.reshape(group, places.size, -1)
            yield measure.of_shuffles(shuffled(maps, places, each, visits.repeat(group, 0)))

    return measure.function(maps), draws()


def circular_variance(
    recording: xr.Dataset,
    layout: Layout,
    n: int,
    low: int,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Null:
    """Variance explained by place under circular shifts of the places of every walk.

    The activations lose their means over ``given`` before they are shifted: what a letter explains
    must not pass for what place explains beyond it.
    """
    kw = dict(options)
    data = position_variance_explained(
        recording, by=layout.by, bins=layout.bins, per_map=layout.per_map, **kw
    )
    given, maps, adjusted = kw.get("given"), kw.get("maps", "apart"), kw.get("adjusted", True)
    cells = Cells.of(recording, by=layout.by, bins=layout.bins, given=given, maps=maps)
    sums, squares = sums_of_squares(recording, cells)
    if given and not cells.complete:
        raise ValueError(
            f"null='circular' with given={given!r} needs a place and a value at every step of a "
            "walk, got steps without; cut those off the walks"
        )
    values, size, n_maps = activations(recording), len(cells.counts), len(cells.maps)
    shift, means = centre(values), _group_means(cells, sums)
    left = squares - _squares_of_groups(cells, means) if given else squares

    def draws() -> Iterator[NDArray[np.float64]]:
        held = cells.held()
        for group in groups(n, size * values.shape[2]):
            amounts = circular_shifts(held.index.shape, group, low, rng)
            index = _kernels.Shifted(held.index, amounts, size)
            if not cells.complete:  # which samples count changes with the shift
                both = [index, _kernels.Shifted(held.walk_map, amounts, n_maps)]
                terms, sizes = _kernels.moments(shift), [group * size, group * n_maps]
                moved, rest = _kernels.bin_sums(values, both, sizes, terms=terms)
                rest = _side_by_side(rest, group)
            else:
                terms = _kernels.deviations(shift)
                (moved,) = _kernels.bin_sums(values, [index], [group * size], terms=terms)
                moved -= _sums_of_means(cells, index, means) if given else 0.0
                rest = np.tile(left, (1, group))
            _refuse_hidden(moved)
            wide = _side_by_side(moved, group)
            explained = cells.explained(wide, rest, adjusted=adjusted, per_map=layout.per_map)
            yield np.moveaxis(explained.reshape(*explained.shape[:-1], group, -1), -2, 0)

    return data, draws()


def circular_information(
    recording: xr.Dataset,
    layout: Layout,
    n: int,
    low: int,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Null:
    """Mutual information under circular shifts of the places of every walk, none corrected."""
    unknown = set(options) - {"levels", "maps"}
    if unknown:
        raise ValueError(
            f"options of statistic='mutual_information' must be 'levels' or 'maps', got "
            f"{sorted(unknown)}: its bias is the mean of the shuffles, and for place beyond the "
            "letter test 'position_variance_explained'"
        )
    data = mutual_information(
        recording,
        by=layout.by,
        bins=layout.bins,
        per_map=layout.per_map,
        correction="none",
        **options,
    )
    levels, maps = data.attrs["levels"], data.attrs["maps"]
    cells = Cells.of(recording, by=layout.by, bins=layout.bins, given=None, maps=maps).held()
    amounts = circular_shifts(cells.index.shape, n, low, rng)
    chance = shifted_bits(recording, cells, levels, amounts, per_map=layout.per_map)
    return data, (values[None] for values in chance)


def _group_means(cells: Cells, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of every group (map, given) of sums (cell, unit)."""
    n_groups = len(cells.map_of_group)
    counts = add_rows(cells.counts, cells.group, n_groups)
    return np.asarray(add_rows(sums, cells.group, n_groups) / counts[:, None])


def _squares_of_groups(cells: Cells, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares (map, unit) that the means of the groups account for."""
    counts = add_rows(cells.counts, cells.group, len(means))
    return add_rows(means**2 * counts[:, None], cells.map_of_group, len(cells.maps))


def _sums_of_means(
    cells: Cells, shifted: _kernels.Shifted, means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the means of the samples' own groups add to the sums (shuffle and cell, unit)."""
    n = len(shifted.amounts)
    together = sparse.csr_array((n * shifted.size, len(means)))
    for where in _blocks.blocks((*shifted.index.shape, n)):
        bins = shifted[(..., *where)].reshape(n, -1)
        group = np.broadcast_to(cells.group[shifted.index[where]].ravel(), bins.shape)
        pairs = (np.ones(bins.size), (bins.ravel(), group.ravel()))
        together = together + sparse.csr_array(pairs, shape=together.shape)
    return np.asarray(together @ means)


def shuffled(
    data: xr.Dataset,
    places: Places,
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> xr.Dataset:
    """RateMaps of sums (shuffle, place, unit) and counts (shuffle, place), labelled as the data."""
    n, visited = len(sums), np.broadcast_to(counts[..., None] > 0, sums.shape)
    rate = np.divide(sums, counts[..., None], out=np.full(sums.shape, np.nan), where=visited)
    laid_out = np.moveaxis(rate.reshape(n, *places.shape, -1), -1, -1 - len(places.grid.shape))
    dims, seen = data[schema.RATE].dims, data[schema.OCCUPANCY].dims
    return data.assign(
        {
            schema.RATE: ((SHUFFLE, *dims), laid_out, data[schema.RATE].attrs),
            schema.OCCUPANCY: ((SHUFFLE, *seen), counts.reshape(n, *places.shape)),
        }
    )


def _side_by_side(sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sums (shuffle and bin, unit) as (bin, shuffle and unit)."""
    size, n_units = len(sums) // n, sums.shape[1]
    return sums.reshape(n, size, n_units).swapaxes(0, 1).reshape(size, -1)


def groups(n: int, values_each: int) -> Iterator[int]:
    """Numbers of shuffles that share one read of the activations."""
    size = int(np.clip(GROUP_VALUES // max(values_each, 1), 1, 16))
    yield from (min(size, n - start) for start in range(0, n, size))


def _refuse_hidden(sums: NDArray[np.float64]) -> None:
    """Refuse values that the data leave out, for want of a place, and a shift brings in."""
    units = np.flatnonzero(~np.isfinite(sums).all(axis=0))
    if units.size:
        raise ValueError(
            f"activation must be finite at every step of a walk for null='circular', also where "
            f"the place is NaN: {units.size} units are not (first: number {units[0]}); cut those "
            "steps off the walks"
        )


def relabelled_maps(
    recording: xr.Dataset,
    layout: Layout,
    n: int,
    rng: np.random.Generator,
    measure: Measure,
) -> Null:
    """A measure of rate maps whose places trade their rates within map and letter."""
    has_maps = schema.MAP in recording.variables
    places = layout.places(recording, per_map=has_maps or layout.per_map)
    sums, _ = unit_sums(recording, places.index, places.size, skipna=False)
    counts = _blocks.counts(places.index, places.size)
    letters = _within_maps(letters_of(recording, places), places)
    out = places if layout.per_map else replace(places, maps=None)

    def pooled(values: NDArray[Any]) -> NDArray[Any]:
        """Sum over maps, where they are pooled, of (shuffle, place, ...)."""
        return values.reshape(len(values), -1, out.size, *values.shape[2:]).sum(axis=1)

    maps = assemble(recording, out, pooled(sums[None])[0], pooled(counts[None])[0])

    def draws() -> Iterator[NDArray[np.float64]]:
        for group in groups(n, sums.size):
            order = np.stack([_trade(letters, rng) for _ in range(group)])
            each = shuffled(maps, out, pooled(sums[order]), pooled(counts[order]))
            yield measure.of_shuffles(each)

    return measure.function(maps), draws()


def _within_maps(letters: NDArray[np.intp], places: Places) -> NDArray[np.intp]:
    """Number of the map and letter of every place; -1 where unvisited."""
    of_map = np.arange(places.size) // places.grid.size
    return np.where(letters < 0, -1, of_map * (letters.max() + 1) + letters)


def _trade(letters: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Permutation of places that keeps every place's number of map and letter."""
    order = np.arange(len(letters))
    old = np.argsort(letters, kind="stable")
    new = np.lexsort((rng.random(len(letters)), letters))
    order[old] = new
    return np.where(letters < 0, np.arange(len(letters)), order)
