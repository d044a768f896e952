"""Changes of units by a dose: gain, noise, a fixed value, or a share of a replacement."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.interventions.replacement import Replacement, check_units, steps_of
from placeformer.models.fingerprints import function_sha256
from placeformer.models.memory import CURRENT_WALK

Function = Callable[..., Any]
Condition = ArrayLike | xr.DataArray | Callable[[xr.Dataset], Any] | None

NEUTRAL = {"gain": 1.0, "add": 0.0, "noise": 0.0, "threshold": -math.inf}
"""Doses that change nothing; of replacements it is a share of 0."""
KINDS = ("gain", "add", "noise", "clamp", "threshold")
REPLACEMENTS = ("mean", "zero", "position", "resample")


class Change(Protocol):
    """New values of the units of a layer.

    Attributes
    ----------
    reads
        Whether the new values depend on the present ones, which must then be (..., walk, time,
        unit); otherwise any tensor of the right type and device is enough.
    """

    @property
    def reads(self) -> bool:
        """Whether the new values depend on the present ones."""

    def __call__(
        self, values: Tensor, shape: tuple[int, int], width: int, begin: int | None = None
    ) -> Tensor:
        """New values (unit,) or (..., walk, time, unit)."""

    def check(self, layer: str, numbers: NDArray[np.int64] | None) -> None:
        """Refuse units for which there is no new value."""

    def describe(self) -> dict[str, Any]:
        """How and how much, for the provenance of recordings."""


@dataclass(frozen=True)
class Dosed:
    """A change of the present values by a dose.

    Attributes
    ----------
    how
        One of `KINDS` or `REPLACEMENTS`, or a function of the values (and of the dose, if there is
        one), which are (walk, time, unit) with all units of the layer.
    dose
        One number; one for each unit (unit,); or one for each version of the walks that run
        together (version, 1, 1, 1). None for a function without a dose.
    spread : (unit,)
        Standard deviation of every unit, for noise.
    replacement
        What the units are mixed with.
    layer, seed
        Name of the layer and random seed, which decide the noise.
    units
        Indices of the units of the reference; None if there is none.
    """

    how: str | Function
    dose: Tensor | None
    spread: Tensor | None = None
    replacement: Replacement | None = None
    layer: str = ""
    seed: int = 0
    units: NDArray[np.int64] | None = None

    reads = True

    def __call__(
        self, values: Tensor, shape: tuple[int, int], width: int, begin: int | None = None
    ) -> Tensor:
        """New values, of the shape of `values` or with a version of the walks in front."""
        if callable(self.how):
            return self.by_function(self.how, values)
        dose = padded(self.dose, width).to(values)
        if dose.ndim == 0 and dose == NEUTRAL.get(self.how, 0.0 if self.replacement else math.nan):
            return values  # x + 0 is not x for every x: -0
        if self.replacement is not None:
            target = self.replacement(values, shape, width, begin)
            return torch.where(dose == 1, target, values + dose * (target - values))
        if self.how == "gain":
            return values * dose
        if self.how == "clamp":
            return dose.expand(torch.broadcast_shapes(values.shape, dose.shape))
        if self.how == "threshold":
            return torch.where(values > dose, values, 0)
        if self.how == "noise":
            noise = torch.from_numpy(self.standard_normal(shape, begin, width)).to(values)
            dose = dose * padded(self.spread, width).to(values) * noise
        return values + dose

    def standard_normal(
        self, shape: tuple[int, int], begin: int | None, width: int
    ) -> NDArray[np.float32]:
        """Draw noise (walk, time, unit).

        Along walks it depends only on the seed, the layer, the numbers of the walk and of the step,
        and the part that the walk is run in, and neither on the batch size, nor on earlier runs,
        nor on which units get it.
        """
        if (walk := CURRENT_WALK.get()) is None:
            return self.outside_walks.standard_normal((*shape, width), np.float32)
        n_steps, first = walk.sizes[schema.TIME], int(walk[schema.TIME][0])
        draws = np.empty((*shape, width), np.float32)
        for row, number in enumerate(walk[schema.WALK].values):
            rng = np.random.default_rng([*self.key, int(number), first])
            noise = rng.standard_normal((n_steps, width), np.float32)
            draws[row] = noise[steps_of(shape[1], begin)]
        return draws

    @property
    def key(self) -> list[int]:
        """What decides the noise of the layer."""
        return [self.seed, zlib.crc32(self.layer.encode())]

    @cached_property
    def outside_walks(self) -> np.random.Generator:
        """Source of the noise where the network is run by the user, along unknown walks."""
        return np.random.default_rng(self.key)

    def by_function(self, function: Function, values: Tensor) -> Tensor:
        """New values as the user's function gives them; raise for others of another shape."""
        given = values.flatten(0, -4) if values.ndim > 3 else values
        dose: Any = self.dose
        if dose is not None:
            dose = dose.item() if dose.ndim == 0 else padded(dose, given.shape[-1]).to(given)
        new = function(given) if dose is None else function(given, dose)
        new = torch.as_tensor(new).to(values)
        try:
            return new.expand(given.shape).reshape(values.shape)
        except RuntimeError:
            raise ValueError(
                "how must be a function that gives values of the shape that it takes, (walk, time, "
                f"unit) = {tuple(given.shape)}, got {tuple(new.shape)}"
            ) from None

    def check(self, layer: str, numbers: NDArray[np.int64] | None) -> None:
        """Refuse units that the reference does not hold."""
        check_units(self.units, layer, numbers)
        if self.dose is None or self.dose.ndim != 1:
            return
        known = np.flatnonzero(~self.dose.isnan().numpy())
        if numbers is None or len(absent := np.setdiff1d(numbers, known)):
            which = "some" if numbers is None else f"{absent[:5].tolist()}"
            raise ValueError(
                "dose must have a value for every chosen unit when it is a DataArray, but "
                f"{layer!r} lacks {which}"
            )

    def describe(self) -> dict[str, Any]:
        """How and how much, for the provenance of recordings."""
        about: dict[str, Any] = {"how": name_of(self.how)}
        if callable(self.how):
            about["function_sha256"] = function_sha256(self.how)
        if self.replacement is not None:
            about |= self.replacement.describe()
        if self.dose is not None and self.dose.ndim == 0:
            about["dose"] = self.dose.item()
        elif self.dose is not None:
            about["dose_sha256"] = hashlib.sha256(self.dose.numpy().tobytes()).hexdigest()
        if self.spread is not None:
            about["spread_sha256"] = hashlib.sha256(self.spread.numpy().tobytes()).hexdigest()
            about["seed"] = self.seed
        return about


