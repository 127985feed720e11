"""Hours of a service under the governor, step by step, with a clock of the test's own: heat has no part in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mlspec_runtime.generate.messages import Sampling
from mlspec_runtime.heat.governor import Governor
from mlspec_runtime.heat.pace import PaceMeter, kind_of
from mlspec_runtime.heat.reading import Reading
from mlspec_runtime.plan import GovernorSettings

POLL_S = 5.0
HOUR_S = 3600.0
STEPS = 8
"""Of one kind, one after another: the test is quicker for it."""
COOL = Reading(0, low_power=False, on_battery=False)
GREEDY = Sampling(64)
DRAWN = Sampling(64, temperature=0.8, top_p=0.9, repetition_penalty=1.1)
TIMES = {GREEDY.work: 1.0, DRAWN.work: 1 / 0.53}
"""What choosing tokens costs of a small model, as it was measured."""


@dataclass(frozen=True)
class Load:
    """At most so many requests, each with so many tokens of context."""

    requests: int
    context: int
    sampling: Sampling = GREEDY


@dataclass(frozen=True)
class Change:
    at_s: float
    concurrency: int
    prefill_step: int | None


def step_s(rows: int, load: Load) -> float:
    """Reading the weights, and the cache of each row."""
    return (0.02 + rows * load.context * 1e-7) * TIMES[load.sampling.work]


def simulate(
    hours: float, concurrency: int, load: Callable[[float], Load], slower: Callable[[float], float]
) -> list[Change]:
    """Each change of what is allowed, from the beginning; `slower` is by how much all takes longer at a time."""
    settings = GovernorSettings(reader="macos", cooling="desktop")
    governor, meter = Governor(settings, concurrency, 512), PaceMeter()
    now_s, next_look_s, changes = 0.0, POLL_S, [Change(0.0, concurrency, 512)]
    while now_s < hours * HOUR_S:
        found = load(now_s)
        rows = min(found.requests, changes[-1].concurrency)
        took_s = step_s(rows, found) * slower(now_s)
        kind = kind_of((found.context,) * rows, (found.sampling.work,) * rows)
        for _ in range(STEPS):
            meter.note(kind, took_s)
        now_s += STEPS * took_s
        if now_s >= next_look_s:
            next_look_s += POLL_S
            allowed = governor.decide(now_s, COOL, meter.take())
            if (allowed.concurrency, allowed.prefill_step) != (changes[-1].concurrency, changes[-1].prefill_step):
                changes.append(Change(now_s, allowed.concurrency, allowed.prefill_step))
    return changes


def as_fast_as_ever(now_s: float) -> float:
    return 1.0


def between(begin_s: float, end_s: float, times: float) -> Callable[[float], float]:
    return lambda now_s: times if begin_s < now_s < end_s else 1.0


def test_contexts_of_unequal_length_are_no_heat() -> None:
    """16 of 33,500 tokens and 16 of 60,000, in turns of two minutes: as many binary digits, 1.6 times the time."""
    short, long = Load(16, 33_500), Load(16, 60_000)
    assert step_s(16, long) > 1.5 * step_s(16, short)
    turns = simulate(2, 16, lambda now_s: long if now_s // 120 % 2 else short, as_fast_as_ever)
    assert len(turns) == 1


def test_drawing_tokens_is_no_heat() -> None:
    """An hour of greedy requests, then of others whose tokens take twice as long to choose."""
    load = lambda now_s: Load(8, 1_000, GREEDY if now_s // 1800 % 2 == 0 else DRAWN)  # noqa: E731
    assert len(simulate(2, 8, load, as_fast_as_ever)) == 1


def test_growing_contexts_are_no_heat() -> None:
    assert len(simulate(1, 8, lambda now_s: Load(8, 500 + int(now_s * 20) % 60_000), as_fast_as_ever)) == 1


def test_another_programs_hour_costs_one_rung_and_no_flapping() -> None:
    """All takes twice as long for an hour, on a nominal level: down, and up to see after a minute and half an hour."""
    changes = simulate(3, 8, lambda now_s: Load(8, 4_000), between(600, 600 + HOUR_S, 2.0))
    assert {(change.concurrency, change.prefill_step) for change in changes} == {(8, 512), (4, 512)}
    assert [change.concurrency for change in changes] == [8, 4, 8, 4, 8, 4, 8]
    down = [change.at_s for change in changes if change.concurrency == 4]
    up = [change.at_s for change in changes if change.concurrency == 8][1:-1]
    assert down[0] < 615
    assert [round((after - before) / 60) for before, after in zip(down[:2], up, strict=True)] == [1, 32]
    assert all(after - before < 15 for before, after in zip(up, down[1:], strict=True))
    # A minute after the speed was back.
    assert 600 + HOUR_S + 60 <= changes[-1].at_s < 600 + HOUR_S + 75


def test_what_can_never_be_compared_is_tried_ever_more_seldom() -> None:
    """The same hour, but once there are fewer rows each look has a context of its own."""

    def load(now_s: float) -> Load:
        return (
            Load(8, 4_000) if now_s < 600 or now_s > 600 + HOUR_S else Load(8, 4_000 + 500 * int(now_s // POLL_S % 97))
        )

    changes = simulate(4, 8, load, between(600, 600 + HOUR_S, 2.0))
    assert {change.prefill_step for change in changes} == {512}
    assert changes[-1].concurrency == 8
    assert len([change for change in changes if change.at_s < 600 + HOUR_S]) <= 12


@pytest.mark.parametrize("fast_s", [15, 45])
def test_a_burst_is_over_after_a_minute(fast_s: int) -> None:
    changes = simulate(1, 8, lambda now_s: Load(8, 4_000), between(600, 600 + fast_s, 2.0))
    assert [change.concurrency for change in changes] == [8, 4, 8]
    assert changes[-1].at_s < 600 + fast_s + 75


def test_speed_that_comes_back_slowly_is_noticed() -> None:
    def slower(now_s: float) -> float:
        if now_s < 600:
            return 1.0
        return max(1.0, 2.0 - max(0.0, now_s - 1200) / 1800)

    changes = simulate(4, 8, lambda now_s: Load(8, 4_000), slower)
    assert {change.prefill_step for change in changes} == {512}
    assert changes[-1].concurrency == 8
    assert len(changes) <= 10
