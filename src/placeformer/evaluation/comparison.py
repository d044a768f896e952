"""Comparison of Mg²⁺ with lesions: trained α, test-time α, lesions of place cells and controls."""

from __future__ import annotations

import numpy as np
import xarray as xr

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.evaluation.effects import Networks, place_measures
from placeformer.stats.intervals import Estimate
from placeformer.stats.rank_correlation import correlation

GIVEN = ("nothing", "alpha")
NETWORKS = (
    "place_cell_fraction", "memory_dependent_fraction", "information", "eta2_beyond", "error",
    "interval", "trained_alpha",
)  # fmt: skip
LESIONS = {"error": "lesion_error", "interval": "lesion_interval"}
WASHOUT = {"error": "washout_error", "interval": "washout_interval"}


def memory_comparison(
    networks: xr.Dataset,
    washout: xr.Dataset,
    lesions: xr.Dataset,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Combine the effects of Mg²⁺ and of lesions on memory in one Dataset.

    Parameters
    ----------
    networks
        Result of :func:`profile_networks`: networks trained at different α.
    washout
        Result of :func:`dose_response` over test-time α of one network.
    lesions
        Result of :func:`ablation_curve` of the same network.
    n_resamples, seed
        Number of bootstrap samples and random seed of the intervals of the correlations.

    Returns
    -------
    xarray.Dataset
        Dims ``model`` (networks), ``dose`` (test-time α), ``fraction`` and ``selection`` (lesions),
        ``maps``, ``memory``, ``layer``, ``negatives``, ``bound``:

        - `error`, `interval` (model, maps, memory) against `trained_alpha`;
        - `washout_error`, `washout_interval` (dose, maps, memory) against `dose`;
        - `lesion_error`, `lesion_interval` (maps, memory, selection, fraction), means over repeats,
          for the units in the order of `lesions` ("ordered") and for its control units;
        - `place_cell_fraction`, `memory_dependent_fraction`, `information` (under each policy for
          negative rates) and `eta2_beyond` of the networks;
        - `correlation`, `correlation_interval` and `correlation_p` (measure, given): Spearman's ρ
          between the reference error on trained maps and each measure of claim 6
          (:func:`paper_claims`, mean over layers), over all networks, and partial on α over
          the networks with NMDA_α. The interval is a bootstrap over activations, because seeds of
          one activation are similar (NaN for fewer than eight activations).

        The attributes `where`, `where_washout` and `where_lesions` state whether predictions are
        counted at chunk ends or at every step.

    Raises
    ------
    ValueError
        A Dataset is not a result of the function named above, or `washout` holds several networks.

    See Also
    --------
    profile_networks, dose_response, ablation_curve
    plot.comparison : Draw the result.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> names = ["nmda", "nmda-a10-washout", "nmda-a10-lesions"]
    >>> results = [xr.load_dataset(results_folder() / f"{name}.nc") for name in names]
    >>> comparison = pf.memory_comparison(*results, n_resamples=100)
    >>> comparison.sizes["dose"], comparison.sizes["fraction"]
    (13, 4)
    """
    check(networks, "networks", "profile_networks", NETWORKS)
    check(washout, "washout", "dose_response", (*WASHOUT, "alpha"))
    check(lesions, "lesions", "ablation_curve", (*LESIONS, "selection", "fraction"))
    if len(names := np.unique(washout["name"].values)) != 1:
        raise ValueError(f"washout must be of one network, got {', '.join(map(str, names))}")
    together = {
        name: networks[name] for name in NETWORKS if name != "trained_alpha"
    } | correlations(networks, n_resamples, seed)
    doses = washout[list(WASHOUT)].reset_coords(drop=True).rename({"model": "dose"} | WASHOUT)
    doses = doses.assign_coords(dose=("dose", washout["alpha"].values, washout["alpha"].attrs))
    removed = lesions[list(LESIONS)].reset_coords(drop=True).rename(LESIONS)
    removed["lesion_error"] = lesions["error"].mean("repeat", skipna=False, keep_attrs=True)
    result = xr.merge(
        [xr.Dataset(together), doses.sortby("dose"), removed],
        combine_attrs="override",
        join="outer",
    )
    about = schema.provenance(networks, "memory_comparison", n_resamples=n_resamples, seed=seed)
    return result.assign_attrs(
        {
            "chance": networks.attrs.get("chance", np.nan),
            "chance_lesioned": lesions.attrs.get("chance", np.nan),
            "lesioned": str(names[0]), "trained_alpha": float(washout["trained_alpha"].values[0]),
            "order": str(lesions.attrs.get("order", "")),
            "where": str(networks.attrs.get("where", "")),
            "where_washout": str(washout.attrs.get("where", "")),
            "where_lesions": str(lesions.attrs.get("where", "")),
            "n_resamples": n_resamples, "seed": seed,
            schema.PROVENANCE: about,
        }
    )  # fmt: skip


def check(data: xr.Dataset, argument: str, function: str, needed: tuple[str, ...]) -> None:
    """Raise if a Dataset lacks variables of a result of the named function."""
    missing = [name for name in needed if name not in data.variables]
    if missing:
        raise ValueError(
            f"{argument} must be a result of {function}, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing"
        )


def correlations(networks: xr.Dataset, n_resamples: int, seed: int) -> dict[str, xr.DataArray]:
    """Rank correlations of the reference error with measures of place, over networks."""
    error = networks["error"].sel(maps="trained", memory="reference").values
    measured = Networks(networks, n_resamples, seed)
    values, cluster = place_measures(measured), measured.activation
    estimates = [
        [
            correlation(error, v, given, cluster=cluster, n_resamples=n_resamples, seed=seed)
            for given in givens(networks)
        ]
        for v in values.values()
    ]
    table = np.array(estimates, float).reshape(len(values), len(GIVEN), len(Estimate._fields))
    coords = {"measure": list(values), "given": list(GIVEN)}
    labels = {
        "correlation": (table[..., 0], ("measure", "given"), "Spearman's ρ with reference error"),
        "correlation_interval": (
            table[..., 1:3], ("measure", "given", "bound"),
            "95 % bootstrap interval over activations",
        ),
        "correlation_p": (table[..., 3], ("measure", "given"), "two-sided p"),
    }  # fmt: skip
    return {
        name: xr.DataArray(variable(dims, v, text), coords)
        for name, (v, dims, text) in labels.items()
    }


def givens(networks: xr.Dataset) -> list[np.ndarray | None]:
    """Variables on which the correlations are conditioned: none, and α."""
    return [None, networks["trained_alpha"].values.astype(float)]
