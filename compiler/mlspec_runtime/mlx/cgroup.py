"""How much memory Linux lets this process have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_FIRST = PurePosixPath("sys/fs/cgroup/memory"), "memory.limit_in_bytes"
_SECOND = PurePosixPath("sys/fs/cgroup"), "memory.max"


def system_bytes(root: Path = Path("/")) -> int:
    """The system's memory, or the least that a control group which this process is in allows."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = (_read(root / file).strip() for file in _limit_files(root))
    # "max" is none of version 2, some 2**63 is none of version 1.
    limits = (int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) < 20)
    return min((memory_bytes, *limits))


def _limit_files(root: Path) -> Iterator[PurePosixPath]:
    """Version 1 where it has the memory controller, else version 2; a container may see its own group as the root."""
    lines = _read(root / "proc/self/cgroup").splitlines()
    groups = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    first = next((path for _, controllers, path in groups if "memory" in controllers.split(",")), None)
    second = next((path for number, controllers, path in groups if number == "0" and not controllers), "/")
    (top, name), group = (_SECOND, second) if first is None else (_FIRST, first)
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:depth], name)


def _read(file: Path) -> str:
    """The file's text; nothing if it can't be read: then it limits nothing that we could know of."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
