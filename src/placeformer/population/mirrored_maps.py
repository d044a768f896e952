"""Rate maps in which every unit is rotated and mirrored independently."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]


def symmetries(shape: tuple[int, ...], n_space: int) -> Places:
    """Source place of every place, shape (symmetry, place), with the identity first.

    The symmetries of a lattice are the reflections along its axes and, on a square, also those
    after an exchange of the two axes, which include the rotations. They keep the neighbours of
    every place, and therefore the spatial autocorrelation of a map, without a seam.

    Parameters
    ----------
    shape
        Shape of the maps; the last axes are the spatial axes.
    n_space
        Number of spatial axes. Leading axes, such as the maps of several rooms, are kept.
    """
    places = np.arange(int(np.prod(shape))).reshape(shape)
    axes = tuple(range(len(shape) - n_space, len(shape)))
    square = n_space == 2 and shape[-1] == shape[-2]
    turned = [places, places.swapaxes(*axes)] if square else [places]
    images = [
        np.flip(image, tuple(axis for axis, flip in zip(axes, flips, strict=True) if flip)).ravel()
        for image in turned
        for flips in itertools.product((False, True), repeat=n_space)
    ]
    return np.array(list({image.tobytes(): image for image in images}.values()))


def mirrored(
    rates: NDArray[np.float64], images: Places, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Rates (place, unit) after a random symmetry for each unit."""
    chosen = images[rng.integers(0, len(images), rates.shape[1])].T
    return np.take_along_axis(rates, chosen, axis=0)
