"""Figures of single units and walks: rate maps, place fields, walks, memory errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from placeformer.data import circular, schema
from placeformer.plot._style import (
    BLUE,
    COLORS,
    VERMILION,
    check_result,
    looks,
    named_results,
    verbatim,
)
from placeformer.plot._style import axes as _axes
from placeformer.spatial.place_fields import labels_of

Edges = tuple[NDArray[Any], NDArray[Any]]
"""Edges of the bins on the axes y and x."""

GRID_STEPS = "grid steps"
"""Units of places without units."""

Segment = tuple[tuple[float, float], tuple[float, float]]


def bin_edges(maps: xr.Dataset) -> Edges:
    """Edges of the bins on both axes; halfway between the centres if the maps have no edges."""
    ydim, xdim = schema.place_dims(maps)
    return axis_edges(maps, ydim), axis_edges(maps, xdim)


def axis_edges(maps: xr.Dataset, dim: str) -> NDArray[np.float64]:
    """Edges of the bins on one axis."""
    if dim + schema.EDGES_SUFFIX in maps.variables:
        return schema.edges_of(maps, dim)
    centres = np.asarray(maps[dim].values, float)
    step = np.diff(centres) if centres.size > 1 else np.ones(1)
    middle = centres[:-1] + step[: centres.size - 1] / 2
    return np.concatenate([[centres[0] - step[0] / 2], middle, [centres[-1] + step[-1] / 2]])


def show_image(
    ax: Axes,
    values: np.ma.MaskedArray[Any, Any],
    edges: Edges,
    **options: Any,
) -> Any:
    """Show values (y, x) as an image if all bins are equal, else as a mesh."""
    ax.patch.set(facecolor="0.75", hatch="////", edgecolor="0.4")  # seen where values are missing
    y, x = edges
    if all(np.allclose(np.diff(e), e[1] - e[0]) for e in edges):
        extent = (x[0], x[-1], y[-1], y[0])
        look: dict[str, Any] = {"cmap": "viridis", "interpolation": "none", "origin": "upper"}
        return ax.imshow(values, extent=extent, **look, **options)
    return ax.pcolormesh(x, y, values, cmap="viridis", edgecolors="face", **options)


def set_axes(ax: Axes, dims: tuple[str, str], units: tuple[str, str], edges: Edges) -> None:
    """Set axes (y, x), with y downwards on a grid of whole steps, otherwise with y upwards.

    Both axes have the same scale unless they have different units.
    """
    on_grid = set(units) == {GRID_STEPS} and all(is_grid(e) for e in edges)
    for axis, dim, unit in zip((ax.yaxis, ax.xaxis), dims, units, strict=True):
        axis.set_label_text(with_units(dim, unit))
        axis.set_major_locator(MaxNLocator(nbins=4, integer=on_grid))
    y, x = edges
    ylim = (y[-1], y[0]) if on_grid else (y[0], y[-1])
    ax.set(xlim=(x[0], x[-1]), ylim=ylim, aspect="equal" if units[0] == units[1] else "auto")


def is_grid(edges: NDArray[Any]) -> bool:
    """Whether bins are the steps of a grid: width 1, centred on whole numbers."""
    centres = edges[:-1] + 0.5
    return bool(np.array_equal(np.diff(edges), np.ones(len(centres)))
                and np.array_equal(centres, np.round(centres)))  # fmt: skip


def set_axes_of(ax: Axes, maps: xr.Dataset, edges: Edges) -> None:
    """Set the axes of rate maps."""
    ydim, xdim = schema.place_dims(maps)
    units = [place_units(maps, dim) for dim in (ydim, xdim)]
    set_axes(ax, (ydim, xdim), (units[0], units[1]), edges)


def region_outline(
    inside: NDArray[np.bool_], edges: Edges, wraps: tuple[bool, ...] = (False, False)
) -> list[Segment]:
    """Lattice edges between bins inside and outside; none at the seam of a circular axis."""
    y, x = edges
    padded = inside
    for axis, wrapped in enumerate(wraps):
        border = [(int(k == axis),) * 2 for k in (0, 1)]
        padded = np.pad(padded, border, mode="wrap" if wrapped else "constant")
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    return [
        *(((x[j], y[i]), (x[j], y[i + 1])) for i, j in upright),
        *(((x[j], y[i]), (x[j + 1], y[i])) for i, j in level),
    ]


def offsets_aside(
    x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets that separate visits to a place: the first is at its centre, others are around it."""
    visit, seen = np.zeros(len(x)), dict[tuple[float, float], int]()
    for i, place in enumerate(zip(x, y, strict=True)):
        visit[i] = seen[place] = seen.get(place, -1) + 1
    radius = np.minimum(0.15 * np.sqrt(visit), 0.42)
    return radius * np.cos(2.4 * visit), radius * np.sin(2.4 * visit)


