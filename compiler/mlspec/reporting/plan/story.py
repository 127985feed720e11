"""One decided value's whole story: what it is, why, where it came from, and what it could have been."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from mlspec.model.document import Document
from mlspec.model.plan import Decision, Plan
from mlspec.reporting.plan.groups import grouped, origin, with_estimates
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.quoted_line import Line
from mlspec.reporting.plan.sources import Source, Sources
from mlspec.reporting.plan.text import padded
from mlspec.reporting.plan.values import columns, cut, in_words, shown
from mlspec.reporting.words import on_one_line

_MARGIN = "  "
_GUTTER = 4
_LEAST_VALUE = 8
_ORIGINS = {"set": "set by the spec", "auto": "chosen by mlspec", "estimate": "an estimate"}


def story(plan: Plan, decision: Decision, document: Document, look: Look) -> str:
    """The story of one decision of a plan, with a line end."""
    sources = Sources(plan, document).of(decision)
    lines = [*_heading(plan, decision, look), *_said(decision.rule, look)]
    if sources:
        lines += ["", look.paint("bold", "from")]
        lines += [line for source in sources for line in _source(source, _MARGIN, look)]
    if decision.rejected:
        lines += ["", look.paint("bold", "rejected")]
        lines += [line for other in decision.rejected for line in folded(on_one_line(other), f"{_MARGIN}- ", look)]
    return "".join(f"{line}\n" for line in lines)


def keys(plan: Plan, look: Look) -> str:
    """All keys of a plan with their values, as one would ask for them."""
    decisions = [decision for _, group in grouped(with_estimates(plan)) for decision in group]
    width = max((columns(on_one_line(decision.key)) for decision in decisions), default=0)
    lines = [look.paint("bold", _place(plan)), *(_key(decision, width, look) for decision in decisions)]
    return "".join(f"{line}\n" for line in lines)


def _heading(plan: Plan, decision: Decision, look: Look) -> Iterator[str]:
    who = origin(decision)
    value = look.paint("bold", in_words(decision.key, decision.value))
    yield f"{look.paint('bold', on_one_line(decision.key))}: {value}  ({look.paint(who, _ORIGINS[who])})"
    yield look.paint("dim", f"for {_place(plan)}")


def _place(plan: Plan) -> str:
    machine = plan.target.machine
    where = machine.title if machine else f"{plan.target.platform} {plan.target.arch}"
    return on_one_line(f"{plan.target.name}: {where}")


def _said(rule: str, look: Look) -> list[str]:
    return ["", *folded(on_one_line(rule), _MARGIN, look)]


def _source(source: Source, margin: str, look: Look) -> Iterator[str]:
    """What one input says; for another decision what that came from, in short."""
    yield from _with_note(source, margin, look)
    if source.quoted is not None:
        yield quoted(source.quoted, margin, look)
    for below in source.below:
        short = f"{margin}    {_in_short(below)}"
        yield short if look.whole else cut(short, look.columns, look.ellipsis)


def quoted(line: Line, margin: str, look: Look) -> str:
    """A line of the spec behind its number."""
    gutter = look.paint("34", f"{line.number:>{_GUTTER}} |")
    return f"{margin}{gutter} {line.window(look.columns - len(margin) - _GUTTER - 3)}"


def _in_short(source: Source) -> str:
    if source.value:
        return f"{source.where} = {source.value}"
    return f"{source.where}  {source.quoted.from_here if source.quoted else source.note}".rstrip()


def _with_note(source: Source, margin: str, look: Look) -> Iterator[str]:
    """The note beside the value where there is room, else below it."""
    line = f"{margin}{source.where}" + (f" = {source.value}" if source.value else "")
    if columns(line) + 2 + columns(source.note) <= look.columns:
        yield f"{line}  {look.paint('dim', source.note)}" if source.note else line
    else:
        yield line
        yield from (look.paint("dim", told) for told in folded(source.note, f"{margin}  ", look))


def _key(decision: Decision, width: int, look: Look) -> str:
    who = origin(decision)
    room = look.columns - 2 * len(_MARGIN) - width - len("estimate") - 2
    value = shown(decision.key, decision.value)
    value = value if look.whole else cut(value, max(room, _LEAST_VALUE), look.ellipsis)
    return f"{_MARGIN}{padded(on_one_line(decision.key), width)}  {look.paint(who, f'{who:8}')}  {value}"


def folded(text: str, margin: str, look: Look) -> list[str]:
    """The text in lines of the look's width; those behind the first are indented as far as the margin reaches."""
    if not text:
        return []
    below = " " * len(margin)
    return textwrap.wrap(text, look.columns, initial_indent=margin, subsequent_indent=below, break_on_hyphens=False)
