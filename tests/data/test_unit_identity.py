"""Whether two Datasets hold the same units."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.data.unit_identity import check_same_units, is_per_second
from placeformer.evaluation import simulation

NAMES = ("maps_a", "maps_b")


def maps(step=None, **coords):
    rate = np.random.default_rng(0).random((3, 5, 5))
    attrs = {"provenance": json.dumps({"steps": [step or {"step": "rate_maps"}]})}
    made = simulation.maps(rate).assign_attrs(attrs)
    return made.assign_coords({k: ("unit", v) for k, v in coords.items()})


def of_network(weights, **walks):
    return {"step": "record", "network": {"weights_sha256": weights}, "walks": walks}


FIRST = maps(of_network("a"), unit_id=[1, 2, 3])

OTHERS = [
    (maps(of_network("a"), unit_id=[2, 3, 9]), "got '1' and '2' as the first 'unit_id'"),
    (maps(of_network("b"), unit_id=[1, 2, 3]), "units of two networks"),
]


@pytest.mark.parametrize(("other", "words"), OTHERS)
@pytest.mark.parametrize(
    "function",
    [lambda *m, **o: pf.remapping(*m, n_shuffles=9, **o), pf.population_vector_correlation],
)
def test_units_that_do_not_correspond_are_refused_unless_insisted_on(function, other, words):
    with pytest.raises(ValueError, match=words):
        function(FIRST, other)
    got = function(FIRST, other, allow_other_units=True)
    want = function(FIRST, FIRST)
    xr.testing.assert_equal(got.drop_vars("unit_id", errors="ignore"),
                            want.drop_vars("unit_id", errors="ignore"))  # fmt: skip


@pytest.mark.parametrize("key", ["session", "spikes"])
def test_units_of_two_sessions_are_refused(key):
    first, second = (maps({"step": "load", key: name}) for name in ("day 1", "day 2"))
    words = {"session": "sessions 'day 1' and 'day 2'", "spikes": "two sets of spike trains"}
    with pytest.raises(ValueError, match=words[key] + ".*allow_other_units=True"):
        check_same_units(first, second, NAMES)
    check_same_units(first, first, NAMES)
    check_same_units(first, second, NAMES, allow_other_units=True)
    check_same_units(first, maps({"step": "load"}), NAMES)


def of_session(seed, loader, **options):
    """Rate maps of two halves of a session whose units have the ids 0 to 2."""
    rng = np.random.default_rng(seed)
    times = np.arange(600) / 10
    place = np.stack([times % 10, times % 7], axis=1)
    trains = {k: np.sort(rng.uniform(0, 59, 200)) for k in range(3)}
    halves = [[0, 30]], [[30.05, 59.9]]
    if loader == "from_nwb":
        pynwb = pytest.importorskip("pynwb")
        start = datetime(2026, 1, 1 + seed, tzinfo=UTC)
        file = pynwb.NWBFile("a session", "identifier of all files", start)
        for train in trains.values():
            file.add_unit(spike_times=train)
        series = pynwb.behavior.SpatialSeries(name="tracker", data=place, rate=10.0, unit="m")
        file.add_acquisition(series)
        made = [pf.from_nwb(file, epochs=half, **options) for half in halves]
    else:
        nap = pytest.importorskip("pynapple")
        position = nap.TsdFrame(t=times, d=place, columns=["x", "y"])
        data = {
            "spikes": lambda: nap.TsGroup({k: nap.Ts(train) for k, train in trains.items()}),
            "signal": lambda: nap.TsdFrame(t=times, d=rng.random((600, 3))),
        }[loader]()
        epochs = map(nap.IntervalSet, halves)
        made = [pf.from_pynapple(data, position, epochs=half, **options) for half in epochs]
    edges = {"x": np.linspace(0, 10, 5), "y": np.linspace(0, 7, 5)}
    return [pf.rate_maps(recording, bins=edges) for recording in made]


@pytest.mark.parametrize("loader", ["from_nwb", "spikes", "signal"])
def test_loaders_know_their_session(loader):
    (a, again), (other, _) = of_session(0, loader), of_session(1, loader)
    pf.remapping(a, again, n_shuffles=9)
    for compare in (lambda *m: pf.remapping(*m, n_shuffles=9), pf.population_vector_correlation):
        with pytest.raises(ValueError, match="two sets of spike|of the recording sessions"):
            compare(a, other)
    pf.remapping(a, other, n_shuffles=9, allow_other_units=True)
    (tracked, _), (later, _) = (of_session(k, loader, session="mouse 7") for k in range(2))
    pf.remapping(tracked, later, n_shuffles=9)


def test_arrays_may_name_their_session():
    rng = np.random.default_rng(0)
    place = {"x": np.arange(50) % 5, "y": np.arange(50) // 5 % 5}
    days = (pf.from_arrays(rng.random((50, 3)), place, session=f"day {k}") for k in range(2))
    a, b = (pf.rate_maps(day) for day in days)
    with pytest.raises(ValueError, match="sessions 'day 0' and 'day 1'"):
        pf.remapping(a, b, n_shuffles=9)


def test_what_is_not_known_is_not_compared():
    check_same_units(FIRST, maps(), NAMES)
    check_same_units(maps(), maps(unit_id=[4, 5, 6]), NAMES)


def in_measures(place="m", activity="Hz", scale=1.0):
    """A recording on a track with its positions and activations in other units of measure."""
    rng = np.random.default_rng(0)
    x = rng.random((2, 200))
    activity_of = rng.poisson(2, (2, 200, 3)).astype(float)
    return pf.from_arrays(
        activity_of, {"x": x * scale}, sample_rate=20, units=activity, position_units=place
    )


def compared(a, b):
    """What compares a recording with another, and names of the two arguments."""
    maps = {"by": "x", "bins": np.linspace(0, 1, 6)}
    options = {"by": "x", "n_shuffles": 9, "progress": False}
    return {
        "recording and train": lambda: pf.decode_position(a, train=b, **options),
        "recording and control": lambda: pf.place_cells(a, control=b, bins=5, **options),
        "maps_a and maps_b": lambda: pf.remapping(
            pf.rate_maps(a, **maps), pf.rate_maps(b, **maps), n_shuffles=9
        ),
        "recording and bins": lambda: pf.rate_maps(a, by="x", bins=pf.rate_maps(b, **maps)),
    }


@pytest.mark.parametrize("what", list(compared(None, None)))
def test_units_of_measure_that_differ_are_refused(what):
    with pytest.raises(ValueError, match=f"{what} must have 'x' in .* got 'm' and 'cm'"):
        compared(in_measures(), in_measures("cm"))[what]()
    if what != "recording and bins":
        with pytest.raises(ValueError, match=f"{what} must have '(activation|rate)' .* and '1'"):
            compared(in_measures(), in_measures(activity="1"))[what]()


@pytest.mark.filterwarnings("ignore:the median bin has|no circular shuffle reached")
@pytest.mark.filterwarnings("ignore:walk 0 of recording holds the same activations")
@pytest.mark.parametrize("what", list(compared(None, None)))
@pytest.mark.parametrize("measures", [("metres", "spikes/s"), ("1", "1"), (None, None)])
def test_measures_that_are_equal_or_not_known_are_compared(what, measures):
    place, activity = measures
    if ("maps" in what or "bins" in what) and place is None:
        return  # rate maps state units, "1" if the recording has none
    first, other = in_measures(), in_measures(place or "m", activity or "Hz")
    if place == "1":
        first = other
    for name, units in zip(("x", "activation"), measures, strict=True):
        if units is None:
            del other[name].attrs["units"]
    compared(first, other)[what]()


@pytest.mark.filterwarnings("ignore:the median bin has")
def test_distances_are_over_axes_in_the_same_units():
    rng = np.random.default_rng(0)
    place = {"x": rng.random((4, 200)), "y": rng.random((4, 200))}
    recording = pf.from_arrays(rng.random((4, 200, 3)), place, position_units="m", sample_rate=20)
    mixed = recording.assign_coords(y=recording.y.assign_attrs(units="cm"))
    same = recording.assign_coords(y=recording.y.assign_attrs(units="metres"))
    nodes = {"nodes": [(0, 0), (1, 1)], "edges": [(0, 1)]}

    def calls(recording):
        maps = pf.rate_maps(recording, bins=dict.fromkeys("yx", np.linspace(0, 1, 6)))
        yield lambda: pf.decode_position(recording, n_shuffles=0, progress=False)
        yield lambda: pf.remapping(maps, maps, n_shuffles=9)
        yield lambda: pf.speed_score(recording, n_shuffles=9, progress=False)
        yield lambda: pf.linearize(recording, **nodes)
        yield lambda: pf.grid_score(maps)
        yield lambda: pf.grid_properties(maps)

    for right in calls(same):
        right()
    for wrong in calls(mixed):
        with pytest.raises(ValueError, match="must have axes in the same units.*'y' in 'cm'"):
            wrong()
    pf.decode_position(mixed, by="y", n_shuffles=0, progress=False)
    assert pf.spatial_information(pf.rate_maps(mixed, bins=5), negatives="shift").sizes["unit"] == 3


def test_maps_of_two_networks_in_two_worlds_are_warned_of():
    a, same, other, novel = (
        maps(of_network(weights, world_seed=seed, familiar=familiar))
        for weights, seed, familiar in [("a", 0, 1), ("b", 0, 1), ("b", 1, 1), ("a", 0, 0)]
    )
    with pytest.warns(UserWarning, match=r"two worlds \(world_seed=0 and world_seed=1\)"):
        pf.similarity(a, other, n_shuffles=0)
    pf.similarity(a, same, n_shuffles=0)  # warnings are errors
    pf.similarity(a, novel, n_shuffles=0)


@pytest.mark.parametrize("units", ["s", "1", "m/s", "1/ms", "kHz", "", "s-2", None])
def test_what_is_no_number_per_second(units):
    assert not is_per_second(units)
