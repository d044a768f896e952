"""The bins of a behaviour: named axes, their edges and the bin of every sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from placeformer import _edges, schema
from placeformer._blocks import integers, mapped

Bins = int | ArrayLike | Mapping[str, Any] | Sequence[Any] | None


@dataclass(frozen=True)
class Axis:
    """One axis of behaviour: its name, the edges of its bins, units and long name."""

    name: str
    edges: NDArray[np.float64]
    attrs: Mapping[str, Any]

    @property
    def n(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the bins."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    def index(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Bin of every value; -1 outside the edges and for NaN. The last bin is closed."""
        if values.dtype.kind in "iu" and values.size:
            low, high = int(values.min()), int(values.max())
            if high - low < values.size:  # every number is looked up once
                found = self._search(np.arange(low, high + 1))
                return found[np.subtract(values, low, dtype=np.intp)]
        return self._search(values)

    def _search(self, values: NDArray[Any]) -> NDArray[np.intp]:
        found = np.searchsorted(self.edges, values, side="right") - 1
        found[values == self.edges[-1]] = self.n - 1
        found[found == self.n] = -1  # above the edges, or NaN
        return found

    def coords(self) -> dict[str, xr.Variable]:
        """Bin centres on the axis' own dimension, its edges on theirs."""
        edges = self.name + schema.EDGES_SUFFIX
        return {
            self.name: xr.Variable(self.name, self.centres, dict(self.attrs)),
            edges: xr.Variable(edges, self.edges, _edge_attrs(self.attrs)),
        }


@dataclass(frozen=True)
class Grid:
    """The bins of a behaviour of one or several axes, counted with the last axis fastest."""

    axes: tuple[Axis, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Bins along every axis."""
        return tuple(axis.n for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of bins."""
        return math.prod(self.shape)

    def index(self, recording: xr.Dataset) -> Any:
        """Bin of every sample (walk, time); -1 where any position is NaN or outside.

        In the smallest integers that hold it; dask where the activations are dask.
        """
        values = (samples(recording, axis.name) for axis in self.axes)
        return mapped(self.bins, *values, dtype=integers(self.size))

    def bins(self, *values: NDArray[Any]) -> NDArray[np.intp]:
        """Bins of the values on every axis."""
        found = self.axes[0].index(values[0])
        outside = found < 0
        for axis, each in zip(self.axes[1:], values[1:], strict=True):
            number = axis.index(each)
            outside |= number < 0
            found *= axis.n
            found += number
        found[outside] = -1
        return found

    def coords(self) -> dict[str, xr.Variable]:
        """Coordinates of all axes: centres and edges."""
        return {name: value for axis in self.axes for name, value in axis.coords().items()}


def grid(recording: xr.Dataset, by: Sequence[str], bins: Bins = None) -> Grid:
    """Bins for a recording's behaviour.

    Parameters
    ----------
    recording
        Recording with every name of ``by``, on (walk, time) or one of them.
    by
        Names of the axes, slowest first.
    bins
        ``None``: whole numbers, one bin each, from the least to the greatest found (``x`` and
        ``y`` of a recording that carries its ``side``: 0 to side - 1). A number: so many equal
        bins from the least to the greatest value. Edges: ascending; the last bin includes its
        right edge. A mapping from names to any of these, or a sequence of one for each name.
        RateMaps: the edges of those maps.

    Raises
    ------
    ValueError
        No whole numbers without ``bins``, edges that do not ascend, names that do not exist,
        or more than ten million bins.
    """
    names = axis_names(by)
    given = _bins_by_name(bins, names)
    found = Grid(tuple(_axis(recording, name, given[name]) for name in names))
    if found.size > _edges.MAX_BINS:
        raise ValueError(
            f"bins make a grid of {found.shape} = {found.size:,} places, more than "
            f"{_edges.MAX_BINS:,}; pass fewer or wider bins"
        )
    return found


def samples(recording: xr.Dataset, name: str) -> Any:
    """Values of a behavioural variable, shape (walk, time).

    Dask in the chunks of the activations where these are dask, else NumPy; dimensions that the
    variable lacks are broadcast.
    """
    variable = recording[name]
    missing = [d for d in schema.STEP_DIMS if d not in variable.dims]
    values = variable.expand_dims(missing).transpose(*schema.STEP_DIMS).data
    shape = tuple(recording.sizes[d] for d in schema.STEP_DIMS)
    chunks = _chunks(recording)
    if chunks is None:
        return np.broadcast_to(np.asarray(values), shape)
    import dask.array as da

    return da.broadcast_to(da.asarray(values), shape).rechunk(chunks)


def _chunks(recording: xr.Dataset) -> tuple[tuple[int, ...], ...] | None:
    """Chunks of the activations along walk and time; ``None`` of NumPy."""
    if schema.ACTIVATION not in recording.variables:
        return None
    chunks = recording.variables[schema.ACTIVATION].chunksizes
    return tuple(chunks[d] for d in schema.STEP_DIMS) if chunks else None


def axis_names(by: Sequence[str]) -> tuple[str, ...]:
    """Names of the axes; one name may come without a list."""
    names = (by,) if isinstance(by, str) else tuple(by)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"by must name at least one coordinate, each once; found {by!r}")
    reserved = {schema.UNIT, schema.MAP, schema.WALK, schema.TIME} & set(names)
    if reserved:
        raise ValueError(
            f"by must not name {sorted(reserved)}, which are dimensions of the result or the "
            "recording; use per_map=True for maps, or rename the coordinate"
        )
    return names


