"""What is decided of a model of scikit-learn: what may be made of its file, and which method gives which output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.hardware.budget import gib
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Decision, MemoryPart
from mlspec.model.target import Target
from mlspec.requirements import pins
from mlspec.runners import Faults
from mlspec.runners.sklearn.model import SklearnModel
from mlspec.suggest import listed
from mlspec.tensors.plan import TensorModelPlan

_SHOWN = 6
_TREES = ("sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor")
"""skops trusts neither: a crafted one makes the process crash, or read beyond its arrays (skops/io/exceptions.py)."""


def plan_model(
    model: SklearnModel, facts: ModelFacts, target: Target, requirements: tuple[str, ...], faults: Faults
) -> TensorModelPlan | None:
    """The runner's own part of a plan; None after a fault was reported."""
    details = facts.details
    fine = [
        _only_trusted(model, details, faults),
        _same_version(details, requirements, faults),
        _same_features(model, details, faults),
    ]
    if not all(fine):
        return None
    machine = target.machine
    budget_bytes = None if machine is None else max(0, machine.memory_bytes - machine.reserved_bytes)
    if budget_bytes is not None and facts.parameter_bytes > budget_bytes:
        message = f"the model needs {gib(facts.parameter_bytes)}; this machine allows {gib(budget_bytes)}"
        faults.error("does-not-fit", message, ("artifacts",), help="take a larger machine, or a smaller model")
        return None
    methods = {tensor.name: model.method(tensor.name) for tensor in model.outputs}
    settings = {
        "file": details["file"],
        "methods": methods,
        "trusted_types": list(model.trusted_types),
        "folders": sorted({f"user/{path}".rpartition("/")[0] for path in model.files}),
        "table": model.as_table,
    }
    return TensorModelPlan(
        settings,
        model.inputs,
        model.outputs,
        decisions=(_methods(model, methods), _trusted(model)),
        memory=(MemoryPart("model", facts.parameter_bytes, "its file, unpacked"),),
        budget_bytes=budget_bytes,
    )


def _methods(model: SklearnModel, methods: Mapping[str, str]) -> Decision:
    rule = "as the spec says, else by the outputs' names" if model.methods else "by the outputs' names"
    inputs = ("spec:/model/methods", "spec:/model/outputs")
    return Decision("model.methods", dict(methods), rule, inputs, given=bool(model.methods))


def _trusted(model: SklearnModel) -> Decision:
    value, inputs = list(model.trusted_types), ("spec:/model/trusted_types", "facts:artifacts/untrusted")
    rule = "as the spec says, beside those that skops makes by itself" if value else "those that skops makes by itself"
    return Decision("model.trusted_types", value, rule, inputs, given=bool(value))


def _only_trusted(model: SklearnModel, details: Mapping[str, Any], faults: Faults) -> bool:
    """That all that would be made of the file is trusted."""
    strange = sorted(set(details["untrusted"]) - set(model.trusted_types))
    if not strange:
        return True
    more = [f"{len(strange) - _SHOWN} more"] if len(strange) > _SHOWN else []
    told = listed([*(quoted(name) for name in strange[:_SHOWN]), *more])
    message = f"{quoted(details['file'])} makes {told}, which {'is' if len(strange) == 1 else 'are'} not trusted"
    pointer = ("trusted_types",) if "trusted_types" in model.model_fields_set else ("artifacts",)
    faults.error("untrusted-types", message, pointer, help=_remedy(strange))
    return False


def _remedy(strange: list[str]) -> str:
    if set(strange) <= set(_TREES):
        return f"if you made the file: trusted_types: [{', '.join(strange)}]; a crafted tree can crash the service"
    named = [name for name in strange if name.startswith("numpy.random.") or name.rpartition(".")[0] in strange]
    if named:
        return "save the model without them: methods and generators are not for a service"
    return "name in trusted_types those that you know; what they are runs as the model is loaded"


def _same_version(details: Mapping[str, Any], requirements: tuple[str, ...], faults: Faults) -> bool:
    """That it was saved by the scikit-learn that will load it, but for its last number."""
    pinned = pins(requirements)["scikit-learn"].partition("==")[2].split(" ")[0]
    others = [version for version in details["sklearn_versions"] if _minor(version) != _minor(pinned)]
    if not others:
        return True
    saved = visible(others[0])[:30]
    message = f"{quoted(details['file'])} was saved by scikit-learn {saved}, and would be loaded by {pinned}"
    help = f"write requirements: [scikit-learn=={saved}], or save the model anew by {pinned}"
    faults.error("model-version", message, ("artifacts",), help=help)
    return False


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _same_features(model: SklearnModel, details: Mapping[str, Any], faults: Faults) -> bool:
    """That the rows have as many columns as the model was trained with."""
    trained = details["features"]
    if trained is None:
        return True
    shape = model.inputs[0].shape
    declared = len(model.inputs) if len(model.inputs) > 1 else shape[1] if len(shape) == 2 else None
    if declared is None or declared == trained:
        return True
    message = f"the model was trained with {trained} columns, and {declared} are declared"
    pointer = ("inputs",) if len(model.inputs) > 1 else ("inputs", 0, "shape", 1)
    faults.error("wrong-signature", message, pointer, help=f"declare {trained}, in the order of the training")
    return False
