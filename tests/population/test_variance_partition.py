import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter
from sklearn.linear_model import Ridge

import placeformer as pf
from placeformer.population import variance_partition as module
from placeformer.population.variance_partition import variance_partition
from placeformer.spatial.place_shuffles import CircularShifts

RNG = np.random.default_rng
BY = {"place": "x", "heading": "h"}
quiet = {"progress": False, "n_shuffles": 19}


def session(rng, n_walks=10, n_steps=200, n_units=3, related=0.0, memory=0.0, n_bins=6):
    """Noise that remembers, and two behavioural variables that are related and slow."""

    def slow():
        return lfilter([1], [1, -0.9], rng.standard_normal((n_walks, n_steps)), axis=1)

    first = slow()
    second = related * first + np.sqrt(1 - related**2) * slow()
    x, h = (np.digitize(v, np.quantile(v, np.arange(1, n_bins) / n_bins)) for v in (first, second))
    noise = rng.standard_normal((n_walks, n_steps, n_units))
    noise = lfilter([1], [1, -memory], noise, axis=1) * np.sqrt(1 - memory**2)
    return pf.from_arrays(noise, {"x": x, "h": h})


def tuned(rec, **to):
    """Add to unit k what is given for it: heights of the bins of a variable."""
    values = rec.activation.values.copy()
    for key, heights in to.items():
        name, unit = key[0], int(key[1:])
        values[..., unit] += np.asarray(heights)[rec[name].values]
    return rec.assign(activation=(rec.activation.dims, values))


def by_loops(rec, names, fold, ridge=1.0):
    """Variance explained by the variables, with scikit-learn's ridge fold by fold."""
    columns = [rec[name].values.ravel()[:, None] == np.unique(rec[name]) for name in names]
    x, y = np.hstack(columns).astype(float), rec.activation.values.reshape(-1, rec.sizes["unit"])
    error = base = 0.0
    for k in np.unique(fold):
        train, test = fold != k, fold == k
        model = Ridge(alpha=ridge).fit(x[train], y[train])
        error += ((y[test] - model.predict(x[test])) ** 2).sum(0)
        base += ((y[test] - y[train].mean(0)) ** 2).sum(0)
    return 1 - error / base


def test_explained_variance_is_that_of_scikit_learns_ridge():
    rec = tuned(session(RNG(0), related=0.6), x0=[0, 1, 2, 0, 0, 1], h1=[0, 1, 0, 2, 0, 1])
    found = variance_partition(rec, BY, ridge=3.0, cv=5, **quiet)
    from sklearn.model_selection import GroupKFold

    fold = np.empty(10, int)
    for k, (_, test) in enumerate(GroupKFold(5).split(np.zeros(10), groups=np.arange(10))):
        fold[test] = k
    fold = np.repeat(fold, 200)
    for subset, names in (("place", "x"), ("heading", "h"), ("place+heading", "xh")):
        want = by_loops(rec, names, fold, 3.0)
        np.testing.assert_allclose(found.explained.sel(subset=subset), want, atol=1e-7)
    np.testing.assert_allclose(found.total, found.explained.sel(subset="place+heading"))
    assert found.attrs["n_folds"] == 5


def test_parts_add_up_to_the_total():
    rng = RNG(1)
    rec = session(rng, related=0.5)
    rec = rec.assign_coords(
        z=(("walk", "time"), (rec.x.values + rng.integers(0, 3, (10, 200))) % 4)
    )
    rec = tuned(rec, x0=[0, 1, 2, 0, 0, 1], h0=[0, 1, 0, 2, 0, 1], z0=[0, 1, 0, 2])
    found = variance_partition(rec, {**BY, "third": "z"}, **quiet)
    assert found.sizes["subset"] == 7
    np.testing.assert_allclose(found.common.sum("subset"), found.total)
    single = [found.common.sel(subset=name).values for name in found["variable"].values]
    np.testing.assert_allclose(found.unique, single)
    np.testing.assert_allclose(found.shared + found.unique.sum("variable"), found.total)
    # Venn diagram of two variables: what they share is the overlap of what each explains alone.
    two = variance_partition(rec, BY, **quiet)
    overlap = two.alone.sum("variable") - two.total
    np.testing.assert_allclose(two.common.sel(subset="place+heading"), overlap, atol=1e-12)


