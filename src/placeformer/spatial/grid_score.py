"""Grid score: six-fold symmetry of a unit's spatial autocorrelogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft, sparse

from placeformer.data import schema
from placeformer.spatial.rate_maps import flatten, per_unit
from placeformer.stats.tolerances import FLAT, NO_VARIANCE

MIN_PAIRS = 20
"""Minimum number of pairs of places in a correlation, in the autocorrelogram and in a ring."""

PEAK_EDGE = 0.2
"""Mean correlation at a distance below which the central peak has ended."""

MARGIN, REACH = 0.1, 0.9
"""Minimum width of the ring beyond the central peak and maximum radius, as shares of the side."""

SIXTY, THIRTY = (60, 120), (30, 90, 150)

BLOCK = 64
"""Number of maps processed at once, small enough for the processor's cache."""


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
        RateMaps of two axes with square bins. Rates may be signed.

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
    border_score : Extent of fields along a wall.
    shuffle_test : Test a score against chance.

    Notes
    -----
    The autocorrelogram is Pearson's r over the pairs of visited places at each lag; it does not
    wrap around, and lags with fewer than 20 pairs are left out. Where the overlap is flat, r is 0.
    The central peak ends at the first distance where the mean r is below 0.2 or has a minimum. R
    grows in steps of one bin, from a tenth of the shorter side beyond the peak to nine tenths of
    the side (in the source 10 cm from either end, in a box of one metre). Maps are rotated by
    linear interpolation. The maximum over R is above 0 for noise as well: test the score with
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
    sizes = _square(maps)
    rate, share = flatten(maps)
    shape = (-1, *sizes)
    values = scores(rate.reshape(shape), (share > 0).reshape(shape)).reshape(rate.shape[:-1])
    return per_unit(maps, values, "grid_score", units="1", long_name="grid score (growing circles)")


