"""Modules of grid cells: clusters of their spacing, and a test that there is more than one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from placeformer._options import check_number, check_whole
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.spatial.grid_properties import circular_mean
from placeformer.stats.dip import dip_test

MIN_UNITS = 10
"""Minimum number of units with a spacing."""

SPREAD = 0.03
"""Minimum standard deviation of a module's spacings, relative to the spacing: about the precision
of a measured spacing."""

MODULE, N_MODULES = "module", "n_modules"


def grid_modules(
    properties: xr.Dataset,
    *,
    max_modules: int = 6,
    max_p: float = 0.05,
    n_resamples: int = 999,
    seed: int = 0,
) -> xr.Dataset:
    """Cluster the spacings of a population of grid cells into modules.

    Parameters
    ----------
    properties
        Result of :func:`grid_properties` on one map, for the units that count as grid cells, such
        as ``grid.isel(unit=(test.q <= 0.05).values)``. Units whose spacing is NaN belong to no
        module.
    max_modules
        Maximum number of modules, 1 or more.
    max_p
        Maximum p of the dip test; with a larger p there is a single module.
    n_resamples
        Number of samples from the null distribution of the test.
    seed
        Seed of the null distribution and of the clustering.

    Returns
    -------
    xarray.Dataset
        - ``label`` (unit): number of the unit's module, counted from 0 by ascending spacing; -1 for
          a unit without a module.
        - ``probability`` (unit): probability under the mixture that the unit belongs to its module.
        - ``spacing``, ``orientation``, ``n_units`` (module): geometric mean of the spacings,
          circular mean of the orientations modulo 60 degrees, and number of units.
        - ``spread`` (module): standard deviation of the logarithms of the spacings, approximately
          the relative standard deviation of the spacings.
        - ``ratio`` (module): spacing divided by that of the previous module; NaN for the first.
        - ``orientation_spread`` (module): circular standard deviation of the orientations, in
          degrees. Cells of one module share their orientation.
        - ``dip``, ``p``: dip statistic of the logarithms of the spacings, and the p-value under the
          null hypothesis of a single mode.
        - ``bic`` (n_modules): Bayesian information criterion of 1, 2, ... modules; the lowest is
          best.
        - ``reason``: why there are no modules (fewer than 10 units with a spacing), else empty.

    Raises
    ------
    ValueError
        The Dataset has no spacing over units alone, or an option is out of range.

    See Also
    --------
    grid_properties : Spacing and orientation of every unit.

    Notes
    -----
    The modules are the components of a mixture of normal distributions of the logarithm of the
    spacing (scikit-learn), because spacings differ by a ratio from module to module (Stensola et
    al. 2012). Each component has a standard deviation of at least 3 %, and their number minimises
    the BIC. A mixture finds several components in any distribution that is not normal; hence the
    dip test (Hartigan and Hartigan 1985), whose null hypothesis is any distribution with one mode,
    including a continuum of spacings. If its p is above ``max_p`` there is one module. Modules
    whose spacings overlap cannot be distinguished.

    References
    ----------
    Stensola, H. et al. (2012). The entorhinal grid map is discretized. Nature 492, 72-78.
    https://doi.org/10.1038/nature11649
    Hartigan, J. A. and Hartigan, P. M. (1985). The dip test of unimodality. Annals of Statistics
    13, 70-84. https://doi.org/10.1214/aos/1176346577

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.mgrid[:40, :40]
    >>> def grid(spacing, phase):
    ...     k = 4 * np.pi / (np.sqrt(3) * spacing)
    ...     a = np.deg2rad([[[0]], [[60]], [[120]]])
    ...     return np.cos(k * ((x - phase) * np.cos(a) + y * np.sin(a))).sum(axis=0)
    >>> rng = np.random.default_rng(0)
    >>> spacings = np.repeat([7, 10, 14], 12) * rng.normal(1, 0.02, 36)
    >>> maps = pf.maps_from_arrays(np.stack([grid(s, rng.uniform(0, 9)) for s in spacings]))
    >>> modules = pf.grid_modules(pf.grid_properties(maps))
    >>> modules.spacing.round().values, modules.ratio.round(1).values
    (array([ 7., 10., 14.]), array([nan, 1.4, 1.4]))
    """
    spacing, orientation = _columns(properties)
    _check(max_modules, max_p, n_resamples)
    check_whole("seed", seed, 0)
    known = np.isfinite(spacing) & (spacing > 0)
    values = np.log(spacing[known])
    most = min(max_modules, max(1, len(values) // 2))
    statistic = p = np.nan
    module, probability = np.full(len(spacing), -1), np.full(len(spacing), np.nan)
    bic, reason = np.full(most, np.nan), ""
    if len(values) < MIN_UNITS:
        reason = f"fewer than {MIN_UNITS} units with a spacing"
    else:
        statistic, p = dip_test(values, n_resamples=n_resamples, seed=seed)
        mixtures = [_mixture(values, n, seed) for n in range(1, most + 1)]
        bic = np.array([mixture.bic(values[:, None]) for mixture in mixtures])
        several = 1 + int(bic[1:].argmin()) if most > 1 else 0
        mixture = mixtures[several if p <= max_p else 0]
        of = mixture.predict_proba(values[:, None])
        order = np.argsort(mixture.means_[:, 0])
        module[known] = of[:, order].argmax(axis=1)
        module[known] = np.unique(module[known], return_inverse=True)[1]  # some may stay empty
        probability[known] = of.max(axis=1)
    result = _labelled(properties, module, spacing, orientation)
    result["probability"] = variable(schema.UNIT, probability, "probability of the module")
    result["dip"] = variable((), statistic, "dip statistic of the logarithms of the spacings")
    result["p"] = variable((), p, "p-value of a single mode (dip test)")
    result["bic"] = variable(N_MODULES, bic, "Bayesian information criterion")
    result["reason"] = variable((), reason, "why there are no modules")
    result = result.assign_coords(
        {N_MODULES: variable(N_MODULES, np.arange(1, most + 1), "number of modules")}
    )
    settings = {
        "max_modules": max_modules, "max_p": max_p, "n_resamples": n_resamples, "seed": seed,
    }  # fmt: skip
    result.attrs[schema.PROVENANCE] = schema.provenance(properties, "grid_modules", **settings)
    return result


def _columns(properties: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Spacing and orientation of every unit."""
    if not isinstance(properties, xr.Dataset):
        raise TypeError(
            f"properties must be an xarray.Dataset, got {type(properties).__name__}; compute it "
            "with placeformer.grid_properties(maps)"
        )
    for name in ("spacing", "orientation"):
        found = properties[name].dims if name in properties else None
        if found != (schema.UNIT,):
            raise ValueError(
                f"properties must have {name!r} over ({schema.UNIT},), got "
                f"{'none' if found is None else found}; compute it with "
                "placeformer.grid_properties(maps), and select one of several maps with isel"
            )
    spacing, orientation = (
        np.asarray(properties[name].values, float) for name in ("spacing", "orientation")
    )
    return spacing, orientation


