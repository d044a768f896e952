"""Bootstrap samples of errors counted on the same walks.

Counts are (..., pair): a pair is a walk, a map or a trial, the same one in every condition. An
error is the number of wrong answers divided by the number of answers, summed over pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer._options import check_whole

Floats = NDArray[np.float64]
Numbers = NDArray[Any]


def ratio(wrong: Numbers, n: Numbers) -> Floats:
    """Error (...,) of counts (..., pair); NaN where nothing was counted."""
    total = n.sum(-1, dtype=float)
    wrong_total = wrong.sum(-1, dtype=float)
    return np.divide(
        wrong_total, total, out=np.full(np.shape(wrong_total), np.nan), where=total > 0
    )


def draws(n: int, n_resamples: int, rng: np.random.Generator) -> Floats:
    """Number of times that each of `n` is drawn in each bootstrap sample, (resample, n)."""
    check_whole("n_resamples", n_resamples)
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(float)


def resampled(wrong: Numbers, n: Numbers, weights: Floats) -> Floats:
    """Errors (resample, ...) of counts (..., pair) under bootstrap weights (resample, pair)."""
    shape = (len(weights), *wrong.shape[:-1])
    total = (weights @ n).reshape(-1, *[1] * (wrong.ndim - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ wrong.reshape(-1, wrong.shape[-1]).T).reshape(shape) / total


def by_cluster(counts: Numbers, cluster: NDArray[np.integer]) -> Numbers:
    """Counts (..., walk) summed over the walks of each cluster, such as a map."""
    _, number = np.unique(cluster, return_inverse=True)
    member = number[:, None] == np.arange(number.max() + 1)
    return counts @ member
