"""Samples (walk, time) read block by block: NumPy arrays stay arrays, dask arrays stay lazy.

No function holds more than one block in addition to its arguments and its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 2**23
"""Number of values in a block: 32 MiB of float32, small compared with any recording."""

BLOCK_SAMPLES = 2**13
"""Most samples in a block: few bins of a usual grid exceed ``binned_sums.FLOAT32_SAMPLES``."""

PLAIN_SAMPLES = 2**18
"""Number of samples in a block of arrays with one value per sample."""

MANY = 2**20
"""Number of bins above which a block counts only the bins that occur in it."""

Numbers = NDArray[np.signedinteger[Any]]
"""Bins or folds of samples, of the smallest integer type that fits; negative for none."""

Counted = tuple[NDArray[Any], NDArray[np.int64]]
"""Distinct values, ascending, and how often each occurs."""


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Slices of (walk, time) of arrays (walk, time) or (walk, time, unit).

    Blocks of (walk, time, unit) have at most about ``BLOCK_VALUES`` values.
    """
    n_walks, n_times, *units = shape
    rows = PLAIN_SAMPLES
    if units:
        rows = min(BLOCK_SAMPLES, max(256, BLOCK_VALUES // max(units[0], 1)))
    if n_times >= rows:
        starts = range(0, n_times, rows)
        yield from ((slice(w, w + 1), slice(t, t + rows)) for w in range(n_walks) for t in starts)
    else:
        step = max(1, rows // max(n_times, 1))
        yield from ((slice(w, w + step), slice(None)) for w in range(0, n_walks, step))


def integers(size: int) -> np.dtype[Any]:
    """Smallest integer type that holds -1 to ``size`` - 1."""
    return np.dtype(np.min_scalar_type(-max(size, 1)))


def mapped(
    function: Callable[..., NDArray[Any]], first: Any, *others: Any, dtype: np.dtype[Any]
) -> Any:
    """Apply a function to arrays (walk, time) block by block.

    Parameters
    ----------
    function
        Function of blocks of one shape that returns a block of that shape.
    first, others
        NumPy or dask arrays. Those after the first may have a single walk or step, and may be dask
        only if the first is, with the same chunks.
    dtype
        Type of the result.
    """
    if not hasattr(first, "dask"):
        result = np.empty(first.shape, dtype)
        whole = [first, *(np.broadcast_to(a, first.shape) for a in others)]
        for where in blocks(first.shape):
            result[where] = function(*(a[where] for a in whole))
        return result
    import dask.array as da

    lazy = (a if hasattr(a, "dask") else _in_chunks(a, first.chunks) for a in others)
    meta = np.empty((0, 0), dtype)
    return da.map_blocks(lambda *a: function(*a).astype(dtype), first, *lazy, meta=meta)


def _in_chunks(values: NDArray[Any], chunks: Any) -> Any:
    """The values as dask, in the given chunks along axes longer than 1."""
    import dask.array as da

    own = tuple(c if n > 1 else 1 for n, c in zip(values.shape, chunks, strict=True))
    return da.from_array(values, own)


def reduced(function: Callable[[Any], Any], add: Callable[[Any, Any], Any], values: Any) -> Any:
    """Apply a function to every block of values (walk, time), and add the results in order.

    A chunk of a dask array is a block and a task; partial results are reduced as a tree.
    """
    if not hasattr(values, "dask"):
        return reduce(add, (function(values[where]) for where in blocks(values.shape)))
    from dask.delayed import delayed

    of_chunk, together = delayed(function), delayed(lambda parts: reduce(add, parts))
    parts = [of_chunk(chunk) for chunk in values.to_delayed().ravel()]
    return tree(parts, together).compute()


def tree(parts: list[Any], add: Callable[[list[Any]], Any]) -> Any:
    """Add parts eight at a time, then their sums, until one is left."""
    while len(parts) > 1:
        parts = [add(parts[k : k + 8]) for k in range(0, len(parts), 8)]
    return parts[0]


def counts(index: Any, size: int) -> NDArray[np.int64]:
    """Number of samples (walk, time) in every bin, shape (bin,); negative bins are left out."""
    if size > MANY:
        occurring, n_samples = distinct(index)
        total = np.zeros(size, np.int64)
        total[occurring[occurring >= 0]] = n_samples[occurring >= 0]
        return total

    def count(block: NDArray[Any]) -> NDArray[np.int64]:
        return np.bincount(block[block >= 0], minlength=size)

    return np.asarray(reduced(count, np.add, index), np.int64)


def totals(index: Any, size: int, weights: NDArray[np.float64] | None) -> NDArray[Any]:
    """Sum of the weights (walk, time) in every bin, shape (bin,); without weights the counts."""
    if weights is None:
        return counts(index, size)
    bins = np.asarray(index)
    inside = bins >= 0
    return np.bincount(bins[inside], weights[inside], size)


def distinct(values: Any) -> Counted:
    """Distinct values of samples (walk, time), ascending, without NaN, and their counts."""

    def count(block: NDArray[Any]) -> Counted:
        known = block[block == block]  # NaN differs from itself
        return np.unique(known, return_counts=True)

    counted: Counted = reduced(count, _together, values)
    return counted


def ranks(known: NDArray[Any], values: NDArray[Any]) -> NDArray[np.intp]:
    """Rank of values among distinct ascending ones; of NaN, the number of these."""
    if values.dtype.kind != "O":
        return np.searchsorted(known, values)
    rank = np.full(values.shape, len(known), np.intp)  # NaN among texts cannot be compared
    rank[values == values] = np.searchsorted(known, values[values == values])
    return rank


def _together(one: Counted, other: Counted) -> Counted:
    """Distinct values and counts of two parts together."""
    values, number = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    total = np.zeros(len(values), np.int64)
    np.add.at(total, number, np.concatenate([one[1], other[1]]))
    return values, total
