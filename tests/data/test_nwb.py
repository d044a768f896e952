"""NWB: files written by pynwb in, rate maps out and read back by pynwb."""

from datetime import UTC, datetime

import numpy as np
import pytest

from placeformer.data.nwb import from_nwb, to_nwb
from placeformer.spatial.rate_maps import rate_maps

pynwb = pytest.importorskip("pynwb")
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
    by_rows = from_nwb(session(), epochs=[[2, 12], [20, 24]])
    np.testing.assert_array_equal(by_name.activation, by_rows.activation)
    assert from_nwb(session(), epochs="trials", join=True).sizes["time"] == 282


def test_a_position_among_several_is_named():
    file = session(series=("tracker", "camera"))
    with pytest.raises(
        ValueError,
        match=r"position must name one .* got None for 2 of them; the file holds: "
        r"'behavior/Position/camera', 'behavior/Position/tracker'",
    ):
        from_nwb(file)
    with pytest.raises(ValueError, match=r"got 'nose' for 0.*CompassDirection/heading'"):
        from_nwb(file, position="nose")
    for name in ("camera", "behavior/Position/camera"):
        assert "y" in from_nwb(file, position=name).coords
    heading = from_nwb(file, position="heading")
    assert "y" not in heading.coords
    assert heading.x.units == "rad"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"units": False}, {}, "'session-1' holds no units with spike times"),
        ({"series": ()}, {}, "position must name one SpatialSeries.* holds: .*heading"),
        ({}, {"epochs": "laps"}, "got 'laps'; the file holds: trials"),
        (
            {},
            {"unit_columns": ["depth"]},
            r"unit_columns must be columns of the units, .*got \['depth'\]",
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
        np.testing.assert_allclose(table["occupancy_map"][0], maps.occupancy / 20)
        np.testing.assert_array_equal(table.bin_edges_dim1[:], EDGES["x"])
        assert table["units"].data[:].tolist() == [1, 0]
        assert table["units"].table.id[:].tolist() == [5, 9]
    assert pynwb.validate(path=path) == []


def test_maps_that_the_table_cannot_hold_are_refused():
    pytest.importorskip("ndx_rate_maps")
    file = session()
    maps = rate_maps(from_nwb(file), bins=EDGES)
    signed = maps.assign(rate=maps.rate.assign_attrs(units="1"))
    del signed.attrs["sample_rate"]
    with pytest.raises(ValueError, match="must be in Hz, got '1'; attrs must hold sample_ra"):
        to_nwb(signed, file)
    with pytest.raises(ValueError, match=r"ids of the file's units.*got None; .*\[5, 9\] \(2\)"):
        to_nwb(maps.drop_vars("unit_id"), file)
    with pytest.raises(ValueError, match=r"got \[5, 9\]; the file holds \[\] \(0\)"):
        to_nwb(maps, session(units=False))
    to_nwb(maps, file)
    with pytest.raises(ValueError, match="name must be new in module 'ecephys'"):
        to_nwb(maps, file)
