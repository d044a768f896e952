"""Axes: told by their lengths where that is possible in one way, refused by name where not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from placeformer.recording.output_axes import Span, arrange, choose, readings

SPAN = Span(8, 100)


@pytest.mark.parametrize(
    ("calls", "span", "want"),
    [
        ([(8, 100, 64)], SPAN, ("walk", "time", "unit")),
        ([(100, 8, 64)], SPAN, ("time", "walk", "unit")),
        ([(8, 64, 100)], SPAN, ("walk", "unit", "time")),
        ([(8, 100)], SPAN, ("walk", "time")),
        ([(8, 100, 4, 16)], SPAN, ("walk", "time", "unit", "unit")),
        ([(800, 3, 5, 5)], SPAN, ("sample", "unit", "unit", "unit")),
        ([(8, 64)] * 100, SPAN, ("walk", "unit")),
        ([(8, 1, 64)] * 100, SPAN, ("walk", "unit", "unit")),
        ([(8, 25, 64)] * 4, SPAN, ("walk", "time", "unit")),
        ([(100, 64)], Span(1, 100), ("time", "unit")),
        ([(1, 100, 64)], Span(1, 100), ("walk", "time", "unit")),
        ([(64,)] * 100, Span(1, 100), ("unit",)),
    ],
)
def test_axes_are_told_by_their_lengths(calls, span, want):
    (found,) = readings(calls, span)
    assert arrange(torch.zeros(calls[0]), found, span.walks).shape[::2] == (
        span.walks,
        arrange(torch.zeros(calls[0]), want, span.walks).shape[2],
    )
    marked = torch.arange(torch.zeros(calls[0]).numel()).view(calls[0])
    assert torch.equal(arrange(marked, found, span.walks), arrange(marked, want, span.walks))


@given(st.permutations(["walk", "time", "channel", "height"]))
def test_named_axes_come_out_in_order_with_units_flattened(dims):
    size = {"walk": 2, "time": 3, "channel": 4, "height": 5}
    value = torch.arange(120).view([size[d] for d in dims])
    rest = [d for d in dims if d not in ("walk", "time")]
    want = value.permute([dims.index(d) for d in ("walk", "time", *rest)]).reshape(2, 3, 20)
    assert torch.equal(arrange(value, tuple(dims), 2), want)


def test_samples_are_walks_one_after_the_other():
    value = torch.arange(12).view(6, 2)
    assert torch.equal(arrange(value, ("sample", "unit"), 2), value.view(2, 3, 2))


@pytest.mark.parametrize(
    ("outputs", "dims", "message"),
    [
        (
            {"": [(8, 100, 100)]},
            None,
            r"can be \(walk, time, unit\) or \(walk, unit, time\); pass",
        ),
        ({"": [(64, 100, 8)]}, None, r"no time axis of 100 steps: it gave 'x' \(64, 100, 8\)"),
        ({"": [(100, 100)]}, None, r"gave 'x' \(100, 100\) for behaviour of 8 walks of 100"),
        ({"": [(8, 64)]}, None, r"it gave 'x' \(8, 64\) for behaviour of 8 walks of 100"),
        ({"": [(8, 64)] * 99}, None, r"it gave 'x' \(8, 64\) in each of 99 calls for behaviour"),
        ({}, None, "gave no tensor"),
        (
            {"[0]": [(8, 100, 4)], "[1][h]": [(8, 100, 4)], "[2]": [(8, 4)]},
            None,
            r"several outputs with time: 'x\[0\]' \(8, 100, 4\), 'x\[1\]\[h\]' \(8, 100, 4\); name",
        ),
        (
            {"": [(8, 99, 4)]},
            ("walk", "time", "unit"),
            r"does not fit 'x' \(8, 99, 4\).*time has 99",
        ),
        ({"": [(7, 100, 4)]}, ("walk", "time", "unit"), "walk has 7"),
        ({"": [(8, 100, 4)]}, ("walk", "time"), "it has 3 axes"),
        ({"": [(8, 4)] * 3}, ("walk", "unit"), "it was called 3 times"),
        ({"": [(799, 4)]}, ("sample", "unit"), "sample has 799"),
        ({"": [(800, 8)]}, ("sample", "walk"), "must be named once, separately or together"),
    ],
)
def test_what_cannot_be_told_is_refused_with_all_readings(outputs, dims, message):
    with pytest.raises(ValueError, match=message):
        choose("x", outputs, SPAN, dims)


def test_outputs_without_time_are_left_aside():
    lstm = {"[0]": [(8, 100, 64)], "[1][0]": [(1, 8, 64)], "[1][1]": [(1, 8, 64)]}
    assert choose("lstm", lstm, SPAN, None) == ("[0]", ("walk", "time", "unit"))
