"""Training in one pass over walks that never repeat, resumable to the bit."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from placeformer.memory import attended_window, memory_errors, visited
from placeformer.model import NavigationTransformer, State
from placeformer.recipe import Recipe, at
from placeformer.world import GridWorld, Walker

CHECKPOINT, HISTORY = "checkpoint.pt", "history.csv"


class Trainer:
    """A training run that can stop at any step and go on from there.

    Parameters
    ----------
    recipe
        What to train.
    device
        "cpu", "cuda", …
    """

    def __init__(self, recipe: Recipe, device: str = "cpu") -> None:
        self.recipe, self.config, self.device = recipe, recipe.training, torch.device(device)
        self.world = GridWorld(**recipe.world)
        if self.config.maps[-1][1] > self.world.n_maps:
            raise ValueError(
                f"training.maps must stay within world.n_maps = {self.world.n_maps}, "
                f"got {self.config.maps}"
            )
        torch.manual_seed(recipe.seed)
        self.rng = np.random.default_rng([recipe.seed, 3])
        self.model = NavigationTransformer(recipe.network, self.world)
        self.model.init_weights(recipe.seed).to(self.device).train()
        self.optimizer = self.make_optimizer()
        self.forward = self.model.forward_chunk
        if self.config.compile:
            self.forward = torch.compile(self.forward, dynamic=False)
        self.step, self.seconds = 0, 0.0
        self.age = 0  # chunks walked since the walks started
        self.history: list[dict[str, float]] = []
        self.walker: Walker
        self.state: State
        self.fresh: np.ndarray  # letters of the fresh maps, (walk, place)
        self.trail: np.ndarray  # last places, (walk, ≤ memory + chunk + 1)
        self.recent: list[tuple[float, np.ndarray]] = []  # loss, counts since the last row

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW; weight decay on matrices only."""
        weights = list(self.model.parameters())
        groups = [
            {
                "params": [w for w in weights if w.ndim > 1],
                "weight_decay": self.config.weight_decay,
            },
            {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=self.config.betas, fused=True)

    def start_walks(self) -> None:
        """Put new walks on the maps in use."""
        maps = range(at(self.config.maps, self.step))
        self.walker = self.world.walker(self.config.walks, self.rng, maps=maps)
        seed = int(self.rng.integers(2**62))
        self.state = self.model.initial_state(self.config.walks, seed=seed)
        self.trail = self.walker.place[:, None]
        self.age = 0
        n_fresh = round(at(self.config.fresh_maps, self.step) * self.config.walks)
        shape = (n_fresh, self.world.side**2)
        self.fresh = self.rng.integers(self.world.n_letters, size=shape, dtype=np.uint8)

    def letters(self, place: np.ndarray) -> np.ndarray:
        """Letters at places (walk, time); the first walks are on fresh maps."""
        maps = self.world.maps[self.walker.map]
        maps[: len(self.fresh)] = self.fresh
        return np.take_along_axis(maps, place, 1).astype(np.int64)

    def train_step(self) -> None:
        """One chunk of every walk, one optimiser step."""
        if self.step == 0 or self.age >= at(self.config.chunks_per_walk, self.step):
            self.start_walks()
        self.age += 1
        place, action = self.walker.advance(self.recipe.network.chunk)
        letters = self.letters(place)
        seen, target = (self.tensor(x) for x in (letters[:, :-1], letters[:, 1:]))
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        ):
            logits, self.state = self.forward(self.tensor(action), seen, self.state)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten())
        self.optimize(loss)
        self.count(place, (logits.argmax(-1) != target).cpu().numpy(), loss.item())
        self.step += 1

    def optimize(self, loss: torch.Tensor) -> None:
        """Clip and follow the gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """Copy integers to the device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def count(self, place: np.ndarray, wrong: np.ndarray, loss: float) -> None:
        """Keep the errors of the step just taken on trained maps (its walks were new)."""
        config, steps = self.recipe.network, place.shape[1] - 1
        self.trail = np.concatenate([self.trail, place[:, 1:]], axis=1)
        window = attended_window(self.age * steps, config.chunk, config.memory)
        seen = visited(self.trail, window[-(self.trail.shape[1] - 1) :])[:, -steps:]
        self.trail = self.trail[:, -(config.memory + 1) :]
        seen, wrong = seen[len(self.fresh) :], wrong[len(self.fresh) :]
        counts = [seen.sum(), (seen & wrong).sum(), (~seen).sum(), (~seen & wrong).sum()]
        self.recent.append((loss, np.array(counts)))

    def running(self, n_steps: int = 50) -> str:
        """Loss and errors of the last steps, for the progress bar."""
        losses, counts = zip(*self.recent[-n_steps:], strict=True) if self.recent else ((0,), (0,))
        seen, seen_wrong, unseen, unseen_wrong = np.sum(counts, axis=0) * np.ones(4)
        return (
            f"loss {np.mean(losses):.3f}, working error {seen_wrong / max(1, seen):.3f}, "
            f"reference error {unseen_wrong / max(1, unseen):.3f}, "
            f"{at(self.config.maps, max(0, self.step - 1))} maps"
        )

    def evaluate(self, n_walks: int = 64, n_steps: int = 256) -> dict[str, float]:
        """One row of history: errors while training, and in eval mode on maps in use and novel."""
        losses, counts = zip(*self.recent, strict=True)
        seen, seen_wrong, unseen, unseen_wrong = np.sum(counts, axis=0)
        row = {
            "step": self.step,
            "predictions": self.step * self.config.walks * self.recipe.network.chunk,
            "seconds": round(self.seconds, 1),
            "n_maps": at(self.config.maps, self.step - 1),
            "learning_rate": self.config.rate(self.step - 1),
            "loss": float(np.mean(losses)),
            "working_error_running": seen_wrong / max(1, seen),
            "reference_error_running": unseen_wrong / max(1, unseen),
        }
        self.recent = []
        for kind, familiar in (("trained", True), ("novel", False)):
            errors = memory_errors(
                self.model,
                n_walks=n_walks,
                n_steps=n_steps,
                familiar=familiar,
                seed=self.step,
                where="every_step",
            ).error
            row |= {f"{m}_error_{kind}": float(errors.sel(memory=m)) for m in errors.memory.values}
        return row

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "recipe": json.dumps(self.recipe.to_dict(), sort_keys=True),
            "step": self.step,
            "seconds": self.seconds,
            "age": self.age,
            "history": json.dumps(self.history),
            "recent": json.dumps([(loss, c.tolist()) for loss, c in self.recent]),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state),
            "torch_rng": torch.get_rng_state(),
            "place": torch.from_numpy(self.walker.place),
            "map": torch.from_numpy(self.walker.map),
            "fresh": torch.from_numpy(self.fresh),
            "trail": torch.from_numpy(self.trail.copy()),
            "path": self.state.path,
            "memory": list(self.state.memory),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` stopped; a checkpoint of another recipe is refused."""
        ours = json.dumps(self.recipe.to_dict(), sort_keys=True)
        if saved["recipe"] != ours:
            theirs = json.loads(saved["recipe"])
            differ = [k for k, v in json.loads(ours).items() if theirs.get(k) != v]
            raise ValueError(
                f"the checkpoint was made with another recipe (differs in {', '.join(differ)}); "
                "choose another folder, or remove the checkpoint to start afresh"
            )
        self.step, self.seconds, self.age = (saved[k] for k in ("step", "seconds", "age"))
        self.history = json.loads(saved["history"])
        self.recent = [(loss, np.array(c)) for loss, c in json.loads(saved["recent"])]
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.rng.bit_generator.state = json.loads(saved["rng"])
        torch.set_rng_state(saved["torch_rng"])
        place, maps = saved["place"].numpy(), saved["map"].numpy()
        self.walker = Walker(self.world.side, place, maps, self.rng)
        self.fresh, self.trail = saved["fresh"].numpy(), saved["trail"].numpy()
        self.state = State(
            saved["path"].to(self.device), tuple(m.to(self.device) for m in saved["memory"])
        )


def replace_file(file: Path, write: Any) -> None:
    """Write to a temporary name, then rename: readers see the old file or the new one."""
    temporary = file.with_name(file.name + ".tmp")
    write(temporary)
    os.replace(temporary, file)


def write_history(file: Path, history: list[dict[str, float]]) -> None:
    """Write the rows of a history as CSV."""
    with open(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(history[0]) if history else [])
        writer.writeheader()
        writer.writerows(history)


def train(
    recipe: Recipe | str | Path,
    folder: str | Path,
    *,
    device: str = "cpu",
    stop_at: int | None = None,
    progress: bool = True,
    report: Callable[[Trainer], None] | None = None,
) -> Trainer:
    """Train a network, or go on with a run that was stopped.

    Parameters
    ----------
    recipe
        A :class:`Recipe` or the path of its TOML file.
    folder
        Where the checkpoint and ``history.csv`` are kept; a run found there is resumed.
    device
        "cpu", "cuda", …
    stop_at
        Stop at this step (checkpointed) instead of at the recipe's last.
    progress
        Show a progress bar: steps/s, loss, working and reference error.
    report
        Called with the trainer after every step.

    Returns
    -------
    Trainer
        With the trained `model` in eval mode, and its `history`.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trainer, checkpoint = Trainer(recipe, device), folder / CHECKPOINT
    if checkpoint.exists():
        trainer.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    last = min(recipe.training.steps, stop_at or recipe.training.steps)
    with tqdm(total=last, initial=trainer.step, desc=recipe.name, disable=not progress) as bar:
        while trainer.step < last:
            run_one(trainer, folder, bar, last)
            if report is not None:
                report(trainer)
    trainer.model.eval()
    return trainer


def run_one(trainer: Trainer, folder: Path, bar: tqdm, last: int) -> None:
    """One step, with the evaluation and the checkpoint that are due after it."""
    config, begin = trainer.config, time.perf_counter()
    trainer.train_step()
    if trainer.step % config.evaluate_every == 0 or trainer.step == config.steps:
        trainer.history.append(trainer.evaluate())
        replace_file(folder / HISTORY, lambda f: write_history(f, trainer.history))
    trainer.seconds += time.perf_counter() - begin
    if trainer.step % config.checkpoint_every == 0 or trainer.step == last:
        replace_file(folder / CHECKPOINT, lambda f: torch.save(trainer.state_dict(), f))
    bar.update()
    bar.set_postfix_str(trainer.running(), refresh=False)
