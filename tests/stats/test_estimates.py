"""Statistics over networks: closed forms, SciPy, and their share of wrong answers."""

import numpy as np
import pytest
from scipy import stats

from placeformer.stats.estimates import (
    Estimate,
    correlation,
    over_samples,
    over_seeds,
    spearman,
    trend_p,
    verdict,
)

RNG = np.random.default_rng(0)


def test_spearman_is_that_of_scipy():
    x, y = RNG.integers(0, 9, (2, 30)).astype(float)
    expected = stats.spearmanr(x, y)
    found = correlation(x, y, n_boot=200, seed=0)
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
    assert np.isnan(correlation(x, y, n_boot=10, seed=0)).all()
    assert np.isnan(trend_p(x, y, np.zeros(x.size, int), n_perm=10, seed=0))


def test_a_trend_within_blocks_is_found_where_the_blocks_hide_it():
    x = np.tile(np.arange(6.0), 3)
    block = np.repeat([0, 1, 2], 6)
    y = -x + 100 * block
    assert abs(spearman(x, y)) < 0.5
    assert trend_p(x, y, block, n_perm=999, seed=0) == pytest.approx(0.001)


def test_the_permutation_test_is_exact_for_one_block():
    x, y = np.arange(5.0), np.array([1.0, 0, 2, 3, 4])
    every = stats.permutation_test(
        (y,), lambda v: stats.spearmanr(x, v).statistic, permutation_type="pairings"
    )
    found = trend_p(x, y, np.zeros(5, int), n_perm=20_000, seed=0)
    assert found == pytest.approx(every.pvalue, abs=0.01)


def test_without_a_trend_p_is_uniform():
    block = np.repeat([0, 1, 2], 7)
    x = np.tile(np.arange(7.0), 3)
    p = [trend_p(x, RNG.normal(size=21), block, n_perm=199, seed=i) for i in range(100)]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_over_seeds_is_students_t():
    values = np.array([0.1, 0.3, np.nan, 0.2])
    found = over_seeds(values)
    test = stats.ttest_1samp(values[[0, 1, 3]], 0)
    low, high = test.confidence_interval()
    assert found == pytest.approx((0.2, low, high, test.pvalue))
    assert over_seeds(np.array([0.5, 0.5])) == (0.5, 0.5, 0.5, 0.0)


def test_one_seed_has_no_interval():
    found = over_seeds(np.array([0.4]))
    assert found.value == 0.4
    assert np.isnan([found.lower, found.upper, found.p]).all()
    assert np.isnan(over_seeds(np.array([])).value)


def test_interval_over_samples():
    found = over_samples(np.mean, 0.0, np.linspace(-1, 1, 201)[:, None])
    assert found[:3] == pytest.approx((0, -0.95, 0.95))


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ((0.1, 0.3), "shown"),
        ((-0.3, -0.1), "opposite"),
        ((-0.1, 0.1), "not shown"),
        ((np.nan, 0.1), "not tested"),
    ],
)
def test_a_verdict_needs_the_whole_interval(ends, word):
    assert verdict(Estimate(0, *ends), claimed=1) == word
    turned = Estimate(0, -ends[1], -ends[0])
    assert verdict(turned, claimed=-1) == word
    moved = Estimate(0, ends[0] + 5, ends[1] + 5)
    assert verdict(moved, claimed=1, null=5) == word