def padded(values: Tensor | None, width: int) -> Tensor:
    """Values of every unit (unit,), with 0 for units that are not named; others as they are."""
    assert values is not None
    return F.pad(values, (0, width - len(values))) if values.ndim == 1 else values


def name_of(how: str | Function) -> str:
    """Name of a kind of change."""
    return how if isinstance(how, str) else str(getattr(how, "__name__", type(how).__name__))


@dataclass(frozen=True)
class Steps:
    """Which steps of the walks are perturbed: a boolean mask, or a condition on the behaviour."""

    given: Any

    def __call__(self, shape: tuple[int, int], begin: int | None) -> NDArray[np.bool_]:
        """Return a mask (walk, time) of the steps of an output with these walks and steps."""
        walk = CURRENT_WALK.get()
        if callable(self.given):
            mask = self.condition(walk)
        elif isinstance(self.given, xr.DataArray) and walk is not None:
            mask = self.labelled(walk)
        else:
            mask = self.numbered(walk, shape, begin)
            if walk is None:
                return mask
        return mask[:, steps_of(shape[1], begin)]

    def condition(self, walk: xr.Dataset | None) -> NDArray[np.bool_]:
        """Steps of the walks at which the condition holds."""
        if walk is None:
            raise ValueError(
                "steps must be a boolean mask (walk, time) where a network is not run along walks "
                "by memory_errors, record or another function of placeformer, got a condition on "
                "behaviour that is not known"
            )
        mask = self.given(walk)
        if isinstance(mask, xr.DataArray):
            mask = mask.transpose(*(dim for dim in (schema.WALK, schema.TIME) if dim in mask.dims))
        mask, sizes = np.asarray(mask), (walk.sizes[schema.WALK], walk.sizes[schema.TIME])
        if mask.dtype != bool or mask.shape not in (sizes, sizes[1:]):
            raise ValueError(
                f"steps must give booleans (walk, time) = {sizes} of these walks, got "
                f"{mask.dtype} {mask.shape}"
            )
        return np.broadcast_to(mask, sizes)

    def labelled(self, walk: xr.Dataset) -> NDArray[np.bool_]:
        """Mask of the present walks and steps, by their coordinates."""
        mask, sizes = self.given, (walk.sizes[schema.WALK], walk.sizes[schema.TIME])
        for dim in (d for d in (schema.WALK, schema.TIME) if d in mask.dims):
            index, wanted = mask.get_index(dim), walk[dim].values
            at = index.get_indexer(wanted)
            if (at < 0).any():
                raise ValueError(
                    f"steps must hold every step of the walks, but {dim} {wanted[at < 0][0]} is "
                    f"missing; choose what happens there, as in "
                    f"steps.reindex({dim}=range(n), fill_value=False)"
                )
            mask = mask.isel({dim: at})
        dims = [dim for dim in (schema.WALK, schema.TIME) if dim in mask.dims]
        values = mask.transpose(*dims).values
        return np.broadcast_to(values[:, None] if dims == [schema.WALK] else values, sizes)

    def numbered(
        self, walk: xr.Dataset | None, shape: tuple[int, int], begin: int | None
    ) -> NDArray[np.bool_]:
        """Mask of the present walks and steps, by their numbers."""
        mask = np.asarray(self.given)
        if walk is not None:
            walks, steps = (walk[dim].values.astype(int) for dim in (schema.WALK, schema.TIME))
            if steps.max() >= mask.shape[-1] or (mask.ndim == 2 and walks.max() >= len(mask)):
                raise ValueError(
                    f"steps must hold every step of the walks, got {mask.shape} for walk "
                    f"{walks.max()}, step {steps.max()}"
                )
            sizes = walks.size, steps.size
            here = mask[walks][:, steps] if mask.ndim == 2 else mask[steps]
            return np.broadcast_to(here, sizes)
        part = mask if begin is None else mask[..., begin : begin + shape[1]]
        if part.shape not in (shape, shape[1:]):
            raise ValueError(
                f"steps must be (walk, time) = {shape}, the walks and steps that the network is "
                f"run on, got {mask.shape}"
            )
        return np.broadcast_to(part, shape)

    def describe(self) -> dict[str, Any]:
        """SHA-256 of the mask or of the condition."""
        if callable(self.given):
            return {"steps": name_of(self.given), "steps_sha256": function_sha256(self.given)}
        content = np.ascontiguousarray(np.asarray(self.given)).tobytes()
        return {"steps": "mask", "steps_sha256": hashlib.sha256(content).hexdigest()}


