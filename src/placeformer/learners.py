"""What decodes: Bayes, or an estimator of scikit-learn, trained on all folds but one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from placeformer import _kernels, bayes
from placeformer._blocks import Numbers, integers
from placeformer.places import activations, picked, refuse_not_finite

BAYES: dict[str, Callable[..., list[bayes.Decoder]]] = {
    "bayes": bayes.gaussian,
    "poisson": bayes.poisson,
}
REGRESSORS = {"ridge": Ridge, "knn": KNeighborsRegressor}
CLASSIFIERS = {"ridge": RidgeClassifier, "knn": KNeighborsClassifier}

KNN_SAMPLES = 20_000
"""Most training samples of k-nearest neighbours unless ``max_samples`` says otherwise."""


@dataclass(frozen=True)
class Learner:
    """A method of decoding with its options."""

    name: str
    estimator: Any
    """Of scikit-learn; ``None`` for Bayes."""
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
        """Learner of a method by name or of an estimator, checked."""
        if max_samples is not None and max_samples < 1:
            raise ValueError(f"max_samples must be at least 1, found {max_samples}")
        if isinstance(method, str) and method in BAYES:
            if max_samples is not None:
                raise ValueError(
                    f"max_samples must be None with method={method!r}, which takes all samples in "
                    f"one read, found {max_samples}"
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
        """Whether it says one of several places rather than a position."""
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
        return bayes.predict(activations(recording), decoders, fold, bar(progress, "blocks"))

    def learn(
        self,
        recording: xr.Dataset,
        target: NDArray[Any],
        fold: Numbers,
        progress: bool,
    ) -> NDArray[np.float64]:
        """Targets (walk, time, output) as said by an estimator that is trained on other folds.

        Of a dask array only the samples to train on are loaded; the others are read in blocks.
        """
        values = activations(recording)
        (sums,) = _kernels.bin_sums(values, [np.minimum(fold, 0)], [1])
        refuse_not_finite(recording, sums, fold)
        rng = np.random.default_rng(self.seed)
        wanted = target[..., 0] if self.categorical else target
        models = []
        for k in bar(progress, "folds")(range(int(fold.max()) + 1)):
            train = np.flatnonzero((fold >= 0) & (fold != k))
            if self.max_samples is not None and train.size > self.max_samples:
                train = np.sort(rng.choice(train, self.max_samples, replace=False))
            where = np.unravel_index(train, fold.shape)
            sought = wanted[where] if self.categorical else wanted[where].astype(float)
            models.append(clone(self.estimator).fit(picked(values, where), sought))
        return _predicted(values, models, fold, target.shape[2])


def _predicted(
    values: Any, models: list[Any], fold: Numbers, n_outputs: int
) -> NDArray[np.float64]:
    """What the model of its fold says of every sample (walk, time, output), 0 without a fold."""
    if hasattr(values, "dask"):
        import dask.array as da

        values = values.rechunk({2: -1})
        chunks = (*values.chunks[:2], (n_outputs,))
        of_block = da.from_array(fold[..., None], chunks=(*chunks[:2], 1))
        said = da.map_blocks(
            _said, values, of_block, models, n_outputs, chunks=chunks, dtype=np.float64
        )
        return np.asarray(said.compute())
    return _said(values, fold[..., None], models, n_outputs)


def _said(
    block: NDArray[Any], fold: Numbers, models: list[Any], n_outputs: int
) -> NDArray[np.float64]:
    """The same of a block (walk, time, unit), with folds (walk, time, 1)."""
    fold = fold[..., 0]
    found = np.zeros((*fold.shape, n_outputs))
    for k in np.unique(fold[fold >= 0]):
        found[fold == k] = models[k].predict(block[fold == k]).reshape(-1, n_outputs)
    return found


def _estimator(method: Any, known: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Estimator of scikit-learn: a named one on standardised units, or the one given."""
    if isinstance(method, str) and method in known:
        try:
            return make_pipeline(StandardScaler(), known[method](**options))
        except TypeError as error:
            where = f"sklearn's {known[method].__name__}"
            raise ValueError(f"options must be those of {where}: {error}") from error
    if isinstance(method, str) or not (hasattr(method, "fit") and hasattr(method, "predict")):
        raise ValueError(
            f"method must be one of {(*known, *BAYES)} or an estimator of scikit-learn, found "
            f"{method!r}"
        )
    if options:
        raise ValueError(
            f"options {sorted(options)} are of named methods; set them on the estimator "
            f"{type(method).__name__} instead"
        )
    return method


def _check_options(function: Callable[..., Any], method: str, options: Mapping[str, Any]) -> None:
    parameters = signature(function).parameters.values()
    known = sorted(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"options of method={method!r} must be among {known}, found {unknown}")


def bar(progress: bool, what: str) -> Callable[[Any], Any]:
    """What wraps a loop: a progress bar or nothing."""
    if not progress:
        return lambda steps: steps
    from tqdm.auto import tqdm

    return partial(tqdm, desc=what)
