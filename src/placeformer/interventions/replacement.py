"""Values that replace a lesioned unit: zero, its mean, its mean at a place, or a random sample.

Every replacement is a table of values (row, unit) and a rule that selects the row for each walk and
step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.models.fingerprints import texts
from placeformer.models.memory import CURRENT_WALK, numbers
from placeformer.spatial.binning import BinnedRecording, Bins
from placeformer.spatial.rate_maps import rate_maps

How = Literal["mean", "zero", "position", "resample"]
Reference = xr.Dataset | Sequence[xr.Dataset] | None
Position = Mapping[str, ArrayLike] | None
Rows = Callable[[tuple[int, int], int | None], NDArray[np.intp]]


@dataclass(frozen=True)
class Replacement:
    """Values of every unit of a layer, and the rule that selects a row for each walk and step.

    Attributes
    ----------
    table : (row, unit)
        The values.
    rows
        Function from (walks, steps), and the index of the first of these steps within the part of
        the walk that is run (None: its last steps), to the row for each of them; None if there is
        a single row.
    how, seed
        How to lesion, and the random seed of resampling.
    units
        Indices of the units in the reference; None for zeros, which need no reference.
    place
        What determines the places, for :meth:`describe`.
    """

    table: Tensor
    rows: Rows | None = None
    how: str = "zero"
    seed: int = 0
    units: NDArray[np.int64] | None = None
    place: str = ""

    reads: bool = False
    """The values do not depend on the present ones."""

    def __call__(
        self, values: Tensor, shape: tuple[int, int], width: int, begin: int | None = None
    ) -> Tensor:
        """Replacement values (unit,) or (walk, time, unit) of the `width` units of `values`."""
        table = F.pad(self.table, (0, width - self.table.shape[1])).to(values)
        return table[0] if self.rows is None else table[torch.from_numpy(self.rows(shape, begin))]

    def check(self, layer: str, numbers: NDArray[np.int64] | None) -> None:
        """Refuse units that the reference does not hold."""
        check_units(self.units, layer, numbers)

    def describe(self) -> dict[str, Any]:
        """Say what replaces the units, for the provenance of recordings."""
        values = {} if self.how == "zero" else {"values_sha256": self.sha256}
        return {
            "how": self.how,
            **values,
            **({"seed": self.seed} if self.how == "resample" else {}),
        }

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the values and of what decides their places."""
        return hashlib.sha256(self.table.numpy().tobytes() + self.place.encode()).hexdigest()


def check_units(
    known: NDArray[np.int64] | None, layer: str, numbers: NDArray[np.int64] | None
) -> None:
    """Refuse units that the reference, if there is one, does not hold."""
    absent = [] if known is None or numbers is None else np.setdiff1d(numbers, known).tolist()
    if absent:
        raise ValueError(
            f"reference must hold the lesioned units, but {layer!r} lacks {absent[:5]}"
            f"{' and more' if absent[5:] else ''}; record these units as well, or lesion them "
            'with how="zero"'
        )


def check_how(how: str) -> None:
    """Raise for an unknown kind of lesion."""
    check_option("how", how, get_args(How))


def recordings(reference: Reference) -> list[xr.Dataset]:
    """Return the reference recordings as a list, each checked."""
    given = [reference] if isinstance(reference, xr.Dataset) else list(reference or [])
    for recording in given:
        schema.check_recording(recording, need=["layer", "index"])
    return given


def find_recording(reference: Reference, layer: str) -> xr.Dataset | None:
    """Return the units of one layer in the reference recordings; None if no recording has it."""
    for recording in recordings(reference):
        units = recording["layer"].values == layer
        if units.any():
            return recording.isel({schema.UNIT: units})
    return None


def make_replacement(
    how: How,
    recording: xr.Dataset | None,
    *,
    by: Sequence[str] | None = None,
    bins: Bins = None,
    position: Position = None,
    moved: bool = False,
    seed: int = 0,
) -> Replacement:
    """Build the replacement of one layer.

    Parameters
    ----------
    how
        See :func:`placeformer.ablate`.
    recording
        Recording of the units of the layer; not needed for zeros.
    by, bins
        Axes and bins of place; by default the axes that :func:`place_axes` finds.
    position
        Places (walk, time) that the network will run on; by default those of the walks that it
        runs along.
    moved
        Whether the place of a step is the next place (query stream) or the current one.
    seed
        Random seed of the drawn samples.
    """
    if how == "zero" or recording is None:
        return Replacement(torch.zeros(1, 1, dtype=torch.float32, device="cpu"))
    mean: NDArray[np.float64]
    mean = recording[schema.ACTIVATION].mean((schema.WALK, schema.TIME), dtype=float).values
    schema.check_finite(recording[schema.ACTIVATION], ~np.isfinite(mean))
    about: dict[str, Any] = {"how": how, "seed": seed, "units": recording["index"].values}
    if how == "mean":
        return Replacement(_table(mean[None], recording), **about)
    if how == "resample":
        samples = recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).values
        samples = samples.reshape(-1, samples.shape[-1])
        known = np.isfinite(samples).all(1)  # walks of unequal length end in NaN
        if not known.any():
            raise ValueError(
                'reference must hold samples of all units of a layer for how="resample", got none '
                "without a NaN"
            )
        samples = samples if known.all() else samples[known]
        return Replacement(_table(samples, recording), _drawn(len(samples), seed), **about)
    by = place_axes(recording) if by is None else by
    grid = BinnedRecording.of(recording, by=by, bins=bins, per_map=False).grid
    maps = rate_maps(recording, by=by, bins=bins)[schema.RATE].transpose(*by, schema.UNIT)
    rate = maps.values.reshape(grid.size, -1)
    table = np.vstack([np.where(np.isnan(rate), mean, rate), mean])  # row -1: no place

    def rows(shape: tuple[int, int], begin: int | None) -> NDArray[np.intp]:
        here = _current_places(by, moved) if position is None else _given(position, shape, begin)
        return np.asarray(grid.index(here)[:, steps_of(shape[1], begin)], np.intp)

    place = "".join(texts([tuple(by), moved, *(axis.edges for axis in grid.axes), position]))
    return Replacement(_table(table, recording), rows, **about, place=place)


