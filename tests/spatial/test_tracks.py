"""Tracks: directions of running, laps, rates in fields on every lap, and linear positions."""

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.data.circular import circular_of
from placeformer.spatial.laps import _runs, _turns

QUIET = {"progress": False}


def shuttle(n_laps=10, steps=50, rng=None, rest=0):
    """Position on a track of 0 to 100 of an animal that runs up and down and rests at the ends."""
    up = np.linspace(0, 100, steps)
    parts = []
    for k in range(n_laps):
        parts += [up if k % 2 == 0 else up[::-1], np.full(rest, 100.0 if k % 2 == 0 else 0.0)]
    x = np.concatenate(parts)
    return x if rng is None else x + rng.normal(0, 0.2, x.size)


def bump(x, centre, width=6.0):
    return np.exp(-((x - centre) ** 2) / 2 / width**2)


@pytest.fixture(scope="module")
def track():
    """Cells that fire in one direction each, and one that fires in both."""
    rng = np.random.default_rng(0)
    x = shuttle(20, 60, rest=20)
    forward = np.gradient(x) > 0
    values = [bump(x, 30) * forward, bump(x, 70) * (np.gradient(x) < 0), bump(x, 50)]
    values = np.stack(values, axis=-1) + 0.02 * rng.normal(size=(x.size, 3))
    noisy = x + rng.normal(0, 0.1, x.size)
    return pf.from_arrays(values, {"x": noisy}, sample_rate=25, position_units="cm", units="Hz")


def test_maps_of_directions_are_those_of_the_samples_of_a_direction(track):
    maps = pf.rate_maps(track, by="x", bins=20, split="direction", min_speed=10)
    assert maps.rate.dims == ("direction", "unit", "x")
    assert maps.direction.values.tolist() == ["forward", "backward"]
    running = pf.running_direction(track, min_speed=10)
    for name in maps.direction.values:
        part = track.assign_coords(x=track.x.where(running == name))
        one = pf.rate_maps(part, by="x", bins={"x": maps.x_edges.values})
        np.testing.assert_allclose(maps.rate.sel(direction=name), one.rate)
        np.testing.assert_allclose(maps.occupancy.sel(direction=name), one.occupancy)
    rest = pf.rate_maps(track, by="x", bins=20).occupancy.sum() - maps.occupancy.sum()
    assert rest.item() == pytest.approx(20 * 20 / 25, rel=0.3)  # the animal rests in 400 samples
    fields = pf.place_fields(maps)
    np.testing.assert_array_equal(fields.n_fields, [[1, 0, 1], [0, 1, 1]])
    assert pf.spatial_information(maps).dims == ("direction", "unit")


def test_place_cells_of_directions_are_those_of_the_samples_of_a_direction():
    rng = np.random.default_rng(0)  # laps of unequal length, or shifts in time would fit again
    runs = [np.linspace(0, 100, n) for n in rng.integers(40, 110, 40)]
    x = np.concatenate([run[:: 1 - 2 * (i % 2)] for i, run in enumerate(runs)])
    forward = np.concatenate([np.full(len(run), i % 2 == 0) for i, run in enumerate(runs)])
    values = np.stack([bump(x, 30) * forward, bump(x, 70) * ~forward, bump(x, 50)], axis=-1)
    values += 0.05 * rng.normal(size=values.shape)
    track = pf.from_arrays(values, {"x": x}, sample_rate=25, position_units="cm", units="Hz")
    options = {"by": "x", "smooth": 1.0, "null": "circular", "n_shuffles": 99} | QUIET
    table = pf.place_cells(track, bins=20, split="direction", min_speed=10, **options)
    assert table.is_place_cell.dims == ("direction", "unit")
    assert table.direction.values.tolist() == ["forward", "backward"]
    np.testing.assert_array_equal(table.is_place_cell, [[1, 0, 1], [0, 1, 1]])
    running = pf.running_direction(track, min_speed=10)
    edges = pf.rate_maps(track, by="x", bins=20).x_edges.values
    for name in table.direction.values:
        part = track.assign_coords(x=track.x.where(running == name))
        one = pf.place_cells(part, bins={"x": edges}, **options)
        xr.testing.assert_equal(table.sel(direction=name, drop=True), one)
    assert len(table.to_dataframe()) == 6
    novel = track.assign_coords(familiar=("walk", [False]))
    both = pf.place_cells(
        track, control=novel, bins=20, split="direction", min_speed=10, cell_types=False, **options
    )
    np.testing.assert_array_equal(both.control_is_place_cell, both.is_place_cell)
    with pytest.raises(ValueError, match="min_speed is an option of split"):
        pf.place_cells(track, bins=20, min_speed=3, **options)
    one_way = pf.from_arrays(np.ones((40, 2)), {"x": np.arange(40.0)})
    with pytest.raises(ValueError, match="both directions along 'x', got none backward"):
        pf.place_cells(one_way, by="x", bins=5, split="direction", **QUIET)


