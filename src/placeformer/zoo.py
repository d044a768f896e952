"""The zoo: trained networks by name."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from placeformer import hub, remote
from placeformer.manifest import parse
from placeformer.model import NavigationTransformer

PINS = Path(__file__).with_name("zoo_pins.json")
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
        A name that :func:`list_models` gives ("nmda-a10"), a folder, or a repository of the hub
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
        model = hub.read(zoo_folder() / name, pin=pin_of(name))
        model.info["source"] = "zoo"
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
    return sorted((name for name in names if fnmatchcase(name, pattern)), key=natural)


def zoo_folder() -> Path:
    """Folder of the zoo: in the installed package, or ``zoo/models`` of a source checkout."""
    package = Path(__file__).resolve().parent
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
    return isinstance(source, str) and source in list_models()


def is_path(name: str) -> bool:
    """Tell whether it looks like a path rather than a name."""
    return name.startswith((".", "~")) or "/" in name or os.sep in name


def hub_id(source: str | os.PathLike[str]) -> str | None:
    """Return the hub id that `source` is, without "hf:"; an existing folder is none."""
    if not isinstance(source, str):
        return None
    if source.startswith("hf:"):
        return source.removeprefix("hf:")
    return source if HUB_ID.fullmatch(source) and not os.path.isdir(source) else None


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
