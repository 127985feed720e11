"""Where answers are kept: what any store does, and the one in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

ENTRY_BYTES = 200
"""What an entry takes beside its answer, about."""

SizeWatch = Callable[[int, int], None]
"""Is told the entries and their bytes when they have changed; from any thread."""


class Store(Protocol):
    """Answers as JSON, by keys of 32 bytes. Who uses it is the event loop alone: nothing blocks but `close`, and
    nothing raises. An answer that it doesn't give is computed again.
    """

    def get(self, key: bytes) -> bytes | None:
        """The answer, which counts as used now; None if it isn't there."""

    def put(self, key: bytes, answer: bytes) -> None:
        """Keep an answer, for which those that were not used for the longest time may go."""

    def remove(self, key: bytes) -> None:
        """Forget an answer, if it is there."""

    def close(self) -> None:
        """Write down what is under way, and let go of files."""


class MemoryStore:
    """At most `entries` answers of `max_bytes` together."""

    def __init__(self, entries: int, max_bytes: int, watch: SizeWatch) -> None:
        self._most_entries = entries
        self._most_bytes = max_bytes
        self._watch = watch
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> bytes | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: bytes) -> None:
        if size_bytes(answer) > self._most_bytes:
            return
        self._forget(key)
        self._answers[key] = answer
        self._bytes += size_bytes(answer)
        while len(self._answers) > self._most_entries or self._bytes > self._most_bytes:
            self._forget(next(iter(self._answers)))
        self._watch(len(self._answers), self._bytes)

    def remove(self, key: bytes) -> None:
        self._forget(key)
        self._watch(len(self._answers), self._bytes)

    def close(self) -> None:
        self._answers.clear()
        self._bytes = 0
        self._watch(0, 0)

    def _forget(self, key: bytes) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= size_bytes(answer)


def size_bytes(answer: bytes) -> int:
    """What an answer counts in a store."""
    return len(answer) + ENTRY_BYTES
