"""A text's YAML tokens with their places, and what each line holds outside of them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from mlspec.passes.load.nodes import MAX_DEPTH

_BLOCK_HEADER = re.compile(r"[|>][-+0-9]*")
_ENDS = ("BlockEnd", "MappingEnd", "SequenceEnd")


@dataclass(frozen=True)
class Token:
    """One token: `kind` is the scanner's name of it without `Token`, `style` that of a scalar (`|`, `"`, none).

    A block scalar ends with its header; `body_end` is where its text ends.
    """

    kind: str
    start: int
    end: int
    value: str = ""
    style: str | None = None
    body_end: int = 0

    @property
    def is_block_scalar(self) -> bool:
        return self.kind == "Scalar" and self.style in ("|", ">")


class Scanned:
    """A text and its tokens, which nobody changes. Lines count from 0 and end at `\\n` only."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = tuple(text.split("\n"))
        self.tokens = tuple(_tokens(text))

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line) + 1)
        return starts

    def line(self, index: int) -> int:
        return min(bisect_right(self._starts, index), len(self.lines)) - 1

    def column(self, index: int) -> int:
        return index - self._starts[self.line(index)]

    def is_first(self, index: int) -> bool:
        """Whether nothing but spaces stands before this place on its line."""
        return not self.text[self._starts[self.line(index)] : index].strip()

    def body(self, token: Token) -> range:
        """The lines of a block scalar's text, blank ones behind it too."""
        cut_off = self.column(token.body_end) > 0  # the text ends without a newline
        return range(self.line(token.start) + 1, self.line(token.body_end) + cut_off)

    @cached_property
    def bodies(self) -> frozenset[int]:
        """All lines that are text of a block scalar."""
        return frozenset(line for token in self.tokens if token.is_block_scalar for line in self.body(token))

    @cached_property
    def content_ends(self) -> dict[int, int]:
        """The column where the content of each line with content ends; behind it can only be a comment."""
        ends: dict[int, int] = {}
        for token in self.tokens:
            first, last = self.line(token.start), self.line(token.end)
            if token.start == token.end:
                continue
            for line in range(first, last):
                ends[line] = len(self.lines[line])
            ends[last] = max(ends.get(last, 0), self.column(token.end))
        return ends

    def comment_column(self, line: int) -> int | None:
        """Where the line's comment begins."""
        at = self.lines[line].find("#", self.content_ends.get(line, 0))
        return at if at >= 0 and line not in self.bodies else None


@lru_cache(maxsize=2)
def scanned(text: str) -> Scanned:
    """The text with its tokens. Scanning is what formatting takes its time for, and a laid-out text comes again."""
    return Scanned(text)


def indent(line: str) -> int:
    """The number of spaces at the line's start."""
    return len(line) - len(line.lstrip(" "))


def _tokens(text: str) -> Iterator[Token]:
    from ruamel.yaml import YAML

    depth = 0
    for found in YAML(typ="safe", pure=True).scan(text):
        token = _token(found)
        depth += token.kind.endswith(("MappingStart", "SequenceStart")) - token.kind.endswith(_ENDS)
        _refuse_depth(depth, found)
        if not token.is_block_scalar:
            yield token
            continue
        header = _BLOCK_HEADER.match(text, token.start)
        end = header.end() if header else token.start
        yield Token(token.kind, token.start, end, token.value, token.style, token.end)


def _refuse_depth(depth: int, found: Any) -> None:
    """Each level costs the scanner time at every token below it: nesting that no spec may have would take minutes."""
    from ruamel.yaml.scanner import ScannerError

    if depth > MAX_DEPTH:
        problem = f"more than {MAX_DEPTH} levels of nesting"
        raise ScannerError(problem=problem, problem_mark=found.start_mark)


def _token(found: Any) -> Token:
    kind = type(found).__name__.removesuffix("Token")
    scalar = (str(found.value), found.style) if kind == "Scalar" else ("", None)
    return Token(kind, found.start_mark.index, found.end_mark.index, *scalar)
