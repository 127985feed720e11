"""CSV: the first line names the columns, fields are separated by commas and quoted by `"`."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.pieces import Piece, Records, unreadable
from mlspec_runtime.batch.sources import CELL_BYTES, PIECE_BYTES, PIECE_ROWS
from mlspec_runtime.errors import ServiceError

_OTHERS = {";": "semicolons", "\t": "tabs"}
_Line = tuple[list[str], int]
"""The fields of a row, and where in the file it ends."""


class CommaSeparated:
    """Reads one such file, in UTF-8."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> tuple[str, ...] | None:
        with self._open() as file:
            return self._header(self._lines(file))

    def rows(self) -> None:
        return None

    def arrow_type(self, column: str) -> None:
        return None

    def pieces(self, columns: Sequence[str], skip: int, offset: int) -> Generator[Piece, None, int]:
        with self._open() as file:
            lines = self._lines(file)
            names = self._header(lines)
            row = sum(1 for _, _ in zip(range(skip), lines, strict=False))
            begin_bytes = 0
            while taken := _some(lines):
                yield replace(_piece(taken, names, columns, offset + row), begin_bytes=begin_bytes)
                row, begin_bytes = row + len(taken), taken[-1][1]
        return row

    def _open(self) -> IO[str]:
        return self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _lines(self, file: IO[str]) -> Iterator[_Line]:
        read = _Counted(file)
        csv.field_size_limit(CELL_BYTES)
        rows = csv.reader(read, strict=True)
        try:
            for fields in rows:
                if fields:
                    yield fields, read.bytes
        except csv.Error as problem:
            raise BatchError("input", f"{self._path}, line {rows.line_num}: {problem}", "write it as CSV") from None

    def _header(self, lines: Iterator[_Line]) -> tuple[str, ...]:
        names, _ = next(lines, ([], 0))
        twice = [name for name, count in Counter(names).items() if count > 1]
        if not names:
            told, help = "has no first line that names its columns", "write the columns' names in its first line"
            raise BatchError("input", f"{self._path} {told}", help)
        if twice:
            told = f"names the column '{twice[0]}' twice"
            raise BatchError("input", f"{self._path} {told}", "give each column a name of its own")
        if len(names) == 1 and (word := next((word for at, word in _OTHERS.items() if at in names[0]), None)):
            raise BatchError("input", f"{self._path} has {word} between its columns", "write it with commas")
        return tuple(names)


class _Counted:
    """The lines of a text file; how much of it they make up."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            # Letters, not bytes: near enough for a bar.
            self.bytes += len(line)
            yield line


def _some(lines: Iterator[_Line]) -> list[_Line]:
    taken, size = [], 0
    for fields, at in lines:
        taken.append((fields, at))
        size += sum(map(len, fields))
        if len(taken) >= PIECE_ROWS or size >= PIECE_BYTES:
            break
    return taken


def _piece(taken: Sequence[_Line], names: Sequence[str], columns: Sequence[str], first: int) -> Records:
    faults = {row: fault for row, (fields, _) in enumerate(taken) if (fault := _fault(fields, names)) is not None}
    wanted = [(at, name) for at, name in enumerate(names) if name in columns]
    records = [
        {name: _shown(fields[at]) if at < len(fields) else None for at, name in wanted}
        if row in faults
        else {name: fields[at] for at, name in wanted}
        for row, (fields, _) in enumerate(taken)
    ]
    return Records(first, records, taken[-1][1], faults, text=True)


def _fault(fields: Sequence[str], names: Sequence[str]) -> ServiceError | None:
    if len(fields) != len(names):
        return unreadable(f"the row has {len(fields)} fields, the first line names {len(names)} columns")
    if not all(map(str.isascii, fields)) and any(not _is_text(field) for field in fields):
        return unreadable("the row is not UTF-8")
    return None


def _is_text(field: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in field)


def _shown(field: str) -> str:
    return field.encode("utf-8", "replace").decode()
