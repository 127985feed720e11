"""What is decided about memory: the budget, the footprint, MLX's limits and the prompt cache."""

from __future__ import annotations

from collections.abc import Sequence

from mlspec.hardware.budget import MIB, Budget, gib
from mlspec.hardware.mlx import cache_limit, unplanned_limits, up_to_mib, wired_limit
from mlspec.model.plan import Decision, MemoryPart
from mlspec.runners.mlx_lm.planning.model import AS_THE_SPEC_SAYS, BUDGET
from mlspec.runners.mlx_lm.planning.policy import Point
from mlspec.runners.mlx_lm.planning.situation import USUAL_PREFIX_TOKENS, Situation

HEADROOM = 1.15
"""A peak lies within 15 % of its estimate (`tests/benchmarks/footprint.py`)."""

PROMPTS_SHARE = 4
"""Prefixes of prompts get at most one part in so many of the budget, and half of what is left over."""

MOST_CONTEXTS = 32
"""More conversations than a service of this size keeps warm."""

_COUNTED = (
    "model.quantization",
    "model.context_length",
    "model.kv_bits",
    "service.concurrency",
    "runtime.prefill_step",
    "memory.prompt_cache_bytes",
)


def prompt_cache_bytes(situation: Situation, point: Point) -> int:
    """What is kept for prefixes: what the spec says, or a part of what is left over if that holds at least one."""
    if not situation.keeps_prefixes or situation.budget is None:
        return situation.asked_prompt_cache_bytes
    # Keeping any takes something beside it, too: a sequence is copied out of the batch.
    least = sum(part.bytes for part in situation.parts(point, MIB)) - MIB
    left = situation.budget.bytes - least
    one = situation.prefix_bytes(point, _prefix_tokens(point))
    most = MOST_CONTEXTS * situation.prefix_bytes(point, point.context)
    share = min(max(left // 2, one), left, situation.budget.bytes // PROMPTS_SHARE, up_to_mib(most)) // MIB * MIB
    return share if share >= one // MIB * MIB else 0


def decide_prompt_cache(situation: Situation, point: Point, size_bytes: int) -> Decision:
    key, spec = "memory.prompt_cache_bytes", "spec:/model/prompt_cache_mb"
    if situation.model.prompt_cache_mb != "auto":
        return Decision(key, size_bytes, AS_THE_SPEC_SAYS, (spec,), given=True)
    if situation.budget is None:
        rule = "none: the target names no machine whose memory is known"
        return Decision(key, size_bytes, rule, (spec, *situation.of_machine("memory_bytes")))
    if situation.kv_bits is not None:
        rule = "none: the service keeps no prefixes with a quantized cache"
        return Decision(key, size_bytes, rule, (spec, "plan:model.kv_bits"))
    inputs = (spec, BUDGET, "plan:service.concurrency", "plan:model.context_length")
    if size_bytes:
        rule = (
            "room for one usual prefix, or half of what is left over: at most a quarter of the budget and "
            f"{MOST_CONTEXTS} whole contexts"
        )
        return Decision(key, size_bytes, rule, inputs)
    return Decision(key, 0, f"none: {_why_no_prefix(situation, situation.budget, point)}", inputs)


def _why_no_prefix(situation: Situation, allowed: Budget, point: Point) -> str:
    """What a prefix would take beside what there is: room for itself, and for a sequence on its way to it."""
    none, some = (sum(part.bytes for part in situation.parts(point, size)) for size in (0, MIB))
    copied, left, tokens = some - MIB - none, allowed.bytes - none, _prefix_tokens(point)
    one = situation.prefix_bytes(point, tokens)
    needed = f"a prefix of {tokens:,} tokens needs {gib(one)}"
    if one <= left - copied:
        return f"{needed}, more than a quarter of the budget"
    if copied:
        needed += f", and keeping any {gib(copied)} more, to copy a sequence out of the batch"
    return f"{needed}; {gib(left)} are left over"


def decide_budget(situation: Situation) -> Decision:
    allowed = situation.budget
    if allowed is None:
        rule = "unknown: the target names no machine whose memory is known"
        return Decision("memory.budget_bytes", None, rule, situation.of_machine("working_set_bytes"))
    return Decision("memory.budget_bytes", allowed.bytes, allowed.rule, allowed.inputs)


def decide_footprint(parts: Sequence[MemoryPart]) -> Decision:
    facts = ("facts:base/parameter_bytes", "facts:base/architecture")
    slots = ("model.adapter_slots",) if any(part.name == "adapters" and part.bytes for part in parts) else ()
    inputs = (*facts, *(f"plan:{key}" for key in (*slots, *_COUNTED)))
    total = sum(part.bytes for part in parts)
    return Decision("memory.footprint_bytes", total, summed(parts), inputs)


def decide_limits(situation: Situation, parts: Sequence[MemoryPart]) -> tuple[Decision, Decision, Decision]:
    """`memory_limit`, `cache_limit` and `wired_limit` of MLX; their values are None without a budget."""
    total = sum(part.bytes for part in parts)
    wired = _wired_limit(situation, total)
    if situation.budget is None:
        return (*unplanned_limits(situation.target), wired)
    memory = _memory_limit(situation.budget, total)
    return memory, cache_limit(situation.budget, memory.value), wired


def of_requests(parts: Sequence[MemoryPart], concurrency: int) -> tuple[int, int]:
    """The bytes of all that doesn't grow with the requests' caches, and what one request's cache takes."""
    kept = sum(part.bytes for part in parts if part.name == "kv cache")
    return sum(part.bytes for part in parts) - kept, -(-kept // concurrency)


def summed(parts: Sequence[MemoryPart]) -> str:
    """`15.2 GiB = 14.1 GiB weights + 0.8 GiB kv cache + …`, without what takes nothing."""
    shown = " + ".join(f"{gib(part.bytes)} {part.name}" for part in parts if part.bytes)
    return f"{gib(sum(part.bytes for part in parts))} = {shown}"


def _memory_limit(allowed: Budget, total: int) -> Decision:
    value = min(allowed.bytes, up_to_mib(int(total * HEADROOM)))
    rule = "the footprint and 15 % for what the estimate misses, at most the budget"
    return Decision("memory.memory_limit_bytes", value, rule, ("plan:memory.footprint_bytes", BUDGET))


def _wired_limit(situation: Situation, total: int) -> Decision:
    """A number wherever there is a Mac: MLX would wire the whole working set by itself."""
    rule = "the footprint: what must not be paged out; never more than the working set"
    return wired_limit(situation.target, total, rule, ("plan:memory.footprint_bytes",))


def _prefix_tokens(point: Point) -> int:
    return min(point.context, USUAL_PREFIX_TOKENS)
