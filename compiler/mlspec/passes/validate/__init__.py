"""validate: plain data to a typed spec. JSON Schema, then the types, then the rules over several values.

All faults are found in one run, each at the key or value that is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

from mlspec import runners
from mlspec.diagnostics import Report
from mlspec.model.document import Document, Pointer
from mlspec.model.project import ProjectFile
from mlspec.model.spec import Spec
from mlspec.passes.validate.checker import CHECK, misfits, shipped
from mlspec.passes.validate.checks import Known, run_check
from mlspec.passes.validate.findings import Findings
from mlspec.passes.validate.rules import (
    ModelFaults,
    check_access,
    check_adapter_names,
    check_endpoints,
    check_keys_without_runner,
    check_limits,
    check_task,
    check_tensor_keys,
    check_test_endpoints,
    check_tests,
)
from mlspec.passes.validate.secrets import check_secrets
from mlspec.passes.validate.typed import typed, without_free_keys
from mlspec.passes.validate.wording import report_misfit
from mlspec.runners import Runner

_OTHER_FILES = {"Project", "ModelService"}


@runtime_checkable
class HoldsModels(Protocol):
    """A runner whose `model` block holds blocks of other runners."""

    def inner_blocks(self, block: Any) -> Mapping[Pointer, Any]:
        """Those that are in a block without other faults, by their places in it."""


def validate(document: Document, report: Report, *, roots: Collection[str] = ()) -> Spec | None:
    """The spec in a document; None if the document has a fault, of whatever pass. `roots` are the project's."""
    findings, data, known = Findings(document, report), document.data, Known(roots)
    if _is_other_file(data, "ModelService", findings):
        return None
    check_secrets(data, findings)
    check_keys_without_runner(data, findings)
    _check_schema(shipped("mlspec"), data, (), findings, known)
    check_limits(data, findings)
    check_access(data, findings)
    model = _checked_model(data, findings, known)
    return None if findings.failed else _spec(data, model, findings)


def validate_project(document: Document, report: Report) -> ProjectFile | None:
    """The project file in a document; None if it has a fault."""
    findings = Findings(document, report)
    if not _is_other_file(document.data, "Project", findings):
        check_secrets(document.data, findings)
        _check_schema(shipped("project"), document.data, (), findings, Known())
    return None if findings.failed else typed(ProjectFile, without_free_keys(document.data), (), findings)


def validate_profile(document: Document, report: Report) -> Mapping[str, Any] | None:
    """The machine's profile in a document; None if it has a fault."""
    findings = Findings(document, report)
    _check_schema(shipped("machine"), document.data, (), findings, Known())
    return None if findings.failed else without_free_keys(document.data)


def _is_other_file(data: Any, kind: str, findings: Findings) -> bool:
    """A project file where a spec is wanted, or the other way round: one fault says it all."""
    given = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(given, str) or given not in _OTHER_FILES - {kind}:
        return False
    message = f"this file is of kind '{given}', not '{kind}'"
    findings.error("wrong-kind", message, ("kind",), help="the project file is mlspec.yaml; all others are specs")
    return True


def _check_schema(schema: Mapping[str, Any], data: Any, within: Pointer, findings: Findings, known: Known) -> None:
    for misfit in misfits(schema, data, within):
        if misfit.keyword == CHECK:
            run_check(str(misfit.wanted), misfit.value, misfit.pointer, findings, known)
        else:
            report_misfit(misfit, findings)


def _checked_model(data: Any, findings: Findings, known: Known) -> Any:
    """The `model` block in its runner's type, with the runner's rules checked; None if it can't be read."""
    runner = runners.find(data["model"]["runner"]) if findings.readable("model") else None
    if runner is None:
        return None
    model = _typed_model(without_free_keys(data["model"]), ("model",), runner, findings, known)
    if model is not None and findings.readable("model"):
        _check_rules(data, model, runner, findings)
    return model


def _typed_model(block: Any, place: Pointer, runner: Runner, findings: Findings, known: Known) -> Any:
    """A `model` block in its runner's type, as its own schema and those of blocks in it allow; None if it isn't."""
    schema = runner.model_schema()
    if schema is not None:
        _check_schema(schema, block, place, findings, known)
    for pointer, inner in (runner.inner_blocks(block) if isinstance(runner, HoldsModels) else {}).items():
        of_inner = runners.find(inner["runner"])
        if of_inner is not None:
            _typed_model(inner, (*place, *pointer), of_inner, findings, known)
    return typed(runner.model_type, block, place, findings)


def _check_rules(data: Any, model: Any, runner: Runner, findings: Findings) -> None:
    check_task(data, runner, findings)
    if findings.readable("service"):
        check_endpoints(data, runner, findings)
        check_tensor_keys(data, runner, findings)
    runner.check(model, ModelFaults(findings))
    check_adapter_names(data, model, runner, findings)
    if findings.readable("tests"):
        check_test_endpoints(data, findings)
        check_tests(data, model, runner, findings)


def _spec(data: Any, model: Any, findings: Findings) -> Spec | None:
    parts = {key: data[key] for key in ("metadata", "service", "targets", "tests") if key in data}
    block = data["model"]
    return typed(Spec, {**parts, "runner": block["runner"], "task": block.get("task"), "model": model}, (), findings)
