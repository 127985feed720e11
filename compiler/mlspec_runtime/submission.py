"""A request on its way through a runner, and what comes out of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError


@dataclass(frozen=True)
class Measures:
    """Figures of a finished request, for the metrics. `reused_tokens` of its prompt came from a cache."""

    queue_s: float
    time_to_first_token_s: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused_tokens: int = 0


@dataclass(frozen=True)
class Output:
    """A part of an answer: `event` is its name in a stream. The last one is `final` and holds the whole
    answer.
    """

    event: str
    data: BaseModel
    final: bool = False
    measures: Measures | None = None


class Submission:
    """The mailbox of one request: a computing thread puts outputs in, the event loop that made it takes them
    out.
    """

    def __init__(self, request_id: str, *, stream: bool = False) -> None:
        self.request_id = request_id
        self.stream = stream
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._mailbox: asyncio.Queue[Output | ServiceError] = asyncio.Queue()

    def put(self, item: Output | ServiceError) -> None:
        """Hand over an output, or the error that ends the request. From any thread."""
        # A loop that has ended has nobody left to read.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._mailbox.put_nowait, item)

    async def output(self) -> Output:
        """The next output. Raises ServiceError when the request failed."""
        item = await self._mailbox.get()
        if isinstance(item, ServiceError):
            raise item
        return item
