"""Labels of times and units, and units of measure, that arrays from other sources carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import has_units
from placeformer.data import schema
from placeformer.data.clock import ROUNDING

UNIT_ID = "unit_id"
"""Coordinate of the ids that units have at their source."""


def labelled(values: Any) -> Any:
    """Tables of pandas and pynapple as DataArrays with labels, also within lists and mappings.

    Rows are times, columns are units. The numbers 0, 1, 2, ... that pandas gives to unnamed rows
    and columns, and times with several levels, are left out; units with several levels are named by
    all of them, such as "probe/3". Tensors become arrays. Anything else is returned unchanged.
    """
    if isinstance(values, Mapping) and not isinstance(values, xr.Dataset):
        return {name: labelled(each) for name, each in values.items()}
    if isinstance(values, list | tuple):
        found = [labelled(each) for each in values]
        return found if any(a is not b for a, b in zip(found, values, strict=True)) else values
    if hasattr(values, "detach"):  # a tensor of torch
        return of_tensor(values)
    if isinstance(values, pd.Series | pd.DataFrame):
        array, labels = values.to_numpy(na_value=np.nan), list(values.axes)
        labels[1:] = map(_joined, labels[1:])
    elif _is_pynapple(values):
        array = np.asarray(values.d)
        labels = [pd.Index(values.t), *([pd.Index(values.columns)] if array.ndim == 2 else [])]
    else:
        return values
    dims = (schema.TIME, schema.UNIT)[: array.ndim]
    known = {d: own for d, own in zip(dims, labels, strict=False) if not _is_numbering(own)}
    return xr.DataArray(array, {d: own.to_numpy() for d, own in known.items()}, dims)


def _joined(labels: pd.Index) -> pd.Index:
    """Labels with one level; those with several levels are joined as text."""
    if labels.nlevels == 1:
        return labels
    return pd.Index(["/".join(map(str, label)) for label in labels])


def of_tensor(values: Any) -> NDArray[Any]:
    """A torch tensor on any device, with any layout, as an array."""
    dense = values.detach().cpu().to_dense().resolve_conj().resolve_neg()
    try:
        return np.asarray(dense)
    except TypeError:  # bfloat16, which NumPy lacks
        return np.asarray(dense.float())


def of_columns(position: Any) -> Any:
    """Tables with named columns, and those within a list, as mappings of their columns."""
    if isinstance(position, list | tuple):
        found = [of_columns(walk) for walk in position]
        return found if any(isinstance(walk, dict) for walk in found) else position
    if isinstance(position, Mapping | xr.DataArray | xr.Dataset):
        return position
    if _is_pynapple(position) and np.ndim(position.d) == 2:
        position = pd.DataFrame(np.asarray(position.d), position.t, position.columns)
    if not (hasattr(position, "columns") and hasattr(position, "to_numpy")):
        return position
    return {str(name): position[name] for name in position.columns}


def check_labels(arguments: Mapping[str, Any], dims: Sequence[str]) -> None:
    """Refuse DataArrays, or lists with one for every walk, whose labels differ."""
    known: dict[tuple[str, int, int], tuple[str, pd.Index]] = {}
    for argument, values in arguments.items():
        walks = values if isinstance(values, list | tuple) else [values]
        for number, walk in enumerate(walks):
            indexes = walk.indexes if isinstance(walk, xr.DataArray) else {}
            for dim in set(dims) & set(indexes):
                own = indexes[dim]
                first, labels = known.setdefault((dim, number, len(walks)), (argument, own))
                if not _alike(labels, own):
                    raise ValueError(
                        f"{argument} and {first} must have the same labels of {dim!r}, got "
                        f"{own[:3].tolist()}, ... ({own.size}) and {labels[:3].tolist()}, ... "
                        f"({labels.size}): align them, with xr.align or reindex of pandas, or drop "
                        f"labels that mean nothing with drop_vars({dim!r}) or to_numpy()"
                    )


def _alike(one: pd.Index, other: pd.Index) -> bool:
    """Whether labels are the same; numbers may differ by rounding."""
    if one.size != other.size or one.equals(other):
        return bool(one.size == other.size)
    if not all(labels.dtype.kind in "iuf" for labels in (one, other)):
        return False
    step = np.ptp(one.to_numpy(float)) / one.size
    return bool(np.allclose(one, other, rtol=0, atol=ROUNDING * step))


def unit_ids(values: Any) -> NDArray[Any] | None:
    """Ids of the units of a DataArray, or of a list with one for every walk; ``None`` without."""
    walks = values if isinstance(values, list | tuple) else [values]
    arrays = [walk for walk in walks if isinstance(walk, xr.DataArray)]
    coords = [schema.unit_coords(walk) for walk in arrays]
    found = [labels.get(UNIT_ID, labels.get(schema.UNIT)) for labels in coords]
    ids = [_joined(labels.to_index()).to_numpy() for labels in found if labels is not None]
    if not ids:
        return None
    if any(not np.array_equal(ids[0], other) for other in ids):
        raise ValueError(
            "activation, a list of walks, must hold the same units in the same order, but the "
            "labels of 'unit' differ; select the shared ones with sel(unit=labels)"
        )
    return ids[0] if ids[0].dtype.kind in "biuf" else ids[0].astype(str)


def stated_units(argument: str, given: str | None, values: Any) -> str | None:
    """Units of measure: those given, else those that a DataArray, or a list of them, states.

    Arrays of the package quantities state their units as well.

    Raises
    ------
    ValueError
        What is given is not text, or the DataArrays of walks state different units.
    """
    if given is not None:
        if not isinstance(given, str):
            raise ValueError(f"{argument} must be text, such as 'cm', got {given!r}")
        return given
    walks = values if isinstance(values, list | tuple) else [values]
    attrs = [walk.attrs for walk in walks if isinstance(walk, xr.DataArray)]
    named = {str(about["units"]) for about in attrs if "units" in about}
    named |= {str(walk.units.dimensionality) for walk in walks if has_units(walk)}
    stated = sorted({"1" if text == "dimensionless" else text for text in named})
    if len(stated) > 1:
        raise ValueError(
            f"{argument} must be the same in all walks, which state "
            f"{', '.join(map(repr, stated))}; convert some of them, or correct the attribute "
            "'units' where it is wrong"
        )
    return stated[0] if stated else None


def _is_pynapple(values: Any) -> bool:
    """Whether this is a Tsd or TsdFrame of pynapple, which may not be installed."""
    return type(values).__module__.startswith("pynapple.") and hasattr(values, "d")


def _is_numbering(labels: pd.Index) -> bool:
    """Whether labels are those that pandas gives by default, or have several levels."""
    return labels.nlevels > 1 or labels.equals(pd.RangeIndex(len(labels)))
