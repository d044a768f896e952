"""Changes of Mg²⁺ at test time: washout, block, and dose–response curves."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import nn
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.stand_ins import standing_in
from placeformer.models.activation import NMDA, alpha_to_mg, check_alpha, mg_to_alpha
from placeformer.models.memory import KINDS, MEMORIES, counted_steps, world_of
from placeformer.models.ownership import in_use
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.stats.bootstrap import ratio
from placeformer.stats.intervals import ABOUT_INTERVAL, LEVEL, error_interval
from placeformer.zoo.registry import load, seed_of

Source = str | os.PathLike[str] | NavigationTransformer
Metric = Callable[[NavigationTransformer], float]


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
    with alpha_changed(model, lambda before: value):
        yield


@contextmanager
def alpha_changed(
    model: nn.Module, change: Callable[[float], float], names: Container[str] | None = None
) -> Iterator[None]:
    """Change α of the NMDA_α modules with these names (default: all) by a function of it."""
    every = {name: module for name, module in model.named_modules() if isinstance(module, NMDA)}
    modules = [module for name, module in every.items() if names is None or name in names]
    if not modules:
        raise ValueError(
            "model must have NMDA activations for its Mg²⁺ to be changed, got none in "
            f"{type(model).__name__}"
        )

    def configured(config: ModelConfig) -> ModelConfig:
        return replace(config, alpha=None if config.alpha is None else new(config.alpha))

    def new(before: float) -> float:
        return check_alpha(change(before))

    own = [m for m in model.modules() if isinstance(m, NavigationTransformer)]
    whole = [m for m in own if {*nmda_modules(m)} <= {*modules}]
    with in_use(model), ExitStack() as stack:
        for module in modules:
            stack.enter_context(standing_in(module, "alpha", new))
        for network in whole:  # inside torch.compile and DataParallel too
            stack.enter_context(standing_in(network, "config", configured))
        yield


def nmda_modules(model: nn.Module) -> list[NMDA]:
    """All NMDA_α modules of a network."""
    return [module for module in model.modules() if isinstance(module, NMDA)]


def one_alpha(alpha: float | None, mg_mM: float | None) -> float:
    """Return α from `alpha` or `mg_mM`, exactly one of which must be given."""
    if (alpha is None) == (mg_mM is None):
        raise ValueError(
            f"exactly one of alpha and mg_mM must be given, got alpha={alpha!r}, mg_mM={mg_mM!r}"
        )
    return mg_to_alpha(mg_mM) if alpha is None else check_alpha(alpha)  # type: ignore[arg-type]


def dose_response(
    models: Source | Iterable[Source],
    *,
    alphas: ArrayLike | None = None,
    mg_mM: ArrayLike | None = None,
    metric: Metric | Mapping[str, Metric] | None = None,
    n_walks: int = 64,
    n_steps: int = 2048,
    where: str = "chunk_end",
    maps: Sequence[int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure memory errors, or any metric, at several Mg²⁺ concentrations.

    The concentrations are those that networks were trained at, or those set at test time.

    Parameters
    ----------
    models
        One or several networks, or sources that :func:`load` accepts (names of the zoo, folders).
    alphas, mg_mM
        Test-time α, or concentrations in mM, at each of which every network is measured. By
        default every network is measured at its α of training; only then may networks with another
        activation be among them.
    metric
        A function of the network that returns a number, or a mapping of several by name; by
        default the working- and reference-memory errors on trained and novel maps.
    n_walks, n_steps, where, seed
        Walks for the memory errors, the same at every dose; see :func:`memory_errors`.
    maps
        Indices of the trained and novel maps to walk on; by default all.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dimension ``model`` (every network at every dose), with the coordinates `name`; `alpha` and
        `mg_mM` during the measurement (NaN for another activation); `trained_alpha`;
        `activation_name`; `seed` of the training (-1 if unknown); and `n_maps`. `error`, 0 to 1,
        and `interval` (95 %, over walks, as in :func:`memory_errors`) over ``maps`` (trained,
        novel) and ``memory``, with the counts they are computed from, `wrong` and `n` (…, walk).
        With `metric`, `value` (model, metric) instead.

    Raises
    ------
    ValueError
        Both `alphas` and `mg_mM`, a dose out of range, no networks, or test-time doses for a
        network without NMDA_α.

    See Also
    --------
    fit_hill : Fit a Hill curve to the responses.
    magnesium : Change α for a block of code.
    equivalent_curve : Compare the doses with lesions.
    memory_errors : The errors of one network.
    plot.dose_response : Draw the responses.

    Examples
    --------
    >>> import placeformer as pf
    >>> response = pf.dose_response(
    ...     "mini-nmda-a10", alphas=[0, 10], n_walks=4, n_steps=128, progress=False
    ... )
    >>> dict(response.error.sizes)
    {'model': 2, 'maps': 2, 'memory': 2}
    """
    doses = check_doses(alphas, mg_mM)
    sources = [models] if isinstance(models, str | os.PathLike | nn.Module) else list(models)
    if not sources:
        raise ValueError("models must name at least one network, got none")
    settings: dict[str, Any] = {
        "n_walks": n_walks, "n_steps": n_steps, "where": where, "seed": seed,
    }  # fmt: skip
    named = metric if isinstance(metric, Mapping | None) else {"metric": metric}
    rows = []
    with tqdm(total=len(sources) * len(doses), desc="doses", disable=not progress) as bar:
        for source in sources:
            model = source if isinstance(source, NavigationTransformer) else load(source)
            trained = model.config.alpha
            for alpha in doses:
                with nullcontext() if alpha is None else magnesium(model, alpha=alpha):
                    row = (
                        errors_of(model, maps=maps, **settings)
                        if named is None
                        else values_of(model, named)
                    )
                rows.append(row.expand_dims("model").assign_coords(facts_of(model, trained, alpha)))
                bar.update()
    result = xr.concat(rows, "model", combine_attrs="drop_conflicts", join="exact")
    settings["maps_walked"] = "all" if maps is None else " ".join(map(str, maps))
    provenance = schema.provenance(None, "dose_response", **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: provenance})


