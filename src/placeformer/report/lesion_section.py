"""The page's card on lesions and Mg²⁺: figures, sentences and the table of one network."""

from __future__ import annotations

from html import escape

import numpy as np
import xarray as xr

from placeformer.report import figures
from placeformer.report.figures import bullets, figure, grid, row
from placeformer.report.measurements import Portrait
from placeformer.report.text import number, percent

WITHOUT_CELLS = 0.2
"""Share of the units whose lesion is told in words where no unit is a place cell."""

SELECTIONS = {"ordered": "place cells first", "matched": "matched", "random": "random"}
CONTROLS = {"matched": "units alike in activity and output weight", "random": "random units"}


def card(portrait: Portrait) -> str:
    """Show lesions, and the test-time α where there is one."""
    shown = [figure(figures.lesions(portrait), lesions_caption(portrait))]
    if (washout := portrait.harm.washout) is not None:
        shown.append(figure(figures.washout(washout), washout_caption(washout)))
    note = f'<p class="note">{table_note(portrait)}</p>'
    told = (short(portrait), general(portrait), *tests(portrait), *magnesium(portrait))
    return "\n".join([*shown, bullets(told), table(portrait), note, *beside(portrait)])


def beside(portrait: Portrait) -> list[str]:
    """Show the network among those trained alike, if they were measured."""
    together = portrait.harm.comparison
    if together is None:
        return []
    n, seeds = together.sizes["model"], np.unique(together["seed"]).size
    caption = (
        f"Among the {n} networks of the zoo that were trained alike, itself included ({seeds} "
        f"seed{'s' if seeds > 1 else ''}, measured at the ends of chunks of their own walks): (a), "
        f"(d), (e) and (f). This network alone: (b) and (c). ρ, where there is one: Spearman's, "
        "over networks, with a 95\xa0% bootstrap interval."
    )
    return [figure(figures.comparison(together), caption)]


def short(portrait: Portrait) -> str:
    """Say whether place cells cost more than the nearest controls there are."""
    lesions, control, fraction = portrait.harm.lesions, nearest(portrait), told_fraction(portrait)
    low, high = reference(lesions)["difference_interval"].sel(control=control, fraction=fraction)
    word = "more than" if low > 0 else "less than" if high < 0 else "neither more nor less than"
    return (
        f"Without {lesioned(portrait)}, {error(portrait, 'ordered', fraction)} of the "
        "reference-memory predictions on the first trained map are wrong, instead of "
        f"{error(portrait, 'ordered', 0)}: {word} without as many {CONTROLS[control]} "
        f"({error(portrait, control, fraction)})."
    )


def told_fraction(portrait: Portrait) -> float:
    """Share of the units whose lesion is told in words: that of the place cells, if any."""
    lesions = portrait.harm.lesions
    found = lesions.attrs["n_place_cells"] / lesions.sizes["unit"]
    return float(found or WITHOUT_CELLS)


def lesioned(portrait: Portrait) -> str:
    """Name the units whose lesion is told in words."""
    lesions, cells = portrait.harm.lesions, portrait.harm.lesions.attrs["n_place_cells"]
    layer, of = escape(lesions.attrs["layers"]), lesions.sizes["unit"]
    if cells:
        return f"the {cells} place cells among the {of} units of {layer}"
    n = int(lesions["n_units"].sel(fraction=WITHOUT_CELLS))
    return f"the {n} of {of} units of {layer} with the greatest place-cell scores (none is one)"


def nearest(portrait: Portrait) -> str:
    """Matched controls, or random ones where too few units are alike."""
    one = portrait.harm.lesions.sel(fraction=told_fraction(portrait))
    known = "matched" in one["control"] and one["balance"].notnull().all()
    return "matched" if known else "random"


def reference(data: xr.Dataset) -> xr.Dataset:
    """Reference memory on trained maps."""
    return data.sel(maps="trained", memory="reference")


def error(
    portrait: Portrait,
    selection: str,
    fraction: float,
    *,
    maps: str = "trained",
    memory: str = "reference",
) -> str:
    """Error under a lesion, mean over the sets of units."""
    where = {"maps": maps, "memory": memory, "selection": selection, "fraction": fraction}
    one = portrait.harm.lesions.sel(where)
    value = float(one["error"].mean("repeat", skipna=False))
    key = f"{portrait.name}/lesions/{maps}/{memory}/{selection}/{fraction:g}"
    about = f"95 % interval {' to '.join(map(percent, one['interval'].values))}"
    known = np.isfinite([value, *one["interval"].values]).all()
    return number(key, value, percent(value), about if known else "no interval")


def general(portrait: Portrait) -> str:
    """Say what the same lesion does to an ability that needs no memory of a map."""
    before, after = (
        error(portrait, "ordered", fraction, maps="novel", memory="working")
        for fraction in (0, told_fraction(portrait))
    )
    return (
        "The same lesion takes working memory on a novel map, which needs nothing that was "
        f"stored, from {before} to {after} wrong."
    )


def tests(portrait: Portrait) -> list[str]:
    """Say what the permutation tests of this lesion found, control by control."""
    lesions, told = portrait.harm.lesions, []
    for control in lesions["control"].values:
        one = reference(lesions).sel(control=control, fraction=told_fraction(portrait))
        if not np.isfinite(one["difference"]):
            continue
        low, high = (points(float(bound)) for bound in one["difference_interval"].values)
        key = f"{portrait.name}/lesions/{control}"
        gap, sets, pairs = (float(one[k]) for k in ("difference", "p_sets", "p_pairs"))
        told.append(
            f"This lesion less that of {control} units: "
            f"{number(f'{key}/difference', gap, points(gap))} percentage points of reference "
            f"memory (95\xa0% interval {low} to {high}). One-sided p of more errors: "
            f"{number(f'{key}/p_sets', sets, f'{sets:.2g}')} among {lesions.sizes['repeat']} sets "
            f"of {control} units, {number(f'{key}/p_pairs', pairs, f'{pairs:.2g}')} over walks "
            "(sign flips)."
        )
    return told


