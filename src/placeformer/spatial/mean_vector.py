"""The mean vector of maps on a circular axis: its length and its direction."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.data.circular import axis_periods, wrap
from placeformer.spatial.negatives import WORDS, Negatives, apply_negatives, policy_attrs
from placeformer.spatial.rate_maps import flatten, per_unit

SHORTEST = 1e-9
"""Length of a mean vector up to which its direction is undefined."""


def mean_vector_length(maps: xr.Dataset, *, negatives: Negatives = "rectify") -> xr.DataArray:
    r"""Length of the mean vector of every unit on a circular axis.

    .. math:: R = \left| \sum_k r_k e^{i \theta_k} \right| \bigg/ \sum_k r_k

    with r the rate in a bin after the policy for negatives and θ the angle of its centre.

    Parameters
    ----------
    maps
        RateMaps on one circular axis, such as ``rate_maps(recording, by="head_direction", bins=24,
        circular={"head_direction": 2 * np.pi})``.
    negatives
        How to treat negative rates: ``"rectify"``, ``"shift"`` or ``"raise"``.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), from 0 (activity in all directions cancels) to 1 (activity in a
        single bin). Every visited bin has the same weight, regardless of its occupancy. NaN for a
        unit without a positive rate. ``attrs["negatives"]`` holds the policy.

    Raises
    ------
    ValueError
        The maps are not on one circular axis, or rates are negative under ``"raise"``.

    See Also
    --------
    head_direction : The same with a test against chance.
    rate_maps : Rate maps of a recording.

    References
    ----------
    Zar, J. H. (2010). Biostatistical Analysis, 5th edition, section 26.4.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> angle = np.arange(0, 360, 15) + 7.5
    >>> rate = 1 + np.cos(np.radians(angle - 90))
    >>> maps = pf.maps_from_arrays(
    ...     rate[None], edges=np.arange(0, 361, 15), by="heading", circular={"heading": 360}
    ... )
    >>> pf.mean_vector_length(maps).round(2).values
    array([0.5])
    """
    length, _ = mean_vector(maps, negatives)
    return length


def mean_vector(maps: xr.Dataset, negatives: Negatives) -> tuple[xr.DataArray, xr.DataArray]:
    """Length (..., unit) of the mean vector, and its direction in the units of the axis."""
    dim, period, angle = _axis(maps)
    rate, share = flatten(maps)
    rate = apply_negatives(rate, share > 0, negatives, maps[schema.RATE])
    vector = rate @ np.exp(1j * angle)
    total = rate.sum(axis=-1)
    length: NDArray[np.float64] = np.full(total.shape, np.nan)
    np.divide(np.abs(vector), total, out=length, where=total > 0)
    length = np.minimum(length, 1.0)
    low = schema.edges_of(maps, dim)[0]
    direction = wrap(np.angle(vector) * (period / (2 * np.pi)), low, period)
    direction = np.where(length > SHORTEST, direction, np.nan)
    about = {"units": "1", "long_name": f"length of the mean vector ({WORDS[negatives]})"}
    units = str(maps[dim].attrs.get("units", "1"))
    where = {"units": units, "long_name": f"direction of the mean vector ({WORDS[negatives]})"}
    policy = policy_attrs(negatives)
    return (
        per_unit(maps, length, "mean_vector_length", **about, **policy),
        per_unit(maps, direction, "preferred_direction", **where, **policy),
    )


def cosine_amplitude(maps: xr.Dataset) -> xr.DataArray:
    r"""Amplitude (..., unit) of a cosine of the angle in the maps, in units of the rates.

    .. math:: A = \frac{2}{K} \left| \sum_k (r_k - \bar r) e^{i \theta_k} \right|

    over the K visited bins. It is twice the mean vector before the division by the mean rate, and
    does not depend on a constant that is added to the rates. Non-negative rates of equal mean are
    ordered as by the length of the mean vector; the amplitude also suits signed activations.
    """
    _, _, angle = _axis(maps)
    rate, share = flatten(maps)
    visited = share > 0
    number = visited.sum(axis=-1, keepdims=True)
    rate = np.where(visited, rate, 0.0)
    mean = rate.sum(axis=-1, keepdims=True) / np.maximum(number, 1)
    vector = np.where(visited, rate - mean, 0.0) @ np.exp(1j * angle)
    values = np.where(
        number[..., 0] > 0, 2 * np.abs(vector) / np.maximum(number[..., 0], 1), np.nan
    )
    units = str(maps[schema.RATE].attrs.get("units", "1"))
    text = "amplitude of a cosine of the angle in the tuning curve"
    return per_unit(maps, values, "cosine_amplitude", units=units, long_name=text)


def _axis(maps: xr.Dataset) -> tuple[str, float, NDArray[np.float64]]:
    """Name, period and angles of the bins of the one circular axis of maps."""
    schema.check_rate_maps(maps)
    (dim, *more), (period, *_) = schema.place_dims(maps), axis_periods(maps)
    if more or period is None:
        raise ValueError(
            f"maps must be on one circular axis, got {(dim, *more)} with periods "
            f"{axis_periods(maps)}; make them with rate_maps(recording, by={dim!r}, bins=24, "
            f"circular={{{dim!r}: period}})"
        )
    return dim, period, np.asarray(maps[dim].values, float) * (2 * np.pi / period)
