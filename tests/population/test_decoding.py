import json

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, PredefinedSplit, cross_val_predict
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.population.decoding import (
    decode_map,
    decode_position,
    distance_from_mean,
    mean_positions,
)

RNG = np.random.default_rng
FEW = {"n_resamples": 20, "n_shuffles": 19, "progress": False}
NONE = FEW | {"n_shuffles": 0}


@pytest.fixture(scope="module")
def coded():
    return simulation.place_code(RNG(0))


@pytest.fixture(scope="module")
def untuned(coded):
    noise = RNG(1).standard_normal(coded.activation.shape).astype(np.float32)
    return coded.assign(activation=coded.activation.copy(data=noise))


METHODS = [
    ("ridge", {}, 1.3),
    ("knn", {"n_neighbors": 3}, 0.5),
    ("bayes", {}, 0.1),
    ("bayes", {"variance": "place", "prior": "occupancy"}, 0.1),
    ("poisson", {"negatives": "shift"}, 0.1),
    (LinearRegression(), {}, 1.3),
    (GaussianNB(), {}, 0.1),
]


@pytest.mark.parametrize(("method", "options", "most"), METHODS)
def test_a_place_code_is_decoded_and_noise_is_not(coded, untuned, method, options, most):
    found = decode_position(coded, method=method, **options, **FEW)
    assert found.median_error <= most
    assert found.p == 1 / 20
    assert (found.r2 > 0.7).all()
    assert found.median_error < 0.5 * found.chance_error
    chance = decode_position(untuned, method=method, **options, **FEW)
    assert chance.p > 0.05
    assert chance.median_error >= 0.95 * chance.chance_error
    np.testing.assert_allclose(chance.mean_error, chance.null_error, atol=5 * chance.null_sd)


def test_figures_are_those_of_the_decoded_positions(coded):
    found = decode_position(coded, method="ridge", cv=3, **FEW)
    truth = np.stack([coded.y, coded.x], -1)
    error = np.hypot(*np.moveaxis(found.decoded.values - truth, -1, 0))
    np.testing.assert_allclose(found.error, error)
    np.testing.assert_allclose(found.median_error, np.median(error))
    np.testing.assert_allclose(found.mean_error, error.mean())
    flat = truth.reshape(-1, 2), found.decoded.values.reshape(-1, 2)
    np.testing.assert_allclose(found.r2, r2_score(*flat, multioutput="raw_values"))
    for k in range(3):
        np.testing.assert_allclose(found.fold_error[k], np.median(error[found.test_fold == k]))
    assert found.n == found.fold_n.sum() == error.size
    low, high = found.interval.values
    assert low <= found.median_error <= high
    blind = np.concatenate(
        [
            np.hypot(*(truth[test] - truth[~test].mean(axis=0)).T)
            for test in (found.test_fold.values == k for k in range(3))
        ]
    )
    np.testing.assert_allclose(found.chance_error, np.median(blind))


@pytest.mark.parametrize("where", [0.1, 0.3, 1e6 + 1 / 3])
def test_an_axis_that_does_not_vary_has_no_share_decoded(where):
    rng = RNG(0)
    place = {"x": rng.random((6, 90)), "y": np.full((6, 90), where)}
    rec = pf.from_arrays(rng.standard_normal((6, 90, 3)), place)
    bins = {"x": 4, "y": np.array([where - 1, where + 2])}
    for method in ("ridge", "bayes"):
        along_y, along_x = decode_position(rec, method=method, bins=bins, **NONE).r2.values
        assert np.isnan(along_y)
        assert along_x <= 1


def test_ridge_is_sklearns_cross_validated_over_walks(coded):
    found = decode_position(coded, method="ridge", cv=GroupKFold(3), alpha=10.0, **FEW)
    x = coded.activation.values.reshape(-1, coded.sizes["unit"])
    y = np.stack([coded.y, coded.x], -1).reshape(-1, 2)
    walk = np.repeat(np.arange(coded.sizes["walk"]), coded.sizes["time"])
    model = make_pipeline(StandardScaler(), Ridge(alpha=10.0))
    want = cross_val_predict(model, x, y, groups=walk, cv=GroupKFold(3))
    np.testing.assert_allclose(found.decoded.values.reshape(-1, 2), want, rtol=1e-4, atol=1e-4)


