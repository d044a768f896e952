"""Similarity of two representations: CKA and RSA, with permutation tests over walks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from tqdm.auto import tqdm

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.population.vectors import Products, check_padding, is_maps, missing_rows, pair
from placeformer.spatial.variance_explained import centre
from placeformer.stats.intervals import LEVEL
from placeformer.stats.permutation import p_value

MIN_DEBIASED = 4
"""Minimum number of rows of a kernel without its diagonal."""


@dataclass(frozen=True)
class Matrices:
    """Two matrices (row, row) whose similarity is the cosine between their transforms."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    transform: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Subtracts the means, so that the cosine is a correlation or CKA."""
    rows_of_group: list[NDArray[np.intp]]
    """Rows of every group, a walk or a place."""

    @property
    def n_rows(self) -> int:
        """Number of rows compared."""
        return len(self.a)

    def value(self) -> float:
        """Similarity over all rows."""
        return _cosine(self.transform(self.a), self.transform(self.b))

    def without(self, groups: NDArray[np.intp]) -> float:
        """Similarity without the rows of some groups."""
        rows = np.delete(np.arange(len(self.a)), self._rows(groups))
        at = np.ix_(rows, rows)
        return _cosine(self.transform(self.a[at]), self.transform(self.b[at]))

    def shuffled(self, order: NDArray[np.intp]) -> float:
        """Similarity with the groups of b in another order.

        Groups of unequal length are paired over the rows that both have.
        """
        rows = self._rows(order)
        a, b = self.transformed
        of_a, of_b = self.rows_of_group, [self.rows_of_group[g] for g in order]
        if all(len(i) == len(j) for i, j in zip(of_a, of_b, strict=True)):
            return _cosine(a, b[np.ix_(rows, rows)])
        n = [min(len(i), len(j)) for i, j in zip(of_a, of_b, strict=True)]
        pair = (np.concatenate([i[:m] for i, m in zip(of, n, strict=True)]) for of in (of_a, of_b))
        at_a, at_b = (np.ix_(rows, rows) for rows in pair)
        return _cosine(self.transform(self.a[at_a]), self.transform(self.b[at_b]))

    def _rows(self, groups: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.concatenate([self.rows_of_group[g] for g in groups])

    @cached_property
    def transformed(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both matrices of all rows, transformed."""
        return self.transform(self.a), self.transform(self.b)


@dataclass(frozen=True)
class Sums:
    """CKA from sums of products over rows (group, row, unit)."""

    x: Any
    y: Any
    debiased: bool

    @property
    def n_rows(self) -> int:
        """Rows compared."""
        return int(self.total[0].n)

    def value(self) -> float:
        """CKA over all rows."""
        return self._cka(*self.total)

    def without(self, groups: NDArray[np.intp]) -> float:
        """CKA without the rows of some consecutive groups."""
        part = slice(groups[0], groups[-1] + 1)
        left = self._products(self.x[part], self.y[part])
        return self._cka(*(all_ - some for all_, some in zip(self.total, left, strict=True)))

    def shuffled(self, order: NDArray[np.intp]) -> float:
        """CKA with the groups of y in another order.

        Groups of unequal length are paired over the rows that both have.
        """
        rows = [slice(g, g + 1) for g in range(len(order))]
        pairs = [
            Products.over(self.x[rows[g]], self.y[rows[h]], self.shifts)
            for g, h in enumerate(order)
        ]
        return self._cka(sum(pairs[1:], pairs[0]), *self.total[1:])

    @cached_property
    def shifts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values near the means of the units of x and of y."""
        return centre(self.x), centre(self.y)

    @cached_property
    def total(self) -> tuple[Products, Products, Products]:
        """Sums of x y', x x' and y y' over all rows."""
        return self._products(self.x, self.y)

    def _products(self, x: Any, y: Any) -> tuple[Products, Products, Products]:
        (a, b), over = self.shifts, Products.over
        return over(x, y, (a, b)), over(x, x, (a, a)), over(y, y, (b, b))

    def _cka(self, *products: Products) -> float:
        if self.debiased and products[0].n < MIN_DEBIASED:
            return np.nan
        xy, xx, yy = (
            p.unbiased_independence() if self.debiased else p.independence() for p in products
        )
        n, m = products[1].n, products[0].n  # rows of each population, and rows that were paired
        scale = n * (n - 3) / (m * (m - 3)) if self.debiased else (n / m) ** 2
        return scale * xy / np.sqrt(xx * yy) if xx > 0 and yy > 0 else np.nan


def distances(rows: NDArray[np.float64], distance: str) -> NDArray[np.float64]:
    """Distances (row, row) of all pairs of rows; NaN for rows without a direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(squareform(pdist(rows, distance)))


def ranks(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of the distances (row, row) minus their mean; 0 on the diagonal."""
    ranked = stats.rankdata(squareform(distances, checks=False))
    return np.asarray(squareform(ranked - ranked.mean()))


def centred(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel (row, row) minus the means of rows and columns."""
    mean = kernel.mean(axis=0)
    return np.asarray(kernel - mean - mean[:, None] + mean.mean())


def without_diagonal(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel (row, row) without its diagonal, centred so that its products are unbiased."""
    n = len(kernel)
    if n < MIN_DEBIASED:
        return np.zeros_like(kernel)
    rest = kernel - np.diag(np.diag(kernel))
    mean = rest.sum(axis=0) / (n - 2)
    rest += mean.sum() / (n - 1) - mean - mean[:, None]
    np.fill_diagonal(rest, 0.0)
    return np.asarray(rest)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Cosine of two matrices; NaN if one of them is 0 or NaN."""
    size = np.sqrt(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / size) if size > 0 else np.nan


Method = Literal["cka", "rsa"]
Distance = Literal["correlation", "euclidean", "cosine"]

MAX_PARTS = 100
"""Maximum number of parts that the jackknife leaves out in turn."""

MAX_ROWS = 6_000
"""Maximum number of rows whose distances are compared pair by pair (288 MB per matrix)."""

N_SHUFFLES = 1000

NAMES = ("a", "b")


def similarity(
    a: xr.Dataset,
    b: xr.Dataset,
    *,
    method: Method = "cka",
    debiased: bool = False,
    distance: Distance = "correlation",
    every: int = 1,
    n_shuffles: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    r"""Similarity of two populations, which need not have the same number of units.

    .. math:: \mathrm{CKA} = \frac{\lVert Y^\top X \rVert_F^2}
              {\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F}

    with X and Y the population vectors (row, unit), each unit minus its mean over rows. RSA is
    Spearman's correlation of the distances between all pairs of rows in a with those in b.

    Parameters
    ----------
    a, b
        Two RateMaps of the same places (rows are the places visited in both), or two Recordings of
        the same walks (rows are samples).
    method
        ``"cka"``: linear centred kernel alignment. ``"rsa"``: representational similarity.
    debiased
        Use the unbiased estimate of HSIC, without the diagonals of the kernels, in numerator and
        denominator. CKA of few rows and many units is near 1 even for unrelated populations; the
        debiased value is then near 0 and may be negative.
    distance
        Distance between rows for RSA: ``"correlation"`` (1 - r), ``"euclidean"`` or
        ``"cosine"``.
    every
        Use every n-th step of a recording, with n this number.
    n_shuffles
        Number of shuffles of the null, which permutes the rows of b, or whole walks of a
        recording (walks of unequal length are paired over the steps that both have). By default
        1,000 for rate maps and 0 for recordings, where each shuffle may need a pass over the data.
    seed
        Random seed of the shuffles.
    progress
        Show a progress bar (tqdm).

    Returns
    -------
    xarray.Dataset
        ``similarity``: CKA 0 to 1 (debiased: up to 1), unchanged by rotation, shift and isotropic
        scaling of either population; RSA -1 to 1, unchanged by the same with Euclidean
        distances (the correlation distance keeps scaling, the cosine rotation and scaling). NaN
        for a population that does not vary. ``interval`` (bound): 95 %, by a jackknife that leaves
        out one walk, one place, or one of a hundred groups of them at a time.
        ``null_mean``, ``null_sd``, ``z`` and ``p`` = (k + 1) / (n + 1), NaN without shuffles;
        ``n_rows``, ``n_units`` (population).

    Raises
    ------
    ValueError
        Places or walks differ, values are not finite, or there are too few rows, or too many for
        RSA.

    See Also
    --------
    dimensionality : Number of dimensions that a population uses.
    population_vector_correlation : Compare the same units in two conditions.

    Notes
    -----
    CKA of more rows than units is computed from sums over blocks of walks, NumPy or dask, in
    memory that does not grow with their number; otherwise, and for RSA, rows are loaded. The
    interval is a jackknife because a bootstrap draws rows repeatedly, which biases both measures
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
    _check(method, debiased, distance, n_shuffles)
    x, y = pair(a, b, NAMES, every)
    n_rows = x.shape[0] * x.shape[1]
    least = MIN_DEBIASED if debiased else 3
    if n_rows < least:
        raise ValueError(f"a and b must have at least {least} rows, got {n_rows}")
    compared = _comparison(x, y, (a, b), method, debiased, distance)
    for rows, data in ((x, a), (y, b)):
        check_padding(data, rows, compared.n_rows, every)
    if compared.n_rows < least:
        raise ValueError(f"a and b must have at least {least} rows, got {compared.n_rows}")
    value = compared.value()
    if n_shuffles is None:
        n_shuffles = N_SHUFFLES if is_maps(a) else 0
    rng = np.random.default_rng(seed)
    shuffles = tqdm(range(n_shuffles), desc="shuffles", disable=not (progress and n_shuffles))
    null = np.array([compared.shuffled(rng.permutation(x.shape[0])) for _ in shuffles])
    groups = np.arange(x.shape[0])
    parts = np.array_split(groups, min(MAX_PARTS, x.shape[0])) if x.shape[0] > 1 else []
    left = np.array([compared.without(part) for part in parts])
    settings = {"method": method, "debiased": int(debiased), "distance": distance, "every": every}
    settings |= {"n_shuffles": n_shuffles, "seed": seed}
    n = compared.n_rows, (x.shape[2], y.shape[2])
    return _labelled(value, left, null, *n, (a, b), settings)


def _comparison(
    x: Any, y: Any, data: tuple[xr.Dataset, xr.Dataset], method: str, debiased: bool, distance: Any
) -> Matrices | Sums:
    """CKA from sums over rows if there are more rows than units, else a comparison of matrices."""
    n_rows = x.shape[0] * x.shape[1]
    if method == "cka" and n_rows > max(x.shape[2], y.shape[2]):
        sums = Sums(x, y, debiased)
        for total, dataset in zip(sums.total[1:], data, strict=True):
            _check_finite(total.x[None], dataset)
        return sums
    if method == "rsa" and n_rows > MAX_ROWS:
        raise ValueError(
            f"RSA compares all pairs of rows and takes at most {MAX_ROWS:,}, got {n_rows:,}; "
            "compare rate maps (placeformer.rate_maps), or use fewer steps with every="
            f"{-(-n_rows // MAX_ROWS)}"
        )
    rows = [np.asarray(v, float).reshape(n_rows, -1) for v in (x, y)]
    known = ~(missing_rows(rows[0]) | missing_rows(rows[1]))
    of_group = np.split(np.cumsum(known) - 1, x.shape[0])
    groups = [i[k] for i, k in zip(of_group, np.split(known, x.shape[0]), strict=True)]
    rows = rows if known.all() else [values[known] for values in rows]
    for values, dataset in zip(rows, data, strict=True):
        _check_finite(values, dataset)
    if method == "rsa":
        a, b = (distances(values, distance) for values in rows)
        return Matrices(a, b, ranks, groups)
    a, b = (values @ values.T for values in (r - r.mean(axis=0) for r in rows))
    return Matrices(a, b, without_diagonal if debiased else centred, groups)


def _labelled(
    value: float,
    left: NDArray[np.float64],
    null: NDArray[np.float64],
    n_rows: int,
    n_units: tuple[int, int],
    data: tuple[xr.Dataset, xr.Dataset],
    settings: dict[str, Any],
) -> xr.Dataset:
    """Dataset of the similarity, its jackknife interval and its null distribution."""
    name = {"cka": "centred kernel alignment", "rsa": "representational similarity"}
    n, g = len(null), len(left)
    error = np.sqrt((g - 1) / g * np.square(left - left.mean()).sum()) if g > 1 else np.nan
    reach = error * stats.t.ppf((1 + LEVEL) / 2, g - 1) if g > 1 else np.nan
    mean, sd = (null.mean(), null.std(ddof=1)) if n > 1 else (np.nan, np.nan)
    z, interval = (value - mean) / sd if sd > 0 else np.nan, [value - reach, value + reach]
    about = f"{LEVEL:.0%} jackknife interval"
    result = xr.Dataset(
        {
            "similarity": variable((), value, name[settings["method"]]),
            "interval": variable("bound", interval, about, level=LEVEL),
            "null_mean": variable((), mean, "mean with rows of b shuffled"),
            "null_sd": variable((), sd, "standard deviation with rows of b shuffled"),
            "z": variable((), z, "standard deviations above the null"),
            "p": variable((), p_value(null, value), "p-value"),
            "n_rows": variable((), n_rows, "samples or places"),
            "n_units": variable("population", list(n_units), "units"),
        },
        coords={"bound": ["lower", "upper"], "population": list(NAMES)},
        attrs=settings | {"rows": "places" if is_maps(data[0]) else "samples"},
    )
    other = schema.read_provenance(data[1])
    result.attrs[schema.PROVENANCE] = schema.provenance(data[0], "similarity", **settings, b=other)
    return result


def _check(method: str, debiased: bool, distance: str, n_shuffles: int | None) -> None:
    check_option("method", method, get_args(Method))
    check_option("distance", distance, get_args(Distance))
    if debiased and method != "cka":
        raise ValueError(f"debiased=True is an option of method='cka', got method={method!r}")
    if n_shuffles is not None and n_shuffles < 0:
        raise ValueError(f"n_shuffles must be at least 0, got {n_shuffles}")


def _check_finite(values: NDArray[Any], data: xr.Dataset) -> None:
    name = schema.RATE if is_maps(data) else schema.ACTIVATION
    schema.check_finite(data[name], np.count_nonzero(~np.isfinite(values), axis=0), name=name)
