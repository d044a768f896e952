import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.naive_bayes import GaussianNB

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.population import bayes_decoder as bayes
from placeformer.spatial.binning import BinnedRecording

RNG = np.random.default_rng


def setting(rec, n_folds=2):
    places = BinnedRecording.of(rec, by=("y", "x"), bins=None, per_map=False)
    fold = np.broadcast_to((np.arange(rec.sizes["walk"]) % n_folds)[:, None], places.index.shape)
    return places.index, places.size, fold


def by_definition(rec, index, size, fold, test, log_density, prior):
    """Log posterior of the samples of a fold, place by place, from a density of SciPy."""
    values = rec.activation.values.astype(float)
    train = fold != test
    x = values[~train]
    out = np.full((len(x), size), -np.inf)
    for place in range(size):
        here = values[train & (index == place)]
        if len(here):
            out[:, place] = log_density(x, here).sum(axis=1)
            out[:, place] += np.log(len(here)) if prior == "occupancy" else 0
    return x, out


def relative(log):
    return log - log.max(axis=1, keepdims=True)


@pytest.mark.parametrize("prior", ["uniform", "occupancy"])
@pytest.mark.parametrize("variance", ["pooled", "place"])
def test_gaussian_is_the_product_of_normal_densities(variance, prior):
    rec = simulation.place_code(RNG(0), 4, 300, 12, side=3, noise=0.4).astype(np.float64)
    index, size, fold = setting(rec)
    values, train = rec.activation.values, fold != 1
    within = [values[train & (index == p)] for p in range(size)]
    pooled = sum(((w - w.mean(0)) ** 2).sum(0) for w in within) / (train.sum() - size)

    def density(x, here):
        sd = np.sqrt(pooled) if variance == "pooled" else here.std(axis=0)
        return stats.norm.logpdf(x, here.mean(axis=0), sd)

    x, want = by_definition(rec, index, size, fold, 1, density, prior)
    decoder = bayes.gaussian(rec, index, size, fold, prior=prior, variance=variance)[1]
    np.testing.assert_allclose(relative(decoder.log_posterior(x)), relative(want), atol=1e-6)


def test_gaussian_with_variances_of_places_is_sklearns():
    rec = simulation.place_code(RNG(1), 4, 400, 20, side=4, noise=0.3)
    index, size, fold = setting(rec)
    x = rec.activation.values.astype(float)
    model = GaussianNB(var_smoothing=1e-12).fit(x[fold != 0], index[fold != 0])
    decoders = bayes.gaussian(rec, index, size, fold, prior="occupancy", variance="place")
    found = bayes.predict(rec.activation.values, decoders, fold)
    np.testing.assert_array_equal(found[fold == 0], model.predict(x[fold == 0]))


