"""The echo runner, but one whose thread can die or hang, and that can end the whole process, as its requests ask."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.protocol import RunnerContext
from runtime.echo_runner import EchoRequest, EchoRunner, Job


class MortalRequest(EchoRequest):
    end: str = ""
    """`thread`: the thread ends; `process`: the process aborts, as Metal does when it runs out of memory."""


class _End(BaseException):
    """Ends the thread."""


class MortalRunner(EchoRunner):
    """`abort_at_load` in the settings is a file: while it is there, loading ends the process."""

    request_type: type[BaseModel] = MortalRequest
    request_examples: Mapping[str, Any] = {"last": {"text": "a b", "end": "thread"}}

    def load(self, models: Mapping[str, Path]) -> None:
        if Path(self.settings.get("abort_at_load", "/nowhere/at/all")).exists():
            os.abort()
        super().load(models)

    def fault(self) -> ServiceError | None:
        return None if self._thread.is_alive() else ServiceError("engine_dead", "the thread has ended", 503)

    def _run(self) -> None:
        with suppress(_End):
            super()._run()

    def _echo(self, job: Job) -> None:
        end = getattr(job.request, "end", "")
        if end == "process":
            os.abort()
        if end == "thread":
            for lost in self._room.close(ServiceError("engine_dead", "the thread has ended", 503)):
                lost.put(ServiceError("engine_dead", "the thread has ended", 503))
            raise _End
        super()._echo(job)


def create(context: RunnerContext) -> MortalRunner:
    return MortalRunner(context)
