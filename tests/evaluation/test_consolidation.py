"""Consolidation: every step measured as that network alone would be; turnover of known truth."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from helpers.recipes import recipe
from torch import nn

import placeformer as pf
from placeformer.evaluation.consolidation import turnover

STEPS = [0, 3, 6]
SETTINGS = {
    "n_walks": 4, "n_steps": 64, "recorded_walks": 16, "recorded_steps": 64, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pf.train(recipe(snapshots=STEPS), folder, stop_at=6, progress=False)
    return folder


@pytest.fixture(scope="module")
def course(run):
    return pf.consolidation(run, maps=[0, 1], **SETTINGS)


def test_errors_and_place_cells_are_those_of_the_network_at_that_step(run, course):
    assert course.step.values.tolist() == STEPS and course.attrs["final_step"] == 6
    for step in STEPS:
        model = pf.load(run, step=step)
        here = course.sel(step=step)
        for kind, familiar in (("trained", True), ("novel", False)):
            alone = pf.memory_errors(
                model, n_walks=4, n_steps=64, maps=[0, 1], familiar=familiar, progress=False
            )
            xr.testing.assert_equal(here.error.sel(maps=kind, drop=True).drop_vars(
                ["step", "alpha"]), alone.error)  # fmt: skip
        options = {"n_walks": 16, "n_steps": 64, "progress": False}
        cells = pf.place_cells(
            pf.record(model, **options), control=pf.record(model, familiar=False, **options),
            cell_types=False, progress=False,
        )  # fmt: skip
        assert (here.is_place_cell.values == cells.is_place_cell.values).all()
        assert (here.depends_on_memory.values == cells.depends_on_memory.values).all()
        share = cells.is_place_cell.values.reshape(2, -1).mean(1)
        assert here.place_cell_fraction.sel(maps="trained").values == pytest.approx(share)


def test_the_final_step_is_like_itself_and_others_are_less(course):
    last, first = course.sel(step=6), course.sel(step=0)
    assert last.cka.values == pytest.approx(1) and (first.cka.values < 1).all()
    assert np.nanmin(last.map_correlation.values) == pytest.approx(1)
    assert np.nanmean(first.map_correlation.values) < 1
    assert (course.alpha.values == 10.0).all()
    assert np.isnan(course.kept.sel(step=0, compared="previous"))


def test_some_steps_are_still_compared_with_the_last_of_all(run, course):
    some = pf.consolidation(run, [3], maps=[0, 1], **SETTINGS)
    assert some.attrs["final_step"] == 6
    for name in ("error", "cka", "map_correlation", "eta2_beyond", "position_error"):
        np.testing.assert_array_equal(some[name].values[0], course[name].sel(step=3).values)
    kept, whole = (d["kept"].sel(step=3, compared="final") for d in (some, course))
    np.testing.assert_array_equal(kept, whole)


def test_a_network_with_its_states_gives_what_its_snapshots_give(run, course):
    networks = {step: pf.load(run, step=step) for step in STEPS}
    states = {step: network.state_dict() for step, network in networks.items()}
    before = {k: v.clone() for k, v in states[0].items()}
    given = pf.consolidation(networks[0], states=states, maps=[0, 1], **SETTINGS)
    xr.testing.assert_equal(given.drop_attrs(), course.drop_attrs())
    listed = pf.consolidation(
        networks[0], STEPS, states=list(states.values()), maps=[0, 1], **SETTINGS
    )
    xr.testing.assert_equal(listed.drop_attrs(), course.drop_attrs())
    assert all(torch.equal(v, before[k]) for k, v in networks[0].state_dict().items())


class Bumps(nn.Module):
    """Units with a place field each, as far as their gate is open; else noise of their own."""

    def __init__(self, n=24):
        super().__init__()
        rng = np.random.default_rng(0)
        self.centre = nn.Parameter(torch.tensor(rng.uniform(0, 9, (n, 2)), dtype=torch.float32))
        self.gate = nn.Parameter(torch.zeros(n))
        self.hidden = nn.Identity()

    def forward(self, position, noise):
        away = (position[:, :, None] - self.centre).square().sum(-1)
        return self.hidden(self.gate * torch.exp(-away / 3) + 0.1 * noise)


@pytest.fixture(scope="module")
def bumps():
    """The network with units 0–9 open at step 10, 5–14 at 20 and 5–14 at 30, and its behaviour."""
    network, rng = Bumps(), np.random.default_rng(1)
    states = {}
    for step, (first, last) in {0: (0, 0), 10: (0, 10), 20: (5, 15), 30: (5, 15)}.items():
        gate = torch.zeros(24)
        gate[first:last] = 1
        states[step] = network.state_dict() | {"gate": gate}
    place = np.cumsum(rng.integers(-1, 2, (2, 10, 1500)), -1)
    place = np.abs((place + 9) % 36 - 18) // 2  # reflected, 0 to 9
    behaviour = {"x": place[0], "y": place[1]}
    inputs = {
        "position": np.moveaxis(place, 0, -1).astype(np.float32),
        "noise": rng.standard_normal((10, 1500, 24)).astype(np.float32),
    }
    return network, states, behaviour, inputs


def test_turnover_of_a_network_of_ones_own_is_the_one_it_was_given(bumps):
    network, states, behaviour, inputs = bumps
    course = pf.consolidation(
        network, states=states, behaviour=behaviour, inputs=inputs, layers="hidden",
        score={"open": lambda net: float(net.gate.detach().sum())}, progress=False,
    )  # fmt: skip
    assert course.score.sel(metric="open").values.tolist() == [0, 10, 10, 10]
    opened = [np.arange(0), np.arange(10), np.arange(5, 15), np.arange(5, 15)]
    cells = [np.flatnonzero(row) for row in course.is_place_cell.values]
    assert [c.tolist() for c in cells] == [o.tolist() for o in opened]
    kept = course.kept.sel(compared="previous").values
    assert np.isnan(kept[:2]).all() and kept[2:].tolist() == [0.5, 1.0]
    assert course.kept.sel(compared="final").values[1:].tolist() == [0.5, 1.0, 1.0]
    assert course.kept_chance.sel(step=20, compared="previous") == pytest.approx(10 / 24)
    assert course.kept_p.sel(step=30, compared="previous") < 1e-5
    assert course.kept.sel(compared="retest").isnull().all()
    assert course.attrs["control"] == "none" and "error" not in course
    assert course.cka.sel(maps="novel").isnull().all()
    assert course.position_error.sel(step=30, maps="trained") < course.position_error.sel(
        step=0, maps="trained"
    )


def test_a_control_tells_what_depends_on_memory(bumps):
    network, states, behaviour, inputs = bumps
    rng = np.random.default_rng(2)
    elsewhere = {"position": rng.uniform(0, 9, (10, 1500, 2)), "noise": inputs["noise"]}
    course = pf.consolidation(
        network, [0, 30], states=states, behaviour=behaviour, inputs=inputs, layers="hidden",
        control=behaviour,
        control_inputs={k: v.astype(np.float32) for k, v in elsewhere.items()}, progress=False,
    )  # fmt: skip
    assert np.flatnonzero(course.depends_on_memory.sel(step=30)).tolist() == list(range(5, 15))
    assert course.place_cell_fraction.sel(step=30, maps="novel").item() == 0
    assert course.attrs["control"] == "novel"


def test_turnover_counts_units_by_layer():
    cells = [[True, False, True, False], [True, True, False, False]]
    course = xr.Dataset(
        {"is_place_cell": (("step", "unit"), cells)},
        {"step": [0, 1], "unit_layer": ("unit", ["a", "a", "b", "b"])},
    )  # fmt: skip
    found = turnover(course, np.array([True, True, False, False])).sel(step=1)
    assert found.kept.sel(compared="previous") == 0.5
    assert found.kept_chance.sel(compared="previous") == 0.5  # one of a, all of which are kept
    assert found.kept_p.sel(compared="previous") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [3, 4]}, "steps must be some of the snapshots of .*0, 3, 6, got 4"),
        ({"steps": []}, "got none"),
        ({"states": [{}]}, "states must be None unless source is a torch.nn.Module"),
        ({"source": "mini-tanh"}, "source must have snapshots, got 'mini-tanh'"),
        ({"source": nn.Linear(1, 1)}, "states must be the state_dict"),
        ({"source": nn.Linear(1, 1), "states": []}, "at least one state"),
        ({"source": nn.Linear(1, 1), "states": [{}], "steps": [1, 2]}, "got 2 steps for 1 states"),
        (
            {"source": nn.Linear(1, 1), "states": [nn.Linear(1, 1).state_dict()]},
            "behaviour must be given",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(run, change, message):
    options = {"source": run, **SETTINGS, **change}
    with pytest.raises(ValueError, match=message):
        pf.consolidation(options.pop("source"), **options)


def test_the_result_survives_netcdf_and_the_figure_has_its_parts(course, bumps, tmp_path):
    course.to_netcdf(tmp_path / "course.nc")
    xr.testing.assert_equal(xr.load_dataset(tmp_path / "course.nc"), course)
    for name in course.data_vars:
        assert {"units", "long_name"} <= course[name].attrs.keys(), name
    changed = course.assign_coords(alpha=("step", [10.0, 10.0, 0.1]))
    axes = pf.plot.consolidation(changed)
    shaded = [patch for ax in axes.ravel() for patch in ax.patches]
    assert len(shaded) == 4 and shaded[0].get_x() == 3 and shaded[0].get_width() == 3
    labels = axes[0, 0].get_legend_handles_labels()[1]
    assert labels == [
        "reference, trained", "reference, novel", "working, trained", "working, novel", "chance",
    ]  # fmt: skip
    plt.close("all")
    with pytest.raises(ValueError, match="ax must hold 4 axes"):
        pf.plot.consolidation(course, ax=plt.subplots()[1])
    plt.close("all")


class Scaled(nn.Module):
    """Units that are tuned to the heading, or silent with a gain of 0."""

    def __init__(self):
        super().__init__()
        self.layer, self.gain = nn.Identity(), nn.Parameter(torch.ones(()))

    def forward(self, rates):
        return self.layer(self.gain * rates)


def test_a_silent_first_step_and_any_axis_are_measured():
    rng = np.random.default_rng(0)
    heading = rng.uniform(0, 2 * np.pi, (4, 60))
    rates = np.cos(heading[..., None] - np.arange(6)) + 0.1 * rng.standard_normal((4, 60, 6))
    network, behaviour = (
        Scaled(),
        xr.Dataset(coords={"heading": (("walk", "time"), heading, {"units": "rad"})}),
    )
    course = pf.consolidation(
        network, [0, 1], states=[{"gain": torch.zeros(())}, {"gain": torch.ones(())}],
        behaviour=behaviour, layers="layer", inputs={"rates": rates.astype(np.float32)},
        criteria={"by": "heading", "bins": 6}, n_shuffles=19, progress=False,
    )  # fmt: skip
    assert course.attrs["position_units"] == course.position_error.attrs["units"] == "rad"
    assert np.isnan(course.map_excess[0]) and np.isnan(course.map_correlation[0]).all()
    assert course.map_correlation[1].values == pytest.approx(1)


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 12)

    def forward(self, xy):
        return torch.relu(self.hidden(xy))


@pytest.mark.parametrize(
    ("names", "steps", "message"),
    [
        (["0", "9", "10"], None, "steps must be a whole number ≥ 0, got '0'"),
        ([0, 9, 10], [0.9, 10], "steps must be a whole number ≥ 0, got 0.9"),
        (None, [0, 0, 9], "steps must differ where there is one per state"),
    ],
)
def test_steps_of_states_are_whole_numbers(names, steps, message):
    states = [Hidden().state_dict() for _ in range(3)]
    states = states if names is None else dict(zip(names, states, strict=True))
    with pytest.raises(ValueError, match=message):
        pf.consolidation(Hidden(), states=states, steps=steps, progress=False)


def test_states_that_share_their_tensors_are_refused():
    network = Hidden()
    states = {step: network.state_dict() for step in (0, 100)}
    with pytest.raises(ValueError, match="states must not share their tensors.*steps 0 and 100"):
        pf.consolidation(network, states=states, progress=False)
