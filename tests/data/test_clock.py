"""Clocks: the seconds a sample represents, where a gap begins, whose sample a time is, speed."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placeformer.data.clock import Clock, check_times, gap_of, inside, speed, warn_of_units

TENTHS = np.arange(100) / 10 + 5.0

intervals = st.lists(st.sampled_from([0.02, 0.033, 0.1, 0.7, 3.0]), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(intervals, st.sampled_from([0.1, 0.8, np.inf]), st.floats(0, 1), st.floats(0, 1))
def test_time_is_shared_out_without_overlap(steps, max_gap, low, high):
    times = np.cumsum([1.0, *steps])
    clock = Clock.of(times, max_gap)
    joined = np.diff(times) <= max_gap
    np.testing.assert_allclose(clock.after[:-1][joined], (np.diff(times) / 2)[joined])
    np.testing.assert_allclose(clock.before[1:][joined], clock.after[:-1][joined])
    assert np.all(clock.dwell > 0)
    starts, stops = times - clock.before, times + clock.after
    assert np.all(stops[:-1] <= starts[1:] + 1e-9) or max_gap < np.median(steps)
    if max_gap == np.inf and low != high:  # of an epoch within the tracking: its length
        start, stop = np.sort(times[0] + (times[-1] - times[0]) * np.array([low, high]))
        part = clock.between(start, stop)
        if len(part.times) and part.times[0] > times[0] and part.times[-1] < times[-1]:
            assert part.dwell.sum() == pytest.approx(stop - start)
            assert np.all(part.dwell > 0)


@settings(max_examples=200, deadline=None)
@given(intervals, st.sampled_from([0.1, 0.8, np.inf]), st.integers(0, 2**31))
def test_a_time_is_the_nearest_samples_or_in_a_gap(steps, max_gap, seed):
    times = np.cumsum([1.0, *steps])
    clock = Clock.of(times, max_gap)
    asked = np.random.default_rng(seed).uniform(times[0], times[-1], 50)
    distance = np.abs(asked[:, None] - times)
    for time, got, away in zip(asked, clock.number(asked), distance, strict=True):
        k = np.argmin(away)
        side = clock.before[k] if time < times[k] else clock.after[k]
        assert got == k if away[k] <= side * (1 - 1e-9) else got in (k, k + 1, -1)
        if got < 0:
            gap = np.searchsorted(times, time)
            assert times[gap] - times[gap - 1] > max_gap


def test_samples_of_a_regular_clock_stand_for_one_interval():
    np.testing.assert_allclose(Clock.of(TENTHS, 0.5).dwell, 0.1)
    lost = np.concatenate([TENTHS[:30], TENTHS[60:]])
    np.testing.assert_allclose(Clock.of(lost, 0.5).dwell, 0.1)
    near = Clock.of(lost, 0.5)
    assert near.number(np.array([7.94, 7.96, 9.0, 10.94, 10.96])).tolist() == [29, -1, -1, -1, 30]


def test_dropped_frames_are_shared_by_their_neighbours():
    dropped = np.delete(TENTHS, [10, 11])
    dwell = Clock.of(dropped, 0.5).dwell
    np.testing.assert_allclose(dwell[[8, 9, 10, 11]], [0.1, 0.2, 0.2, 0.1])
    assert dwell.sum() == pytest.approx(10)


def test_a_lone_sample_stands_for_the_median_interval():
    times = np.concatenate([TENTHS, [20.0], TENTHS + 20])
    assert Clock.of(times, 0.5).dwell[100] == pytest.approx(0.1)


def test_stretches_of_tracking_do_not_share_time():
    part = np.repeat([0, 1], 50)
    clock = Clock.of(np.concatenate([TENTHS[:50], TENTHS[50:] + 0.2]), 0.5, part)
    np.testing.assert_allclose(clock.dwell, 0.1)
    assert clock.number(np.array([9.98, 10.02])).tolist() == [49, -1]  # one interval beyond the end


def test_an_epoch_within_the_tracking_is_as_long_as_it_is():
    clock = Clock.of(TENTHS, 0.5)
    on_samples = clock.between(6.0, 7.0)
    assert len(on_samples.times) == 11
    assert on_samples.dwell.sum() == pytest.approx(1.0)
    between = clock.between(6.07, 7.02)
    assert between.dwell.sum() == pytest.approx(0.95)
    assert between.number(np.array([6.07, 7.02])).tolist() == [0, 9]
    np.testing.assert_allclose(clock.between(0, 30).dwell, 0.1)


@pytest.mark.parametrize(
    ("times", "want"),
    [(np.arange(90) / 30, 0.25), (TENTHS, 0.5), (np.delete(TENTHS, range(10, 40, 3)), 0.5)],
)
def test_the_default_gap(times, want):
    assert gap_of(times, None, "position") == pytest.approx(want)


def test_gaps_out_of_range_are_refused():
    assert gap_of(TENTHS, 0.1, "position") == 0.1
    with pytest.raises(ValueError, match=r"max_gap must be at least the median.* 0.1 s, got 0.05"):
        gap_of(TENTHS, 0.05, "position")
    with pytest.raises(ValueError, match="position must have at least two samples, got 1"):
        gap_of(TENTHS[:1], None, "position")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            [0.0, 2, 1],
            r"must ascend and not be NaN, got 2 s and then 1 s \(samples 1 and 2\); sort",
        ),
        ([1.0, np.nan], "got 1 s and then nan s"),
        ([np.nan, 1.0], "not be NaN, got nan s"),
        ([5156.8123, 5156.8123, 5157], "got 5156.8123 s and then 5156.8123 .*drop one sample"),
        (
            (1.7e9 + np.arange(300) / 30).astype(np.float32),
            r"299 of 300 times equal the one before.*float32 \(with a resolution of 1.3e\+02 s",
        ),
    ],
)
def test_times_that_do_not_ascend_are_refused(times, message):
    with pytest.raises(ValueError, match=message):
        check_times(np.array(times), "position")


def test_times_in_other_units_are_warned_of():
    with pytest.warns(UserWarning, match=r"times are taken as seconds.* 100 s apart .* 2.75 h;"):
        warn_of_units(1000 * TENTHS, None, "times")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_units(TENTHS, None, "times")
        warn_of_units(1000 * TENTHS, 500.0, "times")  # whoever sets max_gap knows its units


def test_ends_of_an_epoch_are_included():
    assert inside(TENTHS, 5.0, 5.5) == slice(0, 6)


@settings(max_examples=100, deadline=None)
@given(intervals, st.floats(-40, 40), st.floats(-40, 40))
def test_speed_of_a_straight_run_is_its_speed(steps, vx, vy):
    times = np.cumsum([1e9, *steps])
    got = speed(times, [vx * (times - 1e9), 3 + vy * (times - 1e9)], np.inf, 0.5)
    np.testing.assert_allclose(got, np.hypot(vx, vy), atol=1e-4)


def test_speed_is_the_velocity_under_a_triangle():
    times = np.arange(4000) / 1000
    x = np.where(times < 2, 0.0, (times - 2) * 10)  # rest, then 10 a second
    got = speed(times, [x], 0.25, 0.5)
    at = np.array([1.7, 1.8, 1.9, 2.0, 2.1, 2.2, 2.3])
    u = np.clip((at - 2) / 0.25, -1, 1)
    want = 10 * np.where(u < 0, (1 + u) ** 2 / 2, 1 - (1 - u) ** 2 / 2)
    np.testing.assert_allclose(got[np.round(at * 1000).astype(int)], want, atol=0.02)


def test_speed_does_not_look_across_a_gap_or_at_lost_samples():
    times = np.concatenate([TENTHS, TENTHS + 20])
    x = np.concatenate([TENTHS, TENTHS + 500])
    x[50] = np.nan
    got = speed(times, [x], 0.5, 0.5)
    assert np.isnan(got[50])
    np.testing.assert_allclose(np.delete(got, 50), 1)
    assert np.isnan(speed(TENTHS[:1], [TENTHS[:1]], 0.5, 0.5)).all()


def test_a_jump_is_no_speed():
    times = np.arange(200) / 10
    position = np.tile(np.arange(50.0), 4)  # an animal that is put back to the start
    np.testing.assert_allclose(speed(times, [position], np.inf), 10)
    glitch = np.arange(200.0)
    glitch[150] = 0  # a tracker that takes something else for the animal
    got = speed(times, [glitch], np.inf)
    np.testing.assert_allclose(np.delete(got, 150), 10)
    assert np.isnan(got[150])
    rng = np.random.default_rng(0)
    runs = np.tile([0.0] * 20 + [30, 90] + [100] * 20 + [70, 10], 10) + rng.normal(0, 0.3, 440)
    for rate, each in ((1, 1), (30, 30)):  # runs of one move, also where positions are held
        got = speed(np.arange(440 * each) / rate, [np.repeat(runs, each)], np.inf)
        assert got[21 * each :: 44 * each].min() > 20
    restless = np.tile([3.0, 4.0], 100)  # all moves are of half the range or more
    assert np.isfinite(speed(times, [restless], np.inf)).all()
