"""What a runner is at run time. The application knows this protocol and the task, never a runner's name.

A runner's `runtime.py` has `create(context: RunnerContext) -> Runner`. Creating is cheap and imports nothing
heavy; `load` brings the model into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.heat.pace import Pace
from mlspec_runtime.plan import Limits
from mlspec_runtime.submission import Submission

RUNNER_API = 1


@dataclass(frozen=True)
class Capacity:
    """Of `planned` requests at once `concurrency` can be computed on this computer; `reason` is for people."""

    planned: int
    concurrency: int
    reason: str


@dataclass(frozen=True)
class Stats:
    """How many requests wait and how many are computed at this moment. `capacity`: how many can be at most, where this
    computer is not as planned; known once the model is loaded.
    """

    waiting: int
    running: int
    capacity: Capacity | None = None


@dataclass(frozen=True)
class RunnerContext:
    """What a runner is given: the plan's settings and limits, the bundle's folder, and `watch`, to be called
    from any thread when its stats change.
    """

    task: str
    settings: Mapping[str, Any]
    limits: Limits
    bundle: Path
    watch: Callable[[Stats], None]


@dataclass(frozen=True)
class Health:
    """How it is known that the model answers: `computed` just now, or `recently` (`age_s` ago)."""

    checked: str
    age_s: float


@dataclass(frozen=True)
class Calls:
    """Calls of a model of tensors, each of `most_rows` rows at most and of more than half of that: how many there were,
    the rows and the requests that they computed, and the time that they took.
    """

    most_rows: int = 0
    calls: int = 0
    rows: int = 0
    requests: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Vitals:
    """What a runner tells of itself every few seconds: the memory that it holds, by kind, its pace and its calls since
    it was last asked, and what it has counted since it began. Empty where it has none to tell.
    """

    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    paces: tuple[Pace, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    calls: tuple[Calls, ...] = ()


class Runner(Protocol):
    """Loads and runs one model. All methods but `load` and `close` must not block; they are called on the event loop,
    but for `throttle`, `vitals` and `fault`, which threads of their own call once the model is loaded.
    """

    runner_api: int
    request_type: type[BaseModel]
    """The body of a request: its validation and its description in the OpenAPI document."""
    response_type: type[BaseModel]
    event_types: Mapping[str, type[BaseModel]]
    """The events of a stream by name; the last one sent is `done`."""
    request_examples: Mapping[str, Any]
    """Bodies to show, by name."""

    def load(self, models: Mapping[str, Path]) -> None:
        """Load, on any thread, from the folders by role. Returns when a request can be computed; raises
        ServiceError.
        """

    async def submit(self, request: Any, request_id: str, *, stream: bool) -> Submission:
        """Queue a request of `request_type`. Raises ServiceError: the request is wrong (4xx), the queue full
        (429).

        Without `stream` the final output alone is wanted.
        """

    def cancel(self, submission: Submission) -> None:
        """Stop computing it; nothing if it has ended."""

    async def health(self, timeout_s: float) -> Health:
        """Make sure, in this time, that the model computes. Raises ServiceError with the reason if it
        doesn't.
        """

    def fault(self) -> ServiceError | None:
        """What keeps it from computing and only a new process mends: a thread that died, or makes no progress."""

    def response_key(self, request: Any) -> bytes | None:
        """Requests with equal keys have equal answers; None: the next answer to it may be another one."""

    def stats(self) -> Stats:
        """What is queued and computed."""

    def throttle(self, allowance: Allowance) -> None:
        """Take on so much from now on: `allowance.concurrency` requests at once (1 to the plan's), and prompts in steps
        of `allowance.prefill_step` tokens, where the runner reads prompts. What is accepted goes on to its end; who is
        let in while `allowance.shed` holds is the application's business.
        """

    def vitals(self) -> Vitals:
        """Its memory and its pace."""

    def close(self) -> None:
        """End all work and free the model; waits some seconds for the computing thread."""
