"""Ablation curves: errors against the share of units lesioned, and beside controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike
from torch import nn

from placeformer import schema
from placeformer.ablation import default_reference, replacements
from placeformer.lesionplan import (
    CONTROLS,
    check_controls,
    check_fractions,
    layer_names,
    make_plan,
)
from placeformer.memory import counted_steps, world_of
from placeformer.model import NavigationTransformer
from placeformer.navigation import facts
from placeformer.negatives import Negatives
from placeformer.orders import Order, name_of
from placeformer.outcomes import Score, memory_part, plan_part, score_part
from placeformer.replacement import How, Reference, check_how
from placeformer.sites import sites, unused

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
    n_boot: int = 1000,
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
    n_boot
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
        - `p_pairs`: (1 + k) / (1 + n_boot), k being the random flips of the signs of the
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
    ask: dict[str, Any] = {"n_boot": n_boot, "seed": seed}
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
        "caliper": caliper, "repeats": repeats, "n_boot": n_boot, "seed": seed,
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
        raise ValueError(f'cluster must be "walk" or "map", found {cluster!r}')
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
