"""Questions about consolidation, answered over seeds by rules that were fixed in advance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from placeformer.stats.intervals import Estimate, over_seeds

OCTAVES = 0.5
"""Difference of two times, in octaves (doublings of steps), that still counts as "with"."""

KEPT = 0.1
"""Fraction of place cells lost below the retest ceiling that still counts as no turnover."""

LEARNT = 0.3
"""Minimum difference from chance of the errors on old and on new maps for a verdict on amnesia."""

NOTHING = 0.05
"""Maximum difference from chance of the error on novel maps that still counts as no memory."""

LEAST_FALL, LEAST_RISE = 0.1, 0.02
"""Minimum fall of an error, and rise of a fraction of units, for a half time to be defined."""


class Answer(NamedTuple):
    """One row of the answers."""

    question: str
    network: str
    measure: str
    value: float
    lower: float
    upper: float
    n_seeds: int
    verdict: str


def half_step(steps: NDArray[Any], values: NDArray[Any], least: float) -> float:
    """Step at which a curve first reaches the midpoint of its first and its last value.

    The curve is interpolated linearly between snapshots. NaN for a rise of less than `least`.
    """
    way = values[-1] - values[0]
    if not way >= least:
        return np.nan
    half = values[0] + way / 2
    after = int(np.argmax(values >= half))
    x, y = steps[after - 1 : after + 1], values[after - 1 : after + 1]
    return float(x[0] + (half - y[0]) / (y[1] - y[0]) * (x[1] - x[0]))


def times(course: xr.Dataset) -> dict[str, float]:
    """Steps at which memories and place cells of one network reach half of their change."""
    steps = course["step"].values.astype(float)
    found = {}
    for memory in ("working", "reference"):
        error = course["error"].sel(maps="trained", memory=memory).values
        found[memory] = half_step(steps, -error, LEAST_FALL)
    for name, share in shares(course).items():
        found[name] = half_step(steps, share, LEAST_RISE)
    return found


def shares(course: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Fractions of units over steps, whose half time is compared with that of reference memory."""
    cells = course["place_cell_fraction"].mean("layer")
    trained, novel = (cells.sel(maps=kind).values for kind in ("trained", "novel"))
    memory = course["memory_dependent_fraction"].mean("layer").values
    return {
        "trained map": trained,
        "novel map (control)": novel,
        "depend on memory": memory,
        "trained minus novel map": trained - novel,
    }


def turnover_of(course: xr.Dataset) -> dict[str, float]:
    """Place cells lost beyond the disagreement of two recordings, in two intervals of snapshots.

    "last" is the last interval, "half" the interval with the half time of reference memory. The
    loss is the mean of the retest ceilings at both ends of the interval minus the fraction kept.
    """
    kept = course["kept_excess"]
    ceiling = kept.sel(compared="retest").values
    lost = (ceiling[1:] + ceiling[:-1]) / 2 - kept.sel(compared="previous").values[1:]
    half, steps = times(course)["reference"], course["step"].values
    at = int(np.searchsorted(steps, half)) - 1 if np.isfinite(half) else None
    return {"last": float(lost[-1]), "half": np.nan if at is None else float(lost[at])}


def consolidation_answers(courses: xr.Dataset) -> pd.DataFrame:
    """Answer when place cells appear and whether their turnover ends, for every activation.

    Parameters
    ----------
    courses
        Results of :func:`consolidation` along ``model``, with the coordinates `network` (name of
        the activation with its α) and `seed`.

    Returns
    -------
    pandas.DataFrame
        One row per question, activation and measure: the mean over seeds with its 95 % interval
        (Student's t), `n_seeds` with a value, and the verdict.

        - "when": log2 of the half time of place cells divided by that of reference memory on the
          same maps (the half time is the step at which half of the change is reached). "with" if
          the whole interval is within half an octave of 0; otherwise "before" or "after" if the
          whole interval is below or above 0; else "undecided".
        - "turnover": place cells lost over the last interval between snapshots, beyond the
          disagreement of two recordings of one network. "ends" if the whole interval is below 0.1,
          "goes on" if it is above 0, else "undecided". Also, the additional loss in the interval
          with the half time of reference memory: "more then" if the whole interval is above 0,
          "less then" if it is below.

        "not tested" with fewer than two seeds that have a value.
    """
    rows: list[Answer] = []
    for network in dict.fromkeys(courses["network"].values.tolist()):
        members = [
            courses.isel(model=i) for i in np.flatnonzero(courses["network"].values == network)
        ]
        found = pd.DataFrame([times(course) for course in members])
        for name in shares(members[0]):
            octaves = np.log2(found[name] / found["reference"])
            rows.append(answer("when", network, name, octaves, when))
        lost = pd.DataFrame([turnover_of(course) for course in members])
        rows.append(answer("turnover", network, "last interval", lost["last"], ends))
        more = lost["half"] - lost["last"]
        rows.append(answer("turnover", network, "while memory is acquired", more, then))
    return pd.DataFrame(rows)


