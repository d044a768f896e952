"""Folders of networks: written as a whole, and read with strict checks and without pickle."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from placeformer._atomic import replaced_folder
from placeformer.models.fingerprints import remember
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import NavigationTransformer
from placeformer.zoo.card import custom_card, default_card
from placeformer.zoo.classes import check_registered
from placeformer.zoo.config import (
    CONFIG,
    CUSTOM_DTYPES,
    DTYPES,
    FORMAT_VERSION,
    LARGEST,
    LIBRARY,
    WEIGHTS,
    CustomDescription,
    Description,
    FolderError,
    NavigationDescription,
    Results,
    brief,
    check_results,
    custom_facts,
    exact,
    facts,
    parse_config,
    refuse,
)
from placeformer.zoo.custom import CustomLayout, contents
from placeformer.zoo.files import (
    CARD,
    FILES,
    HASHED,
    HISTORY,
    RECIPE,
    SMALL,
    SUMS,
    open_regular,
    read_checked,
    read_sums,
    refuse_special,
    sums_of,
)
from placeformer.zoo.weights import (
    MAPS,
    Layout,
    NavigationLayout,
    check_network,
    exact_dtype,
    maps_of,
    read_tensors,
    weights_of,
)


def save(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    dtype: str | None = None,
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
        A :class:`NavigationTransformer`, with or without a world, or a network whose class is
        registered, see :func:`register`.
    folder
        Folder to write, which must be new or empty.
    dtype
        "float16" halves the size of the file and rounds the weights; "float32" stores them exactly;
        "exact" is float16 if that does not round any weight, and float32 otherwise (or float64,
        which a network of a registered class may need). By default "float16" for a
        NavigationTransformer and "exact" for other networks. Integers are stored as they are.
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

    Raises
    ------
    FolderError
        If the folder is not empty or cannot be written, a weight is not finite in `dtype`, or the
        network does not compute what its config says (another activation, a hook, a lesion, an open
        block of :func:`magnesium`); a subclass of ValueError.
    TypeError, ValueError
        If the class of `model` is not registered, or `dtype` is unknown.

    See Also
    --------
    load : Read the folder.
    push : Push a network to a model hub.
    register : Save networks of your own class.

    Notes
    -----
    A network whose weights have not changed since it was loaded keeps its card, history, recipe and
    results, unless one of them is given.

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
    dtypes: tuple[str, ...] = (*DTYPES, "exact")
    if not isinstance(model, NavigationTransformer):
        check_registered(model)
        dtypes = (*CUSTOM_DTYPES, "exact")
    if dtype not in (None, *dtypes):
        raise ValueError(f"dtype must be one of {', '.join(dtypes)}, got {dtype!r}")
    if "\0" in os.fspath(folder):
        raise FolderError(f"folder must be a path without a NUL, got {folder!r}")
    target = Path(folder).expanduser().resolve()
    with new_folder(target, overwrite=overwrite) as new:
        files = pack(model, target.name, dtype, history, recipe, card, results)
        for name, content in files.items():
            (new / name).write_bytes(content)


def read(folder: str | os.PathLike[str], *, pin: str | None = None) -> Any:
    """Read a network that :func:`save` wrote; anything that is not exactly as expected raises.

    Parameters
    ----------
    folder
        Folder with ``config.json``, ``model.safetensors`` and ``SHA256SUMS``.
    pin
        sha256 that ``SHA256SUMS`` must have; it fixes every file of the folder.

    Returns
    -------
    NavigationTransformer or torch.nn.Module
        float32, in eval mode, with `world` (its maps are the stored ones) and `info`: name, source,
        alpha, parameters, sha256, dtype, results (name → number) and definitions (name → text). A
        network of a registered class has the dtypes that its class builds, no `world`, and `class`
        in place of `alpha`.

    Raises
    ------
    FolderError
        A file or an entry is wrong; all of them are listed, with what was expected and what was
        found.
    """
    path, problems = Path(folder).expanduser(), list[str]()
    if "\0" in os.fspath(folder) or not path.is_dir():
        raise FolderError(f"folder must be a folder with {CONFIG} and {WEIGHTS}, got {str(path)!r}")
    said, sums, _ = described(path, pin, problems)
    layout = None if said is None else layout_of(said, problems)
    tensors = read_tensors(path, layout, sums.get(WEIGHTS), problems)
    refuse(f"{path} cannot be loaded", problems)
    assert said is not None  # for the type checker: None comes with a problem
    about: dict[str, Any]
    model: nn.Module
    if isinstance(layout, CustomLayout):
        model, about = layout.network(tensors), {"class": layout.said.name}
    else:
        assert isinstance(said, NavigationDescription)  # for the type checker
        model, about = build(path, said, tensors), {"alpha": said.network.alpha}
    info = {
        "name": path.resolve().name,
        "source": os.fspath(folder),
        "folder": os.path.abspath(path),
        **about,
        "parameters": sum(w.numel() for w in model.parameters()),
        "sha256": said.sha256,
        "dtype": said.dtype,
        "results": {name: entry["value"] for name, entry in said.results.items()},
        "definitions": {name: entry["definition"] for name, entry in said.results.items()},
    }
    model.info = info  # type: ignore[assignment]
    remember(model)
    return model


def layout_of(said: Description, problems: list[str]) -> Layout | None:
    """Return what the weight file must hold; None with a problem if the class cannot be built."""
    if isinstance(said, NavigationDescription):
        return NavigationLayout(said)
    assert isinstance(said, CustomDescription)  # for the type checker
    try:
        return CustomLayout(said)
    except FolderError as error:
        problems.append(str(error))
        return None


def described(
    folder: Path, pin: str | None, problems: list[str]
) -> tuple[Description | None, dict[str, str], dict[str, bytes]]:
    """Read all but the weights: what ``config.json`` says, the checksums, and the files' contents.

    The description is None if anything in ``config.json`` is wrong; all that is wrong anywhere is
    added to `problems`.
    """
    sums = read_sums(folder, pin, problems)
    files = read_checked(folder, sums, problems)
    said = parse_config(files[CONFIG], problems) if CONFIG in files else None
    return said, sums or {}, files


def read_description(folder: Path, *, pin: str | None = None) -> NavigationDescription:
    """Read what ``config.json`` of a navigation Transformer says, and check all but the weights."""
    problems: list[str] = []
    said, _, _ = described(folder, pin, problems)
    if isinstance(said, CustomDescription):
        problems.append(f"{CONFIG}: expected a NavigationTransformer, got a {said.name}")
    refuse(f"{folder} cannot be read", problems)
    assert isinstance(said, NavigationDescription)  # for the type checker
    return said


def build(
    folder: Path, said: NavigationDescription, tensors: dict[str, Tensor]
) -> NavigationTransformer:
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


class Stored(NamedTuple):
    """What is stored of a network: sections of ``config.json``, facts for the header, tensors."""

    sections: dict[str, Any]
    facts: dict[str, Any]
    dtype: str
    tensors: dict[str, Tensor]

    def weights(self, *, tagged: bool = True) -> bytes:
        """Content of the weight file; older files are not tagged as PyTorch's."""
        content = safetensors.torch.save(self.tensors, {LIBRARY: json.dumps(self.facts)})
        return tagged_as_pytorch(content) if tagged else content


