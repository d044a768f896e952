"""The user's own networks: classes that are registered by name and built from their config."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from placeformer.models.fingerprints import TABLES, is_setting, same_values, texts
from placeformer.models.transformer import NavigationTransformer
from placeformer.zoo.config import CONFIG, FolderError, brief

Network = TypeVar("Network", bound=type[nn.Module])

CLASSES: dict[str, type[nn.Module]] = {}
"""Name → class, for the classes registered in this process."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
RESERVED = ("navigation-transformer", "navigationtransformer", "placeformer")
DEEPEST = 32  # nested objects in a config


def register(name: str) -> Callable[[Network], Network]:
    """Register a class of networks, so that they can be saved, pushed and loaded.

    The attribute (or property) `config` of the network says how it was built: a mapping, or a
    dataclass, of values that JSON has. :func:`save` stores it; :func:`load` builds the network
    again by calling the class with `config` as keyword arguments or, if the class has it, the
    classmethod ``from_config(config)``, and then fills in the weights. Only code that the user has
    imported is run: a folder or repository names the class, but nothing is imported by that name.

    Parameters
    ----------
    name
        Name of the class in the folders, such as "my-rnn": letters, digits, points, dashes and
        underscores, at most 96. It should stay the same for as long as the folders are read.

    Returns
    -------
    callable
        A decorator that returns the class as it is.

    Raises
    ------
    TypeError
        What is decorated is not a subclass of ``torch.nn.Module``, or is a NavigationTransformer,
        which is saved without being registered.
    ValueError
        A name that is reserved or taken by another class, a class that has a name already, or one
        with an attribute `info`, in which :func:`load` states where a network is from.

    See Also
    --------
    save, push, load : What a registered class can be used with.
    record : Record a network of any class, registered or not.

    Notes
    -----
    Tuples in `config` come back as lists. Everything that decides what the network computes must
    follow from `config` or be a parameter or persistent buffer: :func:`save` builds a second
    network from `config` and refuses one that differs in its modules, in the shapes, types and
    sharing of its tensors, in attributes (numbers, texts, functions, tensors, and containers of
    them, whose name does not start with an underscore), in hooks, or in buffers that are not
    persistent. Tensors and containers that only one of the two has are accepted, since a run may
    have left them.

    Examples
    --------
    >>> import tempfile
    >>> import placeformer as pf
    >>> import torch
    >>> @pf.register("my-rnn")
    ... class MyRNN(torch.nn.Module):
    ...     def __init__(self, n_units):
    ...         super().__init__()
    ...         self.config = {"n_units": n_units}
    ...         self.rnn = torch.nn.GRU(2, n_units, batch_first=True)
    ...
    ...     def forward(self, velocity):
    ...         return self.rnn(velocity)[0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pf.save(MyRNN(16), f"{folder}/first")
    ...     model = pf.load(f"{folder}/first")
    >>> model.config, model.info["class"]
    ({'n_units': 16}, 'my-rnn')
    """
    if not isinstance(name, str):
        raise TypeError(f'name must be text, as in @pf.register("my-rnn"), got {brief(name)}')
    if not NAME.fullmatch(name):
        raise ValueError(
            "name must be 1 to 96 letters, digits, points, dashes and underscores and start with "
            f"a letter or digit, got {name!r:.200}"
        )
    if name.lower() in RESERVED:
        raise ValueError(f"name must not be one of {', '.join(RESERVED)}, got {name!r}")

    def decorate(cls: Network) -> Network:
        check_class(cls, name)
        for other in [n for n, c in CLASSES.items() if same_place(c, cls)]:
            del CLASSES[other]  # the cell of a notebook, or the module, was run again
        CLASSES[name] = cls
        return cls

    return decorate


def check_class(cls: Any, name: str) -> None:
    """Raise for what cannot be registered under a name."""
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise TypeError(
            f"@pf.register({name!r}) must decorate a subclass of torch.nn.Module, got {brief(cls)}"
        )
    if issubclass(cls, NavigationTransformer):
        raise TypeError(
            f"@pf.register({name!r}) must decorate a class of your own, got {cls.__name__}, a "
            "NavigationTransformer: those are saved and loaded without being registered. A network "
            "that contains one can be registered"
        )
    if hasattr(cls, "info"):
        raise ValueError(
            f"{cls.__name__} must not have an attribute info, in which pf.load states where a "
            "network is from; give it another name"
        )
    taken = CLASSES.get(name)
    if taken is not None and not same_place(taken, cls):
        raise ValueError(
            f"name must be free, got {name!r}, which is already the name of {place_of(taken)}; "
            f"choose another one for {place_of(cls)}"
        )
    known = name_of(cls)
    if known not in (None, name):
        raise ValueError(
            f"{cls.__name__} must have one name, got {name!r}, but it is registered as {known!r}"
        )


def same_place(a: type, b: type) -> bool:
    """Whether two classes are, or were, defined at the same place."""
    return place_of(a) == place_of(b)


