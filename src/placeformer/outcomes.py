"""What the lesions of a plan cost: memory errors and other abilities, labelled and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm.auto import tqdm

from placeformer import schema
from placeformer.ablation import lesioned
from placeformer.branches import count_errors
from placeformer.lesionplan import Plan
from placeformer.memory import KINDS, MEMORIES, world_of
from placeformer.model import NavigationTransformer
from placeformer.pairing import by_cluster, compare
from placeformer.replacement import Replacement
from placeformer.sites import Site, layer_widths

Score = Callable[[Any], ArrayLike]
SETS, GAP, AREA = ("selection", "fraction"), ("control", "fraction"), ("control",)
ABOUT: dict[str, tuple[tuple[str, ...], str, str]] = {
    "error": ((*SETS, "repeat"), "1", "share of wrong predictions"),
    "interval": ((*SETS, "bound"), "1", "95 % bootstrap interval of the mean over repeats"),
    "difference": (GAP, "1", "ordered less control, means over repeats"),
    "difference_interval": ((*GAP, "bound"), "1", "95 % paired bootstrap interval of difference"),
    "p_sets": (GAP, "1", "(1 + control sets that reach the ordered error) / (1 + repeats)"),
    "p_pairs": (GAP, "1", "(1 + sign flips that reach the difference) / (1 + n_boot)"),
    "area": (AREA, "1", "mean difference over fractions"),
    "area_interval": ((*AREA, "bound"), "1", "95 % paired bootstrap interval of area"),
    "area_p_sets": (AREA, "1", "p_sets of the mean over fractions"),
    "area_p_pairs": (AREA, "1", "p_pairs of the mean over fractions"),
}
"""Dimensions, units and long name of every statistic."""

WRONG = {"units": "predictions", "long_name": "wrong predictions"}
COUNTED = {"units": "predictions", "long_name": "predictions counted"}
NEW_DIM: dict[str, Any] = {
    "data_vars": "all",
    "coords": "minimal",
    "compat": "override",
    "join": "exact",
}


def plan_part(plan: Plan) -> xr.Dataset:
    """What was lesioned, and how well the controls are matched."""
    balance = {"units": "1", "long_name": "ordered less matched units, standard deviations"}
    score = {"units": "1", "long_name": "score by which units are ordered"}
    return xr.Dataset(
        {
            "balance": (("fraction", "repeat", "covariate"), plan.balance, balance),
            "order_score": (schema.UNIT, plan.score, score),
        },
        plan.coords(),
    )


def memory_part(
    model: NavigationTransformer,
    plan: Plan,
    fill: Sequence[tuple[Site, Replacement]],
    walks: Mapping[str, Any],
    where: str,
    cluster: str,
    progress: bool,
    ask: Mapping[str, Any],
) -> xr.Dataset:
    """Errors of both memories on both kinds of maps, with their comparisons."""
    masks, world = plan.by_layer(layer_widths(model, None)), world_of(model)
    steps = len(KINDS) * walks["n_walks"] * walks["n_steps"] * len(plan.masks)
    found = []
    with tqdm(total=steps, unit="step", desc="lesions", disable=not progress) as bar:
        for kind in KINDS:
            walk = world.walk(**walks, familiar=kind == "trained")
            options = {"masks": masks, "replacements": fill, "bar": bar}
            wrong, n = count_errors(model, walk, seed=walks["seed"], where=where, **options)
            pair = np.arange(len(n)) if cluster == "walk" else walk["map"].values
            each = [compared(wrong[..., i], n[..., i], plan, pair, ask) for i in range(2)]
            found.append(xr.concat(each, "memory", **NEW_DIM))
    return xr.concat(found, "maps", **NEW_DIM).assign_coords(
        memory=list(MEMORIES), maps=list(KINDS)
    )


def score_part(
    model: nn.Module,
    plan: Plan,
    fill: Sequence[tuple[Site, Replacement]],
    scores: Mapping[str, Score],
    progress: bool,
    ask: Mapping[str, Any],
) -> xr.Dataset:
    """Score other abilities under every lesion, one after the other."""
    values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in scores}
    for mask in tqdm(plan.masks, desc="scores", unit="lesion", disable=not progress):
        with lesioned(model, plan.chosen(mask), fill):
            for name, score in scores.items():
                values[name].append(trials(name, score(model), values[name]))
    found = []
    for rows in values.values():
        ones, pair = np.ones(rows[0].size), np.arange(rows[0].size)
        found.append(compared(np.stack(rows), ones, plan, pair, ask).drop_vars(["wrong", "n"]))
    result = xr.concat(found, "measure", **NEW_DIM)
    result["error"].attrs["long_name"] = "score"
    renamed = {"error": "score"} | {name: f"score_{name}" for name in ABOUT if name != "error"}
    return result.rename(renamed).assign_coords(measure=list(scores))


def trials(
    name: str, value: ArrayLike, before: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Values (trial,) of a score; refuse others than those that came before."""
    found = np.atleast_1d(np.asarray(value, float))
    if found.ndim > 1 or (before and before[0].shape != found.shape):
        shapes = f"{found.shape}" + (f" after {before[0].shape}" if before else "")
        raise ValueError(
            f"scores[{name!r}] must give a number, or one for each of the same trials, at every "
            f"call, found shape {shapes}"
        )
    return found


def compared(
    wrong: NDArray[Any],
    n: NDArray[Any],
    plan: Plan,
    pair: NDArray[np.integer],
    ask: Mapping[str, Any],
) -> xr.Dataset:
    """Label the comparison of one measure, from counts (lesion, walk) and (walk,)."""
    by_set = np.where(plan.drawn[:, :, None, None], wrong[plan.which], np.nan)
    grouped = by_cluster(by_set, pair), by_cluster(n, pair)
    result = compare(*grouped, plan.inside, sign=-1 if plan.keep else 1, **ask)
    variables = {
        name: (dims, getattr(result, name), {"units": units, "long_name": long})
        for name, (dims, units, long) in ABOUT.items()
    }
    return xr.Dataset(variables).assign(
        wrong=(("selection", "fraction", "repeat", "walk"), by_set, WRONG),
        n=("walk", n, COUNTED),
    )
