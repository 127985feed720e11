"""`mlspec predict`: build a spec and run its model over all rows of a file."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mlspec.batch.faults import EndedError, ended, told
from mlspec.batch.process import computing
from mlspec.batch.showing import Showing
from mlspec.commands import surroundings
from mlspec.commands.predict_asked import job_of
from mlspec.commands.serve import built_for_host
from mlspec.commands.test import tail
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, INTERRUPTED, OK
from mlspec_runtime.batch.dying import died_at
from mlspec_runtime.batch.job import BatchJob

MOST_ENDS = 20
"""Of processes in one run, at single rows: with more of them it isn't the rows' fault."""


def run(options: Namespace) -> int:
    job = job_of(options, surroundings(options).working_folder)
    built = built_for_host(options)
    if isinstance(built, int):
        return built
    _, bundle = built
    showing = Showing()
    try:
        with tempfile.TemporaryFile() as log:
            last = _last_of(job, bundle, log, showing)
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped; what is done is kept in {job.work}: the same command goes on from there\n")
        return INTERRUPTED
    print(f"{last['rows'] - last['failed']:,} rows in {options.output}, {last['failed']:,} failed", flush=True)
    if last["failed"]:
        print(f"the failed rows and why they failed: {options.failed or f'{options.output}.failed.jsonl'}")
    return FINDINGS if last["failed"] else OK


def _last_of(job: BatchJob, bundle: Path, log: IO[bytes], showing: Showing) -> dict[str, Any]:
    """As `_computed`; another process goes on where one ended at a single row, which is left out after its second end.

    Raises:
        CommandError: as `_computed`.
    """
    for _ in range(MOST_ENDS):
        try:
            return _computed(job, bundle, log, showing)
        except EndedError:
            rows = died_at(job.work)
            if rows is None or rows[1] - rows[0] > 1:
                raise
            sys.stderr.write(f"the process that computes ended at row {rows[0]:,}: another one goes on\n")
            job = replace(job, restart=False)
    return _computed(job, bundle, log, showing)


def _computed(job: BatchJob, bundle: Path, log: IO[bytes], showing: Showing) -> dict[str, Any]:
    """The last event of a batch that went to its end.

    Raises:
        CommandError: it didn't.
    """
    with computing(job, bundle, log) as at_work:
        try:
            for event in at_work.heard():
                if event["event"] == "done":
                    return event
                if event["event"] == "error":
                    raise told(event["kind"], event["message"], event["help"])
                if event["event"] != "stopped":
                    showing.show(event)
            raise ended(at_work.process.wait(), died_at(job.work))
        except CommandError as error:
            showing.clear()
            if error.failed:
                sys.stderr.write(tail(log))
            raise
        finally:
            showing.clear()
