"""Many lesions in one pass count what one lesion after the other counts."""

import numpy as np
import pytest
from helpers.networks import network

from placeformer.interventions import batched_lesions as branches
from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.lesions import ablate, replacements
from placeformer.interventions.perturbation import perturb
from placeformer.models.memory import memory_errors
from placeformer.models.transformer import ModelConfig
from placeformer.recording.record import record

CONFIG = ModelConfig(4, 16, 3, 2, 8, 12, 8, 4, 4, 0.1, "nmda", 2.0)


@pytest.fixture(scope="module")
def model():
    return network(CONFIG)


@pytest.fixture(scope="module")
def reference(model):
    size = {"n_walks": 6, "n_steps": 40, "maps": range(3), "seed": 5, "progress": False}
    return [record(model, layers=layers, **size) for layers in ("ffn.*", "content.ffn.*")]


def pooled(wrong, n):
    return wrong.sum(-2) / n.sum(-2)


@pytest.mark.parametrize(
    ("layers", "where", "how"),
    [
        (["ffn.2"], "every_step", "zero"),
        (["ffn.2"], "every_step", "position"),
        (["ffn.0"], "chunk_end", "resample"),
        (["ffn.0"], "every_step", "mean"),
        (["ffn.1", "ffn.2"], "chunk_end", "mean"),
        (["ffn.0", "ffn.2"], "chunk_end", "position"),
        (["ffn.0", "ffn.1", "ffn.2"], "every_step", "resample"),
    ],
)
def test_it_is_one_lesion_after_the_other(model, reference, layers, where, how, monkeypatch):
    monkeypatch.setattr(branches, "WALKS", 4)
    monkeypatch.setattr(branches, "ELEMENTS", 4 * 4 * 12 * 2)  # groups of two lesions and of one
    rng = np.random.default_rng(0)
    masks = {layer: rng.random((3, 12)) < 0.6 for layer in layers}
    masks[layers[0]][1] = False
    walks = {"n_walks": 14, "n_steps": 20, "seed": 7, "familiar": False}
    fill = replacements(model, layers, how, reference=reference, seed=3)
    wrong, n = count_errors(
        model, model.world.walk(**walks), seed=7, where=where, masks=masks, replacements=fill
    )
    for i in range(3):
        units = {layer: mask[i] for layer, mask in masks.items()}
        with ablate(model, units, how, reference=reference, seed=3):
            want = memory_errors(model, where=where, **walks)
        np.testing.assert_array_equal(n.sum(0), want.n)
        np.testing.assert_allclose(pooled(wrong, n)[i], want.error)
    assert len({tuple(row.ravel()) for row in wrong}) == 3


def test_without_lesions_it_counts_the_memory_errors_walk_by_walk(model):
    walks = {"n_walks": 40, "n_steps": 24, "seed": 7}
    wrong, n = count_errors(model, model.world.walk(**walks), seed=7)
    want = memory_errors(model, **walks)
    np.testing.assert_allclose(pooled(wrong[0], n), want.error)
    assert n.shape == (40, 2)
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("outer", "options"),
    [
        ("ffn.2", {"how": "position"}),
        ("ffn.1", {"how": "resample"}),
        ("ffn.2", {"how": "gain", "dose": 3.0, "steps": lambda walk: walk.observation == 1}),
        ("attention.2", {"how": "noise", "dose": 2.0}),
        ("nmda", {"how": "clamp", "dose": 0.0, "steps": lambda walk: walk.observation == 1}),
    ],
)
def test_a_lesion_around_them_acts_on_the_walks_of_every_lesion(model, reference, outer, options):
    walks = {"n_walks": 14, "n_steps": 20, "seed": 7, "familiar": False}
    how = {"where": "every_step"}
    masks = {"ffn.0": np.random.default_rng(0).random((3, 12)) < 0.6}
    fill = replacements(model, ["ffn.0"], "mean", reference=reference)
    given = {} if "attention" in outer else {"reference": reference}
    units = slice(None) if outer == "nmda" else [0, 2, 5, 7]
    with perturb(model, {outer: units}, **options, **given):
        walk = model.world.walk(**walks)
        wrong, n = count_errors(model, walk, seed=7, masks=masks, replacements=fill, **how)
        for i in range(3):
            with ablate(model, {"ffn.0": masks["ffn.0"][i]}, reference=reference):
                want = memory_errors(model, **how, **walks)
            np.testing.assert_allclose(pooled(wrong, n)[i], want.error)
    plain, _ = count_errors(model, walk, seed=7, masks=masks, replacements=fill, **how)
    assert not np.array_equal(plain, wrong)
