"""Effects across measured networks: one effect per seed, and intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer._options import check_whole
from placeformer.stats.bootstrap import draws, ratio, resampled
from placeformer.stats.intervals import Estimate, over_samples, over_seeds, percentile_interval
from placeformer.stats.rank_correlation import LEAST_DRAWN, spearman

Floats = NDArray[np.float64]
SAME_ALPHA = 1e-6
"""Relative difference up to which values of α are equal, as float32 rounds them."""
Effect = tuple[Estimate, str, int]
"""An estimate, the sample of its interval (seeds, walks or networks), and the number of seeds."""


@dataclass(frozen=True)
class Networks:
    """Variables of the measured networks that the tests need, as arrays over ``model``."""

    data: xr.Dataset
    n_resamples: int
    random: int

    def __post_init__(self) -> None:
        """Check the number of samples and the seed."""
        check_whole("n_resamples", self.n_resamples)
        check_whole("seed", self.random, 0)

    @cached_property
    def alpha(self) -> Floats:
        """α of NMDA_α, NaN for other activations."""
        return self.data["trained_alpha"].values.astype(float)

    @cached_property
    def name(self) -> NDArray[np.str_]:
        """Name of the activation."""
        return self.data["activation_name"].values.astype(str)

    @cached_property
    def activation(self) -> NDArray[np.str_]:
        """Name of the activation and its α."""
        return np.array([f"{n} {a:g}" for n, a in zip(self.name, self.alpha, strict=True)])

    @cached_property
    def seed(self) -> NDArray[np.integer]:
        """Seed of the training."""
        return self.data["seed"].values

    def counts(self, memory: str, wrong: str = "wrong") -> tuple[Floats, Floats]:
        """Wrong predictions and predictions (model, walk) on trained maps."""
        selected = self.data.sel(maps="trained", memory=memory).transpose("model", "walk", ...)
        return selected[wrong].values.astype(float), selected["n"].values.astype(float)

    def error(self, memory: str, wrong: str = "wrong") -> Floats:
        """Error (model,) on trained maps."""
        return ratio(*self.counts(memory, wrong))

    def drawn(self, memory: str, wrong: str = "wrong") -> Floats:
        """Errors (boot, model) of bootstrap samples of the walks, the same for all networks."""
        of, n = self.counts(memory, wrong)
        weights = draws(n.shape[1], self.n_resamples, np.random.default_rng(self.random))
        return np.stack([resampled(w, c, weights) for w, c in zip(of, n, strict=True)], -1)

    def layers(self, name: str, **which: str) -> Floats:
        """Mean (model,) of a measure over layers."""
        return self.data[name].sel(which).mean("layer").values.astype(float)

    def at(self, activation: float | str) -> NDArray[np.bool_]:
        """Networks with an α, or with another activation."""
        if isinstance(activation, str):
            return (self.name == activation) & np.isnan(self.alpha)
        return np.isclose(self.alpha, activation, rtol=SAME_ALPHA, atol=0)

    def by_seed(self, statistic: Callable[[NDArray[np.bool_]], float]) -> dict[int, float]:
        """A statistic of the networks of each seed, for the seeds for which it is defined."""
        values = {int(s): statistic(self.seed == s) for s in np.unique(self.seed)}
        return {s: value for s, value in values.items() if np.isfinite(value)}

    def effect(self, values: Floats, samples: Floats, statistic: Callable[..., float]) -> Effect:
        """Effect with its interval over seeds, or over samples (boot, model) for a single seed.

        `statistic` takes values (model,) and a mask of the networks of one seed.
        """
        of_seed = self.by_seed(lambda mask: statistic(values, mask))
        if len(of_seed) != 1:
            estimate = bounded(over_seeds(np.array(list(of_seed.values()))))
            return estimate, "seeds" if of_seed else "", len(of_seed)
        ((only, value),) = of_seed.items()
        mask = self.seed == only
        return over_samples(lambda v: statistic(v, mask), value, samples), "walks", 1


def bounded(estimate: Estimate) -> Estimate:
    """Limit the interval to -1 to 1, the range of correlations, fractions and their differences."""
    low, high = np.clip([estimate.lower, estimate.upper], -1, 1)
    return estimate._replace(lower=float(low), upper=float(high))


def check(networks: xr.Dataset) -> None:
    """Raise if a Dataset lacks variables that the tests need, or has networks of other kinds."""
    if not isinstance(networks, xr.Dataset):
        raise TypeError(
            "networks must be a result of profile_networks, a Dataset, got "
            f"{type(networks).__name__}"
        )
    if "maps" in networks.dims and "recorded" in networks["maps"].values:
        raise ValueError(
            "networks must be navigation Transformers, got other networks or Recordings among "
            "them; profile the navigation Transformers in a separate call"
        )
    needed = (
        "wrong", "n", "washout_wrong", "place_cell_fraction", "memory_dependent_fraction",
        "information", "eta2_beyond", "trained_alpha", "activation_name", "seed",
    )  # fmt: skip
    if not networks.sizes.get("model", 1):
        raise ValueError("networks must hold at least one network, got none")
    missing = [name for name in needed if name not in networks.variables]
    if missing:
        raise ValueError(
            f"networks must be a result of profile_networks, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing"
        )


def dose_trend(values: Floats, mask: NDArray[np.bool_], alpha: Floats) -> float:
    """ρ of α and a value among the networks of one seed; NaN for fewer than four values of α."""
    mask = mask & np.isfinite(alpha)
    return spearman(alpha[mask], values[mask]) if np.unique(alpha[mask]).size >= 4 else np.nan


def difference(values: Floats, mask: Any, first: Any, second: Any) -> float:
    """Mean of the first networks minus that of the second, for one seed."""
    a, b = values[mask & first], values[mask & second]
    return float(a.mean() - b.mean()) if a.size and b.size else np.nan


def mean_of(values: Floats, mask: NDArray[np.bool_], which: NDArray[np.bool_]) -> float:
    """Mean of some networks of one seed."""
    here = values[mask & which]
    return float(here.mean()) if here.size else np.nan


def spread(values: Floats, mask: NDArray[np.bool_], alpha: Floats) -> float:
    """Range of the values over the α of one seed."""
    mask = mask & np.isfinite(alpha)
    return float(np.ptp(values[mask])) if np.unique(alpha[mask]).size >= 2 else np.nan


def mean_effect(networks: Networks, values: Floats) -> Effect:
    """Mean over all networks, with an interval over seeds, or over (at least 8) networks of one."""
    of_seed = networks.by_seed(lambda mask: float(np.nanmean(values[mask])))
    if len(of_seed) != 1:
        return bounded(over_seeds(np.array(list(of_seed.values())))), "seeds", len(of_seed)
    known = values[np.isfinite(values)]
    which = np.random.default_rng(networks.random).integers(
        0, known.size, (networks.n_resamples, known.size)
    )
    enough = known.size >= LEAST_DRAWN
    lower, upper = percentile_interval(known[which].mean(1)) if enough else (np.nan, np.nan)
    return Estimate(float(known.mean()), float(lower), float(upper)), "networks", 1


def place_measures(networks: Networks) -> dict[str, Floats]:
    """Measures of place (model,) on trained maps, by name; the fraction of place cells is first."""
    policies = map(str, networks.data["negatives"].values)
    return {
        "share of place cells": networks.layers("place_cell_fraction", maps="trained"),
        "share that depends on memory": networks.layers("memory_dependent_fraction"),
        **{
            f"spatial information, negatives {policy}": networks.layers(
                "information", maps="trained", negatives=policy
            )
            for policy in policies
        },
        "η² beyond the letter": networks.layers("eta2_beyond", maps="trained"),
        "η² beyond the letter, trained minus novel map": networks.layers(
            "eta2_beyond", maps="trained"
        )
        - networks.layers("eta2_beyond", maps="novel"),
    }
