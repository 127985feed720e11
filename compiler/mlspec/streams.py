"""Standard output and error that never end a command: readers go away, disks fill up, terminals know few letters."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class Tolerant:
    """A stream that swallows what can't be written any more; `problem` is why."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.problem: OSError | None = None

    def write(self, text: str) -> int:
        if self.problem is None:
            try:
                return self._stream.write(text)
            except OSError as problem:
                self._give_up(problem)
        return len(text)

    def flush(self) -> None:
        if self.problem is None:
            try:
                self._stream.flush()
            except OSError as problem:
                self._give_up(problem)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, problem: OSError) -> None:
        """Let what is buffered go to nowhere, or the interpreter's last flush would complain."""
        self.problem = problem
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    @property
    def failed(self) -> bool:
        """Whether something is lost that somebody waits for: a reader that went away by itself doesn't."""
        return self.problem is not None and not isinstance(self.problem, BrokenPipeError)


@contextmanager
def tolerant() -> Iterator[Tolerant]:
    """Make stdout and stderr tolerant within the block; gives stdout."""
    before = sys.stdout, sys.stderr
    out, err = (Tolerant(_usable(stream)) for stream in before)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _usable(stream: TextIO | None) -> TextIO:
    """The stream, or a sink where it is closed. Letters that its encoding lacks are escaped."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - lives as long as the process
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return stream
