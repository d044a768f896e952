"""The section on a network over its training: measured anew, told by its intervals, or left out."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.recipes import recipe

import placeformer as pf
from placeformer.reporting import figures, page, training_section
from placeformer.reporting.measurements import Settings
from placeformer.reporting.subjects import NetworkMeasurement

SECTION = page.TEMPLATES.get_template("training.html.jinja").module
STEPS = (0, 2, 4, 6)
SETTINGS = Settings(
    memory_walks=4, memory_steps=64, walks=3, steps=64, lesion_walks=3, lesion_steps=16,
    lesion_repeats=2, snapshots=2, snapshot_walks=16, snapshot_steps=64, shown_steps=16, seed=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network of 2 x 16 units with the snapshots of its training."""
    run, found = (tmp_path_factory.mktemp("training") / name for name in ("run", "net"))
    trainer = pf.train(recipe(snapshots=STEPS), run, stop_at=6, progress=False)
    pf.save(trainer.model, found)
    shutil.copytree(run / "snapshots", found / "snapshots")
    return found


@pytest.fixture(scope="module")
def one(folder):
    """All that the page shows of the network."""
    measurement = NetworkMeasurement(pf.load(folder), SETTINGS)
    for _, stage in measurement.stages:
        stage()
    return measurement.report


def written(macro, network):
    """What a macro of the section writes, on one line."""
    return " ".join(getattr(SECTION, macro)(network).split())


def test_the_last_step_is_the_network_itself(one):
    last = one.training["error"].sel(step=6)
    np.testing.assert_array_equal(last.transpose(*one.memory["error"].dims), one.memory["error"])
    assert (
        one.training["cka"].sel(step=6).values == pytest.approx(1)
    ) and "training" in one.datasets


class Asked(Exception):
    """What was asked of consolidation."""


@pytest.mark.parametrize(
    ("n", "steps"), [(1, [6]), (2, [0, 6]), (3, [0, 4, 6]), (4, [0, 2, 4, 6]), (9, [0, 2, 4, 6])]
)
def test_the_first_the_last_and_what_lies_between_are_measured(folder, monkeypatch, n, steps):
    def ask(source, chosen, **options):
        raise Asked(source, chosen, options)

    monkeypatch.setattr(training_section, "consolidation", ask)
    with pytest.raises(Asked) as asked:
        training_section.measure_training(str(folder), replace(SETTINGS, snapshots=n))
    source, chosen, options = asked.value.args
    assert (source, chosen) == (str(folder), steps)
    assert (options["n_walks"], options["n_steps"], options["seed"]) == (4, 64, 2)
    assert (options["recorded_walks"], options["recorded_steps"]) == (16, 64)


def test_the_page_shows_the_numbers_of_the_dataset(one, undrawn):
    text = page.render([one], SETTINGS)
    for step in (0, 6):
        here = one.training.sel(step=step)
        for maps, memory in (("trained", "reference"), ("novel", "reference")):
            value = float(here["error"].sel(maps=maps, memory=memory))
            assert f'value="{value}" data-key="net/training/{step}/{maps}/{memory}"' in text
        for maps, name in (("trained", "is_place_cell"), ("novel", "control_is_place_cell")):
            n = float(here[name].sum())
            assert f'value="{n}" data-key="net/training/{step}/{maps}/place_cells"' in text
        kept = float(here["kept"].sel(compared="previous"))
        assert f'value="{kept}" data-key="net/training/{step}/previous/kept"' in text
    assert '<a href="#training">Over training</a>' in text and 'href="./net.training.nc"' in text
    assert 'alt="drawn: training"' in text
    without = page.render([replace(one, training=None)], SETTINGS)
    assert "training.nc" not in without and "Over training" not in without


def test_the_figure_has_a_panel_for_each_question(one):
    picture = figures.training(one)
    assert picture.svg.count('id="axes_') == 4 and "currentColor" in picture.svg


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ((0.8, 0.9), (0.3, 0.5), "fell"),
        ((0.3, 0.5), (0.8, 0.9), "rose"),
        ((0.3, 0.5), (0.4, 0.6), "did not change detectably"),
    ],
)
def test_the_sentence_follows_from_the_intervals(one, first, last, words):
    course = one.training.copy(deep=True)
    for step, ends in ((0, first), (6, last)):
        at = {"step": step, "maps": "trained", "memory": "reference"}
        course["interval"].loc[at] = list(ends)
        course["error"].loc[at] = sum(ends) / 2
    said = written("memory", replace(one, training=course))
    assert f"the reference-memory error on trained maps {words}:" in said
    low, high = (f"{100 * end:.1f} %" for end in last)
    assert f"at the end (95 % interval {low} to {high})" in said


def test_what_has_no_known_training_has_no_section(folder, tmp_path):
    model = pf.load(folder)
    assert training_section.training_of(model) == str(folder)
    assert NetworkMeasurement(model, replace(SETTINGS, snapshots=0)).training is None
    with torch.no_grad():
        next(model.parameters()).add_(1)  # it is another network now
    assert training_section.training_of(model) is None
    assert training_section.training_of(pf.load(folder, step=4)) is None
    pf.save(model, tmp_path / "net")
    assert training_section.training_of(pf.load(tmp_path / "net")) is None
    assert training_section.training_of(pf.NavigationTransformer(model.config)) is None
    gone = pf.load(tmp_path / "net")
    shutil.rmtree(tmp_path / "net")
    assert training_section.training_of(gone) is None


def test_a_network_of_the_zoo_without_snapshots_has_no_such_stage():
    assert "snapshots of the training" not in dict(
        NetworkMeasurement(pf.load("mini-tanh"), SETTINGS).stages
    )


def test_networks_of_the_zoo_have_their_snapshots():
    model = pf.load("consolidation-nmda-a10")
    assert training_section.training_of(model) == "consolidation-nmda-a10"
    stages = dict(NetworkMeasurement(model, SETTINGS).stages)
    assert list(stages)[-1] == "snapshots of the training"
