"""A record on a terminal: what was asked, a table, what the plan estimated, and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mlspec.bench.advice import advice
from mlspec.bench.changes import Change, changes, differences
from mlspec.bench.formats import change, milliseconds, moment, number
from mlspec.bench.measures import Level
from mlspec.bench.record import Record
from mlspec.reporting.plan.values import band, memory, rate
from mlspec.reporting.words import on_one_line

Column = tuple[str, Callable[[Level], str]]


def as_text(record: Record, before: Record | None = None) -> str:
    """All of it; against an earlier record if there is one."""
    blocks = [heading(record), table(record), list(plan_lines(record)), [on_one_line(advice(record))]]
    if before is not None:
        blocks.insert(2, _against(record, before))
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def heading(record: Record) -> list[str]:
    """Whom, where and how."""
    subject = record.subject
    place = f"at {subject.url}" if subject.url else f"on {subject.machine}"
    name = "/".join(filter(None, (subject.name, subject.target)))
    return [on_one_line(f"{name} {place}"), on_one_line(", ".join(asked_words(record)))]


def asked_words(record: Record) -> list[str]:
    """How it was asked, each in a few words."""
    asked, told = record.asked, mean_prompt_tokens(record)
    words = [
        asked.endpoint,
        _amount(record),
        asked.prompts,
        "" if told is None else f"{told} tokens a prompt",
        "" if asked.max_tokens is None else f"at most {asked.max_tokens} an answer",
        f"adapters {' and '.join(asked.adapters)}" if asked.adapters else "",
        f"{asked.shared_prefix} words shared" if asked.shared_prefix else "",
        "prompts come again" if asked.repeat else "",
    ]
    return [word for word in words if word]


def _amount(record: Record) -> str:
    if record.asked.duration_s is not None:
        return f"{record.asked.duration_s:g} s each"
    return f"{record.asked.requests} requests each" if record.asked.requests else ""


def mean_prompt_tokens(record: Record) -> int | None:
    """Of a prompt, as the service counted them."""
    answered = sum(level.answered for level in record.levels)
    tokens = sum(level.prompt_tokens for level in record.levels)
    return round(tokens / answered) if answered and tokens else None


def columns(levels: Sequence[Level]) -> list[Column]:
    """Name and content of the table's columns; those that would be empty are left out."""
    every: list[Column] = [
        ("clients", lambda level: str(level.concurrency)),
        ("requests", _requests),
        ("tokens/s", lambda level: number(level.tokens_per_s)),
        ("each", lambda level: number(level.tokens_per_s_each)),
        ("requests/s", lambda level: number(level.requests_per_s) if level.tokens_per_s is None else ""),
        ("first token, ms", lambda level: milliseconds(level.first_token_s)),
        ("per token, ms", lambda level: milliseconds(level.per_token_s)),
        ("latency, ms", lambda level: milliseconds(level.latency_s)),
        ("peak memory", lambda level: _memory(level.service.peak_memory_bytes)),
        ("from cache", lambda level: str(level.service.cache_hits or "")),
        ("errors", lambda level: on_one_line(level.errors_told)),
    ]
    return [(name, cell) for name, cell in every if any(cell(level) for level in levels)]


def _memory(size_bytes: int | None) -> str:
    return memory(size_bytes) if size_bytes else ""


def _requests(level: Level) -> str:
    whole = str(level.requests) if level.answered == level.requests else f"{level.answered} of {level.requests}"
    return f"{whole}*" if level.interrupted else whole


def table(record: Record) -> list[str]:
    """A row for each concurrency, and what its words mean."""
    shown = columns(record.levels)
    rows = [[cell(level) for _, cell in shown] for level in record.levels]
    lines = right_aligned([[name for name, _ in shown], *rows])
    if any(" / " in cell for row in rows for cell in row):
        lines.append("times: p50 / p95")
    if any(level.interrupted for level in record.levels):
        lines.append("* stopped before its end")
    return lines


def right_aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def plan_lines(record: Record) -> Iterator[str]:
    """The plan's values beside what was measured."""
    subject = record.subject
    if subject.decode_tokens_per_s is not None:
        estimate = f"the plan estimates {band(subject.decode_tokens_per_s)} tokens/s for one request"
        alone = decoded_alone(record)
        yield estimate if alone is None else f"{estimate}; measured {rate(alone)}"
    peak = max((level.service.peak_memory_bytes or 0 for level in record.levels), default=0)
    if peak and subject.footprint_bytes:
        allowed = f" of {memory(subject.budget_bytes)} allowed" if subject.budget_bytes else ""
        counted = f"the plan counts {memory(subject.footprint_bytes)}{allowed}, the process itself included"
        yield f"the model's framework held {memory(peak)} at its fullest; {counted}"


def decoded_alone(record: Record) -> float | None:
    """Tokens a second that one client alone got after its first token; None if that wasn't measured."""
    alone = next((level for level in record.levels if level.concurrency == 1 and level.per_token_s), None)
    return 1 / alone.per_token_s.p50 if alone and alone.per_token_s and alone.per_token_s.p50 else None


def _against(now: Record, then: Record) -> list[str]:
    found = changes(now, then)
    if not found:
        return [f"against {on_one_line(moment(then.measured_at))}: it has none of these concurrencies"]
    names = ["clients", "throughput", "first token", "per token", "latency"]
    lines = [f"against {on_one_line(moment(then.measured_at))} (mlspec {on_one_line(then.mlspec)}):"]
    lines += right_aligned([names, *(_row(one) for one in found)])
    other = differences(now, then)
    return [*lines, on_one_line(f"other than then: {'; '.join(other)}")] if other else lines


def _row(one: Change) -> list[str]:
    ratios = (one.throughput, one.first_token, one.per_token, one.latency)
    return [str(one.concurrency), *("" if ratio is None else change(ratio) for ratio in ratios)]
