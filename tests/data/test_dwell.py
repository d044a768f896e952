"""The seconds of samples: where they come from, and that every analysis weighs by them."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import poisson

import placeformer as pf
from placeformer.data.arrays import from_arrays
from placeformer.data.dwell import dwell_of, interval

RNG = np.random.default_rng(0)
N = 4000
TIMES = np.cumsum(RNG.choice([0.02, 0.05, 0.1], (2, N)), axis=1)
X = RNG.integers(0, 5, (2, N)).astype(float)
HZ = np.array([[1.0, 4, 9, 4, 1], [6, 5, 5, 5, 6]])


@pytest.fixture(scope="module")
def timed():
    """Counts of two Poisson units over irregular samples, as rates."""
    recording = from_arrays(np.zeros((2, N, 2)), {"x": X}, timestamps=TIMES, units="Hz")
    dwell = recording.dwell.values
    counts = RNG.poisson(HZ[:, X.astype(int)] * dwell).transpose(1, 2, 0)
    return recording.assign(activation=recording.activation.copy(data=counts / dwell[..., None]))


def test_seconds_of_steps_regular_and_irregular_recordings(timed):
    assert dwell_of(from_arrays(np.ones((1, 9, 1)), {"x": X[:1, :9]})) is None
    regular = from_arrays(np.ones((1, 9, 1)), {"x": X[:1, :9]}, sample_rate=20)
    assert dwell_of(regular) == pytest.approx(0.05)
    assert interval(regular) == pytest.approx(0.05)
    assert dwell_of(regular.drop_vars("dwell")) == pytest.approx(0.05)
    masked = timed.where(timed.x != 3)
    np.testing.assert_array_equal(dwell_of(masked), np.where(X == 3, 0, timed.dwell))
    with pytest.raises(ValueError, match="dwell must be finite seconds above 0"):
        dwell_of(timed.assign(dwell=timed.dwell * np.nan))


def test_maps_are_counts_over_seconds(timed):
    maps = pf.rate_maps(timed, by="x")
    seconds = np.bincount(X.ravel().astype(int), timed.dwell.values.ravel())
    counts = (timed.activation * timed.dwell).values.reshape(-1, 2)
    spikes = np.stack([counts[X.ravel() == k].sum(axis=0) for k in range(5)], axis=1)
    np.testing.assert_allclose(maps.occupancy, seconds)
    np.testing.assert_allclose(maps.rate, spikes / seconds)
    np.testing.assert_allclose(maps.rate, HZ, rtol=0.25)
    thin = pf.rate_maps(timed, by="x", min_occupancy=float(np.sort(seconds)[2]))
    assert np.isnan(thin.rate[0]).sum() == 2
    halves = pf.half_maps(timed, by="x")
    np.testing.assert_allclose(halves.occupancy.sum("half"), seconds)


def test_information_per_second_is_that_of_the_rates(timed):
    share = np.bincount(X.ravel().astype(int), timed.dwell.values.ravel())
    share = share / share.sum()
    maps = pf.rate_maps(timed, by="x")
    rate = maps.rate.values
    mean = rate @ share
    want = (share * rate * np.log2(rate / mean[:, None])).sum(axis=1)
    np.testing.assert_allclose(pf.spatial_information(maps, per="second"), want)


def test_dask_arrays_give_the_same(timed):
    lazy = timed.chunk({"walk": 1, "time": 700})
    for options in ({}, {"skipna": True}, {"smooth": 1}):
        maps = [pf.rate_maps(r, by="x", **options).drop_attrs() for r in (lazy, timed)]
        xr.testing.assert_allclose(*maps)
    options = {"by": "x", "n_shuffles": 5, "progress": False}
    tests = [pf.shuffle_test(r, **options).drop_attrs() for r in (lazy, timed)]
    xr.testing.assert_allclose(*tests)
    options = {"by": "x", "method": "poisson", "prior": "occupancy", "n_resamples": 2}
    decoded = [pf.decode_position(r, **options, progress=False).decoded for r in (lazy, timed)]
    xr.testing.assert_equal(*decoded)


def test_shifts_keep_the_spikes_and_their_seconds(timed):
    """A unit of one rate has that rate in every map of shifted places."""
    even = timed.assign(activation=xr.full_like(timed.activation, 7.0))
    spread = pf.shuffle_test(
        even,
        lambda maps: maps.rate.max("x") - maps.rate.min("x"),
        by="x",
        n_shuffles=5,
        keep_null=True,
        progress=False,
    )
    np.testing.assert_allclose(spread.null, 0, atol=1e-9)
    p = pf.shuffle_test(timed, by="x", n_shuffles=99, progress=False).p.values
    assert p[0] == pytest.approx(0.01)


@pytest.mark.parametrize("prior", ["uniform", "occupancy"])
def test_poisson_decoders_count_by_the_seconds_of_each_sample(timed, prior):
    got = pf.decode_position(
        timed, by="x", method="poisson", prior=prior, cv=2, n_resamples=2, progress=False
    )
    dwell = timed.dwell.values
    counts = np.round(timed.activation.values * dwell[..., None])
    for test, train in ((0, 1), (1, 0)):
        place = X[train].astype(int)
        seconds = np.bincount(place, dwell[train])
        rate = np.stack([np.bincount(place, counts[train, :, u]) for u in (0, 1)], 1)
        rate = rate / seconds[:, None]
        expected = rate[None] * dwell[test][:, None, None]
        log = poisson.logpmf(counts[test][:, None, :], expected).sum(axis=2)
        log += np.log(seconds) if prior == "occupancy" else 0
        np.testing.assert_array_equal(got.decoded.values[test].ravel(), log.argmax(axis=1))
