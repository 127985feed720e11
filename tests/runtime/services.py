"""A service for the tests: the whole application around the echo runner, in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp

from mlspec_runtime.app import create_app
from mlspec_runtime.heat.reading import NoReader, Reader
from mlspec_runtime.heat.watch import Clock, HeatWatch
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import parse_plan
from mlspec_runtime.protocol import Runner
from mlspec_runtime.served_model import ServedModel, create_runner
from mlspec_runtime.starts import Starts
from mlspec_runtime.tracing import Tracing
from runtime.bundles import runtime_block

ECHO = {"name": "echo", "module": "runtime.echo_runner"}


@dataclass
class Service:
    """The parts of a running service, and a client of it."""

    app: ASGIApp
    runner: Runner
    model: ServedModel
    registry: CollectorRegistry
    client: httpx.AsyncClient

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()

    def value(self, line: str) -> float:
        """The value of a metric's line; 0 without one."""
        found = [text for text in self.metrics().splitlines() if text.startswith(line + " ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


def build(
    bundle: Path,
    block: Mapping[str, Any],
    reader: Reader | None = None,
    clock: Clock = time.monotonic,
    starts: Starts | None = None,
    **app: Any,
) -> tuple[ASGIApp, Runner, ServedModel, CollectorRegistry]:
    """Make the application of a `runtime` block; nothing is loaded."""
    plan = parse_plan({"runtime": block})
    registry = CollectorRegistry()
    metrics = Metrics(plan, registry)
    runner = create_runner(plan, bundle, metrics)
    heat = HeatWatch(plan, runner, metrics, reader=reader or NoReader(), clock=clock)
    model = ServedModel(plan, bundle, runner, metrics, lambda tag: None, heat, starts)
    return create_app(plan, runner, model, metrics, **app), runner, model, registry


@asynccontextmanager
async def running(
    bundle: Path = Path(),
    *,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
    settings: Mapping[str, Any] | None = None,
    required: Sequence[str] = (),
    reader: Reader | None = None,
    clock: Clock = time.monotonic,
    starts: Starts | None = None,
    tracing: Callable[[], Tracing | None] = lambda: None,
    **changes: Any,
) -> AsyncIterator[Service]:
    """The echo service, started (and loaded, unless told not to `wait`)."""
    parts = {
        "runner": {**ECHO, "settings": dict(settings or {})},
        "environment": {"set": {}, "required": list(required)},
    }
    block = runtime_block(**{**parts, **changes})
    app, runner, model, registry = build(
        bundle, block, reader, clock, starts, environment=environment or {}, tracing=tracing
    )
    model.start(environment or {})
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        if wait:
            wait_until(lambda: model.ready)
        try:
            yield Service(app, runner, model, registry, client)
        finally:
            model.close()


def wait_until(condition: Any, timeout_s: float = 10.0) -> None:
    """Poll until it holds; an AssertionError after the timeout."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
