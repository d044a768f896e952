"""Memory errors, or any score, against the fraction of units lesioned, with controls."""

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
    EXACT,
    check_controls,
    check_fractions,
    draw_plan,
    layer_names,
    lesioned_units,
    masks_by_layer,
    recorded_units,
)
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.changes import (
    REPLACEMENTS,
    Change,
    Function,
    check_dose,
    check_kind,
    name_of,
)
from placeformer.interventions.control_units import Order
from placeformer.interventions.doses import Score, named_scores, trials
from placeformer.interventions.lesions import default_reference, lesioned, replacements
from placeformer.interventions.replacement import Reference
from placeformer.interventions.units import Site, layer_widths, sites, unused
from placeformer.models.memory import KINDS, MEMORIES, counted_steps, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.navigation import facts
from placeformer.recording.network_state import original
from placeformer.recording.record import record
from placeformer.spatial.binning import Bins
from placeformer.spatial.negatives import Negatives

RECORDED_WALKS, RECORDED_STEPS = 128, 512
"""Default reference: number of walks, and number of steps in each."""


def ablation_curve(
    model: nn.Module,
    order: Order = "place_cell_score",
    *,
    fractions: ArrayLike | None = None,
    repeats: int = 20,
    layers: str | Sequence[str] = "ffn.*",
    keep: bool = False,
    how: str | Function = "mean",
    dose: float | None = None,
    controls: Sequence[str] = EXACT,
    caliper: float = 0.25,
    negatives: Negatives = "rectify",
    reference: Reference = None,
    bins: Bins = None,
    scores: Score | Mapping[str, Score] | None = None,
    score: Score | Mapping[str, Score] | None = None,
    maps: Sequence[int] | None = None,
    n_walks: int = 32,
    n_steps: int = 2048,
    where: str = "chunk_end",
    cluster: str = "walk",
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Lesion increasing fractions of the units in an order, and equally many control units.

    The controls are random units, units exchanged with the lesioned ones among those that are
    alike, and units matched to them. Every set of units is scored on the same walks, so that all
    comparisons are paired.

    Parameters
    ----------
    model
        A navigation Transformer with a world, whose working- and reference-memory errors are
        counted on trained and on novel maps; or any other network, which needs `scores`.
    order
        Score that orders the units, the highest first: ``"place_cell_score"``,
        ``"spatial_information"`` (both per map, then averaged over the recorded maps),
        ``"variance"`` (explained by place within maps, η²), ``"activity"`` (mean absolute
        activation), ``"output_weight"`` (norm of the weights that read the unit) or ``"random"``.
        Or a score of every unit: an array in the order of the units of `layers`, or a DataArray
        that is aligned by its labels ``unit`` or by ``layer`` and ``index``, and whose name
        figures show. Ties are broken at random in every repeat; NaN come last. A boolean score, or
        the table of :func:`place_cells`, chooses units: all of them are lesioned, and as many
        controls.
    fractions
        Fractions of the units that are lesioned, ascending, 0 to 1. The default is 0, 0.05, …, 1;
        for chosen units, 0 and their fraction. Smaller sets are drawn at random from the chosen
        units.
    repeats
        Number of draws of every control. The smallest possible `p_sets` is 1 / (repeats + 1).
    layers
        Names or patterns of feed-forward layers, whose units are ordered and lesioned jointly;
        for other networks, of modules in the reference.
    keep
        Keep the units of a set and lesion all others of the layers.
    how, dose
        Kind of lesion, see :func:`ablate`; or another perturbation of the units with its dose, such
        as "gain" and 0.5, see :func:`perturb`.
    controls
        ``"random"``: equally many units drawn from all units of the layers, the ordered ones
        included. ``"stratified"``: each ordered unit is exchanged at random among the units of its
        stratum, the ordered ones included. A stratum has about 16 units of one layer that move the
        logits similarly and are similarly active: the layer is divided into quantiles of the
        expected squared change of the logits when the unit alone is lesioned (by the direct path to
        the read-out), and these into quantiles of the mean absolute activation. For other networks,
        whose read-out is not known, only the activation is used; ``attrs["stratified_by"]`` names
        what was used. ``"matched"``: equally many other units, each drawn from the five units of
        the same layer that are nearest to an ordered unit in mean absolute activation and
        output-weight norm (other networks: in activation alone). They are descriptive, without
        `p_sets`, as the ordered units are never among them.
    caliper
        Largest accepted difference between the means of ordered and matched units, for each
        covariate, in standard deviations over all units. Results are NaN at a fraction where some
        repeat has no such matched set.
    negatives
        Policy for negative rates of the place-cell score and the spatial information.
    reference
        Recordings that order the units and replace the lesioned ones, see :func:`ablate`. By
        default 128 walks of 512 steps over `maps` with the seed ``seed + 1``, so that they differ
        from the walks that are scored.
    bins
        Bins of place for the order and for ``how="position"``, see :func:`rate_maps`; required if
        the reference was recorded in a continuous arena.
    scores, score
        Further scores by name: functions of the lesioned network that return a number, or one
        number for each of the same trials at every call, which are then paired. A score is a cost:
        higher is worse. Every function is called once per set of units, with the network in eval
        mode and without gradients. `score` is another name for `scores`.
    maps
        Indices of the trained and novel maps to walk on; by default all.
    n_walks, n_steps, where
        Walks that are scored, and which of their predictions are counted, see
        :func:`memory_errors`: ``"chunk_end"``, as in the cards of the zoo, or ``"every_step"``.
    cluster
        Unit of the bootstrap and of the sign flips: ``"walk"``, or ``"map"`` with all its walks,
        which also accounts for the choice of maps.
    n_resamples
        Number of bootstrap samples, and of sign flips.
    seed
        Random seed of walks, e₀, controls and bootstrap.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims ``maps`` (trained, novel), ``memory``, ``selection`` ("ordered" and the controls),
        ``control``, ``fraction``, ``repeat``, ``walk``, ``bound``:

        - `error` (maps, memory, selection, fraction, repeat), `wrong` (…, walk) and `n` (maps,
          memory, walk): the counts behind it;
        - `interval` (maps, memory, selection, fraction, bound): 95 % interval of the mean error
          over repeats, as in :func:`memory_errors`, with the variance between sets added;
        - `difference`, `difference_interval` (maps, memory, control, fraction): ordered minus
          control, paired; its interval is a bootstrap interval, for which clusters and repeats are
          resampled, with the same clusters for every set. It holds for these ordered units on
          other walks, and says nothing about other units;
        - `p_sets`: p over sets of units, (1 + k) / (1 + repeats), where k is the number of control
          sets whose error is at least that of the ordered units. It is exact for random and for
          stratified controls: if the scores have no more to do with the error than chance, within
          strata, the ordered set is one more draw (with scores that are equal, its mean over
          repeats is compared, which is conservative). NaN for matched controls;
        - `p_pairs`: p over walks, (1 + k) / (1 + n_resamples), where k is the number of random
          sign flips of the clusters' differences whose sum is at least the observed one. Both p are
          one-sided: ordered units cost more (with `keep`, less);
        - `area`, `area_interval`, `area_p_sets`, `area_p_pairs` (maps, memory, control): the same
          for the mean over all fractions that lesion some of the units and not all, which gives
          one test per curve;
        - `logit_change` (selection, fraction, repeat): expected squared change of the logits when
          the whole set is lesioned by its means (by the direct path; NaN for other networks), in
          which controls should equal the ordered units; `overlap` (selection, fraction, repeat):
          fraction of the ordered units that are in a set;
        - `balance` (fraction, repeat, covariate): mean of the ordered minus mean of the matched
          units, in standard deviations over all units; `order_score` (unit);
        - with `scores`: `score`, `score_interval` (bootstrap), … (measure, …), as above.

    Raises
    ------
    ValueError
        A fraction outside 0–1; unknown layers, orders or controls; a network without memory errors
        and no `scores`; too few units for matched controls.

    See Also
    --------
    ablate : One lesion.
    novel_working_memory, recorded_score : Further scores for `scores`.
    equivalent_curve : The test-time α that costs as much as each lesion.
    plot.ablation : Draw the curve.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, layers="ffn.1", n_walks=4, n_steps=64, progress=False)
    >>> curve = pf.ablation_curve(
    ...     model, "activity", fractions=[0, 0.2, 1], repeats=2, layers="ffn.1",
    ...     controls=["random"], reference=recording, n_walks=4, n_steps=128, n_resamples=50,
    ...     progress=False,
    ... )
    >>> dict(curve.error.sel(maps="trained", memory="reference").sizes)
    {'selection': 2, 'fraction': 3, 'repeat': 2}
    """
    model = original(model)
    shares = check_fractions(fractions)
    amount = check_dose(check_kind(how), dose)
    check_controls(controls, repeats, seed, keep=keep, caliper=caliper)
    if scores is not None and score is not None:
        raise ValueError("at most one of scores and score, its other name, may be given, got both")
    scores = score if scores is None else scores
    check_scored(model, scores, n_steps, where, cluster)
    names = layer_names(model, layers, reference)
    if reference is None:
        reference = reference_of(model, names, maps, seed + 1)
    plan = draw_plan(
        model, recorded_units(names, reference), order, shares, keep=keep, negatives=negatives,
        controls=controls, caliper=caliper, repeats=repeats, seed=seed, bins=bins,
    )  # fmt: skip
    fill = replacements(model, names, how, amount, reference=reference, bins=bins, seed=seed)
    parts = [plan[["balance", "logit_change", "overlap", "order_score"]]]
    resampling: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    if isinstance(model, NavigationTransformer):
        counts = count_lesion_errors(
            model, plan, fill, n_walks=n_walks, n_steps=n_steps, maps=maps, seed=seed, where=where,
            cluster=cluster, progress=progress,
        )  # fmt: skip
        parts.append(compare(counts, plan, **resampling))
    if scores is not None:
        scored = score_lesions(model, plan, fill, named_scores(scores), progress)
        parts.append(compare_scores(scored, plan, **resampling))
    result = xr.merge(parts, combine_attrs="override")
    settings: dict[str, Any] = {
        **plan.attrs, "negatives": negatives, "layers": " ".join(names), "how": name_of(how),
        "caliper": caliper, "repeats": repeats, "n_resamples": n_resamples, "seed": seed,
        "n_walks": n_walks, "n_steps": n_steps, "where": where, "cluster": cluster,
        "maps_walked": "all" if maps is None else " ".join(map(str, maps)),
        "alternative": f"ordered units cost {'less' if keep else 'more'}",
    }  # fmt: skip
    if isinstance(amount, float) and not (how in REPLACEMENTS and amount == 1):
        settings["dose"] = amount
    network = {}
    if isinstance(model, NavigationTransformer):
        network, settings["chance"] = facts(model), 1 - 1 / world_of(model).n_letters
    about = schema.provenance(None, "ablation_curve", network=network, **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def check_scored(model: nn.Module, scores: object, n_steps: int, where: str, cluster: str) -> None:
    """Raise for a network that cannot be scored, and for walks that cannot be counted."""
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
    fill: Sequence[tuple[Site, Change]],
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
        ``wrong`` (maps, memory, lesion, walk), the number of wrong predictions; ``n`` (maps,
        memory, walk), the number of all predictions; and ``cluster`` (maps, walk), the number of
        the walk or of its map.
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
    fill: Sequence[tuple[Site, Change]],
    scores: Mapping[str, Score],
    progress: bool,
) -> dict[str, xr.Dataset]:
    """Score a network under every lesion of a plan, one lesion after the other.

    Returns
    -------
    dict
        By score: ``wrong`` (lesion, walk), the value of every trial, where trials replace walks;
        ``n`` (walk,), all 1; and ``cluster`` (walk,). Scores may differ in their trials.
    """
    values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in scores}
    lesions = range(plan.sizes["lesion"])
    for lesion in tqdm(lesions, desc="scores", unit="lesion", disable=not progress):
        with lesioned(model, lesioned_units(plan, lesion), fill):
            for name, score in scores.items():
                values[name].append(trials(name, score, model, values[name]))
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


def compare_scores(
    scores: Mapping[str, xr.Dataset], plan: xr.Dataset, **options: Any
) -> xr.Dataset:
    """Compare every score: ``score``, ``score_interval``, ... over a dimension ``measure``."""
    compared = [
        compare(score, plan, shares=False, **options).drop_vars(["wrong", "n"])
        for score in scores.values()
    ]
    result = xr.concat(compared, xr.Variable("measure", list(scores)), **CONCAT)
    result["error"].attrs["long_name"] = "score"
    return result.rename({name: f"score_{name}" for name in result.data_vars}).rename(
        score_error="score"
    )


def reference_of(
    model: nn.Module, layers: Sequence[str], maps: Sequence[int] | None, seed: int
) -> list[xr.Dataset]:
    """Record the layers, in every stream that predictions need, on walks that are not scored."""
    where = [site for layer in layers for site in sites(model, layer)]
    names = [site.name for site in where if not unused(model, site)]
    size = {"n_walks": RECORDED_WALKS, "n_steps": RECORDED_STEPS}
    return default_reference(model, names, seed, maps=maps, **size)


def novel_working_memory(
    *, n_walks: int = 32, n_steps: int = 256, where: str = "every_step", seed: int = 0
) -> Callable[[NavigationTransformer], NDArray[np.float64]]:
    """Return a function that scores the working-memory error on novel maps.

    This ability does not depend on the trained maps.

    Parameters
    ----------
    n_walks, n_steps, seed
        Number of walks on novel maps, number of steps in each, and their random seed.
    where
        Which predictions of places within the attended window are counted, see
        :func:`memory_errors`. With "chunk_end" a short walk may have none; its error is then NaN.

    Returns
    -------
    callable
        Takes a network and returns the error of every walk (walk,), 0 to 1. Passed as one of the
        `scores` of :func:`ablation_curve`, it is paired over walks.

    See Also
    --------
    ablation_curve : Takes the function as one of its `scores`.
    recorded_score : Score a network by an analysis of its recording.
    memory_errors : Both memory errors of a network.

    Examples
    --------
    >>> import placeformer as pf
    >>> score = pf.novel_working_memory(n_walks=4, n_steps=64)
    >>> score(pf.load("mini-nmda-a10")).shape
    (4,)
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
    """Return a function that scores a network by an analysis of its recording.

    The analysis may, for example, decode position.

    Parameters
    ----------
    analyse
        Takes a Recording and returns a cost (higher is worse): a number, or one number for each
        of the same trials, such as walks.
    settings
        Arguments of :func:`record`: `layers`, `n_walks`, `seed`, …

    Returns
    -------
    callable
        Takes a network, records it and returns the cost. Passed as one of the `scores` of
        :func:`ablation_curve`, it records the lesioned network.

    See Also
    --------
    ablation_curve : Takes the function as one of its `scores`.
    novel_working_memory : Working-memory error on novel maps as a score.
    record : Make the recording.
    decode_position : An analysis that gives a cost.

    Examples
    --------
    >>> import placeformer as pf
    >>> score = pf.recorded_score(
    ...     lambda recording: 1 - recording.correct.mean("time"), n_walks=4, n_steps=64
    ... )
    >>> score(pf.load("mini-nmda-a10")).shape
    (4,)
    """
    return lambda model: analyse(record(model, **({"progress": False} | settings)))
