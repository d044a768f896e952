"""Where an unfinished recording goes on, saved beside its chunks, and who may go on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from placeformer.schema import ACTIVATION


@dataclass(frozen=True)
class Point:
    """Where a recording goes on: the walks and the step to be run next.

    Attributes
    ----------
    walk, step
        First of the walks that run together, and their step.
    stored
        Recorded steps of these walks that are stored already.
    state
        What the network carries to `step`.
    """

    walk: int = 0
    step: int = 0
    stored: int = 0
    state: Any = None


def resume_file(path: Path) -> Path:
    """Return the file beside the chunks; it is there as long as the recording is not finished."""
    return path / ACTIVATION / "resume.safetensors"


def is_finished(path: Path) -> bool:
    """Tell whether nothing is to be written to what is there."""
    return path.exists() and not resume_file(path).exists()


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold the right to write to a store; the system takes it back when the process ends.

    The file that is locked lies beside the store, which need not be there yet, and stays with an
    unfinished recording: were it deleted while others open it, two of them could hold a lock.

    Raises
    ------
    BlockingIOError
        Another process, or another thread, is writing to the store.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"store: {path} is being recorded by another process (it holds {lock.lock_file}). Wait "
            "for it, stop it, or choose another path; what is stored can be read meanwhile with "
            "xarray.open_zarr"
        ) from None
    try:
        yield
    finally:
        if not resume_file(path).exists():
            with suppress(PermissionError):  # on Windows it goes when it is released
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def save_point(path: Path, point: Point) -> None:
    """Save where to go on, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    about = {"walk": point.walk, "step": point.step, "stored": point.stored}
    text = json.dumps(about | {"state": pack(point.state, tensors)})
    file = resume_file(path)
    fresh = file.with_suffix(".partial")
    fresh.write_bytes(save(tensors, {"point": text}))
    fresh.replace(file)


def load_point(path: Path) -> Point:
    """Read where to go on."""
    with safe_open(resume_file(path), "pt") as file:
        about = json.loads(file.metadata()["point"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Point(**about | {"state": unpack(about["state"], tensors)})


def copied(state: Any) -> Any:
    """Copy a state, which the next run may change in place."""
    tensors: dict[str, Tensor] = {}
    return unpack(pack(state, tensors), tensors)


def pack(state: Any, tensors: dict[str, Tensor]) -> Any:
    """Describe a state as JSON; its tensors go into `tensors`."""
    if isinstance(state, Tensor):
        name = str(len(tensors))
        tensors[name] = state.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name, "device": str(state.device)}
    if type(state) in (tuple, list):
        return {type(state).__name__: [pack(value, tensors) for value in state]}
    if type(state) is dict and all(type(key) is str for key in state):
        return {"dict": {key: pack(value, tensors) for key, value in state.items()}}
    if state is None or type(state) in (bool, int, float, str):
        return {"value": state}
    raise TypeError(
        "forward must return a state of tensors, numbers, texts and None in tuples, lists and "
        f"dicts for a recording with store, which saves it; found {type(state).__name__}"
    )


def unpack(about: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Rebuild what :func:`pack` described."""
    ((kind, value), *device) = about.items()
    if kind == "tensor":
        return tensors[value].to(device[0][1])
    if kind == "dict":
        return {key: unpack(item, tensors) for key, item in value.items()}
    if kind in ("tuple", "list"):
        items = [unpack(item, tensors) for item in value]
        return tuple(items) if kind == "tuple" else items
    return value
