"""Snapshots: the weights at the steps of the recipe, whole, hashed, the same after a resume."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.recipes import assert_bit_equal, entries, muon, recipe, weights
from helpers.scripts import script
from safetensors.torch import load_file

import placeformer as pf
from placeformer import _atomic
from placeformer.training.ensemble import train_ensemble
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import Trainer, train
from placeformer.zoo import registry
from placeformer.zoo.config import FolderError
from placeformer.zoo.hub import HubError
from placeformer.zoo.snapshots import MANIFEST, SNAPSHOTS, read_manifest, save_snapshot

STEPS = [0, 2, 5, 9]
FILES = [f"step-{step:06d}.safetensors" for step in STEPS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(recipe(snapshots=STEPS), folder, stop_at=10, progress=False)
    return folder


def test_the_weights_at_every_step_of_the_recipe_are_kept_in_float16(whole, tmp_path):
    manifest = read_manifest(whole / SNAPSHOTS)
    assert list(manifest) == STEPS
    assert sorted(f.name for f in (whole / SNAPSHOTS).iterdir()) == [MANIFEST, *FILES]
    for name, (step, sha256) in zip(FILES, manifest.items(), strict=True):
        content = (whole / SNAPSHOTS / name).read_bytes()
        assert sha256 == hashlib.sha256(content).hexdigest()
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
    assert read_manifest(tmp_path / SNAPSHOTS) == read_manifest(whole / SNAPSHOTS)


def test_a_member_of_an_ensemble_has_its_own(tmp_path):
    recipes = [muon(name, seed, snapshots=[3]) for seed, name in enumerate("ab")]
    members = train_ensemble(recipes, tmp_path, stop_at=3, progress=False)
    for member in members:
        assert pf.list_steps(tmp_path / member.recipe.name) == [3]
        stored = load_file(tmp_path / member.recipe.name / SNAPSHOTS / "step-000003.safetensors")
        assert torch.equal(stored["read_out.weight"], weights(member)["read_out.weight"].half())


def test_a_failure_leaves_the_manifest_as_it_was(whole, tmp_path, monkeypatch):
    trainer = Trainer(recipe())
    save_snapshot(trainer.model, tmp_path, 1)
    before = json.dumps(read_manifest(tmp_path / SNAPSHOTS))
    with torch.no_grad():
        trainer.model.read_out.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"step 2(.|\n)*read_out\.bias: expected finite weights"):
        save_snapshot(trainer.model, tmp_path, 2)
    assert json.dumps(read_manifest(tmp_path / SNAPSHOTS)) == before

    def fails(*_):
        raise OSError("No space left on device")

    trainer = Trainer(recipe())
    monkeypatch.setattr(_atomic.os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        save_snapshot(trainer.model, tmp_path, 2)
    assert json.dumps(read_manifest(tmp_path / SNAPSHOTS)) == before


def test_a_run_without_them_writes_none(tmp_path):
    train(recipe(), tmp_path, stop_at=2, progress=False)
    assert pf.list_steps(tmp_path) == [] and not (tmp_path / SNAPSHOTS).exists()
    with pytest.raises(ValueError, match="which has no snapshots"):
        pf.load(tmp_path, step=2)


def test_one_resumed_step_gives_the_next_snapshot(tmp_path):
    run = recipe(snapshots=[4, 5], checkpoint_every=1)
    train(run, tmp_path / "a", stop_at=4, progress=False)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    train(run, tmp_path / "b", stop_at=5, progress=False)
    whole = train(run, tmp_path / "whole", stop_at=5, progress=False)
    assert read_manifest(tmp_path / "b" / SNAPSHOTS) == read_manifest(
        tmp_path / "whole" / SNAPSHOTS
    )
    found = pf.load(tmp_path / "b", step=5).state_dict()
    assert_bit_equal(found, {k: v.half().float() for k, v in weights(whole).items()})


def test_a_snapshot_is_loaded_with_its_network_and_world(whole):
    assert pf.list_steps(whole) == STEPS == pf.list_steps(whole / SNAPSHOTS)
    model = pf.load(whole, step=5)
    assert model.info["step"] == 5 and model.info["name"] == f"{whole.name}@step-5"
    assert model.config == recipe().network and not model.training
    assert (model.world.maps == Trainer(recipe()).world.maps).all()
    untrained = Trainer(recipe()).model.state_dict()
    assert_bit_equal(
        pf.load(whole, step=0).state_dict(), {k: v.half().float() for k, v in untrained.items()}
    )
    hashes = {pf.load(whole, step=step).info["sha256"] for step in STEPS}
    assert len(hashes) == len(STEPS)


def test_the_last_snapshot_is_the_published_network(tmp_path):
    trainer = train(recipe(snapshots=[24]), tmp_path / "run", progress=False)
    pf.save(trainer.model, tmp_path / "published")
    published, last = pf.load(tmp_path / "published"), pf.load(tmp_path / "run", step=24)
    assert_bit_equal(published.state_dict(), last.state_dict())
    assert published.config == last.config


def test_a_snapshot_has_the_alpha_that_was_in_force(tmp_path):
    tables = entries("tiny", alpha=[[0, 10.0], [2, 0.1], [4, 1.0]], snapshots=[0, 2, 3, 5])
    train(Recipe.from_dict(tables), tmp_path, stop_at=6, progress=False)
    alphas = {step: pf.load(tmp_path, step=step).config.alpha for step in (0, 2, 3, 5)}
    assert alphas == {0: 10.0, 2: 10.0, 3: 0.1, 5: 1.0}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (3, r"step must be one of the snapshots of .*, 0, 2, 5, 9, got 3"),
        (-1, "step must be a whole number"),
        (2.0, "step must be a whole number"),
        (True, "step must be a whole number"),
        ("2", "step must be a whole number"),
    ],
)
def test_a_step_without_a_snapshot_is_refused_with_those_there_are(whole, step, message):
    with pytest.raises(ValueError, match=message):
        pf.load(whole, step=step)


def test_a_damaged_snapshot_is_refused(whole, tmp_path):
    folder = Path(shutil.copytree(whole / SNAPSHOTS, tmp_path / SNAPSHOTS))
    shutil.copy(folder / FILES[1], folder / FILES[2])  # the weights of another step
    with pytest.raises(FolderError, match=r"expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        pf.load(tmp_path, step=5)
    (folder / FILES[3]).unlink()
    with pytest.raises(FolderError, match="the file is missing"):
        pf.load(tmp_path, step=9)
    text = (folder / MANIFEST).read_text()
    for broken in ("{", "[]", text.replace("step-000002", "../../other"), text.replace("2,", "3,")):
        (folder / MANIFEST).write_text(broken)
        with pytest.raises(FolderError, match="must list snapshots"):
            pf.list_steps(tmp_path)


def altered(folder, change):
    """A folder whose snapshot and manifest were both rewritten."""
    file = folder / FILES[1]
    content = change(file.read_bytes())
    file.write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest[file.name]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:-8], "expected a whole safetensors file"),
        (lambda c: b"\xff" * 64, "expected a whole safetensors file"),
        (lambda c: c.replace(b'network.d_rnn\\": 8', b'network.d_rnn\\": 9'), "expected shape"),
        (lambda c: c.replace(b"world.side", b"world.sidx"), "unknown key"),
        (lambda c: c.replace(b"__metadata__", b"_metadata__ "), "expected a whole"),
    ],
)
def test_a_rewritten_snapshot_is_checked_as_well(whole, tmp_path, change, message):
    folder = Path(shutil.copytree(whole / SNAPSHOTS, tmp_path / SNAPSHOTS))
    before = (folder / FILES[1]).read_bytes()
    altered(folder, change)
    assert (folder / FILES[1]).read_bytes() != before
    with pytest.raises(FolderError, match=message):
        pf.load(tmp_path, step=2)


def test_unknown_sources_and_revisions_are_refused(whole):
    with pytest.raises(ValueError, match="source must be a network of the zoo or a folder"):
        pf.list_steps("no-such-network")
    with pytest.raises(ValueError, match="source must be a network of the zoo or a folder"):
        pf.load("no-such-network", step=2)
    with pytest.raises(ValueError, match="revision must be None unless"):
        pf.load(whole, step=2, revision="main")


def test_a_network_of_the_zoo_without_snapshots_names_those_with_some(monkeypatch, tmp_path):
    pins = tmp_path / "pins.json"
    pins.write_text('{"mini-relu": {"0": "00"}}')
    monkeypatch.setattr(registry, "SNAPSHOT_PINS", pins)
    with pytest.raises(ValueError, match=r"mini-gelu, which has no snap.*have some: mini-relu"):
        pf.load("mini-gelu", step=2)
    assert pf.list_steps("mini-relu") == [0] and pf.list_steps("mini-gelu") == []


def test_the_last_step_must_be_the_published_network(monkeypatch, tmp_path):
    pins = tmp_path / "pins.json"
    pins.write_text('{"mini-relu": {"0": "00", "6000": "00"}}')
    monkeypatch.setattr(registry, "SNAPSHOT_PINS", pins)
    with pytest.raises(FolderError, match="must have the sha256 of its last snapshot"):
        pf.load("mini-relu", step=6000)


def test_snapshots_are_revisions_of_a_repository(whole, local_hub):
    pf.push(pf.load(whole, step=9), "alice/tiny")
    for step in STEPS:
        pf.push(pf.load(whole, step=step), "alice/tiny", revision=f"step-{step}")
    assert pf.list_steps("alice/tiny") == STEPS
    for step in STEPS:
        found = pf.load("alice/tiny", step=step)
        assert found.info["step"] == step
        assert_bit_equal(found.state_dict(), pf.load(whole, step=step).state_dict())
    with pytest.raises(HubError, match=r"no such branch(.|\n)*list_steps"):
        pf.load("alice/tiny", step=3)
    with pytest.raises(ValueError, match="step and revision cannot both be given"):
        pf.load("alice/tiny@main", step=2)
    with pytest.raises(HubError, match="cannot be listed"):
        pf.list_steps("alice/absent")


@pytest.fixture
def zoo_of_one(tmp_path, monkeypatch):
    """A zoo of one network with snapshots, made by the scripts, and its training."""
    pin = script("pin")
    models, snapshots = tmp_path / "models", tmp_path / "snapshots"
    what = recipe(snapshots=[0, 12, 24])
    trainer = train(what, tmp_path / "runs" / "tiny", progress=False)
    (tmp_path / "recipe.toml").write_text(what.to_toml())
    pf.save(trainer.model, models / "tiny", recipe=tmp_path / "recipe.toml")
    pin.pin(models, tmp_path / "pins.json")
    assert pin.take_snapshots(tmp_path / "runs", models, snapshots) == ["tiny"]
    pin.pin_snapshots(models, snapshots, tmp_path / "snapshot_pins.json")
    monkeypatch.setattr(registry, "zoo_folder", lambda: models)
    monkeypatch.setattr(registry, "PINS", tmp_path / "pins.json")
    monkeypatch.setattr(registry, "SNAPSHOT_PINS", tmp_path / "snapshot_pins.json")
    return tmp_path, trainer, pin


def test_the_zoo_keeps_all_snapshots_but_the_last_which_is_the_published_network(zoo_of_one):
    folder, trainer, _ = zoo_of_one
    assert sorted(f.name for f in (folder / "snapshots" / "tiny").iterdir()) == [
        MANIFEST, "step-000000.safetensors", "step-000012.safetensors",
    ]  # fmt: skip
    assert pf.list_steps("tiny") == [0, 12, 24]
    last = pf.load("tiny", step=24)
    assert last.info["sha256"] == pf.load("tiny").info["sha256"]
    rounded = {k: v.half().float() for k, v in weights(trainer).items()}
    assert_bit_equal(last.state_dict(), rounded)
    in_run = pf.load(folder / "runs" / "tiny", step=12)
    assert_bit_equal(pf.load("tiny", step=12).state_dict(), in_run.state_dict())
    (folder / "snapshots" / "tiny" / "step-000012.safetensors").write_bytes(b"other")
    with pytest.raises(FolderError, match="altered or is of another step"):
        pf.load("tiny", step=12)


def test_snapshots_of_another_training_or_twice_the_same_are_not_pinned(zoo_of_one):
    folder, trainer, pin = zoo_of_one
    run, snapshots = folder / "runs" / "tiny", folder / "snapshots"
    with torch.no_grad():
        trainer.model.read_out.bias += 1
    save_snapshot(trainer.model, run, 24)
    with pytest.raises(ValueError, match="the snapshot at step 24 must be the published network"):
        pin.take_snapshots(folder / "runs", folder / "models", snapshots)
    save_snapshot(pf.load("tiny", step=0), folder / "twice", 12)
    for file in (folder / "twice" / SNAPSHOTS).iterdir():
        shutil.copy(file, snapshots / "tiny")
    save_snapshot(pf.load("tiny", step=0), folder / "twice", 0)
    shutil.copy(folder / "twice" / SNAPSHOTS / MANIFEST, snapshots / "tiny")
    with pytest.raises(ValueError, match="a different sha256"):
        pin.pin_snapshots(folder / "models", snapshots, folder / "snapshot_pins.json")


def test_an_installed_package_downloads_the_snapshots_that_it_has_pinned(
    zoo_of_one, local_hub, monkeypatch
):
    publish = script("publish")
    publish.publish(registry.zoo_folder() / "tiny", "alice")
    assert publish.publish_steps("tiny", "alice") == [0, 12, 24]
    assert publish.publish_steps("tiny", "alice") == []
    here = {step: pf.load("tiny", step=step) for step in (0, 12, 24)}
    monkeypatch.setattr(registry, "snapshots_folder", lambda: Path("absent"))
    for step, model in here.items():
        found = pf.load("tiny", step=step, organisation="alice")
        assert_bit_equal(found.state_dict(), model.state_dict())
        assert found.info["step"] == step
    pf.push(here[0], "alice/tiny", revision="step-12")
    with pytest.raises(FolderError, match="must have the sha256 that the package has pinned"):
        pf.load("tiny", step=12, organisation="alice")
    with pytest.raises(HubError, match="placeformer/tiny at step-12 cannot be found"):
        pf.load("tiny", step=12)


def test_every_snapshot_of_the_zoo_has_its_pin_and_they_all_differ():
    pins = registry.snapshot_pins()
    hashes = [sha256 for of_one in pins.values() for sha256 in of_one.values()]
    assert pins and len(set(hashes)) == len(hashes)
    for name, of_one in pins.items():
        assert pf.load(name).info["sha256"] == list(of_one.values())[-1]
        folder = registry.snapshots_folder() / name
        assert read_manifest(folder) == dict(list(of_one.items())[:-1])
        for step in list(of_one)[:-1]:
            content = (folder / f"step-{step:06d}.safetensors").read_bytes()
            assert hashlib.sha256(content).hexdigest() == of_one[step]
    files = list(registry.snapshots_folder().rglob("*.safetensors"))
    course = [f for f in files if f.parent.name.startswith("consolidation-")]
    assert sum(f.stat().st_size for f in course) <= 30_000_000  # a clone holds every version
    assert sum(f.stat().st_size for f in set(files) - set(course)) <= 40_000_000
