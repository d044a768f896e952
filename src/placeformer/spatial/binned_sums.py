"""Sums of activations by bin: the NumPy kernel shared by maps, variances and nulls.

The array is read once, in blocks of a few thousand samples. Within a block the sum over the
samples of each bin is one sparse product (SciPy's column-wise product reads the samples in
order and releases the interpreter lock, so blocks run on several threads). Blocks are added in
float64 and in a fixed order, so the result does not depend on the number of threads, and its
relative error stays about 1e-6 for any number of samples.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from placeformer.data.blocks import blocks, tree

FLOAT32_SAMPLES = 128
"""Approximate number of samples of a bin that are added in float32 rather than float64."""

MAX_PARTS = 4
"""Maximum number of parts of a block that are added in float32; above it, float64 is used."""

CACHED_VALUES = 2**19
"""Maximum number of sums that are updated at a time, so that they fit into the cache."""

MAX_THREADS = 4

ALL = slice(None)

Terms = Callable[[NDArray[Any], slice], Iterator[NDArray[Any]]]
"""Yields the arrays to sum, from a block (sample, unit) and the slice of the units it holds."""


def plain(block: NDArray[Any], units: slice) -> Iterator[NDArray[Any]]:
    """The activations themselves: one term."""
    yield block


def finite(block: NDArray[Any], units: slice) -> Iterator[NDArray[Any]]:
    """Activations with NaN and infinite values at 0, then 1 where they are finite, else 0."""
    good = np.isfinite(block)
    yield np.where(good, block, np.zeros((), block.dtype))
    yield good.astype(block.dtype)


def deviations(shift: NDArray[Any]) -> Terms:
    """Deviations from ``shift`` (unit,): one term."""

    def terms(block: NDArray[Any], units: slice) -> Iterator[NDArray[Any]]:
        yield block - shift[units].astype(block.dtype)

    return terms


def moments(shift: NDArray[Any]) -> Terms:
    """Deviations from ``shift`` (unit,), then their squares.

    A shift near the values keeps the sums of squares free of cancellation; a constant unit
    shifted by its own value gives exactly 0.
    """

    def terms(block: NDArray[Any], units: slice) -> Iterator[NDArray[Any]]:
        deviation = block - shift[units].astype(block.dtype)
        yield deviation
        yield np.multiply(deviation, deviation, out=deviation)

    return terms


Index = Any
"""Bins (walk, time) or (n, walk, time): NumPy, ``ShuffledBins``, or dask in the values' chunks."""


def bin_sums(
    values: Any,
    index: Sequence[Index],
    sizes: Sequence[int],
    *,
    terms: Terms = plain,
    weights: NDArray[np.float64] | None = None,
    threads: int | None = None,
    units: slice = ALL,
) -> list[NDArray[np.float64]]:
    """Sum each term of the values over the samples of every bin.

    Parameters
    ----------
    values
        Activations, shape (walk, time, unit): NumPy or dask, any real dtype.
    index
        For every term the bin of each sample: an array (walk, time), or an array or
        ``ShuffledBins`` (n, walk, time) where a sample counts in n bins. A sample with a negative
        bin is not counted. With dask values the bins may be dask in the same chunks.
    sizes
        Number of bins of every term.
    terms
        Yields the arrays to sum from a block of samples (sample, unit).
    weights
        Weight of every sample, shape (walk, time); by default 1.
    threads
        Number of threads that share the blocks; by default up to four.
    units
        Slice of the units of the terms that the values hold.

    Returns
    -------
    list of numpy.ndarray
        For every term an array (bin, unit), float64.
    """
    if hasattr(values, "dask"):
        return _dask_sums(values, index, sizes, terms, weights)
    totals = [np.zeros((size, values.shape[2])) for size in sizes]

    def of_units(block: NDArray[Any]) -> Iterator[NDArray[Any]]:
        return terms(block, units)

    for parts in _parts(values, index, sizes, of_units, weights, threads):
        for total, (rows, part) in zip(totals, parts, strict=True):
            with np.errstate(invalid="ignore"):  # inf - inf: callers check the result
                if rows is None:
                    total += part
                else:
                    total[rows] += part
    return totals


Part = tuple[NDArray[np.intp] | None, NDArray[Any]]


def _parts(
    values: NDArray[Any],
    index: Sequence[Index],
    sizes: Sequence[int],
    terms: Callable[[NDArray[Any]], Iterator[NDArray[Any]]],
    weights: NDArray[np.float64] | None,
    threads: int | None,
) -> Iterator[list[Part]]:
    """Sums of every block, in the order of the blocks."""

    def work(where: tuple[slice, slice]) -> list[Part]:
        block = _as_float(values[where].reshape(-1, values.shape[2]))
        weight = None if weights is None else weights[where].ravel()
        with np.errstate(invalid="ignore", over="ignore"):
            return [
                scatter(term, ix[(..., *where)].reshape(-1, len(block)), size, weight)
                for term, ix, size in zip(terms(block), index, sizes, strict=True)
            ]

    todo = list(blocks(values.shape))
    workers = min(threads or _cpus(), len(todo))
    if workers < 2:
        yield from map(work, todo)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(work, where) for where in todo[: 2 * workers])
        for where in todo[2 * workers :]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(work, where))
        while waiting:
            yield waiting.popleft().result()


