"""Orders in which units are lesioned, and their controls: random, stratified and matched units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.interventions.replacement import place_axes
from placeformer.models.transformer import Layer, NavigationTransformer
from placeformer.recording.hooks import layer_and_index
from placeformer.spatial.binning import Bins
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.place_cell_score import place_cell_score
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.variance_explained import position_variance_explained

NamedOrder = Literal[
    "place_cell_score", "spatial_information", "variance", "activity", "output_weight", "random"
]

Order = str | ArrayLike | xr.DataArray | xr.Dataset

OUTPUT_WEIGHT = "output_weight"

DECISION = "is_place_cell"

NEAREST = 5
"""Number of nearest units from which a matched unit is drawn."""

TRIES = 20
"""Number of draws of a matched set before giving up."""

UNITS_PER_STRATUM = 16
"""Approximate number of units per stratum; a smaller layer is one stratum."""

Numbers = NDArray[np.intp]

Floats = NDArray[np.float64]

Bools = NDArray[np.bool_]


def order_scores(
    model: nn.Module, units: xr.Dataset, order: Order, negatives: Negatives, bins: Bins = None
) -> NDArray[Any]:
    """Score of every unit (unit,), or booleans if `order` chooses units."""
    if isinstance(order, str):
        if order == "random":
            return np.zeros(units.sizes[schema.UNIT])
        if order == OUTPUT_WEIGHT:
            return output_weight(model, units)
        return unit_scores(units, order, negatives=negatives, bins=bins)
    if isinstance(order, xr.Dataset):
        order = decision(order)
    if isinstance(order, xr.DataArray) and {"layer", "index", schema.UNIT} & set(order.coords):
        order = _aligned(order, units)
    scores = np.asarray(order)
    if scores.shape != (units.sizes[schema.UNIT],):
        raise ValueError(
            f"order must have a score for each of the {units.sizes[schema.UNIT]} units, got "
            f"shape {scores.shape}"
        )
    return scores


def unit_scores(
    recording: xr.Dataset, order: str, *, negatives: Negatives, bins: Bins = None
) -> Floats:
    """Score of every unit that a named order refers to, (unit,).

    ``"place_cell_score"`` and ``"spatial_information"`` are means over the recorded maps, ignoring
    NaN; ``"variance"`` is the variance that place explains within maps (η²); ``"activity"`` is the
    mean absolute activation.
    """
    if order == "activity":
        return activity(recording)
    if order == "variance":
        by = place_axes(recording)
        return position_variance_explained(recording, by=by, bins=bins).values
    measures = {"place_cell_score": place_cell_score, "spatial_information": spatial_information}
    if order not in measures:
        check_option("order", order, get_args(NamedOrder))
    per_map = "map" in recording.variables
    maps = rate_maps(recording, by=place_axes(recording), bins=bins, per_map=per_map)
    score = measures[order](maps, negatives=negatives)
    lead = [dim for dim in score.dims if dim != schema.UNIT]
    return score.mean(lead).values


def activity(recording: xr.Dataset) -> Floats:
    """Mean absolute activation of every unit, (unit,)."""
    steps = (schema.WALK, schema.TIME)
    return abs(recording[schema.ACTIVATION]).mean(steps, dtype=float).values


def output_weight(model: nn.Module, units: xr.Dataset) -> NDArray[np.float64]:
    """Norm of the weights that read each unit, (unit,)."""
    if not isinstance(model, NavigationTransformer):
        raise ValueError(
            'order="output_weight" needs a navigation Transformer, got a '
            f"{type(model).__name__}; pass the norms as an array"
        )
    norms = {
        f"ffn.{i}": layer.ffn.fc2.weight.detach().norm(dim=0).cpu().numpy()
        for i, layer in enumerate(cast(Iterable[Layer], model.layers))
    }
    pairs = zip(units["layer"].values, units["index"].values, strict=True)
    return np.array([norms[layer][index] for layer, index in pairs], float)


def decision(table: xr.Dataset) -> xr.DataArray:
    """Return which units are place cells in a table of :func:`place_cells`."""
    if DECISION not in table:
        raise ValueError(
            f"order must be a table with {DECISION}, as place_cells gives it, got "
            f"{', '.join(map(str, table.data_vars)) or 'no variables'}"
        )
    return table[DECISION]


def _aligned(order: xr.DataArray, units: xr.Dataset) -> NDArray[Any]:
    """Scores in the order of the units."""
    if order.dims != (schema.UNIT,):
        dims = ", ".join(map(str, order.dims))
        raise ValueError(
            f"order must have only the dimension {schema.UNIT}, got {dims}; choose one map, or "
            'reduce it: any("map")'
        )
    keys = [pd.MultiIndex.from_arrays(layer_and_index(x, "order")) for x in (order, units)]
    if (absent := keys[1].difference(keys[0])).size:
        layer, index = absent[0]
        raise ValueError(f"order must have a score for every unit, got none for {layer}/{index}")
    return pd.Series(order.values, keys[0])[keys[1]].to_numpy()


def name_of(order: Order) -> str:
    """Name of an order."""
    return order if isinstance(order, str) else str(getattr(order, "name", None) or "given")


def shares_of(scores: NDArray[Any], fractions: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Fractions; by default 21 in equal steps, or 0 and the fraction of chosen units."""
    if scores.dtype != bool:
        return np.linspace(0, 1, 21) if fractions is None else fractions
    if not scores.any():
        raise ValueError(f"order must choose at least one unit, got none of {scores.size}")
    share = scores.mean()
    if fractions is None:
        return np.array([0, share])
    if fractions[-1] > share:
        raise ValueError(
            f"fractions must be at most the fraction of units that order chooses, {share:g}, "
            f"got {fractions[-1]:g}; pass a score to lesion other units as well"
        )
    return fractions


