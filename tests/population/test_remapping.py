import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from placeformer.data.arrays import from_arrays
from placeformer.evaluation import simulation
from placeformer.population.remapping import population_vector_correlation, remapping
from placeformer.population.similarity import similarity
from placeformer.spatial.rate_maps import rate_maps

RNG = np.random.default_rng


def two(seed, n=60, noise=0.05):
    """Maps of place units, and maps of as many others."""
    return [simulation.maps(simulation.units(RNG([seed, i]), n, 1, noise)) for i in (0, 1)]


def changed(maps, rate):
    return maps.assign(rate=maps.rate.copy(data=rate))


def test_the_same_maps_have_not_moved():
    a, _ = two(0)
    found = remapping(a, a)
    np.testing.assert_allclose(found.correlation, 1)
    np.testing.assert_allclose(found.field_shift, 0)
    np.testing.assert_allclose(found.rate_change, 0)
    np.testing.assert_allclose(found.p, 1 / 60)
    assert found.global_remapping == 0
    assert (found.null_p == 1 / 1001).all()
    assert found.z[0] > 20
    assert found.z[1] < -10


def test_other_units_maps_are_no_more_alike_than_chance():
    found = [remapping(*two(seed), n_shuffles=200) for seed in range(12)]
    assert all(f.global_remapping == 1 for f in found)
    assert sum(f.null_p[0] > 0.05 for f in found) >= 10
    assert sum(f.interval[0] <= 0 <= f.interval[1] for f in found) >= 9
    beyond = [f["mean"][0] - f.null_mean[0] for f in found]
    np.testing.assert_allclose([f.excess for f in found], beyond, atol=0.02)


def test_few_units_leave_it_open():
    """Formerly 5 units whose maps correlate by 0.3 were often found to have remapped."""
    verdicts = []
    for seed in range(12):
        a, b = two(seed, 5)
        b = changed(a, a.rate.values + 3 * b.rate.values)
        verdicts.append(float(remapping(a, b, n_shuffles=100).global_remapping))
    assert verdicts.count(1.0) <= 1
    assert np.isnan(verdicts).sum() >= 6


def test_identities_are_shuffled_within_layers():
    """Two layers with unrelated identities: formerly p was 0.05 or less in 60 of 60."""
    p = []
    ramp = np.linspace(0, 4, 11)[:, None] * np.ones(11)
    sloped = np.where(np.arange(20) < 10, 0, 1)[:, None, None] * ramp
    layer = ("unit", np.repeat(["place", "ramp"], 10))
    for seed in range(20):
        a, b = (
            changed(m, m.rate.values + sloped).assign_coords(layer=layer) for m in two(seed, 20)
        )
        p.append(float(remapping(a, b, n_shuffles=99).null_p[0]))
        pooled = remapping(a.drop_vars("layer"), b.drop_vars("layer"), n_shuffles=99)
        assert pooled.null_p[0] <= 0.05
    assert np.mean(np.array(p) <= 0.05) <= 0.2
    assert 0.25 < np.mean(p) < 0.75


def test_maps_turned_by_a_right_angle_are_remapped():
    a, _ = two(1)
    turned = changed(a, np.rot90(a.rate.values, axes=(1, 2)).copy())
    found = remapping(a, turned)
    assert found.global_remapping == 1
    y, x = np.divmod(a.rate.values.reshape(60, -1).argmax(1), 11)
    np.testing.assert_allclose(found.field_shift, np.hypot(y - (10 - x), x - y))


def test_correlation_is_pearsons_and_p_the_rank_among_units():
    a, b = two(2, 30)
    b = changed(a, a.rate.values + 0.5 * b.rate.values)
    found = remapping(a, b)
    flat_a, flat_b = (m.rate.values.reshape(30, -1) for m in (a, b))
    r = np.corrcoef(flat_a, flat_b)[:30, 30:]
    np.testing.assert_allclose(found.correlation, np.diag(r))
    np.testing.assert_allclose(found.p, (r >= np.diag(r)[:, None]).mean(axis=1))


def test_null_has_the_moments_of_random_permutations():
    """Hoeffding's mean and variance of a sum over a random permutation."""
    a, b = two(3, 25)
    found = remapping(a, b, n_shuffles=4000)
    n = 25
    r = np.corrcoef(*(m.rate.values.reshape(n, -1) for m in (a, b)))[:n, n:]
    centred = r - r.mean(0) - r.mean(1)[:, None] + r.mean()
    sd = np.sqrt((centred**2).sum() / (n - 1)) / n
    np.testing.assert_allclose(found.null_mean[0], r.mean(), atol=5 * sd / np.sqrt(4000))
    np.testing.assert_allclose(found.null_sd[0], sd, rtol=0.05)


