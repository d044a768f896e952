"""Types of cells of a simulated forager whose units are of known types."""

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.evaluation import simulation

QUIET = {"progress": False}


def forager(n=12_000, seed=1):
    """Position (n, 2) in a box of one metre and heading of an animal that turns at the walls."""
    rng = np.random.default_rng(seed)
    position, heading = np.empty((n, 2)), np.empty(n)
    here, angle = np.array([0.5, 0.5]), 0.0
    for t in range(n):
        angle += 0.3 * rng.standard_normal()
        there = here + 0.03 * np.array([np.cos(angle), np.sin(angle)])
        if not 0 < there[0] < 1:
            angle = np.pi - angle
        if not 0 < there[1] < 1:
            angle = -angle
        here = np.clip(here + 0.03 * np.array([np.cos(angle), np.sin(angle)]), 0, 1)
        position[t], heading[t] = here, angle
    return position, heading


def grid(x, y, spacing, phase, angle):
    turns = angle + np.arange(3) * np.pi / 3
    wave = 4 * np.pi / np.sqrt(3) / spacing
    u, v = x - phase[0], y - phase[1]
    return np.maximum(sum(np.cos(wave * (u * np.cos(a) + v * np.sin(a))) for a in turns), 0) / 3


@pytest.fixture(scope="module")
def recording():
    rng = np.random.default_rng(0)
    (x, y), heading = (p := forager())[0].T, p[1]
    centres = rng.uniform(0.25, 0.75, (4, 2))
    rates = {
        "place cell": [np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.02) for a, b in centres],
        "grid cell": [grid(x, y, 0.3, rng.uniform(0, 1, 2), rng.uniform(0, 1)) for _ in range(4)],
        "border cell": [np.exp(-(d**2) / 0.007) for d in (x, 1 - x, y, 1 - y)],
        "head-direction cell": [np.exp(2 * np.cos(heading - k) - 2) for k in range(4)],
        "other": [np.zeros(len(x))] * 8,
    }
    kind = np.repeat(list(rates), [len(v) for v in rates.values()])
    values = np.stack([one for each in rates.values() for one in each], axis=-1)
    values = values + 0.2 * rng.standard_normal(values.shape)
    behaviour = {"head_direction": heading[None]}
    made = pf.from_arrays(values[None], {"x": x[None], "y": y[None]}, behaviour=behaviour)
    return made.assign_coords(kind=("unit", kind))


def test_types_are_those_of_the_simulation(recording):
    table = pf.place_cells(recording, bins=20, smooth=1.5, **QUIET)
    np.testing.assert_array_equal(table.cell_type, recording.kind)
    at = {kind: (recording.kind == kind).values for kind in np.unique(recording.kind)}
    assert (table.q_head_direction.values[at["head-direction cell"]] <= 0.05).all()
    assert (table.q_grid_score.values[at["grid cell"]] <= 0.05).all()
    assert table.is_place_cell.values[at["border cell"]].any()  # a field along a wall is a field
    assert (table.p_grid_score.values[at["other"]] == 1).all()  # no tuning to place: not tested


def test_types_without_headings_and_with_maps_that_have_no_score(recording):
    lacking = recording.drop_vars("head_direction")
    table = pf.place_cells(lacking, bins=20, smooth=1.5, **QUIET)
    assert "head_direction" not in table and (table.cell_type != "head-direction cell").all()
    track = pf.place_cells(lacking, by="x", bins=20, smooth=1.5, **QUIET)
    assert np.isnan(track.grid_score).all() and np.isnan(track.q_border_score).all()
    assert set(np.unique(track.cell_type)) <= {"place cell", "other"}
    plain = pf.place_cells(lacking, bins=20, smooth=1.5, cell_types=False, **QUIET)
    assert "cell_type" not in plain
    for name in plain.data_vars:
        xr.testing.assert_identical(plain[name], table[name])


def test_border_cells_whose_mean_is_0_are_found():
    """Rectified maps of their shuffles would hold no field, and so no score."""
    walls = simulation.population(("wall", "untuned"), 10, n_walks=32, n_steps=1024, seed=3)
    table = pf.place_cells(walls, **QUIET)
    found = table.cell_type.values == "border cell"
    assert found[(walls.kind == "wall").values].all()
    assert not found[(walls.kind == "untuned").values].any()


def test_the_angle_may_be_counted_from_anywhere(recording):
    few = recording.isel(unit=slice(12, 20))
    turned = few.assign_coords(head_direction=few.head_direction - 4 * np.pi)
    options = {"bins": 20, "smooth": 1.5, **QUIET}
    one, two = (pf.place_cells(r, **options) for r in (few, turned))
    np.testing.assert_allclose(one.head_direction, two.head_direction, rtol=1e-6)


def test_reliability_is_that_of_a_stated_exposure():
    """Spearman-Brown of the stability; it agrees between a recording and a part of it."""
    whole = simulation.population(("place",), 20, n_walks=64, n_steps=1024, seed=3, noise=2.0)
    part = whole.isel(walk=slice(16))
    tables = [pf.place_cells(r, cell_types=False, **QUIET) for r in (whole, part)]
    for recording, table in zip((whole, part), tables, strict=True):
        seen = pf.half_maps(recording).occupancy.values
        factor = 400 / (1 / np.mean(1 / seen[:, (seen > 0).all(axis=0)]))
        r = table.stability.values
        want = np.where(r > 0, factor * r / (1 + (factor - 1) * r), r)
        np.testing.assert_allclose(table.reliability, want)
    medians = [[float(t[name].median()) for t in tables] for name in ("stability", "reliability")]
    assert medians[0][0] - medians[0][1] > 0.2  # the halves of a part agree less
    assert abs(medians[1][0] - medians[1][1]) < 0.1
