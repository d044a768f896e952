"""Score card: the place code of a network against an untrained twin and random smooth fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn
from tqdm.auto import tqdm

from placeformer._options import check_option
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.evaluation.score_controls import Untrained, random_fields, untrained_twin
from placeformer.interventions.ablation_curve import ablation_curve
from placeformer.interventions.doses import trials
from placeformer.models.memory import MEMORIES
from placeformer.models.transformer import NavigationTransformer
from placeformer.population.decoding import decode_position, distance_from_mean
from placeformer.population.remapping import n_varying, remapping
from placeformer.recording.network_state import original
from placeformer.recording.record import record
from placeformer.spatial.binning import Bins, axis_names
from placeformer.spatial.place_cells import OBSERVATION, PLACE_CELL, place_cells
from placeformer.spatial.rate_maps import Smooth, rate_maps
from placeformer.spatial.shuffle_test import shuffle_test
from placeformer.stats.intervals import error_interval, over_seeds

NETWORK, UNTRAINED, FIELDS = SUBJECTS = ("network", "untrained twin", "random smooth fields")

MAX_Q, MIN_RELIABILITY = 0.05, 0.5
"""Limits of :func:`place_cells` that the marks use."""

MARKS = {
    "tuned": f"place explains variance (q ≤ {MAX_Q} against shuffled places)",
    "beyond input": f"place explains variance beyond the input (q ≤ {MAX_Q})",
    "field": "tuned, and the rate map has a place field",
    "stable": f"tuned, and the maps of two halves agree (reliability ≥ {MIN_RELIABILITY})",
    PLACE_CELL: "all criteria of place_cells",
    "remaps": "tuned and stable in two environments, with maps no more alike than other units'",
}
"""Marks of units on the card, and their criteria."""

LESIONS = ("none", "place cells", "control units")

CLASSES, MOST_LEVELS = 64, 16
"""Maximum numbers of classes of a continuous input, and of each of its components.

