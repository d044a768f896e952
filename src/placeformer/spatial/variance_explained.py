"""Variance explained by position, a measure suited to signed activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from placeformer._options import check_option
from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.data.blocks import integers, mapped
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import (
    BinnedRecording,
    Bins,
    Circular,
    activations,
    refuse_not_finite,
    samples,
)
from placeformer.stats.tolerances import NO_VARIANCE

SHIFT_SAMPLES = 4096
"""Number of samples of the first walk whose mean is subtracted from activations before squaring."""


def position_variance_explained(
    recording: xr.Dataset,
    *,
    given: str | None = None,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    maps: str = "apart",
    per_map: bool = False,
    circular: Circular = None,
    adjusted: bool = True,
) -> xr.DataArray:
    r"""Fraction of each unit's variance that is explained by its mean at every place.

    .. math:: \eta^2 = \frac{SS_0 - SS_1}{SS_0}, \qquad
              \eta^2_{adj} = 1 - \frac{SS_1 / (n - k_1)}{SS_0 / (n - k_0)}

    SS1 is the sum of squares about the means of the k1 cells (map, place), SS0 about the k0
    means of the maps. With ``given``, SS0 is about the means of (map, given value) and SS1 about
    the means of (map, given value, place): the partial eta squared of place beyond, for example,
    the letter.

    Parameters
    ----------
    recording
        Recording.
    given
        Discrete variable (walk, time) whose means are subtracted first, within every map:
        ``"observation"`` gives the variance explained by place beyond the letter. In a world of
        letters places are nested in letters. ``None``: no such variable.
    by, bins
        Axes and bins of place, as in :func:`rate_maps`.
    maps
        ``"apart"``: the places of different maps are different places, and the means of the
        maps are subtracted (sums of squares are pooled over maps). ``"together"``:
        the ``map`` coordinate is ignored. A recording without ``map`` is one map.
    per_map
        Return one value for every map, on a leading dimension ``map``.
    circular
        Period of every circular variable, as in :func:`rate_maps`.
    adjusted
        Correct for the variance that the means explain by chance (epsilon squared). The expected
        value is then 0 for independent samples of a unit that ignores place, and single values may
        be negative. Samples along a walk are not independent: for a test against chance use
        :func:`shuffle_test`.

    Returns
    -------
    xarray.DataArray
        (unit,) or (map, unit), at most 1; at least 0 unless ``adjusted``. Unchanged by scaling,
        shifting or negating a unit. NaN for a unit without variance within maps and
        values of ``given``, or if ``adjusted`` and every cell holds a single sample.

    Raises
    ------
    ValueError
        The recording breaks the contract, activations are not finite, or an option is unknown.

    See Also
    --------
    mutual_information : Information about place for signed activations.
    shuffle_test : Test a statistic against chance.
    place_cells : Criteria for place cells, which use this measure.

    References
    ----------
    Kelley, T. L. (1935). An unbiased correlation ratio measure. PNAS 21, 554-559.
    https://doi.org/10.1073/pnas.21.9.554

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> eta2 = pf.position_variance_explained(recording)
    >>> beyond = pf.position_variance_explained(recording, given="observation")
    >>> bool(beyond.median() < eta2.median())
    True
    """
    check_options(recording, maps, per_map)
    need = (given,) if given else ()
    binned = BinnedRecording.of(recording, by=by, bins=bins, need=need, circular=circular)
    cells = Cells.of(binned, given=given, maps=maps)
    return variance_explained(cells, *sums_of_squares(cells), adjusted=adjusted, per_map=per_map)


def variance_explained(
    cells: Cells,
    cell_sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    *,
    adjusted: bool = True,
    per_map: bool = False,
) -> xr.DataArray:
    """Variance explained from sums (cell, unit) and squares (map, unit), with names and units."""
    values = cells.explained(cell_sums, squares, adjusted=adjusted, per_map=per_map)
    beyond = f" beyond {cells.given}" if cells.given else ""
    kind = "adjusted" if adjusted else "not adjusted"
    attrs = {"units": "1", "long_name": f"variance explained by place{beyond} ({kind})"}
    return cells.label(values, "position_variance_explained", attrs)


@dataclass(frozen=True)
class Cells:
    """Cells (map, given, place), nested in groups (map, given) and in maps."""

    recording: xr.Dataset
    given: str | None
    """Variable whose values are nested in the maps; ``None``: no such variable."""
    pooled: bool
    """Whether the coordinate ``map`` is ignored."""
    maps: NDArray[np.generic]
    index: Any
    """Cell of every sample (walk, time); -1: none. Dask where the activations are dask."""
    counts: NDArray[np.int64]
    """Number of samples of every cell."""
    group: NDArray[np.intp]
    """Group of every cell."""
    map_of_group: NDArray[np.intp]
    """Map of every group."""
    walk_map: Any
    """Map of every sample (walk, time); -1 where it has no cell."""

    @classmethod
    def of(cls, binned: BinnedRecording, *, given: str | None = None, maps: str = "apart") -> Cells:
        """Cells that occur in a recording whose maps are pooled; ``given`` must exist in it."""
        recording, n_bins = binned.recording, binned.size
        names, number = _map_numbers(recording, maps)
        levels, values = _given(recording, given)
        n_levels, number = max(len(levels), 1), number[:, None]

        def key(place: NDArray[Any], value: NDArray[Any], n: NDArray[Any]) -> NDArray[Any]:
            rank = np.minimum(_blocks.ranks(levels, value), n_levels - 1) if given else 0
            whole = (n * n_levels + rank) * n_bins + place
            return np.where((place >= 0) & (value == value), whole, -1)  # NaN differs from itself

        size = len(names) * n_levels * n_bins
        keys = mapped(key, binned.index, values, number, dtype=integers(size))
        cell, index, counts = _ranks(keys, size)
        groups, group_of_cell = np.unique(cell // n_bins, return_inverse=True)
        walk_map = np.broadcast_to(number.astype(integers(len(names))), index.shape)
        if counts.sum() < index.size:
            walk_map = mapped(
                lambda c, n: np.where(c < 0, -1, n), index, number, dtype=walk_map.dtype
            )
        return cls(
            recording,
            given,
            maps == "together",
            names,
            index,
            counts,
            group_of_cell,
            groups // n_levels,
            walk_map,
        )

    def held(self) -> Cells:
        """The same cells with the cell and map of every sample loaded into memory."""
        return replace(self, index=np.asarray(self.index), walk_map=np.asarray(self.walk_map))

    def label(self, values: NDArray[Any], name: str, attrs: dict[str, Any]) -> xr.DataArray:
        """Label values (unit,) or (map, unit) with dimensions, coordinates and attributes."""
        attrs = attrs | {
            "given": self.given or "none",
            "maps": "together" if self.pooled else "apart",
        }
        coords: dict[Any, Any] = dict(schema.unit_coords(self.recording))
        if values.ndim == 2:
            coords[schema.MAP] = self.maps
        return xr.DataArray(values, coords, (schema.MAP, schema.UNIT)[-values.ndim :], name, attrs)

    def explained(
        self,
        cell_sums: NDArray[np.float64],
        squares: NDArray[np.float64],
        *,
        adjusted: bool,
        per_map: bool,
    ) -> NDArray[np.float64]:
        """Variance explained (unit,) or (map, unit) from sums (cell, unit), squares (map, unit)."""
        n_groups, n_maps = len(self.map_of_group), len(self.maps)
        group_sums = add_rows(cell_sums, self.group, n_groups)
        group_counts = add_rows(self.counts, self.group, n_groups)
        by_cell = add_rows(
            cell_sums**2 / self.counts[:, None], self.map_of_group[self.group], n_maps
        )
        by_group = add_rows(group_sums**2 / group_counts[:, None], self.map_of_group, n_maps)
        n = add_rows(group_counts, self.map_of_group, n_maps)[:, None]
        k0 = np.bincount(self.map_of_group, minlength=n_maps)[:, None]
        k1 = np.bincount(self.map_of_group[self.group], minlength=n_maps)[:, None]
        terms = [squares, squares - by_group, squares - by_cell, n - k0, n - k1]
        if not per_map:
            terms = [term.sum(axis=0) for term in terms]
        raw, before, after, free_before, free_after = terms
        return _share_explained(raw, before, after, free_before, free_after, adjusted=adjusted)


def sums_of_squares(cells: Cells) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of every cell (cell, unit) and sums of squares of every map (map, unit).

    Both are sums over deviations from the mean of the unit's first samples. Sums of squares about
    a mean are unchanged by this shift, and rounding errors are avoided; a constant unit gives
    exactly 0.
    """
    values = activations(cells.recording)
    index, sizes = [cells.index, cells.walk_map], [len(cells.counts), len(cells.maps)]
    terms = _kernels.moments(centre(values))
    sums, squares = _kernels.bin_sums(values, index, sizes, terms=terms)
    refuse_not_finite(cells.recording, squares, cells.index)
    return sums, squares


