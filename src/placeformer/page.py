"""The HTML page of the report: portraits in, one self-contained text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from placeformer import __version__, figures, schema
from placeformer.activation import K_MG_MM
from placeformer.facts import facts
from placeformer.figures import Picture
from placeformer.findings import (
    COMPACT,
    DEFINITIONS,
    about_one,
    about_two,
    compact,
    error,
    interval,
    median,
    number,
    percent,
    with_field,
)
from placeformer.memory import MEMORIES
from placeformer.portrait import KINDS, Portrait, Settings, best_units

TEMPLATE = Path(__file__).with_name("report.html")
BEST = 8
"""Units of each layer in the gallery."""

DRAWN = ("information_rectify", "information_shift", "eta2_beyond", "score")
"""Measures whose distributions are drawn."""

GROUPS = {
    "trained": "trained map",
    "novel": "novel map",
    "circular": "shifted in time",
    "within_observation": "letters kept",
}


def render(portraits: Sequence[Portrait], settings: Settings) -> str:
    """Write the page.

    Parameters
    ----------
    portraits
        One network, or two to be shown side by side.
    settings
        What they were made with.
    """
    limits = {key: figures.limits_of(portraits, key) for key in DRAWN}
    config = portraits[0].model.config
    parts = {
        "title": escape(" beside ".join(p.name for p in portraits)),
        "version": __version__,
        "findings": cards(portraits, lambda p: bullets(about_one(p))),
        "together": bullets(about_two(portraits)),
        "networks": cards(portraits, facts),
        "walks": cards(portraits, walk),
        "window": str(config.memory + config.chunk),
        "memory": cards(portraits, memory),
        "best": str(BEST),
        "gallery": cards(portraits, gallery),
        "distributions": cards(portraits, lambda p: distributions(p, limits)),
        "tables": cards(portraits, table),
        "methods": methods(portraits, settings),
        "files": "\n".join(file for p in portraits for file in files(p)),
        "k_mg": f"{K_MG_MM:g}",
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(parts)


def cards(portraits: Sequence[Portrait], content: Callable[[Portrait], str]) -> str:
    """Put the networks side by side, with the name of each on top."""
    return "\n".join(
        f'<article class="card"><h3>{escape(p.name)}</h3>\n{content(p)}\n</article>'
        for p in portraits
    )


def bullets(sentences: Sequence[str]) -> str:
    """List sentences."""
    items = "\n".join(f"<li>{sentence}</li>" for sentence in sentences)
    return f'<ul class="findings">\n{items}\n</ul>' if sentences else ""


def figure(picture: Picture, caption: str) -> str:
    """Show a picture with its caption."""
    return (
        f'<figure><img src="{picture.uri}" alt="{escape(picture.alt)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def walk(portrait: Portrait) -> str:
    """Show the walk, and count what is marked on it."""
    shown = portrait.walk
    seen, right = shown["visited"].values, shown["correct"].values
    counts = [
        f"{number(f'{portrait.name}/walk/{memory}', n, str(n))} of {int(which.sum())} right "
        f"from {memory} memory"
        for memory, which in zip(MEMORIES, (seen, ~seen), strict=True)
        for n in [int((right & which).sum())]
    ]
    first = int(shown["time"].values[0])
    caption = (
        f"{shown.sizes['time']} steps from step {first} on; {' and '.join(counts)}. Round: the "
        "place was among the steps that could be attended to. Diamond: it was not. Filled blue: "
        "right; crossed red: wrong. Predictions at one place are set apart."
    )
    return figure(figures.walk(portrait), caption)


def memory(portrait: Portrait) -> str:
    """Show the memory errors, and list them with their intervals and numbers."""
    rows = [
        (
            f"{kind}, {which}",
            [
                error(portrait, kind, which),
                " to ".join(map(percent, interval(portrait, kind, which))),
                f"{int(portrait.memory['n'].sel(maps=kind, memory=which)):,}",
            ],
        )
        for kind in KINDS
        for which in MEMORIES
    ]
    attrs = portrait.memory.attrs
    caption = (
        f"{attrs['n_walks']} walks of {attrs['n_steps']} steps on each kind of maps. Bars: "
        "95\xa0% Wilson intervals, predictions taken as independent. Dotted line: guessing."
    )
    head = ("Maps, memory", "Wrong", "95\xa0% interval", "Predictions")
    body = "\n".join(row(label, cells) for label, cells in rows)
    return figure(figures.memory(portrait), caption) + grid("", head, body)


def gallery(portrait: Portrait) -> str:
    """Show the best place units of every layer."""
    parts = []
    for layer in portrait.layers:
        tiles = [tile(portrait, unit) for unit in best_units(portrait, layer, BEST)]
        n = portrait.of_layer(layer).sizes[schema.UNIT]
        parts += [f"<h4>{escape(layer)}: best {len(tiles)} of {n} units</h4>"]
        parts += ['<div class="tiles">', *tiles, "</div>"]
    return "\n".join(parts)


def tile(portrait: Portrait, unit: int) -> str:
    """Show one unit, with its score on both maps."""
    one = portrait.units.isel({schema.UNIT: unit})
    name = f"{one['layer'].item()} unit {int(one['index'])}"
    about, values = DEFINITIONS["score"][1], one["score"].values
    scores = [
        number(f"{portrait.name}/{name}/score/{kind}", value, f"{value:.2f}", about)
        for kind, value in zip(KINDS, values, strict=True)
    ]
    fields = [int(n) for n in one["n_fields"].values]
    caption = (
        f"{escape(name)}. Score {scores[0]}, novel {scores[1]}; fields {fields[0]}, "
        f"novel {fields[1]}."
    )
    return figure(figures.unit(portrait, unit), caption)


def distributions(portrait: Portrait, limits: dict[str, tuple[float, float]]) -> str:
    """Show the distributions of the measures over the units of every layer."""
    shown = []
    for key in DRAWN:
        label, definition = DEFINITIONS[key]
        scale = " Logarithmic share." if key in figures.LOGARITHMIC else ""
        caption = f"<b>{sentence(label)}</b> {sentence(definition)}{scale}"
        shown.append(figure(figures.distribution(portrait, key, limits[key]), caption))
    return "\n".join(shown)


def sentence(text: str) -> str:
    """Make a sentence of a phrase."""
    return f"{text[0].upper()}{text[1:]}."


def table(portrait: Portrait) -> str:
    """List medians and counts of every layer, with their controls."""
    body = "\n".join(
        f'<tr><th scope="rowgroup" colspan="5">{escape(layer)}</th></tr>\n'
        + "\n".join(row(label, cells) for label, cells in table_rows(portrait, layer))
        for layer in portrait.layers
    )
    caption = (
        "Medians over units, and numbers of units; shuffles are of the trained map unless said."
    )
    return grid(caption, ("", *GROUPS.values()), body)


def grid(caption: str, head: Sequence[str], body: str) -> str:
    """Write a table that scrolls where it is too wide."""
    columns = "".join(f'<th scope="col">{label}</th>' for label in head)
    above = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="wide">{above}<thead><tr>{columns}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def row(label: str, cells: Sequence[str]) -> str:
    """Write one row of a table."""
    return f'<tr><th scope="row">{label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def table_rows(portrait: Portrait, layer: str) -> list[tuple[str, list[str]]]:
    """Label and cells of every row about a layer."""
    rows = []
    for key in ("information_rectify", "information_shift", "eta2", "eta2_beyond"):
        known = [g for g in GROUPS if g in KINDS or f"{key}_{g}" in portrait.units]
        cells = [median(portrait, layer, key, g) if g in known else "" for g in GROUPS]
        unit = " (bits per spike)" if key.startswith("information") else ""
        rows.append((f"Median {DEFINITIONS[key][0]}{unit}", cells))
    fields = [with_field(portrait, layer, kind) for kind in KINDS]
    rows.append(("Units with a place field", [*fields, "", ""]))
    scores = [compact(portrait, layer, group) for group in GROUPS]
    rows.append((f"Units with a score above {COMPACT}", scores))
    for kind in KINDS:
        nulls = [exceeding(portrait, layer, kind, null) for null in GROUPS if null not in KINDS]
        label = f"Units whose score exceeds its own shuffles (p ≤ 0.05), {GROUPS[kind]}"
        rows.append((label, ["", "", *nulls]))
    return rows


def exceeding(portrait: Portrait, layer: str, kind: str, null: str) -> str:
    """Count the units whose score on a map is rare among their shuffles."""
    p = portrait.of_layer(layer)[f"score_{null}_p"].isel({schema.MAP: KINDS.index(kind)})
    n = int((p <= 0.05).sum())
    about = (
        f"p = (k + 1) / (n + 1), not corrected; by chance at most {0.05 * p.size:.0f} of {p.size} "
        f"units are expected ({kind} map)"
    )
    return number(f"{portrait.name}/{layer}/exceeding/{kind}/{null}", n, str(n), about)


def methods(portraits: Sequence[Portrait], settings: Settings) -> str:
    """Say how everything was measured."""
    occupancy = portraits[0].rate_maps["occupancy"].isel({schema.MAP: 0}).values
    n = settings.walks * settings.steps
    return (
        f"<p>Seed {settings.seed} for walks, initial states and shuffles. Activations of the query "
        f"stream along {settings.walks} walks of {settings.steps} steps on the first trained and "
        f"the first novel map: {n:,} samples on each, {np.median(occupancy):.0f} a place (median). "
        "Rate maps are not smoothed. Shuffles: "
        f"{settings.shuffles} of each kind; every walk is shifted by an amount of its own, at "
        "least a tenth of its length. Fields are found in the signed rates; wherever a measure "
        f"needs rates of at least 0, its policy is named. placeformer {escape(__version__)}.</p>"
    )


def files(portrait: Portrait) -> list[str]:
    """Link the netCDF files."""
    about = {
        "memory": "errors, intervals and numbers of predictions",
        "rate_maps": "rate maps, occupancy, fields and letters",
        "units": "every measure of every unit, with shuffles and p-values",
        "walk": "the walk that is drawn",
    }
    return [
        f'<li><a href="{escape(name)}"><code>{escape(name)}</code></a>: {text}</li>'
        for name, text in zip(portrait.datasets, about.values(), strict=True)
    ]
