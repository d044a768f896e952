"""Additive models of binned variables: ridge regression on one column per bin, from sums.

A sample has one column for its map and one for its bin of every variable. A fit, its error on a
fold and a shuffle of the residuals need only sums of products of columns, and of columns with
activations: the samples are read once for the data and once for every shuffle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

SURE = 1e-9
"""Penalty on the mean of a map, in samples, that keeps a fold without the map solvable."""

EXACT = 1e-6
"""Penalty, in samples, of a fit whose residuals must be free of its own variables."""


NOTHING = 1e-5
"""Unexplained fraction of a column below which it is a rounding error."""


@dataclass(frozen=True)
class Design:
    """Columns of every sample, the folds of samples, and the variable of every column."""

    columns: Numbers
    """Column of every sample's map and of its bin of every variable (sample, 1 + variable)."""
    variable: Numbers
    """Variable of every column (column,); -1: the map."""
    fold: Numbers
    """Fold that tests a sample (sample,)."""
    n_folds: int
    ridge: float
    """Penalty on the squared height of a bin, in samples."""

    @classmethod
    def of(cls, maps: Numbers, bins: Sequence[Numbers], fold: Numbers, ridge: float) -> Design:
        """Make columns for the maps and for the bins of variables (sample,) that occur."""
        columns, variable, first = [], [], 0
        for number, values in enumerate((maps, *bins), start=-1):
            occurring, rank = np.unique(values, return_inverse=True)
            columns.append(first + rank)
            variable.append(np.full(len(occurring), number))
            first += len(occurring)
        return cls(
            np.stack(columns, axis=1),
            np.concatenate(variable),
            fold,
            int(fold.max()) + 1,
            ridge,
        )

    @property
    def n(self) -> int:
        """Number of columns."""
        return len(self.variable)

    def rows(self, source: Numbers | None = None) -> sparse.csr_array:
        """Ones in the columns of every sample, or of the samples in ``source``, by fold.

        Shape (sample, fold and column).
        """
        columns, fold = (
            (self.columns, self.fold)
            if source is None
            else (
                self.columns[source],
                self.fold[source],
            )
        )
        where = (columns + self.n * fold[:, None]).ravel()
        return _ones(where, columns.shape[1], self.n * self.n_folds)

    @cached_property
    def plain(self) -> sparse.csr_array:
        """Ones in the columns of every sample (sample, column)."""
        return _ones(self.columns.ravel(), self.columns.shape[1], self.n)

    @cached_property
    def products(self) -> list[sparse.csr_array]:
        """Sums of products of columns (column, column) over every fold."""
        return self.cross(None)

    def cross(self, source: Numbers | None) -> list[sparse.csr_array]:
        """Sums over every fold of products of the columns of ``source`` and of the samples."""
        whole = sparse.csr_array(self.rows(source).T @ self.plain)
        return [whole[k * self.n : (k + 1) * self.n] for k in range(self.n_folds)]

    def with_activations(self, values: Floats, source: Numbers | None = None) -> Floats:
        """Sums over every fold of columns times activations (sample, unit).

        Shape (fold, column, unit). With ``source`` every activation is paired with the columns of
        another sample.
        """
        sums = self.rows(source).T @ values
        return np.asarray(sums).reshape(self.n_folds, self.n, -1)

    def is_determined(self, variable: int, others: Model) -> bool:
        """Whether the bin of a variable follows from the bins of the others, as sums of columns."""
        whole = sparse.csr_array(sum(self.products[1:], self.products[0]))
        return others.determines(np.flatnonzero(self.variable == variable), whole)

    def model(self, variables: Sequence[int]) -> Model:
        """Model of some variables and the map."""
        use = np.flatnonzero(np.isin(self.variable, (-1, *variables)))
        penalty = np.where(self.variable[use] < 0, SURE, self.ridge)
        tests = [sparse.csr_array(product[use][:, use]) for product in self.products]
        whole = sum(tests[1:], tests[0])
        return Model(
            use,
            self.n,
            tests,
            [_factor(whole - test, penalty) for test in tests],
            _factor(whole, np.minimum(penalty, EXACT)),
        )


@dataclass(frozen=True)
class Model:
    """Model of some columns, factorised for every fold's training samples and for all samples."""

    use: Numbers
    """Columns of the model."""
    n_columns: int
    tests: list[sparse.csr_array]
    """Sums of products of the columns of the model over every fold."""
    trained: list[Any]
    whole: Any
    """Factors of the sums over all samples, for a fit almost without a penalty."""

    def fitted(self, sums: Floats) -> Floats:
        """Coefficients (column, unit) without a penalty, from sums (fold, column, unit)."""
        coefficients = np.zeros(sums.shape[1:])
        coefficients[self.use] = self.whole.solve(sums.sum(axis=0)[self.use])
        return coefficients

    def determines(self, columns: Numbers, products: sparse.csr_array) -> bool:
        """Whether other columns are linear combinations of the model's (products: all columns)."""
        across = products[self.use][:, columns].toarray()
        left = products[columns][:, columns].diagonal()
        beyond = left - np.einsum("oc,oc->c", across, self.whole.solve(across))
        return bool((beyond <= NOTHING * left).all())

    def excess(self, sums: Floats) -> Floats:
        """Squared error on held-out folds minus the sum of squares (unit,), from sums by fold."""
        own = sums[:, self.use]
        total, error = own.sum(axis=0), np.zeros(sums.shape[2])
        for held_out, products, factor in zip(own, self.tests, self.trained, strict=True):
            b = factor.solve(total - held_out)
            error += np.einsum("cu,cu->u", b, products @ b - 2 * held_out)
        return error


def _factor(products: sparse.csr_array, penalty: Floats) -> Any:
    matrix = sparse.csc_array(products + sparse.diags_array(penalty))
    options = {"SymmetricMode": True}
    return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)


def _ones(where: Numbers, per_row: int, n_columns: int) -> sparse.csr_array:
    """Matrix with ones in the given columns, with the same number in every row."""
    n_rows = len(where) // per_row
    start = np.arange(0, len(where) + 1, per_row)
    return sparse.csr_array((np.ones(len(where)), where, start), shape=(n_rows, n_columns))