With fewer classes, so much of the input varies within a class that units that follow the input
alone pass as tuned to place, because places and inputs are related near walls.
"""

MOST_CLASSES = 256
"""Maximum number of distinct values or classes of an input."""

MIN_UNITS = 20
"""Minimum number of units of a layer whose maps vary, for remapping, whose p is at least 1 divided
by their number."""

DECODING_SHUFFLES = 19

MOST_OVERLAP = 0.95
"""Fraction of place cells among their control units above which no cost is computed."""

Score = Callable[[Any], ArrayLike] | Literal["reference", "working"]


class Settings(NamedTuple):
    """Options with which every subject of a card is measured."""

    by: tuple[str, ...]
    bins: Bins
    smooth: Smooth
    min_occupancy: float | None
    given: str | None
    decoders: tuple[str, ...]
    n_shuffles: int | Literal["auto"]
    seed: int

    def of_maps(self) -> dict[str, Any]:
        """Options of all functions that compute rate maps."""
        return {
            "by": self.by, "bins": self.bins, "smooth": self.smooth,
            "min_occupancy": self.min_occupancy,
        }  # fmt: skip

    def of_tests(self) -> dict[str, Any]:
        """Options of the tests against shuffled places."""
        return {
            "n_shuffles": self.n_shuffles, "seed": self.seed, "max_q": MAX_Q, "progress": False,
        }  # fmt: skip


def score_card(
    network: nn.Module | xr.Dataset,
    behaviour: xr.Dataset | Mapping[str, Any] | None = None,
    *,
    layers: Any = None,
    inputs: Mapping[str, Any] | None = None,
    forward: Callable[..., Any] | None = None,
    untrained: Untrained | xr.Dataset | None = None,
    given: str | None = None,
    score: Score | None = None,
    by: str | Sequence[str] = ("y", "x"),
    bins: Bins = None,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    field_width: float = 0.1,
    decoders: str | Sequence[str] = ("ridge", "bayes"),
    n_shuffles: int | Literal["auto"] = "auto",
    repeats: int = 20,
    lesion_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Measure the place code of every layer of a network, together with two controls.

    The controls are an untrained twin of the network, recorded in the same way, and random smooth
    fields: units that are functions of position alone, as many as in the network, sampled along the
    same walks. A number of the network is meaningful where it differs from both.

    Parameters
    ----------
    network
        A navigation Transformer, any ``torch.nn.Module``, or a Recording, which has no untrained
        twin (unless `untrained` is a Recording of it) and no lesions.
    behaviour, layers, inputs, forward
        As in :func:`record`, whose other arguments (`n_walks`, `maps`, `dims`, …) are passed as
        `options`. If the network was recorded on several maps (environments), shares are means over
        the maps.
    untrained
        The untrained twin, or a function that makes it from a seed. By default a copy of the
        network in which every module draws new weights (``reset_parameters``).
    given
        The input beyond which place must explain variance: the name of a variable (walk, time) or
        (walk, time, component) of `inputs`, of the behaviour or of the recording. Values of a
        continuous input are divided into at most 64 classes by the quantiles of its components. By
        default ``"observation"`` if the recording has it.
    score
        Score by which the cost of a lesion of place cells is measured: a function of the lesioned
        network that returns one number, or one number for each of the same trials (larger is
        worse). For a navigation Transformer also ``"reference"`` or ``"working"``, its memory error
        on trained maps. None leaves lesions out.
    by, bins, smooth, min_occupancy
        Axes and bins of place and rate maps, see :func:`rate_maps`.
    field_width
        Standard deviation of the Gaussian that smooths the random fields, as a fraction of the
        range of positions.
    decoders
        Methods of :func:`decode_position` ("ridge", "knn" or "bayes"), cross-validated over walks
        for each map. None of them is always best: ridge regression may be wrong by more than the
        size of the arena, and a Bayesian decoder is misled by correlated units.
    n_shuffles
        Number of shuffles of every test, see :func:`shuffle_test`.
    repeats
        Number of sets of control units; the minimum `lesion_p` is 1 / (repeats + 1).
    lesion_options
        Further arguments of :func:`ablation_curve`, such as ``{"how": "zero", "n_walks": 16}``.
    seed
        Random seed of walks, untrained weights, fields, shuffles and control units.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims ``subject`` (network, untrained twin, random smooth fields), ``layer``, ``mark``,
        ``decoder``, ``lesion`` and ``bound``:

        - `share` (subject, layer, mark), the fraction of all units of the layer, 0 to 1: ``tuned``,
          ``beyond input``, ``field`` (tuned, with a place field), ``stable`` (tuned, with a
          reliable map) and ``place cell``, by the criteria of :func:`place_cells`; and ``remaps``,
          units that are stable (and tuned beyond the input, if one is given) on both of two maps,
          with rate maps that are no more alike than those of different units (p > 0.05 in
          :func:`remapping`), mean over pairs of maps. `share_interval` (…, bound), a 95 % Wilson
          interval over units, which does not cover other seeds of the network; `share_n`, number of
          units. The coordinate `criterion` (mark) states the criterion;
        - `decoded_error` (subject, layer, decoder), cross-validated mean distance in the units of
          position, mean over walks; `decoded_interval` (…, bound), a 95 % interval over walks
          (Student's t); `decoded_p`, p of the test in which walks exchange their paths, the
          largest over maps; `chance_error` (subject, layer), the mean distance from the mean
          position, which needs no decoder; `decoded_n`, number of walks;
        - `lesion_score` (subject, layer, lesion): the score without a lesion, with all place cells
          of the layer lesioned, and with the same number of control units lesioned, drawn from
          strata of similar units (:func:`ablation_curve`), mean over `repeats` sets;
          `lesion_cost` (subject, layer), place cells minus control units, `lesion_interval`
          (…, bound), a bootstrap interval over trials and sets, `lesion_p`, exact over sets, and
          `lesion_n`, number of place cells;
        - `n_units` (layer); `share_reason`, `decoded_reason`, `lesion_reason`: why a value is NaN,
          else empty.

    Raises
    ------
    ValueError
        The untrained twin cannot be made, `given` is unknown or takes too many values, or an
        option is out of range.
    TypeError
        `network` is neither a network nor a Recording, or `untrained` or `score` is of a wrong
        type.

    See Also
    --------
    write_score_card : Write a card as JSON or HTML.
    plot.score_card : Draw a card.
    place_cells, decode_position, ablation_curve : The underlying analyses, with more detail.

    Notes
    -----
    Random smooth fields are tuned and stable, and position is decoded from them better than from
    most networks: these marks, and the fraction of place cells, show that position is represented,
    not that a network has computed it. The fields do not remap, because they do not depend on the
    map, and no network reads them. An untrained network has the inputs of the trained one: what it
    shows needs no learning. ``beyond input`` refers to the input of the same step. Recent inputs
    are also related to place, so units that keep traces of them pass, even in an untrained network.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import placeformer as pf
    >>> steps = np.random.default_rng(0).normal(0, 0.1, (2, 12, 100)).cumsum(-1)
    >>> place = np.abs((steps + 0.5) % 2 - 1)  # walks in a box of one metre
    >>> gru = torch.nn.GRU(2, 24, batch_first=True)
    >>> card = pf.score_card(
    ...     gru,
    ...     {"x": place[0], "y": place[1]},
    ...     layers="GRU",
    ...     inputs={"velocity": np.gradient(place, axis=2).transpose(1, 2, 0)},
    ...     given="velocity",
    ...     bins=4,
    ...     progress=False,
    ... )
    >>> card.share.sel(subject="random smooth fields", mark="tuned").item()
    1.0
    >>> card.share_reason.sel(subject="network", mark="remaps").item()
    'recorded in one environment'
    """
    how = Settings(
        axis_names(by), bins, smooth, min_occupancy, given, names_of(decoders), n_shuffles, seed
    )
    subject = checked(network)
    check_score(subject, score)
    twin = twin_of(subject, untrained, seed)
    asked = {"layers": layers, "inputs": inputs, "forward": forward, "seed": seed, **options}

    def recorded(run: nn.Module | xr.Dataset) -> xr.Dataset:
        if isinstance(run, xr.Dataset):
            return run
        return record(run, behaviour, progress=False, **asked)

    first, how = with_input(recorded(subject), how, inputs, behaviour)
    if how.given is not None and isinstance(twin, xr.Dataset):
        check_same_walks(first, twin, how.by)
    lesions = (score, {"repeats": repeats, **(lesion_options or {})})
    cards = []
    for name in tqdm(SUBJECTS, desc="score card", unit="subject", disable=not progress):
        run, recording = (subject, first) if name == NETWORK else (None, None)
        if name == UNTRAINED and twin is not None:
            run, recording = twin, with_input_of(first, recorded(twin), how)
        elif name == FIELDS:
            recording = random_fields(first, by=how.by, width=field_width, seed=seed)
        cards.append(card_of(recording, first, run, how, *lesions))
    card = xr.concat(cards, xr.Variable("subject", list(SUBJECTS)), join="exact")
    return labelled(card, first, how, field_width, repeats, seed)


