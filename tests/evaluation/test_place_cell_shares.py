"""Shares of place cells: counted by layer, of planted units, on trained and on novel maps."""

import numpy as np
import xarray as xr
from helpers.networks import CONFIG, randomised

from placeformer.evaluation import profiles as shares
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import NavigationTransformer


def test_what_is_recorded_differs_in_the_maps_alone():
    model = randomised(NavigationTransformer(CONFIG, GridWorld(4, 10, 3, seed=0))).eval()
    trained, novel = shares.recorded(model, n_walks=3, n_steps=20, maps=(1,), seed=4)
    assert trained["familiar"].all() and not novel["familiar"].any()
    np.testing.assert_array_equal(trained["x"], novel["x"])
    assert set(trained["layer"].values) == {"ffn.0", "ffn.1"}
    assert (trained["map"] == 1).all()


def test_planted_place_cells_are_counted_in_their_layer(monkeypatch):
    decided = xr.Dataset(
        {
            "is_place_cell": ("unit", [True, True, False, False, False, False]),
            "control_is_place_cell": ("unit", [False, True, False, False, False, True]),
            "depends_on_memory": ("unit", [True, False, False, False, False, False]),
        }
    )
    layers = xr.Dataset(coords={"layer": ("unit", ["a", "a", "a", "a", "b", "b"])})
    novel = layers.copy()

    def decide(recording, *, control, per_map, n_shuffles, cell_types, seed, progress):
        assert recording is layers and control is novel
        assert (per_map, n_shuffles, seed) == (True, 7, 3)
        return decided

    monkeypatch.setattr(shares, "place_cells", decide)
    found = shares.place_cell_shares(shares.Recordings(layers, novel), n_shuffles=7, seed=3)
    share = found["place_cell_fraction"]
    assert share.sel(maps="trained").to_series().to_dict() == {"a": 0.5, "b": 0.0}
    assert share.sel(maps="novel").to_series().to_dict() == {"a": 0.25, "b": 0.5}
    assert found["memory_dependent_fraction"].to_series().to_dict() == {"a": 0.25, "b": 0.0}
