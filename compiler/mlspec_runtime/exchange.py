"""One request in the model: between its client, who may leave, its deadline, and the runner."""

from __future__ import annotations

import asyncio
import json
import time
from contextvars import Context
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlspec_runtime.errors import ServiceError, client_left
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.redaction import BODIES
from mlspec_runtime.request_info import RequestInfo
from mlspec_runtime.submission import Output, Submission


class Asked(Protocol):
    """What an exchange needs of a runner."""

    async def submit(self, request: Any, request_id: str, *, stream: bool) -> Submission: ...
    def cancel(self, submission: Submission) -> None: ...


WATCH_AFTER_S = 0.02
"""Most answers of small models are there before; to watch for a client that leaves costs as much as they do."""
RETRY_AFTER_S = 10.0
"""For those whose turn didn't come: it is too crowded by far."""
STRAIGHT_SEND = "mlspec.straight_send"
"""In a request's scope: the server's own `send`, if there is one. The layers around the application look at an answer's
begin and end alone, and each piece that passes them costs more than all else that is done for a token.
"""


class Exchange:
    """Waits for outputs until the deadline passes or the client leaves; then the runner is told to stop."""

    def __init__(self, runner: Asked, request: Request, metrics: Metrics, timeout_s: float) -> None:
        self.info: RequestInfo = request.state.info
        self._runner = runner
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._submission: Submission | None = None
        loop = asyncio.get_running_loop()
        self._end = loop.create_future()
        # A context of their own: asyncio may keep timers that were cancelled until their time, and this request's
        # context holds its body.
        self._deadline = loop.call_later(self._left_s(), self._expire, context=Context())
        self._receive = request.receive
        self._gone: asyncio.Task[None] | None = None
        self._watch = loop.call_later(WATCH_AFTER_S, self._watch_client, context=Context())

    async def begin(self, body: BaseModel, *, stream: bool) -> None:
        """Hand the request to the runner. Raises ServiceError: what the runner says, 504 past the deadline, 499 without
        a client.
        """
        self.info.begun(body)
        work = asyncio.ensure_future(self._runner.submit(body, self.info.request_id, stream=stream))
        work.add_done_callback(self._submitted)
        try:
            await asyncio.wait({work, self._end}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise self._end.result()
            work.result()
        finally:
            work.cancel()

    def _submitted(self, work: asyncio.Task[Submission]) -> None:
        """Known at once, so that `close` frees its place even if whoever waits for it is cancelled in this moment."""
        if work.cancelled() or work.exception() is not None:
            return
        self._submission = work.result()
        BODIES.keep(self.info, self._submission)
        if self._end.done():
            self._submission.interrupt(self._end.result())

    async def output(self) -> Output:
        """The next output. Raises ServiceError, as `begin`."""
        return self._counted(await self._begun.output())

    def ready(self) -> Output | None:
        """The next output if it has come by now: what can be sent together costs less."""
        output = self._begun.ready()
        return None if output is None else self._counted(output)

    def _counted(self, output: Output) -> Output:
        self.info.answered(output)
        if output.measures is not None:
            self._metrics.computed(output.measures)
        return output

    @property
    def _begun(self) -> Submission:
        assert self._submission is not None  # noqa: S101 - begin comes first
        return self._submission

    def _left_s(self) -> float:
        return max(0.0, self.info.arrived_at + self._timeout_s - time.monotonic())

    def _watch_client(self) -> None:
        self._gone = asyncio.ensure_future(_disconnected(self._receive))
        self._gone.add_done_callback(self._left)

    def _left(self, gone: asyncio.Future[None]) -> None:
        if not gone.cancelled():
            self._interrupt(client_left())

    def _interrupt(self, reason: ServiceError) -> None:
        if not self._end.done():
            self._end.set_result(reason)
            if self._submission is not None:
                self._submission.interrupt(reason)

    def _expire(self) -> None:
        if self._submission is None or self._submission.computing:
            message = f"no whole answer within {self._timeout_s:g} s; ask for less, or later"
            self._interrupt(ServiceError("deadline_exceeded", message, 504))
        else:
            message = f"its turn didn't come within {self._timeout_s:g} s; nothing of it was computed"
            self._interrupt(ServiceError("queue_timeout", message, 503, retry_after_s=RETRY_AFTER_S))

    def failed(self, error: ServiceError) -> dict[str, Any]:
        """Count an error that came too late for an HTTP status; the answer is its body."""
        self._metrics.error(self.info.operation, error.code)
        self.info.error_code = error.code
        return error.body(self.info.operation, self.info.request_id)

    async def close(self) -> None:
        """Free the place in the engine, if it isn't free by now."""
        self._deadline.cancel()
        self._watch.cancel()
        if self._gone is not None:
            self._gone.cancel()
        if self._submission is not None:
            self._runner.cancel(self._submission)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events: the outputs of an exchange, the first of which is there already. What has come by the time of
    sending goes out in one piece. Subclasses have events of another form.

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

    def event(self, output: Output) -> bytes:
        """An output as it is sent."""
        return f"event: {output.event}\ndata: {output.data.model_dump_json()}\n\n".encode()

    def error(self, body: dict[str, Any]) -> bytes:
        """An error as it is sent; nothing follows it."""
        return f"event: error\ndata: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send_events(scope.get(STRAIGHT_SEND, send), send)
        finally:
            await self._exchange.close()

    async def _send_events(self, send_piece: Send, send_last: Send) -> None:
        output: Output | None = self._first
        more = True
        while more:
            events: list[bytes] = []
            try:
                output = output or await self._exchange.output()
                more = self._add_ready(output, events)
            except ServiceError as error:
                events.append(self.error(self._exchange.failed(error)))
                more = False
            send = send_piece if more else send_last
            await send({"type": "http.response.body", "body": b"".join(events), "more_body": more})
            output = None

    def _add_ready(self, output: Output | None, events: list[bytes]) -> bool:
        """Add what is there; False with the last one."""
        while output is not None:
            events.append(self.event(output))
            if output.final:
                return False
            output = self._exchange.ready()
        return True