def test_independent_variables_share_nothing():
    x, h = (v.ravel() for v in np.mgrid[:5, :4])  # every pair once in every walk
    x, h = (np.tile(v, (12, 5)) for v in (x, h))
    rng = RNG(2)
    noise = rng.standard_normal((12, 100, 2))
    place, heading = rng.standard_normal(5), rng.standard_normal(4)
    values = noise + (place[x] + heading[h])[..., None]
    found = variance_partition(pf.from_arrays(values, {"x": x, "h": h}), BY, **quiet)
    np.testing.assert_allclose(found.shared, 0, atol=1e-3)
    np.testing.assert_allclose(found.unique, found.alone, atol=1e-3)
    known = np.array([place.var(), heading.var()])
    want = known / (known.sum() + 1)
    np.testing.assert_allclose(found.unique, np.repeat(want[:, None], 2, axis=1), atol=0.04)


def test_a_variable_that_is_there_twice_is_shared():
    rec = tuned(session(RNG(3)), x0=[0, 3, 2, 0, 0, 1])
    rec = rec.assign_coords(copy=rec.x)
    found = variance_partition(rec, {"place": "x", "again": "copy"}, **quiet).isel(unit=0)
    assert found.total > 0.4
    np.testing.assert_allclose(found.unique, 0, atol=1e-3)
    np.testing.assert_allclose(found.shared, found.total, atol=2e-3)
    assert (found.reason != "").all()


