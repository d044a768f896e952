"""Changes of Mg²⁺ at test time, and dose–response curves of Mg²⁺ and any other perturbation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm.auto import tqdm

from placeformer._options import check_whole
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.alpha import alpha_changed, nmda_modules
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.changes import Condition, Function
from placeformer.interventions.doses import Parameter, Score, check_score, named_scores, trials
from placeformer.interventions.perturbation import ALPHA, Targets
from placeformer.interventions.replacement import Reference
from placeformer.models.activation import alpha_to_mg, check_alpha, mg_to_alpha
from placeformer.models.memory import KINDS, MEMORIES, counted_steps, world_of
from placeformer.models.network_checks import check_module, found
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.network_state import original
from placeformer.stats.bootstrap import draws, ratio
from placeformer.stats.intervals import ABOUT_INTERVAL, LEVEL, error_interval, percentile_interval
from placeformer.zoo.registry import load, seed_of

Source = str | os.PathLike[str] | NavigationTransformer


@contextmanager
def magnesium(
    model: nn.Module, *, alpha: float | None = None, mg_mM: float | None = None
) -> Iterator[None]:
    """Change the Mg²⁺ of a trained network for as long as the ``with`` block lasts.

    Every NMDA_α of the network gets the new α: a washout if it is below the α of training, a block
    if it is above. The weights do not change. Blocks can be nested; on exit, also by an exception,
    every α is restored. Recordings made inside the block name the new α in their provenance.

    Parameters
    ----------
    model
        A network with :class:`NMDA` activations.
    alpha, mg_mM
        The new [Mg²⁺]/K_Mg, dimensionless and ≥ 0, or the concentration in mM, ≥ 0; give exactly
        one of them.

    Raises
    ------
    ValueError
        Both or neither of `alpha` and `mg_mM`, a value out of range, or a network without NMDA_α.

    See Also
    --------
    dose_response : Memory errors at several concentrations.
    equivalent_alpha : The α that costs as much memory as a lesion.
    ablate : Lesion units instead.
    NMDA : The activation that α belongs to.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> with pf.magnesium(model, mg_mM=0):
    ...     washed_out = pf.memory_errors(model, n_walks=4, n_steps=128, progress=False)
    ...     print(model.config.alpha)
    0.0
    >>> model.config.alpha
    10.0
    """
    value = one_alpha(alpha, mg_mM)
    check_module("model", model)
    with alpha_changed(model, lambda before: value):
        yield


def sources_of(models: Any) -> list[Any]:
    """Return the networks, or sources of networks, that were given as one or as several.

    Raises
    ------
    TypeError
        They are neither.
    """
    if isinstance(models, str | os.PathLike | nn.Module):
        return [models]
    if isinstance(models, xr.Dataset | None) or not isinstance(models, Iterable):
        raise TypeError(
            "models must be a network, a source that placeformer.load accepts, or several of them, "
            f"got {found(models)}"
        )
    return list(models)


def one_alpha(alpha: float | None, mg_mM: float | None) -> float:
    """Return α from `alpha` or `mg_mM`, exactly one of which must be given."""
    if (alpha is None) == (mg_mM is None):
        raise ValueError(
            f"exactly one of alpha and mg_mM must be given, got alpha={alpha!r}, mg_mM={mg_mM!r}"
        )
    return mg_to_alpha(mg_mM) if alpha is None else check_alpha(alpha)  # type: ignore[arg-type]


def dose_response(
    models: Source | nn.Module | Iterable[Source | nn.Module],
    parameter: str | Function = ALPHA,
    doses: ArrayLike | None = None,
    *,
    units: Targets | None = None,
    score: Score | Mapping[str, Score] | None = None,
    steps: Condition = None,
    reference: Reference = None,
    alphas: ArrayLike | None = None,
    mg_mM: ArrayLike | None = None,
    metric: Score | Mapping[str, Score] | None = None,
    n_walks: int = 64,
    n_steps: int = 2048,
    where: str = "chunk_end",
    maps: Sequence[int] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure memory errors, or any score, at several doses of a perturbation.

    By default the parameter is α, the Mg²⁺ of NMDA_α: that of training, or one set at test time.
    Any other perturbation can take its place (a gain, noise, a partial lesion, …), for any network
    that a score is given for.

    Parameters
    ----------
    models
        One or several networks, or sources that :func:`load` accepts (names of the zoo, folders). A
        network that is not a navigation Transformer needs `score`.
    parameter
        ``"nmda"``, or a kind of :func:`perturb`: "gain", "add", "noise", "clamp", "threshold",
        "zero", "mean", "position", "resample", or a function of the values and the dose; or
        ``"random_units"``, whose dose is the fraction of the units that are lesioned by their
        means, drawn at random (with `seed`); a larger fraction includes all units of a smaller one.
    doses
        Doses, in the units of the parameter as in :func:`perturb`; those of ``"nmda"`` are
        test-time α. Without doses every network is measured at its α of training; only then may
        networks with another activation be among them.
    units
        What the parameter acts on, as in :func:`perturb`: units, layers, attention heads or
        weights. By default all feed-forward units of a navigation Transformer, and for ``"nmda"``
        all its NMDA_α.
    score
        A function of the perturbed network that returns a number, or one number for each of the
        same trials at every dose; or a mapping of several by name. It is called in eval mode and
        without gradients, and what it changes of the network is restored. By default the working-
        and reference-memory errors of a navigation Transformer on trained and novel maps.
    steps, reference
        Steps at which it acts, and Recordings for noise and lesions, see :func:`perturb`. By
        default all steps, and for a navigation Transformer a reference recorded once, intact.
    alphas, mg_mM
        The doses of ``"nmda"`` as α or as concentrations in mM, in place of `doses`.
    metric
        Another name of `score`.
    n_walks, n_steps, where, seed
        Walks for the memory errors, the same at every dose; see :func:`memory_errors`.
    maps
        Indices of the trained and novel maps to walk on; by default all.
    n_resamples
        Number of bootstrap samples of the trials of a score.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dimension ``model`` (every network at every dose), with the coordinates `name`; `alpha` and
        `mg_mM` during the measurement (NaN for another activation); `trained_alpha`;
        `activation_name`; `seed` of the training (-1 if unknown); `n_maps`; and, for another
        parameter than α, `dose`. `error`, 0 to 1, and `interval` (95 %, over walks, as in
        :func:`memory_errors`) over ``maps`` (trained, novel) and ``memory``, with the counts they
        are computed from, `wrong` and `n` (…, walk). With `score`, instead, `value` (model,
        metric), the mean over trials, and `interval` (model, metric, bound), their 95 % bootstrap
        interval; NaN for a score that is one number.

    Raises
    ------
    TypeError
        `models` are neither networks nor their sources, or a score is not a function.
    ValueError
        More than one of `doses`, `alphas` and `mg_mM`, a dose out of range, no networks, test-time
        α for a network without NMDA_α, units that do not exist, or a network of another kind
        without `score`.

    See Also
    --------
    fit_hill : Fit a Hill curve to the responses.
    perturb, magnesium : Set a dose for a block of code.
    equivalent_dose, equivalent_curve : Compare the doses with lesions.
    memory_errors : The errors of one network.
    plot.dose_response : Draw the responses.

    Examples
    --------
    >>> import placeformer as pf
    >>> few = {"n_walks": 4, "n_steps": 128, "progress": False}
    >>> response = pf.dose_response("mini-nmda-a10", alphas=[0, 10], **few)
    >>> dict(response.error.sizes)
    {'model': 2, 'maps': 2, 'memory': 2}

    Another parameter, and your own network with a score:

    >>> gain = pf.dose_response("mini-nmda-a10", "gain", [1, 0.5], units="ffn.1", **few)
    >>> gain.dose.values
    array([1. , 0.5])
    >>> import torch
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Linear(2, 8), pf.NMDA(10), nn.Linear(8, 1))
    >>> x = torch.randn(100, 2)
    >>> washout = pf.dose_response(
    ...     network, alphas=[10, 1, 0], score=lambda net: net(x).detach().var(), progress=False
    ... )
    >>> dict(washout.value.sizes)
    {'model': 3, 'metric': 1}
    """
    check_whole("n_resamples", n_resamples)
    asked = Parameter(parameter, units, steps, reference, seed)
    values = check_doses(asked, doses, alphas, mg_mM)
    sources = sources_of(models)
    if not sources:
        raise ValueError("models must name at least one network, got none")
    if score is not None and metric is not None:
        raise ValueError("at most one of score and metric, its other name, may be given, got both")
    scores = {**({} if score is None else named_scores(score, "score"))}
    scores |= {} if metric is None else named_scores(metric, "metric")
    settings: dict[str, Any] = {
        "n_walks": n_walks, "n_steps": n_steps, "where": where, "seed": seed,
    }  # fmt: skip
    rows = []
    with tqdm(total=len(sources) * len(values), desc="doses", disable=not progress) as bar:
        for source in sources:
            model = original(source) if isinstance(source, nn.Module) else load(source)
            check_score(model, scores or None)
            of_model = asked if values == [None] else asked.of(model)
            if scores:
                found = scored_at(model, of_model, values, scores, n_resamples, seed, bar)
            else:
                found = errors_at(model, of_model, values, maps=maps, bar=bar, **settings)
            for dose, row in zip(values, found, strict=True):
                facts = facts_of(model, asked, dose)
                rows.append(row.expand_dims("model").assign_coords(facts))
    result = xr.concat(rows, "model", combine_attrs="drop_conflicts", join="exact")
    if parameter != ALPHA:
        settings["parameter"] = asked.name
    settings["maps_walked"] = "all" if maps is None else " ".join(map(str, maps))
    provenance = schema.provenance(None, "dose_response", **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: provenance})


