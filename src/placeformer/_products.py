"""Sums of products of units over rows: what covariances and linear similarities are made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer import _blocks

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Products:
    """Sums over rows x (unit,) and y (unit,) of two populations; sums of parts add up."""

    n: float
    product: Array
    """Sum of x y', shape (unit of x, unit of y)."""
    x: Array
    y: Array
    x_square: Array
    """Sum of |x|^2, a scalar; the next of |y|^2, of |x|^2 |y|^2, of x |y|^2 and of y |x|^2."""
    y_square: Array
    square_square: Array
    x_y_square: Array
    y_x_square: Array

    @classmethod
    def of(cls, x: NDArray[Any], y: NDArray[Any]) -> Products:
        """Sums of rows (row, unit)."""
        with np.errstate(invalid="ignore", over="ignore"):  # callers look for what is not finite
            a, b = (np.einsum("ru,ru->r", v, v) for v in (x, y))
            x_sum, y_sum = (v.sum(axis=0, dtype=np.float64) for v in (x, y))
            sums = (x.T @ y, x_sum, y_sum, a.sum(), b.sum(), a @ b, b @ x, a @ y)
        return cls(len(x), *(np.asarray(s, np.float64) for s in sums))

    @classmethod
    def over(cls, x: Any, y: Any, shifts: tuple[Array, Array]) -> Products:
        """Sums of rows (group, row, unit), NumPy or dask, less a shift (unit,) of each.

        Rows are read in blocks, chunks of dask where they are. A shift near the values keeps
        rounding out of the sums.
        """
        if hasattr(x, "dask") or hasattr(y, "dask"):
            return cls._over_chunks(x, y, shifts)
        found = None
        for where in _blocks.blocks((*x.shape[:2], max(x.shape[2], y.shape[2]))):
            first = _shifted(x[where], shifts[0])
            second = first if y is x else _shifted(y[where], shifts[1])
            part = cls.of(first, second)
            found = part if found is None else found + part
        if found is None:
            raise ValueError("rows must not be empty, found none; record at least one step")
        return found

    @classmethod
    def _over_chunks(cls, x: Any, y: Any, shifts: tuple[Array, Array]) -> Products:
        """The same with one task for every chunk of the rows of x, sums added as a tree."""
        import dask.array as da
        from dask.delayed import delayed

        rows = da.asarray(x).rechunk({2: -1})
        others = rows if y is x else da.asarray(y).rechunk((*rows.chunks[:2], -1))
        pairs = zip(rows.to_delayed().ravel(), others.to_delayed().ravel(), strict=True)
        same = y is x
        part = delayed(lambda a, b: cls.over(a, a if same else b, shifts))
        add = delayed(lambda parts: reduce(cls.__add__, parts))
        found: Products = _blocks.tree([part(*pair) for pair in pairs], add).compute()
        return found

    def __add__(self, other: Products) -> Products:
        return self._with(other, 1)

    def __sub__(self, other: Products) -> Products:
        return self._with(other, -1)

    def covariance(self) -> Array:
        """Sum of products of deviations from the means, over n - 1."""
        return self._centred() / (self.n - 1)

    def independence(self) -> float:
        """Squared norm of the sum of products of deviations: HSIC of linear kernels, times n^2."""
        return float(np.square(self._centred()).sum())

    def unbiased_independence(self) -> float:
        """Unbiased HSIC of linear kernels, times n (n - 3); no shift of x or y changes it."""
        n, sx, sy = self.n, self.x, self.y
        both = np.square(self.product).sum() - self.square_square
        ones = (sx @ sx - self.x_square) * (sy @ sy - self.y_square)
        path = sx @ self.product @ sy - sx @ self.x_y_square - sy @ self.y_x_square
        path += self.square_square
        return float(both + ones / ((n - 1) * (n - 2)) - 2 * path / (n - 2))

    def _centred(self) -> Array:
        return np.asarray(self.product - np.outer(self.x, self.y) / self.n)

    def _with(self, other: Products, sign: int) -> Products:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Products(*(mine + sign * others for mine, others in pairs))


def _shifted(block: Any, shift: Array) -> NDArray[Any]:
    """Rows (row, unit) less a shift, in single precision unless they are double."""
    dtype = np.float32 if block.dtype in (np.float16, np.float32) else np.float64
    rows = np.asarray(block).reshape(-1, block.shape[2])
    return np.subtract(rows, shift.astype(dtype), dtype=dtype)
