import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from placeformer.evaluation import simulation
from placeformer.spatial.border_score import border_score
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.stability import half_maps

RNG = np.random.default_rng
SEEDS = st.integers(0, 2**32 - 1)


def score(rate, **options):
    return border_score(simulation.maps(rate), **options).values


def score_by_loops(rate, least):
    """The score from its definition, one map of rates of at least 0, walls and fields in loops."""
    n_y, n_x = rate.shape
    high = np.nan_to_num(rate) > 0.3 * np.nanmax(rate)
    label, n = ndimage.label(high)
    coverage, weights = 0.0, np.zeros(rate.shape)
    for number in range(1, n + 1):
        field = label == number
        if field.sum() >= least:
            weights[field] = rate[field]
            for wall in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
                visited = np.isfinite(rate[wall])
                coverage = max(coverage, field[wall].sum() / visited.sum())
    y, x = np.mgrid[:n_y, :n_x] + 0.5
    far = np.min([y, n_y - y, x, n_x - x], axis=0) / (min(n_y, n_x) / 2)
    distance = (weights * far).sum() / weights.sum()
    return (coverage - distance) / (coverage + distance)


@pytest.mark.parametrize("n", [11, 40])
@pytest.mark.parametrize("wall", [np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]])
def test_a_line_along_any_wall(wall, n):
    rate = np.zeros((n, n))
    rate[wall] = 7.0
    np.testing.assert_allclose(score([rate]), (1 - 1 / n) / (1 + 1 / n))


def test_half_a_wall_a_central_field_and_a_corner():
    half, centre, corner = np.zeros((3, 20, 20))
    half[0, :10] = centre[8:12, 8:12] = corner[:4, :4] = 1.0
    found = score([half, centre, corner])
    np.testing.assert_allclose(found[0], (0.5 - 0.05) / (0.5 + 0.05))
    assert found[1] == -1
    assert -0.5 < found[2] < 0.5


def test_agrees_with_the_definition_in_loops():
    rng = RNG(0)
    rate = np.abs(ndimage.gaussian_filter(rng.standard_normal((8, 12, 15)), (0, 1.5, 1.5)))
    rate[2, 0, 4:9] = rate[3, 5, 5] = np.nan
    want = [score_by_loops(one, least=4) for one in rate]
    np.testing.assert_allclose(score(rate, min_bins=4), want, rtol=1e-12)


def test_fields_under_the_least_size_do_not_count():
    rate = np.zeros((20, 20))
    rate[0] = 1.0
    rate[10, 10] = 2.0
    alone = score([np.where(rate == 2, 0, rate)])
    np.testing.assert_allclose(score([rate]), alone)  # 1 of 400 bins is less than 2 %
    assert score([rate], min_bins=1) < alone
    assert np.isnan(score([np.where(rate == 1, 0, rate)]))


def test_distances_are_those_of_the_arena_not_of_the_bins():
    rng = RNG(1)
    x, y = rng.uniform(0, [[[2.0]], [[1.0]]], (2, 1, 4000))
    rec = simulation.recording((x < 0.1).astype(float)[..., None], x, y)
    edges = {"x": np.linspace(0, 2, 21), "y": np.linspace(0, 1, 6)}
    far = 0.05 / 0.5  # the centre of a bin of 0.1 along x; half the shorter side is 0.5
    found = border_score(rate_maps(rec, bins=edges))
    np.testing.assert_allclose(found, (1 - far) / (1 + far))


def test_policies_for_negatives():
    rate = np.full((2, 20, 20), -1.0)
    rate[:, 0] = 1.0
    shifted, rectified = (score(rate, negatives=p) for p in ("shift", "rectify"))
    np.testing.assert_allclose(shifted, rectified)
    with pytest.raises(ValueError, match="negatives='raise'"):
        score(rate, negatives="raise")
    attrs = border_score(simulation.maps(rate), negatives="shift").attrs
    assert attrs["negatives"] == "shift"
    assert {"units", "long_name"} <= set(attrs)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_free_of_scale_mirrors_and_with_shift_of_shifts(seed, scale, shift):
    rate = ndimage.gaussian_filter(RNG(seed).standard_normal((3, 11, 11)), (0, 1.5, 1.5))
    for policy in ("rectify", "shift"):
        want = score(rate, negatives=policy)
        known = want[np.isfinite(want)]
        assert ((known >= -1) & (known <= 1)).all()
        for changed in (scale * rate, rate[:, ::-1], rate.transpose(0, 2, 1)):
            np.testing.assert_allclose(score(changed, negatives=policy), want, atol=1e-9)
    np.testing.assert_allclose(score(rate + shift, negatives="shift"), want, atol=1e-6)


