"""Decoders of position: Bayes, ridge regression and nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from placeformer._options import check_option
from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.data.blocks import Numbers, integers, mapped
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import activations, picked, refuse_not_finite
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.variance_explained import centre

Prior = Literal["uniform", "occupancy"]

Variance = Literal["pooled", "place"]

Weigh = Callable[..., tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any]]]

FLOOR = 1e-3
"""Minimum variance of a unit as a share of its total variance, and minimum rate of its mean."""

KNN_SAMPLES = 20_000
"""Default maximum number of training samples of k-nearest neighbours."""

REGRESSORS = {"ridge": Ridge, "knn": KNeighborsRegressor}

CLASSIFIERS = {"ridge": RidgeClassifier, "knn": KNeighborsClassifier}


@dataclass(frozen=True)
class Learner:
    """A decoding method with its options."""

    name: str
    estimator: Any
    """Estimator of scikit-learn; ``None`` for Bayes."""
    max_samples: int | None
    seed: int
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        method: Any,
        known: Mapping[str, Any],
        max_samples: int | None,
        seed: int,
        options: Mapping[str, Any],
    ) -> Learner:
        """Build a learner from the name of a method or from an estimator, and check its options."""
        if max_samples is not None and max_samples < 1:
            raise ValueError(f"max_samples must be at least 1, got {max_samples}")
        if isinstance(method, str) and method in BAYES:
            if max_samples is not None:
                raise ValueError(
                    f"max_samples must be None with method={method!r}, which reads all samples "
                    f"once, got {max_samples}"
                )
            _check_options(BAYES[method], method, options)
            return cls(method, None, None, seed, options)
        estimator = _estimator(method, known, options)
        if method == "knn" and max_samples is None:
            max_samples = KNN_SAMPLES
        name = method if isinstance(method, str) else type(method).__name__
        return cls(name, estimator, max_samples, seed, options)

    @property
    def categorical(self) -> bool:
        """Whether the estimator is a classifier, which predicts one of several places."""
        return self.estimator is None or is_classifier(self.estimator)

    def places(
        self,
        recording: xr.Dataset,
        index: Any,
        size: int,
        fold: Numbers,
        progress: bool,
    ) -> Numbers:
        """Decoded place of every sample (walk, time)."""
        if self.estimator is not None:
            target = np.asarray(index)[..., None]
            return self.learn(recording, target, fold, progress)[..., 0].astype(integers(size))
        decoders = BAYES[self.name](recording, index, size, fold, **self.options)
        return predict(activations(recording), decoders, fold, progress)

    def learn(
        self,
        recording: xr.Dataset,
        target: NDArray[Any],
        fold: Numbers,
        progress: bool,
    ) -> NDArray[np.float64]:
        """Targets (walk, time, output) predicted by an estimator trained on the other folds.

        Of a dask array only the training samples are loaded; the others are read in blocks.
        """
        values = activations(recording)
        (sums,) = _kernels.bin_sums(values, [np.minimum(fold, 0)], [1])
        refuse_not_finite(recording, sums, fold)
        rng = np.random.default_rng(self.seed)
        wanted = target[..., 0] if self.categorical else target
        models = []
        for k in tqdm(range(int(fold.max()) + 1), desc="folds", disable=not progress):
            train = np.flatnonzero((fold >= 0) & (fold != k))
            if self.max_samples is not None and train.size > self.max_samples:
                train = np.sort(rng.choice(train, self.max_samples, replace=False))
            where = np.unravel_index(train, fold.shape)
            target_values = wanted[where] if self.categorical else wanted[where].astype(float)
            models.append(clone(self.estimator).fit(picked(values, where), target_values))
        return _predictions(values, models, fold, target.shape[2])


def _estimator(method: Any, known: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Estimator of scikit-learn: a named one on standardised units, or ``method`` itself."""
    if isinstance(method, str) and method in known:
        try:
            return make_pipeline(StandardScaler(), known[method](**options))
        except TypeError as error:
            where = f"sklearn's {known[method].__name__}"
            raise ValueError(f"options must be those of {where}: {error}") from error
    if isinstance(method, str) or not (hasattr(method, "fit") and hasattr(method, "predict")):
        raise ValueError(
            f"method must be one of {(*known, *BAYES)} or an estimator of scikit-learn, got "
            f"{method!r}"
        )
    if options:
        raise ValueError(
            f"options must be empty with an estimator, got {sorted(options)}; set them on the "
            f"{type(method).__name__} instead"
        )
    return method


def _check_options(function: Callable[..., Any], method: str, options: Mapping[str, Any]) -> None:
    parameters = signature(function).parameters.values()
    known = sorted(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"options of method={method!r} must be among {known}, got {unknown}")


def _predictions(
    values: Any, models: list[Any], fold: Numbers, n_outputs: int
) -> NDArray[np.float64]:
    """Predictions (walk, time, output) by the model of each sample's fold; 0 without a fold."""
    if hasattr(values, "dask"):
        import dask.array as da

        values = values.rechunk({2: -1})
        chunks = (*values.chunks[:2], (n_outputs,))
        of_block = da.from_array(fold[..., None], chunks=(*chunks[:2], 1))
        predictions = da.map_blocks(
            _block_predictions, values, of_block, models, n_outputs, chunks=chunks, dtype=np.float64
        )
        return np.asarray(predictions.compute())
    return _block_predictions(values, fold[..., None], models, n_outputs)


