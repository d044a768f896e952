"""Many lesions in one pass: the walks branch at the first lesioned layer, not before.

A lesion is a mask over units. Up to the hidden units of the first lesioned layer the network is the
same under every lesion, so that part runs once for a group of lesions. There a forward hook returns
the hidden units of all walks once per lesion, (lesion × walk, time, unit) with the walks of the
first lesion first, and the network continues with them as separate walks
(``transformer.branched``). The memory of later layers is branched beforehand, in the state at the
start of the walks. If only the last step of every chunk is counted, the query stream runs for that
step alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer.interventions.changes import Change
from placeformer.interventions.units import Site
from placeformer.models.memory import (
    attended_window,
    counted_steps,
    forward_chunks,
    places,
    untouched,
    visited,
)
from placeformer.models.ownership import in_use
from placeformer.models.transformer import NavigationTransformer, State

Masks = Mapping[str, NDArray[np.bool_]]
"""Lesions by layer, (lesion, unit)."""

WALKS = 16
"""Number of walks at once: few, so that many lesions share the part that runs once."""

ELEMENTS = 2**23
"""Number of hidden activations at once (32 MiB)."""


def count_errors(
    model: NavigationTransformer,
    walk: xr.Dataset,
    *,
    seed: int,
    where: str = "chunk_end",
    masks: Masks | None = None,
    replacements: Sequence[tuple[Site, Change]] | Callable[[slice], list[tuple[Site, Change]]] = (),
    bar: tqdm | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the wrong predictions of every walk under every lesion.

    Parameters
    ----------
    model, walk, seed
        The network, walks from :meth:`GridWorld.walk`, and the random seed of e₀.
    where
        Which predictions are counted, as in :func:`memory_errors`.
    masks
        Masks (lesion, unit) of feed-forward layers, all with the same number of lesions; by
        default a single lesion of no units.
    replacements
        Changes of these layers, from ``lesions.replacements``; or a function that gives those of a
        range of the lesions, if every lesion has its own dose.
    bar
        Progress bar that counts steps × lesions.

    Returns
    -------
    wrong : (lesion, walk, 2)
        Number of wrong predictions of working and of reference memory.
    n : (walk, 2)
        Number of all predictions of each memory.
    """
    config, n_steps = model.config, walk.sizes["time"]
    counted = counted_steps(n_steps, config, where)
    seen = visited(places(walk), attended_window(n_steps, config.chunk, config.memory))
    memory = np.stack([seen & counted, ~seen & counted], -1)  # (walk, time, memory)
    masks = masks or {"ffn.0": np.zeros((1, config.d_inner), bool)}
    n_lesions = len(next(iter(masks.values())))
    wrong = np.zeros((n_lesions, walk.sizes["walk"], 2), np.int64)
    size = group_size(model, masks, where)
    with in_use(model), untouched(model), last_steps(model, where):
        for first in range(0, n_lesions, size):
            group = slice(first, min(first + size, n_lesions))
            part = {layer: torch.from_numpy(mask[group]) for layer, mask in masks.items()}
            fill = replacements(group) if callable(replacements) else replacements
            with branching(model, part, fill) as start:
                for w, t, letters in predicted_letters(model, walk, seed, start):
                    steps = slice(t.stop - letters.shape[2], t.stop)
                    wrong_letters = letters != walk.target.values[w, steps]
                    wrong[group, w] += (wrong_letters[..., None] & memory[w, steps]).sum(2)
                    if bar is not None:
                        bar.update((w.stop - w.start) * (t.stop - t.start) * len(letters))
    return wrong, memory.sum(1)


def group_size(model: NavigationTransformer, masks: Masks, where: str) -> int:
    """Number of lesions that run at once."""
    config, branch = model.config, first_layer(masks)
    single_step = where == "chunk_end" and branch == config.n_layers - 1
    steps = 1 if single_step else config.chunk
    return max(1, ELEMENTS // (WALKS * steps * config.d_inner))


def first_layer(masks: Iterable[str]) -> int:
    """Number of the first lesioned layer."""
    return min(int(layer.rpartition(".")[2]) for layer in masks)


def predicted_letters(
    model: NavigationTransformer, walk: xr.Dataset, seed: int, start: Callable[[State], State]
) -> Iterator[tuple[slice, slice, NDArray[np.int64]]]:
    """Yield the most likely letters (lesion, walk, time), part by part."""
    for w, t, logits in forward_chunks(model, walk, seed=seed, batch=WALKS, start=start):
        letters = logits.argmax(-1).unflatten(0, (-1, w.stop - w.start))
        yield w, t, letters.cpu().numpy()


@contextmanager
def last_steps(model: NavigationTransformer, where: str) -> Iterator[None]:
    """Run the query stream only for the last step of every chunk if no other step is counted."""
    if where != "chunk_end":
        yield
        return
    handle = model.position.register_forward_hook(lambda module, args, output: output[:, -1:])
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def branching(
    model: NavigationTransformer,
    masks: Mapping[str, Tensor],
    replacements: Sequence[tuple[Site, Change]],
) -> Iterator[Callable[[State], State]]:
    """Branch the walks, one branch per lesion; yields a function that prepares the initial state.

    Layers up to the first lesioned one have the same memory under every lesion; from the next layer
    on, memories differ between lesions.
    """
    first, n_lesions = first_layer(masks), len(next(iter(masks.values())))

    def start(state: State) -> State:
        memory = (
            past.expand(n_lesions, *past.shape).flatten(0, 1) if layer > first else past
            for layer, past in enumerate(state.memory)
        )
        return State(state.path, tuple(memory))

    with ExitStack() as stack:
        for site, replacement in replacements:
            hook = branch_hook(site, masks[site.layer], replacement, site.layer == f"ffn.{first}")
            stack.callback(site.module.register_forward_hook(hook).remove)
        yield start


def branch_hook(site: Site, masks: Tensor, change: Change, first: bool) -> Callable[..., Tensor]:
    """Return the hook that lesions every branch by its own mask (lesion, unit).

    At the `first` lesioned layer the walks have not branched yet: the masks create the branches.
    """

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        branches = output[None] if first else output.unflatten(0, (len(masks), -1))
        values = change(branches, (branches.shape[1], branches.shape[2]), masks.shape[1])
        lesioned = torch.where(masks.to(output.device)[:, None, None], values, branches)
        return lesioned.flatten(0, 1)

    return hook
