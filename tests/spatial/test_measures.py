import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.spatial.measures import coherence, selectivity, sparsity, spatial_information
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.variance_explained import position_variance_explained

RNG = np.random.default_rng
SEEDS = st.integers(0, 2**32 - 1)


def cell(n_active, shape=(4, 8)):
    """One unit that fires equally at so many places and nowhere else."""
    rate = np.zeros(shape)
    rate.flat[:n_active] = 3.0
    return rate[None]


# Information, closed forms


@pytest.mark.parametrize("n_active", [1, 2, 4, 8, 32])
def test_information_of_a_cell_that_fires_equally_at_some_places(n_active):
    bits = spatial_information(simulation.maps(cell(n_active)))
    np.testing.assert_allclose(bits, [np.log2(32 / n_active)], atol=1e-12)
    np.testing.assert_allclose(sparsity(simulation.maps(cell(n_active))), [n_active / 32])
    np.testing.assert_allclose(selectivity(simulation.maps(cell(n_active))), [32 / n_active])


def test_information_weighs_places_by_time_over_the_visited_ones_alone():
    rate = np.array([[[4.0, 1.0, np.nan]]])
    maps = simulation.maps(rate, occupancy=np.array([[1, 3, 96]]))
    p, r = np.array([0.25, 0.75]), np.array([4.0, 1.0])
    mean = p @ r
    want = p @ (r / mean * np.log2(r / mean))
    np.testing.assert_allclose(spatial_information(maps), [want])


def test_information_is_the_mutual_information_of_a_rare_event():
    """Skaggs' measure is the limit of the mutual information of place and spike."""
    rng, small = RNG(0), 1e-7
    r, p = rng.uniform(0, 5, 20), rng.dirichlet(np.ones(20))
    joint = np.stack([p * r * small, p * (1 - r * small)])
    exact = stats.entropy(joint.ravel(), np.outer(joint.sum(1), joint.sum(0)).ravel(), base=2)
    maps = simulation.maps(r.reshape(1, 4, 5), p.reshape(4, 5))
    per_step = spatial_information(maps, per="second")
    np.testing.assert_allclose(per_step * small, [exact], rtol=1e-5)


def test_information_per_second_says_what_a_second_is():
    maps = simulation.maps(cell(1))
    assert spatial_information(maps).attrs["units"] == "bit"
    step = spatial_information(maps, per="second")
    assert step.attrs["units"] == "bit" and "per step" in step.attrs["long_name"]
    np.testing.assert_allclose(step, [5 * 3 / 32])
    second = spatial_information(maps.assign_attrs(sample_rate=50.0), per="second")
    assert second.attrs["units"] == "bit/s"
    np.testing.assert_allclose(second, 50 * step)
    maps.rate.attrs["units"] = "Hz"
    hertz = spatial_information(maps.assign_attrs(sample_rate=50.0), per="second")
    assert hertz.attrs["units"] == "bit/s"
    np.testing.assert_allclose(hertz, step)


# Policies for negatives


def test_policies_for_negatives_are_applied_and_written_down():
    rate = np.array([[[3.0, -1.0, -1.0, -1.0]]])
    maps = simulation.maps(rate)
    np.testing.assert_allclose(spatial_information(maps), [2.0])
    np.testing.assert_allclose(spatial_information(maps + 0, negatives="shift"), [2.0])
    np.testing.assert_allclose(selectivity(maps.assign(rate=maps.rate * 2), negatives="shift"), [4])
    with pytest.raises(ValueError, match=r"1 units have negative rates \(units 0\).*'rectify'"):
        spatial_information(maps, negatives="raise")
    np.testing.assert_allclose(
        spatial_information(simulation.maps(cell(2)), negatives="raise"), [4.0]
    )
    for policy, words in {"rectify": "set to 0", "shift": "subtracted"}.items():
        for measure in (spatial_information, sparsity, selectivity):
            found = measure(maps, negatives=policy)
            assert found.attrs["negatives"] == policy
            assert words in found.attrs["long_name"]


