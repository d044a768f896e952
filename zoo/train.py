"""Train networks of a family one after another in this process, each from its checkpoint.

``python zoo/train.py zoo/families/nmda32.toml --out FOLDER nmda-a10 relu`` trains these members in
this order; without names it trains all, in the order of the file. A finished network is in
FOLDER/NAME, measured and with its card; its checkpoint is in FOLDER.training/NAME, as with
``placeformer sweep``. Networks that are finished, or that another process is training, are skipped,
so several of these processes can run at once. After a stop the same command resumes from the
checkpoints.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from placeformer.training import sweep
from placeformer.training.trainer import train

EVERY = 50  # steps between lines


def main() -> None:
    """Train the networks that are missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="TOML file of a recipe or a family")
    parser.add_argument("names", nargs="*", help="members to train, in this order (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the networks")
    parser.add_argument("--stop-at", type=int, help="stop every run at this step")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    recipes, target = sweep.gather([options.file]), options.out.resolve()
    names = options.names or list(recipes)
    if unknown := sorted(set(names) - set(recipes)):
        parser.error(f"no such networks in {options.file}: {', '.join(unknown)}")
    for name in names:
        place = sweep.checkpoints(name, target)
        place.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(place / "lock", timeout=0):
                if not sweep.is_published(recipes[name], target):
                    train_one(recipes[name], place, target, options.stop_at)
        except Timeout:
            print(f"{name}: another process is training it", flush=True)


def train_one(text: str, place: Path, target: Path, stop_at: int | None) -> None:
    """Train or resume a network, and publish it once it is finished."""

    def report(trainer) -> None:
        if trainer.step % EVERY == 0 and len(trainer.recent):
            print(f"{trainer.recipe.name}: step {trainer.step}, {trainer.running()}", flush=True)

    recipe = sweep.parse(text)
    trainer = train(recipe, place, stop_at=stop_at, progress=False, report=report)
    if trainer.step == recipe.training.steps:
        sweep.publish(trainer, text, target, progress=False)


if __name__ == "__main__":
    main()
