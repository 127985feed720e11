"""A request on its way through a runner, and what comes out of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
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
    total_s: float | None = None

    @property
    def time_per_token_s(self) -> float | None:
        """The mean time of the tokens after the first one; None without any."""
        if self.total_s is None or self.time_to_first_token_s is None or self.completion_tokens < 2:
            return None
        return (self.total_s - self.time_to_first_token_s) / (self.completion_tokens - 1)


@dataclass(frozen=True)
class Output:
    """A part of an answer: `event` is its name in a stream. The last one is `final` and holds the whole
    answer.
    """

    event: str
    data: BaseModel
    final: bool = False
    measures: Measures | None = None


Item = Output | ServiceError
"""What a submission is given: the error ends it."""


class Submission:
    """The mailbox of one request: a computing thread puts outputs in, the event loop that made it takes them
    out.
    """

    def __init__(self, request_id: str, *, stream: bool = False) -> None:
        self.request_id = request_id
        self.stream = stream
        self.cancelled = False
        self.computing = True
        """False as long as it waits for its turn."""
        self._loop = asyncio.get_running_loop()
        self._mailbox: deque[Item] = deque()
        self._listeners: list[Callable[[Item], None]] = []
        self._reader: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        """Hand over an output, or the error that ends the request. From any thread."""
        deliver([(self, item)])

    def listen(self, listener: Callable[[Item], None]) -> None:
        """Have `listener` called, on the loop, for each item as it arrives and before it is read; for those that wait
        to be read at once.
        """
        for item in self._mailbox:
            listener(item)
        self._listeners.append(listener)

    def interrupt(self, error: ServiceError) -> None:
        """Let whoever reads have this error after what has arrived by now. On the loop; the computing thread and the
        listeners learn nothing of it.
        """
        self._mailbox.append(error)
        self._wake()

    def ready(self) -> Output | None:
        """The next output, if it is there. Raises ServiceError when the request failed."""
        if not self._mailbox:
            return None
        item = self._mailbox.popleft()
        if isinstance(item, ServiceError):
            raise item
        return item

    async def output(self) -> Output:
        """The next output. Raises ServiceError when the request failed. One task at a time may read."""
        while not self._mailbox:
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        output = self.ready()
        assert output is not None  # noqa: S101 - the mailbox is not empty
        return output

    def _arrive(self, item: Item) -> None:
        for listener in self._listeners:
            listener(item)
        self._mailbox.append(item)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def deliver(pairs: Sequence[tuple[Submission, Item]]) -> None:
    """Hand over what came of many requests at once, and wake their event loop once. From any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Submission, Item]]] = defaultdict(list)
    for pair in pairs:
        by_loop[pair[0]._loop].append(pair)
    for loop, own in by_loop.items():
        # A loop that has ended has nobody left to read.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_arrive_all, own)


def _arrive_all(pairs: Sequence[tuple[Submission, Item]]) -> None:
    for submission, item in pairs:
        submission._arrive(item)