def _bins_by_name(bins: Bins, names: tuple[str, ...]) -> dict[str, Any]:
    """The specification of bins of every name."""
    if isinstance(bins, xr.Dataset):
        return _edges_of(bins, names)
    if isinstance(bins, Mapping):
        unknown = set(bins) - set(names)
        if unknown:
            raise ValueError(f"bins names {sorted(unknown)}, but by is {names}")
        return {name: bins.get(name) for name in names}
    if bins is None or np.ndim(_first_level(bins)) == 0:
        return dict.fromkeys(names, bins)
    listed = list(bins)  # type: ignore[arg-type]
    if len(names) == 1 and all(np.ndim(item) == 0 for item in listed):
        return {names[0]: listed}
    if len(listed) != len(names):
        raise ValueError(
            f"bins must hold one entry for each of by={names}, found {len(listed)}; pass a "
            "mapping such as {'x': edges, 'y': edges}"
        )
    return dict(zip(names, listed, strict=True))


def _edges_of(maps: xr.Dataset, names: tuple[str, ...]) -> dict[str, Any]:
    """The edges that RateMaps carry."""
    missing = [name for name in names if name + schema.EDGES_SUFFIX not in maps.variables]
    if missing:
        edges = sorted(str(v) for v in maps.variables if str(v).endswith(schema.EDGES_SUFFIX))
        raise ValueError(
            f"bins must be rate maps with the edges of {missing}, found the edges {edges}; make "
            f"those maps with by={names}"
        )
    return {name: maps[name + schema.EDGES_SUFFIX].values for name in names}


def _first_level(bins: Any) -> Any:
    return bins if np.isscalar(bins) else np.empty(len(bins))


def _axis(recording: xr.Dataset, name: str, bins: Any) -> Axis:
    if name not in recording.variables:
        raise ValueError(
            f"by names {name!r}, which the recording lacks; it has "
            f"{sorted(map(str, recording.variables))}"
        )
    if bins is not None and np.ndim(bins) == 1:
        edges = _edges.checked(name, bins)
    else:
        extent = _edges.Extent.over(samples(recording, name))
        edges = _edges.of_extent(name, extent, bins, _side(recording, name))
    attrs = {"units": "1", "long_name": name, **_text_attrs(recording[name].attrs)}
    return Axis(name, edges, attrs)


def _side(recording: xr.Dataset, name: str) -> int | None:
    """Side of the square world, from the attributes or the provenance of a recording."""
    if name not in ("x", "y"):
        return None
    known = schema.read_provenance(recording)
    nested = [value for value in known.values() if isinstance(value, dict)]
    for place in (recording.attrs, known, *nested):
        side = place.get("side")
        if side is not None:
            return int(side)
    return None


def _text_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes the contract allows: text and numbers."""
    return {str(k): v for k, v in attrs.items() if isinstance(v, str | int | float)}


def _edge_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {**attrs, "long_name": f"bin edges of {attrs['long_name']}"}
