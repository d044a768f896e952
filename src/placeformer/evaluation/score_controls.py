"""Controls of a score card: the untrained twin of a network, and random smooth fields."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch import nn

from placeformer.data import schema
from placeformer.data.circular import circular_of, wrap
from placeformer.models.transformer import NavigationTransformer

Untrained = nn.Module | Callable[[int], nn.Module]

CELLS = 64
"""Number of cells along each axis on which a random smooth field is drawn."""

AT_ONCE = 2**24
"""Number of cells of random fields that are drawn at once."""

TRUNCATE = 3.0
"""Number of standard deviations at which the smoothing Gaussian is truncated."""


def untrained_twin(network: nn.Module, untrained: Untrained | None, seed: int) -> nn.Module:
    """A network of the same architecture with the weights it would have before training.

    Parameters
    ----------
    network
        The trained network, which is not changed.
    untrained
        The twin itself, or a function that makes it from a seed; None to copy the network and
        draw new weights.
    seed
        Seed of the new weights. The global random state is restored afterwards.

    Returns
    -------
    torch.nn.Module
        The given twin, or a copy in which ``reset_parameters`` of every module was called; a
        navigation Transformer is initialised by ``init_weights``.

    Raises
    ------
    ValueError
        A module has its own weights but no ``reset_parameters``, or the twin is the network.
    TypeError
        `untrained` is neither a network nor a function that returns one.
    """
    if untrained is not None:
        twin = untrained if isinstance(untrained, nn.Module) else made(untrained, seed)
        if twin is network:
            raise ValueError("untrained must be another network than the measured network")
        return twin
    twin = copy.deepcopy(network)
    if isinstance(twin, NavigationTransformer):
        return twin.init_weights(seed)
    without = [
        f"{name or 'the network itself'} ({type(module).__name__})"
        for name, module in twin.named_modules()
        if any(p is not None for p in module._parameters.values())
        and not callable(getattr(module, "reset_parameters", None))
    ]
    if without:
        raise ValueError(
            "the untrained twin cannot be made: these modules have weights but no "
            f"reset_parameters(): {', '.join(without)}; pass as untrained a network with new "
            "weights, or a function that makes one from a seed"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return twin


def made(untrained: object, seed: int) -> nn.Module:
    """Make the untrained network with a function of the seed."""
    if not callable(untrained):
        raise TypeError(
            "untrained must be a torch.nn.Module or a function that makes one from a seed, got "
            f"{type(untrained).__name__}"
        )
    twin = untrained(seed)
    if not isinstance(twin, nn.Module):
        raise TypeError(f"untrained(seed) must return a torch.nn.Module, got {type(twin).__name__}")
    return twin


def random_fields(
    recording: xr.Dataset, *, by: Sequence[str], width: float, seed: int
) -> xr.Dataset:
    """Replace the units of a recording by random smooth fields, sampled along its walks.

    Every unit is a Gaussian random field over position: independent normal numbers on a lattice
    of 64 cells along each axis, smoothed with a Gaussian. It has no noise, no memory and no
    input except position, and is the same on every map. Circular axes have no seam, and their
    range is the period.

    Parameters
    ----------
    recording
        Recording, whose walks, units, labels and attributes except the provenance are kept.
    by
        Axes of position.
    width
        Standard deviation of the Gaussian as a fraction of the range of positions on each axis,
        above 0 and at most 1.
    seed
        Seed of the fields.

    Returns
    -------
    xarray.Dataset
        A Recording whose units have, over random draws of the fields, mean 0 and standard deviation
        1 at every position, and a correlation of exp(-d² / 4 w²) between positions at distance d,
        for a Gaussian of standard deviation w (on an axis that is not circular); NaN where a
        position is NaN.

    Raises
    ------
    ValueError
        `width` is out of range, or there are more than two axes.
    """
    if not 0 < width <= 1:
        raise ValueError(f"field_width must be above 0 and at most 1, got {width}")
    if len(by) > 2:
        raise ValueError(f"by must name one or two axes for random smooth fields, got {tuple(by)}")
    cell, known = lattice_cells(recording, by)
    turns = [name in circular_of(recording) for name in by]
    sd = width * CELLS
    margin = int(np.ceil(TRUNCATE * sd))  # so that the variance is the same everywhere
    margins = [0 if turn else margin for turn in turns]
    lattice = [CELLS + 2 * m for m in margins]
    inside = (slice(None), *(slice(m, m + CELLS) for m in margins))
    modes = ["constant", *("wrap" if turn else "constant" for turn in turns)]
    kernel = gaussian_filter1d(np.eye(1, 2 * margin + 1, margin)[0], sd, truncate=TRUNCATE)
    around = np.bincount(np.arange(kernel.size) % CELLS, kernel)  # the kernel may overlap itself
    scale = np.prod([np.square(around if turn else kernel).sum() for turn in turns]) ** 0.5
    n_units = recording.sizes[schema.UNIT]
    activation = np.full((*known.shape, n_units), np.nan, np.float32)
    rng = np.random.default_rng([seed, 18])
    step = max(1, AT_ONCE // int(np.prod(lattice)))
    for first in range(0, n_units, step):
        units = slice(first, min(n_units, first + step))
        white = rng.standard_normal((units.stop - units.start, *lattice), np.float32)
        field = gaussian_filter(white, (0, *[sd] * len(by)), mode=modes, truncate=TRUNCATE)
        field = (field[inside] / scale).reshape(units.stop - units.start, -1)
        activation[known, units] = field[:, cell[known]].T
    dims = (schema.WALK, schema.TIME, schema.UNIT)
    about: dict[str, Any] = {"units": "1", "long_name": "random smooth field of position"}
    kept = {name: value for name, value in recording.attrs.items() if name != schema.PROVENANCE}
    fields = recording.assign({schema.ACTIVATION: xr.Variable(dims, activation, about)})
    return fields.drop_attrs(deep=False).assign_attrs(kept)


def lattice_cells(
    recording: xr.Dataset, by: Sequence[str]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Lattice cell of every sample (walk, time), and whether the sample has a position."""
    order, periods = (schema.WALK, schema.TIME), circular_of(recording)
    places = [np.asarray(recording[axis].transpose(*order).values, float) for axis in by]
    known = np.logical_and.reduce([np.isfinite(place) for place in places])
    cell = np.zeros(known.shape, np.intp)
    for name, place in zip(by, places, strict=True):
        low, high = np.min(place[known]), np.max(place[known])
        if name in periods:
            low, high = 0.0, periods[name]
            place = wrap(place, low, high)
        share = (np.where(known, place, low) - low) / (high - low if high > low else 1.0)
        cell = cell * CELLS + np.minimum((share * CELLS).astype(np.intp), CELLS - 1)
    return cell, known
