"""A network over its training: memory, place cells and turnover, and similarity to its end."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer._options import check_whole
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.evaluation.profiles import CHANCE_SHUFFLES, by_layer
from placeformer.interventions.doses import Score, named_scores, run_scores
from placeformer.models.memory import KINDS, memory_errors
from placeformer.models.transformer import NavigationTransformer
from placeformer.population.decoding import decode_position, distance_from_mean
from placeformer.population.remapping import n_varying, remapping
from placeformer.population.similarity import similarity
from placeformer.recording.record import record
from placeformer.spatial.binning import axis_names
from placeformer.spatial.place_cells import OBSERVATION, place_cells
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.shuffle_test import chance_corrected, shuffle_test
from placeformer.stats.intervals import over_seeds
from placeformer.stats.overlap import Overlap, overlap
from placeformer.zoo.registry import list_steps, load

States = Mapping[int, Mapping[str, Tensor]] | Sequence[Mapping[str, Tensor]]
Behaviour = xr.Dataset | Mapping[str, Any]

COMPARED = ("previous", "first", "final", "retest")
"""Recordings with which the place cells of a step are compared."""

ABOUT = {
    "error": "share of wrong predictions",
    "score": "score of the network",
    "is_place_cell": "unit is a place cell of the trained map",
    "retest_is_place_cell": "unit is a place cell of the trained map on other walks",
    "control_is_place_cell": "unit is a place cell of the novel map",
    "depends_on_memory": "place cell of the trained map only, where place explains more",
    "place_cell_fraction": "share of units that are place cells",
    "memory_dependent_fraction": "share of units that are place cells and depend on memory",
    "eta2_beyond": "variance explained by place beyond the observation, without what shuffles "
    "explain on average",
    "kept": "share of the place cells of the earlier recording that the later one has as well",
    "kept_chance": "share that would be kept if place cells were drawn at random within layers",
    "kept_excess": "share kept beyond chance, as a share of what could be: (kept - chance) / "
    "(1 - chance)",
    "kept_p": "exact p of sharing at least as many place cells by chance",
    "map_correlation": "correlation of the rate map with that of the last step",
    "map_excess": "mean correlation with the map at the last step beyond that of different units",
    "map_excess_interval": "95 % interval over units (Student's t)",
    "cka": "debiased linear CKA with the last step, same walks",
    "cka_interval": "95 % interval (jackknife over walks)",
    "position_error": "mean distance of the decoded position from the true one",
    "position_error_interval": "95 % interval over walks (Student's t)",
    "position_chance": "mean distance of the mean position from the true one",
}


def consolidation(
    source: str | os.PathLike[str] | nn.Module,
    steps: Sequence[int] | None = None,
    *,
    states: States | None = None,
    behaviour: Behaviour | None = None,
    control: Behaviour | None = None,
    layers: Any = None,
    forward: Any = None,
    inputs: Mapping[str, Any] | None = None,
    control_inputs: Mapping[str, Any] | None = None,
    dims: Any = None,
    score: Score | Mapping[str, Score] | None = None,
    maps: Sequence[int] | None = None,
    recorded_map: int = 0,
    n_walks: int = 64,
    n_steps: int = 1024,
    recorded_walks: int = 16,
    recorded_steps: int = 512,
    n_shuffles: int | Literal["auto"] = "auto",
    criteria: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    r"""Measure a network at several steps of its training.

    When do memory and place cells appear, do units stay place cells, and how soon does the network
    resemble its final state? Every step is measured on the same walks.

    Parameters
    ----------
    source
        Source with snapshots (:func:`list_steps`): a name in the zoo, the folder of a training run,
        or a repository of the hub. Or any network, with its weights at the steps in `states`; it is
        copied and not changed.
    steps
        Steps to measure, by default all. The final step with which others are compared is always
        the last of all snapshots or `states`.
    states
        For a network as `source`: its ``state_dict()`` at every step, as a mapping from steps or as
        a list in the order of `steps`.
    behaviour, layers, forward, inputs, dims
        For networks other than a navigation Transformer with a world: the behaviour, and how to
        record the network, see :func:`record`. `layers` also selects the units of a navigation
        Transformer (default ``"ffn.*"``).
    control, control_inputs
        Behaviour in a novel environment and its inputs, the control for memory; by default none.
        For a navigation Transformer the control is its novel maps.
    score
        Function of the network that returns a number, or a mapping from names to such functions.
        It is called at every step with the network in eval mode and without gradients.
    maps
        Indices of the trained and of the novel maps on which memory is tested, by default all. A
        recipe may add maps later: restrict the indices to the maps in use from the start to follow
        their consolidation.
    recorded_map
        Index of the trained and of the novel map on which units are recorded.
    n_walks, n_steps
        Number of walks, and of steps in each, for the memory errors (:func:`memory_errors`).
    recorded_walks, recorded_steps
        The same for the recordings. A second recording with the same number of other walks gives
        the fraction of place cells that are found again (see ``compared``).
    n_shuffles
        Number of shuffles of each test of :func:`place_cells`.
    criteria
        Other options of :func:`place_cells`, such as ``{"smooth": 2, "max_q": 0.01}``. `by`,
        `bins`, `smooth` and `min_occupancy` also apply to the compared rate maps.
    seed
        Random seed of walks, e₀ and shuffles.
    progress
        Show a progress bar (tqdm).

    Returns
    -------
    xarray.Dataset
        Over ``step``, with the coordinate `alpha`, the α of NMDA_α in force (NaN for others):

        - `error`, `interval` and `n` (step, maps, memory) on trained and novel maps, as in
          :func:`memory_errors`, for a network with a world; `score` (step, metric) with `score`;
        - `is_place_cell`, `control_is_place_cell` and `depends_on_memory` (step, unit), see
          :func:`place_cells`; `place_cell_fraction` (step, maps, layer) and
          `memory_dependent_fraction` (step, layer), 0 to 1;
        - turnover, over ``compared``: the place cells at the previous step ("previous") or at the
          first step ("first") against those at this step, those at this step against those at the
          final step ("final"), and those at this step in two recordings of different walks
          ("retest", the ceiling that decisions from this amount of data allow; only with a world).
          `kept`, the fraction of the former that are among the latter, 0 to 1, NaN if there are
          none; `kept_chance`, its expectation if the same number of units were drawn at random in
          every layer; `kept_excess`, (kept - chance) / (1 - chance); `kept_p`, exact
          (hypergeometric). `retest_is_place_cell` (step, unit): the decision of the second
          recording;
        - `eta2_beyond` (step, maps, unit): variance explained by place beyond the observation (by
          place if there is no observation), corrected by the mean of shuffles;
        - `map_correlation` (step, unit), Pearson's r of the rate map with the map at the final
          step, NaN for flat maps; `map_excess` (step), its mean beyond the correlation of different
          units, with `map_excess_interval`, see :func:`remapping` (all NaN if fewer than two units
          vary);
        - `cka` and `cka_interval` (step, maps, layer): debiased CKA with the final step, see
          :func:`similarity`; 0 for unrelated and 1 for equal populations, NaN for a population that
          does not vary;
        - `position_error`, `position_error_interval` and `position_chance` (step, maps): mean
          distance between the true position and the position decoded by a Gaussian Bayesian decoder
          trained on other walks (:func:`decode_position`), its 95 % interval over walks, and the
          mean distance between the true and the mean position.

        Without `control`, entries of novel maps are NaN or false, and `attrs["control"]` says so.

    Raises
    ------
    ValueError
        The source has no snapshots, a step is not one of them, `states` do not fit `steps`, or
        `behaviour` is missing for a network that needs it.

    See Also
    --------
    plot.consolidation : Draw the result.
    list_steps, load : The network at a step.
    amnesia_curve : Block or lesion after further training.
    profile_networks : Networks at the end of their training.

    Notes
    -----
    The classification of place cells has errors: even an unchanged network does not keep all of
    them between two recordings. Compare `kept_excess` with its value for "retest" at the same step.

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import replace
    >>> from pathlib import Path
    >>> import placeformer as pf
    >>> from placeformer.training.recipe import Recipe
    >>> recipe = Recipe.read(Path(pf.load("mini-nmda-a10").info["folder"], "recipe.toml"))
    >>> recipe = replace(
    ...     recipe, network=replace(recipe.network, d_model=16, d_inner=16),  # a smaller network
    ...     training=replace(recipe.training, walks=4, snapshots=(0, 2)),
    ... )
    >>> with tempfile.TemporaryDirectory() as run:
    ...     trainer = pf.train(recipe, run, stop_at=2, progress=False)
    ...     course = pf.consolidation(
    ...         run, n_walks=4, n_steps=64, recorded_walks=16, recorded_steps=128, progress=False
    ...     )
    >>> course.step.values.tolist(), float(course.cka.sel(step=2, maps="trained", layer="ffn.1"))
    ([0, 2], 1.0)
    """
    training = training_of(source, steps, states)
    walks = Walks(recorded_walks, recorded_steps, recorded_map, layers)
    own = Own(behaviour, control, forward, inputs, control_inputs, dims, layers)
    options = {"n_shuffles": n_shuffles, "seed": seed, **(criteria or {})}
    named = {} if score is None else named_scores(score)
    memory = {"n_walks": n_walks, "n_steps": n_steps, "seed": seed, "maps": maps}

    def measured(step: int) -> tuple[dict[str, xr.Dataset], list[xr.Dataset]]:
        """Recordings of a step by kind of map, and the measures that need none."""
        network, alpha = training.at(step), None
        parts: list[xr.Dataset] = []
        recordings: dict[str, xr.Dataset] = {}
        if isinstance(network, NavigationTransformer):
            alpha = network.config.alpha
            if network.world is not None:
                parts.append(errors_of(network, memory))
                if behaviour is None:
                    recordings = walks.recordings(network, seed)
        if named:
            values = run_scores(named, network)
            parts.append(xr.Dataset({"score": ("metric", values)}, {"metric": list(named)}))
        alphas[step] = np.nan if alpha is None else alpha
        return recordings or own.recordings(network, seed), parts

    rows, alphas = [], dict[int, float]()
    with tqdm(total=len(training.steps) + 1, desc="steps", disable=not progress) as bar:
        final, final_parts = measured(training.final)
        final_cells = cells_of(final, options)
        bar.update()
        for step in training.steps:
            last = step == training.final
            recordings, parts = (final, final_parts) if last else measured(step)
            cells = final_cells if last else cells_of(recordings, options)
            row = [*parts, cells, compared_with(recordings, final, options)]
            rows.append(xr.merge(row, join="exact", compat="equals", combine_attrs="override"))
            bar.update()
    course = xr.concat(rows, "step", combine_attrs="override", join="exact")
    course = course.assign_coords(
        step=variable("step", training.steps, "optimiser steps"),
        alpha=variable("step", [alphas[step] for step in training.steps], "α of NMDA_α in force"),
    )
    course = course.merge(turnover(course, final_cells["is_place_cell"].values))
    axis = axis_names(options.get("by", ("y", "x")))[0]
    course.attrs["position_units"] = str(final["trained"][axis].attrs.get("units", "1"))
    settings = memory | {"recorded_map": recorded_map, "recorded_walks": recorded_walks,
                         "recorded_steps": recorded_steps, **options}  # fmt: skip
    settings["control"] = "novel" if "novel" in final else "none"
    return finished(course, training, settings)


@dataclass(frozen=True)
class Training:
    """The steps to measure, the final step, and the network at a step."""

    name: str
    steps: list[int]
    final: int
    at: Callable[[int], nn.Module]


def training_of(source: Any, steps: Sequence[int] | None, states: States | None) -> Training:
    """Find the snapshots of a source, or the states of a network."""
    if isinstance(source, nn.Module):
        return training_of_states(source, steps, states)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            "source must be a name, a folder, a repository or a torch.nn.Module, got "
            f"{type(source).__name__}"
        )
    if states is not None:
        raise ValueError(
            f"states must be None unless source is a torch.nn.Module, got source={source!r}"
        )
    name, found = os.fspath(source), list_steps(source)
    if not found:
        raise ValueError(
            f"source must have snapshots, got {name!r} without any; train with `snapshots` in the "
            "recipe, or pass the network and its `states`"
        )
    return Training(
        name, chosen_steps(steps, found, name), found[-1], lambda step: load(source, step=step)
    )


def training_of_states(
    network: nn.Module, steps: Sequence[int] | None, states: States | None
) -> Training:
    """Pair the states of a network with their steps."""
    if states is None:
        raise ValueError(
            "states must be the state_dict() of the network at every step, got None for a "
            f"{type(network).__name__}"
        )
    if not isinstance(states, Mapping):
        numbers = range(len(states)) if steps is None else list(steps)
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"steps must differ where there is one per state, got {numbers}")
        if len(numbers) != len(states):
            raise ValueError(
                f"steps must have one entry per state, got {len(numbers)} steps for "
                f"{len(states)} states"
            )
        states, steps = dict(zip(numbers, states, strict=True)), None
    if not states:
        raise ValueError("states must hold at least one state, got none")
    for step in states:
        check_whole("steps", step, 0)
    check_own_tensors(states)
    by_step, own = dict(states), copy.deepcopy(network)

    def at(step: int) -> nn.Module:
        own.load_state_dict(by_step[step])
        return own

    name = type(network).__name__
    return Training(name, chosen_steps(steps, sorted(by_step), name), max(by_step), at)


def check_own_tensors(states: Mapping[int, Mapping[str, Any]]) -> None:
    """Refuse states of the same tensors, which changed in all of them as the network trained."""
    found: dict[frozenset[int], int] = {}
    for step, state in states.items():
        values = [v for v in state.values() if isinstance(v, Tensor) and v.numel()]
        where = frozenset(value.data_ptr() for value in values if not value.is_meta)
        if where and found.setdefault(where, step) != step:
            raise ValueError(
                f"states must not share their tensors, as those of steps {found[where]} and {step} "
                "do: state_dict() does not copy the weights; keep "
                "copy.deepcopy(network.state_dict()) at every step"
            )


def chosen_steps(steps: Sequence[int] | None, found: Sequence[int], name: str) -> list[int]:
    """Return the steps to measure, ascending; refuse unknown steps."""
    for step in () if steps is None else steps:
        check_whole("steps", step, 0)
    chosen = list(found) if steps is None else sorted({int(step) for step in steps})
    unknown = [step for step in chosen if step not in found]
    if unknown or not chosen:
        raise ValueError(
            f"steps must be some of the snapshots of {name}, {', '.join(map(str, found))}, got "
            f"{', '.join(map(str, unknown)) or 'none'}"
        )
    return chosen


@dataclass(frozen=True)
class Walks:
    """New walks of a navigation Transformer on a trained and on a novel map."""

    n_walks: int
    n_steps: int
    map_index: int
    layers: Any

    def recordings(self, network: NavigationTransformer, seed: int) -> dict[str, xr.Dataset]:
        """Recordings "trained", "novel" and, on other walks of the trained map, "retest"."""
        return {
            kind: record(
                network, layers=self.layers, n_walks=self.n_walks, n_steps=self.n_steps,
                maps=(self.map_index,), familiar=kind != "novel", progress=False,
                seed=seed + 1_000_003 * (kind == "retest"),
            )
            for kind in ("trained", "novel", "retest")
        }  # fmt: skip


@dataclass(frozen=True)
class Own:
    """Behaviour from the user, in a trained and optionally in a novel environment."""

    behaviour: Behaviour | None
    control: Behaviour | None
    forward: Any
    inputs: Mapping[str, Any] | None
    control_inputs: Mapping[str, Any] | None
    dims: Any
    layers: Any

    def recordings(self, network: nn.Module, seed: int) -> dict[str, xr.Dataset]:
        """Recordings "trained" and, with a control, "novel"."""
        if self.behaviour is None:
            raise ValueError(
                "behaviour must be given for a network without a world, got None for a "
                f"{type(network).__name__}; see placeformer.record"
            )
        kinds = {"trained": (self.behaviour, self.inputs)}
        if self.control is not None:
            kinds["novel"] = (self.control, self.control_inputs)
        return {
            kind: record(
                network, walks, layers=self.layers, forward=self.forward, inputs=inputs,
                dims=self.dims, seed=seed, progress=False,
            )
            for kind, (walks, inputs) in kinds.items()
        }  # fmt: skip


def errors_of(model: NavigationTransformer, options: Mapping[str, Any]) -> xr.Dataset:
    """Memory errors on trained and novel maps, over ``maps`` and ``memory``."""
    errors = [
        memory_errors(model, familiar=kind == "trained", progress=False, **options)
        for kind in KINDS
    ]
    together = xr.concat(errors, "maps", join="exact", combine_attrs="drop_conflicts")
    return together.assign_coords(maps=list(KINDS))


def cells_of(recordings: Mapping[str, xr.Dataset], options: Mapping[str, Any]) -> xr.Dataset:
    """Place cells of a step, also on other walks, and the place cells that depend on memory."""
    trained, novel = recordings["trained"], recordings.get("novel")
    quiet = {"cell_types": False, **options, "progress": False}
    table = place_cells(trained, control=novel, **quiet)
    cells = {"is_place_cell": table["is_place_cell"]}
    if novel is not None:
        cells |= {name: table[name] for name in ("control_is_place_cell", "depends_on_memory")}
    if "retest" in recordings:
        retest = place_cells(recordings["retest"], **quiet)
        cells["retest_is_place_cell"] = retest["is_place_cell"]
    shares = {name: by_layer(values, trained) for name, values in cells.items()}
    first = shares["is_place_cell"]
    nothing = xr.full_like(first, np.nan)
    fraction = [first, shares.get("control_is_place_cell", nothing)]
    return xr.Dataset(
        {name: (schema.UNIT, values.values) for name, values in cells.items()}
        | {
            "place_cell_fraction": (("maps", "layer"), [values.values for values in fraction]),
            "memory_dependent_fraction": (
                "layer", shares.get("depends_on_memory", nothing).values,
            ),
        },
        coords={
            "maps": list(KINDS),
            "layer": first["layer"].values.astype(str),
            schema.UNIT: trained[schema.UNIT].values,
            "unit_layer": (schema.UNIT, trained["layer"].values),
        },
    )  # fmt: skip


def compared_with(
    recordings: Mapping[str, xr.Dataset],
    final: Mapping[str, xr.Dataset],
    options: Mapping[str, Any],
) -> xr.Dataset:
    """Compare maps and populations with the final step; decoding and variance explained."""
    seed, binning = int(options["seed"]), {k: options[k] for k in ("by", "bins") if k in options}
    of_maps = binning | {k: options[k] for k in ("smooth", "min_occupancy") if k in options}
    pair = [rate_maps(one["trained"], **of_maps) for one in (recordings, final)]
    n_units = recordings["trained"].sizes[schema.UNIT]
    correlation, excess, interval = (np.full(n, np.nan) for n in (n_units, (), 2))
    if n_varying(*pair) > 1:  # a network may be silent at its first step
        maps = remapping(*pair, n_shuffles=2, allow_other_units=True, seed=seed)
        correlation, excess, interval = (
            maps[name].values for name in ("correlation", "excess", "interval")
        )
    layers = np.unique(recordings["trained"]["layer"].values.astype(str)).tolist()
    of_kind = {
        kind: of_one_map(recordings[kind], final[kind], layers, seed, binning)
        for kind in KINDS
        if kind in recordings
    }
    nothing = xr.full_like(of_kind["trained"], np.nan)
    together = xr.concat([of_kind.get(kind, nothing) for kind in KINDS], "maps")
    return together.assign(
        map_correlation=(schema.UNIT, correlation),
        map_excess=((), excess),
        map_excess_interval=("bound", interval),
    ).assign_coords(maps=list(KINDS))


def of_one_map(
    here: xr.Dataset, final: xr.Dataset, layers: Sequence[str], seed: int, binning: dict[str, Any]
) -> xr.Dataset:
    """CKA with the final step, decoding and variance explained on one map."""
    alike = [
        similarity(of_layer(here, layer), of_layer(final, layer), debiased=True, n_shuffles=0,
                   progress=False)
        for layer in layers
    ]  # fmt: skip
    decoded = decode_position(
        here, method="bayes", n_shuffles=0, n_resamples=1, seed=seed, progress=False, **binning
    )
    mean = over_seeds(decoded["error"].mean(schema.TIME).values)
    axes = [str(name) for name in decoded["axis"].values]
    test = shuffle_test(
        here, n_shuffles=CHANCE_SHUFFLES, given=OBSERVATION if OBSERVATION in here else None,
        seed=seed, progress=False, **binning,
    )  # fmt: skip
    return xr.Dataset(
        {
            "eta2_beyond": (schema.UNIT, chance_corrected(test).values),
            "cka": ("layer", [float(one["similarity"]) for one in alike]),
            "cka_interval": (("layer", "bound"), [one["interval"].values for one in alike]),
            "position_error": ((), mean.value),
            "position_error_interval": ("bound", [mean.lower, mean.upper]),
            "position_chance": ((), float(np.nanmean(distance_from_mean(here, axes)))),
        },
        coords={"layer": layers, "bound": ["lower", "upper"]},
    )


def of_layer(recording: xr.Dataset, layer: str) -> xr.Dataset:
    """The units of one layer."""
    return recording.isel({schema.UNIT: np.flatnonzero(recording["layer"].values == layer)})


def turnover(course: xr.Dataset, final_cells: np.ndarray) -> xr.Dataset:
    """Fraction of the place cells that are kept, over ``step`` and ``compared``.

    Parameters
    ----------
    course
        `is_place_cell` (step, unit) and the other decisions of :func:`consolidation`.
    final_cells
        Whether each unit is a place cell at the final step.
    """
    cells, layer = course["is_place_cell"].values, course["unit_layer"].values
    nothing = Overlap(np.nan, np.nan, np.nan, np.nan)
    rows = []
    for i, now in enumerate(cells):
        retest = course.get("retest_is_place_cell")
        rows.append(
            [
                overlap(cells[i - 1], now, layer) if i else nothing,
                overlap(cells[0], now, layer),
                overlap(now, final_cells, layer),
                nothing if retest is None else overlap(now, retest.values[i], layer),
            ]
        )
    values = np.array(rows, float)
    names = ("kept", "kept_chance", "kept_excess", "kept_p")
    return xr.Dataset(
        {name: (("step", "compared"), values[..., k]) for k, name in enumerate(names)},
        {"compared": list(COMPARED)},
    )


def finished(course: xr.Dataset, training: Training, settings: Mapping[str, Any]) -> xr.Dataset:
    """Add names, units and attributes to the time course."""
    length = {"position_error", "position_error_interval", "position_chance"}
    for name, text in ABOUT.items():
        if name in course:
            units = course.attrs["position_units"] if name in length else "1"
            course[name].attrs |= {"units": units, "long_name": text}
    about = {key: value for key, value in settings.items() if value is not None}
    return course.assign_attrs(
        source=training.name,
        final_step=training.final,
        **{k: v if isinstance(v, str | int | float) else str(v) for k, v in about.items()},
        **{schema.PROVENANCE: schema.provenance(None, "consolidation", **settings)},
    )
