"""Figures of lesions and of Mg²⁺."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from placeformer.plot._style import (
    BLUE,
    COLORS,
    GREEN,
    LINES,
    MARKERS,
    PURPLE,
    VERMILION,
    axes,
)

SELECTIONS = {
    "ordered": (VERMILION, "o", "-"),
    "random": ("0.45", "s", ":"),
    "stratified": (GREEN, "^", "-."),
    "matched": (BLUE, "D", "--"),
}
"""Colour, marker and line of every selection."""

WHERE = {"chunk_end": "chunk ends", "every_step": "every step"}
"""Text for the predictions that were counted."""

LINSCALE = 0.5
"""Number of decades between 0 and the minimum positive dose on the axis of α."""


def ablation(
    curve: xr.Dataset,
    *,
    memory: str = "reference",
    maps: str = "trained",
    measure: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw errors against the share of units lesioned, together with those of the controls.

    Parameters
    ----------
    curve
        Result of :func:`placeformer.ablation_curve`.
    memory, maps
        Which error: ``"working"`` or ``"reference"``, on ``"trained"`` or ``"novel"`` maps.
    measure
        One of the `scores` to draw instead of an error.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Means over repeats as lines with markers, their 95 % intervals as bands, and the chance
        level as a dotted line. The label states which predictions were counted, at chunk ends or
        at every step.

    See Also
    --------
    placeformer.ablation_curve : Measure an ablation curve.
    placeformer.plot.dose_response : Draw memory errors against α.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> curve = xr.load_dataset(results_folder() / "nmda-a10-lesions.nc")
    >>> ax = pf.plot.ablation(curve)
    >>> ax.get_ylabel()
    'reference-memory errors, trained maps, chunk ends'
    """
    ax = axes(ax)
    where = {"maps": maps, "memory": memory} if measure is None else {"measure": measure}
    names = ("error", "interval") if measure is None else ("score", "score_interval")
    mean, bounds = (curve[name].sel(where) for name in names)
    for selection in curve["selection"].values:
        color, marker, line = SELECTIONS[str(selection)]
        y = mean.sel(selection=selection).mean("repeat", skipna=False)
        band = bounds.sel(selection=selection)
        x = curve["fraction"].values
        ax.fill_between(
            x, *band.transpose("bound", ...).values, color=color, alpha=0.15, linewidth=0
        )
        label = selection_label(str(selection), str(curve.attrs.get("order", "")))
        ax.plot(x, y, line, marker=marker, markersize=3.5, color=color, label=label)
    if measure is None:
        _share_axis(ax, errors_label(curve, maps, memory))
        _chance(ax, curve)
    else:
        ax.set_ylabel(measure)
    action = "kept" if curve.attrs.get("keep") else "lesioned"
    ax.set(xlim=(-0.02, 1.02), xlabel=f"share of units {action} ({curve.attrs.get('layers', '')})")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(frameon=False)
    return ax


