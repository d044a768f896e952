"""Figures of the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from placeformer import plot as plots
from placeformer.data import schema
from placeformer.models.memory import KINDS
from placeformer.plot._style import verbatim
from placeformer.reporting import unit_table
from placeformer.reporting.measurements import ALL_UNITS, NULLS, SubjectReport
from placeformer.reporting.unit_table import on_grid

INK = "#13579b"
"""Placeholder for the text colour, replaced by the colour of the page, light or dark."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "font.size": 9,
    "legend.fontsize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "placeformer",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
SCHEMES = "<style>svg{color:#1c2730}@media(prefers-color-scheme:dark){svg{color:#dfe6ea}}</style>"
MOST_MAPS = 3
"""Maximum number of maps of a unit that are drawn next to each other."""

LOGARITHMIC = ("score",)
"""Measures between 0 and 1 that are 0 for most units."""

SHUFFLES = {"walks": "walks exchanged", "circular": "shifted in time"}
"""Names of the shuffles of places, by their null."""

PANELS = ("reference", "working")
"""Memories in the figures of lesions and Mg²⁺, from top to bottom."""

CLIPPED = (0.005, 0.995)
"""Quantiles of every group that determine the axis limits."""


@dataclass(frozen=True)
class Picture:
    """An SVG image and its description.

    Attributes
    ----------
    svg
        Text of the image.
    alt
        Text alternative.
    """

    svg: str
    alt: str

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def walk(subject: SubjectReport) -> Picture:
    """Draw the beginning of a walk on the trained map."""
    assert subject.walk is not None
    figure = _figure(4.6, 5.0)
    with mpl.rc_context(STYLE):
        plots.walk(subject.walk, subject.walk["letter"], ax=figure.add_subplot())
    n = subject.walk.sizes["time"]
    alt = f"Path of {n} steps over the letters of a trained map, each prediction marked."
    return _picture(figure, alt)


def memory(subject: SubjectReport) -> Picture:
    """Draw the memory errors on trained and novel maps."""
    assert subject.memory is not None
    figure = _figure(4.6, 3.2)
    errors = {f"{kind} maps": subject.memory.sel(maps=kind) for kind in KINDS}
    with mpl.rc_context(STYLE):
        plots.memory(errors, ax=figure.add_subplot())
    alt = "Fraction of wrong working- and reference-memory predictions on trained and novel maps."
    return _picture(figure, alt)


def lesions(subject: SubjectReport) -> Picture:
    """Draw the errors of both memories against the fraction of units lesioned."""
    assert subject.interventions is not None
    figure = _figure(4.6, 5.4)
    with mpl.rc_context(STYLE):
        pair = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for ax, memory in zip(pair, PANELS, strict=True):
            plots.ablation(subject.interventions.lesions, memory=memory, ax=ax)
            ax.set(ylabel="wrong", title=f"{memory} memory, first trained map")
            if memory == PANELS[0]:
                ax.set_xlabel("")
            else:
                ax.get_legend().remove()
    alt = (
        "Wrong predictions of reference and working memory against the fraction of units lesioned, "
        "for place cells first and for control units."
    )
    return _picture(figure, alt)


def scored_lesions(subject: SubjectReport) -> Picture:
    """Draw the score of another network against the fraction of units lesioned."""
    assert subject.lesions is not None
    figure = _figure(4.6, 3.4)
    with mpl.rc_context(STYLE):
        measure = str(subject.lesions["measure"].values[0])
        plots.ablation(subject.lesions, measure=measure, ax=figure.add_subplot())
    alt = "Score against the fraction of units lesioned, for place cells first and control units."
    return _picture(figure, alt)


def training(subject: SubjectReport) -> Picture:
    """Draw memory, place cells and their turnover over the training."""
    assert subject.training is not None
    figure = _figure(4.6, 11.6)
    with mpl.rc_context(STYLE):
        plots.consolidation(subject.training, ax=figure.subplots(4, 1))
    alt = (
        "Memory errors, fraction of place cells, place cells kept, and resemblance to the final "
        "network, against training steps."
    )
    return _picture(figure, alt)


