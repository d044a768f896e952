"""The list of trained networks: names, pins, table, and loading by name."""

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
from placeformer.zoo.config import parse, read_config, refuse
from placeformer.zoo.weights import shapes

if TYPE_CHECKING:
    import pandas as pd

PINS = Path(__file__).with_name("pins.json")
SILU = "nmda-a1"  # NMDA_1(x) = x · σ(x)
COLUMNS = {
    "name": "str",
    "alias": "str",
    "activation": "str",
    "alpha": "float64",
    "mg_mM": "float64",
    "n_maps": "Int64",
    "seed": "Int64",
    "parameters": "int64",
    "working_error_trained": "float64",
    "reference_error_trained": "float64",
    "working_error_novel": "float64",
    "reference_error_novel": "float64",
    "place_cell_fraction_trained": "float64",
    "place_cell_fraction_novel": "float64",
    "sha256": "str",
}
"""Columns of :func:`zoo_table` and their types in pandas."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@\S+)?")


def load(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> NavigationTransformer:
    """Load a network of the zoo, of a folder, or of a model hub.

    Parameters
    ----------
    source
        A name that :func:`list_models` gives ("nmda-a10"; "silu" in a name stands for "nmda-a1",
        the same function), a folder, or a repository of the hub
        ("org/name", "hf:org/name", either with "@revision"). The zoo comes before a folder of the
        same name (write "./nmda-a10" for the folder), a folder before a repository (write "hf:").
    revision
        Branch, tag or commit of a repository, by default "main"; a commit pins the files.
    cache_dir, token, local_files_only, force_download
        For repositories: where downloads are kept, what they are asked for with, whether to use
        only what is kept, and whether to fetch that again. Without them ``HF_HOME``, ``HF_TOKEN``
        and ``HF_HUB_OFFLINE`` hold as for any other user of the hub.
    device
        "cpu", "cuda", …

    Returns
    -------
    NavigationTransformer
        float32, in eval mode, with `config`, `world` and `info`.

    Raises
    ------
    ValueError
        If there is no such network, or the device cannot be used.
    FolderError
        If a file of it is not exactly as it should be, or the hub cannot give it; a ValueError.
    """
    check_device(device)
    name = os.fspath(source)
    if re.match(r"\w+://", name):
        raise ValueError(
            f'source must be "org/name" for a repository of the hub, without the address, got '
            f"{name!r}"
        )
    if repository := hub_id(source):
        return remote.load(
            repository,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        ).to(device)
    if revision is not None:
        raise ValueError(f"revision must be None but for a hub id, got {revision!r} for {name!r}")
    if is_zoo_name(source):
        name = canonical(name)
        model = hub.read(zoo_folder() / name, pin=pin_of(name))
        model.info |= {"source": "zoo", "alias": alias_of(name) or None}
        return model.to(device)
    if isinstance(source, str) and not os.path.isdir(name) and not is_path(name):
        raise ValueError(unknown(name))
    return hub.read(source).to(device)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks in the zoo, by activation, then α, then seed.

    Parameters
    ----------
    pattern
        Shell pattern, such as ``"nmda-*"``.
    """
    folder = zoo_folder()
    entries = folder.iterdir() if folder.is_dir() else ()
    names = [entry.name for entry in entries if (entry / hub.CONFIG).is_file()]
    return sorted((n for n in names if fnmatchcase(n, canonical(pattern))), key=natural)


