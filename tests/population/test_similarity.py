import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.population import similarity_measures
from placeformer.population.mirrored_maps import symmetries
from placeformer.population.similarity import similarity as of_all_pairs

RNG = np.random.default_rng


def similarity(a, b, debiased=True, **options):
    """The similarity without pairs of the same walk, unless stated."""
    return of_all_pairs(a, b, debiased=debiased, **options)


QUICK = {"n_shuffles": 20}


def maps(rows, side=5):
    """RateMaps of rows (place, unit)."""
    return simulation.maps(rows.T.reshape(-1, side, side))


def recording(rows, n_walks=4):
    """A Recording whose samples are rows (sample, unit)."""
    n = len(rows) // n_walks
    x, y = RNG(0).integers(0, 5, (2, n_walks, n))
    return simulation.recording(rows.reshape(n_walks, n, -1), x, y, map=np.zeros(n_walks, int))


def kinds(rows):
    """The same rows as rate maps and as a recording, few or many beside the units."""
    yield maps(rows)
    yield recording(rows[:24])


def hsic(x, y, walk=None):
    """Squared norm of the covariance; with walks, by definition from all tuples of four of them."""
    if walk is None:
        h = np.eye(len(x)) - 1 / len(x)
        return np.trace(x @ x.T @ h @ y @ y.T @ h)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    of = [np.flatnonzero(walk == w) for w in np.unique(walk)]
    total = []
    for i, j, m, n in itertools.permutations(range(len(of)), 4):
        one = np.mean(k[np.ix_(of[i], of[j])] * l[np.ix_(of[i], of[j])])
        two = k[np.ix_(of[i], of[j])].mean() * l[np.ix_(of[m], of[n])].mean()
        three = np.mean(k[np.ix_(of[i], of[j])].mean(1) * l[np.ix_(of[i], of[m])].mean(1))
        total.append(one + two - 2 * three)
    return np.mean(total)


def cka(x, y, walk=None):
    return hsic(x, y, walk) / np.sqrt(hsic(x, x, walk) * hsic(y, y, walk))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n_units", [(3, 6), (40, 30)])
def test_cka_is_its_definition_from_units_and_from_rows(debiased, n_units):
    """Fewer units than rows: sums over units; more: the rows' kernels. Both must agree."""
    rng = RNG(1)
    x, y = (rng.standard_normal((24, n)) + 0.3 for n in n_units)
    y[:, 0] += x[:, 0]
    walk = np.repeat(np.arange(6), 4) if debiased else None
    found = similarity(recording(x, 6), recording(y, 6), debiased=debiased, **QUICK)
    np.testing.assert_allclose(found.similarity, cka(x, y, walk), rtol=1e-6)
    assert found.n_rows == 24
    assert list(found.n_units.values) == list(n_units)
    places = slice(9)
    walk = np.arange(9) if debiased else None
    found = similarity(maps(x[places], 3), maps(y[places], 3), debiased=debiased, **QUICK)
    np.testing.assert_allclose(found.similarity, cka(x[places], y[places], walk), rtol=1e-8)


@pytest.mark.parametrize("n_units", [2, 90])
def test_walks_count_equally_whatever_their_length(n_units):
    rng = RNG(2)
    x, y = rng.standard_normal((5, 8, n_units)), rng.standard_normal((5, 8, 3))
    y += x[..., :1]
    lengths = np.array([8, 5, 3, 7, 2])
    rows = np.arange(8) < lengths[:, None]
    x[~rows] = y[~rows] = np.nan
    xy = np.where(rows, RNG(0).integers(0, 5, (5, 8)), np.nan)
    a, b = (simulation.recording(v, xy, xy) for v in (x, y))
    walk = np.repeat(np.arange(5), lengths)
    np.testing.assert_allclose(
        similarity(a, b, **QUICK).similarity, cka(x[rows], y[rows], walk), rtol=1e-6
    )


METHODS = [{"method": "cka"}, {"method": "cka", "debiased": False}, {"method": "rsa"}]