def test_units_without_activity_under_the_policy_are_nan():
    maps = simulation.maps(np.stack([-np.ones((3, 3)), np.ones((3, 3)), np.full((3, 3), 0.1)]))
    np.testing.assert_array_equal(np.isnan(spatial_information(maps)), [True, False, False])
    np.testing.assert_allclose(spatial_information(maps)[1:], 0, atol=1e-15)
    assert np.isnan(spatial_information(maps, negatives="shift")).all()
    assert np.isnan(sparsity(maps)[0])
    assert np.isnan(selectivity(maps)[0])


def test_a_flat_map_with_rounding_noise_has_no_information_under_shift():
    rng = RNG(1)
    noisy = 5 * (1 + 1e-7 * rng.standard_normal((1, 11, 11)))
    assert np.isnan(spatial_information(simulation.maps(noisy), negatives="shift"))
    real = 5 * (1 + 1e-3 * rng.standard_normal((1, 11, 11)))
    assert spatial_information(simulation.maps(real), negatives="shift") > 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [({"negatives": "drop"}, "negatives must be"), ({"per": "minute"}, "per must be")],
)
def test_unknown_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        spatial_information(simulation.maps(cell(1)), **options)


def test_leading_maps_are_measured_apart():
    rec = simulation.walks(RNG(2))
    apart = rate_maps(rec, per_map=True)
    for measure in (spatial_information, sparsity, selectivity, coherence):
        found = measure(apart)
        assert found.dims == ("map", "unit")
        assert list(found["layer"].values[:2]) == ["ffn.0", "ffn.1"]
        assert {"units", "long_name"} <= set(found.attrs)
        one = measure(apart.isel(map=1))
        np.testing.assert_allclose(found.isel(map=1), one, rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3))
def test_bits_per_spike_are_bounded_and_free_of_scale(seed, scale):
    rng = RNG(seed)
    occupancy = rng.integers(1, 50, (4, 5))
    maps = simulation.maps(rng.standard_normal((6, 4, 5)) + 1, occupancy)
    for policy in ("rectify", "shift"):
        bits = spatial_information(maps, negatives=policy)
        assert (bits >= 0).all()
        assert (bits <= np.log2(occupancy.sum() / occupancy.min())).all()
        scaled = maps.assign(rate=maps.rate * scale)
        np.testing.assert_allclose(spatial_information(scaled, negatives=policy), bits, rtol=1e-9)
    moved = maps.assign(rate=maps.rate + scale)
    np.testing.assert_allclose(
        spatial_information(moved, negatives="shift"),
        spatial_information(maps, negatives="shift"),
        rtol=1e-7,
    )


# Coherence


def test_rounding_does_not_leave_the_range_of_a_measure():
    flat = [pf.maps_from_arrays(np.full((1, n, n), 0.1 * n)) for n in range(3, 40)]
    assert max(float(pf.sparsity(maps)[0]) for maps in flat) <= 1
    assert min(float(pf.selectivity(maps)[0]) for maps in flat) >= 1
    assert min(float(pf.spatial_information(maps)[0]) for maps in flat) >= 0


def test_another_position_is_named_with_by():
    recording = pf.from_arrays(np.ones((20, 1)), {"depth": np.arange(20) % 5})
    with pytest.raises(ValueError, match=r"'x' is missing \(name another .* by=\('depth',\)\)"):
        pf.rate_maps(recording)


