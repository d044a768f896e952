"""Decoding of position or map from a population, cross-validated over walks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm.auto import tqdm

from placeformer._options import check_option, check_whole
from placeformer.data import blocks as _blocks
from placeformer.data import circular as _circular
from placeformer.data import schema
from placeformer.data.blocks import Numbers
from placeformer.data.schema import variable
from placeformer.data.unit_identity import check_same_measures, check_same_units, common_units
from placeformer.population.bayes_decoder import lowest
from placeformer.population.cross_validation import Groups, folds
from placeformer.population.decoders import Bayes, Learner
from placeformer.population.decoding_score import (
    NULL_SAMPLES,
    REFIT_SAMPLES,
    Columns,
    DecodingScore,
    Exchange,
    Order,
    activity,
    distance,
    mean,
    median,
    n_orders,
    same,
    thinning,
    warn_of_equal_walks,
    warn_of_trained_walks,
)
from placeformer.spatial import binned_sums as _kernels
from placeformer.spatial.binning import (
    BinnedRecording,
    Bins,
    Circular,
    Grid,
    activations,
    axis_names,
    refuse_not_finite,
    samples,
)

SAMPLE = (schema.WALK, schema.TIME)

Periods = tuple[float | None, ...]

Estimate = Literal["mode", "mean"]

Trial = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]


def decode_position(
    recording: xr.Dataset,
    *,
    train: xr.Dataset | None = None,
    method: Any = "ridge",
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    cv: Any = None,
    blocks: int | None = None,
    gap: int | None = None,
    posterior: bool = False,
    estimate: Estimate = "mode",
    circular: Circular = None,
    max_samples: int | None = None,
    n_resamples: int = 200,
    n_shuffles: int = 100,
    allow_other_units: bool = False,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    r"""Decode the position of every sample with a decoder trained on other walks.

    Parameters
    ----------
    recording
        Recording to decode, with at least two walks unless ``train`` or ``blocks`` is given. Its
        maps are pooled: select the walks of one map first if positions on different maps are
        unrelated.
    train
        Recording of the same units on which to train the decoder, for example before a lesion, on
        another map, or awake. ``recording`` then needs no positions: where it has none, only
        ``decoded`` and ``posterior`` are known. By default the decoder is cross-validated within
        ``recording``.
    method
        ``"ridge"``: linear regression with a penalty; option ``alpha`` (default 1), as in
        :class:`sklearn.linear_model.Ridge`. ``"knn"``: mean position of the nearest training
        samples (:class:`sklearn.neighbors.KNeighborsRegressor`). Both standardise every unit.
        ``"bayes"``: the most probable bin, for units that are independent and normal about their
        mean in every bin; options ``prior`` ("uniform" over the visited bins or "occupancy") and
        ``variance`` ("pooled" over bins or separate for every "place"). ``"poisson"``: the same
        with Poisson activations; options ``prior`` and ``negatives`` ("raise", "rectify" or
        "shift"). Or any scikit-learn estimator: a regressor with several outputs is trained on
        positions, a classifier on bins.
    by, bins
        Axes of position and their bins, as in :func:`rate_maps`. A Bayesian decoder or a
        classifier predicts the centre of a bin; a regressor needs no bins.
    cv
        Number of folds of walks (default 5, or the number of walks if there are fewer), or a
        scikit-learn splitter, which receives the walks. The samples of a walk are never in both the
        training and the test set. Not allowed with ``train``.
    blocks, gap
        Cut every walk into this many blocks of time, which are then used instead of walks; ``gap``
        samples at both ends of each block are left out (default a tenth of the block). Nearby
        blocks share slow changes, so prefer more walks.
    posterior
        Also return the posterior over bins, for ``"bayes"`` and ``"poisson"``: 4 bytes per sample
        and bin. Other methods have no posterior and raise an error.
    estimate
        What ``"bayes"`` and ``"poisson"`` decode: the ``"mode"`` of the posterior, the centre of
        its most probable bin, or its ``"mean"``, which is circular on circular axes. The mean is
        finer than the bins and has a smaller error on average, but lies between two likely places.
        Other methods have no posterior and raise an error for ``"mean"``.
    circular
        Period of every circular variable, as in :func:`rate_maps`; with ``train`` an axis that is
        circular in either recording is circular. On circular axes errors are measured the shorter
        way round, means are circular, and regressors are trained on the sine and the cosine.
    max_samples
        Train on at most this many samples per fold, drawn at random: by default 20,000 with "knn"
        and all with an estimator. Not allowed for "ridge" and Bayesian decoders, which read all
        samples once, in blocks.
    n_resamples
        Number of bootstrap samples of the interval.
    n_shuffles
        Number of shuffles of the null, each of which retrains the decoder; 0 for none.
    allow_other_units
        Pair the units of ``recording`` and ``train`` by position even if their labels, networks or
        sessions differ.
    seed
        Random seed of samples, bootstrap and shuffles.
    progress
        Show a progress bar (tqdm).
    options
        Options of the named method.

    Returns
    -------
    xarray.Dataset
        ``decoded`` (walk, time, axis) and ``error`` (walk, time), the Euclidean distance from the
        position, both in the units of the position, NaN where the position is NaN, outside explicit
        bins, or in a gap (with ``train``, ``decoded`` is known at every recorded sample).
        ``median_error``, ``mean_error`` and ``interval`` (bound), the 95 % bootstrap interval of
        the median over walks (NaN for a single walk). ``r2`` (axis), 1 minus the squared error over
        the variance (on a circular axis, over the squared distance from the circular mean), at most
        1, negative where the mean is a better prediction, NaN on an axis that does not vary.
        ``chance_error``: median error of always predicting the mean position of the training walks.
        ``null_error`` and ``null_sd``: mean error, and its standard deviation over shuffles, when
        the paths are exchanged among the walks and the decoder is retrained and retested. ``p``:
        (k + 1) / (n + 1) with k the number of shuffles whose mean error, minus that of always
        predicting the mean position of the training walks, is at least as low. ``reason``: why p is
        NaN (fewer than 20 orders of the walks, hence fewer than 4 walks), or what it cannot show
        (walks that follow the same path); else empty. ``n``, number of samples; ``fold_error``,
        ``fold_n`` (fold). Coordinate ``test_fold`` (walk, time).

        With ``posterior``, also ``posterior`` (walk, time, and one dimension per axis of ``by``),
        the probability of every bin given the activations of that sample alone, 0 to 1 with sum 1,
        0 in bins without training samples, NaN where nothing is decoded. The coordinates of these
        dimensions are the centres of the bins; true positions are renamed ``true_x``, ....

    Raises
    ------
    ValueError
        There is a single walk, activations are not finite or, with ``"poisson"``, negative, the
        units of ``train`` differ (the cells or network units, or the units of measure of the
        activations and the axes), the periods of an axis differ, or an option is unknown.

    Warns
    -----
    UserWarning
        Two walks in different folds, or of ``recording`` and ``train``, hold the same activations,
        or walks follow the same path.

    See Also
    --------
    decode_map : Decode the map instead of the position.

    Notes
    -----
    Bayesian decoders and ridge regression read dask arrays block by block. Other estimators load
    their training samples, at most ``max_samples`` per fold, and read the other samples block by
    block. The variance of a unit is at least a thousandth of its total variance, and a Poisson rate
    at least a thousandth of the unit's mean rate, so that no activation rules out a place where a
    unit was silent.

    The null exchanges whole walks (those that have positions), so it keeps the autocorrelation of
    positions and activations, and retrains the decoder, as
    :func:`sklearn.model_selection.permutation_test_score` does. Exchanging only the tested
    positions would not be exact, because the decoder of each walk was trained on the other walks in
    their original order. Recordings of more than 10,000 samples (2,500 with an estimator) are
    thinned evenly for the test, both the data and the shuffles. With ``train`` the decoder is not
    retrained, and the walks of ``recording`` are exchanged.

    The posterior of a sample is

    .. math:: P(\mathrm{bin} \mid a) \propto P(\mathrm{bin}) \prod_u p(a_u \mid \mathrm{bin}),

    without smoothing over time. It is too narrow if the noise of units is correlated.

    References
    ----------
    Zhang, K., Ginzburg, I., McNaughton, B. L. and Sejnowski, T. J. (1998). Interpreting neuronal
    population activity by reconstruction. Journal of Neurophysiology 79, 1017-1044.
    https://doi.org/10.1152/jn.1998.79.2.1017

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> recording = pf.record(model, n_walks=4, n_steps=128, layers="ffn.1", progress=False)
    >>> result = pf.decode_position(recording, method="bayes", progress=False)
    >>> result.decoded.dims, result.decoded.shape
    (('walk', 'time', 'axis'), (4, 128, 2))
    >>> bool(result.median_error < result.chance_error)
    True

    Train on one recording and decode another:

    >>> first, second = recording.isel(walk=[0, 1, 2]), recording.isel(walk=[3])
    >>> options = {"method": "bayes", "posterior": True, "progress": False}
    >>> result = pf.decode_position(second, train=first, **options)
    >>> result.posterior.dims, float(result.posterior.sum(("y", "x"))[0, 0].round(3))
    (('walk', 'time', 'y', 'x'), 1.0)
    """
    schema.check_recording(recording)
    names = axis_names(by)
    recording, source = _declared(recording, train, names, circular)
    train = None if train is None else source
    learner = Learner.of(method, max_samples, seed, options)
    check_whole("n_resamples", n_resamples)
    check_whole("n_shuffles", n_shuffles, 0)
    if posterior and not learner.is_bayes:
        raise ValueError(
            f"posterior=True needs method='bayes' or 'poisson', got {learner.name}, which predicts "
            "a position without its probability"
        )
    check_option("estimate", estimate, get_args(Estimate))
    if estimate == "mean" and not learner.is_bayes:
        raise ValueError(
            f"estimate='mean' needs method='bayes' or 'poisson', got {learner.name}, which has no "
            "posterior"
        )
    groups = Groups.of(recording, blocks, gap)
    schema.check_recording(source, need=names)
    units = common_units(source, names, "decode_position, for its error,")
    grid = None
    if learner.categorical or bins is not None:
        grid = BinnedRecording.of(source, by=by, bins=bins).grid
    to_train = Positions.of(source, names, grid)
    if estimate == "mean" and grid is not None:
        learner = replace(learner, of_place=_outputs(_centres(grid), to_train.periods))
    if train is None:
        fold = _within(groups.spread(folds(groups, cv)), to_train.known)
        warn_of_equal_walks(recording, fold)
        here, training_fold, n_folds = to_train, fold, int(fold.max()) + 1
        blind = mean_positions(here.position, fold, here.periods)
    else:
        if cv is not None:
            raise ValueError(f"cv must be None with train, which is not cross-validated, got {cv}")
        both = ("recording", "train")
        check_same_units(recording, train, both, allow_other_units=allow_other_units)
        check_same_measures(recording, train, both, (schema.ACTIVATION, *names))
        if learner.name == "poisson":  # the negative values of train are refused in training
            lowest(recording, learner.options.get("negatives", "raise"))
        here, fold = Positions.of(recording, names, grid), _recorded(recording, groups)
        training_fold, n_folds = np.where(to_train.known, 1, -1), 1
        if not to_train.known.any():
            raise ValueError("train must have samples with a position, got none; check bins")
        blind = _mean_of(to_train.position[to_train.known], to_train.periods)[None]
    trained = learner.fit(source, to_train.target(learner), training_fold, to_train.size, n=n_folds)
    outputs = learner.of_class(trained.outputs(recording, fold, progress), here.size)
    decoded = here.of_target(outputs, learner)
    decoded[fold < 0] = np.nan
    compared = here.known & (fold >= 0)
    if train is not None:
        warn_of_trained_walks(recording, train, compared)
    truth = here.position
    if not compared.all():
        truth = np.where(compared[..., None], truth, np.nan)
    with_places = np.asarray(groups.split(compared).any(axis=1))
    exchange = Exchange(
        _fixed_trials(groups, fold, decoded, truth)
        if train is not None
        else _position_trials(learner, recording, here, groups, fold, progress),
        with_places,
        n_orders(np.flatnonzero(with_places)),
        n_shuffles,
        seed,
    )
    apart = partial(distance, periods=here.periods)
    score = DecodingScore("error", units, "median distance", apart, median, less_is_better=True)
    evaluated = score.evaluate(
        decoded, truth, blind, fold, groups, exchange, n_resamples=n_resamples
    )
    columns = of_position(truth, decoded, units, here.periods) | evaluated
    result = labelled(columns, recording, fold, axis=list(names))
    if posterior and grid is not None and isinstance(trained, Bayes):
        shares = trained.posterior(recording, fold, progress)
        shares[fold < 0] = np.nan
        result = _with_posterior(result, shares, grid)
    settings = {"cv": text(cv), **asdict(groups), "n_shuffles": n_shuffles}
    settings |= {"estimate": estimate} if learner.is_bayes else {}
    if train is not None:
        settings["train"] = schema.read_provenance(train)
    return with_settings(result, recording, "decode_position", learner, **settings)


def decode_map(
    recording: xr.Dataset,
    *,
    method: Any = "bayes",
    by: Sequence[str] = ("y", "x"),
    bins: Bins = None,
    circular: Circular = None,
    cv: Any = None,
    max_samples: int | None = None,
    n_resamples: int = 200,
    n_shuffles: int = 100,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Decode the map on which every sample was taken, with a decoder trained on other walks.

    Parameters
    ----------
    recording
        Recording with at least two walks on each of two or more maps.
    method
        ``"bayes"`` and ``"poisson"``: the map of the most probable place among the places of all
        maps (see :func:`decode_position` for the options). ``"ridge"``
        (:class:`sklearn.linear_model.RidgeClassifier`) and ``"knn"``
        (:class:`sklearn.neighbors.KNeighborsClassifier`) do not use places. Or any classifier of
        scikit-learn.
    by, bins, circular
        Axes and bins of the places, and periods of circular variables, as in :func:`rate_maps`.
    cv
        Number of folds, each with a proportional number of walks of every map (default 5, or the
        number of walks of the map with the fewest), or a scikit-learn splitter, which receives the
        walks.
    max_samples, n_resamples, n_shuffles, seed, progress, options
        As in :func:`decode_position`.

    Returns
    -------
    xarray.Dataset
        ``decoded`` (walk, time), the map; NaN, or "" for maps with names, where the method needs a
        place and there is none. ``accuracy``, 0 to 1, with the 95 % bootstrap ``interval`` (bound)
        over walks. ``chance_accuracy``, the accuracy of always predicting the most frequent map of
        the training walks. ``null_accuracy``, ``null_sd`` and ``p``: accuracy when the maps of
        walks are exchanged and the decoder is retrained and retested. ``reason``: why p is NaN
        (fewer than 20 ways to assign the maps to the walks), else empty. ``confusion`` (map,
        decoded_map), the fraction of the samples of each map decoded as each map. ``n``, number of
        samples; ``fold_accuracy``, ``fold_n`` (fold).

    Raises
    ------
    ValueError
        There is a single map or a map with a single walk, or as in :func:`decode_position`.

    Warns
    -----
    UserWarning
        Two walks in different folds hold the same activations.

    See Also
    --------
    decode_position : Decode the position instead of the map.
    remapping : Compare the rate maps of two conditions.

    Notes
    -----
    The walks of every map are dealt to the folds in turn, so that maps with the same number of
    walks are equally frequent in each fold; otherwise a decoder that has learnt nothing would
    predict the map that is rarer among the tested walks and be right less often than chance. Maps
    are exchanged together with the folds, which keeps these proportions. Recordings are thinned for
    the null as in :func:`decode_position`, to 10,000 samples with Bayesian decoders and to 2,500
    with all other methods.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> walks = {"n_walks": 4, "n_steps": 128, "maps": (0, 1)}
    >>> recording = pf.record(model, layers="ffn.1", progress=False, **walks)
    >>> result = pf.decode_map(recording, progress=False)
    >>> result.confusion.shape, float(result.chance_accuracy)
    ((2, 2), 0.5)
    """
    schema.check_recording(recording, need=(schema.MAP,))
    maps, number = schema.map_numbers(recording)
    if maps.size < 2:
        raise ValueError(
            f"recording must have at least 2 maps to decode, got only map {maps[0]}; record "
            "more, for example placeformer.record(model, maps=(0, 1))"
        )
    learner = Learner.of(method, max_samples, seed, options)
    check_whole("n_resamples", n_resamples)
    check_whole("n_shuffles", n_shuffles, 0)
    if not (learner.categorical or learner.joint):
        raise ValueError(
            f"method must be a classifier to decode maps, got {learner.name}; use 'bayes', "
            "'ridge', 'knn' or a classifier of scikit-learn"
        )
    groups = Groups.of(recording)
    of_group = folds(groups, cv, number, seed=seed)
    fold = groups.spread(of_group)
    place, n_places = np.zeros(fold.shape, np.intp), 1
    if learner.is_bayes:
        places = BinnedRecording.of(recording, by=by, bins=bins, circular=circular)
        place, n_places = np.asarray(places.index).astype(np.intp), places.size
        fold = _within(fold, place >= 0)
    warn_of_equal_walks(recording, fold)
    decoder = MapDecoder(learner, maps.size, n_places)
    named = decoder.decode(recording, number, place, fold, progress)
    decoded = np.where(fold >= 0, named, np.nan)
    truth = np.broadcast_to(number[:, None], fold.shape)
    every = thinning(groups, fold, NULL_SAMPLES if learner.is_bayes else REFIT_SAMPLES)

    def trials(orders: list[Order]) -> Iterator[Trial]:
        small = groups.as_walks(activity(recording), every)
        thin_place, known = place[:, ::every], fold[:, ::every] >= 0
        for order in tqdm(orders, desc="shuffles", disable=not progress):
            thin_fold = np.where(known, of_group[order][:, None], -1)
            guess = decoder.decode(small, number[order], thin_place, thin_fold)
            yield guess, np.where(known, number[order][:, None], np.nan), None

    compared = np.asarray((fold >= 0).any(axis=1))
    exchange = Exchange(trials, compared, n_orders(number[compared]), n_shuffles, seed)
    score = DecodingScore("accuracy", "1", "share right", same, mean, less_is_better=False)
    blind = most_frequent(truth, fold)
    evaluated = score.evaluate(
        decoded, truth, blind, fold, groups, exchange, n_resamples=n_resamples
    )
    columns = of_map(maps, truth, decoded, fold) | evaluated
    result = labelled(columns, recording, fold, map=maps, decoded_map=maps)
    result = result.assign_coords(true_map=recording[schema.MAP].variable)
    settings = {"cv": text(cv), **asdict(groups), "n_shuffles": n_shuffles}
    return with_settings(result, recording, "decode_map", learner, **settings)


