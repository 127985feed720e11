"""What is decided about adapters: how many are in memory at once, and which from the start."""

from __future__ import annotations

from mlspec.hardware.budget import gib
from mlspec.model.plan import Decision
from mlspec.runners.mlx_lm.planning.model import AS_THE_SPEC_SAYS, BUDGET
from mlspec.runners.mlx_lm.planning.situation import ADAPTERS_SHARE, Situation

MIB = 2**20
SLOTS, PRELOADED = "model.adapter_slots", "model.preloaded_adapters"


def decide_adapters(situation: Situation) -> tuple[Decision, ...]:
    """Nothing where there is none."""
    if not situation.model.adapters:
        return ()
    return (_slots(situation), _preloaded(situation))


def _slots(situation: Situation) -> Decision:
    spec, count = "spec:/model/max_loaded_adapters", len(situation.model.adapters)
    slots, given = situation.adapter_slots, situation.model.max_loaded_adapters
    if given != "auto":
        rule = AS_THE_SPEC_SAYS if given == slots else f"all of them: the spec has room for {given}"
        return Decision(SLOTS, slots, rule, (spec, "spec:/model/adapters"), given=given == slots)
    sizes = [f"facts:{facts.ref.role}/parameter_bytes" for facts in situation.adapters]
    inputs = (spec, "spec:/model/adapters", *sizes)
    if slots == count and situation.budget is None:
        return Decision(SLOTS, slots, "all of them", inputs)
    told = f"{_mib(situation.adapters_bytes)} of at most a part in {ADAPTERS_SHARE} of the budget"
    if slots == count:
        return Decision(SLOTS, slots, f"all of them: {told}", (*inputs, BUDGET))
    rule = f"as many as fit into {told}; another takes the place of the one used longest ago"
    all_of_them = f"{count}: {gib(situation.adapters_bytes_of(count))}"
    return Decision(SLOTS, slots, rule, (*inputs, BUDGET), (all_of_them,))


def _preloaded(situation: Situation) -> Decision:
    inputs = ("spec:/model/adapters", f"plan:{SLOTS}")
    wanted = [adapter.name for adapter in situation.model.adapters if adapter.preload]
    preloaded = situation.preloaded_adapters
    if len(preloaded) < len(wanted):
        rule = "in the spec's order, the default first: no more have room at once"
        return Decision(PRELOADED, preloaded, rule, inputs, tuple(name for name in wanted if name not in preloaded))
    rule = (
        "all of them" if len(wanted) == len(situation.model.adapters) else "those that the spec doesn't leave for later"
    )
    return Decision(PRELOADED, preloaded, rule, inputs)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f} MiB" if size_bytes < 1024 * MIB else gib(size_bytes)
