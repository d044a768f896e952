"""Mutual information between activation and place, suited to signed activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import xlogy

from placeformer._options import check_option, check_whole
from placeformer.data import blocks as _blocks
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import (
    BinnedRecording,
    Bins,
    Circular,
    activations,
    picked,
    refuse_not_finite,
    refuse_too_large,
)
from placeformer.spatial.place_shuffles import CircularShifts, Shuffles, groups, refuse_hidden
from placeformer.spatial.variance_explained import Cells, add_rows, check_options

Correction = Literal["shuffle", "miller_madow", "none"]

QUANTILE_SAMPLES = 2**12
"""Maximum number of samples that define the levels of a unit, evenly spaced in the recording."""


def mutual_information(
    recording: xr.Dataset,
    *,
    levels: int = 4,
    given: str | None = None,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    maps: str = "apart",
    per_map: bool = False,
    circular: Circular = None,
    correction: Correction = "shuffle",
    n_shuffles: int = 10,
    min_shift: int | None = None,
    seed: int = 0,
) -> xr.DataArray:
    r"""Mutual information between the level of each unit's activation and the place.

    .. math:: I = \sum_{g, c, k} p(c, k) \log_2 \frac{p(k \mid c)}{p(k \mid g)}

    with k the level, c a place on a map and g the map: the information about place beyond the
    information about the map. With ``given``, g is a pair of map and given value. Levels are
    quantiles of the unit, so activations may be signed and have any scale.

    Parameters
    ----------
    recording
        Recording.
    levels
        Number of levels into which each unit's samples are split, with about the same number of
        samples each. Equal values share a level (a unit that is 0 most of the time has fewer
        levels). More levels resolve finer differences and need more samples: about 8 per place and
        level.
    given
        Discrete variable (walk, time) to condition on: ``"observation"`` gives the information
        about place beyond the letter.
    by, bins
        Axes and bins of place, as in :func:`rate_maps`.
    maps
        ``"apart"``: the places of different maps are different places. ``"together"``: the ``map``
        coordinate is ignored.
    per_map
        Return one value for every map, on a leading dimension ``map``.
    circular
        Period of every circular variable, as in :func:`rate_maps`.
    correction
        The plain estimate from limited samples is biased upwards. ``"shuffle"``: subtract the mean
        of ``n_shuffles`` circular shifts of the places of every walk; this also removes the
        information that slow activations and slow walks share by chance. ``"miller_madow"``:
        subtract :math:`[\sum_c (k_c - 1) - \sum_g (k_g - 1)] / (2 N \ln 2)`, with k_c the levels
        that occur in c; suited to many independent samples per place, too small for samples along
        walks. ``"none"``: no correction.
    n_shuffles, min_shift, seed
        Number, minimum size (in steps from either end, by default a tenth of the walk) and seed of
        the shifts.

    Returns
    -------
    xarray.DataArray
        (unit,) or (map, unit), in bits per sample, at most log2 of ``levels``; at least 0 without
        correction, and around 0 with it for a unit that ignores place. An increasing function of
        the activation, such as scaling or shifting, leaves the value unchanged; negating a unit
        changes it only through ties and rounding. A constant unit has 0 bits.

    Raises
    ------
    ValueError
        The recording breaks the contract, activations are not finite, an option is out of range,
        or places times units exceed the memory of the machine.

    See Also
    --------
    position_variance_explained : Fraction of the variance that place explains.
    spatial_information : Information per spike of rate maps.
    shuffle_test : Test a statistic against chance.

    Notes
    -----
    This is not Skaggs' information (:func:`spatial_information`, which other programs also call
    mutual information), the information per spike of a Poisson unit, undefined for negative rates.
    The boundaries of the levels come from at most 4,096 samples, evenly spaced.

    References
    ----------
    Shannon, C. E. (1948). Bell System Technical Journal 27, 379-423.
    https://doi.org/10.1002/j.1538-7305.1948.tb01338.x
    Treves, A. and Panzeri, S. (1995). The upward bias in measures of information derived from
    limited data samples. Neural Computation 7, 399-407.
    https://doi.org/10.1162/neco.1995.7.2.399

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> bits = pf.mutual_information(recording)
    >>> bits.dims, round(float(bits.median()), 1)
    (('unit',), 0.2)
    >>> bool(bits.max() <= 2)  # four levels
    True
    """
    check_options(recording, maps, per_map)
    check(levels, correction, n_shuffles)
    check_whole("seed", seed, 0)
    need = (given,) if given else ()
    binned = BinnedRecording.of(recording, by=by, bins=bins, need=need, circular=circular)
    cells = Cells.of(binned, given=given, maps=maps).held()
    counts = level_counts(cells, levels)
    values = _bits(cells, counts, per_map)
    if correction == "miller_madow":
        values = values - _bias(cells, counts, per_map)
    if correction == "shuffle":
        hint = "; for shorter walks pass correction='miller_madow'"
        shifts = CircularShifts(binned.lengths, cells.index.shape[1], min_shift, hint)
        n, rng = int(min(n_shuffles, shifts.distinct)), np.random.default_rng(seed)
        chance = shuffled_bits(cells, levels, shifts, n, rng, per_map=per_map)
        values = values - np.mean(list(chance), axis=0)
    return _labelled(cells, values, levels, correction)


def plain_information(cells: Cells, levels: int, *, per_map: bool) -> xr.DataArray:
    """Mutual information of cells in memory, without bias correction."""
    check(levels)
    return _labelled(cells, _bits(cells, level_counts(cells, levels), per_map), levels, "none")


def _labelled(
    cells: Cells, values: NDArray[np.float64], levels: int, correction: str
) -> xr.DataArray:
    beyond = f" beyond {cells.given}" if cells.given else ""
    attrs = {
        "units": "bit",
        "long_name": f"mutual information of activation and place{beyond}",
        "levels": levels,
        "correction": correction,
    }
    return cells.label(values, "mutual_information", attrs)


def level_counts(cells: Cells, levels: int) -> NDArray[np.float64]:
    """Number of samples of every level, cell and unit (level, cell, unit)."""
    edges = level_edges(activations(cells.recording), cells.index, levels)
    (above,) = _above(cells, edges, cells.index, 1)
    refuse_not_finite(cells.recording, above[0], cells.index)
    return _of_levels(cells, above)


def shuffled_bits(
    cells: Cells,
    levels: int,
    shuffles: Shuffles,
    n: int,
    rng: np.random.Generator,
    *,
    per_map: bool,
) -> Iterator[NDArray[np.float64]]:
    """Plain estimates (unit,) or (map, unit) of held cells in n random shuffles of the places."""
    edges = level_edges(activations(cells.recording), cells.index, levels)
    n_cells = len(cells.counts)
    for group in groups(n, n_cells * edges.size):
        moved = shuffles.moved(cells.index, shuffles.draw(group, rng), n_cells)
        for above in _above(cells, edges, moved, group):
            refuse_hidden(above[0])
            yield _bits(cells, _of_levels(cells, above), per_map)


def level_edges(values: Any, index: NDArray[Any], levels: int) -> NDArray[np.float64]:
    """Maximum of every level but the last (level, unit), over samples with a place."""
    walk, time = _evenly_spaced(index, QUANTILE_SAMPLES)
    if not walk.size:
        return np.zeros((levels - 1, values.shape[2]))
    chosen = np.sort(picked(values, (walk, time)), axis=0)
    rank = np.ceil(np.arange(1, levels) / levels * len(walk)).astype(int) - 1
    return chosen[rank].astype(float)


def _evenly_spaced(index: NDArray[Any], most: int) -> tuple[NDArray[np.intp], ...]:
    """Walks and times of some of the samples with a place."""
    flat = index.ravel()
    starts = np.arange(0, flat.size, _blocks.PLAIN_SAMPLES)
    parts = [flat[start : start + _blocks.PLAIN_SAMPLES] for start in starts]
    number = np.cumsum([0, *(np.count_nonzero(part >= 0) for part in parts)])
    step = np.linspace(0, number[-1] - 1, min(number[-1], most)).astype(int)
    chosen = [
        start + np.flatnonzero(part >= 0)[step[(step >= low) & (step < high)] - low]
        for start, part, low, high in zip(starts, parts, number, number[1:], strict=False)
    ]
    return np.unravel_index(np.concatenate(chosen), index.shape)


def _above(
    cells: Cells, edges: NDArray[np.float64], index: Any, n: int
) -> Iterator[list[NDArray[np.float64]]]:
    """Samples of every cell and unit above every edge (edge, cell, unit), for n shifts of them."""

    def terms(block: NDArray[Any], units: slice) -> Iterator[NDArray[Any]]:
        marked = block - block  # 0, but NaN where a value is not finite
        for edge in edges[:, units].astype(block.dtype):
            yield marked + (block > edge)

    values, n_cells = activations(cells.recording), len(cells.counts)
    refuse_too_large(n_cells, values.shape[2], 4 * (len(edges) + 1))
    sizes = [n * n_cells] * len(edges)
    sums = _kernels.bin_sums(values, [index] * len(edges), sizes, terms=terms)
    yield from (list(of_shift) for of_shift in zip(*(np.split(s, n) for s in sums), strict=True))


def _of_levels(cells: Cells, above: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Samples of every level, cell and unit (level, cell, unit) from those above every edge."""
    total = np.broadcast_to(cells.counts[:, None], above[0].shape)
    return -np.diff(np.stack([total, *above, np.zeros_like(above[0])]), axis=0)