def test_coherence_is_the_correlation_with_the_mean_of_existing_neighbours():
    rng = RNG(3)
    rate = rng.standard_normal((1, 6, 7)) + np.arange(7)
    rate[0, 2, 3] = np.nan
    around, here = [], []
    for i in range(6):
        for j in range(7):
            box = rate[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            if np.isfinite(rate[0, i, j]):
                others = np.nansum(box) - rate[0, i, j]
                around.append(others / (np.isfinite(box).sum() - 1))
                here.append(rate[0, i, j])
    want = stats.pearsonr(here, around).statistic
    maps = simulation.maps(rate)
    np.testing.assert_allclose(coherence(maps), [want])
    np.testing.assert_allclose(coherence(maps, fisher=True), [np.arctanh(want)])


def test_coherence_tells_fields_from_noise_and_knows_no_flat_map():
    maps = simulation.maps(
        np.stack(
            [simulation.bump((5, 5)), RNG(4).standard_normal((11, 11)), np.full((11, 11), 0.1)]
        )
    )
    field, noise, flat = coherence(maps).values
    assert field > 0.9
    assert abs(noise) < 0.3
    assert np.isnan(flat)


# What changes a measure, and what it makes of bad input

OF_MAPS = (spatial_information, sparsity, selectivity, coherence)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.01, 100), shift=st.floats(0.1, 100))
def test_scaled_shifted_and_permuted_maps(seed, scale, shift):
    """The table of the page "Which measure for which data"."""
    rng = RNG(seed)
    rate, occupancy = rng.uniform(0.1, 1, (3, 5, 6)), rng.integers(1, 9, (5, 6))
    maps = simulation.maps(rate, occupancy)
    bits, share, most, smooth = (measure(maps) for measure in OF_MAPS)
    for measure, value in zip(OF_MAPS, (bits, share, most, smooth), strict=True):
        np.testing.assert_allclose(measure(maps.assign(rate=scale * maps.rate)), value, rtol=1e-6)
    per_step = spatial_information(maps, per="second")
    scaled = spatial_information(maps.assign(rate=scale * maps.rate), per="second")
    np.testing.assert_allclose(scaled, scale * per_step, rtol=1e-6)
    up = maps.assign(rate=maps.rate + shift)
    assert (spatial_information(up) < bits).all()
    assert (sparsity(up) > share).all()
    assert (selectivity(up) < most).all()
    np.testing.assert_allclose(coherence(up), smooth, atol=1e-8)
    for measure in (spatial_information, sparsity, selectivity):
        np.testing.assert_allclose(
            measure(up, negatives="shift"), measure(maps, negatives="shift"), rtol=1e-6
        )
    order = rng.permutation(30)
    mixed = simulation.maps(
        rate.reshape(3, -1)[:, order].reshape(rate.shape),
        occupancy.ravel()[order].reshape(occupancy.shape),
    )
    for measure, value in zip(OF_MAPS[:3], (bits, share, most), strict=True):
        np.testing.assert_allclose(measure(mixed), value)


@pytest.mark.parametrize("measure", OF_MAPS)
def test_silent_units_change_no_other_and_are_defined(measure):
    rate = np.stack([simulation.bump((3, 4)), np.zeros((11, 11)), np.full((11, 11), np.nan)])
    found = measure(simulation.maps(rate, np.full((11, 11), 9)))
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
    np.testing.assert_array_equal(found[:1], measure(simulation.maps(rate[:1])))


@pytest.mark.parametrize("measure", OF_MAPS)
def test_units_with_places_of_their_own_are_measured_as_if_alone(measure):
    rate = RNG(15).uniform(0.1, 1, (3, 5, 6))
    rate[0, 0], rate[2, :, 3] = np.nan, np.nan
    found = measure(simulation.maps(rate, np.full((5, 6), 4)))
    alone = [measure(simulation.maps(one[None])).item() for one in rate]
    np.testing.assert_allclose(found, alone)


def test_one_place_no_time_and_one_axis():
    one = simulation.maps(np.ones((2, 1, 1)))
    values = [float(measure(one)[0]) for measure in OF_MAPS]
    np.testing.assert_array_equal(values, [0, 1, 1, np.nan])
    nowhere = simulation.maps(np.ones((2, 3, 3)), np.zeros((3, 3)))
    for measure in OF_MAPS:
        assert np.isnan(measure(nowhere)).all()
    line = rate_maps(simulation.walks(RNG(14)), by="x")
    for measure in OF_MAPS:
        assert measure(line).notnull().all()


@pytest.mark.parametrize("wrong", [-1.0, np.inf])
@pytest.mark.parametrize("measure", OF_MAPS)
def test_occupancy_that_is_no_time_is_refused(measure, wrong):
    occupancy = np.ones((3, 3))
    occupancy[1, 1] = wrong
    with pytest.raises(ValueError, match=rf"occupancy must be .* got {wrong} in 1 places"):
        measure(simulation.maps(np.ones((1, 3, 3)), occupancy))
    occupancy[1, 1] = np.nan
    measure(simulation.maps(np.ones((1, 3, 3)), occupancy))


