"""Binning of behaviour: edges, the bin of every sample, and a recording with its bins."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from placeformer._warnings import warn
from placeformer.data import blocks as _blocks
from placeformer.data import circular as _circular
from placeformer.data import schema
from placeformer.data.blocks import integers, mapped, reduced
from placeformer.data.dwell import dwell_of
from placeformer.data.unit_identity import check_same_measures
from placeformer.data.walk_lengths import walk_lengths
from placeformer.spatial import binned_sums as _kernels

MAX_BINS = 10_000_000
"""Maximum number of bins; a coordinate that spans more whole numbers is unlikely to be a grid."""

FEW = 0.02
"""Fraction of the samples inside the bins below which the bins may be in other units."""

LOADED_VALUES = 2**26
"""Maximum number of activations that are loaded from disk for repeated reading: 256 MiB."""

Bins = int | ArrayLike | Mapping[str, Any] | Sequence[Any] | None

Circular = Mapping[str, float] | None
"""Period of every circular variable, in addition to those that the recording declares."""


@dataclass(frozen=True)
class BinnedRecording:
    """A recording that meets the contract, with the bin of every sample.

    Every spatial analysis starts from it, so that an analysis composed of several others checks
    the recording and bins its samples only once.
    """

    recording: xr.Dataset
    grid: Grid
    maps: xr.DataArray | None
    """Maps whose bins are counted separately; ``None``: the samples of all maps are pooled."""
    index: Any
    """Bin of every sample (walk, time); -1: no bin. Dask where the activations are dask."""
    weights: NDArray[np.float64] | None = None
    """Seconds that every sample (walk, time) represents; ``None``: all count equally."""
    unit_of_time: float | None = None
    """Seconds per unit of weight: 1 with ``weights``, else the seconds that every sample
    represents; ``None``: the recording counts steps."""

    @classmethod
    def of(
        cls,
        recording: xr.Dataset,
        *,
        by: Sequence[str],
        bins: Bins,
        per_map: bool = False,
        need: Sequence[str] = (),
        circular: Circular = None,
    ) -> BinnedRecording:
        """Check a recording, with the further variables it needs, and bin its samples."""
        names = axis_names(by)
        maps = (schema.MAP,) if per_map else ()
        schema.check_recording(recording, need=(*names, *maps, *need))
        recording = _circular.declare(recording, circular)
        bins_of_place = grid(recording, by, bins)
        dwell, index = dwell_of(recording), bins_of_place.index(recording)
        weights, unit_of_time = (dwell, 1.0) if isinstance(dwell, np.ndarray) else (None, dwell)
        if weights is not None:
            index = mapped(
                lambda i, seconds: np.where(seconds > 0, i, -1),
                index,
                weights,
                dtype=integers(bins_of_place.size),
            )
        binned = cls(recording, bins_of_place, None, index, weights, unit_of_time)
        return binned.split_by_map() if per_map else binned

    @property
    def size(self) -> int:
        """Number of bins of all maps together."""
        return self.grid.size * (1 if self.maps is None else self.maps.size)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the occupancy."""
        return (() if self.maps is None else (schema.MAP,)) + self.grid.names

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the occupancy."""
        return (() if self.maps is None else (self.maps.size,)) + self.grid.shape

    def totals(self, index: Any, size: int) -> NDArray[Any]:
        """Total weight (or number) of the samples in every bin, shape (bin,)."""
        return _blocks.totals(index, size, self.weights)

    @cached_property
    def lengths(self) -> NDArray[np.intp]:
        """Steps of every walk, shape (walk,), without the padding of shorter walks."""
        return walk_lengths(self.recording, np.asarray(self.index[:, -1]) < 0)

    def check_visited(self, name: str = "recording") -> None:
        """Raise if the bins hold no sample, and warn if they hold few of the known positions.

        In the second case the bins may be in other units than the recording. ``name`` is the
        argument that holds the recording, for the message.

        Raises
        ------
        ValueError
            No sample has a bin.
        """
        n = int((self.index >= 0).sum())
        if n >= FEW * self.index.size:
            return
        values = [samples(self.recording, axis.name) for axis in self.grid.axes]
        known = int(np.logical_and.reduce([np.isfinite(np.asarray(v)) for v in values]).sum())
        if n and n >= FEW * known:
            return
        extents = zip(self.grid.axes, map(Extent.over, values), strict=True)
        where = ", ".join(
            f"{axis.name!r} lies in {extent.low:g} to {extent.high:g} and its bins in "
            f"{axis.edges[0]:g} to {axis.edges[-1]:g}"
            if extent.low <= extent.high
            else f"{axis.name!r} holds no finite value"
            for axis, extent in extents
        )
        if not n:
            raise ValueError(
                f"bins must hold samples of {name}, got none: {where}; pass other bins, or correct "
                f"the positions of {name}"
            )
        warn(
            f"bins hold {n:,} of the {known:,} samples of {name} whose position is known: {where}; "
            "both must be in the same units",
        )

    def observed(self) -> BinnedRecording:
        """The same recording without samples at which no unit has a finite activation."""
        values = activations(self.recording)
        if hasattr(values, "dask"):
            import dask.array as da

            known = da.isfinite(values).any(axis=2)
        else:
            known = np.empty(values.shape[:2], bool)
            for where in _blocks.blocks(values.shape):
                known[where] = np.isfinite(values[where]).any(axis=2)
        index = mapped(
            lambda i, seen: np.where(seen, i, -1), self.index, known, dtype=integers(self.size)
        )
        return replace(self, index=index)

    def split_by_map(self) -> BinnedRecording:
        """Count the bins of every map separately, those of the first map first."""
        maps, number = schema.map_numbers(self.recording)
        index = of_part(self.index, number[:, None], self.grid.size, maps.size)
        attrs = {"units": "1", "long_name": "map the walk was made on"}
        return replace(self, maps=xr.DataArray(maps, dims=schema.MAP, attrs=attrs), index=index)

    def of_units(self, units: NDArray[np.intp]) -> BinnedRecording:
        """Select units, and load them if they are on disk and few enough."""
        recording = self.recording.isel({schema.UNIT: units})
        activation = recording[schema.ACTIVATION]
        if activation.chunks is None or activation.size > LOADED_VALUES:
            return replace(self, recording=recording)
        loaded = recording.assign({schema.ACTIVATION: activation.load()})
        return replace(self, recording=loaded, index=np.asarray(self.index))

    def isel(self, dim: str, which: slice | NDArray[np.intp]) -> BinnedRecording:
        """Select walks or steps, keeping the bins of the whole recording."""
        recording = self.recording.isel({dim: which})
        part = tuple(which if d == dim else slice(None) for d in schema.STEP_DIMS)
        index, chunks = self.index[part], _chunks(recording)
        return replace(
            self,
            recording=recording,
            index=index.rechunk(chunks) if chunks else index,
            weights=None if self.weights is None else self.weights[part],
        )


def of_part(index: Any, part: Any, size: int, n: int) -> Any:
    """Bins of every sample (walk, time), offset by ``size`` per part of n parts; -1 stays."""

    def count(i: NDArray[Any], p: NDArray[Any]) -> NDArray[Any]:
        return np.where(i < 0, -1, i + p.astype(np.intp) * size)

    return mapped(count, index, part, dtype=integers(n * size))


def observation_of_bins(binned: BinnedRecording) -> NDArray[np.intp]:
    """Number of the observation at every bin, shape (bin,); -1 where unvisited.

    Raises
    ------
    ValueError
        A bin holds more than one observation.
    """
    observation = samples(binned.recording, "observation")
    known, _ = _blocks.distinct(observation)
    n = len(known) + 1  # NaN counts as one more observation

    def pair(place: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
        whole = place.astype(np.intp) * n + _blocks.ranks(known, value)
        return np.where(place < 0, -1, whole)

    pairs, _ = _blocks.distinct(
        mapped(pair, binned.index, observation, dtype=integers(binned.size * n))
    )
    bins, number = np.divmod(pairs[pairs >= 0].astype(np.intp), n)
    n_visited = np.unique(bins).size
    if n_visited < bins.size:
        raise ValueError(
            "null='within_observation' needs one observation per place of a map, got "
            f"{bins.size} pairs for {n_visited} places; label the maps of a recording with several "
            "by the coordinate 'map', use null='circular', or drop the observation with "
            "recording.drop_vars('observation')"
        )
    observation_of: NDArray[np.intp] = np.full(binned.size, -1, np.intp)
    observation_of[bins] = number
    return observation_of


@dataclass(frozen=True)
class Axis:
    """One axis of behaviour: its name, the edges of its bins, units and long name."""

    name: str
    edges: NDArray[np.float64]
    attrs: Mapping[str, Any]
    period: float | None = None
    """Period of a circular axis, which the edges span; ``None``: the axis has two ends."""

    @property
    def n(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the bins."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    def index(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """Bin of every value; -1 outside the edges and for NaN. The last bin is closed.

        On a circular axis every value has a bin.
        """
        if values.dtype.kind in "iu" and values.size:
            low, high = int(values.min()), int(values.max())
            if high - low < values.size:  # look up every whole number once
                bins = self._search(np.arange(low, high + 1))
                wide = np.uint64 if values.dtype == np.uint64 else np.int64  # holds low and high
                return bins[np.subtract(values, wide(low), dtype=wide).astype(np.intp)]
        return self._search(values)

    def _search(self, values: NDArray[Any]) -> NDArray[np.intp]:
        if self.period is not None:
            values = np.clip(
                _circular.wrap(values, self.edges[0], self.period), None, self.edges[-1]
            )
        bins = np.searchsorted(self.edges, values, side="right") - 1
        bins[values == self.edges[-1]] = self.n - 1
        bins[bins == self.n] = -1  # above the edges, or NaN
        return bins

    def coords(self) -> dict[str, xr.Variable]:
        """Bin centres on the dimension of the axis, edges on a separate dimension."""
        edges = self.name + schema.EDGES_SUFFIX
        return {
            self.name: xr.Variable(self.name, self.centres, dict(self.attrs)),
            edges: xr.Variable(edges, self.edges, _edge_attrs(self.attrs)),
        }


@dataclass(frozen=True)
class Grid:
    """Bins over one or more behavioural axes, numbered with the last axis fastest."""

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

    @property
    def periods(self) -> dict[str, float]:
        """Period of every circular axis."""
        return {axis.name: axis.period for axis in self.axes if axis.period is not None}

    def index(self, recording: xr.Dataset) -> Any:
        """Bin of every sample (walk, time); -1 where any position is NaN or outside.

        The integer type is the smallest that fits; dask where the activations are dask.
        """
        values = (samples(recording, axis.name) for axis in self.axes)
        return mapped(self.bins, *values, dtype=integers(self.size))

    def bins(self, *values: NDArray[Any]) -> NDArray[np.intp]:
        """Bins of the values on every axis."""
        bins = self.axes[0].index(values[0])
        outside = bins < 0
        for axis, coordinate in zip(self.axes[1:], values[1:], strict=True):
            along_axis = axis.index(coordinate)
            outside |= along_axis < 0
            bins *= axis.n
            bins += along_axis
        bins[outside] = -1
        return bins

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
        ``None``: one bin per whole number, from the minimum to the maximum (for ``x`` and ``y`` of
        a recording that states the size of its world: all its places). A number: that many equal
        bins from the minimum to the maximum. Edges: ascending; the last bin includes its right
        edge. A mapping from names to any of these, or a sequence with one entry per name. RateMaps:
        the edges of those maps, and their periods. On a circular axis the bins span one period,
        which starts at 0 unless edges are given.

    Raises
    ------
    ValueError
        ``bins`` is None and values are not whole numbers, edges do not ascend, names do not exist,
        a period does not fit, the bins of RateMaps are in other units of measure, or there are more
        than ten million bins.
    """
    names = axis_names(by)
    bins_by_name = _bins_by_name(bins, names)
    periods: dict[str, float | None] = dict(_circular.circular_of(recording))
    if isinstance(bins, xr.Dataset):
        check_same_measures(recording, bins, ("recording", "bins"), names)
        of_bins = zip(schema.place_dims(bins), _circular.axis_periods(bins), strict=True)
        periods = {**dict(of_bins), **periods}
    bins_of_place = Grid(
        tuple(_axis(recording, name, bins_by_name[name], periods.get(name)) for name in names)
    )
    if bins_of_place.size > MAX_BINS:
        raise ValueError(
            f"bins make a grid of {bins_of_place.shape} = {bins_of_place.size:,} places, more than "
            f"{MAX_BINS:,}; pass fewer or wider bins"
        )
    return bins_of_place


