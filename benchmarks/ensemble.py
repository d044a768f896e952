"""Networks trained as one ensemble or one after the other, at equal numbers of steps.

On a GPU the ensemble's steps are replayed as CUDA graphs, and are also measured without them. The
script prints the milliseconds per step of all networks, and the ratio. Walks have 4 chunks, so that
every kind of step is captured before timing starts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _timing import seconds

from placeformer.training.ensemble import Ensemble
from placeformer.training.recipe import Recipe, read_recipes
from placeformer.training.sweep import parse
from placeformer.training.trainer import Trainer

FAMILY = Path(__file__).parents[1] / "zoo" / "families" / "mini.toml"
WARM = 16


def shortened(recipe: Recipe) -> Recipe:
    """Return the recipe with walks of four chunks."""
    return replace(recipe, training=replace(recipe.training, chunks_per_walk=((0, 4),)))


def steps(runs: Sequence[Trainer | Ensemble], n: int) -> None:
    """Take `n` steps with each run, and wait for the device."""
    for run in runs:
        for _ in range(n):
            run.train_step()
    if runs[0].device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", type=Path, default=FAMILY)
    parser.add_argument("--networks", type=int, default=8, help="of the family (default: 8)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20, help="timed (default: 20)")
    options = parser.parse_args()
    texts = list(read_recipes(options.family).values())[: options.networks]
    recipes = [shortened(parse(text)) for text in texts]
    ways: dict[str, Sequence[Trainer | Ensemble]] = {
        "one by one": [Trainer(recipe, options.device) for recipe in recipes],
        "ensemble": [Ensemble(recipes, options.device)],
    }
    if options.device != "cpu":
        plain = Ensemble(recipes, options.device)
        plain.descent = plain.descend
        ways["ensemble, no graphs"] = [plain]
    taken = {name: measure(partial(steps, runs), options.steps) for name, runs in ways.items()}
    print(f"{len(recipes)} networks of {options.family.name} on {options.device}")
    for name, each in taken.items():
        print(f"{name:20} {1e3 * each:8.2f} ms per step {each / taken['ensemble']:.2f} x ensemble")


def measure(run: Callable[[int], None], n: int) -> float:
    """Wall time per step of all networks."""
    run(WARM)
    return seconds(partial(run, n), time.perf_counter) / n


if __name__ == "__main__":
    main()
