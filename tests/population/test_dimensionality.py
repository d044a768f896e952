import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.population.dimensionality import dimensionality

RNG = np.random.default_rng


def recording(rows, n_walks=4):
    n = len(rows) // n_walks
    x, y = RNG(0).integers(0, 5, (2, n_walks, n))
    return simulation.recording(rows.reshape(n_walks, n, -1), x, y)


def with_spectrum(values, n, rng):
    """Rows (n, unit) whose covariance has exactly these eigenvalues."""
    raw = rng.standard_normal((n, len(values)))
    raw -= raw.mean(axis=0)
    white = np.linalg.qr(raw)[0] * np.sqrt(n - 1)
    return white * np.sqrt(values) @ ortho_group.rvs(len(values), random_state=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_units", [3, 60])
def test_maps_of_constant_units_do_not_vary(n_units, dtype):
    rng = RNG(0)
    x, y = rng.integers(0, 7, (2, 4, 900))
    values = np.full((4, 900, n_units), 0.1) * np.linspace(1, 2, n_units)
    same = pf.rate_maps(pf.from_arrays(values.astype(dtype), {"x": x, "y": y}))
    found = dimensionality(same)
    assert np.isnan(found.participation_ratio)
    assert found.n_components == 0
    noise = pf.rate_maps(pf.from_arrays(rng.standard_normal((4, 900, 4)), {"x": x, "y": y}))
    for method in ("cka", "rsa"):
        for pair in ((same, noise), (noise, same)):
            alike = pf.similarity(*pair, method=method, n_shuffles=20, progress=False)
            assert np.isnan(alike.similarity)
            assert np.isnan(alike.p)


@pytest.mark.parametrize(
    ("values", "ratio", "n"),
    [
        (np.ones(6), 6, 6),
        ([1, 1, 1, 0, 0, 0], 3, 3),
        ([1, 0, 0, 0], 1, 1),
        (0.5 ** np.arange(10), 3 * (1 - 2.0**-10) / (1 + 2.0**-10), 4),
        ([8, 1, 1], 100 / 66, 2),
    ],
)
def test_closed_forms(values, ratio, n):
    rows = with_spectrum(np.asarray(values, float), 200, RNG(1))
    found = dimensionality(recording(rows + 5))
    np.testing.assert_allclose(found.participation_ratio, ratio, rtol=1e-6)
    assert found.n_components == n
    np.testing.assert_allclose(found.eigenvalues, np.sort(values)[::-1], atol=1e-9)
    assert found.n_rows == 200


@pytest.mark.parametrize("n_units", [7, 60])
def test_eigenvalues_are_sklearns(n_units):
    rows = RNG(2).standard_normal((25, n_units)) * RNG(3).uniform(0.1, 3, n_units)
    found = dimensionality(simulation.maps(rows.T.reshape(-1, 5, 5)), variance=0.8)
    pca = PCA().fit(rows)
    n = min(len(pca.explained_variance_), found.sizes["component"])
    np.testing.assert_allclose(found.eigenvalues[:n], pca.explained_variance_[:n], atol=1e-10)
    assert found.n_components == np.searchsorted(pca.explained_variance_ratio_.cumsum(), 0.8) + 1
    assert found.attrs["rows"] == "places"


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.01, 100),
    n_units=st.sampled_from([1, 3, 12, 60]),
)
def test_rotation_shift_and_scaling_do_not_matter_and_bounds_hold(seed, scale, n_units):
    rng = RNG(seed)
    rows = rng.standard_normal((40, n_units)) * rng.uniform(0.1, 3, n_units)
    want = dimensionality(recording(rows))
    turn = ortho_group.rvs(n_units, random_state=seed) if n_units > 1 else np.eye(1)
    found = dimensionality(recording(scale * (rows @ turn + rng.standard_normal(n_units))))
    np.testing.assert_allclose(found.participation_ratio, want.participation_ratio, rtol=1e-6)
    assert 1 - 1e-9 <= found.participation_ratio <= min(n_units, 39) + 1e-9
    assert found.n_components <= min(n_units, 39)


@pytest.mark.parametrize("n_units", [6, 90])
def test_standardized_units_count_alike(n_units):
    rows = RNG(4).standard_normal((60, n_units))
    want = dimensionality(recording(rows), standardize=True)
    scaled = rows * np.logspace(-2, 2, n_units)
    found = dimensionality(recording(scaled), standardize=True)
    np.testing.assert_allclose(found.participation_ratio, want.participation_ratio)
    scaled[:, 3] = 4.0
    without = dimensionality(recording(np.delete(scaled, 3, axis=1)), standardize=True)
    found = dimensionality(recording(scaled), standardize=True)
    np.testing.assert_allclose(found.participation_ratio, without.participation_ratio)


