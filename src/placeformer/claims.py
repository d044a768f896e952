"""The paper's claims, tested on networks that were measured alike."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from placeformer.evidence import Networks, check
from placeformer.hypotheses import TESTS

COLUMNS = (
    "claim", "statement", "part", "decides", "test", "effect", "value", "lower", "upper", "over",
    "p", "n_networks", "n_seeds", "verdict", "note",
)  # fmt: skip


def paper_claims(networks: xr.Dataset, *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
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
    n_boot
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
    found = Networks(networks, n_boot, seed)
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
