"""Colours, markers and lines of every figure, and the ``ax`` that a figure is drawn into.

The colours are those of Okabe and Ito, which people with any colour vision can distinguish; groups
differ in their marker or line style as well.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
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
