import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from placeformer.evaluation import simulation
from placeformer.spatial.field_detection import watershed
from placeformer.spatial.place_fields import field_table, place_fields

RNG = np.random.default_rng


@pytest.mark.parametrize("n_fields", [0, 1, 2])
@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_simulated_units_have_the_fields_they_were_made_with(n_fields, noise):
    """Also rectified, which leaves half of an untuned map at exactly 0."""
    rates = simulation.units(RNG(n_fields), 300, n_fields, noise, offset=0.0)
    for signed in (rates - 0.3, np.maximum(rates, 0)):
        found = place_fields(simulation.maps(signed)).n_fields
        assert (found == n_fields).mean() >= 0.95


@pytest.mark.parametrize("n_fields", [0, 1, 2])
def test_smoothed_maps_of_many_bins(n_fields):
    rates = simulation.units(RNG(n_fields), 60, n_fields, 0.2, side=40, width=(3, 6))
    smoothed = ndimage.gaussian_filter(rates, (0, 1.5, 1.5), mode="nearest")
    assert (place_fields(simulation.maps(smoothed)).n_fields == n_fields).mean() >= 0.95


@pytest.mark.parametrize("draw", ["standard_normal", "random", "standard_exponential", "poisson"])
def test_noise_has_no_fields(draw):
    rates = getattr(RNG(6), draw)(size=(400, 11, 11)).astype(float)
    assert (place_fields(simulation.maps(rates)).n_fields > 0).mean() <= 0.05


def test_watershed_parts_peaks_that_rise_above_their_saddle():
    height = np.array([[3.0, 1, 2, 0, 4, 3.5, 3.8, 0, 1]])
    mask = height > 0
    parted = watershed(height, mask, np.array([0.5]), 4)[0]
    assert len(set(parted[[0, 2, 4, 8]])) == 4
    assert parted[4] == parted[5] == parted[6]
    assert parted[0] == parted[1]  # a saddle goes to its higher neighbour
    assert (parted > 0).tolist() == mask[0].tolist()
    whole = watershed(height, mask, np.array([1.5]), 4)[0]
    assert whole[0] == whole[2] != whole[4]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), connectivity=st.sampled_from([4, 8]))
def test_watershed_without_and_with_any_saddle(seed, connectivity):
    """No saddle is deep enough: connected parts. Every saddle is: one region a local maximum."""
    rng = RNG(seed)
    height, mask = rng.random((3, 6, 7)), rng.random((3, 6, 7)) < 0.6
    square = np.ones((3, 3)) if connectivity == 8 else ndimage.generate_binary_structure(2, 1)
    merged = watershed(height, mask, np.full(3, np.inf), connectivity)
    parted = watershed(height, mask, np.zeros(3), connectivity)
    for k in range(3):
        label, n = ndimage.label(mask[k], square)
        assert len(np.unique(merged[k][mask[k]])) == n
        assert len(set(zip(label[mask[k]], merged[k][mask[k]], strict=True))) == n
        masked = np.where(mask[k], height[k], -1)
        tops = mask[k] & (ndimage.maximum_filter(masked, footprint=square) == masked)
        assert len(np.unique(parted[k][mask[k]])) == tops.sum()


def test_a_noiseless_field_is_the_region_above_the_threshold():
    rate = simulation.bump((5, 5))
    fields = place_fields(simulation.maps(rate[None]), threshold=0.5)
    base = np.median(rate)
    np.testing.assert_array_equal(fields.label[0], rate >= base + 0.5 * (1 - base))
    one = fields.isel(unit=0, field=0)
    assert one["size"] == (rate >= base + 0.5 * (1 - base)).sum()
    np.testing.assert_allclose([one.centroid_y, one.centroid_x, one.peak], [5, 5, 1], atol=1e-9)
    assert one.height == pytest.approx(1 - base)
    assert one.eccentricity < 1e-6


