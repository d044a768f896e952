"""Place cells: criteria for every unit, the first criterion it fails, and dependence on memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from placeformer._options import check_number, check_option
from placeformer._warnings import warn
from placeformer.data import schema
from placeformer.data.unit_identity import check_same_measures, check_same_units
from placeformer.spatial.binning import BinnedRecording, Bins, Circular, observation_of_bins
from placeformer.spatial.cell_types import cell_type_columns, scores_of_maps
from placeformer.spatial.field_detection import Criteria
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.null_distributions import shuffled_variance
from placeformer.spatial.place_cell_score import field_share, place_cell_score
from placeformer.spatial.place_fields import place_fields
from placeformer.spatial.place_shuffles import CircularShifts
from placeformer.spatial.rate_maps import (
    RUNNING,
    SECONDS_PER_SAMPLE,
    Smooth,
    check_split,
    flatten,
    maps_of_parts,
    of_directions,
    per_unit,
    stacked,
)
from placeformer.spatial.shuffle_test import (
    OBSERVATION,
    VARIANCE,
    Null,
    chance_corrected,
    choose_null,
    compare_with_shuffles,
)
from placeformer.spatial.stability import agreement, maps_of_halves, reliability
from placeformer.spatial.variance_explained import Cells, sums_of_squares, variance_explained
from placeformer.stats.monte_carlo import check_n
from placeformer.stats.multiple_comparisons import benjamini_hochberg

PLACE_CELL = "place cell"

TESTED = ("place", "beyond", "within_observation")
"""Tests of every unit, named by the suffix of their columns."""

ASKED: tuple[dict[str, Any], ...] = (
    {"statistic": VARIANCE},
    {"statistic": VARIANCE, "given": OBSERVATION},
    {"statistic": "coherence", "null": "within_observation"},
)
"""Options of :func:`shuffle_test` for each test, in the order of ``TESTED``."""

LEAST, MOST = {"min_reliability": -1}, {"min_fields": np.inf}
"""Minimum and maximum of the limits whose range is not 0 to 1."""

SAMPLES_A_BIN = 30
"""Number of samples in the median visited bin below which there is a warning."""

CHANCE_SHIFTS = 20
"""Number of circular shifts whose mean is the variance explained by chance in a part."""

PARTS = 8
"""Number of parts of a recording; one value per part is the sample of the test."""


def place_cells(
    recording: xr.Dataset,
    *,
    control: xr.Dataset | None = None,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    per_map: bool = False,
    circular: Circular = None,
    split: Literal["direction"] | None = None,
    min_speed: float | None = None,
    negatives: Negatives = "rectify",
    n_shuffles: int | Literal["auto"] = "auto",
    null: Null = "auto",
    min_shift: int | None = None,
    seed: int = 0,
    max_q: float = 0.05,
    min_fields: int = 1,
    min_field_share: float = 0.5,
    min_reliability: float = 0.5,
    field_criteria: Mapping[str, Any] | None = None,
    cell_types: bool = True,
    keep_null: bool = False,
    allow_other_units: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Decide which units are place cells, and report why the others are not.

    A unit is a place cell of a map if, in this order,

    1. place explains more of its variance than if the places are shuffled between walks, or in
       time,
    2. the same holds for the variance that the observation (the letter) leaves unexplained,
    3. its rate map is more coherent than when the rates of places with the same observation are
       permuted,
    4. it has a place field,
    5. its fields contain most of the structure that two halves of the recording have in common
       beyond the letter, and
    6. its map is reliable: the maps of the halves are similar, given their length.

    No criterion depends on a policy for negative activations, or on their scale or offset.

    Parameters
    ----------
    recording
        Recording on one map, or with ``per_map`` on several.
    control
        Recording of the same units on novel maps, used to test whether the tuning depends on
        memory.
    by, bins
        Axes and bins of place, as in :func:`rate_maps`.
    smooth, min_occupancy
        Options of :func:`rate_maps` for all maps: those of the columns, of the halves and of the
        permuted places in test (3). Tests (1) and (2) use samples, which are not smoothed.
        Recordings of animals need smoothing, because noise makes unsmoothed half maps of many bins
        differ even where the tuning is the same.
    per_map
        Decide for every map of the recording separately.
    circular
        Period of every circular variable, as in :func:`rate_maps`.
    split, min_speed
        ``split="direction"``: decide for each direction of running along the one axis of ``by``
        separately, on a leading dimension ``direction``, from the samples in this direction at
        ``min_speed`` or more, as in :func:`rate_maps`. The tests of speed and heading use all
        samples.
    negatives
        Policy of the columns ``spatial_information``, ``place_cell_score`` and
        ``mean_vector_length``, which do not enter the decision.
    n_shuffles, null, min_shift, seed
        Number, kind, minimum shift and seed of the shuffles of each test, as in
        :func:`shuffle_test`. With ``"auto"``, few shuffles are enough if many units are tuned;
        otherwise further shuffles are made for the undecided units. The null is that of tests (1)
        and (2), ``"walks"`` or ``"circular"``.
    max_q
        Maximum q in tests (1) to (3): the accepted false-discovery rate, 5 % by convention
        (Benjamini and Hochberg, 1995). The 95 % or 99 % quantile of shuffles that is usual for
        single cells would accept tens of units among thousands of untuned ones. The family of tests
        is all units on one map, in one direction. Among the units that pass on any of m maps, or in
        either of two directions, the false-discovery rate is up to m or two times as high.
    min_fields
        Minimum number of fields (:func:`place_fields`): a place cell has at least one by definition
        (O'Keefe and Dostrovsky, 1971).
    min_field_share
        Minimum fraction of the structure of the map that lies in fields. The structure is the sum
        over places of the product of the two halves' differences from their medians, which are
        taken separately over the places of each observation. Above 0.5 the fields outweigh all
        other effects of place on the unit. Criterion (2) accounts for the effect of the
        observations.
    min_reliability
        Minimum correlation expected between two maps with 400 samples per place (20 s of timed
        data), the length of the halves of a default recording. It is extrapolated from the
        correlation of the two halves (``stability``) with the Spearman-Brown formula, so that the
        decision does not depend on the length of the recording. At 0.5, half of the variance of
        such a map over places is replicable.
    field_criteria
        Criteria of :func:`place_fields`, such as ``{"min_bins": 6}``.
    cell_types
        Whether to test the scores of grid and border cells and the heading as well, for the column
        ``cell_type``; for many units this takes as long as the rest.
    keep_null
        Also return the statistic of every test in every shuffle.
    allow_other_units
        Accept a control whose units have other labels or come from another network or recording
        session, and pair the units by position.
    progress
        Show progress bars (tqdm).

    Returns
    -------
    xarray.Dataset
        Over ``unit`` (with leading ``direction`` and ``map`` where these are separate);
        ``.to_dataframe()`` gives one row per unit. ``spatial_information`` (bits/spike),
        ``place_cell_score``, ``mean_rate`` (in the units of the activations), ``grid_score``,
        ``border_score`` (of maps whose lowest rate is subtracted, so that it is defined for signed
        activations), ``eta2`` (variance explained by place), ``eta2_beyond`` (beyond the
        observation), ``eta2_corrected`` and ``eta2_beyond_corrected`` (corrected for the variance
        that slow activations explain by chance: (eta2 - m) / (1 - m) with m the mean of the
        shuffles; compare these between networks), ``n_fields``, ``field_share``, ``stability``
        (correlation of the halves), ``reliability``; p and q of the tests (1) to (3), ``p_place``,
        ``q_place``, ``p_beyond``, ``q_beyond``, ``p_within_observation``, ``q_within_observation``;
        ``is_place_cell`` and ``reason``: the first criterion failed, or "place cell". NaN where a
        measure is undefined; a constant unit is not a place cell ("constant").

        With ``cell_types`` also ``cell_type``, the first of these that applies: "head-direction
        cell" (where the recording has ``head_direction`` or ``heading``: the heading explains
        variance, and more than place does), "grid cell", "border cell" (the score is higher than in
        shuffles of the places, and above 0.2), "place cell", "speed cell" (where the recording has
        ``speed``: the activity is correlated with it, and it explains more variance than place
        does), or "other". The variances compared are those beyond the variance explained by chance
        (``eta2_corrected``). The tests are ``p_grid_score``, ``q_grid_score``, ``p_border_score``,
        ``q_border_score`` (1 for units that are not tuned to place or score at most 0.2, NaN where
        the maps have no such score, as on a track), ``head_direction`` (variance explained by the
        heading), ``p_head_direction``, ``q_head_direction``, and ``speed_score``,
        ``p_speed_score``, ``q_speed_score``; ``mean_vector_length`` and ``preferred_direction``
        describe the heading (:func:`head_direction`, :func:`speed_score`). A grid or border cell
        that meets the criteria above has ``is_place_cell`` as well.

        With ``keep_null`` also ``null_place``, ``null_beyond`` and
        ``null_within_observation``: the statistic (eta squared, partial eta squared, coherence) in
        every shuffle, on a leading dimension ``shuffle``; with ``n_shuffles="auto"`` in the first
        50, which are made for every unit.

        Without ``observation``, criteria (2) and (3) are left out, their columns and
        ``eta2_beyond`` are NaN, and ``attrs["left_out"]`` lists them.

        With ``control`` also ``control_is_place_cell`` (on any map of the control),
        ``control_eta2_beyond`` (over its maps), ``p_memory``, ``q_memory`` and
        ``depends_on_memory``: a place cell that is not a place cell on any map of the control and
        whose partial eta squared is larger than in the control. The test is a one-sided Welch test
        between the values of eight parts of each recording (groups of walks, or parts of the time
        if there are fewer walks), each corrected by the mean of circular shifts within the part. It
        generalises only to other parts of the recorded maps: record several maps to generalise to
        other maps.

    Raises
    ------
    ValueError
        The recording holds several maps and ``per_map`` is False, the control has other units or
        other units of measure or was recorded on trained maps, the bins hold no sample, or an
        option is out of range.

    Warns
    -----
    UserWarning
        The median bin has fewer than 30 samples and ``smooth`` is None, ``n_shuffles`` is too small
        for the minimum p of a unit to pass ``max_q``, or as in :func:`shuffle_test`.

    See Also
    --------
    shuffle_test : Test one statistic against chance.
    place_fields : Place fields of rate maps.
    place_cell_score : How much of a unit's activity lies in one small place field.
    stability : Correlation of the rate maps of two halves of a recording.

    Notes
    -----
    If every place has a different observation, place and observation cannot be distinguished and
    no unit passes. A unit that responds to the observations at neighbouring places varies smoothly
    over places and can pass, also on novel maps.

    References
    ----------
    O'Keefe, J. and Dostrovsky, J. (1971). Brain Research 34, 171-175.
    https://doi.org/10.1016/0006-8993(71)90358-1
    Muller, R. U. and Kubie, J. L. (1989). Journal of Neuroscience 9, 4101-4110 (coherence).
    https://doi.org/10.1523/JNEUROSCI.09-12-04101.1989
    Benjamini, Y. and Hochberg, Y. (1995). Journal of the Royal Statistical Society B 57,
    289-300. https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=8, n_steps=256, layers="ffn.1", progress=False)
    >>> table = pf.place_cells(recording.isel(unit=slice(64)), progress=False)
    >>> table.is_place_cell.dims, bool(table.is_place_cell.any())
    (('unit',), True)
    >>> set(table.reason.values[table.is_place_cell]) == {"place cell"}
    True
    """
    limits: dict[str, Any] = {
        "max_q": max_q,
        "min_fields": min_fields,
        "min_field_share": min_field_share,
        "min_reliability": min_reliability,
    }
    check_limits(limits)
    _check_criteria(field_criteria)
    need = (schema.MAP,) if per_map else ()
    binned = BinnedRecording.of(recording, by=by, bins=bins, need=need, circular=circular)
    binned.check_visited()
    if _several(recording) and not per_map:
        raise ValueError(
            "a unit is a place cell of one map, but recording holds several: pass per_map=True, "
            "or select one with recording.isel(walk=(recording['map'] == 0).values)"
        )
    n = check_n("n_shuffles", n_shuffles)
    check_option("null", null, ("auto", "walks", "circular"))
    check_split(split, min_speed)
    settings: dict[str, Any] = {
        "n_shuffles": n,
        "null": null,
        "min_shift": min_shift,
        "seed": seed,
        "progress": progress,
    }
    options: dict[str, Any] = {
        "negatives": negatives,
        "field_criteria": dict(field_criteria or {}),
        "smooth": smooth,
        "min_occupancy": min_occupancy,
    }
    binned_control: BinnedRecording | None = None
    if control is not None:
        names, edges = binned.grid.names, {axis.name: axis.edges for axis in binned.grid.axes}
        binned_control = BinnedRecording.of(
            control, by=names, bins=edges, circular=binned.grid.periods
        )
        check_control(recording, control, names, allow_other_units=allow_other_units)
        binned_control.check_visited("control")
    parts: list[BinnedRecording] = [binned]
    controls: list[BinnedRecording | None] = [binned_control]
    if split is not None:
        parts, controls = of_directions(binned, min_speed), [None, None]
        if binned_control is not None:
            controls = [*of_directions(binned_control, min_speed)]
    tables = []
    for part, other in zip(parts, controls, strict=True):
        table = _decided(
            part, per_map, limits, settings, keep_null=keep_null, cell_types=cell_types, **options
        )
        if other is not None:
            there = _decided(other, _several(other.recording), limits, settings, **options)
            table = _with(table, memory_columns(table, there, part, other, max_q))
        tables.append(table)
    table = tables[0] if split is None else stacked(tables, RUNNING)
    table.attrs = {
        **limits,
        "n_shuffles": n_shuffles,
        "null": table.attrs["null"],
        "seed": seed,
        "left_out": _left_out(recording),
    }
    table.attrs[schema.PROVENANCE] = schema.provenance(
        recording,
        "place_cells",
        **limits,
        **settings | {"n_shuffles": n_shuffles},
        **options,
        per_map=per_map,
        **({} if split is None else {"split": split, "min_speed": min_speed}),
    )
    return table


