"""Tuning to the direction of the head: mean vector, preferred direction, and tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.circular import PERIODS, check_periods, circular_of
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import BinnedRecording, Bins, Circular, activations
from placeformer.spatial.mean_vector import cosine_amplitude, mean_vector
from placeformer.spatial.measures import varies
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.rate_maps import Smooth, maps_of_parts
from placeformer.spatial.shuffle_test import (
    VARIANCE,
    Null,
    chance_corrected,
    choose_null,
    compare_with_shuffles,
)
from placeformer.spatial.stability import agreement, maps_of_halves
from placeformer.stats.monte_carlo import check_n

HEADING = "head_direction"
"""Column of the variance explained by the heading, and the default name of the heading."""

NAMES = (HEADING, "heading")
"""Variables (walk, time) of a recording that can be the heading; the first one present is used."""

HEADINGS = 24
"""Number of bins of the heading, 15 degrees wide."""

NOT_CALIBRATED = (
    "p of Rayleigh's test of independent events; samples along a walk are not independent, so this "
    "p is far too small: decide by p and q of the shuffle test"
)


def head_direction(
    recording: xr.Dataset,
    *,
    by: str | None = None,
    bins: Bins = HEADINGS,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    circular: Circular = None,
    negatives: Negatives = "rectify",
    n_shuffles: int | Literal["auto"] = "auto",
    null: Null = "auto",
    min_shift: int | None = None,
    seed: int = 0,
    max_q: float = 0.05,
    keep_null: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Measure and test the tuning of every unit to the direction of the head.

    The samples of all maps are pooled. The function also works for any other circular variable,
    such as the phase of an oscillation.

    Parameters
    ----------
    recording
        Recording with a heading.
    by
        Name of the heading (walk, time), by default ``head_direction``, the name that loaders use,
        or else ``heading``.
    bins, smooth, min_occupancy
        Bins of the heading, by default 15 degrees wide, and options of its map (:func:`rate_maps`).
    circular
        Period of the heading, such as ``{"heading": 360}``, if the recording does not declare it.
        By default it follows from the units (rad, deg), and is 2π without units.
    negatives
        How to treat negative rates in the mean vector: ``"rectify"``, ``"shift"`` or ``"raise"``.
    n_shuffles, null, min_shift, seed, max_q, keep_null, progress
        Options of the test of the cosine amplitude, as in :func:`shuffle_test`.

    Returns
    -------
    xarray.Dataset
        Over ``unit``: ``mean_vector_length`` (0 to 1), ``preferred_direction`` (its direction, in
        the units of the heading, NaN for a length of 0), ``peak_rate`` and ``peak_direction`` (of
        the bin with the highest rate), ``stability`` (correlation of the maps of two halves,
        :func:`stability`), ``cosine_amplitude`` (of a cosine of the heading in the tuning curve, in
        units of the activations) with ``null_mean``, ``null_sd``, ``z``, ``p``, ``q`` and
        ``n_shuffles`` of its shuffle test; ``n_effective``, ``rayleigh_z`` and ``rayleigh_p``. The
        tuning curves are ``rate_maps(recording, by=by, bins=bins)``, and directions lie in the
        range of their bins, for example -π to π with edges from -π to π.

        The cosine amplitude is twice the mean vector before its division by the mean rate. For
        firing rates, a test of the amplitude decides like a test of the length. The amplitude does
        not depend on ``negatives`` or on a constant that is added to a unit, whereas the length is
        not informative for maps with few rates above 0.

        Rayleigh's test is given because papers report it: z = n R², with R the length of the mean
        vector and n the effective number of samples (Kish: the square of the sum of the activity
        over the sum of its squares), which is close to the number of spikes if few samples hold
        more than one. The test assumes independent samples. Samples are autocorrelated, so its p is
        not calibrated and is small even for most untuned units. Decide by ``q``.

    Raises
    ------
    ValueError
        The recording has no such heading, the period of the heading does not fit its values, or
        for the reasons given in :func:`shuffle_test`.

    Warns
    -----
    UserWarning
        As :func:`shuffle_test`.

    See Also
    --------
    mean_vector_length : The length alone, of rate maps.
    speed_score : Tuning to the running speed.
    place_cells : Cell types, including head-direction cells.
    plot.rate_maps : Draw a tuning curve as a circle.

    References
    ----------
    Taube, J. S., Muller, R. U. and Ranck, J. B. (1990). Head-direction cells recorded from the
    postsubiculum in freely moving rats. Journal of Neuroscience 10, 420-435.
    https://doi.org/10.1523/JNEUROSCI.10-02-00420.1990
    Zar, J. H. (2010). Biostatistical Analysis, 5th edition, sections 26.4 and 27.1.
    Kish, L. (1965). Survey Sampling. Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> heading = np.cumsum(rng.normal(0, 0.3, 2000)) % (2 * np.pi)
    >>> units = np.stack([np.exp(2 * np.cos(heading - 1)), np.ones(2000)], axis=-1)
    >>> units += rng.exponential(size=units.shape)
    >>> behaviour = {"head_direction": heading}
    >>> recording = pf.from_arrays(units, {"x": np.zeros(2000)}, behaviour=behaviour)
    >>> table = pf.head_direction(recording, progress=False)
    >>> table.preferred_direction[0].round(1).item()
    1.0
    >>> (table.q <= 0.05).values
    array([ True, False])
    """
    check_option("null", null, ("auto", "walks", "circular"))
    n = check_n("n_shuffles", n_shuffles)
    schema.check_recording(recording)
    by = by or heading_of(recording) or HEADING
    binned = binned_heading(recording, by, bins, circular)
    of_maps: dict[str, Any] = {"smooth": smooth, "min_occupancy": min_occupancy}
    (maps,) = maps_of_parts(binned, **of_maps)
    length, direction = mean_vector(maps, negatives)
    test = compare_with_shuffles(
        binned,
        _of_varying,
        vectorised=True,
        n_shuffles=n,
        null=choose_null(binned, null, min_shift),
        min_shift=min_shift,
        seed=seed,
        per_map=False,
        max_q=max_q,
        keep_null=keep_null,
        progress=progress,
        **of_maps,
    )
    columns = {
        "mean_vector_length": length,
        "preferred_direction": direction,
        **_peak(maps, by),
        "stability": agreement(maps_of_halves(binned, **of_maps)),
        "cosine_amplitude": cosine_amplitude(maps),
        **{name: test[name] for name in test.data_vars if name != "observed"},
        **_rayleigh_columns(binned, length, negatives),
    }
    schema.refuse_names(recording, columns)
    result = xr.Dataset(columns)
    result.attrs = {"negatives": negatives, **test.attrs, "statistic": "cosine_amplitude"}
    result.attrs[schema.PROVENANCE] = schema.provenance(
        recording,
        "head_direction",
        by=by,
        negatives=negatives,
        **of_maps,
        n_shuffles=n_shuffles,
        null=null,
        seed=seed,
    )
    return result


