"""The lattice of places in a figure: its edges, its images, its outlines, its axes."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from placeformer import schema

Edges = tuple[NDArray[Any], NDArray[Any]]
"""Edges of the bins on the axes y and x."""

Segment = tuple[tuple[float, float], tuple[float, float]]


def edges(maps: xr.Dataset) -> Edges:
    """Edges of the bins on both axes; halfway between the centres where there are none."""
    ydim, xdim = schema.place_dims(maps)
    return edges_of(maps, ydim), edges_of(maps, xdim)


def edges_of(maps: xr.Dataset, dim: str) -> NDArray[np.float64]:
    """Edges of the bins on one axis."""
    if dim + schema.EDGES_SUFFIX in maps.variables:
        return np.asarray(maps[dim + schema.EDGES_SUFFIX].values, float)
    centres = np.asarray(maps[dim].values, float)
    step = np.diff(centres) if centres.size > 1 else np.ones(1)
    middle = centres[:-1] + step[: centres.size - 1] / 2
    return np.concatenate([[centres[0] - step[0] / 2], middle, [centres[-1] + step[-1] / 2]])


def show(
    ax: Axes,
    values: np.ma.MaskedArray[Any, Any],
    edges: Edges,
    **options: Any,
) -> Any:
    """Show values (y, x): as an image where all bins are equal, else as a mesh."""
    ax.patch.set(facecolor="0.75", hatch="////", edgecolor="0.4")  # shows where there is no value
    y, x = edges
    if all(np.allclose(np.diff(e), e[1] - e[0]) for e in edges):
        extent = (x[0], x[-1], y[-1], y[0])
        return ax.imshow(values, cmap="viridis", extent=extent, interpolation="none", **options)
    return ax.pcolormesh(x, y, values, cmap="viridis", edgecolors="face", **options)


def set_axes(ax: Axes, dims: tuple[str, str], units: tuple[str, str], edges: Edges) -> None:
    """Axes (y, x) in whole steps, the first downwards; a place of the contract is a grid step."""
    for axis, dim, unit in zip((ax.yaxis, ax.xaxis), dims, units, strict=True):
        axis.set_label_text(f"{dim} ({'grid steps' if unit in ('', '1', 'place') else unit})")
        axis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    y, x = edges
    ax.set(xlim=(x[0], x[-1]), ylim=(y[-1], y[0]), aspect="equal")


def set_axes_of(ax: Axes, maps: xr.Dataset, edges: Edges) -> None:
    """Axes of rate maps."""
    ydim, xdim = schema.place_dims(maps)
    units = [str(maps[dim].attrs.get("units", "")) for dim in (ydim, xdim)]
    set_axes(ax, (ydim, xdim), (units[0], units[1]), edges)


def outline(inside: NDArray[np.bool_], edges: Edges) -> list[Segment]:
    """Edges of the lattice between bins inside and bins outside."""
    y, x = edges
    padded = np.pad(inside, 1)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    return [
        *(((x[j], y[i]), (x[j], y[i + 1])) for i, j in upright),
        *(((x[j], y[i]), (x[j + 1], y[i])) for i, j in level),
    ]


def aside(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets that set the visits of one place apart: the first in its middle, others around."""
    visit, seen = np.zeros(len(x)), dict[tuple[float, float], int]()
    for i, place in enumerate(zip(x, y, strict=True)):
        visit[i] = seen[place] = seen.get(place, -1) + 1
    radius = np.minimum(0.15 * np.sqrt(visit), 0.42)
    return radius * np.cos(2.4 * visit), radius * np.sin(2.4 * visit)


def draw_world(ax: Axes, side: int, letters: xr.DataArray | None) -> None:
    """Draw the grid, with the letter of every place in its upper left corner."""
    edges = np.arange(side + 1) - 0.5
    set_axes(ax, ("y", "x"), ("grid steps", "grid steps"), (edges, edges))
    ink = mpl.rcParams["text.color"]
    ax.hlines(edges, edges[0], edges[-1], color=ink, alpha=0.15, linewidth=0.5, zorder=0)
    ax.vlines(edges, edges[0], edges[-1], color=ink, alpha=0.15, linewidth=0.5, zorder=0)
    if letters is not None:
        for (y, x), letter in np.ndenumerate(letters.transpose("y", "x").values):
            name = ascii_uppercase[letter] if letter < len(ascii_uppercase) else str(letter)
            ax.text(x - 0.44, y - 0.42, name, va="top", ha="left", fontsize="x-small", alpha=0.75)
