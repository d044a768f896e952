"""Sweeps: many recipes trained on one machine or on a dask cluster, with their progress."""

from __future__ import annotations

import csv
import io
import logging
import os
import sys
import time
import tomllib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from filelock import FileLock
from tqdm.auto import tqdm

from placeformer._optional import extra
from placeformer.models.memory import KINDS, MEMORIES
from placeformer.training import model_card as card
from placeformer.training import trainer as training
from placeformer.training.ensemble import train_ensemble
from placeformer.training.recipe import Recipe, read_recipes
from placeformer.zoo import folder as hub
from placeformer.zoo.files import HISTORY, RECIPE

if TYPE_CHECKING:
    from distributed import Client

EVERY = 30.0  # seconds between lines where there is no terminal
LINE = "{desc}: step {n_fmt} of {total_fmt}, {rate_fmt}, {elapsed}<{remaining}{postfix}"


class SweepProgress:
    """Shows the progress of runs: bars on a terminal, whole lines now and then in a log file.

    Parameters
    ----------
    steps
        Name → steps of the whole run.
    disable
        Show nothing.
    every
        Seconds between the lines of a log.
    """

    def __init__(
        self, steps: Mapping[str, int], *, disable: bool = False, every: float = EVERY
    ) -> None:
        self.steps, self.disable, self.every = steps, disable, every
        self.live = sys.stderr.isatty() and not disable
        self.bars: dict[str, tqdm] = {}
        self.at = dict.fromkeys(steps, 0)
        self.ended: dict[str, str] = {}
        self.total = self.bar("all runs", sum(steps.values()), 0)
        self.due = time.monotonic() + every

    def __enter__(self) -> SweepProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for bar in (*self.bars.values(), self.total):
            bar.close()

    def bar(self, name: str, total: int, step: int) -> tqdm:
        """Make a bar, which is drawn on a terminal only."""
        options = {} if self.live else {"file": io.StringIO(), "mininterval": 1e9}
        bar = tqdm(total=total, initial=step, desc=name, unit="step", leave=False, **options)
        if not self.live:
            bar.bar_format = LINE
        return bar

    def update(self, name: str, step: int, text: str, first: bool) -> None:
        """Update the progress of a run; `first` is its first report since it started or resumed."""
        if name in self.ended:
            return
        if first:
            self.start(name, step)
        bar = self.bars[name]
        bar.set_postfix_str(text, refresh=False)
        bar.update(step - bar.n)
        self.count(name, step)
        if time.monotonic() >= self.due:
            self.log()

    def start(self, name: str, step: int) -> None:
        """Show that a run has started, or resumed from a checkpoint."""
        how = "starts" if step <= 1 else f"resumes at step {step}"
        if name in self.bars:
            how += " (its worker was lost)"
        else:
            if not self.total.n:
                self.total.unpause()  # until now the workers were starting
            self.bars[name] = self.bar(name, self.steps[name], step)
            self.total.initial += step - 1
        self.line(f"{name}: {how}")

    def finish(self, name: str, how: str) -> None:
        """Show how a run ended."""
        if name in self.bars:
            self.bars.pop(name).close()
        self.ended[name] = how
        self.count(name, self.steps[name])
        self.line(f"{name}: {how}")

    def count(self, name: str, step: int) -> None:
        """Bring the bar of all runs up to date."""
        self.at[name] = step
        waiting = len(self.steps) - len(self.ended) - len(self.bars)
        self.total.set_postfix_str(
            f"{len(self.ended)} ended, {len(self.bars)} running, {waiting} waiting", refresh=False
        )
        self.total.update(sum(self.at.values()) - self.total.n)

    def log(self) -> None:
        """Write a line for each run that is under way, where there are no bars."""
        self.due = time.monotonic() + self.every
        if not self.live:
            for bar in (*self.bars.values(), self.total):
                self.line(str(bar))

    def line(self, text: str) -> None:
        """Write a line that stays."""
        if not self.disable:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()


KEEP_MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
"""Without it, dask workers keep returning memory, which more than doubles the time of a step."""


