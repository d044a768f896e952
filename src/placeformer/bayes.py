"""Bayesian decoding: the probability of every place given the activations of all units.

Training needs the sums over the samples of each place alone, so that the folds of a
cross-validation share one read of the data; decoding is one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import _blocks, _kernels, schema
from placeformer._blocks import Numbers, integers, mapped
from placeformer.negatives import Negatives
from placeformer.places import activations, refuse_not_finite
from placeformer.variance import centre

Prior = Literal["uniform", "occupancy"]
Variance = Literal["pooled", "place"]

Weigh = Callable[..., tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any]]]

FLOOR = 1e-3
"""Least variance of a unit as a share of its total variance, and least rate of its mean rate."""


@dataclass(frozen=True)
class Decoder:
    """Log posterior of every place, linear (and quadratic) in the activations of a sample."""

    shift: NDArray[Any]
    """Taken off the activations first, shape (unit,)."""
    rectified: bool
    """Whether what is then negative becomes 0."""
    linear: NDArray[Any]
    """Weights (unit, place) of the activations."""
    square: NDArray[Any] | None
    """Weights (unit, place) of their squares; ``None``: the same at every place."""
    constant: NDArray[Any]
    """Shape (place,); minus infinity at a place that the decoder has not seen."""

    def log_posterior(self, block: NDArray[Any]) -> NDArray[Any]:
        """Log posterior (sample, place) of activations (sample, unit), up to one constant."""
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
    """One decoder for every fold, trained on all others: units normal and independent.

    Parameters
    ----------
    recording
        Recording; its activations are read once.
    index, fold
        Place and fold of every sample (walk, time); -1: left out.
    size
        Number of places.
    prior
        ``"uniform"`` over the places visited, or their ``"occupancy"``.
    variance
        Of a unit about its mean at a place: ``"pooled"`` over places or of every ``"place"``.
    """
    _check("variance", variance, ("pooled", "place"))
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
    """One decoder for every fold, trained on all others: units Poisson and independent.

    The parameters are those of :func:`gaussian`, and ``negatives``: ``"raise"``, ``"rectify"``
    or ``"shift"`` by every unit's least activation in the recording.
    """
    least = _least(recording, negatives)
    sums = _sums(recording, index, size, fold, _rates(least), 1)
    shift = least.astype(_precision(activations(recording)))
    return _decoders(sums, _poisson, shift, prior, rectified=True)


def predict(
    values: Any,
    decoders: Sequence[Decoder],
    fold: Numbers,
    progress: Callable[[Any], Any] = lambda steps: steps,
) -> Numbers:
    """Most probable place of every sample (walk, time), each by the decoder of its fold.

    Dask arrays are decoded chunk by chunk where their chunks are.
    """
    kind = integers(len(decoders[0].constant))
    if hasattr(values, "dask"):
        import dask.array as da

        values = values.rechunk({2: -1})
        where = da.from_array(fold[..., None], chunks=(*values.chunks[:2], 1))
        places = da.map_blocks(_decoded, values, where, decoders, drop_axis=2, dtype=kind)
        return np.asarray(places.compute())
    found = np.full(fold.shape, -1, kind)
    for where in progress(list(_blocks.blocks(values.shape))):
        found[where] = _decoded(values[where], fold[where][..., None], decoders)
    return found


def _decoded(block: NDArray[Any], fold: Numbers, decoders: Sequence[Decoder]) -> Numbers:
    """Most probable place of a block (walk, time, unit), shape (walk, time); -1 without fold."""
    fold = fold[..., 0]
    found = np.full(fold.shape, -1, integers(len(decoders[0].constant)))
    for k in np.unique(fold[fold >= 0]):
        here = fold == k
        samples = block.reshape(-1, block.shape[2]) if here.all() else block[here]
        found[here] = decoders[k].log_posterior(samples).argmax(axis=1)
    return found


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
    _check("prior", prior, ("uniform", "occupancy"))
    found = []
    for k in range(len(sums[0])):
        n, *rest = (a.sum(axis=0) - a[k] for a in sums)
        linear, square, constant = weigh(n, *rest)
        weight = n if prior == "occupancy" else n > 0
        constant += np.log(weight, out=np.full(n.shape, -np.inf), where=n > 0)
        curved = None if square is None else square.astype(shift.dtype)
        flat = linear.astype(shift.dtype), curved, constant.astype(shift.dtype)
        found.append(Decoder(shift, rectified, *flat))
    return found


def _gaussian(
    n: NDArray[np.int64],
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    variance: Variance,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Weights of a normal density from sums (place, unit) of deviations and their squares."""
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
    """Precision, the variance being at least a share of the total; 0 for a constant unit."""
    least = np.maximum(variance, FLOOR * total)
    return np.divide(1.0, least, out=np.zeros_like(least), where=total > 0)


def _prepared(block: NDArray[Any], shift: NDArray[Any], rectified: bool) -> NDArray[Any]:
    """Activations less the shift, at least 0 if rectified, in the precision of the shift."""
    x = np.subtract(block, shift, dtype=shift.dtype)
    return np.maximum(x, 0, out=x) if rectified else x


def _rates(least: NDArray[np.float64]) -> _kernels.Terms:
    """Terms of sums: activations above their least."""
    return lambda block, units: iter([_prepared(block, least[units].astype(block.dtype), True)])


def _least(recording: xr.Dataset, negatives: str) -> NDArray[np.float64]:
    """What is taken off every unit before negative values become 0, shape (unit,)."""
    _check("negatives", negatives, get_args(Negatives))
    least = np.asarray(activations(recording).min(axis=(0, 1)), float)
    if negatives == "shift":
        return least
    below = np.flatnonzero(least < 0)
    if negatives == "raise" and below.size:
        raise ValueError(
            "method='poisson' needs activations >= 0, as a Poisson count is: "
            f"{below.size} units have negative ones (units {schema.unit_names(recording, below)}, "
            f"least {least.min():.3g}); pass negatives='rectify' or 'shift', or method='bayes', "
            "which is Gaussian and made for signed activations"
        )
    return np.zeros_like(least)


def _precision(values: Any) -> type[np.floating]:
    """Precision of decoding: double for double, else single."""
    return np.float64 if values.dtype == np.float64 else np.float32


def _check(name: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, found {found!r}")
