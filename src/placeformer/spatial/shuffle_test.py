"""Shuffle tests: a statistic of every unit compared with its values on shuffled places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm.auto import tqdm

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.spatial import null_distributions as nulls
from placeformer.spatial.binning import BinnedRecording, Bins
from placeformer.spatial.border_score import border_score
from placeformer.spatial.circular_shifts import CircularShifts
from placeformer.spatial.grid_score import grid_score
from placeformer.spatial.measures import coherence, selectivity, sparsity, spatial_information
from placeformer.spatial.place_cell_score import place_cell_score
from placeformer.spatial.rate_maps import Smooth, check_options
from placeformer.stats.multiple_comparisons import benjamini_hochberg
from placeformer.stats.permutation import p_of_counts, reaches

Null = Literal["circular", "within_observation"]
Statistic = str | Callable[..., xr.DataArray]

OF_MAPS: dict[str, Callable[..., xr.DataArray]] = {
    "spatial_information": spatial_information,
    "place_cell_score": place_cell_score,
    "coherence": coherence,
    "selectivity": selectivity,
    "sparsity": sparsity,
    "grid_score": grid_score,
    "border_score": border_score,
}
VARIANCE = "position_variance_explained"
OBSERVATION = "observation"
OF_SAMPLES: dict[str, Callable[..., nulls.Null]] = {
    VARIANCE: nulls.circular_variance,
    "mutual_information": nulls.circular_information,
}
BLIND_TO_LAYOUT = ("spatial_information", "selectivity", "sparsity", *OF_SAMPLES)
"""Statistics that do not change when places are permuted."""


def shuffle_test(
    recording: xr.Dataset,
    statistic: Statistic = "spatial_information",
    *,
    n_shuffles: int = 1000,
    null: Null = "circular",
    min_shift: int | None = None,
    seed: int = 0,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    per_map: bool = False,
    keep_null: bool = False,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Test a statistic of every unit against chance.

    Parameters
    ----------
    recording
        Recording.
    statistic
        ``"spatial_information"``, ``"place_cell_score"``, ``"position_variance_explained"``,
        ``"coherence"``, ``"selectivity"``, ``"grid_score"``, ``"border_score"`` or ``"sparsity"``
        (high values count as extreme; to test for low sparsity pass a function that negates it),
        or a function from RateMaps to a DataArray over ``unit``. ``"mutual_information"`` is not
        corrected, as its bias is the ``null_mean``; each of its shuffles takes ``levels`` - 1
        sums.
    n_shuffles
        Number of shuffles; the minimum p-value is 1 / (n_shuffles + 1).
    null
        ``"circular"``: the places of each walk are shifted in time relative to its activations,
        every walk by its own shift, wrapping around. This keeps the temporal statistics of walks
        and units and destroys any relation between them, including a tuning to observations. With
        the option ``given`` of ``position_variance_explained``, the means over the given values are
        subtracted first, so that the test is of place beyond them. ``"within_observation"``: rates
        are permuted among the places of a map that show the same ``observation``. This keeps any
        tuning to observations and destroys the layout of the places. It needs a statistic that
        depends on the layout (the place-cell score, coherence, or a function). Temporally
        correlated noise makes the rates of neighbouring places similar and is not part of this
        null: use both.
    min_shift
        Minimum circular shift in steps, from either end; it must exceed the time over which
        activations and places are correlated. By default a tenth of the walk. Walks that end in
        NaN are shifted within their own length.
    seed
        Seed of the shuffles.
    by, bins
        Axes and bins of place, as in :func:`rate_maps`; the bins are those of the recording for
        every shuffle.
    smooth, min_occupancy
        Options of :func:`rate_maps` for the maps of the data and of every shuffle, of statistics
        that are computed from maps.
    per_map
        Test every map (room) separately. Otherwise the samples of all maps are pooled, except
        that ``position_variance_explained`` always treats the places of different maps as
        different and sums the variances.
    keep_null
        Also return the statistic in every shuffle, as ``null``.
    progress
        Show a progress bar (tqdm).
    options
        Options of the statistic, such as ``negatives``, ``threshold`` or ``given``.

    Returns
    -------
    xarray.Dataset
        Over ``unit`` (and ``map``): ``observed``, ``null_mean``, ``null_sd``, ``z``, ``p`` (the
        share of shuffles, the data included, with a value at least as high as the data: (k + 1) /
        (n + 1)) and ``q`` (p corrected for the number of units, the false discovery rate of
        Benjamini and Hochberg, for every map separately). NaN where the statistic is; shuffles in
        which it is undefined are left out of n. With ``keep_null`` also ``null``, float32, with a
        leading dimension ``shuffle``.

    Raises
    ------
    ValueError
        An option is unknown, the walks are too short for ``min_shift``, or the null leaves the
        statistic unchanged.

    See Also
    --------
    place_cells : Criteria for place cells, which combine three shuffle tests.
    spatial_information, position_variance_explained, mutual_information

    References
    ----------
    Phipson, B. and Smyth, G. K. (2010). Statistical Applications in Genetics and Molecular
    Biology 9, 39. https://doi.org/10.2202/1544-6115.1585
    Benjamini, Y. and Hochberg, Y. (1995). Journal of the Royal Statistical Society B 57,
    289-300. https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> test = pf.shuffle_test(
    ...     recording, "position_variance_explained", n_shuffles=99, progress=False
    ... )
    >>> list(test.data_vars)
    ['observed', 'null_mean', 'null_sd', 'z', 'p', 'q']
    >>> float(test.p.min())  # 1 / (n_shuffles + 1)
    0.01
    """
    _check(statistic, n_shuffles, null)
    of_samples = isinstance(statistic, str) and statistic in OF_SAMPLES
    if of_samples and not (smooth is None and min_occupancy is None):
        raise ValueError(
            f"smooth and min_occupancy are options of rate maps, from which {statistic!r} is not "
            f"computed; got smooth={smooth!r}, min_occupancy={min_occupancy!r}"
        )
    given = options.get("given") if statistic == VARIANCE else None
    need = [OBSERVATION] if null == "within_observation" else [given] if given else []
    if per_map and statistic not in OF_SAMPLES:
        need.append(schema.MAP)
    binned = BinnedRecording.of(recording, by=by, bins=bins, need=need)
    return compare_with_shuffles(
        binned,
        statistic,
        n_shuffles=n_shuffles,
        null=null,
        min_shift=min_shift,
        seed=seed,
        smooth=smooth,
        min_occupancy=min_occupancy,
        per_map=per_map,
        keep_null=keep_null,
        progress=progress,
        **options,
    )


