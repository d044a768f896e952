"""Tables of "Navigation networks compared", generated from zoo/results at every build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from rst import render
from zoo_pages import save

import placeformer as pf
from placeformer.evaluation.score_card_files import from_plain

RESULT = Path(__file__).resolve().parents[2] / "zoo" / "results" / "navigation-networks.json"
NETWORK, UNTRAINED, FIELDS = "network", "untrained twin", "random smooth fields"
SHORT = {NETWORK: "network", UNTRAINED: "untrained", FIELDS: "random fields"}
LEARNT = {
    "reference_error_trained": "reference error, trained maps",
    "working_error_trained": "working error, trained maps",
    "error_untrained_m": "read-out before training (m)",
    "error_m": "read-out (m)",
    "loss": "loss",
    "n_updates": "updates",
    "seed": "seed",
    "cpu_s": "CPU seconds",
}
"""Facts about the training that are shown, and their labels."""


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", lambda app: write_all(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True}


def write_all(target: Path, result: Path = RESULT) -> None:
    """Write every part of the page into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    entries = json.loads(result.read_text(encoding="utf-8"))
    cards = {name: from_plain(entry["card"]) for name, entry in entries.items()}
    parts = {
        "learnt": render("table", header=["network", "what", "what it has learnt"],
                         rows=[learnt(name, entry) for name, entry in entries.items()]),
        "marks": render("table", header=HEADER, rows=rows(cards, marks_of)),
        "decoding": render("table", header=DECODING, rows=rows(cards, decoding_of)),
        "lesions": render("table", header=LESIONS, rows=lesion_rows(cards)),
    }  # fmt: skip
    for name, text in parts.items():
        (target / f"navigation-{name}.txt").write_text(text, encoding="utf-8")
    with plt.rc_context({"svg.hashsalt": "placeformer"}):
        save(drawn(cards), target / "navigation-networks.svg")


MARKS = ("tuned", "beyond input", "field", "stable", "place cell", "remaps")
HEADER = ["network, layer", "units", "subject", *MARKS]
DECODING = ["network, layer", "units", "subject", "ridge", "Bayes", "chance", "p (ridge, Bayes)"]
LESIONS = [
    "network, layer", "subject", "place cells", "no lesion", "place cells lesioned",
    "control units lesioned", "difference, 95 % interval", "exact p",
]  # fmt: skip


def learnt(name: str, entry: dict[str, Any]) -> list[str]:
    """One row of the table of networks."""
    known = {text: entry["learnt"][key] for key, text in LEARNT.items() if key in entry["learnt"]}
    facts = [f"{text} {n if isinstance(n, int) else format(n, '.3g')}" for text, n in known.items()]
    return [name, entry["what"], "; ".join(facts) or "nothing"]


def rows(cards: dict[str, xr.Dataset], cells: Any) -> list[list[str]]:
    """One row per network, layer and subject that was measured."""
    found = []
    for name, card in cards.items():
        for layer in card["layer"].values:
            for subject in card["subject"].values:
                one = card.sel(layer=layer, subject=subject)
                if np.isfinite(one["decoded_error"]).any():
                    head = [f"{name}, ``{layer}``", str(int(one["n_units"]))]
                    head = head if subject == NETWORK else ["", ""]
                    found.append([*head, SHORT[str(subject)], *cells(one)])
    return found


def marks_of(one: xr.Dataset) -> list[str]:
    """Fractions of units with their intervals."""
    cells = []
    for mark in MARKS:
        at = one.sel(mark=mark)
        low, high = at["share_interval"].values
        value = float(at["share"])
        cells.append("–" if np.isnan(value) else f"{value:.0%} ({low:.0%}–{high:.0%})")
    return cells


def decoding_of(one: xr.Dataset) -> list[str]:
    """Decoding errors with their intervals."""
    units = str(one["decoded_error"].attrs["units"]).replace("1", "grid steps")
    cells = []
    for decoder in ("ridge", "bayes"):
        at = one.sel(decoder=decoder)
        low, high = at["decoded_interval"].values
        known = f" ({low:.3g}–{high:.3g})" if np.isfinite([low, high]).all() else ""
        cells.append(f"{float(at['decoded_error']):.3g}{known}")
    p = ", ".join(f"{value:.2g}" for value in one["decoded_p"].values)
    return [*cells, f"{float(one['chance_error']):.3g} {units}", p]


def lesion_rows(cards: dict[str, xr.Dataset]) -> list[list[str]]:
    """One row per network and layer: the lesion of its place cells, or why there is none."""
    found = []
    for name, card in cards.items():
        for layer in card["layer"].values:
            for subject in (NETWORK, UNTRAINED):
                one = card.sel(layer=layer, subject=subject)
                if reason := str(one["lesion_reason"].item()):
                    if reason not in ("no score was given", "a Recording has no untrained twin"):
                        n = str(int(one["lesion_n"]))
                        found.append([f"{name}, ``{layer}``", SHORT[subject], n, reason, *[""] * 4])
                    continue
                low, high = one["lesion_interval"].values
                found.append([
                    f"{name}, ``{layer}``", SHORT[subject], str(int(one["lesion_n"])),
                    *(f"{value:.3g}" for value in one["lesion_score"].values),
                    f"{float(one['lesion_cost']):.3g} ({low:.3g} to {high:.3g})",
                    f"{float(one['lesion_p']):.2g}",
                ])  # fmt: skip
    return found


def drawn(cards: dict[str, xr.Dataset]) -> Any:
    """Draw the score card of the last layer of every network."""
    n_rows = -(-len(cards) // 2)
    size = {"figsize": (11, 3.3 * n_rows), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(n_rows, 2, **size)
    for ax, (name, card) in zip(axes.ravel(), cards.items(), strict=False):
        pf.plot.score_card(card, card.sizes["layer"] - 1, ax=ax)
        ax.set_title(f"{name}, {ax.get_title()}", fontsize="medium")
    for ax in axes.ravel()[len(cards) :]:
        ax.set_visible(False)
    return figure