def test_fields_are_numbered_by_their_peaks_and_laid_where_they_are():
    rate = 0.7 * simulation.bump((2, 2)) + simulation.bump((8, 8), 1.2)
    maps = simulation.maps(rate[None]).assign_coords(x=10.0 * np.arange(11))
    fields = place_fields(maps)
    assert fields.n_fields.item() == 2
    np.testing.assert_allclose(fields.centroid_y[0], [8, 2], atol=0.1)
    np.testing.assert_allclose(fields.centroid_x[0], [80, 20], atol=1)
    np.testing.assert_allclose(fields.peak[0], [1, 0.7], atol=0.01)
    assert fields.label[0, 8, 8] == 1
    assert fields.label[0, 2, 2] == 2
    sizes = [(fields.label == k).sum().item() for k in (1, 2)]
    np.testing.assert_array_equal(fields["size"][0], sizes)


def test_touching_fields_are_parted_at_the_saddle_and_one_field_stays_one():
    two = simulation.bump((5, 2.5), 1.3) + simulation.bump((5, 7.5), 1.3)
    one = np.maximum(simulation.bump((5, 4)), simulation.bump((5, 5.5)))
    fields = place_fields(simulation.maps(np.stack([two, one])))
    np.testing.assert_array_equal(fields.n_fields, [2, 1])
    assert set(fields.label.values[0, 5, :5]) <= {0, fields.label.values[0, 5, 2]}
    assert fields.label.values[0, 5, 2] != fields.label.values[0, 5, 8]
    merged = place_fields(simulation.maps(np.stack([two, one])), min_prominence=1.0)
    np.testing.assert_array_equal(merged.n_fields, [1, 1])


@pytest.mark.parametrize(
    "rate",
    [
        np.full((11, 11), 0.1),
        np.zeros((11, 11)),
        0.1 * (1 + 1e-7 * RNG(1).standard_normal((11, 11))),
        np.full((11, 11), np.nan),
        -np.ones((11, 11)),
        np.eye(121)[60].reshape(11, 11),
    ],
    ids=["flat", "zero", "rounding", "unvisited", "negative", "one place"],
)
def test_no_field_where_there_is_none(rate):
    fields = place_fields(simulation.maps(rate[None]))
    assert fields.n_fields.item() == 0
    assert not fields.label.any()
    assert fields.sizes["field"] == 1
    assert fields["size"].item() == 0
    assert np.isnan(fields.peak.item())
    assert len(field_table(fields)) == 0


def test_each_criterion_decides():
    maps = simulation.maps((simulation.bump((5, 5)) + 0.1 * RNG(0).standard_normal((11, 11)))[None])
    fields = place_fields(maps)
    size, contrast = fields["size"].item(), fields.contrast.item()
    assert fields.n_fields.item() == 1
    assert place_fields(maps, min_bins=size).n_fields.item() == 1
    assert place_fields(maps, min_bins=size + 1).n_fields.item() == 0
    assert place_fields(maps, min_contrast=contrast - 1e-6).n_fields.item() == 1
    assert place_fields(maps, min_contrast=contrast + 1e-6).n_fields.item() == 0
    assert place_fields(maps, threshold=0.6)["size"].item() < size


def test_corners_join_under_8_and_not_under_4():
    rate = np.zeros((11, 11))
    rate[[2, 3, 4, 5], [2, 3, 4, 5]] = 1.0
    maps = simulation.maps(rate[None])
    assert place_fields(maps).n_fields.item() == 0
    assert place_fields(maps, connectivity=8)["size"].item() == 4


def test_units_of_the_stack_do_not_touch_each_other():
    rates = np.stack([simulation.bump((5, 5)), np.zeros((11, 11)), simulation.bump((5, 6))])
    together = place_fields(simulation.maps(rates))
    for i in range(3):
        alone = place_fields(simulation.maps(rates[[i]]))
        np.testing.assert_array_equal(together.label[[i]], alone.label)


def test_unvisited_places_belong_to_no_field_and_part_it():
    rate = simulation.bump((5, 5), 1.6)
    rate[:, 5] = np.nan
    fields = place_fields(simulation.maps(rate[None]))
    assert fields.n_fields.item() == 2
    assert not fields.label.values[0][:, 5].any()


def test_fraction_is_the_convention_of_one_label_above_a_fifth_of_the_peak():
    rates = np.maximum(simulation.units(RNG(3), 20, 2, offset=0.0), 0)
    fields = place_fields(simulation.maps(rates), method="fraction", min_bins=9)
    for rate, label in zip(rates, fields.label.values, strict=True):
        region, n = ndimage.label(rate >= 0.2 * rate.max())
        large = [k for k in range(1, n + 1) if (region == k).sum() >= 9]
        np.testing.assert_array_equal(label > 0, np.isin(region, large))
    flat = place_fields(simulation.maps(np.ones((1, 11, 11))), method="fraction")
    assert flat["size"].item() == 121
    default = place_fields(simulation.maps(rates), method="fraction")
    assert default.attrs["min_bins"] == 9


