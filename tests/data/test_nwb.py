"""NWB: files written by pynwb in, rate maps out and read back by pynwb."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from placeformer.data.circular import circular_of
from placeformer.data.nwb import from_nwb, to_nwb
from placeformer.data.pynapple import from_pynapple
from placeformer.spatial.rate_maps import rate_maps

pynwb = pytest.importorskip("pynwb")
nap = pytest.importorskip("pynapple")
from hdmf.common import EnumData  # noqa: E402
from pynwb.behavior import CompassDirection, Position, SpatialSeries  # noqa: E402

RNG = np.random.default_rng(0)
PLACE = np.cumsum(RNG.normal(0, 4, (1200, 2)), axis=0) % 100
TRAINS = {5: np.sort(RNG.uniform(0, 60, 400)), 9: np.sort(RNG.uniform(10, 50, 90))}
EDGES = {"x": np.linspace(0, 1, 6), "y": np.linspace(0, 1, 5)}


def session(*, series=("tracker",), units=True, timestamps=None):
    """An NWBFile of 60 s with two units, positions in cm and trials."""
    file = pynwb.NWBFile("walk", "session-1", datetime(2026, 1, 1, tzinfo=UTC))
    if units:
        file.add_unit_column("quality", "of the sorting")
        for key, train in TRAINS.items():
            file.add_unit(spike_times=train, id=key, quality=f"q{key}")
    clock = {"rate": 20.0, "starting_time": 1.0} if timestamps is None else {}
    clock |= {} if timestamps is None else {"timestamps": timestamps}
    made = [
        SpatialSeries(
            name=name, data=PLACE, reference_frame="corner", unit="m", conversion=0.01, **clock
        )
        for name in series
    ]
    home = file.create_processing_module("behavior", "behaviour")
    if made:
        home.add(Position(spatial_series=made))
    heading = SpatialSeries(
        name="heading", data=PLACE[:, 0], reference_frame="north", unit="rad", **clock
    )
    home.add(CompassDirection(spatial_series=heading))
    file.add_trial(start_time=2.0, stop_time=12.0)
    file.add_trial(start_time=20.0, stop_time=24.0)
    return file


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "session.nwb"
    with pynwb.NWBHDF5IO(target, "w") as io:
        io.write(session())
    return target


def test_units_and_position_of_a_file(path):
    recording = from_nwb(path, layer="CA1", unit_columns=["quality"])
    assert dict(recording.sizes) == {"walk": 1, "time": 1200, "unit": 2}
    np.testing.assert_allclose(recording.x[0], PLACE[:, 0] / 100)
    np.testing.assert_allclose(recording.timestamp[0], 1 + np.arange(1200) / 20)
    assert (recording.activation.units, recording.x.units, recording.time.units) == ("Hz", "m", "s")
    assert recording.unit_id.values.tolist() == [5, 9]
    assert recording.unit.values.tolist() == ["5", "9"]
    assert recording.quality.values.tolist() == ["q5", "q9"]
    assert set(recording.layer.values) == {"CA1"}
    spikes = [np.sum((t >= 1) & (t <= 1 + 1199 / 20)) for t in TRAINS.values()]
    np.testing.assert_allclose(recording.activation.sum("time")[0] / 20, spikes, rtol=1e-5)
    path.unlink()  # nothing is read any more


def test_maps_of_a_file_are_those_of_a_histogram(path):
    recording = from_nwb(path)
    maps = rate_maps(recording, bins=EDGES)
    times = recording.timestamp.values[0]
    at = np.abs(TRAINS[9][:, None] - times).argmin(axis=1)
    edges = [EDGES["y"], EDGES["x"]]
    xy = PLACE[:, ::-1] / 100
    seconds = np.histogramdd(xy, bins=edges)[0] / 20
    want = np.histogramdd(xy[at], bins=edges)[0] / seconds
    np.testing.assert_allclose(maps.rate[1], want, rtol=1e-5)


def test_intervals_become_walks():
    by_name = from_nwb(session(), epochs="trials")
    assert np.isfinite(by_name.timestamp).sum("time").values.tolist() == [201, 81]
    np.testing.assert_allclose(by_name.dwell.sum("time"), [10, 4])
    by_rows = from_nwb(session(), epochs=[[2, 12], [20, 24]])
    np.testing.assert_array_equal(by_name.activation, by_rows.activation)
    some = from_nwb(session(), epochs=session().trials.to_dataframe().iloc[1:])
    np.testing.assert_array_equal(some.activation[0], by_name.activation[1, :81])
    assert from_nwb(session(), epochs="trials", join=True).sizes["time"] == 282


def test_a_position_among_several_is_named():
    file = session(series=("tracker", "camera"))
    with pytest.raises(
        ValueError,
        match=r"position must name one .* got None, which fits 2 of them; the file holds: "
        r"'behavior/Position/camera', 'behavior/Position/tracker'",
    ):
        from_nwb(file)
    with pytest.raises(
        ValueError, match=r"got 'nose', which fits 0 of them.*CompassDirection/heading'"
    ):
        from_nwb(file, position="nose")
    for name in ("camera", "behavior/Position/camera"):
        assert "y" in from_nwb(file, position=name).coords
    heading = from_nwb(file, position="heading")
    assert "y" not in heading.coords
    assert heading.x.units == "rad"
    assert circular_of(heading) == {"x": pytest.approx(2 * np.pi)}


def test_a_compass_direction_beside_the_position_is_a_circular_axis():
    got = from_nwb(session(), position=["tracker", "heading"], bin_size=0.5, min_speed=0.01)
    assert [got[name].units for name in ("x", "y", "heading")] == ["m", "m", "rad"]
    assert circular_of(got) == {"heading": pytest.approx(2 * np.pi)}
    alone = from_nwb(session(), position="tracker", bin_size=0.5, min_speed=0.01)
    np.testing.assert_array_equal(got.speed, alone.speed)  # the heading is no part of it
    np.testing.assert_array_equal(got.y, alone.y)
    named = from_nwb(session(), position=["heading", "tracker"], columns={"hd": 0, "x": 1, "y": 2})
    assert circular_of(named) == {"hd": pytest.approx(2 * np.pi)}
    assert named.x.units == "m"
    with pytest.raises(ValueError, match=r"in one unit of measure, got \['m', 'rad'\].*circular"):
        from_nwb(session(), position=["tracker", "heading"], columns={"x": [0, 2], "y": 1})


def test_a_direction_named_as_an_axis_replaces_none():
    file = session()
    compass = file.processing["behavior"]["CompassDirection"]
    compass.create_spatial_series(
        "x", PLACE[:, 0], reference_frame="north", unit="rad", rate=20.0, starting_time=1.0
    )
    with pytest.raises(ValueError, match=r"axes of different names, got \['x', 'y', 'x'\]"):
        from_nwb(file, position=["tracker", "x"])


def of_series(*series):
    """An NWBFile of one unit and series of the position, each (name, values, times)."""
    file = pynwb.NWBFile("walk", "session-2", datetime(2026, 1, 1, tzinfo=UTC))
    file.add_unit(spike_times=np.arange(0.05, 9, 0.5))
    made = [
        SpatialSeries(name=name, data=values, timestamps=times, reference_frame="corner", unit="m")
        for name, values, times in series
    ]
    home = file.create_processing_module("behavior", "behaviour")
    home.add(Position(name="tracking", spatial_series=made))
    return file


CLOCK = np.arange(100) / 10


@pytest.mark.parametrize("position", [["y", "x"], "tracking", "behavior/tracking"])
def test_axes_in_series_of_their_own_are_put_side_by_side(position):
    file = of_series(("x", PLACE[:100, 0], CLOCK), ("y", PLACE[:100, 1], CLOCK))
    got = from_nwb(file, position=position)
    np.testing.assert_array_equal(np.stack([got.x[0], got.y[0]], axis=1), PLACE[:100])
    other = of_series(("east", PLACE[:100, 0], CLOCK), ("north", PLACE[:100, 1], CLOCK))
    assert {"x", "y"} <= set(from_nwb(other, position=["east", "north"]).coords)


@pytest.mark.filterwarnings("ignore:SpatialSeries 'leds' has data shape")
@pytest.mark.parametrize("apart", [False, True])
def test_leds_are_named_by_their_columns(apart):
    leds = PLACE[:200].reshape(100, 4)
    series = [("leds", leds, CLOCK)]
    if apart:
        series = [("red", leds[:, :2], CLOCK), ("green", leds[:, 2:], CLOCK)]
    options = {"position": "tracking"} if apart else {}
    with pytest.raises(ValueError, match=r"1 to 3 columns.*columns=.* placeformer.from_arrays"):
        from_nwb(of_series(*series), **options)
    got = from_nwb(of_series(*series), columns={"x": [0, 2], "y": [1, 3]}, **options)
    np.testing.assert_allclose(got.x[0], leds[:, [0, 2]].mean(axis=1))
    np.testing.assert_allclose(got.y[0], leds[:, [1, 3]].mean(axis=1))
    with pytest.raises(ValueError, match="columns must name columns 0 to 3"):
        from_nwb(of_series(*series), columns={"x": 4}, **options)


def test_a_series_for_every_epoch_is_one_track():
    file = of_series(("b", PLACE[50:100], CLOCK[50:] + 1), ("a", PLACE[:50], CLOCK[:50]))
    got = from_nwb(file, position=["b", "a"])
    assert dict(got.sizes) == {"walk": 2, "time": 50, "unit": 1}
    np.testing.assert_array_equal(got.x, PLACE[:100, 0].reshape(2, 50))
    np.testing.assert_allclose(got.dwell, 0.1)
    overlap = of_series(("a", PLACE[:50], CLOCK[:50]), ("b", PLACE[:50], CLOCK[:50] + 2.05))
    with pytest.raises(ValueError, match="same times in all of them .*placeformer.from_arrays"):
        from_nwb(overlap, position="tracking")


def test_units_are_chosen():
    def ids(where):
        return from_nwb(session(), where=where).unit_id.values.tolist()

    assert ids("quality == 'q9'") == ids("id > 5") == ids([False, True]) == ids([9]) == [9]
    assert ids("quality in ['q5', 'q9'] and quality != 'q7'") == [5, 9]
    for where, message in (
        ("depth > 3", r"query on the columns \['id', 'quality'\], got 'depth > 3'"),
        ("quality == 'mua'", "where must leave at least one of 2 units, got \"quality == 'mua'\""),
        ([7], r"ids of units, got \[7\]; the file holds \[5, 9\]"),
        ([True], r"booleans, or ids of units, got \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            from_nwb(session(), where=where)


@pytest.mark.filterwarnings("ignore:EnumData is experimental")
def test_columns_of_units_are_one_value_a_unit_or_refused(tmp_path):
    file = session(units=False)
    device = file.create_device("probe")
    group = file.create_electrode_group("shank", "of the probe", "CA1", device)
    file.add_unit_column("amplitudes", "of every spike", index=True)
    file.add_unit_column("label", "curated", col_cls=EnumData, enum=True)
    for k, label in enumerate(["noise", "good"]):
        file.add_unit(
            spike_times=[2.0], electrode_group=group, amplitudes=[1.0] * (k + 1), label=label
        )
    got = from_nwb(file, unit_columns=["label", "electrode_group"], where="label == 'good'")
    assert got.label.values.tolist() == ["good"]
    assert got.electrode_group.values.tolist() == ["shank"]
    got.to_netcdf(tmp_path / "r.nc")
    with pytest.raises(
        ValueError, match="one value for every unit, but 'amplitudes' holds several"
    ):
        from_nwb(file, unit_columns=["amplitudes"])


def observed(*intervals):
    """An NWBFile of 60 s whose units fire at 10 Hz while they are observed."""
    file = session(units=False)
    for key, rows in enumerate(intervals):
        spikes = np.arange(1.03, 61, 0.1)
        spikes = spikes[
            np.any([(spikes >= a) & (spikes <= b) for a, b in rows or [(0, 99)]], axis=0)
        ]
        file.add_unit(spike_times=spikes, obs_intervals=np.reshape(rows, (-1, 2)), id=key)
    return file


def test_time_in_which_no_unit_was_observed_is_left_out():
    file = observed([(11, 21), (31, 61)], [(30.99, 61), (10.99, 16), (15, 21)], [])
    with pytest.warns(UserWarning, match=r"were observed \(obs_intervals\) during 40.* s of 60 s"):
        got = from_nwb(file)
    seconds = got.dwell.sum().item()
    assert seconds == pytest.approx(40, abs=0.1)
    np.testing.assert_allclose(
        (got.activation * got.dwell).sum(("walk", "time")) / seconds, 10, 0.01
    )
    trials = from_nwb(file, epochs=[[12, 20], [32, 35]])  # observed throughout: no warning
    np.testing.assert_allclose(trials.dwell.sum("time"), [8, 3])
    with (
        pytest.warns(UserWarning, match="epochs hold no sample"),
        pytest.warns(UserWarning, match="during"),
    ):
        assert from_nwb(file, epochs=[[12, 20], [22, 30]]).sizes["walk"] == 1
    silent = from_nwb(file, obs_intervals=False)
    assert float((silent.activation[..., 0] * silent.dwell).sum()) / 60 == pytest.approx(
        6.6, abs=0.1
    )


def test_units_observed_at_different_times_are_refused():
    file = observed([(0, 61)], [(0, 20)], [(0, 61)])
    message = r"obs_intervals have 19.* s in common .*60 s: 0, 2; 19.* s: 1\). .*where=.*=False"
    with pytest.raises(ValueError, match=message):
        from_nwb(file)
    assert from_nwb(file, where=[0, 2]).sizes["time"] == 1200
    np.testing.assert_allclose(from_nwb(file, epochs=[[2, 18]]).activation.mean("time"), 10, 0.01)
    with pytest.raises(ValueError, match="have 0 s in common"):
        from_nwb(observed([(0, 20)], [(30, 50)]))


def test_a_bad_trial_is_left_out_by_name():
    file = session()
    file.add_trial(start_time=30.0, stop_time=np.nan)
    with pytest.warns(UserWarning, match=r"1 of 3 epochs .*row 2: \[30.0, nan\]"):
        assert from_nwb(file, epochs="trials").sizes["walk"] == 2


@pytest.mark.parametrize("options", [{}, {"bin_size": 0.3}, {"min_speed": 0.5}])
@pytest.mark.parametrize("epochs", [None, [[2, 12.03], [20, 24]]])
def test_pynapple_gives_the_same_recording(options, epochs):
    nap = pytest.importorskip("pynapple")
    times = 1 + np.arange(1200) / 20
    group = nap.TsGroup({key: nap.Ts(train) for key, train in TRAINS.items()})
    place = nap.TsdFrame(t=times, d=PLACE / 100, columns=["x", "y"])
    rows = None if epochs is None else nap.IntervalSet(*np.transpose(epochs))
    got = from_pynapple(group, place, epochs=rows, position_units="m", **options)
    want = from_nwb(session(), epochs=epochs, **options)
    xr.testing.assert_allclose(got.drop_attrs(), want.drop_attrs())


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"units": False}, {}, "'session-1' holds no units with spike times"),
        ({"series": ()}, {}, "position must name one SpatialSeries.* holds: .*heading"),
        ({}, {"epochs": "laps"}, "got 'laps'; the file holds: trials"),
        (
            {},
            {"unit_columns": ["depth"]},
            r"unit_columns must be columns of the units, .*got 'depth'",
        ),
        ({}, {"epochs": [90, 99]}, "two samples in an epoch.* got 1 to 60.95 s"),
        ({"timestamps": np.zeros(1200)}, {}, "times of position must ascend"),
    ],
)
def test_what_does_not_fit_is_refused(source, options, message):
    with pytest.raises(ValueError, match=message):
        from_nwb(session(**source), **options)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is nothing at .*none.nwb"):
        from_nwb(tmp_path / "none.nwb")
    with pytest.raises(TypeError, match=r"path or a pynwb.NWBFile, got dict"):
        from_nwb({})


def test_rate_maps_go_into_the_file_and_come_back(path):
    ndx = pytest.importorskip("ndx_rate_maps")
    maps = rate_maps(from_nwb(path), bins=EDGES)
    with pynwb.NWBHDF5IO(path, "a") as io:
        file = io.read()
        to_nwb(maps.isel(unit=[1, 0]), file)
        io.write(file)
    with pynwb.NWBHDF5IO(path, "r") as io:
        table = io.read().processing["ecephys"]["rate_maps"]
        assert isinstance(table, ndx.RateMapTable)
        assert (table.dim0_label, table.dim1_label, table.dim0_unit) == ("y", "x", "m")
        np.testing.assert_array_equal(table["rate_map"][:], maps.rate[[1, 0]])
        np.testing.assert_allclose(table["occupancy_map"][0], maps.occupancy)
        assert float(maps.occupancy.sum()) == pytest.approx(60)
        np.testing.assert_array_equal(table.bin_edges_dim1[:], EDGES["x"])
        assert table["units"].data[:].tolist() == [1, 0]
        assert table["units"].table.id[:].tolist() == [5, 9]
    assert pynwb.validate(path=path) == []


def test_maps_that_the_table_cannot_hold_are_refused():
    pytest.importorskip("ndx_rate_maps")
    file = session()
    maps = rate_maps(from_nwb(file), bins=EDGES)
    signed = maps.assign(rate=maps.rate.assign_attrs(units="1"))
    signed.occupancy.attrs["units"] = "1"
    with pytest.raises(ValueError, match="in Hz, got '1'; occupancy must be in s, .* '1'"):
        to_nwb(signed, file)
    with pytest.raises(ValueError, match=r"ids of the file's units.*got None; .*\[5, 9\] \(2\)"):
        to_nwb(maps.drop_vars("unit_id"), file)
    with pytest.raises(ValueError, match=r"got \[5, 9\]; the file holds \[\] \(0\)"):
        to_nwb(maps, session(units=False))
    other = pynwb.NWBFile("walk", "session-1", datetime(2026, 1, 2, tzinfo=UTC))
    for key in TRAINS:
        other.add_unit(spike_times=[1.0], id=key)
    with pytest.raises(
        ValueError, match="units of this file, 'session-1, 2026-01-02.*got those of"
    ):
        to_nwb(maps, other)
    to_nwb(maps.assign(rate=maps.rate.assign_attrs(units="spikes/s")), file)  # Hz as well
    with pytest.raises(ValueError, match="name must be new in module 'ecephys'"):
        to_nwb(maps, file)


def test_tables_of_epochs_are_taken_by_their_columns():
    want = from_nwb(session(), epochs=[[2, 12], [20, 24]])
    rows = {"start": [2.0, 20.0], "end": [12.0, 24.0]}
    tables = (nap.IntervalSet(**rows), pd.DataFrame(rows))
    for epochs in tables:
        xr.testing.assert_identical(from_nwb(session(), epochs=epochs), want)
    with pytest.raises(ValueError, match=r"columns 'start_time' and 'stop_time' .* got \['from'"):
        from_nwb(session(), epochs=pd.DataFrame({"from": [2.0], "to": [12.0]}))
    for wrong in ([["a", "b"]], {"start_time": [2], "stop_time": [12]}):
        with pytest.raises(ValueError, match="epochs must be rows of start and stop in seconds"):
            from_nwb(session(), epochs=wrong)


def test_units_of_one_id_are_all_read():
    file = session(units=False)
    for number, unit_id in enumerate([4, 7, 4], start=1):
        file.add_unit(spike_times=np.linspace(1, 5, 10 * number), id=unit_id)
    recording = from_nwb(file)
    assert recording.unit.values.tolist() == ["4", "7", "4#2"]
    assert recording.unit_id.values.tolist() == [4, 7, 4]
    counts = (recording.activation * recording.dwell).sum(("walk", "time"))
    np.testing.assert_allclose(counts, [10, 20, 30], rtol=1e-6)
    pytest.importorskip("ndx_rate_maps")
    maps = rate_maps(recording, bins=4)
    with pytest.raises(ValueError, match=r"one unit of every id of maps, but \[4, 4\] occur"):
        to_nwb(maps, file)


@pytest.mark.parametrize("name", ["x", "activation", "time", "map", "speed"])
def test_columns_of_units_with_the_name_of_another_variable_are_refused(name):
    file = session(units=False)
    file.add_unit_column(name, "a column")
    file.add_unit(spike_times=[1.0, 2.0], **{name: 3.0})
    with pytest.raises(ValueError, match=rf"unit_columns must not name \['{name}'\]"):
        from_nwb(file, unit_columns=[name])


def test_a_path_may_start_at_the_home_folder(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.setenv("USERPROFILE", str(path.parent))
    assert from_nwb(f"~/{path.name}", position="tracker").sizes["unit"] == 2
    with pytest.raises(FileNotFoundError, match=r"there is a folder at .*hdmf_zarr\.NWBZarrIO"):
        from_nwb("~")


def test_times_that_the_file_states_as_invalid_are_warned_of():
    file = session(series=["tracker"])
    file.add_invalid_time_interval(start_time=10.0, stop_time=15.0)
    with pytest.warns(UserWarning, match=r"states 2\.0\d* s of the epochs as invalid"):
        from_nwb(file, position="tracker", epochs=[[2, 12]])
    assert from_nwb(file, position="tracker", epochs=[[2, 9], [20, 30]]).sizes["walk"] == 2
