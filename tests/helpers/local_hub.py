"""A model hub on 127.0.0.1, small and with a memory only, for the genuine client to talk to.

It knows users by their tokens, models, branches, tags, commits, pull requests and LFS. A test can
look at the `requests` it got, break its answers with `fault`, and add `headers` to files.
"""

import base64
import hashlib
import json
import os
import re
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

DATE = "2024-01-01T00:00:00.000000Z"
LFS = ".safetensors"


class Repository:
    """A model: commits hold all their files, branches and tags point at commits."""

    def __init__(self, private):
        self.private, self.commits, self.branches, self.tags = private, {}, {}, {}
        self.commit("main", {".gitattributes": b""}, "initial commit")

    def commit(self, branch, files, message):
        sha = hashlib.sha1(uuid.uuid4().bytes).hexdigest()
        self.commits[sha] = {
            "files": files,
            "message": message,
            "parent": self.branches.get(branch),
        }
        self.branches[branch] = sha
        return sha

    def resolve(self, revision):
        return (self.branches | self.tags | {sha: sha for sha in self.commits}).get(revision)

    def history(self, branch="main"):
        """Messages of a branch, the newest first."""
        sha, found = self.branches[branch], []
        while sha:
            found.append(self.commits[sha]["message"])
            sha = self.commits[sha]["parent"]
        return found


