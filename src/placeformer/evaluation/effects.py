"""Measured networks as the sample of a test: effects of every seed, and their intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.stats.bootstrap import draws, ratio, resampled
from placeformer.stats.intervals import Estimate, over_samples, over_seeds, percentile_interval
from placeformer.stats.rank_correlation import LEAST_DRAWN, spearman

Floats = NDArray[np.float64]
Effect = tuple[Estimate, str, int]
"""An estimate, what its interval is over, and the number of seeds."""


@dataclass(frozen=True)
class Networks:
    """What the tests need of the measured networks, as arrays over ``model``."""

    data: xr.Dataset
    n_resamples: int
    random: int

    @cached_property
    def alpha(self) -> Floats:
        """α of NMDA_α, NaN for other activations."""
        return self.data["trained_alpha"].values.astype(float)

    @cached_property
    def name(self) -> NDArray[np.str_]:
        """Activation."""
        return self.data["activation_name"].values.astype(str)

    @cached_property
    def seed(self) -> NDArray[np.integer]:
        """Seed of the training."""
        return self.data["seed"].values

    def counts(self, memory: str, wrong: str = "wrong") -> tuple[Floats, Floats]:
        """Wrong predictions and predictions (model, walk) on trained maps."""
        one = self.data.sel(maps="trained", memory=memory)
        each = (one[key].transpose("model", "walk").values.astype(float) for key in (wrong, "n"))
        return next(each), next(each)

    def error(self, memory: str, wrong: str = "wrong") -> Floats:
        """Error (model,) on trained maps."""
        return ratio(*self.counts(memory, wrong))

    def drawn(self, memory: str, wrong: str = "wrong") -> Floats:
        """Errors (boot, model) of bootstrap samples of the walks, drawn alike for all networks."""
        of, n = self.counts(memory, wrong)
        weights = draws(n.shape[1], self.n_resamples, np.random.default_rng(self.random))
        return np.stack([resampled(w, c, weights) for w, c in zip(of, n, strict=True)], -1)

    def layers(self, name: str, **which: str) -> Floats:
        """A measure (model,) of the units of all layers."""
        return self.data[name].sel(which).mean("layer").values.astype(float)

    def at(self, activation: float | str) -> NDArray[np.bool_]:
        """Networks with an α, or with another activation."""
        if isinstance(activation, str):
            return (self.name == activation) & np.isnan(self.alpha)
        return self.alpha == activation

    def by_seed(self, statistic: Callable[[NDArray[np.bool_]], float]) -> dict[int, float]:
        """A statistic of the networks of every seed that has one."""
        each = {int(s): statistic(self.seed == s) for s in np.unique(self.seed)}
        return {s: value for s, value in each.items() if np.isfinite(value)}

    def effect(self, values: Floats, samples: Floats, statistic: Callable[..., float]) -> Effect:
        """Effect with its interval over seeds; over samples (boot, model) where there is one seed.

        `statistic` takes values (model,) and a mask of the networks of one seed.
        """
        each = self.by_seed(lambda mask: statistic(values, mask))
        if len(each) != 1:
            found = bounded(over_seeds(np.array(list(each.values()))))
            return found, "seeds" if each else "", len(each)
        ((only, value),) = each.items()
        mask = self.seed == only
        return over_samples(lambda v: statistic(v, mask), value, samples), "walks", 1


def bounded(estimate: Estimate) -> Estimate:
    """The interval cut at -1 and 1: no correlation, share or difference of errors goes beyond."""
    low, high = np.clip([estimate.lower, estimate.upper], -1, 1)
    return estimate._replace(lower=float(low), upper=float(high))


def check(networks: xr.Dataset) -> None:
    """Refuse a Dataset that does not hold what the tests need."""
    needed = (
        "wrong", "n", "washout_wrong", "place_cell_fraction", "memory_dependent_fraction",
        "information", "eta2_beyond", "trained_alpha", "activation_name", "seed",
    )  # fmt: skip
    missing = [name for name in needed if name not in networks.variables]
    if missing:
        raise ValueError(
            f"networks must hold what profile_networks gives, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing"
        )


def dose_trend(values: Floats, mask: NDArray[np.bool_], alpha: Floats) -> float:
    """ρ of α and a value among the networks of one seed; NaN with fewer than four doses."""
    mask = mask & np.isfinite(alpha)
    return spearman(alpha[mask], values[mask]) if np.unique(alpha[mask]).size >= 4 else np.nan


def difference(values: Floats, mask: Any, first: Any, second: Any) -> float:
    """Mean of the first networks less that of the second, of one seed."""
    one, two = values[mask & first], values[mask & second]
    return float(one.mean() - two.mean()) if one.size and two.size else np.nan


def mean_of(values: Floats, mask: NDArray[np.bool_], which: NDArray[np.bool_]) -> float:
    """Mean of some networks of one seed."""
    here = values[mask & which]
    return float(here.mean()) if here.size else np.nan


def spread(values: Floats, mask: NDArray[np.bool_], alpha: Floats) -> float:
    """Greatest less least value over the α of one seed."""
    mask = mask & np.isfinite(alpha)
    return float(np.ptp(values[mask])) if np.unique(alpha[mask]).size >= 2 else np.nan


def mean_effect(found: Networks, values: Floats) -> Effect:
    """Mean of a value of all networks, over seeds; over networks (eight or more) of one seed."""
    each = found.by_seed(lambda mask: float(np.nanmean(values[mask])))
    if len(each) != 1:
        return bounded(over_seeds(np.array(list(each.values())))), "seeds", len(each)
    known = values[np.isfinite(values)]
    which = np.random.default_rng(found.random).integers(
        0, known.size, (found.n_resamples, known.size)
    )
    enough = known.size >= LEAST_DRAWN
    lower, upper = percentile_interval(known[which].mean(1)) if enough else (np.nan, np.nan)
    return Estimate(float(known.mean()), float(lower), float(upper)), "networks", 1


def place_measures(found: Networks) -> dict[str, Floats]:
    """Measures of place (model,) on trained maps, by name, the share of place cells first."""
    policies = map(str, found.data["negatives"].values)
    return {
        "share of place cells": found.layers("place_cell_fraction", maps="trained"),
        "share that depends on memory": found.layers("memory_dependent_fraction"),
        **{
            f"spatial information, negatives {policy}": found.layers(
                "information", maps="trained", negatives=policy
            )
            for policy in policies
        },
        "η² beyond the letter": found.layers("eta2_beyond", maps="trained"),
        "η² beyond the letter, trained less novel map": found.layers("eta2_beyond", maps="trained")
        - found.layers("eta2_beyond", maps="novel"),
    }
