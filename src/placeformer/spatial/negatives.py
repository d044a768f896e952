"""What to do with negative rates: measures made for firing rates are undefined for them.

Activations of a network are signed, and how negative they get depends on the activation
function itself, so the policy alone can make or remove a difference between networks. Every
measure that needs rates above 0 therefore names its policy and writes it into its result.
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
        ``"rectify"``: negative rates become 0. ``"shift"``: the least valid rate of the map is
        subtracted, so that it becomes 0 (a map that is flat but for rounding becomes 0
        throughout). ``"raise"``: refuse negative rates.
    units
        Carries the coordinates of the units, for the error.

    Returns
    -------
    numpy.ndarray
        Rates of at least 0, and 0 in bins that are not valid.

    Raises
    ------
    ValueError
        An unknown policy, or negative rates under ``"raise"``, with the units named.
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
    """The attribute in which a result states its policy."""
    return {"negatives": negatives}


def _shift(rate: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    least = np.where(valid, rate, np.inf).min(axis=-1, keepdims=True)
    least = np.where(np.isfinite(least), least, 0.0)
    shifted = np.where(valid, rate - least, 0.0)
    size = np.abs(rate).max(axis=-1, keepdims=True)
    return np.where(shifted.max(axis=-1, keepdims=True) <= FLAT * size, 0.0, shifted)
