"""The processes that a process has started, those in sessions of their own too."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_PS = ("ps", "-A", "-o", "pid=,ppid=")


def descendants(pid: int) -> list[int]:
    """The ids of its children, and theirs, nearest first; none of a process that has ended, whose children have another
    parent. A process that nobody has waited for yet is among them.
    """
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in _parents():
        children[parent].append(child)
    found = list(children[pid])
    for one in found:
        found += children[one]
    return found


def signal_all(pids: list[int], number: int) -> None:
    """Send each a signal; those that have ended meanwhile are passed over."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _parents() -> Iterator[tuple[int, int]]:
    """Every process of this computer and its parent. Small images have no `ps`, and a Mac has no /proc."""
    return _of_proc() if Path(_PROC, "self/stat").exists() else _of_ps()


def _of_proc() -> Iterator[tuple[int, int]]:
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                # The name, in brackets, may hold anything; after it come the state and the parent.
                yield int(folder.name), int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])


def _of_ps() -> Iterator[tuple[int, int]]:
    told = subprocess.run(_PS, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a list of our own
    for line in told.splitlines():
        pid, parent = line.split()
        yield int(pid), int(parent)