def test_neighbouring_samples_are_never_on_both_sides():
    """Noise that lasts a whole walk tells the walk's samples apart, but not from outside."""
    rng = RNG(2)
    rec = simulation.place_code(rng, 6, 200, 40)
    steps = rng.integers(-1, 2, (2, 6, 200)).cumsum(axis=2)
    y, x = np.abs((steps + 6) % 12 - 6)
    slow = np.repeat(rng.standard_normal((6, 20, 40)), 10, axis=1)
    rec = rec.assign(activation=rec.activation.copy(data=slow))
    rec = rec.assign_coords(x=(("walk", "time"), x), y=(("walk", "time"), y))
    found = decode_position(rec, method="knn", n_neighbors=1, **FEW)
    assert found.mean_error > 0.8 * found.null_error


def test_a_single_walk_is_refused_and_blocks_are_the_way_out(coded):
    one = coded.isel(walk=[0])
    with pytest.raises(ValueError, match="at least 2 walks.*blocks=10"):
        decode_position(one)
    found = decode_position(one, method="bayes", blocks=5, gap=4, **FEW)
    assert found.n == 300 - 5 * 2 * 4
    assert np.isnan(found.error.values[0, :4]).all()
    assert (found.test_fold.values[0, :4] == -1).all()
    assert found.p == 1 / 20
    assert found.attrs["blocks"] == 5


def test_samples_without_a_place_are_left_out_alone(coded):
    x = coded.x.values.astype(float)
    x[0, :30] = np.nan
    holed = coded.assign_coords(x=(("walk", "time"), x))
    holed = holed.assign(activation=coded.activation.copy())
    holed.activation[0, :30, 0] = np.nan
    for method in ("ridge", "bayes"):
        found = decode_position(holed, method=method, **FEW)
        assert found.n == x.size - 30
        assert np.isnan(found.decoded[0, :30]).all()
        assert np.isfinite(found.error.values[np.isfinite(x)]).all()
        inside = decode_position(holed, method=method, bins={"x": [-0.5, 3.5, 6.5]}, **FEW)
        assert inside.n == x.size - 30
        part = decode_position(holed, method=method, bins={"x": np.arange(5) - 0.5}, **FEW)
        assert part.n == (x < 4).sum()


def test_one_axis_and_other_names():
    rec = simulation.place_code(RNG(3), 4, 200, 60).rename(x="phase").drop_vars("y")
    rec = rec.assign_coords(phase=rec.phase * 0.5)
    rec.phase.attrs["units"] = "rad"
    found = decode_position(rec, by="phase", method="ridge", **FEW)
    assert list(found.axis.values) == ["phase"]
    assert found.median_error.attrs["units"] == "rad"
    bayes = decode_position(rec, by="phase", method="bayes", bins=7, **FEW)
    np.testing.assert_allclose(bayes.error, np.abs(bayes.decoded[..., 0] - rec.phase))


def test_seeds_subsamples_and_the_order_of_units(coded):
    knn = {"method": "knn", "max_samples": 200} | FEW
    few = [decode_position(coded, seed=s, **knn) for s in (0, 0, 1)]
    xr.testing.assert_identical(few[0], few[1])
    assert not few[0].decoded.equals(few[2].decoded)
    assert few[0].attrs["max_samples"] == 200
    assert decode_position(coded, method="knn", **FEW).attrs["max_samples"] == 20_000
    turned = coded.isel(unit=slice(None, None, -1))
    a, b = (decode_position(r, method="bayes", **FEW).decoded for r in (coded, turned))
    assert (a == b).mean() > 0.999
    lazy = decode_position(coded.chunk(walk=2, time=100, unit=33), method="bayes", **FEW)
    assert (lazy.decoded == a).all()