@pytest.mark.parametrize("options", METHODS, ids=["debiased", "cka", "rsa"])
def test_p_is_not_below_what_the_orders_of_few_walks_allow(options):
    """Four walks have 24 orders: p is 1 / 24 but for chance, as every identity reaches the data."""
    for seed in range(6):
        z = RNG(seed).standard_normal((4, 20, 4))
        x, y = RNG(seed).integers(0, 5, (2, 4, 20))
        pair = [
            simulation.recording((z @ RNG(seed).standard_normal((4, n))).astype("f4"), x, y)
            for n in (12, 9)
        ]
        rng, n = RNG(seed), 199
        same = sum((rng.permutation(4) == range(4)).all() for _ in range(n))
        p = float(similarity(*pair, n_shuffles=n, seed=seed, **options).p)
        assert p >= (same + 1) / (n + 1)
    three = similarity(*(r.isel(walk=slice(3)) for r in pair), **(options | {"debiased": False}))
    assert np.isnan(three.p)
    assert "6 ways" in str(three.reason.values)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n_units", [(3, 6), (40, 30)])
def test_jackknife_and_shuffles_are_those_of_the_rows(debiased, n_units):
    rng = RNG(2)
    x, y = (rng.standard_normal((30, n)) + 0.3 for n in n_units)
    y[:, :3] += x[:, :3]
    a, b = recording(x, 5), recording(y, 5)
    found = similarity(a, b, debiased=debiased, n_shuffles=7, seed=3)
    walks = np.arange(30).reshape(5, 6)
    number = np.repeat(np.arange(5), 6) if debiased else None

    def without(walk):
        keep = np.setdiff1d(np.arange(30), walk)
        return cka(x[keep], y[keep], None if number is None else number[keep])

    left = np.array([without(w) for w in walks])
    se = np.sqrt(4 / 5 * ((left - left.mean()) ** 2).sum())
    reach = se * stats.t.ppf(0.975, 4)
    value = cka(x, y, number)
    np.testing.assert_allclose(found.interval, [value - reach, value + reach], rtol=1e-5)
    draw = RNG(3)
    orders = [walks[draw.permutation(5)].ravel() for _ in range(7)]
    null = np.array([cka(x, y[order], number) for order in orders])
    np.testing.assert_allclose(found.null_mean, null.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.null_sd, null.std(ddof=1), rtol=1e-5)
    np.testing.assert_allclose(found.p, ((null >= value - 1e-12).sum() + 1) / 8)


@pytest.mark.parametrize("distance", ["correlation", "euclidean", "cosine"])
def test_rsa_is_spearmans_correlation_of_distances(distance):
    rng = RNG(4)
    x, y = rng.standard_normal((25, 8)), rng.standard_normal((25, 5))
    found = similarity(maps(x), maps(y), method="rsa", distance=distance, n_shuffles=3, seed=1)
    want = stats.spearmanr(pdist(x, distance), pdist(y, distance)).statistic
    np.testing.assert_allclose(found.similarity, want)
    of_walks = similarity(
        recording(x, 5), recording(y, 5), method="rsa", distance=distance, **QUICK
    )
    walk = np.repeat(np.arange(5), 5)
    apart = pdist(walk[:, None]) > 0
    want = stats.spearmanr(pdist(x, distance)[apart], pdist(y, distance)[apart]).statistic
    np.testing.assert_allclose(of_walks.similarity, want)


@pytest.mark.parametrize(("distance", "level"), [("correlation", 0.1), ("cosine", 0.0)])
def test_rows_without_a_direction_are_refused_by_rsa(distance, level):
    x = RNG(4).standard_normal((25, 8))
    x[[3, 7]] = level
    with pytest.raises(ValueError, match=f"{distance}.* in 2 of 25 rows of b; .*'euclidean'"):
        similarity(maps(x + np.arange(8)), maps(x), method="rsa", distance=distance, n_shuffles=0)
    got = similarity(maps(x), maps(x), method="rsa", distance="euclidean", n_shuffles=0)
    np.testing.assert_allclose(got.similarity, 1)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.01, 100),
    method=st.sampled_from([{}, {"debiased": False}, {"method": "rsa", "distance": "euclidean"}]),
    n_units=st.sampled_from([4, 30]),
)
def test_rotation_shift_and_isotropic_scaling_do_not_matter(seed, scale, method, n_units):
    rng = RNG(seed)
    x, y = rng.standard_normal((25, n_units)), rng.standard_normal((25, 6))
    turn = ortho_group.rvs(n_units, random_state=seed)
    other = scale * (x @ turn + rng.standard_normal(n_units))
    for a, b, c in zip(kinds(x), kinds(other), kinds(y), strict=True):
        np.testing.assert_allclose(
            similarity(a, b, **method, n_shuffles=0).similarity, 1, atol=1e-7
        )
        one, two = (similarity(v, c, **method, n_shuffles=0) for v in (a, b))
        np.testing.assert_allclose(one.similarity, two.similarity, atol=1e-7)
        np.testing.assert_allclose(
            similarity(c, a, **method, n_shuffles=0).similarity, one.similarity
        )


