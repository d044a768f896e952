"""The HTML page of the report: portraits in, one self-contained text out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from placeformer import __version__
from placeformer.data import schema
from placeformer.models.activation import K_MG_MM
from placeformer.models.memory import MEMORIES
from placeformer.report import figures
from placeformer.report import lesion_section as harmcard
from placeformer.report import unit_table as explorer
from placeformer.report.figures import bullets, figure, grid, row
from placeformer.report.measurements import KINDS, NULLS, Portrait, Settings, best_units
from placeformer.report.text import (
    COMPACT,
    DEFINITIONS,
    about_one,
    about_two,
    compact,
    decided,
    error,
    facts,
    interval,
    median,
    number,
    percent,
    remembered,
    with_field,
)
from placeformer.spatial.place_cells import PLACE_CELL

TEMPLATE, STYLE = "page.html", "page.css"
SCRIPTS = ("unit_pictures.js", "unit_table.js")
BEST = 8
"""Units of each layer in the gallery."""

DRAWN = ("information_rectify", "information_shift", "eta2", "eta2_beyond", "coherence", "score")
"""Measures whose distributions are drawn."""

GROUPS = {
    "trained": "trained map",
    "novel": "novel map",
    "null": "in shuffles",
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
    script = "\n".join(read(name) for name in SCRIPTS)
    config = portraits[0].model.config
    parts = {
        "title": escape(" beside ".join(p.name for p in portraits)),
        "version": __version__,
        "findings": cards(portraits, lambda p: bullets([*about_one(p), harmcard.short(p)])),
        "together": bullets(about_two(portraits)),
        "networks": cards(portraits, facts),
        "walks": cards(portraits, walk),
        "window": str(config.memory + config.chunk),
        "memory": cards(portraits, memory),
        "best": str(BEST),
        "gallery": cards(portraits, gallery),
        "harm": cards(portraits, harmcard.card),
        "columns": explorer.columns(),
        "data": explorer.data(portraits),
        "style": read(STYLE),
        "script": script,
        "script_hash": sha256(script),
        "distributions": cards(portraits, lambda p: distributions(p, limits)),
        "tables": cards(portraits, table),
        "methods": methods(portraits, settings),
        "files": "\n".join(file for p in portraits for file in files(p)),
        "k_mg": f"{K_MG_MM:g}",
    }
    return Template(read(TEMPLATE)).substitute(parts)


def read(name: str) -> str:
    """Text of a file of the page's own."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


def sha256(script: str) -> str:
    """Hash of a script, by which the page's policy knows it from any other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def cards(portraits: Sequence[Portrait], content: Callable[[Portrait], str]) -> str:
    """Put the networks side by side, with the name of each on top."""
    return "\n".join(
        f'<article class="card"><h3>{escape(p.name)}</h3>\n{content(p)}\n</article>'
        for p in portraits
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
        f'<tr><th scope="rowgroup" colspan="4">{escape(layer)}</th></tr>\n'
        + "\n".join(row(label, cells) for label, cells in table_rows(portrait, layer))
        for layer in portrait.layers
    )
    caption = "Medians over units, and numbers of units; shuffles are of the trained map."
    return grid(caption, ("", *GROUPS.values()), body)


def table_rows(portrait: Portrait, layer: str) -> list[tuple[str, list[str]]]:
    """Label and cells of every row about a layer."""
    rows = []
    for key in ("information_rectify", "information_shift", *NULLS):
        known = [g for g in GROUPS if g in KINDS or key in NULLS]
        cells = [median(portrait, layer, key, g) if g in known else "" for g in GROUPS]
        unit = " (bits per spike)" if key.startswith("information") else ""
        how = f"; shuffles: {figures.SHUFFLES[key]}" if key in NULLS else ""
        rows.append((f"Median {DEFINITIONS[key][0]}{unit}{how}", cells))
    fields = [with_field(portrait, layer, kind) for kind in KINDS]
    rows.append(("Units with a place field", [*fields, ""]))
    scores = [compact(portrait, layer, kind) for kind in KINDS]
    rows.append((f"Units with a score above {COMPACT}", [*scores, ""]))
    for reason in reasons(portrait):
        cells = [decided(portrait, layer, reason, kind) for kind in KINDS]
        rows.append((f"Units: {escape(reason)}", [*cells, ""]))
    kept = remembered(portrait, layer)
    return [*rows, ("Place cells whose tuning depends on memory", [kept, "", ""])]


def reasons(portrait: Portrait) -> list[str]:
    """What was decided of the units: place cells first, then by how often."""
    found, n = np.unique(portrait.units["reason"].values, return_counts=True)
    common = [str(reason) for reason in found[np.argsort(-n, kind="stable")]]
    return [PLACE_CELL, *(reason for reason in common if reason != PLACE_CELL)]


def methods(portraits: Sequence[Portrait], settings: Settings) -> str:
    """Say how everything was measured, and what to beware of."""
    occupancy = portraits[0].rate_maps["occupancy"].isel({schema.MAP: 0}).values
    n, units = settings.walks * settings.steps, portraits[0].units.attrs
    said = (
        f"<p>Seed {settings.seed} for walks, initial states and shuffles. Activations of the query "
        f"stream along {settings.walks} walks of {settings.steps} steps on the first trained and "
        f"the first novel map: {n:,} samples on each, {np.median(occupancy):.0f} a place (median). "
        "Rate maps are not smoothed. Fields are found in the signed rates; wherever a measure "
        "needs rates of at least 0, its policy is named.</p>"
        f"<p>Place cells are those of <code>placeformer.place_cells</code>: q ≤ {units['max_q']:g} "
        f"in three tests of {settings.shuffles} shuffles each (every walk is shifted by an amount "
        "of its own, at least a tenth of its length), at least "
        f"{units['min_fields']} field, a share of the map in fields of at least "
        f"{units['min_field_share']:g} and a stability of at least {units['min_stability']:g}. "
        f"The least possible p is 1/{settings.shuffles + 1}. "
        f"placeformer {escape(__version__)}.</p>"
    )
    caveats = [f"{p.name}: {line}" for p in portraits for line in told_of(p)]
    return said + bullets([escape(line) for line in caveats])


def told_of(portrait: Portrait) -> list[str]:
    """What the tests warned of."""
    return [line for line in str(portrait.units.attrs["caveats"]).split("\n") if line]


def files(portrait: Portrait) -> list[str]:
    """Link the netCDF files."""
    about = {
        "memory": "errors, intervals and numbers of predictions",
        "rate_maps": "rate maps, occupancy, fields and letters",
        "units": "every measure of every unit, the tests with their shuffles, and the decision",
        "walk": "the walk that is drawn",
        "lesions": "errors under every lesion, with the comparisons of units and their controls",
        "washout": "errors at every test-time α",
        "equivalents": "the test-time α that costs as much as each lesion",
        "comparison": "all of this beside the networks of the zoo that were trained alike",
    }
    return [
        f'<li><a href="{name}"><code>{name}</code></a>: {about[kind]}</li>'
        for kind in portrait.datasets
        for name in [escape(portrait.file(kind))]
    ]
