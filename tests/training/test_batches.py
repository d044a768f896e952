"""The walk loader: it resumes to the bit, and a stack of loaders walks as each of them alone."""

import itertools
import tomllib

import pytest
import torch
from helpers.recipes import RECIPE, family, recipe

from placeformer.models.grid_world import GridWorld
from placeformer.training.batches import RecentSteps, WalkLoader, stack_batches
from placeformer.training.recipe import Recipe


def loader(config):
    return WalkLoader(config, GridWorld(**config.world))


def assert_same(a, b):
    for name, ours, theirs in zip(a._fields, a, b, strict=True):
        assert torch.equal(ours, theirs), name


def test_a_resumed_loader_walks_on_as_if_it_had_never_stopped():
    whole, resumed = loader(recipe()), loader(recipe())
    for step in range(6):
        whole.next_chunk(step)
    resumed.load_state_dict(whole.state_dict())
    for step in range(6, 16):  # new walks at steps 10 and 15, some on fresh maps
        assert_same(resumed.next_chunk(step), whole.next_chunk(step))
        assert resumed.age == whole.age
        assert step < 10 or resumed.path_seed == whole.path_seed > 0
    assert whole.age == 1


def test_a_stack_of_loaders_walks_as_each_of_them_alone():
    recipes = family(3)
    together, alone = [loader(r) for r in recipes], [loader(r) for r in recipes]
    for step in range(6):
        stacked = stack_batches(together, step)
        for i, own in enumerate(alone):
            assert_same(type(stacked)(*(x[i : i + 1] for x in stacked)), own.next_chunk(step))


def test_letters_of_a_chunk_are_those_of_its_places():
    walks = loader(recipe(fresh_maps=[[0, 0.25]]))
    batch = walks.next_chunk(0)
    assert batch.seen.shape == batch.target.shape == (1, 4, 8)
    assert torch.equal(batch.seen[..., 1:], batch.target[..., :-1])
    maps = walks.world.maps[walks.walker.map]
    last = [maps[i, place] for i, place in enumerate(walks.walker.place)]
    last[0] = walks.fresh[0, walks.walker.place[0]]
    assert batch.target[0, :, -1].tolist() == last


def test_a_rectangular_world_with_walls_is_trained_on_and_resumed():
    world = {"shape": [2, 5], "n_letters": 5, "n_maps": 4, "seed": 0, "walls": [[2, 3]]}
    walled = Recipe.from_dict(RECIPE | {"world": world})
    assert Recipe.from_dict(tomllib.loads(walled.to_toml())) == walled
    whole, resumed = loader(walled), loader(walled)
    steps = set()
    for step in range(12):
        whole.next_chunk(step)
        trail = whole.trail[:, -9:]
        steps |= {(a, b) for row in trail.tolist() for a, b in itertools.pairwise(row)}
    assert not {(2, 3), (3, 2)} & steps and {(1, 2), (7, 8)} <= steps
    assert whole.fresh.shape == (2, 10)
    resumed.load_state_dict(whole.state_dict())
    assert_same(resumed.next_chunk(12), whole.next_chunk(12))
    with pytest.raises(ValueError, match="unknown keys \\['side'\\]"):
        Recipe.from_dict(RECIPE | {"world": world | {"side": 4}})
    for key, bad in (("walls", [0, 1]), ("walls", [[0, -1]]), ("shape", [2]), ("shape", "2x5")):
        with pytest.raises(ValueError, match=f"world.{key} must be"):
            Recipe.from_dict(RECIPE | {"world": world | {key: bad}})


def test_recent_steps_know_the_last_of_more_steps_than_they_hold():
    recent = RecentSteps(4, torch.device("cpu"))
    for step in range(6):
        recent.add(torch.tensor(float(step)), torch.tensor([1, step, 0, 0]))
    assert len(recent) == 4
    assert recent.totals().tolist() == [3.5, 4, 2 + 3 + 4 + 5, 0, 0]
    assert recent.totals(2).tolist() == [4.5, 2, 9, 0, 0]
    words = recent.describe(n_maps=2)
    assert words == "loss 3.500, working error 3.500, reference error nan, 2 maps"
    recent.n = 0  # after an evaluation
    assert recent.describe(n_maps=2) == words
    recent.n = 6
    again = RecentSteps(4, torch.device("cpu"))
    again.load_state_dict(recent.state_dict())
    assert again.totals().tolist() == recent.totals().tolist()
