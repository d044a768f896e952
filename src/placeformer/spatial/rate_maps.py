"""Rate maps: the mean activation of every unit at every place, and the occupancy of the place."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from placeformer._options import check_number, check_option
from placeformer.data import schema
from placeformer.data.blocks import Numbers
from placeformer.data.circular import CIRCULAR, as_text
from placeformer.spatial.binning import BinnedRecording, Bins, Circular, Grid, of_part, unit_sums
from placeformer.spatial.movement import DIRECTION, DIRECTIONS, direction_numbers

Smooth = float | Sequence[float] | Mapping[str, float] | None

RUNNING = xr.Variable(DIRECTION, list(DIRECTIONS), {"units": "1", "long_name": "running direction"})
"""Coordinate of results for the two directions of running."""

ROUNDED_DOWN = 1 - 1e-9
"""Tolerance for rounding in sums of seconds: ten times 0.1 s counts as 1 s."""

SECONDS_PER_SAMPLE = "seconds_per_sample"
"""Attribute of maps of timed recordings: converts samples to seconds."""

OCCUPANCY_ATTRS = {
    False: schema.OCCUPANCY_ENTRY.attrs,
    True: {"units": "s", "long_name": "time per place"},
}
"""Attributes of the occupancy by whether the recording is timed."""


def rate_maps(
    recording: xr.Dataset,
    *,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    per_map: bool = False,
    skipna: bool = False,
    circular: Circular = None,
    split: Literal["direction"] | None = None,
    min_speed: float | None = None,
) -> xr.Dataset:
    """Mean activation of every unit at every place.

    Parameters
    ----------
    recording
        Recording: ``activation`` (walk, time, unit), NumPy or dask, and the coordinates named
        in ``by`` (walk, time).
    by
        Names of the coordinates that are the axes of the map, slowest first: one, two or more.
    bins
        ``None`` for a grid of whole numbers (one bin each, from the minimum to the maximum,
        or all places of its world, where the recording states their number); a number of equal
        bins; ascending edges, the last bin closed; a mapping or a sequence with one of these for
        each axis; or other RateMaps, whose edges are used.
    smooth
        Standard deviation of a Gaussian in bins, one number or one for each axis. Sums and
        occupancy are smoothed separately and then divided, so that a constant map stays constant up
        to the borders; unvisited places contribute nothing and stay NaN. Smoothing is not advised
        on grids as small as 11 x 11.
    min_occupancy
        Minimum occupancy of a place, in seconds for a timed recording, otherwise in samples; below
        it the rate is NaN. By default any occupancy is enough. With ``skipna`` it is applied to
        every unit separately.
    per_map
        Compute one rate map for every map of the recording, on a leading dimension ``map``.
        Otherwise the samples of all maps are pooled, and the attribute ``maps_pooled`` holds the
        number of maps.
    skipna
        Leave out activations that are NaN or infinite instead of raising an error. A sample at
        which no unit has a finite activation, as after
        ``recording.where(recording.speed > 5)``, does not count in the occupancy either.
    circular
        Period of every circular variable, such as ``{"heading": 2 * np.pi}``, in its units, in
        addition to those that the recording declares (``circular`` of :func:`from_arrays`). Its
        bins span one period, which starts at 0 by default; values outside are wrapped, and
        smoothing wraps around. The maps store the period, so that analyses of the maps know that
        the last bin adjoins the first.
    split
        ``"direction"``: compute separate maps for the two directions of running along the one axis
        of ``by``, on a leading dimension ``direction`` ("forward": towards higher values, and
        "backward"). Samples without a direction are left out: see :func:`running_direction`.
    min_speed
        For ``split``: minimum speed along the axis, in its units per second (per step without a
        clock). Recordings of animals need it, because tracking noise makes a resting animal appear
        to move.

    Returns
    -------
    xarray.Dataset
        ``rate`` (unit, y, x), float64, in the units of the activations, NaN where unvisited;
        ``occupancy`` (y, x), 0 where unvisited, in seconds for a timed recording (the sum of the
        ``dwell`` of its samples), else in samples. Both have a leading ``map`` with ``per_map`` and
        a leading ``direction`` with ``split``. Coordinates: bin centres on the axes, ``y_edges``
        and ``x_edges`` on separate dimensions, and the coordinates of the units.

    Raises
    ------
    ValueError
        The recording breaks the contract, activations are not finite, an option is out of range, a
        period does not fit the values, no sample lies in the bins (unless these are RateMaps), or
        places times units exceed the memory of the machine.

    Warns
    -----
    UserWarning
        Fewer than 2 % of the samples whose position is known lie in the bins (unless these are
        RateMaps): their edges may be in other units.

    See Also
    --------
    half_maps : Rate maps of the two halves of a recording.
    laps, linearize : Laps on a track, and the position along a track.
    maps_from_arrays : Label rate maps from other sources.
    place_fields : Place fields of rate maps.
    spatial_information : Spatial information of rate maps.
    plot.rate_maps : Draw rate maps.

    Notes
    -----
    Samples whose position or ``dwell`` is NaN or whose position is outside explicit edges are left
    out; all others count. The mean over the samples of a timed recording is weighted by their
    dwell, so the firing rate is the number of spikes divided by the seconds spent at the place.
    Values are summed in blocks and accumulated in float64: the mean of float32 activations has a
    relative error of about 1e-6 for a recording of any length.

    References
    ----------
    O'Keefe, J. and Dostrovsky, J. (1971). Brain Research 34, 171-175.
    https://doi.org/10.1016/0006-8993(71)90358-1

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> maps = pf.rate_maps(recording)
    >>> maps.rate.dims, maps.rate.shape
    (('unit', 'y', 'x'), (256, 7, 7))
    >>> int(maps.occupancy.sum())
    512
    """
    binned = BinnedRecording.of(recording, by=by, bins=bins, per_map=per_map, circular=circular)
    if not isinstance(bins, xr.Dataset):  # the recording need not visit the places of other maps
        binned.check_visited()
    options: dict[str, Any] = {
        "smooth": smooth,
        "min_occupancy": least_occupancy(binned, min_occupancy),
        "skipna": skipna,
    }
    check_split(split, min_speed)
    if split is None:
        (maps,) = maps_of_parts(binned, **options)
    else:
        maps = _maps_of_directions(binned, min_speed, options)
    settings = {"by": binned.grid.names, **options, "per_map": per_map}
    settings |= {} if split is None else {"split": split, "min_speed": min_speed}
    maps.attrs[schema.PROVENANCE] = schema.provenance(recording, "rate_maps", **settings)
    return maps


def check_split(split: str | None, min_speed: float | None) -> None:
    """Raise for an unknown split, and for ``min_speed`` without a split."""
    check_option("split", split, (None, DIRECTION))
    if split is None and min_speed is not None:
        raise ValueError(
            f"min_speed is an option of split='direction', got min_speed={min_speed!r} without it; "
            "to leave out slow samples, pass min_speed to the loader of the recording"
        )


def _directions(binned: BinnedRecording, min_speed: float | None) -> NDArray[np.int8]:
    """Direction of running (walk, time) along the one axis; -1 for samples without a direction."""
    if len(binned.grid.names) != 1:
        raise ValueError(
            f"split='direction' needs one axis, got by={binned.grid.names}; pass by='x', or add "
            "a position along the track with linearize(recording, nodes, edges)"
        )
    number = direction_numbers(binned.recording, binned.grid.names[0], min_speed)
    number = np.where(np.asarray(binned.index) >= 0, number, np.int8(-1))
    if not (number >= 0).any():
        raise ValueError(
            f"min_speed={min_speed!r} leaves no sample with a direction of running; lower it"
        )
    return number


def _maps_of_directions(
    binned: BinnedRecording, min_speed: float | None, options: Mapping[str, Any]
) -> xr.Dataset:
    """RateMaps of the two directions of running, on a leading dimension ``direction``."""
    number = _directions(binned, min_speed)
    known = np.where(number >= 0, np.asarray(binned.index), -1)
    parts = maps_of_parts(replace(binned, index=known), np.maximum(number, 0), 2, **options)
    return stacked(parts, RUNNING)


def of_directions(binned: BinnedRecording, min_speed: float | None) -> list[BinnedRecording]:
    """Recordings of the two directions of running; samples of the other direction have no place."""
    number, (name,) = _directions(binned, min_speed), binned.grid.names
    for direction, there in zip(DIRECTIONS, (0, 1), strict=True):
        if not (number == there).any():
            raise ValueError(
                f"split='direction' needs samples of both directions along {name!r}, got none "
                f"{direction}; leave split out"
            )
    where = xr.DataArray(number, dims=schema.STEP_DIMS)
    place = binned.recording[name]
    return [
        replace(
            binned,
            recording=binned.recording.assign_coords({name: place.where(where == there)}),
            index=np.where(number == there, np.asarray(binned.index), -1),
        )
        for there in (0, 1)
    ]


def stacked(parts: Sequence[xr.Dataset], coordinate: xr.Variable) -> xr.Dataset:
    """Stack the results of parts of a recording on a leading dimension."""
    (dim,) = coordinate.dims
    together = xr.concat(
        parts, dim, data_vars="all", coords="minimal", compat="override", join="override",
        combine_attrs="override",
    )  # fmt: skip
    return together.assign_coords({dim: coordinate})


def maps_of_parts(
    binned: BinnedRecording,
    part: Numbers | None = None,
    n: int = 1,
    *,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    skipna: bool = False,
) -> list[xr.Dataset]:
    """RateMaps of n parts of a recording on the same bins, in one read.

    ``part`` holds the part of every sample, shape (walk, 1), (1, time) or (walk, time); ``None``:
    all samples are in one part. The options are those of :func:`rate_maps`.
    """
    check_options(binned, min_occupancy, smooth)
    binned = binned.observed() if skipna else binned
    index = binned.index if part is None else of_part(binned.index, part, binned.size, n)
    size = n * binned.size
    sums, finite = unit_sums(binned.recording, index, size, skipna=skipna, weights=binned.weights)
    counts = binned.totals(index, size)
    finite_parts = [None] * n if finite is None else np.split(finite, n)
    parts = zip(np.split(sums, n), np.split(counts, n), finite_parts, strict=True)
    return [assemble(binned, s, c, f, min_occupancy, smooth) for s, c, f in parts]


def assemble(
    binned: BinnedRecording,
    sums: NDArray[np.float64],
    counts: NDArray[Any],
    finite: NDArray[np.float64] | None = None,
    min_occupancy: float | None = None,
    smooth: Smooth = None,
) -> xr.Dataset:
    """Label sums (bin, unit) and the total weight of the samples (bin,) as RateMaps."""
    per_unit = counts[:, None].astype(float) if finite is None else finite
    rate = mean_rates(binned, sums, per_unit, min_occupancy, smooth)
    unit_last = rate.reshape(*binned.shape, -1)
    lead = () if binned.maps is None else (schema.MAP,)
    dims = (*lead, schema.UNIT, *binned.grid.names)
    recording = binned.recording
    schema.refuse_names(recording, (schema.RATE, schema.OCCUPANCY, *binned.grid.coords()))
    maps = xr.Dataset(
        {
            schema.RATE: (dims, np.moveaxis(unit_last, -1, len(lead)), _rate_attrs(recording)),
            schema.OCCUPANCY: (
                binned.dims,
                occupancy(binned, counts).reshape(binned.shape),
                OCCUPANCY_ATTRS[binned.unit_of_time is not None],
            ),
        },
        coords={
            **binned.grid.coords(),
            **schema.unit_coords(recording),
            **_map_coords(binned),
        },
        attrs=_attrs(binned, least_occupancy(binned, min_occupancy), smooth),
    )
    maps[schema.RATE].data = np.ascontiguousarray(maps[schema.RATE].data)
    return maps


def occupancy(binned: BinnedRecording, counts: NDArray[Any]) -> NDArray[Any]:
    """Occupancy from the weights of samples: seconds, or samples if the recording counts steps."""
    return counts if binned.unit_of_time is None else counts * binned.unit_of_time


def least_occupancy(binned: BinnedRecording, min_occupancy: float | None) -> float:
    """Minimum occupancy of a place that counts, in seconds or samples."""
    timed = binned.unit_of_time is not None
    if min_occupancy is None:
        return 0.0 if timed else 1
    check_number("min_occupancy", min_occupancy)
    if not (np.isfinite(min_occupancy) and min_occupancy >= (0 if timed else 1)):
        unit = "0 s of a timed recording" if timed else "1 sample"
        raise ValueError(f"min_occupancy must be at least {unit}, got {min_occupancy}")
    return min_occupancy


def flatten(maps: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates and the fraction of time p in the valid bins of each unit, both (..., unit, bin).

    A bin is valid where its rate is finite and its occupancy is above 0; p is 0 elsewhere and sums
    to 1. NaN occupancy counts as 0. Both arrays may be views: do not write into them.

    Raises
    ------
    ValueError
        An occupancy is negative or infinite.
    """
    space = schema.place_dims(maps)
    lead = tuple(d for d in maps[schema.RATE].dims if d not in (schema.UNIT, *space))
    rate = maps[schema.RATE].transpose(*lead, schema.UNIT, *space).values
    occupancy = maps[schema.OCCUPANCY]
    _check_occupancy(occupancy)
    missing = {d: maps.sizes[d] for d in lead if d not in occupancy.dims}
    time = occupancy.expand_dims(missing).transpose(*lead, *space).values
    rate = rate.reshape(*rate.shape[: len(lead) + 1], -1).astype(float, copy=False)
    time = time.reshape(*time.shape[: len(lead)], 1, -1)
    finite = np.isfinite(rate)
    if (finite == finite[..., :1, :]).all():
        finite = finite[..., :1, :]  # the usual case: the same places for all units
    weight = np.where(finite, np.nan_to_num(time), 0.0)
    total = weight.sum(-1, keepdims=True)
    share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    return rate, np.broadcast_to(share, rate.shape)


