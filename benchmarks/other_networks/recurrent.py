"""LSTM and GRU that integrate the path of an animal in a RatInABox arena."""

import numpy as np
import torch
import xarray as xr
from torch import nn

import placeformer as pf

WALKS, STEPS, UNITS, HELD_OUT = 52, 50, 64, 10

SEVEN = {"bins": 7}


class Integrator(nn.Module):
    """Network that receives a start and movements and outputs positions, with PyTorch's layers."""

    def __init__(self, kind):
        super().__init__()
        self.start = nn.Linear(2, UNITS)
        self.rnn = kind(2, UNITS, batch_first=True)
        self.place = nn.Linear(UNITS, 2)

    def forward(self, velocity, start):
        """Decoded position (walk, time, axis)."""
        h = self.start(start)[None]
        state = (h, h) if isinstance(self.rnn, nn.LSTM) else h
        return self.place(self.rnn(velocity, state)[0])


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
    """Rotated and mirrored paths: the arena is a square, so each path gives eight."""
    signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    turned = [(place - 0.5)[..., ::step] * np.float32(s) for step in (1, -1) for s in signs]
    return np.concatenate(turned) + np.float32(0.5)


def trained(network, place, n_steps=150):
    """Train a network on paths and return it."""
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
    """Record a network along paths."""
    velocity, start = feed(place)
    return pf.record(
        network,
        {"x": place[..., 0], "y": place[..., 1]},
        layers=["rnn", "place"],
        inputs={"velocity": velocity, "start": xr.DataArray(start, dims=("walk", "axis"))},
        progress=False,
    )


def before_and_after(kind, paths):
    """Recordings before and after training."""
    torch.manual_seed(0)
    network = Integrator(getattr(nn, kind))
    before = recorded(network, paths)
    return before, recorded(trained(network, mirrored(paths[:-HELD_OUT])), paths)


def hidden(recording):
    """Return the units of the recurrent layer."""
    return recording.isel(unit=(recording.layer == "rnn").values)


def beyond_chance(recording, statistic, least, **options):
    """Units whose score exceeds the usual limit and the scores of shuffles."""
    test = pf.shuffle_test(recording, statistic, n_shuffles=99, bins=8, **options)
    return int(((test.observed > least) & (test.q < 0.05)).sum())
