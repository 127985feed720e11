"""A plan on a terminal: machine, memory as a bar, speed, and a table of what was decided."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from mlspec.model.plan import Decision, MemoryPlan, Plan, Speed
from mlspec.reporting.plan.bar import bar, legend
from mlspec.reporting.plan.groups import counts_all, described, grouped
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.values import band, columns, cut, memory, shown
from mlspec.reporting.words import on_one_line

_MARGIN = "  "
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_LONGEST_KEY, _LONGEST_VALUE, _MOST_LINES = 24, 20, 2
_SAID_FROM = len("memory  ")
_LEAST_COLUMNS, _LEAST_RULE = 60, 20
"""Narrower than that, a table's last column is a tower of broken words."""


def as_text(plans: Iterable[Plan], spec: str, look: Look) -> str:
    """All plans of a spec, an empty line between two, and where to ask for more."""
    blocks = ["".join(f"{line}\n" for line in _target(plan, look)) for plan in plans]
    if not blocks:
        return ""
    several = " --target NAME" if len(blocks) > 1 else ""
    hint = look.paint("dim", f"mlspec why {on_one_line(spec)} KEY{several}: where a value comes from")
    return "\n".join([*blocks, f"{hint}\n"])


def _target(plan: Plan, look: Look) -> Iterator[str]:
    yield from _heading(plan, look)
    if plan.memory is not None:
        yield ""
        yield from _memory(plan.memory, counts_all(plan), look)
    if plan.speed is not None:
        yield ""
        yield from _speed(plan.speed, look)
    yield ""
    yield from _table(plan, look)


def _heading(plan: Plan, look: Look) -> Iterator[str]:
    target = plan.target
    place = f"{target.platform} {target.arch}, {target.accelerator}"
    what = target.machine.title if target.machine else f"{place}; it names no machine"
    yield f"{look.paint('bold', on_one_line(target.name))}  {on_one_line(what)}"
    if target.machine is not None:
        yield from wrapped([place, *described(target.machine)], ", ", _MARGIN, look.columns)


def _memory(plan: MemoryPlan, is_all: bool, look: Look) -> Iterator[str]:
    total = memory(plan.footprint_bytes)
    if not is_all:
        allowed = f" of {memory(plan.budget_bytes)}" if plan.budget_bytes is not None else ""
        told = f"at least {total}{allowed}; what it needs besides isn't known"
    elif plan.budget_bytes is None:
        told = f"{total}; the target names no machine, so nothing tells whether it fits"
    else:
        told = f"{total} of {memory(plan.budget_bytes)}, {memory(plan.budget_bytes - plan.footprint_bytes)} to spare"
    yield from _said("memory", told, look)
    yield _MARGIN + bar(plan, look, look.columns - 2 * len(_MARGIN))
    yield from wrapped(legend(plan.parts, look), "  ", _MARGIN, look.columns)


def _speed(speed: Speed, look: Look) -> Iterator[str]:
    yield from _said("speed", "an estimate for one request, in tokens a second:", look)
    prefill = speed.prefill_tokens_per_s
    told = [f"generates {band(speed.decode_tokens_per_s)}", f"reads a prompt at {band(prefill)}" if prefill else ""]
    for line in wrapped(filter(None, told), ", ", _MARGIN, look.columns):
        yield from textwrap.wrap(line, look.columns, subsequent_indent=_MARGIN * 2)


def _said(name: str, text: str, look: Look) -> Iterator[str]:
    """A name and what is said of it, in as many lines as that takes."""
    first, *more = textwrap.wrap(text, look.columns - _SAID_FROM, break_on_hyphens=False)
    yield f"{look.paint('bold', name)}{' ' * (_SAID_FROM - len(name))}{first}"
    yield from (" " * _SAID_FROM + line for line in more)


def _table(plan: Plan, look: Look) -> Iterator[str]:
    groups = grouped(plan.decisions)
    keys = max((columns(_name(decision)) for _, group in groups for decision in group), default=0)
    values = max((columns(shown(d.key, d.value)) for _, group in groups for d in group), default=0)
    widths = min(keys, _LONGEST_KEY), min(values, _LONGEST_VALUE)
    for name, group in groups:
        yield look.paint("bold", on_one_line(name))
        yield from (line for decision in group for line in _row(decision, widths, look))


def _row(decision: Decision, widths: tuple[int, int], look: Look) -> Iterator[str]:
    """A decision in columns; in lines where they have no room, or what may not be cut is too long for them."""
    texts = (_name(decision), shown(decision.key, decision.value))
    indent = len(_MARGIN) + sum(widths) + len("    auto  ")
    too_long = look.whole and any(columns(text) > width for text, width in zip(texts, widths, strict=True))
    if too_long or look.columns < _LEAST_COLUMNS or look.columns - indent < _LEAST_RULE:
        yield from _stacked(decision, texts, look)
        return
    key, value = (padded(cut(text, width, look.ellipsis), width) for text, width in zip(texts, widths, strict=True))
    first, *more = _rule(decision, look.columns - indent, look) or [""]
    yield f"{_MARGIN}{key}  {value}  {_origin(decision, look)}  {look.paint('dim', first)}".rstrip()
    yield from (" " * indent + look.paint("dim", line) for line in more)


def _stacked(decision: Decision, texts: tuple[str, str], look: Look) -> Iterator[str]:
    """Key and origin, the value beside them or below, and the reason on lines of its own."""
    key, value = texts
    before, below = f"{_MARGIN}{key}  {_origin(decision, look)}", _MARGIN * 2
    if _visible_columns(before) + 2 + columns(value) <= look.columns:
        yield f"{before}  {value}"
    else:
        yield before.rstrip()
        for line in wrapped(value.split(", "), ", ", below, look.columns):
            yield from textwrap.wrap(line, look.columns, subsequent_indent=below, break_on_hyphens=False)
    yield from (below + look.paint("dim", line) for line in _rule(decision, look.columns - len(below), look))


def _origin(decision: Decision, look: Look) -> str:
    return look.paint("set", "set ") if decision.given else look.paint("auto", "auto")


def _rule(decision: Decision, width: int, look: Look) -> list[str]:
    return folded(on_one_line(decision.rule), width, None if look.whole else _MOST_LINES, look.ellipsis)


def _name(decision: Decision) -> str:
    return on_one_line(decision.key.partition(".")[2] or decision.key)


def folded(text: str, width: int, most: int | None, ellipsis: str) -> list[str]:
    """The text in at most so many lines, or in as many as it needs; what is left over is cut."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    if most is None:
        return lines
    return [*lines[: most - 1], cut(" ".join(lines[most - 1 :]), width, ellipsis)] if lines[most:] else lines


def padded(text: str, width: int) -> str:
    """The text with blanks behind it, up to `width` columns."""
    return text + " " * (width - columns(text))


def wrapped(items: Iterable[str], between: str, margin: str, width: int) -> Iterator[str]:
    """The items on as few lines as they need; an item is never broken. Colours take no room."""
    line: list[str] = []
    used = 0
    for item in items:
        room = _visible_columns(item) + len(between)
        if line and len(margin) + used + room - len(between) > width:
            yield margin + between.join(line) + between.rstrip()
            line, used = [], 0
        line.append(item)
        used += room
    if line:
        yield margin + between.join(line)


def _visible_columns(text: str) -> int:
    return columns(_COLOUR.sub("", text))
