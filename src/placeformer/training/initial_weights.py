"""Fine-tuning: the weights of another network as the start of a training, and their record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from placeformer.models.fingerprints import weights_sha256
from placeformer.models.network_checks import navigation_transformer
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.training.recipe import Recipe
from placeformer.zoo.config import FolderError
from placeformer.zoo.registry import is_zoo_name, load

IN_MEMORY = "in memory"
"""``[init] source`` of a network that was not loaded, or has changed since it was."""
SHOWN = 4  # tensors named in one error

Init = NavigationTransformer | str | os.PathLike[str]


def start_from(model: NavigationTransformer, init: Init | None, recipe: Recipe) -> Recipe:
    """Give a new network the weights that its training starts from.

    Parameters
    ----------
    model
        The network to be trained, whose weights are replaced.
    init
        Where the weights are from; by default the ``[init]`` of the recipe.
    recipe
        What is trained. Its ``[init]``, if there is one, must name these weights.

    Returns
    -------
    Recipe
        With ``[init]``: the source and the SHA-256 of the weights.
    """
    said = recipe.init
    if init is None:
        assert said is not None  # for the type checker
        if said["source"] == IN_MEMORY:
            raise ValueError(
                f"{recipe.name}: the recipe's [init] is a network that was in memory, so it cannot "
                "be loaded; pass it as init= (--init)"
            )
        init = load(said["source"], step=said.get("step"))
    source = navigation_transformer(
        "init",
        load(init) if isinstance(init, str | os.PathLike) else init,
        "train other networks with PyTorch itself",
    )
    weights = {name: weight.detach() for name, weight in source.state_dict().items()}
    check_shapes(model, source.config, weights)
    bad = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if bad:
        raise ValueError(f"init must have finite weights, got NaN or infinity in {bad[0]}")
    with torch.no_grad():
        model.load_state_dict(weights, strict=True)
    found = weights_sha256(model)
    if said is not None and found != said["weights_sha256"]:
        raise ValueError(
            f"init must have the weights of the recipe's [init] ({said['source']}), SHA-256 "
            f"{said['weights_sha256']}, got {found}; remove [init] from the recipe to start from "
            "other weights"
        )
    return replace(recipe, init=said or origin(source, found) | {"weights_sha256": found})


def check_shapes(
    model: NavigationTransformer, config: ModelConfig, weights: Mapping[str, Tensor]
) -> None:
    """Raise, with settings and tensors, if weights do not fit a network."""
    expected = model.state_dict()
    wrong = [
        f"{name}: expected {shape_of(expected, name)}, got {shape_of(weights, name)}"
        for name in [*expected, *(name for name in weights if name not in expected)]
        if shape_of(expected, name) != shape_of(weights, name)
    ]
    if not wrong:
        return
    sizes = [
        f"network.{f.name} = {getattr(model.config, f.name)}, got {getattr(config, f.name)}"
        for f in fields(ModelConfig)
        if f.type == "int" and getattr(model.config, f.name) != getattr(config, f.name)
    ]
    more = [f"and {len(wrong) - SHOWN} more tensors"] if len(wrong) > SHOWN else []
    lines = "".join(f"\n  - {line}" for line in [*sizes, *wrong[:SHOWN], *more])
    raise ValueError(f"init must have the sizes of the recipe's network:{lines}")


def shape_of(tensors: Mapping[str, Tensor], name: str) -> object:
    """Shape of a tensor, or that there is none."""
    return tuple(tensors[name].shape) if name in tensors else "no tensor"


def origin(network: NavigationTransformer, sha256: str) -> dict[str, Any]:
    """Return what loads a network with these weights again: its source, and the step of a snapshot.

    For a folder only its name is kept, since recipes are published.
    """
    info = network.info
    source, step = str(info.get("source", "")), info.get("step")
    snapshot = step is not None and is_zoo_name(source)
    try:
        if snapshot:
            same = weights_sha256(load(source, step=step)) == sha256
        else:
            same = "folder" in info and weights_sha256(load(Path(info["folder"]))) == sha256
    except FolderError:  # it no longer exists
        same = False
    if not same:
        return {"source": IN_MEMORY}
    if snapshot:
        return {"source": source, "step": step}
    return {"source": source if source.startswith("hf:") else str(info["name"])}
