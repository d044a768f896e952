"""Figures of many units at once: sorted population maps and galleries of rate maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from placeformer._options import check_whole
from placeformer.data import schema
from placeformer.data.unit_identity import check_same_units
from placeformer.plot._style import axes as _axes
from placeformer.plot.maps import (
    axis_edges,
    check_limits,
    map_title,
    place_fields,
    place_label,
    rate_maps,
    show_image,
    unit_numbers,
)
from placeformer.spatial.place_fields import labels_of

HALF = "half"


def population(
    maps: xr.Dataset,
    *,
    sort_by: xr.Dataset | None = None,
    order: Sequence[int] | NDArray[Any] | None = None,
    normalize: bool = True,
    ax: Axes | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw the rate maps of all units on one axis of place, sorted by their peak positions.

    Even noise shows a diagonal if it is sorted by its own peaks: sort by one half of the data and
    draw the other half.

    Parameters
    ----------
    maps
        RateMaps of one map, on one axis of place; or the maps of two halves
        (:func:`placeformer.half_maps`): the first half sorts the units, and the second is drawn.
    sort_by
        RateMaps of the same units whose peaks determine the order, such as maps of other laps. By
        default the drawn maps.
    order
        Numbers of the units from top to bottom, instead of an order by peaks; needed to sort cells
        that were tracked across sessions by the maps of another session.
    normalize
        Scale every unit from 0 at its minimum rate to 1 at its maximum rate.
    ax
        Axes to draw in; by default a new figure.
    colorbar
        Draw a colour bar.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with one row per unit, the unit with the first peak at the top; unvisited places are
        hatched. Units without a rate are at the bottom. The title names the maps that determine the
        order if these are not the drawn maps.

    Raises
    ------
    ValueError
        The RateMaps hold several maps or more than one axis of place, `sort_by` has other units, or
        both `sort_by` and `order` are given.

    See Also
    --------
    placeformer.half_maps : Rate maps of two halves of a recording.
    placeformer.plot.gallery : Draw the rate maps of chosen units, also on two axes of place.
    placeformer.plot.rate_maps : Draw the rate map of one unit.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> x = np.tile(np.arange(20.0), 6)  # six laps on a track of 20 cm
    >>> fields = np.exp(-((x[:, None] - [4, 16, 10]) ** 2) / 8)
    >>> recording = pf.from_arrays(fields, {"x": x}, position_units="cm")
    >>> ax = pf.plot.population(pf.half_maps(recording, by="x", block=20))
    >>> ax.get_title()
    'even half, sorted by the odd half'
    """
    schema.check_rate_maps(maps)
    if sort_by is not None and order is not None:
        raise ValueError("sort_by must be None if order is given, got both")
    title = ""
    if HALF in maps.dims:
        names = [str(name) for name in maps[HALF].values]
        if sort_by is None and order is None:
            sort_by = maps.isel({HALF: 0})
            title = f"{names[1]} half, sorted by the {names[0]} half"
        maps = maps.isel({HALF: 1})
    elif sort_by is not None:
        title = "sorted by other maps"
    dim = only_axis(maps, "maps")
    rate = np.ma.masked_invalid(maps[schema.RATE].transpose(schema.UNIT, dim).values)
    if order is None:
        order = peak_order(maps if sort_by is None else checked_order(maps, sort_by))
    numbers = np.asarray(order)
    if (
        numbers.ndim != 1
        or not numbers.size
        or numbers.dtype.kind not in "iu"
        or not (numbers >= 0).all() & (numbers < len(rate)).all()
    ):
        raise ValueError(
            f"order must hold numbers of units, whole numbers from 0 to {len(rate) - 1}, got "
            f"{order!r:.80}; np.flatnonzero gives those of a boolean array"
        )
    rate = rate[numbers]
    if normalize:
        least, greatest = (f(axis=1, keepdims=True) for f in (rate.min, rate.max))
        rate = (rate - least) / np.ma.maximum(greatest - least, np.finfo(float).tiny)
    ax, edges = _axes(ax), axis_edges(maps, dim)
    image = show_image(ax, rate, (np.arange(len(rate) + 1) - 0.5, edges))
    ax.set(xlim=(edges[0], edges[-1]), ylim=(len(rate) - 0.5, -0.5), aspect="auto")
    ax.set(xlabel=place_label(maps, dim), ylabel="unit", title=title)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    if colorbar:
        units = "share of the range" if normalize else schema.shown_units(maps[schema.RATE])
        ax.figure.colorbar(image, ax=ax, label=f"mean activation ({units})")
    return ax


