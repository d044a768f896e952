"""Sessions: rates are counts over time, how epochs make walks, what speed and gaps leave out."""

from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from placeformer.data.schema import check_recording, read_provenance
from placeformer.data.sessions import Cut, Track, of_samples, of_spikes
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.rate_maps import rate_maps

TIMES = np.arange(100) / 10 + 5.0
AXES = {"x": np.arange(100.0) % 7, "y": np.arange(100.0) % 5}
TRACK = Track(TIMES, AXES)
WHOLE = Cut([5, 15])


def spikes(*trains, track=TRACK, cut=WHOLE):
    return of_spikes({k: np.asarray(t, float) for k, t in enumerate(trains)}, track, cut, step="t")


def counted(recording):
    """Spikes of every unit: rate times seconds, added up."""
    return (recording.activation * recording.dwell).sum(("walk", "time")).values


def test_times_of_a_position_in_milliseconds_are_warned_of():
    with pytest.warns(UserWarning, match="times of the position are taken as seconds"):
        Track(1000 * TIMES, AXES)


def test_spikes_count_at_the_nearest_sample_as_a_rate():
    got = spikes([5.0, 5.04, 5.06, 7.0])
    check_recording(got, need=("x", "y", "dwell"))
    want = np.zeros(100)
    want[[0, 1, 20]] = [20, 10, 10]
    np.testing.assert_allclose(got.activation[0, :, 0], want)
    np.testing.assert_allclose(got.dwell, 0.1)
    assert (got.activation.units, got.dwell.units) == ("Hz", "s")
    assert got.attrs["sample_rate"] == pytest.approx(10)
    assert got.attrs["max_gap"] == pytest.approx(0.5)
    np.testing.assert_allclose(got.timestamp[0], TIMES)
    np.testing.assert_allclose(got.time, TIMES - 5)
    (step,) = read_provenance(got)["steps"]
    assert step == {"step": "t", "epochs": 1, "join": False, "max_gap": pytest.approx(0.5)}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.02, 0.033, 0.048, 0.1, 0.9]), min_size=20, max_size=80),
    st.integers(0, 60),
    st.sampled_from([None, 0.25]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_rates_times_seconds_are_the_spikes(steps, n, bin_size, join, seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum([3.0, *steps])
    track = Track(times, {"x": rng.random(len(times))}, max_gap=1)
    train = np.sort(rng.uniform(times[0], times[-1], n + 1))
    cuts = np.sort(rng.uniform(times[0], times[-1], 2))
    epochs = [[times[0], cuts[0]], [cuts[1], times[-1]]]
    n_inside = [np.count_nonzero((times >= a) & (times <= b)) for a, b in epochs]
    assume(bin_size or max(n_inside) > 1)  # otherwise there is no sample rate, which is an error
    got = spikes(train, track=track, cut=Cut(epochs, join, bin_size))
    want = sum(
        np.sum((train >= a) & (train <= b)) * s
        for (a, b), s in zip(epochs, np.greater(n_inside, 0), strict=True)
    )
    np.testing.assert_allclose(counted(got), want, rtol=1e-6)


def test_seconds_of_epochs_are_their_length():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.03, 0.04, 0.09], 2000))
    start = np.sort(rng.choice(times[10:-200], 60, replace=False))
    epochs = np.stack([start, start + rng.uniform(0.1, 0.4, 60)], axis=1)
    got = spikes([times[0]], track=Track(times, {"x": times}), cut=Cut(epochs))
    np.testing.assert_allclose(got.dwell.sum("time"), np.diff(epochs)[:, 0])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4])
def test_dropped_frames_change_no_rate(share):
    rng = np.random.default_rng(1)
    times = np.arange(0, 600, 1 / 30)
    x = (times % 20 < 10).astype(float)
    kept = (rng.random(len(times)) > share) | (x == 0)  # dropped at place 1 alone
    train = np.arange(0.0125, 600, 0.05)
    cut = Cut([0, 600])
    got = spikes(train, track=Track(times[kept], {"x": x[kept]}), cut=cut)
    np.testing.assert_allclose(counted(got), 12000, rtol=0.02)
    seconds = [float(got.dwell.where(got.x == k).sum()) for k in (0, 1)]
    np.testing.assert_allclose(seconds, [300, 300], rtol=0.02)
    maps = rate_maps(got, by="x", bins={"x": [-0.5, 0.5, 1.5]})
    np.testing.assert_allclose(maps.rate[0], [20, 20], rtol=0.01)


def test_a_changed_frame_rate_changes_no_rate():
    times = np.concatenate([np.arange(0, 100, 1 / 30), np.arange(100, 200, 1 / 60)])
    track = Track(times, {"x": (times >= 100) * 1.0})
    got = spikes(np.arange(0.05, 200, 0.1), track=track, cut=Cut([0, 200]))
    maps = rate_maps(got, by="x")
    np.testing.assert_allclose(maps.rate[0], 10, rtol=2e-3)