def compare_with_shuffles(
    binned: BinnedRecording,
    statistic: Statistic,
    *,
    n_shuffles: int,
    null: Null,
    min_shift: int | None,
    seed: int,
    per_map: bool,
    keep_null: bool,
    progress: bool,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    **options: Any,
) -> xr.Dataset:
    """Run a :func:`shuffle_test` on a binned recording that has the variables it needs."""
    rng = np.random.default_rng(seed)
    of_maps = {"smooth": smooth, "min_occupancy": min_occupancy}
    check_options(binned, min_occupancy, smooth)
    if null == "circular":
        shifts = CircularShifts.of(binned.lengths, binned.recording.sizes[schema.TIME], min_shift)
        low = int(shifts.least.max())
    else:
        low = 0
    if isinstance(statistic, str) and statistic in OF_SAMPLES:
        data, draws = OF_SAMPLES[statistic](binned, per_map, n_shuffles, shifts, rng, **options)
    elif null == "circular":
        places = binned.split_by_map() if per_map else binned
        measure = _measure(statistic, options)
        data, draws = nulls.circular_maps(places, n_shuffles, shifts, rng, measure, **of_maps)
    else:
        measure = _measure(statistic, options)
        data, draws = nulls.permuted_maps(binned, per_map, n_shuffles, rng, measure, **of_maps)
    shuffles: list[NDArray[np.float32]] = []
    draws = _keeping(draws, shuffles) if keep_null else draws
    result = _summary(data, draws, tqdm(total=n_shuffles, desc="shuffles", disable=not progress))
    if keep_null:
        dims = (nulls.SHUFFLE, *data.dims)
        about = {"units": data.attrs.get("units", "1"), "long_name": "statistic in every shuffle"}
        result["null"] = (dims, np.concatenate(shuffles), about)
    name = statistic if isinstance(statistic, str) else getattr(statistic, "__name__", "function")
    settings = {
        "statistic": name,
        "null": null,
        "n_shuffles": n_shuffles,
        "min_shift": low,
        "seed": seed,
    }
    if not (isinstance(statistic, str) and statistic in OF_SAMPLES):
        options |= of_maps
    result.attrs.update(settings)
    result.attrs[schema.PROVENANCE] = schema.provenance(
        binned.recording, "shuffle_test", **settings, **options
    )
    return result


