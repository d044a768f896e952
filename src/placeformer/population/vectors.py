"""Population vectors at places or along walks, and sums of their products."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.data.maps import EQUIDISTANT
from placeformer.data.unit_identity import warn_of_other_worlds
from placeformer.data.walk_lengths import walk_lengths
from placeformer.spatial.binning import activations
from placeformer.spatial.rate_maps import flatten
from placeformer.stats.tolerances import FLAT

Array = NDArray[np.float64]

NOT_OF_WALKS = ("prediction", "visited", "correct", "window", schema.DWELL, schema.TIMESTAMP)
"""Variables of samples that may differ on the same walks: outputs of a network, and the clock."""


def is_maps(dataset: object) -> bool:
    """Whether a Dataset is RateMaps; anything else must be a Recording."""
    return isinstance(dataset, xr.Dataset) and schema.RATE in dataset


def vectors(dataset: xr.Dataset, every: int = 1) -> Any:
    """Population vectors (group, row, unit) of a Recording or RateMaps.

    A group is a walk with its steps as rows, in a NumPy or dask array, or a visited place (of any
    map) with a single row. Shorter walks end in rows of NaN, which :class:`Products` omits.
    """
    if is_maps(dataset):
        (rates,) = shared_places(dataset)[0]
        return rates[:, None, :]
    schema.check_recording(dataset)
    return _steps(dataset, every)


def pair(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str], every: int = 1) -> tuple[Any, Any]:
    """Population vectors (group, row, unit) of two Datasets, at the same places or steps.

    Raises
    ------
    ValueError
        The places or the walks differ.
    """
    if is_maps(a) and is_maps(b):
        warn_of_other_worlds(a, b, names)
        (at_a, at_b), _ = shared_places(a, b, names=names)
        return at_a[:, None, :], at_b[:, None, :]
    if is_maps(a) or is_maps(b):
        raise ValueError(
            f"{names[0]} and {names[1]} must both be recordings or both be rate maps; compute the "
            "rate maps of the other with placeformer.rate_maps"
        )
    _check_same_walks(a, b, names)
    return _steps(a, every), _steps(b, every)


def thinned(values: Any, every: int) -> NDArray[Any]:
    """Every n-th step of values (walk, time, unit), NumPy or dask, in memory.

    The steps of a chunk are copied, because a view would keep the whole chunk in memory.
    """
    part = values[:, ::every]
    return np.asarray(part.map_blocks(np.array) if hasattr(part, "dask") else part)


def shared_places(
    *maps: xr.Dataset, names: tuple[str, ...] = ("maps",)
) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
    """Rates (place, unit) at the places where no unit of any map is NaN, and a mask of these.

    Places follow the order of the axes of the first maps; the other maps may have another order.
    The rates of a unit that is flat up to rounding are made exactly equal.

    Raises
    ------
    ValueError
        The maps differ in their places, or have fewer than two places in common.
    """
    flat = []
    for rate_maps, name in zip(maps, names, strict=True):
        schema.check_rate_maps(rate_maps)
        check_same_places(maps[0], rate_maps, (names[0], name))
        in_order = rate_maps.transpose(*maps[0][schema.RATE].dims, ..., missing_dims="ignore")
        rate, share = flatten(in_order)
        rate = np.moveaxis(np.where(share > 0, rate, np.nan), -2, -1)
        flat.append(rate.reshape(-1, rate.shape[-1]))
    known = np.logical_and.reduce([np.isfinite(rate).all(axis=1) for rate in flat])
    if known.sum() < 2:
        raise ValueError(
            f"{' and '.join(names)} must have at least 2 places where no rate is NaN, got "
            f"{known.sum()}; drop units that are NaN throughout, or lower min_occupancy"
        )
    return [_levelled(rate[known]) for rate in flat], known


def _levelled(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rates (place, unit) without rounding differences in flat units."""
    flat = np.abs(rates - rates.mean(axis=0)).max(axis=0) <= FLAT * np.abs(rates).max(axis=0)
    return np.where(flat, rates[0], rates)


def _steps(recording: xr.Dataset, every: int) -> Any:
    return activations(recording)[:, ::every]


