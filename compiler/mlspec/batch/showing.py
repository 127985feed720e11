"""How far a batch is: a line that changes on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from mlspec.commands.progress import Progress

PLAIN_PAUSE_S = 30.0
_NEAR = 0.2
"""How much the newest pace counts in the one that is shown."""


class Showing:
    """Tells people what the process tells us."""

    def __init__(self) -> None:
        self._line = Progress([])
        self._told_at = time.monotonic()
        self._before: tuple[float, int, float] | None = None
        self._rows_per_s = 0.0
        self._share_per_s = 0.0
        self.rows = 0

    def show(self, event: dict[str, Any]) -> None:
        """An event `started`, `progress` or `joining`."""
        if event["event"] == "started":
            self.rows = event["rows"]
            if self.rows:
                self._line.say(f"going on after {self.rows:,} rows that are done\n")
            self._line.say("loading the model")
        elif event["event"] == "joining":
            self._line.say("putting the output together")
        else:
            self._progress(event)

    def _progress(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        self.rows = event["rows"]
        self._measure(now, event["new"], event["done"])
        plain = not sys.stderr.isatty()
        if plain and now - self._told_at < PLAIN_PAUSE_S:
            return
        self._told_at = now
        self._line.say(self._text(event) + ("\n" if plain else ""))

    def _measure(self, now: float, new: int, done: float) -> None:
        if self._before is not None and now > self._before[0]:
            took_s = now - self._before[0]
            rows_per_s, share_per_s = (new - self._before[1]) / took_s, (done - self._before[2]) / took_s
            near = _NEAR if self._rows_per_s else 1.0
            self._rows_per_s += near * (rows_per_s - self._rows_per_s)
            self._share_per_s += near * (share_per_s - self._share_per_s)
        self._before = now, new, done

    def _text(self, event: dict[str, Any]) -> str:
        parts = [f"{event['rows']:,} rows", f"{100 * event['done']:.0f} %"]
        if self._rows_per_s > 0:
            parts.append(
                f"{self._rows_per_s:,.0f} rows/s" if self._rows_per_s >= 10 else f"{self._rows_per_s:.2f} rows/s"
            )
        if self._share_per_s > 0:
            parts.append(f"{duration((1 - event['done']) / self._share_per_s)} left")
        if event["failed"]:
            parts.append(f"{event['failed']:,} failed")
        return ", ".join(parts)

    def clear(self) -> None:
        """Take the line away."""
        self._line.clear()


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
