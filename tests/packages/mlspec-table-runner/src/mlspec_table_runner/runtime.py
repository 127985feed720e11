"""The serving side: copied into the bundle, imports the runtime library and nothing of the compiler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.protocol import Health, RunnerContext, Stats, Vitals
from mlspec_runtime.submission import Measures, Output, Submission


class Question(BaseModel):
    key: str


class Value(BaseModel):
    text: str


class TableRunner:
    runner_api = 1
    request_type: type[BaseModel] = Question
    response_type: type[BaseModel] = Value
    event_types: Mapping[str, type[BaseModel]] = {"done": Value}
    request_examples: Mapping[str, Any] = {"a key": {"key": "one"}}

    def __init__(self, context: RunnerContext) -> None:
        self._default = str(context.settings["default"])
        self._table: dict[str, str] = {}

    def load(self, models: Mapping[str, Path]) -> None:
        self._table = json.loads((models["table"] / "table.json").read_text())

    async def submit(self, request: Question, request_id: str, *, stream: bool) -> Submission:
        submission = Submission(request_id, stream=stream)
        value = Value(text=self._table.get(request.key, self._default))
        submission.put(Output("done", value, final=True, measures=Measures(queue_s=0.0)))
        return submission

    def cancel(self, submission: Submission) -> None:
        submission.cancelled = True

    async def health(self, timeout_s: float) -> Health:
        return Health("computed", 0.0)

    def fault(self) -> ServiceError | None:
        """There is no thread that could die."""
        return None

    def response_key(self, request: Question) -> bytes | None:
        """The table never changes."""
        return request.key.encode()

    def stats(self) -> Stats:
        return Stats(waiting=0, running=0)

    def throttle(self, allowance: Allowance) -> None:
        """Nothing to lower: each answer is there at once."""

    def vitals(self) -> Vitals:
        return Vitals()

    def close(self) -> None:
        self._table = {}


def create(context: RunnerContext) -> TableRunner:
    return TableRunner(context)
