"""The HTTP application: the endpoints that the plan names, and those that every service has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from mlspec_runtime.auth import OPEN_PATHS, keys_from
from mlspec_runtime.cors import Cors
from mlspec_runtime.documents import finish_document
from mlspec_runtime.endpoints import Serving, batch, docs_page, health, predict
from mlspec_runtime.endpoints.file_bodies import TakesFiles
from mlspec_runtime.endpoints.quick_json import Quick
from mlspec_runtime.entrance import Entrance, error_response
from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.gate import Gate
from mlspec_runtime.generate.openai import routes
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Runner
from mlspec_runtime.request_info import RequestInfo
from mlspec_runtime.served_model import ServedModel
from mlspec_runtime.validation import unreadable_body, validation_error

if TYPE_CHECKING:
    from mlspec_runtime.tracing import Tracing


def _add_embeddings(app: FastAPI, serving: Serving) -> None:
    from mlspec_runtime.predict import embeddings  # NumPy comes with it

    embeddings.add(app, serving)


ENDPOINTS: Mapping[str, Callable[[FastAPI, Serving], None]] = {
    "predict": predict.add_predict,
    "stream": predict.add_stream,
    "batch": batch.add,
    "chat": routes.add_chat,
    "completions": routes.add_completions,
    "embeddings": _add_embeddings,
}
"""Those that a plan may name."""
OPERATIONS: Mapping[str, str] = {
    **predict.PATHS,
    **batch.PATHS,
    **routes.PATHS,
    "/v1/embeddings": "embeddings",
    **health.PATHS,
    **docs_page.PATHS,
}
OUTER_PATHS = ("/metrics", "/livez", "/readyz", "/healthz")
"""What BentoML answers to GET before the application is asked: what comes here has another method."""
KNOWN_PATHS = frozenset((*OPERATIONS, *OUTER_PATHS))
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own, which a variable of the environment would switch on: with query strings and texts of exceptions."""
_OPEN_PATHS = OPEN_PATHS | docs_page.PATHS.keys()


def create_app(
    plan: RuntimePlan,
    runner: Runner,
    model: ServedModel,
    metrics: Metrics,
    *,
    environment: Mapping[str, str] = os.environ,
    tracing: Callable[[], Tracing | None] = lambda: None,
) -> ASGIApp:
    """The whole application of a bundle. Endpoints that the plan doesn't name are not there. The API keys are in the
    environment, if the plan asks for some; `tracing` is asked at each request.
    """
    service = plan.service
    app = FastAPI(
        title=service.name,
        description=service.description,
        version=f"{service.project}/{service.target}",
        openapi_url="/docs.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    serving = Serving(plan, runner, model, metrics)
    kind: object = runner.request_type
    _add_error_handlers(app, metrics, tuple(kind.file_types) if isinstance(kind, TakesFiles) else ())
    health.add(app, serving)
    for name, add in ENDPOINTS.items():
        if name in plan.endpoints:
            add(app, serving)
    if {"chat", "completions"} & set(plan.endpoints):
        routes.add_models(app, serving)
    docs_page.add(app, serving)
    finish_document(app, keys=plan.auth is not None, open_paths=_OPEN_PATHS)
    entrance: ASGIApp = Entrance(
        _with_short_way(app, serving),
        limits=plan.limits,
        metrics=metrics,
        keys=keys_from(plan.auth, environment),
        open_paths=_OPEN_PATHS,
        log_prompts=plan.logging.prompts,
    )
    # Outside of the keys, which a browser doesn't send as it asks whether it may; inside of the gate, which counts all.
    outer = Cors(entrance, plan.cors_origins) if plan.cors_origins else entrance
    return Gate(outer, metrics=metrics, operations=OPERATIONS, log_prompts=plan.logging.prompts, tracing=tracing)


def _with_short_way(app: ASGIApp, serving: Serving) -> ASGIApp:
    if "predict" not in serving.plan.endpoints:
        return app
    return Quick(app, path="/predict", kind=serving.runner.request_type, answer=predict.answering(serving))


def _add_error_handlers(app: FastAPI, metrics: Metrics, file_types: Iterable[str]) -> None:
    def answer(request: Request, error: ServiceError) -> JSONResponse:
        info: RequestInfo = request.state.info
        metrics.error(info.operation, error.code)
        return error_response(error, info)

    @app.exception_handler(ServiceError)
    async def known(request: Request, error: ServiceError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        others = file_types if request.url.path == "/predict" else ()
        return answer(request, validation_error(error, request.headers.get("content-type", ""), others))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        response = answer(request, _http_error(request, error))
        response.headers.update(error.headers or {})
        if response.status_code == 405:
            response.headers["Allow"] = _allowed(error)
        return response

    # Starlette answers with this and raises the exception again, to the gate, which logs and counts it.
    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        return error_response(internal_error(), request.state.info)


def _http_error(request: Request, error: HTTPException) -> ServiceError:
    if error.status_code == 400 and isinstance(error.__cause__, Exception):
        return unreadable_body(error.__cause__)
    path = request.url.path[:200]
    if error.status_code == 404 and path not in OUTER_PATHS:
        return ServiceError("not_found", f"there is nothing at {path}; /docs.json lists what there is", 404)
    if error.status_code in (404, 405):
        return ServiceError("method_not_allowed", f"{path} takes {_allowed(error)} alone", 405)
    return ServiceError("bad_request", str(error.detail), error.status_code)


def _allowed(error: HTTPException) -> str:
    """The methods of a path, as the header `Allow` has them. BentoML's paths are asked with GET."""
    allowed = (error.headers or {}).get("Allow", "GET")
    return f"{allowed}, HEAD" if allowed == "GET" else allowed
