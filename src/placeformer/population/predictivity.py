"""Predictivity: how well a network's rate maps predict those of an animal, against controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from placeformer._options import check_option, check_whole
from placeformer._warnings import warn
from placeformer.data import schema
from placeformer.data.circular import circular_of
from placeformer.data.schema import variable
from placeformer.population.arenas import (
    Floats,
    blocks_of_places,
    modes_of,
    near_places,
    rates_at,
    relative_centres,
    smooth_fields,
)
from placeformer.population.map_regression import pls, predicted, ridge, scores
from placeformer.population.vectors import is_maps
from placeformer.spatial.binning import Bins, axis_names, samples
from placeformer.spatial.rate_maps import flatten, rate_maps
from placeformer.spatial.stability import HALF, agreement, half_maps
from placeformer.stats.intervals import percentile_interval

Folds = Literal["blocks", "random"]
Method = Literal["ridge", "pls"]

NETWORK, UNTRAINED, RANDOM = FEATURES = ("network", "untrained", "random smooth")
"""Names of the sets of features: the network and its two controls."""

BINS = 20
"""Number of bins along an axis of continuous positions."""

BLOCKS_OF_AXES = {1: 8, 2: 3}
"""Number of blocks along each axis, by the number of axes."""

N_RESAMPLES = 1_000
MIN_PLACES = 20
LEAST_RELIABLE = 0.1
"""Minimum correlation of the half maps of a cell for a noise ceiling."""


def predictivity(
    network: xr.Dataset,
    animal: xr.Dataset,
    *,
    folds: Folds = "blocks",
    untrained: xr.Dataset | None = None,
    method: Method = "ridge",
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    smooth: float | None = None,
    n_blocks: int | None = None,
    gap: int = 1,
    n_components: int = 10,
    n_random: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Predict the rate maps of an animal's cells from a network's maps, and from two controls.

    Every cell's map is regressed on the maps of all units over places, and predicted at held-out
    places. The same is done with an untrained network and with random smooth fields. Any smooth
    features interpolate between neighbouring places, so only what a network predicts beyond them is
    evidence for its code.

    Parameters
    ----------
    network
        Recording or RateMaps of the network, on one map. Units that are NaN everywhere are left
        out.
    animal
        Recording or RateMaps of the animal, in one arena, or its :func:`half_maps`. Only a
        Recording or half maps have a noise ceiling.
    folds
        ``"blocks"``: places are held out in compact blocks. ``"random"``: the same numbers of
        places are held out at random, next to training places. This is common but measures
        smoothness; see the Notes.
    untrained
        Recording or RateMaps of the same network before training. Without it, this control is NaN
        and there is a warning.
    method
        ``"ridge"``: ridge regression, whose penalty is chosen for each cell by cross-validation
        within the training places. ``"pls"``: partial least squares with ``n_components``
        components, for all cells together.
    by, bins, smooth
        Axes, bins and smoothing of the maps of Recordings, as in :func:`rate_maps`. By default one
        bin per whole number; for continuous positions 20 bins along an axis, or for the animal as
        many as the network's maps have.
    n_blocks
        Number of blocks along an axis; each block is held out once. By default 3 on two axes (9
        folds) and 8 on one.
    gap
        Width in bins of the margin around a held-out block that is not used for training. Not used
        with ``folds="random"``.
    n_components
        Number of components of ``"pls"``.
    n_random
        Number of sets of random smooth fields, at least 1; each set has one field per unit of the
        network.
    seed
        Seed of the random fields, of random folds, and of the intervals.
    progress
        Show a progress bar (tqdm).

    Returns
    -------
    xarray.Dataset
        Over ``features`` ("network", "untrained", "random smooth") and the animal's ``unit``:

        - ``r``: correlation of predicted and measured rates over the held-out places, -1 to 1, both
          as deviations from the mean of the training places; for random fields, the mean over sets.
        - ``variance_explained``: 1 minus the squared error divided by that of the training mean.
        - ``ceiling`` (unit): correlation that a perfect prediction would reach, from the
          correlation h of the maps of two halves: sqrt(2 h / (1 + h)); NaN for h below 0.1.
        - ``r_normalised``: ``r`` divided by the ceiling.
        - ``r_random`` (draw, unit): ``r`` of every set of random fields.
        - ``r_median`` (features), ``r_interval`` (features, bound): median of ``r`` over cells,
          with its 95 % bootstrap interval over cells.
        - ``advantage`` (features), ``advantage_interval``: median over cells of the network's ``r``
          minus that of the control; 0 for the network itself.
        - ``reason`` (unit): why ``r`` or the ceiling is NaN, else empty.

    Raises
    ------
    ValueError
        A Dataset breaks the contract or has several maps, the numbers of axes differ, an axis is
        circular in only one of them, fewer than 20 places are shared, or an option is out of range.

    Warns
    -----
    UserWarning
        ``untrained`` is None.

    See Also
    --------
    similarity : Similarity of two populations without a fit.
    remapping : Change of the maps of the same cells.

    Notes
    -----
    Axes are paired by name, or by order if the names differ. Both arenas are scaled to the unit
    square: along every axis the first edge is 0 and the last edge is 1. The network's maps are
    interpolated linearly at the places of the animal's maps. Nothing is rotated; a linear fit finds
    any linear relation between the two. A circular axis has no ends: it is scaled to turns from its
    origin, and interpolation, gaps and random fields wrap around.

    If places are held out at random, their neighbours are in the training set. For 40 simulated
    place cells on 11 x 11 places, the median r was then .98 with random smooth fields, .89 with an
    untrained network and .76 with the same network after training; with blocks it was .50, .24 and
    .24. A network is evidence for a code if ``advantage`` is above 0 for *both* controls. The
    intervals are over cells; cells of one animal are not independent of each other.

    References
    ----------
    Nayebi, A. et al. (2021). Explaining heterogeneity in medial entorhinal cortex with task-driven
    neural networks. NeurIPS 34. https://doi.org/10.1101/2021.10.30.466617
    Schaeffer, R., Khona, M. and Fiete, I. R. (2022). No free lunch from deep learning in
    neuroscience. NeurIPS 35. https://doi.org/10.1101/2022.08.07.503109
    Roberts, D. R. et al. (2017). Cross-validation strategies for data with temporal, spatial,
    hierarchical, or phylogenetic structure. Ecography 40, 913-929.
    https://doi.org/10.1111/ecog.02881

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.mgrid[:12, :12]
    >>> def waves(n):  # of two frequencies, at random phases
    ...     phases = rng.uniform(0, 2 * np.pi, (2, n, 1, 1))
    ...     return np.cos(1.5 * x + phases[0]) + np.cos(1.1 * y + phases[1])
    >>> network, animal = (pf.maps_from_arrays(waves(n)) for n in (60, 20))
    >>> untrained = pf.maps_from_arrays(rng.standard_normal((60, 12, 12)))
    >>> found = pf.predictivity(network, animal, untrained=untrained, progress=False)
    >>> bool(found.r_median.sel(features="network") > 0.95)
    True
    >>> bool((found.advantage_interval.sel(bound="lower")[1:] > 0.1).all())
    True
    """
    check_option("folds", folds, get_args(Folds))
    check_option("method", method, get_args(Method))
    if n_blocks is not None:
        check_whole("n_blocks", n_blocks, 2)
    check_whole("n_random", n_random)
    check_whole("n_components", n_components)
    check_whole("gap", gap, 0)
    check_whole("seed", seed, 0)
    if untrained is None:
        warn(
            "untrained=None: without the network before training, the effect of training cannot be "
            "distinguished from that of the architecture; record the untrained network",
        )
    names = axis_names(by)
    features = _maps("network", network, names, bins, smooth)
    shape = {d: features.sizes[d] for d in schema.place_dims(features)}
    halves, cells = _animal(animal, names, bins, smooth, shape)
    sets: dict[str, xr.Dataset] = {NETWORK: features}
    if untrained is not None:
        sets[UNTRAINED] = _maps("untrained", untrained, names, bins, smooth)
    centres, modes = relative_centres(cells), modes_of(cells)
    for name, maps in sets.items():
        if len(schema.place_dims(maps)) != len(centres):
            raise ValueError(
                f"{name} and animal must have the same number of axes, got "
                f"{schema.place_dims(maps)} and {schema.place_dims(cells)}"
            )
        if {*schema.place_dims(maps)} == {*schema.place_dims(cells)}:
            sets[name] = maps.transpose(..., *schema.place_dims(cells))
        if modes_of(sets[name]) != modes:
            raise ValueError(
                f"{name} and animal must have the same circular axes, got "
                f"{circular_of(maps)} and {circular_of(cells)}; declare the periods with circular "
                "in from_arrays or maps_from_arrays"
            )
    rates = {name: _known_units(name, rates_at(maps, centres)) for name, maps in sets.items()}
    n_units = rates[NETWORK].shape[1]
    size = tuple(len(c) for c in centres)
    rng = np.random.default_rng(seed)
    for draw in range(n_random):
        rates[f"{RANDOM} {draw}"] = smooth_fields(size, n_units, rng, modes)
    targets, seen = _targets(cells)
    use = seen & np.logical_and.reduce([np.isfinite(r).all(axis=1) for r in rates.values()])
    if use.sum() < MIN_PLACES:
        raise ValueError(
            f"network and animal must share at least {MIN_PLACES} places, got {int(use.sum())}; "
            "use more bins, or maps without gaps"
        )
    most = BLOCKS_OF_AXES.get(len(size), 2) if n_blocks is None else int(n_blocks)
    fold = _fold_of_places(blocks_of_places(centres, most), use, folds, rng)
    near = near_places(fold, size, int(gap) if folds == "blocks" else 0, modes)[:, use]
    if folds == "random":
        near[:] = False
    n_train = ((fold[use] != np.arange(len(near))[:, None]) & ~near).sum(axis=1)
    if n_train.min() < 2:
        raise ValueError(
            f"gap must leave at least 2 training places for every block, got gap={gap} and "
            f"n_blocks={most}, which leave {n_train.min()} of {use.sum()}; pass a smaller gap, "
            "more blocks or more bins"
        )
    fit = ridge if method == "ridge" else pls(n_components)
    found: dict[str, tuple[Floats, Floats]] = {}
    for name, values in tqdm(rates.items(), desc="features", disable=not progress):
        guess, mean = predicted(values[use], targets[use], fold[use], near, fit)
        found[name] = scores(guess, mean, targets[use])
    result = _labelled(cells, halves, found, n_random, rng)
    settings = {
        "folds": folds,
        "method": method,
        "n_blocks": most,
        "gap": int(gap) if folds == "blocks" else 0,
        "n_random": n_random,
        "seed": seed,
    }
    result.attrs.update(settings, n_places=int(use.sum()), n_folds=int(fold.max()) + 1)
    result.attrs[schema.PROVENANCE] = schema.provenance(network, "predictivity", **settings)
    return result


