"""Every public name has an example that runs, and points to related names."""

import doctest
import inspect
import re
from importlib.util import find_spec

import matplotlib.pyplot as plt
import pytest

import placeformer as pf

PUBLIC = {name: getattr(pf, name) for name in pf.__all__ if callable(getattr(pf, name))}
PUBLIC |= {
    f"plot.{name}": value for name, value in vars(pf.plot).items() if inspect.isfunction(value)
}

PACKAGES = {
    "from_nwb": "ndx_rate_maps",
    "to_nwb": "ndx_rate_maps",
    "from_pynapple": "pynapple",
    "to_pynapple": "pynapple",
    "from_ratinabox": "ratinabox",
}
"""Optional packages that an example needs."""

SKIPPED = {"list_steps", "load", "publish", "push"}
"""Names whose example needs the hub."""


def section(name, title):
    """Text of one section of a docstring; empty where it is missing."""
    text = inspect.getdoc(PUBLIC[name])
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n---|\Z)", text, re.M | re.S)
    return match[1] if match else ""


def related(name):
    """Names in the section See Also."""
    entries = re.findall(r"^(\S[^:\n]*)(?: :.*)?$", section(name, "See Also"), re.M)
    return [related.strip() for entry in entries for related in entry.split(",")]


def is_public(name):
    """Whether a name, with or without the package in front, is public."""
    first, _, attribute = name.removeprefix("placeformer.").partition(".")
    if first == "plot":
        return f"plot.{attribute}" in PUBLIC
    return first in PUBLIC and (not attribute or hasattr(PUBLIC[first], attribute))


def examples(name):
    """Doctests of a public name and, of a class, those of its public methods."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = finder.find(PUBLIC[name], name, module=False, globs={})
    return [test for test in tests if test.examples and "._" not in test.name]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_has_an_example(name):
    assert ">>>" in section(name, "Examples")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_points_to_related_public_names(name):
    names = related(name)
    assert names
    assert [other for other in names if not is_public(other) or other == name] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_run_and_print_what_they_show(name, tmp_path, monkeypatch):
    if name in PACKAGES and find_spec(PACKAGES[name]) is None:
        pytest.skip(f"needs {PACKAGES[name]}")
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False
    )
    report = []
    for test in examples(name):
        runner.run(test, out=report.append)
    plt.close("all")
    assert not runner.failures, "".join(report)


def test_only_examples_that_need_the_hub_are_skipped():
    skipped = {
        name
        for name in PUBLIC
        for test in examples(name)
        for example in test.examples
        if example.options.get(doctest.SKIP)
    }
    assert skipped <= SKIPPED