def washout(response: xr.Dataset) -> Picture:
    """Draw the errors of both memories against α at test time."""
    figure = _figure(4.6, 6.4)
    with mpl.rc_context(STYLE):
        for ax, memory in zip(figure.subplots(2, 1), PANELS, strict=True):
            plots.dose_response(response, memory=memory, ax=ax)
            ax.set(ylabel="wrong", xlabel=f"α at test time: {memory} memory, first trained map")
            ax.get_legend().remove()
    alt = "Wrong predictions of reference and working memory against α at test time."
    return _picture(figure, alt)


def comparison(together: xr.Dataset) -> Picture:
    """Draw the effects of Mg²⁺ and of lesions, and memory against place cells over networks."""
    figure = _figure(4.6, 14.4)
    with mpl.rc_context(STYLE):
        plots.comparison(together, ax=figure.subplots(6, 1))
    alt = (
        "Errors against α of training, against α at test time and against the fraction of units "
        "lesioned; fraction of place cells and spatial information against α of training; errors "
        "against the fraction of place cells."
    )
    return _picture(figure, alt)


def unit(subject: SubjectReport, number: int) -> Picture:
    """Draw one unit on the first maps, with one colour scale and its fields."""
    maps, shown = subject.rate_maps, subject.maps[:MOST_MAPS]
    rate = maps[schema.RATE].isel({schema.UNIT: number}).values
    one_axis = len(schema.place_dims(maps)) == 1
    figure = Figure(figsize=(0.98 + 1.12 * len(shown), 1.4), facecolor="none")
    right = 1 - 0.82 / figure.get_figwidth()  # no layout engine, which is slow for many figures
    with mpl.rc_context(STYLE | {"font.size": 7.5}):
        left = 0.24 if on_grid(subject.rate_maps) else 0.38
        place = {
            "left": left / figure.get_figwidth(),
            "right": right,
            "bottom": 0.12,
            "top": 0.9,
            "wspace": 0.12,
        }
        if one_axis:
            place |= {"left": 0.3 / figure.get_figwidth(), "right": 0.98, "bottom": 0.2}
        row = figure.subplots(1, len(shown), sharey=True, squeeze=False, gridspec_kw=place)[0]
        for i, (ax, name) in enumerate(zip(row, shown, strict=True)):
            draw_map(subject, number, i, ax, _limits(rate))
            ax.set(title=verbatim(name) if len(subject.maps) > 1 else "")
        if not one_axis:
            bar = figure.add_axes((right + 0.03, 0.14, 0.08 / figure.get_figwidth(), 0.74))
            figure.colorbar(
                _image(row[-1]), cax=bar, label=unit_table.rate_label(subject.rate_maps)
            )
    name = subject.unit_names[number]
    where = " and on ".join(_with_article(name) for name in shown)
    return _picture(figure, f"Rate maps of {name} on {where}.")


def tile(subject: SubjectReport, number: int) -> Picture:
    """Draw a large picture of one unit on the first map only."""
    rate = subject.rate_maps[schema.RATE].isel({schema.UNIT: number, schema.MAP: 0}).values
    one_axis = len(schema.place_dims(subject.rate_maps)) == 1
    figure = Figure(figsize=(1.9, 1.5), facecolor="none")
    with mpl.rc_context(STYLE | {"font.size": 8}):
        place = (0.2, 0.24, 0.7, 0.7) if one_axis else (0.02, 0.03, 0.66, 0.94)
        ax = figure.add_axes(place)
        draw_map(subject, number, 0, ax, _limits(rate))
        if one_axis:
            ax.set_xlabel(
                unit_table.axis(subject.rate_maps, schema.place_dims(subject.rate_maps)[0])
            )
        else:
            ax.set(xticks=[], yticks=[])
            bar = figure.add_axes((0.71, 0.07, 0.045, 0.86))
            figure.colorbar(_image(ax), cax=bar).ax.yaxis.set_major_locator(MaxNLocator(3))
    return _picture(figure, f"Rate map of {subject.unit_names[number]}.")


