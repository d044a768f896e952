"""Peak memory of analyses of a recording in a Zarr store, by its length.

``python benchmarks/analysis_length.py`` measures every analysis at every length in a separate
process: its peak resident memory above that after imports, in MB, and the time in seconds. The
recordings have 16 units in float32 and are read by two dask threads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask
import numpy as np
import xarray as xr
import zarr  # noqa: F401  (imported before memory is read)

import placeformer as pf

UNITS, WALKS, SIDE = 16, 10, 10
FEW = {"n_shuffles": 10, "progress": False}
ANALYSES = {
    "rate_maps": lambda r: pf.rate_maps(r),
    "position_variance_explained": lambda r: pf.position_variance_explained(r),
    "stability": lambda r: pf.stability(r),
    "dimensionality": lambda r: pf.dimensionality(r),
    "shuffle_test": lambda r: pf.shuffle_test(r, **FEW),
    "mutual_information": lambda r: pf.mutual_information(r, n_shuffles=10),
    "place_cells": lambda r: pf.place_cells(r, cell_types=False, max_q=1, **FEW),
    "decode_position, ridge": lambda r: pf.decode_position(r, **FEW),
    "decode_position, bayes": lambda r: pf.decode_position(r, method="bayes", **FEW),
    "decode_position, knn": lambda r: pf.decode_position(r, method="knn", **FEW),
}


def store(samples: int, path: Path) -> None:
    """Write a recording of noisy units that are tuned to place."""
    import dask.array as da

    steps, chunk = samples // WALKS, min(samples // WALKS, 100_000)
    shape, chunks = (WALKS, steps), (1, chunk)
    rng = da.random.default_rng(0)
    x, y = (rng.integers(0, SIDE, shape, chunks=chunks).astype(np.int16) for _ in "xy")
    noise = rng.standard_normal((*shape, UNITS), chunks=(*chunks, UNITS), dtype=np.float32)
    values = noise + (x + SIDE * y)[..., None] % (2 + da.arange(UNITS, chunks=UNITS))
    dims = ("walk", "time")
    recording = xr.Dataset(
        {"activation": ((*dims, "unit"), values.astype(np.float32))},
        {"x": (dims, x), "y": (dims, y)},
    )
    recording.to_zarr(path)


def peak() -> float:
    """Peak resident memory of this process in MB (Linux), without that of its parent."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(name: str, path: Path) -> None:
    """Analyse in this process and print the memory and the time."""
    dask.config.set(scheduler="threads", num_workers=2)
    recording = xr.open_zarr(path)
    before = peak()
    begin = time.perf_counter()
    ANALYSES[name](recording)
    seconds = time.perf_counter() - begin
    print(f"{peak() - before:.0f} {seconds:.1f}")


def main() -> None:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--one", nargs=2, metavar=("ANALYSIS", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], Path(options.one[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = {n: Path(folder, f"{n}.zarr") for n in options.samples}
        for samples, path in paths.items():
            store(samples, path)
        head = "".join(f"{n:>12,} {'s':>7}" for n in options.samples)
        print(f"{'MB above imports, by samples':30s}{head}")
        for name in ANALYSES:
            row = ""
            for path in paths.values():
                call = [sys.executable, "-W", "ignore", __file__, "--one", name, str(path)]
                done = subprocess.run(call, capture_output=True, text=True)
                megabytes, seconds = done.stdout.split() if done.returncode == 0 else ("fails", "")
                row += f"{megabytes:>12} {seconds:>7}"
            print(f"{name:30s}{row}", flush=True)


if __name__ == "__main__":
    main()
