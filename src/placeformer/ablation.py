"""Lesions: units held at a value that tells nothing, for as long as a ``with`` block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from placeformer.binning import Bins
from placeformer.hooks import PATH, leaves
from placeformer.memory import world_of
from placeformer.model import NavigationTransformer
from placeformer.recording import record
from placeformer.replacement import (
    How,
    Position,
    Reference,
    Replacement,
    check_how,
    find_recording,
    make_replacement,
    recordings,
)
from placeformer.selection import CONTENT, Units, chosen_units
from placeformer.taps import taps

REFERENCE_WALKS, REFERENCE_STEPS = 64, 256
"""Walks over all trained maps, and steps in each, that are recorded where no reference is given."""


@contextmanager
def ablate(
    model: nn.Module,
    units: Units,
    how: How = "mean",
    *,
    reference: Reference = None,
    position: Position = None,
    bins: Bins = None,
    seed: int = 0,
) -> Iterator[None]:
    """Lesion units of a network for as long as the ``with`` block lasts.

    A lesioned unit no longer tells anything: whatever it computes is replaced, in every stream of
    the network that uses it, before anything reads it. For the feed-forward units of a navigation
    Transformer these are the query stream, which predicts, and the letter stream, which is
    attended to and remembered; each gets the value of its own stream. Lesions may be nested; on
    exit, by an exception too, the network is as it was. Recordings made inside show the lesion, and
    name it in their provenance.

    Parameters
    ----------
    model
        A navigation Transformer or any ``torch.nn.Module``.
    units
        ``{"ffn.1": [3, 5], "ffn.0": slice(None)}`` (numbers, slices or boolean arrays by layer),
        a boolean DataArray over ``unit`` such as ``score > 0.5``, or a Dataset of units, the last
        two with the coordinates ``layer`` and ``index``. For a navigation Transformer the layers
        are those that :func:`record` knows; "content.ffn.0" and "ffn.0" are the same units. For
        other networks they are names of modules as :func:`record` knows them ("encoder.2",
        "lstm[0]"; of several outputs without a name the first), with the units on the last axis.
    how
        ``"mean"``: the unit's mean over the reference. ``"zero"``: 0, which for a signed
        activation may be far from anything the unit does. ``"position"``: its mean at the present
        place, over maps, which keeps its map of places and removes the rest; at a place without
        samples its mean. ``"resample"``: its value at a moment drawn from the reference, anew for
        every walk and step and the same for all units of a layer, which keeps their distribution
        and removes what they tell.
    reference
        The data set: a Recording of the layers, or several. By default, for a navigation
        Transformer, 64 walks of 256 steps over all its trained maps (seed `seed`) are recorded
        from the network as it is on entry, other lesions included. A Recording of the
        query stream alone suffices for the last layer only, whose letter stream is not used.
    position
        With ``how="position"`` on other networks: the places (walk, time) it is going to be run
        on, by the names of their coordinates in the reference.
    bins
        Bins of these places, see :func:`rate_maps`.
    seed
        Of the drawn moments, and of the walks recorded as reference.

    Raises
    ------
    ValueError
        Units that do not exist, an unknown `how`, a reference that lacks the units.

    Notes
    -----
    Attention weights (units head × lag) are replaced after the softmax and not renormalised.

    Examples
    --------
    >>> with pf.ablate(model, {"ffn.1": [3, 5]}):  # doctest: +SKIP
    ...     errors = pf.memory_errors(model)
    """
    check_how(how)
    named = [str(name) for name in units] if isinstance(units, Mapping) else []
    chosen = chosen_units(units, layer_widths(model, reference, also=named))
    lesion = replacements(
        model, chosen, how, reference=reference, position=position, bins=bins, seed=seed
    )
    with ExitStack() as stack:
        if isinstance(model, NavigationTransformer):
            stack.callback(setattr, model, "info", model.info)
            units_of = {layer: numbers.tolist() for layer, numbers in chosen.items()}
            told = [*model.info.get("lesions", ()), {"how": how, "units": units_of, "seed": seed}]
            model.info = {**model.info, "lesions": told}
        for site, replacement in lesion:
            numbers = torch.from_numpy(chosen[site.layer])
            handle = site.module.register_forward_hook(replace(site, numbers, replacement))
            stack.callback(handle.remove)
        yield


@dataclass(frozen=True)
class Site:
    """Where the units of a layer are in one stream: the output of a module.

    Attributes
    ----------
    stream
        "content." for the letter stream, else "".
    keys
        Number of keys of its own that an attention weight's query has; None for other units.
    """

    layer: str
    stream: str
    module: nn.Module
    width: int | None
    keys: int | None = None

    @property
    def name(self) -> str:
        """Layer as a Recording of this stream calls it."""
        return self.stream + self.layer

    def shape(self, output: Tensor) -> tuple[int, int]:
        """Walks and steps of an output."""
        return output.shape[0], output.shape[-2 if self.keys is not None else 1]

    def replaced(self, output: Tensor, mask: Tensor, values: Tensor) -> Tensor:
        """Output with `values` wherever `mask`, both (..., unit), says."""
        if self.keys is None:
            return torch.where(mask, values, output)
        return torch.where(
            over_keys(mask, output, self.keys), over_keys(values, output, self.keys), output
        )


def layer_widths(
    model: nn.Module, reference: Reference, also: Iterable[str] = ()
) -> dict[str, int | None]:
    """Units of every layer that can be lesioned; None where only a run would tell.

    `also` are names that may have a path to one of several outputs, as those of the reference may.
    """
    if isinstance(model, NavigationTransformer):
        return {n: tap.width for n, tap in taps(model).items() if not n.startswith(CONTENT)}
    modules = modules_of(model)
    recorded = [str(name) for part in recordings(reference) for name in part["layer"].values]
    names = [*modules, *(n for n in (*recorded, *also) if PATH.sub("", n) in modules)]
    found = {name: find_recording(reference, name) for name in dict.fromkeys(names)}
    return {n: None if r is None else int(r["index"].max()) + 1 for n, r in found.items()}


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name, the whole network by that of its class."""
    return {name or type(model).__name__: module for name, module in model.named_modules()}


