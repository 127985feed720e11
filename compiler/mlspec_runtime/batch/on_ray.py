"""The rows on Ray: each of its actors loads the model and computes parts by itself, which lie in the same folder.

Ray Data hands out which rows a part has, and no row itself passes through it: so the parts, what is kept and what is
done again are the same as without Ray. All computers of a cluster must see the input, the bundle and the output at the
same paths.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec_runtime.batch.events import Events
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.job import BatchJob, dump_job, read_job
from mlspec_runtime.batch.loading import load, write_logs
from mlspec_runtime.batch.local import compute_all
from mlspec_runtime.batch.parts import Computed, PartWriter, gaps

if TYPE_CHECKING:
    from mlspec_runtime.batch.running import Batch
    from mlspec_runtime.batch.work import Work

ADDRESS = "RAY_ADDRESS"
"""Of a cluster to use; without it one is started, for this computer alone."""
_HERE = "127.0.0.1"
PARTS_AN_ACTOR = 8
"""At least, where there are rows enough, so that all end at about the same time."""


def compute_on_ray(batch: Batch, work: Work) -> None:
    """Compute all rows that no part has. Raises BatchError."""
    # Imports this module in turn.
    from mlspec_runtime.batch.running import Progress

    ray = _started(batch.bundle)
    try:
        total = batch.source.rows()
        if total is None:
            total = _counted(batch)
        actors = max(1, int(ray.cluster_resources().get("CPU", 1)) // _cpus_an_actor())
        ranges = list(_ranges(gaps(work.parts()), total, _rows_of_a_part(batch.job, total, actors)))
        done = Progress(batch, work)
        if ranges:
            _hand_out(ray, batch, ranges, min(actors, len(ranges)), done)
    finally:
        ray.shutdown()


def _started(bundle: Path) -> Any:
    try:
        import ray
    except ImportError as problem:
        message = "--engine ray needs ray, which isn't installed here"
        raise BatchError("installed", message, "pip install 'ray[data]'") from problem
    environment = {"env_vars": {"PYTHONPATH": str(bundle)}}
    address = os.environ.get(ADDRESS)
    if address:
        ray.init(address=address, runtime_env=environment, log_to_driver=False)
    else:
        ray.init(
            address="local",
            _node_ip_address=_HERE,
            include_dashboard=False,
            runtime_env=environment,
            log_to_driver=False,
        )
    return ray


def _cpus_an_actor() -> int:
    return 1


def _counted(batch: Batch) -> int:
    """The rows of an input that only reading counts."""
    rows = 0
    for piece in batch.source.pieces((), 0):
        rows = piece.first + piece.rows
    return rows


def _rows_of_a_part(job: BatchJob, total: int, actors: int) -> int:
    return max(1, min(job.rows_per_part, -(-total // (actors * PARTS_AN_ACTOR))))


def _ranges(missing: Iterator[tuple[int, int | None]], total: int, rows: int) -> Iterator[tuple[int, int]]:
    for first, end in missing:
        stop = total if end is None else end
        for at in range(first, stop, rows):
            yield at, min(at + rows, stop)


def _hand_out(ray: Any, batch: Batch, ranges: list[tuple[int, int]], actors: int, done: Any) -> None:
    import ray.data as data
    from ray.exceptions import RayError

    data.DataContext.get_current().enable_progress_bars = False
    made = {"job": dump_job(batch.job), "bundle": str(batch.bundle), "folder": str(batch.job.work)}
    rows = data.from_items([{"first": first, "end": end} for first, end in ranges], override_num_blocks=len(ranges))
    computed = rows.map(
        PartActor, fn_constructor_kwargs=made, compute=data.ActorPoolStrategy(size=actors), num_cpus=_cpus_an_actor()
    )
    try:
        for row in computed.iter_rows():
            if row["fault"]:
                raise BatchError("model", row["fault"])
            done.more(int(row["rows"]), int(row["failed"]), 0)
    except RayError as problem:
        told = str(problem).strip().splitlines()[-1]
        raise BatchError("engine", f"Ray could not compute a part: {told}", "the same command goes on") from problem


class PartActor:
    """Lives in a process of Ray's with the model, and writes parts."""

    def __init__(self, job: str, bundle: str, folder: str) -> None:
        # Imports this module in turn.
        from mlspec_runtime.batch.running import prepared

        self._batch = prepared(read_job(job), Path(bundle), Events(None))
        write_logs(self._batch.plan)
        self._folder = Path(folder)
        load(self._batch.runner, self._batch.plan, self._batch.bundle)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Compute one part. What keeps the model from going on is in the answer, as Ray would try again."""
        first, end = int(row["first"]), int(row["end"])
        batch, counts = self._batch, {"rows": 0, "failed": 0}
        with PartWriter(self._folder, batch.job.format, batch.sink, end - first + 1, math.inf) as writer:
            try:
                asyncio.run(self._compute(first, end, partial(_add, writer, counts)))
            except BatchError as problem:
                return {**counts, "fault": problem.message}
            writer.commit()
        return {**counts, "fault": ""}

    async def _compute(self, first: int, end: int, take: Any) -> None:
        batch = self._batch
        pieces = iter(batch.source.pieces(batch.columns_read, first))
        with batch.rows.log.listening():
            await compute_all(batch.runner, batch.rows, pieces, end, take)


def _add(writer: PartWriter, counts: dict[str, int], computed: Computed) -> None:
    writer.add(computed)
    counts["rows"] += computed.end - computed.first
    counts["failed"] += len(computed.failures)
