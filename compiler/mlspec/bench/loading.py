"""One service under load at several concurrencies, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mlspec.bench.client import Load, run
from mlspec.bench.measures import Level, is_refusal, level_of
from mlspec.bench.prometheus import Watched
from mlspec.bench.samples import Request, Sample
from mlspec.bench.workload import Workload
from mlspec.errors import CommandError

_EACH, _LEAST = 4, 8
"""Requests of each client, and of all, unless told otherwise."""
_HELP = {
    401: "the service wants an API key: --api-key-env names the variable that holds it",
    404: "is it this service? --endpoint names another of its endpoints",
    422: "the service refuses what the spec's tests ask: mlspec test shows why",
}


@dataclass(frozen=True)
class Course:
    """How each concurrency is loaded: `requests` of all clients together, or as many as in `duration_s`."""

    requests: int | None
    duration_s: float | None
    timeout_s: float

    def count(self, concurrency: int) -> int | None:
        """How many requests; at least one for each client. None: as many as in the time."""
        if self.duration_s is not None:
            return None
        return max(self.requests or max(_LEAST, _EACH * concurrency), concurrency)


def loaded(
    url: str, workload: Workload, levels: Sequence[int], course: Course, say: Callable[[str], None]
) -> Iterator[Level]:
    """Load at each concurrency after a warm-up, and tell what came of it.

    Raises:
        CommandError: no request of a warm-up was answered.
        KeyboardInterrupt: Ctrl-C; the level that it broke off comes before, if anything of it was answered.
    """
    asked, begun = workload.requests(0), 0
    for concurrency in levels:
        say(f"warming up with {_clients(concurrency)}")
        warm = [workload.request(number, warm_up=True) for number in range(begun, begun + concurrency)]
        begun += concurrency
        _check(run(url, warm, concurrency, timeout_s=course.timeout_s), url)
        yield from _level(url, islice(asked, course.count(concurrency)), concurrency, course, say)


def _level(
    url: str, requests: Iterator[Request], concurrency: int, course: Course, say: Callable[[str], None]
) -> Iterator[Level]:
    watched = Watched(url)
    count = course.count(concurrency)

    def told(ended: int) -> None:
        say(f"{_clients(concurrency)}: {ended}{f' of {count}' if count else ''} answered")

    load = Load(url, timeout_s=course.timeout_s, duration_s=course.duration_s, heed_retry_after=True, on_end=told)
    try:
        load.run(requests, concurrency)
    except KeyboardInterrupt:
        if samples := load.samples():
            yield level_of(samples, concurrency, watched.figures(), interrupted=True)
        raise
    yield level_of(load.samples(), concurrency, watched.figures())


def _clients(count: int) -> str:
    return f"{count} client{'' if count == 1 else 's'}"


def _check(samples: Sequence[Sample], url: str) -> None:
    """Raises CommandError if nothing was answered, for another reason than that there was no room."""
    if any(not sample.error or is_refusal(sample) for sample in samples):
        return
    sample = samples[0]
    if sample.error == "unreachable":
        help = "is the service started, and is this its address? mlspec bench takes no proxy"
        raise CommandError("no-answer", f"nobody answers at {url}", help, failed=True)
    status = f"status {sample.status}, " if sample.status else ""
    message = f"no request of the warm-up was answered: {status}{sample.error}"
    raise CommandError("no-answer", message, _HELP.get(sample.status, ""), failed=True)