def per_unit(maps: xr.Dataset, values: NDArray[Any], name: str, **attrs: Any) -> xr.DataArray:
    """Label one value for every map and unit, shape (..., unit), with the maps' coordinates."""
    space = schema.place_dims(maps)
    rate = maps[schema.RATE]
    dims = (*(d for d in rate.dims if d not in (schema.UNIT, *space)), schema.UNIT)
    coords = {k: v for k, v in rate.coords.items() if set(v.dims) <= set(dims)}
    return xr.DataArray(values, dims=dims, coords=coords, name=name, attrs=attrs)


def _check_occupancy(occupancy: xr.DataArray) -> None:
    values = np.nan_to_num(occupancy.values.astype(float), posinf=np.inf, neginf=-np.inf)
    wrong = (values < 0) | np.isinf(values)
    if wrong.any():
        raise ValueError(
            f"occupancy must be finite and at least 0 samples or seconds, got "
            f"{values[wrong][0]} in {int(wrong.sum()):,} places; set the "
            "occupancy of places that do not count to 0"
        )


def check_options(binned: BinnedRecording, min_occupancy: float | None, smooth: Smooth) -> None:
    """Raise if an option of maps is out of range."""
    least_occupancy(binned, min_occupancy)
    _sigmas(smooth, binned.grid.names)


