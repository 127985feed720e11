"""BentoML: the one module of the runtime that knows it (1.4.39)."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import bentoml
from _bentoml_impl.server.app import ContextMiddleware
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http import instruments
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from bentoml._internal.utils.analytics import usage_stats
from bentoml.exceptions import BentoMLException, NotFound
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from prometheus_client import REGISTRY
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mlspec_runtime import logs
from mlspec_runtime.app import KNOWN_PATHS, OPERATIONS, create_app
from mlspec_runtime.auth import key_problem
from mlspec_runtime.draining import Draining, OpenRequests
from mlspec_runtime.ending import end_gently
from mlspec_runtime.exchange import STRAIGHT_SEND
from mlspec_runtime.gate import known_path, refuse_websocket
from mlspec_runtime.heat.watch import HeatWatch, planned_reader
from mlspec_runtime.lifeline import end_with_lifeline
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import PlanError, RuntimePlan, load_plan
from mlspec_runtime.response_cache import caching
from mlspec_runtime.served_model import ServedModel, create_runner, environment_error, missing_environment
from mlspec_runtime.starts import Starts, plan_digest
from mlspec_runtime.supervision import Supervision, end_process

if TYPE_CHECKING:
    from mlspec_runtime.tracing import Tracing

LOG = logging.getLogger("mlspec.bento")
_ASKED_FOR = "mlspec.path"
_LAYERS = (OpenTelemetryMiddleware, TimeoutMiddleware, ContextMiddleware, ExceptionMiddleware)
PARENT_POLL_S = 2.0
YOUNG_OBJECTS = 10_000
"""So many new ones, instead of 700, before Python looks for cycles among them."""
LOG_LEVEL_VARIABLE = "MLSPEC_LOG_LEVEL"
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""In a worker: a folder that lasts as long as the `bentoml serve` that started it."""
_STARTS_FILE = "mlspec-starts.json"
_NO_TELEMETRY_VARIABLE = "BENTOML_DO_NOT_TRACK"