def test_directions_go_round_a_seam():
    angle = np.mod(np.arange(400) * 7.0, 360)
    ring = pf.from_arrays(np.ones((400, 1)), {"angle": angle}, circular={"angle": 360})
    running = pf.running_direction(ring, by="angle")
    assert (running == "forward").all()
    maps = pf.rate_maps(ring, by="angle", bins=12, split="direction")
    np.testing.assert_array_equal(maps.occupancy.sum("angle"), [400, 0])


def test_wrong_splits_are_refused(track):
    with pytest.raises(ValueError, match="split must be one of"):
        pf.rate_maps(track, by="x", bins=20, split="lap")
    with pytest.raises(ValueError, match="min_speed is an option of split"):
        pf.rate_maps(track, by="x", bins=20, min_speed=3)
    with pytest.raises(ValueError, match="leaves no sample"):
        pf.rate_maps(track, by="x", bins=20, split="direction", min_speed=1e9)
    plane = track.assign_coords(y=track.x)
    with pytest.raises(ValueError, match="needs one axis"):
        pf.rate_maps(plane, bins=20, split="direction")


def test_laps_are_runs_from_end_to_end():
    x = np.concatenate(
        [
            np.linspace(50, 0, 10),  # arrives at the low end
            np.zeros(5),
            np.linspace(0, 60, 12),  # turns back
            np.linspace(60, 0, 12),
            np.linspace(0, 100, 20),  # forward
            np.full(7, 100.0),
            np.linspace(100, 0, 20),  # backward
            np.linspace(0, 100, 20),  # forward
            np.linspace(100, 40, 10),  # never arrives
        ]
    )
    table = pf.laps(pf.from_arrays(np.ones((x.size, 1)), {"x": x}))
    assert table.direction.values.tolist() == ["forward", "backward", "forward"]
    number = table.number.values[0]
    for lap, (first, last) in enumerate([(0, 100), (100, 0), (0, 100)]):
        at = x[number == lap]
        assert at[0] == first and abs(at[-1] - last) <= 5.3  # a shared end counts for the later
        assert (np.diff(at) * np.sign(last - first) >= 0).all()
    assert (number[:39] == -1).all() and (number[-9:] == -1).all()
    assert table.duration.attrs["units"] == "1"


@pytest.mark.parametrize("n_laps", [1, 2, 9])
def test_the_number_of_laps_is_right_with_noise(n_laps):
    x = shuttle(n_laps, 80, np.random.default_rng(1), rest=15)
    table = pf.laps(pf.from_arrays(np.ones((x.size, 1)), {"x": x}, sample_rate=10))
    assert table.sizes["lap"] == n_laps
    want = ["forward", "backward"] * 5
    assert table.direction.values.tolist() == want[:n_laps]
    assert (np.abs(table.duration - 8) < 3).all() and table.start.attrs["units"] == "s"


