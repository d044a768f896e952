"""Statistics over networks: rank correlations, and effects over the seeds of their training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
LEAST_POINTS = 4
"""Fewer points have no rank correlation worth the name."""
LEAST_DRAWN = 8
"""Fewer points have no bootstrap interval: too many draws of them hold too few that differ."""


class Estimate(NamedTuple):
    """A value with its interval, and p where there is a test."""

    value: float
    lower: float = np.nan
    upper: float = np.nan
    p: float = np.nan


def spearman(x: Floats, y: Floats, given: Floats | None = None) -> float:
    """Spearman's ρ of two variables (point,); with a third, the partial one.

    The partial ρ is (ρ_xy - ρ_xz ρ_yz) / √((1 - ρ_xz²) (1 - ρ_yz²)). Points where any is NaN are
    left out; NaN for fewer than four, or where a variable is constant.
    """
    return float(rank_correlation(known([x, y] if given is None else [x, y, given])))


def known(variables: list[Floats]) -> Floats:
    """Table (variable, point) of the points where no variable is NaN."""
    table = np.stack(variables).astype(float)
    return table[:, np.isfinite(table).all(0)]


def rank_correlation(table: Floats) -> Floats:
    """ρ (...) of tables (variable, ..., point); of three variables the partial one."""
    if table.shape[-1] < LEAST_POINTS:
        return np.full(table.shape[1:-1], np.nan)
    ranks = stats.rankdata(table, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks /= np.sqrt((ranks**2).sum(-1, keepdims=True))
        if len(table) == 3:  # what the third leaves unexplained
            x, y, z = ranks
            ranks = np.stack([v - (v * z).sum(-1, keepdims=True) * z for v in (x, y)])
            length = np.sqrt((ranks**2).sum(-1, keepdims=True))
            ranks = np.where(length > 1e-6, ranks / length, np.nan)
        return (ranks[0] * ranks[1]).sum(-1)


def correlation(
    x: Floats,
    y: Floats,
    given: Floats | None = None,
    *,
    n_boot: int,
    seed: int,
    level: float = 0.95,
) -> Estimate:
    """Spearman's ρ over points, with a percentile bootstrap interval (of eight or more) and p.

    P, two-sided, is Student's: t = ρ √(df / (1 - ρ²)), with points - 2 degrees of freedom, and
    points - 3 of a partial ρ.
    """
    table = known([x, y] if given is None else [x, y, given])
    points, value = table.shape[1], float(rank_correlation(table))
    if np.isnan(value):
        return Estimate(np.nan)
    which = np.random.default_rng(seed).integers(0, points, (n_boot, points))
    ends = quantiles(rank_correlation(table[:, which]), level)
    df = points - len(table)
    with np.errstate(divide="ignore"):
        t = abs(value) * np.sqrt(df / np.maximum(1 - value**2, 0)) if df > 0 else np.nan
    p = 2 * float(stats.t.sf(t, df)) if df > 0 else np.nan
    return Estimate(value, *(ends if points >= LEAST_DRAWN else (np.nan, np.nan)), p)


def trend_p(x: Floats, y: Floats, block: NDArray[np.integer], *, n_perm: int, seed: int) -> float:
    """P of the mean over blocks of Spearman's ρ, `y` being permuted within blocks (two-sided).

    (1 + k) / (1 + n_perm), k counting permutations whose mean ρ is as far from 0. Blocks without
    a ρ take no part.
    """
    groups = [np.flatnonzero(block == b) for b in np.unique(block)]
    groups = [at for at in groups if not np.isnan(spearman(x[at], y[at]))]
    if not groups:
        return np.nan
    rng = np.random.default_rng(seed)
    observed, random = 0.0, np.zeros(n_perm)
    for at in groups:
        ranks = [stats.zscore(stats.rankdata(values[at])) for values in (x, y)]
        observed += float(ranks[0] @ ranks[1]) / at.size
        random += rng.permuted(np.tile(ranks[1], (n_perm, 1)), axis=1) @ ranks[0] / at.size
    return float((1 + (abs(random) >= abs(observed) - 1e-9).sum()) / (1 + n_perm))


def over_seeds(values: Floats, *, level: float = 0.95) -> Estimate:
    """Mean of one value a seed, with Student's t interval over seeds and p of a mean of 0.

    The interval and p are NaN for a single seed: nothing is known of others then.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if values.size < 2:
        return Estimate(float(values.mean()) if values.size else np.nan)
    mean, error = float(values.mean()), float(stats.sem(values))
    if error == 0:
        return Estimate(mean, mean, mean, 0.0 if mean else 1.0)
    low, high = stats.t.interval(level, values.size - 1, mean, error)
    return Estimate(mean, float(low), float(high), float(stats.ttest_1samp(values, 0).pvalue))


def over_samples(
    statistic: Callable[[Floats], float], value: float, samples: Floats, *, level: float = 0.95
) -> Estimate:
    """A value with the percentile interval of its bootstrap samples (boot, ...)."""
    return Estimate(value, *quantiles(np.array([statistic(each) for each in samples]), level))


def quantiles(samples: Floats, level: float) -> tuple[float, float]:
    """Percentile interval of the samples that are defined; NaN where under half of them are."""
    samples = samples[np.isfinite(samples)] if np.isfinite(samples).mean() >= 0.5 else samples[:0]
    if not samples.size:
        return np.nan, np.nan
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def verdict(estimate: Estimate, *, claimed: int, null: float = 0.0) -> str:
    """Tell on which side of `null` the whole interval lies: "shown", "opposite" or "not shown".

    `claimed` is +1 where the claim says greater than `null`, -1 where it says less.
    """
    if np.isnan(estimate.lower) or np.isnan(estimate.upper):
        return "not tested"
    above, below = estimate.lower > null, estimate.upper < null
    if above or below:
        return "shown" if above == (claimed > 0) else "opposite"
    return "not shown"
