"""LSTM and GRU of PyTorch that integrate the paths of an animal in a RatInABox arena."""

import numpy as np
import pytest
from other_networks.recurrent import (
    HELD_OUT,
    SEVEN,
    STEPS,
    UNITS,
    WALKS,
    before_and_after,
    beyond_chance,
    hidden,
    run_about,
)

import placeformer as pf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paths():
    pytest.importorskip("ratinabox")
    return run_about()


@pytest.fixture(scope="module", params=["LSTM", "GRU"])
def pair(request, paths):
    return before_and_after(request.param, paths)


def test_every_unit_stands_beside_the_path(pair, paths):
    for recording in pair:
        assert dict(recording.sizes) == {"walk": WALKS, "time": STEPS, "unit": UNITS + 2}
        np.testing.assert_array_equal(np.stack([recording.x, recording.y], -1), paths)
        assert "start" not in recording
        assert list(dict.fromkeys(recording.layer.values)) == ["rnn", "place"]


def test_the_trained_network_knows_where_it_is(pair, paths):
    said = pair[1].activation.values[-HELD_OUT:, :, -2:]
    error = np.median(np.linalg.norm(said - paths[-HELD_OUT:], axis=-1))
    decoded = pf.decode_position(hidden(pair[1]), n_shuffles=99)
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
    assert (cells.q_place < 0.05).sum() > 3 / 4 * UNITS
    assert cells.is_place_cell.sum() < UNITS / 3
    maps = pf.rate_maps(hidden(pair[1]), **SEVEN).rate.values.reshape(UNITS, -1)
    y, x = np.mgrid[:7, :7].reshape(2, -1)
    ramp = np.stack([np.ones(49), x, y], axis=1)
    left = maps - maps @ np.linalg.pinv(ramp).T @ ramp.T
    assert np.median(1 - left.var(axis=1) / maps.var(axis=1)) > 0.75


def test_no_grid_or_border_cells_are_found(pair):
    assert beyond_chance(hidden(pair[1]), "grid_score", 0.37) == 0
    assert beyond_chance(hidden(pair[1]), "border_score", 0.5, negatives="shift") == 0