@dataclass(frozen=True)
class Positions:
    """Positions of the samples of a recording, and their bins."""

    position: NDArray[Any]
    """Positions (walk, time, axis); NaN where there is none."""
    index: Any
    """Bin of every sample (walk, time); ``None``: no bins."""
    known: NDArray[np.bool_]
    """Whether a sample (walk, time) has a position inside the bins."""
    grid: Grid | None
    periods: Periods
    """Period of every axis; ``None``: it has two ends."""

    @classmethod
    def of(cls, recording: xr.Dataset, names: tuple[str, ...], grid: Grid | None) -> Positions:
        """Positions of a recording, NaN if it has none, in the bins of a grid."""
        shape = tuple(recording.sizes[d] for d in SAMPLE)
        circular = _circular.circular_of(recording)
        periods = tuple(circular.get(name) for name in names)
        if not set(names) <= set(recording.variables):
            nowhere = np.full((*shape, len(names)), np.nan)
            return cls(nowhere, None, np.zeros(shape, bool), grid, periods)
        position = _positions(recording, names)
        known = np.isfinite(position).all(axis=2)
        if grid is None:
            return cls(position, None, known, None, periods)
        edges = {axis.name: axis.edges for axis in grid.axes}
        index = BinnedRecording.of(recording, by=names, bins=edges).index
        return cls(position, index, known & np.asarray(index >= 0), grid, periods)

    @property
    def size(self) -> int:
        """Number of bins."""
        return 0 if self.grid is None else self.grid.size

    def target(self, learner: Learner) -> Any:
        """Targets of training: bins, or positions."""
        return self.index if learner.categorical else _outputs(self.position, self.periods)

    def of_target(self, target: NDArray[Any], learner: Learner) -> NDArray[np.float64]:
        """Positions that correspond to the outputs of a decoder."""
        if self.grid is None or not learner.categorical or learner.of_place is not None:
            return _of_outputs(np.asarray(target), self.periods)
        return _centres(self.grid)[target]


