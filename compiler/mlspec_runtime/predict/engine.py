"""The runner of every model of tensors: checks requests on the way in, computes on one thread, checks what came out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.predict.answers import dead
from mlspec_runtime.predict.batches import stack_key, stackable
from mlspec_runtime.predict.computing import Computing
from mlspec_runtime.predict.examples import examples
from mlspec_runtime.predict.intake import Intake
from mlspec_runtime.predict.job import Job, StackKey
from mlspec_runtime.predict.messages import TensorRequest, request_type, response_type
from mlspec_runtime.predict.model import CreateModel, ManyAtOnce, ModelContext, TensorModel
from mlspec_runtime.predict.settings import Settings, read
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.protocol import RUNNER_API, Health, RunnerContext, Stats, Vitals
from mlspec_runtime.request_info import current
from mlspec_runtime.submission import Submission
from mlspec_runtime.waiting_room import WaitingRoom

RECENT_S = 10.0
STUCK_S = 60.0
"""A call is taken for one that hangs after this time, or twice the requests' deadline where that is longer."""


class TensorRunner:
    """Checks requests on the event loop, computes on a thread of its own."""

    runner_api = RUNNER_API

    def __init__(self, context: RunnerContext, create_model: CreateModel) -> None:
        self._settings: Settings = read(context.settings)
        self._context = ModelContext(
            self._settings.model, self._settings.inputs, self._settings.outputs, context.bundle
        )
        self._create_model = create_model
        self._limits = context.limits
        self._stuck_s = max(STUCK_S, 2 * context.limits.timeout_s)
        self._stacks = stackable((*self._settings.inputs, *self._settings.outputs))
        self._room = WaitingRoom[Job](
            running=1,
            waiting=self._waiting(context.limits.concurrency),
            watch=context.watch,
            timeout_s=context.limits.timeout_s,
        )
        self._intake = Intake(self._settings)
        self._computing = Computing(self._room, self._open, self._settings, self._intake.steps)
        asked = self._settings.requests
        self.request_type: type[BaseModel] = request_type(asked.inputs)
        self.response_type: type[BaseModel] = response_type(asked.outputs)
        self.event_types: Mapping[str, type[BaseModel]] = {"done": self.response_type}
        self.request_examples: Mapping[str, Any] = examples(asked.inputs)

    def _waiting(self, concurrency: int) -> int:
        """One thread computes, whatever the concurrency: the rest of it is room to wait."""
        return concurrency - 1 + self._limits.queue

    def load(self, models: Mapping[str, Path]) -> None:
        self._computing.open(models)

    def _open(self, models: Mapping[str, Path]) -> TensorModel:
        self._intake.load(self._context.bundle, models)
        model = self._create_model(self._context)
        model.load(models)
        if self._settings.batching.max_rows > 1 and not self._stacks and not isinstance(model, ManyAtOnce):
            raise ServiceError("load_failed", _UNSTACKABLE, 503)
        return model

    async def submit(self, request: TensorRequest, request_id: str, *, stream: bool) -> Submission:
        sizes: dict[str, int] = {}
        inputs = await self._intake.arrays(request, sizes)
        job = Job(
            request_id,
            inputs,
            sizes,
            rows=self._rows(inputs),
            key=self._key(inputs),
            encoding=request.encoding,
            deadline_at=self._deadline_at(),
            tokens=self._intake.tokens(inputs),
        )
        self._room.enter(job)
        return job

    def _rows(self, inputs: Mapping[str, Array]) -> int:
        return int(next(iter(inputs.values())).shape[0]) if self._stacks else 1

    def _key(self, inputs: Mapping[str, Array]) -> StackKey | None:
        """Requests of any shapes have the same key where the model takes them as they are."""
        if self._settings.batching.max_rows == 1:
            return None
        return () if self._computing.takes_any else stack_key(inputs)

    def _deadline_at(self) -> float:
        info = current()
        return (time.monotonic() if info is None else info.arrived_at) + self._limits.timeout_s

    def cancel(self, submission: Submission) -> None:
        """Give its place in the queue up. A call that has begun runs to its end: Python can't stop it."""
        submission.cancelled = True
        if not submission.computing:
            self._room.leave_if_waiting(submission)

    async def health(self, timeout_s: float) -> Health:
        """The model has answered in the last seconds, or its thread is free and its `health` raises nothing."""
        if not self._computing.alive:
            raise dead()
        age_s = time.monotonic() - self._computing.good_at
        if age_s < RECENT_S:
            return Health("recently", round(age_s, 3))
        begun_at = time.monotonic()
        job = Job("health", None, {})
        self._room.enter(job, always=True)
        try:
            await asyncio.wait_for(job.output(), timeout_s)
        except TimeoutError:
            self.cancel(job)
            raise ServiceError("engine_stuck", f"the model has not answered in {timeout_s:g} s", 503) from None
        return Health("computed", round(time.monotonic() - begun_at, 3))

    def fault(self) -> ServiceError | None:
        """The thread's death, or a call that goes on long after its request's deadline: Python can't stop it."""
        if self._computing.model is None:
            return None
        if not self._computing.alive:
            return dead()
        since = self._computing.busy_since
        if since is not None and time.monotonic() - since > self._stuck_s:
            return ServiceError("engine_stuck", f"one call of the model's code took over {self._stuck_s:g} s", 503)
        return None

    def response_key(self, request: TensorRequest) -> bytes | None:
        """None: nothing is known of what the model computes."""
        return None

    def stats(self) -> Stats:
        return self._room.stats()

    def throttle(self, allowance: Allowance) -> None:
        """Fewer requests in a batch, too."""
        is_as_planned = allowance.concurrency >= self._limits.concurrency
        self._computing.most_requests = self._settings.batching.max_rows if is_as_planned else allowance.concurrency
        self._room.resize(running=1, waiting=self._waiting(allowance.concurrency))

    def vitals(self) -> Vitals:
        model = self._computing.model
        return Vitals(model.memory_bytes() if model else {}, calls=self._computing.meter.take())

    def close(self) -> None:
        self._computing.close()


_UNSTACKABLE = (
    "service.batching asks for batches, but the inputs and outputs don't all begin with one named dimension, "
    "and the model has no predict_batch; declare shapes such as [batch, 4], or take batching out of the spec"
)


def tensor_runner(context: RunnerContext, create_model: CreateModel) -> TensorRunner:
    """What `create` of a runner's `runtime.py` answers with."""
    return TensorRunner(context, create_model)
