"""Two records side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mlspec.bench.measures import Level, Spread
from mlspec.bench.record import Record


@dataclass(frozen=True)
class Change:
    """What is now of what was, as ratios, at one concurrency; None where one of both wasn't measured."""

    concurrency: int
    throughput: float | None
    first_token: float | None
    per_token: float | None
    latency: float | None


def changes(now: Record, then: Record) -> list[Change]:
    """For each concurrency that both have; times at p50."""
    before = {level.concurrency: level for level in then.levels}
    pairs = [(level, before[level.concurrency]) for level in now.levels if level.concurrency in before]
    return [_change(level, earlier) for level, earlier in pairs]


def _change(now: Level, then: Level) -> Change:
    return Change(
        now.concurrency,
        _ratio(now.throughput, then.throughput),
        _of_times(now.first_token_s, then.first_token_s),
        _of_times(now.per_token_s, then.per_token_s),
        _of_times(now.latency_s, then.latency_s),
    )


def differences(now: Record, then: Record) -> list[str]:
    """What, but for the service itself, isn't as it was: then figures differ for that."""
    found = [
        f"{key.replace('_', ' ')} was {_told(before)}"
        for key, before in asdict(then.asked).items()
        if before != asdict(now.asked)[key]
    ]
    for key in ("spec", "target", "machine"):
        before = getattr(then.subject, key)
        if before != getattr(now.subject, key):
            found.append(f"{key} was {_told(before)}")
    return found


def _told(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "not given" if value is None else str(value)


def _of_times(now: Spread | None, then: Spread | None) -> float | None:
    return _ratio(now.p50, then.p50) if now and then else None


def _ratio(now: float, then: float) -> float | None:
    return now / then if then else None
