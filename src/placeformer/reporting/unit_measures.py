"""Maps, measures and tests of every unit of a Recording, as the report shows them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from placeformer.data import circular, schema
from placeformer.data.dwell import dwell_of
from placeformer.data.unit_identity import is_per_second
from placeformer.population.decoding import decode_position
from placeformer.reporting.measurements import Settings
from placeformer.spatial.binning import BinnedRecording, grid
from placeformer.spatial.measures import coherence, spatial_information
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.place_cell_score import place_cell_score
from placeformer.spatial.place_cells import check_control, memory_columns, place_cells
from placeformer.spatial.place_fields import place_fields
from placeformer.spatial.rate_maps import Smooth, per_unit, rate_maps

POLICIES: tuple[Negatives, ...] = ("rectify", "shift")
"""Policies for negative rates, for measures that need non-negative rates."""

WIDEST_GRID = 40
"""Maximum number of whole numbers on an axis for one bin per number."""

DEFAULT_BINS = {1: 40, 2: 20}
"""Number of bins on each axis of a track and of an arena."""

ANIMAL_SMOOTHING = 1.5
"""Standard deviation, in bins, of the Gaussian that smooths the maps of a timed recording."""

BLOCKS = 10
"""Number of blocks of time into which a single walk is cut for decoding."""

WINDOW = 0.25
"""Duration in seconds from which each position of a timed recording is decoded, because single
samples hold only a few spikes."""

REMEMBERED = ("p_memory", "q_memory", "depends_on_memory")
"""Columns that compare a recording with its control."""


@dataclass(frozen=True)
class MapOptions:
    """Axes, bins and smoothing of the maps of a Recording."""

    by: tuple[str, ...]
    bins: Mapping[str, Any]
    smooth: Smooth
    min_occupancy: float | None

    @classmethod
    def of(cls, recording: xr.Dataset, settings: Settings) -> MapOptions:
        """The given options, with defaults that suit the recording.

        Raises
        ------
        ValueError
            The recording breaks the contract, or has no position on one or two axes.
        """
        schema.check_recording(recording)
        by = (settings.by,) if isinstance(settings.by, str) else settings.by
        if by is None:
            by = [name for name in ("y", "x") if name in recording.variables]
        if len(by) not in DEFAULT_BINS:
            raise ValueError(
                f"by must name one or two axes of place, which the page can draw, got {tuple(by)}; "
                "a recording without x and y needs by=('heading',), for example"
            )
        schema.check_recording(recording, need=by)
        bins = settings.bins
        if bins is None and not _is_small_grid(recording, by):
            bins = DEFAULT_BINS[len(by)]
        edges = {axis.name: axis.edges for axis in grid(recording, by, bins).axes}
        timed = dwell_of(recording) is not None
        smooth = settings.smooth
        if smooth is None and timed:
            smooth = ANIMAL_SMOOTHING
        return cls(tuple(edges), edges, smooth or None, settings.min_occupancy)

    @property
    def axes(self) -> dict[str, Any]:
        """Arguments ``by`` and ``bins``."""
        return {"by": self.by, "bins": self.bins}

    @property
    def every(self) -> dict[str, Any]:
        """All options as arguments."""
        return self.axes | {"smooth": self.smooth, "min_occupancy": self.min_occupancy}


def _is_small_grid(recording: xr.Dataset, by: Sequence[str]) -> bool:
    """Whether places are whole numbers, few enough for one bin each."""
    try:
        shape = grid(recording, by).shape
    except ValueError:
        return False
    return max(shape) <= WIDEST_GRID


@dataclass(frozen=True)
class Part:
    """Maps and measures of one Recording of a subject, or of its control."""

    recording: xr.Dataset
    rate_maps: xr.Dataset
    units: xr.Dataset


def measure_units(
    recording: xr.Dataset,
    options: MapOptions,
    settings: Settings,
    *,
    cell_types: bool,
    progress: bool,
) -> Part:
    """Map, measure and test every unit on every map of a Recording.

    Warnings of the tests are stored in ``attrs["caveats"]``, which the page shows.
    """
    per_map = n_maps(recording) > 1
    maps = rate_maps(recording, **options.every, per_map=per_map)
    label = place_fields(maps)["label"].astype(np.int16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        table = place_cells(
            recording,
            **options.every,
            per_map=per_map,
            n_shuffles=settings.n_shuffles,
            seed=settings.seed,
            cell_types=cell_types,
            keep_null=True,
            progress=progress,
        )
    table = table.drop_vars(["spatial_information", "place_cell_score"])
    table = table.assign(measures_of_maps(maps)).assign_attrs(caveats=joined_warnings(caught))
    return Part(recording, maps.assign(field_label=label), table)


def n_maps(recording: xr.Dataset) -> int:
    """Number of maps of a Recording; 1 if it has no coordinate ``map``."""
    return schema.map_numbers(recording)[0].size if schema.MAP in recording.variables else 1


def map_names(recording: xr.Dataset, control: bool = False) -> list[str]:
    """Name of every map of a Recording, or of its control."""
    whose = "control" if control else "recording"
    if n_maps(recording) == 1:
        return [whose]
    names = [v if isinstance(v, str) else f"map {v}" for v in schema.map_numbers(recording)[0]]
    return [f"{whose}, {name}" if control else str(name) for name in names]


def measures_of_maps(maps: xr.Dataset) -> dict[str, xr.DataArray]:
    """Every measure of rate maps that the report shows, under both policies for negative rates.

    ``score`` is the lower of the place-cell scores under the two policies: if a map is negative at
    almost all places, rectification leaves little more than a single field.
    """
    fields = place_fields(maps)
    measures = {f"information_{p}": spatial_information(maps, negatives=p) for p in POLICIES}
    measures |= {f"score_{p}": place_cell_score(maps, negatives=p, fields=fields) for p in POLICIES}
    values = np.minimum(*(measures[f"score_{p}"].values for p in POLICIES))
    about = {"units": "1", "long_name": "place-cell score (lower of both policies)"}
    lesser = per_unit(maps, values, "place_cell_score", **about)
    return measures | {"score": lesser, "coherence": coherence(maps)}


def join_parts(
    parts: Sequence[Part], names: Sequence[str], options: MapOptions
) -> tuple[xr.Dataset, xr.Dataset]:
    """Join the rate maps and the measures of a Recording and of its control along ``map``.

    With a control, the measures have the additional columns of :func:`placeformer.place_cells`,
    which are over ``unit`` if the Recording has one map.
    """
    along = xr.Variable(schema.MAP, list(names), {"long_name": "map"})
    maps = concat([part.rate_maps for part in parts], along)
    units = concat([part.units for part in parts], along)
    caveats = [str(part.units.attrs["caveats"]) for part in parts]
    units = units.assign_attrs(caveats="\n".join(dict.fromkeys(filter(None, caveats))))
    if len(parts) == 1:
        return maps, units
    own, control = parts
    if outside := share_outside(control.recording, options):
        text = f"{100 * outside:.2g} % of the samples of the control lie outside the bins of the "
        caveats = [units.attrs["caveats"], f"{text}recording and are left out"]
        units.attrs["caveats"] = "\n".join(filter(None, caveats))
    check_control(own.recording, control.recording, options.by)
    first, second = (BinnedRecording.of(part.recording, **options.axes) for part in parts)
    columns = memory_columns(own.units, control.units, first, second, own.units.attrs["max_q"])
    remembered = {name: columns[name] for name in REMEMBERED}
    if schema.MAP in own.units.dims:  # the maps of the control have no comparison
        n = own.units.sizes[schema.MAP]
        remembered = {
            name: values.assign_coords({schema.MAP: list(names)[:n]}).reindex(
                {schema.MAP: list(names)},
                fill_value=False if values.dtype == bool else np.nan,
            )
            for name, values in remembered.items()
        }
    return maps, units.assign(remembered)


def share_outside(recording: xr.Dataset, options: MapOptions) -> float:
    """Fraction of the samples with a place that lie outside the bins."""
    places = {name: recording[name] for name in options.by}
    known = xr.concat([place.notnull() for place in places.values()], "axis").all("axis")
    inside = [
        (place >= options.bins[name][0]) & (place <= options.bins[name][-1])
        for name, place in places.items()
    ]
    within = xr.concat(inside, "axis").all("axis")
    return float((known & ~within).sum() / max(int(known.sum()), 1))


def concat(parts: Sequence[xr.Dataset], along: xr.Variable) -> xr.Dataset:
    """Join Datasets along a dimension that some of them may already have."""
    dim = str(along.dims[0])
    wide = [part.drop_vars(dim, errors="ignore") for part in parts]
    wide = [part if dim in part.dims else part.expand_dims(dim) for part in wide]
    joined = xr.concat(
        wide, dim, data_vars="minimal", coords="minimal", compat="override", join="exact",
        combine_attrs="override",
    )  # fmt: skip
    return joined.assign_coords({dim: along})


def decode(
    recording: xr.Dataset, options: MapOptions, settings: Settings, progress: bool
) -> xr.Dataset:
    """Decode the position on the first map, trained on other walks or blocks of a single walk."""
    if n_maps(recording) > 1:
        first = schema.map_of_walk(recording) == 0
        recording = recording.isel({schema.WALK: np.flatnonzero(first)})
    whole = recording
    recording, method = in_windows(whole, options.by)
    blocks = BLOCKS if recording.sizes[schema.WALK] == 1 else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        decoded = decode_position(
            recording, method=method, **options.axes, blocks=blocks, seed=settings.seed,
            progress=progress,
        )  # fmt: skip
    window = f"{WINDOW:g} s" if dwell_of(whole) is not None else "sample"
    return decoded.assign_attrs(caveats=joined_warnings(caught), decoded_from=window)


def in_windows(recording: xr.Dataset, by: Sequence[str]) -> tuple[xr.Dataset, str]:
    """Sum a timed recording in windows of ``WINDOW`` seconds, and name a suitable decoder.

    Rates in Hz become spike counts, for a Poisson decoder; other activations and positions are
    averaged, those on circular axes as directions. Recordings that count steps are returned
    unchanged.
    """
    seconds = dwell_of(recording)
    if seconds is None:
        return recording, "bayes"
    activation = recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS)
    dwell = xr.DataArray(np.broadcast_to(seconds, activation.shape[:2]), dims=schema.STEP_DIMS)
    n = max(1, round(WINDOW / float(dwell.where(dwell > 0).median())))
    n = min(n, recording.sizes[schema.TIME])
    spikes = is_per_second(activation.attrs.get("units"))
    windows = {schema.TIME: n}
    weighted = (activation * dwell).coarsen(windows, boundary="trim").reduce(np.sum)
    total = dwell.coarsen(windows, boundary="trim").reduce(np.sum)
    values = weighted if spikes else weighted / total.where(total > 0)
    periods = {k: v for k, v in circular.circular_of(recording).items() if k in by}
    means = {k: partial(circular.mean_direction, period=period) for k, period in periods.items()}
    places = {
        name: recording[name]
        .coarsen(windows, boundary="trim")
        .reduce(means.get(name, np.mean))
        .variable
        for name in by
    }
    coords = {name: places[name] for name in by} | schema.unit_coords(recording)
    data = values.drop_vars(list(values.coords)).transpose(*schema.RECORDING_DIMS).astype("float32")
    result = circular.declare(xr.Dataset({schema.ACTIVATION: data}, coords=coords), periods)
    result[schema.ACTIVATION].attrs = {
        "units": "1" if spikes else activation.attrs.get("units", "1")
    }
    for name in by:
        result[name].attrs = recording[name].attrs
    return result, "poisson" if spikes else "bayes"


def joined_warnings(caught: Sequence[warnings.WarningMessage]) -> str:
    """Text of the distinct warnings, one per line."""
    return "\n".join(dict.fromkeys(str(warning.message) for warning in caught))