def ordered(scores: Floats, rng: np.random.Generator) -> Numbers:
    """Indices of units from the highest score to the lowest; ties in random order, NaN last."""
    return np.lexsort((rng.random(scores.size), -np.nan_to_num(scores, nan=-np.inf)))


def chosen(order: Numbers, n: int) -> Bools:
    """Mask (unit,) of the first `n` of an order."""
    mask = np.zeros(order.size, bool)
    mask[order[:n]] = True
    return mask


def lesion_sets(
    scores: Floats,
    covariates: Floats,
    layer: NDArray[Any],
    *,
    stratum: Numbers,
    sizes: Sequence[int],
    repeats: int,
    controls: Sequence[str],
    caliper: float,
    seed: int,
) -> tuple[Bools, Bools, Floats]:
    """All sets of a curve.

    Parameters
    ----------
    scores
        Score of every unit, (unit,).
    covariates
        Covariates of matched units, (unit, covariate).
    layer, stratum
        Layer and stratum of every unit, (unit,); see :func:`strata`.
    sizes, repeats, controls, caliper, seed
        Number of units of the sets, and options of :func:`ablation_curve`.

    Returns
    -------
    sets : (selection, size, repeat, unit)
        Masks: "ordered", then the controls.
    drawn : (selection, size)
        Whether there is a set in every repeat, which may not be so for matched sets.
    balance : (size, repeat, covariate)
        :func:`imbalance` of the matched sets; NaN where there is none.
    """
    sets = np.zeros((1 + len(controls), len(sizes), repeats, scores.size), bool)
    drawn = np.ones(sets.shape[:2], bool)
    balance = np.full((len(sizes), repeats, covariates.shape[1]), np.nan)
    for r in range(repeats):
        rng = np.random.default_rng([seed, r])
        orders = {"ordered": ordered(scores, rng), "random": rng.permutation(scores.size)}
        orders["stratified"] = relabelled(stratum, rng)[orders["ordered"]]
        for s, selection in enumerate(("ordered", *controls)):
            if selection in orders:
                sets[s, :, r] = [chosen(orders[selection], n) for n in sizes]
    if "matched" in controls:
        s = 1 + list(controls).index("matched")
        for f in np.flatnonzero(sizes):
            matched_sets = _matched_repeats(sets[0, f], covariates, layer, caliper, seed)
            drawn[s, f] = matched_sets is not None
            if matched_sets is not None:
                sets[s, f] = matched_sets
                pairs = zip(sets[0, f], matched_sets, strict=True)
                balance[f] = [imbalance(a, b, covariates) for a, b in pairs]
    return sets, drawn, balance


