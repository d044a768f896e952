"""The client of the model hub: names that are safe to ask for, errors that say the way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import httpx, validate_repo_id

from placeformer.manifest import LIBRARY, FolderError

COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")  # no "..", so it stays inside the cache

OFFLINE = (
    "it is not in the cache and the hub cannot be asked (local_files_only, HF_HUB_OFFLINE or no "
    "connection); load it once with a connection, or give the cache_dir it was loaded to"
)
REASONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((GatedRepoError,), "its owner grants access one by one; ask for it on its page"),
    (
        (RepositoryNotFoundError,),
        "the hub has no such repository that you may see; check the name (is a folder meant?), or "
        "give a token: token=..., HF_TOKEN, or `hf auth login`",
    ),
    ((RevisionNotFoundError,), "the repository has no such branch, tag or commit"),
    ((LocalEntryNotFoundError, OfflineModeIsEnabled, RevisionResolutionError), OFFLINE),
)
FAILURES = (OSError, RuntimeError, httpx.HTTPError, EntryNotFoundError, RevisionResolutionError)
STATUS = {
    401: "the hub does not know the token, or got none; check token=, HF_TOKEN, `hf auth login`",
    403: "the token may not write there; use one with write access, or a repository of your own",
    412: "something else was pushed there meanwhile; push again",
}


class HubError(FolderError):
    """A repository that cannot be read or written, with the way out."""


def split(source: str, revision: str | None) -> tuple[str, str | None]:
    """Part "org/name@revision" and check both."""
    repo_id, at, pinned = source.partition("@")
    if at and revision not in (None, pinned):
        raise ValueError(f"revision must be the one in {source!r} or None, got {revision!r}")
    revision = pinned if at else revision
    check_repo_id(repo_id, r"[^/]+/[^/]+", '"org/name"')
    check_revision(revision, "a branch, tag or commit")
    return repo_id, revision


def check_target(repo_id: str, revision: str | None) -> None:
    """Refuse what cannot be pushed to."""
    check_repo_id(repo_id, r"([^/]+/)?[^/]+", '"org/name" or "name"')
    check_revision(revision, "a branch")
    if revision is not None and COMMIT.fullmatch(revision):
        raise ValueError(f"revision must be a branch to push to, got the commit {revision}")


def check_repo_id(repo_id: str, pattern: str, wanted: str) -> None:
    """Refuse what is no name of a repository; a name cannot leave the cache."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"repo_id must be {wanted}, got {repo_id!r}: {error}") from error
    if not re.fullmatch(pattern, repo_id):
        raise ValueError(f"repo_id must be {wanted}, got {repo_id!r}")


def check_revision(revision: str | None, wanted: str) -> None:
    """Refuse what is no name of a revision."""
    if revision is not None and not REVISION.fullmatch(revision):
        raise ValueError(f"revision must be {wanted}, got {revision!r}")


def client(token: str | bool | None) -> HfApi:
    """Return the hub's client, which says who is asking."""
    return HfApi(token=token, library_name=LIBRARY, library_version=version(LIBRARY))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the client's errors into one that says the way out."""
    try:
        yield
    except FAILURES as error:
        raise HubError(f"{what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Say what an error of the client means."""
    for kinds, text in REASONS:
        if isinstance(error, kinds):
            return text
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status in STATUS:
        return STATUS[status]
    text = str(error) or type(error).__name__
    return f"the transfer failed, nothing half-written is kept, try again later ({text})"
