import numpy as np
import pytest
import simulated
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from placeformer.fields import field_table, place_fields

RNG = np.random.default_rng


@pytest.mark.parametrize(("n_fields", "least"), [(1, 0.98), (2, 0.95), (0, 0.97)])
def test_simulated_units_have_the_fields_they_were_made_with(n_fields, least):
    maps = simulated.maps(simulated.units(RNG(n_fields), 400, n_fields))
    share = float((place_fields(maps).n_fields == n_fields).mean())
    assert share >= least


def test_a_noiseless_field_is_the_region_above_the_threshold():
    rate = simulated.bump((5, 5))
    fields = place_fields(simulated.maps(rate[None]), threshold=0.5)
    base = np.median(rate)
    np.testing.assert_array_equal(fields.label[0], rate >= base + 0.5 * (1 - base))
    one = fields.isel(unit=0, field=0)
    assert one["size"] == (rate >= base + 0.5 * (1 - base)).sum()
    np.testing.assert_allclose([one.centroid_y, one.centroid_x, one.peak], [5, 5, 1], atol=1e-9)
    assert one.height == pytest.approx(1 - base)
    assert one.eccentricity < 1e-6


def test_fields_are_numbered_by_their_peaks_and_laid_where_they_are():
    rate = 0.7 * simulated.bump((2, 2)) + simulated.bump((8, 8), 1.2)
    maps = simulated.maps(rate[None]).assign_coords(x=10.0 * np.arange(11))
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
    two = simulated.bump((5, 2.5), 1.3) + simulated.bump((5, 7.5), 1.3)
    one = np.maximum(simulated.bump((5, 4)), simulated.bump((5, 5.5)))
    fields = place_fields(simulated.maps(np.stack([two, one])))
    np.testing.assert_array_equal(fields.n_fields, [2, 1])
    assert set(fields.label.values[0, 5, :5]) <= {0, fields.label.values[0, 5, 2]}
    assert fields.label.values[0, 5, 2] != fields.label.values[0, 5, 8]
    merged = place_fields(simulated.maps(np.stack([two, one])), min_prominence=1.0)
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
    fields = place_fields(simulated.maps(rate[None]))
    assert fields.n_fields.item() == 0
    assert not fields.label.any()
    assert fields.sizes["field"] == 1
    assert fields["size"].item() == 0
    assert np.isnan(fields.peak.item())
    assert len(field_table(fields)) == 0


def test_each_criterion_decides():
    maps = simulated.maps((simulated.bump((5, 5)) + 0.1 * RNG(0).standard_normal((11, 11)))[None])
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
    maps = simulated.maps(rate[None])
    assert place_fields(maps).n_fields.item() == 0
    assert place_fields(maps, connectivity=8)["size"].item() == 4


def test_units_of_the_stack_do_not_touch_each_other():
    rates = np.stack([simulated.bump((5, 5)), np.zeros((11, 11)), simulated.bump((5, 6))])
    together = place_fields(simulated.maps(rates))
    for i in range(3):
        alone = place_fields(simulated.maps(rates[[i]]))
        np.testing.assert_array_equal(together.label[[i]], alone.label)


def test_unvisited_places_belong_to_no_field_and_part_it():
    rate = simulated.bump((5, 5), 1.6)
    rate[:, 5] = np.nan
    fields = place_fields(simulated.maps(rate[None]))
    assert fields.n_fields.item() == 2
    assert not fields.label.values[0][:, 5].any()


def test_fraction_is_the_convention_of_one_label_above_a_fifth_of_the_peak():
    rates = np.maximum(simulated.units(RNG(3), 20, 2, offset=0.0), 0)
    fields = place_fields(simulated.maps(rates), method="fraction", min_bins=9)
    for rate, label in zip(rates, fields.label.values, strict=True):
        region, n = ndimage.label(rate >= 0.2 * rate.max())
        large = [k for k in range(1, n + 1) if (region == k).sum() >= 9]
        np.testing.assert_array_equal(label > 0, np.isin(region, large))
    flat = place_fields(simulated.maps(np.ones((1, 11, 11))), method="fraction")
    assert flat["size"].item() == 121


def test_eccentricity_of_a_round_and_of_a_long_field():
    y, x = np.mgrid[:11, :11] - 5.0
    long = np.exp(-(y**2) / 2 - x**2 / 18)
    found = place_fields(simulated.maps(np.stack([simulated.bump((5, 5)), long])))
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
    maps = simulated.maps(simulated.units(RNG(4), 30, 2))
    fields = place_fields(maps)
    frame = field_table(fields)
    assert len(frame) == fields.n_fields.sum().item()
    assert frame.index.names == ["unit", "field"]
    assert {"size", "peak", "centroid_x", "centroid_y", "eccentricity", "index"} <= set(frame)
    assert (frame.groupby("unit")["height"].diff().dropna() <= 0).all()
    for name in fields.data_vars:
        assert {"units", "long_name"} <= set(fields[name].attrs), name


def test_fields_round_trip_through_netcdf(tmp_path):
    fields = place_fields(simulated.maps(simulated.units(RNG(5), 5, 1)))
    fields.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_identical(fields, back.load())


def test_criteria_out_of_range_are_named_together():
    maps = simulated.maps(np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match=r"threshold must .*1\.5; min_bins must .*; connectivity"):
        place_fields(maps, threshold=1.5, min_bins=0, connectivity=6)
    with pytest.raises(ValueError, match="method must"):
        place_fields(maps, method="opexebo")


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_scale_shift_and_symmetries_of_the_arena_keep_the_fields(seed, scale, shift):
    rng = RNG(seed)
    maps = simulated.maps(simulated.units(rng, 4, rng.integers(0, 3)))
    fields = place_fields(maps)
    moved = place_fields(maps.assign(rate=scale * (maps.rate + shift)))
    np.testing.assert_array_equal(moved.n_fields, fields.n_fields)
    np.testing.assert_array_equal(moved.label > 0, fields.label > 0)
    mirrored = place_fields(maps.assign(rate=maps.rate[..., ::-1].drop_vars("x")))
    np.testing.assert_array_equal(mirrored.label.values[..., ::-1] > 0, fields.label.values > 0)