def _sigmas(smooth: Smooth, names: tuple[str, ...]) -> tuple[float, ...] | None:
    """Standard deviation of the Gaussian on every axis, in bins."""
    if smooth is None:
        return None
    numbers = list(smooth.values()) if isinstance(smooth, Mapping) else smooth
    if np.asarray(numbers).dtype.kind not in "iuf":
        raise ValueError(
            f"smooth must be a number of bins, one for each axis or a mapping, got {smooth!r}"
        )
    if isinstance(smooth, Mapping):
        unknown = set(smooth) - set(names)
        if unknown:
            raise ValueError(f"smooth must map names in by={names} to bins, got {sorted(unknown)}")
        sigmas = tuple(float(smooth.get(name, 0.0)) for name in names)
    else:
        given = np.atleast_1d(np.asarray(smooth, float))
        if given.size not in (1, len(names)):
            raise ValueError(f"smooth must be one number or {len(names)}, got {smooth!r}")
        sigmas = tuple(float(s) for s in np.broadcast_to(given, len(names)))
    if not all(np.isfinite(s) and s >= 0 for s in sigmas):
        raise ValueError(f"smooth must be 0 or more bins, got {smooth!r}; None for no smoothing")
    return sigmas


def mean_rates(
    binned: BinnedRecording,
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    min_occupancy: float | None = None,
    smooth: Smooth = None,
) -> NDArray[np.float64]:
    """Sums over counts (bin, unit) of one or more sets of maps; NaN below minimum occupancy."""
    grid, least = binned.grid, least_occupancy(binned, min_occupancy)
    enough = counts * (binned.unit_of_time or 1) >= least * ROUNDED_DOWN
    enough &= counts > 0
    sigmas = _sigmas(smooth, grid.names)
    if sigmas is not None:
        sums, counts = _blur(sums, grid, sigmas), _blur(counts, grid, sigmas)
    out = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=out, where=np.broadcast_to(enough, sums.shape))
    return out


