"""The claims of the paper as hypotheses, and their tests on a set of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from placeformer.evaluation.effects import (
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
from placeformer.stats.intervals import Estimate, verdict
from placeformer.stats.rank_correlation import correlation, trend_p

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
"""The paper's α, and the greatest α that counts as low."""
HARDLY = 0.05
"""Errors that differ by less hardly differ."""
BY_CHANCE = 0.01
"""Share of simulated units without place fields that pass for place cells (the page on them)."""
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
    found: Effect,
    n_networks: int,
    word: str,
    *,
    decides: bool = True,
    note: str = "",
) -> dict[str, Any]:
    """One row of the table."""
    estimate, over, n_seeds = found
    if n_seeds == 1 and word != "not tested":
        word += " (one seed: preliminary)"
    return {
        "claim": claim, "statement": STATEMENTS[claim], "part": part, "decides": decides,
        "test": test, "effect": effect, **estimate._asdict(), "over": over,
        "n_networks": n_networks, "n_seeds": n_seeds, "verdict": word, "note": note,
    }  # fmt: skip


def falls(found: Networks) -> Iterator[dict[str, Any]]:
    """Claim 1."""
    error, dosed = found.error("reference"), np.isfinite(found.alpha)
    effect = found.effect(error, found.drawn("reference"), partial(dose_trend, alpha=found.alpha))
    p = trend_p(
        found.alpha[dosed],
        error[dosed],
        found.seed[dosed],
        n_resamples=found.n_resamples,
        seed=found.random,
    )
    effect = (effect[0]._replace(p=p), *effect[1:])
    test = "Spearman within seeds; permutation of α within seeds"
    word = verdict(effect[0], claimed=-1)
    yield row(1, "trained α", test, "ρ of α and reference error", effect, int(dosed.sum()), word)


def saturates(found: Networks) -> Iterator[dict[str, Any]]:
    """Claim 2."""
    dosed = np.isfinite(found.alpha)
    error, n_seeds = found.error("reference"), np.unique(found.seed[dosed]).size
    response = xr.DataArray(
        error[dosed], dims="model", coords={"alpha": ("model", found.alpha[dosed])}
    )
    fit = fit_hill(response, n_resamples=found.n_resamples, seed=found.random)
    n, k = (float(fit["value"].sel(parameter=name)) for name in "nK")
    low, high = fit["interval"].sel(parameter="K").values
    word = "shown" if n < 0 else "opposite"
    if not bool(fit["identifiable"]):
        word = "not shown" if np.isfinite(k) else "not tested"
    estimate = Estimate(k, float(low), float(high), float(fit["p_flat"]))
    note = str(fit["reason"].values) or f"r² = {float(fit['r2']):.2f}"
    yield row(
        2, "Hill curve", "Hill fit, F test against a constant", "K, the α half-way",
        (estimate, "bootstrap of the fit", n_seeds), int(dosed.sum()), word, note=note,
    )  # fmt: skip
    most = float(np.nanmax(found.alpha, initial=-np.inf))
    if most > BEST:
        pair = found.at(BEST), found.at(most)
        effect = found.effect(
            error, found.drawn("reference"), partial(difference, first=pair[0], second=pair[1])
        )
        yield row(
            2, f"beyond α = {BEST:g}", f"paired by seed; gains below {HARDLY:g} are none",
            f"reference error at α = {BEST:g} less that at {most:g}", effect,
            int(sum(map(np.sum, pair))), verdict(effect[0], claimed=-1, null=HARDLY), decides=False,
        )  # fmt: skip


def beats_others(found: Networks) -> Iterator[dict[str, Any]]:
    """Claim 3."""
    error, drawn, best = found.error("reference"), found.drawn("reference"), found.at(BEST)
    for name, activation in OTHERS.items():
        other = found.at(activation)
        effect = found.effect(error, drawn, partial(difference, first=other, second=best))
        shown = name if isinstance(activation, str) else f"{name} (α = {activation:g})"
        yield row(
            3, shown, "paired by seed", f"reference error less that at α = {BEST:g}", effect,
            int((other | best).sum()), verdict(effect[0], claimed=1),
        )  # fmt: skip


