"""Steps as CUDA graphs: launching many small kernels one by one takes longer than running them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
        Takes one hashable argument and tensors, and returns tensors that no gradient is asked of.
        Whatever else it reads or changes, such as weights and an optimizer's moments, stays at the
        same place in memory and is changed in place.
    """

    def __init__(self, function: Step) -> None:
        self.function = function
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.calls = Counter[Any]()
        self.graphs: dict[Any, Graph] = {}

    def __call__(self, way: Hashable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call the function: as it is at first, by its graph from then on."""
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
        """Call the function on another stream than the usual one, as before a capture it must."""
        usual = torch.cuda.current_stream()
        self.stream.wait_stream(usual)
        with torch.cuda.stream(self.stream):
            outputs = self.function(way, *inputs)
        usual.wait_stream(self.stream)
        return outputs

    def capture(self, way: Hashable, *inputs: Tensor) -> Graph:
        """Write down the kernels of a call; none of them runs. One pool serves all graphs."""
        own, graph = tuple(x.clone() for x in inputs), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            outputs = self.function(way, *own)
        return Graph(graph.replay, own, outputs)
