"""Networks of the zoo that are not in the installed package: published, pinned and downloaded."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from helpers.scripts import script

import placeformer as pf
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo

NAME = "mini-nmda-a10-s1"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def light(local_hub, tmp_path, monkeypatch):
    """A package with one network of the zoo, and another one that Alice has published."""
    models = zoo.zoo_folder()
    published = script("publish").publish(models / NAME, "alice")
    assert "/alice/mini-nmda-a10-s1/commit/" in published
    shutil.copytree(models / "mini-nmda-a10", tmp_path / "package" / "mini-nmda-a10")
    monkeypatch.setattr(zoo, "zoo_folder", lambda: tmp_path / "package")
    monkeypatch.setenv(zoo.ORGANISATION, "alice")
    return local_hub


def test_it_is_downloaded_by_its_name_and_cached(light):
    whole = hub.read(ROOT / "zoo" / "models" / NAME)
    model = pf.load(NAME)
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in model.state_dict().items())
    assert model.info["name"] == NAME and model.info["source"].startswith("hf:alice/")
    assert model.info["results"] == whole.info["results"]
    light.requests.clear()
    assert pf.load(NAME, local_files_only=True).info["sha256"] == whole.info["sha256"]
    assert not light.requests
    assert pf.load("mini-nmda-a10").info["source"] == "zoo"


def test_another_organisation_can_be_named(light, monkeypatch):
    monkeypatch.delenv(zoo.ORGANISATION)
    with pytest.raises(ValueError, match="placeformer/mini-nmda-a10-s1"):
        pf.load(NAME)
    assert pf.load(NAME, organisation="alice").config.alpha == 10


def test_other_files_than_the_pinned_ones_are_refused(light):
    other = pf.load("mini-nmda-a10")
    pf.push(other, f"alice/{NAME}")
    with pytest.raises(ValueError, match="the pin of the zoo"):
        pf.load(NAME)


def test_offline_the_error_says_what_is_missing(light):
    with pytest.raises(ValueError, match=f"alice/{NAME}.*cache"):
        pf.load(NAME, local_files_only=True)


def test_the_table_has_all_networks_and_says_where_they_are(light):
    table = pf.zoo_table("mini-nmda-a10*").set_index("name")
    assert table["location"].to_dict() == {
        "mini-nmda-a10": "package", NAME: "hub", "mini-nmda-a10-s2": "hub",
    }  # fmt: skip
    results = json.loads((ROOT / "zoo" / "models" / NAME / "config.json").read_text())["results"]
    expected = results["reference_error_trained"]["value"]
    assert table.loc[NAME, "reference_error_trained"] == expected
    assert NAME in pf.list_models()


def test_publishing_again_changes_nothing(light):
    commits = len(light.repositories[f"alice/{NAME}"].commits)
    assert script("publish").publish(ROOT / "zoo" / "models" / NAME, "alice") == ""
    assert len(light.repositories[f"alice/{NAME}"].commits) == commits


def test_the_wheel_holds_seed_0_of_the_families_and_is_small():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    models = [Path(source) for source in included if source.startswith("zoo/models/")]
    expected = [n for n in pf.list_models() if not n.endswith(("-s1", "-s2", "-paper"))]
    assert [path.name for path in models] == sorted(expected)
    files = [f for source in included for f in (ROOT / source).rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 30_000_000
