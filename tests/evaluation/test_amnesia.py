"""Amnesia: errors are those of the network at that step and condition; maps are rehearsed."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from helpers.recipes import RECIPE, recipe
from scipy import stats

import placeformer as pf
from placeformer.evaluation.amnesia import Difference, summarised
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import Trainer

SETS = {"old": [0, 1, 2, 3], "new": [4, 5]}
WALKS = {"n_walks": 6, "n_steps": 48, "progress": False}


def further(**training):
    tables = RECIPE | {"seed": 3, "world": RECIPE["world"] | {"n_maps": 6}}
    given = {"earlier_maps": 4, "maps": [[0, 2]], "fresh_maps": [[0, 0.0]], "snapshots": [0, 2, 4]}
    return Recipe.from_dict(tables | {"training": RECIPE["training"] | given | training})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    source = Trainer(recipe()).model.eval()
    pf.train(further(), folder, init=source, stop_at=4, progress=False)
    return folder


@pytest.fixture(scope="module")
def curve(run):
    return pf.amnesia_curve(
        run, SETS, alpha=0.1, units={"ffn.1": [1, 3]}, repeats=2,
        conditions={"none": lambda model: pf.magnesium(model, alpha=0)}, **WALKS,
    )  # fmt: skip


def test_the_first_maps_of_a_larger_world_are_those_of_the_smaller_one():
    small, large = pf.GridWorld(7, 10, 8, 3), pf.GridWorld(7, 10, 13, 3)
    assert (large.maps[:8] == small.maps).all()
    assert (large.novel_maps[:8] == small.novel_maps).all()


def test_walks_are_on_further_maps_and_as_many_as_asked_for_on_earlier_ones():
    plain = Trainer(further(walks=12)).loader
    some = Trainer(further(walks=12, rehearsal=[[0, 0.25], [4, 0.0]], fresh_maps=[[0, 0.5]])).loader
    for loader, n_old in ((plain, 0), (some, 3)):
        seen = []
        for step in (0, 1, 2):
            loader.start_walks(step)
            seen.append(loader.walker.map.copy())
        assert ((np.array(seen) < 4).sum(1) == n_old).all()
        assert set(np.unique(seen)) >= {4, 5} and np.max(seen) == 5
    assert len(some.fresh) == 6 and (some.walker.map[-3:] < 4).all()  # fresh walks are others
    some.start_walks(4)
    assert (some.walker.map >= 4).all()


def test_rehearsal_resumes_to_the_bit(tmp_path):
    what = further(rehearsal=[[0, 0.5]], steps=6)
    whole = pf.train(what, tmp_path / "a", progress=False)
    pf.train(what, tmp_path / "b", stop_at=3, progress=False)
    resumed = pf.train(what, tmp_path / "b", progress=False)
    for name, weight in whole.model.state_dict().items():
        assert (weight == resumed.model.state_dict()[name]).all(), name


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"rehearsal": [[0, 0.5]], "earlier_maps": 0}, "unless training.earlier_maps is above 0"),
        ({"rehearsal": [[0, 1.5]]}, "training.rehearsal must"),
        ({"rehearsal": [[1, 0.5]]}, "training.rehearsal must start at step 0"),
        ({"rehearsal": [[0, 0.6]], "fresh_maps": [[0, 0.0], [5, 0.5]]}, "got 1.1 at step 5"),
        ({"earlier_maps": -1}, "training.earlier_maps must"),
    ],
)
def test_a_wrong_rehearsal_is_refused_by_name(training, message):
    with pytest.raises(ValueError, match=message):
        further(**training)


def test_further_maps_must_be_in_the_world():
    with pytest.raises(ValueError, match=r"world.n_maps = 6, after 4 earlier maps, got \(\(0, 3\)"):
        Trainer(further(maps=[[0, 3]]))


def test_errors_are_those_of_the_network_at_that_step_and_condition(run, curve):
    assert curve.condition.values.tolist() == [
        "intact", "washout", "lesion", "random lesion", "none",
    ]  # fmt: skip
    for step in (0, 4):
        model = pf.load(run, step=step)
        for condition, context in {
            "intact": None,
            "washout": pf.magnesium(model, alpha=0.1),
            "lesion": pf.ablate(model, {"ffn.1": [1, 3]}),
            "none": pf.magnesium(model, alpha=0),
        }.items():
            if context:
                context.__enter__()
            for maps, walked in {**SETS, "novel": None}.items():
                alone = pf.memory_errors(model, maps=walked, familiar=maps != "novel", **WALKS)
                here = curve.sel(step=step, condition=condition, maps=maps)
                np.testing.assert_array_equal(here.error.values, alone.error.values)
                np.testing.assert_array_equal(here.n.values, alone.n.values)
                np.testing.assert_allclose(here.interval.values, alone.interval.values)
            if context:
                context.__exit__(None, None, None)


def test_costs_are_paired_and_gradients_are_those_of_the_last_set_against_the_first(curve):
    assert (curve.cost.sel(condition="intact") == 0).all()
    assert (curve.forgetting.sel(step=0) == 0).all()
    xr.testing.assert_allclose(
        curve.cost.sel(condition="washout", drop=True),
        curve.error.sel(condition="washout", drop=True)
        - curve.error.sel(condition="intact", drop=True),
    )
    cost = curve.cost.sel(condition="lesion")
    np.testing.assert_allclose(
        curve.gradient.sel(condition="lesion"), cost.sel(maps="new") - cost.sel(maps="old")
    )
    assert (curve.gradient_interval.diff("bound") >= 0).all()
    changed = curve.error.sel(condition="random lesion") - curve.error.sel(condition="intact")
    np.testing.assert_allclose(curve.cost.sel(condition="random lesion"), changed)


def test_the_interval_of_a_difference_is_students_where_walks_are_alike():
    rng = np.random.default_rng(0)
    before, wrong = rng.integers(0, 30, (2, 1, 12)).astype(float)
    found = Difference(wrong, before, np.full((1, 12), 40.0))
    expected = stats.ttest_1samp((wrong - before)[0] / 40, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found.interval[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sets": {}}, "sets must be sets of maps by name"),
        ({"sets": [0, 1]}, "sets must be sets of maps by name"),
        ({"sets": {"old": []}}, "sets must be sets of maps by name"),
        ({"sets": {"novel": [0]}}, 'must not be named "novel"'),
        ({"sets": {"old": [9]}}, "maps must be indices"),
        ({"steps": [1]}, "steps must be some of the snapshots"),
        ({"units": {"ffn.7": [0]}}, "there is no layer 'ffn.7'"),
        ({"units": {"ffn.1": slice(None)}}, "as many other units of ffn.1"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"alpha": 99, "conditions": {"block": None}}, "names other than intact, block, got"),
        ({"alpha": -1}, "alpha must be"),
    ],
)
def test_what_cannot_be_tested_is_refused_by_name(run, change, message):
    options = {"sets": SETS, **WALKS, **change}
    with pytest.raises(ValueError, match=message):
        pf.amnesia_curve(run, **options)


def test_a_source_without_snapshots_is_refused():
    with pytest.raises(ValueError, match="source must have snapshots of the further training"):
        pf.amnesia_curve("mini-tanh", SETS)


def test_the_result_survives_netcdf_and_is_drawn(curve, tmp_path):
    curve.to_netcdf(tmp_path / "curve.nc")
    xr.testing.assert_equal(xr.load_dataset(tmp_path / "curve.nc"), curve)
    for name in curve.data_vars:
        assert {"units", "long_name"} <= curve[name].attrs.keys(), name
    ax = pf.plot.amnesia_curve(curve)
    labels = ax.get_legend_handles_labels()[1]
    assert labels[:2] == ["old, intact", "old, washout"] and "chance" in labels
    plt.close("all")


def test_a_gradient_needs_two_sets():
    rng = np.random.default_rng(0)
    n = np.full((3, 2, 4), 50.0)
    wrong = rng.integers(0, 50, (1, 2, 3, 2, 4)).astype(float)
    two = summarised(wrong, n, [0], ["intact", "block"], ["old", "new", "novel"])
    one = summarised(wrong[:, :, 1:], n[1:], [0], ["intact", "block"], ["new", "novel"])
    xr.testing.assert_equal(one.cost, two.cost.sel(maps=["new", "novel"]))
    assert np.isfinite(two.gradient).all() and np.isfinite(two.gradient_interval).all()
    assert np.isnan(one.gradient).all() and np.isnan(one.gradient_interval).all()


def test_intervals_use_the_walks_that_have_predictions():
    rng = np.random.default_rng(0)
    p = rng.beta(8, 20, (400, 2, 3, 2, 16))
    n = np.zeros((3, 2, 16))
    n[..., :3] = 40  # of 16 walks
    wrong = rng.binomial(n.astype(int), p).astype(float)
    curve = summarised(wrong, n, list(range(400)), ["intact", "block"], ["old", "new", "novel"])
    low, high = np.moveaxis(curve.cost_interval.sel(condition="block").values, -1, 0)
    covered = ((low <= 0) & (high >= 0)).mean()  # 2,400 intervals, most of them independent
    assert covered == pytest.approx(0.95, abs=0.02)  # .84 with 15 degrees of freedom
    n[..., 1:] = 0
    one = summarised(wrong * (n > 0), n, list(range(400)), ["intact", "block"], ["a", "b", "novel"])
    assert one.cost_interval.isnull().all() and one.gradient_interval.isnull().all()