def _measure(statistic: Statistic, options: dict[str, Any]) -> nulls.Measure:
    """The statistic as a function of rate maps alone; named statistics keep dimensions."""
    function = OF_MAPS[statistic] if isinstance(statistic, str) else statistic
    return nulls.Measure(partial(function, **options), isinstance(statistic, str))


def _check(statistic: Statistic, n_shuffles: int, null: str) -> None:
    if isinstance(statistic, str) and statistic not in (*OF_MAPS, *OF_SAMPLES):
        raise ValueError(
            f"statistic must be one of {(*OF_MAPS, *OF_SAMPLES)} or a function of rate maps, got "
            f"{statistic!r}"
        )
    if n_shuffles < 1:
        raise ValueError(f"n_shuffles must be at least 1, got {n_shuffles}")
    check_option("null", null, get_args(Null))
    if null == "within_observation" and statistic in BLIND_TO_LAYOUT:
        raise ValueError(
            f"null='within_observation' permutes places, which does not change {statistic!r}; use "
            "statistic='place_cell_score' or 'coherence', or null='circular'"
        )


def _keeping(
    draws: Iterator[NDArray[Any]], shuffles: list[NDArray[np.float32]]
) -> Iterator[NDArray[Any]]:
    """Yield the shuffles, and append them to a list."""
    for values in draws:
        shuffles.append(values.astype(np.float32))
        yield values


def _summary(data: xr.DataArray, draws: Iterator[NDArray[Any]], bar: Any) -> xr.Dataset:
    """Summarise the shuffles, which come in groups, and compare the data with them."""
    observed = np.asarray(data.values, float)
    n, mean, squares, extreme = (np.zeros(observed.shape) for _ in range(4))
    for value in chain.from_iterable(draws):
        known = np.isfinite(value)
        n += known
        step = np.where(known, value - mean, 0.0)
        mean += step / np.maximum(n, 1)
        squares += step * np.where(known, value - mean, 0.0)
        extreme += reaches(value, observed)
        bar.update()
    bar.close()
    return _table(data, observed, n, mean, squares, extreme)


def _table(
    data: xr.DataArray,
    observed: NDArray[np.float64],
    n: NDArray[np.float64],
    mean: NDArray[np.float64],
    squares: NDArray[np.float64],
    extreme: NDArray[np.float64],
) -> xr.Dataset:
    """Means, standard deviations and p-values with names and units."""
    sd = np.sqrt(np.divide(squares, n - 1, out=np.full(n.shape, np.nan), where=n > 1))
    mean = np.where(n > 0, mean, np.nan)
    z = np.divide(observed - mean, sd, out=np.full(n.shape, np.nan), where=sd > 0)
    p = p_of_counts(extreme, n, observed)
    units, what = data.attrs.get("units", "1"), data.attrs.get("long_name", "statistic")
    columns = {
        "observed": (observed, units, what),
        "null_mean": (mean, units, f"mean of shuffles: {what}"),
        "null_sd": (sd, units, f"standard deviation of shuffles: {what}"),
        "z": (z, "1", "distance from the mean of shuffles in their standard deviations"),
        "p": (p, "1", "share of shuffles at least as great, the data counted: (k + 1) / (n + 1)"),
        "q": (benjamini_hochberg(p), "1", "p corrected for the number of units (FDR)"),
    }
    variables = {
        name: data.copy(data=values).drop_attrs(deep=False).assign_attrs(units=u, long_name=text)
        for name, (values, u, text) in columns.items()
    }
    settings = {k: v for k, v in data.attrs.items() if k not in ("units", "long_name")}
    return xr.Dataset(variables, attrs=settings)
