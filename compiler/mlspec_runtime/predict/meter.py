"""How large the batches are, and how long they take."""

from __future__ import annotations

import threading
from collections import defaultdict

from mlspec_runtime.protocol import Calls


class Meter:
    """Adds calls of the model up by their rows, rounded up to a power of two; written by the computing thread, read by
    another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[int, Calls] = defaultdict(Calls)

    def note(self, rows: int, requests: int, took_s: float) -> None:
        """A call of the model went well."""
        most = 1 << max(0, rows - 1).bit_length()
        with self._lock:
            seen = self._sums[most]
            self._sums[most] = Calls(
                most, seen.calls + 1, seen.rows + rows, seen.requests + requests, seen.seconds + took_s
            )

    def take(self) -> tuple[Calls, ...]:
        """What was noted since this was last asked."""
        with self._lock:
            sums, self._sums = self._sums, defaultdict(Calls)
        return tuple(sums.values())