def test_what_is_given_is_left_as_it_was(coded):
    before = coded.copy(deep=True)
    model = LinearRegression()
    decode_position(coded, method=model, **(FEW | {"progress": True}))
    decode_position(coded, method="poisson", negatives="shift", **FEW)
    xr.testing.assert_identical(coded, before)
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("decode", [decode_position, decode_map])
def test_result_is_documented_and_goes_to_netcdf(tmp_path, decode):
    rec = simulation.place_code(RNG(4), 6, 50, 20, maps=(3, 5))
    found = decode(rec, method="bayes", prior="occupancy", seed=4, **FEW)
    for name in found.data_vars:
        assert {"units", "long_name"} <= set(found[name].attrs), name
    step = json.loads(found.attrs["provenance"])["steps"][-1]
    assert step["step"] == decode.__name__
    assert step["prior"] == found.attrs["prior"] == "occupancy"
    assert found.attrs["seed"] == 4
    found.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_identical(found, back.load())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "forest"}, "'ridge', 'knn', 'bayes', 'poisson'.*got 'forest'"),
        ({"method": 3}, "an estimator of scikit-learn, got 3"),
        ({"method": "poisson"}, "negatives='rectify' or 'shift'"),
        ({"method": "bayes", "alpha": 1}, r"among \['prior', 'variance'\], got \['alpha'\]"),
        ({"method": "ridge", "prior": "uniform"}, "among ..alpha.., got ..prior.."),
        ({"method": LinearRegression(), "alpha": 1}, "set them on the LinearRegression"),
        ({"method": "bayes", "max_samples": 10}, "max_samples must be None"),
        ({"max_samples": 10}, "max_samples must be None with method='ridge'"),
        ({"alpha": 0}, "alpha must be above 0 and finite, got 0"),
        ({"posterior": True}, "posterior=True needs method='bayes' or 'poisson', got ridge"),
        ({"max_samples": 0}, "max_samples must be a whole number ≥ 1"),
        ({"n_resamples": 0}, "n_resamples must be a whole number ≥ 1"),
        ({"n_resamples": 1.5}, "n_resamples must be a whole number ≥ 1, got 1.5"),
        ({"n_shuffles": -1}, "n_shuffles must be a whole number ≥ 0, got -1"),
        ({"seed": -1}, "seed must be a whole number ≥ 0, got -1"),
        ({"blocks": 2.5}, "blocks must be a whole number ≥ 1, got 2.5"),
        ({"blocks": 4, "gap": 0.5}, "gap must be a whole number ≥ 0, got 0.5"),
        ({"alpha": np.inf}, "alpha must be above 0 and finite, got inf"),
        ({"cv": 2.5}, "a splitter of scikit-learn, got 2.5"),
        ({"cv": "5"}, "a splitter of scikit-learn, got '5'"),
        ({"cv": 7}, "2 to 6 folds"),
        ({"by": ("y", "z")}, "'z' is missing"),
    ],
)
def test_options_out_of_range_are_refused(coded, options, words):
    with pytest.raises(ValueError, match=words):
        decode_position(coded, **options)


@pytest.mark.parametrize("method", ["ridge", "bayes"])
def test_activations_that_are_not_finite_are_refused(coded, method):
    rec = coded.copy(deep=True)
    rec.activation[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match="1 values of 1 units .* ffn.1/3"):
        decode_position(rec, method=method)
    nowhere = coded.assign_coords(x=coded.x * np.nan)
    with pytest.raises(ValueError, match="samples with a position|no finite value"):
        decode_position(nowhere, method=method)


# Maps


@pytest.fixture(scope="module")
def rooms():
    return simulation.place_code(RNG(5), 8, 250, 60, maps=(4, 7))


@pytest.mark.parametrize("method", ["bayes", "knn", LogisticRegression(max_iter=1000), "poisson"])
def test_maps_with_places_of_their_own_are_told_apart(rooms, method):
    options = {"negatives": "shift"} if method == "poisson" else {}
    found = decode_map(rooms, method=method, **options, **(FEW | {"n_shuffles": 50}))
    least = {"bayes": 0.9, "poisson": 0.9, "knn": 0.7}.get(str(method), 0.55)
    assert found.accuracy > least
    assert found.p < 8 / 51  # 70 ways to share the maps among 8 walks, each twice
    np.testing.assert_allclose(found.confusion.sum("decoded_map"), 1)
    np.testing.assert_allclose(found.confusion[0, 0], (found.decoded[::2] == 4).mean())
    assert found.chance_accuracy == 0.5
    np.testing.assert_array_equal(found.true_map, rooms["map"])
    same = found.decoded == rooms["map"].values[:, None]
    np.testing.assert_allclose(found.accuracy, same.mean())