def test_a_jump_back_to_the_start_is_no_lap():
    x = np.tile(np.arange(50.0), 4)  # an animal that is put back to the start
    table = pf.laps(pf.from_arrays(np.ones((200, 1)), {"x": x}, sample_rate=10))
    assert table.direction.values.tolist() == ["forward"] * 4
    np.testing.assert_allclose(table.duration, 4.9)
    np.testing.assert_array_equal(table.number[0], np.repeat(np.arange(4), 50))
    times = np.arange(200) / 10 + 7 * np.repeat(np.arange(4), 50)  # trials with pauses
    trials = pf.from_arrays(np.ones((200, 1)), {"x": x}, timestamps=times)
    assert pf.laps(trials).direction.values.tolist() == ["forward"] * 4
    lost = np.where((np.arange(200) % 50 > 10) & (np.arange(200) % 50 < 40), np.nan, x)
    table = pf.laps(pf.from_arrays(np.ones((200, 1)), {"x": lost}, sample_rate=10))
    assert table.direction.values.tolist() == ["forward"] * 4
    slow = np.tile([0.0, 50, 100, 100, 0, 0], 5)  # samples so far apart that a run is one move
    for x in (slow, np.repeat(slow, 7)):
        table = pf.laps(pf.from_arrays(np.ones((len(x), 1)), {"x": x}))
        assert table.direction.values.tolist() == ["forward", "backward"] * 5


def test_a_jump_back_to_the_start_is_no_running_backward():
    x = np.tile(np.arange(50.0), 4)
    recording = pf.from_arrays(np.ones((200, 1)), {"x": x}, sample_rate=10)
    assert (pf.running_direction(recording) == "forward").all()
    maps = pf.rate_maps(recording, by="x", split="direction")
    np.testing.assert_allclose(maps.occupancy.sum("x"), [20, 0])


def test_laps_of_several_walks_are_numbered_on():
    x = shuttle(4, 30)
    walks = np.stack([x, 100 - x])
    table = pf.laps(pf.from_arrays(np.ones((2, x.size, 1)), {"x": walks}))
    assert table.walk_of_lap.values.tolist() == [0] * 4 + [1] * 4
    assert (
        table.direction.values.tolist()
        == ["forward", "backward"] * 2
        + [
            "backward",
            "forward",
        ]
        * 2
    )
    assert set(table.number.values[1]) == {4, 5, 6, 7}


def test_a_recording_without_a_lap():
    table = pf.laps(pf.from_arrays(np.ones((20, 1)), {"x": np.linspace(0, 1, 20)[::-1] ** 0 * 3.0}))
    assert table.sizes["lap"] == 0 and (table.number == -1).all()
    for wrong in (0, 0.5, -1):
        with pytest.raises(ValueError, match="ends must lie between 0 and 0.5"):
            pf.laps(pf.from_arrays(np.ones((20, 1)), {"x": np.arange(20)}), ends=wrong)
    assert _runs(np.full(5, 50.0), 10, 90) == [] and _turns(np.zeros(0), 1) == []


def test_laps_round_a_circle():
    turns = np.concatenate([np.linspace(0.3, 4.2, 390), np.linspace(4.2, 1.9, 230)])
    ring = pf.from_arrays(
        np.ones((turns.size, 1)), {"angle": np.mod(turns, 1) * 360}, circular={"angle": 360}
    )
    table = pf.laps(ring, by="angle")
    assert table.direction.values.tolist() == ["forward"] * 3 + ["backward"] * 2
    number = table.number.values[0]
    for lap in range(3):  # from a whole number of turns to the next
        at = turns[number == lap]
        assert at[0] == pytest.approx(lap + 1, abs=0.02) and at[-1] == pytest.approx(
            lap + 2, abs=0.02
        )
    for lap in (3, 4):  # without the way from 4 to 4.2 turns and back
        at = turns[number == lap]
        assert at[0] == at.max() == pytest.approx(7 - lap, abs=0.02)
        assert at[-1] == pytest.approx(6 - lap, abs=0.02)


def test_rates_in_fields_on_every_lap(track):
    laps = pf.laps(track)
    maps = pf.rate_maps(track, by="x", bins=20, split="direction", min_speed=10)
    fields = pf.place_fields(maps)
    rates = pf.field_rates(track, maps, laps)
    assert rates.rate.dims == ("direction", "unit", "field", "lap")
    label = fields.label.sel(direction="forward").values[0]
    bins = np.searchsorted(maps.x_edges.values, track.x.values[0], side="right") - 1
    bins = np.where(track.x.values[0] == maps.x_edges.values[-1], 19, bins)
    inside = label[np.clip(bins, 0, 19)] == 1
    number = laps.number.values[0]
    for lap in range(laps.sizes["lap"]):
        got = rates.rate.sel(direction="forward")[0, 0, lap].item()
        if laps.direction[lap] == "backward":
            assert np.isnan(got)
        else:
            at = inside & (number == lap)
            assert got == pytest.approx(track.activation.values[0, at, 0].mean())
            assert rates.occupancy.sel(direction="forward")[0, 0, lap] == pytest.approx(
                at.sum() / 25
            )
    assert np.isnan(rates.rate.sel(direction="backward")[0]).all()  # no field there
    assert rates.rate.attrs["units"] == "Hz" and rates.occupancy.attrs["units"] == "s"
    assert rates.direction_of_lap.values.tolist() == laps.direction.values.tolist()


