"""The navigation Transformer: path integrator, relative attention, NMDA feed-forward layers.

Two streams run through the layers. The *content* stream holds the letters seen so far, each with
the place where it was seen; later steps attend to it. The *query* stream holds the next places with
the letter masked; the prediction is read out of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import index
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from placeformer.models import paper_weights as paper
from placeformer.models import summary
from placeformer.models.activation import alpha_to_mg, check_activation, make_activation
from placeformer.models.fingerprints import current_info
from placeformer.models.grid_world import ACTIONS, GridWorld

RECIPE = "recipe.toml"

Streams = tuple[Tensor | None, Tensor]
"""Content (None where it is not needed) and query, each (walk, time, d_model)."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and activation of a :class:`NavigationTransformer`.

    Attributes
    ----------
    n_letters, d_model, n_layers
        Number of letters, width of the network, number of layers.
    n_heads, d_head, d_inner, d_rnn
        Attention heads, width of a head, feed-forward units per layer, width of the path
        integrator.
    chunk, memory
        Number of steps processed at once, and number of earlier steps remembered beyond them.
    dropout
        Dropout probability, at least 0 and below 1; applied in training only.
    activation
        "nmda", "relu", "gelu", "leaky_relu" or "tanh".
    alpha
        [Mg²⁺]/K_Mg of NMDA_α, dimensionless, ≥ 0; None for every other activation.

    Raises
    ------
    ValueError
        A size below 1, an odd `d_model`, a `dropout` out of range, an unknown activation, or an
        `alpha` that does not go with it.

    See Also
    --------
    NavigationTransformer : The network that it configures.
    NMDA : The activation of its feed-forward units.
    load : Load a trained network.

    Examples
    --------
    >>> import placeformer as pf
    >>> from dataclasses import replace
    >>> config = pf.load("mini-nmda-a10").config
    >>> config.n_layers, config.d_inner, config.alpha
    (2, 256, 10.0)
    >>> replace(config, activation="gelu", alpha=None).activation
    'gelu'
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
        number = isinstance(self.dropout, int | float) and not isinstance(self.dropout, bool)
        if not (number and 0 <= self.dropout < 1):
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout!r}")
        check_activation(self.activation, self.alpha)


class State(NamedTuple):
    """State that the network carries from one chunk to the next, detached from the graph."""

    path: Tensor  # (walk, d_rnn)
    memory: tuple[Tensor, ...]  # per layer (walk, ≤ memory, d_model)


class PathIntegrator(nn.Module):
    """Integrates the actions into a position: e_{t+1} = tanh(e_t + e_t W_a).

    It runs in the precision of its weights even under autocast, since rounding errors accumulate
    over a walk.
    """

    def __init__(self, n_actions: int, d_rnn: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_actions, d_rnn, d_rnn))

    def forward(self, path: Tensor, action: Tensor) -> Tensor:
        """(walk, d_rnn), (walk, time) → (walk, time + 1, d_rnn), starting with `path`."""
        n_actions, d_rnn, _ = self.weight.shape
        matrices = self.weight.permute(1, 0, 2).reshape(d_rnn, n_actions * d_rnn)
        chosen = F.one_hot(action.long(), n_actions).to(path.dtype)[..., None]  # (walk, time, a, 1)
        states = [path]
        with torch.autocast(path.device.type, enabled=False):
            for t in range(action.shape[1]):
                moved = (path @ matrices).view(-1, n_actions, d_rnn)
                path = torch.tanh(path + (moved * chosen[:, t]).sum(1))
                states.append(path)
        return torch.stack(states, dim=1)