# Twins


def skimage_peaks(rate):
    """The peaks opexebo looks for before it rejects those near a zero of the map."""
    from skimage import measure, morphology

    opened = morphology.reconstruction(morphology.erosion(rate, morphology.disk(1)), rate)
    label = measure.label(morphology.local_maxima(opened, connectivity=2), connectivity=2)
    return np.array([r.centroid for r in measure.regionprops(label)]).reshape(-1, 2).astype(int)


def opexebo_fields(rate, **options):
    """Fields and labels of one map."""
    analysis = pytest.importorskip("opexebo.analysis", exc_type=ImportError)
    return analysis.place_field(rate, min_peak=1e-9, **options)


@pytest.mark.parametrize("n_fields", [0, 1, 2])
def test_opexebo_finds_the_same_when_it_is_given_the_peaks(n_fields):
    pytest.importorskip("skimage")
    rates = np.maximum(1 + 5 * simulation.units(RNG(n_fields), 6, n_fields, offset=0.0), 0)
    rates[:, :2, :3] = np.nan
    ours = place_fields(simulation.maps(rates), method="opexebo").label.values
    for rate, label in zip(rates, ours, strict=True):
        _, theirs = opexebo_fields(rate, peak_coords=skimage_peaks(np.nan_to_num(rate)))
        np.testing.assert_array_equal(label > 0, theirs > 0)
        assert label.max() == theirs.max()


def test_opexebo_by_itself_rejects_every_peak_on_11_places():
    """Zeros within four bins of the peak: no field. No zeros: the peak is put in a corner."""
    rate = 5 * simulation.bump((5.3, 4.6))
    zeros = np.where(rate < 0.01, 0, rate)
    assert [(opexebo_fields(seen)[1] > 0).sum() for seen in (zeros, zeros + 1)] == [0, 121]


def test_the_adaptive_threshold_depends_on_where_a_bin_lies_and_on_the_baseline():
    """A round field centred on a bin jumps from one bin to five, where the region stops."""
    rates = [5 * simulation.bump(centre) for centre in ((5, 5), (5.3, 4.6))]
    maps = simulation.maps(np.stack([*rates, rates[1] + 1]))
    adaptive = place_fields(maps, method="opexebo")["size"].squeeze("field")
    np.testing.assert_array_equal(adaptive, [0, 27, 121])
    assert place_fields(maps)["size"].squeeze("field").values.tolist() == [21, 20, 20]


def test_opexebo_returns_small_rates_multiplied():
    pytest.importorskip("skimage")
    rate = simulation.bump((5.3, 4.6))
    (field,), _ = opexebo_fields(rate, peak_coords=skimage_peaks(rate))
    assert (field["peak_rate"], rate.max() < 1) == (pytest.approx(4), True)
    assert place_fields(simulation.maps(rate[None])).peak.item() == pytest.approx(rate.max())


def test_opexebo_knows_neither_one_axis_nor_negative_maps():
    below = simulation.maps(simulation.bump((5, 5))[None] - 2)
    for method in ("opexebo", "fraction"):
        assert place_fields(below, method=method).n_fields.item() == 0
    assert place_fields(below).n_fields.item() == 1
    with pytest.raises(ValueError, match="two axes, got 1"):
        place_fields(below.isel(y=5, drop=True), method="opexebo")


def neurospatial_fields(rates):
    """Fields of each map, as masks (field, y, x), without its subfields."""
    neurospatial = pytest.importorskip("neurospatial")
    from neurospatial.encoding.spatial import detect_place_fields

    x, y = np.meshgrid(np.arange(11.0), np.arange(11.0))
    env = neurospatial.Environment.from_samples(np.c_[x.ravel(), y.ravel()], bin_size=1.0)
    place = np.round(env.bin_centers[:, 1] * 11 + env.bin_centers[:, 0]).astype(int)
    found = []
    for rate in rates:
        fields = detect_place_fields(env, rate.ravel()[place], detect_subfields=False)
        masks = [np.isin(np.arange(121), place[field]).reshape(11, 11) for field in fields]
        found.append(np.array(masks).reshape(-1, 11, 11))
    return found