def _of_varying(maps: xr.Dataset) -> xr.DataArray:
    """Tested statistic: the amplitude, NaN for constant curves, which shuffles do not change."""
    return cosine_amplitude(maps).where(varies(maps))


def binned_heading(
    recording: xr.Dataset, by: str, bins: Bins, circular: Circular = None
) -> BinnedRecording:
    """Bin a recording by a heading, whose period follows from its units if not declared."""
    if not isinstance(by, str):
        raise ValueError(f"by must be the name of one circular variable, got {by!r}")
    declared = {**circular_of(recording), **check_periods(circular)}
    if by in recording.variables and by not in declared:
        circular = {**(circular or {}), by: period_of(recording[by])}
    binned = BinnedRecording.of(recording, by=(by,), bins=bins, circular=circular)
    if not (np.asarray(binned.index) >= 0).any():
        raise ValueError(f"recording must have a sample with a heading {by!r}, got none")
    return binned


def heading_of(recording: xr.Dataset) -> str | None:
    """Name of the variable of a recording that is its heading; None if there is none."""
    return next((name for name in NAMES if name in recording.variables), None)


def period_of(heading: xr.DataArray) -> float:
    """Period of a heading that is not declared: that of its units, or 2π without units."""
    return PERIODS.get(str(heading.attrs.get("units", "1")), 2 * np.pi)


