"""Running a program to hear what it says: an argument list, a time limit, an answer whatever happens."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import IO


@dataclass(frozen=True)
class Answer:
    """`status` is the exit status, negative for a signal; None if it didn't run or didn't end: `trouble` says why."""

    output: str = ""
    status: int | None = None
    trouble: str = ""

    @property
    def fine(self) -> bool:
        return self.status == 0

    @property
    def ending(self) -> str:
        """How it ended, where it says nothing of it itself: `fails with status 3`."""
        if self.status is None:
            return "doesn't answer"
        return f"fails with status {self.status}" if self.status >= 0 else f"is ended by signal {-self.status}"


Ask = Callable[[Sequence[str], float], Answer]
"""Takes the arguments and the seconds that it may take."""

MOST_BYTES = 64 * 2**10
"""That are read of each of a program's two streams: what is asked for has a few kilobytes."""
_STEP_S = 0.2
"""How soon it is noticed that nobody waits any more, or that a program has ended and left its streams to others."""


def ask(command: Sequence[str], timeout_s: float, stopped: Event | None = None) -> Answer:
    """Run a program without input; what it prints is decoded as UTF-8, whatever it is.

    It ends, and so do those that it started, when its time is over, when it prints more than `MOST_BYTES`, and once
    `stopped` is set.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the callers' fixed argument lists
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as problem:
        return Answer(trouble=(problem.strerror or "it can't be run").lower())
    with process:
        try:
            heard = _Heard(process)
            trouble = heard.until(time.monotonic() + timeout_s, stopped or Event())
        finally:
            _end(process)
    if trouble is not None:
        return Answer(trouble=trouble or f"it didn't answer within {timeout_s:g} s")
    output, errors = (bytes(text).decode(errors="replace") for text in heard.texts)
    return Answer(output, process.returncode, _last_line(errors) if process.returncode else "")


class _Heard:
    """What a program has printed so far: on standard output, and on the stream of errors."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._streams: list[IO[bytes]] = [one for one in (process.stdout, process.stderr) if one is not None]
        self.texts = (bytearray(), bytearray())

    def until(self, end_s: float, stopped: Event) -> str | None:
        """Listen until it ends: None then, else why that was not waited for; empty if its time was over."""
        with selectors.DefaultSelector() as selector:
            for stream, text in zip(self._streams, self.texts, strict=True):
                selector.register(stream, selectors.EVENT_READ, text)
            while not self._ended(selector):
                if stopped.is_set():
                    return "nobody waits for it"
                if time.monotonic() >= end_s:
                    return ""
                if any(len(text) > MOST_BYTES for text in self.texts):
                    return f"it printed more than {MOST_BYTES // 2**10} KiB"
        return None

    def _ended(self, selector: selectors.BaseSelector) -> bool:
        """Read what is there; whether the program has ended and nothing more comes."""
        if not selector.get_map():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STEP_S)
            return self._process.returncode is not None
        ended = self._process.poll() is not None
        ready = selector.select(0 if ended else _STEP_S)
        for key, _ in ready:
            part = os.read(key.fd, MOST_BYTES)
            key.data.extend(part)
            if not part:
                selector.unregister(key.fileobj)
        return ended and not ready


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program if it still runs, and those that it started in any case."""
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only ended ones are left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
