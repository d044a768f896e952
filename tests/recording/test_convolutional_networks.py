"""A convolutional network that sees rendered views of an arena and says where it is."""

import numpy as np
import pytest
import torch
from other_networks.visual import LAYERS, WALLS, network, of_layer, recorded, taught, views, walks

import placeformer as pf


@pytest.fixture(scope="module")
def trained():
    return taught()


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
        decoded = pf.decode_position(of_layer(recording, layer), n_shuffles=99)
        assert decoded.median_error < decoded.chance_error / 2
        assert decoded.p == 0.01
