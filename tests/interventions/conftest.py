"""A network, a walk and Recordings of it, for lesions and other perturbations."""

from dataclasses import replace

import pytest
from helpers import networks

from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.record import record


@pytest.fixture(scope="module")
def model():
    config = replace(networks.CONFIG, dropout=0.0)
    network = NavigationTransformer(config, GridWorld(4, 10, 3, seed=0)).init_weights(0).eval()
    return networks.randomised(network)


@pytest.fixture(scope="module")
def walk(model):
    return model.world.walk(3, 12, seed=1)


@pytest.fixture(scope="module")
def reference(model):
    """Query and letter stream, every layer."""
    size = {"n_walks": 6, "n_steps": 40, "maps": range(3), "seed": 5, "progress": False}
    streams = (["ffn.*", "attention.*", "position"], "content.*")
    return [record(model, layers=layers, **size) for layers in streams]
