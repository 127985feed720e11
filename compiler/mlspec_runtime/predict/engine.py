"""The runner of every model of tensors: checks requests on the way in, computes on one thread, checks what came out."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.predict.messages import (
    TensorRequest,
    TensorResponse,
    TensorTimings,
    request_type,
    response_type,
)
from mlspec_runtime.predict.model import CreateModel, ModelContext, TensorModel
from mlspec_runtime.predict.settings import Settings, read
from mlspec_runtime.predict.signature import Array, BadTensorError
from mlspec_runtime.predict.values import conform, example, to_lists
from mlspec_runtime.protocol import RUNNER_API, Health, RunnerContext, Stats, Vitals
from mlspec_runtime.submission import Measures, Output, Submission
from mlspec_runtime.waiting_room import WaitingRoom

LOG = logging.getLogger("mlspec.predict")
CLOSE_WAIT_S = 10.0
RECENT_S = 10.0
STUCK_S = 60.0
"""A call is taken for one that hangs after this time, or twice the requests' deadline where that is longer."""


class Job(Submission):
    """One call of the model; without inputs, of its `health`."""

    def __init__(self, request_id: str, inputs: Mapping[str, Array] | None, sizes: dict[str, int]) -> None:
        super().__init__(request_id)
        self.inputs = inputs
        self.sizes = sizes
        self.entered_at = time.monotonic()
        self.began_at = 0.0
        self.computing = False


class Done(BaseModel):
    """What `health` answers within."""


