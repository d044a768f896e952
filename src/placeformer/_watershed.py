"""Watershed of stacks of maps: regions of a mask, one around every peak that stands out.

Bins are taken from the highest down, the k-th of every map at once. A bin without a taken
neighbour is a new peak; any other joins the region of its highest neighbour. Where regions meet,
those whose peaks rise too little above the saddle are merged into the region of the highest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def watershed(
    height: NDArray[np.float64],
    mask: NDArray[np.bool_],
    depth: NDArray[np.float64],
    connectivity: int,
) -> NDArray[np.intp]:
    """Regions of a mask, parted where both peaks rise by ``depth`` or more above the saddle.

    Parameters
    ----------
    height
        Maps (map, *bins).
    mask
        Bins that belong to a region, same shape.
    depth
        Least rise of a peak that has a region of its own, shape (map,).
    connectivity
        4: bins touch by sides; 8: by sides and corners.

    Returns
    -------
    numpy.ndarray
        0 outside the mask, else a number above 0 that no other region of the stack has.
    """
    border = ((0, 0), *((1, 1),) * (height.ndim - 1))
    padded = np.pad(height, border, constant_values=-np.inf)
    flat = padded.reshape(len(height), -1)
    inside = np.pad(mask, border).reshape(len(height), -1)
    count = inside.sum(axis=1)
    rows = np.argsort(-count, kind="stable")  # fullest first: the maps that go on are a prefix
    order = np.argsort(np.where(inside, -flat, np.inf), axis=1, kind="stable")[rows]
    steps = _steps(padded.shape[1:], connectivity)
    label = np.zeros(flat.shape, np.intp)
    for k in range(int(count.max(initial=0))):
        here = rows[: np.count_nonzero(count > k)]
        _take(label, flat, here, order[: len(here), k], steps, depth)
    label += np.where(label > 0, np.arange(len(label))[:, None] * label.shape[1], 0)
    return label.reshape(padded.shape)[(slice(None), *(slice(1, -1),) * (height.ndim - 1))]


def neighbourhood(n_axes: int, connectivity: int) -> NDArray[np.bool_]:
    """Neighbours of a bin of a stack (map, *bins), itself among them, none in another map."""
    inner = ndimage.generate_binary_structure(n_axes, 1 if connectivity == 4 else n_axes)
    structure = np.zeros((3, *inner.shape), bool)
    structure[1] = inner
    return structure


def _steps(shape: tuple[int, ...], connectivity: int) -> NDArray[np.intp]:
    """Distances in memory from a bin of a map to its neighbours."""
    offsets = np.argwhere(neighbourhood(len(shape), connectivity)[1]) - 1
    steps = offsets @ np.array([int(np.prod(shape[i + 1 :])) for i in range(len(shape))])
    return np.asarray(steps[steps != 0])


def _take(
    label: NDArray[np.intp],
    height: NDArray[np.float64],
    rows: NDArray[np.intp],
    bins: NDArray[np.intp],
    steps: NDArray[np.intp],
    depth: NDArray[np.float64],
) -> None:
    """Label one more bin of every map; a region's label is the bin of its peak."""
    each, lines = np.arange(len(rows)), rows[:, None]
    around = bins[:, None] + steps
    near = label[lines, around]
    taken = near > 0
    uphill = np.where(taken, height[lines, around], -np.inf).argmax(axis=1)
    label[rows, bins] = np.where(taken.any(axis=1), near[each, uphill], bins)
    peak = np.where(taken, height[lines, near], -np.inf)
    highest = near[each, peak.argmax(axis=1)]
    rise = peak - height[rows, bins][:, None]
    weak = taken & (near != highest[:, None]) & (rise < depth[rows][:, None])
    for column in np.flatnonzero(weak.any(axis=0)):
        which = weak[:, column]
        some = label[rows[which]]
        old, new = near[which, column][:, None], highest[which][:, None]
        label[rows[which]] = np.where(some == old, new, some)
