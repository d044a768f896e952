"""Specificity of a perturbation: its other costs at an equal cost of reference memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm.auto import tqdm

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.doses import (
    RANDOM,
    Parameter,
    Score,
    check_score,
    named_scores,
    trials,
)
from placeformer.interventions.equivalent_alpha import crossing, dose_range
from placeformer.interventions.magnesium import Source, facts_of, sources_of
from placeformer.interventions.perturbation import ALPHA
from placeformer.models.memory import MEMORIES, counted_steps, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.population.decoding import decode_position
from placeformer.recording.network_state import original
from placeformer.recording.record import record
from placeformer.stats.bootstrap import draws, ratio, resampled
from placeformer.stats.intervals import LEVEL, Estimate, over_seeds, percentile_interval, verdict
from placeformer.zoo.registry import load

Floats = NDArray[np.float64]

LEVELS = (0.1, 0.25, 0.5)
ROOM = 0.1
"""Minimum margin of an intact network, relative to the ceiling, for a cost to be defined."""
MEASURES = {
    "reference": "reference-memory error, trained maps",
    "working": "working-memory error, trained maps",
    "working_novel": "working-memory error, novel maps",
    "decoding": "error of the decoded position",
}
"""Measures of a navigation Transformer."""

PERTURBATIONS: dict[str, dict[str, Any]] = {
    "Mg²⁺ washout": {"parameter": ALPHA},
    "gain": {"parameter": "gain", "units": "ffn.*", "doses": [0.9, 0.8, 0.7, 0.6, 0.5, 0.35, 0.2]},
    "noise": {"parameter": "noise", "units": "ffn.*", "doses": [0.1, 0.2, 0.3, 0.45, 0.7, 1, 2]},
    "random units": {"parameter": RANDOM, "units": "ffn.*",
                     "doses": [0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7]},
    "attention gain": {"parameter": "gain", "units": "attention.*",
                       "doses": [0.9, 0.8, 0.7, 0.6, 0.5, 0.35, 0.2]},
}  # fmt: skip
"""The default perturbations: the tested perturbation and its controls."""

KEYS = ("parameter", "doses", "units", "steps", "reference")


@dataclass(frozen=True)
class Measured:
    """One measure at every dose: sums (dose, cluster) over counts (cluster,).

    Attributes
    ----------
    sums, n
        The error is the sum over clusters of `sums` divided by that of `n`.
    ceiling
        Error of a network without the ability; NaN if unknown.
    clusters
        Kind of clusters: "trained" or "novel" maps, "decoded walks", or the name of a score.
        Measures with the same clusters are resampled together.
    """

    sums: Floats
    n: Floats
    ceiling: float
    clusters: str

    def cost(self, weights: Floats | None = None) -> Floats:
        """Return the cost (…, dose): from 0, as in the intact network, to 1 at the ceiling.

        Without a ceiling the cost is in the units of the measure. It is NaN unless the intact
        network is better than the ceiling by a tenth of the ceiling (`ROOM`), because there is then
        nothing to lose. With `weights`, the cost of every bootstrap sample.
        """
        if weights is None:
            error = ratio(self.sums, self.n)
        else:
            error = resampled(self.sums, self.n, weights)
        rise = error - error[..., :1]
        if np.isnan(self.ceiling):
            return rise
        room = self.ceiling - error[..., :1]
        return rise / np.where(room >= ROOM * self.ceiling, room, np.nan)


def specificity(
    models: Source | nn.Module | Iterable[Source | nn.Module],
    perturbations: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    match: str = "reference",
    levels: ArrayLike = LEVELS,
    scores: Mapping[str, Score] | None = None,
    decoding: str | None = "ffn",
    decoded_walks: int = 32,
    decoded_steps: int = 256,
    n_walks: int = 64,
    n_steps: int = 2048,
    where: str = "chunk_end",
    maps: Sequence[int] | None = None,
    n_resamples: int = 500,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure the costs of a perturbation besides reference memory, against control perturbations.

    Most perturbations of a network impair its most difficult ability first. An impairment of
    reference memory is specific only if the perturbation costs less of everything else than a
    control perturbation that costs the same amount of reference memory. Every perturbation is
    therefore measured at several doses; the dose that costs a given fraction of reference memory is
    found by interpolation; and the costs of working memory, on trained and on novel maps, and of
    decoding at that dose are compared with those of the controls.

    Parameters
    ----------
    models
        Networks that differ only in their seed, or sources that :func:`load` accepts. The intervals
        over seeds need at least two networks, and are wide with few.
    perturbations
        The tested perturbation, followed by its controls: for each name the `parameter`, `doses`
        and, if needed, `units`, `steps` and `reference` of :func:`dose_response`. The dose of the
        intact network is added, and all doses must be on one side of it. By default Mg²⁺ washout
        with four controls: a gain of the feed-forward units, noise in these units, random units
        replaced by their means, and a gain of the attention weights.
    match
        The measure whose cost is made equal.
    levels
        Costs of `match` at which the other measures are compared, above 0: fractions of the way
        from the intact network (0) to chance (1), or, for a measure of `scores`, in its units.
    scores
        Further measures by name, which are the only measures of networks other than navigation
        Transformers: functions of the network that return its cost (larger is worse), one number,
        or one number for each of the same trials.
    decoding
        Layers from which position is decoded; ``"ffn"`` is the last feed-forward layer, None skips
        decoding. The decoder (:func:`decode_position`, "bayes") is retrained on every perturbed
        network.
    decoded_walks, decoded_steps
        Walks that are recorded for decoding, on the first of the trained maps.
    n_walks, n_steps, where, maps
        Walks for the memory errors, see :func:`memory_errors`.
    n_resamples
        Number of bootstrap samples of the maps.
    seed
        Random seed of walks, noise, random units and bootstrap.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims ``model``, ``perturbation``, ``level``, ``measure`` (reference, working, working_novel,
        decoding, and the scores), ``control``, ``bound``, ``step`` (number of the dose, where 0 is
        the intact network):

        - `cost` (model, perturbation, level, measure): cost at the matched dose, from 0 (intact) to
          1, which is chance for memory errors and, for decoding, always guessing the mean position
          (scores: difference from the intact network); `interval` (…, bound), its 95 % bootstrap
          interval over maps (for decoding over walks), which repeats the matching in every sample;
          `matched_dose` (model, perturbation, level). NaN if no dose reaches the level, and for a
          measure in which the intact network is not at least a tenth better than chance (decoding
          from few walks);
        - `mean_cost` and `mean_interval` (perturbation, level, measure): mean over networks, with
          Student's t interval over seeds;
        - `difference`, `difference_interval`, `difference_p` (control, level, measure): cost of the
          tested perturbation minus that of the control, mean over networks, with Student's t
          interval and p over seeds, negative where the tested perturbation is more specific; also
          `difference_of_model` and `difference_of_model_interval` (model, …), over maps;
        - `verdict` (control, level, measure): "shown" if the whole interval over seeds is below 0,
          "opposite" if it is above, else "not shown"; "not tested" without an interval;
        - `curve` (model, perturbation, step, measure): cost at every `dose` (perturbation, step).

    Raises
    ------
    ValueError
        There are no networks, the networks differ in α, a perturbation or measure is unknown, doses
        are on both sides of the intact network, a level is not positive, or there are fewer than
        two perturbations.

    See Also
    --------
    dose_response : The errors at every dose of one parameter.
    perturb : The perturbations.
    plot.specificity : Draw the result.
    ablation_curve : The same question for lesions of place cells.

    Notes
    -----
    Costs are interpolated linearly between two measured doses, at the position where the cost of
    `match` first reaches the level. The interval over seeds generalises to other networks of the
    same recipe; the intervals over maps generalise to other maps of the same networks.

    Examples
    --------
    >>> import placeformer as pf
    >>> few = {"n_walks": 8, "n_steps": 256, "where": "every_step", "decoding": None}
    >>> result = pf.specificity(
    ...     ["mini-nmda-a10", "mini-nmda-a10-s1"],
    ...     {"washout": {"parameter": "nmda", "doses": [3, 1, 0]},
    ...      "gain": {"parameter": "gain", "doses": [0.7, 0.4]}},
    ...     levels=[0.25], n_resamples=20, progress=False, **few,
    ... )
    >>> result.cost.sel(measure="reference").values.round(2).ravel()
    array([0.25, 0.25, 0.25, 0.25])
    >>> dict(result.difference.sizes)
    {'control': 1, 'level': 1, 'measure': 3}
    """
    sources = sources_of(models)
    if not sources:
        raise ValueError("models must name at least one network, got none")
    networks = [original(s) if isinstance(s, nn.Module) else load(s) for s in sources]
    for network in networks:
        check_score(network, scores)
    asked = check_perturbations(PERTURBATIONS if perturbations is None else perturbations, seed)
    at = check_levels(levels)
    further = {} if scores is None else named_scores(scores)
    settings: dict[str, Any] = {
        "match": match, "decoding": decoding or "", "decoded_walks": decoded_walks,
        "decoded_steps": decoded_steps, "n_walks": n_walks, "n_steps": n_steps, "where": where,
        "n_resamples": n_resamples, "seed": seed,
    }  # fmt: skip
    shape = len(networks), len(asked)
    found, doses = np.empty(shape, object), [np.empty(0)] * len(asked)
    total = len(networks) * sum(12 if given is None else np.size(given) + 1
                                for _, given in asked.values())  # fmt: skip
    with tqdm(total=total, desc="doses", disable=not progress) as bar:
        for m, network in enumerate(networks):
            for p, (name, (parameter, given)) in enumerate(asked.items()):
                own = parameter.of(network)
                values = dose_range(given, own.intact(network), own)
                if m and not np.array_equal(doses[p], values):
                    raise ValueError(
                        "models must differ only in their seed, got networks whose doses of "
                        f"{name!r} are {doses[p].tolist()} and {values.tolist()}"
                    )
                doses[p] = values
                found[m, p] = measure(
                    network, own, values, further, decoding=decoding, maps=maps, n_walks=n_walks,
                    decoded=(decoded_walks, decoded_steps), n_steps=n_steps, where=where,
                    seed=seed, bar=bar,
                )  # fmt: skip
    check_option("match", match, found[0, 0])
    result = compared(found, doses, at, match, n_resamples, seed).assign_coords(
        perturbation=list(asked), control=list(asked)[1:], **model_coords(networks)
    )
    about = schema.provenance(None, "specificity", **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def check_perturbations(
    perturbations: Mapping[str, Mapping[str, Any]], seed: int
) -> dict[str, tuple[Parameter, ArrayLike | None]]:
    """Return the parameter and the doses of every perturbation."""
    if not isinstance(perturbations, Mapping) or len(perturbations) < 2:
        raise ValueError(
            "perturbations must map at least two names, the tested perturbation and a control, to "
            f"their parameter and doses, got {perturbations!r:.80}"
        )
    checked = {}
    for name, given in perturbations.items():
        if not isinstance(given, Mapping) or not {"parameter"} <= set(given) <= set(KEYS):
            raise ValueError(
                f"perturbations[{name!r}] must be a mapping with parameter and, where needed, "
                f"{', '.join(KEYS[1:])}, got {given!r:.80}"
            )
        options = {key: value for key, value in given.items() if key not in KEYS[:2]}
        checked[str(name)] = Parameter(given["parameter"], seed=seed, **options), given.get("doses")
    return checked


def check_levels(levels: ArrayLike) -> Floats:
    """Return the levels in ascending order."""
    values = np.unique(np.asarray(levels, float))
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"levels must be positive numbers, got {levels!r}")
    return values


