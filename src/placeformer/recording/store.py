"""Zarr stores of recordings: streaming, resuming, and one writer at a time."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from placeformer import _state_files
from placeformer._atomic import atomic_folder
from placeformer._optional import extra
from placeformer._state_files import DamagedFileError, load_state, save_state
from placeformer.data import schema
from placeformer.data.schema import ACTIVATION


@dataclass(frozen=True)
class Point:
    """Point at which a recording is resumed: the walks and the step to run next.

    Attributes
    ----------
    walk, step
        First of the walks that run together, and their step.
    stored
        Number of recorded steps of these walks that are already stored.
    state
        State of the network before `step`.
    """

    walk: int = 0
    step: int = 0
    stored: int = 0
    state: Any = None


def resume_file(path: Path) -> Path:
    """Return the file with the resume point, which exists until the recording is finished."""
    return path / ACTIVATION / "resume.safetensors"


def is_finished(path: Path) -> bool:
    """Return whether the store exists and is complete."""
    return path.exists() and not resume_file(path).exists()


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Lock a store for writing; the system releases the lock when the process ends.

    The lock file is next to the store, which need not exist yet. It remains while the recording is
    unfinished: if it were deleted while other processes open it, two of them could hold a lock.

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
            "for it, stop it, or choose another path; the stored part can be read with "
            "xarray.open_zarr"
        ) from None
    try:
        yield
    finally:
        if not resume_file(path).exists():
            with suppress(PermissionError):  # Windows deletes it on release
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def state_of_forward() -> Iterator[None]:
    """Say in the error that it is the state of `forward` that cannot be saved."""
    try:
        yield
    except TypeError as error:
        raise TypeError(
            "forward must return a state of tensors, numbers, text and None in tuples, lists and "
            f"dicts if store is given, since the state is saved: {error}"
        ) from error


def copied(state: Any) -> Any:
    """Copy a state, since the next run may change it in place."""
    with state_of_forward():
        return _state_files.copied(state)


def save_point(path: Path, point: Point) -> None:
    """Save the resume point, whole or not at all."""
    with state_of_forward():
        save_state(resume_file(path), vars(point))


def load_point(path: Path) -> Point:
    """Read the resume point."""
    file = resume_file(path)
    try:
        return Point(**load_state(file))
    except (DamagedFileError, TypeError) as error:
        raise ValueError(
            f"store: {file} must be the point at which the recording stopped, got a damaged file "
            f"({error}); what is stored can be read with xarray.open_zarr, but not resumed: delete "
            f"{path} and record again"
        ) from error


PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""Names of the files that Zarr writes and then renames."""

BLOCK = 2**24
"""Number of bytes of activations that are written at once, uncompressed."""


def check_extra() -> None:
    """Raise if the libraries for stores are missing."""
    with extra("zarr"):
        import dask  # noqa: F401
        import zarr  # noqa: F401


class Memory:
    """Keeps a recording in memory; `frame` is the part of it that is known beforehand."""

    point = Point()

    def __init__(self, frame: xr.Dataset, dtypes: Mapping[str, str]) -> None:
        self.frame = frame
        self.values = {name: np.empty(shape(frame, name), dtype) for name, dtype in dtypes.items()}

    def part(self, walks: slice, steps: slice) -> dict[str, Tensor]:
        """Tensors (walk, time, ...) that take the values of these walks and recorded steps."""
        return {name: torch.from_numpy(value[walks, steps]) for name, value in self.values.items()}

    def done(self, walks: slice, steps: slice, point: Point) -> None:
        """Do nothing: all values are already in place."""

    def finish(self) -> xr.Dataset:
        """Return the recording."""
        return self.frame.assign(
            {
                name: xr.Variable(schema.RECORDING[name].dims, value, schema.RECORDING[name].attrs)
                for name, value in self.values.items()
            }
        )


class Stream:
    """Writes a recording to a Zarr store, one block of walks and steps at a time.

    A block is one chunk of the store and is written whole or not at all. After each block, the
    resume point is saved next to the chunks, in a file that exists until the recording is finished.
    After a crash only the part that is not stored is run again.
    """

    def __init__(self, path: Path, names: Mapping[str, str], chunk: int) -> None:
        import zarr

        self.path = path
        for stray in path.rglob("*.partial"):  # left by a process killed while it wrote
            if PARTIAL.search(stray.name) and stray.is_file():
                stray.unlink()
        group = zarr.open_group(path, mode="r+")
        self.arrays: dict[str, Any] = {name: group[name] for name in names}
        self.n_walks, self.n_steps, _ = self.arrays[schema.ACTIVATION].shape
        batch, self.block, _ = self.arrays[schema.ACTIVATION].chunks
        self.buffers: dict[str, NDArray[Any]] = {
            name: np.empty((batch, self.block + chunk, *array.shape[2:]), array.dtype)
            for name, array in self.arrays.items()
        }
        self.point = load_point(path)
        self.stored, self.filled = self.point.stored, 0

    def part(self, walks: slice, steps: slice) -> dict[str, Tensor]:
        """Tensors (walk, time, ...) that take the values of these walks and recorded steps."""
        rows = slice(self.filled, self.filled + steps.stop - steps.start)
        n_walks = walks.stop - walks.start
        return {name: torch.from_numpy(b[:n_walks, rows]) for name, b in self.buffers.items()}

    def done(self, walks: slice, steps: slice, point: Point) -> None:
        """Store all full blocks; `point` is the beginning of the part just written."""
        self.filled += steps.stop - steps.start
        last, begin = steps.stop == self.n_steps, 0
        try:
            while self.filled - begin >= self.block or (last and begin < self.filled):
                begin += self.write(walks, begin, min(self.block, self.filled - begin))
            if last:
                save_point(self.path, Point(walks.stop))
                self.filled = self.stored = 0
            elif begin:
                self.filled -= begin
                for buffer in self.buffers.values():
                    buffer[:, : self.filled] = buffer[:, begin : begin + self.filled].copy()
                save_point(self.path, replace(point, stored=self.stored))
        except OSError as error:
            raise OSError(error.errno, self.progress(walks, error), str(self.path)) from error

    def write(self, walks: slice, begin: int, n_steps: int) -> int:
        """Write one block, the activations last."""
        steps = slice(self.stored, self.stored + n_steps)
        for name, buffer in reversed(self.buffers.items()):
            rows = buffer[: walks.stop - walks.start, begin : begin + n_steps]
            self.arrays[name][walks, steps] = rows
        self.stored = steps.stop
        return n_steps

    def progress(self, walks: slice, error: OSError) -> str:
        """Explain how much is stored, and how to resume."""
        n = walks.start * self.n_steps + (walks.stop - walks.start) * self.stored
        return (
            f"{error.strerror or error}. {n:,} of {self.n_walks * self.n_steps:,} samples are "
            "stored and can be read with xarray.open_zarr; the others are NaN there. Record again "
            "with the same arguments to resume from here"
        )

    def finish(self) -> xr.Dataset:
        """Return the recording, lazily."""
        resume_file(self.path).unlink()
        return opened(self.path)


