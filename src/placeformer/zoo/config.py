"""The manifest ``config.json`` of a network, with checks of every key and value."""

from __future__ import annotations

import json
import math
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from placeformer.models.transformer import ModelConfig

FORMAT_VERSION, LIBRARY = 1, "placeformer"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
DTYPES = ("float16", "float32")
CUSTOM_DTYPES = (*DTYPES, "float64")
LARGEST = 2**20  # bytes of config.json
SHOWN = 12  # problems listed in one error

KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number of at most 63 bits", (int,)),
    "float": ("a number", (int, float)),
    "float | None": ("a number or null", (int, float, type(None))),
    "str": ("text", (str,)),
    "pair": ("two whole numbers", (list,)),
    "pairs": ("a list of pairs of whole numbers", (list,)),
}
NETWORK = {f.name: str(f.type) for f in fields(ModelConfig)}
WORLD = dict.fromkeys(("side", "n_letters", "n_maps", "seed"), "int")
RECTANGLE = {"shape": "pair"} | {key: kind for key, kind in WORLD.items() if key != "side"}
STORED = dict.fromkeys(("file", "sha256", "dtype"), "str")
RESULT = {"value": "float", "definition": "str"}
CLASS = dict.fromkeys(("name", "module", "qualname"), "str")
IDENTIFIER = re.compile(r"[\w.<>-]{1,200}")
SECTIONS = ("format_version", "library", "network", "world", "weights")
CUSTOM_SECTIONS = ("format_version", "library", "class", "config", "weights")

Results = Mapping[str, Mapping[str, Any]]


class FolderError(ValueError):
    """A folder that cannot be read or written; the message lists everything that is wrong."""


@dataclass(frozen=True)
class Description:
    """Contents of ``config.json``.

    Attributes
    ----------
    sha256, dtype
        Checksum of the weight file, and dtype of its weights.
    results
        Name → value and definition.
    """

    sha256: str
    dtype: str
    results: Results

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the network besides its weights; the weight file stores it as well."""
        raise NotImplementedError


@dataclass(frozen=True)
class NavigationDescription(Description):
    """Contents of the ``config.json`` of a :class:`NavigationTransformer`.

    Attributes
    ----------
    network
        Sizes and activation.
    world
        Arguments of the :class:`GridWorld`; None for a network without a world.
    """

    network: ModelConfig
    world: Mapping[str, Any] | None

    @property
    def facts(self) -> dict[str, Any]:
        """Network and world as one flat mapping."""
        return facts(self.network, self.world)


@dataclass(frozen=True)
class CustomDescription(Description):
    """Contents of the ``config.json`` of a network of a registered class.

    Attributes
    ----------
    name
        Name under which the class is registered.
    module, qualname
        Where the class was defined when the network was saved. This is only for a hint: nothing is
        imported from there.
    config
        What the network is built from.
    """

    name: str
    module: str
    qualname: str
    config: Mapping[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """Name of the class, and its config as one flat mapping."""
        return custom_facts(self.name, self.config)


def refuse(what: str, problems: Sequence[str]) -> None:
    """Raise one error with all problems, if there are any."""
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        lines = "".join(f"\n  - {line}" for line in [*problems[:SHOWN], *more])
        raise FolderError(f"{what}:{lines}")


def parse(text: str) -> Any:
    """Parse JSON in which keys are unique and numbers are finite."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        key, times = Counter(k for k, _ in pairs).most_common(1)[0] if pairs else ("", 1)
        if times > 1:
            raise ValueError(f'the key "{key}" occurs {times} times')
        return dict(pairs)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=constant)


def parse_config(content: bytes, problems: list[str]) -> Description | None:
    """Read ``config.json``; None if anything is wrong, which is added to `problems`."""
    try:
        if len(content) > LARGEST:
            raise ValueError(f"{len(content)} bytes, more than {LARGEST}")
        entries = parse(content.decode())
    except (ValueError, RecursionError) as error:
        problems.append(f"{CONFIG}: expected JSON, got {error}")
        return None
    return check_config(entries, problems)


def check_config(entries: Any, problems: list[str]) -> Description | None:
    """Check every key, type and value of ``config.json``."""
    before = len(problems)
    custom = isinstance(entries, Mapping) and "class" in entries
    sections = CUSTOM_SECTIONS if custom else SECTIONS
    if not check_keys(entries, sections, CONFIG, problems, optional=("results",)):
        return None
    for key, expected in (("format_version", FORMAT_VERSION), ("library", LIBRARY)):
        if key in entries and (
            entries[key] != expected or type(entries[key]) is not type(expected)
        ):
            problems.append(
                f"{CONFIG}: {key}: expected {expected!r}, got {brief(entries[key])}; "
                "another version of placeformer may read it"
            )
    network = None if custom else check_network_entries(entries, problems)
    world = None if custom else entries.get("world")
    if custom:
        check_class_entries(entries, problems)
    if world is not None and check_world(world, problems) and network:
        check_letter_count(world["n_letters"], network.n_letters, problems)
    weights, results = entries.get("weights"), entries.get("results", {})
    if "weights" in entries and check_section(weights, STORED, "weights", problems):
        check_stored(weights, CUSTOM_DTYPES if custom else DTYPES, problems)
    check_results(results, problems)
    if len(problems) > before:
        return None
    stored = weights["sha256"], weights["dtype"], results
    if custom:
        return CustomDescription(*stored, **entries["class"], config=entries["config"])
    assert network is not None  # for the type checker: None comes with a problem
    return NavigationDescription(*stored, network, world)


