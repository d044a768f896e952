"""pynapple: its own tuning curves as the oracle, and the way back."""

import numpy as np
import pytest
import xarray as xr

from placeformer.data.arrays import from_arrays
from placeformer.data.pynapple import from_pynapple, to_pynapple
from placeformer.spatial.rate_maps import rate_maps

nap = pytest.importorskip("pynapple")

RNG = np.random.default_rng(0)
TIMES = 3 + np.arange(4000) / 40
WHOLE = nap.IntervalSet(3, 103)
PARTS = nap.IntervalSet([5, 30, 60.2], [20, 58, 61])
PLACE = np.cumsum(RNG.normal(0, 3, (4000, 2)), axis=0) % 100
POSITION = nap.TsdFrame(t=TIMES, d=PLACE, columns=["x", "y"], time_support=WHOLE)
SPIKES = nap.TsGroup(
    {key: nap.Ts(np.sort(RNG.uniform(0, 110, 900))) for key in (3, 7, 8)}, time_support=WHOLE
)
SIGNAL = nap.TsdFrame(t=3 + np.arange(1500) / 15, d=RNG.standard_normal((1500, 4)))
EDGES = {"x": np.linspace(0, 100, 9), "y": np.linspace(0, 100, 6)}


def tuning(data, epochs=None, position=POSITION, **options):
    bins = [EDGES["x"], EDGES["y"]]
    curves = nap.compute_tuning_curves(data, position, bins=bins, epochs=epochs, **options)
    return curves.transpose("unit", "y", "x")


@pytest.mark.parametrize("support", [WHOLE, PARTS])
@pytest.mark.parametrize("join", [False, True])
def test_rate_maps_of_spikes_are_pynapples_tuning_curves(support, join):
    position = POSITION.restrict(support)
    recording = from_pynapple(SPIKES, position, join=join, position_units="cm")
    assert recording.sizes["walk"] == (1 if join else len(support))
    maps, curves = rate_maps(recording, bins=EDGES), tuning(SPIKES, position=position)
    np.testing.assert_allclose(maps.rate, curves, rtol=1e-5)
    np.testing.assert_allclose(maps.occupancy, curves.attrs["occupancy"].T / curves.attrs["fs"])
    assert recording.attrs["sample_rate"] == pytest.approx(40)
    assert recording.unit_id.values.tolist() == [3, 7, 8]
    assert (recording.activation.units, recording.x.units) == ("Hz", "cm")


@pytest.mark.parametrize("join", [False, True])
def test_spikes_of_epochs_are_those_of_pynapple_and_the_seconds_are_the_epochs(join):
    recording = from_pynapple(SPIKES, POSITION, epochs=PARTS, join=join)
    maps = rate_maps(recording, bins=EDGES)
    counts = tuning(SPIKES, PARTS, return_counts=True)
    np.testing.assert_allclose((maps.rate * maps.occupancy).fillna(0), counts, rtol=1e-5)
    assert float(maps.occupancy.sum()) == pytest.approx(PARTS.tot_length())
    # pynapple takes a whole interval of the samples at the ends of epochs, here it is a part of it
    samples = tuning(SPIKES, PARTS).attrs["occupancy"].T / 40
    np.testing.assert_allclose(maps.occupancy, samples, atol=2 / 40)


def clocks():
    """Position samples at irregular times: dropped frames, jitter, two frame rates."""
    rng = np.random.default_rng(3)
    frames = np.arange(18000) / 30
    yield "dropped", frames[rng.random(18000) > 0.1]
    yield "jitter", np.floor(frames / 0.0156) * 0.0156
    yield "two rates", np.concatenate([frames[:9000], np.arange(300, 600, 1 / 60)])


@pytest.mark.parametrize(("name", "times"), list(clocks()))
def test_irregular_positions_give_the_rates_of_a_regular_one(name, times):
    """Counts are pynapple's; seconds are those of the clock, which pynapple takes for regular."""
    rng = np.random.default_rng(4)
    path = 50 + 45 * np.sin(np.stack([np.arange(18000) / 30, np.arange(18000) / 19], axis=1))
    at = np.clip(np.round(times * 30).astype(int), 0, 17999)
    spikes = nap.TsGroup({k: nap.Ts(np.sort(rng.uniform(0, 600, 3000))) for k in range(3)})
    regular = nap.TsdFrame(t=np.arange(18000) / 30, d=path, columns=["x", "y"])
    position = nap.TsdFrame(t=times, d=path[at], columns=["x", "y"])
    maps = rate_maps(from_pynapple(spikes, position), bins=EDGES)
    counts = tuning(spikes, position=position, return_counts=True)
    np.testing.assert_allclose((maps.rate * maps.occupancy).fillna(0), counts, rtol=1e-5)
    true = tuning(spikes, position=regular)
    seconds = true.attrs["occupancy"].T / 30
    often = seconds > 5
    np.testing.assert_allclose(maps.occupancy.values[often], seconds[often], rtol=0.05)
    np.testing.assert_allclose(maps.rate.values[:, often], true.values[:, often], rtol=0.1)
    mean = (maps.rate * maps.occupancy).sum(("y", "x")) / maps.occupancy.sum()
    np.testing.assert_allclose(mean, 5, rtol=1e-3)