def _maps(
    argument: str,
    data: xr.Dataset,
    names: tuple[str, ...],
    bins: Bins,
    smooth: float | None,
    shape: dict[str, int] | None = None,
) -> xr.Dataset:
    """RateMaps of one map of a Recording or RateMaps."""
    if is_maps(data):
        schema.check_rate_maps(data)
        more = set(data[schema.RATE].dims) - {schema.UNIT, *schema.place_dims(data)}
        if more:
            raise ValueError(
                f"{argument} must be of one map, got {sorted(map(str, more))}; select one, such as "
                f"{argument}.isel({sorted(map(str, more))[0]}=0)"
            )
        return data
    _refuse_several(argument, data)
    maps: xr.Dataset = rate_maps(
        data, by=names, bins=_bins(data, names, bins, shape), smooth=smooth
    )
    return maps


def _animal(
    data: xr.Dataset,
    names: tuple[str, ...],
    bins: Bins,
    smooth: float | None,
    shape: dict[str, int],
) -> tuple[xr.Dataset | None, xr.Dataset]:
    """Half maps of the animal, if available, and its maps of the whole recording."""
    if is_maps(data):
        schema.check_rate_maps(data)
        if HALF not in data[schema.RATE].dims:
            return None, _maps("animal", data, names, bins, smooth)
        seconds = data[schema.OCCUPANCY]
        known = data[schema.RATE].notnull() & (seconds > 0)
        weight = seconds.where(known, 0.0)
        total = (data[schema.RATE].fillna(0.0) * weight).sum(HALF)
        whole = data.drop_vars([schema.RATE, HALF], errors="ignore").assign(
            {
                schema.RATE: (total / weight.sum(HALF).where(lambda w: w > 0)).transpose(
                    *(d for d in data[schema.RATE].dims if d != HALF)
                ),
                schema.OCCUPANCY: seconds.sum(HALF),
            }
        )
        return data, _maps("animal", whole, names, bins, smooth)
    _refuse_several("animal", data)
    use = _bins(data, names, bins, shape)
    whole = rate_maps(data, by=names, bins=use, smooth=smooth)
    return half_maps(data, by=names, bins=whole, smooth=smooth), whole