def checked(network: object) -> nn.Module | xr.Dataset:
    """Return the network without wrappers, or the Recording."""
    if isinstance(network, nn.Module):
        return original(network)
    if isinstance(network, xr.Dataset):
        schema.check_recording(network)
        return network if "layer" in network.variables else one_layer(network)
    raise TypeError(
        f"network must be a torch.nn.Module or a Recording, got {type(network).__name__}; load one "
        "by name with placeformer.load"
    )


def one_layer(recording: xr.Dataset) -> xr.Dataset:
    """Put the units of a recording without layers into a single layer."""
    return recording.assign_coords(layer=(schema.UNIT, ["units"] * recording.sizes[schema.UNIT]))


def names_of(decoders: str | Sequence[str]) -> tuple[str, ...]:
    """Names of the decoders, at least one."""
    names = (decoders,) if isinstance(decoders, str) else tuple(decoders)
    if not names:
        raise ValueError("decoders must name at least one method of decode_position, got none")
    for name in names:
        check_option("decoders", name, ("ridge", "knn", "bayes"))
    return names


def twin_of(network: Any, untrained: Any, seed: int) -> nn.Module | xr.Dataset | None:
    """The untrained twin; None for a Recording without a twin."""
    if isinstance(network, nn.Module):
        return untrained_twin(network, untrained, seed)
    if untrained is not None and not isinstance(untrained, xr.Dataset):
        raise TypeError(
            "untrained must be a Recording for a Recording, got " + type(untrained).__name__
        )
    return None if untrained is None else checked(untrained)


