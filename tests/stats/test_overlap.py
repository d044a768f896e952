"""Overlap of sets: exact under chance within strata."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from placeformer.stats.overlap import overlap


def sets(*which, n=8):
    return [np.isin(np.arange(n), members) for members in which]


def test_chance_and_p_are_those_of_all_sets_of_these_sizes():
    a, b = sets([0, 1, 2, 5], [1, 2, 3, 5, 6])
    strata = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = overlap(a, b, strata)
    shared = [
        len({0, 1, 2} & set(first)) + len({5} & set(second))
        for first in combinations(range(4), 3)
        for second in combinations(range(4, 8), 2)
    ]
    assert found.kept == 3 / 4
    assert found.chance == pytest.approx(np.mean(shared) / 4)
    assert found.p == pytest.approx(np.mean(np.array(shared) >= 3))
    assert found.excess == pytest.approx((found.kept - found.chance) / (1 - found.chance))


def test_one_stratum_is_hypergeometric():
    a, b = sets(range(30), range(20, 60), n=100)
    found = overlap(a, b, np.zeros(100))
    assert found.p == pytest.approx(stats.hypergeom(100, 30, 40).sf(9))
    assert found.chance == pytest.approx(0.4)


def test_the_same_set_is_kept_and_an_empty_one_has_no_share():
    a, none = sets([0, 3], [])
    assert overlap(a, a, np.zeros(8)).excess == 1
    assert np.isnan(overlap(none, a, np.zeros(8))).all()
    assert overlap(a, none, np.zeros(8))[:2] == (0, 0) and overlap(a, none, np.zeros(8)).p == 1
    everything = np.ones(8, bool)
    assert np.isnan(overlap(everything, everything, np.zeros(8)).excess)


def test_p_is_uniform_or_larger_for_random_sets():
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], 40)
    p = [overlap(rng.random(80) < 0.2, rng.random(80) < 0.3, strata).p for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(np.array(p) <= 0.5) > 0.3  # it can be small
