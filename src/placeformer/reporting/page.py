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
from placeformer.models.memory import KINDS, MEMORIES
from placeformer.reporting import (
    facts,
    figures,
    lesion_section,
    numbers,
    training_section,
    unit_table,
)
from placeformer.reporting.measurements import (
    ALL_UNITS,
    NULLS,
    Settings,
    SubjectReport,
    best_units,
)
from placeformer.spatial.place_cells import PLACE_CELL

STYLE, SCRIPTS = "page.css", ("unit_pictures.js", "unit_table.js")
BEST = 8
"""Number of units of each layer in the gallery."""

HERO = 4
"""Number of units whose maps are shown at the top of the page."""

DRAWN = ("information_rectify", "information_shift", "eta2", "eta2_beyond", "coherence", "score")
"""Measures whose distributions are drawn."""

FILES = {
    "memory": "errors, intervals and numbers of predictions",
    "rate_maps": "rate maps, occupancy, fields and letters",
    "units": "every measure of every unit, the tests with their shuffles, and the decision",
    "walk": "the drawn walk",
    "decoding": "the decoded position of every sample, with its error and the test",
    "lesions": "errors or scores under every lesion, compared with those of control units",
    "washout": "errors at every test-time α",
    "equivalents": "the test-time α that costs as much as each lesion",
    "training": "memory, place cells and their turnover at training steps",
    "comparison": "these results and those of the networks with the same training",
}
"""Contents of the netCDF files, by kind of Dataset."""

TEMPLATES = Environment(
    loader=PackageLoader("placeformer.reporting"),
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


def drawn(subject: SubjectReport) -> list[str]:
    """Measures whose distributions are drawn; only one policy if no rate is negative."""
    spare = () if subject.is_signed else ("information_shift",)
    return [key for key in DRAWN if key not in spare and subject.has(key)]


def shuffles(subjects: Sequence[SubjectReport]) -> str:
    """Describe how the places are shuffled in the tests."""
    nulls = dict.fromkeys(str(subject.units.attrs["null"]) for subject in subjects)
    return "; or ".join(SHUFFLES[null] for null in nulls)


SHUFFLES = {
    "walks": "walks exchange their places",
    "circular": "every walk is shifted in time separately, by at least a tenth of its length",
}
"""Kinds of shuffles of the places."""

TEMPLATES.globals |= {
    "ALL_UNITS": ALL_UNITS,
    "BEST": BEST,
    "FILES": FILES,
    "HERO": HERO,
    "K_MG_MM": K_MG_MM,
    "KINDS": KINDS,
    "MEMORIES": MEMORIES,
    "NULLS": NULLS,
    "PLACE_CELL": PLACE_CELL,
    "best_units": best_units,
    "drawn": drawn,
    "figures": figures,
    "lesions": lesion_section,
    "numbers": numbers,
    "shuffles": shuffles,
    "training": training_section,
    "unit_table": unit_table,
    "version": __version__,
}


def render(subjects: Sequence[SubjectReport], settings: Settings, call: str = "") -> str:
    """Write the page.

    Parameters
    ----------
    subjects
        Networks and recordings, which are shown side by side.
    settings
        Settings of the measurements.
    call
        The call that made the page, as code.
    """
    script = "\n".join(read(name) for name in SCRIPTS)
    columns = unit_table.columns(subjects)
    return TEMPLATES.get_template("page.html.jinja").render(
        subjects=subjects,
        settings=settings,
        limits={key: figures.limits_of(subjects, key) for key in DRAWN},
        columns=columns,
        keys={head: unit_table.key_of(head) for head in columns},
        made=facts.made_by(call),
        payload=Markup(unit_table.data(subjects)),
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
