"""Lesions of ordered units compared with lesions of control units, paired over walks.

Every lesion is scored on the same walks. Bootstrap samples and sign flips are drawn over walks or
over clusters of walks such as maps. An error is the number of wrong predictions divided by the
number of predictions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data.schema import variable
from placeformer.interventions.ablation_plan import EXACT, SET_DIMS
from placeformer.stats.bootstrap import by_cluster, draws, ratio, resampled
from placeformer.stats.intervals import error_interval, percentile_interval
from placeformer.stats.permutation import control_p, sign_flip_p

CONCAT: dict[str, Any] = {
    "data_vars": "all",
    "coords": "minimal",
    "compat": "override",
    "join": "exact",
}


def compare(
    scores: xr.Dataset, plan: xr.Dataset, *, n_resamples: int, seed: int, shares: bool = True
) -> xr.Dataset:
    """Compare the errors of the ordered sets of units with those of their controls.

    Parameters
    ----------
    scores
        ``wrong`` (..., lesion, walk), ``n`` (..., walk) and ``cluster`` (..., walk), the number of
        the cluster of every walk. Leading dimensions are compared separately.
    plan
        Result of :func:`draw_plan`.
    n_resamples
        Number of bootstrap samples, and of sign flips.
    seed
        Random seed of both.
    shares
        Whether the scores are fractions of wrong predictions, rather than costs of any range.

    Returns
    -------
    xarray.Dataset
        The result of :func:`compare_sets`, with `p_sets` and `area_p_sets` NaN for matched units,
        which are not drawn like the ordered ones, and the counts it is computed from: ``wrong``
        (..., selection, fraction, repeat, walk), NaN where a control has no set, and ``n`` (...,
        walk).
    """
    options: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed, "shares": shares}
    for dim in scores["wrong"].dims:
        if dim not in ("lesion", "walk"):
            parts = (scores.isel({dim: i}, drop=True) for i in range(scores.sizes[dim]))
            compared = [compare(part, plan, **options) for part in parts]
            return xr.concat(compared, scores[dim].variable, **CONCAT)
    wrong = scores["wrong"].isel(lesion=plan["lesion_of_set"]).where(plan["drawn"])
    wrong = wrong.transpose(*SET_DIMS, "walk").reset_coords(drop=True)
    cluster = scores["cluster"].values
    result = compare_sets(
        xr.DataArray(by_cluster(wrong.values, cluster), dims=(*SET_DIMS, "cluster")),
        by_cluster(scores["n"].values, cluster),
        inside=xr.DataArray(lesions_some(plan), dims="fraction"),
        sign=-1 if plan.attrs["keep"] else 1,
        **options,
    )
    labels = plan[["selection", "fraction"]].assign_coords(
        control=plan["selection"].values[1:], bound=["lower", "upper"]
    )
    result = result.assign_coords(labels.coords)
    exact = result["control"].isin(EXACT)
    result = result.assign({name: result[name].where(exact) for name in ("p_sets", "area_p_sets")})
    return result.assign(wrong=wrong, n=scores["n"].reset_coords(drop=True))


def lesions_some(plan: xr.Dataset) -> NDArray[np.bool_]:
    """Whether the sets of a fraction contain some of the units but not all, (fraction,)."""
    n_units = plan["n_units"].values
    return (n_units > 0) & (n_units < plan.sizes["unit"])


def compare_sets(
    wrong: xr.DataArray,
    n: NDArray[Any],
    *,
    inside: xr.DataArray,
    sign: int,
    n_resamples: int,
    seed: int,
    shares: bool = True,
) -> xr.Dataset:
    """Compare the first selection with the others, at every fraction and over all of them.

    Parameters
    ----------
    wrong
        Number of wrong predictions (selection, fraction, repeat, cluster); NaN where a control has
        no set.
    n
        Number of predictions (cluster,).
    inside
        Whether the area is averaged over a fraction, (fraction,).
    sign
        1 if lesions of the ordered units are expected to cost more than those of the controls, -1
        if less.
    n_resamples
        Number of bootstrap samples, and of sign flips. Clusters and, independently, repeats are
        resampled, with the same clusters for all sets, so that differences are paired.
    seed
        Random seed of both.
    shares
        Whether the errors are fractions of wrong predictions, with the interval of
        :func:`error_interval`; otherwise the interval is a bootstrap interval.

    Returns
    -------
    xarray.Dataset
        ``error`` (selection, fraction, repeat); ``interval`` (selection, fraction, bound) of its
        mean over repeats; ``difference`` of the means, ordered minus control, with
        ``difference_interval``, ``p_sets`` and ``p_pairs`` (control, fraction, ...); and ``area``,
        ``area_interval``, ``area_p_sets`` and ``area_p_pairs`` (control, ...), the same for the
        mean over fractions.
    """
    rng = np.random.default_rng(seed)
    error = xr.DataArray(ratio(wrong.values, n), dims=SET_DIMS)
    boot = _bootstrap(wrong.values, n, n_resamples, rng)
    mean, mean_wrong = (values.mean("repeat", skipna=False) for values in (error, wrong))
    ordered, controls = _split(mean)
    at_fractions = {
        "difference": _ordered_less_controls(mean),
        "boot": _ordered_less_controls(boot),
        "gap": _ordered_less_controls(mean_wrong),
        "ordered": ordered,
        "controls": _split(error)[1],
    }
    used = inside & controls.notnull()
    overall = {name: _mean_over_fractions(values, used) for name, values in at_fractions.items()}
    options: dict[str, Any] = {"sign": sign, "n_flips": n_resamples, "rng": rng}
    curve, area = _tests(at_fractions, **options), _tests(overall, **options)
    area = area.rename({name: f"area_{name}" for name in area.data_vars})
    area = area.rename(area_difference="area", area_difference_interval="area_interval")
    for values in area.data_vars.values():
        values.attrs["long_name"] += ", mean over fractions"
    interval, about = percentile_interval(boot.values), "bootstrap interval"
    if shares:
        of_sets = (
            error.var("repeat", ddof=1) / error.sizes["repeat"]
            if error.sizes["repeat"] > 1
            else 0.0
        )
        interval = error_interval(mean_wrong.values, n, of_sets=of_sets)
        about = "Wilson interval with the design effect of walks and sets"
    about = f"95 % {about}, mean over repeats"
    result = xr.Dataset(
        {
            "error": variable(error.dims, error.values, "fraction of wrong predictions"),
            "interval": variable((*SET_DIMS[:2], "bound"), interval, about),
        }
    )
    return xr.merge([result, curve, area], combine_attrs="override")


def _bootstrap(
    wrong: NDArray[np.float64], n: NDArray[Any], n_resamples: int, rng: np.random.Generator
) -> xr.DataArray:
    """Bootstrap samples (resample, selection, fraction) of the mean error over repeats."""
    weights = draws(n.size, n_resamples, rng)
    repeats = wrong.shape[2]
    shares = [draws(repeats, n_resamples, rng) / repeats for _ in wrong]
    errors = (resampled(selection, n, weights) for selection in wrong)
    means = [
        np.einsum("bfr,br->bf", error, share) for error, share in zip(errors, shares, strict=True)
    ]
    boot = xr.DataArray(np.stack(means, axis=1), dims=("resample", "selection", "fraction"))
    return boot if n.size > 1 else xr.full_like(boot, np.nan)  # one cluster cannot be resampled


def _split(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the ordered selection, repeated for every control, and the controls."""
    controls = values.isel(selection=slice(1, None)).rename(selection="control")
    return values.isel(selection=0).broadcast_like(controls).transpose(*controls.dims), controls


