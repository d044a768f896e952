"""Arenas on a common scale: rate maps in the unit square, at the places of another arena."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage, sparse

from placeformer.data import schema
from placeformer.data.circular import axis_periods
from placeformer.spatial.rate_maps import flatten

Floats = NDArray[np.float64]
Mode = Literal["reflect", "wrap"]

KNOWN = 0.5
"""Minimum total weight of the visited bins in an interpolated rate."""

WIDTHS = (0.05, 0.3)
"""Minimum and maximum width of random smooth fields: standard deviation of a Gaussian, as a
fraction of the side."""


def modes_of(maps: xr.Dataset) -> tuple[Mode, ...]:
    """How a filter continues beyond the ends of every axis."""
    return tuple("reflect" if period is None else "wrap" for period in axis_periods(maps))


def relative_centres(maps: xr.Dataset) -> list[Floats]:
    """Centres of the bins along every axis, from 0 at the first edge to 1 at the last.

    On a circular axis centres are in turns from the origin, regardless of the first edge.
    """
    centres = []
    for dim, period in zip(schema.place_dims(maps), axis_periods(maps), strict=True):
        centre = np.asarray(maps[dim].values, float)
        if period is not None:
            centres.append(centre / period)
            continue
        if dim + schema.EDGES_SUFFIX in maps.variables:
            edges = schema.edges_of(maps, dim)
        else:
            half = np.diff(centre)[[0, -1]] / 2 if centre.size > 1 else np.array([0.5, 0.5])
            edges = np.array([centre[0] - half[0], centre[-1] + half[1]])
        centres.append((centre - edges[0]) / (edges[-1] - edges[0]))
    return centres


def rates_at(maps: xr.Dataset, centres: list[Floats]) -> Floats:
    """Rates (place, unit) at relative centres along every axis, interpolated linearly.

    Only visited bins count; rates are NaN where these have less than half of the weight.
    """
    rate, share = flatten(maps)
    values, known = rate.T, (share > 0).T.astype(float)
    own = relative_centres(maps)
    if all(len(a) == len(b) and np.allclose(a, b) for a, b in zip(own, centres, strict=True)):
        return np.where(known > 0, values, np.nan)
    of_axes = zip(own, centres, axis_periods(maps), strict=True)
    along = (_linear(a, b, period is not None) for a, b, period in of_axes)
    weights = sparse.csr_array(reduce(sparse.kron, along, sparse.eye_array(1)))
    total, weight = weights @ np.where(known > 0, values, 0.0), weights @ known
    out = np.full(total.shape, np.nan)
    return np.divide(total, weight, out=out, where=weight >= KNOWN)


def _linear(own: Floats, wanted: Floats, circular: bool) -> sparse.csr_array:
    """Weights (wanted, own) of linear interpolation, constant beyond the first and last centre.

    On a circular axis, whose centres are in turns, the last bin adjoins the first.
    """
    if circular:
        wanted, own = own[0] + (wanted - own[0]) % 1, np.append(own, own[0] + 1)
    at = np.interp(wanted, own, np.arange(len(own)))
    weights = np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(len(own))))
    if circular:
        weights[:, 0] += weights[:, -1]
        weights = weights[:, :-1]
    return sparse.csr_array(weights)


def blocks_of_places(centres: list[Floats], n_blocks: int) -> NDArray[np.intp]:
    """Block of every place, with ``n_blocks`` blocks along every axis."""
    numbers = [np.minimum((c % 1 * n_blocks).astype(int), n_blocks - 1) for c in centres]
    laid_out = np.meshgrid(*numbers, indexing="ij")
    return np.ravel_multi_index(laid_out, (n_blocks,) * len(centres)).ravel()


def near_places(
    fold: NDArray[np.intp], shape: tuple[int, ...], gap: int, modes: tuple[Mode, ...]
) -> NDArray[np.bool_]:
    """Whether a place is at most ``gap`` bins from a fold, also diagonally (fold, place)."""
    own = fold == np.arange(int(fold.max()) + 1)[:, None]
    laid_out = own.reshape(-1, *shape)
    size = (1, *(2 * gap + 1,) * len(shape))
    near = ndimage.maximum_filter(laid_out, size, mode=["reflect", *modes])
    return np.asarray(near).reshape(len(own), -1) & ~own


def smooth_fields(
    shape: tuple[int, ...], n: int, rng: np.random.Generator, modes: tuple[Mode, ...]
) -> Floats:
    """Random smooth rates (place, unit): white noise, blurred with a different width per unit.

    The widths are spaced logarithmically over the range ``WIDTHS``.
    """
    fields = []
    for width in np.geomspace(*WIDTHS, n):
        noise = rng.standard_normal(shape)
        sigma = [width * size for size in shape]
        fields.append(ndimage.gaussian_filter(noise, sigma, mode=modes).ravel())
    return np.stack(fields, axis=1)
