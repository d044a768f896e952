"""Reports of recordings and of other networks: what is there, what is left out, what is refused."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.networks import CONFIG, network

import placeformer as pf
from placeformer.reporting import numbers, subjects, unit_measures, write
from placeformer.reporting.facts import shown_call
from placeformer.reporting.measurements import Settings

QUICK = {"progress": False, "cell_types": False, "n_shuffles": 99}


def recording(seed=0, n_walks=8, axes=2, **options):
    """Three units of which the first has a field; the positions are in a box of 1 m."""
    rng = np.random.default_rng(seed)
    place = rng.random((n_walks, 300, axes))
    field = np.exp(-((place - 0.5) ** 2).sum(axis=2) / 0.02)[..., None] * [5, 0, 0]
    position = {name: place[..., i] for i, name in enumerate("xy"[:axes])}
    noise = rng.normal(size=(n_walks, 300, 3))
    return pf.from_arrays(noise + field, position, position_units="m", **options)


def spikes(seed=0):
    """An animal for 100 s at 20 Hz on a track: a place cell of 1 m and a silent one, in Hz."""
    rng = np.random.default_rng(seed)
    place = 50 + 50 * np.sin(np.arange(2000) / 60)
    rate = 30 * np.exp(-((place - 40) ** 2) / 200)
    counts = rng.poisson(np.stack([rate, np.full(2000, 1.0)], axis=1) / 20)
    return pf.from_arrays(
        counts * 20.0, {"x": place}, sample_rate=20, units="Hz", position_units="cm", session="rat"
    )


def read(folder, name, kind):
    return xr.load_dataset(folder / f"{name}.{kind}.nc")


def text_of(page):
    text = re.sub(r"<(style|script).*?</\1>", "", page.read_text("utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", "", text).split())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The report of a recording with nothing but places."""
    out = tmp_path_factory.mktemp("plain") / "report"
    return pf.report(recording(), out=out, bins=8, **QUICK).parent


def test_the_table_and_the_maps_are_those_of_the_functions(plain):
    made = recording()
    table = pf.place_cells(made, bins=8, n_shuffles=99, cell_types=False, progress=False)
    units = read(plain, "recording", "units").isel(map=0)
    for name in ("is_place_cell", "reason", "eta2", "n_fields", "stability", "q_place"):
        np.testing.assert_array_equal(units[name], table[name], err_msg=name)
    maps = read(plain, "recording", "rate_maps").isel(map=0)
    np.testing.assert_array_equal(maps["rate"], pf.rate_maps(made, bins=8)["rate"])
    decoded = pf.decode_position(made, bins=8, method="bayes", progress=False)
    np.testing.assert_allclose(
        read(plain, "recording", "decoding").median_error, decoded.median_error
    )


def test_what_a_recording_does_not_have_is_left_out(plain):
    text = text_of(plain / "index.html")
    assert {file.name for file in plain.iterdir()} == {
        "index.html", *(f"recording.{kind}.nc" for kind in ("units", "rate_maps", "decoding"))
    }  # fmt: skip
    for word in ("memory", "Mg²⁺", "lesion", "letter", "novel", "nmda"):
        assert (
            word
            not in re.sub("(beyond the letter, if there are letters)", "", text)
            .replace("NMDAR-inspired nonlinearity", "")
            .split("Glossary In", 1)[0]
            .split("Definitions of the columns")[0]
        ), word
    assert "1 of the 3 units." in text and "“not tuned to place” (2 units)." in text
    assert "pf.report(recording, bins=8, n_shuffles=99, cell_types=False)" in text
    assert f"placeformer {pf.__version__}" in text and "UTC" in text
    assert "8 of y" in text and "2,400 in 8 walks" in text


