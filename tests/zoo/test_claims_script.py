"""The script that measures the family, and the pages made of what it measured."""

import importlib.util
import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from helpers import measured
from helpers.networks import small_network
from helpers.scripts import ZOO, script

import placeformer as pf
from placeformer.evaluation.specificity import specificity_verdict

mpl.use("agg")
DOCS = ZOO.parent / "docs"
SPECIFICITY = ZOO / "results" / "specificity.nc"
claims = script("claims")
HISTORY = (
    "step,loss,working_error_trained,reference_error_trained,working_error_novel,"
    "reference_error_novel\n1,2,0.5,0.9,0.6,0.91\n2,1,0.1,0.4,0.2,0.92\n"
)


def zoo_pages():
    spec = importlib.util.spec_from_file_location("zoo_pages", DOCS / "_ext" / "zoo_pages.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "_ext"))  # as docs/conf.py does it
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A zoo of one network."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "history.csv").write_text(HISTORY)
    network = small_network(activation="gelu", alpha=None)
    pf.save(network, folder / "tiny", history=folder / "history.csv")
    return folder


@pytest.fixture
def calls(monkeypatch):
    """Networks that were measured, and rows that look like it."""
    found = []

    def profile(folder, **settings):
        found.append(folder.name)
        data = measured.networks(seeds=1).drop_vars(["history", "step"]).isel(model=[0])
        named = data.assign_coords(
            name=("model", [folder.name]), sha256=("model", [claims.sha256(folder)])
        )
        kept = {key: value for key, value in settings.items() if key != "progress"}
        return named.assign_attrs(kept)

    monkeypatch.setattr(pf, "profile_networks", profile)
    return found


@pytest.fixture
def measure(models, monkeypatch, tmp_path):
    monkeypatch.setattr(claims, "read_recipes", lambda file: {"tiny": "", "not-yet-there": ""})
    recipes, file = [Path("tiny.toml")], tmp_path / "results" / "tiny.nc"
    return lambda **settings: claims.measure(recipes, file, models, **settings)


def test_only_what_is_missing_is_measured(measure, calls):
    first = measure()
    assert calls == ["tiny"]
    assert first["name"].values.tolist() == ["tiny"]
    xr.testing.assert_equal(measure(), first)
    assert calls == ["tiny"]
    measure(seed=1)
    assert calls == ["tiny", "tiny"]


def test_other_weights_are_measured_again(measure, calls, monkeypatch):
    measure()
    monkeypatch.setattr(claims, "sha256", lambda folder: "other")
    measure()
    assert calls == ["tiny", "tiny"]


def test_names_are_as_long_as_they_are(tmp_path):
    rows = [xr.Dataset(coords={"name": ("model", [name])}) for name in ("gelu", "leaky_relu")]
    claims.write(rows[0], tmp_path / "a.nc")
    joined = xr.concat([xr.load_dataset(tmp_path / "a.nc"), rows[1]], "model")
    claims.write(joined, tmp_path / "b.nc")
    assert xr.load_dataset(tmp_path / "b.nc")["name"].values.tolist() == ["gelu", "leaky_relu"]


def test_the_course_of_the_training_is_that_of_the_file(models):
    found = claims.history(models / "tiny" / "history.csv")
    assert found["step"].values.tolist() == [1, 2]
    course = found["history"].isel(model=0)
    assert course.sel(maps="novel", memory="working").values.tolist() == [0.6, 0.2]
    assert course.sel(maps="trained", memory="reference").values.tolist() == [0.9, 0.4]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    networks = measured.networks()
    dosed, few = (networks["alpha"].isin(doses) for doses in ([0.0, 0.1, 1.0, 10.0], [0.1, 10.0]))
    networks.to_netcdf(folder / "mini.nc")
    networks.isel(model=dosed.values).to_netcdf(folder / "nmda.nc")
    muon = networks.isel(model=dosed.values)
    muon["error"] = muon["error"] - 0.1 * (1 + muon["seed"])
    muon.to_netcdf(folder / "muon.nc")
    networks.isel(model=(few & (networks["seed"] == 0)).values).to_netcdf(folder / "paper.nc")
    (folder / "nmda-a10-muon-history.csv").write_text(HISTORY)
    measured.doses().to_netcdf(folder / "nmda-a10-washout.nc")
    measured.lesions().to_netcdf(folder / "nmda-a10-lesions.nc")
    measured.place_cell_lesions().to_netcdf(folder / "place-cell-lesions.nc")
    if SPECIFICITY.is_file():
        shutil.copy(SPECIFICITY, folder)
    zoo_pages().write_all(folder / "generated", folder)
    return folder / "generated"


def test_pages_say_what_was_measured(pages):
    verdicts = (pages / "claims-verdicts.txt").read_text()
    assert verdicts.count("**shown**") == 7 + 2 * 4  # with four doses: claims 1, 4, 5 and 7
    assert verdicts.count("**not shown**") == 2  # claim 6: 12 networks are few for it
    assert verdicts.count("**not tested**") == 2 * 2 + 5  # too few doses, networks and activations
    assert verdicts.count("preliminary") == 2  # two networks of one seed
    errors = (pages / "mg-mini.txt").read_text()
    assert "45 networks, 33 of them with NMDA_α; seeds 0, 1, 2." in errors
    assert "preliminary" not in errors
    assert errors.count("**shown**") == 4 + 12  # verdicts, and the tests of claims 1 to 4 and 7
    specificity = (pages / "claims-specificity.txt").read_text()
    assert "decoding of position" in specificity
    assert "0.1 (0.05 to 0.15)" in specificity


def test_optimizers_are_compared_over_pairs_of_seeds(pages):
    rows = (pages / "claims-optimizers.txt").read_text().split("   * - ")[2:]
    cells = [[cell.strip() for cell in row.split("\n     - ")] for row in rows]
    assert [row[:2] for row in cells] == [[f"NMDA, α = {a}", "3"] for a in ("0", "0.1", "1", "10")]
    for row in cells:
        # -0.1, -0.2 and -0.3: -0.2 ± t(2) · 0.1 / √3
        assert row[4::3] == ["-0.2 (-0.448 to 0.0484)"] * 3
        assert abs(float(row[2]) - float(row[3]) - 0.2) < 0.0011


def test_the_page_says_where_the_training_with_muon_was_stopped(pages):
    assert "stopped at step 2 of 45,000" in (pages / "claims-optimizer-courses.txt").read_text()


@pytest.mark.skipif(not SPECIFICITY.is_file(), reason="python zoo/specificity.py was not run")
def test_the_verdict_on_specificity_is_that_of_the_rules(pages):
    result = xr.load_dataset(SPECIFICITY)
    word = specificity_verdict(result, measure="working", level=0.25)
    assert f"specifically is **{word}**" in (pages / "specificity-verdict.txt").read_text()
    costs = (pages / "specificity-costs.txt").read_text()
    for name in result["perturbation"].values:
        assert str(name) in costs
    differences = (pages / "specificity-differences.txt").read_text()
    n = 4 * (result.sizes["measure"] - 1)
    assert differences.count("shown") + differences.count("opposite") == n
    assert (pages / "specificity.svg").is_file()


def test_lesions_of_one_map_are_told_one_by_one_and_together(pages):
    rows = [
        [cell.strip() for cell in row.split("\n     - ")]
        for row in (pages / "claims-one-map.txt").read_text().split("   * - ")[2:]
    ]
    assert len(rows) == 2 * (6 + 1)
    assert rows[7][:6] == ["``net-a10-s0``, 1", "70", "0.050", "0.490", "0.300", "0.300"]
    together = rows[13]
    assert together[:6] == ["**α = 10,** ``ffn.1``", "70", "0.050", "0.500", "0.300", "0.300"]
    # 0.2 ± t(2) · 0.01 / √3, over seeds
    assert together[6].endswith("**shown**") and together[6].startswith("0.2 (0.175 to 0.22")
    assert together[7] == "**0.05**"
    # The errors of the sets are on a line of slope 0.1: at their change, place cells cost nothing.
    assert abs(float(together[9].split(" ")[0])) < 0.005
    assert (rows[6][7], rows[6][6].split(": ")[1]) == ("**1**", "**opposite**")


def test_place_cells_of_a_map_are_lesioned_on_it(monkeypatch):
    def decide(recording, **_):
        assert (recording["map"] == 1).all() and set(recording["layer"].values) == {"ffn.1"}
        return xr.Dataset({"is_place_cell": ("unit", np.arange(recording.sizes["unit"]) < 2)})

    monkeypatch.setattr(pf, "place_cells", decide)
    walks = {"n_walks": 4, "n_steps": 64, "repeats": 2, "seed": 0, "caliper": 9.0}
    model = small_network(activation="gelu", alpha=None)
    found = claims.lesion_place_cells(model, "ffn.1", 1, **walks)
    assert found.attrs["maps_walked"] == "1" and found.attrs["layers"] == "ffn.1"
    assert int(found["n_place_cells"]) == int(found["n_units"]) == 2
    assert found["error"].dims == ("memory", "selection", "repeat")
    assert found["control"].values.tolist() == ["random", "stratified"]


def test_pages_have_their_figures(pages):
    text = "".join(file.read_text() for file in pages.glob("*.txt"))
    figures = {file.name for file in pages.glob("*.svg")}
    drawn = {
        f"mg-{name}-{what}.svg"
        for name in ("mini", "muon", "nmda", "paper")
        for what in ("activations", "training", "hill")
    }
    few = {"mg-muon-hill.svg", "mg-nmda-hill.svg", "mg-paper-hill.svg"}  # four and two doses
    few |= {"specificity.svg"}  # which is not always measured
    assert figures - few == {"comparison.svg", "optimizer-courses.svg"} | drawn - few
    assert all(f"/generated/{name}" in text for name in figures)


def test_one_seed_is_called_preliminary(pages):
    first_line = (pages / "mg-paper.txt").read_text().splitlines()[0]
    assert first_line.endswith("seed 0. **One seed: everything here is preliminary.**")


@pytest.mark.parametrize("name", claims.SETS)
def test_the_stored_results_are_of_networks_and_settings_that_are_known(name):
    file = ZOO / "results" / f"{name}.nc"
    stored = xr.load_dataset(file)
    members = {network for recipes in claims.SETS[name] for network in claims.read_recipes(recipes)}
    known = members & set(pf.list_models())  # those that have been trained
    assert set(stored["name"].values.tolist()) == known
    assert {key: stored.attrs[key] for key in claims.SETTINGS} == claims.SETTINGS
    assert stored.sizes["model"] == len(known)
    assert Path(file).stat().st_size < 2_000_000
