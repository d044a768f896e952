"""Fraction of a unit's activity, or of the structure of its map, inside its place fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.spatial.negatives import WORDS, Negatives, apply_negatives, policy_attrs
from placeformer.spatial.place_fields import labels_of, place_fields
from placeformer.spatial.rate_maps import flatten, per_unit


def place_cell_score(
    maps: xr.Dataset,
    *,
    negatives: Negatives = "rectify",
    fields: xr.Dataset | xr.DataArray | None = None,
    **criteria: Any,
) -> xr.DataArray:
    r"""How much of a unit's activity lies in one small place field, from 0 to 1.

    .. math:: s = \max_F \left(1 - \frac{|F|}{|B|}\right)
              \frac{\sum_{i \in F} r_i}{\sum_{i \in B} r_i}

    with B the visited places, F a place field (:func:`place_fields`) and r the rate after the
    policy for negatives. The first factor is the fraction of the arena outside the field, the
    second the fraction of the activity inside it. A unit that fires at only one of 121 places
    would score 120/121 if one place were enough for a field.

    The paper that introduced the term gives no formula, and neither do its slides or code; this is
    the definition of this library.

    Parameters
    ----------
    maps
        RateMaps.
    negatives
        How to treat negative rates before they are summed: ``"rectify"``, ``"shift"`` or
        ``"raise"``. Fields are detected in the signed rates and do not depend on it.
    fields
        Result of :func:`place_fields` for these maps, or its ``label``, if already computed.
    criteria
        Without ``fields``: criteria of :func:`place_fields`, such as ``threshold``,
        ``min_bins``, ``min_contrast``.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), 0 to 1. A unit without a field scores 0, a unit without a
        visited place NaN. ``attrs["negatives"]`` holds the policy.

    Raises
    ------
    ValueError
        The maps break the contract, a criterion is out of range, rates are negative under
        ``"raise"``, criteria are passed together with fields, or the fields belong to other maps.

    See Also
    --------
    place_fields : Place fields of rate maps.
    place_cells : Criteria for place cells, tested against shuffles.

    References
    ----------
    Kim, D., Kwon, J., Cha, M. and Lee, C. J. (2023). Transformer as a hippocampal memory
    consolidation model based on NMDAR-inspired nonlinearity. NeurIPS 36.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> units = np.stack([field, np.ones(64)], axis=-1)  # a place field and a constant rate
    >>> maps = pf.rate_maps(pf.from_arrays(units, {"x": x, "y": y}))
    >>> pf.place_cell_score(maps).round(2).values
    array([0.56, 0.  ])
    """
    schema.check_rate_maps(maps)
    if fields is None:
        fields = place_fields(maps, **criteria)
    elif criteria:
        raise ValueError(
            f"criteria must be empty where fields are passed, got {sorted(criteria)}; pass them "
            "to place_fields(maps, ...)"
        )
    rate, share = flatten(maps)
    valid = np.broadcast_to(share > 0, rate.shape)
    rate = apply_negatives(rate, valid, negatives, maps[schema.RATE])
    label = labels_of(fields, maps).values.reshape(rate.shape)
    scores = score(rate, valid, label, int(label.max(initial=0)))
    attrs = {
        "units": "1",
        "long_name": f"place-cell score ({WORDS[negatives]})",
        **policy_attrs(negatives),
        **{k: v for k, v in fields.attrs.items() if k != schema.PROVENANCE},
    }
    return per_unit(maps, scores, "place_cell_score", **attrs)


def field_share(
    halves: xr.Dataset, fields: xr.Dataset, letters: NDArray[np.intp] | None = None
) -> xr.DataArray:
    r"""Fraction of the structure common to two halves of a recording that lies in place fields.

    .. math:: \frac{\sum_{i \in F} h_{1i} h_{2i}}{\sum_{i \in B} h_{1i} h_{2i}}

    with h the difference of a rate from the median of its half's map, or from the median over the
    places with the same letter, F the places of all fields and B the places visited in both
    halves. The noise of the halves is independent and cancels on average. The measure does not
    depend on the scale, sign or offset of the activations or, with letters, on the contribution of
    each letter to them.

    Parameters
    ----------
    halves
        Result of :func:`half_maps`.
    fields
        Result of :func:`place_fields` for the maps of the whole recording.
    letters
        Number of the letter at every place of every map, the result of :func:`observation_of_bins`.

    Returns
    -------
    xarray.DataArray
        (unit,) or (map, unit): 1 where the map is flat outside the fields, 0 without a field, and
        above 1 or below 0 only because of noise. NaN where the halves have nothing in common (a
        denominator of 0 or less).
    """
    rate, share = flatten(halves)
    visited = np.broadcast_to(share > 0, rate.shape)
    of_map = (*rate.shape[1:-2], rate.shape[-1])
    same = np.zeros(of_map, int) if letters is None else letters.reshape(of_map)
    height = np.where(visited, rate - _baseline(rate, visited, same), 0.0).prod(axis=0)
    inside = fields["label"].values.reshape(height.shape) > 0
    total = height.sum(axis=-1)
    within = np.where(inside, height, 0.0).sum(axis=-1)
    values = np.divide(within, total, out=np.full(total.shape, np.nan), where=total > 0)
    about = {"units": "1", "long_name": "share of the map that lies in place fields"}
    return per_unit(halves.isel(half=0, drop=True), values, "field_share", **about)


def _baseline(
    rate: NDArray[np.float64], visited: NDArray[np.bool_], same: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Median of rates (half, ..., unit, bin) over the visited bins with the same number."""
    medians = np.zeros_like(rate)
    for where in np.ndindex(same.shape[:-1]):
        of_map = (slice(None), *where)
        for number in np.unique(same[where]):
            here = same[where] == number
            part = np.ma.array(rate[of_map][..., here], mask=~visited[of_map][..., here])
            medians[of_map][..., here] = np.ma.filled(
                np.ma.median(part, axis=-1, keepdims=True), 0.0
            )
    return medians


def score(
    rate: NDArray[np.float64],
    valid: NDArray[np.bool_],
    label: NDArray[np.integer[Any]],
    n_fields: int,
) -> NDArray[np.float64]:
    """Score from non-negative rates, valid bins and field labels, all (..., unit, bin)."""
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