def centre(values: Any) -> NDArray[np.float64]:
    """Mean of every unit's first finite activations (walk, time, unit), shape (unit,)."""
    first = np.asarray(values[0, :SHIFT_SAMPLES])
    usable = np.isfinite(first)
    total = np.sum(first, axis=0, where=usable, dtype=np.float64)
    return np.asarray(total / np.maximum(usable.sum(axis=0), 1))


def _share_explained(
    raw: NDArray[np.float64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    free_before: NDArray[np.float64],
    free_after: NDArray[np.float64],
    *,
    adjusted: bool,
) -> NDArray[np.float64]:
    """1 - after / before, each divided by its degrees of freedom if adjusted."""
    known = (before > NO_VARIANCE * raw) & (np.broadcast_to(free_after, before.shape) > 0)
    if not adjusted:
        known = before > NO_VARIANCE * raw
    left = np.divide(np.maximum(after, 0.0), before, out=np.full(before.shape, np.nan), where=known)
    factor = free_before / np.maximum(free_after, 1) if adjusted else 1.0
    return np.asarray(1.0 - left * factor)


def add_rows(
    values: NDArray[np.generic], index: NDArray[np.intp], size: int
) -> NDArray[np.float64]:
    """Sum the rows that have the same index."""
    columns = np.arange(len(index))
    matrix = sparse.csr_array((np.ones(len(index)), (index, columns)), shape=(size, len(index)))
    return np.asarray(matrix @ values)


def _ranks(keys: Any, size: int) -> tuple[NDArray[Any], Any, NDArray[np.int64]]:
    """Keys below ``size`` that occur, the rank of every key among them (-1 for -1), and counts."""
    if size > _blocks.MANY:
        occurring, counts = _blocks.distinct(keys)
        occurring, counts = occurring[occurring >= 0], counts[occurring >= 0]

        def rank(block: NDArray[Any]) -> NDArray[Any]:
            return np.where(block < 0, -1, np.searchsorted(occurring, block))

    else:
        counts = _blocks.counts(keys, size)
        occurring = np.flatnonzero(counts)
        counts, table = counts[occurring], np.full(size + 1, -1, integers(len(occurring)))
        table[occurring] = np.arange(len(occurring))  # the last entry is for -1

        def rank(block: NDArray[Any]) -> NDArray[Any]:
            return table[block]

    return occurring, mapped(rank, keys, dtype=integers(len(occurring))), counts


def _map_numbers(recording: xr.Dataset, maps: str) -> tuple[NDArray[np.generic], NDArray[np.intp]]:
    """The maps, and the number of the map of each walk."""
    if maps == "together" or schema.MAP not in recording.variables:
        return np.zeros(1, int), np.zeros(recording.sizes[schema.WALK], np.intp)
    return schema.map_numbers(recording)


def _given(recording: xr.Dataset, given: str | None) -> tuple[NDArray[Any], Any]:
    """Sorted values of ``given``, and the value at every sample; 0 without ``given``."""
    if given is None:
        return np.zeros(1, np.int8), np.zeros((1, 1), np.int8)
    values = samples(recording, given)
    return _blocks.distinct(values)[0], values


def check_options(recording: xr.Dataset, maps: str, per_map: bool) -> None:
    """Raise if ``maps`` is unknown, or if ``per_map`` needs maps that the recording lacks."""
    check_option("maps", maps, ("apart", "together"))
    if per_map and (maps == "together" or schema.MAP not in recording.variables):
        raise ValueError(
            "per_map=True needs maps='apart' and a recording with the coordinate 'map'; assign the "
            "coordinate, or pass per_map=False"
        )
