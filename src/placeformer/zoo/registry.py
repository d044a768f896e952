"""The zoo of trained networks: names, checksums, table, and loading by name."""

from __future__ import annotations

import os
import re
import tomllib
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from placeformer.models.activation import alpha_to_mg
from placeformer.models.transformer import NavigationTransformer
from placeformer.zoo import folder as hub
from placeformer.zoo import hub as remote
from placeformer.zoo.config import CONFIG, LIBRARY, FolderError, parse
from placeformer.zoo.files import RECIPE
from placeformer.zoo.snapshots import (
    MANIFEST,
    SNAPSHOTS,
    check_pin,
    check_step,
    read_manifest,
    read_snapshot,
)
from placeformer.zoo.weights import shapes

if TYPE_CHECKING:
    import pandas as pd

PINS = Path(__file__).with_name("pins.json")
TABLE = "table.json"
"""File next to the pins: rows of :func:`zoo_table`, for networks that are not in the package."""
ORGANISATION = "PLACEFORMER_ORGANISATION"
"""Environment variable: organisation whose repositories hold networks not in the package."""
SNAPSHOT_PINS = Path(__file__).with_name("snapshot_pins.json")
STEP = "step-"
"""Beginning of the revision of a repository that holds a snapshot, before the step."""
SILU = "nmda-a1"  # NMDA_1(x) = x · σ(x)
COLUMNS = {
    "name": "str",
    "alias": "str",
    "activation": "str",
    "alpha": "float64",
    "mg_mM": "float64",
    "n_maps": "Int64",
    "map_seed": "Int64",
    "seed": "Int64",
    "parameters": "int64",
    "working_error_trained": "float64",
    "reference_error_trained": "float64",
    "working_error_novel": "float64",
    "reference_error_novel": "float64",
    "place_cell_fraction_trained": "float64",
    "place_cell_fraction_novel": "float64",
    "sha256": "str",
    "location": "str",
}
"""Columns of :func:`zoo_table` and their types in pandas."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@\S+)?")


@torch.inference_mode(False)  # the network can be trained, wherever it is loaded
def load(
    source: str | os.PathLike[str],
    *,
    step: int | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    organisation: str | None = None,
) -> NavigationTransformer:
    """Load a network from the zoo, a folder or a model hub.

    Parameters
    ----------
    source
        A name from :func:`list_models` such as "nmda-a10" ("silu" in a name means "nmda-a1", which
        is the same function), a folder, or a repository of the hub ("org/name" or
        "hf:org/name", optionally with "@revision"). A name of the zoo takes precedence over a
        folder (write "./nmda-a10" for the folder), and a folder over a repository (write "hf:").
    step
        Load the network as it was after this many steps of its training, one of those that
        :func:`list_steps` gives, with the α that was then in force. Snapshots are in float16. Those
        of the zoo are in ``zoo/snapshots`` of a source checkout, or else downloaded, those of a
        training are in the folder of its run, and those of a repository in its revisions
        ``step-800`` and so on. By default the network as it was published.
    revision
        Branch, tag or commit of a repository, by default "main". Only a commit fixes the files.
    device
        Device of the network: "cpu", "cuda", …
    cache_dir, token, local_files_only, force_download
        For repositories: folder of the downloads, access token, whether to use only files in the
        cache, and whether to download cached files again. By default the environment variables
        ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` apply, as in huggingface_hub.
    organisation
        Where networks of the zoo that are not in the installed package are downloaded from: the
        repository "organisation/name" of the hub. By default the environment variable
        ``PLACEFORMER_ORGANISATION``, or "placeformer". Whoever publishes them, the files must be
        those that this version of the package has pinned.

    Returns
    -------
    NavigationTransformer
        The network in float32 and eval mode, with `config`, `world` and `info`; or a network of the
        registered class that was saved, in eval mode and with `info`, see :func:`register`.

    Raises
    ------
    TypeError
        If the source is neither text nor a path.
    ValueError
        If the network or the step does not exist, or the device cannot be used.
    FolderError
        If a file is missing or not exactly as expected, or cannot be downloaded, or the class of
        the network is not registered (the message says what to import); a subclass of ValueError.

    See Also
    --------
    list_models, zoo_table : The networks of the zoo.
    list_steps : The snapshots of a network.
    save, push : Write a network to a folder, or push it to a hub.
    register : Load networks of your own class.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> model.config.alpha, model.world.n_maps
    (10.0, 8)
    >>> pf.load("consolidation-nmda-a10", step=800).info["step"]
    800
    >>> model = pf.load("org/my-network@main")  # doctest: +SKIP
    """
    check_device(device)
    check_source(source)
    if step is not None:
        options: dict[str, Any] = {
            "cache_dir": cache_dir, "token": token, "local_files_only": local_files_only,
            "force_download": force_download,
        }  # fmt: skip
        return load_step(source, step, revision, organisation, **options).to(device)
    name = os.fspath(source)
    if re.match(r"\w+://", name):
        raise ValueError(
            f'source must be "org/name" for a repository of the hub, without the address, got '
            f"{name!r:.200}"
        )
    if "\0" in name:
        raise ValueError(f"source must be a name or a path, got {name!r:.200} with a NUL in it")
    if repository := hub_id(source):
        found: NavigationTransformer = remote.load(
            repository,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        return found.to(device)
    if revision is not None:
        raise ValueError(
            f"revision must be None unless source is a repository, got {revision!r} for {name!r}"
        )
    if is_zoo_name(source):
        name = canonical(name)
        if is_installed(name):
            model: NavigationTransformer = hub.read(zoo_folder() / name, pin=pin_of(name))
            model.info["source"] = "zoo"
        else:
            model = remote.load(
                f"{owner(organisation)}/{name}",
                pin=pin_of(name),
                cache_dir=cache_dir,
                token=token,
                local_files_only=local_files_only,
                force_download=force_download,
            )
        model.info["alias"] = alias_of(name) or None
        return model.to(device)
    if isinstance(source, str) and not os.path.isdir(name) and not is_path(name):
        raise ValueError(unknown(name))
    read: NavigationTransformer = hub.read(source)
    return read.to(device)


def check_source(source: object) -> None:
    """Raise for what is neither text nor a path."""
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            "source must be a name of the zoo, a folder or a repository (text or a path), got "
            f"{type(source).__name__}"
        )


def owner(organisation: str | None) -> str:
    """Organisation whose repositories hold the networks that are not in the installed package."""
    return organisation or os.environ.get(ORGANISATION) or LIBRARY


def load_step(
    source: str | os.PathLike[str],
    step: int,
    revision: str | None,
    organisation: str | None,
    **options: Any,
) -> NavigationTransformer:
    """Load the network after `step` steps of its training; see :func:`load`."""
    if repository := hub_id(source):
        if revision is not None or "@" in repository:
            raise ValueError(
                f"step and revision cannot both be given, got step={step!r} for {repository} at "
                f"{revision or 'a revision'}; the revision of a step is named {STEP}{step}"
            )
        check_step(step, None, repository)
        try:
            model = remote.load(repository, revision=f"{STEP}{step}", **options)
        except FolderError as error:
            raise remote.HubError(
                f"{error}\nplaceformer.list_steps({os.fspath(source)!r}) lists the steps there are"
            ) from error
        model.info["step"] = step
        return model
    if revision is not None:
        raise ValueError(
            f"revision must be None unless source is a repository, got {revision!r} for {source!r}"
        )
    steps, name = list_steps(source), canonical(os.path.basename(os.path.abspath(source)))
    if not is_zoo_name(source):
        check_step(step, steps, name)
        folder = snapshots_in(Path(source))
        return read_snapshot(folder, step, read_manifest(folder)[step], name)
    others = ", ".join(snapshot_pins())
    check_step(step, steps, name, f"networks of the zoo that have some: {others or 'none'}")
    sha256 = snapshot_pins()[name][step]
    if step == steps[-1]:  # the published network itself
        model = load(name, organisation=organisation, **options)
        if model.info["sha256"] != sha256:
            raise FolderError(
                f"{name} must have the sha256 of its last snapshot, {sha256}, got "
                f"{model.info['sha256']}; in a source checkout, run python zoo/pin.py"
            )
        model.info["step"] = step
        return model
    folder = snapshots_folder() / name
    if not folder.is_dir():  # an installed package, without snapshots
        model = remote.load(f"{owner(organisation)}/{name}", revision=f"{STEP}{step}", **options)
        check_pin(model, sha256, name, step)
        model.info |= {"name": f"{name}@{STEP}{step}", "step": step}
        return model
    return read_snapshot(folder, step, sha256, name)


def list_steps(source: str | os.PathLike[str], *, token: str | bool | None = None) -> list[int]:
    """List the steps of the training at which a network can be loaded.

    Parameters
    ----------
    source
        As in :func:`load`: a name of the zoo, the folder of a training with snapshots, or a
        repository of the hub with the revisions ``step-0``, ``step-800`` and so on.
    token
        For repositories, see :func:`load`.

    Returns
    -------
    list of int
        Steps that ``load(source, step=...)`` accepts, ascending; 0 is before the first step, and
        the last is the published network. Empty for a network without snapshots.

    Raises
    ------
    ValueError
        If the network does not exist.
    FolderError
        If the list of snapshots is damaged, or the repository cannot be read; a subclass of
        ValueError.

    See Also
    --------
    load : Load a network at one of the steps.
    consolidation : Measure a network at all of them.

    Examples
    --------
    >>> import placeformer as pf
    >>> pf.list_steps("mini-nmda-a10")
    [100, 200, 400, 800, 1100, 1500, 2500, 3300, 4500, 6000]
    >>> pf.list_steps("org/my-network")  # doctest: +SKIP
    [0, 400, 800]
    """
    check_source(source)
    if repository := hub_id(source):
        return remote.list_steps(repository.partition("@")[0], token=token)
    if is_zoo_name(source):
        return list(snapshot_pins().get(canonical(os.fspath(source)), {}))
    if not os.path.isdir(os.path.expanduser(source)):
        raise ValueError(unknown(os.fspath(source)))
    return list(read_manifest(snapshots_in(Path(source))))


def snapshots_in(folder: Path) -> Path:
    """Return the sub-folder that holds the snapshots of a training, or the folder if it does."""
    folder = folder.expanduser()
    return folder if (folder / MANIFEST).is_file() else folder / SNAPSHOTS


def snapshots_folder() -> Path:
    """Folder of the zoo's snapshots, which only a source checkout has; others download them."""
    return zoo_folder().with_name(SNAPSHOTS)


def snapshot_pins() -> dict[str, dict[int, str]]:
    """Return the sha256 of every snapshot of the zoo: name → step → checksum, steps ascending.

    That of the last step is the checksum of the weights of the published network.
    """
    pins = parse(SNAPSHOT_PINS.read_text(encoding="utf-8"))
    return {name: {int(step): sha for step, sha in of_one.items()} for name, of_one in pins.items()}


def list_models(pattern: str = "*") -> list[str]:
    """List the names of the networks in the zoo, sorted by activation, α and seed.

    Those that are not in the installed package are downloaded by :func:`load`; the column
    `location` of :func:`zoo_table` says where each is.

    Parameters
    ----------
    pattern
        Shell pattern of names or aliases, such as ``"nmda-*"`` or ``"mini-silu*"``.

    Returns
    -------
    list of str
        Names that :func:`load` accepts; empty if none matches.

    Raises
    ------
    TypeError
        If `pattern` is not text.

    See Also
    --------
    load : Load a network by its name.
    zoo_table : The same networks as a table.

    Examples
    --------
    >>> import placeformer as pf
    >>> pf.list_models("mini-nmda-a?")
    ['mini-nmda-a0', 'mini-nmda-a1', 'mini-nmda-a2', 'mini-nmda-a5']
    """
    if not isinstance(pattern, str):
        raise TypeError(f'pattern must be text, such as "nmda-*", got {type(pattern).__name__}')
    folder = zoo_folder()
    entries = folder.iterdir() if folder.is_dir() else ()
    names = {entry.name for entry in entries if (entry / CONFIG).is_file()} | set(read_pins())
    found = (n for n in names if any(fnmatchcase(x, pattern) for x in (n, alias_of(n)) if x))
    return sorted(found, key=natural)


def zoo_table(pattern: str = "*") -> pd.DataFrame:
    """Table of the networks in the zoo, read from their configurations.

    Parameters
    ----------
    pattern
        Shell pattern of names, such as ``"nmda-*"``.

    Returns
    -------
    pandas.DataFrame
        One row per network, in the order of :func:`list_models`:

        - `name`: accepted by :func:`load`; `alias`: another name (SiLU is NMDA_α at α = 1), or "";
        - `activation` of the feed-forward units: "nmda", "relu", "gelu", "leaky_relu" or "tanh";
        - `alpha`: [Mg²⁺]/K_Mg of NMDA_α, dimensionless; `mg_mM`: the corresponding concentration
          in mM, see :func:`alpha_to_mg`; both NaN for other activations;
        - `n_maps`: number of trained maps, and `map_seed`, the seed of their letters: networks of a
          family with the same `map_seed` were trained on the same maps; both <NA> for a network
          stored without its world;
        - `seed` of the initial weights and walks, from the recipe; <NA> without a recipe;
        - `parameters`: number of weights, all of them trained;
        - `working_error_trained`, `reference_error_trained`, `working_error_novel`,
          `reference_error_novel`: fraction of wrong letters, 0 to 1, of working and reference
          memory, on trained and on novel maps, measured on the stored weights at the ends of
          chunks, see :func:`memory_errors`; NaN if it was not measured.
          ``load(name).info["definitions"]`` contains the walks and the interval of each;
        - `place_cell_fraction_trained`, `place_cell_fraction_novel`: fraction of the feed-forward
          units, 0 to 1, that are place cells according to :func:`place_cells` on one trained and
          on one novel map; NaN if it was not measured;
        - `sha256` of the weight file, which :func:`load` checks;
        - `location`: "package" for the networks in the installed package or the source checkout,
          "hub" for those that :func:`load` downloads. The figures of the latter are stored in the
          package, too.

    Raises
    ------
    TypeError
        If `pattern` is not text.
    FolderError
        If a configuration is not exactly as expected; a subclass of ValueError.

    See Also
    --------
    list_models : Only the names.
    load : Load a network by its name.
    profile_networks : Measure networks again.

    Examples
    --------
    >>> import placeformer as pf
    >>> table = pf.zoo_table("mini-nmda-a10*")
    >>> table[["name", "alpha", "seed"]].values.tolist()
    [['mini-nmda-a10', 10.0, 0], ['mini-nmda-a10-s1', 10.0, 1], ['mini-nmda-a10-s2', 10.0, 2]]
    """
    import pandas as pd

    elsewhere = parse(PINS.with_name(TABLE).read_text(encoding="utf-8"))
    rows = [
        table_row(zoo_folder() / name, pin_of(name)) | {"location": "package"}
        if is_installed(name)
        else elsewhere[name] | {"location": "hub"}
        for name in list_models(pattern)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def table_row(folder: Path, pin: str) -> dict[str, Any]:
    """One row of :func:`zoo_table`, without its location."""
    said = hub.read_description(folder, pin=pin)
    network = said.network
    return {
        "name": folder.name,
        "alias": alias_of(folder.name),
        "activation": network.activation,
        "alpha": network.alpha,
        "mg_mM": None if network.alpha is None else alpha_to_mg(network.alpha),
        "n_maps": said.world and said.world["n_maps"],
        "map_seed": said.world and said.world["seed"],
        "seed": seed_of(folder),
        "parameters": sum(map(prod, shapes(network, None).values())),
        "sha256": said.sha256,
    } | {name: entry["value"] for name, entry in said.results.items() if name in COLUMNS}


def is_installed(name: str) -> bool:
    """Return whether the files of a network of the zoo are in the package or the checkout."""
    return (zoo_folder() / name / CONFIG).is_file()


def seed_of(folder: Path) -> int | None:
    """Return the seed of the training from the folder's recipe; None without a recipe."""
    recipe = folder / RECIPE
    return tomllib.loads(recipe.read_text("utf-8")).get("seed") if recipe.is_file() else None


def zoo_folder() -> Path:
    """Folder of the zoo: in the installed package, or ``zoo/models`` of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    installed, checkout = package / "zoo_data", package.parents[1]
    if not installed.is_dir() and (checkout / "pyproject.toml").is_file():
        return checkout / "zoo" / "models"
    return installed


def natural(name: str) -> list[str | float]:
    """Sort key that puts a2 before a10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def is_zoo_name(source: str | os.PathLike[str]) -> bool:
    """Return whether `source` is text and the name or alias of a network in the zoo."""
    return isinstance(source, str) and canonical(source) in list_models()


def canonical(name: str) -> str:
    """Name of the network in the zoo that `name` may be an alias of."""
    return re.sub(r"(^|-)silu(?=-|$)", rf"\1{SILU}", name)


def alias_of(name: str) -> str:
    """Return the other name of a network with α = 1, which is SiLU; "" for any other."""
    alias = re.sub(rf"(^|-){SILU}(?=-|$)", r"\1silu", name)
    return alias if alias != name else ""


def is_path(name: str) -> bool:
    """Return whether `name` looks like a path rather than a name."""
    return name.startswith((".", "~")) or "/" in name or os.sep in name


def hub_id(source: str | os.PathLike[str]) -> str | None:
    """Return `source` without "hf:" if it is a hub id and not an existing path, else None."""
    if not isinstance(source, str):
        return None
    if source.startswith("hf:"):
        return source.removeprefix("hf:")
    return source if HUB_ID.fullmatch(source) and not os.path.exists(source) else None


def read_pins() -> dict[str, str]:
    """Name → sha256 of the list of checksums, of every network of the zoo."""
    return dict(parse(PINS.read_text(encoding="utf-8")))


def pin_of(name: str) -> str:
    """Return the sha256 that the list of checksums of a zoo network must have."""
    pins = read_pins()
    if name not in pins:
        raise FolderError(
            f"{name} cannot be loaded: {PINS.name} has no sha256 for it, so its files cannot be "
            "checked; in a source checkout, run python zoo/pin.py"
        )
    return str(pins[name])


def unknown(name: str) -> str:
    """Explain that the network does not exist, and suggest similar names."""
    names = list_models()
    near = get_close_matches(name, names, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"source must be a network of the zoo or a folder, got {name!r:.200}; {hint}"
        f"placeformer.list_models() lists the zoo ({len(names)} networks)"
    )


def check_device(device: str | torch.device) -> None:
    """Raise for a device that cannot be used, before anything is read."""
    try:
        holds_values = not torch.empty(0, device=device).is_meta
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device must be available to PyTorch, got {str(device)!r}: {error}"
        ) from error
    if not holds_values:
        raise ValueError("device must be one that holds values, such as 'cpu', got 'meta'")


INSTALLED = "zoo_results"


def results_folder() -> Path:
    """Folder of the measurements: in the installed package, or ``zoo/results`` of a checkout."""
    folder = zoo_folder()
    return folder.with_name("results" if folder.name == "models" else INSTALLED)


def family_results(sha256: str) -> xr.Dataset | None:
    """Load the stored results of the family of a network.

    Parameters
    ----------
    sha256
        Checksum of the weights of the network.

    Returns
    -------
    xarray.Dataset or None
        Result of :func:`profile_networks` for the network and all others that differ from it only
        in activation, α and seed; None if the network was not measured.
    """
    for file in sorted(results_folder().glob("*.nc")):
        with xr.open_dataset(file) as data:
            if "sha256" in data.coords and sha256 in data["sha256"].values:
                return data.load()
    return None
