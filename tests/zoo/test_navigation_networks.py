"""The recipe of "Navigation networks compared", and the page made of what it measures."""

import importlib.util
import json

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers.scripts import ZOO, script

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.evaluation.score_card_files import plain

mpl.use("agg")
recipe = script("navigation_networks")
DOCS = ZOO.parent / "docs"


def test_velocities_add_up_to_paths_within_the_box():
    walks = recipe.paths(20, seed=3)
    for i, axis in enumerate(("x", "y")):
        moved = walks["velocity"].isel(axis=i).cumsum("time") * recipe.STEP_S
        np.testing.assert_allclose(walks["start"].isel(axis=i) + moved, walks[axis], atol=1e-12)
        assert walks[axis].min() >= 0 and walks[axis].max() <= 1
    assert walks.identical(recipe.paths(20, seed=3))


def test_place_targets_are_a_difference_of_softmax_functions():
    targets = recipe.PlaceTargets(seed=1)
    place = torch.rand(5, 2)
    squares = (place[:, None] - targets.centre).square().sum(-1)
    centre, surround = (
        (-squares / (2 * w * recipe.WIDTH_M**2)).softmax(-1) for w in (1, recipe.SURROUND)
    )
    expected = centre - surround
    expected = expected - expected.min(-1, keepdim=True).values
    found = targets(place)
    torch.testing.assert_close(found, expected / expected.sum(-1, keepdim=True))
    at_centres = targets.place(targets(targets.centre))
    assert (at_centres - targets.centre).norm(dim=-1).mean() < 0.06


def test_training_lowers_the_error_and_is_done_once(tmp_path, monkeypatch):
    small = recipe.Recipe("GRU", "cell", 60, 5e-3, places=False, width=16)
    monkeypatch.setitem(recipe.RECIPES, "GRU", small)
    task, facts = recipe.trained("GRU", tmp_path)
    assert facts["error_m"] < 0.7 * facts["error_untrained_m"]
    again, stored = recipe.trained("GRU", tmp_path)
    assert stored == facts
    walks = recipe.paths(4, seed=0)
    np.testing.assert_array_equal(
        task.errors(task.network, walks), again.errors(again.network, walks)
    )
    monkeypatch.setitem(recipe.RECIPES, "GRU", small._replace(n_updates=61))
    with pytest.raises(SystemExit, match="another recipe"):
        recipe.trained("GRU", tmp_path)


def test_the_page_holds_every_network_that_was_measured(tmp_path):
    rng = np.random.default_rng(0)
    recording = simulation.place_code(rng, n_units=4, n_walks=8).drop_vars("layer")
    card = pf.score_card(recording, progress=False)
    entry = {"what": "some units", "learnt": {"error_m": 0.123, "seed": 0}, "card": plain(card)}
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"first": entry, "second": entry}))
    spec = importlib.util.spec_from_file_location("pages", DOCS / "_ext" / "navigation_networks.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "_ext"))  # as docs/conf.py does it
        spec.loader.exec_module(module)
    module.write_all(tmp_path / "generated", file)
    included = set((DOCS / "navigation_networks.rst").read_text().split())
    texts = {path.name: path.read_text() for path in (tmp_path / "generated").glob("*.txt")}
    assert {f"generated/{name}" for name in texts} <= included
    assert "read-out (m) 0.123" in texts["navigation-learnt.txt"]
    marks = texts["navigation-marks.txt"]
    assert "first, ``units``" in marks and "second, ``units``" in marks
    assert marks.count("random fields") == 2 and "untrained" not in marks
    share = card["share"].sel(subject="network", mark="tuned").item()
    assert f"- {share:.0%} (" in marks
    assert (tmp_path / "generated" / "navigation-networks.svg").is_file()
