"""Overlap of two sets of units against sets of the same sizes drawn at random within strata."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


class Overlap(NamedTuple):
    """Shared members of two sets, and what is expected by chance."""

    kept: float
    """Fraction of the first set that is also in the second one; NaN for an empty first set."""
    chance: float
    """Its expectation by chance."""
    excess: float
    """(kept - chance) / (1 - chance); NaN where chance is 1."""
    p: float
    """Exact p of sharing at least as many."""


def overlap(first: ArrayLike, second: ArrayLike, strata: ArrayLike) -> Overlap:
    """Fraction of a set that is also in another one, with its exact distribution under chance.

    Under the null hypothesis the members of the second set are drawn without regard to the first,
    as many in every stratum: the number shared in a stratum is hypergeometric, and their sum has
    the convolution of these distributions.

    Parameters
    ----------
    first, second
        Membership of every unit (unit,), bool.
    strata
        Stratum of every unit (unit,), such as its layer.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    group = np.unique(np.asarray(strata), return_inverse=True)[1]
    sizes = [(int((group == g).sum()), a[group == g], b[group == g]) for g in np.unique(group)]
    if not a.any():
        return Overlap(np.nan, np.nan, np.nan, np.nan)
    shared: NDArray[np.float64] = np.ones(1)
    expected = 0.0
    for n, one, two in sizes:
        m, k = int(one.sum()), int(two.sum())
        shared = np.convolve(shared, stats.hypergeom.pmf(np.arange(min(m, k) + 1), n, m, k))
        expected += m * k / n
    found, total = int((a & b).sum()), int(a.sum())
    chance = expected / total
    excess = (found / total - chance) / (1 - chance) if chance < 1 else np.nan
    return Overlap(found / total, chance, excess, float(min(1.0, shared[found:].sum())))
