"""Rate maps from other sources, labelled as the Dataset of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.array_labels import check_labels, stated_units, unit_ids
from placeformer.data.arrays import as_array, unit_labels
from placeformer.data.circular import check_edges, check_periods, declare

EQUIDISTANT = 1e-4
"""Fraction of a bin by which the distances of bin centres may differ: they may be float32."""

ASSUMED = "time per place, assumed to be the same at all places"
"""Long name of an occupancy that was not given."""


def maps_from_arrays(
    rate: Any,
    occupancy: Any = None,
    edges: Any = None,
    *,
    by: Sequence[str] = ("y", "x"),
    layer: str | Sequence[str] | None = None,
    units: str | None = None,
    occupancy_units: str | None = None,
    position_units: str | None = None,
    circular: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Label arrays of rate maps as RateMaps, the input of every measure of maps.

    Parameters
    ----------
    rate
        Array (unit, y, x), or (y, x) of one unit, or (map, unit, y, x): NumPy, masked, h5py, zarr,
        or a DataArray with these dimensions, whose labels of units, maps and bin centres are kept.
        NaN or masked where a place was not visited.
    occupancy
        Array (y, x), or (map, y, x), of the time at every place, the same for all units; where it
        is 0 or NaN the place was not visited, and its rate becomes NaN. By default all places where
        any unit has a rate have equal weight.
    edges
        Ascending edges of the bins, one more than bins: a mapping such as ``{"y": ..., "x": ...}``,
        a sequence of one array for every axis, or one array for axes of one length. By default they
        lie halfway between the equidistant bin centres of a DataArray; without these, bins are 1
        wide and centred on 0, 1, 2, ...
    by
        Names of the axes, in the order of the array; ``by="x"`` for maps of a track.
    layer
        The layer, population or brain area of all units, or one for each.
    units, occupancy_units, position_units
        Units of the rates, for example "Hz"; of the occupancy, "s" or "samples"; and of the edges.
        By default those that the rates, the occupancy and the bin centres of DataArrays state in
        ``attrs["units"]``, else "1", "s" and "1".
    circular
        Period of every circular axis, such as ``{"heading": 2 * np.pi}``, which its edges span.

    Returns
    -------
    xarray.Dataset
        RateMaps as :func:`rate_maps` gives them: ``rate``, float64, ``occupancy``, bin centres and
        edges, and the number of every unit as ``index``. Labels of the units of a DataArray are
        ``unit`` and ``unit_id``, as in :func:`from_arrays`.

    Raises
    ------
    ValueError
        Shapes or labels do not fit, edges do not ascend, rates are infinite, or occupancy is
        negative.

    See Also
    --------
    rate_maps : Rate maps of a recording.
    from_arrays : Label arrays of activations and positions as a recording.
    grid_score, border_score, spatial_information

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rate = np.random.default_rng(0).random((29, 32, 32))
    >>> maps = pf.maps_from_arrays(rate, edges=np.linspace(0, 1, 33), units="Hz")
    >>> dict(maps.sizes)
    {'unit': 29, 'y': 32, 'x': 32, 'y_edges': 33, 'x_edges': 33}
    >>> dict(pf.grid_score(maps).sizes)
    {'unit': 29}
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    check_labels({"rate": rate, "occupancy": occupancy}, (schema.MAP, *names))
    values = _values("rate", rate, (schema.MAP, schema.UNIT, *names), names)
    if values.ndim == len(names):
        values = values[None]
    lead = (schema.MAP,) if values.ndim == len(names) + 2 else ()
    if values.ndim != len(lead) + 1 + len(names):
        raise ValueError(
            f"rate must be (unit, {', '.join(names)}), ({', '.join(names)}) of one unit or (map, "
            f"unit, {', '.join(names)}), got shape {values.shape}; name its axes with by"
        )
    if np.isinf(values).any():
        raise ValueError(
            f"rate must be finite, or NaN where unvisited, got {int(np.isinf(values).sum())} "
            "infinite values; divide by the occupancy only where it is above 0"
        )
    place = values.shape[len(lead) + 1 :]
    seconds, about = _occupancy(values, occupancy, lead, names, occupancy_units)
    unit_axis = (slice(None),) * len(lead) + (None,)
    values = np.where(np.broadcast_to(seconds[unit_axis] > 0, values.shape), values, np.nan)
    coords: dict[str, xr.Variable] = {}
    for name, bins in _edges(edges, names, place, _labels(rate, names)).items():
        labels = rate.coords.get(name) if isinstance(rate, xr.DataArray) else None
        place_units = stated_units("position_units", position_units, labels)
        about_axis = {
            "units": place_units or schema.RECORDING["x"].units,
            "long_name": f"{name} position",
        }
        centres = (bins[:-1] + bins[1:]) / 2
        coords[name] = xr.Variable(name, centres, about_axis)
        own = name + schema.EDGES_SUFFIX
        about_edges = {**about_axis, "long_name": f"edges of the bins of {name}"}
        coords[own] = xr.Variable(own, bins, about_edges)
    own_units = stated_units("units", units, rate) or schema.RATE_ENTRY.units
    rates = {"units": own_units, "long_name": schema.RATE_ENTRY.long_name}
    maps = xr.Dataset(
        {
            schema.RATE: ((*lead, schema.UNIT, *names), values, rates),
            schema.OCCUPANCY: ((*lead, *names), seconds, about),
        },
        coords={**coords, **unit_labels(layer, values.shape[len(lead)], unit_ids(rate))},
        attrs={schema.PROVENANCE: schema.provenance(None, "maps_from_arrays")},
    )
    if lead:
        attrs = schema.RECORDING[schema.MAP].attrs
        named = isinstance(rate, xr.DataArray) and schema.MAP in rate.coords
        number = rate[schema.MAP].values if named else np.arange(len(values))
        maps = maps.assign_coords({schema.MAP: (schema.MAP, number, attrs)})
    schema.check_rate_maps(maps)
    for name, period in check_periods(circular).items():
        if name + schema.EDGES_SUFFIX in maps.coords:
            check_edges(name, maps[name + schema.EDGES_SUFFIX].values, period)
    return declare(maps, circular)


def _values(
    argument: str, given: Any, dims: tuple[str, ...], need: tuple[str, ...]
) -> NDArray[np.float64]:
    """An array as floats, the axes of a DataArray in order."""
    if isinstance(given, pd.DataFrame):
        raise ValueError(
            f"{argument} must be an array or a DataArray, got a DataFrame, whose rows may be units "
            f"or places; name its axes, such as xr.DataArray(frame, dims=({need[-1]!r}, 'unit'))"
        )
    if isinstance(given, xr.DataArray):
        if not set(need) <= set(given.dims) <= set(dims):
            raise ValueError(
                f"{argument}, a DataArray, must have dims among {dims}, all of {need}, got "
                f"{given.dims}; name the axes of places with by"
            )
        given = given.transpose(*dims, missing_dims="ignore").data
    return np.asarray(as_array(given), np.float64)


def _occupancy(
    rate: NDArray[np.float64],
    occupancy: Any,
    lead: tuple[str, ...],
    names: tuple[str, ...],
    units: str | None,
) -> tuple[NDArray[np.float64], dict[str, str]]:
    """Occupancy ([map,] y, x), 0 where unvisited, and its attributes."""
    visited = np.isfinite(rate).any(axis=len(lead))
    if occupancy is None:
        return visited.astype(float), {"units": "1", "long_name": ASSUMED}
    values = _values("occupancy", occupancy, (*lead, *names), names)
    if values.shape not in (visited.shape, visited.shape[len(lead) :]):
        raise ValueError(
            f"occupancy must be ({', '.join((*lead, *names))}) = {visited.shape}, the same for all "
            f"units, got {values.shape}"
        )
    values = np.nan_to_num(np.broadcast_to(values, visited.shape), posinf=np.inf)
    if (values < 0).any() or np.isinf(values).any():
        raise ValueError(
            f"occupancy must be finite and at least 0, got {values.min():g} to {values.max():g}; "
            "set places that do not count to 0"
        )
    seconds = stated_units("occupancy_units", units, occupancy) or "s"
    return values, {"units": seconds, "long_name": "time per place"}


def _labels(given: Any, dims: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Numbers that label a DataArray along some dimensions."""
    indexes = given.indexes if isinstance(given, xr.DataArray) else {}
    found = {name: indexes[name].to_numpy() for name in dims if name in indexes}
    return {name: labels for name, labels in found.items() if labels.dtype.kind in "iuf"}


