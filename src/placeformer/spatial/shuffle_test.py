"""Shuffle tests: a statistic of every unit compared with its values on shuffled places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm.auto import tqdm

from placeformer._options import check_option, check_share, check_whole
from placeformer._warnings import warn
from placeformer.data import schema
from placeformer.spatial import null_distributions as nulls
from placeformer.spatial.binning import BinnedRecording, Bins, Circular
from placeformer.spatial.border_score import border_score
from placeformer.spatial.grid_score import grid_score
from placeformer.spatial.mean_vector import mean_vector_length
from placeformer.spatial.measures import coherence, selectivity, sparsity, spatial_information
from placeformer.spatial.place_cell_score import place_cell_score
from placeformer.spatial.place_shuffles import (
    MIN_WALKS,
    SHARED_COURSE,
    CircularShifts,
    Shuffles,
    WalkExchange,
    correlation_times,
    course_agreement,
)
from placeformer.spatial.rate_maps import Smooth, check_options
from placeformer.stats.monte_carlo import MonteCarloTest, check_n
from placeformer.stats.multiple_comparisons import benjamini_hochberg
from placeformer.stats.tolerances import TIES

Null = Literal["auto", "walks", "circular", "within_observation"]
Statistic = str | Callable[..., xr.DataArray]
Make = Callable[[BinnedRecording], nulls.Null]

OF_MAPS: dict[str, Callable[..., xr.DataArray]] = {
    "spatial_information": spatial_information,
    "place_cell_score": place_cell_score,
    "coherence": coherence,
    "selectivity": selectivity,
    "sparsity": sparsity,
    "grid_score": grid_score,
    "border_score": border_score,
    "mean_vector_length": mean_vector_length,
}
VARIANCE = "position_variance_explained"
OBSERVATION = "observation"
OF_SAMPLES: dict[str, Callable[..., nulls.Null]] = {
    VARIANCE: nulls.shuffled_variance,
    "mutual_information": nulls.shuffled_information,
}
BLIND_TO_LAYOUT = ("spatial_information", "selectivity", "sparsity", *OF_SAMPLES)
"""Statistics that do not change when places are permuted."""
OF_POSITIVE_RATES = (
    "spatial_information",
    "selectivity",
    "sparsity",
    "place_cell_score",
    "mean_vector_length",
)
"""Statistics that are undefined for negative rates, and need a policy for them."""

COLUMNS = ("observed", "null_mean", "null_sd", "z", "p", "q", "n_shuffles", "null", nulls.SHUFFLE)
"""Names of the variables of a test, and of the dimension of its shuffles."""

FEWER = 0.6
"""Fraction of the units below which further shuffles are made for undecided units only."""

LONG_WALK = 10
"""Minimum length of a walk in correlation times of a unit, for circular shifts."""


def shuffle_test(
    recording: xr.Dataset,
    statistic: Statistic = VARIANCE,
    *,
    n_shuffles: int | Literal["auto"] = "auto",
    null: Null = "auto",
    min_shift: int | None = None,
    seed: int = 0,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    per_map: bool = False,
    circular: Circular = None,
    max_q: float = 0.05,
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
        ``"position_variance_explained"`` (the default, which is made for signed activations),
        ``"spatial_information"``, ``"place_cell_score"``, ``"coherence"``, ``"selectivity"``,
        ``"grid_score"``, ``"border_score"``, ``"mean_vector_length"`` (on one circular axis) or
        ``"sparsity"`` (high values count as extreme; to test for low sparsity pass a function that
        negates it), ``"mutual_information"`` (not corrected, because its bias is the
        ``null_mean``; each shuffle takes ``levels`` - 1 sums), or a function from RateMaps to a
        DataArray over ``unit`` (with ``per_map`` over ``map`` and ``unit``).
    n_shuffles
        ``"auto"``: shuffles are made until every decision at ``max_q`` is settled, at most 20,000,
        by sequential Monte Carlo tests. A unit needs no more shuffles once 5 of them have reached
        its value (its p is 5 divided by the shuffles made), or once its p is small enough among all
        units. A number: that many shuffles for every unit; the minimum p-value is then
        1 / (n_shuffles + 1), and q cannot be small if few of many units are tuned. A single walk
        has at most as many shuffles as distinct shifts.
    null
        ``"walks"``: the walks of each map exchange their places, so that the activations of a walk
        meet the places of another walk. This keeps the temporal statistics of walks and units,
        including those locked to the start of a walk. ``"circular"``: the places of each walk are
        shifted in time relative to its activations, with wrap-around and a separate shift for every
        walk. It needs walks that are long compared with the time over which activations are
        correlated: in short walks the p-values are too small for slow units and for units that
        change with the time since the start of a walk. ``"auto"``: ``"walks"`` if every map has at
        least 8 walks that do not follow the same path (laps on a track do) and ``min_shift`` is not
        given, otherwise ``"circular"``. Both destroy any relation between activations and places,
        including tuning to observations. With the option ``given`` of
        ``position_variance_explained``, the means over the given values are subtracted first, so
        that the test is of place beyond them. ``"within_observation"``: rates are permuted among
        the places of a map that show the same ``observation``. This keeps any tuning to
        observations and destroys the layout of the places. It needs a statistic that depends on the
        layout (the place-cell score, coherence, or a function). Temporally correlated noise makes
        the rates of neighbouring places similar and is not part of this null, so test against both
        kinds of null.
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
        Options of :func:`rate_maps` for the maps of the data and of every shuffle, for statistics
        that are computed from maps.
    per_map
        Test every map (room) separately. Otherwise the samples of all maps are pooled, except
        that ``position_variance_explained`` always treats the places of different maps as
        different and sums the variances.
    circular
        Period of every circular variable, as in :func:`rate_maps`.
    max_q
        False-discovery rate of the decisions that ``n_shuffles="auto"`` settles.
    keep_null
        Also return the statistic in every shuffle, as ``null``; with ``"auto"`` in the first 50,
        which are made for every unit.
    progress
        Show a progress bar (tqdm).
    options
        Options of the statistic, such as ``negatives``, ``threshold`` or ``given``.

    Returns
    -------
    xarray.Dataset
        Over ``unit`` (and ``map``): ``observed``, ``null_mean``, ``null_sd``, ``z``, ``p`` (the
        fraction of shuffles, including the data, with a value at least as high as the data: (k + 1)
        / (n + 1); with ``"auto"`` the sequential p-value, or an upper bound of it for units whose
        rejection was settled early), ``q`` (p corrected for the number of units, the false
        discovery rate of Benjamini and Hochberg, for every map separately) and ``n_shuffles`` (the
        number of valid shuffles behind p). NaN where the statistic is NaN; shuffles in which it is
        undefined are left out. With ``keep_null`` also ``null``, float32, with a leading dimension
        ``shuffle``. ``attrs["null"]`` names the null that was used.

    Raises
    ------
    ValueError
        An option is unknown, a function returns something else, too few distinct shuffles are
        possible (fewer than 20 shifts of a walk, or fewer than 4 walks of a map to exchange), the
        null leaves the statistic unchanged, or the bins hold no sample.

    Warns
    -----
    UserWarning
        Walks that are shifted are shorter than 10 correlation times of a unit, walks that are
        exchanged follow the same path, the shuffles do not change the statistic of a unit, or a
        statistic of firing rates is undefined for units without a positive rate.

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
    Besag, J. and Clifford, P. (1991). Sequential Monte Carlo p-values. Biometrika 78, 301-304.
    https://doi.org/10.1093/biomet/78.2.301

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=8, n_steps=128, layers="ffn.1", progress=False)
    >>> test = pf.shuffle_test(recording, progress=False)
    >>> list(test.data_vars)
    ['observed', 'null_mean', 'null_sd', 'z', 'p', 'q', 'n_shuffles']
    >>> test.attrs["null"], bool((test.q <= 0.05).any())
    ('walks', True)
    >>> fixed = pf.shuffle_test(recording, n_shuffles=99, progress=False)
    >>> float(fixed.p.min())  # 1 / (n_shuffles + 1)
    0.01
    """
    n = check_n("n_shuffles", n_shuffles)
    _check(statistic, null)
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
    binned = BinnedRecording.of(recording, by=by, bins=bins, need=need, circular=circular)
    binned.check_visited()
    return compare_with_shuffles(
        binned,
        statistic,
        n_shuffles=n,
        null=choose_null(binned, null, min_shift),
        min_shift=min_shift,
        seed=seed,
        smooth=smooth,
        min_occupancy=min_occupancy,
        per_map=per_map,
        max_q=max_q,
        keep_null=keep_null,
        progress=progress,
        **options,
    )


