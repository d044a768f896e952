"""Which units are meant: numbers by layer, or a choice made in a labelled table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema

Units = Mapping[str, Any] | xr.DataArray | xr.Dataset
Chosen = dict[str, NDArray[np.int64]]
CONTENT = "content."


def chosen_units(units: Units, widths: Mapping[str, int | None]) -> Chosen:
    """Numbers of the chosen units by layer, ascending, each once.

    Parameters
    ----------
    units
        A mapping from layer to unit numbers (a number, a sequence, a slice, or a boolean array
        over the layer); a boolean DataArray over ``unit`` with ``layer`` and ``index``; or a
        Dataset with those coordinates, of which every unit is meant.
    widths
        Number of units of every layer there is; None where it is not known.

    Raises
    ------
    TypeError, ValueError
        Units are given in another way, or some do not exist; all problems are named at once.
    """
    named = units if isinstance(units, Mapping) and not isinstance(units, xr.Dataset) else None
    pairs = _labelled(units) if named is None else list(named.items())
    problems: list[str] = []
    chosen: dict[str, list[NDArray[np.int64]]] = {}
    for name, numbers in pairs:
        layer = str(name).removeprefix(CONTENT)
        if layer not in widths:
            near = get_close_matches(layer, widths, cutoff=0.5) or list(widths)[:8]
            problems.append(f"there is no layer {name!r} (there is {', '.join(near)})")
            continue
        try:
            chosen.setdefault(layer, []).append(_numbers(numbers, widths[layer]))
        except ValueError as error:
            problems.append(f"{layer}: {error}")
    if problems:
        raise ValueError(f"units must be units of the network, but {'; '.join(problems)}")
    joined = {layer: np.unique(np.concatenate(parts)) for layer, parts in chosen.items()}
    return {layer: numbers for layer, numbers in joined.items() if numbers.size}


def _labelled(units: object) -> Iterable[tuple[str, NDArray[np.int64]]]:
    """Layer and numbers of a choice made in a labelled table."""
    if not isinstance(units, xr.DataArray | xr.Dataset):
        raise TypeError(
            'units must be a mapping such as {"ffn.1": [3, 5]}, a boolean DataArray over unit or '
            f"a Dataset with units, found {type(units).__name__}"
        )
    missing = [name for name in ("layer", "index") if name not in units.coords]
    if missing:
        raise ValueError(
            f"units must carry the coordinates layer and index, {' and '.join(missing)} missing; "
            'a mapping such as {"ffn.1": [3, 5]} needs none'
        )
    layer, index = np.atleast_1d(units["layer"].values), np.atleast_1d(units["index"].values)
    if isinstance(units, xr.DataArray):
        if units.dtype != bool or units.dims != (schema.UNIT,):
            raise ValueError(
                f"units must be boolean over unit when it is a DataArray, found {units.dtype} "
                f"over {units.dims}; compare it with a threshold, as in score > 0.5"
            )
        layer, index = layer[units.values], index[units.values]
    return [(str(name), index[layer == name].astype(np.int64)) for name in np.unique(layer)]


def _numbers(numbers: Any, width: int | None) -> NDArray[np.int64]:
    """Unit numbers of one layer as an array."""
    if isinstance(numbers, slice):
        if width is None:
            raise ValueError("a slice needs the layer's width, which a reference would tell")
        return np.arange(width)[numbers]
    found = np.atleast_1d(np.asarray(numbers))
    if found.dtype == bool:
        if width is not None and found.shape != (width,):
            raise ValueError(f"a boolean array must have {width} entries, found {found.shape}")
        return np.flatnonzero(found)
    if found.size and (found.ndim != 1 or found.dtype.kind not in "iu"):
        raise ValueError(f"unit numbers must be whole and in one row, found {numbers!r}")
    bad = found[(found < 0) | (found >= (np.inf if width is None else width))]
    if bad.size:
        range_ = "0 or more" if width is None else f"in 0–{width - 1}"
        raise ValueError(f"unit numbers must be {range_}, found {bad[:5].tolist()}")
    return found.astype(np.int64)
