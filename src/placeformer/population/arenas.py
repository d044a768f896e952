"""Arenas on one scale: rate maps in the unit square, on the places of another arena."""

from __future__ import annotations

from functools import reduce

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage, sparse

from placeformer.data import schema
from placeformer.spatial.rate_maps import flatten

Floats = NDArray[np.float64]

KNOWN = 0.5
"""Minimum weight of visited bins in an interpolated rate."""

WIDTHS = (0.05, 0.3)
"""Minimum and maximum width of random smooth fields: standard deviation of a Gaussian, as a share
of the side."""


def relative_centres(maps: xr.Dataset) -> list[Floats]:
    """Centres of the bins along every axis, from 0 at the first edge to 1 at the last."""
    centres = []
    for dim in schema.place_dims(maps):
        centre = np.asarray(maps[dim].values, float)
        if dim + schema.EDGES_SUFFIX in maps.variables:
            edges = schema.edges_of(maps, dim)
        else:
            half = np.diff(centre)[[0, -1]] / 2 if centre.size > 1 else np.array([0.5, 0.5])
            edges = np.array([centre[0] - half[0], centre[-1] + half[1]])
        centres.append((centre - edges[0]) / (edges[-1] - edges[0]))
    return centres


def rates_at(maps: xr.Dataset, centres: list[Floats]) -> Floats:
    """Rates (place, unit) at relative centres along every axis, interpolated linearly.

    Visited bins count alone; NaN where they have less than half of the weight.
    """
    rate, share = flatten(maps)
    values, known = rate.T, (share > 0).T.astype(float)
    own = relative_centres(maps)
    if all(len(a) == len(b) and np.allclose(a, b) for a, b in zip(own, centres, strict=True)):
        return np.where(known > 0, values, np.nan)
    weights = reduce(
        sparse.kron, (_linear(a, b) for a, b in zip(own, centres, strict=True)), sparse.eye_array(1)
    )
    weights = sparse.csr_array(weights)
    total, weight = weights @ np.where(known > 0, values, 0.0), weights @ known
    out = np.full(total.shape, np.nan)
    return np.divide(total, weight, out=out, where=weight >= KNOWN)


def _linear(own: Floats, wanted: Floats) -> sparse.csr_array:
    """Weights (wanted, own) of linear interpolation, constant beyond the first and last centre."""
    at = np.interp(wanted, own, np.arange(len(own)))
    return sparse.csr_array(np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(len(own)))))


def blocks_of_places(centres: list[Floats], n_blocks: int) -> NDArray[np.intp]:
    """Block of every place, of ``n_blocks`` along every axis."""
    numbers = [np.minimum((c * n_blocks).astype(int), n_blocks - 1) for c in centres]
    laid_out = np.meshgrid(*numbers, indexing="ij")
    return np.ravel_multi_index(laid_out, (n_blocks,) * len(centres)).ravel()


def near_places(fold: NDArray[np.intp], shape: tuple[int, ...], gap: int) -> NDArray[np.bool_]:
    """Whether a place is at most ``gap`` bins from a fold, diagonally as well (fold, place)."""
    own = fold == np.arange(int(fold.max()) + 1)[:, None]
    laid_out = own.reshape(-1, *shape)
    size = (1, *(2 * gap + 1,) * len(shape))
    return np.asarray(ndimage.maximum_filter(laid_out, size)).reshape(len(own), -1) & ~own


def smooth_fields(shape: tuple[int, ...], n: int, rng: np.random.Generator) -> Floats:
    """Random smooth rates (place, unit): white noise that is blurred, each unit by its own width.

    The widths are spread evenly over the logarithms of ``WIDTHS``.
    """
    fields = []
    for width in np.geomspace(*WIDTHS, n):
        noise = rng.standard_normal(shape)
        sigma = [width * size for size in shape]
        fields.append(ndimage.gaussian_filter(noise, sigma, mode="reflect").ravel())
    return np.stack(fields, axis=1)
