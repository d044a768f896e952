"""Null distributions of statistics: shuffled places, and places permuted within observations."""

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
from placeformer.spatial.mutual_information import plain_information, shuffled_bits
from placeformer.spatial.place_shuffles import (
    ShuffledBins,
    Shuffles,
    WalkExchange,
    groups,
    refuse_hidden,
)
from placeformer.spatial.rate_maps import assemble, mean_rates, occupancy
from placeformer.spatial.variance_explained import (
    Cells,
    add_rows,
    centre,
    check_options,
    sums_of_squares,
    variance_explained,
)

SHUFFLE = "shuffle"

PAIR_VALUES = 2**24
"""Maximum number of sums over pairs of walks that are kept in memory: 128 MiB."""


@dataclass(frozen=True)
class Null:
    """A statistic of the data, and its values in random shuffles."""

    observed: xr.DataArray
    """Statistic of the data (unit,) or (map, unit)."""
    draw: Callable[[int], Iterator[NDArray[np.float64]]]
    """Yields groups (shuffle, ...) of values, in a given number of further shuffles."""


@dataclass(frozen=True)
class Measure:
    """A function of rate maps, and whether it keeps leading dimensions of the maps."""

    function: Callable[[xr.Dataset], xr.DataArray]
    keeps_dimensions: bool

    def of(self, maps: xr.Dataset) -> xr.DataArray:
        """Values (unit,) or (map, unit) of maps.

        Raises
        ------
        ValueError
            The function returns anything else.
        """
        values = self.function(maps)
        space = schema.place_dims(maps)
        dims = [d for d in maps[schema.RATE].dims if d not in (schema.UNIT, *space)]
        wanted = {d: maps.sizes[d] for d in (*dims, schema.UNIT)}
        if not isinstance(values, xr.DataArray) or dict(values.sizes) != wanted:
            found = f" of {dict(values.sizes)}" if hasattr(values, "sizes") else ""
            raise ValueError(
                f"statistic must be a function that returns a DataArray of dimensions {wanted}, "
                f"got {type(values).__name__}{found}; reduce the places with methods of "
                f"xarray, such as lambda maps: maps.rate.max({space})"
            )
        return values.transpose(*wanted)

    def of_shuffles(self, maps: xr.Dataset) -> NDArray[np.float64]:
        """Values (shuffle, ...) of maps with a leading dimension ``shuffle``."""
        if self.keeps_dimensions:
            return np.asarray(self.of(maps).values)
        shuffles = (maps.isel({SHUFFLE: k}) for k in range(maps.sizes[SHUFFLE]))
        return np.stack([self.of(shuffle).values for shuffle in shuffles])


def shuffled_measure(
    binned: BinnedRecording,
    shuffles: Shuffles,
    rng: np.random.Generator,
    measure: Measure,
    **options: Any,
) -> Null:
    """A measure of rate maps under shuffles of the places.

    The options are those of :func:`rate_maps`, for the data and for every shuffle.
    """
    recording, size = binned.recording, binned.size
    sums, _ = unit_sums(recording, binned.index, size, skipna=False, weights=binned.weights)
    counts = binned.totals(binned.index, size)
    maps = assemble(binned, sums, counts, **options)

    values, index = activations(recording), np.asarray(binned.index)

    def of_bins(bins: ShuffledBins) -> NDArray[np.float64]:
        n_rows = len(bins.moves) * bins.size
        return _kernels.bin_sums(values, [bins], [n_rows], weights=binned.weights)[0]

    sums_of = sums_of_moves(of_bins, shuffles, index, size, values.shape[2])

    def draw(n: int) -> Iterator[NDArray[np.float64]]:
        for group in groups(n, size * values.shape[2]):
            moves = shuffles.draw(group, rng)
            moved = sums_of(moves)
            refuse_hidden(moved)
            of_shuffle = moved.reshape(group, size, -1)
            if binned.weights is None:  # every place is used once, so the counts do not change
                visits = counts[None].repeat(group, 0)
            else:  # a shuffle moves samples to other places together with their seconds
                bins = shuffles.moved(index, moves, size)
                visits = _moved_seconds(binned.weights, bins).reshape(group, size)
            yield measure.of_shuffles(shuffled_maps(maps, binned, of_shuffle, visits, **options))

    return Null(measure.of(maps), draw)


