"""A convolutional network that decodes position from rendered views of an arena."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import nn

import placeformer as pf

WALLS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)

"""Colours of the walls at the left, right, bottom and top."""

LAYERS = {"1": "conv 1", "3": "conv 2", "6": "dense"}


def walks(n_walks, n_steps, seed):
    """Smooth paths in the unit square: x, y and heading (walk, time)."""
    rng = np.random.default_rng(seed)
    way = gaussian_filter1d(rng.normal(0, 0.05, (n_walks, n_steps, 2)), 3, axis=1).cumsum(1)
    place = 0.02 + 0.96 * np.abs((rng.random((n_walks, 1, 2)) + way + 1) % 2 - 1)
    x, y = np.moveaxis(place, 2, 0)
    return x, y, np.arctan2(np.gradient(y, axis=1), np.gradient(x, axis=1))


def views(x, y, heading, width=32, height=12):
    """Views (..., colour, row, column): a field of view of 115 degrees, walls higher when near."""
    angle = heading[..., None] + np.linspace(-1, 1, width)
    along, up = np.cos(angle), np.sin(angle)
    to_side = ((along > 0) - x[..., None]) / along
    to_end = ((up > 0) - y[..., None]) / up
    wall = np.where(to_side < to_end, 0 + (along > 0), 2 + (up > 0))
    tall = 0.3 / np.minimum(to_side, to_end)
    seen = np.abs(np.linspace(-1, 1, height))[:, None] < tall[..., None, :]
    return np.moveaxis(WALLS[wall], -1, -2)[..., None, :] * seen[..., None, :, :]


def network():
    """A small convolutional network with random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(16 * 3 * 8, 32),
        nn.ReLU(inplace=True),
        nn.Linear(32, 2),
    )


def taught():
    """A network that has learnt to output its position."""
    x, y, heading = walks(100, 50, 0)
    images = torch.from_numpy(views(x, y, heading)).flatten(0, 1)
    target = torch.from_numpy(np.stack([x, y], -1).astype(np.float32)).flatten(0, 1)
    net, rng = network(), np.random.default_rng(0)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(300):
        batch = rng.integers(0, len(images), 64)
        error = nn.functional.mse_loss(net(images[batch]), target[batch])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return net


def forward(module, batch):
    """Run the network on a batch of views."""
    module(torch.from_numpy(batch["views"].values).flatten(0, 1))


def recorded(net, blind=False, layers=tuple(LAYERS)):
    """Record a network along walks, or on blank views if it is blind."""
    x, y, heading = walks(40, 100, 1)
    seen = views(x, y, heading)
    return pf.record(
        net,
        {"x": x, "y": y, "heading": heading},
        layers=layers,
        inputs={"views": np.zeros_like(seen) if blind else seen},
        forward=forward,
        progress=False,
    )


def of_layer(dataset, layer):
    """Return the units of one layer."""
    return dataset.isel(unit=(dataset.layer == layer).values)
