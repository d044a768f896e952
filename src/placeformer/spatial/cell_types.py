"""Tests for spatial cell types: grid, border, head-direction and speed cells, and place cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.spatial.binning import BinnedRecording
from placeformer.spatial.border_score import border_score
from placeformer.spatial.grid_score import grid_score
from placeformer.spatial.head_direction import HEADING, heading_columns, heading_of
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.rate_maps import flatten, per_unit
from placeformer.spatial.shuffle_test import compare_with_shuffles
from placeformer.spatial.speed_score import SPEED, speed_columns, speed_varies

LEAST_SCORE = 0.2
"""Grid or border score up to which a unit is not tested, because noise can score as high."""


OPTIONS: dict[str, dict[str, Any]] = {"grid_score": {}, "border_score": {"negatives": "shift"}}
"""Options of the scores. A rectified map of a shuffle may have no positive rate, hence no score."""


def scores_of_maps(maps: xr.Dataset) -> dict[str, xr.DataArray]:
    """Grid and border score of every unit."""
    return {
        "grid_score": _score(grid_score, maps, **OPTIONS["grid_score"]),
        "border_score": _score(border_score, maps, **OPTIONS["border_score"]),
    }


def _score(score: Callable[..., xr.DataArray], maps: xr.Dataset, **options: Any) -> xr.DataArray:
    """A score of two-dimensional maps; NaN, with the reason, for maps without such a score."""
    try:
        return score(maps, **options)
    except ValueError as error:
        rate, _ = flatten(maps)
        text = f"undefined: {error}"
        undefined = np.full(rate.shape[:-1], np.nan)
        return per_unit(maps, undefined, score.__name__, units="1", long_name=text)


def cell_type_columns(
    binned: BinnedRecording,
    table: xr.Dataset,
    tests: Mapping[str, Any],
    *,
    max_q: float,
    negatives: Negatives,
    of_maps: Mapping[str, Any],
) -> dict[str, xr.DataArray]:
    """Tests of the scores in a table of place cells, and the type of every unit.

    Parameters
    ----------
    binned
        The recording.
    table
        Table of place cells (unit,) or (map, unit), with both scores and the decision.
    tests
        Options of :func:`compare_with_shuffles`, including the null.
    max_q
        Maximum q for a unit to be of a type.
    negatives
        Policy for negative rates in the mean vector.
    of_maps
        Options of the maps.
    """
    tuned = table["q_place"].values <= max_q
    columns: dict[str, xr.DataArray] = {}
    passed: dict[str, NDArray[np.bool_]] = {}
    for name, own in OPTIONS.items():
        candidates = tuned & (table[name].values > LEAST_SCORE)
        p, q = _tested(binned, name, candidates, tests, max_q, {**own, **of_maps})
        known = np.isfinite(table[name].values)
        for kind, values in (("p", p), ("q", q)):
            score = name.replace("_", " ")
            text = f"{kind} of the {score}: 1 without tuning to place or with a low score"
            columns[f"{kind}_{name}"] = _like(table, np.where(known, values, np.nan), text)
        passed[name] = q <= max_q
    is_place_cell = table["is_place_cell"].values
    kinds = {
        "grid cell": passed["grid_score"],
        "border cell": passed["border_score"],
        "place cell": is_place_cell,
    }
    # The variance of slow activations that is explained by chance grows with the number of bins,
    # and place has the most bins. The chance level is therefore removed before the comparison.
    explained = table["eta2_corrected"].fillna(0).values
    heading = heading_of(binned.recording)
    if heading is not None and np.isfinite(binned.recording[heading]).any():
        found, by_heading = heading_columns(binned, tests, max_q, negatives)
        columns |= {name: _over(table, column) for name, column in found.items()}
        stronger = by_heading > explained
        turned = (columns[f"q_{HEADING}"].values <= max_q) & stronger
        kinds = {"head-direction cell": turned, **kinds}
    if SPEED in binned.recording.variables and speed_varies(binned.recording[SPEED].values):
        found, by_speed = speed_columns(binned, tests, max_q)
        columns |= {name: _over(table, column) for name, column in found.items()}
        stronger = by_speed > explained
        kinds["speed cell"] = (columns["q_speed_score"].values <= max_q) & stronger
    types = np.select(list(kinds.values()), list(kinds), "other")
    columns["cell_type"] = _like(table, types, "spatial type of the unit, the first that it passes")
    return columns


def _tested(
    binned: BinnedRecording,
    statistic: str,
    candidates: NDArray[np.bool_],
    tests: Mapping[str, Any],
    max_q: float,
    options: Mapping[str, Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P and q (..., unit) of a score; 1 for units that are not a candidate on any map."""
    p, q = np.ones(candidates.shape), np.ones(candidates.shape)
    units = np.flatnonzero(candidates.any(axis=tuple(range(candidates.ndim - 1))))
    if units.size:
        # The other units count as tests with p = 1, which raises q by the ratio of the numbers.
        share = units.size / candidates.shape[-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # already given for the maps of the data
            test = compare_with_shuffles(
                binned.of_units(units), statistic, **{**tests, "max_q": max_q * share}, **options
            )
        p[..., units] = test["p"].values
        q[..., units] = np.minimum(test["q"].values / share, 1.0)
    return p, q


def _over(table: xr.Dataset, column: xr.DataArray) -> xr.DataArray:
    """A column (unit,) with the dimensions of a table of place cells."""
    values = np.broadcast_to(column.values, table["q_place"].shape)
    return _like(table, values, str(column.attrs["long_name"])).assign_attrs(column.attrs)


def _like(table: xr.Dataset, values: NDArray[Any], text: str) -> xr.DataArray:
    """Values with the dimensions of a table of place cells."""
    dims = table["q_place"].dims
    coords = {k: v for k, v in table.coords.items() if set(v.dims) <= {*dims, schema.UNIT}}
    return xr.DataArray(values, coords, dims, attrs={"units": "1", "long_name": text})
