"""The plan of an ablation curve: which units are lesioned together, and their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import nn

from placeformer._options import check_number, check_option, check_whole
from placeformer.data import schema
from placeformer.data.schema import variable
from placeformer.interventions.control_units import (
    OUTPUT_WEIGHT,
    Order,
    activity,
    lesion_sets,
    name_of,
    order_scores,
    output_weight,
    shares_of,
    strata,
)
from placeformer.interventions.logit_change import logit_change, logit_kernels
from placeformer.interventions.replacement import Reference, find_recording
from placeformer.interventions.units import layer_widths
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.hooks import literal_brackets
from placeformer.spatial.binning import Bins
from placeformer.spatial.negatives import Negatives

SET_DIMS = ("selection", "fraction", "repeat")
CONTROLS = ("random", "stratified", "matched")
EXACT = CONTROLS[:2]
"""Controls of which the ordered units are one more draw under the null hypothesis."""
ACTIVITY = "activity"
LOGIT_CHANGE = "logit_change"


def draw_plan(
    model: nn.Module,
    units: xr.Dataset,
    order: Order,
    fractions: NDArray[np.float64] | None,
    *,
    keep: bool,
    negatives: Negatives,
    controls: Sequence[str],
    caliper: float,
    repeats: int,
    seed: int,
    bins: Bins = None,
) -> xr.Dataset:
    """Order the units, draw the sets, and find the distinct lesions among them.

    Parameters
    ----------
    model, units
        The network, and a Recording of the units of the layers.
    order, fractions, keep, negatives, controls, caliper, repeats, seed, bins
        See :func:`ablation_curve`.

    Returns
    -------
    xarray.Dataset
        ``lesion_of_set`` (selection, fraction, repeat), the index of the lesion of every set, and
        ``lesioned`` (lesion, unit), the units of each distinct lesion (with `keep`, those that are
        not in the set); ``drawn`` (selection, fraction), whether a control has a set in every
        repeat; ``balance`` (fraction, repeat, covariate), the :func:`imbalance` of matched units;
        ``logit_change`` (selection, fraction, repeat), see :mod:`.logit_change`, NaN where it is
        unknown; ``overlap`` (selection, fraction, repeat), the fraction of the ordered units in
        each set; and ``order_score`` (unit). The selections are "ordered" and the controls;
        ``n_units`` (fraction) is the size of a set. ``attrs`` holds `keep`, the name of the order
        and `stratified_by`, the covariates of the strata.
    """
    score = order_scores(model, units, order, negatives, bins)
    fractions = shares_of(score, fractions)
    sizes = np.rint(fractions * score.size).astype(int)
    matched_on, layer = covariates(model, units), units["layer"].values
    stratified_by = {ACTIVITY: matched_on[ACTIVITY]}
    kernels = logit_kernels(model, units) if isinstance(model, NavigationTransformer) else {}
    if kernels:
        alone = logit_change(kernels, layer, np.eye(score.size, dtype=bool))
        stratified_by = {LOGIT_CHANGE: alone, **stratified_by}
    sets, drawn, balance = lesion_sets(
        score.astype(float),
        np.stack(list(matched_on.values()), 1),
        layer,
        stratum=strata(np.stack(list(stratified_by.values()), 1), layer),
        sizes=sizes.tolist(),
        repeats=repeats,
        controls=controls,
        caliper=caliper,
        seed=seed,
    )
    selections = ("ordered", *controls)
    check_matched(selections, drawn, sizes, score.size)
    masks = (~sets if keep else sets).reshape(-1, score.size)
    lesions, lesion_of_set = np.unique(masks, axis=0, return_inverse=True)
    counted = "units kept" if keep else "units lesioned"
    change, overlap = np.full((2, *sets.shape[:3]), np.nan)
    if kernels:
        change[drawn] = logit_change(kernels, layer, ~sets if keep else sets)[drawn]
    overlap[drawn] = ((sets & sets[:1]).sum(-1) / np.maximum(sets[:1].sum(-1), 1))[drawn]
    distance = "ordered minus matched units, standard deviations"
    by = "score by which units are ordered"
    return xr.Dataset(
        {
            "lesion_of_set": (SET_DIMS, lesion_of_set.reshape(sets.shape[:3])),
            "lesioned": (("lesion", schema.UNIT), lesions),
            "drawn": (SET_DIMS[:2], drawn),
            "balance": variable(("fraction", "repeat", "covariate"), balance, distance),
            "logit_change": variable(
                SET_DIMS, change, "expected squared change of the logits, direct path"
            ),
            "overlap": variable(
                SET_DIMS, overlap, "fraction of the ordered units that are in the set"
            ),
            "order_score": variable(schema.UNIT, score.astype(float), by),
        },
        {
            "selection": list(selections),
            "fraction": variable("fraction", fractions, f"fraction of {counted}"),
            "n_units": variable("fraction", sizes, counted),
            "covariate": list(matched_on),
            **{str(name): coord for name, coord in schema.unit_coords(units).items()},
        },
        {
            "keep": int(keep),
            "order": "chosen" if score.dtype == bool else name_of(order),
            "stratified_by": " ".join(stratified_by),
        },
    )


def masks_by_layer(
    plan: xr.Dataset, widths: Mapping[str, int | None]
) -> dict[str, NDArray[np.bool_]]:
    """Lesions of a plan as a mask (lesion, width) for every layer."""
    masks = {}
    lesioned, layer, index = (plan[name].values for name in ("lesioned", "layer", "index"))
    for name in dict.fromkeys(layer):
        here = layer == name
        width = widths[name]
        n_units = index[here].max() + 1 if width is None else width
        masks[name] = np.zeros((len(lesioned), n_units), bool)
        masks[name][:, index[here]] = lesioned[:, here]
    return masks


def lesioned_units(plan: xr.Dataset, lesion: int) -> dict[str, NDArray[np.int64]]:
    """Indices of the units of one lesion, by layer."""
    units = plan.isel(unit=plan["lesioned"].values[lesion])
    layer, index = units["layer"].values, units["index"].values
    return {str(name): index[layer == name] for name in np.unique(layer)}


def layer_names(model: nn.Module, layers: str | Sequence[str], reference: Reference) -> list[str]:
    """Layers that match the patterns.

    They are feed-forward layers of a navigation Transformer, and recorded layers of other networks.
    """
    widths = layer_widths(model, reference)
    ours = isinstance(model, NavigationTransformer)
    known = [n for n, w in widths.items() if (n.startswith("ffn.") if ours else w is not None)]
    patterns = [layers] if isinstance(layers, str) else list(layers)
    found = {
        p: {name for name in known if fnmatchcase(name, literal_brackets(p))} for p in patterns
    }
    if bad := [p for p, names in found.items() if not names]:
        kind = "feed-forward layers" if ours else "layers that the reference holds"
        raise ValueError(
            f"layers must name {kind} ({', '.join(known) or 'there are none'}), got "
            f"{', '.join(map(repr, bad))}; other layers can be lesioned with placeformer.ablate"
        )
    return [name for name in known if any(name in names for names in found.values())]


def recorded_units(layers: Sequence[str], reference: Reference) -> xr.Dataset:
    """Recording of the units of the layers, one layer after the other."""
    by_layer = {layer: find_recording(reference, layer) for layer in layers}
    recordings = [recording for recording in by_layer.values() if recording is not None]
    if len(recordings) < len(by_layer):
        absent = [layer for layer, recording in by_layer.items() if recording is None]
        raise ValueError(f"reference must hold every layer, but {', '.join(absent)} is missing")
    if len(recordings) == 1:
        return recordings[0]
    return xr.concat(recordings, schema.UNIT, data_vars="minimal", coords="minimal", join="exact")


def covariates(model: nn.Module, units: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Covariates that controls are matched on, each (unit,)."""
    matched_on = {ACTIVITY: activity(units)}
    if isinstance(model, NavigationTransformer):
        matched_on[OUTPUT_WEIGHT] = output_weight(model, units)
    return matched_on


