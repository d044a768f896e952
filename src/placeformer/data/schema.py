"""The Dataset contract: names, dimensions and units of every variable.

Units are in the spelling of UDUNITS and pint: "Hz", "m", "bit", and "1" for none.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

WALK, TIME, UNIT, MAP = "walk", "time", "unit", "map"
ACTIVATION, RATE, OCCUPANCY = "activation", "rate", "occupancy"
DWELL, TIMESTAMP = "dwell", "timestamp"
PROVENANCE = "provenance"
EDGES_SUFFIX = "_edges"
WALLS = "walls"
"""Attribute of the walls of a grid world: JSON text of pairs of places."""
WORLD_SIZE = ("side", "rows", "columns")
"""Attributes that state the size of a grid world: `side` of a square one, else the others."""


@dataclass(frozen=True)
class Entry:
    """One variable or coordinate of the contract: its dimensions, units and long name."""

    dims: tuple[str, ...]
    units: str
    long_name: str

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes every such variable carries."""
        return {"units": self.units, "long_name": self.long_name}


AXES = ("x", "y", "z")
"""Names of the axes of a position that has no others."""

STEP_DIMS: tuple[str, ...] = (WALK, TIME)
RECORDING_DIMS: tuple[str, ...] = (*STEP_DIMS, UNIT)

RECORDING: Mapping[str, Entry] = {
    ACTIVATION: Entry(RECORDING_DIMS, "1", "activation"),
    "x": Entry((WALK, TIME), "1", "x position"),
    "y": Entry((WALK, TIME), "1", "y position"),
    "action": Entry((WALK, TIME), "1", "action taken to reach the place"),
    "observation": Entry((WALK, TIME), "1", "letter seen at the place"),
    "prediction": Entry((WALK, TIME), "1", "letter predicted at the place"),
    "visited": Entry((WALK, TIME), "1", "place lies within the attended window"),
    "correct": Entry((WALK, TIME), "1", "letter was predicted correctly"),
    DWELL: Entry((WALK, TIME), "s", "time that the sample represents"),
    MAP: Entry((WALK,), "1", "map the walk was made on"),
    "familiar": Entry((WALK,), "1", "map was trained on"),
    "window": Entry((TIME,), "1", "earlier steps that could be attended to"),
    UNIT: Entry((UNIT,), "1", "label of the unit"),
    "layer": Entry((UNIT,), "1", "layer of the unit"),
    "component": Entry((UNIT,), "1", "component of the unit"),
    "index": Entry((UNIT,), "1", "number of the unit within its layer"),
}
"""Every name that the contract defines for a Recording; only ``activation`` is required."""

OCCUPANCY_ENTRY = Entry(("y", "x"), "1", "samples per place")
RATE_ENTRY = Entry((UNIT, "y", "x"), "1", "mean activation per place")


def variable(
    dims: Hashable | tuple[Hashable, ...],
    values: Any,
    long_name: str,
    *,
    units: str = "1",
    **attrs: Any,
) -> xr.Variable:
    """Label values with dimensions, a readable name, and units in the spelling of UDUNITS and pint.

    Counts, fractions and arbitrary units are dimensionless, ``"1"``: what is counted is part of the
    long name.
    """
    return xr.Variable(dims, values, {"units": units, "long_name": long_name, **attrs})


def shown_units(values: xr.DataArray, dimensionless: str = "a.u.") -> str:
    """Units for the label of a figure; `dimensionless` where the values have none."""
    units = str(values.attrs.get("units", "1"))
    return dimensionless if units in ("", "1") else units


