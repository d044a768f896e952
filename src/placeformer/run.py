"""A run: what is trained step by step, with its files, its progress bar and its end."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm.auto import tqdm

from placeformer.recipe import TrainingConfig

CHECKPOINT, HISTORY = "checkpoint.pt", "history.csv"


class Run(Protocol):
    """What :func:`proceed` takes: the training of one network or of an ensemble."""

    config: TrainingConfig
    seconds: float

    @property
    def step(self) -> int:
        """Steps taken."""

    def train_step(self) -> None:
        """Take one optimiser step."""

    def evaluate(self) -> None:
        """Add to the history what the run has reached."""

    def running(self) -> str:
        """Describe the last steps for the progress bar."""

    def save_history(self, folder: Path) -> None:
        """Write the history."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on."""

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` stopped."""


def proceed(
    run: Run,
    folder: Path,
    name: str,
    *,
    stop_at: int | None = None,
    minutes: float | None = None,
    progress: bool = True,
    report: Callable[[], object] | None = None,
) -> None:
    """Go on with a run from the checkpoint in `folder`, if there is one; see ``training.train``."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        run.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    last = min(run.config.steps, stop_at or run.config.steps)
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    done = run.step >= last
    with tqdm(total=last, initial=run.step, desc=name, mininterval=1, disable=not progress) as bar:
        while not done:
            take_step(run, folder)
            done = run.step == last or time.monotonic() >= end
            if done or run.step % run.config.checkpoint_every == 0:
                replace_file(checkpoint, lambda file: torch.save(run.state_dict(), file))
            if bar.update():
                bar.set_postfix_str(run.running())
            if report is not None:
                report()


def take_step(run: Run, folder: Path) -> None:
    """One step, with the evaluation that is due after it."""
    config, begin = run.config, time.perf_counter()
    run.train_step()
    if run.step % config.evaluate_every == 0 or run.step == config.steps:
        run.evaluate()
        run.save_history(folder)
    run.seconds += time.perf_counter() - begin


def replace_file(file: Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary name, then rename: readers see the old file or the new one."""
    temporary = file.with_name(file.name + ".tmp")
    write(temporary)
    os.replace(temporary, file)


def write_history(file: Path, history: list[dict[str, float]]) -> None:
    """Write the rows of a history as CSV."""

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(history[0]) if history else [])
            writer.writeheader()
            writer.writerows(history)

    replace_file(file, write)
