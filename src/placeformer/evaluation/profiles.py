"""Profiles of networks: memory errors, shares of place cells and other measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.evaluation.any_network import (
    RECORDED,
    facts_of,
    in_order,
    recording_of,
    scores_of,
    subjects_of,
)
from placeformer.interventions.doses import Score, named_scores
from placeformer.interventions.magnesium import Source, dose_response
from placeformer.models.fingerprints import current_info
from placeformer.models.memory import KINDS
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.record import record
from placeformer.spatial.measures import spatial_information
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.place_cells import OBSERVATION, place_cells
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.shuffle_test import chance_corrected, shuffle_test


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
    "eta2": "variance explained by place, corrected by the mean of shuffles, mean of the units",
}


def profile_networks(
    models: Source | Iterable[Any],
    *,
    behaviour: xr.Dataset | Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    layers: Any = None,
    forward: Any = None,
    by: Sequence[str] = ("y", "x"),
    bins: Any = None,
    score: Score | Mapping[str, Score] | None = None,
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

    Navigation Transformers walk on their own maps, and everything below is measured. Of any other
    network, and of a Recording (of an animal, for example), what needs no letters is measured:
    shares of place cells, information and variance explained, and the scores that the caller gives.

    Parameters
    ----------
    models
        One or several networks, or sources that :func:`load` accepts (names of the zoo, folders),
        or Recordings; or a mapping of them by name, such as
        ``{"GRU": gru, "rat 7": recording, "paper": "nmda-a10"}``.
    behaviour, inputs, layers, forward
        How networks that are no navigation Transformer are recorded: as `walks`, `inputs`, `layers`
        and `forward` of :func:`record`. `layers` and `forward` may be mappings by the name of the
        network. A Recording that was made beforehand can be passed instead of the network.
    by, bins
        Position coordinates and bins of the rate maps, see :func:`rate_maps`, where no navigation
        Transformer walks.
    score
        A function of a network that returns a number, such as its loss, or a mapping of several by
        name. It is called with every network, in eval mode and without gradients.
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
        - `information` (model, maps, negatives, layer), in bits/spike, under each policy for
          negative rates, mean over the units for which it is defined;
        - `eta2_beyond` (model, maps, layer): variance explained by place beyond the observation,
          which needs no policy for negative rates, without what shuffles of the places explain on
          average, which grows with the autocorrelation of a unit.

        If there are other networks or Recordings, ``maps`` has the entry "recorded" for them, on
        which what is not defined is NaN (`eta2_beyond`, for example, without an `observation`), and
        `eta2` (model, maps, layer) is the variance explained by place, less that of shuffles, for
        all. With `score`: `score` (model, metric), NaN for a Recording.

    Raises
    ------
    TypeError
        What is neither a network, a source nor a Recording; or a network that needs `behaviour` and
        `layers` and has none.
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
    subjects, scores = subjects_of(models), {} if score is None else named_scores(score)
    run = {"behaviour": behaviour, "inputs": inputs, "layers": layers, "forward": forward}
    errors: dict[str, Any] = {"n_walks": n_walks, "n_steps": n_steps}
    walks: dict[str, Any] = {"n_walks": recorded_walks, "n_steps": recorded_steps, "maps": maps}
    mixed = not all(subject.navigates for subject in subjects)
    rows = []
    for subject in tqdm(subjects, desc="networks", disable=not progress):
        model, scored = subject.network, scores_of(subject, scores)
        if isinstance(model, NavigationTransformer):
            row = memory_of(model, washout, {**errors, "seed": seed, "progress": False})
            row = row.merge(units_of(model, walks, n_shuffles, seed, plain=mixed))
            if subject.name:
                row["name"] = row["name"].copy(data=[subject.name])
        else:
            recording = recording_of(subject, run, seed=seed)
            row = profile_recording(recording, by, bins, n_shuffles, seed)
            row = row.assign_coords(facts_of(subject))
        rows.append(row.assign(score=scored) if scores else row)
    result = xr.concat(rows, "model", combine_attrs="drop_conflicts", join="outer")
    if mixed:
        result = in_order(result, rows, ("maps", "layer", "memory", "negatives"))
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
    sha256 = ("model", [str(current_info(model).get("sha256") or "")])
    return row.assign(washout_wrong=wrong).assign_coords(sha256=sha256)


def units_of(
    model: NavigationTransformer,
    walks: dict[str, Any],
    n_shuffles: Any,
    seed: int,
    *,
    plain: bool,
) -> xr.Dataset:
    """Shares of place cells, information and partial variance of one network, by layer.

    With `plain`, the variance explained by place without regard to the observation too.
    """
    recordings = recorded(model, **walks, seed=seed)
    shares = place_cell_shares(recordings, n_shuffles=n_shuffles, seed=seed)
    table = {
        **{str(name): values for name, values in shares.items()},
        "information": over_kinds(information, *recordings),
        "eta2_beyond": over_kinds(beyond, *recordings),
        **({"eta2": over_kinds(explained, *recordings)} if plain else {}),
    }
    return labelled(table, KINDS)


def labelled(table: Mapping[str, xr.DataArray], kinds: Sequence[str]) -> xr.Dataset:
    """Measures of the layers of one network, with their units and long names."""
    units = {"information": "bit"}
    named = {
        name: values.drop_attrs().assign_attrs(
            units=units.get(name, "1"), long_name=LAYERWISE[name]
        )
        for name, values in table.items()
    }
    return xr.Dataset(named).assign_coords(maps=list(kinds)).expand_dims("model")


def profile_recording(
    recording: xr.Dataset, by: Sequence[str], bins: Any, n_shuffles: Any, seed: int
) -> xr.Dataset:
    """Shares of place cells, information and variance explained of any Recording, by layer."""
    if "layer" not in recording.coords:  # it may come from elsewhere
        layer = [RECORDED] * recording.sizes[schema.UNIT]
        recording = recording.assign_coords(layer=(schema.UNIT, layer))
    binned: dict[str, Any] = {"by": by, "bins": bins, "per_map": schema.MAP in recording.variables}
    cells = place_cells(
        recording, n_shuffles=n_shuffles, cell_types=False, seed=seed, progress=False, **binned
    )
    tests = {"eta2": None} | ({"eta2_beyond": OBSERVATION} if OBSERVATION in recording else {})
    measured = {
        "place_cell_fraction": cells["is_place_cell"],
        "information": information(recording, **binned),
        **{name: explained(recording, given=given, **binned) for name, given in tests.items()},
    }
    table = {
        name: by_layer(values, recording).expand_dims("maps") for name, values in measured.items()
    }
    return labelled(table, [RECORDED])


def over_kinds(measure: Any, *recordings: xr.Dataset) -> xr.DataArray:
    """Mean of a measure by layer, over the recordings on trained and on novel maps."""
    return xr.concat([by_layer(measure(recording), recording) for recording in recordings], "maps")


def information(recording: xr.Dataset, *, per_map: bool = True, **options: Any) -> xr.DataArray:
    """Spatial information of every unit under every policy for negative rates."""
    maps = rate_maps(recording, per_map=per_map, **options)
    measured = [spatial_information(maps, negatives=policy) for policy in POLICIES]
    return xr.concat(measured, xr.Variable("negatives", list(POLICIES)), combine_attrs="drop")


def explained(
    recording: xr.Dataset, *, given: str | None = None, per_map: bool = True, **options: Any
) -> xr.DataArray:
    """Variance explained by place, beyond chance and beyond a variable that is `given`."""
    test = shuffle_test(
        recording, n_shuffles=CHANCE_SHUFFLES, given=given, per_map=per_map, progress=False,
        **options,
    )  # fmt: skip
    return chance_corrected(test)


def beyond(recording: xr.Dataset) -> xr.DataArray:
    """Variance explained by place beyond the observation and beyond chance."""
    return explained(recording, given=OBSERVATION)
