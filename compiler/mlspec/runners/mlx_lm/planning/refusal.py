"""What doesn't fit: the sum, and the place of the spec that is most to blame."""

from __future__ import annotations

from mlspec.hardware.budget import GIB, gib
from mlspec.model.document import Pointer
from mlspec.model.plan import MemoryPart
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.planning.policy import Option, Question
from mlspec.runners.mlx_lm.planning.situation import Situation
from mlspec.runners.mlx_lm.planning.ways_out import ways_out


def refuse(situation: Situation, question: Question, faults: Faults) -> None:
    """Report that not even the smallest service that the spec allows fits."""
    help = "; ".join(map(str, ways_out(situation, question)))
    message = _message(situation, question)
    faults.error("does-not-fit", message, _place(situation, question), help=help or "take a smaller model")


def _message(situation: Situation, question: Question) -> str:
    """`needs 15.2 GiB = 14.1 weights + 0.8 kv cache + 0.3 runtime; this Apple M1, 16 GB allows 10.1 GiB`."""
    least, allowed = question.least(), question.budget_bytes or 0
    parts = situation.parts(least, situation.asked_prompt_cache_bytes)
    total = gib(sum(part.bytes for part in parts))
    terms = [_term(part, least.option) for part in parts if part.bytes >= GIB / 20]
    smallest = "at least " if question.open else ""
    has = f"this {_machine(situation)} allows {gib(allowed)}{_reserved(situation)}"
    return f"needs {smallest}{total} = {' + '.join(terms)}; {has}"


def _reserved(situation: Situation) -> str:
    """What the spec keeps for others, if that is a part of the reason."""
    machine = situation.machine
    if machine is None or not machine.reserved_bytes or situation.target.accelerator.startswith("cuda"):
        return ""
    return f" after {machine.reserved_bytes / GIB:g} GB are reserved"


def _term(part: MemoryPart, option: Option) -> str:
    quantized = f" at {option.title}" if part.name == "weights" and option.quantization else ""
    return f"{part.bytes / GIB:.1f} {part.name}{quantized}"


def _machine(situation: Situation) -> str:
    machine = situation.machine
    if machine is None:
        return "machine"
    if situation.target.accelerator == "metal":
        return machine.title
    if situation.target.accelerator == "cpu":
        return f"machine of {machine.memory_bytes / GIB:g} GB"
    return f"GPU of {(machine.gpu_memory_bytes or 0) / GIB:g} GB"


def _place(situation: Situation, question: Question) -> Pointer:
    model = situation.model
    if question.least().option.weights_bytes > (question.budget_bytes or 0):
        return ("quantization",) if "quantization" in model.model_fields_set else ("base",)
    keys = ("context_length", "prompt_cache_mb", "prefill_step")
    given = [key for key in keys if getattr(model, key) not in ("auto", 0)]
    return (given[0],) if given else ("base",)
