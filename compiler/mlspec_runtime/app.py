"""The HTTP application: the endpoints that the plan names, and those that every service has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from mlspec_runtime.documents import finish_document
from mlspec_runtime.endpoints import Serving, docs_page, health, predict
from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.gate import Gate, RequestInfo, error_response
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Runner
from mlspec_runtime.served_model import ServedModel
from mlspec_runtime.validation import validation_error

ENDPOINTS: Mapping[str, Callable[[FastAPI, Serving], None]] = {
    "predict": predict.add_predict,
    "stream": predict.add_stream,
}
"""Those that a plan may name."""
OPERATIONS: Mapping[str, str] = {**predict.PATHS, **health.PATHS, **docs_page.PATHS}
OUTER_PATHS = ("/metrics", "/livez", "/readyz", "/healthz")
"""What BentoML answers to GET before the application is asked: what comes here has another method."""
KNOWN_PATHS = frozenset((*OPERATIONS, *OUTER_PATHS))


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
    serving = Serving(plan, runner, model, metrics)
    _add_error_handlers(app, metrics)
    health.add(app, serving)
    for name, add in ENDPOINTS.items():
        if name in plan.endpoints:
            add(app, serving)
    docs_page.add(app, serving)
    finish_document(app)
    return Gate(app, limits=plan.limits, metrics=metrics, operations=OPERATIONS)


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
