"""Mg²⁺ at test time: washout and block of a trained network, and responses to dose."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import nn
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.batched_lesions import count_errors
from placeformer.models.activation import NMDA, alpha_to_mg, check_alpha, mg_to_alpha
from placeformer.models.memory import KINDS, MEMORIES, counted_steps, world_of
from placeformer.models.ownership import in_use
from placeformer.models.transformer import NavigationTransformer
from placeformer.stats.intervals import LEVEL, percentile_interval
from placeformer.stats.resampling import draws, ratio, resampled
from placeformer.zoo.registry import load, seed_of

Source = str | os.PathLike[str] | NavigationTransformer
Metric = Callable[[NavigationTransformer], float]


@contextmanager
def magnesium(
    model: nn.Module, *, alpha: float | None = None, mg_mM: float | None = None
) -> Iterator[None]:
    """Change the Mg²⁺ of a trained network for as long as the ``with`` block lasts.

    Every NMDA_α of the network gets the new α: washout where it is below the one the network was
    trained with, block where it is above. Nothing is trained anew. Blocks may be nested; on exit,
    by an exception too, every α is what it was. Recordings made inside name the new α.

    Parameters
    ----------
    model
        A network with :class:`NMDA` activations.
    alpha, mg_mM
        The new [Mg²⁺]/K_Mg, dimensionless and ≥ 0, or the concentration in mM: exactly one.

    Raises
    ------
    ValueError
        Both or none of `alpha` and `mg_mM`, one out of range, or a network without NMDA_α.

    Examples
    --------
    >>> with pf.magnesium(model, mg_mM=0):  # doctest: +SKIP
    ...     washed_out = pf.memory_errors(model)
    """
    value = one_alpha(alpha, mg_mM)
    modules = [module for module in model.modules() if isinstance(module, NMDA)]
    if not modules:
        raise ValueError(
            "model must have NMDA activations for its Mg²⁺ to be changed, got none in "
            f"{type(model).__name__}"
        )
    ours = [module for module in model.modules() if isinstance(module, NavigationTransformer)]
    with in_use(model), ExitStack() as stack:
        for module in modules:
            stack.enter_context(standing_in(module, "alpha", value))
        for module in ours:  # inside torch.compile and DataParallel too
            stack.enter_context(standing_in(module, "config", replace(module.config, alpha=value)))
        yield


STANDING_IN: WeakKeyDictionary[nn.Module, dict[str, list[Any]]] = WeakKeyDictionary()
"""Attributes that have another value for now: their own one, then those of all open contexts."""


@contextmanager
def standing_in(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value; the newest of the open contexts holds, however they end."""
    values = STANDING_IN.setdefault(module, {}).setdefault(name, [getattr(module, name)])
    entry = [value]  # its own identity, as equal values may be nested
    values.append(entry)
    setattr(module, name, value)
    try:
        yield
    finally:
        del values[next(i for i, other in enumerate(values) if other is entry)]
        setattr(module, name, values[-1][0] if len(values) > 1 else values[0])
        if len(values) == 1:
            del STANDING_IN[module][name]


def one_alpha(alpha: float | None, mg_mM: float | None) -> float:
    """Return α from exactly one of both ways to give it."""
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
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Memory errors, or any metric, against Mg²⁺: that of training, or changed at test time.

    Parameters
    ----------
    models
        Networks, or what :func:`load` takes (names of the zoo, folders), one or several.
    alphas, mg_mM
        Test-time α, or concentrations in mM: every network is measured at each. By default at the
        α it was trained with; networks with another activation take part then only.
    metric
        A function from network to number, or several by name; by default working- and
        reference-memory error on trained and novel maps.
    n_walks, n_steps, where, seed
        Walks for the memory errors, the same at every dose; see :func:`memory_errors`.
    maps
        Map indices to walk on, of trained and of novel maps; by default all.
    n_resamples
        Bootstrap samples of the walks.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims ``model`` (every network at every dose), with coordinates `name`, `alpha` and `mg_mM`
        in force (NaN for another activation), `trained_alpha`, `activation_name`, `seed` (of the
        training; -1 where it is not known) and `n_maps`. `error` and `interval` (95 % bootstrap
        over walks) over ``maps`` (trained, novel) and ``memory``, with the counts behind them:
        `wrong` and `n` (…, walk). With `metric`: `value` (model, metric) instead.

    Raises
    ------
    ValueError
        `alphas` and `mg_mM` both, a dose out of range, no networks, or one without NMDA_α at
        test-time doses.
    """
    doses = check_doses(alphas, mg_mM)
    sources = [models] if isinstance(models, str | os.PathLike | nn.Module) else list(models)
    if not sources:
        raise ValueError("models must name at least one network, got none")
    settings: dict[str, Any] = {
        "n_walks": n_walks, "n_steps": n_steps, "where": where, "n_resamples": n_resamples,
        "seed": seed,
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
    """Test-time α; a single None where every network keeps its own."""
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
    n_resamples: int,
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
    weights = draws(n_walks, n_resamples, np.random.default_rng(seed))
    boot = [
        [resampled(w, c, weights) for w, c in zip(*pair, strict=True)]
        for pair in zip(wrong, n, strict=True)
    ]
    interval = np.array([[percentile_interval(b) for b in row] for row in boot])
    dims = ("maps", "memory")
    return xr.Dataset(
        {
            "error": variable(dims, ratio(wrong, n), "share of wrong predictions"),
            "interval": variable(
                (*dims, "bound"),
                interval,
                f"{LEVEL:.0%} bootstrap interval over walks",
                level=LEVEL,
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
    """Coordinates along ``model``; `alpha` is None where the one of training is in force."""
    alpha = trained if alpha is None else alpha
    nan, seed = float("nan"), seed_of(Path(model.info.get("folder", os.devnull)))
    values: dict[str, tuple[Any, str, str]] = {
        "name": (str(model.info.get("name") or "network"), "1", "name"),
        "alpha": (nan if alpha is None else alpha, "1", "α in force"),
        "mg_mM": (nan if alpha is None else alpha_to_mg(alpha), "mM", "[Mg²⁺] in force"),
        "trained_alpha": (nan if trained is None else trained, "1", "α of training"),
        "activation_name": (model.config.activation, "1", "activation"),
        "seed": (-1 if seed is None else seed, "1", "seed of training, -1: not known"),
        "n_maps": (-1 if model.world is None else model.world.n_maps, "1", "trained maps"),
    }
    return {
        name: variable("model", [value], long, units=units)
        for name, (value, units, long) in values.items()
    }
