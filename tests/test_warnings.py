"""Warnings name a line of the user's code, whatever part of the package found the reason."""

import contextlib
import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.spatial.border_score import border_score
from placeformer.spatial.cell_types import scores_of_maps

PACKAGE = Path(pf.__file__).parent


def maps():
    rate = np.zeros((1, 21, 20))
    rate[0, 1] = 10
    rate[0, 0] = np.nan
    rate[0, 0, 3] = 0
    return simulation.maps(rate)


def test_the_line_is_the_callers_at_any_depth_and_for_every_recording():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        border_score(maps())
        functools.partial(border_score, maps())()
        scores_of_maps(maps())
        scores_of_maps(maps())
    assert [w.filename for w in caught] == [__file__] * 4
    assert len({w.lineno for w in caught}) == 4


def test_the_line_of_a_with_block_is_that_of_the_block():
    network, other = nn.Sequential(nn.Linear(2, 6)), nn.Sequential(nn.Linear(2, 6))
    walk = {"x": np.arange(9.0)[None]}
    inputs = {"input": torch.zeros(1, 9, 2)}
    reference = pf.record(other, walk, inputs=inputs, layers="0", progress=False)
    with (
        pytest.warns(UserWarning, match="from another network") as caught,
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(pf.ablate(network, {"0": [1]}, "mean", reference=reference))
    assert caught[0].filename == __file__


def test_every_warning_of_the_package_is_given_in_this_way():
    direct = [file.name for file in PACKAGE.rglob("*.py") if "warnings.warn(" in file.read_text()]
    assert direct == ["_warnings.py"]
