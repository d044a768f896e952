import numpy as np
from scipy import stats

from placeformer.stats.multiple_comparisons import benjamini_hochberg


def test_q_is_that_of_scipy_and_never_below_p():
    p = np.random.default_rng(9).uniform(size=(2, 50)) ** 3
    p[0, :7] = np.nan
    q = benjamini_hochberg(p)
    np.testing.assert_allclose(q[1], stats.false_discovery_control(p[1]))
    np.testing.assert_allclose(q[0, 7:], stats.false_discovery_control(p[0, 7:]))
    assert np.isnan(q[0, :7]).all()
    assert (q[np.isfinite(q)] >= p[np.isfinite(p)]).all()
