"""Grid maps and walks: transition statistics in closed form, seeds, edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from placeformer.models.grid_world import ACTIONS, GridWorld, advance, transitions


def test_a_hand_drawn_grid():
    destination, _, n_moves = transitions(3)
    #   0 1 2      actions: stay, east, south, north, west
    #   3 4 5
    #   6 7 8
    assert destination[0].tolist() == [0, 1, 3, -1, -1]
    assert destination[4].tolist() == [4, 5, 7, 1, 3]
    assert destination[8].tolist() == [8, -1, -1, 5, 7]
    assert n_moves.tolist() == [3, 4, 3, 4, 5, 4, 3, 4, 3]


@given(side=st.integers(2, 7), letters=st.integers(2, 30), seed=st.integers(0, 2**31))
def test_every_step_is_an_action_that_exists(side, letters, seed):
    world = GridWorld(side, letters, 2, seed)
    walk = world.walk(3, 40, seed=seed)
    dx = walk.next_x.astype(int) - walk.x.astype(int)
    dy = walk.next_y.astype(int) - walk.y.astype(int)
    moves = np.array([[0, 0], [1, 0], [0, 1], [0, -1], [-1, 0]])[walk.action.values]
    np.testing.assert_array_equal(np.stack([dx, dy], -1), moves)
    for name in ("x", "y", "next_x", "next_y"):
        assert walk[name].min() >= 0
        assert walk[name].max() < side
    np.testing.assert_array_equal(walk.next_x[:, :-1], walk.x[:, 1:])
    np.testing.assert_array_equal(walk.target[:, :-1], walk.observation[:, 1:])
    here = walk.y.values.astype(int) * side + walk.x.values
    np.testing.assert_array_equal(walk.observation, world.maps[walk["map"].values[:, None], here])


def test_transitions_are_uniform_among_stay_and_existing_neighbours():
    side = 4
    walk = GridWorld(side, 2, 1).walk(200, 2000, seed=1)
    here = (walk.y.values.astype(int) * side + walk.x.values).ravel()
    destination, _, _ = transitions(side)
    for place in range(side * side):
        exists = destination[place] >= 0
        taken = np.bincount(walk.action.values.ravel()[here == place], minlength=len(ACTIONS))
        assert taken[~exists].sum() == 0
        assert chisquare(taken[exists]).pvalue > 1e-4


def test_places_are_visited_in_proportion_to_their_number_of_moves():
    # The walk is reversible: its stationary law is n_moves / Σ n_moves.
    side = 5
    walk = GridWorld(side, 2, 1).walk(400, 2000, seed=2)
    here = (walk.y.values.astype(int) * side + walk.x.values)[:, 200:]
    share = np.bincount(here.ravel(), minlength=side * side) / here.size
    _, _, n_moves = transitions(side)
    np.testing.assert_allclose(share, n_moves / n_moves.sum(), rtol=0.05)


def test_maps_and_letters_are_uniform_and_trained_maps_are_not_novel_ones():
    world = GridWorld(20, 10, 20, seed=3)
    for letters in (world.maps, world.novel_maps):
        assert chisquare(np.bincount(letters.ravel(), minlength=10)).pvalue > 1e-4
    assert (world.maps != world.novel_maps).mean() == pytest.approx(0.9, abs=0.02)
    walk = world.walk(4000, 1, seed=0)
    assert chisquare(np.bincount(walk["map"], minlength=20)).pvalue > 1e-4
    first = walk.y.values[:, 0].astype(int) * 20 + walk.x.values[:, 0]
    assert chisquare(np.bincount(first, minlength=400)).pvalue > 1e-4


def test_seeds_decide_everything():
    a, b, c = GridWorld(seed=1), GridWorld(seed=1), GridWorld(seed=2)
    assert np.array_equal(a.maps, b.maps)
    assert not np.array_equal(a.maps, c.maps)
    assert a.walk(4, 50, seed=5).identical(b.walk(4, 50, seed=5))
    assert not a.walk(4, 50, seed=5).identical(a.walk(4, 50, seed=6))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a.walk(2, 5, seed=0)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_more_maps_leave_the_first_ones_as_they_were():
    few, many = GridWorld(n_maps=4), GridWorld(n_maps=8)
    assert np.array_equal(few.maps, many.maps[:4])
    assert np.array_equal(few.novel_maps, many.novel_maps[:4])


def test_a_walker_goes_on_where_it_stopped():
    world = GridWorld(5)
    walker = world.walker(8, np.random.default_rng(0))
    first, _ = walker.advance(7)
    second, _ = walker.advance(3)
    np.testing.assert_array_equal(first[:, -1], second[:, 0])


def test_novel_and_chosen_maps():
    world = GridWorld(3, 5, 4)
    walk = world.walk(50, 3, seed=0, familiar=False, maps=[1, 3])
    assert set(walk["map"].values) == {1, 3}
    assert not walk.familiar.any()
    here = walk.y.values.astype(int) * 3 + walk.x.values
    np.testing.assert_array_equal(
        walk.observation, world.novel_maps[walk["map"].values[:, None], here]
    )
    with pytest.raises(ValueError, match=r"maps must be indices in 0–3, got \[4\]"):
        world.walk(1, 1, seed=0, maps=[4])


def test_a_walk_survives_netcdf(tmp_path):
    walk = GridWorld(3).walk(2, 5, seed=0)
    walk.to_netcdf(tmp_path / "walk.nc")
    import xarray as xr

    with xr.open_dataset(tmp_path / "walk.nc") as back:
        xr.testing.assert_identical(back.load(), walk)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 1}, "side must be a whole number ≥ 2, got 1"),
        ({"side": 3.0}, "side must be a whole number"),
        ({"n_letters": 1}, "n_letters must be a whole number ≥ 2"),
        ({"n_letters": 300}, "n_letters must be at most 256"),
        ({"n_maps": 0}, "n_maps must be a whole number ≥ 1"),
        ({"seed": -1}, "seed must be a whole number ≥ 0"),
    ],
)
def test_bad_worlds_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GridWorld(**arguments)


def test_walkers_that_advance_together_walk_as_each_alone():
    world = GridWorld(5, 4, 3, seed=0)
    together, alone = ([world.walker(6, np.random.default_rng(i)) for i in range(3)] for _ in "ab")
    for n_steps in (7, 1, 4):
        place, action = advance(together, n_steps)
        assert place.shape == (3, 6, n_steps + 1)
        for i, walker in enumerate(alone):
            one = walker.advance(n_steps)
            np.testing.assert_array_equal(place[i], one[0])
            np.testing.assert_array_equal(action[i], one[1])
            np.testing.assert_array_equal(together[i].place, walker.place)


def test_letters_can_be_given():
    letters = np.random.default_rng(0).integers(6, size=(3, 4, 4))
    for maps in (letters, letters.reshape(3, 16)):
        world = GridWorld(n_letters=6, letters=maps)
        assert (world.side, world.n_maps) == (4, 3)
        np.testing.assert_array_equal(world.maps, letters.reshape(3, 16))
        walk = world.walk(20, 30, seed=0)
        seen = letters[walk["map"].values[:, None], walk["y"].values, walk["x"].values]
        np.testing.assert_array_equal(walk.observation, seen)
    np.testing.assert_array_equal(world.novel_maps, GridWorld(4, 6, 3).novel_maps)
    for bad in (letters[0, 0], letters[:, :3], letters + 1, letters * 1.0, [[1, 2, 3]]):
        with pytest.raises(ValueError, match="letters must be"):
            GridWorld(n_letters=6, letters=bad)


def test_morphs_lead_from_one_map_to_the_other():
    world = GridWorld(6, 10, 3, seed=1)
    a, b = world.maps[:2]
    shares = np.linspace(0, 1, 6)
    morphs = world.morph(0, 1, shares)
    np.testing.assert_array_equal(morphs[0], a)
    np.testing.assert_array_equal(morphs[-1], b)
    assert ((morphs == a) | (morphs == b)).all()
    changed = morphs != a
    assert (changed[1:] >= changed[:-1]).all()
    np.testing.assert_array_equal(changed.sum(1), np.rint(shares * (a != b).sum()))
    np.testing.assert_array_equal(world.morph(a, b.reshape(6, 6), 0.4)[0], morphs[2])
    assert (world.morph(0, 1, 0.4, seed=1)[0] != morphs[2]).any()
    walk = world.walk(12, 20, seed=3, letters=morphs)
    assert set(walk["map"].values.tolist()) <= set(range(6)) and not walk.familiar.any()
    seen = morphs[walk["map"].values[:, None], walk.y.values * 6 + walk.x.values]
    np.testing.assert_array_equal(walk.observation, seen)
    same = world.walk(12, 20, seed=3, letters=world.maps)
    trained = world.walk(12, 20, seed=3)
    for name in ("observation", "action", "target"):
        np.testing.assert_array_equal(same[name], trained[name])
    assert "letters_sha256" in same.attrs and "letters_sha256" not in trained.attrs
    for arguments in ((0, 3, 0.5), (0, 1, 1.5), (0, [0] * 9, 0.5), (0.5, 1, 0.5)):
        with pytest.raises(ValueError, match="must (be|have)"):
            world.morph(*arguments)
    with pytest.raises(ValueError, match="letters must have 36 places"):
        world.walk(2, 3, seed=0, letters=[[1, 2, 3, 4]])


@pytest.mark.parametrize("maps", [True, [0.0], ["0"], []])
def test_indices_of_maps_are_whole_numbers(maps):
    with pytest.raises(ValueError, match="maps must be indices in 0–1"):
        GridWorld(4, 5, 2, 0).walk(2, 3, seed=0, maps=maps)