def zoo_table(pattern: str = "*") -> pd.DataFrame:
    """Table of the networks in the zoo, from their configurations alone.

    Parameters
    ----------
    pattern
        Shell pattern of names, such as ``"nmda-*"``.

    Returns
    -------
    pandas.DataFrame
        One row a network, in the order of :func:`list_models`:

        - `name`: what :func:`load` takes; `alias`: its other name (SiLU is NMDA_α at α = 1), or "";
        - `activation`: of the feed-forward units: "nmda", "relu", "gelu", "leaky_relu" or "tanh";
        - `alpha`: [Mg²⁺]/K_Mg of NMDA_α, dimensionless; `mg_mM`: the concentration it stands for,
          in mM, see :func:`alpha_to_mg`; both NaN for other activations;
        - `n_maps`: trained maps; <NA> for a network stored without its world;
        - `seed`: of the initial weights and walks, as its recipe says; <NA> without a recipe;
        - `parameters`: weights of the network, all of them trained;
        - `working_error_trained`, `reference_error_trained`, `working_error_novel`,
          `reference_error_novel`: share of wrong letters, 0 to 1, of working and reference memory,
          on trained and on novel maps, measured on the stored weights at the ends of chunks, see
          :func:`memory_errors`; NaN where it was not measured. ``load(name).info["definitions"]``
          tells the walks and the interval of each;
        - `place_cell_fraction_trained`, `place_cell_fraction_novel`: share of the feed-forward
          units, 0 to 1, that :func:`place_cells` accepts on one trained and on one novel map; NaN
          where it was not measured;
        - `sha256`: of the weight file, which :func:`load` checks.

    Raises
    ------
    FolderError
        If a configuration is not exactly as it should be; a ValueError.
    """
    import pandas as pd

    rows = [table_row(zoo_folder() / name) for name in list_models(pattern)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def table_row(folder: Path) -> dict[str, Any]:
    """One row of :func:`zoo_table`."""
    problems: list[str] = []
    said = read_config(folder, problems)
    refuse(f"{folder} cannot be read", problems)
    assert said is not None  # for the type checker: None comes with a problem
    network = said.network
    return {
        "name": folder.name,
        "alias": alias_of(folder.name),
        "activation": network.activation,
        "alpha": network.alpha,
        "mg_mM": None if network.alpha is None else alpha_to_mg(network.alpha),
        "n_maps": said.world and said.world["n_maps"],
        "seed": seed_of(folder),
        "parameters": sum(map(prod, shapes(network, None).values())),
        "sha256": said.sha256,
    } | {name: entry["value"] for name, entry in said.results.items() if name in COLUMNS}


def seed_of(folder: Path) -> int | None:
    """Return the seed of the training, as the folder's recipe says; None without a recipe."""
    recipe = folder / hub.RECIPE
    return tomllib.loads(recipe.read_text("utf-8")).get("seed") if recipe.is_file() else None


def zoo_folder() -> Path:
    """Folder of the zoo: in the installed package, or ``zoo/models`` of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    installed, checkout = package / "zoo_data", package.parents[1]
    if not installed.is_dir() and (checkout / "pyproject.toml").is_file():
        return checkout / "zoo" / "models"
    return installed


def natural(name: str) -> list[str | float]:
    """Sort key under which a2 comes before a10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def is_zoo_name(source: str | os.PathLike[str]) -> bool:
    """Tell whether it is text, and the name of a network in the zoo."""
    return isinstance(source, str) and canonical(source) in list_models()


def canonical(name: str) -> str:
    """Name of the network in the zoo that `name` may be an alias of."""
    return re.sub(r"(^|-)silu(?=-|$)", rf"\1{SILU}", name)


def alias_of(name: str) -> str:
    """Return the other name of a network with α = 1, which is SiLU; "" for any other."""
    alias = re.sub(rf"(^|-){SILU}(?=-|$)", r"\1silu", name)
    return alias if alias != name else ""


def is_path(name: str) -> bool:
    """Tell whether it looks like a path rather than a name."""
    return name.startswith((".", "~")) or "/" in name or os.sep in name


def hub_id(source: str | os.PathLike[str]) -> str | None:
    """Return the hub id that `source` is, without "hf:"; an existing folder or file is none."""
    if not isinstance(source, str):
        return None
    if source.startswith("hf:"):
        return source.removeprefix("hf:")
    return source if HUB_ID.fullmatch(source) and not os.path.exists(source) else None


def pin_of(name: str) -> str:
    """Return the sha256 the weights of a zoo network must have."""
    pins = parse(PINS.read_text(encoding="utf-8"))
    if name not in pins:
        raise hub.FolderError(
            f"{name} cannot be loaded: {PINS.name} has no sha256 of it, so its weights cannot be "
            "checked; in a source checkout, run python zoo/pin.py"
        )
    return str(pins[name])


def unknown(name: str) -> str:
    """Say that there is no such network, and what there is."""
    names = list_models()
    near = get_close_matches(name, names, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"source must be a network of the zoo or a folder, got {name!r}; {hint}"
        f"placeformer.list_models() lists the zoo ({len(names)} networks)"
    )


def check_device(device: str | torch.device) -> None:
    """Refuse a device that cannot be used, before anything is read."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device must be one PyTorch can use here, got {str(device)!r}: {error}"
        ) from error


INSTALLED = "zoo_results"


def results_folder() -> Path:
    """Folder of what was measured: in the installed package, or ``zoo/results`` of a checkout."""
    folder = zoo_folder()
    return folder.with_name("results" if folder.name == "models" else INSTALLED)


def relatives(sha256: str) -> xr.Dataset | None:
    """Measurements, as :func:`profile_networks` gives them, of the networks trained like one.

    Parameters
    ----------
    sha256
        Of the weights of the one.

    Returns
    -------
    xarray.Dataset or None
        Of all networks that differ in activation, α and seed alone, the one among them; None if
        it was not measured.
    """
    for file in sorted(results_folder().glob("*.nc")):
        with xr.open_dataset(file) as data:
            if "sha256" in data.coords and sha256 in data["sha256"].values:
                return data.load()
    return None