def _edges(
    edges: Any,
    names: tuple[str, ...],
    sizes: tuple[int, ...],
    centres: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[np.floating[Any]]]:
    """Edges of every axis, those that are not given from the centres of the bins."""
    if edges is None:
        return {
            name: _edges_around(name, centres.get(name, np.arange(n)))
            for name, n in zip(names, sizes, strict=True)
        }
    if np.isscalar(edges) or not len(edges):
        raise ValueError(
            f"edges must be ascending numbers, one more than bins, or such an array for each of "
            f"{names}, got {edges!r}; for 10 bins pass np.linspace(low, high, 11)"
        )
    if isinstance(edges, Mapping):
        given = dict(edges)
    elif np.ndim(next(iter(edges))) == 0:
        given = dict.fromkeys(names, edges)
    else:
        given = dict(zip(names, edges, strict=False)) if len(edges) == len(names) else {}
    if set(given) != set(names):
        raise ValueError(
            f"edges must hold one array for each of {names}, got "
            f"{sorted(given) if given else len(edges)}"
        )
    checked = {name: np.asarray(given[name], float) for name in names}
    for (name, bins), n in zip(checked.items(), sizes, strict=True):
        if bins.shape != (n + 1,) or not np.isfinite(bins).all() or not (np.diff(bins) > 0).all():
            raise ValueError(
                f"edges of {name!r} must be {n + 1} finite ascending numbers for {n} bins, got "
                f"{bins.size} from {bins.min():g} to {bins.max():g}"
            )
        own = centres.get(name, np.arange(n))
        within = (bins[:-1] <= own) & (own <= bins[1:])
        if not within.all() and not np.array_equal(own, np.arange(n)):
            raise ValueError(
                f"edges of {name!r} must fit the labels of rate, a DataArray, its bin centres: "
                f"{own[~within][0]:g} is not in the bin from {bins[:-1][~within][0]:g} to "
                f"{bins[1:][~within][0]:g}; sort it with rate.sortby({name!r}), or drop labels "
                f"that mean nothing with rate.drop_vars({name!r})"
            )
    return checked


def _edges_around(name: str, centres: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Edges of bins of one width, from their centres."""
    steps = np.diff(centres) if len(centres) > 1 else np.ones(1)
    if not (steps > 0).all() or not np.allclose(steps, steps.mean(), rtol=EQUIDISTANT, atol=0):
        raise ValueError(
            f"rate, a DataArray, must have equidistant ascending labels of {name!r}, the centres "
            f"of its bins, got {centres[:4].tolist()}, ...; pass edges={{{name!r}: ...}}, or sort "
            f"it with rate.sortby({name!r})"
        )
    half = steps.mean() / 2
    return np.linspace(centres[0] - half, centres[-1] + half, len(centres) + 1)
