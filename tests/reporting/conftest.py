"""Pages without their figures, which take most of the time of a page about little data."""

import pytest

from placeformer.reporting import figures

DRAWN = ("walk", "memory", "lesions", "washout", "unit", "tile", "distribution", "training")


@pytest.fixture
def undrawn(monkeypatch):
    """Put an empty picture, described as "drawn: NAME", in the place of every figure."""
    for name in DRAWN:
        picture = figures.Picture("<svg/>", f"drawn: {name}")
        monkeypatch.setattr(figures, name, lambda *given, picture=picture: picture)
