"""Bootstrap and permutation tests of errors that were counted on the same walks.

Counts are (..., pair): a pair is a walk, a map or a trial, the same one in every condition. An
error is the sum of the wrong answers over the sum of the answers, over pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Floats = NDArray[np.float64]
Numbers = NDArray[Any]


def ratio(wrong: Numbers, n: Numbers) -> Floats:
    """Error (...,) of counts (..., pair); NaN where nothing was counted."""
    total = n.sum(-1, dtype=float)
    wrong_total = wrong.sum(-1, dtype=float)
    return np.divide(
        wrong_total, total, out=np.full(np.shape(wrong_total), np.nan), where=total > 0
    )


def draws(n: int, n_boot: int, rng: np.random.Generator) -> Floats:
    """How often each of `n` is drawn in each bootstrap sample, (boot, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_boot).astype(float)


def resampled(wrong: Numbers, n: Numbers, weights: Floats) -> Floats:
    """Errors (boot, ...) of counts (..., pair) under bootstrap weights (boot, pair)."""
    shape = (len(weights), *wrong.shape[:-1])
    total = (weights @ n).reshape(-1, *[1] * (wrong.ndim - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ wrong.reshape(-1, wrong.shape[-1]).T).reshape(shape) / total


def bounds(samples: Floats, level: float = LEVEL) -> Floats:
    """Percentile interval (..., 2) of bootstrap samples (boot, ...), NaN where any is NaN."""
    tail = (1 - level) / 2
    return np.moveaxis(np.quantile(samples, [tail, 1 - tail], axis=0), 0, -1)


def sign_flip_p(difference: Floats, n_perm: int, rng: np.random.Generator) -> Floats:
    """One-sided p (...,) of paired differences (..., pair): chance of a sum as great.

    Under the null hypothesis either sign of each pair's difference is as likely; p is
    (1 + k) / (1 + n_perm) with k random sign flips whose sum reaches the observed one.
    """
    signs = rng.choice([-1.0, 1.0], size=(difference.shape[-1], n_perm))
    observed = difference.sum(-1)
    with np.errstate(invalid="ignore"):
        reach = difference @ signs >= observed[..., None] - 1e-9
    return np.where(np.isnan(observed), np.nan, (1 + reach.sum(-1)) / (1 + n_perm))


def rank_p(observed: Floats, controls: Floats) -> Floats:
    """One-sided p (...,) of a value among its controls (..., repeat): (1 + k) / (1 + repeats).

    k counts the controls that reach the value: exact if the value's set of units is one more draw
    of the controls.
    """
    reach = controls >= observed[..., None] - 1e-12
    p = (1 + reach.sum(-1)) / (1 + controls.shape[-1])
    return np.where(np.isnan(observed) | np.isnan(controls).any(-1), np.nan, p)


def by_cluster(counts: Numbers, cluster: NDArray[np.integer]) -> Numbers:
    """Counts (..., walk) summed over the walks of each cluster, such as a map."""
    _, number = np.unique(cluster, return_inverse=True)
    member = number[:, None] == np.arange(number.max() + 1)
    return counts @ member
