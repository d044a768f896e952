"""The numbers on the page's cards about lesions and Mg²⁺ at test time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from placeformer.reporting.measurements import InterventionResults, SubjectReport
from placeformer.reporting.numbers import Number, percent, points

WITHOUT_CELLS = 0.2
"""Fraction of units whose lesion is described if no unit is a place cell."""

CONTROL = "stratified"
"""Controls that decide the statement about the lesion: only their test is about place cells."""

SIGNIFICANT = 0.05

SELECTIONS = {"ordered": "place cells first", CONTROL: "stratified", "random": "random"}
"""Headings of the columns of the table of lesions."""


@dataclass(frozen=True)
class Comparison:
    """The described lesion compared with lesions of control units.

    Attributes
    ----------
    control
        "stratified" or "random".
    difference
        Error of reference memory minus that under lesions of control units.
    low, high
        Ends of its 95 % interval, as text.
    p_sets, p_walks
        One-sided p over sets of control units and over walks.
    """

    control: str
    difference: Number
    low: str
    high: str
    p_sets: Number
    p_walks: Number


@dataclass(frozen=True)
class Equivalent:
    """Test-time α that costs as much as a lesion, with its interval, or why there is none."""

    number: Number
    low: str
    high: str
    reason: str


def results_of(network: SubjectReport) -> InterventionResults:
    """Results of the lesions of a navigation Transformer."""
    assert network.interventions is not None
    return network.interventions


def described_fraction(network: SubjectReport) -> float:
    """Fraction of units whose lesion is described: that of the place cells, if there are any."""
    lesions = results_of(network).lesions
    return float(lesions.attrs["n_place_cells"] / lesions.sizes["unit"] or WITHOUT_CELLS)


def n_units(network: SubjectReport) -> int:
    """Number of units of the described lesion."""
    return int(results_of(network).lesions["n_units"].sel(fraction=described_fraction(network)))


def p_sets(network: SubjectReport) -> Number:
    """Exact p of the described lesion over the sets of deciding controls."""
    lesion = reference(results_of(network).lesions).sel(control=CONTROL)
    p = float(lesion["p_sets"].sel(fraction=described_fraction(network)))
    return Number(f"{network.name}/lesions/p", p, f"{p:.2g}")


def logit_ratio(network: SubjectReport) -> Number:
    """Expected change of the logits by the described lesion, divided by that of its controls."""
    change = results_of(network).lesions["logit_change"].sel(fraction=described_fraction(network))
    of_sets = change.mean("repeat")
    ratio = float(of_sets.sel(selection="ordered") / of_sets.sel(selection=CONTROL))
    return Number(f"{network.name}/lesions/logit_ratio", ratio, f"{ratio:.2f}")


def selections(network: SubjectReport) -> dict[str, str]:
    """Selections of lesioned units, with the headings of their columns."""
    known = results_of(network).lesions["selection"].values
    return {name: head for name, head in SELECTIONS.items() if name in known}


def reference(data: xr.Dataset) -> xr.Dataset:
    """Reference memory on trained maps."""
    return data.sel(maps="trained", memory="reference")


def error(
    network: SubjectReport,
    selection: str,
    fraction: float,
    *,
    maps: str = "trained",
    memory: str = "reference",
) -> Number:
    """Error under a lesion, as the mean over the sets of units."""
    where = {"maps": maps, "memory": memory, "selection": selection, "fraction": fraction}
    lesion = results_of(network).lesions.sel(where)
    value = float(lesion["error"].mean("repeat", skipna=False))
    known = np.isfinite([value, *lesion["interval"].values]).all()
    key = f"{network.name}/lesions/{maps}/{memory}/{selection}/{fraction:g}"
    return Number(key, value, percent(value), interval(lesion) if known else "no interval")


def interval(data: xr.Dataset) -> str:
    """95 % interval of one error."""
    return f"95 % interval {' to '.join(map(percent, data['interval'].values))}"


def comparisons(network: SubjectReport) -> Iterator[Comparison]:
    """Compare the described lesion with lesions of every kind of control unit."""
    lesions = reference(results_of(network).lesions).sel(fraction=described_fraction(network))
    for control in lesions["control"].values:
        compared, key = lesions.sel(control=control), f"{network.name}/lesions/{control}"
        gap, sets, walks = (float(compared[k]) for k in ("difference", "p_sets", "p_pairs"))
        low, high = (points(end) for end in compared["difference_interval"].values)
        if np.isfinite(gap):
            yield Comparison(
                str(control),
                Number(f"{key}/difference", gap, points(gap)),
                low,
                high,
                Number(f"{key}/p_sets", sets, f"{sets:.2g}"),
                Number(f"{key}/p_pairs", walks, f"{walks:.2g}"),
            )


def every_lesion(network: SubjectReport) -> Iterator[tuple[float, int, Number | None]]:
    """Fraction, number of units and p over sets of control units of every lesion."""
    lesions = reference(results_of(network).lesions).sel(control=CONTROL)
    for fraction, n in zip(lesions["fraction"].values, lesions["n_units"].values, strict=True):
        p, key = float(lesions["p_sets"].sel(fraction=fraction)), f"lesions/p_sets/{fraction:g}"
        compared = 0 < n < lesions.sizes["unit"]
        number = Number(f"{network.name}/{key}", p, f"{p:.2g}") if compared else None
        yield float(fraction), int(n), number


def n_predictions(data: xr.Dataset) -> dict[str, int]:
    """Number of predictions on the trained map, by memory."""
    n = data["n"].sel(maps="trained").sum("walk")
    return {str(memory): int(n.sel(memory=memory)) for memory in n["memory"].values}


def furthest_dose(network: SubjectReport) -> tuple[float, float, int]:
    """The α of training, the test-time α furthest from it, and its index."""
    washout = results_of(network).washout
    assert washout is not None
    trained, alphas = float(washout["trained_alpha"][0]), washout["alpha"].values
    i = int(np.argmax(abs(alphas - trained)))
    return trained, float(alphas[i]), i


def dose_error(network: SubjectReport, i: int, memory: str) -> Number:
    """Error at a test-time α."""
    washout = results_of(network).washout
    assert washout is not None
    dose = washout.isel(model=i).sel(maps="trained", memory=memory)
    value, alpha = float(dose["error"]), float(dose["alpha"])
    key = f"{network.name}/washout/{alpha:g}/{memory}"
    return Number(key, value, percent(value), interval(dose))


def equivalent(network: SubjectReport, fraction: float) -> Equivalent:
    """Equivalent α of a lesion of place cells first, with its interval, or why there is none."""
    equivalents = results_of(network).equivalents
    assert equivalents is not None
    result = equivalents.sel(selection="ordered", fraction=fraction)
    value = float(result["alpha"])
    low, high = ("none" if np.isnan(end) else f"{end:.3g}" for end in result["interval"].values)
    number = Number(f"{network.name}/equivalents/{fraction:g}", value, f"{value:.3g}")
    return Equivalent(number, low, high, str(result["reason"].item()))


def n_seeds(together: xr.Dataset) -> int:
    """Number of seeds of the networks of a family."""
    return int(np.unique(together["seed"]).size)


def scored(network: SubjectReport) -> tuple[Scored, list[Scored]]:
    """The described lesion of a network with a score, and every lesion."""
    assert network.lesions is not None
    curve = network.lesions.isel(measure=0)
    n, total = int(curve.attrs["n_place_cells"]), curve.sizes["unit"]
    share = n / total or WITHOUT_CELLS
    nearest = int(np.abs(curve["fraction"].values - share).argmin())
    every = [_scored(network.name, curve.isel(fraction=i)) for i in range(curve.sizes["fraction"])]
    return every[nearest], every


@dataclass(frozen=True)
class Scored:
    """Scores under one lesion, of ordered and of control units, and p over control sets."""

    fraction: float
    n_units: int
    scores: dict[str, Number]
    p: Number | None


def _scored(name: str, lesion: xr.Dataset) -> Scored:
    """Numbers of one lesion of a curve."""
    fraction, n = float(lesion["fraction"]), int(lesion["n_units"])
    scores = {}
    for selection in SELECTIONS:
        one = lesion.sel(selection=selection)
        value = float(one["score"].mean("repeat", skipna=False))
        ends = " to ".join(f"{end:.4g}" for end in one["score_interval"].values)
        key = f"{name}/scored/{selection}/{fraction:g}"
        scores[selection] = Number(key, value, f"{value:.4g}", f"95 % interval {ends}")
    p = float(lesion["score_p_sets"].sel(control=CONTROL))
    compared = 0 < n < lesion.sizes["unit"]
    number = Number(f"{name}/scored/p/{fraction:g}", p, f"{p:.2g}") if compared else None
    return Scored(fraction, n, scores, number)
