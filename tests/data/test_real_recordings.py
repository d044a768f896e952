"""A real session (CA1, linear track): seconds, spikes and the authors' rates of run bouts.

The recordings stand outside the repository; without them the tests are skipped.
"""

import csv
import runpy
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from placeformer.data.arrays import from_arrays
from placeformer.data.pynapple import from_pynapple
from placeformer.population.decoding import decode_position
from placeformer.spatial.laps import field_rates, laps
from placeformer.spatial.place_cells import place_cells
from placeformer.spatial.place_fields import field_table, place_fields
from placeformer.spatial.rate_maps import rate_maps

nap = pytest.importorskip("pynapple")

PATH = Path(__file__).parents[3] / "shared" / "real" / "nelpy_linear_track.npz"

pytestmark = pytest.mark.skipif(not PATH.is_file(), reason="the recordings are not there")


@pytest.fixture(scope="module")
def session():
    """Spikes, the position on the track (0 to 100) and the authors' rates; one frame is double."""
    file = np.load(PATH)
    once = np.append(True, np.diff(file["t"]) > 0)
    times, place = file["t"][once], np.stack([file["x"], file["y"]], axis=1)[once].astype(float)
    place -= place.mean(axis=0)
    track = place @ np.linalg.svd(place, full_matrices=False)[2][0]
    track = 100 * (track - track.min()) / np.ptp(track)
    trains = {k: np.sort(file["spikes"][file["unit"] == k]) for k in range(31)}
    inside = {k: v for k, v in trains.items() if np.sum((v > times[0]) & (v < times[-1])) > 1}
    group = nap.TsGroup({k: nap.Ts(v) for k, v in inside.items()})
    return group, nap.Tsd(t=times, d=track), file["author_run_hz"][list(inside)]


def test_a_frame_that_is_there_twice_is_named():
    times = np.load(PATH)["t"]
    with pytest.raises(
        ValueError, match=r"5156.7955 s and then 5156.7955 s .* 1 times occur twice"
    ):
        from_arrays(np.zeros((len(times), 1)), {"x": times}, timestamps=times)


def test_maps_are_those_of_pynapple(session):
    group, position, _ = session
    recording = from_pynapple(group, position)
    maps = rate_maps(recording, by="x", bins=50)
    curves = nap.compute_tuning_curves(group, position, bins=[maps.x_edges.values])
    np.testing.assert_allclose(maps.rate, curves.values, rtol=3e-3)
    total = recording.dwell.sum().item()
    assert total == pytest.approx(position.time_support.tot_length(), rel=1e-4)


def run_bouts(position):
    """Bouts of running, at 8 or more of a hundredth of the track a second, as the authors do."""
    speed = gaussian_filter1d(np.abs(np.gradient(position.d, position.t)), 6)  # 0.1 s
    ends = np.flatnonzero(np.diff(np.pad((speed > 8).astype(int), 1)))
    start, stop = position.t[ends[::2]], position.t[ends[1::2] - 1]
    return nap.IntervalSet(start[stop > start], stop[stop > start])


TRACK = np.linspace(0, 100, 51)


def authors_cells(group, position):
    """Place cells by the thresholds of the authors' notebook on maps of 50 bins."""
    runs = from_pynapple(group, position, epochs=run_bouts(position), join=True)
    rate = rate_maps(runs, by="x", bins=TRACK).rate
    peak, mean = rate.max("x"), rate.mean("x")
    return np.flatnonzero((peak > 1.5) & (mean < 10) & (peak > 3.5 * mean))


def test_rates_of_run_bouts_are_those_of_the_authors(session):
    group, position, authors = session
    bouts = run_bouts(position)
    assert len(bouts) == pytest.approx(221, abs=8)
    got = from_pynapple(group, position, epochs=bouts)
    seconds = got.dwell.sum().item()
    assert seconds == pytest.approx(bouts.tot_length())
    spikes = (got.activation * got.dwell).sum(("walk", "time")).values
    counts = [len(group[k].restrict(bouts)) for k in group.keys()]  # noqa: SIM118
    np.testing.assert_allclose(spikes, counts, rtol=1e-5)
    often = authors > 0.2
    np.testing.assert_allclose(spikes[often] / seconds, authors[often], rtol=0.05)


@pytest.mark.slow
def test_the_table_of_the_tutorial_is_that_of_the_session():
    import real_animal

    file = Path(real_animal.__file__).parent / "results" / "real_animal.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        _, shown, _ = csv.reader(lines)
    recording = real_animal.animal(PATH)
    assert real_animal.row(recording, shown[0], by="x", bins=40, smooth=1.2) == shown


