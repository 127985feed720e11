"""The plan of a language model: what is chosen, then every value with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.hardware.mlx import BLAS_PACKAGE, THREADS
from mlspec.model.facts import Facts
from mlspec.model.plan import Decision, MemoryPart, MemoryPlan, RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.planning import memory, model, runtime
from mlspec.runners.mlx_lm.planning.adapters import decide_adapters
from mlspec.runners.mlx_lm.planning.deriving import conversions, decide_conversions, derivation
from mlspec.runners.mlx_lm.planning.policy import Choice, Point, Question, choose
from mlspec.runners.mlx_lm.planning.service import decide_concurrency
from mlspec.runners.mlx_lm.planning.situation import Situation
from mlspec.runners.mlx_lm.planning.speed import estimate_speed, warn_of_slow_prompts

CONVERSATION = ("model.chat_template", "model.system_prompt")


@dataclass(frozen=True)
class _Chosen:
    """What everything else follows from."""

    situation: Situation
    question: Question
    choice: Choice
    prompt_cache_bytes: int

    @property
    def point(self) -> Point:
        return self.choice.point

    def parts(self) -> tuple[MemoryPart, ...]:
        return self.situation.parts(self.point, self.prompt_cache_bytes)


def plan_model(spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
    """The runner's part of the plan; None after a fault was reported."""
    situation = Situation(spec, facts, target)
    longest = model.longest_context(situation, faults)
    if longest is None:
        return None
    # A prefix is worth more than the last tokens of a context; where none finds room, the context has it all.
    chosen = _chosen(situation, longest, prefix=True)
    if chosen is None or not chosen.prompt_cache_bytes:
        chosen = _chosen(situation, longest, prefix=False)
    if chosen is None:
        from mlspec.runners.mlx_lm.planning.refusal import refuse  # costs a build milliseconds that hardly any needs

        refuse(situation, situation.question(longest), faults)
        return None
    warn_of_slow_prompts(situation, chosen.point, faults)
    return _plan(chosen)


def _chosen(situation: Situation, longest: int, *, prefix: bool) -> _Chosen | None:
    question = situation.question(longest, prefix=prefix)
    choice = choose(question)
    if choice is None:
        return None
    return _Chosen(situation, question, choice, memory.prompt_cache_bytes(situation, choice.point))


def _plan(chosen: _Chosen) -> RunnerPlan:
    situation, point, parts = chosen.situation, chosen.point, chosen.parts()
    decisions = {decision.key: decision for decision in _decisions(chosen, parts)}
    threads = decisions.get(f"environment.{THREADS}")
    environment = {"HF_HUB_OFFLINE": "1"}
    if threads is not None and threads.value is not None:
        environment[THREADS] = threads.value
    dtype = situation.computed_type
    return RunnerPlan(
        decisions=tuple(decisions.values()),
        settings=_settings(situation, decisions, memory.of_requests(parts, point.concurrency)),
        concurrency=point.concurrency,
        environment=environment,
        system_packages=(BLAS_PACKAGE,) if situation.on_cpu else (),
        memory=MemoryPlan(parts, situation.budget.bytes if situation.budget else None),
        speed=estimate_speed(situation, point),
        derivations=(*derivation(situation.base, point.option, dtype), *conversions(situation.facts)),
    )


def _decisions(chosen: _Chosen, parts: tuple[MemoryPart, ...]) -> tuple[Decision, ...]:
    situation, question, point = chosen.situation, chosen.question, chosen.point
    threads = runtime.decide_threads(situation)
    return (
        model.decide_context(situation, question, point),
        model.decide_quantization(situation, question, chosen.choice),
        model.decide_kv_bits(situation, point),
        model.decide_speculation(situation),
        model.decide_adapter(situation.model),
        *decide_adapters(situation),
        *decide_conversions(situation.facts),
        *model.decide_conversation(situation.model),
        model.decide_sampling(situation.spec),
        decide_concurrency(situation, question, point),
        runtime.decide_prefill_step(situation, question, point),
        runtime.decide_dtype(situation),
        runtime.decide_preload(situation),
        memory.decide_budget(situation),
        memory.decide_footprint(parts),
        *memory.decide_limits(situation, parts),
        memory.decide_prompt_cache(situation, point, chosen.prompt_cache_bytes),
        *((threads,) if threads else ()),
    )


def _settings(situation: Situation, decisions: Mapping[str, Decision], of_requests: tuple[int, int]) -> dict[str, Any]:
    """What the serve-time runner reads; on a smaller machine it admits fewer requests, by what each takes."""
    limits = ("memory_limit_bytes", "cache_limit_bytes", "wired_limit_bytes")
    fixed_bytes, request_bytes = of_requests if situation.budget else (None, None)
    return {
        "context_length": decisions["model.context_length"].value,
        **{key.removeprefix("model."): decisions[key].value for key in CONVERSATION if key in decisions},
        "adapters": [adapter.name for adapter in situation.model.adapters],
        "adapter_slots": situation.adapter_slots,
        "preload": situation.preloaded_adapters,
        "default_adapter": decisions["model.default_adapter"].value,
        "sampling": decisions["model.sampling"].value,
        "preload_blas": decisions["runtime.preload_blas"].value,
        "dtype": decisions["runtime.dtype"].value,
        "prefill_step": decisions["runtime.prefill_step"].value,
        "kv_bits": situation.kv_bits,
        "prompt_cache_bytes": decisions["memory.prompt_cache_bytes"].value,
        "memory": {
            **{name: decisions[f"memory.{name}"].value for name in limits},
            "fixed_bytes": fixed_bytes,
            "request_bytes": request_bytes,
        },
    }
