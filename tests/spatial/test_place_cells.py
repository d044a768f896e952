"""Place cells: the truth of simulated populations, criteria one by one, the control."""

import json
from collections import Counter
from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr
from scipy import signal, stats

from placeformer.data import schema
from placeformer.evaluation import simulation
from placeformer.spatial import binning
from placeformer.spatial import place_cells as dependence
from placeformer.spatial.binning import BinnedRecording, observation_of_bins
from placeformer.spatial.measures import coherence, spatial_information
from placeformer.spatial.place_cell_score import field_share, place_cell_score
from placeformer.spatial.place_cells import place_cells
from placeformer.spatial.place_fields import place_fields
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.shuffle_test import shuffle_test
from placeformer.spatial.stability import half_maps, stability
from placeformer.spatial.variance_explained import position_variance_explained

SMALL = {"n_walks": 16, "n_steps": 512, "noise": 0.25}


def accepted(table, kind):
    return table.is_place_cell.values[table.kind.values == kind]


@pytest.fixture(scope="module")
def recordings():
    kinds = ("place", "two fields", "remembered place", "letter", "untuned", "constant")
    return [simulation.population(kinds, 12, familiar=f, **SMALL) for f in (True, False)]


@pytest.fixture(scope="module")
def table(recordings):
    return place_cells(recordings[0], control=recordings[1], n_shuffles=199)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_truth_at_the_sampling_of_a_default_recording(seed):
    """64 walks of 1,536 steps: 95 % of place units are found, at most 5 % of others accepted."""
    others = ("ramp", "hole", "letter", "letter before", "untuned")
    found = place_cells(
        simulation.population((*simulation.PLACE_KINDS, *others), 40, seed=seed), n_shuffles=199
    )
    for kind in simulation.PLACE_KINDS:
        assert accepted(found, kind).mean() >= 0.95, kind
    for kind in others:
        assert accepted(found, kind).mean() <= 0.05, kind


def test_place_units_are_found_and_others_are_not(table):
    for kind in ("place", "two fields", "remembered place"):
        assert accepted(table, kind).mean() >= 0.9, kind
    for kind in ("letter", "untuned", "constant"):
        assert not accepted(table, kind).any(), kind
    reasons = {k: set(table.reason.values[table.kind.values == k]) for k in ("letter", "constant")}
    assert "follows the observation" in reasons["letter"]
    assert reasons["constant"] == {"constant"}


def test_what_is_remembered_depends_on_memory_and_the_rest_does_not(table):
    depends = table.depends_on_memory.values
    remembered = table.kind.values == "remembered place"
    assert depends[remembered].mean() >= 0.9
    assert not depends[~remembered].any()
    assert table.control_is_place_cell.values[table.kind.values == "place"].mean() >= 0.9
    assert not table.control_is_place_cell.values[remembered].any()


def test_columns_are_those_of_the_functions(recordings, table):
    rec = recordings[0]
    maps = rate_maps(rec)
    fields = place_fields(maps)
    binned = BinnedRecording.of(rec, by=("y", "x"), bins=None)
    want = {
        "spatial_information": spatial_information(maps),
        "place_cell_score": place_cell_score(maps, fields=fields),
        "n_fields": fields.n_fields,
        "field_share": field_share(half_maps(rec), fields, observation_of_bins(binned)),
        "stability": stability(rec),
        "eta2": position_variance_explained(rec),
        "eta2_beyond": position_variance_explained(rec, given="observation"),
        "control_eta2_beyond": position_variance_explained(recordings[1], given="observation"),
    }
    for name, values in want.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-6, err_msg=name)
    tests = {
        "place": {"statistic": "position_variance_explained"},
        "within_observation": {"statistic": "coherence", "null": "within_observation"},
        "beyond": {"statistic": "position_variance_explained", "given": "observation"},
    }
    for name, options in tests.items():
        found = shuffle_test(rec, n_shuffles=199, **options)
        np.testing.assert_array_equal(table[f"p_{name}"], found.p)
        np.testing.assert_array_equal(table[f"q_{name}"], found.q)
    assert table.attrs["left_out"] == "nothing"


