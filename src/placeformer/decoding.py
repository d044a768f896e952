"""Decoding of position and of the map from the activations of all units, over unseen walks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer._blocks import Numbers
from placeformer.binning import Bins, axis_names, samples
from placeformer.chance import (
    Judge,
    commonest,
    distance,
    mean,
    mean_positions,
    median,
    same,
)
from placeformer.folds import Groups, folds
from placeformer.learners import CLASSIFIERS, REGRESSORS, Learner
from placeformer.places import Places
from placeformer.verdicts import labelled, of_map, of_position, signed, text


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
    progress: bool = False,
    **options: Any,
) -> xr.Dataset:
    r"""Decode the position of every sample with a decoder that never met its walk.

    Parameters
    ----------
    recording
        Recording with at least two walks. Its maps are pooled: choose walks of one map first
        where positions of different maps have nothing in common.
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
        Axes of position and their bins, as in :func:`rate_maps`. A Bayesian decoder or
        a classifier says the centre of a bin; a regressor needs no bins.
    cv
        Number of folds of walks (default 5, or as many as there are walks), or a splitter of
        scikit-learn, which is given the walks. Samples of one walk are never on both sides.
    blocks, gap
        Cut every walk into so many blocks of time, which then take the part of walks; `gap`
        samples at both ends of each block are left out (default a tenth of the block).
        Nearby blocks share what changes slowly: more walks are better.
    max_samples
        Train on at most so many samples of each fold, drawn at random; by default on all, with
        "knn" on 20,000. Not for Bayesian decoders, which take all in one read.
    n_resamples
        Bootstrap samples of the interval, and shuffles of the null.
    seed
        Of every random choice.
    progress
        Show a progress bar (tqdm).
    options
        Options of the named method.

    Returns
    -------
    xarray.Dataset
        ``decoded`` (walk, time, axis) and ``error`` (walk, time), the Euclidean distance from
        the position, both in its units and NaN where the position is NaN, outside explicit
        bins, or in a gap. ``median_error``, ``mean_error`` and ``interval`` (bound), the 95 %
        bootstrap interval of the median over walks; ``r2`` (axis), 1 less the squared error
        over the variance, at most 1, negative where the mean is a better guess, NaN on an axis
        that does not vary. ``chance_error``: median error of saying the mean position of the
        training walks, whatever the activations. ``null_error``, ``null_sd`` and ``p``: mean
        error when decoded walks are compared with the positions of walks that trade places at
        random, and (k + 1) / (n + 1) with k the shuffles whose mean error is as small.
        ``n``; ``fold_error``, ``fold_n`` (fold). Coordinate ``test_fold`` (walk, time).

    Raises
    ------
    ValueError
        A single walk, activations that are not finite, negative ones under ``"poisson"``, or an
        unknown option.

    Notes
    -----
    Bayesian decoders read dask arrays block by block. Other estimators load the samples that they
    are trained on, at most ``max_samples`` of each fold, and read the others block by block.
    The variance of a unit is at least a thousandth of its total variance, and a Poisson rate
    a thousandth of its mean rate, so that a silent place does not rule out a unit's activation.

    References
    ----------
    Zhang, K., Ginzburg, I., McNaughton, B. L. and Sejnowski, T. J. (1998). Interpreting neuronal
    population activity by reconstruction. Journal of Neurophysiology 79, 1017-1044.
    https://doi.org/10.1152/jn.1998.79.2.1017

    Examples
    --------
    >>> result = pf.decode_position(recording, method="bayes", prior="occupancy")  # doctest: +SKIP
    >>> result.median_error.item(), result.chance_error.item()  # doctest: +SKIP
    """
    names = axis_names(by)
    schema.check_recording(recording, need=names)
    learner = Learner.of(method, REGRESSORS, max_samples, seed, options)
    groups = Groups.of(recording, blocks, gap)
    fold = groups.spread(folds(groups, cv))
    position = _positions(recording, names)
    fold = _within(fold, np.asarray(np.isfinite(position).all(axis=2)))
    if learner.categorical or bins is not None:
        places = Places.of(recording, by=by, bins=bins, per_map=False)
        fold = _within(fold, np.asarray(places.index >= 0))
    if learner.categorical:
        index = learner.places(recording, places.index, places.size, fold, progress)
        decoded = _centres(places)[index]
    else:
        decoded = learner.learn(recording, position, fold, progress)
    decoded[fold < 0] = np.nan
    units = str(recording[names[0]].attrs.get("units", "1"))
    judge = Judge("error", units, "median distance", distance, median, less_is_better=True)
    judged = judge.judge(
        decoded, position, mean_positions(position, fold), fold, groups, n=n_resamples, seed=seed
    )
    columns = of_position(position, decoded, fold, units) | judged
    result = labelled(columns, recording, fold, axis=list(names))
    return signed(result, recording, "decode_position", learner, cv=text(cv), **asdict(groups))


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
    progress: bool = False,
    **options: Any,
) -> xr.Dataset:
    """Decode on which map every sample was taken, with a decoder that never met its walk.

    Parameters
    ----------
    recording
        Recording with at least two walks on each of two or more maps.
    method
        ``"bayes"`` and ``"poisson"``: the map of the most probable place among the places of all
        maps (see :func:`decode_position` for the options). ``"ridge"``
        (:class:`sklearn.linear_model.RidgeClassifier`) and ``"knn"``
        (:class:`sklearn.neighbors.KNeighborsClassifier`) know nothing of places. Or any
        classifier of scikit-learn.
    by, bins
        Axes and bins of the places.
    cv
        Number of folds, each with its share of every map (default 5, or as many as the map with
        fewest has walks), or a splitter of scikit-learn, which is given the walks.
    max_samples, n_resamples, seed, progress, options
        As in :func:`decode_position`.

    Returns
    -------
    xarray.Dataset
        ``decoded`` (walk, time), the map; NaN where a place is needed and missing. ``accuracy``,
        0 to 1, with the 95 % bootstrap ``interval`` (bound) over walks; ``chance``, the accuracy
        of always naming the map most frequent in training; ``null_accuracy``, ``null_sd`` and
        ``p``: accuracy when walks trade their maps; ``confusion`` (map, decoded_map), share of
        the samples of each map; ``n``; ``fold_accuracy``, ``fold_n`` (fold).

    Raises
    ------
    ValueError
        A single map, a map with a single walk, or what :func:`decode_position` refuses.
    """
    schema.check_recording(recording, need=(schema.MAP,))
    maps, number = schema.map_numbers(recording)
    if maps.size < 2:
        raise ValueError(
            f"recording must have at least 2 maps to tell apart, found only map {maps[0]}; record "
            "more, for example placeformer.record(model, maps=(0, 1))"
        )
    learner = Learner.of(method, CLASSIFIERS, max_samples, seed, options)
    if not learner.categorical:
        raise ValueError(
            f"method must be a classifier to decode maps, found {learner.name}; use 'bayes', "
            "'ridge', 'knn' or a classifier of scikit-learn"
        )
    groups = Groups.of(recording)
    fold = groups.spread(folds(groups, cv, number, seed=seed))
    truth = np.broadcast_to(number[:, None], fold.shape)
    if learner.estimator is None:
        places = Places.of(recording, by=by, bins=bins, per_map=True)
        fold = _within(fold, np.asarray(places.index >= 0))
        place = learner.places(recording, places.index, places.size, fold, progress)
        named = place // places.grid.size
    else:
        named = learner.places(recording, truth, maps.size, fold, progress)
    decoded = np.where(fold >= 0, named, np.nan)
    judge = Judge("accuracy", "1", "share right", same, mean, less_is_better=False)
    judged = judge.judge(
        decoded, truth, commonest(truth, fold), fold, groups, n=n_resamples, seed=seed
    )
    columns = of_map(maps, truth, decoded, fold) | judged
    result = labelled(columns, recording, fold, map=maps, decoded_map=maps)
    result = result.assign_coords(true_map=recording[schema.MAP].variable)
    return signed(result, recording, "decode_map", learner, cv=text(cv), **asdict(groups))


def _positions(recording: xr.Dataset, names: tuple[str, ...]) -> NDArray[Any]:
    """Position of every sample (walk, time, axis)."""
    axes = [samples(recording, name) for name in names]
    found = np.empty((*axes[0].shape, len(axes)), np.result_type(*(a.dtype for a in axes)))
    for k, values in enumerate(axes):
        found[..., k] = values
    return found


def _centres(places: Places) -> NDArray[np.float64]:
    """Centres of the bins, shape (bin, axis)."""
    mesh = np.meshgrid(*(axis.centres for axis in places.grid.axes), indexing="ij")
    return np.stack([centre.ravel() for centre in mesh], axis=-1)


def _within(fold: Numbers, keep: NDArray[np.bool_]) -> Numbers:
    """Fold of the samples kept, -1 of the others."""
    fold = np.where(keep, fold, fold.dtype.type(-1))
    if np.unique(fold[fold >= 0]).size < 2:
        raise ValueError(
            "recording must have samples with a position in at least 2 folds, found "
            f"{np.count_nonzero(fold >= 0)} samples in all; check positions and bins"
        )
    return fold
