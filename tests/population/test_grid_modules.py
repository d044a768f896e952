from functools import partial

import numpy as np
import pytest
import xarray as xr

from placeformer.population import grid_modules as module

RNG = np.random.default_rng
grid_modules = partial(module.grid_modules, n_resamples=199)


def properties(spacing, orientation=None):
    spacing = np.asarray(spacing, float)
    turn = np.full(len(spacing), 7.0) if orientation is None else np.asarray(orientation, float)
    return xr.Dataset(
        {"spacing": ("unit", spacing, {"units": "cm"}), "orientation": ("unit", turn)}
    )


def modules(rng, centres, n=15, spread=0.04):
    return np.concatenate([c * np.exp(spread * rng.standard_normal(n)) for c in centres])


@pytest.mark.parametrize("centres", [(40, 60), (38, 54, 76), (30, 42, 59, 83)])
def test_modules_are_found_in_ascending_spacing(centres):
    rng = RNG(len(centres))
    spacing = modules(rng, centres)
    truth = np.repeat(np.arange(len(centres)), 15)
    order = rng.permutation(len(spacing))
    found = grid_modules(properties(spacing[order], 10 * truth[order] + 2))
    assert found.p <= 0.01
    np.testing.assert_array_equal(found.label, truth[order])
    np.testing.assert_allclose(found.spacing, centres, rtol=0.05)
    assert found.spacing.attrs["units"] == "cm"
    np.testing.assert_allclose(found.ratio[1:], np.divide(centres[1:], centres[:-1]), rtol=0.05)
    np.testing.assert_allclose(found.spread, 0.04, atol=0.02)
    np.testing.assert_allclose(found.orientation, 10 * np.arange(len(centres)) + 2)
    np.testing.assert_allclose(found.orientation_spread, 0, atol=1e-6)
    assert int(found.bic.values.argmin()) == len(centres) - 1
    assert (found.n_units == 15).all()
    assert (found.probability > 0.9).all()


def test_a_continuum_and_one_cluster_are_one_module():
    rng = RNG(0)
    for spacing in (np.exp(rng.uniform(np.log(30), np.log(90), 60)), modules(rng, [50], 60)):
        found = grid_modules(properties(spacing))
        assert found.p > 0.05
        assert found.sizes["module"] == 1
        assert (found.label == 0).all()
        assert np.isnan(found.ratio).all()
    # The mixture alone would have cut the continuum into modules.
    assert grid_modules(properties(np.linspace(30, 90, 60)), max_p=1.0).sizes["module"] > 1


def test_orientations_are_averaged_on_the_circle():
    spacing = modules(RNG(1), [40], 12)
    found = grid_modules(properties(spacing, [59, 1] * 6))
    assert float(found.orientation[0]) % 60 == pytest.approx(0, abs=1e-6)
    assert float(found.orientation_spread[0]) == pytest.approx(1, rel=0.01)


def test_units_without_a_spacing_belong_to_no_module():
    spacing = modules(RNG(2), [40, 60])
    spacing[[3, 20]] = np.nan
    found = grid_modules(properties(spacing))
    assert found.label.values[[3, 20]].tolist() == [-1, -1]
    assert np.isnan(found.probability[[3, 20]]).all()
    assert found.n_units.values.tolist() == [14, 14]


def test_few_units_have_no_modules():
    found = grid_modules(properties([30, 31, 32, np.nan]))
    assert str(found.reason.values) == "fewer than 10 units with a spacing"
    assert found.sizes["module"] == 0
    assert (found.label == -1).all()
    assert np.isnan(found.p)


def test_scale_changes_nothing_but_the_spacing():
    spacing = modules(RNG(3), [40, 60])
    a, b = (grid_modules(properties(f * spacing)) for f in (1, 0.01))
    np.testing.assert_array_equal(a.label, b.label)
    np.testing.assert_allclose(b.spacing, 0.01 * a.spacing)
    assert float(a.p) == float(b.p)


def test_what_cannot_be_clustered_is_refused():
    table = properties(modules(RNG(4), [40, 60]))
    with pytest.raises(TypeError, match="grid_properties"):
        grid_modules(table.spacing)
    with pytest.raises(ValueError, match=r"properties must have 'spacing' over \(unit,\)"):
        grid_modules(table.drop_vars("spacing"))
    with pytest.raises(ValueError, match="select one of several maps"):
        grid_modules(table.expand_dims(map=2))
    with pytest.raises(ValueError, match="max_modules .* got 0"):
        grid_modules(table, max_modules=0)
    with pytest.raises(ValueError, match="max_p .* got 0"):
        grid_modules(table, max_p=0)
