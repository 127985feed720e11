"""One request in the model: between its client, who may leave, its deadline, and the runner."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.gate import RequestInfo, client_left
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.protocol import Runner
from mlspec_runtime.submission import Output, Submission

T = TypeVar("T")


class Exchange:
    """Waits for outputs until the deadline passes or the client leaves; then the runner is told to stop."""

    def __init__(self, runner: Runner, request: Request, metrics: Metrics, timeout_s: float) -> None:
        self.info: RequestInfo = request.state.info
        self._runner = runner
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._submission: Submission | None = None
        self._gone = asyncio.ensure_future(_disconnected(request.receive))

    async def begin(self, body: BaseModel, *, stream: bool) -> None:
        """Hand the request to the runner. Raises ServiceError."""
        work = self._runner.submit(body, self.info.request_id, stream=stream)
        self._submission = await self._within_bounds(work)

    async def output(self) -> Output:
        """The next output. Raises ServiceError: what the runner says, 504 past the deadline, 499 without a
        client.
        """
        assert self._submission is not None  # noqa: S101 - begin comes first
        output = await self._within_bounds(self._submission.output())
        if output.measures is not None:
            self._metrics.computed(output.measures)
        return output

    async def _within_bounds(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            left_s = self.info.arrived_at + self._timeout_s - time.monotonic()
            await asyncio.wait({task, self._gone}, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise client_left() if self._gone.done() else self._too_late()
        finally:
            task.cancel()

    def _too_late(self) -> ServiceError:
        message = f"no whole answer within {self._timeout_s:g} s; ask for less, or later"
        return ServiceError("deadline_exceeded", message, 504)

    def failed(self, error: ServiceError) -> dict[str, Any]:
        """Count an error that came too late for an HTTP status; the answer is its body."""
        self._metrics.error(self.info.operation, error.code)
        return error.body(self.info.operation, self.info.request_id)

    async def close(self) -> None:
        """Free the place in the engine, if it isn't free by now."""
        self._gone.cancel()
        with suppress(asyncio.CancelledError):
            await self._gone
        if self._submission is not None:
            self._runner.cancel(self._submission)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events: the outputs of an exchange, the first of which is there already.

    Waiting for the first output before the head is sent lets errors until then have their own HTTP status.
    """

    media_type = "text/event-stream"

    def __init__(self, exchange: Exchange, first: Output) -> None:
        self.status_code = 200
        self.background = None
        # Some proxies collect small pieces unless they are told not to.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._exchange = exchange
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send_events(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._exchange.close()

    async def _send_events(self, send: Send) -> None:
        output = self._first
        try:
            while True:
                await _send_event(send, output.event, output.data.model_dump(mode="json"))
                if output.final:
                    return
                output = await self._exchange.output()
        except ServiceError as error:
            await _send_event(send, "error", self._exchange.failed(error))


async def _send_event(send: Send, event: str, data: Any) -> None:
    text = f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