def scores(rate: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Grid score of each map (map, y, x)."""
    n_y, n_x = rate.shape[1:]
    turns = Turns.of(n_y, n_x)
    if turns is None:
        return np.full(len(rate), np.nan)
    blocks = [
        _block_scores(autocorrelogram(rate[k : k + BLOCK], valid[k : k + BLOCK]), turns)
        for k in range(0, len(rate), BLOCK)
    ]
    return np.concatenate([np.empty(0), *blocks])


def autocorrelogram(rate: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pearson's r of each map (map, y, x) with itself at each lag (map, 2 y - 1, 2 x - 1).

    NaN at lags with fewer than ``MIN_PAIRS`` pairs and throughout a map that does not vary; 0
    where the map varies but the overlapping places do not.
    """
    if (valid == valid[:1]).all():
        valid = valid[:1]  # the usual case: one mask for all maps
    lags = [2 * n - 1 for n in rate.shape[1:]]
    room = [fft.next_fast_len(n, real=True) for n in lags]

    def forward(values: NDArray[np.float64]) -> NDArray[np.complex128]:
        return np.asarray(fft.rfft2(values, room))

    def back(spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        values = np.roll(fft.irfft2(spectrum, room), [n // 2 for n in lags], (1, 2))
        return np.asarray(values[:, : lags[0], : lags[1]])

    # Pearson's r at a lag needs, over the pairs of visited places at that lag, the number of
    # pairs and the sums of both maps, of their squares and of their product. Each of these is a
    # correlation of two images (Padfield, 2012), so three forward transforms give all lags at
    # once. Both maps of a pair are the same map, so the sums of the second map at a lag are those
    # of the first at minus the lag. Subtracting the mean rate keeps the differences below free of
    # cancellation; zero padding up to ``room`` keeps the map from wrapping around.
    off, variance = _centred(rate, valid)
    there, of, square = forward(valid.astype(float)), forward(off), forward(off**2)
    pairs = np.round(back(there * there.conj()))  # a transform returns whole numbers inexactly
    sums, squares = back(of * there.conj()), back(square * there.conj())
    n = np.maximum(pairs, 1)
    spread = np.maximum(squares - sums**2 / n, 0.0)  # of the first map; at -lag, of the second
    product = back(of * of.conj()) - sums * sums[:, ::-1, ::-1] / n
    varies = spread > NO_VARIANCE * variance * n
    varies &= varies[:, ::-1, ::-1]
    divisor = np.sqrt(spread * spread[:, ::-1, ::-1])
    r = np.divide(product, divisor, out=np.zeros_like(product), where=varies)
    return np.where((pairs >= MIN_PAIRS) & (variance > 0), np.clip(r, -1, 1), np.nan)


@dataclass(frozen=True)
class Turns:
    """Rotations of an autocorrelogram, which all maps of one size share."""

    pixels: NDArray[np.intp]
    """Flat indices of half of the lags within reach: an autocorrelogram is symmetric."""
    ring: sparse.csr_array
    """Which pixels lie at each distance of 1, 2, ... bins (rounded up), (distance, pixel)."""
    turn: dict[int, sparse.csr_array]
    """For each angle the linear interpolation of the rotated values, (pixel, lag)."""
    margin: int
    """Minimum width of a ring."""

    @classmethod
    def of(cls, n_y: int, n_x: int) -> Turns | None:
        """Rotations for maps of a size; none for maps too small for a ring."""
        side = min(n_y, n_x)
        reach, margin = int(REACH * side), int(np.ceil(MARGIN * side))
        if reach < 1 + margin:
            return None
        y, x = (v.ravel() for v in np.mgrid[-n_y + 1 : n_y, -n_x + 1 : n_x])
        distance = np.ceil(np.hypot(y, x) - 1e-9).astype(int)
        pixels = np.flatnonzero((distance <= reach) & ((y > 0) | ((y == 0) & (x > 0))))
        where = (distance[pixels] - 1, np.arange(len(pixels)))
        ring = sparse.csr_array((np.ones(len(pixels)), where))
        turn = {a: _interpolation(y[pixels], x[pixels], a, n_y, n_x) for a in (*SIXTY, *THIRTY)}
        return cls(pixels, ring, turn, margin)


def _block_scores(lags: NDArray[np.float64], turns: Turns) -> NDArray[np.float64]:
    """Grid score of autocorrelograms (map, lag_y, lag_x)."""
    value = np.ascontiguousarray(lags.reshape(len(lags), -1).T)
    known = ~np.isnan(value)
    value = np.where(known, value, 0.0)
    edge = _peak_edge(turns, value, known)
    r = {angle: _ring_r(turns, angle, value, known, edge) for angle in turns.turn}
    low, high = (np.stack([r[angle] for angle in group]) for group in (SIXTY, THIRTY))
    score = low.min(axis=0) - high.max(axis=0)
    radius = np.arange(len(score))[:, None]
    score = np.where(radius >= edge + turns.margin, score, np.nan)
    best = np.nan_to_num(score, nan=-np.inf).max(axis=0)
    return np.where(np.isfinite(best), best, np.nan)


def _peak_edge(
    turns: Turns, value: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """The distance, less 1 as in the rows of ``Turns.ring``, where the central peak ends."""
    total, number = (turns.ring @ v[turns.pixels].astype(float) for v in (value, known))
    profile = total / np.maximum(number, 1)
    rises = np.diff(profile, axis=0, append=np.inf) > 0
    return np.asarray(((profile < PEAK_EDGE) | rises).argmax(axis=0))


def _ring_r(
    turns: Turns,
    angle: int,
    value: NDArray[np.float64],
    known: NDArray[np.bool_],
    edge: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Pearson's r of each map with itself rotated, over rings from the edge to every distance."""
    # A rotation is linear in the values, so it is one sparse product for all maps. A rotated value
    # counts only if all lags it is interpolated from are known, i.e. their weights sum to 1.
    a, b, use = value[turns.pixels], turns.turn[angle] @ value, known[turns.pixels]
    if not known.all():
        use = use & (turns.turn[angle] @ known.astype(float) > 1 - 1e-9)
        a, b = np.where(use, a, 0.0), np.where(use, b, 0.0)
    maps = np.arange(a.shape[1])
    # The ring from the edge of the central peak to a radius is a difference of two discs, and the
    # discs of all radii are a cumulative sum over distance: every ring of a map for the price of
    # one. ``pixels`` are half of the lags; the other half has the same values, so the sums are
    # half of the ring's, which leaves r as it is, but there are 2 n pairs.
    sums = (
        np.cumsum(turns.ring @ v, axis=0) for v in (use.astype(float), a, b, a * a, b * b, a * b)
    )
    n, s_a, s_b, s_aa, s_bb, s_ab = (s - s[edge, maps] for s in sums)
    n = np.maximum(n, 1)
    spread = np.maximum(s_aa - s_a**2 / n, 0) * np.maximum(s_bb - s_b**2 / n, 0)
    enough = (2 * n >= MIN_PAIRS) & (spread > FLAT**2 * n**2)
    out = np.full(n.shape, np.nan)
    return np.divide(s_ab - s_a * s_b / n, np.sqrt(spread), out=out, where=enough)


def _interpolation(
    y: NDArray[np.intp], x: NDArray[np.intp], angle: int, n_y: int, n_x: int
) -> sparse.csr_array:
    """Matrix of the linear interpolation of an autocorrelogram at rotated lags (y, x)."""
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
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(entries, shape=(len(y), (2 * n_y - 1) * (2 * n_x - 1)))


def _centred(
    rate: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates minus their mean, 0 where not valid, and their variance (map, 1, 1), 0 if flat."""
    known = np.where(valid, rate, 0.0)
    n = np.maximum(valid.sum((1, 2), keepdims=True), 1)
    off = np.where(valid, known - known.sum((1, 2), keepdims=True) / n, 0.0)
    flat = np.abs(off).max((1, 2), keepdims=True) <= FLAT * np.abs(known).max((1, 2), keepdims=True)
    off = np.where(flat, 0.0, off)
    return off, (off**2).sum((1, 2), keepdims=True) / n


def _square(maps: xr.Dataset) -> tuple[int, int]:
    """Number of bins along each of the two axes; raise unless the bins are square."""
    space = schema.place_dims(maps)
    if len(space) != 2:
        raise ValueError(f"maps must have two axes for a grid score, got {space}")
    steps = [np.diff(maps[d].values.astype(float)) for d in space]
    widths = np.concatenate(steps) if all(s.size for s in steps) else np.ones(1)
    if widths.max() - widths.min() > 0.01 * np.abs(widths).max():
        raise ValueError(
            f"maps must have square bins for a grid score, got bins of {widths.min():g} to "
            f"{widths.max():g} along {space}; make the maps with bins of one width"
        )
    return maps.sizes[space[0]], maps.sizes[space[1]]
