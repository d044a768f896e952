"""Sequential Monte Carlo tests: valid at any time, and the decisions of many draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from placeformer.stats import monte_carlo
from placeformer.stats.monte_carlo import LOSSES, MonteCarloTest, check_n
from placeformer.stats.multiple_comparisons import benjamini_hochberg
from placeformer.stats.permutation import p_value

RNG = np.random.default_rng


def run(observed, rng, max_q=0.05, n_draws=None, most=np.inf):
    """Tests of values against standard normal draws."""
    test = MonteCarloTest(observed, n_draws, most)
    units = np.arange(observed.shape[-1])
    while (n := test.next_draws()) > 0:
        for _ in range(n):
            test.add(rng.standard_normal((*observed.shape[:-1], units.size)), units)
        units = np.flatnonzero(test.undecided(max_q).any(axis=tuple(range(observed.ndim - 1))))
        if test.sequential and not units.size:
            break
    return test


def test_a_fixed_number_is_the_usual_p():
    rng = RNG(0)
    observed = rng.standard_normal((2, 5))
    null = rng.standard_normal((99, 2, 5))
    null[3, 0, 0] = np.nan
    test = MonteCarloTest(observed, 99)
    for values in null:
        test.add(values, np.arange(5))
    np.testing.assert_array_equal(test.p, p_value(null, observed, axis=0))
    np.testing.assert_allclose(test.mean, np.nanmean(null, axis=0))
    np.testing.assert_allclose(test.sd, np.nanstd(null, axis=0, ddof=1))
    assert test.next_draws() == 0
    assert test.n[0, 0] == 98


def test_p_of_true_nulls_is_valid():
    """Stopping early does not make small p-values more frequent than they should be."""
    p = run(RNG(1).standard_normal((400, 20)), RNG(2)).p.ravel()
    for level in (0.01, 0.05, 0.1, 0.3):
        assert stats.binom(p.size, level).cdf((p <= level).sum()) < 0.999, level


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tuned=st.integers(0, 12))
def test_bounds_only_fall_and_rejections_stay(seed, tuned):
    rng = RNG(seed)
    observed = rng.standard_normal(12)
    observed[:tuned] += 4
    test, before = MonteCarloTest(observed, None, 400), np.ones(12)
    rejected = np.zeros(12, bool)
    for _ in range(400):
        test.add(rng.standard_normal(12), np.arange(12))
        p = test.p
        assert (p <= before + 1e-12).all()
        now = benjamini_hochberg(p) <= 0.05
        assert (now | ~rejected).all()
        before, rejected = p, now
    few = test.extreme < LOSSES
    np.testing.assert_allclose(p[few], (test.extreme[few] + 1) / 401)
    np.testing.assert_allclose(p[~few], LOSSES / test.n[~few])


def test_decisions_are_those_of_exact_p_values():
    rng = RNG(3)
    observed = rng.standard_normal(1000)
    observed[:15] += 6
    test = run(observed, rng)
    exact = benjamini_hochberg(stats.norm.sf(observed)) <= 0.05
    assert exact[:15].all()
    decided = benjamini_hochberg(test.p) <= 0.05
    assert (decided != exact).sum() <= 2
    assert not test.undecided(0.05).any()
    assert test.n.sum() < 200 * 1000


def test_hopeless_units_are_given_up():
    """No unit of many could pass after all draws: few are made."""
    test = run(RNG(4).standard_normal(2000), RNG(5))
    assert test.n.max() < 0.2 * monte_carlo.MOST
    one = run(np.array([9.0]), RNG(6))
    assert one.p[0] <= 0.05 and one.n[0] <= 150


def test_undefined_units_and_few_possible_draws():
    test = run(np.array([np.nan, 0.0, 9.0]), RNG(7), most=30)
    assert np.isnan(test.p[0]) and test.most == 30
    assert test.p[2] == 1 / 31


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "all", None])
def test_numbers_of_draws(n):
    with pytest.raises(ValueError, match="n_shuffles must be 'auto' or a whole number"):
        check_n("n_shuffles", n)
    assert check_n("n_shuffles", "auto") is None and check_n("n", np.int64(3)) == 3
