"""The units of the report as compact data, from which the page builds its table and pictures."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.unit_identity import is_per_second
from placeformer.plot.maps import axis_edges, is_grid
from placeformer.reporting.measurements import NULLS, SubjectReport
from placeformer.reporting.numbers import DEFINITIONS
from placeformer.spatial.place_cells import PLACE_CELL

UNVISITED = 255
"""Code of a place without a rate; rates are coded 0 to 254 within the range of each unit."""

FINE = 1e-4
"""Quantisation step of the values of the shuffles, which lie between -1 and 1."""

COLUMNS = {
    "score": "score",
    "eta2": "η²",
    "n_fields": "fields",
    "stability": "stability",
    "eta2_beyond": "η² beyond letter",
    "eta2_corrected": "η² without chance",
    "coherence": "coherence",
    "field_share": "fraction in fields",
    "reliability": "reliability",
    "information_rectify": "information, rectified (bits/spike)",
    "information_shift": "information, shifted (bits/spike)",
    "mean_rate": "mean rate",
    "grid_score": "grid score",
    "border_score": "border score",
    "q_place": "q of η²",
    "q_beyond": "q beyond letter",
    "q_within_observation": "q of coherence",
}
"""Headings of the numeric columns, in order."""

FIRST = 4
"""Number of numeric columns that are shown initially."""

MOST_SHUFFLES = 6_000_000
"""Maximum number of shuffle values in the page; above it they are only in the files."""

TESTS = {"eta2": "place", "eta2_beyond": "beyond", "coherence": "within_observation"}
"""Suffixes of the names of p and q of every tested measure."""


def known_columns(subjects: Sequence[SubjectReport]) -> dict[str, str]:
    """Headings of the numeric columns that are defined for at least one unit."""
    return {k: head for k, head in COLUMNS.items() if any(one.has(k) for one in subjects)}


def columns(subjects: Sequence[SubjectReport]) -> dict[str, str]:
    """Headings of the columns, with their definitions."""
    heads = {head: DEFINITIONS[key][1] for key, head in known_columns(subjects).items()}
    heads["type"] = "the first of the tested cell types that applies, else other"
    heads["reason"] = (
        "the first criterion of placeformer.place_cells that the unit fails; a place cell passes "
        "all of them"
    )
    if any("depends_on_memory" in one.units for one in subjects):
        heads["memory"] = "whether the tuning of a place cell depends on memory of the map"
    return heads


def key_of(head: str) -> str:
    """Name of a column in conditions and files; "" for text columns."""
    return {text: key for key, text in COLUMNS.items()}.get(head, "")


def data(subjects: Sequence[SubjectReport]) -> str:
    """Data of the page's script, as JSON that is safe inside HTML."""
    colors = mpl.colormaps["viridis"](np.arange(256))[:, :3] * 255
    n = sum(one.units[null].size for one in subjects for null in NULLS.values())
    everything = {
        "columns": known_columns(subjects),
        "first": FIRST,
        "tests": {key: test for key, test in TESTS.items() if any(s.tests(key) for s in subjects)},
        "unvisited": UNVISITED,
        "fine": FINE,
        "colors": packed(colors.round().astype(np.uint8)),
        "networks": [packed_subject(subject, n <= MOST_SHUFFLES) for subject in subjects],
    }
    text = json.dumps(everything, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def packed_subject(subject: SubjectReport, with_shuffles: bool) -> dict[str, Any]:
    """Measures, maps and shuffles of one subject."""
    units = subject.units
    dims = schema.place_dims(subject.rate_maps)
    maps = subject.rate_maps.transpose(schema.MAP, schema.UNIT, *dims, ...)
    reasons, reason = np.unique(units["reason"].values, return_inverse=True)
    rates, low, high = shades(maps[schema.RATE].values)
    return {
        "name": subject.name,
        "about": subject.about,
        "maps": list(subject.maps),
        "layer": layers(subject),
        "index": indices(subject),
        "names": subject.unit_names,
        "links": subject.unit_links,
        "axes": [packed_axis(maps, dim) for dim in dims],
        "up": not on_grid(maps),
        "rate": rate_label(maps),
        "values": {key: rounded(units[key]) for key in COLUMNS if subject.has(key)},
        "p": {
            key: rounded(units[f"p_{test}"]) for key, test in TESTS.items() if subject.tests(key)
        },
        "types": types(units),
        "reasons": reasons.tolist(),
        "reason": reason.reshape(units["reason"].shape).tolist(),
        "remembered": remembered(units),
        "low": low,
        "high": high,
        "rates": packed(rates),
        "fields": packed(np.minimum(maps["field_label"].values, 255).astype(np.uint8)),
        "nulls": {
            key: packed(steps(units[null]))
            for key, null in NULLS.items()
            if with_shuffles and subject.tests(key)
        },
    }


def on_grid(maps: xr.Dataset) -> bool:
    """Whether the places of rate maps are the steps of a grid."""
    return all(is_grid(axis_edges(maps, dim)) for dim in schema.place_dims(maps))


def layers(subject: SubjectReport) -> list[str]:
    """Name of the layer of every unit."""
    if "layer" in subject.units.coords:
        return [str(layer) for layer in subject.units["layer"].values]
    return [subject.layers[0]] * subject.units.sizes[schema.UNIT]


def indices(subject: SubjectReport) -> list[str]:
    """Number of every unit within its layer, or its label, for the search."""
    if {"layer", "index"} <= set(subject.units.coords):
        return [str(index) for index in subject.units["index"].values]
    return subject.unit_links


def types(units: xr.Dataset) -> list[list[str]]:
    """Type of every unit on every map; place cell or other if no other type was tested."""
    if "cell_type" in units:
        return units["cell_type"].transpose(schema.MAP, schema.UNIT).values.astype(str).tolist()
    is_cell = units["reason"].transpose(schema.MAP, schema.UNIT).values == PLACE_CELL
    return np.where(is_cell, PLACE_CELL, "other").tolist()


def remembered(units: xr.Dataset) -> list[list[int]]:
    """Whether the tuning of every unit depends on memory, on every map."""
    like = units["reason"].transpose(schema.MAP, schema.UNIT)
    if "depends_on_memory" not in units:
        return np.zeros(like.shape, int).tolist()
    return (
        units["depends_on_memory"]
        .broadcast_like(like)
        .transpose(*like.dims)
        .values.astype(int)
        .tolist()
    )


def packed_axis(maps: xr.Dataset, dim: str) -> dict[str, Any]:
    """Number of bins of an axis, its length, its label, and the places of its ticks."""
    edges, n = axis_edges(maps, dim), maps.sizes[dim]
    which = sorted({0, (n - 1) // 2, n - 1})
    if is_grid(edges):
        ticks = [[i + 0.5, f"{maps[dim].values[i]:g}"] for i in which]
    else:
        ends = edges[0], (edges[0] + edges[-1]) / 2, edges[-1]
        digits = 2 - math.floor(math.log10(edges[-1] - edges[0]))  # three of the axis' length
        places = zip((0, n / 2, n), ends, strict=True)
        ticks = [[at, f"{round(float(end), digits) + 0:g}"] for at, end in places]
    return {"n": n, "length": float(edges[-1] - edges[0]), "label": axis(maps, dim), "ticks": ticks}


def is_plane(maps: xr.Dataset) -> bool:
    """Whether rate maps have two axes of place rather than one."""
    return len(schema.place_dims(maps)) > 1


def rate_label(maps: xr.Dataset) -> str:
    """Label of rates with their units."""
    units = schema.shown_units(maps[schema.RATE])
    return f"rate ({units})" if is_per_second(units) else f"mean activation ({units})"


def axis(maps: xr.Dataset, dim: str) -> str:
    """Name of an axis with its unit; places of a grid world are in grid steps."""
    steps = "grid steps" if is_grid(axis_edges(maps, dim)) else ""
    units = schema.shown_units(maps[dim], steps)
    return f"{dim} ({units})" if units else dim


def shades(rate: NDArray[Any]) -> tuple[NDArray[np.uint8], list[float], list[float]]:
    """Codes of rates (map, unit, place...) within the range of every unit, and the ranges."""
    axes, known = (0, *range(2, rate.ndim)), np.isfinite(rate)
    low = np.min(rate, axis=axes, where=known, initial=np.inf)
    high = np.max(rate, axis=axes, where=known, initial=-np.inf)
    low, high = (np.where(np.isfinite(end), end, 0.0) for end in (low, high))
    every = (slice(None), *(np.newaxis,) * (rate.ndim - 2))
    span = np.where(high > low, high - low, 1.0)[every]
    share = (np.where(known, rate, 0.0) - low[every]) / span * (UNVISITED - 1)
    shade = np.where(known, share.round(), UNVISITED).astype(np.uint8)
    least, greatest = ([float(f"{value:.4g}") for value in end] for end in (low, high))
    return shade, least, greatest


def steps(values: xr.DataArray) -> NDArray[np.int16]:
    """Values of shuffles (map, unit, shuffle) in steps of ``FINE``; the lowest integer for NaN."""
    ordered = values.transpose(schema.MAP, schema.UNIT, ...).values
    kind = np.iinfo(np.int16)
    whole = np.clip(np.round(ordered / FINE), kind.min + 1, kind.max)
    return np.nan_to_num(whole, nan=kind.min).astype("<i2")


def rounded(values: xr.DataArray) -> list[list[float | None]]:
    """Values (map, unit) with four significant digits; None for NaN."""
    ordered = values.transpose(schema.MAP, schema.UNIT).values
    return [[float(f"{v:.4g}") if np.isfinite(v) else None for v in row] for row in ordered]


def packed(values: NDArray[Any]) -> str:
    """Bytes of an array as base64, in the order of its dimensions."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
