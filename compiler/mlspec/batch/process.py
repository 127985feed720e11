"""The process that computes a batch: started in the bundle, heard, ended with us."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import IO, Any

from mlspec.serving import running
from mlspec_runtime.batch.job import BatchJob, dump_job

_MODULE = "mlspec_runtime.batch"
STOP_S = 30.0
"""To write down what is computed, once it is told to end."""


@dataclass(frozen=True)
class Computing:
    """`events` ends with the process."""

    process: Popen[bytes]
    events: IO[bytes]

    def heard(self) -> Iterator[dict[str, Any]]:
        """What it tells, as it does."""
        for line in self.events:
            event: dict[str, Any] = json.loads(line)
            yield event


@contextmanager
def computing(job: BatchJob, bundle: Path, log: IO[bytes]) -> Iterator[Computing]:
    """Start the process; stop it at the end of the block. It ends by itself if we are killed.

    SIGINT, SIGTERM and SIGHUP end the block by KeyboardInterrupt.
    """
    with ExitStack() as open_here:
        heard, told = os.pipe()
        held, kept = os.pipe()
        events = open_here.enter_context(os.fdopen(heard, "rb"))
        open_here.callback(os.close, kept)
        command = [sys.executable, "-m", _MODULE, dump_job(job), str(told), str(held)]
        try:
            process = open_here.enter_context(running(command, bundle, log, drain_s=STOP_S, descriptors=(told, held)))
        finally:
            os.close(told)
            os.close(held)
        yield Computing(process, events)