def check_score(network: Any, score: Any) -> None:
    """Refuse a score that is undefined for the network."""
    if score is None:
        return
    if not isinstance(network, nn.Module):
        raise ValueError("score must be None for a Recording, which has no network to lesion")
    if isinstance(score, str):
        if not isinstance(network, NavigationTransformer) or score not in MEMORIES:
            raise ValueError(
                f"score must be a function of the lesioned network, got {score!r}; only a "
                f"navigation Transformer has the scores {', '.join(MEMORIES)}"
            )
    elif not callable(score):
        raise TypeError(f"score must be a function, got {type(score).__name__}")
    else:
        trials("score", score, network, [])  # fail before anything is measured


def with_input(
    recording: xr.Dataset,
    how: Settings,
    inputs: Mapping[str, Any] | None,
    behaviour: xr.Dataset | Mapping[str, Any] | None,
) -> tuple[xr.Dataset, Settings]:
    """Add the classes of the input to the recording, and name them in the settings."""
    name = how.given
    if name is None:
        found = OBSERVATION if OBSERVATION in recording.variables else None
        return recording, how._replace(given=found)
    if name == OBSERVATION and name in recording.variables:
        return recording, how
    for source in (inputs, behaviour, recording):
        if source is not None and name in source:
            values = source[name]
            if isinstance(values, xr.DataArray):
                values = values.transpose(*schema.STEP_DIMS, ..., missing_dims="ignore")
            classes = input_classes(name, np.asarray(values), recording)
            label = "input_class"
            about = variable((schema.WALK, schema.TIME), classes, f"class of the input {name}")
            return recording.assign_coords({label: about}), how._replace(given=label)
    known = {*(inputs or {}), *(behaviour if behaviour is not None else {}), *recording.variables}
    raise ValueError(
        f"given must name an input, a variable of the behaviour or of the recording "
        f"({', '.join(sorted(map(str, known)))}), got {name!r}"
    )


def check_same_walks(first: xr.Dataset, recording: xr.Dataset, by: Sequence[str]) -> None:
    """Refuse a recording of an untrained twin along other walks."""
    for axis in (*by, *({schema.MAP} & set(first.variables) & set(recording.variables))):
        here, there = (
            data[axis].transpose(*schema.STEP_DIMS, missing_dims="ignore").values
            for data in (first, recording)
        )
        numbers = here.dtype.kind in "fc" and there.dtype.kind in "fc"
        if not np.array_equal(here, there, equal_nan=numbers):
            raise ValueError(
                f"untrained must be along the walks of the recording, whose input it is tested "
                f"against, got another {axis!r}; record both along the same walks, or compute a "
                "card of each"
            )


def with_input_of(first: xr.Dataset, recording: xr.Dataset, how: Settings) -> xr.Dataset:
    """Add the input of one recording to another, which must be along the same walks."""
    if how.given is None:
        return recording
    return recording.assign_coords({how.given: first[how.given].variable})


