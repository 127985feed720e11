"""Formats of lines of text: JSON lines and CSV. Parts are joined by laying them end to end."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from mlspec_runtime.batch.columns import Column, Table, as_json, as_text

_CHUNK_BYTES = 1 << 20


class Lines:
    """A file that is being written."""

    def __init__(self, path: Path, sink: LinesSink) -> None:
        self._file = path.open("wb")
        self._sink = sink

    def write(self, table: Table) -> None:
        self._file.write(self._sink.encoded(table))

    def close(self) -> None:
        with self._file:
            flushed(self._file)

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()


class LinesSink:
    """What both have in common."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns

    def open(self, path: Path) -> Lines:
        return Lines(path, self)

    def encoded(self, table: Table) -> bytes:
        raise NotImplementedError

    def head(self) -> bytes:
        """What the whole output begins with; parts don't."""
        return b""

    def join(self, parts: Sequence[Path], path: Path) -> None:
        with path.open("wb") as whole:
            whole.write(self.head())
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole, _CHUNK_BYTES)
            flushed(whole)


class JsonLinesSink(LinesSink):
    """An object a line."""

    def encoded(self, table: Table) -> bytes:
        names = [column.name for column in self._columns]
        rows = zip(*(_plain(column, table[column.name]) for column in self._columns), strict=True)
        dumped = (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows)
        return "".join(f"{line}\n" for line in dumped).encode("utf-8", "backslashreplace")


class CommaSeparatedSink(LinesSink):
    """Lists are JSON in their field; what is missing is empty."""

    def encoded(self, table: Table) -> bytes:
        texts = [map(as_text, table[column.name]) for column in self._columns]
        return _lines(zip(*texts, strict=True))

    def head(self) -> bytes:
        return _lines([[column.name for column in self._columns]])


def _lines(rows: object) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode("utf-8", "backslashreplace")


def _plain(column: Column, values: Sequence[object]) -> Sequence[object]:
    return list(map(as_json, values)) if column.kind in ("json", "kept") else values


def flushed(file: IO[bytes]) -> None:
    """Have it on the disk, not on its way there."""
    file.flush()
    os.fsync(file.fileno())
