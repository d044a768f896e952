"""Tables and figures of the page on consolidation, generated from zoo/results at every build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from zoo_pages import RESULTS, Table, save, table, with_interval

import placeformer as pf
from placeformer.evaluation import consolidation_rules as rules
from placeformer.plot.lesions import plain
from placeformer.stats.intervals import over_seeds

SHOWN = "consolidation-nmda-a10"
"""Network whose time course is drawn."""


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", lambda app: write_all(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True}


def write_all(target: Path, results: Path = RESULTS) -> None:
    """Write every part of the page into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "placeformer"}):
        for name, text in parts(target, results).items():
            (target / f"{name}.txt").write_text(text, encoding="utf-8")


def parts(target: Path, results: Path) -> dict[str, str]:
    """Tables of the page by name; the figures are written to the folder."""
    courses, curves, blocked = (
        xr.load_dataset(results / f"{name}.nc") for name in ("consolidation", "amnesia", "windows")
    )
    shown = int(np.argmax(courses["name"].values == SHOWN))
    save(pf.plot.consolidation(courses.isel(model=shown)).ravel()[0].figure, target / "course.svg")
    save(drawn_courses(courses), target / "courses.svg")
    save(drawn_windows(blocked), target / "windows.svg")
    save(drawn_curves(curves), target / "amnesia.svg")
    found = rules.consolidation_answers(courses)
    return {
        "consolidation-when": table(*answers(found, "when")),
        "consolidation-turnover": table(*answers(found, "turnover")),
        "consolidation-times": table(*by_course(courses)),
        "consolidation-tested": table(*by_window(blocked)),
        "consolidation-windows": table(*answers(rules.window_answers(blocked))),
        "consolidation-amnesia": table(*answers(rules.amnesia_answers(curves))),
        "consolidation-networks": sentence(courses),
    }


def sentence(courses: xr.Dataset) -> str:
    """A sentence that names the measured networks and their seeds."""
    seeds = {
        network: courses["seed"].values[courses["network"].values == network].tolist()
        for network in dict.fromkeys(courses["network"].values.tolist())
    }
    listed = "; ".join(f"{name}: seeds {', '.join(map(str, s))}" for name, s in seeds.items())
    return f"{courses.sizes['model']} networks were measured ({listed}).\n"


def answers(found: pd.DataFrame, question: str | None = None) -> Table:
    """One row per answer."""
    chosen = found if question is None else found[found["question"] == question]
    rows = [
        [*([row.question] if question is None else []), row.network, row.measure,
         with_interval(row.value, row.lower, row.upper), row.n_seeds, f"**{row.verdict}**"]
        for row in chosen.itertuples()
    ]  # fmt: skip
    header = ["networks", "measure", "mean, 95 % interval over seeds", "seeds", "verdict"]
    return ["question", *header] if question is None else header, rows


def by_course(courses: xr.Dataset) -> Table:
    """One row per network: the times at half, and the values at the end and at step 0."""
    header = [
        "network", "working memory", "reference memory", "place cells, trained map",
        "novel map", "depend on memory", "trained minus novel",
        "errors at the end: working, reference", "place cells at the end: trained, novel",
        "at step 0: trained, novel",
    ]  # fmt: skip
    rows = []
    for i in range(courses.sizes["model"]):
        course = courses.isel(model=i)
        steps = ["–" if np.isnan(step) else f"{step:.0f}" for step in rules.times(course).values()]
        ends = course.isel(step=-1)["error"].sel(maps="trained")
        share = course["place_cell_fraction"].mean("layer")
        rows.append(
            [f"``{course['name'].item()}``", *steps,
             ", ".join(f"{float(ends.sel(memory=m)):.3f}" for m in ("working", "reference")),
             *(", ".join(f"{float(share.isel(step=at).sel(maps=kind)):.3f}"
                         for kind in ("trained", "novel")) for at in (-1, 0))]
        )  # fmt: skip
    return header, rows


def by_window(networks: xr.Dataset) -> Table:
    """One row per window: reference and working error at both test-time α, mean over seeds."""
    rows = []
    for window in dict.fromkeys(networks["window"].values.tolist()):
        here = networks.isel(model=np.flatnonzero(networks["window"].values == window))
        errors = here["error"].sel(maps="trained")
        rows.append(
            [window, here.sizes["model"]]
            + [
                with_interval(*over_seeds(errors.sel(memory=m, alpha=alpha).values)[:3])
                for m in ("reference", "working")
                for alpha in networks["alpha"].values
            ]
        )
    tested = [f"{m}, α = {a:g}" for m in ("reference", "working") for a in networks["alpha"].values]
    return ["α = 0.1 during", "seeds", *tested], rows


def drawn_courses(courses: xr.Dataset) -> Any:
    """Reference error, place cells and turnover of every network."""
    drawn, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharex=True)
    networks = list(dict.fromkeys(courses["network"].values.tolist()))
    curves = (
        ("reference error, trained maps", courses["error"].sel(maps="trained", memory="reference")),
        (
            "place cells, trained map",
            courses["place_cell_fraction"].sel(maps="trained").mean("layer"),
        ),
        ("kept from the step before (chance: 0)", courses["kept_excess"].sel(compared="previous")),
    )
    for ax, (title, values) in zip(axes, curves, strict=True):
        for i in range(courses.sizes["model"]):
            which = networks.index(courses["network"].values[i])
            first = courses["network"].values.tolist().index(networks[which]) == i
            ax.plot(
                courses["step"], values.isel(model=i), marker="o", markersize=2, linewidth=1,
                color=f"C{which}", label=networks[which] if first else None,
            )  # fmt: skip
        ax.set_xscale("symlog", linthresh=float(courses["step"].values[1]), linscale=0.4)
        ax.xaxis.set_major_formatter(plain())
        ax.set(title=title, xlabel="optimiser steps")
    axes[0].legend(frameon=False, fontsize="small")
    return drawn


def drawn_windows(networks: xr.Dataset) -> Any:
    """Reference error during the training of every window, mean over seeds."""
    drawn, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    steps = networks["history_step"].values
    for i, window in enumerate(dict.fromkeys(networks["window"].values.tolist())):
        here = networks["history"].isel(model=np.flatnonzero(networks["window"].values == window))
        ax.plot(steps, here.mean("model"), color=f"C{i}", linewidth=1.2, label=window)
        ax.fill_between(steps, here.min("model"), here.max("model"), color=f"C{i}", alpha=0.1)
    for step in (200, 400):
        ax.axvline(step, color="0.7", linewidth=0.8)
    ax.set(xlabel="optimiser steps", ylabel="reference error, trained maps", ylim=(0, 1))
    ax.legend(frameon=False, fontsize="small", title="α = 0.1 during")
    return drawn


def drawn_curves(curves: xr.Dataset) -> Any:
    """Errors on old and new maps of the first network, without and with rehearsal."""
    kinds = list(dict.fromkeys(curves["rehearsal"].values.tolist()))
    drawn, axes = plt.subplots(
        1, len(kinds), figsize=(5 * len(kinds), 3.8), layout="constrained", squeeze=False
    )
    for ax, rehearsal in zip(axes[0], kinds, strict=True):
        first = int(np.flatnonzero(curves["rehearsal"].values == rehearsal)[0])
        pf.plot.amnesia_curve(curves.isel(model=first).sel(maps=["old", "new"]), ax=ax)
        ax.set_title(f"rehearsal of the old maps: {rehearsal}", fontsize="medium")
        if ax is not axes[0, -1]:
            ax.get_legend().remove()
    return drawn
