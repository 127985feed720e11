"""A text with the lines and columns of its characters."""

from __future__ import annotations

import re
from bisect import bisect_right

from mlspec.diagnostics import Span

_LINE_END = re.compile(r"\r\n|\n|\r")
_SPACE = " \t\r\n"


class SourceText:
    """`text` as the user sees it in an editor: `shown` is its file's name."""

    def __init__(self, text: str, shown: str) -> None:
        self.text = text
        self.shown = shown
        self._starts = [0, *(m.end() for m in _LINE_END.finditer(text))]

    def span(self, start: int, end: int) -> Span:
        """The range from character `start` up to `end`, both counted from 0."""
        return Span(self.shown, *self._position(start), *self._position(max(start, end)))

    def trimmed(self, start: int, end: int) -> Span:
        """The range without the blanks at its end: the parser's blocks reach to the next token."""
        end = min(end, len(self.text))
        while end > start and self.text[end - 1] in _SPACE:
            end -= 1
        return self.span(start, end)

    def index(self, line: int, column: int = 1) -> int:
        """Where the line and column, both counted from 1, are in the text; its end for what is behind it."""
        start = self._starts[line - 1] if line <= len(self._starts) else len(self.text)
        return min(start + column - 1, len(self.text))

    def line_text(self, line: int) -> str:
        """The line, counted from 1, without its end."""
        return self.text[self.index(line) : self.index(line + 1)].rstrip("\r\n")

    def _position(self, index: int) -> tuple[int, int]:
        index = min(index, len(self.text))
        line = bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1
