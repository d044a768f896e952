"""Paired statistics: SciPy's permutation test, closed forms, and errors at their rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from placeformer.interventions.control_units import imbalance, matched, ordered
from placeformer.stats.resampling import (
    bounds,
    by_cluster,
    draws,
    rank_p,
    ratio,
    resampled,
    sign_flip_p,
)


def test_an_error_is_a_ratio_of_sums():
    wrong, n = np.array([[1, 0, 2], [0, 0, 0]]), np.array([4, 1, 5])
    np.testing.assert_allclose(ratio(wrong, n), [0.3, 0])
    assert np.isnan(ratio(wrong, 0 * n)).all()
    weights = np.array([[1, 1, 1], [0, 0, 3], [3, 0, 0]])
    np.testing.assert_allclose(resampled(wrong, n, weights), [[0.3, 0], [0.4, 0], [0.25, 0]])


def test_bootstrap_interval_is_scipys():
    rng = np.random.default_rng(0)
    wrong = rng.integers(0, 5, 60).astype(float)
    got = bounds(resampled(wrong, np.ones(60), draws(60, 20_000, rng)))
    want = stats.bootstrap([wrong], np.mean, n_resamples=20_000, method="percentile", rng=rng)
    np.testing.assert_allclose(got, want.confidence_interval, atol=0.01)


def test_sign_flips_are_scipys_paired_permutation_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.4, 1, 30), rng.normal(0, 1, 30)
    got = sign_flip_p(a - b, 20_000, rng)
    want = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", alternative="greater",
        n_resamples=20_000, rng=rng,
    )  # fmt: skip
    assert got == pytest.approx(want.pvalue, abs=0.01)
    assert sign_flip_p(np.zeros(5), 100, rng) == 1


def test_rank_by_hand():
    controls = np.array([[0.1, 0.2, 0.3], [0.1, np.nan, 0.1]])
    np.testing.assert_array_equal(rank_p(np.array([0.2, 0.5]), controls), [0.75, np.nan])


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
