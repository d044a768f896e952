"""A parameter of a network that is set to several doses, and the cost of the network at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer.interventions.batched_lesions import count_errors
from placeformer.interventions.changes import (
    KINDS,
    NEUTRAL,
    REPLACEMENTS,
    Change,
    Condition,
    Function,
    check_dose,
    name_of,
)
from placeformer.interventions.lesions import NEED_REFERENCE, default_reference, replacements
from placeformer.interventions.perturbation import (
    ALPHA,
    Parsed,
    Targets,
    alpha_names,
    check_alpha_dose,
    check_rule,
    parsed,
    perturb,
)
from placeformer.interventions.replacement import Reference
from placeformer.interventions.units import Site, chosen_units, layer_widths, once, sites, unused
from placeformer.models.activation import NMDA
from placeformer.models.memory import untouched
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.network_state import Snapshot

Score = Callable[[Any], ArrayLike]
Counts = NDArray[np.int64]

RANDOM = "random_units"
"""Parameter whose dose is the fraction of units, drawn at random, lesioned by their means."""

FEED_FORWARD = "ffn.*"
MEANINGS = {
    ALPHA: "test-time α",
    "gain": "factor of the activation",
    "add": "addition, in units of the activation",
    "noise": "noise, in standard deviations of the unit",
    "clamp": "fixed value, in units of the activation",
    "threshold": "threshold, in units of the activation",
    RANDOM: "fraction of the units lesioned, drawn at random",
    **{how: f"fraction of the way to a lesion ({how})" for how in REPLACEMENTS},
}
"""What the dose of each parameter is."""


@dataclass(frozen=True)
class Parameter:
    """What is set to a dose.

    Attributes
    ----------
    how
        "nmda", a kind or a function of :func:`perturb`, or "random_units".
    units
        What it acts on, as in :func:`perturb`; None for α, and for the feed-forward units of a
        navigation Transformer.
    steps, reference, seed
        As in :func:`perturb`.
    """

    how: str | Function
    units: Targets | None = None
    steps: Condition = None
    reference: Reference = None
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the kind of perturbation."""
        return name_of(self.how)

    @property
    def meaning(self) -> str:
        """What the dose is."""
        return MEANINGS.get(self.name, f"dose of {self.name}")

    def of(self, model: nn.Module) -> Parameter:
        """Return the parameter for one network: its default units, its reference recorded once.

        Raises
        ------
        ValueError
            An unknown parameter, or units or a reference that are missing.
        """
        if self.how == ALPHA:
            if not any(isinstance(module, NMDA) for module in model.modules()):
                raise ValueError(
                    f"model must have NMDA activations for its Mg²⁺ to be changed, got none in "
                    f"{type(model).__name__}"
                )
            return self
        known = (ALPHA, RANDOM, *KINDS, *REPLACEMENTS)
        if not callable(self.how) and self.how not in known:
            raise ValueError(
                f"parameter must be one of {', '.join(known)}, or a function of the values and the "
                f"dose, got {self.how!r}"
            )
        units = self.units
        if units is None and not isinstance(model, NavigationTransformer):
            raise ValueError(
                f"units must name what {self.name!r} acts on in a {type(model).__name__}: layers, "
                "units or weights as in placeformer.perturb, got None"
            )
        units = FEED_FORWARD if units is None else units
        targets = parsed(model, units, self.reference)
        if targets.alpha:
            raise ValueError(f"units must not be {ALPHA!r}: choose it as the parameter")
        check_rule(targets, "mean" if self.how == RANDOM else self.how)
        reference, needed = self.reference, self.how in (*NEED_REFERENCE, RANDOM)
        if reference is None and needed and targets.units is not None:
            names = self.site_names(model, targets)
            reference = default_reference(model, names, self.seed)
        return replace(self, units=units, reference=reference)

    def site_names(self, model: nn.Module, targets: Parsed) -> list[str]:
        """Names of the layers in every stream that a prediction needs."""
        chosen = chosen_units(targets.units, layer_widths(model, self.reference))
        where = [site for layer in chosen for site in sites(model, layer)]
        return [site.name for site in where if not unused(model, site)]

    def intact(self, model: nn.Module) -> float:
        """Dose at which the network is intact; raise if there is none."""
        if self.how == ALPHA:
            return trained_alpha(model)
        if callable(self.how) or self.how == "clamp":
            raise ValueError(
                f"parameter must have a dose at which the network is intact, got {self.name!r}, "
                "which has none; choose gain, add, noise, a lesion (mean, zero, ...) or nmda"
            )
        return NEUTRAL.get(self.how, 0.0)

    def checked(self, dose: float) -> float:
        """Return a dose as a number; raise for one out of range."""
        if self.how == ALPHA:
            return float(check_alpha_dose("clamp", dose))  # type: ignore[arg-type]
        how = "mean" if self.how == RANDOM else self.how
        return float(check_dose(how, dose))  # type: ignore[arg-type]

    def at(self, model: nn.Module, dose: float) -> AbstractContextManager[None]:
        """Set the parameter of a network to a dose, for a ``with`` block."""
        options: dict[str, Any] = {"steps": self.steps, "seed": self.seed}
        if self.how == ALPHA:
            units = ALPHA if self.units is None else self.units
            return perturb(model, units, "clamp", dose, **options)
        options["reference"] = self.reference
        if self.how == RANDOM:
            chosen = {name: mask[0] for name, mask in self.masks(model, [dose]).items()}
            if not any(mask.any() for mask in chosen.values()):
                return nullcontext()
            return perturb(model, chosen, "mean", **options)
        assert self.units is not None
        return perturb(model, self.units, self.how, dose, **options)

    def masks(self, model: nn.Module, doses: Sequence[float]) -> dict[str, NDArray[np.bool_]]:
        """Units that are changed at every dose, a mask (dose, unit) by layer."""
        assert self.units is not None
        widths = layer_widths(model, self.reference)
        chosen = once(model, chosen_units(parsed(model, self.units, self.reference).units, widths))
        masks = {}
        rank = np.random.default_rng([self.seed, 5]).permutation(sum(map(len, chosen.values())))
        counts = np.rint(np.asarray(doses) * rank.size)[:, None]
        for layer, units in chosen.items():
            here, rank = rank[: len(units)], rank[len(units) :]
            masks[layer] = np.zeros((len(doses), widths[layer] or int(units.max()) + 1), bool)
            masks[layer][:, units] = here < counts if self.how == RANDOM else True
        return masks

    def together(self, model: nn.Module) -> bool:
        """Whether all doses can be run together, branching at the first layer."""
        if not isinstance(model, NavigationTransformer) or self.how == ALPHA or callable(self.how):
            return False
        if self.steps is not None or self.units is None:
            return False
        targets = parsed(model, self.units, self.reference)
        if targets.weights or targets.units is None:
            return False
        chosen = chosen_units(targets.units, layer_widths(model, self.reference))
        return bool(chosen) and all(layer.startswith("ffn.") for layer in chosen)

    def fill(
        self, model: nn.Module, layers: Iterable[str], doses: Sequence[float], group: slice
    ) -> list[tuple[Site, Change]]:
        """Changes of the layers, with a dose for each of a group of versions of the walks."""
        options: dict[str, Any] = {"reference": self.reference, "seed": self.seed}
        if self.how == RANDOM:
            return replacements(model, layers, "mean", **options)
        dose = torch.tensor(doses[group], dtype=torch.float32, device="cpu")[:, None, None, None]
        return replacements(model, layers, self.how, dose, **options)

    def count(
        self,
        model: NavigationTransformer,
        doses: Sequence[float],
        walk: xr.Dataset,
        *,
        seed: int,
        where: str,
        bar: tqdm | None = None,
    ) -> tuple[Counts, Counts]:
        """Wrong predictions (dose, walk, memory) at every dose, and all predictions (walk, memory).

        Doses of feed-forward units run together, see :mod:`.batched_lesions`.
        """
        if self.together(model):
            masks = self.masks(model, doses)
            fill = partial(self.fill, model, list(masks), list(doses))
            wrong, n = count_errors(
                model, walk, seed=seed, where=where, masks=masks, replacements=fill
            )
            if bar is not None:
                bar.update(len(doses))
            return wrong, n
        counts = []
        for dose in doses:
            with self.at(model, dose):
                one, n = count_errors(model, walk, seed=seed, where=where)
            counts.append(one[0])
            if bar is not None:
                bar.update()
        return np.array(counts), n


