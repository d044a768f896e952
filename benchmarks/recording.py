"""Recording all feed-forward units compared with the plain forward pass, in one run.

The script prints positions per CPU second, which a busy machine disturbs less than wall time, and
the ratio to the plain pass (target: at most 1.1). Times are the minimum of interleaved repeats. The
network has the zoo's compact sizes and random weights; speed does not depend on the weights. The
script also measures the time that the kernel takes to allocate as much new memory as the float32
recording fills, including right after a plain pass: a virtual machine that returns idle memory to
its host takes ten times as long for this as for memory that has just been freed.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
from _timing import seconds

import placeformer as pf
from placeformer.models.memory import predictions

CONFIG = pf.load("nmda-a10").config


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    world = pf.GridWorld(11, 10, 16, seed=0)
    model = pf.NavigationTransformer(CONFIG, world).init_weights(0).eval()
    walks = world.walk(options.walks, options.steps, seed=0)
    positions = options.walks * options.steps
    units = CONFIG.n_layers * CONFIG.d_inner
    plain = partial(predictions, model, walks, seed=0)
    ways = {
        "plain forward pass": plain,
        "recording, float32": lambda: pf.record(model, walks, burn_in=0, progress=False),
        "recording, float16": lambda: pf.record(
            model, walks, burn_in=0, progress=False, dtype="float16"
        ),
        "plain forward pass, then new memory of its size": lambda: (
            plain(),
            np.empty((positions, units), "float32").fill(0),
        ),
    }
    turns = [[seconds(way) for way in ways.values()] for _ in range(options.repeats + 1)]
    least = [min(times) for times in zip(*turns[1:], strict=True)]
    print(f"{positions:,} positions, {units:,} units, {torch.get_num_threads()} threads")
    for name, time_of in zip(ways, least, strict=True):
        print(f"{name}: {positions / time_of:,.0f} positions/s, ratio {time_of / least[0]:.3f}")


if __name__ == "__main__":
    main()