def test_a_null_recording_has_no_place_cell_and_says_why(tmp_path, monkeypatch):
    def fail(*given):
        raise ValueError("there are <few> walks")

    monkeypatch.setattr(subjects, "decode", fail)
    rng = np.random.default_rng(1)
    place = rng.random((8, 200, 2))
    noise = pf.from_arrays(rng.normal(size=(8, 200, 4)), place)
    text = text_of(noise.pf.report(out=tmp_path / "out", bins=5, **QUICK))
    assert "0 of the 4 units." in text and "“not tuned to place” (4 units)" in text
    assert "Not a place cell: not tuned to place." in text
    assert "the position was not decoded: there are &lt;few&gt; walks" in text
    assert not list((tmp_path / "out").glob("*decoding*"))


def test_a_control_of_other_maps_tells_what_depends_on_memory(tmp_path):
    made, control = recording(), recording(1)
    control["activation"] = control.activation.copy(data=np.random.default_rng(2).normal(
        size=control.activation.shape))  # fmt: skip
    found = pf.report(made, control, tmp_path / "out", bins=6, **QUICK)
    units = read(found.parent, "recording", "units")
    table = pf.place_cells(
        made, control=control, bins=6, n_shuffles=99, cell_types=False, progress=False
    )
    assert units["map"].values.tolist() == ["recording", "control"]
    for name in ("p_memory", "q_memory", "depends_on_memory"):
        np.testing.assert_array_equal(units[name], table[name], err_msg=name)
    assert units["depends_on_memory"].values.tolist() == [True, False, False]
    assert "the tuning of 1 depends on memory" in text_of(found)


def test_samples_of_the_control_outside_the_bins_are_told():
    options = unit_measures.MapOptions.of(recording(), Settings(bins=4))
    assert unit_measures.share_outside(recording(), options) == 0
    wider = recording().assign_coords(x=recording().x * 2)
    assert unit_measures.share_outside(wider, options) == pytest.approx(0.5, abs=0.03)


