"""What a service with torch is set up with: on the GPU of a Mac (MPS), on a Linux CPU, on an NVIDIA GPU."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlspec.hardware.budget import budget, gib, origin
from mlspec.model.machine import Machine
from mlspec.model.plan import Decision
from mlspec.model.target import Target

HIGH = "PYTORCH_MPS_HIGH_WATERMARK_RATIO"
LOW = "PYTORCH_MPS_LOW_WATERMARK_RATIO"

USUAL_HIGH = 0.95
"""Of the working set, where the machine isn't known."""

LEAST_HIGH = 0.05
"""A mark of 0 is no limit at all (torch, `MPSHeapAllocatorImpl::setHighWatermarkRatio`)."""

LOW_TO_HIGH = 1.4 / 1.7
"""The low mark to the high one, as torch's own have it."""

_NATIVE_BF16_SINCE_GENERATION = 3
_BF16_SINCE_MACOS = 14
_OVERFLOWS = "float16: values above 65,504 overflow"
_LARGE = "float32: twice the memory, and half the speed where bandwidth is the limit"


_Given = Mapping[str, str | None]

DEVICES: Mapping[str, str] = {"metal": "mps", "cpu": "cpu", "cuda12": "cuda", "cuda13": "cuda"}
"""What torch calls each accelerator."""


@dataclass(frozen=True)
class Wanted:
    """What a spec says of a model's device and dtype; `auto` leaves it to the target."""

    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True)
class _Setting:
    """A decision, and the variable that carries it to the service, if one does."""

    variable: str | None
    decision: Decision

    @property
    def text(self) -> str:
        value = self.decision.value
        return f"{value:g}" if isinstance(value, float) else str(value)


def devices(target: Target) -> tuple[str, ...]:
    """What torch can compute on there: the accelerator, and the CPU beside it."""
    return tuple(dict.fromkeys((DEVICES[target.accelerator], "cpu")))


def torch_plan(
    target: Target, given: _Given, wanted: Wanted | None = None
) -> tuple[tuple[Decision, ...], Mapping[str, str]]:
    """Decisions for a service whose requirements hold torch, and the environment that carries them out.

    `given` are the variables of the spec's own, None those that are set where the service starts: they stand. `wanted`
    is a device that the target has.
    """
    found = [_as_given(setting, given) for setting in _settings(target, given, wanted or Wanted())]
    environment = {s.variable: s.text for s in found if s.variable and s.decision.value is not None}
    return tuple(setting.decision for setting in found), environment


def _as_given(setting: _Setting, given: _Given) -> _Setting:
    if setting.variable is None or setting.variable not in given:
        return setting
    value = given[setting.variable]
    rule = "set where the service starts" if value is None else "as the spec says"
    decision = Decision(setting.decision.key, value, rule, ("spec:/service/env",), given=True)
    return _Setting(setting.variable, decision)


def _settings(target: Target, given: _Given, wanted: Wanted) -> Iterator[_Setting]:
    device = _device(target, wanted)
    yield _Setting("MLSPEC_TORCH_DEVICE", device)
    yield _Setting("MLSPEC_TORCH_DTYPE", _dtype(target, device.value, wanted))
    if device.value == "mps":
        yield from _watermarks(target, given)
        yield _Setting("PYTORCH_ENABLE_MPS_FALLBACK", _fallback())
        yield _Setting(None, _bentoml_gpus())
    if device.value == "cpu":
        yield _Setting("OMP_NUM_THREADS", _threads(target.machine))


def _device(target: Target, wanted: Wanted) -> Decision:
    key = "torch.device"
    if wanted.device != "auto":
        return Decision(key, wanted.device, "as the spec says", ("spec:/model/device",), given=True)
    rule = f"the target's accelerator is {target.accelerator}"
    return Decision(key, DEVICES[target.accelerator], rule, ("target:accelerator",))


def _dtype(target: Target, device: str, wanted: Wanted) -> Decision:
    key, inputs = "torch.dtype", ("target:accelerator",)
    if wanted.dtype != "auto":
        return Decision(key, wanted.dtype, "as the spec says", ("spec:/model/dtype",), given=True)
    if device == "mps":
        return _mac_dtype(target.machine)
    if device == "cpu":
        rule = "every CPU computes in it at full speed"
        return Decision(
            key, "float32", rule, inputs, ("bfloat16: emulated by most CPUs", "float16: emulated by most CPUs")
        )
    rule = "NVIDIA's GPUs compute in it from Ampere on, with the range of float32"
    return Decision(key, "bfloat16", rule, inputs, (_OVERFLOWS, _LARGE))


