"""Some rows of the input on their way to the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array

Values = Sequence[Any] | Array
"""One for each row."""
_TRUE, _FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class Wanted:
    """How a cell of text is read: as numbers of this kind (numpy's letter), or as text (`O`); `nested`: as lists."""

    kind: str = "O"
    nested: bool = False


class Piece(Protocol):
    """Consecutive rows, the first of which has the number `first`. `faults`: those that could not be read, by their
    place in the piece. Once they are done, `read_bytes` of the input are.
    """

    @property
    def first(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def read_bytes(self) -> int: ...
    @property
    def faults(self) -> Mapping[int, ServiceError]: ...

    def values(self, column: str, wanted: Wanted) -> Values:
        """The cells of a column; None for one that is missing."""

    def record(self, row: int) -> Any:
        """A row as JSON has it, for people to see what failed."""

    def part(self, start: int, stop: int) -> Piece:
        """Some of its rows."""


@dataclass(frozen=True)
class Records:
    """Rows as JSON objects; with `text` all cells are text, as CSV has them. `begin_bytes` of the input are before."""

    first: int
    records: Sequence[Any]
    read_bytes: int = 0
    faults: Mapping[int, ServiceError] = field(default_factory=dict)
    text: bool = False
    begin_bytes: int = 0

    @property
    def rows(self) -> int:
        return len(self.records)

    def values(self, column: str, wanted: Wanted) -> Values:
        cells = [record.get(column) for record in self.records]
        return [cell_of_text(cell, wanted) for cell in cells] if self.text else cells

    def record(self, row: int) -> Any:
        return self.records[row]

    def part(self, start: int, stop: int) -> Self:
        faults = {row - start: fault for row, fault in self.faults.items() if start <= row < stop}
        # Its rows are taken for equally long: for a bar that is near enough.
        share = (self.read_bytes - self.begin_bytes) / max(1, self.rows)
        begin, end = (self.begin_bytes + int(share * at) for at in (start, stop))
        records = self.records[start:stop]
        return replace(
            self, first=self.first + start, records=records, read_bytes=end, faults=faults, begin_bytes=begin
        )


def cell_of_text(text: str | None, wanted: Wanted) -> Any:
    """What a cell of text stands for; the text itself where it is nothing of the kind, so that checking it says so."""
    if text is None or (wanted.kind == "O" and not wanted.nested):
        return text
    if not text:
        return None
    try:
        return json.loads(text) if wanted.nested else _number(text.strip(), wanted.kind)
    except (ValueError, RecursionError):
        return text


def _number(text: str, kind: str) -> Any:
    # Python's own reading would take 1_000 for a thousand.
    if "_" in text or not text.isascii():
        raise ValueError(text)
    if kind == "f":
        return float(text)
    if kind in "iu":
        return int(text)
    lower = text.lower()
    if lower not in _TRUE + _FALSE:
        raise ValueError(text)
    return lower in _TRUE


def unreadable(message: str) -> ServiceError:
    """A row that is none."""
    return ServiceError("invalid_row", message, 422)