def test_a_variable_that_follows_from_others_is_not_tested():
    rec = tuned(session(RNG(16), related=0.5), x0=[0, 3, 2, 0, 0, 1])
    rec = rec.assign_coords(letter=rec.x // 2, both=rec.x + rec.h)
    by = {"place": "x", "letter": "letter", "heading": "h"}
    found = variance_partition(rec, by, **quiet)
    assert found.reason.values.tolist() == ["", "follows from the other variables", ""]
    assert np.isnan(found.p.sel(variable="letter")).all()
    assert np.isfinite(found.p.sel(variable=["place", "heading"])).all()
    np.testing.assert_allclose(found.unique.sel(variable="letter"), 0, atol=1e-3)
    assert found.alone.sel(variable="letter")[0] > 0.05
    by = {"place": "x", "both": "both"}  # a sum does not follow from one of its terms
    assert (variance_partition(rec, by, **quiet).reason == "").all()


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_free_of_scale_shift_and_sign(seed, scale, shift):
    rec = tuned(session(RNG(seed), n_steps=60), x0=[0, 1, 2, 0, 0, 1])
    want = variance_partition(rec, BY, **quiet)
    for factor in (scale, -scale):
        changed = rec.assign(activation=rec.activation * factor + shift)
        found = variance_partition(changed, BY, **quiet)
        for name in ("explained", "unique", "p", "null_mean"):
            np.testing.assert_allclose(found[name], want[name], atol=1e-6)


def test_a_shuffle_is_that_of_freedman_and_lane():
    rec = tuned(session(RNG(4), n_walks=4, related=0.6), x0=[0, 1, 2, 0, 0, 1])
    names = {"place": ("x",), "heading": ("h",)}
    binned = module._binned(rec, names, None)
    sampled = module._Sampled.of(rec, binned, "apart", 1.0, 4, None, None, 0)
    partition = module._Partition.of(sampled, 2)
    shuffles = CircularShifts(sampled.lengths, 200, None)
    (source,) = sampled.sources(shuffles, 1, RNG(5))
    design = sampled.design
    (part,) = sampled.parts()
    moved = module._Moved([design.with_activations(part, source)], design.cross(source))
    (found,) = partition.shuffled(design, 0, [moved])

    y = rec.activation.values.reshape(800, 3)
    columns = {n: (rec[n].values.ravel()[:, None] == np.arange(6)).astype(float) for n in "xh"}
    fold = np.repeat(design.fold[::200], 200)
    for row, rest in enumerate(("h", "x", "")):
        others = np.hstack([columns[n] for n in rest]) if rest else np.zeros((800, 1))
        fit = Ridge(alpha=1e-6).fit(others, y).predict(others)
        new = fit.copy()
        new[source] += y - fit  # every sample's residual goes where its variables come from
        again = rec.assign(activation=(rec.activation.dims, new.reshape(4, 200, 3)))
        want = by_loops(again, "xh", fold) - (by_loops(again, rest, fold) if rest else 0)
        np.testing.assert_allclose(found[row], want, atol=1e-6)


def test_p_is_calibrated_although_variables_are_related_and_noise_is_slow():
    p = []
    for seed in range(8):
        rec = session(RNG(seed), n_walks=4, n_steps=500, n_units=40, related=0.7, memory=0.9)
        heights = 2 * RNG(seed + 100).standard_normal((40, 6))
        rec = tuned(rec, **{f"x{unit}": h for unit, h in enumerate(heights)})
        found = variance_partition(rec, BY, n_shuffles=39, null="circular", progress=False)
        assert (found.alone.sel(variable="heading") > 0.02).mean() > 0.5  # it seems to be tuned
        p.append(found.p.sel(variable="heading").values)
    p = np.concatenate(p)
    share = (p <= 0.05).mean()
    assert share <= stats.binom.ppf(0.999, p.size, 0.05) / p.size
    assert 0.4 < p.mean() < 0.62


def test_tuned_units_are_found_and_others_are_not():
    rec = session(RNG(6), n_walks=12, n_units=20, related=0.5, memory=0.7)
    rec = tuned(rec, **{f"h{unit}": [0, 0, 1, 1, 0, 0] for unit in range(5)})
    found = variance_partition(rec, BY, n_shuffles=199, progress=False)
    assert found.attrs["null"] == "walks"
    assert (found.q.sel(variable="heading")[:5] <= 0.05).all()
    assert (found.p.sel(variable="heading")[5:] <= 0.05).sum() <= 3
    assert (found.p.sel(variable="place") <= 0.05).sum() <= 4
    assert found.n_bins.values.tolist() == [6, 6]


def test_places_of_maps_are_apart_unless_told_otherwise():
    rng = RNG(7)
    x = rng.integers(0, 5, (12, 100))
    room = np.arange(12) % 2
    heights = rng.standard_normal((2, 5))
    values = heights[room[:, None], x] + 0.3 * rng.standard_normal((12, 100))
    rec = pf.from_arrays(values[..., None], {"x": x}).assign_coords(map=("walk", room))
    apart = variance_partition(rec, {"place": "x"}, **quiet)
    together = variance_partition(rec, {"place": "x"}, maps="together", **quiet)
    assert apart.total > together.total + 0.2
    assert apart.n_bins == 10


def test_walks_of_unequal_length_and_samples_without_a_variable_are_left_out():
    rec = tuned(session(RNG(8)), x0=[0, 1, 2, 0, 0, 1])
    values, x = rec.activation.values.copy(), rec.x.values.astype(float)
    values[3, 150:] = np.nan
    values[5, 20:30] = np.nan
    x[3, 150:] = np.nan
    x[7, :9] = np.nan
    part = pf.from_arrays(values, {"x": x, "h": rec.h.values}, check_finite=False)
    found = variance_partition(part, BY, null="circular", **quiet)
    assert np.isfinite(found.p).all()
    assert abs(float(found.total[0] - variance_partition(rec, BY, **quiet).total[0])) < 0.05
    exchanged = variance_partition(part, BY, null="walks", **quiet)
    assert np.isfinite(exchanged.p).all()


def test_a_single_walk_is_cut_into_blocks_and_dask_gives_the_same():
    rec = tuned(session(RNG(9), n_walks=1, n_steps=2000), x0=[0, 1, 2, 0, 0, 1])
    found = variance_partition(rec, BY, **quiet)
    assert found.attrs["null"] == "circular"
    assert found.attrs["n_folds"] == 5
    lazy = variance_partition(rec.chunk(time=300), BY, **quiet)
    np.testing.assert_allclose(lazy.unique, found.unique)
    np.testing.assert_allclose(lazy.p, found.p)


def test_units_in_parts_give_the_same(monkeypatch):
    rec = tuned(session(RNG(10)), x0=[0, 1, 2, 0, 0, 1])
    want = variance_partition(rec, BY, **quiet)
    monkeypatch.setattr(module, "VALUES", 2 * 2000)
    found = variance_partition(rec, BY, **quiet)
    np.testing.assert_allclose(found.explained, want.explained, atol=1e-12)
    np.testing.assert_allclose(found.p, want.p)


def test_a_constant_unit_is_nan():
    rec = session(RNG(11))
    rec = rec.assign(activation=rec.activation.where(rec.unit != rec.unit[1], 0.3))
    found = variance_partition(rec, BY, **quiet)
    for name in ("total", "unique", "p", "total_p"):
        assert np.isnan(found[name].isel(unit=1)).all()
        assert np.isfinite(found[name].isel(unit=0)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "x"}, "by must be a mapping of 1 to 6"),
        ({"by": {"a+b": "x"}}, "must not contain"),
        ({"by": {"a": "z"}}, "'z' is missing"),
        ({"ridge": 0}, "ridge must be above 0"),
        ({"bins": {"q": 3}}, r"bins must map axes .* got \['q'\]"),
        ({"maps": "both"}, "maps must be one of"),
        ({"null": "none"}, "null must be one of"),
        ({"null": "walks", "min_shift": 3}, "min_shift is an option"),
        ({"n_shuffles": 0}, "n_shuffles"),
        ({"cv": 99}, "cv must be 2 to 10"),
        ({"max_q": 5}, "max_q must lie between 0 and 1"),
        ({"seed": "a"}, "seed must be a whole number"),
    ],
)
def test_what_cannot_be_partitioned_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        variance_partition(session(RNG(12)), **{"by": BY, "progress": False} | options)