@pytest.mark.parametrize("per_map", [False, True])
def test_each_recording_is_checked_and_binned_once(recordings, per_map, monkeypatch):
    calls = Counter()

    def counted(owner, name):
        function = getattr(owner, name)

        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    counted(schema, "check_recording")
    counted(binning, "grid")
    counted(binning.Grid, "index")
    few = [recording.isel(unit=slice(0, 60, 10)) for recording in recordings]
    options = {"n_shuffles": 99, "max_q": 1.0, "per_map": per_map}
    place_cells(few[0], **options)
    assert calls == {"check_recording": 1, "grid": 1, "index": 1}
    place_cells(few[0], control=few[1], **options)
    assert calls == {"check_recording": 3, "grid": 3, "index": 3}


def test_the_table_is_a_frame_and_goes_to_netcdf(table, tmp_path):
    frame = table.to_dataframe()
    assert len(frame) == table.sizes["unit"]
    assert frame.reason.loc[frame.is_place_cell].unique().tolist() == ["place cell"]
    for name in table.data_vars:
        assert {"units", "long_name"} <= set(table[name].attrs), name
    assert json.loads(table.attrs["provenance"])["steps"][-1]["max_q"] == 0.05
    table.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_identical(table, back.load())


def test_every_threshold_decides(recordings):
    rec = recordings[0].isel(unit=recordings[0].kind.values == "two fields")
    base = place_cells(rec, n_shuffles=39)
    assert base.is_place_cell.mean() >= 0.9
    strict = {
        "max_q": (0.001, "not tuned to place"),
        "min_fields": (3, "too few fields"),
        "min_field_share": (1.0, "active outside its fields"),
        "min_reliability": (1.0, "unstable"),
    }
    for name, (value, reason) in strict.items():
        with nullcontext() if name != "max_q" else pytest.warns(UserWarning, match="raise n"):
            found = place_cells(rec, n_shuffles=39, **{name: value})
        assert set(found.reason.values) == {reason}, name
        assert found.attrs[name] == value
    large = place_cells(rec, n_shuffles=39, field_criteria={"min_bins": 60})
    assert set(large.reason.values) == {"too few fields"}


def test_without_observation_its_criteria_are_left_out(recordings):
    rec = recordings[0].isel(unit=np.isin(recordings[0].kind, ["place", "letter"]))
    found = place_cells(rec.drop_vars("observation"), n_shuffles=39)
    assert "no 'observation'" in found.attrs["left_out"]
    for name in ("eta2_beyond", "p_beyond", "q_within_observation"):
        assert np.isnan(found[name]).all(), name
    assert accepted(found, "place").mean() >= 0.9
    assert "follows the observation" not in found.reason.values


def test_scale_offset_and_the_policy_for_negatives_do_not_decide(recordings):
    rec = recordings[0].isel(unit=slice(None, None, 6))
    plain = place_cells(rec, n_shuffles=39)
    moved = rec.assign(activation=(100 * rec.activation.astype(float) - 500).assign_attrs({}))
    other = place_cells(moved, n_shuffles=39, negatives="shift")
    np.testing.assert_array_equal(plain.reason, other.reason)
    assert not np.allclose(plain.spatial_information, other.spatial_information)


def test_several_maps_are_decided_apart_and_a_control_may_have_several():
    first, second = (
        simulation.population(("place", "remembered place"), 5, familiar=f, **SMALL)
        for f in (True, False)
    )
    both = xr.concat([first, second.assign_coords(map=second["map"] + 1)], "walk", join="override")
    with pytest.raises(ValueError, match="pass per_map=True"):
        place_cells(both, n_shuffles=9)
    with pytest.warns(UserWarning, match="raise n"):
        found = place_cells(both, per_map=True, n_shuffles=9)
    assert found.is_place_cell.dims == ("map", "unit")
    with pytest.warns(UserWarning, match="raise n"):
        alone = place_cells(first, n_shuffles=9)
    np.testing.assert_allclose(found.eta2.isel(map=0), alone.eta2, rtol=1e-6)
    novel = both.assign_coords(familiar=("walk", np.zeros(both.sizes["walk"], bool)))
    found = place_cells(both, per_map=True, control=novel, n_shuffles=39)
    assert found.control_is_place_cell.dims == ("unit",)
    assert found.p_memory.dims == ("map", "unit")
    assert found.control_is_place_cell.mean() >= 0.9  # remembered on one of the control's maps
    assert not found.depends_on_memory.any()


