"""What a request must have to be let in: a key where one is asked for, and a body within the limits. And the end of all
errors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container
from contextvars import Context

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlspec_runtime.access_log import log_body
from mlspec_runtime.auth import Keys
from mlspec_runtime.errors import ServiceError, client_left, internal_error
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import Limits
from mlspec_runtime.redaction import BODIES
from mlspec_runtime.request_info import RequestInfo

LOG = logging.getLogger("mlspec.http")
MOST_ARRIVING = 64
"""So many bodies of the largest size may be on their way in at once, or more smaller ones."""
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")


def error_response(error: ServiceError, info: RequestInfo) -> JSONResponse:
    """The one shape of errors."""
    info.error_code = error.code
    return JSONResponse(error.body(info.operation, info.request_id), error.status, headers=dict(error.headers()))


class Entrance:
    """ASGI middleware around the application. Without `keys` everybody is let in; `open_paths` need none."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        metrics: Metrics,
        keys: Keys | None,
        open_paths: Container[str],
        log_prompts: bool,
    ) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._keys = keys
        self._open_paths = open_paths
        self._log_prompts = log_prompts
        self._arriving_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        info: RequestInfo = scope["state"]["info"]
        with BODIES.holding(info):
            await self._answer(info, scope, receive, _Begun(send))

    async def _answer(self, info: RequestInfo, scope: Scope, receive: Receive, begun: _Begun) -> None:
        try:
            await self._let_in(info, scope, receive, begun.send)
        except ServiceError as error:
            self._metrics.error(info.operation, error.code)
            await begun.instead(error_response(error, info), scope, receive)
        # The last place: nothing of it may reach the client, all of it must reach the log.
        except Exception:
            LOG.exception("request %s (%s) failed", info.request_id, info.operation)
            self._metrics.error(info.operation, "internal")
            await begun.instead(error_response(internal_error(), info), scope, receive)

    async def _let_in(self, info: RequestInfo, scope: Scope, receive: Receive, send: Send) -> None:
        if self._keys is not None and scope["path"] not in self._open_paths:
            self._keys.check(scope["headers"])
        if scope["method"] in _WITHOUT_BODY:
            # The gate leaves the body of an answer to HEAD out.
            await self._app({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, send)
            return
        _check_encoding(scope)
        info.body = await self._whole_body(scope, receive)
        if self._log_prompts:
            log_body("request", info.body)
        await self._app(scope, _Replay(info.body, receive), send)

    async def _whole_body(self, scope: Scope, receive: Receive) -> bytes:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limits.max_body_bytes:
            raise self._too_large()
        timeout_s = self._limits.timeout_s
        try:
            async with asyncio.timeout(None) as deadline:
                # In a context of its own: asyncio may keep the timer until its time, and this one's holds the body.
                Context().run(deadline.reschedule, asyncio.get_running_loop().time() + timeout_s)
                return await self._read(receive)
        except TimeoutError:
            raise ServiceError("body_timeout", f"the body did not arrive within {timeout_s:g} s", 408) from None

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size_bytes, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise client_left()
                parts.append(message.get("body", b""))
                size_bytes, more = size_bytes + len(parts[-1]), message.get("more_body", False)
                self._arriving_bytes += len(parts[-1])
                self._check_size(size_bytes)
        finally:
            self._arriving_bytes -= size_bytes
        return b"".join(parts)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limits.max_body_bytes:
            raise self._too_large()
        if self._arriving_bytes > MOST_ARRIVING * self._limits.max_body_bytes:
            raise ServiceError("busy", "too much is on its way in; try again", 503, retry_after_s=1)

    def _too_large(self) -> ServiceError:
        allowed = self._limits.max_body_bytes
        message = f"the body is over the limit of {allowed} bytes"
        return ServiceError("body_too_large", message, 413, details={"allowed_bytes": allowed})


def _check_encoding(scope: Scope) -> None:
    encoding = dict(scope["headers"]).get(b"content-encoding", b"").strip().lower()
    if encoding not in (b"", b"identity"):
        message = "send the body as it is, without Content-Encoding: nothing is unpacked here"
        raise ServiceError("unsupported_encoding", message, 415)


class _Begun:
    """The way back: remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def send(self, message: Message) -> None:
        self._begun = True
        await self._send(message)

    async def instead(self, response: JSONResponse, scope: Scope, receive: Receive) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self._begun:
            await response(scope, receive, self._send)


class _Replay:
    """Gives the whole body out in one piece, and then what `receive` gives."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
