"""Fine-tuning: the weights of another network are the start, and the recipe says which."""

import dataclasses
import tomllib

import pytest
import torch
from helpers.recipes import RECIPE, assert_bit_equal, recipe, weights
from torch import nn

import placeformer as pf
from placeformer.models.fingerprints import weights_sha256
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import Trainer, train


def tuning(**changes):
    """A recipe with the network's sizes of `RECIPE`, another seed, world and α."""
    tables = {
        "name": "tuned",
        "seed": 7,
        "world": RECIPE["world"] | {"seed": 3},
        "network": RECIPE["network"] | {"alpha": 0.5},
    }
    return Recipe.from_dict(RECIPE | tables | changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "first"
    trainer = Trainer(recipe())
    trainer.train_step()
    pf.save(trainer.model.eval(), folder)
    return folder


def test_the_weights_are_the_start_and_the_rest_is_the_recipes(base, tmp_path):
    started = train(tuning(), tmp_path, init=base, stop_at=0, progress=False)
    loaded = pf.load(base)
    assert_bit_equal(weights(started), loaded.state_dict())
    assert started.model.config.alpha == 0.5
    assert started.model.world.seed == 3
    assert started.recipe.init == {"source": "first", "weights_sha256": weights_sha256(loaded)}
    stepped = train(tuning(), tmp_path, init=loaded, stop_at=1, progress=False)
    assert not torch.equal(stepped.model.read_out.weight, loaded.read_out.weight)


def test_a_resumed_run_ends_bit_equal_and_needs_the_same_start(base, tmp_path):
    whole = weights(train(tuning(), tmp_path / "a", init=base, stop_at=8, progress=False))
    train(tuning(), tmp_path / "b", init=base, stop_at=3, progress=False)
    with pytest.raises(ValueError, match=r"differs in init\); pass the init"):
        train(tuning(), tmp_path / "b", progress=False)
    with pytest.raises(ValueError, match=r"differs in init\)"):
        other = Trainer(recipe()).model
        train(tuning(), tmp_path / "b", init=other, progress=False)
    resumed = train(tuning(), tmp_path / "b", init=base, stop_at=8, progress=False)
    assert_bit_equal(weights(resumed), whole)


def test_the_recipe_repeats_the_run(base, tmp_path, monkeypatch):
    ours = train(tuning(), tmp_path / "a", init=base, stop_at=2, progress=False)
    file = tmp_path / "recipe.toml"
    file.write_text(ours.recipe.to_toml())
    assert Recipe.read(file) == ours.recipe
    monkeypatch.chdir(base.parent)
    again = train(file, tmp_path / "b", stop_at=2, progress=False)
    assert_bit_equal(weights(again), weights(ours))


def test_a_network_of_the_zoo_is_recorded_by_its_name(tmp_path):
    file = tmp_path / "recipe.toml"
    text = pf.load("mini-gelu").info["folder"]
    entries = Recipe.read(f"{text}/recipe.toml")
    started = train(entries, tmp_path / "run", init="mini-nmda-a10", stop_at=0, progress=False)
    assert started.recipe.init["source"] == "mini-nmda-a10"
    file.write_text(started.recipe.to_toml())
    again = Trainer(Recipe.read(file))
    assert_bit_equal(weights(again), pf.load("mini-nmda-a10").state_dict())
    lied = dataclasses.replace(started.recipe, init=started.recipe.init | {"source": "mini-relu"})
    with pytest.raises(ValueError, match=r"must have the weights of the recipe's \[init\]"):
        Trainer(lied)


def test_a_snapshot_of_the_zoo_is_recorded_with_its_step():
    source = "consolidation-nmda-a10"
    entries = Recipe.read(f"{pf.load(source).info['folder']}/recipe.toml")
    early = pf.load(source, step=50)
    started = Trainer(dataclasses.replace(entries, seed=9), init=early)
    assert started.recipe.init == {
        "source": source, "step": 50, "weights_sha256": weights_sha256(early),
    }  # fmt: skip
    again = Recipe.from_dict(tomllib.loads(started.recipe.to_toml()))
    assert again == started.recipe
    assert_bit_equal(weights(Trainer(again)), early.state_dict())


def test_a_network_in_memory_is_recorded_as_such(base):
    changed = pf.load(base)
    with torch.no_grad():
        changed.read_out.bias += 1
    for model in (changed, Trainer(recipe()).model):
        started = Trainer(tuning(), init=model)
        assert started.recipe.init["source"] == "in memory"
        with pytest.raises(ValueError, match="was in memory, so it cannot be loaded"):
            Trainer(started.recipe)
        assert_bit_equal(weights(Trainer(started.recipe, init=model)), model.state_dict())


def test_other_sizes_are_refused_by_name(base):
    with pytest.raises(ValueError, match=r"sizes of the recipe's network") as error:
        Trainer(tuning(), init="mini-nmda-a10")
    assert "network.d_model = 16, got 64" in str(error.value)
    assert "path.weight: expected (5, 8, 8), got (5, 32, 32)" in str(error.value)
    deeper = tuning(network=RECIPE["network"] | {"n_layers": 3})
    with pytest.raises(ValueError, match=r"layers\.2\.\S+: expected .* got no tensor"):
        Trainer(deeper, init=base)


def test_what_is_no_network_to_start_from_is_refused(base):
    with pytest.raises(TypeError, match="init must be a NavigationTransformer.* got GRU"):
        Trainer(tuning(), init=nn.GRU(2, 2))
    broken = pf.load(base)
    with torch.no_grad():
        broken.read_out.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"finite weights, got NaN or infinity in read_out\.bias"):
        Trainer(tuning(), init=broken)
    with pytest.raises(ValueError, match="source must be a network of the zoo"):
        Trainer(tuning(), init="mini-nmda-a10000")


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"source": "nmda-a10"}, r"\[init\]: .* missing keys \['weights_sha256'\]"),
        ({"source": "a", "weights_sha256": "xyz"}, "weights_sha256 must be 64 digits"),
        ({"source": 3, "weights_sha256": "0" * 64}, r"init\.source must be text, got 3"),
        ("nmda-a10", r"\[init\] must be a table"),
    ],
)
def test_a_wrong_table_in_a_recipe_is_refused(init, message):
    with pytest.raises(ValueError, match=message):
        tuning(init=init)


def test_recipes_without_it_are_as_before():
    assert "init" not in recipe().to_dict()
    assert "init" not in recipe().to_toml()
