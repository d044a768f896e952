from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.spatial.grid_properties import MAX_ELLIPTICITY, ellipses, grid_properties
from placeformer.spatial.grid_score import grid_score

RNG = np.random.default_rng
REAL = Path(__file__).parents[3] / "shared" / "real" / "grid_cells_29.npz"


def lattice(spacing, turn=0.0, ratio=1.0, tilt=0.0, phase=(0.0, 0.0), side=40):
    """A hexagonal lattice (y, x) that is stretched by a ratio along a direction; degrees."""
    y, x = np.mgrid[:side, :side] - np.asarray(phase)[:, None, None]
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    along, across = (c * x + s * y) / np.sqrt(ratio), (c * y - s * x) * np.sqrt(ratio)
    x, y = c * along - s * across, s * along + c * across
    k = 4 * np.pi / (np.sqrt(3) * spacing)
    waves = np.deg2rad(turn + 30 + np.array([0, 60, 120]))
    return sum(np.cos(k * (x * np.cos(a) + y * np.sin(a))) for a in waves)


def of(rates, width=1.0, **options):
    edges = np.arange(np.shape(rates)[-1] + 1) * width
    maps = pf.maps_from_arrays(np.asarray(rates), edges=edges, position_units="cm")
    return grid_properties(maps, **options)


def apart(a, b, period):
    """Distance of two directions."""
    return np.abs((np.asarray(a) - b + period / 2) % period - period / 2)


def test_spacing_and_orientation_of_known_lattices():
    rng = RNG(0)
    spacing, turn = rng.uniform(7, 14, 40), rng.uniform(0, 60, 40)
    rates = [lattice(s, t, phase=rng.uniform(0, 9, 2)) for s, t in zip(spacing, turn, strict=True)]
    found = of(rates, width=2.5)
    assert found.spacing.attrs["units"] == "cm"
    np.testing.assert_allclose(found.spacing, 2.5 * spacing, rtol=0.03)
    assert apart(found.orientation, turn, 60).max() < 2
    assert (found.ellipticity < 1.08).all()
    assert (found.reason == "").all()
    np.testing.assert_allclose(found.grid_score_corrected, found.grid_score, atol=0.15)
    directions = np.sort((turn[:, None] + np.array([0, 60, 120])) % 180, axis=1)
    np.testing.assert_allclose(apart(found.axis_direction, directions, 180), 0, atol=3)


def test_the_ellipse_of_a_stretched_lattice():
    rng = RNG(1)
    ratio, tilt = rng.uniform(1.1, 1.4, 40), rng.uniform(0, 180, 40)
    rates = [
        lattice(9, rng.uniform(0, 60), r, t, rng.uniform(0, 9, 2))
        for r, t in zip(ratio, tilt, strict=True)
    ]
    found = of(rates)
    np.testing.assert_allclose(found.ellipticity, ratio, rtol=0.06)
    assert np.median(apart(found.ellipse_direction, tilt, 180)) < 2
    assert apart(found.ellipse_direction, tilt, 180).max() < 10
    strong = ratio > 1.25
    assert (found.grid_score_corrected > found.grid_score + 0.1)[strong].all()
    assert (found.grid_score_corrected > 1.25).all()


def test_three_points_determine_an_ellipse():
    rng = RNG(2)
    minor, major, tilt = 2.0, 3.0, np.deg2rad(25)
    t = rng.uniform(0, 2 * np.pi, (5, 3))
    along, across = major * np.cos(t), minor * np.sin(t)
    x, y = (
        along * np.cos(tilt) - across * np.sin(tilt),
        along * np.sin(tilt) + across * np.cos(tilt),
    )
    axes, vectors = ellipses(np.stack([y, x], axis=-1))
    np.testing.assert_allclose(axes, [[minor, major]] * 5)
    np.testing.assert_allclose(np.arctan2(*vectors[:, :, 1].T) % np.pi, tilt)
    line = np.array([[[0.0, 1], [0, 2], [0, 3]], [[1, 0], [0, 1], [0.2, 0.2]]])
    assert np.isnan(ellipses(line)[0]).all()  # a line, and a hyperbola


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_free_of_scale_and_shift_and_turns_with_the_map(seed, scale, shift):
    rng = RNG(seed)
    rate = lattice(9, rng.uniform(0, 60), rng.uniform(1, 1.3), rng.uniform(0, 180))
    rate = rate + 0.2 * ndimage.gaussian_filter(rng.standard_normal(rate.shape), 1)
    want = of([rate])
    for changed, turn, mirror in ((scale * rate + shift, 0, 1), (rate.T, 90, -1)):
        found = of([changed])
        for name in ("grid_score", "grid_score_corrected", "spacing", "ellipticity"):
            np.testing.assert_allclose(found[name], want[name], rtol=1e-5, atol=1e-6)
        for name, period in (("orientation", 60), ("ellipse_direction", 180)):
            assert apart(found[name], turn + mirror * want[name], period).max() < 1e-3


