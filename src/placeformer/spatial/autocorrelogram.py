"""Spatial autocorrelogram: correlation of a rate map with itself at every spatial lag."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft

from placeformer._options import check_number
from placeformer.data import schema
from placeformer.data.unit_identity import common_units
from placeformer.spatial.rate_maps import flatten
from placeformer.stats.tolerances import FLAT, NO_VARIANCE

MIN_PAIRS = 20
"""Minimum number of pairs of places in a correlation."""

EQUAL = 0.05
"""Maximum relative difference of bin widths that count as equal. An animal comes closer to one
wall than to another, so bins between the extremes of its path differ by a few percent."""

LAG = "_lag"
"""Suffix of the lag dimensions."""

BLOCK = 64
"""Number of maps processed at once, small enough for the processor's cache."""


def autocorrelogram(maps: xr.Dataset, *, min_overlap: int = MIN_PAIRS) -> xr.DataArray:
    r"""Correlation of every unit's rate map with itself at every spatial lag.

    .. math:: r(\tau) = \mathrm{corr}_{a \in V \cap (V + \tau)}\left[\lambda(a),
              \lambda(a - \tau)\right]

    with λ the rate map and V its visited places: Pearson's r over the pairs of visited places that
    are τ apart (Hafting et al. 2005).

    Parameters
    ----------
    maps
        RateMaps, of one axis or more, with bins of equal width along every axis (they may differ
        by 5 %). Rates may be signed.
    min_overlap
        Minimum number of pairs of visited places at a lag, 2 or more. With fewer, r is NaN.

    Returns
    -------
    xarray.DataArray
        (unit, y_lag, x_lag) or (..., unit, ...), -1 to 1, dimensionless, symmetric about lag 0.
        An axis of n bins has 2 n - 1 lags, in the units of the axis. Unchanged when rates are
        scaled, shifted or negated. NaN at lags with too few pairs and throughout a map that does
        not vary; 0 where the map varies but the overlapping places do not.

    Raises
    ------
    ValueError
        The maps break the contract, their bins differ in width, or ``min_overlap`` is below 2.

    See Also
    --------
    grid_properties : Spacing, orientation and ellipticity of grid cells.
    grid_score : Six-fold symmetry of the autocorrelogram.
    plot.autocorrelogram : Draw the autocorrelogram of a unit.

    Notes
    -----
    All lags are computed at once by fast Fourier transforms of the map, its square and its mask
    (Padfield 2012). The map does not wrap around.

    References
    ----------
    Hafting, T. et al. (2005). Microstructure of a spatial map in the entorhinal cortex. Nature
    436, 801-806. https://doi.org/10.1038/nature03721
    Padfield, D. (2012). Masked object registration in the Fourier domain. IEEE Transactions on
    Image Processing 21, 2706-2718. https://doi.org/10.1109/TIP.2011.2181402

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.mgrid[:30, :30]
    >>> maps = pf.maps_from_arrays(np.cos(2 * np.pi * x / 10))  # stripes that are 10 bins apart
    >>> r = pf.autocorrelogram(maps)
    >>> r.dims, r.shape
    (('unit', 'y_lag', 'x_lag'), (1, 59, 59))
    >>> r.isel(unit=0).sel(y_lag=0, x_lag=[-10, -5, 0, 5, 10]).round(3).values
    array([ 1., -1.,  1., -1.,  1.])
    """
    schema.check_rate_maps(maps)
    check_number("min_overlap", min_overlap)
    if not (min_overlap >= 2 and min_overlap % 1 == 0):
        raise ValueError(
            f"min_overlap must be a whole number of 2 or more pairs of places, got {min_overlap}"
        )
    space = schema.place_dims(maps)
    widths = {dim: bin_width(maps, dim) for dim in space}
    rate, share = flatten(maps)
    shape = tuple(maps.sizes[dim] for dim in space)
    values = correlograms(
        rate.reshape(-1, *shape), (share > 0).reshape(-1, *shape), int(min_overlap)
    )
    coords: dict[str, Any] = dict(_other_coords(maps, space))
    for dim, n in zip(space, shape, strict=True):
        units = maps[dim].attrs.get("units", "1")
        lags = widths[dim] * np.arange(-n + 1, n)
        coords[dim + LAG] = schema.variable(dim + LAG, lags, f"lag along {dim}", units=units)
    lead = [d for d in maps[schema.RATE].dims if d not in (schema.UNIT, *space)]
    dims = (*lead, schema.UNIT, *(dim + LAG for dim in space))
    attrs = {
        "units": "1",
        "long_name": "spatial autocorrelogram (Pearson's r at every lag)",
        "min_overlap": int(min_overlap),
    }
    laid_out = values.reshape(*rate.shape[:-1], *values.shape[1:])
    return xr.DataArray(laid_out, coords, dims, "autocorrelogram", attrs)


def correlograms(
    rate: NDArray[np.float64], valid: NDArray[np.bool_], min_pairs: int = MIN_PAIRS
) -> NDArray[np.float64]:
    """Pearson's r of maps (map, y, x, ...) with themselves at every lag (map, 2 y - 1, ...)."""
    blocks = [
        _of_block(rate[k : k + BLOCK], valid[k : k + BLOCK], min_pairs)
        for k in range(0, len(rate), BLOCK)
    ]
    lags = [2 * n - 1 for n in rate.shape[1:]]
    return np.concatenate([np.empty((0, *lags)), *blocks])


