"""What is decided about memory: the budget, the footprint, MLX's limits and the prompt cache."""

from __future__ import annotations

from collections.abc import Sequence

from mlspec.hardware.budget import MIB, Budget, gib
from mlspec.model.plan import Decision, MemoryPart
from mlspec.runners.mlx_lm.planning.model import AS_THE_SPEC_SAYS, BUDGET
from mlspec.runners.mlx_lm.planning.policy import Point
from mlspec.runners.mlx_lm.planning.situation import USUAL_PREFIX_TOKENS, Situation

HEADROOM = 1.15
"""A peak lies within 15 % of its estimate (`tests/benchmarks/footprint.py`)."""

CACHE_SHARE = 0.05
MOST_CACHE_BYTES = 1024 * MIB
"""Freed buffers that MLX keeps for the next request: it needs few, as a service's shapes repeat."""

WIRED_FROM_MACOS = 15

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

NO_MACHINE = "the target names no machine whose memory is known: MLX's own limit, or what the machine reports"


def prompt_cache_bytes(situation: Situation, point: Point) -> int:
    """What is kept for prefixes: what the spec says, or a part of what is left over if that holds at least one."""
    if not situation.keeps_prefixes or situation.budget is None:
        return situation.asked_prompt_cache_bytes
    # Keeping any takes something beside it, too: a sequence is copied out of the batch.
    least = sum(part.bytes for part in situation.parts(point, MIB)) - MIB
    left = situation.budget.bytes - least
    one = situation.prefix_bytes(point, _prefix_tokens(point))
    most = MOST_CONTEXTS * situation.prefix_bytes(point, point.context)
    share = min(max(left // 2, one), left, situation.budget.bytes // PROMPTS_SHARE, _up(most)) // MIB * MIB
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
    tokens = _prefix_tokens(point)
    one = situation.prefix_bytes(point, tokens)
    rule = f"none: requests take the memory, and a prefix of {tokens} tokens needs {gib(one)}"
    return Decision(key, 0, rule, inputs)


def decide_budget(situation: Situation) -> Decision:
    allowed = situation.budget
    if allowed is None:
        rule = "unknown: the target names no machine whose memory is known"
        return Decision("memory.budget_bytes", None, rule, situation.of_machine("working_set_bytes"))
    return Decision("memory.budget_bytes", allowed.bytes, allowed.rule, allowed.inputs)


def decide_footprint(parts: Sequence[MemoryPart]) -> Decision:
    facts = ("facts:base/parameter_bytes", "facts:base/architecture")
    inputs = (*facts, *(f"plan:{key}" for key in _COUNTED))
    total = sum(part.bytes for part in parts)
    return Decision("memory.footprint_bytes", total, summed(parts), inputs)


def decide_limits(situation: Situation, parts: Sequence[MemoryPart]) -> tuple[Decision, Decision, Decision]:
    """`memory_limit`, `cache_limit` and `wired_limit` of MLX; their values are None without a budget."""
    keys = ("memory.memory_limit_bytes", "memory.cache_limit_bytes", "memory.wired_limit_bytes")
    if situation.budget is None:
        inputs = situation.of_machine("memory_bytes")
        first, second, third = (Decision(key, None, NO_MACHINE, inputs) for key in keys)
        return first, second, third
    total = sum(part.bytes for part in parts)
    memory = _memory_limit(situation.budget, total)
    return memory, _cache_limit(situation.budget, memory.value), _wired_limit(situation, total)


def summed(parts: Sequence[MemoryPart]) -> str:
    """`15.2 GiB = 14.1 GiB weights + 0.8 GiB kv cache + …`, without what takes nothing."""
    shown = " + ".join(f"{gib(part.bytes)} {part.name}" for part in parts if part.bytes)
    return f"{gib(sum(part.bytes for part in parts))} = {shown}"


def _memory_limit(allowed: Budget, total: int) -> Decision:
    value = min(allowed.bytes, _up(int(total * HEADROOM)))
    rule = "the footprint and 15 % for what the estimate misses, at most the budget"
    return Decision("memory.memory_limit_bytes", value, rule, ("plan:memory.footprint_bytes", BUDGET))


def _cache_limit(allowed: Budget, memory_limit_bytes: int) -> Decision:
    share = min(int(allowed.bytes * CACHE_SHARE), MOST_CACHE_BYTES, allowed.ceiling_bytes - memory_limit_bytes)
    rule = "5 % of the budget, at most 1 GiB: with it MLX stays below what the machine has"
    value = max(0, share) // MIB * MIB
    return Decision("memory.cache_limit_bytes", value, rule, (BUDGET, "plan:memory.memory_limit_bytes"))


def _wired_limit(situation: Situation, total: int) -> Decision:
    key, machine = "memory.wired_limit_bytes", situation.machine
    if situation.target.platform != "macos" or machine is None:
        return Decision(key, None, "only macOS wires memory for a GPU", ("target:platform",))
    inputs = situation.of_machine("macos")
    if machine.macos is None:
        return Decision(key, None, "the target doesn't tell its macOS, and before 15 nothing can be wired", inputs)
    if int(machine.macos.partition(".")[0]) < WIRED_FROM_MACOS:
        return Decision(key, None, f"macOS {machine.macos} can't: it takes {WIRED_FROM_MACOS} or later", inputs)
    value = min(_up(total), machine.working_set_bytes or 0)
    rule = "the footprint: what must not be paged out; never more than the working set"
    inputs = ("plan:memory.footprint_bytes", *situation.of_machine("macos", "working_set_bytes"))
    return Decision(key, value, rule, inputs)


def _prefix_tokens(point: Point) -> int:
    return min(point.context, USUAL_PREFIX_TOKENS)


def _up(size_bytes: int) -> int:
    return -(-size_bytes // MIB) * MIB