@pytest.mark.slow
def test_the_tutorial_reads_a_downloaded_session(session, tmp_path, monkeypatch, capsys):
    """Tutorial 8 with this session in place of the file on OSF, whose layout it has."""
    pooch, pynwb = pytest.importorskip("pooch"), pytest.importorskip("pynwb")
    group, position, _ = session
    start = datetime(2026, 1, 1, tzinfo=UTC)
    file = pynwb.NWBFile("a linear track", "Achilles_10252013", start)
    file.add_unit_column("cell_type", "pyramidal cell or interneuron")
    for train in group.values():
        file.add_unit(spike_times=train.t, cell_type="pE")
    file.add_unit(spike_times=position.t[::3], cell_type="pI")
    series = pynwb.behavior.SpatialSeries(
        name="position", data=position.d, timestamps=position.t, unit="cm", reference_frame="end"
    )
    file.create_processing_module("behavior", "tracking").add(series)
    for begin, end in run_bouts(position).values:
        file.add_trial(start_time=begin, stop_time=end)
    path = tmp_path / "session.nwb"
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))
    monkeypatch.setattr(plt, "show", lambda: None)
    tutorial = Path(__file__).parents[2] / "tutorials" / "08_your_own_animal.py"
    names = runpy.run_path(str(tutorial))
    plt.close("all")
    assert names["rat"].sizes["unit"] <= len(group)  # the interneuron is left out
    cells = set(names["rat"].unit_id.values[names["found"]])  # rows of the file
    assert len(cells & set(authors_cells(group, position))) >= 9
    assert "rat" in capsys.readouterr().out


@pytest.mark.slow
def test_place_cells_of_the_authors_are_found(session):
    """The authors' 11 cells are place cells, and few others are; each direction has its own."""
    group, position, _ = session
    theirs = authors_cells(group, position)
    assert len(theirs) == 11
    recording = from_pynapple(group, position, min_speed=8)
    options = {"by": "x", "bins": TRACK, "smooth": 1.5, "progress": False}
    ours = np.flatnonzero(place_cells(recording, cell_types=False, **options).is_place_cell)
    assert len(np.intersect1d(ours, theirs)) >= 10
    assert len(np.setdiff1d(ours, theirs)) <= 4


def test_laps_and_fields_of_the_directions(session):
    group, position, _ = session
    recording = from_pynapple(group, position)
    table = laps(recording)
    assert table.sizes["lap"] == 47
    turns = table.direction.values
    assert (turns[1:] != turns[:-1]).all()  # nothing but whole runs to and fro
    maps = rate_maps(recording, by="x", bins=TRACK, split="direction", min_speed=8, smooth=1.5)
    # most cells of the authors prefer a direction (as cells on linear tracks do)
    rate = maps.rate.isel(unit=authors_cells(group, position)).max("x")
    preference = np.abs(rate[0] - rate[1]) / (rate[0] + rate[1])
    assert float(preference.median()) > 0.4
    fields = place_fields(maps)
    rates = field_rates(recording, maps, table, fields=fields)
    first = rates.rate.isel(field=0)
    for k, name in enumerate(maps.direction.values):
        same = (rates.direction_of_lap == name).values
        known = (fields.n_fields[k] > 0).values
        assert np.isnan(first[k][:, ~same]).all()
        # on most laps a cell with a high peak is active in its field
        strong = known & (fields.peak[k, :, 0] > 5).values
        assert strong.any()
        assert ((first[k].values[np.ix_(strong, same)] > 0).mean(axis=1) > 0.5).all()
    widths = field_table(fields)["width_x"]
    assert widths.between(4, 100).all() and 8 < widths.median() < 40


@pytest.mark.parametrize(("bin_size", "most"), [(0.1, 10.6), (0.25, 7.5), (0.5, 6.0)])
def test_decoding_error_is_that_of_the_audit(session, bin_size, most):
    """Median errors, cross-validated over 61 runs: 10.5, 7.4 and 5.8 % of the track."""
    group, position, _ = session
    cells = list(np.array(list(group.keys()))[authors_cells(group, position)])
    bouts = run_bouts(position)
    long = np.sort(np.argsort(bouts.start - bouts.end)[:61])
    runs = nap.IntervalSet(bouts.start[long], bouts.end[long])
    recording = from_pynapple(group[cells], position, epochs=runs, bin_size=bin_size)
    result = decode_position(
        recording, by="x", bins=TRACK, method="poisson", cv=61, n_shuffles=0, progress=False
    )
    assert float(result.median_error) < most < 20 < float(result.chance_error)
