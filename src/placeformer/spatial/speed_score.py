"""Tuning to the running speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.arrays import SPEED, check_positive
from placeformer.data.dwell import gap_in, sample_times
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import BinnedRecording, Circular, activations, of_part
from placeformer.spatial.measures import varies
from placeformer.spatial.movement import running_speed
from placeformer.spatial.rate_maps import flatten, per_unit
from placeformer.spatial.shuffle_test import Null, choose_null, compare_with_shuffles
from placeformer.spatial.stability import HALF, NAMES, half_numbers
from placeformer.spatial.variance_explained import centre
from placeformer.stats.monte_carlo import check_n
from placeformer.stats.tolerances import FLAT, NO_VARIANCE

SPEEDS = 50
"""Number of bins of the speed in the shuffle test."""


def speed_score(
    recording: xr.Dataset,
    *,
    by: Sequence[str] | None = None,
    min_speed: float | None = None,
    smooth: float | None = None,
    n_shuffles: int | Literal["auto"] = "auto",
    null: Null = "auto",
    min_shift: int | None = None,
    seed: int = 0,
    max_q: float = 0.05,
    circular: Circular = None,
    keep_null: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Correlate the activity of every unit with the running speed, and test it.

    Parameters
    ----------
    recording
        Recording with ``speed`` (walk, time), or with a position from which it is computed.
    by
        Axes of the position from which to compute the speed. By default ``speed`` is used where the
        recording has it, else x, y and z. The velocity is smoothed with a triangle 0.5 s wide (two
        steps without a clock).
    min_speed
        Leave out samples below this speed, for example at rest; in units of the speed.
    smooth
        Standard deviation of a Gaussian with which activities are first smoothed in time: in
        seconds for a timed recording, else in steps. Smoothing stops at gaps in the tracking.
        Spikes need it; 0.25 s is usual (Kropff and others, 2015). It loads the activations into
        memory.
    n_shuffles, null, min_shift, seed, max_q, keep_null, progress
        Options of the test of the absolute covariance with the speed, as in :func:`shuffle_test`.
    circular
        Period of every circular axis of the position, as in :func:`rate_maps`.

    Returns
    -------
    xarray.Dataset
        Over ``unit``: ``speed_score``, Pearson's correlation of the activity with the speed over
        samples, weighted by their ``dwell``, -1 to 1; ``slope``, activity per unit of speed;
        ``stability`` (half, unit), the score in alternating blocks of the recording
        (:func:`half_maps`); ``null_mean``, ``null_sd``, ``z``, ``p``, ``q`` and ``n_shuffles`` of
        the two-sided shuffle test, of the absolute score in 50 bins of the speed. NaN for a unit
        without variance, or where the speed does not vary.

    Raises
    ------
    ValueError
        There is neither a speed nor a position, the speed does not vary, activations are not
        finite, times do not ascend within a walk, or for the reasons given in :func:`shuffle_test`.

    Warns
    -----
    UserWarning
        As :func:`shuffle_test`.

    See Also
    --------
    head_direction : Tuning to the direction of the head.
    place_cells : Cell types, including speed cells.

    Notes
    -----
    If an animal slows down near walls or rewards, a unit tuned to these places also has a speed
    score: the test is against chance, not against place.

    References
    ----------
    Kropff, E., Carmichael, J. E., Moser, M.-B. and Moser, E. I. (2015). Speed cells in the medial
    entorhinal cortex. Nature 523, 419-424. https://doi.org/10.1038/nature14622

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> speed = np.convolve(rng.exponential(size=3000), np.ones(20) / 20, "same")
    >>> units = np.stack([speed, np.zeros(3000)], axis=-1) + 0.2 * rng.normal(size=(3000, 2))
    >>> behaviour = {"speed": speed}
    >>> recording = pf.from_arrays(units, {"x": np.cumsum(speed)}, behaviour=behaviour)
    >>> table = pf.speed_score(recording, progress=False)
    >>> table.speed_score[0].round(1).item(), (table.q <= 0.05).values.tolist()
    (0.8, [True, False])
    """
    check_option("null", null, ("auto", "walks", "circular"))
    n = check_n("n_shuffles", n_shuffles)
    check_positive("min_speed", min_speed)
    check_positive("smooth", smooth)
    binned = binned_speed(recording, by, min_speed, circular)
    if smooth is not None:
        binned = _smoothed(binned, smooth)
    columns, spread = scores(binned)
    schema.refuse_names(recording, (*columns, HALF))
    options: dict[str, Any] = {
        "n_shuffles": n,
        "null": choose_null(binned, null, min_shift),
        "min_shift": min_shift,
        "seed": seed,
        "max_q": max_q,
        "keep_null": keep_null,
        "progress": progress,
    }
    test = _test(binned, spread, options)
    result = xr.Dataset({**columns, **{k: test[k] for k in test.data_vars if k != "observed"}})
    result.attrs = {k: v for k, v in test.attrs.items() if k != "statistic"}
    settings = {"by": by, "min_speed": min_speed, "smooth": smooth, "n_shuffles": n_shuffles}
    result.attrs[schema.PROVENANCE] = schema.provenance(
        recording, "speed_score", **settings, null=null, seed=seed
    )
    return result