def axis_names(by: Sequence[str]) -> tuple[str, ...]:
    """Names of the axes; a single name may be passed without a list."""
    names = (by,) if isinstance(by, str) else tuple(by) if isinstance(by, Iterable) else ()
    texts = all(isinstance(name, str) for name in names)
    if not names or not texts or len(set(names)) < len(names):
        raise ValueError(f"by must name at least one coordinate, each once, got {by!r}")
    reserved = {*schema.RECORDING_DIMS, schema.MAP, schema.ACTIVATION} & set(names)
    if reserved:
        raise ValueError(
            f"by must not name {sorted(reserved)}, which are the activations, or dimensions of the "
            "result or the recording; use per_map=True for maps, or rename the coordinate"
        )
    return names


def axis_name(by: str | Sequence[str]) -> str:
    """Name of the one axis of a track."""
    names = axis_names(by)
    if len(names) > 1:
        raise ValueError(f"by must name one position, along a track, got {by!r}")
    return names[0]


def _bins_by_name(bins: Bins, names: tuple[str, ...]) -> dict[str, Any]:
    """The specification of the bins for every name."""
    if isinstance(bins, xr.Dataset):
        return _edges_of(bins, names)
    if isinstance(bins, Mapping):
        unknown = set(bins) - set(names)
        if unknown:
            raise ValueError(f"bins must map names in by={names} to bins, got {sorted(unknown)}")
        return {name: bins.get(name) for name in names}
    if bins is None or np.ndim(_first_level(bins)) == 0:
        return dict.fromkeys(names, bins)
    listed = list(bins)  # type: ignore[arg-type]
    if len(names) == 1 and all(np.ndim(item) == 0 for item in listed):
        return {names[0]: listed}
    if len(listed) != len(names):
        raise ValueError(
            f"bins must hold one entry for each of by={names}, got {len(listed)}; pass a "
            "mapping such as {'x': edges, 'y': edges}"
        )
    return dict(zip(names, listed, strict=True))


