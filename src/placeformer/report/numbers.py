"""Sentences and facts of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import xarray as xr

from placeformer.data import schema
from placeformer.models.activation import K_MG_MM, alpha_to_mg
from placeformer.report.measurements import KINDS, NULLS, Portrait
from placeformer.spatial.place_cells import PLACE_CELL

COMPACT = 0.5
"""A unit above this score has more than half of its activity in one small field."""

DEFINITIONS = {
    "information_rectify": (
        "spatial information, negative rates set to 0",
        "Skaggs' information in bits per unit of activation, after negative rates of the map were "
        "set to 0: 0 for an even map, at most log2 of the number of places; large by chance where "
        "hardly any rate is above 0",
    ),
    "information_shift": (
        "spatial information, least rate subtracted",
        "Skaggs' information in bits per unit of activation, after the least rate of the map was "
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
        "place-cell score, lesser of both policies",
        "share of a unit's activity inside its best place field times the share of the map "
        "outside that field, with negative rates set to 0 or the least rate subtracted, whichever "
        "is less: 0 without a field, near 1 for one small field",
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
        "how much of what two halves of the recording agree on beyond the letter lies in the place "
        "fields",
    ),
    "stability": (
        "stability",
        "correlation of the rate maps of two halves of the recording (blocks of every walk in "
        "turn)",
    ),
    "q_circular": (
        "q of η²",
        "p that place explains as much under circular shifts of the places, corrected for the "
        "number of units (false discovery rate)",
    ),
    "q_beyond": (
        "q of partial η²",
        "the same for place beyond the letter",
    ),
    "q_within_observation": (
        "q of coherence",
        "p that the map is as coherent when places of the same letter trade their rates, "
        "corrected for the number of units (false discovery rate)",
    ),
}
"""Label and definition of every measure."""


def number(key: str, value: float, text: str, about: str = "") -> str:
    """Mark up a number with its full value, where it comes from and what it means."""
    shown = text if np.isfinite(value) else "not defined"
    title = f' title="{escape(about)}"' if about else ""
    return f'<data value="{float(value)!r}" data-key="{escape(key)}"{title}>{escape(shown)}</data>'


def percent(value: float) -> str:
    """Per cent with one decimal."""
    return f"{100 * value:.1f}\xa0%"


def decimals(value: float) -> str:
    """Three decimals, which is what the samples of a report carry."""
    return f"{value:.3f}"


def error(portrait: Portrait, kind: str, memory: str) -> str:
    """Error of one memory on one kind of map."""
    one = portrait.memory.sel(maps=kind, memory=memory)
    about = (
        f"share of wrong {memory}-memory predictions on {kind} maps, at the end of chunks; "
        f"n = {int(one['n'])}"
    )
    value = float(one["error"])
    return number(f"{portrait.name}/memory/{kind}/{memory}", value, percent(value), about)


def interval(portrait: Portrait, kind: str, memory: str) -> tuple[float, float]:
    """95 % interval of an error."""
    low, high = portrait.memory["interval"].sel(maps=kind, memory=memory).values
    return float(low), float(high)


def median(portrait: Portrait, layer: str, key: str, group: str) -> str:
    """Median of a measure over the units of a layer, on a kind of map or in shuffles."""
    value = middle(values_of(portrait, layer, key, group))
    about = f"median over the units of {layer} ({group}): {DEFINITIONS[key][1]}"
    return number(f"{portrait.name}/{layer}/{key}/{group}", value, decimals(value), about)


def middle(values: xr.DataArray) -> float:
    """Median of the values that are defined; NaN if none is."""
    known = values.values[np.isfinite(values.values)]
    return float(np.median(known)) if known.size else float("nan")


def values_of(portrait: Portrait, layer: str, key: str, group: str) -> xr.DataArray:
    """Values of a measure in a layer: of "trained", "novel" or of its shuffles."""
    units = portrait.of_layer(layer)
    if group in KINDS:
        return units[key].isel({schema.MAP: KINDS.index(group)})
    return units[NULLS[key]].isel({schema.MAP: 0})


def with_field(portrait: Portrait, layer: str, kind: str) -> str:
    """Count the units of a layer that have a place field."""
    n = int((values_of(portrait, layer, "n_fields", kind) > 0).sum())
    about = f"units of {layer} with at least one place field on the {kind} map"
    return number(f"{portrait.name}/{layer}/with_field/{kind}", n, str(n), about)


def compact(portrait: Portrait, layer: str, kind: str) -> str:
    """Count the units of a layer above a score of one half."""
    n = int((values_of(portrait, layer, "score", kind) > COMPACT).sum())
    about = f"units of {layer} with a place-cell score above {COMPACT} ({kind} map)"
    return number(f"{portrait.name}/{layer}/compact/{kind}", n, str(n), about)


def decided(portrait: Portrait, layer: str, reason: str, kind: str) -> str:
    """Count the units of a layer for which a criterion decided."""
    n = int((values_of(portrait, layer, "reason", kind) == reason).sum())
    about = f"units of {layer} ({kind} map): {reason}"
    return number(f"{portrait.name}/{layer}/{reason}/{kind}", n, str(n), about)


def remembered(portrait: Portrait, layer: str) -> str:
    """Count the place cells of a layer whose tuning depends on memory."""
    n = int(portrait.of_layer(layer)["depends_on_memory"].sum())
    about = (
        f"place cells of {layer} on the trained map that are none on the novel map, where place "
        "explains less of them (Welch's test between parts of the recordings, q ≤ 0.05)"
    )
    return number(f"{portrait.name}/{layer}/depends_on_memory", n, str(n), about)


def about_one(portrait: Portrait) -> list[str]:
    """Sentences about one network, as HTML."""
    told: tuple[Callable[[Portrait], str], ...] = (remembers, control, places, letters)
    return [tell(portrait) for tell in told]


def about_two(portraits: Sequence[Portrait]) -> list[str]:
    """Sentences about two networks side by side, as HTML; none about one alone."""
    return [difference(*portraits), policies(*portraits)] if len(portraits) == 2 else []


def remembers(portrait: Portrait) -> str:
    """Say how often it is wrong on the maps it was trained on."""
    maps = portrait.model.world.n_maps if portrait.model.world else 0
    return (
        f"Gets {error(portrait, 'trained', 'working')} of its predictions wrong on its {maps} "
        "trained maps where the letter was seen shortly before (working memory), and "
        f"{error(portrait, 'trained', 'reference')} where only training can tell it (reference "
        f"memory). Guessing gets {percent(portrait.memory.attrs['chance'])} wrong."
    )


def control(portrait: Portrait) -> str:
    """Say whether reference memory on novel maps is at chance, as it must be."""
    low, high = interval(portrait, "novel", "reference")
    chance = portrait.memory.attrs["chance"]
    verdict = "is at chance, as it must be"
    if not low <= chance <= high:
        verdict = f"lies {'above' if low > chance else 'below'} chance, outside of its interval"
    if not np.isfinite(low):
        verdict = "was never asked for"
    return (
        f"On novel maps, where there is nothing to remember, reference memory {verdict}: "
        f"{error(portrait, 'novel', 'reference')} of its predictions are wrong "
        f"(95\xa0% interval {percent(low)} to {percent(high)})."
    )


def places(portrait: Portrait) -> str:
    """Say how many units are place cells, on trained and novel maps, and depend on memory."""
    told = [
        f"{decided(portrait, layer, PLACE_CELL, 'trained')} of "
        f"{portrait.of_layer(layer).sizes['unit']} units of {escape(layer)} on the trained map "
        f"and {decided(portrait, layer, PLACE_CELL, 'novel')} on the novel one; the tuning of "
        f"{remembered(portrait, layer)} depends on memory"
        for layer in portrait.layers
    ]
    return "Has place cells: " + ". ".join(told) + "."


def letters(portrait: Portrait) -> str:
    """Say how much of what place explains is there without any memory of the map."""
    layer = portrait.layers[-1]
    shown = [median(portrait, layer, "eta2", kind) for kind in KINDS]
    beyond = [median(portrait, layer, "eta2_beyond", kind) for kind in KINDS]
    known, new = (middle(values_of(portrait, layer, "eta2_beyond", kind)) for kind in KINDS)
    return (
        f"Medians over {escape(layer)}: place explains {shown[0]} of the variance on the trained "
        f"map and {shown[1]} on a map it has never seen; beyond the letter of the place, "
        f"{beyond[0]} and {beyond[1]}. {_needs_memory(known, new)}"
    )


def difference(a: Portrait, b: Portrait) -> str:
    """Say which of two networks remembers more, and whether the intervals part them."""
    ea, eb = (float(p.memory["error"].sel(maps="trained", memory="reference")) for p in (a, b))
    (la, ha), (lb, hb) = (interval(p, "trained", "reference") for p in (a, b))
    apart = "do not overlap" if ha < lb or hb < la else "overlap"
    fewer = "fewer" if ea < eb else "more" if ea > eb else "as many"
    points = f"{abs(ea - eb) * 100:.1f} percentage points " if ea != eb else ""
    return (
        f"<b>{escape(a.name)}</b> makes {points}{fewer} errors of reference memory "
        f"{'as' if ea == eb else 'than'} <b>{escape(b.name)}</b> on trained maps "
        f"({error(a, 'trained', 'reference')} and {error(b, 'trained', 'reference')}; their "
        f"95\xa0% intervals {apart})."
    )


def policies(a: Portrait, b: Portrait) -> str:
    """Say whether the order of two networks depends on the policy for negative rates."""
    told, signs = [], []
    for policy in ("rectify", "shift"):
        key = f"information_{policy}"
        pair = [middle(values_of(p, p.layers[-1], key, "trained")) for p in (a, b)]
        signs.append(np.sign(pair[0] - pair[1]))
        shown = [median(p, p.layers[-1], key, "trained") for p in (a, b)]
        what = DEFINITIONS[key][0].split(", ")[1]
        told.append(f"{shown[0]} and {shown[1]} bits with {what}")
    same = "The policies agree on the order." if signs[0] == signs[1] else (
        "The order depends on the policy: no claim about α can rest on information alone."
    )  # fmt: skip
    return f"Median spatial information in the last layer: {'; '.join(told)}. {same}"


def _needs_memory(known: float, new: float) -> str:
    """Put into words what a trained map has beyond a novel one."""
    if not (np.isfinite(known) and np.isfinite(new)) or known <= 0:
        return "Place explains nothing beyond the letter here."
    if new >= known:
        return "A map never seen shows no less: none of it needs a memory of the map."
    return f"A map never seen shows {100 * max(new, 0) / known:.0f} % of it without any memory."


def facts(portrait: Portrait) -> str:
    """List what the network is."""
    body = "\n".join(
        f'<tr><th scope="row">{label}</th><td>{value}</td></tr>' for label, value in rows(portrait)
    )
    return f'<div class="scroll"><table><tbody>\n{body}\n</tbody></table></div>'


def rows(portrait: Portrait) -> list[tuple[str, str]]:
    """Label and value of every fact."""
    model, config = portrait.model, portrait.model.config
    n = sum(weight.numel() for weight in model.parameters())
    found = [
        ("Activation", activation(portrait)),
        ("Parameters", number(f"{portrait.name}/parameters", n, f"{n:,}", "trained weights")),
        ("Layers", f"{config.n_layers}, width {config.d_model}, {config.n_heads} heads"),
        ("Feed-forward units", f"{config.d_inner} a layer"),
        ("Path integrator", f"width {config.d_rnn}"),
        ("Attention", f"{config.memory} remembered steps and chunks of {config.chunk}"),
    ]
    if (world := model.world) is not None:
        size = f"{world.side} × {world.side} places, {world.n_letters} letters"
        found += [("Maps", f"{world.n_maps} trained, {world.n_maps} novel (seed {world.seed})")]
        found += [("World", size)]
    source = str(model.info.get("source", ""))
    found += [("Source", escape(source) if source.startswith(("zoo", "hf:")) else "a folder")]
    found += results(portrait)
    sha = escape(str(model.info.get("sha256", "")))
    return [*found, ("Weights, sha256", f"<code>{sha}</code>")]


def activation(portrait: Portrait) -> str:
    """Name the activation, with α and the Mg²⁺ it stands for."""
    config = portrait.model.config
    if config.alpha is None:
        return escape(config.activation)
    mg = alpha_to_mg(config.alpha)
    about = f"α = [Mg²⁺] / K_Mg with K_Mg = {K_MG_MM} mM"
    alpha = number(f"{portrait.name}/alpha", config.alpha, f"{config.alpha:g}", about)
    ions = number(f"{portrait.name}/mg_mM", mg, f"{mg:.3g}", about)
    return f"NMDA<sub>α</sub>, α = {alpha} ([Mg²⁺] = {ions} mM)"


def results(portrait: Portrait) -> list[tuple[str, str]]:
    """Results stored with the network, with their definitions."""
    info, found = portrait.model.info, []
    for name, value in info.get("results", {}).items():
        label = f"{escape(name.replace('_', ' ').capitalize())} (stored)"
        key, about = f"{portrait.name}/stored/{name}", info["definitions"].get(name, "")
        found.append((label, number(key, value, f"{value:.4g}", about)))
    return found
