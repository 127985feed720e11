"""How much is taken on, from readings, paces and a clock that the test turns."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from mlspec_runtime.generate.messages import Sampling
from mlspec_runtime.heat.allowance import SHED, Allowance, rungs
from mlspec_runtime.heat.governor import Governor
from mlspec_runtime.heat.pace import LEARNED, MOST_KINDS, Baseline, Kind, Pace, PaceMeter, kind_of
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
    return (Pace(Kind(rows, context=72), steps=100, seconds=100 * rows / tokens_per_s),)


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


@pytest.mark.parametrize("level", [0, None])
def test_its_own_slowness_alone_is_worth_one_rung(level: int | None) -> None:
    bench = Bench()
    assert set(bench.looks(at(0), 20, pace(100))) == {0}
    bench.looks(at(level), 20, pace(100))
    # One slow look may be another program's doing.
    assert bench.looks(at(level), 2, pace(60)) == [0, 1]
    assert "60%" in bench.last.reason
    assert set(bench.looks(at(level), 1000, pace(60))) == {1}
    assert steps_of(bench.looks(at(level), 100, pace(100))) == [1, 0]


@pytest.mark.parametrize(
    ("cooling", "level", "rung", "slow_rung"),
    [
        ("desktop", 1, 1, 2),
        ("passive", 1, 2, 3),
        ("desktop", 2, 3, 4),
        ("passive", 2, 4, 4),
        ("desktop", 3, SHED, SHED),
    ],
)
def test_slowness_adds_one_rung_to_heat(cooling: str, level: int, rung: int, slow_rung: int) -> None:
    bench = Bench(cooling=cooling)
    bench.looks(at(0), 20, pace(100))
    # What the level asks for has its time to help first.
    assert set(bench.looks(at(level), 12, pace(60))) == {rung}
    assert set(bench.looks(at(level), 200, pace(60))) == {slow_rung}
    # Nominal again: slowness alone keeps one rung.
    assert bench.looks(at(0), 200, pace(60))[-1] == 1


def test_a_single_slow_look_changes_nothing() -> None:
    bench = Bench()
    bench.looks(at(0), 20, pace(100))
    assert [bench.look(at(0), pace(speed)) for speed in (60, 100, 60, 100)] == [0] * 4


def test_slowness_is_judged_for_equal_work_only() -> None:
    """Fewer requests at once, or longer ones, are slower by themselves."""
    bench = Bench()
    bench.looks(at(0), 20, pace(100, rows=4))
    assert set(bench.looks(at(0), 20, pace(30, rows=1))) == {0}
    longer = tuple(replace(found, kind=replace(found.kind, context=80)) for found in pace(30))
    assert set(bench.looks(at(0), 20, longer)) == {0}
    drawn = tuple(replace(found, kind=replace(found.kind, choosing=(4,))) for found in pace(30))
    assert set(bench.looks(at(0), 20, drawn)) == {0}
    assert set(bench.looks(at(0), 20, ())) == {0}


@pytest.mark.parametrize(
    "reading", [Reading(1), Reading(None), Reading(0, low_power=True), Reading(0, on_battery=True)]
)
def test_what_is_slow_or_hot_is_not_learned(reading: Reading) -> None:
    """With a percentile as high as ours, this would be what is usual: it is far more often seen."""
    bench = Bench()
    bench.looks(reading, 500, pace(300))
    bench.looks(at(0), 40, pace(100))
    assert bench.looks(at(0), 3, pace(60))[-1] > 0
    # For hours: it doesn't become the usual speed.
    bench.looks(at(0), 2000, pace(60))
    assert "60%" in bench.last.reason
    assert steps_of(bench.looks(at(0), 100, pace(100))) == [1, 0]


def test_the_low_power_mode_is_slow_by_intention() -> None:
    bench = Bench()
    bench.looks(at(0), 20, pace(100))
    assert steps_of(bench.looks(at(0, low_power=True), 50, pace(40))) == [1]


def test_nothing_is_learned_on_a_lower_rung_or_soon_after_slowness() -> None:
    bench = Bench()
    bench.looks(at(0), 20, pace(100))
    few = pace(200, rows=2)
    assert bench.looks(at(0), 12, (*pace(50), *few))[-1] == 1
    # A minute on rung 1, then within a minute of a slow look.
    bench.looks(at(0), 12, few)
    assert bench.look(at(0), pace(60)) == 0
    assert set(bench.looks(at(0), 11, few)) == {0}
    assert set(bench.looks(at(0), 30, pace(50, rows=2))) == {0}


def test_nothing_computed_is_calm() -> None:
    bench = Bench()
    bench.looks(at(0), 20, pace(100))
    assert bench.looks(at(0), 3, pace(50))[-1] == 1
    assert bench.looks(at(0), 20)[-1] == 0


def test_the_meter_adds_up_by_kind_and_starts_again() -> None:
    meter = PaceMeter()
    for took_s in (0.5, 0.25):
        meter.note(Kind(2, 7), took_s)
    meter.note(Kind(2, 8), 1.0)
    assert meter.take() == (Pace(Kind(2, 7), 2, 0.75), Pace(Kind(2, 8), 1, 1.0))
    assert meter.take() == ()


def test_steps_of_one_kind_take_about_as_long() -> None:
    greedy, drawn = Sampling(8).work, Sampling(8, temperature=0.8).work
    same = [kind_of((tokens,) * 16, [greedy] * 16) for tokens in (34_000, 35_000)]
    assert same[0] == same[1]
    others = [
        kind_of((60_000,) * 16, [greedy] * 16),
        # As many tokens together, but the batch is padded to the longest.
        kind_of((30_000,) * 15 + (94_000,), [greedy] * 16),
        kind_of((34_000,) * 16, [greedy] * 15 + [drawn]),
        kind_of((34_000,) * 16, [Sampling(8, repetition_penalty=1.1).work] * 16),
        kind_of((34_000,) * 16, [drawn] * 16),
        kind_of((34_000,) * 16, [Sampling(8, temperature=0.8, top_p=0.9).work] * 16),
        kind_of((34_000,) * 16, [Sampling(8, temperature=0.8, top_k=40).work] * 16),
        kind_of((34_000,) * 16, [Sampling(8, temperature=0.8, min_p=0.1).work] * 16),
    ]
    assert len({*same, *others}) == 1 + len(others)
    # Without a temperature nothing is drawn, whatever would be cut.
    assert Sampling(8, top_p=0.5, top_k=3, min_p=0.1).work == greedy


def test_no_more_kinds_are_kept_than_can_be() -> None:
    baseline = Baseline()
    for context in range(MOST_KINDS + 1):
        baseline.learn([Pace(Kind(1, context), 100, 1.0)] * LEARNED)
    assert baseline.ratio([Pace(Kind(1, 0), 100, 1.0)]) is None
    assert baseline.ratio([Pace(Kind(1, MOST_KINDS), 100, 1.0)]) == 1


def test_the_baseline_is_a_high_percentile() -> None:
    baseline = Baseline()
    for speed in range(1, 51):
        assert speed < 6 or baseline.ratio(pace(speed)) is not None
        baseline.learn(pace(speed))
    assert baseline.ratio(pace(45)) == pytest.approx(1.0)
    assert baseline.ratio(pace(22.5)) == pytest.approx(0.5)
    few = (replace(pace(45)[0], steps=7),)
    assert baseline.ratio(few) is None
    short = (Pace(Kind(4, 72), 100, 0.1),)
    assert baseline.ratio(short) is None