def working_is_alike(found: Networks) -> Iterator[dict[str, Any]]:
    """Claim 4."""
    dosed = int(np.isfinite(found.alpha).sum())
    for memory, null in (("working", HARDLY), ("reference", np.nan)):
        effect = found.effect(
            found.error(memory), found.drawn(memory), partial(spread, alpha=found.alpha)
        )
        decides = memory == "working"
        yield row(
            4, f"{memory} memory", f"below {HARDLY:g}" if decides else "for comparison",
            f"greatest less least {memory} error over α", effect, dosed,
            verdict(effect[0], claimed=-1, null=null) if decides else "not tested", decides=decides,
        )  # fmt: skip
    effect = found.effect(
        found.error("working"),
        found.drawn("working"),
        partial(dose_trend, alpha=found.alpha),
    )
    yield row(
        4, "trend", "Spearman within seeds", "ρ of α and working error", effect, dosed,
        "not tested", decides=False, note="a trend may be steady and yet too small to matter",
    )  # fmt: skip


def place_cells_emerge(found: Networks) -> Iterator[dict[str, Any]]:
    """Claim 5."""
    trained = found.layers("place_cell_fraction", maps="trained")
    novel = found.layers("place_cell_fraction", maps="novel")
    parts = (
        ("on a trained map", f"above {BY_CHANCE:g}", trained, BY_CHANCE, True),
        ("trained less novel map", "paired by network", trained - novel, 0.0, True),
        (
            "depend on memory", f"above {BY_CHANCE:g}",
            found.layers("memory_dependent_fraction"), BY_CHANCE, False,
        ),
    )  # fmt: skip
    for part, test, values, null, decides in parts:
        effect = mean_effect(found, values)
        yield row(
            5, part, test, "share of feed-forward units, mean of the networks", effect,
            int(np.isfinite(values).sum()), verdict(effect[0], claimed=1, null=null),
            decides=decides,
        )  # fmt: skip
    for layer in found.data["layer"].values:
        values = found.data["place_cell_fraction"].sel(maps="trained", layer=layer).values
        yield row(
            5, str(layer), "for comparison", "share of its units", mean_effect(found, values),
            int(np.isfinite(values).sum()), "not tested", decides=False,
        )  # fmt: skip


def better_has_more(found: Networks) -> Iterator[dict[str, Any]]:
    """Claim 6."""
    error, measures = found.error("reference"), place_measures(found)
    for name, values in measures.items():
        for given in (None, found.alpha):
            decides = name == next(iter(measures)) and given is None
            both = np.isfinite(error) & np.isfinite(values)
            if given is not None:
                both &= np.isfinite(given)
            estimate = correlation(
                error, values, given, n_resamples=found.n_resamples, seed=found.random
            )
            seeds = np.unique(found.seed[both]).size
            yield row(
                6, name + ("" if given is None else ", given α"),
                "Spearman over networks" + ("" if given is None else ", partial on α"),
                "ρ with reference error", (estimate, "networks", seeds), int(both.sum()),
                verdict(estimate, claimed=-1), decides=decides,
            )  # fmt: skip


def low_impairs(found: Networks) -> Iterator[dict[str, Any]]:
    """Claim 7."""
    low, best = found.alpha <= LOW, found.at(BEST)
    effect = found.effect(
        found.error("reference"),
        found.drawn("reference"),
        partial(difference, first=low, second=best),
    )
    yield row(
        7, f"trained at α ≤ {LOW:g}", "paired by seed",
        f"reference error, mean, less that at α = {BEST:g}", effect, int((low | best).sum()),
        verdict(effect[0], claimed=1),
    )  # fmt: skip
    to = found.data.attrs.get("washout", 0)
    for memory in MEMORIES[::-1]:
        cost = found.error(memory, "washout_wrong") - found.error(memory)
        drawn = found.drawn(memory, "washout_wrong") - found.drawn(memory)
        effect = found.effect(
            cost,
            drawn,
            partial(mean_of, which=best),
        )
        yield row(
            7, f"washout, {memory} memory", f"α = {to:g} at test time, the same walks",
            f"{memory} error of networks of α = {BEST:g}, after less before", effect,
            int(best.sum()), verdict(effect[0], claimed=1), decides=False,
        )  # fmt: skip