def check_class_entries(entries: Mapping[str, Any], problems: list[str]) -> None:
    """Check the entries that describe a registered class."""
    about = entries["class"]
    if check_section(about, CLASS, "class", problems):
        problems += [
            f"{CONFIG}: class.{key}: expected a name, got {brief(value)}"
            for key, value in about.items()
            if not IDENTIFIER.fullmatch(value)
        ]
    if "config" in entries and not isinstance(entries["config"], Mapping):
        problems.append(f"{CONFIG}: config: expected an object, got {brief(entries['config'])}")


def check_network_entries(entries: Mapping[str, Any], problems: list[str]) -> ModelConfig | None:
    """Return the configuration; None if anything is wrong, which is added to `problems`."""
    if "network" not in entries:
        return None
    if not check_section(entries["network"], NETWORK, "network", problems):
        return None
    try:
        return exact(entries["network"])
    except (ValueError, OverflowError) as error:
        problems.append(f"{CONFIG}: network: {error}")
        return None


def exact(network: Mapping[str, Any]) -> ModelConfig:
    """Build the configuration, converting integers to float where a float is expected."""
    values: dict[str, Any] = {
        key: float(value) if NETWORK[key].startswith("float") and value is not None else value
        for key, value in network.items()
    }
    return ModelConfig(**values)


def check_world(world: Any, problems: list[str]) -> bool:
    """Check the arguments of a world; True if nothing is wrong."""
    given = world if isinstance(world, Mapping) else {}
    kinds = dict(RECTANGLE if "shape" in given else WORLD)
    if "walls" in given:
        kinds["walls"] = "pairs"
    return check_section(world, kinds, "world", problems)


def n_places(world: Mapping[str, Any]) -> int:
    """Number of places of a world, from its arguments."""
    return math.prod(world["shape"]) if "shape" in world else int(world["side"] ** 2)


def check_letter_count(found: int, expected: int, problems: list[str]) -> None:
    """Check that world and network have the same number of letters."""
    if found != expected:
        problems.append(
            f"{CONFIG}: world.n_letters: expected {expected} (network.n_letters), got {found}"
        )


def check_stored(weights: Mapping[str, str], dtypes: Sequence[str], problems: list[str]) -> None:
    """Check the values of the section on the weight file."""
    rules = {"file": re.escape(WEIGHTS), "sha256": "[0-9a-f]{64}", "dtype": "|".join(dtypes)}
    wanted = {"file": WEIGHTS, "sha256": "64 digits 0–9a–f", "dtype": " or ".join(dtypes)}
    for key, rule in rules.items():
        if not re.fullmatch(rule, weights[key]):
            problems.append(
                f"{CONFIG}: weights.{key}: expected {wanted[key]}, got {brief(weights[key])}"
            )


def check_results(results: Any, problems: list[str]) -> None:
    """Check that every result is a finite number with a definition."""
    if not isinstance(results, Mapping):
        problems.append(f"{CONFIG}: results: expected an object, got {brief(results)}")
        return
    for name, entry in results.items():
        if check_section(entry, RESULT, f"results.{name}", problems):
            value = entry["value"]
            if not abs(value) <= sys.float_info.max:
                problems.append(
                    f"{CONFIG}: results.{name}.value: expected a finite number, got {brief(value)}"
                )


def check_section(entries: Any, kinds: Mapping[str, str], where: str, problems: list[str]) -> bool:
    """Check keys and types of one object; True if nothing is wrong."""
    before = len(problems)
    if check_keys(entries, kinds, f"{CONFIG}: {where}", problems):
        for key in (k for k in kinds if k in entries):
            if not is_a(entries[key], kinds[key]):
                problems.append(
                    f"{CONFIG}: {where}.{key}: expected {KINDS[kinds[key]][0]}, "
                    f"got {brief(entries[key])}"
                )
    return len(problems) == before


def is_a(value: Any, kind: str) -> bool:
    """Return whether a value is of this kind; a bool does not count as a number."""
    right = isinstance(value, KINDS[kind][1]) and not isinstance(value, bool)
    if kind == "pairs":
        return right and all(is_a(pair, "pair") for pair in value)
    if kind == "pair":
        return right and len(value) == 2 and all(is_a(item, "int") for item in value)
    return right and (kind != "int" or abs(value) < 2**63)


def check_keys(
    entries: Any,
    expected: Collection[str],
    where: str,
    problems: list[str],
    optional: Collection[str] = (),
) -> bool:
    """Report unknown and missing keys; False only if `entries` is not an object."""
    if not isinstance(entries, Mapping):
        keys = f" with {' and '.join(expected)}" if len(expected) < 3 else ""
        problems.append(f"{where}: expected an object{keys}, got {brief(entries)}")
        return False
    for key in entries:
        if key not in expected and key not in optional:
            near = get_close_matches(str(key), [*expected, *optional], 1)
            hint = f", did you mean {near[0]}?" if near else f"; expected {', '.join(expected)}"
            problems.append(f'{where}: unknown key "{key}"{hint}')
    problems += [f'{where}: missing key "{key}"' for key in expected if key not in entries]
    return True


def facts(network: ModelConfig, world: Mapping[str, Any] | None) -> dict[str, Any]:
    """Network and world as one flat mapping, from ``network.alpha`` to ``world.seed``."""
    flat = {f"network.{key}": value for key, value in asdict(network).items()}
    if world is None:
        return flat | {"world": None}
    return flat | {f"world.{key}": value for key, value in world.items()}


def custom_facts(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Name of a registered class, and the config of a network, as one flat mapping."""
    return {"class": name} | {f"config.{key}": value for key, value in config.items()}


def brief(value: Any) -> str:
    """Short form of a value for an error."""
    return reprlib.repr(value)
