"""Place-cell score: how much of a unit's activity lies in one small place field."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer.fields import FIELD, place_fields
from placeformer.negatives import WORDS, Negatives, apply_negatives, policy_attrs
from placeformer.ratemaps import flatten, per_unit


def place_cell_score(
    maps: xr.Dataset,
    *,
    negatives: Negatives = "rectify",
    fields: xr.Dataset | None = None,
    **criteria: Any,
) -> xr.DataArray:
    r"""How much of a unit's activity lies in one small place field, from 0 to 1.

    .. math:: s = \max_F \left(1 - \frac{|F|}{|B|}\right)
              \frac{\sum_{i \in F} r_i}{\sum_{i \in B} r_i}

    with B the visited places, F a place field (:func:`place_fields`) and r the rate after the
    policy for negatives. The first factor is the share of the arena outside the field, the
    second the share of the activity inside it: a unit that fires at one of 121 places only,
    were one place a field, would score 120/121.

    The source of the word gives no formula (neither its slides nor its code): this is the
    definition of this library.

    Parameters
    ----------
    maps
        RateMaps.
    negatives
        What is done with negative rates before they are summed: ``"rectify"``, ``"shift"`` or
        ``"raise"``. Fields are found in the signed rates and do not depend on it.
    fields
        What :func:`place_fields` found in these maps, where it is known already.
    criteria
        Without ``fields``: criteria of :func:`place_fields`, such as ``threshold``,
        ``min_bins``, ``min_contrast``.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), 0 to 1. A unit without a field scores 0; a unit without a
        visited place is NaN. ``attrs["negatives"]`` holds the policy.

    Raises
    ------
    ValueError
        Maps break the contract, a criterion is out of range, rates are negative under
        ``"raise"``, or fields that are not those of the maps.

    References
    ----------
    Kim, D., Kwon, J., Cha, M. and Lee, C. J. (2023). Transformer as a hippocampal memory
    consolidation model based on NMDAR-inspired nonlinearity. NeurIPS 36.
    """
    fields = place_fields(maps, **criteria) if fields is None else _checked(fields, maps, criteria)
    rate, share = flatten(maps)
    valid = np.broadcast_to(share > 0, rate.shape)
    rate = apply_negatives(rate, valid, negatives, maps[schema.RATE])
    label = fields["label"].values.reshape(rate.shape)
    scores = score(rate, valid, label, fields.sizes[FIELD])
    attrs = {
        "units": "1",
        "long_name": f"place-cell score ({WORDS[negatives]})",
        **policy_attrs(negatives),
        **{k: v for k, v in fields.attrs.items() if k != schema.PROVENANCE},
    }
    return per_unit(maps, scores, "place_cell_score", **attrs)


def _checked(fields: xr.Dataset, maps: xr.Dataset, criteria: dict[str, Any]) -> xr.Dataset:
    """Fields with the dimensions of the maps' rates."""
    schema.check_rate_maps(maps)
    if criteria:
        raise ValueError(
            f"fields are found already: {sorted(criteria)} belong to place_fields(maps, ...)"
        )
    found, want = dict(fields["label"].sizes), dict(maps[schema.RATE].sizes)
    if found != want:
        raise ValueError(f"fields must be those of maps with rate {want}, found label {found}")
    return fields


def score(
    rate: NDArray[np.float64],
    valid: NDArray[np.bool_],
    label: NDArray[np.integer[Any]],
    n_fields: int,
) -> NDArray[np.float64]:
    """Score of non-negative rates, valid bins and field labels, all (..., unit, bin)."""
    places = valid.sum(axis=-1)
    total = rate.sum(axis=-1)
    best = np.where(places > 0, 0.0, np.nan)
    for number in range(1, n_fields + 1):
        inside = label == number
        outside = 1.0 - inside.sum(axis=-1) / np.maximum(places, 1)
        activity = np.where(inside, rate, 0.0).sum(axis=-1)
        share = np.divide(activity, total, out=np.zeros_like(total), where=total > 0)
        best = np.maximum(best, outside * share)
    return best
