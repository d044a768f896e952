"""The weight file ``model.safetensors``, with checks of names, shapes, dtypes and values."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.zoo.classes import check_modules
from placeformer.zoo.config import (
    CONFIG,
    LIBRARY,
    WEIGHTS,
    Description,
    FolderError,
    NavigationDescription,
    brief,
    n_places,
    parse,
)
from placeformer.zoo.files import SUMS, FileProblem, opened

TORCH = {"float16": torch.float16, "float32": torch.float32}
CODES = {"float16": "F16", "float32": "F32", "uint8": "U8"}  # names in safetensors
MAPS = ("world.maps", "world.novel_maps")
HEADER = 2**24  # bytes; upper limit of our headers


def outer_and_layer_shapes(
    config: ModelConfig, world: Mapping[str, Any] | None
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Name and shape of every stored tensor outside the layers, and of those of one layer.

    They are taken from a network with one layer on PyTorch's "meta" device, whose tensors have a
    shape but no memory, so that the sizes in `config` cannot exhaust it.

    Raises
    ------
    OverflowError
        A tensor would have more than 2**63 bytes.
    """
    try:
        with torch.device("meta"):
            model = NavigationTransformer(replace(config, n_layers=1))
    except (RuntimeError, TypeError) as error:  # PyTorch raises either one, depending on the size
        raise OverflowError(
            "network: expected tensors of fewer than 2**63 bytes, got more"
        ) from error
    outer: dict[str, tuple[int, ...]] = {
        name: tuple(weight.shape) for name, weight in model.state_dict().items()
    }
    layer = {name: outer.pop(f"layers.0.{name}") for name in model.layers[0].state_dict()}
    if world is not None:
        outer |= dict.fromkeys(MAPS, (world["n_maps"], n_places(world)))
    return outer, layer


def shapes(config: ModelConfig, world: Mapping[str, Any] | None) -> dict[str, tuple[int, ...]]:
    """Name and shape of every stored tensor, without allocating any."""
    outer, layer = outer_and_layer_shapes(config, world)
    return outer | {
        f"layers.{i}.{name}": shape for i in range(config.n_layers) for name, shape in layer.items()
    }


class Layout(Protocol):
    """What a weight file must hold, according to ``config.json``."""

    @property
    def said(self) -> Description:
        """What ``config.json`` says."""

    def check_size(self, size: int, problems: list[str]) -> bool:
        """Compare the size of the file, without taking memory; True if it fits."""

    def check_header(self, stream: Any, problems: list[str]) -> None:
        """Check names, shapes and dtypes of the tensors, and the settings stored with them."""

    def check_values(self, tensors: Mapping[str, Tensor], problems: list[str]) -> None:
        """Check the values of the tensors."""


class NavigationLayout:
    """Tensors of a :class:`NavigationTransformer` and its world."""

    def __init__(self, said: NavigationDescription) -> None:
        self.said = said

    def check_size(self, size: int, problems: list[str]) -> bool:
        """Compare the size of a weight file with the sizes in ``config.json``; True if it fits.

        Tensors are listed one by one only if it fits, so a malicious `n_layers` cannot exhaust
        memory.
        """
        try:
            outer, layer = outer_and_layer_shapes(self.said.network, self.said.world)
        except OverflowError as error:
            problems.append(f"{CONFIG}: {error}")
            return False
        bytes_each = 2 if self.said.dtype == "float16" else 4
        maps = sum(math.prod(outer.pop(name)) for name in MAPS if name in outer)
        layers = self.said.network.n_layers * sum(map(math.prod, layer.values()))
        least = bytes_each * (layers + sum(map(math.prod, outer.values()))) + maps
        return is_about(size, least, problems)

    def check_header(self, stream: Any, problems: list[str]) -> None:
        """Check names, shapes and dtypes of the tensors, and the settings stored with them."""
        names = stream.keys()
        slices = {name: stream.get_slice(name) for name in names}
        if self.said.network.n_layers > len(slices):
            problems.append(
                f"{WEIGHTS}: expected the tensors of {self.said.network.n_layers} layers, "
                f"got {len(slices)} tensors in all"
            )
            return
        expected = shapes(self.said.network, self.said.world)
        compare_shapes({k: tuple(s.get_shape()) for k, s in slices.items()}, expected, problems)
        for name in expected.keys() & slices.keys():
            code = CODES["uint8" if name in MAPS else self.said.dtype]
            check_dtype(name, code, slices[name].get_dtype(), problems)
        check_facts(stream.metadata() or {}, self.said, problems)

    def check_values(self, tensors: Mapping[str, Tensor], problems: list[str]) -> None:
        """Check that weights are finite and that letters exist in the world."""
        n_letters = self.said.network.n_letters
        for name, tensor in tensors.items():
            if name in MAPS:
                check_letters(f"{WEIGHTS}: {name}", tensor.numpy(), n_letters, problems)
            elif not tensor.isfinite().all():
                problems.append(f"{WEIGHTS}: {name}: expected finite weights, got NaN or infinity")