def check_doses(
    parameter: Parameter,
    doses: ArrayLike | None,
    alphas: ArrayLike | None,
    mg_mM: ArrayLike | None,
) -> list[float | None]:
    """Return the doses; a single None if every network keeps its own α."""
    if alphas is not None and mg_mM is not None:
        raise ValueError("at most one of alphas and mg_mM may be given, got both")
    if doses is not None and (alphas is not None or mg_mM is not None):
        raise ValueError("at most one of doses, alphas and mg_mM may be given, got two of them")
    if parameter.how != ALPHA and (alphas is not None or mg_mM is not None):
        raise ValueError(
            f'alphas and mg_mM must be None unless parameter="nmda", got parameter='
            f"{parameter.name!r}; give its doses as doses"
        )
    if alphas is None and mg_mM is None and doses is None:
        if parameter.how == ALPHA:
            return [None]
        raise ValueError(f"doses must be given for parameter={parameter.name!r}, got None")
    given = doses if doses is not None else alphas if alphas is not None else mg_mM
    read = mg_to_alpha if mg_mM is not None else parameter.checked
    values = [read(float(value)) for value in np.atleast_1d(np.asarray(given, float))]
    if not values:
        raise ValueError("doses must hold at least one dose, got none")
    return list(values)


def scored_at(
    model: nn.Module,
    parameter: Parameter,
    doses: Sequence[float | None],
    scores: Mapping[str, Score],
    n_resamples: int,
    seed: int,
    bar: tqdm,
) -> list[xr.Dataset]:
    """Scores of one network at every dose."""
    rows, before = [], dict[str, list[NDArray[np.float64]]]()
    for dose in doses:
        with nullcontext() if dose is None else parameter.at(model, dose):
            values = {}
            for name, score in scores.items():
                values[name] = trials(name, score, model, before.setdefault(name, []))
                before[name].append(values[name])
        ends = [score_interval(v, n_resamples, seed) for v in values.values()]
        about = "95 % bootstrap interval over trials"
        rows.append(
            xr.Dataset(
                {
                    "value": variable("metric", [v.mean() for v in values.values()], "score"),
                    "interval": variable(("metric", "bound"), ends, about, level=LEVEL),
                },
                {"metric": list(scores), "bound": ["lower", "upper"]},
            )
        )
        bar.update()
    return rows


