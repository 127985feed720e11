"""Which of many machines can serve a spec, from the smallest to the largest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlspec.model.machine import Machine
from mlspec.model.plan import Plan
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.records import VERSION, machine_record, memory_record
from mlspec.reporting.plan.text import padded
from mlspec.reporting.plan.values import columns, cut, quantization, rate
from mlspec.reporting.words import on_one_line

_GIB = 2**30
_TIERS = ("phone", "base", "pro", "max", "ultra")
_HEADS = ("machine", "", "weights", "requests", "context", "memory, GiB", "tokens/s")
_MEMORY = _HEADS.index("memory, GiB")
_NOTE = "tokens/s: an estimate for one request"
_GAP = "  "
_LONGEST_TITLE = 48
_TERMS = re.compile(r" = [^;]+; this .+ allows ")
"""What a table has no room for: the terms of the sum, and the machine's name again."""
_ALIGNED = "<<<>>>>"


@dataclass(frozen=True)
class Candidate:
    """A machine under its title and what would be decided on it; None where it can't serve the spec, and `why`."""

    title: str
    machine: Machine
    plan: Plan | None
    why: str = ""


def by_size(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The smallest first: by memory, then by the chip, then by name."""
    return sorted(candidates, key=_size)


def as_table(candidates: list[Candidate], look: Look) -> str:
    """One line a machine: what it would serve, or why it can't."""
    cells = [(_HEADS, None), *((_cells(candidate, look), candidate) for candidate in candidates)]
    fitting = [row for row, candidate in cells if candidate is None or candidate.plan]
    widths = [max(columns(row[index]) for row in fitting) for index in range(len(_HEADS))]
    widths[0] = max(columns(row[0]) for row, _ in cells)
    if sum(widths) + len(_GAP) * (len(widths) - 1) > look.columns:
        widths[_MEMORY] = 0
    lines = [_line(row, widths) if row in fitting else _refusal(row, widths, look) for row, _ in cells]
    return "".join(f"{line}\n" for line in [look.paint("bold", lines[0]), *lines[1:]])


def summary(candidates: list[Candidate], look: Look) -> str:
    """Which is the smallest machine that serves it, with a line end."""
    fitting = [candidate for candidate in candidates if candidate.plan]
    if not fitting:
        return look.paint("bad", f"none of these {len(candidates)} machines serves it") + "\n"
    smallest = look.paint("good", on_one_line(fitting[0].title))
    note = look.paint("dim", _NOTE)
    return f"{note}\n{len(fitting)} of {len(candidates)} serve it; the smallest that does: {smallest}\n"


def as_document(spec: str, target: str | None, candidates: list[Candidate]) -> dict[str, Any]:
    """The same as JSON data; see schema/plan-report.schema.json."""
    fitting = [candidate for candidate in candidates if candidate.plan]
    return {
        "version": VERSION,
        "spec": spec,
        "target": target,
        "smallest": fitting[0].title if fitting else None,
        "machines": [_record(candidate) for candidate in candidates],
    }


def _size(candidate: Candidate) -> tuple[object, ...]:
    machine = candidate.machine
    tier = _TIERS.index(machine.chip.tier) if machine.chip else -1
    generation = machine.chip.generation if machine.chip else 0
    return machine.memory_bytes, tier, generation, candidate.title


def _cells(candidate: Candidate, look: Look) -> tuple[str, ...]:
    title, plan = cut(on_one_line(candidate.title), _LONGEST_TITLE, look.ellipsis), candidate.plan
    if plan is None:
        return title, look.letter("✗", "no"), on_one_line(_TERMS.sub("; it allows ", candidate.why))
    return (
        title,
        look.letter("✓", "yes"),
        weights(plan),
        _number(plan, "service.concurrency"),
        _number(plan, "model.context_length"),
        _share(plan),
        rate(plan.speed.decode_tokens_per_s[1]) if plan.speed else "",
    )


def weights(plan: Plan) -> str:
    """How the model is quantized there: `4-bit`, or `as it is`; nothing where no such thing is decided."""
    value = decided(plan, "model.quantization")
    if isinstance(value, dict):
        return quantization({**value, "group_size": None})
    return "" if value is None else "as it is"


def decided(plan: Plan, key: str) -> Any:
    """A decided value, None where the runner decides no such thing."""
    return next((decision.value for decision in plan.decisions if decision.key == key), None)


def _number(plan: Plan, key: str) -> str:
    value = decided(plan, key)
    return f"{value:,}" if isinstance(value, int) else ""


def _share(plan: Plan) -> str:
    if plan.memory is None or plan.memory.budget_bytes is None:
        return ""
    return f"{plan.memory.footprint_bytes / _GIB:.1f} of {plan.memory.budget_bytes / _GIB:.1f}"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """The cells side by side; a column without a width is left out."""
    aligned = (
        padded(text, width) if side == "<" else " " * (width - columns(text)) + text
        for text, width, side in zip(row, widths, _ALIGNED, strict=True)
        if width or not text
    )
    return _GAP.join(aligned).rstrip()


def _refusal(row: tuple[str, ...], widths: list[int], look: Look) -> str:
    """A machine and, across all other columns, why it can't."""
    title, mark, why = row
    before = f"{padded(title, widths[0])}{_GAP}{padded(mark, widths[1])}{_GAP}"
    return look.paint("dim", before + cut(why, sum(widths[2:]) + len(_GAP) * (len(widths) - 3), look.ellipsis))


def _record(candidate: Candidate) -> dict[str, Any]:
    plan = candidate.plan
    return {
        "title": candidate.title,
        "fits": plan is not None,
        "why": candidate.why,
        "machine": machine_record(candidate.machine),
        "memory": memory_record(plan.memory) if plan else None,
        "quantization": decided(plan, "model.quantization") if plan else None,
        "concurrency": decided(plan, "service.concurrency") if plan else None,
        "context_length": decided(plan, "model.context_length") if plan else None,
        "decode_tokens_per_s": list(plan.speed.decode_tokens_per_s) if plan and plan.speed else None,
    }
