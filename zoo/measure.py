"""Measure networks of the zoo again, as they are stored, and rewrite their results.

``python zoo/measure.py --cache FOLDER`` measures every network in zoo/models that has no result in
FOLDER yet, so that it can be stopped and started again. With ``--write`` the results, the card and
the checksums of the measured networks are then rewritten and pinned; weights, recipe, history and
curve are unchanged. Run it if the numbers on cards, or the way they are measured, have changed.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pin
import torch
import xarray as xr

from placeformer._atomic import atomic_file
from placeformer.training import model_card as card
from placeformer.training.recipe import Recipe
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import CONFIG
from placeformer.zoo.files import CARD, CURVE, RECIPE

MODELS = Path(__file__).resolve().parent / "models"
WALKS = re.compile(r"(\d+) walks of (\d+) steps, seed (\d+)$")
WALL = re.compile(r"Wall time ([\d.]+) h on (.*)\.\n")
"""The hours and the hardware of the training in the text of a card; no other file has them."""


def main() -> None:
    """Measure the networks without results, and write all results with ``--write``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="networks (default: all)")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the measurements")
    parser.add_argument("--write", action="store_true", help="rewrite cards, results and pins")
    options = parser.parse_args()
    torch.set_num_threads(1)
    there = sorted((file.parent.name for file in MODELS.glob(f"*/{CONFIG}")), key=zoo.natural)
    names = options.names or there
    if unknown := sorted(set(names) - set(there)):
        parser.error(f"no such networks in {MODELS}: {', '.join(unknown)}")
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (options.cache / f"{name}.json").exists():
            measure(MODELS / name, options.cache)
            print(name, flush=True)
    if options.write:
        for name in names:
            write(MODELS / name, options.cache)
        pin.pin()


def measure(folder: Path, cache: Path) -> None:
    """Measure one network on the walks that its stored results name."""
    model, results = hub.read(folder), hub.read_description(folder).results
    found = WALKS.search(results["working_error_trained"]["definition"])
    if found is None:
        raise ValueError(f"{folder}: its results do not say on which walks they were measured")
    n_walks, n_steps, seed = map(int, found.groups())
    errors = card.measure(model, n_walks=n_walks, n_steps=n_steps, seed=seed)
    values = {"errors": errors.to_dict(), "shares": card.place_shares(model)}
    with atomic_file(cache / f"{folder.name}.json") as file:
        file.write_text(json.dumps(values), encoding="utf-8")


def write(folder: Path, cache: Path) -> None:
    """Write the results, the card and the checksums of one network."""
    values = json.loads((cache / f"{folder.name}.json").read_text(encoding="utf-8"))
    errors, shares = xr.Dataset.from_dict(values["errors"]), values["shares"]
    model, old = hub.read(folder), (folder / CARD).read_text(encoding="utf-8")
    entries = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    entries["results"] = card.results(errors) | shares
    text = card.text(folder.name, model, errors, shares, run_of(folder, old))
    files = {
        CONFIG: json.dumps(entries, indent=2, ensure_ascii=False) + "\n",
        CARD: text,
    }
    for name, content in files.items():
        with atomic_file(folder / name) as file:
            file.write_text(content, encoding="utf-8")
    hub.write_sums(folder)


def run_of(folder: Path, text: str) -> Any:
    """The facts that a card states about a training, from the recipe and the earlier card."""
    recipe, wall = Recipe.read(folder / RECIPE), WALL.search(text)
    if wall is None:
        raise ValueError(f"{folder / CARD}: it does not say how long the training took")
    return SimpleNamespace(
        config=recipe.training,
        recipe=recipe,
        step=recipe.training.steps,
        seconds=float(wall[1]) * 3600,
        hardware=wall[2],
        history=(folder / CURVE).exists(),
    )


if __name__ == "__main__":
    main()
