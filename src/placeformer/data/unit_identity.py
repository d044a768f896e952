"""Whether two Datasets can be compared: the same neurons or network units, in the same measures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from placeformer._warnings import warn
from placeformer.data import schema

LABELS = ("layer", "component", "index", "unit_id", schema.UNIT)

BY_POSITION = (
    "pass allow_other_units=True to pair the units by position, such as those of one network "
    "before and after training, or cells that were tracked across sessions"
)

COUNTED = r"(?:1|(?:count|event|spike|impulse|transient)s?|spk|sp|imp|aps?)"

SECOND = r"(?:s|secs?|seconds?)"

PER_SECOND = re.compile(
    rf"hz|hertz|{COUNTED} *(?:/|per) *{SECOND}|(?:{COUNTED}[ ·*]*)?{SECOND}(?:(?:\^|\*\*)?-1|⁻¹)",
    re.IGNORECASE,
)
"""Spellings of a number per second, such as Hz, spikes/s, events per second and s^-1."""

SPELLINGS = (
    ("1", "", "count", "counts", "spike", "spikes"),
    ("m", "meter", "meters", "metre", "metres"),
    ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    ("px", "pixel", "pixels"),
    ("rad", "radian", "radians"),
    ("deg", "degree", "degrees"),
)
"""Spellings of the same units of measure."""

WORLD = ("world_seed", "familiar", "maps", "n_letters", *schema.WORLD_SIZE, "letters_sha256")
"""What determines the letters at the places of a grid world, as the provenance names it."""


def check_same_units(
    a: xr.Dataset | xr.DataArray,
    b: xr.Dataset | xr.DataArray,
    names: tuple[str, str],
    *,
    allow_other_units: bool = False,
    otherwise: str = BY_POSITION,
) -> None:
    """Refuse two Datasets whose units cannot be paired one to one.

    Parameters
    ----------
    a, b
        Datasets or DataArrays with the dimension ``unit``.
    names
        Names of the two arguments, for the error.
    allow_other_units
        Pair the units by their position, whatever their labels and origin.
    otherwise
        Remedy that the error suggests, for a function without the option ``allow_other_units``.

    Raises
    ------
    ValueError
        The units differ in number, or without ``allow_other_units`` in a label that both have, in
        the weights of the network, or in the recording session.
    """
    both = f"{names[0]} and {names[1]} must hold the same units in the same order"
    n_units = a.sizes[schema.UNIT], b.sizes[schema.UNIT]
    if n_units[0] != n_units[1]:
        raise ValueError(
            f"{both}, got {n_units[0]} and {n_units[1]} units; select the shared ones by their "
            "labels with sel(unit=labels), or compare whole populations with placeformer.similarity"
        )
    if allow_other_units:
        return
    for name in LABELS:
        if name not in a.coords or name not in b.coords:
            continue
        differ = np.flatnonzero(a[name].values != b[name].values)
        if differ.size:
            first, second = (str(d[name].values[differ[0]]) for d in (a, b))
            raise ValueError(
                f"{both}, got {first!r} and {second!r} as the first {name!r} that differs; select "
                f"the shared units by their labels with sel(unit=labels), or {otherwise}"
            )
    if _differ(networks(a), networks(b)):
        raise ValueError(
            f"{both}, got units of two networks (their weights differ): unit 0 of the one has "
            "nothing to do with unit 0 of the other. Compare the populations with "
            f"placeformer.similarity of recordings on the same walks, or {otherwise}"
        )
    if _differ(_steps(a, "session"), _steps(b, "session")):
        raise ValueError(
            f"{both}, got units of the recording sessions {_steps(a, 'session')[0]!r} and "
            f"{_steps(b, 'session')[0]!r}: a cell may have another number in each; {otherwise}"
        )
    if _differ(_steps(a, "spikes"), _steps(b, "spikes")):
        raise ValueError(
            f"{both}, got two sets of spike trains or signals: a cell of one session may have "
            "another number in the next. If both are parts of one session, pass all of its data "
            "and the part as epochs= to from_pynapple, or the same session= to both calls; else "
            f"{otherwise}"
        )


def check_same_measures(
    a: xr.Dataset, b: xr.Dataset, names: tuple[str, str], variables: Iterable[str]
) -> None:
    """Refuse two Datasets with a variable in different units of measure, such as m and cm.

    Parameters
    ----------
    a, b
        Datasets.
    names
        Names of the two arguments, for the error.
    variables
        The variables to compare; those that a Dataset lacks, or that state no units, are left out.

    Raises
    ------
    ValueError
        Both state the units of a variable, and these differ.
    """
    for name in variables:
        stated = [d[name].attrs.get("units") for d in (a, b) if name in d.variables]
        if len(stated) == 2 and None not in stated and _measure(stated[0]) != _measure(stated[1]):
            raise ValueError(
                f"{names[0]} and {names[1]} must have {name!r} in the same units, got "
                f"{stated[0]!r} and {stated[1]!r}; convert one of them, or correct the attribute "
                f"'units' of its {name!r} where that is wrong"
            )


def common_units(
    dataset: xr.Dataset | Mapping[str, xr.Variable], names: Sequence[str], purpose: str
) -> str:
    """Units of measure of some axes of position, which must be the same for a distance.

    Parameters
    ----------
    dataset
        Recording, RateMaps, or a mapping of variables.
    names
        Axes of position.
    purpose
        What needs the distance, for the error.

    Raises
    ------
    ValueError
        The axes are in different units, such as cm and m, or cm and rad.
    """
    units = {name: str(dataset[name].attrs.get("units", "1")) for name in names}
    if len({_measure(u) for u in units.values()}) > 1:
        raise ValueError(
            f"{purpose} must have axes in the same units, as a distance is taken over all of them, "
            f"got {', '.join(f'{name!r} in {u!r}' for name, u in units.items())}; convert one of "
            "them, correct its attribute 'units', or analyse the axes one at a time"
        )
    return units[names[0]]


def is_per_second(units: Any) -> bool:
    """Whether units of measure are those of a rate: a number per second, in any spelling."""
    return PER_SECOND.fullmatch(str(units).strip()) is not None


def _measure(units: Any) -> str:
    """One spelling of units of measure."""
    text = str(units).strip()
    if is_per_second(text):
        return "Hz"
    return next((same[0] for same in SPELLINGS if text in same), text)


def networks(dataset: xr.Dataset | xr.DataArray) -> list[Any]:
    """Fingerprints of the networks that a Dataset was recorded from, in its provenance."""
    known = [network for network in _steps(dataset, "network") if isinstance(network, dict)]
    return [network["weights_sha256"] for network in known if "weights_sha256" in network]


def nwb_files(dataset: xr.Dataset) -> list[str]:
    """NWB files that a Dataset was made from, as its provenance names them."""
    return [str(name) for name in _steps(dataset, "nwb_file")]


def world(dataset: xr.Dataset) -> dict[str, Any]:
    """What determines the letters at the places of a Dataset; empty if it is not known."""
    walks = _steps(dataset, "walks")
    known = walks[0] if walks and isinstance(walks[0], dict) else {}
    return {name: known[name] for name in WORLD if name in known}


def warn_of_other_worlds(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str]) -> None:
    """Warn where rate maps of two networks are of places that show other letters."""
    worlds = world(a), world(b)
    if _differ(networks(a), networks(b)) and all(worlds) and worlds[0] != worlds[1]:
        differ = [k for k in WORLD if worlds[0].get(k) != worlds[1].get(k)]
        values = (", ".join(f"{k}={w.get(k)}" for k in differ) for w in worlds)
        warn(
            f"{names[0]} and {names[1]} are of two networks in two worlds ({' and '.join(values)}):"
            " the same place shows other letters, so the similarity of their maps is not that of "
            "the networks. Record both on the same walks: walks = world.walk(...), then "
            "placeformer.record(network, walks) for each",
        )


def _steps(dataset: xr.Dataset | xr.DataArray, name: str) -> list[Any]:
    """Values that the steps of the provenance give a name."""
    steps = schema.read_provenance(dataset).get("steps", [])
    return [step[name] for step in steps if step.get(name)]


def _differ(a: list[Any], b: list[Any]) -> bool:
    """Whether both are known and differ."""
    return bool(a and b and a != b)