def only_axis(maps: xr.Dataset, argument: str) -> str:
    """The axis of place of maps of one map on one axis."""
    space = schema.place_dims(maps)
    if len(space) != 1 or set(maps[schema.RATE].dims) != {schema.UNIT, *space}:
        raise ValueError(
            f"{argument} must be of one map on one axis of place, got dims "
            f"{maps[schema.RATE].dims}; compute them with rate_maps(recording, by='x'), or draw "
            "units on two axes with placeformer.plot.gallery"
        )
    return space[0]


def checked_order(maps: xr.Dataset, sort_by: xr.Dataset) -> xr.Dataset:
    """The maps that sort the units, after a check that they are of the same units."""
    schema.check_rate_maps(sort_by)
    only_axis(sort_by, "sort_by")
    way = "pass the numbers of the units from the top down as order="
    check_same_units(maps, sort_by, ("maps", "sort_by"), otherwise=way)
    return sort_by


def peak_order(maps: xr.Dataset) -> NDArray[np.intp]:
    """Numbers of the units by the place of their maximum rate; units without a rate are last."""
    rate = maps[schema.RATE].transpose(schema.UNIT, ...).values
    known = np.isfinite(rate)
    peak = np.where(known, rate, -np.inf).argmax(axis=1)
    return np.argsort(np.where(known.any(axis=1), peak, rate.shape[1]), kind="stable")


def gallery(
    maps: xr.Dataset,
    units: Any = None,
    *,
    fields: xr.Dataset | xr.DataArray | None = None,
    columns: int = 6,
    limits: tuple[float, float] | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Draw the rate maps of chosen units side by side, each with its range of rates.

    Parameters
    ----------
    maps
        RateMaps of one map, on one or two axes of place.
    units
        The units in drawing order: numbers along ``unit``, labels such as ``"ffn.1/37"``, or a
        boolean DataArray over ``unit``, such as ``cells.is_place_cell``. By default all; at most
        200.
    fields
        Result of :func:`placeformer.place_fields` on these maps, whose outlines are drawn.
    columns
        Number of maps per row of a new figure.
    limits
        Minimum and maximum rate of the colours, or of the axes of curves, of all maps; by default
        those of each map.
    ax
        Array of at least as many axes as units; by default a new figure. Unused axes are hidden.

    Returns
    -------
    numpy.ndarray
        The axes of the units, in one dimension. Titles state the unit and, below it, the minimum
        and maximum of its map. All maps have the same places, so the axes of place have no ticks; y
        points down on a grid and up in an arena, as in :func:`rate_maps`.

    Raises
    ------
    ValueError
        Units do not exist, there are no or too many units or too few axes, or the fields belong to
        other maps.

    See Also
    --------
    placeformer.plot.rate_maps : Draw the rate map of one unit.
    placeformer.plot.population : Draw all units on one axis of place.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> up, right = y[:, None] - [1, 4, 6], x[:, None] - [2, 4, 5]
    >>> fields = np.exp(-(up**2 + right**2) / 4)
    >>> maps = pf.rate_maps(pf.from_arrays(fields, {"x": x, "y": y}))
    >>> axes = pf.plot.gallery(maps, [2, 0], fields=pf.place_fields(maps))
    >>> [ax.get_title().splitlines()[0] for ax in axes]
    ['2', '0']
    """
    schema.check_rate_maps(maps)
    numbers = unit_numbers(maps, units)
    fields = None if fields is None else labels_of(fields, maps)
    check_limits(limits)
    check_whole("columns", columns)
    if ax is None:
        n_columns = min(columns, numbers.size)
        n_rows = -(-numbers.size // n_columns)
        size = (1.35 * n_columns, 1.7 * n_rows)
        panels = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)[
            1
        ]
    else:
        panels = np.asarray(ax)
    panels = panels.ravel()
    if panels.size < numbers.size:
        raise ValueError(f"ax must hold {numbers.size} axes, got {panels.size}")
    for panel, number in zip(panels, numbers, strict=False):
        drawn: dict[str, Any] = {"ax": panel, "limits": limits, "colorbar": False}
        if fields is None:
            rate_maps(maps, int(number), **drawn)
        else:
            place_fields(maps, fields, int(number), **drawn)
        rate = maps[schema.RATE].isel({schema.UNIT: number})
        title = map_title(maps, int(number)) + f"\n{range_of(rate)}"
        panel.set_title(title, fontsize="small")
        panel.set(xlabel="", ylabel="", xticks=[])
        if len(schema.place_dims(maps)) == 2 or limits is None:
            panel.set(yticks=[])
    for panel in panels[numbers.size :]:
        panel.set_visible(False)
    return panels[: numbers.size]


def range_of(rate: xr.DataArray) -> str:
    """Text for the range of the rates of one unit."""
    values = rate.values[np.isfinite(rate.values)]
    if not values.size:
        return "no rate"
    units = schema.shown_units(rate, "")
    return f"{values.min():.2g} to {values.max():.2g} {units}".rstrip()
