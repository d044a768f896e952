"""Patching: activations recorded on one map are put into walks on another one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.ablation_plan import (
    EXACT,
    check_controls,
    draw_plan,
    layer_names,
    recorded_units,
)
from placeformer.interventions.batched_lesions import branching, group_size, predicted_letters
from placeformer.interventions.changes import Change, Dosed
from placeformer.interventions.control_units import DECISION
from placeformer.interventions.lesions import lesioned, warn_of_other_network
from placeformer.interventions.replacement import Reference, check_units, find_recording, recordings
from placeformer.interventions.units import CONTENT, Site, chosen_units, layer_widths, sites
from placeformer.models.memory import (
    CURRENT_WALK,
    MEMORIES,
    attended_window,
    places,
    predictions,
    untouched,
    visited,
    world_of,
)
from placeformer.models.ownership import in_use
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.navigation import facts
from placeformer.recording.network_state import dataset_sha256, original
from placeformer.stats.bootstrap import ratio
from placeformer.stats.intervals import LEVEL, error_interval

Bools = NDArray[np.bool_]
Masks = dict[str, Bools]

LETTERS = ("A", "B", "neither")
NONE, ALL, CHOSEN = "none", "all", "chosen"


@dataclass(frozen=True)
class Recorded:
    """The activations of a Recording at the same walk and step; others remain as they are.

    Attributes
    ----------
    table : (walk, time, unit)
        The activations, by the index of the unit in its layer.
    walks, times
        Labels of the walks and steps.
    units
        Indices of the units that were recorded.
    """

    table: Tensor
    walks: pd.Index
    times: pd.Index
    units: NDArray[np.int64]

    reads = True

    @classmethod
    def of(cls, recording: xr.Dataset) -> Recorded:
        """Take the units of one layer."""
        index = recording["index"].values
        values = recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).values
        table = np.zeros((*values.shape[:2], int(index.max()) + 1), np.float32)
        table[..., index] = values
        labels = recording.get_index(schema.WALK), recording.get_index(schema.TIME)
        return cls(torch.from_numpy(table), *labels, index)

    def __call__(
        self, values: Tensor, shape: tuple[int, int], width: int, begin: int | None = None
    ) -> Tensor:
        """Return the recorded values of the present walks and steps."""
        part = CURRENT_WALK.get()
        assert part is not None
        walk = self.walks.get_indexer(part[schema.WALK].values)
        time = self.times.get_indexer(part[schema.TIME].values[-shape[1] :])
        known = torch.from_numpy((walk >= 0)[:, None] & (time >= 0)).to(values.device)
        table = F.pad(self.table, (0, width - self.table.shape[2]))
        here = table[torch.from_numpy(walk)][:, torch.from_numpy(time)].to(values)
        return torch.where(known[..., None], here, values)

    def check(self, layer: str, numbers: NDArray[np.int64] | None) -> None:
        """Refuse units that were not recorded."""
        check_units(self.units, layer, numbers)

    def describe(self) -> dict[str, Any]:
        """Say that the units are patched."""
        return {"how": "patch"}


def patch(
    model: nn.Module,
    source: Reference,
    units: Any = None,
    *,
    onto: ArrayLike | None = None,
    walks: xr.Dataset | None = None,
    controls: Sequence[str] = EXACT,
    repeats: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Put activations recorded on map B into the same walks on map A, and count the letters of B.

    The network runs along the walks of the Recording, with the same places and actions, but with
    the letters of another map. At every recorded step, the chosen units take the activations that
    they had on map B. If these units carry what the network knows of its map, it then predicts the
    letters of B.

    Parameters
    ----------
    model
        A navigation Transformer with a world.
    source
        Recording of the network on map B (:func:`record`, with any layers of either stream, such as
        ``layers=["ffn.*", "residual.*"]``), or several, one for each stream. Only the stream that
        was recorded is patched.
    units
        What is patched. None: every recorded layer alone, and all of them. Names of layers: these
        alone, and together. Or units, as in :func:`ablate` (a table of :func:`place_cells` chooses
        its place cells): they are patched together, and for comparison equally many units of each
        control, and all units of their layers.
    onto
        Map A: index of a trained map, or one for every walk. By default the trained map after that
        of the walk.
    walks
        The walks of the Recording, if it was made along walks of the caller.
    controls, repeats
        For units: the control sets, as in :func:`ablation_curve`, and the number of draws of each.
        Controls are drawn from feed-forward units; pass ``controls=[]`` for other units.
    seed
        Random seed of the controls.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dims ``patched`` ("none", the layers or "chosen" and the controls, "all"), ``memory``
        (working: the place is within the attended window; reference), ``letter`` (A, B, neither),
        ``repeat``:

        - `share` (patched, memory, letter): fraction of the predictions that are the letter of map
          A, of map B, or neither, 0 to 1, at recorded steps where both maps differ; mean over the
          sets of a control. `interval` (…, bound): 95 % over walks, as in :func:`memory_errors`,
          with the variance between sets added. NaN without such steps;
        - `share_of_set` (patched, repeat, memory, letter): the same for every set;
        - `n` (memory): number of these predictions; `n_units` (patched): number of units;
        - with units and controls, `p_sets` (control, memory): (1 + k) / (1 + repeats), where k is
          the number of control sets with at least as many letters of B as the chosen units; exact,
          as in :func:`ablation_curve`; NaN for matched controls.

    Raises
    ------
    ValueError
        Another network than a navigation Transformer, walks that cannot be drawn again, maps that
        do not exist or are those of the Recording, or units that it does not hold.

    Warns
    -----
    UserWarning
        The Recording is of another network.

    See Also
    --------
    perturb : Other perturbations of the units.
    ablate : Lesion units with "resample", which keeps no information about a map.
    record : Make the Recording.

    Notes
    -----
    Two identities hold: "none" gives the predictions of an intact network on map A, and all units
    of ``residual.N`` of the last layer, from which the letters are read out, those of the network
    on map B. The feed-forward units of a layer are not all that it passes on: the residual stream
    also holds what attention has read from the letters of map A.

    References
    ----------
    Vig, J. et al. (2020). Investigating gender bias in language models using causal mediation
    analysis. NeurIPS 33, 12388-12401. (It has no DOI.)

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> on_b = pf.record(
    ...     model, layers=["ffn.1", "residual.1"], maps=[1], n_walks=4, n_steps=64, progress=False
    ... )
    >>> result = pf.patch(model, on_b, onto=0, progress=False)
    >>> result.patched.values.tolist()
    ['none', 'ffn.1', 'residual.1', 'all']
    >>> b = result.share.sel(memory="reference", letter="B")
    >>> bool(b.sel(patched="residual.1") > b.sel(patched="none"))
    True
    """
    network = original(model)
    if not isinstance(network, NavigationTransformer):
        raise ValueError(
            "model must be a navigation Transformer, whose letters on two maps can be compared, "
            f"got {type(network).__name__}; perturb(model, units, function) puts any values into "
            "units"
        )
    given = recordings(source)
    if not given:
        raise ValueError("source must be a Recording of the network on map B, got none")
    warn_of_other_network(network, given)
    walk_b, path_seed = source_walks(network, given, walks)
    walk_a = on_other_map(network, walk_b, onto)
    plan = planned(network, given, units, controls, repeats, seed)
    letters = np.empty((len(plan), *walk_a["action"].shape), np.uint8)
    with tqdm(total=len(plan), desc="patches", unit="set", disable=not progress) as bar:
        together = [i for i, (_, masks) in enumerate(plan) if only_feed_forward(masks)]
        for i, (_, masks) in enumerate(plan):
            if i not in together:
                letters[i] = one_patch(network, walk_a, masks, given, path_seed)
                bar.update()
        if together:
            some = [plan[i][1] for i in together]
            letters[together] = batched(network, walk_a, some, given, path_seed, bar)
    result = answers(network, letters, walk_a, walk_b, given, plan, controls)
    settings: dict[str, Any] = {"seed": seed, "repeats": repeats, "path_seed": path_seed}
    about = schema.provenance(given[0], "patch", network=facts(network), **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def source_walks(
    model: NavigationTransformer, source: Sequence[xr.Dataset], walks: xr.Dataset | None
) -> tuple[xr.Dataset, int]:
    """Walks of a Recording, drawn again if they were drawn by it, and the seed of e₀."""
    first = source[0]
    steps = schema.read_provenance(first).get("steps", [])
    about = next((s for s in steps if isinstance(s, Mapping) and "walks_sha256" in s), None)
    if about is None:
        raise ValueError(
            "source must be a Recording of the navigation Transformer by placeformer.record, whose "
            "provenance names its walks, got another Dataset"
        )
    if walks is None:
        drawn, world = about["walks"], world_of(model)
        last = int(first[schema.TIME][-1]) + 1
        if not {"walk_seed", "familiar", "maps"} <= set(drawn):
            raise ValueError("walks must be given, since those of source are not of GridWorld.walk")
        maps = [int(i) for i in str(drawn["maps"]).split()]
        n_walks = int(first[schema.WALK].max()) + 1
        walks = world.walk(
            n_walks,
            last,
            seed=int(drawn["walk_seed"]),
            familiar=bool(drawn["familiar"]),
            maps=maps,
            walls=json.loads(drawn.get(schema.WALLS, "[]")),
        )
    if dataset_sha256(walks) != about["walks_sha256"]:
        raise ValueError(
            "walks must be those that source was recorded along, which cannot be drawn again: they "
            "are of another world, or source lacks its last walks or steps; pass walks=, the "
            "Dataset of GridWorld.walk that was recorded"
        )
    return walks, int(about["path_seed"])


def on_other_map(
    model: NavigationTransformer, walk: xr.Dataset, onto: ArrayLike | None
) -> xr.Dataset:
    """Return the same walks with the letters of another trained map."""
    world, here = world_of(model), walk["map"].values
    maps = (here + 1) % world.n_maps if onto is None else np.asarray(onto)
    if maps.ndim > 1 or (maps.ndim and maps.shape != here.shape) or maps.dtype.kind not in "iu":
        raise ValueError(
            f"onto must be the index of a trained map, or one for each of the {here.size} walks, "
            f"got {onto!r:.80}"
        )
    maps = np.broadcast_to(maps, here.shape)
    same = bool(walk["familiar"].values.all()) & (maps == here).any()
    if maps.min() < 0 or maps.max() >= world.n_maps or same:
        raise ValueError(
            f"onto must be in 0–{world.n_maps - 1} and differ from the map of source in every "
            f"walk, got {sorted(set(maps.tolist()))} for the maps {sorted(set(here.tolist()))}"
        )
    seen = world.letters()[maps[:, None], places(walk)]
    steps = (schema.WALK, schema.TIME)
    letters = {"observation": (steps, seen[:, :-1]), "target": (steps, seen[:, 1:])}
    familiar = np.ones(maps.shape, bool)
    return walk.assign(letters).assign_coords(
        map=(schema.WALK, maps), familiar=(schema.WALK, familiar)
    )


def planned(
    model: NavigationTransformer,
    source: Sequence[xr.Dataset],
    units: Any,
    controls: Sequence[str],
    repeats: int,
    seed: int,
) -> list[tuple[str, Masks]]:
    """Sets of units that are patched, by name: masks (unit,) of the layers."""
    widths = layer_widths(model, None)
    recorded = {
        str(name).removeprefix(CONTENT): find_recording(source, str(name))
        for part in source for name in dict.fromkeys(part["layer"].values)
    }  # fmt: skip
    whole = {}
    for name, part in recorded.items():
        assert part is not None
        whole[name] = np.zeros(widths[name] or 0, bool)
        whole[name][part["index"].values] = True
    names = [units] if isinstance(units, str) else units
    if names is None:
        names = list(whole)
    if isinstance(names, Sequence) and all(isinstance(n, str) and n in widths for n in names):
        if absent := [name for name in names if name not in whole]:
            raise ValueError(
                f"units must be of the layers that source holds, {', '.join(whole)}, got "
                f"{absent[0]!r}"
            )
        alone: list[tuple[str, Masks]] = [(name, {name: whole[name]}) for name in names]
        joint = [(ALL, {name: whole[name] for name in names})] if len(names) > 1 else []
        return [(NONE, {}), *alone, *joint]
    if isinstance(units, xr.Dataset) and DECISION in units:
        units = units[DECISION]
    chosen = chosen_units(units, widths)
    for layer, numbers in chosen.items():
        part = recorded.get(layer)
        check_units(np.empty(0, int) if part is None else part["index"].values, layer, numbers)
    if not chosen:
        raise ValueError("units must choose at least one unit, got none")
    masks = {layer: np.isin(np.arange(widths[layer] or 0), n) for layer, n in chosen.items()}
    sets = [(NONE, {}), (CHOSEN, masks)]
    if controls:
        sets += drawn_controls(model, source, masks, controls, repeats, seed)
    return [*sets, (ALL, {layer: whole[layer] for layer in masks})]


def drawn_controls(
    model: NavigationTransformer,
    source: Sequence[xr.Dataset],
    masks: Masks,
    controls: Sequence[str],
    repeats: int,
    seed: int,
) -> list[tuple[str, Masks]]:
    """Control sets of as many units of the same layers, drawn as for an ablation curve."""
    check_controls(controls, repeats, seed)
    table = recorded_units(layer_names(model, list(masks), source), source)
    layer, index = table["layer"].values, table["index"].values
    order = np.array([masks[str(n)][i] for n, i in zip(layer, index, strict=True)])
    plan = draw_plan(
        model, table, order, None, keep=False, negatives="rectify", controls=controls,
        caliper=0.25, repeats=repeats, seed=seed,
    )  # fmt: skip
    sets = []
    for control in controls:
        at = plan["lesion_of_set"].sel(selection=control).isel(fraction=-1).values
        for lesion in plan["lesioned"].values[at]:
            one = {name: np.zeros_like(mask) for name, mask in masks.items()}
            for name in one:
                one[name][index[(layer == name) & lesion]] = True
            sets.append((control, one))
    return sets


def patches(
    model: NavigationTransformer, source: Sequence[xr.Dataset], layers: Sequence[str]
) -> list[tuple[Site, Change]]:
    """Sites of the layers with their recorded activations; a stream without any is left intact."""
    fill: list[tuple[Site, Change]] = []
    for site in (site for layer in layers for site in sites(model, layer)):
        part = find_recording(source, site.name)
        intact = Dosed("gain", torch.tensor(1.0))
        fill.append((site, intact if part is None else Recorded.of(part)))
    return fill


def only_feed_forward(masks: Masks) -> bool:
    """Whether a set can run together with others, which branch at a feed-forward layer."""
    return bool(masks) and all(layer.startswith("ffn.") for layer in masks)


def one_patch(
    model: NavigationTransformer,
    walk: xr.Dataset,
    masks: Masks,
    source: Sequence[xr.Dataset],
    seed: int,
) -> NDArray[np.uint8]:
    """Letters (walk, time) that are predicted while one set is patched."""
    fill = patches(model, source, list(masks))
    units = {layer: np.flatnonzero(mask) for layer, mask in masks.items()}
    fill = [(site, change) for site, change in fill if isinstance(change, Recorded)]
    with lesioned(model, units, fill):
        return predictions(model, walk, seed=seed)


def batched(
    model: NavigationTransformer,
    walk: xr.Dataset,
    sets: Sequence[Masks],
    source: Sequence[xr.Dataset],
    seed: int,
    bar: tqdm,
) -> NDArray[np.uint8]:
    """Letters (set, walk, time) for sets of feed-forward units, see :mod:`.batched_lesions`."""
    widths = layer_widths(model, None)
    layers = sorted({layer for masks in sets for layer in masks})
    none = {layer: np.zeros(widths[layer] or 0, bool) for layer in layers}
    masks = {layer: np.stack([(none | one)[layer] for one in sets]) for layer in layers}
    fill = patches(model, source, layers)
    letters = np.empty((len(sets), *walk["action"].shape), np.uint8)
    size = group_size(model, masks, "every_step")
    with in_use(model), untouched(model):
        for first in range(0, len(sets), size):
            group = slice(first, min(first + size, len(sets)))
            part = {layer: torch.from_numpy(mask[group]) for layer, mask in masks.items()}
            with branching(model, part, fill) as start:
                for w, t, found in predicted_letters(model, walk, seed, start):
                    letters[group, w, t] = found
            bar.update(group.stop - group.start)
    return letters


def answers(
    model: NavigationTransformer,
    letters: NDArray[np.uint8],
    walk_a: xr.Dataset,
    walk_b: xr.Dataset,
    source: Sequence[xr.Dataset],
    plan: Sequence[tuple[str, Masks]],
    controls: Sequence[str],
) -> xr.Dataset:
    """Count whose letters were predicted, and compare the chosen units with their controls."""
    config, n_steps = model.config, walk_a.sizes[schema.TIME]
    a, b = walk_a["target"].values, walk_b["target"].values
    seen = visited(places(walk_a), attended_window(n_steps, config.chunk, config.memory))
    recorded = [np.isin(walk_a[d].values, source[0][d].values) for d in (schema.WALK, schema.TIME)]
    counted = (a != b) & recorded[0][:, None] & recorded[1]
    memory = np.stack([counted & seen, counted & ~seen])  # (memory, walk, time)
    n = memory.sum(-1)
    is_a, is_b = letters == a, letters == b
    kinds = np.stack([is_a, is_b, ~is_a & ~is_b], 1)  # (set, letter, walk, time)
    counts = np.einsum("slwt,mwt->smlw", kinds.astype(np.float32), memory.astype(np.float32))
    names = list(dict.fromkeys(name for name, _ in plan))
    longest = max(sum(name == other for other, _ in plan) for name in names)
    dims = ("patched", "memory", "letter")
    shape = (len(names), len(MEMORIES), len(LETTERS))
    of_set = np.full((len(names), longest, *shape[1:]), np.nan)
    share, interval = np.full(shape, np.nan), np.full((*shape, 2), np.nan)
    for i, name in enumerate(names):
        own = counts[[j for j, (other, _) in enumerate(plan) if other == name]]
        of_set[i, : len(own)] = ratio(own, n[:, None])
        share[i] = ratio(own.mean(0), n[:, None])
        spread = of_set[i, : len(own)].var(0, ddof=1) if len(own) > 1 else 0.0
        interval[i] = error_interval(own.mean(0), n[:, None], of_sets=spread)
    size = {name: sum(int(mask.sum()) for mask in masks.values()) for name, masks in plan}
    about = "fraction of predictions that are the letter of A, of B or neither"
    data = {
        "share": variable(dims, share, about),
        "interval": variable((*dims, "bound"), interval, "95 % over walks", level=LEVEL),
        "share_of_set": variable(("patched", "repeat", *dims[1:]), of_set, about),
        "n": variable("memory", n.sum(-1), "predictions counted, where A and B differ"),
        "n_units": variable("patched", [size[name] for name in names], "units patched"),
    }
    drawn = [name for name in controls if name in names]
    coords: dict[str, Any] = {"patched": names, "memory": list(MEMORIES), "letter": list(LETTERS),
                              "bound": ["lower", "upper"]}  # fmt: skip
    if drawn:
        b_of = of_set[..., LETTERS.index("B")]
        chosen = b_of[names.index(CHOSEN), 0]
        p = np.full((len(drawn), len(MEMORIES)), np.nan)
        for i, name in enumerate(drawn):
            others = b_of[names.index(name)]
            if name in EXACT:
                p[i] = (1 + (others >= chosen - 1e-12).sum(0)) / (1 + len(others))
        p[:, n.sum(-1) == 0] = np.nan
        data["p_sets"] = variable(("control", "memory"), p, "p over sets, chosen units carry more")
        coords["control"] = drawn
    return xr.Dataset(data, coords)
