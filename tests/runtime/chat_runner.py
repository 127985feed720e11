"""A small real runner of the task `generate`: it gives the words of the last message back, some requests at once.

What a message begins with says what more it does: `think` (the next word is reasoning), `call` (it calls each tool that
is offered), `early` (it fails before the first word), `late` (after it).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import (
    GenerateRequest,
    GenerateResponse,
    Sampling,
    Timings,
    TokenAlternative,
    TokenEvent,
    TokenLogprobs,
    ToolCall,
    Usage,
    request_type,
)
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.protocol import RUNNER_API, Health, RunnerContext, Stats, Vitals
from mlspec_runtime.submission import Measures, Output, Submission
from mlspec_runtime.waiting_room import WaitingRoom

ADAPTERS = ("support", "poet")
CACHED_TOKENS = 1


def logprobs_of(word: str, alternatives: int) -> TokenLogprobs:
    likeliest = TokenAlternative(token=1, text=word, bytes=list(word.encode()), logprob=-0.5)
    other = TokenAlternative(token=2, text="zwölf", bytes=list("zwölf".encode()), logprob=float("-inf"))
    return TokenLogprobs(**dict(likeliest), top=[likeliest, other][:alternatives])


class Job(Submission):
    def __init__(self, request: GenerateRequest, request_id: str, *, stream: bool) -> None:
        super().__init__(request_id, stream=stream)
        self.request = request
        self.asked = (request.messages[-1].content if request.messages else request.prompt) or ""
        self.entered_at = time.monotonic()
        self.events = list(self._events())
        self.given: list[TokenEvent] = []

    def _events(self) -> Iterator[TokenEvent]:
        words = self.asked.split()
        if words[:1] == ["think"]:
            yield TokenEvent(text="", reasoning=words[1], tokens=[0])
            words = words[2:]
        if words[:1] == ["call"]:
            arguments = json.dumps({"text": " ".join(words[1:])})
            calls = [ToolCall(id=f"call_{tool.name}", name=tool.name, arguments=arguments) for tool in self._tools()]
            yield TokenEvent(text="", tokens=[0], tool_calls=calls)
            return
        for at, word in enumerate(words):
            text = word if at == 0 else f" {word}"
            wanted = self.request.logprobs
            yield TokenEvent(text=text, tokens=[at], logprobs=None if wanted is None else [logprobs_of(text, wanted)])

    def _tools(self) -> list[Any]:
        return self.request.offered_tools()[: None if self.request.parallel_tool_calls else 1]

    def next(self) -> TokenEvent | None:
        """The next event, unless it has ended."""
        at = len(self.given)
        if at >= min(len(self.events), self.request.max_tokens):
            return None
        self.given.append(self.events[at])
        return self.events[at]

    def answer(self) -> Output:
        calls = [call for event in self.given for call in event.tool_calls]
        logprobs = [one for event in self.given for one in event.logprobs or ()]
        whole = len(self.given) == len(self.events)
        prompt_tokens = len(self.asked.split())
        answer = GenerateResponse(
            text="".join(event.text for event in self.given),
            tokens=[token for event in self.given for token in event.tokens],
            finish_reason="length" if not whole else "tool_calls" if calls else "stop",
            adapter=self.request.adapter or "support",
            reasoning="".join(event.reasoning for event in self.given) or None,
            tool_calls=calls,
            logprobs=logprobs or None,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(self.given), cached_tokens=CACHED_TOKENS),
            timings=Timings(queue_s=0, time_to_first_token_s=0, total_s=0),
            request_id=self.request_id,
        )
        return Output("done", answer, final=True, measures=Measures(0.0, 0.0, prompt_tokens, len(self.given)))


class ChatRunner:
    runner_api = RUNNER_API
    response_type: type[BaseModel] = GenerateResponse
    event_types: Mapping[str, type[BaseModel]] = {"token": TokenEvent, "done": GenerateResponse}
    request_examples: Mapping[str, Any] = {"prompt": {"prompt": "one two"}}

    def __init__(self, context: RunnerContext) -> None:
        limits = context.limits
        self.request_type: type[BaseModel] = request_type(ADAPTERS, "support", limits.max_tokens, Sampling(8))
        self._pause_s = context.settings.get("pause_s", 0.0)
        self._running, self._queue = limits.concurrency, limits.queue
        self._room = WaitingRoom[Job](running=limits.concurrency, waiting=limits.queue, watch=self._watch)
        self._rows: list[Job] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.asked: list[GenerateRequest] = []
        self.most_at_once = 0
        self.stopped: list[str] = []

    def _watch(self, stats: Stats) -> None:
        self.most_at_once = max(self.most_at_once, stats.running + stats.waiting)

    def load(self, models: Mapping[str, Path]) -> None:
        self._thread.start()

    async def submit(self, request: GenerateRequest, request_id: str, *, stream: bool) -> Submission:
        job = Job(request, request_id, stream=stream)
        if job.asked.startswith("early"):
            raise ServiceError("too_early", "it is too early", 400, field="messages" if request.messages else "prompt")
        if job.asked.startswith("unknown"):
            raise RuntimeError("secret detail")
        self._room.enter(job)
        self.asked.append(request)
        return job

    def cancel(self, submission: Submission) -> None:
        submission.cancelled = True
        self._room.leave_if_waiting(submission)

    async def health(self, timeout_s: float) -> Health:
        return Health("computed", 0.0)

    def fault(self) -> ServiceError | None:
        return None

    def response_key(self, request: GenerateRequest) -> bytes | None:
        return None

    def stats(self) -> Stats:
        return self._room.stats()

    def throttle(self, allowance: Allowance) -> None:
        self._room.resize(running=self._running, waiting=self._queue)

    def vitals(self) -> Vitals:
        return Vitals()

    def close(self) -> None:
        reason = ServiceError("shutting_down", "shutting down", 503)
        for job in self._room.close(reason):
            job.cancelled = True
            job.put(reason.again())
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while self._rows or self._room.wait():
            if self._room.closed:
                return
            self._rows += self._room.begin(self._room.waiting()[: self._running - len(self._rows)])
            time.sleep(self._pause_s)
            self._rows = [job for job in self._rows if self._goes_on(job)]

    def _goes_on(self, job: Job) -> bool:
        event = job.next()
        if job.cancelled:
            self.stopped.append(job.request_id)
        elif event is None:
            self._room.leave(job, took_s=0.01)
            job.put(job.answer())
            return False
        elif job.asked.startswith("late") and len(job.given) > 1:
            job.put(ServiceError("engine_error", "it broke", 500))
        else:
            if job.stream:
                job.put(Output("token", event))
            return True
        self._room.leave(job)
        return False


def create(context: RunnerContext) -> ChatRunner:
    return ChatRunner(context)
