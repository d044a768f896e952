"""Which units are place cells: every measure, both tests against chance, and the decision."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from placeformer import schema
from placeformer.binning import Bins, grid
from placeformer.dependence import check_control, difference
from placeformer.fields import place_fields
from placeformer.halves import stability
from placeformer.measures import spatial_information
from placeformer.negatives import Negatives
from placeformer.placecells import place_cell_score
from placeformer.ratemaps import rate_maps
from placeformer.shuffles import Null, shuffle_test
from placeformer.variance import position_variance_explained

SAMPLES_A_BIN = 30
"""Fewer samples in the median visited bin make a warning."""

NULLS: dict[Null, str] = {
    "circular": "position_variance_explained",
    "within_observation": "coherence",
}
"""The statistic that is tested under each null."""

PLACE_CELL = "place cell"


def place_cells(
    recording: xr.Dataset,
    *,
    control: xr.Dataset | None = None,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    per_map: bool = False,
    negatives: Negatives = "rectify",
    n: int = 1000,
    min_shift: int | None = None,
    seed: int = 0,
    max_q: float = 0.05,
    min_fields: int = 1,
    min_stability: float = 0.5,
    field_criteria: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Decide which units are place cells, and say why the others are not.

    A unit is a place cell of a map if, in this order, (1) place explains more of its variance
    than under circular shifts, (2) its rate map is more coherent than when places of the same
    letter trade their rates, (3) it has a place field and (4) the maps of two halves of the
    recording agree. No criterion depends on a policy for negative activations, on their scale or
    on their offset.

    Parameters
    ----------
    recording
        Recording on one map, or with ``per_map`` on several.
    control
        Recording of the same units on novel maps: adds whether the tuning depends on memory.
    by, bins
        Axes and bins of place, as in :func:`rate_maps`.
    per_map
        Decide for every map of the recording apart.
    negatives
        Policy of the columns ``spatial_information`` and ``place_cell_score``, which take no part
        in the decision.
    n, min_shift, seed
        Shuffles of both nulls, as in :func:`shuffle_test`.
    max_q
        Greatest q under either null: the share of false discoveries that is put up with, 5 % by
        convention (Benjamini and Hochberg, 1995). Literature on single cells asks for the 95 % or
        99 % quantile of the shuffles, which among thousands of units lets through tens.
    min_fields
        Least number of fields (:func:`place_fields`): at least one is what the word means
        (O'Keefe and Dostrovsky, 1971).
    min_stability
        Least correlation of the maps of both halves: from 0.5, by the formula of Spearman and
        Brown, the reliability of the whole map is 2/3 or more, so that two thirds of its variance
        over places would be found again.
    field_criteria
        Criteria of :func:`place_fields`, such as ``{"min_bins": 6}``.
    progress
        Show progress bars (tqdm).

    Returns
    -------
    xarray.Dataset
        Over ``unit`` (or ``map`` and ``unit``); ``.to_dataframe()`` makes a row a unit.
        ``spatial_information`` (bits/spike), ``place_cell_score``, ``eta2`` (variance explained
        by place), ``eta2_beyond`` (beyond the observation), ``p_circular``, ``q_circular``,
        ``p_within_observation``, ``q_within_observation``, ``n_fields``, ``stability``,
        ``is_place_cell`` and ``reason``: the first criterion failed, or "place cell". NaN where a
        measure is undefined; a constant unit is none ("constant").

        Without ``observation`` criterion (2) is left out, its columns and ``eta2_beyond`` are
        NaN, and ``attrs["left_out"]`` says so.

        With ``control`` also ``control_is_place_cell`` (on any of its maps), ``control_eta2_beyond``
        (of all its maps), ``p_memory``, ``q_memory`` and ``depends_on_memory``: a place cell that
        is none on any map of the control and whose partial eta squared is greater than there.
        The test is Welch's, one-sided, between the values of eight parts of each recording (groups
        of walks; parts of the time where there are fewer walks). It speaks of the maps recorded:
        for maps in general record several.

    Raises
    ------
    ValueError
        Several maps without ``per_map``, a control with other units or on trained maps, or an
        option out of range.

    Warns
    -----
    UserWarning
        Fewer than 30 samples in the median bin: noise then makes rate maps look spatial. Or so
        few shuffles that the least possible p of a unit cannot pass ``max_q``.

    Notes
    -----
    A unit that the letter at its place decides fails (2), a field on a map of letters does not.
    Where every place has a letter of its own, place and letter cannot be told apart and no unit
    passes (2). A unit that follows the letters of neighbouring places varies smoothly over places
    and can pass; it does so on novel maps as well, and so does not depend on memory.

    References
    ----------
    O'Keefe, J. and Dostrovsky, J. (1971). Brain Research 34, 171-175.
    https://doi.org/10.1016/0006-8993(71)90358-1
    Muller, R. U. and Kubie, J. L. (1989). Journal of Neuroscience 9, 4101-4110 (coherence).
    https://doi.org/10.1523/JNEUROSCI.09-12-04101.1989
    Benjamini, Y. and Hochberg, Y. (1995). Journal of the Royal Statistical Society B 57,
    289-300. https://doi.org/10.1111/j.2517-6161.1995.tb02031.x
    """
    limits = {"max_q": max_q, "min_fields": min_fields, "min_stability": min_stability}
    _check(recording, per_map, limits)
    edges = {axis.name: axis.edges for axis in grid(recording, by, bins).axes}
    where = {"by": tuple(edges), "bins": edges}
    tests = {"n": n, "min_shift": min_shift, "seed": seed, "progress": progress}
    options = {"negatives": negatives, "field_criteria": dict(field_criteria or {})}
    if control is not None:
        check_control(recording, control)
    table = _measures(recording, where, per_map, negatives, options["field_criteria"])
    table = table.assign(_nulls(recording, where, per_map, tests, max_q))
    table = table.assign(_decision(table, limits))
    if control is not None:
        alone = place_cells(control, per_map=_several(control), **where, **tests, **options, **limits)
        table = table.assign(_control(table, alone, recording, control, where, max_q))
    table.attrs = {**limits, "n": n, "seed": seed, "left_out": _left_out(recording)}
    table.attrs[schema.PROVENANCE] = schema.provenance(
        recording, "place_cells", **limits, **tests, **options, per_map=per_map
    )
    return table


