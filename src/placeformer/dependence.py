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


def difference(
    recording: xr.Dataset, control: xr.Dataset, like: xr.DataArray, where: Mapping[str, Any]
) -> dict[str, xr.DataArray]:
    """Test whether place explains more beyond the observation in a recording than in a control.

    Parameters
    ----------
    recording, control
        Recordings of the same units.
    like
        Values (unit,), or (map, unit) to test every map of the recording apart; labels the result.
    where
        Axes and edges of place: ``by`` and ``bins``.

    Returns
    -------
    dict of xarray.DataArray
        ``control_eta2_beyond``, and ``p_memory`` and ``q_memory`` of Welch's one-sided test between
        the values of eight parts of each recording.
    """
    given = "observation" if _both_have("observation", recording, control) else None
    there = position_variance_explained(control, given=given, **where)
    second = _parts(control, given, where)
    if schema.MAP in like.dims:
        walks = [np.flatnonzero(recording[schema.MAP].values == m) for m in like[schema.MAP].values]
        each = [_parts(recording.isel({schema.WALK: w}), given, where) for w in walks]
        p = np.stack([_welch(first, second) for first in each])
    else:
        p = _welch(_parts(recording, given, where), second)
    beyond = f" beyond {given}" if given else ""
    about = f"variance explained by place{beyond} is greater than in the control"
    q = like.copy(data=benjamini_hochberg(p))
    return {
        "control_eta2_beyond": there.assign_attrs(long_name=f"{there.attrs['long_name']}, control"),
        "p_memory": like.copy(data=p).assign_attrs(units="1", long_name=f"p that {about}"),
        "q_memory": q.assign_attrs(units="1", long_name=f"q that {about}"),
    }


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
