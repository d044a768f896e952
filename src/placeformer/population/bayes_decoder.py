"""Bayesian decoders of place: independent normal or Poisson units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_option
from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.data.blocks import Numbers, integers, mapped
from placeformer.data.dwell import dwell_of
from placeformer.data.unit_identity import is_per_second
from placeformer.population.cross_validation import by_fold
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import activations, refuse_not_finite
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.variance_explained import centre
from placeformer.stats.tolerances import NO_VARIANCE

Prior = Literal["uniform", "occupancy"]

Variance = Literal["pooled", "place"]

Weigh = Callable[..., tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any]]]

FLOOR = 1e-3
"""Minimum variance (rate) of a unit at a place, relative to its total variance (mean rate)."""


@dataclass(frozen=True)
class Decoder:
    """Log posterior of every place, linear (and quadratic) in the activations of a sample."""

    shift: NDArray[Any]
    """Values subtracted from the activations first, shape (unit,)."""
    rectified: bool
    """Whether negative values are then set to 0."""
    linear: NDArray[Any]
    """Weights (unit, place) of the activations."""
    square: NDArray[Any] | None
    """Weights (unit, place) of the squared activations; ``None``: equal at all places."""
    constant: NDArray[Any]
    """Constant term (place,); minus infinity at a place without training samples."""
    log_prior: NDArray[Any] | None = None
    """Log prior (place,), only for a decoder of rates, whose other terms refer to one second."""

    def log_posterior(
        self, block: NDArray[Any], seconds: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Log posterior (sample, place) of activations (sample, unit), up to a constant.

        A decoder of rates needs the duration in seconds of every sample (sample,).
        """
        x = _prepared(block, self.shift, self.rectified)
        log = x @ self.linear
        if self.square is not None:
            log += np.multiply(x, x, out=x) @ self.square
        np.add(log, self.constant, out=log)
        if self.log_prior is not None:
            assert seconds is not None
            log *= seconds[:, None].astype(log.dtype)
            log += self.log_prior
        return np.asarray(log)

    def posterior(
        self, block: NDArray[Any], seconds: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Posterior (sample, place) of activations (sample, unit), which sums to 1 over places."""
        log = self.log_posterior(block, seconds).astype(np.float64)
        log -= log.max(axis=1, keepdims=True)
        share = np.exp(log, out=log)
        share /= share.sum(axis=1, keepdims=True)
        return share


def gaussian(
    recording: xr.Dataset,
    index: Any,
    size: int,
    fold: Numbers,
    n: int | None = None,
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
    n
        Train for the first n folds only; by default for all.
    prior
        ``"uniform"`` over the visited places, or proportional to their ``"occupancy"``, in seconds
        for a timed recording, else in samples.
    variance
        Variance of a unit about its mean at a place: ``"pooled"`` over places, or separate for
        every ``"place"``.
    """
    check_option("variance", variance, get_args(Variance))
    values = activations(recording)
    shift = centre(values)
    sums = _sums(recording, index, size, fold, _kernels.moments(shift), 2)
    weigh = partial(_gaussian, variance=variance)
    return _decoders(sums, n, weigh, shift.astype(_precision(values)), prior, rectified=False)


def poisson(
    recording: xr.Dataset,
    index: Any,
    size: int,
    fold: Numbers,
    n: int | None = None,
    *,
    prior: Prior = "uniform",
    negatives: Negatives = "raise",
) -> list[Decoder]:
    """Train a decoder per fold on all other folds, with independent Poisson units.

    The parameters are those of :func:`gaussian`, except ``variance``, and ``negatives``:
    ``"raise"``, ``"rectify"`` or ``"shift"``, which subtracts each unit's minimum activation in the
    recording. For rates per second in a timed recording, the count of a sample is its rate times
    its duration.
    """
    least, seconds = lowest(recording, negatives), seconds_of_rates(recording)
    sums = _sums(recording, index, size, fold, _rates(least), 1, seconds)
    shift = least.astype(_precision(activations(recording)))
    of_rates = seconds is not None
    return _decoders(sums, n, _poisson, shift, prior, rectified=True, of_rates=of_rates)


def lowest(recording: xr.Dataset, negatives: str) -> NDArray[np.float64]:
    """Shift subtracted from every unit before negative values are set to 0, shape (unit,).

    Raises
    ------
    ValueError
        Activations are negative, with ``negatives="raise"``.
    """
    check_option("negatives", negatives, get_args(Negatives))
    values = activations(recording)
    if hasattr(values, "dask"):
        import dask.array as da

        least = np.asarray(da.nanmin(values, axis=(0, 1)), float)
    else:
        least = np.asarray(np.fmin.reduce(values, axis=(0, 1)), float)
    if negatives == "shift":
        return least
    below = np.flatnonzero(least < 0)
    if negatives == "raise" and below.size:
        raise ValueError(
            "method='poisson' needs activations >= 0, like the counts of a Poisson model: "
            f"{below.size} units have negative ones (units {schema.unit_names(recording, below)}, "
            f"minimum {least.min():.3g}); pass negatives='rectify' or 'shift', or method='bayes', "
            "which is Gaussian and suited to signed activations"
        )
    return np.zeros_like(least)


def seconds_of_rates(recording: xr.Dataset) -> NDArray[np.float64] | None:
    """Seconds of every sample (walk, time); ``None`` unless rates are per second and timed."""
    of_rates = is_per_second(recording[schema.ACTIVATION].attrs.get("units"))
    return seconds_of(recording) if of_rates else None


def seconds_of(recording: xr.Dataset) -> NDArray[np.float64] | None:
    """Seconds of every sample (walk, time); ``None`` if the recording is not timed."""
    dwell = dwell_of(recording)
    if dwell is None:
        return None
    shape = tuple(recording.sizes[d] for d in schema.STEP_DIMS)
    return np.broadcast_to(np.asarray(dwell, np.float64), shape)


def predict(
    values: Any,
    decoders: Sequence[Decoder],
    fold: Numbers,
    progress: bool = False,
    seconds: NDArray[np.float64] | None = None,
) -> Numbers:
    """Most probable place of every sample (walk, time), from the decoder of its fold.

    Samples without a fold are -1. Decoders of rates need the seconds (walk, time) of samples.
    """
    kind = integers(len(decoders[0].constant))

    def most_probable(k: int, samples: NDArray[Any], own: Any) -> NDArray[Any]:
        return np.asarray(decoders[k].log_posterior(samples, own).argmax(axis=1)[:, None])

    places = by_fold(most_probable, values, fold, 1, kind, seconds, progress)[..., 0]
    places[fold < 0] = -1
    return places


def posteriors(
    values: Any,
    decoders: Sequence[Decoder],
    fold: Numbers,
    progress: bool = False,
    seconds: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Posterior (walk, time, place) of every sample, from the decoder of its fold; 0 without."""

    def posterior(k: int, samples: NDArray[Any], own: Any) -> NDArray[Any]:
        return decoders[k].posterior(samples, own)

    n_places = len(decoders[0].constant)
    return by_fold(posterior, values, fold, n_places, np.dtype(np.float32), seconds, progress)


def means(
    values: Any,
    decoders: Sequence[Decoder],
    fold: Numbers,
    of_place: NDArray[np.float64],
    progress: bool = False,
    seconds: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Posterior mean (walk, time, output) of the outputs of every place (place, output)."""

    def mean(k: int, samples: NDArray[Any], own: Any) -> NDArray[Any]:
        return np.asarray(decoders[k].posterior(samples, own) @ of_place)

    return by_fold(mean, values, fold, of_place.shape[1], np.dtype(float), seconds, progress)


def _sums(
    recording: xr.Dataset,
    index: Any,
    size: int,
    fold: Numbers,
    terms: _kernels.Terms,
    n_terms: int,
    weights: NDArray[np.float64] | None = None,
) -> list[NDArray[Any]]:
    """Occupancy and counts (fold, place) and sums (fold, place, unit) of every term, in one read.

    Counts and sums are weighted.
    """
    n_folds = int(fold.max()) + 1
    n_cells = n_folds * size

    def of_fold(i: NDArray[Any], k: NDArray[Any]) -> NDArray[Any]:
        return np.where((i < 0) | (k < 0), -1, k.astype(np.intp) * size + i)

    cell = mapped(of_fold, index, fold, dtype=integers(n_cells))
    sums = _kernels.bin_sums(
        activations(recording), [cell] * n_terms, [n_cells] * n_terms, terms=terms, weights=weights
    )
    refuse_not_finite(recording, sums[-1], cell)
    dwell = dwell_of(recording)
    seconds = dwell if isinstance(dwell, np.ndarray) else None
    occupancy, counts = (_blocks.totals(cell, n_cells, w) for w in (seconds, weights))
    return [a.reshape(n_folds, size, *a.shape[1:]) for a in (occupancy, counts, *sums)]


def _decoders(
    sums: list[NDArray[Any]],
    n_folds: int | None,
    weigh: Weigh,
    shift: NDArray[Any],
    prior: Prior,
    *,
    rectified: bool,
    of_rates: bool = False,
) -> list[Decoder]:
    """Decoder of every fold from the sums of the other folds."""
    check_option("prior", prior, get_args(Prior))
    decoders = []
    for k in range(len(sums[0]) if n_folds is None else n_folds):
        # Sum the seconds of the other folds: after a subtraction, 0 would not be exactly 0.
        time, n = (np.delete(a, k, axis=0).sum(axis=0) for a in sums[:2])
        linear, square, constant = weigh(n, *(a.sum(axis=0) - a[k] for a in sums[2:]))
        visited = time > 0
        # A term common to all places does not change the posterior but costs single precision.
        linear -= linear.mean(axis=1, where=visited, keepdims=True)
        constant -= constant.mean(where=visited)
        weight = time if prior == "occupancy" else visited
        log_prior = np.log(weight, out=np.full(time.shape, -np.inf), where=visited)
        if not of_rates:
            constant += log_prior
        curved = None if square is None else square.astype(shift.dtype)
        flat = linear.astype(shift.dtype), curved, constant.astype(shift.dtype)
        own = log_prior.astype(shift.dtype) if of_rates else None
        decoders.append(Decoder(shift, rectified, *flat, own))
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
    square = squares.sum(axis=0) / n.sum()
    total = square - (sums.sum(axis=0) / n.sum()) ** 2
    total = np.where(total > NO_VARIANCE * square, total, 0.0)  # else it is a rounding error
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
    rate = np.maximum(sums / np.where(n > 0, n, 1)[:, None], FLOOR * sums.sum(axis=0) / n.sum())
    log = np.log(rate, out=np.zeros_like(rate), where=rate > 0)
    return log.T, None, -rate.sum(axis=1)


def _inverse(variance: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision, with a lower bound on the variance relative to the total; 0 if constant."""
    least = np.maximum(variance, FLOOR * total)
    return np.divide(1.0, least, out=np.zeros_like(least), where=total > 0)


def _prepared(block: NDArray[Any], shift: NDArray[Any], rectified: bool) -> NDArray[Any]:
    """Activations minus the shift, at least 0 if rectified, in the precision of the shift."""
    x = np.subtract(block, shift, dtype=shift.dtype)
    return np.maximum(x, 0, out=x) if rectified else x


def _rates(least: NDArray[np.float64]) -> _kernels.Terms:
    """Terms of sums: activations above their minimum, or above 0."""
    return lambda block, units: iter([_prepared(block, least[units].astype(block.dtype), True)])


def _precision(values: Any) -> type[np.floating]:
    """Precision of decoding: double for double-precision activations, else single."""
    return np.float64 if values.dtype == np.float64 else np.float32
