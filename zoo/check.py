"""Check the zoo: recompute its numbers from the stored weights and compare them.

``python zoo/check.py`` measures each network in zoo/models again as described in its config.json,
which takes a few minutes per network on one CPU core; ``--sample`` measures a random sample.
For all networks it checks that the pins are up to date, that the recipe, training history and card
exist and belong to the network, and that all weights together are small enough to ship.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from tqdm.auto import tqdm

from placeformer.training import model_card as card
from placeformer.training.recipe import Recipe
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import CONFIG, WEIGHTS
from placeformer.zoo.files import CARD, HISTORY, RECIPE, SUMS

MODELS = Path(__file__).resolve().parent / "models"
LARGEST = 80_000_000  # bytes, for all weight files together, of which a clone holds every version
MEASURED = re.compile(r"(\d+) walks of (\d+) steps, seed (\d+)")


def check(
    models: Path = MODELS,
    pins: Path = zoo.PINS,
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 1,
    largest: int = LARGEST,
) -> list[str]:
    """Return the problems of the networks under `models`.

    Parameters
    ----------
    models, pins
        Folder of the networks, and file of their sha256.
    sample, seed
        Number of networks to measure, drawn at random with this seed; by default all.
    workers
        Number of processes that measure.
    largest
        Maximum size of all weight files together, in bytes.
    """
    names = sorted((f.parent.name for f in models.glob(f"*/{CONFIG}")), key=zoo.natural)
    n = len(names) if sample is None else min(sample, len(names))
    drawn = random.Random(seed).sample(names, n)
    problems = check_pins(models, pins) + check_size(models, largest)
    table = json.loads(pins.with_name(zoo.TABLE).read_text(encoding="utf-8"))
    for name in names:
        found = attempt(check_files, models / name)
        problems += found or attempt(partial(check_row, table), models / name)
    with each(workers) as run:
        measured = run(partial(attempt, recompute), [models / name for name in drawn])
        for new_problems in tqdm(measured, total=len(drawn), desc="measure", unit="network"):
            problems += new_problems
    return problems


def check_pins(models: Path, pins: Path) -> list[str]:
    """Check that the pins hold the sha256 of the list of checksums of every network."""
    pinned = json.loads(pins.read_text(encoding="utf-8"))
    in_files = {
        file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in models.glob(f"*/{SUMS}")
    }
    wrong = sorted(name for name in pinned | in_files if pinned.get(name) != in_files.get(name))
    return [f"{name}: {SUMS} is not as {pins.name} says" for name in wrong]


def check_size(models: Path, largest: int) -> list[str]:
    """Check the size of all weights together."""
    size = sum(file.stat().st_size for file in models.glob(f"*/{WEIGHTS}"))
    return [f"weights: {size} bytes together, more than {largest}"] if size > largest else []


def check_files(folder: Path) -> list[str]:
    """Check that the recipe, training history and card exist and belong to this network."""
    hub.read(folder)  # which compares every file with its checksum
    recipe, config = Recipe.read(folder / RECIPE), hub.read_description(folder)
    with open(folder / HISTORY, newline="", encoding="utf-8") as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]
    problems = []
    if (recipe.name, recipe.network, recipe.world) != (folder.name, config.network, config.world):
        problems.append(f"{RECIPE}: not the recipe of this network")
    if steps != sorted(set(steps)) or steps[-1:] != [recipe.training.steps]:
        problems.append(f"{HISTORY}: not the course of {recipe.training.steps} steps")
    metrics = ModelCard.load(folder / CARD).data.eval_results or []
    shown = {metric.metric_type: metric.metric_value for metric in metrics}
    if shown != {name: entry["value"] for name, entry in config.results.items()}:
        problems.append(f"{CARD}: its metrics are not those of {CONFIG}")
    return problems


def check_row(table: dict[str, Any], folder: Path) -> list[str]:
    """Check that the table of the package shows the figures of this network."""
    pin = hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
    right = table.get(folder.name) == zoo.table_row(folder, pin)
    return [] if right else [f"{zoo.TABLE}: not the figures of {CONFIG}; run python zoo/pin.py"]


def recompute(folder: Path) -> list[str]:
    """Measure a network as described in its configuration, and compare every number."""
    model, results = hub.read(folder), hub.read_description(folder).results
    errors = [entry["definition"] for key, entry in results.items() if "_error_" in key]
    protocols = {MEASURED.findall(definition)[-1] for definition in errors}
    if len(protocols) != 1:
        return [f"results: expected errors of one measurement, got {len(protocols)}"]
    ((n_walks, n_steps, seed),) = protocols
    torch.set_num_threads(1)
    measured = card.measure(model, n_walks=int(n_walks), n_steps=int(n_steps), seed=int(seed))
    recomputed = card.results(measured) | card.place_shares(model)
    return [
        f"results.{key}: recomputed {recomputed.get(key)}, stored {results.get(key)}"
        for key in [*recomputed, *(key for key in results if key not in recomputed)]
        if recomputed.get(key) != results.get(key)
    ]


def attempt(function: Any, folder: Path) -> list[str]:
    """Return the problems that a check finds; an exception counts as a problem."""
    try:
        return [f"{folder.name}: {problem}" for problem in function(folder)]
    except Exception as error:
        return [f"{folder.name}: {type(error).__name__}: {error}"]


@contextmanager
def each(workers: int) -> Iterator[Any]:
    """Yield a `map` that runs in `workers` processes, or in this one."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool.map


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the zoo and return the exit status."""
    parser = argparse.ArgumentParser(description="Recompute the figures of the zoo.")
    parser.add_argument("--sample", type=int, metavar="N", help="number of networks (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="default: one per core")
    options = parser.parse_args(arguments)
    problems = check(sample=options.sample, seed=options.seed, workers=options.workers)
    print(*problems, sep="\n", end="\n" if problems else "")
    if not problems:
        print("every recomputed number is as stored")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
