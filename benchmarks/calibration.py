"""False-positive rates of tests and coverage of intervals, measured by simulation.

Run with ``python benchmarks/calibration.py`` (a quarter of an hour on one core; ``--quick``: a
minute and a half, with a twentieth of the simulations). The truth of every simulation is known. If
several units are recorded along one set of walks, the set is the unit of the interval: see
:class:`Share`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import _results
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.evaluation.simulation import SIDE, bump, noise
from placeformer.interventions.control_units import lesion_sets, strata
from placeformer.spatial.binning import BinnedRecording
from placeformer.spatial.place_shuffles import correlation_times
from placeformer.spatial.shuffle_test import LONG_WALK
from placeformer.stats.hill import hill
from placeformer.stats.intervals import LEVEL, error_interval
from placeformer.stats.permutation import control_p
from placeformer.stats.rank_correlation import partial_within, trend

Floats = NDArray[np.float64]
Sample = Callable[[int], Any]
"""Outcomes of the simulation with a seed: true where a test rejects, or an interval is right."""

P, DECISION, COVERAGE, POWER = "p", "decision", "coverage", "power"
SHUFFLES, ALPHA = 39, 0.05
"""Shuffles of every test with a given number, and its level: 2 of 40 values of p are below it."""


QUICK = 0.05
"""Fraction of the simulations in the small version."""


@dataclass
class Share:
    """Proportion of simulations in which a test rejects, or an interval contains the truth.

    `hits` of `trials` (set,) were counted in every independent set of simulations, such as the
    units along one set of walks. `warned` is the fraction of units for which the package warns, and
    `promised` is false where it says that the test is not valid.
    """

    kind: str
    test: str
    data: str
    hits: Floats
    trials: Floats
    before: str = ""
    warned: float = 0.0
    promised: bool = True

    @property
    def value(self) -> float:
        """Proportion over all simulations."""
        return float(self.hits.sum() / self.trials.sum())

    def interval(self, level: float = LEVEL) -> Floats:
        """Wilson's interval with the design effect of the sets."""
        return error_interval(self.hits, self.trials, level=level)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.3f} ({low:.3f}–{high:.3f})"


def counted(
    kind: str, test: str, data: str, sample: Sample, n: int, before: str = "", **about: Any
) -> Share:
    """Run a simulation with `n` seeds, which are its independent sets."""
    outcomes = [np.atleast_1d(sample(seed)) for seed in range(n)]
    hits, trials = (np.array([f(o) for o in outcomes], float) for f in (np.sum, np.size))
    return Share(kind, test, data, hits, trials, before, **about)


# ---------------------------------------------------------------------------- simulated units

Units = dict[str, NDArray[np.float32]]

LOCKED = ("ramp in every walk", "transient at the start")
"""Units that change with the time since the start of a walk."""


def untuned(rng: np.random.Generator, n_walks: int, n_steps: int, n_each: int) -> Units:
    """Activations (walk, time, unit) that do not depend on the place, by kind."""
    shape = (n_walks, n_steps, n_each)
    time_, sign = np.arange(n_steps)[:, None], rng.choice([-1.0, 1.0], n_each)
    decay = rng.uniform(8, 40, n_each)
    bursts = (rng.random(shape) < 0.005) * rng.exponential(1, shape)
    locked = {
        LOCKED[0]: 1.5 * sign * (2 * time_ / n_steps - 1) * rng.uniform(1, 2, n_each),
        LOCKED[1]: 3 * sign * np.exp(-time_ / decay),
    }
    kinds = {
        "white noise": rng.standard_normal(shape),
        **{f"AR({rho:g})": noise(rng, *shape, rho) for rho in (0.9, 0.99, 0.998)},
        **{name: course + rng.standard_normal(shape) for name, course in locked.items()},
        "sparse bursts": lfilter([1], [1, -0.8], bursts, axis=1),
        "Cauchy": rng.standard_cauchy(shape),
    }
    return {name: np.asarray(values, np.float32) for name, values in kinds.items()}


def lattice(seed: int, n_walks: int, n_steps: int) -> xr.Dataset:
    """Walks on the letters of a new map."""
    return pf.GridWorld(n_maps=1, seed=seed).walk(n_walks, n_steps, seed=seed)