def check_recording(recording: xr.Dataset, need: Iterable[str] = ()) -> None:
    """Raise one error that lists every reason why a Dataset is not a Recording.

    Parameters
    ----------
    recording
        Dataset with ``activation`` (walk, time, unit), in any order of dimensions.
    need
        Further variables or coordinates that the analysis needs. Names of the contract must have
        the contract's dimensions; others any of (walk, time).

    Raises
    ------
    TypeError
        ``recording`` is not a Dataset.
    ValueError
        Something is missing or has other dimensions; all problems are named at once.
    """
    _check_dataset(recording, "recording", "wrap arrays with placeformer.from_arrays")
    problems = _activation_problems(recording) + _label_problems(recording)
    for name in dict.fromkeys(need):
        problems += _need_problems(recording, name)
    for name in sorted(set(map(str, recording.variables)) & set(RECORDING) - set(need)):
        if name != ACTIVATION:
            problems += _dims_problems(recording, name, RECORDING[name].dims)
    for name in (DWELL, TIMESTAMP):
        problems += _dtype_problems(recording, name) if name in recording.variables else []
    for name in WORLD_SIZE:
        size = recording.attrs.get(name, 1)
        number = isinstance(size, int | float | np.integer) and not isinstance(size, bool)
        if not number or float(size) % 1 != 0:
            problems.append(f"attribute {name!r} must be a whole number, got {reprlib.repr(size)}")
    _raise_all(
        "recording",
        recording,
        problems,
        "see the Recording contract, or build one "
        "with placeformer.record or placeformer.from_arrays",
    )


def check_rate_maps(maps: xr.Dataset) -> None:
    """Raise one error that lists every reason why a Dataset is not RateMaps.

    Parameters
    ----------
    maps
        Dataset with ``rate`` (..., unit, place dimensions) and ``occupancy`` (..., place
        dimensions), every place dimension with its bin centres as coordinate.

    Raises
    ------
    TypeError
        ``maps`` is not a Dataset.
    ValueError
        Something is missing or has other dimensions; all problems are named at once.
    """
    _check_dataset(maps, "maps", "compute it with placeformer.rate_maps(recording)")
    problems = [f"variable {name!r} is missing" for name in (RATE, OCCUPANCY) if name not in maps]
    if not problems:
        problems += _map_problems(maps)
    _raise_all(
        "maps",
        maps,
        problems,
        "compute it with placeformer.rate_maps(recording)",
    )


def place_dims(maps: xr.Dataset) -> tuple[str, ...]:
    """Dimensions of ``rate`` that are places: those with edges, else all that follow ``unit``."""
    dims = tuple(str(d) for d in maps[RATE].dims)
    with_edges = tuple(d for d in dims if d + EDGES_SUFFIX in maps.variables)
    return with_edges or (dims[dims.index(UNIT) + 1 :] if UNIT in dims else ())


