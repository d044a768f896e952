"""The claims of the paper as hypotheses, and tests of these on a set of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from placeformer.evaluation.effects import (
    SAME_ALPHA,
    Effect,
    Networks,
    check,
    difference,
    dose_trend,
    mean_effect,
    mean_of,
    place_measures,
    spread,
)
from placeformer.stats.hill import fit_hill
from placeformer.stats.intervals import Estimate, verdict, verdict_of_p
from placeformer.stats.rank_correlation import correlation, partial_within, trend

STATEMENTS = {
    1: "Reference-memory error falls as α rises",
    2: "The gain saturates beyond some α",
    3: "NMDA_10 beats other activations on reference memory",
    4: "Working memory hardly depends on α",
    5: "Place cells emerge in the feed-forward layers",
    6: "Networks with better reference memory have more place cells",
    7: "Low α impairs reference memory",
}
BEST, LOW = 10.0, 0.1
"""The paper's α, and the maximum α that counts as low."""
HARDLY = 0.05
"""Difference between errors below which they count as equal."""
BY_CHANCE = 0.01
"""Fraction of simulated units without place fields that are classified as place cells."""
OTHERS: dict[str, float | str] = {
    "linear": 0.0, "silu": 1.0, "relu": "relu", "gelu": "gelu", "leaky_relu": "leaky_relu",
    "tanh": "tanh",
}  # fmt: skip
"""Other activations: an α of NMDA_α, or a name."""
MEMORIES = ("working", "reference")


def row(
    claim: int,
    part: str,
    test: str,
    effect: str,
    result: Effect,
    n_networks: int,
    word: str,
    *,
    decides: bool = True,
    least: float = np.nan,
    note: str = "",
) -> dict[str, Any]:
    """One row of the table."""
    estimate, over, n_seeds = result
    if word == "not shown" and not note and np.isfinite(least):
        note = f"the least effect that could have been shown is {least:.2g}"
        if abs(least) >= 1:
            note = "no effect could have been shown"
        note += f" with {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    if n_seeds == 1 and word != "not tested":
        word += " (one seed: preliminary)"
    return {
        "claim": claim, "statement": STATEMENTS[claim], "part": part, "decides": decides,
        "test": test, "effect": effect, **estimate._asdict(), "least": least, "over": over,
        "n_networks": n_networks, "n_seeds": n_seeds, "verdict": word, "note": note,
    }  # fmt: skip


def judged(result: Effect, *, claimed: int, null: float = 0.0) -> dict[str, Any]:
    """Verdict of an interval, and the smallest effect that it could have shown beyond `null`."""
    value, lower, upper, _ = result[0]
    reach = float(np.max([value - lower, upper - value]))
    return {
        "word": verdict(result[0], claimed=claimed, null=null),
        "least": null + claimed * reach,
    }


def judged_below(result: Effect, *, at_least: float = -1.0) -> dict[str, Any]:
    """Verdict on whether an effect, which is at least `at_least`, is below HARDLY."""
    found = judged(result, claimed=-1, null=HARDLY)
    if found["word"] == "not shown" and np.isfinite(found["least"]):
        found["note"] = (
            f"it could have been shown for an effect of at most {found['least']:.2g}"
            if found["least"] >= at_least
            else "no effect could have been shown to be so small"
        )
        found["note"] += f" with {result[2]} seed{'s' if result[2] > 1 else ''}"
    return found


def falls(networks: Networks) -> Iterator[dict[str, Any]]:
    """Claim 1."""
    error = networks.error("reference")
    dosed = np.isfinite(networks.alpha) & np.isfinite(error)
    estimate, over, n_seeds = networks.effect(
        error, networks.drawn("reference"), partial(dose_trend, alpha=networks.alpha)
    )
    tested = trend(
        networks.alpha[dosed],
        error[dosed],
        networks.seed[dosed],
        n_resamples=networks.n_resamples,
        seed=networks.random,
    )
    estimate = estimate._replace(p=tested.p)
    yield row(
        1, "trained α", "Spearman within seeds; permutation of α within seeds",
        "ρ of α and reference error, mean of the seeds", (estimate, over, n_seeds),
        int(dosed.sum()), verdict_of_p(estimate, claimed=-1), least=-tested.least,
    )  # fmt: skip


