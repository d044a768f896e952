"""Sessions: which sample a spike counts at, what a gap does, how epochs make walks."""

import numpy as np
import pytest

from placeformer.data.schema import check_recording, read_provenance
from placeformer.data.sessions import Track, inside, nearest, of_samples, of_spikes, sample_rate
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.shuffle_test import shuffle_test

TIMES = np.arange(100) / 10 + 5.0
TRACK = Track(TIMES, {"x": np.arange(100.0) % 7, "y": np.arange(100.0) % 5})
WHOLE = [5, 15]


def test_spikes_count_at_the_nearest_sample_as_a_rate():
    got = of_spikes([np.array([5.0, 5.04, 5.06, 7.0])], TRACK, WHOLE, step="test")
    check_recording(got, need=("x", "y"))
    want = np.zeros(100)
    want[[0, 1, 20]] = [20, 10, 10]
    np.testing.assert_allclose(got.activation[0, :, 0], want)
    assert got.activation.units == "Hz"
    assert got.attrs["sample_rate"] == pytest.approx(10)
    np.testing.assert_allclose(got.timestamp[0], TIMES)
    np.testing.assert_allclose(got.time, TIMES - 5)
    assert read_provenance(got)["steps"] == [{"step": "test", "epochs": 1, "join": False}]


@pytest.mark.parametrize("n", [0, 1, 40])
def test_mean_rate_is_spikes_over_time(n):
    train = np.sort(np.random.default_rng(n).uniform(4, 16, n))
    kept = np.sum((train >= 5) & (train <= 15))
    got = of_spikes([train], TRACK, WHOLE, step="test")
    assert float(got.activation.sum()) / 10 == pytest.approx(kept)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_nearest_is_nearest(n):
    rng = np.random.default_rng(n)
    times, targets = rng.integers(0, 40, 60) / 2, np.unique(rng.integers(0, 20, n) * 1.0)
    got = nearest(times, targets, 1.5)
    for time, index in zip(times, got, strict=True):
        distance = np.abs(targets - time)
        if index < 0:
            assert not np.any(distance <= 1.5)
        else:
            assert distance[index] == distance.min() <= 1.5


def test_spikes_in_a_gap_of_the_tracking_are_left_out():
    gap = (TIMES < 8) | (TIMES > 10)
    track = Track(TIMES[gap], {"x": TRACK.axes["x"][gap]})
    got = of_spikes([np.array([7.85, 8.5, 9.0, 10.06])], track, WHOLE, step="test")
    assert float(got.activation.sum()) == pytest.approx(20)
    assert got.sizes["time"] == gap.sum()


def test_a_spike_counts_within_its_own_epoch():
    epochs = [[5, 6.04], [6.06, 8]]
    got = of_spikes([np.array([6.04, 6.05])], TRACK, epochs, step="test")
    assert got.sizes["walk"] == 2
    assert float(got.activation[0, 10, 0]) == pytest.approx(10)
    assert float(got.activation.sum()) == pytest.approx(10)


def test_shorter_walks_end_in_nan_which_maps_leave_out():
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(5, 15, 300)) for _ in range(3)]
    epochs = [[5, 7], [8, 12.5], [14, 14.3]]
    padded = of_spikes(trains, TRACK, epochs, step="test")
    joined = of_spikes(trains, TRACK, epochs, step="test", join=True)
    lengths = np.isfinite(padded.timestamp).sum("time").values
    assert lengths.tolist() == [21, 46, 4]
    assert joined.sizes["time"] == 71
    for name in ("activation", "x"):
        assert np.isnan(padded[name].values[0, 21:]).all()
    a, b = rate_maps(padded), rate_maps(joined)
    np.testing.assert_allclose(a.rate, b.rate, rtol=1e-6)
    np.testing.assert_allclose(spatial_information(a), spatial_information(b), rtol=1e-6)
    assert shuffle_test(joined, n_shuffles=5).sizes["unit"] == 3
    with pytest.raises(ValueError, match="finite at every step of a walk"):
        shuffle_test(padded, n_shuffles=5)


def test_samples_keep_their_times_and_take_the_nearest_position():
    times = np.arange(30) / 4 + 4.9
    values = np.random.default_rng(0).standard_normal((30, 2))
    got = of_samples(values, times, TRACK, [4, 20], step="test", units="dF/F")
    assert got.attrs["sample_rate"] == pytest.approx(4)
    np.testing.assert_allclose(got.activation[0], values)
    want = TRACK.axes["x"][[np.argmin(np.abs(TIMES - t)) for t in times]]
    np.testing.assert_array_equal(got.x[0], want)
    late = of_samples(values, times + 9, TRACK, [4, 30], step="test")
    np.testing.assert_array_equal(np.isnan(late.x[0]), times + 9 > TIMES[-1] + 0.1)


def test_ends_of_an_epoch_are_included():
    assert inside(TIMES, 5.0, 5.5) == slice(0, 6)
    assert sample_rate(np.array([0, 1, 2, 10.0, 11, 12]), np.array([[0, 12]]), "data") == 1


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        ([7, 6], "epochs must be rows of start and stop in seconds, start before stop, got"),
        ([[1, 2, 3]], "epochs must be rows of start and stop"),
        ([100, 200], r"position must have two samples in an epoch.* got 5 to 14.9 s"),
    ],
)
def test_epochs_that_do_not_fit_are_refused(epochs, message):
    with pytest.raises(ValueError, match=message):
        of_spikes([], TRACK, epochs, step="test")


def test_times_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match="times of position must ascend.* got 2 s and then 1 s"):
        Track(np.array([0.0, 2, 1]), {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="times of data must ascend.* got 1 s and then nan s"):
        of_samples(np.zeros((2, 1)), np.array([1, np.nan]), TRACK, WHOLE, step="test")


def test_samples_that_are_not_finite_are_refused():
    values = np.zeros((100, 2))
    values[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 values of 1 units are NaN"):
        of_samples(values, TIMES, TRACK, [[5, 7], [8, 9]], step="test")