def test_silence_is_data():
    times = np.arange(0, 1000, 0.1)
    x = (times % 20) / 20
    position = nap.Tsd(t=times, d=x)
    late = nap.TsGroup({0: nap.Ts(times[(times >= 900) & (x >= 0.4) & (x < 0.5)])})
    curve = nap.compute_tuning_curves(late, position, bins=10)
    for epochs in (None, position.time_support):
        maps = rate_maps(from_pynapple(late, position, epochs=epochs), by="x", bins=10)
        np.testing.assert_allclose(maps.rate, curve.values, rtol=1e-5)
    assert float(maps.rate[0, 4]) == pytest.approx(1)


def test_spikes_of_a_part_of_the_position_are_noticed():
    part = nap.IntervalSet(3, 50)
    with pytest.warns(UserWarning, match=r"covers 47 s of 100 s .* epochs=data.time_support"):
        from_pynapple(SPIKES.restrict(part), POSITION)
    assert from_pynapple(SPIKES.restrict(part), POSITION, epochs=part).sizes["walk"] == 1


def test_axes_of_their_own_make_a_position():
    axes = {name: POSITION[name] for name in ("x", "y")}
    xr.testing.assert_identical(from_pynapple(SPIKES, axes), from_pynapple(SPIKES, POSITION))
    with pytest.raises(ValueError, match=r"same times, got {'x': 4000, 'y': 3999} samples"):
        from_pynapple(SPIKES, {**axes, "y": axes["y"][:-1]})


def test_rate_maps_of_signals_are_pynapples_tuning_curves():
    recording = from_pynapple(SIGNAL, POSITION, units="dF/F")
    maps = rate_maps(recording, bins=EDGES)
    np.testing.assert_allclose(maps.rate, tuning(SIGNAL), rtol=1e-6, atol=1e-9)
    assert recording.attrs["sample_rate"] == pytest.approx(15)
    assert maps.rate.units == "dF/F"


def test_bins_of_another_width_are_those_of_pynapple():
    counts = SPIKES.count(0.5, WHOLE)
    for recording in (
        from_pynapple(SPIKES, POSITION.bin_average(0.5)),
        from_pynapple(SPIKES, POSITION, bin_size=0.5),
    ):
        np.testing.assert_allclose(recording.timestamp[0], counts.t)
        np.testing.assert_allclose(recording.activation[0], counts.values / 0.5, rtol=1e-6)
        np.testing.assert_allclose(recording.x[0], POSITION.bin_average(0.5).values[:, 0])


def test_single_units_and_single_axes():
    track = nap.Tsd(t=TIMES, d=PLACE[:, 0])
    one = from_pynapple(SPIKES[7], track)
    assert (one.sizes["unit"], "y" in one.coords) == (1, False)
    np.testing.assert_array_equal(one.x[0], PLACE[:, 0])
    signal = from_pynapple(SIGNAL[:, 0], nap.TsdFrame(t=TIMES, d=PLACE), layer="ca1")
    assert {"x", "y"} <= set(signal.coords)
    assert signal.layer.values.tolist() == ["ca1"]
    named = from_pynapple(SPIKES, POSITION, names=["angle", "speed"])
    assert {"angle", "speed"} <= set(named.coords)


@pytest.mark.parametrize("epochs", [None, PARTS])
def test_there_and_back(epochs):
    recording = from_pynapple(SIGNAL, POSITION, epochs=epochs)
    activation, position = to_pynapple(recording)
    kept = SIGNAL if epochs is None else SIGNAL.restrict(epochs)
    np.testing.assert_array_equal(activation.t, kept.t)
    np.testing.assert_array_equal(activation.values, kept.values)
    assert list(position.columns) == ["x", "y"]
    again = from_pynapple(activation, position)
    xr.testing.assert_allclose(again.drop_attrs(), recording.drop_attrs())


def test_steps_after_the_end_of_a_walk_are_no_samples():
    walks = [np.ones((n, 2)) for n in (40, 30)]
    recording = from_arrays(walks, {"x": [np.arange(len(w)) for w in walks]}, sample_rate=10)
    activation, position = to_pynapple(recording, by=["x"])
    assert len(activation) == len(position) == 70
    assert np.isfinite(activation.values).all()
    assert activation.time_support.tot_length() == pytest.approx(3.9 + 2.9)


