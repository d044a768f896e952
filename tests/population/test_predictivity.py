import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.population.arenas import (
    blocks_of_places,
    near_places,
    rates_at,
    relative_centres,
    smooth_fields,
)
from placeformer.population.map_regression import PENALTIES, _by_penalty, predicted, ridge, scores
from placeformer.population.predictivity import predictivity

RNG = np.random.default_rng
SIDE = 12
quiet = {"progress": False, "n_random": 2}


def waves(rng, n, side=SIDE):
    """Maps (unit, y, x) of two modules of waves, at random phases: one code over the whole box."""
    y, x = np.mgrid[:side, :side] / side * 12
    phase = rng.uniform(0, 2 * np.pi, (2, n, 1, 1))
    return 2 + np.cos(1.5 * x + phase[0]) + np.cos(1.1 * y + 0.4 * x + phase[1])


def places(rng, n, side=SIDE, width=1.6):
    return np.array([simulation.bump(c, width, side) for c in rng.uniform(0, side - 1, (n, 2))])


def spikes(rng, maps, n=20_000):
    """A recording of Poisson counts along random places."""
    x, y = rng.integers(0, maps.shape[-1], (2, 1, n))
    return simulation.recording(rng.poisson(np.moveaxis(maps, 0, -1)[y, x]).astype(float), x, y)


def of(network, animal, **options):
    untrained = pf.maps_from_arrays(RNG(99).standard_normal((40, SIDE, SIDE)))
    options = {"untrained": untrained} | quiet | options
    network, animal = (
        pf.maps_from_arrays(m) if isinstance(m, np.ndarray) else m for m in (network, animal)
    )
    return predictivity(network, animal, **options)


def test_an_animal_with_the_code_of_the_network_is_predicted_up_to_its_ceiling():
    rng = RNG(0)
    animal = spikes(rng, 0.2 * waves(rng, 20), 8_000)
    found = of(waves(rng, 40), animal)
    at = found.sel(features="network")
    assert found.ceiling.max() < 0.95  # the cells are noisy
    assert abs(float(at.r_normalised.median()) - 1) < 0.06
    assert (found.advantage_interval.sel(bound="lower")[1:] > 0.2).all()
    assert (found.reason == "").all()


def test_naive_folds_measure_smoothness_and_blocks_less_of_it():
    rng = RNG(1)
    animal = places(rng, 30)
    network = rng.standard_normal((60, SIDE, SIDE))
    naive, blocks = (of(network, animal, folds=folds).r_median for folds in ("random", "blocks"))
    assert naive.sel(features="random smooth") > 0.88  # random features: what a naive fit rewards
    assert naive.sel(features="network") < 0.3
    fall = naive - blocks
    assert fall.sel(features="random smooth") > 0.2
    assert abs(float(blocks.sel(features="network"))) < 0.2


def test_smooth_features_gain_nothing_over_the_smooth_control():
    rng = RNG(2)
    fields = smooth_fields((SIDE, SIDE), 60, rng, ("reflect", "reflect"))
    found = of(fields.T.reshape(60, SIDE, SIDE), places(rng, 30))
    interval = found.advantage_interval.sel(features="random smooth").values
    assert interval[0] - 0.1 < 0 < interval[1] + 0.1
    assert found.r_random.dims == ("draw", "unit")
    np.testing.assert_allclose(found.r_random.mean("draw"), found.r.sel(features="random smooth"))


def test_the_ceiling_is_the_correlation_with_the_true_map():
    rng = RNG(3)
    truth = 0.3 * waves(rng, 60)
    recording = spikes(rng, truth, 4_000)
    measured = pf.rate_maps(recording).rate.values
    reached = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(measured, truth, strict=True)
    ]
    found = of(waves(rng, 40), recording)
    assert abs(float(found.ceiling.mean()) - np.mean(reached)) < 0.02
    halves = of(waves(rng, 40), pf.half_maps(recording))
    np.testing.assert_allclose(halves.ceiling, found.ceiling, atol=1e-12)


