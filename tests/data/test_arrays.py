"""Arrays made elsewhere: labelled without a copy, refused with both lengths."""

import dask.array
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr

from placeformer.data.arrays import as_walks, from_arrays
from placeformer.data.maps import maps_from_arrays
from placeformer.data.schema import check_recording, read_provenance
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.variance_explained import position_variance_explained

RNG = np.random.default_rng(0)
ACTIVATION = RNG.standard_normal((3, 50, 4)).astype(np.float32)
PLACE = {"x": RNG.random((3, 50)), "y": RNG.random((3, 50))}


def test_arrays_are_labelled_without_a_copy():
    got = from_arrays(ACTIVATION, PLACE, units="Hz", position_units="m")
    check_recording(got, need=("x", "y"))
    assert np.shares_memory(got.activation.values, ACTIVATION)
    assert got.activation.units == "Hz"
    assert got.x.units == "m"
    assert got.time.units == "1"
    np.testing.assert_array_equal(got.y, PLACE["y"])
    assert got["index"].values.tolist() == [0, 1, 2, 3]
    assert "layer" not in got.coords
    assert read_provenance(got)["steps"][0]["step"] == "from_arrays"


def test_one_walk_needs_no_walk_axis():
    flat = from_arrays(ACTIVATION[0], {k: v[0] for k, v in PLACE.items()}, sample_rate=50)
    xr.testing.assert_equal(
        flat, from_arrays(ACTIVATION[:1], {k: v[:1] for k, v in PLACE.items()}, sample_rate=50)
    )
    assert flat.attrs["sample_rate"] == 50
    np.testing.assert_allclose(flat.time, np.arange(50) / 50)
    assert flat.time.units == "s"
    assert rate_maps(flat, bins=3).sizes == {"unit": 4, "y": 3, "x": 3, "y_edges": 4, "x_edges": 4}


def test_layers_number_their_own_units():
    got = from_arrays(ACTIVATION, PLACE, layer=["ca1.a", "ca3", "ca1.a", "ca3"])
    assert got["index"].values.tolist() == [0, 0, 1, 1]
    assert got.component.values.tolist() == ["ca1", "ca3", "ca1", "ca3"]
    assert set(from_arrays(ACTIVATION, PLACE, layer="ca1").layer.values) == {"ca1"}


def test_behaviour_finds_its_dimensions():
    got = from_arrays(
        ACTIVATION,
        {"angle": PLACE["x"]},
        behaviour={
            "map": np.arange(3),
            "speed": PLACE["y"],
            "animal": list("abc"),
            "window": [2] * 50,
        },
    )
    assert got["map"].dims == got.animal.dims == ("walk",)
    assert got.speed.dims == ("walk", "time")
    assert got.window.dims == ("time",)
    assert {"angle", "map", "window"} <= set(got.coords)
    assert {"speed", "animal"} <= set(got.data_vars)


def test_labelled_arrays_keep_their_order_and_attributes():
    turned = xr.DataArray(PLACE["x"].T, dims=("time", "walk"), attrs={"long_name": "east"})
    got = from_arrays(ACTIVATION, {"x": turned, "y": PLACE["y"]})
    np.testing.assert_array_equal(got.x, PLACE["x"])
    assert got.x.long_name == "east"


def test_labels_of_named_arrays_are_kept_or_refused():
    time = np.arange(6) / 10
    numbered = {"time": time, "unit": [100, 101, 7]}
    activation = xr.DataArray(np.eye(6)[:, :3], numbered, dims=("time", "unit"))
    x = xr.DataArray(time * 2, {"time": time * (1 + 1e-12)}, dims="time")
    got = from_arrays(activation, {"x": x})
    assert got.unit.values.tolist() == ["100", "101", "7"]
    assert got.unit_id.values.tolist() == [100, 101, 7]
    assert got.index.values.tolist() == [0, 1, 2]
    again = from_arrays(got.activation, {"x": got.x}, layer="CA1")
    xr.testing.assert_identical(again.unit_id, got.unit_id.assign_coords(again.unit_id.coords))
    plain = from_arrays(activation.values, {"x": x.values}, layer="CA1")
    labelled = activation.assign_coords(unit=plain.unit)
    assert "unit_id" not in from_arrays(labelled, {"x": x}, layer="CA1").coords
    walks = [activation, activation[:4]]
    assert from_arrays(walks, {"x": [x, x[:4]]}).unit.values.tolist() == ["100", "101", "7"]
    backwards = x[::-1]
    for act, place, others in (
        (activation, {"x": backwards}, {}),
        (activation, backwards.expand_dims({"axis": ["x"]}), {}),
        (walks, {"x": [x, backwards[2:]]}, {}),
        (walks, [{"x": x}, {"x": backwards[2:]}], {}),
        (activation, {"x": x.values}, {"behaviour": {"x2": backwards}}),
        (activation, {"x": x.values}, {"timestamps": backwards}),
    ):
        with pytest.raises(ValueError, match="must have the same labels of 'time', got"):
            from_arrays(act, place, **others)
    with pytest.raises(ValueError, match="must hold the same units in the same order"):
        from_arrays([activation, activation[:4, ::-1]], {"x": [x, x[:4]]})
    with pytest.raises(ValueError, match="same labels of 'time'"):
        as_walks({"x": x, "y": backwards}, "walks")


