"""Recordings in a Zarr store, analysed by two worker processes: the same numbers as in memory."""

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.evaluation import simulation

distributed = pytest.importorskip("distributed")
pytest.importorskip("zarr")

PAIR = {"n_walks": 6, "n_steps": 400, "noise": 0.3}


def shuffle(statistic, **options):
    """A shuffle test of a few shuffles."""
    return lambda one, two: pf.shuffle_test(one, statistic, n_shuffles=20, **options)


def double(recording):
    """The recording in double precision, for tests that make much of small differences."""
    return recording.assign(activation=recording["activation"].astype(float))


def per_map(function):
    """A function of the rate maps of two maps, of recordings on both."""

    def of_maps(one, two):
        maps = pf.rate_maps(xr.concat([one, two], "walk"), per_map=True)
        return function(maps.isel(map=0), maps.isel(map=1))

    return of_maps


def decode(function, **options):
    """A decoder of few resamples."""
    return lambda one, two: function(one, n_resamples=20, n_shuffles=5, **options)


ANALYSES = {
    "rate_maps": lambda one, two: pf.rate_maps(one),
    "rate_maps, smooth": lambda one, two: pf.rate_maps(one, bins=5, smooth=1, skipna=True),
    "half_maps": lambda one, two: pf.half_maps(one),
    "spatial_information": lambda one, two: pf.spatial_information(pf.rate_maps(one)),
    "position_variance_explained": lambda one, two: pf.position_variance_explained(one),
    "... beyond the letter": lambda one, two: pf.position_variance_explained(
        one, given="observation"
    ),
    "mutual_information": lambda one, two: pf.mutual_information(one, n_shuffles=3),
    "place_fields": lambda one, two: pf.place_fields(pf.rate_maps(one)),
    "stability": lambda one, two: pf.stability(one, halves="walks"),
    "shuffle_test of maps": shuffle("spatial_information"),
    "shuffle_test of variance": shuffle("position_variance_explained", given="observation"),
    "shuffle_test of letters": shuffle("place_cell_score", null="within_observation"),
    "place_cells": lambda one, two: pf.place_cells(
        double(one), control=double(two), n_shuffles=20, max_q=1
    ),
    "decode_position, ridge": decode(pf.decode_position),
    "decode_position, knn": decode(pf.decode_position, method="knn", max_samples=500),
    "decode_position, bayes": decode(pf.decode_position, method="bayes", variance="place"),
    "decode_position, poisson": decode(
        pf.decode_position, method="poisson", negatives="shift", blocks=4
    ),
    "decode_map": lambda one, two: pf.decode_map(
        xr.concat([one, two], "walk"), n_resamples=20, n_shuffles=5
    ),
    "remapping": per_map(pf.remapping),
    "population_vector_correlation": per_map(pf.population_vector_correlation),
    "similarity, cka": lambda one, two: pf.similarity(one, one.isel(unit=slice(8)), n_shuffles=5),
    "similarity, rsa": lambda one, two: pf.similarity(
        one, one.isel(unit=slice(8)), method="rsa", every=20, n_shuffles=5
    ),
    "dimensionality": lambda one, two: pf.dimensionality(one, standardize=True),
}
SLOW = ("place_cells",)


@pytest.fixture(scope="module")
def workers():
    """A client of two worker processes, which is then what dask computes with."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def recordings():
    """A trained map and a novel one."""
    kinds = ("place", "two fields", "letter", "untuned")
    pair = [simulation.population(kinds, 4, familiar=f, **PAIR) for f in (True, False)]
    return [pair[0], pair[1].assign_coords(map=pair[1]["map"] + 1)]


@pytest.fixture(scope="module")
def stored(recordings, tmp_path_factory):
    """The same in Zarr stores, in chunks along every dimension."""
    folder = tmp_path_factory.mktemp("stores")
    found = []
    for number, each in enumerate(recordings):
        path = folder / f"{number}.zarr"
        each.chunk(walk=6, time=250, unit=8).to_zarr(path, zarr_format=2, consolidated=False)
        found.append(xr.open_zarr(path, consolidated=False))
    return found


def assert_same(found, wanted):
    """Numbers to 1e-6 of the largest of their variable, all else as it is."""
    found, wanted = (
        each if isinstance(each, xr.Dataset) else each.to_dataset(name="value")
        for each in (found, wanted)
    )
    assert set(found.variables) == set(wanted.variables)
    for name, variable in wanted.variables.items():
        ours, theirs = found[name].values, variable.values
        if theirs.dtype.kind == "f":
            size = np.abs(theirs[np.isfinite(theirs)]).max(initial=0)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * size, err_msg=str(name))
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=str(name))


@pytest.mark.filterwarnings("ignore:the median bin has")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in ANALYSES]
)
def test_every_analysis_gives_the_numbers_of_memory(name, workers, recordings, stored):
    assert_same(ANALYSES[name](*stored), ANALYSES[name](*recordings))


def test_both_processes_take_part(workers, stored):
    with distributed.get_task_stream(workers) as tasks:
        pf.rate_maps(stored[0])
    assert {task["worker"] for task in tasks.data} == set(workers.scheduler_info()["workers"])


def test_a_streamed_recording_is_analysed_where_it_lies(workers, tmp_path):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 4, 60)).astype("float32")
    network = torch.nn.Linear(2, 6)
    settings = {"layers": "Linear", "inputs": {"place": np.stack([x, y], axis=-1)}, "batch": 1}
    behaviour = {"x": x, "y": y}
    streamed = pf.record(network, behaviour, store=tmp_path / "r.zarr", progress=False, **settings)
    in_memory = pf.record(network, behaviour, progress=False, **settings)
    assert len(streamed["activation"].chunks[0]) == 4
    assert_same(pf.rate_maps(streamed), pf.rate_maps(in_memory))
    assert_same(pf.dimensionality(streamed), pf.dimensionality(in_memory))
