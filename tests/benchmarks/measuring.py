"""Load on contenders in turn, and what came of it: medians of rounds that alternate between them."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from benchmarks.contenders import Contender  # noqa: E402
from mlspec.bench.client import Request, Sample, percentile, run  # noqa: E402

WORDS = """
river bread lamp winter garden engine paper mountain music table coffee island window bridge forest train letter market
ocean pencil school shadow silver spring stone summer teacher village weather yellow morning
"""


@dataclass(frozen=True)
class Round:
    """One load on one contender. `cpu_s` is what its processes used."""

    wall_s: float
    tokens: int
    cpu_s: float
    first_token_s: tuple[float, ...]
    pieces: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.wall_s

    @property
    def cpu_ms_per_token(self) -> float:
        return 1e3 * self.cpu_s / self.tokens


@dataclass(frozen=True)
class Figures:
    """Medians of rounds; `spread` is the range of tokens per second beside its median. Times to the first token are
    percentiles of all requests of all rounds.
    """

    tokens_per_s: float
    spread: float
    first_token_p50_s: float
    first_token_p95_s: float
    cpu_ms_per_token: float


def figures(rounds: Sequence[Round]) -> Figures:
    speeds = [one.tokens_per_s for one in rounds]
    waits = [wait for one in rounds for wait in one.first_token_s]
    median = statistics.median(speeds)
    return Figures(
        median,
        (max(speeds) - min(speeds)) / median,
        percentile(waits, 50),
        percentile(waits, 95),
        statistics.median(one.cpu_ms_per_token for one in rounds),
    )


class Prompts:
    """Prompts of words, no two alike; `prefix` stands before each."""

    def __init__(self, seed: int = 1, prefix: str = "") -> None:
        self._random = random.Random(seed)
        self._words = WORDS.split()
        self._prefix = prefix
        self._count = 0

    def take(self, count: int) -> list[str]:
        return [self._next() for _ in range(count)]

    def _next(self) -> str:
        self._count += 1
        words = " ".join(self._random.choices(self._words, k=12))
        return f"{self._prefix}Story {self._count}: write a long tale of {words}."


class Client:
    """The load's client in a process of its own, which lives as long as this does."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def load(self, contender: Contender, prompts: Sequence[str], max_tokens: int, concurrency: int) -> Round:
        """One round. Raises RuntimeError if a request failed."""
        requests = [contender.request(prompt, max_tokens) for prompt in prompts]
        before_s = contender.cpu_s()
        samples = self._pool.submit(_run, contender.url, requests, concurrency).result()
        cpu_s = contender.cpu_s() - before_s
        failed = [sample for sample in samples if sample.error]
        if failed:
            raise RuntimeError(f"{contender.name}: {len(failed)} requests failed: {failed[0].status} {failed[0].error}")
        return Round(
            max(sample.ended_s for sample in samples) - min(sample.started_s for sample in samples),
            sum(sample.tokens for sample in samples),
            cpu_s,
            tuple(_first_text_s(sample) for sample in samples),
            sum(len(sample.chunks_s) for sample in samples),
        )

    def close(self) -> None:
        self._pool.shutdown()


def _first_text_s(sample: Sample) -> float:
    """Of an answer that isn't streamed, that is its end."""
    return sample.latency_s if sample.time_to_first_token_s is None else sample.time_to_first_token_s


def _run(url: str, requests: Sequence[Request], concurrency: int) -> list[Sample]:
    return run(url, requests, concurrency)


def alternating(rounds: int, contenders: Sequence[Contender]) -> Iterator[tuple[int, Contender]]:
    """Who is loaded when: each round begins with the next one, so that none has the better place."""
    for number in range(rounds):
        at = number % len(contenders)
        for contender in (*contenders[at:], *contenders[:at]):
            yield number, contender


def rest() -> None:
    """Between rounds: threads that spin for more work come to rest."""
    time.sleep(0.3)
