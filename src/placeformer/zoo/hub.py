"""The model hub: pull and push of network folders, with errors that say how to fix them."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from filelock import FileLock
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    EvalResultEntry,
    HfApi,
    constants,
    eval_result_entries_to_yaml,
    hf_hub_url,
    try_to_load_from_cache,
)
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
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers, httpx, validate_repo_id, yaml_dump
from torch import nn

from placeformer._atomic import atomic_file
from placeformer.zoo import folder as hub
from placeformer.zoo.card import addressed
from placeformer.zoo.config import (
    CONFIG,
    LIBRARY,
    WEIGHTS,
    FolderError,
    NavigationDescription,
    brief,
    parse_config,
    refuse,
)
from placeformer.zoo.files import (
    BLOB,
    CARD,
    FILES,
    SMALL,
    SUMS,
    FileProblem,
    hash_of_blob,
    open_regular,
    opened,
    read_file,
    sums_of,
)

COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION_OF_STEP = re.compile(r"step-(0|[1-9]\d{0,14})")
REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")  # no "..", so it stays inside the cache

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
EVALUATION = ".eval_results/placeformer.yaml"
BENCHMARK = "placeformer/gridworld"
"""What the results are measured on, by the name of a data set on the hub."""

OFFLINE = (
    "it is not in the cache and the hub cannot be reached (local_files_only, HF_HUB_OFFLINE or no "
    "connection); load it once with a connection, or pass the cache_dir it was loaded to"
)
IF_DAMAGED = (
    "\nIf a file was damaged in transit, download it again with force_download=True "
    "(--force-download)"
)
REASONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (GatedRepoError,),
        "its owner must grant you access; request it on its page",
    ),
    (
        (RepositoryNotFoundError,),
        "the hub has no such repository that you can access; check the name (did you mean a "
        "folder?), or pass a token: token=..., HF_TOKEN, or `hf auth login`",
    ),
    ((RevisionNotFoundError,), "the repository has no such branch, tag or commit"),
    ((LocalEntryNotFoundError, OfflineModeIsEnabled, RevisionResolutionError), OFFLINE),
)
FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    AssertionError,  # of the client, about answers of the hub
    httpx.HTTPError,
    EntryNotFoundError,
    RevisionResolutionError,
)
STATUS = {
    401: "the hub does not know the token, or got none; check token=, HF_TOKEN, `hf auth login`",
    403: "the hub refuses access (403); check what the token may read, or ask the owner",
    412: "somebody else has pushed to it in the meantime; push again",
    429: "the hub receives too many requests from here (429); wait some minutes, or pass a token",
    451: "the hub withholds it for legal reasons (451)",
}
MAY_NOT_WRITE = (
    "the token may not write there; use one with write access, or a repository of your own"
)


class HubError(FolderError):
    """A repository that cannot be read or written; the message says how to fix it."""


def split(source: str, revision: str | None) -> tuple[str, str | None]:
    """Split "org/name@revision" and check both parts."""
    repo_id, at, pinned = source.partition("@")
    if at and revision not in (None, pinned):
        raise ValueError(f"revision must be the one in {source!r} or None, got {revision!r}")
    revision = pinned if at else revision
    check_repo_id(repo_id, r"[^/]+/[^/]+", '"org/name"')
    check_revision(revision, "a branch, tag or commit")
    return repo_id, revision


def check_target(repo_id: str, revision: str | None) -> None:
    """Raise for a repository or revision that cannot be pushed to."""
    check_repo_id(repo_id, r"([^/]+/)?[^/]+", '"org/name" or "name"')
    check_revision(revision, "a branch")
    if revision is not None and COMMIT.fullmatch(revision):
        raise ValueError(f"revision must be a branch to push to, got the commit {revision}")


def check_repo_id(repo_id: str, pattern: str, wanted: str) -> None:
    """Raise for an invalid name of a repository; names must not lead out of the cache."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        why = f": {error}" if len(repo_id) <= 96 else " (names have at most 96 characters)"
        raise ValueError(f"repo_id must be {wanted}, got {repo_id!r:.200}{why}") from error
    if not re.fullmatch(pattern, repo_id):
        raise ValueError(f"repo_id must be {wanted}, got {repo_id!r:.200}")