def test_named_arrays_state_their_units():
    def named(values, units):
        return xr.DataArray(
            values, dims=("time", "unit")[: np.ndim(values)], attrs={"units": units}
        )

    rates = named(ACTIVATION[0], "Hz")
    x, y = (named(PLACE[k][0], "cm") for k in "xy")
    options = {"sample_rate": 10, "min_speed": 0.01}
    got = from_arrays(rates, {"x": x, "y": y}, **options)
    assert [got[k].units for k in ("activation", "x", "y", "speed")] == ["Hz", "cm", "cm", "cm/s"]
    joint = xr.concat([x, y], xr.Variable("axis", ["x", "y"]))
    assert from_arrays(rates, joint).y.units == "cm"
    for walks in ({"x": [x, x[:9]]}, [{"x": x}, {"x": x[:9]}]):
        assert from_arrays([rates, rates[:9]], walks).x.units == "cm"
    pure = [rates.assign_attrs(units=text) for text in ("1", "dimensionless")]
    assert from_arrays(pure, {"x": [x, x]}).activation.units == "1"
    told = from_arrays(rates, {"x": x}, units="V", position_units="m")
    assert (told.activation.units, told.x.units) == ("V", "m")
    turned = from_arrays(rates, {"angle": named(x * 0, "deg")}, circular={"angle": 360})
    assert turned.angle.units == "deg"
    metres = y.assign_attrs(units="m")
    for call, message in (
        (lambda: from_arrays(rates, {"x": [x], "y": [x]}, units=3), "units must be text"),
        (lambda: from_arrays([rates, x.expand_dims(unit=4, axis=1)], {"x": [x, x]}),
         "units must be the same in all walks, which state 'Hz', 'cm'"),
        (lambda: from_arrays(rates, {"x": x, "y": metres}, **options),
         "min_speed must have axes in the same units.* got 'x' in 'cm', 'y' in 'm'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def test_tables_keep_their_labels():
    time = np.arange(6) / 10
    rates = pd.DataFrame(np.eye(6)[:, :3], time, [100, 101, 7])
    place = pd.DataFrame({"x": time * 2, "y": 1}, time)
    numbered = xr.DataArray(rates, dims=("time", "unit"))
    want = from_arrays(numbered, {"x": place.x.to_numpy(), "y": np.ones(6)})
    assert want.unit_id.values.tolist() == [100, 101, 7]
    for position in (place, dict(place), place.reset_index(drop=True), place.to_numpy()):
        xr.testing.assert_identical(from_arrays(rates, position), want)
    both = from_arrays([rates, rates[:4]], [place, place[:4]])
    xr.testing.assert_equal(both.isel(walk=[0]), want)
    lost = place.astype(object)
    lost.iloc[2, 0] = pd.NA
    np.testing.assert_array_equal(np.isnan(from_arrays(rates, lost).x[0]), np.arange(6) == 2)
    assert "unit_id" not in from_arrays(rates.reset_index(drop=True).to_numpy(), place).coords
    backwards = place[::-1]
    for act, position, others in (
        (rates, backwards, {}),
        (rates, {"x": place.x, "y": backwards.y}, {}),
        ([rates, rates[:4]], [place, backwards[2:]], {}),
        (rates, place, {"behaviour": {"speed": backwards.x}}),
        (rates, place, {"behaviour": backwards.add_prefix("head_")}),
        (rates, place, {"timestamps": backwards.x}),
    ):
        with pytest.raises(ValueError, match="must have the same labels of 'time', got"):
            from_arrays(act, position, **others)
    with pytest.raises(ValueError, match=r"rate must be .* rows may be units or places"):
        maps_from_arrays(rates, by="x")


def test_series_of_pynapple_keep_their_labels():
    nap = pytest.importorskip("pynapple")
    time = np.arange(6) / 10
    frame = nap.TsdFrame(t=time, d=np.eye(6)[:, :3], columns=[100, 101, 7])
    x = nap.Tsd(t=time, d=time * 2)
    got = from_arrays(frame, {"x": x})
    xr.testing.assert_identical(got, from_arrays(frame.as_dataframe(), {"x": time * 2}))
    place = nap.TsdFrame(t=time, d=np.stack([time, time * 2], 1), columns=["x", "y"])
    np.testing.assert_array_equal(from_arrays(frame, place).y[0], time * 2)
    with pytest.raises(ValueError, match="must have the same labels of 'time', got"):
        from_arrays(frame, {"x": nap.Tsd(t=time + 5, d=time)})


def test_timestamps_are_found_by_their_names():
    times = np.arange(4)[:, None] * 100 + np.arange(4.0)
    named = xr.DataArray(times.T, dims=("time", "walk"))
    got = from_arrays(np.ones((4, 4, 1)), {"x": np.ones((4, 4))}, timestamps=named)
    np.testing.assert_array_equal(got.timestamp, times)


def test_dask_arrays_stay_lazy():
    lazy = dask.array.from_array(ACTIVATION, chunks=(1, 50, 4))
    got = from_arrays(lazy, PLACE)
    assert got.activation.chunks is not None
    np.testing.assert_array_equal(got.activation, ACTIVATION)


def test_positions_may_be_one_array_or_a_frame():
    want = from_arrays(ACTIVATION, PLACE)
    both = np.stack([PLACE["x"], PLACE["y"]], axis=-1)
    named = xr.DataArray(both, dims=("walk", "time", "space"), coords={"space": ["x", "y"]})
    for position in (both, named, named.transpose("space", "time", "walk")):
        xr.testing.assert_equal(from_arrays(ACTIVATION, position), want)
    one = from_arrays(ACTIVATION[0], pd.DataFrame({name: axis[0] for name, axis in PLACE.items()}))
    xr.testing.assert_equal(one, want.isel(walk=[0]))
    assert set(from_arrays(ACTIVATION[0], both[0, :, :1]).coords) >= {"x"}
    with pytest.raises(ValueError, match=r"got shape \(2, 50\); transpose it with position.T"):
        from_arrays(ACTIVATION[0], both[0].T)
    with pytest.raises(ValueError, match=r'got shape \(3, 50, 4\); or pass {"x"'):
        from_arrays(ACTIVATION, ACTIVATION)


def test_activations_may_be_files_and_named_arrays(tmp_path):
    want = from_arrays(ACTIVATION, PLACE)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        xr.testing.assert_equal(from_arrays(file.create_dataset("a", data=ACTIVATION), PLACE), want)
    stored = zarr.create_array(store=tmp_path / "a.zarr", data=ACTIVATION)
    xr.testing.assert_equal(from_arrays(stored, PLACE), want)
    named = xr.DataArray(ACTIVATION, dims=("walk", "time", "unit")).transpose(
        "unit", "walk", "time"
    )
    xr.testing.assert_equal(from_arrays(named, PLACE), want)
    with pytest.raises(
        ValueError, match=r"activation, a DataArray, must have dims.*got \('neuron',"
    ):
        from_arrays(named.rename(unit="neuron"), PLACE)


def test_masked_samples_do_not_count():
    lost = np.zeros((3, 50), bool)
    lost[0, 3] = True
    got = from_arrays(ACTIVATION, {**PLACE, "x": np.ma.array(PLACE["x"], mask=lost)})
    np.testing.assert_array_equal(np.isnan(got.x), lost)
    masked = np.ma.array(ACTIVATION, mask=np.broadcast_to(lost[..., None], ACTIVATION.shape))
    with pytest.raises(ValueError, match="all units are NaN at step 3 of walk 0"):
        from_arrays(masked, PLACE)
    maps = rate_maps(from_arrays(masked, PLACE, check_finite=False), bins=3, skipna=True)
    assert int(maps.occupancy.sum()) == 149


@pytest.mark.parametrize("activation", [ACTIVATION[0].T, np.swapaxes(ACTIVATION, 1, 2)])
def test_transposed_activations_are_recognised(activation):
    place = PLACE if activation.ndim == 3 else {name: axis[0] for name, axis in PLACE.items()}
    with pytest.raises(ValueError, match=r"activation must be \(time, unit\).*like \(unit, time\)"):
        from_arrays(activation, place)


def test_timed_recordings_carry_their_seconds():
    regular = from_arrays(ACTIVATION, PLACE, sample_rate=50)
    np.testing.assert_array_equal(regular.dwell, 1 / 50)
    assert "dwell" not in from_arrays(ACTIVATION, PLACE)
    times = np.cumsum(RNG.choice([0.02, 0.04], (3, 50)), axis=1)
    timed = from_arrays(ACTIVATION, PLACE, timestamps=times)
    np.testing.assert_allclose(timed.dwell[:, 1:-1], (times[:, 2:] - times[:, :-2]) / 2)
    np.testing.assert_array_equal(timed.timestamp, times)
    maps = rate_maps(timed, bins=2)
    assert float(maps.occupancy.sum()) == pytest.approx(float(timed.dwell.sum()))
    assert (maps.occupancy.units, maps.attrs["sample_rate"]) == ("s", 1)
    for options, message in (
        ({"timestamps": times, "sample_rate": 50}, "sample_rate must be None if timestamps"),
        ({"timestamps": times[:2]}, r"timestamps must be .* \(3, 50\), got \(2, 50\)"),
        ({"timestamps": times[:, ::-1]}, "timestamps of walk 0 must ascend"),
        ({"max_gap": 1.0}, "max_gap needs timestamps"),
    ):
        with pytest.raises(ValueError, match=message):
            from_arrays(ACTIVATION, PLACE, **options)


def test_units_of_every_axis_by_its_name():
    given = {"x": "cm"}
    got = from_arrays(ACTIVATION, PLACE, position_units=given)
    assert (got.x.attrs["units"], got.y.attrs["units"]) == ("cm", "1")
    with pytest.raises(ValueError, match="must name axes of the position, x, y, got 'heading'"):
        from_arrays(ACTIVATION, PLACE, position_units=given | {"heading": "deg"})


def test_timestamps_in_milliseconds_are_warned_of():
    times = 33 * np.arange(50)
    with pytest.warns(UserWarning, match="timestamps are taken as seconds.* 33 s apart") as caught:
        from_arrays(ACTIVATION[0], {"x": PLACE["x"][0]}, timestamps=times)
    assert caught[0].filename == __file__
    from_arrays(ACTIVATION[0], {"x": PLACE["x"][0]}, timestamps=times / 1000)


def test_slow_samples_have_no_position():
    x = np.concatenate([np.arange(50.0), np.full(50, 49.0)])
    position = {"x": np.stack([x, x[::-1]]), "y": np.zeros((2, 100))}
    activation = np.ones((2, 100, 1))
    got = from_arrays(activation, position, sample_rate=10, min_speed=5, position_units="cm")
    np.testing.assert_array_equal(np.isnan(got.y), np.isnan(got.x))
    np.testing.assert_array_equal(np.isfinite(got.x), got.speed >= 5)
    assert np.isfinite(got.x).sum("time").values == pytest.approx(50, abs=2)
    assert got.speed.units == "cm/s"
    with pytest.raises(ValueError, match="min_speed needs a timed recording"):
        from_arrays(activation, position, min_speed=5)


def test_the_speed_goes_the_short_way_round_and_leaves_out_angles():
    """A rotation of the origin of a ring changes no speed, and neither does an angle."""
    t = np.arange(300) / 30
    ring = {"x": (20 * t) % 100}
    timed = {"sample_rate": 30, "min_speed": 15}
    got = from_arrays(np.ones((300, 1)), ring, circular={"x": 100}, **timed)
    np.testing.assert_allclose(got.speed, 20)
    assert np.isfinite(got.x).all()
    place = {"x": 20 * t, "y": 0 * t, "heading": (3 * t) % (2 * np.pi)}
    got = from_arrays(np.ones((300, 1)), place, circular={"heading": 2 * np.pi}, **timed)
    np.testing.assert_allclose(got.speed, 20)
    alone = from_arrays(
        np.ones((300, 1)),
        {"heading": place["heading"]},
        circular={"heading": 2 * np.pi},
        sample_rate=30,
        min_speed=1,
    )
    np.testing.assert_allclose(alone.speed, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("speed", {"sample_rate": 10, "min_speed": 5}, "'speed', as min_speed computes it"),
        ("dwell", {"sample_rate": 10}, "'dwell', as sample_rate or timestamps make it"),
        ("timestamp", {"timestamps": np.arange(50.0)}, "'timestamp', as sample_rate or"),
        ("time", {}, "'time', as the coordinate of the steps has this name"),
        ("unit", {}, "'unit', as the activation and its labels have this name"),
    ],
)
def test_names_that_are_made_here_are_refused(name, options, message):
    x = {"x": np.arange(50.0)}
    own = {name: np.arange(50.0)}
    for place, behaviour in ((x, own), (x | own, {})):
        with pytest.raises(ValueError, match=f"must not use the name {message}"):
            from_arrays(np.ones((50, 1)), place, behaviour=behaviour, **options)
    with pytest.raises(ValueError, match="position must not use the name 'x', as behaviour"):
        from_arrays(np.ones((50, 1)), x, behaviour=x)
    if name in ("speed", "dwell", "timestamp"):  # names that are free without a clock
        got = from_arrays(np.ones((50, 1)), x, behaviour=own)
        np.testing.assert_array_equal(got[name][0], own[name])


def test_thinned_and_summed_recordings_keep_their_rates():
    x = np.repeat(RNG.integers(0, 5, 1000), 3)
    counts = RNG.poisson(0.2 + 0.3 * (x == 2))[:, None].astype(float)
    whole = from_arrays(counts, {"x": x}, sample_rate=30, units="spikes")

    def bits(recording):
        return float(spatial_information(rate_maps(recording, by="x"), per="second")[0])

    three = whole.coarsen(time=3).sum().assign_coords(x=(("walk", "time"), whole.x.values[:, ::3]))
    assert bits(three) == pytest.approx(bits(whole))
    third = rate_maps(whole.isel(time=slice(None, None, 3)), by="x")
    kept = [counts[::3][x[::3] == k].mean() for k in range(5)]
    np.testing.assert_allclose(third.rate[0], kept)
    assert float(third.occupancy.sum()) == pytest.approx(1000 / 30)
    lost = three.drop_vars("dwell")
    with pytest.raises(ValueError, match="sample_rate must fit time, got 30 Hz for samples 0.1 s"):
        rate_maps(lost, by="x")
    again = lost.assign(dwell=xr.full_like(lost.x, 0.1, float))
    assert bits(again) == pytest.approx(bits(whole))


def test_samples_that_were_masked_count_in_no_occupancy():
    slow = RNG.random((3, 50)) < 0.5
    for options in ({}, {"sample_rate": 10}):
        rec = from_arrays(ACTIVATION, PLACE, behaviour={"slow": slow}, **options)
        edges = {"x": [0, 0.5, 1], "y": [0, 0.5, 1]}
        masked = rate_maps(rec.where(~rec.slow), bins=edges, skipna=True)
        without = rate_maps(rec.assign_coords(x=rec.x.where(~rec.slow)), bins=edges)
        xr.testing.assert_allclose(masked.drop_attrs(), without.drop_attrs())


@pytest.mark.parametrize(
    ("activation", "position", "options", "message"),
    [
        (
            ACTIVATION[:, :49],
            PLACE,
            {},
            r"position\['x'\].* got \(3, 50\); activation has 3 wa",
        ),
        (
            ACTIVATION,
            {"x": PLACE["x"][0]},
            {},
            r"position\['x'\].* got \(50,\); activation has",
        ),
        (ACTIVATION[0, 0], PLACE, {}, r"activation must be \(walk, time, unit\).* got \(4,\)"),
        (ACTIVATION, PLACE, {"behaviour": {"map": [1, 2]}}, r"behaviour\['map'\].* got \(2,\)"),
        (
            ACTIVATION,
            PLACE,
            {"sample_rate": 0},
            "sample_rate must be a positive number, got 0",
        ),
        (
            ACTIVATION,
            PLACE,
            {"sample_rate": "30"},
            "sample_rate must be a number, got '30'",
        ),
        (ACTIVATION, PLACE, {"layer": ["a"]}, r"or name each of 4 units, got \['a'\]"),
        (ACTIVATION, PLACE, {"layer": 5}, "layer must be one name, or name each of 4 units, got 5"),
        (ACTIVATION, PLACE, {"circular": True}, "circular must map names .* got True"),
        (
            ACTIVATION,
            PLACE,
            {"timestamps": np.arange(150).reshape(3, 50), "max_gap": "1"},
            "max_gap must be a number, got '1'",
        ),
        (ACTIVATION.astype(str), PLACE, {"check_finite": False}, "must hold real numbers"),
        (
            ACTIVATION.astype(complex),
            PLACE,
            {},
            "activation must hold real numbers, got dtype comp",
        ),
        (ACTIVATION, {"x": PLACE["x"].astype(str)}, {}, r"position\['x'\] must hold real numbers"),
        (
            ACTIVATION,
            PLACE,
            {"timestamps": np.arange(150).reshape(3, 50).astype("datetime64[s]")},
            r"timestamps must hold real numbers, got dtype datetime64.*np.timedelta64\(1, 's'\)",
        ),
        (ACTIVATION[:, :0], {k: v[:, :0] for k, v in PLACE.items()}, {}, "'time' has length 0"),
    ],
)
def test_what_does_not_fit_is_refused(activation, position, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(activation, position, **options)


def test_values_that_are_not_finite_name_their_unit():
    broken = ACTIVATION.copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 values of 1 units are NaN.*units ca1/3"):
        from_arrays(broken, PLACE, layer="ca1")
    assert np.isnan(from_arrays(broken, PLACE, check_finite=False).activation).sum() == 1


LENGTHS = [50, 31, 42]
SHORT = [walk[:n] for walk, n in zip(ACTIVATION, LENGTHS, strict=True)]
PLACES = {
    name: [row[:n] for row, n in zip(rows, LENGTHS, strict=True)] for name, rows in PLACE.items()
}
TIMES = [0.1 * np.arange(n) + k for k, n in enumerate(LENGTHS)]


def ended(values, filler=np.nan):
    """An array (walk, time, ...) whose shorter walks end in a filler."""
    values = np.array(values, float)
    for row, n in zip(values, LENGTHS, strict=True):
        row[n:] = filler
    return values


@pytest.mark.parametrize(
    ("activation", "position"),
    [
        (SHORT, PLACES),
        (tuple(SHORT), [np.stack(xy, axis=1) for xy in zip(*PLACES.values(), strict=True)]),
        (SHORT, [pd.DataFrame({"x": x, "y": y}) for x, y in zip(*PLACES.values(), strict=True)]),
        ([xr.DataArray(a.T, dims=("unit", "time")) for a in SHORT], PLACES),
        (ended(ACTIVATION), PLACE),
        (ended(ACTIVATION), {name: ended(axis, 0) for name, axis in PLACE.items()}),
        (np.ma.masked_invalid(ended(ACTIVATION)), PLACES),
    ],
)  # fmt: skip
def test_walks_of_unequal_length_are_a_list_or_end_in_nan(activation, position):
    got = from_arrays(activation, position, sample_rate=10)
    inside = np.arange(50) < np.array(LENGTHS)[:, None]
    for name in ("x", "y", "dwell"):
        np.testing.assert_array_equal(np.isfinite(got[name]), inside)
    np.testing.assert_array_equal(got.activation, ended(ACTIVATION))
    assert float(rate_maps(got, bins=2).occupancy.sum()) == pytest.approx(12.3)
    joined = from_arrays(
        np.concatenate(SHORT), {k: np.concatenate(v) for k, v in PLACES.items()}, sample_rate=10
    )
    np.testing.assert_allclose(rate_maps(got, bins=2).rate, rate_maps(joined, bins=2).rate, 1e-5)
    np.testing.assert_allclose(
        *(position_variance_explained(r, bins=2) for r in (got, joined)), rtol=1e-5
    )
    stamped = from_arrays(activation, position, timestamps=TIMES, min_speed=0.1)
    np.testing.assert_array_equal(
        stamped.timestamp, ended([0.1 * np.arange(50) + k for k in range(3)])
    )
    np.testing.assert_allclose(stamped.dwell, got.dwell)


def test_units_with_labels_of_several_levels_are_named_by_all():
    levels = pd.MultiIndex.from_tuples(
        [("a", 1), ("a", 2), ("b", 1), ("b", 2)], names=["probe", "cell"]
    )
    coords = xr.Coordinates.from_pandas_multiindex(levels, "unit")
    array = xr.DataArray(ACTIVATION[0], coords, ("time", "unit"))
    for activation in (array, pd.DataFrame(ACTIVATION[0], columns=levels)):
        got = from_arrays(activation, {"x": PLACE["x"][0]})
        assert got.unit.values.tolist() == ["a/1", "a/2", "b/1", "b/2"]
    maps = maps_from_arrays(array.rename(time="x").T, by="x")
    assert maps.unit.values.tolist() == got.unit.values.tolist()


def test_a_map_that_changes_within_a_walk_is_refused():
    one = {name: axis[0] for name, axis in PLACE.items()}
    with pytest.raises(
        ValueError, match=r"'map'\] must be \(walk,\), one .*\(50,\).* cut the walk"
    ):
        from_arrays(ACTIVATION[0], one, behaviour={"map": np.arange(50) // 25})


def test_tensors_are_arrays():
    exact = torch.tensor(ACTIVATION.astype(np.float32), requires_grad=True)
    place = {name: torch.tensor(axis) for name, axis in PLACE.items()}
    want = from_arrays(ACTIVATION.astype(np.float32), PLACE)
    xr.testing.assert_identical(from_arrays(exact, place), want)
    xr.testing.assert_identical(from_arrays(list(exact), place), want)
    got = from_arrays(exact.to(torch.bfloat16), place)
    assert got.activation.dtype == np.float32
    np.testing.assert_allclose(got.activation, ACTIVATION, rtol=2**-8)


def test_speed_is_that_along_x_y_and_z():
    t = np.arange(100) / 10
    position = {"x": 3 * t, "y": 4 * t, "likelihood": np.sin(9 * t), "linear": 5 * t}
    got = from_arrays(np.ones((100, 1)), position, sample_rate=10, min_speed=1)
    np.testing.assert_allclose(got.speed, 5)
    got = from_arrays(np.ones((100, 1)), {"linear": 2 * t}, sample_rate=10, min_speed=1)
    np.testing.assert_allclose(got.speed, 2)


def test_objects_are_numbers_and_none_is_missing():
    lost = PLACE["x"].astype(object)
    lost[0, 3] = None
    got = from_arrays(ACTIVATION.astype(object), {**PLACE, "x": lost})
    np.testing.assert_allclose(got.activation, ACTIVATION)
    assert np.argwhere(np.isnan(got.x.values)).tolist() == [[0, 3]]
    named = from_arrays(ACTIVATION, PLACE, behaviour={"odour": np.full((3, 50), "rose")})
    with pytest.raises(ValueError, match="by must name numbers, got 'odour' of dtype <U4"):
        rate_maps(named, by="odour")


@pytest.mark.parametrize(
    ("activation", "options", "message"),
    [
        (SHORT, {"position": {k: v[::-1] for k, v in PLACES.items()}},
         r"position\['x'\] must be as long as activation in every walk, got .*\[42, 31, 50\] and "),
        (ended(ACTIVATION), {"timestamps": [t[:30] for t in TIMES[:2]] + [TIMES[2]]},
         r"timestamps must be as long .* \[30, 30, 42\] and \[50, 31, 42\]"),
        (SHORT, {"behaviour": {"pupil": [np.zeros(n + 1) for n in LENGTHS]}},
         r"behaviour\['pupil'\] must be as long"),
        (ACTIVATION, {"timestamps": ended(np.tile(np.arange(50), (3, 1)))},
         r"timestamps must be finite up to the end .* got 27 .* step 31 of walk 1"),
        (np.concatenate([ended(ACTIVATION), ACTIVATION], axis=1)[:, :50 + 10],
         {"position": {k: np.tile(v, 2)[:, :60] for k, v in PLACE.items()}},
         "all units are NaN at step 31 of walk 1, which continues after it. Cut such a walk"),
        (ended(ACTIVATION) * [[[1]], [[np.nan]], [[1]]], {}, "all are NaN in walk 1 of 3"),
        ([a[:, 0] for a in SHORT], {}, r"must hold arrays \(time, unit\), got .* pass values\[:"),
        ([SHORT[0], SHORT[1][:, :2]], {}, r"same shape except for .* \(50, 4\), \(31, 2\)"),
        (SHORT, {"position": [{"x": PLACES["x"][0]}, {"z": PLACES["x"][1]}, {"x": PLACES["x"][2]}]},
         "must have the same axes in each"),
    ],
)  # fmt: skip
def test_walks_that_do_not_fit_are_refused(activation, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(activation, **{"position": PLACE, **options})


def test_behaviour_as_walks():
    got = as_walks({"x": PLACE["x"][0], "speed": PLACE["y"][0]}, "walks")
    assert got.sizes == {"walk": 1, "time": 50}
    assert set(got.coords) == {"x", "time"}
    one = got.isel(walk=0).assign_coords(map=3)
    again = as_walks(one, "walks")
    assert again["map"].values.tolist() == [3]
    xr.testing.assert_equal(again.drop_vars("map"), got)
    with pytest.raises(ValueError, match="walks must have dimension 'time'"):
        as_walks(xr.Dataset({"x": ("step", [1, 2])}), "walks")
    with pytest.raises(ValueError, match=r"walks\['y'\].* got \(49,\); walks\['x'\] has 1 walks"):
        as_walks({"x": PLACE["x"][0], "y": PLACE["y"][0, :49]}, "walks")
    with pytest.raises(ValueError, match=r"walks\['x'\] must hold walks of one .* \[50, 31, 42\]"):
        as_walks(PLACES, "walks")
    with pytest.raises(ValueError, match=r"walks must hold arrays"):
        as_walks({}, "walks")


def test_a_dataset_gives_its_coordinates_too():
    place, letter = np.arange(40) % 5, np.arange(40) % 3
    data = {"letter": ("time", letter)}
    coords = {"x": ("time", place), "y": ("time", place), "window": ("time", letter), "animal": "a"}
    walk = xr.Dataset(data, coords)
    values = RNG.random((40, 2))
    recording = from_arrays(values, walk[["x", "y"]], behaviour=walk)
    for name, want in (("x", place), ("y", place), ("letter", letter)):
        np.testing.assert_array_equal(recording[name].values[0], want)
    np.testing.assert_array_equal(recording.window, letter)
    with pytest.raises(ValueError, match="position must hold at least one axis"):
        from_arrays(values, {})


def test_dates_and_masked_texts_of_walks():
    times = np.datetime64("2026-01-01") + np.arange(5).astype("m8[s]")
    letters = np.ma.array(list("abcab"), mask=[0, 1, 0, 0, 0])
    walks = [RNG.random((n, 1)) for n in (5, 3)]
    behaviour = {"when": [times, times[:3]], "letter": [letters, letters[:3]]}
    place = {"x": [np.arange(5.0), np.arange(3.0)]}
    recording = from_arrays(walks, place, behaviour=behaviour)
    assert recording.when.dtype.kind == "M"
    assert np.isnat(recording.when.values[1]).tolist() == [False, False, False, True, True]
    one = from_arrays(walks[0], {"x": place["x"][0]}, behaviour={"letter": letters})
    for found in (recording.letter.values[0], one.letter.values[0]):
        assert [str(letter) for letter in found] == ["a", "nan", "c", "a", "b"]


def test_timestamps_that_state_other_units_are_refused():
    times = xr.DataArray(np.arange(20.0), dims="time", attrs={"units": "ms"})
    values, place = RNG.random((20, 1)), {"x": np.arange(20.0)}
    with pytest.raises(ValueError, match="timestamps must be in seconds, but state the units 'ms'"):
        from_arrays(values, place, timestamps=times)
    for units in ("s", "seconds since 2026-01-01"):
        recording = from_arrays(values, place, timestamps=times.assign_attrs(units=units))
        assert recording.attrs["sample_rate"] == 1


def test_quantities_keep_their_units():
    pq = pytest.importorskip("quantities")
    values, place = RNG.random((20, 2)), np.arange(20.0)
    recording = from_arrays(values * pq.mV, {"x": place * pq.cm}, timestamps=place * pq.s)
    assert (recording.activation.units, recording.x.units) == ("mV", "cm")
    assert type(recording.activation.data) is np.ndarray
    assert from_arrays(values * pq.dimensionless, values * pq.m).y.units == "m"
    assert maps_from_arrays(values[None] * pq.Hz).rate.units == "Hz"
    with pytest.raises(ValueError, match="timestamps must be in seconds, but state the units 'ms'"):
        from_arrays(values, {"x": place}, timestamps=place * pq.ms)
    with pytest.raises(ValueError, match="sample_rate must be a number without units, got .*kHz"):
        from_arrays(values, {"x": place}, sample_rate=1 * pq.kHz)
