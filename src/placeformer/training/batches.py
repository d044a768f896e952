"""What one training step learns from, for one network or for many at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from placeformer.models.grid_world import GridWorld, Walker, advance
from placeformer.training.recipe import Recipe, at


class Batch(NamedTuple):
    """One chunk of every walk of every network, on the device."""

    action: Tensor  # (member, walk, time)
    seen: Tensor  # (member, walk, time), the letters before the actions
    target: Tensor  # (member, walk, time), the letters after the actions
    again: Tensor  # (member, walk, time), whether the place moved to is in the attended window


class WalkLoader:
    """The walks that a network is trained on, chunk by chunk, without end.

    Parameters
    ----------
    recipe
        How many walks, on how many maps, and when they start afresh.
    world
        The trained maps.
    device
        Where batches go.

    Attributes
    ----------
    walker
        Where the walks are.
    trail : (walk, ≤ memory + 1)
        Their last places.
    fresh : (walk, place)
        Letters of the maps that occur only once, on which the first walks run.
    age
        Chunks since the walks started.
    path_seed
        Seed of the path integrator's states at the start of the walks.
    """

    def __init__(
        self, recipe: Recipe, world: GridWorld, device: torch.device | None = None
    ) -> None:
        self.config, self.network, self.world = recipe.training, recipe.network, world
        self.device = device or torch.device("cpu")
        self.rng = np.random.default_rng([recipe.seed, 3])
        self.walker: Walker
        self.trail: NDArray[np.int64]
        self.fresh: NDArray[np.uint8]
        self.age = 0
        self.path_seed = 0

    def next_chunk(self, step: int) -> Batch:
        """Walk one chunk on, as the schedules say at this training step; one member."""
        return stack_batches([self], step)

    def begin_chunk(self, step: int) -> None:
        """Start new walks where the schedule says so."""
        if step == 0 or self.age >= at(self.config.chunks_per_walk, step):
            self.start_walks(step)
        self.age += 1

    def start_walks(self, step: int) -> None:
        """Put new walks on the maps in use."""
        earlier = self.config.earlier_maps
        maps = range(earlier, earlier + at(self.config.maps, step))
        self.walker = self.world.walker(self.config.walks, self.rng, maps=maps)
        self.path_seed = int(self.rng.integers(2**62))
        self.trail = self.walker.place[:, None]
        self.age = 0
        n_fresh = round(at(self.config.fresh_maps, step) * self.config.walks)
        shape = (n_fresh, self.world.n_places)
        self.fresh = self.rng.integers(self.world.n_letters, size=shape, dtype=np.uint8)
        if self.config.rehearsal:
            n_old = round(at(self.config.rehearsal, step) * self.config.walks)
            old = slice(self.config.walks - n_old, None)
            self.walker.map[old] = self.rng.integers(earlier, size=n_old)

    def letters(self, place: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Letters at places (walk, time); the first walks are on fresh maps."""
        maps = self.world.maps[self.walker.map]
        maps[: len(self.fresh)] = self.fresh
        return np.take_along_axis(maps, place, 1)

    def state_dict(self) -> dict[str, Any]:
        """All that the next chunk depends on."""
        return {
            "rng": json.dumps(self.rng.bit_generator.state),
            "age": self.age,
            "place": torch.from_numpy(self.walker.place),
            "map": torch.from_numpy(self.walker.map),
            "fresh": torch.from_numpy(self.fresh),
            "trail": torch.from_numpy(self.trail.copy()),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` stopped."""
        self.rng.bit_generator.state = json.loads(saved["rng"])
        place, maps = saved["place"].numpy(), saved["map"].numpy()
        self.walker = Walker(self.world.moves, place, maps, self.rng)
        self.age, self.fresh, self.trail = (
            saved["age"],
            saved["fresh"].numpy(),
            saved["trail"].numpy(),
        )


def stack_batches(loaders: Sequence[WalkLoader], step: int) -> Batch:
    """Walk one chunk on with all loaders, each by its own generator on its own maps."""
    network, device = loaders[0].network, loaders[0].device
    for loader in loaders:
        loader.begin_chunk(step)
    place, action = advance([loader.walker for loader in loaders], network.chunk)
    letters = np.stack([m.letters(p) for m, p in zip(loaders, place, strict=True)])
    trail = np.concatenate([np.stack([m.trail for m in loaders]), place[:, :, 1:]], axis=2)
    for loader, places in zip(loaders, trail, strict=True):
        loader.trail = places[:, -(network.memory + 1) :]
    seen = to_device(letters, device)
    again = remembered(to_device(trail.astype(np.int32), device), network.chunk)
    return Batch(to_device(action.astype(np.uint8), device), seen[..., :-1], seen[..., 1:], again)


def to_device(values: NDArray[np.integer], device: torch.device) -> Tensor:
    """Copy to the device, without waiting until it has done so."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def remembered(trail: Tensor, steps: int) -> Tensor:
    """Whether each of the last `steps` places occurs earlier in its trail.

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
    places, and wrong ones among these. The first `n_fresh` walks are on maps that occur only once.
    """
    target, exact = batch.target.long(), torch.promote_types(logits.dtype, torch.float32)
    loss = F.cross_entropy(logits.flatten(0, 2).to(exact), target.flatten(), reduction="none")
    wrong, again = (x[:, n_fresh:] for x in (logits.argmax(-1) != target, batch.again))
    counts = torch.stack([again, again & wrong, ~again, ~again & wrong], 1).sum((2, 3))
    return loss.view(target.shape).mean((1, 2)), counts


def share(wrong: float, n: float) -> float:
    """Fraction of wrong predictions; NaN if there are none."""
    return wrong / n if n else float("nan")


class RecentSteps:
    """Loss and counts of the steps since the last evaluation.

    They stay on the device, in memory that is taken once: nothing waits for them until they are
    read, and a run does not grow. Only the last `capacity` steps are known.

    Parameters
    ----------
    capacity
        Steps between evaluations.
    members
        ``()`` for one network, ``(n,)`` for an ensemble.
    """

    def __init__(self, capacity: int, device: torch.device, members: tuple[int, ...] = ()) -> None:
        self.loss = torch.zeros((capacity, *members), device=device)
        self.counts = torch.zeros((capacity, *members, 4), dtype=torch.int64, device=device)
        self.n = 0
        self.text = ""

    def __len__(self) -> int:
        return min(self.n, len(self.loss))

    def add(self, loss: Tensor, counts: Tensor) -> None:
        """Add a step; see :func:`judge`."""
        here = self.n % len(self.loss)
        self.loss[here], self.counts[here] = loss.detach(), counts
        self.n += 1

    def totals(self, n_steps: int | None = None) -> NDArray[np.float64]:
        """Mean loss and summed counts of the last steps (default: all), (…, 5); zeros for none."""
        n = min(len(self), n_steps or len(self))
        if not n:
            return np.zeros((*self.loss.shape[1:], 5))
        last = [step % len(self.loss) for step in range(self.n - n, self.n)]
        loss, counts = self.loss[last].mean(0), self.counts[last].sum(0)
        return torch.cat([loss[..., None], counts], -1).cpu().numpy().astype(np.float64)

    def describe(self, n_maps: int, n_steps: int = 50) -> str:
        """Put the last steps of all networks into words, for a progress bar.

        Directly after an evaluation there are none, and the words are those from before it.
        """
        if len(self):
            loss, seen, seen_wrong, unseen, unseen_wrong = self.totals(n_steps).reshape(-1, 5).T
            self.text = (
                f"loss {loss.mean():.3f}, "
                f"working error {share(seen_wrong.sum(), seen.sum()):.3f}, "
                f"reference error {share(unseen_wrong.sum(), unseen.sum()):.3f}, {n_maps} maps"
            )
        return self.text

    def state_dict(self) -> dict[str, Any]:
        """The whole memory as it is."""
        return {"n": self.n, "loss": self.loss.cpu(), "counts": self.counts.cpu()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` stopped."""
        self.n = saved["n"]
        self.loss.copy_(saved["loss"])
        self.counts.copy_(saved["counts"])