def score_interval(values: NDArray[np.float64], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Bootstrap interval (bound,) of the mean over trials; NaN for a single number."""
    if values.size < 2:
        return np.full(2, np.nan)
    weights = draws(values.size, n_resamples, np.random.default_rng(seed))
    return percentile_interval(weights @ values / values.size)


def errors_at(
    model: nn.Module,
    parameter: Parameter,
    doses: Sequence[float | None],
    *,
    n_walks: int,
    n_steps: int,
    where: str,
    maps: Sequence[int] | None,
    seed: int,
    bar: tqdm,
) -> list[xr.Dataset]:
    """Memory errors of one network at every dose."""
    assert isinstance(model, NavigationTransformer)
    counted_steps(n_steps, model.config, where)
    wrong, n = [], []
    for kind in KINDS:
        walk = world_of(model).walk(
            n_walks, n_steps, seed=seed, familiar=kind == "trained", maps=maps
        )
        last = bar if kind == KINDS[-1] else None
        if doses == [None]:
            counts, total = count_errors(model, walk, seed=seed, where=where)
            bar.update(last is not None)
        else:
            given = [dose for dose in doses if dose is not None]
            counts, total = parameter.count(model, given, walk, seed=seed, where=where, bar=last)
        wrong.append(counts.transpose(0, 2, 1))  # (dose, memory, walk)
        n.append(total.T)
    return [errors_of(np.stack(one), np.stack(n), model) for one in zip(*wrong, strict=True)]


def errors_of(
    wrong: NDArray[np.int64], n: NDArray[np.int64], model: NavigationTransformer
) -> xr.Dataset:
    """Memory errors at one dose from counts (maps, memory, walk)."""
    dims = ("maps", "memory")
    return xr.Dataset(
        {
            "error": variable(dims, ratio(wrong, n), "fraction of wrong predictions"),
            "interval": variable(
                (*dims, "bound"), error_interval(wrong, n), ABOUT_INTERVAL, level=LEVEL
            ),
            "wrong": variable((*dims, "walk"), wrong, "wrong predictions"),
            "n": variable((*dims, "walk"), n, "predictions counted"),
        },
        {"maps": list(KINDS), "memory": list(MEMORIES), "bound": ["lower", "upper"]},
        {"chance": 1 - 1 / world_of(model).n_letters},
    )


def facts_of(model: nn.Module, parameter: Parameter, dose: float | None) -> dict[str, Any]:
    """Coordinates along ``model``; `dose` is None if the α of training is not changed."""
    own, nan = isinstance(model, NavigationTransformer), float("nan")
    alphas = {module.alpha for module in nmda_modules(model)}
    trained = alphas.pop() if len(alphas) == 1 else nan
    alpha = trained if dose is None or parameter.how != ALPHA else dose
    info = model.info if isinstance(model, NavigationTransformer) else {}
    seed = seed_of(Path(info.get("folder", os.devnull))) if own else None
    activation = "nmda" if nmda_modules(model) else ""
    if isinstance(model, NavigationTransformer):
        activation = model.config.activation
    world = model.world if isinstance(model, NavigationTransformer) else None
    name = info.get("name") or ("network" if own else type(model).__name__)
    values: dict[str, tuple[Any, str, str]] = {
        "name": (str(name), "1", "name"),
        "alpha": (alpha, "1", "α when measured"),
        "mg_mM": (nan if np.isnan(alpha) else alpha_to_mg(alpha), "mM", "[Mg²⁺] when measured"),
        "trained_alpha": (trained, "1", "α of training"),
        "activation_name": (activation, "1", "activation"),
        "seed": (-1 if seed is None else seed, "1", "seed of training, -1 if unknown"),
        "n_maps": (-1 if world is None else world.n_maps, "1", "trained maps"),
    }
    if parameter.how != ALPHA:
        values["dose"] = (dose, "1", parameter.meaning)
    return {
        name: variable("model", [value], long, units=units)
        for name, (value, units, long) in values.items()
    }
