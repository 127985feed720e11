"""What `mlspec doctor` finds, and the computer that it looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlspec.hardware.asking import Ask

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: a problem keeps services from running here, a warning makes them run worse."""

    name: str
    status: Status
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Here:
    """The computer: its system and processor as Python names them, and how to ask it for more.

    `ask` runs a program, `which` finds one, `root` is the folder in which Linux' files are looked for, `stop` ends what
    is still asked.
    """

    system: str
    processor: str
    python: tuple[int, int, int]
    executable: str
    libc: tuple[str, str]
    ask: Ask
    which: Callable[[str], str | None]
    root: Path = Path("/")
    stop: Callable[[], None] = lambda: None

    @property
    def is_mac(self) -> bool:
        return self.system == "darwin"
