"""Memory errors, or any score, as a function of the share of units lesioned, with controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.ablation_comparison import CONCAT, compare
from placeformer.interventions.ablation_plan import (
    CONTROLS,
    check_controls,
    check_fractions,
    draw_plan,
    layer_names,
    lesioned_units,
    masks_by_layer,
    recorded_units,
)
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.control_units import Order
from placeformer.interventions.lesions import default_reference, lesioned, replacements
from placeformer.interventions.replacement import How, Reference, Replacement, check_how
from placeformer.interventions.units import Site, layer_widths, sites, unused
from placeformer.models.memory import KINDS, MEMORIES, counted_steps, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.navigation import facts
from placeformer.recording.record import record
from placeformer.spatial.binning import Bins
from placeformer.spatial.negatives import Negatives

Score = Callable[[Any], ArrayLike]
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
    bins: Bins = None,
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
    """Lesion growing shares of the units in an order, and as many random and matched units.

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
        :func:`place_cells`, chooses units: all of them are lesioned, and as many controls.
    fractions
        Shares of the units that are lesioned, ascending, 0 to 1; by default 0, 0.05, …, 1, and of
        chosen units 0 and their share of all. Smaller sets are drawn among the chosen units.
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
    bins
        Bins of place of the order, and of ``how="position"``, see :func:`rate_maps`; needed where
        the reference is of a continuous arena.
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
        Random seed of walks, e₀, controls and bootstrap.
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
          mean error over repeats; clusters and repeats are resampled, the same clusters for every
          set;
        - `difference`, `difference_interval` (maps, memory, control, fraction): ordered less
          control, paired;
        - `p_sets`: (1 + k) / (1 + repeats), k being the control sets whose error reaches that of
          the ordered units: p over sets of units;
        - `p_pairs`: (1 + k) / (1 + n_resamples), k being the random flips of the signs of the
          differences of all clusters whose sum reaches the observed one: p over walks. Both are
          one-sided: ordered units cost more, with `keep` less;
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
    plan = draw_plan(
        model, recorded_units(names, reference), order, shares, keep=keep, negatives=negatives,
        controls=controls, caliper=caliper, repeats=repeats, seed=seed, bins=bins,
    )  # fmt: skip
    fill = replacements(model, names, how, reference=reference, bins=bins, seed=seed)
    parts = [plan[["balance", "order_score"]]]
    resampling: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    if isinstance(model, NavigationTransformer):
        counts = count_lesion_errors(
            model, plan, fill, n_walks=n_walks, n_steps=n_steps, maps=maps, seed=seed, where=where,
            cluster=cluster, progress=progress,
        )  # fmt: skip
        parts.append(compare(counts, plan, **resampling))
    if scores is not None:
        named = dict(scores) if isinstance(scores, Mapping) else {"score": scores}
        scored = score_lesions(model, plan, fill, named, progress)
        parts.append(compare_scores(scored, plan, **resampling))
    result = xr.merge(parts, combine_attrs="override")
    settings: dict[str, Any] = {
        **plan.attrs, "negatives": negatives, "layers": " ".join(names), "how": how,
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


def count_lesion_errors(
    model: NavigationTransformer,
    plan: xr.Dataset,
    fill: Sequence[tuple[Site, Replacement]],
    *,
    n_walks: int,
    n_steps: int,
    maps: Sequence[int] | None,
    seed: int,
    where: str,
    cluster: str,
    progress: bool,
) -> xr.Dataset:
    """Count the errors of both memories on both kinds of maps under every lesion of a plan.

    Returns
    -------
    xarray.Dataset
        ``wrong`` (maps, memory, lesion, walk) and ``n`` (maps, memory, walk), wrong predictions
        and all of them, and ``cluster`` (maps, walk), the walk or the map that a walk belongs to.
    """
    masks, world = masks_by_layer(plan, layer_widths(model, None)), world_of(model)
    steps = len(KINDS) * n_walks * n_steps * plan.sizes["lesion"]
    counts = []
    with tqdm(total=steps, unit="step", desc="lesions", disable=not progress) as bar:
        for kind in KINDS:
            walk = world.walk(n_walks, n_steps, seed=seed, maps=maps, familiar=kind == "trained")
            wrong, n = count_errors(
                model, walk, seed=seed, where=where, masks=masks, replacements=fill, bar=bar
            )
            clusters = np.arange(n_walks) if cluster == "walk" else walk["map"].values
            variables = {
                "wrong": variable(("lesion", "walk", "memory"), wrong, "wrong predictions"),
                "n": variable(("walk", "memory"), n, "predictions counted"),
                "cluster": ("walk", clusters),
            }
            counts.append(xr.Dataset(variables, {"memory": list(MEMORIES)}))
    return xr.concat(counts, xr.Variable("maps", list(KINDS)), join="exact").transpose(
        "maps", "memory", "lesion", "walk"
    )


def score_lesions(
    model: nn.Module,
    plan: xr.Dataset,
    fill: Sequence[tuple[Site, Replacement]],
    scores: Mapping[str, Score],
    progress: bool,
) -> dict[str, xr.Dataset]:
    """Score a network under every lesion of a plan, one lesion after the other.

    Returns
    -------
    dict
        By score: ``wrong`` (lesion, walk), the value of every trial, which takes the place of a
        walk; ``n`` (walk,), 1 each; and ``cluster`` (walk,). Scores differ in their trials.
    """
    values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in scores}
    lesions = range(plan.sizes["lesion"])
    for lesion in tqdm(lesions, desc="scores", unit="lesion", disable=not progress):
        with lesioned(model, lesioned_units(plan, lesion), fill):
            for name, score in scores.items():
                values[name].append(trials(name, score(model), values[name]))
    return {
        name: xr.Dataset(
            {
                "wrong": (("lesion", "walk"), np.stack(rows)),
                "n": ("walk", np.ones(rows[0].size)),
                "cluster": ("walk", np.arange(rows[0].size)),
            }
        )
        for name, rows in values.items()
    }


def trials(
    name: str, value: ArrayLike, before: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return a score's value per trial; raise if the number of trials changes between calls."""
    values = np.atleast_1d(np.asarray(value, float))
    if values.ndim > 1 or (before and before[0].shape != values.shape):
        shapes = f"{values.shape}" + (f" after {before[0].shape}" if before else "")
        raise ValueError(
            f"scores[{name!r}] must give a number, or one for each of the same trials, at every "
            f"call, got shape {shapes}"
        )
    return values


def compare_scores(
    scores: Mapping[str, xr.Dataset], plan: xr.Dataset, **options: Any
) -> xr.Dataset:
    """Compare every score: ``score``, ``score_interval``, ... over a dimension ``measure``."""
    compared = [
        compare(score, plan, **options).drop_vars(["wrong", "n"]) for score in scores.values()
    ]
    result = xr.concat(compared, xr.Variable("measure", list(scores)), **CONCAT)
    result["error"].attrs["long_name"] = "score"
    return result.rename({name: f"score_{name}" for name in result.data_vars}).rename(
        score_error="score"
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
