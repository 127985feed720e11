"""A closed loop of clients on a service: each asks its next request when its last is answered.

One thread, one selector and as little Python for each piece that arrives as can be: time and bytes are put into a list,
and read when all is over. Let nothing else run in the process meanwhile, above all not the service.
"""

from __future__ import annotations

import gc
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
_REST_S = 1.0
"""How long a client rests that was refused and not told for how long."""
_REFUSED = (429, 503)


def run(
    url: str,
    requests: Iterable[Request],
    concurrency: int,
    *,
    timeout_s: float = TIMEOUT_S,
    duration_s: float | None = None,
    heed_retry_after: bool = False,
) -> list[Sample]:
    """Ask all requests with so many clients; one sample for each, in the requests' order.

    `requests` may be endless with `duration_s`, after which none is begun any more. What is refused (429, 503) counts as
    answered: nothing is asked twice, but with `heed_retry_after` the client rests as long as it was told. A client that
    can't connect leaves; requests that none is left for have no sample.

    Raises:
        ValueError: it is no URL of http or https.
        OSError: the host has no address.
    """
    load = Load(url, timeout_s=timeout_s, duration_s=duration_s, heed_retry_after=heed_retry_after)
    load.run(requests, concurrency)
    return load.samples()


@dataclass
class _Ended:
    """A request's course before its body is read."""

    request: int
    started: float
    ended: float
    answer: HttpAnswer
    error: str


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
        self._place = Place.of(url)
        self._timeout_s = timeout_s
        self._duration_s = duration_s
        self._heed_retry_after = heed_retry_after
        self._on_end = on_end
        self._ended: list[_Ended] = []
        self._begun = 0.0

    def run(self, requests: Iterable[Request], concurrency: int) -> None:
        """Returns when all is answered. `on_end` is told after each how many have been."""
        waiting = enumerate(requests)
        selector = selectors.DefaultSelector()
        collected = gc.isenabled()
        gc.disable()
        self._begun = time.perf_counter()
        clients = [_Client(self, selector, waiting) for _ in range(concurrency)]
        try:
            for client in clients:
                client.next()
            self._turn(selector, clients)
        finally:
            for client in clients:
                client.close()
            selector.close()
            if collected:
                gc.enable()

    def _turn(self, selector: selectors.BaseSelector, clients: list[_Client]) -> None:
        look_at = 0.0
        while active := [client for client in clients if client.due is not None]:
            look_at = min(client.due for client in active if client.due is not None)
            while (now := time.perf_counter()) < look_at:
                for key, mask in selector.select(look_at - now):
                    key.data.ready(mask)
                if any(client.changed for client in clients):
                    break
            for client in clients:
                client.look(time.perf_counter())

    @property
    def over(self) -> bool:
        """Whether the time for new requests has passed."""
        return self._duration_s is not None and time.perf_counter() - self._begun >= self._duration_s

    def samples(self) -> list[Sample]:
        return [self._sample(one) for one in sorted(self._ended, key=lambda one: one.request)]