def edges_of(maps: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Edges of the bins of an axis of rate maps: those that its bin centres lie between.

    A selection such as ``maps.isel(x=slice(5, 15))`` leaves the coordinate ``x_edges`` whole.

    Raises
    ------
    ValueError
        The bins are not consecutive bins of the coordinate of edges.
    """
    edges = np.asarray(maps[name + EDGES_SUFFIX].values, np.float64)
    centres = np.atleast_1d(np.asarray(maps[name].values, np.float64))
    first = max(int(np.searchsorted(edges, centres[0], side="right")) - 1, 0)
    part = edges[first : first + len(centres) + 1]
    if len(part) == len(centres) + 1 and np.all((part[:-1] <= centres) & (centres <= part[1:])):
        return part
    raise ValueError(
        f"{name!r} must be neighbouring bins of {name + EDGES_SUFFIX!r} in ascending order, got "
        f"{len(centres)} centres from {centres[0]:g} to {centres[-1]:g} for {len(edges)} edges "
        f"from {edges[0]:g} to {edges[-1]:g}; select slices without a step, or compute new maps"
    )


def unit_labels(names: ArrayLike) -> xr.Variable:
    """The coordinate ``unit``: names as text, made unique.

    From its second occurrence on, a name is followed by ``#2``, ``#3``, ...: clusters sorted on
    several probes may share their ids, but ``sel`` must select a single unit.
    """
    labels = pd.Series(np.asarray(names).astype(str))
    while labels.duplicated().any():
        nth = labels.groupby(labels).cumcount() + 1
        labels = labels.where(nth == 1, labels + "#" + nth.astype(str))
    return xr.Variable(UNIT, labels.to_numpy(dtype=str), RECORDING[UNIT].attrs)


def layer_labels(layer: NDArray[Any], index: NDArray[np.integer]) -> xr.Variable:
    """The coordinate ``unit`` of units that are numbered within layers, such as ``ffn.1/37``."""
    return unit_labels(np.char.add(np.char.add(layer.astype(str), "/"), index.astype(str)))


def unit_names(units: xr.DataArray | xr.Dataset, which: np.ndarray, limit: int = 5) -> str:
    """Name the first units of a selection by their labels, or by number without labels."""
    chosen = np.asarray(which)[:limit]
    if UNIT in units.coords:
        named = [str(label) for label in units[UNIT].values[chosen]]
    elif {"layer", "index"} <= set(units.coords):
        layer, index = np.asarray(units["layer"]), np.asarray(units["index"])
        named = [f"{layer[i]}/{index[i]}" for i in chosen]
    else:
        named = [str(int(i)) for i in chosen]
    return ", ".join(named) + (", ..." if len(which) > limit else "")


def check_finite(units: xr.DataArray, not_finite: np.ndarray, *, name: str = ACTIVATION) -> None:
    """Raise an error that names the units if values are NaN or infinite.

    Parameters
    ----------
    units
        Array with the coordinates of the units.
    not_finite
        Number of values that are not finite, shape (unit,).
    name
        The variable that holds them.

    Raises
    ------
    ValueError
        Any count is above 0.
    """
    bad = np.flatnonzero(not_finite)
    if bad.size:
        raise ValueError(
            f"{name} must be finite: {int(np.sum(not_finite)):,} values of {bad.size} units are "
            f"NaN or infinite (units {unit_names(units, bad)}); drop those units, or pass "
            "skipna=True to rate_maps to leave out the values"
        )


def map_of_walk(recording: xr.Dataset) -> np.ndarray:
    """Index of the map of each walk among the maps of a recording; 0 without maps."""
    if MAP in recording.variables:
        return map_numbers(recording)[1]
    return np.zeros(recording.sizes[WALK], np.intp)


def map_numbers(recording: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Maps of a recording, and the index of the map of each walk among them.

    Raises
    ------
    ValueError
        A map number refers to a trained map in some walks and to a novel one in others.
    """
    maps, number = np.unique(recording[MAP].values, return_inverse=True)
    if "familiar" in recording.variables:
        familiar = np.asarray(recording["familiar"].values, bool)
        both = np.intersect1d(number[familiar], number[~familiar])
        if both.size:
            raise ValueError(
                f"a number in map must refer to one map, but {', '.join(map(str, maps[both]))} "
                "occurs as a trained and as a novel map (coordinate 'familiar'); analyse them "
                "separately, with recording.isel(walk=recording.familiar.values), or renumber one "
                "of them"
            )
    return maps, number


def world_shape(attrs: Mapping[Any, Any]) -> tuple[int, int] | None:
    """Rows and columns of a grid world, from the attributes :data:`WORLD_SIZE`; None without."""
    side = attrs.get("side")
    rows, columns = attrs.get("rows", side), attrs.get("columns", side)
    return None if rows is None or columns is None else (int(rows), int(columns))


def read_provenance(dataset: xr.Dataset | xr.DataArray) -> dict[str, Any]:
    """Provenance of a Dataset as a dict; empty where it has none.

    Raises
    ------
    ValueError
        The attribute is not a JSON object.
    """
    text = dataset.attrs.get(PROVENANCE, "{}")
    try:
        provenance = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"attrs[{PROVENANCE!r}] must be JSON text, got {reprlib.repr(text)}"
        ) from error
    if not isinstance(provenance, dict) or not isinstance(provenance.get("steps", []), list):
        raise ValueError(
            f"attrs[{PROVENANCE!r}] must be a JSON object, with a list of steps if it has any, "
            f"got {reprlib.repr(text)}"
        )
    return provenance