@pytest.mark.parametrize(("centre", "atol"), [("peak", 0), ("centroid", 1e-6)])
def test_a_field_that_moves_is_seen_to_move(centre, atol):
    rates = [np.array([simulation.bump(c, 1.0, 25) for c in cs]) for cs in (
        [(8, 8), (12, 10)], [(11, 12), (12, 10)],
    )]  # fmt: skip
    a, b = (simulation.maps(r) for r in rates)
    a, b = (m.assign_coords(x=m.x * 2) for m in (a, b))
    found = remapping(a, b, centre=centre)
    np.testing.assert_allclose(found.field_shift, [np.hypot(3, 8), 0], atol=max(atol, 1e-6))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_scale_and_shift_of_a_unit_do_not_matter(seed):
    rng = RNG(seed)
    a, b = two(seed % 1000, 12)
    scale, shift = rng.uniform(0.1, 10, (12, 1, 1)), rng.uniform(-5, 5, (12, 1, 1))
    want = remapping(a, b, n_shuffles=20)
    found = remapping(*(changed(m, m.rate.values * scale + shift) for m in (a, b)), n_shuffles=20)
    for name in ("correlation", "rate_change", "field_shift", "null_p", "p"):
        np.testing.assert_allclose(found[name], want[name], atol=1e-8)
    swapped = remapping(b, a, n_shuffles=20)
    np.testing.assert_allclose(swapped.correlation, want.correlation)
    np.testing.assert_allclose(swapped.rate_change, -want.rate_change)


def test_rate_change_is_in_standard_deviations_over_places():
    a, _ = two(4, 5)
    sd = a.rate.values.reshape(5, -1).std(axis=1)
    found = remapping(a, changed(a, a.rate.values + 2 * sd[:, None, None]))
    np.testing.assert_allclose(found.rate_change, 2)
    np.testing.assert_allclose(found.correlation, 1)


def test_units_that_are_flat_and_places_not_visited_are_left_out():
    a, b = two(5, 20)
    a.rate[3] = 0.1
    holes = b.copy(deep=True)
    holes.rate[:, 2:5, 4] = np.nan
    holes.occupancy[2:5, 4] = 0
    found = remapping(a, holes)
    for name in ("correlation", "p", "field_shift", "rate_change"):
        np.testing.assert_array_equal(np.isnan(found[name]), np.arange(20) == 3)
    assert found.n_units == 19
    keep = np.isfinite(holes.rate.values[0])
    want = stats.pearsonr(a.rate.values[0][keep], b.rate.values[0][keep]).statistic
    np.testing.assert_allclose(found.correlation[0], want)


def test_one_seed_is_one_result_and_it_goes_to_netcdf(tmp_path):
    a, b = two(6, 10)
    first, again, other = (remapping(a, b, n_shuffles=30, seed=s) for s in (1, 1, 2))
    xr.testing.assert_identical(first, again)
    assert not first.null_mean.equals(other.null_mean)
    for name in first.data_vars:
        assert {"units", "long_name"} <= set(first[name].attrs), name
    first.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        assert list(back.data_vars) == list(first.data_vars)


def test_recordings_lead_here():
    rec = simulation.place_code(RNG(7), 8, 400, 30, maps=(0, 1))
    maps = rate_maps(rec, per_map=True)
    found = remapping(maps.isel(map=0), maps.isel(map=1))
    assert list(found.layer.values[:2]) == ["ffn.0", "ffn.1"]
    with pytest.raises(ValueError, match=r"maps_a must hold one map.*isel\(map=0\)"):
        remapping(maps, maps)


@pytest.mark.parametrize("shape", [(6, 6), (5, 7)])
def test_the_order_of_axes_does_not_matter(shape):
    a, b = (simulation.maps(RNG([9, i]).random((8, *shape))) for i in (0, 1))
    turned = b.transpose("unit", "x", "y", ...)
    want, got = (remapping(a, maps, n_shuffles=19).drop_attrs() for maps in (b, turned))
    xr.testing.assert_equal(got, want)
    vectors = population_vector_correlation(a, b)
    xr.testing.assert_equal(vectors, population_vector_correlation(a, turned))
    other = population_vector_correlation(turned, a)
    assert other.dims == ("x", "y")
    np.testing.assert_allclose(other.transpose("y", "x"), vectors)
    alike = [similarity(a, maps, n_shuffles=0, progress=False).similarity for maps in (b, turned)]
    np.testing.assert_allclose(*alike)


