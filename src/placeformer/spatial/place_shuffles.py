"""Shuffles of places relative to activations: circular shifts of walks, and exchanges of walks.

Both keep the activations and the places, with their temporal statistics, and destroy the
relation between the two. A circular shift rolls the places of a walk in time; an exchange gives
a walk the places of another walk on the same map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, next_fast_len, rfft
from scipy.special import gammaln

from placeformer._options import check_whole
from placeformer.data import schema
from placeformer.data.blocks import integers
from placeformer.spatial.binning import BinnedRecording, activations
from placeformer.stats.tolerances import NO_VARIANCE

MIN_DISTINCT = 20
"""Minimum number of distinct shifts per walk, and of distinct shuffles of a recording."""

LEAST_WALKS = 4
"""Minimum number of walks of a map that can be exchanged: 4! = 24 orders."""

MIN_WALKS = 8
"""Minimum number of walks of every map from which walks are exchanged by default."""

COURSE_STEPS = 200
"""Number of evenly spaced steps at which the paths of walks are compared."""

SHARED_COURSE = 0.1
"""Agreement of the paths of two walks above which an exchange changes the places too little."""

GROUP_VALUES = 2**23
"""Maximum number of values in the sums of shuffles that share one read of the activations."""

CORRELATED_STEPS = 2**15
"""Maximum number of steps of a walk whose autocorrelation is computed."""

UNITS_AT_ONCE = 64
"""Number of units whose autocorrelation is computed at once."""

GROUP = 64
"""Maximum number of shuffles that share one read of the activations."""

Bins = NDArray[np.integer[Any]]


class Shuffles(Protocol):
    """Random shuffles of the places of the walks of a recording."""

    @property
    def distinct(self) -> float:
        """Number of distinct shuffles."""

    def draw(self, n: int, rng: np.random.Generator) -> Bins:
        """Random shuffles (shuffle, walk)."""

    def moved(self, index: Bins, moves: Bins, size: int) -> ShuffledBins:
        """Bins (shuffle, walk, time) after shuffles (shuffle, walk)."""


@dataclass(frozen=True)
class ShuffledBins:
    """Bins (shuffle, walk, time) after shuffles, computed block by block when read."""

    index: Bins
    """Bins before the shuffles (walk, time), of any integer type; negative: no bin."""
    moves: Bins
    """Move of every walk in every shuffle (shuffle, walk): a shift, or the walk it receives."""
    size: int
    """Number of bins; the bins of each shuffle are offset by those of the shuffles before."""
    lengths: NDArray[np.integer[Any]] | None = None
    """Steps of every walk; ``None``: all steps."""

    def __getitem__(self, where: tuple[Any, slice, slice]) -> Bins:
        """Bins (shuffle, walk, time) of a slice of the walks and of the steps."""
        shape = zip(self.index.shape, where[1:], strict=True)
        walks, steps = (np.arange(*part.indices(n)) for n, part in shape)
        kind = np.promote_types(np.int32, integers(len(self.moves) * self.size))
        bins = self.index[self.source(walks, steps)].astype(kind)
        first = self.size * np.arange(len(bins), dtype=kind)[:, None, None] + self.offset(walks)
        return np.add(bins, first.astype(kind, copy=False), out=bins, where=bins >= 0)

    def offset(self, walks: Bins) -> Any:
        """Offset of the bins of walks."""
        return 0

    def source(self, walks: Bins, steps: Bins) -> tuple[Bins, Bins]:
        """Walk and step whose places the given walks and steps receive, (shuffle, walk, time)."""
        raise NotImplementedError


class ShiftedBins(ShuffledBins):
    """Bins of walks rolled in time, every walk by its own number of steps."""

    def source(self, walks: Bins, steps: Bins) -> tuple[Bins, Bins]:
        """See :meth:`ShuffledBins.source`."""
        earlier = steps - self.moves[:, walks, None]  # negative steps count from the end
        if self.lengths is not None:  # steps after the end of a walk have no bin and stay there
            length = self.lengths[walks, None]
            earlier = np.where(steps < length, earlier % np.maximum(length, 1), steps)
        return walks[:, None], earlier


@dataclass(frozen=True)
class ExchangedBins(ShuffledBins):
    """Bins of walks that were exchanged.

    Walks of unequal length are laid end to end in the order of the moves, and every walk receives
    as many places as it has steps: each place is used once, as it was before the exchange.
    """

    slots: NDArray[np.intp] | None = None
    """Order in which walks of unequal length are laid end to end, grouped by map."""

    def source(self, walks: Bins, steps: Bins) -> tuple[Bins, Bins]:
        """See :meth:`ShuffledBins.source`."""
        if self.lengths is None or self.slots is None:
            return self.moves[:, walks, None], steps
        starts = np.empty(len(self.slots), np.intp)
        starts[self.slots] = np.cumsum(self.lengths[self.slots]) - self.lengths[self.slots]
        position = starts[walks, None] + steps
        shape = (len(self.moves), *position.shape)
        walk_of, step_of = np.empty(shape, np.intp), np.empty(shape, np.intp)
        for number, order in enumerate(self.moves[:, self.slots]):
            stops = np.cumsum(self.lengths[order])
            slot = np.minimum(np.searchsorted(stops, position, side="right"), len(order) - 1)
            walk_of[number] = order[slot]
            step_of[number] = position - (stops - self.lengths[order])[slot]
        # Steps after the end of a walk have no bin and stay there.
        ended = np.broadcast_to(steps >= self.lengths[walks, None], shape)
        return np.where(ended, walks[:, None], walk_of), np.where(ended, steps, step_of)


@dataclass(frozen=True)
class PairedBins(ExchangedBins):
    """Bins of walks that were exchanged, counted separately for every walk."""

    n_bins: int = 0
    """Number of bins of one walk; ``size`` is the number for all walks."""

    def offset(self, walks: Bins) -> Any:
        """See :meth:`ShuffledBins.offset`."""
        return self.n_bins * walks[:, None]


class CircularShifts:
    """Shifts of walks, each within its own length and at least some steps from both its ends.

    The distinct shifts of a single walk are drawn without replacement.

    Parameters
    ----------
    lengths
        Steps of every walk (walk,).
    n_steps
        Steps of the recording, including the NaN at the end of shorter walks.
    min_shift
        Minimum shift in steps, by default a tenth of each walk.
    hint
        Alternative way to proceed, for the error message.

    Raises
    ------
    ValueError
        The minimum is below 1, or leaves too few distinct shifts.
    """

    def __init__(
        self, lengths: NDArray[np.intp], n_steps: int, min_shift: int | None, hint: str = ""
    ) -> None:
        least = np.maximum(1, lengths // 10)
        if min_shift is not None:
            check_whole("min_shift", min_shift, 0)
            least[:] = min_shift
        least[lengths == 0] = 0
        self.lengths, self.n_steps, self.least = lengths, n_steps, least
        self._left: Bins | None = None
        self._refuse_few(hint)

    def _refuse_few(self, hint: str) -> None:
        walked = self.lengths > 0
        number = self._number()
        by_default = np.minimum(MIN_DISTINCT, self.lengths - 2 * np.maximum(1, self.lengths // 10))
        wrong = walked & ((self.least < 1) | (number < np.maximum(by_default, 1)))
        if not wrong.any() and self.distinct >= MIN_DISTINCT - 1:
            return
        walk = np.flatnonzero(wrong if wrong.any() else walked)[0]
        if (self.lengths != self.n_steps).any():
            hint = (
                f" for walk {walk}; load the walks as one with join=True, or leave the short ones "
                "out with recording.isel(walk=...)"
            )
        most = (self.lengths[walk] - MIN_DISTINCT + 1) // 2
        if most < 1:
            raise ValueError(
                f"walks must have at least {MIN_DISTINCT + 1} steps to be shifted in time, so that "
                f"{MIN_DISTINCT} shifts are possible, got {self.lengths[walk]}{hint}"
            )
        raise ValueError(
            f"min_shift must lie between 1 and {most} in a walk of {self.lengths[walk]} steps, so "
            f"that at least {MIN_DISTINCT} shifts are possible, got {self.least[walk]}{hint}"
        )

    def _number(self) -> NDArray[np.intp]:
        """Number of distinct shifts of every walk."""
        return np.where(self.lengths > 0, self.lengths - 2 * self.least + 1, 1)

    @property
    def equal(self) -> bool:
        """Whether all walks are as long as the recording."""
        return bool((self.lengths == self.n_steps).all())

    @property
    def distinct(self) -> float:
        """Number of distinct shuffles."""
        return float(np.exp(np.minimum(np.log(self._number().astype(float)).sum(), 700.0)))

    def draw(self, n: int, rng: np.random.Generator) -> Bins:
        """Random shifts (shuffle, walk); a single walk may have fewer than n left."""
        shape = (n, len(self.lengths))
        if np.count_nonzero(self.lengths) == 1:
            if self._left is None:
                low, number = self.least.max(), self._number().max()
                self._left = low + rng.permutation(number)
            chosen, self._left = self._left[:n], self._left[n:]
            return np.where(self.lengths > 0, chosen[:, None], 0)
        if self.equal:
            low = int(self.least[0])
            return rng.integers(low, self.n_steps - low + 1, shape)
        return rng.integers(self.least, self.lengths - self.least + 1, shape)

    def moved(self, index: Bins, moves: Bins, size: int) -> ShuffledBins:
        """Bins (shuffle, walk, time) of walks rolled by shifts (shuffle, walk)."""
        return ShiftedBins(index, moves, size, None if self.equal else self.lengths)


@dataclass(frozen=True)
class WalkExchange:
    """Exchanges of the walks of each map: every walk receives the places of a walk of its map."""

    lengths: NDArray[np.intp]
    """Steps of every walk."""
    n_steps: int
    """Steps of the recording, including the NaN at the end of shorter walks."""
    map_of_walk: NDArray[np.intp]
    """Number of the map of every walk."""

    @property
    def equal(self) -> bool:
        """Whether all walks are as long as the recording."""
        return bool((self.lengths == self.n_steps).all())

    @classmethod
    def of(
        cls, lengths: NDArray[np.intp], n_steps: int, map_of_walk: NDArray[np.intp]
    ) -> WalkExchange:
        """Exchanges of walks, if every map has enough of them.

        Raises
        ------
        ValueError
            A map has fewer than 4 walks.
        """
        walks = np.bincount(map_of_walk[lengths > 0])
        if walks.min() < LEAST_WALKS:
            raise ValueError(
                f"null='walks' needs at least {LEAST_WALKS} walks of every map, got "
                f"{walks.min()} of map {walks.argmin()}; record more walks, or pass null='circular'"
            )
        return cls(lengths, n_steps, map_of_walk)

    @property
    def distinct(self) -> float:
        """Number of distinct shuffles."""
        walks = np.bincount(self.map_of_walk[self.lengths > 0])
        return float(np.exp(np.minimum(gammaln(walks + 1.0).sum(), 700.0)))

    def draw(self, n: int, rng: np.random.Generator) -> Bins:
        """Random orders of the walks of each map (shuffle, walk)."""
        order = np.tile(np.arange(len(self.lengths)), (n, 1))
        for number in np.unique(self.map_of_walk):
            here = np.flatnonzero(self.map_of_walk == number)
            order[:, here] = rng.permuted(order[:, here], axis=1)
        return order

    def moved(self, index: Bins, moves: Bins, size: int) -> ShuffledBins:
        """Bins (shuffle, walk, time) of walks that receive the places of the walks ``moves``."""
        if self.equal:
            return ExchangedBins(index, moves, size)
        slots = np.argsort(self.map_of_walk, kind="stable")
        return ExchangedBins(index, moves, size, self.lengths, slots)

    @property
    def n_turns(self) -> int:
        """Number of turns until every walk has received the places of all walks of its map."""
        return int(np.bincount(self.map_of_walk).max())

    def paired(self, index: Bins, size: int) -> PairedBins:
        """Bins of all pairs of a walk and one whose places it receives, in turns (turn, walk)."""
        rank, walks = self._ranks()
        order = np.argsort(self.map_of_walk, kind="stable")
        first = np.cumsum(walks) - walks
        turned = (rank + np.arange(self.n_turns)[:, None]) % walks[self.map_of_walk]
        moves = order[first[self.map_of_walk] + turned]
        n_walks = len(self.lengths)
        return PairedBins(index, moves, n_walks * size, n_bins=size)

    def turns(self, moves: Bins) -> Bins:
        """Turn (shuffle, walk) in which every walk receives the places that a shuffle gives it."""
        rank, walks = self._ranks()
        return (rank[moves] - rank) % walks[self.map_of_walk]

    def _ranks(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rank of every walk within its map, and the number of walks of every map."""
        walks = np.bincount(self.map_of_walk)
        order = np.argsort(self.map_of_walk, kind="stable")
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(walks) - walks, walks)
        return rank, walks


