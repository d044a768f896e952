"""Networks stacked into one: their shared pass, their activations, their moments and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from placeformer.activation import make_activation
from placeformer.model import ModelConfig, NavigationTransformer, State


class OwnActivations(nn.Module):
    """The activation of every member, in the place of one: inside vmap, which hides the members."""

    def __init__(self, configs: Sequence[ModelConfig], device: torch.device) -> None:
        super().__init__()
        groups = [list(group) for _, group in groupby(configs, lambda config: config.activation)]
        self.sizes = [len(group) for group in groups]
        self.units = [activation_of_all(group, device) for group in groups]

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (walk, time, unit) of a member."""
        return Unhidden.apply(x, self.of_all)

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
    logs = [math.log(config.alpha) if config.alpha else -math.inf for config in configs]
    shift = torch.tensor(logs, device=device)[:, None, None, None]
    return lambda x: x * torch.sigmoid(x - shift).to(x.dtype)


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


def shared_network(configs: Sequence[ModelConfig], device: torch.device) -> NavigationTransformer:
    """Make the network whose weights are given to it: it has none of its own."""
    with torch.device("meta"):
        network = NavigationTransformer(configs[0])
    own = OwnActivations(configs, device)
    for layer in network.layers:
        layer.get_submodule("ffn").activation = own
    network.forward = network.forward_chunk  # type: ignore[assignment]
    return network


def stack_states(states: Sequence[State]) -> State:
    """Put the states of the members' walks in one tensor each."""
    memory = zip(*(state.memory for state in states), strict=True)
    return State(torch.stack([state.path for state in states]), tuple(map(torch.stack, memory)))


def stack_moments(moments: Sequence[Mapping[str, Tensor]], whole: Tensor) -> dict[str, Tensor]:
    """Put AdamW's state of one weight of every member in one tensor each; zeros before step 1."""
    names = ("exp_avg", "exp_avg_sq")
    if not moments[0]:
        zeros = {name: torch.zeros_like(whole) for name in names}
        return {"step": torch.zeros((), dtype=torch.float32, device=whole.device), **zeros}
    stacks = {name: torch.stack([one[name] for one in moments]) for name in names}
    return {"step": moments[0]["step"].clone(), **stacks}


def clip_each(gradients: Sequence[Tensor], most: float) -> None:
    """Clip every member's gradient, (member, …) each, as ``clip_grad_norm_`` does a single one."""
    norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    factor = (most / (norm + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *(1,) * (gradient.ndim - 1)))
