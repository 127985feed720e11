"""How much a service takes on: from all that was planned down to nothing new, in a few steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

SMALLEST_PREFILL_STEP = 32
"""In tokens; below it the cost of each step outweighs what the smaller one spares."""


@dataclass(frozen=True)
class Allowance:
    """`concurrency` requests are computed at once; prompts are read `prefill_step` tokens at a time (None: as the
    runner does it). With `shed` nothing new is let in. `reason` is for people.
    """

    concurrency: int
    prefill_step: int | None = None
    shed: bool = False
    reason: str = "as planned"


SHED = 5
"""The lowest rung."""
SLOWEST = SHED - 1
"""The lowest rung that takes requests."""


def rungs(concurrency: int, prefill_step: int | None) -> tuple[Allowance, ...]:
    """The ladder of a plan: first fewer requests at once, then smaller steps of prompts, at last none that is new."""
    half, quarter = -(-concurrency // 2), -(-concurrency // 4)
    lowest = Allowance(quarter, _part(prefill_step, 4))
    return (
        Allowance(concurrency, prefill_step),
        Allowance(half, prefill_step),
        Allowance(quarter, prefill_step),
        Allowance(quarter, _part(prefill_step, 2)),
        lowest,
        replace(lowest, shed=True),
    )


def _part(prefill_step: int | None, parts: int) -> int | None:
    if prefill_step is None:
        return None
    return min(prefill_step, max(SMALLEST_PREFILL_STEP, prefill_step // parts))
