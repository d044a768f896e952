"""The portrait of a network: everything the report says about it, as labelled Datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr

from placeformer import schema
from placeformer.fields import place_fields
from placeformer.measures import spatial_information
from placeformer.memory import memory_errors, world_of
from placeformer.model import NavigationTransformer
from placeformer.negatives import Negatives
from placeformer.placecells import place_cell_score
from placeformer.ratemaps import per_unit, rate_maps
from placeformer.recording import record
from placeformer.shuffles import Null, shuffle_test
from placeformer.variance import position_variance_explained

KINDS = ("trained", "novel")
SHUFFLE = "shuffle"

POLICIES: tuple[Negatives, ...] = ("rectify", "shift")
"""What is done with negative rates, where a measure needs rates of at least 0."""

SHUFFLED = ("information_rectify", "information_shift", "score")
"""Measures compared with circular shifts; the last also with trades among places of a letter."""


@dataclass(frozen=True)
class Settings:
    """How much is recorded and shuffled.

    Attributes
    ----------
    seed
        Of walks, e₀ and shuffles.
    memory_walks, memory_steps
        Walks for the memory errors on each kind of map, and steps in each.
    walks, steps
        Walks recorded on each map, and steps recorded in each.
    shuffles
        Shuffles of each null.
    shown_steps
        Steps of the walk that is drawn.
    """

    seed: int = 0
    memory_walks: int = 64
    memory_steps: int = 2048
    walks: int = 64
    steps: int = 1536
    shuffles: int = 39
    shown_steps: int = 96


@dataclass(frozen=True)
class Portrait:
    """What was measured in one network.

    Attributes
    ----------
    name
        Name of the network.
    model
        The network itself, for its facts.
    memory
        Memory errors on the trained and on the novel maps, over ``maps``.
    rate_maps
        RateMaps of the first trained and the first novel map, over ``map``, with the numbers of
        the place fields (``field_label``) and the letters of the places (``letter``).
    units
        One value a unit and map of every measure, with shuffles.
    walk
        The beginning of a recorded walk on the trained map, without activations.
    """

    name: str
    model: NavigationTransformer
    memory: xr.Dataset
    rate_maps: xr.Dataset
    units: xr.Dataset
    walk: xr.Dataset

    @property
    def datasets(self) -> dict[str, xr.Dataset]:
        """The Datasets by the name of their netCDF file."""
        kinds = ("memory", "rate_maps", "units", "walk")
        return {f"{self.name}.{kind}.nc": getattr(self, kind) for kind in kinds}

    @property
    def layers(self) -> list[str]:
        """Names of the recorded layers, first to last."""
        return list(dict.fromkeys(self.units["layer"].values.tolist()))

    def of_layer(self, layer: str) -> xr.Dataset:
        """Measures of the units of one layer."""
        return self.units.isel({schema.UNIT: np.flatnonzero(self.units["layer"].values == layer)})


def make_portrait(
    model: NavigationTransformer,
    settings: Settings,
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: bool = False,
) -> Portrait:
    """Measure everything the report shows of a network, one recording at a time.

    Parameters
    ----------
    model
        A network with its world.
    settings
        How much is recorded and shuffled.
    say
        Is told what begins.
    progress
        Show progress bars.
    """
    memory = _concat(
        [_memory(model, settings, kind, say, progress) for kind in KINDS],
        xr.Variable("maps", list(KINDS), {"long_name": "kind of maps"}),
    )
    parts = [_on_map(model, settings, kind, say, progress) for kind in KINDS]
    first = xr.Variable(schema.MAP, [f"{kind} 0" for kind in KINDS], {"long_name": "map"})
    maps, units = (
        _concat([part[i] for part in parts], first).assign_coords(
            familiar=(schema.MAP, [kind == "trained" for kind in KINDS])
        )
        for i in (0, 1)
    )
    about = {"settings": asdict(settings), "file_sha256": model.info.get("sha256", "")}
    for dataset in (memory, maps, units):
        dataset.attrs[schema.PROVENANCE] = schema.provenance(parts[0][0], "report", **about)
    name = str(model.info.get("name") or "network")
    return Portrait(name, model, memory, maps, units, parts[0][2])


def best_units(portrait: Portrait, layer: str, n: int) -> list[int]:
    """Numbers along ``unit`` of a layer's units with the greatest place-cell scores.

    Scores are those on the trained map, the lesser of both policies for negative rates; among
    equal ones, such as the many that are 0, the variance that place explains beyond the letter
    decides.
    """
    units = portrait.units.isel({schema.MAP: 0})
    scores, beyond = (np.nan_to_num(units[k].values) for k in ("score", "eta2_beyond"))
    order = np.lexsort((-beyond, -scores))
    return [int(i) for i in order if units["layer"].values[i] == layer][:n]


class Kept:
    """Measures of rate maps that keep what they found: the data's first, then every shuffle's."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.found: list[list[xr.DataArray]] = []

    def __call__(self, maps: xr.Dataset) -> xr.DataArray:
        """Values (measure, unit)."""
        every = of_maps(maps)
        self.found.append([every[name] for name in self.names])
        stacked = np.stack([values.values for values in self.found[-1]])
        return xr.DataArray(stacked, dims=("measure", schema.UNIT))

    def shuffled(self, name: str) -> xr.DataArray:
        """Values (shuffle, unit) of one measure in the shuffles, as float32."""
        column = [values[self.names.index(name)] for values in self.found[1:]]
        stacked = np.stack([values.values for values in column]).astype(np.float32)
        return xr.DataArray(stacked, dims=(SHUFFLE, schema.UNIT), attrs=column[0].attrs)


