"""Muon: the update of torch.optim.Muon, of one matrix or of a stack; recipes that ask for it."""

import gc
import itertools

import numpy as np
import pytest
import torch
from helpers.recipes import (
    RECIPE,
    assert_bit_equal,
    assert_close,
    family,
    muon,
    recipe,
    run,
    weights,
)

from placeformer.training.ensemble import Ensemble, train_ensemble
from placeformer.training.optimizers import Muon, orthogonalise
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import Trainer, train

SETTINGS = {"weight_decay": 0.1, "momentum": 0.9}


@pytest.fixture
def unrounded(monkeypatch, float64):
    """torch.optim.Muon as it is, but without rounding to bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x)


def test_a_stack_is_updated_as_torch_updates_each_of_its_matrices(unrounded):
    torch.manual_seed(0)
    starts = [torch.randn(3, *shape) for shape in ((8, 5), (5, 8), (6, 6))]
    stacks = [start.clone().requires_grad_() for start in starts]
    ours = Muon(stacks, 1e-2, **SETTINGS)
    alone = [[start[i].clone().requires_grad_() for start in starts] for i in range(3)]
    theirs = [
        torch.optim.Muon(own, 1e-2, adjust_lr_fn="match_rms_adamw", **SETTINGS) for own in alone
    ]
    for _ in range(20):
        for k, stack in enumerate(stacks):
            stack.grad = torch.randn_like(stack)
            for i in range(3):
                alone[i][k].grad = stack.grad[i].clone()
        for optimizer in (ours, *theirs):
            optimizer.step()
    for k, i in itertools.product(range(3), range(3)):
        torch.testing.assert_close(stacks[k][i], alone[i][k], rtol=0, atol=1e-14)
        assert (stacks[k][i] - starts[k][i]).abs().max() > 0.01


def test_singular_values_come_near_to_one():
    x = orthogonalise(torch.randn(2, 12, 7, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(x)
    assert values.min() > 0.6 and values.max() < 1.3
    assert not orthogonalise(torch.zeros(3, 3)).any()


def test_the_recipe_says_which_matrices_muon_updates():
    trainer = Trainer(muon(muon_matrices=["ffn.fc1"], muon_momentum=0.5))
    adamw, ours = trainer.optimizers
    named = dict(trainer.model.named_parameters())
    expected = [named[f"layers.{i}.ffn.fc1.weight"] for i in range(2)]
    (group,) = ours.param_groups
    assert [id(w) for w in group["params"]] == [id(w) for w in expected]
    assert (group["momentum"], group["weight_decay"]) == (0.5, 0.01)
    others = [w for g in adamw.param_groups for w in g["params"]]
    assert {id(w) for w in [*others, *expected]} == {id(w) for w in named.values()}
    assert len(others) + len(expected) == len(named)
    by_default = Trainer(muon()).optimizers[1].param_groups[0]["params"]
    assert {tuple(w.shape) for w in by_default} == {(16, 16)} and len(by_default) == 6


def test_adamw_has_all_weights_unless_the_recipe_asks_for_muon():
    (adamw,) = Trainer(recipe()).optimizers
    assert isinstance(adamw, torch.optim.AdamW)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": "sgd"}, r'training\.optimizer must be "adamw" or "muon", got \'sgd\''),
        (
            {"optimizer": "muon", "muon_momentum": 1},
            "muon_momentum must be a number of .* below 1, got 1",
        ),
        ({"muon_momentum": 0.9}, r'muon_momentum must be left out unless .* is "muon", got 0\.9'),
        (
            {"snapshots": [-1, 5]},
            r"training\.snapshots must be a list of .* at least 0",
        ),
        ({"snapshots": [5, 4]}, r"training\.snapshots must be ascending steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused(training, message):
    with pytest.raises(ValueError, match=message):
        recipe(**training)


@pytest.mark.parametrize("name", ["fc9", "ffn.norm", "c1"])
def test_muon_matrices_that_do_not_exist_are_refused(name):
    with pytest.raises(ValueError, match=rf"muon_matrices must name layers .* got \'{name}\'; the"):
        Trainer(muon(muon_matrices=[name]))


def test_settings_at_their_default_are_left_out_of_a_recipe():
    assert "optimizer" not in recipe().to_toml() and "snapshots" not in recipe().to_dict()
    text = muon(snapshots=[3]).to_toml()
    assert 'optimizer = "muon"' in text and "snapshots = [3]" in text
    assert Recipe.from_dict(muon(snapshots=[3]).to_dict()) == muon(snapshots=[3])
    assert Recipe.from_dict(RECIPE).training.optimizer == "adamw"


@pytest.mark.parametrize("stop", [1, 7])
def test_a_stopped_run_with_muon_ends_bit_equal(tmp_path, stop):
    whole = train(muon(), tmp_path / "whole", progress=False)
    train(muon(), tmp_path / "parts", stop_at=stop, progress=False)
    parts = train(muon(), tmp_path / "parts", progress=False)
    assert_bit_equal(weights(parts), weights(whole))
    rows = [[{**row, "seconds": 0} for row in trainer.history] for trainer in (parts, whole)]
    assert rows[0] == rows[1]


def test_muon_and_adamw_do_not_end_alike(tmp_path):
    a, b = (train(r, tmp_path / r.training.optimizer, stop_at=3, progress=False)
            for r in (muon(), muon(optimizer="adamw")))  # fmt: skip
    assert not torch.equal(weights(a)["layers.0.ffn.fc1.weight"],
                           weights(b)["layers.0.ffn.fc1.weight"])  # fmt: skip


def test_every_member_of_an_ensemble_with_muon_ends_as_it_would_alone(float64):
    recipes = family(optimizer="muon")
    ensemble, alone = Ensemble(recipes), [Trainer(r) for r in recipes]
    run([ensemble, *alone], 10)
    members = {member.recipe.name: member for member in ensemble.members}
    for trainer in alone:
        assert_close(members[trainer.recipe.name], trainer, 1e-11)


def test_a_member_with_muon_can_go_on_alone(float64):
    recipes = family(2, optimizer="muon")
    ensemble, alone = Ensemble(recipes), Trainer(recipes[1])
    run([ensemble, alone], 4)
    parted = Trainer(recipes[1])
    parted.load_state_dict(ensemble.state_dict()["members"][1])
    run([parted, alone], 2)
    assert_close(parted, alone, 1e-12)


def test_a_stopped_ensemble_with_muon_ends_bit_equal(tmp_path):
    recipes = family(2, steps=8, optimizer="muon")
    whole = train_ensemble(recipes, tmp_path / "whole", progress=False)
    train_ensemble(recipes, tmp_path / "parts", stop_at=4, progress=False)
    parts = train_ensemble(recipes, tmp_path / "parts", progress=False)
    for ours, theirs in zip(parts, whole, strict=True):
        assert_bit_equal(weights(ours), weights(theirs))


def test_a_run_keeps_no_more_tensors_as_it_goes_on():
    trainer = Trainer(recipe(evaluate_every=1000, steps=100))
    run([trainer], 10)

    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    before = tensors()
    run([trainer], 30)
    assert tensors() <= before
    assert len(trainer.recent) == 40


def test_the_history_has_the_mean_loss_and_the_counts_of_all_steps_since_the_row_before():
    trainer, losses = Trainer(recipe(evaluate_every=5, fresh_maps=[[0, 0.0]])), []
    for _ in range(2):
        losses.clear()
        for _ in range(5):
            trainer.train_step()
            losses.append(trainer.recent.loss[trainer.recent.n - 1].clone())
        total = trainer.recent.totals()
        trainer.evaluate(2, 16)
        assert trainer.history[-1]["loss"] == float(torch.stack(losses).mean())
        assert total[1] + total[3] == 5 * 4 * 8
        assert len(trainer.recent) == 0
    np.testing.assert_array_equal(trainer.recent.totals(), np.zeros(5))
