"""Grid score: six-fold symmetry of a unit's spatial autocorrelogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from placeformer.data import schema
from placeformer.spatial.autocorrelogram import BLOCK, MIN_PAIRS, correlograms, square_width
from placeformer.spatial.rate_maps import flatten, per_unit
from placeformer.stats.tolerances import FLAT

PEAK_EDGE = 0.2
"""Mean correlation at a distance below which the central peak ends."""

MARGIN, REACH = 0.1, 0.9
"""Minimum width of the ring around the central peak, and maximum radius, relative to the side."""

SIXTY, THIRTY = (60, 120), (30, 90, 150)


def grid_score(maps: xr.Dataset) -> xr.DataArray:
    r"""Six-fold symmetry of the autocorrelogram of every unit's rate map.

    .. math:: g = \max_R \left[\min(\rho_{60}, \rho_{120})
              - \max(\rho_{30}, \rho_{90}, \rho_{150})\right]

    with ρ_α Pearson's r of the autocorrelogram with itself turned by α degrees, over the ring
    from the edge of the central peak to the radius R. This is the variant with expanding circles
    (Langston et al. 2010) of the score of Sargolini et al. (2006), which uses one ring.

    Parameters
    ----------
    maps
        RateMaps of two axes with square bins, whose widths may differ by 5 %. Rates may be signed.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), -2 to 2; a hexagonal lattice scores above 1, a square lattice
        below 0. Unchanged when rates are scaled, shifted or negated, and when the map is mirrored
        or rotated by a right angle. NaN for a map that does not vary, is too small for a ring
        (fewer than about 8 bins per side), or whose central peak leaves no room for one.

    Raises
    ------
    ValueError
        The maps break the contract, do not have two axes, or their bins are not square.

    See Also
    --------
    grid_properties : Spacing, orientation and a score corrected for the ellipse.
    autocorrelogram : The autocorrelogram itself.
    border_score : Extent of fields along a wall.
    shuffle_test : Test a score against chance.

    Notes
    -----
    The autocorrelogram is Pearson's r over the pairs of visited places at each lag; it does not
    wrap around, and lags with fewer than 20 pairs are left out. Where the overlap is flat, r is 0.
    The central peak ends at the first distance where the mean r is below 0.2 or has a minimum. R
    grows in steps of one bin, from a tenth of the shorter side beyond the peak to nine tenths of
    the side (in the source 10 cm from either end in a box of 1 m). Maps are rotated by
    linear interpolation. The maximum over R is above 0 even for noise, so test the score with
    :func:`shuffle_test`.

    References
    ----------
    Langston, R. F. et al. (2010). Development of the spatial representation system in the rat.
    Science 328, 1576-1580. https://doi.org/10.1126/science.1188210
    Sargolini, F. et al. (2006). Conjunctive representation of position, direction, and velocity
    in entorhinal cortex. Science 312, 758-762. https://doi.org/10.1126/science.1125572
    Padfield, D. (2012). Masked object registration in the Fourier domain. IEEE Transactions on
    Image Processing 21, 2706-2718. https://doi.org/10.1109/TIP.2011.2181402

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(900), 30)  # one sample at each place of a 30 x 30 arena
    >>> angles = [0, np.pi / 3, 2 * np.pi / 3]
    >>> hexagonal = sum(np.cos(0.8 * (x * np.cos(a) + y * np.sin(a))) for a in angles)
    >>> square = np.cos(0.8 * x) + np.cos(0.8 * y)
    >>> recording = pf.from_arrays(np.stack([hexagonal, square], axis=-1), {"x": x, "y": y})
    >>> pf.grid_score(pf.rate_maps(recording)).round(1).values
    array([ 1.4, -0.9])
    """
    schema.check_rate_maps(maps)
    square_width(maps, "a grid score")
    rate, share = flatten(maps)
    shape = (-1, *(maps.sizes[dim] for dim in schema.place_dims(maps)))
    values = scores(rate.reshape(shape), (share > 0).reshape(shape)).reshape(rate.shape[:-1])
    return per_unit(maps, values, "grid_score", units="1", long_name="grid score (growing circles)")


def scores(rate: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Grid score of each map (map, y, x)."""
    n_y, n_x = rate.shape[1:]
    turns = Turns.of(n_y, n_x)
    if turns is None:
        return np.full(len(rate), np.nan)
    blocks = [
        ring_scores(turns.values(correlograms(rate[k : k + BLOCK], valid[k : k + BLOCK])), turns)
        for k in range(0, len(rate), BLOCK)
    ]
    return np.concatenate([np.empty(0), *blocks])


