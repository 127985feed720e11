"""`python -m mlspec_runtime.batch JOB EVENTS LIFELINE` in a bundle's folder: a job as JSON, and two descriptors.

Events are written to one; the other is never written to, and ends when whoever started this has gone.
Exit codes: 0 done (failed rows are told in the last event), 3 an event says why not, 130 told to stop.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from mlspec_runtime.batch.events import Events
from mlspec_runtime.batch.faults import BatchError, unwritable
from mlspec_runtime.batch.job import read_job
from mlspec_runtime.batch.loading import opened_plan, write_logs
from mlspec_runtime.batch.running import run

DONE, FAILED, STOPPED = 0, 3, 130


def main(job: str, descriptor: int, lifeline: int) -> int:
    events = Events(descriptor)
    threading.Thread(target=_end_with, args=(lifeline,), name="mlspec-parent", daemon=True).start()
    try:
        bundle = Path.cwd()
        write_logs(opened_plan(bundle))
        summary = run(read_job(job), bundle, events)
    except (BatchError, OSError) as problem:
        error = problem if isinstance(problem, BatchError) else unwritable(problem)
        events.tell("error", kind=error.kind, message=error.message, help=error.help)
        return FAILED
    except KeyboardInterrupt:
        events.tell("stopped")
        return STOPPED
    events.tell("done", rows=summary.rows, failed=summary.failed)
    return DONE


def _end_with(lifeline: int) -> None:
    """Nobody waits for the rest any more, and what is done is kept."""
    os.read(lifeline, 1)
    os._exit(STOPPED)


if __name__ == "__main__":
    code = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of a model's may go on for ever.
    os._exit(code)
