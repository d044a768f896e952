"""The navigation Transformer, top to bottom: path integrator, Transformer-XL layers, read-out.

Two streams run through the layers at once. The *content* stream holds the place and the letter of
every step; the *query* stream holds the place just moved to and a mask, and its output is the
predicted letter. Content attends causally to content; a query attends to the content before it and
to itself. One pass over a chunk gives exactly what one run per prefix of the chunk would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from placeformer import paper
from placeformer.activation import check_activation
from placeformer.glance import Glance
from placeformer.layers import Layer
from placeformer.pretrained import Pretrained
from placeformer.world import ACTIONS, GridWorld


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and activation of a :class:`NavigationTransformer`.

    Attributes
    ----------
    n_letters, d_model, n_layers
        Letters it tells apart, width, layers.
    n_heads, d_head, d_inner, d_rnn
        Attention heads, width of a head, feed-forward units of a layer, path integrator's width.
    chunk, memory
        Steps processed at once, and earlier steps remembered beyond them.
    dropout
        Probability, in training only.
    activation
        "nmda", "relu", "gelu", "leaky_relu" or "tanh".
    alpha
        [Mg²⁺]/K_Mg of NMDA_α; None exactly for the other activations.
    """

    n_letters: int
    d_model: int
    n_layers: int
    n_heads: int
    d_head: int
    d_inner: int
    d_rnn: int
    chunk: int
    memory: int
    dropout: float
    activation: str
    alpha: float | None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.type == "int" and (type(value) is not int or value < 1):
                raise ValueError(f"{entry.name} must be a whole number ≥ 1, got {value!r}")
        if self.d_model % 2:
            raise ValueError(f"d_model must be even (place + letter), got {self.d_model}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout!r}")
        check_activation(self.activation, self.alpha)


class State(NamedTuple):
    """What is carried from chunk to chunk, detached."""

    path: Tensor  # (walk, d_rnn)
    memory: tuple[Tensor, ...]  # per layer (walk, ≤ memory, d_model)


class PathIntegrator(nn.Module):
    """e_{t+1} = tanh(e_t + e_t W_a): where am I, from actions alone.

    It runs in the precision of its weights under autocast too: rounding errors add up over a walk.
    """

    def __init__(self, n_actions: int, d_rnn: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_actions, d_rnn, d_rnn))

    def forward(self, path: Tensor, action: Tensor) -> Tensor:
        """(walk, d_rnn), (walk, time) → (walk, time + 1, d_rnn), the first being `path`."""
        n_actions, d_rnn, _ = self.weight.shape
        every = self.weight.permute(1, 0, 2).reshape(d_rnn, n_actions * d_rnn)
        chosen = F.one_hot(action.long(), n_actions).to(path.dtype)[..., None]  # (walk, time, a, 1)
        states = [path]
        with torch.autocast(path.device.type, enabled=False):
            for t in range(action.shape[1]):
                moved = (path @ every).view(-1, n_actions, d_rnn)
                path = torch.tanh(path + (moved * chosen[:, t]).sum(1))
                states.append(path)
        return torch.stack(states, dim=1)


