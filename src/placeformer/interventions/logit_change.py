"""How much a lesion of feed-forward units moves the logits along the direct path to the read-out.

A lesion of a set of units by their means adds -W s (h - mean h) to the residual stream, with W the
output weights of the layer and s the mask of the set. The final LayerNorm removes the mean over the
stream and multiplies by its gain, and the read-out turns the result into logits, of which only
differences matter. With R for these linear steps, the expected squared change of the logits is
s'Ks, with K = (RW)'(RW) ∘ Cov(h); for a single unit it is an entry of the diagonal of K. The
formula leaves out the change of the LayerNorm's divisor and, for layers before the last, all paths
through later layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.models.transformer import Layer, NavigationTransformer

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def logit_kernels(model: NavigationTransformer, units: xr.Dataset) -> dict[str, Floats]:
    """K = (RW)'(RW) ∘ Cov(h) of the recorded units of every layer, (unit, unit).

    Parameters
    ----------
    model
        The network.
    units
        Recording of feed-forward units of the query stream.
    """
    layer, index = units["layer"].values, units["index"].values
    kernels = {}
    for name in dict.fromkeys(layer):
        here = np.flatnonzero(layer == name)
        weights = logit_weights(model, str(name))[:, index[here]]
        kernels[str(name)] = (weights.T @ weights) * covariance(units.isel(unit=here))
    return kernels


def logit_weights(model: NavigationTransformer, layer: str) -> Floats:
    """Weights RW (letter, unit) from the units of a layer to the centred logits."""
    ffn = cast(Layer, model.layers[int(layer.rpartition(".")[2])]).ffn
    read_out, gain, output = (
        weight.detach().cpu().double().numpy()
        for weight in (model.read_out.weight, model.norm.weight, ffn.fc2.weight)
    )
    stream = gain[:, None] * (output - output.mean(0))
    logits: Floats = read_out @ stream
    return logits - logits.mean(0)


def covariance(units: xr.Dataset) -> Floats:
    """Covariance of recorded units over all walks and steps, (unit, unit)."""
    activation = units[schema.ACTIVATION].transpose(schema.WALK, schema.TIME, schema.UNIT)
    mean = activation.mean((schema.WALK, schema.TIME), dtype=float).values
    total = np.zeros((mean.size, mean.size))
    for walk in activation:  # float32 products of one walk, added up in float64
        deviation = (walk.values - mean).astype(np.float32)
        total += deviation.T @ deviation
    return total / (activation.sizes[schema.WALK] * activation.sizes[schema.TIME])


def logit_change(kernels: Mapping[str, Floats], layer: NDArray[np.str_], sets: Bools) -> Floats:
    """Expected squared change of the logits s'Ks of sets (..., unit), summed over layers."""
    change = np.zeros(sets.shape[:-1])
    for name, kernel in kernels.items():
        s = sets[..., layer == name].astype(float)
        change += ((s @ kernel) * s).sum(-1)
    return change
