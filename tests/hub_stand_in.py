"""A stand-in for Hugging Face's hub: a real HTTP server on 127.0.0.1 that speaks what a download needs.

    with running_hub({REPOSITORY: Repository(files={"config.json": b"{}"})}) as hub:
        ...  # a process with HF_ENDPOINT=hub.address

It answers the tree listing and GET and HEAD of files as the hub does (ETag, X-Repo-Commit, X-Error-Code,
ranges), and can misbehave as the hub and networks do: `Repository.refuses` and `.breaks_off_after_bytes`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "stand-in-token"

_TREE = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/?]+)(\?.*)?")
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?]+)")


@dataclass(frozen=True)
class Repository:
    """`refuses`: "gated" lists its files but gives none without the token, "private" hides itself, a number
    is the HTTP status for each file. `breaks_off_after_bytes` cuts each file's answer, and ignores ranges."""

    files: Mapping[str, bytes]
    commit: str = COMMIT
    refuses: Literal["gated", "private"] | int | None = None
    breaks_off_after_bytes: int | None = None


@dataclass
class Hub:
    """A running hub and what it was asked, as `GET /path`."""

    repositories: dict[str, Repository]
    address: str = ""
    asked: list[str] = field(default_factory=list)

    def files_sent(self) -> list[str]:
        """The names of the files that were asked for with GET, sorted."""
        found = (_FILE.fullmatch(line.removeprefix("GET ")) for line in self.asked if line.startswith("GET "))
        return sorted(match["file"] for match in found if match)


@contextmanager
def running_hub(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    hub = Hub(dict(repositories))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Bound(_Handler):
        served = hub

    return Bound


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_GET(self) -> None:
        self.served.asked.append(f"GET {self.path}")
        self._answer()

    def do_HEAD(self) -> None:
        self.served.asked.append(f"HEAD {self.path}")
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: tests read `Hub.asked`."""

    def _answer(self) -> None:
        if match := _TREE.fullmatch(self.path):
            self._with_repository(match, self._tree)
        elif match := _FILE.fullmatch(self.path):
            self._with_repository(match, self._file)
        else:
            self._refuse(404)

    def _with_repository(self, match: re.Match[str], answer: Callable[[Repository, re.Match[str]], None]) -> None:
        repository = self.served.repositories.get(match["name"])
        if repository is None or (repository.refuses == "private" and not self._has_token()):
            self._refuse(404 if self._has_token() else 401, "RepoNotFound")
        elif match["revision"] != repository.commit:
            self._refuse(404, "RevisionNotFound")
        else:
            answer(repository, match)

    def _tree(self, repository: Repository, match: re.Match[str]) -> None:
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in repository.files.items()
        ]
        self._send(json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: Repository, match: re.Match[str]) -> None:
        content = repository.files.get(match["file"])
        if repository.refuses == "gated" and not self._has_token():
            self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        elif isinstance(repository.refuses, int):
            self._refuse(repository.refuses)
        elif content is None:
            self._refuse(404, "EntryNotFound")
        else:
            etag = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repository.commit}
            self._send(content, headers, repository.breaks_off_after_bytes)

    def _send(self, body: bytes, headers: Mapping[str, str], stop_after_bytes: int | None = None) -> None:
        start = self._range_start() if stop_after_bytes is None else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for name, value in {**headers, "Content-Length": str(len(body) - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[start:] if stop_after_bytes is None else body[:stop_after_bytes])
            self.close_connection = stop_after_bytes is not None

    def _range_start(self) -> int:
        match = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", ""))
        return int(match[1]) if match else 0

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
