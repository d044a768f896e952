"""The check of the zoo finds every figure, file and pin that is not as it should be."""

import hashlib
import json
import re
import shutil
from contextlib import suppress

import pytest
from helpers.recipes import RECIPE, toml
from helpers.scripts import script

from placeformer.training import model_card as card
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import train
from placeformer.zoo import folder as hub
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import CONFIG, WEIGHTS
from placeformer.zoo.files import CARD, HISTORY, SUMS

check = script("check").check


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A zoo of one network, trained and published."""
    folder = tmp_path_factory.mktemp("zoo")
    recipe = RECIPE | {"training": RECIPE["training"] | {"evaluate_every": 24}}
    (folder / "tiny.toml").write_text(toml(recipe))
    trainer = train(Recipe.from_dict(recipe), folder / "run", progress=False)
    small = {"n_walks": 8, "n_steps": 32, "progress": False}
    card.publish(trainer, folder / "models" / "tiny", recipe=folder / "tiny.toml", **small)
    script("pin").pin(folder / "models", folder / "pins.json")
    return folder


@pytest.fixture
def models(made, tmp_path):
    """A copy of it to tamper with, and its pins."""
    shutil.copytree(made / "models", tmp_path / "models")
    for name in ("pins.json", "table.json"):
        shutil.copy(made / name, tmp_path)
    return tmp_path / "models", tmp_path / "pins.json"


def edit_config(models, change):
    file = models[0] / "tiny" / CONFIG
    entries = json.loads(file.read_text())
    change(entries)
    file.write_text(json.dumps(entries))
    repin(models)


def repin(models):
    """Write checksums and pins that fit, as whoever changes a figure could."""
    folder, pins = models
    hub.write_sums(folder / "tiny")
    digest = hashlib.sha256((folder / "tiny" / SUMS).read_bytes()).hexdigest()
    pins.write_text(json.dumps({"tiny": digest}))
    with suppress(hub.FolderError):
        rows = {"tiny": zoo.table_row(folder / "tiny", digest)}
        pins.with_name(zoo.TABLE).write_text(json.dumps(rows))


def test_a_zoo_as_it_says_passes(models):
    assert check(*models) == []


@pytest.mark.parametrize(
    "key", ["working_error_trained", "reference_error_novel", "place_cell_fraction_novel"]
)
def test_a_tampered_figure_is_found(models, key):
    def change(entries):
        entries["results"][key]["value"] = round(entries["results"][key]["value"] + 1e-6, 6)

    edit_config(models, change)
    shown, problem = check(*models)
    assert shown == "tiny: README.md: its metrics are not those of config.json"
    assert problem.startswith(f"tiny: results.{key}: recomputed ")
    assert check(*models, sample=0) == [shown]


def test_a_tampered_interval_is_found(models):
    def change(entries):
        entry = entries["results"]["working_error_novel"]
        changed = re.sub(r"(interval over walks \[?)0\.(\d)", r"\g<1>0.0\2", entry["definition"])
        assert changed != entry["definition"]
        entry["definition"] = changed

    edit_config(models, change)
    (problem,) = check(*models)
    assert problem.startswith("tiny: results.working_error_novel: recomputed ")


def test_a_figure_too_many_or_missing_is_found(models):
    def change(entries):
        results = entries["results"]
        results["place_cells"] = results.pop("working_error_novel")

    edit_config(models, change)
    assert [p.split(":")[1] for p in check(*models)] == [
        " README.md",
        " results.working_error_novel",
        " results.place_cells",
    ]


def test_other_weights_are_found(models):
    folder = models[0] / "tiny"
    model = hub.read(folder).init_weights(9)
    results = json.loads((folder / CONFIG).read_text())["results"]
    hub.save(
        model, folder, results=results, recipe=folder / "recipe.toml", history=folder / HISTORY,
        overwrite=True,
    )  # fmt: skip
    pinned, table, *figures = check(*models)
    assert pinned == "tiny: SHA256SUMS is not as pins.json says"
    assert table.startswith("tiny: table.json: not the figures of config.json")
    assert figures and all(figure.startswith("tiny: results.") for figure in figures)


def test_a_pin_without_a_network_is_found(models):
    models[1].write_text(json.dumps(json.loads(models[1].read_text()) | {"gone": "0" * 64}))
    assert check(*models) == ["gone: SHA256SUMS is not as pins.json says"]


@pytest.mark.parametrize("file", [HISTORY, "recipe.toml", CARD, WEIGHTS])
def test_a_missing_file_is_found(models, file):
    (models[0] / "tiny" / file).unlink()
    assert any(file in problem for problem in check(*models))


def test_the_curve_must_reach_the_end_and_the_recipe_be_the_networks(models):
    history, recipe = (models[0] / "tiny" / name for name in (HISTORY, "recipe.toml"))
    history.write_text(history.read_text().replace("\n24,", "\n23,"))
    recipe.write_text(recipe.read_text().replace("alpha = 10.0", "alpha = 5.0"))
    (changed,) = check(*models, sample=0)
    assert "recipe.toml: expected sha256" in changed and "history.csv: expected" in changed
    repin(models)
    assert check(*models, sample=0) == [
        "tiny: recipe.toml: not the recipe of this network",
        "tiny: history.csv: not the course of 24 steps",
    ]


def test_weights_too_large_to_ship_are_found(models):
    (problem,) = check(*models, sample=0, largest=1000)
    assert problem.endswith("bytes together, more than 1000")


def test_the_sample_is_drawn_by_lot_from_the_seed(models, monkeypatch):
    folder, pins = models
    for i in range(1, 8):
        shutil.copytree(folder / "tiny", folder / f"tiny{i}")
    module, drawn = script("check"), {}
    for seed in (0, 0, 1):
        measured = []
        monkeypatch.setattr(module, "recompute", lambda f, seen=measured: seen.append(f.name) or [])
        module.check(folder, pins, sample=3, seed=seed)
        assert len(set(measured)) == 3
        assert drawn.setdefault(seed, measured) == measured
    assert drawn[0] != drawn[1]


def test_a_config_that_cannot_be_read_is_a_problem(models):
    edit_config(models, lambda entries: entries["network"].pop("alpha"))
    assert any('missing key "alpha"' in problem for problem in check(*models))
