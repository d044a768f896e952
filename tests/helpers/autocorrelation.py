"""The autocorrelogram from its definition, for tests of what is computed from it."""

import numpy as np
from scipy import stats

from placeformer.spatial.autocorrelogram import MIN_PAIRS


def r_at_every_lag(rate, least=MIN_PAIRS):
    """Pearson's r over the pairs of visited bins, by a loop over lags."""
    n_y, n_x = rate.shape
    out = np.full((2 * n_y - 1, 2 * n_x - 1), np.nan)
    for dy in range(-n_y + 1, n_y):
        for dx in range(-n_x + 1, n_x):
            a = rate[max(0, dy) : n_y + min(0, dy), max(0, dx) : n_x + min(0, dx)]
            b = rate[max(0, -dy) : n_y + min(0, -dy), max(0, -dx) : n_x + min(0, -dx)]
            both = np.isfinite(a) & np.isfinite(b)
            if both.sum() >= least:
                out[dy + n_y - 1, dx + n_x - 1] = stats.pearsonr(a[both], b[both]).statistic
    return out
