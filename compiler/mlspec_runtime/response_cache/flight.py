"""An answer that is computed now, and who waits for it: equal requests at the same time are one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.response_cache.sharing import Shared, shared
from mlspec_runtime.submission import Item, Output, Submission, deliver


class Flight:
    """`request` is computed for its first client, who reads the runner's own `submission`, and for those who joined,
    each with one of its own. On the event loop only.
    """

    def __init__(self, key: bytes, request: Any) -> None:
        self.key = key
        self.request = request
        self.submission: Submission | None = None
        self.ended = False
        self._first_is_there = True
        self._pieces: list[Output] = []
        self._joined: dict[Submission, float] = {}

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits."""
        return self._first_is_there or bool(self._joined)

    @property
    def joined(self) -> tuple[Submission, ...]:
        """Who waits beside the first, in the order in which they came."""
        return tuple(self._joined)

    def join(self, request_id: str, *, stream: bool) -> Submission:
        """Wait, too: a stream begins with all that has come by now."""
        member = Shared(request_id, stream=stream)
        self._joined[member] = time.monotonic()
        if stream and self._pieces:
            deliver([(member, piece) for piece in self._pieces])
        return member

    def leave(self, submission: Submission | None) -> None:
        """Who waits by this submission has gone; None is the first, before it had one."""
        if submission is None or submission is self.submission:
            self._first_is_there = False
        else:
            self._joined.pop(submission, None)

    def add(self, piece: Output) -> None:
        """A piece of the answer, for the streams among those who joined, now or later."""
        self._pieces.append(piece)
        if self._joined:
            deliver([(member, piece) for member in self._joined if member.stream])

    def finish(self, item: Item) -> None:
        """The answer or the error that ended it, for all who joined."""
        if self._joined:
            deliver([pair for member in self._joined for pair in self._last(member, item)])
        self._joined.clear()

    def _last(self, member: Submission, item: Item) -> Iterator[tuple[Submission, Item]]:
        if isinstance(item, ServiceError):
            yield member, item.again()
            return
        took_s = time.monotonic() - self._joined[member]
        # A first client without a stream leaves no pieces for one that streams.
        replayed = member.stream and not self._pieces
        for output in shared(item.event, item.data, member.request_id, took_s, replayed=replayed):
            yield member, output
