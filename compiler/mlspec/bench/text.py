"""A record on a terminal: what was asked, a table, what the plan estimated, and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from textwrap import wrap

from mlspec.bench.advice import advice
from mlspec.bench.changes import Change, changes, differences
from mlspec.bench.formats import change, milliseconds, moment, number
from mlspec.bench.measures import Level
from mlspec.bench.record import Record
from mlspec.reporting.plan.look import WIDEST
from mlspec.reporting.plan.values import band, memory, rate
from mlspec.reporting.words import on_one_line

Column = tuple[str, Callable[[Level], str]]
_GAP = "  "


def as_text(record: Record, before: Record | None = None, width: int = WIDEST) -> str:
    """All of it, in lines of so many columns; against an earlier record if there is one."""
    blocks = [_folded(heading(record), width), table(record, width)]
    blocks += [_against(record, before, width)] if before is not None else []
    blocks += [_folded(plan_lines(record), width), _folded([on_one_line(advice(record))], width)]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _folded(lines: Iterable[str], width: int) -> list[str]:
    """Sentences in lines of this width, as far as their words allow it."""
    return [part for line in lines for part in wrap(line, width, break_long_words=False, break_on_hyphens=False)]


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
        f"{'prompts' if record.subject.task == 'generate' else 'requests'} come again" if asked.repeat else "",
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


def table(record: Record, width: int) -> list[str]:
    """A row for each concurrency, and what its words mean."""
    shown = columns(record.levels)
    rows = [[cell(level) for _, cell in shown] for level in record.levels]
    lines = right_aligned([[name for name, _ in shown], *rows], width)
    if any(" / " in cell for row in rows for cell in row):
        lines.append("times: p50 / p95")
    if any(level.interrupted for level in record.levels):
        lines.append("* stopped before its end")
    return [*lines, *_folded(burst_words(record.levels), width)]


def burst_words(levels: Sequence[Level]) -> list[str]:
    """Where the times of tokens are those of bursts: for more than a tenth of the answers."""
    found = [str(level.concurrency) for level in levels if level.bursts > level.answered / 10]
    if not found:
        return []
    why = "the service or this client was short of CPU, and times of single tokens there say little"
    return [f"answers came in bursts at {', '.join(found)}: {why}"]


def right_aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The rows as lines; columns that don't fit stand below, each time behind the first one."""
    first, *others = ([cell.rjust(max(map(len, column))) for cell in column] for column in zip(*rows, strict=True))
    parts = [[first]]
    for column in others:
        taken = sum(len(one[0]) + len(_GAP) for one in parts[-1])
        if taken + len(column[0]) > width and len(parts[-1]) > 1:
            parts.append([first])
        parts[-1].append(column)
    blocks = ([_GAP.join(cells).rstrip() for cells in zip(*part, strict=True)] for part in parts)
    return "\n\n".join("\n".join(block) for block in blocks).split("\n")


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


def _against(now: Record, then: Record, width: int) -> list[str]:
    found = changes(now, then)
    if not found:
        return _folded([f"against {on_one_line(moment(then.measured_at))}: it has none of these concurrencies"], width)
    names = ["clients", "throughput", "first token", "per token", "latency"]
    lines = _folded([f"against {on_one_line(moment(then.measured_at))} (mlspec {on_one_line(then.mlspec)}):"], width)
    lines += right_aligned([names, *(_row(one) for one in found)], width)
    other = differences(now, then)
    return [*lines, *_folded([on_one_line(f"other than then: {'; '.join(other)}")], width)] if other else lines


def _row(one: Change) -> list[str]:
    ratios = (one.throughput, one.first_token, one.per_token, one.latency)
    return [str(one.concurrency), *("" if ratio is None else change(ratio) for ratio in ratios)]