def beyond_chance(part, given=None):
    """Variance explained beyond the mean of 20 circular shifts, by the public functions."""
    options = {"null": "circular", "n_shuffles": 20, "progress": False}
    options |= {"given": given} if given else {}
    chance = shuffle_test(part, "position_variance_explained", **options).null_mean.values
    return (position_variance_explained(part, given=given).values - chance) / (1 - chance)


def test_memory_is_not_taken_for_autocorrelation():
    """Untuned units that are slower in the recording than in the control depend on no memory."""
    rng = np.random.default_rng(0)
    slow, fast = (
        simulation.population(("noise",), 1, n_walks=16, n_steps=256, seed=s, familiar=f)
        for s, f in ((0, True), (1, False))
    )

    def noise(recording, correlation):
        values = signal.lfilter([1], [1, -correlation], rng.standard_normal((16, 256, 100)), axis=1)
        units = recording.isel(unit=np.zeros(100, int)).drop_vars("activation")
        dims = ("walk", "time", "unit")
        return units.assign(activation=(dims, values, recording.activation.attrs))

    binned = [
        BinnedRecording.of(noise(r, c), by=("y", "x"), bins=None)
        for r, c in ((slow, 0.97), (fast, 0.5))
    ]
    raw = [
        np.stack(
            [
                position_variance_explained(b.recording.isel(walk=slice(2 * k, 2 * k + 2)))
                for k in range(8)
            ]
        )
        for b in binned
    ]
    naive = stats.ttest_ind(*raw, equal_var=False, alternative="greater").pvalue
    p = dependence._memory_p(*binned, position_variance_explained(binned[0].recording), None)
    assert (naive <= 0.05).mean() > 0.5
    assert (p <= 0.05).mean() < 0.12


def test_memory_is_welchs_test_between_parts(recordings):
    first, second = ([r.isel(walk=slice(2 * k, 2 * k + 2)) for k in range(8)] for r in recordings)
    values = [
        np.stack([beyond_chance(p, "observation") for p in parts]) for parts in (first, second)
    ]
    tuned = recordings[0].kind.values != "constant"
    want = stats.ttest_ind(*(v[:, tuned] for v in values), equal_var=False, alternative="greater")
    binned = (BinnedRecording.of(r, by=("y", "x"), bins=None) for r in recordings)
    like = position_variance_explained(recordings[0])
    p = dependence._memory_p(*binned, like, "observation")
    np.testing.assert_allclose(p[tuned], want.pvalue, rtol=1e-5)
    assert np.isnan(p[~tuned]).all()


@pytest.mark.filterwarnings("ignore:.*stay correlated")
def test_few_walks_are_parted_in_time(recordings):
    few = recordings[0].isel(walk=slice(0, 3))
    binned = BinnedRecording.of(few, by=("y", "x"), bins=None)
    parts = dependence._variance_of_parts(binned, None)
    assert parts.shape == (8, few.sizes["unit"])
    first = beyond_chance(few.isel(time=slice(0, 64)))
    np.testing.assert_allclose(parts[0], first, rtol=1e-5, atol=1e-6)


def test_few_samples_and_few_shuffles_are_warned_of(recordings):
    rec = recordings[0].isel(unit=[0, 1])
    with pytest.warns(UserWarning, match=r"median bin has \d+ samples, fewer than 30"):
        place_cells(rec.isel(walk=slice(0, 3)), n_shuffles=39)
    with pytest.warns(UserWarning, match="with n_shuffles=9 and 2 units"):
        place_cells(rec, n_shuffles=9)


