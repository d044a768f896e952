"""The Transformer-XL layer of the network: attention and NMDA_α units over both streams.

The *content* stream holds the place and the letter of every step, the *query* stream the place just
moved to and a mask. Content attends causally to content; a query attends to the content before it
and to itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from placeformer.activation import make_activation

if TYPE_CHECKING:
    from placeformer.model import ModelConfig

Streams = tuple[Tensor | None, Tensor]  # content (None where nothing needs it) and query


class RelativeAttention(nn.Module):
    """Causal attention with learned relative position embeddings and biases."""

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
        self.weights = nn.Identity()  # query stream, (walk, head, time, memory + chunk + 1)
        self.content_weights = nn.Identity()

    def heads(self, x: Tensor, first: int, count: int) -> tuple[Tensor, ...]:
        """Project to `count` of query, key, value from the `first` on: (head, walk, time, d)."""
        width = self.n_heads * self.d_head
        y = F.linear(x, self.qkv.weight[first * width : (first + count) * width])
        y = y.view(*x.shape[:2], count, self.n_heads, self.d_head)
        return tuple(part.contiguous() for part in y.permute(2, 3, 0, 1, 4).unbind(0))

    def relative(self, q: Tensor, nearest: int, n_keys: int) -> Tensor:
        """q_i · R_δ + c_δ for every key, (head, walk, query, key).

        Key j of query i is δ = i − j + n_keys − n_queries + `nearest` steps away; `nearest` is the
        distance of the last key that a query may see, and those it may not see get −∞.
        """
        reach, steps, width = self.distance.shape[1], q.shape[2], n_keys + q.shape[2] - 1
        # Farthest first, keys not to be seen last. Row i needs these columns from steps - 1 - i on,
        # which is what rows one column shorter find in the same memory (Transformer-XL's trick).
        delta = torch.arange(n_keys - 1 + nearest, nearest - 1, -1, device=q.device)
        delta = delta.clamp(max=reach - 1)
        table = F.pad(self.distance[:, delta].transpose(1, 2), (0, steps))  # (head, d, width + 1)
        bias = F.pad(self.distance_bias[:, None, delta], (0, steps), value=-math.inf)
        score = torch.baddbmm(bias, q.flatten(1, 2), table).view(*q.shape[:2], -1)
        score = score[..., steps - 1 : steps - 1 + steps * width].unflatten(2, (steps, width))
        return score[..., :n_keys]

    def forward(self, content: Tensor, query: Tensor, memory: Tensor, *, last: bool) -> Streams:
        """Attend; (walk, time, d_model) both → the residual updates of content and query.

        With `last` the content's update is not needed by anything and None is returned for it.
        """
        content, query = self.norm(content), self.norm(query)
        k, v = self.heads(torch.cat([self.norm(memory), content], 1), 1, 2)
        u, n_keys = self.query_bias[:, None, None], k.shape[2]

        q, own_k, own_v = self.heads(query, 0, 3)
        score = (q + u) @ k.transpose(2, 3) + self.relative(q, 1, n_keys)
        own = ((q + u) * own_k + q * self.distance[:, None, :1]).sum(-1, keepdim=True)
        own = own + self.distance_bias[:, None, None, :1]
        weights = self.shares(torch.cat([score, own], -1), self.weights)
        query = self.merge(weights[..., :-1] @ v + weights[..., -1:] * own_v)
        if last:
            return None, query

        (q,) = self.heads(content, 0, 1)
        score = (q + u) @ k.transpose(2, 3) + self.relative(q, 0, n_keys)
        return self.merge(self.shares(score, self.content_weights) @ v), query

    def shares(self, score: Tensor, weights: nn.Module) -> Tensor:
        """Softmax over keys; the shares pass through `weights`, there (walk, head, time, key)."""
        share = torch.softmax(score / math.sqrt(self.d_head), -1)
        return self.dropout(weights(share.transpose(0, 1))).transpose(0, 1)

    def merge(self, read: Tensor) -> Tensor:
        """(head, walk, time, d) → (walk, time, d_model)."""
        return self.dropout(self.out(read.permute(1, 2, 0, 3).flatten(2)))


class FeedForward(nn.Module):
    """LayerNorm, NMDA_α units, projection; no biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.d_inner, bias=False)
        self.activation = make_activation(config.activation, config.alpha)
        self.fc2 = nn.Linear(config.d_inner, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.units = nn.Identity()  # query stream, (walk, time, d_inner)
        self.content_units = nn.Identity()

    def forward(self, x: Tensor, units: nn.Module) -> Tensor:
        """(walk, time, d_model) → its residual update; the hidden units pass through `units`."""
        hidden = units(self.activation(self.fc1(self.norm(x))))
        return self.dropout(self.fc2(self.dropout(hidden)))


class Layer(nn.Module):
    """One pre-LayerNorm Transformer-XL layer over both streams."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = RelativeAttention(config)
        self.ffn = FeedForward(config)

    def forward(self, content: Tensor, query: Tensor, memory: Tensor, *, last: bool) -> Streams:
        """Return both streams, updated; the last layer's content only if it is recorded."""
        update, query_update = self.attention(content, query, memory, last=last)
        query = query + query_update
        query = query + self.ffn(query, self.ffn.units)
        if update is None:
            return None, query
        content = content + update
        return content + self.ffn(content, self.ffn.content_units), query
