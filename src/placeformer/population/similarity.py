"""Similarity of two populations: CKA and RSA, with tests that exchange walks or move maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats
from tqdm.auto import tqdm

from placeformer._options import check_option, check_whole
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.data.unit_identity import warn_of_other_worlds
from placeformer.population.mirrored_maps import mirrored, symmetries
from placeformer.population.similarity_measures import (
    MAX_ROWS,
    NAMES,
    Distance,
    Matrices,
    Measure,
    Method,
    Rows,
)
from placeformer.population.vectors import check_padding, is_maps, pair, shared_places, thinned
from placeformer.spatial.stability import HALF
from placeformer.stats.intervals import LEVEL
from placeformer.stats.permutation import p_value

MAX_PARTS = 100
"""Maximum number of parts that the jackknife leaves out in turn."""

NULL_ROWS = 1_000
"""Maximum number of samples that the shuffles of a recording compare pair by pair."""

MIN_ORDERS = 20
"""Minimum number of distinct shuffles, of walks or of mirrored units, for p <= 0.05."""

MIN_PLACES = 5
"""Minimum number of places that the mirror images of a map must share."""


def similarity(
    a: xr.Dataset,
    b: xr.Dataset,
    *,
    method: Method = "cka",
    debiased: bool = False,
    distance: Distance = "correlation",
    every: int = 1,
    n_shuffles: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    r"""Similarity of two populations, which need not have the same number of units.

    .. math:: \mathrm{CKA} = \frac{\lVert Y^\top X \rVert_F^2}
              {\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F}

    with X and Y the population vectors (row, unit), each unit minus its mean over rows. RSA is
    Spearman's correlation between the distances of pairs of rows in a and in b.

    Parameters
    ----------
    a, b
        Two Recordings of the same walks (rows are samples), two RateMaps of the same places (rows
        are the places visited in both), or the :func:`half_maps` of two recordings, which also give
        a noise ceiling. Two recordings are of the same walks if all variables of samples and walks
        that both have are equal, except the predictions of networks and the clock.
    method
        ``"cka"``: linear centred kernel alignment. ``"rsa"``: representational similarity.
    debiased
        Leave out all pairs of samples of the same walk, or of a place with itself, in numerator and
        denominator. Samples of one walk share slow noise, and a row equals itself, so CKA of all
        pairs is above 0 for unrelated populations, and near 1 for few rows and many units. The
        debiased value is 0 on average for unrelated populations whose walks are independent, and
        may be negative. CKA then needs at least four walks, each of which counts equally. By
        default all pairs count, as published; compare the value with ``null_mean``, and note that
        ``interval`` includes the bias of the value.
    distance
        Distance between rows for RSA: ``"correlation"`` (1 - r), ``"euclidean"`` or ``"cosine"``.
        The first is undefined for rows in which all units are equal, the last for rows of zeros,
        such as samples without a spike.
    every
        Use only every n-th step of a recording, with n this number.
    n_shuffles
        Number of shuffles of the null; 0 for none. For recordings, whole walks of b are exchanged
        (walks of unequal length are paired over the steps that both have), and recordings of more
        than 1,000 samples are thinned evenly for this test, both the data and the shuffles. For
        rate maps, every unit of b is rotated and mirrored independently, which keeps the spatial
        autocorrelation of its map.
    seed
        Random seed of the shuffles.
    progress
        Show a progress bar (tqdm).

    Returns
    -------
    xarray.Dataset
        ``similarity``: CKA at most 1 (at least 0 unless debiased), unchanged by rotation, shift and
        isotropic scaling of either population; RSA -1 to 1, with Euclidean distances unchanged by
        the same operations (with the correlation distance by scaling, with the cosine distance by
        rotation and scaling). NaN for a population that does not vary. ``interval`` (bound): 95 %
        interval, from a jackknife that leaves out one walk, or one of a hundred groups of walks, at
        a time; NaN for rate maps, whose places are not independent. ``noise_ceiling``: for half
        maps, the geometric mean of the similarities of the two halves of a and of b, which two
        networks with equal codes would reach; else NaN. ``null_mean``, ``null_sd``, ``z`` and
        ``p`` = (k + 1) / (n + 1), with k the number of shuffles with at least the similarity of
        the data. ``reason``: why p is NaN (fewer than 20 orders of the walks or mirror images of
        the maps), else empty. ``n_rows``, ``n_units`` (population).

    Raises
    ------
    ValueError
        Places or walks differ, values are not finite, there are too few walks or rows, or there are
        too many rows for RSA or rows for which its distance is undefined.

    See Also
    --------
    dimensionality : Number of dimensions that a population uses.
    half_maps : Maps of two halves, for the noise ceiling.
    population_vector_correlation : Compare the same units in two conditions.

    Notes
    -----
    Debiased CKA is a U-statistic over walks: every product is taken from different walks, which are
    independent, so that its numerator and both factors of its denominator are unbiased. With half
    maps, the similarity is the mean over both pairs of one half of a and the other half of b; noise
    in the maps lowers it as it lowers the ceiling.

    Smooth maps resemble each other even if they are unrelated (CKA of two populations of random
    smooth maps is about 0.8), because neighbouring places are alike in both. Rotated and mirrored
    units resemble the maps of a for the same reason. p is uniform for units whose maps are drawn
    independently, and too large if the units of b share a few patterns. A control, such as maps of
    a novel room, is more informative.

    CKA of more rows than units is computed from sums over blocks of walks, NumPy or dask, in memory
    that does not grow with the number of walks; otherwise, and for RSA, rows are loaded. The
    interval is a jackknife because a bootstrap draws walks repeatedly, which biases both measures
    upwards.

    References
    ----------
    Kornblith, S., Norouzi, M., Lee, H. and Hinton, G. (2019). Similarity of neural network
    representations revisited. ICML. (PMLR 97, 3519-3529; no DOI.)
    Kriegeskorte, N., Mur, M. and Bandettini, P. (2008). Representational similarity analysis.
    Frontiers in Systems Neuroscience 2, 4. https://doi.org/10.3389/neuro.06.004.2008
    Székely, G. J. and Rizzo, M. L. (2014). Partial distance correlation with methods for
    dissimilarities. Annals of Statistics 42, 2382-2412. https://doi.org/10.1214/14-AOS1255

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> layers = ["ffn.0", "ffn.1"]
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers=layers, progress=False)
    >>> maps = [pf.rate_maps(recording.sel(unit=recording.layer == name)) for name in layers]
    >>> result = pf.similarity(*maps, n_shuffles=99, progress=False)
    >>> bool(0 < result.similarity < 1), float(result.p)
    (True, 0.01)
    """
    check_option("method", method, get_args(Method))
    check_option("distance", distance, get_args(Distance))
    check_whole("every", every)
    check_whole("n_shuffles", n_shuffles, 0)
    check_whole("seed", seed, 0)
    measure = Measure(method, debiased, distance)
    rng = np.random.default_rng(seed)
    if is_maps(a) and is_maps(b):
        found = _of_maps(a, b, measure, n_shuffles, rng, progress)
    else:
        found = _of_recordings(a, b, measure, every, n_shuffles, rng, progress)
    settings = {"method": method, "debiased": int(debiased), "distance": distance, "every": every}
    settings |= {"n_shuffles": n_shuffles, "seed": seed}
    return _labelled(found, (a, b), settings)


@dataclass(frozen=True)
class Found:
    """A similarity with its interval, null distribution and noise ceiling."""

    value: float
    n_rows: int
    null: Null
    left: NDArray[np.float64] | None = None
    """Similarity without each part of the walks in turn; ``None``: no interval."""
    ceiling: float = np.nan


@dataclass(frozen=True)
class Null:
    """Similarity of shuffled rows, and of the same rows unshuffled."""

    observed: float
    values: NDArray[np.float64]
    reason: str = ""
    """Why there are no shuffles."""


def _of_recordings(
    a: xr.Dataset,
    b: xr.Dataset,
    measure: Measure,
    every: int,
    n_shuffles: int,
    rng: np.random.Generator,
    progress: bool,
) -> Found:
    x, y = pair(a, b, NAMES, every)
    n_walks = x.shape[0]
    measure.check_rows(n_walks, n_walks * x.shape[1], a)
    compared = measure.compare(x, y, (a, b))
    for rows, data in ((x, a), (y, b)):
        check_padding(data, rows, compared.n_rows, every)
    measure.check_rows(n_walks, compared.n_rows, a)
    value, left = compared.value(), None
    if n_walks > 1:
        parts = np.array_split(np.arange(n_walks), min(MAX_PARTS, n_walks))
        left = np.array([compared.without(part) for part in parts])
    n_orders = math.factorial(min(n_walks, MIN_ORDERS))
    reason = _why_not(n_shuffles, n_orders, "the walks can be exchanged", "record more walks")
    if reason:
        return Found(value, compared.n_rows, Null(np.nan, np.empty(0), reason), left)
    step = max(1, -(-compared.n_rows // NULL_ROWS))
    few = compared
    if step > 1 or not isinstance(few, Matrices):
        few = measure.matrices(thinned(x, step), thinned(y, step), (a, b))
    shuffles = tqdm(range(n_shuffles), desc="shuffles", disable=not progress)
    null = [few.paired(*_exchanged(few.group, rng.permutation(n_walks))) for _ in shuffles]
    return Found(value, compared.n_rows, Null(few.value(), np.array(null)), left)


def _of_maps(
    a: xr.Dataset,
    b: xr.Dataset,
    measure: Measure,
    n_shuffles: int,
    rng: np.random.Generator,
    progress: bool,
) -> Found:
    """Similarity of two RateMaps, or of each half of a with the other half of b."""
    warn_of_other_worlds(a, b, NAMES)
    halved = [HALF in maps[schema.RATE].dims for maps in (a, b)]
    if halved[0] != halved[1]:
        raise ValueError(
            "a and b must both be half maps or both be whole, got one of each; pass "
            "placeformer.half_maps(recording, halves='walks') of both recordings"
        )
    parts = [d.isel({HALF: h}, drop=True) for d in (a, b) for h in (0, 1)] if halved[0] else [a, b]
    names = tuple(name for name in NAMES for _ in range(len(parts) // 2))
    rates, known = shared_places(*parts, names=names)
    n_rows = len(rates[0])
    measure.check_rows(n_rows, n_rows, a)

    def mean_of(pairs: list[tuple[int, int]], rows: list[NDArray[Any]]) -> float:
        values = [
            measure.compare(rows[i][:, None], rows[j][:, None], (a, b)).value() for i, j in pairs
        ]
        return float(np.mean(values))

    pairs, ceiling = [(0, 1)], np.nan
    if halved[0]:
        pairs = [(0, 3), (1, 2)]
        within = mean_of([(0, 1)], rates) * mean_of([(2, 3)], rates)
        ceiling = float(np.sqrt(within)) if within > 0 else np.nan
    value = mean_of(pairs, rates)
    images = _images(parts[0], known)
    keep = images[0]
    n_images = len(images) ** min(b.sizes[schema.UNIT], 10) if len(keep) >= MIN_PLACES else 0
    reason = _why_not(n_shuffles, n_images, "the units can be mirrored", "compare more units")
    if not reason and n_rows > MAX_ROWS:
        reason = f"no p: there are {n_rows:,} places; pass wider bins to rate_maps"
    if reason:
        return Found(value, n_rows, Null(np.nan, np.empty(0), reason), None, ceiling)
    first = len(rates) // 2
    null = []
    for _ in tqdm(range(n_shuffles), desc="shuffles", disable=not progress):
        turn = int(rng.integers(2**32))  # both halves of a unit get the same symmetry
        moved = [mirrored(rate, images, np.random.default_rng(turn)) for rate in rates[first:]]
        null.append(mean_of(pairs, [rate[keep] for rate in rates[:first]] + moved))
    observed = mean_of(pairs, [rate[keep] for rate in rates])
    return Found(value, n_rows, Null(observed, np.array(null)), None, ceiling)


def _why_not(n_shuffles: int, n_orders: float, what: str, remedy: str) -> str:
    """Reason why there is no p-value; empty if there is one."""
    if n_shuffles == 0:
        return "no p: n_shuffles is 0"
    if n_orders < MIN_ORDERS:
        return (
            f"no p: {what} in {n_orders:.0f} ways, and p <= 0.05 needs at least {MIN_ORDERS}; "
            f"{remedy}"
        )
    return ""


def _exchanged(group: Rows, order: NDArray[np.intp]) -> tuple[Rows, Rows]:
    """Rows of a, and the rows of b from the walk that replaces each walk.

    Walks of unequal length are paired over the rows that both have.
    """
    rows_of = [np.flatnonzero(group == walk) for walk in range(len(order))]
    pairs = [(rows_of[walk], rows_of[other]) for walk, other in enumerate(order)]
    n = [min(len(one), len(other)) for one, other in pairs]
    first, second = (
        np.concatenate([both[side][:m] for both, m in zip(pairs, n, strict=True)])
        for side in (0, 1)
    )
    return first, second


def _images(maps: xr.Dataset, known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Symmetries (symmetry, place) of the known places whose images are all known.

    Places are numbered among the known ones; the first symmetry is the identity.
    """
    space = schema.place_dims(maps)
    lead = [d for d in maps[schema.RATE].dims if d not in (schema.UNIT, *space)]
    images = symmetries(tuple(maps.sizes[d] for d in (*lead, *space)), len(space))
    inside = known[images].all(axis=0)
    return np.asarray((np.cumsum(known) - 1)[images[:, inside]])


