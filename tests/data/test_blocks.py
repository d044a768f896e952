"""Samples read block by block: NumPy and dask, blocks of any size, the same values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placeformer.data import blocks as _blocks
from placeformer.data.blocks import blocks, counts, distinct, integers, mapped, reduced

da = pytest.importorskip("dask.array")
RNG = np.random.default_rng


@pytest.fixture(params=[7, 50, 10**6])
def block(request, monkeypatch):
    monkeypatch.setattr(_blocks, "PLAIN_SAMPLES", request.param)


def both(values, chunks=(2, 13)):
    return values, da.from_array(values, chunks=chunks)


@pytest.mark.parametrize(
    "shape", [(3, 5000, 4), (40, 30, 4), (1, 1, 1), (7, 256, 8), (3, 77), (9, 2)]
)
def test_blocks_cover_every_sample_once(shape, monkeypatch, block):
    monkeypatch.setattr(_blocks, "BLOCK_VALUES", 2000)
    seen = np.zeros(shape[:2], int)
    for where in blocks(shape):
        seen[where] += 1
    np.testing.assert_array_equal(seen, 1)


@settings(max_examples=50, deadline=None)
@given(
    size=st.one_of(st.integers(1, 300), st.integers(2**15 - 2, 2**15 + 2), st.integers(1, 2**40))
)
def test_integers_hold_what_they_must_and_no_smaller_ones_do(size):
    kind = integers(size)
    assert np.iinfo(kind).min <= -1
    assert np.iinfo(kind).max >= size - 1
    if kind.itemsize > 1:
        assert np.iinfo(f"int{4 * kind.itemsize}").max < size - 1


def test_a_function_of_blocks_is_that_of_the_whole(block):
    rng = RNG(0)
    values, of_walk, of_step = (
        rng.integers(0, 90, (5, 40)),
        np.arange(5)[:, None],
        np.arange(40)[None],
    )
    want = (values + 100 * of_walk + of_step).astype(np.int16)
    for each in both(values):
        found = mapped(
            lambda a, b, c: a + 100 * b + c, each, of_walk, of_step, dtype=np.dtype(np.int16)
        )
        assert hasattr(found, "dask") == hasattr(each, "dask")
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, want)


def test_parts_are_added_in_their_order(block):
    values = np.arange(200).reshape(1, 200)
    for each in both(values, (1, 13)):
        found = reduced(lambda b: b.ravel().tolist(), lambda a, b: a + b, each)
        assert found == list(range(200))


@pytest.mark.parametrize("many", [2**20, 3])
def test_counts_and_distinct_values_are_those_of_numpy(block, monkeypatch, many):
    monkeypatch.setattr(_blocks, "MANY", many)
    index = RNG(1).integers(-1, 6, (4, 60)).astype(np.int8)
    values = np.where(index < 0, np.nan, index / 2)
    for each in both(index):
        np.testing.assert_array_equal(counts(each, 8), np.bincount(index[index >= 0], minlength=8))
    for each in both(values):
        found, number = distinct(each)
        want = np.unique(values[~np.isnan(values)], return_counts=True)
        np.testing.assert_array_equal(found, want[0])
        np.testing.assert_array_equal(number, want[1])
    assert distinct(np.full((2, 3), np.nan))[0].size == 0
