"""Connected regions of stacks of rate maps: the NumPy kernel of place fields.

All maps are worked on at once: arrays are (map, *bins), and neighbourhoods never join two maps.
In memory the maps lie innermost, which makes every step along the bins one long loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Method = Literal["peak", "fraction"]

SPREAD_QUANTILES = (0.05, 0.3)
"""Quantiles of a map whose distance measures the spread of its background."""

SPREAD_OF_NORMAL = 1.1205
"""Distance of those quantiles in a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Criteria:
    """What makes a region of a rate map a field; see :func:`placeformer.place_fields`."""

    method: Method
    threshold: float
    min_bins: int
    min_contrast: float
    min_prominence: float
    connectivity: int

    def check(self) -> None:
        """Raise one error that lists every criterion out of range."""
        rules = [
            (self.method in get_args(Method), "method", f"be one of {get_args(Method)}"),
            (0 < self.threshold < 1, "threshold", "lie between 0 and 1 (share of the peak)"),
            (self.min_bins >= 1, "min_bins", "be at least 1 bin"),
            (self.min_contrast >= 0, "min_contrast", "be at least 0 (spreads of the background)"),
            (0 < self.min_prominence <= 1, "min_prominence", "lie above 0 and up to 1"),
            (self.connectivity in (4, 8), "connectivity", "be 4 (sides) or 8 (sides and corners)"),
        ]
        broken = [f"{n} must {rule}, found {getattr(self, n)!r}" for ok, n, rule in rules if not ok]
        if broken:
            raise ValueError("; ".join(broken))


@dataclass(frozen=True)
class Found:
    """Fields of a stack of maps: labels (map, *bins) and columns of a flat table."""

    label: NDArray[np.int32]
    owner: NDArray[np.intp]
    number: NDArray[np.intp]
    columns: dict[str, NDArray[np.float64]]


def detect(rate: NDArray[np.float64], valid: NDArray[np.bool_], criteria: Criteria) -> Found:
    """Fields of a stack of maps (map, *bins), all maps at once."""
    rate, valid = _innermost(rate), _innermost(valid)
    height, spread = _height(rate, valid, criteria.method)
    greatest = _over_bins(np.max, height)
    level = criteria.threshold * greatest
    mask = valid & (height >= level) & (greatest > 0)
    structure = _structure(rate.ndim - 1, criteria.connectivity)
    if criteria.method == "fraction":
        region = ndimage.label(mask, structure)[0]
    else:
        depth = np.maximum(criteria.min_prominence * greatest, 2 * spread)
        region = _split(height, mask, depth, structure)
    return _keep(rate, height, spread, region, criteria)


def _innermost(values: NDArray[Any]) -> NDArray[Any]:
    """The same array with the maps contiguous in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 0, -1)), -1, 0)


def _height(
    rate: NDArray[np.float64], valid: NDArray[np.bool_], method: Method
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates above the baseline (0 where not valid) and the spread of the background."""
    if method == "fraction":
        return np.where(valid, rate, 0.0), np.zeros_like(_over_bins(np.max, rate))
    least, low, baseline = _quantiles(rate, valid, (*SPREAD_QUANTILES, 0.5))
    height = np.where(valid, rate - baseline, 0.0)
    rounding = 1e-6 * _over_bins(np.max, np.abs(np.where(valid, rate, 0.0)))
    return height, np.maximum((low - least) / SPREAD_OF_NORMAL, rounding)


def _quantiles(
    values: NDArray[np.float64], valid: NDArray[np.bool_], shares: tuple[float, ...]
) -> list[NDArray[np.float64]]:
    """Quantiles of the valid bins of every map, linear between bins; 0 where there are none."""
    flat = np.where(valid, values, np.inf).reshape(len(values), -1)
    last = valid.reshape(len(values), -1).sum(axis=1) - 1
    ordered, rows = np.sort(flat, axis=1), np.arange(len(values))
    found = []
    for share in shares:
        place = np.maximum(share * last, 0.0)
        below = place.astype(int)
        above = np.minimum(below + 1, np.maximum(last, 0))
        ends = [np.where(last >= 0, ordered[rows, k], 0.0) for k in (below, above)]
        found.append(ends[0] + (place - below) * (ends[1] - ends[0]))
    return [f.reshape(-1, *(1,) * (values.ndim - 1)) for f in found]


