"""Time of measures of rate maps compared with plain NumPy and with other programs, in one run.

Run with ``python benchmarks/measures.py``. Other programs (the extra ``twins``; neurospatial and
spatial-maps if installed) loop over units: they are timed on a tenth of the maps, and the time is
multiplied by ten. Times are the minimum of the repeats; only the ratios are comparable between
machines.
Mutual information needs about 1 GB of memory.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import xarray as xr
from _timing import least
from rate_maps import simulate as simulate_recording
from scipy import ndimage

import placeformer as pf
from placeformer.spatial.rate_maps import flatten

PART = 10


def simulate(n: int, side: int) -> xr.Dataset:
    """Smooth positive rate maps (unit, y, x) with every place visited."""
    rng = np.random.default_rng(0)
    rate = ndimage.gaussian_filter(rng.standard_normal((n, side, side)), (0, side / 15, side / 15))
    axes = {dim: np.arange(side, dtype=float) for dim in "yx"}
    values = {
        "rate": (("unit", "y", "x"), rate - rate.min() + 0.1 * rate.std()),
        "occupancy": (("y", "x"), rng.integers(5, 50, (side, side))),
    }
    return xr.Dataset(values, coords=axes)


def formula(rate: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Skaggs' information in one line of NumPy, for rates above 0; the last axis is places."""
    relative = rate / (rate * p).sum(-1, keepdims=True)
    return (p * relative * np.log2(relative)).sum(-1)


def neighbours(rate: np.ndarray) -> np.ndarray:
    """Coherence by SciPy's convolution (unit, y, x), with zeros beyond the border."""
    box = ndimage.uniform_filter(rate, (0, 3, 3), mode="constant") * 9 - rate
    a, b = (v.reshape(len(rate), -1) for v in (rate, box))
    a, b = (v - v.mean(1, keepdims=True) for v in (a, b))
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def peers(maps: xr.Dataset) -> dict[str, dict[str, Callable[[Any], object]]]:
    """Functions of one map (y, x) of other programs, by measure and name."""
    found: dict[str, dict[str, Callable[[Any], object]]] = {
        "coherence": {},
        "grid": {},
        "border": {},
    }
    fields = [{"field_map": np.zeros((maps.sizes["y"], maps.sizes["x"]))}]

    def field(rate: np.ndarray) -> np.ndarray:
        return ndimage.label(rate > 0.3 * rate.max())[0]

    if opexebo := installed("opexebo.analysis"):
        found["coherence"]["opexebo"] = opexebo.rate_map_coherence
        found["grid"]["opexebo"] = lambda r: opexebo.grid_score(opexebo.autocorrelation(r))
        found["border"]["opexebo, fields given"] = lambda r: opexebo.border_score(
            r, field(r), fields, "square"
        )
    if spatial_maps := installed("spatial_maps.gridcells"):
        borders = import_module("spatial_maps.bordercells")
        found["grid"]["spatial-maps"] = spatial_maps.gridness
        found["border"]["spatial-maps, fields given"] = lambda r: borders.border_score(r, field(r))
    if neurospatial := installed("neurospatial"):
        y, x = np.mgrid[: maps.sizes["y"], : maps.sizes["x"]].reshape(2, -1)
        env = neurospatial.Environment.from_samples(np.c_[y, x].astype(float), bin_size=1.0)
        grid, border, metrics = (
            import_module(f"neurospatial.encoding.{m}")
            for m in ("grid", "border", "_field_metrics")
        )
        found["coherence"]["neurospatial"] = lambda r: metrics.rate_map_coherence(r.ravel(), env)
        found["grid"]["neurospatial"] = lambda r: grid.grid_score(
            grid.spatial_autocorrelation(env, r.ravel())
        )
        found["border"]["neurospatial"] = lambda r: border.border_score(env, r.ravel())
    return found


def installed(name: str) -> Any:
    """Import a module of another program, or return None."""
    try:
        return import_module(name)
    except ImportError:
        print(f"{name} is not installed")
        return None


def loop(function: Callable[[Any], object], rate: np.ndarray) -> Callable[[], object]:
    """Apply the function to every map."""
    return lambda: [function(one) for one in rate]


def compare(title: str, ways: dict[str, Callable[[], object]], repeats: int) -> None:
    """Print the time of every method, with its ratio to the first."""
    print(title)
    first = None
    for name, way in ways.items():
        part = PART if name.endswith("*") else 1
        try:
            seconds = least(way, repeats if part == 1 else 1, time.perf_counter) * part
        except Exception as error:  # a peer may fail with this NumPy version
            print(f"  {name:34s} fails: {error!r}"[:100])
            continue
        first = first or seconds
        print(f"  {name:34s} {seconds:9.4f} s  {seconds / first:9.2f} x")


def main() -> None:
    """Print the times and their ratios to the first of each group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=100_000, help="for mutual information")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    maps, large = simulate(2_048, 11), simulate(200, 40)
    rate, p = flatten(maps)
    compare(
        "Skaggs information, 2,048 maps of 11 x 11",
        {
            "placeformer": lambda: pf.spatial_information(maps),
            "NumPy formula": lambda: formula(rate, p),
        },
        options.repeats * 4,
    )
    small_peers, large_peers = peers(maps), peers(large)
    for title, ours, rates, others in (
        ("Coherence, 2,048 maps of 11 x 11", partial(pf.coherence, maps), maps, small_peers),
        ("Grid score, 200 maps of 40 x 40", partial(pf.grid_score, large), large, large_peers),
        ("Border score, 200 maps of 40 x 40", partial(pf.border_score, large), large, large_peers),
    ):
        kind = title.split()[0].strip(",").lower()
        values = rates.rate.values
        ways: dict[str, Callable[[], object]] = {"placeformer": ours}
        if kind == "coherence":
            ways["SciPy convolution, all maps"] = lambda values=values: neighbours(values)
        part = values[: len(values) // PART]
        ways |= {f"{name} *": loop(function, part) for name, function in others[kind].items()}
        compare(title, ways, options.repeats)
    print("* timed on a tenth of the maps")
    recording = simulate_recording(options.samples, 2_048)
    information = partial(pf.mutual_information, recording)
    compare(
        f"Mutual information, 2,048 units x {options.samples:,} samples",
        {
            "one read, A.sum()": lambda: recording.activation.values.sum(),
            "placeformer, not corrected": partial(information, correction="none"),
            "placeformer, 10 shuffles": information,
        },
        1,
    )


if __name__ == "__main__":
    main()
