"""Simulated recordings and rate maps of units with known tuning, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from placeformer.models.grid_world import GridWorld

SIDE = 11


def recording(
    activation: NDArray[Any], x: ArrayLike, y: ArrayLike, **coords: ArrayLike
) -> xr.Dataset:
    """Make a Recording from arrays (walk, time, unit) and (walk, time)."""
    n_units = activation.shape[2]
    named: dict[str, Any] = {"x": (("walk", "time"), x), "y": (("walk", "time"), y)}
    dims = {1: ("walk",), 2: ("walk", "time")}
    named |= {name: (dims[np.ndim(value)], value) for name, value in coords.items()}
    named |= {
        "layer": ("unit", np.array(["ffn.0", "ffn.1"])[np.arange(n_units) % 2]),
        "index": ("unit", np.arange(n_units)),
    }
    return xr.Dataset({"activation": (("walk", "time", "unit"), activation)}, coords=named)


def walks(
    rng: np.random.Generator,
    n_walks: int = 3,
    n_steps: int = 700,
    n_units: int = 5,
    side: int = SIDE,
    dtype: type = np.float32,
) -> xr.Dataset:
    """Return a Recording of random places and white noise; walks alternate between two maps."""
    x, y = rng.integers(0, side, (2, n_walks, n_steps))
    noise = rng.standard_normal((n_walks, n_steps, n_units))
    activation: NDArray[Any] = noise.astype(dtype)
    return recording(activation, x, y, map=np.arange(n_walks) % 2)


def maps(rate: ArrayLike, occupancy: ArrayLike | None = None, **attrs: Any) -> xr.Dataset:
    """Make RateMaps from an array (unit, y, x)."""
    rate = np.asarray(rate, float)
    if occupancy is None:
        occupancy = np.where(np.isnan(rate).all(axis=0), 0, 25)
    axes = {dim: np.arange(n, dtype=float) for dim, n in zip("yx", rate.shape[1:], strict=True)}
    return xr.Dataset(
        {"rate": (("unit", "y", "x"), rate), "occupancy": (("y", "x"), occupancy)},
        coords=axes | {"index": ("unit", np.arange(len(rate)))},
        attrs=attrs,
    )


def bump(
    centre: Sequence[float] | NDArray[np.float64], width: float = 1.4, side: int = SIDE
) -> NDArray[np.float64]:
    """A Gaussian field of height 1 around a centre (y, x)."""
    y, x = np.mgrid[:side, :side]
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))


def units(
    rng: np.random.Generator,
    n: int,
    n_fields: int,
    noise: float = 0.05,
    offset: float = -0.3,
    side: int = SIDE,
    width: tuple[float, float] = (1.0, 1.8),
) -> NDArray[np.float64]:
    """Return rate maps (unit, y, x) of signed units, each with `n_fields` separate fields."""
    rates = []
    for _ in range(n):
        centres: list[NDArray[np.float64]] = []
        sd = rng.uniform(*width)
        while len(centres) < n_fields:
            new = rng.uniform(0, side - 1, 2)
            if all(np.hypot(*(new - old)) > 3.5 * sd for old in centres):
                centres.append(new)
        heights = rng.uniform(0.6, 1.0, n_fields)
        rate = sum((h * bump(c, sd, side) for h, c in zip(heights, centres, strict=True)), 0.0)
        rates.append(offset + rate + noise * rng.standard_normal((side, side)))
    return np.array(rates)


def place_code(
    rng: np.random.Generator,
    n_walks: int = 6,
    n_steps: int = 300,
    n_units: int = 80,
    side: int = 7,
    noise: float = 0.1,
    maps: Sequence[int] = (0,),
    width: float = 1.2,
) -> xr.Dataset:
    """Return a Recording of units with one field each, at a different place on every map."""
    x, y = rng.integers(0, side, (2, n_walks, n_steps))
    room = np.arange(n_walks) % len(maps)
    fields = rng.uniform(0, side - 1, (len(maps), n_units, 2))
    rates = np.array([[bump(c, width, side) for c in centres] for centres in fields])
    activation = noise * rng.standard_normal((n_walks, n_steps, n_units)) - 0.2
    activation += np.moveaxis(rates, 1, -1)[room[:, None], y, x]
    return recording(activation.astype(np.float32), x, y, map=np.asarray(maps)[room])


def hexagons(
    shape: tuple[int, int], spacing: float, turn: float, phase: Sequence[float]
) -> NDArray[np.float64]:
    """A hexagonal lattice of fields (y, x) with a spacing, an orientation and a peak (y, x)."""
    y, x = (axis - p for axis, p in zip(np.mgrid[: shape[0], : shape[1]], phase, strict=True))
    k = 4 * np.pi / (np.sqrt(3) * spacing)
    angles = turn + np.deg2rad([0, 60, 120])
    return np.sum([np.cos(k * (x * np.cos(a) + y * np.sin(a))) for a in angles], axis=0)


KINDS = {
    "place": "one field, on any map",
    "two fields": "two fields, on any map",
    "place and letter": "one field, plus a tenth of a response to the letter",
    "remembered place": "one field on trained maps, noise on novel ones",
    "wall": "one field along a wall",
    "ramp": "a slope from wall to wall",
    "waves": "waves at least as long as the map",
    "hole": "constant except around one place",
    "letter": "a response to the letter at the place",
    "letter before": "a response to the letter at the previous place",
    "untuned": "temporally correlated noise",
    "constant": "the same value at all times",
}
"""Kinds of units of a simulated population."""

SHAPES = ("wall", "ramp", "waves", "hole")
"""Kinds of units that depend on place but have no place field."""

PLACE_KINDS = ("place", "two fields", "place and letter", "remembered place")


def tuning(rng: np.random.Generator, name: str) -> NDArray[np.float64]:
    """Rate map (y, x) of a unit of some kind, with a range of rates of 0.6 to 1."""
    if name not in SHAPES:
        return units(rng, 1, 2 if name == "two fields" else 1, noise=0.0)[0]
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    height, turn, width = rng.uniform(0.6, 1.0), rng.uniform(0, 2 * np.pi, 3), rng.uniform(1.0, 1.8)
    along = [np.cos(angle) * x + np.sin(angle) * y for angle in turn]
    if name == "wall":
        away = (SIDE - 1) * (x, y, 1 - x, 1 - y)[rng.integers(4)]
        rate = np.exp(-(away**2) / (2 * width**2))
    elif name == "ramp":
        rate = along[0]
    elif name == "waves":
        turns, phases = rng.uniform(0.3, 1, 3), rng.uniform(0, 1, 3)
        rate = sum(
            np.cos(2 * np.pi * (a * n + p)) for a, n, p in zip(along, turns, phases, strict=True)
        )
    else:
        rate = -bump(rng.uniform(0, SIDE - 1, 2), width)
    return height * (rate - rate.min()) / np.ptp(rate) - 0.3


def population(
    kinds: Iterable[str],
    n_each: int,
    *,
    n_walks: int = 64,
    n_steps: int = 1536,
    seed: int = 0,
    familiar: bool = True,
    noise: float = 1.0,
) -> xr.Dataset:
    """A Recording of units of known kinds (coordinate ``kind``) on one map of letters.

    Fields are 0.6 to 1 high and the innovations of the noise have standard deviation ``noise``; the
    same seed gives the same units on a trained and on a novel map.
    """
    kinds = list(kinds)
    world = GridWorld(side=SIDE, n_maps=1, seed=seed)
    walk = world.walk(n_walks, n_steps, seed=seed + familiar, familiar=familiar)
    rng = np.random.default_rng([seed, 1])
    ar = lfilter([0.6], [1, -0.8], rng.standard_normal((n_walks, n_steps, n_each * len(kinds))), 1)
    activation = (noise * ar).astype(np.float32)
    kind = np.repeat(kinds, n_each)
    for unit, name in enumerate(kind):
        rate = tuning(rng, name)
        response = rng.standard_normal(world.n_letters)
        activation[..., unit] += _drive(name, rate, response, walk, familiar)
        if name == "constant":
            activation[..., unit] = rate[0, 0]
    return walk.assign(activation=(("walk", "time", "unit"), activation)).assign_coords(
        kind=("unit", kind)
    )


def _drive(
    name: str,
    rate: NDArray[np.float64],
    response: NDArray[np.float64],
    walk: xr.Dataset,
    familiar: bool,
) -> NDArray[np.float64] | float:
    """Input of a unit along the walks: its field, a letter, or nothing."""
    letter = response[walk.observation.values]
    field = rate[walk.y.values, walk.x.values]
    drives = {"letter": letter, "letter before": np.roll(letter, 1, axis=1)}
    drives |= dict.fromkeys(("place", "two fields", *SHAPES), field)
    drives["place and letter"] = field + 0.1 * letter
    return (drives | {"remembered place": field} if familiar else drives).get(name, 0.0)


def noise(
    rng: np.random.Generator, n_walks: int, n_steps: int, n_units: int, rho: float = 0.0
) -> NDArray[np.float32]:
    """Stationary noise (walk, time, unit) of variance 1; successive steps correlate by `rho`."""
    warm_up = int(np.ceil(5 / (1 - rho))) if rho else 0
    white = rng.standard_normal((n_walks, warm_up + n_steps, n_units))
    slow = lfilter([np.sqrt(1 - rho**2)], [1, -rho], white, axis=1)[:, warm_up:]
    return np.asarray(slow, np.float32)


def lattice_noise(
    seed: int,
    n_walks: int,
    n_steps: int,
    n_units: int = 20,
    *,
    rho: float = 0.0,
    height: float = 0.0,
) -> xr.Dataset:
    """A Recording of noise along walks on the lattice, plus a place field of some height per unit.

    Without a height it is a true null for any relation between activations and places.
    """
    walk = GridWorld(n_maps=1, seed=seed).walk(n_walks, n_steps, seed=seed)
    x, y = walk.x.values, walk.y.values
    rng = np.random.default_rng([seed, 5])
    activation = noise(rng, n_walks, n_steps, n_units, rho)
    if height:
        fields = np.array([bump(centre) for centre in rng.uniform(0, SIDE - 1, (n_units, 2))])
        activation += height * np.moveaxis(fields, 0, -1)[y, x].astype(np.float32)
    return recording(activation, x, y)


def shared_signal(
    seed: int,
    n_walks: int,
    n_steps: int,
    *,
    share: float,
    n_units: int = 20,
    rho: float = 0.99,
    noise_rho: float = 0.9,
) -> tuple[xr.Dataset, xr.Dataset, float]:
    """Two Recordings of the same walks that share three slow signals, and their true linear CKA.

    `share` is the variance of every signal; the loadings are the same for all seeds.
    """
    loadings = np.random.default_rng(3).standard_normal((2, 3, n_units))
    rng = np.random.default_rng([seed, 7])
    signal = noise(rng, n_walks, n_steps, 3, rho)
    x, y = np.random.default_rng(0).integers(0, SIDE, (2, n_walks, n_steps))
    a, b = (
        recording(
            np.sqrt(share, dtype=np.float32) * (signal @ own.astype(np.float32))
            + noise(rng, n_walks, n_steps, n_units, noise_rho),
            x,
            y,
        )
        for own in loadings
    )
    of_a, of_b = (share * own.T @ own + np.eye(n_units) for own in loadings)
    between = share * loadings[0].T @ loadings[1]
    truth = np.square(between).sum() / (np.linalg.norm(of_a) * np.linalg.norm(of_b))
    return a, b, float(truth)


def smooth_maps(seed: int, n_units: int = 30, width: float = 2.0) -> xr.Dataset:
    """RateMaps of units that are independent Gaussian fields, smooth over `width` bins."""
    rng = np.random.default_rng([seed, 11])
    edge = int(4 * width)
    white = rng.standard_normal((n_units, SIDE + 2 * edge, SIDE + 2 * edge))
    smooth = gaussian_filter(white, (0, width, width))[:, edge:-edge, edge:-edge]
    return maps(smooth / smooth.std())
