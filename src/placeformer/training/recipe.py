"""Recipes: everything that decides a trained network, as TOML files, and families of recipes."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from placeformer.models.transformer import ModelConfig

Schedule = tuple[tuple[int, int], ...]


WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Value:
    """What a key of a recipe may hold: a number, text, boolean, or a list of these or of pairs."""

    kind: type
    least: float = -np.inf
    most: float = np.inf
    form: str = "one"
    """"one" value; or a list of "two" values, of "any" number of values, of "couples" of values, or
    of "pairs" (step, value)."""
    below: bool = False
    """Whether `most` itself is excluded."""

    def checked(self, name: str, value: Any) -> Any:
        """Return the value, with lists as tuples and numbers of the right type; refuse others."""
        if self.form == "one":
            items = [value]
        elif not isinstance(value, list | tuple) or (self.form == "two" and len(value) != 2):
            raise self.wrong(name, value)
        elif self.form == "pairs":
            if any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in value):
                raise self.wrong(name, value)
            if not all(type(step) is int and 0 <= step < 2**63 for step, _ in value):
                raise self.wrong(name, value)
            items = [item for _, item in value]
        elif self.form == "couples":
            if any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in value):
                raise self.wrong(name, value)
            items = [item for pair in value for item in pair]
        else:
            items = list(value)
        if not all(map(self.is_right, items)):
            raise self.wrong(name, value)
        items = [float(item) if self.kind is float else item for item in items]
        if self.form == "pairs":
            return tuple((pair[0], item) for pair, item in zip(value, items, strict=True))
        if self.form == "couples":
            return tuple(zip(items[::2], items[1::2], strict=True))
        return items[0] if self.form == "one" else tuple(items)

    def is_right(self, item: Any) -> bool:
        """Whether one item is of the kind and in the range; a boolean is not a number."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(item) not in kinds:
            return False
        if self.kind in (str, bool):
            return True
        inside = abs(item) <= sys.float_info.max if self.kind is float else abs(item) < 2**63
        return bool(
            inside and self.least <= item <= self.most and (item < self.most or not self.below)
        )

    def wrong(self, name: str, value: Any) -> ValueError:
        """Error that says what was wanted."""
        wanted = WORDS[self.kind]
        if self.kind in (int, float):
            least = "" if self.least == -np.inf else f" of at least {self.least:g}"
            top = "below" if self.below else "at most"
            most = (
                "" if self.most == np.inf else f"{' and' if least else ' of'} {top} {self.most:g}"
            )
            if self.kind is int and not most:
                most = f"{' and' if least else ''} below 2**63"
            wanted += least + most
        forms = {
            "two": "a list of two values, each ",
            "any": "a list of values, each ",
            "pairs": "a list of pairs (step, value), each value ",
            "couples": "a list of pairs of values, each ",
        }
        return ValueError(f"{name} must be {forms.get(self.form, '')}{wanted}, got {value!r:.80}")


RANGES = {
    "steps": Value(int, 1),
    "walks": Value(int, 1),
    "chunks_per_walk": Value(int, 1, form="pairs"),
    "learning_rate": Value(float, 0),
    "warmup": Value(int, 0),
    "final_rate": Value(float, 0, 1),
    "restarts": Value(float, 0, form="pairs"),
    "betas": Value(float, 0, 1, "two", below=True),
    "weight_decay": Value(float, 0),
    "clip": Value(float, 0),
    "maps": Value(int, 1, form="pairs"),
    "fresh_maps": Value(float, 0, 1, "pairs"),
    "precision": Value(str),
    "compile": Value(bool),
    "evaluate_every": Value(int, 1),
    "checkpoint_every": Value(int, 1),
    "optimizer": Value(str),
    "muon_momentum": Value(float, 0, 1, below=True),
    "muon_matrices": Value(str, form="any"),
    "snapshots": Value(int, 0, form="any"),
    "earlier_maps": Value(int, 0),
    "rehearsal": Value(float, 0, 1, "pairs"),
    "alpha": Value(float, 0, form="pairs"),
}
"""Every key of a recipe's [training], and the schedule of α, which is written in [network]."""

WORLD = {
    "side": Value(int, 2),
    "shape": Value(int, 1, form="two"),
    "n_letters": Value(int, 2),
    "n_maps": Value(int, 1),
    "seed": Value(int, 0),
    "walls": Value(int, 0, form="couples"),
}
"""Every key of a recipe's [world]: `side` or `shape`, and `walls` only where there are any."""

