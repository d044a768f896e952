"""Untrained networks for tests, whose answers hang on what they see."""

import pytest
import torch

from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CONFIG = ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.1, "nmda", 2.0)


def randomised(model, seed=0):
    """Put every parameter well away from its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.empty_like(weight).normal_(0, 0.4, generator=generator))
    return model


def network(config, **world):
    """Matrices drawn from N(0, 1), no biases, and nothing said by the mask."""
    maps = GridWorld(**({"side": 4, "n_letters": config.n_letters, "n_maps": 3} | world))
    model = NavigationTransformer(config, maps).init_weights(0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.endswith(("bias", "norm.weight")):
                weight.copy_(torch.empty_like(weight).normal_(generator=generator))
        model.letter.weight[-1] = 0
    return model


SMALL = {
    "n_letters": 4, "d_model": 8, "n_layers": 2, "n_heads": 2, "d_head": 4, "d_inner": 12,
    "d_rnn": 8, "chunk": 8, "memory": 8, "dropout": 0.0,
}  # fmt: skip


def small_network(**activation):
    """Return a network of a few units, of a given activation function."""
    return network(ModelConfig(**SMALL, **activation))