def sites(model: nn.Module, layer: str) -> list[Site]:
    """Find where the units of a layer are, in all streams that use them."""
    if not isinstance(model, NavigationTransformer):
        return [Site(layer, "", modules_of(model)[PATH.sub("", layer)], None)]
    known, keys = taps(model), {"": 1, CONTENT: 0}
    attention = layer.startswith("attention")
    return [
        Site(layer, stream, tap.module, tap.width, keys[stream] if attention else None)
        for stream, tap in ((stream, known[stream + layer]) for stream in keys)
    ]


def replacements(
    model: nn.Module,
    layers: Iterable[str],
    how: How,
    *,
    reference: Reference = None,
    position: Position = None,
    bins: Bins = None,
    seed: int = 0,
) -> list[tuple[Site, Replacement]]:
    """Return the sites of the layers, each with what stands in place of its units."""
    where = [site for layer in layers for site in sites(model, layer)]
    if how != "zero" and reference is None and where:
        reference = default_reference(model, [site.name for site in where], seed)
    options: dict[str, Any] = {"bins": bins, "position": position, "seed": seed}
    if position is not None:
        options["by"] = tuple(position)
    found = []
    for site in where:
        recording = None if how == "zero" else find_recording(reference, site.name)
        if how != "zero" and recording is None:
            if unused(model, site):
                continue
            raise ValueError(missing(site))
        moved = not site.stream and isinstance(model, NavigationTransformer)
        found.append((site, make_replacement(how, recording, moved=moved, **options)))
    return found


def default_reference(
    model: nn.Module,
    names: Sequence[str],
    seed: int,
    *,
    maps: Sequence[int] | None = None,
    **size: Any,
) -> list[xr.Dataset]:
    """Record both streams of a navigation Transformer over trained maps, by default over all."""
    if not isinstance(model, NavigationTransformer):
        raise ValueError(
            f"reference must be a Recording of the lesioned layers for a {type(model).__name__}, "
            'got None; make one with placeformer.record, or lesion with how="zero"'
        )
    size = {"n_walks": REFERENCE_WALKS, "n_steps": REFERENCE_STEPS} | size
    maps = range(world_of(model).n_maps) if maps is None else maps
    streams = [[n for n in names if n.startswith(CONTENT) is content] for content in (False, True)]
    return [
        record(model, layers=s, maps=maps, seed=seed, progress=False, **size) for s in streams if s
    ]


def unused(model: nn.Module, site: Site) -> bool:
    """Tell whether no prediction needs this: the letter stream of the last layer."""
    if not isinstance(model, NavigationTransformer):
        return False
    return bool(site.stream) and site.layer.endswith(f".{model.config.n_layers - 1}")


def missing(site: Site) -> str:
    """Say that the reference lacks a layer, and how to come by it."""
    both = (
        "; the letter stream uses the same units as the query stream, so pass both recordings, "
        f"the other made with record(..., layers={site.name!r}), or leave reference out"
        if site.stream
        else ""
    )
    return f"reference must hold the layer {site.name!r}, which it does not{both}"


def replace(site: Site, numbers: Tensor, replacement: Replacement) -> Callable[..., Any]:
    """Return the hook that replaces these units of a module's output."""

    def lesion(tensor: Tensor) -> Tensor:
        width = tensor.shape[-1] if site.width is None else site.width
        if int(numbers.max()) >= width:
            raise ValueError(
                f"units must be units of the network, but {site.layer} has {width} of them, "
                f"found {int(numbers.max())}"
            )
        mask = torch.zeros(width, dtype=torch.bool, device=tensor.device)
        mask[numbers] = True
        return site.replaced(tensor, mask, replacement(tensor, site.shape(tensor), width))

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        path = "".join(f"[{key}]" for key in PATH.findall(site.layer)) or next(leaves(output))[0]
        return changed(output, PATH.findall(path), lesion)

    return hook


def changed(output: Any, path: Sequence[str], change: Callable[[Tensor], Tensor]) -> Any:
    """Output with one of its tensors changed; nested tuples, lists and mappings are made anew."""
    if not path:
        return change(output)
    if isinstance(output, Mapping):
        other = copy(output)
        other[path[0]] = changed(output[path[0]], path[1:], change)  # type: ignore[index]
        return other
    items = list(output)
    items[int(path[0])] = changed(items[int(path[0])], path[1:], change)
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


def over_keys(values: Tensor, weights: Tensor, own: int) -> Tensor:
    """Bring values (..., head × lag) to the keys (walk, head, time, key) of attention weights."""
    n_walks, n_heads, steps, n_keys = weights.shape
    key = torch.arange(n_keys, device=weights.device)
    here = torch.arange(steps, device=weights.device)[:, None] + n_keys - steps
    lag = here - key
    seen = lag >= own
    if own:  # the last key is the query's own
        lag[:, -1], seen[:, -1] = 0, True
    by_lag = values.unflatten(-1, (n_heads, -1))
    by_lag = by_lag.expand(n_walks, steps, *by_lag.shape[-2:])
    at = lag.clamp(min=0).expand(n_walks, n_heads, -1, -1)
    found = by_lag.permute(0, 2, 1, 3).gather(3, at)
    return found if found.dtype == torch.bool else found * seen
