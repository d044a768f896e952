"""Policies for negative rates, for which measures of firing rates are undefined.

Activations of a network are signed, and how negative they become depends on the activation
function, so the policy alone can create or remove a difference between networks. Every
measure that needs non-negative rates therefore takes a policy and records it in its result.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.stats.tolerances import FLAT

Negatives = Literal["rectify", "shift", "raise"]

WORDS = {
    "rectify": "negative rates set to 0",
    "shift": "the least rate of each map subtracted",
    "raise": "rates are not negative",
}


def apply_negatives(
    rate: NDArray[np.float64],
    valid: NDArray[np.bool_],
    negatives: Negatives,
    units: xr.DataArray,
) -> NDArray[np.float64]:
    """Rates made non-negative under a policy.

    Parameters
    ----------
    rate
        Rates (..., unit, bin); NaN where not valid.
    valid
        Bins that count, same shape.
    negatives
        ``"rectify"``: negative rates become 0. ``"shift"``: the minimum valid rate of the map is
        subtracted (a map that is flat up to rounding becomes 0 throughout). ``"raise"``: negative
        rates raise an error.
    units
        Array with the coordinates of the units, for the error message.

    Returns
    -------
    numpy.ndarray
        Rates of at least 0, and 0 in bins that are not valid.

    Raises
    ------
    ValueError
        The policy is unknown, or rates are negative under ``"raise"``.
    """
    check_option("negatives", negatives, get_args(Negatives))
    rate = np.where(valid, rate, 0.0)
    if negatives == "rectify":
        return np.maximum(rate, 0.0, out=rate)
    if negatives == "shift":
        return _shift(rate, valid)
    below = (rate < 0).any(axis=-1)
    if below.any():
        which = np.flatnonzero(below.reshape(-1, below.shape[-1]).any(axis=0))
        raise ValueError(
            f"negatives='raise' needs rates >= 0: {which.size} units have negative rates (units "
            f"{schema.unit_names(units, which)}); pass negatives='rectify' or 'shift', or use "
            "position_variance_explained, which is made for signed activations"
        )
    return rate


def policy_attrs(negatives: Negatives) -> dict[str, str]:
    """Attribute of a result that records its policy."""
    return {"negatives": negatives}


def _shift(rate: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    least = np.where(valid, rate, np.inf).min(axis=-1, keepdims=True)
    least = np.where(np.isfinite(least), least, 0.0)
    shifted = np.where(valid, rate - least, 0.0)
    size = np.abs(rate).max(axis=-1, keepdims=True)
    return np.where(shifted.max(axis=-1, keepdims=True) <= FLAT * size, 0.0, shifted)
