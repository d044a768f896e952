"""Figure of a score card."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from placeformer.plot._style import COLORS, MARKERS, axes, check_result, verbatim

OFFSET = 0.22
"""Vertical distance between the subjects of a mark."""

MOST = 1.5
"""Largest fraction that is drawn; larger ones are arrowheads at the edge."""


def score_card(card: xr.Dataset, layer: int | str = 0, *, ax: Axes | None = None) -> Axes:
    """Draw the marks of one layer of a score card, together with those of both controls.

    Parameters
    ----------
    card
        Result of :func:`placeformer.score_card`.
    layer
        Name of the layer, or its number on the card.
    ax
        Axes to draw in; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One row per mark with a point and a 95 % interval per subject, as a fraction of the units of
        the layer. The last rows show the decoding errors as fractions of chance, with an arrowhead
        for those above 150 %. Unknown marks have no point; rows without any point are left out.

    See Also
    --------
    placeformer.score_card : Measure a network.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> from placeformer.evaluation import simulation
    >>> recording = simulation.place_code(np.random.default_rng(0), n_walks=8, n_units=4)
    >>> ax = pf.plot.score_card(pf.score_card(recording, progress=False))
    >>> [label.get_text() for label in ax.get_yticklabels()][-1]
    'decoded error, bayes'
    """
    check_result("card", card, "score_card", ("layer", "mark", "subject", "share"))
    names = card["layer"].values.tolist()
    if layer not in (range(-len(names), len(names)) if isinstance(layer, int) else names):
        raise ValueError(
            f"layer must be one of {names}, or a number below {len(names)}, got {layer!r}"
        )
    ax = axes(ax)
    one = card.isel(layer=layer) if isinstance(layer, int) else card.sel(layer=layer)
    marks = [str(m) for m in one["mark"].values if np.isfinite(one["share"].sel(mark=m)).any()]
    decoders = [str(name) for name in one["decoder"].values]
    rows = [*marks, *(f"decoded error, {name}" for name in decoders)]
    for i, subject in enumerate(one["subject"].values):
        of = one.sel(subject=subject)
        shares = of.sel(mark=marks)
        chance = float(of["chance_error"])
        value = np.concatenate([shares["share"], of["decoded_error"] / chance])
        bounds = np.concatenate([shares["share_interval"], of["decoded_interval"] / chance])
        if not np.isfinite(value).any():
            continue
        at = np.arange(len(rows)) + (i - 1) * OFFSET
        seen = value <= MOST
        reach = np.nan_to_num(np.abs(bounds.T - value))[:, seen]
        style: dict[str, Any] = {
            "fmt": MARKERS[i],
            "color": COLORS[i],
            "capsize": 2,
            "label": str(subject),
        }
        ax.errorbar(value[seen], at[seen], xerr=reach, **style)
        beyond = at[value > MOST]
        ax.plot(np.full(beyond.size, MOST), beyond, ">", color=COLORS[i])
    for edge in np.arange(len(rows) - 1) + 0.5:
        ax.axhline(edge, color="0.85", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="share of units; decoded error: share of chance")
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.02), max(high, 1.02))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title(f"{verbatim(one['layer'].item())}, {int(one['n_units'])} units")
    ax.legend(
        frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3
    )
    return ax
