"""Errors for what is not a network, or not of the right kind, that say what to do instead."""

from __future__ import annotations

import os
from typing import Any

import xarray as xr
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from placeformer.models.transformer import NavigationTransformer


def check_module(argument: str, value: Any) -> nn.Module:
    """Return a network of any class; raise TypeError for anything else."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"{argument} must be a torch.nn.Module, got {found(value)}")
    return value


def navigation_transformer(argument: str, value: Any, instead: str) -> NavigationTransformer:
    """Return a navigation Transformer, from inside ``torch.compile`` or DataParallel if need be.

    Parameters
    ----------
    argument
        Name of the argument, for the error.
    value
        What was passed.
    instead
        What to do with a network of another class, for the error.

    Raises
    ------
    TypeError
        `value` is something else.
    """
    network = unwrapped(value) if isinstance(value, nn.Module) else value
    if isinstance(network, NavigationTransformer):
        return network
    how = f"; {instead}" if isinstance(value, nn.Module) else ""
    raise TypeError(f"{argument} must be a NavigationTransformer, got {found(value)}{how}")


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, DataParallel and DistributedDataParallel."""
    inner = getattr(network, "_orig_mod", None)  # of torch.compile
    if isinstance(network, nn.DataParallel | DistributedDataParallel):
        inner = network.module
    return unwrapped(inner) if isinstance(inner, nn.Module) else network


def found(value: Any) -> str:
    """Say what was passed in place of a network, and how to get a network from it."""
    if isinstance(value, str | os.PathLike):
        return f"{os.fspath(value)!r:.80}, a name or path; pass pf.load of it"
    if isinstance(value, xr.Dataset):
        return "a Dataset (a Recording?); pass the network itself"
    if isinstance(value, type):
        return f"the class {value.__name__}; pass a network of it"
    return type(value).__name__