def _block_predictions(
    block: NDArray[Any], fold: Numbers, models: list[Any], n_outputs: int
) -> NDArray[np.float64]:
    """Predictions for a block (walk, time, unit) with folds (walk, time, 1)."""
    fold = fold[..., 0]
    predictions = np.zeros((*fold.shape, n_outputs))
    for k in np.unique(fold[fold >= 0]):
        predictions[fold == k] = models[k].predict(block[fold == k]).reshape(-1, n_outputs)
    return predictions


@dataclass(frozen=True)
class Decoder:
    """Log posterior of every place, linear (and quadratic) in the activations of a sample."""

    shift: NDArray[Any]
    """Subtracted from the activations first, shape (unit,)."""
    rectified: bool
    """Whether negative values are then set to 0."""
    linear: NDArray[Any]
    """Weights (unit, place) of the activations."""
    square: NDArray[Any] | None
    """Weights (unit, place) of their squares; ``None``: the same at every place."""
    constant: NDArray[Any]
    """Shape (place,); minus infinity at a place without training samples."""

    def log_posterior(self, block: NDArray[Any]) -> NDArray[Any]:
        """Log posterior (sample, place) of activations (sample, unit), up to a constant."""
        x = _prepared(block, self.shift, self.rectified)
        log = x @ self.linear
        if self.square is not None:
            log += np.multiply(x, x, out=x) @ self.square
        return np.asarray(np.add(log, self.constant, out=log))


def gaussian(
    recording: xr.Dataset,
    index: Any,
    size: int,
    fold: Numbers,
    *,
    prior: Prior = "uniform",
    variance: Variance = "pooled",
) -> list[Decoder]:
    """Train a decoder per fold on all other folds, with independent normal units.

    Parameters
    ----------
    recording
        Recording; its activations are read once.
    index, fold
        Place and fold of every sample (walk, time); -1: the sample is left out.
    size
        Number of places.
    prior
        ``"uniform"`` over the places visited, or their ``"occupancy"``.
    variance
        Variance of a unit about its mean at a place: ``"pooled"`` over places, or separate for
        every ``"place"``.
    """
    check_option("variance", variance, get_args(Variance))
    values = activations(recording)
    shift = centre(values)
    sums = _sums(recording, index, size, fold, _kernels.moments(shift), 2)
    weigh = partial(_gaussian, variance=variance)
    return _decoders(sums, weigh, shift.astype(_precision(values)), prior, rectified=False)


def poisson(
    recording: xr.Dataset,
    index: Any,
    size: int,
    fold: Numbers,
    *,
    prior: Prior = "uniform",
    negatives: Negatives = "raise",
) -> list[Decoder]:
    """Train a decoder per fold on all other folds, with independent Poisson units.

    The parameters are those of :func:`gaussian`, and ``negatives``: ``"raise"``, ``"rectify"``
    or ``"shift"``, which subtracts each unit's minimum activation in the recording.
    """
    least = _least(recording, negatives)
    sums = _sums(recording, index, size, fold, _rates(least), 1)
    shift = least.astype(_precision(activations(recording)))
    return _decoders(sums, _poisson, shift, prior, rectified=True)


BAYES: dict[str, Callable[..., list[Decoder]]] = {
    "bayes": gaussian,
    "poisson": poisson,
}


def predict(
    values: Any,
    decoders: Sequence[Decoder],
    fold: Numbers,
    progress: bool = False,
) -> Numbers:
    """Most probable place of every sample (walk, time), each by the decoder of its fold.

    Dask arrays are decoded chunk by chunk.
    """
    kind = integers(len(decoders[0].constant))
    if hasattr(values, "dask"):
        import dask.array as da

        values = values.rechunk({2: -1})
        where = da.from_array(fold[..., None], chunks=(*values.chunks[:2], 1))
        places = da.map_blocks(_decoded, values, where, decoders, drop_axis=2, dtype=kind)
        return np.asarray(places.compute())
    decoded = np.full(fold.shape, -1, kind)
    blocks = list(_blocks.blocks(values.shape))
    for where in tqdm(blocks, desc="blocks", disable=not progress):
        decoded[where] = _decoded(values[where], fold[where][..., None], decoders)
    return decoded


def _decoded(block: NDArray[Any], fold: Numbers, decoders: Sequence[Decoder]) -> Numbers:
    """Most probable place of a block (walk, time, unit), shape (walk, time); -1 without fold."""
    fold = fold[..., 0]
    places = np.full(fold.shape, -1, integers(len(decoders[0].constant)))
    for k in np.unique(fold[fold >= 0]):
        here = fold == k
        samples = block.reshape(-1, block.shape[2]) if here.all() else block[here]
        places[here] = decoders[k].log_posterior(samples).argmax(axis=1)
    return places