TESTS: Sequence[Callable[[Networks], Iterator[dict[str, Any]]]] = (
    falls, saturates, beats_others, working_is_alike, place_cells_emerge, better_has_more,
    low_impairs,
)  # fmt: skip


COLUMNS = (
    "claim", "statement", "part", "decides", "test", "effect", "value", "lower", "upper", "over",
    "p", "n_networks", "n_seeds", "verdict", "note",
)  # fmt: skip


def paper_claims(networks: xr.Dataset, *, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Test the claims of Kim, Kwon, Cha and Lee (NeurIPS 2023) on networks measured alike.

    Seeds of the training are the sample: an effect is computed for every seed apart, on its own
    maps and walks, and its mean has Student's t interval over seeds, cut at -1 and 1. Where only
    one seed has the networks for it, the interval is a bootstrap interval over walks (claim 5: over
    networks), which says nothing of other seeds, and the verdict says so. Rank correlations between
    networks (claim 6) have bootstrap intervals over networks.

    Parameters
    ----------
    networks
        Result of :func:`profile_networks`, of networks that differ in activation, α and seed alone.
    n_resamples
        Bootstrap samples, and permutations.
    seed
        Of both.

    Returns
    -------
    pandas.DataFrame
        A row a test:

        - `claim` 1 to 7, `statement`, and `part`, what of it is tested;
        - `decides`: whether the verdict on the claim rests on it, see :func:`claim_verdicts`;
        - `test` and `effect` in words; `value`, `lower`, `upper`: the effect and its 95 % interval;
          `over`: what the interval is over; `p`, two-sided, where there is one;
        - `n_networks`, `n_seeds`: networks and seeds that the effect is computed from;
        - `verdict`: "shown" if the whole interval lies on the side that the claim says, "opposite"
          if it lies on the other, else "not shown"; "not tested" without an interval; "one seed:
          preliminary" is added where it is so. `note`: what else is to be known.

        (1) ρ of α and reference error below 0. (2) An identifiable falling :func:`fit_hill`.
        (3) Reference error of each other activation less that at α = 10, same seed, above 0.
        (4) The greatest less the least working error over α below 0.05. (5) Share of place cells
        on a trained map above 0.01, and more than on a novel map. (6) ρ of reference error and
        share of place cells below 0. (7) Reference error at α ≤ 0.1 less that at α = 10 above 0.

    Raises
    ------
    ValueError
        If networks lack a variable or coordinate that :func:`profile_networks` gives.

    Notes
    -----
    Claims 3 and 5 need every part: an intersection-union test, which asks for no correction. Tests
    of different claims are not corrected for their number.
    """
    check(networks)
    found = Networks(networks, n_resamples, seed)
    rows = [row for test in TESTS for row in test(found)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def claim_verdicts(claims: pd.DataFrame) -> pd.Series:
    """One verdict a claim: "shown" if all rows that decide show it, "opposite" if one is opposite.

    Parameters
    ----------
    claims
        Result of :func:`paper_claims`.

    Returns
    -------
    pandas.Series
        By claim: "opposite", "not shown" or "not tested" where a row that decides is, the first of
        them if there are several, else "shown"; with " (one seed: preliminary)" where a row that
        decides has one seed.
    """
    deciding = claims[claims["decides"]]
    return deciding.groupby("claim")[["verdict", "n_seeds"]].apply(together)


def together(rows: pd.DataFrame) -> str:
    """Verdict of all rows that decide a claim."""
    each = [str(v).split(" (")[0] for v in rows["verdict"]]
    word = next(w for w in ("opposite", "not shown", "not tested", "shown") if w in each)
    alone = word != "not tested" and (rows["n_seeds"] == 1).any()
    return word + (" (one seed: preliminary)" if alone else "")
