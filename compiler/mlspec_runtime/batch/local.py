"""The rows in this process, in order, as many requests under way as the model takes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlspec_runtime.batch.computers import Rows
from mlspec_runtime.batch.dying import Suspects, UnderWay, process_died
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.parts import Computed
from mlspec_runtime.batch.pieces import Piece
from mlspec_runtime.protocol import Runner

WINDOW = 8
"""So many times what is under way may be done and wait for the row before it."""
LOOK_S = 1.0


@dataclass
class Manner:
    """How rows are computed: `alone`, one after the other, or many at once; `under_way` is told which."""

    alone: bool = False
    suspects: Suspects = field(default_factory=Suspects)
    under_way: UnderWay | None = None

    async def computed(self, rows: Rows, unit: Piece) -> Computed:
        """What came of a unit. Raises BatchError."""
        if self.alone and self.suspects.is_deadly(unit.first):
            return rows.refused(unit, process_died())
        if self.under_way is None:
            return await rows.computed(unit)
        self.under_way.begin(unit.first, unit.first + unit.rows)
        try:
            return await rows.computed(unit)
        finally:
            self.under_way.end(unit.first)


async def compute_all(
    runner: Runner,
    rows: Rows,
    pieces: Iterator[Piece],
    end: int | None,
    take: Callable[[Computed], None],
    manner: Manner | None = None,
) -> None:
    """Compute rows up to `end` (None: all) and hand them to `take` in their order. Raises BatchError."""
    work = asyncio.ensure_future(_in_order(rows, pieces, end, take, manner or Manner()))
    watch = asyncio.ensure_future(_fault(runner))
    try:
        await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise watch.result()
        work.result()
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _in_order(
    rows: Rows, pieces: Iterator[Piece], end: int | None, take: Callable[[Computed], None], manner: Manner
) -> None:
    at_once = 1 if manner.alone else rows.computer.requests_at_once
    free = asyncio.Semaphore(at_once)
    pending: deque[asyncio.Task[Computed]] = deque()

    async def computed(unit: Piece) -> Computed:
        try:
            return await manner.computed(rows, unit)
        finally:
            free.release()

    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            for unit in _units(piece, 1 if manner.alone else rows.computer.rows_at_once, end):
                while pending and (pending[0].done() or len(pending) >= WINDOW * at_once):
                    take(await pending.popleft())
                await free.acquire()
                pending.append(asyncio.create_task(computed(unit)))
            if end is not None and piece.first + piece.rows >= end:
                break
        while pending:
            take(await pending.popleft())
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def _units(piece: Piece, rows: int, end: int | None) -> Iterator[Piece]:
    stop = piece.rows if end is None else min(piece.rows, end - piece.first)
    for start in range(0, stop, rows):
        yield piece.part(start, min(start + rows, stop))


async def _fault(runner: Runner) -> BatchError:
    """What keeps the model from computing, once something does."""
    while (fault := runner.fault()) is None:
        await asyncio.sleep(LOOK_S)
    return BatchError("model", f"the model can't go on: {fault.message}")
