"""Head direction: closed forms, the origin of the angle, other programs, and calibration."""

from importlib import import_module

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import placeformer as pf
from placeformer.data.circular import shortest
from placeformer.spatial.head_direction import rayleigh
from placeformer.spatial.mean_vector import cosine_amplitude, mean_vector

TURN = 2 * np.pi
QUIET = {"progress": False}


def heading(n=6000, seed=0, step=0.25):
    return np.cumsum(np.random.default_rng(seed).normal(0, step, n)) % TURN


def recording(values, angle, units="1", **options):
    """Units (time, unit) or (walk, time, unit) with a heading."""
    behaviour = {"head_direction": angle}
    made = pf.from_arrays(values, {"x": np.zeros(angle.shape)}, behaviour=behaviour, **options)
    made.head_direction.attrs["units"] = units
    return made


def slow_noise(n, n_units, seed, time=60):
    """Noise that is correlated over many steps and has nothing to do with a heading."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(n + 8 * time, n_units))
    kernel = np.exp(-np.arange(8 * time) / time)
    return np.apply_along_axis(np.convolve, 0, white, kernel, "valid")[:n]


def of_curve(rate, turn=TURN):
    return pf.maps_from_arrays(
        np.atleast_2d(rate), edges=np.linspace(0, turn, np.shape(rate)[-1] + 1), by="heading",
        circular={"heading": turn},
    )  # fmt: skip


@pytest.mark.parametrize("kappa", [0.5, 2.0, 8.0])
def test_a_von_mises_curve_has_its_length_and_direction(kappa):
    centre = (np.arange(360) + 0.5) * TURN / 360
    maps = of_curve(np.exp(kappa * np.cos(centre - 4)))
    length, direction = mean_vector(maps, "rectify")
    assert length.item() == pytest.approx(length_of(kappa), rel=1e-6)
    assert direction.item() == pytest.approx(4, abs=1e-6)
    assert pf.mean_vector_length(maps).item() == length.item()


def length_of(kappa):
    special = import_module("scipy.special")
    return special.i1(kappa) / special.i0(kappa)


@pytest.mark.parametrize("low", [0, -np.pi, np.pi / 3])
def test_directions_lie_between_the_ends_of_the_bins(low):
    angle = heading(2000)
    values = np.exp(3 * np.cos(angle[:, None] - np.array([0.5, 2, 4, 6])))
    edges = np.linspace(low, low + TURN, 25)
    table = pf.head_direction(recording(values, angle), bins=edges, n_shuffles=9, progress=False)
    for name in ("preferred_direction", "peak_direction"):
        assert (low <= table[name]).all() and (table[name] <= low + TURN).all()
        np.testing.assert_allclose(np.mod(table[name], TURN), [0.5, 2, 4, 6], atol=0.3)


def test_extremes_and_policies():
    one = np.zeros(24)
    one[5] = 3.0
    assert pf.mean_vector_length(of_curve(one)).item() == pytest.approx(1)
    length, direction = mean_vector(of_curve(np.ones(24)), "rectify")
    assert length.item() == pytest.approx(0, abs=1e-12) and np.isnan(direction.item())
    opposite = one + np.roll(one, 12)
    assert pf.mean_vector_length(of_curve(opposite)).item() == pytest.approx(0, abs=1e-12)
    silent = pf.mean_vector_length(of_curve(np.zeros(24)))
    assert np.isnan(silent.item())
    signed = one - 1
    raised = pf.mean_vector_length(of_curve(signed), negatives="shift")
    np.testing.assert_allclose(raised, pf.mean_vector_length(of_curve(one)))
    with pytest.raises(ValueError, match="negatives='raise'"):
        pf.mean_vector_length(of_curve(signed), negatives="raise")
    flat = pf.maps_from_arrays(np.ones((1, 8)), by="x")
    with pytest.raises(ValueError, match="one circular axis"):
        pf.mean_vector_length(flat)


def test_statistics_are_those_of_opexebo():
    pytest.importorskip("opexebo")
    other = import_module("opexebo.analysis").tuning_curve_stats
    rate = np.random.default_rng(0).exponential(size=(5, 36))
    length, direction = mean_vector(of_curve(rate), "rectify")
    for k, curve in enumerate(rate):
        want = other(np.ma.masked_invalid(curve))
        assert length[k].item() == pytest.approx(want["hd_mvl"])
        assert direction[k].item() == pytest.approx(want["hd_mean_direction_rad"] % TURN)


def test_rayleigh_is_that_of_astropy():
    circular = pytest.importorskip("astropy.stats.circstats")
    angles = np.random.default_rng(0).vonmises(0, 0.1, 200)
    length = np.abs(np.exp(1j * angles).mean())
    _, p = rayleigh(np.array([length]), np.array([200.0]))
    assert p.item() == pytest.approx(float(circular.rayleightest(angles)), abs=1e-3)


def test_rayleigh_of_independent_events_is_uniform_and_close_to_its_table():
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, TURN, (4000, 30))
    _, p = rayleigh(np.abs(np.exp(1j * angles).mean(axis=1)), np.full(4000, 30.0))
    for level in (0.01, 0.05, 0.2):
        low, high = stats.binom.interval(0.999, 4000, level)
        assert low <= np.sum(p <= level) <= high
    # Zar (2010), table B.34: z of 5 % is 2.971 for n = 30, and 2.996 = -ln 0.05 for n infinite
    for n, z in ((30, 2.971), (1e7, -np.log(0.05))):
        _, p = rayleigh(np.array([np.sqrt(z / n)]), np.array([float(n)]))
        assert p.item() == pytest.approx(0.05, rel=2e-3)
    _, p = rayleigh(np.array([np.nan, 1.0]), np.array([0.0, 1e6]))
    assert np.isnan(p[0]) and p[1] == 0


def test_directions_are_found_and_untuned_units_are_not():
    angle = heading()
    preferred = np.arange(6) * 1.0
    rng = np.random.default_rng(1)
    tuned = np.exp(2 * (np.cos(angle[:, None] - preferred) - 1))
    values = np.concatenate([tuned, np.ones((len(angle), 6))], axis=1)
    values = values + 0.3 * rng.exponential(size=values.shape)
    table = pf.head_direction(recording(values, angle), **QUIET)
    assert np.abs(shortest(table.preferred_direction.values[:6] - preferred, TURN)).max() < 0.1
    assert np.abs(shortest(table.peak_direction.values[:6] - preferred, TURN)).max() < 0.4
    assert (table.q.values[:6] <= 0.05).all() and (table.q.values[6:] > 0.05).all()
    assert (table.cosine_amplitude.values[:6] > 5 * table.null_mean.values[:6]).all()
    assert (table.stability.values[:6] > 0.9).all()
    assert table.preferred_direction.attrs["units"] == "1"
    assert "not independent" in table.rayleigh_p.attrs["long_name"]
    assert table.attrs["negatives"] == "rectify"


def test_the_shuffle_test_is_calibrated_where_rayleigh_is_not():
    """Slow units that ignore the heading: the p of the shuffles is uniform, Rayleigh's is tiny."""
    values = slow_noise(8000, 200, seed=3)
    made = recording(values - values.min(axis=0), heading(8000, seed=4))
    table = pf.head_direction(made, n_shuffles=99, **QUIET)
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= (table.p.values <= 0.05).sum() <= high
    assert (table.q.values <= 0.05).sum() == 0
    assert (table.rayleigh_p.values <= 0.05).mean() > 0.3