def entry(path, content):
    """How the hub lists a file."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found = {"size": len(content), "oid": blob, "blobId": blob}
    if path.endswith(LFS):
        sha256 = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 130}
    return found


class Refused(Exception):
    def __init__(self, status, message, code=None):
        super().__init__(message)
        self.status, self.code = status, code


class LocalHub(ThreadingHTTPServer):
    """The server; it runs from its making to the end of the process."""

    daemon_threads = True

    def __init__(self, users):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url, self.users = f"http://127.0.0.1:{self.server_port}", users
        self.reset()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reset(self):
        self.repositories, self.blobs, self.requests = {}, {}, []
        self.fault = lambda method, path: None
        self.headers = lambda path: {}

    def gets(self, name):
        """How often a file was asked for."""
        return sum(method == "GET" and path.endswith(name) for method, path in self.requests)

    @contextmanager
    def visited(self, token, cache):
        """Point a client that is imported already here, with this token and this cache."""
        from huggingface_hub import close_session, constants

        here = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": False,
        } | {f"HF_HUB_DISABLE_{name}": True for name in ("XET", "TELEMETRY", "SHARED_BLOBS")}
        close_session()
        with (
            patch.multiple(constants, **here),
            patch.dict(os.environ, HF_TOKEN=token, NO_PROXY="127.0.0.1"),
        ):
            try:
                yield
            finally:
                close_session()

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.server.requests.append((self.command, url.path))
        fault = self.server.fault(self.command, url.path) or {}
        try:
            if "status" in fault:
                raise Refused(fault["status"], "broken by the test")
            self.send(*self.route(url.path), **fault)
        except Refused as error:
            headers = {"X-Error-Message": str(error)}
            if error.code:
                headers["X-Error-Code"] = error.code
            self.send({"error": str(error)}, error.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def send(self, content, status=200, headers=None, *, body=None, cut=None):
        """Send an answer; a test may change its `body`, or `cut` it after so many bytes."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        raw = raw if body is None else body
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted:
            start = int(wanted[1])
            headers = (headers or {}) | {
                "Content-Range": f"bytes {start}-{len(raw) - 1}/{len(raw)}"
            }
            status, raw = 206, raw[start:]
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Length": len(raw)}).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw[:cut])
        if cut is not None:
            self.close_connection = True

    # Who asks, and for what

    def user(self):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.server.users:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.server.users.get(token)

    def repository(self, name, *, write=False):
        user, found = self.user(), self.server.repositories.get(name)
        owner = user == name.split("/")[0]
        if found is None or (found.private and not owner):
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not owner:
            raise Refused(403 if user else 401, "You have no write access")
        return found

    def commit_of(self, repository, revision):
        sha = repository.resolve(unquote(revision))
        if sha is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def route(self, path):
        for method, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split("|"):
                return answer(self, *found.groups())
        raise Refused(404, f"no route for {self.command} {path}")

    # Answers

    def create(self):
        user, asked = self.user(), json.loads(self.body)
        if user is None:
            raise Refused(401, "Invalid username or password.")
        name = f"{asked['organization'] or user}/{asked['name']}"
        if not name.startswith(f"{user}/"):
            raise Refused(403, f"You don't have the rights to create a model under {name}")
        answer = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repositories:
            return {"error": "You already created this model repo"} | answer, 409
        self.server.repositories[name] = Repository(asked.get("visibility") == "private")
        return (answer,)

    def info(self, name, revision="main"):
        repository = self.repository(name)
        return (self.about(name, repository, self.commit_of(repository, revision)),)

    def about(self, name, repository, sha):
        files = repository.commits[sha]["files"]
        card = re.match(r"---\n(.*?)\n---\n", files.get("README.md", b"").decode(), re.DOTALL)
        data = yaml.safe_load(card[1]) if card else {}
        tags = [*data.get("tags", []), *filter(None, [data.get("library_name")])]
        return {
            "id": name,
            "author": name.split("/")[0],
            "sha": sha,
            "private": repository.private,
            "tags": sorted(set(tags)),
            "lastModified": DATE,
            "siblings": [{"rfilename": p} | entry(p, c) for p, c in files.items()],
        }

    def whoami(self):
        if self.user() is None:
            raise Refused(401, "Invalid username or password.")
        return ({"type": "user", "name": self.user()},)

    def models(self):
        user, wanted = self.user(), set(self.query.get("filter", []))
        found = [
            self.about(name, repository, repository.branches["main"])
            for name, repository in self.server.repositories.items()
            if not repository.private or user == name.split("/")[0]
        ]
        return ([one for one in found if wanted <= set(one["tags"])],)

    def open_pr(self):
        """Whether a pull request is asked for, which any user may open."""
        return self.query.get("create_pr") == ["1"] and self.user() is not None

    def preupload(self, name, revision):
        repository = self.repository(name, write=not self.open_pr())
        old = repository.commits[self.commit_of(repository, revision)]["files"]
        files = []
        for asked in json.loads(self.body)["files"]:
            path = asked["path"]
            files.append({"path": path, "uploadMode": "lfs" if path.endswith(LFS) else "regular"})
            files[-1]["shouldIgnore"] = False
            if path in old:
                known = entry(path, old[path])
                files[-1]["oid"] = known.get("lfs", known)["oid"]
        return ({"files": files},)

    def batch(self, name):
        if self.user() is None:  # what is uploaded is nowhere until it is committed
            self.repository(name, write=True)
        objects = json.loads(self.body)["objects"]
        for asked in objects:
            if asked["oid"] not in self.server.blobs:
                href = f"{self.server.url}/lfs/{asked['oid']}"
                asked["actions"] = {"upload": {"href": href}}
        return ({"transfer": "basic", "objects": objects},)

    def upload(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, "sha256 does not fit")
        self.server.blobs[oid] = self.body
        return ({},)

    def push(self, name, revision):
        pr = self.open_pr()
        repository, branch = self.repository(name, write=not pr), unquote(revision)
        if branch not in repository.branches:
            raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        parent = repository.branches[branch]
        if header["value"].get("parentCommit", parent) != parent:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[parent]["files"])
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "deletedFile":
                del files[value["path"]]
            elif key == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        answer = {"success": True}
        if pr:
            number = 1 + sum(b.startswith("refs/pr/") for b in repository.branches)
            answer["pullRequestUrl"] = f"{self.server.url}/{name}/discussions/{number}"
            branch = f"refs/pr/{number}"
            repository.branches[branch] = parent
        sha = repository.commit(branch, files, header["value"]["summary"])
        url = f"{self.server.url}/{name}/commit/{sha}"
        return (answer | {"commitOid": sha, "commitUrl": url},)

    def branch(self, name, new):
        repository, new = self.repository(name, write=True), unquote(new)
        if new in repository.branches:
            raise Refused(409, "Reference already exists")
        start = (json.loads(self.body or "{}") or {}).get("startingPoint", "main")
        repository.branches[new] = self.commit_of(repository, start)
        return ({},)

    def tag(self, name, revision):
        repository = self.repository(name, write=True)
        repository.tags[json.loads(self.body)["tag"]] = self.commit_of(repository, revision)
        return ({},)

    def refs(self, name):
        repository = self.repository(name)
        listed = {
            kind: [
                {"name": ref, "ref": f"refs/{where}/{ref}", "targetCommit": sha}
                for ref, sha in of_kind.items()
            ]
            for kind, where, of_kind in (
                ("branches", "heads", repository.branches),
                ("tags", "tags", repository.tags),
            )
        }
        return (listed | {"converts": []},)

    def file(self, name, revision, path):
        repository = self.repository(name)
        sha, path = self.commit_of(repository, revision), unquote(path)
        files = repository.commits[sha]["files"]
        if path not in files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        known = entry(path, files[path])
        etag = known.get("lfs", known)["oid"]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"'}
        return files[path], 200, headers | self.server.headers(path)


NAME, PART = r"([^/]+/[^/]+)", r"([^/]+)"
ROUTES = [
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", lambda self: ({"errors": [], "warnings": []},)),
    ("POST", f"/api/models/{NAME}/preupload/{PART}", Handler.preupload),
    ("POST", f"/api/models/{NAME}/commit/{PART}", Handler.push),
    ("POST", f"/api/models/{NAME}/branch/{PART}", Handler.branch),
    ("POST", f"/api/models/{NAME}/tag/{PART}", Handler.tag),
    ("GET", f"/api/models/{NAME}/revision/{PART}", Handler.info),
    ("GET", f"/api/models/{NAME}/refs", Handler.refs),
    ("GET", f"/api/models/{NAME}", Handler.info),
    ("GET", "/api/models", Handler.models),
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", f"/lfs/{PART}", Handler.upload),
    ("GET|HEAD", f"/{NAME}/resolve/{PART}/(.+)", Handler.file),
]
