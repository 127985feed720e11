"""Bodies of /predict that are no JSON: for services whose one input may be the whole of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

Answer = Callable[[Request, BaseModel], Awaitable[Response]]


@runtime_checkable
class TakesFiles(Protocol):
    """A type of requests that may come as files."""

    file_types: Mapping[str, Any]
    """Media types, with OpenAPI's description of each."""

    def of_file(self, media_type: str, content: bytes) -> BaseModel:
        """The request that such a body is; a method of the type. Nothing of the content is looked at."""


class FileRoute(Route):
    """Matches requests of its media types alone: the JSON of the same path is another route's."""

    def __init__(self, path: str, kind: TakesFiles, answer: Answer) -> None:
        async def endpoint(request: Request) -> Response:
            content = await request.body()
            return await answer(request, kind.of_file(media_type(request.scope), content))

        super().__init__(path, endpoint, methods=["POST"])
        self._types = frozenset(kind.file_types)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As any route, where the body is of one of its media types."""
        if scope["type"] == "http" and scope["method"] == "POST" and media_type(scope) in self._types:
            return super().matches(scope)
        return Match.NONE, {}


def media_type(scope: Scope) -> str:
    """What the body is called, without parameters; empty where it isn't called anything."""
    given = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return str(given.decode("latin-1").partition(";")[0].strip().lower())


def file_document(kind: object) -> dict[str, Any] | None:
    """FastAPI's `openapi_extra`: the media types beside JSON; None without any."""
    if not isinstance(kind, TakesFiles) or not kind.file_types:
        return None
    return {"requestBody": {"content": dict(kind.file_types)}}
