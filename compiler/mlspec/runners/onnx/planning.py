"""What is decided of a model in ONNX: who computes it, on how many threads, and the memory that it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from mlspec.characters import quoted
from mlspec.hardware.budget import budget, gib, origin
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Decision, MemoryPart
from mlspec.model.signature import Tensor
from mlspec.model.target import Target
from mlspec.runners import Faults
from mlspec.runners.onnx.model import OnnxModel
from mlspec.runners.onnx.versions import too_new, unknown_domains
from mlspec.signatures import Found, agree, compared
from mlspec.suggest import listed
from mlspec.tensors.plan import TensorModelPlan

PROVIDER, UNITS, THREADS = "model.provider", "model.compute_units", "model.threads"
_OF_ACCELERATOR = {"metal": "coreml", "cpu": "cpu", "cuda12": "cuda", "cuda13": "cuda"}
_WITHOUT_BUILD = ("cuda12", "arm64")
_NAMES = {"coreml": "Core ML", "cpu": "the CPU", "cuda": "CUDA"}


def plan_model(
    model: OnnxModel, facts: ModelFacts, target: Target, version: str, faults: Faults
) -> TensorModelPlan | None:
    """The runner's own part of a plan, for this version of onnxruntime; None after a fault was reported."""
    tensors = _tensors(model, facts.details, faults)
    provider = _provider(model, target, faults)
    if not _readable(facts.details, version, faults) or provider is None or tensors is None:
        return None
    parts = (MemoryPart("weights", facts.parameter_bytes, _WEIGHTS),)
    budget_bytes = _budget_bytes(provider.value, target)
    if budget_bytes is not None and facts.parameter_bytes > budget_bytes:
        message = f"the weights need {gib(facts.parameter_bytes)}; this machine allows {gib(budget_bytes)}"
        faults.error("does-not-fit", message, ("artifacts",), help="take a larger machine, or a smaller model")
        return None
    threads, units = _threads(model, target), _compute_units(model, provider.value)
    settings = {
        "file": facts.details["file"],
        "names": facts.details["names"],
        "provider": provider.value,
        "compute_units": model.compute_units,
        "threads": threads.value,
        "cache_key": _digest(facts),
    }
    inputs, outputs = tensors
    decisions = (provider, *units, threads)
    return TensorModelPlan(settings, inputs, outputs, decisions=decisions, memory=parts, budget_bytes=budget_bytes)


_WEIGHTS = "the file's tensors; what onnxruntime makes of them, and computes with, isn't known before it runs"


def _tensors(
    model: OnnxModel, details: Mapping[str, Any], faults: Faults
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None:
    """The model's inputs and outputs: as declared, where that is true of the file, else as the file says."""
    takes, gives = ([Found.of_data(one) for one in details["signature"][key]] for key in ("inputs", "outputs"))
    inputs, outputs = compared(model.inputs, takes, "inputs", faults), compared(model.outputs, gives, "outputs", faults)
    if inputs is None or outputs is None:
        return None
    declared = {"inputs": model.inputs or (), "outputs": model.outputs or ()}
    found = {"inputs": takes, "outputs": gives}
    return (inputs, outputs) if agree(declared, found, details.get("assumed"), faults) else None


def _readable(details: Mapping[str, Any], version: str, faults: Faults) -> bool:
    """That onnxruntime has all that the model is made of."""
    reason = too_new(details, version)
    if reason is not None:
        help = "export it for an older one: torch.onnx.export(…, opset_version=20), or onnx.version_converter"
        faults.error("model-version", f"{details['file']} {reason}", ("artifacts",), help=help)
    if unknown := unknown_domains(details):
        message = f"{details['file']} has operators of {listed(unknown)}, which onnxruntime doesn't have"
        faults.error("model-format", message, ("artifacts",), help="export it with ONNX's own operators")
    if lacking := details.get("unknown_operators"):
        message = f"{details['file']} has {_operators(lacking)}, which onnxruntime doesn't have in {_opset(details)}"
        faults.error("model-format", message, ("artifacts",), help="export it with ONNX's own operators")
    return reason is None and not unknown and not lacking


def _operators(names: Sequence[str]) -> str:
    return f"the operator{'s' if len(names) > 1 else ''} {listed(map(quoted, names))}"


def _opset(details: Mapping[str, Any]) -> str:
    opset = details["opsets"].get("ai.onnx")
    return "ONNX's own domain" if opset is None else f"opset {opset} of ONNX's own domain"


def _provider(model: OnnxModel, target: Target, faults: Faults) -> Decision | None:
    """Which of onnxruntime's execution providers computes; None after a fault was reported."""
    usual = _OF_ACCELERATOR[target.accelerator]
    if (target.accelerator, target.arch) == _WITHOUT_BUILD and model.provider != "cpu":
        message = f"onnxruntime has no build for CUDA 12 on arm64, as target '{target.name}' wants it"
        faults.error("target-mismatch", message, ("provider",), help="write provider: cpu, or accelerator: cuda13")
        return None
    if model.provider == "auto":
        rejected = ("cpu: as the GPU and the Neural Engine stand idle",) if usual == "coreml" else ()
        inputs = ("spec:/model/provider", "target:accelerator")
        return Decision(PROVIDER, usual, f"what the target's {target.accelerator} is reached by", inputs, rejected)
    if model.provider not in ("cpu", usual):
        message = (
            f"target '{target.name}' computes on {target.accelerator}, which {_NAMES[model.provider]} doesn't reach"
        )
        faults.error("target-mismatch", message, ("provider",), help=f"write {usual}, cpu or auto")
        return None
    return Decision(PROVIDER, model.provider, "as the spec says", ("spec:/model/provider",), given=True)


def _compute_units(model: OnnxModel, provider: str) -> tuple[Decision, ...]:
    if provider != "coreml":
        return ()
    given = "compute_units" in model.model_fields_set
    rule = "as the spec says" if given else "Core ML itself chooses among CPU, GPU and Neural Engine"
    return (Decision(UNITS, model.compute_units, rule, ("spec:/model/compute_units",), given=given),)


def _threads(model: OnnxModel, target: Target) -> Decision:
    """Of one computation; 0: as many as the computer has cores, which shows where it runs."""
    if model.threads != "auto":
        return Decision(THREADS, model.threads, "as the spec says", ("spec:/model/threads",), given=True)
    if target.machine is None or target.machine.cpus is None:
        rule = "0: as many as there are cores where it runs, as the target says nothing of them"
        return Decision(THREADS, 0, rule, ("target:machine",))
    return Decision(
        THREADS, target.machine.cpus, "one a core: one batch is computed at a time", origin(target.machine, "cpus")
    )


def _budget_bytes(provider: str, target: Target) -> int | None:
    """An NVIDIA GPU's own memory, else all that the machine has for the service."""
    if target.machine is None:
        return None
    if provider == "cuda":
        allowed = budget(target)
        return allowed.bytes if allowed else None
    return max(0, target.machine.memory_bytes - target.machine.reserved_bytes)


def _digest(facts: ModelFacts) -> str:
    """Another one for another model: what Core ML has compiled of one is kept under it."""
    told = "".join(f"{file.sha256}  {file.path}\n" for file in facts.files)
    return hashlib.sha256(told.encode()).hexdigest()[:32]
