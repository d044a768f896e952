"""Memory, compression and speed of recordings written to a Zarr store, by their length.

Each length runs in a separate process. The script prints the megabytes of activations, the peak
memory and the part of it that recording added, the size of the activations divided by that of the
store, and the speed in wall time and CPU time. The network, 1,024 tanh units of position with
random weights on random walks, needs little computation, so the speed is that of hooks, compression
and disk.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import placeformer as pf

UNITS = 1024
WALKS = 16


def forward(module, batch, state):
    """Run one part; no state is passed on."""
    module(torch.from_numpy(np.stack([batch["x"].values, batch["y"].values], axis=-1)))


def measure(samples: int, dtype: str, folder: Path) -> None:
    """Record this many samples and print one line."""
    rng = np.random.default_rng(0)
    steps = samples // WALKS
    x, y = rng.standard_normal((2, WALKS, steps), dtype=np.float32).cumsum(2) / 100
    network = torch.nn.Sequential(torch.nn.Linear(2, UNITS), torch.nn.Tanh())
    before = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    pf.record(
        network,
        {"x": x, "y": y},
        layers="1",
        forward=forward,
        chunk=256,
        dtype=dtype,
        store=folder / "recording.zarr",
        progress=sys.stderr.isatty(),
    )
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF)
    size = WALKS * steps * UNITS * np.dtype(dtype).itemsize
    stored = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{samples:>12,} {dtype:>8} {size / 1e6:>10,.0f} {after.ru_maxrss / 1024:>10,.0f} "
        f"{(after.ru_maxrss - before.ru_maxrss) / 1024:>10,.0f} {size / stored:>7.2f} "
        f"{size / 1e6 / seconds:>7.0f} {size / 1e6 / cpu:>9.0f}"
    )


def main() -> None:
    """Measure every length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--folder", type=Path, help="for the stores, which are deleted")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(int(options.samples[0]), options.dtype[0], options.folder)
        return
    print("     samples    dtype         MB   peak MB   added MB   ratio    MB/s  MB/cpu s")
    for dtype in options.dtype:
        for samples in options.samples:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                given = ["--samples", str(samples), "--dtype", dtype, "--folder", folder]
                subprocess.run([sys.executable, __file__, "--one", *given], check=True)


if __name__ == "__main__":
    main()
