"""Variance partition: variance of a unit that each of several variables explains uniquely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm.auto import tqdm

from placeformer._options import check_number, check_option, check_share, check_whole
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.population.binned_models import Design, Floats, Model, Numbers
from placeformer.population.cross_validation import Groups, folds
from placeformer.spatial.binning import BinnedRecording, Bins, activations
from placeformer.spatial.place_shuffles import (
    CircularShifts,
    Shuffles,
    WalkExchange,
    course_agreement,
)
from placeformer.spatial.shuffle_test import choose_null
from placeformer.stats.monte_carlo import MonteCarloTest, check_n
from placeformer.stats.multiple_comparisons import benjamini_hochberg
from placeformer.stats.tolerances import NO_VARIANCE

Maps = Literal["apart", "together"]
Null = Literal["auto", "walks", "circular"]
By = Mapping[str, str | Sequence[str]]

MAX_VARIABLES = 6
"""Maximum number of variables: 63 models."""

BLOCKS = 10
"""Number of blocks of time that a single walk is cut into by default."""

VALUES = 2**23
"""Maximum number of activations that are kept in memory as float64 at once."""

AT_ONCE = 16
"""Number of shuffles that are computed together."""

DETERMINED = "follows from the other variables"

JOIN = "+"
VARIABLE, SUBSET = "variable", "subset"


def variance_partition(
    recording: xr.Dataset,
    by: By,
    *,
    bins: Bins = None,
    maps: Maps = "apart",
    ridge: float = 1.0,
    cv: Any = None,
    blocks: int | None = None,
    gap: int | None = None,
    n_shuffles: int | Literal["auto"] = "auto",
    null: Null = "auto",
    min_shift: int | None = None,
    max_q: float = 0.05,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    r"""Unique and shared variance that several variables explain of every unit.

    .. math:: R^2(S) = 1 - \frac{\sum_t (a_t - \hat a_t(S))^2}
              {\sum_t (a_t - \hat a_t(\emptyset))^2}, \qquad U_v = R^2(V) - R^2(V \setminus v)

    with :math:`\hat a_t(S)` the prediction for a held-out sample by an additive model of the
    variables S (one height for every bin of every variable), and :math:`\hat a_t(\emptyset)` the
    mean of the training samples of its map.

    Parameters
    ----------
    recording
        Recording. Samples at which a variable is NaN or outside its edges, or at which every unit
        is NaN, are left out.
    by
        One to six variables: the name of each, and the coordinate (walk, time) or coordinates that
        are its axes, such as ``{"place": ("y", "x"), "heading": "heading", "letter":
        "observation"}``. The coordinates of one variable are binned jointly, so that any map of
        places is possible; the contributions of different variables are added. A direction is
        binned like any other coordinate.
    bins
        Bins of the coordinates, as in :func:`rate_maps`, best as a mapping by coordinate:
        ``{"x": 20, "y": 20, "heading": 12}``. Coordinates of whole numbers need none.
    maps
        ``"apart"``: bins of different maps are different bins, and the means of the maps are
        subtracted first. ``"together"``: the coordinate ``map`` is ignored.
    ridge
        Penalty, in samples, above 0. In a model of a single variable, the height of a bin that was
        visited n times is shrunk towards 0 by the factor n / (n + ridge).
    cv, blocks, gap
        Folds of walks, or of blocks of time, as in :func:`decode_position`. By default walks are
        used, or 10 blocks of a single walk.
    n_shuffles
        Number of shuffles per unit, or ``"auto"`` for as many as the decisions at ``max_q`` need,
        as in :func:`shuffle_test`.
    null
        How the residuals are shuffled in time: ``"circular"`` shifts within every walk,
        ``"walks"`` exchanged within a map, or ``"auto"``, as in :func:`shuffle_test`.
    min_shift
        Minimum circular shift, in samples that are not left out; by default a tenth of the walk.
    max_q
        False-discovery rate of the decisions that ``n_shuffles="auto"`` settles.
    seed
        Seed of the shuffles, and of the folds of walks on several maps.
    progress
        Show a progress bar (tqdm).

    Returns
    -------
    xarray.Dataset
        Variance explained of held-out samples, as fractions of the unit's variance about the means
        of maps: at most 1, and below 0 where a model predicts worse than the mean. Unchanged when a
        unit is scaled, shifted or negated. NaN for a unit that does not vary.

        - ``total`` (unit): variance explained by all variables together.
        - ``alone`` (variable, unit): variance explained by one variable alone.
        - ``unique`` (variable, unit): the loss of the total without the variable.
        - ``shared`` (unit): the total minus the sum of the unique parts.
        - ``explained`` (subset, unit): variance explained by every set of variables.
        - ``common`` (subset, unit): commonality coefficients, the part that is common to exactly
          the variables of the subset (Nimon et al. 2008). Over subsets they sum to the total. They
          may be negative, where variables suppress each other.
        - ``p``, ``q``, ``null_mean``, ``n_shuffles`` (variable, unit): test of ``unique`` against
          shuffles, where q is the false-discovery rate over units; also ``total_p``, ``total_q``.
        - ``n_bins`` (variable): number of visited bins.
        - ``reason`` (variable): why p is NaN for all units, else empty: the variable follows from
          the others, as the letter follows from the place, and explains nothing beyond them.

    Raises
    ------
    ValueError
        The recording breaks the contract or has values that are not finite, an option is out of
        range, or too few shuffles are possible.

    See Also
    --------
    position_variance_explained : What place explains beyond one discrete variable.
    shuffle_test : Test of a single statistic.

    Notes
    -----
    A unit tuned to place seems tuned to heading if an animal looks into the corners; the unique
    variance separates the two. The test of a variable keeps this relation between variables: the
    residuals of the model of all *other* variables are shuffled in time and added to the prediction
    of that model (Freedman and Lane 1983), and the unique variance is recomputed. The shuffled
    residuals keep their autocorrelation; independent shuffles would reject too often. Variables are
    additive: a conjunctive cell (a head direction within its fields) is explained by one variable
    with all its axes, ``{"both": ("y", "x", "heading")}``. Differences within wide bins are left to
    other variables: with bins of half a metre, a unit with a small field seems tuned to heading.
    Every sample counts once, regardless of its ``dwell``. The activations of all units are kept in
    memory (4 bytes per value in float32), even if the recording is on disk. Units are measured
    independently, so a larger recording can be passed in parts,
    ``recording.isel(unit=slice(0, 1000))``; ``q`` is then over the units of a part.

    References
    ----------
    Nimon, K., Lewis, M., Kane, R. and Haynes, R. M. (2008). An R package to compute commonality
    coefficients in the multiple regression case. Behavior Research Methods 40, 457-466.
    https://doi.org/10.3758/BRM.40.2.457
    Freedman, D. and Lane, D. (1983). A nonstochastic interpretation of reported significance
    levels. Journal of Business and Economic Statistics 1, 292-298.
    https://doi.org/10.1080/07350015.1983.10509354
    Hardcastle, K. et al. (2017). A multiplexed, heterogeneous, and adaptive code for navigation in
    medial entorhinal cortex. Neuron 94, 375-387. https://doi.org/10.1016/j.neuron.2017.03.025

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> x, heading = rng.integers(0, 10, (2, 20, 200))  # 20 walks of 200 steps
    >>> noise = rng.standard_normal((3, 20, 200))
    >>> units = np.stack([x == 4, heading == 4, x < 0]) * 3 + noise
    >>> recording = pf.from_arrays(np.moveaxis(units, 0, -1), {"x": x, "heading": heading})
    >>> by = {"place": "x", "heading": "heading"}
    >>> part = pf.variance_partition(recording, by, progress=False)
    >>> part.unique.round(1).values + 0  # (variable, unit)
    array([[0.5, 0. , 0. ],
           [0. , 0.5, 0. ]])
    >>> (part.q <= 0.05).values
    array([[ True, False, False],
           [False,  True, False]])
    """
    n = check_n("n_shuffles", n_shuffles)
    names = _checked_variables(by)
    check_option("maps", maps, get_args(Maps))
    check_option("null", null, get_args(Null))
    check_whole("seed", seed, 0)
    check_share("max_q", max_q)
    check_number("ridge", ridge)
    if not (np.isfinite(ridge) and ridge > 0):
        raise ValueError(
            f"ridge must be above 0 samples, got {ridge}; pass 1e-6 for nearly no penalty"
        )
    binned = _binned(recording, names, bins)
    sampled = _Sampled.of(recording, binned, maps, ridge, cv, blocks, gap, seed)
    name = _null(binned, null, min_shift)
    shuffles = sampled.shuffles(name, min_shift)
    partition = _Partition.of(sampled, len(names))
    explained = partition.explained()
    tested, determined = partition.tested(explained), partition.determined(sampled.design)
    of_variables = np.append(determined, False)  # the last row is the total
    test = MonteCarloTest(np.where(of_variables[:, None], np.nan, tested), n, shuffles.distinct)
    rng = np.random.default_rng(seed)
    with tqdm(desc="shuffles", total=n, disable=not progress) as bar:
        _draw(partition, sampled, shuffles, test, rng, max_q, bar)
    result = _labelled(recording, list(names), explained, tested, partition.subsets, test)
    result["reason"] = variable(
        VARIABLE, np.where(determined, DETERMINED, ""), "why p is NaN for all units"
    )
    result["n_bins"] = variable(
        VARIABLE, np.bincount(sampled.design.variable + 1)[1:], "number of bins visited"
    )
    settings = {
        "by": {k: list(v) for k, v in names.items()},
        "maps": maps,
        "ridge": ridge,
        "null": name,
        "n_shuffles": "auto" if n is None else n,
        "seed": seed,
    }
    result.attrs["null"] = name
    result.attrs["n_folds"] = sampled.design.n_folds
    result.attrs[schema.PROVENANCE] = schema.provenance(recording, "variance_partition", **settings)
    return result


def _checked_variables(by: By) -> dict[str, tuple[str, ...]]:
    """Axes of every variable."""
    if not isinstance(by, Mapping) or not 1 <= len(by) <= MAX_VARIABLES:
        raise ValueError(
            f"by must be a mapping of 1 to {MAX_VARIABLES} variables, such as "
            f"{{'place': ('y', 'x'), 'heading': 'heading'}}, got {by!r}"
        )
    wrong = [name for name in by if JOIN in str(name)]
    if wrong:
        raise ValueError(f"names in by must not contain {JOIN!r}, which joins them, got {wrong}")
    return {str(k): (v,) if isinstance(v, str) else tuple(v) for k, v in by.items()}


def _binned(
    recording: xr.Dataset, names: Mapping[str, tuple[str, ...]], bins: Bins
) -> list[BinnedRecording]:
    """The recording binned by every variable."""
    axes = {axis for own in names.values() for axis in own}
    if isinstance(bins, Mapping):
        unknown = set(bins) - axes
        if unknown:
            raise ValueError(
                f"bins must map axes in by={sorted(axes)} to bins, got {sorted(unknown)}"
            )
        of = [{axis: bins[axis] for axis in own if axis in bins} for own in names.values()]
        return [
            BinnedRecording.of(recording, by=own, bins=some)
            for own, some in zip(names.values(), of, strict=True)
        ]
    return [BinnedRecording.of(recording, by=own, bins=bins) for own in names.values()]


def _null(
    binned: list[BinnedRecording], null: Null, min_shift: int | None
) -> Literal["walks", "circular"]:
    """Name of the null; ``"auto"`` uses the variable in which walks agree the most."""
    agreement = [course_agreement(one) for one in binned]
    chosen = choose_null(binned[int(np.argmax(agreement))], null, min_shift)
    return "walks" if chosen == "walks" else "circular"


@dataclass(frozen=True)
class _Sampled:
    """The samples that count, ordered by walk, with their design."""

    values: NDArray[Any]
    """Activations (sample, unit)."""
    design: Design
    lengths: Numbers
    """Number of samples of every walk."""
    map_of_walk: Numbers
    index: Numbers
    """Number of every sample (walk, step); -1 after the last of a walk."""

    @classmethod
    def of(
        cls,
        recording: xr.Dataset,
        binned: list[BinnedRecording],
        maps: Maps,
        ridge: float,
        cv: Any,
        blocks: int | None,
        gap: int | None,
        seed: int,
    ) -> _Sampled:
        """Samples of a recording that have every variable, and a fold."""
        map_of_walk = schema.map_of_walk(recording)
        rooms = map_of_walk if maps == "apart" else np.zeros_like(map_of_walk)
        if blocks is None and recording.sizes[schema.WALK] == 1:
            blocks = BLOCKS
        groups = Groups.of(recording, blocks, gap)
        label = np.repeat(rooms, groups.blocks) if rooms.any() else None
        fold = groups.spread(folds(groups, cv, label, seed=seed))
        index = [np.asarray(one.index) for one in binned]
        use = np.logical_and.reduce([fold >= 0, *(i >= 0 for i in index)])
        values = np.asarray(activations(recording))[use]
        seen = np.isfinite(values).any(axis=1)
        values, use = values[seen], use.copy()
        use[use] = seen
        if not use.any():
            raise ValueError(
                "recording must have samples with every variable of by, got none; check that the "
                "coordinates are not NaN and that bins cover them"
            )
        schema.check_finite(
            recording[schema.ACTIVATION], np.count_nonzero(~np.isfinite(values), axis=0)
        )
        room = np.broadcast_to(rooms[:, None], use.shape)[use]
        places = [room * one.size + i[use] for one, i in zip(binned, index, strict=True)]
        _, own = np.unique(fold[use], return_inverse=True)  # a fold may have lost its samples
        design = Design.of(room, places, own, ridge)
        if design.n_folds < 2:
            raise ValueError(
                "recording must have samples in at least 2 folds, got 1; pass cv or blocks"
            )
        lengths = use.sum(axis=1)
        number = np.full((len(use), int(lengths.max())), -1)
        number[np.arange(number.shape[1]) < lengths[:, None]] = np.arange(len(values))
        return cls(values, design, lengths, rooms, number)

    def shuffles(self, null: str, min_shift: int | None) -> Shuffles:
        """Shuffles of the samples in time."""
        n_steps = self.index.shape[1]
        if null == "circular":
            return CircularShifts(self.lengths, n_steps, min_shift)
        return WalkExchange.of(self.lengths, n_steps, self.map_of_walk)

    def sources(self, shuffles: Shuffles, n: int, rng: np.random.Generator) -> Iterator[Numbers]:
        """The sample whose variables every sample receives (sample,), in every shuffle."""
        moves = shuffles.draw(n, rng)
        inside = self.index >= 0
        for number in range(len(moves)):
            moved = shuffles.moved(self.index, moves[number : number + 1], len(self.values))
            yield np.asarray(moved[..., :, :][0][inside], np.intp)

    def of_units(self, units: Numbers) -> _Sampled:
        """The same samples for some of the units."""
        return replace(self, values=self.values[:, units])

    def parts(self) -> Iterator[Floats]:
        """Activations (sample, unit) of some units at a time, minus their mean."""
        n_samples, n_units = self.values.shape
        size = max(1, VALUES // n_samples)
        for start in range(0, n_units, size):
            part = self.values[:, start : start + size].astype(float)
            yield part - part.mean(axis=0)


@dataclass(frozen=True)
class _Partition:
    """Models of all sets of variables, and the sums of the data that they need."""

    subsets: list[tuple[int, ...]]
    models: dict[tuple[int, ...], Model]
    sums: list[Floats]
    """Sums (fold, column, unit) of columns times activations, for some units at a time."""
    squares: list[Floats]
    """Sums of squares (unit,), for some units at a time."""

    @classmethod
    def of(cls, sampled: _Sampled, n_variables: int) -> _Partition:
        """Models of the variables of samples."""
        numbers = range(n_variables)
        subsets = [s for size in range(1, n_variables + 1) for s in combinations(numbers, size)]
        models = {s: sampled.design.model(s) for s in ((), *subsets)}
        sums = [sampled.design.with_activations(part) for part in sampled.parts()]
        squares = [np.einsum("su,su->u", part, part) for part in sampled.parts()]
        return cls(subsets, models, sums, squares)

    def explained(self) -> Floats:
        """Variance explained by every set of variables (subset, unit)."""
        return np.concatenate(
            [
                self._explained(sums, squares, self.subsets)
                for sums, squares in zip(self.sums, self.squares, strict=True)
            ],
            axis=1,
        )

    def tested(self, explained: Floats) -> Floats:
        """Tested statistics (variable and total, unit): the unique variances and the total."""
        total = explained[-1]
        unique = [
            total - (explained[self.subsets.index(rest)] if rest else 0.0) for rest in self.rests
        ]
        return np.stack([*unique, total])

    def determined(self, design: Design) -> NDArray[np.bool_]:
        """Whether each variable follows from the others, so that it cannot explain more."""
        pairs = zip(self.all, self.rests, strict=True)
        return np.array([design.is_determined(own, self.models[rest]) for own, rest in pairs])

    @property
    def all(self) -> tuple[int, ...]:
        """The set of all variables."""
        return self.subsets[-1]

    @property
    def rests(self) -> list[tuple[int, ...]]:
        """For every variable the set of the other variables."""
        return [tuple(v for v in self.all if v != own) for own in self.all]

    def _explained(
        self, sums: Floats, squares: Floats, subsets: Sequence[tuple[int, ...]]
    ) -> Floats:
        """Variance explained (subset, unit) from sums (fold, column, unit) and squares (unit,)."""
        before = squares + self.models[()].excess(sums)
        known = before > NO_VARIANCE * np.maximum(squares, np.finfo(float).tiny)
        gain = self.models[()].excess(sums) - np.stack(
            [self.models[subset].excess(sums) for subset in subsets]
        )
        out = np.full(gain.shape, np.nan)
        return np.divide(gain, before, out=out, where=np.broadcast_to(known, gain.shape))

    def shuffled(self, design: Design, part: int, shuffles: list[_Moved]) -> list[Floats]:
        """Tested statistics (variable and total, unit) of some units, in every shuffle."""
        sums, squares = self.sums[part], self.squares[part]
        values = []
        kept = [self._kept(design, rest, sums) for rest in (*self.rests, ())]
        for moved in shuffles:
            of_shuffle = []
            for rest, (fitted, predicted) in zip((*self.rests, ()), kept, strict=True):
                residual = moved.sums[part] - np.stack([c @ fitted for c in moved.cross])
                new = predicted + residual
                # |prediction + residual|², where the residuals are those of the data, reordered
                total = np.einsum("cu,cu->u", fitted, (predicted + 2 * residual).sum(axis=0))
                total += squares - np.einsum(
                    "cu,cu->u", fitted, 2 * sums.sum(axis=0) - predicted.sum(axis=0)
                )
                pair = (self.all, rest) if rest else (self.all,)
                whole, *other = self._explained(new, total, pair)
                of_shuffle.append(whole - other[0] if other else whole)
            values.append(np.stack(of_shuffle))
        return values

    def _kept(self, design: Design, rest: tuple[int, ...], sums: Floats) -> tuple[Floats, Floats]:
        """Coefficients (column, unit) of the model of the others, and its sums by fold."""
        fitted = self.models[rest].fitted(sums)
        return fitted, np.stack([product @ fitted for product in design.products])


@dataclass(frozen=True)
class _Moved:
    """Sums of one shuffle."""

    sums: list[Floats]
    """Columns times the paired activations (fold, column, unit), for some units at a time."""
    cross: list[Any]
    """Columns times the columns of the paired samples (column, column), for every fold."""


def _draw(
    partition: _Partition,
    sampled: _Sampled,
    shuffles: Shuffles,
    test: MonteCarloTest,
    rng: np.random.Generator,
    max_q: float,
    bar: Any,
) -> None:
    """Make shuffles for the units whose decision is open until no decision is open."""
    units, n_variables = np.arange(test.observed.shape[-1]), len(partition.all)
    while (n := test.next_draws()) > 0:
        for start in range(0, n, AT_ONCE):
            sources = list(sampled.sources(shuffles, min(AT_ONCE, n - start), rng))
            design = sampled.design
            moved = [_Moved([], design.cross(source)) for source in sources]
            for part in sampled.parts():
                for one, source in zip(moved, sources, strict=True):
                    one.sums.append(design.with_activations(part, source))
            of_parts = [
                partition.shuffled(design, part, moved) for part in range(len(partition.sums))
            ]
            for values in zip(*of_parts, strict=True):
                test.add(np.concatenate(values, axis=1), units)
            bar.update(len(sources))
        if not test.sequential:
            break
        open_units = np.flatnonzero(test.undecided(max_q).any(axis=0))
        bar.set_postfix(undecided=open_units.size)
        if not open_units.size:
            break
        if open_units.size < units.size:
            chosen = np.searchsorted(units, open_units)
            units, sampled = open_units, sampled.of_units(chosen)
            partition = _Partition.of(sampled, n_variables)


def _labelled(
    recording: xr.Dataset,
    names: list[str],
    explained: Floats,
    tested: Floats,
    subsets: list[tuple[int, ...]],
    test: MonteCarloTest,
) -> xr.Dataset:
    """Results with names, dimensions and attributes."""
    n = len(names)
    total = explained[-1]
    of = dict(zip([(), *subsets], np.vstack([0 * total, explained]), strict=True))
    common = [
        sum(
            (-1) ** (size + 1) * of[tuple(sorted({*range(n)} - {*own} | {*some}))]
            for size in range(len(own) + 1)
            for some in combinations(own, size)
        )
        for own in subsets
    ]
    q = benjamini_hochberg(test.p)
    unit, by_variable, by_subset = (schema.UNIT,), (VARIABLE, schema.UNIT), (SUBSET, schema.UNIT)
    held = "variance of held-out samples explained by"
    p = "fraction of shuffles, including the data, that explain at least as much"
    data = {
        "total": variable(unit, total, f"{held} all variables"),
        "alone": variable(by_variable, explained[:n], f"{held} the variable alone"),
        "unique": variable(by_variable, tested[:n], f"{held} the variable beyond the others"),
        "shared": variable(
            unit, total - tested[:n].sum(axis=0), f"{held} all variables, without the unique parts"
        ),
        "explained": variable(by_subset, explained, f"{held} the set of variables"),
        "common": variable(by_subset, np.stack(common), "commonality coefficient"),
        "p": variable(by_variable, test.p[:n], f"{p}, beyond the others"),
        "q": variable(by_variable, q[:n], "p corrected for the number of units (FDR)"),
        "null_mean": variable(by_variable, test.mean[:n], "mean of shuffles: unique"),
        "n_shuffles": variable(by_variable, test.n[:n], "number of shuffles that p rests on"),
        "total_p": variable(unit, test.p[n], p),
        "total_q": variable(unit, q[n], "total_p corrected for the number of units (FDR)"),
    }
    coords: dict[Any, Any] = dict(schema.unit_coords(recording))
    coords[VARIABLE] = variable(VARIABLE, names, "variable")
    labels = [JOIN.join(names[v] for v in own) for own in subsets]
    coords[SUBSET] = variable(SUBSET, labels, "set of variables")
    return xr.Dataset(data, coords)
