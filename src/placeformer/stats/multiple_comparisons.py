"""Correction of p-values for the number of tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """False discovery rate of Benjamini and Hochberg (1995) over the last axis.

    NaN values stay NaN and do not count as tests.
    """
    q = np.full(p.shape, np.nan)
    for row in np.ndindex(p.shape[:-1]):
        known = np.isfinite(p[row])
        if known.any():
            q[row][known] = stats.false_discovery_control(p[row][known])
    return q
