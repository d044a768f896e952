"""Time of shuffle tests compared with loops over other packages.

Run with ``python benchmarks/shuffles.py``; packages that are not installed are left out. Loops
over other packages are timed on a few shifts and units and scaled up, as is the large test. Times
are CPU seconds of one run over all threads; only the ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from _timing import seconds
from rate_maps import SIDE, simulate

from placeformer.spatial.shuffle_test import shuffle_test

Loop = Callable[[np.ndarray, np.ndarray, np.ndarray], object]


def opexebo() -> Loop:
    """Rate map and information of one unit from its spikes, where its activation is above 1.6.

    The occupancy does not change under a circular shift and is computed once.
    """
    from opexebo.analysis import rate_map, rate_map_stats, spatial_occupancy

    kw = {"bin_width": 1, "limits": (0, SIDE, 0, SIDE)}
    known: list[np.ndarray] = []

    def loop(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> object:
        t, place = np.arange(len(x)) / 50, np.stack([x, y]) + 0.5
        if not known:
            known.append(spatial_occupancy(t, place, SIDE, **kw)[0])
        spikes = np.flatnonzero(values > 1.6)
        tracking = np.stack([t[spikes], *place[:, spikes]])
        return rate_map_stats(rate_map(known[0], tracking, SIDE, **kw), known[0])

    return loop


def pynapple() -> Loop:
    """Tuning curves and information of one unit."""
    import pynapple as nap

    def loop(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> object:
        t = np.arange(len(x)) / 50
        features = nap.TsdFrame(t=t, d=np.c_[x, y], columns=["x", "y"])
        frame = nap.TsdFrame(t=t, d=values[:, None])
        curves = nap.compute_tuning_curves(frame, features, bins=SIDE)
        return nap.compute_mutual_information(curves)

    return loop


def peers() -> Iterator[tuple[str, Loop]]:
    """Loops over the installed packages, by name."""
    for peer in (opexebo, pynapple):
        try:
            yield peer.__name__, peer()
        except ImportError as error:
            print(f"left out: {peer.__name__} ({error})")


def looped(recording: xr.Dataset, loop: Loop, shifts: int, units: int) -> float:
    """CPU seconds of a loop per shift and unit."""
    x, y = (recording[name].values[0].astype(float) for name in "xy")
    values = recording.activation.values[0]
    rng = np.random.default_rng(0)
    loop(x, y, values[:, 0])  # imports, and one-time computations

    def run() -> None:
        for shift in rng.integers(1000, len(x) - 1000, shifts):
            for unit in range(units):
                loop(np.roll(x, shift), np.roll(y, shift), values[:, unit])

    return seconds(run) / (shifts * units)


def main() -> None:
    """Print the times for 100 shifts of 100 units, and for the large test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=2_048)
    parser.add_argument("--shifts", type=int, default=32, help="measured of the 1,000")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    small = simulate(options.samples, 100)
    print(f"100 shifts x 100 units x {options.samples:,} samples, CPU seconds")
    first = None
    for statistic in ("spatial_information", "position_variance_explained"):
        spent = seconds(lambda name=statistic: shuffle_test(small, name, n_shuffles=100))
        first = first or spent
        print(f"{statistic:32s} {spent:9.2f} {spent / first:8.1f}")
    for name, loop in peers():
        spent = 1e4 * looped(small, loop, 2, 3)
        print(f"{'loop over ' + name:32s} {spent:9.2f} {spent / first:8.1f}")
    large = simulate(options.samples, options.units)
    print(f"1,000 shifts x {options.units:,} units, minutes, from {options.shifts} shifts")
    for statistic in ("spatial_information", "position_variance_explained", "place_cell_score"):
        few, many = (
            seconds(lambda name=statistic, n=n: shuffle_test(large, name, n_shuffles=n))
            for n in (1, 1 + options.shifts)
        )
        print(f"{statistic:32s} {(many - few) / options.shifts * 1000 / 60:9.2f}")


if __name__ == "__main__":
    main()
