"""Intervals and verdicts: Student's t, SciPy's bootstrap, and the rule for undefined samples."""

import numpy as np
import pytest
from scipy import stats

from placeformer.stats.bootstrap import draws, resampled
from placeformer.stats.intervals import (
    Estimate,
    error_interval,
    over_samples,
    over_seeds,
    percentile_interval,
    verdict,
    verdict_of_p,
)


def test_bootstrap_interval_is_scipys():
    rng = np.random.default_rng(0)
    wrong = rng.integers(0, 5, 60).astype(float)
    got = percentile_interval(resampled(wrong, np.ones(60), draws(60, 20_000, rng)))
    want = stats.bootstrap([wrong], np.mean, n_resamples=20_000, method="percentile", rng=rng)
    np.testing.assert_allclose(got, want.confidence_interval, atol=0.01)


def test_undefined_samples_are_left_out_unless_most_are_undefined():
    samples = np.stack([np.arange(101.0), np.arange(101.0), np.arange(101.0)], -1)
    samples[:20, 1] = np.nan
    samples[:60, 2] = np.nan
    want = [[2.5, 97.5], [22, 98], [np.nan, np.nan]]
    np.testing.assert_allclose(percentile_interval(samples), want)
    np.testing.assert_allclose(percentile_interval(samples.T, axis=1), want)
    np.testing.assert_allclose(percentile_interval(samples[:, 0], 0.5), [25, 75])
    assert np.isnan(percentile_interval([])).all()


def test_over_seeds_is_students_t():
    values = np.array([0.1, 0.3, np.nan, 0.2])
    found = over_seeds(values)
    test = stats.ttest_1samp(values[[0, 1, 3]], 0)
    low, high = test.confidence_interval()
    assert found == pytest.approx((0.2, low, high, test.pvalue))


def test_equal_values_of_few_seeds_have_no_interval_and_no_p():
    for values in (np.full(3, -0.8), np.zeros(3), np.array([0.1 + 0.2, 0.3, 0.3])):
        found = over_seeds(values)
        assert found.value == pytest.approx(values.mean())
        assert np.isnan(found[1:]).all()
        assert verdict(found, claimed=-1) == "not tested"


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


def test_a_verdict_by_p_follows_the_sign():
    for value, p, word in (
        (-0.4, 0.05, "shown"), (0.4, 0.01, "opposite"), (-0.9, 0.06, "not shown"),
        (-0.9, np.nan, "not tested"),
    ):  # fmt: skip
        assert verdict_of_p(Estimate(value, p=p), claimed=-1) == word


def test_the_interval_of_an_error_is_wilsons_where_predictions_are_independent():
    wrong = np.zeros(20_000)
    wrong[:300] = 1
    want = stats.binomtest(300, 20_000).proportion_ci(method="wilson")
    np.testing.assert_allclose(error_interval(wrong, np.ones(20_000)), want, rtol=1e-3)


def test_predictions_that_are_equal_within_walks_count_as_one():
    wrong = np.array([0, 0, 8, 8, 0, 8, 0, 0, 8, 8])
    t, n = stats.t.ppf(0.975, 9), 10 - 1  # the variance has the factor 10 / 9
    centre = (0.5 + t**2 / (2 * n)) / (1 + t**2 / n)
    half = t * np.sqrt(0.25 / n + t**2 / (4 * n**2)) / (1 + t**2 / n)
    np.testing.assert_allclose(error_interval(wrong, 8), [centre - half, centre + half])


def test_the_interval_of_a_rare_error_has_a_width_and_one_walk_has_none():
    low, high = error_interval(np.zeros(16), np.full(16, 47))
    assert low == 0 and 0.003 < high < 0.01
    low, high = error_interval(np.full(16, 47), np.full(16, 47))
    assert high == 1 and 0.99 < low < 0.997
    assert np.isnan(error_interval([[1], [0]], [[3], [3]])).all()
    assert np.isnan(error_interval([1, 0, 0], [3, 0, 0])).all()
    assert np.isnan(error_interval(np.zeros(4), np.zeros(4))).all()


def test_variance_between_sets_widens_the_interval():
    wrong, n = np.array([3, 1, 4, 2.5]), np.full(4, 10)
    alone, more = error_interval(wrong, n), error_interval(wrong, n, of_sets=0.02)
    assert more[0] < alone[0] and alone[1] < more[1]


@pytest.mark.parametrize("alike", [0, 0.005, 0.02])
@pytest.mark.parametrize(("error", "per_walk"), [(0.0025, 47), (0.04, 16), (0.3, 16), (0.9, 16)])
def test_the_interval_of_an_error_covers(error, per_walk, alike):
    """Walks of different difficulty: beta-binomial, `alike` the correlation within a walk."""
    rng = np.random.default_rng(0)
    n = rng.poisson(per_walk, (2000, 16)).clip(1)
    of_walk = np.full(n.shape, error)
    if alike:
        size = (1 - alike) / alike
        of_walk = rng.beta(error * size, (1 - error) * size, n.shape)
    low, high = error_interval(rng.binomial(n, of_walk), n).T
    assert 0.93 < np.mean((low <= error) & (error <= high)) < 0.985