def _edges_of(maps: xr.Dataset, names: tuple[str, ...]) -> dict[str, Any]:
    """The edges that RateMaps carry."""
    missing = [name for name in names if name + schema.EDGES_SUFFIX not in maps.variables]
    if missing:
        edges = sorted(str(v) for v in maps.variables if str(v).endswith(schema.EDGES_SUFFIX))
        raise ValueError(
            f"bins must be rate maps with the edges of {missing}, got the edges {edges}; make "
            f"those maps with by={names}"
        )
    return {name: schema.edges_of(maps, name) for name in names}


def _first_level(bins: Any) -> Any:
    return bins if np.isscalar(bins) or getattr(bins, "ndim", 1) == 0 else np.empty(len(bins))


def _axis(recording: xr.Dataset, name: str, bins: Any, period: float | None) -> Axis:
    if name not in recording.variables:
        raise ValueError(
            f"by names {name!r}, which the recording lacks; it has "
            f"{sorted(map(str, recording.variables))}"
        )
    if recording[name].dtype.kind not in "biuf":
        raise ValueError(
            f"by must name numbers, got {name!r} of dtype {recording[name].dtype}; number its "
            "values, for example with np.unique(values, return_inverse=True)"
        )
    given, side = bins is not None and np.ndim(bins) == 1, _side(recording, name)
    attrs = {"units": "1", "long_name": name, **_text_attrs(recording[name].attrs)}
    values = samples(recording, name)
    if given:
        edges = checked_edges(name, bins)
    if period is None:
        if not given:
            edges = edges_of_extent(name, Extent.over(values), bins, side)
        return Axis(name, edges, attrs)
    extent = Extent.over(values)
    if extent.low <= extent.high:
        _circular.check_period(
            name, values, extent.low, extent.high, period, str(attrs["units"]), partly=given
        )
    if given:
        _circular.check_edges(name, edges, period)
    else:
        edges = _edges_of_period(name, extent, bins, period, side)
    return Axis(name, edges, attrs, period)


