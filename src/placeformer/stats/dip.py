"""The dip test of unimodality."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from placeformer.stats.permutation import p_value

Floats = NDArray[np.float64]

APART = 1e-6
"""Fraction of the distance to the next value over which equal values are spread."""


def dip(values: ArrayLike) -> float:
    """Largest distance of the empirical distribution from the nearest unimodal one.

    From 1 / (2 n) to 1 / 4; NaN without values. The algorithm is that of Hartigan (1985): the
    distribution is enclosed between its greatest convex minorant and its least concave majorant,
    over an interval of modes that shrinks to where these are furthest apart. It assumes that values
    are distinct: equal ones are moved apart by a negligible amount, so that one of them may be the
    mode.

    References
    ----------
    Hartigan, J. A. and Hartigan, P. M. (1985). The dip test of unimodality. Annals of Statistics
    13, 70-84. https://doi.org/10.1214/aos/1176346577
    Hartigan, P. M. (1985). Algorithm AS 217: computation of the dip statistic to test for
    unimodality. Applied Statistics 34, 320-325. https://doi.org/10.2307/2347485
    """
    x = np.asarray(values, float).ravel()
    if not x.size:
        return np.nan
    x = _distinct(x)
    upper, lower = np.arange(1, len(x) + 1) / len(x), np.arange(len(x)) / len(x)
    low, high, found = 0, len(x) - 1, 1 / len(x)
    while high > low:
        part = slice(low, high + 1)
        at, below, above = x[part], lower[part], upper[part]
        convex, concave = _hull(at, below, 1), _hull(at, above, -1)
        minorant = np.interp(at, at[convex], below[convex])
        majorant = np.interp(at, at[concave], above[concave])
        gap = (majorant - minorant)[convex], (majorant - minorant)[concave]
        if gap[0].max() >= gap[1].max():
            left = int(convex[gap[0].argmax()])
            right = int(concave[concave >= left][0])
            width = gap[0].max()
        else:
            right = int(concave[len(concave) - 1 - gap[1][::-1].argmax()])
            left = int(convex[convex <= right][-1])
            width = gap[1].max()
        if width <= found:
            break
        found = max(
            found,
            (above - minorant)[: left + 1].max(),
            (majorant - below)[right:].max(),
        )
        if (left, right) == (0, high - low):
            break
        low, high = low + left, low + right
    return float(found / 2)


def _distinct(values: Floats) -> Floats:
    """Values in ascending order from 0, equal ones moved apart by a negligible amount."""
    x, counts = np.unique(values, return_counts=True)
    room = np.append(np.diff(x), 1.0)
    among = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = among / np.repeat(counts, counts)
    return np.repeat(x - x[0], counts) + APART * share * np.repeat(room, counts)


def _hull(x: Floats, y: Floats, sign: int) -> NDArray[np.intp]:
    """Points on the lower (sign 1) or upper (-1) hull of points in ascending order."""
    xs, ys, kept = x.tolist(), (sign * y).tolist(), list[int]()
    for k in range(len(xs)):
        while len(kept) > 1:
            i, j = kept[-2:]
            if (ys[j] - ys[i]) * (xs[k] - xs[j]) < (ys[k] - ys[j]) * (xs[j] - xs[i]):
                break
            kept.pop()
        kept.append(k)
    return np.array(kept, np.intp)


def dip_test(values: ArrayLike, *, n_resamples: int = 999, seed: int = 0) -> tuple[float, float]:
    """Dip of values, and the p-value that they come from a unimodal distribution.

    p is the fraction of uniform samples of the same size with a dip at least as large, the data
    included. Among unimodal distributions the uniform one has the largest dips, so that p is too
    large for others, never too small.
    """
    x = np.asarray(values, float).ravel()
    observed = dip(x)
    rng = np.random.default_rng(seed)
    null = np.array([dip(rng.random(x.size)) for _ in range(n_resamples)])
    return observed, float(p_value(null, observed))
