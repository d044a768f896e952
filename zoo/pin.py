"""Pin the zoo: check every network in zoo/models and write its pin to the package.

Run ``python zoo/pin.py`` after adding or replacing a network; it also writes the table of the zoo
that the package shows for networks on the hub. The pin is the sha256 of its file
``SHA256SUMS``, and so of all files of the network; ``placeformer.load`` refuses a network of the
zoo with any other. With ``--sums`` the files ``SHA256SUMS`` are written anew before, after a change
of files that was meant.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from placeformer._atomic import atomic_file
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import CONFIG
from placeformer.zoo.files import SUMS

ROOT = Path(__file__).resolve().parents[1]


def pin(
    models: Path = ROOT / "zoo" / "models",
    pins: Path = zoo.PINS,
    *,
    sums: bool = False,
) -> dict[str, str]:
    """Write the pin of every network under `models` to `pins`, and its row to the table beside it.

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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sums", action="store_true", help="write every SHA256SUMS anew")
    for name, checksum in pin(sums=parser.parse_args().sums).items():
        print(checksum, name)
