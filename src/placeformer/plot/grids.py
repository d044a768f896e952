"""Figures of grid cells: autocorrelograms with their lattice."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.unit_identity import check_same_units
from placeformer.plot._style import BLUE, VERMILION, verbatim
from placeformer.plot._style import axes as _axes
from placeformer.plot.maps import set_axes, show_image, unit_number
from placeformer.spatial.autocorrelogram import LAG


def autocorrelogram(
    r: xr.DataArray,
    unit: int | str = 0,
    *,
    properties: xr.Dataset | None = None,
    ax: Axes | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw the spatial autocorrelogram of one unit, optionally with its lattice.

    Parameters
    ----------
    r
        Result of :func:`placeformer.autocorrelogram`, of maps of one or two axes. Lags with too few
        pairs of places are hatched.
    unit
        Number of the unit along ``unit``, or its label.
    properties
        Result of :func:`placeformer.grid_properties` on the same maps: the six peaks are marked,
        and the ellipse through them is drawn.
    ax
        Axes to draw in; by default a new figure.
    colorbar
        Draw a colour bar.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with the lags in the units of the maps; the first axis has the direction of
        :func:`placeformer.plot.rate_maps`.

    Raises
    ------
    ValueError
        The array has dimensions other than those of one map, or more than two lags, or the
        properties belong to other units.

    See Also
    --------
    placeformer.autocorrelogram : Compute autocorrelograms.
    placeformer.grid_properties : Spacing, orientation and ellipticity.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.mgrid[:30, :30] * 2 * np.pi / 8
    >>> waves = [np.cos(x * np.cos(a) + y * np.sin(a)) for a in np.deg2rad([0, 60, 120])]
    >>> maps = pf.maps_from_arrays(sum(waves))
    >>> ax = pf.plot.autocorrelogram(pf.autocorrelogram(maps), properties=pf.grid_properties(maps))
    >>> len(ax.lines[0].get_xdata())  # peaks
    6
    """
    if not isinstance(r, xr.DataArray):
        raise TypeError(
            f"r must be an xarray.DataArray, got {type(r).__name__}; compute it with "
            "placeformer.autocorrelogram(maps)"
        )
    lags = [str(d) for d in r.dims if str(d).endswith(LAG)]
    if {*r.dims} != {schema.UNIT, *lags} or len(lags) not in (1, 2):
        raise ValueError(
            f"r must have the dims ({schema.UNIT}, y{LAG}, x{LAG}) or ({schema.UNIT}, x{LAG}), got "
            f"{r.dims}; compute it with placeformer.autocorrelogram(maps), and select one of "
            "several maps with isel"
        )
    unit = unit_number(r, unit)
    if properties is not None:
        way = "compute both of the same maps"
        check_same_units(r, properties, ("r", "properties"), otherwise=way)
    ax = _axes(ax)
    one = r.isel({schema.UNIT: unit}).transpose(*lags)
    units = [schema.shown_units(r[d], "bins") for d in lags]
    names = [f"lag along {d.removesuffix(LAG)}" for d in lags]
    title = verbatim(schema.unit_names(r, np.array([unit])).replace("/", " unit "))
    if len(lags) == 1:
        ax.plot(r[lags[0]], one, color=BLUE)
        ax.set(xlabel=f"{names[0]} ({units[0]})", ylabel="correlation r", title=title)
        return ax
    edges = (_edges(one, lags[0]), _edges(one, lags[1]))
    image = show_image(ax, np.ma.masked_invalid(one.values), edges, vmin=-1, vmax=1)
    set_axes(ax, (names[0], names[1]), (units[0], units[1]), edges)
    ax.set_title(title)
    if properties is not None:
        _draw_lattice(ax, properties.isel({schema.UNIT: unit}))
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label="correlation r")
    return ax


def _edges(r: xr.DataArray, dim: str) -> NDArray[np.float64]:
    centres = r[dim].values
    width = centres[1] - centres[0] if centres.size > 1 else 1.0
    return np.append(centres, centres[-1] + width) - width / 2


def _draw_lattice(ax: Axes, grid: xr.Dataset) -> None:
    """Mark the six peaks, and draw the ellipse through them."""
    turn = np.deg2rad(grid["axis_direction"].values)
    y, x = grid["axis_spacing"].values * np.stack([np.sin(turn), np.cos(turn)])
    if np.isnan(x).any():
        return
    style: dict[str, Any] = {"mfc": "none", "mec": VERMILION, "mew": 1.5, "ms": 8}
    ax.plot([*x, *-x], [*y, *-y], "o", **style)
    ratio = float(grid["ellipticity"])
    if np.isnan(ratio):
        return
    tilt = float(grid["ellipse_direction"])
    along = np.cos(turn - np.deg2rad(tilt)) ** 2 + ratio**2 * np.sin(turn - np.deg2rad(tilt)) ** 2
    major = float(np.mean(grid["axis_spacing"].values * np.sqrt(along)))
    ax.add_patch(Ellipse((0, 0), 2 * major, 2 * major / ratio, angle=tilt, fill=False,
                         edgecolor=VERMILION, linestyle="--", linewidth=1.5))  # fmt: skip
