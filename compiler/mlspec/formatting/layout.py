"""New indents and spaces for each line of a YAML text."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from mlspec.formatting.scan import Scanned, Token, indent

STEP = 2
"""Spaces a level, before the dash of a list's item too."""
BEFORE_COMMENT = 2

_OPENING = ("FlowMappingStart", "FlowSequenceStart")
_CLOSING = ("FlowMappingEnd", "FlowSequenceEnd")
_NODES = (*_OPENING, "Scalar", "Alias", "Anchor", "Tag")


@dataclass(frozen=True)
class Level:
    """A block that is open: the column of its keys or dashes as it was, and as it becomes."""

    old: int
    new: int
    kind: str = ""


def laid_out(text: str) -> str:
    """The text with new indents, single blank lines and no trailing space.

    Raises:
        ruamel.yaml.error.MarkedYAMLError: the text can't be scanned.
    """
    scanned = Scanned(text if text.endswith("\n") else text + "\n")
    return _Layout(scanned).text()


class _Layout:
    def __init__(self, scanned: Scanned) -> None:
        self.scanned = scanned
        self._stack = [Level(-1, -STEP)]
        self._flow_depth = 0
        self._flow_start = 0
        self._indents: dict[int, int] = {}
        """The new indent of each line that begins a node, a key or a dash."""
        self._shifts: dict[int, int] = {}
        """By how much the other lines of a node move."""
        self._inside: set[int] = set()
        """Lines within a scalar: what looks like a blank line is none."""
        self._levels: dict[int, tuple[Level, ...]] = {}
        """The open blocks after each line."""
        self._squeezes: dict[int, list[tuple[int, int]]] = {}
        """Columns between a dash or colon and what follows on its line."""

    def text(self) -> str:
        for number, token in enumerate(self.scanned.tokens):
            self._take(token, number)
        lines = [self._line(number) for number in range(len(self.scanned.lines))]
        return "\n".join(self._without_extra_blanks(lines)).strip("\n") + "\n"

    # Reading the tokens: what becomes of each line.

    def _take(self, token: Token, number: int) -> None:
        if self._flow_depth:
            self._take_in_flow(token)
        elif token.kind in ("BlockMappingStart", "BlockSequenceStart"):
            self._stack.append(Level(self.scanned.column(token.start), self._stack[-1].new + STEP, token.kind))
        elif token.kind == "BlockEnd":
            self._close_list_without_indent()
            self._stack.pop()
        elif token.kind in ("Key", "Value", "BlockEntry"):
            self._take_indicator(token, number)
        elif token.kind in _NODES:
            self._take_node(token)
        self._levels[self.scanned.line(token.start)] = tuple(self._stack)

    def _take_indicator(self, token: Token, number: int) -> None:
        if token.kind == "BlockEntry":
            self._open_list_without_indent(token)
        else:
            self._close_list_without_indent()
        if self.scanned.is_first(token.start):
            self._indents.setdefault(self.scanned.line(token.start), self._stack[-1].new)
        if token.end > token.start:
            self._squeeze_after(token, number)

    def _open_list_without_indent(self, token: Token) -> None:
        """`key:` with dashes right below: the scanner gives no start and no end of such a list."""
        if self._stack[-1].kind == "BlockMappingStart":
            column = self.scanned.column(token.start)
            self._stack.append(Level(column, self._stack[-1].new + STEP, "without indent"))

    def _close_list_without_indent(self) -> None:
        if self._stack[-1].kind == "without indent":
            self._stack.pop()

    def _squeeze_after(self, token: Token, number: int) -> None:
        following = self.scanned.tokens[number + 1]
        if self.scanned.line(following.start) == self.scanned.line(token.end):
            columns = (self.scanned.column(token.end), self.scanned.column(following.start))
            self._squeezes.setdefault(self.scanned.line(token.end), []).append(columns)

    def _take_node(self, token: Token) -> None:
        line = self.scanned.line(token.start)
        if self.scanned.is_first(token.start):
            self._indents.setdefault(line, self._stack[-1].new + STEP)
        if token.kind in _OPENING:
            self._flow_depth, self._flow_start = 1, line
        elif token.is_block_scalar:
            self._shift_body(token)
        elif self.scanned.line(token.end) > line:
            self._shift_rest(line, self.scanned.line(token.end), token)

    def _take_in_flow(self, token: Token) -> None:
        self._flow_depth += (token.kind in _OPENING) - (token.kind in _CLOSING)
        last = self.scanned.line(token.end)
        self._shift_rest(self._flow_start, last, token)

    def _shift_rest(self, first: int, last: int, token: Token) -> None:
        """The lines of a node after its first move as that one does, or as the block around it."""
        level = self._stack[-1]
        shift = level.new - level.old
        if self.scanned.is_first(token.start) and first in self._indents and not self._flow_depth:
            shift = self._indents[first] - indent(self.scanned.lines[first])
        for line in range(first + 1, last + 1):
            self._shifts.setdefault(line, shift)
        if token.kind == "Scalar":
            self._inside.update(range(self.scanned.line(token.start), last))

    def _shift_body(self, token: Token) -> None:
        """A block scalar's text gets one step, or keeps the distance that its header states."""
        header = self.scanned.text[token.start : token.end]
        body, level = self.scanned.body(token), self._stack[-1]
        first = next((self.scanned.lines[n] for n in body if self.scanned.lines[n].strip()), "")
        shift = level.new + STEP - indent(first)
        if any(c.isdigit() for c in header):
            shift = level.new - level.old
        for line in body:
            self._shifts[line] = shift
        kept = body if "+" in header else body[: self._length_without_blank_end(body)]
        self._inside.update(kept)

    def _length_without_blank_end(self, body: range) -> int:
        length = len(body)
        while length and not self.scanned.lines[body[length - 1]].strip():
            length -= 1
        return length

    # Writing the lines.

    def _line(self, number: int) -> str:
        line = self.scanned.lines[number]
        if number in self.scanned.bodies:
            return _shifted(line, self._shifts.get(number, 0))
        if not line.strip():
            return ""
        new = self._new_indent(number)
        end = self.scanned.content_ends.get(number, 0)
        content = self._squeezed(number, end)[indent(line) :] if end else ""
        column = self.scanned.comment_column(number)
        if column is None:
            return " " * new + (content if number in self._inside else content.rstrip())
        return self._with_comment(number, " " * new + content, column + new - indent(line))

    def _with_comment(self, number: int, content: str, column: int) -> str:
        comment = self.scanned.lines[number][self.scanned.comment_column(number) :].rstrip()
        if not content.strip():
            return content + comment
        return content.ljust(max(len(content) + BEFORE_COMMENT, column)) + comment

    def _squeezed(self, number: int, end: int) -> str:
        line = self.scanned.lines[number][:end]
        for start, stop in sorted(self._squeezes.get(number, []), reverse=True):
            line = line[:start] + " " + line[stop:]
        return line

    def _new_indent(self, number: int) -> int:
        old = indent(self.scanned.lines[number])
        if number in self._shifts:
            return max(0, old + self._shifts[number])
        if number in self._indents:
            return self._indents[number]
        return old if number in self.scanned.content_ends else self._comment_indent(number, old)

    def _comment_indent(self, number: int, old: int) -> int:
        """A comment belongs to what follows, or to the block before that it's indented like."""
        following = min((n for n in self._indents if n > number), default=None)
        next_old = indent(self.scanned.lines[following]) if following is not None else 0
        next_new = self._indents[following] if following is not None else 0
        before = max((n for n in self._levels if n < number), default=None)
        open_before = self._levels[before] if before is not None else ()
        if all(level.new < next_new for level in open_before):
            return next_new
        candidates = {level.old: level.new for level in open_before if level.new > next_new} | {next_old: next_new}
        fitting = [column for column in candidates if column <= old]
        return candidates[max(fitting)] if fitting else next_new

    def _without_extra_blanks(self, lines: list[str]) -> list[str]:
        kept: list[str] = []
        for (blank, _), group in groupby(
            enumerate(lines), key=lambda item: (not item[1] and item[0] not in self._inside, 0)
        ):
            found = [line for _, line in group]
            kept.extend(found[:1] if blank else found)
        return kept


def _shifted(line: str, shift: int) -> str:
    """A line of a block scalar, moved; one of spaces alone that are no text becomes empty."""
    if shift >= 0:
        return " " * shift + line if line.strip() else line
    return line[min(-shift, indent(line)) :]