def test_places_of_all_maps_count_and_unvisited_ones_do_not():
    rates = RNG(5).standard_normal((2, 8, 5, 5))
    one = simulation.maps(rates[0])
    both = xr.concat([one, simulation.maps(rates[1])], "map").assign_coords(map=[0, 1])
    both["rate"][1, :, 0, 0] = np.nan
    both["occupancy"][1, 0, 0] = 0
    found = dimensionality(both)
    assert found.n_rows == 49
    rows = np.concatenate([rates[0].reshape(8, -1).T, rates[1].reshape(8, -1).T[1:]])
    np.testing.assert_allclose(found.eigenvalues, PCA().fit(rows).explained_variance_)


def test_layers_apart_and_dask():
    rec = simulation.place_code(RNG(6), n_units=40)
    found = rec.groupby("layer").map(dimensionality)
    want = dimensionality(rec.isel(unit=rec.layer.values == "ffn.1"))
    np.testing.assert_allclose(
        found.participation_ratio.sel(layer="ffn.1"), want.participation_ratio
    )
    lazy = dimensionality(rec.chunk(time=70, unit=13))
    np.testing.assert_allclose(
        lazy.participation_ratio, dimensionality(rec).participation_ratio, rtol=1e-6
    )


def test_populations_that_do_not_vary_and_bad_input(tmp_path):
    flat = dimensionality(recording(np.full((40, 3), 0.1, np.float32)))
    assert np.isnan(flat.participation_ratio)
    assert flat.n_components == 0
    rows = RNG(7).standard_normal((40, 3))
    found = dimensionality(recording(rows))
    for name in found.data_vars:
        assert {"units", "long_name"} <= set(found[name].attrs), name
    found.to_netcdf(tmp_path / "a.nc")
    for variance in (0, 1.1):
        with pytest.raises(ValueError, match="variance must be above 0"):
            dimensionality(recording(rows), variance=variance)
    with pytest.raises(ValueError, match="at least 2 samples"):
        dimensionality(recording(rows[:1], 1))
    rows[3, 1] = np.nan
    with pytest.raises(ValueError, match="units ffn.1/1"):
        dimensionality(recording(rows))
    with pytest.raises(TypeError, match="must be an xarray.Dataset"):
        dimensionality(rows)


@pytest.mark.parametrize("n_rows", [40, 80, 320])
@pytest.mark.parametrize("standardize", [False, True])
def test_the_unbiased_ratio_does_not_grow_with_the_rows(n_rows, standardize):
    """30 independent units: the plain ratio is 17 for 40 rows, and 27 for 320."""
    plain, unbiased = [], []
    for seed in range(30):
        found = dimensionality(
            recording(RNG(seed).standard_normal((n_rows, 30)), 8), standardize=standardize
        )
        plain.append(float(found.participation_ratio))
        unbiased.append(float(found.participation_ratio_unbiased))
    assert np.mean(plain) < 28
    np.testing.assert_allclose(np.mean(unbiased), 30, atol=2.5)


def test_slow_walks_do_not_lower_the_unbiased_ratio():
    found = []
    for seed in range(30):
        rows = simulation.noise(RNG(seed), 24, 100, 10, 0.97)
        x, y = RNG(0).integers(0, 5, (2, 24, 100))
        found.append(dimensionality(simulation.recording(rows, x, y)))
    plain, unbiased = (
        np.mean([f[name] for f in found])
        for name in ("participation_ratio", "participation_ratio_unbiased")
    )
    assert plain < 9.4
    np.testing.assert_allclose(unbiased, 10, atol=0.6)


def test_sums_and_kernels_give_the_same_unbiased_ratio():
    rows = RNG(8).standard_normal((60, 12)) * np.linspace(1, 3, 12) + 5
    few = dimensionality(recording(np.hstack([rows, np.zeros((60, 60))]), 6))
    many = dimensionality(recording(rows, 6))
    np.testing.assert_allclose(few.participation_ratio_unbiased, many.participation_ratio_unbiased)
    assert np.isnan(dimensionality(recording(rows, 3)).participation_ratio_unbiased)


def test_the_scale_does_not_change_the_participation_ratio_or_is_refused():
    rng = np.random.default_rng(0)
    values, place = rng.normal(size=(4, 100, 5)), {"x": rng.integers(0, 5, (4, 100))}
    one, small = (pf.dimensionality(pf.from_arrays(values * s, place)) for s in (1, 1e-100))
    assert float(small.participation_ratio) == pytest.approx(float(one.participation_ratio))
    with pytest.raises(ValueError, match="change their units"):
        pf.dimensionality(pf.from_arrays(values * 1e100, place))
