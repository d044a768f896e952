"""The numbers of the report, each with its key, its full value and its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import numpy as np
import xarray as xr

from placeformer.data import schema
from placeformer.models.activation import K_MG_MM, alpha_to_mg
from placeformer.models.fingerprints import current_info
from placeformer.models.memory import MEMORIES
from placeformer.models.transformer import NavigationTransformer
from placeformer.plot.maps import axis_edges, is_grid
from placeformer.reporting.measurements import ALL_UNITS, NULLS, SubjectReport
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
        "share of the tuning (beyond the letter, where there are letters), as far as two halves of "
        "the recording agree on it, that lies in the place fields",
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
    "eta2_corrected": (
        "η² without chance",
        "variance explained by place without what slow activations explain by chance: "
        "(η² − m) / (1 − m), m being the mean of the shuffles",
    ),
    "mean_rate": ("mean rate", "mean activation over all samples with a place"),
    "grid_score": (
        "grid score",
        "symmetry of the autocorrelogram of the map under rotations by 60° and 120° compared with "
        "30°, 90° and 150°",
    ),
    "border_score": (
        "border score",
        "how far a field lies along a wall; a map without structure scores about 0.5, so only its "
        "test tells border cells",
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
        Path of the number: "subject/layer/measure/map".
    value
        Its full value; NaN if it is not defined.
    text
        The value as text.
    meaning
        Definition, which the reader can open.
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


def error(subject: SubjectReport, kind: str, memory: str) -> Number:
    """Error of one memory on one kind of map."""
    value = float(memory_of(subject)["error"].sel(maps=kind, memory=memory))
    meaning = (
        f"share of wrong {memory}-memory predictions on {kind} maps, at the end of chunks; "
        f"n = {n_predictions(subject, kind, memory)}"
    )
    return Number(f"{subject.name}/memory/{kind}/{memory}", value, percent(value), meaning)


def memory_of(subject: SubjectReport) -> xr.Dataset:
    """Memory errors of a navigation Transformer."""
    assert subject.memory is not None
    return subject.memory


def n_predictions(subject: SubjectReport, kind: str, memory: str) -> int:
    """Number of predictions behind an error."""
    return int(memory_of(subject)["n"].sel(maps=kind, memory=memory))


def interval(subject: SubjectReport, kind: str, memory: str) -> tuple[float, float]:
    """95 % interval of an error."""
    low, high = memory_of(subject)["interval"].sel(maps=kind, memory=memory).values
    return float(low), float(high)


def median(subject: SubjectReport, layer: str, key: str, group: str) -> Number:
    """Median of a measure over the units of a layer, on a map or in shuffles ("null")."""
    values = values_of(subject, layer, key, group).values
    known = values[np.isfinite(values)]
    value = float(np.median(known)) if known.size else float("nan")
    meaning = f"median over {units_of(layer)} ({group_name(group)}): {DEFINITIONS[key][1]}"
    return Number(f"{subject.name}/{layer}/{key}/{group}", value, f"{value:.3f}", meaning)


def units_of(layer: str) -> str:
    """The units of a layer in words."""
    return ALL_UNITS if layer == ALL_UNITS else f"units of {layer}"


def group_name(group: str) -> str:
    """Where values are from, in words: a map, or the shuffles of the first map."""
    return "shuffles" if group == "null" else group


def values_of(subject: SubjectReport, layer: str, key: str, group: str) -> xr.DataArray:
    """Values of a measure in a layer: on a map, or in its shuffles on the first map."""
    units = subject.of_layer(layer)
    if group in subject.maps:
        return units[key].isel({schema.MAP: subject.maps.index(group)})
    return units[NULLS[key]].isel({schema.MAP: 0})


def policies_agree(a: SubjectReport, b: SubjectReport) -> bool:
    """Whether both policies for negative rates rank the information of two networks equally."""
    signs = []
    for key in ("information_rectify", "information_shift"):
        one, other = (
            median(subject, subject.layers[-1], key, subject.maps[0]) for subject in (a, b)
        )
        signs.append(np.sign(one.value - other.value))
    return bool(signs[0] == signs[1])


def with_field(subject: SubjectReport, layer: str, kind: str) -> Number:
    """Count the units of a layer that have a place field."""
    n = int((values_of(subject, layer, "n_fields", kind) > 0).sum())
    meaning = f"{units_of(layer)} with at least one place field ({group_name(kind)})"
    return Number(f"{subject.name}/{layer}/with_field/{kind}", n, str(n), meaning)


def compact(subject: SubjectReport, layer: str, kind: str) -> Number:
    """Count the units of a layer above a score of one half."""
    n = int((values_of(subject, layer, "score", kind) > COMPACT).sum())
    meaning = f"{units_of(layer)} with a place-cell score above {COMPACT} ({group_name(kind)})"
    return Number(f"{subject.name}/{layer}/compact/{kind}", n, str(n), meaning)


def decided(subject: SubjectReport, layer: str, reason: str, kind: str) -> Number:
    """Count the units of a layer for which a criterion decided."""
    n = int((values_of(subject, layer, "reason", kind) == reason).sum())
    meaning = f"{units_of(layer)} ({group_name(kind)}): {reason}"
    return Number(f"{subject.name}/{layer}/{reason}/{kind}", n, str(n), meaning)


def reasons(subject: SubjectReport) -> list[str]:
    """Reasons of the decisions on the units: place cells first, then by frequency."""
    names, n = np.unique(subject.units["reason"].values, return_counts=True)
    common = [str(reason) for reason in names[np.argsort(-n, kind="stable")]]
    return [PLACE_CELL, *(reason for reason in common if reason != PLACE_CELL)]


def failures(subject: SubjectReport) -> list[tuple[str, Number]]:
    """Criteria that units of the first map fail first, with the number of units, most first."""
    found = subject.units["reason"].isel({schema.MAP: 0}).values
    names, n = np.unique(found[found != PLACE_CELL], return_counts=True)
    return [
        (str(names[i]), Number(f"{subject.name}/failed/{names[i]}", int(n[i]), str(n[i])))
        for i in np.argsort(-n, kind="stable")
    ]


def remembered(subject: SubjectReport, layer: str) -> Number:
    """Count the place cells of a layer whose tuning depends on memory, on the first map."""
    depends = subject.of_layer(layer)["depends_on_memory"]
    n = int((depends.isel({schema.MAP: 0}) if schema.MAP in depends.dims else depends).sum())
    meaning = (
        f"place cells among the {units_of(layer)} ({subject.maps[0]}) that are not place cells on "
        "any map of the control, where place explains less of their variance (Welch's test between "
        "parts of the recordings, q ≤ 0.05)"
    )
    return Number(f"{subject.name}/{layer}/depends_on_memory", n, str(n), meaning)


def cell_types(subject: SubjectReport) -> list[tuple[str, Number]]:
    """Types of cells on the first map with the number of units of each, the rarest last."""
    types = subject.units["cell_type"].isel({schema.MAP: 0}).values
    names, n = np.unique(types, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: (names[i] == "other", -n[i]))
    return [
        (str(names[i]), Number(f"{subject.name}/cell_type/{names[i]}", int(n[i]), str(n[i])))
        for i in order
    ]


def decoding(subject: SubjectReport) -> SimpleNamespace:
    """Decoded position: the `error`, its `interval`, that of `chance`, and `p`."""
    data = subject.decoding
    assert data is not None
    maps = subject.rate_maps
    on_grid = all(is_grid(axis_edges(maps, dim)) for dim in schema.place_dims(maps))
    units = schema.shown_units(data["error"], "grid steps" if on_grid else "")
    about = (
        "median distance between the position and the one decoded from the activations of that "
        f"{data.attrs['decoded_from']} alone (naive Bayes, trained on other walks or blocks of "
        f"time); n = {int(data['n'])}"
    )
    blind = "median error of always predicting the mean position of the training samples"
    test = (
        "p of an error as low when the courses of positions are exchanged among walks or blocks of "
        "time, and the decoder is trained anew"
    )

    def number(key: str, meaning: str, unit: str = units) -> Number:
        value = float(data[key])
        text = f"{value:.3g} {unit}".strip().replace(" ", "\xa0")
        return Number(f"{subject.name}/decoding/{key}", value, text, meaning)

    return SimpleNamespace(
        error=number("median_error", about),
        chance=number("chance_error", blind),
        p=number("p", test, ""),
        interval=tuple(f"{end:.3g}" for end in data["interval"].values),
        reason=str(data["reason"].item()),
    )


def right_on_walk(subject: SubjectReport) -> list[SimpleNamespace]:
    """Number `right` of the `n` predictions on the walk, of working and of reference memory."""
    assert subject.walk is not None
    seen, correct = subject.walk["visited"].values, subject.walk["correct"].values
    counts = []
    for memory, which in zip(MEMORIES, (seen, ~seen), strict=True):
        right = int((correct & which).sum())
        number = Number(f"{subject.name}/walk/{memory}", right, str(right))
        counts.append(SimpleNamespace(right=number, n=int(which.sum())))
    return counts


def unit(subject: SubjectReport, number: int) -> SimpleNamespace:
    """The `name` of a unit, its `link`, its `scores` and `n_fields` by map, and the `reason`."""
    data = subject.units.isel({schema.UNIT: number})
    name, about = subject.unit_names[number], DEFINITIONS["score"][1]
    scores = zip(subject.maps, data["score"].values, strict=True)
    return SimpleNamespace(
        name=name,
        link=link(subject, number),
        scores={
            kind: Number(f"{subject.name}/{name}/score/{kind}", score, f"{score:.2f}", about)
            for kind, score in scores
        },
        n_fields=dict(zip(subject.maps, data["n_fields"].values.astype(int), strict=True)),
        reason=str(data["reason"].values[0]),
    )


def link(subject: SubjectReport, number: int) -> str:
    """Link to a unit within the page, which says its subject too."""
    found = {"unit": subject.unit_links[number], "of": subject.name}
    return "#" + urlencode(found, quote_via=quote)


def network_of(subject: SubjectReport) -> NavigationTransformer:
    """The navigation Transformer that a subject is."""
    assert subject.model is not None
    return subject.model


def parameters(subject: SubjectReport) -> Number:
    """Number of trained weights."""
    n = sum(weight.numel() for weight in network_of(subject).parameters())
    return Number(f"{subject.name}/parameters", n, f"{n:,}", "trained weights")


def alpha(subject: SubjectReport) -> Number:
    """The α that a network was trained with."""
    value = float(network_of(subject).config.alpha or 0)
    return Number(f"{subject.name}/alpha", value, f"{value:g}", DOSE)


def mg_mM(subject: SubjectReport) -> Number:
    """The concentration of Mg²⁺ that this α stands for, in mM."""
    value = float(alpha_to_mg(network_of(subject).config.alpha or 0))
    return Number(f"{subject.name}/mg_mM", value, f"{value:.3g}", DOSE)


def stored(subject: SubjectReport) -> dict[str, Number]:
    """Results stored with the subject, with their definitions."""
    info, name = current_info(network_of(subject)), subject.name
    return {
        key: Number(f"{name}/stored/{key}", value, f"{value:.4g}", info["definitions"].get(key, ""))
        for key, value in info.get("results", {}).items()
    }


def median_occupancy(subject: SubjectReport) -> float:
    """Median occupancy of the visited places of the first map."""
    occupancy = subject.rate_maps["occupancy"].isel({schema.MAP: 0}).values
    return float(np.median(occupancy[occupancy > 0])) if (occupancy > 0).any() else 0.0
