"""The files of a network's folder: regular files of bounded size, with the checksums of them all.

Nothing in a folder from somebody else may lead out of it: a link would make readers copy or push
files of their own, and a pipe or device would make them wait forever.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from placeformer.zoo.config import CONFIG, WEIGHTS, brief

CARD, HISTORY, RECIPE, CURVE = "README.md", "history.csv", "recipe.toml", "curve.png"
SUMS = "SHA256SUMS"
HASHED = (CONFIG, WEIGHTS, CARD, HISTORY, RECIPE, CURVE)
FILES = (*HASHED, SUMS)
SMALL = 2**24  # bytes; limit of every file except the weights
SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class FileProblem(ValueError):
    """A file that is not read; the message says what was expected and what is there."""


@contextmanager
def opened(folder: Path, name: str, limit: int | None = SMALL) -> Iterator[BufferedReader]:
    """Open a regular file of a folder for reading.

    In the cache of the hub's client files are links to blobs, which are named by their content:
    such a link is followed, if it leads to a file of the cache with that content.

    Raises
    ------
    FileProblem
        The file is missing, is not a regular file, or has more than `limit` bytes.
    """
    path = folder / name
    name_of_blob = None
    if path.is_symlink():
        path, name_of_blob = blob_of(path)
    with open_regular(path, limit) as stream:
        if name_of_blob and hash_of_blob(stream, name_of_blob) != name_of_blob:
            raise FileProblem(f"expected the content that {path} is named by, got other content")
        stream.seek(0)
        yield stream


@contextmanager
def open_regular(
    path: Path, limit: int | None = SMALL, *, follow: bool = False
) -> Iterator[BufferedReader]:
    """Open a file that is neither a link nor a special file, nor larger than `limit`."""

    def opener(name: str, flags: int) -> int:
        flags |= getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
        return os.open(name, flags)  # a pipe without a writer would wait without O_NONBLOCK

    try:
        mode = (os.stat if follow else os.lstat)(path).st_mode
        if not stat.S_ISREG(mode):
            raise FileProblem(
                f"expected a regular file, got {KINDS.get(stat.S_IFMT(mode), 'a link')}"
            )
        stream = open(path, "rb", opener=opener)  # noqa: SIM115
    except FileNotFoundError:
        raise FileProblem("the file is missing") from None
    except OSError as error:
        raise FileProblem(f"expected a file that can be read, got: {error}") from error
    with stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise FileProblem("expected a regular file, got another kind of file in its place")
        if limit is not None and found.st_size > limit:
            raise FileProblem(f"expected at most {limit:,} bytes, got {found.st_size:,}")
        yield stream


def blob_of(link: Path) -> tuple[Path, str]:
    """Return the blob that a file in the cache is a link to, and its name; refuse other links."""
    target, blob = os.readlink(link), link.resolve()
    name, cache = os.path.basename(target), link.parent.resolve().parents[2]
    if in_cache(link.parent) and BLOB.fullmatch(name) and blob.is_relative_to(cache):
        return blob, name
    raise FileProblem(
        f"expected a regular file, got a link to {target!r:.200}; a link may lead to a file "
        "that is not of this network. If it is yours, put a copy of the file in its place"
    )


def in_cache(folder: Path) -> bool:
    """Whether a folder is in the hub's cache: …/models--org--name/snapshots/commit."""
    commit = folder.resolve()
    return commit.parent.name == "snapshots" and commit.parents[1].name.startswith("models--")


def hash_of_blob(stream: BufferedReader, name: str) -> str:
    """Return the name that git (40 digits) or LFS (64 digits) gives to a file's content."""
    if len(name) == 64:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha1(b"blob %d\0" % os.fstat(stream.fileno()).st_size, usedforsecurity=False)
    while block := stream.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def read_file(folder: Path, name: str, limit: int = SMALL) -> bytes:
    """Content of a file; see :func:`opened`."""
    with opened(folder, name, limit) as stream:
        return stream.read(limit)


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """Content of ``SHA256SUMS`` for these files, as the program sha256sum writes and checks it."""
    lines = [
        f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in HASHED if name in files
    ]
    return "".join(lines).encode()


def read_sums(folder: Path, pin: str | None, problems: list[str]) -> dict[str, str] | None:
    """Return the sha256 of every file of a network; None if that is not known.

    Parameters
    ----------
    folder
        Folder of the network.
    pin
        sha256 that the list itself must have.
    problems
        List to which everything that is wrong is added.
    """
    try:
        content = read_file(folder, SUMS, 2**16)
        found = dict(map(parse_sum, content.decode().splitlines()))
    except FileProblem as error:
        hint = f"; if no file was altered, run `sha256sum *.* > {SUMS}` in the folder"
        problems.append(f"{SUMS}: {error}" + hint * ("missing" in str(error)))
        return None
    except ValueError as error:
        problems.append(f"{SUMS}: expected a sha256 and a file in each line, got {error}")
        return None
    own = hashlib.sha256(content).hexdigest()
    if pin is not None and own != pin:
        problems.append(
            f"{SUMS}: expected sha256 {pin} (the pin of the zoo), got {own}; a file was altered"
        )
    return found


def parse_sum(line: str) -> tuple[str, str]:
    """Return name and sha256 of one line."""
    parts = SUM.fullmatch(line)
    if parts is None:
        raise ValueError(brief(line))
    return parts[2], parts[1]


def read_checked(
    folder: Path, sums: Mapping[str, str] | None, problems: list[str]
) -> dict[str, bytes]:
    """Read all files but the weights, and compare them with their checksums.

    The card of a network in the hub's cache may differ, as it can be edited on the hub's website;
    the blob that it is a link to is named by its content.
    """
    files = {}
    for name in (name for name in HASHED if name != WEIGHTS):
        if name == CONFIG or os.path.lexists(folder / name) or name in (sums or {}):
            try:
                files[name] = read_file(folder, name)
            except FileProblem as error:
                problems.append(f"{name}: {error}")
                continue
            exempt = sums is None or (name == CARD and in_cache(folder))
            if not exempt:
                compare(name, hashlib.sha256(files[name]).hexdigest(), sums or {}, problems)
    return files


def compare(name: str, found: str, sums: Mapping[str, str], problems: list[str]) -> None:
    """Compare the sha256 of a file with the one that is listed."""
    if name not in sums:
        problems.append(f"{name}: expected a line in {SUMS}, got none for it")
    elif found != sums[name]:
        problems.append(
            f"{name}: expected sha256 {sums[name]} ({SUMS}), got {found}; the file was altered. If "
            f"that was meant, run `sha256sum *.* > {SUMS}` in the folder"
        )


def refuse_special(folder: Path, names: Collection[str], problems: list[str]) -> None:
    """Report everything under these names that is not a regular file, before it is replaced."""
    for name in names:
        if os.path.lexists(folder / name):
            try:
                with open_regular(folder / name, None):
                    pass
            except FileProblem as error:
                problems.append(f"{name}: {error}")