def tagged_as_pytorch(content: bytes) -> bytes:
    """Add ``"format": "pt"`` to a weight file, without which other libraries do not read it.

    The safetensors library itself writes several entries in an order that differs from call to
    call, which would change the checksum.
    """
    begin = 8 + int.from_bytes(content[:8], "little")
    opening, tag = b'{"__metadata__":{', b'"format":"pt",'
    header = content[8:begin].rstrip()
    assert header.startswith(opening)
    header = opening + tag + header[len(opening) :]
    header += b" " * (-len(header) % 8)  # the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + content[begin:]


def stored(model: nn.Module, dtype: str | None, problems: list[str]) -> Stored:
    """Return what is stored of a network in a dtype; None for the default of its kind."""
    if not isinstance(model, NavigationTransformer):
        name, cls = check_registered(model), type(model)
        config, dtype, tensors = contents(model, name, None if dtype == "exact" else dtype)
        place = {"name": name, "module": cls.__module__, "qualname": cls.__qualname__}
        sections: dict[str, Any] = {"class": place, "config": config}
        return Stored(sections, custom_facts(name, config), dtype, tensors)
    check_network(model, problems)
    refuse("the network cannot be saved", problems)
    dtype = exact_dtype(model) if dtype == "exact" else dtype or "float16"
    tensors = weights_of(model, dtype, problems) | maps_of(model.world, problems)
    network = exact(asdict(model.config))
    world = None if model.world is None else model.world.settings
    sections = {"network": asdict(network), "world": world}
    return Stored(sections, facts(network, world), dtype, tensors)