def _bits(cells: Cells, counts: NDArray[np.float64], per_map: bool) -> NDArray[np.float64]:
    """Plain estimate (unit,) or (map, unit) from sample counts (level, cell, unit)."""
    of_place = _deviance(counts, cells.counts)
    groups, of_group = _grouped(cells, counts)
    of_map = _deviance(groups, of_group)
    return np.maximum(_per_map(cells, of_place, of_map, per_map), 0.0)


def _bias(cells: Cells, counts: NDArray[np.float64], per_map: bool) -> NDArray[np.float64]:
    """Bias of the plain estimate, from the number of levels that occur."""
    groups, _ = _grouped(cells, counts)
    free = [(np.maximum((c > 0).sum(axis=0), 1) - 1) / (2 * np.log(2)) for c in (counts, groups)]
    return _per_map(cells, free[0], free[1], per_map)


def _deviance(counts: NDArray[np.float64], total: NDArray[np.generic]) -> NDArray[np.float64]:
    """Minus the number of samples times the entropy of the levels in bits, (cell, unit)."""
    whole = xlogy(total, total)[:, None]
    return np.asarray((xlogy(counts, counts).sum(axis=0) - whole) / np.log(2))


def _grouped(
    cells: Cells, counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers of samples (level, group, unit), and of every group."""
    n = len(cells.map_of_group)
    return (
        np.stack([add_rows(c, cells.group, n) for c in counts]),
        add_rows(cells.counts, cells.group, n),
    )


def _per_map(
    cells: Cells, of_cell: NDArray[np.float64], of_group: NDArray[np.float64], per_map: bool
) -> NDArray[np.float64]:
    """Sums over cells minus sums over groups, per sample: of each map (map, unit), or of all."""
    n_maps, map_of_cell = len(cells.maps), cells.map_of_group[cells.group]
    gain = add_rows(of_cell, map_of_cell, n_maps) - add_rows(of_group, cells.map_of_group, n_maps)
    number = add_rows(cells.counts, map_of_cell, n_maps)[:, None]
    if not per_map:
        gain, number = gain.sum(axis=0), number.sum(axis=0)
    return np.divide(gain, number, out=np.full(gain.shape, np.nan), where=number > 0)


def check(levels: int, correction: str = "none", n_shuffles: int = 1) -> None:
    """Raise if an option is out of range."""
    check_whole("levels", levels, 2)
    check_option("correction", correction, get_args(Correction))
    if n_shuffles == 0:
        raise ValueError("n_shuffles must be at least 1, got 0; pass correction='none' for none")
    check_whole("n_shuffles", n_shuffles)