def test_scaling_single_units_does_matter():
    x = RNG(5).standard_normal((25, 4))
    assert similarity(maps(x), maps(x * [10, 1, 1, 1]), **QUICK).similarity < 0.9


def test_unrelated_wide_populations_are_alike_unless_debiased():
    rng = RNG(6)
    a, b = (maps(rng.standard_normal((25, 2000))) for _ in range(2))
    assert similarity(a, b, debiased=False, n_shuffles=0).similarity > 0.95
    found = similarity(a, b, **QUICK)
    assert abs(found.similarity) < 0.1
    assert found.p > 0.01


def slow(rng, n_walks, n_steps):
    x, y = RNG(0).integers(0, 5, (2, n_walks, n_steps))
    return simulation.recording(simulation.noise(rng, n_walks, n_steps, 20, 0.99), x, y)


@pytest.mark.parametrize(("size", "atol"), [((16, 128), 0.05), ((6, 128), 0.1)])
def test_slow_noise_of_unrelated_populations_is_not_alike(size, atol):
    """Formerly 0.17 for 16 walks of AR(0.99) noise and 0.45 for 4, with intervals that missed 0."""
    found = [
        similarity(*(slow(RNG([seed, i]), *size) for i in (0, 1)), n_shuffles=0)
        for seed in range(16)
    ]
    assert abs(np.mean([f.similarity for f in found])) < atol
    covered = [f.interval[0] <= 0 <= f.interval[1] for f in found]
    assert np.sum(covered) >= 13


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_interval_of_a_shared_signal_covers_the_truth(share):
    hits, values = 0, []
    for seed in range(60):
        a, b, truth = simulation.shared_signal(seed, 32, 100, share=share)
        found = similarity(a, b, n_shuffles=0)
        hits += found.interval[0] <= truth <= found.interval[1]
        values.append(float(found.similarity))
    assert hits >= 51
    np.testing.assert_allclose(np.mean(values), truth, atol=3 * np.std(values) / np.sqrt(60) + 0.02)


def test_interval_covers_the_truth():
    """Debiased CKA of populations drawn anew: most intervals hold the value of many rows."""
    mix = RNG(7).standard_normal((5, 4))

    def drawn(rng, n):
        x = rng.standard_normal((n, 5))
        return x, x @ mix + 2 * rng.standard_normal((n, 4))

    truth = similarity(*(recording(v, 20) for v in drawn(RNG(8), 20_000)), n_shuffles=0)
    hits = 0
    for seed in range(25):
        a, b = (recording(v, 20) for v in drawn(RNG([9, seed]), 200))
        low, high = similarity(a, b, n_shuffles=0).interval.values
        hits += low <= truth.similarity.item() <= high
    assert hits >= 20


def test_p_of_unrelated_smooth_maps_is_not_small():
    """Formerly p was the least possible in 30 of 30: places near each other are alike in both."""
    p, values = [], []
    for seed in range(20):
        a, b = (simulation.smooth_maps(2 * seed + i) for i in (0, 1))
        found = similarity(a, b, n_shuffles=39, seed=seed)
        p.append(float(found.p))
        values.append(float(found.similarity))
    assert np.mean(values) > 0.6
    assert np.mean(np.array(p) <= 0.05) <= 0.2
    assert 0.25 < np.mean(p) < 0.75
    related = similarity(a, a.assign(rate=a.rate + 0.5 * b.rate), n_shuffles=39)
    assert related.p == 1 / 40