def _of_block(
    rate: NDArray[np.float64], valid: NDArray[np.bool_], min_pairs: int
) -> NDArray[np.float64]:
    if (valid == valid[:1]).all():
        valid = valid[:1]  # the usual case: one mask for all maps
    axes = tuple(range(1, rate.ndim))
    lags = [2 * n - 1 for n in rate.shape[1:]]
    room = [fft.next_fast_len(n, real=True) for n in lags]
    inside = (slice(None), *(slice(n) for n in lags))

    def forward(values: NDArray[np.float64]) -> NDArray[np.complex128]:
        return np.asarray(fft.rfftn(values, room, axes=axes))

    def back(spectrum: NDArray[np.complexfloating]) -> NDArray[np.float64]:
        values = fft.irfftn(spectrum, room, axes=axes)
        return np.asarray(np.roll(values, [n // 2 for n in lags], axes)[inside])

    # Pearson's r at a lag needs, over the pairs of visited places at that lag, the number of
    # pairs and the sums of both maps, of their squares and of their product. Each of these is a
    # correlation of two images (Padfield, 2012), so three forward transforms give all lags at
    # once. Both maps of a pair are the same map, so the sums of the second map at a lag are those
    # of the first at minus the lag, and r is symmetric: it is computed for half of the lags.
    # Subtracting the mean rate keeps the differences below free of cancellation; zero padding up
    # to ``room`` keeps the map from wrapping around.
    off, variance = _centred(rate, valid)
    of = forward(off)
    if valid.all():
        pairs, sums, squares = (_over_overlaps(v) for v in (valid.astype(float), off, off**2))
    else:
        there, square = forward(valid.astype(float)), forward(off**2)
        pairs = np.round(back(there * there.conj()))  # transforms return inexact whole numbers
        sums, squares = back(of * there.conj()), back(square * there.conj())
    half = (slice(None), slice(lags[0] // 2, None))
    n = np.maximum(pairs, 1)
    spread = np.maximum(squares - sums**2 / n, 0.0)  # of the first map; at -lag, of the second
    other = np.flip(spread, axes)[half]
    product = back(of.real**2 + of.imag**2 + 0j)[half] - (sums * np.flip(sums, axes) / n)[half]
    least = NO_VARIANCE * variance * n[half]
    varies = (spread[half] > least) & (other > least)
    divisor = np.sqrt(spread[half] * other)
    r = np.divide(product, divisor, out=np.zeros_like(product), where=varies)
    r = np.where((pairs[half] >= min_pairs) & (variance > 0), np.clip(r, -1, 1), np.nan)
    return np.concatenate([np.flip(r[:, 1:], axes), r], axis=1)


def _over_overlaps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of maps (map, y, x, ...) over the places that overlap at every lag.

    Every place must have been visited: the overlap at a lag then runs from one edge of the map
    along each axis, so that all sums are cumulative sums.
    """
    for axis in range(1, values.ndim):
        up_to = np.cumsum(values, axis)
        onwards = np.flip(np.cumsum(np.flip(values, axis), axis), axis)
        values = np.concatenate([up_to, np.delete(onwards, 0, axis)], axis)
    return values


def _centred(
    rate: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates minus their mean, 0 where not valid, and their variance (map, 1, ...), 0 if flat."""
    axes = tuple(range(1, rate.ndim))
    known = np.where(valid, rate, 0.0)
    n = np.maximum(valid.sum(axes, keepdims=True), 1)
    off = np.where(valid, known - known.sum(axes, keepdims=True) / n, 0.0)
    flat = np.abs(off).max(axes, keepdims=True) <= FLAT * np.abs(known).max(axes, keepdims=True)
    off = np.where(flat, 0.0, off)
    return off, (off**2).sum(axes, keepdims=True) / n


def bin_width(maps: xr.Dataset, dim: str) -> float:
    """Width of the bins along an axis; 1 for a single bin.

    Raises
    ------
    ValueError
        The bins differ in width.
    """
    steps = np.diff(np.asarray(maps[dim].values, float))
    if not steps.size:
        return 1.0
    if steps.max() - steps.min() > EQUAL * np.abs(steps).max():
        raise ValueError(
            f"maps must have bins of one width along {dim!r} for an autocorrelogram, got "
            f"{steps.min():g} to {steps.max():g}; make the maps with equal bins"
        )
    return float(steps.mean())


def square_width(maps: xr.Dataset, what: str) -> float:
    """Width of the bins of maps of two axes, all of which are square.

    Raises
    ------
    ValueError
        The maps do not have two axes, the axes are in different units, or the bins are not square.
    """
    space = schema.place_dims(maps)
    if len(space) != 2:
        raise ValueError(f"maps must have two axes for {what}, got {space}")
    common_units(maps, space, f"maps for {what}")
    steps = [np.diff(maps[d].values.astype(float)) for d in space]
    for name, step in zip(space, steps, strict=True):
        if not (step > 0).all():
            raise ValueError(
                f"maps must have ascending bin centres of {name!r} for {what}; sort them with "
                f"maps.sortby({name!r})"
            )
    widths = np.concatenate(steps) if all(s.size for s in steps) else np.ones(1)
    if widths.max() - widths.min() > EQUAL * np.abs(widths).max():
        raise ValueError(
            f"maps must have square bins for {what}, got bins of {widths.min():g} to "
            f"{widths.max():g} along {space}; make the maps with bins of one width"
        )
    return float(widths.mean())


def _other_coords(maps: xr.Dataset, space: tuple[str, ...]) -> dict[str, xr.DataArray]:
    """Coordinates of the rates that do not lie on an axis of place."""
    coords = maps[schema.RATE].coords
    return {str(k): v for k, v in coords.items() if not set(v.dims) & set(space)}