def binned_speed(
    recording: xr.Dataset,
    by: Sequence[str] | None = None,
    min_speed: float | None = None,
    circular: Circular = None,
) -> BinnedRecording:
    """Bin a recording by its speed, and store the speed as ``speed``."""
    schema.check_recording(recording)
    speed = running_speed(recording, by, circular=circular)
    values = np.where(speed.values >= (min_speed or 0.0), speed.values, np.nan)
    known = values[np.isfinite(values)]
    if not speed_varies(known):
        found = f"{known.min():g} throughout" if known.size else "no sample"
        raise ValueError(
            f"the speed must vary for a speed score, got {found}; lower min_speed, or name the "
            "axes of the position with by"
        )
    recording = recording.drop_vars(SPEED, errors="ignore")
    recording = recording.assign_coords({SPEED: speed.copy(data=values)})
    edges = np.linspace(known.min(), known.max(), SPEEDS + 1)
    return BinnedRecording.of(recording, by=(SPEED,), bins={SPEED: edges})


def speed_varies(speed: NDArray[Any]) -> bool:
    """Whether speeds differ by more than rounding."""
    known = speed[np.isfinite(speed)]
    return bool(known.size and np.ptp(known) > FLAT * np.abs(known).max())


def speed_columns(
    binned: BinnedRecording, tests: Mapping[str, Any], max_q: float
) -> tuple[dict[str, xr.DataArray], NDArray[np.float64]]:
    """Columns of the speed in a table of place cells, over ``unit`` and all maps.

    The second value is the variance (unit,) that the speed explains beyond chance.
    """
    moving = binned_speed(binned.recording)
    columns, spread = scores(moving)
    null = choose_null(moving, "auto", tests["min_shift"])
    test = _test(moving, spread, {**tests, "null": null, "max_q": max_q})
    text = "the correlation with the speed (two-sided)"
    score = columns["speed_score"]
    by_chance = test["null_mean"].values ** 2 + test["null_sd"].values ** 2
    return {
        "speed_score": score,
        "p_speed_score": test["p"].assign_attrs(long_name=f"p of {text}"),
        "q_speed_score": test["q"].assign_attrs(long_name=f"q of {text}"),
    }, np.asarray((score.values**2 - by_chance) / (1 - by_chance))


