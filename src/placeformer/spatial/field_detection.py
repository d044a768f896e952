"""Detection of fields in rate maps: criteria, watershed, and the adaptive threshold of opexebo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from placeformer._options import check_number
from placeformer.data.circular import shortest
from placeformer.stats.tolerances import FLAT

Method = Literal["peak", "fraction", "opexebo"]

Image = NDArray[np.float64]

Mask = NDArray[np.bool_]

SPREAD_QUANTILES = (0.05, 0.3)
"""Quantiles of a map whose difference measures the spread of its background."""

SPREAD_OF_NORMAL = 1.1205
"""Difference of these quantiles in a normal distribution, in standard deviations."""

SADDLE_NOISE = 2.5
"""Minimum depth of a saddle, in standard deviations of the noise in a bin."""

SQUARE = (1, 3, 3)

CROSS = ndimage.generate_binary_structure(2, 1)[None]


@dataclass(frozen=True)
class Criteria:
    """Criteria for a region of a rate map to be a field; see :func:`placeformer.place_fields`."""

    method: Method
    threshold: float
    min_bins: int
    min_contrast: float
    min_prominence: float
    connectivity: int

    def check(self) -> None:
        """Raise one error that lists every criterion out of range."""
        for name in ("threshold", "min_bins", "min_contrast", "min_prominence"):
            check_number(name, getattr(self, name))
        rules = [
            (self.method in get_args(Method), "method", f"be one of {get_args(Method)}"),
            (0 < self.threshold < 1, "threshold", "lie between 0 and 1 (fraction of the peak)"),
            (self.min_bins >= 1, "min_bins", "be at least 1 bin"),
            (self.min_contrast >= 0, "min_contrast", "be at least 0 (standard errors)"),
            (0 < self.min_prominence <= 1, "min_prominence", "lie above 0 and up to 1"),
            (self.connectivity in (4, 8), "connectivity", "be 4 (sides) or 8 (sides and corners)"),
        ]
        broken = [f"{n} must {rule}, got {getattr(self, n)!r}" for ok, n, rule in rules if not ok]
        if broken:
            raise ValueError("; ".join(broken))


@dataclass(frozen=True)
class DetectedFields:
    """Fields of a stack of maps: labels (map, *bins) and columns of a flat table."""

    label: NDArray[np.int32]
    owner: NDArray[np.intp]
    number: NDArray[np.intp]
    columns: dict[str, NDArray[np.float64]]


Wraps = tuple[bool, ...]
"""Whether the last bin of every axis of place is a neighbour of the first."""


def detect(
    rate: NDArray[np.float64], valid: NDArray[np.bool_], criteria: Criteria, wraps: Wraps
) -> DetectedFields:
    """Detect the fields of a stack of maps (map, *bins), all maps at once."""
    (baseline,) = _quantiles(rate, valid, (0.5,)) if criteria.method == "peak" else (0.0,)
    height = np.where(valid, rate - baseline, 0.0)
    noise = _noise(rate, valid, wraps)
    greatest = _over_bins(np.max, height)
    mask = valid & (height >= criteria.threshold * greatest) & (greatest > 0)
    if criteria.method == "peak":
        depth = np.maximum(criteria.min_prominence * greatest, SADDLE_NOISE * noise).reshape(-1)
        region = watershed(height, mask, depth, criteria.connectivity, wraps)
    elif criteria.method == "fraction":
        region = connected(mask, criteria.connectivity, wraps)
    else:
        region = opexebo_regions(height, valid, criteria.threshold)
    contrast = _contrast(rate, valid, noise, wraps)
    return _select_fields(rate, height, contrast, region, criteria, wraps)


def _select_fields(
    rate: NDArray[np.float64],
    height: NDArray[np.float64],
    contrast: NDArray[np.float64],
    region: NDArray[np.intp],
    criteria: Criteria,
    wraps: Wraps,
) -> DetectedFields:
    """Regions that are large and high enough, numbered in each map by the height of the peak."""
    where = np.nonzero(region)
    number = np.unique(region[where], return_inverse=True)[1]
    n = int(number.max(initial=-1)) + 1
    size = np.bincount(number, minlength=n)
    owner = np.zeros(n, np.intp)
    owner[number] = where[0]
    columns = {name: np.full(n, -np.inf) for name in ("peak", "height", "contrast")}
    for greatest, values in zip(columns.values(), (rate, height, contrast), strict=True):
        np.maximum.at(greatest, number, values[where])
    good = size >= criteria.min_bins
    if criteria.method == "peak":
        good &= columns["contrast"] >= criteria.min_contrast
    order = np.lexsort((-columns["height"], owner))
    order = order[good[order]]
    rank = np.zeros(n, np.intp)
    rank[order] = _rank_within(owner[order])
    label = np.zeros(region.shape, np.int32)
    label[where] = rank[number]
    columns |= {"size": size.astype(float), **_shape(height, where, number, n, wraps)}
    return DetectedFields(
        label, owner[order], rank[order], {k: v[order] for k, v in columns.items()}
    )


def _rank_within(sorted_owner: NDArray[np.intp]) -> NDArray[np.intp]:
    """1, 2, ... within every run of equal numbers."""
    first = np.searchsorted(sorted_owner, sorted_owner)
    return np.arange(len(sorted_owner)) - first + 1


def _shape(
    height: NDArray[np.float64],
    where: tuple[NDArray[np.intp], ...],
    number: NDArray[np.intp],
    n: int,
    wraps: Wraps,
) -> dict[str, NDArray[np.float64]]:
    """Centroid (in bins) and eccentricity of every region."""
    weight = np.maximum(height[where], 0.0)
    total = np.bincount(number, weight, n)
    axes = [
        _beside_peak(at, number, weight, n, size) if wrapped else at
        for at, size, wrapped in zip(where[1:], height.shape[1:], wraps, strict=True)
    ]
    mean = [np.bincount(number, weight * at, n) / total for at in axes]
    off = [at - m[number] for at, m in zip(axes, mean, strict=True)]
    spread = [[np.bincount(number, weight * a * b, n) / total for b in off] for a in off]
    sizes = zip(mean, height.shape[1:], wraps, strict=True)
    centroid = {f"axis_{i}": m % k if wrapped else m for i, (m, k, wrapped) in enumerate(sizes)}
    return {**centroid, "eccentricity": _eccentricity(np.moveaxis(np.array(spread), -1, 0))}


def _beside_peak(
    at: NDArray[np.intp],
    number: NDArray[np.intp],
    weight: NDArray[np.float64],
    n: int,
    size: int,
) -> NDArray[np.float64]:
    """Bins of regions on a circular axis, moved by whole periods close to the heaviest bin."""
    heaviest = np.zeros(n, np.intp)
    order = np.argsort(weight, kind="stable")
    heaviest[number[order]] = at[order]
    start = heaviest[number]
    return start + shortest(at - start, size)


def _eccentricity(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eccentricity of the ellipse (or of an ellipsoid's extreme axes) of each covariance."""
    if covariance.ndim < 3 or covariance.shape[-1] < 2:
        return np.full(len(covariance), np.nan)
    values = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    least, most = values[:, 0], values[:, -1]
    ratio = np.divide(least, most, out=np.ones_like(most), where=most > 0)
    return np.asarray(np.sqrt(1.0 - ratio))


