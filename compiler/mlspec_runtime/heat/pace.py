"""How fast a service generates, and how fast it did when the computer was cool."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Pace:
    """Steps of one kind since the last look: `rows` sequences at once, whose tokens in the cache together have
    `context_bits` binary digits. Both decide how long a step takes, so only the same kind is compared.
    """

    rows: int
    context_bits: int
    steps: int
    seconds: float

    @property
    def kind(self) -> tuple[int, int]:
        return self.rows, self.context_bits

    @property
    def tokens(self) -> int:
        return self.rows * self.steps


class PaceMeter:
    """Adds steps up by their kind; written by the computing thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[int, int], tuple[int, float]] = {}

    def note(self, rows: int, context_tokens: int, took_s: float) -> None:
        """A step gave each of `rows` sequences its next token, and did nothing else."""
        kind = rows, context_tokens.bit_length()
        with self._lock:
            steps, seconds = self._sums.get(kind, (0, 0.0))
            self._sums[kind] = steps + 1, seconds + took_s

    def take(self) -> tuple[Pace, ...]:
        """What was noted since this was last asked."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return tuple(Pace(*kind, *found) for kind, found in sums.items())


class Baseline:
    """The tokens per second of each kind of step on a cool computer: a high percentile of the last ones seen."""

    def __init__(self) -> None:
        self._speeds: dict[tuple[int, int], deque[float]] = {}

    def learn(self, paces: Iterable[Pace]) -> None:
        """Take what was seen on a cool computer."""
        for pace in _telling(paces):
            self._speeds.setdefault(pace.kind, deque(maxlen=KEPT)).append(pace.tokens / pace.seconds)

    def ratio(self, paces: Iterable[Pace]) -> float | None:
        """The speed as a part of the baseline's; None without enough steps of kinds that are known."""
        known = [(pace, self._speed(pace.kind)) for pace in _telling(paces)]
        compared = [(pace, speed) for pace, speed in known if speed is not None]
        if sum(pace.seconds for pace, _ in compared) < MIN_S:
            return None
        return sum(pace.tokens for pace, _ in compared) / sum(pace.seconds * speed for pace, speed in compared)

    def _speed(self, kind: tuple[int, int]) -> float | None:
        speeds = sorted(self._speeds.get(kind, ()))
        return speeds[int(HIGH * (len(speeds) - 1))] if len(speeds) >= LEARNED else None


def _telling(paces: Iterable[Pace]) -> list[Pace]:
    return [pace for pace in paces if pace.steps >= MIN_STEPS and pace.seconds > 0]