def create(path: Path, frame: xr.Dataset, dtypes: Mapping[str, str], batch: int) -> None:
    """Create the store of a new recording, atomically.

    Parameters
    ----------
    path
        A folder that does not exist yet.
    frame
        Part of the recording that is known beforehand.
    dtypes
        Names and dtypes of the variables that will be recorded.
    batch
        Number of walks that run together.
    """
    try:
        with atomic_folder(path) as fresh:
            fill(fresh, frame, dtypes, batch)
    except OSError as error:
        why = f"{error.strerror or error}. Nothing is stored yet"
        raise OSError(error.errno, why, str(path)) from error


def fill(path: Path, frame: xr.Dataset, dtypes: Mapping[str, str], batch: int) -> None:
    """Write the part that is known beforehand, and empty arrays."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    texts = {
        name: frame[name].astype(np.dtypes.StringDType())
        for name in frame.variables
        if frame[name].dtype.kind in "UO"
    }
    row = np.dtype(dtypes[schema.ACTIVATION]).itemsize * batch * frame.sizes[schema.UNIT]
    block = min(max(1, BLOCK // row), frame.sizes[schema.TIME])
    chunks = {**frame.sizes, schema.WALK: batch, schema.TIME: block}
    encoding: dict[Any, dict[str, Any]] = {
        name: {"compressors": (ZstdCodec(), Crc32cCodec())} for name in frame.variables
    }
    for name in set(frame.variables) - set(frame.dims):
        if frame[name].ndim:  # chunks like the activations; dimensions are read whole on opening
            encoding[name]["chunks"] = tuple(chunks[d] for d in frame[name].dims)
    known = frame.assign(texts).drop_encoding()
    known.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    group = zarr.open_group(path, mode="r+")
    for name, dtype in dtypes.items():
        entry = schema.RECORDING[name]
        group.create_array(
            name,
            shape=shape(frame, name),
            chunks=(batch, block, *shape(frame, name)[2:]),
            dtype=dtype,
            fill_value=np.nan if np.dtype(dtype).kind == "f" else 0,
            dimension_names=entry.dims,
            attributes=dict(entry.attrs),
            compressors=(
                BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
                Crc32cCodec(),  # compressors do not notice all damage
            ),
        )
    save_point(path, Point())
    with warnings.catch_warnings():  # other libraries may not read consolidated metadata
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def shape(frame: xr.Dataset, name: str) -> tuple[int, ...]:
    """Shape of a variable that will be recorded."""
    return tuple(frame.sizes[dim] for dim in schema.RECORDING[name].dims)


def opened(path: Path) -> xr.Dataset:
    """Open a store as a Dataset of dask arrays; the coordinates of units are in memory."""
    found = xr.open_zarr(path, decode_timedelta=False)
    units = {
        name: coord.copy(data=np.array(coord.values.tolist()))  # texts in NumPy's own type
        for name, coord in schema.unit_coords(found).items()
    }
    return found.assign_coords(units).drop_encoding()


def check_same(path: Path, provenance: str) -> dict[str, Any]:
    """Return the provenance of the recording in a store; raise if its settings differ.

    Raises
    ------
    ValueError
        The store has a recording with other settings, which are listed, or no recording.
    """
    import zarr

    try:
        attrs = dict(zarr.open_group(path, mode="r").attrs)
        there = json.loads(str(attrs[schema.PROVENANCE]))["steps"][-1]
    except (OSError, KeyError, ValueError):
        raise ValueError(
            f"store: {path} exists and is not a recording; choose another path"
        ) from None
    other = differences(there, json.loads(provenance)["steps"][-1])
    if other:
        raise ValueError(
            f"store: {path} is a recording with other settings: {'; '.join(other)}. Choose another "
            "path, or delete this one"
        )
    return dict(there)


def differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List settings that differ, with both values; the version of the library may differ.

    Axes that were inferred during the recording are known in the store only. Code that has changed
    is compared by its values instead.
    """
    found = []
    skipped = ("placeformer", "outputs", "code_sha256", "forward_sha256")
    for key in [k for k in {**here, **there} if k not in skipped]:
        value, other = here.get(key), there.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            found += differences(other, value, f"{prefix}{key}.")
        elif other != value:
            found.append(f"{prefix}{key} is {other!r:.80} there, {value!r:.80} here")
    return found