def provenance(source: xr.Dataset | xr.DataArray | None, step: str, **settings: Any) -> str:
    """JSON text: the provenance of ``source`` with one more analysis step at its end.

    Parameters
    ----------
    source
        Dataset that the result was computed from; ``None`` starts a new provenance.
    step
        Name of the function that made the result.
    settings
        Its options: numbers, texts, and lists, tuples, arrays or mappings of them.
    """
    before = {} if source is None else read_provenance(source)
    steps = [*before.get("steps", []), {"step": step, **_plain(settings)}]
    return json.dumps({**before, "steps": steps})


def refuse_names(units: xr.Dataset | xr.DataArray, names: Iterable[Hashable]) -> None:
    """Refuse coordinates of the units with the name of a variable or dimension of a result.

    Parameters
    ----------
    units
        Recording, RateMaps, or another array over units.
    names
        Names of the variables and of the further dimensions of the result.

    Raises
    ------
    ValueError
        A coordinate has one of these names.
    """
    taken = [name for name in names if name in units.coords and units[name].dims == (UNIT,)]
    if taken:
        raise ValueError(
            f"the coordinate {taken[0]!r} of the units must have another name, as the result has a "
            f"variable or dimension of this name; rename it with rename({taken[0]}="
            f"'unit_{taken[0]}')"
        )


def unit_coords(dataset: xr.Dataset | xr.DataArray) -> dict[Hashable, xr.DataArray]:
    """Coordinates along ``unit`` only."""
    return {k: v for k, v in dataset.coords.items() if v.dims == (UNIT,)}