@pytest.mark.filterwarnings("ignore")
def test_neurospatial_finds_the_first_field_of_the_fraction_and_a_field_on_every_map():
    rates = np.maximum(simulation.units(RNG(8), 6, 1, offset=0.0), 0)
    ours = place_fields(simulation.maps(rates), method="fraction", connectivity=8)
    for label, theirs in zip(ours.label.values, neurospatial_fields(rates), strict=True):
        np.testing.assert_array_equal(label == 1, theirs[0])
    untuned = np.stack([np.ones((11, 11)), RNG(9).uniform(0.9, 1.1, (11, 11))])
    assert [masks.sum() for masks in neurospatial_fields(untuned)] == [121, 121]
    assert (place_fields(simulation.maps(untuned)).n_fields == 0).all()
    active = 10.5 + simulation.bump((5, 5), 1.8)[None]
    assert [len(masks) for masks in neurospatial_fields(active)] == [0]
    assert place_fields(simulation.maps(active)).n_fields.item() == 1


def test_eccentricity_of_a_round_and_of_a_long_field():
    y, x = np.mgrid[:11, :11] - 5.0
    long = np.exp(-(y**2) / 2 - x**2 / 18)
    found = place_fields(simulation.maps(np.stack([simulation.bump((5, 5)), long])))
    rounded, elongated = found.eccentricity[:, 0].values
    assert rounded < 1e-6
    assert 0.75 < elongated < 1


def test_one_axis_and_leading_maps():
    rate = np.exp(-((np.arange(40) - 12.0) ** 2) / 18)
    track = xr.Dataset(
        {"rate": (("unit", "x"), np.stack([rate, rate[::-1]])), "occupancy": ("x", np.ones(40))},
        coords={"x": np.arange(40.0)},
    )
    fields = place_fields(track)
    np.testing.assert_allclose(fields.centroid_x[:, 0], [12, 27], atol=1e-6)
    assert np.isnan(fields.eccentricity).all()
    stacked = xr.concat([track, track.isel(unit=[1, 0])], "map")
    found = place_fields(stacked)
    assert found.label.dims == ("map", "unit", "x")
    np.testing.assert_allclose(found.centroid_x[..., 0], [[12, 27], [27, 12]], atol=1e-6)


def test_the_table_is_a_frame_with_a_row_a_field():
    maps = simulation.maps(simulation.units(RNG(4), 30, 2))
    fields = place_fields(maps)
    frame = field_table(fields)
    assert len(frame) == fields.n_fields.sum().item()
    assert frame.index.names == ["unit", "field"]
    assert {"size", "peak", "centroid_x", "centroid_y", "eccentricity", "index"} <= set(frame)
    assert (frame.groupby("unit")["height"].diff().dropna() <= 0).all()
    for name in fields.data_vars:
        assert {"units", "long_name"} <= set(fields[name].attrs), name


def test_fields_round_trip_through_netcdf(tmp_path):
    fields = place_fields(simulation.maps(simulation.units(RNG(5), 5, 1)))
    fields.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_identical(fields, back.load())


def test_criteria_out_of_range_are_named_together():
    maps = simulation.maps(np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match=r"threshold must .*1\.5; min_bins must .*; connectivity"):
        place_fields(maps, threshold=1.5, min_bins=0, connectivity=6)
    for method in ("laplace", ["peak"]):
        with pytest.raises(ValueError, match="method must"):
            place_fields(maps, method=method)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_scale_shift_and_symmetries_of_the_arena_keep_the_fields(seed, scale, shift):
    rng = RNG(seed)
    maps = simulation.maps(simulation.units(rng, 4, rng.integers(0, 3)))
    fields = place_fields(maps)
    moved = place_fields(maps.assign(rate=scale * (maps.rate + shift)))
    np.testing.assert_array_equal(moved.n_fields, fields.n_fields)
    np.testing.assert_array_equal(moved.label > 0, fields.label > 0)
    mirrored = place_fields(maps.assign(rate=maps.rate[..., ::-1].drop_vars("x")))
    np.testing.assert_array_equal(mirrored.label.values[..., ::-1] > 0, fields.label.values > 0)
