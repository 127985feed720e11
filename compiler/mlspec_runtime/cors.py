"""CORS: pages of which origins may ask, by a browser. None unless the plan names some."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.plan import PlanError
from mlspec_runtime.request_info import REQUEST_ID_HEADER, current

_ORIGIN = re.compile(r"https?://[^/\s*,?#@]+")


class Cors(CORSMiddleware):
    """Starlette's, for exact origins, without credentials: who asks sends a key, not a cookie.

    Any header may be sent, because none is trusted and clients have many of their own.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        check_origins(origins)
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=(REQUEST_ID_HEADER, "Retry-After"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before a request; a refusal has the shape of all errors."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        error = ServiceError("cors_refused", bytes(response.body).decode(), response.status_code)
        info = current()
        assert info is not None  # noqa: S101 - the gate is around it
        info.error_code = error.code
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return JSONResponse(error.body(info.operation, info.request_id), error.status, headers=headers)


def check_origins(origins: Sequence[str]) -> None:
    """Raises PlanError for what is no origin (`https://host[:port]`), and for "*" beside others."""
    wrong = [origin for origin in origins if origin != "*" and not _ORIGIN.fullmatch(origin)]
    if wrong:
        raise PlanError(f"runtime.cors_origins: {wrong[0]!r} is no origin, as https://host:port is; build again")
    if "*" in origins and len(origins) > 1:
        raise PlanError('runtime.cors_origins: "*" is every origin and stands alone; build again')