def place_of(cls: type) -> str:
    """Module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def name_of(cls: type) -> str | None:
    """Name that a class is registered by; None if it is not."""
    return next((name for name, other in CLASSES.items() if other is cls), None)


def check_registered(model: object) -> str:
    """Return the name of a network's class; say how to register it if it is not."""
    if (name := name_of(type(model))) is not None:
        return name
    kind = type(model).__name__
    what = f"model must be a NavigationTransformer or of a registered class, got {kind}"
    inner = dict.fromkeys(("DataParallel", "DistributedDataParallel"), "module")
    inner["OptimizedModule"] = "_orig_mod"
    if not isinstance(model, nn.Module):
        how = f"pass the network itself, pf.load({model!r:.80})"
        how = how if isinstance(model, str | os.PathLike) else "pass a torch.nn.Module"
    elif kind in inner:
        how = f"pass the network inside, model.{inner[kind]}"
    elif type(model).__module__.startswith("torch.nn."):
        how = (
            f"write a class of your own that contains the {kind} and a config, and decorate it "
            'with @pf.register("my-network"); see pf.register'
        )
    else:
        how = (
            f'decorate the class {kind} with @pf.register("my-network"), and give it a config; '
            "see pf.register"
        )
    again = [c for c in CLASSES.values() if place_of(c) == place_of(type(model))]
    if again:
        how = "its class has been redefined since it was made; make the network again"
    raise TypeError(f"{what}; {how}")


def config_of(model: nn.Module, problems: list[str]) -> dict[str, Any]:
    """Return the `config` of a network as JSON has it; what is wrong is added to `problems`."""
    config = getattr(model, "config", None)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        problems.append(
            f"config: expected a mapping of what the class {type(model).__name__} is built with, "
            f'got {brief(config)}; write self.config = {{"n_units": n_units, ...}} in __init__'
        )
        return {}
    return dict(as_json(config, "config", problems))