class RelativeAttention(nn.Module):
    """Causal attention with learned relative position embeddings and biases, for both streams."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.d_head = config.n_heads, config.d_head
        width, reach = config.n_heads * config.d_head, config.memory + config.chunk
        self.norm = nn.LayerNorm(config.d_model)
        self.qkv = nn.Linear(config.d_model, 3 * width, bias=False)
        self.out = nn.Linear(width, config.d_model, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(config.n_heads, config.d_head))
        self.distance = nn.Parameter(torch.zeros(config.n_heads, reach, config.d_head))
        self.distance_bias = nn.Parameter(torch.zeros(config.n_heads, reach))
        self.dropout = nn.Dropout(config.dropout)
        # Hook points, (walk, head, time, key); the last key of a query is its own.
        self.weights, self.content_weights = nn.Identity(), nn.Identity()

    def heads(self, x: Tensor, first: int, count: int) -> tuple[Tensor, ...]:
        """`count` of (query, key, value), starting at the `first`: each (head, walk, time, d)."""
        width = self.n_heads * self.d_head
        y = F.linear(x, self.qkv.weight[first * width : (first + count) * width])
        y = y.view(*x.shape[:2], count, self.n_heads, self.d_head)
        return tuple(part.contiguous() for part in y.permute(2, 3, 0, 1, 4).unbind(0))

    def relative(self, q: Tensor, nearest: int, n_keys: int) -> Tensor:
        """q_i · R_δ + c_δ for every key, (head, walk, query, key).

        Key j of query i is δ = i − j + n_keys − n_queries + `nearest` steps away; `nearest` is the
        distance of the last key that a query may attend to, and later keys get −∞.
        """
        reach, steps, width = self.distance.shape[1], q.shape[2], n_keys + q.shape[2] - 1
        # The farthest key comes first, masked keys last. Row i needs these columns from
        # steps - 1 - i onwards; viewing the same memory as rows that are one column shorter shifts
        # every row by one more column (the relative shift of Transformer-XL).
        delta = torch.arange(n_keys - 1 + nearest, nearest - 1, -1, device=q.device)
        delta = delta.clamp(max=reach - 1)
        table = F.pad(self.distance[:, delta].transpose(1, 2), (0, steps))  # (head, d, width + 1)
        bias = F.pad(self.distance_bias[:, None, delta], (0, steps), value=-math.inf)
        score = torch.baddbmm(bias, q.flatten(1, 2), table).view(*q.shape[:2], -1)
        score = score[..., steps - 1 : steps - 1 + steps * width].unflatten(2, (steps, width))
        return score[..., :n_keys]

    def forward(self, content: Tensor, query: Tensor, memory: Tensor, *, last: bool) -> Streams:
        """Residual updates of content and query, each (walk, time, d_model).

        With `last`, the update of the content is not needed, and None is returned for it.
        """
        content, query = self.norm(content), self.norm(query)
        k, v = self.heads(torch.cat([self.norm(memory), content], 1), 1, 2)
        u, n_keys = self.query_bias[:, None, None], k.shape[2]

        q, own_k, own_v = self.heads(query, 0, 3)
        score = (q + u) @ k.transpose(2, 3) + self.relative(q, 1, n_keys)
        own = ((q + u) * own_k + q * self.distance[:, None, :1]).sum(-1, keepdim=True)
        own = own + self.distance_bias[:, None, None, :1]
        weights = self.softmax(torch.cat([score, own], -1), self.weights)
        query = self.merge(weights[..., :-1] @ v + weights[..., -1:] * own_v)
        if last:
            return None, query

        (q,) = self.heads(content, 0, 1)
        score = (q + u) @ k.transpose(2, 3) + self.relative(q, 0, n_keys)
        return self.merge(self.softmax(score, self.content_weights) @ v), query

    def softmax(self, score: Tensor, hook_point: nn.Module) -> Tensor:
        """Attention weights, which pass through `hook_point` as (walk, head, time, key)."""
        weights = torch.softmax(score / math.sqrt(self.d_head), -1)
        return self.dropout(hook_point(weights.transpose(0, 1))).transpose(0, 1)

    def merge(self, read: Tensor) -> Tensor:
        """(head, walk, time, d) → (walk, time, d_model)."""
        return self.dropout(self.out(read.permute(1, 2, 0, 3).flatten(2)))


class FeedForward(nn.Module):
    """LayerNorm, NMDA_α units (walk, time, d_inner), projection; no biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.d_inner, bias=False)
        self.activation = make_activation(config.activation, config.alpha)
        self.fc2 = nn.Linear(config.d_inner, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.units, self.content_units = nn.Identity(), nn.Identity()  # hook points

    def forward(self, x: Tensor, hook_point: nn.Module) -> Tensor:
        """(walk, time, d_model) → its residual update; the units pass through `hook_point`."""
        hidden = hook_point(self.activation(self.fc1(self.norm(x))))
        return self.dropout(self.fc2(self.dropout(hidden)))


class Layer(nn.Module):
    """One pre-LayerNorm Transformer-XL layer, applied to both streams."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = RelativeAttention(config)
        self.ffn = FeedForward(config)

    def forward(self, content: Tensor, query: Tensor, memory: Tensor, *, last: bool) -> Streams:
        """Update both streams; with `last`, the content is not needed and becomes None."""
        update, query_update = self.attention(content, query, memory, last=last)
        query = query + query_update
        query = branched(query, self.ffn(query, self.ffn.units))
        if update is None:
            return None, query
        content = content + update
        return branched(content, self.ffn(content, self.ffn.content_units)), query


def branched(x: Tensor, update: Tensor) -> Tensor:
    """Add the feed-forward update to the residual stream, branching the stream if needed.

    A hook on the hook points of :class:`FeedForward` may return several versions of the same walks,
    one block of walks per version: ``interventions.batched_lesions`` lesions different units in
    each. The update then has a multiple of the walks of `x`, and `x` is added to every block.
    Everything before the hook is computed once, and later layers treat the blocks as further walks.
    """
    if len(update) == len(x):
        return x + update
    return (x + update.unflatten(0, (-1, len(x)))).flatten(0, 1)


class NavigationTransformer(nn.Module):
    """Transformer that predicts the letter at the next place of a walk on a grid map.

    ``repr`` is a short summary; ``torch.nn.Module.__repr__(model)`` lists the modules.

    Parameters
    ----------
    config
        Sizes and activation.
    world
        The maps that it is trained on, with the same number of letters; None for a network that
        only runs along walks of the caller.

    Attributes
    ----------
    config, world
        As given.
    info : dict
        Name, source, checksum and stored results of a network that was loaded; empty for a new
        one.

    Raises
    ------
    ValueError
        If `config` and `world` differ in the number of letters.

    See Also
    --------
    ModelConfig : Its sizes and activation.
    GridWorld : The maps that it is trained on.
    load, train : Load a trained network, or train one.
    record : Record its activations.

    Examples
    --------
    >>> import placeformer as pf
    >>> import torch
    >>> model = pf.load("mini-nmda-a10")
    >>> new = pf.NavigationTransformer(model.config, model.world).init_weights(seed=0)
    >>> walk = new.world.walk(n_walks=3, n_steps=100, seed=1)
    >>> logits, state = new(torch.tensor(walk.action.values), torch.tensor(walk.observation.values))
    >>> logits.shape
    torch.Size([3, 100, 10])
    """

    _temporary_alpha = False
    """Whether `config.alpha` is that of an open block of :func:`magnesium` or :func:`perturb`."""

    def __init__(self, config: ModelConfig, world: GridWorld | None = None) -> None:
        super().__init__()
        if world is not None and world.n_letters != config.n_letters:
            raise ValueError(
                f"config.n_letters must equal the world's, got {config.n_letters} and "
                f"{world.n_letters}"
            )
        self.config, self.world, self.info = config, world, dict[str, Any]()
        self.path = PathIntegrator(len(ACTIONS), config.d_rnn)
        self.place = nn.Linear(config.d_rnn, config.d_model // 2)
        # Hook points: place embedding of each stream, (walk, time, d_model / 2).
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
                    new = torch.empty(weight.shape, dtype=torch.float32, device="cpu")
                    weight.copy_(new.normal_(0, 0.02, generator=generator))
        return self

    def initial_state(
        self, n_walks: int, *, seed: int | None = None, path: Tensor | None = None
    ) -> State:
        """Return the state at the start of walks: an empty memory, and the path integrator at e₀.

        Give exactly one of `path`, e₀ itself (walk, d_rnn), and `seed`, from which
        e₀ ~ N(0, 1/d_rnn) is drawn.
        """
        config = self.config
        if (seed is None) == (path is None):
            given = "neither" if path is None else "both"
            raise ValueError(
                f"exactly one of seed and path must be given, as e₀ is random or known, got {given}"
            )
        if path is None:
            try:
                number = index(seed)  # type: ignore[arg-type]
            except TypeError:
                number = -1
            if not 0 <= number < 2**63:
                raise ValueError(f"seed must be a whole number ≥ 0, got {seed!r:.200}")
            generator = torch.Generator().manual_seed(number)
            # Not in the default dtype, on which the draws depend, and on the generator's device.
            size = n_walks, config.d_rnn
            path = torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")
            path /= config.d_rnn**0.5
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
            State returned by an earlier call; by default ``initial_state(walks, seed=0)``.
        content
            Also run the last layer of the letter stream, which no prediction needs.

        Returns
        -------
        logits, state : (walk, time, letter), State
            Unnormalised log-probabilities of the letter after each action, and the state to pass to
            the next call.

        Raises
        ------
        ValueError
            Inputs of different or wrong shapes, and actions or letters that are not whole numbers
            or are out of range.
        """
        if action.shape != observation.shape or action.ndim != 2 or not action.shape[1]:
            raise ValueError(
                "action and observation must both be (walk, time ≥ 1), got "
                f"{tuple(action.shape)} and {tuple(observation.shape)}"
            )
        check_range("action", action, len(ACTIONS))
        check_range("observation", observation, self.config.n_letters)
        state = self.initial_state(len(action), seed=0) if state is None else state
        logits, chunk = [], self.config.chunk
        for a, o in zip(action.split(chunk, 1), observation.split(chunk, 1), strict=True):
            part, state = self.forward_chunk(a, o, state, content)
            logits.append(part)
        return torch.cat(logits, 1), state

    def forward_chunk(
        self, action: Tensor, observation: Tensor, state: State, content: bool = False
    ) -> tuple[Tensor, State]:
        """Run one chunk; see :meth:`forward`.

        Hooks may drop steps of the query stream (at `position`) and branch walks
        (``branched``); `logits` then has the steps and walks that remain.
        """
        path = self.path(state.path, action)  # (walk, time + 1, d_rnn)
        place = torch.relu(self.place(path))
        here, there = self.content_position(place[:, :-1]), self.position(place[:, 1:])
        mask = self.letter.weight[-1].expand(*there.shape[:2], -1)
        x = self.dropout(torch.cat([here, self.letter(observation.long())], -1))
        query = self.dropout(torch.cat([there, mask], -1))
        memory = []
        for i, (layer, past) in enumerate(zip(self.layers, state.memory, strict=True)):
            memory.append(torch.cat([past, x], 1)[:, -self.config.memory :].detach())
            last = i == len(self.layers) - 1 and not content
            x, query = layer(x, query, past, last=last)
        return self.read_out(self.norm(query)), State(path[:, -1].detach(), tuple(memory))

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
        """Build a network from a state dict of the paper's public code.

        Sizes are inferred from `tensors`, except `n_head`, `alpha`, `chunk` and `memory`; `world`
        holds the maps of the training, if known. Tensors that are missing, unknown or of another
        shape raise an error that names them; `rew_emb` and `valid_seq_emb`, which that code does
        not use, are ignored.
        """
        shape = paper.sizes(tensors, n_head, chunk + memory)
        config = ModelConfig(
            **shape, chunk=chunk, memory=memory, dropout=0.1, activation="nmda", alpha=alpha
        )
        model = cls(config, world)
        model.load_state_dict(paper.translate(tensors), strict=True)
        return model.eval()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        map_location: str = "cpu",
    ) -> Self:
        """Load a network from the zoo, a folder or the hub, in eval mode.

        See :func:`placeformer.load`; `map_location` is its `device`. A network is loaded exactly
        as it was saved: its configuration cannot be overridden.
        """
        import placeformer as pf

        model = pf.load(
            pretrained_model_name_or_path,
            revision=revision,
            device=map_location,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        if not isinstance(model, cls):
            raise TypeError(f"{cls.__name__} cannot be loaded: a {type(model).__name__} was saved")
        return model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Save the network without rounding, replacing a network that is in the folder.

        See :func:`placeformer.save`. With `push_to_hub` it is also pushed, by default to a
        repository with the name of the folder, and the URL of the commit is returned.
        """
        import placeformer as pf

        if push_to_hub_kwargs and not push_to_hub:
            raise TypeError(f"push_to_hub must be True to use {', '.join(push_to_hub_kwargs)}")
        pf.save(self, save_directory, dtype="exact", overwrite=True)
        if not push_to_hub:
            return None
        name = Path(save_directory).resolve().name
        return self.push_to_hub(repo_id or name, **push_to_hub_kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool = False,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Push the network as one commit, and return its URL; see :func:`placeformer.push`."""
        import placeformer as pf

        return pf.push(
            self,
            repo_id,
            private=private,
            token=token,
            revision=branch,
            commit_message=commit_message,
            create_pr=create_pr,
        )

    def summary(self) -> dict[str, Any]:
        """Summary of the network as a JSON-serialisable dict.

        Returns
        -------
        dict
            `name`, `activation`, `alpha` and `mg_mM` (None for other activations), `parameters`,
            `layers`, `width`, `heads`, `units` (feed-forward units per layer), `world` (side or
            shape, letters, maps, seed, and walls if any; None without a world), `results` (name →
            number) with their `definitions`, `recipe` (path; None without a recipe), `source`,
            `sha256` (None for a network that was not loaded) and `changed`: whether its weights, α
            or units have been changed since it was loaded, so that the stored `results` and
            `sha256` are not its own and are left out.
        """
        config, world, info = self.config, self.world, current_info(self)
        recipe = Path(info["folder"], RECIPE) if "folder" in info else None
        return {
            "name": info.get("name"),
            "activation": config.activation,
            "alpha": config.alpha,
            "mg_mM": None if config.alpha is None else alpha_to_mg(config.alpha),
            "parameters": sum(weight.numel() for weight in self.parameters()),
            "layers": config.n_layers,
            "width": config.d_model,
            "heads": config.n_heads,
            "units": config.d_inner,
            "world": None if world is None else world.settings,
            "results": dict(info.get("results", {})),
            "definitions": dict(info.get("definitions", {})),
            "recipe": str(recipe) if recipe and recipe.is_file() else None,
            "source": info.get("source"),
            "sha256": info.get("sha256"),
            "changed": "sha256" in self.info and "sha256" not in info,
        }

    def __repr__(self) -> str:
        return summary.text(type(self).__name__, self.summary())

    def _repr_html_(self) -> str:
        return summary.html(type(self).__name__, self.summary())


def check_range(name: str, values: Tensor, n: int) -> None:
    """Raise for indices that are not whole numbers from 0 to n - 1."""
    if values.is_floating_point() or values.is_complex():
        raise ValueError(f"{name} must hold whole numbers, got {values.dtype}; use {name}.long()")
    if values.min() < 0 or values.max() >= n:
        raise ValueError(f"{name} must be in 0–{n - 1}, got {values.min()} to {values.max()}")