def on_lattice(walk: xr.Dataset, activation: NDArray[Any]) -> xr.Dataset:
    """A Recording along walks, with the letters."""
    return simulation.recording(
        activation, walk.x.values, walk.y.values, observation=walk.observation.values
    )


def forager(rng: np.random.Generator, n_walks: int, n_steps: int) -> tuple[Floats, Floats]:
    """Smooth random trajectories (walk, time) in a box of side 1, reflected by the walls.

    Velocities are AR(.95); the box is crossed in about a hundred steps.
    """
    start = rng.uniform(0, 2, (2, n_walks, 1))
    velocity = 0.02 * np.moveaxis(noise(rng, n_walks, n_steps, 2, 0.95), 2, 0)
    x, y = 1 - abs(1 - (start + velocity.cumsum(-1)) % 2)
    return x, y


def fields(rng: np.random.Generator, n: int, walk: xr.Dataset) -> Floats:
    """Gaussian fields of height 1 at random places, along walks (walk, time, unit)."""
    rates = np.array([bump(centre) for centre in rng.uniform(0, SIDE - 1, (n, 2))])
    return np.moveaxis(rates, 0, -1)[walk.y.values, walk.x.values]


# ---------------------------------------------------------------------------- shuffle tests

STATISTICS: dict[str, dict[str, Any]] = {
    "variance explained": {"statistic": "position_variance_explained"},
    "beyond the letter": {"statistic": "position_variance_explained", "given": "observation"},
    "spatial information": {"statistic": "spatial_information", "negatives": "shift"},
    "coherence": {"statistic": "coherence"},
}
DESIGNS = [
    ("walks", 16, 512), ("walks", 128, 64),
    ("circular", 4, 2048), ("circular", 1, 4096), ("circular", 128, 64),
]  # fmt: skip
OF_16, OF_128 = (
    dict(zip(
        ("white noise", "AR(0.9)", "AR(0.99)", "AR(0.998)", "ramp in every walk",
         "transient at the start", "sparse bursts", "Cauchy"), values, strict=True,
    ))
    for values in (
        (".03–.075", ".06–.08", ".07–.10", ".075–.09", ".10", ".13", ".04–.085", ".04–.085"),
        ("", ".09", ".15", ".18", ".31", ".24", "", ""),
    )
)  # fmt: skip
BEFORE: dict[tuple[int, int], dict[str, str]] = {
    (16, 512): OF_16,
    (128, 64): OF_128,
    (1, 4096): {
        "white noise": ".064", "AR(0.99)": ".05", "AR(0.998)": ".09", "ramp in every walk": ".10",
    },
}  # fmt: skip
"""Proportions for circular shifts, then the default, in the audit of an earlier version."""


def shuffle_tests(scale: float) -> Iterator[Share]:
    """Shuffle tests of units that do not depend on the place."""
    n = max(16, round(100 * scale))
    for null, n_walks, n_steps in DESIGNS:
        yield from _shuffled(null, n_walks, n_steps, n, _on_lattice, "lattice")
    yield from _shuffled("circular", 4, 2048, n, _foraging, "forager")
    for null, n_walks, n_steps in DESIGNS[:3:2]:
        for height in (0.5, 1.0, 2.0):
            yield counted(
                POWER, f"shuffle_test, variance explained, null={null!r}",
                f"field {height:g} high in AR(0.9) of variance 1, {n_walks} × {n_steps:,}",
                lambda seed, h=height, design=(null, n_walks, n_steps): _tuned(seed, h, *design),
                max(4, round(30 * scale)),
            )  # fmt: skip


def _tuned(seed: int, height: float, null: Any, n_walks: int, n_steps: int) -> NDArray[np.bool_]:
    walk, rng = lattice(500 + seed, n_walks, n_steps), np.random.default_rng([seed, 13])
    activation = height * fields(rng, 8, walk) + noise(rng, n_walks, n_steps, 8, 0.9)
    test = pf.shuffle_test(
        on_lattice(walk, activation), n_shuffles=SHUFFLES, null=null, seed=seed, progress=False
    )
    return test.p.values <= ALPHA


