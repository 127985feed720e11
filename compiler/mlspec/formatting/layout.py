"""New indents and spaces for each line of a YAML text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from mlspec.formatting.blocks import STEP, Blocks, Level
from mlspec.formatting.scan import Scanned, indent, scanned

BEFORE_COMMENT = 2
"""Spaces between a line's content and its comment, at least: comments that stand in a column stay in it."""


def laid_out(text: str) -> str:
    """The text, which ends with a newline, with new indents, single blank lines and no trailing space.

    Raises:
        ruamel.yaml.error.MarkedYAMLError: the text can't be scanned.
    """
    found = scanned(text)
    layout = _Layout(found, Blocks(found))
    return "".join(f"{line}\n" for line in layout.lines())


class _Layout:
    def __init__(self, scanned: Scanned, blocks: Blocks) -> None:
        self._scanned = scanned
        self._blocks = blocks
        self._beginnings = sorted(blocks.indents)
        self._known_levels = sorted(blocks.levels)

    def lines(self) -> Iterator[str]:
        """The new lines; of blank lines that follow each other one is left, and none at the start and end."""
        blank, empty = False, True
        for number in range(len(self._scanned.lines)):
            line = self._line(number)
            if not line and number not in self._blocks.inside:
                blank = True
                continue
            if blank and not empty:
                yield ""
            yield line
            blank, empty = False, False

    def _line(self, number: int) -> str:
        line = self._scanned.lines[number]
        if number in self._blocks.bodies:
            old, new = self._blocks.bodies[number]
            return " " * new + line[old:] if line[old:] else ""
        return self._with_comment(number, line) if line.strip() else ""

    def _with_comment(self, number: int, line: str) -> str:
        new, column = self._new_indent(number, line), self._scanned.comment_column(number)
        content = " " * new + self._squeezed(number, line)[indent(line) :]
        if number not in self._blocks.quoted:
            content = content.rstrip()
        if column is None:
            return content
        start = max(len(content) + BEFORE_COMMENT, column + new - indent(line)) if content else new
        return content.ljust(start) + line[column:].rstrip()

    def _squeezed(self, number: int, line: str) -> str:
        """The line's content with one space behind each dash and colon of a block."""
        content = line[: self._scanned.content_ends.get(number, 0)]
        for start, end in sorted(self._blocks.gaps.get(number, ()), reverse=True):
            content = content[:start] + " " + content[end:]
        return content

    def _new_indent(self, number: int, line: str) -> int:
        if number in self._blocks.shifts:
            return max(0, indent(line) + self._blocks.shifts[number])
        if number in self._blocks.indents:
            return self._blocks.indents[number]
        if number in self._scanned.content_ends:
            return indent(line)
        return self._comment_indent(number, indent(line))

    def _comment_indent(self, number: int, old: int) -> int:
        """A comment belongs to what follows, or to the block before that it's indented like."""
        following, before = self._following(number), self._open_before(number)
        if all(level.new < following.new for level in before):
            return following.new
        columns = {level.old: level.new for level in before if level.new > following.new}
        columns[following.old] = following.new
        return columns[max((column for column in columns if column <= old), default=following.old)]

    def _following(self, number: int) -> Level:
        at = bisect_right(self._beginnings, number)
        if at == len(self._beginnings):
            return Level(0, 0)
        line = self._beginnings[at]
        return Level(indent(self._scanned.lines[line]), self._blocks.indents[line])

    def _open_before(self, number: int) -> tuple[Level, ...]:
        at = bisect_left(self._known_levels, number)
        return self._blocks.levels[self._known_levels[at - 1]] if at else (Level(-1, -STEP),)