def trained_alpha(model: nn.Module) -> float:
    """α of the NMDA_α modules of a network; raise if it has none, or several values."""
    modules = dict(model.named_modules())
    values = {float(modules[name].alpha) for name in alpha_names(model, None)}
    if len(values) > 1:
        raise ValueError(
            f"model must have one α to change it as a dose, got {sorted(values)} in "
            f"{type(model).__name__}; perturb(model, 'nmda', 'gain', factor) scales all of them"
        )
    return values.pop()


def named_scores(score: Score | Mapping[str, Score], name: str = "score") -> dict[str, Score]:
    """Return scores by name; raise for what cannot be called."""
    scores = dict(score) if isinstance(score, Mapping) else {name: score}
    for key, function in scores.items():
        if not callable(function):
            raise TypeError(
                f"score must be a function of the network, or a mapping of names to functions, got "
                f"{type(function).__name__} for {key!r}"
            )
    if not scores:
        raise ValueError("score must hold at least one function of the network, got none")
    return scores


def check_score(model: nn.Module, score: object) -> None:
    """Refuse a network whose memory errors cannot be counted, without a score."""
    if score is None and not isinstance(model, NavigationTransformer):
        raise ValueError(
            f"score must be a function of the network (or several by name) for a "
            f"{type(model).__name__}, which has no memory errors to count, got None; it takes the "
            "perturbed network and returns a number, or one number for each trial"
        )


