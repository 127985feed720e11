"""A runner on the real engine with a small language model: from a number it counts on, some rows at once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.engine import Engine
from mlspec_runtime.generate.job import Job, Started, Step
from mlspec_runtime.generate.messages import GenerateResponse, Sampling
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.protocol import RUNNER_API, Capacity, Health, RunnerContext, Stats, Vitals
from mlspec_runtime.submission import Submission
from mlspec_runtime.waiting_room import WaitingRoom

STEP_S = 0.001


class CountRequest(BaseModel):
    start: int
    count: int


class Digits:
    """A detokenizer: each token is its number and a blank."""

    def __init__(self) -> None:
        self._text = ""

    def add_token(self, token: int) -> None:
        self._text += f"{token} "

    def finalize(self) -> None:
        pass

    @property
    def last_segment(self) -> str:
        text, self._text = self._text, ""
        return text


class CountingModel:
    """A step takes a millisecond and counts each row on by one."""

    def __init__(self) -> None:
        self._rows: dict[int, list[int]] = {}
        self._ids = itertools.count()
        self.prefill_steps: list[int] = []
        self.sizes: list[int] = []

    def admits(self, adapter: str) -> bool:
        return True

    def start(self, prompt: Sequence[int], sampling: Sampling, adapter: str) -> Started:
        row = next(self._ids)
        self._rows[row] = [prompt[0], sampling.max_tokens]
        return Started(row)

    def drop(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._rows[row]

    def step(self) -> list[Step]:
        time.sleep(STEP_S)
        self.sizes.append(len(self._rows))
        return [self._step(row) for row in list(self._rows)]

    def _step(self, row: int) -> Step:
        state = self._rows[row]
        state[0], state[1] = state[0] + 1, state[1] - 1
        if state[1]:
            return Step(row, state[0], None)
        del self._rows[row]
        return Step(row, state[0], "length")

    def settle(self) -> None:
        pass

    def read_prompts_by(self, tokens: int) -> None:
        if self.prefill_steps[-1:] != [tokens]:
            self.prefill_steps.append(tokens)

    def detokenizer(self) -> Digits:
        return Digits()

    def memory_bytes(self) -> Mapping[str, int]:
        return {"rows": 8 * len(self._rows)}

    def counts(self) -> Mapping[str, int]:
        return {}

    def reset(self) -> None:
        self._rows.clear()

    def close(self) -> None:
        self._rows.clear()


class CountingRunner:
    runner_api = RUNNER_API
    request_type: type[BaseModel] = CountRequest
    response_type: type[BaseModel] = GenerateResponse
    event_types: Mapping[str, type[BaseModel]] = {"done": GenerateResponse}
    request_examples: Mapping[str, Any] = {"three": {"start": 1, "count": 3}}

    def __init__(self, context: RunnerContext) -> None:
        concurrency, self._queue = context.limits.concurrency, context.limits.queue
        self._room = WaitingRoom[Job](running=concurrency, waiting=self._queue, watch=context.watch)
        self._engine = Engine(self._room, concurrency=concurrency)
        self._most = context.settings.get("fits", concurrency)
        self._planned = concurrency
        self.model = CountingModel()
        self.throttled_on: set[int] = set()

    def load(self, models: Mapping[str, Path]) -> None:
        self._engine.open(lambda: self.model)
        self.throttle(Allowance(self._most))
        self.throttled_on.clear()

    async def submit(self, request: CountRequest, request_id: str, *, stream: bool) -> Submission:
        job = Job(request_id, [request.start], Sampling(max_tokens=request.count), "base", stream=stream)
        self._engine.submit(job)
        return job

    def cancel(self, submission: Submission) -> None:
        self._engine.cancel(submission)

    async def health(self, timeout_s: float) -> Health:
        return Health("recently", 0.0)

    def fault(self) -> ServiceError | None:
        return None

    def response_key(self, request: CountRequest) -> bytes | None:
        return None

    def stats(self) -> Stats:
        capacity = Capacity(self._planned, self._most, "it has less") if self._most < self._planned else None
        return replace(self._room.stats(), capacity=capacity)

    def throttle(self, allowance: Allowance) -> None:
        self.throttled_on.add(threading.get_ident())
        concurrency = min(allowance.concurrency, self._most)
        self._room.resize(running=concurrency, waiting=self._queue)
        self._engine.throttle(concurrency, allowance.prefill_step)

    def vitals(self) -> Vitals:
        return Vitals(self._engine.memory_bytes(), self._engine.paces(), self._engine.counts())

    def close(self) -> None:
        self._engine.close()


def create(context: RunnerContext) -> CountingRunner:
    return CountingRunner(context)
