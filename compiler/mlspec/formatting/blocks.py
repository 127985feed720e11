"""Which blocks a YAML text has, and where each of their lines is to begin."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mlspec.formatting.scan import Scanned, Token, indent

STEP = 2
"""Spaces a level, before the dash of a list's item too."""

_OPENING = ("FlowMappingStart", "FlowSequenceStart")
_CLOSING = ("FlowMappingEnd", "FlowSequenceEnd")
_NODES = (*_OPENING, "Scalar", "Alias", "Anchor", "Tag")
_LIST_WITHOUT_INDENT = "list without indent"


@dataclass(frozen=True)
class Level:
    """A block that is open: the column of its keys or dashes as it was, and as it becomes."""

    old: int
    new: int
    kind: str = ""


@dataclass
class Blocks:
    """What becomes of a text's lines, by their number.

    `indents`: of lines that begin a node, a key or a dash. `shifts`: by how much other lines of a node move.
    `bodies`: text of block scalars, with its old and new column. `gaps`: columns behind a dash or colon.
    `inside`: lines of scalars, where an empty line counts. `quoted`: lines whose trailing spaces count.
    `levels`: the blocks that are open behind a line.
    """

    scanned: Scanned
    indents: dict[int, int] = field(default_factory=dict)
    shifts: dict[int, int] = field(default_factory=dict)
    bodies: dict[int, tuple[int, int]] = field(default_factory=dict)
    gaps: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    inside: set[int] = field(default_factory=set)
    quoted: set[int] = field(default_factory=set)
    levels: dict[int, tuple[Level, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open = [Level(-1, -STEP)]
        self._values: set[int] = set()
        self._flow_depth, self._flow_line, self._flow_shift = 0, 0, 0
        tokens = self.scanned.tokens
        for token, following in zip(tokens, (*tokens[1:], tokens[-1]), strict=True):
            self._take(token, following)

    def _take(self, token: Token, following: Token) -> None:
        if self._flow_depth:
            self._take_in_flow(token)
        elif token.kind in ("BlockMappingStart", "BlockSequenceStart"):
            self._open_block(token, token.kind)
        elif token.kind == "BlockEnd":
            self._close_list_without_indent()
            self._open.pop()
        elif token.kind in ("Key", "Value", "BlockEntry"):
            self._take_indicator(token, following)
        elif token.kind in _NODES:
            self._take_node(token)
        self.levels[self.scanned.line(token.start)] = tuple(self._open)

    def _open_block(self, token: Token, kind: str) -> None:
        self._open.append(Level(self.scanned.column(token.start), self._open[-1].new + STEP, kind))

    def _close_list_without_indent(self) -> None:
        if self._open[-1].kind == _LIST_WITHOUT_INDENT:
            self._open.pop()

    def _take_indicator(self, token: Token, following: Token) -> None:
        if token.kind != "BlockEntry":
            self._close_list_without_indent()
        elif self._open[-1].kind == "BlockMappingStart":
            # Dashes right below their key: the scanner gives no start and no end of such a list.
            self._open_block(token, _LIST_WITHOUT_INDENT)
        line = self.scanned.line(token.start)
        if self.scanned.is_first(token.start):
            self.indents.setdefault(line, self._open[-1].new)
        if token.end > token.start and self.scanned.line(following.start) == line:
            gap = (self.scanned.column(token.end), self.scanned.column(following.start))
            self.gaps.setdefault(line, []).append(gap)

    def _take_node(self, token: Token) -> None:
        line = self.scanned.line(token.start)
        if self.scanned.is_first(token.start) and line not in self.indents:
            self.indents[line] = self._open[-1].new + STEP
            self._values.add(line)
        if token.kind in _OPENING:
            self._flow_depth, self._flow_line, self._flow_shift = 1, line, self._shift_of(line)
        elif token.is_block_scalar:
            self._take_body(token)
        elif token.kind == "Scalar":
            self._take_lines(token, line, self._shift_of(line))

    def _shift_of(self, line: int) -> int:
        """By how much the rest of a node moves that begins here: as its line, or as the block around it."""
        if line in self._values:
            return self.indents[line] - indent(self.scanned.lines[line])
        return self._open[-1].new - self._open[-1].old

    def _take_in_flow(self, token: Token) -> None:
        self._flow_depth += (token.kind in _OPENING) - (token.kind in _CLOSING)
        self._take_lines(token, self._flow_line, self._flow_shift)
        # The next token takes the lines from here: each line is looked at once, however long the list.
        self._flow_line = max(self._flow_line, self.scanned.line(token.end))

    def _take_lines(self, token: Token, first: int, shift: int) -> None:
        begin, last = self.scanned.line(token.start), self.scanned.line(token.end)
        for line in range(first + 1, last + 1):
            self.shifts.setdefault(line, shift)
        if token.kind == "Scalar":
            self.inside.update(range(begin, last))
            self.quoted.update(range(begin, last) if token.style else ())

    def _take_body(self, token: Token) -> None:
        """A block scalar's text stands one step in, or as far in as its header says."""
        header = self.scanned.text[token.start : token.end]
        lines, body, level = self.scanned.lines, self.scanned.body(token), self._open[-1]
        old = next((indent(lines[n]) for n in body if lines[n].strip()), 0)
        new = level.new + STEP
        if given := re.search(r"[1-9]", header):
            old, new = max(level.old, 0) + int(given[0]), max(level.new, 0) + int(given[0])
        self.bodies.update(dict.fromkeys(body, (old, new)))
        last = max((n for n in body if "+" in header or lines[n][old:]), default=-1)
        self.inside.update(line for line in body if line <= last)