def draw_map(
    subject: SubjectReport, number: int, i: int, ax: Axes, limits: tuple[float, float]
) -> None:
    """Draw the rate map of a unit on one map, with its fields and without labels."""
    one = subject.rate_maps.isel({schema.MAP: i})
    plots.place_fields(one, one["field_label"], number, ax=ax, limits=limits, colorbar=False)
    ax.set(title="", xlabel="", ylabel="")
    ax.spines[:].set_visible(True)


def _with_article(name: str) -> str:
    """A map in a sentence: "a trained map", "the control"."""
    return f"{'a' if name.endswith(' map') else 'the'} {name}".replace("the map ", "map ")


def _limits(rate: NDArray[Any]) -> tuple[float, float]:
    """Minimum and maximum rate; 0 and 1 if there is no rate."""
    known = rate[np.isfinite(rate)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def _image(ax: Axes) -> Any:
    """The image or the mesh of a map."""
    return ax.images[0] if ax.images else ax.collections[0]


def distribution(subject: SubjectReport, key: str, limits: tuple[float, float]) -> Picture:
    """Draw a measure's distribution over the units of every layer, with its controls."""
    layers = subject.layers
    figure = _figure(4.6, 0.5 + 2.1 * len(layers))
    with mpl.rc_context(STYLE):
        column = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
        for ax, layer in zip(column, layers, strict=True):
            groups = controls(subject, subject.of_layer(layer), key)
            plots.distribution(groups, ax=ax, log=key in LOGARITHMIC)
            n = subject.of_layer(layer).sizes[schema.UNIT]
            title = f"{n} units" if layer == ALL_UNITS else f"{verbatim(layer)}, {n} units"
            ax.set(xlim=limits, title=title)
            if key in LOGARITHMIC:
                ax.set_ylim(0.3 / n, 1.3)
            if ax is not column[-1]:
                ax.set_xlabel("")
                ax.get_legend().remove()
    what = subject.units[key].attrs["long_name"]
    return _picture(figure, f"Distribution of the {what} over the units of each layer.")


def controls(subject: SubjectReport, units: xr.Dataset, key: str) -> dict[str, xr.DataArray]:
    """Values of a measure on every map, and in the shuffles of the first map."""
    of_maps = enumerate(subject.maps[:MOST_MAPS])
    groups = {name: units[key].isel({schema.MAP: i}) for i, name in of_maps}
    if subject.tests(key):
        groups[shuffles_of(subject, key)] = units[NULLS[key]].isel({schema.MAP: 0})
    return groups


def shuffles_of(subject: SubjectReport, key: str) -> str:
    """Kind of shuffle with which a measure is compared."""
    return "letters kept" if key == "coherence" else SHUFFLES[str(subject.units.attrs["null"])]


def limits_of(subjects: Sequence[SubjectReport], key: str) -> tuple[float, float]:
    """Axis limits of a measure over all networks, without 0.5 % of the values at each end."""
    if key in LOGARITHMIC:
        return (-0.02, 1.02)
    ends = [
        np.nanquantile(group, CLIPPED, method="nearest")
        for subject in subjects
        if subject.has(key)
        for group in controls(subject, subject.units, key).values()
        if np.isfinite(group).any()
    ]
    low, high = (float(f(ends)) for f in (np.min, np.max)) if ends else (0.0, 1.0)
    margin = 0.02 * (high - low) or 0.5
    return (low - margin, high + margin)


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure without a background; sizes are in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def _picture(figure: Figure, alt: str) -> Picture:
    """Write a figure as an SVG whose text has the colour of the page."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", facecolor="none", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    head, rest = text.split(">", 1)
    return Picture(head + ">" + SCHEMES + rest, alt)
