"""The test-time α that costs as much memory as a lesion."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.lesions import ablate
from placeformer.interventions.magnesium import magnesium
from placeformer.interventions.replacement import How, Reference
from placeformer.interventions.units import Units
from placeformer.models.activation import alpha_to_mg, check_alpha
from placeformer.models.memory import MEMORIES, counted_steps, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.navigation import facts
from placeformer.stats.bootstrap import draws, ratio, resampled
from placeformer.stats.intervals import LEVEL, tails

BOUNDS = ["lower", "upper"]
Floats = NDArray[np.float64]


def equivalent_alpha(
    model: NavigationTransformer,
    lesion: Units,
    *,
    alphas: ArrayLike | None = None,
    how: How = "mean",
    reference: Reference = None,
    memory: str = "reference",
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
    the lesion. Between two measured α it is interpolated linearly in ln α, or in α next to 0.

    Parameters
    ----------
    model
        A navigation Transformer with NMDA_α and a world.
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
          α of the range in that share of the samples, and the α of training if it costs nothing;
          `found`: share of the samples that have an equivalent;
        - `lesion_error`, `intact_error`, and `error` (dose) at every test-time α `dose`.

    Raises
    ------
    ValueError
        A network without NMDA_α, α on both sides of the α of training, or units that do not exist.

    See Also
    --------
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
    trained = check_network(model, memory, n_steps, where)
    doses = dose_range(alphas, trained)
    walk, which = world_of(model).walk(n_walks, n_steps, seed=seed), MEMORIES.index(memory)
    wrong = []
    with tqdm(total=1 + doses.size, desc="doses", disable=not progress) as bar:
        with ablate(model, lesion, how, reference=reference, seed=seed):
            counts, n = count_errors(model, walk, seed=seed, where=where)
        for alpha in (None, *doses):
            if alpha is not None:
                with magnesium(model, alpha=alpha):
                    counts, _ = count_errors(model, walk, seed=seed, where=where)
            wrong.append(counts[0, :, which])
            bar.update()
    weights = draws(n_walks, n_resamples, np.random.default_rng(seed))
    error = ratio(np.array(wrong), n[:, which])
    boot = resampled(np.array(wrong), n[:, which], weights)
    result = equivalence(doses, error, boot)
    settings: dict[str, Any] = {
        "memory": memory, "how": how, "n_walks": n_walks, "n_steps": n_steps, "where": where,
        "n_resamples": n_resamples, "seed": seed, "trained_alpha": trained,
    }  # fmt: skip
    about = schema.provenance(None, "equivalent_alpha", network=facts(model), **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def equivalence(doses: Floats, error: Floats, boot: Floats) -> xr.Dataset:
    """Equivalent α from errors (1 + dose,) of lesion and doses, and bootstrap samples of them.

    `doses` are ordered from the α of training to the far end of the range.
    """
    at = crossing(error[1:], error[0])
    samples = np.array([crossing(row[1:], row[0]) for row in boot])
    # Samples without an equivalent are infinite, so quantiles must be samples, not interpolated.
    ends = np.quantile(np.maximum(samples, 0), tails(), method="inverted_cdf")
    alpha = alpha_at(doses, at)
    interval = np.sort([alpha_at(doses, end) for end in ends])
    if np.isnan(interval).any() and doses[-1] < doses[0]:
        interval = interval[::-1]  # NaN stands for the far end, which for washout is the lower one
    mg = alpha_to_mg(alpha) if np.isfinite(alpha) else np.nan
    have, share = np.isfinite(samples).mean(), "share of wrong predictions"
    return xr.Dataset(
        {
            "alpha": variable((), alpha, "equivalent test-time α"),
            "mg_mM": variable((), mg, "[Mg²⁺] of the equivalent α", units="mM"),
            "interval": variable("bound", interval, "equivalent test-time α", level=LEVEL),
            "found": variable((), have, "share of the samples that have an equivalent"),
            "reason": variable((), reason_none(at, doses, error), "why there is no equivalent"),
            "lesion_error": variable((), error[0], share),
            "intact_error": variable((), error[1], share),
            "error": variable("dose", error[1:], share),
        },
        {"dose": variable("dose", doses, "test-time α"), "bound": BOUNDS},
    )


def check_network(model: NavigationTransformer, memory: str, n_steps: int, where: str) -> float:
    """Return the α of training; raise for networks and options without an equivalent."""
    if model.config.alpha is None:
        raise ValueError(f"model must have NMDA activations, got {model.config.activation!r}")
    check_option("memory", memory, MEMORIES)
    counted_steps(n_steps, model.config, where)
    return model.config.alpha


def dose_range(alphas: ArrayLike | None, trained: float) -> Floats:
    """Test-time α, ordered from the α of training to the far end."""
    if alphas is None:
        if trained == 0:
            raise ValueError("alphas must be given for a network trained at α = 0, got None")
        alphas = [*(trained / 2.0 ** np.arange(10)), 0]
    doses = np.unique([check_alpha(alpha) for alpha in np.ravel(alphas)] + [trained])
    if doses.size < 2 or doses[0] < trained < doses[-1]:
        raise ValueError(
            f"alphas must lie on one side of the trained α, {trained:g}, got {doses.tolist()}; "
            "call the function once for washout and once for block"
        )
    return doses if doses[0] == trained else doses[::-1]


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


def alpha_at(doses: Floats, at: float) -> float:
    """Return α at a position along the doses; NaN outside of them."""
    if not np.isfinite(at):
        return np.nan
    if at == int(at):
        return float(doses[int(at)])
    i = int(at)
    pair, share = doses[i : i + 2], at - i
    if (pair > 0).all():
        return float(np.exp(np.log(pair) @ [1 - share, share]))
    return float(pair @ [1 - share, share])


def reason_none(at: float, doses: Floats, error: Floats) -> str:
    """Reason why there is no equivalent; empty if there is one."""
    if np.isfinite(at):
        return ""
    if np.isnan(at):
        return "there is no such lesion"
    if at > 0:
        return (
            f"the lesion's error, {error[0]:.3f}, is above that of every α from {doses[0]:g} to "
            f"{doses[-1]:g} (at most {error[1:].max():.3f})"
        )
    return (
        f"the lesion costs nothing: its error, {error[0]:.3f}, is below that of the intact "
        f"network, {error[1]:.3f}, and of every α of the range"
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
