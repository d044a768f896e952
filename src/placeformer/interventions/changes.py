"""Changes of units by a dose: gain, noise, a fixed value, or a partial replacement."""

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
from placeformer.models.memory import CURRENT_WALK, numbers

Function = Callable[..., Any]
Condition = ArrayLike | xr.DataArray | Callable[[xr.Dataset], Any] | None

NEUTRAL = {"gain": 1.0, "add": 0.0, "noise": 0.0, "threshold": -math.inf}
"""Doses that change nothing; for replacements it is 0."""
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
        n_steps, first = walk.sizes[schema.TIME], int(numbers(walk, schema.TIME)[0])
        draws = np.empty((*shape, width), np.float32)
        for row, number in enumerate(numbers(walk, schema.WALK)):
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
        """New values as the user's function gives them."""
        given = values.flatten(0, -4) if values.ndim > 3 else values
        dose: Any = self.dose
        if dose is not None:
            dose = dose.item() if dose.ndim == 0 else padded(dose, given.shape[-1]).to(given)
        return called(function, given, dose).reshape(values.shape)

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


def called(function: Function, values: Tensor, dose: Any) -> Tensor:
    """Return the new values that the user's function gives, of the shape of `values`.

    The function takes a copy, so that it may work in place.

    Raises
    ------
    ValueError
        The function gives no tensor, or one of another shape.
    """
    copy = values.clone()
    new = function(copy) if dose is None else function(copy, dose)
    shape = tuple(values.shape)
    try:
        return torch.as_tensor(new).to(values).expand(shape)
    except (RuntimeError, TypeError, ValueError):
        got = f"one of {tuple(new.shape)}" if isinstance(new, Tensor) else repr(new)[:80]
        raise ValueError(
            f"how must be a function that returns a tensor of the shape that it takes, {shape}, "
            f"got {got}"
        ) from None


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

    given: xr.DataArray | Callable[[xr.Dataset], Any]

    def __call__(self, shape: tuple[int, int], begin: int | None) -> NDArray[np.bool_]:
        """Return a mask (walk, time) of the steps of an output with these walks and steps."""
        if (walk := CURRENT_WALK.get()) is None:
            return self.unlabelled(shape, begin)
        mask = self.aligned(walk) if isinstance(self.given, xr.DataArray) else self.condition(walk)
        here = mask[:, steps_of(shape[1], begin)]
        if here.shape != shape:
            raise ValueError(
                f"steps must fit the output of the layer, which has {shape[0]} walks and, from "
                f"step {begin or 0} on, {shape[1]} steps, got {mask.shape} for (walk, time) of the "
                "walks that the network runs on; name the axes of the output with dims, or choose "
                "another layer"
            )
        return here

    def condition(self, walk: xr.Dataset) -> NDArray[np.bool_]:
        """Steps of the walks at which the condition holds."""
        assert callable(self.given)
        mask, sizes = self.given(walk), (walk.sizes[schema.WALK], walk.sizes[schema.TIME])
        found = None
        if np.ndim(mask) in (1, 2):
            mask = named(mask)
            found = repeated(mask, sizes) if mask.dtype == bool else None
        if found is None:
            raise ValueError(
                f"steps must give booleans (walk, time) = {sizes} of these walks, got "
                f"{getattr(mask, 'dtype', type(mask).__name__)} {np.shape(mask)}"
            )
        return found

    def aligned(self, walk: xr.Dataset) -> NDArray[np.bool_]:
        """Mask of the present walks and steps, by its coordinates, or by numbers without them."""
        assert isinstance(self.given, xr.DataArray)
        mask = self.given
        for dim in map(str, mask.dims):
            labels = mask.get_index(dim)
            wanted = walk[dim].values if dim in mask.coords else numbers(walk, dim)
            at = labels.get_indexer(wanted)
            if (at < 0).any():
                raise ValueError(
                    f"steps must hold every step of the walks, but {dim} {wanted[at < 0][0]} is "
                    "missing; choose what happens there, as in "
                    f"steps.reindex({dim}=walks.{dim}, fill_value=False)"
                )
            mask = mask.isel({dim: at})
        found = repeated(mask, (walk.sizes[schema.WALK], walk.sizes[schema.TIME]))
        assert found is not None
        return found

    def unlabelled(self, shape: tuple[int, int], begin: int | None) -> NDArray[np.bool_]:
        """Mask of an output where nothing is known of the walks but their number and length."""
        if not isinstance(self.given, xr.DataArray):
            raise ValueError(
                "steps must be a boolean mask (walk, time) where a network is not run along walks "
                "by memory_errors, record or another function of placeformer, got a condition on "
                "behaviour that is not known"
            )
        mask = self.given
        if begin is not None and schema.TIME in mask.dims:
            mask = mask.isel({schema.TIME: slice(begin, begin + shape[1])})
        if (found := repeated(mask, shape)) is None:
            raise ValueError(
                f"steps must be (walk, time) = {shape}, the walks and steps that the network is "
                f"run on, got {dict(self.given.sizes)}"
            )
        return found

    def describe(self) -> dict[str, Any]:
        """SHA-256 of the mask and its labels, or of the condition."""
        if not isinstance(self.given, xr.DataArray):
            return {"steps": name_of(self.given), "steps_sha256": function_sha256(self.given)}
        digest = hashlib.sha256(np.ascontiguousarray(self.given.values).tobytes())
        for dim in self.given.dims:
            if dim in self.given.coords:
                digest.update(repr(self.given[dim].values.tolist()).encode())
        return {"steps": "mask", "steps_sha256": digest.hexdigest()}


