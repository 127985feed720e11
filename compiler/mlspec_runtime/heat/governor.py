"""Decides, from readings and the service's own pace, how much it takes on. Pure: the clock's values are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlspec_runtime.heat.allowance import SHED, SLOWEST, Allowance, rungs
from mlspec_runtime.heat.pace import Pace
from mlspec_runtime.heat.reading import LEVELS, Reading
from mlspec_runtime.heat.slowness import Slowness
from mlspec_runtime.plan import GovernorSettings

RUNG_OF_LEVEL = (0, 1, 3, SHED, SHED)
"""Nominal, moderate, heavy, trapping, sleeping."""
MAX_PATIENCE = 8
"""The longest wait for a step up, in `recover_s`."""
MAX_PATIENCE_IF_SLOW = 32
"""The same after slowness alone: how fast it is with all that was planned, only a step up can tell."""


@dataclass(frozen=True)
class Cause:
    """The rung that something asks for, and how it is told."""

    rung: int
    told: str
    is_slowness: bool = False


class Governor:
    """Goes down the ladder at once, as far as the level asks, and up one rung at a time, each after `recover_s` in
    which nothing asked for the rung it stands on. What relapses soon after a step up waits twice as long for the next.

    Its own slowness against the baseline, which pressure doesn't always show, asks for one rung below the level's.
    That may have other reasons than heat, so it is never more.
    """

    def __init__(self, settings: GovernorSettings, concurrency: int, prefill_step: int | None) -> None:
        self._settings = settings
        self._rungs = rungs(concurrency, prefill_step)
        self._slowness = Slowness(settings.slowdown, settings.recover_s)
        self._rung = 0
        self._moved_at = float("-inf")
        self._up_at = float("-inf")
        self._calm_since: float | None = None
        self._patience = 1
        self._level: int | None = None
        self._level_at = float("-inf")

    def decide(self, now_s: float, reading: Reading, paces: Sequence[Pace]) -> Allowance:
        """The allowance from now on. `now_s` never goes back."""
        heat = self._heat(self._lasting_level(now_s, reading))
        slow = self._slow(now_s, reading, paces, heat)
        cause = max((heat, *_power(reading), *slow), key=lambda cause: cause.rung)
        lasts = self._slowness.lasts(now_s, paces) and self._rung <= _below(heat)
        if cause.rung > self._rung:
            self._go_down(now_s, cause)
        elif cause.rung < self._rung:
            self._wait_and_go_up(now_s, lasts=lasts)
        else:
            self._calm_since = None
        return replace(self._rungs[self._rung], reason=self._reason(cause, lasts=lasts))

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

    def _slow(self, now_s: float, reading: Reading, paces: Sequence[Pace], heat: Cause) -> list[Cause]:
        if reading.low_power:
            # Slow by intention.
            return []
        cool = self._rung == 0 and reading.level == 0 and not reading.on_battery
        ratio = self._slowness.ratio(now_s, paces, cool=cool)
        if ratio is None or (self._rung < _below(heat) and not self._has_helped(now_s, heat)):
            return []
        return [Cause(_below(heat), f"generating at {ratio:.0%} of its usual speed", is_slowness=True)]

    def _has_helped(self, now_s: float, heat: Cause) -> bool:
        """The rung that the level asks for must have had its time before another."""
        waited = now_s - self._moved_at >= self._settings.recover_s
        return heat.rung == 0 or (self._rung >= heat.rung and waited)

    def _go_down(self, now_s: float, cause: Cause) -> None:
        relapsed = now_s - self._up_at < 2 * self._settings.recover_s * self._patience
        most = MAX_PATIENCE_IF_SLOW if cause.is_slowness else MAX_PATIENCE
        self._patience = min(most, 2 * self._patience) if relapsed else 1
        self._rung, self._moved_at, self._calm_since = cause.rung, now_s, None
        if cause.is_slowness:
            self._slowness.began()
        else:
            self._slowness.ended()

    def _wait_and_go_up(self, now_s: float, *, lasts: bool) -> None:
        """With slowness that `lasts`, the first step up comes as usual, to see; those after it when it has ended."""
        if self._calm_since is None:
            self._calm_since = now_s
        patience = MAX_PATIENCE_IF_SLOW if lasts and self._patience > 1 else self._patience
        if now_s - self._calm_since >= self._settings.recover_s * patience:
            self._rung -= 1
            self._moved_at = self._up_at = self._calm_since = now_s
            self._slowness.ended()

    def _reason(self, cause: Cause, *, lasts: bool) -> str:
        if self._rung > cause.rung and lasts:
            return "generating as slowly as before; one step up when that has ended"
        if self._rung > cause.rung:
            return f"recovering: one step up after each {self._settings.recover_s * self._patience:g} s of calm"
        return cause.told


def _power(reading: Reading) -> list[Cause]:
    causes = []
    if reading.low_power:
        causes.append(Cause(1, "low-power mode"))
    if reading.on_battery:
        causes.append(Cause(1, "on battery"))
    return causes


def _below(heat: Cause) -> int:
    """The rung below the level's, to which slowness leads; it never sheds: without work there is no pace to see."""
    return min(heat.rung + 1, SLOWEST)
