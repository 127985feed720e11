"""SIGTERM and SIGINT in the process that serves: first drain, then let the server end.

The server by itself (uvicorn) stops listening at once, and who connects while it ends hangs, as the socket is held open
by the process that started it. It also waits without a bound. So it is told only once nothing is left to wait for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from mlspec_runtime.draining import LAST_S, Draining

LOG = logging.getLogger("mlspec.ending")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
CLOSE_S = 15.0
"""For the model to be freed and the server to end, after requests have. Clients that read nothing would hold it."""


def _end_now() -> None:
    LOG.error("still not ended: connections or threads that hang are given up")
    logging.shutdown()
    os._exit(1)


def end_gently(draining: Draining, bound_s: float, *, give_up: Callable[[], object] = _end_now) -> None:
    """Take the signals over from the server, which has set its handlers by now. On the main thread's event loop.

    `give_up` is called where the process still runs some seconds after what was accepted had its time, `bound_s`.
    """
    ending = _Ending(asyncio.get_running_loop(), draining, bound_s, give_up)
    for number in SIGNALS:
        ending.before[number] = signal.getsignal(number)
        signal.signal(number, ending.asked)


class _Ending:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, draining: Draining, bound_s: float, give_up: Callable[[], object]
    ) -> None:
        self.before: dict[int, object] = {}
        self._loop = loop
        self._draining = draining
        self._bound_s = bound_s
        self._give_up = give_up
        self._task: asyncio.Task[None] | None = None

    def asked(self, number: int, frame: FrameType | None) -> None:
        """The handler. What it does waits for the loop: it may have interrupted anything, a line of the log too."""
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        if self._task is None:
            # A terminal's Ctrl-C doesn't come here, but to the process that started this one, which then sends SIGTERM,
            # and nothing for a second Ctrl-C. SIGINT is for who hurries it: `mlspec serve`, or by hand.
            self._task = asyncio.ensure_future(self._end(number))
        elif number == signal.SIGINT:
            self._draining.hurry()

    async def _end(self, number: int) -> None:
        last = threading.Timer(self._bound_s + LAST_S + CLOSE_S, self._give_up)
        last.daemon = True
        last.start()
        try:
            await self._draining.drain()
        finally:
            handler = self.before[number]
            if callable(handler):
                handler(number, None)
            else:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