def compare_with_shuffles(
    binned: BinnedRecording,
    statistic: Statistic,
    *,
    n_shuffles: int | None,
    null: Null,
    min_shift: int | None,
    seed: int,
    per_map: bool,
    max_q: float,
    keep_null: bool,
    progress: bool,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    vectorised: bool = False,
    **options: Any,
) -> xr.Dataset:
    """Run a :func:`shuffle_test` on a binned recording that has the variables it needs.

    ``n_shuffles=None``: as many shuffles as the decisions need. ``null`` must not be "auto". A
    ``vectorised`` function keeps leading dimensions of the maps, as named statistics do.
    """
    check_whole("seed", seed, 0)
    check_share("max_q", max_q)
    schema.refuse_names(binned.recording, COLUMNS)
    rng = np.random.default_rng(seed)
    of_maps = {"smooth": smooth, "min_occupancy": min_occupancy}
    check_options(binned, min_occupancy, smooth)
    shuffles = None if null == "within_observation" else _shuffles(binned, null, min_shift)
    name = statistic if isinstance(statistic, str) else getattr(statistic, "__name__", "function")

    def make(units: BinnedRecording) -> nulls.Null:
        if isinstance(statistic, str) and statistic in OF_SAMPLES:
            return OF_SAMPLES[statistic](units, per_map, shuffles, rng, **options)
        measure = _measure(statistic, options, vectorised)
        if shuffles is None:
            return nulls.permuted_maps(units, per_map, rng, measure, **of_maps)
        places = units.split_by_map() if per_map else units
        return nulls.shuffled_measure(places, shuffles, rng, measure, **of_maps)

    first = make(binned)
    if statistic in OF_POSITIVE_RATES:
        _warn_of_undefined(binned.recording, first.observed, name)
    test = MonteCarloTest(
        np.asarray(first.observed.values, float),
        n_shuffles,
        np.inf if shuffles is None else shuffles.distinct,
    )
    shown: list[NDArray[np.float32]] = []
    with tqdm(desc="shuffles", total=n_shuffles, disable=not progress) as bar:
        _draw(binned, make, first, test, max_q, bar, shown if keep_null else None)
    result = _table(first.observed, test)
    if name in OF_SAMPLES:
        _warn_of_idle_shuffles(test, name)
    if keep_null:
        dims = (nulls.SHUFFLE, *first.observed.dims)
        units = first.observed.attrs.get("units", "1")
        about = {"units": units, "long_name": "statistic in every shuffle"}
        result["null"] = (dims, np.concatenate(shown), about)
    settings = {
        "statistic": name,
        "null": null,
        "n_shuffles": "auto" if n_shuffles is None else test.most,
        "min_shift": int(shuffles.least.max()) if isinstance(shuffles, CircularShifts) else 0,
        "seed": seed,
    }
    if not (isinstance(statistic, str) and statistic in OF_SAMPLES):
        options |= of_maps
    result.attrs.update(settings)
    result.attrs[schema.PROVENANCE] = schema.provenance(
        binned.recording, "shuffle_test", **settings, **options
    )
    return result