def scores(binned: BinnedRecording) -> tuple[dict[str, xr.DataArray], NDArray[np.float64]]:
    """Score, slope and scores of the halves, and the standard deviations (unit,) of the units."""
    recording = binned.recording
    speed = np.asarray(recording[SPEED].transpose(*schema.STEP_DIMS).values, float)
    inside = np.asarray(binned.index) >= 0
    half = of_part(np.where(inside, 0, -1), half_numbers(binned, "odd_even", None), 1, 2)
    weight = np.ones(speed.shape) if binned.weights is None else binned.weights
    weight, speed = np.where(inside, weight, 0.0), np.where(inside, speed, 0.0)
    values = activations(recording)
    shift = centre(values)
    mean = (weight * speed).sum() / weight.sum()
    a, square = _kernels.bin_sums(
        values, [half, half], [2, 2], terms=_kernels.moments(shift), weights=weight
    )
    (product,) = _kernels.bin_sums(
        values, [half], [2], terms=_kernels.deviations(shift), weights=weight * (speed - mean)
    )
    schema.check_finite(recording[schema.ACTIVATION], (~np.isfinite(square)).sum(axis=0))
    of_half = [(weight * (half == k), speed - mean) for k in (0, 1)]
    n, v, vv = (np.array([(w * s**k).sum() for w, s in of_half])[:, None] for k in (0, 1, 2))
    apart = [_correlation(*sums) for sums in zip(n, v, vv, a, square, product, strict=True)]
    sums = [s.sum(axis=0) for s in (n, v, vv, a, square, product)]
    score, slope, spread = _correlation(*sums)
    label = schema.unit_coords(recording)
    units = str(recording[schema.ACTIVATION].attrs.get("units", "1"))
    per = str(recording[SPEED].attrs.get("units", "1"))

    def column(data: Any, text: str, units: str = "1", half: bool = False) -> xr.DataArray:
        dims = (HALF, schema.UNIT) if half else (schema.UNIT,)
        coords = {**label, HALF: list(NAMES["odd_even"])} if half else label
        return xr.DataArray(data, coords, dims, attrs={"units": units, "long_name": text})

    text = "correlation of the activity with the speed"
    return {
        "speed_score": column(score, text),
        "slope": column(slope, "activity per unit of speed", f"({units})/({per})"),
        "stability": column(np.stack([r for r, _, _ in apart]), f"{text} in a half", half=True),
    }, spread


def _correlation(
    n: Any, v: Any, vv: Any, a: Any, aa: Any, av: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Correlation, slope and standard deviation (unit,) from weighted sums; NaN if undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = av / n - a * v / n**2
        spread_v = vv / n - (v / n) ** 2
        spread = aa / n - (a / n) ** 2
        known = (spread > NO_VARIANCE * aa / n) & (spread_v > 0)
        spread = np.where(known, spread, np.nan)
        r = np.clip(covariance / np.sqrt(spread * spread_v), -1, 1)
        return r, np.where(known, covariance / spread_v, np.nan), np.sqrt(spread)


def _test(
    binned: BinnedRecording, spread: NDArray[np.float64], options: Mapping[str, Any]
) -> xr.Dataset:
    """Shuffle test of the absolute score in bins of the speed."""
    test = compare_with_shuffles(
        binned, _covariance, vectorised=True, **{**options, "per_map": False}
    )
    for name in ("null_mean", "null_sd", *(["null"] if "null" in test else [])):
        scaled = test[name] / spread
        text = f"{test[name].attrs['long_name'].partition(':')[0]}: absolute speed score"
        test[name] = scaled.assign_attrs(units="1", long_name=text)
    for name in ("z", "p", "q"):
        test[name] = test[name].where(np.isfinite(spread))
    return test


def _covariance(maps: xr.Dataset) -> xr.DataArray:
    """Absolute covariance (..., unit) with the speed, divided by the speed's standard deviation.

    NaN for a constant unit, which shuffles do not change.
    """
    rate, share = flatten(maps)
    speed = maps[SPEED].values.astype(float)
    off = speed - (share * speed).sum(axis=-1, keepdims=True)
    rate = np.where(share > 0, rate, 0.0)
    spread = np.sqrt((share * off**2).sum(axis=-1))
    values = np.abs((share * off * rate).sum(axis=-1)) / spread
    values = np.where(varies(maps), values, np.nan)
    return per_unit(maps, values, "covariance", units="1", long_name="covariance with the speed")


def _smoothed(binned: BinnedRecording, smooth: float) -> BinnedRecording:
    """The recording with activations smoothed in time, within walks and between gaps."""
    recording = binned.recording
    times, _ = sample_times(recording)
    values = activations(recording)
    values = np.array(values, np.result_type(values.dtype, np.float32))  # means are not integers
    for walk, stamps in zip(values, times, strict=True):
        known = np.flatnonzero(np.isfinite(stamps) & ~np.isnan(walk).all(axis=1))
        if known.size < 2:
            continue
        steps = np.diff(stamps[known])
        within = steps <= gap_in(recording, stamps[known])
        sigma = smooth / np.mean(steps[within])
        for part in np.split(known, np.flatnonzero(~within) + 1):
            walk[part] = gaussian_filter1d(walk[part], sigma, axis=0, mode="nearest")
    activation = recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).copy(data=values)
    recording = recording.assign({schema.ACTIVATION: activation})
    return BinnedRecording.of(
        recording, by=(SPEED,), bins={axis.name: axis.edges for axis in binned.grid.axes}
    )
