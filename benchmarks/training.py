"""AdamW against Muon: predictions and CPU time until reference memory is learnt.

The same network is trained by the same recipe with each optimizer, until its reference error on all
trained maps is at most the target, or to the end of the recipe. Evaluations are not timed. For the
paper's grid: ``--family zoo/families/nmda32.toml --member nmda-a10``, which takes hours.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import _results
import numpy as np
import torch
from _timing import seconds

from placeformer.training.recipe import Recipe, read_recipes
from placeformer.training.sweep import parse
from placeformer.training.trainer import Trainer

FAMILY = Path(__file__).parents[1] / "zoo" / "families" / "mini.toml"
MEMBER = "mini-nmda-a10"
DEFAULT = ("attention.out", "ffn.fc1", "ffn.fc2")
WAYS = {
    "AdamW": {"optimizer": "adamw", "muon_matrices": DEFAULT},
    "Muon on feed-forward and output": {"optimizer": "muon", "muon_matrices": DEFAULT},
    "Muon on all hidden matrices": {
        "optimizer": "muon",
        "muon_matrices": ("attention.qkv", *DEFAULT),
    },
}
COLUMNS = (
    "optimizer", "reached", "steps", "predictions", "CPU seconds", "reference", "working",
    "working, novel",
)  # fmt: skip
ABOUT = (
    "The network {name}, trained until its reference error is at most {target:g}, or to the end of "
    "the recipe; CPU seconds without evaluations. Errors are on all trained maps and, in the last "
    "column, on novel ones, at every step of 64 walks of 256 steps. They include the first steps "
    "of a walk, at which no network can know the map, and are therefore larger than the errors of "
    "the zoo, which are measured at the ends of chunks."
)


def train_until(
    recipe: Recipe, target: float, every: int, most: int | None
) -> tuple[bool, Trainer, float]:
    """Train until the reference error on all trained maps is at most the target, or give up.

    Returns
    -------
    reached, trainer, cpu_s
        Whether it was reached, the trainer, and the processor time of the training steps.
    """
    trainer, cpu_s = Trainer(recipe), 0.0
    n_maps, last = recipe.training.maps[-1][1], min(recipe.training.steps, most or np.inf)
    while trainer.step < last:
        cpu_s += seconds(trainer.train_step)
        if trainer.step % every == 0 or trainer.step == last:
            trainer.evaluate()
            row = trainer.history[-1]
            if row["n_maps"] == n_maps and row["reference_error_trained"] <= target:
                return True, trainer, cpu_s
    return False, trainer, cpu_s


def main() -> None:
    """Train with each optimizer, and print the steps and the CPU time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", type=Path, default=FAMILY)
    parser.add_argument("--member", default=MEMBER, help=f"of the family (default: {MEMBER})")
    parser.add_argument("--target", type=float, default=0.15, help="reference error (default: .15)")
    parser.add_argument("--every", type=int, default=250, help="steps between evaluations")
    parser.add_argument("--steps", type=int, help="give up after this number of steps")
    _results.add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = parse(read_recipes(options.family)[options.member])
    rows = []
    print(f"{recipe.name}, reference error ≤ {options.target:g} on {recipe.world['n_maps']} maps")
    for name, way in WAYS.items():
        variant = replace(recipe, training=replace(recipe.training, snapshots=(), **way))
        reached, trainer, cpu_s = train_until(variant, options.target, options.every, options.steps)
        last = trainer.history[-1]
        rows.append(
            (
                name,
                "yes" if reached else "no",
                trainer.step,
                int(last["predictions"]),
                round(cpu_s, 1),
                round(last["reference_error_trained"], 4),
                round(last["working_error_trained"], 4),
                round(last["working_error_novel"], 4),
            )
        )
        print(
            f"{name:32} {'reached' if reached else 'not reached':12} {trainer.step:6} steps  "
            f"{last['predictions']:11,} predictions  {cpu_s:8.0f} CPU s  "
            f"reference {rows[-1][5]:.3f}, working {rows[-1][6]:.3f} (novel {rows[-1][7]:.3f})",
            flush=True,
        )
    if options.save:
        about = ABOUT.format(name=recipe.name, target=options.target)
        _results.save("training", COLUMNS, rows, about)


if __name__ == "__main__":
    main()