@pytest.mark.parametrize("negatives", ["rectify", "shift"])
def test_poisson_is_the_product_of_poisson_probabilities(negatives):
    rec = simulation.place_code(RNG(2), 4, 300, 10, side=3)
    counts = RNG(3).poisson(np.exp(rec.activation.values)).astype(float)
    rec["activation"] = rec.activation.copy(data=counts if negatives == "rectify" else counts - 3)
    index, size, fold = setting(rec)
    decoder = bayes.poisson(rec, index, size, fold, negatives=negatives)[0]
    shifted = rec.assign(activation=rec.activation + (0 if negatives == "rectify" else 3))

    def density(x, here):
        return stats.poisson.logpmf(x, here.mean(axis=0))

    x, want = by_definition(shifted, index, size, fold, 0, density, "uniform")
    off = 0 if negatives == "rectify" else 3
    np.testing.assert_allclose(relative(decoder.log_posterior(x - off)), relative(want), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_poisson_of_many_spikes_has_the_digits_of_double_precision(dtype):
    rng = RNG(4)
    rec = simulation.place_code(rng, 4, 120, 1500, side=3)
    counts = rng.poisson(60 + 3 * rec.activation.values.astype(float))
    rec["activation"] = rec.activation.copy(data=counts.astype(dtype))
    index, size, fold = setting(rec)

    def density(x, here):
        return stats.poisson.logpmf(x, here.mean(axis=0))

    x, want = by_definition(rec, index, size, fold, 0, density, "uniform")
    decoder = bayes.poisson(rec, index, size, fold)[0]
    np.testing.assert_allclose(relative(decoder.log_posterior(x)), relative(want), atol=2e-3)


@pytest.mark.filterwarnings("ignore:walk 0 of recording holds the same activations")
def test_a_decoder_of_rates_needs_the_seconds_of_what_it_decodes():
    """Formerly a recording without units was decoded as if its prior were uniform."""
    rng = RNG(3)
    x = rng.integers(0, 4, (4, 300))
    rates = rng.poisson(0.3 * (1 + (x[..., None] == np.arange(4)))) * 20.0
    train = pf.from_arrays(rates, {"x": x}, sample_rate=20, units="Hz")
    options = {"train": train, "by": "x", "method": "poisson", "prior": "occupancy",
               "posterior": True, "n_shuffles": 0, "progress": False}  # fmt: skip
    want = pf.decode_position(train, **options).posterior
    unknown = train.copy()
    unknown["activation"] = train.activation.drop_attrs()
    np.testing.assert_array_equal(pf.decode_position(unknown, **options).posterior, want)
    with pytest.raises(ValueError, match="recording must be timed.*pass sample_rate"):
        pf.decode_position(unknown.drop_attrs(deep=False).drop_vars(["time", "dwell"]), **options)


def test_poisson_refuses_negative_activations_and_names_the_way_out():
    rec = simulation.place_code(RNG(4), 2, 50, 3)
    with pytest.raises(ValueError, match="units ffn.0/0, ffn.1/1, ffn.0/2.*negatives='rectify'"):
        bayes.poisson(rec, *setting(rec))
    positive = rec.assign(activation=np.abs(rec.activation))
    bayes.poisson(positive, *setting(positive))
    for options in ({"negatives": "zero"}, {"prior": "flat"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be one of"):
            bayes.poisson(positive, *setting(positive), **options)
    with pytest.raises(ValueError, match="variance must be one of"):
        bayes.gaussian(rec, *setting(rec), variance="none")


def test_a_decoder_has_seen_nothing_of_its_fold():
    rec = simulation.place_code(RNG(5), 4, 200, 10)
    index, size, fold = setting(rec)
    first = bayes.gaussian(rec, index, size, fold)[0]
    spoilt = rec.copy(deep=True)
    spoilt.activation.values[fold == 0] = RNG(6).normal(size=(int((fold == 0).sum()), 10))
    again = bayes.gaussian(spoilt, index, size, fold)[0]
    x = rec.activation.values[0]
    a, b = first.log_posterior(x), again.log_posterior(x)
    np.testing.assert_allclose(relative(a), relative(b), atol=1e-2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), variance=st.sampled_from(["pooled", "place"]))
def test_scale_and_shift_of_units_do_not_matter(seed, variance):
    rng = RNG(seed)
    rec = simulation.place_code(rng, 4, 200, 8, side=4).astype(np.float64)
    index, size, fold = setting(rec)
    scale, shift = rng.uniform(0.1, 10, 8), rng.uniform(-5, 5, 8)
    other = rec.assign(activation=rec.activation * scale + shift)
    found = [
        bayes.predict(
            r.activation.values, bayes.gaussian(r, index, size, fold, variance=variance), fold
        )
        for r in (rec, other)
    ]
    assert (found[0] == found[1]).mean() > 0.999


def test_constant_and_silent_units_and_unseen_places_do_no_harm():
    rec = simulation.place_code(RNG(7), 4, 300, 30, side=4)
    index, size, fold = setting(rec)
    want = bayes.predict(rec.activation.values, bayes.gaussian(rec, index, size, fold), fold)
    rec.activation[..., 3] = 2.5
    index = np.where((index == 5) & (fold == 1), -1, index)  # place 5: seen in fold 0 alone
    for variance in ("pooled", "place"):
        decoders = bayes.gaussian(rec, index, size, fold, variance=variance)
        found = bayes.predict(rec.activation.values, decoders, fold)
        assert not (found[fold == 0] == 5).any()
        inside = (index >= 0) & (index != 5)
        assert (found[inside] == want[inside]).mean() > 0.95
    silent = rec.assign(activation=np.maximum(rec.activation, 0))
    silent.activation[..., 4] = 0
    found = bayes.predict(silent.activation.values, bayes.poisson(silent, index, size, fold), fold)
    assert (found[inside] == index[inside]).mean() > 0.8


def test_prior_decides_where_activations_say_nothing():
    rec = simulation.place_code(RNG(8), 2, 500, 1, side=3)
    rec.activation[:] = 0.0
    x = np.where(RNG(9).uniform(size=rec.x.shape) < 0.5, 2, rec.x)
    rec = rec.assign_coords(x=(("walk", "time"), x), y=(("walk", "time"), 0 * x + 1))
    index, size, fold = setting(rec)
    decoders = bayes.gaussian(rec, index, size, fold, prior="occupancy")
    assert (bayes.predict(rec.activation.values, decoders, fold) == 2).all()


@pytest.mark.parametrize("kind", [bayes.gaussian, bayes.poisson])
def test_dask_gives_the_same(kind):
    rec = simulation.place_code(RNG(10), 4, 200, 20)
    rec = rec.assign(activation=np.maximum(rec.activation, 0))
    index, size, fold = setting(rec)
    fold = np.where(index == 3, -1, fold)
    want = bayes.predict(rec.activation.values, kind(rec, index, size, fold), fold)
    lazy = rec.chunk(walk=2, time=70, unit=7)
    found = bayes.predict(lazy.activation.data, kind(lazy, index, size, fold), fold)
    np.testing.assert_array_equal(found, want)
    assert (found[fold < 0] == -1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variance", ["pooled", "place"])
def test_a_unit_that_is_constant_in_training_does_not_count(variance, dtype):
    # the unit fires in the first walk only, from which the mean of all walks is estimated
    coded = simulation.place_code(RNG(2), 4, 200, 6, side=3, noise=0.4)
    burst = np.full(coded.activation.shape[:2], 0.1)
    burst[0, ::5] = 50
    values = np.concatenate([coded.activation, burst[..., None]], axis=2).astype(dtype)
    both = simulation.recording(values, coded.x.values, coded.y.values)
    index, size, _ = setting(both)
    fold = np.broadcast_to(np.arange(4)[:, None] > 0, index.shape).astype(int)
    options = {"n": 1, "variance": variance}
    decoder = bayes.gaussian(both, index, size, fold, **options)[0]
    without = bayes.gaussian(both.isel(unit=slice(6)), index, size, fold, **options)[0]
    np.testing.assert_allclose(
        relative(decoder.log_posterior(values[0])),
        relative(without.log_posterior(values[0, :, :6])),
        atol=1e-3,
    )