def _plain(value: Any) -> Any:
    """Value as a JSON type; anything else as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _check_dataset(value: object, argument: str, remedy: str) -> None:
    if not isinstance(value, xr.Dataset):
        raise TypeError(
            f"{argument} must be an xarray.Dataset, got {type(value).__name__}; {remedy}"
        )


def _activation_problems(recording: xr.Dataset) -> list[str]:
    if ACTIVATION not in recording:
        return [f"variable {ACTIVATION!r} is missing"]
    values = recording[ACTIVATION]
    if set(values.dims) != set(RECORDING_DIMS):
        return [_wrong_dims(ACTIVATION, RECORDING_DIMS, values.dims)]
    problems = [f"dimension {str(d)!r} has length 0" for d in values.dims if not values.sizes[d]]
    return problems + _dtype_problems(recording, ACTIVATION)


def _label_problems(recording: xr.Dataset) -> list[str]:
    problems, index = [], recording.indexes.get(UNIT)
    if index is not None and not index.is_unique:
        twice = ", ".join(repr(str(label)) for label in index[index.duplicated()].unique()[:3])
        problems.append(f"labels of {UNIT!r} must be unique, but {twice} occurs several times")
    for name, dim in ((MAP, WALK), ("layer", UNIT)):
        missing = int(recording[name].isnull().sum()) if name in recording.variables else 0
        if missing:
            problems.append(
                f"{name!r} must be known for every {dim}, got NaN or None for {missing} (name it "
                f"with fillna, or select the others with recording.dropna({dim!r}, "
                f"subset=[{name!r}]))"
            )
    return problems


def _need_problems(recording: xr.Dataset, name: str) -> list[str]:
    if name not in recording.variables:
        others = [str(k) for k, v in recording.coords.items() if v.dims == STEP_DIMS]
        others = [k for k in others if k != TIMESTAMP]
        hint = f" (name another position with by=({others[0]!r},))" if others else ""
        return [f"{name!r} is missing{hint if name in AXES else ''}"]
    dims = recording[name].dims
    inside = bool(dims) and set(dims) <= {WALK, TIME}
    if name in RECORDING:
        problems = _dims_problems(recording, name, RECORDING[name].dims)
    else:
        problems = [] if inside else [_wrong_dims(name, (WALK, TIME), dims)]
    return problems + (_dtype_problems(recording, name) if inside and name in AXES else [])


def _dtype_problems(dataset: xr.Dataset, name: str) -> list[str]:
    dtype = dataset[name].dtype
    if dtype.kind in "fiub":
        return []
    advice = ": turn times into seconds with (times - times[0]) / np.timedelta64(1, 's')"
    text = f"{name!r} must hold real numbers, got dtype {dtype}"
    return [text + advice if dtype.kind in "mM" else text]


def _dims_problems(dataset: xr.Dataset, name: str, dims: tuple[str, ...]) -> list[str]:
    actual = dataset[name].dims
    return [] if set(actual) == set(dims) else [_wrong_dims(name, dims, actual)]


def _wrong_dims(name: str, dims: tuple[str, ...], actual: tuple[Hashable, ...]) -> str:
    text = f"{name!r} must have dims ({', '.join(dims)}), got ({', '.join(map(str, actual))})"
    missing = [d for d in dims if d not in actual]
    if name in (ACTIVATION, RATE) and missing and set(actual) < set(dims):
        return f"{text}: pick with lists, such as isel({missing[0]}=[0]), which keep the dimension"
    if UNIT in actual and UNIT not in dims:
        return f"{text}: join units with xr.concat(..., 'unit', data_vars='minimal')"
    return text


def _map_problems(maps: xr.Dataset) -> list[str]:
    space, dims = place_dims(maps), maps[RATE].dims
    if UNIT not in dims or not space:
        return [_wrong_dims(RATE, (UNIT, "y", "x"), dims)]
    problems = [f"dimension {str(d)!r} has length 0" for d in dims if not maps.sizes[d]]
    problems += [
        f"coordinate {d!r} (bin centres) is missing" for d in space if d not in maps.coords
    ]
    allowed = set(dims) - {UNIT}
    occupancy = maps[OCCUPANCY].dims
    if not set(space) <= set(occupancy) <= allowed:
        want = tuple(str(d) for d in dims if d != UNIT)
        problems.append(_wrong_dims(OCCUPANCY, want, occupancy))
    for name in (RATE, OCCUPANCY):
        problems += _dtype_problems(maps, name)
    return problems or _edge_problems(maps)


def _edge_problems(maps: xr.Dataset) -> list[str]:
    """What is wrong with the edges: all place dimensions have them, or none has."""
    dims, problems = [str(d) for d in maps[RATE].dims], []
    with_edges = [d for d in dims if d + EDGES_SUFFIX in maps.variables]
    for d in dims[dims.index(UNIT) + 1 :] if with_edges else ():
        if d not in with_edges:
            problems.append(
                f"coordinate {d + EDGES_SUFFIX!r} is missing, although "
                f"{with_edges[0] + EDGES_SUFFIX!r} is there"
            )
    for d in with_edges:
        own = d + EDGES_SUFFIX
        wrong = _dtype_problems(maps, own) + _dtype_problems(maps, d)
        edges = maps[own].values
        if not wrong and not (edges.ndim == 1 and edges.size > 1 and np.all(np.diff(edges) > 0)):
            wrong = [f"{own!r} must be two ascending numbers or more, got {reprlib.repr(edges)}"]
        if not wrong:
            try:
                edges_of(maps, d)
            except ValueError as error:
                wrong = [str(error)]
        problems += wrong
    return problems


def _raise_all(argument: str, dataset: xr.Dataset, problems: list[str], remedy: str) -> None:
    if problems:
        has = (
            f"variables {sorted(map(str, dataset.data_vars))}, coordinates "
            f"{sorted(map(str, dataset.coords))}, dims {dict(dataset.sizes)}"
        )
        raise ValueError(
            f"{argument} breaks the Dataset contract: {'; '.join(problems)}. "
            f"It has {has}. To fix this: {remedy}."
        )
