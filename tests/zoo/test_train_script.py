"""zoo/train.py: members in the order asked for, resumed, published, never two at once."""

import json
import sys

import pytest
from filelock import FileLock
from helpers.recipes import FAMILY, RECIPE
from helpers.scripts import script

import placeformer as pf
from placeformer.training import model_card as card
from placeformer.training.recipe import members
from placeformer.training.trainer import CHECKPOINT
from placeformer.zoo.snapshots import SNAPSHOTS, read_manifest

NAMES = ["mini-nmda-a0.1", "mini-nmda-a0"]


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Call the script on a family of short runs with Muon; returns what it printed."""
    measure = card.measure
    monkeypatch.setattr(card, "measure", lambda model, **_: measure(model, n_walks=2, n_steps=16))
    short = {"steps": 4, "evaluate_every": 4, "warmup": 1, "optimizer": "muon", "snapshots": [2]}
    family = FAMILY | {
        "world": RECIPE["world"],
        "training": RECIPE["training"] | short,
        "family": FAMILY["family"] | {"seeds": [0], "activations": []},
    }
    lines = []
    for table, entries in family.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    (tmp_path / "family.toml").write_text("\n".join(lines))

    def call(*options):
        arguments = [str(tmp_path / "family.toml"), "--out", str(tmp_path / "zoo"), *options]
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        script("train").main()
        return capsys.readouterr()

    assert [m.name for m in members(family)] == NAMES[::-1]
    return call


def test_members_are_trained_in_the_order_asked_for_and_resumed(train, tmp_path):
    train("--stop-at", "2", *NAMES)
    runs = [tmp_path / "zoo.training" / name for name in NAMES]
    first, second = (run / CHECKPOINT for run in runs)
    assert first.stat().st_mtime_ns < second.stat().st_mtime_ns
    assert not (tmp_path / "zoo").exists()
    train(NAMES[0])
    assert [f.name for f in (tmp_path / "zoo").iterdir()] == [NAMES[0]]
    assert list(read_manifest(runs[0] / SNAPSHOTS)) == [2]
    train()
    worlds = [pf.load(tmp_path / "zoo" / name).world.maps for name in NAMES]
    assert (worlds[0] == worlds[1]).all()


def test_a_network_that_another_process_trains_is_passed_over(train, tmp_path):
    place = tmp_path / "zoo.training" / NAMES[0]
    place.mkdir(parents=True)
    with FileLock(place / "lock"):
        assert f"{NAMES[0]}: another process is training it" in train(*NAMES).out
    assert [f.name for f in (tmp_path / "zoo").iterdir()] == [NAMES[1]]


def test_unknown_members_are_refused(train, capsys):
    with pytest.raises(SystemExit):
        train("nmda-a7")
    assert "no such networks in" in capsys.readouterr().err