def input_classes(name: str, values: NDArray[Any], recording: xr.Dataset) -> NDArray[np.int64]:
    """Number of the class (walk, time) of an input (walk, time, ...) at every step."""
    n_walks, n_steps = recording.sizes[schema.WALK], recording.sizes[schema.TIME]
    if values.ndim == 1 or (values.ndim == 2 and n_walks == 1 and len(values) != 1):
        values = values[None]
    if values.ndim < 2 or values.shape[0] != n_walks or values.shape[1] < n_steps:
        raise ValueError(
            f"given={name!r} must have values (walk, time) for {n_walks} walks of {n_steps} steps, "
            f"got shape {values.shape}"
        )
    rows = values[:, -n_steps:].reshape(n_walks * n_steps, -1)
    levels = max(2, min(MOST_LEVELS, int(CLASSES ** (1 / rows.shape[1]) + 1e-9)))
    codes = np.zeros(len(rows), np.int64)
    for column in rows.T:
        distinct, code = np.unique(column, return_inverse=True)
        if distinct.dtype.kind == "f" and distinct.size > MOST_CLASSES // 8:
            edges = np.nanquantile(column, np.arange(1, levels) / levels)
            code = np.searchsorted(edges, column, side="right")
        _, codes = np.unique(codes * (code.max() + 1) + code, return_inverse=True)
    if codes.max() >= MOST_CLASSES:
        raise ValueError(
            f"given={name!r} has {codes.max() + 1} classes of values ({rows.shape[1]} components), "
            f"more than {MOST_CLASSES}, too many to separate place from it; name one with fewer"
        )
    return codes.reshape(n_walks, n_steps)


def card_of(
    recording: xr.Dataset | None,
    first: xr.Dataset,
    run: Any,
    how: Settings,
    score: Score | None,
    lesion_options: Mapping[str, Any],
) -> xr.Dataset:
    """All numbers of one subject, (layer, ...)."""
    layers = list(dict.fromkeys(first["layer"].values.tolist()))
    if recording is None:
        return missing_card(layers, how, "a Recording has no untrained twin")
    found = set(recording["layer"].values.tolist())
    if absent := [layer for layer in layers if layer not in found]:
        raise ValueError(
            f"untrained must have the layers of the network, but lacks {', '.join(absent)}"
        )
    shares, table = marks_of(recording, layers, how)
    decoder = xr.Variable("decoder", list(how.decoders))
    decoded = []
    for layer in layers:
        units = of_layer(recording, layer)
        decoded.append(xr.concat([decoding_of(units, name, how) for name in how.decoders], decoder))
    parts = [shares, xr.concat(decoded, xr.Variable("layer", layers))]
    lesions = []
    for layer in layers:
        cells = of_layer(table, layer)
        if score is None:
            lesions.append(no_lesion("no score was given"))
        elif not isinstance(run, nn.Module):
            lesions.append(no_lesion("no network reads these units"))
        else:
            part = of_layer(recording, layer)
            lesions.append(lesion_of(run, layer, cells, part, how, score, lesion_options))
    parts.append(xr.concat(lesions, xr.Variable("layer", layers)))
    return xr.merge(parts, combine_attrs="drop")


def of_layer(data: xr.Dataset, layer: str) -> xr.Dataset:
    """Units of one layer."""
    return data.isel(unit=(data["layer"] == layer).values)


def map_names(recording: xr.Dataset) -> list[Any]:
    """Names of the maps; a single None if the recording has no maps."""
    if schema.MAP not in recording.variables:
        return [None]
    return np.unique(recording[schema.MAP].values).tolist()


