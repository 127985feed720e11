"""Characters that a spec may not hold, in its file and by escapes in its strings."""

from __future__ import annotations

import re

from mlspec.characters import FORBIDDEN, name_of, visible
from mlspec.diagnostics import Report, Span
from mlspec.source_text import SourceText

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_NAMED = {"0": "\0", "a": "\a", "b": "\b", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", "N": "\x85", "L": "\u2028"}
_NAMED["P"] = "\u2029"
_MOST_REPORTED = 20
_REPLACEMENT = "\ufffd"


def without_forbidden(source: SourceText, report: Report) -> str:
    """The text with each forbidden character reported and replaced by one that any parser takes."""
    found = list(FORBIDDEN.finditer(source.text))
    for match in found[:_MOST_REPORTED]:
        _report(match[0], source.span(match.start(), match.end()), report)
    return FORBIDDEN.sub(_REPLACEMENT, source.text) if found else source.text


def check_escapes(value: str, start: int, end: int, source: SourceText, report: Report) -> None:
    """Report what a quoted string holds by its escapes: `"\\x1b"` is as bad as the character itself."""
    if not (FORBIDDEN.search(value) or "\r" in value):
        return
    for match in _ESCAPE.finditer(source.text, start, end):
        character = _character(match)
        if character and (FORBIDDEN.match(character) or character == "\r"):
            _report(character, source.span(match.start(), match.end()), report)


def _character(match: re.Match[str]) -> str | None:
    digits = match[1] or match[2] or match[3]
    if digits is None:
        return _NAMED.get(match[4])
    code = int(digits, 16)
    return chr(code) if code <= 0x10FFFF else None


def _report(character: str, span: Span, report: Report) -> None:
    report.error(
        "control-character",
        f"the character {visible(name_of(character))} is not allowed in a spec",
        span,
        help="remove it; line ends and tabs are the only control characters that a string may hold",
    )