def test_spikes_in_a_gap_of_the_tracking_are_left_out():
    seen = (TIMES < 8) | (TIMES > 10)
    track = Track(TIMES[seen], {"x": AXES["x"][seen]})
    got = spikes([7.93, 7.97, 8.5, 9.0, 10.06], track=track)
    assert counted(got) == pytest.approx(2)
    np.testing.assert_allclose(got.dwell, 0.1)
    wide = Track(TIMES[seen], {"x": AXES["x"][seen]}, max_gap=3)
    assert counted(spikes([7.93, 8.5, 9.0, 10.06], track=wide)) == pytest.approx(4)


def test_a_spike_counts_within_its_own_epoch():
    got = spikes([6.04, 6.05], cut=Cut([[5, 6.04], [6.06, 8]]))
    assert got.sizes["walk"] == 2
    np.testing.assert_allclose(got.dwell[0, 10], 0.09)
    assert float(got.activation[0, 10, 0]) == pytest.approx(1 / 0.09)
    assert counted(got) == pytest.approx(1)


def test_shorter_walks_end_in_nan_which_maps_leave_out():
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(5, 15, 300)) for _ in range(3)]
    epochs = [[5, 7], [8, 12.5], [14, 14.3]]
    padded = spikes(*trains, cut=Cut(epochs))
    joined = spikes(*trains, cut=Cut(epochs, join=True))
    lengths = np.isfinite(padded.timestamp).sum("time").values
    assert lengths.tolist() == [21, 46, 4]
    assert joined.sizes["time"] == 71
    for name in ("activation", "x", "dwell"):
        assert np.isnan(padded[name].values[0, 21:]).all()
    a, b = rate_maps(padded), rate_maps(joined)
    np.testing.assert_allclose(a.rate, b.rate, rtol=1e-6)
    np.testing.assert_allclose(spatial_information(a), spatial_information(b), rtol=1e-6)


def test_bins_of_time_count_spikes_and_average_the_position():
    rng = np.random.default_rng(2)
    train = np.sort(rng.uniform(5, 14.9, 400))
    got = spikes(train, cut=Cut([5, 14.9], bin_size=0.5))
    edges = np.append(5 + 0.5 * np.arange(20), 14.9)
    want = np.histogram(train, edges)[0]
    np.testing.assert_allclose((got.activation * got.dwell)[0, :, 0], want, rtol=1e-6)
    np.testing.assert_allclose(got.dwell[0], np.diff(edges))
    np.testing.assert_allclose(got.x[0, :19], AXES["x"][:95].reshape(19, 5).mean(axis=1))
    assert (got.attrs["sample_rate"], got.attrs["bin_size"]) == (2, 0.5)
    fine = spikes(train, cut=Cut([5, 14.9], bin_size=0.04))
    np.testing.assert_allclose(counted(fine), 400, rtol=1e-6)
    near = [np.argmin(np.abs(TIMES - t)) for t in fine.timestamp.values[0]]
    assert np.mean(fine.x[0] == AXES["x"][near]) > 0.99


def test_bins_in_a_gap_have_no_position():
    seen = (TIMES < 8) | (TIMES > 10)
    track = Track(TIMES[seen], {"x": AXES["x"][seen]})
    got = spikes([9.0], track=track, cut=Cut([5, 15], bin_size=0.5))
    assert np.flatnonzero(np.isnan(got.x[0])).tolist() == [6, 7, 8, 9]
    assert counted(got) == pytest.approx(1)


@pytest.mark.parametrize("bin_size", [None, 0.2])
def test_slow_samples_have_no_position(bin_size):
    times = np.arange(0, 40, 0.05)
    x = np.where(times < 20, times * 10, 200.0)
    got = spikes(
        times, track=Track(times, {"x": x}), cut=Cut([0, 40], bin_size=bin_size, min_speed=5)
    )
    moving = np.isfinite(got.x[0].values)
    assert moving.mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(moving, got.speed[0] >= 5)
    assert np.nanmax(got.timestamp.values[0][moving]) == pytest.approx(20, abs=0.15)
    assert got.speed.units == "1/s"
    assert got.attrs["min_speed"] == 5
    with pytest.raises(ValueError, match="min_speed must be None .* 'speed'"):
        spikes(times, track=Track(times, {"speed": x}), cut=Cut([0, 40], min_speed=5))


