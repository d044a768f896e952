"""What the README shows works as it stands there."""

import re
from pathlib import Path

import matplotlib.axes

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_runs_and_finds_a_place_field():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(code.replace("pf.plot", "axes = pf.plot"), names)
    best = int(names["score"].argmax("unit"))
    assert names["fields"].n_fields[best] > 0
    assert isinstance(names["axes"], matplotlib.axes.Axes)
