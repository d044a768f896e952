"""The dose of α, or of another perturbation, that costs as much as a lesion."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm.auto import tqdm

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.doses import Parameter, Score, check_score, trials
from placeformer.interventions.lesions import ablate
from placeformer.interventions.perturbation import ALPHA, Targets
from placeformer.interventions.replacement import How, Reference
from placeformer.interventions.units import Units
from placeformer.models.activation import alpha_to_mg
from placeformer.models.fingerprints import network_facts
from placeformer.models.memory import MEMORIES, counted_steps, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.navigation import facts
from placeformer.recording.network_state import original
from placeformer.stats.bootstrap import draws, ratio, resampled
from placeformer.stats.intervals import LEVEL, tails

BOUNDS = ["lower", "upper"]
Floats = NDArray[np.float64]


def equivalent_alpha(
    model: nn.Module,
    lesion: Units,
    *,
    alphas: ArrayLike | None = None,
    how: How = "mean",
    reference: Reference = None,
    memory: str = "reference",
    score: Score | None = None,
    n_walks: int = 64,
    n_steps: int = 2048,
    where: str = "chunk_end",
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Find the test-time α that costs as much memory as a lesion, on the same walks.

    The error is measured under the lesion and at every α of a range. The equivalent α is the first
    one, from the α of training towards the far end of the range, at which the error equals that of
    the lesion. Between two measured α it is interpolated linearly in ln α, or in α next to 0. It is
    the :func:`equivalent_dose` of the parameter ``"nmda"``.

    Parameters
    ----------
    model
        A navigation Transformer with NMDA_α and a world, or any network with NMDA_α and a `score`.
    lesion
        Units, as in :func:`ablate`.
    alphas
        Test-time α in any order: none above the α of training (washout), or none below it (block).
        The α of training is added. By default a washout: the α of training times 1, 1/2, …, 1/512,
        and 0.
    how, reference
        Kind and reference of the lesion, see :func:`ablate`.
    memory
        ``"reference"`` or ``"working"``.
    score
        A function of the network that returns its cost (higher is worse), a number or one number
        for each of the same trials, in place of the memory error.
    n_walks, n_steps, where, seed
        Walks on all trained maps, see :func:`memory_errors`.
    n_resamples
        Number of bootstrap samples of the walks.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        - `alpha`, `mg_mM`: the equivalent α, dimensionless, and its concentration; NaN if no α of
          the range costs as much, for the `reason` given, which is empty otherwise;
        - `interval` (bound): 95 % bootstrap interval of `alpha` over walks, resampled in the
          same way for the lesion and the doses. A bound is NaN if the lesion costs more than any
          α of the range in that fraction of the samples, and the α of training if it costs nothing;
          NaN for a score that is a single number. `found`: fraction of the samples that have an
          equivalent;
        - `lesion_error`, `intact_error`, and `error` (dose) at every test-time α `dose`.

    Raises
    ------
    ValueError
        A network without NMDA_α, α on both sides of the α of training, units that do not exist, or
        a network of another kind without `score`.

    See Also
    --------
    equivalent_dose : The same for any other parameter than α.
    equivalent_curve : The same for every lesion of a curve.
    ablate : The lesion.
    magnesium : The change of α.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> few = {"n_walks": 4, "n_steps": 128, "n_resamples": 50, "progress": False}
    >>> lesion = {"ffn.1": slice(0, 60)}
    >>> result = pf.equivalent_alpha(model, lesion, alphas=[0, 1, 3], how="zero", **few)
    >>> result.error.dims, result.interval.shape
    (('dose',), (2,))
    """
    model = original(model)
    if isinstance(model, NavigationTransformer) and model.config.alpha is None:
        raise ValueError(f"model must have NMDA activations, got {model.config.activation!r}")
    settings: dict[str, Any] = {
        "memory": memory, "how": how, "n_walks": n_walks, "n_steps": n_steps, "where": where,
        "n_resamples": n_resamples, "seed": seed,
    }  # fmt: skip
    parameter = Parameter(ALPHA)
    result = measured_equivalence(
        model, lesion, parameter, alphas, reference=reference, score=score, progress=progress,
        **settings,
    )  # fmt: skip
    settings["trained_alpha"] = parameter.intact(model)
    about = schema.provenance(None, "equivalent_alpha", network=facts_of_any(model), **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def equivalent_dose(
    model: nn.Module,
    lesion: Units,
    parameter: str = "gain",
    doses: ArrayLike | None = None,
    *,
    units: Targets | None = None,
    how: How = "mean",
    reference: Reference = None,
    memory: str = "reference",
    score: Score | None = None,
    n_walks: int = 64,
    n_steps: int = 2048,
    where: str = "chunk_end",
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Find the dose of any perturbation that costs as much as a lesion, on the same walks.

    The equivalent dose is the first one, from the intact network towards the far end of the range,
    at which the cost equals that of the lesion. Between two measured doses it is interpolated
    linearly (α: in ln α), but not between the intact network of "threshold", at −∞, and its first
    dose: there it is NaN, and a bound of its interval is one of the two.

    Parameters
    ----------
    model
        A navigation Transformer with a world, or any network with a `score`.
    lesion
        Units, as in :func:`ablate`.
    parameter, doses, units
        What takes the lesion's place, as in :func:`dose_response`, with doses on one side of the
        one at which the network is intact, which is added: 1 for "gain", −∞ for "threshold", the α
        of training for "nmda", and 0 for "add", "noise", partial lesions and "random_units".
    how, reference
        Kind of the lesion, and Recordings for it and for the parameter, see :func:`ablate`.
    memory, score
        What it costs: the error of ``"reference"`` or ``"working"`` memory, or a function of the
        network that returns its cost (higher is worse), a number or one for each of the same
        trials.
    n_walks, n_steps, where, seed
        Walks on all trained maps, see :func:`memory_errors`.
    n_resamples
        Number of bootstrap samples of the walks, or of the trials.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        `equivalent`: the dose; NaN if no dose of the range costs as much, for the `reason` given;
        with `interval`, `found`, `lesion_error`, `intact_error` and `error` (dose) as in
        :func:`equivalent_alpha`.

    Raises
    ------
    ValueError
        A parameter without an intact dose ("clamp", functions), doses on both sides of it, units
        that do not exist, or a network of another kind without `score`.

    See Also
    --------
    equivalent_alpha : The same for α.
    dose_response : Measure the cost of every dose.
    perturb : The perturbations.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> few = {"n_walks": 4, "n_steps": 128, "n_resamples": 50, "progress": False}
    >>> result = pf.equivalent_dose(
    ...     model, {"ffn.1": slice(0, 60)}, "gain", [0.75, 0.5, 0.25, 0], how="zero", **few
    ... )
    >>> result.dose.values
    array([1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    model = original(model)
    settings: dict[str, Any] = {
        "memory": memory, "how": how, "n_walks": n_walks, "n_steps": n_steps, "where": where,
        "n_resamples": n_resamples, "seed": seed,
    }  # fmt: skip
    chosen = Parameter(parameter, units, None, reference, seed)
    result = measured_equivalence(
        model, lesion, chosen, doses, reference=reference, score=score, progress=progress,
        **settings,
    )  # fmt: skip
    result = result.drop_vars("mg_mM").rename(alpha="equivalent")
    for name in ("equivalent", "interval", "dose"):
        result[name].attrs["long_name"] = chosen.meaning
    settings["parameter"] = chosen.name
    about = schema.provenance(None, "equivalent_dose", network=facts_of_any(model), **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def measured_equivalence(
    model: nn.Module,
    lesion: Units,
    parameter: Parameter,
    doses: ArrayLike | None,
    *,
    how: How,
    reference: Reference,
    memory: str,
    score: Score | None,
    n_walks: int,
    n_steps: int,
    where: str,
    n_resamples: int,
    seed: int,
    progress: bool,
) -> xr.Dataset:
    """Measure a lesion and a range of doses on the same walks or trials, and compare them."""
    check_score(model, score)
    check_option("memory", memory, MEMORIES)
    parameter = parameter.of(model)
    values = dose_range(doses, parameter.intact(model), parameter)
    lesioned = partial(ablate, model, lesion, how, reference=reference, seed=seed)
    with tqdm(total=1 + values.size, desc="doses", disable=not progress) as bar:
        if score is None:
            assert isinstance(model, NavigationTransformer)
            counted_steps(n_steps, model.config, where)
            walk, which = world_of(model).walk(n_walks, n_steps, seed=seed), MEMORIES.index(memory)
            with lesioned():
                wrong, n = count_errors(model, walk, seed=seed, where=where)
            bar.update()
            more, _ = parameter.count(model, values.tolist(), walk, seed=seed, where=where, bar=bar)
            cost = np.concatenate([wrong, more])[..., which].astype(float)
            n = n[:, which]
        else:
            rows: list[Floats] = []
            for dose in (None, *values.tolist()):
                with lesioned() if dose is None else parameter.at(model, dose):
                    rows.append(trials("score", score, model, rows))
                bar.update()
            cost, n = np.array(rows), np.ones(rows[0].size, np.int64)
    weights = draws(n.size, n_resamples, np.random.default_rng(seed))
    boot = resampled(cost, n, weights) if n.size > 1 else np.full((1, len(cost)), np.nan)
    return equivalence(values, ratio(cost, n), boot, log=parameter.how == ALPHA)


def facts_of_any(model: nn.Module) -> dict[str, Any]:
    """Identity of a network of any kind, for provenance."""
    if isinstance(model, NavigationTransformer):
        return facts(model)
    return {"class": type(model).__name__, **network_facts(model)}


def equivalence(doses: Floats, error: Floats, boot: Floats, *, log: bool = True) -> xr.Dataset:
    """Equivalent dose from errors (1 + dose,) of lesion and doses, and bootstrap samples of them.

    `doses` are ordered from the α of training, or the intact dose, to the far end of the range.
    """
    name = "α" if log else "dose"
    at = crossing(error[1:], error[0])
    samples = np.array([crossing(row[1:], row[0]) for row in boot])
    # Samples without an equivalent are infinite, so quantiles must be samples, not interpolated.
    ends = np.quantile(np.maximum(samples, 0), tails(), method="inverted_cdf")
    if not np.isfinite(doses[0]):  # next to an infinite dose the bounds are the doses around
        ends = np.where((ends > 0) & (ends < 1), [0.0, 1.0], ends)
    alpha = alpha_at(doses, at, log=log)
    interval = np.sort([alpha_at(doses, end, log=log) for end in ends])
    if np.isnan(interval).any() and doses[-1] < doses[0]:
        interval = interval[::-1]  # NaN means the far end, which for washout is the lower one
    mg = alpha_to_mg(alpha) if log and np.isfinite(alpha) else np.nan
    have = np.mean([not np.isnan(alpha_at(doses, sample, log=log)) for sample in samples])
    share = "fraction of wrong predictions"
    return xr.Dataset(
        {
            "alpha": variable((), alpha, "equivalent test-time α"),
            "mg_mM": variable((), mg, "[Mg²⁺] of the equivalent α", units="mM"),
            "interval": variable("bound", interval, "equivalent test-time α", level=LEVEL),
            "found": variable((), have, "fraction of the samples that have an equivalent"),
            "reason": variable((), reason_none(at, doses, error, name), "why there is none"),
            "lesion_error": variable((), error[0], share),
            "intact_error": variable((), error[1], share),
            "error": variable("dose", error[1:], share),
        },
        {"dose": variable("dose", doses, "test-time α"), "bound": BOUNDS},
    )


def dose_range(
    doses: ArrayLike | None, intact: float, parameter: Parameter | None = None
) -> Floats:
    """Doses, ordered from the one at which the network is intact to the far end."""
    parameter = Parameter(ALPHA) if parameter is None else parameter
    of_alpha = parameter.how == ALPHA
    name, its = ("alphas", "the trained α") if of_alpha else ("doses", "the intact dose")
    if doses is None:
        if not of_alpha:
            raise ValueError(f"doses must be given for parameter={parameter.name!r}, got None")
        if intact == 0:
            raise ValueError("alphas must be given for a network trained at α = 0, got None")
        doses = [*(intact / 2.0 ** np.arange(10)), 0]
    values = np.unique([parameter.checked(dose) for dose in np.ravel(doses)] + [intact])
    if values.size < 2 or values[0] < intact < values[-1]:
        raise ValueError(
            f"{name} must lie on one side of {its}, {intact:g}, got {values.tolist()}; "
            f"call the function once for each side" + (", washout and block" if of_alpha else "")
        )
    return values if values[0] == intact else values[::-1]


def crossing(error: Floats, target: float) -> float:
    """Return the position along the doses (0, 1, …) at which the error first equals the target.

    Between two doses it is interpolated. It is infinite if the target lies beyond all errors, minus
    infinite if it lies before the first one, and NaN if the target is NaN.
    """
    gap = error - target
    if np.isnan(target):
        return np.nan
    if gap[0] == 0:
        return 0.0
    changes = np.flatnonzero(gap[1:] * gap[:-1] <= 0)
    if changes.size:
        i = changes[0]
        return float(i + gap[i] / (gap[i] - gap[i + 1]))
    return np.inf if gap[0] < 0 else -np.inf


def alpha_at(doses: Floats, at: float, *, log: bool = True) -> float:
    """Return the dose at a position along the doses; NaN outside of them.

    It is interpolated in its logarithm if both doses are positive, or linearly with `log=False`;
    NaN next to an infinite dose.
    """
    if not np.isfinite(at):
        return np.nan
    if at == int(at):
        return float(doses[int(at)])
    i = int(at)
    pair, share = doses[i : i + 2], at - i
    if not np.isfinite(pair).all():
        return np.nan
    if log and (pair > 0).all():
        return float(np.exp(np.log(pair) @ [1 - share, share]))
    return float(pair @ [1 - share, share])


def reason_none(at: float, doses: Floats, error: Floats, name: str = "α") -> str:
    """Reason why there is no equivalent; empty if there is one."""
    if np.isfinite(at):
        if not 0 < at < 1 or np.isfinite(doses[0]):
            return ""
        return (
            f"the lesion's error, {error[0]:.3f}, lies between that of the intact network and that "
            f"of the first {name}, {doses[1]:g}; measure a lower {name}"
        )
    if np.isnan(at):
        return "there is no such lesion"
    if at > 0:
        return (
            f"the lesion's error, {error[0]:.3f}, is above that of every {name} from {doses[0]:g} "
            f"to {doses[-1]:g} (at most {error[1:].max():.3f})"
        )
    return (
        f"the lesion costs nothing: its error, {error[0]:.3f}, is below that of the intact "
        f"network, {error[1]:.3f}, and of every {name} of the range"
    )


WALKS = ("n_walks", "n_steps", "where", "seed", "maps_walked")
"""Attributes that must be equal in the washout and the curve."""

SETS = ("selection", "fraction")
COUNTS = ("wrong", "n")


def equivalent_curve(
    washout: xr.Dataset,
    curve: xr.Dataset,
    *,
    memory: str = "reference",
    n_resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Find the test-time α that costs as much memory as each lesion of a curve.

    Both results were scored on the same walks on trained maps, so the network does not run again.

    Parameters
    ----------
    washout
        Result of :func:`dose_response` of one network over test-time α that include its α of
        training. The doses below it are used (washout); if there are none, those above it (block).
    curve
        Result of :func:`ablation_curve` of the same network, with the same `n_walks`, `n_steps`,
        `where`, `seed` and `maps`.
    memory
        ``"reference"`` or ``"working"``.
    n_resamples, seed
        Number of bootstrap samples of the walks, and their random seed. The sets of a fraction are
        not resampled.

    Returns
    -------
    xarray.Dataset
        `alpha`, `mg_mM`, `interval`, `found`, `reason` and `lesion_error`, as in
        :func:`equivalent_alpha`, over ``selection`` and ``fraction``. An error is the mean over
        the sets of a fraction, and NaN if there is no set.

    Raises
    ------
    ValueError
        Different walks or maps, several networks, or doses without the α of training.

    See Also
    --------
    equivalent_alpha : The same for one lesion.
    dose_response, ablation_curve : The two results that are compared.
    memory_comparison : Both together with the networks of a family.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> few = {"n_walks": 4, "n_steps": 128, "n_resamples": 50, "progress": False}
    >>> washout = pf.dose_response(
    ...     model, alphas=[0, 1, 3, 10], n_walks=4, n_steps=128, progress=False
    ... )
    >>> recording = pf.record(model, layers="ffn.1", n_walks=4, n_steps=64, progress=False)
    >>> curve = pf.ablation_curve(
    ...     model, "activity", fractions=[0, 0.2], repeats=2, layers="ffn.1", controls=["random"],
    ...     reference=recording, **few
    ... )
    >>> dict(pf.equivalent_curve(washout, curve, n_resamples=50).alpha.sizes)
    {'selection': 2, 'fraction': 2}
    """
    trained = check(washout, curve)
    at = {"maps": "trained", "memory": memory}
    doses, by_dose = counts_by_dose(washout.sel(at), trained)
    sets = curve["wrong"].sel(at).mean("repeat", skipna=False).transpose(*SETS, "walk")
    n = curve["n"].sel(at).values
    wrong = np.concatenate([sets.values.reshape(-1, n.size), by_dose])
    error = ratio(wrong, n)
    boot = resampled(wrong, n, draws(n.size, n_resamples, np.random.default_rng(seed)))
    last = range(len(wrong) - doses.size, len(wrong))
    equivalents = [
        equivalence(doses, error[[i, *last]], boot[:, [i, *last]]).drop_dims("dose")
        for i in range(last[0])
    ]
    like: dict[str, Any] = {"combine_attrs": "override", "join": "exact"}
    size = sets.sizes["fraction"]
    rows = [
        xr.concat(equivalents[i : i + size], sets["fraction"], **like)
        for i in range(0, len(equivalents), size)
    ]
    result = xr.concat(rows, sets["selection"], **like)
    settings: dict[str, Any] = {
        "memory": memory,
        "n_resamples": n_resamples,
        "trained_alpha": trained,
    }
    about = schema.provenance(curve, "equivalent_curve", seed=seed, **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def counts_by_dose(
    washout: xr.Dataset, trained: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Doses from the α of training to the far end, and wrong predictions (dose, walk) at each."""
    alphas = washout["alpha"].values
    below = alphas <= trained
    doses = dose_range(alphas[below] if (alphas < trained).any() else alphas, trained)
    which = [int(np.flatnonzero(alphas == dose)[0]) for dose in doses]
    return doses, washout["wrong"].transpose("model", "walk").values[which]


def check(washout: xr.Dataset, curve: xr.Dataset) -> float:
    """Return the α of training; raise if the two results cannot be paired."""
    for name, data, function in (
        ("washout", washout, "dose_response"),
        ("curve", curve, "ablation_curve"),
    ):
        if missing := [key for key in COUNTS if key not in data]:
            raise ValueError(
                f"{name} must be a result of {function} with its counts, but "
                f"{', '.join(missing)} is missing"
            )
    for key in WALKS:
        if (a := washout.attrs.get(key)) != (b := curve.attrs.get(key)):
            raise ValueError(
                f"washout and curve must be scored on the same walks, got {key} {a!r} and {b!r}"
            )
    if not (washout["n"] == curve["n"]).all():
        raise ValueError(
            "washout and curve must count the same predictions, got "
            f"{int(washout['n'].isel(model=0).sum())} and {int(curve['n'].sum())}"
        )
    pairs = np.unique([washout["alpha"].values, washout["trained_alpha"].values], axis=1)
    trained = np.unique(pairs[1])
    if trained.size != 1 or trained[0] not in pairs[0]:
        raise ValueError(
            f"washout must be of one network and include its α of training, got α "
            f"{pairs[0].tolist()} of networks trained at {trained.tolist()}"
        )
    check_one_network(washout, curve, float(trained[0]))
    return float(trained[0])


def check_one_network(washout: xr.Dataset, curve: xr.Dataset, trained: float) -> None:
    """Raise if the provenance of the curve names another network."""
    lesioned = schema.read_provenance(curve)["steps"][-1].get("network", {})
    name = str(washout["name"].values[0])
    other = lesioned.get("name") or name  # a network without a name may be the same
    if (other, lesioned.get("alpha", trained)) != (name, trained):
        raise ValueError(
            f"washout and curve must be of one network, got {name!r}, trained at α = "
            f"{trained:g}, and {other!r}, trained at α = {lesioned['alpha']}"
        )
