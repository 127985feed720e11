"""The HTTP application: /predict, /predict/stream, /health, /docs.json and a page at /."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from mlspec_runtime.documents import error_documents, finish_document, stream_document
from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.exchange import EventStream, Exchange
from mlspec_runtime.gate import Gate, RequestInfo, error_response
from mlspec_runtime.index_page import index_page
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Capacity, Runner
from mlspec_runtime.served_model import ServedModel
from mlspec_runtime.validation import validation_error

OPERATIONS: Mapping[str, str] = {
    "/predict": "predict",
    "/predict/stream": "stream",
    "/health": "health",
    "/docs.json": "docs",
    "/": "index",
}
OUTER_PATHS = ("/metrics", "/livez", "/readyz", "/healthz")
"""What BentoML answers to GET before the application is asked: what comes here has another method."""
KNOWN_PATHS = frozenset((*OPERATIONS, *OUTER_PATHS))
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Frame-Options": "DENY",
}


def create_app(plan: RuntimePlan, runner: Runner, model: ServedModel, metrics: Metrics) -> ASGIApp:
    """The whole application of a bundle. Endpoints that the plan doesn't name are not there."""
    service = plan.service
    app = FastAPI(
        title=service.name,
        description=service.description,
        version=f"{service.project}/{service.target}",
        openapi_url="/docs.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_error_handlers(app, metrics)
    _add_health(app, model)
    if "predict" in plan.endpoints:
        _add_predict(app, runner, model, metrics)
    if "stream" in plan.endpoints:
        _add_stream(app, runner, model, metrics)
    _add_index(app, plan, runner)
    finish_document(app)
    return Gate(app, limits=plan.limits, metrics=metrics, operations=OPERATIONS)


def _add_health(app: FastAPI, model: ServedModel) -> None:
    @app.get("/health", summary="Does the model compute?", responses=error_documents(503))
    async def health() -> dict[str, Any]:
        """Makes the model compute something small, unless it has answered within the last seconds."""
        health = await model.health()
        stats = model.runner().stats()
        return {
            "status": "ok",
            "service": model.plan.service.name,
            "project": model.plan.service.project,
            "target": model.plan.service.target,
            "checked": health.checked,
            "age_s": health.age_s,
            "waiting": stats.waiting,
            "running": stats.running,
            "capacity": asdict(stats.capacity or _as_planned(model.plan)),
            "heat": model.heat.told(),
        }


def _as_planned(plan: RuntimePlan) -> Capacity:
    return Capacity(plan.limits.concurrency, plan.limits.concurrency, "as planned")


def _add_predict(app: FastAPI, runner: Runner, model: ServedModel, metrics: Metrics) -> None:
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

    _take(predict, runner)
    app.post("/predict", summary="Ask the model", response_model=runner.response_type, responses=error_documents())(
        predict
    )


def _add_stream(app: FastAPI, runner: Runner, model: ServedModel, metrics: Metrics) -> None:
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

    _take(stream, runner)
    app.post(
        "/predict/stream",
        summary="Ask the model, and have the answer as it is made",
        response_class=StreamingResponse,
        responses={**error_documents(), 200: stream_document(runner)},
    )(stream)


def _take(endpoint: Any, runner: Runner) -> None:
    """Give an endpoint the runner's request type: FastAPI reads it from the annotation, to check and to
    document.
    """
    endpoint.__annotations__["request"] = Request
    endpoint.__annotations__["body"] = runner.request_type
    examples: dict[str, Any] = {name: {"value": value} for name, value in runner.request_examples.items()}
    endpoint.__defaults__ = (Body(openapi_examples=examples),)


def _add_index(app: FastAPI, plan: RuntimePlan, runner: Runner) -> None:
    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> HTMLResponse:
        page = index_page(plan, runner.request_examples, request.url.netloc)
        return HTMLResponse(page, headers=_SECURITY)


def _add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    def answer(request: Request, error: ServiceError) -> JSONResponse:
        info: RequestInfo = request.state.info
        metrics.error(info.operation, error.code)
        return error_response(error, info)

    @app.exception_handler(ServiceError)
    async def known(request: Request, error: ServiceError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, validation_error(error, request.headers.get("content-type", "")))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        response = answer(request, _http_error(request, error))
        response.headers.update(error.headers or {})
        return response

    # Starlette answers with this and raises the exception again, to the gate, which logs and counts it.
    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        return error_response(internal_error(), request.state.info)


def _http_error(request: Request, error: HTTPException) -> ServiceError:
    path = request.url.path[:200]
    if error.status_code == 404 and path not in OUTER_PATHS:
        return ServiceError("not_found", f"there is nothing at {path}; /docs.json lists what there is", 404)
    if error.status_code in (404, 405):
        return ServiceError("method_not_allowed", f"{path} does not take {request.method}", 405)
    return ServiceError("bad_request", str(error.detail), error.status_code)