def test_maps_with_the_same_places_are_not():
    rec = simulation.place_code(RNG(0), 8, 300, 80)
    found = decode_map(rec.assign_coords(map=("walk", np.arange(8) % 2)), **FEW)
    assert found.p > 0.05
    assert abs(found.accuracy - 0.5) < 0.1


@pytest.mark.parametrize("method", ["ridge", "knn", "bayes"])
def test_noise_is_as_often_right_about_the_map_as_chance(method):
    """Folds hold the maps equally often: otherwise the rarer map of a fold is predicted."""
    accuracies = []
    for seed in range(40):
        rec = simulation.lattice_noise(seed, 14, 40, 10, rho=0.9)
        rec = rec.assign_coords(map=("walk", np.arange(14) % 2))
        found = decode_map(rec, method=method, **NONE)
        accuracies.append(float(found.accuracy))
    assert abs(np.mean(accuracies) - 0.5) < 0.04


def test_few_walks_of_a_map_give_a_reason_instead_of_p(rooms):
    found = decode_map(rooms.isel(walk=slice(4)), **FEW)
    assert np.isnan(found.p)
    assert "3 ways" in str(found.reason.values)


@pytest.mark.parametrize("method", ["bayes", "ridge"])
def test_maps_may_have_names(rooms, method):
    names = np.array([f"room {number}" for number in rooms["map"].values])
    by_number = decode_map(rooms, method=method, **FEW)
    by_name = decode_map(rooms.assign_coords(map=("walk", names)), method=method, **FEW)
    assert by_name.accuracy == by_number.accuracy
    numbers = by_number.decoded.values
    want = np.array([f"room {n:g}" if n == n else "" for n in numbers.ravel()])
    np.testing.assert_array_equal(by_name.decoded.values.ravel(), want)


def test_the_commonest_map_of_training_is_chance():
    rec = simulation.place_code(RNG(6), 9, 50, 20)
    rec = rec.assign_coords(map=("walk", np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])))
    found = decode_map(rec, **FEW)
    np.testing.assert_allclose(found.chance_accuracy, 6 / 9)


def test_maps_that_cannot_be_told_apart_are_refused(rooms):
    with pytest.raises(ValueError, match="at least 2 maps"):
        decode_map(rooms.isel(walk=rooms["map"].values == 4))
    with pytest.raises(ValueError, match="at least 2 walks on every map"):
        decode_map(rooms.isel(walk=[0, 1, 2]))
    with pytest.raises(ValueError, match="must be a classifier"):
        decode_map(rooms, method=DummyRegressor())


def test_blind_guesses_of_long_recordings_are_means_in_double_precision():
    position = np.full((1, 2**19, 1), 300, np.float16)  # their sum is beyond float16
    fold = np.arange(2**19)[None] % 2
    np.testing.assert_array_equal(mean_positions(position, fold), [[300.0], [300.0]])


@pytest.mark.parametrize("method", ["bayes", "ridge"])
def test_maps_may_be_named_by_text(rooms, method):
    names = np.array(["box", "track"])[
        (rooms["map"].values == rooms["map"].values.max()).astype(int)
    ]
    named = rooms.assign_coords(map=("walk", names))
    want, got = (decode_map(r, method=method, **FEW) for r in (rooms, named))
    np.testing.assert_array_equal(got.decoded == "track", want.decoded == rooms["map"].values.max())
    for name in ("accuracy", "p", "confusion", "chance_accuracy"):
        np.testing.assert_array_equal(got[name], want[name])
    assert list(got["map"].values) == ["box", "track"]


# The test of decoding


def share_of_p(rec, method, n=12, at=0.05):
    """Share of recordings whose p is at most 0.05."""
    p = [float(decode_position(rec(s), method=method, **FEW).p) for s in range(n)]
    return np.mean(np.array(p) <= at), np.array(p)


