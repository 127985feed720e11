"""The parts of the output: each is whole when it has its name, which says what rows it holds.

`part-<first>-<end>-<failed>.<suffix>` has the rows from `first` to before `end`, without the `failed` ones, which
lie in `failed-<first>-<end>.jsonl`. That one gets its name first: it counts only beside its part.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec_runtime.batch.columns import Table, as_json
from mlspec_runtime.batch.sinks import Sink, Writer
from mlspec_runtime.batch.sinks.lines import flushed

_NAME = re.compile(r"part-(\d{15})-(\d{15})-(\d+)\.\w+", re.ASCII)


@dataclass(frozen=True)
class Part:
    """Rows from `first` to before `end`; `failed` of them are not in `path`, but in `failures`."""

    first: int
    end: int
    failed: int
    path: Path

    @property
    def failures(self) -> Path:
        return self.path.with_name(f"failed-{self.first:015}-{self.end:015}.jsonl")


@dataclass(frozen=True)
class Failure:
    """A row without an answer: as it was read, and the error in the service's shape."""

    row: int
    input: Any
    error: dict[str, Any]

    def line(self) -> bytes:
        """As a line of JSON."""
        shown = {"row": self.row, "input": as_json(_shown(self.input)), "error": self.error}
        return json.dumps(shown, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _shown(value: Any) -> Any:
    """Without what is no text: of bytes their number."""
    if isinstance(value, bytes):
        return {"size_bytes": len(value)}
    if isinstance(value, Mapping):
        return {key: _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Computed:
    """What came of the rows from `first` to before `end`: a table of those with an answer, and the others."""

    first: int
    end: int
    table: Table
    failures: Sequence[Failure] = ()
    read_bytes: int = 0


def parts_in(folder: Path) -> list[Part]:
    """Those that are whole, in the order of their rows."""
    found = []
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            first, end, failed = map(int, match.groups())
            found.append(Part(first, end, failed, path))
    return sorted(found, key=lambda part: part.first)


def gaps(parts: Sequence[Part]) -> Iterator[tuple[int, int | None]]:
    """The rows that no part has, from where to before where; the last of these ranges has no known end."""
    at = 0
    for part in parts:
        if part.first > at:
            yield at, part.first
        at = part.end
    yield at, None


class PartWriter:
    """Writes consecutive rows, part after part."""

    def __init__(self, folder: Path, suffix: str, sink: Sink, rows_per_part: int, part_s: float) -> None:
        self._folder = folder
        self._suffix = suffix
        self._sink = sink
        self._rows = rows_per_part
        self._part_s = part_s
        self._writer: Writer | None = None
        self._first = self._end = self._failed = 0
        self._opened_at = 0.0

    def add(self, computed: Computed) -> None:
        """Rows that follow those of before."""
        if self._writer is None:
            self._open(computed.first)
        assert self._writer is not None  # noqa: S101 - just opened
        self._writer.write(computed.table)
        for failure in computed.failures:
            self._failures.write(failure.line())
        self._failed += len(computed.failures)
        self._end = computed.end
        if self._end - self._first >= self._rows or time.monotonic() - self._opened_at >= self._part_s:
            self.commit()

    def _open(self, first: int) -> None:
        # Ray may have two processes compute the same rows.
        stem = f"new-{first:015}-{os.getpid()}"
        self._temporary = self._folder / f"{stem}.{self._suffix}"
        self._temporary_failures = self._folder / f"{stem}.failed"
        self._writer = self._sink.open(self._temporary)
        self._failures = self._temporary_failures.open("wb")
        self._first, self._failed, self._opened_at = first, 0, time.monotonic()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *problem: object) -> None:
        """What is no part by now is nothing."""
        if self._writer is not None:
            self._writer.abandon()
            self._failures.close()

    def commit(self) -> None:
        """Make a part of what was added since the last one."""
        if self._writer is None:
            return
        with self._failures:
            self._writer.close()
            flushed(self._failures)
        name = f"part-{self._first:015}-{self._end:015}-{self._failed}.{self._suffix}"
        self._writer = None
        part = Part(self._first, self._end, self._failed, self._folder / name)
        if part.failed:
            self._temporary_failures.replace(part.failures)
        else:
            self._temporary_failures.unlink()
        self._temporary.replace(part.path)