def _on_lattice(seed: int, n_walks: int, n_steps: int) -> tuple[Units, xr.Dataset, dict[str, Any]]:
    units = untuned(np.random.default_rng([seed, 1]), n_walks, n_steps, 3)
    joined = np.concatenate(list(units.values()), axis=2)
    return units, on_lattice(lattice(seed, n_walks, n_steps), joined), {}


def _foraging(seed: int, n_walks: int, n_steps: int) -> tuple[Units, xr.Dataset, dict[str, Any]]:
    rng = np.random.default_rng([seed, 2])
    units = untuned(rng, n_walks, n_steps, 3)
    joined = np.concatenate(list(units.values()), axis=2)
    return units, simulation.recording(joined, *forager(rng, n_walks, n_steps)), {"bins": 10}


def _shuffled(
    null: str, n_walks: int, n_steps: int, n: int, simulate: Callable[..., Any], where: str
) -> Iterator[Share]:
    found: dict[tuple[str, str], list[NDArray[np.bool_]]] = {}
    warned: dict[str, list[float]] = {}
    for seed in range(n):
        units, recording, options = simulate(seed, n_walks, n_steps)
        kinds = np.repeat(list(units), 3)
        binned = BinnedRecording.of(recording, by=("y", "x"), bins=options.get("bins"))
        slow = LONG_WALK * correlation_times(binned) > n_steps
        for name, asked in STATISTICS.items():
            if "given" in asked and asked["given"] not in recording.variables:
                continue
            test = pf.shuffle_test(
                recording, n_shuffles=SHUFFLES, null=null, seed=seed, progress=False,  # type: ignore[arg-type]
                **asked, **options,
            )  # fmt: skip
            for kind in units:
                found.setdefault((name, kind), []).append(test.p.values[kinds == kind] <= ALPHA)
        for kind in units:
            warned.setdefault(kind, []).append(float(slow[kinds == kind].mean()))
    before = BEFORE.get((n_walks, n_steps), {}) if where == "lattice" else {}
    for (name, kind), sets in found.items():
        slow_share = 0.0 if null == "walks" else float(np.mean(warned[kind]))
        yield Share(
            P, f"shuffle_test, {name}", f"{where}|{null}|{n_walks} × {n_steps:,}|{kind}",
            np.array([s.sum() for s in sets], float), np.array([s.size for s in sets], float),
            before.get(kind, ""), warned=slow_share,
            promised=null == "walks" or (slow_share < 0.5 and kind not in LOCKED),
        )  # fmt: skip


# ---------------------------------------------------------------------------- place cells


BEFORE_PLACE_CELLS = {
    ("lattice", 16): ".0005 (1/2,000)",
    ("lattice", 128): ".0015 (3/2,000)",
    ("forager", 4): ".00 (0/60 of each kind)",
}


def place_cell_decisions(scale: float) -> Iterator[Share]:
    """False and true place cells."""
    n = max(6, round(60 * scale))
    for where, n_walks, n_steps in (
        ("lattice", 16, 512), ("lattice", 128, 64), ("lattice", 4, 2048), ("forager", 4, 2048),
    ):  # fmt: skip
        simulate = _on_lattice if where == "lattice" else _foraging
        accepted = np.zeros((n, 8))
        for i in range(n):
            units, recording, options = simulate(1000 + i, n_walks, n_steps)
            table = pf.place_cells(recording, seed=i, progress=False, **options)
            accepted[i] = table.is_place_cell.values.reshape(8, -1).sum(1)
        counts = zip(accepted.sum(0).astype(int), units, strict=True)
        which = ", ".join(f"{count} {kind}" for count, kind in counts if count)
        yield Share(
            DECISION, "place cell",
            f"the eight kinds of units above, {n_walks} × {n_steps:,}, {where}"
            + (f" (accepted: {which})" if which else ""),
            accepted.sum(1), np.full(n, 24.0), BEFORE_PLACE_CELLS.get((where, n_walks), ""),
        )  # fmt: skip
    for height, before in ((0.25, ""), (0.5, ".17"), (1.0, ".98")):
        yield counted(
            POWER, "place cell", f"field {height:g} high in AR(0.8) of variance 1, 32 × 1,024",
            lambda seed, height=height: _fields_found(seed, height), max(4, round(20 * scale)),
            before,
        )  # fmt: skip
    if scale < 0.5:
        return  # each of the following takes a minute
    sparse = [_sparse(seed) for seed in range(round(6 * scale))]
    for kind, text, part in (
        (POWER, "20 fields 2 high among 2,028 units of white noise, 16 × 512", slice(20)),
        (DECISION, "white noise beside 20 place cells, 16 × 512", slice(20, None)),
    ):
        yield counted(
            kind, "place cell", text, lambda seed, part=part: sparse[seed][part], len(sparse),
            ".00" if kind == POWER else "",
        )  # fmt: skip