def _known_units(argument: str, rates: Floats) -> Floats:
    """Rates (place, unit) of the units that are not NaN everywhere."""
    known = np.isfinite(rates).any(axis=0)
    if not known.any():
        raise ValueError(f"{argument} must have units with rates, got only NaN")
    return rates[:, known]


def _refuse_several(argument: str, recording: xr.Dataset) -> None:
    schema.check_recording(recording)
    if schema.MAP in recording.variables and np.unique(recording[schema.MAP].values).size > 1:
        raise ValueError(
            f"{argument} must be of one map, got {np.unique(recording[schema.MAP].values).size}; "
            f"select the walks of one, such as {argument}.isel(walk={argument}.map.values == 0)"
        )


def _bins(
    recording: xr.Dataset, names: tuple[str, ...], bins: Bins, shape: dict[str, int] | None
) -> Bins:
    """Bins of a recording: the given bins, whole numbers, or a number of bins along every axis."""
    if bins is not None:
        return bins
    schema.check_recording(recording, need=names)
    sizes = shape if shape and len(shape) == len(names) else dict.fromkeys(names, BINS)
    if set(sizes) != set(names):
        sizes = dict(zip(names, sizes.values(), strict=True))
    of: dict[str, int | None] = {}
    for name in names:
        values = np.asarray(samples(recording, name))
        known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        of[name] = None if (known == np.round(known)).all() else sizes[name]
    return of