@pytest.mark.parametrize("method", ["ridge", "knn", "bayes"])
def test_p_of_noise_is_neither_small_nor_large(method):
    """Formerly 7 of 10 recordings of noise were significant (bayes), or p was near 1 (ridge)."""
    small, p = share_of_p(lambda s: simulation.lattice_noise(s, 10, 64), method)
    assert small <= 0.3
    assert np.mean(p >= 0.95) <= 0.35
    assert 0.25 < p.mean() < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.99])
@pytest.mark.parametrize("method", ["ridge", "knn", "bayes"])
def test_p_of_noise_is_uniform(method, rho):
    small, p = share_of_p(lambda s: simulation.lattice_noise(s, 10, 128, rho=rho), method, 100)
    assert small <= 0.13  # beyond 99.8 % of Binomial(100, 0.05)
    assert stats.kstest(p, "uniform").statistic < 0.2


@pytest.mark.parametrize(("method", "height"), [("ridge", 0.2), ("bayes", 0.5)])
def test_weak_codes_are_found(method, height):
    """Formerly ridge found none of fields 0.15 high in noise of standard deviation 1."""
    small, _ = share_of_p(lambda s: simulation.lattice_noise(s, 16, 256, height=height), method, 4)
    assert small >= 0.75


def test_shuffles_side_by_side_are_those_one_by_one(coded):
    """Ridge and nearest neighbours fit all shuffles at once, unless samples are missing."""
    for method in ("ridge", "knn"):
        at_once = decode_position(coded, method=method, **FEW)
        one_by_one = []
        truth = np.stack([coded.y, coded.x], -1).astype(float)
        rng = RNG(0)
        for _ in range(3):
            order = rng.permutation(6)
            moved = coded.assign_coords(
                x=(("walk", "time"), truth[order, :, 1]), y=(("walk", "time"), truth[order, :, 0])
            )
            one_by_one.append(decode_position(moved, method=method, **NONE).mean_error)
        few = decode_position(coded, method=method, **(FEW | {"n_shuffles": 3}))
        np.testing.assert_allclose(few.null_error, np.mean(one_by_one), rtol=1e-6)
        assert at_once.p == 1 / 20


def test_long_recordings_are_thinned_for_the_test(coded, monkeypatch):
    monkeypatch.setattr("placeformer.population.decoding.NULL_SAMPLES", 600)
    found = decode_position(coded, method="bayes", **FEW)
    assert found.p == 1 / 20
    assert found.n == 1800


def test_too_few_walks_give_a_reason_instead_of_p(coded):
    found = decode_position(coded.isel(walk=slice(3)), **FEW)
    assert np.isnan(found.p)
    assert "6 ways" in str(found.reason.values)
    assert decode_position(coded, **FEW).reason == ""
    assert "n_shuffles is 0" in str(decode_position(coded, **NONE).reason.values)


def without_places(rec, walks):
    """The recording with the positions of some walks lost."""
    lost = np.isin(np.arange(rec.sizes["walk"]), walks)
    return rec.assign_coords({k: rec[k].astype(float).where(xr.DataArray(~lost, dims="walk"))
                              for k in "xy"})  # fmt: skip


@pytest.mark.filterwarnings("ignore:walk 0 of recording holds the same activations")
@pytest.mark.parametrize("method", ["ridge", "knn", "bayes"])
@pytest.mark.parametrize("train", [False, True])
def test_walks_without_positions_are_not_exchanged(coded, method, train):
    """Formerly decoders of shuffles were trained on nothing, and failed inside scikit-learn."""
    lost = without_places(coded, [4, 5])
    some = coded.isel(walk=slice(4))
    options = FEW | {"method": method, "bins": {k: np.arange(12) - 0.5 for k in "xy"}}
    if train:
        found, want = (decode_position(rec, train=coded, **options) for rec in (lost, some))
    else:
        found = decode_position(lost, cv=PredefinedSplit([0, 1, 2, 3, 0, 1]), **options)
        want = decode_position(some, cv=PredefinedSplit([0, 1, 2, 3]), **options)
    for name in ("mean_error", "null_error", "null_sd", "p", "n"):
        np.testing.assert_allclose(found[name], want[name], rtol=1e-6)
    three = decode_position(without_places(coded, [3, 4, 5]), **options)
    assert np.isnan(three.p) and "6 ways" in three.reason.item()


