"""What is decided of a network of PyTorch: where and in what it computes, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.hardware.budget import MIB, budget, gib
from mlspec.hardware.mps import Wanted, devices, torch_plan
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Decision, MemoryPart
from mlspec.model.target import Target
from mlspec.runners import Faults
from mlspec.runners.torch.model import TorchModel
from mlspec.suggest import listed

DTYPE, COMPILE = "torch.dtype", "torch.compile"
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_OF_CLASSES = ("MLSPEC_TORCH_DEVICE", "MLSPEC_TORCH_DTYPE")
"""What tells a user's own class the device and the dtype; the runtime of this runner has them from its settings."""
_LIBRARY_BYTES = 300 * MIB
_COMPILER = "g++"


@dataclass(frozen=True)
class Decided:
    """`environment` is set where the service starts; `budget_bytes` is what the device may hold, None: not known."""

    decisions: tuple[Decision, ...]
    environment: Mapping[str, str]
    system_packages: tuple[str, ...]
    memory: tuple[MemoryPart, ...]
    budget_bytes: int | None

    def value(self, key: str) -> Any:
        return next(decision.value for decision in self.decisions if decision.key == key)


def decide(
    model: TorchModel, facts: ModelFacts, target: Target, given: Mapping[str, str | None], faults: Faults
) -> Decided | None:
    """All that is decided for a target; None after a fault was reported. `given` are variables of the spec's own."""
    if model.device != "auto" and model.device not in devices(target):
        has = listed(devices(target), "or")
        message = f"the target '{target.name}' ({target.platform}, {target.accelerator}) has no {model.device}"
        faults.error(
            "target-mismatch", message, ("device",), help=f"write {has}, or leave device out: auto takes the best"
        )
        return None
    own = {name: value for name, value in given.items() if name not in _OF_CLASSES}
    decisions, environment = torch_plan(target, own, Wanted(model.device, _wanted_dtype(model, facts)))
    environment = {name: value for name, value in environment.items() if name not in _OF_CLASSES}
    decisions = tuple(_own_dtype(decision, facts) for decision in decisions)
    device, dtype = (next(d.value for d in decisions if d.key == key) for key in ("torch.device", DTYPE))
    compiled = _compile(model)
    packages = (_COMPILER,) if compiled.value and target.platform == "linux" else ()
    allowed = _budget_bytes(target, device)
    decided = Decided((*decisions, compiled), environment, packages, _memory(facts, device, dtype), allowed)
    return decided if _fits(decided, target, faults) else None


def _wanted_dtype(model: TorchModel, facts: ModelFacts) -> str:
    """An exported program computes as it was exported."""
    return "auto" if facts.details["format"] == "exported" else model.dtype


def _own_dtype(decision: Decision, facts: ModelFacts) -> Decision:
    if decision.key != DTYPE or facts.details["format"] != "exported":
        return decision
    rule = "an exported program computes in the types that it was exported with"
    return Decision(DTYPE, "as exported", rule, ("facts:artifacts/format",))


def _compile(model: TorchModel) -> Decision:
    spec = ("spec:/model/compile",)
    if model.compile:
        rule = "as the spec says: compiled as the service starts, by a C++ compiler that must be there"
        return Decision(COMPILE, True, rule, spec, given=True)
    rule = "takes a C++ compiler and a slower start, and not every network gains: only if asked for"
    return Decision(COMPILE, False, rule, spec, given="compile" in model.model_fields_set)


def _memory(facts: ModelFacts, device: str, dtype: str) -> tuple[MemoryPart, ...]:
    """What stays, by headers alone; what a network computes with beside its weights is known when it runs."""
    on_device = _parts(facts, dtype)
    if device == "cuda":
        return on_device[:1]  # of the GPU's own memory; the rest is the computer's
    return (
        *on_device,
        MemoryPart("torch", _LIBRARY_BYTES, "the library itself, measured on Linux with a small network"),
    )


def _parts(facts: ModelFacts, dtype: str) -> tuple[MemoryPart, ...]:
    """The weights first."""
    if facts.details["format"] == "exported":
        return (MemoryPart("weights", facts.parameter_bytes, "the file's tensors, as they are"),)
    sizes: Mapping[str, int] = facts.details["dtypes"]
    weights_bytes, made_bytes = (_as(sizes, kind) for kind in (dtype, "float32"))
    parts = [MemoryPart("weights", weights_bytes, f"the file's tensors, floats as {dtype}")]
    if made_bytes > weights_bytes:
        rule = "while it loads: the network is made in float32, and cast when its tensors are in it"
        parts.append(MemoryPart("loading", made_bytes - weights_bytes, rule))
    return tuple(parts)


def _as(sizes: Mapping[str, int], dtype: str) -> int:
    """The bytes of all tensors with their floats cast."""
    return sum(size // _BYTES[own] * _BYTES[dtype] if own in _BYTES else size for own, size in sizes.items())


def _budget_bytes(target: Target, device: str) -> int | None:
    machine = target.machine
    if machine is None:
        return None
    if device == "cpu":
        return max(0, machine.memory_bytes - machine.reserved_bytes)
    allowed = budget(target)
    return allowed.bytes if allowed else None


def _fits(decided: Decided, target: Target, faults: Faults) -> bool:
    needed = sum(part.bytes for part in decided.memory)
    if decided.budget_bytes is None or target.machine is None or needed <= decided.budget_bytes:
        return True
    terms = " + ".join(f"{gib(part.bytes)} {part.name}" for part in decided.memory)
    where = target.machine.title if target.accelerator == "metal" else "machine"
    message = f"needs {gib(needed)} = {terms}; this {where} allows {gib(decided.budget_bytes)}"
    faults.error("does-not-fit", message, ("artifacts",), help="take a smaller dtype or model, or a larger machine")
    return False
