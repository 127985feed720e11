"""Whether a service is slower than it is on a cool computer. Pure: the clock's values are given."""

from __future__ import annotations

from collections.abc import Sequence

from mlspec_runtime.heat.pace import Baseline, Pace

LOOKS_UNTIL_SLOW = 2
"""One slow look may be some other program's work."""


class Slowness:
    """Compares paces with those of a cool computer that does all that was planned. Below `slowdown` of them it is slow;
    what is seen within `recover_s` of that is not learned.
    """

    def __init__(self, slowdown: float, recover_s: float) -> None:
        self._slowdown = slowdown
        self._recover_s = recover_s
        self._usual = Baseline()
        self._looks = 0
        self._slow_at = float("-inf")
        self._slowed: Baseline | None = None
        self._lasts_at = float("-inf")

    def ratio(self, now_s: float, paces: Sequence[Pace], *, cool: bool) -> float | None:
        """The speed as a part of the usual one, if it is slow for the second time in a row; None if it isn't. What is
        not slow is learned if it is `cool`.
        """
        found = self._usual.ratio(paces)
        if found is not None and found < self._slowdown:
            self._looks, self._slow_at = self._looks + 1, now_s
            return found if self._looks >= LOOKS_UNTIL_SLOW else None
        self._looks = 0
        if cool and now_s - self._slow_at >= self._recover_s:
            self._usual.learn(paces)
        return None

    def began(self) -> None:
        """Less is done from now on, because it is slow: work of kinds whose usual speed nobody knows."""
        self._slowed = Baseline(first=True)

    def ended(self) -> None:
        """What is done now says nothing about it any more."""
        self._slowed = None

    def lasts(self, now_s: float, paces: Sequence[Pace]) -> bool:
        """Whether it was within the last `recover_s` still as slow as it was when it `began`."""
        if self._slowed is None:
            return False
        ratio = self._slowed.ratio(paces)
        self._slowed.learn(paces)
        # Halfway between as slow as then and as fast as it must be to count as slow no more.
        if ratio is not None and ratio < self._slowdown**-0.5:
            self._lasts_at = now_s
        return now_s - self._lasts_at < self._recover_s
