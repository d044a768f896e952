"""Run a network along behaviour, part by part, and write down what its layers put out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer import schema
from placeformer.axes import Span
from placeformer.hooks import Listener, listening
from placeformer.plans import Plan
from placeformer.restore import as_found
from placeformer.resume import Point, copied, is_finished, sole_writer
from placeformer.streams import Memory, Stream, check_extra, check_same, create, opened

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
    """`layer`, `component` and `index` of every unit."""
    widths = [len(listener.index) for listener in listeners]
    names = [listener.label for listener in listeners]
    parts = [name.removeprefix("content.").split(".")[0] for name in names]
    values = {
        "layer": np.repeat(names, widths),
        "component": np.repeat(parts, widths),
        "index": np.concatenate([listener.index for listener in listeners]),
    }
    entries = schema.RECORDING
    return {name: xr.Variable(schema.UNIT, v, entries[name].attrs) for name, v in values.items()}


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
