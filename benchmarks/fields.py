"""Place fields of simulated units: accuracy and speed of detectors.

Run with ``python benchmarks/fields.py``; packages that are not installed are left out. Times are
CPU seconds of one run; only the ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator

import _results
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from placeformer.evaluation import simulation
from placeformer.spatial.place_fields import place_fields

KINDS = {"one field": 1, "two fields": 2, "untuned": 0}

Detector = Callable[[NDArray[np.float64]], NDArray[np.intp]]


def ours(method: str) -> Detector:
    """Number of fields on every map by one of our methods."""
    return lambda rates: place_fields(simulation.maps(rates), method=method).n_fields.values


def opexebo() -> Detector:
    """The detector of opexebo with its defaults; a map on which it fails has no field."""
    from opexebo.analysis import place_field

    return lambda rates: np.array([len(place_field(rate)[0]) for rate in rates])


def neurospatial() -> Detector:
    """The detector of neurospatial with its defaults, on the bins of the lattice."""
    from neurospatial import Environment
    from neurospatial.encoding.spatial import detect_place_fields

    x, y = np.meshgrid(np.arange(11.0), np.arange(11.0))
    env = Environment.from_samples(np.c_[x.ravel(), y.ravel()], bin_size=1.0)
    place = np.round(env.bin_centers[:, 1] * 11 + env.bin_centers[:, 0]).astype(int)
    return lambda rates: np.array([len(detect_place_fields(env, r.ravel()[place])) for r in rates])


def spatial_maps() -> Detector:
    """spatial-maps: its Laplacian on maps smoothed by one bin, regions of at least four bins."""
    from spatial_maps.fields import separate_fields_by_laplace

    def count(rate: NDArray[np.float64]) -> int:
        smooth = ndimage.gaussian_filter(rate, 1.0)
        label = separate_fields_by_laplace(smooth, threshold=0.2, minimum_field_area=4)
        return len(np.unique(label)) - 1

    return lambda rates: np.array([count(rate) for rate in rates])


def detectors() -> Iterator[tuple[str, Detector]]:
    """The installed detectors, by name."""
    for method in ("peak", "fraction", "opexebo"):
        yield f"placeformer, {method!r}", ours(method)
    for peer in (opexebo, neurospatial, spatial_maps):
        try:
            yield peer.__name__.replace("_", "-"), peer()
        except ImportError as error:
            print(f"left out: {peer.__name__} ({error})")


def main() -> None:
    """Print the fraction of units with the correct number of fields, and the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2_048)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    _results.add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng, n = np.random.default_rng(options.seed), options.units // len(KINDS) + 1
    maps = {
        kind: np.maximum(10 * simulation.units(rng, n, k, options.noise, offset=0.0), 0)
        for kind, k in KINDS.items()
    }
    every = np.concatenate(list(maps.values()))[: options.units]
    print(f"{options.units:,} maps of 11 x 11, rates >= 0, noise {options.noise} of a field of 1")
    print(
        f"{'share right':24s}" + "".join(f"{kind:>12s}" for kind in KINDS) + "      CPU s   ratio"
    )
    first, rows = None, []
    for name, detect in detectors():
        detect(every[:8])
        start = time.process_time()
        found = detect(every)
        seconds = time.process_time() - start
        first = first or seconds
        right = [
            np.mean(part == k) for part, k in zip(_parts(found, n), KINDS.values(), strict=True)
        ]
        shares = "".join(f"{share:12.3f}" for share in right)
        print(f"{name:24s}{shares} {seconds:10.3f} {seconds / first:7.1f}", flush=True)
        rows.append([name, *(f"{share:.3f}" for share in right), f"{seconds / first:.1f}"])
    if options.save:
        about = (
            f"{options.units:,} maps of 11 x 11 places, {n} of each of the first two kinds; noise "
            f"{options.noise:g} in every bin. CPU time relative to the first row."
        )
        _results.save("fields", ["detector", *KINDS, "time"], rows, about)


def _parts(found: NDArray[np.intp], n: int) -> list[NDArray[np.intp]]:
    return [found[:n], found[n : 2 * n], found[2 * n :]]


if __name__ == "__main__":
    main()
