"""Snapshots: the weights at the steps of the recipe, whole, hashed, the same after a resume."""

import hashlib
import json

import pytest
import torch
from helpers.recipes import muon, recipe, weights
from safetensors.torch import load_file

from placeformer import _atomic
from placeformer.training.ensemble import train_ensemble
from placeformer.training.snapshots import SNAPSHOTS, read_manifest, save_snapshot
from placeformer.training.trainer import Trainer, train

STEPS = [2, 5, 9]
FILES = [f"step-{step:06d}.safetensors" for step in STEPS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(recipe(snapshots=STEPS), folder, stop_at=10, progress=False)
    return folder


def test_the_weights_at_every_step_of_the_recipe_are_kept_in_float16(whole, tmp_path):
    manifest = read_manifest(whole)
    assert list(manifest) == FILES
    assert sorted(f.name for f in (whole / SNAPSHOTS).iterdir()) == ["manifest.json", *FILES]
    for (name, entry), step in zip(manifest.items(), STEPS, strict=True):
        content = (whole / SNAPSHOTS / name).read_bytes()
        assert entry == {"step": step, "sha256": hashlib.sha256(content).hexdigest()}
        until = train(recipe(), tmp_path / name, stop_at=step, progress=False)
        stored = load_file(whole / SNAPSHOTS / name)
        assert stored.keys() == weights(until).keys()
        for key, weight in weights(until).items():
            assert torch.equal(stored[key], weight.half()), key


def test_a_resumed_run_has_the_same_snapshots(whole, tmp_path):
    changed = recipe(snapshots=STEPS, checkpoint_every=4)
    train(changed, tmp_path, stop_at=4, progress=False)
    train(changed, tmp_path, minutes=0, progress=False)  # step 5, once
    (tmp_path / "checkpoint.safetensors").unlink()  # as if step 5 had been lost again
    train(changed, tmp_path, stop_at=10, progress=False)
    assert read_manifest(tmp_path) == read_manifest(whole)


def test_a_member_of_an_ensemble_has_its_own(tmp_path):
    recipes = [muon(name, seed, snapshots=[3]) for seed, name in enumerate("ab")]
    members = train_ensemble(recipes, tmp_path, stop_at=3, progress=False)
    for member in members:
        (name,) = read_manifest(tmp_path / member.recipe.name)
        stored = load_file(tmp_path / member.recipe.name / SNAPSHOTS / name)
        assert torch.equal(stored["read_out.weight"], weights(member)["read_out.weight"].half())


def test_a_failure_leaves_the_manifest_as_it_was(whole, tmp_path, monkeypatch):
    trainer = Trainer(recipe())
    save_snapshot(trainer.model, tmp_path, 1)
    before = json.dumps(read_manifest(tmp_path))
    with torch.no_grad():
        trainer.model.read_out.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"step 2(.|\n)*read_out\.bias: expected finite weights"):
        save_snapshot(trainer.model, tmp_path, 2)
    assert json.dumps(read_manifest(tmp_path)) == before

    def fails(*_):
        raise OSError("No space left on device")

    trainer = Trainer(recipe())
    monkeypatch.setattr(_atomic.os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        save_snapshot(trainer.model, tmp_path, 2)
    assert json.dumps(read_manifest(tmp_path)) == before


def test_a_run_without_them_writes_none(tmp_path):
    train(recipe(), tmp_path, stop_at=2, progress=False)
    assert read_manifest(tmp_path) == {} and not (tmp_path / SNAPSHOTS).exists()