def _check(recording: xr.Dataset, per_map: bool, limits: Mapping[str, float]) -> None:
    """Refuse several maps taken for one, and limits out of range."""
    schema.check_recording(recording)
    rules = [("max_q", 0.0, 1.0), ("min_fields", 0, np.inf), ("min_stability", -1.0, 1.0)]
    for name, low, high in rules:
        if not low <= limits[name] <= high:
            raise ValueError(f"{name} must lie between {low} and {high}, found {limits[name]}")
    if _several(recording) and not per_map:
        raise ValueError(
            "a unit is a place cell of one map, but recording holds several: pass per_map=True, "
            "or pick one with recording.isel(walk=(recording['map'] == 0).values)"
        )


def _several(recording: xr.Dataset) -> bool:
    """Whether a recording was made on more than one map."""
    return schema.MAP in recording.variables and np.unique(recording[schema.MAP].values).size > 1


def _left_out(recording: xr.Dataset) -> str:
    """Which criteria the recording does not allow."""
    if "observation" in recording.variables:
        return "none"
    return "within_observation and eta2_beyond: the recording has no 'observation'"


def _measures(
    recording: xr.Dataset,
    where: Mapping[str, Any],
    per_map: bool,
    negatives: Negatives,
    criteria: Mapping[str, Any],
) -> xr.Dataset:
    """Measures of every unit, without tests."""
    maps = rate_maps(recording, per_map=per_map, **where)
    _warn_of_few_samples(maps[schema.OCCUPANCY])
    fields = place_fields(maps, **criteria)
    eta2 = position_variance_explained(recording, per_map=per_map, **where)
    beyond = eta2.copy(data=np.full(eta2.shape, np.nan))
    if "observation" in recording.variables:
        beyond = position_variance_explained(
            recording, given="observation", per_map=per_map, **where
        )
    columns = {
        "spatial_information": spatial_information(maps, negatives=negatives),
        "place_cell_score": place_cell_score(maps, negatives=negatives, fields=fields),
        "eta2": eta2,
        "eta2_beyond": beyond.assign_attrs(long_name="variance explained beyond observation"),
        "n_fields": fields["n_fields"],
        "stability": stability(recording, per_map=per_map, **where),
    }
    return xr.Dataset(columns)


