"""What is decided of a network of MLX: what its floats are cast to, the memory that it may take, its libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlspec.hardware.budget import Budget, budget, gib, origin
from mlspec.hardware.mlx import (
    BLAS_PACKAGE,
    BUDGET,
    THREADS,
    cache_limit,
    preload,
    threads,
    unplanned_limits,
    wired_limit,
)
from mlspec.model.plan import Decision, MemoryPart
from mlspec.model.target import Target
from mlspec.runners.mlx.facts import Arrays
from mlspec.runners.mlx.model import MlxModel

_NATIVE_BF16_SINCE_GENERATION = 3
_OVERFLOWS = "float16: values above 65,504 overflow"
_LARGE = "float32: twice the memory, and half the speed where bandwidth is the limit"
_DTYPE = "runtime.dtype"


@dataclass(frozen=True)
class Decided:
    """All decisions by key; `environment` is set where the service starts."""

    decisions: Mapping[str, Decision]
    environment: Mapping[str, str]
    system_packages: tuple[str, ...]
    parts: tuple[MemoryPart, ...]
    budget: Budget | None

    @property
    def dtype(self) -> str | None:
        value: str | None = self.decisions[_DTYPE].value
        return value

    @property
    def memory(self) -> dict[str, int | None]:
        """MLX's limits, as the runtime reads them."""
        names = ("memory_limit_bytes", "cache_limit_bytes", "wired_limit_bytes")
        return {name: self.decisions[f"memory.{name}"].value for name in names}


def decide(model: MlxModel, arrays: Arrays, target: Target, given: Mapping[str, str | None]) -> Decided:
    """All that is decided for a target. `given` are the variables of the spec's own."""
    dtype, allowed = _dtype(model, arrays, target), budget(target)
    weights_bytes = arrays.bytes_as(dtype.value)
    blas_threads = threads(target, {name: (value, "spec:/service/env") for name, value in given.items()})
    decisions = (
        dtype,
        _compile(model),
        preload(target),
        *_limits(target, allowed, weights_bytes),
        *((blas_threads,) if blas_threads else ()),
    )
    environment = {THREADS: blas_threads.value} if blas_threads and blas_threads.value is not None else {}
    packages = (BLAS_PACKAGE,) if target.accelerator == "cpu" else ()
    part = MemoryPart("weights", weights_bytes, f"the file's arrays, floats as {dtype.value or 'they are'}")
    return Decided({d.key: d for d in decisions}, environment, packages, (part,), allowed)


def _dtype(model: MlxModel, arrays: Arrays, target: Target) -> Decision:
    """What the floats of file and inputs are cast to; None: they stay as they are."""
    spec = "spec:/model/dtype"
    if model.dtype == "keep":
        rule = "as the spec says: the file's own"
        rule += "" if arrays.stored_type else "; it has several types of floats, so inputs stay as they are declared"
        return Decision(_DTYPE, arrays.stored_type, rule, (spec, "facts:artifacts/floats"), given=True)
    if model.dtype != "auto":
        return Decision(_DTYPE, model.dtype, "as the spec says", (spec,), given=True)
    if target.accelerator == "cpu":
        rejected = ("float16: many times slower", "bfloat16: many times slower")
        return Decision(_DTYPE, "float32", "on a Linux CPU the fastest by far", ("target:accelerator",), rejected)
    if target.accelerator == "metal":
        return _on_a_mac(target)
    rule = "NVIDIA's GPUs compute in it from Ampere on, with the range of float32"
    return Decision(_DTYPE, "bfloat16", rule, ("target:accelerator",), (_OVERFLOWS, _LARGE))


def _on_a_mac(target: Target) -> Decision:
    """M1 and M2 have no bfloat16: Metal emulates it (M2 Ultra: 19 tokens/s, in float16 29; mlx-examples #186)."""
    machine = target.machine
    if machine is None or machine.chip is None:
        rejected = ("bfloat16: emulated on M1 and M2", _LARGE)
        return Decision(
            _DTYPE, "float16", "no chip is named: the GPU of each computes in it", ("target:machine",), rejected
        )
    name, inputs = machine.chip.name, origin(machine, "chip")
    if machine.chip.generation < _NATIVE_BF16_SINCE_GENERATION:
        rejected = ("bfloat16: Metal emulates it there, more slowly", _LARGE)
        return Decision(_DTYPE, "float16", f"the GPU of the {name} has no bfloat16", inputs, rejected)
    rule = f"the GPU of the {name} has it, with the range of float32"
    return Decision(_DTYPE, "bfloat16", rule, inputs, (_OVERFLOWS, _LARGE))


def _compile(model: MlxModel) -> Decision:
    key, spec = "runtime.compile", ("spec:/model/compile",)
    if "compile" in model.model_fields_set:
        return Decision(key, model.compile, "as the spec says", spec, given=True)
    rule = "mx.compile compiles anew for each shape, and takes no module that looks at its numbers: only if asked for"
    return Decision(key, False, rule, spec)


def _limits(target: Target, allowed: Budget | None, weights_bytes: int) -> tuple[Decision, ...]:
    rule = "the weights: what must not be paged out; never more than the working set"
    wired = wired_limit(target, weights_bytes, rule, ("facts:artifacts/floats", f"plan:{_DTYPE}"))
    if allowed is None:
        return (*unplanned_limits(target), wired)
    budgeted = Decision("memory.budget_bytes", allowed.bytes, allowed.rule, allowed.inputs)
    rule = "the budget: what a network computes with beside its weights is known when it runs"
    limit = Decision("memory.memory_limit_bytes", allowed.bytes, rule, (BUDGET,))
    return (budgeted, limit, cache_limit(allowed, allowed.bytes), wired)


def too_large(decided: Decided, target: Target) -> str | None:
    """Why the weights alone don't fit; None if they do, or nothing is known of the machine."""
    needed = sum(part.bytes for part in decided.parts)
    if decided.budget is None or target.machine is None or needed <= decided.budget.bytes:
        return None
    where = target.machine.title if target.accelerator == "metal" else "machine"
    as_what = f" as {decided.dtype}" if decided.dtype else ""
    return f"the weights{as_what} need {gib(needed)}; this {where} allows {gib(decided.budget.bytes)}"
