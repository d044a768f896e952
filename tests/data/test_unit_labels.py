"""Labels of units: text, unique, the same through analyses, files and selections."""

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.data import schema, sessions

RNG = np.random.default_rng(0)
ACTIVATION = RNG.random((2, 60, 4)).astype(np.float32)
PLACE = {"x": RNG.integers(0, 3, (2, 60)), "y": RNG.integers(0, 3, (2, 60))}
LABELS = ["ffn.0/0", "ffn.1/0", "ffn.0/1", "ffn.1/1"]


@pytest.fixture
def recording():
    return pf.from_arrays(ACTIVATION, PLACE, layer=["ffn.0", "ffn.1", "ffn.0", "ffn.1"])


def session(unit_id):
    track = sessions.Track(np.arange(20) / 10, {"x": np.arange(20.0)})
    trains = {i: np.array([0.5 + i]) for i in range(len(unit_id))}
    labels = {"unit_id": np.asarray(unit_id)}
    cut = sessions.Cut([0, 2])
    return sessions.of_spikes(trains, track, cut, step="test", layer="CA1", unit_labels=labels)


def test_units_are_picked_by_layer_and_index(recording):
    assert recording.unit.values.tolist() == LABELS
    np.testing.assert_array_equal(recording.sel(unit="ffn.1/1").activation, ACTIVATION[..., 3])
    np.testing.assert_array_equal(
        recording.sel(unit=["ffn.0/1", "ffn.0/0"]).activation, ACTIVATION[..., [2, 0]]
    )


def test_units_without_layers_are_labelled_by_their_number():
    assert pf.from_arrays(ACTIVATION, PLACE).unit.values.tolist() == ["0", "1", "2", "3"]


def test_neurons_are_labelled_by_their_id():
    recording = session([12, 5])
    assert recording.unit.values.tolist() == ["12", "5"]
    assert recording.sel(unit="5").unit_id == 5
    assert recording.sel(unit="5").activation.values[0, 15] == 10  # one spike at 10 Hz


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        ([7, 8, 7, 7], ["7", "8", "7#2", "7#3"]),
        (["a", "a", "a#2"], ["a", "a#2", "a#2#2"]),
    ],
)
def test_ids_that_occur_several_times_are_numbered(ids, labels):
    assert session(ids).unit.values.tolist() == labels


def test_a_recording_with_repeated_labels_is_refused(recording):
    twice = xr.concat([recording, recording.isel(unit=[1])], "unit")
    with pytest.raises(ValueError, match="labels of 'unit' must be unique, but 'ffn.1/0' occurs"):
        schema.check_recording(twice)


def test_layers_are_put_together_and_picked_apart(recording):
    parts = [recording.isel(unit=slice(2)), recording.isel(unit=slice(2, 4))]
    xr.testing.assert_identical(xr.concat(parts, "unit"), recording)


@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
def test_labels_come_back_from_files(recording, kind, tmp_path):
    if kind == "netcdf":
        recording.to_netcdf(tmp_path / "a.nc")
        read = xr.load_dataset(tmp_path / "a.nc")
    else:
        recording.to_zarr(tmp_path / "a.zarr", zarr_format=2)
        read = xr.open_zarr(tmp_path / "a.zarr").load()
    xr.testing.assert_equal(read, recording)
    np.testing.assert_array_equal(read.sel(unit="ffn.1/0").activation, ACTIVATION[..., 1])


def test_labels_stay_in_every_result_over_units(recording):
    maps = pf.rate_maps(recording)
    results = [
        maps,
        pf.half_maps(recording),
        pf.spatial_information(maps),
        pf.sparsity(maps),
        pf.selectivity(maps, negatives="rectify"),
        pf.coherence(maps),
        pf.place_cell_score(maps),
        pf.grid_score(maps),
        pf.border_score(maps),
        pf.place_fields(maps),
        pf.position_variance_explained(recording),
        pf.mutual_information(recording),
        pf.stability(recording),
        pf.remapping(maps, maps),
    ]
    for result in results:
        assert result.unit.values.tolist() == LABELS
    assert results[2].to_dataframe().index.tolist() == LABELS
    assert set(pf.field_table(results[9]).index.get_level_values("unit")) <= set(LABELS)


def test_results_of_other_selections_are_aligned_by_label(recording):
    eta2 = pf.position_variance_explained(recording)
    difference = eta2 - eta2.isel(unit=[3, 1])
    assert difference.unit.values.tolist() == ["ffn.1/0", "ffn.1/1"]
    np.testing.assert_array_equal(difference, 0)


def test_comparing_other_units_is_refused(recording):
    maps = pf.rate_maps(recording).drop_vars(["layer", "component", "index"])
    other = maps.assign_coords(unit=LABELS[::-1])
    wrong = "same units in the same order, got 'ffn.0/0' and 'ffn.1/1'"
    with pytest.raises(ValueError, match=wrong):
        pf.remapping(maps, other)