def _blur(
    values: NDArray[np.float64], grid: Grid, sigmas: tuple[float, ...]
) -> NDArray[np.float64]:
    """Smooth values (bin, unit) over the places of each map, with zeros beyond the borders.

    A circular axis has no border.
    """
    laid_out = values.reshape(-1, *grid.shape, values.shape[1])
    around = ["constant" if axis.period is None else "wrap" for axis in grid.axes]
    modes = ["constant", *around, "constant"]
    blurred = ndimage.gaussian_filter(laid_out, (0, *sigmas, 0), mode=modes)
    return np.asarray(blurred).reshape(values.shape)


def _rate_attrs(recording: xr.Dataset) -> dict[str, str]:
    units = recording[schema.ACTIVATION].attrs.get("units", schema.RATE_ENTRY.units)
    return {**schema.RATE_ENTRY.attrs, "units": str(units)}


def _map_coords(binned: BinnedRecording) -> dict[Hashable, xr.DataArray]:
    """Coordinates of the maps: their numbers, and whether each was trained on."""
    if binned.maps is None:
        return {}
    recording = binned.recording
    coords: dict[Hashable, xr.DataArray] = {schema.MAP: binned.maps}
    if "familiar" in recording.variables:
        _, first = np.unique(recording[schema.MAP].values, return_index=True)
        attrs = schema.RECORDING["familiar"].attrs
        values = np.asarray(recording["familiar"].values)[first]
        coords["familiar"] = xr.DataArray(values, dims=schema.MAP, attrs=attrs)
    return coords


