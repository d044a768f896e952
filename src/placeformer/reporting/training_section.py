"""The page's section on a network over its training: how it is measured, and its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from placeformer.evaluation.consolidation import consolidation
from placeformer.models.fingerprints import weights_sha256
from placeformer.models.transformer import NavigationTransformer
from placeformer.reporting.measurements import Settings, SubjectReport
from placeformer.reporting.numbers import Number, percent
from placeformer.zoo.registry import list_steps, load, snapshots_folder


def training_of(model: NavigationTransformer) -> str | None:
    """Name or folder of the snapshots of the training that made a network, or None.

    Only snapshots on this machine count, nothing is downloaded, and the last of them has to be the
    network itself: one that has been changed since has no known past.
    """
    info = model.info
    in_zoo = info.get("source") == "zoo"
    source = info.get("name" if in_zoo else "folder")
    if source is None or not (snapshots_folder() / source if in_zoo else Path(source)).is_dir():
        return None
    steps = list_steps(source)
    if not steps or weights_sha256(load(source, step=steps[-1])) != weights_sha256(model):
        return None
    return str(source)


def measure_training(source: str, settings: Settings, *, progress: bool = False) -> xr.Dataset:
    """Measure a network at some of its snapshots, the first and the last among them.

    Memory is tested on the walks of the section on memory, so that the last step has its errors.
    """
    steps = list_steps(source)
    chosen = np.linspace(0, len(steps) - 1, min(settings.snapshots, len(steps)))
    return consolidation(
        source,
        [steps[i] for i in chosen.round().astype(int)] if len(chosen) > 1 else steps[-1:],
        n_walks=settings.memory_walks,
        n_steps=settings.memory_steps,
        recorded_walks=settings.snapshot_walks,
        recorded_steps=settings.snapshot_steps,
        seed=settings.seed,
        progress=progress,
    )


def course_of(network: SubjectReport) -> xr.Dataset:
    """Measurements of a network over its training."""
    assert network.training is not None
    return network.training


def ends(network: SubjectReport) -> tuple[int, int]:
    """The first and the last step that were measured."""
    steps = course_of(network)["step"].values
    return int(steps[0]), int(steps[-1])


def error(network: SubjectReport, step: int, maps: str, memory: str) -> Number:
    """Error of one memory on one kind of map at a step, with its interval as its meaning."""
    here = course_of(network).sel(step=step, maps=maps, memory=memory)
    value, (low, high) = float(here["error"]), here["interval"].values
    key = f"{network.name}/training/{step}/{maps}/{memory}"
    return Number(key, value, percent(value), f"95 % interval {percent(low)} to {percent(high)}")


def cells(network: SubjectReport, step: int, maps: str) -> Number:
    """Number of place cells on one kind of map at a step."""
    name = {"trained": "is_place_cell", "novel": "control_is_place_cell"}[maps]
    n = int(course_of(network)[name].sel(step=step).sum())
    return Number(f"{network.name}/training/{step}/{maps}/place_cells", n, str(n))


def kept(network: SubjectReport, step: int, compared: str, what: str = "kept") -> Number:
    """Share of the place cells that is kept at a step, see `compared` of :func:`consolidation`."""
    value = float(course_of(network)[what].sel(step=step, compared=compared))
    key = f"{network.name}/training/{step}/{compared}/{what}"
    return Number(key, value, percent(value))


@dataclass(frozen=True)
class Row:
    """Numbers of one step: errors, place cells, and place cells that are kept."""

    step: int
    errors: list[Number]
    cells: list[Number]
    kept: Number
    chance: Number
    retest: Number


def rows(network: SubjectReport) -> Iterator[Row]:
    """Every step that was measured."""
    kinds = ("trained", "novel")
    for step in course_of(network)["step"].values.tolist():
        yield Row(
            step,
            [error(network, step, "trained", "working")]
            + [error(network, step, maps, "reference") for maps in kinds],
            [cells(network, step, maps) for maps in kinds],
            kept(network, step, "previous"),
            kept(network, step, "previous", "kept_chance"),
            kept(network, step, "retest"),
        )


def change(network: SubjectReport) -> str:
    """Whether reference memory on trained maps improved: by the intervals at both ends."""
    course = course_of(network).sel(maps="trained", memory="reference")
    (before_low, before_high), (low, high) = course["interval"].isel(step=[0, -1]).values
    if high < before_low:
        return "fell"
    return "rose" if low > before_high else "did not change detectably"
