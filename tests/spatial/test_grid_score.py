from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from helpers.autocorrelation import r_at_every_lag
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from placeformer.evaluation import simulation
from placeformer.spatial import grid_score as gridness
from placeformer.spatial.autocorrelogram import MIN_PAIRS
from placeformer.spatial.grid_score import grid_score
from placeformer.spatial.rate_maps import rate_maps

RNG = np.random.default_rng
SEEDS = st.integers(0, 2**32 - 1)


def smooth_noise(rng, n, shape, width=1.5):
    return ndimage.gaussian_filter(rng.standard_normal((n, *shape)), (0, width, width))


def score(rate, **attrs):
    return grid_score(simulation.maps(rate, **attrs)).values


def score_by_loops(rate):
    """The score from its definition: radii and angles in loops, SciPy's interpolation."""
    lags = r_at_every_lag(rate)
    known, lags = np.isfinite(lags), np.nan_to_num(lags)
    centre = np.array(lags.shape) // 2
    y, x = np.indices(lags.shape) - centre[:, None, None]
    distance, side = np.hypot(y, x), min(rate.shape)
    rings = [(distance > k - 1 + 1e-9) & (distance <= k + 1e-9) for k in range(1, side)]
    profile = [lags[ring].sum() / max(known[ring].sum(), 1) for ring in rings[: int(0.9 * side)]]
    rising = [b > a for a, b in pairwise(profile)] + [True]
    edge = 1 + next(k for k, r in enumerate(profile) if r < 0.2 or rising[k])
    best = -np.inf
    for radius in range(edge + int(np.ceil(0.1 * side)), int(0.9 * side) + 1):
        ring = (distance > edge + 1e-9) & (distance <= radius + 1e-9)
        r = {}
        for angle in (30, 60, 90, 120, 150):
            c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
            at = [c * y - s * x + centre[0], s * y + c * x + centre[1]]
            turned = ndimage.map_coordinates(lags, at, order=1)
            there = ndimage.map_coordinates(known.astype(float), at, order=1) > 1 - 1e-9
            use = ring & known & there
            r[angle] = np.corrcoef(lags[use], turned[use])[0, 1]
            assert use.sum() >= MIN_PAIRS
        best = max(best, min(r[60], r[120]) - max(r[30], r[90], r[150]))
    return best


@pytest.mark.parametrize("shape", [(10, 10), (11, 14)])
def test_agrees_with_the_definition_in_loops(shape):
    rates = [
        *smooth_noise(RNG(1), 2, shape, width=1.0),
        simulation.hexagons(shape, 6.0, 0.3, (1, 2)),
    ]
    rates[1][:3, :2] = np.nan
    want = [score_by_loops(rate) for rate in rates]
    np.testing.assert_allclose(score(rates), want, atol=1e-9)


def test_hexagons_score_high_squares_low_and_stripes_between():
    shape = (24, 24)
    y, x = np.mgrid[:24, :24] * 2 * np.pi / 8
    hexagons = [simulation.hexagons(shape, 8.0, turn, (3, 1)) for turn in (0, 0.2, 0.5)]
    found = score([*hexagons, np.cos(x) + np.cos(y), np.cos(x)])
    assert (found[:3] > 1.3).all()
    assert found[3] < -0.8
    assert abs(found[4]) < 0.3


def test_grid_cells_are_told_from_place_cells_and_noise():
    rng, shape = RNG(2), (20, 20)
    grids = [
        simulation.hexagons(shape, rng.uniform(6, 9), rng.uniform(0, 1), rng.uniform(0, 9, 2))
        for _ in range(20)
    ] + rng.standard_normal((20, *shape))
    centres = rng.uniform(0, 19, (20, 2))
    places = [simulation.bump(c, 2.5, 20) for c in centres] + 0.1 * rng.standard_normal(
        (20, *shape)
    )
    others = np.concatenate([score(places), score(smooth_noise(rng, 20, shape))])
    assert stats.mannwhitneyu(score(grids), others).statistic / (20 * 40) == 1.0  # area under ROC


def test_unvisited_places_are_left_out():
    rate = simulation.hexagons((24, 24), 8.0, 0.2, (3, 1))
    rate[:7, :7] = np.nan
    rate[20, 10:14] = np.nan
    assert score([rate]) > 1.3


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_free_of_scale_shift_sign_mirrors_and_right_angles(seed, scale, shift):
    rate = smooth_noise(RNG(seed), 2, (12, 12))
    want = score(rate)
    assert (np.abs(want[np.isfinite(want)]) <= 2).all()
    changes = [scale * rate + shift, -rate, rate[:, ::-1], np.rot90(rate, axes=(1, 2))]
    for changed in changes:
        np.testing.assert_allclose(score(changed), want, atol=1e-6)


def test_maps_that_cannot_have_a_score_are_nan():
    flat = np.full((12, 12), 0.1)
    rounding = flat * (1 + 1e-9 * RNG(3).standard_normal((12, 12)))
    assert np.isnan(score([flat, rounding, np.full((12, 12), np.nan)])).all()
    for shape in [(1, 1), (1, 9), (5, 5)]:
        assert np.isnan(score(RNG(4).standard_normal((2, *shape)))).all()


def test_every_map_is_scored_apart():
    rec = simulation.walks(RNG(5))
    apart = rate_maps(rec, per_map=True)
    found = grid_score(apart)
    assert found.dims == ("map", "unit")
    np.testing.assert_allclose(found.isel(map=1), grid_score(apart.isel(map=1)), atol=1e-9)
    assert {"units", "long_name"} <= set(found.attrs)


def test_many_maps_are_the_maps_one_by_one(monkeypatch):
    rate = smooth_noise(RNG(6), 5, (12, 12))
    want = score(rate)
    monkeypatch.setattr(gridness, "BLOCK", 2)
    np.testing.assert_allclose(score(rate), want, atol=1e-12)


def test_bins_that_differ_by_a_few_percent_are_square():
    maps = simulation.maps(smooth_noise(RNG(6), 1, (20, 20)))
    a, b = (maps.assign_coords(x=step * np.arange(20)) for step in (1.0, 1.02))
    np.testing.assert_array_equal(grid_score(a), grid_score(b))
    with pytest.raises(ValueError, match="square bins"):
        grid_score(maps.assign_coords(x=1.06 * np.arange(20)))


def test_maps_without_two_axes_of_square_bins_are_refused():
    maps = simulation.maps(np.ones((1, 12, 12)))
    with pytest.raises(ValueError, match=r"square bins .* 1 to 2"):
        grid_score(maps.assign_coords(x=2.0 * np.arange(12)))
    line = xr.Dataset(
        {"rate": (("unit", "x"), np.ones((1, 9))), "occupancy": ("x", np.ones(9))},
        coords={"x": np.arange(9.0)},
    )
    with pytest.raises(ValueError, match="two axes"):
        grid_score(line)
