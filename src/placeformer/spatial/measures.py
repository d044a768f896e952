"""Spatial measures of rate maps: information, sparsity, selectivity, coherence."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.circular import wraps
from placeformer.data.unit_identity import is_per_second
from placeformer.spatial.field_detection import box_sums
from placeformer.spatial.negatives import WORDS, Negatives, apply_negatives, policy_attrs
from placeformer.spatial.rate_maps import SECONDS_PER_SAMPLE, flatten, per_unit
from placeformer.spatial.variance_explained import position_variance_explained
from placeformer.stats.tolerances import FLAT

__all__ = [
    "coherence",
    "position_variance_explained",
    "selectivity",
    "sparsity",
    "spatial_information",
]

Per = Literal["spike", "second"]

TINY = np.finfo(float).tiny


def spatial_information(
    maps: xr.Dataset, *, negatives: Negatives = "rectify", per: Per = "spike"
) -> xr.DataArray:
    r"""Skaggs' spatial information of every unit.

    .. math:: I = \sum_i p_i \frac{r_i}{\bar r} \log_2 \frac{r_i}{\bar r},
              \qquad \bar r = \sum_i p_i r_i

    with p_i the fraction of time at place i among the visited places (those with a finite rate),
    renormalised to 1, and r the rate after the policy for negatives; 0 log 0 = 0.

    Parameters
    ----------
    maps
        RateMaps.
    negatives
        How to treat negative rates, for which the measure is undefined: ``"rectify"`` (set them
        to 0), ``"shift"`` (subtract the minimum rate of each map) or ``"raise"``. The choice
        changes the values and can change their order across activation functions: report both,
        or use :func:`position_variance_explained`.
    per
        ``"spike"``: bits per unit of activation, 0 to log2 of the number of places, unchanged
        when rates are scaled. ``"second"``: the information per spike times the mean rate.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), in bits/spike, or with ``per="second"`` in bits/s where rates
        are per second or the maps carry ``sample_rate`` (samples per second), else in bits/step.
        NaN for a unit whose mean rate is 0 after the policy. ``attrs["negatives"]`` holds the
        policy.

    Raises
    ------
    ValueError
        The maps break the contract, an option is unknown, rates are negative under ``"raise"``, or
        rates of a timed recording have lost their units and ``per="second"``.

    See Also
    --------
    sparsity, selectivity, coherence
    mutual_information : Information about place for signed activations.
    shuffle_test : Test a measure against chance.

    References
    ----------
    Skaggs, W. E., McNaughton, B. L., Gothard, K. M. and Markus, E. J. (1993). An
    information-theoretic approach to deciphering the hippocampal code. NIPS 5, 1030-1037.
    (The proceedings have no DOI.)

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> units = np.stack([field, np.ones(64)], axis=-1)  # a place field and a constant rate
    >>> maps = pf.rate_maps(pf.from_arrays(units, {"x": x, "y": y}))
    >>> pf.spatial_information(maps).round(2).values
    array([1., 0.])
    """
    check_option("per", per, get_args(Per))
    rate, share = _rates(maps, negatives)
    bits = information(rate, share)
    units, what = "bit", "spike"
    if per == "second":
        factor, units, what = _per_second(maps)
        bits = bits * _mean(rate, share) * factor
    name = f"spatial information per {what} ({WORDS[negatives]})"
    attrs = {"units": units, "long_name": name, "per": per, **policy_attrs(negatives)}
    return per_unit(maps, bits, "spatial_information", **attrs)


def sparsity(maps: xr.Dataset, *, negatives: Negatives = "rectify") -> xr.DataArray:
    r"""Fraction of the arena in which a unit fires: (sum p r)^2 / sum p r^2.

    Parameters
    ----------
    maps
        RateMaps.
    negatives
        How to treat negative rates, as in :func:`spatial_information`.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), in (0, 1]: 1 for a constant map; for a unit that fires at a single
        place the fraction of time p spent there; NaN for a unit that is 0 everywhere after the
        policy.

    See Also
    --------
    spatial_information, selectivity, coherence
    shuffle_test : Test a measure against chance.

    References
    ----------
    Skaggs, W. E., McNaughton, B. L., Wilson, M. A. and Barnes, C. A. (1996). Hippocampus 6,
    149-172. https://doi.org/10.1002/(SICI)1098-1063(1996)6:2<149::AID-HIPO6>3.0.CO;2-K

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> units = np.stack([field, np.ones(64)], axis=-1)  # a place field and a constant rate
    >>> maps = pf.rate_maps(pf.from_arrays(units, {"x": x, "y": y}))
    >>> pf.sparsity(maps).round(2).values
    array([0.38, 1.  ])
    """
    rate, share = _rates(maps, negatives)
    values = np.minimum(_ratio(_mean(rate, share) ** 2, _mean(rate**2, share)), 1.0)  # rounding
    name = f"sparsity ({WORDS[negatives]})"
    attrs = {"units": "1", "long_name": name, **policy_attrs(negatives)}
    return per_unit(maps, values, "sparsity", **attrs)


def selectivity(maps: xr.Dataset, *, negatives: Negatives = "rectify") -> xr.DataArray:
    """Maximum rate divided by the mean rate.

    Parameters
    ----------
    maps
        RateMaps.
    negatives
        How to treat negative rates, as in :func:`spatial_information`.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), at least 1 (the value of a constant map); NaN for a unit that is 0
        everywhere after the policy.

    See Also
    --------
    spatial_information, sparsity, coherence
    shuffle_test : Test a measure against chance.

    References
    ----------
    Skaggs, W. E., McNaughton, B. L., Wilson, M. A. and Barnes, C. A. (1996). Hippocampus 6,
    149-172. https://doi.org/10.1002/(SICI)1098-1063(1996)6:2<149::AID-HIPO6>3.0.CO;2-K

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> units = np.stack([field, np.ones(64)], axis=-1)  # a place field and a constant rate
    >>> maps = pf.rate_maps(pf.from_arrays(units, {"x": x, "y": y}))
    >>> pf.selectivity(maps).round(2).values
    array([5.16, 1.  ])
    """
    rate, share = _rates(maps, negatives)
    greatest = np.where(share > 0, rate, 0.0).max(axis=-1)
    values = np.maximum(_ratio(greatest, _mean(rate, share)), 1.0)  # rounding
    name = f"selectivity ({WORDS[negatives]})"
    attrs = {"units": "1", "long_name": name, **policy_attrs(negatives)}
    return per_unit(maps, values, "selectivity", **attrs)


def coherence(maps: xr.Dataset, *, fisher: bool = False) -> xr.DataArray:
    """Correlation of the rate of each place with the mean rate of its neighbours.

    Parameters
    ----------
    maps
        RateMaps that are not smoothed. Rates may be signed.
    fisher
        Return Fisher's z of the correlation, as the source does.

    Returns
    -------
    xarray.DataArray
        (unit,) or (..., unit), -1 to 1, unchanged when rates are scaled, shifted or negated; NaN
        where rates do not vary or fewer than three places have a neighbour. Neighbours are the
        visited places that share a side or a corner with the place, also across the seam of a
        circular axis. There are no neighbours beyond a border (some programs put zeros there, which
        lowers the values of fields at a border).

    See Also
    --------
    spatial_information, sparsity, selectivity
    stability : Correlation of the rate maps of two halves of a recording.
    shuffle_test : Test a measure against chance.

    References
    ----------
    Muller, R. U. and Kubie, J. L. (1989). The firing of hippocampal place cells predicts the
    future position of freely moving rats. Journal of Neuroscience 9, 4101-4110.
    https://doi.org/10.1523/JNEUROSCI.09-12-04101.1989

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> units = np.stack([field, np.ones(64)], axis=-1)  # a place field and a constant rate
    >>> maps = pf.rate_maps(pf.from_arrays(units, {"x": x, "y": y}))
    >>> pf.coherence(maps).round(2).values
    array([0.98,  nan])
    """
    schema.check_rate_maps(maps)
    rate, share = flatten(maps)
    sizes = tuple(maps.sizes[d] for d in schema.place_dims(maps))
    around, known = _neighbours(np.where(share > 0, rate, 0.0), share > 0, sizes, wraps(maps))
    values = correlation(np.where(known, rate, 0.0), around, known)
    if fisher:
        with np.errstate(divide="ignore"):
            values = np.arctanh(values)
    name = "spatial coherence" + (" (Fisher's z)" if fisher else "")
    return per_unit(maps, values, "coherence", units="1", long_name=name)


def information(rate: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Skaggs information in bits per spike of non-negative rates (..., bin)."""
    mean = _mean(rate, share)
    terms = np.maximum(rate, TINY)  # 0 log 0 = 0
    np.multiply(np.log2(terms, out=terms), rate, out=terms)
    known = mean > 0
    log = np.log2(mean, out=np.zeros_like(mean), where=known)
    bits = np.divide(_mean(terms, share), mean, out=np.full(mean.shape, np.nan), where=known) - log
    return np.where(known, np.maximum(bits, 0.0), np.nan)