def _fields_found(seed: int, height: float) -> NDArray[np.bool_]:
    walk, rng = lattice(2000 + seed, 32, 1024), np.random.default_rng([seed, 3])
    activation = height * fields(rng, 10, walk) + noise(rng, 32, 1024, 10, 0.8)
    found = pf.place_cells(on_lattice(walk, activation.astype("f4")), seed=seed, progress=False)
    return found.is_place_cell.values


def _sparse(seed: int) -> NDArray[np.bool_]:
    walk, rng = lattice(3000 + seed, 16, 512), np.random.default_rng([seed, 4])
    activation = noise(rng, 16, 512, 2048)
    activation[..., :20] += 2 * fields(rng, 20, walk).astype("f4")
    found = pf.place_cells(on_lattice(walk, activation), seed=seed, progress=False)
    return found.is_place_cell.values


def memory(scale: float) -> Iterator[Share]:
    """Dependence on memory of untuned units."""
    for slow, quick, before in ((0.99, 0.9, ".98"), (0.9, 0.9, ".033–.037")):
        data = f"AR({slow:g}) in the recording, AR({quick:g}) in the control, 16 × 512"
        yield counted(
            P, "place_cells, p_memory", data,
            lambda seed, rhos=(slow, quick): _memory(seed, rhos), max(6, round(40 * scale)),
            before,
        )  # fmt: skip


def _memory(seed: int, rhos: tuple[float, float]) -> NDArray[np.bool_]:
    pair = [
        on_lattice(lattice(10_000 * i + seed, 16, 512), noise(rng, 16, 512, 8, rho))
        for i, rho in enumerate(rhos)
        for rng in [np.random.default_rng([seed, 5, i])]
    ]
    found = pf.place_cells(pair[0], control=pair[1], n_shuffles=19, seed=seed, progress=False)
    return found.p_memory.values <= ALPHA


# ---------------------------------------------------------------------------- populations


def decoding(scale: float) -> Iterator[Share]:
    """Decoding of the place from 20 units."""
    before = {("bayes", 0): ".72", ("ridge", 0): ".00"}
    cells = [(P, rho, 0.0, 60) for rho in (0, 0.99)]
    cells += [(POWER, 0, height, 30) for height in (0.15, 0.3)]
    for kind, rho, height, most in cells:
        for method in ("ridge", "bayes", "knn"):
            if kind == POWER and method == "knn":
                continue
            if kind == P:
                text, was = f"{_named(rho)}, 16 × 512", before.get((method, rho), "")
            else:
                text = f"fields {height:g} high in white noise of variance 1, 16 × 512"
                was = {0.15: ".00", 0.3: ".10"}[height] if method == "ridge" else ""
            n = max(4, round((3 if method == "ridge" else 1) * most * scale))
            yield counted(
                kind, f"decode_position, {method}", text,
                lambda seed, m=method, r=rho, h=height: _decoded(seed, m, r, h), n, was,
            )  # fmt: skip


def _named(rho: float) -> str:
    return f"AR({rho:g})" if rho else "white noise"


def _decoded(seed: int, method: str, rho: float, height: float) -> bool:
    recording = simulation.lattice_noise(4000 + seed, 16, 512, rho=rho, height=height)
    found = pf.decode_position(
        recording, method=method, n_shuffles=19, n_resamples=1, seed=seed, progress=False
    )
    return bool(found.p <= ALPHA)


