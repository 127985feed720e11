"""Several requests of one client in the model: the rows of a batch, or the choices of one prompt.

For an exchange they are one submission: its outputs name their row, the last of all rows is final.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.protocol import Runner
from mlspec_runtime.submission import Item, Output, Submission

LOG = logging.getLogger("mlspec.rows")
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
"""Between two tries to get a row into a full queue."""
_NO_ROOM = 429
_NOT_NOW = (_NO_ROOM, 503)


class RowsRequest(BaseModel):
    """Requests by their rows."""

    by_row: dict[int, BaseModel]


class Nothing(BaseModel):
    """In the place of an answer."""


@dataclass(frozen=True)
class RowOutput(Output):
    """An output of one row. With its last one, or its `error`, it has `ended`; `final` once all have."""

    row: int = 0
    ended: bool = False
    error: ServiceError | None = None


def rows_request(by_row: Mapping[int, BaseModel]) -> RowsRequest:
    """Of requests that are checked by now."""
    return RowsRequest.model_construct(by_row=dict(by_row))


class RowsRunner:
    """A runner that is asked for several rows at once, `at_once` of which are in it at any time.

    The first row gets in like any other request. Those after it wait for room where the queue is full, as their client
    has got in; so what is held outside of the queue is bounded by what is inside. `apart`: a row that fails is an
    output, else it fails them all.
    """

    def __init__(self, runner: Runner, *, at_once: int, apart: bool) -> None:
        self._runner = runner
        self._at_once = at_once
        self._apart = apart

    async def submit(self, request: RowsRequest, request_id: str, *, stream: bool) -> Submission:
        """Queue them. Raises ServiceError: none got in."""
        rows = Rows(self._runner, request.by_row, request_id, stream=stream, at_once=self._at_once, apart=self._apart)
        await rows.begin()
        return rows

    def cancel(self, submission: Submission) -> None:
        """Stop computing what is left of them."""
        assert isinstance(submission, Rows)  # noqa: S101 - from `submit`
        submission.stop()


class Rows(Submission):
    """The rows on their way. On the event loop only."""

    def __init__(
        self,
        runner: Runner,
        requests: Mapping[int, BaseModel],
        request_id: str,
        *,
        stream: bool,
        at_once: int,
        apart: bool,
    ) -> None:
        super().__init__(request_id, stream=stream)
        self._runner = runner
        self._waiting = deque(requests.items())
        self._left = len(requests)
        self._free = asyncio.Semaphore(at_once)
        self._apart = apart
        self._computed: dict[int, Submission] = {}
        self._feeding: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Until the first is in; the others follow. Raises ServiceError: none got in."""
        is_in = False
        while self._waiting and not is_in:
            await self._free.acquire()
            is_in = await self._start(*self._waiting.popleft(), patient=False)
        self._feeding = asyncio.create_task(self._feed())

    async def _feed(self) -> None:
        while self._waiting:
            await self._free.acquire()
            await self._start(*self._waiting.popleft(), patient=True)

    async def _start(self, row: int, request: BaseModel, *, patient: bool) -> bool:
        try:
            submission = await self._submit(row, request, patient=patient)
        except ServiceError as error:
            if not patient and error.status in _NOT_NOW:
                raise
            self._fail(row, error)
            return False
        # A row that the runner stumbles over must not end the others, nor leave them waiting.
        except Exception:
            LOG.exception("request %s.%d could not be started", self.request_id, row)
            self._fail(row, internal_error())
            return False
        self._computed[row] = submission
        submission.listen(partial(self._take, row))
        return True

    async def _submit(self, row: int, request: BaseModel, *, patient: bool) -> Submission:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return await self._runner.submit(request, f"{self.request_id}.{row}", stream=self.stream)
            except ServiceError as error:
                if not patient or error.status != _NO_ROOM:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _take(self, row: int, item: Item) -> None:
        if isinstance(item, ServiceError):
            self._fail(row, item)
        elif item.final:
            self._end(row, event=item.event, data=item.data, measures=item.measures)
        else:
            self.put(RowOutput(item.event, item.data, row=row))

    def _fail(self, row: int, error: ServiceError) -> None:
        if self._apart:
            self._end(row, event="error", data=Nothing(), error=error)
        else:
            self.put(error)

    def _end(self, row: int, **output: Any) -> None:
        self._computed.pop(row, None)
        self._free.release()
        self._left -= 1
        self.put(RowOutput(**output, final=self._left == 0, row=row, ended=True))

    def stop(self) -> None:
        """Start none of those that wait, and end those that are computed."""
        if self._feeding is not None:
            self._feeding.cancel()
        for submission in self._computed.values():
            self._runner.cancel(submission)
