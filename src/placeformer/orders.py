"""What the units of an ablation curve are ordered by, or which of them are chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn

from placeformer import schema
from placeformer.controls import unit_scores
from placeformer.model import Layer, NavigationTransformer
from placeformer.negatives import Negatives

OUTPUT_WEIGHT = "output_weight"
DECISION = "is_place_cell"
Order = str | ArrayLike | xr.DataArray | xr.Dataset


def order_scores(
    model: nn.Module, units: xr.Dataset, order: Order, negatives: Negatives
) -> NDArray[Any]:
    """Score of every unit (unit,), or whether it was decided on."""
    if isinstance(order, str):
        if order == "random":
            return np.zeros(units.sizes[schema.UNIT])
        if order == OUTPUT_WEIGHT:
            return output_weight(model, units)
        return unit_scores(units, order, negatives=negatives)
    if isinstance(order, xr.Dataset):
        order = decision(order)
    if isinstance(order, xr.DataArray) and {"layer", "index"} <= set(order.coords):
        order = _aligned(order, units)
    scores = np.asarray(order)
    if scores.shape != (units.sizes[schema.UNIT],):
        raise ValueError(
            f"order must have a score for each of the {units.sizes[schema.UNIT]} units, found "
            f"shape {scores.shape}"
        )
    return scores


def name_of(order: Order) -> str:
    """What an order is called."""
    return order if isinstance(order, str) else str(getattr(order, "name", None) or "given")


def decision(table: xr.Dataset) -> xr.DataArray:
    """Which units a table of place cells decided on."""
    if DECISION not in table:
        raise ValueError(
            f"order must be a table with {DECISION}, as place_cells gives it, found "
            f"{', '.join(map(str, table.data_vars)) or 'nothing'}"
        )
    return table[DECISION]


def _aligned(order: xr.DataArray, units: xr.Dataset) -> NDArray[Any]:
    """Scores in the order of the units."""
    if order.dims != (schema.UNIT,):
        dims = ", ".join(map(str, order.dims))
        raise ValueError(
            f"order must have the dimension {schema.UNIT} alone, found {dims}; choose one map, or "
            'reduce it: any("map")'
        )
    keys = [
        pd.MultiIndex.from_arrays([x["layer"].values, x["index"].values]) for x in (order, units)
    ]
    if (absent := keys[1].difference(keys[0])).size:
        layer, index = absent[0]
        raise ValueError(f"order must have a score for every unit, {layer}/{index} has none")
    return pd.Series(order.values, keys[0])[keys[1]].to_numpy()


def shares_of(found: NDArray[Any], fractions: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Fractions, by default 21 equal steps; of a decision nothing, and all that it decided on."""
    if found.dtype != bool:
        return np.linspace(0, 1, 21) if fractions is None else fractions
    if not found.any():
        raise ValueError(f"order must choose at least one unit, found none of {found.size}")
    share = found.mean()
    if fractions is None:
        return np.array([0, share])
    if fractions[-1] > share:
        raise ValueError(
            f"fractions must be at most the share of the units that order chooses, {share:g}, "
            f"found {fractions[-1]:g}; pass a score to go on to other units"
        )
    return fractions


def output_weight(model: nn.Module, units: xr.Dataset) -> NDArray[np.float64]:
    """Norm of the weights that read each unit, (unit,)."""
    if not isinstance(model, NavigationTransformer):
        raise ValueError(
            'order="output_weight" needs a navigation Transformer; pass the norms as an array'
        )
    norms = {
        f"ffn.{i}": layer.ffn.fc2.weight.detach().norm(dim=0).cpu().numpy()
        for i, layer in enumerate(cast(Iterable[Layer], model.layers))
    }
    pairs = zip(units["layer"].values, units["index"].values, strict=True)
    return np.array([norms[layer][index] for layer, index in pairs], float)