def populations(scale: float) -> Iterator[Share]:
    """Remapping and similarity."""
    many, some = max(40, round(400 * scale)), max(6, round(60 * scale))
    yield counted(
        P, "remapping, null_p", "20 unrelated smooth maps", lambda s: _remapped(s, 0), many,
        ".04–.06",
    )  # fmt: skip
    yield counted(
        P, "remapping, null_p", "unrelated smooth maps of two layers of 10 units that differ",
        lambda s: _remapped(s, 0, apart=3.0), many, "1.00 (60/60)",
    )  # fmt: skip
    yield counted(
        POWER, "remapping, null_p", "20 smooth maps that correlate by 0.3",
        lambda s: _remapped(s, 0.3), many,
    )  # fmt: skip
    yield counted(
        P, "similarity of rate maps", "30 unrelated smooth maps",
        lambda s: _similar(*(simulation.smooth_maps(2 * s + i) for i in (0, 1))).p <= ALPHA,
        many, "1.00 (30/30)",
    )  # fmt: skip
    for rho in (0.0, 0.99):
        found = [
            _similar(
                *(simulation.lattice_noise(5000 + s, 16, 512, rho=rho), _again(5000 + s, rho)),
                n_shuffles=19,
            )
            for s in range(some)
        ]
        data = f"two populations of {_named(rho)}, 16 × 512"
        yield counted(
            P, "similarity of recordings", data, lambda s, f=found: f[s].p <= ALPHA, some,
            ".00–.10" if rho else "",
        )  # fmt: skip
        yield counted(
            COVERAGE, "similarity of recordings", f"0: {data}",
            lambda s, f=found: _holds(f[s].interval, 0.0), some, ".00 (0/20)" if rho else "",
        )  # fmt: skip
    for n_walks in (8, 32):
        before = ".00 (0/60)"
        truth = simulation.shared_signal(0, 4, 4, share=0.1)[2]
        yield counted(
            COVERAGE, "similarity of recordings",
            f"{truth:.3f}: three slow signals in common, {n_walks} × 100",
            lambda s, n=n_walks: _shared(s, n), max(30, round(200 * scale)), before,
        )  # fmt: skip


def _remapped(seed: int, r: float, apart: float = 0.0) -> bool:
    """Test maps that correlate by `r`; maps of one layer share a map of strength `apart`."""
    layer = np.repeat(["ffn.0", "ffn.1"], 10)
    a, b = (simulation.smooth_maps(20_000 + 2 * seed + i, 20) for i in (0, 1))
    common = apart * simulation.smooth_maps(60_000 + seed, 2).rate.values.repeat(10, axis=0)
    b = b.assign(rate=r * a.rate + np.sqrt(1 - r**2) * b.rate)
    a, b = (m.assign(rate=m.rate + common).assign_coords(layer=("unit", layer)) for m in (a, b))
    found = pf.remapping(a, b, n_shuffles=99, seed=seed)
    return bool(found.null_p.sel(statistic="correlation") <= ALPHA)


def _similar(a: xr.Dataset, b: xr.Dataset, n_shuffles: int = SHUFFLES) -> xr.Dataset:
    # With all pairs the interval is that of the value with its bias, not of the truth.
    return pf.similarity(a, b, debiased=True, n_shuffles=n_shuffles, progress=False)


def _again(seed: int, rho: float) -> xr.Dataset:
    """Different noise along the walks of ``lattice_noise(seed)``."""
    recording = simulation.lattice_noise(seed, 16, 512, rho=rho)
    rng = np.random.default_rng([seed, 6])
    other = noise(rng, *recording.activation.shape, rho)
    return recording.assign(activation=(recording.activation.dims, other))


def _shared(seed: int, n_walks: int) -> bool:
    a, b, truth = simulation.shared_signal(seed, n_walks, 100, share=0.1)
    return _holds(_similar(a, b, n_shuffles=0).interval, truth)


def _holds(interval: Any, truth: float) -> bool:
    low, high = np.asarray(interval)
    return bool(low <= truth <= high)


# ---------------------------------------------------------------------------- lesions and doses


