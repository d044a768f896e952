"""Rank correlations: closed forms, SciPy, and their share of wrong answers."""

import numpy as np
import pytest
from scipy import stats

from placeformer.stats.rank_correlation import correlation, spearman, trend_p

RNG = np.random.default_rng(0)


def test_spearman_is_that_of_scipy():
    x, y = RNG.integers(0, 9, (2, 30)).astype(float)
    expected = stats.spearmanr(x, y)
    found = correlation(x, y, n_resamples=200, seed=0)
    assert spearman(x, y) == pytest.approx(expected.statistic)
    assert (found.value, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.lower < found.value < found.upper


def test_partial_rho_is_that_of_the_residuals_of_ranks():
    z = RNG.normal(size=40)
    x, y = z + RNG.normal(size=40), z + RNG.normal(size=40)
    ranks = [stats.rankdata(v) for v in (x, y, z)]
    rest = [r - np.poly1d(np.polyfit(ranks[2], r, 1))(ranks[2]) for r in ranks[:2]]
    assert spearman(x, y, z) == pytest.approx(np.corrcoef(*rest)[0, 1])


@pytest.mark.parametrize("x", [np.arange(3.0), np.ones(9), np.array([1, 2, 3, np.nan, np.nan])])
def test_without_enough_that_differs_there_is_no_rho(x):
    y = np.arange(float(x.size))
    assert np.isnan(spearman(x, y))
    assert np.isnan(correlation(x, y, n_resamples=10, seed=0)).all()
    assert np.isnan(trend_p(x, y, np.zeros(x.size, int), n_resamples=10, seed=0))


def test_a_trend_within_blocks_is_found_where_the_blocks_hide_it():
    x = np.tile(np.arange(6.0), 3)
    block = np.repeat([0, 1, 2], 6)
    y = -x + 100 * block
    assert abs(spearman(x, y)) < 0.5
    assert trend_p(x, y, block, n_resamples=999, seed=0) == pytest.approx(0.001)


def test_the_permutation_test_is_exact_for_one_block():
    x, y = np.arange(5.0), np.array([1.0, 0, 2, 3, 4])
    every = stats.permutation_test(
        (y,), lambda v: stats.spearmanr(x, v).statistic, permutation_type="pairings"
    )
    found = trend_p(x, y, np.zeros(5, int), n_resamples=20_000, seed=0)
    assert found == pytest.approx(every.pvalue, abs=0.01)


def test_without_a_trend_p_is_uniform():
    block = np.repeat([0, 1, 2], 7)
    x = np.tile(np.arange(7.0), 3)
    p = [trend_p(x, RNG.normal(size=21), block, n_resamples=199, seed=i) for i in range(100)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
