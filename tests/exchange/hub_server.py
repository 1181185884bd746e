"""Small Hugging Face Hub on this machine: the endpoints by which huggingface_hub creates, uploads to and downloads from a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"
LICENCES = ("apache-2.0", "mit")


@dataclass
class Repository:
    """Files of each commit, the latest last."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        every = {**(list(self.commits.values())[-1] if self.commits else {}), **files}
        oid = hashlib.sha1(repr((len(self.commits), every)).encode()).hexdigest()
        self.commits[oid] = every
        return oid

    def revision(self, name: str) -> str | None:
        if name == "main":
            return list(self.commits)[-1] if self.commits else None
        return name if name in self.commits else None


class Hub:
    """State of the server: repositories by name, uploaded objects by digest, and the requests, each as method and path."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.status: int | None = None  # of every answer, where it is set
        self.tokens: set[str | None] = set()


class Handler(BaseHTTPRequestHandler):
    """Requests of the client, dispatched by path."""

    hub: Hub

    def do_HEAD(self) -> None:
        self._answer_to("HEAD")

    def do_GET(self) -> None:
        self._answer_to("GET")

    def do_POST(self) -> None:
        self._answer_to("POST")

    def do_PUT(self) -> None:
        self._answer_to("PUT")

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def _answer_to(self, method: str) -> None:
        path, hub = self.path.partition("?")[0], self.hub
        hub.requests.append(f"{method} {path}")
        hub.tokens.add(self.headers.get("authorization"))
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = path.strip("/").split("/")
        if hub.status is not None:
            return self._send(hub.status, {"error": "out of order"})
        if method in ("HEAD", "GET") and "resolve" in parts:
            return self._resolve("/".join(parts[:2]), "/".join(parts[3:-1]), parts[-1])
        if parts[0] == "objects":
            hub.objects[parts[1]] = body
            return self._send(200, {})
        if method == "GET" and parts[:2] == ["api", "models"]:
            return self._describe("/".join(parts[2:4]))
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            licences = [line.removeprefix("license: ") for line in json.loads(body)["content"].splitlines() if line.startswith("license: ")]
            wrong = [{"message": f"no licence {name}"} for name in licences if name not in LICENCES]
            return self._send(400 if wrong else 200, {"errors": wrong, "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [{**o, "actions": {"upload": {"href": f"{hub.address}/objects/{o['oid']}"}}} for o in json.loads(body)["objects"]]
            return self._send(200, {"objects": objects})
        if "preupload" in parts:
            files = [{"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False} for f in json.loads(body)["files"]]
            return self._send(200, {"files": files})
        if "commit" in parts:
            return self._commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines()])
        return self._send(404, {"error": "no such endpoint"})

    def _create(self, request: dict[str, Any]) -> None:
        name = f"{request['organization']}/{request['name']}"
        there = name in self.hub.repositories
        if not there:
            self.hub.repositories[name] = Repository(private=request.get("visibility") == "private" or bool(request.get("private")))
        self._send(409 if there else 200, {"url": f"{self.hub.address}/{name}"})

    def _describe(self, name: str) -> None:
        if (repository := self._visible(name)) is None:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return self._send(200, {"id": name, "private": repository.private, "sha": repository.revision("main"), "siblings": [], "tags": []})

    def _commit(self, name: str, operations: list[dict[str, Any]]) -> None:
        files = {o["value"]["path"]: base64.b64decode(o["value"]["content"]) for o in operations if o["key"] == "file"}
        files |= {o["value"]["path"]: self.hub.objects[o["value"]["oid"]] for o in operations if o["key"] == "lfsFile"}
        oid = self.hub.repositories[name].commit(files)
        self._send(200, {"commitUrl": f"{self.hub.address}/{name}/commit/{oid}", "commitOid": oid, "success": True})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        if (repository := self._visible(name)) is None:
            return self._send(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if (oid := repository.revision(revision)) is None:
            return self._send(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
        if (content := repository.commits[oid].get(file)) is None:
            return self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
        return self._send(200, content, {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

    def _visible(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        private = repository is not None and repository.private and self.headers.get("authorization") != f"Bearer {TOKEN}"
        return None if private else repository

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def mode(path: str) -> str:
    """The way in which the Hub stores a file."""
    return "lfs" if path.endswith(".safetensors") else "regular"


@contextmanager
def running() -> Iterator[Hub]:
    """A Hub without repositories, which serves until the block ends."""
    handler: Any = type("Handler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield handler.hub
        server.shutdown()
        thread.join()