def _noise(
    rate: NDArray[np.float64], valid: NDArray[np.bool_], wraps: Wraps
) -> NDArray[np.float64]:
    """Standard deviation of a bin, from the mean square difference of visited neighbours.

    Slow variation hardly contributes; skewed noise and noise with a floor are handled too.
    """
    squares, pairs = np.zeros(len(rate)), np.zeros(len(rate))
    for axis in range(1, rate.ndim):
        line, seen = (np.moveaxis(a, axis, -1) for a in (np.where(valid, rate, 0.0), valid))
        if wraps[axis - 1]:
            line, seen = (np.concatenate([a, a[..., :1]], axis=-1) for a in (line, seen))
        known = seen[..., 1:] & seen[..., :-1]
        step = np.where(known, line[..., 1:] - line[..., :-1], 0.0)
        squares += (step**2).reshape(len(rate), -1).sum(axis=1)
        pairs += known.reshape(len(rate), -1).sum(axis=1)
    noise = np.sqrt(squares / np.maximum(2 * pairs, 1)).reshape(-1, *(1,) * (rate.ndim - 1))
    rounding = FLAT * _over_bins(np.max, np.abs(np.where(valid, rate, 0.0)))
    return np.maximum(noise, rounding)


def _contrast(
    rate: NDArray[np.float64],
    valid: NDArray[np.bool_],
    noise: NDArray[np.float64],
    wraps: Wraps,
) -> NDArray[np.float64]:
    """Mean of the 3 x 3 bins around each bin above its median in the map, in standard errors.

    Where the background of these means varies more than the noise of single bins explains, as in
    smoothed maps, the standard error comes from that variation instead.
    """
    n = np.maximum(np.round(box_sums(valid.astype(float), wraps)), 1.0)
    mean = box_sums(np.where(valid, rate, 0.0), wraps) / n
    (middle,) = _quantiles(mean, valid, (0.5,))
    above = (mean - middle) * np.sqrt(n)
    least, low = _quantiles(above, valid, SPREAD_QUANTILES)
    scale = np.maximum(noise, (low - least) / SPREAD_OF_NORMAL)
    return np.divide(above, scale, out=np.zeros_like(above), where=scale > 0)


