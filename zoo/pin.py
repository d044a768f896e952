"""Pin the zoo: check every network in zoo/models and write its pin to the package.

Run ``python zoo/pin.py`` after adding or replacing a network; it also writes the table of the zoo
that the package shows for networks on the hub. The pin is the sha256 of the file ``SHA256SUMS`` of
the network, and so covers all its files; ``placeformer.load`` raises an error for a network of the
zoo with a different one. After an intended change of files, ``--sums`` first rewrites the files
``SHA256SUMS``.

The snapshots in zoo/snapshots are pinned too, each by the sha256 of its file. The last one is the
published network itself, and is pinned by the sha256 of its weights. ``--snapshots FOLDER`` first
copies the snapshots of the trainings in FOLDER (``FOLDER/NAME/snapshots``) into zoo/snapshots, for
every network of zoo/models that has some there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

from placeformer._atomic import atomic_file
from placeformer.training.recipe import Recipe
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import CONFIG
from placeformer.zoo.files import RECIPE, SUMS
from placeformer.zoo.snapshots import MANIFEST, file_name, read_manifest, read_snapshot

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOTS = ROOT / "zoo" / "snapshots"


def pin(
    models: Path = ROOT / "zoo" / "models",
    pins: Path = zoo.PINS,
    *,
    sums: bool = False,
) -> dict[str, str]:
    """Write the pins of the networks under `models` to `pins`, and their rows to the table.

    The table shows the figures of the networks that are not in the installed package.
    """
    names = sorted((f.parent.name for f in models.glob(f"*/{CONFIG}")), key=zoo.natural)
    sha256, rows = {}, {}
    for name in names:
        if sums:
            hub.write_sums(models / name)
        hub.read(models / name)
        sha256[name] = hashlib.sha256((models / name / SUMS).read_bytes()).hexdigest()
        rows[name] = zoo.table_row(models / name, sha256[name])
    for target, entries in ((pins, sha256), (pins.with_name(zoo.TABLE), rows)):
        with atomic_file(target) as file:
            text = json.dumps(entries, indent=2, ensure_ascii=False)
            file.write_text(text + "\n", encoding="utf-8")
    return sha256


def take_snapshots(
    runs: Path, models: Path = ROOT / "zoo" / "models", snapshots: Path = SNAPSHOTS
) -> list[str]:
    """Copy the snapshots of trainings, except the last, which must be the published network."""
    taken = []
    for manifest in sorted(runs.glob(f"*/snapshots/{MANIFEST}")):
        source, name = manifest.parent, manifest.parents[1].name
        if not (models / name / CONFIG).is_file():
            continue
        found, published = read_manifest(source), hub.read(models / name)
        last = max(found)
        weights = read_snapshot(source, last, found[last], name).state_dict()
        if any((weights[key] != own).any() for key, own in published.state_dict().items()):
            raise ValueError(f"{name}: the snapshot at step {last} must be the published network")
        target = snapshots / name
        target.mkdir(parents=True, exist_ok=True)
        for step in found.keys() - {last}:
            shutil.copy(source / file_name(step), target)
        entries = {file_name(s): {"step": s, "sha256": found[s]} for s in found if s != last}
        (target / MANIFEST).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        taken.append(name)
    return taken


def pin_snapshots(
    models: Path = ROOT / "zoo" / "models",
    snapshots: Path = SNAPSHOTS,
    pins: Path = zoo.SNAPSHOT_PINS,
) -> dict[str, dict[int, str]]:
    """Write the sha256 of every snapshot, which must all differ, to `pins`, and return them."""
    found: dict[str, dict[int, str]] = {}
    folders = (manifest.parent for manifest in snapshots.glob(f"*/{MANIFEST}"))
    for folder in sorted(folders, key=lambda folder: zoo.natural(folder.name)):
        name, of_one = folder.name, read_manifest(folder)
        for step, sha256 in of_one.items():
            read_snapshot(folder, step, sha256, name)
        steps = Recipe.read(models / name / RECIPE).training.steps
        found[name] = of_one | {steps: hub.read_description(models / name).sha256}
    hashes = [sha256 for of_one in found.values() for sha256 in of_one.values()]
    if len(set(hashes)) < len(hashes):
        raise ValueError("every snapshot must have a different sha256, got some twice")
    with atomic_file(pins) as file:
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sums", action="store_true", help="rewrite every SHA256SUMS first")
    parser.add_argument("--snapshots", type=Path, metavar="FOLDER", help="copy snapshots from here")
    options = parser.parse_args()
    for name, checksum in pin(sums=options.sums).items():
        print(checksum, name)
    if options.snapshots:
        take_snapshots(options.snapshots)
    for name, steps in pin_snapshots().items():
        print(f"{name}: snapshots at steps {', '.join(map(str, steps))}")