def _attrs(binned: BinnedRecording, min_occupancy: float, smooth: Smooth) -> dict[str, Any]:
    """Attributes of the maps: text and numbers."""
    recording, sigmas = binned.recording, _sigmas(smooth, binned.grid.names)
    attrs: dict[str, Any] = {"min_occupancy": min_occupancy}
    attrs["smooth"] = "none" if sigmas is None else ", ".join(f"{s:g}" for s in sigmas) + " bins"
    if binned.grid.periods:
        attrs[CIRCULAR] = as_text(binned.grid.periods)
    if binned.maps is None and schema.MAP in recording.variables:
        attrs["maps_pooled"] = int(np.unique(recording[schema.MAP].values).size)
    attrs |= {k: recording.attrs[k] for k in schema.WORLD_SIZE if k in recording.attrs}
    if binned.unit_of_time is not None:
        # Occupancy over sample_rate is a time in seconds, also of maps that count samples.
        attrs |= {"sample_rate": 1.0, SECONDS_PER_SAMPLE: _seconds_per_sample(binned)}
    return attrs


def _seconds_per_sample(binned: BinnedRecording) -> float:
    """Mean duration in seconds of the samples that have a place."""
    if binned.weights is None:
        assert binned.unit_of_time is not None
        return binned.unit_of_time
    inside = np.asarray(binned.index) >= 0
    return float(binned.weights[inside].mean()) if inside.any() else float("nan")