def test_half_maps_are_joined_to_the_maps_of_the_recording():
    rng = RNG(4)
    recording = spikes(rng, 0.3 * waves(rng, 5), 2_000)
    network = pf.maps_from_arrays(waves(rng, 40))
    whole, halves = (of(network, d) for d in (recording, pf.half_maps(recording)))
    np.testing.assert_allclose(halves.r, whole.r, atol=1e-9)


@pytest.mark.parametrize("n_units", [10, 80])
def test_ridge_is_that_of_scikit_learn(n_units):
    rng = RNG(5)
    x, y = rng.standard_normal((60, n_units)), rng.standard_normal((60, 3))
    train, test = np.arange(40), np.arange(40, 60)
    found = _by_penalty(x @ x.T / n_units, y, train, test)
    for penalty, values in zip(PENALTIES, found, strict=True):
        model = Ridge(alpha=penalty * n_units).fit(x[train], y[train])
        np.testing.assert_allclose(values, model.predict(x[test]), atol=1e-6)


def test_held_out_places_are_not_trained_on():
    rng = RNG(6)
    fold = np.repeat(np.arange(4), 10)
    near = np.zeros((4, 40), bool)
    near[0, 10:15] = True
    x, y = rng.standard_normal((40, 30)), rng.standard_normal((40, 2))
    before, mean = predicted(x, y, fold, near, ridge)
    changed = y.copy()
    changed[fold == 0] += 5
    changed[10:15] -= 3
    after, _ = predicted(x, changed, fold, near, ridge)
    np.testing.assert_allclose(after[fold == 0], before[fold == 0])
    np.testing.assert_allclose(mean[0], y[15:].mean(axis=0))


def test_predictions_of_the_training_mean_have_no_correlation():
    rng = RNG(7)
    y = rng.standard_normal((40, 500))
    fold = np.repeat(np.arange(4), 10)
    near = np.zeros((4, 40), bool)
    guess, mean = predicted(np.zeros((40, 3)), y, fold, near, ridge)
    np.testing.assert_allclose(guess, mean)
    np.testing.assert_array_equal(scores(guess, mean, y)[0], 0)
    # Without the training means they would be taken for the opposite of the cell.
    between = y.reshape(4, 10, 500).mean(axis=1)
    for cell in range(5):
        apart = np.corrcoef(guess[::10, cell], between[:, cell])[0, 1]
        assert apart == pytest.approx(-1)


def test_arenas_are_brought_to_one_scale():
    rng = RNG(8)
    network, animal = waves(rng, 40), waves(rng, 10)
    want = of(network, animal)
    metres = pf.maps_from_arrays(animal, edges=np.linspace(-2, 1, SIDE + 1), position_units="m")
    np.testing.assert_allclose(of(network, metres).r, want.r, atol=1e-9)
    finer = of(pf.maps_from_arrays(waves(rng, 40, 2 * SIDE)), animal)
    assert abs(float(finer.r_median[0] - want.r_median[0])) < 0.1
    continuous = spikes(rng, animal, 20_000)
    continuous = continuous.assign_coords(
        {d: continuous[d] * 0.1 + rng.uniform(-0.05, 0.05, continuous[d].shape) for d in "xy"}
    )
    assert of(network, continuous).attrs["n_places"] == SIDE**2


def test_axes_are_paired_by_name():
    rng = np.random.default_rng(13)
    network, untrained = (pf.maps_from_arrays(waves(rng, 30)) for _ in range(2))
    animal = pf.maps_from_arrays(places(rng, 5))
    options = {"n_random": 1, "progress": False}
    want = pf.predictivity(network, animal, untrained=untrained, **options)
    turned = [maps.transpose("x", "unit", "y", ...) for maps in (network, untrained)]
    got = pf.predictivity(turned[0], animal, untrained=turned[1], **options)
    xr.testing.assert_allclose(got.drop_attrs(), want.drop_attrs())