def run_score(name: str, score: Score, model: nn.Module) -> NDArray[np.float64]:
    """Numbers that a score returns for a network in eval mode, without gradients.

    Whatever the score changes in the network, for example by training it, is restored.
    """
    before = Snapshot(model)
    try:
        with untouched(model):
            value: object = score(model)
            if isinstance(value, Tensor):
                value = value.to("cpu", torch.float64 if value.is_floating_point() else None)
            found = np.asarray(value).copy()
    finally:
        before.put_back()
    if found.dtype.kind not in "biuf":
        raise TypeError(
            f"score[{name!r}] must return a number, or one for each trial, got "
            f"{type(value).__name__} {value!r:.80}"
        )
    return found.astype(np.float64)


def run_scores(scores: Mapping[str, Score], model: nn.Module) -> list[float]:
    """Numbers that scores return for a network, one each."""
    values = []
    for name, score in scores.items():
        value = run_score(name, score, model)
        if value.size != 1:
            raise TypeError(
                f"score[{name!r}] must return a number, got {value.size}; return their mean, or "
                "whatever sums them up"
            )
        values.append(float(value.reshape(())))
    return values


def trials(
    name: str, score: Score, model: nn.Module, before: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Run a score, and return its value per trial; raise if their number changes between calls."""
    values = np.atleast_1d(run_score(name, score, model))
    if values.ndim > 1 or (before and before[0].shape != values.shape):
        shapes = f"{values.shape}" + (f" after {before[0].shape}" if before else "")
        raise ValueError(
            f"score[{name!r}] must return a number, or one for each of the same trials, at every "
            f"call, got shape {shapes}"
        )
    return values