def saturates(networks: Networks) -> Iterator[dict[str, Any]]:
    """Claim 2."""
    error = networks.error("reference")
    dosed = np.isfinite(networks.alpha) & np.isfinite(error)
    n_seeds = np.unique(networks.seed[dosed]).size
    if not dosed.any():
        yield row(
            2, "Hill curve", "Hill fit", "K, the α half-way", (Estimate(np.nan), "networks", 0), 0,
            "not tested", note="no network has an NMDA activation",
        )  # fmt: skip
        return
    response = xr.DataArray(
        error[dosed], dims="model", coords={"alpha": ("model", networks.alpha[dosed])}
    )
    fit = fit_hill(response)
    n, k = (float(fit["value"].sel(parameter=name)) for name in "nK")
    low, high = fit["interval"].sel(parameter="K").values
    word = "shown" if n < 0 else "opposite"
    if not bool(fit["identifiable"]):
        word = "not shown" if np.isfinite(k) else "not tested"
    estimate = Estimate(k, float(low), float(high), float(fit["p_flat"]))
    note = str(fit["reason"].values) or f"r² = {float(fit['r2']):.2f}"
    yield row(
        2, "Hill curve", "Hill fit, against a constant (F test) and against a + b ln(1 + α / d)",
        "K, the α half-way", (estimate, "networks", n_seeds), int(dosed.sum()), word, note=note,
    )  # fmt: skip
    most = float(np.nanmax(networks.alpha, initial=-np.inf))
    if most > BEST:
        pair = networks.at(BEST), networks.at(most)
        effect = networks.effect(
            error, networks.drawn("reference"), partial(difference, first=pair[0], second=pair[1])
        )
        yield row(
            2, f"beyond α = {BEST:g}", f"paired by seed; gains below {HARDLY:g} are none",
            f"reference error at α = {BEST:g} minus that at {most:g}", effect,
            int(sum(map(np.sum, pair))), **judged_below(effect), decides=False,
        )  # fmt: skip


def beats_others(networks: Networks) -> Iterator[dict[str, Any]]:
    """Claim 3."""
    error, drawn, best = networks.error("reference"), networks.drawn("reference"), networks.at(BEST)
    for name, activation in OTHERS.items():
        other = networks.at(activation)
        effect = networks.effect(error, drawn, partial(difference, first=other, second=best))
        shown = name if isinstance(activation, str) else f"{name} (α = {activation:g})"
        yield row(
            3, shown, "paired by seed", f"reference error minus that at α = {BEST:g}", effect,
            int((other | best).sum()), **judged(effect, claimed=1),
        )  # fmt: skip


def working_is_alike(networks: Networks) -> Iterator[dict[str, Any]]:
    """Claim 4."""
    dosed = int(np.isfinite(networks.alpha).sum())
    for memory in ("working", "reference"):
        effect = networks.effect(
            networks.error(memory), networks.drawn(memory), partial(spread, alpha=networks.alpha)
        )
        decides = memory == "working"
        yield row(
            4, f"{memory} memory", f"below {HARDLY:g}" if decides else "for comparison",
            f"maximum minus minimum {memory} error over α", effect, dosed, decides=decides,
            **(judged_below(effect, at_least=0) if decides else {"word": "not tested"}),
        )  # fmt: skip
    effect = networks.effect(
        networks.error("working"),
        networks.drawn("working"),
        partial(dose_trend, alpha=networks.alpha),
    )
    yield row(
        4, "trend", "Spearman within seeds", "ρ of α and working error", effect, dosed,
        "not tested", decides=False, note="a trend may be steady and yet too small to matter",
    )  # fmt: skip


def place_cells_emerge(networks: Networks) -> Iterator[dict[str, Any]]:
    """Claim 5."""
    trained = networks.layers("place_cell_fraction", maps="trained")
    novel = networks.layers("place_cell_fraction", maps="novel")
    parts = (
        ("on a trained map", f"above {BY_CHANCE:g}", trained, BY_CHANCE, True),
        ("trained minus novel map", "paired by network", trained - novel, 0.0, True),
        (
            "depend on memory", f"above {BY_CHANCE:g}",
            networks.layers("memory_dependent_fraction"), BY_CHANCE, False,
        ),
    )  # fmt: skip
    for part, test, values, null, decides in parts:
        effect = mean_effect(networks, values)
        yield row(
            5, part, test, "share of feed-forward units, mean of the networks", effect,
            int(np.isfinite(values).sum()), **judged(effect, claimed=1, null=null), decides=decides,
        )  # fmt: skip
    for layer in networks.data["layer"].values:
        values = networks.data["place_cell_fraction"].sel(maps="trained", layer=layer).values
        yield row(
            5, str(layer), "for comparison", "share of its units", mean_effect(networks, values),
            int(np.isfinite(values).sum()), "not tested", decides=False,
        )  # fmt: skip


