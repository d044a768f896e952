"""Captured steps: a replay computes and changes what the call would have; all of it on a GPU."""

import pytest
import torch
from helpers.networks import needs_gpu
from helpers.recipes import assert_close, family, run

from placeformer.training.ensemble import WARM, Captured, Ensemble, train_ensemble
from placeformer.training.trainer import Trainer

pytestmark = needs_gpu


def test_every_call_acts_once_with_its_own_inputs_captured_or_not():
    total = torch.zeros(3, device="cuda")

    def add(sign, x):
        total.add_(sign * x)
        return (total * 2,)

    captured, want, kept = Captured(add), torch.zeros(3), []
    for call in range(WARM + 4):
        for sign in (1, -2):
            x = torch.full((3,), float(call))
            (found,) = captured(sign, x.cuda())
            want += sign * x
            kept.append((found, 2 * want))
    assert len(captured.graphs) == 2  # one for each sign
    for found, expected in kept:  # a later replay leaves what an earlier one returned alone
        torch.testing.assert_close(found.cpu(), expected)


def test_other_shapes_are_captured_apart():
    captured = Captured(lambda _, x: (x + 1,))
    for _ in range(WARM + 2):
        for n in (2, 5):
            (found,) = captured(None, torch.arange(n, device="cuda"))
            assert found.tolist() == list(range(1, n + 1))
    assert len(captured.graphs) == 2


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_members_end_as_they_would_alone_without_graphs(float64, optimizer):
    recipes = family(steps=80, optimizer=optimizer)
    ensemble, alone = Ensemble(recipes, "cuda"), [Trainer(r) for r in recipes]
    run([ensemble, *alone], 40)
    assert len(ensemble.descent.graphs) == 3  # nothing remembered yet; without and with fresh maps
    members = {member.recipe.name: member for member in ensemble.members}
    ensemble.evaluate(8, 64)
    assert ensemble.answers.graphs
    for trainer in alone:
        member = members[trainer.recipe.name]
        assert_close(member, trainer, 1e-6)
        trainer.evaluate(8, 64)
        assert member.history[0] == pytest.approx(trainer.history[0], abs=1e-6)


@pytest.mark.parametrize("training", [{}, {"precision": "bfloat16"}, {"compile": True}])
def test_it_stops_and_goes_on_with_new_graphs(tmp_path, training):
    recipes = family(2, steps=30, dropout=0.5, **training)
    train_ensemble(recipes, tmp_path, device="cuda", stop_at=15, progress=False)
    members = train_ensemble(recipes, tmp_path, device="cuda", progress=False)
    assert [member.step for member in members] == [30, 30]
    for member in members:
        assert all(w.isfinite().all() for w in member.model.state_dict().values())
        assert "ensemble of 2" in member.hardware