def check_steps(steps: Condition) -> Steps | None:
    """Return the steps as asked for; raise for what is neither a mask nor a condition."""
    if steps is None or isinstance(steps, Steps):
        return steps
    if callable(steps):
        return Steps(steps)
    array = np.asarray(steps)
    if array.dtype != bool or array.ndim not in (1, 2):
        raise ValueError(
            "steps must be a boolean mask (walk, time) or (time,), or a function of the walks that "
            f"gives one, got {array.dtype} with the shape {array.shape}"
        )
    if isinstance(steps, xr.DataArray):
        if not set(steps.dims) <= {schema.WALK, schema.TIME}:
            dims = ", ".join(map(str, steps.dims))
            raise ValueError(f"steps must have the dimensions walk and time, got {dims}")
        return Steps(steps)
    return Steps(array)


def check_kind(how: str | Function) -> str | Function:
    """Return the kind of change; raise for an unknown one."""
    if not callable(how):
        check_option("how", how, (*REPLACEMENTS, *KINDS))
    return how


def check_dose(how: str | Function, dose: Any) -> float | xr.DataArray | None:
    """Return the dose as asked for; raise for one that the kind of change does not take."""
    if callable(how):
        return dose if dose is None or isinstance(dose, xr.DataArray) else number(dose)
    if how in REPLACEMENTS:
        share = 1.0 if dose is None else number(dose)
        if not 0 <= share <= 1:
            raise ValueError(
                f"dose must be a share from 0 (intact) to 1 (replaced) for how={how!r}, got "
                f"{dose!r}"
            )
        return share
    if dose is None:
        raise ValueError(f"dose must be given for how={how!r}, {MEANING[how]}, got None")
    values = np.asarray(dose.values if isinstance(dose, xr.DataArray) else number(dose), float)
    lowest = how == "threshold"
    bad = np.isnan(values) | (values == np.inf) | ((values == -np.inf) & (not lowest))
    bad |= (values < 0) & (how == "noise")
    if bad.any():
        raise ValueError(f"dose must be {MEANING[how]}, got {values[bad].ravel()[0]:g}")
    return dose if isinstance(dose, xr.DataArray) else float(values)


MEANING = {
    "gain": "a finite factor (1 is intact)",
    "add": "a finite number, in units of the activation (0 is intact)",
    "noise": "a finite number ≥ 0, in standard deviations of the unit (0 is intact)",
    "clamp": "a finite number, in units of the activation",
    "threshold": "a number below infinity, in units of the activation (-inf is intact)",
}


def number(dose: Any) -> float:
    """Return one number; raise for anything else."""
    try:
        values = np.asarray(dose, float)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.ndim:
        raise ValueError(
            "dose must be one number, or a DataArray over unit that names the unit of each, got "
            f"{dose!r:.80}"
        )
    return float(values)
