"""A line of the user's spec, as a story quotes it."""

from __future__ import annotations

from dataclasses import dataclass

from mlspec.reporting.plan.values import columns, cut
from mlspec.reporting.words import on_one_line


@dataclass(frozen=True)
class Line:
    """A line of the spec; `column`, from 1, is where what matters begins."""

    number: int
    text: str
    column: int

    def window(self, width: int) -> str:
        """As much of the line as fits, with what matters in it."""
        text = on_one_line(self.text.rstrip())
        start = self.column - 1 if columns(text) > width and self.column > width // 2 else 0
        return cut(("… " if start else "") + text[start:], width)

    @property
    def from_here(self) -> str:
        return on_one_line(self.text[self.column - 1 :].strip())