def _sums(
    recording: xr.Dataset,
    index: Any,
    size: int,
    fold: Numbers,
    terms: _kernels.Terms,
    n_terms: int,
) -> list[NDArray[Any]]:
    """Counts (fold, place) and sums (fold, place, unit) of every term, in one read."""
    n_folds = int(fold.max()) + 1
    n_cells = n_folds * size

    def of_fold(i: NDArray[Any], k: NDArray[Any]) -> NDArray[Any]:
        return np.where((i < 0) | (k < 0), -1, k.astype(np.intp) * size + i)

    cell = mapped(of_fold, index, fold, dtype=integers(n_cells))
    sums = _kernels.bin_sums(
        activations(recording), [cell] * n_terms, [n_cells] * n_terms, terms=terms
    )
    refuse_not_finite(recording, sums[-1], cell)
    counts = _blocks.counts(cell, n_cells)
    return [a.reshape(n_folds, size, *a.shape[1:]) for a in (counts, *sums)]


def _decoders(
    sums: list[NDArray[Any]], weigh: Weigh, shift: NDArray[Any], prior: Prior, *, rectified: bool
) -> list[Decoder]:
    """Decoder of every fold from the sums of the other folds."""
    check_option("prior", prior, get_args(Prior))
    decoders = []
    for k in range(len(sums[0])):
        n, *rest = (a.sum(axis=0) - a[k] for a in sums)
        linear, square, constant = weigh(n, *rest)
        weight = n if prior == "occupancy" else n > 0
        constant += np.log(weight, out=np.full(n.shape, -np.inf), where=n > 0)
        curved = None if square is None else square.astype(shift.dtype)
        flat = linear.astype(shift.dtype), curved, constant.astype(shift.dtype)
        decoders.append(Decoder(shift, rectified, *flat))
    return decoders


def _gaussian(
    n: NDArray[np.int64],
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    variance: Variance,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Weights of a normal density from sums (place, unit) of deviations and of their squares."""
    visits = np.maximum(n, 1)[:, None]
    mean = sums / visits
    spread = np.maximum(squares - sums * mean, 0.0)
    total = squares.sum(axis=0) / n.sum() - (sums.sum(axis=0) / n.sum()) ** 2
    if variance == "pooled":
        spread = spread.sum(axis=0) / max(n.sum() - np.count_nonzero(n), 1)
        precision = _inverse(spread, total)
        return (mean * precision).T, None, -0.5 * (mean**2 * precision).sum(axis=1)
    precision = _inverse(spread / visits, np.broadcast_to(total, spread.shape))
    log = np.log(precision, out=np.zeros_like(precision), where=precision > 0)
    constant = -0.5 * (mean**2 * precision - log).sum(axis=1)
    return (mean * precision).T, -0.5 * precision.T, constant


def _poisson(
    n: NDArray[np.int64], sums: NDArray[np.float64]
) -> tuple[NDArray[np.float64], None, NDArray[np.float64]]:
    """Weights of a Poisson probability from sums (place, unit) of rates."""
    rate = np.maximum(sums / np.maximum(n, 1)[:, None], FLOOR * sums.sum(axis=0) / n.sum())
    log = np.log(rate, out=np.zeros_like(rate), where=rate > 0)
    return log.T, None, -rate.sum(axis=1)


def _inverse(variance: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision, with a lower bound on the variance as a share of the total; 0 if constant."""
    least = np.maximum(variance, FLOOR * total)
    return np.divide(1.0, least, out=np.zeros_like(least), where=total > 0)


def _prepared(block: NDArray[Any], shift: NDArray[Any], rectified: bool) -> NDArray[Any]:
    """Activations minus the shift, at least 0 if rectified, in the precision of the shift."""
    x = np.subtract(block, shift, dtype=shift.dtype)
    return np.maximum(x, 0, out=x) if rectified else x


def _rates(least: NDArray[np.float64]) -> _kernels.Terms:
    """Terms of sums: activations above their minimum, or above 0."""
    return lambda block, units: iter([_prepared(block, least[units].astype(block.dtype), True)])


def _least(recording: xr.Dataset, negatives: str) -> NDArray[np.float64]:
    """Shift subtracted from every unit before negative values are set to 0, shape (unit,)."""
    check_option("negatives", negatives, get_args(Negatives))
    least = np.asarray(activations(recording).min(axis=(0, 1)), float)
    if negatives == "shift":
        return least
    below = np.flatnonzero(least < 0)
    if negatives == "raise" and below.size:
        raise ValueError(
            "method='poisson' needs activations >= 0, as a Poisson count is: "
            f"{below.size} units have negative ones (units {schema.unit_names(recording, below)}, "
            f"minimum {least.min():.3g}); pass negatives='rectify' or 'shift', or method='bayes', "
            "which is Gaussian and suited to signed activations"
        )
    return np.zeros_like(least)


def _precision(values: Any) -> type[np.floating]:
    """Precision of decoding: double for double-precision activations, else single."""
    return np.float64 if values.dtype == np.float64 else np.float32
