"""What one training step learns from, for one network or for many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from placeformer.models.grid_world import advance

if TYPE_CHECKING:
    from placeformer.training.trainer import Trainer

Recent = list[tuple[Tensor, Tensor]]
"""Loss and counts of training steps, on the device: nothing waits for it until they are read."""


class Batch(NamedTuple):
    """One chunk of every walk of every network, on the device."""

    action: Tensor  # (member, walk, time)
    seen: Tensor  # (member, walk, time), the letters before the actions
    target: Tensor  # (member, walk, time), the letters after them
    again: Tensor  # (member, walk, time), was the place moved to among those of the window


def next_batch(members: Sequence[Trainer]) -> Batch:
    """Walk on with all networks, each by its own generator on its own maps."""
    network, device = members[0].recipe.network, members[0].device
    for member in members:
        member.begin_chunk()
    place, action = advance([m.walker for m in members], network.chunk)
    letters = np.stack([m.letters(p) for m, p in zip(members, place, strict=True)])
    trail = np.concatenate([np.stack([m.trail for m in members]), place[:, :, 1:]], axis=2)
    for member, places in zip(members, trail, strict=True):
        member.trail = places[:, -(network.memory + 1) :]
    seen = to_device(letters, device)
    again = remembered(to_device(trail.astype(np.int32), device), network.chunk)
    return Batch(to_device(action.astype(np.uint8), device), seen[..., :-1], seen[..., 1:], again)


def to_device(values: NDArray[np.integer], device: torch.device) -> Tensor:
    """Copy to the device, without waiting for it to come to that."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def remembered(trail: Tensor, steps: int) -> Tensor:
    """Tell for the last `steps` places whether they occur before in their trail.

    The trail, (…, ≤ memory + steps + 1), is what the network can attend to: see
    :func:`placeformer.models.memory.visited`, which takes whole walks.
    """
    n_before = trail.shape[-1] - 1
    before = torch.ones(steps, n_before, dtype=torch.bool, device=trail.device)
    same = trail[..., -steps:, None] == trail[..., None, :-1]
    return (same & before.tril(n_before - steps)).any(-1)


def judge(batch: Batch, logits: Tensor, n_fresh: int) -> tuple[Tensor, Tensor]:
    """Loss of every network, (member,), and its counts on trained maps, (member, 4).

    The counts are predictions of places seen before, wrong ones among them, predictions of other
    places, and wrong ones among these. The first `n_fresh` walks are on maps never met again.
    """
    target, exact = batch.target.long(), torch.promote_types(logits.dtype, torch.float32)
    loss = F.cross_entropy(logits.flatten(0, 2).to(exact), target.flatten(), reduction="none")
    wrong, again = (x[:, n_fresh:] for x in (logits.argmax(-1) != target, batch.again))
    counts = torch.stack([again, again & wrong, ~again, ~again & wrong], 1).sum((2, 3))
    return loss.view(target.shape).mean((1, 2)), counts


def totals(recent: Recent) -> NDArray[np.float64]:
    """Mean loss and summed counts of some steps, (…, 5); zeros for none."""
    if not recent:
        return np.zeros(5)
    loss, counts = (torch.stack(values) for values in zip(*recent, strict=True))
    both = torch.cat([loss.mean(0)[..., None], counts.sum(0)], -1)
    return both.cpu().numpy().astype(np.float64)


def describe(recent: Recent, n_maps: int, n_steps: int = 50) -> str:
    """Put the last steps of all networks into words, for a progress bar."""
    loss, seen, seen_wrong, unseen, unseen_wrong = totals(recent[-n_steps:]).reshape(-1, 5).T
    return (
        f"loss {loss.mean():.3f}, working error {seen_wrong.sum() / max(1, seen.sum()):.3f}, "
        f"reference error {unseen_wrong.sum() / max(1, unseen.sum()):.3f}, {n_maps} maps"
    )
