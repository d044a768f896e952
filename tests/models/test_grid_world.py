"""Grid maps and walks: transition statistics in closed form, seeds, edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

import placeformer as pf
from placeformer.models.grid_world import ACTIONS, GridWorld, advance, transitions


def test_a_hand_drawn_grid():
    destination, _, n_moves = transitions((3, 3))
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
    destination, _, _ = transitions((side, side))
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
    _, _, n_moves = transitions((side, side))
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
    with pytest.raises(ValueError, match=r"maps must be indices in 0–3, such as \[0\], got \[4\]"):
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
        ({"shape": 5}, "shape must be two whole numbers"),
        ({"shape": (5, 0)}, "shape must be two whole numbers"),
        ({"shape": (1, 1)}, r"shape must be .* two places or more, got \(1, 1\)"),
        ({"shape": (5, 2.0)}, "shape must be two whole numbers"),
        ({"letters": [[1]]}, "shape must be two whole numbers"),
        ({"letters": [[1, 2, 3]], "shape": (2, 2)}, r"letters must be .* of 2 × 2 places"),
        ({"side": 3, "walls": [0, 1]}, "walls must be pairs of places"),
        ({"side": 3, "walls": [(0.0, 1.0)]}, "walls must be pairs of places"),
        ({"side": 3, "walls": [(0, 1), (0, 4)]}, r"neighbours in 3 rows of 3, got \(0, 4\)"),
        ({"side": 3, "walls": [(2, 3)]}, r"neighbours in 3 rows of 3, got \(2, 3\)"),
        ({"side": 3, "walls": [(-1, 0)]}, "between places 0–8"),
        ({"side": 3, "walls": [(8, 11)]}, "between places 0–8"),
        ({"side": 3, "walls": [(0, 0)]}, r"neighbours .* got \(0, 0\)"),
        (
            {"shape": (1, 5), "walls": [(3, 4)]},
            r"close off 1 of the 5 places, such as 4 \(x = 4, y = 0\); leave a door",
        ),
        ({"side": 3, "walls": [(7, 8), (5, 8)]}, "close off 1 of the 9 places, such as 8"),
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
    for bad in (
        letters[0, 0],
        letters[:, :3].reshape(3, 12),
        letters + 1,
        letters * 1.0,
        [[1, 2, 3]],
    ):
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
    with pytest.raises(ValueError, match="letters must be .* of 6 × 6 places"):
        world.walk(2, 3, seed=0, letters=[[1, 2, 3, 4]])


@pytest.mark.parametrize("maps", [True, [0.0], ["0"], []])
def test_indices_of_maps_are_whole_numbers(maps):
    with pytest.raises(ValueError, match="maps must be indices in 0–1"):
        GridWorld(4, 5, 2, 0).walk(2, 3, seed=0, maps=maps)


def test_a_hand_drawn_rectangle_with_walls():
    destination, moves, n_moves = transitions((2, 3), ((0, 1), (2, 5)))
    #   0|1 2      actions: stay, east, south, north, west
    #       -
    #   3 4 5
    assert destination.tolist() == [
        [0, -1, 3, -1, -1],
        [1, 2, 4, -1, -1],
        [2, -1, -1, -1, 1],
        [3, 4, -1, 0, -1],
        [4, 5, -1, 1, 3],
        [5, -1, -1, -1, 4],
    ]
    assert n_moves.tolist() == [2, 3, 2, 3, 4, 2]
    for place, n in enumerate(n_moves):
        assert set(moves[place, :n]) == set(np.flatnonzero(destination[place] >= 0))


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(2, 6)),
    seed=st.integers(0, 2**31),
    novel=st.booleans(),
)
def test_no_walk_crosses_a_wall(shape, seed, novel):
    rng, (rows, columns) = np.random.default_rng(seed), shape
    place = np.arange(rows * columns).reshape(shape)
    level = np.stack([place[:, :-1], place[:, 1:]], -1).reshape(-1, 2)
    steep = np.stack([place[:-1], place[1:]], -1).reshape(-1, 2)
    walls = []
    for pair in rng.permutation(np.concatenate([level, steep])).tolist():
        try:  # as many walls as leave every place within reach: a maze without a loop
            walls = list(GridWorld(shape=shape, n_maps=1, walls=[*walls, pair]).walls)
        except ValueError:
            continue
    assert len(level) + len(steep) - len(walls) == place.size - 1
    world = GridWorld(shape=shape, n_letters=4, n_maps=2, walls=() if novel else walls)
    walk = world.walk(5, 60, seed=seed, walls=walls if novel else None)
    here = walk.y.values.astype(int) * columns + walk.x.values
    there = walk.next_y.values.astype(int) * columns + walk.next_x.values
    steps = {tuple(sorted(pair)) for pair in zip(here.ravel(), there.ravel(), strict=True)}
    assert not steps & set(map(tuple, walls))
    moves = np.array([0, 1, columns, -columns, -1])[walk.action.values]
    np.testing.assert_array_equal(there - here, moves)
    np.testing.assert_array_equal(walk.observation, world.maps[walk["map"].values[:, None], here])
    assert walk.x.min() >= 0 and walk.x.max() < columns and walk.y.max() < rows


def test_places_beside_walls_are_visited_in_proportion_to_their_moves():
    world = GridWorld(shape=(3, 5), n_letters=2, n_maps=1, walls=[(0, 1), (5, 6), (7, 12)])
    walk = world.walk(400, 2000, seed=2)
    here = (walk.y.values.astype(int) * 5 + walk.x.values)[:, 200:]
    share = np.bincount(here.ravel(), minlength=15) / here.size
    n_moves = transitions((3, 5), world.walls)[2]
    np.testing.assert_allclose(share, n_moves / n_moves.sum(), rtol=0.05)


def test_a_rectangle_of_equal_sides_is_the_square_world():
    square, same = (
        GridWorld(5, 4, 3, seed=1),
        GridWorld(shape=(5, 5), n_letters=4, n_maps=3, seed=1),
    )
    assert repr(same) == repr(square) == "GridWorld(side=5, n_letters=4, n_maps=3, seed=1)"
    assert square.walk(3, 20, seed=0).identical(same.walk(3, 20, seed=0))
    assert "walls" not in square.walk(1, 1, seed=0).attrs
    walled = GridWorld(5, 4, 3, seed=1, walls=[(1, 0), (0, 1)])
    assert walled.walls == ((0, 1),)
    assert walled.walk(3, 20, seed=0, walls=()).identical(square.walk(3, 20, seed=0))
    walk = walled.walk(3, 20, seed=0)
    assert walk.attrs["walls"] == "[[0, 1]]" and walk.familiar.all()
    assert square.walk(3, 20, seed=0, walls=[(0, 1)]).identical(walk)
    wide = GridWorld(shape=(2, 7))
    assert (wide.shape, wide.n_places, wide.maps.shape) == ((2, 7), 14, (32, 14))
    assert not hasattr(wide, "side")
    assert {wide.walk(1, 1, seed=0).attrs[k] for k in ("rows", "columns")} == {2, 7}
    letters = np.arange(12).reshape(2, 2, 3) % 5
    for maps in ({"letters": letters}, {"letters": letters.reshape(2, 6), "shape": (2, 3)}):
        world = GridWorld(n_letters=5, **maps)
        assert world.shape == (2, 3)
        np.testing.assert_array_equal(world.maps, letters.reshape(2, 6))
    assert GridWorld(**walled.settings).settings == walled.settings
    assert GridWorld(**wide.settings).settings == wide.settings


@given(shape=st.tuples(st.integers(1, 5), st.integers(2, 5)), n_letters=st.integers(2, 8))
def test_swapped_letters_stay_as_frequent_and_no_place_keeps_its_own(shape, n_letters):
    world = GridWorld(shape=shape, n_letters=n_letters, n_maps=1)
    first, shares = world.maps[0], np.linspace(0, 1, 5)
    swapped = world.swap(0, shares, seed=3)
    np.testing.assert_array_equal(swapped[0], first)
    changed = swapped != first
    assert (changed[1:] >= changed[:-1]).all()
    for letters in swapped:
        assert sorted(letters) == sorted(first)
    most = np.bincount(first).max()
    full = min(2 * (first.size // 2), 2 * (first.size - most))
    assert changed[-1].sum() >= full - 1
    np.testing.assert_array_equal(changed.sum(1), 2 * np.rint(shares * (changed[-1].sum() // 2)))
    with pytest.raises(ValueError, match="share must be in 0–1"):
        world.swap(0, 1.5)


def test_a_recording_in_a_rectangle_has_all_its_places(tmp_path):
    from helpers.networks import CONFIG, randomised

    wall = [(2, 3), (9, 10)]
    model = randomised(
        pf.NavigationTransformer(CONFIG, GridWorld(shape=(3, 7), n_maps=3, walls=wall)).eval()
    )
    recording = pf.record(model, n_walks=3, n_steps=4, burn_in=0, layers="ffn.1", progress=False)
    assert (recording.attrs["rows"], recording.attrs["columns"]) == (3, 7)
    maps = pf.rate_maps(recording)
    assert dict(maps.sizes) | {"y": 3, "x": 7} == dict(maps.sizes)
    ax = pf.plot.walk(recording)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 6.5), (2.5, -0.5))
    drawn = [line.get_xydata().tolist() for line in ax.lines if line.get_linewidth() == 2]
    assert drawn == [[[2.5, -0.5], [2.5, 0.5]], [[2.5, 0.5], [2.5, 1.5]]]
    ax.figure.clear()
    errors = pf.memory_errors(model, n_walks=4, n_steps=16, progress=False)
    model.save_pretrained(tmp_path / "wide")
    again = pf.load(tmp_path / "wide")
    assert again.world.settings == model.world.settings
    np.testing.assert_array_equal(again.world.novel_maps, model.world.novel_maps)
    assert again.world.walk(2, 9, seed=1).identical(model.world.walk(2, 9, seed=1))
    assert errors.n.sum() == 4 * 3
    text = (tmp_path / "wide" / "README.md").read_text()
    assert "3 × 7 places" in text and "3 × 7 places" in repr(again)
    assert again.summary()["world"] == model.world.settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_walks": 0}, "n_walks must be a whole number ≥ 1, got 0"),
        ({"n_steps": 2.5}, "n_steps must be a whole number ≥ 1, got 2.5"),
        ({"seed": -1}, "seed must be a whole number ≥ 0, got -1"),
        ({"maps": 0}, r"maps must be indices in 0–1, such as \[0\], got 0"),
    ],
)
def test_walks_that_cannot_be_are_refused_by_name(arguments, message):
    world = GridWorld(side=3, n_letters=4, n_maps=2, seed=0)
    with pytest.raises(ValueError, match=message):
        world.walk(**({"n_walks": 2, "n_steps": 5, "seed": 0} | arguments))


@pytest.mark.parametrize("familiar", ["novel", None, 2, 0.5])
def test_walks_are_on_trained_maps_or_on_novel_ones(familiar):
    with pytest.raises(ValueError, match="familiar must be one of True, False"):
        GridWorld(3, 3, 2, seed=0).walk(2, 3, seed=0, familiar=familiar)