def made_by(**network):
    return json.dumps({"steps": [{"step": "record", "network": network}]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c.isel(unit=slice(0, 5)),
            "the same units in the same order, got 72 and 5 units",
        ),
        (
            lambda c: c.assign_coords(index=("unit", c.index.values[::-1])),
            "first 'index' that differs",
        ),
        (
            lambda c: c.assign_coords(unit=np.arange(72).astype(str)[::-1]),
            "first 'unit' that differs",
        ),
        (lambda c: c.assign_coords(unit_id=("unit", np.arange(72) + 1)), "'unit_id' that differs"),
        (lambda c: c.assign_attrs(provenance=made_by(weights_sha256="b")), "two networks"),
        (lambda c: c.assign_coords(familiar=~c.familiar), "novel maps"),
    ],
)
def test_a_control_of_other_units_or_on_trained_maps_is_refused(recordings, change, words):
    number = np.arange(72)
    names = {"index": ("unit", number), "unit_id": ("unit", number), "unit": number.astype(str)}
    rec, control = (
        r.assign_coords(names).assign_attrs(provenance=made_by(weights_sha256="a"))
        for r in recordings
    )
    with pytest.raises(ValueError, match=words):
        place_cells(rec, control=change(control), n_shuffles=3)


@pytest.mark.parametrize(
    "options",
    [
        {"max_q": 1.5},
        {"min_fields": -1},
        {"min_reliability": 2},
        {"max_q": np.nan},
        {"max_q": "a"},
        {"field_criteria": {"min_size": 3}},
        {"field_criteria": 3},
        {"min_occupancy": "a"},
        {"smooth": "a"},
    ],
)
def test_limits_out_of_range_are_refused(recordings, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name} must"):
        place_cells(recordings[0], n_shuffles=3, **options)


def test_a_shift_is_refused_where_walks_are_exchanged(recordings):
    with pytest.raises(ValueError, match="min_shift is an option of null='circular'"):
        place_cells(recordings[0], null="walks", min_shift=5, n_shuffles=3)


def test_bins_without_a_sample_are_refused(recordings):
    rec, control = (r.isel(walk=slice(4)) for r in recordings)
    options = {"bins": {k: np.arange(12) - 0.5 for k in "xy"}, "n_shuffles": 9, "progress": False}
    far = rec.assign_coords(x=rec.x + 20)
    words = "bins must hold samples of {}, got none: .*'x' lies in 20 to 30 and its bins in -0.5 to"
    for test in (place_cells, shuffle_test):
        with pytest.raises(ValueError, match=words.format("recording")):
            test(far, **options)
    with pytest.raises(ValueError, match=words.format("control")):
        place_cells(rec, control=control.assign_coords(x=control.x + 20), **options)
    with pytest.raises(ValueError, match="'x' holds no finite value"):
        shuffle_test(rec.assign_coords(x=rec.x * np.nan), "position_variance_explained", **options)


def test_dask_gives_the_same(recordings):
    rec = recordings[0].isel(unit=[0, 12, 36, 48], walk=slice(0, 12))
    want, found = (
        place_cells(rec, n_shuffles=79),
        place_cells(rec.chunk(walk=5, unit=3), n_shuffles=79),
    )
    np.testing.assert_array_equal(want.reason, found.reason)
    np.testing.assert_allclose(found.eta2_beyond, want.eta2_beyond, atol=1e-6)
    np.testing.assert_array_equal(found.p_beyond, want.p_beyond)


def test_coherence_of_noise_that_hangs_together_needs_the_circular_test(recordings):
    """Within letters alone untuned units look spatial: neighbouring places share their noise."""
    rec = simulation.population(("untuned",), 40, **SMALL)
    within = shuffle_test(rec, "coherence", null="within_observation", n_shuffles=39)
    circular = shuffle_test(rec, "position_variance_explained", given="observation", n_shuffles=39)
    assert (within.p <= 0.05).mean() > 0.3
    assert (circular.p <= 0.05).mean() < 0.2
    np.testing.assert_allclose(within.observed, coherence(rate_maps(rec)), rtol=1e-4)
