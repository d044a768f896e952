"""Hill curves: how a response saturates with dose, and whether the data identify the curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import optimize, stats

from placeformer._options import check_number
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.stats.intervals import LEVEL

PARAMETERS = ("floor", "top", "K", "n")
LEAST_DOSES = 5
STEEPEST, FLATTEST = 20.0, 0.1
"""Bounds of |n|: at 20 the curve is a step between neighbouring doses."""
BEYOND = 100.0
"""Factor below the minimum positive dose and above the maximum dose that bounds K."""
GRID, ZOOMS = 81, 12
"""Number of values of K and of n on a grid, and largest number of successively finer grids."""
LEAST_GAIN = 2.0
"""Smallest difference of AICc between a curve without saturation and the Hill curve."""
SATURATED = (0.9, 0.8)
"""Smallest :func:`saturation` at the highest dose, and smallest lower bound of its interval."""
Floats = NDArray[np.float64]


def fit_hill(
    response: xr.DataArray,
    *,
    dose: str = "alpha",
    level: float = LEVEL,
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
    level
        Coverage of the intervals.

    Returns
    -------
    xarray.Dataset
        - `value` (parameter: floor, top, K, n) and `interval` (parameter, bound), from the profile
          likelihood under normal errors of equal variance; 0, or infinite, where it reaches the end
          of the search range (K: a hundred times beyond the doses, n: 20). NaN with fewer than five
          doses;
        - `saturation`, the fraction of the way between its two ends that the curve has covered at
          the highest dose, 0 to 1, and `saturation_interval` (bound);
        - `identifiable`, and `reason`, why not: fewer than five doses, no dependence on dose
          (`p_flat` ≥ 1 - `level`), K beyond the positive doses, a step between two doses, a curve
          without saturation that fits as well (`delta_aicc` ≤ 2), an unbounded interval of K or n,
          or a saturation below 0.9 or with a lower bound below 0.8;
        - `p_flat`: F test of the curve against a constant, 3 and points - 4 degrees of freedom;
        - `delta_aicc`: AICc of a + b ln(1 + dose / d), the curve without saturation, minus that of
          the Hill curve; infinitely negative with fewer than seven points;
        - `r2`, `n_points`, and `fitted` (dose), the curve over the doses.

    Raises
    ------
    TypeError
        `response` is not a DataArray but, for example, the whole Dataset of a dose response.
    ValueError
        The coordinate does not exist, the response has several dimensions, no finite point or
        negative doses, or the level does not lie between 0 and 1.

    See Also
    --------
    dose_response : Memory errors against α.
    equivalent_alpha : Dose that has the same effect as a lesion.
    plot.dose_response : Draw a dose response with its fit.

    References
    ----------
    Hill, A. V. (1910). The possible effects of the aggregation of the molecules of haemoglobin on
    its dissociation curves. J. Physiol. 40 (suppl.), iv-vii. (It has no DOI.)

    Bates, D. M. and Watts, D. G. (1988). Nonlinear Regression Analysis and Its Applications. Wiley.
    https://doi.org/10.1002/9780470316757 (profile likelihood)

    Hurvich, C. M. and Tsai, C.-L. (1989). Regression and time series model selection in small
    samples. Biometrika 76, 297-307. https://doi.org/10.1093/biomet/76.2.297

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import placeformer as pf
    >>> alpha = np.array([0, 0.1, 0.5, 1, 2, 5, 10, 20])
    >>> error = 0.1 + 0.6 / (1 + (alpha / 2) ** 1.5)
    >>> response = xr.DataArray(error, {"alpha": ("model", alpha)}, "model")
    >>> fit = pf.fit_hill(response)
    >>> fit.value.round(1).values  # floor, top, K, n
    array([ 0.1,  0.7,  2. , -1.5])
    >>> bool(fit.identifiable)
    True
    """
    check_number("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
    x, y = points(response, dose)
    values, interval = np.full(4, np.nan), np.full((5, 2), np.nan)
    p_flat, r2, gain = np.nan, np.nan, np.nan
    if (n_doses := np.unique(x).size) < LEAST_DOSES:
        reason = f"4 parameters need at least {LEAST_DOSES} doses, got {n_doses}"
    else:
        values = fit(x, y)
        rest, total = ((y - hill(x, values)) ** 2).sum(), ((y - y.mean()) ** 2).sum()
        r2 = 1 - rest / total if total > 0 else np.nan
        p_flat = flat_p(rest, total, y.size)
        interval = open_ended(profile_intervals(x, y, values, level), x)
        exact = 1e-12 * max(total, 1e-300)  # rounding, where a curve passes through every point
        gain = aicc(max(logarithmic(x, y), exact), y.size, 3) - aicc(max(rest, exact), y.size, 4)
        gain = -np.inf if np.isnan(gain) else gain
        reason = why_not(values, interval, x, p_flat, gain, 1 - level)
    doses = np.union1d(np.geomspace(x[x > 0].min(), x.max(), 200), x) if (x > 0).any() else x
    about = "parameter of the Hill curve"
    unit, name = response.attrs.get("units", "1"), response.attrs.get("long_name", response.name)
    return xr.Dataset(
        {
            "value": variable("parameter", values, about),
            "interval": variable(("parameter", "bound"), interval[:4], about, level=level),
            "saturation": variable(
                (), saturation(x, values), "fraction of the way at the last dose"
            ),
            "saturation_interval": variable(
                "bound", interval[4], "fraction of the way at the last dose", level=level
            ),
            "identifiable": variable((), not reason, "whether the data identify a saturation"),
            "reason": variable((), reason, "why not"),
            "p_flat": variable((), p_flat, "p of a constant, F test"),
            "delta_aicc": variable(
                (), gain, "AICc without saturation minus that of the Hill curve"
            ),
            "r2": variable((), r2, "fraction of variance explained"),
            "n_points": variable((), x.size, "points"),
            "fitted": variable(dose, hill(doses, values), f"Hill: {name}", units=unit),
        },
        {
            "parameter": list(PARAMETERS),
            "bound": ["lower", "upper"],
            dose: (dose, doses, dict(response[dose].attrs)),
        },
        {
            "level": level,
            schema.PROVENANCE: schema.provenance(response, "fit_hill", level=level),
        },
    )


def points(response: Any, dose: str) -> tuple[Floats, Floats]:
    """Doses and values of the points that have both."""
    if not isinstance(response, xr.DataArray):
        there = f" of {', '.join(map(str, response))}" if isinstance(response, xr.Dataset) else ""
        raise TypeError(
            f"response must be a DataArray, one value per point, got {type(response).__name__}"
            f"{there}; for a dose response choose one variable, as in "
            'response.error.sel(memory="reference", maps="trained")'
        )
    if dose not in response.coords:
        coords = sorted(map(str, response.coords))
        raise ValueError(f"response must have the coordinate {dose!r}, got {coords}")
    if response.ndim != 1 or response[dose].dims != response.dims:
        raise ValueError(
            f"response must have one value per point, got dims {response.dims}, and "
            f"{response[dose].dims} of its {dose!r}; select one, as in "
            '.sel(memory="reference", maps="trained")'
        )
    x, y = np.asarray(response[dose], float), np.asarray(response, float)
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        raise ValueError("response must have points with a finite dose and value, got none")
    if (x[finite] < 0).any():
        raise ValueError(f"doses of response must be ≥ 0, got {x[finite].min():g}")
    return x[finite], y[finite]


def hill(x: Floats, parameters: Floats) -> Floats:
    """Hill curve of (floor, top, K, n); at dose 0 its limit."""
    floor, top, k, n = parameters
    with np.errstate(divide="ignore", over="ignore"):
        return floor + (top - floor) / (1 + (k / x) ** n)


def rise(x: Floats, k: Floats, n: Floats) -> Floats:
    """Rising curve from 0 to 1, (..., point), of K and |n| (...,)."""
    with np.errstate(divide="ignore", over="ignore"):
        return 1 / (1 + (k[..., None] / x) ** n[..., None])


def line(g: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Least squares y = a + b g of curves g (..., point); b = 0 for a constant curve."""
    deviation = g - g.mean(-1, keepdims=True)
    spread = (deviation**2).sum(-1)
    known = spread > 1e-12 * g.shape[-1]
    b = np.where(known, deviation @ y / np.where(known, spread, 1), 0)
    return y.mean() - b * g.mean(-1), b


def residuals(g: Floats, y: Floats) -> Floats:
    """Residuals (..., point) of the least-squares line through curves g (..., point)."""
    a, b = line(g, y)
    return a[..., None] + b[..., None] * g - y


def search_range(x: Floats) -> Floats:
    """Bounds (parameter, bound) of ln K and ln |n|."""
    low, high = x[x > 0].min() / BEYOND, x.max() * BEYOND
    return np.log([[low, high], [FLATTEST, STEEPEST]])


def grid(box: Floats) -> tuple[Floats, Floats]:
    """K and |n| at equal steps of their logarithms within a box (parameter, bound), flattened."""
    k, n = np.exp(np.linspace(box[:, 0], box[:, 1], GRID)).T
    return np.repeat(k, GRID), np.tile(n, GRID)


def fit(x: Floats, y: Floats) -> Floats:
    """Least squares over K and n, with linear floor and top, started at the best of a grid.

    Residuals are divided by the range of the response, as the tolerances of SciPy are absolute.
    """
    extent = np.ptp(y) or 1.0
    edges = search_range(x)
    k, n = grid(edges)
    best = (residuals(rise(x, k, n), y) ** 2).sum(-1).argmin()
    start = np.clip(np.log([k[best], n[best]]), edges[:, 0] + 1e-9, edges[:, 1] - 1e-9)
    solution = optimize.least_squares(
        lambda logs: residuals(rise(x, *np.exp(logs)), y) / extent, start, bounds=edges.T
    )
    k, n = np.exp(solution.x)
    a, b = line(rise(x, k, n), y)
    return np.array([min(a, a + b), max(a, a + b), k, -n if b < 0 else n])


def saturation(x: Floats, parameters: Floats) -> float:
    """Fraction of the way from one end of the curve to the other at the highest dose, 0 to 1."""
    k, n = np.asarray(parameters[2]), np.asarray(abs(parameters[3]))
    return float(rise(x.max(keepdims=True), k, n)[0])


def profile_intervals(x: Floats, y: Floats, parameters: Floats, level: float) -> Floats:
    """Profile-likelihood intervals (5, bound) of the parameters and of :func:`saturation`.

    A value is in the interval if the sum of squared residuals of the best curve with this value is
    at most that of the fit times 1 + F / (points - 4), where F is the quantile of Fisher's
    distribution with 1 and points - 4 degrees of freedom.
    """
    df = x.size - len(PARAMETERS)
    most = ((y - hill(x, parameters)) ** 2).sum() * (1 + stats.f.ppf(level, 1, df) / df)
    k, n = likely(x, y, parameters, most)
    g = rise(x, k, n)
    a, b = line(g, y)
    left = np.maximum(most - (residuals(g, y) ** 2).sum(-1), 0)
    # For given K and n the sum of squares is quadratic in either end of the curve. It reaches its
    # limit where the end has moved by the square root of what is left times the end's variance
    # factor, the sum of squares of h, which is 0 at the end that moves, over the spread of h.
    h = np.where(b[:, None] < 0, 1 - g, g)  # from 0 at the floor to 1 at the top
    spread = x.size * ((h - h.mean(-1, keepdims=True)) ** 2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.sqrt(left / spread * [(h**2).sum(-1), ((1 - h) ** 2).sum(-1)])
    values = np.stack(
        [np.minimum(a, a + b), np.maximum(a, a + b), k, np.where(b < 0, -n, n),
         rise(x.max(keepdims=True), k, n)[:, 0]]
    )  # fmt: skip
    slack = np.zeros_like(values)
    slack[:2] = np.where(np.isnan(moved), 0, moved)
    return np.stack([(values - slack).min(-1), (values + slack).max(-1)], -1)


def likely(x: Floats, y: Floats, parameters: Floats, most: float) -> tuple[Floats, Floats]:
    """K and |n| of the fit, and of the curves of a fine grid with at most this sum of squares."""
    edges, fitted = search_range(x), abs(parameters[2:])
    box, pairs = edges, fitted[:, None]
    for _ in range(ZOOMS):
        k, n = grid(box)
        inside = (residuals(rise(x, k, n), y) ** 2).sum(-1) <= most
        pairs = np.concatenate([fitted[:, None], [k[inside], n[inside]]], 1)
        step = np.diff(box) / (GRID - 1)
        around = np.stack([np.log(pairs).min(1), np.log(pairs).max(1)], 1) + step * [-1, 1]
        around = np.clip(around, edges[:, :1], edges[:, 1:])
        if (np.diff(around) > 0.7 * np.diff(box)).all():
            break
        box = around
    return pairs[0], pairs[1]


def flat_p(rest: float, total: float, n: int) -> float:
    """P-value of an F test of the curve (residual sum of squares `rest`) against a constant."""
    if total == 0:
        return 1.0
    f = np.inf if rest == 0 else (total - rest) / 3 / (rest / (n - 4))
    return float(stats.f.sf(f, 3, n - 4))


def logarithmic(x: Floats, y: Floats) -> float:
    """Smallest sum of squared residuals of a + b ln(1 + dose / d), which has no upper limit.

    It is a straight line in the dose for a large d, and in its logarithm for a small one.
    """

    def squares(log_d: Floats) -> Any:
        return (residuals(np.log1p(x / np.exp(log_d)[..., None]), y) ** 2).sum(-1)

    first, last = search_range(x)[0]
    logs = np.linspace(first, last, 4 * GRID)
    best = int(squares(logs).argmin())
    near = logs[[max(best - 1, 0), min(best + 1, logs.size - 1)]]
    found = optimize.minimize_scalar(squares, bounds=near, method="bounded")
    return float(min(found.fun, squares(logs).min()))


def aicc(rest: float, n: int, n_parameters: int) -> float:
    """Corrected Akaike information criterion of a least-squares fit; infinite for few points."""
    k = n_parameters + 1  # and the variance
    if n <= k + 1:
        return np.inf
    return float(n * np.log(rest / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def open_ended(interval: Floats, x: Floats) -> Floats:
    """Interval (parameter, 2) whose ends at the bounds of K and n are 0 or infinite."""
    low, high = np.exp(search_range(x)[0])
    ends, (of_k, of_n) = interval.copy(), interval[2:4]
    ends[2] = np.where(of_k <= low * 1.01, 0, np.where(of_k >= high * 0.99, np.inf, of_k))
    ends[3] = np.where(abs(of_n) >= STEEPEST * 0.99, np.copysign(np.inf, of_n), of_n)
    return ends


def why_not(
    values: Floats, interval: Floats, x: Floats, p_flat: float, gain: float, size: float
) -> str:
    """Reason why the data do not identify a saturation; empty if they do.

    `interval` has those of the parameters and of the saturation, and `gain` is the AICc of the
    curve without saturation minus that of the Hill curve.
    """
    _, _, k, n = values
    low, high = x[x > 0].min(), x.max()
    if p_flat >= size:
        return f"a constant fits as well (F test, p = {p_flat:.2g})"
    if not low <= k <= high:
        end = f"above the highest dose, {high:g}" if k > high else f"below the lowest dose, {low:g}"
        return f"K = {k:.3g} lies {end}: no saturation within the doses"
    if abs(n) >= STEEPEST * 0.99:
        below, above = x[x <= k].max(), x[x >= k].min()
        return f"the response steps between {below:g} and {above:g}: K may be anywhere between"
    if not gain > LEAST_GAIN:
        return (
            "a + b ln(1 + dose / d), which never saturates, fits as well (its AICc minus that of "
            f"the Hill curve is {gain:.2g}, and must be above {LEAST_GAIN:g})"
        )
    if interval[2, 0] == 0 or np.isinf(interval[2, 1]):
        return f"the interval of K, {interval[2, 0]:.3g} to {interval[2, 1]:.3g}, is unbounded"
    if np.isinf(interval[3]).any():
        return f"the interval of n, {interval[3, 0]:.3g} to {interval[3, 1]:.3g}, is unbounded"
    at_last, least = saturation(x, values), interval[4, 0]
    if at_last < SATURATED[0] or least < SATURATED[1]:
        return (
            f"at the highest dose, {high:g}, the curve has covered {at_last:.0%} of its range "
            f"(lower bound {least:.0%}); {SATURATED[0]:.0%} (lower bound {SATURATED[1]:.0%}) is "
            "needed"
        )
    return ""