def named(mask: Any) -> xr.DataArray:
    """Return a mask (walk, time) or (time,) with the names of its axes, in this order."""
    if not isinstance(mask, xr.DataArray):
        array = np.asarray(mask)
        return xr.DataArray(array, dims=(schema.WALK, schema.TIME)[-array.ndim :])
    if not set(mask.dims) <= {schema.WALK, schema.TIME}:
        dims = ", ".join(map(str, mask.dims))
        raise ValueError(f"steps must have the dimensions walk and time, got {dims}")
    return mask.transpose(schema.WALK, schema.TIME, missing_dims="ignore")


def repeated(mask: xr.DataArray, sizes: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Repeat a mask along the axis that it lacks, (walk, time); None if it has other sizes."""
    whole = dict(zip((schema.WALK, schema.TIME), sizes, strict=True))
    if any(size != whole[str(dim)] for dim, size in mask.sizes.items()):
        return None
    values = mask.values
    return np.broadcast_to(values[:, None] if mask.dims == (schema.WALK,) else values, sizes)


def check_steps(steps: Condition) -> Steps | None:
    """Return the steps as :class:`Steps`; raise for what is neither a mask nor a condition."""
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
    mask = named(steps)
    for dim in mask.dims:
        if not mask.get_index(dim).is_unique:
            raise ValueError(
                f"steps must have every {dim} once, got repeated labels; without labels, as from "
                f"steps.drop_vars({dim!r}), they are aligned by their numbers"
            )
    return Steps(mask)


def check_kind(how: str | Function) -> str | Function:
    """Return the kind of change; raise for an unknown one."""
    if not callable(how):
        check_option("how", how, (*REPLACEMENTS, *KINDS))
    return how


def check_dose(how: str | Function, dose: Any) -> float | xr.DataArray | None:
    """Return the dose; raise for one that the kind of change does not take."""
    if callable(how):
        return dose if dose is None or isinstance(dose, xr.DataArray) else number(dose)
    if how in REPLACEMENTS:
        share = 1.0 if dose is None else number(dose)
        if not 0 <= share <= 1:
            raise ValueError(
                f"dose must be a fraction from 0 (intact) to 1 (replaced) for how={how!r}, got "
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
