"""The pages: what only a build would show is left to `make docs`."""

import importlib
import inspect
import re
import sys
import textwrap
from fnmatch import fnmatchcase
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest

import placeformer as pf
from placeformer.cli import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TEXTS = [ROOT / "README.md", ROOT / "AGENTS.md", *DOCS.glob("*.rst"), *DOCS.glob("howto/*.rst")]


@pytest.fixture
def extension(monkeypatch):
    """Import an extension of the documentation."""
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", [str(DOCS / "_ext"), *sys.path])
    return importlib.import_module


@pytest.fixture
def zoo_table(extension):
    return extension("zoo_table")


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_names_on_a_page_are_public(page):
    text = page.read_text("utf-8")
    unknown = [name for name in set(re.findall(r"\bpf\.(\w+)", text)) if not hasattr(pf, name)]
    drawn = [name for name in re.findall(r"\bpf\.plot\.(\w+)", text) if not hasattr(pf.plot, name)]
    assert sorted([*unknown, *drawn]) == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", ["README.md", "AGENTS.md", "CONTRIBUTING.md"])
def test_files_and_targets_that_a_page_names_exist(page):
    text = (ROOT / page).read_text("utf-8")
    linked = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    named = re.findall(r"`((?:docs|src|tests|tutorials|zoo|benchmarks)/[a-z\d_./-]+)`", text)
    built = {"docs/generated/", "docs/tutorials/", "docs/_build/", "docs/_build/html"}
    assert [file for file in {*linked, *named} - built if not (ROOT / file).exists()] == []
    targets = set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, re.M))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert [each for each in targets if f"\n{each}:" not in makefile] == []


def test_every_command_and_option_is_on_the_page_of_the_command_line(extension, tmp_path):
    extension("command_line").write(tmp_path)
    text = "\n" + (tmp_path / "commands.txt").read_text("utf-8")
    for name, command in cli.commands.items():
        _, found, section = text.partition(f"\n{name}\n{'-' * len(name)}\n")
        assert found, name
        section = re.split(r"\n-+\n", section)[0]
        hidden = {"--debug", "--help", "-h"}
        options = {flag for p in command.params for flag in p.opts if flag.startswith("-")}
        assert [flag for flag in options - hidden if flag not in section] == []


def test_types_stand_behind_the_names_of_parameters(extension):
    api_pages = extension("api_pages")
    docstring = ["Add.", "", "Parameters", "----------", "a, b", "    Terms.", "c", "    More."]
    docstring += ["", "Returns", "-------", "int", "    Their sum."]
    types = {"a": "int", "b": "int", "c": "str | None", "int": "wrong"}
    found = api_pages.with_types(docstring, types)
    changed = [line for line, was in zip(found, docstring, strict=True) if line != was]
    assert changed == ["a, b : ``int``", "c : ``str | None``"]


def test_the_picture_of_a_figure_is_what_its_example_draws(extension):
    lines = extension("api_pages").picture(inspect.getdoc(pf.plot.rate_maps).splitlines())
    assert lines[1] == ".. plot::"
    code = [line.strip() for line in lines if line.startswith("   ") and line.strip()[:1] != ":"]
    assert "ax = pf.plot.rate_maps(maps, unit=0)" in code


def test_every_network_of_the_zoo_is_in_one_table():
    tables = re.findall(r"^\.\. zoo-table:: (.+)$", (DOCS / "zoo.rst").read_text("utf-8"), re.M)
    patterns = [pattern for table in tables for pattern in table.split()]
    found = {name: sum(fnmatchcase(name, p) for p in patterns) for name in pf.list_models()}
    assert set(found.values()) == {1}, found


def test_rows_say_activation_and_dose_where_they_change(zoo_table):
    table = pf.zoo_table("nmda-a*0")
    table = pd.concat([table, table], ignore_index=True).sort_values("name", kind="stable")
    table.loc[0, ["alias", "seed", "working_error_novel"]] = ["silu", pd.NA, float("nan")]
    rows = list(zoo_table.grouped(zoo_table.cells(row) for row in table.itertuples()))
    assert [row[1] for row in rows[:4]] == ["nmda", "", "nmda", ""]
    assert rows[2][2:4] == ["10", "35.7"]
    first = next(row for row in rows if "silu" in row[0])
    assert first[0] == "``nmda-a0`` (also ``silu``)" and first[4] == "–" and first[8] == "–"
    assert all(len(row) == len(zoo_table.HEAD) for row in rows)


def test_the_example_of_a_network_of_your_own_runs(local_hub, tmp_path, monkeypatch):
    text = (DOCS / "hub.rst").read_text("utf-8")
    section = text[text.index("Your own networks\n---") : text.index("Fine-tuning\n---")]
    blocks = re.findall(r":: python\n   :caption: (.+)\n((?:\n|   .*\n)+)", section)
    code = {caption: textwrap.dedent(block) for caption, block in blocks}
    assert list(code) == ["my_networks.py", "save and push it", "load it elsewhere"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_networks.py").write_text(code["my_networks.py"])
    here: dict[str, object] = {}
    with patch.dict(sys.modules), patch.dict("placeformer.zoo.classes.CLASSES"):
        for caption in ("save and push it", "load it elsewhere"):
            exec(code[caption].replace("org/", "alice/"), here)
    model = here["model"]
    assert model.info["results"] == {"decoding_error": 0.12} and model.config["n_units"] == 64
    assert here["url"].startswith(f"{local_hub.url}/alice/my-gru-64/commit/")
