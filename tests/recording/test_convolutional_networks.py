"""A convolutional network that sees rendered views of an arena and says where it is."""

import numpy as np
import pytest
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
    """What is seen (..., colour, row, column): walls 115 degrees wide, higher when near."""
    angle = heading[..., None] + np.linspace(-1, 1, width)
    along, up = np.cos(angle), np.sin(angle)
    to_side = ((along > 0) - x[..., None]) / along
    to_end = ((up > 0) - y[..., None]) / up
    wall = np.where(to_side < to_end, 0 + (along > 0), 2 + (up > 0))
    tall = 0.3 / np.minimum(to_side, to_end)
    seen = np.abs(np.linspace(-1, 1, height))[:, None] < tall[..., None, :]
    return np.moveaxis(WALLS[wall], -1, -2)[..., None, :] * seen[..., None, :, :]


def network():
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


@pytest.fixture(scope="module")
def trained():
    return taught()


def taught():
    """A network that has learnt to say where it is."""
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
    module(torch.from_numpy(batch["views"].values).flatten(0, 1))


def recorded(net, blind=False, layers=tuple(LAYERS)):
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
    return dataset.isel(unit=(dataset.layer == layer).values)


def test_views_are_those_of_the_wall_ahead():
    ahead = views(np.float64(0.25), np.float64(0.5), np.float64(np.pi))
    np.testing.assert_array_equal(ahead[:, 6, 16], WALLS[0])
    behind = views(np.float64(0.25), np.float64(0.5), np.float64(1e-9))
    np.testing.assert_array_equal(behind[:, 6, 16], WALLS[1])
    assert ahead[0, :, 16].sum() > behind[1, :, 16].sum()  # nearer walls are taller


def test_feature_maps_become_units_in_the_order_of_the_network():
    net = network()
    got = recorded(net)
    assert [int((got.layer == layer).sum()) for layer in LAYERS] == [8 * 6 * 16, 16 * 3 * 8, 32]
    x, y, heading = walks(40, 100, 1)
    with torch.no_grad():
        want = net[:2](torch.from_numpy(views(x, y, heading)[3]))
    first = of_layer(got, "1").activation[3]
    np.testing.assert_array_equal(first, want.flatten(1))
    assert first.min() == 0
    assert "views" not in got


def test_a_network_that_sees_nothing_of_the_arena_has_no_place_cells(trained):
    blind = recorded(trained, blind=True, layers="6")
    cells = pf.place_cells(blind, bins=8, n_shuffles=50)
    assert set(cells.reason.values) == {"constant"}


def test_random_filters_have_place_cells_already():
    cells = pf.place_cells(recorded(network(), layers="1"), bins=8, n_shuffles=99)
    assert cells.is_place_cell.sum() > 100


def test_training_trades_heading_for_place(trained):
    before, after = recorded(network()), recorded(trained)
    for recording, more in ((before, "heading"), (after, "place")):
        dense = of_layer(recording, "6")
        place = pf.position_variance_explained(dense, bins=8).median()
        heading = pf.position_variance_explained(dense, by="heading", bins=16).median()
        assert (heading > 2 * place) if more == "heading" else (place > 5 * heading)


def test_place_is_read_from_every_layer(trained):
    recording = recorded(trained)
    for layer in LAYERS:
        decoded = pf.decode_position(of_layer(recording, layer), n_resamples=99)
        assert decoded.median_error < decoded.chance_error / 2
        assert decoded.p == 0.01
