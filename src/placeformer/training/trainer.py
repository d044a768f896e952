"""The trainer: one pass over walks that never repeat, which resumes to exactly the same weights."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from placeformer._atomic import atomic_file
from placeformer._options import check_number
from placeformer._state_files import DamagedFileError, load_state, save_state
from placeformer._warnings import warn
from placeformer.models.activation import NMDA
from placeformer.models.grid_world import GridWorld
from placeformer.models.memory import KINDS, memory_errors
from placeformer.models.transformer import NavigationTransformer, State
from placeformer.training.batches import RecentSteps, WalkLoader, judge, share
from placeformer.training.initial_weights import Init, start_from
from placeformer.training.optimizers import make_optimizers, set_rate, start_descent
from placeformer.training.recipe import Recipe, TrainingConfig, at
from placeformer.zoo.registry import check_device
from placeformer.zoo.snapshots import save_snapshot


def hardware(device: torch.device) -> str:
    """Name the processor and the threads used, or the accelerator and any lower precision."""
    if device.type == "cuda":
        fast = torch.get_float32_matmul_precision() != "highest"
        rounded = ", float32 products in TensorFloat-32" if fast else ""
        return f"one {torch.cuda.get_device_name(device)}, torch {torch.__version__}{rounded}"
    threads = torch.get_num_threads()
    return (
        f"{threads} processor core{'s' if threads > 1 else ''} ({processor()}), "
        f"torch {torch.__version__}"
    )


def processor() -> str:
    """Model name of the processor, if the system states it."""
    info = Path("/proc/cpuinfo")
    lines: Sequence[str] = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


CHECKPOINT, HISTORY = "checkpoint.safetensors", "history.csv"


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
        """Add the errors that the run has reached to the history."""

    def running(self) -> str:
        """Describe the last steps for the progress bar."""

    def save_history(self, folder: Path) -> None:
        """Write the history."""

    def save_snapshot(self, folder: Path) -> None:
        """Write the weights as they are now."""

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
    if stop_at is not None and (type(stop_at) is not int or stop_at < 0):
        raise ValueError(f"stop_at must be a whole number of steps, 0 or more, got {stop_at!r}")
    if minutes is not None:
        check_number("minutes", minutes)
        if not minutes >= 0:
            raise ValueError(f"minutes must be a number of at least 0, got {minutes!r}")
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        run.load_state_dict(read_checkpoint(checkpoint))
    last = min(run.config.steps, run.config.steps if stop_at is None else stop_at)
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    if stop_at is not None and run.step > stop_at:
        warn(
            f"stop_at={stop_at} has no effect: the run in {folder} is already at step {run.step}, "
            "from where it cannot go back; choose another folder to train to an earlier step",
        )
    done = run.step >= last
    if run.step == 0 and 0 in run.config.snapshots:
        run.save_snapshot(folder)
    with tqdm(total=last, initial=run.step, desc=name, mininterval=1, disable=not progress) as bar:
        while not done:
            take_step(run, folder)
            done = run.step >= last or time.monotonic() >= end
            if done or run.step % run.config.checkpoint_every == 0:
                save_checkpoint(run, checkpoint)
            if bar.update():
                bar.set_postfix_str(run.running())
            if report is not None:
                report()


def check_folder(folder: Path) -> None:
    """Raise, before anything is trained, if there is no folder and none can be made."""
    for path in (folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            raise ValueError(f"folder must be a folder, got {folder}: {path} is a broken link")
        if path.exists():
            if not path.is_dir():
                raise ValueError(f"folder must be a folder, got {folder}: {path} is a file")
            return


def save_checkpoint(run: Run, file: Path) -> None:
    """Write a checkpoint, unless the training has diverged: then the previous one is kept.

    Raises
    ------
    FloatingPointError
        A weight, or another number that the next step depends on, is not finite.
    """
    state = run.state_dict()
    if not is_finite(state):
        raise FloatingPointError(
            f"the training has diverged: weights are not finite after step {run.step}; choose a "
            "smaller training.learning_rate or training.clip. The previous checkpoint is kept in "
            f"{file}"
        )
    save_state(file, state)


def is_finite(state: Any) -> bool:
    """Whether all numbers of all tensors in a state are finite, except for members left out."""
    if isinstance(state, torch.Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, Mapping):
        return bool(state.get("diverged")) or all(map(is_finite, state.values()))
    return not isinstance(state, list | tuple) or all(map(is_finite, state))


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint; the error for a damaged file names it."""
    try:
        saved = load_state(file, "cpu")
    except DamagedFileError as error:
        raise ValueError(
            f"{file} must be a whole checkpoint, got a damaged file ({error}); remove it to start "
            "afresh, or put a copy in its place"
        ) from error
    if not isinstance(saved, dict) or not {"recipe", "members"} & saved.keys():
        raise ValueError(
            f"{file} must be a checkpoint of a training, got another file; remove it, or choose "
            "another folder"
        )
    if not is_finite(saved):
        raise ValueError(
            f"{file} must hold finite weights, got NaN or infinity; remove it to start afresh"
        )
    return saved