def marks_of(
    recording: xr.Dataset, layers: Sequence[str], how: Settings
) -> tuple[xr.Dataset, xr.Dataset]:
    """Shares (layer, mark), and the table of place cells (unit,) for the lesions."""
    several = len(map_names(recording)) > 1
    tested = recording
    if how.given != OBSERVATION and OBSERVATION in recording.variables:
        tested = recording.drop_vars(OBSERVATION)
    table = place_cells(
        tested, per_map=several, cell_types=False, min_reliability=MIN_RELIABILITY,
        **how.of_maps(), **how.of_tests(),
    )  # fmt: skip
    beyond = table["q_beyond"]
    if how.given not in (None, OBSERVATION):
        test = shuffle_test(
            recording, given=how.given, per_map=several, by=how.by, bins=how.bins, **how.of_tests()
        )
        beyond = test["q"]
    is_beyond = beyond <= MAX_Q if how.given is not None else None
    tuned = table["q_place"] <= MAX_Q
    stable = tuned & (table["reliability"] >= MIN_RELIABILITY)
    cells = table["is_place_cell"] if is_beyond is None else table["is_place_cell"] & is_beyond
    flags: dict[str, xr.DataArray | str] = {
        "tuned": tuned,
        "beyond input": "no input was given" if is_beyond is None else is_beyond,
        "field": tuned & (table["n_fields"] >= 1),
        "stable": stable,
        PLACE_CELL: cells,
        "remaps": "recorded in one environment",
    }
    if several:
        counted = stable if is_beyond is None else stable & is_beyond
        flags["remaps"] = remapping_of(recording, counted, layers, how)
    rows = [[share_of(flag, table, layer) for flag in flags.values()] for layer in layers]
    shares = xr.concat(
        [xr.concat(row, xr.Variable("mark", list(flags))) for row in rows],
        xr.Variable("layer", list(layers)),
    )
    chosen = cells.any(schema.MAP) if several else cells
    return shares, chosen.rename("is_place_cell").to_dataset()


def share_of(flag: xr.DataArray | str, table: xr.Dataset, layer: str) -> xr.Dataset:
    """Fraction of the units of a layer with a flag (..., unit), its interval, n and reason."""
    here = (table["layer"] == layer).values
    reason = flag if isinstance(flag, str) else ""
    value, bounds, n = np.nan, np.full(2, np.nan), 0
    if not isinstance(flag, str):
        flags = flag.transpose(..., schema.UNIT).values.reshape(-1, here.size)[:, here]
        known = np.isfinite(flags.astype(float))
        n = int(known.any(axis=0).sum())
        if n:
            count = np.where(known, flags, 0).sum(axis=0)
            value = float(count.sum() / known.sum())
            bounds = error_interval(count, known.sum(axis=0))
        else:
            reason = f"fewer than {MIN_UNITS} units that vary"
    return xr.Dataset(
        {
            "share": value,
            "share_interval": ("bound", bounds),
            "share_n": n,
            "share_reason": reason,
        }
    )


def remapping_of(
    recording: xr.Dataset, counted: xr.DataArray, layers: Sequence[str], how: Settings
) -> xr.DataArray:
    """Whether every unit remaps, 0 or 1 (pair, unit); NaN in layers with too few units."""
    maps = rate_maps(recording, per_map=True, **how.of_maps())
    layer = recording["layer"].values
    pairs = []
    for a, b in combinations(range(maps.sizes[schema.MAP]), 2):
        values = np.full(layer.size, np.nan)
        for name in layers:
            here = np.flatnonzero(layer == name)
            of_two = [maps.isel({schema.MAP: i, schema.UNIT: here}) for i in (a, b)]
            if here.size < MIN_UNITS:
                continue
            both = counted.isel({schema.MAP: a}) & counted.isel({schema.MAP: b})
            flags = both.values[here]
            if flags.any():
                if n_varying(*of_two) < MIN_UNITS:
                    continue
                p = remapping(*of_two, n_shuffles=2, seed=how.seed)["p"].values
                flags = flags & (p > MAX_Q)
            values[here] = flags
        pairs.append(values)
    return xr.DataArray(np.stack(pairs), dims=("pair", schema.UNIT))


