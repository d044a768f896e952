"""One pass per chunk compared with one run per prefix, at equal numbers of predictions.

The paper's public code takes an optimiser step for every prefix of a chunk and learns only from the
prediction at its end. Here both methods train the same network on the same walks; a run of a prefix
predicts at its last step only. The script prints predictions per CPU second and the ratio of times.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from _timing import seconds
from torch.nn import functional as F

from placeformer.training.optimizers import set_rate, start_descent
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import Trainer

RECIPES = Path(__file__).parents[1] / "zoo" / "recipes"


def prefix_steps(trainer: Trainer) -> None:
    """One chunk of every walk, one optimiser step for every prefix of it."""
    batch = trainer.loader.next_chunk(trainer.step)
    if trainer.loader.age == 1:
        trainer.start_walks()
    state = trainer.state
    for n in range(1, batch.action.shape[2] + 1):
        action, seen = batch.action[0, :, :n], batch.seen[0, :, :n]
        logits, trainer.state = trainer.model.forward_chunk(action, seen, state)
        loss = F.cross_entropy(logits[:, -1], batch.target[0, :, n - 1].long())
        set_rate(trainer.optimizers, trainer.config.rate(trainer.step))
        start_descent(trainer.optimizers, loss)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.config.clip)
        for optimizer in trainer.optimizers:
            optimizer.step()
    trainer.step += 1


def main() -> None:
    """Measure both alternately and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPES / "nmda-a10.toml")
    parser.add_argument("--walks", type=int, default=32, help="walks (default: 32)")
    parser.add_argument("--chunks", type=int, default=3, help="chunks each (default: 3)")
    options = parser.parse_args()
    recipe = Recipe.read(options.recipe)
    recipe = replace(recipe, training=replace(recipe.training, walks=options.walks))
    one_pass, prefixes = Trainer(recipe), Trainer(recipe)
    prefixes.model.position.register_forward_hook(lambda module, args, output: output[:, -1:])
    ways = (one_pass.train_step, lambda: prefix_steps(prefixes))
    turns = [[seconds(way) for way in ways] for _ in range(options.chunks + 1)]
    ours, theirs = (sum(times) for times in zip(*turns[1:], strict=True))  # the first warms up
    chunk, d_model = recipe.network.chunk, recipe.network.d_model
    n = options.chunks * options.walks * chunk
    print(
        f"{n:,} predictions each, {options.walks} walks, chunks of {chunk}, width {d_model}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"one pass per chunk: {ours:8.2f} CPU s  {n / ours:10,.0f} predictions / CPU s")
    print(f"one run per prefix: {theirs:8.2f} CPU s  {n / theirs:10,.0f} predictions / CPU s")
    print(f"prefixes / one pass: {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