def heading_columns(
    binned: BinnedRecording, tests: Mapping[str, Any], max_q: float, negatives: Negatives
) -> tuple[dict[str, xr.DataArray], NDArray[np.float64]]:
    """Columns of the heading in a table of place cells, over ``unit`` and all maps.

    The second value is the variance (unit,) that the heading explains beyond chance. The test
    statistic is the variance explained by the heading, which suits signed activations.
    """
    name = heading_of(binned.recording) or HEADING
    declared = circular_of(binned.recording)
    period = declared[name] if name in declared else period_of(binned.recording[name])
    edges = np.linspace(0, period, HEADINGS + 1)  # also where few headings occur, as on a track
    turned = binned_heading(binned.recording, name, {name: edges})
    null = choose_null(turned, "auto", tests["min_shift"])
    options = {**tests, "null": null, "max_q": max_q, "per_map": False}
    test = compare_with_shuffles(turned, VARIANCE, **options)
    (maps,) = maps_of_parts(turned)
    length, direction = mean_vector(maps, negatives)
    text = "variance explained by the heading"
    columns = {
        HEADING: test["observed"].assign_attrs(long_name=f"{text} (adjusted)"),
        f"p_{HEADING}": test["p"].assign_attrs(long_name=f"p of the {text}"),
        f"q_{HEADING}": test["q"].assign_attrs(long_name=f"q of the {text}"),
        "mean_vector_length": length,
        "preferred_direction": direction,
    }
    return columns, chance_corrected(test).values


def _peak(maps: xr.Dataset, by: str) -> dict[str, xr.DataArray]:
    """Highest rate and its direction."""
    rate = maps[schema.RATE].transpose(schema.UNIT, by)
    known = np.isfinite(rate.values).any(axis=1)
    best = np.where(np.isfinite(rate.values), rate.values, -np.inf).argmax(axis=1)
    peak = rate.max(by).assign_attrs(rate.attrs, long_name="maximum rate of the tuning curve")
    where = np.where(known, maps[by].values[best], np.nan)
    about = {"units": str(maps[by].attrs.get("units", "1"))}
    about["long_name"] = "direction of the maximum rate"
    return {"peak_rate": peak, "peak_direction": peak.copy(data=where).assign_attrs(about)}


def _rayleigh_columns(
    binned: BinnedRecording, length: xr.DataArray, negatives: Negatives
) -> dict[str, xr.DataArray]:
    """Effective number of samples, and Rayleigh's test."""
    n = _effective_samples(binned, negatives)
    z, p = rayleigh(length.values, n)
    columns = {
        "n_effective": (n, "effective number of samples (Kish) with a heading"),
        "rayleigh_z": (z, "Rayleigh's z: n R², of the effective number of samples"),
        "rayleigh_p": (p, NOT_CALIBRATED),
    }
    return {
        name: length.copy(data=values).drop_attrs().assign_attrs(units="1", long_name=text)
        for name, (values, text) in columns.items()
    }


def rayleigh(
    length: NDArray[np.float64], n: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rayleigh's z and its p from the length of the mean vector of n angles.

    The p is the approximation of Zar (2010), equation 27.4; NaN without an angle.
    """
    length = np.where(n > 0, length, np.nan)
    z, a = n * length**2, 1 + 2 * n
    root = np.sqrt(np.maximum(a**2 - 4 * (n * length) ** 2, 0))
    return z, np.minimum(np.exp(-4 * (n * length) ** 2 / (root + a)), 1.0)


def _effective_samples(binned: BinnedRecording, negatives: Negatives) -> NDArray[np.float64]:
    """(Σ w)² / Σ w² (unit,) of the activity w in the samples with a heading."""
    values, index = activations(binned.recording), mapped_to_one(binned)
    weights = binned.weights
    least = np.zeros(values.shape[2])
    if negatives == "shift":
        least = np.asarray(binned.recording[schema.ACTIVATION].min(schema.STEP_DIMS).values)

    def terms(block: NDArray[Any], units: slice) -> Any:
        yield np.maximum(block - least[units].astype(block.dtype), 0)

    def squares(block: NDArray[Any], units: slice) -> Any:
        yield np.maximum(block - least[units].astype(block.dtype), 0) ** 2

    (total,) = _kernels.bin_sums(values, [index], [1], terms=terms, weights=weights)
    square = None if weights is None else weights**2
    (of_squares,) = _kernels.bin_sums(values, [index], [1], terms=squares, weights=square)
    n: NDArray[np.float64] = np.zeros(values.shape[2])
    return np.divide(total[0] ** 2, of_squares[0], out=n, where=of_squares[0] > 0)


def mapped_to_one(binned: BinnedRecording) -> NDArray[np.intp]:
    """Bin 0 for every sample with a bin, else -1."""
    return np.where(np.asarray(binned.index) >= 0, 0, -1)
