"""One sentence that helps to tune."""

from __future__ import annotations

from collections.abc import Sequence

from mlspec.bench.measures import Level
from mlspec.bench.record import Record
from mlspec.reporting.plan.values import memory, rate

_GAIN = 1.1
"""What many clients must bring at least over few to be worth their waiting."""
_NEAR = 0.9
_REFUSED = 0.01


def advice(record: Record) -> str:
    """What to do, or where it ends: failures before refusals, memory and heat, and the best concurrency at last."""
    levels = [level for level in record.levels if level.answered]
    if not levels:
        return "No request was answered whole, so nothing was measured."
    return (
        _failing(record.levels)
        or _refusing(record)
        or _near_the_limit(record, levels)
        or _hot(levels)
        or _from_the_cache(levels, record)
        or _growing(levels, record)
    )


def _failing(levels: Sequence[Level]) -> str:
    for level in levels:
        failed = level.requests - level.answered - level.refused
        if failed:
            told = f"At {level.concurrency}, {failed} of {level.requests} requests failed"
            return f"{told} ({level.errors_told}): mend that first."
    return ""


def _refusing(record: Record) -> str:
    for level in record.levels:
        if level.refused > _REFUSED * level.requests:
            told = f"At {level.concurrency}, {level.refused} of {level.requests} requests were refused"
            return f"{told} ({level.errors_told}): {_room(record)}"
    return ""


def _room(record: Record) -> str:
    subject = record.subject
    if subject.computed_at_once is None or subject.queue is None:
        return "that is more than the service takes on."
    has = f"the plan computes {subject.computed_at_once} at once and lets {subject.queue} wait"
    return f"{has}; raise service.limits.queue if clients may wait longer, else ask with fewer."


def _near_the_limit(record: Record, levels: Sequence[Level]) -> str:
    budget = record.subject.budget_bytes
    for level in levels:
        peak = level.service.peak_memory_bytes
        if budget and peak and peak >= _NEAR * budget:
            took = f"At {level.concurrency} memory came to {memory(peak)} of the {memory(budget)} that the plan allows"
            return f"{took}: more would need a smaller {_smaller(record)}."
    return ""


def _smaller(record: Record) -> str:
    if record.subject.task == "generate":
        return "service.concurrency, context_length or quantization"
    return "service.batching.max_rows"


def _hot(levels: Sequence[Level]) -> str:
    for level in levels:
        if level.service.thermal_level:
            told = f"At {level.concurrency} the computer got hot (thermal level {level.service.thermal_level})"
            return f"{told}: figures from there on are those of a slower computer."
    return ""


def _from_the_cache(levels: Sequence[Level], record: Record) -> str:
    hits = sum(level.service.cache_hits or 0 for level in levels)
    if not hits:
        return ""
    answered = sum(level.answered for level in levels)
    if hits >= answered:
        return f"All answers came from the response cache and nothing was computed: {_instead(record)}."
    return f"{hits} of {answered} answers came from the response cache, as fast as no model is: {_instead(record)}."


def _instead(record: Record) -> str:
    if record.asked.repeat:
        return "measure the model without --repeat"
    return "another --seed asks what it doesn't know"


def _growing(levels: Sequence[Level], record: Record) -> str:
    unit = "requests/s" if levels[0].tokens_per_s is None else "tokens/s"
    if len(levels) == 1:
        return "One concurrency shows no limit: try several, as in --concurrency 1,2,4,8."
    most = max(level.throughput for level in levels)
    best = next(level for level in levels if level.throughput * _GAIN >= most)
    told = f"at {best.concurrency} ({rate(best.throughput)} {unit})"
    if best is levels[-1]:
        more = f"--concurrency {best.concurrency},{best.concurrency * 2},{best.concurrency * 4}"
        return f"Throughput still grows {told}: try {more}."
    return f"Throughput stops growing {told}: with more at once each only waits longer{_bound(record, best)}."


def _bound(record: Record, best: Level) -> str:
    at_once = record.subject.computed_at_once
    if at_once is None or at_once == best.concurrency:
        return ""
    if at_once < best.concurrency:
        return f", as the plan computes {at_once} at once"
    return f"; service.concurrency: {best.concurrency} would do, where the plan has {at_once}"
