"""The code of the page on heading, speed and tracks runs, and does what the page says."""

import re
from pathlib import Path
from textwrap import dedent

import matplotlib as mpl
import numpy as np

mpl.use("agg")

PAGE = Path(__file__).parents[2] / "docs" / "heading.rst"


def test_the_code_of_the_page_runs():
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    seen = []
    for block in blocks:
        exec(compile(dedent(block), str(PAGE), "exec"), names)
        seen.append(dict(names))
    np.testing.assert_array_equal(seen[0]["fields"].n_fields, 1)
    assert seen[0]["ax"].name == "polar"
    assert (seen[1]["table"].q <= 0.05).all()
    assert seen[2]["speeds"].speed_score.dims == ("unit",)
    np.testing.assert_array_equal(seen[3]["fields"].n_fields, [[1, 1], [0, 1]])
    assert seen[3]["laps"].sizes["lap"] == 20
    np.testing.assert_array_equal(seen[4]["cells"].is_place_cell, [[1, 1], [0, 1]])
    assert (seen[5]["stable"] > 0.5).all()
    assert float(seen[6]["maze"].linear.max()) > 160
