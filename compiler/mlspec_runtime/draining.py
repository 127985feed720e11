"""The end of a service: what was accepted goes on to its end, within a bound, and nothing new is let in."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from mlspec_runtime.served_model import ServedModel

LOG = logging.getLogger("mlspec.draining")
POLL_S = 0.05
LAST_S = 5.0
"""For the errors of those who are not done, after the bound."""


class OpenRequests:
    """ASGI middleware that counts the requests in the application, streams until their last byte."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.count -= 1


class Draining:
    """Lets the requests of one model end. `hurry` cuts the time short."""

    def __init__(self, model: ServedModel, requests: OpenRequests, bound_s: float) -> None:
        self._model = model
        self._requests = requests
        self._bound_s = bound_s
        self._hurried = False

    def hurry(self) -> None:
        """Wait no longer for what was accepted."""
        self._hurried = True

    async def drain(self) -> None:
        """Returns when all that was accepted has had its answer: the whole one, or past the bound an error."""
        self._model.drain()
        LOG.info("ending: %d requests go on, for %g s at most", self._requests.count, self._bound_s)
        if await self._ended(self._bound_s):
            return
        LOG.error("%d requests are not done within %g s: they fail", self._requests.count, self._bound_s)
        await asyncio.to_thread(self._model.close)
        self._hurried = False
        await self._ended(LAST_S)

    async def _ended(self, within_s: float) -> bool:
        end = time.monotonic() + within_s
        while self._requests.count and not self._hurried and time.monotonic() < end:
            await asyncio.sleep(POLL_S)
        return not self._requests.count