def draw_world(
    ax: Axes, shape: tuple[int, int], letters: xr.DataArray | None, walls: Sequence[Sequence[int]]
) -> None:
    """Draw the grid and its walls, with the letter of every place in its upper left corner."""
    rows, columns = (np.arange(n + 1) - 0.5 for n in shape)
    set_axes(ax, ("y", "x"), (GRID_STEPS, GRID_STEPS), (rows, columns))
    ink = mpl.rcParams["text.color"]
    ax.hlines(rows, columns[0], columns[-1], color=ink, alpha=0.15, linewidth=0.5, zorder=0)
    ax.vlines(columns, rows[0], rows[-1], color=ink, alpha=0.15, linewidth=0.5, zorder=0)
    for here, there in walls:
        y, x = divmod(there, shape[1])
        along_x = (x - 0.5, x + 0.5) if there - here == shape[1] else (x - 0.5, x - 0.5)
        along_y = (y - 0.5, y - 0.5) if there - here == shape[1] else (y - 0.5, y + 0.5)
        ax.plot(along_x, along_y, color=ink, linewidth=2, solid_capstyle="butt", zorder=1)
    if letters is not None:
        for (y, x), letter in np.ndenumerate(letters.transpose("y", "x").values):
            name = ascii_uppercase[letter] if letter < len(ascii_uppercase) else str(letter)
            ax.text(x - 0.44, y - 0.42, name, va="top", ha="left", fontsize="x-small", alpha=0.75)


OUTCOMES = (
    ("working memory, right", True, True, "o", BLUE),
    ("working memory, wrong", True, False, "o", VERMILION),
    ("reference memory, right", False, True, "D", BLUE),
    ("reference memory, wrong", False, False, "D", VERMILION),
)
"""Label, visited, correct, marker and colour of a prediction."""

LABEL_WIDTH = 50
"""Number of characters after which the label of an axis is wrapped."""

ARC_POINTS = 9
"""Number of points on the arc of a bin of a polar plot."""

MOST = 200
"""Maximum number of units in a gallery."""

MOST_POINTS = 400
"""Maximum number of points drawn per curve, to limit the size of vector graphics."""


