"""The model of a bundle from start to end: starting, ready, or failed with a reason."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.watch import HeatWatch
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.models import StoreLookup, locate
from mlspec_runtime.plan import PlanError, RuntimePlan
from mlspec_runtime.protocol import RUNNER_API, Health, Runner, RunnerContext

LOG = logging.getLogger("mlspec.model")
HEALTH_DEADLINE_S = 10.0


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
    moment.
    """

    def __init__(
        self,
        plan: RuntimePlan,
        bundle: Path,
        runner: Runner,
        metrics: Metrics,
        store: StoreLookup,
        heat: HeatWatch,
    ) -> None:
        self.plan = plan
        self.heat = heat
        self._bundle = bundle
        self._runner = runner
        self._metrics = metrics
        self._store = store
        self._ready = False
        self._problem: ServiceError | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Begin to load. Returns at once."""
        threading.Thread(target=self._start, args=(environment,), name="mlspec-load", daemon=True).start()

    def _start(self, environment: Mapping[str, str]) -> None:
        try:
            self._load(environment)
        except ServiceError as problem:
            LOG.error("not ready: %s", problem.message)
            self._problem = problem
        # The reason is kept for /health; restarting in a loop would not mend it.
        except Exception:
            LOG.exception("not ready: loading the model failed")
            message = "loading the model failed; the server's log says why"
            self._problem = ServiceError("load_failed", message, 503)

    def _load(self, environment: Mapping[str, str]) -> None:
        began_at = time.monotonic()
        missing = missing_environment(self.plan, environment)
        if missing:
            raise environment_error(missing)
        self._runner.load(locate(self.plan, self._bundle, environment, self._store))
        self._ready = True
        self._metrics.loaded(True)
        self.heat.start()
        LOG.info("%s is ready: loaded in %.1f s", self.plan.service.name, time.monotonic() - began_at)

    @property
    def ready(self) -> bool:
        return self._ready

    def runner(self) -> Runner:
        """The loaded runner. Raises ServiceError (503) with the reason if it isn't loaded."""
        if self._problem is not None:
            raise self._problem.again()
        if not self._ready:
            raise ServiceError("model_loading", "the model is being loaded", 503, retry_after_s=2)
        return self._runner

    def admit(self) -> Runner:
        """The loaded runner, for a request. Raises ServiceError (503) if it isn't loaded, or takes nothing new on."""
        runner = self.runner()
        self.heat.check()
        return runner

    async def health(self) -> Health:
        """Make sure that the model computes. Raises ServiceError (503) with the reason if it doesn't."""
        try:
            return await self.runner().health(min(HEALTH_DEADLINE_S, self.plan.limits.timeout_s))
        except ServiceError as reason:
            reason.status = 503
            raise

    def close(self) -> None:
        """End all work and free the model; blocks for some seconds at most."""
        self.heat.stop()
        self._ready = False
        self._problem = ServiceError("shutting_down", "the service is shutting down", 503)
        self._metrics.loaded(False)
        self._runner.close()
