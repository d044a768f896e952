"""Ensembles: every member ends as it would alone; they resume, and publish like any other run."""

import csv

import pytest
import torch
from helpers.recipes import (
    KINDS,
    assert_bit_equal,
    assert_close,
    entries,
    family,
    one,
    recipe,
    run,
    toml,
    weights,
)
from torch.utils._python_dispatch import TorchDispatchMode

import placeformer as pf
from placeformer import cli
from placeformer.models.memory import memory_errors
from placeformer.training import model_card as card
from placeformer.training import sweep
from placeformer.training.ensemble import Ensemble, clip_each, train_ensemble
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import CHECKPOINT, HISTORY, Trainer, train


def test_every_member_ends_as_it_would_alone(float64):
    # Through new walks (steps 3 and 8, there with more maps and with fresh ones).
    recipes = family()
    ensemble, alone = Ensemble(recipes), [Trainer(r) for r in recipes]
    run([ensemble, *alone], 10)
    steps = {state["step"].dtype for state in ensemble.optimizers[0].state.values()}
    assert steps == {torch.float32}  # what fused AdamW reads on a GPU, whatever the weights are
    members = {member.recipe.name: member for member in ensemble.members}
    ensemble.evaluate(8, 32)
    for trainer in alone:
        member = members[trainer.recipe.name]
        assert_close(member, trainer, 1e-12)
        trainer.evaluate(8, 32)
        assert member.history[0] == pytest.approx(trainer.history[0], abs=1e-12)
    first = weights(alone[0])["layers.0.ffn.fc1.weight"]
    for trainer in alone[1:]:  # they are not all the same
        assert not torch.allclose(weights(trainer)["layers.0.ffn.fc1.weight"], first)


def test_an_ensemble_of_one_in_float32_ends_as_its_member_alone():
    ensemble, alone = Ensemble([one("a")]), Trainer(one("a"))
    run([ensemble, alone], 8)
    assert_close(ensemble.members[0], alone, 1e-5)


def test_a_member_that_fails_leaves_the_others_alone(float64):
    recipes = [one("a", 0), one("b", 1), one("c", 2, "relu", None)]
    ensemble, alone = Ensemble(recipes), Trainer(recipes[1])
    with torch.no_grad():
        ensemble.members[0].model.read_out.bias.fill_(torch.nan)
    run([ensemble, alone], 3)
    assert not ensemble.members[0].model.read_out.weight.isfinite().any()
    assert_close(ensemble.members[1], alone, 1e-12)