def _ordered_less_controls(values: xr.DataArray) -> xr.DataArray:
    ordered, controls = _split(values)
    return ordered - controls


def _mean_over_fractions(values: xr.DataArray, used: xr.DataArray) -> xr.DataArray:
    """Mean over the fractions `used` (control, fraction); NaN if there are none."""
    n = used.sum("fraction")
    total = values.where(used, 0).sum("fraction", skipna=False)
    return (total / n.clip(min=1)).where(n > 0)


def _tests(
    values: dict[str, xr.DataArray], *, sign: int, n_flips: int, rng: np.random.Generator
) -> xr.Dataset:
    """Difference of ordered units and controls, its interval and tests, (control, ...)."""
    difference = values["difference"]
    dims = difference.dims
    return xr.Dataset(
        {
            "difference": variable(
                dims, difference.values, "ordered minus control, means over repeats"
            ),
            "difference_interval": variable(
                (*dims, "bound"),
                percentile_interval(values["boot"].values),
                "95 % paired bootstrap interval of the difference",
            ),
            "p_sets": variable(
                dims,
                control_p(sign * values["ordered"].values, sign * values["controls"].values),
                "p over control sets: (1 + sets that reach the ordered error) / (1 + repeats)",
            ),
            "p_pairs": variable(
                dims,
                sign_flip_p(sign * values["gap"].values, n_flips, rng),
                "p over walks: (1 + sign flips that reach the difference) / (1 + n_resamples)",
            ),
        }
    )