def _labelled(
    found: Found, data: tuple[xr.Dataset, xr.Dataset], settings: dict[str, Any]
) -> xr.Dataset:
    """Dataset of the similarity, its jackknife interval and its null distribution."""
    name = {"cka": "centred kernel alignment", "rsa": "representational similarity"}
    null, left = found.null, found.left
    reach = np.nan
    if left is not None:
        g = len(left)
        error = np.sqrt((g - 1) / g * np.square(left - left.mean()).sum())
        reach = error * stats.t.ppf((1 + LEVEL) / 2, g - 1)
    n, value = len(null.values), found.value
    mean, sd = (null.values.mean(), null.values.std(ddof=1)) if n > 1 else (np.nan, np.nan)
    z = (null.observed - mean) / sd if sd > 0 else np.nan
    n_units = [d.sizes[schema.UNIT] for d in data]
    about = f"{LEVEL:.0%} jackknife interval over walks"
    result = xr.Dataset(
        {
            "similarity": variable((), value, name[settings["method"]]),
            "interval": variable("bound", [value - reach, value + reach], about, level=LEVEL),
            "noise_ceiling": variable((), found.ceiling, "similarity of the halves of each"),
            "null_mean": variable((), mean, "mean with b shuffled"),
            "null_sd": variable((), sd, "standard deviation with b shuffled"),
            "z": variable((), z, "standard deviations above the null"),
            "p": variable((), p_value(null.values, null.observed), "p-value"),
            "reason": variable((), null.reason, "why there is no p"),
            "n_rows": variable((), found.n_rows, "samples or places"),
            "n_units": variable("population", n_units, "units"),
        },
        coords={"bound": ["lower", "upper"], "population": list(NAMES)},
        attrs=settings | {"rows": "places" if is_maps(data[0]) else "samples"},
    )
    other = schema.read_provenance(data[1])
    result.attrs[schema.PROVENANCE] = schema.provenance(data[0], "similarity", **settings, b=other)
    return result