def test_field_rates_of_maps_without_directions_and_wrong_input(track):
    laps = pf.laps(track)
    maps = pf.rate_maps(track, by="x", bins=20)
    rates = pf.field_rates(track, maps, laps)
    assert rates.rate.dims == ("unit", "field", "lap")
    assert np.isfinite(rates.rate[2, 0]).all()  # active in both directions
    with pytest.raises(ValueError, match="fields must be those of maps"):
        pf.field_rates(track, maps, laps, fields=pf.place_fields(maps.isel(unit=[0])))
    with pytest.raises(ValueError, match="laps must hold 'number'"):
        pf.field_rates(track, maps, laps.isel(time=slice(10)))
    with pytest.raises(ValueError, match="got 3 and 1 units"):
        pf.field_rates(track, maps.isel(unit=[0]), laps)
    both_ways = pf.rate_maps(track, by="x", bins=20, split="direction")
    with pytest.raises(ValueError, match="laps must have the variable 'direction'"):
        pf.field_rates(track, both_ways, laps.drop_vars("direction"))


def test_field_rates_of_units_in_another_order_are_refused(track):
    laps, maps = pf.laps(track), pf.rate_maps(track, by="x", bins=20)
    turned, turned_maps = track.isel(unit=[2, 1, 0]), maps.isel(unit=[2, 1, 0])
    want = pf.field_rates(track, maps, laps).isel(unit=[2, 1, 0])
    xr.testing.assert_equal(pf.field_rates(turned, turned_maps, laps), want)
    for recording, of_maps in ((turned, maps), (track, turned_maps)):
        with pytest.raises(ValueError, match=r"recording and maps .* with rate_maps\(recording\)"):
            pf.field_rates(recording, of_maps, laps)
    with pytest.raises(ValueError, match="maps and fields must hold the same units"):
        pf.field_rates(track, maps, laps, fields=pf.place_fields(turned_maps))


def test_tables_of_fields_on_a_track_have_ends():
    x = np.arange(40.0)
    rate = np.stack([bump(x, 10, 2), bump(np.minimum(x, 40 - x), 0, 2), np.ones(40)])
    edges = np.arange(41) * 2.5
    line, ring = (
        pf.maps_from_arrays(rate, edges=edges, by="x", circular=circular, position_units="cm")
        for circular in (None, {"x": 100})
    )
    fields = pf.place_fields(ring)
    table = pf.field_table(fields)
    assert len(table) == 2 and fields.start_x.attrs["units"] == "cm"
    for unit, (start, stop) in enumerate([(17.5, 35.0), (92.5, 10.0)]):
        row = table.loc[(str(unit), 1)]
        assert (row.start_x, row.stop_x, row.width_x) == (start, stop, 17.5)
    open_ = pf.place_fields(line)
    np.testing.assert_array_equal(open_.n_fields, [1, 2, 0])
    assert sorted(open_.start_x.values[1]) == [0.0, 92.5]
    assert sorted(open_.stop_x.values[1]) == [10.0, 100.0]


# Linear positions

W_NODES = {"a": (0, 0), "b": (0, 80), "c": (40, 0), "d": (40, 80), "e": (80, 0), "f": (80, 80)}
W_EDGES = [("f", "d"), ("d", "c"), ("d", "b"), ("b", "a"), ("f", "e")]


def along(path, n):
    """Points at equal distances on a path of nodes, and the edge of each."""
    points = np.array([W_NODES[k] for k in path], float)
    step = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.linspace(0, step.sum(), n)
    ends = np.concatenate([[0], np.cumsum(step)])
    return np.stack([np.interp(at, ends, axis) for axis in points.T], axis=1), at