def rate_maps(
    maps: xr.Dataset,
    unit: int | str = 0,
    *,
    ax: Axes | None = None,
    limits: tuple[float, float] | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw the rate map of one unit; unvisited places are hatched.

    Parameters
    ----------
    maps
        RateMaps of one map, on two axes of place (drawn as an image) or one (a curve; on a circular
        axis a polar plot, unless ``ax`` is given and not polar).
    unit
        Number of the unit along ``unit``, or its label.
    ax
        Axes to draw in; by default a new figure.
    limits
        Minimum and maximum rate of the colours, or of the axis of a curve; by default those of the
        map.
    colorbar
        Draw a colour bar with the units of the rate.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with the first axis of place (y) pointing down on a grid of whole numbers without
        units, as in the worlds of this library, and up in an arena of metres, cm or pixels.

    See Also
    --------
    placeformer.rate_maps : Compute rate maps.
    placeformer.plot.place_fields : Draw a rate map with its place fields.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> maps = pf.rate_maps(pf.from_arrays(field[:, None], {"x": x, "y": y}))
    >>> ax = pf.plot.rate_maps(maps, unit=0)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('x (grid steps)', 'y (grid steps)')
    """
    rate, unit = _rates(maps, unit), unit_number(maps, unit)
    check_limits(limits)
    (period, *_) = circular.axis_periods(maps)
    if rate.ndim == 1 and period is not None and (ax is None or ax.name == "polar"):
        return _polar(_axes(ax, "polar"), rate, maps, unit, limits, period)
    ax = _axes(ax)
    if rate.ndim == 1:
        return _curve(ax, rate, maps, unit, limits)
    edges = bin_edges(maps)
    low, high = limits or (None, None)
    image = show_image(ax, np.ma.masked_invalid(rate.values), edges, vmin=low, vmax=high)
    set_axes_of(ax, maps, edges)
    ax.set_title(map_title(maps, unit))
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label=f"mean activation ({schema.shown_units(rate)})")
    return ax


def place_fields(
    maps: xr.Dataset,
    fields: xr.Dataset | xr.DataArray,
    unit: int | str = 0,
    *,
    ax: Axes | None = None,
    limits: tuple[float, float] | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw the rate map of one unit with the outlines of its place fields.

    On one axis of place the fields are shaded.

    Parameters
    ----------
    maps, unit, ax, limits, colorbar
        As in :func:`rate_maps`.
    fields
        Result of :func:`placeformer.place_fields` on these maps, or its ``label``.

    See Also
    --------
    placeformer.place_fields : Find place fields.
    placeformer.plot.rate_maps : Draw a rate map alone.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> maps = pf.rate_maps(pf.from_arrays(field[:, None], {"x": x, "y": y}))
    >>> ax = pf.plot.place_fields(maps, pf.place_fields(maps), unit=0)
    >>> len(ax.collections)  # a white outline on a black one
    2
    """
    schema.check_rate_maps(maps)
    labels = labels_of(fields, maps)
    ax = rate_maps(maps, unit, ax=ax, limits=limits, colorbar=colorbar)
    label = labels.isel({schema.UNIT: unit_number(maps, unit)}).values
    for number in range(1, int(label.max(initial=0)) + 1):
        if label.ndim == 1:
            _shade_field(ax, label == number, maps, COLORS[(number - 1) % len(COLORS)])
            continue
        outline = region_outline(label == number, bin_edges(maps), circular.wraps(maps))
        for color, width in (("black", 3.2), ("white", 1.6)):  # visible on bright and dark places
            ax.add_collection(LineCollection(outline, colors=color, linewidths=width))
    return ax


def walk(
    recording: xr.Dataset,
    letters: xr.DataArray | None = None,
    *,
    walk: int = 0,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw a walk on its map, and mark which predictions were right.

    Parameters
    ----------
    recording
        Recording with ``x`` and ``y`` on a grid (whole numbers from 0, without units), or in an
        arena, and, for the predictions, ``visited`` and ``correct``; activations are not used. On a
        grid, a few dozen steps work best.
    letters
        Letter index of every place (y, x).
    walk
        Number of the walk.
    ax
        Axes to draw in; by default a new figure.
    legend
        Explain the markers, with the number of each.

    Returns
    -------
    matplotlib.axes.Axes
        The path as a grey line that starts at a square, and one marker per prediction: a circle for
        working and a diamond for reference memory, filled if right and crossed if wrong.
        Predictions at the same place are drawn next to each other.

    See Also
    --------
    placeformer.record : Record walks of a network.
    placeformer.plot.memory : Draw memory errors.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> walks = {"n_walks": 1, "n_steps": 40, "burn_in": 0}
    >>> recording = pf.record(model, layers="ffn.1", progress=False, **walks)
    >>> ax = pf.plot.walk(recording)
    >>> ax.get_legend().get_texts()[0].get_text()
    'path'
    """
    check_result("recording", recording, "record", (schema.WALK, "x", "y"))
    if walk not in range(n_walks := recording.sizes[schema.WALK]):
        raise ValueError(f"walk must be a number from 0 to {n_walks - 1}, got {walk!r}")
    steps = recording.isel({schema.WALK: walk})
    x, y = (np.asarray(steps[name].values, float) for name in ("x", "y"))
    start = np.flatnonzero(np.isfinite(x + y))[:1]
    if not start.size:
        raise ValueError(f"walk must have positions, but all of walk {walk} are NaN")
    ax = _axes(ax)
    ax.plot(x, y, color="0.55", linewidth=1.2, zorder=1, label="path")
    ax.plot(x[start], y[start], "s", color="0.55", markersize=7, zorder=1, label="start")
    if {"visited", "correct"} <= set(recording.variables):
        _outcomes(ax, steps, x, y)
    units = {name: schema.shown_units(steps[name], "") for name in ("x", "y")}
    known = np.concatenate([values[np.isfinite(values)] for values in (x, y)])
    if not any(units.values()) and (known >= 0).all() and (known == np.round(known)).all():
        side = int(known.max() + 1)
        walls = json.loads(recording.attrs.get(schema.WALLS, "[]"))
        draw_world(ax, schema.world_shape(recording.attrs) or (side, side), letters, walls)
    else:
        ax.set(xlabel=with_units("x", units["x"]), ylabel=with_units("y", units["y"]))
        ax.set_aspect("equal")
    if legend:
        ax.legend(  # below the label of the axis, whatever the size of the figure
            loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4, ncols=2, columnspacing=1,
            fontsize="small", frameon=False,
        )  # fmt: skip
    return ax


def memory(errors: xr.Dataset | Mapping[str, xr.Dataset], *, ax: Axes | None = None) -> Axes:
    """Draw working- and reference-memory errors with their intervals and the chance level.

    Parameters
    ----------
    errors
        Result of :func:`placeformer.memory_errors`, or a mapping from labels to several results.
    ax
        Axes to draw in; by default a new figure.

    See Also
    --------
    placeformer.memory_errors : Measure memory errors.
    placeformer.plot.dose_response : Draw memory errors against α.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> errors = pf.memory_errors(model, n_walks=4, n_steps=128, progress=False)
    >>> ax = pf.plot.memory({"mini-nmda-a10": errors})
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['working memory', 'reference memory']
    """
    named = named_results("errors", errors, "memory_errors", ("memory", "error", "interval"))
    ax = _axes(ax)
    first = next(iter(named.values()))
    memories = [str(name) for name in first["memory"].values]
    step = min(0.3, 0.8 / len(named))
    for i, (label, item) in enumerate(named.items()):
        at = np.arange(len(memories)) + (i - (len(named) - 1) / 2) * step
        _intervals(ax, at, item, label, i)
    if "chance" in first.attrs:
        ink = mpl.rcParams["text.color"]
        ax.axhline(first.attrs["chance"], color=ink, linestyle=":", linewidth=1, label="chance")
    ax.set_xticks(range(len(memories)), [f"{name} memory" for name in memories])
    ax.set(xlim=(-0.6, len(memories) - 0.4), ylim=(-0.02, 1.02), ylabel="wrong predictions")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(frameon=False)
    return ax


def distribution(
    values: Mapping[str, xr.DataArray | NDArray[Any]],
    *,
    ax: Axes | None = None,
    log: bool = False,
) -> Axes:
    """Draw the fraction of units above each value, with one curve per group.

    Parameters
    ----------
    values
        Values by label, of any shape; NaN values are left out.
    ax
        Axes to draw in; by default a new figure.
    log
        Use a logarithmic axis for the fraction, for measures that are 0 for most units.

    See Also
    --------
    placeformer.spatial_information : A measure of every unit.
    placeformer.plot.rate_maps : Draw the rate map of one unit.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> groups = {"first": rng.normal(size=100), "second": rng.normal(1, size=100)}
    >>> ax = pf.plot.distribution(groups)
    >>> len(ax.lines), ax.get_ylabel()
    (2, 'share of units above')
    """
    if not isinstance(values, Mapping) or isinstance(values, xr.Dataset):
        raise TypeError(
            "values must be a mapping of labels to the values of a measure, got "
            f"{type(values).__name__}; write {{'label': values}}"
        )
    if not values:
        raise ValueError("values must hold the values of at least one group, got none")
    ax = _axes(ax)
    for i, (label, group) in enumerate(values.items()):
        x, share = _above(np.asarray(group, float))
        color, line, _ = looks(i)
        label = verbatim(label)
        ax.plot(x, share, line, color=color, drawstyle="steps-post", label=label)
    first = next(iter(values.values()))
    if isinstance(first, xr.DataArray):
        ax.set_xlabel(_axis_label(first))
    ax.set_ylabel("share of units above")
    if log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(-0.02, 1.02)
    ax.legend(frameon=False)
    return ax


def check_limits(limits: Any) -> None:
    """Raise for limits that are not a minimum and a maximum."""
    ends = np.asarray(0 if limits is None else limits)
    numbers = ends.shape == (2,) and ends.dtype.kind in "iuf" and np.isfinite(ends).all()
    if limits is not None and not (numbers and ends[0] <= ends[1]):
        raise ValueError(
            "limits must be two finite numbers, the minimum and the maximum, got "
            f"{limits!r:.80}; pass None for those of the map"
        )


def _rates(maps: xr.Dataset, unit: int | str) -> xr.DataArray:
    """Rate (y, x) or (x,) of one unit of one map."""
    schema.check_rate_maps(maps)
    space, rate = schema.place_dims(maps), maps[schema.RATE]
    more = [str(d) for d in rate.dims if d not in (schema.UNIT, *space)]
    if more or len(space) > 2:
        way = f"select one with isel({more[0]}=0)" if more else "compute them with one or two axes"
        raise ValueError(
            f"maps must be of one map on one or two axes of place, got dims {rate.dims}; {way}"
        )
    return rate.isel({schema.UNIT: unit_number(maps, unit)}).transpose(*space)


def _curve(
    ax: Axes, rate: xr.DataArray, maps: xr.Dataset, unit: int, limits: tuple[float, float] | None
) -> Axes:
    """Draw the rates of one unit on one axis of place."""
    (dim,) = (str(d) for d in rate.dims)
    edges = axis_edges(maps, dim)
    for low, high, value in zip(edges[:-1], edges[1:], rate.values, strict=True):
        if not np.isfinite(value):
            ax.axvspan(low, high, facecolor="0.75", hatch="////", edgecolor="0.4", linewidth=0)
    ax.stairs(rate.values, edges, baseline=None, color=BLUE, linewidth=1.5)
    ax.set(xlim=(edges[0], edges[-1]), xlabel=place_label(maps, dim), title=map_title(maps, unit))
    ax.set_ylabel(f"mean activation ({schema.shown_units(rate)})")
    if limits:
        ax.set_ylim(limits)
    return ax


def _polar(
    ax: Axes,
    rate: xr.DataArray,
    maps: xr.Dataset,
    unit: int,
    limits: tuple[float, float] | None,
    period: float,
) -> Axes:
    """Draw the rates of one unit on a circular axis, as steps around a circle.

    The centre is 0, or the lowest rate if that is negative.
    """
    (dim,) = (str(d) for d in rate.dims)
    edges = axis_edges(maps, dim) * (2 * np.pi / period)
    arcs = np.linspace(edges[:-1], edges[1:], ARC_POINTS, axis=1).ravel()
    height = np.repeat(rate.values, ARC_POINTS)
    known = height[np.isfinite(height)]
    low = min(0.0, known.min(initial=0.0))
    high = known.max(initial=low)
    ax.plot(np.append(arcs, arcs[0]), np.append(height, height[0]), color=BLUE, linewidth=1.5)
    ax.fill_between(arcs, height, low, color=BLUE, alpha=0.2, linewidth=0)
    ax.set_ylim(limits or (low, high + 0.05 * ((high - low) or 1.0)))
    turns = np.arange(8) / 8
    ax.set_xticks(2 * np.pi * turns, _angle_labels(turns, period, maps[dim]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=3))
    ax.set(xlabel=place_label(maps, dim), title=map_title(maps, unit))
    return ax


def _angle_labels(turns: NDArray[np.float64], period: float, axis: xr.DataArray) -> list[str]:
    """Labels of fractions of a turn: degrees for an angle, else values of the axis."""
    angle = str(axis.attrs.get("units", "1")) in circular.PERIODS
    return [f"{360 * t:g}°" if angle else f"{period * t:.3g}" for t in turns]


def _shade_field(ax: Axes, inside: NDArray[np.bool_], maps: xr.Dataset, color: str) -> None:
    """Shade the bins of a field on one axis of place, in two parts across a seam."""
    (dim,), (period,) = schema.place_dims(maps), circular.axis_periods(maps)
    edges = axis_edges(maps, dim)
    if ax.name == "polar" and period is not None:
        edges = edges * (2 * np.pi / period)
    ends = np.flatnonzero(np.diff(np.pad(inside.astype(int), 1)))
    for first, stop in zip(ends[::2], ends[1::2], strict=True):
        ax.axvspan(edges[first], edges[stop], color=color, alpha=0.25, linewidth=0)


def unit_number(maps: xr.Dataset | xr.DataArray, unit: int | str) -> int:
    """Number of a single unit, given by its number or label."""
    (number,) = unit_numbers(maps, [unit], "unit")
    return int(number)


def unit_numbers(
    maps: xr.Dataset | xr.DataArray, units: Any, argument: str = "units"
) -> NDArray[np.intp]:
    """Numbers of the units chosen by numbers, labels or a boolean array."""
    n = maps.sizes[schema.UNIT]
    values = np.arange(n) if units is None else np.atleast_1d(np.asarray(units))
    if values.dtype == bool:
        if values.shape != (n,):
            raise ValueError(
                f"{argument} must be one boolean for each of {n} units, got {values.shape}"
            )
        values = np.flatnonzero(values)
    elif values.dtype.kind in "UO" and values.size:
        known = maps[schema.UNIT].values if schema.UNIT in maps.coords else np.arange(n)
        where = {str(label): i for i, label in enumerate(known)}
        if absent := [str(label) for label in values if str(label) not in where]:
            raise ValueError(f"{argument} must be labels of maps, which do not have {absent[:5]}")
        values = np.array([where[str(label)] for label in values])
    if values.ndim != 1 or not 0 < values.size <= MOST:
        raise ValueError(
            f"{argument} must be 1 to {MOST} units, got {values.size} of {n}; select some of them"
        )
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= n:
        raise ValueError(f"{argument} must be numbers from 0 to {n - 1}, got {values[:5].tolist()}")
    return values.astype(np.intp)


def place_units(maps: xr.Dataset, dim: str) -> str:
    """Units of an axis of place: grid steps if it has none and its bins are those of a grid."""
    return schema.shown_units(maps[dim], GRID_STEPS if is_grid(axis_edges(maps, dim)) else "")


def place_label(maps: xr.Dataset, dim: str) -> str:
    """Name and units of an axis of place."""
    return with_units(dim, place_units(maps, dim))


def with_units(name: str, units: str) -> str:
    """Label of an axis; the name alone if there are no units."""
    return f"{name} ({units})" if units else name


def map_title(maps: xr.Dataset, unit: int) -> str:
    """Name of one unit, for the title of its map."""
    return verbatim(schema.unit_names(maps[schema.RATE], np.array([unit])).replace("/", " unit "))


def _outcomes(ax: Axes, steps: xr.Dataset, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Draw one marker per prediction, those at the same place next to each other."""
    visited, correct = (steps[name].values.astype(bool) for name in ("visited", "correct"))
    right, down = offsets_aside(x, y)
    for label, seen, right_letter, marker, color in OUTCOMES:
        which = (visited == seen) & (correct == right_letter)
        face = color if right_letter else "none"
        at = (x[which] + right[which], y[which] + down[which])
        style: dict[str, Any] = {
            "color": color,
            "markerfacecolor": face,
            "markersize": 5,
            "zorder": 2,
        }
        ax.plot(*at, marker, linestyle="none", label=f"{label} ({which.sum()})", **style)
        if not right_letter:
            ax.plot(*at, "x", color=color, markersize=2.6, zorder=2, label="_wrong")


def _intervals(ax: Axes, at: NDArray[Any], errors: xr.Dataset, label: str, i: int) -> None:
    """Draw points with their intervals and their values as text."""
    error, bounds = errors["error"].values, errors["interval"].values
    reach = np.nan_to_num(np.abs(bounds.T - error))
    color, _, marker = looks(i)
    ax.errorbar(at, error, reach, fmt=marker, color=color, capsize=3, label=label or None)
    for place, value, (low, high) in zip(at, error, np.nan_to_num(bounds), strict=True):
        below = value > 0.2  # below, there is room and no chance level
        at_end, offset = (low, -9) if below else (high, 9)
        if np.isfinite(value):
            ax.annotate(
                f"{value:.1%}", (place, at_end), (0, offset), textcoords="offset points",
                va="center", ha="center", fontsize="small",
            )  # fmt: skip


def _above(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorted values and the fraction above each, thinned if there are very many."""
    x = np.sort(values[np.isfinite(values)])
    n = x.size
    if not n:
        return x, x
    share = 1 - np.searchsorted(x, x, side="right") / n
    drawn: Iterable[int] = range(n)
    if n > MOST_POINTS:
        tail = n - np.geomspace(1, n, MOST_POINTS // 2).astype(int)
        drawn = np.union1d(np.linspace(0, n - 1, MOST_POINTS // 2).astype(int), tail)
    chosen = np.fromiter(drawn, int)
    return np.insert(x[chosen], 0, x[0]), np.insert(share[chosen], 0, 1.0)


def _axis_label(values: xr.DataArray) -> str:
    """Long name and units."""
    name, units = values.attrs.get("long_name", values.name), schema.shown_units(values, "")
    return fill(f"{name} ({units})" if units else str(name), LABEL_WIDTH)
