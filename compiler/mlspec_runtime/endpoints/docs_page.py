"""The page at /."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse

from mlspec_runtime.endpoints import Serving
from mlspec_runtime.index_page import index_page

PATHS = {"/docs.json": "docs", "/": "index"}
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Frame-Options": "DENY",
}


def add(app: FastAPI, serving: Serving) -> None:
    """The page, which every service has."""

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> HTMLResponse:
        page = index_page(serving.plan, serving.runner.request_examples, request.url.netloc)
        return HTMLResponse(page, headers=_SECURITY)
