"""Ridge regression with normal equations, summed over blocks of samples for all folds at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import linalg

from placeformer.data import blocks as _blocks
from placeformer.data.blocks import Numbers
from placeformer.spatial.binning import activations
from placeformer.spatial.variance_explained import centre
from placeformer.stats.tolerances import NO_VARIANCE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Outputs that are linear in the activations of a sample."""

    weights: Array
    """Weights (unit, output)."""
    constant: Array
    """Constants (output,)."""

    def predict(self, samples: NDArray[Any]) -> Array:
        """Outputs (sample, output) of activations (sample, unit)."""
        return np.asarray(samples @ self.weights + self.constant)


def ridge(
    recording: xr.Dataset,
    target: NDArray[Any],
    fold: Numbers,
    n: int | None = None,
    *,
    alpha: float = 1.0,
) -> list[Linear]:
    """Train one ridge regression per fold on all other folds, on units of variance 1.

    The fit is computed from sums of products over all samples, which need memory for one matrix
    (unit, unit) per fold.

    Parameters
    ----------
    recording
        Recording; its activations are read once.
    target
        Targets of every sample, shape (walk, time, output).
    fold
        Fold of every sample (walk, time); -1: the sample is left out.
    n
        Train for the first n folds only; by default for all.
    alpha
        Penalty on the sum of squared weights, above 0.
    """
    values = activations(recording)
    first = target[fold >= 0][:1].astype(float)
    sums = Sums.over(values, target, fold, centre(values), first[0])
    whole = sums.total()
    return [(whole - sums.of_fold(k)).solved(alpha) for k in range(len(sums.n) if n is None else n)]


@dataclass(frozen=True)
class Sums:
    """Sums over the samples of every fold (or of all folds) of x (unit,) and y (output,)."""

    shifts: tuple[Array, Array]
    """Values near the means, which are subtracted from x and from y."""
    n: Array
    x: Array
    y: Array
    xx: Array
    xy: Array

    @classmethod
    def over(
        cls, values: Any, target: NDArray[Any], fold: Numbers, x_shift: Array, y_shift: Array
    ) -> Sums:
        """Sums over blocks of a NumPy array, or over the chunks of a dask array."""
        shifts = (x_shift, y_shift)
        n_folds = int(fold.max()) + 1
        if not hasattr(values, "dask"):
            sums = cls.zero(n_folds, shifts)
            for where in _blocks.blocks(values.shape):
                sums.add(values[where], target[where], fold[where])
            return sums
        from dask.delayed import delayed

        def of_chunk(block: Any, own_target: NDArray[Any], own_fold: Numbers) -> Sums:
            part = cls.zero(n_folds, shifts)
            part.add(block, own_target, own_fold)
            return part

        values = values.rechunk({2: -1})
        part, add = delayed(of_chunk), delayed(lambda parts: reduce(Sums.__add__, parts))
        stops = [np.cumsum(lengths) for lengths in values.chunks[:2]]
        chunks = values.to_delayed()[..., 0]
        parts = []
        for at in np.ndindex(chunks.shape):
            walks, steps = (
                slice(int(ends[i] - lengths[i]), int(ends[i]))
                for i, ends, lengths in zip(at, stops, values.chunks[:2], strict=True)
            )
            parts.append(part(chunks[at], target[walks, steps], fold[walks, steps]))
        total: Sums = _blocks.tree(parts, add).compute()
        return total

    @classmethod
    def zero(cls, n_folds: int, shifts: tuple[Array, Array]) -> Sums:
        """Sums over no samples."""
        units, outputs = (len(shift) for shift in shifts)
        shapes = ((), (units,), (outputs,), (units, units), (units, outputs))
        return cls(shifts, *(np.zeros((n_folds, *shape)) for shape in shapes))

    def add(self, block: Any, target: NDArray[Any], fold: Numbers) -> None:
        """Add the samples of a block (walk, time, unit), in place."""
        block = np.asarray(block)
        for k in np.unique(fold[fold >= 0]):
            here = fold == k
            x = np.subtract(block[here], self.shifts[0], dtype=np.float64)
            y = np.subtract(target[here], self.shifts[1], dtype=np.float64)
            self.n[k] += len(x)
            self.x[k] += x.sum(axis=0)
            self.y[k] += y.sum(axis=0)
            self.xx[k] += x.T @ x
            self.xy[k] += x.T @ y

    def total(self) -> Sums:
        """Sums over the samples of all folds."""
        arrays = (a.sum(axis=0) for a in self._arrays())
        return Sums(self.shifts, *arrays)

    def of_fold(self, k: int) -> Sums:
        """Sums over the samples of a fold."""
        return Sums(self.shifts, *(a[k] for a in self._arrays()))

    def solved(self, alpha: float) -> Linear:
        """Weights of ridge regression on units of variance 1 over the samples of the sums."""
        n = self.n
        mean, target = self.x / n, self.y / n
        covariance = self.xx / n - np.outer(mean, mean)
        variance, square = np.diag(covariance), np.diag(self.xx) / n
        sd = np.sqrt(np.where(variance > NO_VARIANCE**2 * square, variance, np.inf))
        correlation = covariance / sd[:, None] / sd
        correlation[np.diag_indices_from(correlation)] += alpha / n
        product = (self.xy / n - np.outer(mean, target)) / sd[:, None]
        weights = linalg.solve(correlation, product, assume_a="pos") / sd[:, None]
        constant = self.shifts[1] + target - (self.shifts[0] + mean) @ weights
        return Linear(weights, constant)

    def __add__(self, other: Sums) -> Sums:
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return Sums(self.shifts, *(a + b for a, b in pairs))

    def __sub__(self, other: Sums) -> Sums:
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return Sums(self.shifts, *(a - b for a, b in pairs))

    def _arrays(self) -> tuple[Array, ...]:
        return self.n, self.x, self.y, self.xx, self.xy
