"""A line on stderr while a command takes long; only where a person looks at it. What is to stay is told everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PATIENCE_S = 1.0
_CLEAR = "\r\x1b[K"


class Progress:
    """Hands on the paths of a long work, saying from the second second on which one it is at."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._shown = False

    def __iter__(self) -> Iterator[Path]:
        begun_at = time.monotonic()
        for number, path in enumerate(self._paths, 1):
            if time.monotonic() - begun_at > PATIENCE_S:
                self.say(f"{number} of {len(self._paths)}: {path.name}")
            yield path
        self.clear()

    def say(self, text: str) -> None:
        """Put a text into the line, in place of what it says. One that ends with a newline stays, also in a file."""
        if text.endswith("\n"):
            self.clear()
            sys.stderr.write(text)
            sys.stderr.flush()
        elif sys.stderr.isatty():
            sys.stderr.write(f"{_CLEAR}{text}")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._shown = False
