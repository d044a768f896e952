"""Snapshots: the weights of a network at chosen steps of its training, float16 and hashed.

A run's folder holds ``snapshots/step-000800.safetensors`` and so on, and the step and SHA-256 of
every file in ``snapshots/manifest.json``. A file states the settings of its network and world, so
that it can be read alone; the α is the one that was in force.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from placeformer._atomic import atomic_file
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.zoo.config import (
    LIBRARY,
    NETWORK,
    FolderError,
    check_section,
    check_world,
    exact,
    facts,
    parse,
    refuse,
)
from placeformer.zoo.files import FileProblem, open_regular
from placeformer.zoo.weights import compare_shapes, shapes, weights_of

SNAPSHOTS, MANIFEST = "snapshots", "manifest.json"
DTYPE = "float16"


def file_name(step: int) -> str:
    """Name of the file of a snapshot."""
    return f"step-{step:06d}.safetensors"


def save_snapshot(model: NavigationTransformer, run: Path, step: int) -> Path:
    """Write the weights in float16 and list them in the manifest.

    A run that resumes from a checkpoint before the snapshot writes the same file again.

    Parameters
    ----------
    model
        The network after `step` steps.
    run
        Folder of the run; the file goes to its sub-folder ``snapshots``.
    step
        Steps taken.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ValueError
        If a weight is not finite, or is too large for float16.
    """
    folder = run / SNAPSHOTS
    content = packed(model, f"{folder}: step {step}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / file_name(step)
    with atomic_file(file) as temporary:
        temporary.write_bytes(content)
    hashes = read_manifest(folder) | {step: hashlib.sha256(content).hexdigest()}
    entries = {file_name(s): {"step": s, "sha256": hashes[s]} for s in sorted(hashes)}
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return file


def packed(model: NavigationTransformer, what: str) -> bytes:
    """Content of the file of a snapshot, the same for the same weights; `what` is for errors."""
    problems: list[str] = []
    weights: dict[str, torch.Tensor] = weights_of(model, DTYPE, problems)
    refuse(what, problems)
    world = None if model.world is None else model.world.settings
    settings = facts(exact(asdict(model.config)), world)
    return save(weights, {LIBRARY: json.dumps(settings)})


def check_pin(model: NavigationTransformer, sha256: str, name: str, step: int) -> None:
    """Raise if a network, wherever it is from, is not the snapshot with this checksum."""
    found = hashlib.sha256(packed(model, name)).hexdigest()
    if found != sha256:
        raise FolderError(
            f"{name} at step {step} must have the sha256 that the package has pinned, {sha256}, "
            f"got {found}: the weights, the network or the world differ"
        )


def read_manifest(folder: Path) -> dict[int, str]:
    """Read the SHA-256 of every snapshot of a folder, by step; empty without a manifest.

    Raises
    ------
    FolderError
        The file is not a manifest.
    """
    file = folder / MANIFEST
    if not file.exists():
        return {}
    try:
        with open_regular(file) as stream:
            entries = parse(stream.read().decode())
        found = {entry["step"]: entry["sha256"] for entry in entries.values()}
        names = {file_name(step) for step in found}
        if names != entries.keys() or not all(type(step) is int and step >= 0 for step in found):
            raise ValueError(f"the files {', '.join(entries)}")
        if not all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in found.values()):
            raise ValueError("a sha256 that is not 64 digits 0–9a–f")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FolderError(
            f"{file} must list snapshots, each with its step and sha256, got {error!r:.200}; "
            "train again to write a new one"
        ) from error
    return dict(sorted(found.items()))


def read_snapshot(folder: Path, step: int, sha256: str, name: str) -> NavigationTransformer:
    """Read one snapshot; anything that is not exactly as expected raises.

    Parameters
    ----------
    folder
        Where the files are.
    step
        Step of the training.
    sha256
        Checksum that the file must have.
    name
        Name of the network, for its `info` and errors.

    Returns
    -------
    NavigationTransformer
        float32, in eval mode, with `world` and `info`: name, step, source, alpha, parameters,
        sha256, dtype.

    Raises
    ------
    FolderError
        The file is missing, altered or of another network.
    """
    file = folder / file_name(step)
    try:
        with open_regular(file, None) as stream:
            content = stream.read()
    except FileProblem as error:
        raise FolderError(f"{name} at step {step} cannot be loaded: {file}: {error}") from error
    found, problems = hashlib.sha256(content).hexdigest(), list[str]()
    if found != sha256:
        raise FolderError(
            f"{name} at step {step} cannot be loaded: {file}: expected sha256 {sha256}, got "
            f"{found}; the file was altered or is of another step"
        )
    config, world = settings_of(content, problems)
    refuse(f"{file} cannot be loaded", problems)
    assert config is not None  # for the type checker: None comes with a problem
    weights = load_tensors(content)
    compare_shapes({k: tuple(v.shape) for k, v in weights.items()}, shapes(config, None), problems)
    problems += [
        f"{name}: expected finite weights, got NaN or infinity"
        for name, values in weights.items()
        if not values.isfinite().all()
    ]
    refuse(f"{file} cannot be loaded", problems)
    try:
        grid = None if world is None else GridWorld(**world)
    except ValueError as error:
        raise FolderError(f"{file} cannot be loaded: world: {error}") from error
    with torch.device("meta"):
        model = NavigationTransformer(config, grid)
    floats = {key: weight.float() for key, weight in weights.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    model.info = {
        "name": f"{name}@step-{step}",
        "step": step,
        "source": name,
        "alpha": config.alpha,
        "parameters": sum(weight.numel() for weight in floats.values()),
        "sha256": sha256,
        "dtype": DTYPE,
        "results": {},
        "definitions": {},
    }
    return model.requires_grad_().eval()


def settings_of(
    content: bytes, problems: list[str]
) -> tuple[ModelConfig | None, Mapping[str, Any] | None]:
    """Network and world that a snapshot states; what is wrong is added to `problems`."""
    try:
        length = int.from_bytes(content[:8], "little")
        stated = parse(parse(content[8 : 8 + length].decode())["__metadata__"][LIBRARY])
        deserialize(content)  # a whole file
        tables: dict[str, dict[str, Any]] = {"network": {}, "world": {}}
        for key, value in stated.items():
            table, _, entry = key.partition(".")
            tables[table][entry] = value
        network = tables["network"]
        given = None if tables["world"] == {"": None} else tables["world"]
        right = check_section(network, NETWORK, "network", problems)
        if given is not None:
            right = check_world(given, problems) and right
        return (exact(network) if right else None), given
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        problems.append(f"expected a whole safetensors file that states its network, got {error!r}")
        return None, None


def check_step(step: Any, steps: Sequence[int] | None, name: str, others: str = "") -> None:
    """Raise for a step without a snapshot, naming those there are; None: only check the kind."""
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 0:
        raise ValueError(f"step must be a whole number of training steps, 0 or more, got {step!r}")
    if steps is not None and not steps:
        raise ValueError(
            f"step must be None for {name}, which has no snapshots, got {step}"
            + (f"; {others}" if others else "")
        )
    if steps is not None and step not in steps:
        raise ValueError(
            f"step must be one of the snapshots of {name}, {', '.join(map(str, steps))}, got {step}"
        )