def check_revision(revision: str | None, wanted: str) -> None:
    """Raise for an invalid name of a revision."""
    if revision is not None and not (isinstance(revision, str) and REVISION.fullmatch(revision)):
        raise ValueError(f"revision must be {wanted}, got {revision!r:.200}")


def client(token: str | bool | None) -> HfApi:
    """Return a client of the hub that identifies itself as this library."""
    return HfApi(token=token, library_name=LIBRARY, library_version=version(LIBRARY))


@contextmanager
def explained(what: str, *, writing: bool = False) -> Iterator[None]:
    """Turn errors of the client into a HubError that says how to fix them."""
    try:
        yield
    except FolderError:
        raise
    except FAILURES as error:
        raise HubError(f"{what}: {reason(error, writing=writing)}") from error


def status_of(error: BaseException | None) -> int | None:
    """HTTP status behind an error; the client wraps one in another on its way to a file."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__ or error.__context__
    return None


def reason(error: Exception, *, writing: bool = False) -> str:
    """Explain an error of the client."""
    status = status_of(error)
    for kinds, text in REASONS:
        if isinstance(error, kinds) and (text is not OFFLINE or status is None):
            return text
    if status == 403 and writing:
        return MAY_NOT_WRITE
    if status in STATUS:
        return STATUS[status]
    if status is not None and status >= 500:
        return f"the hub has a fault of its own ({status}); try again later"
    if isinstance(error, ValueError | TypeError | KeyError | AssertionError):
        return (
            "the answer is not that of a hub (is it the login page of a network, or a proxy?); "
            f"open {constants.ENDPOINT} in a browser ({type(error).__name__}: {error})"
        )
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC):
        return f"the cache cannot be written ({text}); choose another, cache_dir= or HF_HUB_CACHE"
    return f"the transfer failed and nothing half-written is kept; try again later ({text})"


def load(
    source: str,
    *,
    revision: str | None = None,
    pin: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Any:
    """Load a network from the repository "org/name" or "org/name@revision"; see ``zoo.load``.

    With a pin, the sha256 of ``SHA256SUMS``, every file must be as it was pinned.
    """
    repo_id, revision = split(source, revision)
    try:
        folder = download(
            repo_id,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        model = hub.read(folder, pin=pin)
    except HubError:
        raise
    except FolderError as error:
        damaged = "" if "expected a registered class" in str(error) else IF_DAMAGED
        raise HubError(f"{source}: {error}{damaged}") from error
    name, commit = repo_id.rpartition("/")[2], folder.name
    model.info |= {"name": name, "source": f"hf:{repo_id}@{commit}", "revision": commit}
    return model


def list_steps(repo_id: str, *, token: str | bool | None = None) -> list[int]:
    """Steps whose snapshots a repository holds as branches or tags; see ``zoo.list_steps``."""
    check_repo_id(repo_id, r"[^/]+/[^/]+", '"org/name"')
    with explained(f"the revisions of {repo_id} cannot be listed"):
        refs = client(token).list_repo_refs(repo_id)
    found = (REVISION_OF_STEP.fullmatch(ref.name) for ref in [*refs.branches, *refs.tags])
    return sorted({int(step[1]) for step in found if step})


def pull(source: str, folder: str | os.PathLike[str], *, force_download: bool = False) -> Any:
    """Copy the network of a repository, with its card, recipe and history, to a new folder."""
    folder = Path(folder).expanduser().resolve()
    with hub.new_folder(folder, overwrite=False) as new:
        model, problems = load(source, force_download=force_download), list[str]()
        cached = Path(model.info["folder"])
        _, _, files = hub.described(cached, None, problems)
        refuse(f"{source} cannot be copied", problems)
        for name, content in files.items():
            (new / name).write_bytes(content)
        with opened(cached, WEIGHTS, None) as weights, open(new / WEIGHTS, "xb") as copy:
            shutil.copyfileobj(weights, copy)
        hub.write_sums(new)
    return hub.read(folder)


def download(
    repo_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Download missing files of one commit, and return its folder in the cache.

    The revision is resolved once, so that all files are of the same commit, after which the folder
    is named. Its files are checked later, by :func:`placeformer.zoo.folder.read`.
    """
    api, at = client(token), f"{repo_id} at {revision or 'main'}"
    cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()
    with explained(f"{at} cannot be found"):
        commit = api.resolve_revision(
            repo_id, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only
        ).resolved
    if not COMMIT.fullmatch(commit):
        raise HubError(f"{at} must resolve to a commit of 40 hexadecimal digits, got {commit!r}")
    absent = [f for f in (CONFIG, WEIGHTS, SUMS) if cached(repo_id, f, commit, cache_dir) is None]
    if absent or force_download:
        with explained(f"{' and '.join(absent) or 'files'} of {at} ({commit}) cannot be loaded"):
            if local_files_only:
                raise OfflineModeIsEnabled
            fetch(api, repo_id, commit, cache_dir, force_download=force_download)
    found = cached(repo_id, CONFIG, commit, cache_dir)
    assert found is not None  # for the type checker: it was fetched
    return found.parent


