"""Intervals and verdicts: Student's t, SciPy's bootstrap, and the rule for undefined samples."""

import numpy as np
import pytest
from scipy import stats

from placeformer.stats.bootstrap import draws, resampled
from placeformer.stats.intervals import (
    Estimate,
    over_samples,
    over_seeds,
    percentile_interval,
    verdict,
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
