"""LSTM and GRU of PyTorch that integrate the paths of an animal in a RatInABox arena."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import placeformer as pf

pytestmark = pytest.mark.slow

WALKS, STEPS, UNITS, HELD_OUT = 52, 50, 64, 10
SEVEN = {"bins": 7}


class Integrator(nn.Module):
    """Where it starts and how it moves in, where it is out; all of it PyTorch's own."""

    def __init__(self, kind):
        super().__init__()
        self.start = nn.Linear(2, UNITS)
        self.rnn = kind(2, UNITS, batch_first=True)
        self.place = nn.Linear(UNITS, 2)

    def forward(self, velocity, start):
        h = self.start(start)[None]
        state = (h, h) if isinstance(self.rnn, nn.LSTM) else h
        return self.place(self.rnn(velocity, state)[0])


@pytest.fixture(scope="module")
def paths():
    pytest.importorskip("ratinabox")
    return run_about()


def run_about():
    """Positions (walk, time, axis) in m, of one animal."""
    from ratinabox.Agent import Agent
    from ratinabox.Environment import Environment

    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002 (RatInABox draws from the global state)
    agent = Agent(Environment(), {"dt": 0.1, "speed_mean": 0.2})
    for _ in range(WALKS * STEPS):
        agent.update()
    np.random.set_state(state)  # noqa: NPY002
    return np.float32(agent.history["pos"]).reshape(-1, STEPS, 2)


def feed(place):
    """Steps in units of their mean, and starts."""
    return np.diff(place, axis=1, prepend=place[:, :1]) / np.float32(0.013), place[:, 0]


def mirrored(place):
    """Paths turned and mirrored: the arena is a square, so that each makes eight."""
    signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    turned = [(place - 0.5)[..., ::step] * np.float32(s) for step in (1, -1) for s in signs]
    return np.concatenate(turned) + np.float32(0.5)


def trained(network, place, n_steps=150):
    rng = np.random.default_rng(0)
    velocity, start, target = (torch.from_numpy(a) for a in (*feed(place), place))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(n_steps):
        walks = rng.integers(0, len(place), 64)
        error = nn.functional.mse_loss(network(velocity[walks], start[walks]), target[walks])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return network


def recorded(network, place):
    velocity, start = feed(place)
    return pf.record(
        network,
        {"x": place[..., 0], "y": place[..., 1]},
        layers=["rnn", "place"],
        inputs={"velocity": velocity, "start": xr.DataArray(start, dims=("walk", "axis"))},
        progress=False,
    )


@pytest.fixture(scope="module", params=["LSTM", "GRU"])
def pair(request, paths):
    return before_and_after(request.param, paths)


def before_and_after(kind, paths):
    """Recordings before and after training."""
    torch.manual_seed(0)
    network = Integrator(getattr(nn, kind))
    before = recorded(network, paths)
    return before, recorded(trained(network, mirrored(paths[:-HELD_OUT])), paths)


def hidden(recording):
    return recording.isel(unit=(recording.layer == "rnn").values)


def beyond_chance(recording, statistic, least, **options):
    """Units whose score exceeds the usual limit and what shuffles reach."""
    test = pf.shuffle_test(recording, statistic, n_shuffles=99, bins=8, **options)
    return int(((test.observed > least) & (test.q < 0.05)).sum())


def test_every_unit_stands_beside_the_path(pair, paths):
    for recording in pair:
        assert dict(recording.sizes) == {"walk": WALKS, "time": STEPS, "unit": UNITS + 2}
        np.testing.assert_array_equal(np.stack([recording.x, recording.y], -1), paths)
        assert "start" not in recording
        assert list(dict.fromkeys(recording.layer.values)) == ["rnn", "place"]


def test_the_trained_network_knows_where_it_is(pair, paths):
    said = pair[1].activation.values[-HELD_OUT:, :, -2:]
    error = np.median(np.linalg.norm(said - paths[-HELD_OUT:], axis=-1))
    decoded = pf.decode_position(hidden(pair[1]), n_resamples=99)
    assert error < 0.06
    assert decoded.median_error < 0.04 < 0.3 < decoded.chance_error
    assert decoded.p == 0.01


def test_no_unit_of_the_untrained_network_is_tuned_to_place(pair):
    cells = pf.place_cells(hidden(pair[0]), n_shuffles=200, **SEVEN)
    assert set(cells.reason.values) == {"not tuned to place"}
    assert beyond_chance(hidden(pair[0]), "grid_score", 0.37) == 0
    assert beyond_chance(hidden(pair[0]), "border_score", 0.5) == 0


def test_the_trained_units_are_ramps_and_few_are_place_cells(pair):
    cells = pf.place_cells(hidden(pair[1]), n_shuffles=200, **SEVEN)
    assert (cells.q_circular < 0.05).sum() > 3 / 4 * UNITS
    assert cells.is_place_cell.sum() < UNITS / 3
    maps = pf.rate_maps(hidden(pair[1]), **SEVEN).rate.values.reshape(UNITS, -1)
    y, x = np.mgrid[:7, :7].reshape(2, -1)
    ramp = np.stack([np.ones(49), x, y], axis=1)
    left = maps - maps @ np.linalg.pinv(ramp).T @ ramp.T
    assert np.median(1 - left.var(axis=1) / maps.var(axis=1)) > 0.75


def test_no_grid_or_border_cells_are_found(pair):
    assert beyond_chance(hidden(pair[1]), "grid_score", 0.37) == 0
    assert beyond_chance(hidden(pair[1]), "border_score", 0.5, negatives="shift") == 0