def better_has_more(networks: Networks) -> Iterator[dict[str, Any]]:
    """Claim 6.

    α changes both the error and the place cells, so networks of different α say nothing about the
    relation of the two. The claim is decided among networks of the same activation and α.
    """
    error, measures = networks.error("reference"), place_measures(networks)
    for name, values in measures.items():
        both = np.isfinite(error) & np.isfinite(values)
        tested = partial_within(
            error, values, networks.activation, n_resamples=networks.n_resamples,
            seed=networks.random,
        )  # fmt: skip
        estimate = Estimate(tested.value, p=tested.p)
        yield row(
            6, f"{name}, given the activation", "Spearman given activation and α; permutation of "
            "networks that share them", "partial ρ with reference error",
            (estimate, "", np.unique(networks.seed[both]).size), int(both.sum()),
            verdict_of_p(estimate, claimed=-1), decides=name == next(iter(measures)),
            least=-tested.least,
        )  # fmt: skip
        for given in (None, networks.alpha):
            among = both if given is None else both & np.isfinite(given)
            estimate = correlation(
                error, values, given, cluster=networks.activation,
                n_resamples=networks.n_resamples, seed=networks.random,
            )  # fmt: skip
            yield row(
                6, name + ("" if given is None else ", given α as a rank"),
                "Spearman over networks" + ("" if given is None else ", partial on α"),
                "ρ with reference error",
                (estimate, "activations", np.unique(networks.seed[among]).size), int(among.sum()),
                "not tested", decides=False,
                note="" if given is not None else "α changes both, for comparison only",
            )  # fmt: skip


def low_impairs(networks: Networks) -> Iterator[dict[str, Any]]:
    """Claim 7."""
    low, best = networks.alpha <= LOW * (1 + SAME_ALPHA), networks.at(BEST)
    effect = networks.effect(
        networks.error("reference"),
        networks.drawn("reference"),
        partial(difference, first=low, second=best),
    )
    yield row(
        7, f"trained at α ≤ {LOW:g}", "paired by seed",
        f"mean reference error minus that at α = {BEST:g}", effect, int((low | best).sum()),
        **judged(effect, claimed=1),
    )  # fmt: skip
    to = networks.data.attrs.get("washout", 0)
    for memory in MEMORIES[::-1]:
        cost = networks.error(memory, "washout_wrong") - networks.error(memory)
        drawn = networks.drawn(memory, "washout_wrong") - networks.drawn(memory)
        effect = networks.effect(
            cost,
            drawn,
            partial(mean_of, which=best),
        )
        yield row(
            7, f"washout, {memory} memory", f"α = {to:g} at test time, the same walks",
            f"{memory} error of networks of α = {BEST:g}, after minus before", effect,
            int(best.sum()), **judged(effect, claimed=1), decides=False,
        )  # fmt: skip


TESTS: Sequence[Callable[[Networks], Iterator[dict[str, Any]]]] = (
    falls, saturates, beats_others, working_is_alike, place_cells_emerge, better_has_more,
    low_impairs,
)  # fmt: skip


COLUMNS = (
    "claim", "statement", "part", "decides", "test", "effect", "value", "lower", "upper", "over",
    "p", "least", "n_networks", "n_seeds", "verdict", "note",
)  # fmt: skip


