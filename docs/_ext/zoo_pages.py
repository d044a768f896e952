"""Tables and figures of the pages on the zoo, made from zoo/results whenever the docs are built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr

import placeformer as pf
from placeformer.stats.intervals import over_seeds, verdict

RESULTS = Path(__file__).resolve().parents[2] / "zoo" / "results"
LESIONED = "nmda-a10"
MEMORIES = ("reference", "working")
SETS = {"mini": "mini", "nmda": "nmda (second load)", "paper": "of the paper's size"}
"""Networks that were measured alike, and what their column is called."""


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx to call it."""
    app.connect("builder-inited", lambda app: write_all(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True}


def write_all(target: Path, results: Path = RESULTS) -> None:
    """Write every part of the pages into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    networks = {name: xr.load_dataset(results / f"{name}.nc") for name in SETS}
    washout, lesions = (
        xr.load_dataset(results / f"{LESIONED}-{what}.nc") for what in ("washout", "lesions")
    )
    claims = {name: pf.paper_claims(each) for name, each in networks.items()}
    together = pf.memory_comparison(networks["mini"], washout, lesions)
    with plt.rc_context({"svg.hashsalt": "placeformer"}):
        parts = {
            "claims-verdicts": verdicts(claims),
            "claims-comparison": comparison(together, washout, lesions, target),
            "claims-specificity": specificity(lesions),
            "claims-one-map": of_one_map(xr.load_dataset(results / "place-cell-lesions.nc")),
            **{f"claims-tests-{name}": tests(each) for name, each in claims.items()},
            **{f"mg-{name}": errors(name, networks[name], claims[name], target) for name in SETS},
        }
    for name, lines in parts.items():
        (target / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def verdicts(claims: Mapping[str, pd.DataFrame], last: int = 7) -> list[str]:
    """One row a claim, one column a set of networks."""
    said = {name: pf.claim_verdicts(each) for name, each in claims.items()}
    of = next(iter(claims.values())).drop_duplicates("claim").set_index("claim")["statement"]
    rows = [
        [claim, of[claim], *(f"**{words[claim]}**" for words in said.values())]
        for claim in of.index
        if claim <= last
    ]
    return table(["", "claim", *(SETS[name] for name in said)], rows)


def tests(claims: pd.DataFrame) -> list[str]:
    """One row a test, claim by claim."""
    lines: list[str] = []
    for (claim, statement), rows in claims.groupby(["claim", "statement"]):
        cells = [
            [
                f"**{row.part}**" if row.decides else row.part,
                f"{row.effect} ({row.test})",
                with_interval(row.value, row.lower, row.upper),
                row.over,
                "" if np.isnan(row.p) else f"{row.p:.2g}",
                f"{row.n_networks}, {row.n_seeds}",
                ". ".join(filter(None, ["" if silent(row) else row.verdict, row.note])),
            ]
            for row in rows.itertuples()
        ]
        header = ["part", "effect (test)", "value, 95 % interval", "over", "p", "networks, seeds",
                  "verdict"]  # fmt: skip
        lines += [f"**{claim}. {statement}**", ""]
        lines += [*table(header, cells, (16, 27, 18, 10, 7, 8, 14)), ""]
    return lines


def silent(row: Any) -> bool:
    """Whether a row was never meant to be judged."""
    return bool(row.verdict == "not tested" and not row.decides)


def comparison(
    together: xr.Dataset, washout: xr.Dataset, lesions: xr.Dataset, target: Path
) -> list[str]:
    """The figure of Mg²⁺ beside lesions, and its correlations."""
    save(pf.plot.comparison(together).ravel()[0].figure, target / "comparison.svg")
    rows = []
    for measure in together["measure"].values:
        one = together.sel(measure=measure)
        rows.append([str(measure), *(correlation(one.sel(given=g)) for g in ("nothing", "alpha"))])
    header = ["measure on the trained map", "ρ with reference error", "partial on α (NMDA_α)"]
    shown = figure("comparison.svg", "Mg²⁺ beside lesions.")
    return [*shown, "", counted(washout, lesions), "", *table(header, rows)]


def counted(washout: xr.Dataset, lesions: xr.Dataset) -> str:
    """Which predictions (b) and (c) count."""
    each = [
        f"{panel} {int(data.attrs['n_walks'])} walks of {int(data.attrs['n_steps'])} steps, "
        f"counted at {WHERE[data.attrs['where']]}"
        for panel, data in (("(b)", washout), ("(c)", lesions))
    ]
    return f"Of ``{LESIONED}``: {'; '.join(each)}."


def correlation(one: xr.Dataset) -> str:
    """ρ with its interval and p."""
    text = with_interval(float(one["correlation"]), *one["correlation_interval"].values)
    p = float(one["correlation_p"])
    return text if np.isnan(p) else f"{text}, p = {p:.2g}"


def specificity(lesions: xr.Dataset) -> list[str]:
    """What lesions by score cost more than matched and random ones, by ability."""
    header = [
        "ability", "unlesioned", "all units lesioned", "by score less matched",
        "as a share of all", "p (sets)", "by score less random",
    ]  # fmt: skip
    rows = []
    for name, value, area, interval, p in abilities(lesions):
        intact, gone = (float(value.sel(fraction=f)) for f in (0, 1))
        matched, random = (
            with_interval(float(area.sel(control=c)), *interval.sel(control=c).values)
            for c in ("matched", "random")
        )
        share = float(area.sel(control="matched")) / (gone - intact) if gone != intact else np.nan
        rows.append(
            [name, f"{intact:.3f}", f"{gone:.3f}", matched, f"{share:.0%}",
             f"{float(p.sel(control='matched')):.2g}", random]
        )  # fmt: skip
    shares = [f for f in lesions["fraction"].values if 0 < f < 1]
    about = (
        f"Means over lesions of {', '.join(f'{f:.0%}' for f in shares)} of the "
        f"{lesions.sizes['unit']} feed-forward units of ``{LESIONED}``, "
        f"{lesions.sizes['repeat']} sets of each control, {int(lesions.attrs['n_walks'])} walks of "
        f"{int(lesions.attrs['n_steps'])} steps; intervals over walks and sets."
    )
    low, high = (
        lesions["area_interval"].sel(maps="trained", memory="reference", control="matched").values
    )
    word = (
        "more than" if low > 0 else "less than" if high < 0 else "not detectably more or less than"
    )
    said = f"Lesions by score cost reference memory **{word}** lesions of matched units."
    return [said, about, "", *table(header, rows)]


def of_one_map(lesions: xr.Dataset) -> list[str]:
    """What lesions of the place cells of a map cost more on it than those of other units."""
    reference = lesions.sel(memory="reference")
    rows = []
    for (alpha, layer), one in reference.groupby(["alpha", "layer"]):
        error = one["error"].mean("lesion")
        less = [judged(one["difference"].sel(control=c)) for c in ("matched", "random")]
        beyond = one["p_sets"].sel(control="matched") <= 1 / (1 + lesions.attrs["repeats"])
        rows.append(
            [f"{alpha:g}", f"``{layer}``", f"{float(one['n_place_cells'].mean()):.0f}",
             f"{float(one['intact'].mean()):.3f}",
             *(f"{float(error.sel(selection=s)):.3f}" for s in ("ordered", "matched", "random")),
             *less, f"{int(beyond.sum())} of {one.sizes['lesion']}"]
        )  # fmt: skip
    header = [
        "α", "layer", "place cells", "unlesioned", "place cells lesioned", "matched", "random",
        "less matched", "less random", "beyond all matched sets",
    ]  # fmt: skip
    return table(header, rows)


def judged(difference: xr.DataArray) -> str:
    """Mean over seeds of the mean over maps, with its interval, and whether it is above 0."""
    found = over_seeds(difference.groupby("seed").mean().values)
    return f"{with_interval(*found[:3])}: **{verdict(found, claimed=1)}**"


def abilities(lesions: xr.Dataset) -> Iterable[tuple[str, Any, Any, Any, Any]]:
    """Name, mean cost (fraction), area, its interval and p (control) of every ability."""
    for memory in MEMORIES:
        one = lesions.sel(maps="trained", memory=memory)
        value = one["error"].sel(selection="ordered").mean("repeat")
        parts = (one[name] for name in ("area", "area_interval", "area_p_sets"))
        yield f"{memory}-memory error, trained maps", value, *parts
    for measure in lesions["measure"].values:
        one = lesions.sel(measure=measure)
        value = one["score"].sel(selection="ordered").mean("repeat")
        parts = (one[f"score_{name}"] for name in ("area", "area_interval", "area_p_sets"))
        yield NAMES.get(str(measure), str(measure)), value, *parts


WHERE = {
    "chunk_end": "the ends of chunks",
    "every_step": "every step, also the first ones, when the network cannot know yet where it is: "
    "its errors are greater than at the ends of chunks",
}
NAMES = {
    "decoding": "decoding of position (mean distance, places)",
    "working memory, novel maps": "working-memory error, novel maps",
}


def errors(name: str, networks: xr.Dataset, claims: pd.DataFrame, target: Path) -> list[str]:
    """Errors across Mg²⁺ of one set: what there is, figures, tests and the table of networks."""
    told = claims[claims["claim"].isin([1, 2, 3, 4, 7]) & (claims["n_seeds"] > 0)]
    lines = [inventory(networks), "", *verdicts({name: claims}, 4), ""]
    for plot, caption in (
        (pf.plot.activations, "Errors at the end of training, every network a point."),
        (pf.plot.training, "Errors in the course of the training."),
    ):
        drawn, axes = plt.subplots(2, 1, figsize=(8, 8), layout="constrained")
        for ax, memory in zip(axes, MEMORIES, strict=True):
            plot(networks, memory=memory, ax=ax)
        save(drawn, target / f"mg-{name}-{plot.__name__}.svg")
        lines += [*figure(f"mg-{name}-{plot.__name__}.svg", caption), ""]
    lines += [*hill(name, networks, target), "", *map(sentence, told.itertuples()), ""]
    return [*lines, *by_network(networks)]


def hill(name: str, networks: xr.Dataset, target: Path) -> list[str]:
    """Reference error against α with its Hill curve, where there are doses enough to fit one."""
    fit = pf.fit_hill(networks["error"].sel(maps="trained", memory="reference"))
    if not np.isfinite(fit["fitted"]).any():
        return []
    save(pf.plot.dose_response(networks, fit=fit).figure, target / f"mg-{name}-hill.svg")
    return figure(f"mg-{name}-hill.svg", "Reference error against α, with the Hill curve.")


def inventory(networks: xr.Dataset) -> str:
    """How many networks there are, and of which seeds."""
    seeds = sorted(map(int, np.unique(networks["seed"].values)))
    dosed = int(np.isfinite(networks["trained_alpha"].values).sum())
    text = (
        f"{networks.sizes['model']} networks, {dosed} of them with NMDA_α; "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
    )
    return text + (" **One seed: everything here is preliminary.**" if len(seeds) == 1 else "")


def sentence(row: Any) -> str:
    """One test as an item of a list."""
    value = with_interval(row.value, row.lower, row.upper)
    p = "" if np.isnan(row.p) else f", p = {row.p:.2g}"
    word = "" if silent(row) else f": **{row.verdict}**"
    note = f"; {row.note}" if row.note else ""
    seeds = f"{row.n_seeds} seed{'' if row.n_seeds == 1 else 's'}"
    return (
        f"- {row.claim}, {row.part}: {row.effect} = {value} (over {row.over}{p}; "
        f"{row.n_networks} networks, {seeds}){word}{note}"
    )


def by_network(networks: xr.Dataset) -> list[str]:
    """One row a network: errors with their intervals, and counts."""
    rows = []
    for i in range(networks.sizes["model"]):
        one = networks.isel(model=i)
        cells = [f"``{one['name'].values}``"]
        for maps, memory in (
            ("trained", "working"),
            ("trained", "reference"),
            ("novel", "working"),
            ("novel", "reference"),
        ):
            found = one.sel(maps=maps, memory=memory)
            cells.append(with_interval(float(found["error"]), *found["interval"].values))
        cells.append(f"{int(one['n'].sel(maps='trained', memory='reference').sum())}")
        rows.append(cells)
    header = ["network", "working, trained maps", "reference, trained maps", "working, novel maps",
              "reference, novel maps (control)", "reference predictions"]  # fmt: skip
    return table(header, rows)


def with_interval(value: float, low: float, high: float) -> str:
    """A value with its interval."""
    if np.isnan(value):
        return "no value"
    return (
        f"{value:.3g}" if np.isnan([low, high]).any() else f"{value:.3g} ({low:.3g} to {high:.3g})"
    )


def figure(name: str, alt: str) -> list[str]:
    """Directive of a figure in the folder of generated files."""
    return [f".. image:: /generated/{name}", f"   :alt: {alt}"]


def table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], widths: Sequence[int] = ()
) -> list[str]:
    """Lines of a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", "   :class: dense"]
    lines += [f"   :widths: {' '.join(map(str, widths))}"] if widths else []
    lines.append("")
    for row in (header, *rows):
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return lines


def save(drawn: Any, file: Path) -> None:
    """Write a figure, the same bytes every time, and close it."""
    drawn.savefig(file, metadata={"Date": None})
    plt.close(drawn)