def strata(covariates: Floats, layer: NDArray[Any]) -> Numbers:
    """Stratum of every unit, (unit,): units of one layer with similar covariates.

    The units of a layer are divided into groups of equal size by the first covariate, and each
    group by the second one, if there is one, into half as many.

    Parameters
    ----------
    covariates
        One or two covariates, (unit, covariate).
    layer
        Layer of every unit, (unit,).
    """
    stratum, n_strata = np.zeros(layer.size, np.intp), 0
    for name in dict.fromkeys(layer):
        groups, n = [np.flatnonzero(layer == name)], (layer == name).sum() // UNITS_PER_STRATUM
        second = max(1, int(np.sqrt(n / 2))) if covariates.shape[1] > 1 else 1
        for values, parts in zip(covariates.T, (max(1, n // second), second), strict=False):
            split = (np.array_split(g[np.argsort(values[g], kind="stable")], parts) for g in groups)
            groups = [part for parts_of_group in split for part in parts_of_group]
        for group in groups:
            stratum[group], n_strata = n_strata, n_strata + 1
    return stratum


def relabelled(stratum: Numbers, rng: np.random.Generator) -> Numbers:
    """Random permutation (unit,) of the units that exchanges units of one stratum only."""
    units = np.argsort(stratum, kind="stable")
    permutation = np.empty_like(units)
    permutation[units] = units[np.lexsort((rng.random(units.size), stratum[units]))]
    return permutation


def _matched_repeats(
    targets: Bools, covariates: Floats, layer: NDArray[Any], caliper: float, seed: int
) -> Bools | None:
    """Matched sets (repeat, unit) of target sets (repeat, unit); None unless each has one."""
    sets = []
    for r, mask in enumerate(targets):
        rng = np.random.default_rng([seed, r, int(mask.sum())])
        if (controls := matched(mask, covariates, layer, caliper, rng)) is None:
            return None
        sets.append(controls)
    return np.array(sets)


def matched(
    targets: Bools,
    covariates: Floats,
    layer: NDArray[Any],
    caliper: float,
    rng: np.random.Generator,
) -> Bools | None:
    """Draw equally many other units of the same layers with similar covariates.

    Every target, in random order, is matched to one of the nearest units of its layer that are
    neither targets nor already drawn. A draw is accepted if :func:`imbalance` is within the caliper
    for every covariate; the result is None if none of several draws is accepted.

    Parameters
    ----------
    targets
        Mask (unit,).
    covariates
        (unit, covariate).
    layer
        Layer of every unit.
    caliper
        Largest accepted standardised difference of means.
    """
    scaled = standardised(covariates)
    for _ in range(TRIES):
        mask = nearest(targets, scaled, layer, rng)
        if mask is None:
            return None
        if (abs(imbalance(targets, mask, covariates)) <= caliper).all():
            return mask
    return None


def nearest(
    targets: Bools, scaled: Floats, layer: NDArray[Any], rng: np.random.Generator
) -> Bools | None:
    """One draw of :func:`matched`; None if too few other units are left."""
    free, mask = ~targets, np.zeros(targets.size, bool)
    for unit in rng.permutation(np.flatnonzero(targets)):
        pool = np.flatnonzero(free & (layer == layer[unit]))
        if not pool.size:
            return None
        distance = ((scaled[pool] - scaled[unit]) ** 2).sum(1)
        near = np.argpartition(distance, min(NEAREST, pool.size) - 1)[:NEAREST]
        control = pool[rng.choice(near)]
        free[control], mask[control] = False, True
    return mask


def imbalance(targets: Bools, controls: Bools, covariates: Floats) -> Floats:
    """Difference of the means, targets minus controls, in standard deviations over all units."""
    scaled = standardised(covariates)
    return scaled[targets].mean(0) - scaled[controls].mean(0)


def standardised(covariates: Floats) -> Floats:
    """Covariates divided by their standard deviation over all units (1 if constant)."""
    spread = covariates.std(axis=0)
    return covariates / np.where(spread > 0, spread, 1)