def _edges_of_period(
    name: str, extent: Extent, bins: Any, period: float, side: int | None
) -> NDArray[np.float64]:
    """Edges of a circular axis: whole numbers without ``bins``, else equal bins that start at 0."""
    if bins is not None:
        return _equal(name, Extent(0.0, period, None), bins)
    if period % 1 or (side is not None and period != side):
        raise ValueError(
            f"bins=None needs a period of {name!r} that is a whole number"
            f"{'' if side is None else f', the side of the recording {side}'}, got {period:g}; "
            f"pass bins, e.g. bins=24"
        )
    return _whole(name, Extent(0, int(period) - 1, extent.broken), None)


def _side(recording: xr.Dataset, name: str) -> int | None:
    """Number of places along an axis of the world, from the attributes or the provenance."""
    if name not in ("x", "y"):
        return None
    known = schema.read_provenance(recording)
    nested = [value for value in known.values() if isinstance(value, dict)]
    for place in (recording.attrs, known, *nested):
        shape = schema.world_shape(place)
        if shape is not None:
            return shape[name == "x"]
    return None


def _text_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes that the contract allows: text and numbers."""
    return {str(k): v for k, v in attrs.items() if isinstance(v, str | int | float)}


def _edge_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {**attrs, "long_name": f"bin edges of {attrs['long_name']}"}


@dataclass(frozen=True)
class Extent:
    """Minimum and maximum of a coordinate, and a value that is not whole, if there is one."""

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
        # As numbers of Python, since differences of small integers of NumPy may overflow.
        low, high = (values.min().item(), values.max().item()) if values.size else (np.inf, -np.inf)
        return cls(low, high, broken[0] if broken.size else None)

    def __add__(self, other: Extent) -> Extent:
        broken = other.broken if self.broken is None else self.broken
        return Extent(min(self.low, other.low), max(self.high, other.high), broken)


def checked_edges(name: str, bins: Any) -> NDArray[np.float64]:
    """Explicit edges as an array; they must be finite and ascending."""
    try:
        edges = np.asarray(bins, dtype=np.float64)
    except (TypeError, ValueError):  # text
        edges = np.empty(0)
    if len(edges) < 2 or not np.all(np.diff(edges) > 0) or not np.all(np.isfinite(edges)):
        raise ValueError(
            f"bins of {name!r} must be at least two finite ascending edges, got {bins!r}; "
            "for a number of equal bins pass an int"
        )
    return edges


def edges_of_extent(name: str, extent: Extent, bins: Any, side: int | None) -> NDArray[np.float64]:
    """Edges from the extent of the values: whole numbers without ``bins``, else equal bins."""
    if extent.low > extent.high:
        raise ValueError(f"{name!r} holds no finite value; pass explicit edges as bins")
    return _whole(name, extent, side) if bins is None else _equal(name, extent, bins)


def _whole(name: str, extent: Extent, side: int | None) -> NDArray[np.float64]:
    """Edges halfway between whole numbers."""
    if extent.broken is not None:
        raise ValueError(
            f"bins=None needs whole numbers, but {name!r} holds {extent.broken}; "
            f"pass bins, e.g. bins=20 or bins={{{name!r}: edges}}"
        )
    low, high = int(extent.low), int(extent.high)
    if side is not None:
        if low < 0 or high >= side:
            raise ValueError(
                f"{name!r} must lie in 0..{side - 1} for a world of {side} places along it, got "
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
            f"bins of {name!r} must be None, a number of bins >= 1 or edges, got {bins!r}"
        )
    low, high = float(extent.low), float(extent.high)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, int(bins) + 1, dtype=np.float64)


def samples(recording: xr.Dataset, name: str) -> Any:
    """Values of a behavioural variable, shape (walk, time).

    Dask in the chunks of the activations where these are dask, else NumPy; missing dimensions are
    broadcast.
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
    """Chunks of the activations along walk and time; ``None`` for NumPy."""
    if schema.ACTIVATION not in recording.variables:
        return None
    chunks = recording.variables[schema.ACTIVATION].chunksizes
    return tuple(chunks[d] for d in schema.STEP_DIMS) if chunks else None