def test_interpolation_between_bins_is_linear_and_knows_gaps():
    y, x = np.mgrid[:10, :20]
    rate = np.stack([3 * y + x, 2.0 * x])
    maps = pf.maps_from_arrays(rate)
    centres = [np.array([0.25, 0.5]), np.array([0.11, 0.7])]
    at = np.stack(np.meshgrid(centres[0] * 10 - 0.5, centres[1] * 20 - 0.5, indexing="ij"))
    want = np.stack([3 * at[0] + at[1], 2 * at[1]], axis=-1).reshape(4, 2)
    np.testing.assert_allclose(rates_at(maps, centres), want)
    rate[:, :4] = np.nan
    assert np.isnan(rates_at(pf.maps_from_arrays(rate), centres)[:2]).all()
    np.testing.assert_allclose(relative_centres(maps)[0], (np.arange(10) + 0.5) / 10)


def test_blocks_are_compact_and_their_rim_is_left_out():
    centres = [(np.arange(12) + 0.5) / 12] * 2
    block = blocks_of_places(centres, 3)
    assert np.unique(block, return_counts=True)[1].tolist() == [16] * 9
    near = near_places(block, (12, 12), 1, ("reflect", "reflect"))
    assert near[0].sum() == 9  # a corner of 4 x 4 places
    assert near[4].sum() == 20
    assert not (near & (block == np.arange(9)[:, None])).any()


@pytest.mark.parametrize(("method", "scale", "shift"), [("ridge", 70, -9), ("pls", 0.03, 4)])
def test_free_of_scale_and_shift(method, scale, shift):
    rng = RNG(14)
    network, animal = waves(rng, 20), places(rng, 6)
    want = of(network, animal, method=method)
    changed = of(scale * network + shift, animal * scale - shift, method=method)
    np.testing.assert_allclose(changed.r, want.r, atol=1e-3)


def ring(centres, kappa, n=24, first=0.0, turn=360.0):
    """Maps of units tuned to headings, in bins from ``first`` on."""
    edges = first + np.arange(n + 1) * turn / n
    apart = ((edges[:-1] + edges[1:]) / 2 - np.asarray(centres)[:, None]) * 2 * np.pi / turn
    rate = np.exp(kappa * (np.cos(apart) - 1))
    return pf.maps_from_arrays(rate, edges=edges, by="heading", circular={"heading": turn})


def test_a_turn_of_a_circular_axis_by_a_block_changes_nothing():
    """Formerly the first and the last block had no gap between them."""
    centres = np.arange(0, 360, 45)
    network = ring(centres + 10, 2)
    options = {"untrained": network, "n_blocks": 4, **quiet}
    r = predictivity(network, ring(centres + 7.5, 4), **options).r.sel(features="network")
    np.testing.assert_allclose(r, np.tile(r[:2], 4), rtol=1e-6)  # two cells in every block


@pytest.mark.parametrize(("first", "turn"), [(-180, 360), (0, 2 * np.pi), (90, 360)])
def test_the_origin_and_the_unit_of_a_circular_axis_do_not_matter(first, turn):
    centres = np.random.default_rng(0).uniform(0, 360, (2, 20))
    animal, network = ring(centres[0], 4), ring(centres[1], 2)
    want = predictivity(network, animal, untrained=network, **quiet).r.sel(features="network")
    other = ring(centres[1] * turn / 360, 2, 24, first, turn)
    got = predictivity(other, animal, untrained=other, **quiet).r.sel(features="network")
    np.testing.assert_allclose(got, want)
    turned = ring(centres[0] * turn / 360, 4, 24, first, turn)
    got = predictivity(network, turned, untrained=network, **quiet).r.sel(features="network")
    np.testing.assert_allclose(got, want)


def test_interpolation_goes_round_a_circular_axis():
    maps = ring([40, 200], 4, first=-90)
    rate = maps.rate.values.T
    got = rates_at(maps, [np.array([-0.25, 0.25, 0.75])])
    np.testing.assert_allclose(got[[0, 2]], np.tile((rate[0] + rate[-1]) / 2, (2, 1)))
    np.testing.assert_allclose(got[1], (rate[11] + rate[12]) / 2)