@pytest.mark.parametrize("method", ["ridge", "knn", "bayes"])
@pytest.mark.parametrize("blocks", [4, 8, 20])
def test_a_session_of_which_half_was_tracked_is_decoded(coded, method, blocks):
    walk = coded.isel(walk=[0])
    half = walk.assign_coords({k: walk[k].astype(float).where(walk.time < 150) for k in "xy"})
    options = FEW | {"method": method, "bins": {k: np.arange(12) - 0.5 for k in "xy"}}
    found = decode_position(half, blocks=blocks, **options)
    assert found.n > 0 and np.isnan(found.p) == (blocks == 4)


def test_walks_whose_positions_have_no_step_in_common_are_refused(coded):
    early = xr.DataArray(np.arange(6) % 2 == 0, dims="walk") == (coded.time < 150)
    split = coded.assign_coords({k: coded[k].astype(float).where(early) for k in "xy"})
    with pytest.raises(ValueError, match="positions at the same steps.*n_shuffles=0"):
        decode_position(split, **(FEW | {"n_shuffles": 200}))


def test_maps_of_walks_without_places_are_not_exchanged(rooms):
    lost = [np.flatnonzero(rooms["map"] == number)[2:] for number in np.unique(rooms["map"])]
    found = decode_map(without_places(rooms, lost), **FEW)
    assert np.isnan(found.p) and "3 ways" in found.reason.item()  # of two walks each