def correlation(
    a: NDArray[np.float64], b: NDArray[np.float64], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Pearson's r over the valid bins of the last axis; NaN without variance or three bins."""
    number = valid.sum(-1)
    known = [np.where(valid, v, 0.0) for v in (a, b)]
    size = [np.abs(v).max(-1) for v in known]
    mean = [v.sum(-1, keepdims=True) / np.maximum(number, 1)[..., None] for v in known]
    off = [np.where(valid, v - m, 0.0) for v, m in zip(known, mean, strict=True)]
    largest = [np.abs(v).max(-1) for v in off]
    flat = [top <= FLAT * s for top, s in zip(largest, size, strict=True)]
    # Without this scaling, squares of very large or small values would overflow or vanish.
    off = [v / np.where(top > 0, top, 1)[..., None] for v, top in zip(off, largest, strict=True)]
    spread = np.sqrt(np.prod([(v**2).sum(-1) for v in off], axis=0))
    spread[flat[0] | flat[1] | (number < 3)] = 0.0
    return np.clip(_ratio((off[0] * off[1]).sum(-1), spread), -1.0, 1.0)


def varies(maps: xr.Dataset) -> xr.DataArray:
    """Whether the rates (..., unit) of visited places differ by more than rounding."""
    rate, share = flatten(maps)
    valid = share > 0
    known = np.where(valid, rate, 0.0)
    mean = known.sum(axis=-1, keepdims=True) / np.maximum(valid.sum(axis=-1, keepdims=True), 1)
    off = np.abs(np.where(valid, rate - mean, 0.0)).max(axis=-1)
    return per_unit(maps, off > FLAT * np.abs(known).max(axis=-1), "varies")


def _rates(
    maps: xr.Dataset, negatives: Negatives
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Non-negative rates and fractions of time, both (..., unit, bin)."""
    schema.check_rate_maps(maps)
    rate, share = flatten(maps)
    return apply_negatives(rate, share > 0, negatives, maps[schema.RATE]), share


def _mean(rate: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("...b,...b->...", rate, share))


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Quotient; NaN where the divisor is 0."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    out: NDArray[np.float64] = np.full(shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def _per_second(maps: xr.Dataset) -> tuple[float, str, str]:
    """Factor from the mean rate to a rate per second or step, its units, and their name."""
    units = maps[schema.RATE].attrs.get("units")
    if is_per_second(units):
        return 1.0, "bit/s", "second"
    if SECONDS_PER_SAMPLE in maps.attrs:
        if units is None:
            raise ValueError(
                "rate must state its units for per='second', got none, which arithmetic of xarray "
                "may drop; set maps.rate.attrs['units'] to 'Hz', or to '1' for activity per sample"
            )
        return 1 / float(maps.attrs[SECONDS_PER_SAMPLE]), "bit/s", "second"
    if "sample_rate" in maps.attrs:
        return float(maps.attrs["sample_rate"]), "bit/s", "second"
    return 1.0, "bit", "step"


def _neighbours(
    rate: NDArray[np.float64],
    valid: NDArray[np.bool_],
    sizes: tuple[int, ...],
    wrapped: tuple[bool, ...],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean rate (..., bin) of the valid neighbours of every bin, and where both are defined."""

    def around(values: NDArray[np.float64]) -> NDArray[np.float64]:
        laid_out = values.reshape(-1, *sizes)
        return (box_sums(laid_out, wrapped) - laid_out).reshape(values.shape)

    number = np.round(around(valid.astype(float)))
    known = valid & (number > 0)
    return np.divide(around(rate), number, out=np.zeros_like(rate), where=known), known
