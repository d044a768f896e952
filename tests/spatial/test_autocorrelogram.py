import numpy as np
import pytest
from helpers.autocorrelation import r_at_every_lag
from hypothesis import given, settings
from hypothesis import strategies as st

import placeformer as pf
from placeformer.spatial.autocorrelogram import autocorrelogram, correlograms

RNG = np.random.default_rng


@pytest.mark.parametrize("least", [2, 20])
def test_it_is_pearsons_r_at_every_lag(least):
    rate = RNG(0).standard_normal((3, 7, 9)) + 40
    rate[1, :2, 3] = rate[2, 5:, 6:] = np.nan
    found = autocorrelogram(pf.maps_from_arrays(rate), min_overlap=least)
    assert found.dims == ("unit", "y_lag", "x_lag")
    for one, lags in zip(rate, found.values, strict=True):
        np.testing.assert_allclose(lags, r_at_every_lag(one, least), atol=1e-9)


def test_it_is_0_where_the_overlap_is_flat():
    rate = np.zeros((1, 10, 10))
    rate[0, 0, 0] = 1.0
    lags = correlograms(rate, np.ones(rate.shape, bool))[0]
    assert lags[9, 9] == pytest.approx(1)
    assert np.nanmax(np.abs(np.delete(lags.ravel(), 9 * 19 + 9))) == 0


def test_lags_are_in_the_units_of_the_axes():
    y, x = np.mgrid[:30, :40]
    maps = pf.maps_from_arrays(
        np.cos(2 * np.pi * x / 8) + 0 * y,
        edges={"y": np.arange(31) * 2.5, "x": np.arange(41) * 2.5},
        position_units="cm",
    )
    r = autocorrelogram(maps)
    assert r.x_lag.attrs["units"] == "cm"
    assert float(r.x_lag.max()) == 39 * 2.5
    np.testing.assert_allclose(r.isel(unit=0).sel(y_lag=0, x_lag=[-20, 0, 10, 20]), [1, 1, -1, 1])


def test_maps_of_one_axis_have_one_lag():
    rate = np.stack([np.cos(2 * np.pi * np.arange(60) / 12), RNG(1).standard_normal(60)])
    r = autocorrelogram(pf.maps_from_arrays(rate, by="x"), min_overlap=10)
    assert r.dims == ("unit", "x_lag")
    assert r.sizes["x_lag"] == 119
    np.testing.assert_allclose(r.isel(unit=0).sel(x_lag=[-12, 6, 24]), [1, -1, 1])
    want = [np.corrcoef(rate[1, k:], rate[1, : 60 - k])[0, 1] for k in range(51)]
    np.testing.assert_allclose(r.isel(unit=1).sel(x_lag=np.arange(51)), want, atol=1e-12)
    assert np.isnan(r.sel(x_lag=51)).all()


def test_leading_dimensions_are_kept():
    rate = RNG(2).standard_normal((2, 3, 8, 8))
    r = autocorrelogram(pf.maps_from_arrays(rate))
    assert r.dims == ("map", "unit", "y_lag", "x_lag")
    alone = autocorrelogram(pf.maps_from_arrays(rate[1]))
    np.testing.assert_allclose(r.isel(map=1), alone)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_it_is_symmetric_and_free_of_scale_shift_and_sign(seed, scale, shift):
    rate = RNG(seed).standard_normal((2, 8, 9))
    rate[:, RNG(seed).random((8, 9)) < 0.2] = np.nan
    r = autocorrelogram(pf.maps_from_arrays(rate)).values
    np.testing.assert_allclose(r, r[:, ::-1, ::-1], atol=1e-9)
    for changed in (scale * rate + shift, -rate):
        again = autocorrelogram(pf.maps_from_arrays(changed)).values
        np.testing.assert_allclose(again, r, atol=1e-6)


def test_what_has_no_autocorrelogram_is_refused():
    maps = pf.maps_from_arrays(np.ones((1, 8, 8)))
    with pytest.raises(ValueError, match=r"min_overlap .* got 1"):
        autocorrelogram(maps, min_overlap=1)
    uneven = pf.maps_from_arrays(np.ones((1, 3)), by="x", edges=[0, 1, 2, 4])
    with pytest.raises(ValueError, match=r"one width along 'x'.* got 1 to 1.5"):
        autocorrelogram(uneven)


@pytest.mark.parametrize("shape", [(9,), (8, 11), (4, 5, 6)])
def test_a_border_of_unvisited_places_changes_no_lag(shape):
    # Sums over the overlaps of a whole map come from its edges, those with gaps from transforms.
    rate = np.random.default_rng(0).standard_normal((3, *shape)) + 7
    wide = np.pad(rate, ((0, 0), *((1, 2),) * len(shape)))
    valid = np.pad(np.ones(rate.shape, bool), ((0, 0), *((1, 2),) * len(shape)))
    whole = correlograms(rate, np.ones(rate.shape, bool), 4)
    inner = correlograms(wide, valid, 4)[(slice(None), *(slice(3, -3),) * len(shape))]
    np.testing.assert_allclose(whole, inner, rtol=0, atol=1e-12)
    np.testing.assert_allclose(whole, np.flip(whole, range(1, whole.ndim)), rtol=0, atol=1e-12)


def test_options_and_axes_that_do_not_fit_are_refused_by_name():
    maps = pf.maps_from_arrays(RNG(0).random((1, 9, 9)))
    for least in (None, "20"):
        with pytest.raises(ValueError, match="min_overlap must be a number, got"):
            autocorrelogram(maps, min_overlap=least)
    with pytest.raises(ValueError, match="min_overlap must be a whole number .*, got nan"):
        autocorrelogram(maps, min_overlap=np.nan)
    turned = maps.drop_vars(["x_edges", "y_edges"]).isel(y=slice(None, None, -1))
    for function in (pf.grid_score, pf.grid_properties):
        with pytest.raises(ValueError, match=r"sort them with maps.sortby\('y'\)"):
            function(turned)
    np.testing.assert_array_equal(pf.grid_score(turned.sortby("y")), pf.grid_score(maps))
