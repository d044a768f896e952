"""Null distributions: circular shifts of walks, and permutations of places within observations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import (
    BinnedRecording,
    activations,
    observation_of_bins,
    unit_sums,
)
from placeformer.spatial.circular_shifts import CircularShifts, refuse_hidden
from placeformer.spatial.mutual_information import plain_information, shifted_bits
from placeformer.spatial.rate_maps import assemble, mean_rates, occupancy
from placeformer.spatial.variance_explained import (
    Cells,
    add_rows,
    centre,
    check_options,
    sums_of_squares,
    variance_explained,
)

Null = tuple[xr.DataArray, Iterator[NDArray[np.float64]]]

SHUFFLE = "shuffle"

GROUP_VALUES = 2**25
"""Maximum number of values in the sums of shuffles that share one read of the activations."""


@dataclass(frozen=True)
class Measure:
    """A function of rate maps, and whether it keeps leading dimensions of the maps."""

    function: Callable[[xr.Dataset], xr.DataArray]
    keeps_dimensions: bool

    def of_shuffles(self, maps: xr.Dataset) -> NDArray[np.float64]:
        """Values (shuffle, ...) of maps with a leading dimension ``shuffle``."""
        if self.keeps_dimensions:
            return np.asarray(self.function(maps).values)
        shuffles = (maps.isel({SHUFFLE: k}) for k in range(maps.sizes[SHUFFLE]))
        return np.stack([self.function(shuffle).values for shuffle in shuffles])


def circular_maps(
    binned: BinnedRecording,
    n: int,
    shifts: CircularShifts,
    rng: np.random.Generator,
    measure: Measure,
    **options: Any,
) -> Null:
    """A measure of rate maps under circular shifts of the places of every walk.

    The options are those of :func:`rate_maps`, for the data and for every shuffle.
    """
    recording, size = binned.recording, binned.size
    sums, _ = unit_sums(recording, binned.index, size, skipna=False, weights=binned.weights)
    counts = binned.totals(binned.index, size)
    maps = assemble(binned, sums, counts, **options)

    def draws() -> Iterator[NDArray[np.float64]]:
        values, index = activations(recording), np.asarray(binned.index)
        for group in groups(n, size * values.shape[2]):
            shifted = shifts.moved(index, shifts.draw(group, rng), size)
            (moved,) = _kernels.bin_sums(values, [shifted], [group * size], weights=binned.weights)
            refuse_hidden(moved)
            of_shuffle = moved.reshape(group, size, -1)
            if binned.weights is None:  # a walk keeps its places, so the counts do not change
                visits = counts[None].repeat(group, 0)
            else:  # a shift brings other samples to a place, and with them their seconds
                visits = _moved_seconds(binned.weights, shifted).reshape(group, size)
            yield measure.of_shuffles(shuffled_maps(maps, binned, of_shuffle, visits, **options))

    return measure.function(maps), draws()


def _moved_seconds(weights: NDArray[np.float64], shifted: _kernels.Shifted) -> NDArray[np.float64]:
    """Seconds (shuffle and bin,) of the samples that shifts bring to the bins."""
    ones = np.ones((*weights.shape, 1))
    (seconds,) = _kernels.bin_sums(
        ones, [shifted], [len(shifted.amounts) * shifted.size], weights=weights
    )
    return np.asarray(seconds[:, 0])


def circular_variance(
    binned: BinnedRecording,
    per_map: bool,
    n: int,
    shifts: CircularShifts,
    rng: np.random.Generator,
    *,
    given: str | None = None,
    maps: str = "apart",
    adjusted: bool = True,
) -> Null:
    """Variance explained by place under circular shifts of the places of every walk.

    The means over ``given`` are subtracted from the activations before the shift, so that variance
    explained by an observation is not attributed to the place.
    """
    recording = binned.recording
    check_options(recording, maps, per_map)
    cells = Cells.of(binned, given=given, maps=maps)
    sums, squares = sums_of_squares(cells)
    data = variance_explained(cells, sums, squares, adjusted=adjusted, per_map=per_map)
    complete = cells.counts.sum() == binned.lengths.sum()
    if given and not complete:
        raise ValueError(
            f"null='circular' with given={given!r} needs a place and a value at every step of a "
            "walk, got steps without; drop those steps, or load the recording with join=True"
        )
    values, size, n_maps = activations(recording), len(cells.counts), len(cells.maps)
    shift, means = centre(values), _group_means(cells, sums)
    # A shift moves the cells relative to the samples. The sum of squares within groups (map,
    # given) is that of the residuals, which do not move; where every sample has a cell it is
    # computed once, and a shuffle needs only the sums of the residuals over the shifted cells.
    # Residuals are never stored: their sums are those of the samples minus those of the means of
    # the samples' groups.
    left = squares - _squares_of_groups(cells, means) if given else squares

    def draws() -> Iterator[NDArray[np.float64]]:
        held = cells.held()
        for group in groups(n, size * values.shape[2]):
            amounts = shifts.draw(group, rng)
            index = shifts.moved(held.index, amounts, size)
            if not complete:  # which samples count changes with the shift
                both = [index, shifts.moved(held.walk_map, amounts, n_maps)]
                terms, sizes = _kernels.moments(shift), [group * size, group * n_maps]
                moved, rest = _kernels.bin_sums(values, both, sizes, terms=terms)
                rest = _side_by_side(rest, group)
            else:
                terms = _kernels.deviations(shift)
                (moved,) = _kernels.bin_sums(values, [index], [group * size], terms=terms)
                moved -= _sums_of_means(cells, index, means) if given else 0.0
                rest = np.tile(left, (1, group))
            refuse_hidden(moved)
            # The shuffles of a group are treated as further units, so that one call handles them
            # all.
            wide = _side_by_side(moved, group)
            explained = cells.explained(wide, rest, adjusted=adjusted, per_map=per_map)
            yield np.moveaxis(explained.reshape(*explained.shape[:-1], group, -1), -2, 0)

    return data, draws()


def circular_information(
    binned: BinnedRecording,
    per_map: bool,
    n: int,
    shifts: CircularShifts,
    rng: np.random.Generator,
    *,
    levels: int = 4,
    maps: str = "apart",
    **unknown: Any,
) -> Null:
    """Uncorrected mutual information under circular shifts of the places of every walk."""
    if unknown:
        raise ValueError(
            f"options of statistic='mutual_information' must be 'levels' or 'maps', got "
            f"{sorted(unknown)}: its bias is the mean of the shuffles, and for place beyond the "
            "observation test 'position_variance_explained'"
        )
    check_options(binned.recording, maps, per_map)
    cells = Cells.of(binned, maps=maps).held()
    data = plain_information(cells, levels, per_map=per_map)
    shuffles = shifted_bits(cells, levels, shifts, shifts.draw(n, rng), per_map=per_map)
    return data, (values[None] for values in shuffles)


def permuted_maps(
    binned: BinnedRecording,
    per_map: bool,
    n: int,
    rng: np.random.Generator,
    measure: Measure,
    **options: Any,
) -> Null:
    """A measure of rate maps with the places permuted within map and observation.

    The options are those of :func:`rate_maps`, for the data and for every shuffle.
    """
    has_maps = schema.MAP in binned.recording.variables
    split = binned.split_by_map() if has_maps or per_map else binned
    out = split if per_map else binned
    sums, _ = unit_sums(
        binned.recording, split.index, split.size, skipna=False, weights=binned.weights
    )
    counts = binned.totals(split.index, split.size)
    observation = _within_maps(observation_of_bins(split), split)

    def pooled(values: NDArray[Any]) -> NDArray[Any]:
        """Sum over maps, where they are pooled, of (shuffle, bin, ...)."""
        return values.reshape(len(values), -1, out.size, *values.shape[2:]).sum(axis=1)

    maps = assemble(out, pooled(sums[None])[0], pooled(counts[None])[0], **options)

    def draws() -> Iterator[NDArray[np.float64]]:
        for group in groups(n, sums.size):
            order = np.stack([permute_within_observation(observation, rng) for _ in range(group)])
            yield measure.of_shuffles(
                shuffled_maps(maps, out, pooled(sums[order]), pooled(counts[order]), **options)
            )

    return measure.function(maps), draws()


def permute_within_observation(
    observation: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Random permutation of the bins among bins with the same observation.

    Unvisited bins (-1) stay where they are.
    """
    order = np.arange(len(observation))
    old = np.argsort(observation, kind="stable")
    new = np.lexsort((rng.random(len(observation)), observation))
    order[old] = new
    return np.where(observation < 0, np.arange(len(observation)), order)