def activations(recording: xr.Dataset) -> Any:
    """Activations as an array (walk, time, unit), NumPy or dask, without a copy."""
    return recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).data


def picked(values: Any, where: tuple[NDArray[np.intp], ...]) -> NDArray[Any]:
    """Activations (sample, unit) at given walks and times of an array (walk, time, unit)."""
    return np.asarray((values.vindex if hasattr(values, "dask") else values)[where])


def unit_sums(
    recording: xr.Dataset,
    index: Any,
    size: int,
    *,
    skipna: bool,
    weights: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Weighted sums of every unit's activation over the samples of every bin.

    Returns
    -------
    sums, finite
        Arrays (bin, unit). ``finite`` is the total weight of the samples in each sum; it is
        ``None`` without ``skipna``, because every sample of a bin then counts.

    Raises
    ------
    ValueError
        A sum is not finite, or the sums do not fit into the memory of the machine.
    """
    values = activations(recording)
    refuse_too_large(size, values.shape[2])
    if skipna:
        sums, finite = _kernels.bin_sums(
            values, [index, index], [size, size], terms=_kernels.finite, weights=weights
        )
        return sums, finite
    (sums,) = _kernels.bin_sums(values, [index], [size], weights=weights)
    refuse_not_finite(recording, sums, index)
    return sums, None


def refuse_too_large(n_places: int, n_units: int, n_arrays: int = 4) -> None:
    """Raise if float64 arrays (place, unit) do not fit into the memory of the machine.

    Parameters
    ----------
    n_places, n_units
        Shape of an array.
    n_arrays
        Number of such arrays that an analysis holds at once: sums, counts, rates and a copy.

    Raises
    ------
    ValueError
        The arrays together are larger than the physical memory.
    """
    need, there = 8 * n_places * n_units * n_arrays, memory()
    if need > there:
        raise ValueError(
            f"bins make {n_places:,} places, which for {n_units:,} units take "
            f"{need / 1e9:,.1f} GB, but the machine has {there / 1e9:,.1f} GB; pass fewer or wider "
            "bins, or analyse the units in parts, such as recording.isel(unit=slice(0, 100))"
        )


def memory() -> float:
    """Physical memory in bytes; infinite where the system does not report it."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return float("inf")


def refuse_not_finite(recording: xr.Dataset, sums: NDArray[np.float64], index: Any) -> None:
    """Raise an error that names the units whose sums (bin, unit) are not finite."""
    units = np.flatnonzero(~np.isfinite(sums).all(axis=0))
    if not units.size:
        return
    bad = np.zeros(sums.shape[1], int)
    inside = np.asarray(index >= 0)[..., None]
    for unit in units:  # few units, and only before an error
        values = np.asarray(activations(recording)[:, :, unit : unit + 1])
        bad[unit] = max(1, np.sum(~np.isfinite(values) & inside))  # 1: a sum may overflow
    schema.check_finite(recording[schema.ACTIVATION], bad)