def decoding_of(recording: xr.Dataset, decoder: str, how: Settings) -> xr.Dataset:
    """Decoding error of a layer, decoded per map, with its interval over walks and chance."""
    walks, blind, p = [], [], []
    for name in map_names(recording):
        part = recording
        if name is not None:
            part = recording.isel({schema.WALK: (recording[schema.MAP] == name).values})
        n_walks = part.sizes[schema.WALK]
        found = decode_position(
            part, method=decoder, by=how.by, bins=how.bins, seed=how.seed, n_resamples=2,
            blocks=10 if n_walks == 1 else None, n_shuffles=DECODING_SHUFFLES, progress=False,
        )  # fmt: skip
        walks.append(found["error"].mean(schema.TIME).values)
        blind.append(np.nanmean(distance_from_mean(part, how.by), axis=1))
        p.append(float(found["p"]))
    errors = np.concatenate(walks)
    estimate = over_seeds(errors)
    units = str(recording[how.by[0]].attrs.get("units", "1"))
    return xr.Dataset(
        {
            "decoded_error": variable((), estimate.value, "mean decoding error", units=units),
            "decoded_interval": ("bound", [estimate.lower, estimate.upper]),
            "decoded_n": int(np.isfinite(errors).sum()),
            "chance_error": float(np.nanmean(np.concatenate(blind))),
            "decoded_p": float(np.max(p)),
            "decoded_reason": "",
        }
    )


def lesion_of(
    network: nn.Module,
    layer: str,
    table: xr.Dataset,
    recording: xr.Dataset,
    how: Settings,
    score: Score,
    lesion_options: Mapping[str, Any],
) -> xr.Dataset:
    """Cost of a lesion of the place cells of a layer, beyond that of control units."""
    cells = table["is_place_cell"]
    n, n_units = int(cells.sum()), cells.size
    if n in (0, n_units):
        which = "no unit is a place cell" if n == 0 else "every unit is a place cell"
        return no_lesion(which, n)
    options: dict[str, Any] = {"layers": "*", "reference": recording, "bins": how.bins}
    if isinstance(network, NavigationTransformer):
        maps = [int(name) for name in map_names(recording) if name is not None]
        options = {"layers": layer, "maps": maps or None}
    curve = ablation_curve(
        network, cells.drop_vars(schema.MAP, errors="ignore"), controls=("stratified",),
        scores=None if isinstance(score, str) else score, progress=False,
        **{"seed": how.seed, **options, **lesion_options},
    )  # fmt: skip
    curve = curve.isel(fraction=[0, -1]).sel(control="stratified")
    if float(curve["overlap"].isel(fraction=-1).sel(selection="stratified").mean()) > MOST_OVERLAP:
        return no_lesion("no other units of the layer are similar to the place cells", n)
    if isinstance(score, str):
        curve, prefix = curve.sel(maps="trained", memory=score), ""
        value = curve["error"]
    else:
        curve, prefix = curve.isel(measure=0), "score_"
        value = curve["score"]
    means = value.mean("repeat")
    last = curve.isel(fraction=-1)
    return xr.Dataset(
        {
            "lesion_score": (
                "lesion",
                [
                    float(means.isel(fraction=0).sel(selection="ordered")),
                    *(float(means.isel(fraction=-1).sel(selection=s))
                      for s in ("ordered", "stratified")),
                ],
            ),
            "lesion_cost": float(last[f"{prefix}difference"]),
            "lesion_interval": ("bound", last[f"{prefix}difference_interval"].values),
            "lesion_p": float(last[f"{prefix}p_sets"]),
            "lesion_n": n,
            "lesion_reason": "",
        }
    )  # fmt: skip


def no_lesion(reason: str, n: int = 0) -> xr.Dataset:
    """The part on lesions if there is none, with the reason."""
    return xr.Dataset(
        {
            "lesion_score": ("lesion", np.full(len(LESIONS), np.nan)),
            "lesion_cost": np.nan,
            "lesion_interval": ("bound", np.full(2, np.nan)),
            "lesion_p": np.nan,
            "lesion_n": n,
            "lesion_reason": reason,
        }
    )


