"""Hill curves: how a response saturates with dose, and whether the data identify the curve."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import optimize, stats

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.stats.intervals import LEVEL, percentile_interval

PARAMETERS = ("floor", "top", "K", "n")
LEAST_DOSES = 5
STEEPEST, FLATTEST = 20.0, 0.1
"""Bounds of |n|: at 20 the curve is a step between neighbouring doses."""
BEYOND = 100.0
"""Factor below the minimum positive dose and above the maximum dose that bounds K."""
Floats = NDArray[np.float64]


def fit_hill(
    response: xr.DataArray,
    *,
    dose: str = "alpha",
    n_resamples: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
) -> xr.Dataset:
    r"""Fit a Hill curve to a response, and report whether the data identify a saturation.

    .. math:: y(\alpha) = \mathrm{floor} + (\mathrm{top} - \mathrm{floor})
              \frac{1}{1 + (K / \alpha)^n}

    by least squares. A rising response (such as an accuracy) has n > 0, a falling one (such as an
    error) n < 0; floor < top are the two ends, and at dose K the response is halfway between them.

    Parameters
    ----------
    response
        One value per point, such as ``response.error.sel(memory="reference", maps="trained")`` of
        :func:`dose_response`; points of one dose are repeats (seeds).
    dose
        Coordinate with the dose of every point. Points whose dose or value is NaN are left out.
    n_resamples
        Number of bootstrap samples. If every dose has several points, these are resampled within
        doses; otherwise residuals are resampled, scaled by √(points / (points - 4)).
    level
        Coverage of the intervals.
    seed
        Random seed of the bootstrap.

    Returns
    -------
    xarray.Dataset
        - `value` (parameter: floor, top, K, n) and `interval` (parameter, bound), percentiles; 0,
          or infinite, where it reaches the end of the search range (K: a hundred times beyond the
          doses, n: 20). NaN with fewer than five doses;
        - `identifiable`, and `reason`, why not: fewer than five doses, no dependence on dose
          (`p_flat` ≥ 1 - `level`), K beyond the positive doses, an unbounded interval of K or
          n, or a step between two doses;
        - `p_flat`: F test of the curve against a constant, 3 and points - 4 degrees of freedom;
        - `r2`, `n_points`, and `fitted` (dose), the curve over the doses.

    Raises
    ------
    ValueError
        The coordinate does not exist, or the response has several dimensions, no finite point or
        negative doses.

    See Also
    --------
    dose_response : Memory errors against α.
    equivalent_alpha : Dose that has the same effect as a lesion.
    plot.dose_response : Draw a dose response with its fit.

    References
    ----------
    Hill, A. V. (1910). The possible effects of the aggregation of the molecules of haemoglobin on
    its dissociation curves. J. Physiol. 40 (suppl.), iv-vii. (It has no DOI.)

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> alpha = np.array([0, 0.1, 0.5, 1, 2, 5, 10, 20])
    >>> error = 0.1 + 0.6 / (1 + (alpha / 2) ** 1.5)
    >>> response = xr.DataArray(error, {"alpha": ("model", alpha)}, "model")
    >>> fit = pf.fit_hill(response, n_resamples=100)
    >>> fit.value.round(1).values  # floor, top, K, n
    array([ 0.1,  0.7,  2. , -1.5])
    >>> bool(fit.identifiable)
    True
    """
    x, y = points(response, dose)
    values, interval, p_flat, r2 = np.full(4, np.nan), np.full((4, 2), np.nan), np.nan, np.nan
    if (n_doses := np.unique(x).size) < LEAST_DOSES:
        reason = f"4 parameters need at least {LEAST_DOSES} doses, got {n_doses}"
    else:
        values = fit(x, y)
        rest, total = ((y - hill(x, values)) ** 2).sum(), ((y - y.mean()) ** 2).sum()
        r2 = 1 - rest / total if total > 0 else np.nan
        p_flat = flat_p(rest, total, y.size)
        boot = bootstrap(x, y, values, n_resamples, np.random.default_rng(seed))
        interval = open_ended(percentile_interval(boot, level), x)
        reason = why_not(values, interval, x, p_flat, 1 - level)
    grid = np.union1d(np.geomspace(x[x > 0].min(), x.max(), 200), x) if (x > 0).any() else x
    about = "parameter of the Hill curve"
    unit, name = response.attrs.get("units", "1"), response.attrs.get("long_name", response.name)
    return xr.Dataset(
        {
            "value": variable("parameter", values, about),
            "interval": variable(("parameter", "bound"), interval, about, level=level),
            "identifiable": variable((), not reason, "whether the data identify a saturation"),
            "reason": variable((), reason, "why not"),
            "p_flat": variable((), p_flat, "p of a constant, F test"),
            "r2": variable((), r2, "share of variance fitted"),
            "n_points": variable((), x.size, "points"),
            "fitted": variable(dose, hill(grid, values), f"Hill: {name}", units=unit),
        },
        {
            "parameter": list(PARAMETERS),
            "bound": ["lower", "upper"],
            dose: (dose, grid, dict(response[dose].attrs)),
        },
        {
            "seed": seed,
            "n_resamples": n_resamples,
            "level": level,
            schema.PROVENANCE: schema.provenance(
                response, "fit_hill", n_resamples=n_resamples, seed=seed
            ),
        },
    )


def points(response: xr.DataArray, dose: str) -> tuple[Floats, Floats]:
    """Doses and values of the points that have both."""
    if dose not in response.coords:
        coords = sorted(map(str, response.coords))
        raise ValueError(f"response must have the coordinate {dose!r}, got {coords}")
    if response.ndim != 1:
        raise ValueError(
            f"response must have one value per point, got dims {response.dims}; select one, as in "
            '.sel(memory="reference", maps="trained")'
        )
    x, y = np.asarray(response[dose], float), np.asarray(response, float)
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        raise ValueError("response must have points with a finite dose and value, got none")
    if (x[finite] < 0).any():
        raise ValueError(f"doses must be ≥ 0, got {x[finite].min():g}")
    return x[finite], y[finite]


def hill(x: Floats, parameters: Floats) -> Floats:
    """Hill curve of (floor, top, K, n); at dose 0 its limit."""
    floor, top, k, n = parameters
    with np.errstate(divide="ignore", over="ignore"):
        return floor + (top - floor) / (1 + (k / x) ** n)


def rise(x: Floats, k: Floats, n: Floats) -> Floats:
    """Rising curve from 0 to 1, (..., point), of K and n (...,)."""
    with np.errstate(divide="ignore", over="ignore"):
        return 1 / (1 + (k[..., None] / x) ** n[..., None])


def line(g: Floats, y: Floats) -> tuple[float, float]:
    """Fit y = a + b g by least squares."""
    spread = g - g.mean()
    b = spread @ y / max(spread @ spread, 1e-300)
    return y.mean() - b * g.mean(), b


def as_parameters(a: Floats, b: Floats, k: Floats, n: Floats) -> Floats:
    """(floor, top, K, n) of a + b · rise: a falling curve has n < 0."""
    return np.stack([np.minimum(a, a + b), np.maximum(a, a + b), k, np.where(b < 0, -n, n)], -1)


def candidates(x: Floats) -> tuple[Floats, Floats]:
    """Grid of K and n that are tried, flattened."""
    low, high = x[x > 0].min() / BEYOND, x.max() * BEYOND
    k, n = np.meshgrid(np.geomspace(low, high, 150), np.geomspace(FLATTEST, STEEPEST, 16))
    return k.ravel(), n.ravel()


def fit(x: Floats, y: Floats) -> Floats:
    """Least squares over K and n, with linear floor and top, started at the best candidate."""
    k, n = candidates(x)
    best = scan(x, y[None], np.ones((1, x.size)))[0]
    start = np.log([best[2], abs(best[3])])
    edges = np.log([[k.min(), FLATTEST], [k.max(), STEEPEST]])

    def residual(logs: Floats) -> Floats:
        g = rise(x, *np.exp(logs))
        a, b = line(g, y)
        return a + b * g - y

    solution = optimize.least_squares(
        residual, np.clip(start, edges[0] + 1e-9, edges[1] - 1e-9), bounds=edges
    )
    k, n = np.exp(solution.x)
    a, b = map(np.asarray, line(rise(x, k, n), y))
    return as_parameters(a, b, k, n)


def scan(x: Floats, y: Floats, weight: Floats) -> Floats:
    """Parameters (sample, parameter) that best fit values with weights (sample, point).

    A grid search over all candidates, followed by ever finer grids around the best.
    """
    k, n = (np.log(value)[None] for value in candidates(x))
    edges = [(logs.min(), logs.max()) for logs in (k, n)]
    steps = [np.diff(np.unique(logs)).max() for logs in (k, n)]
    around = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2), -1).reshape(-1, 2)
    best = closest(x, y, weight, k, n)
    for halving in range(8):
        step = np.array(steps) / 2**halving
        centre = np.log(np.stack([best[:, 2], abs(best[:, 3])], -1))
        near = centre[:, None] + around * step
        k, n = (np.clip(near[..., i], *edges[i]) for i in range(2))
        best = closest(x, y, weight, k, n)
    return best


def closest(x: Floats, y: Floats, weight: Floats, k: Floats, n: Floats) -> Floats:
    """Best (sample, parameter) of candidates, the logarithms of K and n, (sample or 1, candidate).

    Floor and top are linear; the best is the one that explains most of the sum of squares.
    """
    # For a given K and n the curve is a + b g with g the rise from 0 to 1, so floor and top follow
    # from weighted least squares in closed form, and only K and n are searched. With a and b at
    # their optimum, the residual sum of squares is the total minus a Σwy + b Σwgy: the maximum of
    # this sum is the best fit, and no residuals are formed for samples x candidates x points.
    # Where g is constant over the doses b is not determined and is set to 0: a constant curve.
    k, n = np.exp(k), np.exp(n)
    g = rise(x, k, n)  # (sample or 1, candidate, point)
    wy = weight * y
    w, sum_y = weight.sum(1)[:, None], wy.sum(1)[:, None]
    sum_g, sum_gy = (np.matmul(g, v[..., None])[..., 0] for v in (weight, wy))
    sum_gg = np.matmul(g**2, weight[..., None])[..., 0]
    spread = w * sum_gg - sum_g**2
    known = spread > 1e-12 * w**2
    b = np.where(known, (w * sum_gy - sum_g * sum_y) / np.where(known, spread, 1), 0)
    a = (sum_y - b * sum_g) / w
    best = (a * sum_y + b * sum_gy).argmax(1)[:, None]
    of = (np.take_along_axis(np.broadcast_to(z, a.shape), best, 1)[:, 0] for z in (a, b, k, n))
    return as_parameters(*of)


def bootstrap(
    x: Floats, y: Floats, parameters: Floats, n_resamples: int, rng: np.random.Generator
) -> Floats:
    """Parameters (resample, parameter) of resampled points, or of resampled residuals."""
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    weight, values = np.ones((n_resamples, x.size)), np.broadcast_to(y, (n_resamples, x.size))
    if counts.min() > 1:
        for i, count in enumerate(counts):
            drawn = rng.multinomial(count, np.full(count, 1 / count), size=n_resamples)
            weight[:, which == i] = drawn
    else:
        fitted = hill(x, parameters)
        residual = (y - fitted) * np.sqrt(x.size / (x.size - len(PARAMETERS)))
        values = fitted + rng.choice(residual, size=(n_resamples, x.size))
    return np.concatenate(
        [
            scan(x, v, w)
            for v, w in zip(np.array_split(values, 10), np.array_split(weight, 10), strict=True)
        ]
    )


def flat_p(rest: float, total: float, n: int) -> float:
    """P-value of an F test of the curve (residual sum of squares `rest`) against a constant."""
    if total == 0:
        return 1.0
    f = np.inf if rest == 0 else (total - rest) / 3 / (rest / (n - 4))
    return float(stats.f.sf(f, 3, n - 4))


def open_ended(interval: Floats, x: Floats) -> Floats:
    """Interval (parameter, 2) whose ends at the bounds of K and n are 0 or infinite."""
    k, _ = candidates(x)
    ends, (of_k, of_n) = interval.copy(), interval[2:]
    ends[2] = np.where(of_k <= k.min() * 1.01, 0, np.where(of_k >= k.max() * 0.99, np.inf, of_k))
    ends[3] = np.where(abs(of_n) >= STEEPEST * 0.99, np.copysign(np.inf, of_n), of_n)
    return ends


def why_not(values: Floats, interval: Floats, x: Floats, p_flat: float, size: float) -> str:
    """Reason why the data do not identify a saturation; empty if they do."""
    _, _, k, n = values
    low, high = x[x > 0].min(), x.max()
    if p_flat >= size:
        return f"a constant fits as well (F test, p = {p_flat:.2g})"
    if not low <= k <= high:
        end = (
            f"beyond the greatest dose, {high:g}" if k > high else f"below the least dose, {low:g}"
        )
        return f"K = {k:.3g} lies {end}: no saturation within the doses"
    if abs(n) >= STEEPEST * 0.99:
        below, above = x[x <= k].max(), x[x >= k].min()
        return f"the response steps between {below:g} and {above:g}: K may be anywhere between"
    if interval[2, 0] == 0 or np.isinf(interval[2, 1]):
        return f"the interval of K, {interval[2, 0]:.3g} to {interval[2, 1]:.3g}, has no end"
    if np.isinf(interval[3]).any():
        return f"the interval of n, {interval[3, 0]:.3g} to {interval[3, 1]:.3g}, has no end"
    return ""
