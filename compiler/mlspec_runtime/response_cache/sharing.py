"""An answer given once more: to an equal request, which has an id and timings of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from mlspec_runtime.submission import Output, Submission

DONE = "done"
"""The event of a whole answer."""


class Shared(Submission):
    """One of the cache's own, of which the runner knows nothing."""


@runtime_checkable
class Shareable(Protocol):
    """An answer that knows for which request it is. One that doesn't is given as it stands."""

    def for_request(self, request_id: str, total_s: float) -> BaseModel:
        """The same answer for an equal request, which had it after `total_s` seconds."""

    def events(self) -> Iterable[tuple[str, BaseModel]]:
        """What its stream tells before its end, in as few events as can be: their names and data."""


def shared(event: str, answer: BaseModel, request_id: str, took_s: float, *, replayed: bool) -> Iterator[Output]:
    """The outputs of an equal request; with the events of a stream, if they are to be `replayed`."""
    if isinstance(answer, Shareable):
        if replayed:
            yield from (Output(name, data) for name, data in answer.events())
        answer = answer.for_request(request_id, took_s)
    yield Output(event, answer, final=True)