def test_samples_keep_their_times_and_take_the_nearest_position():
    times = np.arange(30) / 4 + 4.9
    values = np.random.default_rng(0).standard_normal((30, 2))
    got = of_samples(values, times, TRACK, Cut([4, 20]), step="test", units="dF/F")
    assert got.attrs["sample_rate"] == pytest.approx(4)
    np.testing.assert_allclose(got.activation[0], values)
    np.testing.assert_allclose(got.dwell, 0.25)
    want = AXES["x"][[np.argmin(np.abs(TIMES - t)) for t in times]]
    np.testing.assert_array_equal(got.x[0], want)
    late = of_samples(values, times + 9, TRACK, Cut([4, 30]), step="test")
    np.testing.assert_array_equal(np.isnan(late.x[0]), times + 9 > TIMES[-1] + 0.1)
    binned = of_samples(values, times, TRACK, Cut([5, 12], bin_size=0.5), step="test")
    np.testing.assert_allclose(binned.activation[0, 0], values[1:3].mean(axis=0))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"epochs": [7, 6]}, r"start before stop, got row 0: \[7.0, 6.0\]"),
        ({"epochs": [[1, 2, 3]]}, r"epochs must be rows of start and stop.* shape \(1, 3\)"),
        (
            {"epochs": [100, 200]},
            r"position must have two samples in an epoch.* got 5 to 14.9 s",
        ),
        ({"epochs": [100, 200], "bin_size": 1}, "epochs must hold samples.* from 5 to 14.9 s"),
        ({"epochs": [5, 9], "bin_size": 0}, "bin_size must be a positive number, got 0"),
        ({"epochs": [5, 9], "min_speed": -1}, "min_speed must be a positive number, got -1"),
    ],
)
def test_what_does_not_fit_is_refused(cut, message):
    with pytest.raises(ValueError, match=message):
        spikes([6.0], cut=Cut(**cut))


def test_epochs_that_end_before_they_start_are_left_out_by_name():
    with pytest.warns(
        UserWarning, match=r"2 of 4 epochs.*row 1: \[9.0, nan\], row 3: \[6.0, 6.0\]"
    ):
        got = spikes([6.0], cut=Cut([[5, 7], [9, np.nan], [8, 9], [6, 6]]))
    assert got.sizes["walk"] == 2


@pytest.mark.parametrize("bin_size", [None, 0.5])
@pytest.mark.parametrize(
    ("epochs", "united", "warns"),
    [
        ([[10, 14], [6, 8]], [[6, 8], [10, 14]], False),
        ([[6, 8], [8, 11], [11, 14]], [[6, 14]], False),
        ([[6, 9], [7, 8], [8, 14]], [[6, 14]], True),
    ],
)
def test_joined_epochs_are_in_order_and_hold_every_time_once(epochs, united, warns, bin_size):
    overlap = pytest.warns(UserWarning, match="2 of 3 epochs start before an earlier one ends")
    with overlap if warns else nullcontext():
        got = spikes([6.0, 8.0, 8.01, 11.0], cut=Cut(epochs, True, bin_size))
    want = spikes([6.0, 8.0, 8.01, 11.0], cut=Cut(united, True, bin_size))
    xr.testing.assert_identical(got, want)
    assert (np.diff(got.timestamp) > 0).all()
    assert got.dwell.sum().item() == pytest.approx(np.diff(united).sum())
    apart = spikes([6.0], cut=Cut(epochs, False, bin_size))
    assert apart.sizes["walk"] == len(epochs)


def test_epochs_outside_the_tracking_make_no_walk():
    with pytest.warns(UserWarning, match=r"1 of 3 epochs hold no sample .* \(\[20.0, 30.0\]\)"):
        got = spikes([6.0], cut=Cut([[5, 7], [20, 30], [8, 9]]))
    assert got.sizes["walk"] == 2


def test_spike_times_that_do_not_ascend_are_sorted_by_name():
    with pytest.warns(UserWarning, match=r"spike times of 1 units .* sorted \(units 1\)"):
        got = spikes([5.0, 6.0], [9.0, 7.0, 7.0, 20.0])
    np.testing.assert_allclose(counted(got), [2, 3])


def test_spike_times_that_are_not_finite_name_their_unit():
    with pytest.raises(ValueError, match="spike times of unit 1 must be finite, got 1 of 3"):
        spikes([5.0], [6.0, np.nan, 7.0])


@pytest.mark.parametrize("scale", [1e3, 3e4])
def test_two_clocks_are_noticed(scale):
    train = np.arange(0.05, 9, 0.01)
    with pytest.raises(ValueError, match=r"must overlap in time.* one clock"):
        spikes(train + 1.6e9)
    with pytest.warns(UserWarning, match="lie within the position's time"):
        spikes(np.concatenate([[6.0], train * scale + 5]))
    with pytest.warns(UserWarning, match="lie within the position's time"):
        times = (TIMES - 5) * scale
        track = Track(times, AXES, max_gap=scale)
        spikes(train, track=track, cut=Cut(times[[0, -1]]))
    silent = spikes([], [])
    np.testing.assert_array_equal(counted(silent), 0)


def test_samples_that_are_not_finite_are_refused():
    values = np.zeros((100, 2))
    values[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 values of 1 units are NaN"):
        of_samples(values, TIMES, TRACK, Cut([[5, 7], [8, 9]]), step="test")
