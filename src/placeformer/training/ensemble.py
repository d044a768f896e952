"""Many networks trained at once, as one stacked network, each as if it were alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.func import functional_call, vmap

from placeformer._warnings import warn
from placeformer.models.activation import make_activation
from placeformer.models.memory import KINDS, attended_window, places, tally, visited
from placeformer.models.transformer import ModelConfig, NavigationTransformer, State
from placeformer.training.batches import Batch, RecentSteps, judge, stack_batches, to_device
from placeformer.training.optimizers import make_optimizers, set_rate, start_descent
from placeformer.training.recipe import Recipe, at
from placeformer.training.trainer import (
    Trainer,
    as_the_recipe_says,
    autocast,
    is_finite,
    proceed,
)


class OwnActivations(nn.Module):
    """The activation of every member, in place of a single one inside vmap, which hides members."""

    def __init__(self, configs: Sequence[ModelConfig], device: torch.device) -> None:
        super().__init__()
        groups = [list(group) for _, group in groupby(configs, lambda config: config.activation)]
        self.sizes = [len(group) for group in groups]
        self.units = [activation_of_all(group, device) for group in groups]

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (walk, time, unit) of one member."""
        return Unhidden.apply(x, self.of_all)

    def set_alphas(self, alphas: Sequence[float | None]) -> None:
        """Change the α of every member, in place: a captured step reads it."""
        first = 0
        for size, unit in zip(self.sizes, self.units, strict=True):
            if isinstance(unit, StackedNMDA):
                unit.set_alphas(alphas[first : first + size])
            first += size

    def of_all(self, x: Tensor) -> Tensor:
        """Apply to (member, walk, time, unit)."""
        parts = [unit(part) for unit, part in zip(self.units, x.split(self.sizes), strict=True)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def activation_of_all(
    configs: Sequence[ModelConfig], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return the activation of members of one kind; NMDA_α with the α of each."""
    if configs[0].alpha is None:
        return make_activation(configs[0].activation, None)
    return StackedNMDA([config.alpha for config in configs], device)


class StackedNMDA:
    """NMDA_α of several networks, each with its own α."""

    def __init__(self, alphas: Sequence[float | None], device: torch.device) -> None:
        self.shift = torch.zeros(len(alphas), 1, 1, 1, device=device)
        self.set_alphas(alphas)

    def set_alphas(self, alphas: Sequence[float | None]) -> None:
        """Change the α of every network."""
        logs = [math.log(alpha) if alpha else -math.inf for alpha in alphas]
        self.shift.copy_(torch.tensor(logs)[:, None, None, None])

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to (member, walk, time, unit)."""
        return x * torch.sigmoid(x - self.shift).to(x.dtype)


class Unhidden(torch.autograd.Function):
    """A function of all members inside vmap."""

    @staticmethod
    def forward(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply `function` to a single network, outside vmap."""
        raise NotImplementedError("an ensemble's activation only runs inside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save nothing: the gradient is that of `function` itself."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, function: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, int]:
        """Apply `function` to all members, (member, …)."""
        return function(x.movedim(in_dims[0], 0)), 0


def shared_network(configs: Sequence[ModelConfig], own: OwnActivations) -> NavigationTransformer:
    """Make the network that all members run with their weights; it has no weights of its own."""
    with torch.device("meta"):
        network = NavigationTransformer(configs[0])
    for layer in network.layers:
        layer.get_submodule("ffn").activation = own
    network.forward = network.forward_chunk  # type: ignore[assignment]
    return network


def stack_states(states: Sequence[State]) -> State:
    """Put the states of the members' walks in one tensor each."""
    memory = zip(*(state.memory for state in states), strict=True)
    return State(torch.stack([state.path for state in states]), tuple(map(torch.stack, memory)))


def stack_moments(
    optimizer: torch.optim.Optimizer, moments: Sequence[Mapping[str, Tensor]], whole: Tensor
) -> dict[str, Tensor]:
    """Put the optimizer's state of one weight of every member in one tensor each.

    AdamW's count of steps is the same for all. Before step 1 everything is zero.
    """
    count = {"step": torch.zeros((), dtype=torch.float32, device=whole.device)}
    adamw = isinstance(optimizer, torch.optim.AdamW)
    if not moments[0]:
        names = ("exp_avg", "exp_avg_sq") if adamw else ("momentum_buffer",)
        return (count if adamw else {}) | {name: torch.zeros_like(whole) for name in names}
    return {
        key: value.clone() if key == "step" else torch.stack([own[key] for own in moments])
        for key, value in moments[0].items()
    }


def clip_each(gradients: Sequence[Tensor], most: float) -> None:
    """Clip every member's gradient, (member, …) each, as ``clip_grad_norm_`` does a single one."""
    norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    factor = (most / (norm + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *(1,) * (gradient.ndim - 1)))


Step = Callable[..., tuple[Tensor, ...]]

WARM = 3
"""Ordinary calls before a graph is captured: libraries set themselves up in them."""


class Graph(NamedTuple):
    """A captured call: what it reads, and what it writes, at every replay."""

    replay: Callable[[], None]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Captured:
    """A function on a GPU that is captured once for every shape of its inputs, and then replayed.

    Parameters
    ----------
    function
        Takes one hashable argument and tensors, and returns tensors that need no gradient.
        Everything else that it reads or changes, such as weights and an optimizer's moments, must
        stay at the same place in memory and be changed in place.
    """

    def __init__(self, function: Step) -> None:
        self.function = function
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.calls = Counter[Any]()
        self.graphs: dict[Any, Graph] = {}

    def __call__(self, way: Hashable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call the function: directly the first few times, then by replaying its graph."""
        key = (way, *((x.shape, x.dtype) for x in inputs))
        if key not in self.graphs:
            self.calls[key] += 1
            if self.calls[key] <= WARM:
                return self.plainly(way, *inputs)
            self.graphs[key] = self.capture(way, *inputs)
        graph = self.graphs[key]
        for own, x in zip(graph.inputs, inputs, strict=True):
            own.copy_(x)
        graph.replay()
        return tuple(x.clone() for x in graph.outputs)

    def plainly(self, way: Hashable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call the function on a separate stream, as is required before a capture."""
        usual = torch.cuda.current_stream()
        self.stream.wait_stream(usual)
        with torch.cuda.stream(self.stream):
            outputs = self.function(way, *inputs)
        usual.wait_stream(self.stream)
        return outputs

    def capture(self, way: Hashable, *inputs: Tensor) -> Graph:
        """Record the kernels of a call without running them. All graphs share one memory pool."""
        own, graph = tuple(x.clone() for x in inputs), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            outputs = self.function(way, *own)
        return Graph(graph.replay, own, outputs)


class Ensemble:
    """Training runs that take every step together, to make use of a large GPU.

    Each keeps its own seed, world, walks, α or activation, and its gradient is clipped separately:
    the result is the one that :class:`Trainer` would give, up to rounding and, with dropout, up to
    the random units that are dropped.

    Parameters
    ----------
    recipes
        What to train. Names must differ; the training, the size of the world, and the network must
        be the same for all, except for its activation and α, or the schedule of α.
    device
        "cpu", "cuda", …

    Attributes
    ----------
    members : list of Trainer
        The runs, ordered by activation. Their weights are views of the ensemble's, and they can be
        evaluated and published like any other run. One that has diverged is reported and left out:
        it gets no more snapshots and rows of history, and the others continue.
    """

    def __init__(self, recipes: Sequence[Recipe], device: str = "cpu") -> None:
        check_alike(recipes)
        recipes = sorted(recipes, key=lambda recipe: recipe.network.activation)
        self.members = [Trainer(recipe, device) for recipe in recipes]
        self.config, self.device = self.members[0].config, self.members[0].device
        for member in self.members:
            member.hardware += f", ensemble of {len(recipes)}"
        configs = [member.model.config for member in self.members]
        self.activations = OwnActivations(configs, self.device)
        self.network = shared_network(configs, self.activations)

        def forward_chunk(weights: Any, action: Tensor, seen: Tensor, state: State) -> Any:
            return functional_call(self.network, weights, (action, seen, state))

        self.forward = vmap(forward_chunk, randomness="different")
        if self.config.compile:
            self.forward = torch.compile(self.forward, dynamic=False)
        self.weights: dict[str, Tensor] = {}  # (member, …) each
        self.stack_weights()
        self.state: State  # (member, walk, …) each
        members = (len(recipes),)
        self.recent = RecentSteps(self.config.between_evaluations, self.device, members)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.members[0].step

    @property
    def seconds(self) -> float:
        """Wall time, of all members together."""
        return self.members[0].seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        for member in self.members:
            member.seconds = value

    def stack_weights(self) -> None:
        """Put the members' weights and moments in one tensor each; theirs become views of it.

        Graphs read and change these tensors, so they are captured anew.
        """
        parts = {
            name: [member.model.get_parameter(name) for member in self.members]
            for name, _ in self.network.named_parameters()
        }
        self.weights = {
            name: torch.stack([part.detach() for part in own]).requires_grad_()
            for name, own in parts.items()
        }
        self.optimizers = make_optimizers(self.weights, self.config, stacked=True)
        names = {whole: name for name, whole in self.weights.items()}
        for k, optimizer in enumerate(self.optimizers):
            for whole in [w for group in optimizer.param_groups for w in group["params"]]:
                states = [member.optimizers[k].state for member in self.members]
                own = list(zip(parts[names[whole]], states, strict=True))
                stacked = stack_moments(optimizer, [state[part] for part, state in own], whole)
                optimizer.state[whole] = stacked
                for i, (part, state) in enumerate(own):
                    part.data = whole.data[i]
                    state[part] = {
                        key: value[i] if value.ndim else value for key, value in stacked.items()
                    }
        self.descent, self.answers = self.captured(self.descend), self.captured(self.answer)

    def captured(self, step: Step) -> Step:
        """The step itself or, on a GPU, a captured version of it."""
        return Captured(step) if self.device.type == "cuda" else step

    def train_step(self) -> None:
        """One chunk of every walk, one optimiser step of every member; no waiting for a GPU."""
        self.set_alphas(self.step)
        loaders = [member.loader for member in self.members]
        batch = stack_batches(loaders, self.step)
        if loaders[0].age == 1:
            for member in self.members:
                member.start_walks()
            self.state = stack_states([member.state for member in self.members])
        set_rate(self.optimizers, self.config.rate(self.step))
        state = self.state.path, *self.state.memory
        loss, counts, path, *memory = self.descent(len(loaders[0].fresh), *batch, *state)
        self.state = State(path, tuple(memory))
        self.recent.add(loss, counts)
        for member in self.members:
            member.step += 1

    def set_alphas(self, step: int) -> None:
        """Give every member the α of a step, if its recipe changes it."""
        before = [member.model.config.alpha for member in self.members]
        for member in self.members:
            member.set_alpha(step)
        alphas = [member.model.config.alpha for member in self.members]
        if alphas != before:
            self.activations.set_alphas(alphas)

    def descend(self, n_fresh: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """One optimiser step from a batch and a state: loss, counts, and the next state."""
        batch, state = Batch(*tensors[:4]), State(tensors[4], tensors[5:])
        with autocast(self.config, self.device):
            logits, state = self.forward(self.weights, batch.action, batch.seen, state)
        loss, counts = judge(batch, logits, n_fresh)
        start_descent(self.optimizers, loss)
        clip_each([w.grad for w in self.weights.values() if w.grad is not None], self.config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach(), counts, state.path, *state.memory

    def answer(self, _: None, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Most likely letters after actions and letters seen, from a state, and the next state."""
        action, seen, path, *memory = tensors
        logits, state = self.forward(self.weights, action, seen, State(path, tuple(memory)))
        return logits.argmax(-1), state.path, *state.memory

    def running(self) -> str:
        """Loss and errors of the last steps, for the progress bar."""
        return self.recent.describe(at(self.config.maps, max(0, self.step - 1)))

    def evaluate(self, n_walks: int = 64, n_steps: int = 256) -> None:
        """Add a row to every member's history; see :meth:`Trainer.evaluate`."""
        found = {kind: self.errors(n_walks, n_steps, familiar=kind == "trained") for kind in KINDS}
        for i, (member, total) in enumerate(zip(self.members, self.recent.totals(), strict=True)):
            errors = {kind: of_all[i] for kind, of_all in found.items()}
            if member.diverged is None:
                member.history.append(member.row(total, errors))
        self.running()  # the progress bar keeps these words until the next step
        self.recent.n = 0

    def errors(self, n_walks: int, n_steps: int, *, familiar: bool) -> list[xr.Dataset]:
        """Memory errors at every step, as :func:`memory_errors` gives them for each member."""
        network, seed = self.members[0].recipe.network, self.step
        walks = [
            member.world.walk(n_walks, n_steps, seed=seed, familiar=familiar)
            for member in self.members
        ]
        window = attended_window(n_steps, network.chunk, network.memory)
        return [
            tally(answer != walk.target.values, visited(places(walk), window))
            for answer, walk in zip(self.predictions(walks, seed), walks, strict=True)
        ]

    @torch.no_grad()
    def predictions(self, walks: Sequence[xr.Dataset], seed: int) -> np.ndarray:
        """Most likely letters on a walk of each member in eval mode, (member, walk, time)."""
        n_walks, chunk, answers = walks[0].sizes["walk"], self.network.config.chunk, []
        state = stack_states([m.model.initial_state(n_walks, seed=seed) for m in self.members])
        action, seen = (
            to_device(np.stack([walk[name].values for walk in walks]), self.device)
            for name in ("action", "observation")
        )
        self.network.eval()
        for a, s in zip(action.split(chunk, 2), seen.split(chunk, 2), strict=True):
            letters, path, *memory = self.answers(None, a, s, state.path, *state.memory)
            answers.append(letters)
            state = State(path, tuple(memory))
        self.network.train()
        return torch.cat(answers, 2).cpu().numpy()

    def save_history(self, folder: Path) -> None:
        """Write ``NAME/history.csv`` of every member."""
        for member in self.members:
            place = folder / member.recipe.name
            place.mkdir(exist_ok=True)
            member.save_history(place)

    def save_snapshot(self, folder: Path) -> None:
        """Write ``NAME/snapshots/step-….safetensors`` of every member."""
        for member in self.members:
            if self.goes_on(member, member.model.state_dict()):
                member.save_snapshot(folder / member.recipe.name)

    def goes_on(self, member: Trainer, state: Mapping[str, Any]) -> bool:
        """Whether a member goes on; one whose state is no longer finite is left out."""
        if member.diverged is None and not is_finite(state):
            member.diverged = self.step
            warn(
                f"{member.recipe.name} has diverged: its weights are not finite after step "
                f"{self.step}. It is left out, and the others go on; choose a smaller "
                "training.learning_rate or training.clip to train it again",
                RuntimeWarning,
            )
        return member.diverged is None

    def state_dict(self) -> dict[str, Any]:
        """State of each member, as a single trainer would save it.

        Raises
        ------
        FloatingPointError
            No member is left.
        """
        for i, member in enumerate(self.members):
            member.state = State(self.state.path[i], tuple(past[i] for past in self.state.memory))
            member.recent.n = self.recent.n
            member.recent.loss.copy_(self.recent.loss[:, i])
            member.recent.counts.copy_(self.recent.counts[:, i])
        states = [member.state_dict() for member in self.members]
        going_on = [self.goes_on(*pair) for pair in zip(self.members, states, strict=True)]
        if not any(going_on):
            raise FloatingPointError(
                f"the training has diverged: no member has finite weights after step {self.step}; "
                "choose a smaller training.learning_rate or training.clip. The previous checkpoint "
                "is kept"
            )
        for member, state in zip(self.members, states, strict=True):
            state["diverged"] = member.diverged
        return {"members": states}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where `saved` stopped; a checkpoint of other recipes raises ValueError."""
        theirs = {json.loads(one["recipe"])["name"]: one for one in saved.get("members", [saved])}
        names = [member.recipe.name for member in self.members]
        if "members" not in saved or theirs.keys() != set(names):
            raise ValueError(
                f"the checkpoint must be of an ensemble of {', '.join(names)}, got one of "
                f"{', '.join(theirs)}; choose another folder, or remove the checkpoint"
            )
        for member in self.members:
            member.load_state_dict(theirs[member.recipe.name])
        self.activations.set_alphas([member.model.config.alpha for member in self.members])
        self.stack_weights()
        self.state = stack_states([member.state for member in self.members])
        recent = [member.recent for member in self.members]
        self.recent.n = recent[0].n
        torch.stack([own.loss for own in recent], 1, out=self.recent.loss)
        torch.stack([own.counts for own in recent], 1, out=self.recent.counts)


def check_alike(recipes: Sequence[Recipe]) -> None:
    """Refuse recipes that cannot be trained together, by name."""
    names = [recipe.name for recipe in recipes]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"recipes must hold at least one recipe, each with a different name, got {names}"
        )
    first = common(recipes[0])
    for recipe in recipes[1:]:
        for key, value in common(recipe).items():
            if value != first[key]:
                raise ValueError(
                    f"{key} must be the same in an ensemble, got {first[key]!r} in {names[0]} and "
                    f"{value!r} in {recipe.name}; train one of them separately"
                )


def common(recipe: Recipe) -> dict[str, Any]:
    """What the members of an ensemble share."""
    tables = recipe.to_dict()
    shared = {f"training.{key}": value for key, value in tables["training"].items()}
    shared |= {f"network.{key}": value for key, value in tables["network"].items()}
    del shared["network.activation"], shared["network.alpha"]
    return shared | {f"world.{key}": recipe.world.get(key) for key in ("side", "shape", "walls")}


def train_ensemble(
    recipes: Sequence[Recipe | str | Path],
    folder: str | Path,
    *,
    device: str = "cpu",
    stop_at: int | None = None,
    minutes: float | None = None,
    progress: bool = True,
) -> list[Trainer]:
    """Train networks together, or resume an ensemble that was stopped.

    Parameters
    ----------
    recipes
        What to train, or the paths of TOML files; see :class:`Ensemble`.
    folder
        Where the checkpoint and ``NAME/history.csv`` are kept; an ensemble found there is resumed.
    device, stop_at, minutes, progress
        See :func:`placeformer.train`.

    Returns
    -------
    list of Trainer
        One per recipe, in their order, with the trained `model` in eval mode and its `history`;
        `diverged` is the step at which a run was left out, None for the others.
    """
    read = [r if isinstance(r, Recipe) else Recipe.read(r) for r in recipes]
    with as_the_recipe_says(device):
        ensemble = Ensemble(read, device)
        proceed(
            ensemble,
            Path(folder).expanduser(),
            f"{len(read)} networks",
            stop_at=stop_at,
            minutes=minutes,
            progress=progress,
        )
    members = {member.recipe.name: member for member in ensemble.members}
    for member in ensemble.members:
        member.model.eval()
    return [members[recipe.name] for recipe in read]
