import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from placeformer.evaluation import simulation
from placeformer.population import similarity as resemblance
from placeformer.population.similarity import similarity

RNG = np.random.default_rng
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


def hsic(x, y, debiased):
    """Definitions: with the centring matrix, and Song's sum without diagonals."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    n = len(k)
    if not debiased:
        h = np.eye(n) - 1 / n
        return np.trace(k @ h @ l @ h)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    total = np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def cka(x, y, debiased):
    return hsic(x, y, debiased) / np.sqrt(hsic(x, x, debiased) * hsic(y, y, debiased))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n_units", [(3, 6), (40, 30)])
def test_cka_is_its_definition_from_units_and_from_rows(debiased, n_units):
    """Fewer units than rows: sums over units; more: the rows' kernels. Both must agree."""
    rng = RNG(1)
    x, y = (rng.standard_normal((25, n)) + 0.3 for n in n_units)
    y[:, 0] += x[:, 0]
    for a, b, n in zip(kinds(x), kinds(y), (25, 24), strict=True):
        found = similarity(a, b, debiased=debiased, **QUICK)
        np.testing.assert_allclose(found.similarity, cka(x[:n], y[:n], debiased), rtol=1e-8)
        assert found.n_rows == n
        assert list(found.n_units.values) == list(n_units)


METHODS = [{"method": "cka"}, {"method": "cka", "debiased": True}, {"method": "rsa"}]


def few_walks(seed):
    z = RNG(seed).standard_normal((3, 20, 4))
    x, y = RNG(seed).integers(0, 5, (2, 3, 20))
    for n in (12, 9):
        yield simulation.recording((z @ RNG(seed).standard_normal((4, n))).astype("f4"), x, y)


def few_places(seed):
    z = RNG(seed).standard_normal((4, 4))
    for n in (12, 9):
        yield maps((z @ RNG(seed).standard_normal((4, n))).astype("f4"), side=2)


@pytest.mark.parametrize("options", METHODS, ids=["cka", "debiased", "rsa"])
@pytest.mark.parametrize(("pair", "groups"), [(few_walks, 3), (few_places, 4)])
def test_p_is_not_below_what_the_orders_of_few_rows_allow(pair, groups, options):
    """Three walks have 6 orders: p is 1 / 6 but for chance, as every identity reaches the data."""
    n = 499
    for seed in range(12):
        rng = RNG(seed)
        same = sum((rng.permutation(groups) == range(groups)).all() for _ in range(n))
        p = float(similarity(*pair(seed), n_shuffles=n, seed=seed, **options).p)
        assert p >= (same + 1) / (n + 1)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n_units", [(3, 6), (40, 30)])
def test_jackknife_and_shuffles_are_those_of_the_rows(debiased, n_units):
    rng = RNG(2)
    x, y = (rng.standard_normal((24, n)) + 0.3 for n in n_units)
    y[:, :3] += x[:, :3]
    found = similarity(recording(x), recording(y), debiased=debiased, n_shuffles=7, seed=3)
    walks = np.arange(24).reshape(4, 6)
    left = np.array([cka(*(np.delete(v, w, axis=0) for v in (x, y)), debiased) for w in walks])
    se = np.sqrt(3 / 4 * ((left - left.mean()) ** 2).sum())
    reach = se * stats.t.ppf(0.975, 3)
    value = cka(x, y, debiased)
    np.testing.assert_allclose(found.interval, [value - reach, value + reach], rtol=1e-6)
    draw = RNG(3)
    null = np.array([cka(x, y[walks[draw.permutation(4)].ravel()], debiased) for _ in range(7)])
    np.testing.assert_allclose(found.null_mean, null.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.null_sd, null.std(ddof=1), rtol=1e-6)
    np.testing.assert_allclose(found.p, ((null >= value - 1e-12).sum() + 1) / 8)


@pytest.mark.parametrize("distance", ["correlation", "euclidean", "cosine"])
def test_rsa_is_spearmans_correlation_of_distances(distance):
    rng = RNG(4)
    x, y = rng.standard_normal((25, 8)), rng.standard_normal((25, 5))
    found = similarity(maps(x), maps(y), method="rsa", distance=distance, n_shuffles=3, seed=1)
    want = stats.spearmanr(pdist(x, distance), pdist(y, distance)).statistic
    np.testing.assert_allclose(found.similarity, want)
    draw, null = RNG(1), []
    for _ in range(3):
        moved = y[draw.permutation(25)]
        null.append(stats.spearmanr(pdist(x, distance), pdist(moved, distance)).statistic)
    np.testing.assert_allclose(found.null_mean, np.mean(null))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.01, 100),
    method=st.sampled_from([{}, {"debiased": True}, {"method": "rsa", "distance": "euclidean"}]),
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
    assert similarity(a, b).similarity > 0.95
    found = similarity(a, b, debiased=True)
    assert abs(found.similarity) < 0.1
    assert found.p > 0.01
    assert similarity(a, a, n_shuffles=200).p == 1 / 201


def test_interval_covers_the_truth():
    """Debiased CKA of populations drawn anew: most intervals hold the value of many rows."""
    mix = RNG(7).standard_normal((5, 4))

    def drawn(rng, n):
        x = rng.standard_normal((n, 5))
        return x, x @ mix + 2 * rng.standard_normal((n, 4))

    truth = similarity(*(recording(v, 2) for v in drawn(RNG(8), 20_000)), debiased=True)
    hits = 0
    for seed in range(25):
        a, b = (recording(v, 20) for v in drawn(RNG([9, seed]), 200))
        low, high = similarity(a, b, debiased=True).interval.values
        hits += low <= truth.similarity.item() <= high
    assert hits >= 20


def test_dask_and_blocks_give_the_same(monkeypatch):
    rng = RNG(10)
    x, y = (rng.standard_normal((1200, n)).astype(np.float32) for n in (6, 9))
    y[:, :6] += x
    want = similarity(recording(x), recording(y), debiased=True, n_shuffles=3)
    monkeypatch.setattr("placeformer.data.blocks.BLOCK_VALUES", 1000)
    lazy = (recording(v).chunk(time=70, unit=4) for v in (x, y))
    found = similarity(*lazy, debiased=True, n_shuffles=3)
    for name in ("similarity", "interval", "null_mean"):
        np.testing.assert_allclose(found[name], want[name], rtol=1e-5)
    part = similarity(recording(x), recording(y), every=3)
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
        (recording(X), recording(X), {"method": "rsa", "debiased": True}, "option of method='cka'"),
        (recording(X), recording(X), {"n_shuffles": -1}, "n_shuffles"),
        (recording(X), recording(X), {"every": 0}, "every must be at least 1"),
        (recording(X[:3], 3), recording(X[:3], 3), {"debiased": True}, "at least 4 rows, got 3"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, options, words):
    with pytest.raises(ValueError, match=words):
        similarity(a, b, **options)


@pytest.mark.parametrize("n_units", [1, 9])
def test_too_few_rows_left_give_no_interval(n_units):
    x = RNG(13).standard_normal((6, n_units))
    found = similarity(recording(x, 2), recording(x, 2), debiased=True)
    np.testing.assert_allclose(found.similarity, 1)
    assert np.isnan(found.interval).all()


def test_too_many_distances_are_refused(monkeypatch):
    monkeypatch.setattr(resemblance, "MAX_ROWS", 10)
    with pytest.raises(ValueError, match="at most 10, got 24.*every=3"):
        similarity(recording(X), recording(X), method="rsa")
