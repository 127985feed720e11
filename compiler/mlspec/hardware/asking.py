"""Running a program to hear what it says: an argument list, a time limit, an answer whatever happens."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """`status` is the exit status, negative for a signal; None if it didn't run or didn't end: `trouble` says why."""

    output: str = ""
    status: int | None = None
    trouble: str = ""

    @property
    def fine(self) -> bool:
        return self.status == 0


Ask = Callable[[Sequence[str], float], Answer]
"""Takes the arguments and the seconds that it may take."""

_MOST_CHARACTERS = 4 * 2**20


def ask(command: Sequence[str], timeout_s: float) -> Answer:
    """Run a program without input; what it prints is decoded as UTF-8, whatever it is."""
    try:
        done = subprocess.run(  # noqa: S603 - the callers' fixed argument lists
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(trouble=f"it didn't answer within {timeout_s:g} s")
    except OSError as problem:
        return Answer(trouble=(problem.strerror or "it can't be run").lower())
    output = done.stdout.decode(errors="replace")[:_MOST_CHARACTERS]
    return Answer(output, done.returncode, _last_line(done.stderr.decode(errors="replace")) if done.returncode else "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