def _nulls(
    recording: xr.Dataset,
    where: Mapping[str, Any],
    per_map: bool,
    tests: Mapping[str, Any],
    max_q: float,
) -> dict[str, xr.DataArray]:
    """p and q of every unit under each null."""
    columns = {}
    for null, statistic in NULLS.items():
        if null == "circular" or "observation" in recording.variables:
            found = shuffle_test(
                recording, statistic, null=null, per_map=per_map, **where, **tests
            )
            _warn_of_few_shuffles(found, max_q)
            columns |= {f"{name}_{null}": found[name] for name in ("p", "q")}
        else:
            missing = xr.full_like(columns["p_circular"], np.nan)
            columns |= {f"{name}_{null}": missing for name in ("p", "q")}
    return columns


def _decision(table: xr.Dataset, limits: Mapping[str, float]) -> dict[str, xr.DataArray]:
    """Whether each unit is a place cell, and the first criterion it fails."""
    q = {null: table[f"q_{null}"].values for null in NULLS}
    failed = {
        "constant": np.isnan(table["eta2"].values),
        "not tuned to place": ~(q["circular"] <= limits["max_q"]),
        "follows the observation": ~(q["within_observation"] <= limits["max_q"]),
        "too few fields": table["n_fields"].values < limits["min_fields"],
        "unstable": ~(table["stability"].values >= limits["min_stability"]),
    }
    if np.isnan(q["within_observation"]).all():
        del failed["follows the observation"]
    reason = np.select(list(failed.values()), list(failed), PLACE_CELL)
    like = table["eta2"].drop_attrs()
    about = {"is_place_cell": "unit is a place cell", "reason": "first criterion failed"}
    return {
        name: like.copy(data=values).assign_attrs(units="1", long_name=about[name])
        for name, values in (("is_place_cell", reason == PLACE_CELL), ("reason", reason))
    }


def _control(
    table: xr.Dataset,
    alone: xr.Dataset,
    recording: xr.Dataset,
    control: xr.Dataset,
    where: Mapping[str, Any],
    max_q: float,
) -> dict[str, xr.DataArray]:
    """What the control adds: its decision, its partial eta squared, the test on memory."""
    dims = [d for d in alone["is_place_cell"].dims if d != schema.UNIT]
    there = alone["is_place_cell"].any(dims).drop_attrs()
    columns = difference(recording, control, table["eta2"], where)
    depends = table["is_place_cell"].values & ~there.values & (columns["q_memory"].values <= max_q)
    about = {"units": "1", "long_name": "place cell of no control map, and tuned less there"}
    return {
        "control_is_place_cell": there.assign_attrs(
            units="1", long_name="unit is a place cell of a map of the control"
        ),
        **columns,
        "depends_on_memory": table["is_place_cell"].copy(data=depends).assign_attrs(about),
    }


def _warn_of_few_samples(occupancy: xr.DataArray) -> None:
    visits = occupancy.values[occupancy.values > 0]
    if visits.size and np.median(visits) < SAMPLES_A_BIN:
        warnings.warn(
            f"the median bin has {np.median(visits):g} samples, fewer than {SAMPLES_A_BIN}: noise "
            "makes rate maps of so few samples look spatial; record longer or take wider bins",
            UserWarning,
            stacklevel=4,
        )


def _warn_of_few_shuffles(test: xr.Dataset, max_q: float) -> None:
    """Say where units that no shuffle reached fail for want of shuffles."""
    n, q = test.attrs["n"], test["q"].values
    least = (test["p"].values <= 1.0000001 / (n + 1)) & (q > max_q)
    if least.any():
        warnings.warn(
            f"no {test.attrs['null']} shuffle reached {int(least.sum())} units, yet their q is up "
            f"to {q[least].max():.2g} > max_q={max_q}: with n={n} shuffles and "
            f"{q.shape[-1]} units p cannot be small enough; raise n",
            UserWarning,
            stacklevel=4,
        )