@pytest.mark.parametrize("by", [1.0, -3.0])
def test_the_origin_and_the_units_of_the_angle_do_not_matter(by):
    angle = heading(2000)
    rng = np.random.default_rng(0)
    values = np.exp(np.cos(angle[:, None] - [0.0, 2.0])) + rng.exponential(size=(2000, 2))
    one = recording(values, angle)
    width = TURN / 24
    moved = recording(values, angle + by * width)
    degrees = recording(values, np.degrees(angle), "deg")
    tables = [pf.head_direction(r, n_shuffles=49, **QUIET) for r in (one, moved, degrees)]
    for table in tables[1:]:
        for name in ("mean_vector_length", "p", "rayleigh_p", "stability", "n_effective"):
            np.testing.assert_allclose(table[name], tables[0][name], rtol=1e-6, err_msg=name)
    first, second, third = (table.preferred_direction.values for table in tables)
    assert np.abs(shortest(second - first - by * width, TURN)).max() < 1e-6
    np.testing.assert_allclose(np.radians(third), first)
    assert tables[2].preferred_direction.attrs["units"] == "deg"


def test_signed_units_are_tested_as_well_as_rates():
    """Half the map of a unit of mean 0 is negative: what is left after rectifying says little."""
    angle = heading(8000)
    rng = np.random.default_rng(2)
    tuned = np.cos(angle[:, None] - np.arange(10) * 0.6)
    values = np.concatenate([tuned, np.zeros((8000, 30))], axis=1) + rng.normal(size=(8000, 40))
    tables = [pf.head_direction(recording(v, angle), **QUIET) for v in (values, values + 10)]
    for table in tables:
        assert (table.q.values[:10] <= 0.05).all() and (table.q.values[10:] <= 0.05).sum() <= 2
        np.testing.assert_allclose(table.cosine_amplitude[:10], 1, atol=0.15)
    np.testing.assert_allclose(tables[0].p, tables[1].p, atol=0.02)
    loose = pf.shuffle_test(
        recording(values, angle), "mean_vector_length", by="head_direction", bins=24,
        circular={"head_direction": TURN}, n_shuffles=99, **QUIET,
    )  # fmt: skip
    assert (loose.p.values[:10] > 0.01).any()  # why the length is not what is tested


