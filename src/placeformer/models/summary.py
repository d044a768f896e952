"""Summary of a network: as a mapping for JSON, as text and as HTML."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from placeformer.models.activation import alpha_to_mg

if TYPE_CHECKING:
    from placeformer.models.transformer import NavigationTransformer

RECIPE = "recipe.toml"


def summary(model: NavigationTransformer) -> dict[str, Any]:
    """Summary of a network as a JSON-serialisable dict.

    Returns
    -------
    dict
        `name`, `activation`, `alpha` and `mg_mM` (None for other activations), `parameters`,
        `layers`, `width`, `heads`, `units` (feed-forward units per layer), `world` (side, letters,
        maps and seed; None without a world), `results` (name → number) with their `definitions`,
        `recipe` (path; None without a recipe), `source` and `sha256` (None for a network that was
        not loaded).
    """
    config, world, info = model.config, model.world, model.info
    recipe = Path(info["folder"], RECIPE) if "folder" in info else None
    keys = ("side", "n_letters", "n_maps", "seed")
    return {
        "name": info.get("name"),
        "activation": config.activation,
        "alpha": config.alpha,
        "mg_mM": None if config.alpha is None else alpha_to_mg(config.alpha),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "layers": config.n_layers,
        "width": config.d_model,
        "heads": config.n_heads,
        "units": config.d_inner,
        "world": None if world is None else {key: int(getattr(world, key)) for key in keys},
        "results": dict(info.get("results", {})),
        "definitions": dict(info.get("definitions", {})),
        "recipe": str(recipe) if recipe and recipe.is_file() else None,
        "source": info.get("source"),
        "sha256": info.get("sha256"),
    }


def text(model: NavigationTransformer) -> str:
    """Summary as plain text: one line per fact."""
    rows = labelled(summary(model))
    title = f"{type(model).__name__} {rows.pop('name')}"
    return "\n".join([title, *(f"  {label}: {value}" for label, value in rows.items())])


def html(model: NavigationTransformer) -> str:
    """Summary as an HTML table, with the definition of every result."""
    facts = summary(model)
    definitions = {spaced(key): definition for key, definition in facts["definitions"].items()}
    rows = []
    for label, value in labelled(facts).items():
        note = f"<br><small>{escape(definitions[label])}</small>" if label in definitions else ""
        rows.append(
            f'<tr><th style="text-align:left">{escape(label)}</th>'
            f'<td style="text-align:left">{escape(value)}{note}</td></tr>'
        )
    return f"<table><caption>{type(model).__name__}</caption><tbody>{''.join(rows)}</tbody></table>"


def labelled(facts: dict[str, Any]) -> dict[str, str]:
    """Label and text of every line of a summary."""
    world = facts["world"]
    maps = "none: only the network matters" if world is None else (
        f"{world['n_maps']} trained and {world['n_maps']} novel, {world['side']} × {world['side']} "
        f"places, {world['n_letters']} letters (seed {world['seed']})"
    )  # fmt: skip
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
    }


def activation(facts: dict[str, Any]) -> str:
    """Name of the activation, with α and the corresponding concentration."""
    if facts["alpha"] is None:
        return str(facts["activation"])
    return f"NMDA_α, α = {facts['alpha']:g} ([Mg²⁺] = {facts['mg_mM']:.3g} mM)"


def spaced(key: str) -> str:
    """Name of a result with spaces instead of underscores."""
    return key.replace("_", " ")
