import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedKFold,
)

from placeformer.evaluation import simulation
from placeformer.population.cross_validation import Groups, folds

RNG = np.random.default_rng


@settings(deadline=None)
@given(
    n_walks=st.integers(1, 5),
    n_steps=st.integers(1, 60),
    blocks=st.integers(1, 60),
    gap=st.integers(0, 4),
)
def test_blocks_are_as_long_as_each_other_and_apart_by_two_gaps(n_walks, n_steps, blocks, gap):
    rec = simulation.walks(RNG(0), n_walks, n_steps, 1)
    if blocks > n_steps or 2 * gap >= n_steps // blocks:
        with pytest.raises(ValueError, match="blocks must be|gap must be"):
            Groups.of(rec, blocks, gap)
        return
    groups = Groups.of(rec, blocks, gap)
    index = groups.index
    counts = np.bincount(index[index >= 0], minlength=groups.n)
    assert (counts == n_steps // blocks - 2 * gap).all()
    for row in index:
        steps, group = np.flatnonzero(row >= 0), row[row >= 0]
        apart = np.diff(steps)[np.diff(group) > 0]
        assert (apart > 2 * gap).all()
    laid_out = groups.split(index)
    for number, row in enumerate(laid_out):
        assert set(row[row >= 0]) == {number}


def test_walks_are_groups_and_a_gap_is_a_tenth_of_a_block():
    rec = simulation.walks(RNG(0), 3, 100, 1)
    np.testing.assert_array_equal(Groups.of(rec).index, np.arange(3)[:, None] * np.ones(100, int))
    assert Groups.of(rec, 5).gap == 2
    with pytest.raises(ValueError, match="pass blocks as well"):
        Groups.of(rec, gap=3)


@pytest.mark.parametrize("cv", [None, 2, 7, GroupKFold(3), LeaveOneOut(), LeaveOneGroupOut()])
def test_every_walk_is_in_one_fold(cv):
    found = folds(Groups(7, 10, 1, 0), cv)
    assert found.shape == (7,)
    n = {None: 5, 2: 2, 7: 7}.get(cv if isinstance(cv, int) or cv is None else 0)
    assert np.unique(found).size == (n or (3 if isinstance(cv, GroupKFold) else 7))


def test_every_fold_has_a_share_of_every_label():
    label = np.array([0] * 8 + [1] * 4)
    found = folds(Groups(12, 10, 1, 0), None, label)
    for fold in range(4):
        assert (np.bincount(label[found == fold]) == [2, 1]).all()


@pytest.mark.parametrize(
    ("groups", "cv", "label", "words"),
    [
        (Groups(1, 10, 1, 0), None, None, "at least 2 walks.*blocks=10"),
        (Groups(3, 10, 1, 0), 4, None, "2 to 3 folds .* got 4"),
        (Groups(3, 10, 1, 0), 1, None, "got 1"),
        (Groups(4, 10, 1, 0), ShuffleSplit(2, random_state=0), None, "test every walk once"),
        (Groups(3, 10, 1, 0), None, [0, 0, 5], "at least 2 walks on every map, got 1 on map 5"),
    ],
)
def test_what_cannot_be_tested_is_refused(groups, cv, label, words):
    with pytest.raises(ValueError, match=words):
        folds(groups, cv, None if label is None else np.array(label))


@pytest.mark.parametrize("cv", [StratifiedKFold(2), KFold(9)])
def test_a_splitter_that_cannot_split_the_walks_is_named(cv):
    groups = Groups.of(simulation.walks(RNG(0), n_walks=4, n_steps=10))
    with pytest.raises(ValueError, match=r"cv must split 4 walks or blocks, but .*KFold"):
        folds(groups, cv)