def test_a_cosine_has_its_amplitude():
    centre = (np.arange(24) + 0.5) * TURN / 24
    maps = of_curve(5 + 3 * np.cos(centre - 2) + 0.5 * np.cos(2 * centre))
    assert cosine_amplitude(maps).item() == pytest.approx(3)
    constant = pf.head_direction(recording(np.full((400, 1), 7.0), heading(400)), **QUIET)
    assert np.isnan(constant.p).all() and constant.cosine_amplitude.item() < 1e-9


def test_spikes_count_as_events():
    """With at most one spike per sample, the effective number of samples is that of the spikes."""
    rng = np.random.default_rng(0)
    angle = heading(5000)
    spikes = rng.random((5000, 3)) < 0.05
    made = recording(50.0 * spikes, angle, sample_rate=50)
    table = pf.head_direction(made, n_shuffles=19, **QUIET)
    np.testing.assert_allclose(table.n_effective, spikes.sum(axis=0))


def test_missing_headings_and_dask():
    angle = heading(1600).reshape(8, 200)
    rng = np.random.default_rng(0)
    values = np.exp(np.cos(angle[..., None] - [0.0, 2.0])) + rng.exponential(size=(8, 200, 2))
    lost = angle.copy()
    lost[:, ::7] = np.nan
    whole, part = recording(values, angle), recording(values, lost)
    a, b = (pf.head_direction(r, n_shuffles=19, **QUIET) for r in (whole, part))
    assert np.abs(a.mean_vector_length - b.mean_vector_length).max() < 0.1
    assert (b.n_effective < a.n_effective).all()
    pytest.importorskip("dask")
    lazy = pf.head_direction(part.chunk(walk=2), n_shuffles=19, **QUIET)
    xr.testing.assert_allclose(lazy, b)


def test_what_is_missing_is_named():
    made = recording(np.ones((50, 1)), heading(50))
    with pytest.raises(ValueError, match="'theta' is missing"):
        pf.head_direction(made, by="theta", **QUIET)
    with pytest.raises(ValueError, match="as angles in other units do"):
        pf.head_direction(recording(np.ones((720, 1)), np.arange(720) % 360), **QUIET)
    with pytest.raises(ValueError, match="sample with a heading 'head_direction', got none"):
        pf.head_direction(recording(np.ones((50, 1)), np.full(50, np.nan)), **QUIET)
    with pytest.raises(ValueError, match="name of one circular variable"):
        pf.head_direction(made, by=("head_direction",), **QUIET)


def test_a_variable_called_heading_is_found():
    angle = heading(2000)
    values = np.exp(2 * np.cos(angle - 1))[:, None]
    one = pf.head_direction(recording(values, angle), **QUIET)
    made = pf.from_arrays(values, {"heading": angle})
    two = pf.head_direction(made, **QUIET)
    np.testing.assert_array_equal(one.preferred_direction, two.preferred_direction)
    with pytest.raises(ValueError, match="'head_direction' is missing"):
        pf.head_direction(pf.from_arrays(values, {"x": angle}), **QUIET)


def test_degrees_without_units_are_not_taken_for_radians():
    angle = heading(2000)
    values = np.exp(2 * np.cos(angle - 1))[:, None]
    degrees = pf.from_arrays(values, {"heading": np.degrees(angle)})
    with pytest.raises(ValueError, match="as angles in other units do"):
        pf.head_direction(degrees, **QUIET)
    found = pf.head_direction(degrees, circular={"heading": 360}, **QUIET)
    assert float(found.preferred_direction[0]) == pytest.approx(np.degrees(1), abs=2)
