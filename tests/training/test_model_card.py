"""Model cards: measured on the stored weights, complete or absent."""

import csv
import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from helpers.recipes import RECIPE, toml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

import placeformer as pf
from placeformer.models.memory import memory_errors
from placeformer.recording.record import record
from placeformer.spatial.place_cells import place_cells
from placeformer.training import model_card as card
from placeformer.training.model_card import learning_curve
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import train
from placeformer.zoo import folder as hub
from placeformer.zoo.files import CARD, CURVE, FILES, HISTORY

SIZE = {"n_walks": 8, "n_steps": 32, "progress": False}


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(toml(RECIPE))
    return file


@pytest.fixture(scope="module")
def trainer(recipe_file, tmp_path_factory):
    return train(Recipe.read(recipe_file), tmp_path_factory.mktemp("run"), progress=False)


def test_what_is_published_was_measured_on_the_stored_weights(trainer, recipe_file, tmp_path):
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    model = card.publish(trainer, tmp_path / "tiny", recipe=recipe_file, **SIZE)
    assert sorted(f.name for f in (tmp_path / "tiny").iterdir()) == sorted(FILES)
    assert [f.name for f in tmp_path.iterdir()] == ["tiny"]
    half = trainer.model.read_out.weight.half().float()
    torch.testing.assert_close(model.read_out.weight, half, rtol=0, atol=0)
    errors = memory_errors(model, n_walks=8, n_steps=32, familiar=False)
    got = model.info["results"]["working_error_novel"]
    assert got == pytest.approx(float(errors.error.sel(memory="working")), abs=1e-6)
    assert "8 walks of 32 steps, seed 0" in model.info["definitions"]["working_error_novel"]
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())