def take_step(run: Run, folder: Path) -> None:
    """Take one step, and evaluate if it is due."""
    config, begin = run.config, time.perf_counter()
    run.train_step()
    if run.step % config.evaluate_every == 0 or run.step == config.steps:
        run.evaluate()
        run.save_history(folder)
    if run.step in config.snapshots:
        run.save_snapshot(folder)
    run.seconds += time.perf_counter() - begin


def write_history(file: Path, history: list[dict[str, float]]) -> None:
    """Write the rows of a history as CSV."""
    with atomic_file(file) as temporary, open(temporary, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(history[0]) if history else [])
        writer.writeheader()
        writer.writerows(history)


class Trainer:
    """A training run that can stop at any step and resume from there.

    Parameters
    ----------
    recipe
        What to train.
    device
        "cpu", "cuda", …
    init
        The network, or its source, whose weights the training starts from; by default the
        ``[init]`` of the recipe or, without one, weights drawn from its seed.

    Attributes
    ----------
    recipe : Recipe
        As given, with ``[init]`` for a training that starts from another network.
    diverged : int or None
        Step after which the weights were found not to be finite; the run is then left out of its
        ensemble.
    """

    def __init__(self, recipe: Recipe, device: str = "cpu", *, init: Init | None = None) -> None:
        check_device(device)
        self.recipe, self.config, self.device = recipe, recipe.training, torch.device(device)
        self.world = GridWorld(**recipe.world)
        earlier = self.config.earlier_maps
        if earlier + self.config.maps[-1][1] > self.world.n_maps:
            raise ValueError(
                f"training.maps must stay within world.n_maps = {self.world.n_maps}"
                + f", after {earlier} earlier maps" * bool(earlier)
                + f", got {self.config.maps}"
            )
        torch.manual_seed(recipe.seed)
        self.model = NavigationTransformer(recipe.network, self.world)
        self.model.init_weights(recipe.seed)
        if init is not None or recipe.init is not None:
            self.recipe = start_from(self.model, init, recipe)
        self.model.to(self.device).train()
        self.optimizers = make_optimizers(dict(self.model.named_parameters()), self.config)
        self.loader = WalkLoader(recipe, self.world, self.device)
        self.forward = self.model.forward_chunk
        if self.config.compile:
            self.forward = torch.compile(self.forward, dynamic=False)
        self.set_alpha(0)
        self.hardware = hardware(self.device)
        self.step, self.seconds = 0, 0.0
        self.diverged: int | None = None
        self.history: list[dict[str, float]] = []
        self.state: State
        self.recent = RecentSteps(self.config.between_evaluations, self.device)

    def train_step(self) -> None:
        """One chunk of every walk, one optimiser step."""
        self.set_alpha(self.step)
        batch = self.loader.next_chunk(self.step)
        if self.loader.age == 1:
            self.start_walks()
        with autocast(self.config, self.device):
            logits, self.state = self.forward(batch.action[0], batch.seen[0], self.state)
        loss, counts = judge(batch, logits[None], len(self.loader.fresh))
        set_rate(self.optimizers, self.config.rate(self.step))
        start_descent(self.optimizers, loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.recent.add(loss[0], counts[0])
        self.step += 1

    def set_alpha(self, step: int) -> None:
        """Give the network the α of a step, if the recipe changes it."""
        if not self.config.alpha or self.model.config.alpha == at(self.config.alpha, step):
            return
        alpha: float = at(self.config.alpha, step)
        self.model.config = replace(self.model.config, alpha=alpha)
        for module in self.model.modules():
            if isinstance(module, NMDA):
                module.alpha = alpha

    def start_walks(self) -> None:
        """Forget the previous walks: new states of the path integrator, and no memory."""
        self.state = self.model.initial_state(self.config.walks, seed=self.loader.path_seed)

    def running(self) -> str:
        """Loss and errors of the last steps, for the progress bar."""
        return self.recent.describe(at(self.config.maps, max(0, self.step - 1)))

    def evaluate(self, n_walks: int = 64, n_steps: int = 256) -> None:
        """Add a row to the history: errors in eval mode on all trained and all novel maps."""
        errors = {}
        for kind in KINDS:
            errors[kind] = memory_errors(
                self.model,
                n_walks=n_walks,
                n_steps=n_steps,
                familiar=kind == "trained",
                seed=self.step,
                where="every_step",
                progress=False,
            )
        self.history.append(self.row(self.recent.totals(), errors))
        self.running()  # the progress bar keeps these words until the next step
        self.recent.n = 0

    def row(self, total: np.ndarray, errors: Mapping[str, xr.Dataset]) -> dict[str, float]:
        """One row of history: progress of the run, errors while training and in eval mode."""
        loss, seen, seen_wrong, unseen, unseen_wrong = map(float, total)
        row = {
            "step": self.step,
            "predictions": self.step * self.config.walks * self.recipe.network.chunk,
            "seconds": round(self.seconds, 1),
            "n_maps": at(self.config.maps, self.step - 1),
            "learning_rate": self.config.rate(self.step - 1),
            **({"alpha": at(self.config.alpha, self.step - 1)} if self.config.alpha else {}),
            "loss": loss,
            "working_error_running": share(seen_wrong, seen),
            "reference_error_running": share(unseen_wrong, unseen),
        }
        for kind, found in errors.items():
            for m in found.memory.values:
                row[f"{m}_error_{kind}"] = float(found.error.sel(memory=m))
        return row

    def save_history(self, folder: Path) -> None:
        """Write ``history.csv``."""
        write_history(folder / HISTORY, self.history)

    def save_snapshot(self, folder: Path) -> None:
        """Write ``snapshots/step-….safetensors``."""
        save_snapshot(self.model, folder, self.step)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "recipe": json.dumps(self.recipe.to_dict(), sort_keys=True),
            "step": self.step,
            "seconds": self.seconds,
            "diverged": self.diverged,
            "history": json.dumps(self.history),
            "recent": self.recent.state_dict(),
            "hardware": self.hardware,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "walks": self.loader.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "path": self.state.path,
            "memory": list(self.state.memory),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` stopped; a checkpoint of another recipe raises ValueError."""
        ours = json.dumps(self.recipe.to_dict(), sort_keys=True)
        if "recipe" not in saved:
            raise ValueError(
                f"the checkpoint must be of {self.recipe.name} alone, got one of an ensemble; "
                "choose another folder, or remove the checkpoint to start afresh"
            )
        if saved["recipe"] != ours:
            theirs = json.loads(saved["recipe"])
            given = json.loads(ours)
            differ = [k for k in given | theirs if given.get(k) != theirs.get(k)]
            raise ValueError(
                f"the checkpoint was made with another recipe (differs in {', '.join(differ)}); "
                + "pass the init that it was started with, " * ("init" in differ)
                + "choose another folder, or remove the checkpoint to start afresh"
            )
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.diverged = saved["diverged"]
        self.history = json.loads(saved["history"])
        self.recent.load_state_dict(saved["recent"])
        before = saved.get("hardware", self.hardware)
        goes_on = self.step < self.config.steps and not before.endswith(self.hardware)
        self.hardware = f"{before}, then {self.hardware}" if goes_on else before
        self.model.load_state_dict(saved["model"])
        self.set_alpha(max(0, self.step - 1))
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.loader.load_state_dict(saved["walks"])
        torch.set_rng_state(saved["torch_rng"])
        self.state = State(
            saved["path"].to(self.device), tuple(m.to(self.device) for m in saved["memory"])
        )


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 if the recipe says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


@contextmanager
def as_the_recipe_says(device: str) -> Iterator[None]:
    """Train as a recipe says, whatever the settings of the process, and keep its random state.

    The default dtype and device, autocast, and gradients that are switched off have no effect.
    """
    check_device(device)
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, before)
        torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":  # which would slow down every call
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))  # which switches gradients on, too
        stack.enter_context(torch.autocast(torch.device(device).type, enabled=False))
        stack.enter_context(random_state_kept(device))
        yield


def random_state_kept(device: str) -> AbstractContextManager[None]:
    """Return a context that leaves the random state of torch as it was."""
    return torch.random.fork_rng([device] if torch.device(device).type == "cuda" else [])


def train(
    recipe: Recipe | str | Path,
    folder: str | Path,
    *,
    init: Init | None = None,
    device: str = "cpu",
    stop_at: int | None = None,
    minutes: float | None = None,
    progress: bool = True,
    report: Callable[[Trainer], None] | None = None,
) -> Trainer:
    """Train a network, or resume a run that was stopped.

    Parameters
    ----------
    recipe
        A :class:`placeformer.training.recipe.Recipe` or the path of its TOML file.
    folder
        Where the checkpoint and ``history.csv`` are kept; a run found there is resumed.
    init
        Fine-tune: start from the weights of this network (a :class:`NavigationTransformer`, or a
        source that :func:`load` accepts) instead of random ones. Its sizes must be those of the
        recipe; the world, the activation, α and everything else are the recipe's. A run that is
        resumed needs the same `init` again. Choose a seed other than that of the earlier training,
        whose walks would otherwise be repeated.
    device
        "cpu", "cuda", …
    stop_at
        Stop at this step (checkpointed) instead of at the recipe's last one. A run that is already
        beyond it is left as it is, with a warning.
    minutes
        Stop (checkpointed) after this time, at whatever step.
    progress
        Show a progress bar: steps/s, loss, working and reference error.
    report
        Called with the trainer after every step.

    Returns
    -------
    Trainer
        With the trained `model` in eval mode, its `history`, and the `recipe`, whose `init`
        states where the weights came from.

    Raises
    ------
    ValueError
        An invalid recipe, an `init` of other sizes (which are listed), a checkpoint of another
        recipe or `init`, a negative `stop_at` or `minutes`, or a `device` that cannot be used.
    TypeError
        A `recipe` that is neither a Recipe nor a path, or an `init` of another kind of network.
    FloatingPointError
        The weights are no longer finite; the previous checkpoint is kept.

    Warns
    -----
    UserWarning
        The run is already beyond `stop_at`.

    See Also
    --------
    publish : Measure the trained network, and write it to a folder with its card.
    load : Load a network of the zoo, a folder or the hub; `info["folder"]` holds its recipe.
    save : Write a network as a folder.
    memory_errors : Measure the errors of a network.

    Notes
    -----
    What is trained depends on the recipe alone: the default dtype and device, autocast, the random
    state of the process, and random numbers that `report` draws, have no effect. The random state
    is left as it was. Threads of one process share these settings: train several networks in
    several processes, or with ``placeformer sweep``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import placeformer as pf
    >>> recipe = Path(pf.load("mini-nmda-a10").info["folder"], "recipe.toml")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = pf.train(recipe, folder, stop_at=2, progress=False)
    >>> trainer.step, trainer.model.training
    (2, False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tuned = pf.train(recipe, folder, init="mini-gelu", stop_at=1, progress=False)
    >>> tuned.recipe.init["source"]
    'mini-gelu'
    """
    if not isinstance(recipe, Recipe | str | os.PathLike):
        raise TypeError(
            "recipe must be a Recipe or the path of its TOML file, got "
            f"{type(recipe).__name__}; a network to start from is passed as init="
        )
    if "\0" in os.fspath(folder):
        raise ValueError(f"folder must be a path without a NUL, got {folder!r}")
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    with as_the_recipe_says(device):
        trainer = Trainer(recipe, device, init=init)

        def tell() -> None:
            if report is not None:
                with random_state_kept(device):  # dropout must not depend on what it draws
                    report(trainer)

        proceed(
            trainer,
            Path(folder).expanduser(),
            recipe.name,
            stop_at=stop_at,
            minutes=minutes,
            progress=progress,
            report=None if report is None else tell,
        )
    trainer.model.eval()
    return trainer
