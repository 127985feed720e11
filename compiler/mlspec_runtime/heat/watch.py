"""The thread that looks every few seconds: at the heat, at the runner and its memory, and tells the runner and the
metrics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.allowance import Allowance, rungs
from mlspec_runtime.heat.governor import Governor
from mlspec_runtime.heat.macos import MacReader
from mlspec_runtime.heat.reading import NoReader, Reader, Reading
from mlspec_runtime.memory_watch import MemoryWatch
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import GovernorSettings, RuntimePlan
from mlspec_runtime.protocol import Runner

LOG = logging.getLogger("mlspec.heat")
Clock = Callable[[], float]


def planned_reader(settings: GovernorSettings) -> Reader:
    """The reader that the plan names."""
    return MacReader() if settings.reader == "macos" else NoReader()


class HeatWatch:
    """Governs one runner. `look` may be called without the thread."""

    def __init__(
        self, plan: RuntimePlan, runner: Runner, metrics: Metrics, *, reader: Reader, clock: Clock = time.monotonic
    ) -> None:
        self._settings = plan.governor
        self._runner = runner
        self._metrics = metrics
        self._reader = reader
        self._clock = clock
        # A runner that reads prompts in steps has the planned one in its settings.
        prefill_step = plan.runner.settings.get("prefill_step")
        self._governor = Governor(plan.governor, plan.limits.concurrency, prefill_step)
        self.allowance: Allowance = rungs(plan.limits.concurrency, prefill_step)[0]
        self.reading = Reading()
        self.memory = MemoryWatch()
        self._stopped = threading.Event()
        metrics.heat(self.reading, self._admitted())

    def start(self) -> None:
        """Look from now on, on a thread of its own."""
        threading.Thread(target=self._run, name="mlspec-heat", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.look()
            # The next look may go well; without any the service would stay as it is now for ever.
            except Exception:
                LOG.exception("looking at the heat failed")
            self._stopped.wait(self._settings.poll_s)

    def look(self) -> None:
        """Read, decide, and pass the decision on."""
        self.reading = self._reader.read()
        vitals = self._runner.vitals()
        # Where nothing tells of heat, slowness has other reasons.
        paces = () if self._settings.reader == "none" else vitals.paces
        self._change(self._governor.decide(self._clock(), self.reading, paces))
        self._metrics.heat(self.reading, self._admitted())
        self.memory.look(vitals.memory_bytes)
        self._metrics.vitals(vitals)

    def _change(self, allowance: Allowance) -> None:
        before, self.allowance = self.allowance, allowance
        if _limits(before) == _limits(allowance):
            return
        LOG.warning("%s: %s", allowance.reason, _told(allowance))
        self._runner.throttle(allowance)

    def _admitted(self) -> int:
        """How many requests are let in at once: by the heat, and by the memory of this computer."""
        allowance, capacity = self.allowance, self._runner.stats().capacity
        if allowance.shed:
            return 0
        return min(allowance.concurrency, capacity.concurrency) if capacity else allowance.concurrency

    def check(self) -> None:
        """Raises ServiceError (503) if nothing new is let in."""
        if self.allowance.shed:
            message = f"{self.allowance.reason}: nothing new is let in until it has cooled down"
            raise ServiceError("too_hot", message, 503, retry_after_s=self._settings.retry_after_s)

    def told(self) -> dict[str, Any]:
        """The part of /health: what was read, and what is allowed."""
        reading, allowance = self.reading, self.allowance
        return {
            "level": reading.heat,
            "low_power": reading.low_power,
            "on_battery": reading.on_battery,
            "concurrency": self._admitted(),
            "prefill_step": allowance.prefill_step,
            "shed": allowance.shed,
            "reason": allowance.reason,
        }


def _limits(allowance: Allowance) -> tuple[object, ...]:
    return allowance.concurrency, allowance.prefill_step, allowance.shed


def _told(allowance: Allowance) -> str:
    steps = "" if allowance.prefill_step is None else f", prompts in steps of {allowance.prefill_step} tokens"
    return f"{allowance.concurrency} at once{steps}" + (", and none that is new" if allowance.shed else "")
