"""A real session (CA1, linear track): seconds, spikes and the authors' rates of run bouts.

The recordings stand outside the repository; without them the tests are skipped.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from placeformer.data.arrays import from_arrays
from placeformer.data.pynapple import from_pynapple
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


def test_rates_of_run_bouts_are_those_of_the_authors(session):
    group, position, authors = session
    speed = gaussian_filter1d(np.abs(np.gradient(position.d, position.t)), 6)  # 0.1 s
    ends = np.flatnonzero(np.diff(np.pad((speed > 8).astype(int), 1)))
    start, stop = position.t[ends[::2]], position.t[ends[1::2] - 1]
    bouts = nap.IntervalSet(start[stop > start], stop[stop > start])
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
