"""Colours, markers and lines of every figure, and the ``ax`` that a figure is drawn into.

The colours are those of Okabe and Ito, which people with any colour vision can distinguish; groups
differ in their marker or line style as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLORS = (BLUE, VERMILION, GREEN, PURPLE)
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "D", "s", "^")


def axes(ax: Axes | None, projection: str | None = None) -> Axes:
    """Return ``ax``, or the axes of a new pyplot figure, which notebooks show."""
    if ax is not None:
        return ax
    return plt.subplots(layout="constrained", subplot_kw={"projection": projection})[1]


def shade_windows(ax: Axes, steps: Sequence[float], alphas: Sequence[float]) -> None:
    """Shade the stretches of a training in which α was another than at first, and name their α.

    Parameters
    ----------
    ax
        Where to draw, with optimiser steps as its x axis.
    steps, alphas
        Steps of the training, ascending, and α of the steps that end there. A stretch begins at
        the last of these steps that still has the α before.
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