def _targets(cells: xr.Dataset) -> tuple[Floats, Any]:
    """Rates (place, cell), and the places where all cells have a rate, except cells without any."""
    rate, share = flatten(cells)
    rates = np.where(share > 0, rate, np.nan).T
    some = np.isfinite(rates).any(axis=0)
    return np.where(some, rates, 0.0), np.isfinite(rates[:, some]).all(axis=1)


def _fold_of_places(block: Any, use: Any, folds: Folds, rng: np.random.Generator) -> Any:
    """Fold of every place, numbered without gaps over the places used; -1 elsewhere."""
    fold = np.full(len(block), -1)
    _, fold[use] = np.unique(block[use], return_inverse=True)
    if fold.max() < 1:
        raise ValueError("places must lie in at least 2 blocks, got 1; pass a larger n_blocks")
    if folds == "random":
        fold[use] = rng.permutation(fold[use])
    return fold


def _labelled(
    cells: xr.Dataset,
    halves: xr.Dataset | None,
    found: dict[str, tuple[Floats, Floats]],
    n_random: int,
    rng: np.random.Generator,
) -> xr.Dataset:
    """Results with names, dimensions and attributes."""
    n_cells = cells.sizes[schema.UNIT]
    draws = [found[f"{RANDOM} {k}"] for k in range(n_random)]
    nothing = (np.full(n_cells, np.nan),) * 2
    of = {
        NETWORK: found[NETWORK],
        UNTRAINED: found.get(UNTRAINED, nothing),
        RANDOM: tuple(np.mean(values, axis=0) for values in zip(*draws, strict=True)),
    }
    r, explained = (np.stack([of[name][k] for name in FEATURES]) for k in (0, 1))
    flat = np.isnan(r[0])
    ceiling, no_ceiling = _ceiling(halves, n_cells)
    reason = np.where(flat, "map does not vary", no_ceiling)
    gain = r[0] - r
    use = np.flatnonzero(~flat)
    middle, lead = np.full((2, len(FEATURES)), np.nan)
    interval, lead_interval = np.full((2, len(FEATURES), 2), np.nan)
    if use.size:
        drawn = use[rng.integers(0, use.size, (N_RESAMPLES, use.size))]
        for values, value, bounds in ((r, middle, interval), (gain, lead, lead_interval)):
            value[:] = np.median(values[:, use], axis=1)
            bounds[:] = percentile_interval(np.median(values[:, drawn], axis=2), axis=1)
    by_unit, by_feature = ("features", schema.UNIT), ("features",)
    both = (*by_feature, "bound")
    held = "of predicted and measured rates at held-out places"
    data = {
        "r": variable(by_unit, r, f"correlation {held}"),
        "variance_explained": variable(by_unit, explained, "variance explained at held-out places"),
        "r_normalised": variable(by_unit, r / ceiling, f"correlation {held} divided by ceiling"),
        "ceiling": variable(schema.UNIT, ceiling, "correlation that a perfect prediction reaches"),
        "r_random": variable(
            ("draw", schema.UNIT), np.stack([v[0] for v in draws]), "r of each set of random fields"
        ),
        "r_median": variable(by_feature, middle, "median r over cells"),
        "r_interval": variable(
            both, interval, "95 % interval of the median (bootstrap over cells)"
        ),
        "advantage": variable(by_feature, lead, "median over cells of the network's r minus r"),
        "advantage_interval": variable(
            both, lead_interval, "95 % interval of the advantage (bootstrap over cells)"
        ),
        "reason": variable(schema.UNIT, reason, "why a value is NaN"),
    }
    coords: dict[Any, Any] = dict(schema.unit_coords(cells))
    coords["features"] = variable("features", list(FEATURES), "features")
    coords["bound"] = variable("bound", ["lower", "upper"], "bound of the interval")
    return xr.Dataset(data, coords)


def _ceiling(halves: xr.Dataset | None, n_cells: int) -> tuple[Floats, Any]:
    """Noise ceiling of every cell, and why it has none."""
    if halves is None:
        return np.full(n_cells, np.nan), "maps without halves have no noise ceiling"
    h = agreement(halves).values
    known = h >= LEAST_RELIABLE
    ceiling = np.sqrt(2 * h / (1 + h), out=np.full(n_cells, np.nan), where=known)
    text = f"maps of the halves correlate by less than {LEAST_RELIABLE}: no noise ceiling"
    return ceiling, np.where(known, "", text)
