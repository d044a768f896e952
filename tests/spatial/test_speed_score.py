"""Speed score: identities, calibration, and speed cells among the cell types."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.ndimage import gaussian_filter1d

import placeformer as pf
from placeformer.data.dwell import sample_times
from placeformer.spatial.movement import running_speed

QUIET = {"progress": False}


def speeds(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.convolve(rng.exponential(size=n + 29), np.ones(30) / 30, "valid")


def made(values, speed, **options):
    position = {"x": np.cumsum(speed, axis=-1)}
    recording = pf.from_arrays(values, position, **options)
    return recording.assign_coords(speed=(("walk", "time"), np.atleast_2d(speed)))


@pytest.fixture(scope="module")
def cells():
    """Two units faster with speed, one slower, three that ignore it."""
    speed = speeds(4000)
    rng = np.random.default_rng(1)
    values = np.stack([speed, 2 * speed + 5, -speed, *np.zeros((3, 4000))], axis=-1)
    return made(values + 0.3 * rng.normal(size=values.shape), speed)


def test_the_score_is_the_correlation(cells):
    table = pf.speed_score(cells, n_shuffles=19, **QUIET)
    values, speed = cells.activation.values[0], cells.speed.values[0]
    want = [np.corrcoef(unit, speed)[0, 1] for unit in values.T]
    np.testing.assert_allclose(table.speed_score, want, rtol=1e-5)
    slope = [np.polyfit(speed, unit, 1)[0] for unit in values.T]
    np.testing.assert_allclose(table.slope, slope, rtol=1e-4)
    block = 400  # a tenth of the walk
    odd = np.arange(4000) // block % 2 == 0
    for half, at in enumerate((odd, ~odd)):
        want = [np.corrcoef(unit[at], speed[at])[0, 1] for unit in values.T]
        np.testing.assert_allclose(table.stability[half], want, rtol=1e-4)


def test_faster_and_slower_units_are_found(cells):
    table = pf.speed_score(cells, **QUIET)
    np.testing.assert_array_equal(table.q <= 0.05, [True] * 3 + [False] * 3)
    assert (table.speed_score[:2] > 0.3).all() and table.speed_score[2] < -0.3
    assert (table.null_mean < 0.2).all() and (table.z[:3] > 5).all()


def test_seconds_weigh(cells):
    """Samples that represent two seconds count as two samples."""
    values, speed = cells.activation.values[0], cells.speed.values[0]
    times = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04], 4000))
    timed = made(values, speed, timestamps=times)
    table = pf.speed_score(timed, n_shuffles=19, **QUIET)
    weight = timed.dwell.values[0]
    for unit, score in zip(values.T, table.speed_score.values, strict=True):
        c = np.cov(unit, speed, aweights=weight)
        assert score == pytest.approx(c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]), rel=1e-4)
    assert table.slope.attrs["units"] == "(1)/(1)"


def test_smoothing_is_in_time(cells):
    values, speed = cells.activation.values[0], cells.speed.values[0]
    timed = made(values, speed, sample_rate=50)
    table = pf.speed_score(timed, smooth=0.25, n_shuffles=19, **QUIET)
    blurred = gaussian_filter1d(values, 12.5, axis=0, mode="nearest")
    want = [np.corrcoef(unit, speed)[0, 1] for unit in blurred.T]
    np.testing.assert_allclose(table.speed_score, want, rtol=1e-4)
    assert table.speed_score[0] > pf.speed_score(timed, n_shuffles=19, **QUIET).speed_score[0]


@pytest.mark.parametrize("dtype", ["u1", "i8", "?"])
def test_smoothed_counts_are_no_integers(dtype):
    speed = speeds(500)
    counts = np.random.default_rng(0).poisson(0.3 * speed)[:, None].astype(dtype)
    got, want = (
        pf.speed_score(made(values, speed), smooth=3, n_shuffles=9, **QUIET)
        for values in (counts, counts.astype(float))
    )
    np.testing.assert_allclose(got.speed_score, want.speed_score, rtol=1e-5)
    np.testing.assert_allclose(got.slope, want.slope, rtol=1e-5)


def test_smoothing_ends_at_gaps():
    """Slow and fast bouts of one second: their activity stays twice their speed."""
    t = np.arange(0, 200, 0.02)
    bouts = t % 10 < 1
    speed = np.where((t // 10) % 2, 10.0, 1.0)[bouts]
    joined = made(2 * speed[:, None], speed, timestamps=t[bouts])
    for recording in (joined, joined.isel(time=np.arange(speed.size) % 10 < 5)):
        table = pf.speed_score(recording, smooth=0.25, n_shuffles=9, **QUIET)
        assert table.speed_score.item() == pytest.approx(1)
        assert table.slope.item() == pytest.approx(2)


def test_selections_and_means_keep_the_clock():
    """A sine of 11 s: every third sample has the same speed, slope, laps and directions."""
    t = np.arange(3000) / 30
    x, speed = 50 + 50 * np.sin(2 * np.pi * t / 20), 5 * np.pi * np.abs(np.cos(2 * np.pi * t / 20))
    whole = pf.from_arrays(2 * speed[:, None], {"x": x}, sample_rate=30)
    summed = whole.coarsen(time=3).mean().assign(dwell=whole.dwell.coarsen(time=3).sum())
    parts = [whole.isel(time=slice(1, None, 3)), summed, whole.isel(time=slice(30, 2000))]
    for part in parts:
        times, timed = sample_times(part)
        assert timed
        np.testing.assert_array_equal(times[0], part.time)
        np.testing.assert_allclose(running_speed(part)[0, 9:-9], abs_speed(part.time)[9:-9], atol=1)
        np.testing.assert_allclose(pf.laps(part).duration, 10, atol=0.2)
        for smooth in (None, 0.5):
            table = pf.speed_score(part, smooth=smooth, n_shuffles=9, **QUIET)
            same = pf.speed_score(whole, smooth=smooth, n_shuffles=9, **QUIET)
            assert table.slope.item() == pytest.approx(same.slope.item(), rel=0.01)
    cut = whole.isel(time=np.r_[0:100, 300:400])  # at the seam the position jumps
    assert running_speed(cut).max() <= running_speed(whole).max()


def abs_speed(t):
    return 5 * np.pi * np.abs(np.cos(2 * np.pi * t.values / 20))


def test_walks_on_clocks_of_their_own():
    """Walks at 20 and 40 Hz side by side: each has its own times."""

    def walk(rate):
        t = np.arange(0, 40, 1 / rate)
        x = {"x": 50 + 50 * np.sin(2 * np.pi * t / 20)}
        return pf.from_arrays(np.ones((t.size, 1)), x, sample_rate=rate)

    both = xr.concat([walk(20), walk(40)], "walk", join="outer")
    speed = running_speed(both)
    np.testing.assert_allclose(speed[0, ::2], running_speed(walk(20))[0], rtol=1e-9)
    np.testing.assert_allclose(speed[1], running_speed(walk(40))[0], rtol=1e-9)
    with pytest.raises(ValueError, match="where the clock starts again, begin another walk"):
        running_speed(xr.concat([walk(20), walk(20)], "time"))
    together = {"dim": "walk", "join": "override", "combine_attrs": "override"}
    with pytest.raises(ValueError, match="must have one sampling rate.* fill 0.5 to 1 of"):
        running_speed(xr.concat([walk(20), walk(40).isel(time=slice(800))], **together))
    running_speed(xr.concat([walk(20), walk(20)], **together).isel(time=slice(None, None, 2)))


def test_a_speed_is_that_of_the_loader_beside_gaps():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.02, 0.15], 400, p=[0.9, 0.1]))
    place = {"x": np.cumsum(rng.normal(size=400)), "y": np.cumsum(rng.normal(size=400))}
    for max_gap in (None, 0.1):
        recording = pf.from_arrays(
            np.ones((400, 1)), place, timestamps=times, max_gap=max_gap, min_speed=1e-9
        )
        assert recording.max_gap == (max_gap or 0.25)
        again = running_speed(recording, ["x", "y"])
        np.testing.assert_allclose(again, recording.speed, rtol=1e-9)
        thinned = running_speed(recording.isel(time=slice(None, None, 20)), ["x", "y"])
        assert np.isfinite(thinned).mean() > 0.9


def test_slow_units_that_ignore_the_speed_are_no_speed_cells():
    rng = np.random.default_rng(5)
    white = rng.normal(size=(8480, 200))
    kernel = np.exp(-np.arange(481) / 60)
    values = np.apply_along_axis(np.convolve, 0, white, kernel, "valid")
    table = pf.speed_score(made(values, speeds(8000)), n_shuffles=99, **QUIET)
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= (table.p.values <= 0.05).sum() <= high
    assert (table.q.values <= 0.05).sum() == 0


def test_speed_is_computed_from_the_position():
    angle = np.arange(2000) * 0.02
    place = {"x": 3 * np.cos(angle), "y": 3 * np.sin(angle)}
    circle = pf.from_arrays(np.ones((2000, 1)), place, sample_rate=50, position_units="cm")
    speed = running_speed(circle)
    np.testing.assert_allclose(speed[0, 20:-20], 3 * 0.02 * 50, rtol=0.01)
    assert speed.attrs["units"] == "cm/s"
    # on a ring the way over the seam is short
    ring = {"angle": np.mod(angle, 2 * np.pi)}
    turn = pf.from_arrays(np.ones((2000, 1)), ring, sample_rate=50, circular={"angle": 2 * np.pi})
    np.testing.assert_allclose(running_speed(turn, ["angle"])[0], 1.0)
    # steps of a walk without a clock
    steps = pf.from_arrays(np.ones((5, 1)), {"x": [0, 1, 1, 1, 3]})
    np.testing.assert_allclose(running_speed(steps)[0], [1, 0.5, 0, 1, 2])


def test_slow_samples_are_left_out(cells):
    least = float(cells.speed.median())
    table = pf.speed_score(cells, min_speed=least, n_shuffles=19, **QUIET)
    at = cells.speed.values[0] >= least
    values, speed = cells.activation.values[0][at], cells.speed.values[0][at]
    want = [np.corrcoef(unit, speed)[0, 1] for unit in values.T]
    np.testing.assert_allclose(table.speed_score, want, rtol=1e-4)


def test_constant_units_and_speeds(cells):
    values = np.zeros((4000, 2))
    values[:, 1] = cells.speed.values[0]
    table = pf.speed_score(made(values, cells.speed.values[0]), n_shuffles=19, **QUIET)
    assert np.isnan(table.speed_score[0]) and np.isnan(table.p[0]) and np.isnan(table.q[0])
    assert table.speed_score[1].item() == pytest.approx(1)
    with pytest.raises(ValueError, match="must vary for a speed score, got 2 throughout"):
        pf.speed_score(made(values, np.full(4000, 2.0)), **QUIET)
    steady = pf.from_arrays(values, {"x": np.arange(4000) / 30}, sample_rate=30)  # but for rounding
    with pytest.raises(ValueError, match="must vary for a speed score, got 1 throughout"):
        pf.speed_score(steady, **QUIET)
    with pytest.raises(ValueError, match="'speed' or a position x, y, z"):
        pf.speed_score(cells.drop_vars(["speed", "x"]), **QUIET)


def test_units_that_are_constant_are_no_tests(cells):
    values, speed = cells.activation.values[0], cells.speed.values[0]
    silent = np.concatenate([values, np.zeros((4000, 40))], axis=-1)
    a, b = (pf.speed_score(made(v, speed), **QUIET) for v in (values, silent))
    for name in ("p", "q", "z", "n_shuffles"):
        np.testing.assert_array_equal(a[name], b[name][:6])


def test_dask_gives_the_numbers_of_memory(cells):
    pytest.importorskip("dask")
    a, b = (pf.speed_score(r, n_shuffles=19, **QUIET) for r in (cells, cells.chunk(time=500)))
    xr.testing.assert_allclose(a, b)


def test_speed_cells_are_a_type_of_their_own():
    """Speed cells are found beside place cells; untuned units and place cells are none."""
    rng = np.random.default_rng(2)
    n = 12_000
    speed = speeds(n)
    angle = np.cumsum(rng.normal(0, 0.3, n))
    place = np.cumsum(0.04 * speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), 0)
    place = np.abs((place + 0.5) % 2 - 1)  # reflected at the walls
    centres = rng.uniform(0.2, 0.8, (4, 2))
    fields = np.exp(-((place[:, None] - centres) ** 2).sum(axis=-1) / 0.02)
    values = np.concatenate([fields, np.repeat(speed[:, None], 4, 1), np.zeros((n, 12))], axis=1)
    values = values + 0.2 * rng.normal(size=values.shape)
    recording = pf.from_arrays(values, place, behaviour={"speed": speed})
    table = pf.place_cells(recording, bins=15, smooth=1, **QUIET)
    for lost in (np.nan, 1.0):  # a speed that is not known or does not vary is left out
        without = recording.assign_coords(
            speed=recording.speed * 0 + lost, head_direction=recording.speed * np.nan
        )
        plain = pf.place_cells(without.isel(unit=slice(6)), bins=15, smooth=1, **QUIET)
        assert not {"speed_score", "head_direction"} & set(plain.data_vars)
    want = ["place cell"] * 4 + ["speed cell"] * 4 + ["other"] * 12
    np.testing.assert_array_equal(table.cell_type, want)
    assert (table.q_speed_score[4:8] <= 0.05).all() and (table.q_speed_score[8:] > 0.05).all()


def test_speed_is_compared_with_place_beyond_chance():
    """Slow spikes seem tuned to many bins of place; that is chance, and they are speed cells."""
    rng = np.random.default_rng(0)
    speed = np.abs(1 + 11 * gaussian_filter1d(rng.standard_normal(3000), 40))
    turn = np.cumsum(0.1 * rng.standard_normal(3000))
    path = np.cumsum(0.003 * speed * np.stack([np.cos(turn), np.sin(turn)]), axis=1)
    x, y = np.abs((path + 0.5) % 2 - 1)  # mirrored at the walls of a box
    spikes = rng.poisson(np.repeat(0.3 * speed[:, None], 8, axis=1)).astype(float)
    recording = pf.from_arrays(spikes, {"x": x, "y": y}, sample_rate=20)
    recording = recording.assign_coords(speed=(("walk", "time"), speed[None]))
    table = pf.place_cells(recording, bins=20, smooth=1.5, n_shuffles=199, **QUIET)
    by_speed = table.speed_score.values**2
    assert (table.eta2.values > by_speed).any() and (table.eta2_corrected.values < by_speed).all()
    others = np.isin(table.cell_type, ["border cell", "place cell", "grid cell"])
    assert (table.cell_type.values[~others] == "speed cell").all() and others.sum() <= 1
