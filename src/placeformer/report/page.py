"""The self-contained HTML page of the report."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from placeformer import __version__
from placeformer.models.activation import K_MG_MM
from placeformer.models.memory import MEMORIES
from placeformer.report import figures, lesion_section, numbers, unit_table
from placeformer.report.measurements import KINDS, NULLS, NetworkReport, Settings, best_units
from placeformer.spatial.place_cells import PLACE_CELL

STYLE, SCRIPTS = "page.css", ("unit_pictures.js", "unit_table.js")
BEST = 8
"""Number of units of each layer in the gallery."""

DRAWN = ("information_rectify", "information_shift", "eta2", "eta2_beyond", "coherence", "score")
"""Measures whose distributions are drawn."""

FILES = {
    "memory": "errors, intervals and numbers of predictions",
    "rate_maps": "rate maps, occupancy, fields and letters",
    "units": "every measure of every unit, the tests with their shuffles, and the decision",
    "walk": "the walk that is drawn",
    "lesions": "errors under every lesion, with the comparisons of units and their controls",
    "washout": "errors at every test-time α",
    "equivalents": "the test-time α that costs as much as each lesion",
    "comparison": "these results with those of the networks that were trained in the same way",
}
"""Contents of the netCDF files, by kind of Dataset."""

TEMPLATES = Environment(
    loader=PackageLoader("placeformer.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "percent": numbers.percent,
    "share": numbers.share,
    "upperfirst": lambda text: text[:1].upper() + text[1:],
}
TEMPLATES.tests["finite"] = math.isfinite
TEMPLATES.globals |= {
    "BEST": BEST,
    "DRAWN": DRAWN,
    "FILES": FILES,
    "K_MG_MM": K_MG_MM,
    "KINDS": KINDS,
    "MEMORIES": MEMORIES,
    "NULLS": NULLS,
    "PLACE_CELL": PLACE_CELL,
    "best_units": best_units,
    "figures": figures,
    "lesions": lesion_section,
    "numbers": numbers,
    "version": __version__,
}


def render(networks: Sequence[NetworkReport], settings: Settings) -> str:
    """Write the page.

    Parameters
    ----------
    networks
        One network, or two that are shown side by side.
    settings
        Settings of the measurements.
    """
    script = "\n".join(read(name) for name in SCRIPTS)
    return TEMPLATES.get_template("page.html.jinja").render(
        networks=networks,
        settings=settings,
        limits={key: figures.limits_of(networks, key) for key in DRAWN},
        columns=unit_table.columns(),
        payload=Markup(unit_table.data(networks)),
        style=Markup(read(STYLE)),
        script=Markup(script),
        script_hash=sha256(script),
    )


def read(name: str) -> str:
    """Text of a stylesheet or script of the page."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


def sha256(script: str) -> str:
    """Hash of a script, by which the page's security policy identifies it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
