"""What every request passes first and last: its id, its metrics, its line in the log, its trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlspec_runtime.access_log import MOST_BYTES, log_access, log_body
from mlspec_runtime.exchange import STRAIGHT_SEND
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.request_info import REQUEST_ID_HEADER, RequestInfo, enter, safe_request_id

if TYPE_CHECKING:
    # OpenTelemetry is imported only where there are traces.
    from mlspec_runtime.tracing import RequestTrace, Tracing

OTHER = "other"
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")


def known_path(path: str, known: Container[str]) -> str:
    """A path as metrics and logs have it: one of `known`, which may end in "{model}" for any last part, or "other"."""
    if path in known:
        return path
    before, _, last = path.rpartition("/")
    pattern = f"{before}/{{model}}"
    return pattern if last and pattern in known else OTHER


async def refuse_websocket(send: Send) -> None:
    """Answer a handshake with 403: nothing here is asked that way, and what waits for an answer would wait for good."""
    await send({"type": "websocket.close", "code": 1008})


class Gate:
    """ASGI middleware around the whole application, outside of all other. `operations` names each path's operation."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        operations: Mapping[str, str],
        log_prompts: bool = False,
        tracing: Callable[[], Tracing | None] = lambda: None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._operations = operations
        self._log_prompts = log_prompts
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await refuse_websocket(send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = known_path(scope["path"], self._operations)
        operation = self._operations.get(path, OTHER)
        info = RequestInfo(safe_request_id(scope["headers"]), operation, time.monotonic())
        enter(info)
        # Both go to the log: a client may write what it likes for them.
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        answer = _Answer(
            send, info.request_id, kept_bytes=MOST_BYTES if self._log_prompts else 0, bare=method == "HEAD"
        )
        # Whole answers are kept of what passes here.
        kept = {STRAIGHT_SEND: answer.send} if self._log_prompts else {}
        tracing = self._tracing()
        trace = tracing.begin(method, path, scope["headers"], info) if tracing else None
        try:
            await self._app({**scope, **kept, "state": {**scope.get("state", {}), "info": info}}, receive, answer.send)
        finally:
            self._end(info, method, path, answer, trace)

    def _end(self, info: RequestInfo, method: str, path: str, answer: _Answer, trace: RequestTrace | None) -> None:
        # 499: the client left before there was an answer.
        status = answer.status or 499
        took_s = time.monotonic() - info.arrived_at
        self._metrics.request(info.operation, status, took_s)
        log_access(info, method, path, status, took_s)
        if self._log_prompts and method == "POST":
            log_body("answer", answer.kept, whole=answer.whole)
        if trace:
            trace.end(status)


class _Answer:
    """The way back: adds the request's id, remembers the status and, of the body, the first bytes. A `bare` answer,
    to HEAD, is sent without its body.
    """

    def __init__(self, send: Send, request_id: str, *, kept_bytes: int, bare: bool) -> None:
        self._send = send
        self._header = (REQUEST_ID_HEADER.lower().encode(), request_id.encode())
        self._kept_bytes = kept_bytes
        self._bare = bare
        self.status = 0
        self.kept = b""
        self.whole = True

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), self._header]}
        elif self._bare:
            message = {**message, "body": b""}
        elif self._kept_bytes:
            self._keep(message.get("body", b""))
        await self._send(message)

    def _keep(self, body: bytes) -> None:
        left = self._kept_bytes - len(self.kept)
        self.kept += body[:left]
        self.whole = self.whole and len(body) <= left
