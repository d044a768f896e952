"""Decoding of position or map from a population, cross-validated over walks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.blocks import Numbers
from placeformer.data.schema import variable
from placeformer.population.cross_validation import Groups, folds
from placeformer.population.decoders import CLASSIFIERS, REGRESSORS, Learner
from placeformer.spatial.binning import BinnedRecording, Bins, axis_names, samples
from placeformer.stats.intervals import LEVEL, percentile_interval
from placeformer.stats.permutation import p_value

SAMPLE = (schema.WALK, schema.TIME)

Score = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""Score (walk, time) of predictions against the truth, NaN where there is no prediction."""

Summary = Callable[[NDArray[np.float64]], float]
Columns = dict[str, xr.Variable]


def decode_position(
    recording: xr.Dataset,
    *,
    method: Any = "ridge",
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    cv: Any = None,
    blocks: int | None = None,
    gap: int | None = None,
    max_samples: int | None = None,
    n_resamples: int = 200,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    r"""Decode the position of every sample with a decoder trained on other walks.

    Parameters
    ----------
    recording
        Recording with at least two walks. Its maps are pooled: select the walks of one map first
        if positions on different maps are unrelated.
    method
        ``"ridge"``: linear regression with a penalty (options of
        :class:`sklearn.linear_model.Ridge`). ``"knn"``: mean position of the nearest training
        samples (:class:`sklearn.neighbors.KNeighborsRegressor`). Both standardise every unit.
        ``"bayes"``: the most probable bin, units independent and normal about their mean in
        every bin; options ``prior`` ("uniform" over the bins visited or "occupancy") and
        ``variance`` ("pooled" over bins or of every "place"). ``"poisson"``: the same with
        Poisson activations; options ``prior`` and ``negatives`` ("raise", "rectify" or "shift").
        Or any estimator of scikit-learn: a regressor of several outputs is trained on positions,
        a classifier on bins.
    by, bins
        Axes of position and their bins, as in :func:`rate_maps`. A Bayesian decoder or a
        classifier predicts the centre of a bin; a regressor needs no bins.
    cv
        Number of folds of walks (default 5, or as many as there are walks), or a splitter of
        scikit-learn, which is passed the walks. The samples of a walk are never in both the
        training and the test set.
    blocks, gap
        Cut every walk into this many blocks of time, which are then used instead of walks; `gap`
        samples at both ends of each block are left out (default a tenth of the block). Nearby
        blocks share whatever changes slowly, so prefer more walks.
    max_samples
        Train on at most this many samples for each fold, drawn at random; by default on all, with
        "knn" on 20,000. Not allowed for Bayesian decoders, which read all samples once.
    n_resamples
        Number of bootstrap samples of the interval and of shuffles of the null.
    seed
        Random seed of samples, bootstrap and shuffles.
    progress
        Show a progress bar (tqdm).
    options
        Options of the named method.

    Returns
    -------
    xarray.Dataset
        ``decoded`` (walk, time, axis) and ``error`` (walk, time), the Euclidean distance from the
        position, both in its units and NaN where the position is NaN, outside explicit bins, or in
        a gap. ``median_error``, ``mean_error`` and ``interval`` (bound), the 95 % bootstrap
        interval of the median over walks; ``r2`` (axis), 1 minus the squared error over the
        variance, at most 1, negative where the mean is a better prediction, NaN on an axis that
        does not vary. ``chance_error``: median error of always predicting the mean position of the
        training walks. ``null_error``, ``null_sd`` and ``p``: mean error when the positions of
        walks are permuted among the decoded walks, and (k + 1) / (n + 1) with k the number of
        shuffles whose mean error is as low. ``n``, number of samples; ``fold_error``, ``fold_n``
        (fold). Coordinate ``test_fold`` (walk, time).

    Raises
    ------
    ValueError
        There is a single walk, activations are not finite or, under ``"poisson"``, negative, or an
        option is unknown.

    See Also
    --------
    decode_map : Decode the map instead of the position.

    Notes
    -----
    Bayesian decoders read dask arrays block by block. Other estimators load their training samples,
    at most ``max_samples`` for each fold, and read the others block by block. The variance of a
    unit is at least a thousandth of its total variance, and a Poisson rate a thousandth of the
    unit's mean rate, so that no activation excludes a place where a unit was silent.

    References
    ----------
    Zhang, K., Ginzburg, I., McNaughton, B. L. and Sejnowski, T. J. (1998). Interpreting neuronal
    population activity by reconstruction. Journal of Neurophysiology 79, 1017-1044.
    https://doi.org/10.1152/jn.1998.79.2.1017

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> result = pf.decode_position(recording, method="bayes", progress=False)
    >>> result.decoded.dims, result.decoded.shape
    (('walk', 'time', 'axis'), (4, 128, 2))
    >>> bool(result.median_error < result.chance_error)
    True
    """
    names = axis_names(by)
    schema.check_recording(recording, need=names)
    learner = Learner.of(method, REGRESSORS, max_samples, seed, options)
    groups = Groups.of(recording, blocks, gap)
    fold = groups.spread(folds(groups, cv))
    position = _positions(recording, names)
    fold = _within(fold, np.asarray(np.isfinite(position).all(axis=2)))
    if learner.categorical or bins is not None:
        places = BinnedRecording.of(recording, by=by, bins=bins, per_map=False)
        fold = _within(fold, np.asarray(places.index >= 0))
    if learner.categorical:
        index = learner.places(recording, places.index, places.size, fold, progress)
        decoded = _centres(places)[index]
    else:
        decoded = learner.learn(recording, position, fold, progress)
    decoded[fold < 0] = np.nan
    units = str(recording[names[0]].attrs.get("units", "1"))
    score = DecodingScore("error", units, "median distance", distance, median, less_is_better=True)
    evaluated = score.evaluate(
        decoded, position, mean_positions(position, fold), fold, groups, n=n_resamples, seed=seed
    )
    columns = of_position(position, decoded, fold, units) | evaluated
    result = labelled(columns, recording, fold, axis=list(names))
    return with_settings(
        result, recording, "decode_position", learner, cv=text(cv), **asdict(groups)
    )


def decode_map(
    recording: xr.Dataset,
    *,
    method: Any = "bayes",
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    cv: Any = None,
    max_samples: int | None = None,
    n_resamples: int = 200,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Decode the map on which every sample was taken, with a decoder trained on other walks.

    Parameters
    ----------
    recording
        Recording with at least two walks on each of two or more maps.
    method
        ``"bayes"`` and ``"poisson"``: the map of the most probable place among the places of all
        maps (see :func:`decode_position` for the options). ``"ridge"``
        (:class:`sklearn.linear_model.RidgeClassifier`) and ``"knn"``
        (:class:`sklearn.neighbors.KNeighborsClassifier`) do not use places. Or any classifier of
        scikit-learn.
    by, bins
        Axes and bins of the places.
    cv
        Number of folds, each with its share of every map (default 5, or as many as the map with
        fewest has walks), or a splitter of scikit-learn, which is passed the walks.
    max_samples, n_resamples, seed, progress, options
        As in :func:`decode_position`.

    Returns
    -------
    xarray.Dataset
        ``decoded`` (walk, time), the map; NaN, or "" for maps with names, where the method needs a
        place and there is none. ``accuracy``, 0 to 1, with the 95 % bootstrap ``interval`` (bound)
        over walks;
        ``chance_accuracy``, the accuracy of always predicting the most frequent map of the training
        walks; ``null_accuracy``, ``null_sd`` and ``p``: accuracy when maps are permuted among
        walks; ``confusion`` (map, decoded_map), share of the samples of each map; ``n``;
        ``fold_accuracy``, ``fold_n`` (fold).

    Raises
    ------
    ValueError
        There is a single map or a map with a single walk, or as :func:`decode_position`.

    See Also
    --------
    decode_position : Decode the position instead of the map.
    remapping : Compare the rate maps of two conditions.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> walks = {"n_walks": 4, "n_steps": 128, "maps": (0, 1)}
    >>> recording = pf.record(model, layers="ffn.1", progress=False, **walks)
    >>> result = pf.decode_map(recording, progress=False)
    >>> result.confusion.shape, float(result.chance_accuracy)
    ((2, 2), 0.5)
    """
    schema.check_recording(recording, need=(schema.MAP,))
    maps, number = schema.map_numbers(recording)
    if maps.size < 2:
        raise ValueError(
            f"recording must have at least 2 maps to decode, got only map {maps[0]}; record "
            "more, for example placeformer.record(model, maps=(0, 1))"
        )
    learner = Learner.of(method, CLASSIFIERS, max_samples, seed, options)
    if not learner.categorical:
        raise ValueError(
            f"method must be a classifier to decode maps, got {learner.name}; use 'bayes', "
            "'ridge', 'knn' or a classifier of scikit-learn"
        )
    groups = Groups.of(recording)
    fold = groups.spread(folds(groups, cv, number, seed=seed))
    truth = np.broadcast_to(number[:, None], fold.shape)
    if learner.estimator is None:
        places = BinnedRecording.of(recording, by=by, bins=bins, per_map=True)
        fold = _within(fold, np.asarray(places.index >= 0))
        place = learner.places(recording, places.index, places.size, fold, progress)
        named = place // places.grid.size
    else:
        named = learner.places(recording, truth, maps.size, fold, progress)
    decoded = np.where(fold >= 0, named, np.nan)
    score = DecodingScore("accuracy", "1", "share right", same, mean, less_is_better=False)
    evaluated = score.evaluate(
        decoded, truth, most_frequent(truth, fold), fold, groups, n=n_resamples, seed=seed
    )
    columns = of_map(maps, truth, decoded, fold) | evaluated
    result = labelled(columns, recording, fold, map=maps, decoded_map=maps)
    result = result.assign_coords(true_map=recording[schema.MAP].variable)
    return with_settings(result, recording, "decode_map", learner, cv=text(cv), **asdict(groups))


def _positions(recording: xr.Dataset, names: tuple[str, ...]) -> NDArray[Any]:
    """Position of every sample (walk, time, axis)."""
    axes = [samples(recording, name) for name in names]
    positions = np.empty((*axes[0].shape, len(axes)), np.result_type(*(a.dtype for a in axes)))
    for k, values in enumerate(axes):
        positions[..., k] = values
    return positions


def _centres(binned: BinnedRecording) -> NDArray[np.float64]:
    """Centres of the bins, shape (bin, axis)."""
    mesh = np.meshgrid(*(axis.centres for axis in binned.grid.axes), indexing="ij")
    return np.stack([centre.ravel() for centre in mesh], axis=-1)


def _within(fold: Numbers, keep: NDArray[np.bool_]) -> Numbers:
    """Fold of the samples to keep, -1 for the others."""
    fold = np.where(keep, fold, fold.dtype.type(-1))
    if np.unique(fold[fold >= 0]).size < 2:
        raise ValueError(
            "recording must have samples with a position in at least 2 folds, got "
            f"{np.count_nonzero(fold >= 0)} samples in all; check positions and bins"
        )
    return fold


@dataclass(frozen=True)
class DecodingScore:
    """Score of decoding: that of a sample, its summary, and whether lower values are better."""

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
        *,
        n: int,
        seed: int,
    ) -> Columns:
        """Interval, chance level, null distribution and p of decoded values.

        The null distribution and p use the mean score, because the median hardly changes as long
        as most walks keep their own truth.

        Parameters
        ----------
        prediction, truth
            Decoded and true values, shape (walk, time, ...); NaN where nothing is decoded.
        blind
            Best prediction without activations for every fold, shape (fold, ...).
        fold
            Fold of every sample; -1: the sample is left out.
        groups
            Walks, drawn with replacement for the interval and permuted for the null.
        n
            Number of bootstrap samples and of shuffles.
        seed
            Random seed of both.
        """
        if n < 1:
            raise ValueError(f"n_resamples must be at least 1, got {n}")
        chance = self.summary(self._guessed(blind, truth, fold))
        score = self.score(prediction, truth)
        observed, null = self._null(groups.split(prediction), groups.split(truth), n, seed)
        p = p_value(null, observed, greater=not self.less_is_better)
        spread = null.std(ddof=1) if n > 1 else np.nan
        number, text = range(int(fold.max()) + 1), self.summary_name
        of_fold = [score[fold == k] for k in number]
        interval = self._interval(groups.split(score), n, seed)
        return {
            "interval": self._column(interval, f"{LEVEL:.0%} interval", "bound", level=LEVEL),
            f"chance_{self.name}": self._column(chance, f"{text} of a blind guess"),
            f"null_{self.name}": self._column(
                null.mean(), f"mean {self.name} with walks exchanged"
            ),
            "null_sd": self._column(spread, "standard deviation of the null"),
            "p": variable((), p, "p-value"),
            "n": variable((), np.isfinite(score).sum(), "samples"),
            f"fold_{self.name}": self._column(
                [self.summary(values) for values in of_fold], f"{text} in a fold", "fold"
            ),
            "fold_n": variable(
                "fold", [np.isfinite(values).sum() for values in of_fold], "samples in a fold"
            ),
        }

    def _guessed(
        self, blind: NDArray[Any], truth: NDArray[Any], fold: Numbers
    ) -> NDArray[np.float64]:
        """Score (walk, time) of the blind prediction of every fold; NaN outside the folds."""
        score = np.full(fold.shape, np.nan)
        for k, value in enumerate(blind):
            score[fold == k] = self.score(value, truth[fold == k])
        return score

    def _null(
        self, prediction: NDArray[Any], truth: NDArray[Any], n: int, seed: int
    ) -> tuple[float, NDArray[np.float64]]:
        """Mean score of predictions (group, step, ...), and the same with the truth permuted."""

        @cache
        def pair(i: int, j: int) -> tuple[float, int]:
            score = self.score(prediction[i], truth[j])
            return float(np.nansum(score)), int(np.isfinite(score).sum())

        def average(order: NDArray[np.intp]) -> float:
            total, number = np.sum([pair(i, int(j)) for i, j in enumerate(order)], axis=0)
            return float(total / number) if number else np.nan

        rng = np.random.default_rng(seed)
        orders = (rng.permutation(len(prediction)) for _ in range(n))
        return average(np.arange(len(prediction))), np.array([average(order) for order in orders])

    def _interval(self, score: NDArray[Any], n: int, seed: int) -> NDArray[np.float64]:
        """Percentile interval of the summary of scores (group, step) over resampled groups."""
        rng = np.random.default_rng([seed, 1])
        size = len(score)
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


def distance(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Euclidean distance between positions (..., axis)."""
    squares = np.square(np.subtract(prediction[..., 0], truth[..., 0], dtype=float))
    for k in range(1, truth.shape[-1]):
        squares += np.square(np.subtract(prediction[..., k], truth[..., k], dtype=float))
    return np.sqrt(squares, out=squares)


def same(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """1 where the prediction is right, 0 where it is wrong, NaN where there is none."""
    return np.where(np.isnan(prediction), np.nan, prediction == truth)


def mean_positions(position: NDArray[Any], fold: Numbers) -> NDArray[np.float64]:
    """Mean position over the other folds, for every fold (fold, axis)."""
    others = (position[(fold >= 0) & (fold != k)] for k in range(int(fold.max()) + 1))
    return np.asarray([values.mean(axis=0, dtype=float) for values in others])


def most_frequent(number: NDArray[np.intp], fold: Numbers) -> NDArray[np.intp]:
    """Most frequent number in the other folds, for every fold (fold,)."""
    others = (number[(fold >= 0) & (fold != k)] for k in range(int(fold.max()) + 1))
    return np.asarray([np.bincount(values).argmax() for values in others])


def of_position(
    position: NDArray[Any],
    decoded: NDArray[np.float64],
    fold: Numbers,
    units: str,
) -> Columns:
    """Columns of decoded positions."""
    error = distance(decoded, position)
    r2 = [_r2(position[..., k], decoded[..., k], fold >= 0) for k in range(position.shape[-1])]
    distances = "distance of decoded and true position"
    return {
        "decoded": variable((*SAMPLE, "axis"), decoded, "decoded position", units=units),
        "error": variable(SAMPLE, error, distances, units=units),
        "median_error": variable((), median(error), "median distance", units=units),
        "mean_error": variable((), mean(error), "mean distance", units=units),
        "r2": variable("axis", r2, "variance of position decoded"),
    }


def _r2(truth: NDArray[Any], decoded: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """1 minus the squared error over the variance of known values; NaN without variance."""
    values = truth[known].astype(float)
    left = np.square(decoded[known] - values).sum()
    spread = np.square(values - values.mean()).sum()
    return float(1 - left / spread) if spread > 0 else np.nan


def of_map(
    maps: NDArray[Any],
    truth: NDArray[np.intp],
    decoded: NDArray[np.float64],
    fold: Numbers,
) -> Columns:
    """Columns of decoded maps."""
    known = fold >= 0
    pairs = np.zeros((maps.size, maps.size))
    np.add.at(pairs, (truth[known], decoded[known].astype(np.intp)), 1)
    share = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
    as_text = maps.dtype.kind not in "biuf"
    named = np.full(fold.shape, "" if as_text else np.nan, maps.dtype if as_text else float)
    named[known] = maps[decoded[known].astype(np.intp)]
    confusion = "share of a map's samples decoded as each map"
    return {
        "decoded": variable(SAMPLE, named, "decoded map"),
        "accuracy": variable((), mean(same(decoded, truth)), "share right"),
        "confusion": variable((schema.MAP, "decoded_map"), share, confusion),
    }


def labelled(columns: Columns, recording: xr.Dataset, fold: Numbers, **coords: Any) -> xr.Dataset:
    """Dataset of columns with the recording's coordinates of samples."""
    coords_of_samples = {
        name: values
        for name, values in recording.coords.items()
        if set(values.dims) <= set(SAMPLE) and name not in coords
    }
    about = "fold that the sample was tested in; -1: left out"
    result = xr.Dataset(columns, coords=coords_of_samples | coords | {"bound": ["lower", "upper"]})
    return result.assign_coords(test_fold=variable(SAMPLE, fold, about))


def text(cv: Any) -> Any:
    """Folds as an attribute: a number or text."""
    return cv if cv is None or isinstance(cv, int) else repr(cv)


def with_settings(
    result: xr.Dataset, recording: xr.Dataset, step: str, learner: Learner, **settings: Any
) -> xr.Dataset:
    """Result with its settings in the attributes."""
    settings = {"method": learner.name, "seed": learner.seed, **settings, **learner.options}
    if learner.max_samples is not None:
        settings["max_samples"] = learner.max_samples
    result.attrs.update({k: v for k, v in settings.items() if isinstance(v, str | int | float)})
    result.attrs["n_units"] = recording.sizes[schema.UNIT]
    result.attrs[schema.PROVENANCE] = schema.provenance(recording, step, **settings)
    return result
