"""Who of those who wait goes next: who waits longest, unless the model can't take up its adapter beside the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlspec_runtime.generate.job import Job


class Turns:
    """Fairness between adapters. `admits` is the model's.

    Where the one who waits longest isn't admitted, later ones may pass only if they are of the present round: those who
    waited as an adapter's turn began, and could join it. They are finitely many, and the next round begins with the one
    who was passed, so no adapter can keep another one out. A model that admits every adapter at any time serves all in
    the order in which they came.
    """

    def __init__(self, admits: Callable[[str], bool]) -> None:
        self._admits = admits
        self._round: frozenset[Job] = frozenset()

    def next(self, waiting: Sequence[Job]) -> Job | None:
        """Who is to be started now; None: nobody can. `waiting` begins with the one who waits longest."""
        present = [job for job in waiting if job in self._round] or waiting[:1]
        return next((job for job in present if self._admits(job.adapter)), None)

    def began(self, job: Job, waiting: Sequence[Job], *, is_new: bool) -> None:
        """A job was started, `is_new`: none of its adapter was computed. A round begins if the last one has ended."""
        if is_new and job not in self._round and self._round.isdisjoint(waiting):
            self._round = frozenset(other for other in waiting if self._admits(other.adapter))
