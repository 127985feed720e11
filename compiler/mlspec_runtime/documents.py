"""What /docs.json says beyond the types: errors, the events of a stream, and BentoML's own paths."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from mlspec_runtime.auth import KEY_HEADER
from mlspec_runtime.protocol import Runner

_ERRORS = {
    400: "The request can't be read, or the model can't take it.",
    408: "The body did not arrive in time.",
    413: "The body is over the limit.",
    415: "The body isn't called JSON, or is packed.",
    422: "The request is well-formed and wrong; `field` says where.",
    429: "The queue is full; `Retry-After` says when to come again.",
    500: "Computing failed.",
    503: "The model isn't loaded, can't compute, or the computer is too hot to take more on; the message says why.",
    504: "The deadline has passed.",
}
_OUTER = {
    "/metrics": "Prometheus metrics",
    "/livez": "Is the process alive?",
    "/readyz": "Is the model loaded?",
}
"""What BentoML answers, without a key."""
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
}
_UNAUTHORIZED = {
    "description": "There is no API key, or a wrong one.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
}


class ErrorDetail(BaseModel):
    operation: str
    code: str
    type: str
    message: str
    param: str | None
    request_id: str
    field: str | None = None
    details: dict[str, int] | None = None
    retry_after_s: float | None = None


class ErrorBody(BaseModel):
    """The shape of all errors."""

    error: ErrorDetail


def error_documents(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for these statuses; all of them by default."""
    return {
        status: {"model": ErrorBody, "description": told}
        for status, told in _ERRORS.items()
        if status in (statuses or _ERRORS)
    }


def body_examples(**bodies: Any) -> dict[str, Any]:
    """FastAPI's `openapi_extra`: bodies to show, by name."""
    examples = {name: {"value": body} for name, body in bodies.items()}
    return {"requestBody": {"content": {"application/json": {"examples": examples}}}}


def stream_document(runner: Runner) -> dict[str, Any]:
    """The 200 of a stream: server-sent events, each with a name and JSON data."""
    lines = [f"`{name}`: {_first_line(kind)}" for name, kind in runner.event_types.items()]
    told = "Server-sent events. " + " ".join([*lines, "`error`: it broke; the data has the shape of all errors."])
    schemas = {name: kind.model_json_schema() for name, kind in runner.event_types.items()}
    return {
        "description": told,
        # Without `schema`: tools hold it against each event, and OpenAPI 3.1 has no other word for what an event is.
        "content": {"text/event-stream": {"x-events": schemas}},
    }


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0]


def finish_document(app: FastAPI, *, keys: bool, open_paths: Container[str]) -> None:
    """Add the paths that BentoML answers, beside those of the application, and how to show a key where one is asked
    for.
    """
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        for path, summary in _OUTER.items():
            document["paths"].setdefault(path, _plain(summary))
        if keys:
            _add_keys(document, open_paths)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_keys(document: dict[str, Any], open_paths: Container[str]) -> None:
    document["components"]["securitySchemes"] = _SCHEMES
    for path, methods in document["paths"].items():
        is_open = path in open_paths or path in _OUTER
        for operation in methods.values():
            operation["security"] = [] if is_open else [{name: []} for name in _SCHEMES]
            if not is_open:
                operation["responses"]["401"] = {**_UNAUTHORIZED}


def _plain(summary: str) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "responses": {"200": {"description": "Yes.", "content": {"text/plain": {}}}},
        }
    }
