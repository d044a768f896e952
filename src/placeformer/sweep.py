"""Sweeps: many recipes trained, measured and published side by side, as dask tasks."""

from __future__ import annotations

import csv
import os
import time
import tomllib
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from filelock import FileLock

from placeformer import card, hub, training
from placeformer.board import Board
from placeformer.cluster import connect
from placeformer.ensemble import train_ensemble
from placeformer.family import read_recipes
from placeformer.manifest import read_config
from placeformer.memory import KINDS, MEMORIES
from placeformer.recipe import Recipe

if TYPE_CHECKING:
    from distributed import Client

ERRORS = [f"{memory}_error_{kind}" for kind in KINDS for memory in MEMORIES]


def run_sweep(
    files: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Train what is missing among the networks of some recipes.

    A network appears in ``folder/NAME``, measured and with its card, or not at all; checkpoints are
    kept in ``folder.training/NAME``. A run that was stopped, or lost its worker, goes on from its
    checkpoint; one that fails does not stop the others.

    Parameters
    ----------
    files
        TOML files of recipes and families of recipes, see :func:`placeformer.family.read_recipes`.
    folder
        Where the networks go; every worker must be able to write there.
    workers
        Processes on this machine, one run each at a time; by default one for every core.
    scheduler
        Address of the scheduler of a running dask cluster, in place of these processes. Its workers
        must have one thread each (the random state of torch belongs to the process) and should be
        started with the environment variables ``MALLOC_TRIM_THRESHOLD_=1073741824`` and
        ``MALLOC_MMAP_THRESHOLD_=33554432``, without which a step takes more than twice as long.
    device
        "cpu", "cuda", …
    progress
        Show all runs: bars on a terminal, else lines.

    Returns
    -------
    pandas.DataFrame
        One row a network: `name`, `state` ("found", "trained", or "failed: " and why), `steps`,
        `seconds` of training, and the errors of working and reference memory on trained and novel
        maps, NaN where the run failed.

    Raises
    ------
    ValueError
        Before anything is trained, if two recipes have one name, or `folder` holds something else
        under the name of a recipe.
    ImportError
        If dask.distributed is not installed.
    """
    if workers is not None and (workers < 1 or scheduler is not None):
        raise ValueError(
            f"workers must be at least 1, and None with a scheduler, got {workers} "
            f"and scheduler {scheduler!r}"
        )
    target, recipes = Path(folder).resolve(), gather(files)
    states = {name: "found" for name, text in recipes.items() if is_published(text, target)}
    missing = {name: text for name, text in recipes.items() if name not in states}
    if missing:
        with connect(scheduler, workers, len(missing)) as client:
            steps = {name: parse(text).training.steps for name, text in missing.items()}
            with Board(steps, disable=not progress) as board:
                states |= follow(client, missing, target, device, board)
    return pd.DataFrame([outcome(name, states[name], target) for name in recipes])


def run_ensemble(
    files: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    device: str = "cpu",
    minutes: float | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train the networks of some recipes at once, in this process: best for one large GPU.

    Like :func:`run_sweep`, but the recipes share what :class:`placeformer.ensemble.Ensemble` says,
    and training stops, with a checkpoint, after so many `minutes`: `state` is then "stopped", and
    the next call goes on from there. A network that is there already takes part, but is not written
    again.
    """
    target, recipes = Path(folder).resolve(), gather(files)
    states = {name: "found" for name, text in recipes.items() if is_published(text, target)}
    if len(states) < len(recipes):
        members = train_ensemble(
            [parse(text) for text in recipes.values()],
            checkpoints("", target),
            device=device,
            minutes=minutes,
            progress=progress,
        )
        for trainer in members:
            name, finished = trainer.recipe.name, trainer.step == trainer.config.steps
            if finished and name not in states:
                publish(trainer, recipes[name], target, progress=progress)
            states.setdefault(name, "trained" if finished else "stopped")
    return pd.DataFrame([outcome(name, states[name], target) for name in recipes])


def gather(files: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """Read the recipes of all files: name → TOML text."""
    found: dict[str, str] = {}
    source: dict[str, Path] = {}
    for file in map(Path, files):
        for name, text in read_recipes(file).items():
            if name in found:
                raise ValueError(
                    f"every recipe must have a name of its own, got {name!r} in {source[name]} "
                    f"and {file}"
                )
            found[name], source[name] = text, file
    return found


def parse(text: str) -> Recipe:
    """Make a recipe of its text."""
    return Recipe.from_dict(tomllib.loads(text))


def is_published(text: str, target: Path) -> bool:
    """Tell whether the network of a recipe is there; refuse anything else in its place."""
    recipe = parse(text)
    place = target / recipe.name
    if not place.exists():
        return False
    try:
        differs = Recipe.read(place / hub.RECIPE) != recipe
    except (OSError, ValueError) as error:
        raise ValueError(f"{place} must be new, or made by this recipe: {error}") from error
    if differs:
        raise ValueError(
            f"{place} was made with another recipe than this one of the same name; move it away, "
            "rename the recipe or choose another folder"
        )
    return True


def checkpoints(name: str, target: Path) -> Path:
    """Folder of a run's checkpoint."""
    return target.with_name(target.name + ".training") / name


def follow(
    client: Client, recipes: Mapping[str, str], target: Path, device: str, board: Board
) -> dict[str, str]:
    """Submit a task for each recipe, show what they tell, and return how each ended."""
    news: SimpleQueue[Any] = SimpleQueue()
    topic = f"placeformer-{uuid.uuid4().hex}"
    client.subscribe_topic(topic, lambda event: news.put(event[1]))
    tasks = {}
    for name, text in recipes.items():
        task = client.submit(train_one, text, target, device, topic, pure=False)
        task.add_done_callback(news.put)
        tasks[task.key] = name, task
    states: dict[str, str] = {}
    while len(states) < len(tasks):
        item = news.get()
        if isinstance(item, tuple | list):
            board.tell(*item)
        else:
            name, task = tasks[item.key]
            states[name] = ending(task)
            board.end(name, states[name])
    return states


def ending(task: Any) -> str:
    """Say how a task ended."""
    from distributed import KilledWorker

    if task.status == "finished":
        return "trained"
    error = task.exception()
    if isinstance(error, KilledWorker):
        return "failed: its worker process died again and again; is there enough memory?"
    text = f"{type(error).__name__}: {error}" if error else "the scheduler was lost"
    return "failed: " + " ".join(text.split())


def train_one(text: str, target: Path, device: str, topic: str) -> None:
    """Train, measure and publish the network of one recipe: the dask task."""
    from distributed import get_worker

    worker, recipe = get_worker(), parse(text)
    if worker.state.nthreads != 1:
        raise ValueError(
            "the workers of a sweep must have one thread each (dask worker --nthreads 1), "
            f"got {worker.state.nthreads}"
        )
    torch.set_num_threads(1)
    place = checkpoints(recipe.name, target)
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):  # a worker taken for lost, or another sweep, may be at it
        if is_published(text, target):
            return
        teller = Teller(lambda *news: worker.log_event(topic, [recipe.name, *news]))
        trainer = training.train(recipe, place, device=device, progress=False, report=teller)
        teller.say(trainer.step, "measuring", teller.first)
        publish(trainer, text, target, progress=False)


def publish(trainer: training.Trainer, text: str, target: Path, *, progress: bool) -> None:
    """Publish a trained network with the text of its recipe, which joins the checkpoint."""
    name = trainer.recipe.name
    recipe = checkpoints(name, target) / hub.RECIPE
    recipe.write_text(text, encoding="utf-8")
    card.publish(trainer, target / name, recipe=recipe, progress=progress)


class Teller:
    """Tells how a training goes: after its first step, and then once a second at the most."""

    def __init__(self, say: Callable[[int, str, bool], None]) -> None:
        self.say, self.due, self.first = say, 0.0, True

    def __call__(self, trainer: training.Trainer) -> None:
        """Tell step, loss and errors, if it is time to."""
        told = trainer.recent or self.first  # nothing is running just after an evaluation
        if told and time.monotonic() >= self.due:
            self.say(trainer.step, trainer.running(), self.first)
            self.due, self.first = time.monotonic() + 1, False


def outcome(name: str, state: str, target: Path) -> dict[str, Any]:
    """One row of the table."""
    trained = state in ("found", "trained")
    last = last_row((target / name if trained else checkpoints(name, target)) / hub.HISTORY)
    said = read_config(target / name, []) if trained else None
    results = said.results if said else {}
    return {
        "name": name,
        "state": state,
        "steps": int(last.get("step", 0)),
        "seconds": float(last.get("seconds", 0)),
        **{key: results[key]["value"] if key in results else float("nan") for key in ERRORS},
    }


def last_row(file: Path) -> dict[str, str]:
    """Return the last row of a history, empty if there is none."""
    if not file.is_file():
        return {}
    with open(file, newline="", encoding="utf-8") as stream:
        return ([{}, *csv.DictReader(stream)])[-1]
