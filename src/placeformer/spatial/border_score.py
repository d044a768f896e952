"""Border score: how far a unit's fields stretch along a wall rather than away from it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from placeformer._options import check_number, check_whole
from placeformer._warnings import warn
from placeformer.data import schema
from placeformer.data.circular import refuse_circular
from placeformer.data.unit_identity import common_units
from placeformer.spatial.negatives import WORDS, Negatives, apply_negatives, policy_attrs
from placeformer.spatial.rate_maps import flatten, per_unit

VISITED_WALL = 0.25
"""Fraction of visited places along a wall below which there is a warning."""

LEAST_SHARE = 0.02
"""Minimum size of a field as a fraction of the visited places; 200 cm² of 1 m² in the source."""


def border_score(
    maps: xr.Dataset,
    *,
    negatives: Negatives = "rectify",
    threshold: float = 0.3,
    min_bins: int | None = None,
) -> xr.DataArray:
    r"""How far a unit's fields stretch along a wall rather than away from it.

    .. math:: b = \frac{c_M - d_m}{c_M + d_m}

    Fields are sets of places connected by their sides whose rate exceeds ``threshold`` times the
    maximum rate of the unit. c_M is the largest fraction of the visited places along one of the
    four walls that a single field covers. d_m is the mean distance of the places in fields from
    the nearest wall, weighted by rate and divided by half the shorter side.

    Parameters
    ----------
    maps
        RateMaps with two axes that fill a rectangle. The first and last rows and columns with a
        visited place are the walls, separately for every ``map``.
    negatives
        How to treat negative rates: ``"rectify"``, ``"shift"`` or ``"raise"``.
    threshold
        Fraction of the maximum rate; 0.3 in the source.
    min_bins
        Minimum size of a field in bins; by default 2 % of the visited places, which corresponds
        to the 200 cm² of the source in a box of 1 m².

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), -1 (central fields) to 1 (a line along a wall; with bins of finite
        width slightly less: 0.95 on 40 x 40 bins); unchanged when rates are scaled, and with
        ``negatives="shift"`` when they are shifted. A constant map is one field and scores about
        0.5 under ``"rectify"``. NaN for a unit without a field.

    Raises
    ------
    ValueError
        Maps break the contract or do not have two axes in the same units of measure, an option is
        out of range, or rates are negative under ``"raise"``.

    Warns
    -----
    UserWarning
        Less than a quarter of the places along a wall were visited.

    See Also
    --------
    grid_score : Six-fold symmetry of rate maps.
    place_fields : Place fields of rate maps.
    shuffle_test : Test a score against chance.

    References
    ----------
    Solstad, T., Boccara, C. N., Kropff, E., Moser, M.-B. and Moser, E. I. (2008). Representation
    of geometric borders in the entorhinal cortex. Science 322, 1865-1868.
    https://doi.org/10.1126/science.1166466

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> wall = np.exp(-(x**2) / 2)
    >>> centre = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> recording = pf.from_arrays(np.stack([wall, centre], axis=-1), {"x": x, "y": y})
    >>> pf.border_score(pf.rate_maps(recording)).round(2).values
    array([ 0.67, -1.  ])
    """
    schema.check_rate_maps(maps)
    _check_options(maps, threshold, min_bins)
    lead = [d for d in maps[schema.RATE].dims if d not in (schema.UNIT, *schema.place_dims(maps))]
    options = (negatives, threshold, min_bins)
    if schema.MAP in lead:  # every room has its own walls
        rooms = [maps.isel({schema.MAP: k}) for k in range(maps.sizes[schema.MAP])]
        axis = lead.index(schema.MAP)
        values = np.stack([_scores(room, *options) for room in rooms], axis)
    else:
        values = _scores(maps, *options)
    name = f"border score ({WORDS[negatives]})"
    attrs = {"units": "1", "long_name": name, **policy_attrs(negatives)}
    return per_unit(maps, values, "border_score", **attrs)


def _scores(
    maps: xr.Dataset, negatives: Negatives, threshold: float, min_bins: int | None
) -> NDArray[np.float64]:
    """Border score (..., unit) of maps that have the same walls."""
    maps = _within_walls(maps)
    rate, share = flatten(maps)
    rate = apply_negatives(rate, share > 0, negatives, maps[schema.RATE])
    distance = wall_distance(maps)
    shape = (-1, *distance.shape)
    return scores(
        rate.reshape(shape), (share > 0).reshape(shape), distance, threshold, min_bins
    ).reshape(rate.shape[:-1])


def _within_walls(maps: xr.Dataset) -> xr.Dataset:
    """The maps without unvisited margins."""
    space = schema.place_dims(maps)
    seen = (maps[schema.OCCUPANCY] > 0) & maps[schema.RATE].notnull()
    visited = seen.any([d for d in seen.dims if d not in space]).transpose(*space).values
    inside = [np.flatnonzero(visited.any(axis=1 - axis)) for axis in (0, 1)]
    if not visited.any():
        return maps
    part = tuple(slice(int(rows[0]), int(rows[-1]) + 1) for rows in inside)
    visited = visited[part]
    walls = {
        f"{end} bins along {name!r}": wall.mean()
        for axis, name in enumerate(space)
        for end, wall in (("first", visited.take(0, axis)), ("last", visited.take(-1, axis)))
    }
    sparse = [wall for wall, share in walls.items() if share < VISITED_WALL]
    if sparse:
        warn(
            f"less than {VISITED_WALL:.0%} of the places at a wall were visited ({sparse[0]}): the "
            "border score takes the outermost visited bins as the walls; remove sparsely visited "
            "margins with maps.isel, or raise min_occupancy",
        )
    return maps.isel(dict(zip(space, part, strict=True)))


def scores(
    rate: NDArray[np.float64],
    valid: NDArray[np.bool_],
    distance: NDArray[np.float64],
    threshold: float,
    min_bins: int | None,
) -> NDArray[np.float64]:
    """Border score of maps (map, y, x) of non-negative rates, with distances (y, x) from a wall."""
    label, owner, size = _fields(rate, valid, threshold)
    least = np.ceil(LEAST_SHARE * valid.sum((1, 2))) if min_bins is None else min_bins
    large_enough = size >= np.broadcast_to(least, len(rate))[owner]
    large_enough[0] = False  # label 0: outside fields
    covered = np.zeros(len(rate))
    np.maximum.at(covered, owner[large_enough], _coverage(label, owner, valid)[large_enough])
    weight = np.where(large_enough[label], rate, 0.0)
    total = weight.sum((1, 2))
    known = total > 0
    far = np.divide((weight * distance).sum((1, 2)), total, out=np.zeros(len(rate)), where=known)
    out = np.full(len(rate), np.nan)
    return np.divide(covered - far, covered + far, out=out, where=known)


def wall_distance(maps: xr.Dataset) -> NDArray[np.float64]:
    """Distance of each bin's centre from the nearest wall, divided by half the shorter side."""
    axes = []
    for name in schema.place_dims(maps):
        edged = name + schema.EDGES_SUFFIX in maps.variables
        wall = schema.edges_of(maps, name) if edged else np.arange(maps.sizes[name] + 1.0)
        centre = (wall[:-1] + wall[1:]) / 2
        axes.append((np.minimum(centre - wall[0], wall[-1] - centre), wall[-1] - wall[0]))
    (y, height), (x, width) = axes
    return np.minimum(y[:, None], x[None, :]) / (min(height, width) / 2)


