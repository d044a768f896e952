"""Remapping: how the rate maps of the same units differ between two conditions."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from placeformer._options import check_number, check_option, check_whole
from placeformer.data import schema
from placeformer.data.circular import axis_periods, mean_direction, shortest
from placeformer.data.schema import variable
from placeformer.data.unit_identity import check_same_measures, check_same_units, common_units
from placeformer.population.vectors import shared_places
from placeformer.stats.intervals import LEVEL
from placeformer.stats.permutation import p_value, reaches
from placeformer.stats.tolerances import FLAT

Centre = Literal["peak", "centroid"]

Periods = tuple[float | None, ...]

NAMES = ("maps_a", "maps_b")

BLOCK_UNITS = 512
"""Number of units whose maps are compared with those of all units at once."""


def remapping(
    maps_a: xr.Dataset,
    maps_b: xr.Dataset,
    *,
    centre: Centre = "peak",
    margin: float = 0.2,
    n_shuffles: int = 1000,
    seed: int = 0,
    allow_other_units: bool = False,
) -> xr.Dataset:
    """Compare the rate maps of every unit in two conditions, and the population with chance.

    Parameters
    ----------
    maps_a, maps_b
        RateMaps of the same units and places, one map each; only places visited in both count.
    centre
        Centre of a field: the place of the maximum rate (``"peak"``), or the ``"centroid"`` of
        the rates above the midpoint of the minimum and maximum rates.
    margin
        Excess of the mean correlation, over that of different units, up to which maps count as
        unrelated in ``global_remapping``; between 0 and 1.
    n_shuffles, seed
        Number and seed of the shuffles of the null, which permutes the units of b within each
        layer.
    allow_other_units
        Pair the units by position even if their labels, their networks or their recording sessions
        differ.

    Returns
    -------
    xarray.Dataset
        Over ``unit``: ``correlation``, Pearson's r of the two maps, -1 to 1; ``p``, the fraction of
        the units of its layer, including this unit, whose maps in b correlate at least as strongly
        with the map of this unit in a as its own map in b; ``field_shift``, the distance between
        the two centres of the field in units of position; ``rate_change``, the change of the mean
        rate from a to b divided by the root mean square of the two maps' standard deviations over
        places, which unlike (b - a) / (b + a) is defined for signed rates and unchanged by scaling
        and shifting a unit. All are NaN for a unit that is flat in a or in b.

        Over ``statistic`` ("correlation", "field_shift"): ``mean`` over units, ``null_mean``,
        ``null_sd``, ``z`` and ``null_p`` = (k + 1) / (n + 1), with k the number of shuffles of unit
        identity in which the maps were as similar as in the data (a correlation as high, a shift
        as small). ``excess``, the mean over units of the correlation minus the mean correlation
        with the maps of the other units of the layer, and ``interval`` (bound), its 95 % interval
        over units (Student's t). ``global_remapping``: 1 if the whole interval is below ``margin``,
        so that the maps are nearly unrelated; 0 if it is above; NaN (undecided) if it contains
        ``margin``, possibly because there are few units. ``n_units``: number of units that vary in
        both.

    Raises
    ------
    ValueError
        Units (by number, label, network or session), places or units of measure differ, an argument
        holds several maps, fewer than 3 places are shared, fewer than 2 units vary, or an option is
        out of range.

    See Also
    --------
    population_vector_correlation : Correlation of population vectors at every place.
    decode_map : Decode the map from the population.

    Notes
    -----
    Units of different layers have different kinds of maps, so the layer alone reveals part of a
    unit's identity: with a null that exchanged units between layers, every population of two layers
    would be less remapped than chance. ``null_p`` above 0.05 is not evidence of global remapping,
    hence ``margin``.

    Units that respond to letters keep their rate maps where the letters are the same: compare maps
    whose letters differ.

    References
    ----------
    Leutgeb, S., Leutgeb, J. K., Barnes, C. A., Moser, E. I., McNaughton, B. L. and Moser, M.-B.
    (2005). Independent codes for spatial and episodic memory in hippocampal neuronal ensembles.
    Science 309, 619-623. https://doi.org/10.1126/science.1114037

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> walks = {"n_walks": 4, "n_steps": 128, "maps": (0, 1)}
    >>> recording = pf.record(model, layers="ffn.1", progress=False, **walks)
    >>> maps = pf.rate_maps(recording, per_map=True)
    >>> result = pf.remapping(maps.isel(map=0), maps.isel(map=1), n_shuffles=99)
    >>> result.correlation.dims, result.field_shift.dims
    (('unit',), ('unit',))
    >>> result["mean"].sel(statistic="correlation").round(1).item()
    0.0
    """
    _check(centre, margin, n_shuffles)
    check_whole("seed", seed, 0)
    (a, b), known = _two(maps_a, maps_b, allow_other_units)
    units = common_units(maps_a, schema.place_dims(maps_a), "remapping, for the shift of fields,")
    place = _positions(maps_a)[known]
    vary = _vary(a, b)
    if vary.sum() < 2:
        raise ValueError(
            f"maps_a and maps_b must have at least 2 units that vary in both, got {vary.sum()}"
        )
    unit_a, unit_b = (_standard(v[:, vary]).T for v in (a, b))
    periods = axis_periods(maps_a)
    where_a, where_b = (_centres(v[:, vary], place, centre, periods) for v in (a, b))
    rng = np.random.default_rng(seed)
    layer = _layers(maps_a)[vary]
    orders = _orders(layer, n_shuffles, rng)
    correlation, p, chance, null_correlation = _identity(unit_a, unit_b, layer, orders)
    shift = _distance(where_a, where_b, periods)
    null_shift = [_distance(where_a, where_b[order], periods).mean() for order in orders]
    change = _change(a[:, vary], b[:, vary])
    columns = {
        "correlation": (correlation, "1", "correlation of the two rate maps"),
        "p": (p, "1", "share of units of b as similar, the same unit included"),
        "field_shift": (shift, units, f"shift of the field's {centre}"),
        "rate_change": (change, "1", "change of mean rate over standard deviation over places"),
    }
    result = _per_unit(columns, vary, maps_a)
    observed = np.array([correlation.mean(), shift.mean()])
    _add_nulls(result, observed, np.array([null_correlation, null_shift]))
    _add_verdict(result, correlation - chance, margin)
    result.attrs = {"centre": centre, "margin": margin}
    result.attrs |= {"n_shuffles": n_shuffles, "seed": seed}
    result.attrs[schema.PROVENANCE] = schema.provenance(
        maps_a, "remapping", **result.attrs, maps_b=schema.read_provenance(maps_b)
    )
    return result


def population_vector_correlation(
    maps_a: xr.Dataset,
    maps_b: xr.Dataset,
    *,
    standardize: bool = False,
    cross: bool = False,
    allow_other_units: bool = False,
) -> xr.DataArray:
    """Correlation over units of the population vectors at the same place in two conditions.

    Other programs use this name for correlations between units; here each value belongs to one
    place in both conditions.

    Parameters
    ----------
    maps_a, maps_b
        RateMaps of the same units and places, one map each.
    standardize
        First scale every unit's rates in each condition to mean 0 and standard deviation 1 over
        the places visited in both. Otherwise differences between the mean rates of units make the
        correlation high everywhere, even between unrelated maps.
    cross
        Correlate every place of a with every place of b.
    allow_other_units
        As in :func:`remapping`.

    Returns
    -------
    xarray.DataArray
        (y, x), Pearson's r, -1 to 1; NaN at places that were not visited in both conditions, where
        a unit is NaN, or where all units have the same rate. With ``cross`` (y, x, y_b, x_b).

    Raises
    ------
    ValueError
        Units, places or units of measure differ, an argument holds several maps, or fewer than 3
        places are shared.

    See Also
    --------
    remapping : Compare the rate maps of every unit in two conditions.
    similarity : Compare two populations that may have different units.

    References
    ----------
    Leutgeb, S. et al. (2005). Science 309, 619-623. https://doi.org/10.1126/science.1114037

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> walks = {"n_walks": 4, "n_steps": 128, "maps": (0, 1)}
    >>> recording = pf.record(model, layers="ffn.1", progress=False, **walks)
    >>> maps = pf.rate_maps(recording, per_map=True)
    >>> r = pf.population_vector_correlation(maps.isel(map=0), maps.isel(map=1))
    >>> r.dims, r.shape
    (('y', 'x'), (7, 7))
    """
    (a, b), known = _two(maps_a, maps_b, allow_other_units)
    if standardize:
        a, b = _standard(a), _standard(b)
    vector_a, vector_b = (_standard(v.T).T for v in (a, b))
    shape = tuple(maps_a.sizes[d] for d in schema.place_dims(maps_a))
    some = [np.where((v != 0).any(axis=1)[:, None], v, np.nan) for v in (vector_a, vector_b)]
    values: NDArray[np.float64] = np.full((known.size,) * (1 + cross), np.nan)
    if cross:
        values[np.ix_(known, known)] = some[0] @ some[1].T
    else:
        values[known] = np.einsum("pu,pu->p", *some)
    return _on_places(np.clip(values, -1, 1).reshape(shape * (1 + cross)), maps_a, cross)


def _two(
    maps_a: xr.Dataset, maps_b: xr.Dataset, allow_other_units: bool
) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
    """Rates (place, unit) of both at the places visited in both, and a mask of these places."""
    rates, known = shared_places(maps_a, maps_b, names=NAMES)
    for maps, name in zip((maps_a, maps_b), NAMES, strict=True):
        more = set(maps[schema.RATE].dims) - {schema.UNIT, *schema.place_dims(maps)}
        if more:
            raise ValueError(
                f"{name} must hold one map, got further dimensions {sorted(map(str, more))}; "
                "select one, for example maps.isel(map=0)"
            )
    check_same_units(maps_a, maps_b, NAMES, allow_other_units=allow_other_units)
    measured = (schema.RATE, *schema.place_dims(maps_a))
    check_same_measures(maps_a, maps_b, NAMES, measured)
    if known.sum() < 3:
        raise ValueError(
            f"maps_a and maps_b must share at least 3 visited places, got {known.sum()}"
        )
    return rates, known


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns minus their mean, with norm 1; 0 for a column that is flat up to rounding."""
    off = values - values.mean(axis=0)
    norm = np.linalg.norm(off, axis=0)
    varies = np.abs(off).max(axis=0) > FLAT * np.abs(values).max(axis=0)
    return np.divide(off, norm, out=np.zeros_like(off), where=varies)


def _vary(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the rates (place, unit) of a unit vary in both conditions."""
    return np.logical_and(*((_standard(v) != 0).any(axis=0) for v in (a, b)))


def n_varying(maps_a: xr.Dataset, maps_b: xr.Dataset) -> int:
    """Number of units whose maps vary in both conditions, which :func:`remapping` compares."""
    return int(_vary(*shared_places(maps_a, maps_b, names=NAMES)[0]).sum())


def _layers(maps: xr.Dataset) -> NDArray[np.intp]:
    """Number of the layer of every unit (unit,)."""
    if "layer" not in maps.coords:
        return np.zeros(maps.sizes[schema.UNIT], np.intp)
    return np.unique(maps["layer"].values, return_inverse=True)[1]


def _orders(layer: NDArray[np.intp], n_shuffles: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Permutations (shuffle, unit) within each layer."""
    orders = np.tile(np.arange(len(layer)), (n_shuffles, 1))
    for number in np.unique(layer):
        own = np.flatnonzero(layer == number)
        orders[:, own] = rng.permuted(orders[:, own], axis=1)
    return orders


def _identity(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    layer: NDArray[np.intp],
    orders: NDArray[np.intp],
) -> tuple[NDArray[np.float64], ...]:
    """Correlation of each unit's maps, how it compares with those of other units, and the null.

    Parameters
    ----------
    a, b
        Maps (unit, place) of mean 0 and norm 1.
    layer
        Number of the layer of every unit.
    orders
        Permutations (shuffle, unit) of the units of b.

    Returns
    -------
    correlation, p, chance, null
        For every unit the correlation, the fraction of the units of its layer that correlate at
        least as strongly, and the mean correlation with the other units of its layer (NaN if there
        are none); for every shuffle the mean correlation.
    """
    own, p, chance = np.empty(len(a)), np.empty(len(a)), np.empty(len(a))
    null = np.zeros(len(orders))
    for start in range(0, len(a), BLOCK_UNITS):
        block = slice(start, start + BLOCK_UNITS)
        with_all = np.clip(a[block] @ b.T, -1, 1)
        row = np.arange(len(with_all))
        own[block] = with_all[row, start + row]
        peers = layer[block, None] == layer
        n = peers.sum(axis=1)
        reached = reaches(with_all, own[block, None]) & peers  # the unit itself is included
        p[block] = reached.sum(axis=1) / n
        others = np.where(peers, with_all, 0.0).sum(axis=1) - own[block]
        chance[block] = np.divide(others, n - 1, out=np.full(len(n), np.nan), where=n > 1)
        null += with_all[row, orders[:, block]].sum(axis=1)
    return own, p, chance, null / len(a)


def _positions(maps: xr.Dataset) -> NDArray[np.float64]:
    """Position of every place (place, axis)."""
    axes = [maps[d].values.astype(float) for d in schema.place_dims(maps)]
    return np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=-1)


def _centres(
    rate: NDArray[np.float64], place: NDArray[np.float64], centre: Centre, periods: Periods
) -> NDArray[np.float64]:
    """Centre of the field of every unit (unit, axis)."""
    if centre == "peak":
        return np.asarray(place[rate.argmax(axis=0)])
    above = np.maximum(rate - (rate.min(axis=0) + rate.max(axis=0)) / 2, 0.0)
    centres = np.asarray(above.T @ place / above.sum(axis=0)[:, None])
    for k, period in enumerate(periods):
        if period is not None:
            centres[:, k] = mean_direction(place[:, k, None], period, above, axis=0)
    return centres


def _distance(
    a: NDArray[np.float64], b: NDArray[np.float64], periods: Periods
) -> NDArray[np.float64]:
    """Distances of positions (unit, axis), the shorter way round on circular axes."""
    apart = [shortest(d, period) for d, period in zip((a - b).T, periods, strict=True)]
    return np.asarray(np.linalg.norm(apart, axis=0))


def _change(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change of the mean over places, divided by the root mean square standard deviation."""
    return np.asarray((b.mean(0) - a.mean(0)) / np.sqrt((a.var(0) + b.var(0)) / 2))


def _per_unit(
    columns: dict[str, tuple[NDArray[np.float64], str, str]],
    vary: NDArray[np.bool_],
    maps: xr.Dataset,
) -> xr.Dataset:
    """Dataset of columns over units, NaN where a unit does not vary."""
    result = xr.Dataset(coords=schema.unit_coords(maps))
    for name, (values, units, text) in columns.items():
        full = np.full(vary.shape, np.nan)
        full[vary] = values
        result[name] = variable(schema.UNIT, full, text, units=units)
    return result


def _add_nulls(
    result: xr.Dataset, observed: NDArray[np.float64], null: NDArray[np.float64]
) -> None:
    """Add means over units (statistic,), compared with those of the shuffles."""
    mean, sd = null.mean(axis=1), null.std(axis=1, ddof=1)
    p = np.array([p_value(null[0], observed[0]), p_value(null[1], observed[1], greater=False)])
    z = np.divide(observed - mean, sd, out=np.full(2, np.nan), where=sd > 0)
    columns = {
        "mean": (observed, "mean over units"),
        "null_mean": (mean, "mean with unit identities shuffled"),
        "null_sd": (sd, "standard deviation with unit identities shuffled"),
        "z": (z, "standard deviations above the null"),
        "null_p": (p, "share of shuffles as similar"),
    }
    for name, (values, text) in columns.items():
        result[name] = variable("statistic", values, text)
    result.coords["statistic"] = ["correlation", "field_shift"]


def _add_verdict(result: xr.Dataset, excess: NDArray[np.float64], margin: float) -> None:
    """Add the mean over units of the excess correlation, and on which side of the margin it is."""
    excess = excess[np.isfinite(excess)]
    mean = excess.mean() if excess.size else np.nan
    reach = np.nan
    if excess.size > 1:
        reach = stats.sem(excess) * stats.t.ppf((1 + LEVEL) / 2, excess.size - 1)
    low, high = mean - reach, mean + reach
    verdict = 1.0 if high < margin else 0.0 if low > margin else np.nan
    about = "1: maps are unrelated up to the margin; 0: they are related; NaN: undecided"
    result["excess"] = variable((), mean, "mean correlation beyond that of different units")
    result["interval"] = variable(
        "bound", [low, high], f"{LEVEL:.0%} interval of the excess over units", level=LEVEL
    )
    result["global_remapping"] = variable((), verdict, about)
    result["n_units"] = variable(
        (), np.count_nonzero(np.isfinite(result["correlation"])), "units that vary in both"
    )
    result.coords["bound"] = ["lower", "upper"]


def _on_places(values: NDArray[np.float64], maps: xr.Dataset, cross: bool) -> xr.DataArray:
    """Label values of places, or of pairs of places."""
    space = schema.place_dims(maps)
    coords = {k: v for d in space for k, v in maps.coords.items() if v.dims == (d,)}
    dims = space
    if cross:
        coords |= {f"{d}_b": (f"{d}_b", maps[d].values, maps[d].attrs) for d in space}
        dims = (*space, *(f"{d}_b" for d in space))
    attrs = {"units": "1", "long_name": "population-vector correlation"}
    return xr.DataArray(values, coords, dims, "population_vector_correlation", attrs)


def _check(centre: str, margin: float, n_shuffles: int) -> None:
    check_option("centre", centre, get_args(Centre))
    check_number("margin", margin)
    if not 0 < margin < 1:
        raise ValueError(f"margin must be between 0 and 1, got {margin}")
    check_whole("n_shuffles", n_shuffles, 2)
