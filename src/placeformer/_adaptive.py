"""The adaptive threshold of opexebo's ``place_field``, with its search for peaks mended.

A region grows around a peak while the threshold falls from 96 % of the peak, and stops before it
takes in another peak, encloses a hole, or jumps in size. opexebo's own search rejects the peaks
of any map without zeros, and those near a zero; here every peak of the opened map counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

SQUARE = (1, 3, 3)
CROSS = ndimage.generate_binary_structure(2, 1)[None]


def adaptive(rate: Image, visited: Mask, lowest: float) -> NDArray[np.intp]:
    """Fields of a stack of maps (map, y, x), numbered through the stack; 0 outside.

    Parameters
    ----------
    rate
        Rates, 0 where not visited.
    visited
        Bins that were visited, same shape: others may lie within a field.
    lowest
        Last threshold, as a share of a field's peak.
    """
    seed = ndimage.grey_erosion(rate, footprint=CROSS, mode="reflect")
    images = _reconstruct(seed, rate)
    tops = _regional_maxima(images)
    region = np.zeros(rate.shape, np.intp)
    for k in np.flatnonzero(rate.max(axis=(1, 2)) > 0):
        _fields(images[k], visited[k], _centres(tops[k]), lowest, region[k])
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
    """Plateaus without a higher neighbour, none in a flat map."""
    top = ndimage.maximum_filter(image, SQUARE) <= image
    while True:
        # a bin beside an equal one that is not on top is not on top either
        below = np.where(top, -np.inf, image)
        fallen = top & (ndimage.maximum_filter(below, SQUARE) >= image)
        if not fallen.any():
            return np.asarray(top & ~top.all(axis=(1, 2), keepdims=True))
        top &= ~fallen


def _centres(top: Mask) -> NDArray[np.intp]:
    """Whole-number centres (peak, axis) of the plateaus of one map."""
    label, n = ndimage.label(top, np.ones((3, 3)))
    return np.array(ndimage.center_of_mass(top, label, range(1, n + 1))).reshape(n, 2).astype(int)


def _fields(
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
        field = _grow(image, visited, tuple(peak), others, lowest)
        if field is not None:
            image[field], region[field] = taken, number


def _grow(
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
            return _lower(around, level if level == 0.96 else below, lowest, growth, area)
    return None


def _lower(around: Any, start: float, lowest: float, growth: float, area: int) -> Mask | None:
    """Last region before the threshold is too low: it jumps, shrinks, or has long been the same."""
    kept, same, shrunk = None, 0, 0
    for level in np.linspace(start, lowest, max(1, int((start - lowest) / 0.02) + 1)).round(2):
        field = around(level)
        if field is None:
            break
        change = field.sum() / area
        shrunk = shrunk + 1 if change < 1 else 0
        same = same + 1 if change == 1 else 0
        if change / growth >= 3 or shrunk == 3 or same == 10:
            break
        kept, area = field, field.sum()
    return kept