def lesions(scale: float) -> Iterator[Share]:
    """Exact tests of lesions, and intervals of memory errors."""
    n_units = 160
    rng = np.random.default_rng(7)
    covariates = rng.lognormal(size=(n_units, 2))
    mixing = rng.normal(size=(n_units, 20)) * covariates[:, :1]
    layer = np.repeat("ffn.1", n_units)
    stratum = strata(covariates, layer)
    likely = np.repeat([0.05, 0.6], [5, 5])[np.argsort(np.argsort(stratum)) * 10 // n_units]

    def p_sets(seed: int, extra: float = 0.0) -> bool:
        targets = np.random.default_rng([seed, 8]).random(n_units) < likely
        sets, _, _ = lesion_sets(
            targets.astype(float), covariates, layer, stratum=stratum, sizes=[int(targets.sum())],
            repeats=19, controls=["stratified"], caliper=1, seed=seed,
        )  # fmt: skip
        cost = np.linalg.norm(sets[:, 0] @ mixing, axis=-1)
        return bool(control_p(cost[0, 0] * (1 + extra), cost[1]) <= ALPHA)

    n = max(200, round(2000 * scale))
    yield counted(
        P, "ablation_curve, p_sets of stratified controls",
        "random targets within strata, 160 units, simulated cost", p_sets, n, ".13",
    )  # fmt: skip
    yield counted(
        POWER, "ablation_curve, p_sets of stratified controls",
        "targets that cost 20 % more, 160 units", lambda seed: p_sets(seed, 0.2), n,
    )  # fmt: skip
    before = {(16, 0.0025): ".585", (16, 0.3): ".87–.93"}
    for n_walks in (16, 128):
        for error in (0.0025, 0.04, 0.3):
            yield counted(
                COVERAGE, "memory errors",
                f"{error:g}: {n_walks} walks of 100 predictions, design effect 1.4",
                lambda seed, w=n_walks, e=error: _error(seed, w, e), max(500, round(4000 * scale)),
                before.get((n_walks, error), ""),
            )  # fmt: skip


def _error(seed: int, n_walks: int, error: float) -> bool:
    """Beta-binomial errors: walks differ, so that the variance of the mean is 1.4 of binomial."""
    rng, n = np.random.default_rng([seed, 9, n_walks, round(1e4 * error)]), 100
    spread = (n - 1) / 0.4 - 1
    own = rng.beta(error * spread, (1 - error) * spread, n_walks)
    return _holds(error_interval(rng.binomial(n, own), n), error)


def doses(scale: float) -> Iterator[Share]:
    """Dose responses: the interval of K, and the decision on a saturation."""
    designs = {
        "5 doses × 3": np.repeat([0, 0.1, 1, 3, 10], 3),
        "11 doses × 3": np.repeat([0, *np.geomspace(0.01, 300, 10)], 3),
    }
    truth, n = np.array([0.2, 0.8, 1, -1.5]), max(30, round(300 * scale))
    before = {"5 doses × 3": ".72", "11 doses × 3": ".82"}
    for name, dose in designs.items():
        falling = [_fitted(dose, hill(dose, truth), seed) for seed in range(n)]
        yield counted(
            COVERAGE, "fit_hill, K", f"1: Hill curve, {name}, standard deviation 0.04",
            lambda s, f=falling: _holds(f[s].interval.sel(parameter="K"), 1.0), n, before[name],
        )  # fmt: skip
        yield counted(
            POWER, "saturation of fit_hill", f"Hill curve with K = 1, {name}",
            lambda s, f=falling: bool(f[s].identifiable), n,
        )  # fmt: skip
        rank = np.unique(dose, return_inverse=True)[1] / (np.unique(dose).size - 1)
        yield counted(
            DECISION, "saturation of fit_hill", f"falls with log dose to the last, {name}",
            lambda s, d=dose, r=rank: bool(_fitted(d, 0.9 - 0.6 * r, s).identifiable), n,
            "1.00 (30/30)" if name == "11 doses × 3" else "",
        )  # fmt: skip


def _fitted(dose: Floats, response: Floats, seed: int) -> xr.Dataset:
    values = response + 0.04 * np.random.default_rng([seed, 10]).standard_normal(dose.size)
    return pf.fit_hill(xr.DataArray(values, {"alpha": ("model", dose)}, "model"))


def claims(scale: float) -> Iterator[Share]:
    """Permutation tests of the claims about families of networks."""
    n, n_resamples = max(200, round(2000 * scale)), 199
    for n_doses, before in ((4, ".072"), (5, ".065"), (11, ".057")):
        seeds, alpha = np.divmod(np.arange(3 * n_doses), n_doses)
        yield counted(
            P, "paper_claims, claim 1", f"no effect of dose, {n_doses} doses × 3 seeds",
            lambda seed, x=alpha, b=seeds: bool(
                trend(
                    x.astype(float), np.random.default_rng([seed, 11]).standard_normal(x.size), b,
                    n_resamples=n_resamples, seed=seed,
                ).p <= ALPHA
            ), n, before,
        )  # fmt: skip
    for slope, kind in ((0.0, P), (1.0, POWER)):
        text = "effect as large as the noise" if slope else "both follow α, unrelated given α"
        yield counted(
            kind, "paper_claims, claim 6", f"{text}, 15 activations × 3 seeds",
            lambda seed, s=slope: _given_activation(seed, s, n_resamples), n,
        )  # fmt: skip


def _given_activation(seed: int, slope: float, n_resamples: int) -> bool:
    rng, activation = np.random.default_rng([seed, 12]), np.repeat(np.arange(15), 3)
    x, own = activation / 3 + rng.standard_normal(45), rng.standard_normal(45)
    y = activation / 3 + slope * (x - activation / 3) + own
    found = partial_within(x, y, activation, n_resamples=n_resamples, seed=seed)
    return bool(found.p <= ALPHA)


EXPERIMENTS: dict[str, Callable[[float], Iterator[Share]]] = {
    "shuffle_tests": shuffle_tests,
    "place_cells": place_cell_decisions,
    "memory": memory,
    "decoding": decoding,
    "populations": populations,
    "lesions": lesions,
    "doses": doses,
    "claims": claims,
}


# ---------------------------------------------------------------------------- tables

ABOUT = (
    "Every row uses its own seeds. Brackets contain Wilson's 95 % intervals, with the design "
    "effect of sets of walks where several units share a set; n counts all units. "
    '"Before" was measured in an audit of an earlier version, on similar simulations.'
)


def save(shares: list[Share]) -> None:
    """Save the tables of the documentation."""
    of_shuffles = [s for s in shares if "|" in s.data]
    others = [s for s in shares if "|" not in s.data]
    rows: dict[str, dict[str, Share]] = {}
    for share in of_shuffles:
        rows.setdefault(share.data, {})[share.test.removeprefix("shuffle_test, ")] = share
    table = []
    for data, row in rows.items():
        where, null, size, kind = data.split("|")
        one = next(iter(row.values()))
        cells = [str(row[name]) if name in row else "–" for name in STATISTICS]
        n, warned = int(one.trials.sum()), f"{one.warned:.0%}"
        table.append([null, f"{size}, {where}", kind, *cells, n, warned, one.before])
    columns = ["null", "walks", "units", *STATISTICS, "n", "warned of", "before"]
    if table:
        _results.save("calibration_shuffles", columns, table, ABOUT)
    for kind, (test, data, share) in HEADINGS.items():
        of_kind = [
            [s.test, s.data, str(s), int(s.trials.sum()), s.before]
            for s in others
            if s.kind == kind
        ]
        if of_kind:
            columns = [test, data, share, "n", "before"]
            _results.save(f"calibration_{kind}", columns, of_kind, ABOUT)


HEADINGS = {
    P: ("test", "null", "share of p ≤ .05"),
    DECISION: ("decision", "data without the effect", "share decided for it"),
    COVERAGE: ("interval", "truth", "coverage"),
    POWER: ("test", "effect", "share found"),
}


def run(names: Iterable[str], scale: float, *, keep: bool = False) -> list[Share]:
    """Run experiments, and print and save their tables as they come."""
    shares: list[Share] = []
    for name in names:
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for share in EXPERIMENTS[name](scale):
                shares.append(share)
                text = f"{share.test:48s} {share.data:72s} {share} n={int(share.trials.sum())}"
                print(text + ("" if share.promised else " (not promised)"), flush=True)
        print(f"{name}: {time.process_time() - start:.0f} CPU s", flush=True)
        if keep:
            save(shares)
    return shares


def main() -> None:
    """Print the proportions, and save the tables of the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the simulations")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, help="some of the experiments")
    _results.add_option(parser)
    options = parser.parse_args()
    if options.save and (options.quick or options.only):
        parser.error("--save writes complete tables: leave out --quick and --only")
    run(options.only or EXPERIMENTS, QUICK if options.quick else 1, keep=options.save)


if __name__ == "__main__":
    main()
