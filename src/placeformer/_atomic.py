"""Files and folders that are written whole or not at all, even if the process is killed.

New content is written to a partial folder on the same file system, flushed to the disk, and then
renamed, which the operating system does in one step. A partial folder has a random name and
contains a locked mark, a file. The lock ends with the process: a folder whose mark is not locked
was left by a killed process, and the next write to the same place removes it.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

MARK = ".placeformer-partial"
NO_LOCKS = (OSError, NotImplementedError)
"""Errors raised by a file system without locks. Partial folders then have no mark, and those of a
killed process are not removed."""

ATTEMPTS = 10
"""Number of attempts to make a partial folder that no other process removes at once."""

EXCHANGE = 60
"""Seconds to wait for another process that exchanges a folder. An exchange takes much less, but
some file systems keep the lock of a killed process."""


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """Yield a temporary path; the file written there replaces `file` if no error occurs."""
    with partial_folder(file, file.parent) as temporary:
        yield temporary
        to_disk(temporary)
        os.replace(temporary, file)
        to_disk(file.parent)


@contextmanager
def atomic_folder(
    target: Path, inside: Path | None = None, *, publish: Callable[[Path, Path], Any] = os.rename
) -> Iterator[Path]:
    """Yield a temporary folder whose content takes the place of `target` if no error occurs.

    Parameters
    ----------
    target
        The folder. `os.rename`, the default of `publish`, fails if it contains files.
    inside
        Folder in which the temporary folder is made, on the file system of `target`; by default
        the parent of `target`.
    publish
        Called with the temporary folder and `target` when all files are on the disk.
    """
    beside = inside or target.parent
    with removed_if_failed(beside), partial_folder(target, beside) as new:
        new.mkdir()
        yield new
        for path in new.rglob("*"):
            to_disk(path)
        publish(new, target)
        to_disk(target.parent)


@contextmanager
def partial_folder(target: Path, beside: Path) -> Iterator[Path]:
    """Yield a path for new content of `target`, in a partial folder that is removed afterwards."""
    remove_leftovers(target.name, beside)
    with ExitStack() as stack:
        for _ in range(ATTEMPTS):
            folder = beside / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if marked(folder, stack):
                break
        else:
            raise BlockingIOError(
                f"{target} could not be written: other processes removed the partial folder "
                f"{ATTEMPTS} times; write again, or to another place"
            )
        yield folder / target.name


def marked(folder: Path, stack: ExitStack) -> bool:
    """Lock the mark of a partial folder while the stack is open, if the file system has locks.

    False if another process found the mark before it was locked: it then removes the folder, which
    looks like one left by a killed process.
    """
    try:
        stack.enter_context(FileLock(folder / MARK, timeout=0))
    except (Timeout, FileNotFoundError):
        return False
    except NO_LOCKS:
        return True
    return (folder / MARK).is_file()


def remove_leftovers(name: str, beside: Path) -> None:
    """Remove the partial folders of this name whose processes have ended."""
    for folder in siblings(name, beside, "tmp"):
        if (folder / MARK).is_file():
            with suppress(Timeout, *NO_LOCKS), FileLock(folder / MARK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def siblings(name: str, beside: Path, ending: str) -> list[Path]:
    """Folders that this module has made for `name`."""
    pattern = re.compile(re.escape(f".{name}.") + rf"[0-9a-f]{{8}}\.{ending}")
    found = beside.glob(f".{glob.escape(name)}.*.{ending}")
    return [folder for folder in found if pattern.fullmatch(folder.name) and folder.is_dir()]


@contextmanager
def removed_if_failed(folder: Path) -> Iterator[None]:
    """Remove the empty folders at and above `folder` that a failed write has made."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in missing:
                path.rmdir()
        raise


def must_stay(folder: Path) -> bool:
    """Whether a folder cannot be renamed: a mount, one we are in, or one in a read-only folder."""
    return folder.is_dir() and (
        os.path.ismount(folder)
        or Path.cwd().is_relative_to(folder.resolve())
        or not os.access(folder.parent, os.W_OK | os.X_OK)
    )


@contextmanager
def replaced_folder(
    target: Path,
    ours: Callable[[str], bool],
    last: str,
    *,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target`, which may exist, if no error occurs.

    The folder is replaced as a whole: at no time does it contain both old and new files. The
    exception is a folder that cannot be renamed: its files are replaced one by one.

    Parameters
    ----------
    target
        The folder.
    ours
        Function that tells whether a file of this name belongs to what is replaced. All other files
        are kept, unless there is a new one of the same name.
    last
        The file that makes the others valid, and is therefore replaced last.
    check
        Called before a folder is exchanged, when everything is written and no other process
        exchanges it; it raises an error to prevent the exchange.
    """

    def publish(new: Path, target: Path) -> None:
        if must_stay(target):
            for file in sorted(new.iterdir(), key=lambda file: file.name == last):
                os.replace(file, target / file.name)
            return
        with exchanging(target):
            check()
            old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
            if target.exists():
                os.rename(target, old)
            try:
                os.rename(new, target)
            except BaseException:
                if old.exists():
                    os.rename(old, target)
                raise
            if old.exists():
                keep_others(old, target, ours)

    if target.parent.is_dir():
        with exchanging(target):
            for old in siblings(target.name, target.parent, "old"):  # left by a killed process
                if target.exists():
                    keep_others(old, target, ours)
                else:
                    os.rename(old, target)
    with atomic_folder(target, target if must_stay(target) else None, publish=publish) as new:
        yield new


@contextmanager
def exchanging(target: Path) -> Iterator[None]:
    """Let only one process at a time exchange a folder, if the file system has locks."""
    lock = target.with_name(f".{target.name}.lock")
    with ExitStack() as stack:
        with suppress(*NO_LOCKS):
            stack.enter_context(FileLock(lock, timeout=EXCHANGE))
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes it when the lock is released
                lock.unlink()


def keep_others(old: Path, target: Path, ours: Callable[[str], bool]) -> None:
    """Move all files that are not ours from the old folder to the new one; remove the old one."""
    for entry in old.iterdir():
        if not ours(entry.name) and not (target / entry.name).exists():
            os.rename(entry, target / entry.name)
    shutil.rmtree(old)


def to_disk(path: Path) -> None:
    """Flush a file, or the names in a folder, from the cache to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
