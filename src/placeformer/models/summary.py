"""The summary of a network as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import Any


def text(kind: str, facts: dict[str, Any]) -> str:
    """Summary as plain text: one line per fact."""
    rows = labelled(facts)
    return "\n".join(
        [f"{kind} {rows.pop('name')}", *(f"  {label}: {value}" for label, value in rows.items())]
    )


def html(kind: str, facts: dict[str, Any]) -> str:
    """Summary as an HTML table, with the definition of every result."""
    definitions = {spaced(key): definition for key, definition in facts["definitions"].items()}
    rows = []
    for label, value in labelled(facts).items():
        note = f"<br><small>{escape(definitions[label])}</small>" if label in definitions else ""
        rows.append(
            f'<tr><th style="text-align:left">{escape(label)}</th>'
            f'<td style="text-align:left">{escape(value)}{note}</td></tr>'
        )
    return f"<table><caption>{kind}</caption><tbody>{''.join(rows)}</tbody></table>"


def labelled(facts: dict[str, Any]) -> dict[str, str]:
    """Label and text of every line of a summary."""
    world = facts["world"]
    maps = (
        "none: the network has no world"
        if world is None
        else (
            f"{world['n_maps']} trained and {world['n_maps']} novel, {size_of(world)} places, "
            f"{world['n_letters']} letters (seed {world['seed']})"
        )
    )
    size = (
        f"{facts['layers']} layers of width {facts['width']}, {facts['heads']} heads, "
        f"{facts['units']} feed-forward units each; {facts['parameters']:,} parameters"
    )
    return {
        "name": facts["name"] or "(not loaded)",
        "activation": activation(facts),
        "size": size,
        "maps": maps,
        **{spaced(key): f"{value:.4g}" for key, value in facts["results"].items()},
        "recipe": facts["recipe"] or "none",
        **({"changed": "since it was loaded; no stored results"} if facts["changed"] else {}),
    }


def size_of(world: dict[str, Any]) -> str:
    """Rows and columns of a world."""
    return " × ".join(str(n) for n in world.get("shape") or [world["side"]] * 2)


def activation(facts: dict[str, Any]) -> str:
    """Name of the activation, with α and the corresponding concentration."""
    if facts["alpha"] is None:
        return str(facts["activation"])
    return f"NMDA_α, α = {facts['alpha']:g} ([Mg²⁺] = {facts['mg_mM']:.3g} mM)"


def spaced(key: str) -> str:
    """Name of a result with spaces instead of underscores."""
    return key.replace("_", " ")
