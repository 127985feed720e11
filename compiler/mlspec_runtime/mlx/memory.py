"""MLX's memory limits: the minimum of the plan and of what this computer reports."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from mlspec_runtime.mlx.cgroup import system_bytes

LOG = logging.getLogger("mlspec.mlx")
WORKING_SET = "max_recommended_working_set_size"
MEMORY = ("memory_size", "total_memory")
"""As Metal and CUDA call it."""
SYSTEM_MEMORY = "system memory"
MIB = 1 << 20
GIB = 1 << 30

MAC_SHARE = 0.95
"""Of a Mac's memory, whatever its working set is."""
MARGIN = 0.05
LEAST_MARGIN_BYTES = 256 * MIB
"""Of the working set what stays free, for buffers that MLX keeps and for Metal's own. The planner has the same."""
CACHE_SHARE = 0.05
MOST_CACHE_BYTES = GIB
"""Freed buffers that MLX keeps where the plan doesn't say how many."""


@dataclass(frozen=True)
class MemoryLimits:
    """What MLX may take, each in bytes: as a guide for all of it, for freed memory that it keeps, and for memory that
    the system keeps resident (macOS 15 or later). None: as MLX has it.
    """

    memory_limit_bytes: int | None = None
    cache_limit_bytes: int | None = None
    wired_limit_bytes: int | None = None


class Allocator(Protocol):
    """What of the module `mlx.core` has to do with memory."""

    def set_memory_limit(self, limit: int, /) -> int: ...
    def set_cache_limit(self, limit: int, /) -> int: ...
    def set_wired_limit(self, limit: int, /) -> int: ...
    def get_active_memory(self) -> int: ...
    def get_cache_memory(self) -> int: ...
    def get_peak_memory(self) -> int: ...
    def get_memory_limit(self) -> int: ...


def reported_bytes(device: Mapping[str, Any]) -> dict[str, int]:
    """What bounds memory here: the GPU's working set and memory, as `mx.device_info()` has them. A Linux CPU has
    neither: then the system's memory, or a container's limit on it.
    """
    found = {name: int(device[name]) for name in (WORKING_SET, *MEMORY) if device.get(name)}
    return found or {SYSTEM_MEMORY: system_bytes()}


def available_bytes(reported: Mapping[str, int]) -> int | None:
    """What a service may take here: of a working set all but a margin; elsewhere the memory. None: not known."""
    ceiling = _ceiling(reported)
    if ceiling is None or WORKING_SET not in reported:
        return ceiling
    return max(0, ceiling - max(int(ceiling * MARGIN), LEAST_MARGIN_BYTES))


def _ceiling(reported: Mapping[str, int]) -> int | None:
    """What MLX must stay below, with the buffers that it keeps."""
    on_mac = WORKING_SET in reported
    sizes = [int(size * MAC_SHARE) if on_mac and name in MEMORY else size for name, size in reported.items()]
    return min(sizes, default=None)


def taken(planned: MemoryLimits, reported: Mapping[str, int]) -> MemoryLimits:
    """The limits to set: what is planned, but no more than there is. MLX's own are far more than there is, so where
    nothing is planned a Mac has what is available, and where memory isn't a GPU's own the cache is bounded.

    More wired memory than the working set is an error of MLX's, and without a working set there is nothing to wire.
    """
    on_mac, available = WORKING_SET in reported, available_bytes(reported)
    memory = _least(planned.memory_limit_bytes, available, even_alone=on_mac)
    left = available if not on_mac or memory is None else max(0, (_ceiling(reported) or 0) - memory)
    wanted = planned.cache_limit_bytes
    return MemoryLimits(
        memory_limit_bytes=memory,
        cache_limit_bytes=_least(_usual_cache(reported) if wanted is None else wanted, left),
        wired_limit_bytes=_least(planned.wired_limit_bytes, available) if on_mac else None,
    )


def _usual_cache(reported: Mapping[str, int]) -> int | None:
    if WORKING_SET in reported:
        return min(int(reported[WORKING_SET] * CACHE_SHARE), MOST_CACHE_BYTES)
    return MOST_CACHE_BYTES if SYSTEM_MEMORY in reported else None


def _least(wanted: int | None, most: int | None, *, even_alone: bool = False) -> int | None:
    if wanted is None:
        return most if even_alone else None
    return wanted if most is None else min(wanted, most)


def tell(planned: MemoryLimits, limits: MemoryLimits, reported: Mapping[str, int]) -> None:
    """Log what was planned and what is taken."""
    of_computer = ", ".join(f"{key} {value}" for key, value in reported.items())
    for name in (field.name for field in fields(MemoryLimits)):
        wanted, got = getattr(planned, name), getattr(limits, name)
        if wanted is None and got is not None:
            LOG.info("%s: %d, as nothing is planned (%s)", name, got, of_computer)
        elif got == wanted:
            if wanted is not None:
                LOG.info("%s: %d, as planned", name, got)
        elif got is None:
            LOG.info("%s: %d planned; there is no such limit on this computer", name, wanted)
        else:
            LOG.warning("%s: %d planned, %d taken: this computer has less (%s)", name, wanted, got, of_computer)


def set_limits(planned: MemoryLimits, reported: Mapping[str, int], mlx: Allocator) -> MemoryLimits:
    """Set MLX's limits, before anything is loaded; the answer are those that were taken."""
    limits = taken(planned, reported)
    tell(planned, limits, reported)
    if limits.memory_limit_bytes is not None:
        mlx.set_memory_limit(limits.memory_limit_bytes)
    if limits.cache_limit_bytes is not None:
        mlx.set_cache_limit(limits.cache_limit_bytes)
    if limits.wired_limit_bytes is not None:
        mlx.set_wired_limit(limits.wired_limit_bytes)
    return limits


def memory_bytes(mlx: Allocator) -> dict[str, int]:
    """What MLX holds and has held, and what it may hold. From any thread."""
    held = {"active": mlx.get_active_memory(), "cache": mlx.get_cache_memory(), "peak": mlx.get_peak_memory()}
    return {**held, "limit": mlx.get_memory_limit()}