def box_sums(values: NDArray[np.float64], wraps: Wraps) -> NDArray[np.float64]:
    """Sum over a bin and its neighbours by sides and corners; 0 beyond the border."""
    for axis, wrapped in enumerate(wraps, start=1):
        mode = "wrap" if wrapped else "constant"
        values = ndimage.convolve1d(values, np.ones(3), axis=axis, mode=mode)
    return values


def _quantiles(
    values: NDArray[np.float64], valid: NDArray[np.bool_], shares: tuple[float, ...]
) -> list[NDArray[np.float64]]:
    """Quantiles of the valid bins of every map, linearly interpolated; 0 without valid bins."""
    flat = np.where(valid, values, np.inf).reshape(len(values), -1)
    last = valid.reshape(len(values), -1).sum(axis=1) - 1
    ordered, rows = np.sort(flat, axis=1), np.arange(len(values))
    quantiles = []
    for share in shares:
        place = np.maximum(share * last, 0.0)
        below = place.astype(int)
        above = np.minimum(below + 1, np.maximum(last, 0))
        ends = [np.where(last >= 0, ordered[rows, k], 0.0) for k in (below, above)]
        quantiles.append(ends[0] + (place - below) * (ends[1] - ends[0]))
    return [f.reshape(-1, *(1,) * (values.ndim - 1)) for f in quantiles]