def _within_maps(observation: NDArray[np.intp], split: BinnedRecording) -> NDArray[np.intp]:
    """Number of the pair of map and observation of every bin; -1 where unvisited."""
    map_of_bin = np.arange(split.size) // split.grid.size
    return np.where(observation < 0, -1, map_of_bin * (observation.max() + 1) + observation)


def shuffled_maps(
    data: xr.Dataset,
    binned: BinnedRecording,
    sums: NDArray[np.float64],
    counts: NDArray[Any],
    **options: Any,
) -> xr.Dataset:
    """RateMaps of sums (shuffle, place, unit) and counts (shuffle, place), labelled as the data."""
    n, flat = len(sums), (sums.reshape(-1, sums.shape[-1]), counts.reshape(-1, 1).astype(float))
    rate = mean_rates(binned, *flat, **options)
    laid_out = np.moveaxis(rate.reshape(n, *binned.shape, -1), -1, -1 - len(binned.grid.shape))
    dims, seen = data[schema.RATE].dims, data[schema.OCCUPANCY].dims
    return data.assign(
        {
            schema.RATE: ((SHUFFLE, *dims), laid_out, data[schema.RATE].attrs),
            schema.OCCUPANCY: (
                (SHUFFLE, *seen),
                occupancy(binned, counts).reshape(n, *binned.shape),
            ),
        }
    )


