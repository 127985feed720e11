"""A pipe that ends when whoever started this service has gone, however that was: then the service ends as well, as
after SIGTERM. Nothing is ever written to it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

LOG = logging.getLogger("mlspec.lifeline")
LIFELINE_VARIABLE = "MLSPEC_LIFELINE"
"""Holds the descriptor of the pipe's end that is read."""


def end_with_lifeline() -> None:
    """Watch the pipe, where there is one, on a thread. In the process that starts the others, which it tells: the
    variable is taken out, so they have none.
    """
    given = os.environ.pop(LIFELINE_VARIABLE, None)
    if given is not None:
        threading.Thread(target=watch, args=(given, _terminate), name="mlspec-lifeline", daemon=True).start()


def watch(given: str, end: Callable[[], object]) -> None:
    """Block until the pipe `given` ends, then call `end`. Not if it is none: the service goes on unwatched."""
    try:
        os.read(int(given), 1)
    except (OSError, ValueError) as problem:
        LOG.warning("%s=%s can't be read: %s", LIFELINE_VARIABLE, given, problem)
        return
    LOG.error("what started this service has gone; ending")
    end()


def _terminate() -> None:
    # To the main thread: what waits there for events is interrupted only by a signal of its own.
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGTERM)