def sums_of_moves(
    of_bins: Callable[[ShuffledBins], NDArray[np.float64]],
    shuffles: Shuffles,
    index: NDArray[np.integer[Any]],
    size: int,
    n_units: int,
) -> Callable[[NDArray[np.integer[Any]]], NDArray[np.float64]]:
    """Sums (shuffle and bin, unit) as a function of the moves of shuffles (shuffle, walk).

    The sums of exchanged walks are sums over pairs of a walk and the walk whose places it receives.
    If the sums of all pairs fit into memory, they are computed once, and a shuffle adds one row per
    walk instead of reading all samples.

    Parameters
    ----------
    of_bins
        Function that sums the activations over moved bins.
    shuffles
        Circular shifts, or exchanges of walks.
    index
        Bins (walk, time) before the shuffles.
    size, n_units
        Number of bins and of units.
    """

    def direct(moves: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        return of_bins(shuffles.moved(index, moves, size))

    if not (isinstance(shuffles, WalkExchange) and shuffles.equal):
        return direct
    n_walks = len(shuffles.lengths)
    if shuffles.n_turns * n_walks * size * n_units > PAIR_VALUES:
        return direct
    pairs: list[NDArray[np.float64]] = []

    def of_pairs(moves: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        if not pairs:
            pairs.append(of_bins(shuffles.paired(index, size)).reshape(-1, size * n_units))
        row = shuffles.turns(moves) * n_walks + np.arange(n_walks)
        pointers = np.arange(len(moves) + 1) * n_walks
        ones = np.ones(row.size)
        shape = (len(moves), len(pairs[0]))
        added = sparse.csr_array((ones, row.ravel(), pointers), shape=shape) @ pairs[0]
        return np.asarray(added).reshape(-1, n_units)

    return of_pairs


def _moved_seconds(weights: NDArray[np.float64], bins: ShuffledBins) -> NDArray[np.float64]:
    """Seconds (shuffle and bin,) of the samples that shuffles bring to the bins."""
    ones = np.ones((*weights.shape, 1))
    (seconds,) = _kernels.bin_sums(ones, [bins], [len(bins.moves) * bins.size], weights=weights)
    return np.asarray(seconds[:, 0])


def shuffled_variance(
    binned: BinnedRecording,
    per_map: bool,
    shuffles: Shuffles,
    rng: np.random.Generator,
    *,
    given: str | None = None,
    maps: str = "apart",
    adjusted: bool = True,
    **unknown: Any,
) -> Null:
    """Variance explained by place under shuffles of the places.

    The means over ``given`` are subtracted from the activations before the shuffle, so that
    variance explained by an observation is not attributed to the place.
    """
    if unknown:
        raise ValueError(
            "options of statistic='position_variance_explained' must be 'given', 'maps' or "
            f"'adjusted', got {sorted(unknown)}; the number of shuffles is n_shuffles"
        )
    recording = binned.recording
    check_options(recording, maps, per_map)
    cells = Cells.of(binned, given=given, maps=maps)
    sums, squares = sums_of_squares(cells)
    data = variance_explained(cells, sums, squares, adjusted=adjusted, per_map=per_map)
    complete = cells.counts.sum() == binned.lengths.sum()
    if given and not complete:
        raise ValueError(
            f"shuffles of places with given={given!r} need a place and a value at every step of a "
            "walk, got steps without them; drop these steps, or load the recording with join=True"
        )
    values, size, n_maps = activations(recording), len(cells.counts), len(cells.maps)
    shift, means = centre(values), _group_means(cells, sums)
    # A shuffle moves the cells relative to the samples. The residuals about the means of groups
    # (map, given) do not move. If every sample has a cell, their sum of squares is computed once,
    # and a shuffle needs only the sums of the residuals over the moved cells. Residuals are never
    # stored: their sums are the sums of the samples minus the sums of the group means.
    left = squares - _squares_of_groups(cells, means) if given else squares

    held, terms = cells.held(), _kernels.deviations(shift)

    def of_bins(bins: ShuffledBins) -> NDArray[np.float64]:
        (moved,) = _kernels.bin_sums(values, [bins], [len(bins.moves) * bins.size], terms=terms)
        return moved - _sums_of_means(cells, bins, means) if given else moved

    sums_of = sums_of_moves(of_bins, shuffles, held.index, size, values.shape[2])

    def draw(n: int) -> Iterator[NDArray[np.float64]]:
        for group in groups(n, size * values.shape[2]):
            moves = shuffles.draw(group, rng)
            if not complete:  # which samples count changes with the shuffle
                index = shuffles.moved(held.index, moves, size)
                both = [index, shuffles.moved(held.walk_map, moves, n_maps)]
                squared, sizes = _kernels.moments(shift), [group * size, group * n_maps]
                moved, rest = _kernels.bin_sums(values, both, sizes, terms=squared)
                rest = _side_by_side(rest, group)
            else:
                moved = sums_of(moves)
                rest = np.tile(left, (1, group))
            refuse_hidden(moved)
            # The shuffles of a group are treated as further units, so that one call handles all.
            wide = _side_by_side(moved, group)
            explained = cells.explained(wide, rest, adjusted=adjusted, per_map=per_map)
            yield np.moveaxis(explained.reshape(*explained.shape[:-1], group, -1), -2, 0)

    return Null(data, draw)


def shuffled_information(
    binned: BinnedRecording,
    per_map: bool,
    shuffles: Shuffles,
    rng: np.random.Generator,
    *,
    levels: int = 4,
    maps: str = "apart",
    **unknown: Any,
) -> Null:
    """Uncorrected mutual information under shuffles of the places."""
    if unknown:
        raise ValueError(
            f"options of statistic='mutual_information' must be 'levels' or 'maps', got "
            f"{sorted(unknown)}; its bias is the mean of the shuffles. To test place beyond the "
            "observation, use statistic='position_variance_explained'"
        )
    check_options(binned.recording, maps, per_map)
    cells = Cells.of(binned, maps=maps).held()

    def draw(n: int) -> Iterator[NDArray[np.float64]]:
        for values in shuffled_bits(cells, levels, shuffles, n, rng, per_map=per_map):
            yield values[None]

    return Null(plain_information(cells, levels, per_map=per_map), draw)


def permuted_maps(
    binned: BinnedRecording,
    per_map: bool,
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

    def draw(n: int) -> Iterator[NDArray[np.float64]]:
        for group in groups(n, sums.size):
            order = np.stack([permute_within_observation(observation, rng) for _ in range(group)])
            yield measure.of_shuffles(
                shuffled_maps(maps, out, pooled(sums[order]), pooled(counts[order]), **options)
            )

    return Null(measure.of(maps), draw)


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
    cells: Cells, moved: ShuffledBins, means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Contribution of the means of the samples' groups to the sums (shuffle and cell, unit)."""
    n = len(moved.moves)
    together = sparse.csr_array((n * moved.size, len(means)))
    for where in _blocks.blocks((*moved.index.shape, n)):
        bins = moved[(..., *where)].reshape(n, -1)
        group = np.broadcast_to(cells.group[moved.index[where]].ravel(), bins.shape)
        bins, group = bins[bins >= 0], group[bins >= 0]  # steps after the end have no bin
        pairs = (np.ones(bins.size), (bins, group))
        together = together + sparse.csr_array(pairs, shape=together.shape)
    return np.asarray(together @ means)


def _side_by_side(sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sums (shuffle and bin, unit) as (bin, shuffle and unit)."""
    size, n_units = len(sums) // n, sums.shape[1]
    return sums.reshape(n, size, n_units).swapaxes(0, 1).reshape(size, -1)
