"""Colours, markers and line styles of all figures, and the ``ax`` in which a figure is drawn.

The colours are those of Okabe and Ito, which people with any colour vision can distinguish; groups
also differ in their marker or line style.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from placeformer._options import check_option

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLORS = (BLUE, VERMILION, GREEN, PURPLE)
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "D", "s", "^")


def looks(i: int) -> tuple[str, str, str]:
    """Colour, line and marker of group number `i`, different for the first 16 groups."""
    turn = i + i // len(COLORS)
    return COLORS[i % len(COLORS)], LINES[turn % len(LINES)], MARKERS[turn % len(MARKERS)]


def axes(ax: Axes | None, projection: str | None = None) -> Axes:
    """Return ``ax``, or the axes of a new pyplot figure, which notebooks show."""
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes, such as plt.gca(), got {type(ax).__name__}")
    if ax is not None:
        return ax
    return plt.subplots(layout="constrained", subplot_kw={"projection": projection})[1]


def verbatim(name: object) -> str:
    """A name as text of a figure, with escaped dollar signs, which would enclose a formula."""
    return str(name).replace("$", r"\$")


def check_result(name: str, data: object, made_by: str, need: Iterable[str]) -> None:
    """Raise for anything that is not a result of the named function of the library."""
    if not isinstance(data, xr.Dataset):
        raise TypeError(
            f"{name} must be an xarray.Dataset, got {type(data).__name__}; compute it with "
            f"placeformer.{made_by}"
        )
    if missing := [repr(part) for part in need if part not in {*data.variables, *data.dims}]:
        raise ValueError(
            f"{name} must be a result of placeformer.{made_by}, got a Dataset without "
            f"{', '.join(missing)}"
        )


def check_choice(result: xr.Dataset, **chosen: object) -> None:
    """Raise for a choice, such as a memory, that a result lacks; before a figure is opened."""
    for name, value in chosen.items():
        if value is not None and name in result.coords:
            check_option(name, value, result[name].values.tolist())


def named_results(
    name: str, data: object, made_by: str, need: Iterable[str]
) -> dict[str, xr.Dataset]:
    """Results by label, as text of a figure; the label of a single result is "".

    See :func:`check_result`.
    """
    several = isinstance(data, Mapping) and not isinstance(data, xr.Dataset)
    named: dict[str, Any] = dict(data) if several else {"": data}  # type: ignore[call-overload]
    if not named:
        raise ValueError(f"{name} must hold at least one result of placeformer.{made_by}, got none")
    for label, one in named.items():
        check_result(f"{name}[{label!r}]" if several else name, one, made_by, need)
    return {verbatim(label): one for label, one in named.items()}


def shade_windows(ax: Axes, steps: Sequence[float], alphas: Sequence[float]) -> None:
    """Shade the parts of a training in which α differed from its first value, and label their α.

    Parameters
    ----------
    ax
        Axes to draw in, with optimiser steps on the x axis.
    steps, alphas
        Steps of the training, ascending, and the α in force up to each step. A shaded part begins
        at the last step that still has the previous α.
    """
    first = alphas[0]
    if len(set(alphas)) == 1 or not np.isfinite(alphas).all():
        return
    at, begin = 0, float(steps[0])
    for alpha, group in groupby(alphas):
        at += len(list(group))
        end = float(steps[at - 1])
        if alpha != first:
            ax.axvspan(begin, end, color="0.88", linewidth=0, zorder=0)
            ax.annotate(
                f"α = {alpha:g}", ((begin + end) / 2, 1), xycoords=("data", "axes fraction"),
                ha="center", va="bottom", fontsize="small",
            )  # fmt: skip
        begin = end
