"""What a network is, at a glance: as a mapping, as text and as HTML."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from placeformer.models.activation import alpha_to_mg

if TYPE_CHECKING:
    from placeformer.models.transformer import NavigationTransformer

RECIPE = "recipe.toml"


class Glance:
    """``repr`` of a network, short, and its table in a notebook.

    ``torch.nn.Module.__repr__(model)`` lists its modules, as that of any other module does.
    """

    def __repr__(self) -> str:
        said = lines(summary(cast("NavigationTransformer", self)))
        return "\n".join(
            [f"{type(self).__name__} {said.pop('name')}", *(f"  {k}: {v}" for k, v in said.items())]
        )

    def _repr_html_(self) -> str:
        said = summary(cast("NavigationTransformer", self))
        meanings = {words(key): text for key, text in said["definitions"].items()}
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(label)}</th><td style="text-align:left">'
            f"{escape(text)}{small(meanings.get(label))}</td></tr>"
            for label, text in lines(said).items()
        )
        return f"<table><caption>{type(self).__name__}</caption><tbody>{rows}</tbody></table>"


def summary(model: NavigationTransformer) -> dict[str, Any]:
    """Everything that is said of a network, as JSON can hold it.

    Returns
    -------
    dict
        `name`, `activation`, `alpha` and `mg_mM` (None for other activations), `parameters`,
        `layers`, `width`, `heads`, `units` (feed-forward, a layer), `world` (side, letters, maps
        and seed; None without), `results` (name → number) with their `definitions`, `recipe` (path;
        None without), `source` and `sha256` (None for a network that was not loaded).
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


def lines(said: dict[str, Any]) -> dict[str, str]:
    """Label and text of what is said of a network."""
    world = said["world"]
    maps = "none: only the network matters" if world is None else (
        f"{world['n_maps']} trained and {world['n_maps']} novel, {world['side']} × {world['side']} "
        f"places, {world['n_letters']} letters (seed {world['seed']})"
    )  # fmt: skip
    size = (
        f"{said['layers']} layers of width {said['width']}, {said['heads']} heads, {said['units']} "
        f"feed-forward units each; {said['parameters']:,} parameters"
    )
    return {
        "name": said["name"] or "(not loaded)",
        "activation": activation(said),
        "size": size,
        "maps": maps,
        **{words(key): f"{value:.4g}" for key, value in said["results"].items()},
        "recipe": said["recipe"] or "none",
    }


def activation(said: dict[str, Any]) -> str:
    """Name of the activation, with α and the concentration that it stands for."""
    if said["alpha"] is None:
        return str(said["activation"])
    return f"NMDA_α, α = {said['alpha']:g} ([Mg²⁺] = {said['mg_mM']:.3g} mM)"


def words(key: str) -> str:
    """Words for the name of a result."""
    return key.replace("_", " ")


def small(text: str | None) -> str:
    """Mark up what a number means."""
    return f"<br><small>{escape(text)}</small>" if text else ""