@contextmanager
def connect(scheduler: str | None, workers: int | None, tasks: int) -> Iterator[Client]:
    """Connect to the cluster at an address, or start one on this machine for `tasks` tasks."""
    with extra("sweep"):
        import dask
        from dask.system import CPU_COUNT
        from distributed import Client, LocalCluster
    if scheduler is not None:
        try:
            client = Client(scheduler, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"scheduler must be the address of a dask scheduler, got {scheduler!r}: {error}"
            ) from error
        with client:
            yield client
        return
    with (
        dask.config.set(KEEP_MEMORY),
        LocalCluster(
            n_workers=min(workers or CPU_COUNT, tasks),
            threads_per_worker=1,
            memory_limit=None,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


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
    kept in ``folder.training/NAME``. A run that was stopped, or lost its worker, resumes from its
    checkpoint; one that fails does not stop the others.

    Parameters
    ----------
    files
        TOML files of recipes and families of recipes, see :func:`.read_recipes`.
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
        One row per network: `name`, `state` ("found", "trained", or "failed: " and why), `steps`,
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
    target, recipes = checked_target(folder), gather(files)
    states = {name: "found" for name, text in recipes.items() if is_published(text, target)}
    missing = {name: text for name, text in recipes.items() if name not in states}
    if missing:
        with connect(scheduler, workers, len(missing)) as client:
            steps = {name: parse(text).training.steps for name, text in missing.items()}
            with SweepProgress(steps, disable=not progress) as display:
                states |= follow(client, missing, target, device, display)
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

    Like :func:`run_sweep`, but the recipes must have in common what :class:`.Ensemble` says, and
    training stops, with a checkpoint, after `minutes` minutes: `state` is then "stopped", and the
    next call resumes from there. A network that exists already takes part, but is not written
    again; one whose training diverges has "failed", and the others continue.
    """
    target, recipes = checked_target(folder), gather(files)
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
            if trainer.diverged is not None:
                how = f"failed: the training has diverged by step {trainer.diverged}"
                states.setdefault(name, how)
            if finished and name not in states:
                publish(trainer, recipes[name], target, progress=progress)
            states.setdefault(name, "trained" if finished else "stopped")
    return pd.DataFrame([outcome(name, states[name], target) for name in recipes])


def checked_target(folder: str | os.PathLike[str]) -> Path:
    """Return the folder of the networks; refuse a file in its place or in that of checkpoints."""
    target = Path(folder).expanduser().resolve()
    for place in (target, checkpoints("", target)):
        training.check_folder(place)
    return target


def gather(files: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """Read the recipes of all files: name → TOML text."""
    found: dict[str, str] = {}
    source: dict[str, Path] = {}
    for file in map(Path, files):
        for name, text in read_recipes(file).items():
            if name in found:
                raise ValueError(
                    f"files must hold recipes with different names, got {name!r} in {source[name]} "
                    f"and in {file}; rename one of them"
                )
            found[name], source[name] = text, file
    return found


def parse(text: str) -> Recipe:
    """Read a recipe from its text."""
    return Recipe.from_dict(tomllib.loads(text))


def is_published(text: str, target: Path) -> bool:
    """Whether the network of a recipe exists already; refuse anything else in its place."""
    recipe = parse(text)
    place = target / recipe.name
    if not place.exists():
        return False
    try:
        differs = Recipe.read(place / RECIPE) != recipe
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
    client: Client, recipes: Mapping[str, str], target: Path, device: str, display: SweepProgress
) -> dict[str, str]:
    """Submit a task for each recipe, show their progress, and return how each ended."""
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
            display.update(*item)
        else:
            name, task = tasks[item.key]
            states[name] = ending(task)
            display.finish(name, states[name])
    return states


def ending(task: Any) -> str:
    """Say how a task ended."""
    from distributed import KilledWorker

    if task.status == "finished":
        return "trained"
    error = task.exception()
    if isinstance(error, KilledWorker):
        return "failed: its worker process died several times; is there enough memory?"
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
    with FileLock(place / "lock"):  # a worker taken for lost, or another sweep, may be training it
        if is_published(text, target):
            return
        reporter = ProgressReporter(lambda *news: worker.log_event(topic, [recipe.name, *news]))
        trainer = training.train(recipe, place, device=device, progress=False, report=reporter)
        reporter.send(trainer.step, "measuring", reporter.first)
        publish(trainer, text, target, progress=False)


def publish(trainer: training.Trainer, text: str, target: Path, *, progress: bool) -> None:
    """Publish a trained network with the text of its recipe, which is kept with the checkpoint."""
    name = trainer.recipe.name
    recipe = checkpoints(name, target) / RECIPE
    recipe.write_text(text, encoding="utf-8")
    card.publish(trainer, target / name, recipe=recipe, progress=progress)


class ProgressReporter:
    """Sends the progress of a run: after its first step, then at most once a second."""

    def __init__(self, send: Callable[[int, str, bool], None]) -> None:
        self.send, self.due, self.first = send, 0.0, True

    def __call__(self, trainer: training.Trainer) -> None:
        """Send step, loss and errors, if they are due."""
        recent = len(trainer.recent) or self.first  # an evaluation clears the recent steps
        if recent and time.monotonic() >= self.due:
            self.send(trainer.step, trainer.running(), self.first)
            self.due, self.first = time.monotonic() + 1, False


def outcome(name: str, state: str, target: Path) -> dict[str, Any]:
    """One row of the table."""
    trained = state in ("found", "trained")
    last = last_row((target / name if trained else checkpoints(name, target)) / HISTORY)
    said = hub.described(target / name, None, [])[0] if trained else None
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