def check_dtype(name: str, expected: str, found: str, problems: list[str]) -> None:
    """Compare the dtype of a tensor with the one it must have, by their codes in safetensors."""
    if found != expected:
        problems.append(f"{WEIGHTS}: {name}: expected dtype {expected}, got {found}")


def is_about(size: int, least: int, problems: list[str]) -> bool:
    """Whether a weight file has as many bytes as its tensors and a header."""
    if least <= size <= least + HEADER:
        return True
    problems.append(
        f"{WEIGHTS}: expected about {least:,} bytes (the sizes in {CONFIG}), got {size:,}"
    )
    return False


def exact_dtype(model: NavigationTransformer) -> str:
    """Return the smallest dtype that stores every weight without rounding."""
    weights = model.state_dict().values()
    if not all(torch.equal(w, w.float().to(w)) for w in weights):
        raise FolderError(
            'dtype must be "float16" or "float32" for a network whose weights float32 would round, '
            'got "exact"'
        )
    return "float16" if all(torch.equal(w, w.half().to(w)) for w in weights) else "float32"


def check_network(model: NavigationTransformer, problems: list[str]) -> None:
    """Check that `config` still describes the network, apart from its weights and its world."""
    if model._temporary_alpha:
        problems.append(
            f"network.alpha: expected that of the training, got {model.config.alpha:g}, which a "
            "block of magnesium or perturb has set; save the network outside the block"
        )
        return
    expected = shapes(model.config, None)
    compare_shapes({k: tuple(v.shape) for k, v in model.state_dict().items()}, expected, problems)
    if problems:
        return
    with torch.device("meta"):
        built = NavigationTransformer(model.config)
    check_modules(model, built, "in a NavigationTransformer built from its config", problems)
    if problems:
        problems.append(
            "config must describe all but the weights and the world: save the network as it was "
            "trained"
        )


def weights_of(model: NavigationTransformer, dtype: str, problems: list[str]) -> dict[str, Tensor]:
    """Weights on the CPU in `dtype`; values that are not finite are added to `problems`."""
    found = {}
    for name, weight in model.state_dict().items():
        value = weight.detach().cpu()
        found[name] = value.to(TORCH[dtype]).contiguous().clone()  # tied weights are stored twice
        if not value.isfinite().all():
            problems.append(f"{name}: expected finite weights, got NaN or infinity")
        elif not found[name].isfinite().all():
            problems.append(
                f"{name}: expected at most {torch.finfo(TORCH[dtype]).max:g} ({dtype}), got "
                f'{value.abs().max():g}; save it with dtype="float32"'
            )
    return found


