"""Facts about a recording and about the call that made the report: versions and citation."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from torch import nn

from placeformer import __version__
from placeformer.data import schema
from placeformer.data.dwell import dwell_of
from placeformer.data.walk_lengths import walk_lengths
from placeformer.versions import installed

if TYPE_CHECKING:
    from placeformer.reporting.unit_measures import MapOptions


def facts_of_recording(recording: xr.Dataset, options: MapOptions) -> dict[str, str]:
    """Facts about a Recording by label: what was recorded, for how long, and how it is binned."""
    sizes = recording.sizes
    facts = {"Units": f"{sizes[schema.UNIT]:,}"}
    if "layer" in recording.coords:
        layers, n = np.unique(recording["layer"].values, return_counts=True)
        facts["Layers"] = ", ".join(f"{a} ({b} units)" for a, b in zip(layers, n, strict=True))
    lengths = walk_lengths(recording)
    facts["Samples"] = f"{int(lengths.sum()):,} in {counted(sizes[schema.WALK], 'walk')}"
    seconds = dwell_of(recording)
    if seconds is not None:
        total = float(np.nansum(np.broadcast_to(seconds, recording[options.by[0]].shape)))
        facts["Duration"] = f"{total:,.0f} s"
    if schema.MAP in recording.variables:
        facts["Maps"] = str(np.unique(recording[schema.MAP].values).size)
    facts["Activation"] = str(recording[schema.ACTIVATION].attrs.get("units", "1"))
    if facts["Activation"] in ("1", ""):
        facts["Activation"] = "arbitrary units"
    axes = [axis(recording, name, edges) for name, edges in options.bins.items()]
    facts["Bins of place"] = "; ".join(axes)
    smooth = options.smooth
    facts["Smoothing"] = "none" if smooth is None else f"Gaussian, s.d. {smooth} bins"
    for label, key in (("Session", "session"), ("NWB file", "nwb_file"), ("Network", "network")):
        said = said_of(recording, key)
        text = said.get("name") or said.get("class") if isinstance(said, Mapping) else said
        if text:
            facts[label] = str(text)
    return facts


def said_of(recording: xr.Dataset, key: str) -> Any:
    """First value of a key in the provenance of a recording; None if there is none."""
    steps = schema.read_provenance(recording).get("steps", [])
    return next((step[key] for step in steps if step.get(key)), None)


def axis(recording: xr.Dataset, name: str, edges: np.ndarray) -> str:
    """Number of bins of an axis, and their range."""
    units = schema.shown_units(recording[name], "")
    span = f"{edges[0]:.4g} to {edges[-1]:.4g} {units}".strip()
    return f"{len(edges) - 1} of {name}, {span}"


def counted(n: int, noun: str) -> str:
    """A number and its noun, "1 walk" or "12 walks"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def facts_of_module(module: nn.Module) -> dict[str, str]:
    """Facts about any network by label."""
    n = sum(weight.numel() for weight in module.parameters())
    return {"Network": type(module).__name__, "Parameters": f"{n:,}"}


def shown_call(name: str, positional: list[Any], options: Mapping[str, Any]) -> str:
    """The call of a function, with its arguments as code."""
    given = [shown(value) for value in positional]
    given += [f"{key}={shown(value)}" for key, value in options.items()]
    return f"{name}({', '.join(given)})"


def shown(value: Any) -> str:
    """An argument as code; Datasets, networks, functions and arrays as a placeholder name."""
    if isinstance(value, Mapping) and not isinstance(value, xr.Dataset):
        return "{" + ", ".join(f"{key!r}: {shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        items = ", ".join(map(shown, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' * (len(value) == 1)})"
    if isinstance(value, xr.Dataset):
        return "recording"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return f"<{getattr(value, '__name__', type(value).__name__)}>"


@dataclass(frozen=True)
class Made:
    """Date, versions and call with which a page was made, and the citation."""

    date: str
    versions: str
    call: str
    citation: str


def made_by(call: str) -> Made:
    """Describe how the page is made now."""
    now = datetime.now(UTC)
    versions = [f"Python {sys.version.split()[0]}"]
    versions += [f"{name} {installed(name)}" for name in ("torch", "numpy", "scipy", "xarray")]
    citation = CITATION.format(version=__version__, year=now.year)
    return Made(f"{now:%Y-%m-%d %H:%M} UTC", ", ".join(versions), call, citation)


CITATION = """@software{{placeformer,
  title = {{placeformer}},
  author = {{{{placeformer developers}}}},
  version = {{{version}}},
  year = {{{year}}}
}}
@inproceedings{{kim2023transformer,
  title = {{Transformer as a hippocampal memory consolidation model based on NMDAR-inspired
           nonlinearity}},
  author = {{Kim, Dong-Kyum and Kwon, Jea and Cha, Meeyoung and Lee, C. Justin}},
  booktitle = {{Advances in Neural Information Processing Systems}},
  volume = {{36}},
  year = {{2023}}
}}"""
"""The software and the paper whose model it implements, as in CITATION.cff."""
