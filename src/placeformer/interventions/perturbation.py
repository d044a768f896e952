"""Perturbations of a network at test time: of units, heads, weights and α, by a dose."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from placeformer._options import check_option
from placeformer.interventions.alpha import alpha_changed
from placeformer.interventions.changes import (
    KINDS,
    NEUTRAL,
    REPLACEMENTS,
    Condition,
    Dosed,
    Function,
    Steps,
    called,
    check_dose,
    check_kind,
    check_steps,
    name_of,
)
from placeformer.interventions.lesions import LesionHook, axes_by_layer, hooked, units_changed
from placeformer.interventions.replacement import Position, Reference, recordings
from placeformer.interventions.stand_ins import weight_changed
from placeformer.interventions.units import CONTENT, Site, Units, joined, layer_widths, sites
from placeformer.models.activation import NMDA, check_alpha, nmda
from placeformer.models.ownership import in_use
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.hooks import LABEL, PATH, nearest
from placeformer.recording.network_state import original
from placeformer.recording.output_axes import Dims
from placeformer.spatial.binning import Bins

ALPHA = "nmda"
"""Name for α of the NMDA_α modules."""

HEAD = re.compile(r"(.*attention\.[\w*?]+)\.head\.(\d+|\*)")
"""Name of an attention head of a navigation Transformer, "attention.1.head.0"."""

Targets = str | Units
OF_ALPHA = ("clamp", "gain", "add")
OF_WEIGHTS = ("gain", "add", "noise", "clamp", "threshold", "zero", "mean", "resample")


@dataclass
class Parsed:
    """What a perturbation acts on: units of layers, weights with their selection, and α."""

    units: Any = None
    weights: dict[str, Any] = field(default_factory=dict)
    alpha: list[str] = field(default_factory=list)


@contextmanager
def perturb(
    model: nn.Module,
    units: Targets,
    how: str | Function | None = None,
    dose: float | xr.DataArray | None = None,
    *,
    steps: Condition = None,
    reference: Reference = None,
    position: Position = None,
    bins: Bins = None,
    dims: Dims | Mapping[str, Dims] | None = None,
    seed: int = 0,
) -> Iterator[None]:
    """Perturb units, attention heads, weights or α for as long as the ``with`` block lasts.

    :func:`ablate` and :func:`magnesium` are special cases with the same numbers. Perturbations can
    be nested and left in any order; where several act on the same units, weights or α, they apply
    one after the other, in the order in which they were entered (α at some steps after α at all
    steps). On exit, also by an exception, the network is as before. Recordings made inside the
    block name the perturbation in their provenance.

    Parameters
    ----------
    model
        A navigation Transformer or any ``torch.nn.Module``.
    units
        What is perturbed, one name or several:

        - units, in the ways of :func:`ablate`: ``{"ffn.1": [3, 5]}``, ``["ffn.1/3"]``,
          ``score > 0.5``;
        - whole layers by name or pattern: ``"ffn.1"``, ``"attention.*"``, ``["ffn.0", "ffn.1"]``;
        - attention heads of a navigation Transformer: ``"attention.1.head.0"``, its weights at all
          lags, after the softmax and not renormalised;
        - weights ("connections") by the names of ``model.named_parameters()``, such as
          ``"layers.1.ffn.fc2.weight"``, or some of them by an index or a boolean mask:
          ``{"layers.1.ffn.fc2.weight": (slice(None), [3, 5])}``. A weight or layer that has
          several names, as tied weights have, is perturbed once;
        - ``"nmda"``: α of every NMDA_α of the network, or of some:
          ``{"nmda": "layers.1.*"}``, the names of their modules.
    how
        What happens to a value x, given the `dose` d. A name, or a function of the values (and of
        the dose, if one is given) that returns new ones; it takes a copy of all units of the layer,
        (walk, time, unit), and only the chosen ones are changed; or of the whole weight; or α, a
        number.

        ========== ===================================================================== =========
        how        new value                                                             intact at
        ========== ===================================================================== =========
        gain       d x                                                                   1
        add        x + d                                                                 0
        noise      x + d s z, with s the unit's standard deviation over the reference    0
                   and z standard normal, drawn for every walk, step and unit
        clamp      d                                                                     (none)
        threshold  x where x > d, else 0                                                 −∞
        zero,      x + d (r − x), with r the value that takes the place of a lesioned    0
        mean,      unit (:func:`ablate`); by default d = 1, a lesion
        position,
        resample
        ========== ===================================================================== =========

        Of weights, s and the mean are those of the chosen weights, and ``"resample"`` exchanges
        them at random among themselves; the noise is drawn once. α takes "clamp" (the default for
        ``"nmda"``: d is the new α), "gain", "add" and functions.
    dose
        A number, in units of the activation, of its standard deviation, or of α, as the table says;
        or for units a DataArray over ``unit`` with one dose for each chosen unit, by its label.
    steps
        Steps at which units or α are perturbed, by default all: a boolean mask (walk, time) or
        (time,); or a condition on behaviour, a function that takes the part of the walks that is
        run (a Dataset as from :meth:`GridWorld.walk`, with its `x`, `y`, `observation`, `action`,
        …, or of the behaviour that :func:`record` is given, with its own coordinates) and returns
        such a mask: ``lambda walk: walk.observation == 3``. A mask that is a DataArray is aligned
        by its coordinates with those of the walks, as ``walks.x > 0.5`` is; without coordinates,
        and where the walks have none, by the numbers of walks and steps. Both streams of a
        navigation Transformer are perturbed at the step's number. Weights act at all steps.
    reference
        Recordings for "noise", "mean", "position" and "resample"; the default for a navigation
        Transformer is that of :func:`ablate`.
    position, bins, dims
        See :func:`ablate`. For α at some steps, `dims` are the axes of the NMDA_α modules, by their
        names.
    seed
        Random seed of noise, samples, exchanged weights and of the default reference. Along walks
        the noise of a unit depends on nothing but the seed, its layer, the walk and the step.

    Raises
    ------
    ValueError
        Units, weights or α that do not exist; an unknown `how`, or one that does not apply; a dose
        that is missing or out of range; `steps` that do not fit the walks, or for weights.

    See Also
    --------
    ablate, magnesium : Lesions and Mg²⁺, the special cases.
    dose_response : Memory errors, or any score, against the dose.
    ablation_curve : Perturb increasing fractions of the units, with controls.
    specificity : What a perturbation costs besides reference memory, compared with controls.
    patch : Put activations of another map into the units.

    Notes
    -----
    A layer that is perturbed but never called raises an error on leaving, as in :func:`ablate`.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> score = lambda: float(pf.memory_errors(
    ...     model, n_walks=8, n_steps=128, where="every_step", progress=False
    ... ).error.sel(memory="reference").round(2))
    >>> intact = score()
    >>> with pf.perturb(model, "ffn.*", "gain", 0.25):
    ...     score() > intact
    True
    >>> with pf.perturb(model, "attention.1.head.0", "zero"), pf.perturb(model, "nmda", dose=5):
    ...     model.config.alpha
    5.0
    >>> score() == intact
    True
    """
    network = original(model)
    targets = parsed(network, units, reference)
    rule = check_rule(targets, how)
    amount = check_alpha_dose(rule, dose) if targets.alpha else check_dose(rule, dose)
    when = check_steps(steps)
    if targets.weights and when is not None:
        raise ValueError(
            f"steps must be None for weights, which act at all steps, got {type(steps).__name__} "
            f"for {next(iter(targets.weights))}; perturb the units that the weights lead to instead"
        )
    with in_use(network), ExitStack() as stack:
        for name, where in targets.weights.items():
            weight = dict(network.named_parameters(remove_duplicate=False))[name]
            change = weight_change(weight, where, rule, amount, seed)
            stack.enter_context(weight_changed(weight, change))
            note = WeightNote(name, rule, amount, seed, where)
            stack.callback(network.register_forward_hook(note).remove)
        if targets.alpha:
            stack.enter_context(
                alpha_perturbed(network, targets.alpha, rule, amount, when, reference, dims)
            )
        if targets.units is not None:
            stack.enter_context(
                units_changed(
                    network, targets.units, rule, amount, steps=when, reference=reference,
                    position=position, bins=bins, dims=dims, seed=seed,
                )
            )  # fmt: skip
        yield


def parsed(model: nn.Module, units: Targets, reference: Reference = None) -> Parsed:
    """Sort what is named into units, weights and α; raise for names that are none of them."""
    if isinstance(units, xr.DataArray | xr.Dataset):
        return Parsed(units)
    if isinstance(units, str):
        units = [units]
    if isinstance(units, Mapping):
        items = [(str(name), value) for name, value in units.items()]
    elif isinstance(units, Sequence | np.ndarray) and all(isinstance(x, str) for x in units):
        labels = [str(x) for x in units if LABEL.fullmatch(str(x))]
        names = [str(x) for x in units if not LABEL.fullmatch(str(x))]
        if labels and not names:
            return Parsed(labels)
        if labels:
            raise ValueError(
                f"units must be either labels of units or names, got both, {labels[0]!r} and "
                f"{names[0]!r}; name units of several layers as a mapping"
            )
        items = [(name, slice(None)) for name in names]
    else:
        return Parsed(units)  # whose error names what is possible
    if not items:
        raise ValueError("units must name at least one unit, layer, weight or nmda, got none")
    result, layers, chosen = Parsed(), dict[str, Any](), list[tuple[str, Any]]()
    widths = layer_widths(model, reference, also=[name for name, _ in items])
    weights = [name for name, _ in model.named_parameters(remove_duplicate=False)]

    def choose(layer: str, part: Any) -> None:
        there = layer in layers
        layers[layer] = joined(layers[layer], part, widths[layer]) if there else part

    for name, value in items:
        if name == ALPHA and ALPHA not in widths:
            result.alpha += alpha_names(model, value)
        elif (head := HEAD.fullmatch(name)) and isinstance(model, NavigationTransformer):
            for layer, lags in heads(model, head[1], head[2], widths, value).items():
                choose(layer, lags)
        elif found := matching(name.removeprefix(CONTENT), widths):
            for layer in found:
                choose(layer, value)
        elif found := matching(name, weights):
            chosen += [(weight, value) for weight in found]
        else:
            near = nearest(name, [*widths, *weights, ALPHA])
            there = ", ".join(list(widths)[:12]) + (", ..." if len(widths) > 12 else "")
            raise ValueError(
                f"units: {name!r} is not a layer, attention head or weight of the network"
                f"{f'; did you mean {near}?' if near else '.'} There are the layers {there}, the "
                f"names of model.named_parameters(), and {ALPHA!r} for α"
            )
    result.units, result.weights = layers or None, distinct_weights(model, chosen)
    if result.alpha and (layers or result.weights):
        raise ValueError(
            f"units must not name {ALPHA!r} together with units or weights, whose dose has other "
            "units; nest two perturbations"
        )
    return result


def distinct_weights(model: nn.Module, chosen: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Chosen parts of weights by name; a weight that has several names is there once."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    first, result = dict[int, tuple[str, Tensor]](), dict[str, Any]()
    for name, where in chosen:
        mask = chosen_part(weights[name], where)
        other, there = first.setdefault(id(weights[name]), (name, mask))
        if not torch.equal(mask, there):
            raise ValueError(
                f"units must choose a weight once, but {other!r} and {name!r} are the same weight "
                "and choose different parts of it; choose all of them under one name"
            )
        result.setdefault(other, where)
    return result


def matching(pattern: str, names: Any) -> list[str]:
    """Names that are, or that match, a pattern; without a path to one of several outputs."""
    if pattern in names or PATH.search(pattern):
        return [pattern] if pattern in names else []
    return [name for name in names if fnmatchcase(name, pattern)]


def heads(
    model: NavigationTransformer, pattern: str, number: str, widths: Any, lags: Any
) -> dict[str, NDArray[np.int64]]:
    """Units (head × lag) of a head in the attention layers that match a pattern."""
    n_heads, layers = model.config.n_heads, matching(pattern.removeprefix(CONTENT), widths)
    if not layers or (number != "*" and int(number) >= n_heads):
        n_layers = model.config.n_layers
        raise ValueError(
            f"units must name attention.0 to attention.{n_layers - 1} with head.0 to "
            f"head.{n_heads - 1}, got '{pattern}.head.{number}'"
        )
    chosen = range(n_heads) if number == "*" else [int(number)]
    units = {}
    for layer in layers:
        table = np.arange(widths[layer], dtype=np.int64).reshape(n_heads, -1)
        units[layer] = np.concatenate([np.atleast_1d(table[head][lags]) for head in chosen])
    return units


def alpha_names(model: nn.Module, patterns: Any) -> list[str]:
    """Names of the NMDA_α modules that match patterns; all for a slice or None."""
    names = [name for name, module in model.named_modules() if isinstance(module, NMDA)]
    if not names:
        raise ValueError(
            f"units: {ALPHA!r} needs NMDA activations, got none in {type(model).__name__}; put "
            "placeformer.NMDA modules into it, or perturb units"
        )
    if patterns is None or patterns == slice(None):
        return names
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in given:
        if not matching(pattern, names):
            raise ValueError(
                f"units[{ALPHA!r}] must name NMDA modules ({', '.join(names)}), got {pattern!r}"
            )
    return [name for name in names if any(matching(pattern, [name]) for pattern in given)]


def check_rule(targets: Parsed, how: str | Function | None) -> str | Function:
    """Return the kind of change; raise for an unknown one, and for one that does not apply."""
    if how is None and targets.alpha:
        return "clamp"
    if how is None:
        raise ValueError(
            f"how must be given for units and weights: {', '.join((*REPLACEMENTS, *KINDS))}, or a "
            "function, got None"
        )
    if callable(how):
        return how
    if targets.alpha:
        check_option("how", how, OF_ALPHA)
    elif targets.weights:
        check_option("how", how, OF_WEIGHTS)
    return check_kind(how)


def check_alpha_dose(how: str | Function, dose: Any) -> float | None:
    """Return the dose of α; a new α must be a valid one."""
    if how == "clamp":
        if dose is None:
            raise ValueError(f"dose must be the new α for units={ALPHA!r}, got None")
        return check_alpha(dose)
    value = check_dose(how, dose)
    if isinstance(value, xr.DataArray):
        raise ValueError(f"dose must be one number for units={ALPHA!r}, got a DataArray")
    return value


@contextmanager
def alpha_perturbed(
    model: nn.Module,
    names: Sequence[str],
    how: str | Function,
    dose: Any,
    steps: Steps | None,
    reference: Reference = None,
    dims: Dims | Mapping[str, Dims] | None = None,
) -> Iterator[None]:
    """Change α of these modules, at all steps or at some."""

    def change(alpha: float) -> float:
        if callable(how):
            return float(how(alpha) if dose is None else how(alpha, dose))
        return {"clamp": dose, "gain": alpha * dose, "add": alpha + dose}[how]

    if steps is None:
        with alpha_changed(model, change, set(names)):
            yield
        return
    axes, modules, hooks = axes_by_layer(dims, names, model), dict(model.named_modules()), []
    for name in names:
        module = modules[name]
        assert isinstance(module, NMDA)
        check_alpha(change(module.alpha))
        if isinstance(model, NavigationTransformer):
            site = Site(name, "", module, model.config.d_inner)
        else:
            (site,) = sites(model, name, recordings(reference), axes.get(name))
        about = {"alpha": name, "how": name_of(how), "dose": dose}
        hooks.append(AlphaHook(site, None, EVERYWHERE, steps, alpha=change, about=about))
    with hooked(model, hooks):
        yield


EVERYWHERE = Dosed("clamp", torch.tensor(True))
"""Change that makes everything true."""


@dataclass(eq=False, kw_only=True)
class AlphaHook(LesionHook):
    """Forward hook that changes α of an NMDA_α module at some steps, and can say how.

    The steps of an output, whatever its axes and however many of them it holds, are those at which
    a lesion of all units would change it.
    """

    alpha: Callable[[float], float]
    about: dict[str, Any]
    first = True  # α acts within the module, lesions act on its output
    now: tuple[Tensor, list[float]] | None = field(default=None, init=False)
    """Number of the α of every element of the present output after this change, and its values."""

    def describe(self) -> dict[str, Any]:
        """Module, the change of its α, and when."""
        assert self.steps is not None
        return {**self.about, **self.steps.describe()}

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        """Return the output with another α at the steps."""
        assert isinstance(module, NMDA)
        self.called = True
        x = args[0] if args else kwargs["x"]
        hooks = [hook for hook in module._forward_hooks.values() if isinstance(hook, AlphaHook)]
        earlier = hooks[: hooks.index(self)]
        before = earlier[-1].now if earlier else None
        if before is None:
            before = torch.zeros_like(output, dtype=torch.long), [module.alpha]
        number, alphas = before[0].clone(), [*before[1]]
        here = self.lesion(torch.zeros_like(output, dtype=torch.bool))
        for k in number[here].unique().tolist():
            part = here & (number == k)
            alphas.append(check_alpha(self.alpha(alphas[k])))
            output = torch.where(part, nmda(x, alphas[-1], module.beta), output)
            number[part] = len(alphas) - 1
        self.now = number, alphas
        return output

    def check_whole(self) -> None:
        """Modules that share the NMDA_α have the same steps."""


def chosen_part(weight: Tensor, where: Any) -> Tensor:
    """Mask of the chosen part of a weight."""
    mask = torch.zeros(weight.shape, dtype=torch.bool, device="cpu")
    try:
        mask[torch.as_tensor(where) if isinstance(where, np.ndarray | list) else where] = True
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"units must choose weights by an index or a boolean mask of a tensor "
            f"{tuple(weight.shape)}, got {where!r:.80} ({error})"
        ) from None
    if not mask.any():
        raise ValueError(f"units must choose at least one weight, got none by {where!r:.80}")
    return mask.to(weight.device)


def weight_change(
    weight: Tensor, where: Any, how: str | Function, dose: Any, seed: int
) -> Callable[[Tensor], Tensor]:
    """Return a function of a weight that changes the chosen part of it."""
    if isinstance(dose, xr.DataArray):
        raise ValueError("dose must be one number for weights, got a DataArray over unit")
    mask = chosen_part(weight, where)

    def change(values: Tensor) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        chosen, share = values[mask], 1.0 if dose is None else dose
        if callable(how):
            return torch.where(mask, called(how, values, dose), values)
        if how in REPLACEMENTS:
            order = torch.randperm(len(chosen), generator=rng, device="cpu").to(values.device)
            target = {"zero": torch.zeros_like(chosen), "mean": chosen.mean().expand_as(chosen),
                      "resample": chosen[order]}[how]  # fmt: skip
            new = target if share == 1 else chosen + share * (target - chosen)
            neutral = share == 0
        else:
            noise = torch.randn(len(chosen), generator=rng, dtype=torch.float32, device="cpu")
            noise = noise.to(values)
            spread = chosen.std(correction=0) if how == "noise" else None
            rule = Dosed(how, torch.tensor(dose, dtype=torch.float32, device="cpu"))
            plain = how != "noise"
            new = rule(chosen, (1, 1), len(chosen)) if plain else chosen + dose * spread * noise
            neutral = dose == NEUTRAL.get(how)
        return values if neutral else values.masked_scatter(mask, new.contiguous())

    return change


@dataclass(eq=False)
class WeightNote:
    """Forward hook that changes nothing, and says how a weight is perturbed."""

    weight: str
    how: str | Function
    dose: Any
    seed: int
    where: Any

    def describe(self) -> dict[str, Any]:
        """Weight, how it is changed and by how much."""
        where = hashlib.sha256(repr(self.where).encode()).hexdigest()
        about = {"weight": self.weight, "how": name_of(self.how), "dose": self.dose}
        return {**about, "seed": self.seed, "where_sha256": where}

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Leave the output as it is."""
