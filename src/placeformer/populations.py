"""Population vectors: the activations of all units at once, at places or along walks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer.places import activations
from placeformer.ratemaps import flatten


def is_maps(dataset: object) -> bool:
    """Tell RateMaps from a Recording; anything else is left to the checks of a Recording."""
    return isinstance(dataset, xr.Dataset) and schema.RATE in dataset


def vectors(dataset: xr.Dataset, every: int = 1) -> Any:
    """Population vectors (group, row, unit) of a Recording or RateMaps.

    A group is a walk with its steps as rows, a NumPy or dask array, or a visited place (of any
    map) with a single row.
    """
    if is_maps(dataset):
        (found,) = shared_places(dataset)[0]
        return found[:, None, :]
    schema.check_recording(dataset)
    return _steps(dataset, every)


def pair(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str], every: int = 1) -> tuple[Any, Any]:
    """Population vectors (group, row, unit) of two, row for row at the same place or step.

    Raises
    ------
    ValueError
        Other places, or walks that are not the same.
    """
    if is_maps(a) and is_maps(b):
        (at_a, at_b), _ = shared_places(a, b, names=names)
        return at_a[:, None, :], at_b[:, None, :]
    if is_maps(a) or is_maps(b):
        raise ValueError(
            f"{names[0]} and {names[1]} must both be recordings or both be rate maps; compute the "
            "rate maps of the other with placeformer.rate_maps"
        )
    _check_same_walks(a, b, names)
    return _steps(a, every), _steps(b, every)


def shared_places(
    *maps: xr.Dataset, names: tuple[str, ...] = ("maps",)
) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
    """Rates (place, unit) where every unit of all maps has one, and which places these are.

    Raises
    ------
    ValueError
        Maps with other places than the first, or no place in common.
    """
    flat = []
    for each, name in zip(maps, names, strict=True):
        schema.check_rate_maps(each)
        check_same_places(maps[0], each, (names[0], name))
        rate, share = flatten(each)
        rate = np.moveaxis(np.where(share > 0, rate, np.nan), -2, -1)
        flat.append(rate.reshape(-1, rate.shape[-1]))
    known = np.logical_and.reduce([np.isfinite(rate).all(axis=1) for rate in flat])
    if known.sum() < 2:
        raise ValueError(
            f"{' and '.join(names)} must have at least 2 places where no rate is NaN, found "
            f"{known.sum()}; drop units that are NaN throughout, or lower min_occupancy"
        )
    return [rate[known] for rate in flat], known


def check_same_places(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str]) -> None:
    """Refuse two RateMaps whose bins differ."""
    if _places(a) != _places(b):
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same places, found {_shape(a)} and "
            f"{_shape(b)} or other bin centres or edges; pass the same bins to both rate_maps, "
            "for example bins={'x': edges, 'y': edges}"
        )


def check_same_units(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str]) -> None:
    """Refuse two Datasets whose units differ in number or name."""
    n = a.sizes[schema.UNIT], b.sizes[schema.UNIT]
    shared = [k for k in ("layer", "index") if k in a.coords and k in b.coords]
    other = [k for k in shared if n[0] == n[1] and not np.array_equal(a[k].values, b[k].values)]
    if n[0] != n[1] or other:
        found = f"{n[0]} and {n[1]} units" if n[0] != n[1] else f"another {other[0]!r}"
        raise ValueError(
            f"{names[0]} and {names[1]} must be of the same units in the same order, found "
            f"{found}; select the same units of both, or compare populations with "
            "placeformer.similarity"
        )


def _steps(recording: xr.Dataset, every: int) -> Any:
    if every < 1:
        raise ValueError(f"every must be at least 1 step, found {every}")
    return activations(recording)[:, ::every]


def _check_same_walks(a: xr.Dataset, b: xr.Dataset, names: tuple[str, str]) -> None:
    for each in (a, b):
        schema.check_recording(each)
    sizes = [(each.sizes[schema.WALK], each.sizes[schema.TIME]) for each in (a, b)]
    shared = {"x", "y", schema.MAP, "familiar", "observation"} & set(a.variables) & set(b.variables)
    differ = sizes[0] != sizes[1] or [
        k for k in sorted(shared) if not np.array_equal(a[k].values, b[k].values)
    ]
    if differ:
        found = f"sizes {sizes[0]} and {sizes[1]}" if differ is True else f"another {differ[0]!r}"
        raise ValueError(
            f"{names[0]} and {names[1]} must be of the same walks, found {found}; record both on "
            "the same walks (placeformer.record(network, walks)), or compare their rate maps"
        )


def _places(maps: xr.Dataset) -> dict[Hashable, list[float]]:
    """Bin centres and edges of every axis, and the maps kept apart."""
    space = schema.place_dims(maps)
    names = (*space, *(d + schema.EDGES_SUFFIX for d in space), schema.MAP)
    return {k: maps[k].values.tolist() for k in names if k in maps.coords and maps[k].ndim}


def _shape(maps: xr.Dataset) -> tuple[int, ...]:
    return tuple(n for d, n in maps[schema.RATE].sizes.items() if d != schema.UNIT)
