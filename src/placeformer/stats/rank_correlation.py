"""Spearman's rank correlation: plain and partial, with its interval, and a test within blocks."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from placeformer.stats.intervals import LEVEL, Estimate, percentile_interval
from placeformer.stats.permutation import p_value
from placeformer.stats.tolerances import FLAT

Floats = NDArray[np.float64]
LEAST_POINTS = 4
"""Minimum number of points for a rank correlation."""
LEAST_DRAWN = 8
"""Minimum number of points for a bootstrap interval: fewer have too few distinct draws."""


def spearman(x: Floats, y: Floats, given: Floats | None = None) -> float:
    """Spearman's ρ of two variables (point,), or their partial ρ given a third.

    The partial ρ is (ρ_xy - ρ_xz ρ_yz) / √((1 - ρ_xz²) (1 - ρ_yz²)). Points where any is NaN are
    left out; NaN for fewer than four, or where a variable is constant.
    """
    return float(rank_correlation(known([x, y] if given is None else [x, y, given])))


def known(variables: list[Floats]) -> Floats:
    """Table (variable, point) of the points where no variable is NaN."""
    table = np.stack(variables).astype(float)
    return table[:, np.isfinite(table).all(0)]


def rank_correlation(table: Floats) -> Floats:
    """ρ (...) of tables (variable, ..., point); with three variables the partial ρ."""
    if table.shape[-1] < LEAST_POINTS:
        return np.full(table.shape[1:-1], np.nan)
    ranks = stats.rankdata(table, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks /= np.sqrt((ranks**2).sum(-1, keepdims=True))
        if len(table) == 3:  # residuals given the third variable
            x, y, z = ranks
            ranks = np.stack([v - (v * z).sum(-1, keepdims=True) * z for v in (x, y)])
            length = np.sqrt((ranks**2).sum(-1, keepdims=True))
            ranks = np.where(length > FLAT, ranks / length, np.nan)
        return np.clip((ranks[0] * ranks[1]).sum(-1), -1, 1)


def correlation(
    x: Floats,
    y: Floats,
    given: Floats | None = None,
    *,
    cluster: NDArray[Any] | None = None,
    n_resamples: int,
    seed: int,
    level: float = LEVEL,
) -> Estimate:
    """Spearman's ρ over points, with a percentile bootstrap interval (of eight or more) and p.

    The two-sided p is from Student's t = ρ √(df / (1 - ρ²)) with points - 2 degrees of freedom, or
    points - 3 for a partial ρ, but not below 2 / n!, the fraction of the orders of n points whose ρ
    is 1 or -1. If points are not independent, `cluster` names the cluster of each: the bootstrap
    draws clusters, and their number takes the place of that of the points.
    """
    variables = [x, y] if given is None else [x, y, given]
    table = np.stack(variables).astype(float)
    known_points = np.isfinite(table).all(0)
    table = table[:, known_points]
    of_point = np.arange(known_points.size) if cluster is None else np.asarray(cluster)
    members = members_of(of_point[known_points])
    value = float(rank_correlation(table))
    if np.isnan(value):
        return Estimate(np.nan)
    n, rng = len(members), np.random.default_rng(seed)
    drawn = rng.integers(0, n, (n_resamples, n))
    samples = np.empty(n_resamples)
    sizes = np.array([at.size for at in members])[drawn].sum(1)
    for size in np.unique(sizes):  # samples of equal size together
        rows = np.flatnonzero(sizes == size)
        which = np.array([np.concatenate([members[c] for c in drawn[row]]) for row in rows])
        samples[rows] = rank_correlation(table[:, which])
    ends = percentile_interval(samples, level)
    df = n - len(table)
    with np.errstate(divide="ignore"):
        t = abs(value) * np.sqrt(df / np.maximum(1 - value**2, 0)) if df > 0 else np.nan
    p = max(2 * float(stats.t.sf(t, df)), 2 / math.factorial(n)) if df > 0 else np.nan
    lower, upper = ends if n >= LEAST_DRAWN else (np.nan, np.nan)
    return Estimate(value, float(lower), float(upper), p)


def members_of(label: NDArray[Any]) -> list[NDArray[np.intp]]:
    """Points of every block or cluster, by their labels (point,)."""
    return [np.flatnonzero(label == one) for one in np.unique(label)]


class Permutation(NamedTuple):
    """A statistic with its two-sided permutation p and its critical value.

    `least` is the absolute value that the statistic must exceed for p ≤ 1 - LEVEL.
    """

    value: float
    p: float = np.nan
    least: float = np.nan


def permuted_within(
    x: Floats, y: Floats, blocks: list[NDArray[np.intp]], *, n_resamples: int, seed: int
) -> Permutation:
    """Permutation test of the sum of products x · y, with `y` permuted within blocks."""
    rng = np.random.default_rng(seed)
    observed, random = 0.0, np.zeros(n_resamples)
    for at in blocks:
        observed += float(x[at] @ y[at])
        random += rng.permuted(np.tile(y[at], (n_resamples, 1)), axis=1) @ x[at]
    allowed = int((1 - LEVEL) * (n_resamples + 1)) - 1  # values of the null that may reach it
    least = np.sort(abs(random))[-1 - allowed] if allowed >= 0 else np.inf
    return Permutation(observed, float(p_value(abs(random), abs(observed))), float(least))


def trend(x: Floats, y: Floats, block: NDArray[Any], *, n_resamples: int, seed: int) -> Permutation:
    """Mean over blocks of Spearman's ρ, with `y` permuted within blocks.

    Points with NaN, and blocks where ρ is undefined, are left out.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    x, y, block = x[finite], y[finite], block[finite]
    blocks = [at for at in members_of(block) if not np.isnan(spearman(x[at], y[at]))]
    if not blocks:
        return Permutation(np.nan)
    ranks = np.zeros((2, x.size))
    for at in blocks:
        ranks[:, at] = [stats.zscore(stats.rankdata(values[at])) for values in (x, y)]
        ranks[0, at] /= at.size * len(blocks)
    return permuted_within(ranks[0], ranks[1], blocks, n_resamples=n_resamples, seed=seed)


def partial_within(
    x: Floats, y: Floats, block: NDArray[Any], *, n_resamples: int, seed: int
) -> Permutation:
    """Partial Spearman's ρ given the block, with `y` permuted within blocks.

    It is the correlation of the ranks minus their means over the block. Points with NaN are left
    out; NaN if no block has several points, or a variable is constant within all blocks.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    blocks = members_of(block[finite])
    ranks = np.array([stats.rankdata(values[finite]) for values in (x, y)])
    for at in blocks:
        ranks[:, at] -= ranks[:, at].mean(1, keepdims=True)
    length = np.sqrt((ranks**2).sum(1, keepdims=True))
    if not (length > FLAT).all():
        return Permutation(np.nan)
    ranks /= length
    return permuted_within(ranks[0], ranks[1], blocks, n_resamples=n_resamples, seed=seed)
