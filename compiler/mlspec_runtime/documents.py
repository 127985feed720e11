"""What /docs.json says beyond the types: errors, the events of a stream, and BentoML's own paths."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from mlspec_runtime.protocol import Runner

_ERRORS = {
    400: "The request can't be read, or the model can't take it.",
    413: "The body is over the limit.",
    415: "The body isn't called JSON.",
    422: "The request is well-formed and wrong; `field` says where.",
    429: "The queue is full; `Retry-After` says when to come again.",
    500: "Computing failed.",
    503: "The model isn't loaded, can't compute, or the computer is too hot to take more on; the message says why.",
    504: "The deadline has passed.",
}


class ErrorDetail(BaseModel):
    operation: str
    code: str
    message: str
    request_id: str
    field: str | None = None
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


def stream_document(runner: Runner) -> dict[str, Any]:
    """The 200 of a stream: server-sent events, each with a name and JSON data."""
    lines = [f"`{name}`: {_first_line(kind)}" for name, kind in runner.event_types.items()]
    told = "Server-sent events. " + " ".join([*lines, "`error`: it broke; the data has the shape of all errors."])
    schemas = {name: kind.model_json_schema() for name, kind in runner.event_types.items()}
    return {
        "description": told,
        "content": {"text/event-stream": {"schema": {"type": "string"}, "x-events": schemas}},
    }


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0]


def finish_document(app: FastAPI) -> None:
    """Add the paths that BentoML answers, beside those of the application."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document["paths"].setdefault("/metrics", _plain("Prometheus metrics"))
        document["paths"].setdefault("/livez", _plain("Is the process alive?"))
        document["paths"].setdefault("/readyz", _plain("Is the model loaded?"))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _plain(summary: str) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "responses": {"200": {"description": "Yes.", "content": {"text/plain": {}}}},
        }
    }
