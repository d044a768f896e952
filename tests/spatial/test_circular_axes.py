"""Circular axes: rotating the origin by whole bins rotates the results and changes nothing else."""

import json

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import placeformer as pf
from placeformer.data.circular import axis_periods, circular_of, mean_direction, shortest
from placeformer.spatial.field_detection import connected, watershed

mpl.use("agg")

TURN = 2 * np.pi
BINS = 24
QUIET = {"progress": False}


def heading_of(rng, n=3000, step=0.3):
    """A heading in radians that is never nearer than a millionth to an edge of a bin."""
    heading = np.cumsum(rng.normal(0, step, n))
    width = TURN / BINS
    part = np.clip(np.mod(heading / width, 1), 1e-6, 1 - 1e-6)
    return (np.floor(heading / width) + part) * width


def made(heading, preferred=(0.0, 1.0, 3.0), noise=0.1, seed=0, walks=1, **options):
    """Cells tuned to directions, on one or more walks."""
    rng = np.random.default_rng(seed)
    values = np.exp(3 * (np.cos(heading[:, None] - np.array(preferred)) - 1))
    values = values + noise * rng.standard_normal(values.shape)
    shape = (walks, len(heading) // walks)
    options = {"circular": {"heading": TURN}, "position_units": "rad"} | options
    return pf.from_arrays(
        values.reshape(*shape, -1), {"heading": heading.reshape(shape)}, **options
    )


@pytest.fixture(scope="module")
def heading():
    return heading_of(np.random.default_rng(1))


def turned(recording, n):
    """The recording with the origin of its heading moved by whole bins."""
    return recording.assign_coords(heading=recording.heading + n * TURN / BINS)


def rolled(maps, n, name="rate"):
    return np.roll(maps[name].values, n, axis=-1)


@settings(max_examples=10, deadline=None)
@given(n=st.integers(-60, 60), smooth=st.sampled_from([None, 0.7, 3.0]))
def test_maps_and_fields_turn_with_the_origin(heading, n, smooth):
    one = made(heading)
    options = {"by": "heading", "bins": BINS, "smooth": smooth}
    a, b = (pf.rate_maps(r, **options) for r in (one, turned(one, n)))
    np.testing.assert_array_equal(rolled(a, n, "occupancy"), b.occupancy)
    np.testing.assert_allclose(rolled(a, n), b.rate, rtol=1e-9)
    np.testing.assert_allclose(pf.coherence(a), pf.coherence(b))
    np.testing.assert_allclose(pf.spatial_information(a), pf.spatial_information(b))
    fields = [pf.place_fields(maps) for maps in (a, b)]
    np.testing.assert_array_equal(rolled(fields[0], n, "label"), fields[1].label)
    for name in ("size", "peak", "height", "contrast"):
        np.testing.assert_allclose(fields[0][name], fields[1][name])
    moved = fields[1].centroid_heading - fields[0].centroid_heading - n * TURN / BINS
    assert np.nanmax(np.abs(shortest(moved.values, TURN)), initial=0) < 1e-9
    np.testing.assert_allclose(pf.place_cell_score(a), pf.place_cell_score(b))


@pytest.mark.parametrize("n", [5, -7])
def test_statistics_do_not_change_with_the_origin(heading, n):
    one = made(heading[:1600], walks=8, noise=0.6)
    two = turned(one, n)
    for measure in (pf.position_variance_explained, pf.stability):
        a, b = (measure(r, by="heading", bins=BINS) for r in (one, two))
        np.testing.assert_allclose(a, b)
    options = {"by": "heading", "bins": BINS, "correction": "none"}
    np.testing.assert_allclose(*(pf.mutual_information(r, **options) for r in (one, two)))
    options = {"by": "heading", "bins": BINS, "n_shuffles": 19, "smooth": 1.0, **QUIET}
    for statistic in ("coherence", "place_cell_score"):
        a, b = (pf.shuffle_test(r, statistic, **options) for r in (one, two))
        np.testing.assert_allclose(a.observed, b.observed)
        np.testing.assert_allclose(a.p, b.p)
    tables = [
        pf.place_cells(r, by="heading", bins=BINS, smooth=1.0, cell_types=False, **QUIET)
        for r in (one, two)
    ]
    for name in ("eta2", "p_place", "field_share", "reliability", "n_fields"):
        np.testing.assert_allclose(tables[0][name], tables[1][name], err_msg=name)
    np.testing.assert_array_equal(tables[0].reason, tables[1].reason)


@pytest.mark.parametrize("method", ["bayes", "ridge", "knn"])
def test_decoding_does_not_change_with_the_origin(heading, method):
    one = made(heading[:1600], preferred=np.arange(6.0), walks=8)
    two = turned(one, 7)
    bins = BINS if method == "bayes" else None
    options = {"by": "heading", "method": method, "bins": bins, "n_shuffles": 19, **QUIET}
    a, b = (pf.decode_position(r, **options) for r in (one, two))
    apart = shortest((b.decoded - a.decoded).values - 7 * TURN / BINS, TURN)
    assert np.abs(apart).max() < 1e-6
    for name in ("median_error", "r2", "chance_error", "null_error", "p"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-6, err_msg=name)
    assert a.error.max() <= np.pi and a.decoded.min() >= 0 and a.decoded.max() < TURN
    assert a.median_error < 0.2 < 1 < a.chance_error  # a blind guess is off by about a right angle


@pytest.mark.filterwarnings("ignore:walk 0 of recording holds the same activations")
def test_the_mean_of_a_posterior_is_circular(heading):
    """It is that of the posterior that is returned, turns with the origin, and is off by less."""
    one = made(heading[:1600], preferred=np.arange(6.0), walks=8, noise=0.3)
    options = {"by": "heading", "method": "bayes", "bins": BINS, "posterior": True, **QUIET}
    mode = pf.decode_position(one, n_shuffles=19, **options)
    mean = pf.decode_position(one, n_shuffles=19, estimate="mean", **options)
    angle = np.exp(1j * mean.heading.values)
    want = np.angle((mean.posterior.values * angle).sum(axis=-1)) % TURN
    assert np.abs(shortest(mean.decoded.values[..., 0] - want, TURN)).max() < 1e-5
    assert mean.mean_error < mode.mean_error and mean.p <= 0.05
    assert not np.isin(mean.decoded, mode.decoded).all()  # finer than the bins
    moved = pf.decode_position(turned(one, 5), n_shuffles=0, estimate="mean", **options)
    apart = shortest((moved.decoded - mean.decoded).values - 5 * TURN / BINS, TURN)
    assert np.abs(apart).max() < 1e-5
    other = pf.decode_position(one, train=one, n_shuffles=0, estimate="mean", **options)
    assert other.median_error < 0.3 and mean.attrs["estimate"] == "mean"
    for wrong, what in (
        ({"method": "ridge"}, "has no posterior"),
        ({"estimate": "median"}, "must be"),
    ):
        with pytest.raises(ValueError, match=what):
            pf.decode_position(
                one, **options | {"estimate": "mean", "posterior": False} | wrong, n_shuffles=0
            )


def test_a_field_at_the_seam_is_one_field(heading):
    recording = made(heading, noise=0.02)
    maps = pf.rate_maps(recording, by="heading", bins=BINS)
    assert axis_periods(maps) == (TURN,)
    fields = pf.place_fields(maps)
    np.testing.assert_array_equal(fields.n_fields, 1)
    centroid = fields.centroid_heading.values[:, 0]
    assert np.abs(shortest(centroid - [0.0, 1.0, 3.0], TURN)).max() < 0.1
    cut = maps.assign_attrs(circular="{}")
    np.testing.assert_array_equal(pf.place_fields(cut).n_fields, [2, 1, 1])
    for method in ("fraction", "peak"):
        assert pf.place_fields(maps, method=method).n_fields[0] == 1
    half = maps.isel(heading=slice(12))  # has two ends
    assert axis_periods(half) == (None,)


def test_the_period_travels(tmp_path, heading):
    recording = made(heading)
    assert circular_of(recording) == {"heading": TURN}
    recording.to_netcdf(tmp_path / "recording.nc")
    with xr.open_dataset(tmp_path / "recording.nc") as read:
        maps = pf.rate_maps(read, by="heading", bins=BINS)
    assert json.loads(maps.attrs["circular"]) == {"heading": TURN}
    # the bins of other maps bring their period along
    plain = recording.assign_attrs(circular="{}")
    np.testing.assert_array_equal(pf.rate_maps(plain, by="heading", bins=maps).rate, maps.rate)
    named = pf.rate_maps(plain, by="heading", bins=BINS, circular={"heading": TURN})
    np.testing.assert_array_equal(named.rate, maps.rate)
    halves = pf.half_maps(recording, by="heading", bins=BINS)
    assert axis_periods(halves) == (TURN,)


def test_edges_may_start_anywhere(heading):
    edges = np.linspace(-np.pi, np.pi, BINS + 1)
    recording = made(heading)
    a = pf.rate_maps(recording, by="heading", bins=BINS)
    b = pf.rate_maps(recording, by="heading", bins=edges)
    np.testing.assert_array_equal(rolled(a, BINS // 2), b.rate)
    assert b.occupancy.sum() == len(heading)  # nothing is outside


def test_missing_headings_are_left_out(heading):
    lost = heading.copy()
    lost[::3] = np.nan
    recording = made(heading)
    maps = pf.rate_maps(recording.assign_coords(heading=("time", lost)), by="heading", bins=BINS)
    assert maps.occupancy.sum() == np.isfinite(lost).sum()


def test_whole_numbers_on_a_ring():
    """A torus of 6 x 5 places: a field in the corners is one field."""
    y, x = np.divmod(np.arange(30), 5)
    corner = np.isin(y, [0, 5]) & np.isin(x, [0, 4])
    recording = pf.from_arrays(
        corner[:, None].astype(float), {"x": x + 5, "y": y - 12}, circular={"x": 5, "y": 6}
    )
    maps = pf.rate_maps(recording)
    assert maps.rate.shape == (1, 6, 5) and (maps.occupancy == 1).all()
    fields = pf.place_fields(maps, method="fraction", min_bins=4)
    assert fields.n_fields.item() == 1 and fields["size"].item() == 4
    assert fields.centroid_y.item() == pytest.approx(-0.5)  # the seam, which is also 5.5
    assert fields.centroid_x.item() == pytest.approx(-0.5)
    cut = maps.assign_attrs(circular="{}")
    assert pf.place_fields(cut, method="fraction", min_bins=1).n_fields.item() == 4
    with pytest.raises(ValueError, match="no circular axis for a border score"):
        pf.border_score(maps)
    with pytest.raises(ValueError, match="opexebo"):
        pf.place_fields(maps, method="opexebo")


@pytest.mark.parametrize("connectivity", [4, 8])
def test_regions_of_a_torus_are_those_of_a_tiled_plane(connectivity):
    rng = np.random.default_rng(3)
    mask = rng.random((5, 7, 6)) < 0.45
    label = connected(mask, connectivity, (True, True))
    tiled = connected(np.tile(mask, (1, 3, 3)), connectivity, (False, False))
    for one, plane in zip(label, tiled, strict=True):
        # bins of one region on the plane are of one region on the torus
        for number in np.unique(plane[plane > 0]):
            of_torus = np.tile(one, (3, 3))[plane == number]
            assert np.unique(of_torus).size == 1
    # and as many regions as classes of the periodic plane: no two touch across a seam
    steps = [(0, 1), (1, 0)] + ([(1, 1), (1, -1)] if connectivity == 8 else [])
    for step in steps:
        other = np.roll(label, step, axis=(1, 2))
        both = (label > 0) & (other > 0)
        np.testing.assert_array_equal(label[both], other[both])


def test_a_watershed_goes_round():
    height = np.array([[3.0, 2.0, 0.0, 0.0, 2.5, 1.0, 2.0]])
    mask = height > 0.5
    open_ = watershed(height, mask, np.array([0.1]), 4)[0]
    ring = watershed(height, mask, np.array([0.1]), 4, (True,))[0]
    assert np.unique(open_[open_ > 0]).size == 3
    assert ring[0] == ring[6] and np.unique(ring[ring > 0]).size == 2


def test_population_vectors_and_field_shifts_go_round(heading):
    one = made(heading, preferred=np.arange(6.0), noise=0.02)
    maps = [pf.rate_maps(r, by="heading", bins=BINS) for r in (one, turned(one, 2))]
    result = pf.remapping(*maps, n_shuffles=20)
    np.testing.assert_allclose(result.field_shift, 2 * TURN / BINS)
    centroid = pf.remapping(*maps, centre="centroid", n_shuffles=20)
    np.testing.assert_allclose(centroid.field_shift, 2 * TURN / BINS, rtol=1e-6)
    r = pf.population_vector_correlation(maps[0], maps[0])
    np.testing.assert_allclose(r, 1)


@pytest.mark.parametrize(
    ("values", "period", "units", "what"),
    [
        (np.arange(0.0, 360), TURN, "1", "as angles in other units do"),
        (np.arange(0.0, 6.2, 0.1), 1.0, "1", "as angles in other units do"),
        (np.arange(0.0, 6.2, 0.1), 360, "1", "1.7% of the period 360"),
        (np.arange(0.0, 6.2, 0.1), 360, "rad", "must be 6.28319"),
        (np.arange(0.0, 360), TURN, "degrees", "must be 360"),
        (np.random.default_rng(0).uniform(-180, 180, 500), TURN, "1", "as angles in other"),
        (np.cumsum(np.random.default_rng(0).normal(0, 9, 3000)) % 360, TURN, "1", "as angles in"),
    ],
)
def test_a_period_that_does_not_fit_is_refused(values, period, units, what):
    values = np.tile(values, 3)
    recording = pf.from_arrays(
        np.ones((len(values), 1)), {"heading": values}, position_units=units,
        circular={"heading": period},
    )  # fmt: skip
    with pytest.raises(ValueError, match=what):
        pf.rate_maps(recording, by="heading", bins=12)


def test_angles_that_are_counted_on_are_wrapped():
    """Also where they jump, as those of an animal that is reflected by walls do."""
    rng = np.random.default_rng(0)
    angle = np.cumsum(rng.normal(0, 0.3, 4000))
    for t in range(0, 4000, 97):
        angle[t:] += np.pi - 2 * angle[t]
    angle *= 250 / np.ptp(angle)  # spans what an angle in degrees may span
    one, two = (made(a) for a in (angle, np.mod(angle, TURN)))
    maps = [pf.rate_maps(r, by="heading", bins=BINS) for r in (one, two)]
    np.testing.assert_allclose(maps[0].rate, maps[1].rate)


def test_wrong_options_are_refused(heading):
    recording = made(heading)
    for wrong in ({"heading": 0}, {"heading": np.nan}, {"heading": "360"[:0]}, [1]):
        with pytest.raises(ValueError, match="circular must map names"):
            pf.rate_maps(recording, by="heading", bins=BINS, circular=wrong)
    with pytest.raises(ValueError, match=r"circular must name .* got \['head'\]"):
        pf.rate_maps(recording, by="heading", bins=BINS, circular={"head": TURN})
    with pytest.raises(ValueError, match="must span one period"):
        pf.rate_maps(recording, by="heading", bins=np.linspace(0, 3, 9))
    with pytest.raises(ValueError, match="period of 'heading' that is a whole number"):
        pf.rate_maps(recording, by="heading")
    with pytest.raises(ValueError, match="must be JSON text"):
        pf.rate_maps(recording.assign_attrs(circular="heading"), by="heading", bins=BINS)
    with pytest.raises(ValueError, match="must span one period"):
        pf.maps_from_arrays(np.ones((1, 8)), by="heading", circular={"heading": TURN})


def test_maps_from_arrays_may_be_circular():
    rate = np.zeros((1, 12))
    rate[0, [11, 0, 1]] = 5.0
    edges = np.linspace(0, 360, 13)
    maps = pf.maps_from_arrays(rate, edges=edges, by="heading", circular={"heading": 360})
    fields = pf.place_fields(maps)
    assert fields.n_fields.item() == 1 and fields.centroid_heading.item() == pytest.approx(15)


def test_circular_mean_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).uniform(0, 24, 50)
    want = stats.circmean(values, high=24)
    assert mean_direction(values, 24) == pytest.approx(want)
    assert mean_direction(np.array([23.0, 1.0]), 24) % 24 == pytest.approx(0, abs=1e-9)


def test_maps_of_an_angle_are_drawn_round(heading):
    maps = pf.rate_maps(made(heading), by="heading", bins=BINS)
    ax = pf.plot.rate_maps(maps)
    assert ax.name == "polar" and ax.get_xlabel() == "heading (rad)"
    assert [t.get_text() for t in ax.get_xticklabels()][:3] == ["0°", "45°", "90°"]
    ax = pf.plot.place_fields(maps, pf.place_fields(maps))
    assert ax.name == "polar" and len(ax.patches) == 2  # the field at the seam has two parts
    flat = mpl.figure.Figure().add_subplot()
    assert pf.plot.place_fields(maps, pf.place_fields(maps), ax=flat).name == "rectilinear"


def test_infinite_angles_have_no_bin_and_small_integers_do_not_overflow():
    angle = np.linspace(0.1, 6, 60)
    angle[[3, 40]] = np.inf, -np.inf
    known = np.isfinite(angle)
    options = {"by": "a", "bins": 5, "circular": {"a": 2 * np.pi}}
    values = np.random.default_rng(0).random((60, 2))
    got = pf.rate_maps(pf.from_arrays(values, {"a": angle}), **options)
    want = pf.rate_maps(pf.from_arrays(values[known], {"a": angle[known]}), **options)
    xr.testing.assert_allclose(got.drop_attrs(), want.drop_attrs())
    degrees = np.tile(np.arange(-128, 128), 2)
    of_type = [
        pf.rate_maps(
            pf.from_arrays(np.ones((512, 1)), {"a": degrees.astype(kind)}),
            by="a", bins=4, circular={"a": 256},
        ).occupancy.values
        for kind in (np.int8, float)
    ]  # fmt: skip
    np.testing.assert_array_equal(*of_type)
