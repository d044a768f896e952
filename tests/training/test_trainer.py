"""Training: it learns, it resumes to the bit after SIGKILL, it refuses what it does not know."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.recipes import RECIPE, assert_bit_equal, recipe, toml, weights

from placeformer._state_files import load_state
from placeformer.models.memory import attended_window, visited
from placeformer.training.ensemble import train_ensemble
from placeformer.training.recipe import Recipe, at
from placeformer.training.trainer import CHECKPOINT, HISTORY, Trainer, train

RECIPES = Path(__file__).parents[2] / "zoo" / "recipes"


def rows(folder):
    with open(folder / HISTORY, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return weights(train(recipe(), folder, progress=False)), folder


@pytest.mark.parametrize("stop", [1, 5, 6, 7, 13])
def test_a_stopped_run_ends_bit_equal(uninterrupted, tmp_path, stop):
    train(recipe(), tmp_path, stop_at=stop, progress=False)
    torch.manual_seed(99)  # whatever happens in between
    resumed = train(recipe(), tmp_path, progress=False)
    assert_bit_equal(weights(resumed), uninterrupted[0])
    ours, theirs = rows(tmp_path), rows(uninterrupted[1])
    assert [r["step"] for r in ours] == ["6", "12", "18", "24"]
    for a, b in zip(ours, theirs, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


@contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS = {
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "default device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": float64,
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_training_does_not_depend_on_its_surroundings(tmp_path, name):
    short = recipe(steps=8, restarts=[], maps=[[0, 2]])
    want = weights(train(short, tmp_path / "plain", progress=False))
    with SURROUNDINGS[name]():
        got = weights(train(short, tmp_path / "there", progress=False))
    assert_bit_equal(got, want)


def test_random_numbers_of_the_caller_and_of_the_training_are_apart(tmp_path):
    short = recipe(steps=8, restarts=[], maps=[[0, 2]])
    want = weights(train(short, tmp_path / "plain", progress=False))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    draws = lambda trainer: torch.rand(trainer.step)  # noqa: E731
    got = train(short, tmp_path / "reported", progress=False, report=draws)
    assert_bit_equal(weights(got), want)
    assert torch.equal(torch.get_rng_state(), before)
    train_ensemble([short], tmp_path / "ensemble", progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_broken_link_is_no_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"folder must be a folder, got .*link is a broken link"):
        train(recipe(), tmp_path / "link", progress=False)


KILLED = """
import json, sys
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import train
train(Recipe.from_dict(json.loads(sys.argv[1])), sys.argv[2], progress=False)
"""


def test_a_killed_run_ends_bit_equal(uninterrupted, tmp_path):
    steps = {"steps": 24, "checkpoint_every": 1}
    entries = RECIPE | {"training": RECIPE["training"] | steps}
    command = [sys.executable, "-c", KILLED, json.dumps(entries), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    for wait in (0.0, 0.05):
        process = subprocess.Popen(command, env=environment)
        deadline = time.time() + 60
        before = (tmp_path / CHECKPOINT).stat().st_mtime_ns if wait else 0
        while process.poll() is None and time.time() < deadline:
            file = tmp_path / CHECKPOINT
            if file.exists() and file.stat().st_mtime_ns != before:
                break
            time.sleep(0.001)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    saved = load_state(tmp_path / CHECKPOINT)
    assert 0 < saved["step"] < 24
    assert_bit_equal(weights(train(recipe(), tmp_path, progress=False)), uninterrupted[0])


def test_a_half_written_checkpoint_never_replaces_a_whole_one(tmp_path, monkeypatch):
    train(recipe(), tmp_path, stop_at=3, progress=False)
    before = (tmp_path / CHECKPOINT).read_bytes()

    write = Path.write_bytes

    def fails(file, content):
        write(file, content[: len(content) // 2])
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fails)
        with pytest.raises(OSError, match="No space left"):
            train(recipe(), tmp_path, stop_at=5, progress=False)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert train(recipe(), tmp_path, stop_at=5, progress=False).step == 5


def test_another_recipes_checkpoint_is_refused(tmp_path):
    train(recipe(), tmp_path, stop_at=1, progress=False)
    other = dataclasses.replace(recipe(), seed=1)
    with pytest.raises(ValueError, match=r"another recipe \(differs in seed\)"):
        train(other, tmp_path, progress=False)


def test_the_hardware_of_all_parts_of_a_run_is_kept():
    before = Trainer(recipe())
    before.train_step()
    saved = before.state_dict() | {"hardware": "one Z80"}
    resumed = Trainer(recipe())
    resumed.load_state_dict(saved)
    assert resumed.hardware == f"one Z80, then {before.hardware}"
    finished = Trainer(recipe())
    finished.load_state_dict(saved | {"step": 24})
    assert finished.hardware == "one Z80"
    del saved["hardware"]  # as it was before it was kept
    resumed = Trainer(recipe())
    resumed.load_state_dict(saved)
    assert resumed.hardware == before.hardware


def test_time_that_is_up_stops_a_run_with_a_checkpoint(uninterrupted, tmp_path):
    late = recipe(checkpoint_every=100)
    assert train(late, tmp_path, minutes=0, progress=False).step == 1
    resumed = train(late, tmp_path, minutes=60, progress=False)
    assert_bit_equal(weights(resumed), uninterrupted[0])


def test_it_learns_the_letters_under_its_feet(tmp_path):
    # Standing still repeats the letter: the error falls below chance within a few hundred steps.
    longer = recipe(steps=300, walks=16, evaluate_every=100, checkpoint_every=1000)
    history = train(longer, tmp_path, progress=False).history
    assert history[-1]["loss"] < history[0]["loss"] < np.log(5) + 0.05
    assert history[-1]["working_error_running"] < 0.7
    assert [row["predictions"] for row in history] == [12_800, 25_600, 38_400]


def test_an_error_of_no_prediction_is_nan(tmp_path):
    # Of four places, all were visited within the last 32 steps, but for the first steps of a walk.
    training = RECIPE["training"] | {"chunks_per_walk": [[0, 24]], "evaluate_every": 3}
    parts = {"training": training, "network": RECIPE["network"] | {"memory": 32}}
    small = Recipe.from_dict(RECIPE | parts | {"world": RECIPE["world"] | {"side": 2}})
    train(small, tmp_path, progress=False)
    unseen = pd.read_csv(tmp_path / HISTORY)["reference_error_running"]
    assert np.isfinite(unseen.iloc[0])
    assert np.isnan(unseen.iloc[-1])


def test_the_running_errors_use_the_window_really_attended():
    trainer, counts = Trainer(recipe(chunks_per_walk=[[0, 5]], fresh_maps=[[0, 0.0]])), []
    for _ in range(5):  # one whole walk
        trainer.train_step()
        counts.append(trainer.recent.counts[trainer.recent.n - 1].clone())
    assert sum(c[0] + c[2] for c in counts) == 5 * 8 * 4
    # The same walks again, from the same generator, seen as a whole.
    twin = Trainer(recipe(fresh_maps=[[0, 0.0]]))
    twin.loader.start_walks(0)
    place, _ = twin.loader.walker.advance(40)
    seen = visited(place, attended_window(40, 8, 8)).reshape(4, 5, 8).sum((0, 2))
    assert [int(c[0]) for c in counts] == seen.tolist()


def test_walks_start_afresh_when_the_schedule_says_so():
    trainer, ages = Trainer(recipe()), []  # 3 chunks from step 0, 5 from step 3
    for _ in range(9):
        trainer.train_step()
        ages.append(trainer.loader.age)
    assert ages == [1, 2, 3, 4, 5, 1, 2, 3, 4]
    assert trainer.state.memory[0].shape[1] == 8


def test_fresh_maps_are_drawn_anew_and_counted_apart():
    trainer = Trainer(recipe(fresh_maps=[[0, 0.5]], chunks_per_walk=[[0, 1]]))
    drawn = []
    for _ in range(2):
        trainer.train_step()
        drawn.append(trainer.loader.fresh)
        place = np.broadcast_to(np.arange(16), (4, 16))
        letters = trainer.loader.letters(place)
        np.testing.assert_array_equal(letters[:2], trainer.loader.fresh)
        np.testing.assert_array_equal(
            letters[2:], trainer.world.maps[trainer.loader.walker.map[2:]]
        )
        counts = trainer.recent.counts[trainer.recent.n - 1]
        assert counts[0] + counts[2] == 2 * 8  # two of four walks are on trained maps
    assert drawn[0].shape == (2, 16)
    assert not np.array_equal(*drawn)
    trained = {m.tobytes() for m in [*trainer.world.maps, *trainer.world.novel_maps]}
    assert not trained & {m.tobytes() for d in drawn for m in d}


def test_the_schedules():
    config = recipe().training
    assert [at(config.maps, s) for s in (0, 6, 7, 100)] == [2, 2, 4, 4]
    assert config.rate(0) == pytest.approx(1e-2 / 4)
    assert config.rate(4) == pytest.approx(1e-2)
    assert config.rate(14) == pytest.approx(1e-2 * (0.1 + 0.9 / 2))
    assert config.rate(24) == pytest.approx(1e-3)
    twice = recipe(restarts=[[14, 4e-3]]).training  # decays from 4 to 14, and from 14 to 24
    assert twice.rate(9) == pytest.approx(1e-2 * (0.1 + 0.9 / 2))
    assert twice.rate(14) == pytest.approx(4e-3)
    assert twice.rate(19) == pytest.approx(4e-3 * (0.1 + 0.9 / 2))
    assert twice.rate(24) == pytest.approx(4e-4)


def test_weights_are_decayed_and_biases_are_not():
    trainer = Trainer(recipe())
    decayed, kept = trainer.optimizers[0].param_groups
    assert decayed["weight_decay"] == 0.01
    assert kept["weight_decay"] == 0
    assert all(w.ndim == 1 for w in kept["params"])


def test_bfloat16_autocast_trains():
    trainer = Trainer(recipe(precision="bfloat16"))
    trainer.train_step()
    trainer.train_step()
    assert all(torch.isfinite(w).all() for w in trainer.model.parameters())
    assert trainer.model.read_out.weight.dtype == torch.float32


def write(tmp_path, text):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("file", sorted(RECIPES.rglob("*.toml")), ids=lambda file: file.stem)
def test_every_recipe_of_the_zoo_can_be_started(file):
    got = Recipe.read(file)
    assert got.name == file.stem
    eager = dataclasses.replace(got.training, compile=False)  # compiling takes minutes
    assert Trainer(dataclasses.replace(got, training=eager)).step == 0


def test_a_recipe_is_read_from_toml(tmp_path):
    got = Recipe.read(write(tmp_path, toml(RECIPE)))
    assert got == Recipe.from_dict(RECIPE)
    assert Recipe.from_dict(got.to_dict()) == got


def test_misspelt_and_missing_keys_are_refused(tmp_path):
    bad = RECIPE | {"network": {**RECIPE["network"], "aplha": 1.0}}
    with pytest.raises(ValueError, match=r"recipe\.toml \[network\]: unknown keys \['aplha'\]"):
        Recipe.read(write(tmp_path, toml(bad)))
    bad = RECIPE | {"training": {k: v for k, v in RECIPE["training"].items() if k != "clip"}}
    with pytest.raises(ValueError, match=r"\[training\].* missing keys \['clip'\]"):
        Recipe.from_dict(bad)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"maps": [[1, 2]]}, r"training\.maps must start at step 0"),
        ({"maps": []}, r"training\.maps must start at step 0"),
        ({"chunks_per_walk": [[0, 4], [0, 8]]}, r"training\.chunks_per_walk must start"),
        ({"chunks_per_walk": [[0, 0]]}, r"training\.chunks_per_walk must be a list of pairs"),
        ({"fresh_maps": [[0, 1.5]]}, r"training\.fresh_maps must be a list of pairs.* at most 1"),
        (
            {"restarts": [[30, 1e-3]]},
            r"training\.warmup, restarts and steps must be in ascending order",
        ),
        ({"precision": "float16"}, 'must be "float32" or "bfloat16"'),
        ({"steps": 0}, r"training\.steps must be a whole number of at least 1"),
        ({"compile": "false"}, r"training\.compile must be true or false, got 'false'"),
    ],
)
def test_bad_training_settings_are_refused(training, message):
    with pytest.raises(ValueError, match=message):
        recipe(**training)


def test_more_maps_than_the_world_has_are_refused():
    with pytest.raises(ValueError, match=r"within world\.n_maps = 4"):
        Trainer(recipe(maps=[[0, 8]]))
