"""The learning curve of a network, as a picture for its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

ERRORS = {
    "reference_error_trained": ("reference memory", "-"),
    "working_error_trained": ("working memory", "-"),
    "reference_error_novel": ("reference memory, novel maps", ":"),
    "working_error_novel": ("working memory, novel maps", ":"),
}


def learning_curve(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the memory errors of a training against its steps.

    Parameters
    ----------
    history
        Rows of ``history.csv``: "step", and the errors on trained and novel maps.

    Returns
    -------
    bytes
        A PNG picture of 640 × 400 pixels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), dpi=100, layout="constrained")
    ax = figure.subplots()
    steps = [float(row["step"]) for row in history]
    for i, (key, (label, style)) in enumerate(ERRORS.items()):
        errors = [float(row[key]) for row in history]
        ax.plot(steps, errors, style, color=f"C{i % 2}", marker=".", markersize=3, label=label)
    ax.set(xlabel="optimiser step", ylabel="share of wrong letters", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    picture = BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