def test_positions_on_a_straight_track_are_the_projection():
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 1, 200)
    start, end = np.array([3.0, -2.0]), np.array([9.0, 6.0])
    place = start + t[:, None] * (end - start) + rng.normal(0, 0.1, (200, 2))
    recording = pf.from_arrays(np.ones((200, 1)), place, position_units="cm")
    got = pf.linearize(recording, [start, end], [(0, 1)])
    unit = (end - start) / 10
    want = np.clip((place - start) @ unit, 0, 10)
    np.testing.assert_allclose(got.linear[0], want)
    far = np.linalg.norm(place - start - want[:, None] * unit, axis=1)
    np.testing.assert_allclose(got.linear_distance[0], far)
    assert got.linear.attrs["units"] == "cm" and (got.linear_edge == 0).all()


def test_arms_of_a_w_maze():
    path = ["a", "b", "d", "f", "e", "f", "d", "c"]
    place, at = along(path, 1500)
    noisy = place + np.random.default_rng(0).normal(0, 1.0, place.shape)
    recording = pf.from_arrays(np.ones((1500, 1)), noisy)
    got = pf.linearize(recording, W_NODES, W_EDGES, gap=10)
    # edges start at 0 (f-d), 40 (d-c), 130 (d-b), 170 (b-a) and 260 (f-e)
    where = np.concatenate([[0], np.cumsum([80, 40, 40, 80, 80, 40, 80])])
    want = np.select(
        [at <= where[k + 1] for k in range(7)],
        [
            170 + 80 - at,
            170 - (at - 80),
            40 - (at - 120),
            260 + (at - 160),
            260 + 80 - (at - 240),
            at - 320,
            40 + (at - 360),
        ],
    )
    off = np.abs(got.linear.values[0] - want)
    junction = np.min(np.abs(at[:, None] - where), axis=1) < 6
    assert off[~junction].max() < 5 and np.median(off) < 1
    # to the nearest edge alone the arms of a junction are mixed up far more often
    assert (off > 8).mean() < 0.02


def test_the_path_decides_near_a_junction():
    """A sample that tracking noise moves onto another arm stays on the arm that is run."""
    place, _ = along(["b", "d", "f"], 161)
    place[40, 1] -= 6.0  # below d, where the arm d-c is nearer than any other
    place[100:103, 1] -= 1.0
    recording = pf.from_arrays(np.ones((161, 1)), place)
    got = pf.linearize(recording, W_NODES, W_EDGES, noise=2.0)
    edge = got.linear_edge.values[0]
    assert set(edge[:70]) == {2} and set(edge[90:]) == {0}


def test_a_ring_of_edges_is_circular():
    nodes = [(0, 0), (10, 0), (10, 10), (0, 10)]
    edges = [(0, 1), (1, 2), (2, 3), (3, 0)]
    t = np.linspace(0, 3 * 40, 600) % 40
    corners = np.array([*nodes, nodes[0]], float)
    place = np.stack([np.interp(t, np.arange(5) * 10, axis) for axis in corners.T], axis=1)
    got = pf.linearize(pf.from_arrays(np.ones((600, 1)), place), nodes, edges)
    assert circular_of(got) == {"linear": 40.0}
    apart = np.abs(got.linear.values[0] - t)
    assert np.minimum(apart, 40 - apart).max() < 1e-6
    assert pf.laps(got, by="linear").sizes["lap"] == 2  # complete turns between crossings


def test_gaps_lost_samples_and_limits():
    nodes = {"l": (0, 0), "m": (10, 0), "r": (10, 10)}
    place = np.array([[1, 0], [np.nan, 0], [9, 5], [10, 9.0]])
    recording = pf.from_arrays(np.ones((4, 1)), place)
    got = pf.linearize(recording, nodes, [("l", "m"), ("r", "m")], max_distance=0.5, noise=0.5)
    # the second edge does not begin where the first ends: a gap of a tenth of the mean length
    np.testing.assert_allclose(got.linear[0], [1, np.nan, np.nan, 12])
    assert got.linear_edge.values[0].tolist() == [0, -1, -1, 1]
    maps = pf.rate_maps(got, by="linear", bins=[0, 10, 11, 16, 21])
    assert np.isnan(maps.rate[0, 1])  # nobody was in the gap


