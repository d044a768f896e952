"""Folders of networks: written as a whole, and read with strict checks and without pickle."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from placeformer._atomic import atomic_folder
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import NavigationTransformer
from placeformer.zoo.card import default_card
from placeformer.zoo.config import (
    CONFIG,
    DTYPES,
    FORMAT_VERSION,
    LIBRARY,
    WEIGHTS,
    WORLD,
    Description,
    FolderError,
    Results,
    check_results,
    exact,
    facts,
    read_config,
    refuse,
)
from placeformer.zoo.weights import (
    MAPS,
    check_network,
    exact_dtype,
    maps_of,
    read_tensors,
    weights_of,
)

CARD, HISTORY, RECIPE, CURVE = "README.md", "history.csv", "recipe.toml", "curve.png"
FILES = (CONFIG, WEIGHTS, CARD, HISTORY, RECIPE, CURVE)


def save(
    model: NavigationTransformer,
    folder: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    history: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    card: str | None = None,
    results: Results | None = None,
    overwrite: bool = False,
) -> None:
    """Write a network and its world to a folder that :func:`load` reads.

    The folder appears complete or not at all. It has the format of the networks of the zoo.

    Parameters
    ----------
    model
        A network, with or without a world.
    folder
        Folder to write, which must be new or empty.
    dtype
        "float16" halves the size of the file and rounds the weights; "float32" stores them exactly;
        "exact" is float16 if that does not round any weight, and float32 otherwise.
    history
        The history of the training: rows (one mapping each) or the path of a CSV file.
    recipe
        Path of the TOML recipe that it was trained with.
    card
        Text of the model card; by default a short card is written.
    results
        Measured numbers, ``{name: {"value": number, "definition": text}}``, which :func:`load`
        puts into ``model.info``.
    overwrite
        Replace a network that is in the folder; other files in it are kept.

    See Also
    --------
    load : Read the folder.
    push : Push a network to a model hub.

    Notes
    -----
    A network whose weights have not changed since it was loaded keeps its card, history, recipe and
    results, unless one of them is given.

    Raises
    ------
    FolderError
        If the folder is not empty or cannot be written, or a weight is not finite in `dtype`; a
        subclass of ValueError.
    TypeError, ValueError
        If `model` is another kind of network, or `dtype` is unknown.

    Examples
    --------
    >>> import placeformer as pf
    >>> from tempfile import TemporaryDirectory
    >>> model = pf.load("mini-nmda-a10")
    >>> with TemporaryDirectory() as folder:
    ...     pf.save(model, f"{folder}/copy")
    ...     pf.load(f"{folder}/copy").config == model.config
    True
    """
    if not isinstance(model, NavigationTransformer):
        raise TypeError(f"model must be a NavigationTransformer, got {type(model).__name__}")
    if dtype not in (*DTYPES, "exact"):
        raise ValueError(f'dtype must be "float16", "float32" or "exact", got {dtype!r}')
    dtype = exact_dtype(model) if dtype == "exact" else dtype
    target = Path(folder).expanduser().resolve()
    with new_folder(target, overwrite=overwrite) as new:
        files = pack(model, target.name, dtype, history, recipe, card, results)
        for name, content in files.items():
            write_file(new / name, content)


def read(folder: str | os.PathLike[str], *, pin: str | None = None) -> NavigationTransformer:
    """Read a network that :func:`save` wrote; anything that is not exactly as expected raises.

    Parameters
    ----------
    folder
        Folder with ``config.json`` and ``model.safetensors``.
    pin
        sha256 that the weight file must have, in addition to the one in ``config.json``.

    Returns
    -------
    NavigationTransformer
        float32, in eval mode, with `world` (its maps are the stored ones) and `info`: name, source,
        alpha, parameters, sha256, dtype, results (name → number) and definitions (name → text).

    Raises
    ------
    FolderError
        With every file and entry that is wrong, what was expected and what it got.
    """
    path, problems = Path(folder).expanduser(), list[str]()
    if not path.is_dir():
        raise FolderError(f"folder must be a folder with {CONFIG} and {WEIGHTS}, got {path}")
    said = read_config(path, problems)
    tensors = read_tensors(path, said, pin, problems)
    refuse(f"{path} cannot be loaded", problems)
    assert said is not None  # for the type checker: None comes with a problem
    model = build(path, said, tensors)
    model.info = {
        "name": path.resolve().name,
        "source": os.fspath(folder),
        "folder": os.path.abspath(path),
        "alpha": said.network.alpha,
        "parameters": sum(w.numel() for w in model.parameters()),
        "sha256": said.sha256,
        "dtype": said.dtype,
        "results": {name: entry["value"] for name, entry in said.results.items()},
        "definitions": {name: entry["definition"] for name, entry in said.results.items()},
    }
    return model


def build(folder: Path, said: Description, tensors: dict[str, Tensor]) -> NavigationTransformer:
    """Build the network without changing the random state of torch."""
    try:
        world = None if said.world is None else GridWorld(**said.world)
    except ValueError as error:
        raise FolderError(f"{folder} cannot be loaded: {CONFIG}: world: {error}") from error
    if world is not None:
        world.maps, world.novel_maps = (tensors.pop(name).numpy() for name in MAPS)
    with torch.device("meta"):  # no memory is taken and no random number drawn
        model = NavigationTransformer(said.network, world)
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    return model.requires_grad_().eval()


def pack(
    model: NavigationTransformer,
    name: str,
    dtype: str,
    history: Any,
    recipe: Any,
    card: str | None,
    results: Results | None,
) -> dict[str, bytes]:
    """Contents of every file of the folder `name`."""
    problems, old = list[str](), dict[str, bytes]()
    check_results({} if results is None else results, problems)
    extra = {HISTORY: history_text(history, problems), RECIPE: recipe_text(recipe, problems)}
    check_network(model, problems)
    refuse("the network cannot be saved", problems)
    tensors = weights_of(model, dtype, problems) | maps_of(model.world, problems)
    refuse("the network cannot be saved", problems)

    config, world = exact(asdict(model.config)), world_entries(model.world)
    weights = safetensors.torch.save(tensors, {LIBRARY: json.dumps(facts(config, world))})
    sha256 = hashlib.sha256(weights).hexdigest()
    if all(entry is None for entry in (history, recipe, card, results)):
        results, old = kept(model, sha256)
    entries = {
        "format_version": FORMAT_VERSION,
        "library": LIBRARY,
        "network": asdict(config),
        "world": world,
        "weights": {"file": WEIGHTS, "sha256": sha256, "dtype": dtype},
    }
    if results:
        entries["results"] = {key: dict(entry) for key, entry in results.items()}
    text = {CONFIG: json.dumps(entries, indent=2, ensure_ascii=False) + "\n"}
    text[CARD] = default_card(name, model, results or {}) if card is None else card
    text |= {file: content for file, content in extra.items() if content is not None}
    return {WEIGHTS: weights} | {file: content.encode() for file, content in text.items()} | old


def kept(model: NavigationTransformer, sha256: str) -> tuple[Results, dict[str, bytes]]:
    """Results and text files of the folder it was loaded from, if its weights are unchanged."""
    folder = Path(model.info.get("folder", os.devnull))
    said = read_config(folder, [])
    if said is None or said.sha256 != sha256:
        return {}, {}
    paths = {file: folder / file for file in FILES if file not in (CONFIG, WEIGHTS)}
    return said.results, {file: p.read_bytes() for file, p in paths.items() if p.is_file()}


def world_entries(world: GridWorld | None) -> dict[str, int] | None:
    """Return the arguments of a world."""
    return None if world is None else {key: int(getattr(world, key)) for key in WORLD}


def history_text(history: Any, problems: list[str]) -> str | None:
    """CSV text of a history that is given as rows or as a file."""
    if history is None:
        return None
    if isinstance(history, str | os.PathLike):
        return file_text(Path(history), "history", problems)
    if not history:
        problems.append("history: expected rows or a CSV file, got no rows")
        return None
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return stream.getvalue()


def recipe_text(recipe: Any, problems: list[str]) -> str | None:
    """Text of a TOML file."""
    text = None if recipe is None else file_text(Path(recipe), "recipe", problems)
    try:
        tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"recipe: expected TOML, got {error} in {recipe}")
    return text


def file_text(file: Path, argument: str, problems: list[str]) -> str | None:
    """Text of a file; a problem is added if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{argument}: expected a text file, got {error}")
        return None


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target` on success."""
    if target.exists() and not target.is_dir():
        raise FolderError(f"folder must be a folder, got the file {target}")
    if target.exists() and any(target.iterdir()) and not overwrite:
        raise FolderError(
            f"folder must be new or empty, got {target} with files in it; choose another one, or "
            "pass overwrite=True to replace the network there"
        )
    try:
        inside = target if target.is_dir() and os.path.ismount(target) else None
        with atomic_folder(target, inside, publish=replace_folder) as new:
            yield new
    except OSError as error:
        raise FolderError(f"folder must be where files can be written: {error}") from error


def write_file(file: Path, content: bytes) -> None:
    """Write a file and flush it to the disk."""
    with open(file, "xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_folder(new: Path, target: Path) -> None:
    """Replace `target` by `new`; keep files in `target` that are not part of a network."""
    if not target.exists():
        os.rename(new, target)
        return
    if os.path.ismount(target) or Path.cwd().is_relative_to(target.resolve()):
        for file in sorted(new.iterdir(), key=lambda file: file.name == CONFIG):  # which is last:
            os.replace(file, target / file.name)  # without it nothing there is a network
        return
    old = new.with_suffix(".old")
    os.rename(target, old)
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(old, target)
        raise
    for entry in old.iterdir():
        if entry.name not in FILES:
            os.rename(entry, target / entry.name)
    shutil.rmtree(old)
