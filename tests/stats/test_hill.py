"""Hill curves: known parameters come back, SciPy's curve_fit agrees, and doubt is said aloud."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.optimize import curve_fit, least_squares

from placeformer.stats.hill import aicc, fit_hill, hill, logarithmic

DOSES = np.array([0, 0.01, 0.1, 0.5, 1, 2, 5, 10])
TRUE = np.array([0.1, 0.85, 0.7, -1.5])  # an error that falls


def response(doses, values, **attrs):
    return xr.DataArray(np.asarray(values), {"alpha": ("model", doses)}, "model", "error", attrs)


def test_known_parameters_come_back():
    got = fit_hill(response(DOSES, hill(DOSES, TRUE)))
    np.testing.assert_allclose(got.value, TRUE, rtol=1e-3)
    assert got.identifiable
    assert got.reason == ""
    assert got.r2 > 1 - 1e-8
    np.testing.assert_allclose(got.fitted.sel(alpha=DOSES), hill(DOSES, TRUE), atol=1e-4)
    rising = fit_hill(response(DOSES, 1 - hill(DOSES, TRUE)))
    np.testing.assert_allclose(rising.value, [0.15, 0.9, 0.7, 1.5], rtol=1e-3)


def test_least_squares_are_those_of_curve_fit():
    rng = np.random.default_rng(0)
    doses = np.repeat(DOSES[1:], 3)
    values = hill(doses, TRUE) + 0.03 * rng.standard_normal(doses.size)
    want, _ = curve_fit(lambda x, *p: hill(x, p), doses, values, p0=TRUE)
    np.testing.assert_allclose(fit_hill(response(doses, values)).value, want, rtol=1e-3)


def test_intervals_of_a_close_fit_hold_it():
    noise = 1e-3 * np.random.default_rng(3).standard_normal(DOSES.size)
    found = fit_hill(response(DOSES, hill(DOSES, TRUE) + noise))
    low, high = found.interval.values.T
    assert ((low <= found.value) & (found.value <= high)).all()
    assert (high - low < 0.12 * abs(found.value)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("doses", "repeats"),
    [([0, 0.1, 1, 3, 10], 3), ([0, 0.1, 0.3, 1, 3, 10], 3), ([0, *np.geomspace(0.01, 300, 10)], 1)],
)
def test_the_interval_of_k_covers(doses, repeats):
    doses, truth = np.repeat(np.array(doses, float), repeats), [0.2, 0.8, 1, -1.5]
    rng, n = np.random.default_rng(0), 150
    hits = np.zeros(4)
    for _ in range(n):
        values = hill(doses, truth) + 0.04 * rng.standard_normal(doses.size)
        low, high = fit_hill(response(doses, values)).interval.values.T
        hits += (low <= truth) & (high >= truth)
    assert hits[2] / n > 0.91  # binomial error of 150 draws: .018
    assert (hits / n > 0.89).all()


def test_the_interval_is_that_of_the_profile_likelihood():
    """At either end of the interval of K, the best fit is worse by as much as F allows."""
    rng = np.random.default_rng(4)
    doses = np.repeat(DOSES, 3)
    values = hill(doses, TRUE) + 0.03 * rng.standard_normal(doses.size)
    found = fit_hill(response(doses, values))
    rest = ((values - hill(doses, found.value.values)) ** 2).sum()
    df = doses.size - 4
    for i, name in enumerate(("floor", "top", "K", "n")):
        for end in found.interval.sel(parameter=name).values:

            def squares(others, i=i, end=end):
                return values - hill(doses, np.insert(others, i, end))

            start = np.delete(found.value.values, i)
            best = 2 * least_squares(squares, start).cost
            assert best / rest - 1 == pytest.approx(stats.f.ppf(0.95, 1, df) / df, rel=0.1)


@pytest.mark.parametrize("doses", [[0, *np.geomspace(0.01, 300, 10)], np.geomspace(0.1, 30, 6)])
def test_a_response_to_the_logarithm_of_the_dose_is_not_identified(doses):
    doses = np.repeat(np.array(doses, float), 3)
    log = np.log(np.maximum(doses, doses[doses > 0].min() / 3))
    mean = 0.9 - 0.6 * (log - log.min()) / np.ptp(log)
    said = 0
    for seed in range(12):
        noise = 0.04 * np.random.default_rng(seed).standard_normal(doses.size)
        said += bool(fit_hill(response(doses, mean + noise)).identifiable)
    assert said <= 1


def test_a_clear_saturation_is_identified_and_a_flat_response_is_not():
    doses = np.repeat([0, *np.geomspace(0.01, 300, 10)], 3)
    for seed in range(10):
        noise = 0.04 * np.random.default_rng(seed).standard_normal(doses.size)
        found = fit_hill(response(doses, hill(doses, [0.2, 0.8, 1, -1.0]) + noise))
        assert found.identifiable and found.saturation > 0.95
        assert not fit_hill(response(doses, 0.5 + noise)).identifiable


def test_the_last_dose_must_be_near_the_end_of_the_curve():
    doses = np.array([0, 0.01, 0.03, 0.1, 0.3, 1, 3, 5])
    found = fit_hill(response(doses, hill(doses, [0.2, 0.8, 2, -1.0])))
    assert found.saturation == pytest.approx(5 / 7, abs=1e-3)
    assert found.reason.item().startswith(
        "at the highest dose, 5, the curve has covered 71% of its"
    )


def test_the_curve_without_saturation_is_logarithmic_or_straight():
    for values in (np.log1p(DOSES / 0.3), DOSES, np.log1p(DOSES / 40)):
        assert logarithmic(DOSES, 0.9 - 0.1 * values) < 1e-5
    assert aicc(2.0, 20, 3) == pytest.approx(20 * np.log(0.1) + 8 + 40 / 15)
    assert np.isinf(aicc(1.0, 5, 3))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (0.5 + 0.01 * np.random.default_rng(0).standard_normal(8), "a constant fits as well"),
        (np.full(8, 0.5), "a constant fits as well"),
        (0.9 - 0.05 * DOSES, "K = .* lies above the highest dose, 10: no saturation"),
        (np.where(DOSES < 1, 0.9, 0.1), "the response steps between 0.5 and 1"),
        (hill(DOSES, [0.1, 0.9, 0.0005, -1]), "lies below the lowest dose, 0.01"),
    ],
)
def test_it_says_when_no_saturation_can_be_told(values, reason):
    got = fit_hill(response(DOSES, values))
    assert not got.identifiable
    assert got.reason.item() and np.char.find(got.reason.item(), reason.split(" .* ")[-1]) >= 0


def test_an_interval_without_an_end_is_no_saturation():
    rng = np.random.default_rng(1)
    values = hill(DOSES, [0.3, 0.9, 5, -1]) + 0.08 * rng.standard_normal(8)
    got = fit_hill(response(DOSES, values))
    assert not got.identifiable
    assert "which never saturates, fits as well" in got.reason.item()
    assert np.isinf(got.interval.sel(parameter="K", bound="upper"))


def test_a_response_that_turns_back_is_no_saturation():
    doses = np.array([0, 0.1, 0.3, 1, 2, 5, 10, 20, 50, 100])
    values = 0.15 + 0.1 * abs(np.log(np.maximum(doses, 0.05) / 7))
    got = fit_hill(response(doses, values))
    assert not got.identifiable


def test_too_few_doses_and_networks_without_alpha_are_no_error():
    got = fit_hill(response([0, 1, 5, 10, np.nan], [0.9, 0.5, 0.3, 0.2, 0.7]))
    assert not got.identifiable
    assert got.reason == "4 parameters need at least 5 doses, got 4"
    assert got.value.isnull().all()
    assert got.n_points == 4


def test_the_result_goes_to_netcdf_and_back(tmp_path):
    got = fit_hill(response(DOSES, hill(DOSES, TRUE)))
    got.to_netcdf(tmp_path / "hill.nc")
    with xr.open_dataset(tmp_path / "hill.nc") as back:
        xr.testing.assert_allclose(back.load(), got)
    xr.testing.assert_identical(got, fit_hill(response(DOSES, hill(DOSES, TRUE))))


def test_bad_input_is_refused():
    good = response(DOSES, hill(DOSES, TRUE))
    with pytest.raises(ValueError, match="must have the coordinate 'mg_mM', got"):
        fit_hill(good, dose="mg_mM")
    with pytest.raises(ValueError, match="one value per point, got dims"):
        fit_hill(good.expand_dims("memory"))
    with pytest.raises(ValueError, match="doses of response must be ≥ 0, got -1"):
        fit_hill(response(DOSES - 1, DOSES))
    with pytest.raises(ValueError, match="got none"):
        fit_hill(response(DOSES, np.nan * DOSES))
    with pytest.raises(TypeError, match="must be a DataArray.*got Dataset of error, n"):
        fit_hill(good.to_dataset(name="error").assign(n=1))
    for level in (95, 0, 1, -0.5, np.nan):
        with pytest.raises(ValueError, match="level must lie between 0 and 1, got"):
            fit_hill(response(DOSES, DOSES), level=level)
    with pytest.raises(TypeError, match="must be a DataArray.*got ndarray"):
        fit_hill(good.values)


@pytest.mark.parametrize("scale", [1e-7, 1e7])
def test_a_response_in_other_units_has_the_same_curve(scale):
    values = hill(DOSES, TRUE) + 0.01 * np.random.default_rng(1).standard_normal(DOSES.size)
    want, got = (fit_hill(response(DOSES, values * s)).value.values for s in (1, scale))
    np.testing.assert_allclose(got, want * [scale, scale, 1, 1], rtol=1e-5)


def test_a_dose_that_all_points_share_is_refused():
    with pytest.raises(ValueError, match=r"got dims .'seed',., and \(\) of its 'alpha'"):
        fit_hill(xr.DataArray(np.arange(6.0), {"alpha": 3.0}, "seed"))
