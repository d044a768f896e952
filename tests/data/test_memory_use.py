"""What analyses hold beside the chunk they read: nothing that grows with the recording."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr

import placeformer as pf

dask = pytest.importorskip("dask")
CHUNK = 100_000
LENGTHS = (300_000, 1_100_000)
"""Samples of two recordings in equal chunks."""

ANALYSES = {
    "rate_maps": (pf.rate_maps, 0.5),
    "stability": (pf.stability, 2),
    "position_variance_explained": (pf.position_variance_explained, 0.5),
    "... beyond the letter": (
        lambda r: pf.position_variance_explained(r, given="observation"),
        0.5,
    ),
    "dimensionality": (pf.dimensionality, 0.5),
    "shuffle_test of letters": (
        lambda r: pf.shuffle_test(r, "coherence", null="within_observation", n_shuffles=2),
        0.5,
    ),
    "shuffle_test": (lambda r: pf.shuffle_test(r, n_shuffles=2), 3),
    "mutual_information": (lambda r: pf.mutual_information(r, n_shuffles=2), 3),
    "decode_position by ridge": (
        lambda r: pf.decode_position(r, blocks=4, n_resamples=3, n_shuffles=3, progress=False),
        75,
    ),
    "similarity": (
        lambda r: pf.similarity(r, r, debiased=False, n_shuffles=0, progress=False),
        0.5,
    ),
    "decode_position": (lambda r: pf.decode_position(r, method="bayes", n_resamples=3), 60),
}
"""Analyses, and the most bytes a sample: graphs of dask, the half of a step, places, a result."""


def lazy(n):
    """A recording of two walks that is made where it is read."""
    import dask.array as da

    rng, shape, chunks = da.random.default_rng(0), (2, n // 2), (2, CHUNK // 2)
    x, y = (rng.integers(0, 5, shape, chunks=chunks).astype(np.int16) for _ in "xy")
    activation = rng.standard_normal((*shape, 2), chunks=(*chunks, 2), dtype=np.float32)
    steps = ("walk", "time")
    coords = {"x": (steps, x), "y": (steps, y), "observation": (steps, (3 * x + y) % 4)}
    return xr.Dataset({"activation": ((*steps, "unit"), activation)}, coords=coords)


def growth(analysis):
    """Bytes per sample by which the peak grows with the length."""
    peaks = []
    with dask.config.set(scheduler="synchronous"):
        analysis(lazy(CHUNK))  # what is set up once
        for n in LENGTHS:
            recording = lazy(n)
            tracemalloc.start()
            analysis(recording)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    return (peaks[1] - peaks[0]) / (LENGTHS[1] - LENGTHS[0])


@pytest.mark.parametrize("name", ANALYSES)
def test_few_bytes_a_sample_are_held_if_any(name):
    analysis, most = ANALYSES[name]
    assert growth(analysis) < most
