"""Figure of a score card."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from placeformer.plot._style import COLORS, MARKERS, axes

OFFSET = 0.22
"""Distance between the subjects of a mark."""


def score_card(card: xr.Dataset, layer: int | str = 0, *, ax: Axes | None = None) -> Axes:
    """Draw the marks of one layer of a score card, beside those of both controls.

    Parameters
    ----------
    card
        Result of :func:`placeformer.score_card`.
    layer
        Name of the layer, or its number on the card.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        One row per mark with a point and a 95 % interval per subject, as a share of the units of
        the layer; in the last row the decoding error as a share of chance. Marks that are not known
        have no point; rows without any are left out.

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
    'decoded error'
    """
    ax = axes(ax)
    one = card.isel(layer=layer) if isinstance(layer, int) else card.sel(layer=layer)
    marks = [str(m) for m in one["mark"].values if np.isfinite(one["share"].sel(mark=m)).any()]
    rows = [*marks, "decoded error"]
    for i, subject in enumerate(one["subject"].values):
        of = one.sel(subject=subject)
        chance = float(of["chance_error"])
        value = [
            *(float(of["share"].sel(mark=m)) for m in marks),
            float(of["decoded_error"]) / chance,
        ]
        bounds = [
            *(of["share_interval"].sel(mark=m).values for m in marks),
            of["decoded_interval"].values / chance,
        ]
        if not np.isfinite(value).any():
            continue
        at = np.arange(len(rows)) + (i - 1) * OFFSET
        reach = np.nan_to_num(np.abs(np.transpose(bounds) - value))
        ax.errorbar(
            value, at, xerr=reach, fmt=MARKERS[i], color=COLORS[i], capsize=2, label=str(subject)
        )
    for edge in np.arange(len(rows) - 1) + 0.5:
        ax.axhline(edge, color="0.85", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="share of units; decoded error: share of chance")
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -0.02), max(high, 1.02))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title(f"{one['layer'].item()}, {int(one['n_units'])} units")
    ax.legend(
        frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3
    )
    return ax
