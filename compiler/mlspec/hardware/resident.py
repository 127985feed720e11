"""A Mac's working set: as it was measured, as `iogpu.wired_limit_mb` sets it, or by the rule."""

from __future__ import annotations

from dataclasses import dataclass

from mlspec.hardware.fields import Fields, origin, value
from mlspec.hardware.working_set import by_rule, default_of, is_overridden

_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class WorkingSet:
    """`default_bytes` is what it would be without an override; None if there is none in force."""

    bytes: int
    origin: str
    default_bytes: int | None = None

    @property
    def warning(self) -> str | None:
        """What is to be said of an override."""
        if self.default_bytes is None:
            return None
        return (
            f"iogpu.wired_limit_mb is set: the GPU may keep {self.bytes / _GIB:.1f} GiB where "
            f"{self.default_bytes / _GIB:.1f} GiB are the default; a restart undoes that unless something sets it again"
        )


def working_set(known: Fields, memory_bytes: int) -> WorkingSet:
    """What Metal lets a process keep resident on this Mac, never more than its memory."""
    default_bytes, row = by_rule(memory_bytes, value(known, "macos"))
    found = _measured(known) or _by_limit(known, default_bytes) or WorkingSet(default_bytes, row)
    return WorkingSet(min(found.bytes, memory_bytes), found.origin, found.default_bytes)


def _measured(known: Fields) -> WorkingSet | None:
    measured_bytes, buffer_bytes = value(known, "working_set_bytes"), value(known, "max_buffer_bytes")
    if not measured_bytes:
        return None
    overridden = buffer_bytes is not None and is_overridden(measured_bytes, buffer_bytes)
    return WorkingSet(
        measured_bytes, origin(known, "working_set_bytes"), default_of(buffer_bytes) if overridden else None
    )


def _by_limit(known: Fields, default_bytes: int) -> WorkingSet | None:
    limit_mb = value(known, "wired_limit_mb")
    return WorkingSet(limit_mb * _MIB, origin(known, "wired_limit_mb"), default_bytes) if limit_mb else None