def test_noise_on_the_map_changes_little():
    rng = RNG(3)
    spacing = rng.uniform(8, 13, 60)
    rates = [lattice(s, rng.uniform(0, 60)) + 1.5 * rng.standard_normal((40, 40)) for s in spacing]
    found = of(ndimage.gaussian_filter(rates, (0, 1, 1)))
    assert (found.reason == "").all()
    assert np.quantile(np.abs(found.spacing / spacing - 1), 0.95) < 0.03


def test_what_has_no_lattice_is_nan_with_the_reason():
    y, x = np.mgrid[:40, :40]
    rates = [
        lattice(9),
        np.full((40, 40), 3.0),
        simulation.bump((12, 20), 3, 40) + simulation.bump((30, 20), 3, 40),
        np.cos(2 * np.pi * x / 10) + np.cos(2 * np.pi * y / 10),
    ]
    found = of(rates)
    reasons = ["", "map does not vary", "fewer than 4 fields", "ellipticity above 1.5"]
    assert found.reason.values.tolist() == reasons
    assert found.n_fields[2] == 2
    for name in ("grid_score", "grid_score_corrected", "spacing", "orientation", "ellipticity"):
        assert np.isnan(found[name][1:3]).all()
    # A square lattice becomes hexagonal by the correction: it has a spacing, but no such score.
    assert float(found.ellipticity[3]) == pytest.approx(np.sqrt(3), rel=0.02)
    assert np.sqrt(3) > MAX_ELLIPTICITY
    assert np.isnan(found.grid_score_corrected[3])
    assert found.grid_score[3] < -0.5
    assert of(rates, max_ellipticity=2).grid_score_corrected[3] > 0.7
    assert np.isfinite(of(rates, min_fields=1).grid_score[2])


def test_the_score_is_grid_score_and_maps_stay_apart():
    rng = RNG(4)
    rates = ndimage.gaussian_filter(rng.standard_normal((2, 3, 24, 24)), (0, 0, 1.5, 1.5))
    maps = pf.maps_from_arrays(rates)
    found = grid_properties(maps, min_fields=0)
    assert found.grid_score.dims == ("map", "unit")
    np.testing.assert_allclose(found.grid_score, grid_score(maps))
    np.testing.assert_allclose(
        found.spacing.isel(map=1), grid_properties(maps.isel(map=1), min_fields=0).spacing
    )


def test_small_maps_have_no_score():
    found = grid_properties(pf.maps_from_arrays(RNG(5).standard_normal((2, 5, 5))), min_fields=0)
    assert np.isnan(found.grid_score).all()
    assert found.reason.str.startswith("no room for a ring").all()


def test_options_and_maps_that_are_refused():
    maps = pf.maps_from_arrays(np.ones((1, 12, 12)))
    with pytest.raises(ValueError, match=r"min_fields .* got -1"):
        grid_properties(maps, min_fields=-1)
    with pytest.raises(ValueError, match=r"max_ellipticity .* got 1"):
        grid_properties(maps, max_ellipticity=1)
    with pytest.raises(ValueError, match="two axes for grid properties"):
        grid_properties(pf.maps_from_arrays(np.ones((1, 12)), by="x"))


@pytest.mark.skipif(not REAL.is_file(), reason="the recordings are not there")
def test_corrected_scores_of_real_grid_cells_are_those_of_the_authors():
    file = np.load(REAL)
    found = grid_properties(pf.maps_from_arrays(file["rate"]), max_ellipticity=2)
    known = np.isfinite(found.grid_score_corrected.values)
    assert known.sum() == 28
    assert found.reason.values[~known].tolist() == ["fewer than 4 fields"]
    theirs = file["author_gridness3"][known]
    corrected, plain = (found[f"grid_score{end}"].values[known] for end in ("_corrected", ""))
    assert stats.spearmanr(corrected, theirs).statistic >= 0.92
    assert stats.spearmanr(plain, theirs).statistic < 0.6
    assert np.median(np.abs(corrected - theirs)) < 0.1
