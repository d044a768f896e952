import json

import numpy as np
import pytest
import xarray as xr

from placeformer.data import schema
from placeformer.evaluation import simulation


@pytest.fixture
def recording():
    return simulation.walks(np.random.default_rng(0), n_steps=40)


def test_a_recording_passes_whatever_the_order_of_its_dims(recording):
    schema.check_recording(recording, need=("x", "y", "map"))
    schema.check_recording(recording.transpose("unit", "time", "walk"), need=("x",))


def test_all_problems_are_named_at_once_with_what_there_is(recording):
    broken = recording.drop_vars(["x", "map"]).assign_coords(y=("time", np.zeros(40)))
    with pytest.raises(ValueError, match="contract") as caught:
        schema.check_recording(broken, need=("x", "y", "map"))
    text = str(caught.value)
    assert "'x' is missing" in text
    assert "'map' is missing" in text
    assert "'y' must have dims (walk, time), got (time)" in text
    assert "variables ['activation']" in text
    assert "placeformer.record" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.rename(activation="act"), "'activation' is missing"),
        (lambda ds: ds.isel(walk=0), "must have dims (walk, time, unit), got (time, unit)"),
        (lambda ds: ds.isel(unit=0), "pick with lists, such as isel(unit=[0])"),
        (
            lambda ds: ds.assign(dwell=ds.x.astype(float).expand_dims(unit=ds.unit)),
            "join units with xr.concat(..., 'unit', data_vars='minimal')",
        ),
        (lambda ds: ds.isel(unit=[]), "'unit' has length 0"),
        (lambda ds: ds.astype(str), "real numbers"),
        (lambda ds: ds.assign(window=(("walk", "time"), np.ones((3, 40)))), "'window' must have"),
    ],
)
def test_a_broken_recording_is_refused(recording, change, words):
    with pytest.raises(ValueError) as caught:
        schema.check_recording(change(recording))
    assert words in str(caught.value)


def test_names_beyond_the_contract_must_lie_along_walk_and_time(recording):
    ok = recording.assign_coords(heading=(("walk", "time"), np.zeros((3, 40))))
    schema.check_recording(ok, need=("heading",))
    with pytest.raises(ValueError, match="'heading' must have dims"):
        schema.check_recording(recording.assign_coords(heading=("unit", range(5))), ["heading"])


@pytest.mark.parametrize(
    ("name", "dim", "values"),
    [
        ("map", "walk", np.array([0, np.nan, 1])),
        ("map", "walk", np.array(["box", None, "track"], object)),
        ("layer", "unit", np.array(["CA1", np.nan, "CA1", "CA3", "CA3"], object)),
    ],
)
def test_a_missing_map_or_layer_is_named_with_the_ways_out(recording, name, dim, values):
    recording = recording.assign_coords({name: (dim, values)})
    words = f"'{name}' must be known for every {dim}, got NaN or None for 1 .*dropna"
    with pytest.raises(ValueError, match=words):
        schema.check_recording(recording)
    schema.check_recording(recording.assign_coords({name: recording[name].fillna("none")}))
    rest = recording.dropna(dim, subset=[name])
    schema.check_recording(rest)
    assert rest.sizes[dim] == recording.sizes[dim] - 1


@pytest.mark.parametrize("check", [schema.check_recording, schema.check_rate_maps])
def test_other_types_are_refused_by_name(check):
    with pytest.raises(TypeError, match=r"xarray\.Dataset, got ndarray"):
        check(np.zeros(3))


def test_rate_maps_pass_with_and_without_leading_dims():
    maps = simulation.maps(np.ones((2, 4, 5)))
    schema.check_rate_maps(maps)
    schema.check_rate_maps(xr.concat([maps, maps], "map"))
    assert schema.place_dims(maps) == ("y", "x")


def test_place_dims_follow_the_edges_whatever_the_order():
    maps = simulation.maps(np.ones((2, 4, 5))).transpose("y", "unit", "x")
    maps = maps.assign_coords(y_edges=np.arange(5), x_edges=np.arange(6))
    assert schema.place_dims(maps) == ("y", "x")
    schema.check_rate_maps(maps)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.drop_vars("occupancy"), "'occupancy' is missing"),
        (lambda ds: ds.drop_vars("rate"), "'rate' is missing"),
        (lambda ds: ds.drop_vars("y"), "coordinate 'y' (bin centres) is missing"),
        (lambda ds: ds.isel(unit=0), "isel(unit=[0])"),
        (lambda ds: ds.assign(occupancy=ds.occupancy.sum("x")), "'occupancy' must have dims"),
    ],
)
def test_broken_rate_maps_are_refused(change, words):
    with pytest.raises(ValueError) as caught:
        schema.check_rate_maps(change(simulation.maps(np.ones((2, 4, 5)))))
    assert words in str(caught.value)