def test_names_of_variables_may_be_numbers():
    found = variance_partition(session(RNG(12)), {1: BY["place"]}, **quiet | {"n_shuffles": 1})
    assert found["variable"].values.tolist() == ["1"]


def test_values_that_are_not_finite_are_refused():
    rec = session(RNG(13))
    values = rec.activation.values.copy()
    values[2, 7, 1] = np.nan
    with pytest.raises(ValueError, match="activation must be finite: 1 values of 1 units"):
        variance_partition(rec.assign(activation=(rec.activation.dims, values)), BY, **quiet)


def test_spikes_agree_with_a_poisson_model_of_nemos():
    nemos = pytest.importorskip("nemos")
    rng = RNG(14)
    rec = session(rng, n_units=4, related=0.5)
    rate = np.zeros(rec.activation.shape)
    rate[..., 0] = np.exp(-1 + 1.5 * (rec.x.values == 2))
    rate[..., 1] = np.exp(-1 + 1.5 * (rec.h.values == 2))
    rate[..., 2] = np.exp(-1 + (rec.x.values == 2) + (rec.h.values == 4))
    rate[..., 3] = np.exp(-1)
    counts = rng.poisson(rate)
    found = variance_partition(
        rec.assign(activation=(rec.activation.dims, counts.astype(float))), BY, **quiet
    )
    columns = {n: (rec[n].values.ravel()[:, None] == np.arange(1, 6)).astype(float) for n in "xh"}
    train = np.arange(2000) < 1600
    y, theirs = counts.reshape(2000, 4), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for names in ("xh", "h", "x"):
            x = np.hstack([columns[n] for n in names])
            for unit in range(4):
                model = nemos.glm.GLM(regularizer="Ridge", regularizer_strength=1e-3)
                model.fit(x[train], y[train, unit])
                theirs[names, unit] = float(model.score(x[~train], y[~train, unit]))
    unique = np.array([[theirs["xh", u] - theirs[n, u] for u in range(4)] for n in ("h", "x")])
    assert stats.spearmanr(unique.ravel(), found.unique.values.ravel()).statistic > 0.7
