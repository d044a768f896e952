"""Lesions: units replaced by an uninformative value for as long as a ``with`` block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from placeformer._warnings import warn
from placeformer.data.unit_identity import networks
from placeformer.interventions.changes import REPLACEMENTS, Change, Dosed, Function, Steps
from placeformer.interventions.replacement import (
    How,
    Position,
    Reference,
    check_how,
    find_recording,
    make_replacement,
    recordings,
    unit_spread,
)
from placeformer.interventions.units import (
    CONTENT,
    Site,
    Units,
    by_layer,
    changed,
    chosen_units,
    layer_widths,
    once,
    padded,
    sites,
    unused,
    with_units_last,
)
from placeformer.models.fingerprints import weights_sha256
from placeformer.models.memory import CURRENT_WALK, world_of
from placeformer.models.ownership import in_use
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.hooks import PATH, layer_and_index, leaves, pick
from placeformer.recording.network_state import original, seen_by_hooks
from placeformer.recording.output_axes import SAMPLE, TIME, WALK, Dims, as_dims, show
from placeformer.recording.record import record
from placeformer.spatial.binning import Bins

NEED_REFERENCE = ("mean", "position", "resample", "noise")
"""Kinds of change whose values are taken from a reference recording."""

REFERENCE_WALKS, REFERENCE_STEPS = 64, 256
"""Default reference: number of walks over all trained maps, and number of steps in each."""


@contextmanager
def ablate(
    model: nn.Module,
    units: Units,
    how: How = "mean",
    *,
    reference: Reference = None,
    position: Position = None,
    bins: Bins = None,
    dims: Dims | Mapping[str, Dims] | None = None,
    seed: int = 0,
) -> Iterator[None]:
    """Lesion units of a network for as long as the ``with`` block lasts.

    The output of a lesioned unit is replaced by an uninformative value in every stream of the
    network that uses it, before any other part reads it. The feed-forward units of a navigation
    Transformer are used by the query stream, which predicts, and by the letter stream, which is
    attended to and remembered; each stream has its own replacement values. Lesions can be nested;
    on exit, also by an exception, the network is restored. Recordings made inside the block show
    the lesion and name it in their provenance.

    Parameters
    ----------
    model
        A navigation Transformer or any ``torch.nn.Module``.
    units
        A mapping such as ``{"ffn.1": [3, 5], "ffn.0": slice(None)}`` (indices, slices or boolean
        arrays by layer), labels such as ``["ffn.1/3", "ffn.1/5"]``, a boolean DataArray over
        ``unit`` such as ``score > 0.5`` or ``cells.is_place_cell``, or a Dataset of units. The
        layers of a navigation Transformer have the names that :func:`record` uses;
        "content.ffn.0" and "ffn.0" are the same units. The layers of another network are names of
        its modules, as in :func:`record` ("encoder.2", "lstm[0]"; without a path, the first
        output). An empty selection changes nothing.
    how
        ``"mean"``: the unit's mean over the reference. ``"zero"``: 0, which may be far from the
        usual range of a signed activation. ``"position"``: the unit's mean at the current place,
        over maps, which keeps its spatial tuning and removes everything else; its overall mean at a
        place without samples. ``"resample"``: its value at a random sample of the reference, drawn
        for every walk and step and shared by all units of a layer, which keeps their joint
        distribution and removes their information.
    reference
        One or several Recordings of the layers, from which the values are computed. By default, a
        navigation Transformer is recorded along 64 walks of 256 steps over all its trained maps
        (seed `seed`), in its state on entry, including other lesions. A Recording of the query
        stream alone is enough only for the last layer, whose letter stream is not used.
    position
        For ``how="position"`` with other networks: the places (walk, time) that the network will
        run on, by the names of their coordinates in the reference.
    bins
        Bins of these places, see :func:`rate_maps`.
    dims
        Names of the axes of the layers' outputs, as in :func:`record`. By default those of the
        reference, or of the Recording that `units` are selected from; without one the units are on
        the last axis. Layers with channels, such as convolutions, raise an error, and so do layers
        in networks with these whose output of three axes may have channels.
    seed
        Random seed of the drawn samples and of the walks of the default reference.

    Raises
    ------
    ValueError
        Units that do not exist, an unknown `how`, or a reference without the units; on leaving, or
        when the network runs, a layer that is never called, or that modules share.

    Warns
    -----
    UserWarning
        The reference was recorded from another network.

    See Also
    --------
    ablation_curve : Lesion increasing fractions of the units, with controls.
    equivalent_alpha : The α that costs as much memory as a lesion.
    magnesium : Change α instead of silencing units.

    Notes
    -----
    Attention weights (units head × lag) are replaced after the softmax and not renormalised.

    Units of ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` are replaced in the sequence that the layer
    returns, and not within the layer: its recurrence runs on intact values, and so does a network
    that reads the final state, which is another output ("rnn[1]", or "rnn[1][0]" of an LSTM) and
    can be lesioned as well. A cell that is called once per step is lesioned within the recurrence.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> with pf.ablate(model, {"ffn.1": [3, 5]}, how="zero"):
    ...     recording = pf.record(model, n_walks=4, n_steps=64, progress=False)
    >>> float(abs(recording.activation.sel(unit="ffn.1/3")).max())
    0.0
    """
    check_how(how)
    with units_changed(
        model, units, how, reference=reference, position=position, bins=bins, dims=dims, seed=seed
    ):
        yield


def units_changed(
    model: nn.Module,
    units: Units,
    how: str | Function,
    dose: float | xr.DataArray | None = None,
    *,
    steps: Steps | None = None,
    dims: Dims | Mapping[str, Dims] | None = None,
    reference: Reference = None,
    **options: Any,
) -> AbstractContextManager[None]:
    """Change units of a network by any rule, at all steps or at some; see :func:`perturb`."""
    model = original(model)
    widths = layer_widths(model, reference, also=[str(name) for name, _ in by_layer(units)])
    whole, rest = unknown_layers(units, widths)
    chosen: dict[str, NDArray[np.int64] | None] = dict.fromkeys(whole)
    chosen = once(model, chosen | chosen_units(rest, widths))
    fill = replacements(
        model, chosen, how, dose, reference=reference, also=units,
        dims=axes_by_layer(dims, list(chosen), model), **options,
    )  # fmt: skip
    return lesioned(model, chosen, fill, steps)


def unknown_layers(units: Units, widths: Mapping[str, int | None]) -> tuple[list[str], Units]:
    """Layers of which all units are chosen while their number is unknown, and the other units."""
    if not isinstance(units, Mapping) or isinstance(units, xr.Dataset):
        return [], units
    everything = [n for n, which in units.items() if isinstance(which, slice)]
    whole = [n for n in everything if units[n] == slice(None) and widths.get(n, 0) is None]
    return whole, {name: which for name, which in units.items() if name not in whole}


@contextmanager
def lesioned(
    model: nn.Module,
    chosen: Mapping[str, NDArray[np.int64] | None],
    fill: Sequence[tuple[Site, Change]],
    steps: Steps | None = None,
) -> Iterator[None]:
    """Change the chosen units (None: all of the layer) at their sites.

    A lesion consists of its hooks alone; recordings name the hooks that they find. Compiled
    networks run uncompiled meanwhile, since code that was compiled earlier calls no hooks.

    Raises
    ------
    ValueError
        A reference that lacks the units; on leaving, a layer that was never called although the
        network was run.
    """
    hooks = [LesionHook(s, chosen[s.layer], c, steps) for s, c in fill if s.layer in chosen]
    for hook in hooks:
        hook.change.check(hook.site.name, hook.units)
    with hooked(model, hooks):
        yield


@contextmanager
def hooked(model: nn.Module, hooks: Sequence[LesionHook]) -> Iterator[None]:
    """Attach the hooks to their modules, and tell them when the network is called.

    Raises
    ------
    ValueError
        On leaving, a layer that was never called although the network was run.
    """
    ran: list[None] = []
    with in_use(model), seen_by_hooks(model), ExitStack() as stack:
        for hook in hooks:
            stack.callback(attach(hook).remove)
        for module in dict.fromkeys(hook.site.module for hook in hooks):
            if getattr(module, "inplace", False):
                keep = module.register_forward_pre_hook(keep_input, with_kwargs=True)
                stack.callback(IN_PLACE.pop, module, None)
                stack.callback(keep.remove)
        if not isinstance(model, NavigationTransformer):  # whose sites are all called
            begin = model.register_forward_pre_hook(partial(new_pass, hooks), with_kwargs=True)
            stack.callback(begin.remove)
            for module in model.modules():
                stack.callback(module.register_forward_pre_hook(witness(ran)).remove)
        yield
    silent = [hook.site.name for hook in hooks if ran and not hook.called]
    if silent:
        raise ValueError(
            f"units: {silent[0]!r} was never called while the network was run, so nothing was "
            "changed there. A layer whose forward() is called directly, or whose weights another "
            "module uses (out_proj of nn.MultiheadAttention), cannot be lesioned: choose the "
            "module around it"
        )


def attach(hook: LesionHook) -> RemovableHandle:
    """Attach a hook after those that were attached before; one with `first` goes before all others.

    Returns
    -------
    RemovableHandle
        What removes the hook.
    """
    handle = hook.site.module.register_forward_hook(hook, with_kwargs=True)
    hooks = hook.site.module._forward_hooks
    for key, other in list(hooks.items()) if hook.first else ():
        if not (isinstance(other, LesionHook) and other.first):
            hooks[key] = hooks.pop(key)
    return handle


def axes_by_layer(
    dims: Dims | Mapping[str, Dims] | None, layers: Sequence[str], model: nn.Module
) -> dict[str, Dims]:
    """Names of the axes of every lesioned layer that the user gave."""
    if dims is None:
        return {}
    if isinstance(model, NavigationTransformer):
        raise ValueError(f"dims must be None for a navigation Transformer, got {dims!r}")
    named = dict(dims) if isinstance(dims, Mapping) else dict.fromkeys(layers, dims)
    unknown = sorted(set(named) - set(layers))
    if unknown:
        raise ValueError(
            f"dims must name lesioned layers, {', '.join(layers)}, got {', '.join(unknown)}"
        )
    return {layer: as_dims(axes) for layer, axes in named.items()}


def new_pass(
    hooks: Sequence[LesionHook], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Tell the hooks that the network is called, and how many walks and steps its inputs have.

    Along known walks the network may be called once per step: only then do the steps seen count on.
    """
    inputs = [x for _, x in leaves(padded([*args, *kwargs.values()])) if x.ndim > 1]
    flat = bool(inputs) and all(x.ndim == 2 for x in inputs)
    for hook in hooks:
        hook.flat, hook.whole, hook.spans = flat, 0, {(x.shape[0], x.shape[1]) for x in inputs}
        if CURRENT_WALK.get() is None:
            hook.seen = 0


IN_PLACE: WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor]] = WeakKeyDictionary()
"""Modules that work in place, with the copy of the input that they work on, and the input."""


def keep_input(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Let a module that works in place work on a copy of its input where gradients are computed.

    They need what the module gave, so that the copy cannot be changed afterwards. The input can.
    """
    x = args[0] if args else kwargs.get("input")
    if not (torch.is_grad_enabled() and isinstance(x, Tensor) and x.requires_grad):
        IN_PLACE.pop(module, None)
        return None
    if module in IN_PLACE and IN_PLACE[module][0] is x:  # copied for an outer block
        return None
    copy = x.clone()
    IN_PLACE[module] = copy, x
    return ((copy, *args[1:]), kwargs) if args else (args, {**kwargs, "input": copy})


def changed_input(module: nn.Module, inputs: Sequence[Any], output: Any) -> Tensor | None:
    """Return the input that a module works on in place, which other modules may read; or None."""
    copy, original = IN_PLACE.get(module, (None, None))
    if copy is not None and any(copy is value for value in inputs):
        return original
    own = bool(getattr(module, "inplace", False)) and any(output is value for value in inputs)
    return output if own else None


def witness(ran: list[None]) -> Callable[..., None]:
    """Return a hook that notes that a module ran."""

    def note(module: nn.Module, args: Any) -> None:
        if not ran:
            ran.append(None)

    return note


def replacements(
    model: nn.Module,
    layers: Iterable[str],
    how: str | Function,
    dose: float | xr.DataArray | Tensor | None = None,
    *,
    reference: Reference = None,
    position: Position = None,
    bins: Bins = None,
    seed: int = 0,
    also: object = None,
    dims: Mapping[str, Dims] | None = None,
) -> list[tuple[Site, Change]]:
    """Return the sites of the layers, each with the change of its units.

    `dose` is that of :func:`perturb`, or one for each version of the walks (version, 1, 1, 1).
    `also` may be a selection of a Recording, which tells how units are numbered if there is no
    reference; `dims` are the axes of the layers that the user named.
    """
    needed = how in NEED_REFERENCE
    if needed:
        warn_of_other_network(model, reference)
    axes = dims or {}
    given = [reference] if isinstance(reference, xr.Dataset) else list(reference or [])
    where = [s for layer in layers for s in sites(model, layer, [*given, also], axes.get(layer))]
    if needed and reference is None and where:
        reference = default_reference(model, [site.name for site in where], seed)
    options: dict[str, Any] = {"bins": bins, "position": position, "seed": seed}
    if position is not None:
        options["by"] = tuple(position)
    found = []
    for site in where:
        recording = find_recording(reference, site.name) if needed else None
        if needed and recording is None:
            if unused(model, site):
                continue
            raise ValueError(missing(site))
        moved = not site.stream and isinstance(model, NavigationTransformer)
        found.append((site, make_change(how, dose, site, recording, moved=moved, **options)))
    return found


def make_change(
    how: str | Function,
    dose: float | xr.DataArray | Tensor | None,
    site: Site,
    recording: xr.Dataset | None,
    *,
    seed: int,
    **options: Any,
) -> Change:
    """Build the change of one layer from its units in the reference."""
    replaced = how in REPLACEMENTS
    replacement = None
    if replaced:
        replacement = make_replacement(cast(How, how), recording, seed=seed, **options)
        if dose is None or (isinstance(dose, float) and dose == 1):
            return replacement
    units, spread = None, None
    if recording is not None:
        units = recording["index"].values
        if how == "noise":
            spread = unit_spread(recording)
    if isinstance(dose, float):
        dose = torch.tensor(dose, dtype=torch.float32, device="cpu")
    elif isinstance(dose, xr.DataArray):
        dose = of_layer(dose, site.layer)
    return Dosed(how, dose, spread, replacement, site.name, seed, units)


def of_layer(dose: xr.DataArray, layer: str) -> Tensor:
    """Doses (unit,) of the units of one layer, by their labels; NaN for units without one."""
    names, index = layer_and_index(dose, "dose")
    here = names == layer
    values = np.full(index[here].max(initial=-1) + 1, np.nan, np.float32)
    values[index[here]] = dose.values[here]
    return torch.from_numpy(values)


def warn_of_other_network(model: nn.Module, reference: Reference) -> None:
    """Warn where the reference was recorded from a network with other weights."""
    known = [sha for recording in recordings(reference) for sha in networks(recording)]
    if known and weights_sha256(model) not in known:
        warn(
            "reference was recorded from another network, or before the weights of this "
            f"{type(model).__name__} changed: the values that replace its units are those of "
            "other units; record the reference from this network",
        )


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


def missing(site: Site) -> str:
    """Explain that the reference lacks a layer, and how to obtain it."""
    both = (
        "; the letter stream uses the same units as the query stream, so pass both recordings, "
        f"the other made with record(..., layers={site.name!r}), or leave reference out"
        if site.stream
        else ""
    )
    return f"reference must hold the layer {site.name!r}, which it does not{both}"


@dataclass(eq=False)
class LesionHook:
    """Forward hook that changes units of a module's output, and can say which and how.

    `units` is None for all units of a layer whose width is not known before it runs.
    """

    site: Site
    units: NDArray[np.int64] | None
    change: Change
    steps: Steps | None = None
    called: bool = field(default=False, init=False)
    seen: int = field(default=0, init=False)
    part: xr.Dataset | None = field(default=None, init=False)
    spans: set[tuple[int, int]] = field(default_factory=set, init=False)
    """Walks and steps that the inputs of the present forward pass may have."""
    flat: bool = field(default=False, init=False)
    """Whether all inputs of the present forward pass have two axes, such as (sample, feature)."""
    whole: int = field(default=0, init=False)
    """Calls in this pass that held all of its walks and steps."""
    first: ClassVar[bool] = False
    """Whether it is called before the other hooks of the module."""

    def describe(self) -> dict[str, Any]:
        """Layer, units, and what replaces them."""
        units = "all" if self.units is None else self.units.tolist()
        when = {} if self.steps is None else self.steps.describe()
        return {"layer": self.site.name, "units": units, **self.change.describe(), **when}

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Return the output with the units replaced."""
        self.called = True
        path = "".join(f"[{key}]" for key in PATH.findall(self.site.layer)) or self.site.path
        there = padded(output)
        if path is None:
            path = next(leaves(there))[0]
        pick(there, path, PATH.sub("", self.site.layer))  # an error that lists the outputs
        new = changed(output, PATH.findall(path), self.lesion)
        into = changed_input(module, [*args, *kwargs.values()], output)
        return new if into is None else into.copy_(new)

    def lesion(self, output: Any) -> Any:
        """Replace the units of one tensor."""
        if output is None:  # the letter stream of the last layer, where no prediction needs it
            return output
        if output.is_nested or output.is_quantized or output.layout != torch.strided:
            kind = "quantized" if output.is_quantized else output.layout
            raise ValueError(
                f"units: {self.site.layer!r} must give an ordinary dense tensor, got a "
                f"{'nested' if output.is_nested else kind} one; choose a module that gives the "
                "dense tensor"
            )
        if not (output.is_floating_point() or output.is_complex()):  # spikes, or letters
            return self.whole_numbers(output)
        walk = CURRENT_WALK.get()
        if self.site.width is not None and self.site.dims is None:  # a navigation Transformer
            if walk is not None and len(output) > walk.sizes[WALK]:  # many lesions in one pass
                branches = output.split(walk.sizes[WALK])
                return torch.cat([self.lesion(branch) for branch in branches])
            shape, width = self.site.shape(output), self.site.width
            mask = self.mask(output, width, shape)
            present = self.site.present(output) if self.change.reads else output
            values = self.change(present, shape, width)
            return self.site.replaced(output, mask, values)
        if self.steps is not None:
            self.check_square(output, walk)
        dims = self.site.axes(output, walk)
        if walk is not None and walk.sizes[WALK] > 1 and not {WALK, SAMPLE} & set(dims):
            raise ValueError(
                f"dims must name the axis of {self.site.layer!r} along which its "
                f'{walk.sizes[WALK]} walks lie "walk" (or "sample", with the steps), got '
                f"{show(dims)} for {tuple(output.shape)}: all other axes are units"
            )
        if output.ndim != len(dims):
            raise ValueError(
                f"reference must be of the network as it is run: {self.site.layer!r} was recorded "
                f"as {dims}, got {tuple(output.shape)}"
            )
        return with_units_last(output, dims, partial(self.new, dims, walk), self.walks(walk))

    def whole_numbers(self, output: Tensor) -> Tensor:
        """Replace units of a tensor of whole numbers or booleans, which hold no fractions."""
        before = output.to(torch.float64)
        new = self.lesion(before)
        exact = new.to(output.dtype)
        if not torch.equal(exact.to(torch.float64), new):
            wrong = new[exact.to(torch.float64) != new][0].item()
            raise ValueError(
                f"how must give values that {self.site.layer!r} can hold, which are of type "
                f"{output.dtype}, got {wrong:g}; "
                'choose how="zero" or "resample", or a module that gives floating-point numbers'
            )
        return torch.where(new == before, output, exact)  # large numbers are rounded by float64

    def new(
        self, dims: Dims, walk: xr.Dataset | None, output: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Mask and values of an output (..., unit) with the walks and steps of `shape`."""
        width = output.shape[-1]
        if self.site.width not in (None, width):
            raise ValueError(
                f"reference must be of the network as it is run: {self.site.layer!r} had "
                f"{self.site.width} units, got {width}"
            )
        begin = self.begin(dims, shape, walk)
        present = output.reshape(*shape, width) if self.change.reads else output
        return self.mask(output, width, shape, begin), self.change(present, shape, width, begin)

    def begin(self, dims: Dims, shape: tuple[int, int], walk: xr.Dataset | None) -> int | None:
        """First step of this call in the walks; None if it holds all of them, or it is unknown."""
        if walk is not self.part:
            self.part, self.seen, self.whole = walk, 0, 0
        timed = bool({TIME, SAMPLE} & set(dims))
        spans = self.spans if walk is None else {(walk.sizes[WALK], walk.sizes[TIME])}
        whole = timed and shape in spans and shape[1] > 1
        if whole or (walk is None and self.holds_all_samples(dims, shape[1])):
            self.whole += 1
            self.check_whole()
        if whole or (timed and not spans):
            return None
        begin, self.seen = self.seen, self.seen + shape[1]
        return begin

    def holds_all_samples(self, dims: Dims, n: int) -> bool:
        """Whether `n` samples are all that were passed.

        A cell that is called once per step gives as many samples as there are walks: an axis counts
        as that of samples if the user named it, or if the inputs have no axis of steps.
        """
        known = SAMPLE in (dims if self.flat else self.site.dims or ())
        return known and n > 1 and n in {first for first, _ in self.spans}

    def check_square(self, output: Tensor, walk: xr.Dataset | None) -> None:
        """Raise if the axes of walks and steps are ambiguous because both have the same length."""
        square = walk is not None and walk.sizes[WALK] == walk.sizes[TIME] > 1
        if square and self.site.dims is None and output.ndim == 3:
            raise ValueError(
                f"dims must name the axes of {self.site.layer!r} where steps are chosen among as "
                f"many walks as steps: {tuple(output.shape)} can be (walk, time, unit) or (time, "
                'walk, unit), got None; pass dims=("walk", "time", "unit") if walks come first'
            )

    def check_whole(self) -> None:
        """Raise if a second call in one forward pass holds all of its walks and steps."""
        if self.whole > 1:
            raise ValueError(
                f"units: {self.site.layer!r} was called {self.whole} times in one forward pass: "
                "modules that share it cannot be distinguished; lesion these modules instead"
            )

    def mask(
        self, output: Tensor, width: int, shape: tuple[int, int], begin: int | None = None
    ) -> Tensor:
        """Mask of the lesioned units (unit,), or of them at the steps chosen (walk, time, unit)."""
        if self.units is not None and int(self.units.max()) >= width:
            raise ValueError(
                f"units must be units of the network, but {self.site.layer} has {width} of them, "
                f"got {int(self.units.max())}"
            )
        mask = torch.full((width,), self.units is None, device=output.device)
        if self.units is not None:
            mask[torch.from_numpy(self.units)] = True
        if self.steps is None:
            return mask
        steps = torch.from_numpy(self.steps(shape, begin).copy()).to(output.device)
        return mask & steps[..., None]

    def walks(self, walk: xr.Dataset | None) -> int:
        """Walks of an output that has walk and time in one axis."""
        return 1 if walk is None else walk.sizes[WALK]
