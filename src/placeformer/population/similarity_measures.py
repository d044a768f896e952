"""CKA and RSA of two arrays of population vectors, from sums over rows or from pairs of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from placeformer.data import schema
from placeformer.population.vectors import Products, is_maps, missing_rows, refuse_overflow
from placeformer.population.walk_products import MIN_WALKS, WalkProducts, between_walks
from placeformer.spatial.variance_explained import centre
from placeformer.stats.tolerances import FLAT, TIES

Method = Literal["cka", "rsa"]
Distance = Literal["correlation", "euclidean", "cosine"]
Rows = NDArray[np.intp]

NAMES = ("a", "b")

MAX_ROWS = 6_000
"""Maximum number of rows compared pair by pair (288 MB per matrix)."""


@dataclass(frozen=True)
class Measure:
    """How two populations are compared."""

    method: Method
    debiased: bool
    distance: Distance

    def check_rows(self, n_groups: int, n_rows: int, data: xr.Dataset) -> None:
        """Refuse too few walks, places or rows."""
        least = {"cka": MIN_WALKS, "rsa": 2}[self.method] if self.debiased else 1
        of = "places" if is_maps(data) else "walks"
        if n_groups < least:
            raise ValueError(
                f"a and b must have at least {least} {of} for pairs of rows of different {of}, got "
                f"{n_groups}; record more, or pass debiased=False, which compares all pairs and is "
                "above 0 for unrelated populations"
            )
        if n_rows < 3:
            raise ValueError(f"a and b must have at least 3 rows, got {n_rows}")

    def compare(self, x: Any, y: Any, data: tuple[xr.Dataset, xr.Dataset]) -> Matrices | Sums:
        """Compare rows (group, row, unit), from sums if there are more rows than units."""
        n_rows, maps = x.shape[0] * x.shape[1], is_maps(data[0])
        wide = n_rows > (MAX_ROWS if maps else max(x.shape[2], y.shape[2]))
        if self.method == "cka" and wide:
            sums = Sums(x, y, self.debiased, maps)
            for rows, dataset in zip(sums.total[1:], data, strict=True):
                _check_finite(
                    rows.x.sum(axis=0)[None] if rows.x.ndim > 1 else rows.x[None], dataset
                )
                refuse_overflow(rows.product)
            return sums
        if n_rows > MAX_ROWS and self.method == "rsa":
            raise ValueError(
                f"RSA compares all pairs of rows and takes at most {MAX_ROWS:,}, got {n_rows:,}; "
                "compare rate maps (placeformer.rate_maps), or use fewer steps with every="
                f"{-(-n_rows // MAX_ROWS)}"
            )
        return self.matrices(x, y, data)

    def matrices(self, x: Any, y: Any, data: tuple[xr.Dataset, xr.Dataset]) -> Matrices:
        """Kernels or distances of all pairs of rows (group, row, unit), without missing rows."""
        n_groups, n_steps = x.shape[:2]
        rows = [np.asarray(v, float).reshape(n_groups * n_steps, -1) for v in (x, y)]
        group = np.repeat(np.arange(n_groups), n_steps)
        known = ~(missing_rows(rows[0]) | missing_rows(rows[1]))
        if not known.all():
            rows, group = [values[known] for values in rows], group[known]
        for values, dataset in zip(rows, data, strict=True):
            _check_finite(values, dataset)
            refuse_overflow(values)
        if self.method == "rsa":
            for values, name in zip(rows, NAMES, strict=True):
                self._check_directions(values, name)
            with np.errstate(invalid="ignore", divide="ignore"):  # for a constant population
                a, b = (squareform(pdist(values, self.distance)) for values in rows)
        else:
            off = (r - r[0] for r in rows)  # the mean of equal rates may differ by rounding
            a, b = (values @ values.T for values in (o - o.mean(axis=0) for o in off))
        return Matrices(a, b, self.method, self.debiased, group)

    def _check_directions(self, rows: NDArray[np.float64], name: str) -> None:
        """Refuse rows (row, unit) whose distance to other rows is undefined."""
        largest = np.abs(rows).max(axis=1, initial=0.0)
        if self.distance == "correlation":
            flat, what = np.ptp(rows, axis=1) <= FLAT * largest, "all units are equal"
        else:
            flat, what = largest == 0, "all units are 0"
        if self.distance != "euclidean" and flat.any() and np.ptp(rows, axis=0).any():
            raise ValueError(
                f"distance={self.distance!r} needs rows that differ between units, but {what} in "
                f"{flat.sum():,} of {len(rows):,} rows of {name}; pass distance='euclidean', use "
                "longer time bins or wider bins of place, or leave these rows out"
            )


@dataclass(frozen=True)
class Matrices:
    """Two matrices (row, row), of kernels or distances, that are compared pair by pair."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    method: Method
    debiased: bool
    group: Rows
    """Walk or place of every row."""

    @property
    def n_rows(self) -> int:
        """Number of rows compared."""
        return len(self.a)

    def value(self) -> float:
        """Similarity over all rows."""
        return self._value(*self.transformed, self.group)

    def without(self, groups: Rows) -> float:
        """Similarity without the rows of some groups."""
        rows = np.flatnonzero(~np.isin(self.group, groups))
        return self.paired(rows, rows)

    def paired(self, rows_a: Rows, rows_b: Rows) -> float:
        """Similarity of some rows of a with rows of b."""
        group = self.group[rows_a]
        if len(rows_a) == len(self.a) and np.array_equal(self.group[rows_b], group):
            order = np.empty_like(rows_a)  # the pairs in the order of the rows of a
            order[rows_a] = rows_b
            a, b = self.transformed
            return _ratio(self._product(a, b[np.ix_(order, order)], self.group), *self.squares)
        a, b = self.a[np.ix_(rows_a, rows_a)], self.b[np.ix_(rows_b, rows_b)]
        return self._value(self._transform(a, group), self._transform(b, group), group)

    @cached_property
    def transformed(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both matrices of all rows, transformed."""
        return self._transform(self.a, self.group), self._transform(self.b, self.group)

    @cached_property
    def squares(self) -> tuple[float, float]:
        """Product of each transformed matrix with itself."""
        a, b = self.transformed
        return self._product(a, a, self.group), self._product(b, b, self.group)

    def _transform(self, matrix: NDArray[np.float64], group: Rows) -> NDArray[np.float64]:
        """Matrix of pairs of rows: ranks of distances, centred kernel, or kernel between groups."""
        if self.method == "cka" and not self.debiased:
            return centred(matrix)
        pairs = group[:, None] != group if self.debiased else ~np.eye(len(group), dtype=bool)
        return ranks(matrix, pairs) if self.method == "rsa" else np.where(pairs, matrix, 0.0)

    def _value(self, a: NDArray[np.float64], b: NDArray[np.float64], group: Rows) -> float:
        """Cosine of two transformed matrices, from unbiased products if debiased."""
        return _ratio(*(self._product(*both, group) for both in ((a, b), (a, a), (b, b))))

    def _product(self, a: NDArray[np.float64], b: NDArray[np.float64], group: Rows) -> float:
        if self.method == "rsa" or not self.debiased:
            return float(np.vdot(a, b))
        return between_walks(a, b, np.unique(group, return_inverse=True)[1])


@dataclass(frozen=True)
class Sums:
    """CKA from sums of products over rows (group, row, unit)."""

    x: Any
    y: Any
    debiased: bool
    single: bool
    """Whether every group is a single row."""

    @cached_property
    def n_rows(self) -> int:
        """Number of rows compared."""
        if self.debiased and not self.single:
            return int(Products.over(self.x, self.y, self.shifts).n)
        return int(self.total[0].n)

    def value(self) -> float:
        """CKA over all rows."""
        return self._cka(*self.total)

    def without(self, groups: Rows) -> float:
        """CKA without the rows of some consecutive groups."""
        part = slice(groups[0], groups[-1] + 1)
        left = self._products(self.x[part], self.y[part])
        pairs = zip(self.total, left, strict=True)
        if self.debiased and not self.single:
            return self._cka(*(all_.without(groups, some) for all_, some in pairs))
        return self._cka(*(all_ - some for all_, some in pairs))

    @cached_property
    def shifts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values near the means of the units of x and of y."""
        return centre(self.x), centre(self.y)

    @cached_property
    def total(self) -> tuple[Any, Any, Any]:
        """Sums of x y', x x' and y y' over all rows, or over walks."""
        return self._products(self.x, self.y)

    def _products(self, x: Any, y: Any) -> tuple[Any, Any, Any]:
        walks = self.debiased and not self.single
        over: Any = WalkProducts.over if walks else Products.over
        a, b = self.shifts
        return over(x, y, (a, b)), over(x, x, (a, a)), over(y, y, (b, b))

    def _cka(self, *products: Any) -> float:
        if self.debiased and self.single:
            return _ratio(*(p.unbiased_independence() for p in products))
        return _ratio(*(p.independence() for p in products))


def ranks(distances: NDArray[np.float64], pairs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Ranks of the distances (row, row) of some pairs, minus the mean rank; 0 for other pairs.

    Distances that differ only by rounding are ties.
    """
    upper = np.triu(pairs)
    ranked = np.zeros(distances.shape)
    chosen = distances[upper]
    step = TIES * chosen.max(initial=0.0)
    order = stats.rankdata(np.round(chosen / step) if step > 0 else chosen)
    ranked[upper] = order - order.mean() if order.size else order
    return ranked + ranked.T


def centred(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel (row, row) minus the means of rows and columns."""
    mean = kernel.mean(axis=0)
    return np.asarray(kernel - mean - mean[:, None] + mean.mean())


def _ratio(ab: float, aa: float, bb: float) -> float:
    """Product divided by the root of two squares; NaN if one of the squares is not above 0."""
    if not (aa > 0 and bb > 0):
        return np.nan
    with np.errstate(over="ignore", under="ignore"):
        product = np.float64(aa) * bb
    # The product of large or small squares is infinite or 0; otherwise a single root rounds less.
    root = np.sqrt(product) if 0 < product < np.inf else np.sqrt(aa) * np.sqrt(bb)
    return float(ab / root)


def _check_finite(values: NDArray[Any], data: xr.Dataset) -> None:
    name = schema.RATE if is_maps(data) else schema.ACTIVATION
    schema.check_finite(data[name], np.count_nonzero(~np.isfinite(values), axis=0), name=name)