def test_every_gradient_is_clipped_alone():
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 5), (3, 6))
    stacked = [torch.randn(shape, generator=generator) for shape in shapes]
    for gradient in stacked:
        gradient *= torch.tensor([0.01, 1.0, 100.0]).view(-1, *(1,) * (gradient.ndim - 1))
    expected = []
    for i in range(3):
        parts = [torch.nn.Parameter(g[i].clone()) for g in stacked]
        for part in parts:
            part.grad = part.data.clone()
        torch.nn.utils.clip_grad_norm_(parts, 0.5)
        expected.append([part.grad for part in parts])
    clip_each(stacked, 0.5)
    for gradient, parts in zip(stacked, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(gradient, torch.stack(parts))


class Waits(TorchDispatchMode):
    """Operations that make the host wait for the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "local_scalar" in str(function) or "nonzero" in str(function):
            self.found.append(str(function))
        return function(*args, **kwargs or {})


def test_a_step_never_waits_for_the_device():
    ensemble = Ensemble(family(2))
    with Waits() as waits:
        run([ensemble], 2)
    assert waits.found == []
    with Waits() as waits:
        float(ensemble.recent.loss[0, 0])
    assert waits.found


def test_dropout_and_bfloat16_train():
    ensemble = Ensemble([one(n, dropout=0.5, precision="bfloat16") for n in "ab"])
    run([ensemble], 2)
    a, b = (weights(member) for member in ensemble.members)
    assert all(w.isfinite().all() and w.dtype == torch.float32 for w in a.values())
    assert not torch.equal(a["layers.0.ffn.fc1.weight"], b["layers.0.ffn.fc1.weight"])  # own masks


def test_evaluation_is_that_of_each_network_in_eval_mode():
    ensemble = Ensemble([one("a", dropout=0.5), one("b", 3, "tanh", None, dropout=0.5)])
    run([ensemble], 1)
    ensemble.evaluate(8, 32)
    assert ensemble.network.training
    for member in ensemble.members:
        for kind in ("trained", "novel"):
            errors = memory_errors(
                member.model,
                n_walks=8,
                n_steps=32,
                seed=1,
                familiar=kind == "trained",
                where="every_step",
            ).error
            for memory in errors.memory.values:
                got = member.history[0][f"{memory}_error_{kind}"]
                assert got == pytest.approx(float(errors.sel(memory=memory)), abs=1e-12)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train_ensemble(family(2, steps=8), folder, progress=False), folder


@pytest.mark.parametrize("stop", [pytest.param(4, marks=pytest.mark.slow), 6])
def test_a_stopped_ensemble_ends_bit_equal(uninterrupted, tmp_path, stop):
    train_ensemble(family(2, steps=8), tmp_path, stop_at=stop, progress=False)
    resumed = train_ensemble(family(2, steps=8)[::-1], tmp_path, progress=False)[::-1]
    for ours, theirs in zip(resumed, uninterrupted[0], strict=True):
        assert ours.recipe == theirs.recipe
        assert not ours.model.training
        assert_bit_equal(weights(ours), weights(theirs))
        rows = []
        for folder in (tmp_path, uninterrupted[1]):
            with open(folder / ours.recipe.name / HISTORY, newline="") as stream:
                rows.append([{**row, "seconds": ""} for row in csv.DictReader(stream)])
        assert rows[0] == rows[1]
        assert [row["step"] for row in rows[0]] == ["6", "8"]


def test_time_that_is_up_stops_it_with_a_checkpoint(uninterrupted, tmp_path):
    recipes = family(2, steps=8, checkpoint_every=100)
    members = train_ensemble(recipes, tmp_path, minutes=0, progress=False)
    assert {member.step for member in members} == {1}
    members = train_ensemble(recipes, tmp_path, minutes=60, progress=False)
    for ours, theirs in zip(members, uninterrupted[0], strict=True):
        assert_bit_equal(weights(ours), weights(theirs))


def test_a_member_can_go_on_alone(float64):
    ensemble, alone = Ensemble([one("a"), one("b", 1)]), Trainer(one("b", 1))
    run([ensemble, alone], 4)
    apart = Trainer(one("b", 1))
    apart.load_state_dict(ensemble.state_dict()["members"][1])
    run([apart, alone], 2)
    assert_close(apart, alone, 1e-12)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (one("b", steps=30), r"training\.steps must be the same .* 24 in a and 30 in b"),
        (one("b", maps=[[0, 2]]), r"training\.maps must be the same"),
        (recipe(), r"network\.dropout must be the same in an ensemble, got 0\.0 in a and 0\.1 in"),
        (one("a", 1), r"each with a different name, got \['a', 'a'\]"),
    ],
)
def test_recipes_that_do_not_go_together_are_refused_by_name(other, message):
    with pytest.raises(ValueError, match=message):
        Ensemble([one("a"), other])


def test_no_recipe_is_refused():
    with pytest.raises(ValueError, match=r"recipes must hold at least one"):
        Ensemble([])


def test_another_ensembles_checkpoint_is_refused(tmp_path):
    train_ensemble([one("a"), one("b")], tmp_path / "two", stop_at=1, progress=False)
    with pytest.raises(ValueError, match=r"of an ensemble of a, got one of a, b"):
        train_ensemble([one("a")], tmp_path / "two", progress=False)
    with pytest.raises(ValueError, match=r"another recipe \(differs in seed, world\)"):
        train_ensemble([one("a"), one("b", 1)], tmp_path / "two", progress=False)
    train(one("a"), tmp_path / "one", stop_at=1, progress=False)
    with pytest.raises(ValueError, match=r"of an ensemble of a, got one of a;"):
        train_ensemble([one("a")], tmp_path / "one", progress=False)


def spoil(monkeypatch, names, after=7):
    """Let the weights of some members become NaN after this many steps."""
    step = Ensemble.train_step

    def train_step(ensemble):
        step(ensemble)
        for member in ensemble.members:
            if ensemble.step == after and member.recipe.name in names:
                with torch.no_grad():
                    member.model.norm.bias[0] = float("nan")

    monkeypatch.setattr(Ensemble, "train_step", train_step)


def test_a_member_that_diverges_is_left_out_and_the_others_go_on(tmp_path, monkeypatch):
    recipes = [one(name, seed, snapshots=[10]) for seed, name in enumerate("abc")]
    whole = train_ensemble(recipes, tmp_path / "whole", progress=False)
    spoil(monkeypatch, ["b"])
    with pytest.warns(RuntimeWarning, match="b has diverged: .* after step 7"):
        train_ensemble(recipes, tmp_path / "run", stop_at=12, progress=False)
    trained = train_ensemble(recipes, tmp_path / "run", progress=False)  # from the checkpoint
    assert [trainer.diverged for trainer in trained] == [None, 7, None]
    for i in (0, 2):
        assert_bit_equal(weights(trained[i]), weights(whole[i]))
        assert [row["step"] for row in trained[i].history] == [6, 12, 18, 24]
    assert [row["step"] for row in trained[1].history] == [6]
    assert [(tmp_path / "run" / name / "snapshots").exists() for name in "abc"] == [1, 0, 1]


def test_an_ensemble_without_a_member_left_stops_and_keeps_its_checkpoint(tmp_path, monkeypatch):
    spoil(monkeypatch, ["a", "b"])
    with (
        pytest.warns(RuntimeWarning, match="has diverged"),
        pytest.raises(FloatingPointError, match="no member has finite weights after step 7"),
    ):
        train_ensemble([one("a"), one("b")], tmp_path, progress=False)
    with pytest.warns(UserWarning, match="already at step 6"):
        last = train_ensemble([one("a"), one("b")], tmp_path, stop_at=0, progress=False)
    assert last[0].step == 6


@pytest.fixture(params=["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def files(request, tmp_path, monkeypatch):
    """Recipes of two short runs, whose networks are measured on two short walks."""
    measure = card.measure
    monkeypatch.setattr(card, "measure", lambda model, **_: measure(model, n_walks=2, n_steps=16))
    short = {"steps": 3, "evaluate_every": 3, "warmup": 1, "optimizer": request.param}
    for name, kind in (("a", KINDS[0]), ("b", KINDS[1])):
        (tmp_path / f"{name}.toml").write_text(toml(entries(name, 0, *kind, **short)))
    return [str(tmp_path / f"{name}.toml") for name in "ab"]


def test_the_command_trains_and_publishes_every_member(files, tmp_path, capsys):
    out = tmp_path / "zoo"
    arguments = ["sweep", *files, "--ensemble", "--out", str(out)]
    assert cli.main([*arguments, "--minutes", "0"]) == 0
    assert capsys.readouterr().out.count("stopped") == 2
    assert not out.exists()
    assert (tmp_path / "zoo.training" / CHECKPOINT).is_file()
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.count("trained") >= 2
    for name, activation in (("a", "nmda"), ("b", "relu")):
        model = pf.load(out / name)
        assert model.config.activation == activation
        assert Recipe.read(out / name / "recipe.toml").name == name
        assert ", ensemble of 2." in (out / name / "README.md").read_text()
        assert (out / name / HISTORY).read_text().splitlines()[1].startswith("3,")
    states = sweep.run_ensemble(files, out, progress=False).state
    assert list(states) == ["found", "found"]


def test_a_network_that_is_there_is_not_written_again(files, tmp_path):
    out = tmp_path / "zoo"
    sweep.run_ensemble(files, out, progress=False)
    before = (out / "a" / "README.md").stat().st_mtime_ns
    for file in (out / "b").iterdir():
        file.unlink()
    (out / "b").rmdir()
    assert list(sweep.run_ensemble(files, out, progress=False).state) == ["found", "trained"]
    assert (out / "a" / "README.md").stat().st_mtime_ns == before


def test_minutes_without_an_ensemble_are_refused(files, tmp_path, capsys):
    assert cli.main(["sweep", files[0], "--out", str(tmp_path / "x"), "--minutes", "1"]) == 2
    assert "--minutes needs --ensemble" in capsys.readouterr().err
