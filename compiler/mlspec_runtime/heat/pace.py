"""How fast a service generates, and how fast it did before, with work of the same kind."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

MIN_STEPS = 8
"""Fewer steps tell nothing."""
MIN_S = 0.5
"""So much time of steps that can be compared makes a judgement."""
KEPT = 64
LEARNED = 5
HIGH = 0.9
MOST_KINDS = 4096
"""What wasn't seen for longest is forgotten."""
PARTS = 8
"""Of an octave: contexts of one kind differ by 9 %, and their steps by less."""


@dataclass(frozen=True)
class Kind:
    """What decides how long a step takes: `rows` sequences at once, their tokens in the cache together and those of the
    longest (a batch is padded to it), both in eighths of an octave, and how many rows need which work to choose tokens.
    """

    rows: int
    context: int = 0
    longest: int = 0
    choosing: tuple[int, ...] = ()


def kind_of(contexts: Iterable[int], choosing: Iterable[tuple[bool, ...]]) -> Kind:
    """The kind of a step of rows with so many tokens in the cache each; `choosing` is `Sampling.work` of each."""
    tokens = tuple(contexts)
    work = tuple(map(sum, zip(*choosing, strict=True)))
    return Kind(len(tokens), _part(sum(tokens)), _part(max(tokens, default=0)), work)


def _part(tokens: int) -> int:
    return int(PARTS * math.log2(max(1, tokens)))


@dataclass(frozen=True)
class Pace:
    """Steps of one kind since the last look."""

    kind: Kind
    steps: int
    seconds: float

    @property
    def tokens(self) -> int:
        return self.kind.rows * self.steps


class PaceMeter:
    """Adds steps up by their kind; written by the computing thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[Kind, tuple[int, float]] = {}

    def note(self, kind: Kind, took_s: float) -> None:
        """A step gave each of its rows the next token, and did nothing else."""
        with self._lock:
            steps, seconds = self._sums.get(kind, (0, 0.0))
            self._sums[kind] = steps + 1, seconds + took_s

    def take(self) -> tuple[Pace, ...]:
        """What was noted since this was last asked."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return tuple(Pace(kind, *found) for kind, found in sums.items())


class Baseline:
    """The tokens per second of each kind of step: a high percentile of the last ones seen. With `first`, the least of
    the first ones instead, which then stays.
    """

    def __init__(self, *, first: bool = False) -> None:
        self._first = first
        self._speeds: dict[Kind, deque[float]] = {}

    def learn(self, paces: Iterable[Pace]) -> None:
        """Take what was seen."""
        for pace in _telling(paces):
            speeds = self._speeds.pop(pace.kind, None) or deque(maxlen=KEPT)
            self._speeds[pace.kind] = speeds
            if not (self._first and len(speeds) >= LEARNED):
                speeds.append(pace.tokens / pace.seconds)
        while len(self._speeds) > MOST_KINDS:
            del self._speeds[next(iter(self._speeds))]

    def ratio(self, paces: Iterable[Pace]) -> float | None:
        """The speed as a part of the baseline's; None without enough steps of kinds that are known."""
        known = [(pace, self._speed(pace.kind)) for pace in _telling(paces)]
        compared = [(pace, speed) for pace, speed in known if speed is not None]
        if sum(pace.seconds for pace, _ in compared) < MIN_S:
            return None
        return sum(pace.tokens for pace, _ in compared) / sum(pace.seconds * speed for pace, speed in compared)

    def _speed(self, kind: Kind) -> float | None:
        speeds = sorted(self._speeds.get(kind, ()))
        if len(speeds) < LEARNED:
            return None
        return speeds[0] if self._first else speeds[int(HIGH * (len(speeds) - 1))]


def _telling(paces: Iterable[Pace]) -> list[Pace]:
    return [pace for pace in paces if pace.steps >= MIN_STEPS and pace.seconds > 0]