def _over_bins(reduce: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = reduce(values, axis=tuple(range(1, values.ndim)), keepdims=True)
    return result


def watershed(
    height: NDArray[np.float64],
    mask: NDArray[np.bool_],
    depth: NDArray[np.float64],
    connectivity: int,
    wraps: Wraps = (),
) -> NDArray[np.intp]:
    """Regions of a mask, split where both peaks rise by at least ``depth`` above the saddle.

    Parameters
    ----------
    height
        Maps (map, *bins).
    mask
        Bins that belong to a region, same shape.
    depth
        Minimum rise of a peak that forms a separate region, shape (map,).
    connectivity
        4: bins are connected by sides; 8: by sides and corners.
    wraps
        Whether the last bin of every axis is a neighbour of the first; by default False for all.

    Returns
    -------
    numpy.ndarray
        0 outside the mask, else a positive label that is unique in the stack.
    """
    border = ((0, 0), *((1, 1),) * (height.ndim - 1))
    padded = np.pad(height, border, constant_values=-np.inf)
    flat = padded.reshape(len(height), -1)
    inside = np.pad(mask, border).reshape(len(height), -1)
    count = inside.sum(axis=1)
    # The maps with the most bins come first, so that the maps with bins left are a prefix.
    rows = np.argsort(-count, kind="stable")
    order = np.argsort(np.where(inside, -flat, np.inf), axis=1, kind="stable")[rows]
    neighbours = _neighbours(padded.shape[1:], connectivity, wraps or (False,) * mask[0].ndim)
    label = np.zeros(flat.shape, np.intp)
    for k in range(int(count.max(initial=0))):
        here = rows[: np.count_nonzero(count > k)]
        _flood_next_bin(label, flat, here, order[: len(here), k], neighbours, depth)
    label += np.where(label > 0, np.arange(len(label))[:, None] * label.shape[1], 0)
    return label.reshape(padded.shape)[(slice(None), *(slice(1, -1),) * (height.ndim - 1))]


def _flood_next_bin(
    label: NDArray[np.intp],
    height: NDArray[np.float64],
    rows: NDArray[np.intp],
    bins: NDArray[np.intp],
    neighbours: NDArray[np.intp],
    depth: NDArray[np.float64],
) -> None:
    """Label one more bin of every map; a region's label is the bin of its peak."""
    maps, map_rows = np.arange(len(rows)), rows[:, None]
    around = neighbours[bins]
    near = label[map_rows, around]
    taken = near > 0
    uphill = np.where(taken, height[map_rows, around], -np.inf).argmax(axis=1)
    label[rows, bins] = np.where(taken.any(axis=1), near[maps, uphill], bins)
    peak = np.where(taken, height[map_rows, near], -np.inf)
    highest = near[maps, peak.argmax(axis=1)]
    rise = peak - height[rows, bins][:, None]
    weak = taken & (near != highest[:, None]) & (rise < depth[rows][:, None])
    for column in np.flatnonzero(weak.any(axis=0)):
        which = weak[:, column]
        some = label[rows[which]]
        old, new = near[which, column][:, None], highest[which][:, None]
        label[rows[which]] = np.where(some == old, new, some)


def _neighbours(shape: tuple[int, ...], connectivity: int, wraps: Wraps) -> NDArray[np.intp]:
    """Neighbours (bin, neighbour) of the bins of a flat map with a border of one bin.

    On a circular axis a neighbour beyond the border is at the other end of the axis.
    """
    offsets = np.argwhere(neighbourhood(len(shape), connectivity)[1]) - 1
    offsets = offsets[offsets.any(axis=1)]
    place = np.indices(shape).reshape(len(shape), -1, 1)
    around = [
        (at + step - 1) % (n - 2) + 1 if wrapped else np.clip(at + step, 0, n - 1)
        for at, step, n, wrapped in zip(place, offsets.T, shape, wraps, strict=True)
    ]
    return np.ravel_multi_index(tuple(around), shape)


def connected(mask: Mask, connectivity: int, wraps: Wraps) -> NDArray[np.intp]:
    """Labels of the connected regions of a stack of masks (map, *bins), 0 outside."""
    structure = neighbourhood(mask.ndim - 1, connectivity)
    border = ((0, 0), *((int(wrapped),) * 2 for wrapped in wraps))
    label, n = ndimage.label(np.pad(mask, border, mode="wrap"), structure)
    if not any(wraps):
        return np.asarray(label)
    # A bin and its copy beyond the seam belong to the same region.
    inside = tuple(slice(side[0], -side[1] or None) for side in border)
    copy = np.pad(label[inside], border, mode="wrap")
    pairs = (np.ones(label.size), (label.ravel(), copy.ravel()))
    graph = sparse.coo_array(pairs, shape=(n + 1, n + 1))
    whole = csgraph.connected_components(graph, directed=False)[1]
    return np.asarray(np.where(mask, whole[label[inside]] + 1, 0))


def neighbourhood(n_axes: int, connectivity: int) -> NDArray[np.bool_]:
    """Structuring element of a stack (map, *bins): a bin and its neighbours in the same map."""
    inner = ndimage.generate_binary_structure(n_axes, 1 if connectivity == 4 else n_axes)
    structure = np.zeros((3, *inner.shape), bool)
    structure[1] = inner
    return structure


def opexebo_regions(rate: Image, visited: Mask, lowest: float) -> NDArray[np.intp]:
    """Fields of a stack of maps (map, y, x), numbered consecutively; 0 outside fields.

    Parameters
    ----------
    rate
        Rates, 0 where not visited.
    visited
        Visited bins, same shape; a field may enclose bins that were not visited.
    lowest
        Lowest threshold, as a fraction of the peak of a field.
    """
    seed = ndimage.grey_erosion(rate, footprint=CROSS, mode="reflect")
    images = _reconstruct(seed, rate)
    tops = _regional_maxima(images)
    region = np.zeros(rate.shape, np.intp)
    for k in np.flatnonzero(rate.max(axis=(1, 2)) > 0):
        _opexebo_fields(images[k], visited[k], _peak_centres(tops[k]), lowest, region[k])
    first = np.arange(len(region)).reshape(-1, 1, 1) * rate[0].size
    return np.where(region > 0, region + first, 0)


def _reconstruct(seed: Image, image: Image) -> Image:
    """Grey-scale reconstruction by dilation: the seed, grown under the image."""
    while True:
        grown = np.minimum(ndimage.maximum_filter(seed, SQUARE), image)
        if np.array_equal(grown, seed):
            return seed
        seed = grown


def _regional_maxima(image: Image) -> Mask:
    """Plateaus without a higher neighbour; none in a flat map."""
    top = ndimage.maximum_filter(image, SQUARE) <= image
    while True:
        # A bin is not a maximum if an equal neighbour is not one.
        below = np.where(top, -np.inf, image)
        fallen = top & (ndimage.maximum_filter(below, SQUARE) >= image)
        if not fallen.any():
            return np.asarray(top & ~top.all(axis=(1, 2), keepdims=True))
        top &= ~fallen


def _peak_centres(top: Mask) -> NDArray[np.intp]:
    """Whole-number centres (peak, axis) of the plateaus of one map."""
    label, n = ndimage.label(top, np.ones((3, 3)))
    return np.array(ndimage.center_of_mass(top, label, range(1, n + 1))).reshape(n, 2).astype(int)


def _opexebo_fields(
    image: Image,
    visited: Mask,
    peaks: NDArray[np.intp],
    lowest: float,
    region: NDArray[np.intp],
) -> None:
    """Number the fields of one map in ``region``."""
    image, taken = image.copy(), 1.5 * image.max()
    for number, peak in enumerate(peaks[image[tuple(peaks.T)] > 0], start=1):
        others = np.zeros(image.shape, bool)
        others[tuple(peaks.T)] = True
        others[tuple(peak)] = False
        field = _grow_field(image, visited, tuple(peak), others, lowest)
        if field is not None:
            image[field], region[field] = taken, number


def _grow_field(
    image: Image, visited: Mask, peak: tuple[Any, ...], others: Mask, lowest: float
) -> Mask | None:
    """Field around a peak, or None."""

    def around(level: float) -> Mask | None:
        label = ndimage.label(image >= level * image[peak])[0]
        inside = label == label[peak]
        holes = ndimage.binary_fill_holes(inside) & ~inside & visited
        return None if holes.any() or (inside & others).any() else inside

    for level, below in ((0.96, 0.94), *((j, j - 0.01) for j in np.linspace(0.97, 1.0, 4))):
        first, second = around(level), around(below)
        if first is not None and second is not None:
            growth, area = second.sum() / first.sum(), second.sum()
            return _lower_threshold(around, level if level == 0.96 else below, lowest, growth, area)
    return None


def _lower_threshold(
    around: Any, start: float, lowest: float, growth: float, area: int
) -> Mask | None:
    """Last region before a lower threshold makes it jump in size, shrink, or stay the same."""
    field_before, n_same, n_shrunk = None, 0, 0
    for level in np.linspace(start, lowest, max(1, int((start - lowest) / 0.02) + 1)).round(2):
        field = around(level)
        if field is None:
            break
        change = field.sum() / area
        n_shrunk = n_shrunk + 1 if change < 1 else 0
        n_same = n_same + 1 if change == 1 else 0
        if change / growth >= 3 or n_shrunk == 3 or n_same == 10:
            break
        field_before, area = field, field.sum()
    return field_before
