"""Tables and figures of the pages on the zoo, generated from zoo/results at every build."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from rst import render

import placeformer as pf
from placeformer.evaluation.specificity import specificity_verdict
from placeformer.plot._style import BLUE, VERMILION
from placeformer.stats.intervals import over_seeds, verdict
from placeformer.stats.permutation import control_p

RESULTS = Path(__file__).resolve().parents[2] / "zoo" / "results"
LESIONED = "nmda-a10"
MEMORIES = ("reference", "working")
SETS = {
    "mini": "mini",
    "muon": "consolidation (Muon)",
    "nmda": "nmda (the paper's grid)",
    "paper": "of the paper's size",
}
"""Sets of networks that were measured in the same way, and the headers of their columns."""

Table = tuple[list[str], list[list[Any]]]
"""Header and rows."""


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", lambda app: write_all(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True}


def write_all(target: Path, results: Path = RESULTS) -> None:
    """Write every part of the pages into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    networks = {name: xr.load_dataset(results / f"{name}.nc") for name in SETS}
    washout, lesions = (
        xr.load_dataset(results / f"{LESIONED}-{what}.nc") for what in ("washout", "lesions")
    )
    claims = {name: pf.paper_claims(measured) for name, measured in networks.items()}
    together = pf.memory_comparison(networks["mini"], washout, lesions)
    with plt.rc_context({"svg.hashsalt": "placeformer"}):
        parts = {
            "claims-verdicts": table(*verdicts(claims)),
            "claims-optimizers": table(*optimizers(networks["mini"], networks["muon"])),
            "claims-optimizer-courses": optimizer_courses(networks, results, target),
            "claims-comparison": comparison(together, washout, lesions, target),
            "claims-specificity": specificity(lesions),
            "claims-one-map": table(
                *of_one_map(xr.load_dataset(results / "place-cell-lesions.nc"))
            ),
            **specific(results / "specificity.nc", target),
            **{f"claims-tests-{name}": tests(of_set) for name, of_set in claims.items()},
            **{f"mg-{name}": errors(name, networks[name], claims[name], target) for name in SETS},
        }
    for name, text in parts.items():
        (target / f"{name}.txt").write_text(text, encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table without further text."""
    return render("table", header=header, rows=rows)


def verdicts(claims: Mapping[str, pd.DataFrame], last: int = 7) -> Table:
    """One row per claim, one column per set of networks."""
    words = {name: pf.claim_verdicts(of_set) for name, of_set in claims.items()}
    first = next(iter(claims.values())).drop_duplicates("claim").set_index("claim")["statement"]
    rows = [
        [claim, subscript(first[claim]), *(f"**{verdict[claim]}**" for verdict in words.values())]
        for claim in first.index
        if claim <= last
    ]
    return ["", "claim", *(SETS[name] for name in words)], rows


def optimizers(adamw: xr.Dataset, muon: xr.Dataset) -> Table:
    """One row per activation: mean errors of two sets, and their difference, paired by seed."""
    errors = [("trained", "reference"), ("trained", "working"), ("novel", "working")]
    columns = ["activation_name", "alpha", "seed", "maps", "memory", "error"]
    first, second = (data["error"].to_dataframe().reset_index()[columns] for data in (adamw, muon))
    both = first.merge(second, on=columns[:-1], suffixes=("", "_muon"))
    rows = []
    for (name, alpha), group in both.groupby(["activation_name", "alpha"], dropna=False):
        row = [name if np.isnan(alpha) else f"NMDA, α = {alpha:g}", str(group["seed"].nunique())]
        for maps, memory in errors:
            pairs = group[(group["maps"] == maps) & (group["memory"] == memory)]
            value, *interval = over_seeds((pairs["error_muon"] - pairs["error"]).to_numpy())[:3]
            means = (f"{pairs[column].mean():.3f}" for column in ("error", "error_muon"))
            row += [*means, with_interval(value, *np.clip(interval, -1, 1))]
        rows.append(row)
    header = ["activation", "seeds"]
    for maps, memory in errors:
        header += [f"{memory}, {maps} maps: AdamW", "Muon", "difference"]
    return header, rows


def optimizer_courses(networks: Mapping[str, xr.Dataset], results: Path, target: Path) -> str:
    """Figure of the errors of networks with α = 10 during training with either optimizer."""
    muon = pd.read_csv(results / "nmda-a10-muon-history.csv")
    courses = {
        "Small world, 8 maps": [course_of(networks["mini"]), course_of(networks["muon"])],
        "The paper's grid, 16 maps": [course_of(networks["nmda"]), muon],
    }
    drawn, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for ax, (title, pair) in zip(axes, courses.items(), strict=True):
        for name, course, color in zip(("AdamW", "Muon"), pair, (BLUE, VERMILION), strict=True):
            for memory, style in (("reference", "-"), ("working", ":")):
                errors = course[f"{memory}_error_trained"]
                ax.plot(course["step"], errors, style, color=color, label=f"{name}, {memory}")
        ax.set(title=title, xlabel="training step", ylim=(0, 1))
    axes[0].set_ylabel("error on trained maps")
    axes[0].legend(fontsize="small")
    save(drawn, target / "optimizer-courses.svg")
    return render("optimizer_courses", steps=int(muon["step"].iloc[-1]))


def course_of(networks: xr.Dataset, alpha: float = 10.0) -> pd.DataFrame:
    """Errors during the training of the network with seed 0 and the given α."""
    chosen = (networks["alpha"] == alpha) & (networks["seed"] == 0)
    course = networks["history"].isel(model=int(np.argmax(chosen.values))).dropna("step", how="all")
    columns = {
        f"{memory}_error_trained": course.sel(maps="trained", memory=memory).values
        for memory in MEMORIES
    }
    return pd.DataFrame({"step": course["step"].values, **columns})


def subscript(statement: str) -> str:
    """The statement of a claim, with the α of an activation as a subscript."""
    digits = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
    return re.sub(r"_(\d+)", lambda found: found[1].translate(digits), statement)


def tests(claims: pd.DataFrame) -> str:
    """One row per test, grouped by claim."""
    groups = []
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
        groups.append((claim, subscript(statement), cells))
    header = [
        "part", "effect (test)", "value, 95 % interval", "over", "p", "networks, seeds", "verdict",
    ]  # fmt: skip
    return render("claims_tests", claims=groups, header=header)


def silent(row: Any) -> bool:
    """Whether a row only describes, so that it has no verdict."""
    return bool(row.verdict == "not tested" and not row.decides)


def comparison(together: xr.Dataset, washout: xr.Dataset, lesions: xr.Dataset, target: Path) -> str:
    """The figure of Mg²⁺ and lesions, and its correlations."""
    save(pf.plot.comparison(together).ravel()[0].figure, target / "comparison.svg")
    rows = []
    for measure in together["measure"].values:
        one = together.sel(measure=measure)
        rows.append([str(measure), *(correlation(one.sel(given=g)) for g in ("nothing", "alpha"))])
    header = ["measure on the trained map", "ρ with reference error", "partial on α (NMDA_α)"]
    return render(
        "claims_comparison",
        network=LESIONED,
        washout=washout,
        lesions=lesions,
        WHERE=WHERE,
        header=header,
        rows=rows,
    )


def correlation(one: xr.Dataset) -> str:
    """ρ with its interval and p."""
    text = with_interval(float(one["correlation"]), *one["correlation_interval"].values)
    p = float(one["correlation_p"])
    return text if np.isnan(p) else f"{text}, p = {p:.2g}"


def specificity(lesions: xr.Dataset) -> str:
    """Excess cost of lesions by score over random and stratified ones, for each ability."""
    header = [
        "ability", "unlesioned", "all units lesioned", "by score minus random", "p (random sets)",
        "by score minus stratified", "p (stratified sets)", "as a fraction of all",
    ]  # fmt: skip
    rows = []
    for name, value, area, interval, p in abilities(lesions):
        intact, gone = (float(value.sel(fraction=f)) for f in (0, 1))
        differences: list[str] = []
        for c in ("random", "stratified"):
            found = with_interval(float(area.sel(control=c)), *interval.sel(control=c).values)
            differences += [found, f"{float(p.sel(control=c)):.2g}"]
        beyond = float(area.sel(control="stratified"))
        share = beyond / (gone - intact) if gone != intact else np.nan
        rows.append([name, f"{intact:.3f}", f"{gone:.3f}", *differences, f"{share:.0%}"])
    return render(
        "claims_specificity",
        network=LESIONED,
        lesions=lesions,
        fractions=[f for f in lesions["fraction"].values if 0 < f < 1],
        p=float(lesions["area_p_sets"].sel(maps="trained", memory="reference", control="random")),
        header=header,
        rows=rows,
    )


def specific(file: Path, target: Path) -> dict[str, str]:
    """Tables, figure and verdict on the costs of washout and its controls in other abilities."""
    if not file.is_file():
        missing = "Not measured yet: ``python zoo/specificity.py`` measures it.\n"
        return {f"specificity-{part}": missing for part in ("costs", "differences", "verdict")}
    result = xr.load_dataset(file)
    level = 0.25
    at = result.sel(level=level)
    others = [str(m) for m in result["measure"].values if m != result.attrs["match"]]
    drawn, panels = plt.subplots(1, len(others), figsize=(11, 4), layout="constrained")
    for ax, name in zip(np.ravel(panels), others, strict=True):
        pf.plot.specificity(result, measure=name, level=level, ax=ax)
    save(drawn, target / "specificity.svg")
    costs, differences = [], []
    for name in result["perturbation"].values:
        one = at.sel(perturbation=name)
        cells = (one.sel(measure=m) for m in others)
        doses = " ".join(f"{dose:.2g}" for dose in one["matched_dose"].values)
        costs.append(
            [str(name), doses, *(with_interval(float(c["mean_cost"]), *c["mean_interval"].values)
                                 for c in cells)]
        )  # fmt: skip
    for name in result["control"].values:
        row = [str(name)]
        for measure in others:
            cell = at.sel(control=name, measure=measure)
            value = with_interval(float(cell["difference"]), *cell["difference_interval"].values)
            row.append(f"{value}, {cell['verdict'].item()}")
        differences.append(row)
    header = [str(result["about"].sel(measure=m).item()) for m in others]
    words = {m: specificity_verdict(result, measure=m, level=level) for m in others}
    return {
        "specificity-costs": table(["perturbation", "matched doses", *header], costs),
        "specificity-differences": table(["washout minus", *header], differences),
        "specificity-verdict": render(
            "specificity", words=words, about=dict(zip(others, header, strict=True)), result=result
        ),
    }


def of_one_map(lesions: xr.Dataset) -> Table:
    """Excess cost, on one map, of lesions of its place cells over those of stratified sets."""
    rows = []
    for (alpha, layer), group in lesions.sel(memory="reference").groupby(["alpha", "layer"]):
        for i in range(group.sizes["lesion"]):
            rows.append(one_lesion(group.isel(lesion=i)))
        together = group.mean("lesion")
        more = judged(group["difference"].sel(control="stratified"))
        rows.append(
            [f"**α = {alpha:g},** ``{layer}``", f"{float(together['n_place_cells']):.0f}",
             *errors_of_sets(together), more, f"**{joint_p(group):.2g}**",
             f"{logit_ratio(together):.2f}", judged(at_equal_change(group))]
        )  # fmt: skip
    header = [
        "network, map", "place cells", "unlesioned", "place cells lesioned", "stratified",
        "random", "minus stratified", "exact p", "change of logits", "at equal change",
    ]  # fmt: skip
    return header, rows


def one_lesion(one: xr.Dataset) -> list[str]:
    """The row of one lesion."""
    stratified = one.sel(control="stratified")
    low, high = stratified["difference_interval"].values
    return [
        f"``{one['name'].item()}``, {int(one['map'])}", f"{int(one['n_place_cells'])}",
        *errors_of_sets(one), with_interval(float(stratified["difference"]), low, high),
        f"{float(stratified['p_sets']):.2g}", f"{logit_ratio(one):.2f}",
        f"{float(at_equal_change(one)):.3f}",
    ]  # fmt: skip


def errors_of_sets(one: xr.Dataset) -> list[str]:
    """Errors of the intact network and under lesions, means over the sets."""
    error = one["error"].mean("repeat")
    means = (error.sel(selection=s) for s in ("ordered", "stratified", "random"))
    return [f"{float(value):.3f}" for value in (one["intact"], *means)]


def logit_ratio(one: xr.Dataset) -> float:
    """Expected change of the logits by place cells over that by their stratified sets."""
    change = one["logit_change"].mean("repeat")
    return float(change.sel(selection="ordered") / change.sel(selection="stratified"))


def at_equal_change(lesions: xr.Dataset) -> xr.DataArray:
    """Cost beyond the regression line of the stratified sets, at the place cells' change of logits.

    The line is the least-squares regression, over the sets, of the error on the change of logits.
    """
    x, y = (lesions[name].sel(selection="stratified") for name in ("logit_change", "error"))
    slope = xr.cov(x, y, "repeat") / x.var("repeat", ddof=1)
    ordered = lesions[["logit_change", "error"]].sel(selection="ordered").mean("repeat")
    expected = y.mean("repeat") + slope * (ordered["logit_change"] - x.mean("repeat"))
    return ordered["error"] - expected


def joint_p(lesions: xr.Dataset) -> float:
    """Exact p of the mean error of several lesions among their means over stratified sets."""
    error = lesions["error"].mean("lesion")
    ordered, sets = (error.sel(selection=s) for s in ("ordered", "stratified"))
    return float(control_p(ordered.mean("repeat").values, sets.values))


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
    "every_step": "every step, including the first ones, when the network cannot yet know where "
    "it is, so that errors are larger than at the ends of chunks",
}
NAMES = {
    "decoding": "decoding of position (mean distance, places)",
    "working memory, novel maps": "working-memory error, novel maps",
}


def errors(name: str, networks: xr.Dataset, claims: pd.DataFrame, target: Path) -> str:
    """Errors across Mg²⁺ of one set: its networks, figures, tests and the table of networks."""
    for plot in (pf.plot.activations, pf.plot.training):
        drawn, axes = plt.subplots(2, 1, figsize=(8, 9.5), layout="constrained")
        for ax, memory in zip(axes, MEMORIES, strict=True):
            plot(networks, memory=memory, ax=ax)
        save(drawn, target / f"mg-{name}-{plot.__name__}.svg")
    tested = claims[claims["claim"].isin([1, 2, 3, 4, 7]) & (claims["n_seeds"] > 0)]
    return render(
        "magnesium",
        name=name,
        n_networks=networks.sizes["model"],
        n_dosed=int(np.isfinite(networks["trained_alpha"].values).sum()),
        seeds=sorted(map(int, np.unique(networks["seed"].values))),
        verdicts=verdicts({name: claims}, 4),
        hill=hill(name, networks, target),
        tests=list(tested.itertuples()),
        with_interval=with_interval,
        silent=silent,
        networks=by_network(networks),
    )


def hill(name: str, networks: xr.Dataset, target: Path) -> bool:
    """Draw reference error against α with its Hill curve, if there are enough doses to fit one."""
    fit = pf.fit_hill(networks["error"].sel(maps="trained", memory="reference"))
    fitted = bool(np.isfinite(fit["fitted"]).any())
    if fitted:
        save(pf.plot.dose_response(networks, fit=fit).figure, target / f"mg-{name}-hill.svg")
    return fitted


def by_network(networks: xr.Dataset) -> Table:
    """One row per network: errors with their intervals, and counts."""
    columns = [(maps, memory) for maps in ("trained", "novel") for memory in MEMORIES[::-1]]
    rows = []
    for i in range(networks.sizes["model"]):
        one = networks.isel(model=i)
        cells = [f"``{one['name'].values}``"]
        for maps, memory in columns:
            error = one.sel(maps=maps, memory=memory)
            cells.append(with_interval(float(error["error"]), *error["interval"].values))
        cells.append(f"{int(one['n'].sel(maps='trained', memory='reference').sum())}")
        rows.append(cells)
    header = [
        "network", "working, trained maps", "reference, trained maps", "working, novel maps",
        "reference, novel maps (control)", "reference predictions",
    ]  # fmt: skip
    return header, rows


def with_interval(value: float, low: float, high: float) -> str:
    """A value with its interval."""
    if np.isnan(value):
        return "no value"
    return (
        f"{value:.3g}" if np.isnan([low, high]).any() else f"{value:.3g} ({low:.3g} to {high:.3g})"
    )


def save(drawn: Any, file: Path) -> None:
    """Write a figure reproducibly, byte for byte, and close it."""
    drawn.savefig(file, metadata={"Date": None})
    plt.close(drawn)
