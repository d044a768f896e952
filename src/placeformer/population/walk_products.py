"""Covariance of two populations from pairs of different walks, without bias from slow noise.

Samples of one walk resemble each other as long as units and walk are correlated in time. A measure
that compares all pairs of samples therefore counts the same slow noise many times, and two
unrelated populations seem alike. The estimates here take the samples of a product from different
walks, which are independent: they are U-statistics over walks (Song et al., 2012, is the special
case of one sample per walk).

References
----------
Song, L., Smola, A., Gretton, A., Bedo, J. and Borgwardt, K. (2012). Feature selection via
dependence maximization. Journal of Machine Learning Research 13, 1393-1434.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer.population.vectors import Array, Products

MIN_WALKS = 4
"""Minimum number of walks for an unbiased product of two covariances."""


def u_statistic(both: float, three: float, four: float, n: int) -> float:
    """Squared norm of the covariance, from sums over tuples of n different walks.

    Parameters
    ----------
    both
        Sum of k(i, j) l(i, j), with k and l the products of the population vectors of two walks in
        x and in y.
    three
        Sum of k(i, j) l(i, k).
    four
        Sum of k(i, j) l(k, l).
    n
        Number of walks.
    """
    pairs = n * (n - 1)
    triples = pairs * (n - 2)
    return float(both / pairs - 2 * three / triples + four / (triples * (n - 3)))


def of_four(k: Array, l: Array) -> float:  # noqa: E741
    """Sum of k(i, j) l(m, n) over different walks, from matrices (walk, walk) with diagonal 0."""
    return float(k.sum() * l.sum() - 4 * k.sum(0) @ l.sum(0) + 2 * np.vdot(k, l))


def between_walks(k: Array, l: Array, walk: NDArray[np.intp]) -> float:  # noqa: E741
    """Squared norm of the covariance, from kernels (row, row) that are 0 within a walk.

    Parameters
    ----------
    k, l
        Products of the population vectors of two rows, in x and in y; 0 for rows of one walk.
    walk
        Walk of every row, 0 to n - 1. Every walk counts equally, regardless of its number of rows.
    """
    n = int(walk.max()) + 1
    if n < MIN_WALKS:
        return np.nan
    share = 1 / np.bincount(walk, minlength=n)[walk]
    if n == len(walk):  # every row is a walk
        of_k, of_l, k_walks, l_walks = k, l, k, l
    else:
        member = np.zeros((len(walk), n))
        member[np.arange(len(walk)), walk] = share
        of_k, of_l = k @ member, l @ member
        k_walks, l_walks = member.T @ of_k, member.T @ of_l
    both = share @ (k * l) @ share
    three = share @ (of_k.sum(1) * of_l.sum(1) - np.einsum("rw,rw->r", of_k, of_l))
    return u_statistic(float(both), float(three), of_four(k_walks, l_walks), n)


@dataclass(frozen=True)
class WalkProducts:
    """Sums over walks of the mean products of the population vectors x and y of their samples."""

    x: Array
    """Mean of x in every walk, shape (walk, unit of x)."""
    y: Array
    product: Array
    """Sum over walks of the mean of x y', shape (unit of x, unit of y)."""
    square: float
    """Sum over walks of the squared norm of the mean of x y'."""
    x_path: Array
    """Sum over walks of the mean of x y' times the mean of y, shape (unit of x,)."""
    y_path: Array
    loop: float
    """Sum over walks of the mean of x y' times the means of x and of y."""

    @classmethod
    def of(cls, walk: Products) -> WalkProducts:
        """Sums over a single walk, from the sums over its samples."""
        mean, a, b = walk.product / walk.n, walk.x / walk.n, walk.y / walk.n
        x_path = mean @ b
        square, loop = float(np.vdot(mean, mean)), float(a @ x_path)
        return cls(a[None], b[None], mean, square, x_path, a @ mean, loop)

    @classmethod
    def over(
        cls, x: Any, y: Any, shifts: tuple[Array, Array], scale: Array | None = None
    ) -> WalkProducts:
        """Sums over rows (walk, row, unit), NumPy or dask, minus their shifts; walk by walk.

        The rows are divided by ``scale`` (unit,), which then applies to both x and y.
        """
        n = len(shifts[0]), len(shifts[1])
        total = cls(
            np.empty((0, n[0])),
            np.empty((0, n[1])),
            np.zeros(n),
            0,
            np.zeros(n[0]),
            np.zeros(n[1]),
            0,
        )
        for walk in range(x.shape[0]):
            part = slice(walk, walk + 1)
            products = Products.over(x[part], x[part] if y is x else y[part], shifts)
            if products.n:
                if scale is not None:
                    product = products.product / np.outer(scale, scale)
                    x_sum, y_sum = products.x / scale, products.y / scale
                    products = replace(products, product=product, x=x_sum, y=y_sum)
                total = total + cls.of(products)
        return total

    @property
    def n(self) -> int:
        """Number of walks."""
        return len(self.x)

    def independence(self) -> float:
        """Unbiased squared norm of the covariance of x and y; NaN for fewer than 4 walks."""
        if self.n < MIN_WALKS:
            return np.nan
        sum_x, sum_y = self.x.sum(axis=0), self.y.sum(axis=0)
        both = np.vdot(self.product, self.product) - self.square
        three = sum_x @ self.product @ sum_y - sum_x @ self.x_path - self.y_path @ sum_y
        three += 2 * self.loop - np.vdot(self.product, self.x.T @ self.y)
        k, l = (_without_diagonal(v @ v.T) for v in (self.x, self.y))  # noqa: E741
        return u_statistic(float(both), float(three), of_four(k, l), self.n)

    def trace(self) -> float:
        """Unbiased trace of the covariance of x (y must be x); NaN for a single walk."""
        n, total = self.n, self.x.sum(axis=0)
        if n < 2:
            return np.nan
        between = total @ total - np.vdot(self.x, self.x)
        return float(np.trace(self.product) / n - between / (n * (n - 1)))

    def without(self, walks: NDArray[np.intp], left_out: WalkProducts) -> WalkProducts:
        """The sums without some walks, given the sums of these walks."""
        keep = np.setdiff1d(np.arange(self.n), walks)
        return WalkProducts(
            self.x[keep],
            self.y[keep],
            self.product - left_out.product,
            self.square - left_out.square,
            self.x_path - left_out.x_path,
            self.y_path - left_out.y_path,
            self.loop - left_out.loop,
        )

    def __add__(self, other: WalkProducts) -> WalkProducts:
        return WalkProducts(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.y, other.y]),
            self.product + other.product,
            self.square + other.square,
            self.x_path + other.x_path,
            self.y_path + other.y_path,
            self.loop + other.loop,
        )


def _without_diagonal(kernel: Array) -> Array:
    return kernel - np.diag(np.diag(kernel))
