"""Hill curves: known parameters come back, SciPy's curve_fit agrees, and doubt is said aloud."""

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import curve_fit

from placeformer.stats.hill import fit, fit_hill, hill, scan

DOSES = np.array([0, 0.01, 0.1, 0.5, 1, 2, 5, 10])
TRUE = np.array([0.1, 0.85, 0.7, -1.5])  # an error that falls


def response(doses, values, **attrs):
    return xr.DataArray(np.asarray(values), {"alpha": ("model", doses)}, "model", "error", attrs)


def test_known_parameters_come_back():
    got = fit_hill(response(DOSES, hill(DOSES, TRUE)), n_resamples=20)
    np.testing.assert_allclose(got.value, TRUE, rtol=1e-3)
    assert got.identifiable
    assert got.reason == ""
    assert got.r2 > 1 - 1e-8
    np.testing.assert_allclose(got.fitted.sel(alpha=DOSES), hill(DOSES, TRUE), atol=1e-4)
    rising = fit_hill(response(DOSES, 1 - hill(DOSES, TRUE)), n_resamples=20)
    np.testing.assert_allclose(rising.value, [0.15, 0.9, 0.7, 1.5], rtol=1e-3)


def test_least_squares_are_those_of_curve_fit():
    rng = np.random.default_rng(0)
    doses = np.repeat(DOSES[1:], 3)
    values = hill(doses, TRUE) + 0.03 * rng.standard_normal(doses.size)
    want, _ = curve_fit(lambda x, *p: hill(x, p), doses, values, p0=TRUE)
    np.testing.assert_allclose(
        fit_hill(response(doses, values), n_resamples=20).value, want, rtol=1e-3
    )


def test_every_bootstrap_sample_is_fitted_by_least_squares():
    rng = np.random.default_rng(2)
    values = hill(DOSES, TRUE) + 0.02 * rng.standard_normal((6, DOSES.size))
    weight = rng.integers(1, 4, values.shape).astype(float)
    got = scan(DOSES, values, weight)
    for y, w, parameters in zip(values, weight, got, strict=True):
        doses, repeated = (np.repeat(z, w.astype(int)) for z in (DOSES, y))
        np.testing.assert_allclose(parameters, fit(doses, repeated), rtol=5e-3)


def test_intervals_of_a_close_fit_hold_it():
    noise = 1e-3 * np.random.default_rng(3).standard_normal(DOSES.size)
    found = fit_hill(response(DOSES, hill(DOSES, TRUE) + noise))
    low, high = found.interval.values.T
    assert ((low <= found.value) & (found.value <= high)).all()
    assert (high - low < 0.1 * abs(found.value)).all()


@pytest.mark.parametrize("repeats", [1, 4])
def test_intervals_hold_the_truth(repeats):
    rng = np.random.default_rng(1)
    doses, hits = np.repeat(DOSES, repeats), []
    for seed in range(15):
        values = hill(doses, TRUE) + 0.03 * rng.standard_normal(doses.size)
        found = fit_hill(response(doses, values), n_resamples=100, seed=seed)
        low, high = found.interval.values.T
        hits.append((low <= TRUE) & (high >= TRUE))
    assert (np.mean(hits, axis=0) > 0.6).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (0.5 + 0.01 * np.random.default_rng(0).standard_normal(8), "a constant fits as well"),
        (np.full(8, 0.5), "a constant fits as well"),
        (0.9 - 0.05 * DOSES, "K = .* lies beyond the greatest dose, 10: no saturation"),
        (np.where(DOSES < 1, 0.9, 0.1), "the response steps between 0.5 and 1"),
        (hill(DOSES, [0.1, 0.9, 0.0005, -1]), "lies below the least dose, 0.01"),
    ],
)
def test_it_says_when_no_saturation_can_be_told(values, reason):
    got = fit_hill(response(DOSES, values), n_resamples=100)
    assert not got.identifiable
    assert got.reason.item() and np.char.find(got.reason.item(), reason.split(" .* ")[-1]) >= 0


def test_an_interval_without_an_end_is_no_saturation():
    rng = np.random.default_rng(1)
    values = hill(DOSES, [0.3, 0.9, 5, -1]) + 0.08 * rng.standard_normal(8)
    got = fit_hill(response(DOSES, values), n_resamples=300)
    assert not got.identifiable
    assert got.reason.item().endswith("to inf, has no end")
    assert np.isinf(got.interval.sel(parameter="K", bound="upper"))


def test_a_response_that_turns_back_is_no_saturation():
    doses = np.array([0, 0.1, 0.3, 1, 2, 5, 10, 20, 50, 100])
    values = 0.15 + 0.1 * abs(np.log(np.maximum(doses, 0.05) / 7))
    got = fit_hill(response(doses, values), n_resamples=300)
    assert not got.identifiable


def test_too_few_doses_and_networks_without_alpha_are_no_error():
    got = fit_hill(response([0, 1, 5, 10, np.nan], [0.9, 0.5, 0.3, 0.2, 0.7]))
    assert not got.identifiable
    assert got.reason == "4 parameters need at least 5 doses, got 4"
    assert got.value.isnull().all()
    assert got.n_points == 4


def test_the_result_goes_to_netcdf_and_back(tmp_path):
    got = fit_hill(response(DOSES, hill(DOSES, TRUE)), n_resamples=20)
    got.to_netcdf(tmp_path / "hill.nc")
    with xr.open_dataset(tmp_path / "hill.nc") as back:
        xr.testing.assert_allclose(back.load(), got)
    xr.testing.assert_identical(got, fit_hill(response(DOSES, hill(DOSES, TRUE)), n_resamples=20))


def test_bad_input_is_refused():
    good = response(DOSES, hill(DOSES, TRUE))
    with pytest.raises(ValueError, match="must have the coordinate 'mg_mM', got"):
        fit_hill(good, dose="mg_mM")
    with pytest.raises(ValueError, match="one value per point, got dims"):
        fit_hill(good.expand_dims("memory"))
    with pytest.raises(ValueError, match="doses must be ≥ 0, got -1"):
        fit_hill(response(DOSES - 1, DOSES))
    with pytest.raises(ValueError, match="got none"):
        fit_hill(response(DOSES, np.nan * DOSES))
