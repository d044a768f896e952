"""Peak memory of analyses of recordings in a Zarr store, by the length of the recording.

Run with ``python benchmarks/memory.py``; the longest recording takes 1.3 GB of disk. Each analysis
of each length runs in a separate process. The result is the peak memory of the process minus its
peak memory after opening the store.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _results

SIDE = 11
WALKS = 8
CHUNK = 2**24
"""Bytes per chunk, as written by ``placeformer.record``."""


def analyses() -> dict[str, Callable[[Any], object]]:
    """The analyses to measure, by name."""
    import placeformer as pf

    shuffle, variance = pf.shuffle_test, "position_variance_explained"
    return {
        "rate_maps": pf.rate_maps,
        "stability": pf.stability,
        "position_variance_explained": pf.position_variance_explained,
        "mutual_information": pf.mutual_information,
        "shuffle_test, information": lambda recording: shuffle(
            recording, "spatial_information", n_shuffles=16
        ),
        "shuffle_test, variance beyond letters": lambda recording: shuffle(
            recording, variance, given="observation", n_shuffles=16
        ),
        "decode_position, ridge": lambda recording: pf.decode_position(
            recording, n_resamples=10, n_shuffles=20
        ),
        "decode_position, bayes": lambda recording: pf.decode_position(
            recording, method="bayes", n_resamples=10, n_shuffles=20
        ),
        "dimensionality": pf.dimensionality,
    }


def write(path: Path, samples: int, units: int) -> None:
    """Write a recording of noise along random places, in the chunks of ``placeformer.record``."""
    import dask.array as da
    import numpy as np
    import xarray as xr

    rng, steps = np.random.default_rng(0), samples // WALKS
    block = min(steps, CHUNK // (4 * units * WALKS))
    shape, chunks = (WALKS, steps, units), (WALKS, block, units)
    noise = da.random.default_rng(0).standard_normal(shape, chunks=chunks, dtype=np.float32)
    x, y = rng.integers(0, SIDE, (2, WALKS, steps), dtype=np.int16)
    behaviour = {"x": x, "y": y, "observation": (3 * x + y) % 10}
    coords = {name: (("walk", "time"), values) for name, values in behaviour.items()}
    dataset = xr.Dataset({"activation": (("walk", "time", "unit"), noise)}, coords=coords)
    dataset.chunk(time=block).to_zarr(path, consolidated=False)


def peak() -> float:
    """Peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(path: Path, name: str) -> None:
    """Print the MB that an analysis adds, and its CPU seconds."""
    import xarray as xr

    analysis = analyses()[name]
    recording = xr.open_zarr(path, consolidated=False)
    analysis(recording.isel(time=slice(64)))  # imports, and one-time set-up of libraries
    before, start = peak(), time.process_time()
    analysis(recording)
    print(peak() - before, time.process_time() - start)


def child(*arguments: object) -> str:
    """Run this script in a separate process and return its output."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Print the table, with one row per analysis and one column per length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--only", nargs="+", help="analyses (default: all)")
    parser.add_argument("--folder", type=Path, help="for the stores, which are deleted")
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    _results.add_option(parser)
    options = parser.parse_args()
    if options.write:
        write(Path(options.write[0]), *map(int, options.write[1:]))
    elif options.measure:
        measure(Path(options.measure[0]), options.measure[1])
    else:
        table(options)


def table(options: argparse.Namespace) -> None:
    """Measure every length and analysis."""
    found: dict[str, list[str]] = {"activations": []}
    for samples in map(int, options.samples):
        found["activations"].append(f"{4 * samples * options.units / 1e6:.0f}")
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "recording.zarr"
            child("--write", path, samples, options.units)
            for name in options.only or analyses():
                added, seconds = map(float, child("--measure", path, name).split())
                found.setdefault(name, []).append(f"{added:.0f}")
                print(f"{samples:>12,} {name:40s} {added:8.0f} MB {seconds:8.1f} s", flush=True)
    columns = ["MB", *(f"{int(n):,} samples" for n in options.samples)]
    print("\n".join(", ".join(row) for row in [columns, *([k, *v] for k, v in found.items())]))
    if options.save:
        about = f"{options.units} units, 16 shuffles, {WALKS} walks of {SIDE} x {SIDE} places."
        _results.save("memory", columns, ([k, *v] for k, v in found.items()), about)


if __name__ == "__main__":
    main()