@dataclass(frozen=True)
class Turns:
    """Rotations of an autocorrelogram, which all maps of one size share.

    An autocorrelogram is symmetric, so half of its lags suffice.
    """

    lags: NDArray[np.intp]
    """Flat indices of the lags in one half that count or from which rotated lags are taken."""
    pixels: NDArray[np.intp]
    """Which of these lags lie within reach."""
    ring: sparse.csr_array
    """Which pixels lie at each distance of 1, 2, ... bins (rounded up), (distance, pixel)."""
    turn: dict[int, sparse.csr_array]
    """For each angle, the matrix (pixel, lag) that interpolates the rotated values linearly."""
    margin: int
    """Minimum width of a ring."""

    @classmethod
    def of(cls, n_y: int, n_x: int) -> Turns | None:
        """Rotations for maps of a size; ``None`` for maps too small for a ring."""
        side = min(n_y, n_x)
        reach, margin = int(REACH * side), int(np.ceil(MARGIN * side))
        if reach < 1 + margin:
            return None
        y, x = (v.ravel() for v in np.mgrid[-n_y + 1 : n_y, -n_x + 1 : n_x])
        distance = np.ceil(np.hypot(y, x) - 1e-9).astype(int)
        within = np.flatnonzero((distance <= reach) & ((y > 0) | ((y == 0) & (x > 0))))
        where = (distance[within] - 1, np.arange(len(within)))
        ring = sparse.csr_array((np.ones(len(within)), where))
        turn = {a: _interpolation(y[within], x[within], a, n_y, n_x) for a in (*SIXTY, *THIRTY)}
        lags = np.unique(np.concatenate([within, *(m.indices for m in turn.values())]))
        turn = {angle: matrix[:, lags] for angle, matrix in turn.items()}
        return cls(lags, np.searchsorted(lags, within), ring, turn, margin)

    def values(self, lags: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (lag, map) of autocorrelograms (map, lag_y, lag_x) at :attr:`lags`."""
        return np.ascontiguousarray(lags.reshape(len(lags), -1)[:, self.lags].T)


def ring_scores(value: NDArray[np.float64], turns: Turns) -> NDArray[np.float64]:
    """Grid score of autocorrelograms from their values at the lags of the turns (lag, map)."""
    value, known = _known(value)
    edge = _peak_edge(turns, value, known)
    own = value[turns.pixels]
    every = None
    if known.all():  # compute the sums that a rotation does not change only once
        every = [_ring_sums(turns, edge, v) for v in (np.ones_like(own), own, own * own)]
    r = {angle: _ring_r(turns, angle, value, known, edge, every) for angle in turns.turn}
    low, high = (np.stack([r[angle] for angle in group]) for group in (SIXTY, THIRTY))
    score = low.min(axis=0) - high.max(axis=0)
    radius = np.arange(len(score))[:, None]
    score = np.where(radius >= edge + turns.margin, score, np.nan)
    best = np.nan_to_num(score, nan=-np.inf).max(axis=0)
    return np.where(np.isfinite(best), best, np.nan)


def peak_radius(value: NDArray[np.float64], turns: Turns) -> NDArray[np.float64]:
    """Radius in bins where the central peak ends, from the values at the lags of the turns."""
    return np.asarray(_peak_edge(turns, *_known(value)) + 1.0, np.float64)


def _known(value: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values, 0 where unknown, and whether they are known."""
    known = ~np.isnan(value)
    return (value if known.all() else np.where(known, value, 0.0)), known


def _peak_edge(
    turns: Turns, value: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Row of ``Turns.ring`` (the distance minus 1) where the central peak ends."""
    total, number = (turns.ring @ v[turns.pixels].astype(float) for v in (value, known))
    profile = total / np.maximum(number, 1)
    rises = np.diff(profile, axis=0, append=np.inf) > 0
    return np.asarray(((profile < PEAK_EDGE) | rises).argmax(axis=0))


def _ring_sums(
    turns: Turns, edge: NDArray[np.intp], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sums (distance, map) of values (pixel, map) over the rings from the edge to each distance.

    A ring is the difference of two discs, and the discs of all radii are a cumulative sum over
    distance, so that all rings of a map cost as much as one.
    """
    discs = np.cumsum(turns.ring @ values, axis=0)
    return np.asarray(discs - discs[edge, np.arange(discs.shape[1])])


def _ring_r(
    turns: Turns,
    angle: int,
    value: NDArray[np.float64],
    known: NDArray[np.bool_],
    edge: NDArray[np.intp],
    every: list[NDArray[np.float64]] | None,
) -> NDArray[np.float64]:
    """Pearson's r of each map with itself rotated, over rings from the edge to every distance.

    ``every`` holds the number of pixels and the sums of values and squares if all are known.
    """
    # A rotation is linear in the values, so it is one sparse product for all maps. A rotated value
    # counts only if all lags it is interpolated from are known, i.e. their weights sum to 1.
    a, b = value[turns.pixels], turns.turn[angle] @ value
    if every is None:
        use = known[turns.pixels] & (turns.turn[angle] @ known.astype(float) > 1 - 1e-9)
        a, b = np.where(use, a, 0.0), np.where(use, b, 0.0)
        every = [_ring_sums(turns, edge, v) for v in (use.astype(float), a, a * a)]
    # ``pixels`` are half of the lags. The other half has the same values, so that r is unchanged,
    # but the number of pairs is 2 n.
    n, s_a, s_aa = every
    s_b, s_bb, s_ab = (_ring_sums(turns, edge, v) for v in (b, b * b, a * b))
    n = np.maximum(n, 1)
    spread = np.maximum(s_aa - s_a**2 / n, 0) * np.maximum(s_bb - s_b**2 / n, 0)
    enough = (2 * n >= MIN_PAIRS) & (spread > FLAT**2 * n**2)
    out = np.full(n.shape, np.nan)
    return np.divide(s_ab - s_a * s_b / n, np.sqrt(spread), out=out, where=enough)


def _interpolation(
    y: NDArray[np.intp], x: NDArray[np.intp], angle: int, n_y: int, n_x: int
) -> sparse.csr_array:
    """Matrix of the linear interpolation of an autocorrelogram at rotated lags (y, x).

    Lags of the other half are taken from their mirror images.
    """
    turn = np.deg2rad(angle)
    at_y = np.cos(turn) * y - np.sin(turn) * x + n_y - 1
    at_x = np.sin(turn) * y + np.cos(turn) * x + n_x - 1
    low_y, low_x = (np.floor(np.round(v, 9)).astype(int) for v in (at_y, at_x))
    rows, columns, weights = [], [], []
    for up_y in (0, 1):
        for up_x in (0, 1):
            weight = np.abs(1 - up_y - at_y + low_y) * np.abs(1 - up_x - at_x + low_x)
            nonzero = weight > 1e-9
            rows.append(np.flatnonzero(nonzero))
            columns.append(((low_y + up_y) * (2 * n_x - 1) + low_x + up_x)[nonzero])
            weights.append(weight[nonzero])
    n_lags, column = (2 * n_y - 1) * (2 * n_x - 1), np.concatenate(columns)
    column = np.maximum(column, n_lags - 1 - column)
    entries = (np.concatenate(weights), (np.concatenate(rows), column))
    return sparse.csr_array(entries, shape=(len(y), n_lags))
