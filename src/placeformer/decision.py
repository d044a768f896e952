"""Whether a unit is a place cell: what decides, and the first criterion it fails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

PLACE_CELL = "place cell"
TESTED = ("circular", "beyond", "within_observation")
"""Tests of every unit, by the end of the names of their columns."""

LEAST, MOST = {"min_stability": -1}, {"min_fields": np.inf}
"""Ranges of the limits, where they are not 0 to 1."""


def check_limits(limits: Mapping[str, float]) -> None:
    """Refuse limits out of range."""
    for name, value in limits.items():
        low, high = LEAST.get(name, 0), MOST.get(name, 1)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low} and {high}, found {value}")


def decide(table: xr.Dataset, limits: Mapping[str, float]) -> dict[str, xr.DataArray]:
    """Whether each unit is a place cell, and the first criterion it fails."""
    letters = not np.isnan(table["q_beyond"]).all()
    above = {name: ~(table[f"q_{name}"].values <= limits["max_q"]) for name in TESTED}
    failed = {
        "constant": np.isnan(table["eta2"].values),
        "not tuned to place": above["circular"],
        "follows the observation": above["beyond"] & letters,
        "places scattered": above["within_observation"] & letters,
        "too few fields": table["n_fields"].values < limits["min_fields"],
        "active outside its fields": ~(table["field_share"].values >= limits["min_field_share"]),
        "unstable": ~(table["stability"].values >= limits["min_stability"]),
    }
    reason = np.select(list(failed.values()), list(failed), PLACE_CELL)
    like = table["eta2"].drop_attrs()
    columns = {
        "is_place_cell": (reason == PLACE_CELL, "unit is a place cell"),
        "reason": (reason, "first criterion failed"),
    }
    return {
        name: like.copy(data=values).assign_attrs(units="1", long_name=text)
        for name, (values, text) in columns.items()
    }
