"""Which of many machines can serve a spec, from the smallest to the largest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlspec.model.machine import Machine
from mlspec.model.plan import Plan
from mlspec.reporting.plan.groups import counts_all
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.text import padded
from mlspec.reporting.plan.values import columns, cut, quantization, rate
from mlspec.reporting.words import on_one_line

_GIB = 2**30
_TIERS = ("phone", "base", "pro", "max", "ultra")
_HEADS = ("machine", "", "weights", "requests", "context", "memory, GiB", "tokens/s")
_MARK = _HEADS.index("")
_SPARABLE = tuple(map(_HEADS.index, ("memory, GiB", "weights", "context", "requests")))
"""Columns that a narrow terminal does without, the first one first."""
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

    @property
    def fits(self) -> bool | None:
        """None: nothing can be said, as not all of the memory that it needs is known."""
        if self.plan is None:
            return False
        return True if counts_all(self.plan) else None


def by_size(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The smallest first: by memory, then by the chip, then by name."""
    return sorted(candidates, key=_size)


def as_table(candidates: list[Candidate], look: Look) -> str:
    """One line a machine: what it would serve, or why it can't."""
    rows = [_cells(candidate, look) for candidate in candidates]
    widths = _widths(rows, look)
    lines = [_line(row, widths) if len(row) == len(_HEADS) else _refusal(row, widths, look) for row in rows]
    return "".join(f"{line}\n" for line in [look.paint("bold", _line(_HEADS, widths)), *lines])


def _widths(rows: list[tuple[str, ...]], look: Look) -> list[int]:
    """Of each column; 0 for one that is left out: nothing is in it, or the look hasn't the room."""
    full = [row for row in rows if len(row) == len(_HEADS)]
    widths = [max((columns(row[index]) for row in full), default=0) for index in range(len(_HEADS))]
    for index in range(_MARK + 1):
        widths[index] = max((columns(row[index]) for row in rows), default=0)
    widths = [max(width, columns(head)) if width else 0 for width, head in zip(widths, _HEADS, strict=True)]
    for index in _SPARABLE:
        if not look.whole and _all_columns(widths) > look.columns:
            widths[index] = 0
    return widths


def _all_columns(widths: list[int]) -> int:
    taken = [width for width in widths if width]
    return sum(taken) + len(_GAP) * (len(taken) - 1)


def _size(candidate: Candidate) -> tuple[object, ...]:
    machine = candidate.machine
    tier = _TIERS.index(machine.chip.tier) if machine.chip else -1
    generation = machine.chip.generation if machine.chip else 0
    return machine.memory_bytes, tier, generation, candidate.title


def _cells(candidate: Candidate, look: Look) -> tuple[str, ...]:
    title, plan = on_one_line(candidate.title), candidate.plan
    title = title if look.whole else cut(title, _LONGEST_TITLE, look.ellipsis)
    if plan is None:
        return title, look.letter("✗", "no"), on_one_line(_TERMS.sub("; it allows ", candidate.why))
    return (
        title,
        look.letter("✓", "yes") if candidate.fits else "?",
        weights(plan),
        _number(plan, "service.concurrency"),
        _number(plan, "model.context_length"),
        _share(plan) if candidate.fits else "",
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
        if width
    )
    return _GAP.join(aligned).rstrip()


def _refusal(row: tuple[str, ...], widths: list[int], look: Look) -> str:
    """A machine and, across all other columns, why it can't."""
    title, mark, why = row
    before = f"{padded(title, widths[0])}{_GAP}{padded(mark, widths[_MARK])}{_GAP}"
    room = max(_all_columns(widths), look.columns) - columns(before)
    return look.paint("dim", before + (why if look.whole else cut(why, room, look.ellipsis)))
