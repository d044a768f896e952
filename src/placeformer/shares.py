"""The share of a network's feed-forward units that are place cells, on trained and novel maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import xarray as xr

from placeformer import schema
from placeformer.census import place_cells
from placeformer.memory import KINDS
from placeformer.model import NavigationTransformer
from placeformer.recording import record


class Recordings(NamedTuple):
    """The feed-forward units of a network along walks on its trained and on novel maps."""

    trained: xr.Dataset
    novel: xr.Dataset


def recorded(
    model: NavigationTransformer,
    *,
    n_walks: int,
    n_steps: int,
    seed: int,
    maps: Sequence[int] = (0,),
    progress: bool = False,
) -> Recordings:
    """Record what the shares are counted on."""
    each = [
        record(
            model, n_walks=n_walks, n_steps=n_steps, maps=maps, seed=seed, familiar=familiar,
            progress=progress,
        )
        for familiar in (True, False)
    ]  # fmt: skip
    return Recordings(*each)


def place_cell_shares(
    found: Recordings, *, n: int, seed: int, progress: bool = False
) -> xr.Dataset:
    """Shares of units that :func:`place_cells` accepts.

    Parameters
    ----------
    found
        See :func:`recorded`.
    n, seed
        Shuffles of each test of :func:`place_cells`, and their seed.
    progress
        Show progress bars.

    Returns
    -------
    xarray.Dataset
        Of the units of every layer, means over the recorded maps, 0 to 1:
        `place_cell_fraction` (maps, layer), which are place cells on trained and on novel maps, and
        `memory_dependent_fraction` (layer), which are place cells of the trained maps and depend on
        memory.
    """
    cells = place_cells(
        found.trained, control=found.novel, per_map=True, n=n, seed=seed, progress=progress
    )
    each = [cells[name] for name in ("is_place_cell", "control_is_place_cell")]
    shares = xr.concat([by_layer(one, found.trained) for one in each], "maps")
    return xr.Dataset(
        {
            "place_cell_fraction": shares,
            "memory_dependent_fraction": by_layer(cells["depends_on_memory"], found.trained),
        }
    ).assign_coords(maps=list(KINDS))


def by_layer(values: xr.DataArray, recording: xr.Dataset) -> xr.DataArray:
    """Mean of the units of every layer, and over maps; undefined ones left out."""
    values = values.astype(float)
    values = values.mean([d for d in values.dims if d == schema.MAP])
    layer = xr.DataArray(recording["layer"].values, dims=schema.UNIT, name="layer")
    return (
        values.drop_vars(list(values.coords.keys() & {"layer", "component", "index"}))
        .groupby(layer)
        .mean(schema.UNIT)
    )
