"""What a batch tells whoever started it, a JSON object a line."""

from __future__ import annotations

import json
import os
import time
from typing import Any

PAUSE_S = 0.5
"""Between two words about progress."""


class Events:
    """Writes to an open descriptor; to nobody without one."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._told_at = 0.0

    def tell(self, event: str, **more: Any) -> None:
        """Say it now."""
        if self._descriptor is not None:
            os.write(self._descriptor, json.dumps({"event": event, **more}).encode() + b"\n")

    def progress(self, **more: Any) -> None:
        """Say how far it is, unless that was said just before."""
        now = time.monotonic()
        if now - self._told_at >= PAUSE_S:
            self._told_at = now
            self.tell("progress", **more)