class BoundedTraffic(instruments.RunnerTrafficMetricsMiddleware):
    """BentoML's own request metrics, by known paths only: it labels them by whatever path a client asks for, and
    anybody could grow /metrics without end.
    """

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        super().__init__(_with_path_asked_for(app), **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # BentoML's layers would count connections that never began.
            await refuse_websocket(send)
            return
        if "path" in scope:
            known = known_path(scope["path"], KNOWN_PATHS)
            # No mount of Starlette's matches a line end: BentoML would answer, in its own shape.
            scope = {**scope, "path": known, _ASKED_FOR: scope["path"].replace("\n", "\r"), STRAIGHT_SEND: send}
        await super().__call__(scope, receive, send)


def _with_path_asked_for(app: ASGIApp) -> ASGIApp:
    @cache
    def short_way() -> ASGIApp | None:
        return _short_way(app)

    async def restored(scope: Scope, receive: Receive, send: Send) -> None:
        known, path = scope.get("path"), {"path": scope[_ASKED_FOR]} if _ASKED_FOR in scope else {}
        way = short_way() if scope["type"] == "http" and known in OPERATIONS else None
        await (way or app)({**scope, **path}, receive, send)

    return restored


def _short_way(app: ASGIApp) -> ASGIApp | None:
    """The bundle's application, where nothing is around it but BentoML's own layers: they take a third of the time of a
    small request and do nothing for it that isn't done here, and the one for time limits keeps a timer of each request
    until the limit, whenever that was answered. None where there is another one, as of a service that was changed.
    """
    while type(app) in _LAYERS:
        app = app.app  # type: ignore[attr-defined]
    mounts = [route for route in app.routes if isinstance(route, Mount)] if isinstance(app, Router) else []
    roots = [mount.app for mount in mounts if not mount.path]
    return roots[0] if len(roots) == 1 else None


# BentoML looks the name up as it makes its application.
setattr(instruments, instruments.RunnerTrafficMetricsMiddleware.__name__, BoundedTraffic)


class Bundle:
    """A bundle that BentoML serves: its application and the model behind it."""

    def __init__(self, folder: Path) -> None:
        plan = load_plan(folder)
        for name, value in plan.environment.set.items():
            os.environ.setdefault(name, value)
        configure_logs = partial(logs.configure, plan.logging, plan.service, tracing=plan.tracing)
        configure_logs()
        # Again once all libraries are imported: some bring handlers of their own.
        settle = partial(_settle, configure_logs)
        metrics = Metrics(plan, REGISTRY)
        runner = caching(plan, folder, create_runner(plan, folder, metrics), metrics, os.environ)
        heat = HeatWatch(plan, runner, metrics, reader=planned_reader(plan.governor))
        self.plan = plan
        self.model = ServedModel(plan, folder, runner, metrics, in_model_store, heat, _starts(folder), settle)
        self._requests = OpenRequests(create_app(plan, runner, self.model, metrics, tracing=_tracing(plan)))
        self._supervision = Supervision(self.model.fault, self.model.fail, end=end_process)
        self.app: ASGIApp = self._requests

    def start(self) -> None:
        """Begin to load the model, to watch over it, and to end gently when told. On the main thread's event loop."""
        self.model.start(os.environ)
        self._supervision.start()
        end_gently(Draining(self.model, self._requests, self.plan.limits.drain_s), self.plan.limits.drain_s)

    def close(self) -> None:
        """Free the model; blocks for some seconds at most."""
        self._supervision.stop()
        self.model.close()

    def check_environment(self) -> None:
        """Raises BentoMLException if a variable that must be set is not."""
        missing = missing_environment(self.plan, os.environ)
        if missing:
            raise BentoMLException(environment_error(missing).message)
        if problem := key_problem(self.plan.auth, os.environ):
            raise BentoMLException(problem)


def _settle(configure_logs: Callable[[], None]) -> None:
    """The model is loaded. What there is now stays: Python's collector, which looks at all of it again and again while
    everybody waits (10 % of the time of a small model's service), needn't.
    """
    configure_logs()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


class BundleService:
    """What BentoML calls as a service starts and ends. A subclass names its `bundle`."""

    bundle: ClassVar[Bundle]

    def __init_subclass__(cls) -> None:
        def check_environment() -> None:
            cls.bundle.check_environment()

        # Called by `bentoml serve` before it starts a worker, which it would start again and again.
        setattr(cls, check_environment.__name__, bentoml.on_deployment(check_environment))

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    def start(self) -> None:
        """Begin to load the model. The service answers meanwhile: /health and /predict with 503."""
        self.bundle.start()
        threading.Thread(target=_end_with_parent, name="mlspec-parent", daemon=True).start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Free the model. The requests in flight have ended before."""
        await asyncio.to_thread(self.bundle.close)

    async def __is_ready__(self) -> bool:
        """What /readyz answers."""
        return self.bundle.model.ready


def open_bundle(folder: Path) -> Bundle:
    """Read the bundle's plan and make its application; no model is loaded. Raises BentoMLException."""
    _stop_telemetry()
    _own_metrics_folder()
    end_with_lifeline()
    logs.set_level(os.environ.get(LOG_LEVEL_VARIABLE))
    try:
        return Bundle(folder.resolve())
    except PlanError as error:
        raise BentoMLException(str(error)) from error


def _stop_telemetry() -> None:
    """BentoML sends none for the value "true" alone. Its command has looked and remembered before a service
    is imported, so it has to look again; it sends at the end.
    """
    os.environ.setdefault(_NO_TELEMETRY_VARIABLE, "true")
    usage_stats.do_not_track.cache_clear()


def _own_metrics_folder() -> None:
    """BentoML keeps metrics in one folder below its home and empties it at each start: of two services on one
    machine the first would lose its own. In a worker the folder is given.
    """
    if _METRICS_VARIABLE in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="mlspec-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    BentoMLContainer.prometheus_multiproc_dir.set(folder)


def _starts(bundle: Path) -> Starts | None:
    folder = os.environ.get(_METRICS_VARIABLE)
    return Starts(Path(folder, _STARTS_FILE), build=plan_digest(bundle)) if folder else None


def _end_with_parent() -> None:
    """A `bentoml serve` that is killed leaves its worker behind, with the port and the model: end it, too."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    LOG.error("the serving process has gone; ending")
    os.kill(os.getpid(), signal.SIGTERM)


def _tracing(plan: RuntimePlan) -> Callable[[], Tracing | None]:
    """Made at the first request: BentoML knows by then what the service is called."""
    if not plan.tracing:
        return lambda: None

    @cache
    def made() -> Tracing:
        # Imports the exporter's packages.
        from mlspec_runtime.tracing import Tracing

        return Tracing(BentoMLContainer.tracer_provider.get(), plan)

    return made


def in_model_store(tag: str) -> Path | None:
    """The folder of `name:version` in BentoML's model store, None if it isn't there."""
    try:
        return Path(bentoml.models.get(tag).path)
    except NotFound:
        return None