def scatter(
    block: NDArray[Any],
    index: NDArray[np.integer[Any]],
    size: int,
    weight: NDArray[np.float64] | None = None,
) -> Part:
    """Sums over the samples of every bin that occurs in a block.

    Parameters
    ----------
    block
        Values (sample, unit), float32 or float64.
    index
        Bins of every sample (n, sample); negative: no bin.
    size
        Number of bins.
    weight
        Weight of every sample, shape (sample,); by default 1.

    Returns
    -------
    rows, sums
        Bins that occur (``None``: all bins) and their sums (row, unit).
    """
    n_rows = max(1, CACHED_VALUES // max(size // len(index) * block.shape[1], 1))
    if len(index) <= n_rows:
        return _product(block, index, size, weight)
    sums = np.zeros((size, block.shape[1]), block.dtype)
    for start in range(0, len(index), n_rows):  # samples are added to rows that are in the cache
        some = index[start : start + n_rows]
        low = int(np.min(some, where=some >= 0, initial=size))
        below = int(some.max(initial=-1)) + 1 - low
        if below > 0:
            rows, part = _product(block, np.where(some < 0, -1, some - low), below, weight)
            sums[slice(low, low + below) if rows is None else low + rows] += part
    return None, sums


def _product(
    block: NDArray[Any],
    index: NDArray[np.integer[Any]],
    size: int,
    weight: NDArray[np.float64] | None,
) -> Part:
    """Sums as in :func:`scatter`, for rows of the index whose sums fit into the cache."""
    chosen, start = index.T.ravel(), np.arange(len(block) + 1) * len(index)
    entries = None if weight is None else np.repeat(weight, len(index))
    if chosen.min(initial=0) < 0:
        keep = chosen >= 0
        entries = None if entries is None else entries[keep]
        chosen, start = chosen[keep], np.concatenate([[0], np.cumsum(keep)])[start]
    rows = None
    if size > chosen.size:  # most bins do not occur
        rows, chosen = np.unique(chosen, return_inverse=True)
        size = rows.size
    entries = np.ones(chosen.size) if entries is None else entries
    parts = 1
    if block.dtype == np.float32:
        # float32 sums of few samples are accurate enough; sums of parts are added in float64.
        parts = -(-int(np.bincount(chosen).max(initial=1)) // FLOAT32_SAMPLES)
        if parts > MAX_PARTS:
            block, parts = block.astype(np.float64), 1
    sums: Any = 0
    for part in np.array_split(np.arange(len(block)), parts):
        low, stop = start[part[0]], start[part[-1] + 1]
        pointers = start[part[0] : part[-1] + 2] - low
        weights = entries[low:stop].astype(block.dtype, copy=False)
        matrix = sparse.csc_array((weights, chosen[low:stop], pointers), shape=(size, len(part)))
        product = matrix @ block[part[0] : part[-1] + 1]
        sums = product if parts == 1 else sums + product.astype(np.float64)
    return rows, sums


def _as_float(block: NDArray[Any]) -> NDArray[Any]:
    """Leave float32 and float64 as they are; float16 becomes float32, other types float64."""
    if block.dtype in (np.float32, np.float64):
        return block
    return block.astype(np.float32 if block.dtype == np.float16 else np.float64)


def _cpus() -> int:
    """Number of threads: the processors available to this process, at most ``MAX_THREADS``."""
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        available = os.cpu_count() or 1
    return min(MAX_THREADS, available)


def _dask_sums(
    values: Any,
    index: Sequence[Index],
    sizes: Sequence[int],
    terms: Terms,
    weights: NDArray[np.float64] | None,
) -> list[NDArray[np.float64]]:
    """Compute :func:`bin_sums` of a dask array: one task per chunk, partial sums reduced as a tree.

    Shuffles are applied within the tasks, which share the bins before the shuffle.
    """
    from dask.base import compute
    from dask.delayed import delayed

    def work(
        chunk: Any, weight: Any, bins: list[NDArray[Any]], units: slice
    ) -> list[NDArray[np.float64]]:
        own = {"terms": terms, "weights": weight, "threads": 1, "units": units}
        return bin_sums(np.asarray(chunk), bins, sizes, **own)

    sums = delayed(work)
    chunks = values.chunks[:2]
    weight_of = repeat(None) if weights is None else _of_chunks(weights, chunks)
    bins = [_of_chunks(ix, chunks) for ix in index]
    add = delayed(lambda parts: [np.sum(term, axis=0) for term in zip(*parts, strict=True)])
    units = _slices(values.chunks[2])
    columns = []
    for column, u in zip(np.moveaxis(values.to_delayed(), 2, 0), units, strict=True):
        of_chunk = zip(column.ravel(), *bins, strict=True)
        parts = [
            sums(chunk, weight, list(here), u)
            for (chunk, *here), weight in zip(of_chunk, weight_of, strict=False)
        ]
        columns.append(tree(parts, add))
    done = compute(*columns)
    return [np.concatenate(term, axis=1) for term in zip(*done, strict=True)]


def _of_chunks(index: Index, chunks: Sequence[Sequence[int]]) -> list[Any]:
    """Bins of every chunk of samples, in the order of the chunks."""
    from dask.delayed import delayed

    if hasattr(index, "dask"):
        return list(index.to_delayed().ravel())
    bins = delayed(index, traverse=False) if not isinstance(index, np.ndarray) else index
    return [bins[..., w, t] for w, t in product(*map(_slices, chunks))]


def _slices(lengths: Sequence[int]) -> list[slice]:
    stops = np.cumsum(lengths)
    return [slice(int(b - n), int(b)) for n, b in zip(lengths, stops, strict=True)]
