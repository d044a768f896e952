"""Figures of a network over its training: memory, place cells and their turnover."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from placeformer.plot._style import (
    BLUE,
    COLORS,
    GREEN,
    LINES,
    PURPLE,
    VERMILION,
    axes,
    check_result,
    looks,
    shade_windows,
    verbatim,
)
from placeformer.plot.lesions import plain

MEMORIES = {"reference": (VERMILION, "D"), "working": (BLUE, "o")}
KINDS = {"trained": "-", "novel": ":"}

MORE = ("0.45", "#E69F00", "#56B4E9")
"""Further colours, for sets of maps."""


def consolidation(course: xr.Dataset, *, ax: Any = None) -> np.ndarray:
    """Draw how memory and place cells develop during training.

    Parameters
    ----------
    course
        Result of :func:`placeformer.consolidation`.
    ax
        Array of four axes, of any shape; by default a new figure.

    Returns
    -------
    numpy.ndarray
        The axes, all against optimiser steps: (a) memory errors on trained maps (lines) and novel
        maps (dotted), or the scores; (b) fraction of place cells on the trained and on the novel
        map, and of place cells that depend on memory; (c) place cells kept from the previous step,
        kept until the end, and found again on other walks, beyond chance; (d) resemblance to the
        final network: CKA on both maps, and correlation of the maps beyond that of different units.
        Intervals are those of the Dataset. Windows in which α differs are shaded.

    See Also
    --------
    placeformer.consolidation : The data of the figure.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> courses = xr.load_dataset(results_folder() / "consolidation.nc")
    >>> axes = pf.plot.consolidation(courses.isel(model=0))
    >>> axes.shape
    (2, 2)
    """
    check_result("course", course, "consolidation", ("step", "place_cell_fraction"))
    if ax is None:
        ax = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained", sharex=True)[1]
    panels = np.asarray(ax).ravel()
    if panels.size != 4:
        raise ValueError(f"ax must hold 4 axes, got {panels.size}")
    _memory(panels[0], course)
    _cells(panels[1], course)
    _turnover(panels[2], course)
    _resemblance(panels[3], course)
    for letter, panel in zip("abcd", panels, strict=True):
        _steps(panel, course)
        panel.set_title(f"({letter}) {panel.get_title(loc='left')}", loc="left", fontsize="medium")
        if panel.get_legend_handles_labels()[1]:
            panel.legend(frameon=False, fontsize="x-small")
    return np.asarray(ax)


def _line(
    ax: Axes,
    values: xr.DataArray,
    interval: xr.DataArray | None,
    label: str,
    color: str,
    line: str = "-",
    marker: str = "o",
) -> None:
    """Draw values against steps, with their interval as a band."""
    x = values["step"].values
    ax.plot(x, values.values, line, marker=marker, markersize=3, color=color, linewidth=1.1,
            label=label)  # fmt: skip
    if interval is not None:
        low, high = interval.transpose("bound", "step").values
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def _memory(ax: Axes, course: xr.Dataset) -> None:
    if "error" not in course:
        ax.set_title("scores", loc="left")
        ax.set_ylabel("score")
        for i, metric in enumerate(course["metric"].values if "score" in course else ()):
            score = course["score"].sel(metric=metric)
            _line(ax, score, None, verbatim(metric), *looks(i))
        return
    for memory, (color, marker) in MEMORIES.items():
        for kind, line in KINDS.items():
            here = course.sel(maps=kind, memory=memory)
            _line(ax, here["error"], here["interval"], f"{memory}, {kind}", color, line, marker)
    ax.axhline(course.attrs["chance"], color="0.5", linestyle="--", linewidth=0.8, label="chance")
    ax.set(ylim=(-0.02, 1.02), ylabel="wrong predictions")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title("memory", loc="left")


def _cells(ax: Axes, course: xr.Dataset) -> None:
    share = course["place_cell_fraction"].mean("layer")
    for kind, line in KINDS.items():
        if share.sel(maps=kind).notnull().any():
            _line(ax, share.sel(maps=kind), None, f"{kind} map", GREEN, line)
    memory = course["memory_dependent_fraction"].mean("layer")
    if memory.notnull().any():
        _line(ax, memory, None, "depend on memory", PURPLE, "-", "s")
    ax.set(ylim=(0, None), ylabel="place cells among units")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_title("place cells", loc="left")


def _turnover(ax: Axes, course: xr.Dataset) -> None:
    for compared, label, color, line in (
        ("previous", "from the step before", BLUE, "-"),
        ("final", "until the end", VERMILION, "-"),
        ("retest", "on other walks (ceiling)", "0.5", "--"),
    ):
        kept = course["kept_excess"].sel(compared=compared)
        if kept.notnull().any():
            _line(ax, kept, None, label, color, line)
    ax.axhline(0, color="0.5", linestyle=":", linewidth=0.8)
    ax.set(ylim=(None, 1.05), ylabel="place cells kept beyond chance")
    ax.set_title("turnover (0: chance, 1: all kept)", loc="left")


def _resemblance(ax: Axes, course: xr.Dataset) -> None:
    for kind, line in KINDS.items():
        for i, layer in enumerate(course["layer"].values):
            here = course.sel(maps=kind, layer=layer)
            if here["cka"].notnull().any():
                label = f"CKA, {verbatim(layer)}, {kind}"
                color, marker = (BLUE, GREEN, PURPLE)[i % 3], "o^vD"[i // 3 % 4]
                _line(ax, here["cka"], here["cka_interval"], label, color, line, marker)
    excess, interval = course["map_excess"], course["map_excess_interval"]
    _line(ax, excess, interval, "maps of the same units", VERMILION, "-", "s")
    ax.set(ylim=(None, 1.05), ylabel="similarity or correlation")
    ax.set_title("resemblance with the final network", loc="left")


def _steps(ax: Axes, course: xr.Dataset) -> None:
    """Set the axis of steps, logarithmic except near 0, and shade the windows of α."""
    steps = course["step"].values
    positive = steps[steps > 0]
    least = float(positive.min()) if positive.size else 1.0
    ax.set_xscale("symlog", linthresh=least, linscale=0.4)
    ax.xaxis.set_major_formatter(plain())
    ax.set(xlabel="optimiser steps", xlim=(-0.1 * least, float(steps.max()) * 1.15))
    if "alpha" in course.coords:
        shade_windows(ax, steps.tolist(), course["alpha"].values.tolist())


def amnesia_curve(curve: xr.Dataset, *, memory: str = "reference", ax: Axes | None = None) -> Axes:
    """Draw the memory of old and new maps while a network learns further maps.

    Parameters
    ----------
    curve
        Result of :func:`placeformer.amnesia_curve`.
    memory
        Which error: ``"reference"`` or ``"working"``.
    ax
        Axes to draw in; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Errors against the steps of the further training, with their 95 % intervals: one colour per
        set of maps, one line style per condition, and the chance level.

    See Also
    --------
    placeformer.amnesia_curve : The data of the figure.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> curve = xr.load_dataset(results_folder() / "amnesia.nc").isel(model=0)
    >>> pf.plot.amnesia_curve(curve).get_xlabel()
    'optimiser steps of the further training'
    """
    need = ("maps", "condition", "memory", "error", "interval")
    check_result("curve", curve, "amnesia_curve", need)
    ax = axes(ax)
    for maps, color in zip(curve["maps"].values, itertools.cycle((*COLORS, *MORE)), strict=False):
        styles = zip(itertools.cycle(LINES), itertools.cycle("os^Dv"), strict=False)
        for condition, (line, marker) in zip(curve["condition"].values, styles, strict=False):
            here = curve.sel(maps=maps, condition=condition, memory=memory)
            label = verbatim(f"{maps}, {condition}")
            _line(ax, here["error"], here["interval"], label, color, line, marker)
    ax.axhline(curve.attrs["chance"], color="0.5", linestyle="--", linewidth=0.8, label="chance")
    ax.set(
        ylim=(-0.02, 1.02), xlabel="optimiser steps of the further training",
        ylabel=f"{memory}-memory error",
    )  # fmt: skip
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
