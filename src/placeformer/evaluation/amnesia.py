"""Forgetting and retrograde amnesia in a network that learns further maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.evaluation.consolidation import chosen_steps
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.lesions import ablate
from placeformer.interventions.magnesium import magnesium
from placeformer.interventions.units import Units, chosen_units, layer_widths
from placeformer.models.memory import MEMORIES, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.stats.bootstrap import ratio
from placeformer.stats.intervals import LEVEL, error_interval, tails
from placeformer.zoo.registry import list_steps, load

Condition = Callable[[NavigationTransformer], AbstractContextManager[Any]]

NOVEL, INTACT = "novel", "intact"


def amnesia_curve(
    source: str | os.PathLike[str],
    sets: Mapping[str, Sequence[int]],
    steps: Sequence[int] | None = None,
    *,
    alpha: float | None = None,
    units: Units | None = None,
    conditions: Mapping[str, Condition] | None = None,
    repeats: int = 5,
    n_walks: int = 64,
    n_steps: int = 1024,
    where: str = "chunk_end",
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Test the memory of old and new maps while a network learns further maps.

    A network that has learnt some maps is trained on further ones (``train(recipe, folder,
    init=...)`` with ``earlier_maps``, ``snapshots`` and optionally ``rehearsal`` in the recipe). At
    each snapshot, the memory of each set of maps is tested in the intact network, which shows
    forgetting, and under a block or a lesion at test time, which shows whether recent memories are
    more vulnerable than old ones: retrograde amnesia with a temporal gradient.

    Parameters
    ----------
    source
        Source with snapshots of the further training, see :func:`list_steps`.
    sets
        Sets of trained maps by name, such as ``{"old": range(8), "new": range(8, 12)}``. The
        gradient compares the last set with the first: put the oldest first.
    steps
        Snapshots to test, by default all. Steps count from the start of the further training.
    alpha
        Also test at this α of NMDA_α, dimensionless, ≥ 0; see :func:`magnesium`. The condition is
        named "washout" if it is below the network's own α, and "block" if it is above.
    units
        Also test with these units lesioned ("lesion"), and with the same number of other, random
        units of the same layers ("random lesion"). :func:`ablate` replaces the units by their
        means.
    conditions
        Further conditions by name: functions of the network that return a context manager, such as
        ``{"no Mg²⁺": lambda model: pf.magnesium(model, alpha=0)}``.
    repeats
        Number of random lesions.
    n_walks, n_steps, where
        Walks for the memory errors of every set of maps, see :func:`memory_errors`. All steps and
        conditions are tested on the same walks.
    seed
        Random seed of walks, e₀ and random lesions.
    progress
        Show a progress bar (tqdm).

    Returns
    -------
    xarray.Dataset
        Over ``step``, ``condition`` ("intact", then the requested conditions), ``maps`` (the sets,
        then the control "novel", the novel maps) and ``memory`` (working, reference):

        - `error`, 0 to 1, with `interval` (95 %, over walks, as in :func:`memory_errors`), and `n`
          (maps, memory), the number of predictions; errors under "random lesion" are means over the
          lesions;
        - `forgetting` (step, maps, memory): error of the intact network minus that at the first
          step, paired over walks, with `forgetting_interval`;
        - `cost`: error minus that of the intact network at the same step, paired over walks, with
          `cost_interval` (Student's t over walks);
        - `gradient` (step, condition, memory): cost on the last set minus that on the first, with
          `gradient_interval`; NaN for a single set. Above 0, recent memory suffers more. If the
          intact network is near chance on a set, it has nothing to lose: see `error`.

        NaN where there are no predictions.

    Raises
    ------
    ValueError
        The source has no snapshots, a step is not one of them, there are no sets or a set has no
        maps, a map or unit is unknown, two conditions have the same name, or `alpha` is given for a
        network without NMDA_α.

    See Also
    --------
    plot.amnesia_curve : Draw the result.
    consolidation : Which place cells survive (`kept` compared with "first").
    train : Train a network on further maps.
    magnesium, ablate : The block and the lesion.

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import replace
    >>> from pathlib import Path
    >>> import placeformer as pf
    >>> from placeformer.training.recipe import Recipe
    >>> recipe = Recipe.read(Path(pf.load("mini-nmda-a10").info["folder"], "recipe.toml"))
    >>> further = replace(
    ...     recipe, name="further", seed=5, world=dict(recipe.world, n_maps=12),
    ...     training=replace(recipe.training, earlier_maps=8, maps=((0, 4),), snapshots=(0, 2)),
    ... )
    >>> with tempfile.TemporaryDirectory() as run:
    ...     trainer = pf.train(further, run, init="mini-nmda-a10", stop_at=2, progress=False)
    ...     curve = pf.amnesia_curve(
    ...         run, {"old": range(8), "new": range(8, 12)}, alpha=0, n_walks=4, n_steps=128,
    ...         progress=False,
    ...     )
    >>> dict(curve.error.sizes)
    {'step': 2, 'condition': 2, 'maps': 3, 'memory': 2}
    """
    check_sets(sets)
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    found = list_steps(source)
    if not found:
        raise ValueError(
            f"source must have snapshots of the further training, got {os.fspath(source)!r} "
            "without any; train with `snapshots` in the recipe"
        )
    chosen = chosen_steps(steps, found, os.fspath(source))
    model = load(source, step=chosen[0])
    asked = conditions_of(model.config.alpha, alpha, units, conditions, repeats, seed)
    wrong, n = [], np.empty(0)
    with tqdm(total=len(chosen) * len(asked), desc="amnesia", disable=not progress) as bar:
        for step in chosen:
            model = load(source, step=step)
            walks = walks_of(model, sets, n_walks, n_steps, seed)
            of_step = []
            for contexts in asked.values():
                tested = [tested_on(model, walks, context, where, seed) for context in contexts]
                of_step.append(np.mean([counts for counts, _ in tested], axis=0))
                n = tested[0][1]
                bar.update()
            wrong.append(of_step)
    curve = summarised(np.array(wrong), n, chosen, list(asked), [*sets, NOVEL])
    settings: dict[str, Any] = {
        "alpha": alpha, "n_walks": n_walks, "n_steps": n_steps, "where": where, "seed": seed,
        "sets": {name: list(map(int, maps)) for name, maps in sets.items()},
    }  # fmt: skip
    return curve.assign_attrs(
        source=os.fspath(source),
        n_walks=n_walks,
        n_steps=n_steps,
        where=where,
        seed=seed,
        chance=1 - 1 / world_of(model).n_letters,
        **({} if alpha is None else {"alpha": float(alpha)}),
        **{schema.PROVENANCE: schema.provenance(None, "amnesia_curve", **settings)},
    )