def test_maps_of_a_recording_stand_side_by_side(tmp_path):
    made = recording(behaviour={"map": np.repeat([3, 7], 4)})
    control = recording(1, behaviour={"map": np.repeat([0, 1], 4)})
    found = pf.report(made, control, tmp_path / "out", bins=5, **QUICK)
    units = read(found.parent, "recording", "units")
    names = ["map 3", "map 7", "control, map 0", "control, map 1"]
    assert units["map"].values.tolist() == names
    table = pf.place_cells(
        made, control=control, per_map=True, bins=5, n_shuffles=99, cell_types=False,
        progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(units["eta2"][:2], table["eta2"])
    np.testing.assert_array_equal(units["p_memory"][:2], table["p_memory"])
    assert units["p_memory"][2:].isnull().all() and not units["depends_on_memory"].values[2:].any()
    assert "on map 3" in text_of(found) and "Position on map 3 is decoded" in text_of(found)


def test_an_animal_on_a_track_has_rates_smoothed_maps_and_spikes_in_windows(tmp_path):
    made = spikes()
    found = pf.report(made, out=tmp_path / "out", progress=False)
    maps = read(found.parent, "rat", "rate_maps").isel(map=0)
    again = pf.rate_maps(made, by="x", bins=40, smooth=1.5)
    np.testing.assert_array_equal(maps["rate"], again["rate"])
    assert maps["rate"].attrs["units"] == "Hz"
    decoded = read(found.parent, "rat", "decoding")
    assert decoded.sizes["time"] == 400 and decoded["error"].attrs["units"] == "cm"
    assert float(decoded["median_error"]) < float(decoded["chance_error"])
    text = text_of(found)
    assert "rate (Hz)" in text and "place cell" in text and "100 s" in text and "40 of x" in text


def test_windows_hold_the_spikes_and_the_mean_position():
    made = spikes()
    windows, method = unit_measures.in_windows(made, ("x",))
    assert method == "poisson" and dict(windows.sizes) == {"walk": 1, "time": 400, "unit": 2}
    counts = made["activation"].values[0].reshape(400, 5, 2).sum(axis=1) / 20
    np.testing.assert_allclose(windows["activation"].values[0], counts, rtol=1e-5)
    np.testing.assert_allclose(windows["x"].values[0], made["x"].values[0].reshape(400, 5).mean(1))
    steps = recording()
    assert unit_measures.in_windows(steps, ("y", "x")) == (steps, "bayes")


def test_windows_hold_the_mean_direction_and_decoding_goes_the_short_way_round():
    heading = np.arange(10, 4010, 4.0) % 360  # five samples of a window, also across 0 degrees
    rate = np.exp(4 * np.cos(np.deg2rad(heading[:, None] - np.arange(0, 360, 30))))
    made = pf.from_arrays(
        rate, {"heading": heading}, sample_rate=20, circular={"heading": 360}, units="Hz"
    )
    windows, _ = unit_measures.in_windows(made, ("heading",))
    middle = heading.reshape(-1, 5)[:, 2]
    np.testing.assert_allclose(windows["heading"].values[0], middle)
    options = unit_measures.MapOptions.of(made, Settings(by=("heading",), bins=36))
    decoded = unit_measures.decode(made, options, Settings(), progress=False)
    assert decoded["error"].max() <= 10 and decoded["chance_error"] <= 180


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_files_are_read_and_name_the_subject(tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    file = tmp_path / f"rat 3{suffix}"
    made = recording()
    made.to_netcdf(file) if suffix == ".nc" else made.drop_vars("unit").to_zarr(
        file, consolidated=False
    )
    found = subjects.opened(file)
    np.testing.assert_array_equal(found["activation"], recording()["activation"])
    assert subjects.name_of(file, found) == "rat 3"


def lesionable():
    """A network of one layer whose score depends on its first unit, along places of a track."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    place = np.random.default_rng(0).random((8, 100))
    inputs = torch.tensor(place[..., None], dtype=torch.float32)

    def score(model):
        with torch.no_grad():
            return ((model(inputs) - inputs) ** 2).mean(dim=(1, 2)).numpy()

    return net, {"x": place}, {"place": place[..., None]}, score


def test_another_network_is_recorded_and_lesioned_with_a_score(tmp_path):
    net, behaviour, inputs, score = lesionable()
    found = pf.report(
        net, out=tmp_path / "out", behaviour=behaviour, layers=["1"], inputs=inputs, score=score,
        bins=8, settings=Settings(lesion_repeats=3), **QUICK,
    )  # fmt: skip
    lesions = read(found.parent, "Sequential", "lesions")
    intact = lesions["score"].sel(selection="ordered", fraction=0).mean("repeat").item()
    assert intact == pytest.approx(score(net).mean(), rel=1e-5)
    assert lesions.attrs["n_place_cells"] == int(
        read(found.parent, "Sequential", "units")["is_place_cell"].sum()
    )
    text = text_of(found)
    assert "lesioned, the score is" in text and f"compared with {intact:.4g} in the intact" in text
    assert "score=&lt;score&gt;" in text or "score=<score>" in text


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ({"loss": len}, "score must be a function of the network, got dict; for several scores"),
        (lambda net: None, r"score\['score'\] must return a number.* got NoneType"),
    ],
)
def test_a_score_that_cannot_be_is_refused_before_anything_is_recorded(tmp_path, score, words):
    net, behaviour, inputs, _ = lesionable()
    run = {"behaviour": behaviour, "layers": ["1"], "inputs": inputs}
    with pytest.raises(TypeError, match=words):
        pf.report(net, out=tmp_path / "out", score=score, **run, progress=False)


def test_a_model_that_was_not_loaded_is_named_network(tmp_path):
    model = network(CONFIG)
    (one,) = subjects_of(model)
    assert isinstance(one, subjects.NetworkMeasurement) and one.name == "network"


def subjects_of(*given, **options):
    from placeformer.reporting import write

    subject = given[0] if len(given) == 1 else list(given)
    defaults = {"control": None, "beside": "none", "settings": Settings(), "recorded": {}}
    return write.subjects(subject, **defaults | options)


def test_names_are_given_by_a_mapping_or_made_different():
    one, two = recording(), recording(1)
    assert [m.name for m in subjects_of(one, two)] == ["recording", "recording#2"]
    assert [m.name for m in subjects_of({"day 1/2": one, "b": two})] == ["day 1-2", "b"]


@pytest.mark.parametrize(
    ("subject", "options", "error", "words"),
    [
        (3, {}, TypeError, "subject must be the name of a network.*got int.*from_arrays"),
        ("no.nc", {}, ValueError, "must be an existing file, got 'no.nc'"),
        ("rat.nwb", {}, ValueError, "read it with placeformer.from_nwb"),
        ("mini-nmda-a11", {}, ValueError, "did you mean mini-nmda-a1"),
        ([], {}, ValueError, "at least one network or recording"),
        (torch.nn.Linear(2, 2), {}, ValueError, "behaviour must be the walks.*Linear"),
        (
            recording(),
            {"bins": 8, "score": len},
            ValueError,
            "must be None for navigation Transformers and Recordings",
        ),
        (recording(), {"by": ("x", "y", "time")}, ValueError, "one or two axes"),
        (recording(axes=1).rename(x="depth"), {}, ValueError, r"by=\('heading',\)"),
        (recording().drop_vars("activation"), {}, ValueError, "breaks the Dataset contract"),
        ([recording(), recording()], {"control": [None]}, ValueError, "for each of 2 subjects"),
        ([recording()], {"beside": "mini-gelu"}, ValueError, "add it to the list"),
        (recording(), {"control": torch.nn.Linear(2, 2)}, TypeError, "control must be a Recording"),
        ("mini-nmda-a10", {"control": recording()}, ValueError, "whose control is its novel maps"),
        (recording(), {"control": spikes()}, ValueError, "x|y|unit"),
        ("nmda-a10", {"by": "x", "smooth": 1}, ValueError, "by and smooth must be None for navig"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    tmp_path, subject, options, error, words
):
    with pytest.raises(error, match=words):
        pf.report(subject, out=tmp_path / "out", progress=False, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 400, "網" * 120, "a/b" * 99])
def test_a_long_name_makes_names_of_files(tmp_path, name):
    (tmp_path / f"{subjects.file_name(name)}.equivalents.nc").touch()
    assert subjects.file_name(name)[:3] == name[:3].replace("/", "-")


@pytest.mark.parametrize("argument", ["subject", "control", "beside"])
def test_a_file_that_is_none_is_named(tmp_path, argument):
    file = tmp_path / "text.nc"
    file.write_text("no netCDF")
    with pytest.raises(ValueError, match=rf"{argument} must be a netCDF file .*text\.nc"):
        subjects.opened(file, argument)


def test_the_call_is_written_as_code():
    call = shown_call("pf.report", ["nmda-a10"], {"bins": 8, "by": ["x"], "score": len})
    assert call == "pf.report('nmda-a10', bins=8, by=['x'], score=<len>)"
    assert shown_call("f", [{"a": recording()}], {"size": (1,)}) == "f({'a': recording}, size=(1,))"


def test_stored_results_of_a_changed_network_are_left_out():
    model = pf.load("mini-nmda-a10")
    subject = SimpleNamespace(model=model, name="network")
    assert numbers.stored(subject)
    with pf.magnesium(model, alpha=0.1):
        assert not numbers.stored(subject)


def test_labels_are_written_as_long_as_they_are(tmp_path):
    parts = [
        xr.Dataset(coords={"unit": ["a/0"]}),
        xr.Dataset(coords={"unit": ["content.ffn.0/10"]}),
    ]
    parts[0].to_netcdf(tmp_path / "a.nc")
    joined = xr.concat([xr.load_dataset(tmp_path / "a.nc"), parts[1]], "unit")
    write.write_dataset(joined, tmp_path / "b.nc")
    assert xr.load_dataset(tmp_path / "b.nc")["unit"].values.tolist() == ["a/0", "content.ffn.0/10"]
