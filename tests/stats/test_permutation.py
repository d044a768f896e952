"""P-values: SciPy's permutation tests, values by hand, ties and NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from placeformer.stats.permutation import control_p, p_value, sign_flip_p


def test_p_counts_the_data_and_ties():
    null = np.array([0.0, 1, 2, 3])
    assert p_value(null, 2.0) == 3 / 5
    assert p_value(null, 2.0, greater=False) == 4 / 5
    assert p_value(null, 9.0) == 1 / 5
    assert p_value(np.array([]), 9.0) != p_value(np.array([]), 9.0)


def test_p_leaves_out_what_is_undefined():
    null = np.array([[0.0, np.nan, 2, 3], [np.nan] * 4, [1, 2, 3, 4.0]])
    observed = np.array([2.0, 1.0, np.nan])
    np.testing.assert_allclose(p_value(null, observed), [3 / 4, np.nan, np.nan])
    np.testing.assert_allclose(p_value(null.T, observed, axis=0), [3 / 4, np.nan, np.nan])


@given(st.integers(-6, 6), st.integers(0, 2**31))
def test_values_equal_up_to_rounding_are_ties_whatever_their_scale(scale, seed):
    rng = np.random.default_rng(seed)
    terms = rng.standard_normal(30) * 10.0**scale
    orders = np.array([rng.permutation(terms).astype("f4").sum() for _ in range(50)])
    size = np.append(orders, np.abs(terms).sum())  # a null in which the signs vary
    assert p_value(size, terms.sum()) == 1
    assert p_value(-size, -terms.sum(), greater=False) == 1


def test_values_that_differ_are_no_ties():
    assert p_value(np.full(9, 1 - 1e-5), 1.0) == 0.1
    assert p_value(np.full(9, 1 + 1e-5), 1.0, greater=False) == 0.1


def test_two_flips_that_cancel_reach_a_sum_of_zero():
    """Sums of 0.1 - 0.1 in another order are not 0 but tie with it."""
    difference = np.array([0.1, 0.2, -0.3])
    assert difference.sum() != 0 or (-difference[::-1]).sum() != 0
    flips = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1)
    p = p_value(difference @ flips, difference.sum())
    assert p == (1 + 5) / (1 + 8)


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
    np.testing.assert_array_equal(control_p(np.array([0.2, 0.5]), controls), [0.75, np.nan])