def test_the_noise_ceiling_is_the_similarity_of_halves():
    rng = RNG(14)
    code = simulation.units(rng, 40, 1, noise=0)
    halves = [
        xr.concat(
            [simulation.maps(code + 0.3 * rng.standard_normal(code.shape)) for _ in "ab"], "half"
        )
        for _ in range(2)
    ]
    found = similarity(*halves, n_shuffles=39)
    whole = [[d.isel(half=h) for h in (0, 1)] for d in halves]
    one, two = (similarity(*pair, n_shuffles=0).similarity for pair in whole)
    np.testing.assert_allclose(found.noise_ceiling, np.sqrt(one * two))
    crossed = [similarity(whole[0][h], whole[1][1 - h], n_shuffles=0).similarity for h in (0, 1)]
    np.testing.assert_allclose(found.similarity, np.mean(crossed))
    np.testing.assert_allclose(found.similarity, found.noise_ceiling, atol=0.03)
    assert found.similarity < 0.9
    assert found.p == 1 / 40
    with pytest.raises(ValueError, match="both be half maps"):
        similarity(halves[0], whole[1][0])


def test_maps_with_holes_are_mirrored_where_all_images_are_known():
    a, b = (simulation.smooth_maps(seed) for seed in (1, 2))
    for maps_ in (a, b):
        maps_.rate[:, 0, 3] = np.nan
        maps_.occupancy[0, 3] = 0
    found = similarity(a, b, n_shuffles=39)
    assert found.n_rows == 120
    assert 0 < found.p <= 1


@pytest.mark.parametrize(("shape", "n"), [((4, 4), 8), ((2, 3, 5), 4), ((6,), 2)])
def test_symmetries_keep_the_neighbours_of_every_place(shape, n):
    images = symmetries(shape, min(len(shape), 2))
    assert len(images) == n
    np.testing.assert_array_equal(images[0], np.arange(np.prod(shape)))
    at = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), -1)
    apart = pdist(at, "cityblock")
    for image in images:
        np.testing.assert_array_equal(pdist(at[image], "cityblock"), apart)


def test_dask_and_blocks_give_the_same(monkeypatch):
    rng = RNG(10)
    x, y = (rng.standard_normal((1200, n)).astype(np.float32) for n in (6, 9))
    y[:, :6] += x
    want = similarity(recording(x, 6), recording(y, 6), n_shuffles=3)
    monkeypatch.setattr("placeformer.data.blocks.BLOCK_VALUES", 1000)
    lazy = (recording(v, 6).chunk(time=70, unit=4) for v in (x, y))
    found = similarity(*lazy, n_shuffles=3)
    for name in ("similarity", "interval", "null_mean"):
        np.testing.assert_allclose(found[name], want[name], rtol=1e-5)
    part = similarity(recording(x), recording(y), every=3, n_shuffles=0)
    assert part.n_rows == 400


def test_result_is_documented_and_goes_to_netcdf(tmp_path):
    rng = RNG(11)
    a, b = maps(rng.standard_normal((25, 4))), maps(rng.standard_normal((25, 5)))
    found = similarity(a, b, method="rsa", n_shuffles=5, progress=True)
    xr.testing.assert_identical(found, similarity(a, b, method="rsa", n_shuffles=5))
    for name in found.data_vars:
        assert {"units", "long_name"} <= set(found[name].attrs), name
    found.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_identical(found, back.load())
    none = similarity(recording(rng.standard_normal((40, 3))), recording(np.ones((40, 3))))
    assert np.isnan(none.similarity)
    assert np.isnan(none.p)


X = RNG(12).standard_normal((24, 3))