def check_same_places(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str]) -> None:
    """Raise if the bins of two RateMaps differ."""
    here, there = _places(a), _places(b)
    if here.keys() != there.keys() or not all(_alike(here[d], there[d]) for d in here):
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same places, got {_shape(a)} and "
            f"{_shape(b)}, or different bins; pass the same bins to both rate_maps, "
            "for example bins={'x': edges, 'y': edges}"
        )


def _check_same_walks(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str]) -> None:
    for recording in (a, b):
        schema.check_recording(recording)
    sizes = [(recording.sizes[schema.WALK], recording.sizes[schema.TIME]) for recording in (a, b)]
    (here, there), way = (_walks(recording) for recording in (a, b)), ""
    difference = f"sizes {sizes[0]} and {sizes[1]}" if sizes[0] != sizes[1] else ""
    for name in [] if difference else sorted(here.keys() & there.keys()):
        if not here[name].equals(there[name]):
            difference = f"different {name!r}"
            way = f", or drop variables that do not belong to the walks with drop_vars({name!r})"
            break
    if difference:
        raise ValueError(
            f"{names[0]} and {names[1]} must be of the same walks, got {difference}; record both "
            f"on the same walks, as in placeformer.record(network, walks){way}"
        )


def _walks(recording: xr.Dataset) -> dict[str, xr.Variable]:
    """Positions, inputs and other variables of the walks of a recording, by name."""
    return {
        str(name): values.transpose(*schema.STEP_DIMS, missing_dims="ignore")
        for name, values in recording.variables.items()
        if values.dims
        and set(values.dims) <= set(schema.STEP_DIMS)
        and name not in {*recording.indexes, *NOT_OF_WALKS}
    }


def _places(maps: xr.Dataset) -> dict[Hashable, NDArray[Any]]:
    """Edges, else centres, of every axis, and the values of leading dimensions such as maps."""
    dims = (d for d in maps[schema.RATE].dims if d != schema.UNIT)
    places: dict[Hashable, NDArray[Any]] = {d: maps[d].values for d in dims}
    for dim in schema.place_dims(maps):
        if dim + schema.EDGES_SUFFIX in maps.coords:
            places[dim] = schema.edges_of(maps, dim)
    return places


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether labels are equal; floats may differ by rounding, as some are float32."""
    kinds = {one.dtype.kind, other.dtype.kind}
    if one.shape != other.shape or one.size < 2 or "f" not in kinds or not kinds <= set("iuf"):
        return np.array_equal(one, other)
    narrowest = np.abs(np.diff(one)).min()
    return bool(np.allclose(one, other, rtol=0, atol=EQUIDISTANT * narrowest))


def _shape(maps: xr.Dataset) -> tuple[int, ...]:
    return tuple(n for d, n in maps[schema.RATE].sizes.items() if d != schema.UNIT)


@dataclass(frozen=True)
class Products:
    """Sums over rows x (unit,) and y (unit,) of two populations; sums of parts can be added."""

    n: float
    product: Array
    """Sum of x y', shape (unit of x, unit of y)."""
    x: Array
    y: Array
    x_square: Array
    """Sum of |x|^2, a scalar; the next fields are sums of |y|^2, |x|^2 |y|^2, x |y|^2, y |x|^2."""
    y_square: Array
    square_square: Array
    x_y_square: Array
    y_x_square: Array

    @classmethod
    def of(cls, x: NDArray[Any], y: NDArray[Any]) -> Products:
        """Sums of rows (row, unit); rows that are NaN throughout in x or y are omitted."""
        missing = missing_rows(x) if y is x else missing_rows(x) | missing_rows(y)
        if missing.any():
            x, y = x[~missing], x[~missing] if y is x else y[~missing]
        with np.errstate(invalid="ignore", over="ignore"):  # callers check the result
            a, b = (np.einsum("ru,ru->r", v, v) for v in (x, y))
            x_sum, y_sum = (v.sum(axis=0, dtype=np.float64) for v in (x, y))
            sums = (x.T @ y, x_sum, y_sum, a.sum(), b.sum(), a @ b, b @ x, a @ y)
        return cls(len(x), *(np.asarray(s, np.float64) for s in sums))

    @classmethod
    def over(cls, x: Any, y: Any, shifts: tuple[Array, Array]) -> Products:
        """Sums over rows (group, row, unit), NumPy or dask, minus a shift (unit,) of each.

        Rows are read in blocks, dask arrays chunk by chunk. A shift near the values avoids
        rounding errors in the sums.
        """
        if hasattr(x, "dask") or hasattr(y, "dask"):
            return cls._over_chunks(x, y, shifts)
        total = None
        for where in _blocks.blocks((*x.shape[:2], max(x.shape[2], y.shape[2]))):
            first = _shifted(x[where], shifts[0])
            second = first if y is x else _shifted(y[where], shifts[1])
            part = cls.of(first, second)
            total = part if total is None else total + part
        if total is None:
            raise ValueError("rows must not be empty, got none; record at least one step")
        return total

    @classmethod
    def _over_chunks(cls, x: Any, y: Any, shifts: tuple[Array, Array]) -> Products:
        """Sums over dask arrays: one task per chunk of the rows of x, reduced as a tree."""
        import dask.array as da
        from dask.delayed import delayed

        rows = da.asarray(x).rechunk({2: -1})
        others = rows if y is x else da.asarray(y).rechunk((*rows.chunks[:2], -1))
        pairs = zip(rows.to_delayed().ravel(), others.to_delayed().ravel(), strict=True)
        same = y is x
        part = delayed(lambda a, b: cls.over(a, a if same else b, shifts))
        add = delayed(lambda parts: reduce(cls.__add__, parts))
        total: Products = _blocks.tree([part(*pair) for pair in pairs], add).compute()
        return total

    def __add__(self, other: Products) -> Products:
        return self._with(other, 1)

    def __sub__(self, other: Products) -> Products:
        return self._with(other, -1)

    def covariance(self) -> Array:
        """Sum of products of deviations from the means, divided by n - 1."""
        return self._centred() / (self.n - 1)

    def independence(self) -> float:
        """Squared norm of the sum of products of deviations: HSIC of linear kernels, times n^2."""
        return float(np.square(self._centred()).sum())

    def unbiased_independence(self) -> float:
        """Unbiased HSIC of linear kernels, times n (n - 3); no shift of x or y changes it."""
        # Song et al. (2012): with K and L the Gram matrices whose diagonals are set to 0,
        # tr(K L) + (1'K1)(1'L1) / ((n - 1)(n - 2)) - 2 (1'K L 1) / (n - 2). K and L have a row per
        # sample and are never formed: tr(X X' Y Y') is the squared norm of X'Y, a matrix over
        # pairs of units, and the diagonals, |x|^2 and |y|^2 of the samples, are subtracted term
        # by term. `both` is tr(K L), `ones` the product of the sums, `path` 1'K L 1.
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


