"""A bounded queue between the event loop and the one thread that computes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.protocol import Stats

Job = TypeVar("Job")


class WaitingRoom(Generic[Job]):
    """Jobs wait here and are computed from here. `running` and `waiting` are bounded together, so that a
    burst which the free places will take at once is not refused. Nor does anyone wait in vain: who would, by what
    requests take as a rule, have to for longer than `timeout_s` is refused at once.
    """

    def __init__(
        self, *, running: int, waiting: int, watch: Callable[[Stats], None], timeout_s: float = math.inf
    ) -> None:
        self._resize(running, waiting)
        self._timeout_s = timeout_s
        self._watch = watch
        self._changed = threading.Condition()
        self._waiting: dict[Job, None] = {}
        self._running: dict[Job, None] = {}
        self._closed: ServiceError | None = None
        self._typical_s = 1.0
        self._is_measured = False

    def resize(self, *, running: int, waiting: int) -> None:
        """Other bounds from now on. Those who are in stay in, even if they are more."""
        with self._changed:
            self._resize(running, waiting)

    def computes(self, jobs: int) -> None:
        """So many are computed at once, in one batch, from now on; there is as much room as before."""
        with self._changed:
            self._parallel = max(1, jobs)

    def _resize(self, running: int, waiting: int) -> None:
        self._places = running + waiting
        self._room = f"({running} computed at once, {waiting} waiting)"
        self._parallel = max(1, running)

    def enter(self, job: Job, *, always: bool = False) -> None:
        """Queue a job. Raises ServiceError: 429 when it is full (unless `always`), the reason when it is
        closed.
        """
        with self._changed:
            if self._closed is not None:
                raise self._closed.again()
            if not always:
                self._check_room()
            self._waiting[job] = None
            self._changed.notify_all()
        self._tell()

    def _check_room(self) -> None:
        waiting, running = len(self._waiting), len(self._running)
        retry_after_s = round(min(60.0, max(1.0, self._typical_s * (waiting + 1) / self._parallel)), 1)
        if waiting + running >= self._places:
            message = f"{waiting + running} requests are in, and there is room for {self._places} {self._room}"
            raise ServiceError("queue_full", message, 429, retry_after_s=retry_after_s)
        must_end_first = waiting + running + 1 - self._parallel
        wait_s = self._typical_s * must_end_first / self._parallel
        if self._is_measured and must_end_first > 0 and wait_s + self._typical_s > self._timeout_s:
            told = f"{waiting} requests wait and {running} are computed"
            message = f"{told}: one more would hardly be answered within {self._timeout_s:g} s"
            raise ServiceError("queue_slow", message, 429, retry_after_s=retry_after_s)

    def wait(self) -> bool:
        """Block until a job waits; False once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed is not None)
            return self._closed is None

    @property
    def closed(self) -> bool:
        return self._closed is not None

    def waiting(self) -> tuple[Job, ...]:
        """Those who wait, the longest first."""
        with self._changed:
            return tuple(self._waiting)

    def begin(self, jobs: Iterable[Job]) -> list[Job]:
        """Take waiting jobs up; those that have left meanwhile are not in the answer."""
        with self._changed:
            present = [job for job in jobs if job in self._waiting]
            for job in present:
                del self._waiting[job]
                self._running[job] = None
        if present:
            self._tell()
        return present

    def linger(self, enough: Callable[[tuple[Job, ...]], bool], until: float) -> None:
        """Block until those who wait are `enough`, or the time (of `time.monotonic`) has come, or it is closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed is not None or enough(tuple(self._waiting)), max(0.0, until - time.monotonic())
            )

    def leave(self, job: Job, *, took_s: float | None = None) -> None:
        """A job is done, or its client has gone; `took_s` is what computing a whole one took."""
        self.leave_all([job], took_s=took_s)

    def leave_all(self, jobs: Iterable[Job], *, took_s: float | None = None) -> None:
        """Jobs are done that were computed together, which took `took_s`."""
        with self._changed:
            for job in jobs:
                self._waiting.pop(job, None)
                self._running.pop(job, None)
            if took_s is not None:
                self._is_measured = True
                self._typical_s = 0.8 * self._typical_s + 0.2 * took_s
        self._tell()

    def leave_if_waiting(self, job: object) -> bool:
        """Give a place in the queue up; False if the job is computed, or gone."""
        with self._changed:
            known = [waiting for waiting in self._waiting if waiting == job]
            for waiting in known:
                del self._waiting[waiting]
        waited = bool(known)
        if waited:
            self._tell()
        return waited

    def close(self, reason: ServiceError) -> list[Job]:
        """Let nobody in any more; answers with those who were waiting or computed."""
        with self._changed:
            self._closed = self._closed or reason
            left = [*self._running, *self._waiting]
            self._waiting.clear()
            self._running.clear()
            self._changed.notify_all()
        self._tell()
        return left

    def stats(self) -> Stats:
        with self._changed:
            return Stats(waiting=len(self._waiting), running=len(self._running))

    def _tell(self) -> None:
        self._watch(self.stats())
