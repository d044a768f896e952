"""P-values of permutation tests: an observed value among the values of a null distribution.

Every p-value of the package is (k + 1) / (n + 1), where k is the number of values of the null that
are at least as extreme as the observed one, and n the number of all of them (Phipson and Smyth,
2010). Ties count towards k: a permutation that leaves the data unchanged must reach the observed
value. It does so only up to rounding if the two were summed in different orders, hence the relative
tolerance, which is the same for all tests.

References
----------
Phipson, B. and Smyth, G. K. (2010). Permutation p-values should never be zero. Statistical
Applications in Genetics and Molecular Biology 9, 39. https://doi.org/10.2202/1544-6115.1585
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from placeformer.stats.tolerances import TIES

Floats = NDArray[np.float64]


def p_value(null: ArrayLike, observed: ArrayLike, *, greater: bool = True, axis: int = -1) -> Any:
    """One-sided p-value of an observed value.

    Parameters
    ----------
    null
        Values under the null hypothesis, along `axis`; NaN are left out.
    observed
        Observed values, of the shape of `null` without `axis`.
    greater
        Whether high values are extreme; otherwise low values are. For a two-sided test pass
        absolute values.

    Returns
    -------
    float or numpy.ndarray
        (k + 1) / (n + 1), above 0 and at most 1; NaN where the observed value is NaN or the null
        has no values. Values that differ by less than ``TIES`` times the largest absolute value
        among the null and the observed are ties: this is the size of the terms that were summed.
    """
    null = np.moveaxis(np.asarray(null, float), axis, 0)
    value = np.asarray(observed, float)
    scale = np.nanmax(np.abs(null), axis=0, initial=0.0)
    reached = reaches(null, value, greater=greater, scale=np.fmax(scale, np.abs(value)))
    return p_of_counts(reached.sum(axis=0), (~np.isnan(null)).sum(axis=0), value)[()]


def reaches(
    null: Floats, observed: Floats, *, greater: bool = True, scale: Floats | None = None
) -> NDArray[np.bool_]:
    """Whether values of a null are at least as extreme as the observed one; False for NaN.

    `scale` is the size that ``TIES`` is relative to, by default that of the observed values.
    """
    slack = TIES * (np.abs(observed) if scale is None else scale)
    return null >= observed - slack if greater else null <= observed + slack


def p_of_counts(k: NDArray[Any], n: NDArray[Any], observed: Floats) -> Floats:
    """(k + 1) / (n + 1); NaN where nothing was observed or drawn."""
    return np.where(np.isnan(observed) | (n == 0), np.nan, (k + 1) / (n + 1))


def sign_flip_p(difference: Floats, n_resamples: int, rng: np.random.Generator) -> Floats:
    """One-sided p (...,) of the sum of paired differences (..., pair).

    Under the null hypothesis both signs of the difference of a pair are equally likely; the null
    distribution is that of the sums under random sign flips.
    """
    signs = rng.choice([-1.0, 1.0], size=(difference.shape[-1], n_resamples))
    return np.asarray(p_value(difference @ signs, difference.sum(-1)))


def control_p(observed: Floats, controls: Floats) -> Floats:
    """One-sided p (...,) of a value among its controls (..., repeat); NaN where any control is.

    The test is exact if the observed set of units is drawn like the controls.
    """
    return np.where(np.isnan(controls).any(-1), np.nan, p_value(controls, observed))