def window_answers(networks: xr.Dataset) -> pd.DataFrame:
    """Answer which window of training at another α costs the most reference memory.

    Parameters
    ----------
    networks
        `error` (model, alpha, maps, memory) of networks with the coordinates `window` ("never" is
        the control) and `seed` along ``model``.

    Returns
    -------
    pandas.DataFrame
        "cost": errors on trained maps at the last α of training minus those of the control of the
        same seed, means over seeds with their 95 % intervals (Student's t). "costs" if the whole
        interval is above 0, "gains" if below, else "undecided". "most": cost of the costliest
        window minus the cost of each other window; "more" if the whole interval is above 0,
        "less" if below, else "undecided".
    """
    tested = networks["error"].sel(maps="trained").isel(alpha=0)
    by_seed = tested.set_index(model=["window", "seed"]).unstack("model")
    rows = []
    for memory in ("reference", "working"):
        errors = by_seed.sel(memory=memory).transpose("window", "seed")
        cost = pd.DataFrame((errors - errors.sel(window="never")).to_pandas())
        for window in (w for w in dict.fromkeys(networks["window"].values) if w != "never"):
            rows.append(answer("cost", window, f"{memory} memory", cost.loc[window], costs))
        if memory == "reference":
            parts = cost.drop(["never", "throughout"], errors="ignore")
            most = str(parts.mean(axis=1).idxmax())
            for window in parts.index.drop(most):
                more = parts.loc[most] - parts.loc[window]
                rows.append(answer("most", f"{most} − {window}", "reference memory", more, more_of))
    return pd.DataFrame(rows)


def share_lost(curves: xr.Dataset) -> xr.DataArray:
    """Fraction of reference memory that a condition costs: cost / (chance - intact error).

    0: nothing is lost, 1: everything. The fraction makes sets of maps comparable that are not
    remembered equally well: a condition that removes all memory costs more if there was more.
    """
    intact = curves["error"].sel(condition="intact", drop=True)
    return ((curves["error"] - intact) / (curves.attrs["chance"] - intact)).sel(memory="reference")


def amnesia_answers(curves: xr.Dataset) -> pd.DataFrame:
    """Answer what is forgotten, and whether recent memory is more vulnerable.

    Parameters
    ----------
    curves
        Results of :func:`amnesia_curve` along ``model``, with the coordinates `rehearsal` and
        `seed`, and `kept_excess` (model) of the place cells before the further training.

    Returns
    -------
    pandas.DataFrame
        All rows are about reference memory, at the last step unless stated otherwise:

        - "learnt": chance minus the error of the intact network on every set of maps but the
          first; "learnt" if the whole interval over seeds is at least 0.3, else "not shown". On
          the novel maps, which were never trained, "none" if the whole interval is within 0.05
          of 0.
        - "forgetting" of the first set of maps, "forgets" if the whole interval is above 0.
        - "gradient" of every condition: the fraction of memory lost on the last set of maps minus
          that on the first, "recent suffers more" if the whole interval is above 0, "old suffers
          more" if it is below. "not tested" unless the mean error of the intact networks is 0.3
          below chance on both.
        - "hardening": the fraction of the memory of the last set that is lost at the first step at
          which its mean error is 0.3 below chance, minus that at the last step; "later costs less"
          if the whole interval is above 0, "later costs more" if it is below.
        - "survival" of place cells beyond chance, "some survive" if the whole interval is above 0,
          "fewer than by chance" if it is below.
    """
    rows: list[Answer] = []
    for rehearsal in dict.fromkeys(curves["rehearsal"].values.tolist()):
        here = curves.isel(model=np.flatnonzero(curves["rehearsal"].values == rehearsal))
        rows += amnesia_of(here, f"rehearsal: {rehearsal}")
    return pd.DataFrame(rows)


