"""MLX's memory limits: the minimum of the plan and of what this computer reports."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .runtime_settings import MemoryLimits

LOG = logging.getLogger("mlspec.mlx_lm")
WORKING_SET = "max_recommended_working_set_size"
MEMORY = ("memory_size", "total_memory")
"""As Metal and CUDA call it."""
SYSTEM_MEMORY = "system memory"
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def reported_bytes(device: Mapping[str, Any]) -> dict[str, int]:
    """What bounds memory here: the GPU's working set and memory, as `mx.device_info()` has them. A Linux CPU has
    neither: then the system's memory, or a container's limit on it.
    """
    found = {name: int(device[name]) for name in (WORKING_SET, *MEMORY) if name in device}
    return found or {SYSTEM_MEMORY: _system_bytes()}


def _system_bytes() -> int:
    system = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip() if _CGROUP_LIMIT.is_file() else "max"
    return min(system, int(limit)) if limit.isdigit() else system


def taken(planned: MemoryLimits, reported: Mapping[str, int]) -> MemoryLimits:
    """The limits to set: what is planned, but no more than there is. More wired memory than the working set is an
    error of MLX's, and without a working set there is nothing to wire.
    """
    most = min(reported.values(), default=None)
    wired_most = reported.get(WORKING_SET)
    return MemoryLimits(
        memory_limit_bytes=_bounded(planned.memory_limit_bytes, most),
        cache_limit_bytes=_bounded(planned.cache_limit_bytes, most),
        wired_limit_bytes=None if wired_most is None else _bounded(planned.wired_limit_bytes, wired_most),
    )


def _bounded(planned: int | None, most: int | None) -> int | None:
    return planned if planned is None or most is None else min(planned, most)


def tell(planned: MemoryLimits, limits: MemoryLimits, reported: Mapping[str, int]) -> None:
    """Log what was planned and what is taken."""
    for name, wanted in vars(planned).items():
        if wanted is None:
            continue
        got = getattr(limits, name)
        if got == wanted:
            LOG.info("%s: %d, as planned", name, got)
        elif got is None:
            LOG.info("%s: %d planned; there is no such limit on this computer", name, wanted)
        else:
            told = ", ".join(f"{key} {value}" for key, value in reported.items())
            LOG.warning("%s: %d planned, %d taken: this computer has less (%s)", name, wanted, got, told)