def groups(n: int, values_each: int) -> Iterator[int]:
    """Sizes of the groups of shuffles that share one read of the activations."""
    size = int(np.clip(GROUP_VALUES // max(values_each, 1), 1, GROUP))
    yield from (min(size, n - start) for start in range(0, n, size))


def course_agreement(binned: BinnedRecording) -> float:
    """Chance-corrected probability that two walks of a map are in the same bin at the same step.

    It is Cohen's kappa of pairs of walks: 0 if the paths are independent, 1 if all walks of a map
    follow the same path in time, like the laps of an animal on a track.
    """
    steps = np.linspace(0, binned.index.shape[1] - 1, COURSE_STEPS).astype(int)
    bins = np.asarray(binned.index[:, np.unique(steps)]).astype(np.int64)
    maps = schema.map_of_walk(binned.recording)
    same = chance = pairs = 0.0
    for number in np.unique(maps):
        here = bins[maps == number]
        visited = here >= 0
        key = here + binned.size * np.arange(here.shape[1])
        together = np.unique(key[visited], return_counts=True)[1]
        present = visited.sum(axis=0)
        occupied = np.unique(here[visited], return_counts=True)[1]
        of_map = float((present * (present - 1.0)).sum())
        same += float((together * (together - 1.0)).sum())
        chance += of_map * float(((occupied / max(occupied.sum(), 1)) ** 2).sum())
        pairs += of_map
    return (same - chance) / (pairs - chance) if pairs > chance else 0.0


def correlation_times(binned: BinnedRecording) -> NDArray[np.intp]:
    """Steps after which the autocorrelation of every unit is below 1/e, shape (unit,).

    It is computed from up to 8 evenly spaced walks and at most their first 32,768 steps;
    deviations are from the mean over the chosen walks of each map. The value is 0 for a unit that
    does not vary, and the number of steps used if the autocorrelation never falls below 1/e.
    """
    values, lengths = activations(binned.recording), binned.lengths
    walks = np.flatnonzero(lengths > 0)
    walks = walks[np.unique(np.linspace(0, len(walks) - 1, MIN_WALKS).astype(int))]
    lengths = np.minimum(lengths, CORRELATED_STEPS)
    longest, n_units = int(lengths[walks].max()), values.shape[2]
    maps = schema.map_of_walk(binned.recording)[walks]
    n_fft = 2 * next_fast_len(longest, real=True)
    inside = np.arange(longest) < lengths[walks, None]
    pairs = np.maximum(lengths[walks, None] - np.arange(longest), 0).sum(axis=0)
    times = np.zeros(n_units, np.intp)
    for start in range(0, n_units, UNITS_AT_ONCE):
        part = slice(start, start + UNITS_AT_ONCE)
        sample = np.stack([np.asarray(values[w, :longest, part], float) for w in walks])
        known = inside[..., None] & np.isfinite(sample)
        size = np.abs(sample).max(axis=(0, 1), initial=0.0, where=known)
        for number in np.unique(maps):
            here = maps == number
            sample[here] -= np.mean(sample[here], axis=(0, 1), where=known[here])
        sample = np.where(known, sample, 0.0)
        spectrum = rfft(sample, n_fft, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
        # The inverse transform of a real spectrum is a cosine transform.
        covariance = dct(power, 1, axis=0)[:longest] / (n_fft * np.maximum(pairs, 1)[:, None])
        varies = covariance[0] > NO_VARIANCE * size**2
        below = covariance < covariance[0] / np.e
        first = np.where(below.any(axis=0), below.argmax(axis=0), longest)
        times[part] = np.where(varies, first, 0)
    return times


def refuse_hidden(sums: NDArray[np.float64]) -> None:
    """Refuse non-finite values that have no place in the data but receive one in a shuffle.

    Raises
    ------
    ValueError
        A sum (bin, unit) is not finite.
    """
    units = np.flatnonzero(~np.isfinite(sums).all(axis=0))
    if units.size:
        raise ValueError(
            "activation must be finite at every step of a walk for shuffles of its places, also "
            f"where the place is NaN: {units.size} units are not (first: number {units[0]}). Walks "
            "may end in NaN but must not have NaN between other values: load the recording with "
            "join=True, which leaves out the time between epochs, or drop these steps"
        )
