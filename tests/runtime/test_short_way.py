"""The way past BentoML's own layers, and when it isn't taken."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route

OURS = PlainTextResponse("ours")
LIVE = Route("/livez", PlainTextResponse("live"))
ROUTES: list[BaseRoute] = [LIVE, Mount("", OURS), Mount("/static_content", PlainTextResponse("static"))]


@pytest.fixture(scope="module")
def short_way() -> Callable[..., Any]:
    """Of an application with BentoML's layers, `more` and these routes; BentoML is imported here, as it warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from _bentoml_impl.server.app import ContextMiddleware
        from bentoml._internal.context import ServiceContext
        from bentoml._internal.server.http.traffic import TimeoutMiddleware
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        from mlspec_runtime.bento import _short_way

    usual = [
        Middleware(OpenTelemetryMiddleware),
        Middleware(TimeoutMiddleware, timeout=60),
        Middleware(ContextMiddleware, context=ServiceContext()),
    ]

    def found(routes: list[BaseRoute], *more: Middleware) -> Any:
        stack = Starlette(middleware=[*usual, *more], routes=routes).build_middleware_stack()
        return _short_way(stack.app)  # type: ignore[attr-defined]

    return found


def test_past_the_usual_layers(short_way: Callable[..., Any]) -> None:
    assert short_way(ROUTES) is OURS


def test_not_past_what_is_unknown(short_way: Callable[..., Any]) -> None:
    assert short_way(ROUTES, Middleware(CORSMiddleware)) is None
    assert short_way([LIVE]) is None
    assert short_way([*ROUTES, Mount("", PlainTextResponse("another"))]) is None