def amnesia_of(curves: xr.Dataset, words: str) -> list[Answer]:
    """Answer the questions for networks with the same training."""
    old, *later, novel = map(str, curves["maps"].values)
    new, lost = later[-1], share_lost(curves)
    error = curves["error"].sel(memory="reference", condition="intact")
    memory = curves.attrs["chance"] - error
    end = memory.isel(step=-1)
    rows = [
        answer("learnt", words, f"{name} maps", end.sel(maps=name).to_series(), learnt)
        for name in later
    ]
    rows.append(answer("learnt", words, f"{novel} maps", end.sel(maps=novel).to_series(), nothing))
    forgotten = curves["forgetting"].isel(step=-1).sel(memory="reference", maps=old)
    rows.append(answer("forgetting", words, f"{old} maps", forgotten.to_series(), forgets))
    known = memory.mean("model") >= LEARNT
    both = bool(known.isel(step=-1).sel(maps=[old, new]).all())
    gradient = (lost.sel(maps=new) - lost.sel(maps=old)).isel(step=-1)
    first = int(np.argmax(known.sel(maps=new).values))
    hardening = lost.sel(maps=new).isel(step=first) - lost.sel(maps=new).isel(step=-1)
    ever = bool(known.sel(maps=new).values[[first, -1]].all()) and first < memory.sizes["step"] - 1
    for question, values, judge in (
        ("gradient", gradient.where(both), graded),
        ("hardening", hardening.where(ever), hardened),
    ):
        for condition in curves["condition"].values[1:]:
            of_condition = values.sel(condition=condition).to_series()
            rows.append(answer(question, words, str(condition), of_condition, judge))
    survival = answer("survival", words, "place cells", curves["kept_excess"].to_series(), survives)
    return [*rows, survival]


def learnt(found: Estimate) -> str:
    """Verdict on maps that were trained."""
    if np.isnan(found.lower):
        return "not tested"
    return "learnt" if found.lower >= LEARNT else "not shown"


def nothing(found: Estimate) -> str:
    """Verdict on maps that were never trained."""
    if np.isnan(found.lower):
        return "not tested"
    return "none" if found.lower >= -NOTHING and found.upper <= NOTHING else "not shown"


def costs(found: Estimate) -> str:
    """Verdict on the cost of a window."""
    return side(found, "costs", "gains")


def more_of(found: Estimate) -> str:
    """Verdict on the cost of one window against another."""
    return side(found, "more", "less")


def forgets(found: Estimate) -> str:
    """Verdict on forgetting."""
    return side(found, "forgets", "improves")


def graded(found: Estimate) -> str:
    """Verdict on the gradient."""
    return side(found, "recent suffers more", "old suffers more")


def hardened(found: Estimate) -> str:
    """Verdict on the vulnerability of new memory over the steps."""
    return side(found, "later costs less", "later costs more")


def survives(found: Estimate) -> str:
    """Verdict on the place cells that are kept."""
    return side(found, "some survive", "fewer than by chance")


def answer(
    question: str,
    network: str,
    measure: str,
    values: pd.Series,
    judge: Callable[[Estimate], str],
) -> Answer:
    """One row, from one value per seed."""
    found, n = over_seeds(values.to_numpy()), int(np.isfinite(values).sum())
    word = judge(found)
    return Answer(question, network, measure, found.value, found.lower, found.upper, n, word)


def when(octaves: Estimate) -> str:
    """Verdict on a time relative to that of reference memory."""
    if np.isnan(octaves.lower):
        return "not tested"
    if octaves.lower >= -OCTAVES and octaves.upper <= OCTAVES:
        return "with"
    return side(octaves, "after", "before")


def ends(lost: Estimate) -> str:
    """Verdict on the turnover of the last interval."""
    if np.isnan(lost.lower):
        return "not tested"
    if lost.upper < KEPT:
        return "ends"
    return "goes on" if lost.lower > 0 else "undecided"


def then(more: Estimate) -> str:
    """Verdict on the turnover while memory is acquired, against that of the last interval."""
    return side(more, "more then", "less then")


def side(found: Estimate, above: str, below: str) -> str:
    """Word for the side of 0 on which the whole interval lies."""
    if np.isnan(found.lower):
        return "not tested"
    return above if found.lower > 0 else below if found.upper < 0 else "undecided"
