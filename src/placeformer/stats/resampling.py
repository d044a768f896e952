"""Paired comparisons of lesions that were scored on the same walks.

Counts are (..., pair): a pair is a walk, a map or a trial, the same one for every lesion. An error
is the sum of wrong answers over the sum of answers, over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer.stats.intervals import percentile_interval
from placeformer.stats.permutation import control_p, sign_flip_p

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
    """How often each of `n` is drawn in each bootstrap sample, (resample, n)."""
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


@dataclass(frozen=True)
class Comparison:
    """Ordered units against their controls; see :func:`compare`.

    Attributes
    ----------
    error : (selection, fraction, repeat)
    interval : (selection, fraction, 2)
        Of the mean over repeats.
    difference, difference_interval, p_sets, p_pairs : (control, fraction, ...)
        Ordered less control, means over repeats.
    area, area_interval, area_p_sets, area_p_pairs : (control, ...)
        The same of the mean over fractions.
    """

    error: Floats
    interval: Floats
    difference: Floats
    difference_interval: Floats
    p_sets: Floats
    p_pairs: Floats
    area: Floats
    area_interval: Floats
    area_p_sets: Floats
    area_p_pairs: Floats


def compare(
    wrong: Numbers,
    n: Numbers,
    inside: NDArray[np.bool_],
    *,
    sign: int,
    n_resamples: int,
    seed: int,
) -> Comparison:
    """Compare the first selection with the others.

    Parameters
    ----------
    wrong : (selection, fraction, repeat, pair)
        Wrong answers; NaN where a control has no set.
    n : (pair,)
        Answers.
    inside : (fraction,)
        Fractions that lesion some units and not all: those of the area.
    sign
        1 where more errors than the controls are expected of the ordered units, else -1.
    n_resamples
        Bootstrap samples, and sign flips. Pairs and, apart from them, repeats are drawn.
    seed
        Of both.
    """
    rng = np.random.default_rng(seed)
    error = ratio(wrong, n)
    weights = draws(n.size, n_resamples, rng)
    repeats = wrong.shape[2]
    share = [draws(repeats, n_resamples, rng) / repeats for _ in wrong]
    pairs = zip(wrong, share, strict=True)
    boot = np.stack(
        [np.einsum("bfr,br->bf", resampled(w, n, weights), by) for w, by in pairs], axis=1
    )
    if n.size < 2:
        boot = np.full_like(boot, np.nan)
    mean = error.mean(-1)
    gap = wrong.mean(2)[:1] - wrong.mean(2)[1:]  # (control, fraction, pair)
    used = inside & ~np.isnan(mean[1:])  # (control, fraction)
    area_boot = _area(boot[:, :1] - boot[:, 1:], used)
    return Comparison(
        error,
        percentile_interval(boot),
        mean[:1] - mean[1:],
        percentile_interval(boot[:, :1] - boot[:, 1:]),
        control_p(sign * np.broadcast_to(mean[:1], mean[1:].shape), sign * error[1:]),
        sign_flip_p(sign * gap, n_resamples, rng),
        _area(mean[:1] - mean[1:], used),
        percentile_interval(area_boot),
        control_p(
            sign * _area(np.broadcast_to(mean[:1], mean[1:].shape), used),
            sign * np.moveaxis(_area(np.moveaxis(error[1:], -1, 0), used), 0, -1),
        ),
        sign_flip_p(
            sign * np.moveaxis(_area(np.moveaxis(gap, -1, 0), used), 0, -1), n_resamples, rng
        ),
    )


def _area(values: Floats, used: NDArray[np.bool_]) -> Floats:
    """Mean (..., control) over the used fractions of values (..., control, fraction)."""
    n = used.sum(-1)
    total = np.where(used, values, 0).sum(-1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)
