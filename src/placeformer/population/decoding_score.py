"""Scores of decoded values: intervals, chance levels and permutation tests over walks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._warnings import warn
from placeformer.data import schema
from placeformer.data.blocks import Numbers
from placeformer.data.circular import shortest
from placeformer.data.schema import variable
from placeformer.population.cross_validation import Groups
from placeformer.spatial.binning import activations
from placeformer.stats.intervals import LEVEL, percentile_interval
from placeformer.stats.permutation import p_value

NULL_SAMPLES = 10_000
"""Maximum number of samples used for the null, in which decoding is repeated."""

REFIT_SAMPLES = 2_500
"""The same maximum for decoders that must be retrained separately for every exchange."""

MIN_ORDERS = 20
"""Minimum number of orders of the walks: with fewer, p cannot be 0.05 or less."""

SHARED_COURSE = 0.9
"""Fraction of the error of a blind guess below which exchanged walks follow the same path."""

Score = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""Score (walk, time) of predictions against the truth, NaN where there is no prediction."""

Summary = Callable[[NDArray[np.float64]], float]
Columns = dict[str, xr.Variable]

Order = NDArray[np.intp]
Trials = Callable[[list[Order]], Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]]]
"""Yields for every order of the groups the decoded and the true values (group, step, ...), of which
the true values are NaN where nothing is compared, and the blind guesses if they depend on it."""


@dataclass(frozen=True)
class Exchange:
    """How the groups, walks or blocks of time, are exchanged for the null."""

    trials: Trials
    known: NDArray[np.bool_]
    """Whether a group has a sample to compare (group,). Other groups are not exchanged, because
    training sets would lose samples to them."""
    n_orders: float
    """Number of distinct orders."""
    n_shuffles: int
    seed: int

    def orders(self) -> list[NDArray[np.intp]]:
        """The order of the data, then those of the shuffles."""
        rng = np.random.default_rng(self.seed)
        orders = np.tile(np.arange(self.known.size), (1 + self.n_shuffles, 1))
        for order in orders[1:]:
            order[self.known] = rng.permutation(order[self.known])
        return list(orders)

    def why_not(self) -> str:
        """Reason why there is no p-value; empty if there is one."""
        if self.n_shuffles == 0:
            return "no p: n_shuffles is 0"
        if not self.known.any():
            return "no p: no sample has a position to compare"
        if self.n_orders < MIN_ORDERS:
            return (
                f"no p: the walks can be exchanged in {self.n_orders:.0f} ways, and p <= 0.05 "
                f"needs at least {MIN_ORDERS}; record more walks"
            )
        return ""


def n_orders(label: NDArray[Any]) -> float:
    """Number of ways to assign labels to groups; names of equally frequent labels are ignored."""
    counts = np.unique(label, return_counts=True)[1]
    alike = np.unique(counts, return_counts=True)[1] if counts.max(initial=0) > 1 else np.zeros(0)
    log = math.lgamma(len(label) + 1) - sum(math.lgamma(n + 1) for n in (*counts, *alike))
    return float(np.round(math.exp(min(log, 700.0))))