def check_sets(sets: Any) -> None:
    """Refuse anything that is not a mapping of sets of maps, and reserved names."""
    if not isinstance(sets, Mapping) or not sets or not all(len(maps) for maps in sets.values()):
        raise ValueError(
            'sets must be sets of maps by name, such as {"old": range(8), "new": range(8, 12)}, '
            f"got {sets!r:.80}"
        )
    if NOVEL in sets:
        raise ValueError(
            f'sets must not be named "{NOVEL}", the name of the control; rename the set'
        )


def conditions_of(
    own: float | None,
    alpha: float | None,
    units: Units | None,
    conditions: Mapping[str, Condition] | None,
    repeats: int,
    seed: int,
) -> dict[str, list[Condition]]:
    """Contexts by name for a network with this α; those of random lesions are averaged."""
    found: dict[str, list[Condition]] = {INTACT: [lambda _: nullcontext()]}
    if alpha is not None:
        name = "washout" if own is not None and alpha < own else "block"
        found[name] = [lambda model: magnesium(model, alpha=alpha)]
    if units is not None:
        found["lesion"] = [lambda model: ablate(model, units, seed=seed)]
        found["random lesion"] = [
            partial(random_lesion, units=units, draw=i, seed=seed) for i in range(repeats)
        ]
    for name, context in (conditions or {}).items():
        if name in found:
            raise ValueError(
                f"conditions must have names other than {', '.join(found)}, got {name!r}; rename it"
            )
        found[name] = [context]
    return found


@contextmanager
def random_lesion(
    model: NavigationTransformer, *, units: Units, draw: int, seed: int
) -> Iterator[None]:
    """Lesion the same number of other units of the same layers, in random draw number `draw`."""
    others, rng = {}, np.random.default_rng([seed, draw])
    for layer, chosen in chosen_units(units, layer_widths(model, None)).items():
        rest = np.setdiff1d(np.arange(model.config.d_inner), chosen)
        if len(rest) < len(chosen):
            raise ValueError(
                f"units must leave at least as many other units of {layer} for the random lesions, "
                f"got {len(chosen)} of {model.config.d_inner}; lesion fewer units"
            )
        others[layer] = np.sort(rng.choice(rest, len(chosen), replace=False))
    with ablate(model, others, seed=seed):
        yield