def place_axes(recording: xr.Dataset) -> tuple[str, ...]:
    """Axes of place of a reference: y and x, or the one of them that it has."""
    axes = tuple(axis for axis in ("y", "x") if axis in recording.variables)
    if not axes:
        raise ValueError(
            "reference must hold the place as x and y, or x alone, got the coordinates "
            f"{', '.join(map(str, recording.coords))}; rename the axis of place to x in the "
            'reference, as in reference.rename(linear="x"), and in the behaviour'
        )
    return axes


def unit_spread(recording: xr.Dataset) -> Tensor:
    """Standard deviation of every unit over all walks and steps, by the index in its layer."""
    activation = recording[schema.ACTIVATION]
    spread = activation.std((schema.WALK, schema.TIME), dtype=float).values
    schema.check_finite(activation, ~np.isfinite(spread))
    return _table(spread[None], recording)[0]


def steps_of(n: int, begin: int | None) -> slice:
    """Return `n` steps from `begin` on, or the last ones."""
    return slice(-n, None) if begin is None else slice(begin, begin + n)


def _table(values: NDArray[np.floating], recording: xr.Dataset) -> Tensor:
    """Arrange values (row, unit) by the units' indices in the layer; 0 for units not recorded."""
    index = recording["index"].values
    table = np.zeros((len(values), int(index.max()) + 1), np.float32)
    table[:, index] = values
    return torch.from_numpy(table)


def _drawn(n: int, seed: int) -> Rows:
    """Draw a sample of the reference for every walk and step.

    Along walks, the draws depend only on the numbers of the walk and of the step, and neither on
    the batch size nor on earlier runs.
    """
    outside_walks = np.random.default_rng(seed)

    def rows(shape: tuple[int, int], begin: int | None) -> NDArray[np.intp]:
        if (walk := CURRENT_WALK.get()) is None:
            return outside_walks.integers(n, size=shape)
        n_steps, first = walk.sizes[schema.TIME], int(numbers(walk, schema.TIME)[0])
        keys = [[seed, int(number), first] for number in numbers(walk, schema.WALK)]
        draws = [np.random.default_rng(key).integers(n, size=n_steps) for key in keys]
        return np.stack(draws)[:, steps_of(shape[1], begin)]

    return rows


def _current_places(by: Sequence[str], moved: bool) -> xr.Dataset:
    """Places of the walks and steps that the network is running on."""
    if (walk := CURRENT_WALK.get()) is None:
        raise ValueError(
            'how="position" needs the current place of every walk: run the network along walks, as '
            "memory_errors and record do, or pass position"
        )
    steps = (schema.WALK, schema.TIME)
    return xr.Dataset(
        {axis: (steps, walk[f"next_{axis}" if moved else axis].values) for axis in by}
    )


def _given(
    position: Mapping[str, ArrayLike], shape: tuple[int, int], begin: int | None
) -> xr.Dataset:
    """Return the given places; raise if they do not fit the walks that the network runs on.

    From the places of all walks of a recording, those of the present part are taken.
    """
    arrays = {axis: np.asarray(values) for axis, values in position.items()}
    if (walk := CURRENT_WALK.get()) is not None:
        walks, steps = (numbers(walk, dim) for dim in (schema.WALK, schema.TIME))
        arrays = {
            axis: values[walks][:, steps]
            if values.ndim == 2 and len(values) > walks.max() and values.shape[1] > steps.max()
            else values
            for axis, values in arrays.items()
        }
    for axis, values in arrays.items():
        part = values if begin is None else values[..., begin : begin + shape[1]]
        if part.shape != shape:
            raise ValueError(
                f"position[{axis!r}] must be (walk, time) = {shape}, the first two axes of the "
                f"lesioned layer's output, got {values.shape}"
            )
    return xr.Dataset({axis: ((schema.WALK, schema.TIME), v) for axis, v in arrays.items()})
