"""The echo runner with keys for its answers, which says its words one by one as it is let."""

from __future__ import annotations

import asyncio
import threading

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.protocol import RunnerContext
from mlspec_runtime.submission import Measures, Output, Submission
from runtime.echo_runner import EchoRequest, EchoResponse, EchoRunner, Job, Word

CHANCE = 9
"""Asked for so many times, the answer is another one each time."""


class KeyedRunner(EchoRunner):
    """`let(n)` has it say n more words; `doors` holds back those who hand a request in, while it is set."""

    def __init__(self, context: RunnerContext) -> None:
        super().__init__(context)
        self.computed: list[str] = []
        self.doors: asyncio.Event | None = None
        self._words = threading.Semaphore(0)

    def let(self, words: int = 1000) -> None:
        self._words.release(words)

    def response_key(self, request: EchoRequest) -> bytes | None:
        return None if request.times == CHANCE else request.model_dump_json().encode()

    async def submit(self, request: EchoRequest, request_id: str, *, stream: bool) -> Submission:
        if self.doors is not None:
            await self.doors.wait()
        return await super().submit(request, request_id, stream=stream)

    def cancel(self, submission: Submission) -> None:
        assert isinstance(submission, Job), "not one of the runner's"
        super().cancel(submission)
        self._words.release()  # it sees at its next word that nobody waits

    def close(self) -> None:
        self.let()
        super().close()

    def _echo(self, job: Job) -> None:
        self.computed.append(job.request_id)
        words = job.request.text.split() * job.request.times
        for word in words:
            self._words.acquire()
            if job.cancelled:
                self.stopped.append(job.request_id)
                return
            if job.stream:
                job.put(Output("word", Word(text=word)))
        if job.request.fail == "late":
            job.put(ServiceError("engine_error", "it broke", 500))
            return
        answer = EchoResponse(text=" ".join(words), words=len(words))
        job.put(Output("done", answer, final=True, measures=Measures(0.0, 0.1, len(words), len(words))))


def create(context: RunnerContext) -> KeyedRunner:
    return KeyedRunner(context)