def paper_claims(networks: xr.Dataset, *, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Test the claims of Kim, Kwon, Cha and Lee (NeurIPS 2023) on measured networks.

    Training seeds are the sample: an effect is computed separately for every seed, with its own
    maps and walks, and the mean effect has a Student's t interval over seeds, limited to -1 to 1.
    The interval is NaN if the effect is equal in all seeds. If only one seed has the networks for
    an effect, the interval is a bootstrap interval over walks (claim 5: over networks), which does
    not generalise to other seeds, and the verdict notes it. Trends over α (claim 1) are tested by
    permuting α among the networks of one seed. The relation between memory and place cells (claim
    6) is tested by permuting networks of the same activation and α, because α changes both.

    Parameters
    ----------
    networks
        Result of :func:`profile_networks`, for networks that differ only in activation, α and seed.
    n_resamples
        Number of bootstrap samples and of permutations; with fewer than 19, no p is 0.05 or less.
    seed
        Random seed of both.

    Returns
    -------
    pandas.DataFrame
        One row per test:

        - `claim` 1 to 7, `statement`, and `part`, the tested part of the claim;
        - `decides`: whether the verdict on the claim depends on this row (:func:`claim_verdicts`);
        - `test` and `effect` in words; `value`, `lower`, `upper`: the effect and its 95 % interval;
          `over`: the sample of the interval (seeds, walks or networks); `p`, two-sided, if the test
          has one; `least`, the smallest effect that would have been "shown" with the same spread,
          or the largest if the claim is that the effect is below 0.05 (an effect of this size is
          shown with probability one half; beyond the range of the effect, none could have been
          shown);
        - `n_networks`, `n_seeds`: numbers of networks and seeds behind the effect;
        - `verdict`: "shown" if the whole interval lies on the claimed side, "opposite" if it lies
          on the other side, else "not shown", with `least` in the `note`. Claims 1 and 6 are
          decided by `p` ≤ 0.05 and the sign. "not tested" without an interval or p; " (one seed:
          preliminary)" is appended if there is only one seed. `note`: further remarks.

        The deciding criteria are: (1) ρ of α and reference error below 0, mean of the seeds.
        (2) An identifiable, falling :func:`fit_hill`. (3) Reference error of each other activation
        minus that at α = 10 with the same seed, above 0. (4) Range of the working error over α
        below 0.05. (5) Fraction of place cells on a trained map above 0.01, and larger than on a
        novel map. (6) ρ of reference error and fraction of place cells, given the activation and α,
        below 0. (7) Reference error at α ≤ 0.1 minus that at α = 10, above 0.

    Raises
    ------
    TypeError
        ``networks`` is not a Dataset.
    ValueError
        ``networks`` lacks a variable or coordinate of a result of :func:`profile_networks`, or has
        networks that are not navigation Transformers.

    See Also
    --------
    profile_networks : Measure networks of a zoo.
    claim_verdicts : One verdict per claim.

    Notes
    -----
    Claims 3 and 5 need every part, an intersection-union test, which needs no correction. Tests of
    different claims are not corrected for their number: if none of the seven claims had an effect,
    at least one would be "shown" or "opposite" in about 30 % of cases, at 0.05 each.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> networks = xr.load_dataset(results_folder() / "mini.nc")
    >>> claims = pf.paper_claims(networks, n_resamples=99)
    >>> claims.loc[0, ["statement", "verdict"]].tolist()
    ['Reference-memory error falls as α rises', 'shown']
    """
    check(networks)
    measured = Networks(networks, n_resamples, seed)
    rows = [row for test in TESTS for row in test(measured)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def claim_verdicts(claims: pd.DataFrame) -> pd.Series:
    """One verdict per claim: "shown" if all deciding rows are, "opposite" if any of them is.

    Parameters
    ----------
    claims
        Result of :func:`paper_claims`.

    Returns
    -------
    pandas.Series
        By claim: the first of "opposite", "not shown" and "not tested" that is the verdict of a
        deciding row, else "shown"; with " (one seed: preliminary)" if a deciding row has only one
        seed (and the verdict is not "not tested").

    See Also
    --------
    paper_claims : The tests behind the verdicts.

    Examples
    --------
    >>> import pandas as pd
    >>> import placeformer as pf
    >>> claims = pd.DataFrame(
    ...     {
    ...         "claim": [1, 3, 3],
    ...         "decides": True,
    ...         "verdict": ["shown", "shown", "not shown"],
    ...         "n_seeds": 3,
    ...     }
    ... )
    >>> pf.claim_verdicts(claims).to_dict()
    {1: 'shown', 3: 'not shown'}
    """
    deciding = claims[claims["decides"]]
    return deciding.groupby("claim")[["verdict", "n_seeds"]].apply(together)


def together(rows: pd.DataFrame) -> str:
    """Joint verdict of the rows that decide a claim."""
    words = [str(v).split(" (")[0] for v in rows["verdict"]]
    word = next(w for w in ("opposite", "not shown", "not tested", "shown") if w in words)
    alone = word != "not tested" and (rows["n_seeds"] == 1).any()
    return word + (" (one seed: preliminary)" if alone else "")