def as_json(value: Any, where: str, problems: list[str], depth: int = 0) -> Any:
    """Return a value with lists in place of tuples; add to `problems` what JSON does not have."""
    if depth > DEEPEST:
        problems.append(f"{where}: expected at most {DEEPEST} nested objects, got more")
        return None
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                problems.append(f"{where}: expected keys that are text, got {brief(key)}")
        return {k: as_json(v, f"{where}.{k}", problems, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v, f"{where}[{i}]", problems, depth + 1) for i, v in enumerate(value)]
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, int) and not isinstance(value, Enum):
        if abs(value) >= 2**63:
            problems.append(f"{where}: expected at most 63 bits, got {brief(value)}")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.append(f"{where}: expected a finite number, got {value}; JSON has no other")
        return float(value)
    problems.append(
        f"{where}: expected what JSON has (None, bool, int, float, str, lists, and mappings with "
        f"text as keys), got {type(value).__name__} {brief(value)}; store a number or text, and "
        "convert it where the class is built"
    )
    return None


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the random states of torch, NumPy and Python afterwards."""
    numbers, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(numbers)
        np.random.set_state(legacy)  # noqa: NPY002


def build(cls: type[nn.Module], config: Mapping[str, Any]) -> nn.Module:
    """Build a network from its config.

    Raises
    ------
    FolderError
        The class raises an error, or returns something else.
    """
    make = getattr(cls, "from_config", None)
    call = f"{cls.__name__}.from_config(config)" if make else f"{cls.__name__}(**config)"
    given = copy.deepcopy(dict(config))
    try:
        with random_state_kept():
            network = cls(**given) if make is None else make(given)
    except Exception as error:
        raise FolderError(
            f"config: {call} must build the network, got {type(error).__name__}: {error}"
        ) from error
    if type(network) is not cls:
        raise FolderError(f"config: {call} must return a {cls.__name__}, got {brief(network)}")
    lazy = [name for name, weight in network.named_parameters() if is_lazy(weight)]
    if lazy:
        raise FolderError(
            f"config: {call} must build tensors with a shape, got {lazy[0]}, which has none before "
            "the first input; give the layer all of its sizes"
        )
    return network


def skeleton(cls: type[nn.Module], config: Mapping[str, Any]) -> nn.Module:
    """Build a network without memory for its tensors or, if the class cannot, with it.

    The sizes in an untrusted `config` thus cannot exhaust the memory before they are compared with
    the weights.
    """
    try:
        with torch.device("meta"):
            return build(cls, config)
    except FolderError as error:
        if "overflow" in str(error.__cause__):  # tensors of 2**63 bytes or more
            raise
        return build(cls, config)


def check_rebuilt(model: nn.Module, rebuilt: nn.Module, problems: list[str]) -> None:
    """Check that a network built from `config` computes the same, apart from the weights."""
    kind = f"in a {type(model).__name__} built from its config"
    if as_json(getattr(rebuilt, "config", None), "config", []) != as_json(model.config, "c", []):
        problems.append(
            f"config: expected {brief(model.config)} {kind}, got "
            f"{brief(getattr(rebuilt, 'config', None))}"
        )
    if hasattr(rebuilt, "info"):
        problems.append("info: expected no such attribute, in which pf.load states the source")
    check_modules(model, rebuilt, kind, problems)
    if sharing(model) != sharing(rebuilt):
        names = next(iter(sharing(model) ^ sharing(rebuilt)))
        problems.append(
            f"{' and '.join(sorted(names))}: expected them to share one tensor {kind} as they do "
            "in the network, or in neither; share them in __init__"
        )


def check_modules(model: nn.Module, rebuilt: nn.Module, kind: str, problems: list[str]) -> None:
    """Compare the modules of two networks: their classes, settings, attributes and hooks."""
    ours, theirs = settings_of(model), settings_of(rebuilt)
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        a, b = ours.get(name, "no module"), theirs.get(name, "no module")
        if a != b:
            problems.append(f"{name or 'the network'}: expected {b} {kind}, got {a}")
    modules = dict(rebuilt.named_modules())
    for name, module in model.named_modules():
        if name in modules:
            prefix = f"{name}." if name else ""
            compare_attributes(prefix, module, modules[name], kind, problems)


def settings_of(model: nn.Module) -> dict[str, str]:
    """Class and settings of every module, as PyTorch prints them, without addresses in memory."""
    texts = {
        name: f"{type(module).__name__}({module.extra_repr()})"
        for name, module in model.named_modules(remove_duplicate=False)
    }
    return {name: re.sub(r"0x[0-9a-f]+", "0x", text) for name, text in texts.items()}


def sharing(model: nn.Module) -> set[frozenset[str]]:
    """Sets of names of the same parameter or buffer, if it has several."""
    names: dict[int, set[str]] = {}
    for tensors in (model.named_parameters, model.named_buffers):
        for name, tensor in tensors(remove_duplicate=False):
            names.setdefault(id(tensor), set()).add(name)
    return {frozenset(same) for same in names.values() if len(same) > 1}


def compare_attributes(
    prefix: str, ours: nn.Module, theirs: nn.Module, kind: str, problems: list[str]
) -> None:
    """Compare attributes, hooks, and buffers that are not saved, of one module in two networks.

    A tensor or a container that is None or missing in one of the two networks is accepted, since a
    run may have left it in the other.
    """
    a, b = compared_attributes(ours), compared_attributes(theirs)
    for key in dict.fromkeys([*b, *a]):
        x, y = a.get(key), b.get(key)
        one = y if x is None else x if y is None else None
        run_leaves_it = isinstance(one, torch.Tensor | np.ndarray | Mapping | Set | list | tuple)
        if not run_leaves_it and described(x) != described(y):
            others = "other values" if shown(x) == shown(y) else shown(x)
            problems.append(
                f"{prefix}{key}: expected {shown(y)} {kind}, got {others}; make it part of config, "
                "a parameter or a buffer, or let its name start with an underscore if it does not "
                "matter"
            )
    if described(hooks_of(ours)) != described(hooks_of(theirs)):
        where = prefix.rstrip(".") or "the network"
        problems.append(
            f"{where}: expected the hooks that it has {kind}, got others; hooks, such as those of "
            "a lesion, are not saved: leave its block, remove them, or register them in __init__"
        )
    for key in sorted(ours._non_persistent_buffers_set & ours._buffers.keys()):
        x, y = ours._buffers[key], theirs._buffers.get(key)
        if (x is None) != (y is None) or (
            x is not None and y is not None and not same_values(x, y)
        ):
            problems.append(
                f"{prefix}{key}: expected the values {kind}, got others; a buffer with "
                "persistent=False is not saved"
            )


def compared_attributes(module: nn.Module) -> dict[str, Any]:
    """Attributes that may decide what a module computes: no private ones, and not the mode.

    Weights that ``weight_norm`` and ``spectral_norm`` compute at every call do not count.
    """
    hooks = module._forward_pre_hooks.values()
    computed = [hook.name for hook in hooks if isinstance(hook, WeightNorm | SpectralNorm)]
    return {
        key: value
        for key, value in vars(module).items()
        if key not in ("config", *computed) and is_setting(module, key, value)
    }


def hooks_of(module: nn.Module) -> list[Any]:
    """Forward hooks and pre-hooks of a module."""
    return [hook for table in TABLES for hook in getattr(module, table).values()]


def shown(value: Any) -> str:
    """A value for an error: the name of a function, and a short form of anything else."""
    name = getattr(value, "__name__", None) if callable(value) else None
    return str(name) if name else brief(value)


def described(value: Any) -> str:
    """A value as text, by which it is compared: code for functions, checksums for arrays."""
    return "".join(texts(value))


def explain_missing(name: str, module: str, qualname: str) -> str:
    """Say what to import for a folder of a class that is not registered."""
    where = f"{CONFIG}: class: expected a registered class, got {name!r}; "
    outer = qualname.partition(".")[0]
    if module == "__main__" or "<locals>" in qualname:
        return where + (
            f"{qualname} was defined in the script or notebook that saved the network: define "
            f'it here too, below @pf.register("{name}")'
        )
    return where + (
        f"it was {module}.{qualname} when it was saved: write `from {module} import {outer}` "
        f"before (on the command line: --import {module}), if you trust that module (placeformer "
        "imports nothing that a folder names), or define the class below "
        f'@pf.register("{name}")'
    )
