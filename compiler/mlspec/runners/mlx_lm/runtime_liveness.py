"""Whether the engine goes on, seen from outside of its thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LEAST_PATIENCE_S = 60.0


class Liveness:
    """Notes, each time that it is asked, how far the engine has come. Used from any thread.

    `patience_s` without a step is too much where requests are computed or wait. It counts from the first look at that
    step and at the work, so that an engine that had nothing to do for an hour isn't stuck when it gets a request.
    """

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = max(LEAST_PATIENCE_S, patience_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._progress_at = 0.0
        self._was_busy = False
        self._since = 0.0

    def stuck_s(self, progress_at: float, *, busy: bool) -> float | None:
        """For how long nothing has happened, where that is too long; None: all is well."""
        with self._lock:
            now = self._clock()
            if not (busy and self._was_busy and progress_at == self._progress_at):
                self._progress_at, self._since = progress_at, now
            self._was_busy = busy
            waited_s = now - self._since
        return waited_s if waited_s > self._patience_s else None
