"""Pin the zoo: check every network in zoo/models and write its sha256 to the pins of the package.

Run ``python zoo/pin.py`` after adding or replacing a network. ``placeformer.load`` refuses a zoo
network whose weights do not have the sha256 written here.
"""

from __future__ import annotations

import json
from pathlib import Path

from placeformer._atomic import atomic_file
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo

ROOT = Path(__file__).resolve().parents[1]


def pin(
    models: Path = ROOT / "zoo" / "models",
    pins: Path = ROOT / "src" / "placeformer" / "zoo" / "pins.json",
) -> dict[str, str]:
    """Write the sha256 of every network under `models` to the file `pins`, and return them."""
    names = sorted((f.parent.name for f in models.glob(f"*/{hub.CONFIG}")), key=zoo.natural)
    sha256 = {name: hub.read(models / name).info["sha256"] for name in names}
    with atomic_file(pins) as file:
        file.write_text(json.dumps(sha256, indent=2) + "\n", encoding="utf-8")
    return sha256


if __name__ == "__main__":
    for name, checksum in pin().items():
        print(checksum, name)
