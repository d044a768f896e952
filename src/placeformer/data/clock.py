"""Sampling times of a session, and the seconds that every sample represents.

Times are seconds in ascending order. A sample represents the time from halfway to the sample before
it to halfway to the sample after it. Where the neighbour on one side is further away than
``max_gap``, or is missing, the sample represents as much time on that side as on its other side, so
that every sample of a regular clock represents one interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placeformer._options import check_number
from placeformer._warnings import warn

Floats = NDArray[np.floating[Any]]

GAP_INTERVALS = 5
GAP_SECONDS = 0.25
"""By default, a gap is longer than this many median intervals and than this many seconds."""

SPEED_WINDOW = 0.5
"""Width in seconds of the triangle that smooths the velocity."""

MOST_TWICE = 0.05
"""Fraction of times that equal the one before, above which times must have been rounded."""

SLOWEST = 5.0
"""Interval in seconds above which the times of a position are likely in other units."""

FAST = 0.99
"""Quantile of the speeds of a moving animal that is taken as its running speed."""

CONTINUOUS = 0.1
"""Largest fraction of its range that a continuous position covers between two samples of a run."""

ROUNDING = 1e-6
"""Relative rounding error that differences of times may have."""


@dataclass(frozen=True)
class Clock:
    """Samples, the seconds that they represent on either side, and how far they reach."""

    times: Floats
    before: Floats
    after: Floats
    reach_before: Floats
    """Largest distance at which an earlier time is assigned to this sample; infinite where the
    sample before it takes over."""
    reach_after: Floats

    @classmethod
    def of(
        cls, times: Floats, max_gap: float, part: NDArray[np.integer[Any]] | None = None
    ) -> Clock:
        """Clock of ascending times.

        Parameters
        ----------
        times
            Seconds, shape (sample,).
        max_gap
            Largest distance between two samples that divide the time between them.
        part
            Number of the stretch of tracking that every sample belongs to; the time between two
            stretches is not divided. By default there is one stretch.
        """
        steps = np.diff(times)
        whole = np.ones(len(steps), bool) if part is None else np.diff(part) == 0
        joined = whole & (steps <= max_gap)
        alone = np.median(steps) / 2 if len(steps) else np.nan
        half = np.where(joined, steps / 2, np.nan)
        before, after = np.concatenate([[np.nan], half]), np.concatenate([half, [np.nan]])
        own = np.isnan(before), np.isnan(after)
        before, after = (
            np.where(np.isnan(side), np.where(np.isnan(other), alone, other), side)
            for side, other in ((before, after), (after, before))
        )
        # The end of the tracking is not a gap: pynapple counts all spikes of its time support;
        # here those within one interval of the last sample count.
        gap = whole & ~joined
        beyond = (np.where(np.concatenate(edge), 1, 2) for edge in (([False], gap), (gap, [False])))
        reach = (
            np.where(end, side * factor, np.inf)
            for end, side, factor in zip(own, (before, after), beyond, strict=True)
        )
        return cls(times, before, after, *reach)

    @property
    def dwell(self) -> Floats:
        """Seconds that every sample represents."""
        return self.before + self.after

    def between(self, start: float, stop: float) -> Clock:
        """Samples from start to stop, both included.

        Where the tracking continues beyond an end, the sample there represents only the time up to
        that end: the seconds of the samples of an epoch without gaps add up to its length.
        """
        where = inside(self.times, start, stop)
        part = Clock(*(a[where].copy() for a in vars(self).values()))
        if len(part.times):
            if np.isinf(part.reach_before[0]):
                part.before[0] = part.times[0] - start
            if np.isinf(part.reach_after[-1]):
                part.after[-1] = stop - part.times[-1]
        return part

    def number(self, times: Floats) -> NDArray[np.intp]:
        """Number of the sample nearest to every time, the later one in a tie; -1 in a gap."""
        if not len(self.times):
            return np.full(len(times), -1)
        after = np.searchsorted(self.times, times)
        left, right = (np.clip(after - back, 0, len(self.times) - 1) for back in (1, 0))
        nearest = np.where(self.times[right] - times <= times - self.times[left], right, left)
        away = times - self.times[nearest]
        reach = np.where(away < 0, self.reach_before[nearest], self.reach_after[nearest])
        return np.where(np.abs(away) <= reach * (1 + ROUNDING), nearest, -1)


def gap_of(times: Floats, max_gap: float | None, argument: str) -> float:
    """Largest interval between samples that is not a gap: `max_gap`, or the default.

    Raises
    ------
    ValueError
        Fewer than two samples, or a ``max_gap`` below their median interval.
    """
    if len(times) < 2:
        raise ValueError(f"{argument} must have at least two samples, got {len(times)}")
    interval = float(np.median(np.diff(times)))
    if max_gap is None:
        return max(GAP_INTERVALS * interval, GAP_SECONDS)
    check_number("max_gap", max_gap)
    if not max_gap >= interval * (1 - ROUNDING):
        raise ValueError(
            f"max_gap must be at least the median interval of {argument}, {interval:.6g} s, got "
            f"{max_gap!r}; pass None for the default, {GAP_INTERVALS} intervals and at least "
            f"{GAP_SECONDS} s"
        )
    return float(max_gap)


def warn_of_units(times: Floats, max_gap: float | None, argument: str) -> None:
    """Warn of times so far apart that they may be milliseconds, unless ``max_gap`` was chosen."""
    interval = float(np.median(np.diff(times)))
    if max_gap is None and interval > SLOWEST:
        warn(
            f"{argument} are taken as seconds, so the samples are {interval:.4g} s apart and last "
            f"{(times[-1] - times[0]) / 3600:.4g} h; divide milliseconds by 1e3 and nanoseconds by "
            "1e9, or pass max_gap if they are seconds",
        )


def inside(times: Floats, start: float, stop: float) -> slice:
    """Samples of ascending times from start to stop, both included."""
    return slice(int(np.searchsorted(times, start)), int(np.searchsorted(times, stop, "right")))


def check_times(times: Floats, argument: str) -> None:
    """Refuse times that are not finite, that descend or that occur twice."""
    steps = np.diff(times)
    if len(times) and not np.isfinite(times[0]):
        steps = np.concatenate([[np.nan], steps])
    faults = np.flatnonzero(~(steps > 0))
    if not faults.size:
        return
    at = int(faults[0])
    here, later = times[at], times[min(at + 1, len(times) - 1)]
    advice = (
        "sort the samples and drop those without a time; where the clock starts again, begin "
        "another walk"
    )
    twice = np.count_nonzero(steps == 0)
    if here == later:
        advice = f"{twice} times occur twice: drop one sample of each"
    if twice > max(1, MOST_TWICE * len(times)):
        advice = (
            f"{twice} of {len(times)} times equal the one before, so they were rounded, or stored "
            f"as float32 (with a resolution of {np.spacing(np.float32(abs(here))):.2g} s here); "
            "pass them as float64, or the rate of a regular clock"
        )
    raise ValueError(
        f"times of {argument} must ascend and not be NaN, got {here:.9g} s and then {later:.9g} s "
        f"(samples {at} and {at + 1}); {advice}"
    )


def speed(
    times: Floats, axes: list[Floats], max_gap: float, window: float = SPEED_WINDOW
) -> Floats:
    """Speed at every sample, in units of the axes per second; NaN where it is unknown."""
    return np.asarray(np.sqrt((velocity(times, axes, max_gap, window) ** 2).sum(axis=0)))


def velocity(
    times: Floats, axes: list[Floats], max_gap: float, window: float = SPEED_WINDOW
) -> Floats:
    """Velocity (axis, sample), in units of the axes per second; NaN where it is unknown.

    It is the difference between the mean positions over half a window after and before the sample,
    divided by the time between them: the velocity smoothed with a triangle as wide as the window.
    Between samples the position is taken to be linear; a window ends at a gap or at a jump.
    """
    known = np.isfinite(axes).all(axis=0)
    t = times[known] - (times[0] if len(times) else 0.0)
    out = np.full((len(axes), len(times)), np.nan)
    if len(t) < 2:
        return out
    broken = np.diff(t) > max_gap
    for axis in axes:
        broken |= _jumps(t, axis[known])
    breaks = np.flatnonzero(broken)
    first = t[np.concatenate([[0], breaks + 1])]
    last = t[np.concatenate([breaks, [len(t) - 1]])]
    piece = np.searchsorted(first, t, side="right") - 1
    start, stop = np.maximum(t - window / 2, first[piece]), np.minimum(t + window / 2, last[piece])
    apart = (stop - start) / 2
    for velocity_of_axis, axis in zip(out, axes, strict=True):
        x = axis[known] - axis[known][0]
        area = _Integral.of(t, x)
        here = area(np.arange(len(t)), t)
        earlier, later = here - area.at(start), area.at(stop) - here
        behind = np.divide(earlier, t - start, out=x.copy(), where=t > start)
        ahead = np.divide(later, stop - t, out=x.copy(), where=stop > t)
        velocity_of_axis[known] = np.divide(
            ahead - behind, apart, out=np.full(len(t), np.nan), where=apart > 0
        )
    return out


def _jumps(times: Floats, axis: Floats) -> NDArray[np.bool_]:
    """Whether a position moves by half its range between samples, five times faster than in runs.

    A position jumps where an animal in virtual reality is put back to the start, or where the
    tracker mistakes something else for the animal. Where samples are so far apart that a run may
    cover that distance between two of them, nothing is a jump.
    """
    intervals, steps, extent = np.diff(times), np.abs(np.diff(axis)), np.ptp(axis)
    far = steps > extent / 2
    speeds = (steps / intervals)[(steps > 0) & ~far]
    if not speeds.size:
        return np.zeros(len(steps), bool)
    running = np.quantile(speeds, FAST)
    return np.asarray(far & (running * intervals < CONTINUOUS * extent))


@dataclass(frozen=True)
class _Integral:
    """Integral over time of a position that is linear between its samples."""

    t: Floats
    x: Floats
    slope: Floats
    area: Floats

    @classmethod
    def of(cls, t: Floats, x: Floats) -> _Integral:
        steps = np.diff(t)
        slope = np.append(np.diff(x) / steps, 0.0)
        area = np.concatenate([[0.0], np.cumsum((x[:-1] + x[1:]) / 2 * steps)])
        return cls(t, x, slope, area)

    def at(self, times: Floats) -> Floats:
        """Integral up to any times between the first and the last sample."""
        return self(np.searchsorted(self.t, times, side="right") - 1, times)

    def __call__(self, k: NDArray[np.integer[Any]], times: Floats) -> Floats:
        u = times - self.t[k]
        return np.asarray(self.area[k] + self.x[k] * u + self.slope[k] * u**2 / 2)
