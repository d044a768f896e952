"""The units of the report as compact data, from which the page makes its table and its pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.report.measurements import KINDS, NULLS, NetworkReport
from placeformer.report.numbers import DEFINITIONS

UNVISITED = 255
"""Code of a place without a rate; rates are coded 0 to 254 within the range of each unit."""

FINE = 1e-4
"""Step of the values of the shuffles, which lie between -1 and 1."""

COLUMNS = {
    "information_rectify": "information, rectified (bits/spike)",
    "information_shift": "information, shifted (bits/spike)",
    "score": "place-cell score",
    "eta2": "η²",
    "eta2_beyond": "η² beyond letter",
    "coherence": "coherence",
    "n_fields": "fields",
    "field_share": "share in fields",
    "stability": "stability",
    "reliability": "reliability",
    "q_place": "q of η²",
    "q_beyond": "q beyond letter",
    "q_within_observation": "q of coherence",
}
"""Headings of the numeric columns, in order."""

TESTS = {"eta2": "place", "eta2_beyond": "beyond", "coherence": "within_observation"}
"""Suffixes of the names of p and q of every tested measure."""


def columns() -> dict[str, str]:
    """Headings of the columns, with their definitions."""
    return {head: DEFINITIONS[key][1] for key, head in COLUMNS.items()} | {
        "place cell, reason": "whether the unit passes every criterion of placeformer.place_cells, "
        "and the first one that it fails",
        "memory": "whether the tuning of a place cell depends on memory of the trained map",
    }


def data(networks: Sequence[NetworkReport]) -> str:
    """Data of the page's script, as JSON that is safe inside HTML."""
    colors = mpl.colormaps["viridis"](np.arange(256))[:, :3] * 255
    everything = {
        "columns": COLUMNS,
        "tests": TESTS,
        "maps": KINDS,
        "unvisited": UNVISITED,
        "fine": FINE,
        "colors": packed(colors.round().astype(np.uint8)),
        "networks": [packed_network(network) for network in networks],
    }
    text = json.dumps(everything, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def packed_network(network: NetworkReport) -> dict[str, Any]:
    """Measures, maps and shuffles of one network."""
    units = network.units
    ydim, xdim = schema.place_dims(network.rate_maps)
    maps = network.rate_maps.transpose(schema.MAP, schema.UNIT, ydim, xdim, ...)
    reasons, reason = np.unique(units["reason"].values, return_inverse=True)
    alpha = network.model.config.alpha
    rates, low, high = shades(maps[schema.RATE].values)
    return {
        "name": network.name,
        "about": network.model.config.activation if alpha is None else f"α = {alpha:g}",
        "layer": units["layer"].values.tolist(),
        "index": units["index"].values.tolist(),
        "y": [maps.sizes[ydim], axis(maps, ydim)],
        "x": [maps.sizes[xdim], axis(maps, xdim)],
        "unit": schema.shown_units(maps[schema.RATE]),
        "values": {key: rounded(units[key]) for key in COLUMNS},
        "p": {key: rounded(units[f"p_{test}"]) for key, test in TESTS.items()},
        "reasons": reasons.tolist(),
        "reason": reason.reshape(units["reason"].shape).tolist(),
        "remembered": units["depends_on_memory"].values.astype(int).tolist(),
        "low": low,
        "high": high,
        "rates": packed(rates),
        "fields": packed(np.minimum(maps["field_label"].values, 255).astype(np.uint8)),
        "nulls": {key: packed(steps(units[null])) for key, null in NULLS.items()},
    }


def axis(maps: xr.Dataset, dim: str) -> str:
    """Name of an axis with its unit; a place of a grid world is a step of its grid."""
    return f"{dim} ({schema.shown_units(maps[dim], 'grid steps')})"


def shades(rate: NDArray[Any]) -> tuple[NDArray[np.uint8], list[float], list[float]]:
    """Codes of rates (map, unit, y, x) within the range of every unit, and its ends."""
    axes, known = (0, 2, 3), np.isfinite(rate)
    low = np.min(rate, axis=axes, where=known, initial=np.inf)
    high = np.max(rate, axis=axes, where=known, initial=-np.inf)
    low, high = (np.where(np.isfinite(end), end, 0.0) for end in (low, high))
    span = np.where(high > low, high - low, 1.0)[:, None, None]
    share = (np.where(known, rate, 0.0) - low[:, None, None]) / span * (UNVISITED - 1)
    shade = np.where(known, share.round(), UNVISITED).astype(np.uint8)
    least, greatest = ([float(f"{value:.4g}") for value in end] for end in (low, high))
    return shade, least, greatest


def steps(values: xr.DataArray) -> NDArray[np.int16]:
    """Values of the shuffles (map, unit, shuffle) in steps of FINE; the least integer for NaN."""
    ordered = values.transpose(schema.MAP, schema.UNIT, ...).values
    kind = np.iinfo(np.int16)
    whole = np.clip(np.round(ordered / FINE), kind.min + 1, kind.max)
    return np.nan_to_num(whole, nan=kind.min).astype("<i2")


def rounded(values: xr.DataArray) -> list[list[float | None]]:
    """Values (map, unit) with four digits; None for NaN."""
    ordered = values.transpose(schema.MAP, schema.UNIT).values
    return [[float(f"{v:.4g}") if np.isfinite(v) else None for v in row] for row in ordered]


def packed(values: NDArray[Any]) -> str:
    """Bytes of an array as base64, in the order of its dimensions."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
