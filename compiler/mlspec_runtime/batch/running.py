"""A whole batch: what is missing of the output is computed, then all of it is put in its place."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlspec_runtime.batch.columns import output_columns
from mlspec_runtime.batch.computers import Rows
from mlspec_runtime.batch.dying import Suspects, UnderWay, suspects_in
from mlspec_runtime.batch.events import Events
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.job import BatchJob
from mlspec_runtime.batch.keeping import kept_columns
from mlspec_runtime.batch.loading import computer_of, load, opened_plan
from mlspec_runtime.batch.local import Manner, compute_all
from mlspec_runtime.batch.model_log import ModelLog
from mlspec_runtime.batch.parts import Computed, PartWriter, gaps
from mlspec_runtime.batch.sinks import Sink, sink
from mlspec_runtime.batch.sources import Source
from mlspec_runtime.batch.sources.opening import open_source
from mlspec_runtime.batch.work import Summary, Work, begun_for, locked
from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Runner


@dataclass
class Batch:
    """All that a run consists of; nothing is loaded yet."""

    job: BatchJob
    bundle: Path
    plan: RuntimePlan
    source: Source
    runner: Runner
    rows: Rows
    sink: Sink
    events: Events

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Of the input: what the model takes and the output keeps."""
        names = (*self.rows.computer.reads, *(column.name for column in self.rows.kept))
        return tuple(dict.fromkeys(names))


def prepared(job: BatchJob, bundle: Path, events: Events) -> Batch:
    """Look at all that is given. Raises BatchError: something doesn't fit."""
    plan = opened_plan(bundle)
    source = open_source(job.input)
    names = source.names()
    runner, computer = computer_of(plan, bundle, names, job.columns, job.batch_rows)
    kept = kept_columns(source, job.keep, names)
    written = sink(job.format, output_columns(kept, computer.columns))
    rows = Rows(computer, kept, ModelLog(), "predict")
    return Batch(job, bundle, plan, source, runner, rows, written, events)


def run(job: BatchJob, bundle: Path, events: Events) -> Summary:
    """Compute what is missing and put the output in its place. Raises BatchError, KeyboardInterrupt (SIGTERM)."""
    with locked(job) as work:
        batch = prepared(job, bundle, events)
        summary = work.begin(begun_for(job, batch.source.files, bundle))
        if summary is not None:
            return summary
        _compute(batch, work)
        if open_source(job.input).files != batch.source.files:
            raise BatchError("changed", "the input changed while it was read", "give --restart to begin again")
        events.tell("joining")
        return work.join(batch.sink)


def _compute(batch: Batch, work: Work) -> None:
    if batch.job.engine == "ray":
        from mlspec_runtime.batch.on_ray import compute_on_ray

        compute_on_ray(batch, work)
        return
    # Before the model is loaded: whatever that ends, it was no row.
    suspects = suspects_in(work.folder)
    with batch.rows.log.listening():
        load(batch.runner, batch.plan, batch.bundle)
        try:
            asyncio.run(_compute_here(batch, work, suspects))
        finally:
            batch.runner.close()


async def _compute_here(batch: Batch, work: Work, suspects: Suspects) -> None:
    done = Progress(batch, work)
    under_way = UnderWay(work.folder)
    # What is computed by then becomes a part.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with part_writer(batch, work) as writer:
        try:
            for first, end, alone in list(suspects.stretches(gaps(work.parts()))):
                pieces = iter(batch.source.pieces(batch.columns_read, first))
                manner = Manner(alone, suspects, under_way)
                await compute_all(batch.runner, batch.rows, pieces, end, done.through(writer.add), manner)
                writer.commit()
        except asyncio.CancelledError:
            writer.commit()
            raise KeyboardInterrupt from None
        finally:
            under_way.close()


def part_writer(batch: Batch, work: Work) -> PartWriter:
    """For parts of the output's format."""
    job = batch.job
    return PartWriter(work.folder, job.format, batch.sink, job.rows_per_part, job.part_s)


class Progress:
    """Tells how far a batch is."""

    def __init__(self, batch: Batch, work: Work) -> None:
        parts = work.parts()
        self._events = batch.events
        self._known = sum(part.end - part.first for part in parts)
        self._failed = sum(part.failed for part in parts)
        self._new = 0
        self._total_rows = batch.source.rows()
        self._total_bytes = sum(file.size_bytes for file in batch.source.files)
        self._events.tell("started", rows=self._known, failed=self._failed, total=self._total_rows)

    def through(self, take: Callable[[Computed], None]) -> Callable[[Computed], None]:
        """The same, and it is told."""

        def taken(computed: Computed) -> None:
            take(computed)
            self.more(computed.end - computed.first, len(computed.failures), computed.read_bytes)

        return taken

    def more(self, rows: int, failed: int, read_bytes: int) -> None:
        """So many rows are done; with them, so much of the input."""
        self._new += rows
        self._failed += failed
        share = self._known + self._new, self._total_rows
        done = share[0] / share[1] if share[1] else read_bytes / max(1, self._total_bytes)
        self._events.progress(rows=share[0], new=self._new, failed=self._failed, done=min(1.0, done))
