"""α over training: a constant schedule changes no bit; windows are those of the recipe."""

import csv
import math

import pytest
import torch
from helpers.recipes import RECIPE, assert_bit_equal, assert_close, entries, run, weights

import placeformer as pf
from placeformer.training.ensemble import Ensemble
from placeformer.training.recipe import Recipe, members
from placeformer.training.trainer import HISTORY, Trainer, proceed, train

BLOCK = [[0, 10.0], [3, 0.1], [6, 10.0]]


def scheduled(alpha, name="tiny", seed=0, **training):
    return Recipe.from_dict(entries(name, seed, alpha=alpha, **training))


def alphas(model):
    return {layer.get_submodule("ffn.activation").alpha for layer in model.layers}


def test_a_constant_schedule_is_the_same_network_to_the_bit():
    plain, constant = Trainer(scheduled(10.0)), Trainer(scheduled([[0, 10.0], [4, 10.0]]))
    run([plain, constant], 8)
    assert_bit_equal(weights(plain), weights(constant))


def test_each_step_is_taken_at_the_alpha_of_its_window():
    trainer = Trainer(scheduled(BLOCK))
    by_hand = Trainer(scheduled(10.0))
    for step in range(8):
        for layer in by_hand.model.layers:
            layer.get_submodule("ffn.activation").alpha = 0.1 if 3 <= step < 6 else 10.0
        run([trainer, by_hand], 1)
        assert alphas(trainer.model) == {trainer.model.config.alpha}
        assert trainer.model.config.alpha == (0.1 if 3 <= step < 6 else 10.0)
    assert_bit_equal(weights(trainer), weights(by_hand))
    never = Trainer(scheduled(10.0))
    run([never], 8)
    assert not torch.equal(weights(never)["read_out.weight"], weights(trainer)["read_out.weight"])


@pytest.mark.parametrize("stop", [*(pytest.param(s, marks=pytest.mark.slow) for s in (3, 6)), 4])
def test_a_resumed_run_goes_on_within_its_window(tmp_path, stop):
    recipe = scheduled(BLOCK, steps=8, evaluate_every=2)
    train(recipe, tmp_path, stop_at=stop, progress=False)
    stopped = train(recipe, tmp_path, stop_at=stop, progress=False)  # no step, only loaded
    assert alphas(stopped.model) == {0.1 if 3 < stop <= 6 else 10.0} == {stopped.model.config.alpha}
    resumed = train(recipe, tmp_path, progress=False)
    whole = train(recipe, tmp_path / "whole", progress=False)
    assert_bit_equal(weights(whole), weights(resumed))
    with open(tmp_path / HISTORY, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["alpha"]) for row in rows] == [10.0, 0.1, 0.1, 10.0]


def test_members_of_an_ensemble_follow_their_own_schedules(float64, tmp_path):
    recipes = [
        scheduled(BLOCK, "a"),
        scheduled([[0, 0.0], [5, 2.0]], "b", 1),
        scheduled(1.0, "c", 2),
        Recipe.from_dict(entries("d", 3, "relu", None)),
    ]
    ensemble, alone = Ensemble(recipes), [Trainer(recipe) for recipe in recipes]
    run([ensemble, *alone], 8)
    by_name = {member.recipe.name: member for member in ensemble.members}
    for trainer in alone:
        assert_close(by_name[trainer.recipe.name], trainer, 1e-12)
    for stop in (4, 8):
        resumed = Ensemble(recipes)
        proceed(resumed, tmp_path, "all", stop_at=stop, progress=False)
    by_name = {member.recipe.name: member for member in resumed.members}
    for trainer in alone:
        assert_close(by_name[trainer.recipe.name], trainer, 1e-12)


def test_a_recipe_and_its_text_hold_the_schedule(tmp_path):
    recipe = scheduled(BLOCK)
    assert recipe.network.alpha == 10.0
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.to_toml())
    assert Recipe.read(file) == recipe and "alpha = [[0, 10.0], [3, 0.1], [6, 10.0]]" in (
        file.read_text()
    )
    assert "alpha" not in Recipe.from_dict(RECIPE).to_dict()["training"]


def test_a_network_is_stored_with_the_alpha_of_its_last_step(tmp_path):
    trainer = train(scheduled([[0, 10.0], [4, 0.1]], steps=6), tmp_path / "run", progress=False)
    pf.save(trainer.model, tmp_path / "network")
    assert pf.load(tmp_path / "network").config.alpha == 0.1


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        ([], "network.alpha must start at step 0"),
        ([[2, 1.0]], "network.alpha must start at step 0"),
        ([[0, 1.0], [0, 2.0]], "network.alpha must start at step 0 and rise"),
        ([[0, 1.0], [24, 2.0]], "before step 24"),
        ([[0, -1.0]], "network.alpha must be a list of pairs"),
        ([[0, math.nan]], "network.alpha must be a list of pairs"),
        ([[0, True]], "network.alpha must be a list of pairs"),
        ([0, 1.0], "network.alpha must be a list of pairs"),
        ([[0.5, 1.0]], "network.alpha must be a list of pairs"),
    ],
)
def test_a_wrong_schedule_is_refused_by_name(alpha, message):
    with pytest.raises(ValueError, match=message):
        scheduled(alpha)


def test_only_nmda_takes_a_schedule_and_only_in_the_network():
    tables = entries("a", 0, "relu", None)
    tables["network"]["alpha"] = BLOCK
    with pytest.raises(ValueError, match="alpha must be given for nmda and be None for others"):
        Recipe.from_dict(tables)
    with pytest.raises(ValueError, match=r"\[training\]: unknown keys \['alpha'\]"):
        Recipe.from_dict(RECIPE | {"training": RECIPE["training"] | {"alpha": BLOCK}})


def test_a_family_names_its_schedules():
    network = {k: v for k, v in RECIPE["network"].items() if k not in ("activation", "alpha")}
    table = {"prefix": "w-", "alphas": [10], "activations": [], "seeds": [0, 1]}
    found = members(
        {
            "family": table | {"schedules": {"blocked": BLOCK}},
            "world": {k: v for k, v in RECIPE["world"].items() if k != "seed"},
            "network": network,
            "training": RECIPE["training"],
        }
    )
    assert [m.name for m in found] == ["w-nmda-a10", "w-blocked", "w-nmda-a10-s1", "w-blocked-s1"]
    assert found[1].training.alpha == ((0, 10.0), (3, 0.1), (6, 10.0))
    assert found[0].training.alpha == ()
