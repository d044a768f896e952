"""Time to decode a sample: placeformer compared with scikit-learn and the installed peers.

Run with ``python benchmarks/decoding.py``; it needs about 1 GB of memory. Every method decodes the
place from the same counts with a decoder that has already been trained. Times are CPU times of all
threads in microseconds per sample, the minimum of the repeats, all in one run. Peers get fewer
samples because they take longer. The activations are Poisson counts, so that every method can
decode them.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import xarray as xr
from _timing import least
from sklearn.naive_bayes import GaussianNB

from placeformer.population import bayes_decoder as bayes
from placeformer.population.decoding import decode_position
from placeformer.spatial.binning import BinnedRecording

SIDE = 11


def simulate(n_walks: int, n_steps: int, n_units: int) -> xr.Dataset:
    """Walks of random places; every unit has Poisson spike counts with one place field."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, SIDE, (2, n_walks, n_steps))
    centre = rng.uniform(0, SIDE - 1, (2, n_units))
    ys, xs = np.divmod(np.arange(SIDE**2), SIDE)
    square = (ys[:, None] - centre[0]) ** 2 + (xs[:, None] - centre[1]) ** 2
    rate = (0.1 + 2 * np.exp(-square / 4)).astype(np.float32)
    counts = rng.poisson(rate[y * SIDE + x]).astype(np.float32)
    coords = {"x": (("walk", "time"), x), "y": (("walk", "time"), y)}
    return xr.Dataset({"activation": (("walk", "time", "unit"), counts)}, coords=coords)


def peers(rate: np.ndarray, counts: np.ndarray) -> dict[str, tuple[int, Callable[[], object]]]:
    """Poisson Bayes of the installed peers: samples and call, by name and version."""
    ways: dict[str, tuple[int, Callable[[], object]]] = {}
    if find_spec("neurospatial"):
        from neurospatial import Environment
        from neurospatial.decoding import decode_position as decode

        places = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1).astype(float)
        env = Environment.from_samples(places, bin_size=1.0)
        if env.n_bins == SIDE**2:
            few = counts[:2000].astype(np.int64)
            name = f"neurospatial {version('neurospatial')}, Poisson"
            ways[name] = (len(few), lambda: decode(env, few, rate.T.astype(float), 1.0))
    if find_spec("pynapple"):
        import pynapple as nap

        some = counts[:100].astype(float)
        frame = nap.TsdFrame(t=np.arange(len(some)) + 0.5, d=some)
        curves = xr.DataArray(
            rate.T.reshape(-1, SIDE, SIDE).astype(float),
            dims=("unit", "y", "x"),
            coords={"unit": frame.columns, "y": np.arange(SIDE), "x": np.arange(SIDE)},
        )
        curves.attrs["occupancy"] = np.ones((SIDE, SIDE))
        epochs = nap.IntervalSet(0, len(some))
        ways[f"pynapple {version('pynapple')}, Poisson"] = (
            len(some),
            lambda: nap.decode_bayes(curves, frame, epochs, 1.0),
        )
    return ways


def main() -> None:
    """Print the times per sample and their ratios to Gaussian Bayes with pooled variance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--units", type=int, default=2_048)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    recording = simulate(options.walks, options.steps, options.units)
    values = recording.activation.values
    places = BinnedRecording.of(recording, by=("y", "x"), bins=None, per_map=False)
    fold = np.broadcast_to((np.arange(options.walks) % 2)[:, None], places.index.shape)
    given = (recording, places.index, places.size, fold)
    counts, place = values.reshape(-1, options.units), places.index.ravel()
    rate = np.stack([counts[place == p].mean(axis=0) for p in range(places.size)])
    sklearn = GaussianNB().fit(counts[:5000], place[:5000])
    ways: dict[str, tuple[int, Callable[[], object]]] = {}
    for name, decoders in {
        "Gaussian Bayes, pooled variance": bayes.gaussian(*given),
        "Gaussian Bayes, variance of every place": bayes.gaussian(*given, variance="place"),
        "Poisson Bayes": bayes.poisson(*given),
    }.items():
        ways[name] = (place.size, lambda d=decoders: bayes.predict(values, d, fold))  # type: ignore[misc]
    whole = lambda: decode_position(recording, method="bayes", n_resamples=1, n_shuffles=0)  # noqa: E731
    ways["decode_position, 5 folds, training included"] = (place.size, whole)
    ways["scikit-learn GaussianNB"] = (1000, lambda: sklearn.predict(counts[:1000]))
    ways |= peers(rate, counts)
    print(f"{options.units:,} units, {places.size} places, float32; microseconds per sample")
    first = None
    for name, (n, way) in ways.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            each = 1e6 * least(way, options.repeats) / n
        first = first or each
        print(f"{name:46s} {each:10.1f} us  {each / first:8.1f} x  ({n:,} samples)", flush=True)


if __name__ == "__main__":
    main()