def groups(n: int, values_each: int) -> Iterator[int]:
    """Sizes of the groups of shuffles that share one read of the activations."""
    size = int(np.clip(GROUP_VALUES // max(values_each, 1), 1, 16))
    yield from (min(size, n - start) for start in range(0, n, size))


def _group_means(cells: Cells, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of every group (map, given) of sums (cell, unit)."""
    n_groups = len(cells.map_of_group)
    counts = add_rows(cells.counts, cells.group, n_groups)
    return np.asarray(add_rows(sums, cells.group, n_groups) / counts[:, None])


def _squares_of_groups(cells: Cells, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares (map, unit) explained by the means of the groups."""
    counts = add_rows(cells.counts, cells.group, len(means))
    return add_rows(means**2 * counts[:, None], cells.map_of_group, len(cells.maps))


def _sums_of_means(
    cells: Cells, shifted: _kernels.Shifted, means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Contribution of the means of the samples' groups to the sums (shuffle and cell, unit)."""
    n = len(shifted.amounts)
    together = sparse.csr_array((n * shifted.size, len(means)))
    for where in _blocks.blocks((*shifted.index.shape, n)):
        bins = shifted[(..., *where)].reshape(n, -1)
        group = np.broadcast_to(cells.group[shifted.index[where]].ravel(), bins.shape)
        bins, group = bins[bins >= 0], group[bins >= 0]  # steps after the end have no bin
        pairs = (np.ones(bins.size), (bins, group))
        together = together + sparse.csr_array(pairs, shape=together.shape)
    return np.asarray(together @ means)


def _side_by_side(sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sums (shuffle and bin, unit) as (bin, shuffle and unit)."""
    size, n_units = len(sums) // n, sums.shape[1]
    return sums.reshape(n, size, n_units).swapaxes(0, 1).reshape(size, -1)
