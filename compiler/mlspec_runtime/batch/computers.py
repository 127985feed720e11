"""Rows in, rows out: how pieces of the input become requests of a runner, and answers rows of the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mlspec_runtime.batch.columns import NUMBER, Column, Table
from mlspec_runtime.batch.model_log import ModelLog
from mlspec_runtime.batch.parts import Computed, Failure
from mlspec_runtime.batch.pieces import Piece, Wanted
from mlspec_runtime.errors import ServiceError


class Computer(Protocol):
    """What one kind of model makes of rows. `rows_at_once` make a request, `requests_at_once` are under way."""

    rows_at_once: int
    requests_at_once: int

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it adds to the output."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the input that it takes."""

    async def compute(self, piece: Piece) -> Answers:
        """The answers for rows that could be read. Raises BatchError."""


@dataclass(frozen=True)
class Answers:
    """`rows` are places in the piece; those that failed have an error."""

    rows: Sequence[int]
    table: Table
    errors: Mapping[int, ServiceError]


@dataclass(frozen=True)
class Rows:
    """Puts the answers for a piece beside what the output keeps of its rows."""

    computer: Computer
    kept: Sequence[Column]
    log: ModelLog
    operation: str

    async def computed(self, piece: Piece) -> Computed:
        """What came of all rows of a piece, those that could not be read as well. Raises BatchError."""
        answers = Answers((), {column.name: [] for column in (*(self.kept or (NUMBER,)), *self.computer.columns)}, {})
        for start, stop in _readable(piece):
            answers = together(answers, await self._answers(piece.part(start, stop)), start)
        errors = {**answers.errors, **piece.faults}
        failures = [self._failure(piece, row, errors[row]) for row in sorted(errors)]
        return Computed(piece.first, piece.first + piece.rows, answers.table, failures, piece.read_bytes)

    def refused(self, piece: Piece, error: ServiceError) -> Computed:
        """Rows that are not asked for at all."""
        table: Table = {column.name: [] for column in (*(self.kept or (NUMBER,)), *self.computer.columns)}
        failures = [self._failure(piece, row, error) for row in range(piece.rows)]
        return Computed(piece.first, piece.first + piece.rows, table, failures, piece.read_bytes)

    async def _answers(self, piece: Piece) -> Answers:
        """With what is kept of the rows that have one."""
        answers = await self.computer.compute(piece)
        return replace(answers, table={**self._kept(piece, answers.rows), **answers.table})

    def _kept(self, piece: Piece, rows: Sequence[int]) -> Table:
        if not self.kept:
            return {NUMBER.name: [piece.first + row for row in rows]}
        cells = {column.name: piece.values(column.name, Wanted()) for column in self.kept}
        return {name: [_python(values[row]) for row in rows] for name, values in cells.items()}

    def _failure(self, piece: Piece, row: int, error: ServiceError) -> Failure:
        request_id = f"row-{piece.first + row}"
        body = error.body(self.operation, request_id)["error"]
        told = self.log.about(request_id)
        return Failure(piece.first + row, piece.record(row), {**body, "log": told} if told else body)


def _python(value: Any) -> Any:
    """Numbers of numpy's as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _readable(piece: Piece) -> Iterator[tuple[int, int]]:
    """Where rows without a fault begin and end."""
    start = 0
    for row in (*sorted(piece.faults), piece.rows):
        if start < row:
            yield start, row
        start = row + 1


def together(before: Answers, more: Answers, offset: int) -> Answers:
    """Answers for a part of the piece that begins at `offset` after those for its rows before."""
    if not before.rows and not before.errors and not offset:
        return more
    table = {name: [*values, *more.table[name]] for name, values in before.table.items()}
    errors = {**before.errors, **{row + offset: error for row, error in more.errors.items()}}
    return Answers([*before.rows, *(row + offset for row in more.rows)], table, errors)
