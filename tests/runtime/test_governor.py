"""How much is taken on, from readings, paces and a clock that the test turns."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from mlspec_runtime.heat.allowance import SHED, Allowance, rungs
from mlspec_runtime.heat.governor import Governor
from mlspec_runtime.heat.pace import Baseline, Pace, PaceMeter
from mlspec_runtime.heat.reading import Reading
from mlspec_runtime.plan import GovernorSettings

POLL_S, RECOVER_S = 5.0, 60.0
LADDER = [(8, 512, False), (4, 512, False), (2, 512, False), (2, 256, False), (2, 128, False), (2, 128, True)]


class Bench:
    """A governor of eight requests at once, looked at every five seconds."""

    def __init__(self, concurrency: int = 8, prefill_step: int | None = 512, **settings: Any) -> None:
        self._governor = Governor(GovernorSettings(reader="macos", **settings), concurrency, prefill_step)
        self._ladder = [replace(rung, reason="") for rung in rungs(concurrency, prefill_step)]
        self.now_s = 100.0
        self.last: Allowance

    def look(self, reading: Reading, paces: Iterable[Pace] = ()) -> int:
        """The rung after a look."""
        self.now_s += POLL_S
        self.last = self._governor.decide(self.now_s, reading, tuple(paces))
        return self._ladder.index(replace(self.last, reason=""))

    def looks(self, reading: Reading, times: int, paces: Iterable[Pace] = ()) -> list[int]:
        return [self.look(reading, paces) for _ in range(times)]


def at(level: int | None, **power: bool) -> Reading:
    return Reading(level, **power)


def pace(tokens_per_s: float, rows: int = 4) -> tuple[Pace, ...]:
    return (Pace(rows, context_bits=9, steps=100, seconds=100 * rows / tokens_per_s),)


def steps_of(seen: Iterable[int]) -> list[int]:
    return [rung for rung, _ in itertools.groupby(seen)]


def test_the_ladder() -> None:
    assert [(rung.concurrency, rung.prefill_step, rung.shed) for rung in rungs(8, 512)] == LADDER
    assert [rung.concurrency for rung in rungs(1, None)] == [1] * 6
    assert [rung.concurrency for rung in rungs(3, None)] == [3, 2, 1, 1, 1, 1]
    assert [rung.prefill_step for rung in rungs(3, None)] == [None] * 6
    assert [rung.prefill_step for rung in rungs(1, 100)] == [100, 100, 100, 50, 32, 32]
    assert [rung.prefill_step for rung in rungs(1, 16)] == [16] * 6


@pytest.mark.parametrize(("level", "rung"), [(0, 0), (1, 1), (2, 3), (3, SHED), (4, SHED), (None, 0)])
def test_each_level_has_its_rung_and_it_is_taken_at_once(level: int | None, rung: int) -> None:
    bench = Bench()
    assert bench.look(at(0)) == 0
    assert bench.looks(at(level), 3) == [rung] * 3


def test_it_goes_up_one_rung_at_a_time_after_calm() -> None:
    bench = Bench()
    assert bench.look(at(3)) == SHED
    seen = bench.looks(at(0), 70)
    assert steps_of(seen) == [5, 4, 3, 2, 1, 0]
    # The first look begins the calm; each rung then lasts for a minute of looks.
    assert [len(list(group)) for _, group in itertools.groupby(seen)][:5] == [12] * 5
    assert bench.last.reason == "as planned"


def test_it_goes_up_no_further_than_the_level_lets_it() -> None:
    bench = Bench()
    bench.look(at(3))
    assert steps_of(bench.looks(at(1), 100)) == [5, 4, 3, 2, 1]


def test_a_level_that_comes_and_goes_changes_nothing_within_the_calm() -> None:
    bench = Bench()
    seen = [bench.look(at(level)) for level in (1, 0, 0, 1, 0, 0, 0, 1) * 20]
    assert set(seen) == {1}


def test_what_relapses_waits_longer_for_the_next_step_up() -> None:
    bench = Bench()
    waits = []
    for _ in range(6):
        bench.look(at(1))
        looks = 0
        while bench.look(at(0)):
            looks += 1
        waits.append(looks * POLL_S)
    assert waits == [60, 120, 240, 480, 480, 480]
    # After a long calm it is trusted as at first.
    bench.looks(at(0), 400)
    bench.look(at(1))
    assert steps_of(bench.looks(at(0), 13)) == [1, 0]


def test_random_weather_never_flaps() -> None:
    """Between two steps up there is always the calm, and no level is ever answered by too high a rung."""
    chance = random.Random(5)
    bench, least = Bench(), {0: 0, 1: 1, 2: 3, 3: SHED, 4: SHED}
    rung, ups = 0, []
    for _ in range(20_000):
        level = chance.choices(range(5), (90, 5, 3, 1, 1))[0]
        now = bench.look(at(level))
        assert now >= least[level]
        assert now <= rung or now == least[level]
        if now < rung:
            assert now == rung - 1
            ups.append(bench.now_s)
        rung = now
    assert len(ups) > 10
    assert min(b - a for a, b in itertools.pairwise(ups)) >= RECOVER_S


def test_a_computer_without_a_fan_goes_one_rung_lower() -> None:
    bench = Bench(cooling="passive")
    assert [bench.look(at(level)) for level in (0, 1, 2, 3)] == [0, 2, 4, SHED]


@pytest.mark.parametrize(
    ("power", "told"), [({"low_power": True}, "low-power mode"), ({"on_battery": True}, "on battery")]
)
def test_little_power_halves_the_concurrency(power: dict[str, bool], told: str) -> None:
    bench = Bench()
    assert bench.look(at(0, **power)) == 1
    assert (bench.last.concurrency, bench.last.reason) == (4, told)
    assert bench.look(at(2, **power)) == 3
    assert bench.last.reason == "the thermal pressure is heavy"


def test_a_look_that_fails_is_no_sign_of_cooling() -> None:
    bench = Bench()
    bench.look(at(3))
    assert bench.looks(at(None), 12) == [SHED] * 12
    # A tool that never answers again must not keep the service closed.
    assert steps_of(bench.looks(at(None), 100)) == [5, 4, 3, 2, 1, 0]


def test_its_own_slowness_lowers_it_and_never_sheds() -> None:
    bench = Bench()
    assert set(bench.looks(at(0), 20, pace(100))) == {0}
    # One slow look may be another program's doing.
    assert bench.looks(at(0), 2, pace(60)) == [0, 1]
    assert "60%" in bench.last.reason
    assert steps_of(bench.looks(at(0), 100, pace(60))) == [1, 2, 3, 4]
    assert steps_of(bench.looks(at(0), 100, pace(100))) == [4, 3, 2, 1, 0]


def test_a_single_slow_look_changes_nothing() -> None:
    bench = Bench()
    bench.looks(at(0), 20, pace(100))
    assert [bench.look(at(0), pace(speed)) for speed in (60, 100, 60, 100)] == [0] * 4


def test_slowness_is_judged_for_equal_work_only() -> None:
    """Fewer requests at once, or longer ones, are slower by themselves."""
    bench = Bench()
    bench.looks(at(0), 20, pace(100, rows=4))
    assert set(bench.looks(at(0), 20, pace(30, rows=1))) == {0}
    longer = tuple(replace(found, context_bits=14) for found in pace(30))
    assert set(bench.looks(at(0), 20, longer)) == {0}
    assert set(bench.looks(at(0), 20, ())) == {0}


def test_what_is_slow_or_hot_is_not_learned() -> None:
    bench = Bench()
    assert set(bench.looks(at(1), 20, pace(50))) == {1}
    bench.looks(at(0), 30, pace(100))
    assert bench.looks(at(0), 3, pace(60))[-1] > 0
    # For hours: it doesn't become the usual speed.
    bench.looks(at(0), 2000, pace(60))
    assert "60%" in bench.last.reason


def test_the_low_power_mode_is_slow_by_intention() -> None:
    bench = Bench()
    bench.looks(at(0), 20, pace(100))
    assert steps_of(bench.looks(at(0, low_power=True), 50, pace(40))) == [1]


def test_nothing_computed_is_calm() -> None:
    bench = Bench()
    bench.looks(at(0), 20, pace(100))
    assert bench.looks(at(0), 3, pace(50))[-1] == 1
    assert bench.looks(at(0), 20)[-1] == 0


def test_the_meter_adds_up_by_kind_and_starts_again() -> None:
    meter = PaceMeter()
    for took_s in (0.5, 0.25):
        meter.note(2, 100, took_s)
    meter.note(2, 200, 1.0)
    assert meter.take() == (Pace(2, 7, 2, 0.75), Pace(2, 8, 1, 1.0))
    assert meter.take() == ()


def test_the_baseline_is_a_high_percentile() -> None:
    baseline = Baseline()
    for speed in range(1, 51):
        assert speed < 6 or baseline.ratio(pace(speed)) is not None
        baseline.learn(pace(speed))
    assert baseline.ratio(pace(45)) == pytest.approx(1.0)
    assert baseline.ratio(pace(22.5)) == pytest.approx(0.5)
    few = (replace(pace(45)[0], steps=7),)
    assert baseline.ratio(few) is None
    short = (Pace(4, 9, 100, 0.1),)
    assert baseline.ratio(short) is None
