"""How good a decoder is, and how good it would be by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer._blocks import Numbers
from placeformer.folds import Groups

LEVEL = 0.95
"""Coverage of the intervals."""

Score = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""Score (walk, time) of what is said of every sample and what is true, NaN where unknown."""

Summary = Callable[[NDArray[np.float64]], float]
Columns = dict[str, tuple[Any, Any, dict[str, Any]]]


@dataclass(frozen=True)
class Judge:
    """What makes a decoder good: the score of a sample, its summary, and in which direction."""

    name: str
    units: str
    summary_name: str
    score: Score
    summary: Summary
    less_is_better: bool

    def judge(
        self,
        said: NDArray[Any],
        truth: NDArray[Any],
        blind: NDArray[Any],
        fold: Numbers,
        groups: Groups,
        *,
        n: int,
        seed: int,
    ) -> Columns:
        """Interval, chance, null and p of what was decoded.

        The null and p are of the mean score: a median stays at its best while most walks keep
        their own truth.

        Parameters
        ----------
        said, truth
            Decoded and true, shape (walk, time, ...); NaN is said where nothing is.
        blind
            Guessed without the activations in every fold, shape (fold, ...).
        fold
            Fold of every sample; -1: left out.
        groups
            Walks, drawn with replacement for the interval and exchanged for the null.
        n
            Draws and shuffles.
        seed
            Of both.
        """
        if n < 1:
            raise ValueError(f"n_resamples must be at least 1, found {n}")
        chance = self.summary(self._guessed(blind, truth, fold))
        score = self.score(said, truth)
        observed, null = self._null(groups.split(said), groups.split(truth), n, seed)
        as_good = null <= observed if self.less_is_better else null >= observed
        spread = null.std(ddof=1) if n > 1 else np.nan
        number, text = range(int(fold.max()) + 1), self.summary_name
        of_fold = [score[fold == k] for k in number]
        bounds = {"units": self.units, "long_name": f"{LEVEL:.0%} interval", "level": LEVEL}
        return {
            "interval": ("bound", self._interval(groups.split(score), n, seed), bounds),
            f"chance_{self.name}": self._column(chance, f"{text} of a blind guess"),
            f"null_{self.name}": self._column(
                null.mean(), f"mean {self.name} with walks exchanged"
            ),
            "null_sd": self._column(spread, "standard deviation of the null"),
            "p": ((), (as_good.sum() + 1) / (n + 1), {"units": "1", "long_name": "p-value"}),
            "n": ((), np.isfinite(score).sum(), {"units": "samples", "long_name": "samples"}),
            f"fold_{self.name}": (
                "fold",
                [self.summary(values) for values in of_fold],
                {"units": self.units, "long_name": f"{text} in a fold"},
            ),
            "fold_n": (
                "fold",
                [np.isfinite(values).sum() for values in of_fold],
                {"units": "samples", "long_name": "samples in a fold"},
            ),
        }

    def _guessed(
        self, blind: NDArray[Any], truth: NDArray[Any], fold: Numbers
    ) -> NDArray[np.float64]:
        """Score (walk, time) of what is guessed in every fold; NaN outside."""
        score = np.full(fold.shape, np.nan)
        for k, value in enumerate(blind):
            score[fold == k] = self.score(value, truth[fold == k])
        return score

    def _null(
        self, said: NDArray[Any], truth: NDArray[Any], n: int, seed: int
    ) -> tuple[float, NDArray[np.float64]]:
        """Mean score of what was said (group, step, ...), and against what is true of others."""

        @cache
        def pair(i: int, j: int) -> tuple[float, int]:
            score = self.score(said[i], truth[j])
            return float(np.nansum(score)), int(np.isfinite(score).sum())

        def average(order: NDArray[np.intp]) -> float:
            total, number = np.sum([pair(i, int(j)) for i, j in enumerate(order)], axis=0)
            return float(total / number) if number else np.nan

        rng = np.random.default_rng(seed)
        orders = (rng.permutation(len(said)) for _ in range(n))
        return average(np.arange(len(said))), np.array([average(order) for order in orders])

    def _interval(self, score: NDArray[Any], n: int, seed: int) -> NDArray[np.float64]:
        """Percentiles of summaries of scores (group, step), groups drawn with replacement."""
        rng = np.random.default_rng([seed, 1])
        size = len(score)
        draws = [self.summary(score[rng.integers(0, size, size)]) for _ in range(n)]
        return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])

    def _column(self, value: float, text: str) -> tuple[Any, Any, dict[str, Any]]:
        return (), value, {"units": self.units, "long_name": text}


def median(values: NDArray[np.float64]) -> float:
    """Median of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(np.median(known, overwrite_input=True)) if known.size else np.nan


def mean(values: NDArray[np.float64]) -> float:
    """Mean of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def distance(said: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Euclidean distance of positions (..., axis)."""
    found = np.square(np.subtract(said[..., 0], truth[..., 0], dtype=float))
    for k in range(1, truth.shape[-1]):
        found += np.square(np.subtract(said[..., k], truth[..., k], dtype=float))
    return np.sqrt(found, out=found)


def same(said: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """1 where right, 0 where wrong, NaN where nothing is said."""
    return np.where(np.isnan(said), np.nan, said == truth)


def mean_positions(position: NDArray[Any], fold: Numbers) -> NDArray[np.float64]:
    """Mean position over the other folds, for every fold (fold, axis)."""
    others = (position[(fold >= 0) & (fold != k)] for k in range(int(fold.max()) + 1))
    return np.asarray([values.mean(axis=0, dtype=float) for values in others])


def commonest(number: NDArray[np.intp], fold: Numbers) -> NDArray[np.intp]:
    """Number that is most frequent in the other folds, for every fold (fold,)."""
    others = (number[(fold >= 0) & (fold != k)] for k in range(int(fold.max()) + 1))
    return np.asarray([np.bincount(values).argmax() for values in others])