def check_fractions(fractions: ArrayLike | None) -> NDArray[np.float64] | None:
    """Return the fractions as an array, or None."""
    if fractions is None:
        return None
    shares = np.atleast_1d(np.asarray(fractions, float))
    if shares.ndim != 1 or not shares.size or (np.diff(shares) <= 0).any():
        raise ValueError(f"fractions must be ascending and one-dimensional, got {fractions!r}")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"fractions must be within 0–1, got {shares.min():g} to {shares.max():g}")
    return shares


def check_controls(
    controls: Sequence[str], repeats: int, seed: int, *, keep: bool = False, caliper: float = 0
) -> None:
    """Raise for unknown controls, and for options with which no sets can be drawn."""
    if unknown := [c for c in controls if c not in CONTROLS]:
        raise ValueError(f"controls must be among {', '.join(CONTROLS)}, got {unknown[0]!r}")
    check_whole("repeats", repeats)
    check_number("caliper", caliper)
    if not caliper >= 0:
        raise ValueError(f"caliper must be a number of at least 0, got {caliper!r}")
    check_option("keep", keep, (True, False))
    check_whole("seed", seed, 0)


def check_matched(
    selections: Sequence[str], drawn: NDArray[np.bool_], sizes: NDArray[np.int64], n: int
) -> None:
    """Raise if matched controls exist for no fraction."""
    if "matched" not in selections or not sizes.any():
        return
    if not drawn[selections.index("matched"), sizes > 0].any():
        least = sizes[sizes > 0][0]
        raise ValueError(
            f"controls: too few units match the ordered ones, even for the {least} units of the "
            f"smallest fraction, among the other {n - least}; pass smaller "
            'fractions, a larger caliper, or controls=["stratified"]'
        )
