"""Dimensionality of a population: participation ratio and principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.population.vectors import Products, check_padding, is_maps, missing_rows, vectors
from placeformer.spatial.variance_explained import centre
from placeformer.stats.tolerances import FLAT


def dimensionality(
    data: xr.Dataset, *, variance: float = 0.9, standardize: bool = False
) -> xr.Dataset:
    r"""Participation ratio, and the number of principal components for a share of the variance.

    .. math:: PR = \frac{\left(\sum_i \lambda_i\right)^2}{\sum_i \lambda_i^2}

    with λ the eigenvalues of the covariance of the units.

    Parameters
    ----------
    data
        Recording (rows are samples) or RateMaps (rows are visited places, each counted once, of
        all maps).
    variance
        Share of the variance that the components must explain, above 0 and at most 1.
    standardize
        Scale every unit to variance 1 first, so that units with large activations do not dominate;
        units that do not vary are left out.

    Returns
    -------
    xarray.Dataset
        ``participation_ratio``, 1 (all variance on one axis) to the minimum of the number of units
        and ``n_rows`` - 1 (equal variance on every axis); unchanged by rotation, shift and
        isotropic scaling, NaN for a population that does not vary; ``n_components``, 0 for such a
        population; ``eigenvalues`` (component), descending, in squared units of
        the activation; ``n_rows`` and ``n_units``. A short recording lowers the ratio: compare
        equal numbers of rows.

    Raises
    ------
    ValueError
        Activations are not finite, there are fewer than two rows, or ``variance`` is out of range.

    See Also
    --------
    similarity : Compare two populations.

    Notes
    -----
    The covariance is a sum over blocks of samples, so memory does not grow with the length of a
    NumPy or dask recording, only with the square of the number of units.

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

    Every layer separately:

    >>> recording.groupby("layer").map(pf.dimensionality).n_components.values
    array([2, 2])
    """
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be above 0 and at most 1, got {variance}")
    rows = vectors(data)
    values, n_rows = spectrum(rows, data, standardize=standardize)
    total = values.sum()
    ratio = total**2 / np.square(values).sum() if total > 0 else np.nan
    enough = np.searchsorted(np.cumsum(values), variance * total * (1 - 1e-12)) + 1
    return xr.Dataset(
        {
            "participation_ratio": variable((), ratio, "participation ratio"),
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


def spectrum(
    rows: Any, data: xr.Dataset, *, standardize: bool = False
) -> tuple[NDArray[np.float64], int]:
    """Eigenvalues of the covariance of rows (group, row, unit), descending, and how many rows."""
    shift = centre(rows)
    few = rows.shape[0] * rows.shape[1] <= rows.shape[2]
    if few:
        x = np.asarray(rows, float).reshape(-1, rows.shape[2]) - shift
        x = x[~missing_rows(x)]
        n_rows = len(x)
    else:
        sums = Products.over(rows, rows, (shift, shift))
        n_rows = int(sums.n)
    check_padding(data, rows, n_rows)
    if n_rows < 2:
        raise ValueError(f"data must have at least 2 samples or places, got {n_rows}")
    if few:
        _finite(x, data)
        x -= x.mean(axis=0)
        x = x / _spread(x.var(axis=0, ddof=1), np.abs(x).max(axis=0)) if standardize else x
        covariance = x @ x.T / (len(x) - 1)
    else:
        _finite(sums.x[None], data)
        covariance = sums.covariance()
        if standardize:
            spread = _spread(np.diag(covariance), np.sqrt(np.diag(sums.product) / sums.n))
            covariance = covariance / np.outer(spread, spread)
    return np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0), n_rows


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
