"""Memory errors, or any score, against the share of units lesioned, beside controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.interventions.ablation_plan import (
    CONTROLS,
    Plan,
    check_controls,
    check_fractions,
    layer_names,
    make_plan,
)
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.control_units import Order, name_of
from placeformer.interventions.lesions import default_reference, lesioned, replacements
from placeformer.interventions.replacement import How, Reference, Replacement, check_how
from placeformer.interventions.units import Site, layer_widths, sites, unused
from placeformer.models.memory import KINDS, MEMORIES, counted_steps, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.navigation import facts
from placeformer.recording.record import record
from placeformer.spatial.negatives import Negatives
from placeformer.stats.resampling import by_cluster, compare

Score = Callable[[Any], ArrayLike]
SETS, GAP, AREA = ("selection", "fraction"), ("control", "fraction"), ("control",)
ABOUT: dict[str, tuple[tuple[str, ...], str, str]] = {
    "error": ((*SETS, "repeat"), "1", "share of wrong predictions"),
    "interval": ((*SETS, "bound"), "1", "95 % bootstrap interval of the mean over repeats"),
    "difference": (GAP, "1", "ordered less control, means over repeats"),
    "difference_interval": ((*GAP, "bound"), "1", "95 % paired bootstrap interval of difference"),
    "p_sets": (GAP, "1", "(1 + control sets that reach the ordered error) / (1 + repeats)"),
    "p_pairs": (GAP, "1", "(1 + sign flips that reach the difference) / (1 + n_resamples)"),
    "area": (AREA, "1", "mean difference over fractions"),
    "area_interval": ((*AREA, "bound"), "1", "95 % paired bootstrap interval of area"),
    "area_p_sets": (AREA, "1", "p_sets of the mean over fractions"),
    "area_p_pairs": (AREA, "1", "p_pairs of the mean over fractions"),
}
"""Dimensions, units and long name of every statistic."""

WRONG = {"units": "1", "long_name": "wrong predictions"}
COUNTED = {"units": "1", "long_name": "predictions counted"}
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
            f"call, got shape {shapes}"
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


RECORDED_WALKS, RECORDED_STEPS = 128, 512
"""Walks, and steps in each, that order the units and replace them where no reference is given."""


def ablation_curve(
    model: nn.Module,
    order: Order = "place_cell_score",
    *,
    fractions: ArrayLike | None = None,
    repeats: int = 20,
    layers: str | Sequence[str] = "ffn.*",
    keep: bool = False,
    how: How = "mean",
    controls: Sequence[str] = CONTROLS,
    caliper: float = 0.25,
    negatives: Negatives = "rectify",
    reference: Reference = None,
    scores: Score | Mapping[str, Score] | None = None,
    maps: Sequence[int] | None = None,
    n_walks: int = 32,
    n_steps: int = 2048,
    where: str = "chunk_end",
    cluster: str = "walk",
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Lesion growing shares of the units in an order, and random and matched units beside them.

    Every set of units is scored on the same walks, so that all comparisons are paired.

    Parameters
    ----------
    model
        A navigation Transformer with its world, whose working- and reference-memory errors on
        trained and on novel maps are counted, or any other network, which needs `scores`.
    order
        What units are ordered by, the greatest first: ``"place_cell_score"``,
        ``"spatial_information"`` (both per map, then averaged over the recorded maps),
        ``"variance"`` (explained by place within maps, η²), ``"activity"`` (mean absolute
        activation), ``"output_weight"`` (norm of the weights that read the unit), ``"random"``,
        or a score of every unit: an array in the order of `layers`, or a DataArray with the
        coordinates ``layer`` and ``index``, which figures call by its name. Equal scores are put
        in random order, anew in every repeat; NaN come last. A boolean score, or the table of
        :func:`place_cells`, chooses units: all of them are lesioned, beside as many controls.
    fractions
        Shares of the units that are lesioned, ascending, 0 to 1; by default 0, 0.05, …, 1, and of
        chosen units 0 and their share of all. Less than this share is drawn among them.
    repeats
        Draws of every control. The least ``p_sets`` is 1 / (repeats + 1).
    layers
        Feed-forward layers, by name or pattern, whose units are ordered and lesioned jointly;
        for other networks modules that the reference holds.
    keep
        The reverse: keep the chosen units and lesion all others of the layers.
    how
        Of the lesion, see :func:`ablate`.
    controls
        ``"random"``: as many units drawn from all of the layers. ``"matched"``: as many other
        units, each drawn among the five units of the same layer that are nearest to an ordered
        one in mean absolute activation and output-weight norm (other networks: in activation).
    caliper
        Matched sets count if the difference of the means of each covariate is within so many
        standard deviations of all units; a fraction where not every repeat has one is NaN.
    negatives
        Policy for negative rates of the score and of the information.
    reference
        Recordings that order the units and replace the lesioned ones, see :func:`ablate`. By
        default 128 walks of 512 steps over `maps` with the seed after `seed`: other walks than
        those that are scored.
    scores
        Other abilities, by name: functions of the lesioned network that give a number, or one
        for each of several trials, the same ones at every call, which are then paired. A score
        is a cost: greater is worse. They are called once for every set of units.
    maps
        Map indices to walk on, of trained and of novel maps; by default all.
    n_walks, n_steps, where
        Walks that are scored and which of their predictions, see :func:`memory_errors`:
        ``"chunk_end"``, as in the cards of the zoo, or ``"every_step"``.
    cluster
        What is drawn in the bootstrap and whose signs are flipped: ``"walk"``, or ``"map"`` with
        all its walks, which also covers the choice of maps.
    n_resamples
        Bootstrap samples, and sign flips.
    seed
        Of walks, e₀, controls and bootstrap.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims ``maps`` (trained, novel), ``memory``, ``selection`` (ordered, random, matched),
        ``control``, ``fraction``, ``repeat``, ``walk``, ``bound``:

        - `error` (maps, memory, selection, fraction, repeat), `wrong` (…, walk) and `n` (maps,
          memory, walk): the counts behind it;
        - `interval` (maps, memory, selection, fraction, bound): 95 % bootstrap interval of the
          mean error over repeats; clusters and repeats are drawn, clusters alike for every set;
        - `difference`, `difference_interval` (maps, memory, control, fraction): ordered less
          control, paired;
        - `p_sets`: (1 + k) / (1 + repeats), k being the control sets whose error reaches that of
          the ordered units: are these units special among such units?
        - `p_pairs`: (1 + k) / (1 + n_resamples), k being the random flips of the signs of the
          differences of all clusters whose sum reaches the observed one: would it be so on other
          walks? Both are one-sided: ordered units cost more, with `keep` less;
        - `area`, `area_interval`, `area_p_sets`, `area_p_pairs` (maps, memory, control): the same
          of the mean over all fractions that lesion some units and not all: one test a curve;
        - `balance` (fraction, repeat, covariate): means of ordered less matched units in
          standard deviations of all units; `order_score` (unit);
        - with `scores`: `score`, `score_interval`, … (measure, …), as above.

    Raises
    ------
    ValueError
        A fraction outside 0–1, unknown layers, orders or controls, no memory measures and no
        `scores`, too few units for matched controls.

    Examples
    --------
    >>> curve = pf.ablation_curve(model, layers="ffn.1", repeats=10)  # doctest: +SKIP
    >>> curve.area.sel(maps="trained", memory="reference", control="matched")  # doctest: +SKIP
    """
    shares = check_fractions(fractions)
    check_how(how)
    check_controls(controls, repeats)
    check_scored(model, scores, n_steps, where, cluster)
    names = layer_names(model, layers, reference)
    if reference is None:
        reference = reference_of(model, names, maps, seed + 1)
    plan = make_plan(
        model, names, reference, order, shares, keep=keep, negatives=negatives,
        controls=controls, caliper=caliper, repeats=repeats, seed=seed,
    )  # fmt: skip
    ask: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    fill, parts = replacements(model, names, how, reference=reference, seed=seed), []
    if isinstance(model, NavigationTransformer):
        walks = {"n_walks": n_walks, "n_steps": n_steps, "seed": seed, "maps": maps}
        parts.append(memory_part(model, plan, fill, walks, where, cluster, progress, ask))
    if scores is not None:
        named = dict(scores) if isinstance(scores, Mapping) else {"score": scores}
        parts.append(score_part(model, plan, fill, named, progress, ask))
    result = xr.merge([plan_part(plan), *parts], combine_attrs="override")
    settings: dict[str, Any] = {
        "order": "chosen" if plan.decided else name_of(order),
        "negatives": negatives, "layers": " ".join(names), "keep": int(keep), "how": how,
        "caliper": caliper, "repeats": repeats, "n_resamples": n_resamples, "seed": seed,
        "n_walks": n_walks, "n_steps": n_steps, "where": where, "cluster": cluster,
        "maps_walked": "all" if maps is None else " ".join(map(str, maps)),
        "alternative": f"ordered units cost {'less' if keep else 'more'}",
    }  # fmt: skip
    network = {}
    if isinstance(model, NavigationTransformer):
        network, settings["chance"] = facts(model), 1 - 1 / world_of(model).n_letters
    about = schema.provenance(None, "ablation_curve", network=network, **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def check_scored(model: nn.Module, scores: object, n_steps: int, where: str, cluster: str) -> None:
    """Refuse a network that nothing can be scored on, and walks that cannot be counted."""
    if cluster not in ("walk", "map"):
        raise ValueError(f'cluster must be "walk" or "map", got {cluster!r}')
    if isinstance(model, NavigationTransformer):
        world_of(model)
        counted_steps(n_steps, model.config, where)
    elif scores is None:
        raise ValueError(
            f"scores must be a function of the lesioned network for a {type(model).__name__}, "
            "which has no memory errors to count, got None"
        )


def reference_of(
    model: nn.Module, layers: Sequence[str], maps: Sequence[int] | None, seed: int
) -> list[xr.Dataset]:
    """Record the layers, and what the letter stream has of them, on walks that are not scored."""
    where = [site for layer in layers for site in sites(model, layer)]
    names = [site.name for site in where if not unused(model, site)]
    size = {"n_walks": RECORDED_WALKS, "n_steps": RECORDED_STEPS}
    return default_reference(model, names, seed, maps=maps, **size)


def novel_working_memory(
    *, n_walks: int = 32, n_steps: int = 256, where: str = "every_step", seed: int = 0
) -> Callable[[NavigationTransformer], NDArray[np.float64]]:
    """Working-memory error on novel maps, an ability that needs nothing of the trained maps.

    Parameters
    ----------
    n_walks, n_steps, seed
        Walks on novel maps.
    where
        Which predictions of places within the attended window are counted, see
        :func:`memory_errors`. At the ends of chunks a short walk may have none, and NaN.

    Returns
    -------
    callable
        From a network to the error of every walk (walk,), 0 to 1: for the `scores` of
        :func:`ablation_curve`, paired over walks.
    """

    def score(model: NavigationTransformer) -> NDArray[np.float64]:
        walk = world_of(model).walk(n_walks, n_steps, seed=seed, familiar=False)
        wrong, n = count_errors(model, walk, seed=seed, where=where)
        which = MEMORIES.index("working")
        counted, missed = n[:, which], wrong[0, :, which]
        return np.divide(missed, counted, out=np.full(counted.shape, np.nan), where=counted > 0)

    return score


def recorded_score(
    analyse: Callable[[xr.Dataset], ArrayLike], **settings: Any
) -> Callable[[NavigationTransformer], ArrayLike]:
    """Score a network by an analysis of its recording, such as decoding its position.

    Parameters
    ----------
    analyse
        From a Recording to a cost (greater is worse): a number, or one for each of the same
        trials, such as walks.
    settings
        Of :func:`record`: `layers`, `n_walks`, `seed`, …

    Returns
    -------
    callable
        For the `scores` of :func:`ablation_curve`; the recording is made under the lesion.
    """
    return lambda model: analyse(record(model, **({"progress": False} | settings)))
