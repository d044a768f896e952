"""Memory errors: hand-worked windows, networks with known answers, SciPy's interval."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from placeformer.models.grid_world import GridWorld
from placeformer.models.memory import (
    attended_window,
    memory_errors,
    places,
    predictions,
    tally,
    visited,
)
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.stats.intervals import error_interval

CONFIG = ModelConfig(10, 16, 1, 2, 8, 16, 8, 4, 6, 0.0, "nmda", 1.0)


class Oracle(NavigationTransformer):
    """Answers from outside: `answer(walks seen so far)` instead of a network."""

    def __init__(self, world, know):
        super().__init__(CONFIG, world)
        self.know = know

    def forward_chunk(self, action, observation, state, content=False):
        return self.know(action, observation), state


def test_windows_by_hand():
    # chunks of 4, 6 remembered: first chunk has no memory, the second 4 steps, the third 6.
    assert attended_window(12, 4, 6).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9, 10]


def test_visited_by_hand():
    place = np.array([[0, 1, 2, 1, 0, 5]])
    assert visited(place, np.array([1, 2, 3, 4, 5])).tolist() == [[False, False, True, True, False]]
    assert visited(place, np.array([1, 1, 1, 1, 1])).tolist() == [[False] * 5]
    assert visited(np.array([[3, 3]]), np.array([1])).tolist() == [[True]]


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(0, 9))
def test_visited_equals_the_definition(seed, chunk, memory):
    rng = np.random.default_rng(seed)
    place = rng.integers(6, size=(2, 15))
    window = attended_window(14, chunk, memory)
    want = [
        [row[t + 1] in row[t + 1 - window[t] : t + 1] for t in range(14)] for row in place.tolist()
    ]
    np.testing.assert_array_equal(visited(place, window), want)


def test_the_interval_is_over_walks_and_nothing_gives_nan():
    wrong = np.array([[True, False, False, True], [False, False, True, False]])
    got = tally(wrong, np.ones((2, 4), bool))
    assert got.error.sel(memory="working") == 3 / 8
    np.testing.assert_allclose(got.interval.sel(memory="working"), error_interval([2, 1], [4, 4]))
    assert np.isnan(got.error.sel(memory="reference"))
    assert np.isnan(got.interval.sel(memory="reference")).all()


def test_wrong_answers_are_counted_by_whether_the_place_was_visited():
    world = GridWorld(5, 10, 3, seed=0)
    always = torch.nn.functional.one_hot(torch.zeros(1, dtype=torch.long), 10).float()
    model = Oracle(world, lambda a, o: always.expand(*a.shape, 10))
    got = memory_errors(model, n_walks=20, n_steps=40, where="every_step")
    walk = world.walk(20, 40, seed=0)
    seen = visited(places(walk), attended_window(40, 4, 6))
    wrong = walk.target.values != 0
    assert got.error.sel(memory="working").item() == wrong[seen].mean()
    assert got.error.sel(memory="reference").item() == wrong[~seen].mean()
    assert got.n.sum() == 800
    assert got.attrs["chance"] == 0.9


def test_chunk_ends_are_counted_once_the_window_is_full():
    world = GridWorld(5, 10, 3, seed=0)
    model = Oracle(world, lambda a, o: torch.zeros(*a.shape, 10))
    # n_steps 40, chunks of 4, full from the chunk that has 6 steps before it: ends 11, 15, … 39.
    got = memory_errors(model, n_walks=5, n_steps=40)
    assert got.n.sum() == 5 * 8


def test_predictions_do_not_depend_on_batches_and_restart_every_batch():
    world = GridWorld(4, 10, 2, seed=0)
    model = NavigationTransformer(CONFIG, world).init_weights(0).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.5)
    walk = world.walk(130, 8, seed=3)
    got = predictions(model, walk, seed=7)
    path = model.initial_state(130, seed=7).path
    action, observation = (torch.from_numpy(walk[k].values) for k in ("action", "observation"))
    with torch.no_grad():
        want, _ = model(action, observation, model.initial_state(130, path=path))
    np.testing.assert_array_equal(got, want.argmax(-1))


def test_dropout_does_not_reach_the_evaluation_of_a_network_in_training():
    config = dataclasses.replace(CONFIG, dropout=0.5)
    model = NavigationTransformer(config, GridWorld(4, 10, 2, seed=0)).init_weights(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.5)
    walk = model.world.walk(8, 40, seed=3)
    evaluated = predictions(model.eval(), walk, seed=7)
    model.train()
    np.testing.assert_array_equal(predictions(model, walk, seed=7), evaluated)
    assert all(module.training for module in model.modules())


def test_an_untrained_network_is_at_chance_on_both_memories():
    world = GridWorld(6, 10, 4, seed=0)
    model = NavigationTransformer(CONFIG, world).init_weights(0).eval()
    got = memory_errors(model, n_walks=64, n_steps=64, where="every_step")
    assert (got.error > 0.8).all()


def test_bad_arguments_are_refused():
    model = NavigationTransformer(CONFIG, GridWorld(4, 10, 2))
    with pytest.raises(ValueError, match='where must be "chunk_end" or "every_step", got \'end\''):
        memory_errors(model, where="end")
    with pytest.raises(ValueError, match="n_steps must be at least memory \\+ chunk = 10"):
        memory_errors(model, n_steps=9)
    with pytest.raises(ValueError, match=r"model\.world must be a GridWorld"):
        memory_errors(NavigationTransformer(CONFIG))


def test_given_walks_are_those_that_are_measured():
    model = NavigationTransformer(CONFIG, GridWorld(4, 10, 2, seed=0)).init_weights(0).eval()
    same = model.world.walk(6, 40, seed=3)
    drawn = memory_errors(model, n_walks=6, n_steps=40, seed=3)
    assert memory_errors(model, walks=same, seed=3).identical(drawn)
    novel = model.world.walk(6, 40, seed=3, familiar=False, walls=[(5, 6), (9, 10)])
    got = memory_errors(model, walks=novel, seed=3, where="every_step")
    assert (got.attrs["n_walks"], got.attrs["n_steps"], got.attrs["familiar"]) == (6, 40, 0)
    seen = visited(places(novel), attended_window(40, 4, 6))
    wrong = predictions(model, novel, seed=3) != novel.target.values
    assert got.error.sel(memory="reference").item() == wrong[~seen].mean()
    model.world = None
    assert memory_errors(model, walks=same, seed=3).error.equals(drawn.error)
    with pytest.raises(ValueError, match=r"walks must be .* got Dataset without next_x, next_y"):
        memory_errors(model, walks=same.drop_vars(["next_x", "next_y"]))
    with pytest.raises(ValueError, match="walks must be .* got list without action"):
        memory_errors(model, walks=[])


def test_walks_are_read_by_the_names_of_their_axes_and_have_letters_of_the_network():
    world = GridWorld(side=4, n_letters=10, n_maps=2, seed=0)
    model = NavigationTransformer(CONFIG, world).init_weights(seed=0)
    walks = world.walk(3, 40, seed=1)
    options = {"where": "every_step", "progress": False}
    want = memory_errors(model, walks=walks, **options)
    assert memory_errors(model, walks=walks.transpose("time", "walk"), **options).equals(want)
    with pytest.raises(ValueError, match=r"none named walk; select .* walks.isel\(walk=\[0\]\)"):
        memory_errors(model, walks=walks.isel(walk=0), **options)
    others = walks.assign(observation=walks.observation + 1)
    with pytest.raises(ValueError, match="walks must have letters of the network, 0–9, got 10"):
        memory_errors(model, walks=others, **options)
