"""One line of a file with a range of it marked, as it looks on a terminal."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from mlspec.characters import visible

MAX_WIDTH = 110
_CONTEXT = 30
_TAB = "    "
_CUT = "…"
_WIDE = ("W", "F")
_NO_WIDTH = ("Mn", "Me", "Cf")


@dataclass(frozen=True)
class Snippet:
    """`text` has `indent` columns before the marked range, which is `width` columns wide (at least one)."""

    text: str
    indent: int
    width: int

    @property
    def carets(self) -> str:
        return " " * self.indent + "^" * self.width


def snippet(line: str, start: int, end: int) -> Snippet:
    """The line with the characters from `start` up to `end` (from 0) marked, cut around them if it is long."""
    start = min(start, len(line))
    end = max(start, min(end, len(line)))
    first = _first_shown(line, start)
    cells = [_cell(c) for c in line[first : first + 2 * MAX_WIDTH]]
    shown = _fitting(cells)
    before = _CUT if first else ""
    after = _CUT if first + shown < len(line) else ""
    indent = _width(cells[: start - first]) + len(before)
    marked = _width(cells[start - first : min(end - first, shown)])
    return Snippet((before + "".join(cells[:shown]) + after).rstrip(), indent, max(marked, 1))


def _first_shown(line: str, start: int) -> int:
    """The first character that is shown: 0, unless the range would be out of sight."""
    if start <= MAX_WIDTH // 2 and _width([_cell(c) for c in line[:start]]) <= MAX_WIDTH // 2:
        return 0
    if len(line) <= MAX_WIDTH and _width([_cell(c) for c in line]) <= MAX_WIDTH:
        return 0
    before = [_cell(c) for c in line[max(start - _CONTEXT, 0) : start]]
    while _width(before) > _CONTEXT:
        before.pop(0)
    return start - len(before)


def _fitting(cells: list[str]) -> int:
    width = 0
    for count, cell in enumerate(cells):
        width += _columns(cell)
        if width > MAX_WIDTH:
            return count
    return len(cells)


def _cell(character: str) -> str:
    return _TAB if character == "\t" else visible(character)


def _width(cells: list[str]) -> int:
    return sum(_columns(cell) for cell in cells)


def _columns(cell: str) -> int:
    """Terminal columns of a character, by Unicode's East Asian width."""
    if len(cell) > 1 or cell.isascii():
        return len(cell)
    if unicodedata.category(cell) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(cell) in _WIDE else 1
