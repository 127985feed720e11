"""Fairness between adapters, for models that admit some of them at once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from mlspec_runtime.generate.job import Job
from mlspec_runtime.generate.messages import Sampling
from mlspec_runtime.generate.turns import Turns


@dataclass
class Slots:
    """A model with rows for at most so many adapters at once."""

    count: int
    rows: list[Job] = field(default_factory=list)

    def admits(self, adapter: str) -> bool:
        present = {job.adapter for job in self.rows}
        return adapter in present or len(present) < self.count


def job(name: str, adapter: str) -> Job:
    return Job(name, [1], Sampling(max_tokens=1), adapter)


def serve(slots: Slots, turns: Turns, waiting: list[Job], places: int) -> list[Job]:
    """What the engine does before a step."""
    started = []
    while waiting and len(slots.rows) < places and (one := turns.next(waiting)) is not None:
        waiting.remove(one)
        is_new = all(other.adapter != one.adapter for other in slots.rows)
        slots.rows.append(one)
        turns.began(one, waiting, is_new=is_new)
        started.append(one)
    return started


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_kept_out_by_an_endless_stream_of_others(slots: int, seed: int) -> None:
    async def check() -> None:
        chance = random.Random(seed)
        model = Slots(slots)
        turns = Turns(model.admits)
        waiting: list[Job] = []
        first, stays, longest = "", 0, 0
        for step in range(800):
            # More of `a` than there are places for, and now and then one of the others.
            waiting += [job(f"a{step}.{n}", "a") for n in range(2)]
            if chance.random() < 0.2:
                waiting.append(job(f"x{step}", chance.choice("bcd")))
            serve(model, turns, waiting, places=4)
            # Each row ends sooner or later.
            model.rows[:] = [row for row in model.rows if chance.random() < 0.85]
            del waiting[40:]
            head = waiting[0].request_id if waiting else ""
            stays = stays + 1 if head and head == first else 0
            first, longest = head, max(longest, stays)
        # While the one who waits longest is passed, those of one round alone are served: 40, about one in two steps.
        assert longest <= 150

    asyncio.run(check())


def test_a_model_that_admits_all_serves_in_the_order_of_arrival() -> None:
    async def check() -> None:
        model = Slots(99)
        turns = Turns(model.admits)
        jobs = [job(str(n), "abc"[n % 3]) for n in range(12)]
        waiting = jobs[:8]
        served = serve(model, turns, waiting, places=3)
        model.rows.clear()
        waiting += jobs[8:]
        served += serve(model, turns, waiting, places=99)
        assert served == jobs

    asyncio.run(check())


def test_with_one_slot_each_adapter_is_served_to_all_who_waited_as_its_turn_began() -> None:
    async def check() -> None:
        model = Slots(1)
        turns = Turns(model.admits)
        waiting = [job(f"{adapter}{n}", adapter) for n in range(2) for adapter in "ab"]
        order = []
        for late in range(5):
            order += [one.request_id for one in serve(model, turns, waiting, places=1)]
            model.rows.clear()
            if not late:
                waiting.append(job("a9", "a"))
        assert order == ["a0", "a1", "b0", "b1", "a9"]

    asyncio.run(check())
