"""What a Linux computer lets this process have: memory within its control group, processors, an NVIDIA GPU."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mlspec.hardware.asking import Ask
from mlspec.hardware.fields import Fields

_GIB = 2**30
_NVIDIA = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
_PATIENCE_S = 10.0
_TOTAL = re.compile(r"^MemTotal:\s+(\d{1,15}) kB$", re.MULTILINE | re.ASCII)


def linux_fields(ask: Ask, root: Path = Path("/")) -> Fields:
    """Memory, processors and GPU memory, each with the file or command that says so."""
    found: Fields = {"cpus": (len(os.sched_getaffinity(0)), "here:processor affinity")}
    memory = min(filter(None, (_total(root), _limit(root))), default=None)
    if memory is not None:
        found["memory_gb"] = (memory[0] / _GIB, f"here:{memory[1]}")
    gpu_bytes = nvidia_bytes(ask)
    if gpu_bytes is not None:
        found["gpu_memory_gb"] = (gpu_bytes / _GIB, "here:nvidia-smi")
    return found


def nvidia_bytes(ask: Ask) -> int | None:
    """The memory of the smallest NVIDIA GPU; None if there is none. A service takes one GPU, whichever it gets."""
    answer = ask(_NVIDIA, _PATIENCE_S)
    sizes_mib = [int(line) for line in answer.output.split() if line.isascii() and line.isdecimal() and len(line) < 10]
    return min(sizes_mib) * 2**20 if answer.fine and sizes_mib else None


def _total(root: Path) -> tuple[int, str] | None:
    match = _TOTAL.search(_read(root / "proc/meminfo"))
    return (int(match[1]) * 1024, "/proc/meminfo") if match else None


def _limit(root: Path) -> tuple[int, str] | None:
    """The least that a control group which this process is in allows, in bytes."""
    limits = ((_read(root / str(file).lstrip("/")).strip(), str(file)) for file in _limit_files(root))
    return min(((int(text), file) for text, file in limits if re.fullmatch(r"\d{1,20}", text, re.ASCII)), default=None)


def _limit_files(root: Path) -> Iterator[PurePosixPath]:
    """Version 1 where it has the memory controller, else version 2; a container may see its own group as the root."""
    groups = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines() if line.count(":") >= 2]
    first = next((path for _, controllers, path in groups if "memory" in controllers.split(",")), None)
    second = next((path for number, controllers, path in groups if number == "0" and not controllers), None)
    if first is not None:
        yield from _upwards(PurePosixPath("/sys/fs/cgroup/memory"), first, "memory.limit_in_bytes")
    elif second is not None:
        yield from _upwards(PurePosixPath("/sys/fs/cgroup"), second, "memory.max")


def _upwards(top: PurePosixPath, group: str, name: str) -> Iterator[PurePosixPath]:
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:depth], name)


def _read(file: Path) -> str:
    """The file's text; nothing if it isn't there or can't be read: then it limits nothing that we could know of."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
