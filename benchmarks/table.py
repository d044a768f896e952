"""Table of speed ratios to other packages, in one run: ``python benchmarks/table.py --save``.

There is one row per comparison, with the CPU seconds of placeformer and of the alternative for the
same work, their ratio, and the target ratio. Alternatives that loop are timed on a part of the work
and scaled up. The other benchmarks go into detail. Packages that are not installed are left out.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from functools import partial

import _results
import decoding
import fields
import grids
import measures
import numpy as np
import rate_maps
import shuffles
from _timing import least

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.population import bayes_decoder as bayes
from placeformer.spatial.binning import BinnedRecording
from placeformer.spatial.rate_maps import flatten

Row = tuple[str, str, float, float, str, float]
"""Task, alternative, seconds of both, the target as text, and the target ratio."""


def maps_of_places(samples: int, units: int) -> Iterator[Row]:
    """Rate maps compared with one read of the activations and with pynapple."""
    recording = rate_maps.simulate(samples, units)
    ours = least(partial(pf.rate_maps, recording))
    read = least(lambda: recording.activation.values.sum())
    yield "rate maps", "one read of the array", ours, read, "at most 2 reads", 0.5
    if nap := measures.installed("pynapple"):
        few = units // 32
        position = np.c_[recording.x.values[0], recording.y.values[0]].astype(float)
        places = nap.TsdFrame(t=np.arange(samples) / 50, d=position, columns=["x", "y"])
        frame = nap.TsdFrame(t=places.t, d=recording.activation.values[0, :, :few])
        bins = rate_maps.SIDE
        theirs = least(lambda: nap.compute_tuning_curves(frame, places, bins=bins), 1) * 32
        yield "rate maps", "pynapple", ours, theirs, "100 times as fast", 100


def information() -> Iterator[Row]:
    """Spatial information compared with the formula in NumPy."""
    maps = measures.simulate(2_048, 11)
    rate, p = flatten(maps)
    ours = least(partial(pf.spatial_information, maps), 20)
    theirs = least(partial(measures.formula, rate, p), 20)
    yield "spatial information", "NumPy, vectorised", ours, theirs, "at most twice as long", 0.5


def place_fields(n: int) -> Iterator[Row]:
    """Place fields compared with opexebo."""
    rates = np.maximum(10 * simulation.units(np.random.default_rng(0), n, 1, offset=0.0), 0)
    ours = least(partial(pf.place_fields, simulation.maps(rates)))
    if measures.installed("opexebo"):
        theirs = least(partial(fields.opexebo(), rates[: n // 4]), 1) * 4
        yield "place fields", "opexebo", ours, theirs, "20 times as fast", 20


def grid_cells(n: int) -> Iterator[Row]:
    """Score, spacing and orientation of grid cells compared with loops over peers."""
    maps = grids.lattices(n)
    ours, part = least(partial(pf.grid_properties, maps)), max(1, n // 20)
    for name, function in grids.peers().items():
        loop = measures.loop(function, maps.rate.values[:part])
        try:
            theirs = least(loop, 1) * n / part
        except Exception as error:  # a peer may fail with this NumPy version
            print(f"{name} fails: {error!r}"[:100])
            continue
        yield "grid geometry", f"loop over {name}", ours, theirs, "20 times as fast", 20


def encoding(samples: int) -> Iterator[Row]:
    """A shuffle of a variance partition, and predictivity, compared with scikit-learn."""
    recording = grids.session(samples, 100)
    few, many = (least(grids.partition(recording, n), 2) for n in (1, 21))
    theirs = grids.partition_by_scikit_learn(recording)
    ours = (many - few) / 20
    yield "variance partition", "scikit-learn, all units", ours, theirs, "20 times as fast", 20
    network, twin, animal = grids.arenas(512, 50)
    fit = partial(pf.predictivity, network, animal, untrained=twin, n_random=1, progress=False)
    theirs = grids.prediction_by_scikit_learn(network, animal, 2)
    yield "predictivity", "loop over scikit-learn", least(fit) / 3, theirs, "20 times as fast", 20


def shuffle_tests(samples: int) -> Iterator[Row]:
    """100 shifts of 100 units compared with loops over peers."""
    recording = rate_maps.simulate(samples, 100)
    test = partial(pf.shuffle_test, recording, "spatial_information", n_shuffles=100)
    ours = least(test)
    for name, loop in shuffles.peers():
        theirs = 1e4 * shuffles.looped(recording, loop, 2, 5)
        yield "shuffle test", f"loop over {name}", ours, theirs, "50 times as fast", 50


def decoders(units: int) -> Iterator[Row]:
    """Bayesian decoding of a sample compared with peers, all trained beforehand."""
    recording = decoding.simulate(8, 500, units)
    values = recording.activation.values
    places = BinnedRecording.of(recording, by=("y", "x"), bins=None, per_map=False)
    fold = np.broadcast_to((np.arange(8) % 2)[:, None], places.index.shape)
    trained = bayes.poisson(recording, places.index, places.size, fold)
    ours = least(lambda: bayes.predict(values, trained, fold)) / fold.size
    counts, place = values.reshape(-1, units), places.index.ravel()
    rate = np.stack([counts[place == p].mean(axis=0) for p in range(places.size)])
    for name, (n, way) in decoding.peers(rate, counts[:500]).items():
        theirs = least(way, 1) / n
        yield "Poisson decoding, a sample", name.split(",")[0], ours, theirs, "as fast", 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=1_024)
    parser.add_argument("--maps", type=int, default=512)
    _results.add_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    columns = ["analysis", "other way", "here (ms)", "there (ms)", "there / here", "aim", "met"]
    print(" | ".join(columns))
    rows = []
    for part in (
        maps_of_places(options.samples, options.units),
        information(),
        place_fields(options.maps),
        grid_cells(options.maps),
        shuffle_tests(options.samples),
        encoding(options.samples),
        decoders(options.units),
    ):
        for what, other, ours, theirs, aim, least_ratio in part:
            ratio = theirs / ours
            times = (f"{1e3 * ours:.3g}", f"{1e3 * theirs:.3g}", f"{ratio:.2g}")
            rows.append([what, other, *times, aim, "yes" if ratio >= least_ratio else "no"])
            print(" | ".join(rows[-1]), flush=True)
    if options.save:
        about = (
            f"CPU time of all threads. {options.samples:,} samples of {options.units:,} units (of "
            "100 units in 100 shifts for the shuffle test), 2,048 maps for information, "
            f"{options.maps} for fields, 11 x 11 places. {options.maps} maps of 40 x 40 places for "
            "grid geometry, a shuffle of 100 units for the variance partition, 50 cells from 512 "
            "units at 15 x 15 places for predictivity."
        )
        _results.save("table", columns, rows, about)


if __name__ == "__main__":
    main()
