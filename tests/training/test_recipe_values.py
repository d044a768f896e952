"""Every key of a recipe has a kind and a range; trainings that cannot go on say so."""

import os
import tomllib

import numpy as np
import pytest
import torch
from helpers.recipes import RECIPE, one, recipe, toml

import placeformer as pf
from placeformer._state_files import load_state
from placeformer.training.ensemble import train_ensemble
from placeformer.training.recipe import RANGES, Recipe, TrainingConfig, read_recipes
from placeformer.training.trainer import CHECKPOINT, read_checkpoint

WRONG = {
    "steps": (6.5, "20", True, 0, float("nan")),
    "walks": (8.0, -1),
    "learning_rate": ("3e-3", -0.001, float("nan"), float("inf"), True),
    "final_rate": (5, float("inf")),
    "betas": ([0.9], "xy", [0.9, 1.0]),
    "weight_decay": (-1,),
    "clip": (-1.0, float("nan")),
    "maps": (2, [[0, 1.9]], [[0]]),
    "restarts": ([5], [[1.5, 0.1]]),
    "fresh_maps": ([[0, 2.0]],),
    "compile": (1,),
    "evaluate_every": (1.5,),
    "snapshots": ([1.5], 3),
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in WRONG.items() for v in values])
def test_a_wrong_value_is_refused_by_the_name_of_its_key(key, value):
    with pytest.raises(ValueError, match=rf"training\.{key} must"):
        recipe(**{key: value})


@pytest.mark.parametrize("key", ["side", "n_letters"])
def test_a_world_of_one_is_refused_by_the_name_of_its_key(key):
    with pytest.raises(ValueError, match=rf"world\.{key} must be a whole number of at least 2"):
        Recipe.from_dict(RECIPE | {"world": RECIPE["world"] | {key: 1}})


@pytest.mark.parametrize("restarts", [[[10, 0.1], [10, 0.2]], [[24, 0.1]], [[2, 0.1]]])
def test_restarts_that_could_not_be_are_refused(restarts):
    with pytest.raises(ValueError, match="restarts and steps must be in ascending order"):
        recipe(restarts=restarts)


def test_a_large_number_is_a_number():
    assert recipe(learning_rate=1e30).training.learning_rate == 1e30


@pytest.mark.parametrize("source", ["net-😀", 'nét \x7f\t"\\', "網"])
def test_a_recipe_is_read_as_it_was_written_whatever_its_letters(source):
    init = {"source": source, "weights_sha256": "0" * 64}
    ours = Recipe.from_dict(RECIPE | {"init": init})
    assert Recipe.from_dict(tomllib.loads(ours.to_toml())) == ours


def test_a_checkpoint_holds_no_more_steps_than_there_are(tmp_path):
    sizes = {}
    for every in (24, 1_000_000):
        folder = tmp_path / str(every)
        ours = recipe(evaluate_every=every, steps=3, warmup=1)
        pf.train(ours, folder, stop_at=2, progress=False)
        whole = pf.train(ours, folder, progress=False)
        sizes[every] = os.path.getsize(folder / CHECKPOINT)
        assert [row["step"] for row in whole.history] == [3]
    assert sizes[1_000_000] < 1.01 * sizes[24]


def test_a_checkpoint_of_an_ensemble_and_minutes_that_are_none_are_refused(tmp_path):
    train_ensemble([one("a"), one("b", 1)], tmp_path, stop_at=1, progress=False)
    with pytest.raises(ValueError, match="of a alone, got one of an ensemble; choose another fol"):
        pf.train(one("a"), tmp_path, progress=False)
    for minutes in ("5", True, float("nan"), -1):
        with pytest.raises(ValueError, match="minutes must be a number"):
            pf.train(one("a"), tmp_path / "new", minutes=minutes, progress=False)


def test_every_key_has_a_kind():
    assert set(RANGES) == set(TrainingConfig.__dataclass_fields__)


@pytest.mark.parametrize("change", [{"seed": 1.9}, {"seed": -1}, {"name": 5}, {"world": True}])
def test_wrong_values_outside_the_training_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Recipe.from_dict(RECIPE | change)


def test_steps_to_stop_at_are_whole(tmp_path):
    assert pf.train(recipe(), tmp_path, stop_at=0, progress=False).step == 0
    with pytest.raises(ValueError, match="stop_at must be a whole number"):
        pf.train(recipe(), tmp_path, stop_at=2.5, progress=False)


def test_a_run_beyond_the_step_to_stop_at_says_so(tmp_path):
    pf.train(recipe(), tmp_path, stop_at=3, progress=False)
    assert pf.train(recipe(), tmp_path, stop_at=3, progress=False).step == 3
    with pytest.warns(UserWarning, match="stop_at=2 has no effect: .* already at step 3"):
        assert pf.train(recipe(), tmp_path, stop_at=2, progress=False).step == 3


def test_the_limit_of_whole_numbers_is_named():
    with pytest.raises(ValueError, match=r"seed must be a whole number .* below 2\*\*63"):
        Recipe.from_dict(RECIPE | {"seed": 2**63})


def test_a_diverged_training_stops_and_keeps_its_last_checkpoint(tmp_path):
    def spoil(trainer):
        if trainer.step == 3:
            with torch.no_grad():
                trainer.model.read_out.bias[0] = float("nan")

    with pytest.raises(FloatingPointError, match="diverged"):
        pf.train(recipe(), tmp_path, progress=False, report=spoil)
    with pytest.warns(UserWarning, match="already at step 3"):
        assert pf.train(recipe(), tmp_path, stop_at=0, progress=False).step == 3


def test_a_flipped_bit_of_a_checkpoint_is_refused_or_has_no_effect(tmp_path):
    pf.train(recipe(), tmp_path, stop_at=2, progress=False)
    file = tmp_path / CHECKPOINT
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    saved, refused = load_state(file), 0
    for place in rng.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            same = read_checkpoint(file)
        except ValueError as error:
            assert str(file) in str(error) and "remove it to start afresh" in str(error)
            refused += 1
        else:
            assert str(same) == str(saved)
    assert refused > 190  # the others are in the padding of the header


@pytest.mark.parametrize("size", [0, 100])
def test_a_damaged_checkpoint_is_named(tmp_path, size):
    pf.train(recipe(), tmp_path, stop_at=2, progress=False)
    os.truncate(tmp_path / CHECKPOINT, size)
    with pytest.raises(ValueError, match=CHECKPOINT):
        pf.train(recipe(), tmp_path, progress=False)


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device"):
        pf.train(recipe(), tmp_path, device="cuda:99", progress=False)


def test_a_recipe_may_begin_with_a_mark_of_its_encoding(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(toml(RECIPE), encoding="utf-8-sig")
    assert Recipe.read(file) == Recipe.from_dict(RECIPE)
    (text,) = read_recipes(file).values()
    assert Recipe.from_dict(tomllib.loads(text)) == Recipe.from_dict(RECIPE)


def test_a_recipe_that_is_not_there_is_named_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is nothing at no\.toml \(in "):
        pf.train("no.toml", "run", progress=False)
    assert not list(tmp_path.iterdir())
