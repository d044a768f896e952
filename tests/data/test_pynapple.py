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


def tuning(data, epochs=None):
    curves = nap.compute_tuning_curves(data, POSITION, bins=[EDGES["x"], EDGES["y"]], epochs=epochs)
    return curves.transpose("unit", "y", "x").values


@pytest.mark.parametrize("epochs", [None, PARTS])
@pytest.mark.parametrize("join", [False, True])
def test_rate_maps_of_spikes_are_pynapples_tuning_curves(epochs, join):
    recording = from_pynapple(SPIKES, POSITION, epochs=epochs, join=join, position_units="cm")
    assert recording.sizes["walk"] == (3 if epochs is not None and not join else 1)
    maps = rate_maps(recording, bins=EDGES)
    np.testing.assert_allclose(maps.rate, tuning(SPIKES, epochs), rtol=1e-5)
    assert recording.attrs["sample_rate"] == pytest.approx(40)
    assert recording.unit_id.values.tolist() == [3, 7, 8]
    assert (recording.activation.units, recording.x.units) == ("Hz", "cm")


def test_rate_maps_of_signals_are_pynapples_tuning_curves():
    recording = from_pynapple(SIGNAL, POSITION, units="dF/F")
    maps = rate_maps(recording, bins=EDGES)
    np.testing.assert_allclose(maps.rate, tuning(SIGNAL), rtol=1e-6, atol=1e-9)
    assert recording.attrs["sample_rate"] == pytest.approx(15)
    assert maps.rate.units == "dF/F"


def test_bins_of_another_width_are_those_of_pynapple():
    recording = from_pynapple(SPIKES, POSITION.bin_average(0.5))
    counts = SPIKES.count(0.5, WHOLE)
    np.testing.assert_allclose(recording.timestamp[0], counts.t)
    np.testing.assert_allclose(recording.activation[0], counts.values / 0.5, rtol=1e-6)


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
            "must overlap in time, got data from 3 to 103, position from 503 to 602",
        ),
    ],
)
def test_what_does_not_fit_is_refused(data, position, options, error, message):
    with pytest.raises(error, match=message):
        from_pynapple(data, position, **options)
