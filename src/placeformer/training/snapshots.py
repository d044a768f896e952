"""Snapshots: the weights of a network at chosen steps of its training, float16 and hashed.

A run's folder then holds ``snapshots/step-000800.safetensors`` and so on, and
``snapshots/manifest.json`` with the step and the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from placeformer.models.transformer import NavigationTransformer
from placeformer.zoo.config import refuse
from placeformer.zoo.weights import weights_of

SNAPSHOTS, MANIFEST = "snapshots", "manifest.json"


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
    problems: list[str] = []
    weights: dict[str, torch.Tensor] = weights_of(model, "float16", problems)
    folder = run / SNAPSHOTS
    refuse(f"{folder}: step {step}", problems)
    folder.mkdir(parents=True, exist_ok=True)
    file, content = folder / f"step-{step:06d}.safetensors", save(weights)
    replace_file(file, content)
    entries = read_manifest(run) | {
        file.name: {"step": step, "sha256": hashlib.sha256(content).hexdigest()}
    }
    text = json.dumps(dict(sorted(entries.items())), indent=2) + "\n"
    replace_file(folder / MANIFEST, text.encode())
    return file


def replace_file(file: Path, content: bytes) -> None:
    """Write to a temporary name, then rename: readers see the old file or the new one."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, file)


def read_manifest(run: Path) -> dict[str, dict[str, Any]]:
    """Read what snapshots a run has: file name → `step` and `sha256`; empty if there are none."""
    file = run / SNAPSHOTS / MANIFEST
    entries: dict[str, dict[str, Any]] = (
        json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    )
    return entries
