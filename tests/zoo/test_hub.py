"""The hub: the genuine client against a small hub on 127.0.0.1, every way it can go wrong."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from helpers import networks
from helpers.local_hub import LocalHub
from huggingface_hub import HfApi, ModelCard, constants, parse_eval_result_entries

import placeformer as pf
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.zoo import folder as hub
from placeformer.zoo import hub as remote
from placeformer.zoo import registry as zoo
from placeformer.zoo.hub import HubError

REPO = "alice/net"
RESULTS = {"working_error": {"value": 0.0125, "definition": "share of wrong predictions"}}


def network(seed=0, alpha=0.1 + 0.2):
    """A network whose weights no float16 can hold."""
    config = ModelConfig(4, 6, 2, 2, 3, 5, 3, 4, 3, 0.1, "nmda", alpha)
    model = NavigationTransformer(config, GridWorld(3, 4, 2, 7)).eval()
    return networks.randomised(model, seed)


def same(a, b):
    """Bit-equal weights, equal configuration and maps."""
    ours, theirs = a.state_dict(), b.state_dict()
    return (
        a.config == b.config
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[name], theirs[name]) for name in ours)
        and (a.world.maps == b.world.maps).all()
        and (a.world.novel_maps == b.world.novel_maps).all()
    )


@pytest.fixture
def repo(local_hub):
    """A repository with a network; its folder on the hub."""
    pf.push(network(), REPO)
    local_hub.requests.clear()
    return local_hub.repositories[REPO]


@pytest.fixture
def offline(monkeypatch):
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def files_of(repository, branch="main"):
    return repository.commits[repository.branches[branch]]["files"]


def refused(*parts, source=REPO, error=HubError, **options):
    with pytest.raises(error) as caught:
        pf.load(source, **options)
    for part in parts:
        assert part in str(caught.value)
    return str(caught.value)


# Round trips


@pytest.mark.parametrize("source", [REPO, f"hf:{REPO}", f"{REPO}@main"])
def test_round_trip_is_bit_equal(local_hub, repo, source):
    model = pf.load(source)
    assert same(model, network())
    assert not model.training
    commit = repo.branches["main"]
    assert model.info["name"] == "net"
    assert model.info["source"] == f"hf:{REPO}@{commit}"
    assert model.info["revision"] == commit
    assert model.info["dtype"] == "float32"


def test_push_is_one_commit_and_returns_its_url(local_hub):
    url = pf.push(network(), REPO, commit_message="first")
    repository = local_hub.repositories[REPO]
    assert url == f"{local_hub.url}/{REPO}/commit/{repository.branches['main']}"
    assert repository.history() == ["first", "initial commit"]
    assert set(files_of(repository)) == {
        ".gitattributes", "README.md", "SHA256SUMS", "config.json", "model.safetensors",
    }  # fmt: skip
    weights = files_of(repository)["model.safetensors"]
    recorded = json.loads(files_of(repository)["config.json"])["weights"]["sha256"]
    assert recorded == hashlib.sha256(weights).hexdigest()


def test_a_name_alone_is_a_repository_of_ones_own(local_hub):
    assert f"/{REPO}/commit/" in pf.push(network(), "net")
    repository = local_hub.repositories[REPO]
    assert repository.history()[0] == f"Push with placeformer {pf.__version__}"
    assert f'pf.load("{REPO}")' in files_of(repository)["README.md"].decode()


def test_a_zoo_network_is_pushed_with_all_that_is_known_of_it(local_hub):
    model = pf.load("nmda-a10")
    pf.push(model, REPO)
    files = files_of(local_hub.repositories[REPO])
    folder = zoo.zoo_folder() / "nmda-a10"
    for name in {f.name for f in folder.iterdir()} - {"README.md", "SHA256SUMS"}:
        assert files[name] == (folder / name).read_bytes(), name
    assert "reference_error_trained" in files["README.md"].decode()
    again = pf.load(REPO)
    assert same(again, model)
    assert again.info["results"] == model.info["results"]
    assert again.info["sha256"] == model.info["sha256"]


def test_a_changed_network_loses_the_results_of_the_old_one(local_hub, tmp_path):
    pf.save(network(), tmp_path / "net", dtype="float32", results=RESULTS, history=[{"step": 1}])
    model = pf.load(tmp_path / "net")
    pf.push(model, REPO)
    assert pf.load(REPO).info["results"] == {"working_error": 0.0125}
    assert "history.csv" in files_of(local_hub.repositories[REPO])
    with torch.no_grad():
        model.norm.bias[0] += 1
    pf.push(model, REPO)
    files = files_of(local_hub.repositories[REPO])
    assert pf.load(REPO).info["results"] == {}
    assert "history.csv" not in files
    assert "Nothing was measured" in files["README.md"].decode()


def test_the_card_says_how_to_load_it_and_is_found_by_the_hub(local_hub, repo):
    pf.push(network(), "alice/other", private=True)
    HfApi().create_repo("alice/unrelated")
    card = ModelCard(files_of(repo)["README.md"].decode())
    assert f'pf.load("{REPO}")' in card.text
    assert card.data.library_name == "placeformer"
    found = list(HfApi().list_models(filter="placeformer"))
    assert {model.id for model in found} == {REPO, "alice/other"}
    assert [m.id for m in HfApi(token="hf_bob").list_models(filter="placeformer")] == [REPO]


def test_a_card_of_ones_own_is_kept_and_found(local_hub, tmp_path):
    text = '---\nlicense: mit\n---\n# Mine\n\npf.load("org/name@v1")\n'
    pf.save(network(), tmp_path / "net", dtype="float32", card=text)
    pf.push(pf.load(tmp_path / "net"), REPO)
    card = ModelCard(files_of(local_hub.repositories[REPO])["README.md"].decode())
    assert "# Mine" in card.text and f'pf.load("{REPO}@v1")' in card.text
    assert card.data.tags == ["placeformer"]


def test_pushing_twice_changes_nothing_then_replaces(local_hub, repo):
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id=REPO)
    before = len(repo.history())
    assert pf.push(network(), REPO).endswith(repo.branches["main"])
    assert len(repo.history()) == before
    pf.push(network(seed=1), REPO)
    assert len(repo.history()) == before + 1
    assert files_of(repo)["notes.txt"] == b"mine"
    assert same(pf.load(REPO), network(seed=1))


# Revisions


def test_branch_tag_and_commit_are_pinned(local_hub, repo):
    first = repo.branches["main"]
    HfApi().create_tag(REPO, tag="v1")
    pf.push(network(seed=1), REPO)
    pf.push(network(seed=2), REPO, revision="feat/x")
    for source, revision, seed in (
        (REPO, None, 1),
        (REPO, "v1", 0),
        (f"{REPO}@v1", None, 0),
        (f"hf:{REPO}@{first}", None, 0),
        (f"{REPO}@{first}", first, 0),
        (REPO, "feat/x", 2),
    ):
        model = pf.load(source, revision=revision)
        assert same(model, network(seed)), (source, revision)
    assert repo.history("feat/x")[1:] == repo.history("main")


def test_the_files_are_of_one_commit_even_if_one_is_pushed_meanwhile(local_hub, repo, monkeypatch):
    def push_meanwhile(method, path):
        if method == "GET" and path.endswith("config.json"):
            local_hub.fault = lambda method, path: None
            other = {"config.json": b"{}", "model.safetensors": b""}
            repo.commit("main", files_of(repo) | other, "meanwhile")

    first = repo.branches["main"]
    local_hub.fault = push_meanwhile
    model = pf.load(REPO)
    assert repo.branches["main"] != first
    assert model.info["revision"] == first
    assert same(model, network())


def test_a_push_meanwhile_is_not_overwritten(local_hub, repo):
    def push_meanwhile(method, path):
        if path.endswith("/commit/main"):
            local_hub.fault = lambda method, path: None
            repo.commit("main", files_of(repo), "meanwhile")

    local_hub.fault = push_meanwhile
    with pytest.raises(HubError, match="somebody else has pushed to it in the meantime"):
        pf.push(network(seed=1), REPO)
    assert repo.history()[0] == "meanwhile"


@pytest.mark.parametrize(
    ("source", "revision", "part"),
    [
        (f"{REPO}@v1", "v2", "revision must be the one in 'alice/net@v1' or None, got 'v2'"),
        (REPO, "../../x", "revision must be a branch, tag or commit, got '../../x'"),
        (REPO, "/etc", "got '/etc'"),
        (f"hf:{REPO}@", None, "got ''"),
        ("hf:net", None, "repo_id must be \"org/name\", got 'net'"),
        ("hf:../net", None, "got '../net'"),
        ("hf:alice/../../net", None, "got 'alice/../../net'"),
        ("alice/..", None, "got 'alice/..'"),
    ],
)
def test_names_that_would_leave_the_cache_are_refused(local_hub, source, revision, part):
    refused(part, source=source, revision=revision, error=ValueError)
    assert local_hub.requests == []


@pytest.mark.parametrize("revision", ["../x", "a" * 40])
def test_only_branches_are_pushed_to(local_hub, revision):
    with pytest.raises(ValueError, match="revision must be a branch"):
        pf.push(network(), REPO, revision=revision)
    assert local_hub.requests == []


# Rights


def test_a_private_repository_needs_a_token(local_hub, monkeypatch):
    pf.push(network(), REPO, private=True)
    assert local_hub.repositories[REPO].private
    monkeypatch.delenv("HF_TOKEN")
    refused("the hub has no such repository that you can access", "token=...")
    refused("that you can access", token="hf_bob")
    refused("the hub does not know the token, or got none", token="hf_wrong")
    assert same(pf.load(REPO, token="hf_alice"), network())


def test_private_is_not_pushed_to_what_is_public(local_hub, repo):
    with pytest.raises(HubError, match="private must be False for alice/net, which is public"):
        pf.push(network(seed=1), REPO, private=True)
    assert len(repo.history()) == 2


@pytest.mark.parametrize(
    ("token", "part"),
    [
        ("hf_bob", "alice/net cannot be pushed to: the token may not write there"),
        ("hf_wrong", "the hub does not know the token, or got none"),
        (False, "the hub does not know the token, or got none"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_push_without_rights_leaves_nothing(local_hub, token, part, exists):
    if exists:
        pf.push(network(), REPO)
    with pytest.raises(HubError, match=part):
        pf.push(network(seed=1), REPO, token=token)
    assert list(local_hub.repositories) == [REPO] * exists
    assert not exists or len(local_hub.repositories[REPO].history()) == 2


def test_a_network_that_cannot_be_saved_creates_no_repository(local_hub):
    model = network()
    model.layers[1].ffn.activation.alpha = 5.0
    with pytest.raises(hub.FolderError, match="save the network as it was trained"):
        pf.push(model, REPO)
    with pytest.raises(TypeError, match=r"got str; pass .* pf\.load\('nmda-a10'\)"):
        pf.push("nmda-a10", REPO)
    assert local_hub.requests == []


def test_a_pull_request_leaves_the_branch_as_it_is(local_hub, repo, monkeypatch):
    before = files_of(repo)
    monkeypatch.setenv("HF_TOKEN", "hf_bob")  # who may not write there
    url = pf.push(network(seed=1), REPO, create_pr=True)
    assert url == f"{local_hub.url}/{REPO}/discussions/1"
    assert files_of(repo) == before
    assert same(pf.load(REPO, revision="refs/pr/1"), network(seed=1))
    assert pf.push(network(seed=2), REPO, create_pr=True).endswith("/2")
    with pytest.raises(HubError, match="may not write there"):
        pf.push(network(seed=1), REPO)
    with pytest.raises(HubError, match="no such repository"):
        pf.push(network(), "alice/other", create_pr=True)
    with pytest.raises(ValueError, match="private must be False with create_pr=True"):
        pf.push(network(), REPO, create_pr=True, private=True)


def test_the_card_states_licence_task_and_results(local_hub, tmp_path):
    pf.save(network(), tmp_path / "net", results=RESULTS, dtype="exact")
    pf.push(pf.load(tmp_path / "net"), REPO, license="apache-2.0")
    files = files_of(local_hub.repositories[REPO])
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "apache-2.0" and card.text.endswith("## Licence\n\napache-2.0\n")
    assert card.data.pipeline_tag == "feature-extraction"
    (entry,) = parse_eval_result_entries(yaml.safe_load(files[remote.EVALUATION]))
    assert (entry.task_id, entry.value) == ("working_error", 0.0125)
    assert entry.notes == RESULTS["working_error"]["definition"]
    assert card.data.eval_results[0].metric_value == entry.value
    assert same(pf.load(REPO), network())
    pf.push(network(seed=1), REPO)  # of which nothing was measured
    files = files_of(local_hub.repositories[REPO])
    assert remote.EVALUATION not in files
    assert ModelCard(files["README.md"].decode()).data.license == "mit"


@pytest.mark.parametrize("license", ["MIT", "", "GPL v3", 3])
def test_what_is_no_licence_is_refused(local_hub, license):
    with pytest.raises(ValueError, match=r"license must be a short name in lower case.* got"):
        pf.push(network(), REPO, license=license)
    assert not local_hub.requests


# The cache


def test_a_commit_in_the_cache_needs_no_request(local_hub, repo):
    commit = pf.load(REPO).info["revision"]
    local_hub.requests.clear()
    assert same(pf.load(f"{REPO}@{commit}"), network())
    assert local_hub.requests == []
    pf.load(REPO)
    assert local_hub.requests == [("GET", f"/api/models/{REPO}")]


def test_offline_after_download(local_hub, repo, offline):
    HfApi().create_tag(REPO, tag="v1")
    pf.load(f"{REPO}@v1")
    pf.load(REPO)
    local_hub.requests.clear()
    assert same(pf.load(REPO, local_files_only=True), network())
    offline()
    for source in (REPO, f"{REPO}@v1"):
        assert same(pf.load(source), network())
    assert local_hub.requests == []


def test_offline_without_download(local_hub, repo, offline, tmp_path):
    parts = ("it is not in the cache", "load it once with a connection, or pass the cache_dir")
    refused(f"{REPO} at main", *parts, local_files_only=True)
    pf.load(REPO)
    refused(*parts, local_files_only=True, cache_dir=tmp_path / "elsewhere")
    refused("at v1", *parts, source=f"{REPO}@v1", local_files_only=True)
    offline()
    refused(f"alice/other at {'a' * 40}", *parts, source=f"alice/other@{'a' * 40}")
    with pytest.raises(HubError, match="alice/net cannot be pushed to: .*HF_HUB_OFFLINE"):
        pf.push(network(), REPO)


def test_a_cache_folder_of_ones_own(local_hub, repo, tmp_path):
    pf.load(REPO, cache_dir=tmp_path / "mine")
    assert same(pf.load(REPO, cache_dir=tmp_path / "mine", local_files_only=True), network())
    assert not (tmp_path / "cache").exists()


def test_a_stale_cache_is_brought_up_to_date(local_hub, repo):
    old = pf.load(REPO)
    pf.push(network(seed=1), REPO)
    assert same(pf.load(REPO, local_files_only=True), old)
    assert same(pf.load(REPO), network(seed=1))
    assert same(pf.load(f"{REPO}@{old.info['revision']}", local_files_only=True), old)


def test_a_hub_that_is_down_leaves_the_copy_in_the_cache(local_hub, repo):
    pf.load(REPO)
    local_hub.fault = lambda method, path: {"status": 500}
    assert same(pf.load(REPO), network())
    refused("the hub has a fault of its own (500)", source="alice/other")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_partial_snapshot_is_completed_or_named(local_hub, repo, offline, file):
    folder = Path(pf.load(REPO).info["folder"])
    blob = (folder / file).resolve()
    (folder / file).unlink()
    blob.unlink()
    refused(f"{file} of {REPO} at main", "not in the cache", local_files_only=True)
    assert same(pf.load(REPO), network())
    assert local_hub.gets(file) == 2
    offline()
    assert same(pf.load(REPO), network())


def test_two_processes_load_at_once(local_hub, repo, tmp_path):
    code = (
        "import sys; import placeformer as pf; pf.load; print('ready', flush=True);"
        "sys.stdin.readline(); print(pf.load('alice/net').info['sha256'])"
    )
    environment = os.environ | {
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        model = pf.load(REPO)
        assert other.stdout.readline().strip() == model.info["sha256"]
    assert same(model, network())
    assert other.returncode == 0


# Damage on the way


def test_a_connection_cut_once_is_taken_up_again(local_hub, repo, monkeypatch):
    def cut(method, path):
        if method == "GET" and path.endswith("model.safetensors"):
            local_hub.fault = lambda method, path: None
            return {"cut": 1000}

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    local_hub.fault = cut
    assert same(pf.load(REPO), network())
    assert local_hub.gets("model.safetensors") == 2


def test_a_connection_that_is_always_cut_is_an_error(local_hub, repo, monkeypatch, tmp_path):
    def cut(method, path):
        return {"cut": 0} if method == "GET" and path.endswith("model.safetensors") else None

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    local_hub.fault = cut
    refused(f"model.safetensors of {REPO}", "the transfer failed and nothing half-written is kept")
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    local_hub.fault = lambda method, path: None
    assert same(pf.load(REPO), network())


FETCHED = ["config.json", "model.safetensors", "README.md", "history.csv", "SHA256SUMS"]


@pytest.fixture
def told(local_hub, tmp_path):
    """A repository with results and a history."""
    pf.save(network(), tmp_path / "told", dtype="float32", results=RESULTS, history=[{"step": 1}])
    pf.push(pf.load(tmp_path / "told"), REPO)
    local_hub.requests.clear()
    return local_hub.repositories[REPO]


def blobs(tmp_path):
    return [f for f in (tmp_path / "cache").rglob("*") if "blobs" in f.parts and f.is_file()]


@pytest.mark.parametrize("file", FETCHED)
def test_a_file_that_is_altered_in_transit_is_refused_and_not_kept(local_hub, told, file, tmp_path):
    """The client compares sizes alone, and would keep the file in its cache for good."""
    whole = files_of(told)[file]
    broken = whole[:-1] + bytes([whole[-1] ^ 1])
    local_hub.fault = lambda method, path: {"body": broken} if path.endswith(file) else None
    refused(REPO, f"{file} must have the hash that the hub lists", "altered in transit")
    assert broken not in [f.read_bytes() for f in blobs(tmp_path)]
    local_hub.fault = lambda method, path: None
    assert same(pf.load(REPO), network())


@pytest.mark.parametrize("file", FETCHED)
@pytest.mark.parametrize("body", [b"x" * 3_000_000, b""])
def test_a_file_of_another_size_than_listed_is_not_kept(local_hub, told, file, body, tmp_path):
    local_hub.fault = lambda method, path: {"body": body} if path.endswith(file) else None
    refused("the hub must send the" if body else "the transfer failed")
    assert sum(f.stat().st_size for f in blobs(tmp_path)) < 100_000


@pytest.mark.parametrize("file", FETCHED)
@pytest.mark.parametrize("exists", [False, True])
def test_an_etag_never_becomes_a_path(local_hub, told, file, exists, tmp_path):
    """The client names a blob by this header, and so writes to any file or links to it."""
    victim = tmp_path / "authorized_keys"
    if exists:
        victim.write_text("TOPSECRET")
    lie = {"ETag": f'"{victim}"', "X-Linked-Etag": f'"../../../../{victim.name}"'}
    local_hub.headers = lambda path: lie if path.endswith(file) else {}
    model = pf.load(REPO, force_download=exists)
    assert same(model, network())
    assert victim.exists() == exists and (not exists or victim.read_text() == "TOPSECRET")
    pf.push(model, "alice/other")
    pushed = files_of(local_hub.repositories["alice/other"])
    assert not any(b"TOPSECRET" in content for content in pushed.values())


@pytest.mark.parametrize("blob", ["../../x", "", None, 5, "a" * 41])
def test_a_listing_without_hashes_is_refused(local_hub, told, blob):
    info = {
        "id": REPO,
        "sha": told.branches["main"],
        "siblings": [{"rfilename": "config.json", "size": 5, "blobId": blob}],
    }
    local_hub.fault = lambda method, path: {"body": json.dumps(info).encode()}
    refused("config.json: the hub must list a size and a hash")


@pytest.mark.parametrize("file", FETCHED)
def test_damage_in_the_cache_is_refused_and_mended_on_request(local_hub, told, file):
    cached = (Path(pf.load(REPO).info["folder"]) / file).resolve()
    content = cached.read_bytes()
    cached.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(f"{file}: expected the content that", "force_download=True")
    assert same(pf.load(REPO, force_download=True), network())
    assert same(pf.load(REPO), network())


@pytest.mark.parametrize("file", FETCHED)
def test_a_link_in_the_cache_that_leads_out_of_it_is_refused(local_hub, told, file, tmp_path):
    (tmp_path / ("a" * 64)).write_text("TOPSECRET")
    pointer = Path(pf.load(REPO).info["folder"]) / file
    pointer.unlink()
    pointer.symlink_to(tmp_path / ("a" * 64))
    refused(f"{file}: expected a regular file, got a link to")


def test_a_card_may_be_edited_on_the_hubs_website(local_hub, told):
    edited = {"README.md": files_of(told)["README.md"] + b"\nSee also our paper.\n"}
    told.commit("main", files_of(told) | edited, "Update README.md")
    pf.push(pf.load(REPO), "alice/other")
    assert b"our paper" in files_of(local_hub.repositories["alice/other"])["README.md"]
    told.commit("main", files_of(told) | {"history.csv": b"step\n2\n"}, "Better numbers")
    refused("history.csv: expected sha256")


# What a repository may hold


def test_only_the_files_of_a_network_are_fetched(local_hub, repo):
    others = {
        "pytorch_model.bin": b"\x80\x04.",
        "model.py": b"",
        "../../evil": b"",
        "a/b.json": b"",
    }
    repo.commit("main", files_of(repo) | others, "more")
    folder = Path(pf.load(REPO).info["folder"])
    ours = {"README.md", "SHA256SUMS", "config.json", "model.safetensors"}
    assert {f.name for f in folder.iterdir()} == ours
    asked = {path.rpartition("/")[2] for _, path in local_hub.requests if "/resolve/" in path}
    assert asked == ours


def test_pickled_weights_are_not_even_fetched(local_hub, repo):
    files = {k: v for k, v in files_of(repo).items() if k != "model.safetensors"}
    repo.commit("main", files | {"pytorch_model.bin": b"\x80\x04."}, "pickled")
    refused("model.safetensors: the file is missing")
    assert local_hub.gets("pytorch_model.bin") == 0


def test_a_repository_of_something_else_is_named(local_hub):
    HfApi().create_repo("alice/empty")
    refused(
        "alice/empty at",
        "config.json: the file is missing",
        source="alice/empty",
    )
    refused("the repository has no such branch, tag or commit", source="alice/empty@v9")
    refused("no such repository that you can access", "did you mean a folder?", source="alice/none")


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("network", {"d_model": 10**9}),
        ("network", {"n_layers": 10**6}),
        ("network", {"n_layers": 10**18, "d_inner": 10**18}),
        ("network", {"n_letters": 10**9}),
        ("network", {"chunk": 10**9}),
        ("world", {"side": 10**6}),
        ("world", {"n_maps": 10**9}),
    ],
)
def test_giants_are_refused_before_their_weights_are_fetched(local_hub, repo, section, change):
    entries = json.loads(files_of(repo)["config.json"])
    entries[section] |= change
    if section == "network" and "n_letters" in change:
        entries["world"]["n_letters"] = change["n_letters"]
    repo.commit("main", files_of(repo) | {"config.json": json.dumps(entries).encode()}, "giant")
    if change.get("n_layers") == 10**18:  # too large for any tensor
        refused("config.json: network: expected tensors of fewer than 2**63 bytes")
    else:
        text = refused("model.safetensors: expected about", "bytes")
        assert f"got {len(files_of(repo)['model.safetensors']):,}" in text
    assert local_hub.gets("model.safetensors") == 0


def test_a_weight_file_larger_than_its_network_is_not_fetched(local_hub, repo, monkeypatch):
    monkeypatch.setattr("placeformer.zoo.weights.HEADER", 100)
    refused("model.safetensors: expected about")
    assert local_hub.gets("model.safetensors") == 0


@pytest.mark.parametrize("file", ["config.json", "README.md", "history.csv", "curve.png"])
def test_a_large_text_is_not_fetched_or_pushed(local_hub, repo, monkeypatch, file, tmp_path):
    monkeypatch.setattr(remote, "SMALL", 9_999)
    repo.commit("main", files_of(repo) | {file: b" " * 10_000}, "large")
    refused(f"{file}: expected at most 9,999 bytes, got 10,000")
    assert local_hub.gets(file) == 0
    pf.save(network(), tmp_path / "net", dtype="float32", card="x" * 10_000)
    with pytest.raises(hub.FolderError, match="README.md: expected at most 9,999 bytes"):
        pf.push(pf.load(tmp_path / "net"), "alice/other")
    assert list(local_hub.repositories) == [REPO]


@pytest.mark.parametrize("where", ["../../other.safetensors", "/etc/passwd", "pytorch_model.bin"])
def test_a_config_cannot_name_another_weight_file(local_hub, repo, where):
    entries = json.loads(files_of(repo)["config.json"])
    entries["weights"]["file"] = where
    repo.commit("main", files_of(repo) | {"config.json": json.dumps(entries).encode()}, "away")
    refused("weights.file: expected model.safetensors, got")
    assert local_hub.gets("model.safetensors") == 0


def test_a_hub_that_answers_with_no_commit_is_refused(local_hub, repo, tmp_path):
    body = json.dumps({"id": REPO, "sha": "../../..", "tags": []}).encode()
    local_hub.fault = lambda method, path: {"body": body}
    refused("must resolve to a commit of 40 hexadecimal digits, got '../../..'")


# The ecosystem's methods


def test_save_pretrained_and_from_pretrained_are_exact(tmp_path):
    model = network()
    assert model.save_pretrained(tmp_path / "net") is None
    assert same(NavigationTransformer.from_pretrained(tmp_path / "net"), model)
    network(seed=1).save_pretrained(tmp_path / "net")  # replaces
    loaded = NavigationTransformer.from_pretrained(str(tmp_path / "net"))
    assert same(loaded, network(seed=1)) and not loaded.training


def test_exact_is_float16_where_that_rounds_nothing(tmp_path):
    pf.load("nmda-a10").save_pretrained(tmp_path / "net")
    assert pf.load(tmp_path / "net").info["dtype"] == "float16"
    for file in (zoo.zoo_folder() / "nmda-a10").iterdir():
        assert (tmp_path / "net" / file.name).read_bytes() == file.read_bytes()


def test_push_to_hub_and_from_pretrained(local_hub):
    model = network()
    url = model.push_to_hub(REPO, commit_message="mine", private=True, branch="dev")
    repository = local_hub.repositories[REPO]
    assert url.endswith(repository.branches["dev"])
    assert repository.private and repository.history("dev")[0] == "mine"
    loaded = NavigationTransformer.from_pretrained(REPO, revision="dev", token="hf_alice")
    assert same(loaded, model)
    again = NavigationTransformer.from_pretrained(REPO, revision="dev", local_files_only=True)
    assert same(again, model)


def test_save_pretrained_can_push(local_hub, tmp_path):
    url = network().save_pretrained(tmp_path / "net", push_to_hub=True, private=True)
    assert f"/{REPO}/commit/" in url
    network().save_pretrained(tmp_path / "net", push_to_hub=True, repo_id="alice/other")
    assert [r.private for r in local_hub.repositories.values()] == [True, False]
    with pytest.raises(TypeError, match="push_to_hub must be True to use private"):
        network().save_pretrained(tmp_path / "net", private=True)


def test_options_that_would_load_something_else_are_refused(local_hub, repo):
    for options in ({"strict": False}, {"alpha": 1.0}, {"config": {}}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            NavigationTransformer.from_pretrained(REPO, **options)

    class Other(NavigationTransformer):
        pass

    with pytest.raises(TypeError, match="Other cannot be loaded"):
        Other.from_pretrained(REPO)


def test_from_pretrained_takes_zoo_names():
    assert NavigationTransformer.from_pretrained("nmda-a10").info["source"] == "zoo"


# Copies


def test_pull_copies_the_whole_network(local_hub, tmp_path, offline):
    pf.push(pf.load("nmda-a10"), REPO)
    remote.pull(REPO, tmp_path / "copy")
    files = files_of(local_hub.repositories[REPO])
    copied = {f.name: f.read_bytes() for f in (tmp_path / "copy").iterdir()}
    ours = {k: v for k, v in files.items() if not k.startswith(".")}
    assert copied == ours
    assert not any(f.is_symlink() for f in (tmp_path / "copy").iterdir())
    offline()
    shutil.rmtree(tmp_path / "copy")
    remote.pull(f"{REPO}@main", tmp_path / "copy")
    assert same(pf.load(tmp_path / "copy"), pf.load("nmda-a10"))


def test_pull_leaves_nothing_half_written(local_hub, repo, tmp_path):
    local_hub.fault = lambda method, path: {"body": b""} if path.endswith("config.json") else None
    with pytest.raises(HubError, match="the transfer failed and nothing half-written is kept"):
        remote.pull(REPO, tmp_path / "copy")
    assert not any(f.name.startswith((".copy", "copy")) for f in tmp_path.iterdir())
    local_hub.fault = lambda method, path: None
    assert same(remote.pull(REPO, tmp_path / "copy", force_download=True), network())
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").touch()
    local_hub.requests.clear()
    with pytest.raises(hub.FolderError, match="folder must be new or empty"):
        remote.pull(REPO, tmp_path / "copy")
    assert local_hub.requests == []


def test_the_client_is_the_genuine_one():
    assert huggingface_hub.HfApi.__module__ == "huggingface_hub.hf_api"
    assert re.match(r"http://127\.0\.0\.1:\d+$", constants.ENDPOINT)


def test_a_client_that_is_imported_visits_another_hub_and_comes_back(local_hub, tmp_path):
    before = dict(vars(constants)), dict(os.environ)
    hub_of_carol = LocalHub({"hf_carol": "carol"})
    with pytest.raises(HubError, match="no such branch"):  # noqa: SIM117
        with hub_of_carol.visited("hf_carol", tmp_path / "hers"):
            url = pf.push(network(), "carol/net")
            assert same(pf.load("carol/net"), network())
            pf.load("carol/net@elsewhere")
    assert url.startswith(hub_of_carol.url) and not local_hub.requests
    assert (dict(vars(constants)), dict(os.environ)) == before
    assert (tmp_path / "hers" / "models--carol--net").is_dir()
    hub_of_carol.shutdown()
    hub_of_carol.server_close()


def test_a_cache_that_cannot_be_written_is_named(repo, monkeypatch):
    def fetch(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", "/cache/models--alice--net")

    monkeypatch.setattr(remote, "fetch", fetch)
    refused("the cache cannot be written", "/cache/models--alice--net", "HF_HUB_CACHE")