def check_limits(limits: Mapping[str, float]) -> None:
    """Raise if a limit is out of range."""
    for name, value in limits.items():
        check_number(name, value)
        low, high = LEAST.get(name, 0), MOST.get(name, 1)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low} and {high}, got {value}")


def _check_criteria(criteria: Mapping[str, Any] | None) -> None:
    """Raise for unknown criteria of fields, before anything is measured."""
    known = list(Criteria.__dataclass_fields__)
    if criteria is not None and not (isinstance(criteria, Mapping) and {*criteria} <= {*known}):
        raise ValueError(
            f"field_criteria must map criteria of place_fields, which are {known}, to their "
            f"values, got {criteria!r}"
        )


def _several(recording: xr.Dataset) -> bool:
    """Whether a recording was made on more than one map."""
    return schema.MAP in recording.variables and np.unique(recording[schema.MAP].values).size > 1


def _left_out(recording: xr.Dataset) -> str:
    """Criteria that cannot be tested with the recording."""
    if OBSERVATION in recording.variables:
        return "nothing"
    return "eta2_beyond, beyond and within_observation: the recording has no 'observation'"


def _decided(
    binned: BinnedRecording,
    per_map: bool,
    limits: Mapping[str, float],
    shuffles: Mapping[str, Any],
    *,
    negatives: Negatives,
    field_criteria: Mapping[str, Any],
    keep_null: bool = False,
    cell_types: bool = False,
    **of_maps: Any,
) -> xr.Dataset:
    """Measures, tests and decision of every unit of one recording."""
    shuffles = {**shuffles, "null": choose_null(binned, shuffles["null"], shuffles["min_shift"])}
    (maps,) = maps_of_parts(binned.split_by_map() if per_map else binned, **of_maps)
    if of_maps["smooth"] is None:
        _warn_of_few_samples(maps)
    tests = _tests(binned, per_map, shuffles, limits["max_q"], keep_null, of_maps)
    table = _measures(binned, maps, tests, negatives, field_criteria, of_maps)
    columns = ("p", "q", "null") if keep_null else ("p", "q")
    for name, test in tests.items():
        table = _with(table, {f"{column}_{name}": test[column] for column in columns})
    letters = OBSERVATION in binned.recording.variables
    table = _with(table, decide(table, limits, letters)).assign_attrs(null=shuffles["null"])
    if not cell_types:
        return table
    types = cell_type_columns(
        binned,
        table,
        {**shuffles, "per_map": per_map, "keep_null": False},
        max_q=limits["max_q"],
        negatives=negatives,
        of_maps=of_maps,
    )
    return _with(table, types)


