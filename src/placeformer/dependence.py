"""Whether tuning depends on memory: partial variances of a recording beside those of a control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from placeformer import schema
from placeformer.shuffles import benjamini_hochberg
from placeformer.variance import position_variance_explained

PARTS = 8
"""Parts of a recording whose values are the sample of a test."""

IDENTITY = ("layer", "component", "index")


def check_control(recording: xr.Dataset, control: xr.Dataset) -> None:
    """Refuse a control with other units, or one made on trained maps.

    Raises
    ------
    ValueError
        The units differ in number, layer, component or index, or a walk of the control is on a
        trained map.
    """
    schema.check_recording(control)
    units = [each.sizes[schema.UNIT] for each in (recording, control)]
    if units[0] != units[1]:
        raise ValueError(f"control must hold the {units[0]} units of recording, found {units[1]}")
    for name in set(IDENTITY) & set(recording.coords) & set(control.coords):
        if not np.array_equal(recording[name].values, control[name].values):
            raise ValueError(
                f"control must hold the units of recording in their order, but {name!r} differs"
            )
    if "familiar" in control.variables and np.any(control["familiar"].values):
        raise ValueError(
            "control must be recorded on novel maps, but 'familiar' is true for some walks; "
            "record it with familiar=False"
        )


def memory_columns(
    table: xr.Dataset,
    alone: xr.Dataset,
    recording: xr.Dataset,
    control: xr.Dataset,
    where: Mapping[str, Any],
    max_q: float,
) -> dict[str, xr.DataArray]:
    """What a control adds to a table of place cells.

    Parameters
    ----------
    table, alone
        Tables of the recording and of the control by itself.
    recording, control
        Recordings of the same units.
    where
        Axes and edges of place: ``by`` and ``bins``.
    max_q
        Greatest q of a unit whose tuning depends on memory.
    """
    of_maps = [d for d in alone["is_place_cell"].dims if d != schema.UNIT]
    there = alone["is_place_cell"].any(of_maps)
    given = "observation" if _both_have("observation", recording, control) else None
    explained = position_variance_explained(control, given=given, **where)
    p = _test(recording, control, table["eta2"], given, where)
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


def _test(
    recording: xr.Dataset,
    control: xr.Dataset,
    like: xr.DataArray,
    given: str | None,
    where: Mapping[str, Any],
) -> NDArray[np.float64]:
    """P of every unit (and map) of the recording, shaped as ``like``."""
    second = _parts(control, given, where)
    if schema.MAP not in like.dims:
        return _welch(_parts(recording, given, where), second)
    walks = [np.flatnonzero(recording[schema.MAP].values == m) for m in like[schema.MAP].values]
    each = (_parts(recording.isel({schema.WALK: w}), given, where) for w in walks)
    return np.stack([_welch(first, second) for first in each])


def _both_have(name: str, *recordings: xr.Dataset) -> bool:
    return all(name in each.variables for each in recordings)


def _parts(
    recording: xr.Dataset, given: str | None, where: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Variance explained (part, unit) in groups of walks, or in parts of the time of all walks."""
    dim = schema.WALK if recording.sizes[schema.WALK] >= PARTS else schema.TIME
    cuts = np.array_split(np.arange(recording.sizes[dim]), min(PARTS, recording.sizes[dim]))
    parts = [recording.isel({dim: slice(cut[0], cut[-1] + 1)}) for cut in cuts]
    return np.stack([position_variance_explained(p, given=given, **where).values for p in parts])


def _welch(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-sided p of Welch's test that the first sample (part, unit) has the greater mean."""
    numbers = [
        (values.mean(axis=0), values.std(axis=0, ddof=1), len(values)) for values in (first, second)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):  # units without variance: NaN
        test = stats.ttest_ind_from_stats(
            *numbers[0], *numbers[1], equal_var=False, alternative="greater"
        )
    return np.asarray(test.pvalue)
