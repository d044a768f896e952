"""Monte Carlo tests of many units that draw no more random values than their decisions need.

A unit is compared with draws from its null distribution until ``LOSSES`` of them reach it
(sequential Monte Carlo p-values: Besag and Clifford, 1991) or the maximum number of draws is made.
Before that, the p-value that the unit would have if all further draws reached it is an upper bound
of its final one. The bound may therefore be read at any time, and rejections by the procedure of
Benjamini and Hochberg that rest on bounds stay rejections (Fischer and Ramdas, 2024): draws are
made only for units whose decision is still open.

References
----------
Besag, J. and Clifford, P. (1991). Sequential Monte Carlo p-values. Biometrika 78, 301-304.
https://doi.org/10.1093/biomet/78.2.301
Fischer, L. and Ramdas, A. (2024). Multiple testing with anytime-valid Monte Carlo p-values.
https://doi.org/10.48550/arXiv.2404.15586
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer.stats.multiple_comparisons import benjamini_hochberg
from placeformer.stats.permutation import p_of_counts, reaches

Floats = NDArray[np.float64]

LOSSES = 5
"""Number of draws that reach a unit after which no more are made for it."""

MOST = 20_000
"""Maximum number of draws of a sequential test: a p-value of 1/20,001 can be reached."""

FIRST = 50
"""Number of draws made for all units: their means and standard deviations are reported as well."""


class MonteCarloTest:
    """One-sided Monte Carlo tests of units, high values being extreme.

    Parameters
    ----------
    observed
        Observed values (..., unit); NaN: not tested.
    n_draws
        Number of draws of every unit; ``None``: as many as the decisions need.
    most
        Maximum number of draws.
    """

    def __init__(self, observed: Floats, n_draws: int | None, most: float = np.inf) -> None:
        self.observed = observed
        self.sequential = n_draws is None
        self.most = int(min(MOST if n_draws is None else n_draws, most))
        self.drawn, self.n, self.extreme = (np.zeros(observed.shape, int) for _ in range(3))
        self._valid = np.zeros(observed.shape, int)
        self._mean, self._squares = np.zeros(observed.shape), np.zeros(observed.shape)

    def add(self, values: Floats, units: NDArray[np.intp]) -> None:
        """Count one draw of some of the units, values (..., len(units)); NaN: undefined."""
        known = np.isfinite(values)
        counts = known & (self.extreme[..., units] < LOSSES) if self.sequential else known
        reached = reaches(values, self.observed[..., units]) & counts
        self.drawn[..., units] += 1
        self.n[..., units] += counts
        self.extreme[..., units] += reached
        # Welford's update of the mean and of the sum of squares about it.
        self._valid[..., units] += known
        mean = self._mean[..., units]
        step = np.where(known, values - mean, 0.0)
        mean = mean + step / np.maximum(self._valid[..., units], 1)
        self._mean[..., units] = mean
        self._squares[..., units] += step * np.where(known, values - mean, 0.0)

    def next_draws(self) -> int:
        """Number of draws to make before the decisions are checked again."""
        made = int(self.drawn.max(initial=0))
        wanted = max(FIRST, made // 4) if self.sequential else self.most
        return min(wanted, self.most - made)

    def undecided(self, max_q: float) -> NDArray[np.bool_]:
        """Units (..., unit) whose rejection at a false-discovery rate further draws can change."""
        p = self.p
        done = np.isnan(self.observed) | (self.extreme >= LOSSES) | (self.drawn >= self.most)
        rejected = benjamini_hochberg(p) <= max_q
        closed = done | rejected | (self._valid == 0)
        # At best no further draw reaches the open units.
        best = np.where(closed, p, (self.extreme + 1) / (self.most + 1))
        return np.asarray(~closed & (benjamini_hochberg(best) <= max_q))

    @property
    def p(self) -> Floats:
        """P-values (..., unit): final, or the upper bound of the final one; NaN if undefined."""
        p = p_of_counts(self.extreme, self.n, self.observed)
        if self.sequential:
            final = np.minimum(self.n + LOSSES - self.extreme, self.most + 1)
            bound = LOSSES / np.maximum(final, 1)
            p = np.where(
                np.isnan(p) | (self.drawn >= self.most) & (self.extreme < LOSSES), p, bound
            )
        return np.asarray(np.minimum(p, 1.0))

    @property
    def mean(self) -> Floats:
        """Mean of the draws; NaN without any."""
        return np.where(self._valid > 0, self._mean, np.nan)

    @property
    def sd(self) -> Floats:
        """Standard deviation of the draws; NaN with fewer than two."""
        n = self._valid
        return np.sqrt(np.divide(self._squares, n - 1, out=np.full(n.shape, np.nan), where=n > 1))


def check_n(name: str, n: Any) -> int | None:
    """Number of draws; ``None`` for ``"auto"``.

    Raises
    ------
    ValueError
        `n` is neither ``"auto"`` nor a whole number of at least 1.
    """
    if isinstance(n, str) and n == "auto":
        return None
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{name} must be 'auto' or a whole number of at least 1, got {n!r}")
    return int(n)