def check_doses(alphas: ArrayLike | None, mg_mM: ArrayLike | None) -> list[float | None]:
    """Return the test-time α; a single None if every network keeps its own."""
    if alphas is not None and mg_mM is not None:
        raise ValueError("at most one of alphas and mg_mM may be given, got both")
    if alphas is None and mg_mM is None:
        return [None]
    given, read = (alphas, check_alpha) if mg_mM is None else (mg_mM, mg_to_alpha)
    return [read(float(value)) for value in np.atleast_1d(np.asarray(given, float))]


def errors_of(
    model: NavigationTransformer,
    *,
    n_walks: int,
    n_steps: int,
    where: str,
    maps: Sequence[int] | None,
    seed: int,
) -> xr.Dataset:
    """Memory errors of one network at one dose."""
    counted_steps(n_steps, model.config, where)
    walks = [
        world_of(model).walk(n_walks, n_steps, seed=seed, familiar=kind == "trained", maps=maps)
        for kind in KINDS
    ]
    counts = [count_errors(model, walk, seed=seed, where=where) for walk in walks]
    wrong = np.stack([w[0].T for w, _ in counts])  # (maps, memory, walk)
    n = np.stack([n.T for _, n in counts])
    dims = ("maps", "memory")
    return xr.Dataset(
        {
            "error": variable(dims, ratio(wrong, n), "share of wrong predictions"),
            "interval": variable(
                (*dims, "bound"), error_interval(wrong, n), ABOUT_INTERVAL, level=LEVEL
            ),
            "wrong": variable((*dims, "walk"), wrong, "wrong predictions"),
            "n": variable((*dims, "walk"), n, "predictions counted"),
        },
        {"maps": list(KINDS), "memory": list(MEMORIES), "bound": ["lower", "upper"]},
        {"chance": 1 - 1 / world_of(model).n_letters},
    )


def values_of(model: NavigationTransformer, metrics: Mapping[str, Metric]) -> xr.Dataset:
    """Metrics of one network at one dose."""
    values = [float(metric(model)) for metric in metrics.values()]
    value = variable("metric", values, "value of the metric")
    return xr.Dataset({"value": value}, {"metric": list(metrics)})


def facts_of(
    model: NavigationTransformer, trained: float | None, alpha: float | None
) -> dict[str, Any]:
    """Coordinates along ``model``; `alpha` is None if the α of training is not changed."""
    alpha = trained if alpha is None else alpha
    nan, seed = float("nan"), seed_of(Path(model.info.get("folder", os.devnull)))
    values: dict[str, tuple[Any, str, str]] = {
        "name": (str(model.info.get("name") or "network"), "1", "name"),
        "alpha": (nan if alpha is None else alpha, "1", "α when measured"),
        "mg_mM": (
            nan if alpha is None else alpha_to_mg(alpha),
            "mM",
            "[Mg²⁺] when measured",
        ),
        "trained_alpha": (nan if trained is None else trained, "1", "α of training"),
        "activation_name": (model.config.activation, "1", "activation"),
        "seed": (-1 if seed is None else seed, "1", "seed of training, -1 if unknown"),
        "n_maps": (-1 if model.world is None else model.world.n_maps, "1", "trained maps"),
    }
    return {
        name: variable("model", [value], long, units=units)
        for name, (value, units, long) in values.items()
    }