def _with(table: xr.Dataset, columns: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """The table with further columns, which no coordinate of the units may be named like."""
    schema.refuse_names(table, columns)
    return table.assign(columns)


def _measures(
    binned: BinnedRecording,
    maps: xr.Dataset,
    tests: Mapping[str, xr.Dataset],
    negatives: Negatives,
    field_criteria: Mapping[str, Any],
    of_maps: Mapping[str, Any],
) -> xr.Dataset:
    """Measures of every unit; the variances explained are the observed statistics of the tests."""
    if schema.MAP in maps.dims:
        binned = binned.split_by_map()
    fields = place_fields(maps, **field_criteria)
    has_observation = OBSERVATION in binned.recording.variables
    observation = observation_of_bins(binned) if has_observation else None
    halves = maps_of_halves(binned, **of_maps)
    beyond = tests["beyond"]["observed"]
    stability = agreement(halves)
    columns = {
        "spatial_information": spatial_information(maps, negatives=negatives),
        "place_cell_score": place_cell_score(maps, negatives=negatives, fields=fields),
        "mean_rate": _mean_rate(maps),
        **scores_of_maps(maps),
        "eta2": tests["place"]["observed"],
        "eta2_beyond": beyond.assign_attrs(long_name="variance explained beyond observation"),
        "eta2_corrected": chance_corrected(tests["place"]),
        "eta2_beyond_corrected": chance_corrected(tests["beyond"]),
        "n_fields": fields["n_fields"],
        "field_share": field_share(halves, fields, observation),
        "stability": stability,
        "reliability": reliability(halves, stability),
    }
    schema.refuse_names(binned.recording, columns)
    return xr.Dataset(columns)


def _mean_rate(maps: xr.Dataset) -> xr.DataArray:
    """Mean activation of every unit over the samples with a place."""
    rate, share = flatten(maps)
    mean = np.einsum("...b,...b->...", np.where(share > 0, rate, 0.0), share)
    mean = np.where((share > 0).any(axis=-1), mean, np.nan)
    units = str(maps[schema.RATE].attrs.get("units", "1"))
    about = {"units": units, "long_name": "mean activation over all places"}
    return per_unit(maps, mean, "mean_rate", **about)


def _tests(
    binned: BinnedRecording,
    per_map: bool,
    shuffles: Mapping[str, Any],
    max_q: float,
    keep_null: bool,
    of_maps: Mapping[str, Any],
) -> dict[str, xr.Dataset]:
    """Tests of every unit against chance, NaN where the recording has no observation."""
    options: dict[str, Any] = {
        **shuffles, "max_q": max_q, "per_map": per_map, "keep_null": keep_null
    }  # fmt: skip
    tests: dict[str, xr.Dataset] = {}
    for name, question in zip(TESTED, ASKED, strict=True):
        if name == "place" or OBSERVATION in binned.recording.variables:
            smoothed = {} if question["statistic"] == VARIANCE else dict(of_maps)
            tests[name] = compare_with_shuffles(binned, **options | question | smoothed)
            _warn_of_few_shuffles(tests[name], max_q)
        else:
            tests[name] = xr.full_like(tests["place"], np.nan, dtype=float)
    return tests


def decide(
    table: xr.Dataset, limits: Mapping[str, float], letters: bool
) -> dict[str, xr.DataArray]:
    """Whether each unit is a place cell, and the first criterion it fails.

    ``letters``: whether the recording has observations, without which criteria are left out.
    """
    above = {name: ~(table[f"q_{name}"].values <= limits["max_q"]) for name in TESTED}
    failed = {
        "constant": np.isnan(table["eta2"].values),
        "not tuned to place": above["place"],
        "follows the observation": above["beyond"] & letters,
        "places scattered": above["within_observation"] & letters,
        "too few fields": table["n_fields"].values < limits["min_fields"],
        "active outside its fields": ~(table["field_share"].values >= limits["min_field_share"]),
        "unstable": ~(table["reliability"].values >= limits["min_reliability"]),
    }
    reason = np.select(list(failed.values()), list(failed), PLACE_CELL)
    like = table["eta2"].drop_attrs()
    columns = {
        "is_place_cell": (reason == PLACE_CELL, "unit is a place cell"),
        "reason": (reason, "first criterion failed"),
    }
    return {
        name: like.copy(data=values).assign_attrs(units="1", long_name=text)
        for name, (values, text) in columns.items()
    }


def _warn_of_few_samples(maps: xr.Dataset) -> None:
    occupancy = maps[schema.OCCUPANCY].values / maps.attrs.get(SECONDS_PER_SAMPLE, 1)
    visits = np.round(occupancy[occupancy > 0], 1)
    if visits.size and np.median(visits) < SAMPLES_A_BIN:
        warn(
            f"the median bin has {np.median(visits):g} samples, fewer than {SAMPLES_A_BIN}: noise "
            "makes rate maps of so few samples look spatial; record longer, use wider bins or "
            "pass smooth",
        )


def _warn_of_few_shuffles(test: xr.Dataset, max_q: float) -> None:
    """Warn if units that no shuffle reached fail only because there are too few shuffles."""
    n, q = test.attrs["n_shuffles"], test["q"].values
    if n == "auto":
        return
    least = (test["p"].values <= 1.0000001 / (n + 1)) & (q > max_q)
    if least.any():
        warn(
            f"no {test.attrs['null']} shuffle reached {int(least.sum())} units, yet their q is up "
            f"to {q[least].max():.2g} > max_q={max_q}: with n_shuffles={n} and "
            f"{q.shape[-1]} units p cannot be small enough; raise n_shuffles",
        )


def check_control(
    recording: xr.Dataset,
    control: xr.Dataset,
    by: Sequence[str],
    *,
    allow_other_units: bool = False,
) -> None:
    """Raise if a control has other units or was recorded on trained maps.

    Raises
    ------
    ValueError
        The units differ (:func:`check_same_units`), the activations or the axes ``by`` are in
        other units of measure, or a walk of the control is on a trained map.
    """
    names = ("recording", "control")
    check_same_units(recording, control, names, allow_other_units=allow_other_units)
    check_same_measures(recording, control, names, (schema.ACTIVATION, *by))
    if "familiar" in control.variables and np.any(control["familiar"].values):
        raise ValueError(
            "control must be recorded on novel maps, but 'familiar' is true for some walks; "
            "record it with familiar=False"
        )


def memory_columns(
    table: xr.Dataset,
    control_table: xr.Dataset,
    recording: BinnedRecording,
    control: BinnedRecording,
    max_q: float,
) -> dict[str, xr.DataArray]:
    """Columns that a control adds to a table of place cells.

    Parameters
    ----------
    table, control_table
        Tables of the recording and of the control, computed separately.
    recording, control
        Recordings of the same units, with the maps pooled.
    max_q
        Maximum q of a unit whose tuning depends on memory.
    """
    maps = [d for d in control_table["is_place_cell"].dims if d != schema.UNIT]
    there = control_table["is_place_cell"].any(maps)
    both = (OBSERVATION in binned.recording.variables for binned in (recording, control))
    given = OBSERVATION if all(both) else None
    explained = _variance_explained(control, given)
    p = _memory_p(recording, control, table["eta2"], given)
    q = benjamini_hochberg(p)
    depends = table["is_place_cell"].values & ~there.values & (q <= max_q)
    less = "place explains less in the control"
    columns = {
        "control_is_place_cell": (there, "unit is a place cell of a map of the control"),
        "control_eta2_beyond": (explained, f"{explained.attrs['long_name']}, control"),
        "p_memory": (table["eta2"].copy(data=p), f"p that {less}"),
        "q_memory": (table["eta2"].copy(data=q), f"q that {less}"),
        "depends_on_memory": (
            table["is_place_cell"].copy(data=depends),
            "place cell of no map of the control, and place explains less there",
        ),
    }
    return {
        name: values.drop_attrs().assign_attrs(units="1", long_name=text)
        for name, (values, text) in columns.items()
    }


def _memory_p(
    recording: BinnedRecording, control: BinnedRecording, like: xr.DataArray, given: str | None
) -> NDArray[np.float64]:
    """P-value of every unit (and map) of the recording, shaped as ``like``."""
    control_parts = _variance_of_parts(control, given)
    if schema.MAP not in like.dims:
        return _welch(_variance_of_parts(recording, given), control_parts)
    map_of_walk = recording.recording[schema.MAP].values
    walks = [np.flatnonzero(map_of_walk == number) for number in like[schema.MAP].values]
    of_maps = (_variance_of_parts(recording.isel(schema.WALK, w), given) for w in walks)
    return np.stack([_welch(parts, control_parts) for parts in of_maps])


def _variance_of_parts(binned: BinnedRecording, given: str | None) -> NDArray[np.float64]:
    """Variance explained (part, unit) in groups of walks, or in parts of the time of all walks.

    The variance that place explains by chance grows with the autocorrelation of a unit, which may
    differ between recordings, so the mean of circular shifts within each part is removed.
    """
    sizes = binned.recording.sizes
    dim = schema.WALK if sizes[schema.WALK] >= PARTS else schema.TIME
    parts = np.array_split(np.arange(sizes[dim]), min(PARTS, sizes[dim]))
    slices = (slice(part[0], part[-1] + 1) for part in parts)
    return np.stack([_beyond_chance(binned.isel(dim, s), given) for s in slices])


def _beyond_chance(binned: BinnedRecording, given: str | None) -> NDArray[np.float64]:
    """Variance explained (unit,) corrected by the mean of circular shifts."""
    shifts = CircularShifts(binned.lengths, binned.recording.sizes[schema.TIME], None)
    null = shuffled_variance(binned, False, shifts, np.random.default_rng(0), given=given)
    chance = np.concatenate(list(null.draw(int(min(CHANCE_SHIFTS, shifts.distinct))))).mean(axis=0)
    return np.asarray((null.observed.values - chance) / (1 - chance))


def _variance_explained(binned: BinnedRecording, given: str | None) -> xr.DataArray:
    """Variance explained by place, over all maps."""
    cells = Cells.of(binned, given=given)
    return variance_explained(cells, *sums_of_squares(cells))


def _welch(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-sided p of Welch's test that the first sample (part, unit) has the larger mean."""
    numbers = [
        (values.mean(axis=0), values.std(axis=0, ddof=1), len(values)) for values in (first, second)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):  # units without variance: NaN
        test = stats.ttest_ind_from_stats(
            *numbers[0], *numbers[1], equal_var=False, alternative="greater"
        )
    return np.asarray(test.pvalue)
