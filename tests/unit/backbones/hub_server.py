"""A server on this machine that speaks as much of the Hugging Face hub's protocol as its client needs for models.

Repositories with commits, branches and files; large files come from another address than small ones, as there. It can
be told to do what servers do: ask for a token, rename a repository, send damaged bytes, break off, fail.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_secret"


@dataclass
class Repository:
    """Files of each commit by name; `main` is the last commit."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    renamed: str = ""  # a repository that took its place
    damage: bool = False  # bytes of large files change on the way
    status: int = 0  # answered to everything

    def commit(self, **files: bytes) -> str:
        names = {name.replace("__", "."): content for name, content in files.items()}
        digest = hashlib.sha1(repr((len(self.commits), sorted(names))).encode()).hexdigest()
        self.commits[digest] = names
        return digest

    def resolve(self, revision: str) -> str | None:
        return list(self.commits)[-1] if revision == "main" else revision if revision in self.commits else None


class Hub:
    """The server; use it as a context."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.files: dict[str, bytes] = {}  # plain files at other addresses
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, cache) -> dict[str, str]:
        """What points the real client here."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        if match := re.fullmatch(r"/storage/([^/]+/[^/]+)/([0-9a-f]{64})", path):
            repository = self.hub.repositories[match[1]]
            content = next(
                content
                for files in repository.commits.values()
                for content in files.values()
                if hashlib.sha256(content).hexdigest() == match[2]
            )
            if repository.damage:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self._send(200, content, body)
        elif match := re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)/(resolve|revision|tree)/([^/]+)(?:/(.+))?", path):
            self._model(match[1], match[2], match[3], match[4], body)
        elif path.lstrip("/") in self.hub.files:
            self._send(200, self.hub.files[path.lstrip("/")], body)
        else:
            self._send(404, b"", body)

    def _model(self, name: str, what: str, revision: str, file: str | None, body: bool) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._error(401, "RepoNotFound", "Invalid username or password.", body)
        elif repository.status:
            self._send(repository.status, b"", body)
        elif repository.renamed:
            self._send(307, b"", body, {"Location": self.path.replace(name, repository.renamed, 1)})
        elif repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, "GatedRepo", f"Access to model {name} is restricted.", body)
        elif (commit := repository.resolve(revision)) is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}", body)
        elif what in {"revision", "tree"}:
            self._listing(name, what, commit, repository.commits[commit], body)
        elif file not in repository.commits[commit]:
            self._error(404, "EntryNotFound", "Entry not found", body, {"X-Repo-Commit": commit})
        else:
            send = self._text if file.endswith(".json") else self._file
            send(name, commit, repository.commits[commit][file], body)

    def _listing(self, name: str, what: str, commit: str, files: dict[str, bytes], body: bool) -> None:
        tree = [{"type": "file", "path": path, "size": len(content), "oid": "0"} for path, content in files.items()]
        info = {"id": name, "modelId": name, "sha": commit, "siblings": [{"rfilename": path} for path in files]}
        self._send(
            200, json.dumps(tree if what == "tree" else info).encode(), body, {"Content-Type": "application/json"}
        )

    def _file(self, name: str, commit: str, content: bytes, body: bool) -> None:
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{digest}"',
            # Another host, as far as the client can tell: it takes what the hub itself says of the file.
            "Location": f"{self.hub.endpoint.replace('127.0.0.1', 'localhost')}/storage/{name}/{digest}",
        }
        self._send(302, b"", body, headers)

    def _text(self, name: str, commit: str, content: bytes, body: bool) -> None:
        """A file that lies in the repository itself, known by the checksum that git has for it."""
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self._send(200, content, body, {"X-Repo-Commit": commit, "ETag": f'"{digest}"'})

    def _error(self, status: int, code: str, message: str, body: bool, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", body, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
