"""The thread that asks the runner every second whether it can still compute. If only a new process mends what it has,
this one ends, and what started it (BentoML's arbiter, a container's restart policy, launchd) begins another.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from mlspec_runtime.errors import ServiceError

LOG = logging.getLogger("mlspec.supervision")
POLL_S = 1.0
LINGER_S = 5.0
"""So long the process stays after a fault: for the errors of the accepted requests, a probe and a look at /metrics."""
EXIT_CODE = 70
"""An internal error, as sysexits.h has it."""


class Supervision:
    """Asks `fault` until it answers with one; tells `failed`, and after a while calls `end`."""

    def __init__(
        self,
        fault: Callable[[], ServiceError | None],
        failed: Callable[[ServiceError], None],
        *,
        end: Callable[[], object],
        poll_s: float = POLL_S,
        linger_s: float = LINGER_S,
    ) -> None:
        self._fault = fault
        self._failed = failed
        self._end = end
        self._poll_s = poll_s
        self._linger_s = linger_s
        self._stopped = threading.Event()

    def start(self) -> None:
        """Ask from now on, on a thread of its own."""
        threading.Thread(target=self._run, name="mlspec-supervision", daemon=True).start()

    def stop(self) -> None:
        """Ask no more, and end nothing: the service is ended by others."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._poll_s):
            fault = self._look()
            if fault is not None:
                self._failed(fault)
                if not self._stopped.wait(self._linger_s):
                    self._end()
                return

    def _look(self) -> ServiceError | None:
        try:
            return self._fault()
        # Without this thread nobody would see the next fault.
        except Exception:
            LOG.exception("asking the runner for its faults failed")
            return None


def end_process() -> NoReturn:
    """End at once, with a code that tells of a fault. A thread that hangs in a driver would keep the interpreter from
    ending as usual.
    """
    LOG.error("ending with exit code %d, so that a new process takes over", EXIT_CODE)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # A log that nobody reads any more.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(EXIT_CODE)