INIT = {"source": Value(str), "weights_sha256": Value(str), "step": Value(int, 0)}
"""Every key of a recipe's [init]; `step` is for a snapshot only."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes
    ----------
    steps
        Optimiser steps; each learns from ``walks · chunk`` predictions.
    walks
        Number of walks at once.
    chunks_per_walk
        Pairs (step, number of chunks after which all walks start afresh, from that step on). Short
        walks come first: the path integrator must learn to tell places apart before it can do so
        over thousands of steps.
    learning_rate, warmup, final_rate
        Peak of the learning rate, steps of linear warm-up, and the fraction of the peak at which
        each cosine decay ends.
    restarts
        Pairs (step, peak): where the rate rises again and the decay starts afresh (Loshchilov
        & Hutter 2017, https://doi.org/10.48550/arXiv.1608.03983). Empty: one decay to the end.
    betas, weight_decay, clip
        AdamW's betas, the weight decay (matrices only), and the largest gradient norm.
    maps
        Pairs (step, number of trained maps in use from that step on), the first at step 0.
    fresh_maps
        Pairs (step, fraction of walks on maps drawn anew for each of them, from that step on). Such
        a map never occurs again, so only working memory can predict its letters; without such maps,
        recall of the trained maps takes the place of working memory.
    precision
        "float32", or "bfloat16" for autocast.
    compile
        Run the chunk through ``torch.compile``.
    evaluate_every, checkpoint_every
        Steps between evaluations, and between checkpoints.
    optimizer
        "adamw" for all weights, or "muon" for `muon_matrices` and AdamW for all others.
    muon_momentum, muon_matrices
        The momentum of Muon, and the layers whose matrices it updates, by the ends of their names.
    snapshots
        Steps after which the weights are written to ``snapshots/``; 0 is before the first step.
    earlier_maps
        Number of the first trained maps, which an earlier training has learnt; `maps` counts the
        maps that follow them.
    rehearsal
        Pairs (step, fraction of walks on the earlier maps, from that step on). Empty: none.
    alpha
        Pairs (step, α of NMDA_α from that step on), the first at step 0; empty if α does not
        change. In a recipe they are the value of ``network.alpha``.
    """

    steps: int
    walks: int
    chunks_per_walk: Schedule
    learning_rate: float
    warmup: int
    final_rate: float
    restarts: tuple[tuple[int, float], ...]
    betas: tuple[float, float]
    weight_decay: float
    clip: float
    maps: Schedule
    fresh_maps: tuple[tuple[int, float], ...]
    precision: str
    compile: bool
    evaluate_every: int
    checkpoint_every: int
    optimizer: str = "adamw"
    muon_momentum: float = 0.95
    muon_matrices: tuple[str, ...] = ("attention.out", "ffn.fc1", "ffn.fc2")
    snapshots: tuple[int, ...] = ()
    earlier_maps: int = 0
    rehearsal: tuple[tuple[int, float], ...] = ()
    alpha: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, value in RANGES.items():
            object.__setattr__(self, name, value.checked(f"training.{name}", getattr(self, name)))
        for name, kind, least, most in (
            ("maps", int, 1, np.inf),
            ("chunks_per_walk", int, 1, np.inf),
            ("fresh_maps", float, 0, 1),
        ):
            pairs = check_schedule(f"training.{name}", getattr(self, name), kind, least, most)
            object.__setattr__(self, name, pairs)
        self.check_rehearsal()
        if self.alpha:
            check_schedule("network.alpha", self.alpha, float, 0, np.inf)
            if self.alpha[-1][0] >= self.steps:
                raise ValueError(
                    f"network.alpha must start its last part before step {self.steps}, the end of "
                    f"the training, got {list(map(list, self.alpha))}"
                )
        starts = [step for step, _ in self.restarts]
        steps = [self.warmup, *starts, self.steps]
        if steps != sorted(steps) or len({*starts, self.steps}) <= len(starts):
            raise ValueError(
                "training.warmup, restarts and steps must be in ascending order, with restarts at "
                f"different steps, got {self.warmup}, {self.restarts}, {self.steps}"
            )
        self.check_optimizer()
        if list(self.snapshots) != sorted({s for s in self.snapshots if s <= self.steps}):
            raise ValueError(
                f"training.snapshots must be ascending steps from 0 to {self.steps}, "
                f"got {list(self.snapshots)}"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(
                f'training.precision must be "float32" or "bfloat16", got {self.precision!r}'
            )

    def check_rehearsal(self) -> None:
        """Check that there are maps to rehearse, and enough walks for them and for fresh maps."""
        if not self.rehearsal:
            return
        check_schedule("training.rehearsal", self.rehearsal, float, 0, 1)
        if not self.earlier_maps:
            raise ValueError(
                "training.rehearsal must be left out unless training.earlier_maps is above 0, got "
                f"{list(map(list, self.rehearsal))}"
            )
        for step in sorted({step for step, _ in (*self.rehearsal, *self.fresh_maps)}):
            share = at(self.rehearsal, step) + at(self.fresh_maps, step)
            if share > 1:
                raise ValueError(
                    "training.rehearsal and training.fresh_maps must be at most 1 together, got "
                    f"{share:g} at step {step}"
                )

    def check_optimizer(self) -> None:
        """Check the optimizer and its settings; those of Muon are refused without it."""
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(
                f'training.optimizer must be "adamw" or "muon", got {self.optimizer!r}'
            )
        settings = ("muon_momentum", "muon_matrices")
        changed = [key for key in settings if getattr(self, key) != DEFAULTS[key]]
        if self.optimizer == "adamw" and changed:
            raise ValueError(
                f'training.{changed[0]} must be left out unless training.optimizer is "muon", '
                f"got {getattr(self, changed[0])!r}"
            )

    @property
    def between_evaluations(self) -> int:
        """Largest number of steps between evaluations; the last one follows the last step."""
        return min(self.evaluate_every, self.steps)

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then cosine decays."""
        starts = ((self.warmup, self.learning_rate), *self.restarts, (self.steps, 0.0))
        now = max(0, sum(start <= step for start, _ in starts[:-1]) - 1)
        (start, peak), (end, _) = starts[now : now + 2]
        done = min(1.0, max(0, step - start) / max(1, end - start))
        decay = self.final_rate + (1 - self.final_rate) * (1 + np.cos(np.pi * done)) / 2
        return float(peak * min(1, (step + 1) / max(1, self.warmup)) * decay)


DEFAULTS = {f.name: f.default for f in fields(TrainingConfig) if f.default is not MISSING}
"""Keys of a recipe's [training] that may be left out, and what they are then."""


def check_schedule(
    name: str, pairs: Any, kind: type, least: float, most: float
) -> tuple[tuple[int, Any], ...]:
    """Return pairs (step, value) as tuples; steps must rise from 0, and values be in range."""
    schedule = tuple((int(step), kind(value)) for step, value in pairs)
    starts = [step for step, _ in schedule]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise ValueError(f"{name} must start at step 0 and rise, got {pairs}")
    if not all(least <= value <= most for _, value in schedule):
        raise ValueError(f"{name} must hold values of {least} to {most}, got {pairs}")
    return schedule


def at(schedule: tuple[tuple[int, Any], ...], step: int) -> Any:
    """Return what a schedule holds at a step."""
    return [value for start, value in schedule if start <= step][-1]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained network: seed, world, network, training, first weights.

    Attributes
    ----------
    name
        Name of the network and of its folder.
    seed
        Random seed of the first weights, the walks and the fresh maps.
    world
        Arguments of the :class:`placeformer.GridWorld`.
    network
        Sizes and activation.
    training
        How it is trained.
    init
        For a network that is fine-tuned: the `source` of the weights it starts from (what
        :func:`placeformer.load` takes), their SHA-256, `weights_sha256`, and for a snapshot its
        `step`. None for weights drawn from the seed.
    """

    name: str
    seed: int
    world: Mapping[str, Any]
    network: ModelConfig
    training: TrainingConfig
    init: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name, re.ASCII):
            raise ValueError(
                "name must be letters, digits, points, dashes and underscores, and start with a "
                f"letter or digit, since it becomes the name of a folder, got {self.name!r}"
            )
        if self.training.alpha and self.network.alpha != self.training.alpha[-1][1]:
            raise ValueError(
                f"network.alpha must be that of the end of training.alpha, "
                f"{self.training.alpha[-1][1]:g}, got {self.network.alpha!r}"
            )

    @classmethod
    def read(cls, file: str | Path) -> Recipe:
        """Read a TOML recipe; unknown and missing keys raise an error that names them."""
        file = Path(file).expanduser()
        return cls.from_dict(read_toml(read_recipe_file(file), file), str(file))

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any], source: str = "recipe") -> Recipe:
        """Build a recipe from its tables; see :meth:`read`."""
        optional = ("init",) if "init" in entries else ()
        expect(entries, ("name", "seed", "world", "network", "training", *optional), source)
        size = world_keys(entries["world"], f"{source} [world]")
        for table in ("network", "training"):
            expect_table(entries[table], f"{source} [{table}]")
        network: dict[str, Any] = {"alpha": None} | dict(entries["network"])
        expect(network, [f.name for f in fields(ModelConfig)], f"{source} [network]")
        keys = [f.name for f in fields(TrainingConfig) if f.name != "alpha"]
        training = {key: DEFAULTS[key] for key in keys if key in DEFAULTS}
        training |= dict(entries["training"])
        expect(training, keys, f"{source} [training]")
        if isinstance(network["alpha"], list | tuple):
            pairs = RANGES["alpha"].checked("network.alpha", network["alpha"])
            training["alpha"] = check_schedule("network.alpha", pairs, float, 0, np.inf)
            network["alpha"] = pairs[-1][1]
        for key in ("dropout", "alpha"):
            if network[key] is not None:
                network[key] = Value(float, 0).checked(f"network.{key}", network[key])
        Value(str).checked("network.activation", network["activation"])
        return cls(
            Value(str).checked("name", entries["name"]),
            Value(int, 0).checked("seed", entries["seed"]),
            {k: WORLD[k].checked(f"world.{k}", entries["world"][k]) for k in size},
            ModelConfig(**network),
            TrainingConfig(**training),
            checked_init(entries["init"], source) if optional else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the tables :meth:`from_dict` takes; settings at their default are left out."""
        tables = asdict(self)
        training = tables["training"]
        given = {k: v for k, v in training.items() if k not in DEFAULTS or v != DEFAULTS[k]}
        if schedule := given.pop("alpha", None):
            tables["network"]["alpha"] = schedule
        rest = {k: v for k, v in tables.items() if k != "init" or v is not None}
        return rest | {"training": given}

    def to_toml(self) -> str:
        """Return the text of a file that :meth:`read` takes."""
        lines: list[str] = []
        for key, value in self.to_dict().items():
            if isinstance(value, dict):
                lines += ["", f"[{key}]"]
                lines += [f"{k} = {as_toml(v)}" for k, v in value.items() if v is not None]
            else:
                lines.append(f"{key} = {as_toml(value)}")
        return "\n".join(lines) + "\n"


def as_toml(value: Any) -> str:
    """A value as TOML: the same as JSON, except that no letter is written as two codes."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def checked_init(entries: Any, source: str) -> dict[str, Any]:
    """Return the table [init] of a recipe; refuse any other key or value."""
    expect_table(entries, f"{source} [init]")
    keys = [key for key in INIT if key != "step" or key in entries]
    expect(entries, keys, f"{source} [init]")
    init = {key: INIT[key].checked(f"init.{key}", entries[key]) for key in keys}
    if not re.fullmatch("[0-9a-f]{64}", init["weights_sha256"]):
        raise ValueError(
            f"init.weights_sha256 must be 64 digits 0–9a–f, got {init['weights_sha256']!r:.80}"
        )
    return init


def read_recipe_file(file: Path) -> bytes:
    """Content of the file of a recipe, which must be a regular file."""
    if "\0" in str(file):
        raise ValueError(f"recipe must be a path without a NUL, got {str(file)!r}")
    if not file.exists():
        raise FileNotFoundError(
            f"recipe must be a TOML file; there is nothing at {file} (in {Path.cwd()}). The "
            "recipes of the zoo are in zoo/recipes and zoo/families of a clone"
        )
    if not file.is_file():
        raise ValueError(f"recipe must be a TOML file, got {file}, which is not a regular file")
    return file.read_bytes()


def read_toml(content: bytes, file: Path) -> dict[str, Any]:
    """Parse the content of a TOML file; an error names it."""
    try:
        return tomllib.loads(content.decode("utf-8-sig"))  # editors may write a byte-order mark
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{file} must be TOML: {error}") from error


def expect_table(entries: Any, where: str) -> None:
    """Refuse anything that is not a table."""
    if not isinstance(entries, Mapping):
        raise ValueError(f"{where} must be a table, got {entries!r:.80}")


def expect(entries: Mapping[str, Any], keys: Any, where: str) -> None:
    """Refuse unknown or missing keys by name."""
    expect_table(entries, where)
    unknown, missing = sorted(set(entries) - set(keys)), sorted(set(keys) - set(entries))
    if unknown or missing:
        raise ValueError(
            f"{where}: unknown keys {unknown or 'none'}, missing keys {missing or 'none'}; "
            f"expected exactly {sorted(keys)}"
        )


def world_keys(world: Any, where: str) -> list[str]:
    """Keys of a world, in the order of :data:`WORLD`; refuse unknown or missing keys by name."""
    expect_table(world, where)
    absent = {"side"} if "shape" in world else {"shape"}
    keys = [key for key in WORLD if key not in absent and (key != "walls" or key in world)]
    expect(world, keys, where)
    return keys


SHARED = [f.name for f in fields(ModelConfig) if f.name not in ("activation", "alpha")]
LISTS: dict[str, tuple[str, tuple[type, ...]]] = {
    "alphas": ("numbers", (int, float)),
    "activations": ("names", (str,)),
    "seeds": ("whole numbers", (int,)),
}


def read_recipes(file: str | Path) -> dict[str, str]:
    """Read the recipes in a TOML file: the one it is, or one for each member of its family.

    Parameters
    ----------
    file
        A recipe, or a family: see :func:`members`.

    Returns
    -------
    dict
        Name → text of its recipe as a TOML file.
    """
    content = read_recipe_file(Path(file).expanduser())
    entries, text = read_toml(content, Path(file)), content.decode("utf-8-sig")
    if "family" not in entries:
        return {Recipe.from_dict(entries, str(file)).name: text}
    about = f"# A member of the family {Path(file).name}.\n"
    return {member.name: about + member.to_toml() for member in members(entries, str(file))}


def members(entries: Mapping[str, Any], source: str = "family") -> list[Recipe]:
    """Expand a family into its recipes.

    Parameters
    ----------
    entries
        The tables ``world``, ``network`` and ``training`` of a recipe without what the members
        differ in (``name``, ``seed``, ``network.activation``, ``network.alpha``), and the table
        ``family``: ``prefix`` of their names, and the lists ``alphas`` of NMDA_α, ``activations``
        in its place, and ``seeds``. It may also have a table ``schedules``: name → schedule of α,
        such as ``{"blocked-late" = [[0, 10.0], [2000, 0.1]]}``. With ``world.seed`` all members
        share one world; without it the maps are drawn from each member's own seed.
    source
        Where the entries are from, for errors.

    Returns
    -------
    list of Recipe
        Seed by seed, each in the order of the lists. A seed is that of the initial weights and the
        walks; names end in the seed, such as "-s1", except for seed 0.
    """
    expect(entries, ("family", "world", "network", "training"), source)
    expect_table(entries["family"], f"{source} [family]")
    family: dict[str, Any] = {"schedules": {}} | dict(entries["family"])
    expect(family, ("prefix", *LISTS, "schedules"), f"{source} [family]")
    expect_table(family["schedules"], f"{source} [family.schedules]")
    check_lists(family, source)
    expect_table(entries["world"], f"{source} [world]")
    shared = entries["world"].get("seed")
    world = {"seed": shared, **entries["world"]}
    world_keys(world, f"{source} [world]")
    expect(entries["network"], SHARED, f"{source} [network]")
    units: list[tuple[str, str, Any]]
    units = [(f"nmda-a{alpha:g}", "nmda", float(alpha)) for alpha in family["alphas"]]
    units += [(name, "nmda", schedule) for name, schedule in family["schedules"].items()]
    units += [(activation, activation, None) for activation in family["activations"]]
    found = [
        Recipe.from_dict(
            {
                "name": f"{family['prefix']}{unit}" + (f"-s{seed}" if seed else ""),
                "seed": seed,
                "world": {**entries["world"], "seed": seed if shared is None else shared},
                "network": {**entries["network"], "activation": activation, "alpha": alpha},
                "training": entries["training"],
            },
            source,
        )
        for seed in family["seeds"]
        for unit, activation, alpha in units
    ]
    twice = [name for name, times in Counter(member.name for member in found).items() if times > 1]
    if twice or not found:
        raise ValueError(
            f"{source} [family] must name one member or more, each once, "
            f"got {', '.join(twice) + ' more than once' if twice else 'none'}"
        )
    return found


def check_lists(family: Mapping[str, Any], source: str) -> None:
    """Refuse a value that is not a list, or a list with items of another type."""
    for key, (what, kinds) in LISTS.items():
        value = family[key]
        if not isinstance(value, list) or any(type(item) not in kinds for item in value):
            raise ValueError(f"{source} [family]: {key} must be a list of {what}, got {value!r}")