def maps_of(world: GridWorld | None, problems: list[str]) -> dict[str, Tensor]:
    """Maps of a world as uint8 tensors."""
    found: dict[str, Tensor] = {}
    if world is not None:
        expected = (world.n_maps, world.n_places)
        for name, maps in zip(MAPS, (world.maps, world.novel_maps), strict=True):
            found[name] = torch.from_numpy(np.array(maps, dtype=np.uint8, order="C"))
            if np.shape(maps) != expected:
                problems.append(f"{name}: expected shape {expected}, got {np.shape(maps)}")
            check_letters(name, np.asarray(maps), world.n_letters, problems)
    return found


def read_tensors(
    folder: Path, layout: Layout | None, listed: str | None, problems: list[str]
) -> dict[str, Tensor]:
    """Read the weight file; its header is checked before memory is allocated for tensors.

    `listed` is its sha256 in the list of checksums, in addition to the one in ``config.json``.
    """
    try:
        with opened(folder, WEIGHTS, None) as file:
            if layout and layout.check_size(os.fstat(file.fileno()).st_size, problems):
                check_hash(file, layout.said.sha256, listed, problems)
            check_unique_names(file)
            with safe_open(file.name, framework="pt") as stream:
                if layout:
                    layout.check_header(stream, problems)
                if not layout or problems:
                    return {}
                names = stream.keys()
                tensors = {name: stream.get_tensor(name).clone() for name in names}
    except FileProblem as error:
        problems.append(f"{WEIGHTS}: {error}")
        return {}
    except OverflowError:  # sizes beyond any tensor: check_size has reported them
        return {}
    except (SafetensorError, OSError, ValueError) as error:
        problems.append(f"{WEIGHTS}: expected a whole safetensors file, got: {error}")
        return {}
    layout.check_values(tensors, problems)
    return tensors


def check_hash(
    file: BufferedReader, recorded: str, listed: str | None, problems: list[str]
) -> None:
    """Check the sha256 of the weight file."""
    found = hashlib.file_digest(file, "sha256").hexdigest()
    for where, expected in ((CONFIG, recorded), (SUMS, listed)):
        if expected is not None and found != expected:
            problems.append(
                f"{WEIGHTS}: expected sha256 {expected} ({where}), got {found}; "
                "the file was altered or is of another network"
            )


def check_unique_names(file: BufferedReader) -> None:
    """Refuse a header that names a tensor twice, since safetensors would use the last one."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length <= HEADER:  # safe_open refuses what is not a header
        parse(file.read(length).decode())


def check_facts(metadata: Mapping[str, str], said: Description, problems: list[str]) -> None:
    """Check that network and world are those that the weights were saved with.

    The shapes of the tensors do not depend on all settings, for example not on α.
    """
    try:
        saved = dict(parse(metadata[LIBRARY]))
    except (KeyError, TypeError, ValueError, RecursionError):
        problems.append(f"{WEIGHTS}: expected the network's settings in its header, got none")
        return
    found = said.facts
    for key in [*found, *(k for k in saved if k not in found)]:
        ours, theirs = found.get(key, "nothing"), saved.get(key, "nothing")
        if ours != theirs:
            problems.append(
                f"{CONFIG}: {key}: expected {brief(theirs)} (the weights were saved with it), "
                f"got {brief(ours)}"
            )


def compare_shapes(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    problems: list[str],
) -> None:
    """Report every tensor that is missing, unexpected or of another shape."""
    for name in [*expected, *(k for k in found if k not in expected)]:
        if name not in found:
            problems.append(f"{WEIGHTS}: {name}: expected shape {expected[name]}, got no tensor")
        elif name not in expected:
            near = get_close_matches(name, expected, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            problems.append(f"{WEIGHTS}: {name}: expected no such tensor{hint}")
        elif found[name] != expected[name]:
            problems.append(
                f"{WEIGHTS}: {name}: expected shape {expected[name]}, got {found[name]}"
            )


def check_letters(name: str, maps: np.ndarray, n_letters: int, problems: list[str]) -> None:
    """Check that every letter exists in the world."""
    if maps.size and (maps.min() < 0 or maps.max() >= n_letters):
        problems.append(
            f"{name}: expected letters 0–{n_letters - 1}, got {maps.min()}–{maps.max()}"
        )