class NavigationTransformer(Glance, nn.Module, Pretrained):
    """Walks on grid maps and predicts the letter at its next place.

    Attributes
    ----------
    config
        Sizes and activation.
    world
        The maps it is (to be) trained on; None where only the network matters.
    info : dict
        Facts of the zoo entry it was loaded from (empty for a new network).
    """

    def __init__(self, config: ModelConfig, world: GridWorld | None = None) -> None:
        super().__init__()
        if world is not None and world.n_letters != config.n_letters:
            found = f"{config.n_letters} and {world.n_letters}"
            raise ValueError(f"config.n_letters must equal the world's, got {found}")
        self.config, self.world, self.info = config, world, dict[str, Any]()
        self.path = PathIntegrator(len(ACTIONS), config.d_rnn)
        self.place = nn.Linear(config.d_rnn, config.d_model // 2)
        # Place embedding of the query and of the content stream, (walk, time, d_model / 2).
        self.position, self.content_position = nn.Identity(), nn.Identity()
        self.letter = nn.Embedding(config.n_letters + 1, config.d_model // 2)  # last row: mask
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.read_out = nn.Linear(config.d_model, config.n_letters)

    def init_weights(self, seed: int) -> NavigationTransformer:
        """Draw new weights: N(0, 0.02) for matrices, 0 for biases and the path integrator."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith((".bias", "distance_bias")) or name == "path.weight":
                    weight.zero_()
                elif name.endswith("norm.weight"):
                    weight.fill_(1)
                else:
                    weight.copy_(torch.empty(weight.shape).normal_(0, 0.02, generator=generator))
        return self

    def initial_state(
        self, n_walks: int, *, seed: int | None = None, path: Tensor | None = None
    ) -> State:
        """Nothing remembered, and the path integrator at e₀.

        Exactly one of `path`, e₀ itself (walk, d_rnn), and `seed`, of e₀ ~ N(0, 1/d_rnn), is given.
        """
        config = self.config
        if (seed is None) == (path is None):
            raise ValueError("exactly one of seed and path must be given: e₀ is random or known")
        if path is None:
            generator = torch.Generator().manual_seed(seed)  # type: ignore[arg-type]
            path = torch.randn(n_walks, config.d_rnn, generator=generator) / config.d_rnn**0.5
        if tuple(path.shape) != (n_walks, config.d_rnn):
            raise ValueError(f"path must be {(n_walks, config.d_rnn)}, got {tuple(path.shape)}")
        empty = self.read_out.weight.new_empty(n_walks, 0, config.d_model)
        return State(path.to(empty), (empty,) * config.n_layers)

    def forward(
        self,
        action: Tensor,
        observation: Tensor,
        state: State | None = None,
        *,
        content: bool = False,
    ) -> tuple[Tensor, State]:
        """Predict the letter after each action.

        Parameters
        ----------
        action, observation : (walk, time)
            Integers: the letter seen at each step and the action then taken. Any length; it is cut
            into chunks of ``config.chunk``, counted from this call's first step.
        state
            What an earlier call returned; by default ``initial_state(walks, seed=0)``.
        content
            Also run the letter stream's last layer, which no prediction needs.

        Returns
        -------
        logits, state : (walk, time, letter), State
            Unnormalised log-probabilities of the letter after each action; for the next call.
        """
        if action.shape != observation.shape or action.ndim != 2 or not action.shape[1]:
            found = f"{tuple(action.shape)} and {tuple(observation.shape)}"
            raise ValueError(f"action and observation must both be (walk, time ≥ 1), got {found}")
        check_range("action", action, len(ACTIONS))
        check_range("observation", observation, self.config.n_letters)
        state = self.initial_state(len(action), seed=0) if state is None else state
        logits, chunk = [], self.config.chunk
        for a, o in zip(action.split(chunk, 1), observation.split(chunk, 1), strict=True):
            answer, state = self.forward_chunk(a, o, state, content)
            logits.append(answer)
        return torch.cat(logits, 1), state

    def forward_chunk(
        self, action: Tensor, observation: Tensor, state: State, content: bool = False
    ) -> tuple[Tensor, State]:
        """One pass over one chunk; see :meth:`forward`. A hook may branch walks or ask less."""
        path = self.path(state.path, action)  # (walk, time + 1, d_rnn)
        place = torch.relu(self.place(path))
        here, there = self.content_position(place[:, :-1]), self.position(place[:, 1:])
        mask = self.letter.weight[-1].expand(*there.shape[:2], -1)
        seen = self.dropout(torch.cat([here, self.letter(observation.long())], -1))
        asked = self.dropout(torch.cat([there, mask], -1))
        memory = []
        for i, (layer, past) in enumerate(zip(self.layers, state.memory, strict=True)):
            memory.append(torch.cat([past, seen], 1)[:, -self.config.memory :].detach())
            last = i == len(self.layers) - 1 and not content
            seen, asked = layer(seen, asked, past, last=last)
            seen, asked = (x if x is None else x.flatten(0, -3) for x in (seen, asked))
        return self.read_out(self.norm(asked)), State(path[:, -1].detach(), tuple(memory))

    @classmethod
    def from_paper_state_dict(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        n_head: int,
        alpha: float,
        chunk: int = 32,
        memory: int = 32,
        world: GridWorld | None = None,
    ) -> NavigationTransformer:
        """Build a network from the tensors of the paper's public code, under their names there.

        Sizes are read off `tensors`; `n_head`, `alpha`, `chunk` and `memory` are what they do not
        tell, `world` the maps they were trained on, if known. Tensors that are missing, unknown or
        of another shape are refused by name; `rew_emb` and `valid_seq_emb` are unused there.
        """
        shape = paper.sizes(tensors, n_head, chunk + memory)
        config = ModelConfig(
            **shape, chunk=chunk, memory=memory, dropout=0.1, activation="nmda", alpha=alpha
        )
        model = cls(config, world)
        model.load_state_dict(paper.translate(tensors), strict=True)
        return model.eval()


def check_range(name: str, values: Tensor, n: int) -> None:
    """Refuse indices outside 0 to n - 1."""
    if values.min() < 0 or values.max() >= n:
        raise ValueError(f"{name} must be in 0–{n - 1}, got {values.min()} to {values.max()}")