class Listed(NamedTuple):
    """What the hub lists of a file: its size, and the hash that its blob is named by."""

    size: int
    blob: str


def fetch(
    api: HfApi, repo_id: str, commit: str, cache_dir: Path | None, *, force_download: bool
) -> None:
    """Download only the files of a network; the weights last, if their size is right.

    The files go to the cache of the hub's client, where it would put them itself. The client is not
    used for this, since it trusts the answers of a server: ``hf_hub_download`` of huggingface_hub
    2.4.0 names a blob by the ETag header, so that an ETag with slashes can write or link to any
    file of the user, and it compares neither the content with its hash nor, while it downloads, the
    size with the one that was listed.
    """
    siblings = api.model_info(repo_id, revision=commit, files_metadata=True).siblings or []
    files = {s.rfilename: listed(s) for s in siblings if s.rfilename in FILES}
    what, problems = f"{repo_id} at {commit} cannot be loaded", list[str]()
    problems += [f"{f}: the file is missing" for f in (CONFIG, WEIGHTS, SUMS) if f not in files]
    check_small({name: file.size for name, file in files.items()}, problems)
    refuse(what, problems)
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    repository = cache / repo_folder_name(repo_id=repo_id, repo_type="model")
    snapshot, lock = repository / "snapshots" / commit, cache / ".locks" / repository.name
    for folder in (repository / "blobs", snapshot, lock):
        folder.mkdir(parents=True, exist_ok=True)
    headers = build_hf_headers(
        token=api.token, library_name=LIBRARY, library_version=version(LIBRARY)
    )
    with FileLock(lock / f"{commit}.lock"):
        for name in (CONFIG, *sorted(files.keys() - {CONFIG, WEIGHTS}), WEIGHTS):
            if force_download or not is_here(repository, snapshot / name, files[name]):
                url = hf_hub_url(repo_id, name, revision=commit)
                with explained(f"{name} of {what}"):
                    download_file(url, headers, repository, files[name])
            link(repository / "blobs" / files[name].blob, snapshot / name)
            if name == CONFIG and (said := parse_config(read_file(snapshot, CONFIG), problems)):
                layout = hub.layout_of(said, problems)
                if layout is not None:
                    layout.check_size(files[WEIGHTS].size, problems)
            refuse(what, problems)


