"""Profiles of Recordings and of networks other than navigation Transformers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from torch import nn

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.doses import Score, run_scores
from placeformer.models.activation import NMDA, alpha_to_mg
from placeformer.models.network_checks import unwrapped
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.record import record
from placeformer.zoo.registry import load

RECORDED = "recorded"
"""Kind of map of a network or animal whose behaviour comes from the user."""


class Subject(NamedTuple):
    """A profiled network or Recording, with its name if it has one.

    Attributes
    ----------
    name
        Name that the caller gives; "" without a name.
    network, recording
        One of the two; the other is None.
    """

    name: str
    network: nn.Module | None
    recording: xr.Dataset | None

    @property
    def navigates(self) -> bool:
        """Whether it is a navigation Transformer, which has walks and errors."""
        return isinstance(self.network, NavigationTransformer)

    @property
    def label(self) -> str:
        """Name in the result."""
        known = getattr(self.network, "info", {}).get("name")
        kind = RECORDED if self.network is None else type(self.network).__name__
        return self.name or str(known or kind)


def subjects_of(models: Any) -> list[Subject]:
    """Return networks and Recordings from the argument `models`; load networks from sources.

    Raises
    ------
    TypeError
        An entry is neither a network, a source nor a Recording.
    ValueError
        There are no entries.
    """
    one = isinstance(models, str | os.PathLike | nn.Module | xr.Dataset)
    if not one and not isinstance(models, Iterable):
        raise TypeError(f"models must be {WANTED}, or several of them, got {type(models).__name__}")
    named: list[tuple[Any, Any]]
    if isinstance(models, Mapping) and not one:
        named = list(models.items())
    else:
        named = [("", thing) for thing in ([models] if one else models)]
    if not named:
        raise ValueError("models must name at least one network, got none")
    return [subject(name, thing) for name, thing in named]


WANTED = "a network, a source that pf.load accepts, or a Recording"


def subject(name: Any, thing: Any) -> Subject:
    """Return one network or Recording; load a network from its source."""
    if not isinstance(name, str):
        raise TypeError(f"models must have text as keys, got {name!r:.80}")
    if isinstance(thing, str | os.PathLike):
        thing = load(thing)
    if isinstance(thing, nn.Module):
        return Subject(name, unwrapped(thing), None)
    if isinstance(thing, xr.Dataset):
        schema.check_recording(thing)
        return Subject(name, None, thing)
    where = f"models[{name!r}]" if name else "models"
    raise TypeError(f"{where} must be {WANTED}, got {type(thing).__name__}")


def recording_of(
    subject: Subject, run: Mapping[str, Any], *, seed: int, progress: bool = False
) -> xr.Dataset:
    """Return the Recording of a subject; a network is recorded.

    Parameters
    ----------
    subject
        A network other than a navigation Transformer, or a Recording.
    run
        `behaviour`, `inputs`, `layers` and `forward` of :func:`record`; the last two may be
        mappings from the name of a network.
    seed
        Random seed of the network's random numbers.
    progress
        Show a progress bar.
    """
    if subject.recording is not None:
        return subject.recording
    assert subject.network is not None  # for the type checker
    name, kind = subject.label, type(subject.network).__name__
    missing = [key for key in ("behaviour", "layers") if run[key] is None]
    if missing:
        raise TypeError(
            f"{' and '.join(missing)} must be given for {name!r}, which is not a "
            f"NavigationTransformer but a {kind}: its positions (x and y over walk and time) and "
            "the layers to record, as in pf.record. Or pass a Recording instead"
        )
    return record(
        subject.network,
        run["behaviour"],
        layers=own(run["layers"], name, "layers"),
        inputs=run["inputs"],
        forward=own(run["forward"], name, "forward"),
        seed=seed,
        progress=progress,
    )


def own(option: Any, name: str, argument: str) -> Any:
    """Return the value of an option for one network: the option itself, or its entry."""
    if not isinstance(option, Mapping):
        return option
    if name not in option:
        raise ValueError(
            f"{argument} must have an entry for every network, got none for {name!r} (entries: "
            f"{', '.join(map(repr, option)) or 'none'})"
        )
    return option[name]


def facts_of(subject: Subject) -> dict[str, xr.Variable]:
    """Coordinates along ``model`` of other networks and Recordings; NaN where unknown."""
    modules = [] if subject.network is None else list(subject.network.modules())
    alphas = {module.alpha for module in modules if isinstance(module, NMDA)}
    alpha = alphas.pop() if len(alphas) == 1 else float("nan")
    mg_mM = alpha_to_mg(alpha) if np.isfinite(alpha) else float("nan")
    info = getattr(subject.network, "info", {})
    values: dict[str, tuple[Any, str, str]] = {
        "name": (subject.label, "1", "name"),
        "alpha": (alpha, "1", "α when measured"),
        "mg_mM": (mg_mM, "mM", "[Mg²⁺] when measured"),
        "trained_alpha": (float("nan"), "1", "α of training"),
        "activation_name": ("", "1", "activation"),
        "seed": (-1, "1", "seed of training, -1 if unknown"),
        "n_maps": (-1, "1", "trained maps"),
        "sha256": (str(info.get("sha256") or ""), "1", "SHA-256 of the weights"),
    }
    return {
        name: variable("model", [value], long, units=units)
        for name, (value, units, long) in values.items()
    }


def scores_of(subject: Subject, score: Mapping[str, Score]) -> xr.DataArray:
    """Scores of a network in eval mode, (model, metric); NaN for a Recording."""
    network = subject.network
    values = [np.nan] * len(score) if network is None else run_scores(score, network)
    about = variable(("model", "metric"), [values], "score defined by the caller")
    return xr.DataArray(about, {"metric": list(score)})


def in_order(result: xr.Dataset, rows: Sequence[xr.Dataset], dims: Sequence[str]) -> xr.Dataset:
    """Put the labels of some dimensions in the order of the rows rather than sorted."""
    order = {}
    for dim in dims:
        labels = [label for row in rows if dim in row.dims for label in row[dim].values]
        if labels:
            order[dim] = list(dict.fromkeys(labels))
    return result.reindex(order)
