"""The pages: what only a build would show is left to `make docs`."""

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import pytest

import placeformer as pf

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def zoo_table(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", [str(DOCS / "_ext"), *sys.path])
    import zoo_table

    return zoo_table


def test_every_network_of_the_zoo_is_in_one_table():
    patterns = re.findall(r"^\.\. zoo-table:: (\S+)$", (DOCS / "zoo.rst").read_text("utf-8"), re.M)
    tables = {name: sum(fnmatchcase(name, p) for p in patterns) for name in pf.list_models()}
    assert set(tables.values()) == {1}, tables


def test_rows_say_activation_and_dose_where_they_change(zoo_table):
    table = pf.zoo_table("nmda-a*0")
    table = pd.concat([table, table], ignore_index=True).sort_values("name", kind="stable")
    table.loc[0, ["alias", "seed", "working_error_novel"]] = ["silu", pd.NA, float("nan")]
    rows = list(zoo_table.grouped(zoo_table.cells(row) for row in table.itertuples()))
    assert [row[1] for row in rows[:4]] == ["nmda", "", "nmda", ""]
    assert rows[2][2:4] == ["10", "35.7"]
    first = next(row for row in rows if "silu" in row[0])
    assert first[0] == "``nmda-a0`` (also ``silu``)" and first[4] == "–" and first[7] == "–"
    assert all(len(row) == len(zoo_table.HEAD) for row in rows)