def listed(sibling: Any) -> Listed:
    """Return size and hash of a listed file: of the content, even where git has a pointer."""
    lfs = sibling.lfs
    size, blob = (lfs.size, lfs.sha256) if lfs else (sibling.size, sibling.blob_id)
    if type(size) is not int or type(blob) is not str or not BLOB.fullmatch(blob):
        raise HubError(
            f"{sibling.rfilename}: the hub must list a size and a hash, got {brief(size)} and "
            f"{brief(blob)}"
        )
    return Listed(size, blob)


def is_here(repository: Path, pointer: Path, file: Listed) -> bool:
    """Whether a blob with the right content is in the cache, or in place of its link."""
    blob = repository / "blobs" / file.blob
    for path in (blob, pointer):
        with suppress(FileProblem), open_regular(path, file.size) as stream:
            if hash_of_blob(stream, file.blob) == file.blob:
                if path == pointer:
                    os.replace(pointer, blob)
                return True
    return False


class Bounded(io.FileIO):
    """A new file that takes at most `limit` bytes, however many a server sends."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, "xb")
        self.limit = limit

    def write(self, content: Any, /) -> int:
        """Write, or raise if it would be too much."""
        if self.tell() + len(content) > self.limit:
            raise HubError(
                f"the hub must send the {self.limit:,} bytes that it lists, got more; nothing of "
                "the file is kept"
            )
        return super().write(content)


def download_file(url: str, headers: dict[str, str], repository: Path, file: Listed) -> None:
    """Download one file to the blobs of the cache, if it is what the hub has listed."""
    with atomic_file(repository / "blobs" / file.blob) as temporary:
        with Bounded(temporary, file.size) as stream:
            http_get(url, stream, headers=headers, expected_size=file.size)
        with open(temporary, "rb") as stream:
            found = hash_of_blob(stream, file.blob)
        if found != file.blob:
            raise HubError(
                f"{url} must have the hash that the hub lists, {file.blob}, got {found}: it was "
                "damaged or altered in transit. Nothing of it is kept; load it again"
            )


def link(blob: Path, pointer: Path) -> None:
    """Make a file of a commit a link to its blob, or the blob itself where links cannot be made."""
    pointer.unlink(missing_ok=True)
    try:
        if constants.HF_HUB_DISABLE_SYMLINKS:
            raise OSError("switched off")
        os.symlink(os.path.relpath(blob, pointer.parent), pointer)
    except OSError:
        os.replace(blob, pointer)


def check_small(sizes: Mapping[str, int], problems: list[str]) -> None:
    """Check the sizes of all files except the weights."""
    problems += [
        f"{file}: expected at most {SMALL:,} bytes, got {size:,}"
        for file, size in sizes.items()
        if file != WEIGHTS and size > SMALL
    ]


def cached(repo_id: str, file: str, commit: str, cache_dir: Path | None) -> Path | None:
    """Return the path of a file in the cache; None if it is not cached."""
    found = try_to_load_from_cache(repo_id, file, cache_dir=cache_dir, revision=commit)
    return Path(found) if isinstance(found, str) else None


def push(
    model: nn.Module,
    repo_id: str,
    *,
    private: bool = False,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
) -> str:
    """Push a network to a repository of the hub, as one commit.

    The commit holds what :func:`placeformer.save` writes with ``dtype="exact"``: weights,
    configuration with their sha256, model card and, for a network that has not changed since it was
    loaded, its recipe and history. Other files of the repository are kept.

    Parameters
    ----------
    model
        A :class:`NavigationTransformer`, or a network whose class is registered, see
        :func:`register`.
    repo_id
        "org/name", or "name" for a repository of your own. It is created if it does not exist.
    private
        Whether a new repository is private. True raises if the repository exists and is public.
    token
        Token with write access; by default ``HF_TOKEN`` or the token of ``hf auth login``.
    revision
        Branch, which is created if it does not exist; by default "main".
    commit_message
        Message of the commit; by default it names this library and its version.
    create_pr
        Open a pull request on `revision` instead of changing it, as is usual for somebody else's
        repository. The repository must exist.
    license
        Licence that the card states, by the hub's short name such as "mit", "apache-2.0" or
        "cc-by-4.0". By default the one in the network's card; the card of a new
        NavigationTransformer states "mit", and that of a network of a registered class none.

    Returns
    -------
    str
        URL of the commit or pull request, or of the last commit if nothing has changed.

    Raises
    ------
    HubError
        If the hub cannot be reached or rejects the commit; a subclass of ValueError.
    FolderError
        If the network cannot be saved as it is.
    TypeError, ValueError
        If the class of `model` is not registered, or `repo_id`, `revision` or `license` is invalid.

    See Also
    --------
    load : Load a network from the hub.
    save : Write a network to a folder.
    register : Push networks of a class of your own.

    Notes
    -----
    The card has the metadata by which the hub finds networks: library, licence, task, tags and, for
    a network that was fine-tuned from a repository, its base model. Results are in the card's
    ``model-index`` and in ``.eval_results/placeformer.yaml``, which the hub reads since 2026.

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> url = pf.push(model, "org/my-network", private=True)  # doctest: +SKIP
    """
    check_target(repo_id, revision)
    check_license(license)
    if create_pr and private:
        raise ValueError(
            "private must be False with create_pr=True, since the repository of a pull request "
            "exists already, got True"
        )
    files, api = packed(model, repo_id.rpartition("/")[2]), client(token)
    with explained(f"{repo_id} cannot be pushed to", writing=True):
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        files[CARD] = addressed(files[CARD].decode(), repo_id, license).encode()
        files[SUMS] = sums_of(files)
        files |= evaluation(files[CONFIG])
        if not create_pr:
            make_repository(api, repo_id, private=private, branch=revision)
        head = api.model_info(repo_id, revision=revision)
        old = {s.rfilename for s in head.siblings or []} & {*FILES, EVALUATION} - set(files)
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, content) for name, content in files.items()),
                *(CommitOperationDelete(name) for name in sorted(old)),
            ],
            commit_message=commit_message or f"Push with {LIBRARY} {version(LIBRARY)}",
            revision=revision,
            parent_commit=head.sha,
            create_pr=create_pr,
        )
    return str(commit.pr_url or commit.commit_url)


def make_repository(api: HfApi, repo_id: str, *, private: bool, branch: str | None) -> None:
    """Make a repository and a branch, if they do not exist."""
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise HubError(
            f"private must be False for {repo_id}, which is public, got True; make it private "
            "on its settings page, or choose another repository"
        )
    if branch is not None:
        api.create_branch(repo_id, branch=branch, exist_ok=True)


def check_license(license: str | None) -> None:
    """Raise for anything that is not a short name of a licence."""
    if license is not None and not (isinstance(license, str) and LICENSE.fullmatch(license)):
        raise ValueError(
            'license must be a short name in lower case, such as "mit", "apache-2.0" or '
            '"cc-by-4.0" (https://huggingface.co/docs/hub/repositories-licenses), got '
            f"{license!r:.80}"
        )


def evaluation(config: bytes) -> dict[str, bytes]:
    """Return the file of results on the grid world as the hub reads them; none if there are none.

    The hub lists results by their benchmark, which networks of other classes do not have.
    """
    said = parse_config(config, [])
    if not isinstance(said, NavigationDescription) or not said.results:
        return {}
    entries = [
        EvalResultEntry(
            dataset_id=BENCHMARK,
            task_id=key,
            value=entry["value"],
            notes=str(entry["definition"]),
        )
        for key, entry in said.results.items()
    ]
    text = yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    return {EVALUATION: text.encode()}


def packed(model: nn.Module, name: str) -> dict[str, bytes]:
    """Contents of the files to push, after reading them back as a check."""
    with TemporaryDirectory() as temporary:
        folder, problems = Path(temporary) / name, list[str]()
        hub.save(model, folder, dtype="exact")
        hub.read(folder)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    check_small({file: len(content) for file, content in files.items()}, problems)
    refuse("the network cannot be pushed", problems)
    return files
