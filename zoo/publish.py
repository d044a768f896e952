"""Publish the zoo: push the networks, as they are stored and pinned, to repositories of a hub.

``python zoo/publish.py --organisation NAME`` pushes every network in zoo/models to NAME/<network>,
from where ``placeformer.load`` fetches those that are not in the installed package. The files are
pushed unchanged, so that they match the pins of the package; a repository that holds them already
is not changed. The snapshots of a network follow as the revisions step-0, step-50 and so on, if
these are missing. Pushing needs a token with write access (``HF_TOKEN``, or that of
``hf auth login``).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from placeformer.zoo import folder as hub
from placeformer.zoo import hub as remote
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import LIBRARY
from placeformer.zoo.files import FILES, HASHED, SUMS
from placeformer.zoo.hub import explained

MODELS = Path(__file__).resolve().parent / "models"


def publish(folder: Path, organisation: str, *, api: HfApi | None = None) -> str:
    """Push one network as it is stored; return the URL of the commit, or "" if nothing changed."""
    api, target = api or HfApi(), f"{organisation}/{folder.name}"
    hub.read(folder, pin=zoo.pin_of(folder.name))
    files = {n: (folder / n).read_bytes() for n in (*HASHED, SUMS) if (folder / n).is_file()}
    with explained(f"{target} cannot be pushed to", writing=True):
        api.create_repo(target, exist_ok=True)
        head = api.model_info(target, files_metadata=True)
        there = {sibling.rfilename: sibling for sibling in head.siblings or []}
        if SUMS in there:
            stored = Path(api.hf_hub_download(target, SUMS, revision=head.sha))
            if stored.read_bytes() == files[SUMS] and set(files) <= set(there):
                return ""
        commit = api.create_commit(
            target,
            [
                *(CommitOperationAdd(name, content) for name, content in files.items()),
                *(CommitOperationDelete(n) for n in sorted((set(there) & set(FILES)) - set(files))),
            ],
            commit_message="Publish the network of the zoo",
            parent_commit=head.sha,
        )
    return str(commit.commit_url)


def publish_steps(name: str, organisation: str) -> list[int]:
    """Push the snapshots of a network that its repository lacks; return their steps."""
    target = f"{organisation}/{name}"
    pinned = zoo.list_steps(name)
    missing = sorted(set(pinned) - set(remote.list_steps(target))) if pinned else []
    for step in missing:
        remote.push(zoo.load(name, step=step), target, revision=f"{zoo.STEP}{step}")
    return missing


def main() -> None:
    """Publish the networks in the order of the zoo."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get(zoo.ORGANISATION) or LIBRARY
    parser.add_argument("names", nargs="*", help="networks (default: all)")
    parser.add_argument("--organisation", default=default, help="owner of the repositories")
    options = parser.parse_args()
    known = zoo.list_models()
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"no such networks in {MODELS}: {', '.join(unknown)}")
    for name in options.names or known:
        print(f"{name}: {publish(MODELS / name, options.organisation) or 'unchanged'}", flush=True)
        if steps := publish_steps(name, options.organisation):
            print(f"{name}: snapshots at steps {', '.join(map(str, steps))}", flush=True)


if __name__ == "__main__":
    main()