def _position_trials(
    learner: Learner,
    recording: xr.Dataset,
    here: Positions,
    groups: Groups,
    fold: Numbers,
    progress: bool,
) -> Any:
    """Repeat the decoding with the positions of groups exchanged."""
    refit = not (learner.is_bayes or learner.joint)
    every = thinning(groups, fold, REFIT_SAMPLES if refit else NULL_SAMPLES)

    def thin(values: NDArray[Any]) -> NDArray[Any]:
        return groups.split(np.asarray(values))[:, ::every]

    def trials(orders: list[Order]) -> Iterator[Trial]:
        small = groups.as_walks(activity(recording), every)
        position, target, own = thin(here.position), thin(here.target(learner)), thin(fold)
        known = own >= 0
        if learner.joint and (known == known[0]).all():
            targets = np.concatenate([target[order] for order in orders], axis=-1)
            guesses = np.split(learner.decode(small, targets, own), len(orders), axis=-1)
            for order, guess in zip(orders, guesses, strict=True):
                compared = _compared(position[order], own, here.periods)
                yield here.of_target(guess, learner), *compared
            return
        for order in tqdm(orders, desc="shuffles", disable=not progress):
            both = known & known[order]
            paired = np.where(both, own, -1)
            if np.unique(paired[both]).size < 2:
                raise ValueError(
                    "recording must have positions at the same steps of its walks or blocks, which "
                    "are exchanged for the test, got walks without a step in common; "
                    "select walks that share steps, or pass n_shuffles=0"
                )
            guess = learner.decode(small, target[order], paired, here.size)
            compared = _compared(position[order], paired, here.periods)
            yield here.of_target(guess, learner), *compared

    return trials


