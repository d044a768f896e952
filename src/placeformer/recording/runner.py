"""A recording as a job, and the loop that runs it part by part."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer._options import check_whole
from placeformer.data import schema
from placeformer.models.memory import NUMBERS, along
from placeformer.recording.hooks import LayerHook, attached
from placeformer.recording.network_state import Snapshot, as_found
from placeformer.recording.output_axes import SAMPLE, Span, confirm
from placeformer.recording.store import (
    Memory,
    Point,
    Stream,
    check_extra,
    check_same,
    copied,
    create,
    is_finished,
    load_point,
    opened,
    sole_writer,
)


@dataclass(frozen=True)
class Plan:
    """Division of behaviour into parts of `batch` walks and `chunk` steps.

    The first `burn_in` steps of every walk are run but not recorded.
    """

    n_walks: int
    n_steps: int
    batch: int
    chunk: int
    burn_in: int

    @classmethod
    def of(cls, walks: xr.Dataset, *, batch: int, chunk: int, burn_in: int) -> Plan:
        """Divide these walks into parts of at most `batch` walks and `chunk` steps."""
        n_walks, n_steps = walks.sizes[schema.WALK], walks.sizes[schema.TIME]
        check_whole("burn_in", burn_in, 0)
        if burn_in >= n_steps:
            raise ValueError(
                f"burn_in must be in 0–{n_steps - 1} for walks of {n_steps} steps, got {burn_in}"
            )
        check_whole("batch", batch)
        check_whole("chunk", chunk)
        return cls(n_walks, n_steps, min(batch, n_walks), min(chunk, n_steps), burn_in)

    def parts(self, point: Point) -> Iterator[tuple[slice, slice]]:
        """Yield walks and steps of every part from a point on, walk by walk."""
        for walk in range(point.walk, self.n_walks, self.batch):
            w = slice(walk, min(walk + self.batch, self.n_walks))
            for step in range(point.step if walk == point.walk else 0, self.n_steps, self.chunk):
                yield w, slice(step, min(step + self.chunk, self.n_steps))

    def passed(self, point: Point) -> int:
        """Number of steps that were run before a point."""
        walks = min(self.batch, self.n_walks - point.walk)
        return point.walk * self.n_steps + walks * point.step

    def kept(self, w: slice, t: slice, point: Point) -> slice:
        """Steps of a part that remain to be stored, as a slice of the recorded steps."""
        stored = point.stored if w.start == point.walk else 0
        stop = max(t.stop - self.burn_in, 0)
        return slice(min(max(t.start - self.burn_in, stored), stop), stop)


Step = Callable[[xr.Dataset, Any], tuple[Any, Mapping[str, Tensor]]]
"""Function of a part of the inputs and the state before it → state after it, values per step."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One recording.

    Attributes
    ----------
    network
        The network, which is restored afterwards.
    step
        Function that runs the network over one part.
    inputs
        Inputs of the network, (walk, time, ...).
    plan
        Division into parts.
    hooks
        Hooks on the layers that are recorded.
    base
        Everything in the recording that is known beforehand, except its units.
    about
        Further provenance: network, layers, seeds and inputs.
    units
        Indices of the selected units, by layer.
    dtype
        Dtype of the activations.
    values
        Names and dtypes of the values that `step` returns for every step.
    seed
        Seed of the global random numbers, which are reseeded for every part.
    check_finite
        Whether NaN and infinite activations raise an error.
    """

    network: nn.Module
    step: Step
    inputs: xr.Dataset
    plan: Plan
    hooks: Sequence[LayerHook]
    base: xr.Dataset
    about: Mapping[str, Any]
    units: Mapping[str, NDArray[np.int64]]
    dtype: str
    seed: int
    check_finite: bool
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def dtypes(self) -> dict[str, str]:
        """Names and dtypes of all recorded variables."""
        return {schema.ACTIVATION: self.dtype, **self.values}

    def axes_known(self) -> bool:
        """Whether the axes of all outputs are known."""
        return all(hook.lay is not None for hook in self.hooks)

    def provenance(self, **inferred: Any) -> str:
        """JSON text of all settings of the recording, and of inferred ones."""
        settings = {
            **self.about,
            "units": self.units,
            "burn_in": self.plan.burn_in,
            "batch": self.plan.batch,
            "chunk": self.plan.chunk,
            "dtype": self.dtype,
            "check_finite": self.check_finite,
        }
        kind = device_of(self.network).type
        if torch.is_autocast_enabled(kind):
            settings["autocast"] = str(torch.get_autocast_dtype(kind))
        return schema.provenance(self.base, "record", **settings, **inferred)

    def frame(self) -> xr.Dataset:
        """The recording without its values."""
        outputs = {
            hook.label: {"path": hook.path, "dims": hook.dims, "width": hook.width}
            for hook in self.hooks
            if hook.dims
        }
        text = self.provenance(**({"outputs": outputs} if outputs else {}))
        frame = self.base.assign_coords(unit_coords(self.hooks))
        return frame.assign_attrs({schema.PROVENANCE: text})

    def with_inferred_axes(self, span: Span) -> Job:
        """Drop optional layers that have no steps, and infer the axes of the others."""
        kept = [h for h in self.hooks if not h.optional or (h.calls and h.has_steps(span))]
        job = self.with_hooks(kept)
        for hook in job.hooks:
            hook.infer_axes(span)
        return job

    def with_stored_axes(self, outputs: Mapping[str, Any]) -> Job:
        """Take layers and axes from the recording that is being resumed."""
        job = self.with_hooks([hook for hook in self.hooks if hook.lay or hook.label in outputs])
        for hook in job.hooks:
            if hook.label in outputs:
                stored = outputs[hook.label]
                hook.set_axes(stored["path"], tuple(stored["dims"]), stored["width"])
        return job

    def with_hooks(self, hooks: Sequence[LayerHook]) -> Job:
        """Record these layers and no others; all of them if there are none."""
        hooks = hooks or self.hooks
        for hook in self.hooks:
            if hook not in hooks:
                hook.mute()
        return replace(self, hooks=hooks)

    def check(self) -> None:
        """Raise for behaviour that does not give a valid Recording, before anything is run."""
        sizes = (*(self.base.sizes[dim] for dim in (schema.WALK, schema.TIME)), 1)
        values = np.broadcast_to(np.float32(0), sizes)
        dims = schema.RECORDING_DIMS
        schema.check_recording(self.base.assign({schema.ACTIVATION: (dims, values)}))


def unit_coords(hooks: Sequence[LayerHook]) -> dict[str, xr.Variable]:
    """`unit`, `layer`, `component` and `index` of every unit."""
    widths = [len(hook.index) for hook in hooks]
    names = [hook.label for hook in hooks]
    parts = [name.removeprefix("content.").split(".")[0] for name in names]
    values = {
        "layer": np.repeat(names, widths),
        "component": np.repeat(parts, widths),
        "index": np.concatenate([hook.index for hook in hooks]),
    }
    entries = schema.RECORDING
    coords = {name: xr.Variable(schema.UNIT, v, entries[name].attrs) for name, v in values.items()}
    return {schema.UNIT: schema.layer_labels(values["layer"], values["index"]), **coords}


def run_recording(job: Job, store: Path | None, *, progress: bool) -> xr.Dataset:
    """Record, or resume the recording in `store`; the network is restored afterwards."""
    job.check()
    if store is None:
        return run_parts(job, None, progress=progress)
    check_extra()
    with nullcontext() if is_finished(store) else sole_writer(store):
        if store.exists():
            stored = check_same(store, job.provenance())
            job = job.with_stored_axes(stored.get("outputs", {}))
            if stored.get("code_sha256") != job.about["code_sha256"]:
                check_first_part(job, store)
            if is_finished(store):
                return opened(store)
        return run_parts(job, store, progress=progress)


def check_first_part(job: Job, store: Path) -> None:
    """Refuse changed code, of ``forward`` or the network, if its values differ from those stored.

    Only the first part is run again, so that code in which a later error has been fixed can resume
    the recording.
    """
    point = Point(job.plan.n_walks) if is_finished(store) else load_point(store)
    state = None
    with as_found(job.network), attached(job.hooks):
        for w, t in job.plan.parts(Point()):
            kept = job.plan.kept(w, t, Point())
            sink = Memory(job.frame().isel(walk=w, time=kept), job.dtypes)
            part = PartWriter(job, sink, w, t, kept)
            reseed(device_of(job.network), job.seed, w.start, t.start)
            state, values = run_step(job, w, t, state)
            if kept.stop:
                part.finish(values)
                break
    known = slice(0, kept.stop if point.walk else min(kept.stop, point.stored))
    there = opened(store)[schema.ACTIVATION][w, known].values
    got = sink.values[schema.ACTIVATION][:, known]
    least = 1e-5 * float(np.nanmax(np.abs(there), initial=0))
    if not np.allclose(got, there, rtol=1e-3, atol=least, equal_nan=True):
        raise ValueError(
            f"store: {store} is a recording of other code: that of forward, or of the network's "
            f"classes, has changed, and in walks {w.start} to {w.stop - 1} it gives values that "
            f"differ by up to {np.nanmax(np.abs(got - there)):.3g}. Choose another path, or delete "
            "this one"
        )


def run_parts(job: Job, store: Path | None, *, progress: bool) -> xr.Dataset:
    """Run all parts that are not stored yet, and return the recording.

    A sink needs the number of units. If it is unknown, the first part runs without a sink, its
    outputs are kept, and the sink is opened once the axes have been inferred from them.
    """
    plan = job.plan
    total = plan.n_walks * plan.n_steps
    bar = tqdm(total=total, unit="step", desc="record", disable=not progress)
    with bar, as_found(job.network), attached(job.hooks):
        sink = open_sink(job, store) if job.axes_known() else None
        point = Point() if sink is None else sink.point
        state = point.state
        several = plan.batch < plan.n_walks
        resumable = store is not None and plan.chunk < plan.n_steps
        found = Snapshot(job.network, rewind=False) if several or resumable else None
        own_state: bool | None = None
        bar.update(plan.passed(point))
        for w, t in plan.parts(point):
            kept = plan.kept(w, t, point)
            part = None if sink is None else PartWriter(job, sink, w, t, kept)
            before = state if t.start else None
            if found is not None and w.start and not t.start:
                found.put_back()  # a state that the network keeps itself is not of new walks
            here = Point(w.start, t.start, state=None if store is None else copied(before))
            reseed(device_of(job.network), job.seed, w.start, t.start)
            state, values = run_step(job, w, t, before)
            if own_state is None and found is not None:
                own_state = resumable and found.changed()
            if own_state:
                here = Point(w.start)  # that state is not stored: these walks are run again
            if sink is None or part is None:
                job = job.with_inferred_axes(Span(w.stop - w.start, t.stop - t.start))
                confirm_axes(job, w, t)
                sink = open_sink(job, store)
                part = PartWriter(job, sink, w, t, kept)
            part.finish(values)
            sink.done(w, kept, here)
            bar.update((w.stop - w.start) * (t.stop - t.start))
        return (sink or open_sink(job, store)).finish()


def run_step(
    job: Job, w: slice, t: slice, state: Any, *, reverse: bool = False
) -> tuple[Any, Mapping[str, Tensor]]:
    """Run one part, and tell hooks which walks and steps of the recording it is.

    The part is a copy, since a network may change its inputs in place.
    """
    part = own_copy(job.inputs.isel(walk=w, time=t))
    walks, steps = np.arange(w.start, w.stop), np.arange(t.start, t.stop)
    if reverse:  # by indices, since torch takes no arrays with negative strides
        part, walks = part.isel(walk=np.arange(len(walks))[::-1].copy()), walks[::-1]
    numbers = {schema.WALK: walks, schema.TIME: steps}
    known = {NUMBERS[dim]: (dim, values) for dim, values in numbers.items()}
    known |= {dim: (dim, values) for dim, values in numbers.items() if dim not in part.coords}
    with along(part.assign_coords(known)):
        return job.step(part, state)


def own_copy(part: xr.Dataset) -> xr.Dataset:
    """A copy of a part with the same memory layout, on which rounding may depend."""
    own = {
        name: variable.copy(data=variable.data.copy(order="K"))
        for name, variable in part.variables.items()
        if isinstance(variable.data, np.ndarray) and name not in part.dims
    }
    coords = {name: own.pop(name) for name in list(own) if name in part.coords}
    return part.assign(own).assign_coords(coords)


PROBE = Span(2, 3)


def confirm_axes(job: Job, w: slice, t: slice) -> None:
    """Refuse axes that were inferred from lengths which agree by chance.

    A few steps of two walks are run: the axes of walk and time must be as long as these are, as
    units would not be. Where both are in one axis, the walks are run in the opposite order as well,
    which shows whether the steps of a walk follow each other.
    """
    hooks = [hook for hook in job.hooks if hook.inferred]
    walks, steps = min(PROBE.walks, w.stop - w.start), t.stop - t.start
    steps = PROBE.steps if steps > PROBE.steps else max(1, steps - 1)
    small = slice(w.start, w.start + walks), slice(t.start, t.start + steps)
    together = any(SAMPLE in (hook.dims or ()) for hook in hooks)
    outputs: list[list[list[Tensor]]] = []
    try:
        for reverse in (False, True)[: together + 1] if hooks else ():
            probes = [LayerHook(hook.name, hook.module, hook.path) for hook in hooks]
            with as_found(job.network), attached(probes):
                reseed(device_of(job.network), job.seed, w.start, t.start)
                run_step(job, *small, None, reverse=reverse)
            outputs.append([[call[p.path] for call in p.calls] for p in probes])
    except Exception:  # a network that runs only for its own lengths
        outputs = []
    for i, hook in enumerate(hooks):
        calls = [run[i] for run in outputs]
        confirm(hook.label, hook.dims or (), hook.width, Span(walks, steps), calls)


def open_sink(job: Job, store: Path | None) -> Memory | Stream:
    """Open memory or a store, which is created if it does not exist."""
    if store is None:
        return Memory(job.frame(), job.dtypes)
    if not store.exists():
        create(store, job.frame(), job.dtypes, job.plan.batch)
    return Stream(store, job.dtypes, job.plan.chunk)


class PartWriter:
    """Writes the values of one part, through a buffer on the device if it is an accelerator."""

    def __init__(self, job: Job, sink: Memory | Stream, w: slice, t: slice, kept: slice) -> None:
        self.job, self.walks, self.steps = job, w, t
        self.cut = (t.stop - t.start) - (kept.stop - kept.start)
        self.part = sink.part(w, kept)
        self.values = out = self.part[schema.ACTIVATION]
        device = device_of(job.network)
        if device.type != "cpu":
            self.values = out = torch.empty(out.shape, dtype=out.dtype, device=device)
        column = 0
        for hook in job.hooks:
            width = len(hook.index)
            hook.write_to(out[..., column : column + width], self.cut)
            column += width

    def finish(self, values: Mapping[str, Tensor]) -> None:
        """Check what the hooks wrote, and write what the step returned."""
        for hook in self.job.hooks:
            hook.check_called(self.steps.stop - self.steps.start)
        if self.job.check_finite:
            self.refuse_not_finite()
        if self.values is not self.part[schema.ACTIVATION]:
            self.part[schema.ACTIVATION].copy_(self.values)
        for name, value in values.items():
            self.part[name].copy_(value[:, self.cut :])

    def refuse_not_finite(self) -> None:
        """Raise an error that names the units whose values are not finite.

        The sum of all values is finite unless one of them is not (or the sum overflows), and takes
        one pass without a mask as large as the activations.
        """
        if torch.isfinite(self.values.sum(dtype=torch.float32)):
            return
        bad = (~torch.isfinite(self.values)).sum((0, 1)).cpu().numpy()
        if bad.any():
            labels = unit_coords(self.job.hooks)[schema.UNIT].values
            units = [str(label) for label in labels[np.flatnonzero(bad)]]
            raise ValueError(
                f"activation must be finite, got {int(bad.sum()):,} values of {len(units)} units "
                f"({', '.join(units[:5])}{', ...' if units[5:] else ''}) that are NaN or infinite "
                f"as {self.job.dtype} in walks {self.walks.start} to "
                f"{self.walks.stop - 1}, steps {self.steps.start} to {self.steps.stop - 1}; "
                "pass check_finite=False to record them"
            )


def device_of(network: nn.Module) -> torch.device:
    """Device of the network's first parameter or buffer."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def reseed(device: torch.device, seed: int, *where: int) -> None:
    """Seed the global random numbers for the part that begins at `where`.

    Without an accelerator `torch.manual_seed` is slow, since it stores its call stack for later.
    """
    number = int(np.random.SeedSequence([seed, *where]).generate_state(1)[0])
    alone = device.type == "cpu" and not torch.cuda.is_initialized()
    (torch.default_generator if alone else torch).manual_seed(number)
    np.random.seed(number)  # noqa: NPY002
    random.seed(number)
