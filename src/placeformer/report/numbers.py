"""The numbers of the report, each with its key, its full value and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import xarray as xr

from placeformer.data import schema
from placeformer.models.activation import K_MG_MM, alpha_to_mg
from placeformer.models.memory import MEMORIES
from placeformer.report.measurements import KINDS, NULLS, NetworkReport
from placeformer.spatial.place_cells import PLACE_CELL

COMPACT = 0.5
"""A unit above this score has more than half of its activity in one small field."""

DEFINITIONS = {
    "information_rectify": (
        "spatial information, negative rates set to 0",
        "Skaggs' information in bits per unit of activation, with the negative rates of the map "
        "set to 0: 0 for a uniform map, at most log2 of the number of places; large by chance if "
        "hardly any rate is above 0",
    ),
    "information_shift": (
        "spatial information, lowest rate subtracted",
        "Skaggs' information in bits per unit of activation, with the lowest rate of the map "
        "subtracted from all its rates",
    ),
    "eta2": (
        "variance explained by place (η²)",
        "share of a unit's variance that its mean at every place explains, corrected for chance; "
        "needs no policy for negative rates",
    ),
    "eta2_beyond": (
        "variance explained by place beyond the letter (partial η²)",
        "share of the variance within letters that place explains, corrected for chance",
    ),
    "score": (
        "place-cell score, lower of both policies",
        "share of a unit's activity inside its best place field times the share of the map "
        "outside that field, with negative rates set to 0 or the lowest rate subtracted, whichever "
        "is lower: 0 without a field, near 1 for one small field",
    ),
    "n_fields": (
        "place fields",
        "compact regions that stand out from the rest of a rate map, found in the signed rates",
    ),
    "coherence": (
        "spatial coherence",
        "correlation of the rate of each place with the mean rate of its neighbours",
    ),
    "field_share": (
        "share of the map in fields",
        "share of the tuning beyond the letter, as far as two halves of the recording agree on it, "
        "that lies in the place fields",
    ),
    "stability": (
        "stability",
        "correlation of the rate maps of two halves of the recording (alternating blocks of every "
        "walk)",
    ),
    "reliability": (
        "reliability",
        "correlation expected of two maps with 400 samples per place, extrapolated from the "
        "stability by the Spearman-Brown formula",
    ),
    "q_place": (
        "q of η²",
        "p of place explaining at least as much when the places are shuffled, adjusted for the "
        "number of units (false-discovery rate)",
    ),
    "q_beyond": (
        "q of partial η²",
        "the same for place beyond the letter",
    ),
    "q_within_observation": (
        "q of coherence",
        "p of the map being at least as coherent when rates are permuted among places with the "
        "same letter, adjusted for the number of units (false-discovery rate)",
    ),
}
"""Label and definition of every measure."""

DOSE = f"α = [Mg²⁺] / K_Mg with K_Mg = {K_MG_MM} mM"


@dataclass(frozen=True)
class Number:
    """A number of the page.

    Attributes
    ----------
    key
        Path of the number: "network/layer/measure/map".
    value
        Its full value; NaN if it is not defined.
    text
        The value as text.
    meaning
        Definition, shown when the reader points at the number.
    """

    key: str
    value: float
    text: str
    meaning: str = ""


def percent(value: float) -> str:
    """Per cent with one decimal."""
    return f"{100 * value:.1f}\xa0%"


def share(fraction: float) -> str:
    """Share of the units, in per cent."""
    return f"{100 * fraction:.3g}\xa0%"


def points(value: float) -> str:
    """Percentage points, signed."""
    return f"{100 * value:+z.1f}".replace("-", "\N{MINUS SIGN}")


def error(network: NetworkReport, kind: str, memory: str) -> Number:
    """Error of one memory on one kind of map."""
    value = float(network.memory["error"].sel(maps=kind, memory=memory))
    meaning = (
        f"share of wrong {memory}-memory predictions on {kind} maps, at the end of chunks; "
        f"n = {n_predictions(network, kind, memory)}"
    )
    return Number(f"{network.name}/memory/{kind}/{memory}", value, percent(value), meaning)


def n_predictions(network: NetworkReport, kind: str, memory: str) -> int:
    """Number of predictions behind an error."""
    return int(network.memory["n"].sel(maps=kind, memory=memory))


def interval(network: NetworkReport, kind: str, memory: str) -> tuple[float, float]:
    """95 % interval of an error."""
    low, high = network.memory["interval"].sel(maps=kind, memory=memory).values
    return float(low), float(high)


def median(network: NetworkReport, layer: str, key: str, group: str) -> Number:
    """Median of a measure over the units of a layer, on a kind of map or in shuffles ("null")."""
    values = values_of(network, layer, key, group).values
    known = values[np.isfinite(values)]
    value = float(np.median(known)) if known.size else float("nan")
    meaning = f"median over the units of {layer} ({group}): {DEFINITIONS[key][1]}"
    return Number(f"{network.name}/{layer}/{key}/{group}", value, f"{value:.3f}", meaning)


def values_of(network: NetworkReport, layer: str, key: str, group: str) -> xr.DataArray:
    """Values of a measure in a layer: of "trained", "novel" or of its shuffles."""
    units = network.of_layer(layer)
    if group in KINDS:
        return units[key].isel({schema.MAP: KINDS.index(group)})
    return units[NULLS[key]].isel({schema.MAP: 0})


def policies_agree(a: NetworkReport, b: NetworkReport) -> bool:
    """Whether both policies for negative rates rank the information of two networks equally."""
    signs = []
    for key in ("information_rectify", "information_shift"):
        one, other = (median(network, network.layers[-1], key, "trained") for network in (a, b))
        signs.append(np.sign(one.value - other.value))
    return bool(signs[0] == signs[1])


def with_field(network: NetworkReport, layer: str, kind: str) -> Number:
    """Count the units of a layer that have a place field."""
    n = int((values_of(network, layer, "n_fields", kind) > 0).sum())
    meaning = f"units of {layer} with at least one place field on the {kind} map"
    return Number(f"{network.name}/{layer}/with_field/{kind}", n, str(n), meaning)


def compact(network: NetworkReport, layer: str, kind: str) -> Number:
    """Count the units of a layer above a score of one half."""
    n = int((values_of(network, layer, "score", kind) > COMPACT).sum())
    meaning = f"units of {layer} with a place-cell score above {COMPACT} ({kind} map)"
    return Number(f"{network.name}/{layer}/compact/{kind}", n, str(n), meaning)


def decided(network: NetworkReport, layer: str, reason: str, kind: str) -> Number:
    """Count the units of a layer for which a criterion decided."""
    n = int((values_of(network, layer, "reason", kind) == reason).sum())
    meaning = f"units of {layer} ({kind} map): {reason}"
    return Number(f"{network.name}/{layer}/{reason}/{kind}", n, str(n), meaning)


def reasons(network: NetworkReport) -> list[str]:
    """Reasons of the decisions on the units: place cells first, then by frequency."""
    names, n = np.unique(network.units["reason"].values, return_counts=True)
    common = [str(reason) for reason in names[np.argsort(-n, kind="stable")]]
    return [PLACE_CELL, *(reason for reason in common if reason != PLACE_CELL)]


def remembered(network: NetworkReport, layer: str) -> Number:
    """Count the place cells of a layer whose tuning depends on memory."""
    n = int(network.of_layer(layer)["depends_on_memory"].sum())
    meaning = (
        f"place cells of {layer} on the trained map that are not place cells on the novel map, "
        "where place explains less of their variance (Welch's test between parts of the "
        "recordings, q ≤ 0.05)"
    )
    return Number(f"{network.name}/{layer}/depends_on_memory", n, str(n), meaning)


def right_on_walk(network: NetworkReport) -> list[SimpleNamespace]:
    """Number `right` of the `n` predictions on the walk, of working and of reference memory."""
    seen, correct = network.walk["visited"].values, network.walk["correct"].values
    counts = []
    for memory, which in zip(MEMORIES, (seen, ~seen), strict=True):
        right = int((correct & which).sum())
        number = Number(f"{network.name}/walk/{memory}", right, str(right))
        counts.append(SimpleNamespace(right=number, n=int(which.sum())))
    return counts


def unit(network: NetworkReport, number: int) -> SimpleNamespace:
    """The `name` of a unit, and its `scores` and `n_fields` by kind of map."""
    data = network.units.isel({schema.UNIT: number})
    name = f"{data['layer'].item()} unit {int(data['index'])}"
    scores = dict(zip(KINDS, data["score"].values, strict=True))
    n_fields = dict(zip(KINDS, data["n_fields"].values, strict=True))
    about = DEFINITIONS["score"][1]
    return SimpleNamespace(
        name=name,
        scores={
            kind: Number(f"{network.name}/{name}/score/{kind}", score, f"{score:.2f}", about)
            for kind, score in scores.items()
        },
        n_fields={kind: int(n) for kind, n in n_fields.items()},
    )


def parameters(network: NetworkReport) -> Number:
    """Number of trained weights."""
    n = sum(weight.numel() for weight in network.model.parameters())
    return Number(f"{network.name}/parameters", n, f"{n:,}", "trained weights")


def alpha(network: NetworkReport) -> Number:
    """The α that a network was trained with."""
    value = float(network.model.config.alpha or 0)
    return Number(f"{network.name}/alpha", value, f"{value:g}", DOSE)


def mg_mM(network: NetworkReport) -> Number:
    """The concentration of Mg²⁺ that this α stands for, in mM."""
    value = float(alpha_to_mg(network.model.config.alpha or 0))
    return Number(f"{network.name}/mg_mM", value, f"{value:.3g}", DOSE)


def stored(network: NetworkReport) -> dict[str, Number]:
    """Results stored with the network, with their definitions."""
    info, name = network.model.info, network.name
    return {
        key: Number(f"{name}/stored/{key}", value, f"{value:.4g}", info["definitions"].get(key, ""))
        for key, value in info.get("results", {}).items()
    }


def median_occupancy(network: NetworkReport) -> float:
    """Median number of samples at a place of the trained map."""
    return float(np.median(network.rate_maps["occupancy"].isel({schema.MAP: 0}).values))