def _fields(
    rate: NDArray[np.float64], valid: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Labels of the fields of all maps (map, y, x), and the map and size of every field."""
    high = valid & (rate > threshold * rate.max((1, 2), keepdims=True))
    within_map = np.zeros((3, 3, 3), int)
    within_map[1] = ndimage.generate_binary_structure(2, 1)
    label, n = ndimage.label(high, within_map)
    where = np.nonzero(label)
    owner = np.zeros(n + 1, np.intp)
    owner[label[where]] = where[0]
    return label, owner, np.bincount(label.ravel(), minlength=n + 1)


def _coverage(
    label: NDArray[np.intp], owner: NDArray[np.intp], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Largest fraction of the visited places along a wall that each field covers."""
    best = np.zeros(len(owner))
    for wall in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):
        bins = np.bincount(label[wall].ravel(), minlength=len(owner))
        visited = np.maximum(valid[wall].sum(axis=1), 1)
        best = np.maximum(best, bins / visited[owner])
    return best


def _check_options(maps: xr.Dataset, threshold: float, min_bins: int | None) -> None:
    space = schema.place_dims(maps)
    if len(space) != 2:
        raise ValueError(f"maps must have two axes for a border score, got {space}")
    refuse_circular(maps, "a border score, as it has no wall")
    common_units(maps, space, "maps for a border score")
    check_number("threshold", threshold)
    if not 0 < threshold < 1:
        raise ValueError(
            f"threshold must lie between 0 and 1 (fraction of the peak), got {threshold}"
        )
    if min_bins is not None:
        check_whole("min_bins", min_bins)
