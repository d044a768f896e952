"""Nested states of tensors, numbers and text, stored in safetensors files that reveal any damage.

Nothing is pickled. The metadata of a file contain a checksum over all of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from placeformer._atomic import atomic_file


class DamagedFileError(ValueError):
    """A file whose content is not what was written."""


def save_state(file: Path, state: Any) -> None:
    """Write a state, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(pack(state, tensors))
    content = save(tensors, {"state": text, "sha256": checksum(text, tensors)})
    with atomic_file(file) as temporary:
        temporary.write_bytes(content)


def load_state(file: Path, device: str | torch.device | None = None) -> Any:
    """Read a state.

    Parameters
    ----------
    file
        What :func:`save_state` wrote.
    device
        Device of the tensors; by default, that of each tensor when it was saved.

    Raises
    ------
    DamagedFileError
        The file is not as it was written.
    """
    try:
        with safe_open(file, "pt") as stream:
            about = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        whole = about.keys() == {"state", "sha256"}
        if not whole or about["sha256"] != checksum(about["state"], tensors):
            raise DamagedFileError("its checksum does not match its content")
        return unpack(json.loads(about["state"]), tensors, device)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(str(error) or type(error).__name__) from error


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over a text and the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def copied(state: Any) -> Any:
    """Copy a state, whose tensors may be changed in place afterwards."""
    tensors: dict[str, Tensor] = {}
    return unpack(pack(state, tensors), tensors)


def pack(state: Any, tensors: dict[str, Tensor]) -> Any:
    """Describe a state as JSON; its tensors go into `tensors`."""
    if isinstance(state, Tensor):
        name = str(len(tensors))
        tensors[name] = state.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name, "device": str(state.device)}
    if type(state) in (tuple, list):
        return {type(state).__name__: [pack(value, tensors) for value in state]}
    if isinstance(state, dict) and all(type(key) is str for key in state):
        return {"dict": {key: pack(value, tensors) for key, value in state.items()}}
    if isinstance(state, dict) and all(type(key) is int for key in state):
        return {"numbered": [[key, pack(value, tensors)] for key, value in state.items()]}
    if state is None or type(state) in (bool, int, float, str):
        return {"value": state}
    raise TypeError(
        "a state must consist of tensors, numbers, text and None in tuples, lists and dicts to be "
        f"saved, got {type(state).__name__}"
    )


def unpack(about: Any, tensors: Mapping[str, Tensor], device: Any = None) -> Any:
    """Rebuild what :func:`pack` described."""
    ((kind, value), *where) = about.items()
    if kind == "tensor":
        return tensors[value].to(device or where[0][1])
    if kind == "dict":
        return {key: unpack(item, tensors, device) for key, item in value.items()}
    if kind == "numbered":
        return {key: unpack(item, tensors, device) for key, item in value}
    if kind in ("tuple", "list"):
        items = [unpack(item, tensors, device) for item in value]
        return tuple(items) if kind == "tuple" else items
    return value