def model_coords(networks: Sequence[nn.Module]) -> dict[str, Any]:
    """Name, α of training and seed of every network."""
    rows = [facts_of(network, Parameter(ALPHA), None) for network in networks]
    names = ("name", "trained_alpha", "activation_name", "seed")
    return {name: xr.Variable.concat([row[name] for row in rows], "model") for name in names}


def measure(
    model: nn.Module,
    parameter: Parameter,
    doses: Floats,
    scores: Mapping[str, Score],
    *,
    decoding: str | None,
    decoded: tuple[int, int],
    n_walks: int,
    n_steps: int,
    where: str,
    maps: Sequence[int] | None,
    seed: int,
    bar: tqdm,
) -> dict[str, Measured]:
    """Measure a network at every dose of one parameter."""
    found: dict[str, Measured] = {}
    if isinstance(model, NavigationTransformer):
        counted_steps(n_steps, model.config, where)
        walks: dict[str, Any] = {"n_walks": n_walks, "n_steps": n_steps, "seed": seed, "maps": maps}
        found |= memory_measures(model, parameter, doses, where, walks)
        if decoding is not None:
            last = f"ffn.{model.config.n_layers - 1}"
            layers = last if decoding == "ffn" else decoding
            found["decoding"] = decoding_measure(
                model, parameter, doses, layers, *decoded, maps, seed
            )
    rows: dict[str, list[Floats]] = {name: [] for name in scores}
    for dose in doses if scores else ():
        with parameter.at(model, dose):
            for name, score in scores.items():
                rows[name].append(trials(name, score, model, rows[name]))
    for name, values in rows.items():
        found[name] = Measured(np.array(values), np.ones(values[0].size), np.nan, name)
    bar.update(doses.size)
    return found


