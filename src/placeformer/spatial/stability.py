"""Halves of a recording: the rate maps of each, and their correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_option, check_whole
from placeformer.data import schema
from placeformer.data.blocks import Numbers
from placeformer.data.dwell import interval
from placeformer.spatial.binning import BinnedRecording, Bins, Circular
from placeformer.spatial.measures import correlation
from placeformer.spatial.rate_maps import (
    SECONDS_PER_SAMPLE,
    Smooth,
    flatten,
    maps_of_parts,
    per_unit,
    stacked,
)

Halves = Literal["odd_even", "first_second", "walks"]

SAMPLES, SECONDS = 400, 20
"""Occupancy per place to which :func:`reliability` refers: samples, or seconds of timed data."""

HALF = "half"
NAMES = {
    "odd_even": ("odd", "even"),
    "first_second": ("first", "second"),
    "walks": ("odd-walk", "even-walk"),
}


def half_maps(
    recording: xr.Dataset,
    *,
    halves: Halves = "odd_even",
    block: int | None = None,
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    per_map: bool = False,
    circular: Circular = None,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    skipna: bool = False,
) -> xr.Dataset:
    """Rate maps of the two halves of a recording, on the same bins.

    Parameters
    ----------
    recording
        Recording.
    halves
        ``"odd_even"``: alternating blocks of every walk, or of all walks of a map joined end to end
        if their lengths differ. ``"first_second"``: the first and the second half of every walk.
        ``"walks"``: alternating walks of each map, so that the halves share no walk.
    block
        Number of samples in a block of ``"odd_even"``, at most half a walk. The default is one
        minute if the recording is timed and a walk lasts at least two minutes, else a tenth of a
        walk. Blocks should be longer than the time over which units and walks are correlated:
        neighbouring samples resemble each other whether or not a unit is tuned to places.
    by, bins, per_map, circular
        Axes and bins of place, whether every map is halved separately, and the periods of circular
        variables, as in :func:`rate_maps`.
    smooth, min_occupancy, skipna
        Further options of :func:`rate_maps`.

    Returns
    -------
    xarray.Dataset
        RateMaps with a leading dimension ``half`` of size two, which measures of rate maps keep.

    Raises
    ------
    ValueError
        As in :func:`rate_maps`; also if an option is unknown or walks are too short to be halved.

    See Also
    --------
    rate_maps : Rate maps of a whole recording.
    stability : Correlation of the maps of the two halves.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> maps = pf.half_maps(recording)
    >>> maps.rate.dims, maps.half.values.tolist()
    (('half', 'unit', 'y', 'x'), ['odd', 'even'])
    >>> pf.spatial_information(maps).dims
    ('half', 'unit')
    """
    binned = BinnedRecording.of(recording, by=by, bins=bins, per_map=per_map, circular=circular)
    options = {"smooth": smooth, "min_occupancy": min_occupancy, "skipna": skipna}
    maps = maps_of_halves(binned, halves, block, **options)
    settings = {"halves": halves, "block": block, "by": binned.grid.names, "per_map": per_map}
    provenance = schema.provenance(recording, "half_maps", **settings, **options)
    return maps.assign_attrs({schema.PROVENANCE: provenance})


def maps_of_halves(
    binned: BinnedRecording, halves: Halves = "odd_even", block: int | None = None, **options: Any
) -> xr.Dataset:
    """RateMaps of the two halves of a binned recording, on a leading dimension ``half``."""
    parts = maps_of_parts(binned, half_numbers(binned, halves, block), 2, **options)
    coordinate = xr.Variable(HALF, list(NAMES[halves]), {"units": "1", "long_name": "half"})
    return stacked(parts, coordinate)


def stability(
    recording: xr.Dataset, *, halves: Halves = "odd_even", block: int | None = None, **options: Any
) -> xr.DataArray:
    """Correlation of the rate maps of two halves of a recording.

    Pearson's r over the places visited in both halves; every place has the same weight.

    Parameters
    ----------
    recording
        Recording.
    halves, block
        How the recording is halved, as in :func:`half_maps`.
    options
        Other options of :func:`half_maps`; with ``per_map`` every map is halved and correlated
        separately.

    Returns
    -------
    xarray.DataArray
        (unit,) or (map, unit), -1 to 1, dimensionless; unchanged when a unit is scaled, shifted or
        negated. NaN where the map of either half does not vary or fewer than three places are
        shared.

    Raises
    ------
    ValueError
        As in :func:`half_maps`.

    See Also
    --------
    half_maps : Rate maps of the two halves of a recording.
    coherence : Correlation of the rate of each place with that of its neighbours.
    shuffle_test : Test a statistic against chance.

    Notes
    -----
    A unit that responds to the letter at a place is also stable: stability is evidence of place
    tuning only together with a test against letters. Each half has half the samples, so the value
    is lower than the correlation of the whole map with another map of the same length.

    References
    ----------
    Muller, R. U. and Kubie, J. L. (1987). The effects of changes in the environment on the
    spatial firing of hippocampal complex-spike cells. Journal of Neuroscience 7, 1951-1968.
    https://doi.org/10.1523/JNEUROSCI.07-07-01951.1987

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> r = pf.stability(recording)
    >>> r.dims, round(float(r.median()), 1)
    (('unit',), 0.5)
    """
    maps = half_maps(recording, halves=halves, block=block, **options)
    return agreement(maps).assign_attrs(halves=halves)


def agreement(maps: xr.Dataset) -> xr.DataArray:
    """Correlation (unit,) or (map, unit) of the two maps that :func:`half_maps` gives."""
    rate, share = flatten(maps)
    values = correlation(rate[0], rate[1], np.asarray((share > 0).all(axis=0)))
    name = f"correlation of the maps of the {' and '.join(maps[HALF].values.tolist())} halves"
    attrs = {"units": "1", "long_name": name}
    return per_unit(maps.isel({HALF: 0}, drop=True), values, "stability", **attrs)


def reliability(maps: xr.Dataset, agreement_of_halves: xr.DataArray) -> xr.DataArray:
    """Correlation (unit,) or (map, unit) expected between two maps of a fixed occupancy.

    The Spearman-Brown formula predicts from the correlation r of the halves the correlation of
    halves that are k times as long, k r / (1 + (k - 1) r), so that recordings of different length
    are comparable. The length of a half is the harmonic mean of the occupancy of its places,
    because the variance of a place's mean rate is inversely proportional to its occupancy.
    Correlations of 0 or less are returned unchanged.
    """
    _, share = flatten(maps)
    unit_axis = -2
    both = np.asarray((share > 0).all(axis=0)).any(axis=unit_axis)
    space = schema.place_dims(maps)
    seen = maps[schema.OCCUPANCY].transpose(HALF, ..., *space).values
    seen = seen.reshape(*seen.shape[: seen.ndim - len(space)], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(both, 1 / seen, np.nan)
        length = 1 / np.nanmean(inverse, axis=(0, -1)) if both.any() else np.array(np.nan)
    timed = SECONDS_PER_SAMPLE in maps.attrs
    factor = (SECONDS if timed else SAMPLES) / np.asarray(length)[..., None]
    r = agreement_of_halves.values
    values = np.where(r > 0, factor * r / (1 + (factor - 1) * r), r)
    unit = f"{SECONDS} s" if timed else f"{SAMPLES} samples"
    text = f"correlation expected of two maps of {unit} per place (Spearman-Brown)"
    return agreement_of_halves.copy(data=values).rename("reliability").assign_attrs(long_name=text)


def half_numbers(binned: BinnedRecording, halves: str, block: int | None) -> Numbers:
    """Half (0 or 1) of every sample, shape (walk, 1), (1, time) or (walk, time)."""
    check_option("halves", halves, get_args(Halves))
    if block is not None and halves != "odd_even":
        raise ValueError(f"block must be None unless halves='odd_even', got halves={halves!r}")
    recording = binned.recording
    n_walks, n_steps = recording.sizes[schema.WALK], recording.sizes[schema.TIME]
    if halves == "walks":
        return (_turns(recording)[:, None] % 2).astype(np.int8)
    if n_steps < 2:
        raise ValueError(
            f"halves={halves!r} needs walks of at least 2 samples, got {n_steps} in {n_walks} "
            "walks; record longer walks, or pass halves='walks'"
        )
    length = binned.lengths
    if (length == length[0]).all():  # the walks may all be padded
        n = int(length[0])
        size = (n + 1) // 2 if halves == "first_second" else _block(recording, block, n)
        return np.resize(np.repeat(np.array([0, 1], np.int8), size), (1, n_steps))
    step = np.arange(n_steps)
    if halves == "first_second":
        return (step >= (length[:, None] + 1) // 2).astype(np.int8)
    first, n_samples = _joined(length, schema.map_of_walk(recording))
    size = _block(recording, block, n_samples)
    return ((first[:, None] + step) // size % 2).astype(np.int8)


def _joined(
    length: NDArray[np.intp], map_of_walk: NDArray[np.intp]
) -> tuple[NDArray[np.intp], int]:
    """Start of every walk when the walks of a map are joined, and samples of the shortest map."""
    first = np.zeros_like(length)
    for number in range(map_of_walk.max() + 1):
        here = map_of_walk == number
        first[here] = np.cumsum(length[here]) - length[here]
    return first, int(np.bincount(map_of_walk, length).min())


def _block(recording: xr.Dataset, block: int | None, n_steps: int) -> int:
    """Samples per block, given the number of steps of a walk, or of all walks of a map."""
    if block is None:
        seconds, rate = interval(recording), recording.attrs.get("sample_rate")
        minute = round(60 / seconds) if seconds else round(60 * float(rate or 0))
        return minute if 0 < minute <= n_steps // 2 else max(1, n_steps // 10)
    check_whole("block", block)
    if block > n_steps // 2:
        raise ValueError(
            f"block must be 1 to {n_steps // 2} samples, half a walk, got {block}; to compare "
            "whole walks pass halves='walks'"
        )
    return int(block)


def _turns(recording: xr.Dataset) -> NDArray[np.intp]:
    """Rank of every walk among the walks of its map."""
    maps = schema.map_of_walk(recording)
    turn = np.empty_like(maps)
    for number in range(maps.max() + 1):
        turn[maps == number] = np.arange((maps == number).sum())
    if turn.max() == 0:
        raise ValueError(
            "halves='walks' needs two walks of a map, got one of each; pass halves='odd_even'"
        )
    return turn
