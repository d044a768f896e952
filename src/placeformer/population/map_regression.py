"""Cross-validated prediction of rate maps from rate maps: ridge regression and PLS over places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cross_decomposition import PLSRegression

from placeformer.stats.tolerances import NO_VARIANCE

Floats = NDArray[np.float64]
Held = NDArray[np.bool_]

PENALTIES = np.logspace(-4, 3, 8)
"""Penalties of ridge regression, relative to the mean square of the features at a place."""

RANK = 1e-6
"""Singular value, relative to the features, below which a component is a rounding error."""

INNER = 4
"""Maximum number of folds of the training places that are used to choose a penalty."""


def predicted(
    features: Floats,
    targets: Floats,
    fold: NDArray[np.intp],
    near: Held,
    fit: Callable[..., Floats],
) -> tuple[Floats, Floats]:
    """Held-out predictions (place, cell), and the corresponding means of the training places.

    Parameters
    ----------
    features, targets
        Rates (place, unit) and (place, cell).
    fold
        Fold that tests a place (place,).
    near
        Whether a place is too close to a fold to be in its training set (fold, place).
    fit
        Function of features, targets, training and test places, and the folds of all places, that
        returns predictions for the test places.
    """
    scaled = standardised(features)
    out, mean = np.empty_like(targets), np.empty_like(targets)
    for k in range(int(fold.max()) + 1):
        test = np.flatnonzero(fold == k)
        train = np.flatnonzero((fold != k) & ~near[k])
        mean[test] = targets[train].mean(axis=0)
        out[test] = fit(scaled, targets, train, test, fold, near)
    return out, mean


def standardised(features: Floats) -> Floats:
    """Features (place, unit) of mean 0 and variance 1; 0 for a unit that does not vary."""
    off = features - features.mean(axis=0)
    variance, square = (off**2).mean(axis=0), (features**2).mean(axis=0)
    sd = np.sqrt(np.where(variance > NO_VARIANCE**2 * square, variance, np.inf))
    return np.asarray(off / sd)


def ridge(
    features: Floats,
    targets: Floats,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    fold: NDArray[np.intp],
    near: Held,
) -> Floats:
    """Ridge regression with, for each cell, the penalty that predicts its training folds best."""
    # Ridge regression needs only the products of places, which suits few places and many units.
    kernel = features @ features.T / max(features.shape[1], 1)
    folds = np.unique(fold[train])
    error = np.zeros((len(PENALTIES), targets.shape[1]))
    for own in np.array_split(folds, min(INNER, len(folds))):
        held = train[np.isin(fold[train], own)]
        rest = train[~np.isin(fold[train], own) & ~near[own][:, train].any(axis=0)]
        if rest.size:
            error += ((_by_penalty(kernel, targets, rest, held) - targets[held]) ** 2).sum(axis=1)
    best = error.argmin(axis=0)
    return _by_penalty(kernel, targets, train, test)[best, :, np.arange(targets.shape[1])].T


def _by_penalty(
    kernel: Floats, targets: Floats, train: NDArray[np.intp], test: NDArray[np.intp]
) -> Floats:
    """Predictions (penalty, test place, cell) of ridge regressions with a free constant."""
    within, across = kernel[np.ix_(train, train)], kernel[np.ix_(test, train)]
    column = within.mean(axis=0)
    within = within - column - column[:, None] + column.mean()
    across = across - across.mean(axis=1, keepdims=True) - column + column.mean()
    mean = targets[train].mean(axis=0)
    values, vectors = np.linalg.eigh(within)
    left, right = across @ vectors, vectors.T @ (targets[train] - mean)
    scale = 1 / (np.maximum(values, 0) + PENALTIES[:, None])
    return np.asarray(mean + np.einsum("te,pe,ec->ptc", left, scale, right, optimize=True))


def pls(n_components: int) -> Callable[..., Floats]:
    """Partial least squares with n components, or with the rank of the features if lower."""

    def fit(
        features: Floats,
        targets: Floats,
        train: NDArray[np.intp],
        test: NDArray[np.intp],
        *_: Any,
    ) -> Floats:
        own = features[train] - features[train].mean(axis=0)
        most = min(n_components, int(np.linalg.matrix_rank(own, tol=RANK * np.sqrt(own.size))))
        if most == 0:
            return np.broadcast_to(targets[train].mean(axis=0), (len(test), targets.shape[1]))
        model = PLSRegression(n_components=most, scale=False).fit(features[train], targets[train])
        return np.asarray(model.predict(features[test])).reshape(len(test), -1)

    return fit


def scores(prediction: Floats, mean: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Correlation and variance explained (cell,) of predictions (place, cell).

    Both use deviations from the mean of the training places of a fold, so that predictions that
    contain only these means have a correlation of 0 rather than a negative one.
    """
    guess, truth = prediction - mean, targets - mean
    variance = ((targets - targets.mean(axis=0)) ** 2).mean(axis=0)
    known = variance > NO_VARIANCE**2 * (targets**2).mean(axis=0)
    off = [values - values.mean(axis=0) for values in (guess, truth)]
    squares = [(values**2).sum(axis=0) for values in off]
    some = squares[0] > NO_VARIANCE**2 * squares[1]
    spread = np.sqrt(squares[0] * squares[1])
    r = np.divide((off[0] * off[1]).sum(axis=0), spread, out=np.zeros_like(spread), where=some)
    error = ((prediction - targets) ** 2).sum(axis=0) / np.maximum(
        (truth**2).sum(axis=0), np.finfo(float).tiny
    )
    return np.where(known, np.clip(r, -1, 1), np.nan), np.where(known, 1 - error, np.nan)
