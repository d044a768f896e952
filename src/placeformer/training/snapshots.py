"""Snapshots: the weights of a network at chosen steps of its training, float16 and hashed.

A run's folder then holds ``snapshots/step-000800.safetensors`` and so on, and
``snapshots/manifest.json`` with the step and the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from placeformer._atomic import atomic_file
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
    with atomic_file(file) as temporary:
        temporary.write_bytes(content)
    entries = read_manifest(run) | {
        file.name: {"step": step, "sha256": hashlib.sha256(content).hexdigest()}
    }
    text = json.dumps(dict(sorted(entries.items())), indent=2) + "\n"
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def read_manifest(run: Path) -> dict[str, dict[str, Any]]:
    """Read what snapshots a run has: file name → `step` and `sha256`; empty if there are none."""
    file = run / SNAPSHOTS / MANIFEST
    entries: dict[str, dict[str, Any]] = (
        json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    )
    return entries