def test_maps_without_units_are_refused():
    maps = simulation.maps(np.ones((2, 3, 3))).isel(unit=[])
    with pytest.raises(ValueError, match="'unit' has length 0"):
        sparsity(maps)


# Variance explained


def tuned(rng, n_walks=4, n_steps=600, dtype=np.float64):
    """Units: noise; place; letter of the map; place and letter. Letters differ from map to map."""
    x, y = rng.integers(0, 5, (2, n_walks, n_steps))
    room = np.arange(n_walks) % 2
    letters = rng.integers(0, 4, (2, 5, 5))
    seen = letters[room[:, None], y, x]
    field = rng.standard_normal((2, 5, 5))[room[:, None], y, x]
    by_letter = np.array([-1.0, 0.0, 1.0, 2.0])[seen]
    noise = rng.standard_normal((4, n_walks, n_steps))
    units = noise + np.stack([0 * field, field, by_letter, field + by_letter])
    units = np.moveaxis(units, 0, -1).astype(dtype)
    return simulation.recording(units, x, y, map=room, observation=seen)


def test_explained_variance_is_that_of_scipys_one_way_anova():
    rec = tuned(RNG(5)).isel(walk=[0])
    place = (rec.y * 5 + rec.x).values.ravel()
    values = rec.activation.values.reshape(-1, 4)
    f = stats.f_oneway(*(values[place == k] for k in range(25))).statistic
    n = len(place)
    eta = f * 24 / (f * 24 + n - 25)
    epsilon = 1 - (1 - eta) * (n - 1) / (n - 25)
    np.testing.assert_allclose(position_variance_explained(rec, adjusted=False), eta)
    np.testing.assert_allclose(position_variance_explained(rec), epsilon)


@pytest.mark.parametrize("given_name", [None, "observation"])
def test_explained_variance_is_that_of_nested_linear_regressions(given_name):
    rec = tuned(RNG(6))
    room = np.broadcast_to(rec["map"].values[:, None], rec.x.shape).ravel()
    place = room * 25 + (rec.y * 5 + rec.x).values.ravel()
    less = room if given_name is None else room * 4 + rec.observation.values.ravel()
    values = rec.activation.values.reshape(-1, 4)
    left = []
    for label in (less, place):
        design = (label[:, None] == np.unique(label)).astype(float)
        fit = LinearRegression(fit_intercept=False).fit(design, values).predict(design)
        left.append((((values - fit) ** 2).sum(0), len(label) - design.shape[1]))
    (ss0, df0), (ss1, df1) = left
    plain = position_variance_explained(rec, given=given_name, adjusted=False)
    np.testing.assert_allclose(plain, 1 - ss1 / ss0, rtol=1e-9)
    adjusted = position_variance_explained(rec, given=given_name)
    np.testing.assert_allclose(adjusted, 1 - (ss1 / df1) / (ss0 / df0), rtol=1e-9, atol=1e-12)


def test_what_place_explains_beyond_the_letter():
    rec = tuned(RNG(7), n_steps=3000)
    alone = position_variance_explained(rec).values
    beyond = position_variance_explained(rec, given="observation").values
    np.testing.assert_allclose(alone[[0]], 0, atol=0.01)
    assert (alone[1:] > 0.3).all()
    np.testing.assert_allclose(beyond[[0, 2]], 0, atol=0.01)
    assert (beyond[[1, 3]] > 0.3).all()


def test_the_adjusted_value_of_noise_is_0_on_average_and_the_plain_one_is_not():
    rng = RNG(8)
    rec = simulation.walks(rng, n_walks=1, n_steps=400, n_units=300)
    assert abs(float(position_variance_explained(rec).mean())) < 0.01
    assert float(position_variance_explained(rec, adjusted=False).mean()) > 0.2


def test_maps_apart_together_and_one_by_one():
    rec = tuned(RNG(9))
    assert (position_variance_explained(rec, maps="together")[1] < 0.35).item()
    per_map = position_variance_explained(rec, per_map=True)
    assert per_map.dims == ("map", "unit")
    for number in (0, 1):
        alone = rec.isel(walk=np.flatnonzero(rec["map"] == number)).drop_vars("map")
        np.testing.assert_allclose(
            per_map.sel(map=number), position_variance_explained(alone), rtol=1e-9
        )
    one_map = rec.drop_vars("map")
    np.testing.assert_allclose(
        position_variance_explained(rec, maps="together"), position_variance_explained(one_map)
    )