def test_gaps_and_random_fields_go_round_a_circular_axis():
    near = near_places(np.repeat(np.arange(8), 3), (24,), 1, ("wrap",))
    assert np.flatnonzero(near[0]).tolist() == [3, 23]
    fields = smooth_fields((60,), 2000, np.random.default_rng(0), ("wrap",))
    steps = np.square(fields - np.roll(fields, 1, axis=0)).mean(axis=1)  # the first is at the seam
    assert steps[0] == pytest.approx(steps.mean(), rel=0.2)


def test_a_circular_axis_is_not_compared_with_one_that_has_ends():
    network = ring(np.arange(0, 360, 20), 2)
    linear = network.drop_attrs(deep=False)
    with pytest.raises(ValueError, match="network and animal must have the same circular axes"):
        predictivity(linear, network, untrained=network, **quiet)


def test_tracks_of_one_axis():
    rng = RNG(9)
    x = np.arange(40)

    def fields(n):
        return np.cos(0.5 * x + rng.uniform(0, 2 * np.pi, (n, 1)))

    network, animal, other = (pf.maps_from_arrays(fields(n), by="x") for n in (30, 8, 30))
    found = predictivity(network, animal, untrained=other, **quiet)
    assert found.attrs["n_folds"] == 8
    assert (found.r.sel(features="network") > 0.95).all()


def test_cells_that_cannot_be_predicted_are_nan():
    rng = RNG(10)
    animal = places(rng, 4)
    animal[1] = 0.7
    animal[2] = np.nan
    found = of(waves(rng, 20), animal)
    assert np.isnan(found.r[:, 1:3]).all()
    assert np.isfinite(found.r[:, [0, 3]]).all()
    assert np.isfinite(found.r_median).all()
    flat, without = "map does not vary", "maps without halves have no noise ceiling"
    assert found.reason.values.tolist() == [without, flat, flat, without]


def test_units_that_are_nan_everywhere_are_left_out():
    rng = RNG(15)
    network, animal = waves(rng, 20), places(rng, 4)
    more = np.concatenate([network, np.full((2, SIDE, SIDE), np.nan)])
    np.testing.assert_allclose(of(more, animal).r, of(network, animal).r)
    with pytest.raises(ValueError, match="untrained must have units with rates"):
        of(network, animal, untrained=pf.maps_from_arrays(np.full((2, SIDE, SIDE), np.nan)))


def test_a_missing_twin_is_warned_of():
    rng = RNG(11)
    with pytest.warns(UserWarning, match="untrained=None"):
        found = of(waves(rng, 20), places(rng, 4), untrained=None)
    assert np.isnan(found.r.sel(features="untrained")).all()
    assert np.isfinite(found.r.sel(features="random smooth")).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": "both"}, "folds must be one of"),
        ({"method": "lasso"}, "method must be one of"),
        ({"n_blocks": 1}, "n_blocks must be a whole number ≥ 2"),
        ({"n_random": 0}, "n_random must be a whole number ≥ 1"),
        ({"gap": -1}, "gap must be a whole number"),
        ({"untrained": pf.maps_from_arrays(np.ones((2, 9)), by="x")}, "same number of axes"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    rng = RNG(12)
    with pytest.raises(ValueError, match=message):
        of(waves(rng, 20), places(rng, 4), **options)


def test_several_maps_and_few_places_are_refused():
    rng = RNG(13)
    several = pf.maps_from_arrays(np.stack([waves(rng, 4)] * 2))
    with pytest.raises(ValueError, match=r"animal must be of one map.*animal.isel\(map=0\)"):
        of(waves(rng, 20), several)
    with pytest.raises(ValueError, match="network must be of one map, got 2"):
        of(simulation.walks(rng), places(rng, 4))
    with pytest.raises(ValueError, match="at least 20 places, got 16"):
        of(waves(rng, 20), places(rng, 4, 4))


@pytest.mark.parametrize("options", [{"gap": 6}, {"gap": 6, "n_blocks": 2}])
def test_a_gap_that_leaves_no_training_place_is_refused(options):
    maps = simulation.maps(waves(RNG(0), 5))
    with pytest.raises(ValueError, match=r"gap must leave at least 2 training places .* got gap="):
        predictivity(maps, maps, untrained=maps, **options, **quiet)