def test_laps_cannot_tell_place_from_time():
    """Walks of one course are decoded from anything that changes with the time in the walk."""
    time = np.linspace(0, 1, 100)
    ramps = np.stack([time, time**2], -1) + 0.01 * RNG(0).standard_normal((6, 100, 2))
    x = np.broadcast_to(np.arange(100) // 10, (6, 100))
    laps = simulation.recording(ramps.astype(np.float32), x, 0 * x)
    with pytest.warns(UserWarning, match="follow the same path"):
        found = decode_position(laps, method="knn", by="x", **FEW)
    assert found.p == 1
    assert "time within a walk" in str(found.reason.values)


def test_a_copied_walk_is_named(untuned):
    copy = untuned.copy(deep=True)
    copy.activation[4], copy.x[4], copy.y[4] = untuned.activation[1], untuned.x[1], untuned.y[1]
    with pytest.warns(UserWarning, match="walks 1 and 4 hold the same activations"):
        decode_position(copy, method="knn", **NONE)
    silent = untuned.assign(activation=untuned.activation * 0)
    decode_position(silent, **NONE)  # warnings are errors


def test_a_walk_of_training_that_is_decoded_is_named(untuned):
    train, test = untuned.isel(walk=slice(3)), untuned.isel(walk=[5, 1])
    words = "walk 1 of recording holds the same activations as walk 1 of train"
    with pytest.warns(UserWarning, match=words):
        decode_position(test, train=train, method="knn", **NONE)
    for other in (test.isel(walk=[0]), without_places(test, [1]), test.isel(time=slice(9))):
        decode_position(other, train=train, **NONE)  # warnings are errors
    silent = untuned.assign(activation=untuned.activation * 0)
    decode_position(silent, train=silent, **NONE)


# Posteriors, and decoders of other recordings


def test_the_posterior_is_that_of_bayes(coded):
    found = decode_position(coded, method="bayes", posterior=True, **NONE)
    assert found.posterior.dims == ("walk", "time", "y", "x")
    np.testing.assert_allclose(found.posterior.sum(("y", "x")), 1, rtol=1e-5)
    best = found.posterior.stack(place=("y", "x")).argmax("place").values
    y, x = np.divmod(best, 7)
    np.testing.assert_array_equal(found.decoded.values, np.stack([y, x], -1))
    np.testing.assert_array_equal(found.true_x, coded.x)
    assert found.posterior.attrs["units"] == "1"
    train = found.test_fold.values != 0
    values, place = coded.activation.values, coded.y.values * 7 + coded.x.values
    model = GaussianNB(var_smoothing=1e-12).fit(values[train], place[train])
    spread = decode_position(
        coded, method="bayes", variance="place", prior="occupancy", posterior=True, **NONE
    )
    want = model.predict_proba(values[~train])
    got = spread.posterior.values[~train].reshape(len(want), -1)
    np.testing.assert_allclose(got, want, atol=2e-3)


@pytest.mark.parametrize("method", ["ridge", "knn", "bayes", "poisson", LinearRegression()])
def test_a_decoder_of_one_recording_decodes_another(coded, method):
    options = {"negatives": "shift"} if method == "poisson" else {}
    train, test = coded.isel(walk=slice(2)), coded.isel(walk=slice(2, 6))
    found = decode_position(test, train=train, method=method, **options, **FEW)
    within = decode_position(
        coded, method=method, cv=PredefinedSplit([0, 0, 1, 1, 1, 1]), **options, **NONE
    )
    if method != "poisson":  # which shifts by the minimum of what it is trained on
        np.testing.assert_allclose(found.decoded, within.decoded.values[2:], rtol=1e-4, atol=1e-4)
    assert found.p <= 2 / 20
    assert found.median_error < found.chance_error
    sleep = test.drop_vars(["x", "y"])
    asleep = decode_position(sleep, train=train, method=method, **options, **FEW)
    np.testing.assert_array_equal(asleep.decoded, found.decoded)
    assert np.isnan(asleep.error).all()
    assert np.isnan(asleep.p) and "no sample has a position" in asleep.reason.item()


def test_posteriors_of_another_recording(coded):
    train, sleep = coded.isel(walk=slice(4)), coded.isel(walk=[4, 5]).drop_vars(["x", "y"])
    found = decode_position(sleep, train=train, method="bayes", posterior=True, **FEW)
    np.testing.assert_allclose(found.posterior.sum(("y", "x")), 1, rtol=1e-5)
    other = sleep.assign_coords(index=sleep["index"] + 1)
    with pytest.raises(ValueError, match="recording and train must hold the same units"):
        decode_position(other, train=train)
    decode_position(other, train=train, allow_other_units=True, **NONE)
    with pytest.raises(ValueError, match="cv must be None with train"):
        decode_position(sleep, train=train, cv=2)


@pytest.mark.filterwarnings("ignore:walk 0 of recording holds the same activations")
@pytest.mark.parametrize("method", ["ridge", "knn", "bayes"])
def test_an_axis_is_circular_if_it_is_in_either_recording(method):
    rng = RNG(8)
    x = np.cumsum(rng.normal(0, 2, (4, 200)), axis=1) % 100
    near = np.cos((x[..., None] - np.arange(8) * 12.5) * 2 * np.pi / 100)
    ends, ring = (pf.from_arrays(near, {"x": x}, circular=c) for c in (None, {"x": 100.0}))
    options = {"by": "x", "method": method, "bins": {"x": np.linspace(0, 100, 21)}, **NONE}
    want = decode_position(ring, train=ring, **options)
    for recording, train in ((ring, ends), (ends, ring)):
        found = decode_position(recording, train=train, **options)
        np.testing.assert_array_equal(found.error, want.error)
    other = pf.from_arrays(near, {"x": x}, circular={"x": 120.0})
    with pytest.raises(ValueError, match="same period of 'x', got 100 and 120; pass it"):
        decode_position(ring, train=other, **options)
    decode_position(ring, train=other, circular={"x": 100.0}, **options)


def test_decoding_of_another_recording_is_calibrated():
    train = simulation.lattice_noise(99, 6, 100)
    p = [
        float(decode_position(simulation.lattice_noise(s, 8, 64), train=train, **FEW).p)
        for s in range(30)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.2
    assert 0.3 < np.mean(p) < 0.7


def test_ridge_of_dask_is_that_of_numpy(coded):
    want = decode_position(coded, **NONE)
    lazy = decode_position(coded.chunk(walk=2, time=100, unit=33), **NONE)
    np.testing.assert_allclose(lazy.decoded, want.decoded, rtol=1e-6, atol=1e-8)


def test_ridge_of_more_units_than_samples_is_the_same_regression():
    rec = simulation.place_code(RNG(8), 4, 20, 90)
    found = decode_position(rec, cv=GroupKFold(4), **NONE)
    x, y = rec.activation.values.reshape(80, 90), np.stack([rec.y, rec.x], -1).reshape(80, 2)
    model = make_pipeline(StandardScaler(), Ridge())
    want = cross_val_predict(model, x, y, groups=np.repeat(range(4), 20), cv=GroupKFold(4))
    np.testing.assert_allclose(found.decoded.values.reshape(80, 2), want, rtol=1e-3, atol=1e-3)


def test_the_mean_of_a_posterior_on_axes_with_ends_is_the_mean_of_places():
    walks = simulation.population(("place",), 20, n_walks=8, n_steps=256, seed=5)
    options = {"method": "bayes", "posterior": True, "n_shuffles": 0, "progress": False}
    mode, mean = (decode_position(walks, estimate=e, **options) for e in ("mode", "mean"))
    for k, axis in enumerate(("y", "x")):
        want = (mean.posterior * mean[axis]).sum(("y", "x"))
        np.testing.assert_allclose(mean.decoded.isel(axis=k), want, atol=1e-4)
    squares = [float((result.error**2).mean()) for result in (mode, mean)]
    assert squares[1] < squares[0]  # the mean minimises the squared error


def test_the_mean_of_a_posterior_keeps_the_digits_of_large_positions(untuned):
    far = untuned.assign_coords(x=untuned.x + 1e6)
    options = NONE | {"method": "bayes", "estimate": "mean"}
    here, there = (decode_position(data, **options).decoded for data in (untuned, far))
    np.testing.assert_allclose(there - [0, 1e6], here, rtol=0, atol=1e-6)


def test_a_constant_guess_goes_the_short_way_round():
    angle = np.array([[350.0, 10.0, np.nan], [355.0, 5.0, 0.0]])
    x = np.array([[0.0, 0.0, 0.0], [3.0, -3.0, 0.0]])
    ring = pf.from_arrays(np.zeros((2, 3, 1)), {"heading": angle}, circular={"heading": 360})
    np.testing.assert_allclose(distance_from_mean(ring, ["heading"]), [[10, 10, np.nan], [5, 5, 0]])
    line = pf.from_arrays(np.zeros((2, 3, 1)), {"x": x, "y": x * 4 / 3})
    np.testing.assert_allclose(distance_from_mean(line, ["x", "y"]), [[0, 0, 0], [5, 5, 0]])


def test_an_interval_over_walks_needs_two_walks_with_positions(coded):
    first, two, one = (coded.isel(walk=which) for which in ([0, 1, 2], [3, 4], [3]))
    options = NONE | {"train": first, "method": "bayes"}
    assert np.isfinite(decode_position(two, **options).interval).all()
    assert np.isnan(decode_position(one, **options).interval).all()
    half = without_places(two, [0])
    assert np.isnan(decode_position(half, **options).interval).all()


@pytest.mark.parametrize("by", [("y", "x"), ("x",)])
def test_estimators_of_one_output_are_for_one_axis(coded, by):
    method = GradientBoostingRegressor(n_estimators=2, random_state=0)
    small = coded.isel(unit=slice(5), time=slice(30))
    several = decode_position(small, by=by, method=MultiOutputRegressor(method), **NONE)
    if len(by) == 1:
        found = decode_position(small, by=by, method=method, **NONE)
        np.testing.assert_array_equal(found.decoded, several.decoded)
        return
    words = r"method must learn 2 outputs at once .*MultiOutputRegressor\(GradientBoosting"
    with pytest.raises(ValueError, match=words):
        decode_position(small, by=by, method=method, **NONE)


def test_negative_activations_are_refused_in_the_decoded_recording_too(coded):
    counts = coded.assign(activation=np.abs(coded.activation))
    options = NONE | {"train": counts, "method": "poisson"}
    with pytest.raises(ValueError, match="'poisson' needs activations >= 0"):
        decode_position(coded, **options)
    rectified = coded.assign(activation=np.maximum(coded.activation, 0))
    xr.testing.assert_equal(
        decode_position(coded, negatives="rectify", **options).decoded,
        decode_position(rectified, **options).decoded,
    )
