"""Grid geometry: spacing, orientation and ellipticity of grid cells, and a corrected grid score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_number, check_whole
from placeformer.data import schema
from placeformer.spatial.autocorrelogram import BLOCK, correlograms, square_width
from placeformer.spatial.grid_score import REACH, Turns, peak_radius, ring_scores
from placeformer.spatial.place_fields import place_fields
from placeformer.spatial.rate_maps import flatten

Floats = NDArray[np.float64]

MIN_FIELDS = 4
"""Minimum number of fields of a map whose geometry can be determined."""

MAX_ELLIPTICITY = 1.5
"""Axis ratio above which the lattice is not taken as hexagonal; a square lattice has 1.73."""

CANDIDATES = 32
"""Number of maxima nearest to the centre of an autocorrelogram among which peaks are sought."""

APART = 0.5
"""Distance between two maxima below which they are one peak, relative to that from the centre."""

AXIS, DEGREE = "axis", "degree"
N_AXES = 3

FLAT_MAP = "map does not vary"
NO_RING = "no room for a ring around the central peak of the autocorrelogram"
NO_PEAKS = "fewer than 3 pairs of peaks around the centre of the autocorrelogram"
NO_ELLIPSE = "the 6 peaks around the centre do not lie on an ellipse"


def grid_properties(
    maps: xr.Dataset,
    *,
    min_fields: int = MIN_FIELDS,
    max_ellipticity: float = MAX_ELLIPTICITY,
) -> xr.Dataset:
    """Spacing, orientation, ellipticity and grid score of every unit's rate map.

    The six peaks that surround the centre of the autocorrelogram define the lattice: their mean
    distance is the spacing, their directions are the three axes, and the ellipse through them
    shows how far the lattice is stretched.

    Parameters
    ----------
    maps
        RateMaps of two axes with square bins, whose widths may differ by 5 %. Rates may be signed;
        fields are regions of high activation. Maps of noisy rates should be smoothed first.
    min_fields
        Minimum number of fields in the map. With fewer, everything except ``n_fields`` is NaN:
        two or three fields make peaks in the autocorrelogram, but no lattice.
    max_ellipticity
        Maximum axis ratio of the ellipse for a corrected score, above 1. A square lattice has √3 =
        1.73, and the correction would turn it into a hexagonal one.

    Returns
    -------
    xarray.Dataset
        Over ``unit`` (and leading dimensions of the maps):

        - ``grid_score``: as :func:`grid_score`, -2 to 2.
        - ``grid_score_corrected``: the grid score of the autocorrelogram after its ellipse has been
          stretched to a circle, along the minor axis to the length of the major axis.
        - ``spacing``: mean distance of the six peaks from the centre, in the units of the axes.
        - ``orientation``: circular mean of the directions of the three axes of the lattice modulo
          60 degrees, measured from the second axis of the maps (x) towards the first (y), in
          [0, 60).
        - ``ellipticity``: major divided by minor axis of the ellipse, at least 1.
        - ``ellipse_direction``: direction of its major axis, in [0, 180) degrees.
        - ``n_fields``: number of fields in the map.
        - ``axis_spacing``, ``axis_direction`` (..., unit, axis): distance and direction (in
          [0, 180) degrees, ascending) of each of the three pairs of peaks.
        - ``reason``: why a value is NaN, else empty.

    Raises
    ------
    ValueError
        The maps break the contract, do not have two axes, their bins are not square, or an option
        is out of range.

    See Also
    --------
    autocorrelogram : The autocorrelogram itself.
    grid_modules : Modules of a population of grid cells.
    grid_score : The score alone; test it against chance with ``shuffle_test``.
    plot.autocorrelogram : Draw the autocorrelogram with the six peaks.

    Notes
    -----
    Fields are counted by :func:`place_fields` without a criterion for noise
    (``min_contrast=0``), so that fields cut by a wall count. Peaks are maxima of the
    autocorrelogram above 0, beyond the central peak and at most nine tenths of the shorter side
    from the centre. If two peaks are closer to each other than half their distance from the centre,
    only the higher one counts. The position of a peak between the bins is the vertex of the
    paraboloid through the 3 x 3 bins around the maximum. The three pairs nearest to the centre
    determine exactly the ellipse around lag 0. A stretched lattice alone lowers the grid score
    (Brandon et al. 2011), and the lattices of animals are stretched (Stensola et al. 2015; by 17 %
    in the median of 28 cells of mice). The correction makes any lattice more hexagonal, so compare
    corrected scores only with corrected scores. To test them with :func:`shuffle_test`, pass a
    function that gives maps without a lattice the lowest score, ``lambda maps:
    pf.grid_properties(maps).grid_score_corrected.fillna(-2)``; shuffles with NaN would otherwise be
    left out.

    References
    ----------
    Sargolini, F. et al. (2006). Science 312, 758-762. https://doi.org/10.1126/science.1125572
    Brandon, M. P. et al. (2011). Reduction of theta rhythm dissociates grid cell spatial
    periodicity from directional tuning. Science 332, 595-599.
    https://doi.org/10.1126/science.1201652
    Stensola, T. et al. (2015). Shearing-induced asymmetry in entorhinal grid cells. Nature 518,
    207-212. https://doi.org/10.1038/nature14151

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.mgrid[:40, :40] * 2.5  # bins of 2.5 cm
    >>> k = 4 * np.pi / (np.sqrt(3) * 30)  # fields 30 cm apart
    >>> waves = [k * (x * np.cos(a) + y * np.sin(a)) for a in np.deg2rad([45, 105, 165])]
    >>> edges = np.arange(41) * 2.5
    >>> maps = pf.maps_from_arrays(sum(map(np.cos, waves)), edges=edges, position_units="cm")
    >>> grid = pf.grid_properties(maps).isel(unit=0)
    >>> round(float(grid.spacing)), grid.spacing.units, round(float(grid.orientation))
    (30, 'cm', 15)
    >>> float(grid.ellipticity.round(1)), float(grid.grid_score_corrected.round(1))
    (1.0, 1.4)
    """
    schema.check_rate_maps(maps)
    width = square_width(maps, "grid properties")
    units = str(maps[schema.place_dims(maps)[1]].attrs.get("units", "1"))
    _check(min_fields, max_ellipticity)
    space = schema.place_dims(maps)
    lead = [d for d in maps[schema.RATE].dims if d not in (schema.UNIT, *space)]
    n_fields = place_fields(maps, min_contrast=0)["n_fields"].transpose(*lead, schema.UNIT)
    rate, share = flatten(maps)
    shape = (-1, *(maps.sizes[dim] for dim in space))
    whole, valid, number = rate.reshape(shape), (share > 0).reshape(shape), n_fields.values.ravel()
    blocks = [
        _Geometry.of(
            correlograms(whole[part], valid[part]), number[part], min_fields, max_ellipticity
        )
        for part in (slice(k, k + BLOCK) for k in range(0, len(whole), BLOCK))
    ]
    settings = {"min_fields": min_fields, "max_ellipticity": max_ellipticity}
    provenance = schema.provenance(maps, "grid_properties", **settings)
    return _labelled(n_fields, blocks, width, units).assign_attrs({schema.PROVENANCE: provenance})


def _check(min_fields: int, max_ellipticity: float) -> None:
    check_whole("min_fields", min_fields, 0)
    check_number("max_ellipticity", max_ellipticity)
    if not max_ellipticity > 1:
        raise ValueError(f"max_ellipticity must be above 1, got {max_ellipticity}")


@dataclass(frozen=True)
class _Geometry:
    """Geometry of a block of maps, in bins and degrees."""

    score: Floats
    corrected: Floats
    peaks: Floats
    """Position (map, axis, 2) of three peaks, (y, x), in ascending direction."""
    ellipticity: Floats
    major: Floats
    """Direction of the major axis."""
    reason: NDArray[np.str_]

    @classmethod
    def of(
        cls, lags: Floats, n_fields: NDArray[np.intp], min_fields: int, max_ellipticity: float
    ) -> _Geometry:
        """Geometry of autocorrelograms (map, lag_y, lag_x)."""
        n, (n_y, n_x) = len(lags), ((size + 1) // 2 for size in lags.shape[1:])
        turns = Turns.of(n_y, n_x)
        centre = lags[:, n_y - 1, n_x - 1]
        if turns is None:
            nan, reason = np.full(n, np.nan), np.where(np.isnan(centre), FLAT_MAP, NO_RING)
            return cls(nan, nan, np.full((n, N_AXES, 2), np.nan), nan, nan, reason)
        value = turns.values(lags)
        peaks = lattice_peaks(lags, peak_radius(value, turns))
        axes, vectors = ellipses(peaks)
        ellipticity = axes[:, 1] / axes[:, 0]
        score = ring_scores(value, turns)
        corrected = np.full(n, np.nan)
        round_enough = np.flatnonzero(ellipticity <= max_ellipticity)
        if round_enough.size:
            stretch = stretches(axes[round_enough], vectors[round_enough])
            circular = stretched(lags[round_enough], stretch, turns.lags)
            corrected[round_enough] = ring_scores(circular, turns)
        few = n_fields < min_fields
        reasons = {
            FLAT_MAP: np.isnan(centre),
            f"fewer than {min_fields} fields": few,
            NO_RING: np.isnan(score),
            NO_PEAKS: np.isnan(peaks).any(axis=(1, 2)),
            NO_ELLIPSE: np.isnan(ellipticity),
            f"ellipticity above {max_ellipticity:g}": ellipticity > max_ellipticity,
            NO_RING + " that was corrected": np.isnan(corrected),
        }
        reason = np.select(list(reasons.values()), list(reasons), "")
        few |= np.isnan(centre)
        score, corrected, ellipticity = (
            np.where(few, np.nan, v) for v in (score, corrected, ellipticity)
        )
        peaks = np.where(few[:, None, None], np.nan, peaks)
        major = np.degrees(np.arctan2(vectors[:, 0, 1], vectors[:, 1, 1])) % 180
        major = np.where(np.isnan(ellipticity), np.nan, major)
        return cls(score, corrected, peaks, ellipticity, major, reason)


def lattice_peaks(lags: Floats, beyond: Floats) -> Floats:
    """Three peaks (map, 3, 2) nearest to the centre of autocorrelograms (map, lag_y, lag_x).

    Positions (y, x) are in bins, one of every pair of opposite peaks, with y > 0, or y = 0 and
    x > 0, sorted by direction; NaN for maps with fewer than three pairs. ``beyond`` is the radius
    of the central peak.
    """
    n, n_y, n_x = lags.shape
    rows = lags[:, max(n_y // 2 - 1, 0) :]  # one half of the lags and the adjacent lags
    around = np.where(np.isnan(rows), -np.inf, rows)
    # The outermost lags have too few neighbours to be a maximum.
    value = around[:, 1:-1, 1:-1]
    greatest = np.maximum(np.maximum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
    greatest = np.maximum(np.maximum(greatest[..., :-2], greatest[..., 1:-1]), greatest[..., 2:])
    y, x = np.mgrid[: n_y // 2, -(n_x // 2) + 1 : n_x // 2]
    distance = np.hypot(y, x)
    reach = REACH * (min(n_y, n_x) + 1) // 2
    is_peak = (value == greatest) & (value > 0) & (distance > beyond[:, None, None])
    is_peak &= (distance <= reach) & ((y > 0) | (x >= 0))
    away = np.where(is_peak, distance, np.inf).reshape(n, -1)
    nearest = np.argpartition(away, min(CANDIDATES, away.shape[1] - 1), axis=1)[:, :CANDIDATES]
    away, height = (np.take_along_axis(v.reshape(n, -1), nearest, 1) for v in (away, value))
    place = np.stack([y.ravel()[nearest], x.ravel()[nearest]], axis=-1)
    away = np.where(_main(place, away, height), away, np.inf)
    first = np.lexsort((-height, away), axis=1)[:, :N_AXES]  # the highest of equally near peaks
    peaks = vertices(lags, np.take_along_axis(place, first[..., None], 1))
    found = np.isfinite(np.take_along_axis(away, first, 1))
    peaks = np.where(found[..., None], peaks, np.nan)
    order = np.argsort(np.arctan2(peaks[..., 0], peaks[..., 1]) % np.pi, axis=1)
    return np.where(found.all(axis=1)[:, None, None], peaks[np.arange(n)[:, None], order], np.nan)


def _main(place: NDArray[np.intp], away: Floats, height: Floats) -> NDArray[np.bool_]:
    """Whether maxima (map, candidate) are the highest within half their distance."""
    found = np.isfinite(away)
    one, other = place[:, :, None], place[:, None]
    gap = np.minimum(*(np.hypot(*np.moveaxis(d, -1, 0)) for d in (one - other, one + other)))
    least = np.minimum(away[:, :, None], away[:, None])
    with np.errstate(invalid="ignore"):
        close = gap < APART * least
    close &= found[:, None] & found[:, :, None]
    return np.asarray(found & ~(close & (height[:, None] > height[:, :, None])).any(axis=2))


def vertices(lags: Floats, place: NDArray[np.intp]) -> Floats:
    """Vertex of the paraboloid through the 3 x 3 values around maxima (map, peak, 2).

    A maximum keeps its place if it lacks eight known neighbours, or if the paraboloid has no vertex
    near it.
    """
    n, n_y, n_x = lags.shape
    row, column = place[..., 0] + n_y // 2, place[..., 1] + n_x // 2
    inside = (row > 0) & (row < n_y - 1) & (column > 0) & (column < n_x - 1)
    row, column = np.clip(row, 1, n_y - 2), np.clip(column, 1, n_x - 2)
    number = np.arange(n)[:, None]

    def at(dy: int, dx: int) -> Floats:
        return lags[number, row + dy, column + dx]

    slope_y, slope_x = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    yy, xx = at(1, 0) - 2 * at(0, 0) + at(-1, 0), at(0, 1) - 2 * at(0, 0) + at(0, -1)
    yx = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    determinant = yy * xx - yx**2
    with np.errstate(invalid="ignore", divide="ignore"):
        off_y = (yx * slope_x - xx * slope_y) / determinant
        off_x = (yx * slope_y - yy * slope_x) / determinant
    use = inside & (determinant > 0) & (np.abs(off_y) <= 1) & (np.abs(off_x) <= 1)
    off = np.stack([np.where(use, off_y, 0.0), np.where(use, off_x, 0.0)], axis=-1)
    return np.asarray(place + off)


def ellipses(peaks: Floats) -> tuple[Floats, Floats]:
    """Ellipse about 0 through three points (map, 3, 2): semi-axes and their directions.

    Semi-axes (map, 2), the minor one first, and unit vectors (map, 2, axis); NaN where the points
    do not lie on an ellipse.
    """
    y, x = peaks[..., 0], peaks[..., 1]
    terms = np.stack([y * y, 2 * y * x, x * x], axis=-1)  # a y² + 2 b y x + c x² = 1
    size = (y * y + x * x).prod(axis=1)
    known = np.isfinite(size) & (np.abs(np.linalg.det(np.nan_to_num(terms))) > 1e-6 * size)
    a, b, c = np.linalg.solve(
        np.where(known[:, None, None], terms, np.eye(3)), np.ones((len(peaks), 3, 1))
    )[..., 0].T
    known &= (a > 0) & (a * c > b * b)
    form = np.stack([a, b, b, c], axis=-1).reshape(-1, 2, 2)
    values, vectors = np.linalg.eigh(np.where(known[:, None, None], form, np.eye(2)))
    axes = 1 / np.sqrt(values[:, ::-1])
    return (
        np.where(known[:, None], axes, np.nan),
        np.where(known[:, None, None], vectors[..., ::-1], np.nan),
    )


def stretches(axes: Floats, vectors: Floats) -> Floats:
    """Matrices (map, 2, 2) that map lags of a corrected autocorrelogram to measured lags.

    The radius of the corrected lattice is the major axis, so that every lag has a measured value.
    """
    share = np.stack([axes[:, 0] / axes[:, 1], np.ones(len(axes))], axis=-1)
    return np.einsum("mij,mj,mkj->mik", vectors, share, vectors)


def stretched(lags: Floats, matrices: Floats, wanted: NDArray[np.intp]) -> Floats:
    """Values (lag, map) of autocorrelograms at lags multiplied by matrices, interpolated linearly.

    ``wanted`` are flat indices of lags; matrices must not lengthen a lag. Values are NaN beyond the
    shorter side and where one of the four interpolated lags is NaN.
    """
    n, n_y, n_x = lags.shape
    y, x = np.divmod(wanted, n_x)
    to = np.stack([y - n_y // 2, x - n_x // 2]).astype(float)
    inside = np.hypot(*to) <= (min(n_y, n_x) - 1) // 2
    at = np.einsum("mij,jp->imp", matrices, to[:, inside])
    at = np.round(at + np.array([n_y // 2, n_x // 2])[:, None, None], 9)
    low = np.minimum(at.astype(int), np.array([n_y - 2, n_x - 2])[:, None, None])
    up = at - low
    flat, first = lags.reshape(n, -1), low[0] * n_x + low[1]
    value = np.zeros(first.shape)
    for step_y, weight_y in ((0, 1 - up[0]), (1, up[0])):
        for step_x, weight_x in ((0, 1 - up[1]), (1, up[1])):
            weight = weight_y * weight_x
            corner = np.take_along_axis(flat, first + step_y * n_x + step_x, axis=1)
            value += np.where(weight > 0, weight * corner, 0.0)
    out = np.full((len(wanted), n), np.nan)
    out[inside] = value.T
    return out


def circular_mean(directions: Floats, period: float, axis: int = -1) -> Floats:
    """Mean of directions in degrees modulo a period, in [0, period)."""
    turn = np.exp(2j * np.pi * directions / period).mean(axis=axis)
    mean = np.angle(turn) * period / (2 * np.pi) % period
    return np.where(np.isclose(mean, period, rtol=0, atol=1e-9), 0.0, mean)


def _labelled(
    n_fields: xr.DataArray, blocks: list[_Geometry], width: float, units: str
) -> xr.Dataset:
    """Geometry in the units of the axes, with the dimensions and coordinates of the fields."""

    def joined(name: str) -> NDArray[Any]:
        values = np.concatenate([getattr(block, name) for block in blocks])
        return values.reshape(*n_fields.shape, *values.shape[1:])

    peaks = joined("peaks")
    spacing = width * np.hypot(peaks[..., 0], peaks[..., 1])
    direction = np.degrees(np.arctan2(peaks[..., 0], peaks[..., 1])) % 180
    corrected = "grid score after the ellipse of the lattice is stretched to a circle"
    mean = "circular mean of the three axes of the lattice modulo 60 degrees"
    columns = {
        "grid_score": (joined("score"), "1", "grid score (growing circles)"),
        "grid_score_corrected": (joined("corrected"), "1", corrected),
        "spacing": (spacing.mean(axis=-1), units, "mean distance of the six peaks"),
        "orientation": (circular_mean(direction, 60), DEGREE, mean),
        "ellipticity": (joined("ellipticity"), "1", "major divided by minor axis of the ellipse"),
        "ellipse_direction": (joined("major"), DEGREE, "direction of the major axis"),
        "n_fields": (n_fields.values, "1", "number of fields"),
        "reason": (joined("reason"), "1", "why a value is NaN"),
    }
    schema.refuse_names(n_fields, (*columns, "axis_spacing", "axis_direction", AXIS))
    dims = n_fields.dims
    data = {name: schema.variable(dims, v, text, units=u) for name, (v, u, text) in columns.items()}
    by_axis = (*dims, AXIS)
    data["axis_spacing"] = schema.variable(
        by_axis, spacing, "distance of a pair of peaks", units=units
    )
    data["axis_direction"] = schema.variable(
        by_axis, direction, "direction of a pair of peaks", units=DEGREE
    )
    return xr.Dataset(data, coords=n_fields.coords)
