"""An ablation curve compared with the same lesions one after the other, in one run.

Prints the CPU seconds per lesion of both and their ratio, for each layer, and the seconds of a
whole curve (20 fractions, 10 repeats, both memories, trained and novel maps) and of its parts.
The network has the zoo's compact sizes and random weights, on which speed does not depend.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _timing import seconds

import placeformer as pf
from placeformer.interventions import ablation_curve as lesioncurve
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.lesions import replacements

CONFIG = pf.load("nmda-a10").config


@contextmanager
def timed(room: Any, name: str, spent: dict[str, float]) -> Iterator[None]:
    """Sum the CPU seconds spent in a function of the curve."""
    inner = getattr(room, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - begin

    with patch.object(room, name, outer):
        yield


def compare_with_loop(model: pf.NavigationTransformer, layer: str, n: int, walks: dict) -> None:
    """Time `n` lesions in one pass and, for a few of them, one after the other."""
    rng = np.random.default_rng(0)
    masks = rng.random((n, CONFIG.d_inner)) < 0.5
    size = {"n_walks": 8, "n_steps": 64, "maps": range(2), "progress": False}
    reference = [pf.record(model, layers=s + layer, **size) for s in ("", "content.")]
    fill = replacements(model, [layer], "mean", reference=reference)
    walk = model.world.walk(**walks)

    def loop() -> None:
        for mask in masks[:3]:
            with pf.ablate(model, {layer: mask}, reference=reference):
                pf.memory_errors(model, **walks)

    fast = seconds(
        lambda: count_errors(model, walk, seed=0, masks={layer: masks}, replacements=fill)
    )
    slow = seconds(loop) / 3
    print(f"{layer}: {fast / n:.3f} s per lesion in one pass, {slow:.3f} s one after the other")
    print(f"{layer}: one after the other / one pass: {slow * n / fast:.1f}")


def whole_curve(model: pf.NavigationTransformer, layer: str, n_walks: int) -> None:
    """Time a curve and its parts."""
    spent: dict[str, float] = {}
    parts = [(lesioncurve, "reference_of"), (lesioncurve, "draw_plan")]
    parts += [(lesioncurve, "count_errors"), (lesioncurve, "compare")]
    fractions = np.linspace(0.05, 1, 20)
    with ExitStack() as stack:
        for room, name in parts:
            stack.enter_context(timed(room, name, spent))
        begin = time.perf_counter()
        options = {"fractions": fractions, "repeats": 10, "n_walks": n_walks, "progress": False}
        whole = seconds(lambda: pf.ablation_curve(model, layers=layer, **options))
        wall = time.perf_counter() - begin
    print(f"{layer}: curve {whole:.1f} s of CPU time, {wall:.1f} s of wall time")
    for name, value in spent.items():
        print(f"{layer}:   {name} {value:.1f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lesions", type=int, default=64)
    parser.add_argument("--walks", type=int, default=16)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--curve-walks", type=int, default=64)
    parser.add_argument("--layers", nargs="+", default=["ffn.0", "ffn.1"])
    options = parser.parse_args()
    model = (
        pf.NavigationTransformer(CONFIG, pf.GridWorld(11, 10, 16, seed=0)).init_weights(0).eval()
    )
    print(f"{options.walks} walks of {options.steps} steps, {torch.get_num_threads()} threads")
    walks = {"n_walks": options.walks, "n_steps": options.steps, "seed": 0}
    for layer in options.layers:
        compare_with_loop(model, layer, options.lesions, walks)
        if options.curve_walks:
            whole_curve(model, layer, options.curve_walks)


if __name__ == "__main__":
    main()
