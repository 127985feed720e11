"""What is decided of a Core ML model: where it computes, which Macs it needs, whether it is converted first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlspec.characters import quoted
from mlspec.hardware.budget import budget
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Decision, MemoryPart
from mlspec.model.signature import Tensor
from mlspec.model.target import Target
from mlspec.runners import Faults
from mlspec.runners.coreml.conversion import PACKAGE, converted_bytes, derivation
from mlspec.runners.coreml.model import EXPORTED, Convert, CoremlModel
from mlspec.runners.coreml.package import specification
from mlspec.runners.coreml.signature import limits, named, tensors_of
from mlspec.runners.coreml.specification import MACOS_OF_VERSION
from mlspec.tensors.plan import TensorModelPlan


def plan_model(model: CoremlModel, facts: ModelFacts, target: Target, faults: Faults) -> TensorModelPlan | None:
    """The plan of one model; None after a fault was reported."""
    if target.platform != "macos":
        message = f"Core ML is a part of macOS, and the target {quoted(target.name)} is for {target.platform}"
        help = "say platform: macos; for Linux serve the same network by the runner torch or onnx"
        faults.error("target-mismatch", message, ("runner",), help=help)
        return None
    if model.convert is None:
        return _package(model, facts, target, faults)
    return _converted(model, model.convert, facts, target, faults)


def _package(model: CoremlModel, facts: ModelFacts, target: Target, faults: Faults) -> TensorModelPlan | None:
    found = specification(facts.details)
    tensors = tensors_of(model, found, faults)
    minimum = MACOS_OF_VERSION.get(found.version)
    if tensors is None or not _reads(target, minimum, f"version {found.version} of Core ML's format", faults):
        return None
    inputs, outputs = tensors
    features = named(found.inputs)
    bounds = limits(features, inputs)
    settings = {
        "file": facts.details["package"],
        "images": [tensor.name for tensor in inputs if features[tensor.name].kind == "image"],
        "limits": bounds,
        "names": {n: f.name for n, f in {**features, **named(found.outputs)}.items() if n != f.name},
    }
    why = Decision("coreml.minimum_macos", minimum, "by the package's version", ("facts:artifacts/version",))
    any_rows = not any(bound["shapes"] for bound in bounds.values())
    plan = _plan(model, target, settings, inputs, outputs, facts.parameter_bytes, (why,))
    return replace(plan, batches=any_rows)


def _converted(
    model: CoremlModel, convert: Convert, facts: ModelFacts, target: Target, faults: Faults
) -> TensorModelPlan | None:
    minimum = convert.minimum_deployment_target.removeprefix("macOS")
    if not (_is_trusted(convert, facts, faults) and _reads(target, minimum, "the deployment target", faults)):
        return None
    inputs, outputs = model.inputs or (), model.outputs or ()
    rows = {tensor.name: _rows(tensor, convert.max_rows) for tensor in inputs if _is_open(tensor)}
    settings = {
        "file": PACKAGE,
        "images": [],
        "names": {},
        "limits": {name: {"ranges": ranges, "shapes": []} for name, ranges in rows.items()},
    }
    spec = "spec:/model/convert"
    decisions = (
        Decision("coreml.convert", f"from {facts.details['source']}", "as the spec says", (spec,), given=True),
        _of_convert(convert, "minimum_deployment_target", "coreml.minimum_macos", minimum),
        _of_convert(convert, "precision", "coreml.precision", convert.precision),
    )
    plan = _plan(model, target, settings, inputs, outputs, converted_bytes(convert, facts), decisions)
    return replace(plan, derivations=(derivation(model, convert, facts),))


def _of_convert(convert: Convert, name: str, key: str, value: str) -> Decision:
    given = name in convert.model_fields_set
    usual = {
        "precision": "the Neural Engine computes in float16 alone",
        "minimum_deployment_target": "the first that takes and gives float16",
    }
    return Decision(
        key, value, "as the spec says" if given else usual[name], (f"spec:/model/convert/{name}",), given=given
    )


def _plan(
    model: CoremlModel,
    target: Target,
    settings: dict[str, Any],
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    weights_bytes: int,
    decisions: tuple[Decision, ...],
) -> TensorModelPlan:
    given, allowed = "compute_units" in model.model_fields_set, budget(target)
    rule = "as the spec says" if given else "Core ML chooses for each operation where it is quickest"
    units = Decision("coreml.compute_units", model.compute_units, rule, ("spec:/model/compute_units",), given=given)
    part = MemoryPart(
        "weights", weights_bytes, "the package's files: Core ML compiles them as it loads, and doesn't tell"
    )
    return TensorModelPlan(
        {**settings, "compute_units": model.compute_units},
        inputs,
        outputs,
        decisions=(units, *decisions),
        memory=(part,),
        budget_bytes=allowed.bytes if allowed else None,
    )


def _is_open(tensor: Tensor) -> bool:
    return bool(tensor.shape) and isinstance(tensor.shape[0], str)


def _rows(tensor: Tensor, most: int) -> list[list[int]]:
    return [[1, most], *([int(size), int(size)] for size in tensor.shape[1:])]


def _is_trusted(convert: Convert, facts: ModelFacts, faults: Faults) -> bool:
    """That an exported program is the one that the spec trusts: loading it may run code."""
    name = facts.details["source"]
    found = next((file for file in facts.files if file.path == name), None)
    if not name.endswith(EXPORTED) or (found is not None and found.sha256 == convert.sha256):
        return True
    has = found.sha256 if found else "no digest"
    message = f"{quoted(name)} has the digest {has[:12]}…, and the spec trusts {str(convert.sha256)[:12]}…"
    faults.error(
        "untrusted-model", message, ("convert", "sha256"), help="look where the file comes from before you trust it"
    )
    return False


def _reads(target: Target, minimum: str | None, what: str, faults: Faults) -> bool:
    """Whether the target's macOS, if it is known, reads the model."""
    macos = target.machine.macos if target.machine else None
    if macos is None or minimum is None or _major(macos) >= _major(minimum):
        return True
    message = f"{what} needs macOS {minimum}, and the target {quoted(target.name)} has {macos}"
    faults.error("target-mismatch", message, ("artifacts",), help="convert it for an older macOS, or update the Mac")
    return False


def _major(macos: str) -> int:
    digits = macos.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0
