"""Abilities under a lesion: those of the memory errors, and of a recording made under it."""

import numpy as np
import pytest
from helpers.networks import network

from placeformer.interventions.ablation_curve import (
    ablation_curve,
    novel_working_memory,
    recorded_score,
)
from placeformer.interventions.lesions import ablate
from placeformer.models.memory import memory_errors
from placeformer.models.transformer import ModelConfig
from placeformer.recording.record import record

CONFIG = ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 4.0)


@pytest.fixture(scope="module")
def model():
    return network(CONFIG)


def test_novel_working_memory_is_that_of_the_memory_errors(model):
    walks = {"n_walks": 5, "n_steps": 40, "seed": 3}
    with ablate(model, {"ffn.0": [1, 2]}, "zero"):
        got = novel_working_memory(**walks)(model)
        want = memory_errors(model, familiar=False, where="every_step", **walks)
    assert got.shape == (5,)
    assert got.min() < want.error.sel(memory="working") < got.max()


def test_a_recorded_score_sees_the_lesion(model):
    walks = {"layers": "ffn.1", "n_walks": 4, "n_steps": 8}
    score = recorded_score(lambda rec: rec.activation.isel(unit=3).mean("time"), **walks)
    with ablate(model, {"ffn.1": [3]}, "zero"):
        np.testing.assert_array_equal(score(model), np.zeros(4))
    want = record(model, progress=False, **walks).activation[..., 3].mean("time")
    np.testing.assert_array_equal(score(model), want)


def test_abilities_are_scored_along_the_curve(model):
    reference = [
        record(model, layers=s, n_walks=4, n_steps=20, maps=range(3), progress=False)
        for s in ("ffn.*", "content.ffn.*")
    ]
    size = {"n_walks": 4, "n_steps": 16}
    scores = {
        "novel": novel_working_memory(**size),
        "silence": recorded_score(lambda rec: (rec.activation == 0).mean(), **size),
    }
    curve = ablation_curve(
        model, "activity", layers="ffn.1", how="zero", reference=reference, fractions=[0, 0.5, 1],
        repeats=2, controls=["random"], scores=scores, n_resamples=20, progress=False, **size,
    )  # fmt: skip
    assert curve.measure.values.tolist() == ["novel", "silence"]
    silent = curve.score.sel(measure="silence", selection="ordered").mean("repeat")
    np.testing.assert_allclose(silent, [0, 0.25, 0.5])
    assert {"score_difference_interval", "score_area_p_sets"} <= set(curve.data_vars)


def test_walks_too_short_for_the_ends_of_chunks_have_no_error():
    model = network(ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 1.0))
    score = novel_working_memory(n_walks=5, n_steps=8, where="chunk_end")(model)
    assert score.shape == (5,) and np.isnan(score).any()
    assert ((score >= 0) | np.isnan(score)).all()
