"""The short way of a request in JSON. For a small body, finding its route and reading it takes FastAPI about as long as
a small model takes to compute; large lists of numbers are read eight times as fast by pydantic's parser.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mlspec_runtime.endpoints.file_bodies import media_type

Answer = Callable[[Request, Any], Awaitable[Response]]


class Quick:
    """ASGI middleware around FastAPI, inside of the entrance, which has read the body and answers errors.

    A body of `kind` that is posted to `path` is handed to `answer`. FastAPI gets everything else, and finds the fault
    of a body that is of no such kind.
    """

    def __init__(self, app: ASGIApp, *, path: str, kind: type[BaseModel], answer: Answer) -> None:
        self._app = app
        self._path = path
        self._kind = kind
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._body(scope) if scope["type"] == "http" and scope["path"] == self._path else None
        if body is None:
            await self._app(scope, receive, send)
            return
        response = await self._answer(Request(scope, receive), body)
        await response(scope, receive, send)

    def _body(self, scope: Scope) -> BaseModel | None:
        if scope["method"] != "POST" or media_type(scope) != "application/json":
            return None
        try:
            return self._kind.model_validate(from_json(scope["state"]["info"].body))
        # Of pydantic's and of JSON's faults both are ValueErrors.
        except (ValueError, RecursionError):
            return None