def test_a_networks_walks_become_epochs():
    values = RNG.standard_normal((3, 20, 4)).astype(np.float32)
    place = {"x": RNG.random((3, 20)), "y": RNG.random((3, 20))}
    recording = from_arrays(values, place, layer=["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="sample_rate must be a positive number of Hz, got None"):
        to_pynapple(recording)
    activation, position = to_pynapple(recording, sample_rate=10)
    assert len(activation.time_support) == 3
    assert activation["layer"].tolist() == ["a", "a", "b", "b"]
    np.testing.assert_array_equal(activation.values, values.reshape(60, 4))
    edges = {"x": np.linspace(0, 1, 4), "y": np.linspace(0, 1, 4)}
    curves = nap.compute_tuning_curves(activation, position, bins=list(edges.values()))
    want = curves.transpose("unit", "y", "x").values
    np.testing.assert_allclose(rate_maps(recording, bins=edges).rate, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("data", "position", "options", "error", "message"),
    [
        (PLACE, POSITION, {}, TypeError, "data must be pynapple's TsGroup or .* got ndarray"),
        (SPIKES, PLACE, {}, TypeError, "position must be pynapple's TsdFrame or Tsd"),
        (SPIKES, POSITION, {"epochs": [1, 2]}, TypeError, "epochs must be .* got list"),
        (SPIKES, POSITION, {"units": "mV"}, ValueError, "units must be None for spikes"),
        (SPIKES, POSITION, {"names": ["x"]}, ValueError, "names must name each of the 2 axes"),
        (
            SPIKES,
            nap.Tsd(t=TIMES + 500, d=TIMES),
            {},
            ValueError,
            "must overlap in time, but the spikes are .*, the position from 503 to 602",
        ),
    ],
)
def test_what_does_not_fit_is_refused(data, position, options, error, message):
    with pytest.raises(error, match=message):
        from_pynapple(data, position, **options)


def test_angles_go_the_short_way_round():
    """Means of a heading in time bins do not cross the circle, and it is no part of the speed."""
    t = np.arange(2000) / 50
    heading = np.degrees(1.5 * t) % 360
    x, y = np.cos(1.5 * t), np.sin(1.5 * t)
    columns = ["x", "y", "heading"]
    position = nap.TsdFrame(t=t, d=np.stack([x, y, heading], axis=1), columns=columns)
    spikes = nap.TsGroup({0: nap.Ts(t[::10])})
    options = {"circular": {"heading": 360}, "position_units": "m"}
    recording = from_pynapple(spikes, position, bin_size=0.1, min_speed=0.5, **options)
    middle = np.degrees(1.5 * (recording.timestamp.values[0] - 0.01))
    apart = (recording.heading.values[0] - middle + 180) % 360 - 180
    assert np.nanmax(np.abs(apart)) < 2
    assert recording.attrs["circular"] == '{"heading": 360.0}'
    assert recording.heading.attrs["units"] == "deg" and recording.x.attrs["units"] == "m"
    np.testing.assert_allclose(recording.speed[0, 5:-5], 1.5, rtol=0.02)  # metres, not degrees
    with pytest.raises(ValueError, match=r"circular must name axes .* got \['head'\]"):
        from_pynapple(spikes, position, circular={"head": 360})


def test_walks_without_samples_are_no_epochs():
    walks = [np.ones((n, 2)) for n in (40, 30)]
    recording = from_arrays(walks, {"x": [np.arange(len(w)) for w in walks]}, sample_rate=10)
    activation, _ = to_pynapple(recording.isel(time=slice(35, None)), by=["x"])
    assert len(activation) == 5
    assert len(activation.time_support) == 1


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([[0.0, 1, 2], [1.5, 2.5, 3.5]], "must not overlap in time.* starts at 1.5 s.* ends at 2"),
        ([[0.0, 1, 2], [9.0, np.nan, np.nan]], "at least two samples .*, got one at 9 s"),
    ],
)
def test_walks_that_pynapple_would_drop_or_join_are_refused(times, message):
    times = np.array(times)
    values = np.where(np.isnan(times), np.nan, 1.0)
    recording = from_arrays(values[..., None], {"x": values})
    recording = recording.assign_coords(timestamp=(("walk", "time"), times))
    with pytest.raises(ValueError, match=message):
        to_pynapple(recording, by=["x"])


def test_two_axes_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"with different names, got \['x', 'x'\]"):
        from_pynapple(SPIKES, POSITION, names=["x", "x"])


def test_an_epoch_of_one_sample_of_a_signal_has_its_interval():
    epochs = nap.IntervalSet([10, 22.98], [15, 23.02])
    recording = from_pynapple(SIGNAL, POSITION, epochs=epochs)
    known = np.isfinite(recording.timestamp.values)
    assert known.sum(axis=1).tolist() == [76, 1]
    np.testing.assert_allclose(recording.dwell.values[known], 1 / 15, rtol=1e-6)


def test_walks_in_any_order_keep_their_samples():
    values, place = np.arange(6.0).reshape(2, 3, 1), np.arange(10.0, 16).reshape(2, 3)
    times = np.array([[5.0, 6, 7], [0, 1, 2]])
    recording = from_arrays(values, {"x": place}, timestamps=times)
    activation, position = to_pynapple(recording, by=["x"])
    assert activation.t.tolist() == [0, 1, 2, 5, 6, 7]
    assert activation.values[:, 0].tolist() == [3, 4, 5, 0, 1, 2]
    assert position.values[:, 0].tolist() == [13, 14, 15, 10, 11, 12]
    assert activation.time_support.values.tolist() == [[0, 2], [5, 7]]