@pytest.mark.parametrize(
    ("a", "b", "options", "words"),
    [
        (recording(X), maps(RNG(0).standard_normal((25, 3))), {}, "both be recordings"),
        (recording(X), recording(X, 3), {}, r"same walks, got sizes \(4, 6\) and \(3, 8\)"),
        (recording(X), recording(X).assign_coords(map=("walk", [1] * 4)), {}, "different 'map'"),
        (recording(X * np.nan), recording(X), {}, "must be finite"),
        (recording(X), recording(X), {"method": "cca"}, "method must be one of"),
        (recording(X), recording(X), {"distance": "l1"}, "distance must be one of"),
        (recording(X), recording(X), {"n_shuffles": -1}, "n_shuffles"),
        (recording(X), recording(X), {"n_shuffles": 1.5}, "n_shuffles must be a whole number"),
        (recording(X), recording(X), {"seed": -1}, "seed must be a whole number"),
        (recording(X), recording(X), {"every": 0}, "every must be a whole number ≥ 1"),
        (recording(X, 3), recording(X, 3), {}, "at least 4 walks .* got 3.*debiased=False"),
        (recording(X[:2], 2), recording(X[:2], 2), {"debiased": False}, "at least 3 rows, got 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, options, words):
    with pytest.raises(ValueError, match=words):
        similarity(a, b, **options)


@pytest.mark.parametrize("dims", [("walk", "time"), ("time", "walk"), ("time",), ("walk",)])
@pytest.mark.parametrize("name", ["z", "linear", "head_direction", "reward"])
def test_recordings_of_other_walks_are_refused_whatever_the_name(name, dims):
    shape = [{"walk": 4, "time": 6}[d] for d in dims]
    first, other = (
        recording(X).assign_coords({name: (dims, RNG(seed).random(shape))}) for seed in (0, 1)
    )
    with pytest.raises(ValueError, match=rf"different '{name}'.*drop_vars\('{name}'\)"):
        similarity(first, other)
    assert similarity(first, other.drop_vars(name), n_shuffles=0).similarity == pytest.approx(1)


def test_the_order_of_dimensions_and_what_networks_predict_do_not_matter():
    places = {k: (("walk", "time"), RNG(0).random((4, 6))) for k in "xy"}
    first = recording(X).assign_coords(places)
    first["correct"] = (("walk", "time"), RNG(1).random((4, 6)) > 0.5)
    first.coords["alpha"] = 1.0
    other = (
        first.assign(correct=~first.correct)
        .assign_coords(alpha=2.0)
        .transpose("time", "unit", "walk")
    )
    want = similarity(first, first, n_shuffles=9)
    xr.testing.assert_equal(similarity(first, other, n_shuffles=9).drop_attrs(), want.drop_attrs())
    assert want.similarity == pytest.approx(1)


def test_all_pairs_are_the_default():
    a, b = recording(X), recording(X + RNG(1).standard_normal(X.shape))
    want = of_all_pairs(a, b, debiased=False, **QUICK)
    xr.testing.assert_identical(of_all_pairs(a, b, **QUICK).similarity, want.similarity)
    np.testing.assert_allclose(want.similarity, cka(X, b.activation.values.reshape(X.shape)))


@pytest.mark.parametrize("n_units", [1, 9])
def test_too_few_walks_left_give_no_interval(n_units):
    x = RNG(13).standard_normal((8, n_units))
    found = similarity(recording(x, 4), recording(x, 4), n_shuffles=0)
    np.testing.assert_allclose(found.similarity, 1)
    assert np.isnan(found.interval).all()


def test_too_many_distances_are_refused(monkeypatch):
    monkeypatch.setattr(similarity_measures, "MAX_ROWS", 10)
    with pytest.raises(ValueError, match="at most 10, got 24.*every=3"):
        similarity(recording(X), recording(X), method="rsa")


@pytest.mark.parametrize("scale", [1e-40, 1e30])
@pytest.mark.parametrize("n_steps", [10, 200])
def test_cka_does_not_change_with_the_scale(scale, n_steps):
    rng = np.random.default_rng(0)
    place = {"x": rng.integers(0, 5, (6, n_steps))}
    values = [rng.normal(size=(6, n_steps, 60 if n_steps == 10 else 4)) for _ in range(2)]
    one, two = (pf.from_arrays(v, place) for v in values)
    expected = float(pf.similarity(one, two, n_shuffles=0, progress=False).similarity)
    one, two = (pf.from_arrays(v * scale, place) for v in values)
    found = float(pf.similarity(one, two, n_shuffles=0, progress=False).similarity)
    assert found == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="small enough"):
        pf.similarity(pf.from_arrays(values[0] * 1e100, place), two, n_shuffles=0, progress=False)


@pytest.mark.parametrize("distance", ["correlation", "euclidean", "cosine"])
def test_distances_that_differ_by_rounding_are_ties(distance):
    # eight places on a ring have four different distances, apart from rounding
    place = RNG(3).integers(0, 8, (2, 30))
    apart = np.abs(place[..., None] - np.arange(8))
    code = np.exp(-(np.minimum(apart, 8 - apart) ** 2) / 2)
    a, scaled, permuted = (
        simulation.recording(values, place, place)
        for values in (code, 0.3 * code, code[..., [3, 1, 0, 5, 4, 2, 7, 6]])
    )
    for b in (scaled, permuted):
        found = of_all_pairs(a, b, method="rsa", distance=distance, n_shuffles=0)
        assert found.similarity == pytest.approx(1, abs=1e-12)
