"""Figures of lesions and of Mg²⁺."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from placeformer._options import check_option
from placeformer.plot._style import (
    BLUE,
    COLORS,
    GREEN,
    LINES,
    MARKERS,
    PURPLE,
    VERMILION,
    axes,
    check_choice,
    check_result,
    looks,
    named_results,
    verbatim,
)

SELECTIONS = {
    "ordered": (VERMILION, "o", "-"),
    "random": ("0.45", "s", ":"),
    "stratified": (GREEN, "^", "-."),
    "matched": (BLUE, "D", "--"),
}
"""Colour, marker and line of every selection."""

NEED = {
    True: ("fraction", "selection", "error", "interval"),
    False: ("fraction", "selection", "score", "score_interval", "measure"),
}
"""Variables that are drawn of a curve: memory errors (True) or a score (False)."""

WHERE = {"chunk_end": "chunk ends", "every_step": "every step"}
"""Text for the counted predictions."""

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
    """Draw errors against the fraction of units lesioned, together with those of the controls.

    Parameters
    ----------
    curve
        Result of :func:`placeformer.ablation_curve`.
    memory, maps
        Which error: ``"working"`` or ``"reference"``, on ``"trained"`` or ``"novel"`` maps.
    measure
        One of the `scores` to draw instead of an error.
    ax
        Axes to draw in; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Means over repeats as lines with markers, their 95 % intervals as bands, and the chance
        level as a dotted line. The label states whether predictions were counted at chunk ends or
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
    check_result("curve", curve, "ablation_curve", NEED[measure is None])
    check_choice(curve, memory=memory, maps=maps, measure=measure)
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
        ax.set_ylabel(verbatim(measure))
    action = "kept" if curve.attrs.get("keep") else "lesioned"
    layers = verbatim(curve.attrs.get("layers", ""))
    ax.set(xlim=(-0.02, 1.02), xlabel=f"share of units {action} ({layers})")
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
        Result of :func:`placeformer.ablation_curve`, for example for chosen units
        (``order=cells.is_place_cell``), or a mapping from labels to several results.
    doses
        Result of :func:`placeformer.dose_response` for the same network at test-time α, drawn next
        to the lesions, with the largest α first.
    fraction
        Fraction of the units lesioned, one of the fractions of the curves; by default the largest.
    memory, maps
        Which error: ``"working"`` or ``"reference"``, on ``"trained"`` or ``"novel"`` maps.
    measure
        One of the `scores` of the curves, and one of the metrics of the doses, instead of an error.
    ax
        Axes to draw in; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One point per lesion and dose: the mean over sets of units with its 95 % interval, and every
        set as a small grey point. Metrics have an interval if they were scored per trial.

    Raises
    ------
    ValueError
        A curve does not have the fraction.

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
    named = named_results("curve", curve, "ablation_curve", NEED[measure is None])
    for one in named.values():
        check_choice(one, memory=memory, maps=maps, measure=measure)
    ax = axes(ax)
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
        ax.set_ylabel(verbatim(measure))
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False)
    ax.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, len(labels) - 0.4)
    return ax


def _set_points(
    ax: Axes, at: float, value: xr.DataArray, bounds: xr.DataArray, color: str, marker: str
) -> None:
    """Draw the mean over sets of units with its interval, and a small point for every set."""
    sets = value.values.ravel()
    mean = float(sets.mean())
    if np.unique(sets).size > 1:
        ax.plot(np.full(sets.size, at + 0.22), sets, ".", color="0.6", markersize=3, zorder=1)
    reach = np.nan_to_num(np.abs(bounds.values - mean))[:, None]
    style: dict[str, Any] = {"fmt": marker, "color": color, "capsize": 3, "markersize": 6}
    ax.errorbar([at], [mean], reach, **style)


def _values_of(response: xr.Dataset, memory: str, maps: str, metric: str | None) -> tuple[Any, Any]:
    """Errors, or values of a metric, with the lengths of their error bars (None without)."""
    if metric is None:
        picked = response.sel(maps=maps, memory=memory)
        y, ends = picked["error"], picked["interval"]
    else:
        y = response["value"].sel(metric=metric)
        if "interval" not in response or "metric" not in response["interval"].dims:
            return y.values, None
        ends = response["interval"].sel(metric=metric)
    return y.values, np.nan_to_num(np.abs(ends.transpose("bound", ...).values - y.values))