def of_maps(maps: xr.Dataset) -> dict[str, xr.DataArray]:
    """Every measure of rate maps that the report shows, under both policies for negative rates.

    ``score`` is the lesser of the place-cell scores under the two policies: where a map is
    negative but for a place or two, nearly all that is left of it lies in one field.
    """
    fields = place_fields(maps)
    found = {f"information_{p}": spatial_information(maps, negatives=p) for p in POLICIES}
    found |= {f"score_{p}": place_cell_score(maps, negatives=p, fields=fields) for p in POLICIES}
    values = np.minimum(*(found[f"score_{p}"].values for p in POLICIES))
    about = {"units": "1", "long_name": "place-cell score (lesser of both policies)"}
    lesser = per_unit(maps, values, "place_cell_score", **about)
    return found | {"score": lesser, "n_fields": fields["n_fields"]}


def _memory(
    model: NavigationTransformer,
    settings: Settings,
    kind: str,
    say: Callable[[str], None],
    progress: bool,
) -> xr.Dataset:
    """Memory errors on one kind of map."""
    say(f"memory errors on {kind} maps")
    errors = memory_errors(
        model,
        n_walks=settings.memory_walks,
        n_steps=settings.memory_steps,
        seed=settings.seed,
        familiar=kind == "trained",
        progress=progress,
    )
    del errors.attrs["familiar"]  # the dimension ``maps`` will say it
    return errors


def _on_map(
    model: NavigationTransformer,
    settings: Settings,
    kind: str,
    say: Callable[[str], None],
    progress: bool,
) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Rate maps, measures and the beginning of a walk on the first map of a kind."""
    say(f"recording of all feed-forward units on the first {kind} map")
    recording = record(
        model,
        n_walks=settings.walks,
        n_steps=settings.steps,
        seed=settings.seed,
        familiar=kind == "trained",
        maps=(0,),
        progress=progress,
    )
    maps = rate_maps(recording)
    letters = world_of(model).letters(kind == "trained")[0].reshape(maps["occupancy"].shape)
    letter = xr.Variable(("y", "x"), letters, {"units": "1", "long_name": "index of the letter"})
    say(f"measures and shuffles on the first {kind} map")
    units = _units(recording, maps, settings, progress)
    label = place_fields(maps)["label"].astype(np.int16)
    maps = maps.assign(field_label=label, letter=letter)
    shown = recording.drop_vars(schema.ACTIVATION).drop_dims(schema.UNIT)
    shown = shown.isel({schema.WALK: [0], schema.TIME: slice(settings.shown_steps)})
    return maps, units, shown.assign(letter=letter)


def _units(
    recording: xr.Dataset, maps: xr.Dataset, settings: Settings, progress: bool
) -> xr.Dataset:
    """Every measure of every unit on one map, with its shuffles."""
    values = of_maps(maps)
    values["eta2"] = position_variance_explained(recording)
    values["eta2_beyond"] = position_variance_explained(recording, given="observation")
    values |= _null(recording, "circular", SHUFFLED, settings, progress)
    values |= _null(recording, "within_observation", SHUFFLED[-1:], settings, progress)
    return xr.Dataset(values)


def _null(
    recording: xr.Dataset, null: Null, names: Sequence[str], settings: Settings, progress: bool
) -> dict[str, xr.DataArray]:
    """Values in the shuffles, and the p-value of every unit, under one null."""
    kept = Kept(names)
    test = shuffle_test(
        recording, kept, n=settings.shuffles, null=null, seed=settings.seed, progress=progress
    )
    found: dict[str, xr.DataArray] = {}
    for i, name in enumerate(names):
        about = {"units": "1", "long_name": f"p of {name} against {null} shuffles"}
        found[f"{name}_{null}"] = kept.shuffled(name)
        found[f"{name}_{null}_p"] = test["p"].isel(measure=i).drop_attrs().assign_attrs(about)
    return found


def _concat(parts: list[xr.Dataset], along: xr.Variable) -> xr.Dataset:
    """Put Datasets side by side along a new dimension."""
    joined = xr.concat(
        parts, along.dims[0], data_vars="all", coords="minimal", compat="override", join="exact",
        combine_attrs="override",
    )  # fmt: skip
    return joined.assign_coords({along.dims[0]: along})