def chance_corrected(test: xr.Dataset) -> xr.DataArray:
    """Observed variance explained, corrected for the variance explained by chance.

    The value is (o - m) / (1 - m), with o the observed variance.

    The mean of the shuffles, m, grows with the autocorrelation of a unit.
    """
    observed, chance = test["observed"], test["null_mean"]
    text = f"{observed.attrs['long_name']}, corrected by the mean of shuffles"
    corrected = observed.copy(data=((observed - chance) / (1 - chance)).values)
    return corrected.assign_attrs(long_name=text)


def _draw(
    binned: BinnedRecording,
    make: Make,
    null: nulls.Null,
    test: MonteCarloTest,
    max_q: float,
    bar: Any,
    keep: list[NDArray[np.float32]] | None,
) -> None:
    """Make shuffles for the units whose decision is open until no decision is open."""
    units = np.arange(test.observed.shape[-1])
    while (n := test.next_draws()) > 0:
        for values in null.draw(n):
            if keep is not None:
                keep.append(values.astype(np.float32))
            for value in values:
                test.add(value, units)
            bar.update(len(values))
        keep = None
        if not test.sequential:
            break
        open_units = np.flatnonzero(test.undecided(max_q).any(axis=tuple(range(test.p.ndim - 1))))
        bar.set_postfix(undecided=open_units.size)
        if not open_units.size:
            break
        if open_units.size < FEWER * units.size:
            units, null = open_units, make(binned.of_units(open_units))


def choose_null(binned: BinnedRecording, null: Null, min_shift: int | None) -> Null:
    """Name of the null of a recording; ``"auto"`` chooses it from the walks.

    Raises
    ------
    ValueError
        A `min_shift` for a null that does not shift.

    Warns
    -----
    UserWarning
        Walks that are exchanged follow the same path, or walks that are shifted are short compared
        with the correlation time of a unit.
    """
    if min_shift is not None and null not in ("auto", "circular"):
        raise ValueError(
            f"min_shift is an option of null='circular', got null={null!r}; pass null='circular', "
            "or leave min_shift out"
        )
    if null == "within_observation":
        return null
    shared = course_agreement(binned)
    if null == "auto":
        enough = (
            np.bincount(schema.map_of_walk(binned.recording)[binned.lengths > 0]).min() >= MIN_WALKS
        )
        null = "walks" if enough and shared <= SHARED_COURSE and min_shift is None else "circular"
    elif null == "walks" and shared > SHARED_COURSE:
        warn(
            f"null='walks': the walks of a map follow the same path (agreement {shared:.2f} of two "
            "walks at the same step, chance being 0), so an exchange hardly changes the places "
            "and p is near 1; use null='circular'",
        )
    if null == "circular":
        _warn_of_short_walks(binned, shared > SHARED_COURSE)
    return null


