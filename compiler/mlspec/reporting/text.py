"""The report for people, after the manner of rustc: the place, the line, the mark, the remedy."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.diagnostics import Diagnostic, Report, Span
from mlspec.reporting.quoted_lines import QuotedLines
from mlspec.reporting.snippet import snippet
from mlspec.reporting.words import on_one_line, safe

_STYLES = {"error": "1;31", "warning": "1;33", "bold": "1", "gutter": "34", "help": "36"}
_LEAST_GUTTER = 4


def as_text(report: Report, lines: QuotedLines, *, colour: bool = False) -> str:
    """All diagnostics, an empty line between two, and their number at the end if there are several."""
    paint = _Paint(colour)
    blocks = ["\n".join(_block(found, lines, paint)) for found in report]
    if len(blocks) > 1:
        blocks.append(paint("bold", _summary(report)))
    return "\n\n".join(blocks) + "\n" if blocks else ""


class _Paint:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colour and text else text


def _block(found: Diagnostic, lines: QuotedLines, paint: _Paint) -> Iterator[str]:
    severity = paint(found.severity, f"{found.severity}[{found.code}]")
    message = on_one_line(found.message)
    yield f"{paint('bold', _place(found.span))}: {severity}: {paint('bold', message)}"
    yield from _quote(found.span, safe(found.label), lines, paint, found.severity)
    for related in found.related:
        yield f"  {paint('help', 'note')}: {_place(related.span)}: {on_one_line(related.message)}"
        yield from _quote(related.span, "", lines, paint, "help")
    help = found.help or f"mlspec explain {found.code}"
    yield from (f"  {paint('help', 'help')}: {safe(line)}" for line in help.splitlines())


def _place(span: Span) -> str:
    return f"{on_one_line(span.file)}:{span.line}:{span.column}"


def _quote(span: Span, label: str, lines: QuotedLines, paint: _Paint, style: str) -> Iterator[str]:
    line = lines.line(span.file, span.line)
    if not line:  # nothing to show, or nothing to show it from
        return
    end = span.end_column if span.end_line == span.line else len(line) + 1
    shown = snippet(line, span.column - 1, end - 1)
    number = str(span.line).rjust(_LEAST_GUTTER)
    yield f"{paint('gutter', f'{number} |')} {shown.text}"
    mark = " ".join(filter(None, [shown.carets, label]))
    yield f"{paint('gutter', ' ' * len(number) + ' |')} {paint(style, mark)}"


def _summary(report: Report) -> str:
    counts = {kind: sum(d.severity == kind for d in report) for kind in ("error", "warning")}
    parts = (f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count)
    return ", ".join(parts)
