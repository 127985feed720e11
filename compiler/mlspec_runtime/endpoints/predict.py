"""/predict and /predict/stream: one request of the runner's own type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Body, FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from mlspec_runtime.documents import error_documents, stream_document
from mlspec_runtime.endpoints import Serving
from mlspec_runtime.endpoints.file_bodies import FileRoute, TakesFiles, file_document
from mlspec_runtime.exchange import EventStream, Exchange
from mlspec_runtime.protocol import Runner

PATHS = {"/predict": "predict", "/predict/stream": "stream"}


def answering(serving: Serving) -> Callable[[Request, Any], Awaitable[Response]]:
    """The endpoint `predict`: from a request of the runner's type to the answer."""
    model, metrics = serving.model, serving.metrics

    async def predict(request: Request, body: BaseModel) -> Response:
        """Answers when the whole answer is there."""
        exchange = Exchange(model.admit(), request, metrics, model.plan.limits.timeout_s)
        try:
            await exchange.begin(body, stream=False)
            output = await exchange.output()
            while not output.final:
                output = await exchange.output()
        finally:
            await exchange.close()
        return Response(output.data.model_dump_json(), media_type="application/json")

    return predict


def add_predict(app: FastAPI, serving: Serving) -> None:
    """The endpoint `predict`, with its documents."""
    predict = answering(serving)
    kind: object = serving.runner.request_type
    if isinstance(kind, TakesFiles) and kind.file_types:
        # Before the other: the first route that matches answers.
        app.router.routes.append(FileRoute("/predict", kind, predict))
    _take(predict, serving.runner)
    app.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        summary="Ask the model",
        response_model=serving.runner.response_type,
        responses=error_documents(),
        openapi_extra=file_document(kind),
    )


def add_stream(app: FastAPI, serving: Serving) -> None:
    """The endpoint `stream`."""
    model, metrics = serving.model, serving.metrics

    async def stream(request: Request, body: BaseModel) -> Response:
        """Answers with server-sent events. The last is `done`, with the whole answer, or `error`."""
        exchange = Exchange(model.admit(), request, metrics, model.plan.limits.timeout_s)
        try:
            await exchange.begin(body, stream=True)
            return EventStream(exchange, await exchange.output())
        # Cancellation too: nobody else frees the place in the engine before the stream has begun.
        except BaseException:
            await exchange.close()
            raise

    _take(stream, serving.runner)
    app.post(
        "/predict/stream",
        summary="Ask the model, and have the answer as it is made",
        response_class=StreamingResponse,
        responses={**error_documents(), 200: stream_document(serving.runner)},
    )(stream)


def _take(endpoint: Any, runner: Runner) -> None:
    """Give an endpoint the runner's request type: FastAPI reads it from the annotation, to check and to
    document.
    """
    endpoint.__annotations__["request"] = Request
    endpoint.__annotations__["body"] = runner.request_type
    examples: dict[str, Any] = {name: {"value": value} for name, value in runner.request_examples.items()}
    endpoint.__defaults__ = (Body(openapi_examples=examples),)