def _compared(
    position: NDArray[Any], fold: Numbers, periods: Periods
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions (group, step, axis), NaN without a fold, and the mean position of other folds."""
    blind = mean_positions(position, fold, periods)[fold]
    return np.where((fold >= 0)[..., None], position, np.nan), blind


def _fixed_trials(
    groups: Groups, fold: Numbers, decoded: NDArray[np.float64], truth: NDArray[np.float64]
) -> Any:
    """Compare the outputs of a decoder of another recording with positions of other groups."""
    every = thinning(groups, fold, NULL_SAMPLES)

    def trials(orders: list[Order]) -> Iterator[Trial]:
        guess, position = (groups.split(values)[:, ::every] for values in (decoded, truth))
        for order in orders:
            yield guess, position[order], None

    return trials


@dataclass(frozen=True)
class MapDecoder:
    """Decoder of maps: of the places of all maps, or of the maps themselves."""

    learner: Learner
    n_maps: int
    n_places: int

    def decode(
        self,
        recording: xr.Dataset,
        number: NDArray[np.intp],
        place: NDArray[np.intp],
        fold: Numbers,
        progress: bool = False,
    ) -> NDArray[np.intp]:
        """Map of every sample (walk, time), given the maps of walks and the places of samples."""
        of_map = np.broadcast_to(number[:, None], fold.shape)
        if self.learner.categorical:
            target = np.where(place < 0, -1, of_map * self.n_places + place)
            size = self.n_maps * self.n_places
            found = self.learner.decode(recording, target, fold, size, progress)
            return np.asarray(found // self.n_places, np.intp)
        votes = self.learner.decode(recording, np.eye(self.n_maps)[of_map], fold, 0, progress)
        return votes.argmax(axis=2)


def _recorded(recording: xr.Dataset, groups: Groups) -> Numbers:
    """Fold 0 for the samples with activations, -1 for samples after the end of a walk."""
    values = activations(recording)
    fold = groups.spread(np.zeros(groups.n, np.intp))
    for where in _blocks.blocks(values.shape):
        missing = np.isnan(np.asarray(values[where])).all(axis=2)
        fold[where][missing] = -1
    (sums,) = _kernels.bin_sums(values, [fold], [1])
    refuse_not_finite(recording, sums, fold)
    return fold


def _with_posterior(result: xr.Dataset, shares: NDArray[np.float32], grid: Grid) -> xr.Dataset:
    """Add the posterior over the bins to the result; positions of samples are renamed."""
    taken = {name: f"true_{name}" for name in grid.names if name in result.coords}
    result = result.rename(taken).assign_coords(grid.coords())
    about = "posterior probability of a place"
    values = shares.reshape(*shares.shape[:2], *grid.shape)
    return result.assign(posterior=variable((*SAMPLE, *grid.names), values, about))


def _positions(recording: xr.Dataset, names: tuple[str, ...]) -> NDArray[Any]:
    """Position of every sample (walk, time, axis)."""
    axes = [samples(recording, name) for name in names]
    positions = np.empty((*axes[0].shape, len(axes)), np.result_type(*(a.dtype for a in axes)))
    for k, values in enumerate(axes):
        positions[..., k] = values
    return positions


def _centres(grid: Grid) -> NDArray[np.float64]:
    """Centres of the bins, shape (bin, axis)."""
    mesh = np.meshgrid(*(axis.centres for axis in grid.axes), indexing="ij")
    return np.stack([centre.ravel() for centre in mesh], axis=-1)


def _within(fold: Numbers, keep: NDArray[np.bool_]) -> Numbers:
    """Fold of the samples to keep, -1 for the others."""
    fold = np.where(keep, fold, fold.dtype.type(-1))
    if np.unique(fold[fold >= 0]).size < 2:
        raise ValueError(
            "recording must have samples with a position in at least 2 folds, got "
            f"{np.count_nonzero(fold >= 0)} samples in all; check positions and bins"
        )
    return fold


def mean_positions(
    position: NDArray[Any], fold: Numbers, periods: Periods = ()
) -> NDArray[np.float64]:
    """Mean position over the other folds, for every fold (fold, axis)."""
    others = (position[(fold >= 0) & (fold != k)] for k in range(int(fold.max()) + 1))
    return np.asarray([_mean_of(values, periods) for values in others])


def distance_from_mean(recording: xr.Dataset, by: Sequence[str]) -> NDArray[np.float64]:
    """Distance (walk, time) of positions from their mean: the error of a constant guess."""
    circular = _circular.circular_of(recording)
    periods = tuple(circular.get(name) for name in by)
    position = _positions(recording, tuple(by))
    known = np.isfinite(position).all(axis=-1)
    return distance(_mean_of(position[known], periods), position, periods)


def _mean_of(position: NDArray[Any], periods: Periods) -> NDArray[np.float64]:
    """Mean (axis,) of positions (sample, axis), circular on circular axes."""
    mean = position.mean(axis=0, dtype=float)
    for k, period in enumerate(periods):
        if period is not None:
            mean[k] = _circular.mean_direction(position[:, k], period)
    return np.asarray(mean)


def _outputs(position: NDArray[Any], periods: Periods) -> NDArray[Any]:
    """Targets of a regressor (..., output): positions, or sine and cosine on circular axes."""
    if not any(periods):
        return position
    columns: list[NDArray[Any]] = []
    for k, period in enumerate(periods):
        turned = position[..., k] * (2 * np.pi / (period or 1.0))
        columns += [position[..., k]] if period is None else [np.sin(turned), np.cos(turned)]
    return np.stack(columns, axis=-1)


def _of_outputs(outputs: NDArray[Any], periods: Periods) -> NDArray[Any]:
    """Positions (..., axis) of the outputs of a regressor, in [0, period) on circular axes."""
    if not any(periods):
        return outputs
    axes, columns = [], iter(np.moveaxis(outputs, -1, 0))
    for period in periods:
        if period is None:
            axes.append(next(columns))
        else:
            angle = np.arctan2(next(columns), next(columns))
            axes.append(np.mod(angle, 2 * np.pi) * (period / (2 * np.pi)))
    return np.stack(axes, axis=-1)


def _declared(
    recording: xr.Dataset, train: xr.Dataset | None, names: tuple[str, ...], circular: Circular
) -> tuple[xr.Dataset, xr.Dataset]:
    """The recordings to decode and to train on, both with the circular axes of either."""
    source = _circular.declare(recording if train is None else train, circular)
    if train is None:
        return source, source
    theirs = _circular.circular_of(source)
    own = {**_circular.circular_of(recording), **(circular or {})}
    for name in own.keys() & theirs.keys() & {*names}:
        if not np.isclose(own[name], theirs[name]):
            raise ValueError(
                f"recording and train must have the same period of {name!r}, got "
                f"{own[name]:g} and {theirs[name]:g}; pass it as circular={{{name!r}: period}}"
            )
    periods = {k: v for k, v in {**own, **theirs}.items() if k in names}
    if periods:
        text = _circular.as_text(periods)
        recording, source = (
            d.assign_attrs({_circular.CIRCULAR: text}) for d in (recording, source)
        )
    return recording, source


def most_frequent(number: NDArray[np.intp], fold: Numbers) -> NDArray[np.intp]:
    """Most frequent number in the other folds, for every fold (fold,)."""
    others = (number[(fold >= 0) & (fold != k)] for k in range(int(fold.max()) + 1))
    return np.asarray([np.bincount(values).argmax() for values in others])


def of_position(
    position: NDArray[Any],
    decoded: NDArray[np.float64],
    units: str,
    periods: Periods,
) -> Columns:
    """Columns of decoded positions."""
    error = distance(decoded, position, periods)
    known = np.isfinite(error)
    r2 = [_r2(position[..., k], decoded[..., k], known, period) for k, period in enumerate(periods)]
    distances = "distance of decoded and true position"
    return {
        "decoded": variable((*SAMPLE, "axis"), decoded, "decoded position", units=units),
        "error": variable(SAMPLE, error, distances, units=units),
        "median_error": variable((), median(error), "median distance", units=units),
        "mean_error": variable((), mean(error), "mean distance", units=units),
        "r2": variable("axis", r2, "variance of position decoded"),
    }


def _r2(
    truth: NDArray[Any],
    decoded: NDArray[np.float64],
    known: NDArray[np.bool_],
    period: float | None,
) -> float:
    """1 minus the squared error over the variance of known values; NaN if they are all equal."""
    values = truth[known].astype(float)
    if not _circular.shortest(values - values[:1], period).any():
        return np.nan
    mean = _mean_of(values[:, None], (period,))
    off = _circular.shortest(decoded[known] - values, period)
    left = off @ off
    off = _circular.shortest(mean - values, period)
    return float(1 - left / (off @ off))


def of_map(
    maps: NDArray[Any],
    truth: NDArray[np.intp],
    decoded: NDArray[np.float64],
    fold: Numbers,
) -> Columns:
    """Columns of decoded maps."""
    known = fold >= 0
    pairs = np.zeros((maps.size, maps.size))
    np.add.at(pairs, (truth[known], decoded[known].astype(np.intp)), 1)
    share = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
    as_text = maps.dtype.kind not in "biuf"
    named = np.full(fold.shape, "" if as_text else np.nan, maps.dtype if as_text else float)
    named[known] = maps[decoded[known].astype(np.intp)]
    confusion = "share of a map's samples decoded as each map"
    return {
        "decoded": variable(SAMPLE, named, "decoded map"),
        "accuracy": variable((), mean(same(decoded, truth)), "share right"),
        "confusion": variable((schema.MAP, "decoded_map"), share, confusion),
    }


def labelled(columns: Columns, recording: xr.Dataset, fold: Numbers, **coords: Any) -> xr.Dataset:
    """Dataset of columns with the recording's coordinates of samples."""
    coords_of_samples = {
        name: values
        for name, values in recording.coords.items()
        if set(values.dims) <= set(SAMPLE) and name not in coords
    }
    about = "fold in which the sample was tested; -1: left out"
    result = xr.Dataset(columns, coords=coords_of_samples | coords | {"bound": ["lower", "upper"]})
    return result.assign_coords(test_fold=variable(SAMPLE, fold, about))


def text(cv: Any) -> Any:
    """Folds as an attribute: a number or text."""
    return cv if cv is None or isinstance(cv, int) else repr(cv)


def with_settings(
    result: xr.Dataset, recording: xr.Dataset, step: str, learner: Learner, **settings: Any
) -> xr.Dataset:
    """Result with its settings in the attributes."""
    settings = {"method": learner.name, "seed": learner.seed, **settings, **learner.options}
    if learner.max_samples is not None:
        settings["max_samples"] = learner.max_samples
    result.attrs.update({k: v for k, v in settings.items() if isinstance(v, str | int | float)})
    result.attrs["n_units"] = recording.sizes[schema.UNIT]
    result.attrs[schema.PROVENANCE] = schema.provenance(recording, step, **settings)
    return result