def thinning(groups: Groups, fold: Numbers, most: int) -> int:
    """Interval in steps at which samples are kept, so that about ``most`` samples are left."""
    n_samples = int(np.count_nonzero(fold >= 0))
    return max(1, min(-(-n_samples // most), groups.length // 8))


@dataclass(frozen=True)
class DecodingScore:
    """Decoding score: the score of a sample, its summary, and whether lower values are better."""

    name: str
    units: str
    summary_name: str
    score: Score
    summary: Summary
    less_is_better: bool

    def evaluate(
        self,
        prediction: NDArray[Any],
        truth: NDArray[Any],
        blind: NDArray[Any],
        fold: Numbers,
        groups: Groups,
        exchange: Exchange,
        *,
        n_resamples: int,
    ) -> Columns:
        """Interval, chance level, null distribution and p of decoded values.

        Parameters
        ----------
        prediction, truth
            Decoded and true values, shape (walk, time, ...); NaN where nothing is decoded.
        blind
            Best prediction without activations for every fold, shape (fold, ...).
        fold
            Fold of every sample; -1: the sample is left out.
        groups
            Walks, drawn with replacement for the interval.
        exchange
            How the walks are exchanged for the null.
        n_resamples
            Number of bootstrap samples.
        """
        guessed = self._guessed(blind, truth, fold)
        chance, guess = self.summary(guessed), mean(guessed)
        del guessed  # it has the size of the recording
        score = self.score(prediction, truth)
        number, text = range(int(fold.max()) + 1), self.summary_name
        of_fold = [score[fold == k] for k in number]
        interval = self._interval(groups.split(score), n_resamples, exchange.seed)
        return {
            "interval": self._column(interval, f"{LEVEL:.0%} interval", "bound", level=LEVEL),
            f"chance_{self.name}": self._column(chance, f"{text} of a blind guess"),
            **self._test(exchange, guess),
            "n": variable((), np.isfinite(score).sum(), "samples"),
            f"fold_{self.name}": self._column(
                [self.summary(values) for values in of_fold], f"{text} in a fold", "fold"
            ),
            "fold_n": variable(
                "fold", [np.isfinite(values).sum() for values in of_fold], "samples in a fold"
            ),
        }

    def _test(self, exchange: Exchange, guess: float) -> Columns:
        """Null distribution and p of the mean score, and why they are missing or uninformative.

        The statistic is the mean score minus that of a blind guess. The score of the guess depends
        on the walks that fall into a fold, and this variation would hide weak codes. The statistic
        is a mean because the median hardly changes as long as most walks keep their own truth.
        """
        reason = exchange.why_not()
        null, p = np.empty(0), np.nan
        if not reason:
            scores, blind = [], []
            for decoded, truth, guessed in exchange.trials(exchange.orders()):
                scores.append(mean(self.score(decoded, truth)))
                blind.append(0.0 if guessed is None else mean(self.score(guessed, truth)))
            null = np.array(scores[1:])
            skill = np.array(scores) - np.array(blind)
            p = p_value(skill[1:], skill[0], greater=not self.less_is_better)
        centre = null.mean() if null.size else np.nan
        spread = null.std(ddof=1) if null.size > 1 else np.nan
        if self.less_is_better and centre < SHARED_COURSE * guess:
            reason = (
                f"walks follow the same path: decoders of exchanged walks have a mean error of "
                f"{centre:.3g}, a blind guess {guess:.3g}; p reflects only differences between "
                "walks, and place and the time within a walk cannot be distinguished"
            )
            warn(reason)
        return {
            f"null_{self.name}": self._column(centre, f"mean {self.name} with walks exchanged"),
            "null_sd": self._column(spread, "standard deviation of the null"),
            "p": variable((), p, "p-value"),
            "reason": variable((), reason, "why there is no p, or what it cannot show"),
        }

    def _guessed(
        self, blind: NDArray[Any], truth: NDArray[Any], fold: Numbers
    ) -> NDArray[np.float64]:
        """Score (walk, time) of the blind prediction of every fold; NaN outside the folds."""
        score = np.full(fold.shape, np.nan)
        for k, value in enumerate(blind):
            score[fold == k] = self.score(value, truth[fold == k])
        return score

    def _interval(self, score: NDArray[Any], n: int, seed: int) -> NDArray[np.float64]:
        """Percentile interval of the summary of scores (group, step) over resampled groups.

        Groups without a score are not drawn. NaN for a single group, which does not show how much
        groups differ.
        """
        rng = np.random.default_rng([seed, 1])
        scored = np.isfinite(score).any(axis=1)
        score = score if scored.all() else score[scored]
        size = len(score)
        if size < 2:
            return np.full(2, np.nan)
        draws = [self.summary(score[rng.integers(0, size, size)]) for _ in range(n)]
        return percentile_interval(draws)

    def _column(self, value: Any, text: str, *dims: str, **attrs: Any) -> xr.Variable:
        return variable(dims, value, text, units=self.units, **attrs)


def median(values: NDArray[np.float64]) -> float:
    """Median of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(np.median(known, overwrite_input=True)) if known.size else np.nan


def mean(values: NDArray[np.float64]) -> float:
    """Mean of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def distance(
    prediction: NDArray[Any], truth: NDArray[Any], periods: Sequence[float | None]
) -> NDArray[np.float64]:
    """Euclidean distance of positions (..., axis), the shorter way round on circular axes."""
    squares: Any = 0.0
    for k, period in enumerate(periods):
        apart = np.subtract(prediction[..., k], truth[..., k], dtype=float)
        squares = squares + np.square(shortest(apart, period))
    return np.sqrt(squares, out=squares)


def same(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """1 where the prediction is right, 0 where it is wrong, NaN where there is none."""
    return np.where(np.isnan(prediction) | np.isnan(truth), np.nan, prediction == truth)


def warn_of_equal_walks(recording: xr.Dataset, fold: Numbers) -> None:
    """Warn where two walks that are in different folds hold the same activations.

    A decoder trained on a copy of the walk on which it is tested decodes noise without error. Walks
    without any variation, such as those of a silenced layer, are not compared.
    """
    values = activations(recording)
    rows, known = _probes(values)
    first: dict[bytes, int] = {}
    for walk, row in enumerate(rows):
        other = first.setdefault(row.tobytes(), walk)
        if other == walk or not known[walk] or not _compared(fold, other, walk):
            continue
        if _equal(values[other], values[walk]):
            warn(
                f"walks {other} and {walk} hold the same activations, and a decoder tested on one "
                "is trained on the other, so it decodes even noise; drop one of them, for example "
                f"recording.drop_isel(walk={walk})",
            )
            return


def warn_of_trained_walks(
    recording: xr.Dataset, train: xr.Dataset, compared: NDArray[np.bool_]
) -> None:
    """Warn where a walk with compared samples (walk, time) is also in the recording of training."""
    values, trained = activations(recording), activations(train)
    if values.shape[1] != trained.shape[1]:
        return
    (rows, known), (others, _) = _probes(values), _probes(trained)
    where = {row.tobytes(): walk for walk, row in enumerate(others)}
    for walk in np.flatnonzero(known & compared.any(axis=1)):
        other = where.get(rows[walk].tobytes())
        if other is not None and _equal(values[walk], trained[other]):
            warn(
                f"walk {walk} of recording holds the same activations as walk {other} of train, so "
                "the decoder is tested on samples that it was trained on and decodes even noise; "
                "leave the walk out of one of them, or pass no train, which cross-validates",
            )
            return


def _probes(values: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Activations of every walk at four steps (walk, ...), and whether any is finite (walk,)."""
    n_walks, n_steps = values.shape[:2]
    steps = [0, n_steps // 4, n_steps // 2, 3 * n_steps // 4]
    rows = np.asarray(values[:, steps], float).reshape(n_walks, -1)
    return np.ascontiguousarray(np.nan_to_num(rows)), np.isfinite(rows).any(axis=1)


def _equal(one: Any, two: Any) -> bool:
    """Whether two walks (time, unit) hold the same activations, which vary."""
    one, two = np.asarray(one), np.asarray(two)
    return np.array_equal(one, two, equal_nan=one.dtype.kind == "f") and _varies(one)


def _compared(fold: Numbers, one: int, two: int) -> bool:
    """Whether samples of two walks are in different folds."""
    first, second = (set(fold[walk][fold[walk] >= 0].tolist()) for walk in (one, two))
    return bool(first and second) and len(first | second) > 1


def _varies(values: NDArray[Any]) -> bool:
    known = values[np.isfinite(values).all(axis=1)]
    return bool(len(known) and (known != known[0]).any())


def activity(recording: xr.Dataset) -> xr.Dataset:
    """The recording reduced to the activations and the seconds of every sample."""
    keep = {schema.ACTIVATION, schema.DWELL, schema.UNIT}
    return recording.drop_vars(set(recording.variables) - keep)