def points(value: float) -> str:
    """Percentage points, signed."""
    return f"{100 * value:+z.1f}".replace("-", "\N{MINUS SIGN}")


def share(fraction: float) -> str:
    """Share of the units, in per cent."""
    return f"{100 * fraction:.3g}\xa0%"


def magnesium(portrait: Portrait) -> list[str]:
    """Say what a changed α costs, and which one costs as much as the lesion."""
    washout, equivalents = portrait.harm.washout, portrait.harm.equivalents
    if washout is None or equivalents is None:
        return ["Has no NMDA<sub>α</sub>, and so no α to change at test time."]
    trained, alpha = float(washout["trained_alpha"][0]), washout["alpha"].values
    far = int(np.argmax(abs(alpha - trained)))
    costs = [f"{dosed(portrait, washout, far, m)} of {m}-memory" for m in figures.PANELS]
    return [
        f"At α = {alpha[far]:g} instead of {trained:g}, {' and '.join(costs)} predictions are "
        "wrong.",
        f"The lesion of {share(told_fraction(portrait))} costs as much reference memory as α = "
        f"{equivalent(portrait, equivalents, told_fraction(portrait))} at test time.",
    ]


def dosed(portrait: Portrait, washout: xr.Dataset, i: int, memory: str) -> str:
    """Error at a test-time α."""
    one = washout.isel(model=i).sel(maps="trained", memory=memory)
    value, alpha = float(one["error"]), float(one["alpha"])
    about = f"95 % interval {' to '.join(map(percent, one['interval'].values))}"
    key = f"{portrait.name}/washout/{alpha:g}/{memory}"
    return number(key, value, percent(value), about)


def equivalent(portrait: Portrait, equivalents: xr.Dataset, fraction: float) -> str:
    """Equivalent α of a lesion by score with its interval, or none with the reason."""
    one = equivalents.sel(selection="ordered", fraction=fraction)
    value, (low, high) = float(one["alpha"]), one["interval"].values
    if not np.isfinite(value):
        return f'<span title="{escape(one["reason"].item())}">none</span>'
    shown = number(f"{portrait.name}/equivalents/{fraction:g}", value, f"{value:.3g}")
    ends = " to ".join("none" if np.isnan(end) else f"{end:.3g}" for end in (low, high))
    return f"{shown} ({ends})"


def table(portrait: Portrait) -> str:
    """List every lesion with its errors, its test and its equivalent α."""
    lesions, equivalents = portrait.harm.lesions, portrait.harm.equivalents
    known = [s for s in SELECTIONS if s in lesions["selection"].values]
    head = ["Lesioned", *(SELECTIONS[s] for s in known), "p"]
    head += [] if equivalents is None else ["equivalent α"]
    body = "\n".join(
        row(f"{share(fraction)}, {int(n)}\xa0units", cells(portrait, known, float(fraction)))
        for fraction, n in zip(lesions["fraction"].values, lesions["n_units"].values, strict=True)
    )
    return grid("", head, body)


def table_note(portrait: Portrait) -> str:
    """Say what the columns of the table are."""
    bounds = "" if portrait.harm.equivalents is None else "; equivalent α with 95\xa0% interval"
    return (
        "Wrong reference-memory predictions on the first trained map; p of place cells first "
        f"against {nearest(portrait)} sets, one-sided, not corrected for the number of lesions"
        f"{bounds}."
    )


def cells(portrait: Portrait, selections: list[str], fraction: float) -> list[str]:
    """Cells of one lesion."""
    one = reference(portrait.harm.lesions).sel(fraction=fraction, control=nearest(portrait))
    p, key = float(one["p_sets"]), f"{portrait.name}/lesions/p_sets/{fraction:g}"
    shown = [error(portrait, selection, fraction) for selection in selections]
    compared = 0 < int(one["n_units"]) < portrait.harm.lesions.sizes["unit"]
    shown.append(number(key, p, f"{p:.2g}") if compared else "")
    if portrait.harm.equivalents is not None:
        shown.append(equivalent(portrait, portrait.harm.equivalents, fraction))
    return shown


def lesions_caption(portrait: Portrait) -> str:
    """Say what was lesioned and counted."""
    lesions = portrait.harm.lesions
    alone = "" if nearest(portrait) == "matched" else " Too few units are alike to be matched."
    return (
        f"Units of {escape(lesions.attrs['layers'])} held at their mean: the place cells of the "
        "first trained map, then others by place-cell score (lesser of both policies), both "
        f"measured on other walks; {lesions.sizes['repeat']} sets of each control.{alone} "
        f"{counted(lesions)} Bands: 95\xa0% bootstrap intervals over walks and sets. Dotted line: "
        "guessing."
    )


def washout_caption(washout: xr.Dataset) -> str:
    """Say what was counted at every α."""
    return (
        f"The same walks at {washout.sizes['model']} values of α. {counted(washout.isel(model=0))} "
        "Bars: 95\xa0% bootstrap intervals over walks."
    )


def counted(data: xr.Dataset) -> str:
    """Numbers of walks and of predictions on the trained map."""
    n = data["n"].sel(maps="trained").sum("walk")
    each = " and ".join(f"{int(n.sel(memory=m)):,} of {m} memory" for m in figures.PANELS)
    return (
        f"{data.sizes['walk']} walks of {data.attrs['n_steps']} steps on the first trained map, "
        f"at the ends of chunks: {each} at every point."
    )
