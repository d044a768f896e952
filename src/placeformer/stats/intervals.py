"""Estimates with their confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Coverage of the intervals."""


class Estimate(NamedTuple):
    """A value with its interval, and p where there is a test."""

    value: float
    lower: float = np.nan
    upper: float = np.nan
    p: float = np.nan


def tails(level: float = LEVEL) -> tuple[float, float]:
    """Probabilities below the lower and below the upper bound of a central interval."""
    return (1 - level) / 2, 1 - (1 - level) / 2


def percentile_interval(samples: ArrayLike, level: float = LEVEL, *, axis: int = 0) -> Floats:
    """Percentile interval (..., bound) of bootstrap samples.

    NaN samples are left out; the interval is NaN where fewer than half of them are defined.
    """
    values = np.moveaxis(np.asarray(samples, float), axis, 0)
    known = ~np.isnan(values)
    if known.all() and known.size:
        return np.moveaxis(np.quantile(values, tails(level), axis=0), 0, -1)
    ends = np.full((*values.shape[1:], 2), np.nan)
    for at in np.ndindex(values.shape[1:]):
        column = values[(slice(None), *at)]
        defined = column[~np.isnan(column)]
        if defined.size >= max(1, len(column) / 2):
            ends[at] = np.quantile(defined, tails(level))
    return ends


def over_seeds(values: Floats, *, level: float = LEVEL) -> Estimate:
    """Mean of one value per seed, with Student's t interval over seeds and p of a mean of 0.

    The interval and p are NaN for a single seed, which says nothing about other seeds.
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
    statistic: Callable[[Floats], float], value: float, samples: Floats, *, level: float = LEVEL
) -> Estimate:
    """A value with the percentile interval of its bootstrap samples (resample, ...)."""
    lower, upper = percentile_interval([statistic(sample) for sample in samples], level)
    return Estimate(value, float(lower), float(upper))


def verdict(estimate: Estimate, *, claimed: int, null: float = 0.0) -> str:
    """Side of `null` on which the whole interval lies: "shown", "opposite" or "not shown".

    `claimed` is +1 for a claim of more than `null`, -1 for less. "not tested" without an interval.
    """
    if np.isnan(estimate.lower) or np.isnan(estimate.upper):
        return "not tested"
    above, below = estimate.lower > null, estimate.upper < null
    if above or below:
        return "shown" if above == (claimed > 0) else "opposite"
    return "not shown"
