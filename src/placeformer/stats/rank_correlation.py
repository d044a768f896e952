"""Spearman's rank correlation: plain and partial, with its interval, and a test within blocks."""

from __future__ import annotations

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
        return (ranks[0] * ranks[1]).sum(-1)


def correlation(
    x: Floats,
    y: Floats,
    given: Floats | None = None,
    *,
    n_resamples: int,
    seed: int,
    level: float = LEVEL,
) -> Estimate:
    """Spearman's ρ over points, with a percentile bootstrap interval (of eight or more) and p.

    The two-sided p is from Student's t = ρ √(df / (1 - ρ²)) with points - 2 degrees of freedom, or
    points - 3 for a partial ρ.
    """
    table = known([x, y] if given is None else [x, y, given])
    points, value = table.shape[1], float(rank_correlation(table))
    if np.isnan(value):
        return Estimate(np.nan)
    which = np.random.default_rng(seed).integers(0, points, (n_resamples, points))
    ends = percentile_interval(rank_correlation(table[:, which]), level)
    df = points - len(table)
    with np.errstate(divide="ignore"):
        t = abs(value) * np.sqrt(df / np.maximum(1 - value**2, 0)) if df > 0 else np.nan
    p = 2 * float(stats.t.sf(t, df)) if df > 0 else np.nan
    lower, upper = ends if points >= LEAST_DRAWN else (np.nan, np.nan)
    return Estimate(value, float(lower), float(upper), p)


def trend_p(
    x: Floats, y: Floats, block: NDArray[np.integer], *, n_resamples: int, seed: int
) -> float:
    """Two-sided p of the mean over blocks of Spearman's ρ, with `y` permuted within blocks.

    The null distribution has `n_resamples` permutations. Blocks where ρ is undefined are left out.
    """
    groups = [np.flatnonzero(block == b) for b in np.unique(block)]
    groups = [at for at in groups if not np.isnan(spearman(x[at], y[at]))]
    if not groups:
        return np.nan
    rng = np.random.default_rng(seed)
    observed, random = 0.0, np.zeros(n_resamples)
    for at in groups:
        ranks = [stats.zscore(stats.rankdata(values[at])) for values in (x, y)]
        observed += float(ranks[0] @ ranks[1]) / at.size
        random += rng.permuted(np.tile(ranks[1], (n_resamples, 1)), axis=1) @ ranks[0] / at.size
    return float(p_value(abs(random), abs(observed)))
