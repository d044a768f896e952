"""What the README shows works as it stands there."""

import re
from pathlib import Path

import matplotlib.axes

import placeformer as pf

README = Path(__file__).parents[2] / "README.md"


def test_the_python_of_the_readme_runs_and_finds_a_place_field():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(code.replace("pf.plot", "axes = pf.plot"), names)
    best = int(names["score"].argmax("unit"))
    assert names["fields"].n_fields[best] > 0
    assert isinstance(names["axes"], matplotlib.axes.Axes)


def test_the_table_of_errors_is_that_of_the_zoo():
    text, table = README.read_text(encoding="utf-8"), pf.zoo_table("nmda-*")
    table = table[~table["name"].str.endswith("-paper")]
    for memory, digits in (("reference", 2), ("working", 3)):
        (row,) = re.findall(rf"^\| {memory}-memory error, trained maps \| (.*) \|$", text, re.M)
        errors = table.groupby("alpha")[f"{memory}_error_trained"]
        ends = [sorted({f"{x:.{digits}f}"[1:] for x in (e.min(), e.max())}) for _, e in errors]
        assert row.split(" | ") == ["–".join(each) for each in ends]
