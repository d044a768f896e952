"""Profiles of networks: memory errors, shares of place cells and other measures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.interventions.magnesium import Source, dose_response
from placeformer.models.memory import KINDS
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.record import record
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.place_cells import OBSERVATION, place_cells
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.shuffle_test import chance_corrected, shuffle_test
from placeformer.zoo.registry import load


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
    """Record the feed-forward units on trained and on novel maps."""
    recordings = [
        record(
            model, n_walks=n_walks, n_steps=n_steps, maps=maps, seed=seed, familiar=familiar,
            progress=progress,
        )
        for familiar in (True, False)
    ]  # fmt: skip
    return Recordings(*recordings)


def place_cell_shares(
    recordings: Recordings, *, n_shuffles: int | Literal["auto"], seed: int, progress: bool = False
) -> xr.Dataset:
    """Shares of units that are place cells according to :func:`place_cells`.

    Parameters
    ----------
    recordings
        Result of :func:`recorded`.
    n_shuffles, seed
        Number of shuffles of each test of :func:`place_cells`, and their random seed.
    progress
        Show progress bars.

    Returns
    -------
    xarray.Dataset
        Shares of the units of every layer, 0 to 1, as means over the recorded maps:
        `place_cell_fraction` (maps, layer), place cells on trained and on novel maps, and
        `memory_dependent_fraction` (layer), place cells of the trained maps whose tuning depends on
        memory.
    """
    cells = place_cells(
        recordings.trained,
        control=recordings.novel,
        per_map=True,
        n_shuffles=n_shuffles,
        cell_types=False,
        seed=seed,
        progress=progress,
    )
    decisions = [cells[name] for name in ("is_place_cell", "control_is_place_cell")]
    shares = xr.concat([by_layer(values, recordings.trained) for values in decisions], "maps")
    return xr.Dataset(
        {
            "place_cell_fraction": shares,
            "memory_dependent_fraction": by_layer(cells["depends_on_memory"], recordings.trained),
        }
    ).assign_coords(maps=list(KINDS))


def by_layer(values: xr.DataArray, recording: xr.Dataset) -> xr.DataArray:
    """Mean over maps and over the units of every layer, without undefined values."""
    values = values.astype(float)
    values = values.mean([d for d in values.dims if d == schema.MAP])
    layer = xr.DataArray(recording["layer"].values, dims=schema.UNIT, name="layer")
    return (
        values.drop_vars(list(values.coords.keys() & {"layer", "component", "index"}))
        .groupby(layer)
        .mean(schema.UNIT)
    )


CHANCE_SHUFFLES = 20
"""Number of shuffles whose mean is the variance explained by chance."""

POLICIES: tuple[Negatives, ...] = tuple(p for p in get_args(Negatives) if p != "raise")
LAYERWISE = {
    "place_cell_fraction": "share of units that are place cells",
    "memory_dependent_fraction": "share of units that are place cells and depend on memory",
    "information": "spatial information per spike, mean of the units",
    "eta2_beyond": "variance explained by place beyond the observation, corrected by the mean of "
    "shuffles, mean of the units",
}


def profile_networks(
    models: Source | Iterable[Source],
    *,
    n_walks: int = 64,
    n_steps: int = 1024,
    recorded_walks: int = 16,
    recorded_steps: int = 512,
    maps: Sequence[int] = (0,),
    n_shuffles: int | Literal["auto"] = "auto",
    washout: float = 0.0,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Measure networks by one protocol: memory errors, washout, place cells and information.

    Parameters
    ----------
    models
        One or several networks, or sources that :func:`load` accepts (names of the zoo, folders).
    n_walks, n_steps
        Walks for the memory errors at the ends of chunks, see :func:`dose_response`.
    recorded_walks, recorded_steps, maps
        Walks on trained and on novel maps along which the feed-forward units are recorded. Place
        cells are decided per map; with several maps, shares are means over them.
    n_shuffles
        Number of shuffles of each test of :func:`place_cells`.
    washout
        Test-time α of the washout of networks with NMDA_α, ≥ 0.
    seed
        Random seed of walks, e₀ and shuffles.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims ``model``, ``maps`` (trained, novel), ``memory``, ``walk``, ``layer``, ``negatives``:

        - `error`, `interval`, `wrong` and `n`, and the coordinates along ``model``, as in
          :func:`dose_response`, and `sha256` of the weights ("" if they were not loaded);
        - `washout_wrong` (as `wrong`): wrong predictions at the test-time α `washout` on the same
          walks; NaN without NMDA_α;
        - `place_cell_fraction` (model, maps, layer), 0 to 1; `memory_dependent_fraction` (model,
          layer), the share of units that are place cells of the trained maps and depend on
          memory, see :func:`place_cells`;
        - `information` (model, negatives, maps, layer), in bits/spike, under each policy for
          negative rates, mean over the units for which it is defined;
        - `eta2_beyond` (model, maps, layer): variance explained by place beyond the observation,
          which needs no policy for negative rates, without what shuffles of the places explain on
          average, which grows with the autocorrelation of a unit.

    Raises
    ------
    ValueError
        No networks, or invalid settings of one of the functions above.

    See Also
    --------
    paper_claims, claim_verdicts : Test the claims of the paper on the result.
    memory_comparison : Compare the result with lesions and test-time Mg²⁺.
    zoo_table : Results that are stored with the networks.

    Examples
    --------
    >>> import placeformer as pf
    >>> networks = pf.profile_networks(
    ...     "mini-nmda-a10", n_walks=4, n_steps=128, recorded_walks=16, recorded_steps=128,
    ...     progress=False,
    ... )
    >>> dict(networks.place_cell_fraction.sizes)
    {'model': 1, 'maps': 2, 'layer': 2}
    """
    sources = [models] if isinstance(models, str | os.PathLike | nn.Module) else list(models)
    if not sources:
        raise ValueError("models must name at least one network, got none")
    errors: dict[str, Any] = {"n_walks": n_walks, "n_steps": n_steps}
    walks: dict[str, Any] = {"n_walks": recorded_walks, "n_steps": recorded_steps, "maps": maps}
    rows = []
    for source in tqdm(sources, desc="networks", disable=not progress):
        model = source if isinstance(source, NavigationTransformer) else load(source)
        row = memory_of(model, washout, {**errors, "seed": seed, "progress": False})
        rows.append(row.merge(units_of(model, walks, n_shuffles, seed)))
    result = xr.concat(rows, "model", combine_attrs="drop_conflicts", join="outer")
    settings: dict[str, Any] = {
        **errors, "where": "chunk_end", "recorded_walks": recorded_walks,
        "recorded_steps": recorded_steps, "maps_recorded": " ".join(map(str, maps)),
        "n_shuffles": n_shuffles, "washout": washout, "seed": seed,
    }  # fmt: skip
    about = schema.provenance(None, "profile_networks", **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def memory_of(model: NavigationTransformer, washout: float, settings: dict[str, Any]) -> xr.Dataset:
    """Errors of one network as it was trained, and its wrong predictions after washout."""
    row = dose_response(model, **settings)
    wrong = xr.full_like(row["wrong"], np.nan, dtype=float)
    if model.config.alpha is not None:
        wrong.values = dose_response(model, alphas=washout, **settings)["wrong"].values
    wrong.attrs = {"units": "1", "long_name": "wrong predictions after washout"}
    sha256 = ("model", [str(model.info.get("sha256") or "")])
    return row.assign(washout_wrong=wrong).assign_coords(sha256=sha256)


def units_of(
    model: NavigationTransformer, walks: dict[str, Any], n_shuffles: Any, seed: int
) -> xr.Dataset:
    """Shares of place cells, information and partial variance of one network, by layer."""
    recordings = recorded(model, **walks, seed=seed)
    shares = place_cell_shares(recordings, n_shuffles=n_shuffles, seed=seed)
    table = {
        **{str(name): values for name, values in shares.items()},
        "information": over_kinds(information, *recordings),
        "eta2_beyond": over_kinds(beyond, *recordings),
    }
    units = {"information": "bit"}
    labelled = {
        name: values.drop_attrs().assign_attrs(
            units=units.get(name, "1"), long_name=LAYERWISE[name]
        )
        for name, values in table.items()
    }
    return xr.Dataset(labelled).assign_coords(maps=list(KINDS)).expand_dims("model")


def over_kinds(measure: Any, *recordings: xr.Dataset) -> xr.DataArray:
    """Mean of a measure by layer, over the recordings on trained and on novel maps."""
    return xr.concat([by_layer(measure(recording), recording) for recording in recordings], "maps")


def information(recording: xr.Dataset) -> xr.DataArray:
    """Spatial information of every unit under every policy for negative rates."""
    maps = rate_maps(recording, per_map=True)
    measured = [spatial_information(maps, negatives=policy) for policy in POLICIES]
    return xr.concat(measured, xr.Variable("negatives", list(POLICIES)), combine_attrs="drop")


def beyond(recording: xr.Dataset) -> xr.DataArray:
    """Variance explained by place beyond the observation and beyond chance."""
    test = shuffle_test(
        recording, n_shuffles=CHANCE_SHUFFLES, given=OBSERVATION, per_map=True, progress=False
    )
    return chance_corrected(test)
