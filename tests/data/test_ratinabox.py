"""RatInABox: place cells are found where the simulation has put them."""

import numpy as np
import pytest

from placeformer.data.ratinabox import from_ratinabox
from placeformer.spatial.rate_maps import rate_maps

pytest.importorskip("ratinabox")
from ratinabox.Agent import Agent
from ratinabox.Environment import Environment
from ratinabox.Neurons import HeadDirectionCells, PlaceCells


@pytest.fixture(scope="module")
def simulation():
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002 (RatInABox draws from the global state)
    agent = Agent(Environment(), {"dt": 0.1, "speed_mean": 0.3})
    places = PlaceCells(agent, {"n": 8, "widths": 0.15, "max_fr": 20, "name": "place"})
    heads = HeadDirectionCells(agent, {"n": 4, "name": "head"})
    for _ in range(2500):
        agent.update()
        places.update()
        heads.update()
    np.random.set_state(state)  # noqa: NPY002
    return agent, places, heads


def test_place_cells_are_found_where_they_are(simulation):
    agent, places, _ = simulation
    recording = from_ratinabox(agent, places)
    width = 0.1
    edges = np.linspace(0, 1, 11)
    maps = rate_maps(recording, bins={"x": edges, "y": edges}, min_occupancy=0.2)
    peak = maps.rate.stack(place=("y", "x")).fillna(-1).idxmax("place").values
    found = np.array([(x, y) for y, x in peak])
    distance = np.abs(found - places.place_cell_centres).max(axis=1)
    assert np.all(distance <= 1.5 * width)
    assert np.median(distance) <= width
    assert maps.rate.units == "Hz"
    assert 10 < float(maps.rate.max()) <= 20


def test_history_is_labelled_as_it_is(simulation):
    agent, places, heads = simulation
    recording = from_ratinabox(agent, [places, heads])
    assert recording.layer.values.tolist() == ["place"] * 8 + ["head"] * 4
    assert recording.unit.values.tolist()[7:9] == ["place/7", "head/0"]
    assert recording.attrs["sample_rate"] == pytest.approx(10)
    np.testing.assert_allclose(recording.timestamp[0], agent.history["t"])
    np.testing.assert_array_equal(
        np.stack([recording.x[0], recording.y[0]], axis=1), agent.history["pos"]
    )
    np.testing.assert_allclose(
        recording.activation[0, :, :8], places.history["firingrate"], rtol=1e-6
    )
    assert (recording.x.units, recording.activation.units) == ("m", "Hz")


def test_head_direction_cells_have_their_preferred_direction(simulation):
    agent, _, heads = simulation
    recording = from_ratinabox(agent, heads)
    maps = rate_maps(recording, by="head_direction", bins=np.linspace(-np.pi, np.pi, 25))
    found = maps.rate.idxmax("head_direction").values
    off = np.angle(np.exp(1j * (found - heads.preferred_angles)))
    assert np.abs(off).max() < 2 * np.pi / 12


def test_spikes_are_a_rate(simulation):
    agent, places, _ = simulation
    recording = from_ratinabox(agent, places, activity="spikes")
    assert set(np.unique(recording.activation)) == {0, np.float32(10)}
    rates = np.mean(places.history["firingrate"], axis=0)
    np.testing.assert_allclose(recording.activation.mean(("walk", "time")), rates, rtol=0.3)


def test_one_dimension():
    agent = Agent(Environment({"dimensionality": "1D", "boundary_conditions": "periodic"}))
    places = PlaceCells(agent, {"n": 2})
    for _ in range(5):
        agent.update()
        places.update()
    recording = from_ratinabox(agent, places)
    assert set(recording.coords) >= {"x"}
    assert not set(recording.coords) & {"y", "head_direction"}


def test_histories_that_do_not_fit_are_refused():
    agent, other = (Agent(Environment(), {"dt": 0.1}) for _ in range(2))
    places = PlaceCells(agent, {"n": 2, "name": "place"})
    with pytest.raises(ValueError, match="at least two updates.* got 0 updates and 1 pop"):
        from_ratinabox(agent, places)
    for _ in range(4):
        agent.update()
        other.update()
    places.update()
    with pytest.raises(ValueError, match="'place' must be .* agent has 4 updates, the neurons 1"):
        from_ratinabox(agent, places)
    with pytest.raises(ValueError, match="'place' must belong to this agent"):
        from_ratinabox(other, places)
    with pytest.raises(ValueError, match="activity must be one of firingrate, spikes, got 'v'"):
        from_ratinabox(agent, places, activity="v")
