"""The example report, written along with the tutorials if the code has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import placeformer as pf
from placeformer.reporting.measurements import Settings

NETWORK = "mini-nmda-a10"
SETTINGS = Settings(
    memory_walks=16,
    memory_steps=512,
    walks=16,
    steps=512,
    lesion_walks=16,
    lesion_steps=512,
    n_shuffles=199,
)
"""Small settings, so that the page takes seconds; by default, reports use more walks."""


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", add)
    return {"parallel_read_safe": True}


def add(app: Any, config: Any) -> None:
    """Write the report to ``example-report/`` next to the pages, if tutorials are run at all."""
    if not config.sphinx_gallery_conf.get("plot_gallery", True) or config.plot_gallery in (0, "0"):
        return
    folder = Path(app.srcdir) / "generated" / "beside"
    page = folder / "example-report" / "index.html"
    sources = Path(pf.__file__).parent.rglob("*")
    if not page.exists() or page.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        folder.mkdir(parents=True, exist_ok=True)
        pf.report(NETWORK, out=page.parent, beside=None, settings=SETTINGS, progress=False)
    config.html_extra_path.append(str(folder))
    app.tags.add("example_report")
