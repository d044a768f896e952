"""Ordered units against their controls: tests at their level, intervals that cover."""

import numpy as np
import xarray as xr

from placeformer.interventions.ablation_comparison import SET_DIMS, compare_sets


def compared(wrong, n, **options):
    """Compare wrong predictions (selection, fraction, repeat, walk), all fractions in the area."""
    inside = xr.DataArray(np.ones(wrong.shape[1], bool), dims="fraction")
    labelled = xr.DataArray(wrong, dims=(*SET_DIMS, "cluster"))
    return compare_sets(labelled, n, inside=inside, **options)


def test_p_keeps_its_level_where_the_ordered_units_are_one_more_control():
    rng = np.random.default_rng(2)
    n = np.full(20, 10)
    p = []
    for seed in range(200):
        wrong = rng.binomial(10, 0.4, (2, 2, 9, 20)).astype(float)
        wrong[0] = wrong[0, :, :1]  # one ordered set, whatever the repeat
        result = compared(wrong, n, sign=1, n_resamples=20, seed=seed)
        p.append(result.p_sets.values[0, 0])
    assert 0.04 < np.mean(np.array(p) <= 0.1) < 0.17


def test_intervals_cover_the_difference():
    rng = np.random.default_rng(3)
    n, hits = np.full(40, 20), []
    for seed in range(120):
        skill = rng.normal(0, 0.1, 40)  # walks differ, by the same for both: the pairs
        p = np.clip(np.array([0.5, 0.4])[:, None] + skill, 0, 1)
        wrong = rng.binomial(20, p)[:, None, None, :].astype(float)
        result = compared(wrong, n, sign=1, n_resamples=300, seed=seed)
        low, high = result.difference_interval.values[0, 0]
        assert result.area_interval.values[0].tolist() == [low, high]
        hits.append(low <= 0.1 <= high)
    assert 0.88 < np.mean(hits) < 0.99


def test_the_area_is_the_mean_over_fractions_where_a_control_has_sets():
    wrong = np.arange(3 * 3 * 2 * 4, dtype=float).reshape(3, 3, 2, 4)
    wrong[2, 1:] = np.nan
    n = np.full(4, 100)
    result = compared(wrong, n, sign=1, n_resamples=10, seed=0)
    error = wrong.sum(-1).mean(-1) / 400
    np.testing.assert_allclose(
        result.area, [(error[0] - error[1]).mean(), (error[0] - error[2])[0]]
    )
    assert result.p_sets.isnull().values.tolist() == [[False] * 3, [False, True, True]]
    none = xr.DataArray(np.zeros(3, bool), dims="fraction")
    empty = compare_sets(
        xr.DataArray(wrong, dims=(*SET_DIMS, "cluster")), n, inside=none, sign=1, n_resamples=10,
        seed=0,
    )  # fmt: skip
    assert empty.area.isnull().all() and empty.area_p_sets.isnull().all()


def test_one_cluster_has_no_interval():
    result = compared(np.ones((2, 1, 3, 1)), np.array([4]), sign=1, n_resamples=10, seed=0)
    assert result.interval.isnull().all() and result.area_interval.isnull().all()
    assert result.error.notnull().all()
