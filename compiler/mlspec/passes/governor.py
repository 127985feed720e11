"""What the service does as the machine gets hot: the settings of its governor, by platform and cooling."""

from __future__ import annotations

from typing import Any

from mlspec.model.plan import Decision
from mlspec.model.target import Target

POLL_S = 5.0
"""A reading costs about 11 ms (notifyutil on a Mac); heat builds up over minutes."""
RECOVER_S = 60.0
"""Calm for so long before a step back up: a fan-cooled Mac needs about that to shed its heat."""
SLOWDOWN = 0.7
"""Below this share of its usual tokens a second the service counts as throttled, whatever the pressure level says:
one Mac slowed by 8 % at level Nominal, another ran at Heavy with equal speed."""
RETRY_AFTER_S = 15.0


def governor(target: Target) -> dict[str, Any]:
    """The block `runtime.governor` of plan.json; `mlspec_runtime.heat` reads it."""
    return {
        "reader": _reader(target),
        "cooling": target.machine.cooling if target.machine else "unknown",
        "poll_s": POLL_S,
        "recover_s": RECOVER_S,
        "slowdown": SLOWDOWN,
        "retry_after_s": RETRY_AFTER_S,
    }


def governor_decision(target: Target, task: str) -> Decision:
    """Why the service watches its machine's heat, or doesn't."""
    if _reader(target) == "macos":
        smaller = "then reads prompts in smaller steps, " if task == "generate" else ""
        rule = (
            "macOS slows a hot Mac down: the service reads its thermal pressure, low-power mode and own speed, and "
            f"admits fewer requests, {smaller}then refuses with 503"
        )
        return Decision("heat.governor", "macos", rule, ("target:platform",), ("none",))
    rule = "Linux has no thermal pressure that a service could read: only macOS tells it"
    return Decision("heat.governor", "none", rule, ("target:platform",), ("macos",))


def _reader(target: Target) -> str:
    return "macos" if target.platform == "macos" else "none"
