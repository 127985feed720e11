"""The model of a bundle from start to end: starting, ready, draining, or failed with a reason."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from mlspec_runtime.auth import key_problem
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.watch import HeatWatch
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.models import StoreLookup, locate
from mlspec_runtime.plan import PlanError, RuntimePlan
from mlspec_runtime.protocol import RUNNER_API, Health, Runner, RunnerContext
from mlspec_runtime.starts import Starts

LOG = logging.getLogger("mlspec.model")
HEALTH_DEADLINE_S = 10.0
RETRY_AFTER_S = 5.0
"""After a refusal because the process ends: what starts it looks every ten seconds, or another copy answers."""


def missing_environment(plan: RuntimePlan, environment: Mapping[str, str]) -> list[str]:
    """The variables that must be set and aren't."""
    return [name for name in plan.environment.required if not environment.get(name)]


def environment_error(missing: list[str]) -> ServiceError:
    names = ", ".join(missing)
    return ServiceError("environment_missing", f"not set in the environment: {names}; set it and start again", 503)


def create_runner(plan: RuntimePlan, bundle: Path, metrics: Metrics) -> Runner:
    """The runner that the plan names, not loaded yet. Raises PlanError."""
    try:
        module = import_module(plan.runner.module)
    except ImportError as error:
        raise PlanError(f"the runner '{plan.runner.name}' can't be imported: {error}") from error
    context = RunnerContext(plan.task, plan.runner.settings, plan.limits, bundle, metrics.stats)
    try:
        runner: Runner = module.create(context)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("runtime.runner.settings", *first["loc"])))
        raise PlanError(f"{where}: {first['msg']}; build the bundle again") from error
    if runner.runner_api != RUNNER_API:
        raise PlanError(f"the runner '{plan.runner.name}' is for runner_api {runner.runner_api}, not {RUNNER_API}")
    return runner


class ServedModel:
    """Loads on a thread of its own, so that the service answers (503, with the reason) from its first
    moment. `starts` puts pauses between processes that end early; `on_loaded` is called on that thread.
    """

    def __init__(
        self,
        plan: RuntimePlan,
        bundle: Path,
        runner: Runner,
        metrics: Metrics,
        store: StoreLookup,
        heat: HeatWatch,
        starts: Starts | None = None,
        on_loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.heat = heat
        self._bundle = bundle
        self._runner = runner
        self._metrics = metrics
        self._store = store
        self._starts = starts
        self._on_loaded = on_loaded
        self._loaded = threading.Event()
        self._closing = threading.Lock()
        self._ended = threading.Event()
        self._problem: ServiceError | None = None
        self._loads_at: float | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Begin to load. Returns at once."""
        self._metrics.started()
        threading.Thread(target=self._start, args=(environment,), name="mlspec-load", daemon=True).start()

    def _start(self, environment: Mapping[str, str]) -> None:
        try:
            self._wait_for_turn()
            self._load(environment)
        except ServiceError as problem:
            LOG.error("not ready: %s", problem.message)
            self._fail(problem)
        # The reason is kept for /health; restarting in a loop would not mend it.
        except Exception:
            LOG.exception("not ready: loading the model failed")
            message = "loading the model failed; the server's log says why"
            self._fail(ServiceError("load_failed", message, 503))

    def _wait_for_turn(self) -> None:
        """The pause after processes that ended early; the service answers meanwhile."""
        if self._starts is None:
            return
        pause_s = self._starts.pause_s
        if pause_s:
            self._loads_at = time.monotonic() + pause_s
            LOG.error("%s", _often_ended(self._starts.early, pause_s).message)
            if self._ended.wait(pause_s):
                raise _shutting_down()
            self._loads_at = None
        self._starts.begin()

    def _load(self, environment: Mapping[str, str]) -> None:
        began_at = time.monotonic()
        missing = missing_environment(self.plan, environment)
        if missing:
            raise environment_error(missing)
        if problem := key_problem(self.plan.auth, environment):
            raise ServiceError("environment_missing", problem, 503)
        self._runner.load(locate(self.plan, self._bundle, environment, self._store))
        self._on_loaded()
        self._metrics.loaded(True)
        self.heat.start()
        self._loaded.set()
        self._metrics.ready(self.ready)
        LOG.info("%s is ready: loaded in %.1f s", self.plan.service.name, time.monotonic() - began_at)

    @property
    def ready(self) -> bool:
        """Whether it takes requests: loaded, without a fault, and not about to end."""
        return self._loaded.is_set() and self._problem is None

    @property
    def content(self) -> dict[str, str]:
        """The version of each model by its role, where the build knew it: the digest of its content, or the key of what
        the build made of it.
        """
        versions = {model.role: model.derived.key if model.derived else model.content for model in self.plan.models}
        return {role: version for role, version in versions.items() if version is not None}

    def fault(self) -> ServiceError | None:
        """What only a new process mends, while the model is loaded; never blocks."""
        return self._runner.fault() if self._loaded.is_set() and not self._ended.is_set() else None

    def runner(self) -> Runner:
        """The loaded runner. Raises ServiceError (503) with the reason if it isn't loaded, or is about to end."""
        if self._problem is not None:
            raise self._problem.again()
        if self._starts is not None and (loads_at := self._loads_at) is not None:
            raise _often_ended(self._starts.early, max(1.0, math.ceil(loads_at - time.monotonic())))
        if not self._loaded.is_set():
            raise ServiceError("model_loading", "the model is being loaded", 503, retry_after_s=2)
        return self._runner

    def admit(self) -> Runner:
        """The loaded runner, for a request. Raises ServiceError (503) if it isn't loaded, or takes nothing new on."""
        runner = self.runner()
        self.heat.check()
        return runner

    async def health(self) -> Health:
        """Make sure that the model computes, and has memory to. Raises ServiceError (503) with the reason if not."""
        try:
            runner = self.runner()
            self.heat.memory.check()
            return await runner.health(min(HEALTH_DEADLINE_S, self.plan.limits.timeout_s))
        except ServiceError as reason:
            reason.status = 503
            raise

    def drain(self) -> None:
        """Let nothing new in; what was accepted goes on. From any thread."""
        self._problem = _shutting_down()
        self._metrics.ready(False)

    def fail(self, fault: ServiceError) -> None:
        """Let nothing new in because of a fault that this process can't mend; what was accepted fails. From any thread;
        returns at once.
        """
        LOG.error("%s: %s", fault.code, fault.message)
        self._metrics.fault(fault.code)
        message = f"{fault.message}; a new process takes over"
        self._fail(ServiceError(fault.code, message, 503, retry_after_s=RETRY_AFTER_S))
        # Waits for the computing thread, which may hang.
        threading.Thread(target=self._runner.close, name="mlspec-fail", daemon=True).start()

    def _fail(self, problem: ServiceError) -> None:
        """The first reason stays."""
        self._problem = self._problem or problem
        self._metrics.ready(False)

    def close(self) -> None:
        """End all work and free the model; blocks for some seconds at most."""
        self.heat.stop()
        self._ended.set()
        self.drain()
        self._metrics.loaded(False)
        with self._closing:
            self._runner.close()


def _shutting_down() -> ServiceError:
    return ServiceError("shutting_down", "the service is shutting down", 503, retry_after_s=RETRY_AFTER_S)


def _often_ended(times: int, left_s: float) -> ServiceError:
    message = (
        f"the process ended {times} times in a row soon after it had begun; the server's log says why. "
        f"It loads the model again in {left_s:g} s"
    )
    return ServiceError("ends_early", message, 503, retry_after_s=left_s)