def _mac_dtype(machine: Machine | None) -> Decision:
    """M1 and M2 have no bfloat16: Metal emulates it (M2 Ultra: 19 tokens/s, in float16 29; mlx-examples #186)."""
    key = "torch.dtype"
    if machine is None or machine.chip is None:
        rule, rejected = "no chip is named: the GPU of each computes in it", ("bfloat16: emulated on M1 and M2", _LARGE)
        return Decision(key, "float16", rule, ("target:machine",), rejected)
    name, inputs = machine.chip.name, origin(machine, "chip", "macos")
    if machine.chip.generation < _NATIVE_BF16_SINCE_GENERATION:
        rule = f"the GPU of the {name} has no bfloat16"
        return Decision(key, "float16", rule, inputs[:1], ("bfloat16: Metal emulates it there, more slowly", _LARGE))
    if machine.macos is not None and _major(machine.macos) < _BF16_SINCE_MACOS:
        rule = f"torch has no bfloat16 before macOS {_BF16_SINCE_MACOS}"
        return Decision(key, "float16", rule, inputs, ("bfloat16: torch raises a TypeError there", _LARGE))
    rule = f"the GPU of the {name} has it, with the range of float32"
    return Decision(key, "bfloat16", rule, inputs, (_OVERFLOWS, _LARGE))


def _major(macos: str) -> int:
    digits = re.match(r"\d+", macos)
    return int(digits[0]) if digits else 0


def _watermarks(target: Target, given: _Given) -> Iterator[_Setting]:
    """Both marks: torch refuses to start with a high one below the low one, whose default is 1.4."""
    decided = _high(target)
    high = _ratio(given[HIGH]) if HIGH in given else max(decided.value, _ratio(given.get(LOW)))
    yield _Setting(HIGH, Decision(decided.key, high, decided.rule, decided.inputs, decided.rejected))
    rule = "from here on torch gives freed buffers back; it may not be above the high mark, and torch's own is 1.4"
    low = _rounded_down(high * LOW_TO_HIGH) if high else None
    yield _Setting(LOW, Decision("torch.mps_low_watermark", low, rule, ("plan:torch.mps_high_watermark",)))


def _high(target: Target) -> Decision:
    key = "torch.mps_high_watermark"
    rejected = ("1.7, torch's own: more than the Mac has, so that it swaps instead of refusing",)
    machine, allowed = target.machine, budget(target)
    if machine is None or allowed is None or not machine.working_set_bytes:
        rule = (
            f"{USUAL_HIGH:g} of the working set that Metal recommends: no machine is named, and Metal needs some itself"
        )
        return Decision(key, USUAL_HIGH, rule, ("target:machine",), rejected)
    ratio = max(LEAST_HIGH, _rounded_down(allowed.bytes / machine.working_set_bytes))
    reserved = f" and {gib(machine.reserved_bytes)} that the spec reserves" if machine.reserved_bytes else ""
    rule = (
        f"{gib(allowed.bytes)} of the {gib(machine.working_set_bytes)} that Metal recommends: less a margin{reserved}"
    )
    return Decision(key, ratio, rule, allowed.inputs, rejected)


def _ratio(text: str | None) -> float:
    """A ratio as torch reads it (strtod): what is no number is 0, and no mark."""
    number = re.match(r"\s*\d*\.?\d+", text or "")
    return float(number[0]) if number else 0.0


def _rounded_down(ratio: float) -> float:
    return math.floor(ratio * 100) / 100


def _fallback() -> Decision:
    rule = "an operation that MPS lacks runs on the CPU, slowly and with a warning"
    return Decision("torch.mps_fallback", 1, rule, ("target:accelerator",), ("0: such a request fails",))


def _bentoml_gpus() -> Decision:
    rule = "never given on a Mac: BentoML only warns and sets CUDA_VISIBLE_DEVICES"
    return Decision("torch.bentoml_gpus", None, rule, ("target:platform",))


def _threads(machine: Machine | None) -> Decision:
    key = "torch.threads"
    if machine is None or machine.cpus is None:
        return Decision(key, None, "no machine is named: torch takes as many as it sees cores", ("target:machine",))
    rejected = ("torch's own choice: in a container with fewer CPUs it still sees all of the computer's",)
    return Decision(key, machine.cpus, "as many as the machine has CPUs", origin(machine, "cpus"), rejected)
