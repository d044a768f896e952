"""SHA-256 of a network's weights and of a Dataset, by which a recording knows what it is of."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

BLOCK = 2**26
"""Bytes of a Dataset that are read at once."""


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names and bytes of all parameters and persistent buffers, by name."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode())
        if isinstance(weight, Tensor):
            flat = weight.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def dataset_sha256(dataset: xr.Dataset) -> str:
    """SHA-256 over the names, dimensions, types and values of all variables, by name."""
    digest = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        variable = dataset.variables[name]
        digest.update(f"{name} {variable.dims} {variable.dtype} {variable.shape}".encode())
        length = variable.shape[0] if variable.ndim else 1
        rows = max(1, BLOCK * length // max(variable.nbytes, 1))
        for first in range(0, length, rows):
            digest.update(_bytes(variable[first : first + rows] if variable.ndim else variable))
    return digest.hexdigest()


def _bytes(variable: xr.Variable) -> bytes:
    values = np.asarray(variable.values)
    return repr(values.tolist()).encode() if values.dtype.kind in "OT" else values.tobytes()
