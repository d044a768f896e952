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
from matplotlib.figure import Figure

from placeformer import plot as plots
from placeformer.data import schema
from placeformer.report.measurements import KINDS, NULLS, NetworkReport

INK = "#13579b"
"""Placeholder for the colour of text, replaced by that of the page, light or dark."""

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
LOGARITHMIC = ("score",)
"""Measures between 0 and 1 that are 0 for most units."""

SHUFFLES = {
    "eta2": "shifted in time",
    "eta2_beyond": "shifted in time",
    "coherence": "letters kept",
}
"""Kind of shuffle of each measure."""

PANELS = ("reference", "working")
"""Memories in the figures of lesions and Mg²⁺, from top to bottom."""

CLIPPED = (0.005, 0.995)
"""Quantiles of every group that lie within the axis limits."""


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


def walk(network: NetworkReport) -> Picture:
    """Draw the beginning of a walk on the trained map."""
    figure = _figure(4.6, 5.0)
    with mpl.rc_context(STYLE):
        plots.walk(network.walk, network.walk["letter"], ax=figure.add_subplot())
    n = network.walk.sizes["time"]
    alt = f"Path of {n} steps over the letters of a trained map, each prediction marked."
    return _picture(figure, alt)


def memory(network: NetworkReport) -> Picture:
    """Draw the memory errors on trained and novel maps."""
    figure = _figure(4.6, 3.2)
    errors = {f"{kind} maps": network.memory.sel(maps=kind) for kind in KINDS}
    with mpl.rc_context(STYLE):
        plots.memory(errors, ax=figure.add_subplot())
    alt = "Share of wrong predictions of working and reference memory on trained and novel maps."
    return _picture(figure, alt)


def lesions(network: NetworkReport) -> Picture:
    """Draw the errors of both memories against the share of units lesioned."""
    figure = _figure(4.6, 5.4)
    with mpl.rc_context(STYLE):
        pair = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for ax, memory in zip(pair, PANELS, strict=True):
            plots.ablation(network.interventions.lesions, memory=memory, ax=ax)
            ax.set(ylabel="wrong", title=f"{memory} memory, first trained map")
            if memory == PANELS[0]:
                ax.set_xlabel("")
            else:
                ax.get_legend().remove()
    alt = (
        "Wrong predictions of reference and of working memory against the share of units lesioned, "
        "for place cells first and for control units."
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
    alt = "Wrong predictions of reference and of working memory against α at test time."
    return _picture(figure, alt)


def comparison(together: xr.Dataset) -> Picture:
    """Draw the effects of Mg²⁺ and of lesions, and place cells against memory over networks."""
    figure = _figure(4.6, 14.4)
    with mpl.rc_context(STYLE):
        plots.comparison(together, ax=figure.subplots(6, 1))
    alt = (
        "Errors against α of training, against α at test time and against the share of units "
        "lesioned; share of place cells and spatial information against α of training; errors "
        "against the share of place cells."
    )
    return _picture(figure, alt)


def unit(network: NetworkReport, number: int) -> Picture:
    """Draw one unit on the trained and on the novel map, with one colour scale and its fields."""
    maps = network.rate_maps
    rate = maps[schema.RATE].isel({schema.UNIT: number}).values
    figure = Figure(figsize=(3.1, 1.4), facecolor="none")  # no layout engine: slow for many
    with mpl.rc_context(STYLE | {"font.size": 7.5}):
        place = {"left": 0.06, "right": 0.73, "bottom": 0.12, "top": 0.9, "wspace": 0.12}
        pair = figure.subplots(1, len(KINDS), sharey=True, gridspec_kw=place)
        for i, (ax, kind) in enumerate(zip(pair, KINDS, strict=True)):
            map_data = maps.isel({schema.MAP: i})
            limits = (float(np.nanmin(rate)), float(np.nanmax(rate)))
            plots.place_fields(
                map_data, map_data["field_label"], number, ax=ax, limits=limits, colorbar=False
            )
            ax.set(title=f"{kind} map", xlabel="", ylabel="")
            ax.spines[:].set_visible(True)
        bar = figure.add_axes((0.76, 0.14, 0.025, 0.74))
        figure.colorbar(pair[1].images[0], cax=bar, label="mean activation (a.u.)")
    name = schema.unit_names(maps, np.array([number])).replace("/", " unit ")
    return _picture(figure, f"Rate maps of {name} on a trained and on a novel map.")


def distribution(network: NetworkReport, key: str, limits: tuple[float, float]) -> Picture:
    """Draw a measure's distribution over the units of every layer, with its controls."""
    layers = network.layers
    figure = _figure(4.6, 0.5 + 2.1 * len(layers))
    with mpl.rc_context(STYLE):
        column = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
        for ax, layer in zip(column, layers, strict=True):
            groups = controls(network.of_layer(layer), key)
            plots.distribution(groups, ax=ax, log=key in LOGARITHMIC)
            n = network.of_layer(layer).sizes[schema.UNIT]
            ax.set(xlim=limits, title=f"{layer}, {n} units")
            if key in LOGARITHMIC:
                ax.set_ylim(0.3 / n, 1.3)
            if ax is not column[-1]:
                ax.set_xlabel("")
                ax.get_legend().remove()
    what = network.units[key].attrs["long_name"]
    return _picture(figure, f"Distribution of the {what} over the units of each layer.")


def controls(units: xr.Dataset, key: str) -> dict[str, xr.DataArray]:
    """Values of a measure on the trained map, and values to compare them with."""
    groups = {f"{kind} map": units[key].isel({schema.MAP: i}) for i, kind in enumerate(KINDS)}
    if key in NULLS:
        groups[SHUFFLES[key]] = units[NULLS[key]].isel({schema.MAP: 0})
    return groups


def limits_of(networks: Sequence[NetworkReport], key: str) -> tuple[float, float]:
    """Axis limits of a measure over all networks, without 0.5 % of the values at either end."""
    if key in LOGARITHMIC:
        return (-0.02, 1.02)
    ends = [
        np.nanquantile(group, CLIPPED, method="nearest")
        for network in networks
        for group in controls(network.units, key).values()
        if np.isfinite(group).any()
    ]
    low, high = (float(f(ends)) for f in (np.min, np.max)) if ends else (0.0, 1.0)
    margin = 0.02 * (high - low) or 0.5
    return (low - margin, high + margin)


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure without a background, sizes in inches."""
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
