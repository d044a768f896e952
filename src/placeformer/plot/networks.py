"""Figures of many networks: Mg²⁺ and lesions, activations, and learning curves."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from placeformer.plot._style import (
    BLUE,
    GREEN,
    LINES,
    PURPLE,
    VERMILION,
    axes,
    check_result,
    looks,
    verbatim,
)
from placeformer.plot.lesions import LINSCALE, SELECTIONS, errors_label, plain, selection_label

Kind = float | str
"""α of NMDA_α, or the name of another activation."""

SHARE = "share of place cells"
"""Measure whose correlation is shown."""

ABOUT = ("activation_name", "trained_alpha", "seed")
"""Coordinates that every network needs."""

MEMORIES = {"reference": (VERMILION, "D", "-"), "working": (BLUE, "o", "--")}
"""Colour, marker and line of each memory."""


def comparison(data: xr.Dataset, *, ax: Any = None) -> np.ndarray:
    """Draw the effects of Mg²⁺ and lesions on memory, and their relation to place cells.

    Parameters
    ----------
    data
        Result of :func:`placeformer.memory_comparison`.
    ax
        Array of six axes, of any shape; by default a new figure with two rows.

    Returns
    -------
    numpy.ndarray
        The axes: errors (a) against α of training, (b) against test-time α, and (c) against the
        fraction of units lesioned in order, with controls; (d) fraction of place cells and (e) mean
        information under each policy for negative rates, against α of training; (f) reference error
        against the fraction of place cells, over all networks.

    See Also
    --------
    placeformer.memory_comparison : The data of the figure.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> names = ["nmda", "nmda-a10-washout", "nmda-a10-lesions"]
    >>> results = [xr.load_dataset(results_folder() / f"{name}.nc") for name in names]
    >>> axes = pf.plot.comparison(pf.memory_comparison(*results, n_resamples=100))
    >>> axes.shape
    (2, 3)
    """
    check_result(
        "data",
        data,
        "memory_comparison",
        ("trained_alpha", "error", "place_cell_fraction", "measure"),
    )
    if ax is None:
        ax = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")[1]
    panels = np.asarray(ax).ravel()
    if panels.size != 6:
        raise ValueError(f"ax must hold 6 axes, got {panels.size}")
    _trained(panels[0], data)
    _washout(panels[1], data)
    _lesions(panels[2], data)
    _place_cells(panels[3], data)
    _information(panels[4], data)
    _together(panels[5], data)
    for letter, panel in zip("abcdef", panels, strict=True):
        panel.set_title(f"({letter}) {panel.get_title(loc='left')}", loc="left", fontsize="medium")
    return np.asarray(ax)


def activations(
    networks: xr.Dataset,
    *,
    memory: str = "reference",
    maps: str = "trained",
    ax: Axes | None = None,
) -> Axes:
    """Draw errors of every network by activation: each α of NMDA_α and the other activations.

    Parameters
    ----------
    networks
        Result of :func:`placeformer.profile_networks` or :func:`placeformer.dose_response`.
    memory, maps
        Which error: ``"working"`` or ``"reference"``, on ``"trained"`` or ``"novel"`` maps.
    ax
        Axes to draw in; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One point per network with its 95 % interval over walks, seeds next to each other; α
        ascending, then the other activations; the chance level as a dotted line.

    See Also
    --------
    placeformer.profile_networks, placeformer.dose_response
    placeformer.plot.training : Draw errors during training.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> networks = xr.load_dataset(results_folder() / "mini.nc")
    >>> ax = pf.plot.activations(networks)
    >>> ax.get_xlabel()
    'α of NMDA_α, and other activations'
    """
    need = ("error", "interval", "maps", "memory", *ABOUT)
    check_result("networks", networks, "profile_networks", need)
    ax = axes(ax)
    picked = networks.sel(maps=maps, memory=memory)
    kinds = sorted(set(_kinds(networks)), key=_order)
    at = np.array([kinds.index(kind) for kind in _kinds(networks)], float)
    seeds = np.unique(networks["seed"].values)
    for i, seed in enumerate(seeds):
        here = networks["seed"].values == seed
        aside = (i - (len(seeds) - 1) / 2) * 0.2
        _points(ax, at[here] + aside, picked.isel(model=here), i, f"seed {seed}")
    dosed = sum(isinstance(kind, float) for kind in kinds)
    ax.axvline(dosed - 0.5, color="0.8", linewidth=1)
    ax.set_xticks(range(len(kinds)), map(_label, kinds), rotation=45, ha="right")
    ax.set(xlabel="α of NMDA_α, and other activations", xlim=(-0.6, len(kinds) - 0.4))
    _errors(ax, networks, errors_label(networks, maps, memory))
    ax.legend(frameon=False, fontsize="small")
    return ax


def training(
    networks: xr.Dataset,
    *,
    memory: str = "reference",
    maps: str = "trained",
    ax: Axes | None = None,
) -> Axes:
    """Draw errors over training, with one line per network.

    Parameters
    ----------
    networks
        Networks with `history` (model, step, maps, memory) and the coordinates of
        :func:`placeformer.dose_response`.
    memory, maps, ax
        As in :func:`activations`.

    Returns
    -------
    matplotlib.axes.Axes
        Lines coloured by α, from blue to yellow; other activations are grey, each with its own line
        style. Seeds of one network share colour and line style.

    See Also
    --------
    placeformer.train : Train a network.
    placeformer.plot.activations : Draw errors by activation after training.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> networks = xr.load_dataset(results_folder() / "mini.nc")
    >>> ax = pf.plot.training(networks)
    >>> ax.get_xlabel()
    'optimiser steps'
    """
    if isinstance(networks, xr.Dataset) and "history" not in networks.variables:
        raise ValueError(
            "networks must have the variable 'history' (model, step, maps, memory), got a Dataset "
            "without it; results of the zoo have it (placeformer.zoo.registry.results_folder)"
        )
    check_result("networks", networks, "profile_networks", ("step", "maps", "memory", *ABOUT))
    ax = axes(ax)
    course = networks["history"].sel(maps=maps, memory=memory).transpose("step", "model")
    kind_of_network = _kinds(networks)
    kinds = sorted(set(kind_of_network), key=_order)
    dosed = sum(isinstance(kind, float) for kind in kinds)
    shades = [*mpl.colormaps["viridis"](np.linspace(0, 0.92, dosed)), *["0.45"] * len(kinds)]
    for i, kind in enumerate(kinds):
        which = [n for n, other in enumerate(kind_of_network) if other == kind]
        line = "-" if i < dosed else LINES[(i - dosed) % len(LINES)]
        drawn = ax.plot(
            course["step"], course.values[:, which], line, color=shades[i], linewidth=1.1
        )
        drawn[0].set_label(f"α = {_label(kind)}" if i < dosed else _label(kind))
    ax.set_xlabel("optimiser steps")
    _errors(ax, networks, errors_label(networks, maps, memory))
    ax.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _kinds(networks: xr.Dataset) -> list[Kind]:
    """α of every network with NMDA_α, and the name of the activation of every other network."""
    names, alphas = networks["activation_name"].values, networks["trained_alpha"].values
    pairs = zip(names, alphas, strict=True)
    return [float(alpha) if np.isfinite(alpha) else str(name) for name, alpha in pairs]


def _label(kind: Kind) -> str:
    return kind.replace("_", " ") if isinstance(kind, str) else f"{kind:g}"


def _order(kind: Kind) -> tuple[bool, Kind]:
    """α ascending, then names."""
    return isinstance(kind, str), kind


def _points(ax: Axes, x: np.ndarray, errors: xr.Dataset, i: int, label: str) -> None:
    """Draw errors with their intervals."""
    y, ends = errors["error"].values, errors["interval"].transpose("bound", "model").values
    color, _, marker = looks(i)
    ax.errorbar(
        x, y, np.abs(ends - y), fmt=marker, color=color, markersize=4, capsize=2, linewidth=1,
        label=label,
    )  # fmt: skip


def _errors(ax: Axes, data: xr.Dataset, label: str, chance: str = "chance") -> None:
    """Set an axis of errors from 0 to 100 %, and draw the chance level."""
    ax.set(ylim=(-0.02, 1.02), ylabel=label)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    if np.isfinite(data.attrs.get(chance, np.nan)):
        ink = mpl.rcParams["text.color"]
        ax.axhline(data.attrs[chance], color=ink, linestyle=":", linewidth=1, label="chance")


def _alphas(ax: Axes, alphas: np.ndarray, label: str) -> None:
    """Set an axis of α: linear below the minimum positive value, logarithmic above."""
    positive = alphas[alphas > 0]
    least = float(positive.min()) if positive.size else 1.0
    ax.set_xscale("symlog", linthresh=least, linscale=LINSCALE)
    ax.xaxis.set_major_formatter(plain())
    ax.set(xlabel=label, xlim=(-0.2 * least, float(np.nanmax(alphas, initial=least)) * 1.5))


def _dosed(data: xr.Dataset) -> xr.Dataset:
    """Networks with NMDA_α, sorted by α."""
    at = np.flatnonzero(np.isfinite(data["trained_alpha"].values))
    return data.isel(model=at).sortby("trained_alpha")


def _means(ax: Axes, x: np.ndarray, y: np.ndarray, style: tuple[str, str, str], label: str) -> None:
    """Draw one point per network, and a line through the means of the doses."""
    color, marker, line = style
    ax.plot(x, y, marker, color=color, markersize=4, label=label)
    doses = np.unique(x)
    ax.plot(doses, [y[x == dose].mean() for dose in doses], line, color=color, linewidth=1)


def _trained(ax: Axes, data: xr.Dataset) -> None:
    selected = _dosed(data).sel(maps="trained")
    x = selected["trained_alpha"].values
    for memory, style in MEMORIES.items():
        _means(ax, x, selected["error"].sel(memory=memory).values, style, memory)
    _errors(ax, data, errors_label(data, "trained"))
    _alphas(ax, x, "α of training")
    ax.set_title(f"trained at α, {x.size} networks", loc="left")
    ax.legend(frameon=False, fontsize="small")


def _washout(ax: Axes, data: xr.Dataset) -> None:
    selected = data.sel(maps="trained")
    x = selected["dose"].values
    for memory, (color, marker, line) in MEMORIES.items():
        y = selected["washout_error"].sel(memory=memory).values
        low, high = selected["washout_interval"].sel(memory=memory).transpose("bound", ...).values
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        ax.plot(x, y, line, marker=marker, markersize=4, color=color, label=memory)
    ax.axvline(data.attrs["trained_alpha"], color="0.6", linewidth=1, label="α of training")
    label = errors_label(data, "trained", of="where_washout")
    _errors(ax, data, label, "chance_lesioned")
    _alphas(ax, x, "α at test time")
    ax.set_title(f"{verbatim(data.attrs['lesioned'])}, α changed (line: training)", loc="left")


def _lesions(ax: Axes, data: xr.Dataset) -> None:
    selected = data.sel(maps="trained")
    x = selected["fraction"].values
    for selection in selected["selection"].values:
        color, marker, line = SELECTIONS[str(selection)]
        here = selected.sel(selection=selection)
        for memory, face in (("reference", color), ("working", "none")):
            y = here["lesion_error"].sel(memory=memory).values
            low, high = here["lesion_interval"].sel(memory=memory).transpose("bound", ...).values
            ax.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
            label = selection_label(str(selection), data.attrs["order"])
            label = label if memory == "reference" else "_"
            ax.plot(
                x, y, line, marker=marker, markersize=4, color=color, markerfacecolor=face,
                linewidth=1, label=label,
            )  # fmt: skip
    label = errors_label(data, "trained", of="where_lesions")
    _errors(ax, data, label, "chance_lesioned")
    ax.set(xlim=(-0.02, 1.02), xlabel="share of units lesioned")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title("units lesioned (open: working memory)", loc="left")
    ax.legend(frameon=False, fontsize="small")


def _place_cells(ax: Axes, data: xr.Dataset) -> None:
    selected = _dosed(data)
    x = selected["trained_alpha"].values
    for maps, style in (("trained", (GREEN, "o", "-")), ("novel", (PURPLE, "s", "--"))):
        y = selected["place_cell_fraction"].sel(maps=maps).mean("layer").values
        _means(ax, x, y, style, f"{maps} map")
    _alphas(ax, x, "α of training")
    ax.set(ylabel="place cells among feed-forward units", ylim=(0, None))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_title("place cells", loc="left")
    ax.legend(frameon=False, fontsize="small")


def _information(ax: Axes, data: xr.Dataset) -> None:
    selected = _dosed(data).sel(maps="trained")
    x = selected["trained_alpha"].values
    for i, policy in enumerate(selected["negatives"].values):
        y = selected["information"].sel(negatives=policy).mean("layer").values
        color, line, marker = looks(i)
        _means(ax, x, y, (color, marker, line), f"negatives: {policy}")
    _alphas(ax, x, "α of training")
    ax.set(ylabel="mean information (bits/spike)", ylim=(0, None))
    ax.set_title("information, trained map", loc="left")
    ax.legend(frameon=False, fontsize="small")


def _correlated(correlation: xr.Dataset, n: int) -> str:
    """Text of ρ and its interval, where they are defined."""
    rho, (low, high) = float(correlation["correlation"]), correlation["correlation_interval"].values
    interval = f" ({low:.2f} to {high:.2f})" if np.isfinite([low, high]).all() else ""
    return f"ρ = {rho:.2f}{interval}, n = {n}" if np.isfinite(rho) else f"n = {n}"


def _together(ax: Axes, data: xr.Dataset) -> None:
    selected = data.sel(maps="trained")
    share = selected["place_cell_fraction"].mean("layer").values
    error, alpha = (
        selected["error"].sel(memory="reference").values,
        selected["trained_alpha"].values,
    )
    dosed = np.isfinite(alpha)
    ax.plot(share[dosed], error[dosed], "o", color=BLUE, markersize=4, label="NMDA_α")
    ax.plot(share[~dosed], error[~dosed], "s", color=VERMILION, markersize=4, label="others")
    if SHARE in data["measure"].values:
        correlation = data.sel(measure=SHARE, given="nothing")
        ax.set_title(_correlated(correlation, share.size), loc="left")
    ax.set(xlabel="place cells among feed-forward units")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _errors(ax, data, errors_label(data, "trained", "reference").replace(", ", ",\n", 1))
    ax.legend(frameon=False, fontsize="small")