def lesion_points(
    curve: xr.Dataset | Mapping[str, xr.Dataset],
    doses: xr.Dataset | None = None,
    *,
    fraction: float | None = None,
    memory: str = "reference",
    maps: str = "trained",
    measure: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw lesions of chosen units, their controls and doses of Mg²⁺ as points with intervals.

    Parameters
    ----------
    curve
        Result of :func:`placeformer.ablation_curve`, such as one of chosen units
        (``order=cells.is_place_cell``), or several by label.
    doses
        Result of :func:`placeformer.dose_response` for the same network at test-time α, drawn
        beside the lesions, the greatest α first.
    fraction
        Share of the units that is lesioned, one of those of the curves; by default the greatest.
    memory, maps
        Which error: ``"working"`` or ``"reference"``, on ``"trained"`` or ``"novel"`` maps.
    measure
        One of the `scores` of the curves, and one of the metrics of the doses, instead of an error.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One point per lesion and dose: the mean over sets of units with its 95 % interval, and every
        set as a small grey point. Metrics of doses have no interval.

    Raises
    ------
    ValueError
        A fraction that is not in a curve.

    See Also
    --------
    placeformer.ablation_curve, placeformer.dose_response
    placeformer.plot.ablation : Draw a curve over all fractions.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> curve = xr.load_dataset(results_folder() / "nmda-a10-lesions.nc")
    >>> doses = xr.load_dataset(results_folder() / "nmda-a10-washout.nc")
    >>> ax = pf.plot.lesion_points(curve, doses, fraction=0.1)
    >>> [label.get_text() for label in ax.get_xticklabels()][:3]
    ['no lesion', 'by place-cell score', 'random units']
    """
    ax = axes(ax)
    named = {"": curve} if isinstance(curve, xr.Dataset) else dict(curve)
    where = {"maps": maps, "memory": memory} if measure is None else {"measure": measure}
    prefix = "error" if measure is None else "score"
    labels: list[str] = []
    for name, one in named.items():
        share = float(one["fraction"].values[-1]) if fraction is None else fraction
        if not np.isclose(one["fraction"].values, share).any():
            known = ", ".join(f"{f:g}" for f in one["fraction"].values)
            raise ValueError(f"fraction must be one of {known}, got {share:g}")
        picked = one.sel(where)
        bounds = picked["interval" if measure is None else "score_interval"]
        here = {"fraction": int(np.abs(one["fraction"].values - share).argmin())}
        if not labels:
            intact = {"fraction": 0, "selection": 0}
            labels.append("no lesion")
            _set_points(ax, 0, picked[prefix].isel(intact), bounds.isel(intact), "black", "o")
        for selection in one["selection"].values:
            of = picked.sel(selection=selection).isel(here)
            color, marker, _ = SELECTIONS[str(selection)]
            ends = bounds.sel(selection=selection).isel(here)
            _set_points(ax, len(labels), of[prefix], ends, color, marker)
            text = selection_label(str(selection), str(one.attrs.get("order", "")))
            labels.append(f"{name}: {text}" if name else text)
    if doses is not None:
        ax.axvline(len(labels) - 0.5, color="0.8", linewidth=1)
        ordered = doses.isel(model=np.flatnonzero(doses["alpha"].notnull().values))
        ordered = ordered.sortby("alpha", ascending=False)
        at = np.arange(len(labels), len(labels) + ordered.sizes["model"])
        y, reach = _values_of(ordered, memory, maps, measure)
        ax.errorbar(at, y, reach, fmt="v", markersize=5, color=PURPLE, capsize=3)
        labels += [
            f"α = {alpha:g} ({mg:.3g} mM)"
            for alpha, mg in zip(ordered["alpha"].values, ordered["mg_mM"].values, strict=True)
        ]
    first = next(iter(named.values()))
    if measure is None:
        _share_axis(ax, errors_label(first, maps, memory))
        _chance(ax, first)
    else:
        ax.set_ylabel(measure)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False)
    ax.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, len(labels) - 0.4)
    return ax


def _set_points(
    ax: Axes, at: float, value: xr.DataArray, bounds: xr.DataArray, color: str, marker: str
) -> None:
    """The mean over sets of units with its interval, and a small point for every set."""
    sets = value.values.ravel()
    mean = float(sets.mean())
    if np.unique(sets).size > 1:
        ax.plot(np.full(sets.size, at + 0.22), sets, ".", color="0.6", markersize=3, zorder=1)
    reach = np.nan_to_num(np.abs(bounds.values - mean))[:, None]
    style: dict[str, Any] = {"fmt": marker, "color": color, "capsize": 3, "markersize": 6}
    ax.errorbar([at], [mean], reach, **style)


def _values_of(response: xr.Dataset, memory: str, maps: str, metric: str | None) -> tuple[Any, Any]:
    """Errors of a dose response with the reach of their intervals, or a metric without."""
    if metric is not None:
        return response["value"].sel(metric=metric).values, None
    picked = response.sel(maps=maps, memory=memory)
    y, ends = picked["error"].values, picked["interval"].transpose("bound", ...).values
    return y, np.nan_to_num(np.abs(ends - y))


def dose_response(
    response: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    memory: str = "reference",
    maps: str = "trained",
    metric: str | None = None,
    fit: xr.Dataset | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw errors, or a metric, against α, with [Mg²⁺] on the upper axis.

    Parameters
    ----------
    response
        Result of :func:`placeformer.dose_response`, or several by label, such as trained and
        test-time α.
    memory, maps
        Which error: ``"working"`` or ``"reference"``, on ``"trained"`` or ``"novel"`` maps.
    metric
        A metric of the responses to draw instead of an error.
    fit
        Result of :func:`placeformer.fit_hill`; its K is drawn where it is identifiable.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Every network and dose with its 95 % interval over walks, and a line through the means over
        the networks of each dose. The axis of α is linear below the minimum positive dose and
        logarithmic above it. If α of one network was changed at test time, an arrow on the axis
        marks its α of training. Networks without α are left out.

    See Also
    --------
    placeformer.dose_response : Measure a dose response.
    placeformer.fit_hill : Fit a Hill curve.
    placeformer.plot.ablation : Draw errors against the share of units lesioned.

    Examples
    --------
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> from placeformer.zoo.registry import results_folder  # results that come with the package
    >>> response = xr.load_dataset(results_folder() / "nmda-a10-washout.nc")
    >>> ax = pf.plot.dose_response(response)
    >>> ax.get_xlabel()
    'α'
    """
    ax = axes(ax)
    named = {"": response} if isinstance(response, xr.Dataset) else dict(response)
    doses = np.concatenate([item["alpha"].values for item in named.values()])
    positive = doses[doses > 0]
    least = positive.min() if positive.size else 1.0
    ax.set_xscale("symlog", linthresh=least, linscale=LINSCALE)
    for i, (label, item) in enumerate(named.items()):
        _responses(ax, item, label, i, memory, maps, metric)
    if fit is not None:
        _hill(ax, fit)
    first = next(iter(named.values()))
    if metric is None:
        _share_axis(ax, errors_label(first, maps, memory))
        _chance(ax, first)
    else:
        ax.set_ylabel(metric)
    _alpha_axis(ax, float(least), float(np.nanmax(doses)), first)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False)
    return ax


