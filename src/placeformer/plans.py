"""What a recording is made of: its options, and the parts a network is run in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer.fingerprints import dataset_sha256
from placeformer.hooks import Listener
from placeformer.resume import Point


@dataclass(frozen=True)
class Plan:
    """How behaviour is cut into parts: `batch` walks and `chunk` steps at once.

    The first `burn_in` steps of every walk are run and not recorded.
    """

    n_walks: int
    n_steps: int
    batch: int
    chunk: int
    burn_in: int

    def parts(self, point: Point) -> Iterator[tuple[slice, slice]]:
        """Walks and steps of every part from a point on; a walk's parts follow each other."""
        for walk in range(point.walk, self.n_walks, self.batch):
            w = slice(walk, min(walk + self.batch, self.n_walks))
            for step in range(point.step if walk == point.walk else 0, self.n_steps, self.chunk):
                yield w, slice(step, min(step + self.chunk, self.n_steps))

    def passed(self, point: Point) -> int:
        """Steps that were run before a point."""
        walks = min(self.batch, self.n_walks - point.walk)
        return point.walk * self.n_steps + walks * point.step

    def kept(self, w: slice, t: slice, point: Point) -> slice:
        """Those steps of a part that are recorded and not stored already, in recorded steps."""
        stored = point.stored if w.start == point.walk else 0
        stop = max(t.stop - self.burn_in, 0)
        return slice(min(max(t.start - self.burn_in, stored), stop), stop)


@dataclass(frozen=True)
class Options:
    """Options of a recording that hold for every network."""

    units: Mapping[str, NDArray[np.int64]]
    seed: int
    burn_in: int | None
    batch: int | None
    chunk: int | None
    dtype: str
    check_finite: bool

    def skip(self, default: int) -> int:
        """First steps that are not recorded."""
        return default if self.burn_in is None else self.burn_in

    def plan(self, walks: xr.Dataset, skip: int, batch: int, chunk: int) -> Plan:
        """Cut the walks into parts; `batch` and `chunk` are the defaults."""
        n_walks, n_steps = walks.sizes[schema.WALK], walks.sizes[schema.TIME]
        if not 0 <= skip < n_steps:
            raise ValueError(
                f"burn_in must be in 0–{n_steps - 1} for walks of {n_steps} steps, got {skip}"
            )
        batch = batch if self.batch is None else self.batch
        chunk = chunk if self.chunk is None else self.chunk
        if batch < 1 or chunk < 1:
            raise ValueError(f"batch and chunk must be at least 1, got {batch} and {chunk}")
        return Plan(n_walks, n_steps, min(batch, n_walks), min(chunk, n_steps), skip)

    def chosen(self, listeners: Sequence[Listener]) -> Sequence[Listener]:
        """Listeners to the wanted units only."""
        left = dict(self.units)
        for listener in listeners:
            listener.units = left.pop(listener.label, None)
            listener.check_units()
        if left:
            there = ", ".join(listener.label for listener in listeners)
            raise ValueError(f"units: {', '.join(left)} is no layer recorded; these are {there}")
        return listeners

    def settings(self, walks: xr.Dataset, plan: Plan) -> dict[str, Any]:
        """What decides a recording beside the network and its layers, for its provenance."""
        return {
            "units": self.units,
            "burn_in": plan.burn_in,
            "batch": plan.batch,
            "chunk": plan.chunk,
            "dtype": self.dtype,
            "check_finite": self.check_finite,
            "walks_sha256": dataset_sha256(walks),
        }
