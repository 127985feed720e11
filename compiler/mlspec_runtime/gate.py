"""What every request passes first and last: its id, the limit on its body, its metrics, and the end of all
errors.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import Limits

LOG = logging.getLogger("mlspec.http")
REQUEST_ID_HEADER = "X-Request-ID"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OTHER = "other"


@dataclass(frozen=True)
class RequestInfo:
    """What is known of a request before it is read: in `request.state.info`."""

    request_id: str
    operation: str
    arrived_at: float


def error_response(error: ServiceError, info: RequestInfo) -> JSONResponse:
    """The one shape of errors."""
    return JSONResponse(error.body(info.operation, info.request_id), error.status, headers=dict(error.headers()))


class Gate:
    """ASGI middleware around the whole application. `operations` names each path's operation."""

    def __init__(self, app: ASGIApp, *, limits: Limits, metrics: Metrics, operations: Mapping[str, str]) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        info = RequestInfo(_request_id(scope["headers"]), self._operation(scope), time.monotonic())
        answer = _Answer(send, info.request_id)
        scope = {**scope, "state": {**scope.get("state", {}), "info": info}}
        try:
            await self._pass(scope, receive, answer, info)
        finally:
            # 499: the client left before there was an answer.
            self._metrics.request(info.operation, answer.status or 499, time.monotonic() - info.arrived_at)

    def _operation(self, scope: Scope) -> str:
        return self._operations.get(scope["path"], _OTHER)

    async def _pass(self, scope: Scope, receive: Receive, answer: _Answer, info: RequestInfo) -> None:
        try:
            receive = await _with_whole_body(scope, receive, self._limits)
            await self._app(scope, receive, answer.send)
        except ServiceError as error:
            self._metrics.error(info.operation, error.code)
            await answer.instead(error_response(error, info), scope, receive)
        # The last place: nothing of it may reach the client, all of it must reach the log.
        except Exception:
            LOG.exception("request %s (%s) failed", info.request_id, info.operation)
            self._metrics.error(info.operation, "internal")
            await answer.instead(error_response(internal_error(), info), scope, receive)


class _Answer:
    """The way back: adds the request's id and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._header = (REQUEST_ID_HEADER.lower().encode(), request_id.encode())
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), self._header]}
        await self._send(message)

    async def instead(self, response: JSONResponse, scope: Scope, receive: Receive) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self.status:
            await response(scope, receive, self.send)


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id if it is short and of safe characters (it goes to logs and headers), else a new
    one.
    """
    for name, value in headers:
        if name == REQUEST_ID_HEADER.lower().encode():
            given = value.decode("latin-1")
            if _SAFE_ID.fullmatch(given):
                return given
    return uuid.uuid4().hex


async def _with_whole_body(scope: Scope, receive: Receive, limits: Limits) -> Receive:
    """Read the body up to the limit; the answer gives it out in one piece, and then what `receive` gives."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limits.max_body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            body = await _read_body(receive, limits)
    except TimeoutError:
        raise ServiceError("body_timeout", f"the body did not arrive within {limits.timeout_s:g} s", 408) from None
    return _Replay(body, receive)


async def _read_body(receive: Receive, limits: Limits) -> bytes:
    parts: list[bytes] = []
    size_bytes, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise client_left()
        parts.append(message.get("body", b""))
        size_bytes, more = size_bytes + len(parts[-1]), message.get("more_body", False)
        if size_bytes > limits.max_body_bytes:
            raise _too_large(limits)
    return b"".join(parts)


class _Replay:
    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _too_large(limits: Limits) -> ServiceError:
    return ServiceError("body_too_large", f"the body is over the limit of {limits.max_body_bytes} bytes", 413)


def client_left() -> ServiceError:
    """The client closed the connection; 499 is what the metrics and nobody else see."""
    return ServiceError("client_left", "the client closed the connection", 499)
