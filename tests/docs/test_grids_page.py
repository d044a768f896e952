"""The examples of the page on grid cells, several variables and predictivity."""

import doctest
import re
import textwrap
from pathlib import Path

import matplotlib as mpl
import torch

PAGE = Path(__file__).parents[2] / "docs" / "grids.rst"


def test_the_examples_print_what_the_page_says():
    torch.manual_seed(0)
    failed, tried = doctest.testfile(
        str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried > 30
    assert not failed


def test_the_figure_can_be_drawn():
    mpl.use("agg")
    block = re.search(r":alt: .*\n\n((?:   .*\n|\n)+)", PAGE.read_text("utf-8"))[1]
    names = {}
    exec(textwrap.dedent(block), names)
    peaks = names["axes"][1].lines[0]
    assert len(peaks.get_xdata()) == 6
    names["plt"].close("all")
