"""A runner behind a cache of its answers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.protocol import Health, Runner, Stats, Vitals
from mlspec_runtime.response_cache.flight import Flight
from mlspec_runtime.response_cache.sharing import DONE, Shared, shared
from mlspec_runtime.response_cache.stores import Store
from mlspec_runtime.submission import Item, Output, Submission, deliver

LOG = logging.getLogger("mlspec.response_cache")


class CacheMetrics(Protocol):
    """What is told of the cache; `response_cache_size` from any thread."""

    def response_cache_hit(self) -> None: ...
    def response_cache_miss(self) -> None: ...
    def response_cache_joined(self) -> None: ...
    def response_cache_size(self, entries: int, size_bytes: int) -> None: ...


class CachingRunner:
    """Answers requests whose answer is known from a store, and computes equal ones at the same time once, as long as
    one of their clients is there. Others go through as if it weren't there.

    The store is opened as the model is loaded, from whose folders `open_store` learns what was cached for it.
    """

    def __init__(
        self, runner: Runner, metrics: CacheMetrics, open_store: Callable[[Mapping[str, Path]], Store]
    ) -> None:
        self.runner_api = runner.runner_api
        self.request_type = runner.request_type
        self.response_type = runner.response_type
        self.event_types = runner.event_types
        self.request_examples = runner.request_examples
        self._runner = runner
        self._metrics = metrics
        self._open_store = open_store
        self._store: Store | None = None
        # A stream that doesn't end with the whole answer has none to keep or to share.
        self._streams = runner.event_types.get(DONE) is runner.response_type
        self._flights: dict[bytes, Flight] = {}
        self._by_submission: dict[Submission, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def load(self, models: Mapping[str, Path]) -> None:
        self._runner.load(models)
        self._store = self._open_store(models)

    async def submit(self, request: Any, request_id: str, *, stream: bool) -> Submission:
        began_at = time.monotonic()
        own = self._runner.response_key(request) if self._streams or not stream else None
        if own is None:
            return await self._runner.submit(request, request_id, stream=stream)
        key = hashlib.sha256(own).digest()
        answer = self._kept(key)
        if answer is not None:
            self._metrics.response_cache_hit()
            return _answered(answer, request_id, time.monotonic() - began_at, stream=stream)
        flight = self._flights.get(key)
        if flight is not None:
            self._metrics.response_cache_joined()
            return self._join(flight, request_id, stream=stream)
        self._metrics.response_cache_miss()
        flight = self._flights[key] = Flight(key, request)
        try:
            return await self._compute(flight, request_id, stream=stream)
        except asyncio.CancelledError:
            flight.leave(None)
            self._go_on_without_first(flight)
            raise

    def cancel(self, submission: Submission) -> None:
        """The client of this submission has gone: only with the last one of a flight its computing stops."""
        flight = self._by_submission.get(submission)
        if flight is not None:
            flight.leave(submission)
            if isinstance(submission, Shared):
                del self._by_submission[submission]
            self._stop_unless_wanted(flight)
        elif not isinstance(submission, Shared):
            self._runner.cancel(submission)

    def _join(self, flight: Flight, request_id: str, *, stream: bool) -> Submission:
        member = flight.join(request_id, stream=stream)
        self._by_submission[member] = flight
        return member

    async def _compute(self, flight: Flight, request_id: str, *, stream: bool) -> Submission:
        """Hand a flight's request to the runner; what is wrong with it is known to all who joined."""
        try:
            submission = await self._runner.submit(flight.request, request_id, stream=stream)
        except Exception as problem:
            self._end(flight)
            flight.finish(problem if isinstance(problem, ServiceError) else internal_error())
            raise
        flight.submission = submission
        self._by_submission[submission] = flight
        submission.listen(partial(self._hear, flight))
        self._stop_unless_wanted(flight)
        return submission

    def _go_on_without_first(self, flight: Flight) -> None:
        """The first client left before the runner had its request: the others need it as much."""
        if not flight.wanted:
            self._end(flight)
            return
        next_one = flight.joined[0]
        stream = any(member.stream for member in flight.joined)
        task = asyncio.ensure_future(self._compute_for_others(flight, next_one.request_id, stream=stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compute_for_others(self, flight: Flight, request_id: str, *, stream: bool) -> None:
        try:
            await self._compute(flight, request_id, stream=stream)
        except ServiceError:
            LOG.debug("request %s was refused", request_id)  # those who wait were told
        except Exception:
            LOG.exception("request %s could not be started", request_id)

    def _stop_unless_wanted(self, flight: Flight) -> None:
        # Before the runner has the request there is nothing to stop; `_compute` looks again.
        if flight.wanted or flight.submission is None:
            return
        self._end(flight)
        self._runner.cancel(flight.submission)

    def _hear(self, flight: Flight, item: Item) -> None:
        """An item of the runner's, before the first client reads it."""
        if flight.ended:
            return
        if isinstance(item, Output) and not item.final:
            flight.add(item)
            return
        self._end(flight)
        if isinstance(item, Output) and isinstance(item.data, self.response_type):
            self._keep(flight.key, item.data)
        flight.finish(item)

    def _end(self, flight: Flight) -> None:
        flight.ended = True
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        for submission in (flight.submission, *flight.joined):
            if submission is not None:
                self._by_submission.pop(submission, None)

    def _kept(self, key: bytes) -> BaseModel | None:
        found = self._store.get(key) if self._store is not None else None
        if found is None or self._store is None:
            return None
        try:
            return self.response_type.model_validate_json(found)
        except ValidationError:
            # As of a number that JSON has no word for; the message would quote the answer.
            LOG.warning("an answer in the response cache can't be read; it is computed again")
            self._store.remove(key)
            return None

    def _keep(self, key: bytes, answer: BaseModel) -> None:
        if self._store is not None:
            self._store.put(key, answer.model_dump_json().encode())

    async def health(self, timeout_s: float) -> Health:
        return await self._runner.health(timeout_s)

    def fault(self) -> ServiceError | None:
        return self._runner.fault()

    def response_key(self, request: Any) -> bytes | None:
        return self._runner.response_key(request)

    def stats(self) -> Stats:
        return self._runner.stats()

    def throttle(self, allowance: Allowance) -> None:
        self._runner.throttle(allowance)

    def vitals(self) -> Vitals:
        return self._runner.vitals()

    def close(self) -> None:
        self._runner.close()
        if self._store is not None:
            self._store.close()


def _answered(answer: BaseModel, request_id: str, took_s: float, *, stream: bool) -> Submission:
    submission = Shared(request_id, stream=stream)
    deliver([(submission, output) for output in shared(DONE, answer, request_id, took_s, replayed=stream)])
    return submission
