"""Other programs as oracles where their definition is sound, and why they differ where it is not.

Each disagreement is pinned here and explained on the page "Which measure for which data".
"""

import warnings
from importlib import import_module

import numpy as np
import pytest
from scipy import ndimage, stats

from placeformer.evaluation import simulation
from placeformer.spatial.autocorrelogram import correlograms
from placeformer.spatial.border_score import border_score
from placeformer.spatial.grid_properties import grid_properties
from placeformer.spatial.grid_score import grid_score
from placeformer.spatial.measures import coherence, selectivity, sparsity, spatial_information
from placeformer.spatial.mutual_information import mutual_information
from placeformer.spatial.rate_maps import rate_maps

RNG = np.random.default_rng


def twin(name):
    """A module of another program; tests that need it are skipped where it is not installed."""
    pytest.importorskip(name.partition(".")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


@pytest.fixture
def opexebo():
    return twin("opexebo.analysis")


@pytest.fixture
def pynapple():
    return twin("pynapple")


@pytest.fixture
def neurospatial():
    """Measures of neurospatial, and its environment of 11 x 11 bins in the order (y, x)."""
    y, x = np.mgrid[:11, :11].reshape(2, -1)
    environment = twin("neurospatial").Environment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = environment.from_samples(np.c_[y, x].astype(float), bin_size=1.0)
    assert env.n_bins == 121
    return twin("neurospatial.encoding._metrics"), twin("neurospatial.encoding._field_metrics"), env


@pytest.fixture
def positive():
    """Rates above 0 (5, 11, 11) and occupancy (11, 11) with every place visited."""
    rng = RNG(0)
    return rng.uniform(0.1, 5, (5, 11, 11)), rng.integers(1, 30, (11, 11)).astype(float)


def textbook(rate, p):
    """Skaggs' information of one map as the spatial-maps package writes it: NaN rates are 0."""
    rate = np.nan_to_num(rate)
    mean = (rate * p).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nansum(rate * np.log2(rate / mean) * p) / mean


def pynapple_bits(pynapple, rate, occupancy, rates=None):
    xr = import_module("xarray")
    attrs = {"occupancy": occupancy}
    curves = xr.DataArray(rate, dims=("unit", "y", "x"), coords={"unit": range(len(rate))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = pynapple.compute_mutual_information(curves.assign_attrs(attrs), rates=rates)
    return table["bits/spike"].to_numpy()


# Agreement


def test_rate_maps_are_those_of_pynapple(pynapple):
    rec = simulation.walks(RNG(1), n_walks=1, dtype=np.float64)
    t = np.arange(700) / 10
    units = pynapple.TsdFrame(t=t, d=rec.activation.values[0])
    where = pynapple.TsdFrame(t=t, d=np.c_[rec.y.values[0], rec.x.values[0]], columns=["y", "x"])
    curves = pynapple.compute_tuning_curves(units, where, bins=11, range=[(-0.5, 10.5)] * 2)
    maps = rate_maps(rec)
    np.testing.assert_allclose(maps.rate, curves.values, rtol=1e-9)
    np.testing.assert_array_equal(maps.occupancy, curves.attrs["occupancy"])


def test_information_sparsity_and_selectivity_of_positive_maps(
    opexebo, pynapple, neurospatial, positive
):
    rate, time = positive
    maps, p = simulation.maps(rate, time), time / time.sum()
    bits = spatial_information(maps)
    np.testing.assert_allclose(bits, [textbook(r, p) for r in rate])
    np.testing.assert_allclose(bits, pynapple_bits(pynapple, rate, time))
    metrics, _, _ = neurospatial
    for ours, theirs in (
        (bits, metrics.spatial_information),
        (sparsity(maps), metrics.sparsity),
        (selectivity(maps), metrics.selectivity),
    ):
        np.testing.assert_allclose(ours, [theirs(r.ravel(), p.ravel()) for r in rate])
    table = [opexebo.rate_map_stats(r, time) for r in rate]
    np.testing.assert_allclose(sparsity(maps), [t["sparsity"] for t in table])
    np.testing.assert_allclose(selectivity(maps), [t["selectivity"] for t in table])


def test_coherence_is_neurospatials_and_away_from_the_border_opexebos(opexebo, neurospatial):
    rng = RNG(2)
    rate = np.zeros((4, 11, 11))
    rate[:, 2:9, 2:9] = rng.uniform(0, 5, (4, 7, 7))
    np.testing.assert_allclose(
        coherence(simulation.maps(rate)), [opexebo.rate_map_coherence(r) for r in rate], rtol=1e-6
    )
    rate = rng.uniform(0, 5, (4, 11, 11)) + np.arange(11)
    _, fields, env = neurospatial
    theirs = [fields.rate_map_coherence(r.ravel(), env) for r in rate]
    np.testing.assert_allclose(coherence(simulation.maps(rate)), theirs)


def test_autocorrelograms_are_those_of_opexebo(opexebo):
    rate = RNG(3).uniform(0, 5, (3, 20, 20))
    ours = correlograms(rate, np.ones(rate.shape, bool))
    for one, lags in zip(rate, ours, strict=True):
        theirs = opexebo.autocorrelation(one)
        cut = (len(lags) - len(theirs)) // 2
        lags = lags[cut:-cut, cut:-cut]
        known = np.isfinite(lags)
        np.testing.assert_allclose(lags[known], theirs[known], atol=1e-9)
        assert known.mean() > 0.95


def test_the_geometry_of_grids_is_that_of_opexebo(opexebo):
    rng = RNG(11)
    rates = [
        simulation.hexagons((40, 40), rng.uniform(9, 13), rng.uniform(0, 1), rng.uniform(0, 9, 2))
        for _ in range(8)
    ]
    ours = grid_properties(simulation.maps(rates))
    for unit, rate in enumerate(rates):
        try:
            score, theirs = opexebo.grid_score(opexebo.autocorrelation(rate))
        except TypeError:  # opexebo 0.7.2 does not run with NumPy 2.4
            pytest.skip("opexebo's grid score does not run with this NumPy")
        one = ours.isel(unit=unit)
        assert float(one.grid_score) == pytest.approx(score, abs=0.15)
        assert float(one.spacing) == pytest.approx(theirs["grid_spacing"], rel=0.05)
        assert float(one.ellipticity) == pytest.approx(theirs["grid_ellipse_aspect_ratio"], rel=0.1)


def test_grid_scores_rank_cells_as_opexebo_and_spatial_maps_do(opexebo):
    rng, shape = RNG(4), (24, 24)
    spacing, turn, phase = (rng.uniform(7, 10, 12), rng.uniform(0, 1, 12), rng.uniform(0, 9, 24))
    grids = np.array([
        simulation.hexagons(shape, *each)
        for each in zip(spacing, turn, phase.reshape(12, 2), strict=True)
    ])  # fmt: skip
    noise = ndimage.gaussian_filter(rng.standard_normal((24, *shape)), (0, 1.5, 1.5))
    weight = np.linspace(0, 1, 12)[:, None, None]
    rate = np.concatenate([weight * grids / grids.std() + noise[:12] / noise.std(), noise[12:]])
    rate -= rate.min()
    ours = grid_score(simulation.maps(rate)).values
    gridness = twin("spatial_maps.gridcells").gridness
    assert stats.spearmanr(ours, [gridness(r) for r in rate]).statistic > 0.7


@pytest.mark.parametrize("shape", [(20, 20), (12, 18)])
def test_border_scores_are_those_of_opexebo_half_a_bin_further_from_the_wall(opexebo, shape):
    """Opexebo measures from beyond the wall: an edge bin lies 1 bin away, not half a bin."""
    rng = RNG(5)
    rate = np.abs(ndimage.gaussian_filter(rng.standard_normal((6, *shape)), (0, 2, 2)))
    ours = border_score(simulation.maps(rate), min_bins=1).values
    for one, score in zip(rate, ours, strict=True):
        label, n = ndimage.label(one > 0.3 * one.max())
        fields = [{"field_map": (label == k).astype(float)} for k in range(1, n + 1)]
        theirs, coverage = opexebo.border_score(one, label, fields, "square", search_width=1)
        distance = coverage * (1 - theirs) / (1 + theirs) - 1 / min(shape)
        np.testing.assert_allclose(score, (coverage - distance) / (coverage + distance))


# Disagreement


def test_negative_rates_give_others_more_bits_than_there_are_places(pynapple):
    """The mean may come near 0 or below it; nothing bounds the figure."""
    rate, time = RNG(6).standard_normal((300, 11, 11)), np.ones((11, 11))
    theirs = pynapple_bits(pynapple, rate, time)
    assert np.abs(theirs).max() > 100 * np.log2(121)
    for policy in ("rectify", "shift"):
        assert (spatial_information(simulation.maps(rate), negatives=policy) < 2).all()
    with pytest.raises(ValueError, match="300 units have negative rates"):
        spatial_information(simulation.maps(rate), negatives="raise")


def test_opexebo_counts_no_place_below_the_mean(opexebo):
    """It takes the logarithm of at least 1, which leaves out every negative term of the sum."""
    y, x = np.mgrid[:11, :11]
    field = np.exp(-((y - 5) ** 2 + (x - 5) ** 2) / 4.5)
    flat = RNG(7).uniform(0.9, 1.1, (11, 11))
    time = np.ones((11, 11))
    for rate, least, most in ((field, 1.02, 1.3), (field + 0.2, 1.5, 3), (flat, 8, 30)):
        theirs = opexebo.rate_map_stats(rate, time)["spatial_information_content"]
        relative = rate / rate.mean()
        clamped = (relative * np.log2(np.maximum(relative, 1))).mean()
        np.testing.assert_allclose(theirs, clamped)
        ratio = theirs / float(spatial_information(simulation.maps([rate], time)).item())
        assert least < ratio < most


def test_others_leave_time_in_places_without_a_rate(pynapple, neurospatial, positive):
    """Occupancy of places below the least occupancy still weighs in their p, as if rates were 0."""
    rate, time = positive
    rate = rate.copy()
    rate[:, 0] = rate[:, :, -1] = np.nan
    ours = spatial_information(simulation.maps(rate, time)).values
    p = time / time.sum()
    left_in = [textbook(r, p) for r in rate]
    metrics, _, _ = neurospatial
    theirs = [metrics.spatial_information(r.ravel(), p.ravel()) for r in rate]
    np.testing.assert_allclose(theirs, left_in)
    np.testing.assert_allclose(pynapple_bits(pynapple, rate, time), left_in)
    assert (np.array(left_in) > ours + 0.2).all()
    kept = np.where(np.isnan(rate[0]), 0, time)
    np.testing.assert_allclose(ours, [textbook(r, kept / kept.sum()) for r in rate])


def test_a_mean_from_other_samples_makes_information_negative(pynapple, positive):
    """Pynapple takes the mean rate of the epochs, which maps over fewer samples do not have."""
    rate, time = positive
    mean = (rate * time).sum((1, 2)) / time.sum()
    ours = spatial_information(simulation.maps(rate, time))
    np.testing.assert_allclose(ours, pynapple_bits(pynapple, rate, time, rates=mean))
    assert (pynapple_bits(pynapple, rate, time, rates=2 * mean) < 0).all()


def test_pynapple_turns_activations_of_nan_into_rates_of_0(pynapple):
    rec = simulation.walks(RNG(8), n_walks=1, n_units=2, side=3, dtype=np.float64)
    rec.activation[0, 5, 0] = np.nan
    there = (0, *(int(rec[name][0, 5]) for name in "yx"))
    t = np.arange(700) / 10
    units = pynapple.TsdFrame(t=t, d=rec.activation.values[0])
    where = pynapple.TsdFrame(t=t, d=np.c_[rec.y.values[0], rec.x.values[0]], columns=["y", "x"])
    curves = pynapple.compute_tuning_curves(units, where, bins=3, range=[(-0.5, 2.5)] * 2)
    assert curves.values[there] == 0
    with pytest.raises(ValueError, match="1 values of 1 units"):
        rate_maps(rec)
    assert rate_maps(rec, skipna=True).rate.values[there] != 0


def test_opexebo_pads_coherence_with_zeros(opexebo):
    """Beyond the border it sees rates of 0: a field at the wall loses, and shifts change it."""
    rate = simulation.bump((0, 5), width=2.0)
    ours, theirs = coherence(simulation.maps([rate])).item(), opexebo.rate_map_coherence(rate)
    assert ours > theirs + 0.02
    np.testing.assert_allclose(coherence(simulation.maps([rate + 5])), ours)
    assert abs(opexebo.rate_map_coherence(rate + 5) - theirs) > 0.1


def test_the_name_mutual_information_means_skaggs_information_elsewhere(pynapple):
    """Of a unit that is a plain function of four places: 2 bits a sample, whatever its rates."""
    x = np.arange(400).reshape(1, -1) % 4
    rec = simulation.recording((x + 1.0)[..., None], x, 0 * x)
    np.testing.assert_allclose(mutual_information(rec, correction="none"), [2])
    maps = rate_maps(rec)
    theirs = pynapple_bits(pynapple, maps.rate.values, maps.occupancy.values)
    np.testing.assert_allclose(theirs, spatial_information(maps))
    assert theirs < 0.2


def test_neurospatials_autocorrelogram_wraps_round(neurospatial):
    """Its lags join opposite walls: rates along both walls resemble each other one bin apart."""
    rate = np.zeros((11, 11))
    rate[:, [0, 10]] = 1.0
    _, _, env = neurospatial
    theirs = twin("neurospatial.encoding.grid").spatial_autocorrelation(env, rate.ravel())
    ours = correlograms(rate[None], np.ones((1, 11, 11), bool))[0]
    assert max(theirs[5, 4], theirs[5, 6]) > 0.3
    assert ours[10, 9] < 0
