"""How a service's process began before, in the same run of what starts it: for pauses between starts that end early."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

LOG = logging.getLogger("mlspec.starts")
EARLY_S = 300.0
"""A process that ends sooner after it began to load has ended early."""
FIRST_PAUSE_S = 10.0
MAX_PAUSE_S = 300.0


@dataclass(frozen=True)
class Record:
    """`early` processes in a row ended early before the one that began to load `build` at `began_at`, in Unix time."""

    began_at: float
    early: int
    build: str = ""


def plan_digest(bundle: Path) -> str:
    """What tells a build of this bundle from another: the SHA-256 of its plan, which names all that it is made of."""
    return hashlib.sha256((bundle / "plan.json").read_bytes()).hexdigest()


class Starts:
    """The starts of one run, in `file`. Nothing but a new process mends an abort within Metal or a thread that has
    died, and where that happens again and again the weights shall not be read again and again. `build` is what this
    process loads: another than before it is told in the log, as the bundle's folder was built anew meanwhile.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time, *, build: str = "") -> None:
        self._file = file
        self._clock = clock
        self._build = build
        last = self._last()
        self._tell_other_build(last)
        self.early = self._early(last)
        """How many processes before this one ended early, in a row."""

    def _tell_other_build(self, last: Record | None) -> None:
        if last is not None and last.build != self._build:
            message = "the bundle was built anew since the process before this one began: plan %s, before %s"
            LOG.warning(message + "; the newer build is served from now on", self._build[:12], last.build[:12])

    def _early(self, last: Record | None) -> int:
        if last is None or not 0 <= self._clock() - last.began_at < EARLY_S:
            return 0
        return last.early + 1

    def _last(self) -> Record | None:
        try:
            return Record(**json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as problem:
            LOG.warning("how this service began before can't be read: %s", problem)
            return None

    @property
    def pause_s(self) -> float:
        """How long to wait before the model is loaded: none at first and after one early end, then twice as long each
        time, up to `MAX_PAUSE_S`.
        """
        if self.early < 2:
            return 0.0
        return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.early - 2, 30))

    def begin(self) -> None:
        """Keep that this process loads from now on. The pause doesn't count, or a long one would look like success."""
        part = self._file.with_suffix(".part")
        try:
            part.write_text(json.dumps(asdict(Record(self._clock(), self.early, self._build))), encoding="utf-8")
            part.replace(self._file)
        except OSError as problem:
            LOG.warning("%s: how often this service begins can't be kept: %s", self._file, problem)
