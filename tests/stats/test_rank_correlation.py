"""Rank correlations: closed forms, SciPy, and their share of wrong answers."""

import itertools

import numpy as np
import pytest
from scipy import stats

from placeformer.stats.rank_correlation import correlation, partial_within, spearman, trend

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
    assert np.isnan(trend(x, y, np.zeros(x.size, int), n_resamples=10, seed=0).value)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_p_of_a_perfect_order_is_that_of_the_orders(n):
    x = np.arange(float(n))
    rho = [abs(stats.spearmanr(x, order).statistic) for order in itertools.permutations(x)]
    exact = np.mean(np.array(rho) >= 1 - 1e-9)
    for y in (x**3, -x):
        assert correlation(x, y, n_resamples=20, seed=0).p == pytest.approx(exact)


def test_rho_is_never_beyond_one():
    for n in range(4, 60):
        x = np.random.default_rng(n).standard_normal(n)
        assert 1 - 1e-12 < spearman(x, x**3) <= 1
        assert -1 <= spearman(x, -x) < -1 + 1e-12


def test_a_trend_within_blocks_is_found_where_the_blocks_hide_it():
    x = np.tile(np.arange(6.0), 3)
    block = np.repeat([0, 1, 2], 6)
    y = -x + 100 * block
    assert abs(spearman(x, y)) < 0.5
    found = trend(x, y, block, n_resamples=999, seed=0)
    assert (found.value, found.p) == pytest.approx((-1, 0.001))


def test_the_permutation_test_is_exact_for_one_block():
    x, y = np.arange(5.0), np.array([1.0, 0, 2, 3, 4])
    every = stats.permutation_test(
        (y,), lambda v: stats.spearmanr(x, v).statistic, permutation_type="pairings"
    )
    found = trend(x, y, np.zeros(5, int), n_resamples=20_000, seed=0)
    assert found.value == pytest.approx(every.statistic)
    assert found.p == pytest.approx(every.pvalue, abs=0.01)


def test_without_a_trend_p_is_uniform():
    block = np.repeat([0, 1, 2], 7)
    x = np.tile(np.arange(7.0), 3)
    p = [trend(x, RNG.normal(size=21), block, n_resamples=199, seed=i).p for i in range(100)]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_the_partial_rho_within_blocks_is_that_of_ranks_given_indicators():
    block = np.repeat(["a", "b", "c", "d"], 4)
    x, y = RNG.normal(size=(2, 16))
    dummies = (block[:, None] == np.unique(block)).astype(float)
    ranks = [stats.rankdata(v) for v in (x, y)]
    rest = [r - dummies @ np.linalg.lstsq(dummies, r, rcond=None)[0] for r in ranks]
    found = partial_within(x, y, block, n_resamples=99, seed=0)
    assert found.value == pytest.approx(np.corrcoef(*rest)[0, 1])


def test_what_blocks_have_in_common_is_no_relation_within_them():
    block, p = np.repeat(np.arange(10), 3), []
    for seed in range(100):
        x, y = np.repeat(RNG.normal(size=10), 3) + 0.3 * RNG.normal(size=(2, 30))
        assert spearman(x, y) > 0.5
        p.append(partial_within(x, y, block, n_resamples=199, seed=seed).p)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_without_several_points_in_a_block_there_is_no_partial_rho():
    x, y = RNG.normal(size=(2, 6))
    assert np.isnan(partial_within(x, y, np.arange(6), n_resamples=9, seed=0)).all()


def test_a_value_is_significant_only_beyond_the_least_one():
    block, x = np.repeat([0, 1], 8), RNG.normal(size=16)
    found = [trend(x, RNG.normal(size=16), block, n_resamples=99, seed=s) for s in range(100)]
    for one in found:
        assert (one.p <= 0.05) == (abs(one.value) > one.least)
    assert np.isinf(trend(x, x, block, n_resamples=10, seed=0).least)  # the least p is 1 / 11


def test_points_of_one_cluster_count_as_one():
    x, y = np.repeat(RNG.normal(size=(2, 12)), 5, axis=1)
    cluster = np.repeat(np.arange(12), 5)
    found = correlation(x, y, cluster=cluster, n_resamples=400, seed=0)
    alone = correlation(x[::5], y[::5], n_resamples=400, seed=0)
    assert found.value == pytest.approx(alone.value, abs=0.03)
    assert found.p == pytest.approx(alone.p, abs=0.1)
    as_points = correlation(x, y, n_resamples=400, seed=0)
    assert found.upper - found.lower > 1.5 * (as_points.upper - as_points.lower)
