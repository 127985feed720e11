"""A closed loop of clients on a service: each asks its next request when its last is answered.

One thread, one selector and as little Python as can be for each piece that arrives: its time and its bytes go into a
list, which is read when all is over. Let nothing else run in the process meanwhile, above all not the service.
"""

from __future__ import annotations

import gc
import math
import selectors
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mlspec.bench.answers import content_of
from mlspec.bench.connection import Connection, Place
from mlspec.bench.http_answer import HttpAnswer
from mlspec.bench.samples import Request, Sample, percentile

__all__ = ["Load", "Request", "Sample", "percentile", "run"]

TIMEOUT_S = 600.0
_REFUSED = (429, 503)
_REST_S = 1.0
"""How long a client rests that was refused and not told how long."""


def run(
    url: str,
    requests: Iterable[Request],
    concurrency: int,
    *,
    timeout_s: float = TIMEOUT_S,
    duration_s: float | None = None,
    heed_retry_after: bool = False,
) -> list[Sample]:
    """Ask all requests with so many clients; a sample for each, in the requests' order.

    `requests` may be endless with `duration_s`, after which none is begun any more. What is refused (429, 503) is
    answered thereby: nothing is asked twice; with `heed_retry_after` the client rests as long as it was told. A client
    that can't connect leaves; requests for which none is left have no sample.

    Raises:
        ValueError: it is no URL of http or https.
        OSError: the host has no address.
    """
    load = Load(url, timeout_s=timeout_s, duration_s=duration_s, heed_retry_after=heed_retry_after)
    load.run(requests, concurrency)
    return load.samples()


class Load:
    """One run. `samples()` has what has ended, also when `run` was left by an exception (KeyboardInterrupt)."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        duration_s: float | None = None,
        heed_retry_after: bool = False,
        on_end: Callable[[int], None] | None = None,
    ) -> None:
        self.place = Place.of(url)
        self.timeout_s = timeout_s
        self.heed_retry_after = heed_retry_after
        self.selector = selectors.DefaultSelector()
        self.look_at = 0.0
        """When a client's time is over at the soonest."""
        self.active = 0
        self._duration_s = math.inf if duration_s is None else duration_s
        self._on_end = on_end
        self._waiting: Iterator[tuple[int, Request]] = iter(())
        self._ended: list[_Ended] = []
        self._begun = self.until = 0.0

    def run(self, requests: Iterable[Request], concurrency: int) -> None:
        """Returns when all is answered. `on_end` is told after each how many have been."""
        self._waiting = enumerate(requests)
        clients = [_Client(self) for _ in range(concurrency)]
        self.active = concurrency
        collects = gc.isenabled()
        gc.disable()
        self._begun = time.perf_counter()
        self.until = self._begun + self._duration_s
        try:
            for client in clients:
                client.ask_next()
            self._turn(clients)
        finally:
            for client in clients:
                client.close()
            self.selector.close()
            if collects:
                gc.enable()

    def _turn(self, clients: list[_Client]) -> None:
        while self.active:
            wait_s = max(0.0, self.look_at - time.perf_counter())
            for key, mask in self.selector.select(wait_s):
                key.data.ready(mask)
            if time.perf_counter() >= self.look_at:
                for client in clients:
                    client.look()
                self.look_at = min((c.due for c in clients if c.due is not None), default=0.0)

    def taken(self) -> tuple[int, Request] | None:
        """The next request with its number; None when there is none, or the time for new ones has passed."""
        return None if time.perf_counter() >= self.until else next(self._waiting, None)

    def ended(self, one: _Ended) -> None:
        self._ended.append(one)
        if self._on_end is not None:
            self._on_end(len(self._ended))

    def samples(self) -> list[Sample]:
        """A sample for each request that has ended; their order is the requests'."""
        return [_sample(one, self._begun) for one in sorted(self._ended, key=lambda one: one.request)]


@dataclass
class _Ended:
    """A request's course; its answer's body isn't read yet."""

    request: int
    started: float
    ended: float
    answer: HttpAnswer
    error: str


class _Client:
    """One of the clients. `due` is when its request times out, or its rest ends; None: it has left."""

    def __init__(self, load: Load) -> None:
        self.due: float | None = None
        self._load = load
        self._connection: Connection | None = None
        self._is_reused = False
        self._is_asking = False
        self._number, self._content, self._started = 0, b"", 0.0
        self._answer = HttpAnswer()

    def ask_next(self) -> None:
        """Begin the next request, or leave."""
        taken = self._load.taken()
        if taken is None:
            self._leave()
            return
        self._started = time.perf_counter()
        self._number = taken[0]
        self._content = self._load.place.spelt(taken[1])
        self._is_asking, self._is_reused = True, self._connection is not None
        self._be_back(self._started + self._load.timeout_s)
        self._send()

    def _send(self) -> None:
        self._answer = HttpAnswer()
        if self._connection is None:
            self._connection = Connection(self._load.place, self._load.selector, self)
        try:
            self._connection.send(self._content)
        except OSError:
            self._lost()

    def ready(self, mask: int) -> None:
        """Something can be read or written."""
        answer = self._answer
        if self._connection is None:  # closed since the selector told of it
            return
        try:
            data = self._connection.read(mask)
            if data is None:
                return
            if data:
                answer.feed(data, time.perf_counter())
            else:
                answer.end_of_input()
        except OSError:
            data = b""
        except ValueError:
            self._end("not_http")
            return
        if not self._is_asking:
            self.close()
        elif answer.finished:
            self._end("")
        elif not data:
            self._lost()

    def _lost(self) -> None:
        """The connection is broken: ask anew where only the service had given up an old one."""
        refused = self._connection is not None and not self._connection.opened
        if self._is_reused and not self._answer.begun:
            self.close()
            self._is_reused = False
            self._send()
        elif refused:
            self._end("unreachable")
        else:
            self._end("connection_lost")

    def look(self) -> None:
        """If the time is over: for the request, or for the rest."""
        if self.due is None or time.perf_counter() < self.due:
            return
        if self._is_asking:
            self._end("timeout")
        else:
            self.ask_next()

    def _end(self, error: str) -> None:
        ended = time.perf_counter()
        answer = self._answer
        self._is_asking = False
        if error or not answer.keeps_connection:
            self.close()
        self._load.ended(_Ended(self._number, self._started, ended, answer, error))
        if error == "unreachable":
            self._leave()
        elif self._load.heed_retry_after and answer.status in _REFUSED:
            told_s = _retry_after_s(answer)
            self._be_back(min(ended + (_REST_S if told_s is None else told_s), self._load.until))
        else:
            self.ask_next()

    def _be_back(self, at: float) -> None:
        self.due = at
        self._load.look_at = min(self._load.look_at, at)

    def _leave(self) -> None:
        self.due = None
        self._load.active -= 1
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _sample(one: _Ended, begun: float) -> Sample:
    content = content_of(one.answer)
    return Sample(
        request=one.request,
        status=one.answer.status,
        started_s=one.started - begun,
        ended_s=one.ended - begun,
        chunks_s=tuple(at - begun for at in content.chunks_s),
        tokens=content.tokens,
        prompt_tokens=content.prompt_tokens,
        cached_tokens=content.cached_tokens,
        from_cache=content.from_cache,
        text="".join(content.texts),
        error=one.error or (content.error if one.answer.status else ""),
        retry_after_s=_retry_after_s(one.answer),
    )


def _retry_after_s(answer: HttpAnswer) -> float | None:
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdecimal() else None