def walks_of(
    model: NavigationTransformer,
    sets: Mapping[str, Sequence[int]],
    n_walks: int,
    n_steps: int,
    seed: int,
) -> dict[str, xr.Dataset]:
    """Walks on every set of trained maps, and on the novel maps."""
    world = world_of(model)
    return {
        **{
            name: world.walk(n_walks, n_steps, seed=seed, maps=list(maps))
            for name, maps in sets.items()
        },
        NOVEL: world.walk(n_walks, n_steps, seed=seed, familiar=False),
    }


def tested_on(
    model: NavigationTransformer,
    walks: Mapping[str, xr.Dataset],
    condition: Condition,
    where: str,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers of wrong predictions and of predictions, (maps, memory, walk)."""
    with condition(model):
        counts = [count_errors(model, walk, seed=seed, where=where) for walk in walks.values()]
    wrong = np.array([wrong[0].T for wrong, _ in counts], float)
    return wrong, np.array([n.T for _, n in counts], float)


def summarised(
    wrong: NDArray[np.float64],
    n: NDArray[np.float64],
    steps: list[int],
    conditions: list[str],
    maps: list[str],
) -> xr.Dataset:
    """Errors, costs and gradients from counts (step, condition, maps, memory, walk)."""
    dims = ("step", "condition", "maps", "memory")
    forgetting = Difference(wrong[:, 0], wrong[:1, 0], n)
    cost = Difference(wrong, wrong[:, :1], n)
    gradient = cost.value[:, :, -2] - cost.value[:, :, 0]
    if len(maps) == 2:  # a single set, and the novel maps
        gradient = np.full_like(gradient, np.nan)
    quantile = np.fmax(*np.broadcast_arrays(cost.quantile[..., -2, :], cost.quantile[..., 0, :]))
    reach = np.sqrt(cost.variance[:, :, -2] + cost.variance[:, :, 0]) * quantile
    about = f"{LEVEL:.0%} interval over walks (Student's t)"
    change = "minus that of the intact network at the same step"
    bound = (*dims, "bound")
    return xr.Dataset(
        {
            "error": variable(dims, ratio(wrong, n), "share of wrong predictions"),
            "interval": variable(
                bound, error_interval(wrong, n), f"{LEVEL:.0%} interval over walks", level=LEVEL
            ),
            "n": variable(("maps", "memory"), n.sum(-1).astype(int), "predictions counted"),
            "forgetting": variable(
                ("step", "maps", "memory"), forgetting.value, "error minus that at the first step"
            ),
            "forgetting_interval": variable(
                ("step", "maps", "memory", "bound"), forgetting.interval, about, level=LEVEL
            ),
            "cost": variable(dims, cost.value, f"error {change}"),
            "cost_interval": variable(bound, cost.interval, about, level=LEVEL),
            "gradient": variable(
                ("step", "condition", "memory"),
                gradient,
                f"cost on {maps[-2]} maps minus cost on {maps[0]} maps",
            ),
            "gradient_interval": variable(
                ("step", "condition", "memory", "bound"),
                np.stack([gradient - reach, gradient + reach], -1),
                about,
                level=LEVEL,
            ),
        },
        coords={
            "step": variable("step", steps, "optimiser steps of the further training"),
            "condition": conditions,
            "maps": maps,
            "memory": list(MEMORIES),
            "bound": ["lower", "upper"],
        },
    )


class Difference:
    """Difference between two errors counted on the same walks, with its variance over walks."""

    def __init__(
        self, wrong: NDArray[np.float64], before: NDArray[np.float64], n: NDArray[np.float64]
    ) -> None:
        more, total = wrong - before, n.sum(-1)
        walks = (n > 0).sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.value = more.sum(-1) / total
            squares = ((more - self.value[..., None] * n) ** 2).sum(-1)
            self.variance = walks / (walks - 1) * squares / total**2
            # Only walks with predictions tell of the spread; two alike would tell of none.
            self.quantile = np.where(walks > 1, stats.t.ppf(tails(LEVEL)[1], walks - 1), np.nan)
        reach = np.sqrt(self.variance) * self.quantile
        self.interval = np.stack([self.value - reach, self.value + reach], -1)
