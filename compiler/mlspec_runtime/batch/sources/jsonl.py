"""JSON lines: an object a line. Empty lines are no rows."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mlspec_runtime.batch.pieces import Piece, Records, unreadable
from mlspec_runtime.batch.sources import CELL_BYTES, PIECE_BYTES, PIECE_ROWS
from mlspec_runtime.errors import ServiceError

_LOOKED_AT = 100
_BOM = b"\xef\xbb\xbf"


class JsonLines:
    """Reads one such file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> tuple[str, ...] | None:
        """The keys of the first hundred rows."""
        with self._path.open("rb") as file:
            records = [_parsed(line) for line, _ in islice(_lines(file), _LOOKED_AT)]
        keys = {key: None for record in records if isinstance(record, dict) for key in record}
        return tuple(keys) if any(isinstance(record, dict) for record in records) else None

    def rows(self) -> None:
        return None

    def arrow_type(self, column: str) -> None:
        return None

    def pieces(self, columns: Sequence[str], skip: int, offset: int) -> Generator[Piece, None, int]:
        with self._path.open("rb") as file:
            lines = _lines(file)
            row = sum(1 for _ in islice(lines, skip))
            begin_bytes = 0 if not row else file.tell()
            while taken := _some(lines):
                yield replace(_piece(taken, columns, offset + row), begin_bytes=begin_bytes)
                row, begin_bytes = row + len(taken), taken[-1][1]
        return row


def _lines(file: IO[bytes]) -> Generator[tuple[bytes, int], None, None]:
    """Each line that isn't empty, and where it ends. Of one that is too long, the beginning."""
    at = 0
    while line := file.readline(CELL_BYTES + 1):
        rest = line
        while len(rest) > CELL_BYTES and not rest.endswith(b"\n"):
            at += len(rest)
            rest = file.readline(CELL_BYTES + 1)
        at += len(rest)
        if line.startswith(_BOM) and at == len(line):
            line = line[len(_BOM) :]
        if line.strip():
            yield line, at


def _some(lines: Generator[tuple[bytes, int], None, None]) -> list[tuple[bytes, int]]:
    taken, size_bytes = [], 0
    for line, at in lines:
        taken.append((line, at))
        size_bytes += len(line)
        if len(taken) >= PIECE_ROWS or size_bytes >= PIECE_BYTES:
            break
    return taken


def _piece(taken: Sequence[tuple[bytes, int]], columns: Sequence[str], first: int) -> Records:
    records: list[Any] = []
    faults: dict[int, ServiceError] = {}
    for row, (line, _) in enumerate(taken):
        record = _parsed(line)
        if isinstance(record, ServiceError):
            faults[row] = record
            records.append(line[:1000].decode("utf-8", "replace").rstrip("\r\n"))
        else:
            records.append({key: value for key, value in record.items() if key in columns})
    return Records(first, records, taken[-1][1], faults)


def _parsed(line: bytes) -> dict[str, Any] | ServiceError:
    if len(line) > CELL_BYTES:
        return unreadable(f"the line has more than {CELL_BYTES >> 20} MiB")
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as problem:
        return unreadable(f"the line is not UTF-8 at byte {problem.start}")
    except (ValueError, RecursionError) as problem:
        told = (
            str(problem) if isinstance(problem, json.JSONDecodeError) else "a number or its depth is beyond all bounds"
        )
        return unreadable(f"the line is not JSON: {told}")
    return record if isinstance(record, dict) else unreadable("the line is no JSON object")