def pack(
    model: nn.Module,
    name: str,
    dtype: str | None,
    history: Any,
    recipe: Any,
    card: Any,
    results: Results | None,
) -> dict[str, bytes]:
    """Contents of every file of the folder `name`."""
    problems, old = list[str](), dict[str, bytes]()
    check_results({} if results is None else results, problems)
    extra = {HISTORY: history_text(history, problems), RECIPE: recipe_text(recipe, problems)}
    if not isinstance(card, str | None):
        problems.append(f"card: expected the text of the model card, got {brief(card)}")
    refuse("the network cannot be saved", problems)
    content = stored(model, dtype, problems)
    refuse("the network cannot be saved", problems)
    weights = content.weights()
    if all(entry is None for entry in (history, recipe, card, results)):
        results, old, weights = kept(model, content, weights)
    entries = {
        "format_version": FORMAT_VERSION,
        "library": LIBRARY,
        **content.sections,
        "weights": {
            "file": WEIGHTS,
            "sha256": hashlib.sha256(weights).hexdigest(),
            "dtype": content.dtype,
        },
    }
    if results:
        entries["results"] = {key: dict(entry) for key, entry in results.items()}
    text = {CONFIG: json.dumps(entries, indent=2, ensure_ascii=False) + "\n"}
    if len(text[CONFIG].encode()) > LARGEST:
        problems.append(f"config: expected at most {LARGEST:,} bytes in {CONFIG}, got more")
    refuse("the network cannot be saved", problems)
    text[CARD] = card_of(name, model, results or {}, content) if card is None else card
    text |= {file: content for file, content in extra.items() if content is not None}
    files = {WEIGHTS: weights} | {file: content.encode() for file, content in text.items()} | old
    return files | {SUMS: sums_of(files)}


def card_of(name: str, model: nn.Module, results: Results, content: Stored) -> str:
    """Return the short card of a network."""
    if isinstance(model, NavigationTransformer):
        return default_card(name, model, results)
    return custom_card(name, model, results, content.sections)


def kept(
    model: nn.Module, content: Stored, weights: bytes
) -> tuple[Results, dict[str, bytes], bytes]:
    """Results, text files and weights of the folder it was loaded from, if it is unchanged."""
    info = getattr(model, "info", {})
    if "folder" not in info:
        return {}, {}, weights
    folder, problems = Path(info["folder"]), list[str]()
    said, _, files = described(folder, None, problems)
    same = [
        candidate
        for candidate in (weights, content.weights(tagged=False))
        if said is not None and said.sha256 == hashlib.sha256(candidate).hexdigest()
    ]
    if said is None or not same:
        return {}, {}, weights
    refuse(f"the network cannot be saved with the files of {folder}", problems)
    old = {file: content for file, content in files.items() if file != CONFIG}
    return said.results, old, same[0]


def history_text(history: Any, problems: list[str]) -> str | None:
    """CSV text of a history that is given as rows or as a file."""
    if history is None:
        return None
    if isinstance(history, str | os.PathLike):
        return file_text(Path(history), "history", problems)
    rows: list[Any] = list(history) if isinstance(history, Sequence) else [None]
    if not all(isinstance(row, Mapping) for row in rows):
        problems.append(
            "history: expected a list of rows, one mapping each, or the path of a CSV file, got "
            f'{brief(history)}; a DataFrame gives rows by to_dict("records")'
        )
        return None
    if not rows:
        problems.append("history: expected rows or a CSV file, got no rows")
        return None
    if other := [row for row in rows if row.keys() != rows[0].keys()]:
        problems.append(
            f"history: expected the columns {brief(list(rows[0]))} in every row, got "
            f"{brief(list(other[0]))} in one"
        )
        return None
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def recipe_text(recipe: Any, problems: list[str]) -> str | None:
    """Text of a TOML file."""
    if not isinstance(recipe, str | os.PathLike | None):
        problems.append(
            f"recipe: expected the path of a TOML file, got {brief(recipe)}; write the text of a "
            "Recipe, its to_toml(), to a file"
        )
        return None
    text = None if recipe is None else file_text(Path(recipe), "recipe", problems)
    try:
        tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"recipe: expected TOML, got {error} in {recipe}")
    return text


def file_text(file: Path, argument: str, problems: list[str]) -> str | None:
    """Text of a file; a problem is added if it cannot be read."""
    try:
        with open_regular(file.expanduser(), follow=True) as stream:
            return stream.read(SMALL).decode("utf-8-sig")  # without a byte-order mark
    except ValueError as error:
        problems.append(f"{argument}: expected a text file, got {file}: {error}")
        return None


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target` on success.

    Files in `target` that are not part of a network are kept.
    """
    if target.exists() and not target.is_dir():
        raise FolderError(f"folder must be a folder, got the file {target}")

    def check() -> None:
        if target.exists() and any(target.iterdir()) and not overwrite:
            raise FolderError(
                f"folder must be new or empty, got {target} with files in it; choose another one, "
                "or pass overwrite=True to replace the network there"
            )

    check()
    problems: list[str] = []
    refuse_special(target, FILES, problems)
    refuse(f"{target} cannot be replaced", problems)
    try:
        with replaced_folder(target, FILES.__contains__, SUMS, check=check) as new:
            yield new
    except OSError as error:
        raise FolderError(f"folder must be a place where files can be written: {error}") from error


def write_sums(folder: Path) -> None:
    """Write the checksums of the files that are in a folder."""
    files = {name: (folder / name).read_bytes() for name in HASHED if (folder / name).is_file()}
    (folder / SUMS).write_bytes(sums_of(files))
