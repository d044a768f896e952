"""Files and folders that are written whole or not at all, even if the process is killed.

What is written goes to another name in the same folder, hence on the same file system, is brought
to the disk, and is then renamed, which an operating system does in one step.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """Give a temporary path, the file at which takes the place of `file` if all goes well."""
    temporary = file.with_name(file.name + ".tmp")
    try:
        yield temporary
        to_disk(temporary)
        os.replace(temporary, file)
        to_disk(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(
    target: Path, inside: Path | None = None, *, publish: Callable[[Path, Path], Any] = os.rename
) -> Iterator[Path]:
    """Give a temporary folder whose content takes the place of `target` if all goes well.

    Parameters
    ----------
    target
        The folder; `os.rename`, the default of `publish`, refuses one with files in it.
    inside
        Where the temporary folder is made: on the file system of `target`, by default beside it.
    publish
        Called with the temporary folder and `target` when all files are on the disk.
    """
    new = (inside or target.parent) / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        new.mkdir(parents=True)
        yield new
        for path in new.rglob("*"):
            to_disk(path)
        publish(new, target)
        to_disk(target.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Bring a file or the names in a folder from the cache to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