def test_maps_without_a_field_are_nan_and_a_constant_one_is_a_field():
    rates = [np.zeros((9, 9)), -np.ones((9, 9)), np.full((9, 9), np.nan), np.ones((9, 9))]
    found = score(rates)
    np.testing.assert_array_equal(np.isnan(found), [True, True, True, False])
    np.testing.assert_allclose(found[3], 0.5, atol=0.05)
    assert np.isnan(score(rates, negatives="shift")).all()
    np.testing.assert_allclose(score(np.ones((1, 1, 1))), 0.0)


def test_every_map_is_scored_apart():
    apart = rate_maps(simulation.walks(RNG(5)), per_map=True)
    found = border_score(apart)
    assert found.dims == ("map", "unit")
    np.testing.assert_allclose(found.isel(map=1), border_score(apart.isel(map=1)))


@pytest.mark.parametrize("per_half", [False, True])
def test_rooms_of_different_size_have_their_own_walls(per_half):
    rng = RNG(6)
    x, y = rng.integers(0, 10, (2, 4, 600))
    x[2:], y[2:] = x[2:] // 2 + 2, y[2:] // 2 + 3  # from 2 to 6 and from 3 to 7
    units = np.stack([x == 2, y == 7, x == 0], axis=-1) + 0.1 * rng.random((4, 600, 3))
    recording = simulation.recording(units, x, y, map=np.array([0, 0, 1, 1]))
    maps = (half_maps if per_half else rate_maps)(recording, per_map=True)
    found = border_score(maps)
    for room in (0, 1):
        alone = border_score(maps.isel(map=room))
        np.testing.assert_allclose(found.isel(map=room).transpose(*alone.dims), alone)
    assert (found.isel(map=1, unit=[0, 1]) > 0.5).all()  # cells of the walls of the second room


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.0}, "threshold must"),
        ({"threshold": 1.0}, "threshold must"),
        ({"min_bins": 0}, "min_bins must"),
        ({"negatives": "drop"}, "negatives must"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        score(np.ones((1, 9, 9)), **options)


def test_maps_of_one_axis_are_refused():
    maps = rate_maps(simulation.walks(RNG(0)), by="x")
    with pytest.raises(ValueError, match="two axes"):
        border_score(maps)


def test_margins_that_nobody_visited_are_no_walls():
    wall = np.zeros((20, 20))
    wall[0] = 10
    want = border_score(simulation.maps(wall[None]))
    ring = np.pad(wall, 1, constant_values=np.nan)
    np.testing.assert_allclose(border_score(simulation.maps(ring[None])), want)
    row = np.vstack([np.full((1, 20), np.nan), wall])
    np.testing.assert_allclose(border_score(simulation.maps(row[None])), want)
    row[0, 3] = 0
    with pytest.warns(UserWarning, match="less than 25% of the places at a wall"):
        border_score(simulation.maps(row[None]))


WALL = np.zeros((20, 20))
WALL[0] = 10


@pytest.mark.parametrize(
    "beyond", [((1, 1), (1, 1)), ((1, 0), (0, 0)), ((0, 3), (2, 0))], ids=["ring", "row", "corner"]
)
def test_walls_are_where_something_was_visited(beyond):
    wide = np.pad(WALL, beyond, constant_values=np.nan)
    want = border_score(simulation.maps(WALL[None]))
    np.testing.assert_allclose(border_score(simulation.maps(wide[None])), want)


def test_axes_in_different_units_are_refused():
    maps = simulation.maps(RNG(0).random((1, 8, 8)))
    maps["x"].attrs["units"], maps["y"].attrs["units"] = "cm", "m"
    with pytest.raises(ValueError, match=r"axes in the same units.*'y' in 'm', 'x' in 'cm'"):
        border_score(maps)
