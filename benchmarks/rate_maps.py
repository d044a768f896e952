"""Time of rate maps compared with one read of the activations and with SciPy's CSR product.

Run with ``python benchmarks/rate_maps.py``; it needs about 1 GB of memory. Times are the
minimum of the repeats, all in one run; only the ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import xarray as xr
from _timing import least
from scipy import sparse

from placeformer.spatial.rate_maps import rate_maps

SIDE = 11


def simulate(n_samples: int, n_units: int) -> xr.Dataset:
    """One walk of random places with noise as activations, filled block by block."""
    rng = np.random.default_rng(0)
    activation = np.empty((1, n_samples, n_units), np.float32)
    for start in range(0, n_samples, 10_000):
        block = activation[0, start : start + 10_000]
        rng.standard_normal(block.shape, dtype=np.float32, out=block)
    x, y = rng.integers(0, SIDE, (2, 1, n_samples))
    coords = {"x": (("walk", "time"), x), "y": (("walk", "time"), y)}
    return xr.Dataset({"activation": (("walk", "time", "unit"), activation)}, coords=coords)


def csr(recording: xr.Dataset) -> object:
    """Sums by place as one product with a CSR matrix (place, sample), including building it."""
    place = (recording.y.values * SIDE + recording.x.values).ravel()
    n = len(place)
    matrix = sparse.csr_array((np.ones(n, np.float32), (place, np.arange(n))), (SIDE**2, n))
    return matrix @ recording.activation.values[0]


def main() -> None:
    """Print the times and their ratios to one read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=2_048)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    recording = simulate(options.samples, options.units)
    ways = {
        "one read, A.sum()": lambda: recording.activation.values.sum(),
        "placeformer.rate_maps": lambda: rate_maps(recording),
        "scipy CSR @ A, one thread": lambda: csr(recording),
    }
    times = {name: least(way, options.repeats, time.perf_counter) for name, way in ways.items()}
    read = times["one read, A.sum()"]
    print(f"{options.samples:,} samples x {options.units:,} units, float32, {SIDE} x {SIDE} places")
    for name, seconds in times.items():
        print(f"{name:28s} {seconds:8.4f} s  {seconds / read:6.2f} x one read")


if __name__ == "__main__":
    main()
