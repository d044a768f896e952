"""Patching: none is map A, the residual stream of the last layer is map B, and sets in between."""

import numpy as np
import pytest
import torch
from helpers.networks import network
from torch import nn

from placeformer.interventions.patching import on_other_map, one_patch, patch, source_walks
from placeformer.models.memory import predictions
from placeformer.models.transformer import ModelConfig
from placeformer.recording.record import record

CONFIG = ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 4.0)
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def model():
    return network(CONFIG)


@pytest.fixture(scope="module")
def source(model):
    layers = ["ffn.*", "residual.*", "attention.*"]
    return record(model, layers=layers, n_walks=6, n_steps=20, maps=[1, 2], seed=3, **QUIET)


def shares(letters, a, b, counted):
    return [(letters == x)[counted].mean() for x in (a, b)]


def test_none_gives_map_a_and_the_last_residual_map_b(model, source):
    got = patch(model, source, ["residual.1", "residual.0", "ffn.1"], onto=0, **QUIET)
    walk_b, seed = source_walks(model, [source], None)
    walk_a = on_other_map(model, walk_b, 0)
    a, b = walk_a.target.values, walk_b.target.values
    np.testing.assert_array_equal(a, model.world.maps[0][walk_b.next_y * 4 + walk_b.next_x])
    seen_a = model.world.maps[0][walk_b.y * 4 + walk_b.x]
    np.testing.assert_array_equal(walk_a.observation, seen_a)
    on_a, on_b = (predictions(model, walk, seed=seed) for walk in (walk_a, walk_b))
    seen, times = source.visited.values, source.time.values
    for i, kind in enumerate((seen, ~seen)):
        counted = (a != b)[:, times] & kind
        assert got.n.values[i] == counted.sum()
        for name, letters in (("none", on_a), ("residual.1", on_b), ("all", on_b)):
            want = shares(letters[:, times], a[:, times], b[:, times], counted)
            share = got.share.isel(memory=i).sel(patched=name)
            np.testing.assert_allclose(share.sel(letter=["A", "B"]), want, rtol=1e-6)
    np.testing.assert_allclose(got.share.sum("letter"), 1)
    assert not got.share.sel(patched="residual.0").equals(got.share.sel(patched="none"))


def test_sets_that_run_together_equal_sets_that_run_alone(model, source):
    cells = source.sel(unit=["ffn.1/3", "ffn.1/5", "ffn.0/2", "ffn.0/7"]).unit
    got = patch(model, source, cells, repeats=3, **QUIET)
    assert got.patched.values.tolist() == ["none", "chosen", "random", "stratified", "all"]
    assert got.n_units.values.tolist() == [0, 4, 4, 4, 24]
    assert got.share_of_set.sizes["repeat"] == 3
    assert got.share_of_set.sel(patched="chosen").isel(repeat=0).notnull().all()
    assert got.share_of_set.sel(patched="chosen").isel(repeat=slice(1, None)).isnull().all()
    walk_b, seed = source_walks(model, [source], None)
    walk_a = on_other_map(model, walk_b, None)
    chosen = {"ffn.1": [3, 5], "ffn.0": [2, 7]}
    masks = {name: np.isin(np.arange(12), own) for name, own in chosen.items()}
    letters = one_patch(model, walk_a, masks, [source], seed)
    assert (letters != predictions(model, walk_a, seed=seed)).any()
    a, b, times = walk_a.target.values, walk_b.target.values, source.time.values
    counted = (a != b)[:, times] & ~source.visited.values
    want = shares(letters[:, times], a[:, times], b[:, times], counted)
    share = got.share.sel(patched="chosen", memory="reference", letter=["A", "B"])
    np.testing.assert_allclose(share, want, rtol=1e-6)


def test_p_counts_the_sets_with_as_many_letters_of_b(model, source):
    got = patch(model, source, {"ffn.1": range(6)}, repeats=9, seed=1, **QUIET)
    b = got.share_of_set.sel(letter="B")
    for control in ("random", "stratified"):
        least = (b.sel(patched=control) >= b.sel(patched="chosen").isel(repeat=0)).sum("repeat")
        np.testing.assert_allclose(got.p_sets.sel(control=control), (1 + least) / 10)
    everything = patch(model, source, {"ffn.1": range(12)}, repeats=2, **QUIET)
    assert (everything.p_sets == 1).all()


def test_both_streams_can_be_patched(model, source):
    content = record(model, layers="content.ffn.*", n_walks=6, n_steps=20, maps=[1, 2], seed=3,
                     **QUIET)  # fmt: skip
    one = patch(model, source.isel(unit=source.layer == "ffn.0"), "ffn.0", **QUIET)
    two = patch(model, [source, content], "ffn.0", **QUIET)
    assert not one.share.sel(patched="ffn.0").equals(two.share.sel(patched="ffn.0"))
    assert one.share.sel(patched="none").equals(two.share.sel(patched="none"))


def test_steps_that_were_not_recorded_are_not_patched(model, source):
    late = source.isel(time=slice(10, None))
    got = patch(model, late, "residual.1", **QUIET)
    want = patch(model, source, "residual.1", **QUIET)
    assert got.n.sum() < want.n.sum()
    assert got.share.sel(patched="residual.1", letter="B").notnull().all()


def test_walks_of_the_caller(model):
    walk = model.world.walk(3, 24, seed=5, maps=[2])
    recording = record(model, walk.isel(walk=[0, 1]), layers="residual.1", **QUIET)
    with pytest.raises(ValueError, match="walks must be those that source was recorded along"):
        patch(model, recording.isel(time=slice(0, 4)), **QUIET)
    got = patch(model, recording.isel(time=slice(0, 4)), walks=walk.isel(walk=[0, 1]), **QUIET)
    assert got.patched.values.tolist() == ["none", "residual.1"]


def test_wrong_arguments_are_named(model, source):
    with pytest.raises(ValueError, match="model must be a navigation Transformer"):
        patch(nn.Linear(2, 2), source)
    with pytest.raises(ValueError, match="source must be a Recording of the network on map B"):
        patch(model, [])
    for onto in (1, 9, [0, 0], 0.5):
        with pytest.raises(ValueError, match="onto must be"):
            patch(model, source, onto=onto, **QUIET)
    with pytest.raises(ValueError, match="layers that source holds, .* got 'position'"):
        patch(model, source, "position", **QUIET)
    with pytest.raises(ValueError, match="there is no layer 'ffn.7'"):
        patch(model, source, {"ffn.7": [1]}, **QUIET)
    with pytest.raises(ValueError, match="reference must hold the lesioned units"):
        patch(model, source.sel(unit=["ffn.1/3"]), {"ffn.1": [1]}, **QUIET)
    with pytest.raises(ValueError, match="layers must name feed-forward layers"):
        patch(model, source, {"residual.1": [1]}, **QUIET)
    assert patch(model, source, {"residual.1": [1]}, controls=[], **QUIET).sizes["patched"] == 3
    with torch.no_grad():
        other = network(CONFIG)
        other.read_out.bias.add_(1)
    with pytest.warns(UserWarning, match="recorded from another network"):
        patch(other, source, "residual.1", **QUIET)
