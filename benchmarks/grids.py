"""Time of grid geometry, variance partition and predictivity, compared with alternatives.

Run with ``python benchmarks/grids.py``. It prints CPU seconds of the same work, all in one run;
alternatives that loop are timed on a part of it (*) and scaled up. Packages that are not installed
are left out.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import measures
import numpy as np
import xarray as xr
from _timing import least
from scipy.signal import lfilter
from sklearn.linear_model import Ridge, RidgeCV

import placeformer as pf
from placeformer.evaluation import simulation

SIDE = 40
ALPHAS = np.logspace(-4, 3, 8)


def lattices(n: int) -> xr.Dataset:
    """Noisy grid cells (unit, y, x)."""
    rng = np.random.default_rng(0)
    shape = (SIDE, SIDE)
    rates = [
        simulation.hexagons(shape, rng.uniform(9, 14), rng.uniform(0, 1), rng.uniform(0, 9, 2))
        for _ in range(n)
    ]
    noise = 0.2 * rng.standard_normal((n, *shape))
    return pf.maps_from_arrays(np.maximum(np.array(rates) + noise, 0))


def peers() -> dict[str, Callable[[Any], object]]:
    """Functions of other programs that give the score and the spacing of one map (y, x)."""
    found: dict[str, Callable[[Any], object]] = {}
    if opexebo := measures.installed("opexebo.analysis"):
        found["opexebo"] = lambda rate: opexebo.grid_score(opexebo.autocorrelation(rate))
    if spatial_maps := measures.installed("spatial_maps.gridcells"):
        tools = measures.import_module("spatial_maps.tools")

        def of_spatial_maps(rate: Any) -> object:
            lags = tools.autocorrelation(rate, mode="full", normalize=True)
            peaks, size = spatial_maps.find_peaks(lags), np.array(lags.shape)
            return spatial_maps.gridness(rate), spatial_maps.spacing_and_orientation(peaks, size)

        found["spatial-maps"] = of_spatial_maps
    if neurospatial := measures.installed("neurospatial"):
        grid = measures.import_module("neurospatial.encoding.grid")
        y, x = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
        env = neurospatial.Environment.from_samples(np.c_[y, x].astype(float), bin_size=1.0)

        def of_neurospatial(rate: Any) -> object:
            lags = grid.spatial_autocorrelation(env, rate.ravel())
            return grid.grid_score(lags), grid.grid_scale(lags, 1.0)

        found["neurospatial"] = of_neurospatial
    return found


def session(n_samples: int, n_units: int) -> xr.Dataset:
    """Noise along one slow walk with a heading and a speed, all between 0 and 1."""
    rng = np.random.default_rng(0)
    slow = lfilter([1], [1, -0.99], rng.standard_normal((4, n_samples)), axis=1)
    x, y, heading, speed = (np.argsort(np.argsort(v)) / n_samples for v in slow)
    noise = rng.standard_normal((n_samples, n_units)).astype(np.float32)
    return pf.from_arrays(noise, {"x": x, "y": y, "heading": heading, "speed": speed})


VARIABLES = {"place": ("y", "x"), "heading": "heading", "speed": "speed"}
BINS = {"x": 20, "y": 20, "heading": 12, "speed": 10}


def partition(recording: xr.Dataset, n_shuffles: int) -> Callable[[], object]:
    """Variance partition with the given number of shuffles."""
    options = {"n_shuffles": n_shuffles, "null": "circular", "progress": False}
    return partial(pf.variance_partition, recording, VARIABLES, bins=BINS, **options)


def partition_by_scikit_learn(recording: xr.Dataset) -> float:
    """Seconds of one shuffle: the models of all sets of variables, for five folds and all units."""
    n = recording.sizes["time"]
    bins = {k: np.minimum((recording[k].values[0] * v).astype(int), v - 1) for k, v in BINS.items()}
    values = {"place": bins["y"] * BINS["x"] + bins["x"]}
    values |= {name: bins[name] for name in ("heading", "speed")}
    columns = {k: np.eye(v.max() + 1, dtype=np.float32)[v] for k, v in values.items()}
    train = np.arange(n) < 0.8 * n
    y = recording.activation.values[0]

    def fold() -> None:
        for size in (1, 2, 3):
            for names in combinations(columns, size):
                x = np.hstack([columns[name] for name in names])
                Ridge(alpha=1.0).fit(x[train], y[train]).predict(x[~train])

    return 5 * least(fold, 1)


def arenas(n_units: int, n_cells: int, side: int = 15) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Maps of a network, of its untrained twin and of an animal."""
    rng = np.random.default_rng(0)
    sizes = (n_units, n_units, n_cells)
    network, twin, animal = (rng.standard_normal((n, side, side)) for n in sizes)
    return tuple(map(pf.maps_from_arrays, (network, twin, animal)))  # type: ignore[return-value]


def prediction_by_scikit_learn(network: xr.Dataset, animal: xr.Dataset, n_cells: int) -> float:
    """Seconds of one set of features: a loop over cells and folds with nested ridge regression."""
    x, y = (m.rate.values.reshape(m.sizes["unit"], -1).T for m in (network, animal))
    fold = np.arange(len(x)) % 9

    def loop() -> None:
        for cell in range(n_cells):
            for k in range(9):
                train = fold != k
                RidgeCV(alphas=ALPHAS, cv=4).fit(x[train], y[train, cell]).predict(x[~train])

    return least(loop, 1) * y.shape[1] / n_cells


def main() -> None:
    """Print the times and their ratios to placeformer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=512)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--units", type=int, default=100)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    maps = lattices(options.maps)
    part = max(1, options.maps // 50)
    ways: dict[str, Callable[[], object]] = {
        "placeformer.grid_properties": partial(pf.grid_properties, maps),
        "placeformer.autocorrelogram": partial(pf.autocorrelogram, maps),
        "placeformer.grid_score": partial(pf.grid_score, maps),
    }
    print(f"Grid geometry, {options.maps} maps of {SIDE} x {SIDE}")
    show({name: least(way) for name, way in ways.items()})
    for name, function in peers().items():
        loop = measures.loop(function, maps.rate.values[:part])
        try:
            show({f"{name} *": least(loop, 1) * options.maps / part})
        except Exception as error:  # a peer may fail with this NumPy version
            print(f"  {name:34s} fails: {error!r}"[:100])
    recording = session(options.samples, options.units)
    print(f"One shuffle of a partition, {options.samples:,} samples of {options.units} units")
    few, many = (least(partition(recording, n), 2) for n in (1, 21))
    ours = (many - few) / 20
    show({"placeformer.variance_partition": ours})
    show({"scikit-learn, all units at once *": partition_by_scikit_learn(recording)})
    network, twin, animal = arenas(512, 50)
    print("Predictivity, 50 cells from 512 units at 15 x 15 places, a set of features")
    fit = partial(pf.predictivity, network, animal, untrained=twin, n_random=1, progress=False)
    show({"placeformer.predictivity": least(fit) / 3})
    show({"scikit-learn, loop over cells *": prediction_by_scikit_learn(network, animal, 2)})
    print("* timed on a part of the work")


def show(times: dict[str, float]) -> None:
    """Print times."""
    for name, seconds in times.items():
        print(f"  {name:34s} {seconds:9.4f} s", flush=True)


if __name__ == "__main__":
    main()