def _responses(
    ax: Axes, response: xr.Dataset, label: str, i: int, memory: str, maps: str, metric: str | None
) -> None:
    """Points with intervals, and a line through the means of the doses."""
    color, style = COLORS[i % len(COLORS)], LINES[i % len(LINES)]
    with_alpha = np.flatnonzero(response["alpha"].notnull().values)
    response = response.isel(model=with_alpha).sortby("alpha")
    x = response["alpha"].values
    y, reach = _values_of(response, memory, maps, metric)
    marker = MARKERS[i % len(MARKERS)]
    ax.errorbar(x, y, reach, fmt=marker, markersize=4, color=color, capsize=2, label=label or None)
    doses = np.unique(x)
    ax.plot(doses, [y[x == dose].mean() for dose in doses], style, color=color, linewidth=1)
    trained = np.unique(response["trained_alpha"].values)
    if trained.size == 1 and doses.size > 1:
        place: dict[str, Any] = {"xy": (trained[0], 0), "xycoords": ("data", "axes fraction")}
        ax.annotate(
            "", xytext=(0, 22), textcoords="offset points",
            arrowprops={"arrowstyle": "-|>", "color": color}, **place,
        )  # fmt: skip
        ax.annotate(
            "trained", xytext=(0, 24), textcoords="offset points", ha="center", fontsize="small",
            color=color, **place,
        )  # fmt: skip


def _hill(ax: Axes, fit: xr.Dataset) -> None:
    """Draw the fitted curve, and K where it is identifiable."""
    dose = str(fit["fitted"].dims[0])
    ax.plot(fit[dose], fit["fitted"], "-", color=GREEN, linewidth=1.5, label="Hill fit")
    if bool(fit["identifiable"]):
        k = float(fit["value"].sel(parameter="K"))
        ax.axvline(k, color=GREEN, linestyle=":", linewidth=1, label=f"K = {k:.2g}")


def _share_axis(ax: Axes, label: str) -> None:
    """Set the y axis to 0 to 100 %."""
    ax.set(ylim=(-0.02, 1.02), ylabel=label)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _chance(ax: Axes, result: xr.Dataset) -> None:
    """Draw the chance level."""
    if "chance" in result.attrs:
        ink = mpl.rcParams["text.color"]
        ax.axhline(result.attrs["chance"], color=ink, linestyle=":", linewidth=1, label="chance")


def errors_label(
    result: xr.Dataset, maps: str, memory: str | None = None, *, of: str = "where"
) -> str:
    """Label of errors: memory, maps and, if known, the predictions that were counted."""
    which = "errors" if memory is None else f"{memory}-memory errors"
    counted = WHERE.get(str(result.attrs.get(of)))
    return ", ".join([which, f"{maps} maps"] + ([counted] if counted else []))


def selection_label(selection: str, order: str) -> str:
    """Text for a selection of units."""
    given = {"chosen": "chosen units", "given": "by given score", "random": "in random order"}
    by = f"by {order.replace('_', ' ').replace('place cell score', 'place-cell score')}"
    words = {
        "matched": "matched units",
        "random": "random units",
        "stratified": "units of the same strata",
    }
    return words.get(selection) or given.get(order) or by


def plain() -> FuncFormatter:
    """Numbers without powers of ten."""
    return FuncFormatter(lambda value, _: f"{value:g}")


def _alpha_axis(ax: Axes, least: float, greatest: float, first: xr.Dataset) -> None:
    """Label α on the lower axis, and the equivalent concentration on the upper axis."""
    ax.xaxis.set_major_formatter(plain())
    ax.set(xlabel="α", xlim=(-least / 10 if greatest else -1, greatest * 1.3 or 1))
    known = first["alpha"].values > 0
    if known.any():
        factor = float((first["mg_mM"].values[known] / first["alpha"].values[known])[0])
        scale: Any = (lambda alpha: alpha * factor, lambda mg: mg / factor)
        above = ax.secondary_xaxis("top", functions=scale)
        above.set_xscale("symlog", linthresh=least * factor, linscale=LINSCALE)
        tens = 10.0 ** np.arange(np.ceil(np.log10(least * factor)), 6)
        above.set_xticks([0, *tens[tens <= greatest * factor * 1.3]])
        above.xaxis.set_major_formatter(plain())
        above.set_xlabel("[Mg²⁺] (mM)")