class TensorRunner:
    """Checks requests on the event loop, computes on a thread of its own."""

    runner_api = RUNNER_API

    def __init__(self, context: RunnerContext, create_model: CreateModel) -> None:
        self._settings: Settings = read(context.settings)
        asked = self._settings.requests
        self._context = ModelContext(
            self._settings.model, self._settings.inputs, self._settings.outputs, context.bundle
        )
        self._create_model = create_model
        self._queue = context.limits.queue
        self._stuck_s = max(STUCK_S, 2 * context.limits.timeout_s)
        self._room = WaitingRoom[Job](
            running=1,
            waiting=self._waiting(context.limits.concurrency),
            watch=context.watch,
            timeout_s=context.limits.timeout_s,
        )
        self._thread: threading.Thread | None = None
        self._model: TensorModel | None = None
        self._good_at = 0.0
        self._computed: Job | None = None
        self.request_type: type[BaseModel] = request_type(asked.inputs)
        self.response_type: type[BaseModel] = response_type(asked.outputs)
        self.event_types: Mapping[str, type[BaseModel]] = {"done": self.response_type}
        self.request_examples: Mapping[str, Any] = {"zeros": {"inputs": example(asked.inputs)}}

    def _waiting(self, concurrency: int) -> int:
        """One thread computes, whatever the concurrency: the rest of it is room to wait."""
        return concurrency - 1 + self._queue

    def load(self, models: Mapping[str, Path]) -> None:
        opened = threading.Event()
        problems: list[BaseException] = []
        arguments = (models, opened, problems)
        self._thread = threading.Thread(target=self._run, args=arguments, name="mlspec-predict", daemon=True)
        self._thread.start()
        opened.wait()
        if problems:
            raise _load_error(problems[0])

    async def submit(self, request: TensorRequest, request_id: str, *, stream: bool) -> Submission:
        sizes: dict[str, int] = {}
        # A large body takes a while: not on the event loop, where everybody would wait.
        inputs = await asyncio.to_thread(self._inputs, request, sizes)
        job = Job(request_id, inputs, sizes)
        self._room.enter(job)
        return job

    def _inputs(self, request: TensorRequest, sizes: dict[str, int]) -> dict[str, Array]:
        """The request's tensors as declared. Raises ServiceError (422) with the one that isn't."""
        inputs, values = {}, request.values()
        for spec in self._settings.requests.inputs:
            try:
                inputs[spec.name] = conform(values[spec.name], spec, sizes)
            except BadTensorError as fault:
                field = f"inputs.{spec.name}"
                raise ServiceError("invalid_request", f"{field}: {fault}", 422, field=field) from None
        return inputs

    def cancel(self, submission: Submission) -> None:
        """Give its place in the queue up. A call that has begun runs to its end: Python can't stop it."""
        submission.cancelled = True
        self._room.leave_if_waiting(submission)

    async def health(self, timeout_s: float) -> Health:
        """The class has answered in the last seconds, or its thread is free and its `health` raises nothing."""
        if self._thread is None or not self._thread.is_alive():
            raise _dead()
        age_s = time.monotonic() - self._good_at
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
        if self._model is None:
            return None
        if not (self._thread and self._thread.is_alive()):
            return _dead()
        job = self._computed
        if job is not None and time.monotonic() - job.began_at > self._stuck_s:
            return ServiceError("engine_stuck", f"one call of the model's code took over {self._stuck_s:g} s", 503)
        return None

    def response_key(self, request: TensorRequest) -> bytes | None:
        """None: nothing is known of what the model computes."""
        return None

    def stats(self) -> Stats:
        return self._room.stats()

    def throttle(self, allowance: Allowance) -> None:
        self._room.resize(running=1, waiting=self._waiting(allowance.concurrency))

    def vitals(self) -> Vitals:
        return Vitals(self._model.memory_bytes() if self._model else {})

    def close(self) -> None:
        reason = ServiceError("shutting_down", "the service is shutting down", 503)
        for job in self._room.close(reason):
            job.put(reason.again())
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _run(self, models: Mapping[str, Path], opened: threading.Event, problems: list[BaseException]) -> None:
        try:
            self._model = self._open(models)
        # Whatever the model's code raises, `load` waits to learn of it.
        except BaseException as problem:  # noqa: BLE001
            problems.append(problem)
            return
        finally:
            opened.set()
        try:
            while self._room.wait():
                for job in self._room.begin(self._room.waiting()[:1]):
                    self._compute(job)
        # Nothing may leave clients waiting for a thread that has ended.
        except BaseException:
            LOG.exception("the computing thread has ended")
            for job in self._room.close(_dead()):
                job.put(_dead())

    def _open(self, models: Mapping[str, Path]) -> TensorModel:
        model = self._create_model(self._context)
        model.load(models)
        return model

    def _compute(self, job: Job) -> None:
        job.began_at = time.monotonic()
        job.computing = True
        self._computed = job
        answer = self._answer(job)
        self._computed = None
        failed = isinstance(answer, ServiceError)
        self._room.leave(job, took_s=None if failed else time.monotonic() - job.began_at)
        job.put(answer)

    def _answer(self, job: Job) -> Output | ServiceError:
        try:
            assert self._model is not None  # noqa: S101 - `_run` made it
            if job.inputs is None:
                self._model.health()
                return Output("done", Done(), final=True)
            answer = self._predicted(self._model, job, job.inputs)
        except ServiceError as error:
            return error
        # A model's code may raise anything, KeyboardInterrupt too; the client learns that it did, the log learns what.
        except BaseException:
            LOG.exception("request %s: the model's code failed", job.request_id)
            message = "the model's code failed; the server's log has it under this request_id"
            return ServiceError("model_error", message, 500)
        self._good_at = time.monotonic()
        return answer

    def _predicted(self, model: TensorModel, job: Job, inputs: Mapping[str, Array]) -> Output:
        outputs = self._outputs(model.predict(inputs), job)
        queue_s, total_s = job.began_at - job.entered_at, time.monotonic() - job.entered_at
        timings = TensorTimings(queue_s=round(queue_s, 6), total_s=round(total_s, 6))
        answer = TensorResponse(outputs=to_lists(outputs), timings=timings, request_id=job.request_id)
        return Output("done", answer, final=True, measures=Measures(queue_s))

    def _outputs(self, predicted: Any, job: Job) -> dict[str, Array]:
        declared = {spec.name for spec in self._settings.outputs}
        if not isinstance(predicted, Mapping) or set(predicted) != declared:
            told = sorted(map(str, predicted)) if isinstance(predicted, Mapping) else type(predicted).__name__
            raise _bad_output(job, f"predict must give a dict with {', '.join(sorted(declared))}; it gave {told}")
        outputs = {}
        for spec in self._settings.outputs:
            try:
                outputs[spec.name] = conform(predicted[spec.name], spec, job.sizes)
            except BadTensorError as fault:
                raise _bad_output(job, f"output {spec.name} {fault}") from None
        return outputs


def _dead() -> ServiceError:
    return ServiceError("engine_dead", "the computing thread has ended", 503)


def _load_error(problem: BaseException) -> BaseException:
    """What `load` raises: exceptions as they are; sys.exit in a user's code must not end the loading thread."""
    return problem if isinstance(problem, Exception) else RuntimeError(f"the model's code raised {problem!r}")


def _bad_output(job: Job, message: str) -> ServiceError:
    LOG.error("request %s: %s", job.request_id, message)
    return ServiceError("bad_output", f"the model's answer is not as declared: {message}", 500)


def tensor_runner(context: RunnerContext, create_model: CreateModel) -> TensorRunner:
    """What `create` of a runner's `runtime.py` answers with."""
    return TensorRunner(context, create_model)
