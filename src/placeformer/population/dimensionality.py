"""Dimensionality of a population: participation ratio and principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_number
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.population.similarity_measures import MAX_ROWS
from placeformer.population.vectors import (
    Products,
    check_padding,
    is_maps,
    missing_rows,
    refuse_overflow,
    vectors,
)
from placeformer.population.walk_products import MIN_WALKS, WalkProducts, between_walks
from placeformer.spatial.variance_explained import centre
from placeformer.stats.tolerances import FLAT


def dimensionality(
    data: xr.Dataset, *, variance: float = 0.9, standardize: bool = False
) -> xr.Dataset:
    r"""Participation ratio, and the number of components that explain most of the variance.

    .. math:: PR = \frac{\left(\sum_i \lambda_i\right)^2}{\sum_i \lambda_i^2}

    with λ the eigenvalues of the covariance of the units.

    Parameters
    ----------
    data
        Recording (rows are samples) or RateMaps (rows are the visited places of all maps, each
        counted once).
    variance
        Fraction of the variance that the components must explain, above 0 and at most 1.
    standardize
        Scale every unit to variance 1 first, so that units with large activations do not dominate;
        units that do not vary are left out.

    Returns
    -------
    xarray.Dataset
        ``participation_ratio``, 1 (all variance on one axis) to the minimum of the number of units
        and ``n_rows`` - 1 (equal variance on every axis); unchanged by rotation, shift and
        isotropic scaling, NaN for a population that does not vary. ``n_components``, 0 for a
        population that does not vary. ``eigenvalues`` (component), descending, in squared units of
        the activation (dimensionless with ``standardize``). ``n_rows`` and ``n_units``. A short
        recording lowers the ratio: below ten rows per unit, report
        ``participation_ratio_unbiased``, which takes the trace of the covariance and of its square
        from pairs of different walks (or places). It is nearly unbiased for any length and may lie
        outside the range above; NaN for fewer than four walks or places.

    Raises
    ------
    ValueError
        Activations are not finite, there are fewer than two rows, or ``variance`` is out of range.

    See Also
    --------
    similarity : Compare two populations.

    Notes
    -----
    The covariance is a sum over blocks of samples, so memory grows only with the square of the
    number of units and not with the length of a NumPy or dask recording.

    References
    ----------
    Gao, P., Trautmann, E., Yu, B., Santhanam, G., Ryu, S., Shenoy, K. and Ganguli, S. (2017).
    A theory of multineuronal dimensionality, dynamics and measurement. bioRxiv 214262.
    https://doi.org/10.1101/214262

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> factors, loadings = rng.standard_normal((1000, 2)), rng.standard_normal((2, 30))
    >>> place = {"x": rng.random(1000), "y": rng.random(1000)}
    >>> layers = ["a"] * 15 + ["b"] * 15
    >>> recording = pf.from_arrays(factors @ loadings, place, layer=layers)
    >>> pf.dimensionality(recording).n_components.item()
    2

    Measure every layer separately:

    >>> recording.groupby("layer").map(pf.dimensionality).n_components.values
    array([2, 2])
    """
    check_number("variance", variance)
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be above 0 and at most 1, got {variance}")
    rows = vectors(data)
    values, n_rows, unbiased = _moments(rows, data, standardize=standardize)
    total = values.sum()
    ratio = 1 / np.square(values / total).sum() if total > 0 else np.nan
    enough = np.searchsorted(np.cumsum(values), variance * total * (1 - 1e-12)) + 1
    return xr.Dataset(
        {
            "participation_ratio": variable((), ratio, "participation ratio"),
            "participation_ratio_unbiased": variable(
                (), unbiased, "participation ratio from pairs of different walks or places"
            ),
            "n_components": variable(
                (),
                min(int(enough), len(values)) if total > 0 else 0,
                f"components for {variance:.0%} of the variance",
            ),
            "eigenvalues": variable(
                "component",
                values,
                "variance of a principal component",
                units="1" if standardize else _squared_units(data),
            ),
            "n_rows": variable((), n_rows, "samples or places"),
            "n_units": variable((), rows.shape[2], "units"),
        },
        attrs={
            "variance": variance,
            "rows": "places" if is_maps(data) else "samples",
            schema.PROVENANCE: schema.provenance(
                data, "dimensionality", variance=variance, standardize=standardize
            ),
        },
    )


def _moments(
    rows: Any, data: xr.Dataset, *, standardize: bool
) -> tuple[NDArray[np.float64], int, float]:
    """Eigenvalues of the covariance of rows (group, row, unit), descending, and the number of rows.

    The third value is the squared trace of the covariance divided by the trace of its square, both
    from pairs of different groups.
    """
    shift, n_groups = centre(rows), rows.shape[0]
    if rows.shape[0] * rows.shape[1] <= max(rows.shape[2], MAX_ROWS * is_maps(data)):
        x = np.asarray(rows, float).reshape(-1, rows.shape[2]) - shift
        known = ~missing_rows(x)
        group, x = np.repeat(np.arange(n_groups), rows.shape[1])[known], x[known]
        _check_rows(data, rows, len(x))
        _finite(x, data)
        refuse_overflow(x)
        x -= x.mean(axis=0)
        x = x / _spread(x.var(axis=0, ddof=1), np.abs(x).max(axis=0)) if standardize else x
        kernel = x @ x.T
        covariance = kernel / (len(x) - 1) if len(x) <= x.shape[1] else x.T @ x / (len(x) - 1)
        ratio = _ratio_of_kernel(kernel, np.unique(group, return_inverse=True)[1])
        return _eigenvalues(covariance), len(x), ratio
    sums = Products.over(rows, rows, (shift, shift))
    _check_rows(data, rows, int(sums.n))
    _finite(sums.x[None], data)
    refuse_overflow(sums.product)
    covariance, scale = sums.covariance(), None
    if standardize:
        scale = _spread(np.diag(covariance), np.sqrt(np.diag(sums.product) / sums.n))
        covariance = covariance / np.outer(scale, scale)
    walks = WalkProducts.over(rows, rows, (shift, shift), scale)
    ratio = _ratio(walks.trace(), walks.independence())
    return _eigenvalues(covariance), int(sums.n), ratio


def _check_rows(data: xr.Dataset, rows: Any, n_rows: int) -> None:
    check_padding(data, rows, n_rows)
    if n_rows < 2:
        raise ValueError(f"data must have at least 2 samples or places, got {n_rows}")


def _eigenvalues(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0)


def _ratio_of_kernel(kernel: NDArray[np.float64], group: NDArray[np.intp]) -> float:
    """Participation ratio from the kernel (row, row), whose rows are in groups."""
    n = int(group.max()) + 1
    if n < MIN_WALKS:
        return np.nan
    between = np.where(group[:, None] != group, kernel, 0.0)
    share = 1 / np.bincount(group)[group]
    trace = share @ np.diag(kernel) / n - share @ between @ share / (n * (n - 1))
    return _ratio(float(trace), between_walks(between, between, group))


def _ratio(trace: float, square: float) -> float:
    return trace**2 / square if square > 0 else np.nan


def _spread(variance: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation; infinite for a unit whose variance is only rounding error."""
    return np.where(variance > (FLAT * size) ** 2, np.sqrt(np.maximum(variance, 0)), np.inf)


def _finite(rows: NDArray[Any], units: xr.Dataset) -> NDArray[Any]:
    name = schema.RATE if is_maps(units) else schema.ACTIVATION
    schema.check_finite(units[name], np.count_nonzero(~np.isfinite(rows), axis=0))
    return rows


def _squared_units(data: xr.Dataset) -> str:
    name = schema.RATE if is_maps(data) else schema.ACTIVATION
    units = str(data[name].attrs.get("units", "1"))
    return "1" if units == "1" else f"({units})^2"