def _over_bins(reduce: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = reduce(values, axis=tuple(range(1, values.ndim)), keepdims=True)
    return result


def _structure(n_axes: int, connectivity: int) -> NDArray[np.bool_]:
    """Neighbourhood within a map that never joins two maps of the stack."""
    inner = ndimage.generate_binary_structure(n_axes, 1 if connectivity == 4 else n_axes)
    structure = np.zeros((3, *inner.shape), bool)
    structure[1] = inner
    return structure


def _split(
    height: NDArray[np.float64],
    mask: NDArray[np.bool_],
    depth: NDArray[np.float64],
    structure: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Regions of a mask, one for every peak that rises ``depth`` above its saddles."""
    inside = np.where(mask, height, -np.inf)
    seeds = _tops(inside, mask, depth, structure)
    region = _innermost(ndimage.label(seeds, structure)[0].astype(np.intp))
    return _flood(region, inside, mask, structure)


def _tops(
    height: NDArray[np.float64],
    mask: NDArray[np.bool_],
    depth: NDArray[np.float64],
    structure: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Plateaus of the h-maxima transform: the height lowered by ``depth``, grown back under it."""
    grown = np.where(mask, height - depth, -np.inf)
    while True:
        wider = np.minimum(_dilate(grown, structure), height)
        if np.array_equal(wider, grown):
            break
        grown = wider
    return mask & _regional_maxima(grown, structure)


def _regional_maxima(
    values: NDArray[np.float64], structure: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Plateaus without a higher neighbour."""
    top = np.isfinite(values) & (_dilate(values, structure) <= values)
    while True:
        # a bin beside an equal one that is not on top is not on top either
        below = np.where(top, -np.inf, values)
        fallen = top & (_dilate(below, structure) >= values)
        if not fallen.any():
            return top
        top &= ~fallen


def _flood(
    region: NDArray[np.intp],
    height: NDArray[np.float64],
    mask: NDArray[np.bool_],
    structure: NDArray[np.bool_],
    n_levels: int = 20,
) -> NDArray[np.intp]:
    """Give every bin of the mask to the region it is reached from when water falls."""
    top = _over_bins(np.max, np.where(mask, height, 0.0))
    for share in np.linspace(1, 0, n_levels + 1):
        open_bins = mask & (height >= share * top)
        while True:
            reach = _dilate(region, structure)
            new = open_bins & (region == 0) & (reach > 0)
            if not new.any():
                break
            region = np.where(new, reach, region)
    return region


def _dilate(values: NDArray[Any], structure: NDArray[np.bool_]) -> NDArray[Any]:
    """Greatest value among a bin and its neighbours."""
    wider = np.copy(values)
    for offset in np.argwhere(structure) - 1:
        here = tuple(slice(max(0, -o), None if o <= 0 else -o) for o in offset)
        there = tuple(slice(max(0, o), None if o >= 0 else o) for o in offset)
        np.maximum(wider[here], values[there], out=wider[here])
    return wider


def _keep(
    rate: NDArray[np.float64],
    height: NDArray[np.float64],
    spread: NDArray[np.float64],
    region: NDArray[np.intp],
    criteria: Criteria,
) -> Found:
    """Regions that are large and high enough, numbered in each map by the height of the peak."""
    where = np.nonzero(region)
    number = np.unique(region[where], return_inverse=True)[1]
    n = int(number.max(initial=-1)) + 1
    size = np.bincount(number, minlength=n)
    owner = np.zeros(n, np.intp)
    owner[number] = where[0]
    peak_height = np.full(n, -np.inf)
    np.maximum.at(peak_height, number, height[where])
    scale = spread.reshape(-1)[owner]
    contrast = np.divide(peak_height, scale, out=np.full(n, np.inf), where=scale > 0)
    good = (size >= criteria.min_bins) & (contrast >= criteria.min_contrast)
    order = np.lexsort((-peak_height, owner))
    order = order[good[order]]
    rank = np.zeros(n, np.intp)
    rank[order] = _count_within(owner[order])
    label = np.zeros(region.shape, np.int32)
    label[where] = rank[number]
    columns = {
        "size": size.astype(float),
        "height": peak_height,
        "contrast": contrast,
        **_shape(rate, height, where, number, n),
    }
    return Found(label, owner[order], rank[order], {k: v[order] for k, v in columns.items()})


def _count_within(sorted_owner: NDArray[np.intp]) -> NDArray[np.intp]:
    """1, 2, ... within every run of equal numbers."""
    first = np.searchsorted(sorted_owner, sorted_owner)
    return np.arange(len(sorted_owner)) - first + 1


def _shape(
    rate: NDArray[np.float64],
    height: NDArray[np.float64],
    where: tuple[NDArray[np.intp], ...],
    number: NDArray[np.intp],
    n: int,
) -> dict[str, NDArray[np.float64]]:
    """Peak, centroid (in bins) and eccentricity of every region."""
    peak = np.full(n, -np.inf)
    np.maximum.at(peak, number, rate[where])
    weight = np.maximum(height[where], 0.0)
    total = np.bincount(number, weight, n)
    mean = [np.bincount(number, weight * w, n) / total for w in where[1:]]
    off = [w - m[number] for w, m in zip(where[1:], mean, strict=True)]
    spread = [[np.bincount(number, weight * a * b, n) / total for b in off] for a in off]
    found = {"peak": peak, **{f"axis_{i}": m for i, m in enumerate(mean)}}
    return {**found, "eccentricity": _eccentricity(np.moveaxis(np.array(spread), -1, 0))}


def _eccentricity(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eccentricity of the ellipse (or of an ellipsoid's extreme axes) of each covariance."""
    if covariance.ndim < 3 or covariance.shape[-1] < 2:
        return np.full(len(covariance), np.nan)
    values = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    least, most = values[:, 0], values[:, -1]
    ratio = np.divide(least, most, out=np.ones_like(most), where=most > 0)
    return np.asarray(np.sqrt(1.0 - ratio))
