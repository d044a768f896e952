"""RatInABox: place cells are found where the simulation has put them."""

import numpy as np
import pytest

from placeformer.data.circular import circular_of, shortest
from placeformer.data.maps import maps_from_arrays
from placeformer.data.ratinabox import from_ratinabox
from placeformer.spatial.grid_properties import grid_properties
from placeformer.spatial.head_direction import head_direction
from placeformer.spatial.place_fields import place_fields
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.speed_score import speed_score

pytest.importorskip("ratinabox")
from ratinabox.Agent import Agent
from ratinabox.Environment import Environment
from ratinabox.Neurons import GridCells, HeadDirectionCells, PlaceCells, SpeedCell


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


def test_time_bins_hold_the_spikes_and_the_mean_place_and_direction(simulation):
    agent, places, _ = simulation
    fine = from_ratinabox(agent, places, activity="spikes")
    coarse = from_ratinabox(agent, places, activity="spikes", bin_size=0.5)
    by_five = (fine.activation * fine.dwell).values.reshape(1, 500, 5, 8).sum(axis=2)
    np.testing.assert_allclose(coarse.activation * coarse.dwell, by_five, atol=1e-6)
    np.testing.assert_allclose(coarse.dwell, 0.5)
    np.testing.assert_allclose(coarse.x[0], fine.x.values.reshape(500, 5).mean(axis=1))
    mean = np.exp(1j * fine.head_direction.values.reshape(500, 5)).mean(axis=1)
    np.testing.assert_allclose(coarse.head_direction[0], np.angle(mean), atol=1e-9)


def test_samples_at_rest_are_left_out(simulation):
    agent, places, _ = simulation
    recording = from_ratinabox(agent, places, min_speed=0.2)
    moving = recording.speed.values >= 0.2
    assert 0.05 < moving.mean() < 0.95
    np.testing.assert_array_equal(np.isfinite(recording.x), moving)
    own = np.linalg.norm(agent.history["vel"], axis=1)
    assert np.corrcoef(recording.speed[0], own)[0, 1] > 0.9


def test_the_ends_of_a_periodic_environment_meet():
    agent = Agent(
        Environment({"dimensionality": "1D", "boundary_conditions": "periodic", "scale": 0.5}),
        {"dt": 0.1, "speed_mean": 0.3, "speed_std": 0},
    )
    cell = PlaceCells(agent, {"n": 1})
    for _ in range(400):
        agent.update()
        cell.update()
    speed = from_ratinabox(agent, cell, min_speed=0.01).speed
    assert float(speed.max()) < 0.4
    fine, coarse = (from_ratinabox(agent, cell, bin_size=size).x.values[0] for size in (0.1, 0.4))
    apart = np.abs(coarse - fine[1::4])
    assert np.minimum(apart, 0.5 - apart).max() < 0.06
    assert np.all((coarse >= 0) & (coarse < 0.5))


def test_a_speed_cell_is_one_unit(simulation):
    agent = Agent(Environment(), {"dt": 0.1})
    cells = SpeedCell(agent), PlaceCells(agent, {"n": 2})
    for _ in range(20):
        agent.update()
        for cell in cells:
            cell.update()
    recording = from_ratinabox(agent, cells)
    assert recording.unit.values.tolist() == ["SpeedCell/0", "PlaceCells/0", "PlaceCells/1"]
    np.testing.assert_allclose(
        recording.activation[0, :, 0], np.array(cells[0].history["firingrate"])[:, 0], rtol=1e-6
    )


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


def test_the_spacing_of_grid_cells_is_that_of_the_simulation():
    scale = np.array([0.2, 0.24, 0.28, 0.32])
    grids = GridCells(Agent(Environment()), {"n": 4, "gridscale": scale})
    rates = grids.get_state(evaluate_at="all").reshape(4, 100, 100)
    maps = maps_from_arrays(rates, edges=np.linspace(0, 1, 101), position_units="m")
    found = grid_properties(maps)
    factor = found.spacing.values / scale
    np.testing.assert_allclose(factor, factor.mean(), rtol=0.05)
    # Its scale is the distance of fields, or the wavelength of the waves they are made of.
    assert min(abs(factor.mean() - 1), abs(factor.mean() * np.sqrt(3) / 2 - 1)) < 0.05
    assert (found.ellipticity < 1.1).all()
    assert (found.grid_score > 1).all()


def test_head_direction_cells_are_measured_and_tested(simulation):
    agent, places, heads = simulation
    recording = from_ratinabox(agent, [heads, places])
    assert circular_of(recording) == {"head_direction": 2 * np.pi}
    table = head_direction(recording, n_shuffles=99, progress=False)
    off = shortest(table.preferred_direction.values[: heads.n] - heads.preferred_angles, 2 * np.pi)
    assert np.abs(off).max() < 0.35  # the agent does not run equally often in all directions
    tuned = (table.p <= 0.05).values[: heads.n]
    assert tuned.all() and (table.mean_vector_length[: heads.n] > 0.4).all()


def test_speed_cells_follow_the_speed():
    agent = Agent(Environment(), {"dt": 0.1})
    cells = SpeedCell(agent), PlaceCells(agent, {"n": 4})
    for _ in range(3000):
        agent.update()
        for cell in cells:
            cell.update()
    table = speed_score(from_ratinabox(agent, cells), n_shuffles=99, progress=False)
    assert table.speed_score[0] > 0.8 > np.abs(table.speed_score[1:]).max()
    assert table.p[0] <= 0.05


def test_a_periodic_environment_is_circular():
    agent = Agent(
        Environment({"dimensionality": "1D", "boundary_conditions": "periodic", "scale": 0.5}),
        {"dt": 0.1, "speed_mean": 0.3, "speed_std": 0},
    )
    cell = PlaceCells(agent, {"n": 1})
    for _ in range(400):
        agent.update()
        cell.update()
    recording = from_ratinabox(agent, cell)
    assert circular_of(recording) == {"x": 0.5}
    maps = rate_maps(recording, by="x", bins=20)
    np.testing.assert_allclose(maps.x_edges[[0, -1]], [0, 0.5])
    assert place_fields(maps).n_fields.item() <= 1  # also where it lies across the seam