def test_edges_may_differ_by_rounding():
    place, units = RNG(9).random((4000, 2)), RNG(8).random((4000, 6))
    recording = from_arrays(units, place)
    a, b = (
        rate_maps(recording, bins={"x": edges, "y": edges})
        for edges in (np.linspace(0, 1, 11), np.append(0, np.cumsum(np.full(10, 0.1))))
    )
    assert not np.array_equal(a.x_edges, b.x_edges)
    stored = a.assign_coords({k: a[k].astype(np.float32) for k in ("x", "y", "x_edges", "y_edges")})
    for other in (b, stored):
        np.testing.assert_allclose(remapping(a, other, n_shuffles=20).correlation, 1)
        found = population_vector_correlation(a, other)
        assert found.shape == (10, 10)
        np.testing.assert_allclose(found, 1)


def test_places_that_differ_are_no_rounding():
    place = 10.0 ** -RNG(9).uniform(0, 6, 4000)
    recording = from_arrays(RNG(8).random((4000, 6)), {"x": place})
    edges = np.append(0, np.logspace(-6, 0, 7))
    others = edges * [1, 2, 1, 1, 1, 1, 1, 1]
    a, b = (rate_maps(recording, by="x", bins={"x": e}) for e in (edges, others))
    labelled = [xr.concat([a, a], xr.Variable("map", [k, 10**6])) for k in (0, 1)]
    for pair in ((a, b), labelled):
        with pytest.raises(ValueError, match="must have the same places"):
            population_vector_correlation(*pair)
    plane = recording.assign_coords(y=recording.x % 0.3)
    bins = ({"x": edges[3:], "y": [0, last]} for last in (0.3, 0.1 + 0.2))  # one bin of y
    one, rounded = (rate_maps(plane, bins=each) for each in bins)
    np.testing.assert_allclose(population_vector_correlation(one, rounded), 1)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda a, b: (a, b.isel(unit=slice(5))), "10 and 5 units"),
        (lambda a, b: (a, b.assign_coords(index=b.index + 1)), "first 'index' that differs"),
        (lambda a, b: (a, b.isel(x=slice(9))), "the same places, got .11, 11. and .11, 9."),
        (lambda a, b: (a, b.assign_coords(x=b.x + 1)), "the same places"),
        (lambda a, b: (a.isel(x=[0], y=[0, 1]), b.isel(x=[0], y=[0, 1])), "at least 3 visited"),
        (lambda a, b: (changed(a, 0 * a.rate.values), b), "at least 2 units that vary"),
        (lambda a, b: (changed(a, np.nan * a.rate.values), b), "no rate is NaN"),
    ],
)
def test_maps_that_do_not_match_are_refused(function, words):
    with pytest.raises(ValueError, match=words):
        remapping(*function(*two(8, 10)))


@pytest.mark.parametrize(
    "options",
    [
        {"centre": "mode"},
        {"margin": 1.5},
        {"margin": "wide"},
        {"n_shuffles": 1},
        {"n_shuffles": 9.5},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        remapping(*two(9, 10), **options)


# Population vectors


@pytest.mark.parametrize("standardize", [False, True])
def test_population_vectors_correlate_place_by_place(standardize):
    a, b = two(10, 20)
    b.rate[:, 3, 3] = np.nan
    b.occupancy[3, 3] = 0
    found = population_vector_correlation(a, b, standardize=standardize)
    assert found.dims == ("y", "x")
    assert np.isnan(found[3, 3])
    assert np.isnan(found).sum() == 1
    flat = [m.rate.values.reshape(20, -1) for m in (a, b)]
    keep = np.isfinite(flat[1][0])
    if standardize:
        flat = [stats.zscore(f[:, keep], axis=1) for f in flat]
        keep = np.ones(keep.sum(), bool)
    want = [np.corrcoef(flat[0][:, i], flat[1][:, i])[0, 1] for i in np.flatnonzero(keep)]
    np.testing.assert_allclose(found.values[np.isfinite(found.values)], want)
    cross = population_vector_correlation(a, b, standardize=standardize, cross=True)
    assert cross.dims == ("y", "x", "y_b", "x_b")
    np.testing.assert_allclose(np.einsum("yxyx->yx", cross.values), found)
    alone = population_vector_correlation(a, a, standardize=standardize)
    np.testing.assert_allclose(alone, 1)


def test_population_vectors_are_those_of_opexebo():
    opexebo = pytest.importorskip("opexebo")
    a, b = two(11, 20)
    _, place, row = opexebo.analysis.population_vector_correlation(a.rate.values, b.rate.values)
    np.testing.assert_allclose(population_vector_correlation(a, b), place)
    cross = population_vector_correlation(a, b, cross=True)
    np.testing.assert_allclose(np.einsum("yxyz->yxz", cross), row)


def test_mean_rates_alone_make_unrelated_vectors_correlate():
    a, b = two(12, 40)
    base = np.linspace(0, 20, 40)[:, None, None]
    a, b = (changed(m, m.rate.values + base) for m in (a, b))
    assert population_vector_correlation(a, b).mean() > 0.99
    assert abs(population_vector_correlation(a, b, standardize=True).mean()) < 0.2
