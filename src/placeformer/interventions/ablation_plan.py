"""The plan of an ablation curve: which units are lesioned together, and beside which controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn

from placeformer.data import schema
from placeformer.interventions.control_units import (
    OUTPUT_WEIGHT,
    Order,
    activity,
    lesion_sets,
    order_scores,
    output_weight,
    shares_of,
)
from placeformer.interventions.replacement import Reference, find_recording
from placeformer.interventions.units import layer_widths
from placeformer.models.transformer import NavigationTransformer
from placeformer.spatial.negatives import Negatives

CONTROLS = ("random", "matched")
ACTIVITY = "activity"


class TooFewAlike(ValueError):
    """No fraction has matched controls."""


@dataclass(frozen=True)
class Plan:
    """Sets of units, and the distinct lesions they come to.

    Attributes
    ----------
    units
        Recording without activations: the coordinates of the units.
    score
        (unit,), by which they are ordered.
    fractions, sizes
        (fraction,): share and number of the units in a set.
    selections
        "ordered", then the controls.
    drawn : (selection, fraction)
        Whether there is a set.
    balance : (fraction, repeat, covariate)
    masks : (lesion, unit)
        Distinct lesions.
    which : (selection, fraction, repeat)
        The lesion of every set.
    keep
        The sets are what is left.
    decided
        Units were chosen, not ordered.
    """

    units: xr.Dataset
    score: NDArray[np.float64]
    fractions: NDArray[np.float64]
    sizes: NDArray[np.int64]
    selections: tuple[str, ...]
    covariates: tuple[str, ...]
    drawn: NDArray[np.bool_]
    balance: NDArray[np.float64]
    masks: NDArray[np.bool_]
    which: NDArray[np.int64]
    keep: bool
    decided: bool

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Fractions that have some of the units and not all, (fraction,)."""
        return (self.sizes > 0) & (self.sizes < self.score.size)

    def by_layer(self, widths: dict[str, int | None]) -> dict[str, NDArray[np.bool_]]:
        """Lesions as masks (lesion, width) of every layer."""
        found = {}
        layer, index = self.units["layer"].values, self.units["index"].values
        for name in dict.fromkeys(layer):
            here = layer == name
            width = widths[name]
            found[name] = np.zeros(
                (len(self.masks), index[here].max() + 1 if width is None else width), bool
            )
            found[name][:, index[here]] = self.masks[:, here]
        return found

    def chosen(self, mask: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
        """Units of one lesion (unit,) by layer."""
        layer, index = self.units["layer"].values[mask], self.units["index"].values[mask]
        return {str(name): index[layer == name] for name in np.unique(layer)}

    def coords(self) -> dict[str, Any]:
        """Coordinates of the result."""
        numbers = {"units": "1", "long_name": "units kept" if self.keep else "units lesioned"}
        share = {"units": "1", "long_name": f"share of {numbers['long_name']}"}
        return {
            "selection": list(self.selections),
            "control": list(self.selections[1:]),
            "fraction": ("fraction", self.fractions, share),
            "n_units": ("fraction", self.sizes, numbers),
            "bound": ["lower", "upper"],
            "covariate": list(self.covariates),
            **{str(name): coord for name, coord in schema.unit_coords(self.units).items()},
        }


def make_plan(
    model: nn.Module,
    layers: Sequence[str],
    reference: Reference,
    order: Order,
    fractions: NDArray[np.float64] | None,
    *,
    keep: bool,
    negatives: Negatives,
    controls: Sequence[str],
    caliper: float,
    repeats: int,
    seed: int,
) -> Plan:
    """Order the units, draw the sets, and find the distinct lesions among them."""
    units = recorded_units(layers, reference)
    found = order_scores(model, units, order, negatives)
    fractions, score = shares_of(found, fractions), found.astype(float)
    like = covariates(model, units)
    sizes = np.rint(fractions * score.size).astype(int)
    sets, drawn, balance = lesion_sets(
        score,
        np.stack(list(like.values()), 1),
        units["layer"].values,
        sizes=sizes.tolist(),
        repeats=repeats,
        controls=controls,
        caliper=caliper,
        seed=seed,
    )
    selections = ("ordered", *controls)
    check_matched(selections, drawn, sizes, score.size)
    flat = (~sets if keep else sets).reshape(-1, score.size)
    masks, which = np.unique(flat, axis=0, return_inverse=True)
    return Plan(
        units.drop_vars(schema.ACTIVATION), score, fractions, sizes, selections, tuple(like),
        drawn, balance, masks, which.reshape(sets.shape[:3]), keep, found.dtype == bool,
    )  # fmt: skip


def layer_names(model: nn.Module, layers: str | Sequence[str], reference: Reference) -> list[str]:
    """Layers that the patterns name: feed-forward ones of ours, recorded ones of others."""
    widths = layer_widths(model, reference)
    ours = isinstance(model, NavigationTransformer)
    known = [n for n, w in widths.items() if (n.startswith("ffn.") if ours else w is not None)]
    patterns = [layers] if isinstance(layers, str) else list(layers)
    if bad := [p for p in patterns if not any(fnmatchcase(name, p) for name in known)]:
        kind = "feed-forward layers" if ours else "layers that the reference holds"
        raise ValueError(
            f"layers must name {kind} ({', '.join(known) or 'there is none'}), got "
            f"{', '.join(map(repr, bad))}; other layers can be lesioned with placeformer.ablate"
        )
    return [name for name in known if any(fnmatchcase(name, p) for p in patterns)]


def recorded_units(layers: Sequence[str], reference: Reference) -> xr.Dataset:
    """Recording of the units of the layers, one layer after the other."""
    parts = [find_recording(reference, layer) for layer in layers]
    absent = [layer for layer, part in zip(layers, parts, strict=True) if part is None]
    if absent:
        raise ValueError(f"reference must hold every layer, but {', '.join(absent)} is missing")
    found = [part for part in parts if part is not None]
    if len(found) == 1:
        return found[0]
    return xr.concat(found, schema.UNIT, data_vars="minimal", coords="minimal", join="exact")


def covariates(model: nn.Module, units: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """What controls are matched for, each (unit,)."""
    like = {ACTIVITY: activity(units)}
    if isinstance(model, NavigationTransformer):
        like[OUTPUT_WEIGHT] = output_weight(model, units)
    return like


def check_fractions(fractions: ArrayLike | None) -> NDArray[np.float64] | None:
    """Return the fractions as an array, if there are any."""
    if fractions is None:
        return None
    shares = np.atleast_1d(np.asarray(fractions, float))
    if shares.ndim != 1 or not shares.size or (np.diff(shares) <= 0).any():
        raise ValueError(f"fractions must be one row of ascending numbers, got {fractions!r}")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"fractions must be within 0–1, got {shares.min():g} to {shares.max():g}")
    return shares


def check_controls(controls: Sequence[str], repeats: int) -> None:
    """Refuse unknown controls, and no repeats."""
    if unknown := [c for c in controls if c not in CONTROLS]:
        raise ValueError(f"controls must be among {', '.join(CONTROLS)}, got {unknown[0]!r}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")


def check_matched(
    selections: Sequence[str], drawn: NDArray[np.bool_], sizes: NDArray[np.int64], n: int
) -> None:
    """Refuse matched controls that exist for no fraction."""
    if "matched" not in selections or not sizes.any():
        return
    if not drawn[selections.index("matched"), sizes > 0].any():
        least = sizes[sizes > 0][0]
        raise TooFewAlike(
            f"too few matched controls: not even for the {least} units of the least fraction are "
            f"there as many like them among the other {n - least}; pass smaller fractions, a "
            'greater caliper, or controls=["random"]'
        )