def _check(max_modules: int, max_p: float, n_resamples: int) -> None:
    check_whole("max_modules", max_modules)
    check_whole("n_resamples", n_resamples)
    check_number("max_p", max_p)
    if not 0 < max_p <= 1:
        raise ValueError(f"max_p must be above 0 and at most 1, got {max_p}")


def _mixture(values: NDArray[np.float64], n: int, seed: int) -> GaussianMixture:
    with warnings.catch_warnings():  # a component may wander between two clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(
            n, reg_covar=SPREAD**2, n_init=5, max_iter=500, random_state=seed
        ).fit(values[:, None])


def _labelled(
    properties: xr.Dataset,
    module: NDArray[np.intp],
    spacing: NDArray[np.float64],
    orientation: NDArray[np.float64],
) -> xr.Dataset:
    """Modules of units, and the mean geometry of each."""
    members = [module == k for k in range(int(module.max(initial=-1)) + 1)]
    logs = [np.log(spacing[own]) for own in members]
    mean = np.exp([values.mean() for values in logs])
    turns = [orientation[own & np.isfinite(orientation)] for own in members]
    direction = np.array([circular_mean(values, 60) for values in turns])
    length = np.array([np.abs(np.exp(2j * np.pi * values / 60).mean()) for values in turns])
    with np.errstate(divide="ignore"):
        scatter = np.sqrt(-2 * np.log(np.minimum(length, 1.0))) * 60 / (2 * np.pi)
    units = properties["spacing"].attrs.get("units", "1")
    ratio = np.append(np.nan, mean[1:] / mean[:-1])[: len(mean)]
    spread = np.array([values.std() for values in logs])
    data = {
        "label": variable(schema.UNIT, module, "module of the unit, -1 without a spacing"),
        "spacing": variable(MODULE, mean, "geometric mean of the spacings", units=units),
        "spread": variable(MODULE, spread, "standard deviation of the logarithms of the spacings"),
        "ratio": variable(MODULE, ratio, "spacing divided by that of the previous module"),
        "orientation": variable(
            MODULE, direction, "circular mean of the orientations", units="degree"
        ),
        "orientation_spread": variable(
            MODULE, scatter, "circular standard deviation of the orientations", units="degree"
        ),
        "n_units": variable(MODULE, [int(own.sum()) for own in members], "number of units"),
    }
    coords: dict[Any, Any] = dict(schema.unit_coords(properties))
    coords[MODULE] = variable(MODULE, np.arange(len(members)), "module")
    return xr.Dataset(data, coords)
