"""The page at /, and the documents at /docs: Swagger UI over /docs.json. Nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, HTMLResponse, Response

from mlspec_runtime.endpoints import Serving
from mlspec_runtime.index_page import docs_page, index_page

ASSETS = {
    "/docs/swagger-ui.css": "text/css",
    "/docs/swagger-ui-bundle.js": "text/javascript",
}
"""Of Swagger UI (Apache-2.0), as the package fastapi-swagger has them. Its own page is not used: it wants inline
scripts.
"""
PATHS = {"/": "index", "/docs.json": "docs", "/docs": "docs", "/docs/start.js": "docs", **dict.fromkeys(ASSETS, "docs")}
_COMMON = {"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_NOWHERE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_INDEX = {**_COMMON, "Content-Security-Policy": f"{_NOWHERE}; style-src 'unsafe-inline'"}
# Images in data: are the icons of its style sheet; the styles that its script sets on elements need no permission.
_DOCS = {
    **_COMMON,
    "Content-Security-Policy": f"{_NOWHERE}; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'",
}
# A key that was typed in is kept in the page's memory alone. No badge of an online validator.
_START = """SwaggerUIBundle({
  url: "docs.json", dom_id: "#swagger-ui", deepLinking: true, displayRequestDuration: true, tryItOutEnabled: true,
  persistAuthorization: false, validatorUrl: null, presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout",
});
"""


def add(app: FastAPI, serving: Serving) -> None:
    """The pages, which every service has."""

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> HTMLResponse:
        return HTMLResponse(index_page(serving.plan, app.openapi(), _address(request)), headers=_INDEX)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(serving.plan), headers=_DOCS)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=_COMMON)

    for path, media_type in ASSETS.items():
        app.get(path, include_in_schema=False)(_asset(path, media_type))


def _address(request: Request) -> str:
    """How the page was reached. curl takes what has no scheme for http."""
    return f"https://{request.url.netloc}" if request.url.scheme == "https" else request.url.netloc


def _asset(path: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    file = _swagger_ui() / Path(path).name
    headers = {**_COMMON, "Cache-Control": "max-age=86400"}

    async def asset() -> Response:
        return FileResponse(file, media_type=media_type, headers=headers)

    return asset


def _swagger_ui() -> Path:
    """Where the package lies; it isn't imported, its files are all that is wanted."""
    found = find_spec("fastapi_swagger")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("fastapi-swagger is not installed: install the bundle's requirements.txt")
    return Path(found.submodule_search_locations[0]) / "resources"