def _shuffles(binned: BinnedRecording, null: Null, min_shift: int | None) -> Shuffles:
    """Shuffles of the places of a recording."""
    n_steps = binned.recording.sizes[schema.TIME]
    if null == "circular":
        return CircularShifts(binned.lengths, n_steps, min_shift)
    return WalkExchange.of(binned.lengths, n_steps, schema.map_of_walk(binned.recording))


def _warn_of_short_walks(binned: BinnedRecording, laps: bool) -> None:
    times, shortest = correlation_times(binned), int(binned.lengths[binned.lengths > 0].min())
    slow = LONG_WALK * times > shortest
    if slow.any():
        warn(
            f"{int(slow.sum())} of {slow.size} units stay correlated over up to "
            f"{int(times[slow].max())} steps (autocorrelation above 1/e), and the shortest walk "
            f"has {shortest} steps: p-values from circular shifts of walks shorter than "
            f"{LONG_WALK} correlation times are too small. "
            + (
                "Load the laps as one walk with join=True"
                if laps
                else f"Record longer walks, or at least {MIN_WALKS} walks of each map"
            ),
        )


def _warn_of_idle_shuffles(test: MonteCarloTest, name: str) -> None:
    size = TIES * np.abs(test.observed)
    idle = (test.sd <= size) & (np.abs(test.mean - test.observed) <= size)
    if idle.any():
        warn(
            f"the shuffles do not change {name} of {int(idle.sum())} of {idle.size} units, whose p "
            "of 1 is meaningless: the walks repeat one path exactly, so that place and time in "
            "the walk cannot be distinguished",
        )


def _warn_of_undefined(recording: xr.Dataset, observed: xr.DataArray, name: str) -> None:
    undefined = np.isnan(observed.values)
    if undefined.any():
        warn(
            f"{name} is undefined for {int(undefined.sum())} of {undefined.size} units under "
            f"negatives={observed.attrs.get('negatives', 'rectify')!r} (no rate is above 0), and "
            "so are their p-values; pass another policy, such as negatives='shift', or test "
            f"{VARIANCE!r}, which is made for signed activations",
        )


def _measure(statistic: Statistic, options: dict[str, Any], vectorised: bool) -> nulls.Measure:
    """The statistic as a function of rate maps alone; named statistics keep dimensions."""
    function = OF_MAPS[statistic] if isinstance(statistic, str) else statistic
    keeps_dimensions = vectorised or isinstance(statistic, str)
    return nulls.Measure(partial(function, **options), keeps_dimensions)


def _check(statistic: Statistic, null: str) -> None:
    if isinstance(statistic, str) and statistic not in (*OF_MAPS, *OF_SAMPLES):
        raise ValueError(
            f"statistic must be one of {(*OF_MAPS, *OF_SAMPLES)} or a function of rate maps, got "
            f"{statistic!r}"
        )
    check_option("null", null, get_args(Null))
    if null == "within_observation" and statistic in BLIND_TO_LAYOUT:
        raise ValueError(
            f"null='within_observation' permutes places, which does not change {statistic!r}; use "
            "statistic='place_cell_score' or 'coherence', or null='walks'"
        )


def _table(data: xr.DataArray, test: MonteCarloTest) -> xr.Dataset:
    """Observed values, means, standard deviations and p-values with names and units."""
    observed, mean, sd = test.observed, test.mean, test.sd
    z = np.divide(observed - mean, sd, out=np.full(sd.shape, np.nan), where=sd > 0)
    units, what = data.attrs.get("units", "1"), data.attrs.get("long_name", "statistic")
    kind = "sequential Monte Carlo" if test.sequential else "(k + 1) / (n + 1)"
    columns = {
        "observed": (observed, units, what),
        "null_mean": (mean, units, f"mean of shuffles: {what}"),
        "null_sd": (sd, units, f"standard deviation of shuffles: {what}"),
        "z": (z, "1", "distance from the mean of shuffles in their standard deviations"),
        "p": (test.p, "1", f"share of shuffles at least as great, the data counted: {kind}"),
        "q": (benjamini_hochberg(test.p), "1", "p corrected for the number of units (FDR)"),
        "n_shuffles": (test.n, "1", "number of valid shuffles that p rests on"),
    }
    variables = {
        name: data.copy(data=values).drop_attrs(deep=False).assign_attrs(units=u, long_name=text)
        for name, (values, u, text) in columns.items()
    }
    settings = {k: v for k, v in data.attrs.items() if k not in ("units", "long_name")}
    return xr.Dataset(variables, attrs=settings)
