"""Decoding methods by name: Bayes, ridge regression, nearest neighbours, and any estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from placeformer._options import check_number, check_whole
from placeformer.data.blocks import Numbers, integers
from placeformer.population import bayes_decoder
from placeformer.population.cross_validation import by_fold
from placeformer.population.ridge_decoder import ridge
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import activations, picked, refuse_not_finite

KNN_SAMPLES = 20_000
"""Default maximum number of training samples for k-nearest neighbours."""

BAYES: dict[str, Callable[..., list[bayes_decoder.Decoder]]] = {
    "bayes": bayes_decoder.gaussian,
    "poisson": bayes_decoder.poisson,
}

METHODS = ("ridge", "knn", *BAYES)


@dataclass(frozen=True)
class Learner:
    """A decoding method with its options."""

    name: str
    method: Any
    """Name of a method, or an estimator of scikit-learn."""
    max_samples: int | None
    """Maximum number of training samples of a fold; ``None``: all."""
    seed: int
    options: Mapping[str, Any]
    of_place: NDArray[np.float64] | None = None
    """Outputs of every place (place, output), for a Bayesian decoder that estimates the posterior
    mean; ``None``: the decoder estimates the most probable place."""

    @classmethod
    def of(
        cls, method: Any, max_samples: int | None, seed: int, options: Mapping[str, Any]
    ) -> Learner:
        """Build a learner from the name of a method or from an estimator, and check its options."""
        check_whole("seed", seed, 0)
        if max_samples is not None:
            check_whole("max_samples", max_samples)
        if not isinstance(method, str):
            _check_estimator(method, options)
            return cls(type(method).__name__, method, max_samples, seed, options)
        if method not in METHODS:
            raise ValueError(_no_method(method))
        if method == "knn":
            max_samples = KNN_SAMPLES if max_samples is None else max_samples
            try:
                KNeighborsRegressor(**options)
            except TypeError as error:
                raise ValueError(
                    f"options must be those of sklearn's KNeighborsRegressor: {error}"
                ) from error
            return cls(method, method, max_samples, seed, options)
        if max_samples is not None:
            raise ValueError(
                f"max_samples must be None with method={method!r}, which reads all samples once in "
                f"blocks, got {max_samples}"
            )
        _check_options(ridge if method == "ridge" else BAYES[method], method, options)
        check_number("alpha", options.get("alpha", 1.0))
        if not 0 < options.get("alpha", 1.0) < np.inf:
            raise ValueError(
                f"alpha must be above 0 and finite, got {options['alpha']}; pass "
                "method=sklearn.linear_model.LinearRegression() for no penalty"
            )
        return cls(method, method, None, seed, options)

    @property
    def is_bayes(self) -> bool:
        """Whether the method gives a posterior over places."""
        return isinstance(self.method, str) and self.method in BAYES

    @property
    def categorical(self) -> bool:
        """Whether the targets are class numbers rather than real outputs."""
        return self.is_bayes or (not isinstance(self.method, str) and is_classifier(self.method))

    @property
    def joint(self) -> bool:
        """Whether a fit to several outputs at once equals separate fits to each output."""
        return self.method in ("ridge", "knn") if isinstance(self.method, str) else False

    @cached_property
    def estimator(self) -> Any:
        """Scikit-learn estimator; a named method works on standardised units."""
        if not isinstance(self.method, str):
            return self.method
        named = {"ridge": Ridge, "knn": KNeighborsRegressor}[self.method]
        return make_pipeline(StandardScaler(), named(**self.options))

    def fit(
        self, recording: xr.Dataset, target: Any, fold: Numbers, size: int = 0, *, n: int
    ) -> Trained:
        """Train a decoder for each of the first n folds, on the samples of all other folds.

        Parameters
        ----------
        recording
            Recording.
        target
            Class of every sample (walk, time), or outputs (walk, time, output).
        fold
            Fold of every sample (walk, time); -1: the sample is left out.
        size
            Number of classes.
        """
        if self.is_bayes:
            decoders = BAYES[self.name](recording, target, size, fold, n, **self.options)
            return Bayes(size, decoders, self.of_place)
        target = np.asarray(target)
        values = activations(recording)
        (sums,) = _kernels.bin_sums(values, [np.minimum(fold, 0)], [1])
        refuse_not_finite(recording, sums, fold)
        n_outputs = 1 if self.categorical else target.shape[2]
        if self.method == "ridge" and np.count_nonzero(fold >= 0) > values.shape[2]:
            return Models(n_outputs, ridge(recording, target, fold, n, **self.options))
        return Models(n_outputs, self._estimators(values, target, fold, n))

    def decode(
        self,
        recording: xr.Dataset,
        target: Any,
        fold: Numbers,
        size: int = 0,
        progress: bool = False,
    ) -> NDArray[Any]:
        """Targets of all samples by decoders trained on the other folds.

        Classes (walk, time) or outputs (walk, time, output).
        """
        trained = self.fit(recording, target, fold, size, n=int(fold.max()) + 1)
        return self.of_class(trained.outputs(recording, fold, progress), size)

    def of_class(self, outputs: NDArray[Any], size: int) -> NDArray[Any]:
        """Outputs (walk, time, 1) of a categorical method as classes (walk, time).

        Posterior means are returned as they are.
        """
        if not self.categorical or self.of_place is not None:
            return outputs
        return outputs[..., 0].astype(integers(size))

    def _estimators(
        self, values: Any, target: NDArray[Any], fold: Numbers, n: int
    ) -> Sequence[Any]:
        """One fitted estimator per fold; only the training samples of a dask array are loaded."""
        rng = np.random.default_rng(self.seed)
        models = []
        for k in range(n):
            train = np.flatnonzero((fold >= 0) & (fold != k))
            if self.max_samples is not None and train.size > self.max_samples:
                train = np.sort(rng.choice(train, self.max_samples, replace=False))
            where = np.unravel_index(train, fold.shape)
            wanted = target[where] if self.categorical else target[where].astype(float)
            models.append(self._fitted(picked(values, where), wanted))
        return models

    def _fitted(self, samples: NDArray[Any], wanted: NDArray[Any]) -> Any:
        """The estimator, trained on samples (sample, unit)."""
        with warnings.catch_warnings():  # a regressor of one output prefers one dimension
            warnings.simplefilter("ignore", DataConversionWarning)
            try:
                return clone(self.estimator).fit(samples, wanted)
            except ValueError as error:
                if isinstance(self.method, str) or wanted.ndim == 1 or wanted.shape[1] == 1:
                    raise
                raise ValueError(
                    f"method must learn {wanted.shape[1]} outputs at once (one for each axis, two "
                    f"for a circular one), but {self.name} says: {error}; if it has one output, "
                    f"pass sklearn.multioutput.MultiOutputRegressor({self.name}(...))"
                ) from error


@dataclass(frozen=True)
class Trained:
    """Trained decoders, one per fold."""

    n_outputs: int
    """Number of outputs of estimators, or of places of Bayesian decoders."""
    models: Sequence[Any]

    def outputs(self, recording: xr.Dataset, fold: Numbers, progress: bool) -> NDArray[Any]:
        """Outputs (walk, time, output) of every sample from the decoder of its fold."""
        raise NotImplementedError


class Models(Trained):
    """Estimators of scikit-learn, or linear decoders."""

    def outputs(self, recording: xr.Dataset, fold: Numbers, progress: bool) -> NDArray[Any]:
        """Outputs (walk, time, output) of every sample; 0 without a fold."""

        def predict(k: int, samples: NDArray[Any], seconds: Any) -> NDArray[Any]:
            return np.asarray(self.models[k].predict(samples)).reshape(len(samples), -1)

        values = activations(recording)
        return by_fold(predict, values, fold, self.n_outputs, np.dtype(float), progress=progress)


@dataclass(frozen=True)
class Bayes(Trained):
    """Bayesian decoders of places."""

    of_place: NDArray[np.float64] | None = None
    """Outputs of every place (place, output), for the posterior mean."""

    def outputs(self, recording: xr.Dataset, fold: Numbers, progress: bool) -> NDArray[Any]:
        """Most probable place (walk, time, 1) of every sample; -1 without a fold.

        With ``of_place``, the posterior mean (walk, time, output) instead.
        """
        seconds = self._seconds(recording)
        if self.of_place is not None:
            return bayes_decoder.means(
                activations(recording), self.models, fold, self.of_place, progress, seconds
            )
        places = bayes_decoder.predict(activations(recording), self.models, fold, progress, seconds)
        return np.asarray(places[..., None])

    def posterior(self, recording: xr.Dataset, fold: Numbers, progress: bool) -> NDArray[Any]:
        """Posterior (walk, time, place) of every sample; 0 without a fold."""
        seconds = self._seconds(recording)
        return bayes_decoder.posteriors(
            activations(recording), self.models, fold, progress, seconds
        )

    def _seconds(self, recording: xr.Dataset) -> NDArray[np.float64] | None:
        if self.models[0].log_prior is None:
            return None
        seconds = bayes_decoder.seconds_of(recording)
        if seconds is None:
            raise ValueError(
                "recording must be timed, because a Poisson decoder of rates per second needs the "
                "seconds of every sample, got neither 'dwell' nor a sample rate; pass "
                "sample_rate to from_arrays"
            )
        return seconds


def _check_estimator(method: Any, options: Mapping[str, Any]) -> None:
    if not (hasattr(method, "fit") and hasattr(method, "predict")):
        raise ValueError(_no_method(method))
    if options:
        raise ValueError(
            f"options must be empty with an estimator, got {sorted(options)}; set them on the "
            f"{type(method).__name__} instead"
        )


def _no_method(method: Any) -> str:
    return f"method must be one of {METHODS} or an estimator of scikit-learn, got {method!r}"


def _check_options(function: Callable[..., Any], method: str, options: Mapping[str, Any]) -> None:
    parameters = signature(function).parameters.values()
    known = sorted(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"options of method={method!r} must be among {known}, got {unknown}")
