"""Versions for reports of problems."""

import io
from importlib.metadata import version

import placeformer as pf
from placeformer.versions import PACKAGES, installed


def test_every_package_has_a_line_with_its_version():
    text = io.StringIO()
    pf.show_versions(text)
    lines = dict(line.split(maxsplit=1) for line in text.getvalue().splitlines())
    assert set(lines) == {"Python", "system", *PACKAGES}
    assert lines["numpy"] == version("numpy")


def test_a_missing_package_is_said_to_be_missing():
    assert installed("no-such-package-anywhere") == "not installed"
