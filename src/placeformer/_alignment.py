"""Alignment of two sets of rows: of their kernels, or of the distances between rows.

Both kinds give the likeness of all rows, without some groups of them, and with the groups of one
set in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from placeformer._products import Products
from placeformer.variance import centre

MIN_DEBIASED = 4
"""Least rows of a kernel without its diagonal."""


@dataclass(frozen=True)
class Matrices:
    """Two matrices (row, row) whose likeness is the cosine between them once transformed."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    transform: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Takes the means off, so that the cosine is a correlation or CKA."""
    rows_of_group: int

    def value(self) -> float:
        """Likeness of all rows."""
        return _cosine(self.transform(self.a), self.transform(self.b))

    def without(self, groups: NDArray[np.intp]) -> float:
        """Likeness without the rows of some groups."""
        rows = np.delete(np.arange(len(self.a)), self._rows(groups))
        at = np.ix_(rows, rows)
        return _cosine(self.transform(self.a[at]), self.transform(self.b[at]))

    def shuffled(self, order: NDArray[np.intp]) -> float:
        """Likeness when the groups of b are in another order."""
        rows = self._rows(order)
        a, b = self.transformed
        return _cosine(a, b[np.ix_(rows, rows)])

    def _rows(self, groups: NDArray[np.intp]) -> NDArray[np.intp]:
        return (groups[:, None] * self.rows_of_group + np.arange(self.rows_of_group)).ravel()

    @cached_property
    def transformed(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both matrices of all rows, transformed."""
        return self.transform(self.a), self.transform(self.b)


@dataclass(frozen=True)
class Sums:
    """CKA from sums of products over rows (group, row, unit)."""

    x: Any
    y: Any
    debiased: bool

    def value(self) -> float:
        """CKA of all rows."""
        return self._cka(*self.total)

    def without(self, groups: NDArray[np.intp]) -> float:
        """CKA without the rows of some groups that follow one another."""
        part = slice(groups[0], groups[-1] + 1)
        left = self._products(self.x[part], self.y[part])
        return self._cka(*(all_ - some for all_, some in zip(self.total, left, strict=True)))

    def shuffled(self, order: NDArray[np.intp]) -> float:
        """CKA when the groups of y are in another order."""
        one = [slice(g, g + 1) for g in range(len(order))]
        pairs = [
            Products.over(self.x[one[g]], self.y[one[h]], self.shifts) for g, h in enumerate(order)
        ]
        return self._cka(sum(pairs[1:], pairs[0]), *self.total[1:])

    @cached_property
    def shifts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Near the means of the units."""
        return centre(self.x), centre(self.y)

    @cached_property
    def total(self) -> tuple[Products, Products, Products]:
        """Sums of x y', x x' and y y' over all rows."""
        return self._products(self.x, self.y)

    def _products(self, x: Any, y: Any) -> tuple[Products, Products, Products]:
        (a, b), over = self.shifts, Products.over
        return over(x, y, (a, b)), over(x, x, (a, a)), over(y, y, (b, b))

    def _cka(self, *products: Products) -> float:
        if self.debiased and products[0].n < MIN_DEBIASED:
            return np.nan
        xy, xx, yy = (
            p.unbiased_independence() if self.debiased else p.independence() for p in products
        )
        return xy / np.sqrt(xx * yy) if xx > 0 and yy > 0 else np.nan


def distances(rows: NDArray[np.float64], distance: str) -> NDArray[np.float64]:
    """Distances (row, row) of all pairs of rows; NaN to a row that has no direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(squareform(pdist(rows, distance)))


def ranks(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of the distances (row, row), less their mean; 0 on the diagonal."""
    found = stats.rankdata(squareform(distances, checks=False))
    return np.asarray(squareform(found - found.mean()))


def centred(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel (row, row) less the means of rows and columns."""
    mean = kernel.mean(axis=0)
    return np.asarray(kernel - mean - mean[:, None] + mean.mean())


def without_diagonal(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel (row, row) without its diagonal, centred so that its products are unbiased."""
    n = len(kernel)
    if n < MIN_DEBIASED:
        return np.zeros_like(kernel)
    rest = kernel - np.diag(np.diag(kernel))
    mean = rest.sum(axis=0) / (n - 2)
    rest += mean.sum() / (n - 1) - mean - mean[:, None]
    np.fill_diagonal(rest, 0.0)
    return np.asarray(rest)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Cosine of two matrices; NaN if one is 0 or not known."""
    size = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / size) if size > 0 else np.nan