def missing_card(layers: Sequence[str], how: Settings, reason: str) -> xr.Dataset:
    """The card of a subject that does not exist."""
    mark, layer = xr.Variable("mark", list(MARKS)), xr.Variable("layer", list(layers))
    nothing = xr.Dataset(
        {
            "share": np.nan,
            "share_interval": ("bound", np.full(2, np.nan)),
            "share_n": 0,
            "share_reason": reason,
        }
    )
    decoded = xr.Dataset(
        {
            "decoded_error": np.nan,
            "decoded_interval": ("bound", np.full(2, np.nan)),
            "decoded_n": 0,
            "chance_error": np.nan,
            "decoded_p": np.nan,
            "decoded_reason": reason,
        }
    )
    shares = xr.concat([nothing] * len(MARKS), mark)
    decoder = xr.Variable("decoder", list(how.decoders))
    errors = xr.concat([decoded] * len(how.decoders), decoder)
    one = xr.merge([shares, errors, no_lesion(reason)])
    return xr.concat([one] * len(layers), layer)


def labelled(
    card: xr.Dataset,
    recording: xr.Dataset,
    how: Settings,
    field_width: float,
    repeats: int,
    seed: int,
) -> xr.Dataset:
    """Add names, units and settings to a card."""
    position = str(recording[how.by[0]].attrs.get("units", "1"))
    about = {
        "share": ("1", "share of the units of the layer"),
        "share_interval": ("1", "95 % Wilson interval of the share over units"),
        "share_n": ("1", "units counted"),
        "share_reason": ("1", "why the share is not known"),
        "decoded_error": (position, "mean distance of decoded from true position"),
        "decoded_interval": (position, "95 % interval of the mean error over walks"),
        "decoded_n": ("1", "walks decoded"),
        "chance_error": (position, "mean distance from the mean position"),
        "decoded_p": ("1", "p of the decoding error, largest over maps"),
        "decoded_reason": ("1", "why the decoding error is not known"),
        "lesion_score": ("1", "score under the lesion, larger is worse"),
        "lesion_cost": ("1", "score with place cells lesioned minus with control units lesioned"),
        "lesion_interval": ("1", "95 % bootstrap interval of the cost over trials and sets"),
        "lesion_p": ("1", "exact p of the cost over sets of control units"),
        "lesion_n": ("1", "place cells lesioned"),
        "lesion_reason": ("1", "why the cost of the lesion is not known"),
    }
    layers = card["layer"].values
    counts = [int((recording["layer"] == layer).sum()) for layer in layers]
    for name in ("chance_error", "decoded_n", "decoded_reason"):
        card[name] = card[name].isel(decoder=0)  # the same for every decoder
    order = ["subject", "layer", "mark", "decoder", "lesion", "bound"]
    card = card[list(about)].transpose(*order, missing_dims="ignore").drop_attrs()
    for name, (units, text) in about.items():
        card[name].attrs = {"units": units, "long_name": text}
    card = card.assign(n_units=variable("layer", counts, "units of the layer")).assign_coords(
        lesion=list(LESIONS), bound=["lower", "upper"],
        criterion=variable("mark", list(MARKS.values()), "what counts for the share"),
    )  # fmt: skip
    classes = str(recording[how.given].attrs.get("long_name", "")) if how.given else ""
    settings: dict[str, Any] = {
        "given": "" if how.given is None else how.given,
        "given_is": classes,
        "maps_recorded": " ".join(str(m) for m in map_names(recording) if m is not None),
        "n_walks": recording.sizes[schema.WALK],
        "n_steps": recording.sizes[schema.TIME],
        "n_shuffles": str(how.n_shuffles),
        "field_width": field_width,
        "repeats": repeats,
        "max_q": MAX_Q,
        "min_reliability": MIN_RELIABILITY,
        "seed": seed,
    }
    card.attrs = {
        **settings,
        schema.PROVENANCE: schema.provenance(recording, "score_card", **settings),
    }
    return card