def test_units_without_variance_are_nan():
    rec = tuned(RNG(10), dtype=np.float32)
    rec.activation[..., 0] = 0.1
    rec.activation[..., 1] = 1e4 * rec["map"] + 0.1
    explained = position_variance_explained(rec)
    np.testing.assert_array_equal(np.isnan(explained), [True, True, False, False])
    letter_alone = rec.assign(activation=rec.activation * 0 + rec.observation)
    assert np.isnan(position_variance_explained(letter_alone, given="observation")).all()
    np.testing.assert_allclose(position_variance_explained(letter_alone), 1)


def test_explained_variance_of_dask_and_of_holes():
    rec = tuned(RNG(11))
    want = position_variance_explained(rec, given="observation")
    chunked = rec.chunk(walk=3, time=170, unit=3)
    np.testing.assert_allclose(position_variance_explained(chunked, given="observation"), want)
    x = rec.x.values.astype(float)
    x[:, 500:] = np.nan
    holed = rec.assign_coords(x=(("walk", "time"), x))
    short = position_variance_explained(rec.isel(time=slice(500)))
    np.testing.assert_allclose(position_variance_explained(holed), short)


def test_explained_variance_refuses_what_it_cannot_use():
    rec = tuned(RNG(12))
    with pytest.raises(ValueError, match="maps must be"):
        position_variance_explained(rec, maps="both")
    with pytest.raises(ValueError, match="per_map=True needs"):
        position_variance_explained(rec.drop_vars("map"), per_map=True)
    with pytest.raises(ValueError, match="'letter' is missing"):
        position_variance_explained(rec, given="letter")
    rec.activation[0, 0, 2] = np.nan
    with pytest.raises(ValueError, match=r"1 values of 1 units .*ffn\.0/2"):
        position_variance_explained(rec)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.01, 100), shift=st.floats(-1000, 1000), sign=st.booleans())
def test_explained_variance_is_free_of_scale_shift_sign_and_time(seed, scale, shift, sign):
    rng = RNG(seed)
    rec = tuned(rng, n_walks=2, n_steps=150)
    want = position_variance_explained(rec)
    factor = -scale if sign else scale
    changed = rec.assign(activation=factor * rec.activation + shift)
    np.testing.assert_allclose(position_variance_explained(changed), want, atol=1e-8)
    order = rec.isel(time=rng.permutation(150))
    np.testing.assert_allclose(position_variance_explained(order), want, atol=1e-10)
    plain = position_variance_explained(rec, adjusted=False)
    assert ((plain >= 0) & (plain <= 1)).all()


def test_results_go_to_netcdf(tmp_path):
    rec = tuned(RNG(13))
    result = xr.Dataset(
        {"bits": spatial_information(rate_maps(rec)), "eta": position_variance_explained(rec)}
    )
    result.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_identical(result, back.load())


@pytest.mark.parametrize("units", ["spikes/sec", "events per second", "hertz", "s**-1", " Hz"])
def test_rates_per_second_in_any_spelling_are_not_multiplied_by_the_sample_rate(units):
    rng = RNG(0)
    rates, place = rng.random((200, 2)), {"x": rng.integers(0, 4, 200), "y": np.zeros(200)}
    bits = [
        spatial_information(
            rate_maps(pf.from_arrays(rates, place, sample_rate=30, units=u)), per="second"
        ).values
        for u in ("Hz", units, "1")
    ]
    np.testing.assert_allclose(bits[1], bits[0])
    np.testing.assert_allclose(bits[2], bits[0] * 30)  # activity per sample


def test_rates_that_have_lost_their_units_have_no_information_per_second():
    place = {"x": np.arange(40) % 4}
    maps = rate_maps(pf.from_arrays(np.ones((40, 1)), place, sample_rate=30, units="Hz"), by="x")
    lost = maps.assign(rate=maps.rate.drop_attrs())
    with pytest.raises(ValueError, match="rate must state its units for per='second', got none"):
        spatial_information(lost, per="second")
    np.testing.assert_array_equal(spatial_information(lost), spatial_information(maps))