def refuse_overflow(values: NDArray[Any]) -> None:
    """Raise if activations or rates, or sums of their products, are too large to be squared.

    Raises
    ------
    ValueError
        The sum of the squares, or its square, is infinite.
    """
    with np.errstate(over="ignore"):
        square = np.square(values, dtype=float).sum()
        if not np.isfinite(square**2):
            raise ValueError(
                "activations or rates must be small enough for the squares of their products to be "
                f"summed, got values of about {np.abs(values).max():.0e}; divide them by their "
                "largest magnitude, or change their units"
            )


def missing_rows(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether every unit is NaN, for each of the rows (row, unit)."""
    missing = np.isnan(rows[:, 0])
    missing[missing] = np.isnan(rows[missing]).all(axis=1)
    return missing


def check_padding(dataset: xr.Dataset, rows: Any, n_rows: float, every: int = 1) -> None:
    """Refuse rows (group, row, unit) of NaN that are not at the end of a walk.

    ``n_rows`` is the number of rows that are not missing.

    Raises
    ------
    ValueError
        Fewer rows count than the walks of the recording have.
    """
    if n_rows == rows.shape[0] * rows.shape[1] or is_maps(dataset):
        return
    steps = -(-walk_lengths(dataset) // every)
    n_missing = int(steps.sum() - n_rows) if steps.any() else rows.shape[0] * rows.shape[1]
    schema.check_finite(dataset[schema.ACTIVATION], np.full(rows.shape[2], n_missing))


def _shifted(block: Any, shift: Array) -> NDArray[Any]:
    """Rows (row, unit) minus a shift, in single precision unless they are double."""
    dtype = np.float32 if block.dtype in (np.float16, np.float32) else np.float64
    rows = np.asarray(block).reshape(-1, block.shape[2])
    return np.subtract(rows, shift.astype(dtype), dtype=dtype)
