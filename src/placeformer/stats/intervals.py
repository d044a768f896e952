"""Estimates with their confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from placeformer.stats.tolerances import TIES

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Coverage of the intervals."""

ABOUT_INTERVAL = "95 % Wilson interval with the design effect of walks"
"""Name of :func:`error_interval`, shown with every error."""


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


def error_interval(
    wrong: ArrayLike, n: ArrayLike, *, level: float = LEVEL, of_sets: ArrayLike = 0.0
) -> Floats:
    """Interval (..., bound) of an error counted on walks, within 0 to 1 and never of width 0.

    Predictions of one walk are correlated, so that they count as fewer than they are: the interval
    is Wilson's for n / deff predictions, with Student's t for walks - 1 degrees of freedom in place
    of the normal quantile. The design effect deff, at least 1, is the variance of the error between
    walks divided by that of independent predictions (Korn and Graubard, 1998, for the exact
    interval).

    Parameters
    ----------
    wrong, n
        Numbers of wrong predictions and of predictions (..., walk), or of other clusters.
    level
        Coverage of the interval.
    of_sets
        Further variance (...,) of the error, such as that between the sets of units over which
        `wrong` is averaged.

    Returns
    -------
    numpy.ndarray
        NaN for fewer than two walks with predictions.
    """
    wrong, n = np.broadcast_arrays(np.asarray(wrong, float), np.asarray(n, float))
    total, walks = n.sum(-1), (n > 0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = wrong.sum(-1) / total
        squares = ((wrong - error[..., None] * n) ** 2).sum(-1)
        variance = walks / (walks - 1) * squares / total**2 + np.asarray(of_sets)
        independent = error * (1 - error) / total
        deff = np.where(independent > 0, np.maximum(variance / independent, 1), 1)
        t2 = stats.t.ppf(tails(level)[1], walks - 1) ** 2 * deff / total
        centre = (error + t2 / 2) / (1 + t2)
        half = np.sqrt(error * (1 - error) * t2 + t2**2 / 4) / (1 + t2)
    ends = np.stack([centre - half, centre + half], -1).clip(0, 1)
    ends[walks < 2] = np.nan
    return ends


def over_seeds(values: Floats, *, level: float = LEVEL) -> Estimate:
    """Mean of one value per seed, with Student's t interval over seeds and p of a mean of 0.

    The interval and p are NaN for a single seed, which says nothing about other seeds, and if all
    seeds have the same value, as ranks of a few networks may, which does not show that their spread
    is 0.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if values.size < 2:
        return Estimate(float(values.mean()) if values.size else np.nan)
    mean, error = float(values.mean()), float(stats.sem(values))
    if error <= TIES * abs(mean):
        return Estimate(mean)
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


def verdict_of_p(estimate: Estimate, *, claimed: int, level: float = LEVEL) -> str:
    """Verdict of a two-sided test of no effect, as :func:`verdict`: by p and the sign."""
    if np.isnan(estimate.p):
        return "not tested"
    if estimate.p > 1 - level + TIES:
        return "not shown"
    return "shown" if (estimate.value > 0) == (claimed > 0) else "opposite"
