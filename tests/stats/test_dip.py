import numpy as np
import pytest
from scipy.optimize import linprog

from placeformer.stats.dip import dip, dip_test

RNG = np.random.default_rng


def dip_by_programming(x):
    """Least distance of a distribution that is convex up to a mode and concave after it."""
    x = np.sort(x)
    n, best = len(x), np.inf
    upper, lower = np.arange(1, n + 1) / n, np.arange(n) / n
    for mode in range(n):  # g before the mode, g after it (a jump), and the distance
        before, after = np.arange(mode + 1), np.arange(mode, n)
        size = len(before) + len(after) + 1
        conditions = []
        for offset, part in ((0, before), (len(before), after)):
            for k, i in enumerate(part):
                for sign, limit in ((1, lower[i]), (-1, upper[i])):
                    if i == mode and (offset == 0) == (sign == -1):
                        continue  # at a jump either side has one limit of the distribution
                    row = np.zeros(size)
                    row[offset + k], row[-1] = sign, -1
                    conditions.append((row, sign * limit))
            for k in range(1, len(part) - 1):
                row = np.zeros(size)
                a, b, c = x[part[k - 1 : k + 2]]
                row[offset + k - 1 : offset + k + 2] = (
                    -1 / (b - a),
                    1 / (b - a) + 1 / (c - b),
                    -1 / (c - b),
                )
                conditions.append((row if offset == 0 else -row, 0))
        row = np.zeros(size)
        row[len(before) - 1], row[len(before)] = 1, -1
        conditions.append((row, 0))
        rows, limits = zip(*conditions, strict=True)
        cost = np.zeros(size)
        cost[-1] = 1
        best = min(best, linprog(cost, rows, limits, bounds=(None, None)).fun)
    return best


@pytest.mark.parametrize("seed", range(8))
def test_dip_is_the_distance_from_the_nearest_unimodal_distribution(seed):
    rng = RNG(seed)
    x = np.concatenate([rng.normal(0, 1, 7), rng.normal(rng.uniform(0, 8), 1, 5)])
    assert dip(x) == pytest.approx(dip_by_programming(x), abs=1e-8)


def test_dips_that_are_known():
    assert dip(np.arange(10)) == pytest.approx(1 / 20)  # equally spaced: 1 / (2 n)
    assert dip([0, 0, 0, 1, 1, 1]) == pytest.approx(1 / 4)  # two points: the maximum
    assert np.isnan(dip([]))
    rng = RNG(1)
    x = rng.normal(size=40)
    assert dip(-3 * x + 1) == pytest.approx(dip(x))


def test_one_of_several_equal_values_may_be_the_mode():
    assert dip([2.5] * 20) == pytest.approx(1 / 40)  # a point has one mode
    assert dip_test([2.5] * 20, n_resamples=99) == (pytest.approx(1 / 40), 1.0)
    # The mode is at 1; of the other values 2 holds two of eight, whose jump is halved.
    x = np.array([0, 1, 1, 1, 2, 2, 4, 5])
    assert dip(x) == pytest.approx(1 / 8, abs=1e-6)
    nearly = dip_by_programming(x + 1e-6 * np.arange(8))
    assert dip(x + 1e6) == pytest.approx(nearly, abs=1e-5)


def test_two_groups_are_told_from_one():
    rng = RNG(2)
    two = np.concatenate([rng.normal(0, 1, 30), rng.normal(6, 1, 30)])
    assert dip_test(two, n_resamples=199)[1] == pytest.approx(1 / 200)
    p = [dip_test(rng.random(30), n_resamples=39)[1] for _ in range(60)]
    assert 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) <= 0.1) < 0.25
    assert np.mean([dip_test(rng.normal(size=30), n_resamples=39)[1] for _ in range(20)]) > 0.6
