"""The plan of a recording, and the loop that carries it out batch by batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.recording.hooks import Listener, listening
from placeformer.recording.network_state import as_found, dataset_sha256
from placeformer.recording.output_axes import Span
from placeformer.recording.store import (
    Memory,
    Point,
    Stream,
    check_extra,
    check_same,
    copied,
    create,
    is_finished,
    opened,
    sole_writer,
)


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


Step = Callable[[xr.Dataset, Any], tuple[Any, Mapping[str, Tensor]]]
"""A part of the inputs and the state before it → the state after it, and values of every step."""

Sink = Memory | Stream


@dataclass(frozen=True)
class Job:
    """One recording.

    Attributes
    ----------
    network
        It comes back as it was.
    step
        Runs it over one part.
    inputs
        What it is run on, (walk, time, ...).
    plan
        The parts.
    listeners
        The layers that are recorded.
    base
        All of the recording that is known beforehand, but its units.
    settings
        What decides the recording, for its provenance.
    dtypes
        Names and types of what is recorded: `activation` and what `step` returns.
    seed
        Of the global random numbers, which every part draws anew.
    check_finite
        Refuse values that are NaN or infinite.
    """

    network: nn.Module
    step: Step
    inputs: xr.Dataset
    plan: Plan
    listeners: Sequence[Listener]
    base: xr.Dataset
    settings: Mapping[str, Any]
    dtypes: Mapping[str, str]
    seed: int
    check_finite: bool

    def known(self) -> bool:
        """Tell whether all listeners know what they hear."""
        return all(listener.lay is not None for listener in self.listeners)

    def provenance(self, **found: Any) -> str:
        """Return what decides the recording, and what was found on the way, as JSON."""
        return schema.provenance(self.base, "record", **self.settings, **found)

    def frame(self) -> xr.Dataset:
        """All of the recording but its values."""
        outputs = {
            x.label: {"path": x.path, "dims": x.dims, "width": x.width}
            for x in self.listeners
            if x.dims
        }
        found = {"outputs": outputs} if outputs else {}
        text = self.provenance(**found)
        frame = self.base.assign_coords(unit_coords(self.listeners))
        return frame.assign_attrs({schema.PROVENANCE: text})

    def settled(self, span: Span) -> Job:
        """Leave out optional listeners that heard nothing; the others decide what they heard."""
        job = self.only([x for x in self.listeners if x.calls or not x.optional])
        for listener in job.listeners:
            listener.settle(span)
        return job

    def resumed(self, outputs: Mapping[str, Any]) -> Job:
        """Tell the listeners what they heard in the recording that is gone on with."""
        job = self.only([x for x in self.listeners if x.lay or x.label in outputs])
        for listener in job.listeners:
            if listener.label in outputs:
                about = outputs[listener.label]
                listener.read(about["path"], tuple(about["dims"]), about["width"])
        return job

    def only(self, heard: Sequence[Listener]) -> Job:
        """Record these layers and no others; all of them if there is none."""
        heard = heard or self.listeners
        for listener in self.listeners:
            if listener not in heard:
                listener.ignore()
        return replace(self, listeners=heard)

    def check(self) -> None:
        """Refuse behaviour that would make no Recording, before anything is run."""
        sizes = (*(self.base.sizes[dim] for dim in (schema.WALK, schema.TIME)), 1)
        values = np.broadcast_to(np.float32(0), sizes)
        dims = schema.RECORDING_DIMS
        schema.check_recording(self.base.assign({schema.ACTIVATION: (dims, values)}))


def unit_coords(listeners: Sequence[Listener]) -> dict[str, xr.Variable]:
    """`unit`, `layer`, `component` and `index` of every unit."""
    widths = [len(listener.index) for listener in listeners]
    names = [listener.label for listener in listeners]
    parts = [name.removeprefix("content.").split(".")[0] for name in names]
    values = {
        "layer": np.repeat(names, widths),
        "component": np.repeat(parts, widths),
        "index": np.concatenate([listener.index for listener in listeners]),
    }
    entries = schema.RECORDING
    coords = {name: xr.Variable(schema.UNIT, v, entries[name].attrs) for name, v in values.items()}
    return {schema.UNIT: schema.layer_labels(values["layer"], values["index"]), **coords}


def perform(job: Job, store: Path | None, *, progress: bool) -> xr.Dataset:
    """Record, or go on with the recording that `store` holds."""
    job.check()
    if store is None:
        return complete(job, None, progress=progress)
    check_extra()
    with nullcontext() if is_finished(store) else sole_writer(store):
        if store.exists():
            there = check_same(store, job.provenance())
            if is_finished(store):
                return opened(store)
            job = job.resumed(there.get("outputs", {}))
        return complete(job, store, progress=progress)


def complete(job: Job, store: Path | None, *, progress: bool) -> xr.Dataset:
    """Run what is still to be run, and give the network back as it was."""
    total = job.plan.n_walks * job.plan.n_steps
    bar = tqdm(total=total, unit="step", desc="record", disable=not progress)
    with bar, as_found(job.network), listening(job.listeners):
        return run(job, store, bar).finish()


def run(job: Job, store: Path | None, bar: tqdm[Any]) -> Sink:
    """Run all parts; where they go is opened when the listeners know what they hear."""
    sink = open_sink(job, store) if job.known() else None
    point = Point() if sink is None else sink.point
    state = point.state
    bar.update(job.plan.passed(point))
    for w, t in job.plan.parts(point):
        kept = job.plan.kept(w, t, point)
        target = None if sink is None else Target(job, sink, w, t, kept)
        before = state if t.start else None
        here = Point(w.start, t.start, state=None if store is None else copied(before))
        reseed(device_of(job.network), job.seed, w.start, t.start)
        state, answers = job.step(job.inputs.isel(walk=w, time=t), before)
        if sink is None or target is None:
            job = job.settled(Span(w.stop - w.start, t.stop - t.start))
            sink = open_sink(job, store)
            target = Target(job, sink, w, t, kept)
        target.collect(answers)
        sink.done(w, kept, here)
        bar.update((w.stop - w.start) * (t.stop - t.start))
    return sink or open_sink(job, store)


def open_sink(job: Job, store: Path | None) -> Sink:
    """Open memory or a store, which is made unless it is there."""
    if store is None:
        return Memory(job.frame(), job.dtypes)
    if not store.exists():
        create(store, job.frame(), job.dtypes, job.plan.batch)
    return Stream(store, job.dtypes, job.plan.chunk)


class Target:
    """Where the values of one part go: on an accelerator through a buffer of that part there."""

    def __init__(self, job: Job, sink: Sink, w: slice, t: slice, kept: slice) -> None:
        self.job, self.walks, self.steps = job, w, t
        self.cut = (t.stop - t.start) - (kept.stop - kept.start)
        self.part = sink.part(w, kept)
        self.values = out = self.part[schema.ACTIVATION]
        device = device_of(job.network)
        if device.type != "cpu":
            self.values = out = torch.empty(out.shape, dtype=out.dtype, device=device)
        column = 0
        for listener in job.listeners:
            width = len(listener.index)
            listener.aim(out[..., column : column + width], self.cut)
            column += width

    def collect(self, answers: Mapping[str, Tensor]) -> None:
        """Check what the listeners wrote, and write what the run returned."""
        for listener in self.job.listeners:
            listener.check_called(self.steps.stop - self.steps.start)
        if self.job.check_finite:
            self.refuse_not_finite()
        if self.values is not self.part[schema.ACTIVATION]:
            self.part[schema.ACTIVATION].copy_(self.values)
        for name, value in answers.items():
            self.part[name].copy_(value[:, self.cut :])

    def refuse_not_finite(self) -> None:
        """Raise the error that names the units; a sum tells whether there are any."""
        if torch.isfinite(self.values.sum(dtype=torch.float32)):
            return
        bad = (~torch.isfinite(self.values)).sum((0, 1)).cpu().numpy()
        if bad.any():
            names = [f"{x.label}/{i}" for x in self.job.listeners for i in x.index]
            units = [names[i] for i in np.flatnonzero(bad)]
            raise ValueError(
                f"activation must be finite, and {int(bad.sum()):,} values of {len(units)} units "
                f"({', '.join(units[:5])}{', ...' if units[5:] else ''}) are NaN or infinite as "
                f"{self.job.dtypes[schema.ACTIVATION]} in walks {self.walks.start} to "
                f"{self.walks.stop - 1}, steps {self.steps.start} to {self.steps.stop - 1}; "
                "check_finite=False records them"
            )


def device_of(network: nn.Module) -> torch.device:
    """Device of the network's first parameter or buffer."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def reseed(device: torch.device, seed: int, *where: int) -> None:
    """Seed the global random numbers for the part that begins there.

    Where no accelerator is in use `torch.manual_seed` takes long: it notes its caller for later.
    """
    number = int(np.random.SeedSequence([seed, *where]).generate_state(1)[0])
    alone = device.type == "cpu" and not torch.cuda.is_initialized()
    (torch.default_generator if alone else torch).manual_seed(number)
    np.random.seed(number)  # noqa: NPY002
    random.seed(number)
