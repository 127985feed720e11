"""Whether the model's memory comes near its limit: beyond it Metal ends the process in the middle of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec_runtime.errors import ServiceError

NEAR = 0.97
"""Of the limit. What a plan foresees ends below: the limit lies up to 15 % above it, and it is rounded up."""
LASTING_LOOKS = 2
"""A peak of one look is no trouble: a long prompt has been read."""


class MemoryWatch:
    """Given what a runner holds at each look, by kind: `active` is in use, `limit` the most of it. Kept buffers
    (`cache`) don't count: they are freed before the limit is passed. A runner that doesn't tell is never near.
    """

    def __init__(self) -> None:
        self.bytes: Mapping[str, int] = {}
        self._near_looks = 0

    def look(self, memory_bytes: Mapping[str, int]) -> None:
        """Take what the runner tells."""
        self.bytes = dict(memory_bytes)
        limit = self.bytes.get("limit")
        near = bool(limit) and self.bytes.get("active", 0) >= NEAR * (limit or 0)
        self._near_looks = self._near_looks + 1 if near else 0

    def check(self) -> None:
        """Raises ServiceError (503) if it has been near the limit for some looks."""
        if self._near_looks < LASTING_LOOKS:
            return
        active, limit = self.bytes["active"], self.bytes["limit"]
        message = f"the model uses {active} of {limit} bytes; ask for shorter answers, or fewer at once"
        raise ServiceError("memory_near_limit", message, 503)

    def told(self) -> dict[str, Any]:
        """The part of /health."""
        return {f"{kind}_bytes": self.bytes[kind] for kind in ("active", "limit") if kind in self.bytes}