def dose_response(
    response: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    memory: str = "reference",
    maps: str = "trained",
    metric: str | None = None,
    fit: xr.Dataset | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw errors, or a metric, against α, with [Mg²⁺] on the upper axis, or against any dose.

    Parameters
    ----------
    response
        Result of :func:`placeformer.dose_response`, or a mapping from labels to several results,
        such as trained and test-time α.
    memory, maps
        Which error: ``"working"`` or ``"reference"``, on ``"trained"`` or ``"novel"`` maps.
    metric
        A metric of the responses to draw instead of an error.
    fit
        Result of :func:`placeformer.fit_hill`; its K is drawn if it is identifiable.
    ax
        Axes to draw in; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Every network and dose with its 95 % interval over walks, and a line through the means over
        the networks of each dose. The axis of α is linear below the minimum positive dose and
        logarithmic above it. If α of one network was changed at test time, an arrow on the axis
        marks its α of training. Networks without α are left out. The axis of another parameter is
        linear, and infinite doses are left out.

    Raises
    ------
    ValueError
        The responses are to different parameters.

    See Also
    --------
    placeformer.dose_response : Measure a dose response.
    placeformer.fit_hill : Fit a Hill curve.
    placeformer.plot.ablation : Draw errors against the fraction of units lesioned.

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
    need = ("error" if metric is None else "value", "interval")
    named = named_results("response", response, "dose_response", need)
    for item in named.values():
        check_choice(item, memory=memory, maps=maps, metric=metric)
    first = next(iter(named.values()))
    kinds = {str(item.attrs.get("parameter", "nmda")) for item in named.values()}
    if len(kinds) > 1:
        raise ValueError(
            f"response must be of one parameter, whose dose is the axis, got {', '.join(kinds)}"
        )
    of_alpha = kinds == {"nmda"}
    key = "alpha" if of_alpha else "dose"
    doses = np.concatenate([item[key].values for item in named.values()])
    if not np.isfinite(doses).any():
        raise ValueError(
            f"response must have at least one network with a finite {key}, got none; draw networks "
            "without α with placeformer.plot.activations"
        )
    ax = axes(ax)
    positive = doses[doses > 0]
    least = positive.min() if positive.size else 1.0
    if of_alpha:
        ax.set_xscale("symlog", linthresh=least, linscale=LINSCALE)
    for i, (label, item) in enumerate(named.items()):
        _responses(ax, item, key, label, i, memory, maps, metric)
    if fit is not None:
        _hill(ax, fit)
    if metric is None:
        _share_axis(ax, errors_label(first, maps, memory))
        _chance(ax, first)
    else:
        ax.set_ylabel(verbatim(metric))
    if of_alpha:
        _alpha_axis(ax, float(least), float(np.nanmax(doses)), first)
    else:
        ax.set_xlabel(str(first["dose"].attrs["long_name"]))
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False)
    return ax