def memory_measures(
    model: NavigationTransformer,
    parameter: Parameter,
    doses: Floats,
    where: str,
    walks: dict[str, Any],
) -> dict[str, Measured]:
    """Both memory errors on trained maps, and the working-memory error on novel maps."""
    world, found = world_of(model), {}
    chance = 1 - 1 / world.n_letters
    for kind in ("trained", "novel"):
        walk = world.walk(**walks, familiar=kind == "trained")
        counts = parameter.count(model, doses.tolist(), walk, seed=walks["seed"], where=where)
        wrong = by_map(counts[0].transpose(0, 2, 1), walk, world.n_maps)
        n = by_map(counts[1].T, walk, world.n_maps)
        for i, memory in enumerate(MEMORIES):
            key = memory if kind == "trained" else f"{memory}_{kind}"
            if key in MEASURES:
                found[key] = Measured(wrong[:, i], n[i], chance, kind)
    return {key: found[key] for key in MEASURES if key in found}


def by_map(counts: NDArray[Any], walk: xr.Dataset, n_maps: int) -> Floats:
    """Sums (…, map) of counts (…, walk) over the walks of every map; 0 for maps without walks."""
    return counts @ (walk["map"].values[:, None] == np.arange(n_maps)).astype(float)


def decoding_measure(
    model: NavigationTransformer,
    parameter: Parameter,
    doses: Floats,
    layers: str,
    n_walks: int,
    n_steps: int,
    maps: Sequence[int] | None,
    seed: int,
) -> Measured:
    """Error of the decoded position, in grid steps, at every dose, on the first map.

    Units code different places on different maps, so one decoder cannot serve several maps.
    """
    sums, first = [], [0] if maps is None else list(maps)[:1]
    walks: dict[str, Any] = {"n_walks": n_walks, "n_steps": n_steps, "maps": first, "seed": seed}
    for dose in doses:
        with parameter.at(model, dose):
            recording = record(model, layers=layers, progress=False, **walks)
        decoded = decode_position(recording, method="bayes", n_shuffles=0, progress=False)
        sums.append(decoded["error"].mean("time").values)
    place = [recording[axis].values.astype(float) for axis in ("y", "x")]
    guess = np.sqrt(sum((axis - axis.mean()) ** 2 for axis in place)).mean()
    return Measured(np.array(sums), np.ones(n_walks), float(guess), "decoded walks")


