"""Errors of resampled walks in closed form, and control units that match the lesioned ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from placeformer.interventions.control_units import imbalance, matched, ordered
from placeformer.stats.bootstrap import (
    by_cluster,
    draws,
    ratio,
    resampled,
)


def test_numbers_of_samples_are_whole():
    for wrong in (0, -1, 1.5, "a"):
        with pytest.raises(ValueError, match="n_resamples must be a whole number ≥ 1, got"):
            draws(5, wrong, np.random.default_rng(0))


def test_an_error_is_a_ratio_of_sums():
    wrong, n = np.array([[1, 0, 2], [0, 0, 0]]), np.array([4, 1, 5])
    np.testing.assert_allclose(ratio(wrong, n), [0.3, 0])
    assert np.isnan(ratio(wrong, 0 * n)).all()
    weights = np.array([[1, 1, 1], [0, 0, 3], [3, 0, 0]])
    np.testing.assert_allclose(resampled(wrong, n, weights), [[0.3, 0], [0.4, 0], [0.25, 0]])


def test_walks_are_added_up_by_map():
    counts = np.arange(12).reshape(2, 6)
    got = by_cluster(counts, np.array([7, 2, 7, 2, 2, 9]))
    np.testing.assert_array_equal(got, [[1 + 3 + 4, 0 + 2, 5], [7 + 9 + 10, 6 + 8, 11]])


@given(st.integers(0, 2**31), st.integers(1, 8))
def test_matched_units_are_others_as_many_of_the_same_layer_and_alike(seed, n):
    rng = np.random.default_rng(seed)
    covariates = rng.normal(size=(60, 2))
    layer = rng.integers(0, 2, 60)
    targets = np.zeros(60, bool)
    targets[rng.choice(60, n, replace=False)] = True
    found = matched(targets, covariates, layer, 0.5, rng)
    if found is None:
        return
    assert not (found & targets).any()
    np.testing.assert_array_equal(
        np.bincount(layer[found], minlength=2), np.bincount(layer[targets], minlength=2)
    )
    assert (abs(imbalance(targets, found, covariates)) <= 0.5).all()


def test_order_puts_the_greatest_first_and_nan_last():
    rng = np.random.default_rng(0)
    got = {tuple(ordered(np.array([0.0, np.nan, 2.0, 0.0]), rng)) for _ in range(50)}
    assert got == {(2, 0, 3, 1), (2, 3, 0, 1)}