def specificity(
    result: xr.Dataset,
    *,
    measure: str = "working",
    level: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the cost of every perturbation besides that of the matched measure.

    Parameters
    ----------
    result
        Result of :func:`placeformer.specificity`.
    measure
        The other measure: "working", "working_novel", "decoding" or the name of a score.
    level
        Level at which the costs are compared; by default the middle one.
    ax
        Axes to draw in; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The cost of `measure` against the cost of the matched measure: one line per perturbation
        through its doses (mean over networks), with a thick line for the tested perturbation. The
        level is a dotted line; there, the costs of individual networks are points, and their mean
        has a Student's t interval over seeds. On the dashed diagonal both costs are equal; a
        perturbation that affects only the matched measure follows the lower axis.

    Raises
    ------
    ValueError
        The result does not have the measure or the level.

    See Also
    --------
    placeformer.specificity : Measure the costs.
    placeformer.plot.dose_response : Draw errors against one dose.

    Examples
    --------
    >>> import torch
    >>> import placeformer as pf
    >>> networks = [torch.nn.Linear(2, 2) for _ in range(3)]
    >>> x = torch.randn(50, 2)
    >>> scores = {
    ...     "large": lambda net: -net(x)[:, 0].detach().abs(),
    ...     "small": lambda net: -net(x)[:, 1].detach().abs(),
    ... }
    >>> perturbations = {
    ...     name: {"parameter": "gain", "units": {"Linear": units}, "doses": [0.5, 0]}
    ...     for name, units in {"one unit": [0], "both": [0, 1]}.items()
    ... }
    >>> result = pf.specificity(
    ...     networks, perturbations, scores=scores, match="large", levels=[0.1], n_resamples=20,
    ...     progress=False,
    ... )
    >>> ax = pf.plot.specificity(result, measure="small")
    >>> ax.get_xlabel()
    'cost: large'
    """
    check_result("result", result, "specificity", ("measure", "level", "perturbation", "curve"))
    match = str(result.attrs["match"])
    check_option("measure", measure, [m for m in result["measure"].values if m != match])
    levels = result["level"].values
    level = float(levels[levels.size // 2] if level is None else level)
    check_option("level", level, levels.tolist())
    ax = axes(ax)
    ink = mpl.rcParams["text.color"]
    names = result["perturbation"].values
    at = result.sel(level=level, measure=measure)
    lines = result["curve"].mean("model", skipna=False)
    for i, name in enumerate(names):
        label = verbatim(name)
        color, marker = (*COLORS, "0.45")[i % 5], (*MARKERS, "v")[i % 5]
        x, y = (lines.sel(perturbation=name, measure=m).values for m in (match, measure))
        first = i == 0
        ax.plot(x, y, LINES[i % len(LINES)], color=color, linewidth=2.2 if first else 1.2,
                marker=marker, markersize=3, label=label, zorder=3 if first else 2)  # fmt: skip
        here = level * (1 + 0.02 * (i - (len(names) - 1) / 2))  # side by side
        single, mean = (at[key].sel(perturbation=name).values for key in ("cost", "mean_cost"))
        ax.plot(np.full(single.size, here), single, ".", color=color, markersize=4, alpha=0.6)
        ends = at["mean_interval"].sel(perturbation=name).values
        reach = np.nan_to_num(np.abs(ends - mean))[:, None]
        ax.errorbar(here, mean, reach, fmt=marker, color=color, markersize=6, capsize=2, zorder=4)
    ax.axvline(level, color=ink, linestyle=":", linewidth=0.8)
    top = float(np.nanmax(lines.sel(measure=match)))
    ax.axline((0, 0), slope=1, color=ink, linestyle="--", linewidth=0.8)
    texts = dict(zip(result["measure"].values, result["about"].values, strict=True))
    labels = {m: verbatim(m) if texts[m] == "score" else texts[m] for m in (match, measure)}
    ax.set(xlabel=f"cost: {labels[match]}", ylabel=f"cost: {labels[measure]}")
    ax.set(xlim=(-0.02 * top, 1.03 * top))
    ax.legend(frameon=False, fontsize="small")
    return ax


def _responses(
    ax: Axes,
    response: xr.Dataset,
    key: str,
    label: str,
    i: int,
    memory: str,
    maps: str,
    metric: str | None,
) -> None:
    """Draw points with intervals, and a line through the means, against the coordinate `key`."""
    color, style, marker = looks(i)
    with_dose = np.flatnonzero(np.isfinite(response[key].values))
    response = response.isel(model=with_dose).sortby(key)
    x = response[key].values
    y, reach = _values_of(response, memory, maps, metric)
    ax.errorbar(x, y, reach, fmt=marker, markersize=4, color=color, capsize=2, label=label or None)
    doses = np.unique(x)
    ax.plot(doses, [y[x == dose].mean() for dose in doses], style, color=color, linewidth=1)
    trained = np.unique(response["trained_alpha"].values)
    if key == "alpha" and trained.size == 1 and doses.size > 1:
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
    """Draw the fitted curve, and K if it is identifiable."""
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
    """Label of errors: memory, maps and, if known, the counted predictions."""
    which = "errors" if memory is None else f"{memory}-memory errors"
    counted = WHERE.get(str(result.attrs.get(of)))
    return ", ".join([which, f"{maps} maps"] + ([counted] if counted else []))


def selection_label(selection: str, order: str) -> str:
    """Text for a selection of units."""
    given = {"chosen": "chosen units", "given": "by given score", "random": "in random order"}
    by = f"by {verbatim(order).replace('_', ' ').replace('place cell score', 'place-cell score')}"
    words = {
        "matched": "matched units",
        "random": "random units",
        "stratified": "units of the same strata",
    }
    return words.get(selection) or given.get(order) or by


def plain() -> FuncFormatter:
    """Formatter of numbers without powers of ten."""
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