def compared(
    found: NDArray[np.object_],
    doses: Sequence[Floats],
    levels: Floats,
    match: str,
    n_resamples: int,
    seed: int,
) -> xr.Dataset:
    """Match the costs of all networks (model, perturbation) and compare them."""
    names = list(found[0, 0])
    shape = (*found.shape, levels.size, len(names))
    cost, position = np.full(shape, np.nan), np.full(shape[:3], np.nan)
    boot = np.full((n_resamples, *shape), np.nan)
    longest = max(values.size for values in doses)
    curve = np.full((*found.shape, longest, len(names)), np.nan)
    weights: dict[tuple[int, str], Floats] = {}
    for m, p in np.ndindex(found.shape):
        measured: dict[str, Measured] = found.item(m, p)
        curves = np.stack([one.cost() for one in measured.values()], -1)  # (dose, measure)
        curve[m, p, : len(curves)] = curves
        cost[m, p], position[m, p] = at_levels(curves, names.index(match), levels)
        samples = []
        for one in measured.values():
            key = (m, one.clusters)  # the same maps for all perturbations of a network
            if key not in weights:
                rng = np.random.default_rng([seed, m, len(one.clusters)])
                weights[key] = draws(one.n.size, n_resamples, rng)
            samples.append(one.cost(weights[key]))
        for r, sample in enumerate(np.stack(samples, -1)):
            boot[r, m, p] = at_levels(sample, names.index(match), levels)[0]
    return tables(cost, boot, curve, position, doses, names, levels, found[0, 0])


def at_levels(curves: Floats, match: int, levels: Floats) -> tuple[Floats, Floats]:
    """Costs (level, measure) where one measure first reaches each level, and the positions.

    `curves` are (dose, measure), starting with the intact network; positions are dose numbers.
    """
    cost = np.full((levels.size, curves.shape[1]), np.nan)
    position = np.array([crossing(curves[:, match], level) for level in levels])
    for i in np.flatnonzero(np.isfinite(position)):
        low = min(int(position[i]), len(curves) - 2)
        share = position[i] - low
        cost[i] = (1 - share) * curves[low] + share * curves[low + 1]
    return cost, np.where(np.isfinite(position), position, np.nan)


