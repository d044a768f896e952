"""The zoo: names, order, pins, and what a source can be."""

import dataclasses
import hashlib
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from placeformer.models.activation import make_activation
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import CONFIG
from placeformer.zoo.registry import list_models, load, zoo_folder

NAMES = ["gelu", "nmda-a0", "nmda-a0.5", "nmda-a1", "nmda-a1-s1", "nmda-a10", "nmda-a10-s1"]
ROOT = Path(__file__).parents[2]


def tiny(alpha=10.0, seed=0):
    config = ModelConfig(4, 6, 1, 2, 3, 5, 3, 4, 3, 0.1, "nmda", alpha)
    return NavigationTransformer(config, GridWorld(3, 4, 2, 0)).init_weights(seed)


@pytest.fixture
def pin():
    spec = importlib.util.spec_from_file_location("pin", ROOT / "zoo" / "pin.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pin


@pytest.fixture
def models(tmp_path, monkeypatch, pin):
    """A zoo of tiny networks, pinned."""
    folder, pins = tmp_path / "models", tmp_path / "pins.json"
    for i, name in enumerate(reversed(NAMES)):
        hub.save(tiny(seed=i), folder / name)
    pin(folder, pins)
    monkeypatch.setattr(zoo, "zoo_folder", lambda: folder)
    monkeypatch.setattr(zoo, "PINS", pins)
    return folder


def test_names_are_sorted_by_alpha_then_seed(models):
    (models / "notes").mkdir()
    (models / "README.md").write_text("")
    assert list_models() == NAMES
    assert list_models("nmda-a1*") == ["nmda-a1", "nmda-a1-s1", "nmda-a10", "nmda-a10-s1"]
    assert list_models("none*") == []


def test_zoo_network_is_loaded_by_name(models):
    model = load("nmda-a10")
    assert isinstance(model, NavigationTransformer)
    assert not model.training
    assert model.config.alpha == 10
    assert (model.info["name"], model.info["source"]) == ("nmda-a10", "zoo")
    sums = (models / "nmda-a10" / "SHA256SUMS").read_bytes()
    assert hashlib.sha256(sums).hexdigest() == json.loads(zoo.PINS.read_text())["nmda-a10"]
    assert f"{model.info['sha256']}  model.safetensors\n" in sums.decode()


def test_zoo_comes_before_a_folder_of_the_same_name(models, tmp_path, monkeypatch):
    hub.save(tiny(alpha=2.0), tmp_path / "nmda-a10")
    monkeypatch.chdir(tmp_path)
    assert load("nmda-a10").config.alpha == 10
    assert load("./nmda-a10").config.alpha == 2
    assert load(Path("nmda-a10")).config.alpha == 2


@pytest.mark.parametrize("name", ["net", "a/net", "a/b/net"])
def test_folder_is_loaded_by_path(tmp_path, monkeypatch, name):
    hub.save(tiny(alpha=2.0), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for source in (name, Path(name), f"./{name}", str(tmp_path / name)):
        model = load(source)
        assert model.config.alpha == 2
        assert (model.info["name"], model.info["source"]) == ("net", os.fspath(source))


def test_altered_zoo_network_is_refused(models):
    hub.save(tiny(seed=99), models / "nmda-a10", overwrite=True)
    with pytest.raises(hub.FolderError, match=r"expected sha256 \w+ \(the pin of the zoo\)"):
        load("nmda-a10")


@pytest.mark.parametrize("look", [lambda: load("nmda-a10"), zoo.zoo_table])
def test_a_figure_that_was_altered_with_its_checksum_is_refused(models, look):
    hub.save(tiny(), models / "nmda-a10", card="Better than it is.", overwrite=True)
    with pytest.raises(hub.FolderError, match=r"SHA256SUMS: expected sha256 \w+ \(the pin of the"):
        look()


def test_zoo_network_without_a_pin_is_refused(models):
    hub.save(tiny(), models / "nmda-a7")
    with pytest.raises(hub.FolderError, match=r"pins\.json has no sha256 for it"):
        load("nmda-a7")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nmda-a1O", "did you mean nmda-a1"),
        ("nmda-10", "nmda-a10"),
        ("Gelu", "did you mean gelu"),
        ("zzz", r"placeformer.list_models\(\) lists the zoo \(7 networks\)"),
        ("", "got ''"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(models, name, part):
    with pytest.raises(ValueError, match=part):
        load(name)


@pytest.mark.parametrize("source", ["./none", "../none", "/no/such/folder", Path("none")])
def test_missing_folder_is_refused_as_a_folder(models, source):
    with pytest.raises(hub.FolderError, match=r"folder must be a folder with config\.json"):
        load(source)


def test_revision_is_for_hub_ids(models):
    with pytest.raises(
        ValueError, match="revision must be None unless source is a repository, got 'v1'"
    ):
        load("nmda-a10", revision="v1")


@pytest.mark.parametrize("device", ["warp", "cuda:99", 3.5])
def test_unusable_device_is_refused(models, device):
    with pytest.raises(ValueError, match="device must be available to PyTorch"):
        load("nmda-a10", device=device)


def test_a_device_without_values_is_refused(models):
    with pytest.raises(ValueError, match="device must be one that holds values"):
        load("nmda-a10", device="meta")


def test_device_may_be_an_object(models):
    assert load("gelu", device=torch.device("cpu")).read_out.weight.device.type == "cpu"


def test_pin_rewrites_the_file_and_checks_each_network(models, pin):
    before = zoo.PINS.read_bytes()
    assert list(json.loads(before)) == NAMES
    (models / "gelu" / "model.safetensors").write_bytes(b"")
    with pytest.raises(hub.FolderError, match="gelu"):
        pin(models, zoo.PINS)
    assert zoo.PINS.read_bytes() == before


def test_without_its_files_the_zoo_is_on_the_hub(tmp_path, monkeypatch):
    whole = zoo.zoo_table().set_index("name")
    monkeypatch.setattr(zoo, "zoo_folder", lambda: tmp_path / "none")
    assert list_models() == list(whole.index)
    table = zoo.zoo_table().set_index("name")
    assert set(table["location"]) == {"hub"}
    assert table.drop(columns="location").equals(whole.drop(columns="location"))


def test_zoo_is_found_installed_and_in_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "src" / "placeformer"
    package.mkdir(parents=True)
    monkeypatch.setattr(zoo, "__file__", str(package / "zoo" / "registry.py"))
    assert zoo_folder() == package / "zoo_data"  # neither: an empty zoo
    (tmp_path / "pyproject.toml").write_text("")
    assert zoo_folder() == tmp_path / "zoo" / "models"
    (package / "zoo_data").mkdir()
    assert zoo_folder() == package / "zoo_data"


def test_shipped_zoo_is_pinned_and_loads():
    """Whatever is in the zoo has a pin, every pin a network, and each loads."""
    assert list(json.loads(zoo.PINS.read_text())) == list_models()
    for name in list_models():
        assert load(name).info["name"] == name


@pytest.mark.parametrize(
    ("alias", "name"),
    [("silu", "nmda-a1"), ("silu-s1", "nmda-a1-s1"), ("mini-silu-s2", "mini-nmda-a1-s2")],
)
def test_silu_is_nmda_1_and_says_so(models, alias, name):
    assert (zoo.canonical(alias), zoo.alias_of(name)) == (name, alias)
    if name in NAMES:
        info = load(alias).info
        assert (info["name"], info["alias"]) == (name, alias)
        assert list_models(alias) == [name]
        assert name in list_models(f"{alias[:-1]}*")


@pytest.mark.parametrize("name", ["nmda-a10", "nmda-a1.5", "xnmda-a1", "silu2", "gelu"])
def test_other_names_have_no_alias(models, name):
    assert (zoo.canonical(name), zoo.alias_of(name)) == (name, "")
    if name in NAMES:
        assert load(name).info["alias"] is None


def test_silu_is_the_same_function():
    x = torch.linspace(-20, 20, 999)
    torch.testing.assert_close(make_activation("nmda", 1.0)(x), torch.nn.functional.silu(x))


def test_table_holds_what_load_finds(models):
    table = zoo.zoo_table()
    assert list(table) == list(zoo.COLUMNS)
    numbers = {name: kind for name, kind in zoo.COLUMNS.items() if kind != "str"}
    assert table[list(numbers)].dtypes.astype(str).to_dict() == numbers
    assert list(table["name"]) == NAMES
    for row in table.to_dict("records"):
        model = load(row["name"])
        assert row["alpha"] == model.config.alpha == row["mg_mM"] / 3.57
        assert (row["n_maps"], row["parameters"]) == (2, model.info["parameters"])
        assert row["map_seed"] == model.world.seed
        assert row["sha256"] == model.info["sha256"]
    assert set(table["alias"]) == {"", "silu", "silu-s1"}
    assert list(zoo.zoo_table("nmda-a1")["name"]) == ["nmda-a1"]


def test_table_leaves_out_what_is_not_known(models, tmp_path, pin):
    config = dataclasses.replace(tiny().config, activation="gelu", alpha=None)
    (tmp_path / "recipe.toml").write_text("seed = 7")
    results = {"working_error_novel": {"value": 0.5, "definition": "share wrong"}}
    model = NavigationTransformer(config).init_weights(0)
    hub.save(
        model, models / "gelu", results=results, recipe=tmp_path / "recipe.toml", overwrite=True
    )
    pin(models, zoo.PINS)
    row = zoo.zoo_table("gelu").iloc[0]
    assert (row.activation, row.seed, row.working_error_novel) == ("gelu", 7, 0.5)
    assert row[["alpha", "mg_mM", "n_maps", "map_seed", "reference_error_trained"]].isna().all()
    assert np.isnan(row.working_error_trained)
    assert zoo.zoo_table("nmda-a10").seed.isna().all()


def test_table_of_an_empty_zoo_has_its_columns(models):
    assert list(zoo.zoo_table("none")) == list(zoo.COLUMNS)


def test_table_refuses_a_configuration_that_is_not_as_it_should_be(models):
    (models / "gelu" / CONFIG).write_text("{}")
    with pytest.raises(hub.FolderError, match="gelu cannot be read"):
        zoo.zoo_table()


def test_table_of_the_shipped_zoo_is_complete():
    table = zoo.zoo_table()
    assert not table.drop(columns=["alpha", "mg_mM"]).isna().any(axis=None)
    assert (table.alpha.isna() == (table.activation != "nmda")).all()


@pytest.mark.parametrize("wrong", [None, 5, b"nmda-a10"])
def test_what_is_no_text_is_refused_by_name(wrong):
    for function in (list_models, zoo.zoo_table):
        with pytest.raises(TypeError, match="pattern must be text"):
            function(wrong)
    for function in (load, zoo.list_steps):
        with pytest.raises(TypeError, match="source must be a name of the zoo"):
            function(wrong)
    with pytest.raises(ValueError, match="revision must be a branch, tag or commit, got 5"):
        load("org/name", revision=5)
