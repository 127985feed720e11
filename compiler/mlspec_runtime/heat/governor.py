"""Decides, from readings and the service's own pace, how much it takes on. Pure: the clock's values are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlspec_runtime.heat.allowance import SHED, SLOWEST, Allowance, rungs
from mlspec_runtime.heat.pace import Baseline, Pace
from mlspec_runtime.heat.reading import LEVELS, Reading
from mlspec_runtime.plan import GovernorSettings

RUNG_OF_LEVEL = (0, 1, 3, SHED, SHED)
"""Nominal, moderate, heavy, trapping, sleeping."""
LOOKS_UNTIL_SLOW = 2
"""One slow look may be some other program's work."""
MAX_PATIENCE = 8
"""The longest wait for a step up, in `recover_s`."""


@dataclass(frozen=True)
class Cause:
    """The rung that something asks for, and how it is told."""

    rung: int
    told: str


class Governor:
    """Goes down the ladder at once, as far as the level asks, and up one rung at a time, each after `recover_s` in
    which nothing asked for the rung it stands on. What relapses soon after a step up waits twice as long for the next.

    Its own slowness against the baseline, which pressure doesn't always show, asks for one rung more at a time and
    never sheds: with nothing computed there would be no pace to see.
    """

    def __init__(self, settings: GovernorSettings, concurrency: int, prefill_step: int | None) -> None:
        self._settings = settings
        self._rungs = rungs(concurrency, prefill_step)
        self._baseline = Baseline()
        self._rung = 0
        self._moved_at = float("-inf")
        self._up_at = float("-inf")
        self._calm_since: float | None = None
        self._patience = 1
        self._slow_looks = 0
        self._level: int | None = None
        self._level_at = float("-inf")

    def decide(self, now_s: float, reading: Reading, paces: Sequence[Pace]) -> Allowance:
        """The allowance from now on. `now_s` never goes back."""
        cause = max(self._causes(now_s, reading, paces), key=lambda cause: cause.rung)
        if cause.rung > self._rung:
            self._go_down(now_s, cause.rung)
        elif cause.rung < self._rung:
            self._wait_and_go_up(now_s)
        else:
            self._calm_since = None
        return replace(self._rungs[self._rung], reason=self._reason(cause))

    def _causes(self, now_s: float, reading: Reading, paces: Sequence[Pace]) -> list[Cause]:
        level = self._lasting_level(now_s, reading)
        causes = [Cause(0, "as planned"), self._heat(level)]
        if reading.low_power:
            causes.append(Cause(1, "low-power mode"))
        if reading.on_battery:
            causes.append(Cause(1, "on battery"))
        slow = None if reading.low_power else self._slowness(now_s, paces, cool=not level)
        return [*causes, slow] if slow else causes

    def _lasting_level(self, now_s: float, reading: Reading) -> int | None:
        """A look that failed is no sign that it got cooler: the last level holds for a while."""
        if reading.level is not None or now_s - self._level_at > self._settings.recover_s:
            self._level, self._level_at = reading.level, now_s
        return self._level

    def _heat(self, level: int | None) -> Cause:
        if not level:
            return Cause(0, "as planned")
        rung = RUNG_OF_LEVEL[level]
        if self._settings.cooling == "passive" and rung < SLOWEST:
            # Without a fan it stays hot for longer, once it is.
            rung += 1
        return Cause(rung, f"the thermal pressure is {LEVELS[level]}")

    def _slowness(self, now_s: float, paces: Sequence[Pace], *, cool: bool) -> Cause | None:
        ratio = self._baseline.ratio(paces)
        slow = ratio is not None and ratio < self._settings.slowdown
        self._slow_looks = self._slow_looks + 1 if slow else 0
        if cool and not slow:
            self._baseline.learn(paces)
        if ratio is None or self._slow_looks < LOOKS_UNTIL_SLOW:
            return None
        # The last step must have had its time to help before another.
        deeper = self._rung < SLOWEST and now_s - self._moved_at >= self._settings.recover_s
        rung = self._rung + 1 if deeper else max(1, self._rung)
        return Cause(min(rung, SLOWEST), f"generating at {ratio:.0%} of its usual speed")

    def _go_down(self, now_s: float, rung: int) -> None:
        relapsed = now_s - self._up_at < 2 * self._settings.recover_s * self._patience
        self._patience = min(MAX_PATIENCE, 2 * self._patience) if relapsed else 1
        self._rung, self._moved_at, self._calm_since = rung, now_s, None

    def _wait_and_go_up(self, now_s: float) -> None:
        if self._calm_since is None:
            self._calm_since = now_s
        if now_s - self._calm_since >= self._settings.recover_s * self._patience:
            self._rung -= 1
            self._moved_at = self._up_at = self._calm_since = now_s

    def _reason(self, cause: Cause) -> str:
        if self._rung > cause.rung:
            return f"recovering: one step up after each {self._settings.recover_s * self._patience:g} s of calm"
        return cause.told
