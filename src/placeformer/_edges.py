"""Edges of the bins on one axis: given, half-way between whole numbers, or at equal distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer._blocks import reduced

MAX_BINS = 10_000_000
"""More bins than this are refused: the coordinate is hardly a grid."""


@dataclass(frozen=True)
class Extent:
    """The least and the greatest of values, and one that is no whole number, if there is any."""

    low: Any
    high: Any
    broken: Any

    @classmethod
    def over(cls, values: Any) -> Extent:
        """Extent of samples (walk, time), NumPy or dask."""
        whole: Extent = reduced(cls.of, cls.__add__, values)
        return whole

    @classmethod
    def of(cls, values: NDArray[Any]) -> Extent:
        """Extent of the finite values."""
        broken = values[:0]
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
            broken = values[values != np.round(values)]
        low, high = (values.min(), values.max()) if values.size else (np.inf, -np.inf)
        return cls(low, high, broken[0] if broken.size else None)

    def __add__(self, other: Extent) -> Extent:
        broken = other.broken if self.broken is None else self.broken
        return Extent(min(self.low, other.low), max(self.high, other.high), broken)


def checked(name: str, bins: Any) -> NDArray[np.float64]:
    """Edges as they were given, refused unless they are finite and ascend."""
    edges = np.asarray(bins, dtype=np.float64)
    if len(edges) < 2 or not np.all(np.diff(edges) > 0) or not np.all(np.isfinite(edges)):
        raise ValueError(
            f"bins of {name!r} must be at least two finite ascending edges, found {bins!r}; "
            "for a number of equal bins pass an int"
        )
    return edges


def of_extent(name: str, extent: Extent, bins: Any, side: int | None) -> NDArray[np.float64]:
    """Edges from the values' extent: of whole numbers without ``bins``, else so many equal bins."""
    if extent.low > extent.high:
        raise ValueError(f"{name!r} holds no finite value; pass explicit edges as bins")
    return _whole(name, extent, side) if bins is None else _equal(name, extent, bins)


def _whole(name: str, extent: Extent, side: int | None) -> NDArray[np.float64]:
    """Edges half-way between whole numbers."""
    if extent.broken is not None:
        raise ValueError(
            f"bins=None needs whole numbers, but {name!r} holds {extent.broken}; "
            f"pass bins, e.g. bins=20 or bins={{{name!r}: edges}}"
        )
    low, high = int(extent.low), int(extent.high)
    if side is not None:
        if low < 0 or high >= side:
            raise ValueError(
                f"{name!r} must lie in 0..{side - 1} for the recording's side={side}, found "
                f"{low}..{high}; correct the attribute or pass bins"
            )
        low, high = 0, side - 1
    if high - low >= MAX_BINS:
        raise ValueError(f"{name!r} spans {low}..{high}: too many bins of width 1; pass bins")
    return np.arange(low, high + 2, dtype=np.float64) - 0.5


def _equal(name: str, extent: Extent, bins: Any) -> NDArray[np.float64]:
    """Edges at equal distances."""
    if not isinstance(bins, int | np.integer) or isinstance(bins, bool) or bins < 1:
        raise ValueError(
            f"bins of {name!r} must be None, a number of bins >= 1 or edges, found {bins!r}"
        )
    low, high = float(extent.low), float(extent.high)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, int(bins) + 1, dtype=np.float64)