def tables(
    cost: Floats,
    boot: Floats,
    curve: Floats,
    position: Floats,
    doses: Sequence[Floats],
    names: Sequence[str],
    levels: Floats,
    measured: Mapping[str, Measured],
) -> xr.Dataset:
    """Label the results, with the comparison of the first perturbation with all others."""
    each = ("model", "perturbation", "level", "measure")
    between = ("control", "level", "measure")
    steps = np.full((len(doses), curve.shape[2]), np.nan)
    dose = np.full(position.shape, np.nan)
    for p, values in enumerate(doses):
        steps[p, : values.size] = values
        known = np.isfinite(position[:, p])
        dose[:, p][known] = np.interp(position[:, p][known], np.arange(values.size), values)
    mean, mean_interval, _ = seeds(cost)
    difference = cost[:, :1] - cost[:, 1:]
    average, average_interval, p_value = seeds(difference)
    boot_difference = boot[:, :, :1] - boot[:, :, 1:]
    less = np.full(average.shape, "", object)
    for at in np.ndindex(average.shape):
        less[at] = verdict(estimate_at(difference, at), claimed=-1)
    about = "cost: 0 intact, 1 at chance (scores: change)"
    over = "Student's t interval over seeds"
    of_maps = "bootstrap interval over maps"
    versus = "cost minus that of the control"
    return xr.Dataset(
        {
            "cost": variable(each, cost, about),
            "interval": variable(
                (*each, "bound"), percentile_interval(boot), of_maps, level=LEVEL
            ),
            "matched_dose": variable(each[:3], dose, "dose at which the costs are interpolated"),
            "mean_cost": variable(each[1:], mean, f"mean over networks; {about}"),
            "mean_interval": variable((*each[1:], "bound"), mean_interval, over, level=LEVEL),
            "difference": variable(between, average, f"{versus}, mean over networks"),
            "difference_interval": variable(
                (*between, "bound"), average_interval, over, level=LEVEL
            ),
            "difference_p": variable(between, p_value, "p of no difference over seeds"),
            "difference_of_model": variable(("model", *between), difference, versus),
            "difference_of_model_interval": variable(
                ("model", *between, "bound"), percentile_interval(boot_difference), of_maps,
                level=LEVEL,
            ),
            "verdict": variable(
                between, less.astype(str), "the tested perturbation costs less than the control"
            ),
            "curve": variable(("model", "perturbation", "step", "measure"), curve, about),
            "dose": variable(("perturbation", "step"), steps, "dose, in units of its parameter"),
        },
        {
            "level": variable("level", levels, "cost that is made equal"),
            "measure": list(names),
            "about": ("measure", [MEASURES.get(name, "score") for name in names]),
            "ceiling": variable(
                "measure", [one.ceiling for one in measured.values()], "measure at a cost of 1"
            ),
            "bound": ["lower", "upper"],
        },
    )  # fmt: skip


def seeds(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean over networks (model, …), its interval (…, bound) over seeds, and p of a mean of 0.

    NaN where a network has no value.
    """
    shape = values.shape[1:]
    mean, p, interval = np.full(shape, np.nan), np.full(shape, np.nan), np.full((*shape, 2), np.nan)
    for at in np.ndindex(shape):
        estimate = estimate_at(values, at)
        mean[at], p[at], interval[at] = estimate.value, estimate.p, (estimate.lower, estimate.upper)
    return mean, interval, p


def estimate_at(values: Floats, at: tuple[int, ...]) -> Estimate:
    """Mean over networks (model, …) at one place; NaN if a network has no value there."""
    column = values.reshape(len(values), -1)[:, np.ravel_multi_index(at, values.shape[1:])]
    return over_seeds(column) if np.isfinite(column).all() else Estimate(np.nan)


def specificity_verdict(result: xr.Dataset, *, measure: str, level: float) -> str:
    """Verdict on the claim that the tested perturbation impairs the matched measure specifically.

    "shown" if, at an equal cost of the matched measure, the tested perturbation costs less of
    `measure` than every control does: each whole 95 % interval of the difference over seeds is
    below 0. This needs no correction for the number of controls, because all must agree.
    "opposite" if it costs more than at least one control and not less than any, otherwise "not
    shown"; "not tested" if the difference from a control has no interval.
    """
    verdicts = set(result["verdict"].sel(measure=measure, level=level).values.tolist())
    if "not tested" in verdicts:
        return "not tested"
    if verdicts == {"shown"}:
        return "shown"
    return "opposite" if "opposite" in verdicts and "shown" not in verdicts else "not shown"
