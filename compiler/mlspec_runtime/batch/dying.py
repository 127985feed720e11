"""Rows that end the process: what was under way when it ended is computed again one by one, and a row that ends it
alone, twice, is a failed row.

`under-way` has the rows that are computed at this moment, and outlives the process; `suspects.json` what earlier
processes left there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlspec_runtime.errors import ServiceError

UNDER_WAY, SUSPECTS = "under-way", "suspects.json"
DEATHS = 2
"""Alone, before a row counts as their cause: the first may have been anyone's."""
_LETTERS = 32


def died_at(folder: Path) -> tuple[int, int] | None:
    """The rows, from the first to before the end, that a process was at when it ended without a word."""
    try:
        first, end = map(int, (folder / UNDER_WAY).read_bytes().split())
    except (OSError, ValueError):
        return None
    return (first, end) if first < end else None


def process_died() -> ServiceError:
    """What is said of a row that ends the process."""
    message = f"the process that computes ended {DEATHS} times while it computed this row alone"
    return ServiceError("process_died", message, 500)


class UnderWay:
    """Keeps the file `under-way` as it is: written at once, to no disk, as only the process's end matters."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / UNDER_WAY, os.O_WRONLY | os.O_CREAT, 0o666)
        self._ranges: dict[int, int] = {}
        self._write()

    def begin(self, first: int, end: int) -> None:
        """These rows are computed now."""
        self._ranges[first] = end
        self._write()

    def end(self, first: int) -> None:
        """Those that begin there are done."""
        del self._ranges[first]
        self._write()

    def close(self) -> None:
        """The process goes on without rows."""
        self._ranges.clear()
        self._write()
        os.close(self._file)

    def _write(self) -> None:
        first, end = (min(self._ranges), max(self._ranges.values())) if self._ranges else (0, 0)
        os.pwrite(self._file, f"{first:015} {end:015}".encode().ljust(_LETTERS), 0)


@dataclass
class Suspects:
    """`ranges` of rows to compute alone; of those that ended a process alone, how often, in `deaths`."""

    ranges: list[tuple[int, int]] = field(default_factory=list)
    deaths: dict[int, int] = field(default_factory=dict)

    def died(self, first: int, end: int) -> None:
        """A process ended at these rows."""
        if end - first == 1:
            self.deaths[first] = self.deaths.get(first, 0) + 1
            # Those before it were computed alone, and nothing happened.
            self.ranges = [(max(begin, first) if begin <= first < stop else begin, stop) for begin, stop in self.ranges]
        self.ranges = _merged([*self.ranges, (first, end)])

    def stretches(self, gaps: Iterable[tuple[int, int | None]]) -> Iterator[tuple[int, int | None, bool]]:
        """The gaps, cut where suspects begin and end: from where, to before where, and whether each row is alone."""
        for first, end in gaps:
            for begin, stop in self.ranges:
                begin, stop = max(begin, first), stop if end is None else min(stop, end)
                if begin < stop:
                    if first < begin:
                        yield first, begin, False
                    yield begin, stop, True
                    first = stop
            if end is None or first < end:
                yield first, end, False

    def is_deadly(self, row: int) -> bool:
        """Whether it is not computed any more."""
        return self.deaths.get(row, 0) >= DEATHS


def suspects_in(folder: Path) -> Suspects:
    """Those that earlier processes left, the last one's added and written down."""
    found, path = Suspects(), folder / SUSPECTS
    if path.exists():
        read = json.loads(path.read_bytes())
        found = Suspects(
            [(first, end) for first, end in read["ranges"]], {int(k): v for k, v in read["deaths"].items()}
        )
    if rows := died_at(folder):
        found.died(*rows)
        temporary = path.with_name(f"{SUSPECTS}.new")
        temporary.write_text(json.dumps({"ranges": found.ranges, "deaths": found.deaths}), encoding="utf-8")
        temporary.replace(path)
        (folder / UNDER_WAY).unlink()
    return found


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((first, end))
    return merged