@pytest.mark.parametrize(
    ("nodes", "edges", "options", "what"),
    [
        ([(0, 0), (1, 0)], [(0, 2)], {}, r"edges must be pairs of the nodes \[0, 1\]"),
        ([(0, 0), (1, 0)], [], {}, "got none"),
        ([(0, 0), (0, 0)], [(0, 1)], {}, "edges must join nodes at different positions"),
        ([(0, 0), (1, 0), (5, 5), (6, 6)], [(0, 1), (2, 3)], {}, "must be connected"),
        ([(0,), (1,)], [(0, 1)], {}, "on 2 axes"),
        ([(0, 0), (1, 0)], [(0, 1)], {"gap": -1}, "gap must be 0"),
        ([(0, 0), (1, 0)], [(0, 1)], {"noise": 0}, "noise must be a positive"),
        ([(0, 0), (1, 0)], [(0, 1)], {"by": ("u", "v")}, "'u' is missing"),
    ],
)
def test_wrong_tracks_are_refused(nodes, edges, options, what):
    recording = pf.from_arrays(np.ones((5, 1)), np.random.default_rng(0).random((5, 2)))
    with pytest.raises(ValueError, match=what):
        pf.linearize(recording, nodes, edges, **options)


@pytest.mark.parametrize("scale", [0.01, 100])
def test_nodes_in_other_units_than_the_position_are_warned_of(scale):
    recording = pf.from_arrays(
        np.ones((50, 1)), {"x": np.linspace(0, 80, 50), "y": np.zeros(50)}, position_units="cm"
    )
    nodes = {"start": (0, 0), "end": (100 * scale, 0)}
    with pytest.warns(UserWarning, match=r"position spans 80 and the nodes span .* same units.*cm"):
        pf.linearize(recording, nodes, [("start", "end")])


def test_an_animal_that_rests_is_not_in_other_units():
    place = {"x": np.full(5, 70.0), "y": np.linspace(0, 0.1, 5)}
    got = pf.linearize(pf.from_arrays(np.ones((5, 1)), place), [(0, 0), (100, 0)], [(0, 1)])
    np.testing.assert_allclose(got.linear, 70)


def test_linear_recordings_are_written_and_read(tmp_path):
    place, _ = along(["a", "b", "d"], 100)
    got = pf.linearize(pf.from_arrays(np.ones((100, 1)), place), W_NODES, W_EDGES)
    got.to_netcdf(tmp_path / "linear.nc")
    with xr.open_dataset(tmp_path / "linear.nc") as read:
        xr.testing.assert_identical(pf.laps(read, by="linear"), pf.laps(got, by="linear"))


def test_rates_on_some_of_the_laps(track):
    laps, maps = pf.laps(track), pf.rate_maps(track, by="x", bins=20, split="direction")
    whole = pf.field_rates(track, maps, laps)
    for which in ([1, 2], [3], [2, 0], []):
        part = pf.field_rates(track, maps, laps.isel(lap=which))
        xr.testing.assert_allclose(part, whole.isel(lap=which))
    unnamed = laps[["number", "direction"]].drop_vars("lap")
    np.testing.assert_array_equal(pf.field_rates(track, maps, unnamed).rate, whole.rate)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: pf.laps(r, ends="0.1"), "ends must be a number, got '0.1'"),
        (lambda r: pf.linearize(r, [[0], [9]], [(0, 1)], by="x", noise="1"), "noise must be a num"),
        (lambda r: pf.linearize(r, [[0], [9]], [(0, 1)], by="x", gap="1"), "gap must be a number"),
    ],
)
def test_options_that_are_text_are_refused_by_name(track, call, message):
    with pytest.raises(ValueError, match=message):
        call(track)


def test_the_one_axis_of_a_track_may_be_in_a_list(track):
    xr.testing.assert_identical(pf.laps(track, by=["x"]), pf.laps(track))
    named = pf.running_direction(track, by=("x",))
    xr.testing.assert_identical(named, pf.running_direction(track))
    for function in (pf.laps, pf.running_direction):
        with pytest.raises(ValueError, match=r"by must name one position.*got \['x', 'y'\]"):
            function(track, by=["x", "y"])