EDGED = {"y_edges": np.arange(5) - 0.5, "x_edges": np.arange(6) - 0.5}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.drop_vars("x_edges"), "'x_edges' is missing, although 'y_edges' is there"),
        (lambda ds: ds.drop_vars("y_edges"), "'y_edges' is missing, although 'x_edges' is there"),
        (lambda ds: ds.assign_coords(x_edges=np.arange(5)), "neighbouring bins of 'x_edges'"),
        (lambda ds: ds.assign_coords(x_edges=ds.x_edges.values[::-1]), "ascending"),
        (lambda ds: ds.assign_coords(x_edges=np.zeros(6)), "ascending"),
        (lambda ds: ds.assign_coords(x_edges=np.full(6, np.nan)), "ascending"),
        (lambda ds: ds.assign_coords(x_edges=list("abcdef")), "'x_edges' must hold real numbers"),
        (lambda ds: ds.isel(x=[4, 3, 2, 1, 0]), "neighbouring bins of 'x_edges'"),
        (lambda ds: ds.assign_coords(x=ds.x + 9), "neighbouring bins of 'x_edges'"),
        (lambda ds: ds.astype(complex), "'rate' must hold real numbers, got dtype complex128"),
        (lambda ds: ds.assign(occupancy=ds.occupancy.astype(str)), "'occupancy' must hold real"),
    ],
)
def test_edges_and_values_that_do_not_fit_are_refused(change, words):
    maps = simulation.maps(np.ones((2, 4, 5))).assign_coords(EDGED)
    schema.check_rate_maps(maps)
    schema.check_rate_maps(maps.isel(x=slice(1, 3)))
    schema.check_rate_maps(maps.drop_vars(["x_edges", "y_edges"]))
    with pytest.raises(ValueError) as caught:
        schema.check_rate_maps(change(maps))
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", [str, complex, object, "M8[s]"])
def test_positions_are_real_numbers(recording, kind):
    changed = recording.assign_coords(x=recording["x"].astype(int).astype(kind))
    with pytest.raises(ValueError, match="'x' must hold real numbers, got dtype"):
        schema.check_recording(changed, need=("x",))


@pytest.mark.parametrize("side", ["abc", float("nan"), 5.5, True, (5,)])
def test_the_side_is_a_whole_number(recording, side):
    with pytest.raises(ValueError, match="attribute 'side' must be a whole number, got"):
        schema.check_recording(recording.assign_attrs(side=side))


def test_units_are_named_by_layer_and_index(recording):
    with pytest.raises(ValueError, match=r"7 values of 2 units .*ffn\.1/1, ffn\.1/3.*skipna"):
        schema.check_finite(recording.activation, np.array([0, 3, 0, 4, 0]))
    schema.check_finite(recording.activation, np.zeros(5, int))
    assert schema.unit_names(recording.activation.drop_vars("layer"), np.arange(9)).endswith("...")


def test_provenance_is_json_text_that_keeps_what_came_before(recording):
    recording.attrs["provenance"] = json.dumps({"network": "nmda-a10", "seed": 3})
    text = schema.provenance(recording, "rate_maps", bins=np.arange(3), smooth=None, by=("y",))
    assert isinstance(text, str)
    assert json.loads(text) == {
        "network": "nmda-a10",
        "seed": 3,
        "steps": [{"step": "rate_maps", "bins": [0, 1, 2], "smooth": None, "by": ["y"]}],
    }
    again = schema.provenance(xr.Dataset(attrs={"provenance": text}), "next", f=np.float32(2))
    assert [step["step"] for step in json.loads(again)["steps"]] == ["rate_maps", "next"]
    assert json.loads(schema.provenance(None, "a"))["steps"] == [{"step": "a"}]


@pytest.mark.parametrize("text", ["{", "[1]", 3, '{"steps": 5}', "[" * 100_000])
def test_provenance_that_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError, match="provenance"):
        schema.read_provenance(xr.Dataset(attrs={"provenance": text}))


def test_dates_are_no_timestamps(recording):
    dates = np.datetime64("2026-01-01") + np.arange(40).astype("m8[s]")
    dated = recording.assign_coords(timestamp=(("walk", "time"), [dates] * recording.sizes["walk"]))
    words = r"'timestamp' must hold real numbers, got dtype datetime64\[s\]: turn times into sec"
    with pytest.raises(ValueError, match=words):
        schema.check_recording(dated)
