"""A small real runner: it gives the words of a text back, one by one, from a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.protocol import RUNNER_API, Health, RunnerContext, Stats, Vitals
from mlspec_runtime.submission import Measures, Output, Submission
from mlspec_runtime.waiting_room import WaitingRoom

LOG = logging.getLogger("mlspec.echo")


class EchoRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    text: str = Field(min_length=1)
    times: int = Field(1, ge=1, le=9)
    pause_s: float = 0.0
    """Between two words."""
    fail: str = ""
    """`known`, `unknown`, `repeats`, `crash` or `late`: how it shall go wrong."""


class EchoResponse(BaseModel):
    text: str
    words: int


class Word(BaseModel):
    """One word."""

    text: str


class Job(Submission):
    def __init__(self, request_id: str, request: EchoRequest, *, stream: bool) -> None:
        super().__init__(request_id, stream=stream)
        self.request = request
        self.entered_at = time.monotonic()


class EchoRunner:
    runner_api = RUNNER_API
    request_type: type[BaseModel] = EchoRequest
    response_type: type[BaseModel] = EchoResponse
    event_types: Mapping[str, type[BaseModel]] = {"word": Word, "done": EchoResponse}
    request_examples: Mapping[str, Any] = {"short": {"text": "a <b> 'c'"}}

    def __init__(self, context: RunnerContext) -> None:
        self.settings = context.settings
        self.models: Mapping[str, Path] = {}
        self.broken = False
        self.stopped: list[str] = []
        self.allowances: list[Allowance] = []
        self._queue = context.limits.queue
        self._room = WaitingRoom[Job](running=1, waiting=context.limits.queue, watch=context.watch)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def load(self, models: Mapping[str, Path]) -> None:
        time.sleep(self.settings.get("load_s", 0.0))
        if "raise" in self.settings:
            raise RuntimeError(self.settings["raise"])
        self.models = models
        self._thread.start()

    async def submit(self, request: EchoRequest, request_id: str, *, stream: bool) -> Submission:
        if request.fail == "known":
            raise ServiceError("too_loud", "not so loud", 400, field="text")
        if request.fail == "unknown":
            raise RuntimeError("secret detail")
        if request.fail == "repeats":
            raise RuntimeError(f"can't make anything of {request.text!r}")
        job = Job(request_id, request, stream=stream)
        self._room.enter(job)
        return job

    def cancel(self, submission: Submission) -> None:
        submission.cancelled = True
        self._room.leave_if_waiting(submission)

    async def health(self, timeout_s: float) -> Health:
        if self.broken:
            raise ServiceError("engine_dead", "the thread has died", 500)
        return Health("computed", 0.0)

    def fault(self) -> ServiceError | None:
        return None

    def response_key(self, request: EchoRequest) -> bytes | None:
        return None

    def stats(self) -> Stats:
        return self._room.stats()

    def throttle(self, allowance: Allowance) -> None:
        self.allowances.append(allowance)
        self._room.resize(running=1, waiting=self._queue)

    def vitals(self) -> Vitals:
        return Vitals(memory_bytes={"active": 1024})

    def close(self) -> None:
        reason = ServiceError("shutting_down", "shutting down", 503)
        for job in self._room.close(reason):
            job.cancelled = True
            job.put(reason.again())
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while self._room.wait():
            for job in self._room.begin(self._room.waiting()[:1]):
                self._echo(job)
                self._room.leave(job, took_s=0.1)

    def _echo(self, job: Job) -> None:
        words = (job.request.text.split() * job.request.times) or ["-"]
        for word in words:
            time.sleep(job.request.pause_s)
            if job.cancelled:
                self.stopped.append(job.request_id)
                return
            if job.stream:
                job.put(Output("word", Word(text=word)))
        if job.request.fail == "crash":
            self._crash(job)
            return
        if job.request.fail == "late":
            job.put(ServiceError("engine_error", "it broke", 500))
            return
        answer = EchoResponse(text=" ".join(words), words=len(words))
        job.put(Output("done", answer, final=True, measures=Measures(0.0, 0.1, len(words), len(words))))

    def _crash(self, job: Job) -> None:
        """Fail as an engine does: its thread tells the log, and the client that it broke."""
        try:
            raise RuntimeError(f"no word for {job.request.text!r}")
        except RuntimeError:
            LOG.exception("a step failed")
            job.put(ServiceError("engine_error", "it broke", 500))


def create(context: RunnerContext) -> EchoRunner:
    return EchoRunner(context)