def test_the_card_says_what_made_it_in_the_hubs_format(trainer, recipe_file, tmp_path):
    card.publish(trainer, tmp_path / "tiny", recipe=recipe_file, **SIZE)
    text = (tmp_path / "tiny" / CARD).read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    results = json.loads((tmp_path / "tiny" / "config.json").read_text())["results"]
    metrics = {m["type"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics == {key: entry["value"] for key, entry in results.items()}
    assert front["library_name"] == "placeformer"
    share = results["place_cell_fraction_trained"]["value"]
    for phrase in (
        "NMDA_α, α = 10 (35.7 mM Mg²⁺)",
        "24 optimiser steps, 768 predictions",
        "2 from step 0, 4 from step 7",
        "The paper has side 11, n_letters 10, n_maps 32.",
        f"torch {torch.__version__}",
        'pf.load("tiny")',
        f"Place cells: {share:.1%} of the 32 feed-forward units",
    ):
        assert phrase in text
    stored = tomllib.loads((tmp_path / "tiny" / "recipe.toml").read_text())
    assert Recipe.from_dict(stored) == trainer.recipe


def test_the_shares_of_place_cells_are_those_of_place_cells(trainer):
    found = card.place_shares(trainer.model)
    walks = {"n_walks": 16, "n_steps": 512, "maps": [0], "progress": False}
    for kind, entry in zip(("trained", "novel"), found.values(), strict=True):
        recording = record(trainer.model, **walks, familiar=kind == "trained")
        share = float(place_cells(recording, n_shuffles=250)["is_place_cell"].mean())
        assert entry["value"] == pytest.approx(share, abs=1e-6)
        assert (
            f"accepts on the first {kind} map, 16 walks of 512 steps, seed 0, "
            "walks exchanged, as many shuffles as decisions need" in (entry["definition"])
        )


def test_the_hub_reads_the_head_of_every_card_as_it_was_meant(trainer, recipe_file, tmp_path):
    card.publish(trainer, tmp_path / "tiny", recipe=recipe_file, **SIZE)
    results = json.loads((tmp_path / "tiny" / "config.json").read_text())["results"]
    hub.save(trainer.model, tmp_path / "own: net #1", results=results)
    hub.save(trainer.model, tmp_path / "bare")
    for name, known in (("tiny", results), ("own: net #1", results), ("bare", {})):
        read = ModelCard.load(tmp_path / name / CARD)
        assert read.data.library_name == "placeformer" and read.data.license == "mit"
        assert "placeformer" in read.data.tags
        assert "it must not be used for statements about patients or medication" in read.text
        found = read.data.eval_results or []
        assert {r.metric_type: r.metric_value for r in found} == {
            key: entry["value"] for key, entry in known.items()
        }
        assert yaml.safe_load(read.data.to_yaml()) == read.data.to_dict()
        if known:
            assert read.data.model_name == name
            index = eval_results_to_model_index(name, found)
            assert index == read.data.to_dict()["model-index"]
            assert {r.task_type for r in found} == {"other"}
            assert {(r.dataset_type, r.dataset_name) for r in found} == {
                ("placeformer", "GridWorld")
            }
    assert "Nothing was measured" in (tmp_path / "bare" / CARD).read_text()


def test_the_curve_is_a_small_picture_on_the_card(trainer, recipe_file, tmp_path):
    card.publish(trainer, tmp_path / "tiny", recipe=recipe_file, **SIZE)
    picture = (tmp_path / "tiny" / CURVE).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and len(picture) < 2**16
    assert "](curve.png)" in (tmp_path / "tiny" / CARD).read_text()
    assert learning_curve(trainer.history) == picture
    with open(tmp_path / "tiny" / HISTORY, newline="") as stream:
        assert learning_curve(list(csv.DictReader(stream))) == picture
    changed = [row | {"working_error_trained": 0.5} for row in trainer.history]
    assert learning_curve(changed) != picture


def test_a_failure_leaves_nothing(trainer, recipe_file, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("stopped")

    monkeypatch.setattr(card, "memory_errors", fails)
    with pytest.raises(RuntimeError, match="stopped"):
        card.publish(trainer, tmp_path / "tiny", recipe=recipe_file, **SIZE)
    assert not list(tmp_path.iterdir())


def test_the_card_holds_the_measured_numbers(trainer):
    errors = card.measure(trainer.model, **SIZE)
    assert errors.error.dims == ("maps", "memory")
    trainer.model.info = {"dtype": "float16", "parameters": 1}
    text = card.text("net", trainer.model, errors, card.place_shares(trainer.model), trainer)
    one = errors.sel(maps="trained", memory="working")
    (row,) = (line for line in text.splitlines() if line.startswith("| working memory |"))
    assert f"| {float(one.error):.4f} (" in row and f"n = {int(one.n)})" in row
    assert np.isfinite(errors.interval).all()


SHIPPED = Path(pf.__file__).parents[2] / "zoo" / "models" / "mini-nmda-a10"


def stored_errors(results):
    """Memory errors as the results of a folder hold them."""
    maps, memories = ["trained", "novel"], ["working", "reference"]
    pattern = r"interval over walks (\S+) to (\S+), (\d+) predictions"
    entries = [[results[f"{memory}_error_{kind}"] for memory in memories] for kind in maps]
    found = [[re.search(pattern, e["definition"]).groups() for e in row] for row in entries]
    return xr.Dataset(
        {
            "error": (("maps", "memory"), [[e["value"] for e in row] for row in entries]),
            "n": (("maps", "memory"), [[int(f[2]) for f in row] for row in found]),
            "interval": (
                ("maps", "memory", "bound"),
                [[[float(bound) for bound in f[:2]] for f in row] for row in found],
            ),
        },
        {"maps": maps, "memory": memories},
        {"n_walks": 256, "n_steps": 2048, "seed": 0, "chance": 0.9},
    )


def test_the_shipped_card_comes_out_byte_for_byte():
    shipped, recipe = (SHIPPED / CARD).read_bytes(), Recipe.read(SHIPPED / "recipe.toml")
    model = pf.load(SHIPPED)
    results = json.loads((SHIPPED / "config.json").read_text())["results"]
    shares = {key: entry for key, entry in results.items() if key.startswith("place_cell")}
    run = SimpleNamespace(
        config=recipe.training, recipe=recipe, step=6000, seconds=0.29 * 3600, history=["a row"],
        hardware=re.search(r"Wall time 0.29 h on (.*)\.\n", shipped.decode()).group(1),
    )  # fmt: skip
    text = card.text(SHIPPED.name, model, stored_errors(results), shares, run)
    assert text.encode() == shipped


def test_the_recipe_is_written_from_the_training_by_default(trainer, tmp_path):
    pf.publish(trainer, tmp_path / "net", **SIZE)
    assert Recipe.read(tmp_path / "net" / "recipe.toml") == trainer.recipe


def test_what_was_fine_tuned_names_its_base(recipe_file, trainer, tmp_path, local_hub):
    pf.push(trainer.model, "alice/base")
    tuned = train(recipe_file, tmp_path / "run", init="alice/base", stop_at=6, progress=False)
    pf.publish(tuned, tmp_path / "net", recipe=recipe_file, **SIZE)
    read, commit = ModelCard.load(tmp_path / "net" / CARD), pf.load("alice/base").info["revision"]
    assert read.data.base_model == "alice/base"
    assert f"started from the weights of `hf:alice/base@{commit}`" in read.text
    assert "seed 0 for walks and e₀" in read.text
    text = (tmp_path / "net" / "recipe.toml").read_text()
    assert text.startswith(recipe_file.read_text())
    assert Recipe.read(tmp_path / "net" / "recipe.toml") == tuned.recipe
    assert "**Stopped at step 6 of the 24 of the recipe**" in read.text
    assert "6 optimiser steps" in read.text and "repeats the whole training" in read.text
    assert card.base_model({"source": "nmda-a10"}) is None  # it is in the text alone


def test_an_error_without_predictions_is_left_out(trainer):
    errors = card.measure(trainer.model, **SIZE)
    errors["n"].loc["novel", "reference"] = 0
    errors["error"].loc["novel", "reference"] = np.nan
    assert set(card.results(errors)) == {
        "working_error_trained", "reference_error_trained", "working_error_novel",
    }  # fmt: skip
    assert card.error_with_interval(errors.sel(maps="novel", memory="reference")).startswith("not")


def test_another_runs_recipe_and_other_networks_are_refused(trainer, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(toml(RECIPE | {"seed": 1}))
    with pytest.raises(ValueError, match=r"recipe must be the one that trainer was made with"):
        pf.publish(trainer, tmp_path / "net", recipe=other, **SIZE)
    with pytest.raises(TypeError, match=r"result of pf\.train, got Nav.*; pf\.save writes"):
        pf.publish(trainer.model, tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_a_recipe_is_kept_without_a_byte_order_mark(tmp_path):
    file = tmp_path / "marked.toml"
    file.write_text(toml(RECIPE), encoding="utf-8-sig")
    assert card.recipe_text(Recipe.read(file), file) == toml(RECIPE)
