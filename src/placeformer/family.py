"""Families: recipes that differ in activation, α and seed alone, as one TOML file."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from placeformer.model import ModelConfig
from placeformer.recipe import Recipe, expect

SHARED = [f.name for f in fields(ModelConfig) if f.name not in ("activation", "alpha")]
LISTS: dict[str, tuple[str, tuple[type, ...]]] = {
    "alphas": ("numbers", (int, float)),
    "activations": ("names", (str,)),
    "seeds": ("whole numbers", (int,)),
}


def read_recipes(file: str | Path) -> dict[str, str]:
    """Read the recipes in a TOML file: the one it is, or one for each member of its family.

    Parameters
    ----------
    file
        A recipe, or a family: see :func:`members`.

    Returns
    -------
    dict
        Name → text of its recipe as a TOML file.
    """
    text = Path(file).read_text(encoding="utf-8")
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} must be TOML: {error}") from error
    if "family" not in entries:
        return {Recipe.from_dict(entries, str(file)).name: text}
    about = f"# A member of the family {Path(file).name}.\n"
    return {member.name: about + member.to_toml() for member in members(entries, str(file))}


def members(entries: Mapping[str, Any], source: str = "family") -> list[Recipe]:
    """Expand a family into its recipes.

    Parameters
    ----------
    entries
        The tables ``world``, ``network`` and ``training`` of a recipe without what the members
        differ in (``name``, ``seed``, ``world.seed``, ``network.activation``, ``network.alpha``),
        and the table ``family``: ``prefix`` of their names, and the lists ``alphas`` of NMDA_α,
        ``activations`` in its place, and ``seeds``.
    source
        Where the entries are from, for errors.

    Returns
    -------
    list of Recipe
        Seed by seed, each in the order of the lists. A seed is that of the initial weights, the
        walks and the maps alike; "-s1" follows the name of all but seed 0.
    """
    expect(entries, ("family", "world", "network", "training"), source)
    expect(entries["family"], ("prefix", *LISTS), f"{source} [family]")
    check_lists(entries["family"], source)
    expect(entries["world"], ("side", "n_letters", "n_maps"), f"{source} [world]")
    expect(entries["network"], SHARED, f"{source} [network]")
    family = entries["family"]
    units: list[tuple[str, str, float | None]]
    units = [(f"nmda-a{alpha:g}", "nmda", float(alpha)) for alpha in family["alphas"]]
    units += [(activation, activation, None) for activation in family["activations"]]
    found = [
        Recipe.from_dict(
            {
                "name": f"{family['prefix']}{unit}" + (f"-s{seed}" if seed else ""),
                "seed": seed,
                "world": {**entries["world"], "seed": seed},
                "network": {**entries["network"], "activation": activation, "alpha": alpha},
                "training": entries["training"],
            },
            source,
        )
        for seed in family["seeds"]
        for unit, activation, alpha in units
    ]
    twice = [name for name, times in Counter(member.name for member in found).items() if times > 1]
    if twice or not found:
        raise ValueError(
            f"{source} [family] must name one member or more, each once, "
            f"got {', '.join(twice) + ' more than once' if twice else 'none'}"
        )
    return found


def check_lists(family: Mapping[str, Any], source: str) -> None:
    """Refuse a list that is none, or that holds something else."""
    for key, (what, kinds) in LISTS.items():
        value = family[key]
        if not isinstance(value, list) or any(type(item) not in kinds for item in value):
            raise ValueError(f"{source} [family]: {key} must be a list of {what}, got {value!r}")
